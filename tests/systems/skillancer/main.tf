# Skillancer: API, Web and Workers on ECS Fargate behind one Application Load Balancer, prepared for Switchback.
#
# It cannot be applied in the test environment, which has no AWS: a test parses it, compares it with switchback.yaml and with
# what `switchback doctor` prints, and builds the simulated world from it.
#
# This folder describes one environment; dev.tfvars, staging.tfvars and prod.tfvars are the three of them. What exists once in
# the account (image repositories, the notification topic) is in account/.

terraform {
  required_version = ">= 1.6"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
  }
}

provider "aws" {
  region              = var.region
  allowed_account_ids = [var.account]

  default_tags {
    tags = {
      application = "skillancer"
      environment = var.environment
    }
  }
}

locals {
  # The two sides of API and of Web. One block describes both, so that they cannot differ.
  sides = toset(["blue", "green"])

  services = toset(["api", "web", "workers"])

  # Images are referred to by this host. The tag in the task definitions is never pulled: Switchback registers a revision with the
  # release's digest in its place.
  registry = "${var.account}.dkr.ecr.${var.region}.amazonaws.com"

  # Ports of the containers, which are the ports of the target groups as well.
  api_port = 8080
  web_port = 3000
}
