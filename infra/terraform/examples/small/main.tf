# A team's own: hundreds of monitors, one zone's NAT and cache, a database without standby. What it costs: README.md.
provider "aws" {
  region = var.region

  default_tags {
    tags = { Project = "tocsin", Environment = "small" }
  }
}

module "tocsin" {
  source = "../.."

  name            = "tocsin-small"
  image           = var.image
  domain_name     = var.domain_name
  zone_id         = var.zone_id
  keys_secret_arn = var.keys_secret_arn
  admin_email     = var.admin_email
  alarm_emails    = [var.admin_email]

  network = { zones = ["${var.region}a", "${var.region}b"], nat_per_zone = false }

  database = {
    instance_class  = "db.t4g.small"
    max_connections = 190
    multi_az        = false
    storage_gib     = 20
    max_storage_gib = 100
    backup_days     = 7
  }

  cache = { node_type = "cache.t4g.micro", nodes = 1, snapshot_days = 0 }

  roles = {
    api       = { cpu = 512, memory = 1024, min = 1, max = 2 }
    scheduler = { cpu = 256, memory = 512, min = 1, max = 1 }
    worker    = { cpu = 512, memory = 1024, min = 1, max = 4 }
    notifier  = { cpu = 256, memory = 512, min = 1, max = 1 }
  }

  deletion_protection = false
}
