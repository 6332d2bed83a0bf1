//! What may say no on the way: one hook after the other, each run once, each with a deadline.

use super::back;
use super::pass::Pass;
use crate::effect::{Effect, HookPayload};
use crate::journal::Fact;
use crate::policy::{Hook, HookAction, HookPoint};
use crate::snapshot::{Reading, Snapshot, TaskReading};
use crate::stage::Cause;
use crate::target::{Deployment, HookProgress, HookResult, Purpose, WaitingOn};
use crate::time::Seconds;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

/// How often a hook's task is looked at when no event wakes the target.
const TASK_POLL: Seconds = Seconds(10);

/// Hooks of one point, in the policy's order. A rollback runs none: what it goes back to was verified.
pub(super) fn at(deployment: &Deployment, point: HookPoint) -> Vec<Hook> {
    if deployment.purpose != Purpose::Deploy {
        return Vec::new();
    }
    deployment.policy.hooks.iter().filter(|hook| hook.at == point).cloned().collect()
}

/// When all hooks of a point have had their time.
pub(super) fn deadline(deployment: &Deployment, point: HookPoint, now: Timestamp) -> Timestamp {
    let total: u64 = at(deployment, point).iter().map(|hook| hook.deadline.0).sum();
    Seconds(total + deployment.policy.deadlines.shift.0).after(now)
}

/// Runs the hooks of a point. Onward: all said yes, or the deployment has turned back.
pub(super) fn run(pass: &mut Pass, deployment: &mut Deployment, snapshot: &Snapshot, point: HookPoint) -> Ran {
    for hook in at(deployment, point) {
        match progress(pass, deployment, snapshot, &hook) {
            Step::Yes => {}
            Step::No(reason) => {
                let name = hook.name.to_string();
                pass.note(Some(deployment.number), Fact::HookFailed { hook: name.clone(), reason: reason.clone() });
                back::begin(pass, deployment, Cause::Hook { name, reason });
                return Ran::TurnedBack;
            }
            Step::Wait => return Ran::Waiting,
        }
    }
    Ran::AllSaidYes
}

/// What running hooks came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ran {
    AllSaidYes,
    Waiting,
    TurnedBack,
}

enum Step {
    Yes,
    No(String),
    Wait,
}

fn progress(pass: &mut Pass, deployment: &mut Deployment, snapshot: &Snapshot, hook: &Hook) -> Step {
    let name = hook.name.to_string();
    if !deployment.hooks.contains_key(&name) {
        let begun = HookProgress {
            deadline: hook.deadline.after(pass.now),
            ask_at: pass.now,
            task: None,
            result: None,
            stopping: false,
        };
        deployment.hooks.insert(name.clone(), begun);
        pass.note(Some(deployment.number), Fact::HookStarted { hook: name.clone() });
    }
    let Some(known) = deployment.hooks.get(&name).cloned() else { return Step::Wait };
    match &known.result {
        Some(HookResult::Succeeded) => return Step::Yes,
        Some(HookResult::Failed(reason)) => return Step::No(reason.clone()),
        None => {}
    }
    if let (HookAction::Task { .. }, Some(Reading::Known(TaskReading::Stopped { exit_code, reason }))) =
        (&hook.run, snapshot.hook_tasks.get(&name))
    {
        return finished(pass, deployment, &name, *exit_code, reason);
    }
    if pass.now >= known.deadline {
        let last = deployment.trouble.as_ref().map(|trouble| format!(" (last try: {})", trouble.reason));
        let reason = format!("it did not answer within {}{}", hook.deadline, last.unwrap_or_default());
        if let Some(progress) = deployment.hooks.get_mut(&name) {
            progress.cut_off(reason.clone());
        }
        return Step::No(reason);
    }
    if let Some(trouble) = &deployment.trouble
        && trouble.refused
    {
        let reason = format!("it could not be run: {}", trouble.reason);
        settle(deployment, &name, HookResult::Failed(reason.clone()));
        return Step::No(reason);
    }
    let run = run_id(pass, deployment, &name);
    let poll = match &hook.run {
        HookAction::Lambda { function } => {
            if pass.now >= known.ask_at {
                let payload = payload(pass, deployment, &name, &run);
                pass.want(Effect::AskHook { hook: name.clone(), function: function.clone(), run, payload });
            }
            Seconds::between(pass.now, known.ask_at).max(Seconds(1))
        }
        HookAction::Task { container, command } => {
            if known.task.is_none()
                && let (Some(task_definition), Some(slot)) =
                    (deployment.task_definition.clone(), deployment.candidate())
            {
                pass.want(Effect::StartTask {
                    hook: name.clone(),
                    run,
                    task_definition,
                    container: container.clone(),
                    command: command.clone(),
                    like: slot,
                });
            }
            TASK_POLL
        }
    };
    pass.wait(WaitingOn::Hook { hook: name, deadline: known.deadline }, poll, known.deadline);
    Step::Wait
}

/// Stops the tasks of hooks whose time is over, and says which were not seen stopped yet.
pub(super) fn stop(pass: &mut Pass, deployment: &mut Deployment, snapshot: &Snapshot) -> Vec<String> {
    let mut running = Vec::new();
    for (name, progress) in deployment.hooks.iter_mut().filter(|(_, progress)| progress.stopping) {
        if let Some(Reading::Known(TaskReading::Stopped { .. })) = snapshot.hook_tasks.get(name) {
            progress.stopping = false;
        } else if let Some(task) = progress.task.clone() {
            pass.want(Effect::StopTask { task });
            running.push(format!("the task of hook {name}"));
        }
    }
    running
}

fn finished(pass: &mut Pass, deployment: &mut Deployment, name: &str, exit_code: Option<i32>, reason: &str) -> Step {
    if exit_code == Some(0) {
        settle(deployment, name, HookResult::Succeeded);
        pass.note(Some(deployment.number), Fact::HookSucceeded { hook: name.to_owned() });
        return Step::Yes;
    }
    let words = match exit_code {
        Some(code) => format!("its task ended with exit code {code} ({reason})"),
        None => format!("its task never ran ({reason})"),
    };
    settle(deployment, name, HookResult::Failed(words.clone()));
    Step::No(words)
}

fn settle(deployment: &mut Deployment, name: &str, result: HookResult) {
    if let Some(progress) = deployment.hooks.get_mut(name) {
        progress.result = Some(result);
    }
}

/// 32 hexadecimal digits: the same for every try of one hook of one deployment, and for no other.
/// ECS takes at most 36 characters for `startedBy` and 64 for `clientToken`.
fn run_id(pass: &Pass, deployment: &Deployment, hook: &str) -> String {
    let content = format!("{}#{}/{hook}/{}", pass.state.target, deployment.number, deployment.started_at);
    let hash = Sha256::digest(content.as_bytes());
    hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn payload(pass: &Pass, deployment: &Deployment, hook: &str, run: &str) -> HookPayload {
    HookPayload {
        target: pass.state.target.to_string(),
        deployment: deployment.number,
        hook: hook.to_owned(),
        run: run.to_owned(),
        digest: deployment.release.id.digest.to_string(),
        tag: deployment.release.tag.clone(),
        candidate_target_group: deployment
            .candidate()
            .map(|slot| deployment.policy.pair.side(slot).target_group.clone())
            .unwrap_or_default(),
    }
}
