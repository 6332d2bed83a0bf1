//! A target: what runs there, how traffic moves, what is watched, and what runs on the way.

use super::{AlarmName, DurationText, FamilyName, LiveText, NameText, PercentText, RuleOrListenerArn};
use schemars::JsonSchema;

mapping! {
    /// What holds for every target of an environment that does not say otherwise. Inside `strategy`, `hooks` and `deadlines` each
    /// key is replaced by itself; a list is replaced whole. A target that is one service inherits nothing that is for pairs only.
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
        /// What deploys a newer template whose image is the same, where the target names a family of templates.
        pub configuration: Option<Configuration>,
    }
}

mapping! {
    /// A service in an environment: what runs it, how traffic reaches it, and how a release gets there.
    pub struct Target {
        /// The ECS services that run it: a pair, or one.
        pub ecs: Ecs,
        /// The load balancers that the target is behind. A pair has at least one, and the weights of all are moved as one.
        #[schemars(length(min = 1, max = 5))]
        pub traffic: Option<Vec<TrafficEntry>>,
        /// Where everything of a new version but its image comes from. Default: live.
        pub template: Option<Template>,
        /// What deploys a newer template whose image is the same. Default: manual.
        pub configuration: Option<Configuration>,
        /// How traffic moves.
        pub strategy: Option<Strategy>,
        /// Alarms that roll a deployment back, hold it, or only notify people. Default: none.
        #[schemars(length(max = 20))]
        pub alarms: Option<Vec<Alarm>>,
        /// What runs on the way. Default: nothing.
        pub hooks: Option<Hooks>,
        /// How long each wait may take.
        pub deadlines: Option<Deadlines>,
    }
}

mapping! {
    /// The ECS services of a target: `blue` and `green`, a pair of which one serves while the other one gets the next release,
    /// or `service` alone, whose tasks ECS replaces in place.
    #[schemars(extend("oneOf" = [
        {"required": ["blue", "green"], "maxProperties": 4},
        {"required": ["service"], "maxProperties": 3}
    ]))]
    pub struct Ecs {
        /// Name or ARN of the ECS cluster.
        pub cluster: String,
        /// The container whose image is replaced; all others stay as they are.
        pub container: String,
        /// Name of the service of one side of a pair.
        pub blue: Option<String>,
        /// Name of the service of the other side.
        pub green: Option<String>,
        /// Name of the one service: of a worker, say, or of one that needs no steps of traffic.
        pub service: Option<String>,
    }
}

/// A load balancer that a target is behind: of a pair with its weights, of one service without.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub enum TrafficEntry {
    /// Of a pair: a target group for each side, and what splits traffic between them.
    Leg(Leg),
    /// Of one service: its target group.
    InPlace(InPlaceTargetGroup),
}

mapping! {
    /// A load balancer of a pair: the target group of each side, and what splits traffic between them.
    pub struct Leg {
        /// ARN of the target group that the blue service registers its tasks in.
        #[schemars(regex(pattern = "^arn:aws[a-z-]*:elasticloadbalancing:[a-z0-9-]+:[0-9]{12}:targetgroup/"))]
        pub blue: String,
        /// ARN of the target group that the green service registers its tasks in.
        #[schemars(regex(pattern = "^arn:aws[a-z-]*:elasticloadbalancing:[a-z0-9-]+:[0-9]{12}:targetgroup/"))]
        pub green: String,
        /// ARNs of the listener rules, or of listeners (their default action), whose weights are moved.
        #[schemars(length(min = 1, max = 5))]
        pub rules: Vec<RuleOrListenerArn>,
        /// ARN of a listener rule or listener that only testers reach.
        pub test_rule: Option<RuleOrListenerArn>,
    }
}

mapping! {
    /// A load balancer of one service. The health of its targets is judged; no weights are moved.
    pub struct InPlaceTargetGroup {
        /// ARN of the target group that the service registers its tasks in.
        #[schemars(regex(pattern = "^arn:aws[a-z-]*:elasticloadbalancing:[a-z0-9-]+:[0-9]{12}:targetgroup/"))]
        pub target_group: String,
    }
}

