//! The forward path, step by step, while both sides are up.

use super::health::{self, Alarms, Fit, Judged, Live, Silence, UNREAD_POLL};
use super::hooks::{self, HookRun, HookWait, Ran};
use super::line::{self, Stopped};
use super::transition::{Change, Context, Transition};
use super::{abandoning, retiring, rollback};
use crate::deployment::{Deployment, Purpose};
use crate::effect::Effect;
use crate::explanation::WaitingOn;
use crate::journal::Fact;
use crate::names::Slot;
use crate::policy::HookPoint;
use crate::snapshot::{Autoscaling, Reading, Snapshot, Weights};
use crate::time::{Percent, Seconds};
use crate::verdict::Cause;
use crate::weighted::{
    Candidate, Forward, ForwardStep, Registering, RollbackPath, Weighted, WeightedStage, WeightsRecord,
};
use jiff::Timestamp;

/// Poll interval for changes that an event announces, in case the event is lost.
const SCALING_POLL: Seconds = Seconds(10);
const WATCH_POLL: Seconds = Seconds(15);
const WARM_POLL: Seconds = Seconds(30);
/// How long the stable side's own alarm may hold a deployment before it ends with traffic unchanged: every wait is bounded.
const STABLE_ALARM_HOLDS: Seconds = Seconds(4 * 3600);
/// How soon to read weights again that were written but not seen yet.
const VERIFY_POLL: Seconds = Seconds(2);

/// A deployment whose stable side is up.
pub(super) struct Ahead<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) deployment: &'a Deployment,
    pub(super) snapshot: &'a Snapshot,
    pub(super) weighted: Weighted,
    pub(super) path: RollbackPath,
}

/// Obtains the candidate's task definition.
pub(super) fn registering(ahead: Ahead<'_>, registering: Registering) -> Transition {
    let Registering { deadline, template, registered } = registering;
    if let Some(task_definition) = registered {
        let candidate = Candidate { task_definition, seen_running: false, healthy_since: None };
        if hooks::at(ahead.deployment, HookPoint::BeforeTraffic).is_empty() {
            return enter_scaling(ahead.context, ahead.deployment, ahead.weighted, candidate);
        }
        let deadline = hooks::deadline(ahead.deployment, HookPoint::BeforeTraffic, ahead.context.now);
        let step = ForwardStep::BeforeTraffic { deadline };
        return enter(ahead.deployment, ahead.weighted, candidate, step, "hooks before traffic");
    }
    if let Some(cause) = ahead.gives_up(deadline, "the task definition was not registered") {
        return ahead.turn_back(cause);
    }
    let effect = Effect::RegisterTaskDefinition {
        template,
        container: ahead.deployment.policy.pair.container.clone(),
        image: ahead.deployment.release.image.clone(),
    };
    let on = WaitingOn::TaskDefinition { deadline };
    Transition::wait(ahead.deployment.with_weighted(ahead.weighted), on, SCALING_POLL, deadline).effect(effect)
}

/// One step of a deployment that has a candidate.
pub(super) fn step(ahead: Ahead<'_>, Forward { candidate, step }: Forward) -> Transition {
    match step {
        ForwardStep::BeforeTraffic { deadline } => ahead.before_traffic(candidate, deadline),
        ForwardStep::Scaling { want, deadline } => ahead.scaling(candidate, want, deadline),
        ForwardStep::Testing { deadline } => ahead.testing(candidate, deadline),
        ForwardStep::Writing { index, deadline } => ahead.writing(candidate, index, deadline),
        ForwardStep::Holding { index, until, deadline } => ahead.holding(candidate, index, (until, deadline)),
        ForwardStep::AfterTraffic { deadline } => ahead.after_traffic(candidate, deadline),
        ForwardStep::Baking { until, deadline } => ahead.baking(candidate, until, deadline),
        ForwardStep::KeepingWarm { until, verify_again } => ahead.keeping_warm(candidate, until, verify_again),
        ForwardStep::Draining { until, deadline, verify_again } => {
            let Ahead { context, deployment, snapshot, weighted, .. } = ahead;
            let times = (until, deadline, verify_again);
            retiring::draining(context, deployment, snapshot, weighted, &candidate, times)
        }
    }
}

