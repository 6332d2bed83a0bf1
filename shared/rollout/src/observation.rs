//! Observation plans: what must be read from AWS before the next decision. As little as the stage needs, all of it at
//! once.

use crate::command::{Command, Instruction};
use crate::deployment::{Deployment, Purpose};
use crate::effect::Effect;
use crate::first::First;
use crate::in_place::{self, InPlace, InPlaceStage};
use crate::names::Slot;
use crate::platform::Way;
use crate::policy::{AlarmEffect, HookAction, TargetPolicy};
use crate::resources::TargetResources;
use crate::stage::Stage;
use crate::target::TargetState;
use crate::time::Seconds;
use crate::weighted::{Forward, ForwardStep, RollbackStep, Weighted, WeightedStage};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// How often an idle observation reads the services again, in addition to the rules.
const IDLE_SERVICES_INTERVAL: Seconds = Seconds(24 * 3600);

/// What one observation reads. Listener rules are always read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservationPlan {
    /// The services, target groups and rules to read.
    pub resources: TargetResources,
    /// Read what runs the target: both sides, their target groups and their autoscaling, or the workload that changes
    /// its version in place, and its target groups. Otherwise it is unknown.
    pub workloads: bool,
    /// Read the tasks of a workload that changes its version in place.
    pub tasks: bool,
    /// Also read the image of the policy's container in each version.
    pub images: bool,
    /// Names of the alarms to read.
    pub alarms: BTreeSet<String>,
    /// The subset of `alarms` that rolls the deployment back when it fires: then the candidate's failed starts are not
    /// queried.
    pub decisive_alarms: BTreeSet<String>,
    /// Failed starts and placement failures to query; failed starts only while no decisive alarm fires.
    pub failed_starts_query: Option<FailedStartsQuery>,
    /// Sides whose scheduled actions to read.
    pub scheduled_actions_of: BTreeSet<Slot>,
    /// Tasks of hooks to read, by the hook's name.
    pub hook_tasks: BTreeMap<String, HookTask>,
}

/// Which of a side's stopped tasks to query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedStartsQuery {
    /// The side whose tasks are queried; none: the workload that changes its version in place.
    pub slot: Option<Slot>,
    /// Only tasks of this version count.
    pub version: String,
    /// Only tasks that stopped, and events that were written, since then count.
    pub since: Timestamp,
    /// The other side's version, whose tasks stopped since then are counted as well, for comparison; none: they
    /// are not counted.
    pub compare_with: Option<String>,
}

/// The task of a hook whose state to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookTask {
    /// ARN.
    pub task: String,
    /// The container whose exit code counts.
    pub container: String,
}

/// What the running deployment's next decision must read; none: nothing runs, or the deployment waits at a gate other
/// than the service being asleep.
#[must_use]
pub fn observation(state: &TargetState) -> Option<ObservationPlan> {
    let is_observed = |running: &&Deployment| running.is_asleep() || running.stage() != Stage::Gated;
    let deployment = state.running.as_ref().filter(is_observed)?;
    let (weighted, in_place) = (deployment.weighted(), deployment.in_place());
    let first = deployment.phase.first();
    let hook_tasks = deployment
        .policy
        .hooks
        .iter()
        .filter_map(|hook| {
            let HookAction::Task { container, .. } = &hook.run else { return None };
            let progress = deployment.hook_progress()?.get(hook.name.as_str())?;
            let task = progress.task.clone().filter(|_| progress.result.is_none() || progress.stopping)?;
            Some((hook.name.to_string(), HookTask { task, container: container.clone() }))
        })
        .collect();
    Some(ObservationPlan {
        resources: deployment.policy.resources.clone(),
        workloads: true,
        tasks: in_place.is_some_and(|in_place| in_place.has_replaced()) || first.is_some_and(|first| first.started),
        images: deployment.stage() == Stage::Preflight,
        alarms: deployment.policy.alarms.iter().map(|alarm| alarm.name.clone()).collect(),
        decisive_alarms: decisive_alarms(deployment),
        failed_starts_query: match (weighted, in_place) {
            (Some(weighted), _) => failed_starts_query(deployment, weighted),
            (None, Some(in_place)) => failed_starts_in_place(deployment, in_place),
            (None, None) => first.and_then(|first| failed_first_starts(deployment, first)),
        },
        scheduled_actions_of: weighted.map(scheduled_actions_of).unwrap_or_default(),
        hook_tasks,
    })
}

