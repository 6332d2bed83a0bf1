//! The attributes that AWS computes when a resource is created, in AWS's own forms. Generated parts are derived from
//! the resource's identity, so that they are the same in every run.

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

/// Resources whose only computed attribute that matters is their ID, and how it begins.
const NUMBERED: [(&str, &str); 16] = [
    ("aws_cloudwatch_log_metric_filter", "filter"),
    ("aws_ecr_lifecycle_policy", "policy"),
    ("aws_flow_log", "fl"),
    ("aws_iam_role_policy", "policy"),
    ("aws_iam_role_policy_attachment", "attachment"),
    ("aws_internet_gateway", "igw"),
    ("aws_nat_gateway", "nat"),
    ("aws_route", "r"),
    ("aws_route_table", "rtb"),
    ("aws_route_table_association", "rtbassoc"),
    ("aws_security_group", "sg"),
    ("aws_subnet", "subnet"),
    ("aws_vpc", "vpc"),
    ("aws_vpc_endpoint", "vpce"),
    ("aws_vpc_security_group_egress_rule", "sgr"),
    ("aws_vpc_security_group_ingress_rule", "sgr"),
];

/// Resources whose ID is one of their attributes.
const NAMED: [(&str, &str); 5] = [
    ("aws_appautoscaling_target", "resource_id"),
    ("aws_db_instance", "identifier"),
    ("aws_db_subnet_group", "name"),
    ("aws_elasticache_replication_group", "replication_group_id"),
    ("aws_elasticache_subnet_group", "name"),
];

/// Resources with an ARN, the service and the kind of resource in it, and the attribute that ends it.
const WITH_ARN: [(&str, &str, &str, &str); 8] = [
    ("aws_appautoscaling_policy", "autoscaling", "scalingPolicy:", "name"),
    ("aws_cloudwatch_log_group", "logs", "log-group:", "name"),
    ("aws_cloudwatch_metric_alarm", "cloudwatch", "alarm:", "alarm_name"),
    ("aws_ecr_repository", "ecr", "repository/", "name"),
    ("aws_ecs_cluster", "ecs", "cluster/", "name"),
    ("aws_lambda_function", "lambda", "function:", "function_name"),
    ("aws_secretsmanager_secret", "secretsmanager", "secret:", "name"),
    ("aws_sns_topic", "sns", "", "name"),
];

/// An instance of a resource, and where it is created.
struct Created<'a> {
    address: &'a str,
    attributes: &'a Map<String, Value>,
    account: &'a str,
    region: &'a str,
}

/// The attributes that AWS computes for a resource of this kind.
///
/// # Errors
/// A reason: the kind is not known here, or an attribute that names the resource is missing.
pub(super) fn computed(
    kind: &str,
    address: &str,
    attributes: &Map<String, Value>,
    account: &str,
    region: &str,
) -> Result<Vec<(&'static str, Value)>, String> {
    let created = Created { address, attributes, account, region };
    if let Some((_, prefix)) = NUMBERED.iter().find(|(known, _)| *known == kind) {
        return Ok(created.numbered(prefix));
    }
    if let Some((_, attribute)) = NAMED.iter().find(|(known, _)| *known == kind) {
        return Ok(vec![("id", created.text(attribute)?.into())]);
    }
    if let Some((_, service, resource, attribute)) = WITH_ARN.iter().find(|(known, ..)| *known == kind) {
        return created.with_arn(kind, service, &format!("{resource}{}", created.text(attribute)?));
    }
    match kind {
        "aws_ecs_service" => {
            let cluster = created.text("cluster")?;
            let cluster = cluster.rsplit('/').next().unwrap_or(cluster);
            let id = created.arn("ecs", &format!("service/{cluster}/{}", created.text("name")?));
            Ok(vec![("id", id.into())])
        }
        "aws_ecs_task_definition" => {
            let family = created.text("family")?;
            let arn = created.arn("ecs", &format!("task-definition/{family}:1"));
            Ok(vec![("id", family.into()), ("arn", arn.into()), ("revision", 1.into())])
        }
        "aws_eip" => Ok([created.numbered("eipalloc"), vec![("public_ip", "203.0.113.10".into())]].concat()),
        "aws_iam_role" => {
            let name = created.text("name")?;
            Ok(vec![("id", name.into()), ("arn", format!("arn:aws:iam::{account}:role/{name}").into())])
        }
        "archive_file" => Ok(vec![("output_base64sha256", generated(created.text("source_file")?).into())]),
        "aws_lb" | "aws_lb_target_group" | "aws_lb_listener" | "aws_lb_listener_rule" => created.balancing(kind),
        _ => Err(format!("what AWS computes for `{kind}` is not known here")),
    }
}

