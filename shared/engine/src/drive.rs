//! One pass over one target: begin, observe, decide, commit, perform, record.
//!
//! Level-triggered: a wake carries no facts, and every effect is decided from what is seen now. A crash anywhere
//! leaves a state that was true when it was written; the next pass looks again and goes on.

mod wakes;

use crate::ports::{
    Begin, Claim, Clock, Cloud, Commit, LeaseId, Ledger, LedgerError, Retries, Retry, RetryNoted, Wake, WakeQueue,
};
use crate::recorder::{Recorder, Unrecorded, Wanted};
use crate::{errands, measure, story, surroundings};
use rollout::decide::{Decision, Inbox, Next};
use rollout::promotion::{ImageState, Surroundings};
use rollout::recording::{self, Given, Place};
use rollout::target::{AppliedTarget, Deployment, DeploymentRecord, ReleaseRef, TargetState};
use rollout::{
    Cause, Command, EcsPair, Effect, ImageDigest, Instruction, JournalEntry, Outcome, Reading, Seconds, Snapshot,
    Stage, TargetId, Timestamp, absorb, decide, look, look_after, look_at_rest, pace, rest_look_is_due,
};
use std::collections::BTreeMap;
use wakes::{next_wake, retry_later, schedule_takeover, tell};

/// How long a holding may last at most: longer than any invocation of the driver may run (its time-out in
/// `template.yaml` is 60 s). A holding lasts no longer than what is left of its invocation when it is taken, since Lambda
/// ends whoever is not done by then; this is for an invocation that claims to have longer.
pub const LEASE: Seconds = Seconds(75);

/// How long a pass lasts at most that an urgent wake has begun, or that has come to take traffic back: users are on a bad
/// release meanwhile, and should it be killed another one has taken over within 30 s. It has time for a look and a write of
/// weights whose calls take as long as they may (8 s each, `aws::config::CALL`); what is left over is done by the next pass.
const URGENT_LEASE: Seconds = Seconds(22);

/// How much longer than its lease a holder is given before it is stolen from: the second that Lambda leaves for the
/// answer after the end of a pass, and some for whatever is slow. Nothing is decided by two clocks: the holder stops by
/// the clock by which its lease was measured, and who comes after it waits for a length of time.
const STEAL_MARGIN: Seconds = Seconds(5);
/// How much of a pass must be left for one more effect: SDK time-outs included.
const TIME_FOR_AN_EFFECT: Seconds = Seconds(12);
/// The same in a pass that lasts no longer than [`URGENT_LEASE`]: one call with all its attempts.
const TIME_FOR_AN_URGENT_EFFECT: Seconds = Seconds(9);
/// The longest delay of a wake that SQS knows.
const LONGEST_DELAY: Seconds = Seconds(900);
/// How much later than its wake a target counts as overdue, for the sweeper.
const GRACE: Seconds = Seconds(60);
/// How soon a pass comes again whose errands did not work.
const ERRANDS_AGAIN: Seconds = Seconds(5);
/// When tasks that were asked for are looked for, where the budgets are spared.
const SETTLE: Seconds = Seconds(20);
/// Rounds of observe, decide, perform in one pass: a bound against a world that changes with every look.
const MOST_ROUNDS: usize = 24;

/// What became of a pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Driven {
    /// It was looked at, and left in order.
    Done,
    /// Somebody else holds the target; a wake is scheduled.
    Busy,
    /// Somebody else took the target over in the middle; they go on with it.
    Superseded,
}

/// One pass over the target that `wake` wakes. Nothing is performed later than [`TIME_FOR_AN_EFFECT`] before `until`.
///
/// # Errors
/// [`LedgerError`] where the ledger did not answer: the wake must come again.
pub async fn drive<L: Ledger, C: Cloud, D: WakeQueue, K: Clock>(
    wake: &Wake,
    ledger: &L,
    cloud: &C,
    wake_queue: &D,
    clock: &K,
    until: Timestamp,
) -> Result<Driven, LedgerError> {
    drive_recorded(wake, ledger, cloud, wake_queue, clock, &Unrecorded, until).await
}

