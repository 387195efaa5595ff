locals {
  cluster = { arn = aws_ecs_cluster.this.arn, name = aws_ecs_cluster.this.name }

  scaling = {
    api       = { cpu_target = 70, backlog = null }
    scheduler = { cpu_target = null, backlog = null } # one leads, the others only wait: more of them do nothing
    worker = {
      cpu_target = 70
      # A full message carries 100 checks.
      backlog = { queues = local.lanes, per_message = 100, target = 100 }
    }
    notifier = {
      cpu_target = 70
      # A full message carries 20 notifications.
      backlog = { queues = ["notify"], per_message = 20, target = 50 }
    }
  }
}

module "service" {
  source   = "./modules/service"
  for_each = local.roles

  name                 = var.name
  role                 = each.key
  cluster              = local.cluster
  task_definition_arn  = module.task[each.key].definition_arn
  log_group_name       = module.task[each.key].log_group_name
  subnet_ids           = module.network.task_subnet_ids
  security_group_id    = module.network.task_security_group_id
  count_range          = { min = var.roles[each.key].min, max = var.roles[each.key].max }
  cpu_target           = local.scaling[each.key].cpu_target
  backlog              = local.scaling[each.key].backlog
  canary_percent       = var.rollout.canary_percent
  bake_minutes         = var.rollout.bake_minutes
  rollout              = each.key == "api" ? merge(module.load_balancer.rollout, { role_arn = aws_iam_role.rollout.arn, port = local.api_port }) : null
  rollback_alarm_names = each.key == "api" ? [for alarm in aws_cloudwatch_metric_alarm.failed_requests : alarm.alarm_name] : []
  alarm_topic_arn      = aws_sns_topic.alarms.arn

  depends_on = [aws_iam_role_policy_attachment.rollout]
}

# ECS moves the load balancer's traffic during a canary, in this role.
data "aws_partition" "current" {}

data "aws_caller_identity" "current" {}

data "aws_iam_policy_document" "rollout" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ecs.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.current.account_id]
    }
  }
}

resource "aws_iam_role" "rollout" {
  name               = "${var.name}-rollout"
  assume_role_policy = data.aws_iam_policy_document.rollout.json
}

resource "aws_iam_role_policy_attachment" "rollout" {
  role       = aws_iam_role.rollout.name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/AmazonECSInfrastructureRolePolicyForLoadBalancers"
}
