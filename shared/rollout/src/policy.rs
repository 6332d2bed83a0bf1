//! What the owners of an application want: the checked form of `switchback.yaml`.
//!
//! Reading and checking the file is the `policy` crate's work; here everything is already sound.
//! This form is what the ledger stores, one version an `apply`.

use crate::entry::{Entry, EntryRules, Grant, Person};
use crate::journal::Fact;
use crate::names::{Name, TargetId};
use crate::registry::Registry;
use crate::target::AppliedTarget;
use crate::time::{Percent, Seconds};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// One application: its services, its environments, and a target for each pair of them that is named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The application's name, the first part of every target's.
    pub application: Name,
    /// What is built: a service and the repository that its images are pushed to.
    pub services: BTreeMap<Name, ServicePolicy>,
    /// Where it runs, and what starts a deployment there.
    pub environments: BTreeMap<Name, EnvironmentPolicy>,
    /// The people that rules name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub people: BTreeMap<Name, Person>,
    /// Groups of them, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<Name, BTreeSet<Name>>,
    /// What workflows of GitHub Actions may do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<Grant>,
    /// Who is told of what. Policies that were stored before there was such a thing tell nobody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notifications: Vec<NotificationPolicy>,
}

impl Policy {
    /// Every target, in the order of environments, then services.
    pub fn targets(&self) -> impl Iterator<Item = (TargetId, &TargetPolicy)> {
        self.environments.iter().flat_map(move |(environment, rules)| {
            rules.targets.iter().map(move |(service, target)| {
                (TargetId::new(self.application.clone(), service.clone(), environment.clone()), target)
            })
        })
    }

    /// The policy of one target, if there is such a target.
    #[must_use]
    pub fn target(&self, id: &TargetId) -> Option<&TargetPolicy> {
        if id.application != self.application {
            return None;
        }
        self.environments.get(&id.environment)?.targets.get(&id.service)
    }

    /// The same with what holds in its environment, as `version` of the policy; none: there is no such target.
    #[must_use]
    pub fn applied(&self, id: &TargetId, version: u64) -> Option<AppliedTarget> {
        let policy = self.target(id)?.clone();
        let environment = self.environments.get(&id.environment)?;
        let entry = Entry {
            rules: environment.entry.clone(),
            approvers: self.approvers(&environment.entry),
            depends_on: self.dependencies(&id.service),
            promotes_itself: environment.trigger == Trigger::Promotion,
        };
        Some(AppliedTarget { version, concurrency: environment.concurrency, policy, entry })
    }

    /// What the targets of this policy change in AWS, each with the target that names it. No other target, of this or of any
    /// other application, may name the same: two deployments would undo each other's work.
    #[must_use]
    pub fn resources(&self) -> BTreeMap<Resource, TargetId> {
        self.targets().flat_map(|(target, rules)| rules.pair.resources().map(move |it| (it, target.clone()))).collect()
    }

    /// Everybody whom an environment's approval names, directly or by a group.
    fn approvers(&self, rules: &EntryRules) -> BTreeMap<Name, Person> {
        let named = rules.approval.iter().flat_map(|approval| &approval.from);
        let people = named.flat_map(|name| match self.groups.get(name) {
            Some(members) => members.iter().collect(),
            None => vec![name],
        });
        people.filter_map(|name| Some((name.clone(), self.people.get(name)?.clone()))).collect()
    }

    /// The services that `service` depends on, directly or not.
    fn dependencies(&self, service: &Name) -> BTreeSet<Name> {
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

    /// The environments that promote by themselves what `environment` has verified of `service`.
    pub fn automatic_after<'a>(&'a self, environment: &'a Name, service: &'a Name) -> impl Iterator<Item = &'a Name> {
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
    /// The registry that the repository is in. Only pushes to this one are believed.
    #[serde(default, skip_serializing_if = "RegistryPolicy::is_own")]
    pub registry: RegistryPolicy,
    /// The ECR repository's name, without registry host: `shop/api`.
    pub repository: String,
    /// Which tags become releases.
    pub tags: TagRule,
    /// While true, pushes become releases but ask for no deployment.
    pub paused: bool,
    /// The services that go before this one in a release train.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<Name>,
}

/// A registry, as a policy names it: what it leaves out is the control plane's own.
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

    /// The registry that is meant, for a control plane whose own is `own`.
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
    /// A range of semantic versions: `>=1.2, <2`; a leading `v` of the tag is not looked at.
    Semver(String),
    /// What one rule takes and another one does not.
    Except {
        /// The tags that are taken,
        take: Box<TagRule>,
        /// but for these.
        not: Box<TagRule>,
    },
}

