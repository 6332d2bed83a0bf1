# Each side has its own alarms, on its own target group: an alarm on the whole load balancer cannot tell blue from green.
# `notBreaching`, because a target group without requests, as that of the idle side, has no data. They need no action:
# Switchback is woken by the alarms' events, and reads their state. What each does is said in `switchback.yaml`.

resource "aws_cloudwatch_metric_alarm" "backend_blue_5xx" {
  alarm_name          = "two-tier-backend-blue-5xx"
  alarm_description   = "More than 5 % of the requests to blue are answered with 5xx"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 5
  evaluation_periods  = 3
  datapoints_to_alarm = 2
  treat_missing_data  = "notBreaching"

  metric_query {
    id          = "percent"
    label       = "5xx, per cent of requests"
    expression  = "100 * FILL(errors, 0) / requests"
    return_data = true
  }

  metric_query {
    id = "errors"

    metric {
      namespace   = "AWS/ApplicationELB"
      metric_name = "HTTPCode_Target_5XX_Count"
      stat        = "Sum"
      period      = 60

      dimensions = {
        LoadBalancer = aws_lb.backend.arn_suffix
        TargetGroup  = aws_lb_target_group.backend_blue.arn_suffix
      }
    }
  }

  metric_query {
    id = "requests"

    metric {
      namespace   = "AWS/ApplicationELB"
      metric_name = "RequestCount"
      stat        = "Sum"
      period      = 60

      dimensions = {
        LoadBalancer = aws_lb.backend.arn_suffix
        TargetGroup  = aws_lb_target_group.backend_blue.arn_suffix
      }
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "backend_blue_latency" {
  alarm_name          = "two-tier-backend-blue-latency"
  alarm_description   = "Blue takes more than 1 s on average"
  namespace           = "AWS/ApplicationELB"
  metric_name         = "TargetResponseTime"
  statistic           = "Average"
  period              = 60
  comparison_operator = "GreaterThanThreshold"
  threshold           = 1
  evaluation_periods  = 5
  datapoints_to_alarm = 3
  treat_missing_data  = "notBreaching"

  dimensions = {
    LoadBalancer = aws_lb.backend.arn_suffix
    TargetGroup  = aws_lb_target_group.backend_blue.arn_suffix
  }
}

resource "aws_cloudwatch_metric_alarm" "backend_green_5xx" {
  alarm_name          = "two-tier-backend-green-5xx"
  alarm_description   = "More than 5 % of the requests to green are answered with 5xx"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 5
  evaluation_periods  = 3
  datapoints_to_alarm = 2
  treat_missing_data  = "notBreaching"

  metric_query {
    id          = "percent"
    label       = "5xx, per cent of requests"
    expression  = "100 * FILL(errors, 0) / requests"
    return_data = true
  }

  metric_query {
    id = "errors"

    metric {
      namespace   = "AWS/ApplicationELB"
      metric_name = "HTTPCode_Target_5XX_Count"
      stat        = "Sum"
      period      = 60

      dimensions = {
        LoadBalancer = aws_lb.backend.arn_suffix
        TargetGroup  = aws_lb_target_group.backend_green.arn_suffix
      }
    }
  }

  metric_query {
    id = "requests"

    metric {
      namespace   = "AWS/ApplicationELB"
      metric_name = "RequestCount"
      stat        = "Sum"
      period      = 60

      dimensions = {
        LoadBalancer = aws_lb.backend.arn_suffix
        TargetGroup  = aws_lb_target_group.backend_green.arn_suffix
      }
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "backend_green_latency" {
  alarm_name          = "two-tier-backend-green-latency"
  alarm_description   = "Green takes more than 1 s on average"
  namespace           = "AWS/ApplicationELB"
  metric_name         = "TargetResponseTime"
  statistic           = "Average"
  period              = 60
  comparison_operator = "GreaterThanThreshold"
  threshold           = 1
  evaluation_periods  = 5
  datapoints_to_alarm = 3
  treat_missing_data  = "notBreaching"

  dimensions = {
    LoadBalancer = aws_lb.backend.arn_suffix
    TargetGroup  = aws_lb_target_group.backend_green.arn_suffix
  }
}

resource "aws_cloudwatch_metric_alarm" "frontend_blue_5xx" {
  alarm_name          = "two-tier-frontend-blue-5xx"
  alarm_description   = "More than 5 % of the requests to blue are answered with 5xx"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 5
  evaluation_periods  = 3
  datapoints_to_alarm = 2
  treat_missing_data  = "notBreaching"

  metric_query {
    id          = "percent"
    label       = "5xx, per cent of requests"
    expression  = "100 * FILL(errors, 0) / requests"
    return_data = true
  }

  metric_query {
    id = "errors"

    metric {
      namespace   = "AWS/ApplicationELB"
      metric_name = "HTTPCode_Target_5XX_Count"
      stat        = "Sum"
      period      = 60

      dimensions = {
        LoadBalancer = aws_lb.frontend.arn_suffix
        TargetGroup  = aws_lb_target_group.frontend_blue.arn_suffix
      }
    }
  }

  metric_query {
    id = "requests"

    metric {
      namespace   = "AWS/ApplicationELB"
      metric_name = "RequestCount"
      stat        = "Sum"
      period      = 60

      dimensions = {
        LoadBalancer = aws_lb.frontend.arn_suffix
        TargetGroup  = aws_lb_target_group.frontend_blue.arn_suffix
      }
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "frontend_blue_latency" {
  alarm_name          = "two-tier-frontend-blue-latency"
  alarm_description   = "Blue takes more than 2 s on average"
  namespace           = "AWS/ApplicationELB"
  metric_name         = "TargetResponseTime"
  statistic           = "Average"
  period              = 60
  comparison_operator = "GreaterThanThreshold"
  threshold           = 2
  evaluation_periods  = 5
  datapoints_to_alarm = 3
  treat_missing_data  = "notBreaching"

  dimensions = {
    LoadBalancer = aws_lb.frontend.arn_suffix
    TargetGroup  = aws_lb_target_group.frontend_blue.arn_suffix
  }
}

resource "aws_cloudwatch_metric_alarm" "frontend_green_5xx" {
  alarm_name          = "two-tier-frontend-green-5xx"
  alarm_description   = "More than 5 % of the requests to green are answered with 5xx"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 5
  evaluation_periods  = 3
  datapoints_to_alarm = 2
  treat_missing_data  = "notBreaching"

  metric_query {
    id          = "percent"
    label       = "5xx, per cent of requests"
    expression  = "100 * FILL(errors, 0) / requests"
    return_data = true
  }

  metric_query {
    id = "errors"

    metric {
      namespace   = "AWS/ApplicationELB"
      metric_name = "HTTPCode_Target_5XX_Count"
      stat        = "Sum"
      period      = 60

      dimensions = {
        LoadBalancer = aws_lb.frontend.arn_suffix
        TargetGroup  = aws_lb_target_group.frontend_green.arn_suffix
      }
    }
  }

  metric_query {
    id = "requests"

    metric {
      namespace   = "AWS/ApplicationELB"
      metric_name = "RequestCount"
      stat        = "Sum"
      period      = 60

      dimensions = {
        LoadBalancer = aws_lb.frontend.arn_suffix
        TargetGroup  = aws_lb_target_group.frontend_green.arn_suffix
      }
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "frontend_green_latency" {
  alarm_name          = "two-tier-frontend-green-latency"
  alarm_description   = "Green takes more than 2 s on average"
  namespace           = "AWS/ApplicationELB"
  metric_name         = "TargetResponseTime"
  statistic           = "Average"
  period              = 60
  comparison_operator = "GreaterThanThreshold"
  threshold           = 2
  evaluation_periods  = 5
  datapoints_to_alarm = 3
  treat_missing_data  = "notBreaching"

  dimensions = {
    LoadBalancer = aws_lb.frontend.arn_suffix
    TargetGroup  = aws_lb_target_group.frontend_green.arn_suffix
  }
}

# Of neither side: every task pulls its image and reads its secrets through this gateway.
resource "aws_cloudwatch_metric_alarm" "nat_ports" {
  alarm_name          = "two-tier-nat-ports"
  alarm_description   = "The NAT gateway had no source port left for a connection"
  namespace           = "AWS/NATGateway"
  metric_name         = "ErrorPortAllocation"
  statistic           = "Sum"
  period              = 60
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  evaluation_periods  = 3
  datapoints_to_alarm = 2
  treat_missing_data  = "notBreaching"

  dimensions = {
    NatGatewayId = aws_nat_gateway.main.id
  }
}
