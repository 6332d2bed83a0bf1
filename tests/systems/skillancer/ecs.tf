# Cluster, task definitions and services.
#
# Terraform owns everything in a task definition but the image. After a change here, `terraform apply` registers a revision of the
# family that no service runs yet. Switchback uses the newest of these as the template of the next release, and can deploy it with the
# image that is already live (`switchback deploy TARGET --configuration`).

resource "aws_ecs_cluster" "main" {
  name = "skillancer-${var.environment}"
}

resource "aws_cloudwatch_log_group" "service" {
  for_each = local.services

  name              = "/skillancer/${var.environment}/${each.key}"
  retention_in_days = var.log_retention_days
}

resource "aws_ecs_task_definition" "api" {
  family                   = "skillancer-${var.environment}-api"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = "512"
  memory                   = "1024"
  task_role_arn            = aws_iam_role.task["api"].arn
  execution_role_arn       = aws_iam_role.execution["api"].arn

  # Keeps earlier revisions active: a rollback may need them.
  skip_destroy = true

  container_definitions = jsonencode([
    {
      name      = "api"
      image     = "${local.registry}/skillancer/api:unreleased"
      essential = true
      portMappings = [
        { containerPort = local.api_port, protocol = "tcp" },
      ]
      environment = [
        { name = "PORT", value = tostring(local.api_port) },
        { name = "PUBLIC_URL", value = "https://${var.domain}" },
      ]
      secrets = [
        { name = "DATABASE_URL", valueFrom = aws_secretsmanager_secret.main["database"].arn },
        { name = "REDIS_URL", valueFrom = aws_secretsmanager_secret.main["redis"].arn },
        { name = "EXTERNAL_API_KEYS", valueFrom = aws_secretsmanager_secret.main["external-apis"].arn },
      ]
      logConfiguration = {
        logDriver = "awslogs"
        options = {
          "awslogs-group"         = aws_cloudwatch_log_group.service["api"].name
          "awslogs-region"        = var.region
          "awslogs-stream-prefix" = "api"
        }
      }
    },
  ])
}

resource "aws_ecs_task_definition" "web" {
  family                   = "skillancer-${var.environment}-web"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = "256"
  memory                   = "512"
  task_role_arn            = aws_iam_role.task["web"].arn
  execution_role_arn       = aws_iam_role.execution["web"].arn

  # Keeps earlier revisions active: a rollback may need them.
  skip_destroy = true

  # API_URL is the load balancer's, so that its weights hold for calls from Web to the API as well.
  container_definitions = jsonencode([
    {
      name      = "web"
      image     = "${local.registry}/skillancer/web:unreleased"
      essential = true
      portMappings = [
        { containerPort = local.web_port, protocol = "tcp" },
      ]
      environment = [
        { name = "PORT", value = tostring(local.web_port) },
        { name = "PUBLIC_URL", value = "https://${var.domain}" },
        { name = "API_URL", value = "https://${var.domain}/api" },
      ]
      secrets = [
        { name = "SESSION_SECRET", valueFrom = aws_secretsmanager_secret.main["session"].arn },
      ]
      logConfiguration = {
        logDriver = "awslogs"
        options = {
          "awslogs-group"         = aws_cloudwatch_log_group.service["web"].name
          "awslogs-region"        = var.region
          "awslogs-stream-prefix" = "web"
        }
      }
    },
  ])
}

