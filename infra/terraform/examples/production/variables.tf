variable "region" {
  description = "AWS region."
  type        = string
  default     = "eu-central-1"
}

variable "image" {
  description = "The image in ECR."
  type        = string
}

variable "domain_name" {
  description = "The name people use."
  type        = string
}

variable "zone_id" {
  description = "Route 53 zone of that name."
  type        = string
}

variable "keys_secret_arn" {
  description = "Secret with the keys and the first password."
  type        = string
}

variable "admin_email" {
  description = "The first administrator, who also gets the alarms."
  type        = string
}

variable "secret_settings" {
  description = "Further secret settings: ARN in Secrets Manager by environment variable, like TOCSIN_SMTP_URL."
  type        = map(string)
  default     = {}
}
