# Tocsin on AWS: the parts, and how they are joined. docs/deploy-aws.md leads through it.
module "key" {
  source = "./modules/key"

  name = var.name
}

module "network" {
  source = "./modules/network"

  name               = var.name
  cidr               = var.network.cidr
  zones              = var.network.zones
  nat_per_zone       = var.network.nat_per_zone
  flow_traffic       = var.network.flow_traffic
  scraper_cidrs      = var.network.scraper_cidrs
  log_retention_days = var.log_retention_days
  key_arn            = module.key.arn
}

module "database" {
  source = "./modules/database"

  name                     = var.name
  vpc_id                   = module.network.vpc_id
  subnet_ids               = module.network.data_subnet_ids
  client_security_group_id = module.network.task_security_group_id
  key_arn                  = module.key.arn
  engine_version           = var.database.engine_version
  major_upgrade            = var.database.major_upgrade
  instance_class           = var.database.instance_class
  multi_az                 = var.database.multi_az
  storage_gib              = var.database.storage_gib
  max_storage_gib          = var.database.max_storage_gib
  backup_days              = var.database.backup_days
  snapshot_identifier      = var.database.snapshot_identifier
  deletion_protection      = var.deletion_protection
  password_version         = var.secrets_version
  ca_file                  = "/etc/tocsin/rds.pem"
  log_retention_days       = var.log_retention_days
}

module "cache" {
  source = "./modules/cache"

  name                     = var.name
  vpc_id                   = module.network.vpc_id
  subnet_ids               = module.network.data_subnet_ids
  client_security_group_id = module.network.task_security_group_id
  key_arn                  = module.key.arn
  node_type                = var.cache.node_type
  nodes                    = var.cache.nodes
  snapshot_days            = var.cache.snapshot_days
  token_version            = var.secrets_version
  log_retention_days       = var.log_retention_days
}

module "load_balancer" {
  source = "./modules/load_balancer"

  name                   = var.name
  vpc_id                 = module.network.vpc_id
  subnet_ids             = module.network.public_subnet_ids
  task_security_group_id = module.network.task_security_group_id
  port                   = local.api_port
  health_path            = "/readyz"
  domain_name            = var.domain_name
  zone_id                = var.zone_id
  certificate_arn        = var.certificate_arn
  client_cidrs           = var.client_cidrs
  rate_limit             = var.rate_limit
  deletion_protection    = var.deletion_protection
  log_retention_days     = var.log_retention_days
  key_arn                = module.key.arn
}

resource "aws_ecs_cluster" "this" {
  name = var.name

  # Autoscaling counts the running tasks by it.
  setting {
    name  = "containerInsights"
    value = "enabled"
  }
}
