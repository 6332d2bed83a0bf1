//! Rollback to the stable side: restores its weights first, verifies them live, then scales down the candidate.

use super::giving_back::{self, LONGEST_TRYING, Owed, ScalingIn, keeps_trying, returned, settling, without_loans};
use super::health::{self, Live, UNREAD_POLL};
use super::transition::{Change, Context, Transition};
use super::{hooks, schedules};
use crate::deployment::{Deployment, Purpose};
use crate::effect::{Effect, EffectKind};
use crate::explanation::WaitingOn;
use crate::journal::Fact;
use crate::names::{Actor, Slot};
use crate::phase::{Moving, Phase};
use crate::snapshot::{Reading, RuleReading, Snapshot, Weights};
use crate::time::{Percent, Seconds};
use crate::verdict::Cause;
use crate::weighted::{
    AwaitingOperator, Rollback, RollbackPath, RollbackStep, Sides, Weighted, WeightedStage, WeightsRecord,
};
use jiff::Timestamp;

const WEIGHTS_POLL: Seconds = Seconds(1);
const UNFIT_POLL: Seconds = Seconds(5);
const DRAIN_POLL: Seconds = Seconds(15);
/// How long an operator has to decide about a forward-only deployment in trouble. After that it ends unchanged, and no deployment
/// starts at the target before an operator decides.
pub(super) const OPERATOR_PATIENCE: Seconds = Seconds(24 * 3600);

/// Outcome of a request to roll back.
pub(super) enum RollbackStart {
    /// The rollback started; a forward-only release awaits an operator instead.
    Started(Transition),
    /// Nothing had been changed: the deployment is over.
    NothingToUndo(Transition),
    /// A rollback is already in progress.
    AlreadyGoing,
    /// The stable side is no longer intact.
    NoPath,
}

/// Starts a rollback, whatever the cause.
pub(super) fn start(deployment: &Deployment, cause: Cause, now: Timestamp) -> RollbackStart {
    let weighted = match &deployment.phase {
        Phase::Moving(Moving::Weighted(weighted)) => weighted,
        Phase::Gated(_) | Phase::Preparing(_) => {
            let (verdict, reason) = (cause.verdict(false), cause.summary());
            return RollbackStart::NothingToUndo(Transition::end_unseen(deployment.clone(), verdict, reason));
        }
    };
    if matches!(weighted.at, WeightedStage::RollingBack(_)) {
        return RollbackStart::AlreadyGoing;
    }
    match weighted.rollback_path() {
        Some(path) => RollbackStart::Started(take(deployment, (**weighted).clone(), path, cause, now)),
        None => RollbackStart::NoPath,
    }
}

/// Rolls back along an available path. A forward-only release in trouble awaits an operator instead.
pub(super) fn take(
    deployment: &Deployment,
    weighted: Weighted,
    path: RollbackPath,
    cause: Cause,
    now: Timestamp,
) -> Transition {
    let deployment = deployment.with_weighted(weighted.clone());
    if cause.needs_operator(&deployment) {
        let deadline = OPERATOR_PATIENCE.after(now);
        let waits = AwaitingOperator { cause, since: now, deadline, journalled: false };
        let weighted = Weighted { awaiting_operator: Some(weighted.awaiting_operator.unwrap_or(waits)), ..weighted };
        return Transition::onward(deployment.with_weighted(weighted)).look_again();
    }
    let hooks = weighted.hooks.into_iter().map(|(name, hook)| {
        let at_work = hook.result.is_none();
        (name, if at_work { hook.fail("the deployment turned back".to_owned()) } else { hook })
    });
    let changes = gone_back(&deployment, &cause);
    let weighted = Weighted { hooks: hooks.collect(), halted: None, awaiting_operator: None, ..weighted };
    let rollback = begun(&deployment, path, cause, now);
    enter(&deployment, weighted, rollback).after(changes)
}

fn begun(deployment: &Deployment, path: RollbackPath, cause: Cause, now: Timestamp) -> Rollback {
    let deadline = deployment.policy.deadlines.rollback.after(now);
    Rollback { path, cause, step: RollbackStep::start(), deadline, stable_unfit: false }
}

fn enter(deployment: &Deployment, weighted: Weighted, rollback: Rollback) -> Transition {
    let detail = format!("to {}", rollback.path.stable());
    let started = Fact::RollbackStarted { cause: rollback.cause.clone() };
    let weighted = Weighted { at: WeightedStage::RollingBack(rollback), ..weighted };
    Transition::enter(deployment.with_weighted(weighted), detail).fact(started).look_again()
}

/// Returns all traffic to the recorded stable side before anything else is done.
pub(super) fn repair(deployment: &Deployment, sides: Sides, context: &Context<'_>) -> Transition {
    let path = RollbackPath::of_repair(&sides);
    let cause = Cause::Asked { actor: deployment.actor.clone(), reason: deployment.reason.clone() };
    let rollback = begun(deployment, path, cause, context.now);
    let weighted = Weighted::new(sides, WeightedStage::RollingBack(rollback.clone()), context.seen_at);
    enter(deployment, Weighted { traffic_moved: true, ..weighted }, rollback)
}

