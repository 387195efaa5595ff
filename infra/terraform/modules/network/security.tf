# What tasks may reach: everything, since what is watched may be anywhere and on any port. What the product itself
# refuses (metadata, private addresses) its egress policy judges at every connection.
resource "aws_security_group" "tasks" {
  # checkov:skip=CKV2_AWS_5: it is attached to services, which are another module's
  name        = "${var.name}-tasks"
  description = "Tasks of all roles"
  vpc_id      = aws_vpc.this.id

  tags = { Name = "${var.name}-tasks" }
}

resource "aws_vpc_security_group_egress_rule" "tasks" {
  security_group_id = aws_security_group.tasks.id
  description       = "Checks and notifications go anywhere"
  ip_protocol       = "-1"
  cidr_ipv4         = "0.0.0.0/0"
}

# Your own Prometheus, if there is one: 8000 is the API's /metrics, 9464 the other roles'.
resource "aws_vpc_security_group_ingress_rule" "scrapers" {
  for_each = { for pair in setproduct(var.scraper_cidrs, [8000, 9464]) : "${pair[0]}-${pair[1]}" => pair }

  security_group_id = aws_security_group.tasks.id
  description       = "Prometheus"
  ip_protocol       = "tcp"
  from_port         = each.value[1]
  to_port           = each.value[1]
  cidr_ipv4         = each.value[0]
}