/// The same, with somebody who takes down what is decided.
///
/// # Errors
/// As [`drive`]'s.
pub async fn drive_recorded<L: Ledger, C: Cloud, D: WakeQueue, K: Clock, R: Recorder>(
    wake: &Wake,
    ledger: &L,
    cloud: &C,
    wake_queue: &D,
    clock: &K,
    recorder: &R,
    until: Timestamp,
) -> Result<Driven, LedgerError> {
    let started = clock.now();
    measure::PASSES.count(1);
    let until = until.min(if wake.urgent { URGENT_LEASE } else { LEASE }.after(started));
    let lasts = Seconds::between(started, until);
    let claim = Claim { lease: clock.lease_id(), now: started, lasts, steal: wake.steal.clone() };
    // Beside the first call: a pass that is killed before it has looked is taken over as soon as one that has acted. A wake
    // that may take over itself calls nobody before it acts, or such wakes would follow each other for ever.
    let takeover_scheduled = wake.urgent && wake.steal.is_none();
    let lease = takeover_scheduled.then(|| claim.lease.clone());
    let first = Wake { tries: 0, ..wake.clone() };
    let takeover = schedule_takeover(wake_queue, first, lease, lasts);
    let (begun, ()) = futures::future::join(ledger.begin(&wake.target, &claim), takeover).await;
    let loaded = match begun? {
        Begin::Granted(loaded) => loaded,
        Begin::Held { by, lasts, retries } => {
            retry_later(wake, by, lasts, retries, ledger, wake_queue).await;
            return Ok(Driven::Busy);
        }
    };
    if loaded.stolen {
        measure::LEASE_STEALS.count(1);
        tracing::warn!(target_id = %wake.target, "taken from a pass that has died");
    }
    story::about_running(&loaded.state);
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
        unwritten: Vec::new(),
        takeover_scheduled,
        hurries: wake.urgent,
        performed: Vec::new(),
        rested: false,
    };
    match pass.run(wake, loaded.stolen).await {
        Ok(()) => Ok(Driven::Done),
        Err(LedgerError::Conflict { .. }) => {
            measure::LEDGER_CONFLICTS.count(1);
            Ok(Driven::Superseded)
        }
        Err(error) => {
            // The lease is given back so that the wake, which comes again, need not wait for it. If this does not work
            // either, it is stolen later.
            if let Err(second) = ledger.release(&wake.target, &pass.lease).await {
                tracing::warn!(target_id = %wake.target, reason = %second, "the lease could not be given back");
            }
            Err(error)
        }
    }
}

/// What one look of a pass saw.
struct Seen {
    commands: Vec<Command>,
    snapshot: Option<Snapshot>,
    policy: Option<AppliedTarget>,
    around: Option<Surroundings>,
}

/// A target that is held.
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
    /// Journal entries of outcomes, to be written with the next commit.
    unwritten: Vec<JournalEntry>,
    /// A wake is scheduled that may take the target over, should this pass die.
    takeover_scheduled: bool,
    /// It lasts no longer than [`URGENT_LEASE`].
    hurries: bool,
    /// What this pass has done last: it says what the next look needs to see.
    performed: Vec<Effect>,
    /// The look at rest that the wake asked for has been taken, or left out.
    rested: bool,
}

