output "url" {
  description = "Where Tocsin is."
  value       = module.tocsin.url
}

output "load_balancer" {
  description = "What the name has to lead to (CNAME) where it is not in Route 53."
  value       = module.tocsin.load_balancer
}

output "outgoing_addresses" {
  description = "From where checks come."
  value       = module.tocsin.outgoing_addresses
}

output "run_operator" {
  description = "Runs a command of the operator's."
  value       = module.tocsin.run_operator
}
