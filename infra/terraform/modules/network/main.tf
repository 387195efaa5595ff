# Three rows of subnets: public (load balancer, NAT), tasks (out through NAT), data (no way out at all).
locals {
  # A /16 gives /20 subnets: 0–3 public, 4–7 tasks, 8–11 data.
  public_cidrs = { for i, zone in var.zones : zone => cidrsubnet(var.cidr, 4, i) }
  task_cidrs   = { for i, zone in var.zones : zone => cidrsubnet(var.cidr, 4, i + 4) }
  data_cidrs   = { for i, zone in var.zones : zone => cidrsubnet(var.cidr, 4, i + 8) }
  # Where each zone's tasks leave: through their own zone's NAT gateway, or all through the first one's.
  exits = { for zone in var.zones : zone => var.nat_per_zone ? zone : var.zones[0] }
}

resource "aws_vpc" "this" {
  cidr_block           = var.cidr
  enable_dns_hostnames = true
  enable_dns_support   = true

  tags = { Name = var.name }
}

# Nobody uses it, and so it lets nothing through.
resource "aws_default_security_group" "closed" {
  vpc_id = aws_vpc.this.id
}

resource "aws_internet_gateway" "this" {
  vpc_id = aws_vpc.this.id

  tags = { Name = var.name }
}

resource "aws_subnet" "public" {
  for_each = local.public_cidrs

  vpc_id            = aws_vpc.this.id
  availability_zone = each.key
  cidr_block        = each.value

  tags = { Name = "${var.name}-public-${each.key}" }
}

resource "aws_subnet" "tasks" {
  for_each = local.task_cidrs

  vpc_id            = aws_vpc.this.id
  availability_zone = each.key
  cidr_block        = each.value

  tags = { Name = "${var.name}-tasks-${each.key}" }
}

resource "aws_subnet" "data" {
  for_each = local.data_cidrs

  vpc_id            = aws_vpc.this.id
  availability_zone = each.key
  cidr_block        = each.value

  tags = { Name = "${var.name}-data-${each.key}" }
}

# Checks leave from these addresses: whoever is watched can let exactly them in.
resource "aws_eip" "nat" {
  for_each = toset(values(local.exits))

  domain = "vpc"

  tags = { Name = "${var.name}-nat-${each.key}" }
}

resource "aws_nat_gateway" "this" {
  for_each = toset(values(local.exits))

  allocation_id = aws_eip.nat[each.key].id
  subnet_id     = aws_subnet.public[each.key].id

  tags = { Name = "${var.name}-${each.key}" }

  depends_on = [aws_internet_gateway.this]
}
