# What Skillancer has once in the account, for all environments: image repositories, the role that pushes to them, and the topic that
# people are notified by. A root module of its own: apply it first, with a state of its own. As the folder above, it cannot be applied
# in the test environment, and is parsed and checked by a test.

terraform {
  required_version = ">= 1.6"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
  }
}

variable "account" {
  description = "The AWS account, 12 digits."
  type        = string
  default     = "111122223333"
}

variable "region" {
  description = "The AWS Region."
  type        = string
  default     = "us-east-1"
}

variable "github_oidc_provider_arn" {
  description = "The account's OIDC provider for token.actions.githubusercontent.com, of which there is one an account."
  type        = string
  default     = "arn:aws:iam::111122223333:oidc-provider/token.actions.githubusercontent.com"
}

variable "github_repository" {
  description = "The GitHub repository whose tags v* are built and pushed."
  type        = string
  default     = "skillancer/platform"
}

provider "aws" {
  region              = var.region
  allowed_account_ids = [var.account]

  default_tags {
    tags = {
      application = "skillancer"
    }
  }
}

locals {
  # Nothing expires an image with a release tag (v1.4.0): what is live, and what a rollback would start, must stay.
  lifecycle_policy = jsonencode({
    rules = [
      {
        rulePriority = 1
        description  = "Images without a tag"
        selection = {
          tagStatus   = "untagged"
          countType   = "sinceImagePushed"
          countUnit   = "days"
          countNumber = 14
        }
        action = { type = "expire" }
      },
      {
        rulePriority = 2
        description  = "Images of pull requests"
        selection = {
          tagStatus      = "tagged"
          tagPatternList = ["pr-*"]
          countType      = "sinceImagePushed"
          countUnit      = "days"
          countNumber    = 14
        }
        action = { type = "expire" }
      },
    ]
  })
}

resource "aws_ecr_repository" "api" {
  name                 = "skillancer/api"
  image_tag_mutability = "IMMUTABLE"

  image_scanning_configuration {
    scan_on_push = true
  }
}

resource "aws_ecr_lifecycle_policy" "api" {
  repository = aws_ecr_repository.api.name
  policy     = local.lifecycle_policy
}

resource "aws_ecr_repository" "web" {
  name                 = "skillancer/web"
  image_tag_mutability = "IMMUTABLE"

  image_scanning_configuration {
    scan_on_push = true
  }
}

resource "aws_ecr_lifecycle_policy" "web" {
  repository = aws_ecr_repository.web.name
  policy     = local.lifecycle_policy
}

resource "aws_ecr_repository" "workers" {
  name                 = "skillancer/workers"
  image_tag_mutability = "IMMUTABLE"

  image_scanning_configuration {
    scan_on_push = true
  }
}

resource "aws_ecr_lifecycle_policy" "workers" {
  repository = aws_ecr_repository.workers.name
  policy     = local.lifecycle_policy
}

# Workflows push images, and deploy nothing: what is pushed becomes a release, and promotions are asked for at Switchback's own
# endpoint. The name does not begin with `skillancer-`, so that Switchback cannot hand the role to tasks.
resource "aws_iam_role" "github_push" {
  name = "github-push-skillancer"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect    = "Allow"
        Action    = "sts:AssumeRoleWithWebIdentity"
        Principal = { Federated = var.github_oidc_provider_arn }
        Condition = {
          StringEquals = { "token.actions.githubusercontent.com:aud" = "sts.amazonaws.com" }
          StringLike   = { "token.actions.githubusercontent.com:sub" = "repo:${var.github_repository}:ref:refs/tags/v*" }
        }
      },
    ]
  })
}

resource "aws_iam_role_policy" "github_push" {
  name = "push-images"
  role = aws_iam_role.github_push.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect   = "Allow"
        Action   = "ecr:GetAuthorizationToken"
        Resource = "*"
      },
      {
        Effect = "Allow"
        Action = [
          "ecr:BatchCheckLayerAvailability",
          "ecr:BatchGetImage",
          "ecr:CompleteLayerUpload",
          "ecr:InitiateLayerUpload",
          "ecr:PutImage",
          "ecr:UploadLayerPart",
        ]
        Resource = [aws_ecr_repository.api.arn, aws_ecr_repository.web.arn, aws_ecr_repository.workers.arn]
      },
    ]
  })
}

# Its name begins with the stack's parameter TopicPrefix.
resource "aws_sns_topic" "deployments" {
  name = "switchback-skillancer"
}
