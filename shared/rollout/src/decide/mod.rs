//! The next stage, effects, reasons and time to look again: one synchronous, total function.
//!
//! Nothing here looks anything up: what is not in the arguments is not known. The parts are leaves:
//! [`commands`] what was asked · [`queue`] who waits, and who gives way · [`admission`] the gates before the beginning ·
//! [`naming`] other tags of known releases · [`frozen`] what has no automatic way back · [`promotion`] what other targets are told · [`gates`] what must hold before anything widens · [`preflight`] what speaks against starting · [`forward`] the way to success ·
//! [`rest`] what is seen while nothing runs · [`hooks`] what may say no on the way · [`tasks`] how many tasks may fail · [`schedules`] what scheduled actions would have set ·
//! [`asleep`] a service at 0 tasks · [`turn`] whose turn it is, and what throttling does to deadlines · [`back`] the ways back and out · [`pass`] the paper a decision is written on ·
//! [`absorb()`] what the effects' outcomes change.

mod absorb;
mod admission;
mod asleep;
mod back;
mod commands;
mod forward;
mod frozen;
mod gates;
mod hooks;
mod naming;
mod pass;
mod preflight;
mod promotion;
mod queue;
mod rest;
mod schedules;
mod tasks;
mod turn;

pub use absorb::absorb;
pub(crate) use admission::question;

use crate::command::{Command, CommandId};
use crate::effect::Effect;
use crate::journal::JournalEntry;
use crate::pace;
use crate::promotion::Surroundings;
use crate::snapshot::Snapshot;
use crate::stage::Stage;
use crate::target::{AppliedTarget, DeploymentRecord, TargetState};
use jiff::Timestamp;
use pass::{Flow, Pass};
use serde::{Deserialize, Serialize};

/// What was asked of the target, and the policy that a new deployment would keep.
#[derive(Debug, Clone, Copy, Default)]
pub struct Inbox<'a> {
    /// Commands that are not consumed, oldest first.
    pub commands: &'a [Command],
    /// The target's policy as it stands; none where no policy names the target any more.
    pub policy: Option<&'a AppliedTarget>,
    /// What is known beyond the target; none: nothing was read. Needed to begin a deployment, and to widen one.
    pub around: Option<&'a Surroundings>,
}

/// What shall be written, done, and when to look again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a decision that is not committed did not happen"]
pub struct Decision {
    /// The next state.
    pub state: TargetState,
    /// What happened; sequences continue the state's.
    pub journal: Vec<JournalEntry>,
    /// Deployments that began or ended.
    pub history: Vec<DeploymentRecord>,
    /// Commands that are done with.
    pub consumed: Vec<CommandId>,
    /// What shall be true, in this order. If one does not work, the rest waits for the next decision.
    pub effects: Vec<Effect>,
    /// When to look again.
    pub next: Next,
}

/// When a target is to be looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Next {
    /// At once, in the same pass if there is time.
    Again,
    /// Not later than then.
    At(Timestamp),
    /// Only when something is asked of it.
    Rest,
}

/// More stages than this never follow each other on one snapshot; a bound, not a rule.
const MOST_TRANSITIONS: usize = 16;

/// Decides.
///
/// `snapshot` is what [`look`](crate::look()) asked for, or, where nothing runs, [`look_at_rest`](crate::look_at_rest);
/// without one, commands are taken in and a deployment may
/// start, and the answer is [`Next::Again`]. Total: every input has an answer, and none panics.
pub fn decide(state: &TargetState, inbox: &Inbox<'_>, snapshot: Option<&Snapshot>, now: Timestamp) -> Decision {
    let mut pass = Pass::new(state, snapshot, now);
    pass.read_brakes(inbox.around);
    let at_rest = snapshot.filter(|_| state.running.is_none());
    if let Some(snapshot) = at_rest {
        rest::compare(&mut pass, inbox, snapshot);
    } else if let Some(at) = state.at_rest.as_ref().and_then(|seen| seen.look_at).filter(|at| *at > now) {
        pass.look_by(at);
    }
    if let (Some(_), Some(snapshot)) = (&state.running, snapshot) {
        // Before anything is asked: what takes the deployment's place does not look any more.
        pass.saw_traffic(snapshot, false);
    }
    let seen = state.running.as_ref().map(|running| running.number);
    commands::take_in(&mut pass, inbox);
    commands::start_queued(&mut pass, inbox);
    if let Some(snapshot) = at_rest {
        rest::revert(&mut pass, inbox, snapshot);
    }
    if let Some(mut deployment) = pass.state.running.take() {
        if !deployment.pending.is_empty() {
            // Whoever decided them has died, perhaps right after doing them.
            deployment.acted_at = Some(now);
        }
        let at_its_gates = matches!(deployment.stage, Stage::Gated { .. });
        let ended = match snapshot {
            _ if at_its_gates => {
                let seen = snapshot.filter(|_| seen == Some(deployment.number));
                admission::gated(&mut pass, &mut deployment, inbox, seen) == Flow::Ended
            }
            _ if pace::turn(&deployment, now).is_some() => turn::wait(&mut pass, &mut deployment) == Flow::Ended,
            // What was seen was seen for the deployment that was running then.
            Some(snapshot) if seen == Some(deployment.number) => {
                turn::give_time(&pass, &mut deployment, snapshot);
                drive(&mut pass, &mut deployment, snapshot)
            }
            _ => {
                pass.look_again();
                false
            }
        };
        let ended = ended || queue::replaced(&mut pass, &deployment, inbox) == Flow::Ended;
        if !ended {
            pass.state.running = Some(deployment);
        } else if at_its_gates && !pass.state.queued.is_empty() {
            pass.look_again();
        }
    }
    pass.finish(snapshot.filter(|_| seen.is_some()).map(|snapshot| snapshot.throttled))
}

/// Goes through stages until one waits, acts or ends. True: it ended.
fn drive(pass: &mut Pass, deployment: &mut crate::Deployment, snapshot: &Snapshot) -> bool {
    for _ in 0..MOST_TRANSITIONS {
        let flow = match gates::before_any_stage(pass, deployment, snapshot) {
            Flow::Onward => {
                promotion::verified_again(pass, deployment, snapshot);
                forward::step(pass, deployment, snapshot)
            }
            stopped => stopped,
        };
        match flow {
            Flow::Onward => {}
            Flow::Wait => return false,
            Flow::Ended => return true,
        }
    }
    pass.look_again();
    false
}
