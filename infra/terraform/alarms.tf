resource "aws_sns_topic" "alarms" {
  name              = "${var.name}-alarms"
  kms_master_key_id = module.key.arn
}

resource "aws_sns_topic_subscription" "email" {
  for_each = toset(var.alarm_emails)

  topic_arn = aws_sns_topic.alarms.arn
  protocol  = "email"
  endpoint  = each.value
}

# By colour: the canary's failures are not hidden among the many good answers of the old revision.
resource "aws_cloudwatch_metric_alarm" "failed_requests" {
  for_each = module.load_balancer.target_group_suffixes

  alarm_name          = "${var.name}-failed-requests-${each.key}"
  alarm_description   = "The API answers 5xx, in two of three minutes. During a rollout this takes it back."
  namespace           = "AWS/ApplicationELB"
  metric_name         = "HTTPCode_Target_5XX_Count"
  dimensions          = { LoadBalancer = module.load_balancer.arn_suffix, TargetGroup = each.value }
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 3
  datapoints_to_alarm = 2
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.rollout.failed_requests
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
}

module "alarms" {
  source = "./modules/alarms"

  name                = var.name
  topic_arn           = aws_sns_topic.alarms.arn
  database_identifier = module.database.identifier
  max_connections     = floor(var.database.max_connections * 0.85)
  cache_node_ids      = module.cache.node_ids
  cluster_name        = aws_ecs_cluster.this.name
  services            = keys(local.roles)
  queues              = concat(local.lanes, ["notify"])
}
