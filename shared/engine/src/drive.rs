//! One pass over one target: acquire the lease, observe, decide, commit, perform, record.
//!
//! Level-triggered: a wake carries no facts, and every effect is decided from the present observation. A crash anywhere leaves a
//! state that was true when it was written; the next pass observes again and continues.

mod observe;
mod wakes;

use crate::ports::{
    Brakes, Clock, Cloud, Commands, Commit, LeaseId, LeaseOutcome, LeaseRequest, Leases, LedgerError, LockChange,
    Policies, Retry, RetryCounts, RetryRegistration, Targets, Wake, WakeQueue,
};
use crate::recorder::{NullRecorder, Recorder, RecordingLevel};
use crate::{gate_context, log_context, measure, outbox};
use rollout::decide::{Decision, Inbox, Next};
use rollout::deployment::{Deployment, DeploymentRecord};
use rollout::policy::AppliedTarget;
use rollout::promotion::{GateContext, ImageState};
use rollout::recording::{self, DecisionInput, RecordPosition};
use rollout::release::ReleaseRef;
use rollout::target::TargetState;
use rollout::{
    Cause, Command, Effect, ImageDigest, Instruction, JournalEntry, Outcome, Reading, Seconds, Snapshot, Stage,
    TargetId, TargetResources, Timestamp, Way, apply_outcomes, decide, idle_observation, idle_observation_is_due,
    observation, observation_after, rate_limiter,
};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use wakes::{next_wake, retry_later, schedule_takeover, send_wake};

/// Maximum lease duration: longer than any invocation of the driver may run (its time-out in `template.yaml` is 60 s). A lease
/// lasts no longer than what is left of its invocation when it is acquired, since Lambda ends the invocation then; this bounds
/// invocations that claim to have more time.
pub const MAX_LEASE: Seconds = Seconds(75);

/// Maximum duration of a pass that an urgent wake started, or that rolls traffic back: users are on a bad release meanwhile, and
/// if the pass is killed, another one has taken over within 30 s. It leaves time for an observation and a write of weights at the
/// maximum call duration (8 s each, `aws::config::CALL_TIMEOUT`); the next pass does the rest.
const MAX_URGENT_LEASE: Seconds = Seconds(22);

/// Grace period after the end of a lease before it may be stolen: the second that Lambda leaves for the response after the end of
/// a pass, plus some slack. Clocks of two machines are never compared: the holder stops by the clock that its lease was measured
/// with, and the next holder waits for a duration.
const STEAL_MARGIN: Seconds = Seconds(5);
/// Time that must be left in a pass to perform another effect, SDK time-outs included.
const TIME_FOR_AN_EFFECT: Seconds = Seconds(12);
/// The same in a pass limited to [`MAX_URGENT_LEASE`]: one call with all its attempts.
const TIME_FOR_AN_URGENT_EFFECT: Seconds = Seconds(9);
/// Maximum delay of an SQS message.
const MAX_WAKE_DELAY: Seconds = Seconds(900);
/// How long after its scheduled wake a target counts as overdue, for the sweeper.
const OVERDUE_GRACE: Seconds = Seconds(60);
/// How soon the next pass runs if publishing the outbox failed.
const OUTBOX_RETRY_DELAY: Seconds = Seconds(5);
/// How soon the next pass runs if another target took the lock of the environment first.
const LOCK_RETRY_DELAY: Seconds = Seconds(2);
/// Delay of the next look after effects that are not visible yet, such as starting tasks, while other targets queue for API calls.
const SETTLE_DELAY: Seconds = Seconds(20);
/// Maximum rounds of observe, decide, perform in one pass, in case every observation differs from the one before.
const MAX_ROUNDS: usize = 24;

/// Outcome of a pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriveOutcome {
    /// The pass completed.
    Done,
    /// Another pass holds the lease. This wake, or another of its kind, is retried; a takeover wake is dropped.
    Busy,
    /// Another pass took over the lease during this pass and continues.
    LeaseLost,
}

/// Ledger access of a pass: writes its target under a lease, and commands to other targets.
pub trait DriverLedger: Brakes + Commands + Leases + Policies + Targets {}

impl<T: Brakes + Commands + Leases + Policies + Targets> DriverLedger for T {}

