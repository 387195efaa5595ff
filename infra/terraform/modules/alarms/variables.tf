variable "name" {
  description = "Name of the installation."
  type        = string
}

variable "topic_arn" {
  description = "Who is told."
  type        = string
}

variable "database_identifier" {
  description = "The database."
  type        = string
}

variable "max_connections" {
  description = "Connections from which on there may soon be none left."
  type        = number
}

variable "cache_node_ids" {
  description = "The cache's nodes."
  type        = list(string)
}

variable "cluster_name" {
  description = "Where the services run."
  type        = string
}

variable "services" {
  description = "Services of which one task has to run at least."
  type        = list(string)
}

variable "queues" {
  description = "Queues whose set-aside messages somebody has to look at."
  type        = list(string)
}
