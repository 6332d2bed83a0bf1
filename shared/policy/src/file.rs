//! The file's format as types: what the JSON Schema is generated from. The reader walks the tree by itself (it must go
//! on after a problem, and know lines); a test holds the two together.

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, json_schema};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The JSON Schema of `switchback.yaml` (draft 2020-12), as it lies beside this crate's manifest for editors.
#[must_use]
pub fn schema() -> String {
    let schema = SchemaSettings::draft2020_12().for_deserialize().into_generator().into_root_schema_for::<File>();
    let mut schema = schema.to_value();
    without_null(&mut schema);
    format!("{schema:#}\n")
}

/// What may be left out may not be nothing: `key:` without a value is a slip, and the reader says so.
fn without_null(schema: &mut Value) {
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
            keywords.values_mut().for_each(without_null);
        }
        Value::Array(values) => values.iter_mut().for_each(without_null),
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
    /// Where it runs. At least one.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 20))]
    pub environments: BTreeMap<NameText, Environment>,
    /// Who is told of what. Default: nobody.
    #[schemars(length(max = 20))]
    pub notifications: Option<Vec<Notification>>,
}

/// An SNS topic, and what it is told of.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Notification {
    /// ARN of the SNS topic; its name begins with the stack's TopicPrefix.
    pub topic: TopicArn,
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
    /// The ECR repository's name, without the registry's host.
    #[schemars(length(min = 2, max = 256))]
    pub repository: String,
    /// Which tags become releases. Default: every tag.
    pub tags: Option<Tags>,
    /// While true, pushes become releases but start no deployment. Default: false.
    pub paused: Option<bool>,
}

/// Which tags become releases: exactly one kind of pattern.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, extend("minProperties" = 1, "maxProperties" = 1))]
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
}

/// An environment: the targets in it, and what starts a deployment there.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Environment {
    /// What starts a deployment here. Default: manual.
    pub trigger: Option<Trigger>,
    /// What happens to a release that comes while another one is deployed to the same target. Default: queue-newest.
    pub concurrency: Option<Concurrency>,
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
    /// Every new release.
    Push,
    /// Only a person or CI that asks for it.
    Manual,
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
    pub rules: Vec<RouteArn>,
    /// ARN of a listener rule or listener that only testers reach.
    pub test_rule: Option<RouteArn>,
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
    /// Name of a metric or composite alarm in the target's account and Region; silence waits.
    Name(AlarmName),
    /// Name, and what INSUFFICIENT_DATA means.
    Full(AlarmEntry),
}

/// An alarm with all that can be said of it.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct AlarmEntry {
    /// Name of a metric or composite alarm in the target's account and Region.
    pub name: AlarmName,
    /// What INSUFFICIENT_DATA means. Default: wait.
    pub missing: Option<Missing>,
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

macro_rules! text_type {
    ($(#[$doc:meta])* $type:ident, $schema:expr) => {
        $(#[$doc])*
        #[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $type(pub String);

        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}
text_type!(
    /// A name of Switchback's own: lower-case words joined by single hyphens.
    NameText,
    json_schema!({"type": "string", "maxLength": 63, "pattern": "^[a-z0-9]+(-[a-z0-9]+)*$"})
);
text_type!(
    /// A duration: `90s`, `5m`, `4h`, `1d`, or 0.
    DurationText,
    json_schema!({"anyOf": [{"type": "string", "pattern": "^(0|[0-9]+[smhd])$"}, {"const": 0}], "examples": ["90s", "5m", "4h", "1d"]})
);
text_type!(
    /// A share: `1%` to `100%`.
    PercentText,
    json_schema!({"type": "string", "pattern": "^0{0,2}[1-9][0-9]?%$|^100%$|^0[1-9][0-9]%$", "examples": ["10%", "100%"]})
);
text_type!(
    /// The ARN of a listener rule or listener of an Application Load Balancer.
    RouteArn,
    json_schema!({"type": "string", "pattern": "^arn:aws[a-z-]*:elasticloadbalancing:[a-z0-9-]+:[0-9]{12}:listener(-rule)?/app/"})
);
text_type!(
    /// The ARN of an SNS topic.
    TopicArn,
    json_schema!({"type": "string", "pattern": "^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}([.]fifo)?$"})
);
text_type!(
    /// The name of an alarm, not its ARN.
    AlarmName,
    json_schema!({"type": "string", "minLength": 1, "maxLength": 255})
);
