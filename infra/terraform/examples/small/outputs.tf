output "url" {
  description = "Where Tocsin is."
  value       = module.tocsin.url
}

output "outgoing_addresses" {
  description = "From where checks come."
  value       = module.tocsin.outgoing_addresses
}

output "run_operator" {
  description = "Runs a command of the operator's."
  value       = module.tocsin.run_operator
}
