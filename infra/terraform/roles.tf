# Every role is a task of the same image; every task is a service, but the operator's, which is run by hand.
locals {
  api_port     = 8000
  metrics_port = 9464
  at_metrics   = { port = local.metrics_port, path = "/metrics" }
  lanes        = ["checks.${var.location}", "slow.${var.location}", "urgent.${var.location}"]

  settings = merge({
    TOCSIN_BIND         = "0.0.0.0"
    TOCSIN_DATA_DIR     = "/tmp/tocsin"
    TOCSIN_EGRESS       = var.egress
    TOCSIN_EGRESS_DENY  = join(",", module.network.data_cidrs)
    TOCSIN_LOCATION     = var.location
    TOCSIN_LOG_FORMAT   = "json"
    TOCSIN_METRICS_PORT = tostring(local.metrics_port)
    TOCSIN_PUBLIC_URL   = "https://${var.domain_name}"
  }, var.settings)

  secrets = merge({
    DATABASE_URL           = module.database.url_secret_arn
    REDIS_URL              = module.cache.url_secret_arn
    TOCSIN_ENCRYPTION_KEYS = "${var.keys_secret_arn}:TOCSIN_ENCRYPTION_KEYS::"
    TOCSIN_JWT_KEY         = "${var.keys_secret_arn}:TOCSIN_JWT_KEY::"
  }, var.secret_settings)

  # Whom a secret is for, where it is not for all: whoever breaks into a worker, which talks to anybody, finds no key
  # that signs logins. A migration is given the database and the first password alone (modules/task).
  readers = {
    TOCSIN_DEADMAN_URL        = ["notifier"]
    TOCSIN_ENCRYPTION_KEYS    = ["api", "worker", "notifier", "operator"]
    TOCSIN_JWT_KEY            = ["api"]
    TOCSIN_OIDC_CLIENT_SECRET = ["api"]
    TOCSIN_SMTP_URL           = ["api", "notifier"]
  }

  secrets_of = {
    for role in concat(keys(local.roles), ["operator"]) :
    role => { for name, arn in local.secrets : name => arn if contains(try(local.readers[name], [role]), role) }
  }

  roles = {
    api = {
      command = ["api"]
      health  = { port = local.api_port, path = "/livez" }
      settings = {
        TOCSIN_METRICS_PORT    = "0"
        TOCSIN_PORT            = tostring(local.api_port)
        TOCSIN_TRUSTED_PROXIES = "1"
      }
    }
    scheduler = { command = ["scheduler"], health = local.at_metrics, settings = {} }
    worker    = { command = ["worker"], health = local.at_metrics, settings = {} }
    notifier  = { command = ["notifier"], health = local.at_metrics, settings = {} }
  }

  # The product's own gauges, as CloudWatch metrics: autoscaling and alarms go by them.
  collector = yamlencode({
    receivers = {
      prometheus = {
        config = {
          scrape_configs = [{
            job_name        = "tocsin"
            scrape_interval = "30s"
            static_configs = [{
              targets = ["127.0.0.1:${local.metrics_port}"]
              labels  = { deployment = var.name }
            }]
            metric_relabel_configs = [{
              source_labels = ["__name__"]
              regex         = "tocsin_queue_depth|tocsin_dead_letters|tocsin_leader_epoch|tocsin_checks_skipped_total|tocsin_outbox_oldest_seconds"
              action        = "keep"
            }]
          }]
        }
      }
    }
    exporters = {
      awsemf = {
        namespace               = "Tocsin"
        log_group_name          = "/${var.name}/metrics"
        log_stream_name         = "scheduler"
        dimension_rollup_option = "NoDimensionRollup"
        metric_declarations = [
          { dimensions = [["deployment", "queue"]], metric_name_selectors = ["^tocsin_queue_depth", "^tocsin_dead_letters"] },
          { dimensions = [["deployment"]], metric_name_selectors = ["^tocsin_leader_epoch", "^tocsin_checks_skipped_total", "^tocsin_outbox_oldest_seconds"] },
        ]
      }
    }
    service = { pipelines = { metrics = { receivers = ["prometheus"], exporters = ["awsemf"] } } }
  })
}

module "task" {
  source   = "./modules/task"
  for_each = local.roles

  name               = var.name
  role               = each.key
  command            = each.value.command
  health             = each.value.health
  image              = var.image
  cpu_architecture   = var.cpu_architecture
  cpu                = var.roles[each.key].cpu
  memory             = var.roles[each.key].memory
  settings           = merge(local.settings, each.value.settings)
  secrets            = local.secrets_of[each.key]
  secrets_version    = var.secrets_version
  admin_email        = var.admin_email
  admin_password_arn = "${var.keys_secret_arn}:TOCSIN_ADMIN_PASSWORD::"
  collector_image    = var.collector_image
  collector_config   = each.key == "scheduler" ? local.collector : null
  log_retention_days = var.log_retention_days
  key_arn            = module.key.arn
}

# For `tocsin user …`, `tocsin rotate-keys` and the like: aws ecs run-task with the command put in its place.
module "operator" {
  source = "./modules/task"

  name               = var.name
  role               = "operator"
  command            = ["settings"]
  image              = var.image
  cpu_architecture   = var.cpu_architecture
  cpu                = 512
  memory             = 1024
  settings           = local.settings
  secrets            = local.secrets_of["operator"]
  secrets_version    = var.secrets_version
  admin_email        = var.admin_email
  admin_password_arn = "${var.keys_secret_arn}:TOCSIN_ADMIN_PASSWORD::"
  log_retention_days = var.log_retention_days
  key_arn            = module.key.arn
}
