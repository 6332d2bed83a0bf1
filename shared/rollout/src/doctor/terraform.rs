//! What Terraform must leave alone: Switchback changes it while it deploys, and the next `apply` would take it back.

use super::seen::Inspected;
use super::{SLOTS, called};
use crate::policy::TargetPolicy;
use crate::snapshot::Reading;
use serde::{Deserialize, Serialize};

/// A resource, and the attributes of it that belong to Switchback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ignored {
    /// Terraform's type: `aws_ecs_service`.
    pub resource: String,
    /// The resource as AWS calls it: a name or an ARN. What Terraform's configuration calls it, only that knows.
    pub name: String,
    /// The attributes.
    pub attributes: Vec<String>,
}

/// Everything that a deployment to this target changes, and nothing else. A scalable target is named where there is one.
#[must_use]
pub fn ignored(policy: &TargetPolicy, seen: &Inspected) -> Vec<Ignored> {
    let pair = &policy.pair;
    let cluster = called(&pair.cluster);
    let ignored = |resource: &str, name: String, attributes: &[&str]| Ignored {
        resource: resource.to_owned(),
        name,
        attributes: attributes.iter().map(|attribute| (*attribute).to_owned()).collect(),
    };
    let service = |slot| format!("{cluster}/{}", called(&pair.side(slot).service));
    let mut all: Vec<Ignored> = Vec::new();
    for slot in SLOTS {
        all.push(ignored("aws_ecs_service", service(slot), &["task_definition", "desired_count"]));
    }
    for slot in SLOTS {
        if let Reading::Known(Some(_)) = &seen.side(slot).scaling {
            let name = format!("service/{}", service(slot));
            all.push(ignored("aws_appautoscaling_target", name, &["min_capacity", "max_capacity", "suspended_state"]));
        }
    }
    for arn in pair.rules.iter().chain(&pair.test_rule) {
        let (resource, attribute) = match arn.contains(":listener-rule/") {
            true => ("aws_lb_listener_rule", "action"),
            false => ("aws_lb_listener", "default_action"),
        };
        all.push(ignored(resource, arn.clone(), &[attribute]));
    }
    all
}
