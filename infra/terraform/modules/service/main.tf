# One role as a service: so many tasks, new revisions let in little by little and taken back when an alarm sounds.
locals {
  is_canary = var.rollout != null
  alarms    = concat([aws_cloudwatch_metric_alarm.errors.alarm_name], var.rollback_alarm_names)
}

resource "aws_ecs_service" "this" {
  name             = var.role
  cluster          = var.cluster.arn
  task_definition  = var.task_definition_arn
  desired_count    = var.count_range.min
  launch_type      = "FARGATE"
  platform_version = "LATEST"
  propagate_tags   = "SERVICE"

  enable_ecs_managed_tags = true
  enable_execute_command  = false
  # Only then an apply says whether the new revision stayed.
  wait_for_steady_state = true

  # Never fewer tasks than before. Without a load balancer half as many more at a time (of one that would be none), with
  # one a second set beside the first.
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = local.is_canary || var.count_range.min < 2 ? 200 : 150
  health_check_grace_period_seconds  = local.is_canary ? 60 : null

  network_configuration {
    subnets          = var.subnet_ids
    security_groups  = [var.security_group_id]
    assign_public_ip = false
  }

  deployment_configuration {
    strategy             = local.is_canary ? "CANARY" : "ROLLING"
    bake_time_in_minutes = local.is_canary ? var.bake_minutes : null

    dynamic "canary_configuration" {
      for_each = local.is_canary ? [var.canary_percent] : []

      content {
        canary_percent              = canary_configuration.value
        canary_bake_time_in_minutes = var.bake_minutes
      }
    }
  }

  # ECS knows it for rolling updates only; a canary that does not start fails by itself.
  dynamic "deployment_circuit_breaker" {
    for_each = local.is_canary ? [] : [true]

    content {
      enable   = true
      rollback = deployment_circuit_breaker.value
    }
  }

  alarms {
    alarm_names = local.alarms
    enable      = true
    rollback    = true
  }

  dynamic "load_balancer" {
    for_each = var.rollout == null ? [] : [var.rollout]

    content {
      target_group_arn = load_balancer.value.target_group_arn
      container_name   = var.role
      container_port   = load_balancer.value.port

      advanced_configuration {
        alternate_target_group_arn = load_balancer.value.alternate_group_arn
        production_listener_rule   = load_balancer.value.listener_rule_arn
        role_arn                   = load_balancer.value.role_arn
      }
    }
  }

  # An apply waits until the last watching is over.
  timeouts {
    create = "${30 + 2 * var.bake_minutes}m"
    update = "${60 + 2 * var.bake_minutes}m"
  }

  lifecycle {
    # Autoscaling decides after the first start.
    ignore_changes = [desired_count]
  }
}

# Errors that a role logs: a loop that fails again and again, an answer 500. Both before a rollout and during it.
resource "aws_cloudwatch_log_metric_filter" "errors" {
  name           = "errors"
  log_group_name = var.log_group_name
  pattern        = "{ ($.level = \"error\") || ($.level = \"critical\") }"

  metric_transformation {
    namespace     = "Tocsin"
    name          = "${var.name}-${var.role}-errors"
    value         = "1"
    default_value = "0"
  }
}

resource "aws_cloudwatch_metric_alarm" "errors" {
  alarm_name          = "${var.name}-${var.role}-errors"
  alarm_description   = "The ${var.role} logs errors, in two of three minutes. During a rollout this takes it back."
  namespace           = "Tocsin"
  metric_name         = aws_cloudwatch_log_metric_filter.errors.metric_transformation[0].name
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 3
  datapoints_to_alarm = 2
  comparison_operator = "GreaterThanThreshold"
  threshold           = 5
  treat_missing_data  = "notBreaching"
  alarm_actions       = [var.alarm_topic_arn]
  ok_actions          = [var.alarm_topic_arn]
}
