# One load balancer for API and Web. Each has a rule of its own, a target group for each side, and a test rule that only requests
# with the header `x-switchback-test` match. Switchback moves the weights of the four rules, and nothing else here.

resource "aws_lb" "main" {
  name                       = "skillancer-${var.environment}"
  load_balancer_type         = "application"
  internal                   = false
  subnets                    = [for subnet in aws_subnet.public : subnet.id]
  security_groups            = [aws_security_group.alb.id]
  drop_invalid_header_fields = true
}

resource "aws_lb_target_group" "api" {
  for_each = local.sides

  name                 = "skillancer-${var.environment}-api-${each.key}"
  vpc_id               = aws_vpc.main.id
  target_type          = "ip"
  protocol             = "HTTP"
  port                 = local.api_port
  deregistration_delay = 30

  health_check {
    path                = "/healthz"
    matcher             = "200"
    interval            = 15
    timeout             = 5
    healthy_threshold   = 2
    unhealthy_threshold = 3
  }
}

resource "aws_lb_target_group" "web" {
  for_each = local.sides

  name                 = "skillancer-${var.environment}-web-${each.key}"
  vpc_id               = aws_vpc.main.id
  target_type          = "ip"
  protocol             = "HTTP"
  port                 = local.web_port
  deregistration_delay = 30

  health_check {
    path                = "/healthz"
    matcher             = "200"
    interval            = 15
    timeout             = 5
    healthy_threshold   = 2
    unhealthy_threshold = 3
  }
}

# Redirects, so that all requests are weighted on one listener.
resource "aws_lb_listener" "http" {
  load_balancer_arn = aws_lb.main.arn
  port              = 80
  protocol          = "HTTP"

  default_action {
    type = "redirect"

    redirect {
      protocol    = "HTTPS"
      port        = "443"
      status_code = "HTTP_301"
    }
  }
}

# Every request matches one of the rules; the default action forwards to no target group.
resource "aws_lb_listener" "https" {
  load_balancer_arn = aws_lb.main.arn
  port              = 443
  protocol          = "HTTPS"
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-2021-06"
  certificate_arn   = var.certificate_arn

  default_action {
    type = "fixed-response"

    fixed_response {
      content_type = "text/plain"
      status_code  = "404"
    }
  }
}

resource "aws_lb_listener_rule" "api_test" {
  listener_arn = aws_lb_listener.https.arn
  priority     = 10

  action {
    type = "forward"

    forward {
      target_group {
        arn    = aws_lb_target_group.api["blue"].arn
        weight = 100
      }

      target_group {
        arn    = aws_lb_target_group.api["green"].arn
        weight = 0
      }
    }
  }

  condition {
    http_header {
      http_header_name = "x-switchback-test"
      values           = ["candidate"]
    }
  }

  condition {
    path_pattern {
      values = ["/api", "/api/*"]
    }
  }

  # Switchback owns the weights.
  lifecycle {
    ignore_changes = [action]
  }
}

resource "aws_lb_listener_rule" "web_test" {
  listener_arn = aws_lb_listener.https.arn
  priority     = 11

  action {
    type = "forward"

    forward {
      target_group {
        arn    = aws_lb_target_group.web["blue"].arn
        weight = 100
      }

      target_group {
        arn    = aws_lb_target_group.web["green"].arn
        weight = 0
      }
    }
  }

  condition {
    http_header {
      http_header_name = "x-switchback-test"
      values           = ["candidate"]
    }
  }

  # Switchback owns the weights.
  lifecycle {
    ignore_changes = [action]
  }
}

resource "aws_lb_listener_rule" "api" {
  listener_arn = aws_lb_listener.https.arn
  priority     = 20

  action {
    type = "forward"

    forward {
      target_group {
        arn    = aws_lb_target_group.api["blue"].arn
        weight = 100
      }

      target_group {
        arn    = aws_lb_target_group.api["green"].arn
        weight = 0
      }
    }
  }

  condition {
    path_pattern {
      values = ["/api", "/api/*"]
    }
  }

  # Switchback owns the weights.
  lifecycle {
    ignore_changes = [action]
  }
}

resource "aws_lb_listener_rule" "web" {
  listener_arn = aws_lb_listener.https.arn
  priority     = 30

  action {
    type = "forward"

    forward {
      target_group {
        arn    = aws_lb_target_group.web["blue"].arn
        weight = 100
      }

      target_group {
        arn    = aws_lb_target_group.web["green"].arn
        weight = 0
      }
    }
  }

  condition {
    path_pattern {
      values = ["/*"]
    }
  }

  # Switchback owns the weights.
  lifecycle {
    ignore_changes = [action]
  }
}
