output "url" {
  description = "Where Tocsin is."
  value       = "https://${var.domain_name}"
}

output "load_balancer" {
  description = "What the name has to lead to (CNAME) where there is no zone_id."
  value       = module.load_balancer.dns_name
}

output "outgoing_addresses" {
  description = "From where checks and notifications come: let them in where you let only few in."
  value       = module.network.outgoing_addresses
}

output "run_operator" {
  description = "Runs a command of the operator's; put the command's words into OVERRIDES (docs/deploy-aws.md)."
  value = join(" ", [
    "aws ecs run-task --launch-type FARGATE",
    "--cluster ${aws_ecs_cluster.this.name}",
    "--task-definition ${module.operator.definition_arn}",
    "--network-configuration 'awsvpcConfiguration={subnets=[${join(",", module.network.task_subnet_ids)}],securityGroups=[${module.network.task_security_group_id}]}'",
    "--overrides \"$OVERRIDES\"",
  ])
}