resource "aws_ecs_task_definition" "workers" {
  family                   = "skillancer-${var.environment}-workers"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = "512"
  memory                   = "1024"
  task_role_arn            = aws_iam_role.task["workers"].arn
  execution_role_arn       = aws_iam_role.execution["workers"].arn

  # Keeps earlier revisions active: a rollback may need them.
  skip_destroy = true

  # No load balancer checks a worker, and without `healthCheck` ECS considers a task healthy 40 seconds after it started. The worker
  # touches the heartbeat file between jobs and, during a job, from a timer. On SIGTERM it takes no further job, and has `stopTimeout`
  # to finish the current one or to put it back; around longer jobs it sets task protection.
  container_definitions = jsonencode([
    {
      name      = "worker"
      image     = "${local.registry}/skillancer/workers:unreleased"
      essential = true
      healthCheck = {
        command     = ["CMD-SHELL", "test $(( $(date +%s) - $(stat -c %Y /tmp/heartbeat) )) -lt 60"]
        interval    = 15
        timeout     = 5
        retries     = 3
        startPeriod = 60
      }
      stopTimeout = 120
      secrets = [
        { name = "DATABASE_URL", valueFrom = aws_secretsmanager_secret.main["database"].arn },
        { name = "REDIS_URL", valueFrom = aws_secretsmanager_secret.main["redis"].arn },
        { name = "EXTERNAL_API_KEYS", valueFrom = aws_secretsmanager_secret.main["external-apis"].arn },
      ]
      logConfiguration = {
        logDriver = "awslogs"
        options = {
          "awslogs-group"         = aws_cloudwatch_log_group.service["workers"].name
          "awslogs-region"        = var.region
          "awslogs-stream-prefix" = "workers"
        }
      }
    },
  ])
}

# The sides are not in Cloud Map, Service Connect or VPC Lattice: callers inside would reach the idle side's tasks at weight 0.
resource "aws_ecs_service" "api" {
  for_each = local.sides

  name                               = "api-${each.key}"
  cluster                            = aws_ecs_cluster.main.arn
  task_definition                    = aws_ecs_task_definition.api.arn
  launch_type                        = "FARGATE"
  desired_count                      = 0
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200
  health_check_grace_period_seconds  = 60

  # Without `rollback`: Switchback rolls back.
  deployment_circuit_breaker {
    enable   = true
    rollback = false
  }

  network_configuration {
    subnets          = [for subnet in aws_subnet.private : subnet.id]
    security_groups  = [aws_security_group.tasks.id]
    assign_public_ip = false
  }

  load_balancer {
    target_group_arn = aws_lb_target_group.api[each.key].arn
    container_name   = "api"
    container_port   = local.api_port
  }

  # Switchback owns both.
  lifecycle {
    ignore_changes = [task_definition, desired_count]
  }

  # ECS refuses a service whose target group has no load balancer.
  depends_on = [aws_lb_listener_rule.api, aws_iam_role_policy.execution]
}

resource "aws_ecs_service" "web" {
  for_each = local.sides

  name                               = "web-${each.key}"
  cluster                            = aws_ecs_cluster.main.arn
  task_definition                    = aws_ecs_task_definition.web.arn
  launch_type                        = "FARGATE"
  desired_count                      = 0
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200
  health_check_grace_period_seconds  = 60

  # Without `rollback`: Switchback rolls back.
  deployment_circuit_breaker {
    enable   = true
    rollback = false
  }

  network_configuration {
    subnets          = [for subnet in aws_subnet.private : subnet.id]
    security_groups  = [aws_security_group.tasks.id]
    assign_public_ip = false
  }

  load_balancer {
    target_group_arn = aws_lb_target_group.web[each.key].arn
    container_name   = "web"
    container_port   = local.web_port
  }

  # Switchback owns both.
  lifecycle {
    ignore_changes = [task_definition, desired_count]
  }

  # ECS refuses a service whose target group has no load balancer.
  depends_on = [aws_lb_listener_rule.web, aws_iam_role_policy.execution]
}

# One service, replaced in place: new workers start before old ones stop, so two releases take jobs from one queue for a while.
resource "aws_ecs_service" "workers" {
  name                               = "workers"
  cluster                            = aws_ecs_cluster.main.arn
  task_definition                    = aws_ecs_task_definition.workers.arn
  launch_type                        = "FARGATE"
  desired_count                      = 0
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200

  # Without `rollback`: Switchback rolls back. The breaker resets its count whenever a task starts well; Switchback counts stopped
  # tasks itself.
  deployment_circuit_breaker {
    enable   = true
    rollback = false
  }

  network_configuration {
    subnets          = [for subnet in aws_subnet.private : subnet.id]
    security_groups  = [aws_security_group.tasks.id]
    assign_public_ip = false
  }

  # Switchback owns the task definition. The count is autoscaling's, and the first deployment's.
  lifecycle {
    ignore_changes = [task_definition, desired_count]
  }

  depends_on = [aws_iam_role_policy.execution]
}
