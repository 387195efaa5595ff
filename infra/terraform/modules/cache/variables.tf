variable "name" {
  description = "Name of the installation."
  type        = string
}

variable "vpc_id" {
  description = "The network."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets without a way out."
  type        = list(string)
}

variable "client_security_group_id" {
  description = "Who may connect."
  type        = string
}

variable "key_arn" {
  description = "Key for what is stored."
  type        = string
}

variable "node_type" {
  description = "Size of a node."
  type        = string
}

variable "nodes" {
  description = "1, or more with failover between zones."
  type        = number
}

variable "snapshot_days" {
  description = "How many daily snapshots are kept; nothing depends on them, PostgreSQL is the truth."
  type        = number
}

variable "token_version" {
  description = "Raised by one to change the token."
  type        = number
}

variable "log_retention_days" {
  description = "How long logs are kept."
  type        = number
}
