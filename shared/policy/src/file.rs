//! The file's format as types, from which the JSON Schema is generated. The reader walks the tree itself (it must continue
//! after a problem, and know line numbers); a test checks that both agree.

mod text_types;

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::Value;
use std::collections::BTreeMap;

pub use text_types::{
    AccountText, AlarmName, CallerArn, DateTimeText, DurationText, EnvironmentNames, EventName, GroupMembers,
    MailTopicArn, NameText, NumericIdText, PercentText, RefPattern, RegionText, ReusableWorkflowPattern,
    RuleOrListenerArn, SlackChannel, SlackMember, TopicArn, WindowText, WorkflowPattern,
};

/// The JSON Schema of `switchback.yaml` (draft 2020-12), as it lies beside this crate's manifest for editors.
#[must_use]
pub fn schema() -> String {
    let schema = SchemaSettings::draft2020_12().for_deserialize().into_generator().into_root_schema_for::<File>();
    let mut schema = schema.to_value();
    strip_null(&mut schema);
    format!("{schema:#}\n")
}

/// Removes `null` from optional keys: `key:` without a value is a mistake, and the reader reports it.
fn strip_null(schema: &mut Value) {
    match schema {
        Value::Object(keywords) => {
            if let Some(Value::Array(kinds)) = keywords.get_mut("type") {
                kinds.retain(|kind| kind != "null");
                if let [only] = kinds.as_slice() {
                    let only = only.clone();
                    keywords.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(options)) = keywords.get_mut("anyOf") {
                options.retain(|option| option["type"] != "null");
                if let [Value::Object(only)] = options.as_slice() {
                    let only = only.clone();
                    keywords.remove("anyOf");
                    for (keyword, value) in only {
                        keywords.entry(keyword).or_insert(value);
                    }
                }
            }
            keywords.values_mut().for_each(strip_null);
        }
        Value::Array(values) => values.iter_mut().for_each(strip_null),
        _ => {}
    }
}

/// What a Switchback application is, where it runs, and how its releases reach it.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, title = "switchback.yaml")]
pub struct File {
    /// The application's name, the first part of every target's: application/service/environment.
    pub application: NameText,
    /// What is built. At least one.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 50))]
    pub services: BTreeMap<NameText, Service>,
    /// The people whom rules name. Default: nobody.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 200))]
    pub people: Option<BTreeMap<NameText, Person>>,
    /// Groups of them, by names that no person has. Default: none.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 50))]
    pub groups: Option<BTreeMap<NameText, GroupMembers>>,
    /// What workflows of GitHub Actions may do. Default: nothing.
    #[schemars(length(max = 50))]
    pub github: Option<Vec<Grant>>,
    /// Where it runs. At least one.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 20))]
    pub environments: BTreeMap<NameText, Environment>,
    /// Who is told of what. Default: nobody.
    #[schemars(length(max = 20))]
    pub notifications: Option<Vec<Notification>>,
}

/// A person, by what proves them at each door. What proves one person proves no other.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Person {
    /// Slack's member ID: the profile has it under "Copy member ID".
    pub slack: Option<SlackMember>,
    /// ARNs of IAM users or of sessions of a role, as `aws sts get-caller-identity` shows them. Whoever may assume the role may
    /// choose the session's name, unless its trust policy fixes `sts:RoleSessionName`; IAM Identity Center fixes it.
    #[schemars(length(max = 5))]
    pub iam: Option<Vec<CallerArn>>,
    /// GitHub's number of their account: deployments that their workflows ask for, they do not approve themselves.
    pub github: Option<NumericIdText>,
    /// ARN of an SNS topic that only they are subscribed to: approvals are asked for there, by signed link. Its name begins with the
    /// stack's TopicPrefix.
    pub mail: Option<MailTopicArn>,
}