/// Withdraws the verification of a rolled-back release and holds automatic promotion from it.
fn gone_back(deployment: &Deployment, cause: &Cause) -> Vec<Change> {
    let superseded = matches!(cause, Cause::Superseded { .. });
    if deployment.purpose != Purpose::Deploy || superseded {
        return Vec::new();
    }
    let mut changes = vec![Change::VerificationRevoked { reason: cause.summary() }];
    if deployment.traffic_moved() && deployment.auto_promotes {
        let actor = match cause {
            Cause::Aborted { actor, .. } | Cause::Asked { actor, .. } => actor.clone(),
            _ => Actor::Switchback,
        };
        let reason = format!("{} went back: {}", deployment.release.tag, cause.summary());
        changes.push(Change::PromotionHeld { actor, reason });
    }
    changes
}

/// A rollback in progress, and its observation.
struct Going<'a> {
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
    let going = Going { context, deployment, snapshot };
    match rollback.step.clone() {
        RollbackStep::RestoringWeights { .. } => going.weights_back(weighted, rollback),
        step => match going.astray(&weighted, &rollback) {
            Astray::No => going.finish(step, weighted, rollback),
            // The reading may predate the restored weights; nothing is scaled down while that is possible.
            Astray::Perhaps { settled } => going.finish(step, weighted, rollback).look_by(settled),
            Astray::Yes => {
                // The rollback deadline starts again: the weights have to be restored once more.
                let deadline = rollback.deadline.max(deployment.policy.deadlines.rollback.after(context.now));
                let rollback = Rollback { step: RollbackStep::start(), deadline, ..rollback };
                Transition::onward(going.at(weighted, rollback)).look_again()
            }
        },
    }
}

/// Whether a rule sends the candidate traffic again after the weights were restored. A rollback is completed: the weights are
/// restored again, whoever changed them.
enum Astray {
    No,
    Perhaps { settled: Timestamp },
    Yes,
}

