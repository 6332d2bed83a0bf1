//! The paper that a decision is written on.

use super::{Decision, Next};
use crate::brake::{Brake, Scope};
use crate::command::{CommandId, Lane};
use crate::effect::Effect;
use crate::journal::{Fact, JournalEntry};
use crate::names::{Actor, ImageDigest, Slot};
use crate::pace;
use crate::promotion::{ImageState, Surroundings};
use crate::snapshot::{Reading, Snapshot};
use crate::stage::{Stage, Verdict};
use crate::target::{
    AtRest, Deployment, DeploymentRecord, Errand, Explanation, LiveTraffic, StableSide, TargetState, WaitingOn,
};
use crate::time::Seconds;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// Nothing stands in the way: go on with the (perhaps new) stage, on the same snapshot.
    Onward,
    /// Wait, or look at what the effects did.
    Wait,
    /// The deployment is over.
    Ended,
}

/// The longest pause between two tries of something that does not work, in seconds.
const MOST_BACKOFF: u64 = 30;
/// The same while going back: users see errors meanwhile.
const MOST_BACKOFF_GOING_BACK: u64 = 4;

/// A decision in the making.
pub(super) struct Pass {
    pub(super) state: TargetState,
    pub(super) now: Timestamp,
    /// When what was seen began to be read: not after `now`.
    pub(super) seen_at: Timestamp,
    /// Commands that change the running deployment act as somebody; everything else is Switchback's own doing.
    pub(super) actor: Actor,
    journal: Vec<JournalEntry>,
    history: Vec<DeploymentRecord>,
    consumed: Vec<CommandId>,
    effects: Vec<Effect>,
    waiting_on: Vec<WaitingOn>,
    again: bool,
    /// A command is left in the inbox until the running deployment is over.
    pub(super) left_over: bool,
    look_at: Option<Timestamp>,
    /// It spares AWS's API budgets: others wait for their turn.
    sparing: bool,
    /// Why the line is stopped here; an error: that could not be read. None where it is not.
    pub(super) line: Option<Result<String, String>>,
    /// What the registry says of images, as far as it was read.
    pub(super) images: BTreeMap<ImageDigest, Reading<ImageState>>,
}

impl Pass {
    pub(super) fn new(state: &TargetState, snapshot: Option<&Snapshot>, now: Timestamp) -> Self {
        Self {
            state: state.clone(),
            now,
            seen_at: snapshot.and_then(|snapshot| snapshot.begun_at).map_or(now, |begun| begun.min(now)),
            actor: Actor::Switchback,
            journal: Vec::new(),
            history: Vec::new(),
            consumed: Vec::new(),
            effects: Vec::new(),
            waiting_on: Vec::new(),
            again: false,
            left_over: false,
            look_at: None,
            sparing: state.running.as_ref().is_some_and(|running| running.place.is_some_and(|place| place.sparing)),
            line: Some(Err("it was not read whether the line is stopped".to_owned())),
            images: BTreeMap::new(),
        }
    }

    /// Takes in whether the line is stopped, and what the registry says of images.
    pub(super) fn read_brakes(&mut self, around: Option<&Surroundings>) {
        let Some(around) = around else { return };
        self.images.clone_from(&around.images);
        self.line = match &around.brakes {
            Reading::Unknown(reason) => {
                Some(Err(format!("it could not be read whether the line is stopped: {reason}")))
            }
            Reading::Known(brakes) => {
                let on = |brake: &&Brake| brake.scope == Scope::Everything && brake.holds(&self.state.target, self.now);
                brakes.iter().find(on).map(|brake| Ok(format!("the line is stopped by {}: {}", brake.by, brake.reason)))
            }
        };
    }

    /// Keeps something that other targets are to be told, until they were.
    pub(super) fn tell_others(&mut self, errand: Errand) {
        if !self.state.errands.contains(&errand) {
            self.state.errands.push(errand);
        }
    }

    /// Writes a fact about a deployment, or about the target itself.
    pub(super) fn note(&mut self, deployment: Option<u64>, fact: Fact) {
        self.state.last_entry += 1;
        self.journal.push(JournalEntry {
            target: self.state.target.clone(),
            sequence: self.state.last_entry,
            deployment,
            at: self.now,
            actor: self.actor.clone(),
            fact,
        });
    }

    pub(super) fn consume(&mut self, command: &CommandId) {
        self.consumed.push(command.clone());
    }

    /// How much there is to be written so far: journal entries, lines of history, and commands that are done with.
    pub(super) fn writes(&self) -> usize {
        self.journal.len() + self.history.len() + self.consumed.len()
    }

