# The ARNs that switchback.yaml names: AWS generates the last parts when it creates the resources.

output "target_groups" {
  description = "Of `traffic`: blue and green of API and Web."
  value = {
    api_blue  = aws_lb_target_group.api["blue"].arn
    api_green = aws_lb_target_group.api["green"].arn
    web_blue  = aws_lb_target_group.web["blue"].arn
    web_green = aws_lb_target_group.web["green"].arn
  }
}

output "rules" {
  description = "Of `traffic`: the rule and the test rule of API and Web."
  value = {
    api      = aws_lb_listener_rule.api.arn
    api_test = aws_lb_listener_rule.api_test.arn
    web      = aws_lb_listener_rule.web.arn
    web_test = aws_lb_listener_rule.web_test.arn
  }
}
