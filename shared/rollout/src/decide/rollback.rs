//! Rollback to the stable side: restores its weights first, verifies them live, then scales down the candidate.

use super::cleanup::{
    self, MAX_RETRY_PERIOD, PendingCleanup, ScalingIn, keeps_trying, limits_restored, settling, without_original_limits,
};
use super::going_back::{RollbackAnswer, await_operator, revoke_and_hold_promotion};
use super::health::{self, LiveWeights, UNREAD_POLL};
use super::transition::{Change, Context, Transition};
use super::{hooks, in_place_rollback, schedules, taking_down};
use crate::deployment::{Deployment, Purpose};
use crate::effect::{Effect, EffectKind};
use crate::explanation::WaitingOn;
use crate::first::FirstStage;
use crate::journal::Fact;
use crate::names::Slot;
use crate::phase::{Moving, Phase};
use crate::snapshot::{Reading, RuleReading, Snapshot, Weights};
use crate::time::{Percent, Seconds};
use crate::verdict::Cause;
use crate::weighted::{Rollback, RollbackPath, RollbackStep, StableAtStart, Weighted, WeightedStage, WeightsRecord};
use jiff::Timestamp;

/// How soon the rules are read again after their weights were written.
const WEIGHTS_POLL: Seconds = Seconds(1);
/// Poll interval while the stable side cannot serve, or cannot be read.
const UNFIT_POLL: Seconds = Seconds(5);
/// Poll interval while the candidate drains.
const DRAIN_POLL: Seconds = Seconds(15);
/// Starts a rollback if there is something to roll back and a stable side to roll back to.
pub(super) fn request(deployment: &Deployment, cause: Cause, now: Timestamp) -> RollbackAnswer {
    let weighted = match &deployment.phase {
        Phase::Moving(Moving::Weighted(weighted)) => weighted,
        Phase::Moving(Moving::InPlace(in_place)) => {
            return in_place_rollback::request(deployment, in_place, cause, now);
        }
        Phase::Moving(Moving::First(first)) if matches!(first.at, FirstStage::TakingDown { .. }) => {
            return RollbackAnswer::AlreadyRollingBack;
        }
        Phase::Moving(Moving::First(state)) => {
            return RollbackAnswer::Begun(taking_down::start(deployment, (**state).clone(), cause, now));
        }
        Phase::Gated(_) | Phase::Preparing(_) => {
            let (verdict, reason) = (cause.verdict(false), cause.summary());
            return RollbackAnswer::NothingToUndo(Transition::end_without_rules(deployment.clone(), verdict, reason));
        }
    };
    if matches!(weighted.at, WeightedStage::RollingBack(_)) {
        return RollbackAnswer::AlreadyRollingBack;
    }
    match weighted.rollback_path() {
        Some(path) => RollbackAnswer::Begun(start(deployment, (**weighted).clone(), path, cause, now)),
        None => RollbackAnswer::NoPath,
    }
}

/// Rolls back along an available path. A forward-only release in trouble awaits an operator instead.
pub(super) fn start(
    deployment: &Deployment,
    weighted: Weighted,
    path: RollbackPath,
    cause: Cause,
    now: Timestamp,
) -> Transition {
    let deployment = deployment.with_weighted(weighted.clone());
    if cause.needs_operator(&deployment) {
        let waits = weighted.awaiting_operator.unwrap_or_else(|| await_operator(cause, now));
        let weighted = Weighted { awaiting_operator: Some(waits), ..weighted };
        return Transition::continue_with(deployment.with_weighted(weighted)).observe_again();
    }
    let hooks = hooks::turned_back(weighted.hooks);
    let changes = revoke_and_hold_promotion(&deployment, &cause);
    let weighted = Weighted { hooks, halted: None, awaiting_operator: None, ..weighted };
    let rollback = new_rollback(&deployment, path, cause, now);
    enter(&deployment, weighted, rollback).with_changes_first(changes)
}

fn new_rollback(deployment: &Deployment, path: RollbackPath, cause: Cause, now: Timestamp) -> Rollback {
    let deadline = deployment.policy.deadlines.rollback.after(now);
    Rollback { path, cause, step: RollbackStep::start(), deadline, stable_unfit: false }
}

fn enter(deployment: &Deployment, weighted: Weighted, rollback: Rollback) -> Transition {
    let detail = format!("to {}", rollback.path.stable());
    let started = Fact::RollbackStarted { cause: rollback.cause.clone() };
    let weighted = Weighted { at: WeightedStage::RollingBack(rollback), ..weighted };
    Transition::enter(deployment.with_weighted(weighted), detail).fact(started).observe_again()
}

