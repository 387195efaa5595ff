output "arn" {
  description = "The key, for everything that is stored."
  value       = aws_kms_key.this.arn
}