/// One environment of an application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentPolicy {
    /// What starts a deployment here.
    pub trigger: Trigger,
    /// What happens to a release that comes while another one is deployed.
    #[serde(default)]
    pub concurrency: Concurrency,
    /// What a release must pass before its deployment may begin here.
    #[serde(default)]
    pub entry: EntryRules,
    /// The services that run here.
    pub targets: BTreeMap<Name, TargetPolicy>,
}

/// What starts a deployment in an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// Every new release.
    Push,
    /// Only a person or CI that asks for it.
    Manual,
    /// What the environments before have verified, by itself.
    Promotion,
}

/// One receiver of notifications, and what it is told of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotificationPolicy {
    /// Who.
    #[serde(flatten)]
    pub receiver: Receiver,
    /// Only of these environments; empty: of all.
    pub environments: Vec<Name>,
    /// Only of these services; empty: of all.
    pub services: Vec<Name>,
    /// Only of these facts.
    pub facts: Facts,
}

impl NotificationPolicy {
    /// Whether this receiver is told of `fact` on `target`.
    #[must_use]
    pub fn wants(&self, target: &TargetId, fact: &Fact) -> bool {
        let among = |names: &[Name], name: &Name| names.is_empty() || names.contains(name);
        let told = match self.facts {
            Facts::Attention => fact.wants_attention(),
            Facts::Verdicts => matches!(fact, Fact::Ended { .. }),
            Facts::All => true,
        };
        told && among(&self.environments, &target.environment) && among(&self.services, &target.service)
    }
}

/// Where notifications go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Receiver {
    /// ARN of an SNS topic.
    Topic(String),
    /// ID of a Slack channel: `C012AB3CD`.
    Slack(String),
}

/// Which facts of the journal a receiver of notifications is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Facts {
    /// Those worth a person's attention: beginning, trouble, way back, end. The default.
    Attention,
    /// How deployments ended.
    Verdicts,
    /// Every one.
    All,
}

/// What happens to a release that is asked for while another one is deployed to the same target. Whatever it says, a
/// deployment whose bake is over is finished, and a rollback is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Concurrency {
    /// It waits; what waited before gives way to it.
    #[default]
    QueueNewest,
    /// It waits, behind all that wait already.
    QueueAll,
    /// The running deployment turns back for it; what waited before gives way to it.
    CancelRunning,
    /// It is refused.
    Reject,
}

/// Everything that a deployment to one target needs to know. A running deployment keeps the one it started with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetPolicy {
    /// What runs where.
    pub pair: EcsPair,
    /// How traffic moves.
    pub strategy: Strategy,
    /// What is watched.
    pub alarms: Vec<AlarmPolicy>,
    /// What runs on the way.
    pub hooks: Vec<Hook>,
    /// How long each wait may take.
    pub deadlines: Deadlines,
    /// What is done about an edit that somebody else makes while nothing is deployed here.
    #[serde(default, skip_serializing_if = "Drift::is_tell")]
    pub drift: Drift,
}

/// What is done where rules or services are seen otherwise than the last deployment left them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Drift {
    /// The journal says so, and people are notified. Nothing is written. The default.
    #[default]
    Tell,
    /// The weights also go back to the stable side, if it has a healthy target.
    Revert,
}

impl Drift {
    fn is_tell(&self) -> bool {
        *self == Self::Tell
    }
}

/// A pair of ECS services, each on its own target group, behind the same rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EcsPair {
    /// Name or ARN of the ECS cluster.
    pub cluster: String,
    /// The container whose image is replaced; all others stay as they are.
    pub container: String,
    /// One side.
    pub blue: Side,
    /// The other side.
    pub green: Side,
    /// ARNs of the listener rules, or of listeners (their default action), whose weights are moved as one. Never empty.
    pub rules: Vec<String>,
    /// ARN of a rule or listener that only testers reach.
    pub test_rule: Option<String>,
}

/// Something in AWS that deployments of one target change, and of no other one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// An ECS service.
    Service {
        /// `REGION:ACCOUNT`: names of clusters are unique in these. Empty where the policy names no ARN that says so.
        home: String,
        /// The cluster's name, also where the policy has its ARN.
        cluster: String,
        /// The service's name.
        name: String,
    },
    /// A target group, by ARN.
    TargetGroup(String),
    /// A listener rule, or a listener with its default action, by ARN.
    Rule(String),
}