    /// Asks for an effect; what it did is looked at right after.
    pub(super) fn want(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Takes back what was asked for so far: the deployment turns round.
    pub(super) fn want_nothing_more(&mut self) {
        self.effects.clear();
        self.waiting_on.clear();
    }

    /// Says what it waits for.
    pub(super) fn explain(&mut self, on: WaitingOn) {
        self.waiting_on.push(on);
    }

    /// Waits, and says for what; looks again after `poll` at the latest, or when the wait is over. Where others wait for
    /// their turn, what only watches does so less often.
    pub(super) fn wait(&mut self, on: WaitingOn, poll: Seconds, over: Timestamp) -> Flow {
        self.waiting_on.push(on);
        let poll = if self.sparing { pace::drawn_out(poll, Seconds::between(self.now, over)) } else { poll };
        self.look_by(poll.after(self.now).min(over));
        Flow::Wait
    }

    pub(super) fn look_by(&mut self, at: Timestamp) {
        self.look_at = Some(self.look_at.map_or(at, |known| known.min(at)));
    }

    pub(super) fn look_again(&mut self) {
        self.again = true;
    }

    /// Remembers what the rules were seen to be. While a deployment runs, what could not be read is not taken for a change;
    /// `all`: nothing looks after this, so it is remembered that it could not be read.
    pub(super) fn saw_traffic(&mut self, snapshot: &Snapshot, all: bool) {
        let rules: Vec<_> = snapshot.rules.iter().map(|rule| rule.known().map(|rule| rule.weights)).collect();
        if rules.is_empty() || (!all && rules.iter().any(Option::is_none)) {
            return;
        }
        if all || self.state.traffic.as_ref().is_none_or(|known| known.rules != rules) {
            self.state.traffic = Some(LiveTraffic { rules, seen_at: self.seen_at });
        }
    }

    /// Goes to the next stage.
    pub(super) fn enter(&mut self, deployment: &mut Deployment, stage: Stage, detail: impl Into<String>) -> Flow {
        let (name, moved) = (stage.name(), stage.name() != deployment.stage.name());
        let next_step = match (&deployment.stage, &stage) {
            (Stage::Shifting { step: from, .. }, Stage::Shifting { step: to, .. }) => from != to,
            _ => false,
        };
        deployment.stage = stage;
        if moved || next_step {
            deployment.stage_entered_at = self.now;
            // What went wrong in the stage before says nothing about this one.
            deployment.trouble = None;
            self.note(Some(deployment.number), Fact::StageEntered { stage: name.to_owned(), detail: detail.into() });
        }
        Flow::Onward
    }

    pub(super) fn record(&mut self, record: DeploymentRecord) {
        self.history.push(record);
    }

    /// Ends the deployment with a verdict, and remembers what is stable now.
    pub(super) fn end(
        &mut self,
        deployment: &Deployment,
        verdict: Verdict,
        reason: impl Into<String>,
        snapshot: Option<&Snapshot>,
    ) -> Flow {
        let reason = reason.into();
        let live = snapshot.and_then(live_side);
        if let Some(sides) = &deployment.sides {
            if verdict == Verdict::Succeeded && live != Some(sides.stable) {
                self.succeed(deployment, sides.stable.other());
            } else if self.state.stable.as_ref().is_none_or(|known| known.slot != sides.stable) {
                // The rules were right and the ledger was not: what preflight saw live is what is stable.
                self.state.stable = Some(StableSide {
                    slot: sides.stable,
                    task_definition: sides.stable_task_definition.clone(),
                    release: None,
                    since: deployment.started_at,
                    forward_only: false,
                    train: None,
                });
            }
            if let Some(snapshot) = snapshot {
                self.saw_traffic(snapshot, true);
            }
        }
        super::promotion::ended(self, deployment, verdict, &reason);
        self.note(Some(deployment.number), Fact::Ended { verdict, reason: reason.clone(), live });
        self.record(deployment.record(Some((verdict, reason, self.now)), &self.state.target));
        if !self.state.queued.is_empty() || self.left_over {
            self.look_again();
        }
        Flow::Ended
    }

    fn succeed(&mut self, deployment: &Deployment, slot: Slot) {
        let Some(sides) = &deployment.sides else { return };
        let found = StableSide {
            slot: sides.stable,
            task_definition: sides.stable_task_definition.clone(),
            release: None,
            since: deployment.started_at,
            forward_only: false,
            train: None,
        };
        // The release of the old side is known only if it still runs what the ledger last put there.
        let old = match self.state.stable.take() {
            Some(known) if known.slot == found.slot && known.task_definition == found.task_definition => known,
            _ => found,
        };
        self.state.previous = Some(old);
        self.state.stable = Some(StableSide {
            slot,
            task_definition: deployment.task_definition.clone().unwrap_or_default(),
            release: Some(deployment.release.clone()),
            since: self.now,
            forward_only: super::frozen::is_forward_only(deployment),
            train: deployment.terms.train.clone(),
        });
    }

    pub(super) fn into_state_and_journal(self) -> (TargetState, Vec<JournalEntry>) {
        (self.state, self.journal)
    }

    /// `throttled`: whether the look was, where there was one.
    pub(super) fn finish(mut self, throttled: Option<bool>) -> Decision {
        let busy = self.again || !self.effects.is_empty() || !self.state.errands.is_empty();
        let mut next = match (busy, self.look_at) {
            (true, _) => Next::Again,
            (false, Some(at)) => Next::At(at),
            (false, None) => Next::Rest,
        };
        if self.state.running.is_some() {
            // What it changes from now on was not seen by a look at rest. What that saw last is what is known until the next.
            if let Some(AtRest { seen_at, weights: Some(weights), .. }) = self.state.at_rest.take()
                && let Some(traffic) = self.state.traffic.as_mut().filter(|known| known.seen_at < seen_at)
            {
                traffic.rules.fill(Some(weights));
                traffic.seen_at = seen_at;
            }
        }
        if let Some(deployment) = &mut self.state.running {
            deployment.pending.clone_from(&self.effects);
            // What did not work and is not wanted any more is no trouble (its answer was lost, and it had worked). A hook
            // is asked at intervals: between them it is still wanted.
            let still_wanted = |trouble: &crate::target::Trouble| {
                trouble.effect == "ask_hook" || self.effects.iter().any(|effect| effect.name() == trouble.effect)
            };
            deployment.trouble = deployment.trouble.take().filter(still_wanted);
            if let Some(trouble) = &deployment.trouble {
                // What just failed is not hammered: 1, 2, 4 … seconds. Past its deadline a way back goes on, less often.
                let going_back =
                    matches!(deployment.stage, Stage::RollingBack { .. }) && self.now < deployment.stage.deadline();
                let most = if going_back { MOST_BACKOFF_GOING_BACK } else { MOST_BACKOFF };
                let pause = Seconds(2u64.saturating_pow(trouble.times.saturating_sub(1)).min(most));
                if !self.effects.is_empty() {
                    next = Next::At(pause.after(self.now));
                }
                if trouble.throttled
                    && !going_back
                    && let Next::At(at) = next
                {
                    let known = u8::try_from(trouble.times).unwrap_or(u8::MAX).max(self.state.strain);
                    let strained = TargetState { strain: known, ..TargetState::new(self.state.target.clone()) };
                    next = Next::At(at.max(pace::again_at(&strained, self.now)));
                }
                self.waiting_on
                    .push(WaitingOn::Retry { effect: trouble.effect.clone(), reason: trouble.reason.clone() });
            }
            if next == Next::Rest {
                // Every wait has an end: a stage that named no time is looked at when its deadline passes.
                next = Next::At(deployment.stage.deadline().max(Seconds(1).after(self.now)));
            }
        }
        if let Some(throttled) = throttled {
            self.state.strain = pace::strain(self.state.strain, throttled);
            // Whoever goes back tries again at once: those who do not make room.
            let may_wait = self.state.running.as_ref().is_some_and(|running| !pace::is_urgent(running));
            if throttled
                && may_wait
                && let Next::At(at) = next
            {
                let until = pace::again_at(&self.state, self.now).max(at);
                next = Next::At(until);
                self.waiting_on.push(WaitingOn::Budget { until });
            }
        }
        self.state.explanation = Explanation {
            waiting_on: self.waiting_on,
            look_again_at: match next {
                Next::At(at) => Some(at),
                Next::Again | Next::Rest => None,
            },
        };
        Decision {
            state: self.state,
            journal: self.journal,
            history: self.history,
            consumed: self.consumed,
            effects: self.effects,
            next,
        }
    }
}

/// The one side that every rule sends everything to, if that is seen.
pub(super) fn live_side(snapshot: &Snapshot) -> Option<Slot> {
    let mut sides = snapshot.rules.iter().map(|rule| rule.known().and_then(|rule| rule.weights.only()));
    let first = sides.next()??;
    sides.all(|side| side == Some(first)).then_some(first)
}

impl Deployment {
    /// The line that history keeps of it.
    pub(super) fn record(
        &self,
        ended: Option<(Verdict, String, Timestamp)>,
        target: &crate::TargetId,
    ) -> DeploymentRecord {
        let (verdict, reason, ended_at) = match ended {
            Some((verdict, reason, at)) => (Some(verdict), reason, Some(at)),
            None => (None, self.reason.clone(), None),
        };
        DeploymentRecord {
            target: target.clone(),
            number: self.number,
            release: self.release.clone(),
            actor: self.actor.clone(),
            hotfix: self.terms.lane == Lane::Hotfix,
            policy_version: self.policy_version,
            started_at: self.started_at,
            ended_at,
            verdict,
            reason,
        }
    }
}
