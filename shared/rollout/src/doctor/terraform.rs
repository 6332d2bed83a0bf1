//! Attributes that Terraform must ignore: Switchback changes them while it deploys, and the next `apply` would revert
//! them.

use super::inspected::InspectionResult;
use super::platforms;
use crate::policy::TargetPolicy;
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

impl IgnoredAttributes {
    /// These attributes of a resource.
    pub(super) fn new(resource: &str, name: String, attributes: &[&str]) -> Self {
        let attributes = attributes.iter().map(|attribute| (*attribute).to_owned()).collect();
        Self { resource: resource.to_owned(), name, attributes }
    }
}

/// Everything that a deployment to this target changes, and nothing else. A scalable target is listed where there is
/// one that deployments override. A family of templates is not listed: its `aws_ecs_task_definition` stays Terraform's,
/// and versions are registered in another family.
#[must_use]
pub fn ignored_attributes(policy: &TargetPolicy, seen: &InspectionResult) -> Vec<IgnoredAttributes> {
    let resources = &policy.resources;
    let mut all = platforms::ignored_attributes(&resources.platform, &seen.platform);
    for arn in resources.rules().chain(resources.test_rules()) {
        let (resource, attribute) = match arn.contains(":listener-rule/") {
            true => ("aws_lb_listener_rule", "action"),
            false => ("aws_lb_listener", "default_action"),
        };
        all.push(IgnoredAttributes::new(resource, arn.to_owned(), &[attribute]));
    }
    all
}