impl Resource {
    /// The same text for the same resource, and another one for each other.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            // None of these can hold a `/`: ECS allows letters, digits, hyphens and underscores.
            Self::Service { home, cluster, name } => format!("ecs-service#{home}/{cluster}/{name}"),
            Self::TargetGroup(arn) => format!("target-group#{arn}"),
            Self::Rule(arn) => format!("rule#{arn}"),
        }
    }
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Service { cluster, name, .. } => write!(f, "the ECS service `{name}` of cluster `{cluster}`"),
            Self::TargetGroup(arn) => write!(f, "the target group `{arn}`"),
            Self::Rule(arn) => write!(f, "the rule `{arn}`"),
        }
    }
}

/// The name in `arn:aws:ecs:region:account:cluster/name`, or the name itself.
#[must_use]
pub fn cluster_name(name_or_arn: &str) -> &str {
    name_or_arn.rsplit('/').next().unwrap_or(name_or_arn)
}

/// `region:account` of an ARN; empty for what is none.
fn home(arn: &str) -> String {
    let fields: Vec<&str> = arn.splitn(6, ':').collect();
    match fields.as_slice() {
        ["arn", _, _, region, account, _] => format!("{region}:{account}"),
        _ => String::new(),
    }
}

impl EcsPair {
    /// What deployments to this pair change.
    pub fn resources(&self) -> impl Iterator<Item = Resource> {
        let sides = [&self.blue, &self.green].into_iter().flat_map(|side| {
            let service = Resource::Service {
                // A target is in one account and Region, and a cluster by name is where its target groups are.
                home: home(&side.target_group),
                cluster: cluster_name(&self.cluster).to_owned(),
                name: side.service.clone(),
            };
            [service, Resource::TargetGroup(side.target_group.clone())]
        });
        sides.chain(self.rules.iter().chain(&self.test_rule).cloned().map(Resource::Rule))
    }

    /// The side in `slot`.
    #[must_use]
    pub fn side(&self, slot: crate::Slot) -> &Side {
        match slot {
            crate::Slot::Blue => &self.blue,
            crate::Slot::Green => &self.green,
        }
    }
}

/// One side of a pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// Name of the ECS service.
    pub service: String,
    /// ARN of the target group that the service registers its tasks in.
    pub target_group: String,
}

/// How traffic moves from the stable side to the candidate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strategy {
    /// The steps, traffic rising; the last one is 100 %. Never empty.
    pub steps: Vec<Step>,
    /// How long all traffic stays on the candidate, watched, before it counts as verified.
    pub bake: Seconds,
    /// How long after the bake the old side stays up, so that the way back takes seconds.
    pub keep_warm: Seconds,
    /// The share of the stable side's running tasks that the candidate starts with; it grows with the traffic.
    pub green_capacity: Percent,
    /// How long a side that has lost its traffic stays up, for the balancer's nodes to learn of it.
    pub drain: Seconds,
    /// How many tasks of the candidate may stop by themselves once it was up.
    #[serde(default, skip_serializing_if = "TaskFailures::is_default")]
    pub task_failures: TaskFailures,
}

/// Which losses of tasks are no reason to go back, once the candidate was up: it is ill where more of its tasks stopped by
/// themselves than each of these allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskFailures {
    /// So many tasks.
    pub count: u32,
    /// This share of its tasks.
    pub share: Percent,
    /// So many times the stable side's rate over the same time.
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

/// One step of traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The candidate's share.
    pub traffic: Percent,
    /// How long it stays there, watched, before the next step.
    pub hold: Seconds,
}

/// An alarm that can stop a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmPolicy {
    /// Name of a metric alarm or a composite alarm, in the target's account and Region.
    pub name: String,
    /// What INSUFFICIENT_DATA means.
    pub missing: MissingData,
    /// What happens where it looks at the stable side alone, and fires.
    #[serde(default, skip_serializing_if = "is_default")]
    pub stable_firing: StableFiring,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What happens where an alarm that looks at the stable side alone fires. Traffic never goes back because of it: that
/// would put all of it onto the side that the alarm is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StableFiring {
    /// Traffic stays as it is, and people are called. The default.
    #[default]
    Hold,
    /// Traffic goes on to the candidate.
    GoOn,
}

/// What an alarm without data means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MissingData {
    /// Silence widens nothing; after the gate's deadline the deployment is switched back. The default.
    Wait,
    /// Silence is health: for alarms that only speak on errors.
    Healthy,
    /// Silence is failure: for heartbeats.
    Unhealthy,
}

