variable "name" {
  description = "Name of the installation."
  type        = string
}

variable "vpc_id" {
  description = "The network."
  type        = string
}

variable "subnet_ids" {
  description = "Public subnets, in two zones or more."
  type        = list(string)
}

variable "task_security_group_id" {
  description = "Security group of the tasks."
  type        = string
}

variable "port" {
  description = "Port that the API listens on."
  type        = number
}

variable "health_path" {
  description = "What says whether a task can serve."
  type        = string
}

variable "domain_name" {
  description = "The name people use."
  type        = string
}

variable "zone_id" {
  description = "Route 53 zone of that name; null: the certificate is given."
  type        = string
}

variable "certificate_arn" {
  description = "Certificate for that name, where there is no zone."
  type        = string
}

variable "client_cidrs" {
  description = "Who may connect at all."
  type        = list(string)
}

variable "rate_limit" {
  description = "Requests of one address within five minutes."
  type        = number
}

variable "deletion_protection" {
  description = "Whether it refuses to be deleted."
  type        = bool
}

variable "log_retention_days" {
  description = "How long logs are kept."
  type        = number
}

variable "key_arn" {
  description = "Key for what is stored."
  type        = string
}