impl<L: Ledger, C: Cloud, D: WakeQueue, K: Clock, R: Recorder> Pass<'_, L, C, D, K, R> {
    /// `stolen`: the target was taken from a pass that has died.
    async fn run(&mut self, wake: &Wake, stolen: bool) -> Result<(), LedgerError> {
        let now = self.clock.now();
        if wake.due_at.is_some() && wake.due_at == self.state.wake_at {
            // It is here, and no longer to come, even if this clock is behind the one that it was scheduled by.
            self.state.wake_at = None;
        }
        let early = match wake.steal {
            // A usual look at rest is none of a deployment that has its own times.
            // To one that nothing was ever deployed to there is nothing to compare with.
            None if wake.at_rest && self.state.running.is_none() && self.state.stable.is_none() => true,
            None if wake.at_rest && wake.api_call.is_none() && self.state.running.is_some() => {
                self.state.wake_at.is_some_and(|at| now < at)
            }
            None => !wake.urgent && pace::keeps_to_its_time(&self.state, now),
            // Every urgent pass has scheduled one. Nobody has died: whoever held the target has left it with a wake of its own,
            // or at rest.
            Some(_) => {
                wake.urgent
                    && !stolen
                    && (self.state.running.is_none() || self.state.wake_at.is_some_and(|at| now < at))
            }
        };
        if early && self.ledger.commands(self.target).await?.is_empty() {
            // Nothing is due, nobody asks, and AWS has no calls to spare: the scheduled wake will look.
            return self.ledger.release(self.target, &self.lease).await;
        }
        for _ in 0..MOST_ROUNDS {
            self.take_place().await?;
            // Traffic is on its way back, and the wake has scheduled no takeover: the pass may be killed before it acts. That
            // one finds nothing due and ends, unless this pass is killed.
            let is_alone = self.state.running.as_ref().is_some_and(pace::is_urgent);
            if is_alone && !self.hurries {
                self.hurries = true;
                self.until = self.until.min(URGENT_LEASE.after(self.clock.now()));
            }
            let left = Seconds::between(self.clock.now(), self.until);
            let lease = self.takeover_lease(is_alone);
            let takeover = schedule_takeover(self.wake_queue, next_wake(&self.state), lease, left);
            let ((), seen) = futures::future::join(takeover, self.observe(wake)).await;
            let Seen { commands, snapshot, policy, around } = seen?;
            if self.clock.now() >= self.until {
                // It stood still for longer than its time: what it has seen is over, brakes that were off included.
                return self.hand_over(Seconds(1)).await;
            }
            let inbox = Inbox { commands: &commands, policy: policy.as_ref(), around: around.as_ref() };
            let given = Given { state: &self.state, inbox, snapshot: snapshot.as_ref(), now: self.clock.now() };
            let mut decision = decide(given.state, &given.inbox, given.snapshot, given.now);
            self.record(&given, &decision);
            self.log_commands(&commands, &decision);
            if decision.effects.is_empty() && decision.next != Next::Again {
                return self.leave(decision).await;
            }
            let next = decision.next;
            let effects = std::mem::take(&mut decision.effects);
            // Of the deployment that was seen: the decision may have ended it, and its last effects are still its own.
            let pair = self.state.running.as_ref().map(|running| running.policy.pair.clone());
            let mut turns_urgent = false;
            if !self.hurries && decision.state.running.as_ref().is_some_and(pace::is_urgent) {
                self.hurries = true;
                self.until = self.until.min(URGENT_LEASE.after(self.clock.now()));
                self.takeover_scheduled = false;
                turns_urgent = true;
            }
            let left = Seconds::between(self.clock.now(), self.until);
            let lease = self.takeover_lease(turns_urgent || !effects.is_empty());
            let takeover = schedule_takeover(self.wake_queue, next_wake(&decision.state), lease, left);
            if turns_urgent {
                // Users are on a bad release, and the wake that began this pass has scheduled no takeover. One that is
                // scheduled for nothing costs a look, one that is missing a minute: it goes before the commit.
                takeover.await;
                self.commit(decision, false).await?;
            } else {
                let ((), committed) = futures::future::join(takeover, self.commit(decision, false)).await;
                committed?;
            }
            let complete = match &pair {
                Some(pair) => self.perform(pair, &effects).await,
                None => true,
            };
            self.performed = effects;
            if let Err(error) = self.run_errands().await {
                // Other targets can wait, this one may be on its way back: what was done is written down, and it goes on.
                tracing::warn!(target_id = %self.target, "other targets could not be told, and will be: {error}");
                return self.hand_over(ERRANDS_AGAIN).await;
            }
            if !complete || self.out_of_time() {
                return self.hand_over(Seconds(1)).await;
            }
            if !self.performed.is_empty() && self.state.errands.is_empty() && self.is_early_to_look() {
                return self.hand_over(SETTLE).await;
            }
            if let Next::At(at) = next {
                // Something did not work before and was tried once more: look again after its pause.
                return self.hand_over(Seconds::between(self.clock.now(), at)).await;
            }
        }
        self.hand_over(Seconds(2)).await
    }

    /// Joins the row before the first look of a deployment. It is written down with the next commit; a place that a crash
    /// loses stays empty, which costs those behind it some seconds.
    async fn take_place(&mut self) -> Result<(), LedgerError> {
        let Some(price) = pace::due_place(&self.state) else { return Ok(()) };
        let place = self.ledger.take_place(&price, self.clock.now()).await?;
        if let Some(running) = &mut self.state.running {
            running.place = Some(place);
        }
        Ok(())
    }

    /// The commands that were taken up, for the log: each with the deployment that it is about.
    fn log_commands(&self, commands: &[Command], decision: &Decision) {
        for command in commands.iter().filter(|command| decision.consumed.contains(&command.id)) {
            let told = story::of(self.target);
            let asked = command.instruction.name();
            told.in_scope(|| {
                story::asks(command, &decision.state);
                tracing::info!(asked, actor = %command.actor, "a command was taken up");
            });
        }
    }

    /// What stands in the journal since the state was `before`, for the log; `history`: whose deployments ended with it.
    fn log_journal(&self, before: &TargetState, history: &[DeploymentRecord], journal: &[JournalEntry]) {
        if !tracing::enabled!(tracing::Level::INFO) {
            return;
        }
        // One decision may end a deployment and begin the next one.
        let known = [before, &self.state].into_iter().filter_map(|state| state.running.as_ref());
        let known = known.map(|running| (running.number, &running.release.id.digest));
        let known: Vec<_> =
            known.chain(history.iter().map(|record| (record.number, &record.release.id.digest))).collect();
        for entry in journal {
            let release = known.iter().find(|(number, _)| Some(*number) == entry.deployment);
            let told = story::of(self.target);
            told.in_scope(|| {
                story::about(entry.deployment, release.map(|(_, digest)| *digest));
                let fact = serde_json::to_string(&entry.fact).unwrap_or_default();
                tracing::info!(sequence = entry.sequence, fact, "journal");
            });
        }
    }

    /// Takes down a decision, before it is written: whatever becomes of the pass, there is a record. One that somebody
    /// else was faster than is told by its revision.
    fn record(&self, given: &Given<'_>, decision: &Decision) {
        let wanted = match self.recorder.wanted() {
            Wanted::Nothing => false,
            Wanted::Doings => recording::did_something(given.state, decision),
            Wanted::Everything => true,
        };
        if wanted {
            let runs = decision.state.running.as_ref().or(given.state.running.as_ref());
            let deployment = runs.map(|running| running.number);
            let lines = recording::decided(self.place(), given, decision);
            lines.into_iter().for_each(|line| self.recorder.record(self.target, deployment, line));
        }
    }

    /// Takes down what became of effects.
    fn record_outcomes(
        &self,
        outcomes: &[(Effect, Outcome)],
        at: Timestamp,
        absorbed: &(TargetState, Vec<JournalEntry>),
    ) {
        if self.recorder.wanted() == Wanted::Nothing || outcomes.is_empty() {
            return;
        }
        let (after, journal) = absorbed;
        let lines = recording::performed(self.place(), &self.state, outcomes, at, after, journal);
        let deployment = self.state.running.as_ref().map(|running| running.number);
        lines.into_iter().for_each(|line| self.recorder.record(self.target, deployment, line));
    }

    fn place(&self) -> Place<'_> {
        Place { pass: &self.lease.0, revision: self.revision }
    }

    /// The lease that a takeover wake may take, once in a pass that is about to act, or to take traffic back: should the pass be
    /// killed, the target is taken over as soon as the lease is over, and not when a sweep finds it overdue.
    fn takeover_lease(&mut self, is_due: bool) -> Option<LeaseId> {
        if !is_due || self.takeover_scheduled {
            return None;
        }
        self.takeover_scheduled = true;
        Some(self.lease.clone())
    }

    /// Commands, brakes and the world, at the same time where a deployment runs; then what a beginning needs to know.
    async fn observe(&mut self, wake: &Wake) -> Result<Seen, LedgerError> {
        let now = self.clock.now();
        if self.state.running.is_none() {
            return self.observe_at_rest(wake, now).await;
        }
        let waits = self.state.running.as_ref().is_some_and(|running| pace::turn(running, now).is_some());
        let look = if self.performed.is_empty() { look(&self.state) } else { look_after(&self.state, &self.performed) };
        let (commands, snapshot, known) = match look.filter(|_| !waits) {
            Some(look) => {
                let world = self.cloud.observe(&look);
                let (commands, snapshot, around) =
                    futures::future::join3(self.ledger.commands(self.target), world, self.brakes_and_image()).await;
                (commands?, Some(Snapshot { begun_at: Some(now), ..snapshot }), around)
            }
            None => (self.ledger.commands(self.target).await?, None, None),
        };
        let (commands, policy) = self.with_policy(commands).await?;
        let around = match (&policy, known) {
            (Some(applied), known) if self.may_begin(&commands) => {
                let mut around = self.surroundings(&commands, applied).await;
                around.images.extend(known.into_iter().flat_map(|known| known.images));
                Some(around)
            }
            (_, known) => known,
        };
        Ok(Seen { commands, snapshot, policy, around })
    }

    /// What is asked, and, where the wake or a command gives reason for it, what runs: nothing is deployed.
    async fn observe_at_rest(&mut self, wake: &Wake, now: Timestamp) -> Result<Seen, LedgerError> {
        let commands = self.ledger.commands(self.target).await?;
        let asked = wake.at_rest && !std::mem::replace(&mut self.rested, true);
        let due = rest_look_is_due(&self.state, &commands, now);
        let (commands, policy) = if asked || due {
            // Without a policy nobody knows what to look at, and a command that needs one says so.
            (commands, self.applied().await?)
        } else {
            self.with_policy(commands).await?
        };
        let look = policy
            .as_ref()
            .filter(|_| asked || due)
            .and_then(|applied| look_at_rest(&self.state, &applied.policy, due || wake.api_call.is_some(), now));
        let look = match look {
            // Nobody has given a reason for it: it gives way to those who have.
            Some(look) if !due && wake.api_call.is_none() => {
                let place = self.ledger.take_place(&pace::rest_price(&look), now).await?;
                (!place.sparing && place.at <= now).then_some(look)
            }
            look => look,
        };
        let snapshot = match look {
            Some(look) => {
                let seen = self.cloud.observe(&look).await;
                Some(Snapshot { begun_at: Some(now), api_call: wake.api_call.clone().filter(|_| asked), ..seen })
            }
            None => None,
        };
        let around = match &policy {
            Some(applied) if self.may_begin(&commands) => Some(self.surroundings(&commands, applied).await),
            _ => None,
        };
        Ok(Seen { commands, snapshot, policy, around })
    }

    /// The policy of the target as it stands.
    async fn applied(&self) -> Result<Option<AppliedTarget>, LedgerError> {
        let Some(applied) = self.ledger.policy(&self.target.application).await? else { return Ok(None) };
        Ok(applied.policy.applied(self.target, applied.version))
    }

    /// The brakes, where the next decision may begin or widen something; and, before it begins, whether its image is there.
    async fn brakes_and_image(&self) -> Option<Surroundings> {
        let running = self.state.running.as_ref()?;
        let begins = matches!(running.stage, Stage::Preflight { .. });
        let widens =
            begins || matches!(running.stage, Stage::Scaling { .. } | Stage::Testing { .. } | Stage::Shifting { .. });
        if !widens {
            return None;
        }
        let images = self.images(Some(&running.release).filter(|_| begins));
        let (brakes, images) = futures::future::join(surroundings::brakes(self.ledger), images).await;
        Some(Surroundings { brakes, images, ..Surroundings::quiet() })
    }

    /// What the gates look at. Where people are asked, also whether the images are still there that they are asked about.
    async fn surroundings(&self, commands: &[Command], applied: &AppliedTarget) -> Surroundings {
        let gated = self.state.running.as_ref().filter(|running| matches!(running.stage, Stage::Gated { .. }));
        let waits = gated.map(|running| &running.release);
        let waits = waits.into_iter().chain(self.state.queued.iter().map(|queued| &queued.release));
        let asked = commands.iter().filter_map(|command| match &command.instruction {
            Instruction::Deploy { release, image, .. } => Some((&release.digest, image.as_str())),
            _ => None,
        });
        let releases = waits.map(|release| (&release.id.digest, release.image.as_str())).chain(asked);
        let asks_people = applied.entry.rules.approval.is_some();
        let images = surroundings::images(self.cloud, releases.filter(|_| asks_people).collect());
        let around = surroundings::of_target(self.ledger, &self.state, commands, applied);
        let (around, images) = futures::future::join(around, images).await;
        Surroundings { images, ..around }
    }

    async fn images(&self, release: Option<&ReleaseRef>) -> BTreeMap<ImageDigest, Reading<ImageState>> {
        let release = release.map(|release| (&release.id.digest, release.image.as_str()));
        surroundings::images(self.cloud, release.into_iter().collect()).await
    }

    /// Whether something may begin, or waits at its gates.
    fn may_begin(&self, commands: &[Command]) -> bool {
        match &self.state.running {
            Some(running) if running.stage.has_not_begun() => true,
            Some(_) => commands.iter().any(|command| matches!(command.instruction, Instruction::Deploy { .. })),
            None => !commands.is_empty() || !self.state.queued.is_empty(),
        }
    }

    /// The commands that can be decided on, with the policy as it stands where they may need it.
    async fn with_policy(
        &self,
        mut commands: Vec<Command>,
    ) -> Result<(Vec<Command>, Option<AppliedTarget>), LedgerError> {
        let gated = |running: &Deployment| matches!(running.stage, Stage::Gated { .. });
        match self.policy(&commands).await {
            Ok(policy) => Ok((commands, policy)),
            // A deployment keeps the rules that it began with: who ends it or turns it back need not wait until those of
            // the next one can be read.
            Err(error) if self.state.running.as_ref().is_some_and(|running| !gated(running)) => {
                tracing::warn!(target_id = %self.target, "what asks for a deployment is left for later: {error}");
                commands.retain(|command| !matches!(command.instruction, Instruction::Deploy { .. }));
                Ok((commands, None))
            }
            Err(error) => Err(error),
        }
    }

    /// The policy as it stands, where something may begin.
    async fn policy(&self, commands: &[Command]) -> Result<Option<AppliedTarget>, LedgerError> {
        if commands.is_empty() && !self.may_begin(commands) {
            return Ok(None);
        }
        self.applied().await
    }

    /// Tells other targets what they are to be told. What was written down stays until that has worked.
    async fn run_errands(&mut self) -> Result<(), LedgerError> {
        if self.state.errands.is_empty() {
            return Ok(());
        }
        let now = self.clock.now();
        errands::run(self.ledger, self.wake_queue, self.target, &self.state.errands, now).await?;
        self.state.errands.clear();
        Ok(())
    }

    /// Writes the decision. The state that stands after it is what effects are performed on.
    async fn commit(&mut self, decision: Decision, release_lease: bool) -> Result<(), LedgerError> {
        let mut journal = std::mem::take(&mut self.unwritten);
        journal.extend(decision.journal);
        let now = self.clock.now();
        let due_at = match decision.next {
            _ if !release_lease => Some(GRACE.after(self.until)),
            Next::Again => Some(GRACE.after(now)),
            Next::At(at) => Some(GRACE.after(at.max(now))),
            Next::Rest => None,
        };
        let commit = Commit {
            state: &decision.state,
            journal: &journal,
            history: &decision.history,
            consumed: &decision.consumed,
            due_at,
            release_lease,
        };
        self.revision = self.ledger.commit(self.target, &self.lease, self.revision, &commit).await?;
        let before = std::mem::replace(&mut self.state, decision.state);
        self.log_journal(&before, &decision.history, &journal);
        story::about_running(&self.state);
        Ok(())
    }

    /// Performs effects in order, as long as each works and time is left. False: some are left to do.
    async fn perform(&mut self, pair: &EcsPair, effects: &[Effect]) -> bool {
        let mut outcomes = Vec::new();
        let mut complete = true;
        for effect in effects {
            if self.out_of_time() {
                complete = false;
                break;
            }
            let outcome = self.cloud.perform(pair, effect).await;
            let worked = !matches!(
                outcome,
                Outcome::Unsure { .. } | Outcome::Throttled { .. } | Outcome::Refused { .. } | Outcome::Changed { .. }
            );
            self.measure(effect, &outcome);
            outcomes.push((effect.clone(), outcome));
            if !worked {
                break;
            }
        }
        let now = self.clock.now();
        let absorbed = absorb(&self.state, &outcomes, now);
        self.record_outcomes(&outcomes, now, &absorbed);
        let (state, journal) = absorbed;
        self.state = state;
        self.unwritten.extend(journal);
        complete
    }

    fn measure(&self, effect: &Effect, outcome: &Outcome) {
        let kind = effect.name();
        match outcome {
            Outcome::Unsure { reason } | Outcome::Throttled { reason } => {
                measure::EFFECTS_UNSURE.one_of(kind);
                tracing::warn!(target_id = %self.target, effect = kind, reason, "an effect may not have worked");
            }
            Outcome::Refused { reason } => {
                measure::EFFECTS_REFUSED.one_of(kind);
                tracing::warn!(target_id = %self.target, effect = kind, reason, "an effect was refused");
            }
            Outcome::Changed { reason } => {
                tracing::warn!(target_id = %self.target, effect = kind, reason, "what an effect was decided on has changed");
            }
            Outcome::Done if matches!(effect, Effect::SetWeights { .. }) => {
                let stage = self.state.running.as_ref().map(|running| &running.stage);
                let Some(Stage::RollingBack { cause: Cause::Alarm { name, .. }, .. }) = stage else { return };
                if let Some(since) = self.cloud.firing_since(name) {
                    let took = self.clock.now().duration_since(since).as_secs_f64();
                    measure::ALARM_TO_WEIGHTS.is(took.max(0.0));
                }
            }
            _ => {}
        }
    }

    /// What was done last shows only later, and somebody else has a better use for the calls.
    fn is_early_to_look(&self) -> bool {
        look(&self.state).is_some() && look_after(&self.state, &self.performed).is_none()
    }

    fn out_of_time(&self) -> bool {
        let needs = if self.hurries { TIME_FOR_AN_URGENT_EFFECT } else { TIME_FOR_AN_EFFECT };
        needs.after(self.clock.now()) >= self.until
    }

    /// Ends the pass on a decision that does nothing more.
    async fn leave(&mut self, mut decision: Decision) -> Result<(), LedgerError> {
        let now = self.clock.now();
        let wanted = match decision.next {
            Next::At(at) => Some(at.max(now)),
            Next::Again | Next::Rest => None,
        };
        // A wake that is still to come and is not too late serves; a second one would breed a second chain of wakes.
        let underway = self.state.wake_at.filter(|at| *at > now && wanted.is_some_and(|wanted| *at <= wanted));
        let send_at = match (underway, wanted) {
            (None, Some(at)) => Some(at.min(LONGEST_DELAY.after(now))),
            _ => None,
        };
        decision.state.wake_at = send_at.or(underway);
        self.commit(decision, true).await?;
        if let Some(at) = send_at {
            let wake = next_wake(&self.state).due(at);
            tell(self.wake_queue, &wake, Seconds::between(now, at)).await;
        }
        Ok(())
    }

    /// Ends the pass in the middle: records what was done, and lets a new pass go on.
    async fn hand_over(&mut self, delay: Seconds) -> Result<(), LedgerError> {
        let now = self.clock.now();
        let at = delay.after(now);
        let journal = std::mem::take(&mut self.unwritten);
        self.state.wake_at = Some(at);
        let commit = Commit {
            state: &self.state,
            journal: &journal,
            history: &[],
            consumed: &[],
            due_at: Some(GRACE.after(at)),
            release_lease: true,
        };
        self.revision = self.ledger.commit(self.target, &self.lease, self.revision, &commit).await?;
        self.log_journal(&self.state, &[], &journal);
        let wake = next_wake(&self.state).due(at);
        tell(self.wake_queue, &wake, delay).await;
        Ok(())
    }
}
