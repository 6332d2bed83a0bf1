//! The policy of an application: the validated form of `switchback.yaml`.
//!
//! Parsing and validating the file is the `policy` crate's job; everything here is valid. The ledger stores this form,
//! one version per `apply`.

use crate::entry::{EntryRules, Grant, Person, TargetEntryRules};
use crate::names::{Name, TargetId};
use crate::notification::NotificationPolicy;
use crate::registry::Registry;
use crate::resources::{Resource, TargetResources};
use crate::template::{ConfigurationTrigger, TemplateSource};
use crate::time::{Percent, Seconds};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// One application: its services, its environments, and a target for each pair of them that the policy configures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The application's name, the first part of every target's name.
    pub application: Name,
    /// Its services, and the repositories that their images are pushed to.
    pub services: BTreeMap<Name, ServicePolicy>,
    /// Where it runs, and what triggers deployments there.
    pub environments: BTreeMap<Name, EnvironmentPolicy>,
    /// The people that rules name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub people: BTreeMap<Name, Person>,
    /// Groups of people, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<Name, BTreeSet<Name>>,
    /// Permissions of GitHub Actions workflows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<Grant>,
    /// Who is notified of what.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notifications: Vec<NotificationPolicy>,
}

impl Policy {
    /// Every target, ordered by environment, then service.
    pub fn targets(&self) -> impl Iterator<Item = (TargetId, &TargetPolicy)> {
        self.environments.iter().flat_map(move |(environment, rules)| {
            rules.targets.iter().map(move |(service, target)| {
                (TargetId::new(self.application.clone(), service.clone(), environment.clone()), target)
            })
        })
    }

    /// The policy of one target, if it exists.
    #[must_use]
    pub fn target(&self, id: &TargetId) -> Option<&TargetPolicy> {
        if id.application != self.application {
            return None;
        }
        self.environments.get(&id.environment)?.targets.get(&id.service)
    }

    /// Why this version cannot read the target's policy; none: it can, or there is no such target.
    #[must_use]
    pub fn unreadable(&self, id: &TargetId) -> Option<&str> {
        let environment = self.environments.get(&id.environment).filter(|_| id.application == self.application)?;
        environment.unreadable.get(&id.service).map(String::as_str)
    }

    /// The target's policy with its environment's rules, as `version` of the policy; none: there is no such target.
    #[must_use]
    pub fn applied(&self, id: &TargetId, version: u64) -> Option<AppliedTarget> {
        let policy = self.target(id)?.clone();
        let environment = self.environments.get(&id.environment)?;
        let entry = TargetEntryRules {
            rules: environment.entry.clone(),
            approvers: self.approvers(&environment.entry),
            depends_on: self.dependencies(&id.service),
            dependents: self.dependents(&id.service),
            neighbours: match environment.entry.one_at_a_time {
                true => environment.targets.keys().filter(|service| **service != id.service).cloned().collect(),
                false => BTreeSet::new(),
            },
            auto_promotes: environment.trigger == Trigger::Promotion,
        };
        Some(AppliedTarget { version, concurrency: environment.concurrency, policy, entry })
    }

    /// The AWS resources that the targets of this policy change, each with its target. No other target, of this or any
    /// other application, may use the same resource: two deployments would undo each other's work.
    #[must_use]
    pub fn resources(&self) -> BTreeMap<Resource, TargetId> {
        let each = |(target, rules): (TargetId, &TargetPolicy)| {
            let resources: Vec<_> = rules.resources.exclusive().collect();
            resources.into_iter().map(move |resource| (resource, target.clone()))
        };
        self.targets().flat_map(each).collect()
    }

    /// Everybody whom an environment's approval rule names, directly or through a group.
    fn approvers(&self, rules: &EntryRules) -> BTreeMap<Name, Person> {
        let named = rules.approval.iter().flat_map(|approval| &approval.from);
        let people = named.flat_map(|name| match self.groups.get(name) {
            Some(members) => members.iter().collect(),
            None => vec![name],
        });
        people.filter_map(|name| Some((name.clone(), self.people.get(name)?.clone()))).collect()
    }

    /// The services that `service` depends on, directly or transitively.
    pub(crate) fn dependencies(&self, service: &Name) -> BTreeSet<Name> {
        let mut found = BTreeSet::new();
        let mut open = vec![service];
        while let Some(next) = open.pop() {
            for name in self.services.get(next).into_iter().flat_map(|service| &service.depends_on) {
                if name != service && found.insert(name.clone()) {
                    open.push(name);
                }
            }
        }
        found
    }

    /// The services that depend on `service`, directly or transitively.
    fn dependents(&self, service: &Name) -> BTreeSet<Name> {
        self.services.keys().filter(|other| self.dependencies(other).contains(service)).cloned().collect()
    }

