//! An environment, and what a release must pass before its deployment may begin there.

use super::{DateTimeText, Defaults, DurationText, EnvironmentNames, NameText, Target, WindowText};
use schemars::JsonSchema;
use std::collections::BTreeMap;

mapping! {
    /// An environment: the targets in it, what starts a deployment there, and what a release must pass before that begins.
    /// Rollbacks pass everything.
    pub struct Environment {
        /// What starts a deployment here. Default: manual.
        pub trigger: Option<Trigger>,
        /// The environments that must have verified a release (deployed, baked, and not rolled back since) before it comes here: a name,
        /// or a list of which every one must, or `all` or `any` of a list. Default: none.
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
        /// Only one service here is deployed at a time: the next deployment begins when the one before has been verified or
        /// has ended, and of those that wait, services that others depend on go first. Rollbacks do not wait. Default: false.
        pub one_at_a_time: Option<bool>,
        /// How long a deployment may wait to begin, for all that is asked of it together. Then: expired. Default: 7d, at least 5s.
        pub give_up_after: Option<DurationText>,
        /// What happens to a release that comes while another one is deployed to the same target. Default: queue-newest.
        pub concurrency: Option<Concurrency>,
        /// What is done about an edit of a rule, a listener or a service that somebody else makes while nothing is deployed, or while
        /// the old side is being stopped. Default: tell.
        pub drift: Option<Drift>,
        /// Within which traffic has to be off a bad release here. Changes nothing: `plan` and `doctor` compare it with what the
        /// alarms' periods and the deadlines add up to. Default: not stated.
        pub recovery_time: Option<DurationText>,
        /// What holds for every target here that does not say otherwise, key by key.
        pub defaults: Option<Defaults>,
        /// The services that run here, by their names under `services`. At least one.
        #[schemars(extend("minProperties" = 1, "maxProperties" = 50))]
        pub targets: BTreeMap<NameText, Target>,
    }
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

mapping! {
    /// Every one, or one, of several environments: exactly one of the keys.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
    pub struct AfterSome {
        /// Every one of these.
        pub all: Option<EnvironmentNames>,
        /// One of these.
        pub any: Option<EnvironmentNames>,
    }
}

mapping! {
    /// Who has to say yes: to the digest and to what the deployment would do. If that changes, they are asked again.
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

mapping! {
    /// A time at which no deployment begins, on the clock of `time_zone`. Rollbacks do.
    pub struct Freeze {
        /// Its first minute.
        pub from: DateTimeText,
        /// The first minute after it.
        pub until: DateTimeText,
        /// Why, for those who wait.
        #[schemars(length(min = 1, max = 200))]
        pub reason: String,
    }
}

mapping! {
    /// The hotfix lane: for those with the permission to use it, a reason, and the journal's mark for ever.
    pub struct Hotfix {
        /// What a hotfix is not asked. At least one.
        #[schemars(length(min = 1, max = 6))]
        pub skips: Vec<Gate>,
    }
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
    /// No other service of the environment is being deployed.
    OneAtATime,
}

mapping! {
    /// How several services that are deployed as one set go.
    pub struct Trains {
        /// What happens to the others of a train when one of them rolls back. Default: alone.
        pub rollback: TrainRollback,
    }
}

/// What happens to the others of a train when one of them rolls back.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum TrainRollback {
    /// Nothing: each service for itself. What has not begun does not begin.
    Alone,
    /// They roll back too.
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
    /// People are notified, with who made it where CloudTrail says so. Nothing is written.
    Tell,
    /// The weights also go back to the stable side, if it has a healthy target; at most once in ten minutes.
    Revert,
}