/// Where everything of a new version but its image comes from: CPU, memory, variables, secrets, other containers.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub enum Template {
    /// The live version.
    Live(LiveText),
    /// The newest active task definition of a family that your own tooling registers.
    Family(TemplateFamily),
}

mapping! {
    /// A family of task definitions that your own tooling registers, Terraform for example. The versions made of them are
    /// registered in a family of their own, NAME-switchback.
    pub struct TemplateFamily {
        /// Name of the family, without a revision.
        pub family: FamilyName,
    }
}

/// What deploys a newer template whose image is the same.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum Configuration {
    /// Only a request: `switchback deploy TARGET --configuration`. The next release has it, too.
    Manual,
    /// The sweep, too, once it finds one while nothing is deployed; not one that has failed here. Needs a family.
    Automatic,
}

mapping! {
    /// How traffic moves from the stable side to the candidate. Of one service only `bake` and the count and share of
    /// `task_failures` apply: its tasks are replaced in place.
    pub struct Strategy {
        /// The steps: traffic rises, and the last one is 100%. Pairs only. Default: 10% for 5m, 50% for 5m, 100%.
        #[schemars(length(min = 1, max = 50))]
        pub steps: Option<Vec<Step>>,
        /// How long all traffic stays on the candidate, watched, before it counts as verified. Default: 10m.
        pub bake: Option<DurationText>,
        /// How long the old side stays up after that, so that a rollback takes seconds. Pairs only. Default: 10m.
        pub keep_warm: Option<DurationText>,
        /// The share of the stable side's running tasks that the candidate starts with; it grows with the traffic. Pairs only.
        /// Default: 100%.
        pub green_capacity: Option<PercentText>,
        /// How long a side that has lost its traffic stays up, for the balancer's nodes to learn of it. Pairs only.
        /// Default: 30s.
        pub drain: Option<DurationText>,
        /// How many of the candidate's tasks may stop by themselves once it was up, whatever their exit code.
        pub task_failures: Option<TaskFailures>,
    }
}

mapping! {
    /// Once the candidate was up it is rolled back where more of its tasks stopped by themselves than each of these allows, as far
    /// back as ECS remembers stopped tasks (about an hour). Before that, two tasks that stop end the attempt.
    pub struct TaskFailures {
        /// So many tasks. Default: 2.
        #[schemars(range(min = 0, max = 5000))]
        pub count: Option<u32>,
        /// This share of its tasks. Default: 5%.
        pub share: Option<PercentText>,
        /// So many times the stable side's rate over the same time. Pairs only. Default: 2.
        #[schemars(range(min = 1, max = 100))]
        pub times_stable: Option<u32>,
    }
}

mapping! {
    /// One step of traffic.
    pub struct Step {
        /// The candidate's share.
        pub traffic: PercentText,
        /// How long it stays there, watched, before the next step. Default: 5m, and 0 at 100% (the bake follows).
        pub hold: Option<DurationText>,
    }
}

/// An alarm that switches a deployment back: its name, or its name and what silence means.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub enum Alarm {
    /// Name of a metric, composite or log alarm in the target's account and Region; silence waits.
    Name(AlarmName),
    /// Name, what INSUFFICIENT_DATA means, and what it does.
    Full(AlarmEntry),
}

mapping! {
    /// An alarm with all that can be said of it.
    pub struct AlarmEntry {
        /// Name of a metric, composite or log alarm in the target's account and Region.
        pub name: AlarmName,
        /// What INSUFFICIENT_DATA means. Default: wait.
        pub missing: Option<Missing>,
        /// What it does to a deployment while it fires. Default: back.
        pub firing: Option<Firing>,
        /// What it does if it fires before a deployment starts. Default: block.
        pub at_start: Option<AtStart>,
        /// What happens if it fires, and all its metrics belong to the stable side (by their dimensions). Traffic never
        /// rolls back to the side that it is about. Default: hold.
        pub stable_firing: Option<StableFiring>,
    }
}

