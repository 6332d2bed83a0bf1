# Roles. Their names begin with `skillancer-`, which is the stack's parameter TaskRolePrefix: Switchback may hand these to tasks, and
# no others.

locals {
  # Which secrets each service may read.
  secrets_of = {
    api     = ["database", "redis", "external-apis"]
    web     = ["session"]
    workers = ["database", "redis", "external-apis"]
  }

  tasks_assume_role = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect    = "Allow"
        Action    = "sts:AssumeRole"
        Principal = { Service = "ecs-tasks.amazonaws.com" }
      },
    ]
  })
}

# What the code of a service may do.
resource "aws_iam_role" "task" {
  for_each = local.services

  name               = "skillancer-${var.environment}-${each.key}-task"
  assume_role_policy = local.tasks_assume_role
}

# A worker protects its own task from being stopped while it works on a job.
resource "aws_iam_role_policy" "workers_task" {
  name = "task-protection"
  role = aws_iam_role.task["workers"].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect   = "Allow"
        Action   = ["ecs:GetTaskProtection", "ecs:UpdateTaskProtection"]
        Resource = "arn:aws:ecs:${var.region}:${var.account}:task/skillancer-${var.environment}/*"
      },
    ]
  })
}

# What ECS does for a task: pull its image, read its secrets, ship its logs.
resource "aws_iam_role" "execution" {
  for_each = local.services

  name               = "skillancer-${var.environment}-${each.key}-execution"
  assume_role_policy = local.tasks_assume_role
}

resource "aws_iam_role_policy" "execution" {
  for_each = local.services

  name = "execution"
  role = aws_iam_role.execution[each.key].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect   = "Allow"
        Action   = "ecr:GetAuthorizationToken"
        Resource = "*"
      },
      {
        Effect   = "Allow"
        Action   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
        Resource = "arn:aws:ecr:${var.region}:${var.account}:repository/skillancer/${each.key}"
      },
      {
        Effect   = "Allow"
        Action   = "secretsmanager:GetSecretValue"
        Resource = [for name in local.secrets_of[each.key] : aws_secretsmanager_secret.main[name].arn]
      },
      {
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = "${aws_cloudwatch_log_group.service[each.key].arn}:*"
      },
    ]
  })
}

resource "aws_iam_role" "flow_logs" {
  name = "skillancer-${var.environment}-flow-logs"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect    = "Allow"
        Action    = "sts:AssumeRole"
        Principal = { Service = "vpc-flow-logs.amazonaws.com" }
        Condition = { StringEquals = { "aws:SourceAccount" = var.account } }
      },
    ]
  })
}

resource "aws_iam_role_policy" "flow_logs" {
  name = "flow-logs"
  role = aws_iam_role.flow_logs.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
        Resource = "${aws_cloudwatch_log_group.flow_logs.arn}:*"
      },
    ]
  })
}
