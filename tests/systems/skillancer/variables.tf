variable "environment" {
  description = "Part of almost every name: dev, staging or prod."
  type        = string

  validation {
    condition     = contains(["dev", "staging", "prod"], var.environment)
    error_message = "The environment is dev, staging or prod."
  }
}

variable "account" {
  description = "The AWS account, 12 digits."
  type        = string
}

variable "region" {
  description = "The AWS Region. Its zones a, b and c are used."
  type        = string
  default     = "us-east-1"
}

variable "domain" {
  description = "The host name that the certificate is for and that points at the load balancer."
  type        = string
}

variable "certificate_arn" {
  description = "The ACM certificate of the HTTPS listener."
  type        = string
}

variable "nat_zones" {
  description = "The zones that have a NAT gateway: one in dev and staging, all three in prod."
  type        = list(string)
}

variable "interface_endpoints" {
  description = "Whether ECR, Secrets Manager and CloudWatch Logs are reached through interface endpoints rather than NAT."
  type        = bool
}

variable "bastion_security_group_id" {
  description = "A bastion's security group, which may then reach PostgreSQL. Default: there is no bastion."
  type        = string
  default     = null
}

variable "log_retention_days" {
  description = "Retention of application logs and VPC Flow Logs."
  type        = number
  default     = 30
}

variable "flow_log_bucket_arn" {
  description = "An S3 bucket that VPC Flow Logs are exported to as well, for Athena. Default: no export."
  type        = string
  default     = null
}

variable "autoscaling" {
  # A minimum above 0 would start tasks of an image that does not exist.
  description = "Whether scalable targets exist: false until all three services have had their first deployment."
  type        = bool
  default     = true
}

variable "minimum_tasks" {
  description = "Fewest tasks of each service; of a pair, on the live side. The idle side has 0."
  type        = number
}

variable "maximum_tasks" {
  description = "Most tasks of each service, on either side of a pair."
  type        = number
}

variable "database_class" {
  description = "RDS instance class."
  type        = string
}

variable "database_connections_alarm" {
  # While both sides of the API run, it has up to twice as many as otherwise.
  description = "Open connections above which no deployment starts or shifts more traffic."
  type        = number
}

variable "cache_class" {
  description = "ElastiCache node type."
  type        = string
}

variable "replicated" {
  description = "Whether RDS has a standby, and ElastiCache a replica in each other zone."
  type        = bool
}
