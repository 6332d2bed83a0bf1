//! The forward path, step by step, while both sides are up. A deployment with [`Purpose::Rollback`] takes it, too; the
//! stage `rolling_back` is in [`rollback`].

use super::cleanup::drain;
use super::health::{self, AlarmCheck, HealthInput, LiveWeights, Readiness, UNREAD_POLL, WATCH_POLL};
use super::hooks::{self, HookOutcome, HookRun, HookSubject, HookWait};
use super::stop_the_line::{self, Stopped};
use super::traffic_steps::{capacity, first_traffic_step, limits_during_deployment, share_of_step};
use super::transition::{Change, Context, Transition};
use super::{abandoning, retiring, rollback};
use crate::deployment::{Deployment, Purpose};
use crate::effect::Effect;
use crate::explanation::WaitingOn;
use crate::journal::Fact;
use crate::policy::HookPoint;
use crate::snapshot::{Reading, Snapshot, Weights};
use crate::time::{Percent, Seconds};
use crate::verdict::Cause;
use crate::weighted::{
    Candidate, Forward, ForwardStep, Registering, RollbackPath, Weighted, WeightedStage, WeightsRecord,
};
use jiff::Timestamp;

/// Poll interval while the candidate is registered and started, in case an event that announces progress is lost.
const SCALING_POLL: Seconds = Seconds(10);
/// Poll interval while the old side is kept warm.
const WARM_POLL: Seconds = Seconds(30);
/// How long the stable side's own alarm may hold a deployment, which then ends with traffic unchanged: every wait is
/// bounded.
const MAX_STABLE_ALARM_HOLD: Seconds = Seconds(4 * 3600);
/// How soon to read weights again that were written but not seen yet.
const VERIFY_POLL: Seconds = Seconds(2);

/// A deployment whose stable side is still up, and the inputs of its step.
pub(super) struct ForwardDeployment<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) deployment: &'a Deployment,
    pub(super) snapshot: &'a Snapshot,
    /// Its state; updated by the step.
    pub(super) weighted: Weighted,
    pub(super) path: RollbackPath,
}

/// Obtains the candidate's version.
pub(super) fn registering(current: ForwardDeployment<'_>, registering: Registering) -> Transition {
    let Registering { deadline, template, registered } = registering;
    if let Some(version) = registered {
        let candidate = Candidate { version, seen_running: false, healthy_since: None };
        if hooks::at(current.deployment, HookPoint::BeforeTraffic).is_empty() {
            return enter_scaling(current.context, current.deployment, current.weighted, candidate);
        }
        let deadline = hooks::deadline(current.deployment, HookPoint::BeforeTraffic, current.context.now);
        let step = ForwardStep::BeforeTraffic { deadline };
        return enter(current.deployment, current.weighted, candidate, step, "hooks before traffic");
    }
    if let Some(cause) =
        health::give_up_cause(current.deployment, current.context.now, deadline, "the new version was not registered")
    {
        return current.roll_back(cause);
    }
    let effect = register(current.deployment, template);
    let on = WaitingOn::Version { deadline };
    Transition::wait(current.deployment.with_weighted(current.weighted), on, SCALING_POLL, deadline).effect(effect)
}

/// Registers the new version: a copy of `template` with the release's image. Where the policy names a family of templates,
/// never in that one, not even what a rollback returns to: it would become the newest template.
pub(super) fn register(deployment: &Deployment, template: String) -> Effect {
    let family = deployment.policy.template.family_of_versions();
    Effect::RegisterVersion { template, image: deployment.release.image.clone(), family }
}

/// One step of a deployment that has a candidate.
pub(super) fn step(current: ForwardDeployment<'_>, Forward { candidate, step }: Forward) -> Transition {
    match step {
        ForwardStep::BeforeTraffic { deadline } => current.before_traffic(candidate, deadline),
        ForwardStep::Scaling { want, deadline } => current.scaling(candidate, want, deadline),
        ForwardStep::Testing { deadline } => current.testing(candidate, deadline),
        ForwardStep::Writing { index, deadline } => current.writing(candidate, index, deadline),
        ForwardStep::Holding { index, until, deadline } => current.holding(candidate, index, (until, deadline)),
        ForwardStep::AfterTraffic { deadline } => current.after_traffic(candidate, deadline),
        ForwardStep::Baking { until, deadline } => current.baking(candidate, until, deadline),
        ForwardStep::KeepingWarm { until, verify_again } => current.keeping_warm(candidate, until, verify_again),
        ForwardStep::Draining { until, deadline, verify_again } => {
            let ForwardDeployment { context, deployment, snapshot, weighted, .. } = current;
            let times = (until, deadline, verify_again);
            retiring::draining(context, deployment, snapshot, weighted, &candidate, times)
        }
    }
}