/// What workflows of a repository of GitHub may do. Every key that is there must fit the token of the job, and a pull request is
/// never granted anything.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Grant {
    /// GitHub's number of the repository, as `gh api repos/OWNER/NAME --jq .id` shows it: no other one ever gets it.
    pub repository_id: NumericIdText,
    /// GitHub's number of its owner, as `gh api repos/OWNER/NAME --jq .owner.id` shows it.
    pub repository_owner_id: NumericIdText,
    /// Branches and tags that it must run on; `*` ends at a slash, `**` does not. A merge queue's branches are meant only by
    /// patterns that begin with `refs/heads/gh-readonly-queue/`. Default: any other.
    #[schemars(length(min = 1, max = 20))]
    pub refs: Option<Vec<RefPattern>>,
    /// The GitHub environment that the job must have, with the protection that it has there, in upper or lower case. Default:
    /// any, or none.
    #[schemars(length(min = 1, max = 255))]
    pub environment: Option<String>,
    /// The workflows that it must be, by their paths in the repository, on one of `refs`. Default: any.
    #[schemars(length(min = 1, max = 20))]
    pub workflows: Option<Vec<WorkflowPattern>>,
    /// The reusable workflows one of which the job must come through, in full: owner, repository, path and ref. Default: any, or
    /// none.
    #[schemars(length(min = 1, max = 20))]
    pub reusable_workflows: Option<Vec<ReusableWorkflowPattern>>,
    /// What must have set it off. Default: push, workflow_dispatch, schedule, release, repository_dispatch or deployment.
    #[schemars(length(min = 1, max = 20))]
    pub events: Option<Vec<EventName>>,
    /// What it may do. Default: promote.
    #[schemars(length(min = 1, max = 3))]
    pub may: Option<Vec<Permission>>,
    /// With which services. Default: with all.
    #[schemars(length(min = 1, max = 50))]
    pub services: Option<Vec<NameText>>,
    /// In which environments of this file. At least one.
    #[schemars(length(min = 1, max = 50))]
    pub environments: Vec<NameText>,
}

/// What a workflow can be allowed to do.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum Permission {
    /// Bring what the environments before have verified.
    Promote,
    /// Bring a release by its name, where the environment's rules let it in.
    Deploy,
    /// Use the hotfix lane.
    Hotfix,
}

/// An SNS topic or a channel of Slack, exactly one of them, and what it is told of.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, extend("oneOf" = [{"required": ["topic"]}, {"required": ["slack"]}]))]
pub struct Notification {
    /// ARN of the SNS topic; its name begins with the stack's TopicPrefix.
    pub topic: Option<TopicArn>,
    /// ID of the channel of Slack, which the app has been invited to: one thread a release, and the buttons to approve with.
    pub slack: Option<SlackChannel>,
    /// Only of these environments. Default: of all.
    #[schemars(length(min = 1, max = 50))]
    pub environments: Option<Vec<NameText>>,
    /// Only of these services. Default: of all.
    #[schemars(length(min = 1, max = 50))]
    pub services: Option<Vec<NameText>>,
    /// Only of these facts of the journal. Default: attention.
    pub facts: Option<Facts>,
}

/// Which facts of the journal are told of.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum Facts {
    /// What is worth a person's attention: beginning, trouble, way back, end.
    Attention,
    /// How deployments ended.
    Verdicts,
    /// Every one.
    All,
}

/// A service: where its images come from.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Service {
    /// The registry that the repository is in, where that is not the control plane's own. Only pushes to it are believed.
    pub registry: Option<Registry>,
    /// The ECR repository's name, without the registry's host.
    #[schemars(length(min = 2, max = 256))]
    pub repository: String,
    /// Which tags become releases. Default: every tag.
    pub tags: Option<Tags>,
    /// While true, pushes become releases but start no deployment. Default: false.
    pub paused: Option<bool>,
    /// The services that go first in a release train. Default: none.
    #[schemars(length(min = 1, max = 50))]
    pub depends_on: Option<Vec<NameText>>,
}

/// A registry: an account's, in a Region. One of the keys may be left out: then it is the control plane's own.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, extend("minProperties" = 1))]
pub struct Registry {
    /// The account, 12 digits.
    pub account: Option<AccountText>,
    /// The Region: `eu-central-1`.
    pub region: Option<RegionText>,
}

/// Which tags become releases: exactly one kind of pattern, and another one for what it shall not take.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, extend("oneOf" = [{"required": ["glob"]}, {"required": ["regex"]}, {"required": ["semver"]}]))]
pub struct Tags {
    /// A shell pattern: `v*`, `release-??`, `{main,release}-*`.
    #[schemars(length(min = 1, max = 256))]
    pub glob: Option<String>,
    /// A regular expression that the whole tag must match: `v[0-9]+`.
    #[schemars(length(min = 1, max = 256))]
    pub regex: Option<String>,
    /// A range of semantic versions: `>=1.2, <2`. A tag's leading `v` is not looked at.
    #[schemars(length(min = 1, max = 256))]
    pub semver: Option<String>,
    /// Tags that are taken by the pattern, and shall not be: `{glob: "*-{amd64,arm64}"}`. Default: none.
    pub not: Option<NotTags>,
}

