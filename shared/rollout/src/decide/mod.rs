//! The decision: the target's next state, the effects to perform, the reasons, and the time of the next observation.
//!
//! [`decide()`] is one synchronous, total and pure function: its arguments are all that it knows. Each module uses only
//! those above it:
//!
//! | module | contents |
//! |---|---|
//! | [`transition`] | the result of one step of a deployment, as a value |
//! | [`builder`] | the decision being built: next state, effects, facts, next observation |
//! | [`verification`] | what is verified here, holds of automatic promotion, and messages to other targets |
//! | [`apply`](mod@apply) | applies a transition: only here a running deployment moves to another stage or ends |
//! | [`naming`] | additional tags of known releases |
//! | [`tasks`] | how many tasks may fail, and which may still be placed |
//! | [`health`] | whether the deployment may widen, and whether it must roll back |
//! | [`schedules`] | the autoscaling limits to restore, scheduled actions included |
//! | [`hooks`] | runs the hooks of each point |
//! | [`stop_the_line`] | whether stop-the-line holds the deployment |
//! | [`cleanup`] | scaling in the side without traffic, and restoring autoscaling limits |
//! | [`abandoning`] | ending without changing rules or tasks again |
//! | [`going_back`] | what every rollback does: the answer to a request, what is withdrawn, the wait for an operator |
//! | [`replacement`] | whether everything that runs in place is of a version |
//! | [`in_place_rollback`] | setting the version before again |
//! | [`taking_down`] | the end of a first deployment that did not come up |
//! | [`rollback`] | returning traffic to the stable side |
//! | [`superseding`] | rolling back for a newer release |
//! | [`operator`] | forward-only releases that await an operator |
//! | [`retiring`] | scaling down the old side |
//! | [`traffic_steps`] | the share of each traffic step, and the tasks and autoscaling limits that it needs |
//! | [`forward`] | the forward path, step by step |
//! | [`in_place`] | the forward path in place, step by step |
//! | [`checks`] | checks that run before every step from registering to retiring |
//! | [`asleep`] | services at 0 tasks |
//! | [`preflight`] | what blocks the start of every deployment |
//! | [`first`] | the first deployment to a target that runs nothing |
//! | [`in_place_start`] | preflight in place: what runs before |
//! | [`preparing`] | preflight: which side is stable, and what blocks the start |
//! | [`rate_limit_wait`] | waiting in the rate limiter's queue, and the effect of throttling on deadlines |
//! | [`admission`] | whether a release is admitted, and its initial gates |
//! | [`gate`] | whether a gated deployment may start, and people's approvals |
//! | [`start`] | the start of a deployment |
//! | [`lock`] | when the lock of an environment that deploys one at a time is released |
//! | [`drift`] | changes found while nothing runs |
//! | [`queue`] | releases waiting for the running deployment to end |
//! | [`commands`] | processing of the inbox |
//! | [`apply_outcomes()`] | applies the effects' outcomes to the state |

mod abandoning;
mod admission;
mod apply;
mod apply_outcomes;
mod asleep;
mod builder;
mod checks;
mod cleanup;
mod commands;
mod drift;
mod first;
mod forward;
mod gate;
mod going_back;
mod health;
mod hooks;
mod in_place;
mod in_place_rollback;
mod in_place_start;
mod lock;
mod naming;
mod operator;
mod preflight;
mod preparing;
mod queue;
mod rate_limit_wait;
mod replacement;
mod retiring;
mod rollback;
mod schedules;
mod start;
mod stop_the_line;
mod superseding;
mod taking_down;
mod tasks;
mod traffic_steps;
mod transition;
mod verification;

pub use apply_outcomes::apply_outcomes;

use crate::command::{Command, CommandId};
use crate::deployment::{Deployment, DeploymentRecord};
use crate::effect::Effect;
use crate::journal::JournalEntry;
use crate::phase::{Moving, Phase};
use crate::policy::AppliedTarget;
use crate::promotion::GateContext;
use crate::rate_limiter;
use crate::snapshot::{AlarmReading, Snapshot};
use crate::target::TargetState;
use crate::weighted::{Weighted, WeightedStage};
use apply::{Flow, apply};
use builder::Builder;
use forward::ForwardDeployment;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use transition::{Context, Transition};

/// Requests to the target, and the policy that a new deployment would use.
#[derive(Debug, Clone, Copy, Default)]
pub struct Inbox<'a> {
    /// Commands that are not consumed, oldest first.
    pub commands: &'a [Command],
    /// The target's current policy; `None` if no policy names the target any more.
    pub policy: Option<&'a AppliedTarget>,
    /// What is known beyond the target; `None`: not read. Required to start a deployment and to widen one.
    pub gate_context: Option<&'a GateContext>,
}

/// What to write, what to perform, and when to observe again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a decision that is not committed did not happen"]
pub struct Decision {
    /// The next state.
    pub state: TargetState,
    /// Journal entries; their sequences continue the state's.
    pub journal: Vec<JournalEntry>,
    /// Deployments that started or ended.
    pub history: Vec<DeploymentRecord>,
    /// Commands that the decision has processed: they leave the inbox.
    pub consumed: Vec<CommandId>,
    /// Effects to perform, in this order. If one fails, the rest waits for the next decision.
    pub effects: Vec<Effect>,
    /// When to observe again.
    pub next: Next,
}

/// When a target is to be observed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Next {
    /// Immediately, in the same pass if time is left.
    Immediately,
    /// At this time at the latest.
    At(Timestamp),
    /// Only on a request or an event.
    Idle,
}

/// Upper bound of consecutive steps on one snapshot, against endless loops.
const MAX_STEPS: usize = 24;