/// Enters a step of the forward path.
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

fn not_done_in_time(what: &str) -> Cause {
    Cause::Deadline { reason: format!("{what} were not done in time") }
}

impl ForwardDeployment<'_> {
    fn health_input(&self) -> HealthInput<'_> {
        HealthInput { deployment: self.deployment, weighted: &self.weighted, snapshot: self.snapshot }
    }

    /// Rolls back for this cause.
    fn roll_back(self, cause: Cause) -> Transition {
        rollback::start(self.deployment, self.weighted, self.path, cause, self.context.now)
    }

    /// The deployment in this step.
    fn at(self, candidate: Candidate, step: ForwardStep) -> Deployment {
        let at = WeightedStage::Forward(Forward { candidate, step });
        self.deployment.with_weighted(Weighted { at, ..self.weighted })
    }

    /// The deployment in its present step, with the state as updated by this step.
    fn with_current_state(self) -> Deployment {
        self.deployment.with_weighted(self.weighted)
    }

    /// Waits because stop-the-line holds the deployment.
    fn hold_for_stop_the_line(self, Stopped { on, poll, deadline }: Stopped) -> Transition {
        let at = self.weighted.at.clone().with_deadline_at_least_if_in(WeightedStage::MAY_BE_STOPPED, deadline);
        let held = self.deployment.with_weighted(Weighted { at, ..self.weighted });
        Transition::wait(held, on, poll, deadline)
    }

    fn before_traffic(self, candidate: Candidate, deadline: Timestamp) -> Transition {
        let (context, deployment) = (self.context, self.deployment);
        let what = "the hooks before traffic";
        self.run_hooks_then(&candidate.clone(), HookPoint::BeforeTraffic, deadline, what, |current| {
            enter_scaling(context, deployment, current.weighted, candidate)
        })
    }

    /// Runs the hooks of a point; `then` is called once all have passed.
    fn run_hooks_then(
        self,
        candidate: &Candidate,
        point: HookPoint,
        deadline: Timestamp,
        what: &str,
        then: impl FnOnce(Self) -> Transition,
    ) -> Transition {
        let Self { context, deployment, snapshot, weighted, path } = self;
        let subject = HookSubject { version: &candidate.version, slot: Some(weighted.candidate_slot()) };
        let before = weighted.hooks.clone();
        let HookRun { hooks, mut changes, outcome } = hooks::run(context, deployment, before, subject, snapshot, point);
        let weighted = Weighted { hooks, ..weighted };
        match outcome {
            HookOutcome::Passed => {
                then(ForwardDeployment { context, deployment, snapshot, weighted, path }).with_changes_first(changes)
            }
            HookOutcome::Failed { name, reason } => {
                changes.push(Change::Fact(Fact::HookFailed { hook: name.clone(), reason: reason.clone() }));
                let cause = Cause::Hook { name, reason };
                rollback::start(deployment, weighted, path, cause, context.now).with_changes_first(changes)
            }
            HookOutcome::Waiting(_) if context.now >= deadline => {
                let cause = not_done_in_time(what);
                rollback::start(deployment, weighted, path, cause, context.now).with_changes_first(changes)
            }
            HookOutcome::Waiting(waits) => {
                let HookWait { effect, on, poll, until } = *waits;
                let waiting = Transition::wait(deployment.with_weighted(weighted), on, poll, until);
                waiting.changes(changes).effects(effect)
            }
        }
    }

    fn scaling(self, candidate: Candidate, want: u32, deadline: Timestamp) -> Transition {
        let readiness = health::candidate_readiness(&self.health_input(), &candidate, want, self.context.now);
        let slot = self.weighted.candidate_slot();
        let steady = self.snapshot.side(slot).known().is_some_and(|side| side.steady);
        let (healthy, detail, poll) = match readiness {
            Readiness::Never { reason } => return self.roll_back(Cause::Tasks { reason }),
            // The suspension of scale-in while traffic moves must be seen in effect first.
            Readiness::Ready { healthy } if steady && self.limits_are_as_required(want) => {
                return self.scaled(candidate, healthy);
            }
            Readiness::Ready { healthy } if steady => {
                (healthy, "the autoscaling limits were not seen as asked for yet".to_owned(), UNREAD_POLL)
            }
            Readiness::Ready { healthy } => {
                (healthy, "ECS has not called the deployment complete yet".to_owned(), SCALING_POLL)
            }
            Readiness::NotYet { healthy, detail } => (healthy, detail, SCALING_POLL),
            Readiness::Unknown(reason) => (0, reason, UNREAD_POLL),
        };
        let waited_for = format!("{healthy} of {want} targets were healthy: {detail}");
        if let Some(cause) = health::give_up_cause(self.deployment, self.context.now, deadline, &waited_for) {
            return self.roll_back(cause);
        }
        let (candidate, effects) = self.scale_up(candidate, want);
        let on = WaitingOn::Healthy { healthy, want, detail, deadline };
        let scaling = self.at(candidate, ForwardStep::Scaling { want, deadline });
        Transition::wait(scaling, on, poll, deadline).effects(effects)
    }

    /// The candidate is up.
    fn scaled(self, candidate: Candidate, healthy: u32) -> Transition {
        let Self { context, deployment, .. } = self;
        // While stop-the-line holds it here, it is seen healthy again and again.
        let fact = candidate.healthy_since.is_none().then_some(Change::Fact(Fact::CandidateHealthy { healthy }));
        let healthy_since = candidate.healthy_since.or(Some(context.now));
        let candidate = Candidate { seen_running: true, healthy_since, ..candidate };
        let has_test =
            deployment.policy.resources.test_rules().next().is_some() && deployment.purpose == Purpose::Deploy;
        if has_test || !hooks::at(deployment, HookPoint::TestTraffic).is_empty() {
            let deadline = hooks::deadline(deployment, HookPoint::TestTraffic, context.now);
            let step = ForwardStep::Testing { deadline };
            return enter(deployment, self.weighted, candidate, step, "test rule and hooks").changes(fact);
        }
        let up = self.with_candidate(candidate.clone());
        match stop_the_line::reason_to_hold(context, deployment) {
            Some(stopped) => up.hold_for_stop_the_line(stopped).changes(fact),
            None => up.enter_traffic_step(candidate, first_traffic_step(deployment)).changes(fact),
        }
    }

    /// Whether the limits of both sides were seen as required while traffic moves. A scalable target that was
    /// deregistered meanwhile has none.
    fn limits_are_as_required(&self, want: u32) -> bool {
        let slot = self.weighted.candidate_slot();
        [slot.other(), slot].into_iter().all(|side| {
            match (limits_during_deployment(&self.weighted, side, want), self.snapshot.side(side)) {
                (None, _) => true,
                (Some(_), Reading::Unknown(_)) => false,
                (Some(limits), Reading::Known(seen)) => seen.autoscaling.is_none_or(|now| now == limits),
            }
        })
    }

    /// Effects that bring up the candidate: autoscaling limits that permit its task count, its version, its
    /// tasks.
    fn scale_up(&self, candidate: Candidate, want: u32) -> (Candidate, Vec<Effect>) {
        let slot = self.weighted.candidate_slot();
        let mut effects = Vec::new();
        for side in [slot.other(), slot] {
            let Some(limits) = limits_during_deployment(&self.weighted, side, want) else { continue };
            let now = self.snapshot.side(side).known().and_then(|reading| reading.autoscaling);
            if now.is_some_and(|now| now != limits) {
                effects.push(Effect::SetAutoscaling { slot: side, limits });
            }
        }
        let Some(side) = self.snapshot.side(slot).known() else { return (candidate, effects) };
        let runs_it = side.version == candidate.version;
        // If the version was seen running and no longer is, the side's health decides: a foreign change is not
        // overwritten.
        let taken_away = candidate.seen_running && !runs_it;
        let candidate = Candidate { seen_running: candidate.seen_running || runs_it, ..candidate };
        if !taken_away {
            if !runs_it || (side.stalled && side.desired < want) {
                // Includes the version if the ECS circuit breaker gave up on it: a new ECS deployment is
                // needed.
                let version = candidate.version.clone();
                // A side that may carry traffic is not scaled in, whoever has given it that.
                let idle = self.snapshot.live_side() == Some(slot.other());
                let desired = if idle { want } else { want.max(side.desired) };
                effects.push(Effect::SetVersion { slot, version, desired });
            } else if side.desired < want {
                // Changes the count only: ECS keeps running a service's revision that was deregistered meanwhile, but
                // refuses a request that names it.
                effects.push(Effect::SetDesired { slot, desired: want });
            }
        }
        (candidate, effects)
    }

    fn testing(mut self, candidate: Candidate, deadline: Timestamp) -> Transition {
        let count = self.deployment.policy.resources.test_rules().count();
        if count > 0 {
            let wanted = Weights::share(self.weighted.candidate_slot(), Percent::ALL);
            let live = match self.snapshot.test_weights() {
                Ok(live) if live.len() == count => live,
                Ok(_) => return self.wait_for_reading("the test rule was not read".to_owned(), deadline),
                Err(reason) => return self.wait_for_reading(reason, deadline),
            };
            if !live.iter().all(|weights| weights.same_split(wanted)) {
                if self.weighted.test_rules_before.is_empty() {
                    self.weighted.test_rules_before = live;
                }
                if let Some(cause) = health::give_up_cause(
                    self.deployment,
                    self.context.now,
                    deadline,
                    "the test rule was not seen on the candidate",
                ) {
                    return self.roll_back(cause);
                }
                let on = WaitingOn::Weights { weights: wanted, deadline };
                let waiting = Transition::wait(self.with_current_state(), on, VERIFY_POLL, deadline);
                return waiting.effect(Effect::SetTestRules { weights: vec![wanted; count] });
            }
        }
        let what = "the hooks on test traffic";
        self.run_hooks_then(&candidate.clone(), HookPoint::TestTraffic, deadline, what, |current| {
            match stop_the_line::reason_to_hold(current.context, current.deployment) {
                Some(stopped) => current.hold_for_stop_the_line(stopped),
                None => {
                    let first = first_traffic_step(current.deployment);
                    current.enter_traffic_step(candidate, first)
                }
            }
        })
    }

    // --- moving traffic ---

    fn enter_traffic_step(self, candidate: Candidate, index: usize) -> Transition {
        // A side that has to grow first gets the same time as for starting up.
        let deadlines = self.deployment.policy.deadlines;
        let deadline = Seconds(deadlines.shift.0 + deadlines.healthy.0).after(self.context.now);
        let detail = format!("{} of the traffic", share_of_step(self.deployment, index));
        enter(self.deployment, self.weighted, candidate, ForwardStep::Writing { index, deadline }, detail)
    }

    fn writing(mut self, candidate: Candidate, index: usize, deadline: Timestamp) -> Transition {
        let share = share_of_step(self.deployment, index);
        let slot = self.weighted.candidate_slot();
        let wanted = Weights::share(slot, share);
        let decided = self.weighted.weights.is_some_and(|record| record.decided == wanted);
        let live = health::live_weights(self.deployment, &self.weighted, self.snapshot);
        if decided && let LiveWeights::AsDecided = live {
            return self.weights_seen_live(candidate, index, wanted);
        }
        if !decided && let Some(stopped) = stop_the_line::reason_to_hold(self.context, self.deployment) {
            // The candidate may have taken minutes to grow for this step, so the stop is checked again.
            return self.hold_for_stop_the_line(stopped);
        }
        // The stable side may have scaled out since the start; the candidate has to be as large to take over its
        // traffic.
        let grown = self.snapshot.side(slot.other()).known().map_or(0, |side| share.of(side.running));
        let want = capacity(self.deployment, &self.weighted, share).max(grown);
        self = match self.ready_to_widen(&candidate, want, deadline, true) {
            Ok(current) => current,
            Err(waiting) => return *waiting,
        };
        if let LiveWeights::Unknown(reason) = live {
            return self.wait_for_reading(reason, deadline);
        }
        if let Some(cause) = health::give_up_cause(
            self.deployment,
            self.context.now,
            deadline,
            &format!("{share} of the traffic was never seen live"),
        ) {
            return self.roll_back(cause);
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
        let writing = Transition::wait(self.with_current_state(), on, VERIFY_POLL, deadline);
        writing.changes(changes).effect(Effect::SetWeights { weights: wanted, seen })
    }

    /// The weights of a step were seen live.
    fn weights_seen_live(mut self, candidate: Candidate, index: usize, weights: Weights) -> Transition {
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
        Transition::continue_with(self.at(candidate, holding)).fact(fact)
    }

    fn holding(self, candidate: Candidate, index: usize, (until, deadline): (Timestamp, Timestamp)) -> Transition {
        let share = share_of_step(self.deployment, index);
        if self.context.now < until {
            let on = WaitingOn::Hold { traffic: share.value(), until };
            return Transition::wait(self.with_current_state(), on, WATCH_POLL, until);
        }
        let want = capacity(self.deployment, &self.weighted, share);
        let current = match self.ready_to_widen(&candidate, want, deadline, false) {
            Ok(current) => current,
            Err(waiting) => return *waiting,
        };
        let live = health::live_weights(current.deployment, &current.weighted, current.snapshot);
        if let LiveWeights::Unknown(reason) = live {
            return current.wait_for_reading(reason, deadline);
        }
        if index + 1 < current.deployment.policy.strategy.steps.len() {
            return match stop_the_line::reason_to_hold(current.context, current.deployment) {
                Some(stopped) => current.hold_for_stop_the_line(stopped),
                None => current.enter_traffic_step(candidate, index + 1),
            };
        }
        if hooks::at(current.deployment, HookPoint::AfterTraffic).is_empty() {
            return current.enter_baking(candidate);
        }
        let deadline = hooks::deadline(current.deployment, HookPoint::AfterTraffic, current.context.now);
        let step = ForwardStep::AfterTraffic { deadline };
        enter(current.deployment, current.weighted, candidate, step, "hooks after traffic")
    }

    fn after_traffic(self, candidate: Candidate, deadline: Timestamp) -> Transition {
        // A hook may take long; alarms are checked meanwhile.
        let watched = WATCH_POLL.after(self.context.now);
        let what = "the hooks after traffic";
        let after = self.run_hooks_then(&candidate.clone(), HookPoint::AfterTraffic, deadline, what, |current| {
            current.enter_baking(candidate)
        });
        if after.is_waiting() { after.observe_by(watched) } else { after }
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
            return Transition::wait(self.with_current_state(), WaitingOn::Bake { until }, WATCH_POLL, until);
        }
        let Self { context, deployment, .. } = self;
        let (weighted, path) = (self.weighted.clone(), self.path.clone());
        let want = capacity(deployment, &weighted, Percent::ALL);
        let ready = self.ready_to_widen(&candidate, want, deadline, false).and_then(|current| {
            match health::live_weights(deployment, &current.weighted, current.snapshot) {
                // The rules may have been edited since the last reading: verification requires all traffic to be seen
                // on the candidate.
                LiveWeights::Unknown(reason) => Err(Box::new(current.wait_for_reading(reason, deadline))),
                _ => Ok(current),
            }
        });
        let current = match (ready, deployment.superseded_by.clone()) {
            (Ok(current), _) => current,
            // The bake time is over and the release is not verified: a superseding release need not wait for the
            // deadline.
            (Err(waiting), Some(by_tag)) if !waiting.stops_going_forward() => {
                return rollback::start(deployment, weighted, path, Cause::Superseded { by_tag }, context.now);
            }
            (Err(waiting), _) => return *waiting,
        };
        let keep_warm = deployment.policy.strategy.keep_warm;
        let step = ForwardStep::KeepingWarm { until: keep_warm.after(context.now), verify_again: false };
        let verified = Deployment { superseded_by: None, ..deployment.clone() };
        enter(&verified, current.weighted, candidate, step, keep_warm.to_string()).change(Change::Verified)
    }

    fn keeping_warm(self, candidate: Candidate, until: Timestamp, verify_again: bool) -> Transition {
        if self.context.now < until && self.context.state.queued.is_empty() {
            return Transition::wait(self.with_current_state(), WaitingOn::KeepWarm { until }, WARM_POLL, until);
        }
        let policy = &self.deployment.policy;
        let until = drain(self.deployment, self.snapshot).after(self.context.now);
        let deadline = policy.deadlines.retire.after(until);
        let old = self.weighted.sides.stable.to_string();
        let step = ForwardStep::Draining { until, deadline, verify_again };
        enter(self.deployment, self.weighted, candidate, step, old)
    }

    // --- shared by several steps ---

    /// Checks that the candidate may carry more traffic. `Err`: the deployment waits for that, or rolls back. With
    /// `grow`, missing tasks are requested.
    fn ready_to_widen(
        self,
        candidate: &Candidate,
        want: u32,
        deadline: Timestamp,
        grow: bool,
    ) -> Result<Self, Box<Transition>> {
        let now = self.context.now;
        match health::candidate_readiness(&self.health_input(), candidate, want, now) {
            Readiness::Ready { .. } => {}
            Readiness::Never { reason } => return Err(Box::new(self.roll_back(Cause::Tasks { reason }))),
            Readiness::Unknown(reason) => return Err(Box::new(self.wait_for_reading(reason, deadline))),
            Readiness::NotYet { healthy, detail } => {
                let waited_for = format!("{healthy} of {want} targets were healthy: {detail}");
                if let Some(cause) = health::give_up_cause(self.deployment, self.context.now, deadline, &waited_for) {
                    return Err(Box::new(self.roll_back(cause)));
                }
                let (candidate, effects) =
                    if grow { self.scale_up(candidate.clone(), want) } else { (candidate.clone(), Vec::new()) };
                let on = WaitingOn::Healthy { healthy, want, detail, deadline };
                let growing = self.with_candidate(candidate).with_current_state();
                let waiting = Transition::wait(growing, on, SCALING_POLL, deadline);
                return Err(Box::new(waiting.effects(effects)));
            }
        }
        let alarms = health::alarms(self.deployment, Some(&self.weighted), self.snapshot, now);
        Err(Box::new(match health::check_alarms(alarms, deadline, now) {
            AlarmCheck::Clear => return Ok(self),
            AlarmCheck::RollBack(cause) => self.roll_back(cause),
            AlarmCheck::HeldByStable { name, reason } => self.held_by_stable_alarm(name, reason),
            AlarmCheck::Wait { on, poll } => Transition::wait(self.with_current_state(), on, poll, deadline),
            AlarmCheck::Unread(reason) => self.wait_for_reading(reason, deadline),
        }))
    }

    /// The same step, with the candidate updated from the observation.
    fn with_candidate(self, candidate: Candidate) -> Self {
        let at = match self.weighted.at.clone() {
            WeightedStage::Forward(forward) => WeightedStage::Forward(Forward { candidate, ..forward }),
            at => at,
        };
        Self { weighted: Weighted { at, ..self.weighted }, ..self }
    }

    /// Waits: the alarm is not about the candidate, and rolling back would send all traffic to the side that it is
    /// about. An operator decides.
    fn held_by_stable_alarm(self, name: String, reason: String) -> Transition {
        let now = self.context.now;
        let since = self.weighted.stable_alarm.as_ref().map_or(now, |alarm| alarm.since);
        let over = MAX_STABLE_ALARM_HOLD.after(since);
        if now >= over {
            let what =
                format!("alarm {name} of the stable side fires, and nobody decided within {MAX_STABLE_ALARM_HOLD}");
            return abandoning::start(self.deployment, self.weighted, what, now);
        }
        let until = self.deployment.policy.deadlines.shift.after(now);
        let at = self.weighted.at.clone().with_deadline_at_least_if_in(WeightedStage::EXTENDED_WHILE_HELD, until);
        let held = self.deployment.with_weighted(Weighted { at, ..self.weighted });
        Transition::wait(held, WaitingOn::StableAlarm { name, reason }, WATCH_POLL, over)
    }

    /// Waits for a reading that failed; rolls back at the deadline.
    fn wait_for_reading(self, reason: String, deadline: Timestamp) -> Transition {
        if self.context.now >= deadline {
            return self.roll_back(Cause::Deadline { reason });
        }
        Transition::wait(self.with_current_state(), WaitingOn::Reading { reason, deadline }, UNREAD_POLL, deadline)
    }
}