fn enter(
    deployment: &Deployment,
    weighted: Weighted,
    candidate: Candidate,
    step: ForwardStep,
    detail: impl Into<String>,
) -> Transition {
    let at = WeightedStage::Forward(Forward { candidate, step });
    Transition::enter(deployment.with_weighted(Weighted { at, ..weighted }), detail)
}

/// Enters the stage that starts the candidate's tasks.
pub(super) fn enter_scaling(
    context: &Context<'_>,
    deployment: &Deployment,
    weighted: Weighted,
    candidate: Candidate,
) -> Transition {
    let want = capacity(deployment, &weighted, deployment.policy.strategy.green_capacity);
    let original_limits = weighted.original_limits.iter().map(|(slot, limits)| {
        Change::Fact(Fact::AutoscalingOverridden { slot: *slot, min: limits.min, max: limits.max })
    });
    let original_limits: Vec<_> = original_limits.collect();
    let deadline = deployment.policy.deadlines.healthy.after(context.now);
    let step = ForwardStep::Scaling { want, deadline };
    enter(deployment, weighted, candidate, step, format!("{want} tasks")).changes(original_limits)
}

/// Tasks the candidate needs to carry `share`: that share of the stable side's tasks, at least the policy's initial count, and
/// never 0.
fn capacity(deployment: &Deployment, weighted: &Weighted, share: Percent) -> u32 {
    // A rollback moves all traffic in one step.
    let share = if deployment.purpose == Purpose::Deploy { share } else { Percent::ALL };
    share.max(deployment.policy.strategy.green_capacity).of(weighted.sides.stable_count).max(1)
}

/// Index of the first traffic step; a rollback moves all traffic at once.
fn first_step(deployment: &Deployment) -> usize {
    match deployment.purpose {
        Purpose::Deploy => 0,
        Purpose::Rollback | Purpose::Repair => deployment.policy.strategy.steps.len().saturating_sub(1),
    }
}

fn share_of(deployment: &Deployment, step: usize) -> Percent {
    deployment.policy.strategy.steps.get(step).map_or(Percent::ALL, |step| step.traffic)
}

/// Autoscaling limits of a side while traffic moves to the candidate; `None`: the side has no scalable target.
fn borrowed_limits(weighted: &Weighted, side: Slot, want: u32) -> Option<Autoscaling> {
    let candidate = weighted.candidate();
    let found = weighted.original_limits.get(&side)?;
    Some(if side == candidate {
        // The idle side may be parked at a maximum of 0 or 1; with traffic, it may grow as far as the live side.
        let live = weighted.original_limits.get(&candidate.other()).map_or(0, |live| live.max);
        let max = found.max.max(live).max(want);
        Autoscaling { min: want, max, scale_in_suspended: true, scheduled_suspended: true }
    } else {
        // Traffic leaves the stable side step by step; without this, autoscaling would scale it in while it is still the rollback
        // target.
        Autoscaling { scale_in_suspended: true, scheduled_suspended: true, ..*found }
    })
}

fn out_of_time(what: &str) -> Cause {
    Cause::Deadline { reason: format!("{what} were not done in time") }
}

