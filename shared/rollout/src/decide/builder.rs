//! The decision being built: its next state, and the effects, facts and next observation accumulated so far.

use super::transition::{Context, Wait};
use super::{Decision, Next};
use crate::backoff;
use crate::brake::{Brake, Scope};
use crate::command::CommandId;
use crate::deployment::DeploymentRecord;
use crate::effect::{Effect, EffectKind};
use crate::explanation::{Explanation, WaitingOn};
use crate::journal::{Fact, JournalEntry};
use crate::names::{Actor, ImageDigest};
use crate::promotion::{GateContext, ImageState};
use crate::rate_limiter;
use crate::refusal::CommandRefusal;
use crate::snapshot::{Reading, Snapshot};
use crate::target::{IdleState, LiveTraffic, OutboxMessage, TargetState};
use crate::template::TemplateReading;
use crate::time::Seconds;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// Longest pause between two retries of a failing effect, in seconds.
const MAX_BACKOFF_S: u64 = 30;
/// The same during a rollback, in seconds: users see errors meanwhile.
const MAX_ROLLBACK_BACKOFF_S: u64 = 4;

/// Builds one [`Decision`].
pub(super) struct Builder {
    /// The target's state so far; in the end, the decision's next state.
    pub(super) state: TargetState,
    /// The time of the decision.
    pub(super) now: Timestamp,
    /// When the observation started: not after `now`.
    pub(super) seen_at: Timestamp,
    /// Whom journal entries name: the requester while a command is processed, otherwise Switchback.
    pub(super) actor: Actor,
    /// A command stays in the inbox until the running deployment has ended.
    pub(super) has_deferred_command: bool,
    journal: Vec<JournalEntry>,
    history: Vec<DeploymentRecord>,
    consumed: Vec<CommandId>,
    effects: Vec<Effect>,
    waiting_on: Vec<WaitingOn>,
    observe_immediately: bool,
    recheck_at: Option<Timestamp>,
    /// Other targets are queued for AWS's API budgets: mere monitoring polls less often.
    low_rate: bool,
    /// As in [`Context`].
    line_stopped: Option<Result<String, String>>,
    images: BTreeMap<ImageDigest, Reading<ImageState>>,
    template: Option<Reading<TemplateReading>>,
}

impl Builder {
    pub(super) fn new(state: &TargetState, snapshot: Option<&Snapshot>, now: Timestamp) -> Self {
        let position = state.running.as_ref().and_then(|running| running.queue_position);
        Self {
            state: state.clone(),
            now,
            seen_at: snapshot.and_then(|snapshot| snapshot.read_started_at).map_or(now, |begun| begun.min(now)),
            actor: Actor::Switchback,
            has_deferred_command: false,
            journal: Vec::new(),
            history: Vec::new(),
            consumed: Vec::new(),
            effects: Vec::new(),
            waiting_on: Vec::new(),
            observe_immediately: false,
            recheck_at: None,
            low_rate: position.is_some_and(|position| position.low_rate),
            line_stopped: Some(Err("it was not read whether the line is stopped".to_owned())),
            images: BTreeMap::new(),
            template: None,
        }
    }

    /// Reads from the gate context whether the line is stopped, what the registry says about images, and the newest
    /// template.
    pub(super) fn read_gate_context(&mut self, gate_context: Option<&GateContext>) {
        let Some(gate_context) = gate_context else { return };
        self.images.clone_from(&gate_context.images);
        self.template.clone_from(&gate_context.template);
        self.line_stopped = match &gate_context.brakes {
            Reading::Unknown(reason) => {
                Some(Err(format!("it could not be read whether the line is stopped: {reason}")))
            }
            Reading::Known(brakes) => {
                let on = |brake: &&Brake| brake.scope == Scope::Everything && brake.holds(&self.state.target, self.now);
                brakes.iter().find(on).map(|brake| Ok(format!("the line is stopped by {}: {}", brake.by, brake.reason)))
            }
        };
    }

