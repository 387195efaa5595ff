output "definition_arn" {
  description = "The task definition, this revision."
  value       = aws_ecs_task_definition.this.arn
}

output "log_group_name" {
  description = "Where its logs are."
  value       = aws_cloudwatch_log_group.this.name
}
