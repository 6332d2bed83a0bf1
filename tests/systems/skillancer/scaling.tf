# Autoscaling. Switchback moves the limits of API and Web with the traffic; the limits of Workers are Terraform's.
#
# There is none before the first deployment (`-var autoscaling=false`). After it blue is live, and has the minimum. The network
# document has no schedules, so there are no scheduled actions.

resource "aws_appautoscaling_target" "api" {
  for_each = var.autoscaling ? local.sides : toset([])

  service_namespace  = "ecs"
  scalable_dimension = "ecs:service:DesiredCount"
  resource_id        = "service/${aws_ecs_cluster.main.name}/${aws_ecs_service.api[each.key].name}"
  min_capacity       = each.key == "blue" ? var.minimum_tasks : 0
  max_capacity       = var.maximum_tasks

  # Switchback owns these: they change sides with the traffic.
  lifecycle {
    ignore_changes = [min_capacity, max_capacity, suspended_state]
  }
}

# By requests a task: a side that gets more of the traffic gets more tasks, an idle one none.
resource "aws_appautoscaling_policy" "api" {
  for_each = var.autoscaling ? local.sides : toset([])

  name               = "skillancer-${var.environment}-api-${each.key}-requests"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.api[each.key].service_namespace
  scalable_dimension = aws_appautoscaling_target.api[each.key].scalable_dimension
  resource_id        = aws_appautoscaling_target.api[each.key].resource_id

  target_tracking_scaling_policy_configuration {
    target_value       = 600
    scale_in_cooldown  = 300
    scale_out_cooldown = 60

    predefined_metric_specification {
      predefined_metric_type = "ALBRequestCountPerTarget"
      resource_label         = "${aws_lb.main.arn_suffix}/${aws_lb_target_group.api[each.key].arn_suffix}"
    }
  }
}

resource "aws_appautoscaling_target" "web" {
  for_each = var.autoscaling ? local.sides : toset([])

  service_namespace  = "ecs"
  scalable_dimension = "ecs:service:DesiredCount"
  resource_id        = "service/${aws_ecs_cluster.main.name}/${aws_ecs_service.web[each.key].name}"
  min_capacity       = each.key == "blue" ? var.minimum_tasks : 0
  max_capacity       = var.maximum_tasks

  # Switchback owns these: they change sides with the traffic.
  lifecycle {
    ignore_changes = [min_capacity, max_capacity, suspended_state]
  }
}

# By requests a task: a side that gets more of the traffic gets more tasks, an idle one none.
resource "aws_appautoscaling_policy" "web" {
  for_each = var.autoscaling ? local.sides : toset([])

  name               = "skillancer-${var.environment}-web-${each.key}-requests"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.web[each.key].service_namespace
  scalable_dimension = aws_appautoscaling_target.web[each.key].scalable_dimension
  resource_id        = aws_appautoscaling_target.web[each.key].resource_id

  target_tracking_scaling_policy_configuration {
    target_value       = 1200
    scale_in_cooldown  = 300
    scale_out_cooldown = 60

    predefined_metric_specification {
      predefined_metric_type = "ALBRequestCountPerTarget"
      resource_label         = "${aws_lb.main.arn_suffix}/${aws_lb_target_group.web[each.key].arn_suffix}"
    }
  }
}

# Nothing to ignore: of a service without sides Switchback changes the version only, never the number of tasks.
resource "aws_appautoscaling_target" "workers" {
  count = var.autoscaling ? 1 : 0

  service_namespace  = "ecs"
  scalable_dimension = "ecs:service:DesiredCount"
  resource_id        = "service/${aws_ecs_cluster.main.name}/${aws_ecs_service.workers.name}"
  min_capacity       = var.minimum_tasks
  max_capacity       = var.maximum_tasks
}

resource "aws_appautoscaling_policy" "workers" {
  count = var.autoscaling ? 1 : 0

  name               = "skillancer-${var.environment}-workers-cpu"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.workers[0].service_namespace
  scalable_dimension = aws_appautoscaling_target.workers[0].scalable_dimension
  resource_id        = aws_appautoscaling_target.workers[0].resource_id

  target_tracking_scaling_policy_configuration {
    target_value       = 60
    scale_in_cooldown  = 300
    scale_out_cooldown = 60

    predefined_metric_specification {
      predefined_metric_type = "ECSServiceAverageCPUUtilization"
    }
  }
}
