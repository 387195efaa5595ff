# One role's task: the database is migrated first, then the role runs. Migrating takes a lock, finds nothing to do most
# of the time, and is safe beside the version before.
locals {
  log_options = {
    logDriver = "awslogs"
    options = {
      awslogs-group         = aws_cloudwatch_log_group.this.name
      awslogs-region        = data.aws_region.current.region
      awslogs-stream-prefix = var.role
      # A log that cannot be delivered must not stop a check.
      mode            = "non-blocking"
      max-buffer-size = "4m"
    }
  }

  capabilities = { capabilities = { add = [], drop = ["ALL"] } }

  # What every container of the product's image has in common.
  confined = {
    image                  = var.image
    user                   = "10001"
    readonlyRootFilesystem = true
    logConfiguration       = local.log_options
    ulimits                = [{ name = "nofile", softLimit = 65536, hardLimit = 65536 }]
    linuxParameters        = merge(local.capabilities, { initProcessEnabled = true })
  }

  # ECS does not look at the image's own check.
  probe    = ["CMD", "python", "-I", "-S", "/usr/local/lib/tocsin/healthcheck.py"]
  patience = { interval = 10, timeout = 5, retries = 3, startPeriod = 60 }

  migrate = merge(local.confined, {
    name        = "migrate"
    command     = ["migrate"]
    essential   = false
    mountPoints = [{ sourceVolume = "first", containerPath = "/tmp", readOnly = false }]
    environment = [for name in sort(keys(local.first_settings)) : { name = name, value = local.first_settings[name] }]
    secrets     = [for name in sort(keys(local.first_secrets)) : { name = name, valueFrom = local.first_secrets[name] }]
  })

  first_settings = merge(var.settings, { TOCSIN_ADMIN_EMAIL = var.admin_email })
  first_secrets  = { DATABASE_URL = var.secrets["DATABASE_URL"], TOCSIN_ADMIN_PASSWORD = var.admin_password_arn }

  main = { for name, value in merge(local.confined, {
    name        = var.role
    command     = var.command
    essential   = true
    stopTimeout = 60
    mountPoints = [{ sourceVolume = "tmp", containerPath = "/tmp", readOnly = false }]
    # A task reads its secrets when it starts: with another number here, new ones are started.
    dockerLabels = { secrets-version = tostring(var.secrets_version) }
    dependsOn    = [{ containerName = "migrate", condition = "SUCCESS" }]
    portMappings = var.health == null ? [] : [{ containerPort = var.health.port, protocol = "tcp" }]
    healthCheck  = var.health == null ? null : merge(local.patience, { command = concat(local.probe, [tostring(var.health.port), var.health.path]) })
    environment  = [for name in sort(keys(var.settings)) : { name = name, value = var.settings[name] }]
    secrets      = [for name in sort(keys(var.secrets)) : { name = name, valueFrom = var.secrets[name] }]
  }) : name => value if value != null }

  collector = {
    name                   = "collector"
    image                  = var.collector_image
    essential              = false
    restartPolicy          = { enabled = true }
    user                   = "10001"
    readonlyRootFilesystem = true
    linuxParameters        = local.capabilities
    logConfiguration       = local.log_options
    environment            = [{ name = "AOT_CONFIG_CONTENT", value = var.collector_config }]
  }

  containers = concat([local.migrate, local.main], var.collector_config == null ? [] : [local.collector])
}

resource "aws_cloudwatch_log_group" "this" {
  name              = "/${var.name}/${var.role}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.key_arn
}

resource "aws_ecs_task_definition" "this" {
  family                   = "${var.name}-${var.role}"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.cpu
  memory                   = var.memory
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.task.arn
  container_definitions    = jsonencode(local.containers)

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.cpu_architecture
  }

  # The image declares /tmp as a volume, so that it belongs to everybody (image/Dockerfile).
  volume {
    name = "tmp"
  }

  # One of its own: the first migration writes the administrator's credentials there, and no role is to find them.
  volume {
    name = "first"
  }
}
