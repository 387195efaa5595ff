resource "aws_security_group" "this" {
  name        = "${var.name}-load-balancer"
  description = "HTTPS from everywhere that is allowed"
  vpc_id      = var.vpc_id

  tags = { Name = "${var.name}-load-balancer" }
}

resource "aws_vpc_security_group_ingress_rule" "https" {
  for_each = toset(var.client_cidrs)

  security_group_id = aws_security_group.this.id
  description       = "HTTPS"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = each.value
}

# Port 80 answers with a redirect and nothing else.
resource "aws_vpc_security_group_ingress_rule" "http" {
  # checkov:skip=CKV_AWS_260: port 80 only ever answers with a redirect to HTTPS
  for_each = toset(var.client_cidrs)

  security_group_id = aws_security_group.this.id
  description       = "Redirect to HTTPS"
  ip_protocol       = "tcp"
  from_port         = 80
  to_port           = 80
  cidr_ipv4         = each.value
}

resource "aws_vpc_security_group_egress_rule" "api" {
  security_group_id            = aws_security_group.this.id
  description                  = "The API's tasks"
  ip_protocol                  = "tcp"
  from_port                    = var.port
  to_port                      = var.port
  referenced_security_group_id = var.task_security_group_id
}

resource "aws_vpc_security_group_ingress_rule" "api" {
  security_group_id            = var.task_security_group_id
  description                  = "The API, from the load balancer"
  ip_protocol                  = "tcp"
  from_port                    = var.port
  to_port                      = var.port
  referenced_security_group_id = aws_security_group.this.id
}

resource "aws_lb" "this" {
  # checkov:skip=CKV2_AWS_76: the rules against bad inputs are there; the list of anonymous addresses, which this check wants as well, would stop pipelines and other senders at hosting providers
  # checkov:skip=CKV_AWS_150: deletion_protection is a variable that is true by default; only the example `small` says no
  name                       = var.name
  load_balancer_type         = "application"
  security_groups            = [aws_security_group.this.id]
  subnets                    = var.subnet_ids
  drop_invalid_header_fields = true
  enable_deletion_protection = var.deletion_protection
  # Event streams send a sign of life well within it.
  idle_timeout = 120

  access_logs {
    bucket  = aws_s3_bucket.logs.id
    enabled = true
  }

  depends_on = [aws_s3_bucket_policy.logs]
}

# Two, so that a new revision can stand beside the old one and take its traffic over bit by bit.
resource "aws_lb_target_group" "api" {
  # checkov:skip=CKV_AWS_378: TLS ends at the load balancer; from there it is the network of the tasks alone
  for_each = toset(["blue", "green"])

  name                 = "${var.name}-${each.key}"
  vpc_id               = var.vpc_id
  target_type          = "ip"
  protocol             = "HTTP"
  port                 = var.port
  deregistration_delay = 30

  # Not ready is a database that is away: a failover takes one to two minutes, and new tasks would not end it sooner.
  health_check {
    path                = var.health_path
    matcher             = "200"
    interval            = 15
    timeout             = 10
    healthy_threshold   = 2
    unhealthy_threshold = 10
  }
}
