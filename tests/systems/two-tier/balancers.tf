# Each tier has its own load balancer and a target group for each side. The default action of its listener carries the
# production traffic: all of it on blue when it is created, afterwards where Switchback moves it. The rule for the header
# `x-switchback-test` reaches the candidate before it has traffic. Any client may send the header; it gives no right beyond
# those of every other client.

resource "aws_lb" "backend" {
  name                       = "backend-internal"
  load_balancer_type         = "application"
  internal                   = true
  security_groups            = [aws_security_group.backend_alb.id]
  subnets                    = [aws_subnet.private_a.id, aws_subnet.private_b.id]
  drop_invalid_header_fields = true
}

resource "aws_lb_target_group" "backend_blue" {
  name                 = "backend-blue"
  vpc_id               = aws_vpc.main.id
  target_type          = "ip"
  protocol             = "HTTP"
  port                 = 8000
  deregistration_delay = 30

  health_check {
    protocol            = "HTTP"
    path                = "/health"
    matcher             = "200"
    interval            = 10
    timeout             = 5
    healthy_threshold   = 2
    unhealthy_threshold = 3
  }

  stickiness {
    enabled = false
    type    = "lb_cookie"
  }
}

resource "aws_lb_target_group" "backend_green" {
  name                 = "backend-green"
  vpc_id               = aws_vpc.main.id
  target_type          = "ip"
  protocol             = "HTTP"
  port                 = 8000
  deregistration_delay = 30

  health_check {
    protocol            = "HTTP"
    path                = "/health"
    matcher             = "200"
    interval            = 10
    timeout             = 5
    healthy_threshold   = 2
    unhealthy_threshold = 3
  }

  stickiness {
    enabled = false
    type    = "lb_cookie"
  }
}

resource "aws_lb_listener" "backend" {
  load_balancer_arn = aws_lb.backend.arn
  protocol          = "HTTP"
  port              = 8080

  default_action {
    type = "forward"

    forward {
      target_group {
        arn    = aws_lb_target_group.backend_blue.arn
        weight = 100
      }

      target_group {
        arn    = aws_lb_target_group.backend_green.arn
        weight = 0
      }
    }
  }

  lifecycle {
    ignore_changes = [default_action]
  }
}

resource "aws_lb_listener_rule" "backend_test" {
  listener_arn = aws_lb_listener.backend.arn
  priority     = 10

  condition {
    http_header {
      http_header_name = "x-switchback-test"
      values           = ["1"]
    }
  }

  action {
    type = "forward"

    forward {
      target_group {
        arn    = aws_lb_target_group.backend_blue.arn
        weight = 100
      }

      target_group {
        arn    = aws_lb_target_group.backend_green.arn
        weight = 0
      }
    }
  }

  lifecycle {
    ignore_changes = [action]
  }
}

resource "aws_lb" "frontend" {
  name                       = "frontend-public"
  load_balancer_type         = "application"
  internal                   = false
  security_groups            = [aws_security_group.frontend_alb.id]
  subnets                    = [aws_subnet.public_a.id, aws_subnet.public_b.id]
  drop_invalid_header_fields = true
}

resource "aws_lb_target_group" "frontend_blue" {
  name                 = "frontend-blue"
  vpc_id               = aws_vpc.main.id
  target_type          = "ip"
  protocol             = "HTTP"
  port                 = 3000
  deregistration_delay = 30

  health_check {
    protocol            = "HTTP"
    path                = "/health"
    matcher             = "200"
    interval            = 10
    timeout             = 5
    healthy_threshold   = 2
    unhealthy_threshold = 3
  }

  stickiness {
    enabled = false
    type    = "lb_cookie"
  }
}

resource "aws_lb_target_group" "frontend_green" {
  name                 = "frontend-green"
  vpc_id               = aws_vpc.main.id
  target_type          = "ip"
  protocol             = "HTTP"
  port                 = 3000
  deregistration_delay = 30

  health_check {
    protocol            = "HTTP"
    path                = "/health"
    matcher             = "200"
    interval            = 10
    timeout             = 5
    healthy_threshold   = 2
    unhealthy_threshold = 3
  }

  stickiness {
    enabled = false
    type    = "lb_cookie"
  }
}

resource "aws_lb_listener" "frontend" {
  load_balancer_arn = aws_lb.frontend.arn
  protocol          = "HTTP"
  port              = 80

  default_action {
    type = "forward"

    forward {
      target_group {
        arn    = aws_lb_target_group.frontend_blue.arn
        weight = 100
      }

      target_group {
        arn    = aws_lb_target_group.frontend_green.arn
        weight = 0
      }
    }
  }

  lifecycle {
    ignore_changes = [default_action]
  }
}

resource "aws_lb_listener_rule" "frontend_test" {
  listener_arn = aws_lb_listener.frontend.arn
  priority     = 10

  condition {
    http_header {
      http_header_name = "x-switchback-test"
      values           = ["1"]
    }
  }

  action {
    type = "forward"

    forward {
      target_group {
        arn    = aws_lb_target_group.frontend_blue.arn
        weight = 100
      }

      target_group {
        arn    = aws_lb_target_group.frontend_green.arn
        weight = 0
      }
    }
  }

  lifecycle {
    ignore_changes = [action]
  }
}
