# Checks that Switchback calls while only test traffic reaches the candidate. The contract hook calls the backend as the
# frontend does, from a private subnet and with the frontend's security group: nothing else reaches the internal load
# balancer. The journey hook comes from the internet, as users do. Their names begin with the stack's HookPrefix.

data "archive_file" "hooks" {
  type        = "zip"
  source_file = "${path.module}/hooks/check.py"
  output_path = "${path.module}/.terraform/hooks.zip"
}

resource "aws_iam_role" "hooks" {
  name = "two-tier-hooks"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect    = "Allow"
        Action    = "sts:AssumeRole"
        Principal = { Service = "lambda.amazonaws.com" }
      }
    ]
  })
}

# Log lines, and network interfaces in the VPC.
resource "aws_iam_role_policy_attachment" "hooks" {
  role       = aws_iam_role.hooks.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AWSLambdaVPCAccessExecutionRole"
}

resource "aws_cloudwatch_log_group" "contract" {
  name              = "/aws/lambda/switchback-hook-two-tier-contract"
  retention_in_days = 30
}

resource "aws_lambda_function" "contract" {
  function_name    = "switchback-hook-two-tier-contract"
  role             = aws_iam_role.hooks.arn
  runtime          = "python3.13"
  architectures    = ["arm64"]
  handler          = "check.handler"
  filename         = data.archive_file.hooks.output_path
  source_code_hash = data.archive_file.hooks.output_base64sha256
  timeout          = 30

  environment {
    variables = {
      BASE_URL = "http://${aws_lb.backend.dns_name}:8080"
      PATHS    = "/health"
    }
  }

  vpc_config {
    subnet_ids         = [aws_subnet.private_a.id, aws_subnet.private_b.id]
    security_group_ids = [aws_security_group.frontend_task.id]
  }

  depends_on = [aws_cloudwatch_log_group.contract, aws_iam_role_policy_attachment.hooks]
}

resource "aws_cloudwatch_log_group" "journey" {
  name              = "/aws/lambda/switchback-hook-two-tier-journey"
  retention_in_days = 30
}

resource "aws_lambda_function" "journey" {
  function_name    = "switchback-hook-two-tier-journey"
  role             = aws_iam_role.hooks.arn
  runtime          = "python3.13"
  architectures    = ["arm64"]
  handler          = "check.handler"
  filename         = data.archive_file.hooks.output_path
  source_code_hash = data.archive_file.hooks.output_base64sha256
  timeout          = 30

  environment {
    variables = {
      BASE_URL = "http://${aws_lb.frontend.dns_name}:80"
      PATHS    = "/health,/"
    }
  }

  depends_on = [aws_cloudwatch_log_group.journey, aws_iam_role_policy_attachment.hooks]
}