impl Ahead<'_> {
    fn judged(&self) -> Judged<'_> {
        Judged { deployment: self.deployment, weighted: &self.weighted, snapshot: self.snapshot }
    }

    fn turn_back(self, cause: Cause) -> Transition {
        rollback::take(self.deployment, self.weighted, self.path, cause, self.context.now)
    }

    fn at(self, candidate: Candidate, step: ForwardStep) -> Deployment {
        let at = WeightedStage::Forward(Forward { candidate, step });
        self.deployment.with_weighted(Weighted { at, ..self.weighted })
    }

    /// The deployment unchanged.
    fn unchanged(self) -> Deployment {
        self.deployment.with_weighted(self.weighted)
    }

    fn stopped(self, Stopped { on, poll, deadline }: Stopped) -> Transition {
        let at = self.weighted.at.clone().held_until(deadline);
        let held = self.deployment.with_weighted(Weighted { at, ..self.weighted });
        Transition::wait(held, on, poll, deadline)
    }

    fn before_traffic(self, candidate: Candidate, deadline: Timestamp) -> Transition {
        let (context, deployment) = (self.context, self.deployment);
        self.after_hooks(&candidate.clone(), HookPoint::BeforeTraffic, deadline, "the hooks before traffic", |ahead| {
            enter_scaling(context, deployment, ahead.weighted, candidate)
        })
    }

    /// Runs the hooks of a point; `then` is called once all have passed.
    fn after_hooks(
        self,
        candidate: &Candidate,
        point: HookPoint,
        deadline: Timestamp,
        what: &str,
        then: impl FnOnce(Self) -> Transition,
    ) -> Transition {
        let Self { context, deployment, snapshot, weighted, path } = self;
        let HookRun { weighted, mut changes, outcome } =
            hooks::run(context, deployment, weighted, candidate, snapshot, point);
        match outcome {
            Ran::Passed => then(Ahead { context, deployment, snapshot, weighted, path }).after(changes),
            Ran::Failed { name, reason } => {
                changes.push(Change::Fact(Fact::HookFailed { hook: name.clone(), reason: reason.clone() }));
                let cause = Cause::Hook { name, reason };
                rollback::take(deployment, weighted, path, cause, context.now).after(changes)
            }
            Ran::Waiting(_) if context.now >= deadline => {
                rollback::take(deployment, weighted, path, out_of_time(what), context.now).after(changes)
            }
            Ran::Waiting(waits) => {
                let HookWait { effect, on, poll, until } = *waits;
                let waiting = Transition::wait(deployment.with_weighted(weighted), on, poll, until);
                waiting.changes(changes).effects(effect)
            }
        }
    }

    fn scaling(self, candidate: Candidate, want: u32, deadline: Timestamp) -> Transition {
        let fit = health::candidate(&self.judged(), &candidate, want, self.context.now);
        let slot = self.weighted.candidate();
        let steady = self.snapshot.side(slot).known().is_some_and(|side| side.steady);
        let (healthy, detail, poll) = match fit {
            Fit::Never { reason } => return self.turn_back(Cause::Tasks { reason }),
            // The suspension of scale-in while traffic moves must be seen in effect first.
            Fit::Yes { healthy } if steady && self.limits_are_held(want) => return self.scaled(candidate, healthy),
            Fit::Yes { healthy } if steady => {
                (healthy, "the autoscaling limits were not seen as asked for yet".to_owned(), UNREAD_POLL)
            }
            Fit::Yes { healthy } => {
                (healthy, "ECS has not called the deployment complete yet".to_owned(), SCALING_POLL)
            }
            Fit::NotYet { healthy, detail } => (healthy, detail, SCALING_POLL),
            Fit::Unknown(reason) => (0, reason, UNREAD_POLL),
        };
        let waited_for = format!("{healthy} of {want} targets were healthy: {detail}");
        if let Some(cause) = self.gives_up(deadline, &waited_for) {
            return self.turn_back(cause);
        }
        let (candidate, effects) = self.raise(candidate, want);
        let on = WaitingOn::Healthy { healthy, want, detail, deadline };
        let scaling = self.at(candidate, ForwardStep::Scaling { want, deadline });
        Transition::wait(scaling, on, poll, deadline).effects(effects)
    }

    /// The candidate is up.
    fn scaled(self, candidate: Candidate, healthy: u32) -> Transition {
        let Self { context, deployment, .. } = self;
        let candidate = Candidate { seen_running: true, healthy_since: Some(context.now), ..candidate };
        let fact = Fact::CandidateHealthy { healthy };
        let has_test = deployment.policy.pair.test_rule.is_some() && deployment.purpose == Purpose::Deploy;
        if has_test || !hooks::at(deployment, HookPoint::TestTraffic).is_empty() {
            let deadline = hooks::deadline(deployment, HookPoint::TestTraffic, context.now);
            let step = ForwardStep::Testing { deadline };
            return enter(deployment, self.weighted, candidate, step, "test rule and hooks").fact(fact);
        }
        let up = self.with_candidate(candidate.clone());
        match line::stopped(context, deployment) {
            Some(stopped) => up.stopped(stopped).fact(fact),
            None => up.enter_step(candidate, first_step(deployment)).fact(fact),
        }
    }

    /// Whether the limits of both sides were seen as required while traffic moves. A scalable target that was deregistered
    /// meanwhile needs none.
    fn limits_are_held(&self, want: u32) -> bool {
        let slot = self.weighted.candidate();
        [slot.other(), slot].into_iter().all(|side| {
            match (borrowed_limits(&self.weighted, side, want), self.snapshot.side(side)) {
                (None, _) => true,
                (Some(_), Reading::Unknown(_)) => false,
                (Some(limits), Reading::Known(seen)) => seen.autoscaling.is_none_or(|now| now == limits),
            }
        })
    }

    /// Effects that bring up the candidate: autoscaling limits that permit its task count, its task definition, its tasks.
    fn raise(&self, candidate: Candidate, want: u32) -> (Candidate, Vec<Effect>) {
        let slot = self.weighted.candidate();
        let mut effects = Vec::new();
        for side in [slot.other(), slot] {
            let Some(limits) = borrowed_limits(&self.weighted, side, want) else { continue };
            let now = self.snapshot.side(side).known().and_then(|reading| reading.autoscaling);
            if now.is_some_and(|now| now != limits) {
                effects.push(Effect::SetAutoscaling { slot: side, limits });
            }
        }
        let Some(side) = self.snapshot.side(slot).known() else { return (candidate, effects) };
        let runs_it = side.task_definition == candidate.task_definition;
        // If the task definition was seen running and no longer is, the side's health decides: a foreign change is not
        // overwritten.
        let taken_away = candidate.seen_running && !runs_it;
        let candidate = Candidate { seen_running: candidate.seen_running || runs_it, ..candidate };
        if !taken_away {
            if !runs_it || (side.stalled && side.desired < want) {
                // Includes the task definition if the ECS circuit breaker gave up on it: a new ECS deployment is needed.
                let task_definition = candidate.task_definition.clone();
                effects.push(Effect::UpdateService { slot, task_definition, desired: want });
            } else if side.desired < want {
                // Changes the count only: ECS keeps running a service's revision that was deregistered meanwhile, but refuses a
                // request that names it.
                effects.push(Effect::SetDesired { slot, desired: want });
            }
        }
        (candidate, effects)
    }

    fn testing(mut self, candidate: Candidate, deadline: Timestamp) -> Transition {
        if self.deployment.policy.pair.test_rule.is_some() {
            let wanted = Weights::share(self.weighted.candidate(), Percent::ALL);
            match &self.snapshot.test_rule {
                Some(Reading::Known(rule)) if rule.weights.same_split(wanted) => {}
                Some(Reading::Known(rule)) => {
                    self.weighted.test_rule_before.get_or_insert(rule.weights);
                    if let Some(cause) = self.gives_up(deadline, "the test rule was not seen on the candidate") {
                        return self.turn_back(cause);
                    }
                    let on = WaitingOn::Weights { weights: wanted, deadline };
                    let waiting = Transition::wait(self.unchanged(), on, VERIFY_POLL, deadline);
                    return waiting.effect(Effect::SetTestRule { weights: wanted });
                }
                Some(Reading::Unknown(reason)) => {
                    let reason = format!("the test rule could not be read: {reason}");
                    return self.unread(reason, deadline);
                }
                None => return self.unread("the test rule was not read".to_owned(), deadline),
            }
        }
        self.after_hooks(&candidate.clone(), HookPoint::TestTraffic, deadline, "the hooks on test traffic", |ahead| {
            match line::stopped(ahead.context, ahead.deployment) {
                Some(stopped) => ahead.stopped(stopped),
                None => {
                    let first = first_step(ahead.deployment);
                    ahead.enter_step(candidate, first)
                }
            }
        })
    }

    // --- moving traffic ---

    fn enter_step(self, candidate: Candidate, index: usize) -> Transition {
        // A side that has to grow first gets the same time as for starting up.
        let deadlines = self.deployment.policy.deadlines;
        let deadline = Seconds(deadlines.shift.0 + deadlines.healthy.0).after(self.context.now);
        let detail = format!("{} of the traffic", share_of(self.deployment, index));
        enter(self.deployment, self.weighted, candidate, ForwardStep::Writing { index, deadline }, detail)
    }

    fn writing(mut self, candidate: Candidate, index: usize, deadline: Timestamp) -> Transition {
        let share = share_of(self.deployment, index);
        let slot = self.weighted.candidate();
        let wanted = Weights::share(slot, share);
        let decided = self.weighted.weights.is_some_and(|record| record.decided == wanted);
        let live = health::live(self.deployment, &self.weighted, self.snapshot);
        if decided && let Live::AsDecided = live {
            return self.verified(candidate, index, wanted);
        }
        if !decided && let Some(stopped) = line::stopped(self.context, self.deployment) {
            // The candidate may have taken minutes to grow for this step, so the stop is checked again.
            return self.stopped(stopped);
        }
        // The stable side may have scaled out since the start; the candidate has to be as large to take over its traffic.
        let grown = self.snapshot.side(slot.other()).known().map_or(0, |side| share.of(side.running));
        let want = capacity(self.deployment, &self.weighted, share).max(grown);
        self = match self.fit_to_widen(&candidate, want, deadline, true) {
            Ok(ahead) => ahead,
            Err(waiting) => return *waiting,
        };
        if let Live::Unknown(reason) = live {
            return self.unread(reason, deadline);
        }
        if let Some(cause) = self.gives_up(deadline, &format!("{share} of the traffic was never seen live")) {
            return self.turn_back(cause);
        }
        let mut changes = Vec::new();
        if !decided {
            let before = self.weighted.weights.map_or(wanted, |record| record.decided);
            self.weighted.weights =
                Some(WeightsRecord { before, decided: wanted, verified: false, may_still_be_live: None });
            self.weighted.traffic_moved = true;
            self.weighted.traffic_since.get_or_insert(self.context.now);
            changes.push(Change::Fact(Fact::WeightsDecided { weights: wanted }));
        }
        let seen = self.snapshot.rules.iter().filter_map(|rule| rule.known()).map(|rule| rule.weights).collect();
        let on = WaitingOn::Weights { weights: wanted, deadline };
        let writing = Transition::wait(self.unchanged(), on, VERIFY_POLL, deadline);
        writing.changes(changes).effect(Effect::SetWeights { weights: wanted, seen })
    }

    /// The weights of a step were seen live.
    fn verified(mut self, candidate: Candidate, index: usize, weights: Weights) -> Transition {
        if let Some(record) = &mut self.weighted.weights {
            record.verified = true;
        }
        let strategy = &self.deployment.policy.strategy;
        let hold = match self.deployment.purpose {
            Purpose::Deploy => strategy.steps.get(index).map_or(Seconds(0), |step| step.hold),
            Purpose::Rollback | Purpose::Repair => Seconds(0),
        };
        let until = hold.after(self.context.now);
        let deadline = self.deployment.policy.deadlines.shift.after(until);
        let holding = ForwardStep::Holding { index, until, deadline };
        let fact = Fact::WeightsVerified { weights };
        Transition::onward(self.at(candidate, holding)).fact(fact)
    }

    fn holding(self, candidate: Candidate, index: usize, (until, deadline): (Timestamp, Timestamp)) -> Transition {
        let share = share_of(self.deployment, index);
        if self.context.now < until {
            let on = WaitingOn::Hold { traffic: share.value(), until };
            return Transition::wait(self.unchanged(), on, WATCH_POLL, until);
        }
        let want = capacity(self.deployment, &self.weighted, share);
        let ahead = match self.fit_to_widen(&candidate, want, deadline, false) {
            Ok(ahead) => ahead,
            Err(waiting) => return *waiting,
        };
        if let Live::Unknown(reason) = health::live(ahead.deployment, &ahead.weighted, ahead.snapshot) {
            return ahead.unread(reason, deadline);
        }
        if index + 1 < ahead.deployment.policy.strategy.steps.len() {
            return match line::stopped(ahead.context, ahead.deployment) {
                Some(stopped) => ahead.stopped(stopped),
                None => ahead.enter_step(candidate, index + 1),
            };
        }
        if hooks::at(ahead.deployment, HookPoint::AfterTraffic).is_empty() {
            return ahead.enter_baking(candidate);
        }
        let deadline = hooks::deadline(ahead.deployment, HookPoint::AfterTraffic, ahead.context.now);
        let step = ForwardStep::AfterTraffic { deadline };
        enter(ahead.deployment, ahead.weighted, candidate, step, "hooks after traffic")
    }

    fn after_traffic(self, candidate: Candidate, deadline: Timestamp) -> Transition {
        // A hook may take long; alarms are checked meanwhile.
        let watched = WATCH_POLL.after(self.context.now);
        let after = self.after_hooks(
            &candidate.clone(),
            HookPoint::AfterTraffic,
            deadline,
            "the hooks after traffic",
            |ahead| ahead.enter_baking(candidate),
        );
        if after.is_waiting() { after.look_by(watched) } else { after }
    }

    fn enter_baking(self, candidate: Candidate) -> Transition {
        let policy = &self.deployment.policy;
        let bake = if self.deployment.purpose == Purpose::Deploy { policy.strategy.bake } else { Seconds(0) };
        let until = bake.after(self.context.now);
        let deadline = policy.deadlines.shift.after(until);
        enter(self.deployment, self.weighted, candidate, ForwardStep::Baking { until, deadline }, bake.to_string())
    }

    fn baking(self, candidate: Candidate, until: Timestamp, deadline: Timestamp) -> Transition {
        if self.context.now < until {
            return Transition::wait(self.unchanged(), WaitingOn::Bake { until }, WATCH_POLL, until);
        }
        let Self { context, deployment, .. } = self;
        let (weighted, path) = (self.weighted.clone(), self.path.clone());
        let want = capacity(deployment, &weighted, Percent::ALL);
        let judged = self.fit_to_widen(&candidate, want, deadline, false).and_then(|ahead| {
            match health::live(deployment, &ahead.weighted, ahead.snapshot) {
                // The rules may have been edited since the last reading: verification requires all traffic to be seen on the
                // candidate.
                Live::Unknown(reason) => Err(Box::new(ahead.unread(reason, deadline))),
                _ => Ok(ahead),
            }
        });
        let ahead = match (judged, deployment.superseded_by.clone()) {
            (Ok(ahead), _) => ahead,
            // The bake time is over and the release is not verified: a superseding release need not wait for the deadline.
            (Err(waiting), Some(by_tag)) if !waiting.is_leaving() => {
                return rollback::take(deployment, weighted, path, Cause::Superseded { by_tag }, context.now);
            }
            (Err(waiting), _) => return *waiting,
        };
        let keep_warm = deployment.policy.strategy.keep_warm;
        let step = ForwardStep::KeepingWarm { until: keep_warm.after(context.now), verify_again: false };
        let verified = Deployment { superseded_by: None, ..deployment.clone() };
        enter(&verified, ahead.weighted, candidate, step, keep_warm.to_string()).change(Change::Verified)
    }

    fn keeping_warm(self, candidate: Candidate, until: Timestamp, verify_again: bool) -> Transition {
        if self.context.now < until && self.context.state.queued.is_empty() {
            return Transition::wait(self.unchanged(), WaitingOn::KeepWarm { until }, WARM_POLL, until);
        }
        let policy = &self.deployment.policy;
        let until = policy.strategy.drain.after(self.context.now);
        let deadline = policy.deadlines.retire.after(until);
        let old = self.weighted.sides.stable.to_string();
        let step = ForwardStep::Draining { until, deadline, verify_again };
        enter(self.deployment, self.weighted, candidate, step, old)
    }

    // --- what several steps ask ---

    /// `Err`: why traffic may not widen now, or that the deployment rolls back. With `grow`, missing tasks are requested.
    fn fit_to_widen(
        self,
        candidate: &Candidate,
        want: u32,
        deadline: Timestamp,
        grow: bool,
    ) -> Result<Self, Box<Transition>> {
        let now = self.context.now;
        match health::candidate(&self.judged(), candidate, want, now) {
            Fit::Yes { .. } => {}
            Fit::Never { reason } => return Err(Box::new(self.turn_back(Cause::Tasks { reason }))),
            Fit::Unknown(reason) => return Err(Box::new(self.unread(reason, deadline))),
            Fit::NotYet { healthy, detail } => {
                let waited_for = format!("{healthy} of {want} targets were healthy: {detail}");
                if let Some(cause) = self.gives_up(deadline, &waited_for) {
                    return Err(Box::new(self.turn_back(cause)));
                }
                let (candidate, effects) =
                    if grow { self.raise(candidate.clone(), want) } else { (candidate.clone(), Vec::new()) };
                let on = WaitingOn::Healthy { healthy, want, detail, deadline };
                let growing = Transition::wait(self.with_candidate(candidate).unchanged(), on, SCALING_POLL, deadline);
                return Err(Box::new(growing.effects(effects)));
            }
        }
        match health::alarms(self.deployment, Some(&self.weighted), self.snapshot, now) {
            // A firing alarm has started a rollback before any step runs.
            Alarms::Clear | Alarms::Firing { .. } => Ok(self),
            Alarms::StableFiring { name, reason } => Err(Box::new(self.held_by_stable_alarm(name, reason))),
            Alarms::Unknown(reason) => Err(Box::new(self.unread(reason, deadline))),
            Alarms::Silent(silence) if now >= deadline => {
                let reason = format!("{silence}: silence is not health");
                Err(Box::new(self.turn_back(Cause::Deadline { reason })))
            }
            Alarms::Silent(Silence { without_data: names, absent, not_evaluated }) => {
                let on = WaitingOn::Alarms { names, absent, not_evaluated, deadline };
                Err(Box::new(Transition::wait(self.unchanged(), on, WATCH_POLL, deadline)))
            }
        }
    }

    /// The same step, with the candidate updated from the observation.
    fn with_candidate(self, candidate: Candidate) -> Self {
        let at = match self.weighted.at.clone() {
            WeightedStage::Forward(forward) => WeightedStage::Forward(Forward { candidate, ..forward }),
            at => at,
        };
        Self { weighted: Weighted { at, ..self.weighted }, ..self }
    }

    /// The alarm is not about the candidate, and rolling back would send all traffic to the side that it is about: an operator
    /// decides.
    fn held_by_stable_alarm(self, name: String, reason: String) -> Transition {
        let now = self.context.now;
        let since = self.weighted.stable_alarm.as_ref().map_or(now, |alarm| alarm.since);
        let over = STABLE_ALARM_HOLDS.after(since);
        if now >= over {
            let what = format!("alarm {name} of the stable side fires, and nobody decided within {STABLE_ALARM_HOLDS}");
            return abandoning::start(self.deployment, self.weighted, what, now);
        }
        let at = self.weighted.at.clone().with_watch_until(self.deployment.policy.deadlines.shift.after(now));
        let held = self.deployment.with_weighted(Weighted { at, ..self.weighted });
        Transition::wait(held, WaitingOn::StableAlarm { name, reason }, WATCH_POLL, over)
    }

    fn unread(self, reason: String, deadline: Timestamp) -> Transition {
        if self.context.now >= deadline {
            return self.turn_back(Cause::Deadline { reason });
        }
        Transition::wait(self.unchanged(), WaitingOn::Reading { reason, deadline }, UNREAD_POLL, deadline)
    }

    /// The reason to stop retrying: AWS refused permanently, or the deadline has passed.
    fn gives_up(&self, deadline: Timestamp, waited_for: &str) -> Option<Cause> {
        let over = self.context.now >= deadline;
        match &self.deployment.effect_failure {
            Some(effect_failure) if effect_failure.refused => {
                Some(Cause::Refused { reason: effect_failure.reason.clone() })
            }
            Some(effect_failure) if over => {
                Some(Cause::Deadline { reason: format!("{waited_for} (last try: {})", effect_failure.reason) })
            }
            _ => over.then(|| Cause::Deadline { reason: waited_for.to_owned() }),
        }
    }
}