/// Returns all traffic to the recorded stable side before anything else is done.
pub(super) fn repair(deployment: &Deployment, stable_at_start: StableAtStart, context: &Context<'_>) -> Transition {
    let path = RollbackPath::of_repair(&stable_at_start);
    let cause = Cause::Asked { actor: deployment.actor.clone(), reason: deployment.reason.clone() };
    let rollback = new_rollback(deployment, path, cause, context.now);
    let at = WeightedStage::RollingBack(rollback.clone());
    let weighted = Weighted::new(stable_at_start, at, context.seen_at);
    enter(deployment, Weighted { traffic_moved: true, ..weighted }, rollback)
}

/// A deployment that rolls back, and its observation.
struct ObservedRollback<'a> {
    context: &'a Context<'a>,
    deployment: &'a Deployment,
    snapshot: &'a Snapshot,
}

/// One step of a rollback.
pub(super) fn step(
    context: &Context<'_>,
    deployment: &Deployment,
    snapshot: &Snapshot,
    weighted: Weighted,
    rollback: Rollback,
) -> Transition {
    let observed = ObservedRollback { context, deployment, snapshot };
    match rollback.step.clone() {
        RollbackStep::RestoringWeights { .. } => observed.restore_weights(weighted, rollback),
        step => match observed.candidate_traffic(&weighted, &rollback) {
            CandidateTraffic::Absent => observed.after_weights_restored(step, weighted, rollback),
            // The reading may predate the restored weights; nothing is scaled down while that is possible.
            CandidateTraffic::Uncertain { until } => {
                observed.after_weights_restored(step, weighted, rollback).observe_by(until)
            }
            CandidateTraffic::Present => {
                // The rollback deadline starts again: the weights have to be restored once more.
                let deadline = rollback.deadline.max(deployment.policy.deadlines.rollback.after(context.now));
                let rollback = Rollback { step: RollbackStep::start(), deadline, ..rollback };
                Transition::continue_with(observed.at(weighted, rollback)).observe_again()
            }
        },
    }
}

/// Whether a rule sends the candidate traffic again after the weights were restored. A rollback is completed: the
/// weights are restored again, whoever changed them.
enum CandidateTraffic {
    /// Every rule that could be read sends all traffic to the stable side. The others are judged before anything is
    /// scaled down.
    Absent,
    /// A rule was read without all traffic on the stable side, but the reading may predate the restored weights until
    /// then.
    Uncertain { until: Timestamp },
    /// A rule does not send all traffic to the stable side.
    Present,
}