/// Computes the decision.
///
/// `snapshot` is the observation that [`observation`](crate::observation()) asked for or, where nothing runs,
/// [`idle_observation`](crate::idle_observation). Without one, commands are taken in and a deployment may start; if the
/// running one needs a snapshot, the decision's next is [`Next::Immediately`]. Total: every input has an answer, and
/// none panics.
pub fn decide(state: &TargetState, inbox: &Inbox<'_>, snapshot: Option<&Snapshot>, now: Timestamp) -> Decision {
    let mut builder = Builder::new(state, snapshot, now);
    builder.read_gate_context(inbox.gate_context);
    let idle_snapshot = snapshot.filter(|_| state.running.is_none());
    if let Some(snapshot) = idle_snapshot {
        drift::compare(&mut builder, inbox, snapshot);
    } else if let Some(at) = state.idle.as_ref().and_then(|idle| idle.recheck_at).filter(|at| *at > now) {
        builder.observe_by(at);
    }
    // The snapshot belongs to the deployment that was running when it was taken.
    let observed_number = state.running.as_ref().map(|running| running.number);
    if let (Some(_), Some(snapshot)) = (observed_number, snapshot) {
        // Before commands are taken in: a deployment that supersedes this one does not observe again.
        builder.record_traffic(snapshot, false);
    }
    commands::process(&mut builder, inbox);
    commands::start_queued(&mut builder, inbox);
    if let Some(snapshot) = idle_snapshot {
        drift::revert(&mut builder, inbox, snapshot);
        drift::configure(&mut builder, inbox);
    }
    if let Some(running) = &mut builder.state.running {
        if !running.pending.is_empty() {
            // The driver that decided these effects died, perhaps right after performing them.
            running.last_effect_at = Some(now);
        }
        let its_snapshot = snapshot.filter(|_| observed_number == Some(running.number));
        advance(&mut builder, inbox, its_snapshot);
        queue::replace_waiting(&mut builder, inbox);
    }
    lock::release(&mut builder, state);
    builder.finish(snapshot.filter(|_| observed_number.is_some()).map(|snapshot| snapshot.throttled))
}

/// Runs steps until one waits, acts or ends. `snapshot`: the observation of the running deployment.
fn advance(builder: &mut Builder, inbox: &Inbox<'_>, snapshot: Option<&Snapshot>) {
    let Some(running) = &builder.state.running else { return };
    let without_snapshot = match (&running.phase, rate_limiter::rate_limit_wait(running, builder.now)) {
        (Phase::Gated(gated), _) => Some(gate::step(&builder.context(), running, gated, inbox, snapshot)),
        (Phase::Preparing(preparing), Some(at)) => {
            Some(rate_limit_wait::wait(&builder.context(), running, preparing, at))
        }
        _ => None,
    };
    if let Some(transition) = without_snapshot {
        apply(builder, transition, snapshot);
        return;
    }
    let Some(snapshot) = snapshot else { return builder.observe_again() };
    apply_observation(builder, snapshot);
    for _ in 0..MAX_STEPS {
        let Some(running) = &builder.state.running else { return };
        let transition = step(&builder.context(), running, snapshot);
        if apply(builder, transition, Some(snapshot)) == Flow::Stop {
            return;
        }
    }
    builder.observe_again();
}

/// Applies the observation before anything is judged: extends deadlines after throttling, and drops overrides of alarms
/// that have been OK.
fn apply_observation(builder: &mut Builder, snapshot: &Snapshot) {
    let Some(running) = &builder.state.running else { return };
    let extended = rate_limit_wait::with_extended_deadline(&builder.context(), running, snapshot);
    let mut running = extended.unwrap_or_else(|| running.clone());
    if let Some(alarms) = snapshot.alarms.known() {
        // An override covers the alarm that fired at the start: once the alarm was OK, it is judged like any other.
        running.overrides.firing_alarms.retain(|name| !matches!(alarms.get(name), Some(AlarmReading::Ok)));
    }
    builder.state.running = Some(running);
}

/// One step of an observed deployment.
fn step(context: &Context<'_>, deployment: &Deployment, snapshot: &Snapshot) -> Transition {
    match &deployment.phase {
        // It went back to its gates in this decision: `gate` judges it in the next one.
        Phase::Gated(_) => Transition::stay(deployment.clone()),
        Phase::Preparing(preparing) => preparing::step(context, deployment, snapshot, preparing.clone()),
        Phase::Moving(Moving::Weighted(weighted)) => {
            let checked = checks::PreStepChecks { context, deployment, weighted, snapshot };
            checked.before_step().unwrap_or_else(|| weighted_step(context, deployment, (**weighted).clone(), snapshot))
        }
        Phase::Moving(Moving::First(state)) => first::step(context, deployment, snapshot, (**state).clone()),
        Phase::Moving(Moving::InPlace(state)) => in_place::step(context, deployment, snapshot, (**state).clone()),
    }
}

fn weighted_step(
    context: &Context<'_>,
    deployment: &Deployment,
    weighted: Weighted,
    snapshot: &Snapshot,
) -> Transition {
    let at = weighted.at.clone();
    match at {
        WeightedStage::Registering(registering) => {
            let path = registering.rollback_path(&weighted.sides);
            forward::registering(ForwardDeployment { context, deployment, snapshot, weighted, path }, registering)
        }
        WeightedStage::Forward(forward) => {
            let path = forward.rollback_path(&weighted.sides);
            forward::step(ForwardDeployment { context, deployment, snapshot, weighted, path }, forward)
        }
        WeightedStage::Retiring(retiring) => retiring::step(context, deployment, snapshot, weighted, retiring.deadline),
        WeightedStage::RollingBack(rollback) => rollback::step(context, deployment, snapshot, weighted, rollback),
        WeightedStage::Abandoning(abandoning) => abandoning::step(context, deployment, snapshot, weighted, abandoning),
    }
}
