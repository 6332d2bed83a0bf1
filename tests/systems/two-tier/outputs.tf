# The entry of `traffic` in `switchback.yaml`, once AWS has given out the ARNs: `terraform output -json backend_traffic` prints
# JSON, which YAML takes as it is.

output "backend_traffic" {
  value = {
    blue      = aws_lb_target_group.backend_blue.arn
    green     = aws_lb_target_group.backend_green.arn
    rules     = [aws_lb_listener.backend.arn]
    test_rule = aws_lb_listener_rule.backend_test.arn
  }
}

output "frontend_traffic" {
  value = {
    blue      = aws_lb_target_group.frontend_blue.arn
    green     = aws_lb_target_group.frontend_green.arn
    rules     = [aws_lb_listener.frontend.arn]
    test_rule = aws_lb_listener_rule.frontend_test.arn
  }
}

output "deployments_topic" {
  value = aws_sns_topic.deployments.arn
}
