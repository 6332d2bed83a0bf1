# internet :80 -> frontend ALB :3000 -> frontend tasks :8080 -> backend ALB :8000 -> backend tasks
#
# Only the component in front may talk to the next one. Blue and green of a tier share the tier's security group, so that a
# deployment changes none. Rules are resources of their own: two groups that name each other cannot be written inline.

resource "aws_security_group" "frontend_alb" {
  name        = "two-tier-frontend-alb"
  description = "Public load balancer"
  vpc_id      = aws_vpc.main.id
}

resource "aws_security_group" "frontend_task" {
  name        = "two-tier-frontend-task"
  description = "Frontend tasks, and the contract hook, which calls the backend as they do"
  vpc_id      = aws_vpc.main.id
}

resource "aws_security_group" "backend_alb" {
  name        = "two-tier-backend-alb"
  description = "Internal load balancer"
  vpc_id      = aws_vpc.main.id
}

resource "aws_security_group" "backend_task" {
  name        = "two-tier-backend-task"
  description = "Backend tasks"
  vpc_id      = aws_vpc.main.id
}

resource "aws_vpc_security_group_ingress_rule" "frontend_alb_from_internet" {
  security_group_id = aws_security_group.frontend_alb.id
  description       = "HTTP from anywhere"
  ip_protocol       = "tcp"
  from_port         = 80
  to_port           = 80
  cidr_ipv4         = "0.0.0.0/0"
}

resource "aws_vpc_security_group_egress_rule" "frontend_alb_to_frontend_task" {
  security_group_id            = aws_security_group.frontend_alb.id
  description                  = "Frontend container port"
  ip_protocol                  = "tcp"
  from_port                    = 3000
  to_port                      = 3000
  referenced_security_group_id = aws_security_group.frontend_task.id
}

resource "aws_vpc_security_group_ingress_rule" "frontend_task_from_frontend_alb" {
  security_group_id            = aws_security_group.frontend_task.id
  description                  = "Frontend container port"
  ip_protocol                  = "tcp"
  from_port                    = 3000
  to_port                      = 3000
  referenced_security_group_id = aws_security_group.frontend_alb.id
}

resource "aws_vpc_security_group_egress_rule" "frontend_task_to_backend_alb" {
  security_group_id            = aws_security_group.frontend_task.id
  description                  = "Backend listener port"
  ip_protocol                  = "tcp"
  from_port                    = 8080
  to_port                      = 8080
  referenced_security_group_id = aws_security_group.backend_alb.id
}

resource "aws_vpc_security_group_egress_rule" "frontend_task_to_nat" {
  security_group_id = aws_security_group.frontend_task.id
  description       = "ECR, Secrets Manager, CloudWatch Logs and external APIs through NAT"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = "0.0.0.0/0"
}

resource "aws_vpc_security_group_ingress_rule" "backend_alb_from_frontend_task" {
  security_group_id            = aws_security_group.backend_alb.id
  description                  = "Backend listener port"
  ip_protocol                  = "tcp"
  from_port                    = 8080
  to_port                      = 8080
  referenced_security_group_id = aws_security_group.frontend_task.id
}

resource "aws_vpc_security_group_egress_rule" "backend_alb_to_backend_task" {
  security_group_id            = aws_security_group.backend_alb.id
  description                  = "Backend container port"
  ip_protocol                  = "tcp"
  from_port                    = 8000
  to_port                      = 8000
  referenced_security_group_id = aws_security_group.backend_task.id
}

resource "aws_vpc_security_group_ingress_rule" "backend_task_from_backend_alb" {
  security_group_id            = aws_security_group.backend_task.id
  description                  = "Backend container port"
  ip_protocol                  = "tcp"
  from_port                    = 8000
  to_port                      = 8000
  referenced_security_group_id = aws_security_group.backend_alb.id
}

resource "aws_vpc_security_group_egress_rule" "backend_task_to_nat" {
  security_group_id = aws_security_group.backend_task.id
  description       = "ECR, Secrets Manager, CloudWatch Logs and external APIs through NAT"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = "0.0.0.0/0"
}