/// Something that runs on the way and can say no.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Its name, unique in the target.
    pub name: Name,
    /// When it runs.
    pub at: HookPoint,
    /// What runs.
    pub run: HookAction,
    /// How long it may take, retries included; after that it has failed.
    pub deadline: Seconds,
    /// Once it has begun there is no automatic way back: it changes what the old release stands on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forward_only: bool,
}

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookPoint {
    /// Before the candidate's tasks start: the place of a migration.
    BeforeTraffic,
    /// While the candidate is healthy, reached by the test rule only.
    TestTraffic,
    /// With all traffic on the candidate, before the bake.
    AfterTraffic,
}

/// What a hook runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookAction {
    /// A Lambda function, asked until it answers `succeeded` or `failed`.
    Lambda {
        /// Name or ARN of the function.
        function: String,
    },
    /// One run of the candidate's task definition (so: of the new image), judged by the container's exit code.
    Task {
        /// The container whose command is replaced and whose exit code counts.
        container: String,
        /// The command; empty: as the task definition has it.
        command: Vec<String>,
    },
}

/// How long each wait may take before what happens next is decided without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadlines {
    /// Preflight: an alarm that fires, a rule in disorder. Then: failed, nothing touched.
    pub preflight: Seconds,
    /// Registering the task definition. Then: failed.
    pub register: Seconds,
    /// The candidate's tasks running and every target healthy. Then: switched back.
    pub healthy: Seconds,
    /// One write of weights, until it is seen live, and the health and alarms it waits for. Then: switched back.
    pub shift: Seconds,
    /// Taking the old side down. Then: succeeded, and the journal says what is left.
    pub retire: Seconds,
    /// Going back. Then: failed, and the journal says where traffic is.
    pub rollback: Seconds,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::Verdict;

    #[test]
    fn a_policy_of_before_notifications_tells_nobody() {
        let stored = r#"{"application":"shop","services":{},"environments":{}}"#;
        let policy: Policy = serde_json::from_str(stored).expect("an old writer's policy is read");
        assert_eq!(policy.notifications, []);
        assert_eq!(serde_json::to_string(&policy).expect("plain data"), stored);
    }

    #[test]
    fn a_resource_is_the_same_however_the_policy_writes_its_cluster() {
        let side = |colour: &str| Side {
            service: format!("api-{colour}"),
            target_group: format!("arn:aws:elasticloadbalancing:eu-west-1:111122223333:targetgroup/{colour}/1"),
        };
        let pair = |cluster: &str| EcsPair {
            cluster: cluster.to_owned(),
            container: "api".to_owned(),
            blue: side("blue"),
            green: side("green"),
            rules: vec!["rule/1".to_owned()],
            test_rule: Some("rule/2".to_owned()),
        };
        let keys = |pair: &EcsPair| pair.resources().map(|resource| resource.key()).collect::<Vec<_>>();
        let by_name = keys(&pair("main"));
        assert_eq!(by_name, keys(&pair("arn:aws:ecs:eu-west-1:111122223333:cluster/main")));
        assert_eq!(by_name.len(), 6);
        assert_eq!(by_name[0], "ecs-service#eu-west-1:111122223333/main/api-blue");
        assert_ne!(by_name[0], keys(&pair("other"))[0]);
    }

    #[test]
    fn a_receiver_is_told_of_what_it_asked_for() {
        let name = |text: &str| Name::new(text).expect("a name");
        let target = TargetId::parse("shop/api/prod").expect("a target");
        let everywhere = NotificationPolicy {
            receiver: Receiver::Topic("arn:aws:sns:eu-central-1:111122223333:deployments".to_owned()),
            environments: vec![],
            services: vec![],
            facts: Facts::Attention,
        };
        let ended = Fact::Ended { verdict: Verdict::Succeeded, reason: String::new(), live: None };
        let hook = Fact::HookStarted { hook: "smoke".to_owned() };
        let told = |route: &NotificationPolicy| [&ended, &Fact::Resumed, &hook].map(|fact| route.wants(&target, fact));
        assert_eq!(told(&everywhere), [true, true, false]);
        assert_eq!(told(&NotificationPolicy { facts: Facts::Verdicts, ..everywhere.clone() }), [true, false, false]);
        assert_eq!(told(&NotificationPolicy { facts: Facts::All, ..everywhere.clone() }), [true; 3]);
        let elsewhere = [
            NotificationPolicy { environments: vec![name("dev")], facts: Facts::All, ..everywhere.clone() },
            NotificationPolicy { services: vec![name("site")], facts: Facts::All, ..everywhere.clone() },
        ];
        for route in elsewhere {
            assert_eq!(told(&route), [false; 3], "{route:?}");
        }
        let here = NotificationPolicy {
            environments: vec![name("dev"), name("prod")],
            services: vec![name("api")],
            ..everywhere
        };
        assert_eq!(told(&here), [true, true, false]);
    }
}
