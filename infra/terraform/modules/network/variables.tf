variable "name" {
  description = "Name of the installation."
  type        = string
}

variable "cidr" {
  description = "Addresses of the network: a /16, cut into /20 subnets."
  type        = string
}

variable "zones" {
  description = "Availability zones by name. Adding one at the end moves nothing; changing the order moves everything."
  type        = list(string)
}

variable "nat_per_zone" {
  description = "A NAT gateway in every zone, so that the loss of one zone stops no checks; otherwise one for all."
  type        = bool
}

variable "flow_traffic" {
  description = "What is written down of the traffic: ALL, ACCEPT or REJECT."
  type        = string
}

variable "log_retention_days" {
  description = "How long that is kept."
  type        = number
}

variable "key_arn" {
  description = "Key for what is stored."
  type        = string
}

variable "scraper_cidrs" {
  description = "From where metrics may be read."
  type        = list(string)
}