/// Which tags do not become releases: exactly one kind of pattern.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, extend("minProperties" = 1, "maxProperties" = 1))]
pub struct NotTags {
    /// A shell pattern: `v*`, `release-??`, `{main,release}-*`.
    #[schemars(length(min = 1, max = 256))]
    pub glob: Option<String>,
    /// A regular expression that the whole tag must match: `v[0-9]+`.
    #[schemars(length(min = 1, max = 256))]
    pub regex: Option<String>,
    /// A range of semantic versions: `>=1.2, <2`. A tag's leading `v` is not looked at.
    #[schemars(length(min = 1, max = 256))]
    pub semver: Option<String>,
}

/// An environment: the targets in it, what starts a deployment there, and what a release must pass before that begins.
/// Rollbacks pass everything.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Environment {
    /// What starts a deployment here. Default: manual.
    pub trigger: Option<Trigger>,
    /// The environments that must have verified a release (deployed, baked, and not gone back from) before it comes here: a name, or
    /// a list of which every one must, or `all` or `any` of a list. Default: none.
    pub after: Option<After>,
    /// For how long they must have. Default: 0.
    pub soak: Option<DurationText>,
    /// Who has to say yes. Default: nobody.
    pub approval: Option<Approval>,
    /// IANA name of the time zone of `windows` and `freezes`, which need it.
    #[schemars(length(min = 1, max = 64), example = "Europe/Berlin")]
    pub time_zone: Option<String>,
    /// When deployments may begin; what has begun goes on. Default: at any time.
    #[schemars(length(min = 1, max = 50))]
    pub windows: Option<Vec<WindowText>>,
    /// When none may begin. Default: never.
    #[schemars(length(max = 50))]
    pub freezes: Option<Vec<Freeze>>,
    /// The hotfix lane. Default: there is none.
    pub hotfix: Option<Hotfix>,
    /// How release trains go here.
    pub trains: Option<Trains>,
    /// How long a deployment may wait to begin, for all that is asked of it together. Then: expired. Default: 7d, at least 5s.
    pub give_up_after: Option<DurationText>,
    /// What happens to a release that comes while another one is deployed to the same target. Default: queue-newest.
    pub concurrency: Option<Concurrency>,
    /// What is done about an edit of a rule, a listener or a service that somebody else makes while nothing is deployed, or while
    /// the old side is being stopped. Default: tell.
    pub drift: Option<Drift>,
    /// What holds for every target here that does not say otherwise, key by key.
    pub defaults: Option<Defaults>,
    /// The services that run here, by their names under `services`. At least one.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 50))]
    pub targets: BTreeMap<NameText, Target>,
}

/// What starts a deployment.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum Trigger {
    /// Every new release. Not with `after`.
    Push,
    /// Only a person or CI that asks for it.
    Manual,
    /// What the environments in `after` have verified, by itself.
    Promotion,
}

/// The environments that come before one.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub enum After {
    /// This one.
    One(NameText),
    /// Every one of these.
    Every(EnvironmentNames),
    /// Every one, or one, of these.
    Some(AfterSome),
}

/// Every one, or one, of several environments: exactly one of the keys.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, extend("minProperties" = 1, "maxProperties" = 1))]
pub struct AfterSome {
    /// Every one of these.
    pub all: Option<EnvironmentNames>,
    /// One of these.
    pub any: Option<EnvironmentNames>,
}

/// Who has to say yes: to the digest and to what the deployment would do. If that changes, they are asked again.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Approval {
    /// How many different people. Whoever asked for the deployment is not among them. Default: 1.
    #[schemars(range(min = 1, max = 20))]
    pub required: Option<u8>,
    /// The people and groups that are asked. At least one; together at most 50 people.
    #[schemars(length(min = 1, max = 50))]
    pub from: Vec<NameText>,
    /// How long they have. Default: 1d, at least 5s.
    pub expires: Option<DurationText>,
    /// What it is taken for if they do not answer. Default: reject.
    pub default: Option<DefaultAnswer>,
}

/// What silence is taken for.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum DefaultAnswer {
    /// A no: the deployment ends as `expired`.
    Reject,
    /// A yes.
    Approve,
}

/// A time at which no deployment begins, on the clock of `time_zone`. Rollbacks do.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Freeze {
    /// Its first minute.
    pub from: DateTimeText,
    /// The first minute after it.
    pub until: DateTimeText,
    /// Why, for those who wait.
    #[schemars(length(min = 1, max = 200))]
    pub reason: String,
}

/// The hotfix lane: for those with the permission to use it, a reason, and the journal's mark for ever.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Hotfix {
    /// What a hotfix is not asked. At least one.
    #[schemars(length(min = 1, max = 6))]
    pub skips: Vec<Gate>,
}

