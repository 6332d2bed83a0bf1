//! Shapes of the AWS names in the file, and the known Regions. Whether the named resources exist is checked when a target is
//! first inspected.

use crate::values;
use rollout::regions::{PARTITIONS, partition_of, regions};
use rollout::template::VERSIONS_SUFFIX;

/// Longest name of a cluster, a service, a container, and a family of task definitions (ECS API reference).
const MAX_ECS_NAME: usize = 255;

/// An ARN, split into its parts (AWS General Reference, "Amazon Resource Names").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arn<'a> {
    partition: &'a str,
    region: &'a str,
    account: &'a str,
    resource: &'a str,
}

/// Partition, Region and account of an ARN: all resources of a target must agree in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ArnLocation<'a> {
    partition: &'a str,
    region: &'a str,
    account: &'a str,
}

impl std::fmt::Display for ArnLocation<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of account {}", self.region, self.account)
    }
}

impl<'a> ArnLocation<'a> {
    /// The partition, shown where two locations differ in nothing else.
    pub(crate) fn partition(&self) -> &'a str {
        self.partition
    }
}

impl<'a> Arn<'a> {
    /// Returns the ARN if its partition exists and has its Region.
    fn known(self) -> Result<Self, String> {
        let names = || PARTITIONS.iter().map(|partition| partition.name).collect::<Vec<_>>();
        let Some(partition) = PARTITIONS.iter().find(|partition| partition.name == self.partition) else {
            return Err(format!(
                "there is no partition `{}`: an ARN begins with `arn:aws:`, or with one of {} in place of `aws`",
                values::shorten(self.partition),
                names()[1..].iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
            ));
        };
        match partition_of(self.region) {
            Some(actual) if actual.name == partition.name => Ok(self),
            Some(actual) => Err(format!(
                "the Region `{}` is of the partition `{}`, and this ARN says `{}`: it begins with `arn:{}:` there",
                self.region, actual.name, partition.name, actual.name
            )),
            None => {
                let all: Vec<&str> = regions().collect();
                let hint = match values::nearest_word(self.region, &all) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "write a Region such as `eu-central-1`".to_owned(),
                };
                Err(format!("there is no Region `{}`: {hint}", values::shorten(self.region)))
            }
        }
    }

    fn parse(text: &'a str, service: &str) -> Option<Self> {
        let mut parts = text.splitn(6, ':');
        let arn = parts.next()?;
        let (partition, found_service) = (parts.next()?, parts.next()?);
        let (region, account, resource) = (parts.next()?, parts.next()?, parts.next()?);
        let valid = arn == "arn"
            && partition.starts_with("aws")
            && found_service == service
            && !region.is_empty()
            && region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && account.len() == 12
            && account.bytes().all(|b| b.is_ascii_digit());
        valid.then_some(Self { partition, region, account, resource })
    }

    pub(crate) fn location(&self) -> ArnLocation<'a> {
        ArnLocation { partition: self.partition, region: self.region, account: self.account }
    }
}

fn is_word(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// Parses a target group's ARN.
pub(crate) fn target_group(text: &str) -> Result<Arn<'_>, String> {
    Arn::parse(text, "elasticloadbalancing")
        .filter(|arn| {
            let mut parts = arn.resource.split('/');
            parts.next() == Some("targetgroup")
                && parts.next().is_some_and(|name| is_word(name, 32))
                && parts.next().is_some_and(|id| is_word(id, 64))
                && parts.next().is_none()
        })
        .ok_or_else(|| {
            "expected the ARN of a target group, such as `arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/api-blue/0123456789abcdef`".to_owned()
        })
        .and_then(Arn::known)
}

/// Parts of a rule's or a listener's ARN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RuleOrListener<'a> {
    pub(crate) arn: Arn<'a>,
    /// `app` or `net`, name and ID of its load balancer.
    pub(crate) load_balancer: (&'a str, &'a str, &'a str),
}

/// Parses the ARN of a listener rule of an Application Load Balancer, or of a listener of an Application or a Network
/// Load Balancer.
pub(crate) fn rule_or_listener(text: &str) -> Result<RuleOrListener<'_>, String> {
    let wrong = || {
        "expected the ARN of a listener rule of an Application Load Balancer, or of a listener, such as \
         `arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener-rule/app/shop/0123456789abcdef/0123456789abcdef/0123456789abcdef`"
            .to_owned()
    };
    let shape = Arn::parse(text, "elasticloadbalancing").ok_or_else(wrong)?;
    let arn = || shape.known();
    let parts: Vec<&str> = shape.resource.split('/').collect();
    match parts.as_slice() {
        ["listener", "gwy", ..] => {
            Err("this is a Gateway Load Balancer's: it has no weights for two target groups".to_owned())
        }
        ["listener", kind @ ("app" | "net"), name, ids @ ..]
            if ids.len() == 2 && ids.iter().all(|id| is_word(id, 64)) && is_word(name, 32) =>
        {
            Ok(RuleOrListener { arn: arn()?, load_balancer: (kind, name, ids[0]) })
        }
        ["listener-rule", "app", name, ids @ ..]
            if ids.len() == 3 && ids.iter().all(|id| is_word(id, 64)) && is_word(name, 32) =>
        {
            Ok(RuleOrListener { arn: arn()?, load_balancer: ("app", name, ids[0]) })
        }
        _ => Err(wrong()),
    }
}

