//! Runs the hooks of each point of a deployment: one after the other, each once, each with a deadline.

use super::transition::{Change, Context};
use crate::deployment::{Deployment, Purpose};
use crate::effect::{Effect, EffectKind, HookPayload};
use crate::explanation::WaitingOn;
use crate::journal::Fact;
use crate::names::Slot;
use crate::policy::{Hook, HookAction, HookPoint};
use crate::snapshot::{Reading, Snapshot, TaskReading};
use crate::time::Seconds;
use crate::weighted::{HookProgress, HookResult};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Poll interval of a hook's task when no event wakes the target.
const TASK_POLL: Seconds = Seconds(10);

/// Hooks of one point, in the policy's order. A rollback runs none: the release that it returns to was verified.
pub(super) fn at(deployment: &Deployment, point: HookPoint) -> Vec<&Hook> {
    if deployment.purpose != Purpose::Deploy {
        return Vec::new();
    }
    deployment.policy.hooks.iter().filter(|hook| hook.at == point).collect()
}

/// Deadline by which all hooks of a point must have finished.
pub(super) fn deadline(deployment: &Deployment, point: HookPoint, now: Timestamp) -> Timestamp {
    let total: u64 = at(deployment, point).iter().map(|hook| hook.deadline.0).sum();
    Seconds(total + deployment.policy.deadlines.shift.0).after(now)
}

/// The result of running the hooks of a point.
pub(super) struct HookRun {
    /// The hooks that have started, with their progress updated.
    pub(super) hooks: BTreeMap<String, HookProgress>,
    /// Facts to journal.
    pub(super) changes: Vec<Change>,
    /// Whether the deployment proceeds.
    pub(super) outcome: HookOutcome,
}

/// The combined outcome of all hooks of a point.
pub(super) enum HookOutcome {
    /// All hooks passed.
    Passed,
    /// A hook failed.
    Failed { name: String, reason: String },
    /// A hook is running.
    Waiting(Box<HookWait>),
}

/// The wait for a running hook.
pub(super) struct HookWait {
    /// Invokes the hook's function or starts its task, when that is due.
    pub(super) effect: Option<Effect>,
    pub(super) on: WaitingOn,
    pub(super) poll: Seconds,
    pub(super) until: Timestamp,
}

/// What hooks run against.
#[derive(Clone, Copy)]
pub(super) struct HookSubject<'a> {
    /// The new version.
    pub(super) version: &'a str,
    /// The candidate's side; `None`: the version changes in place.
    pub(super) slot: Option<Slot>,
}

/// Runs the hooks of a point. `hooks`: those that have started, by name.
pub(super) fn run(
    context: &Context<'_>,
    deployment: &Deployment,
    mut hooks: BTreeMap<String, HookProgress>,
    subject: HookSubject<'_>,
    snapshot: &Snapshot,
    point: HookPoint,
) -> HookRun {
    let mut changes = Vec::new();
    for hook in at(deployment, point) {
        let name = hook.name.to_string();
        let known = hooks.get(&name).cloned();
        if known.is_none() {
            changes.push(Change::Fact(Fact::HookStarted { hook: name.clone() }));
        }
        let known = known.unwrap_or_else(|| HookProgress {
            deadline: hook.deadline.after(context.now),
            next_poll_at: context.now,
            task: None,
            result: None,
            stopping: false,
        });
        match judge(context, deployment, hook, &known, snapshot) {
            Judgement::Passed { now } => {
                if now {
                    changes.push(Change::Fact(Fact::HookSucceeded { hook: name.clone() }));
                }
                hooks.insert(name, HookProgress { result: Some(HookResult::Succeeded), ..known });
            }
            Judgement::Failed(reason) => {
                let failed = HookProgress { result: Some(HookResult::Failed(reason.clone())), ..known };
                hooks.insert(name.clone(), failed);
                return HookRun { hooks, changes, outcome: HookOutcome::Failed { name, reason } };
            }
            Judgement::OutOfTime(reason) => {
                hooks.insert(name.clone(), known.fail(reason.clone()));
                return HookRun { hooks, changes, outcome: HookOutcome::Failed { name, reason } };
            }
            Judgement::Waits => {
                let (effect, poll) = poll_hook(context, deployment, hook, &known, subject);
                let until = known.deadline;
                hooks.insert(name.clone(), known);
                let on = WaitingOn::Hook { hook: name, deadline: until };
                let waits = HookWait { effect, on, poll, until };
                return HookRun { hooks, changes, outcome: HookOutcome::Waiting(Box::new(waits)) };
            }
        }
    }
    HookRun { hooks, changes, outcome: HookOutcome::Passed }
}

/// Where one hook stands.
enum Judgement {
    /// `now`: the result was first seen in this observation.
    Passed {
        now: bool,
    },
    Failed(String),
    /// The hook timed out; its task is stopped if it has one.
    OutOfTime(String),
    /// The hook runs, or has to be started.
    Waits,
}

