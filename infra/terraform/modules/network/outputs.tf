output "vpc_id" {
  description = "The network."
  value       = aws_vpc.this.id
}

output "public_subnet_ids" {
  description = "For the load balancer."
  value       = [for subnet in aws_subnet.public : subnet.id]
}

output "task_subnet_ids" {
  description = "For tasks."
  value       = [for subnet in aws_subnet.tasks : subnet.id]
}

output "data_subnet_ids" {
  description = "For database and cache."
  value       = [for subnet in aws_subnet.data : subnet.id]
}

output "data_cidrs" {
  description = "Where database and cache are: no check may go there."
  value       = values(local.data_cidrs)
}

output "task_security_group_id" {
  description = "Security group of all tasks."
  value       = aws_security_group.tasks.id
}

output "outgoing_addresses" {
  description = "From where checks and notifications come."
  value       = [for address in aws_eip.nat : address.public_ip]
}