/// Runs one pass over the target of `wake`.
///
/// `until`: when the invocation ends; an urgent pass ends earlier. No effect is started in the last 12 s of a pass, or in the last
/// 9 s of an urgent one.
///
/// # Errors
/// [`LedgerError`] if the ledger did not answer: the wake must be delivered again.
pub async fn drive<L: DriverLedger, C: Cloud, D: WakeQueue, K: Clock>(
    wake: &Wake,
    ledger: &L,
    cloud: &C,
    wake_queue: &D,
    clock: &K,
    until: Timestamp,
) -> Result<DriveOutcome, LedgerError> {
    drive_recorded(wake, ledger, cloud, wake_queue, clock, &NullRecorder, until).await
}

/// The same, with a recorder of decisions.
///
/// # Errors
/// As [`drive`]'s.
pub async fn drive_recorded<L: DriverLedger, C: Cloud, D: WakeQueue, K: Clock, R: Recorder>(
    wake: &Wake,
    ledger: &L,
    cloud: &C,
    wake_queue: &D,
    clock: &K,
    recorder: &R,
    until: Timestamp,
) -> Result<DriveOutcome, LedgerError> {
    let started = clock.now();
    measure::PASSES.count(1);
    let until = until.min(if wake.urgent { MAX_URGENT_LEASE } else { MAX_LEASE }.after(started));
    let lasts = Seconds::between(started, until);
    let claim = LeaseRequest { lease: clock.unique_id(), now: started, lasts, steal: wake.steal.clone() };
    // Sent beside the lease call, so that a pass killed before its first observation is taken over as early as one killed later. A
    // takeover wake does not do this: each would schedule the next, without end.
    let takeover_scheduled = wake.urgent && wake.steal.is_none();
    let lease = takeover_scheduled.then(|| claim.lease.clone());
    let first = Wake { retries: 0, ..wake.clone() };
    let takeover = schedule_takeover(wake_queue, first, lease, lasts);
    let (begun, ()) = futures::future::join(ledger.acquire_lease(&wake.target, &claim), takeover).await;
    let loaded = match begun? {
        LeaseOutcome::Granted(loaded) => loaded,
        LeaseOutcome::Held { by, lasts, retries } => {
            retry_later(wake, by, lasts, retries, ledger, wake_queue).await;
            return Ok(DriveOutcome::Busy);
        }
    };
    if loaded.stolen {
        measure::LEASE_STEALS.count(1);
        tracing::warn!(target_id = %wake.target, "taken from a pass that has died");
    }
    log_context::set_running_deployment(&loaded.state);
    let mut pass = Pass {
        target: &wake.target,
        ledger,
        cloud,
        wake_queue,
        clock,
        recorder,
        until,
        lease: claim.lease,
        revision: loaded.revision,
        state: loaded.state,
        pending_journal: Vec::new(),
        takeover_scheduled,
        has_urgent_lease: wake.urgent,
        performed: Vec::new(),
        idle_look_done: false,
    };
    match pass.run(wake, loaded.stolen).await {
        Ok(()) => Ok(DriveOutcome::Done),
        Err(LedgerError::Conflict { .. }) => {
            measure::LEDGER_CONFLICTS.count(1);
            Ok(DriveOutcome::LeaseLost)
        }
        Err(error) => {
            // The lease is released so that the redelivered wake need not wait for it. If the release fails too, the lease is
            // stolen later.
            if let Err(second) = ledger.release(&wake.target, &pass.lease).await {
                tracing::warn!(target_id = %wake.target, reason = %second, "the lease could not be given back");
            }
            Err(error)
        }
    }
}

/// What one decision of a pass is made from.
struct DecisionInputs {
    commands: Vec<Command>,
    snapshot: Option<Snapshot>,
    policy: Option<AppliedTarget>,
    gate_context: Option<GateContext>,
}

/// A pass over a target whose lease it holds.
struct Pass<'a, L, C, D, K, R> {
    target: &'a TargetId,
    ledger: &'a L,
    cloud: &'a C,
    wake_queue: &'a D,
    clock: &'a K,
    recorder: &'a R,
    until: Timestamp,
    lease: LeaseId,
    revision: u64,
    state: TargetState,
    /// Journal entries about outcomes, written with the next commit.
    pending_journal: Vec<JournalEntry>,
    /// A takeover wake is scheduled in case this pass dies.
    takeover_scheduled: bool,
    /// The pass is limited to [`MAX_URGENT_LEASE`].
    has_urgent_lease: bool,
    /// Effects performed last in this pass: they determine what the next observation has to read.
    performed: Vec<Effect>,
    /// The idle observation that the wake asked for was made or skipped.
    idle_look_done: bool,
}