fn judge(
    context: &Context<'_>,
    deployment: &Deployment,
    hook: &Hook,
    known: &HookProgress,
    snapshot: &Snapshot,
) -> Judgement {
    match &known.result {
        Some(HookResult::Succeeded) => return Judgement::Passed { now: false },
        Some(HookResult::Failed(reason)) => return Judgement::Failed(reason.clone()),
        None => {}
    }
    if let (HookAction::Task { .. }, Some(Reading::Known(TaskReading::Stopped { exit_code, reason }))) =
        (&hook.run, snapshot.hook_tasks.get(hook.name.as_str()))
    {
        return match exit_code {
            Some(0) => Judgement::Passed { now: true },
            Some(code) => Judgement::Failed(format!("its task ended with exit code {code} ({reason})")),
            None => Judgement::Failed(format!("its task never ran ({reason})")),
        };
    }
    let is_of_hook = |kind| matches!(kind, EffectKind::InvokeHook | EffectKind::StartTask);
    let effect_failure = deployment.effect_failure.as_ref().filter(|failure| is_of_hook(failure.effect.kind));
    if context.now >= known.deadline {
        let last =
            effect_failure.map(|effect_failure| format!(" (last try: {})", effect_failure.reason)).unwrap_or_default();
        return Judgement::OutOfTime(format!("it did not answer within {}{last}", hook.deadline));
    }
    match effect_failure.filter(|effect_failure| effect_failure.refused) {
        Some(effect_failure) => Judgement::Failed(format!("it could not be run: {}", effect_failure.reason)),
        None => Judgement::Waits,
    }
}

/// The effect that polls a running hook, and the interval until the next poll.
fn poll_hook(
    context: &Context<'_>,
    deployment: &Deployment,
    hook: &Hook,
    known: &HookProgress,
    subject: HookSubject<'_>,
) -> (Option<Effect>, Seconds) {
    let name = hook.name.to_string();
    let run = run_id(context, deployment, &name);
    match &hook.run {
        HookAction::Lambda { function } => {
            let is_due = context.now >= known.next_poll_at;
            let effect = is_due.then(|| Effect::InvokeHook {
                payload: payload(context, deployment, &name, &run, subject.slot),
                hook: name,
                function: function.clone(),
                run,
            });
            (effect, Seconds::between(context.now, known.next_poll_at).max(Seconds(1)))
        }
        HookAction::Task { container, command } => {
            let effect = known.task.is_none().then(|| Effect::StartTask {
                hook: name,
                run,
                version: subject.version.to_owned(),
                container: container.clone(),
                command: command.clone(),
                template: subject.slot,
            });
            (effect, TASK_POLL)
        }
    }
}

/// Hooks whose tasks are being stopped because they timed out.
pub(super) struct Stopping {
    /// The hooks with progress updated from the observation.
    pub(super) hooks: BTreeMap<String, HookProgress>,
    pub(super) effects: Vec<Effect>,
    /// Hooks whose task was not seen stopped yet, for people.
    pub(super) running: Vec<String>,
}

/// The hooks of a deployment that turns back: those that run have failed, and their tasks are stopped.
pub(super) fn turned_back(hooks: BTreeMap<String, HookProgress>) -> BTreeMap<String, HookProgress> {
    let turned_back = |(name, hook): (String, HookProgress)| {
        let is_running = hook.result.is_none();
        (name, if is_running { hook.fail("the deployment turned back".to_owned()) } else { hook })
    };
    hooks.into_iter().map(turned_back).collect()
}

/// Stops the tasks of hooks that have timed out.
pub(super) fn stop(hooks: &BTreeMap<String, HookProgress>, snapshot: &Snapshot) -> Stopping {
    let mut stopping = Stopping { hooks: hooks.clone(), effects: Vec::new(), running: Vec::new() };
    for (name, progress) in stopping.hooks.iter_mut().filter(|(_, progress)| progress.stopping) {
        if let Some(Reading::Known(TaskReading::Stopped { .. })) = snapshot.hook_tasks.get(name) {
            progress.stopping = false;
        } else if let Some(task) = progress.task.clone() {
            stopping.effects.push(Effect::StopTask { task });
            stopping.running.push(format!("the task of hook {name}"));
        }
    }
    stopping
}

/// 32 hexadecimal digits: the same for every attempt at one hook of one deployment, and unique to it. ECS takes at most
/// 36 characters for `startedBy` and 64 for `clientToken`.
fn run_id(context: &Context<'_>, deployment: &Deployment, hook: &str) -> String {
    let content = format!("{}#{}/{hook}/{}", context.state.target, deployment.number, deployment.started_at);
    let hash = Sha256::digest(content.as_bytes());
    hex::encode(&hash[..16])
}

fn payload(context: &Context<'_>, deployment: &Deployment, hook: &str, run: &str, slot: Option<Slot>) -> HookPayload {
    let resources = &deployment.policy.resources;
    HookPayload {
        target: context.state.target.to_string(),
        deployment: deployment.number,
        hook: hook.to_owned(),
        run: run.to_owned(),
        digest: deployment.release.id.digest.to_string(),
        tag: deployment.release.tag.clone(),
        candidate_target_groups: match slot {
            Some(slot) => resources.target_groups(slot).map(str::to_owned).collect(),
            None => resources.platform.target_groups_in_place().to_vec(),
        },
    }
}
