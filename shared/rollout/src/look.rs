//! What must be read of the world before the next decision: as little as the stage needs, all of it at once.

use crate::command::{Command, Instruction};
use crate::effect::Effect;
use crate::names::Slot;
use crate::pace;
use crate::policy::{EcsPair, HookAction, TargetPolicy};
use crate::stage::{RetirePhase, RollbackPhase, ShiftPhase, Stage};
use crate::target::{Deployment, Purpose, TargetState};
use crate::time::Seconds;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// What to read. Rules are always read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Where.
    pub pair: EcsPair,
    /// Both sides, their target groups and their autoscaling; otherwise they are unknown.
    pub sides: bool,
    /// Also the image of the policy's container in each side's task definition.
    pub images: bool,
    /// Alarms to read.
    pub alarms: BTreeSet<String>,
    /// Those of them that turn the deployment back if they fire: then its candidate's starts are not asked for.
    pub decisive_alarms: BTreeSet<String>,
    /// Failed starts and placement failures are to be looked for; failed starts only while no decisive alarm fires.
    pub starts_of: Option<StartsOf>,
    /// Sides whose scheduled actions to read.
    pub schedules_of: BTreeSet<Slot>,
    /// Tasks of hooks: the hook's name and the task's ARN, and the container whose exit code counts.
    pub hook_tasks: BTreeMap<String, HookTask>,
}

/// Whose failed starts to look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartsOf {
    /// The side.
    pub slot: Slot,
    /// Only tasks of this task definition count.
    pub task_definition: String,
    /// Only what stopped or was written since then counts.
    pub since: Timestamp,
    /// The other side's task definition, whose tasks that stopped since then are counted as well, to compare with; none:
    /// they are not.
    pub beside: Option<String>,
}

/// The task of a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookTask {
    /// Its ARN.
    pub task: String,
    /// The container whose exit code counts.
    pub container: String,
}

/// What the running deployment's next decision needs to see; none where nothing runs, or it waits at its gates for anything
/// but the service to wake.
#[must_use]
pub fn look(state: &TargetState) -> Option<Look> {
    let looks = |running: &&Deployment| running.asleep || !matches!(running.stage, Stage::Gated { .. });
    let deployment = state.running.as_ref().filter(looks)?;
    let starts_of = match (&deployment.stage, deployment.candidate(), &deployment.task_definition) {
        (Stage::Gated { .. } | Stage::Preflight { .. } | Stage::Registering { .. } | Stage::Retiring { .. }, ..) => {
            None
        }
        (Stage::RollingBack { .. } | Stage::KeepingWarm { .. } | Stage::LettingGo { .. }, ..) => None,
        (_, Some(slot), Some(task_definition)) => {
            let beside = deployment.sides.as_ref().filter(|_| deployment.up_since.is_some());
            Some(StartsOf {
                slot,
                task_definition: task_definition.clone(),
                since: deployment.up_since.unwrap_or(deployment.started_at),
                beside: beside.map(|sides| sides.stable_task_definition.clone()),
            })
        }
        _ => None,
    };
    let hook_tasks = deployment
        .policy
        .hooks
        .iter()
        .filter_map(|hook| {
            let HookAction::Task { container, .. } = &hook.run else { return None };
            let progress = deployment.hooks.get(hook.name.as_str())?;
            let task = progress.task.clone().filter(|_| progress.result.is_none() || progress.stopping)?;
            Some((hook.name.to_string(), HookTask { task, container: container.clone() }))
        })
        .collect();
    Some(Look {
        pair: deployment.policy.pair.clone(),
        sides: true,
        images: matches!(deployment.stage, Stage::Preflight { .. }),
        alarms: deployment.policy.alarms.iter().map(|alarm| alarm.name.clone()).collect(),
        decisive_alarms: decisive_alarms(deployment),
        starts_of,
        schedules_of: schedules_of(deployment),
        hook_tasks,
    })
}

/// The sides whose autoscaling limits are given back next: what their scheduled actions would have set belongs to them.
fn schedules_of(deployment: &Deployment) -> BTreeSet<Slot> {
    let gives_back = matches!(
        deployment.stage,
        Stage::RollingBack { phase: RollbackPhase::CandidateDown, .. }
            | Stage::Retiring { phase: RetirePhase::ScalingDown, .. }
            | Stage::LettingGo { .. }
    );
    if gives_back { deployment.borrowed.keys().copied().collect() } else { BTreeSet::new() }
}

