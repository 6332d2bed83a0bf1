//! Checks whether an account meets what a policy requires, before anything is deployed.
//!
//! Pure: the caller reads what [`inspection`] names, and [`judge`] says what is wrong, where, and what to do. Anything
//! that could not be read is reported as unread; it counts neither as good nor as bad.
//!
//! | module | checks |
//! |---|---|
//! | [`inspected`] | nothing: the data that was read |
//! | `target_groups` | a target group on whatever platform: draining, health checks |
//! | `rules` | rules and listeners, and other rules that forward to the target groups of a target |
//! | [`platforms`] | what runs the target: a module for each platform |
//! | `template` | the newest template of the family that the policy names |
//! | [`alarms`] | whether alarms can fire, in time, and for the right side |
//! | `recovery` | how long a rollback may take |
//! | `account` | repository, quotas, and the IAM scope of the control plane's own roles |
//! | [`images`] | whether the registry still has the images of the live release and of the one before |
//! | [`terraform`] | which attributes Terraform must ignore |

mod account;
pub mod alarms;
pub mod images;
pub mod inspected;
pub mod platforms;
mod recovery;
mod rules;
mod target_groups;
mod template;
pub mod terraform;

use crate::names::{Slot, TargetId};
use crate::policy::{Policy, RegistryPolicy, TargetPolicy};
use crate::resources::TargetResources;
use crate::snapshot::Reading;
use inspected::InspectionResult;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Severity of a finding, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Deployments fail, never start, or cannot be stopped by the check that is meant to stop them.
    Broken,
    /// Deployments work, but will go wrong in a foreseeable case.
    Risky,
    /// Could not be read: the state is unknown.
    Unread,
    /// Works, but could be improved.
    Advice,
}

/// One problem found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Findings are sorted by it.
    pub severity: Severity,
    /// Identifier of the check, for programs: `alarm_never_fires`. A name never changes its meaning.
    pub check: String,
    /// The resource: `alarm api-5xx`, `service api-blue`.
    pub subject: String,
    /// What is wrong, and the consequence.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

/// What must be read to judge one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// What to inspect.
    pub resources: TargetResources,
    /// The family whose newest task definition is the template; none: the policy names none.
    pub template: Option<String>,
    /// Names of the alarms.
    pub alarms: BTreeSet<String>,
    /// The registry that has `repository`.
    pub registry: RegistryPolicy,
    /// Name of the ECR repository that the service's images come from.
    pub repository: String,
}

/// What must be read to judge a target; none: the policy has no such target.
#[must_use]
pub fn inspection(policy: &Policy, target: &TargetId) -> Option<Inspection> {
    let wanted = policy.target(target)?;
    let service = policy.services.get(&target.service);
    let repository = service.map(|service| service.repository.clone());
    Some(Inspection {
        registry: service.map(|service| service.registry.clone()).unwrap_or_default(),
        resources: wanted.resources.clone(),
        template: wanted.template.family().map(str::to_owned),
        alarms: wanted.alarms.iter().map(|alarm| alarm.name.clone()).collect(),
        repository: repository.unwrap_or_default(),
    })
}

/// Checks what was read against the policy of this target; the worst finding comes first. A target that the policy does
/// not have has no findings.
#[must_use]
pub fn judge(policy: &Policy, target: &TargetId, seen: &InspectionResult) -> Vec<Finding> {
    let Some(wanted) = policy.target(target) else { return Vec::new() };
    let mut findings = Findings::default();
    let start = platforms::judge(wanted, &seen.platform, &mut findings);
    template::judge(wanted, seen, &mut findings);
    alarms::judge(wanted, seen, &mut findings);
    recovery::judge(policy, target, wanted, seen, &mut findings);
    account::judge(policy, target, wanted, seen, start.as_ref(), &mut findings);
    let mut found = findings.0;
    // A stable sort: within one severity, findings keep the order of the checks.
    found.sort_by_key(|finding| finding.severity);
    found
}

/// Findings so far.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(
        &mut self,
        severity: Severity,
        check: &str,
        subject: &str,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let (check, subject) = (check.to_owned(), subject.to_owned());
        self.0.push(Finding { severity, check, subject, problem: problem.into(), remedy: remedy.into() });
    }

    fn broken(&mut self, check: &str, subject: &str, problem: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Broken, check, subject, problem, remedy);
    }

    fn risky(&mut self, check: &str, subject: &str, problem: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Risky, check, subject, problem, remedy);
    }

    fn advice(&mut self, check: &str, subject: &str, problem: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Advice, check, subject, problem, remedy);
    }

    /// The value, if it was read; otherwise adds an `unread` finding.
    fn known<'r, T>(&mut self, subject: &str, reading: &'r Reading<T>) -> Option<&'r T> {
        match reading {
            Reading::Known(value) => Some(value),
            Reading::Unknown(reason) => {
                let remedy = "ask again; if it stays so, see that the role of the operations function may read it";
                self.add(Severity::Unread, "unread", subject, format!("it could not be read: {reason}"), remedy);
                None
            }
        }
    }
}

/// The short name that people use: a target group's name, otherwise what follows the last slash of an ARN or path.
fn short_name(arn: &str) -> &str {
    match arn.split_once(":targetgroup/") {
        Some((_, rest)) => rest.split('/').next().unwrap_or(rest),
        None => arn.rsplit('/').next().unwrap_or(arn),
    }
}

/// Label of a rule or listener: `rule 9683b2d02a6cabee of shop`.
fn rule_label(arn: &str) -> String {
    let kind = if arn.contains(":listener-rule/") { "rule" } else { "listener" };
    match balancer_of_rule(arn) {
        Some(balancer) => format!("{kind} {} of {balancer}", short_name(arn)),
        None => format!("{kind} {arn}"),
    }
}

/// Name of the load balancer that a rule or listener belongs to: `…:listener-rule/app/NAME/…`, `…:listener/net/NAME/…`.
fn balancer_of_rule(arn: &str) -> Option<&str> {
    let (_, rest) = arn.split_once(":listener/").or_else(|| arn.split_once(":listener-rule/"))?;
    rest.split('/').nth(1)
}

fn target_group_label(arn: &str) -> String {
    format!("target group {}", short_name(arn))
}

/// Label of the service of a side or, in place, of the target (`slot` is none): `service api-blue`.
fn service_label(policy: &TargetPolicy, slot: Option<Slot>) -> String {
    platforms::service_label(policy.resources.platform.workload_name(slot))
}

/// ARNs of the target groups of a side, leg by leg, or of what changes its version in place (`slot` is none).
fn target_groups_of(policy: &TargetPolicy, slot: Option<Slot>) -> Vec<&str> {
    match slot {
        Some(slot) => policy.resources.target_groups(slot).collect(),
        None => policy.resources.platform.target_groups_in_place().iter().map(String::as_str).collect(),
    }
}