impl Created<'_> {
    /// The text of an attribute that names the resource.
    fn text(&self, attribute: &str) -> Result<&str, String> {
        let value = self.attributes.get(attribute).and_then(Value::as_str);
        value.ok_or_else(|| format!("{} has no text `{attribute}`", self.address))
    }

    fn arn(&self, service: &str, resource: &str) -> String {
        format!("arn:aws:{service}:{}:{}:{resource}", self.region, self.account)
    }

    /// An ID such as `subnet-0123456789abcdef0`, derived from all attributes: names differ between environments.
    fn numbered(&self, prefix: &str) -> Vec<(&'static str, Value)> {
        let identity = format!("{} {}", self.address, Value::Object(self.attributes.clone()));
        vec![("id", format!("{prefix}-0{}", generated(&identity)).into())]
    }

    fn with_arn(&self, kind: &str, service: &str, resource: &str) -> Result<Vec<(&'static str, Value)>, String> {
        let arn = match kind {
            // Secrets Manager adds six random characters.
            "aws_secretsmanager_secret" => {
                self.arn(service, &format!("{resource}-{}", &generated(&format!("{service} {resource}"))[..6]))
            }
            _ => self.arn(service, resource),
        };
        let mut computed = vec![("id", arn.clone().into()), ("arn", arn.into())];
        if kind == "aws_ecr_repository" {
            let host = format!("{}.dkr.ecr.{}.amazonaws.com", self.account, self.region);
            computed.push(("repository_url", format!("{host}/{}", self.text("name")?).into()));
        }
        Ok(computed)
    }

    /// Load balancers and what belongs to them. The last parts of their ARNs are 16 hexadecimal digits.
    fn balancing(&self, kind: &str) -> Result<Vec<(&'static str, Value)>, String> {
        let service = "elasticloadbalancing";
        match kind {
            "aws_lb" => {
                let name = self.text("name")?;
                let dimension = format!("app/{name}/{}", generated(&format!("loadbalancer/app/{name}")));
                let arn = self.arn(service, &format!("loadbalancer/{dimension}"));
                let is_internal = self.attributes.get("internal") == Some(&Value::Bool(true));
                let prefix = if is_internal { "internal-" } else { "" };
                let dns = format!("{prefix}{name}-1234567890.{}.elb.amazonaws.com", self.region);
                let arn_suffix = ("arn_suffix", dimension.into());
                Ok(vec![("id", arn.clone().into()), ("arn", arn.into()), arn_suffix, ("dns_name", dns.into())])
            }
            "aws_lb_target_group" => {
                let name = self.text("name")?;
                let dimension = format!("targetgroup/{name}/{}", generated(&format!("targetgroup/{name}")));
                let arn = self.arn(service, &dimension);
                Ok(vec![("id", arn.clone().into()), ("arn", arn.into()), ("arn_suffix", dimension.into())])
            }
            "aws_lb_listener" => self.part_of("load_balancer_arn", ":loadbalancer/", ":listener/", "port"),
            _ => self.part_of("listener_arn", ":listener/", ":listener-rule/", "priority"),
        }
    }

    /// ID and ARN of a listener or rule: its parent's ARN with another kind and one more part. `number`: the attribute
    /// that tells it from others of the same parent.
    fn part_of(
        &self,
        parent: &str,
        parent_kind: &str,
        kind: &str,
        number: &str,
    ) -> Result<Vec<(&'static str, Value)>, String> {
        let parent = self.text(parent)?;
        let number = self.attributes.get(number).and_then(Value::as_u64);
        let number = number.ok_or_else(|| format!("{} has no number among others of {parent}", self.address))?;
        let stem = parent.replacen(parent_kind, kind, 1);
        let arn = format!("{stem}/{}", generated(&format!("{parent}:{number}")));
        Ok(vec![("id", arn.clone().into()), ("arn", arn.into())])
    }
}

/// 16 hexadecimal digits that are the same for the same identity.
fn generated(identity: &str) -> String {
    hex::encode(Sha256::digest(identity))[..16].to_owned()
}
