variable "name" {
  description = "Name of the installation."
  type        = string
}

variable "role" {
  description = "The role, as its service is called."
  type        = string
}

variable "cluster" {
  description = "Where it runs."
  type        = object({ arn = string, name = string })
}

variable "task_definition_arn" {
  description = "What it runs."
  type        = string
}

variable "log_group_name" {
  description = "Where its logs are."
  type        = string
}

variable "subnet_ids" {
  description = "Where its tasks stand."
  type        = list(string)
}

variable "security_group_id" {
  description = "Security group of its tasks."
  type        = string
}

variable "count_range" {
  description = "How many tasks at least and at most."
  type        = object({ min = number, max = number })
}

variable "cpu_target" {
  description = "Use of its processors in percent that more or fewer tasks are to bring about; null: not by that."
  type        = number
  default     = null
}

variable "backlog" {
  description = "What may wait in its queues for each task; null: not by that."
  type        = object({ queues = list(string), per_message = number, target = number })
  default     = null
}

variable "rollout" {
  description = "Load balancer's parts for a canary; null: a rolling update."
  type = object({
    target_group_arn    = string
    alternate_group_arn = string
    listener_rule_arn   = string
    role_arn            = string
    port                = number
  })
  default = null
}

variable "canary_percent" {
  description = "How much of the traffic the canary gets."
  type        = number
  default     = 10
}

variable "bake_minutes" {
  description = "How long the canary, and then the whole new revision, is watched before the old one goes."
  type        = number
  default     = 10
}

variable "rollback_alarm_names" {
  description = "Alarms, besides the role's own errors, that take a rollout back."
  type        = list(string)
  default     = []
}

variable "alarm_topic_arn" {
  description = "Who is told."
  type        = string
}
