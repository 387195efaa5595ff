variable "name" {
  description = "Name of the installation."
  type        = string
}

variable "role" {
  description = "The role, as its service and its logs are called."
  type        = string
}

variable "command" {
  description = "What follows `tocsin`."
  type        = list(string)
}

variable "image" {
  description = "Image in ECR, with tag or digest."
  type        = string
}

variable "cpu_architecture" {
  description = "What the image was built for: X86_64 or ARM64."
  type        = string
}

variable "cpu" {
  description = "Units of which 1024 are a core."
  type        = number
}

variable "memory" {
  description = "MiB."
  type        = number
}

variable "health" {
  description = "Port and path at which it answers as long as it works; null: it comes to an end by itself."
  type        = object({ port = number, path = string })
  default     = null
}

variable "settings" {
  description = "Settings by environment variable."
  type        = map(string)
}

variable "secrets" {
  description = "ARN in Secrets Manager by environment variable, DATABASE_URL among them."
  type        = map(string)
}

variable "secrets_version" {
  description = "Number of the secrets that it is to start with."
  type        = number
}

variable "admin_email" {
  description = "The first administrator, made by the first migration."
  type        = string
}

variable "admin_password_arn" {
  description = "Where their password is."
  type        = string
}

variable "collector_image" {
  description = "Image of the collector."
  type        = string
  default     = null
}

variable "collector_config" {
  description = "Configuration of the collector that stands beside the role; null: none does."
  type        = string
  default     = null
}

variable "log_retention_days" {
  description = "How long logs are kept."
  type        = number
}

variable "key_arn" {
  description = "Key for what is stored."
  type        = string
}
