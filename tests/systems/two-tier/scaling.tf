# Limits follow the role, not the side: the side that serves has the minimum, the idle one 0, and Switchback hands them over
# at the end of a deployment. A minimum above a service's desired count starts tasks at once, so that blue begins with
# `live_tasks`; in an empty account, raise it after the first release (see README.md). There are no scheduled actions.

resource "aws_appautoscaling_target" "backend_blue" {
  service_namespace  = "ecs"
  scalable_dimension = "ecs:service:DesiredCount"
  resource_id        = "service/${aws_ecs_cluster.main.name}/${aws_ecs_service.backend_blue.name}"
  min_capacity       = var.live_tasks
  max_capacity       = 6

  lifecycle {
    ignore_changes = [min_capacity, max_capacity, suspended_state]
  }
}

resource "aws_appautoscaling_policy" "backend_blue_cpu" {
  name               = "backend-blue-cpu"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.backend_blue.service_namespace
  scalable_dimension = aws_appautoscaling_target.backend_blue.scalable_dimension
  resource_id        = aws_appautoscaling_target.backend_blue.resource_id

  target_tracking_scaling_policy_configuration {
    target_value       = 60
    scale_in_cooldown  = 300
    scale_out_cooldown = 60

    predefined_metric_specification {
      predefined_metric_type = "ECSServiceAverageCPUUtilization"
    }
  }
}

resource "aws_appautoscaling_target" "backend_green" {
  service_namespace  = "ecs"
  scalable_dimension = "ecs:service:DesiredCount"
  resource_id        = "service/${aws_ecs_cluster.main.name}/${aws_ecs_service.backend_green.name}"
  min_capacity       = 0
  max_capacity       = 6

  lifecycle {
    ignore_changes = [min_capacity, max_capacity, suspended_state]
  }
}

resource "aws_appautoscaling_policy" "backend_green_cpu" {
  name               = "backend-green-cpu"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.backend_green.service_namespace
  scalable_dimension = aws_appautoscaling_target.backend_green.scalable_dimension
  resource_id        = aws_appautoscaling_target.backend_green.resource_id

  target_tracking_scaling_policy_configuration {
    target_value       = 60
    scale_in_cooldown  = 300
    scale_out_cooldown = 60

    predefined_metric_specification {
      predefined_metric_type = "ECSServiceAverageCPUUtilization"
    }
  }
}

resource "aws_appautoscaling_target" "frontend_blue" {
  service_namespace  = "ecs"
  scalable_dimension = "ecs:service:DesiredCount"
  resource_id        = "service/${aws_ecs_cluster.main.name}/${aws_ecs_service.frontend_blue.name}"
  min_capacity       = var.live_tasks
  max_capacity       = 6

  lifecycle {
    ignore_changes = [min_capacity, max_capacity, suspended_state]
  }
}

resource "aws_appautoscaling_policy" "frontend_blue_cpu" {
  name               = "frontend-blue-cpu"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.frontend_blue.service_namespace
  scalable_dimension = aws_appautoscaling_target.frontend_blue.scalable_dimension
  resource_id        = aws_appautoscaling_target.frontend_blue.resource_id

  target_tracking_scaling_policy_configuration {
    target_value       = 60
    scale_in_cooldown  = 300
    scale_out_cooldown = 60

    predefined_metric_specification {
      predefined_metric_type = "ECSServiceAverageCPUUtilization"
    }
  }
}

resource "aws_appautoscaling_target" "frontend_green" {
  service_namespace  = "ecs"
  scalable_dimension = "ecs:service:DesiredCount"
  resource_id        = "service/${aws_ecs_cluster.main.name}/${aws_ecs_service.frontend_green.name}"
  min_capacity       = 0
  max_capacity       = 6

  lifecycle {
    ignore_changes = [min_capacity, max_capacity, suspended_state]
  }
}

resource "aws_appautoscaling_policy" "frontend_green_cpu" {
  name               = "frontend-green-cpu"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.frontend_green.service_namespace
  scalable_dimension = aws_appautoscaling_target.frontend_green.scalable_dimension
  resource_id        = aws_appautoscaling_target.frontend_green.resource_id

  target_tracking_scaling_policy_configuration {
    target_value       = 60
    scale_in_cooldown  = 300
    scale_out_cooldown = 60

    predefined_metric_specification {
      predefined_metric_type = "ECSServiceAverageCPUUtilization"
    }
  }
}
