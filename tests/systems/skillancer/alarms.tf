# Alarms that switchback.yaml names. The network document has none. Those on API and Web exist once for each side, on the side's own
# target group: over the whole load balancer they could not tell blue from green. All are `notBreaching`: a side without traffic has
# no data, and must not fire.

# More than 5 % of the responses of a side are 5xx, in two of three minutes.
resource "aws_cloudwatch_metric_alarm" "api_5xx" {
  for_each = local.sides

  alarm_name          = "skillancer-${var.environment}-api-${each.key}-5xx"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 5
  evaluation_periods  = 3
  datapoints_to_alarm = 2
  treat_missing_data  = "notBreaching"

  metric_query {
    id          = "percent"
    expression  = "100 * FILL(errors, 0) / requests"
    label       = "5xx responses in per cent"
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
        LoadBalancer = aws_lb.main.arn_suffix
        TargetGroup  = aws_lb_target_group.api[each.key].arn_suffix
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
        LoadBalancer = aws_lb.main.arn_suffix
        TargetGroup  = aws_lb_target_group.api[each.key].arn_suffix
      }
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "web_5xx" {
  for_each = local.sides

  alarm_name          = "skillancer-${var.environment}-web-${each.key}-5xx"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 5
  evaluation_periods  = 3
  datapoints_to_alarm = 2
  treat_missing_data  = "notBreaching"

  metric_query {
    id          = "percent"
    expression  = "100 * FILL(errors, 0) / requests"
    label       = "5xx responses in per cent"
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
        LoadBalancer = aws_lb.main.arn_suffix
        TargetGroup  = aws_lb_target_group.web[each.key].arn_suffix
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
        LoadBalancer = aws_lb.main.arn_suffix
        TargetGroup  = aws_lb_target_group.web[each.key].arn_suffix
      }
    }
  }
}

# The slowest 1 % of a side's responses take more than 2 seconds, in three of five minutes.
resource "aws_cloudwatch_metric_alarm" "api_p99" {
  for_each = local.sides

  alarm_name          = "skillancer-${var.environment}-api-${each.key}-p99"
  namespace           = "AWS/ApplicationELB"
  metric_name         = "TargetResponseTime"
  extended_statistic  = "p99"
  period              = 60
  evaluation_periods  = 5
  datapoints_to_alarm = 3
  comparison_operator = "GreaterThanThreshold"
  threshold           = 2
  treat_missing_data  = "notBreaching"

  dimensions = {
    LoadBalancer = aws_lb.main.arn_suffix
    TargetGroup  = aws_lb_target_group.api[each.key].arn_suffix
  }
}

resource "aws_cloudwatch_metric_alarm" "web_p99" {
  for_each = local.sides

  alarm_name          = "skillancer-${var.environment}-web-${each.key}-p99"
  namespace           = "AWS/ApplicationELB"
  metric_name         = "TargetResponseTime"
  extended_statistic  = "p99"
  period              = 60
  evaluation_periods  = 5
  datapoints_to_alarm = 3
  comparison_operator = "GreaterThanThreshold"
  threshold           = 2
  treat_missing_data  = "notBreaching"

  dimensions = {
    LoadBalancer = aws_lb.main.arn_suffix
    TargetGroup  = aws_lb_target_group.web[each.key].arn_suffix
  }
}

# Of neither side.
resource "aws_cloudwatch_metric_alarm" "database_connections" {
  alarm_name          = "skillancer-${var.environment}-database-connections"
  namespace           = "AWS/RDS"
  metric_name         = "DatabaseConnections"
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 5
  datapoints_to_alarm = 3
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.database_connections_alarm
  treat_missing_data  = "notBreaching"

  dimensions = {
    DBInstanceIdentifier = aws_db_instance.main.identifier
  }
}

resource "aws_cloudwatch_metric_alarm" "database_cpu" {
  alarm_name          = "skillancer-${var.environment}-database-cpu"
  namespace           = "AWS/RDS"
  metric_name         = "CPUUtilization"
  statistic           = "Average"
  period              = 60
  evaluation_periods  = 5
  datapoints_to_alarm = 3
  comparison_operator = "GreaterThanThreshold"
  threshold           = 85
  treat_missing_data  = "notBreaching"

  dimensions = {
    DBInstanceIdentifier = aws_db_instance.main.identifier
  }
}

# Workers answer no requests: their log lines are counted, which need no endpoint beside that of CloudWatch Logs. A worker logs
# {"event": "job.failed"} for a job that it gives up, and {"event": "queue.age", "seconds": N} every minute.
resource "aws_cloudwatch_log_metric_filter" "workers_failed_jobs" {
  name           = "skillancer-${var.environment}-workers-failed-jobs"
  log_group_name = aws_cloudwatch_log_group.service["workers"].name
  pattern        = "{ $.event = \"job.failed\" }"

  metric_transformation {
    namespace     = "Skillancer/${var.environment}"
    name          = "WorkersFailedJobs"
    value         = "1"
    default_value = "0"
  }
}

resource "aws_cloudwatch_log_metric_filter" "workers_queue_age" {
  name           = "skillancer-${var.environment}-workers-queue-age"
  log_group_name = aws_cloudwatch_log_group.service["workers"].name
  pattern        = "{ $.event = \"queue.age\" }"

  metric_transformation {
    namespace = "Skillancer/${var.environment}"
    name      = "WorkersQueueAge"
    value     = "$.seconds"
  }
}

resource "aws_cloudwatch_metric_alarm" "workers_failed_jobs" {
  alarm_name          = "skillancer-${var.environment}-workers-failed-jobs"
  namespace           = "Skillancer/${var.environment}"
  metric_name         = "WorkersFailedJobs"
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 3
  datapoints_to_alarm = 2
  comparison_operator = "GreaterThanThreshold"
  threshold           = 5
  treat_missing_data  = "notBreaching"
}

# The oldest job has waited for more than 15 minutes.
resource "aws_cloudwatch_metric_alarm" "workers_queue_age" {
  alarm_name          = "skillancer-${var.environment}-workers-queue-age"
  namespace           = "Skillancer/${var.environment}"
  metric_name         = "WorkersQueueAge"
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 5
  datapoints_to_alarm = 5
  comparison_operator = "GreaterThanThreshold"
  threshold           = 900
  treat_missing_data  = "notBreaching"
}
