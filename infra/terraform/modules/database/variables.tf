variable "name" {
  description = "Name of the installation."
  type        = string
}

variable "vpc_id" {
  description = "The network."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets without a way out, in two zones or more."
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

variable "engine_version" {
  description = "PostgreSQL's version, like 17 or 17.5."
  type        = string
}

variable "major_upgrade" {
  description = "Whether engine_version may be raised to the next major version, which then happens at once."
  type        = bool
}

variable "instance_class" {
  description = "Size of the machine."
  type        = string
}

variable "multi_az" {
  description = "A standby in another zone."
  type        = bool
}

variable "storage_gib" {
  description = "Disk at the beginning."
  type        = number
}

variable "max_storage_gib" {
  description = "How far the disk may grow by itself."
  type        = number
}

variable "backup_days" {
  description = "For how many days any moment can be restored."
  type        = number
}

variable "deletion_protection" {
  description = "Whether the database refuses to be deleted."
  type        = bool
}

variable "snapshot_identifier" {
  description = "Snapshot that a new database begins with; null: an empty one."
  type        = string
}

variable "password_version" {
  description = "Raised by one to change the password."
  type        = number
}

variable "ca_file" {
  description = "Where the image has the certificates of RDS."
  type        = string
}

variable "log_retention_days" {
  description = "How long logs are kept."
  type        = number
}
