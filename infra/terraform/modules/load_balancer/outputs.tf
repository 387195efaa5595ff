output "dns_name" {
  description = "What the name has to lead to where there is no zone."
  value       = aws_lb.this.dns_name
}

output "arn_suffix" {
  description = "For alarms."
  value       = aws_lb.this.arn_suffix
}

output "target_group_suffixes" {
  description = "For alarms, by colour."
  value       = { for colour, group in aws_lb_target_group.api : colour => group.arn_suffix }
}

output "rollout" {
  description = "What a rollout by canary needs."
  value = {
    target_group_arn    = aws_lb_target_group.api["blue"].arn
    alternate_group_arn = aws_lb_target_group.api["green"].arn
    listener_rule_arn   = aws_lb_listener_rule.api.arn
  }
}