impl ObservedRollback<'_> {
    /// The deployment with this state of the rollback.
    fn at(&self, weighted: Weighted, rollback: Rollback) -> Deployment {
        self.deployment.with_weighted(Weighted { at: WeightedStage::RollingBack(rollback), ..weighted })
    }

    /// The steps after the weights were restored.
    fn after_weights_restored(&self, step: RollbackStep, weighted: Weighted, rollback: Rollback) -> Transition {
        match step {
            RollbackStep::Draining { until } if self.context.now < until => {
                let stopping = hooks::stop(&weighted.hooks, self.snapshot);
                let slot = rollback.path.stable().other();
                let weighted = Weighted { hooks: stopping.hooks, ..weighted };
                let on = WaitingOn::Drain { slot, until };
                Transition::wait(self.at(weighted, rollback), on, DRAIN_POLL, until).effects(stopping.effects)
            }
            RollbackStep::Draining { .. } => {
                let rollback = Rollback { step: RollbackStep::ScalingDownCandidate, ..rollback };
                Transition::continue_with(self.at(weighted, rollback))
            }
            RollbackStep::ScalingDownCandidate | RollbackStep::RestoringWeights { .. } => {
                self.scale_down_candidate(weighted, rollback)
            }
        }
    }

    fn candidate_traffic(&self, weighted: &Weighted, rollback: &Rollback) -> CandidateTraffic {
        let stable = rollback.path.stable();
        let differs =
            |rule: &Reading<RuleReading>| rule.known().is_some_and(|rule| rule.weights.sole_side() != Some(stable));
        if !self.snapshot.rules.iter().any(differs) {
            return CandidateTraffic::Absent;
        }
        let foreign = self.foreign(weighted).is_some();
        match self.stale_until().filter(|_| !foreign) {
            Some(until) => CandidateTraffic::Uncertain { until },
            None => CandidateTraffic::Present,
        }
    }

    /// As [`Deployment::stale_until`].
    fn stale_until(&self) -> Option<Timestamp> {
        self.deployment.stale_until(self.context.seen_at, self.context.now)
    }

    /// Describes the rules whose weights Switchback did not write; `None`: there are none. A reading may be as old as
    /// the last writes, so any weights that this deployment ever set are not foreign.
    fn foreign(&self, weighted: &Weighted) -> Option<String> {
        let settled = self.stale_until().is_none();
        let candidate = weighted.candidate_slot();
        let stable = Weights::share(candidate.other(), Percent::ALL);
        // A repair has written nothing yet, so nothing counts as foreign.
        let record = weighted.weights?;
        let highest =
            [record.before, record.decided].map(|weights| weights.of(candidate)).into_iter().max().unwrap_or(0);
        let policy = &self.deployment.policy;
        let steps = policy.strategy.steps.iter().map(|step| Weights::share(candidate, step.traffic));
        let own: Vec<Weights> = [record.before, record.decided, stable]
            .into_iter()
            .chain(record.may_still_be_live)
            .chain(steps.filter(|weights| !settled && weights.of(candidate) <= highest))
            .collect();
        let left = if record.verified { record.decided } else { record.before };
        let rules = policy.resources.rules().zip(&self.snapshot.rules);
        let found: Vec<String> = rules
            .filter_map(|(arn, rule)| Some((arn, rule.known()?)))
            .filter(|(_, rule)| !own.iter().any(|weights| rule.weights.same_split(*weights)))
            .map(|(arn, rule)| health::describe_rule(arn, rule, left))
            .collect();
        (!found.is_empty()).then(|| found.join("; "))
    }

    /// Weights first: the candidate is not changed before the weights were seen live on the stable side.
    fn restore_weights(&self, mut weighted: Weighted, rollback: Rollback) -> Transition {
        let now = self.context.now;
        let stable = rollback.path.stable();
        let wanted = Weights::share(stable, Percent::ALL);
        let decided = weighted.weights.is_some_and(|record| record.decided == wanted);
        let is_back = self.snapshot.live_side() == Some(stable);
        // Restored if every rule shows the stable side and Switchback's own write is known to have worked; past the
        // deadline, seeing it is enough, whoever wrote it.
        let restored = is_back && ((decided && !self.is_outcome_unknown()) || now >= rollback.deadline);
        weighted.traffic_moved |= health::has_traffic(self.snapshot, stable.other());
        if restored {
            return self.weights_restored(weighted, rollback, wanted, decided);
        }
        let unread = match health::live_weights(self.deployment, &weighted, self.snapshot) {
            LiveWeights::Unknown(reason) => Some(reason),
            LiveWeights::AsDecided | LiveWeights::NotYet => None,
        };
        let fitness = self.fitness(&weighted, &rollback);
        if now >= rollback.deadline && self.should_give_up(&rollback, &fitness) {
            return self.abandon(weighted, &fitness);
        }
        // Past its deadline the rollback continues at its poll interval.
        let deadline = rollback.deadline.max(UNREAD_POLL.after(now));
        match fitness {
            Fitness::Fit => self.write(weighted, Rollback { stable_unfit: false, ..rollback }, wanted, unread),
            Fitness::Unread(reason) => {
                let on = WaitingOn::Reading { reason, deadline };
                Transition::wait(self.at(weighted, rollback), on, UNFIT_POLL, deadline)
            }
            // Traffic is never moved from one unfit side to another. The stable side is scaled up and observed until
            // the deadline.
            Fitness::Unfit(reason) => {
                let new =
                    (!rollback.stable_unfit).then(|| Change::Fact(Fact::RollbackBlocked { reason: reason.clone() }));
                let count = rollback.path.count();
                let low = self.snapshot.side(stable).known().is_some_and(|side| side.desired < count);
                let effect = low.then_some(Effect::SetDesired { slot: stable, desired: count });
                let rollback = Rollback { stable_unfit: true, ..rollback };
                let on = WaitingOn::RollbackBlocked { reason, deadline };
                let transition = Transition::wait(self.at(weighted, rollback), on, UNFIT_POLL, deadline);
                transition.changes(new).effects(effect)
            }
        }
    }

    /// Writes the weights and journals foreign weights that they replace, once for each.
    fn write(
        &self,
        mut weighted: Weighted,
        mut rollback: Rollback,
        wanted: Weights,
        unread: Option<String>,
    ) -> Transition {
        let deadline = rollback.deadline.max(UNREAD_POLL.after(self.context.now));
        let mut changes = Vec::new();
        let cause = rollback.cause.summary();
        if let RollbackStep::RestoringWeights { replaced, .. } = &mut rollback.step
            && let Some(found) = self.foreign(&weighted)
            && replaced.as_ref() != Some(&found)
        {
            *replaced = Some(found.clone());
            changes.push(Change::Fact(Fact::ForeignWeightsReplaced { found, cause }));
        }
        if weighted.weights.is_none_or(|record| record.decided != wanted) {
            // A repair has decided nothing yet: the weights that it finds may be left over from an earlier deployment.
            let traffic = self.context.state.traffic.as_ref();
            let mut found = traffic.into_iter().flat_map(|traffic| traffic.rules.iter().flatten());
            let found = found.find(|weights| !weights.same_split(wanted)).copied().unwrap_or(wanted);
            let before = weighted.weights.map_or(found, |record| record.decided);
            let unverified = weighted.weights.filter(|record| !record.verified);
            let may_still_be_live = unverified.map(|record| record.before);
            weighted.weights = Some(WeightsRecord { before, decided: wanted, verified: false, may_still_be_live });
            changes.push(Change::Fact(Fact::WeightsDecided { weights: wanted }));
        }
        weighted.wrote_weights_blind |= unread.is_some();
        let mut transition = Transition::stay(self.at(weighted, rollback)).changes(changes);
        if let Some(reason) = unread {
            transition = transition.waiting(WaitingOn::Reading { reason, deadline }, UNREAD_POLL, deadline);
        }
        transition.effect(Effect::SetWeights { weights: wanted, seen: Vec::new() }).waiting(
            WaitingOn::Weights { weights: wanted, deadline },
            WEIGHTS_POLL,
            deadline,
        )
    }

    /// The weights were seen live on the stable side.
    fn weights_restored(
        &self,
        mut weighted: Weighted,
        rollback: Rollback,
        wanted: Weights,
        decided: bool,
    ) -> Transition {
        let mut changes = Vec::new();
        if let Some(record) = &mut weighted.weights {
            if !record.verified || !decided {
                changes.push(Change::Fact(Fact::WeightsVerified { weights: wanted }));
            }
            let before = if decided { record.before } else { record.decided };
            *record = WeightsRecord { before, decided: wanted, verified: true, may_still_be_live: None };
        }
        let mut deadline = rollback.deadline;
        let step = if weighted.needs_draining() {
            let until = cleanup::drain(self.deployment, self.snapshot).after(self.context.now);
            // The cleanup that follows has its own time, however long cookies bind clients to the candidate.
            if until >= deadline {
                deadline = self.deployment.policy.deadlines.rollback.after(until);
            }
            RollbackStep::Draining { until }
        } else {
            RollbackStep::ScalingDownCandidate
        };
        Transition::continue_with(self.at(weighted, Rollback { step, deadline, ..rollback })).changes(changes)
    }

    /// Whether a rollback past its deadline is given up. One that can be done is tried at least once, then retried for
    /// [`MAX_RETRY_PERIOD`] (users are on a bad release) unless AWS refuses it permanently.
    fn should_give_up(&self, rollback: &Rollback, fitness: &Fitness) -> bool {
        let tried = matches!(rollback.step, RollbackStep::RestoringWeights { tries, .. } if tries > 0);
        let refused = self.deployment.effect_failure.as_ref().is_some_and(|effect_failure| effect_failure.refused);
        let over = self.context.now >= MAX_RETRY_PERIOD.after(rollback.deadline);
        !matches!(fitness, Fitness::Fit) || (tried && refused) || over
    }

    /// Ends the deployment with the traffic where it is.
    fn abandon(&self, weighted: Weighted, fitness: &Fitness) -> Transition {
        let reason = match fitness {
            Fitness::Unfit(reason) | Fitness::Unread(reason) => format!(": {reason}"),
            Fitness::Fit => {
                let effect_failure = self.deployment.effect_failure.as_ref();
                effect_failure.map(|effect_failure| format!(": {}", effect_failure.reason)).unwrap_or_default()
            }
        };
        let reason = format!("the weights could not be put back within the rollback's deadline{reason}");
        super::abandoning::start(self.deployment, weighted, reason, self.context.now)
    }

    /// Whether the outcome of the last weights write is unknown: its response was lost, or the driver that wrote it
    /// died.
    fn is_outcome_unknown(&self) -> bool {
        let pending = self.deployment.pending.iter().any(|effect| matches!(effect, Effect::SetWeights { .. }));
        let effect_failure = self.deployment.effect_failure.as_ref();
        pending || effect_failure.is_some_and(|effect_failure| effect_failure.effect.kind == EffectKind::SetWeights)
    }

    /// Whether the stable side can serve at all; its capacity is not judged.
    fn fitness(&self, weighted: &Weighted, rollback: &Rollback) -> Fitness {
        let stable = weighted.sides.stable;
        let there = match self.snapshot.side(stable) {
            Reading::Known(there) => there,
            // It was seen unfit, or a repair is bringing it up: unfit until seen healthy.
            Reading::Unknown(reason) if rollback.stable_unfit || self.deployment.purpose == Purpose::Repair => {
                return Fitness::Unread(format!("{stable} could not be read: {reason}"));
            }
            // It was healthy when the deployment started, and the trouble is with the candidate.
            Reading::Unknown(_) => return Fitness::Fit,
        };
        let asleep =
            [stable, stable.other()].map(|slot| self.snapshot.side(slot).known().is_some_and(|side| side.desired == 0));
        if there.targets.healthy > 0 || asleep == [true, true] {
            // With a desired count of 0 on both sides, moving the weights costs no capacity.
            return Fitness::Fit;
        }
        let evidence = |slot: Slot| match self.snapshot.side(slot) {
            Reading::Known(side) => format!(
                "{slot} has {} healthy of {} targets, {} of {} tasks running",
                side.targets.healthy,
                side.targets.registered(),
                side.running,
                side.desired
            ),
            Reading::Unknown(reason) => format!("{slot} could not be read: {reason}"),
        };
        Fitness::Unfit(format!("{}; {}", evidence(stable), evidence(stable.other())))
    }

    /// Scales down the candidate and restores the settings; ends the deployment when both are seen done.
    fn scale_down_candidate(&self, weighted: Weighted, rollback: Rollback) -> Transition {
        let Self { context, deployment, snapshot } = *self;
        let stable = rollback.path.stable();
        let candidate = stable.other();
        let (verdict, cause) = (rollback.cause.verdict(weighted.traffic_moved), rollback.cause.summary());
        let deadline = rollback.deadline;
        let floor = weighted.original_limits.get(&candidate).map_or(0, |limits| limits.min);
        let still_up = snapshot.side(candidate).known().is_none_or(|side| side.desired > floor);
        let is_unfinished = still_up || !weighted.original_limits.is_empty();
        if context.now >= deadline && !(is_unfinished && keeps_trying(context, deployment, deadline)) {
            let what = format!(
                "{candidate} or what was borrowed could not be put back in time; look at {candidate} and at the \
                 autoscaling limits"
            );
            let left = Fact::CleanupIncomplete { what };
            return Transition::end(self.at(weighted, rollback), verdict, cause).fact(left);
        }
        let deadline = deadline.max(UNREAD_POLL.after(context.now));
        let Some(due) = schedules::limits_to_restore(deployment, &weighted, snapshot, context.now) else {
            return Transition::stay(self.at(weighted, rollback)).observe_again();
        };
        let floor = due.limits.get(&candidate).map_or(0, |limits| limits.min);
        let mut pending = PendingCleanup::limits(deployment, snapshot, &due);
        let stopping = hooks::stop(&weighted.hooks, snapshot);
        pending.effects.extend(stopping.effects);
        pending.missing.extend(stopping.running);
        let PendingCleanup { effects, missing } = pending.with_test_rules(&weighted, snapshot);
        let weighted = Weighted { hooks: stopping.hooks, ..weighted };
        let down = cleanup::scale_in(context, deployment, &weighted, snapshot, (candidate, floor), deadline);
        if let Some(ScalingIn { effect, on, poll, until }) = down {
            let waiting = Transition::wait(self.at(weighted, rollback), on, poll, until);
            return waiting.effects(effects).effects(effect);
        }
        if !missing.is_empty() {
            let on = WaitingOn::RestoringSettings { what: missing.join(", "), deadline };
            let waiting = Transition::wait(self.at(weighted, rollback), on, UNREAD_POLL, deadline);
            return waiting.effects(effects);
        }
        if let Some((on, until)) = settling(context, deployment) {
            return Transition::wait(self.at(weighted, rollback), on, UNREAD_POLL, until).effects(effects);
        }
        let changes = limits_restored(due);
        let at = self.at(without_original_limits(weighted), rollback);
        if snapshot.live_side() != Some(stable) {
            let on = WaitingOn::Reading { reason: "the rules could not be read once more".to_owned(), deadline };
            return Transition::wait(at, on, UNREAD_POLL, deadline).changes(changes).effects(effects);
        }
        Transition::end(at, verdict, cause).changes(changes).effects(effects)
    }
}

/// Whether the stable side can serve at all.
enum Fitness {
    /// It has a healthy target, or both sides are at 0 tasks, or it could not be read and was never seen unfit.
    Fit,
    /// It has no healthy target, and not both sides are at 0 tasks.
    Unfit(String),
    /// It cannot be read, and was unfit when last read, or a repair has not seen it healthy yet.
    Unread(String),
}