/// Query for the candidate's failed starts, from the first hook until the release is verified.
fn failed_starts_query(deployment: &Deployment, weighted: &Weighted) -> Option<FailedStartsQuery> {
    let WeightedStage::Forward(Forward { candidate, step }) = &weighted.at else { return None };
    if matches!(step, ForwardStep::KeepingWarm { .. } | ForwardStep::Draining { .. }) {
        return None;
    }
    let compare_with = candidate.healthy_since.map(|_| weighted.sides.stable_version.clone());
    Some(FailedStartsQuery {
        slot: Some(weighted.candidate_slot()),
        version: candidate.version.clone(),
        since: candidate.healthy_since.unwrap_or(deployment.started_at),
        compare_with,
    })
}

/// Query for the failed starts of the new version, from when it was set until the release is verified.
fn failed_starts_in_place(deployment: &Deployment, in_place: &InPlace) -> Option<FailedStartsQuery> {
    let InPlaceStage::Forward(in_place::Forward { candidate, step }) = &in_place.at else { return None };
    if matches!(step, in_place::ForwardStep::BeforeTraffic { .. }) {
        return None;
    }
    Some(FailedStartsQuery {
        slot: None,
        version: candidate.version.clone(),
        since: candidate.healthy_since.unwrap_or(deployment.started_at),
        compare_with: None,
    })
}

/// Query for the failed starts of a first deployment.
fn failed_first_starts(deployment: &Deployment, first: &First) -> Option<FailedStartsQuery> {
    let candidate = first.at.candidate().filter(|_| first.started)?;
    Some(FailedStartsQuery {
        slot: first.slot,
        version: candidate.version.clone(),
        since: deployment.started_at,
        compare_with: None,
    })
}

/// The sides whose autoscaling limits are restored next: the limits that their scheduled actions would have set are
/// restored with them.
fn scheduled_actions_of(weighted: &Weighted) -> BTreeSet<Slot> {
    let restores_limits = match &weighted.at {
        WeightedStage::RollingBack(rollback) => matches!(rollback.step, RollbackStep::ScalingDownCandidate),
        WeightedStage::Retiring(_) | WeightedStage::Abandoning(_) => true,
        WeightedStage::Registering(_) | WeightedStage::Forward(_) => false,
    };
    if restores_limits { weighted.original_limits.keys().copied().collect() } else { BTreeSet::new() }
}

/// Whether an idle target has to be observed now: because an earlier observation asked for a recheck, or because a
/// command depends on where traffic goes.
#[must_use]
pub fn idle_observation_is_due(state: &TargetState, commands: &[Command], now: Timestamp) -> bool {
    let stable = state.stable.as_ref().and_then(|stable| stable.release.as_ref());
    let depends = |command: &Command| match &command.instruction {
        Instruction::Rollback => true,
        // A request for the release that is already stable: a repair if something was edited, otherwise nothing to do.
        Instruction::Deploy { release, .. } => stable.is_some_and(|stable| stable.id.digest == release.digest),
        _ => false,
    };
    let recheck_is_due = state.idle.as_ref().and_then(|seen| seen.recheck_at).is_some_and(|at| at <= now);
    state.running.is_none() && state.stable.is_some() && (recheck_is_due || commands.iter().any(depends))
}