    /// Context for the next step.
    pub(super) fn context(&self) -> Context<'_> {
        Context {
            state: &self.state,
            now: self.now,
            seen_at: self.seen_at,
            line_stopped: self.line_stopped.as_ref(),
            images: &self.images,
            template: self.template.as_ref(),
            has_deferred_command: self.has_deferred_command,
        }
    }

    /// Adds a message for other targets to the outbox unless it is already there.
    pub(super) fn send(&mut self, message: OutboxMessage) {
        if !self.state.outbox.contains(&message) {
            self.state.outbox.push(message);
        }
    }

    /// Journals a fact about a deployment, or about the target itself when `deployment` is `None`.
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

    /// Journals that a command changed nothing, with the reason.
    pub(super) fn refuse(&mut self, command: &str, reason: CommandRefusal) {
        self.note(None, Fact::CommandRefused { command: command.to_owned(), reason });
    }

    /// Marks a command as consumed.
    pub(super) fn consume(&mut self, command: &CommandId) {
        self.consumed.push(command.clone());
    }

    /// Adds or replaces the deployment's entry in the history.
    pub(super) fn record(&mut self, record: DeploymentRecord) {
        self.history.push(record);
    }

    /// Number of writes accumulated so far: journal entries, history records and consumed commands.
    pub(super) fn writes(&self) -> usize {
        self.journal.len() + self.history.len() + self.consumed.len()
    }

    /// Adds an effect to perform.
    pub(super) fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Adds a reason for waiting, and schedules the observation that goes with it.
    pub(super) fn wait(&mut self, wait: Wait) {
        match wait {
            Wait::For { on, poll, until } => {
                self.waiting_on.push(on);
                let poll = if self.low_rate {
                    rate_limiter::slowed_poll(poll, Seconds::between(self.now, until))
                } else {
                    poll
                };
                self.observe_by(poll.after(self.now).min(until));
            }
            Wait::Explained(on) => self.waiting_on.push(on),
            Wait::Until(at) => self.observe_by(at),
            Wait::Immediately => self.observe_again(),
        }
    }

    /// Observes at this time at the latest.
    pub(super) fn observe_by(&mut self, at: Timestamp) {
        self.recheck_at = Some(self.recheck_at.map_or(at, |known| known.min(at)));
    }

    /// Observes again immediately.
    pub(super) fn observe_again(&mut self) {
        self.observe_immediately = true;
    }

    /// Records the observed traffic split. While a deployment runs, an unreadable rule is not treated as a change;
    /// `last`: no observation follows this one, so the fact that it could not be read is recorded.
    pub(super) fn record_traffic(&mut self, snapshot: &Snapshot, last: bool) {
        let rules: Vec<_> = snapshot.rules.iter().map(|rule| rule.known().map(|rule| rule.weights)).collect();
        if rules.is_empty() || (!last && rules.iter().any(Option::is_none)) {
            return;
        }
        if last || self.state.traffic.as_ref().is_none_or(|known| known.rules != rules) {
            self.state.traffic = Some(LiveTraffic { rules, seen_at: self.seen_at });
        }
    }

    pub(super) fn into_state_and_journal(self) -> (TargetState, Vec<JournalEntry>) {
        (self.state, self.journal)
    }

    /// The finished decision. `throttled`: whether the observation was throttled; `None` without an observation.
    pub(super) fn finish(mut self, throttled: Option<bool>) -> Decision {
        let busy = self.observe_immediately || !self.effects.is_empty() || !self.state.outbox.is_empty();
        let mut next = match (busy, self.recheck_at) {
            (true, _) => Next::Immediately,
            (false, Some(at)) => Next::At(at),
            (false, None) => Next::Idle,
        };
        self.discard_idle_state();
        if self.state.running.is_some() {
            next = self.next_after_effects(next);
        }
        if let Some(throttled) = throttled {
            self.state.throttle_level = rate_limiter::throttle_level(self.state.throttle_level, throttled);
            // A rollback retries at once; other deployments make room for it.
            let running = self.state.running.as_ref();
            let may_wait = running.is_some_and(|running| !running.is_rolling_back_urgently());
            if throttled
                && may_wait
                && let Next::At(at) = next
            {
                let until = rate_limiter::retry_at(&self.state, self.now).max(at);
                next = Next::At(until);
                self.waiting_on.push(WaitingOn::Budget { until });
            }
        }
        self.state.explanation = Explanation {
            waiting_on: self.waiting_on,
            next_check_at: match next {
                Next::At(at) => Some(at),
                Next::Immediately | Next::Idle => None,
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

    /// Drops the state of idle observations once a deployment runs: it does not show what the deployment changes. The
    /// last reading of the rules stays known until the next observation.
    fn discard_idle_state(&mut self) {
        if self.state.running.is_some()
            && let Some(IdleState { seen_at, weights: Some(weights), .. }) = self.state.idle.take()
            && let Some(traffic) = self.state.traffic.as_mut().filter(|known| known.seen_at < seen_at)
        {
            traffic.rules.fill(Some(weights));
            traffic.seen_at = seen_at;
        }
    }

    /// When to observe the running deployment again: with backoff if one of its effects failed, and in any case by its
    /// deadline. Records the effects to perform as pending.
    fn next_after_effects(&mut self, mut next: Next) -> Next {
        let Some(deployment) = &mut self.state.running else { return next };
        deployment.pending.clone_from(&self.effects);
        // A failed effect that is no longer wanted is not a problem (its response was lost, and it had worked). A hook
        // is polled at intervals and remains wanted in between.
        let wanted = |key| self.effects.iter().any(|effect| effect.key() == key);
        let effect_failure = deployment.effect_failure.take();
        deployment.effect_failure = effect_failure.filter(|effect_failure| {
            effect_failure.effect.kind == EffectKind::InvokeHook || wanted(effect_failure.effect)
        });
        let mut at_least = None;
        if let Some(effect_failure) = &deployment.effect_failure {
            // A failed effect is retried with backoff: 1, 2, 4 … seconds. Past its deadline a rollback continues, at
            // longer intervals.
            let rolling_back = deployment.rollback_deadline().is_some_and(|deadline| self.now < deadline);
            let most = if rolling_back { MAX_ROLLBACK_BACKOFF_S } else { MAX_BACKOFF_S };
            let pause = Seconds(backoff::exponential(1, effect_failure.consecutive_failures, most));
            if !self.effects.is_empty() {
                next = Next::At(pause.after(self.now));
            }
            if effect_failure.throttled && !rolling_back {
                at_least = Some(
                    u8::try_from(effect_failure.consecutive_failures).unwrap_or(u8::MAX).max(self.state.throttle_level),
                );
            }
            self.waiting_on
                .push(WaitingOn::Retry { effect: effect_failure.effect.kind, reason: effect_failure.reason.clone() });
        }
        let deadline = deployment.phase.deadline();
        if let (Some(level), Next::At(at)) = (at_least, next) {
            let throttled = TargetState { throttle_level: level, ..TargetState::new(self.state.target.clone()) };
            next = Next::At(at.max(rate_limiter::retry_at(&throttled, self.now)));
        }
        match next {
            // Every wait is bounded: a stage that named no time is observed again when its deadline passes.
            Next::Idle => Next::At(deadline.max(Seconds(1).after(self.now))),
            known => known,
        }
    }
}
