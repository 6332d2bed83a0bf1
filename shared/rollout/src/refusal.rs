//! Why a command changes nothing. The core journals it, and the API answers with it where it is known at once: both say
//! the same sentence, the value's `Display`. The API may add what the history knows. The sentence does not name the
//! target: whoever shows it does.

use crate::entry::Gate;
use crate::names::{Actor, Name};
use crate::stage::Stage;
use crate::time::Seconds;
use crate::verdict::Verdict;
use serde::{Deserialize, Serialize};

/// Why a command changes nothing. Each variant's description begins with the commands that it can refuse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum CommandRefusal {
    /// No applied policy names the target.
    #[error("no applied policy names this target: apply a switchback.yaml that does")]
    NoPolicy,

    /// Deploy: the release waits in the queue.
    #[error("{tag} is already waiting to be deployed")]
    AlreadyQueued {
        /// The release's tag.
        tag: String,
    },
    /// Deploy: a running deployment brings the release.
    #[error("deployment #{deployment} is already bringing {tag}")]
    AlreadyRunning {
        /// The number of that deployment.
        deployment: u64,
        /// The release's tag.
        tag: String,
    },
    /// Deploy: the release is stable here.
    #[error("{tag} is the stable release already")]
    AlreadyStable {
        /// The release's tag.
        tag: String,
    },
    /// Deploy: the environment takes one release at a time (`concurrency: reject`).
    #[error("{}, and {environment} takes no other release until it is over (concurrency: reject)", occupant(*running, tag))]
    Busy {
        /// The environment.
        environment: Name,
        /// The running deployment and its stage; `None`: a queued release is about to start.
        running: Option<(u64, Stage)>,
        /// Tag of the release that runs or is about to start.
        tag: String,
    },
    /// Deploy: a gate that will never open.
    #[error("{tag} may not be deployed: {reason}")]
    Gate {
        /// The gate.
        gate: Gate,
        /// The release's tag.
        tag: String,
        /// Why it will never open.
        reason: String,
    },
    /// Hotfix: the environment has no hotfix lane.
    #[error(
        "{environment} has no hotfix lane for {tag}: deploy it the usual way, or add `hotfix` to the environment in the policy and apply that"
    )]
    NoHotfixLane {
        /// The environment.
        environment: Name,
        /// The release, as the requester names it.
        tag: String,
    },
    /// Hotfix: no reason was given.
    #[error("{tag}: a hotfix needs a reason")]
    HotfixWithoutReason {
        /// The release's tag.
        tag: String,
    },
    /// Deploy: another member of the release train failed while this one was queued.
    #[error("{tag} is not deployed: {cause}")]
    TrainFailed {
        /// The release's tag.
        tag: String,
        /// What happened to that member.
        cause: String,
    },

    /// Abort: nothing runs, or not the deployment that the command names.
    #[error("{}: nothing was ended", not_running(*wanted, *running))]
    NotRunning {
        /// The deployment that the command names, if it names one.
        wanted: Option<u64>,
        /// The deployment that runs, if one does.
        running: Option<u64>,
    },
    /// Abort, rollback: the deployment rolls back already.
    #[error("deployment #{deployment} is rolling back already")]
    AlreadyRollingBack {
        /// Its number.
        deployment: u64,
    },
    /// Abort, rollback: the stable side is being scaled in, so the deployment has no rollback path any more.
    #[error("deployment #{deployment} has no rollback path any more ({}): wait for its end, then request a rollback", stage.name())]
    NoRollbackPath {
        /// Its number.
        deployment: u64,
        /// Its stage.
        stage: Stage,
    },
    /// Rollback: no earlier release is on record.
    #[error("no earlier release is known: deploy the one that is wanted by its tag or digest instead")]
    NoEarlierRelease,
    /// Rollback: what ran before was not deployed by Switchback.
    #[error("what ran before was not deployed by Switchback: deploy a release by its tag or digest instead")]
    EarlierReleaseUnknown,
    /// Rollback with its train: the release is forward-only.
    #[error("{cause}, and this release is forward-only")]
    ForwardOnly {
        /// Why the train rolls back.
        cause: String,
    },
    /// Resume: nothing waits for an operator.
    #[error(
        "neither a forward-only release nor an alarm of the stable side holds this target: there is nothing to resume. A freeze that somebody has set is lifted with `switchback unfreeze`"
    )]
    NotOnHold,

    /// Approve, reject, override: the deployment has passed its gates.
    #[error("deployment #{deployment} is past its gates ({})", stage.name())]
    PastItsGates {
        /// Its number.
        deployment: u64,
        /// Its stage.
        stage: Stage,
    },
    /// Approve, reject, override: the deployment waits until its service wakes, and for nobody.
    #[error(
        "deployment #{deployment} waits for its service to wake (both sides are at 0 tasks), and for nobody's approval"
    )]
    WaitsForTasks {
        /// Its number.
        deployment: u64,
    },
    /// Approve, reject, override: the deployment is over, and another one followed.
    #[error("deployment #{deployment} is over, and #{by} ({tag}) came after it")]
    Followed {
        /// Its number.
        deployment: u64,
        /// The number of the running one.
        by: u64,
        /// The release of the running one.
        tag: String,
    },
    /// Approve, reject, override: the deployment is over.
    #[error("deployment #{deployment}{}", how_it_ended(ended.as_ref()))]
    Over {
        /// Its number.
        deployment: u64,
        /// Tag, verdict and reason; `None`: not known here.
        ended: Option<(String, Verdict, String)>,
    },
    /// Approve, reject, override: there was never such a deployment.
    #[error("there is no deployment #{deployment}")]
    NoSuchDeployment {
        /// The number that the command names.
        deployment: u64,
    },
    /// Override: no reason was given.
    #[error("opening a gate by hand needs a reason")]
    OverrideWithoutReason,
    /// Override: the gate cannot be overridden.
    #[error("{}", why_not_overridable(*gate))]
    NotOverridable {
        /// The gate.
        gate: Gate,
    },

    /// Approve, reject: the environment requires no approval.
    #[error("deployments to {environment} need no approval: nobody is asked")]
    NoApprovalNeeded {
        /// The environment.
        environment: Name,
    },
    /// Approve, reject: the policy does not name this actor as an approver.
    #[error("{actor} is none of those who may approve here")]
    NotAnApprover {
        /// The actor, as authenticated.
        actor: Actor,
    },
    /// Approve, reject: requesters do not approve their own deployments.
    #[error("{person} requested this deployment, and requesters do not approve")]
    RequesterApproves {
        /// The requester's name in the policy.
        person: Name,
    },
    /// Approve, reject: the decision is about another plan.
    #[error("what the deployment would do has changed since that was asked: look at the present plan")]
    PlanChanged,
    /// Approve, reject: approval is not requested yet.
    #[error("approval is not requested yet: the release has not passed the gates before")]
    NotRequestedYet,
    /// Approve, reject: the deployment is approved with its release train.
    #[error("it is approved with its release train: answer for {lead}, which asks for all of it")]
    AskedWithTrain {
        /// The service that asks.
        lead: Name,
    },
    /// Approve, reject: the time to answer is over.
    #[error("the time to answer ({after}) is over")]
    ApprovalExpired {
        /// How long it was.
        after: Seconds,
    },
    /// Approve: the same person has approved the plan before.
    #[error("{person} has approved already: it counts once")]
    AlreadyApproved {
        /// The approver's name in the policy.
        person: Name,
    },

    /// An entry point refused a request, and wants that on record.
    #[error("{reason}")]
    AtEntryPoint {
        /// Its reason.
        reason: String,
    },
}