/// Something that can keep a deployment from beginning, and that a hotfix may pass by.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum Gate {
    /// The environments before have verified the release.
    After,
    /// It has been verified there for long enough.
    Soak,
    /// People have said yes.
    Approval,
    /// A window is open.
    Window,
    /// No freeze is on, of the policy or set by hand.
    Freeze,
    /// The line is not stopped.
    StopTheLine,
}

/// How several services that are deployed as one set go.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Trains {
    /// What happens to the others of a train when one of them goes back. Default: alone.
    pub rollback: TrainRollback,
}

/// What happens to the others of a train when one of them goes back.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum TrainRollback {
    /// Nothing: each service for itself. What has not begun does not begin.
    Alone,
    /// They go back too.
    Together,
}

/// What happens to a release that comes while another one is deployed to the same target. Whatever it says, a deployment whose
/// bake is over is finished, and a rollback is.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case")]
pub enum Concurrency {
    /// It waits; what waited before gives way to it.
    QueueNewest,
    /// It waits, behind all that wait already: at most 20, beyond that the oldest gives way.
    QueueAll,
    /// The running deployment turns back for it; what waited before gives way to it.
    CancelRunning,
    /// It is refused.
    Reject,
}

/// What is done about an edit that somebody else makes.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case")]
pub enum Drift {
    /// It is told, with who made it where CloudTrail says so. Nothing is written.
    Tell,
    /// The weights also go back to the stable side, if it has a healthy target; at most once in ten minutes.
    Revert,
}

/// What holds for every target of an environment that does not say otherwise. Inside `strategy`, `hooks` and `deadlines` each
/// key is replaced by itself; a list is replaced whole.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Defaults {
    /// How traffic moves.
    pub strategy: Option<Strategy>,
    /// What is watched.
    #[schemars(length(max = 20))]
    pub alarms: Option<Vec<Alarm>>,
    /// What runs on the way.
    pub hooks: Option<Hooks>,
    /// How long each wait may take.
    pub deadlines: Option<Deadlines>,
}

/// A service in an environment: a pair of ECS services behind the same rules, and how a release gets there.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Target {
    /// Name or ARN of the ECS cluster.
    pub cluster: String,
    /// The container whose image is replaced; all others stay as they are.
    pub container: String,
    /// One side.
    pub blue: Side,
    /// The other side.
    pub green: Side,
    /// ARNs of the listener rules, or of listeners (their default action), whose weights are moved as one.
    #[schemars(length(min = 1, max = 5))]
    pub rules: Vec<RuleOrListenerArn>,
    /// ARN of a listener rule or listener that only testers reach.
    pub test_rule: Option<RuleOrListenerArn>,
    /// How traffic moves.
    pub strategy: Option<Strategy>,
    /// Alarms that switch a deployment back. Default: none.
    #[schemars(length(max = 20))]
    pub alarms: Option<Vec<Alarm>>,
    /// What runs on the way. Default: nothing.
    pub hooks: Option<Hooks>,
    /// How long each wait may take.
    pub deadlines: Option<Deadlines>,
}

/// One side of the pair.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Side {
    /// Name of the ECS service.
    pub service: String,
    /// ARN of the target group that the service registers its tasks in.
    #[schemars(regex(pattern = "^arn:aws[a-z-]*:elasticloadbalancing:[a-z0-9-]+:[0-9]{12}:targetgroup/"))]
    pub target_group: String,
}

/// How traffic moves from the stable side to the candidate.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Strategy {
    /// The steps: traffic rises, and the last one is 100%. Default: 10% for 5m, 50% for 5m, 100%.
    #[schemars(length(min = 1, max = 50))]
    pub steps: Option<Vec<Step>>,
    /// How long all traffic stays on the candidate, watched, before it counts as verified. Default: 10m.
    pub bake: Option<DurationText>,
    /// How long the old side stays up after that, so that the way back takes seconds. Default: 10m.
    pub keep_warm: Option<DurationText>,
    /// The share of the stable side's running tasks that the candidate starts with; it grows with the traffic. Default: 100%.
    pub green_capacity: Option<PercentText>,
    /// How long a side that has lost its traffic stays up, for the balancer's nodes to learn of it. Default: 30s.
    pub drain: Option<DurationText>,
    /// How many of the candidate's tasks may stop by themselves once it was up, whatever their exit code.
    pub task_failures: Option<TaskFailures>,
}

