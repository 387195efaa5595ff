# What CloudWatch watches of Tocsin. Point a second pair of eyes at it too: TOCSIN_DEADMAN_URL (docs/deploy-aws.md).
resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = local.alarms

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.says
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = each.value.statistic
  comparison_operator = each.value.comparison
  threshold           = each.value.threshold
  period              = 60
  evaluation_periods  = each.value.minutes
  treat_missing_data  = each.value.missing
  alarm_actions       = [var.topic_arn]
  ok_actions          = [var.topic_arn]
}

locals {
  database = { DBInstanceIdentifier = var.database_identifier }
  ours     = { deployment = var.name }

  fixed = {
    no-leader = {
      says       = "No scheduler leads, or none says so: nothing is checked. Look at the scheduler's logs."
      namespace  = "Tocsin", metric = "tocsin_leader_epoch", dimensions = local.ours, statistic = "Maximum"
      comparison = "LessThanThreshold", threshold = 1, minutes = 3, missing = "breaching"
    }
    checks-skipped = {
      says       = "Checks that are due are not made: more workers (roles.worker.max), or they do not reach database, cache or anything."
      namespace  = "Tocsin", metric = "tocsin_checks_skipped_total", dimensions = local.ours, statistic = "Sum"
      comparison = "GreaterThanThreshold", threshold = 0, minutes = 5, missing = "notBreaching"
    }
    nobody-told = {
      says       = "Incidents have waited for a minute, and nobody is told: look at the notifier's logs. What waits is told in order."
      namespace  = "Tocsin", metric = "tocsin_outbox_oldest_seconds", dimensions = local.ours, statistic = "Maximum"
      comparison = "GreaterThanThreshold", threshold = 60, minutes = 3, missing = "notBreaching"
    }
    database-cpu = {
      says       = "The database has been busy for ten minutes: a larger instance_class, or fewer checks."
      namespace  = "AWS/RDS", metric = "CPUUtilization", dimensions = local.database, statistic = "Average"
      comparison = "GreaterThanThreshold", threshold = 80, minutes = 10, missing = "breaching"
    }
    database-storage = {
      says       = "Less than 5 GiB are left for the database: raise max_storage_gib."
      namespace  = "AWS/RDS", metric = "FreeStorageSpace", dimensions = local.database, statistic = "Minimum"
      comparison = "LessThanThreshold", threshold = 5 * 1024 * 1024 * 1024, minutes = 5, missing = "breaching"
    }
    database-connections = {
      says       = "The database holds almost as many connections as it can: a larger instance_class, or fewer tasks."
      namespace  = "AWS/RDS", metric = "DatabaseConnections", dimensions = local.database, statistic = "Maximum"
      comparison = "GreaterThanThreshold", threshold = var.max_connections, minutes = 5, missing = "notBreaching"
    }
  }

  caches = { for node in var.cache_node_ids : "cache-memory-${node}" => {
    says       = "The cache is almost full, and it throws nothing away: is somebody consuming the queues?"
    namespace  = "AWS/ElastiCache", metric = "DatabaseMemoryUsagePercentage", dimensions = { CacheClusterId = node }
    statistic  = "Maximum"
    comparison = "GreaterThanThreshold", threshold = 80, minutes = 5, missing = "notBreaching"
  } }

  queues = { for queue in var.queues : "set-aside-${replace(queue, ".", "-")}" => {
    says       = "Messages of ${queue} were set aside: read and replay them (GET /v1/queues)."
    namespace  = "Tocsin", metric = "tocsin_dead_letters", dimensions = merge(local.ours, { queue = queue })
    statistic  = "Maximum"
    comparison = "GreaterThanThreshold", threshold = 0, minutes = 5, missing = "notBreaching"
  } }

  services = { for service in var.services : "no-${service}" => {
    says       = "No ${service} runs: ECS says why its tasks stopped, their last words are in /${var.name}/${service}."
    namespace  = "ECS/ContainerInsights", metric = "RunningTaskCount"
    dimensions = { ClusterName = var.cluster_name, ServiceName = service }
    statistic  = "Maximum"
    comparison = "LessThanThreshold", threshold = 1, minutes = 5, missing = "breaching"
  } }

  alarms = merge(local.fixed, local.caches, local.queues, local.services)
}