impl CommandRefusal {
    /// Error code of the API, stable: scripts compare it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoPolicy => "no_policy",
            Self::AlreadyQueued { .. } | Self::AlreadyRunning { .. } | Self::AlreadyStable { .. } => {
                "already_requested"
            }
            Self::Busy { .. } => "busy",
            // Named after the commonest case: the upstream environments never verified the release.
            Self::Gate { .. } => "not_verified",
            Self::NoHotfixLane { .. } => "no_hotfix_lane",
            Self::HotfixWithoutReason { .. } | Self::OverrideWithoutReason => "reason_missing",
            Self::TrainFailed { .. } => "train_failed",
            Self::NotRunning { .. } => "not_running",
            Self::AlreadyRollingBack { .. } => "already_rolling_back",
            Self::NoRollbackPath { .. } | Self::ForwardOnly { .. } => "no_rollback_path",
            Self::NoEarlierRelease | Self::EarlierReleaseUnknown => "nothing_to_roll_back_to",
            Self::NotOnHold => "not_on_hold",
            Self::Over { ended: Some((_, Verdict::Superseded, _)), .. } => "superseded",
            Self::PastItsGates { .. }
            | Self::WaitsForTasks { .. }
            | Self::Followed { .. }
            | Self::Over { .. }
            | Self::NoSuchDeployment { .. } => "not_waiting",
            Self::NotOverridable { .. } => "not_overridable",
            Self::NoApprovalNeeded { .. } => "no_approval_needed",
            Self::NotAnApprover { .. } => "not_an_approver",
            Self::RequesterApproves { .. } => "requester_approves",
            Self::PlanChanged => "plan_changed",
            Self::NotRequestedYet => "not_requested_yet",
            Self::AskedWithTrain { .. } => "asked_with_train",
            Self::ApprovalExpired { .. } => "expired",
            Self::AlreadyApproved { .. } => "already_approved",
            Self::AtEntryPoint { .. } => "refused",
        }
    }
}

/// Who occupies an environment that takes one release at a time.
fn occupant(running: Option<(u64, Stage)>, tag: &str) -> String {
    match running {
        Some((number, stage)) => format!("deployment #{number} ({tag}, {}) is running", stage.name()),
        None => format!("{tag} is about to be deployed"),
    }
}

fn not_running(wanted: Option<u64>, running: Option<u64>) -> String {
    match (wanted, running) {
        (Some(wanted), Some(running)) => format!("deployment #{running} is running, not #{wanted}"),
        (Some(wanted), None) => format!("deployment #{wanted} is not running"),
        (None, _) => "nothing is running".to_owned(),
    }
}

fn how_it_ended(ended: Option<&(String, Verdict, String)>) -> String {
    match ended {
        None => " is over".to_owned(),
        Some((tag, Verdict::Superseded, _)) => format!(" ({tag}) was superseded by a newer release: look at that one"),
        Some((tag, verdict, reason)) => {
            let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
            format!(" ({tag}) is over ({}{because})", verdict.words())
        }
    }
}

fn why_not_overridable(gate: Gate) -> &'static str {
    gate.why_never_overridable().unwrap_or("this gate cannot be overridden")
}
