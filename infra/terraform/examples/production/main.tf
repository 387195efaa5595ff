# A company's: tens of thousands of monitors; the loss of a zone stops nothing. What it costs: README.md.
provider "aws" {
  region = var.region

  default_tags {
    tags = { Project = "tocsin", Environment = "production" }
  }
}

module "tocsin" {
  source = "../.."

  name            = "tocsin"
  image           = var.image
  domain_name     = var.domain_name
  zone_id         = var.zone_id
  keys_secret_arn = var.keys_secret_arn
  admin_email     = var.admin_email
  alarm_emails    = [var.admin_email]
  secret_settings = var.secret_settings

  network = { zones = ["${var.region}a", "${var.region}b", "${var.region}c"], flow_traffic = "ALL" }

  database = {
    instance_class  = "db.m7g.large"
    max_connections = 850
    multi_az        = true
    storage_gib     = 200
    max_storage_gib = 1000
  }

  cache = { node_type = "cache.t4g.medium", nodes = 2 }

  roles = {
    api       = { cpu = 1024, memory = 2048, min = 2, max = 8 }
    scheduler = { cpu = 512, memory = 1024, min = 2, max = 2 }
    worker    = { cpu = 1024, memory = 2048, min = 2, max = 20 }
    notifier  = { cpu = 512, memory = 1024, min = 2, max = 8 }
  }
}