    /// The environments to which a release of `service` verified in `environment` is promoted automatically.
    pub fn auto_promotion_targets<'a>(
        &'a self,
        environment: &'a Name,
        service: &'a Name,
    ) -> impl Iterator<Item = &'a Name> {
        self.environments.iter().filter_map(move |(name, rules)| {
            let after = rules.entry.after.as_ref()?;
            let follows = rules.trigger == Trigger::Promotion
                && after.environments().contains(environment)
                && rules.targets.contains_key(service);
            follows.then_some(name)
        })
    }
}

/// Where a service's images come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePolicy {
    /// The registry that has the repository. Pushes to any other registry are ignored.
    #[serde(default, skip_serializing_if = "RegistryPolicy::is_own")]
    pub registry: RegistryPolicy,
    /// The ECR repository's name, without registry host: `shop/api`.
    pub repository: String,
    /// Which tags become releases.
    pub tags: TagRule,
    /// While true, pushes become releases but trigger no deployment.
    pub paused: bool,
    /// The services that must be deployed before this one in a release train.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<Name>,
}

/// A registry, as a policy names it: omitted fields default to the control plane's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct RegistryPolicy {
    /// The account, 12 digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The Region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
}

impl RegistryPolicy {
    /// Whether it is the control plane's own account and Region.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.account.is_none() && self.region.is_none()
    }

    /// The registry meant, where `own` is the control plane's own.
    #[must_use]
    pub fn of(&self, own: &Registry) -> Registry {
        Registry {
            account: self.account.clone().unwrap_or_else(|| own.account.clone()),
            region: self.region.clone().unwrap_or_else(|| own.region.clone()),
        }
    }
}

/// Which tags of a repository become releases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TagRule {
    /// A shell pattern: `v*`, `release-??`.
    Glob(String),
    /// A regular expression that the whole tag must match.
    Regex(String),
    /// A range of semantic versions: `>=1.2, <2`; a leading `v` of the tag is ignored.
    Semver(String),
    /// What one rule matches and another one does not.
    Except {
        /// The rule that tags must match.
        take: Box<TagRule>,
        /// The rule that tags must not match.
        not: Box<TagRule>,
    },
}

/// One environment of an application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredEnvironment")]
pub struct EnvironmentPolicy {
    /// What triggers a deployment here.
    pub trigger: Trigger,
    /// What happens to a release that arrives while another one is being deployed.
    #[serde(default)]
    pub concurrency: Concurrency,
    /// What a release must pass before its deployment may start here.
    #[serde(default)]
    pub entry: EntryRules,
    /// The services that run here.
    pub targets: BTreeMap<Name, TargetPolicy>,
    /// Services whose stored policy this version cannot read, with the reason: a newer version may have written it, for
    /// a platform that this one does not know. Their targets are left alone; the others are not affected.
    #[serde(skip_serializing)]
    pub unreadable: BTreeMap<Name, String>,
}

/// An environment as it is stored: each target is read on its own.
#[derive(Deserialize)]
struct StoredEnvironment {
    trigger: Trigger,
    #[serde(default)]
    concurrency: Concurrency,
    #[serde(default)]
    entry: EntryRules,
    targets: BTreeMap<Name, serde_json::Value>,
}

impl From<StoredEnvironment> for EnvironmentPolicy {
    fn from(StoredEnvironment { trigger, concurrency, entry, targets: stored }: StoredEnvironment) -> Self {
        let (mut targets, mut unreadable) = (BTreeMap::new(), BTreeMap::new());
        for (service, target) in stored {
            match serde_json::from_value(target) {
                Ok(target) => {
                    targets.insert(service, target);
                }
                Err(error) => {
                    unreadable.insert(service, error.to_string());
                }
            }
        }
        Self { trigger, concurrency, entry, targets, unreadable }
    }
}

/// What triggers a deployment in an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// Every new release.
    Push,
    /// Only requests by people or CI.
    Manual,
    /// Verification of a release in the upstream environments, automatically.
    Promotion,
}

/// What happens to a release that is requested while another one is being deployed to the same target. In every case,
/// rollbacks and deployments whose bake is over are completed first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Concurrency {
    /// It is queued and supersedes the releases queued before.
    #[default]
    QueueNewest,
    /// It is queued behind all others.
    QueueAll,
    /// The running deployment rolls back for it, and it supersedes the queued releases.
    CancelRunning,
    /// It is refused.
    Reject,
}