/// Parses a cluster's name (`None`: no location) or ARN.
pub(crate) fn cluster(text: &str) -> Result<Option<Arn<'_>>, String> {
    if is_word(text, MAX_ECS_NAME) {
        return Ok(None);
    }
    Arn::parse(text, "ecs")
        .filter(|arn| arn.resource.strip_prefix("cluster/").is_some_and(|name| is_word(name, MAX_ECS_NAME)))
        .ok_or_else(|| "expected the name or the ARN of an ECS cluster".to_owned())
        .and_then(Arn::known)
        .map(Some)
}

/// Checks the name of an ECS service.
pub(crate) fn ecs_service(text: &str) -> Result<(), String> {
    ecs_name(text, MAX_ECS_NAME, "the name of an ECS service")
}

/// Checks the name of a container.
pub(crate) fn container(text: &str) -> Result<(), String> {
    ecs_name(text, MAX_ECS_NAME, "the name of a container")
}

/// Checks the name of a family of templates.
pub(crate) fn template_family(text: &str) -> Result<(), String> {
    ecs_name(text, MAX_ECS_NAME - VERSIONS_SUFFIX.len(), "the name of a family of task definitions")
}

fn ecs_name(text: &str, longest: usize, description: &str) -> Result<(), String> {
    is_word(text, longest).then_some(()).ok_or_else(|| {
        format!(
            "expected {description}: letters, digits, `-` and `_`, at most {longest} characters; found `{}`",
            values::shorten(text)
        )
    })
}

/// Parses a function's name, optionally with a version or alias (`None`: no location), or its ARN.
pub(crate) fn function(text: &str) -> Result<Option<Arn<'_>>, String> {
    let named = |text: &str| {
        let (name, qualifier) = text.split_once(':').unwrap_or((text, "live"));
        is_word(name, 64) && (is_word(qualifier, 128) || qualifier == "$LATEST")
    };
    if named(text) {
        return Ok(None);
    }
    Arn::parse(text, "lambda")
        .filter(|arn| arn.resource.strip_prefix("function:").is_some_and(named))
        .ok_or_else(|| "expected the name or the ARN of a Lambda function".to_owned())
        .and_then(Arn::known)
        .map(Some)
}

/// Checks an SNS topic's ARN.
pub(crate) fn topic(text: &str) -> Result<(), String> {
    Arn::parse(text, "sns")
        .filter(|arn| is_word(arn.resource.strip_suffix(".fifo").unwrap_or(arn.resource), 256))
        .ok_or_else(|| {
            "expected the ARN of an SNS topic, such as `arn:aws:sns:eu-central-1:123456789012:deployments`".to_owned()
        })
        .and_then(Arn::known)
        .map(|_| ())
}

/// Checks the ARN of an AWS caller, as `aws sts get-caller-identity` shows it (IAM User Guide, "IAM identifiers").
pub(crate) fn caller(text: &str) -> Result<(), String> {
    let wrong = || {
        "expected the ARN of an IAM user or of a role's session, as `aws sts get-caller-identity` shows it, such as \
         `arn:aws:sts::123456789012:assumed-role/deployer/ada`"
            .to_owned()
    };
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let ["arn", partition, service, "", account, resource] = parts.as_slice() else { return Err(wrong()) };
    let named =
        |name: &&str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"+=,.@_-:".contains(&b));
    let resource: Vec<&str> = resource.split('/').collect();
    if (*service, resource.first()) == ("iam", Some(&"role")) {
        return Err("this is a role, and whoever assumes it would be the same person: write the ARN of the session, as \
                    `aws sts get-caller-identity` shows it, such as `arn:aws:sts::123456789012:assumed-role/deployer/ada`"
            .to_owned());
    }
    let is_caller = match (*service, resource.as_slice()) {
        ("iam", ["root"]) => true,
        ("iam", ["user", names @ ..]) | ("sts", ["federated-user", names @ ..]) => {
            !names.is_empty() && names.iter().all(named)
        }
        ("sts", ["assumed-role", role, session]) => named(role) && named(session),
        _ => false,
    };
    let account = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
    let partition = PARTITIONS.iter().any(|known| known.name == *partition);
    if is_caller && account && partition && text.len() <= 256 { Ok(()) } else { Err(wrong()) }
}

/// Checks an ECR repository's name (ECR API, `CreateRepository`, `repositoryName`).
pub(crate) fn repository(text: &str) -> Result<(), String> {
    if text.contains(".dkr.ecr.") {
        return Err("expected the repository's name without the registry's host: `shop/api`".to_owned());
    }
    if text.contains(':') || text.contains('@') {
        return Err(
            "expected the repository's name without tag or digest: which tags count is said under `tags`".to_owned()
        );
    }
    let part = |part: &str| {
        let alphanumeric = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let bytes = part.as_bytes();
        alphanumeric(bytes.first())
            && alphanumeric(bytes.last())
            && bytes.iter().all(|b| alphanumeric(Some(b)) || matches!(b, b'.' | b'_' | b'-'))
    };
    if (2..=256).contains(&text.len()) && text.split('/').all(part) {
        Ok(())
    } else {
        Err("expected the name of an ECR repository: lower-case letters, digits, `.`, `_`, `-` and `/`, 2 to 256 characters".to_owned())
    }
}
