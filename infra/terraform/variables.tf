variable "name" {
  description = "Name of this installation, in front of everything that is made."
  type        = string
  default     = "tocsin"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,20}[a-z0-9]$", var.name))
    error_message = "name must be 3 to 22 lower-case letters, digits and hyphens: load balancers and caches take no longer one."
  }
}

variable "image" {
  description = "The image in ECR, made from image/Dockerfile, with its tag or digest."
  type        = string

  validation {
    condition     = can(regex("^[0-9]{12}\\.dkr\\.ecr\\.[a-z0-9-]+\\.amazonaws\\.com(\\.cn)?/[^:@]+(:[^:@]+|@sha256:[0-9a-f]{64})$", var.image))
    error_message = "image must be one in ECR with tag or digest, like 123456789012.dkr.ecr.eu-central-1.amazonaws.com/tocsin:1.0.0."
  }

  validation {
    condition     = !endswith(var.image, ":latest")
    error_message = "image must not be :latest: a rollback would fetch the same again."
  }
}

variable "cpu_architecture" {
  description = "What that image was built for."
  type        = string
  default     = "X86_64"

  validation {
    condition     = contains(["X86_64", "ARM64"], var.cpu_architecture)
    error_message = "cpu_architecture must be X86_64 or ARM64."
  }
}

variable "collector_image" {
  description = "AWS' distribution of the OpenTelemetry collector, which hands five metrics to CloudWatch."
  type        = string
  default     = "public.ecr.aws/aws-observability/aws-otel-collector:v0.43.1"
}

variable "domain_name" {
  description = "The name people use, like tocsin.example.com."
  type        = string

  validation {
    condition     = can(regex("^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z]{2,63}$", var.domain_name))
    error_message = "domain_name must be a host name like tocsin.example.com."
  }
}

variable "zone_id" {
  description = "Route 53 zone in which the name and its certificate are made; null: certificate_arn is given."
  type        = string
  default     = null

  validation {
    condition     = (var.zone_id == null) != (var.certificate_arn == null)
    error_message = "Give either zone_id or certificate_arn."
  }
}

variable "certificate_arn" {
  description = "Certificate of that name, for a name that is not in Route 53."
  type        = string
  default     = null
}

variable "client_cidrs" {
  description = "Addresses that may reach the API at all."
  type        = list(string)
  default     = ["0.0.0.0/0"]

  validation {
    condition     = length(var.client_cidrs) > 0 && alltrue([for cidr in var.client_cidrs : can(cidrhost(cidr, 0))])
    error_message = "client_cidrs must be networks like 203.0.113.0/24, one at least."
  }
}

variable "rate_limit" {
  description = "Requests that one address may send within five minutes."
  type        = number
  default     = 10000

  validation {
    condition     = var.rate_limit >= 100 && var.rate_limit <= 2000000000
    error_message = "rate_limit must be from 100 to 2000000000: the firewall takes no other."
  }
}

variable "keys_secret_arn" {
  description = "Secret with TOCSIN_JWT_KEY, TOCSIN_ENCRYPTION_KEYS and TOCSIN_ADMIN_PASSWORD, made before (docs/deploy-aws.md)."
  type        = string

  validation {
    condition     = can(regex("^arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[^:]+$", var.keys_secret_arn))
    error_message = "keys_secret_arn must be the whole ARN of a secret, without a key behind it."
  }
}

variable "secrets_version" {
  description = "Raised by one to change the passwords of database and cache, and to start all tasks with them."
  type        = number
  default     = 1

  validation {
    condition     = var.secrets_version >= 1 && floor(var.secrets_version) == var.secrets_version
    error_message = "secrets_version must be a whole number of 1 or more."
  }
}

variable "admin_email" {
  description = "The first administrator."
  type        = string

  validation {
    condition     = can(regex("^[^@[:space:]]{1,64}@[^@[:space:]]{1,253}$", var.admin_email))
    error_message = "admin_email must be an address like admin@example.com."
  }
}

variable "alarm_emails" {
  description = "Who is mailed when something is wrong with Tocsin itself; each has to confirm once."
  type        = list(string)
  default     = []
}

variable "location" {
  description = "What this place is called in results and queues."
  type        = string
  default     = "local"

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{0,62}$", var.location))
    error_message = "location must be 1 to 63 lower-case letters, digits and hyphens, the first no hyphen."
  }
}

variable "egress" {
  description = "public: only public addresses are checked; internal: private ones too, but never database and cache."
  type        = string
  default     = "public"

  validation {
    condition     = contains(["public", "internal"], var.egress)
    error_message = "egress must be public or internal."
  }
}

variable "settings" {
  description = "Further settings by environment variable, for all roles (.env.example lists them; docs/tracing.md OTEL_…)."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in keys(var.settings) : can(regex("^(TOCSIN|OTEL)_[A-Z_]+$", name))])
    error_message = "settings must have names like TOCSIN_LOG_LEVEL or OTEL_EXPORTER_OTLP_ENDPOINT."
  }
}

variable "secret_settings" {
  description = "Further secret settings: ARN in Secrets Manager by environment variable, like TOCSIN_SMTP_URL."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in keys(var.secret_settings) : can(regex("^(TOCSIN|OTEL)_[A-Z_]+$", name))])
    error_message = "secret_settings must have names like TOCSIN_SMTP_URL."
  }

  validation {
    condition     = alltrue([for arn in values(var.secret_settings) : can(regex("^arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[^:]+(:[^:]*:[^:]*:[^:]*)?$", arn))])
    error_message = "secret_settings must be whole ARNs of secrets, with :KEY:: behind them or not."
  }
}

variable "log_retention_days" {
  description = "How long logs are kept."
  type        = number
  default     = 365

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 3653], var.log_retention_days)
    error_message = "log_retention_days must be one that CloudWatch knows: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, …"
  }
}

variable "deletion_protection" {
  description = "Whether database and load balancer refuse to be deleted."
  type        = bool
  default     = true
}