impl<L: DriverLedger, C: Cloud, D: WakeQueue, K: Clock, R: Recorder> Pass<'_, L, C, D, K, R> {
    /// `stolen`: the lease was taken over from a pass that died.
    async fn run(&mut self, wake: &Wake, stolen: bool) -> Result<(), LedgerError> {
        let now = self.clock.now();
        if wake.due_at.is_some() && wake.due_at == self.state.wake_at {
            // The scheduled wake has arrived, even if this clock is behind the one that it was scheduled by.
            self.state.wake_at = None;
        }
        if self.may_skip(wake, stolen, now) && self.ledger.commands(self.target).await?.is_empty() {
            // Nothing is due or requested, and AWS API calls are scarce: the scheduled wake will observe.
            return self.ledger.release(self.target, &self.lease).await;
        }
        for _ in 0..MAX_ROUNDS {
            match self.round(wake).await {
                Ok(flow) if flow.is_break() => return Ok(()),
                Ok(_) => {}
                Err(LedgerError::Locked { environment }) => {
                    // Taken since this pass read that it was free. Nothing is written: the gate says who has it next time.
                    tracing::info!(target_id = %self.target, environment, "another service took the lock first");
                    return self.release_lease_and_reschedule(LOCK_RETRY_DELAY).await;
                }
                Err(error) => return Err(error),
            }
        }
        self.release_lease_and_reschedule(Seconds(2)).await
    }

    /// Whether the pass may end without an observation if no command waits.
    fn may_skip(&self, wake: &Wake, stolen: bool, now: Timestamp) -> bool {
        match wake.steal {
            // A target that was never deployed to has nothing to compare with.
            None if wake.idle && self.state.running.is_none() && self.state.stable.is_none() => true,
            // A periodic idle observation does not apply to a running deployment, which has its own schedule.
            None if wake.idle && wake.api_call.is_none() && self.state.running.is_some() => {
                self.state.wake_at.is_some_and(|at| now < at)
            }
            // Other targets need the API calls more than an event that is neither an alarm nor a person's request.
            None => !wake.urgent && rate_limiter::defers_events(&self.state, now),
            // Every urgent pass has scheduled a takeover. No pass died here: the previous holder left the target with a wake of
            // its own, or idle.
            Some(_) => {
                wake.urgent
                    && !stolen
                    && (self.state.running.is_none() || self.state.wake_at.is_some_and(|at| now < at))
            }
        }
    }

    /// One round: observe, decide, commit, perform. Breaks when the pass has ended.
    async fn round(&mut self, wake: &Wake) -> Result<ControlFlow<()>, LedgerError> {
        self.reserve_api_calls().await?;
        let inputs = self.observe_with_takeover(wake).await?;
        if self.clock.now() >= self.until {
            // The pass was suspended past its lease: its observation is outdated, including that brakes were off.
            return self.release_lease_and_reschedule(Seconds(1)).await.map(ControlFlow::Break);
        }
        let mut decision = self.decide(&inputs);
        if decision.effects.is_empty() && decision.next != Next::Immediately {
            return self.finish(decision).await.map(ControlFlow::Break);
        }
        let next = decision.next;
        let effects = std::mem::take(&mut decision.effects);
        // Those of the observed deployment: the decision may have ended it, and its last effects still apply to them.
        let resources = self.state.running.as_ref().map(|running| running.policy.resources.clone());
        self.commit_with_takeover(decision, !effects.is_empty()).await?;
        let had_time_for_all = match &resources {
            Some(resources) => self.perform(resources, &effects).await,
            // Nothing runs, so there are no effects: a deployment that this decision starts is observed before it acts.
            None => true,
        };
        self.performed = effects;
        if let Err(error) = self.publish_outbox().await {
            // Other targets can wait, while this one may be rolling back: the messages are stored in the state, and the pass
            // continues.
            tracing::warn!(target_id = %self.target, "the outbox could not be delivered; the next pass repeats it: {error}");
            return self.release_lease_and_reschedule(OUTBOX_RETRY_DELAY).await.map(ControlFlow::Break);
        }
        if !had_time_for_all || self.out_of_time() {
            return self.release_lease_and_reschedule(Seconds(1)).await.map(ControlFlow::Break);
        }
        if !self.performed.is_empty() && self.state.outbox.is_empty() && self.is_too_early_to_observe() {
            return self.release_lease_and_reschedule(SETTLE_DELAY).await.map(ControlFlow::Break);
        }
        if let Next::At(at) = next {
            // A failed effect was retried: observe again after its pause.
            let pause = Seconds::between(self.clock.now(), at);
            return self.release_lease_and_reschedule(pause).await.map(ControlFlow::Break);
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Observes and, while traffic is being rolled back, schedules a takeover beside the reads.
    async fn observe_with_takeover(&mut self, wake: &Wake) -> Result<DecisionInputs, LedgerError> {
        // Traffic is being rolled back, and the wake scheduled no takeover: the pass may be killed before it acts. The
        // takeover wake finds nothing due and ends unless this pass is killed.
        let needs_takeover = self.state.running.as_ref().is_some_and(Deployment::is_rolling_back_urgently);
        if needs_takeover && !self.has_urgent_lease {
            self.limit_to_urgent_lease();
        }
        let left = Seconds::between(self.clock.now(), self.until);
        let lease = self.takeover_lease(needs_takeover);
        let takeover = schedule_takeover(self.wake_queue, next_wake(&self.state), lease, left);
        let ((), inputs) = futures::future::join(takeover, self.observe(wake)).await;
        inputs
    }

    /// Decides on an observation, and records the decision.
    fn decide(&self, inputs: &DecisionInputs) -> Decision {
        let DecisionInputs { commands, snapshot, policy, gate_context } = inputs;
        let inbox = Inbox { commands, policy: policy.as_ref(), gate_context: gate_context.as_ref() };
        let input = DecisionInput { state: &self.state, inbox, snapshot: snapshot.as_ref(), now: self.clock.now() };
        let decision = decide(input.state, &input.inbox, input.snapshot, input.now);
        self.record(&input, &decision);
        self.log_commands(commands, &decision);
        decision
    }

    /// Commits a decision that the pass goes on after, with a takeover scheduled in case it is killed before it has acted.
    async fn commit_with_takeover(&mut self, decision: Decision, has_effects: bool) -> Result<(), LedgerError> {
        let mut turns_urgent = false;
        if !self.has_urgent_lease && decision.state.running.as_ref().is_some_and(Deployment::is_rolling_back_urgently) {
            self.limit_to_urgent_lease();
            self.takeover_scheduled = false;
            turns_urgent = true;
        }
        let left = Seconds::between(self.clock.now(), self.until);
        let lease = self.takeover_lease(turns_urgent || has_effects);
        let takeover = schedule_takeover(self.wake_queue, next_wake(&decision.state), lease, left);
        if turns_urgent {
            // Users are on a bad release, and the wake that started this pass scheduled no takeover. A needless takeover
            // costs one observation, a missing one a minute: it is scheduled before the commit.
            takeover.await;
            self.commit(decision, false).await
        } else {
            let ((), committed) = futures::future::join(takeover, self.commit(decision, false)).await;
            committed
        }
    }

    /// Limits the pass to [`MAX_URGENT_LEASE`] from now on.
    fn limit_to_urgent_lease(&mut self) {
        self.has_urgent_lease = true;
        self.until = self.until.min(MAX_URGENT_LEASE.after(self.clock.now()));
    }

    /// Reserves the API calls of a deployment before its first observation. The reservation is written with the next commit; one
    /// lost in a crash stays unused, which delays the targets behind it by some seconds.
    async fn reserve_api_calls(&mut self) -> Result<(), LedgerError> {
        let Some(api_cost) = rate_limiter::pending_api_cost(&self.state) else { return Ok(()) };
        let queue_position = self.ledger.reserve_api_calls(&api_cost, self.clock.now()).await?;
        if let Some(running) = &mut self.state.running {
            running.queue_position = Some(queue_position);
        }
        Ok(())
    }

    /// Logs the consumed commands, each with its deployment.
    fn log_commands(&self, commands: &[Command], decision: &Decision) {
        for command in commands.iter().filter(|command| decision.consumed.contains(&command.id)) {
            let span = log_context::of(self.target);
            let asked = command.instruction.name();
            span.in_scope(|| {
                log_context::set_command(command, &decision.state);
                tracing::info!(asked, actor = %command.actor, "a command was consumed");
            });
        }
    }

    /// Logs the journal entries added since the state `before`; `history`: deployments that ended meanwhile.
    fn log_journal(&self, before: &TargetState, history: &[DeploymentRecord], journal: &[JournalEntry]) {
        if !tracing::enabled!(tracing::Level::INFO) {
            return;
        }
        // One decision may end a deployment and start the next one.
        let known = [before, &self.state].into_iter().filter_map(|state| state.running.as_ref());
        let known = known.map(|running| (running.number, &running.release.id.digest));
        let known: Vec<_> =
            known.chain(history.iter().map(|record| (record.number, &record.release.id.digest))).collect();
        for entry in journal {
            let release = known.iter().find(|(number, _)| Some(*number) == entry.deployment);
            let span = log_context::of(self.target);
            span.in_scope(|| {
                log_context::about(entry.deployment, release.map(|(_, digest)| *digest));
                let fact = serde_json::to_string(&entry.fact).unwrap_or_default();
                tracing::info!(sequence = entry.sequence, fact, "journal");
            });
        }
    }

    /// Records a decision before it is committed, so that there is a record whatever happens to the pass. The revision identifies
    /// decisions that lost against a concurrent write.
    fn record(&self, input: &DecisionInput<'_>, decision: &Decision) {
        let wanted = match self.recorder.wanted() {
            RecordingLevel::Off => false,
            RecordingLevel::Actions => recording::is_worth_recording(input.state, decision),
            RecordingLevel::All => true,
        };
        if wanted {
            let runs = decision.state.running.as_ref().or(input.state.running.as_ref());
            let deployment = runs.map(|running| running.number);
            let lines = recording::decision_log_lines(self.record_position(), input, decision);
            lines.into_iter().for_each(|line| self.recorder.record(self.target, deployment, line));
        }
    }

    /// Records the outcomes of effects.
    fn record_outcomes(
        &self,
        outcomes: &[(Effect, Outcome)],
        at: Timestamp,
        absorbed: &(TargetState, Vec<JournalEntry>),
    ) {
        if self.recorder.wanted() == RecordingLevel::Off || outcomes.is_empty() {
            return;
        }
        let (after, journal) = absorbed;
        let lines = recording::outcome_log_lines(self.record_position(), &self.state, outcomes, at, after, journal);
        let deployment = self.state.running.as_ref().map(|running| running.number);
        lines.into_iter().for_each(|line| self.recorder.record(self.target, deployment, line));
    }

    fn record_position(&self) -> RecordPosition<'_> {
        RecordPosition { pass: &self.lease.0, revision: self.revision }
    }

    /// The lease that a takeover wake may steal, once in a pass that is about to act or to roll traffic back: if the pass is
    /// killed, the target is taken over when the lease ends, not when a sweep finds it overdue.
    fn takeover_lease(&mut self, is_due: bool) -> Option<LeaseId> {
        if !is_due || self.takeover_scheduled {
            return None;
        }
        self.takeover_scheduled = true;
        Some(self.lease.clone())
    }

    /// Publishes the outbox to other targets. Messages stay in the state until that has worked.
    async fn publish_outbox(&mut self) -> Result<(), LedgerError> {
        if self.state.outbox.is_empty() {
            return Ok(());
        }
        let now = self.clock.now();
        outbox::run(self.ledger, self.wake_queue, self.target, &self.state.outbox, now).await?;
        self.state.outbox.clear();
        Ok(())
    }

    /// Commits the decision. Effects are performed on the state that this leaves.
    async fn commit(&mut self, decision: Decision, release_lease: bool) -> Result<(), LedgerError> {
        let mut journal = self.pending_journal.clone();
        journal.extend(decision.journal);
        let now = self.clock.now();
        let overdue_at = match decision.next {
            _ if !release_lease => Some(OVERDUE_GRACE.after(self.until)),
            Next::Immediately => Some(OVERDUE_GRACE.after(now)),
            Next::At(at) => Some(OVERDUE_GRACE.after(at.max(now))),
            Next::Idle => None,
        };
        let commit = Commit {
            state: &decision.state,
            journal: &journal,
            history: &decision.history,
            consumed: &decision.consumed,
            overdue_at,
            release_lease,
            lock: LockChange::between(&self.state, &decision.state),
        };
        self.revision = self.ledger.commit(self.target, &self.lease, self.revision, &commit).await?;
        self.pending_journal.clear();
        let before = std::mem::replace(&mut self.state, decision.state);
        self.log_journal(&before, &decision.history, &journal);
        log_context::set_running_deployment(&self.state);
        Ok(())
    }

    /// Performs effects in order until one fails or time runs out. Returns false if time ran out before all were
    /// started; a failed effect also stops the rest, and the next decision handles it.
    async fn perform(&mut self, resources: &TargetResources, effects: &[Effect]) -> bool {
        let mut outcomes = Vec::new();
        let mut had_time_for_all = true;
        for effect in effects {
            if self.out_of_time() {
                had_time_for_all = false;
                break;
            }
            let outcome = self.cloud.perform(resources, effect).await;
            let worked = !matches!(
                outcome,
                Outcome::Unsure { .. } | Outcome::Throttled { .. } | Outcome::Refused { .. } | Outcome::Conflict { .. }
            );
            self.measure(effect, &outcome);
            outcomes.push((effect.clone(), outcome));
            if !worked {
                break;
            }
        }
        let now = self.clock.now();
        let absorbed = apply_outcomes(&self.state, &outcomes, now);
        self.record_outcomes(&outcomes, now, &absorbed);
        let (state, journal) = absorbed;
        self.state = state;
        self.pending_journal.extend(journal);
        had_time_for_all
    }

    fn measure(&self, effect: &Effect, outcome: &Outcome) {
        let kind = effect.kind().name();
        match outcome {
            Outcome::Unsure { reason } | Outcome::Throttled { reason } => {
                measure::EFFECTS_UNSURE.count_one(kind);
                tracing::warn!(target_id = %self.target, effect = kind, reason, "an effect may not have worked");
            }
            Outcome::Refused { reason } => {
                measure::EFFECTS_REFUSED.count_one(kind);
                tracing::warn!(target_id = %self.target, effect = kind, reason, "an effect was refused");
            }
            Outcome::Conflict { reason } => {
                tracing::warn!(
                    target_id = %self.target, effect = kind, reason,
                    "what an effect was decided on has changed"
                );
            }
            Outcome::Done if matches!(effect, Effect::SetWeights { .. }) => {
                let rollback = self.state.running.as_ref().and_then(Deployment::rollback);
                let Some(Cause::Alarm { name, .. }) = rollback.map(|rollback| &rollback.cause) else { return };
                if let Some(since) = self.cloud.take_firing_since(name) {
                    let took = self.clock.now().duration_since(since).as_secs_f64();
                    measure::ALARM_TO_WEIGHTS.record(took.max(0.0));
                }
            }
            _ => {}
        }
    }

    /// The last effects become visible only later, and other targets need the API calls more.
    fn is_too_early_to_observe(&self) -> bool {
        observation(&self.state).is_some() && observation_after(&self.state, &self.performed).is_none()
    }

    fn out_of_time(&self) -> bool {
        let needs = if self.has_urgent_lease { TIME_FOR_AN_URGENT_EFFECT } else { TIME_FOR_AN_EFFECT };
        needs.after(self.clock.now()) >= self.until
    }

    /// Ends the pass with a decision that has no more effects.
    async fn finish(&mut self, mut decision: Decision) -> Result<(), LedgerError> {
        let now = self.clock.now();
        let wanted = match decision.next {
            Next::At(at) => Some(at.max(now)),
            Next::Immediately | Next::Idle => None,
        };
        // A pending wake that is not too late is reused; a second one would start a second chain of wakes.
        let already_scheduled = self.state.wake_at.filter(|at| *at > now && wanted.is_some_and(|wanted| *at <= wanted));
        let send_at = match (already_scheduled, wanted) {
            (None, Some(at)) => Some(at.min(MAX_WAKE_DELAY.after(now))),
            _ => None,
        };
        decision.state.wake_at = send_at.or(already_scheduled);
        self.commit(decision, true).await?;
        if let Some(at) = send_at {
            let wake = next_wake(&self.state).due(at);
            send_wake(self.wake_queue, &wake, Seconds::between(now, at)).await;
        }
        Ok(())
    }

    /// Ends the pass early: records what was performed and schedules a new pass.
    async fn release_lease_and_reschedule(&mut self, delay: Seconds) -> Result<(), LedgerError> {
        let now = self.clock.now();
        let at = delay.after(now);
        let journal = std::mem::take(&mut self.pending_journal);
        self.state.wake_at = Some(at);
        let commit = Commit {
            state: &self.state,
            journal: &journal,
            history: &[],
            consumed: &[],
            overdue_at: Some(OVERDUE_GRACE.after(at)),
            release_lease: true,
            lock: None,
        };
        self.revision = self.ledger.commit(self.target, &self.lease, self.revision, &commit).await?;
        self.log_journal(&self.state, &[], &journal);
        let wake = next_wake(&self.state).due(at);
        send_wake(self.wake_queue, &wake, delay).await;
        Ok(())
    }
}