/// What to read of an idle target. `full`: services and targets as well as the rules. They are read in any case where
/// drift is present, or where they were not read for a day.
#[must_use]
pub fn idle_observation(
    state: &TargetState,
    policy: &TargetPolicy,
    full: bool,
    now: Timestamp,
) -> Option<ObservationPlan> {
    if state.running.is_some() || state.stable.is_none() {
        return None;
    }
    let seen = state.idle.as_ref();
    let lately = seen.and_then(|seen| seen.services_seen_at).is_some_and(|at| now < IDLE_SERVICES_INTERVAL.after(at));
    let differs = seen.is_some_and(|seen| seen.drift.is_some() || seen.recheck_at.is_some());
    Some(ObservationPlan {
        resources: policy.resources.clone(),
        workloads: full || differs || !lately || policy.resources.platform.way() == Way::InPlace,
        tasks: false,
        images: false,
        alarms: BTreeSet::new(),
        decisive_alarms: BTreeSet::new(),
        failed_starts_query: None,
        hook_tasks: BTreeMap::new(),
        scheduled_actions_of: BTreeSet::new(),
    })
}

/// What to read right after these effects; none: nothing would be visible yet, and the observation takes place when it
/// is due.
///
/// Written weights are verified by reading the rules and the alarms alone, as long as nothing else is due right after. A
/// write that failed is judged on everything.
/// At low rate, tasks are not read immediately after they were requested.
#[must_use]
pub fn observation_after(state: &TargetState, effects: &[Effect]) -> Option<ObservationPlan> {
    let observation = observation(state)?;
    let Some(deployment) = &state.running else { return Some(observation) };
    let only = |meant: fn(&Effect) -> bool| !effects.is_empty() && effects.iter().all(meant);
    let wrote_weights =
        only(|effect| matches!(effect, Effect::SetWeights { .. })) && deployment.effect_failure.is_none();
    if wrote_weights && only_watches_next(deployment) {
        return Some(ObservationPlan { workloads: false, failed_starts_query: None, ..observation });
    }
    let is_slow = |effect: &Effect| {
        matches!(
            effect,
            Effect::SetVersion { .. }
                | Effect::SetDesired { .. }
                | Effect::SetAutoscaling { .. }
                | Effect::ReplaceVersion { .. }
                | Effect::StartFirst { .. }
                | Effect::StopFirst { .. }
        )
    };
    let low_rate = deployment.queue_position.is_some_and(|queue_position| queue_position.low_rate);
    (!low_rate || !only(is_slow)).then_some(observation)
}

/// Whether the deployment only watches once its weights are verified live.
fn only_watches_next(deployment: &Deployment) -> bool {
    let strategy = &deployment.policy.strategy;
    let Some(weighted) = deployment.weighted() else { return false };
    match &weighted.at {
        WeightedStage::Forward(Forward { step: ForwardStep::Writing { index, .. }, .. }) => {
            deployment.purpose == Purpose::Deploy
                && strategy.steps.get(*index).is_some_and(|step| step.hold > Seconds(0))
        }
        WeightedStage::RollingBack(rollback) if matches!(rollback.step, RollbackStep::RestoringWeights { .. }) => {
            weighted.needs_draining() && strategy.drain > Seconds(0)
        }
        _ => false,
    }
}

/// The alarms that roll the deployment back as soon as they are seen firing, whatever else is seen. An overridden alarm
/// is not among them; there are none while a rollback runs or once no rollback is possible.
fn decisive_alarms(deployment: &Deployment) -> BTreeSet<String> {
    let may_roll_back =
        deployment.purpose == Purpose::Deploy && deployment.stage() != Stage::RollingBack && deployment.may_roll_back();
    let alarms = deployment.policy.alarms.iter().filter(|alarm| may_roll_back && alarm.firing == AlarmEffect::Back);
    let names = alarms.map(|alarm| &alarm.name);
    names.filter(|name| !deployment.overrides.firing_alarms.contains(*name)).cloned().collect()
}