/// Once the candidate was up it is switched back where more of its tasks stopped by themselves than each of these allows, as far
/// back as ECS remembers stopped tasks (about an hour). Before that, two tasks that stop end the attempt.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct TaskFailures {
    /// So many tasks. Default: 2.
    #[schemars(range(min = 0, max = 5000))]
    pub count: Option<u32>,
    /// This share of its tasks. Default: 5%.
    pub share: Option<PercentText>,
    /// So many times the stable side's rate over the same time. Default: 2.
    #[schemars(range(min = 1, max = 100))]
    pub times_stable: Option<u32>,
}

/// One step of traffic.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Step {
    /// The candidate's share.
    pub traffic: PercentText,
    /// How long it stays there, watched, before the next step. Default: 5m, and 0 at 100% (the bake follows).
    pub hold: Option<DurationText>,
}

/// An alarm that switches a deployment back: its name, or its name and what silence means.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub enum Alarm {
    /// Name of a metric, composite or log alarm in the target's account and Region; silence waits.
    Name(AlarmName),
    /// Name, and what INSUFFICIENT_DATA means.
    Full(AlarmEntry),
}

/// An alarm with all that can be said of it.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct AlarmEntry {
    /// Name of a metric, composite or log alarm in the target's account and Region.
    pub name: AlarmName,
    /// What INSUFFICIENT_DATA means. Default: wait.
    pub missing: Option<Missing>,
    /// What happens where it looks at the stable side alone (by its dimensions), and fires. Traffic never goes back to the
    /// side that it is about. Default: hold.
    pub stable_firing: Option<StableFiring>,
}

/// What happens where an alarm that looks at the stable side alone fires.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum StableFiring {
    /// Traffic stays as it is, and people are called; `switchback resume` goes on, `switchback rollback` goes back.
    Hold,
    /// Traffic goes on to the candidate.
    GoOn,
}

/// What an alarm without data means.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum Missing {
    /// Silence widens nothing; after the wait's deadline the deployment is switched back.
    Wait,
    /// Silence is health: for alarms that only speak on errors.
    Healthy,
    /// Silence is failure: for heartbeats.
    Unhealthy,
}

/// What runs on the way and can say no. At most 10 in a target.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Hooks {
    /// Before the candidate's tasks start: the place of a migration.
    #[schemars(length(max = 10))]
    pub before_traffic: Option<Vec<Hook>>,
    /// While the candidate is healthy, reached by the test rule only.
    #[schemars(length(max = 10))]
    pub test_traffic: Option<Vec<Hook>>,
    /// With all traffic on the candidate, before the bake.
    #[schemars(length(max = 10))]
    pub after_traffic: Option<Vec<Hook>>,
}

/// A hook: a Lambda function or a task of the new image, exactly one of them.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, extend("oneOf" = [{"required": ["lambda"]}, {"required": ["task"]}]))]
pub struct Hook {
    /// Its name, unique in the target.
    pub name: NameText,
    /// Name or ARN of a Lambda function, asked until it answers `succeeded` or `failed`.
    pub lambda: Option<String>,
    /// One run of the candidate's task definition, judged by the container's exit code.
    pub task: Option<Task>,
    /// How long it may take, retries included; after that it has failed. Default: 10m, at least 5s.
    pub deadline: Option<DurationText>,
    /// It changes what the old release stands on (a migration): once it has begun, trouble does not switch traffic back but freezes
    /// the target and calls a person. Default: false.
    pub forward_only: Option<bool>,
}

/// What a hook's task runs.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Task {
    /// The container whose command is replaced and whose exit code counts. Default: the target's container.
    pub container: Option<String>,
    /// The command. Default: as the task definition has it.
    #[schemars(length(max = 50))]
    pub command: Option<Vec<String>>,
}

/// How long each wait may take before what comes next is decided without it. At least 5s each.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Deadlines {
    /// Something that speaks against starting: an alarm that fires, a rule in disorder. Then: failed, nothing touched. Default: 30m.
    pub preflight: Option<DurationText>,
    /// Registering the task definition. Then: failed. Default: 5m.
    pub register: Option<DurationText>,
    /// The candidate's tasks running and every target healthy. Then: switched back. Default: 15m.
    pub healthy: Option<DurationText>,
    /// One write of weights, until it is seen live, and the health and alarms it waits for. Then: switched back. Default: 10m.
    pub shift: Option<DurationText>,
    /// Taking the old side down; longer than the strategy's drain. Then: succeeded, and the journal says what is left. Default: 15m.
    pub retire: Option<DurationText>,
    /// Going back; longer than the strategy's drain. Then: failed, and the journal says where traffic is. Default: 30m.
    pub rollback: Option<DurationText>,
}
