output "url_secret_arn" {
  description = "The secret that holds DATABASE_URL."
  value       = aws_secretsmanager_secret.url.arn

  # A task that starts before the value is there would fail.
  depends_on = [aws_secretsmanager_secret_version.url]
}

output "identifier" {
  description = "For alarms."
  value       = aws_db_instance.this.identifier
}
