# PostgreSQL, Redis, and secrets. Switchback reads and writes none of it; both sides of the API share it.

resource "aws_db_subnet_group" "main" {
  name       = "skillancer-${var.environment}"
  subnet_ids = [for subnet in aws_subnet.database : subnet.id]
}

resource "aws_db_instance" "main" {
  identifier                  = "skillancer-${var.environment}"
  engine                      = "postgres"
  engine_version              = "16"
  instance_class              = var.database_class
  storage_type                = "gp3"
  allocated_storage           = 100
  storage_encrypted           = true
  multi_az                    = var.replicated
  db_name                     = "skillancer"
  username                    = "administrator"
  manage_master_user_password = true
  db_subnet_group_name        = aws_db_subnet_group.main.name
  vpc_security_group_ids      = [aws_security_group.database.id]
  publicly_accessible         = false
  backup_retention_period     = 7
  deletion_protection         = true
  final_snapshot_identifier   = "skillancer-${var.environment}-final"
}

resource "aws_elasticache_subnet_group" "main" {
  name       = "skillancer-${var.environment}"
  subnet_ids = [for subnet in aws_subnet.database : subnet.id]
}

resource "aws_elasticache_replication_group" "main" {
  replication_group_id       = "skillancer-${var.environment}"
  description                = "Queues, caches and sessions"
  engine                     = "redis"
  engine_version             = "7.1"
  node_type                  = var.cache_class
  port                       = 6379
  num_cache_clusters         = var.replicated ? 3 : 1
  automatic_failover_enabled = var.replicated
  multi_az_enabled           = var.replicated
  at_rest_encryption_enabled = true
  transit_encryption_enabled = true
  subnet_group_name          = aws_elasticache_subnet_group.main.name
  security_group_ids         = [aws_security_group.database.id]
}

# Values are put by people. Task definitions refer to them by ARN; a task reads them when it starts.
resource "aws_secretsmanager_secret" "main" {
  for_each = toset(["database", "redis", "external-apis", "session"])

  name = "skillancer/${var.environment}/${each.key}"
}