/// Whether a target to which nothing is deployed has to be looked at now: because something was seen that has to be read again,
/// or because what is asked of it depends on where traffic goes.
#[must_use]
pub fn rest_look_is_due(state: &TargetState, commands: &[Command], now: Timestamp) -> bool {
    let stable = state.stable.as_ref().and_then(|stable| stable.release.as_ref());
    let depends = |command: &Command| match &command.instruction {
        Instruction::Rollback => true,
        // The stable release is asked for again: that is a repair where something was edited, and nothing to do otherwise.
        Instruction::Deploy { release, .. } => stable.is_some_and(|stable| stable.id.digest == release.digest),
        _ => false,
    };
    let again = state.at_rest.as_ref().and_then(|seen| seen.look_at).is_some_and(|at| at <= now);
    state.running.is_none() && state.stable.is_some() && (again || commands.iter().any(depends))
}

/// What a look at a target needs to see to which nothing is deployed. `whole`: services and targets, too, and not the rules
/// alone; they are seen in any case where something differs, or where they were not seen for a day.
#[must_use]
pub fn look_at_rest(state: &TargetState, policy: &TargetPolicy, whole: bool, now: Timestamp) -> Option<Look> {
    if state.running.is_some() || state.stable.is_none() {
        return None;
    }
    let seen = state.at_rest.as_ref();
    let lately = seen.and_then(|seen| seen.services_seen_at).is_some_and(|at| now < pace::REST_SERVICES.after(at));
    let differs = seen.is_some_and(|seen| seen.drift.is_some() || seen.look_at.is_some());
    Some(Look {
        pair: policy.pair.clone(),
        sides: whole || differs || !lately,
        images: false,
        alarms: BTreeSet::new(),
        decisive_alarms: BTreeSet::new(),
        starts_of: None,
        hook_tasks: BTreeMap::new(),
        schedules_of: BTreeSet::new(),
    })
}

/// What the look right after these effects needs to see; none: it can see nothing yet, and takes place when it is due.
///
/// Weights that were written are verified by the rules and the alarms alone, as long as nothing is due right after. Where the
/// budgets are spared, nobody looks for tasks an instant after they were asked for.
#[must_use]
pub fn look_after(state: &TargetState, effects: &[Effect]) -> Option<Look> {
    let look = look(state)?;
    let Some(deployment) = &state.running else { return Some(look) };
    let only = |meant: fn(&Effect) -> bool| !effects.is_empty() && effects.iter().all(meant);
    if only(|effect| matches!(effect, Effect::SetWeights { .. })) && watches_next(deployment) {
        return Some(Look { sides: false, starts_of: None, ..look });
    }
    let takes_its_time = |effect: &Effect| {
        matches!(effect, Effect::UpdateService { .. } | Effect::SetDesired { .. } | Effect::SetAutoscaling { .. })
    };
    let sparing = deployment.place.is_some_and(|place| place.sparing);
    (!sparing || !only(takes_its_time)).then_some(look)
}

/// Whether weights that are seen live are only watched after that.
fn watches_next(deployment: &Deployment) -> bool {
    let strategy = &deployment.policy.strategy;
    match &deployment.stage {
        Stage::Shifting { step, phase: ShiftPhase::Writing { .. } } => {
            deployment.purpose == Purpose::Deploy
                && strategy.steps.get(*step).is_some_and(|step| step.hold > Seconds(0))
        }
        Stage::RollingBack { phase: RollbackPhase::WeightsBack { .. }, .. } => {
            deployment.may_drain() && strategy.drain > Seconds(0)
        }
        _ => false,
    }
}

/// The alarms that turn the deployment back as soon as they are seen to fire, whatever else is seen. One that was
/// overridden is not among them, nor is any that finds the deployment on its way back or past it.
fn decisive_alarms(deployment: &Deployment) -> BTreeSet<String> {
    let turns_back = match &deployment.stage {
        Stage::Gated { .. } | Stage::Preflight { .. } | Stage::RollingBack { .. } => false,
        _ => deployment.purpose == Purpose::Deploy && deployment.way_back().is_some(),
    };
    let names = deployment.policy.alarms.iter().map(|alarm| &alarm.name).filter(|_| turns_back);
    names.filter(|name| !deployment.overrides.firing_alarms.contains(*name)).cloned().collect()
}
