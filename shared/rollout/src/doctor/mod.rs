//! Whether an account is fit for what a policy wants of it, judged before anything is deployed.
//!
//! Pure: whoever asks has read what [`inspection`] names, and [`judge`] says what is wrong, where, and what to do. What could
//! not be read is said to be unread; it is never taken for good news, nor for bad.
//!
//! | module | judges |
//! |---|---|
//! | [`seen`] | what was read: nothing is judged there |
//! | `sides` | services, task definitions, target groups, autoscaling |
//! | `rules` | rules and listeners, and who else forwards to the pair |
//! | [`alarms`] | whether alarms can fire, in time, and for the right side |
//! | `around` | repository, quotas, and how far the control plane's own roles reach |
//! | [`terraform`] | what Terraform must not take back |

pub mod alarms;
mod around;
mod rules;
pub mod seen;
mod sides;
pub mod terraform;

use crate::names::{Slot, TargetId};
use crate::policy::{EcsPair, Policy, RegistryPolicy, TargetPolicy};
use crate::snapshot::Reading;
use seen::Inspected;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// How bad it is. The worst comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Deployments fail, never start, or cannot be stopped by what is to stop them.
    Broken,
    /// Deployments work, and go wrong in a case that will come.
    Risky,
    /// It could not be looked at: what it is like is not known.
    Unread,
    /// It works, and could be better.
    Advice,
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Which check found it, for programs: `alarm_never_fires`. A name is never given another meaning.
    pub check: String,
    /// What it is about: `alarm api-5xx`, `service api-blue`.
    pub place: String,
    /// What is wrong, and what comes of it.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// What must be read to judge one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// The pair, with its rules.
    pub pair: EcsPair,
    /// Names of the alarms.
    pub alarms: BTreeSet<String>,
    /// The registry of that repository.
    pub registry: RegistryPolicy,
    /// Name of the ECR repository that the service's images come from.
    pub repository: String,
}

/// What must be read to judge a target; none where the policy has no such target.
#[must_use]
pub fn inspection(policy: &Policy, target: &TargetId) -> Option<Inspection> {
    let wanted = policy.target(target)?;
    let service = policy.services.get(&target.service);
    let repository = service.map(|service| service.repository.clone());
    Some(Inspection {
        registry: service.map(|service| service.registry.clone()).unwrap_or_default(),
        pair: wanted.pair.clone(),
        alarms: wanted.alarms.iter().map(|alarm| alarm.name.clone()).collect(),
        repository: repository.unwrap_or_default(),
    })
}

/// Judges what was seen against what the policy wants of this target: the worst first. A target that the policy does not have
/// has no findings.
#[must_use]
pub fn judge(policy: &Policy, target: &TargetId, seen: &Inspected) -> Vec<Finding> {
    let Some(wanted) = policy.target(target) else { return Vec::new() };
    let mut findings = Findings::default();
    sides::judge(wanted, seen, &mut findings);
    rules::judge(wanted, seen, &mut findings);
    alarms::judge(wanted, seen, &mut findings);
    around::judge(policy, target, wanted, seen, &mut findings);
    let mut found = findings.0;
    // Stable: within one severity in the order of the checks.
    found.sort_by_key(|finding| finding.severity);
    found
}

/// What has been found so far.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(
        &mut self,
        severity: Severity,
        check: &str,
        place: &str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let (check, place) = (check.to_owned(), place.to_owned());
        self.0.push(Finding { severity, check, place, what: what.into(), remedy: remedy.into() });
    }

    fn broken(&mut self, check: &str, place: &str, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Broken, check, place, what, remedy);
    }

    fn risky(&mut self, check: &str, place: &str, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Risky, check, place, what, remedy);
    }

    fn advice(&mut self, check: &str, place: &str, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Advice, check, place, what, remedy);
    }

    /// What was read; where it was not, that is found.
    fn known<'r, T>(&mut self, place: &str, reading: &'r Reading<T>) -> Option<&'r T> {
        match reading {
            Reading::Known(value) => Some(value),
            Reading::Unknown(reason) => {
                let remedy = "ask again; if it stays so, see that the role of the operations function may read it";
                self.add(Severity::Unread, "unread", place, format!("it could not be read: {reason}"), remedy);
                None
            }
        }
    }
}

/// The last part of an ARN or path that people call a thing by: a target group's name, else what follows the last slash.
fn called(arn: &str) -> &str {
    match arn.split_once(":targetgroup/") {
        Some((_, rest)) => rest.split('/').next().unwrap_or(rest),
        None => arn.rsplit('/').next().unwrap_or(arn),
    }
}

/// A rule or listener for people: `rule 9683b2d02a6cabee of shop`.
fn place_of_rule(arn: &str) -> String {
    let kind = if arn.contains(":listener-rule/") { "rule" } else { "listener" };
    match balancer_of_rule(arn) {
        Some(balancer) => format!("{kind} {} of {balancer}", called(arn)),
        None => format!("{kind} {arn}"),
    }
}

/// The name of the balancer that a rule or listener is of: `…:listener-rule/app/NAME/…`.
fn balancer_of_rule(arn: &str) -> Option<&str> {
    let (_, rest) = arn.split_once("/app/")?;
    rest.split('/').next()
}

fn place_of_group(policy: &TargetPolicy, slot: Slot) -> String {
    format!("target group {}", called(&policy.pair.side(slot).target_group))
}

fn place_of_service(policy: &TargetPolicy, slot: Slot) -> String {
    format!("service {}", called(&policy.pair.side(slot).service))
}

const SLOTS: [Slot; 2] = [Slot::Blue, Slot::Green];
