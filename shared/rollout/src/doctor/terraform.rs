//! Attributes that Terraform must ignore: Switchback changes them while it deploys, and the next `apply` would revert
//! them.

use super::inspected::InspectionResult;
use super::short_name;
use crate::platform::{EcsServiceName, Way};
use crate::policy::TargetPolicy;
use crate::snapshot::Reading;
use serde::{Deserialize, Serialize};

/// A resource, and its attributes that Switchback manages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IgnoredAttributes {
    /// Terraform's resource type: `aws_ecs_service`.
    pub resource: String,
    /// The resource's name or ARN in AWS. Its address in the Terraform configuration is unknown here.
    pub name: String,
    /// Names of the attributes to ignore.
    pub attributes: Vec<String>,
}

/// Everything that a deployment to this target changes, and nothing else. A scalable target is listed where there is
/// one that deployments override. A family of templates is not listed: its `aws_ecs_task_definition` stays Terraform's,
/// and versions are registered in another family.
#[must_use]
pub fn ignored_attributes(policy: &TargetPolicy, seen: &InspectionResult) -> Vec<IgnoredAttributes> {
    let resources = &policy.resources;
    let platform = &resources.platform;
    let ignored_attributes = |resource: &str, name: String, attributes: &[&str]| IgnoredAttributes {
        resource: resource.to_owned(),
        name,
        attributes: attributes.iter().map(|attribute| (*attribute).to_owned()).collect(),
    };
    let full_name =
        |service: EcsServiceName<'_>| format!("{}/{}", short_name(service.cluster), short_name(service.name));
    // In place, neither the desired count nor its limits are ever changed.
    let is_scaled = platform.way() == Way::Weighted;
    let of_services: &[&str] = if is_scaled { &["task_definition", "desired_count"] } else { &["task_definition"] };
    let services = platform.ecs_services();
    let mut all: Vec<IgnoredAttributes> =
        services.map(|it| ignored_attributes("aws_ecs_service", full_name(it), of_services)).collect();
    for (slot, workload) in seen.platform.workloads().filter(|_| is_scaled) {
        if let (Some(service), Reading::Known(Some(_))) = (platform.ecs_service(slot), &workload.scaling) {
            let name = format!("service/{}", full_name(service));
            all.push(ignored_attributes(
                "aws_appautoscaling_target",
                name,
                &["min_capacity", "max_capacity", "suspended_state"],
            ));
        }
    }
    for arn in resources.rules().chain(resources.test_rules()) {
        let (resource, attribute) = match arn.contains(":listener-rule/") {
            true => ("aws_lb_listener_rule", "action"),
            false => ("aws_lb_listener", "default_action"),
        };
        all.push(ignored_attributes(resource, arn.to_owned(), &[attribute]));
    }
    all
}
