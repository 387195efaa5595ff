variable "network" {
  description = "Addresses and zones; what is logged of the traffic (ALL, ACCEPT, REJECT); who may read metrics."
  type = object({
    zones         = list(string)
    cidr          = optional(string, "10.40.0.0/16")
    nat_per_zone  = optional(bool, true)
    flow_traffic  = optional(string, "REJECT")
    scraper_cidrs = optional(list(string), [])
  })

  validation {
    condition     = can(cidrhost(var.network.cidr, 0)) && endswith(var.network.cidr, "/16")
    error_message = "network.cidr must be a /16, like 10.40.0.0/16."
  }

  validation {
    condition     = length(distinct(var.network.zones)) == length(var.network.zones) && length(var.network.zones) >= 2 && length(var.network.zones) <= 4
    error_message = "network.zones must be 2 to 4 different ones, like eu-central-1a: load balancer and database ask for two."
  }

  validation {
    condition     = contains(["ALL", "ACCEPT", "REJECT"], var.network.flow_traffic)
    error_message = "network.flow_traffic must be ALL, ACCEPT or REJECT."
  }
}

variable "database" {
  description = "PostgreSQL. max_connections is what this instance_class allows (RDS: memory in bytes / 9531392)."
  type = object({
    instance_class      = string
    max_connections     = number
    engine_version      = optional(string, "17")
    major_upgrade       = optional(bool, false)
    multi_az            = optional(bool, true)
    storage_gib         = optional(number, 50)
    max_storage_gib     = optional(number, 500)
    backup_days         = optional(number, 14)
    snapshot_identifier = optional(string)
  })

  validation {
    condition     = can(regex("^db\\.[a-z0-9]+\\.[a-z0-9]+$", var.database.instance_class))
    error_message = "database.instance_class must be like db.m7g.large."
  }

  validation {
    condition     = can(tonumber(split(".", var.database.engine_version)[0]) >= 15) ? tonumber(split(".", var.database.engine_version)[0]) >= 15 : false
    error_message = "database.engine_version must be 15 or newer, like 17 or 17.5."
  }

  validation {
    condition     = var.database.storage_gib >= 20 && var.database.max_storage_gib >= var.database.storage_gib
    error_message = "database.storage_gib must be 20 or more, and max_storage_gib no less than that."
  }

  validation {
    condition     = var.database.backup_days >= 1 && var.database.backup_days <= 35
    error_message = "database.backup_days must be from 1 to 35."
  }

  # What each process keeps open (docs/operations.md, held to the code by a test): api one a thread and 8, notifier 13,
  # scheduler 7, worker 5. Twice, since a rollout starts the new beside the old.
  validation {
    condition = var.database.max_connections >= 20 + 2 * (
      var.roles.api.max * tonumber(lookup(var.settings, "TOCSIN_API_WORKERS", "1")) * (tonumber(lookup(var.settings, "TOCSIN_API_THREADS", "8")) + 8) +
      var.roles.notifier.max * 13 + var.roles.scheduler.max * 7 + var.roles.worker.max * 5
    )
    error_message = "database.max_connections is too small for so many tasks: twice an API's threads and 8, for each of its processes; 26 for each notifier, 14 for each scheduler, 10 for each worker; and 20 to spare."
  }
}

variable "cache" {
  description = "Valkey: nodes of 2 or more fail over between zones."
  type = object({
    node_type     = string
    nodes         = optional(number, 2)
    snapshot_days = optional(number, 1)
  })

  validation {
    condition     = can(regex("^cache\\.[a-z0-9]+\\.[a-z0-9]+$", var.cache.node_type))
    error_message = "cache.node_type must be like cache.t4g.small."
  }

  validation {
    condition     = var.cache.nodes >= 1 && var.cache.nodes <= 6
    error_message = "cache.nodes must be from 1 to 6."
  }
}

variable "roles" {
  description = "Size of a task (units of 1/1024 core, MiB) and how many there are, by role."
  type = object({
    api       = object({ cpu = number, memory = number, min = number, max = number })
    scheduler = object({ cpu = number, memory = number, min = number, max = number })
    worker    = object({ cpu = number, memory = number, min = number, max = number })
    notifier  = object({ cpu = number, memory = number, min = number, max = number })
  })

  validation {
    condition     = alltrue([for role in values(var.roles) : contains([256, 512, 1024, 2048, 4096, 8192, 16384], role.cpu)])
    error_message = "roles: cpu must be 256, 512, 1024, 2048, 4096, 8192 or 16384."
  }

  validation {
    condition     = alltrue([for role in values(var.roles) : role.memory >= 2 * role.cpu && role.memory <= 8 * role.cpu])
    error_message = "roles: Fargate takes from 2 to 8 MiB of memory for each unit of cpu."
  }

  validation {
    condition     = alltrue([for role in values(var.roles) : role.min >= 1 && role.max >= role.min])
    error_message = "roles: min must be 1 or more, and max no less than that."
  }
}

variable "rollout" {
  description = "How new versions come in: the canary's share, how long it is watched, failed requests a minute that end it."
  type = object({
    canary_percent  = optional(number, 10)
    bake_minutes    = optional(number, 10)
    failed_requests = optional(number, 5)
  })
  default = {}

  validation {
    condition     = var.rollout.canary_percent >= 0.1 && var.rollout.canary_percent <= 100
    error_message = "rollout.canary_percent must be from 0.1 to 100."
  }

  validation {
    condition     = var.rollout.bake_minutes >= 5 && var.rollout.bake_minutes <= 1440
    error_message = "rollout.bake_minutes must be from 5 to 1440: alarms need three minutes to notice anything."
  }
}