impl Going<'_> {
    fn at(&self, weighted: Weighted, rollback: Rollback) -> Deployment {
        self.deployment.with_weighted(Weighted { at: WeightedStage::RollingBack(rollback), ..weighted })
    }

    fn finish(&self, step: RollbackStep, weighted: Weighted, rollback: Rollback) -> Transition {
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
                Transition::onward(self.at(weighted, rollback))
            }
            RollbackStep::ScalingDownCandidate | RollbackStep::RestoringWeights { .. } => {
                self.candidate_down(weighted, rollback)
            }
        }
    }

    fn astray(&self, weighted: &Weighted, rollback: &Rollback) -> Astray {
        let stable = rollback.path.stable();
        let astray = |rule: &Reading<RuleReading>| rule.known().is_some_and(|rule| rule.weights.only() != Some(stable));
        if !self.snapshot.rules.iter().any(astray) {
            return Astray::No;
        }
        let foreign = self.foreign(weighted).is_some();
        match self.consistent_at().filter(|_| !foreign) {
            Some(settled) => Astray::Perhaps { settled },
            None => Astray::Yes,
        }
    }

    fn consistent_at(&self) -> Option<Timestamp> {
        self.deployment.consistent_at(self.context.seen_at, self.context.now)
    }

    /// Describes rules whose weights Switchback did not write. A reading may be as old as the last writes, so any weights that
    /// this deployment ever set are not foreign.
    fn foreign(&self, weighted: &Weighted) -> Option<String> {
        let settled = self.consistent_at().is_none();
        let candidate = weighted.candidate();
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
        let rules = policy.pair.rules.iter().zip(&self.snapshot.rules);
        let found: Vec<String> = rules
            .filter_map(|(arn, rule)| Some((arn, rule.known()?)))
            .filter(|(_, rule)| !own.iter().any(|weights| rule.weights.same_split(*weights)))
            .map(|(arn, rule)| health::described(arn, rule, left))
            .collect();
        (!found.is_empty()).then(|| found.join("; "))
    }

    /// Weights first: the candidate is not changed before the weights were seen live on the stable side.
    fn weights_back(&self, mut weighted: Weighted, rollback: Rollback) -> Transition {
        let now = self.context.now;
        let stable = rollback.path.stable();
        let wanted = Weights::share(stable, Percent::ALL);
        let decided = weighted.weights.is_some_and(|record| record.decided == wanted);
        let is_back = self.snapshot.live_side() == Some(stable);
        // A recent write may not be visible in the reading yet: weights count as restored only after a successful write followed
        // by a reading that shows them.
        let live = match health::live(self.deployment, &weighted, self.snapshot) {
            // Compared with the wanted weights, not with the ones decided last.
            _ if is_back && ((decided && !self.is_outcome_unknown()) || now >= rollback.deadline) => Live::AsDecided,
            Live::Unknown(reason) => Live::Unknown(reason),
            _ => Live::NotYet,
        };
        weighted.traffic_moved |= health::has_traffic(self.snapshot, stable.other());
        let unread = match live {
            Live::AsDecided => return self.has_restored_weights(weighted, rollback, wanted, decided),
            Live::Unknown(reason) => Some(reason),
            Live::NotYet => None,
        };
        let fitness = self.fitness(&weighted, &rollback);
        if now >= rollback.deadline && self.gives_up(&rollback, &fitness) {
            return self.give_up(weighted, &fitness);
        }
        // Past its deadline the rollback continues at its poll interval.
        let deadline = rollback.deadline.max(UNREAD_POLL.after(now));
        match fitness {
            Fitness::Fit => self.write(weighted, Rollback { stable_unfit: false, ..rollback }, wanted, unread),
            Fitness::Unread(reason) => {
                let on = WaitingOn::Reading { reason, deadline };
                Transition::wait(self.at(weighted, rollback), on, UNFIT_POLL, deadline)
            }
            // Traffic is never moved from one unfit side to another. The stable side is scaled up and observed until the
            // deadline.
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
    fn has_restored_weights(
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
        let step = if weighted.needs_draining() {
            RollbackStep::Draining { until: self.deployment.policy.strategy.drain.after(self.context.now) }
        } else {
            RollbackStep::ScalingDownCandidate
        };
        Transition::onward(self.at(weighted, Rollback { step, ..rollback })).changes(changes)
    }

    /// Whether a rollback past its deadline gives up. A feasible rollback is tried at least once, then retried (users are on a
    /// bad release) until AWS refuses it permanently.
    fn gives_up(&self, rollback: &Rollback, fitness: &Fitness) -> bool {
        let tried = matches!(rollback.step, RollbackStep::RestoringWeights { tries, .. } if tries > 0);
        let refused = self.deployment.effect_failure.as_ref().is_some_and(|effect_failure| effect_failure.refused);
        let over = self.context.now >= LONGEST_TRYING.after(rollback.deadline);
        !matches!(fitness, Fitness::Fit) || (tried && refused) || over
    }

    fn give_up(&self, weighted: Weighted, fitness: &Fitness) -> Transition {
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

    /// Whether the outcome of the last weights write is unknown: its response was lost, or the driver that wrote it died.
    fn is_outcome_unknown(&self) -> bool {
        let pending = self.deployment.pending.iter().any(|effect| matches!(effect, Effect::SetWeights { .. }));
        let effect_failure = self.deployment.effect_failure.as_ref();
        pending || effect_failure.is_some_and(|effect_failure| effect_failure.effect.kind == EffectKind::SetWeights)
    }

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

    fn candidate_down(&self, weighted: Weighted, rollback: Rollback) -> Transition {
        let Self { context, deployment, snapshot } = *self;
        let stable = rollback.path.stable();
        let candidate = stable.other();
        let (verdict, cause) = (rollback.cause.verdict(weighted.traffic_moved), rollback.cause.summary());
        let deadline = rollback.deadline;
        let floor = weighted.original_limits.get(&candidate).map_or(0, |limits| limits.min);
        let still_up = snapshot.side(candidate).known().is_none_or(|side| side.desired > floor);
        let owes = still_up || !weighted.original_limits.is_empty();
        if context.now >= deadline && !(owes && keeps_trying(context, deployment, deadline)) {
            let what = format!(
                "{candidate} or what was borrowed could not be put back in time; look at {candidate} and at the \
                 autoscaling limits"
            );
            let left = Fact::CleanupIncomplete { what };
            return Transition::end(self.at(weighted, rollback), verdict, cause).fact(left);
        }
        let deadline = deadline.max(UNREAD_POLL.after(context.now));
        let Some(due) = schedules::limits_due(deployment, &weighted, snapshot, context.now) else {
            return Transition::stay(self.at(weighted, rollback)).look_again();
        };
        let floor = due.limits.get(&candidate).map_or(0, |limits| limits.min);
        let mut owed = Owed::limits(deployment, snapshot, &due);
        let stopping = hooks::stop(&weighted.hooks, snapshot);
        owed.effects.extend(stopping.effects);
        owed.missing.extend(stopping.running);
        let Owed { effects, missing } = owed.with_test_rule(&weighted, snapshot);
        let weighted = Weighted { hooks: stopping.hooks, ..weighted };
        let down = giving_back::scale_in(context, deployment, &weighted, snapshot, (candidate, floor), deadline);
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
        let changes = returned(due);
        let at = self.at(without_loans(weighted), rollback);
        if snapshot.live_side() != Some(stable) {
            let on = WaitingOn::Reading { reason: "the rules could not be read once more".to_owned(), deadline };
            return Transition::wait(at, on, UNREAD_POLL, deadline).changes(changes).effects(effects);
        }
        Transition::end(at, verdict, cause).changes(changes).effects(effects)
    }
}

/// Whether the stable side can carry all traffic.
enum Fitness {
    Fit,
    /// The stable side has no healthy target, and the candidate may have some.
    Unfit(String),
    /// The stable side was unfit when last read, and cannot be read now.
    Unread(String),
}
