# This configuration cannot be applied in the test environment, which reaches no AWS account and no Terraform registry: a test
# parses it and checks names, ARNs, ports, the security-group chain and every `ignore_changes` against `switchback.yaml`.
#
# Terraform owns everything here except what Switchback changes while it deploys: the weights of two listeners and two test
# rules, the task definition and desired count of four services, and the limits of four scalable targets. These attributes
# are under `ignore_changes`; `switchback doctor` prints the same list.
#
# Account and Region are examples. Change them here and in `switchback.yaml`.

terraform {
  required_version = ">= 1.5"

  required_providers {
    archive = {
      source  = "hashicorp/archive"
      version = "~> 2.4"
    }
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
  }
}

provider "aws" {
  region              = "us-east-1"
  allowed_account_ids = ["111122223333"]

  default_tags {
    tags = {
      application = "two-tier"
    }
  }
}

variable "live_tasks" {
  description = "Tasks of each blue service when it is created. 0: an empty account, where Switchback brings the first release. 2 or more: blue serves an image that exists already."
  type        = number
  default     = 0
}

variable "image_tag" {
  description = "Image tag in the task definitions that Terraform registers. Switchback replaces it with the digest of a release; it runs only if live_tasks is not 0."
  type        = string
  default     = "v1"
}

resource "aws_ecs_cluster" "main" {
  name = "two-tier"
}

# Switchback publishes to topics whose name begins with the stack's TopicPrefix.
resource "aws_sns_topic" "deployments" {
  name = "switchback-two-tier"
}