/// What the policy says about one target. A running deployment keeps the version that it started with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetPolicy {
    /// What runs the target, and how traffic reaches it.
    pub resources: TargetResources,
    /// Where everything of a new version but its image comes from.
    #[serde(default, skip_serializing_if = "is_default")]
    pub template: TemplateSource,
    /// What deploys a newer template whose image is the same.
    #[serde(default, skip_serializing_if = "is_default")]
    pub configuration: ConfigurationTrigger,
    /// How traffic shifts.
    pub strategy: Strategy,
    /// Alarms that are watched.
    pub alarms: Vec<AlarmPolicy>,
    /// Hooks that run during a deployment.
    pub hooks: Vec<Hook>,
    /// Time limits of the waits.
    pub deadlines: Deadlines,
    /// What happens when the target is edited outside Switchback while nothing is deployed.
    #[serde(default, skip_serializing_if = "Drift::is_tell")]
    pub drift: Drift,
    /// Within which traffic has to be off a bad release; none: nobody has said. Plan and doctor add up what it may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_time: Option<Seconds>,
}

impl TargetPolicy {
    /// From a firing alarm to the deadline of the rollback. Usually the weights are back within seconds; at the deadline a
    /// rollback that cannot be done is given up, and one that can is still tried.
    #[must_use]
    pub fn rollback_deadline_after_alarm(&self) -> Seconds {
        Seconds(ANSWER_TO_ALARM.0 + self.deadlines.rollback.0)
    }
}

/// Within which a firing alarm is answered, should its event be lost.
const ANSWER_TO_ALARM: Seconds = Seconds(60);

/// What happens when rules or services differ from what the last deployment left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Drift {
    /// The drift is journalled and notified. Nothing is written. The default.
    #[default]
    Tell,
    /// In addition, the weights are reverted to the stable side, if it has a healthy target.
    Revert,
}

impl Drift {
    fn is_tell(&self) -> bool {
        *self == Self::Tell
    }
}

/// How traffic moves from the stable side to the candidate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strategy {
    /// The steps, with increasing traffic; the last one is 100 %. Never empty.
    pub steps: Vec<Step>,
    /// How long the candidate is watched with all traffic before it is verified.
    pub bake: Seconds,
    /// How long the old side stays up after the bake, so that a rollback takes seconds.
    pub keep_warm: Seconds,
    /// The share of the stable side's running tasks that the candidate starts with; it grows with the traffic.
    pub green_capacity: Percent,
    /// How long a side that has lost its traffic stays up, until the load balancer's nodes have learnt of it.
    pub drain: Seconds,
    /// How many of the candidate's tasks may stop by themselves after it became healthy.
    #[serde(default, skip_serializing_if = "TaskFailures::is_default")]
    pub task_failures: TaskFailures,
}

/// Task failures that are tolerated once the candidate is healthy: it counts as unhealthy when the number of its tasks
/// that stopped by themselves exceeds every one of these limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskFailures {
    /// Number of tasks.
    pub count: u32,
    /// Share of its tasks.
    pub share: Percent,
    /// Multiple of the stable side's failure rate over the same time.
    pub times_stable: u32,
}

impl TaskFailures {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for TaskFailures {
    /// Two tasks, 5 %, twice the stable side's rate.
    fn default() -> Self {
        Self { count: 2, share: Percent::FIVE, times_stable: 2 }
    }
}

/// One step of a strategy: a share of traffic, and how long it is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The candidate's share of traffic.
    pub traffic: Percent,
    /// How long the share is held and watched before the next step.
    pub hold: Seconds,
}

/// An alarm that can stop a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmPolicy {
    /// Name of a metric alarm or a composite alarm, in the target's account and Region.
    pub name: String,
    /// What `INSUFFICIENT_DATA` means.
    pub missing: MissingData,
    /// What happens when it fires.
    #[serde(default, skip_serializing_if = "is_default")]
    pub firing: AlarmEffect,
    /// Whether a deployment starts while it fires.
    #[serde(default, skip_serializing_if = "is_default")]
    pub at_start: AlarmAtStart,
    /// What happens when it watches the stable side alone, and fires.
    #[serde(default, skip_serializing_if = "is_default")]
    pub stable_firing: StableFiring,
}

impl AlarmPolicy {
    /// The alarm of this name, with the policy file's defaults.
    #[must_use]
    pub fn new(name: String) -> Self {
        Self {
            name,
            missing: MissingData::Wait,
            firing: AlarmEffect::default(),
            at_start: AlarmAtStart::default(),
            stable_firing: StableFiring::default(),
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What a firing alarm does to a deployment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlarmEffect {
    /// The deployment rolls back. The default.
    #[default]
    Back,
    /// Nothing widens while it fires; at the stage's deadline the deployment rolls back.
    Hold,
    /// It is journalled and people are notified. It holds nothing, not even the start.
    Tell,
}

/// What an alarm that already fires does to the start of a deployment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlarmAtStart {
    /// The deployment waits until it no longer fires. The default.
    #[default]
    Block,
    /// The deployment starts, and the alarm is not judged until it has been OK once.
    Pass,
}

/// What happens when an alarm that watches the stable side alone fires. It never causes a rollback: that would put all
/// traffic onto the failing side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StableFiring {
    /// The traffic stays as it is, and people are notified. The default.
    #[default]
    Hold,
    /// The deployment continues to shift traffic to the candidate.
    GoOn,
}

/// How an alarm without data is interpreted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MissingData {
    /// Unknown: traffic is not shifted further; at the gate's deadline the deployment rolls back. The default.
    Wait,
    /// Healthy: for alarms that only have data on errors.
    Healthy,
    /// Unhealthy: for heartbeats.
    Unhealthy,
}

