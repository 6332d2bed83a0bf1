# VPC, subnets of three tiers in three zones, NAT, VPC endpoints, flow logs. Switchback touches none of it.

locals {
  # Subnets of each tier, by zone.
  public_subnets = {
    a = "10.0.0.0/20"
    b = "10.0.16.0/20"
    c = "10.0.32.0/20"
  }
  private_subnets = {
    a = "10.0.48.0/20"
    b = "10.0.64.0/20"
    c = "10.0.80.0/20"
  }
  database_subnets = {
    a = "10.0.96.0/20"
    b = "10.0.112.0/20"
    c = "10.0.128.0/20"
  }
}

resource "aws_vpc" "main" {
  cidr_block           = "10.0.0.0/16"
  enable_dns_support   = true
  enable_dns_hostnames = true

  tags = { Name = "skillancer-${var.environment}" }
}

resource "aws_internet_gateway" "main" {
  vpc_id = aws_vpc.main.id

  tags = { Name = "skillancer-${var.environment}" }
}

resource "aws_subnet" "public" {
  for_each = local.public_subnets

  vpc_id            = aws_vpc.main.id
  cidr_block        = each.value
  availability_zone = "${var.region}${each.key}"

  tags = { Name = "skillancer-${var.environment}-public-${each.key}" }
}

resource "aws_subnet" "private" {
  for_each = local.private_subnets

  vpc_id            = aws_vpc.main.id
  cidr_block        = each.value
  availability_zone = "${var.region}${each.key}"

  tags = { Name = "skillancer-${var.environment}-private-${each.key}" }
}

resource "aws_subnet" "database" {
  for_each = local.database_subnets

  vpc_id            = aws_vpc.main.id
  cidr_block        = each.value
  availability_zone = "${var.region}${each.key}"

  tags = { Name = "skillancer-${var.environment}-database-${each.key}" }
}

resource "aws_route_table" "public" {
  vpc_id = aws_vpc.main.id

  tags = { Name = "skillancer-${var.environment}-public" }
}

resource "aws_route" "public_to_internet" {
  route_table_id         = aws_route_table.public.id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.main.id
}

resource "aws_route_table_association" "public" {
  for_each = local.public_subnets

  subnet_id      = aws_subnet.public[each.key].id
  route_table_id = aws_route_table.public.id
}

resource "aws_eip" "nat" {
  for_each = toset(var.nat_zones)

  domain = "vpc"

  tags = { Name = "skillancer-${var.environment}-nat-${each.key}" }
}

resource "aws_nat_gateway" "main" {
  for_each = toset(var.nat_zones)

  allocation_id = aws_eip.nat[each.key].id
  subnet_id     = aws_subnet.public[each.key].id

  tags = { Name = "skillancer-${var.environment}-${each.key}" }

  depends_on = [aws_internet_gateway.main]
}

resource "aws_route_table" "private" {
  for_each = local.private_subnets

  vpc_id = aws_vpc.main.id

  tags = { Name = "skillancer-${var.environment}-private-${each.key}" }
}

# Through the zone's own NAT gateway where there is one, otherwise through the only one.
resource "aws_route" "private_to_nat" {
  for_each = local.private_subnets

  route_table_id         = aws_route_table.private[each.key].id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = aws_nat_gateway.main[contains(var.nat_zones, each.key) ? each.key : var.nat_zones[0]].id
}

resource "aws_route_table_association" "private" {
  for_each = local.private_subnets

  subnet_id      = aws_subnet.private[each.key].id
  route_table_id = aws_route_table.private[each.key].id
}

# No default route: neither in nor out.
resource "aws_route_table" "database" {
  vpc_id = aws_vpc.main.id

  tags = { Name = "skillancer-${var.environment}-database" }
}

resource "aws_route_table_association" "database" {
  for_each = local.database_subnets

  subnet_id      = aws_subnet.database[each.key].id
  route_table_id = aws_route_table.database.id
}

resource "aws_vpc_endpoint" "gateway" {
  for_each = toset(["s3", "dynamodb"])

  vpc_id            = aws_vpc.main.id
  service_name      = "com.amazonaws.${var.region}.${each.key}"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = [for table in aws_route_table.private : table.id]

  tags = { Name = "skillancer-${var.environment}-${each.key}" }
}

resource "aws_vpc_endpoint" "interface" {
  for_each = toset(var.interface_endpoints ? ["ecr.api", "ecr.dkr", "secretsmanager", "logs"] : [])

  vpc_id              = aws_vpc.main.id
  service_name        = "com.amazonaws.${var.region}.${each.key}"
  vpc_endpoint_type   = "Interface"
  private_dns_enabled = true
  subnet_ids          = [for subnet in aws_subnet.private : subnet.id]
  security_group_ids  = [aws_security_group.endpoints.id]

  tags = { Name = "skillancer-${var.environment}-${each.key}" }
}

resource "aws_cloudwatch_log_group" "flow_logs" {
  name              = "/skillancer/${var.environment}/vpc-flow-logs"
  retention_in_days = var.log_retention_days
}

resource "aws_flow_log" "cloudwatch" {
  vpc_id               = aws_vpc.main.id
  traffic_type         = "ALL"
  log_destination_type = "cloud-watch-logs"
  log_destination      = aws_cloudwatch_log_group.flow_logs.arn
  iam_role_arn         = aws_iam_role.flow_logs.arn
}

resource "aws_flow_log" "s3" {
  count = var.flow_log_bucket_arn == null ? 0 : 1

  vpc_id               = aws_vpc.main.id
  traffic_type         = "ALL"
  log_destination_type = "s3"
  log_destination      = var.flow_log_bucket_arn
}