/// What a firing alarm does to a deployment.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum Firing {
    /// The deployment rolls back.
    Back,
    /// Nothing widens while it fires; at the stage's deadline the deployment rolls back.
    Hold,
    /// It is journalled, and people are notified. It holds nothing, not even the start.
    Tell,
}

/// What an alarm does that fires before a deployment starts.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum AtStart {
    /// The deployment waits until it no longer fires.
    Block,
    /// The deployment starts, and the alarm is not judged until it has been OK once.
    Pass,
}

/// What happens if an alarm fires whose metrics all belong to the stable side.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum StableFiring {
    /// Traffic stays as it is, and people are notified; `switchback resume` continues, `switchback rollback` rolls back.
    Hold,
    /// Traffic goes on to the candidate.
    GoOn,
}

/// What an alarm without data means.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum Missing {
    /// Silence widens nothing; after the wait's deadline the deployment is rolled back.
    Wait,
    /// Silence is health: for alarms that only speak on errors.
    Healthy,
    /// Silence is failure: for heartbeats.
    Unhealthy,
}

mapping! {
    /// What runs on the way and can say no. At most 10 in a target.
    pub struct Hooks {
        /// Before the candidate's tasks start: the place of a migration.
        #[schemars(length(max = 10))]
        pub before_traffic: Option<Vec<Hook>>,
        /// While the candidate is healthy, reached by the test rule only. Pairs only.
        #[schemars(length(max = 10))]
        pub test_traffic: Option<Vec<Hook>>,
        /// With all traffic on the candidate, before the bake.
        #[schemars(length(max = 10))]
        pub after_traffic: Option<Vec<Hook>>,
    }
}

mapping! {
    /// A hook: a Lambda function or a task of the new image, exactly one of them.
    #[schemars(extend("oneOf" = [{"required": ["lambda"]}, {"required": ["task"]}]))]
    pub struct Hook {
        /// Its name, unique in the target.
        pub name: NameText,
        /// Name or ARN of a Lambda function, asked until it answers `succeeded` or `failed`.
        pub lambda: Option<String>,
        /// One run of the candidate's task definition, judged by the container's exit code.
        pub task: Option<Task>,
        /// How long it may take, retries included; after that it has failed. Default: 10m, at least 5s.
        pub deadline: Option<DurationText>,
        /// It changes what the old release depends on (a migration): once it has begun, there is no automatic rollback; in trouble the
        /// deployment awaits an operator. Default: false.
        pub forward_only: Option<bool>,
    }
}

mapping! {
    /// What a hook's task runs.
    pub struct Task {
        /// The container whose command is replaced and whose exit code counts. Default: the target's container.
        pub container: Option<String>,
        /// The command. Default: as the task definition has it.
        #[schemars(length(max = 50))]
        pub command: Option<Vec<String>>,
    }
}

mapping! {
    /// How long each wait may take before what comes next is decided without it. At least 5s each.
    pub struct Deadlines {
        /// Something that speaks against starting: an alarm that fires, a rule in disorder. Then: failed, nothing touched. Default: 30m.
        pub preflight: Option<DurationText>,
        /// Registering the task definition. Then: failed. Default: 5m.
        pub register: Option<DurationText>,
        /// The candidate's tasks running and every target healthy. Then: switched back. Default: 15m.
        pub healthy: Option<DurationText>,
        /// One write of weights, until it is seen live, and the health and alarms that it or the end of the bake waits for. Then:
        /// switched back. Default: 10m.
        pub shift: Option<DurationText>,
        /// Taking the old side down; longer than the strategy's drain. Then: succeeded, and the journal says what is left. Pairs
        /// only. Default: 15m.
        pub retire: Option<DurationText>,
        /// Going back; longer than the strategy's drain. Then: failed, and the journal says where traffic is. Default: 30m.
        pub rollback: Option<DurationText>,
    }
}