/// A check that runs during a deployment and can fail it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// The hook's name, unique in the target.
    pub name: Name,
    /// At which point of the deployment it runs.
    pub at: HookPoint,
    /// A Lambda function or an ECS task.
    pub run: HookAction,
    /// Time limit, retries included; after that the hook has failed.
    pub deadline: Seconds,
    /// Once it has started, no automatic rollback is possible: it changes what the old release depends on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forward_only: bool,
}

/// At which point of a deployment a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookPoint {
    /// Before the candidate's tasks start: for migrations.
    BeforeTraffic,
    /// While the candidate is healthy and reachable by the test rule only.
    TestTraffic,
    /// With all traffic on the candidate, before the bake.
    AfterTraffic,
}

/// What a hook runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookAction {
    /// A Lambda function, polled until it answers `succeeded` or `failed`.
    Lambda {
        /// Name or ARN of the function.
        function: String,
    },
    /// One run of the candidate's task definition (and so of the new image), judged by the container's exit code.
    Task {
        /// The container whose command is overridden and whose exit code counts.
        container: String,
        /// The command; empty: that of the task definition.
        command: Vec<String>,
    },
}

/// Time limits of the waits, and what happens when they pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadlines {
    /// Preflight: until no alarm fires and the rules are in order. Then: failed, nothing touched.
    pub preflight: Seconds,
    /// Registering the task definition. Then: failed.
    pub register: Seconds,
    /// Until the candidate's tasks run and every target is healthy. Then: rolled back.
    pub healthy: Seconds,
    /// One write of weights until it is verified live, including the health and alarm checks before it. Then: rolled
    /// back.
    pub shift: Seconds,
    /// Scaling down the old side. Then: succeeded, and the journal says what was not cleaned up.
    pub retire: Seconds,
    /// A rollback. Then: failed, and the journal says where traffic is.
    pub rollback: Seconds,
}

/// The policy of a target as it is stored in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedTarget {
    /// Version of the application's policy, from 1.
    pub version: u64,
    /// What happens to a release that arrives while another one is being deployed.
    #[serde(default)]
    pub concurrency: Concurrency,
    /// The target's part of the policy.
    pub policy: TargetPolicy,
    /// What a release must pass before its deployment may start here.
    #[serde(default)]
    pub entry: TargetEntryRules,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A newer version may know platforms that this one does not.
    #[test]
    fn a_target_on_an_unknown_platform_is_unreadable_and_no_other_is() {
        let target = |platform: &str| {
            format!(
                r#"{{"resources":{{"platform":{platform}}},"strategy":{{"steps":[],"bake":0,"keep_warm":0,"green_capacity":100,"drain":0}},"alarms":[],"hooks":[],"deadlines":{{"preflight":1,"register":1,"healthy":1,"shift":1,"retire":1,"rollback":1}}}}"#
            )
        };
        let known = target(r#"{"ecs_rolling":{"cluster":"main","container":"app","service":"worker"}}"#);
        let newer = target(r#"{"lambda_alias":{"function":"api","alias":"live"}}"#);
        let stored = format!(
            r#"{{"application":"shop","services":{{}},"environments":{{"prod":{{"trigger":"manual","targets":{{"api":{newer},"worker":{known}}}}}}}}}"#
        );
        let policy: Policy = serde_json::from_str(&stored).expect("the policy is readable");
        let id = |name: &str| TargetId::parse(&format!("shop/{name}/prod")).expect("a target");
        assert_eq!(policy.targets().map(|(id, _)| id).collect::<Vec<_>>(), [id("worker")]);
        let reason = policy.unreadable(&id("api")).expect("it is unreadable");
        assert!(reason.contains("lambda_alias") && reason.contains("ecs_rolling"), "{reason}");
        assert_eq!(policy.unreadable(&id("worker")), None);
    }

    #[test]
    fn a_policy_without_notifications_notifies_nobody() {
        let stored = r#"{"application":"shop","services":{},"environments":{}}"#;
        let policy: Policy = serde_json::from_str(stored).expect("notifications are optional");
        assert_eq!(policy.notifications, []);
        assert_eq!(serde_json::to_string(&policy).expect("plain data"), stored);
    }
}
