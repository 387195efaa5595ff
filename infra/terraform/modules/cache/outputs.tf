output "url_secret_arn" {
  description = "The secret that holds REDIS_URL."
  value       = aws_secretsmanager_secret.url.arn

  # A task that starts before the value is there would fail.
  depends_on = [aws_secretsmanager_secret_version.url]
}

output "node_ids" {
  description = "For alarms; ElastiCache numbers them like this, and a plan has to know them before they are there."
  value       = [for i in range(var.nodes) : format("%s-cache-%03d", var.name, i + 1)]
}
