//! The first deployment to a target that runs nothing. What does not come up is taken down again; what has come up and
//! then fires an alarm stays, since there is nothing to return to.

use super::cleanup::settling;
use super::forward::register;
use super::health::{self, AlarmCheck, Alarms, UNREAD_POLL, WATCH_POLL, give_up_cause};
use super::hooks::{self, HookOutcome, HookRun, HookSubject, HookWait};
use super::in_place_rollback::short_version;
use super::preflight::{Blocker, Preflight, alarm_blocker, with_passed, with_template};
use super::transition::{Change, Context, Transition};
use super::{taking_down, tasks};
use crate::deployment::Deployment;
use crate::effect::Effect;
use crate::explanation::WaitingOn;
use crate::first::{First, FirstStage};
use crate::journal::Fact;
use crate::names::Slot;
use crate::platform::Way;
use crate::policy::HookPoint;
use crate::snapshot::{FailedStart, Reading, RolloutReading, ServiceEvent, Snapshot};
use crate::time::Seconds;
use crate::verdict::{Cause, Verdict};
use crate::weighted::{Candidate, Registering};
use jiff::Timestamp;

/// Poll interval while tasks start or stop.
const POLL: Seconds = Seconds(10);

/// What runs the target: a side or, in place, the workload.
struct Seen<'a> {
    version: &'a str,
    desired: u32,
    running: u32,
    healthy: u32,
    /// Everything that runs is of the version and healthy, and the platform has called it complete.
    complete: bool,
    gave_up: Option<&'a str>,
    failed: u32,
    failed_starts: &'a [FailedStart],
    placement_failure: Option<&'a ServiceEvent>,
}

fn seen(snapshot: &Snapshot, slot: Option<Slot>) -> Result<Seen<'_>, String> {
    match slot {
        Some(slot) => match snapshot.side(slot) {
            Reading::Known(side) => Ok(Seen {
                version: &side.version,
                desired: side.desired,
                running: side.running,
                healthy: side.targets.healthy,
                complete: side.steady && side.targets.healthy >= side.targets.registered(),
                gave_up: side.circuit_breaker_reason.as_deref(),
                failed: side.failed(),
                failed_starts: &side.failed_starts,
                placement_failure: side.placement_failure.as_ref(),
            }),
            Reading::Unknown(reason) => Err(format!("{slot} could not be read: {reason}")),
        },
        None => match &snapshot.workload {
            Reading::Known(workload) => Ok(Seen {
                version: &workload.version,
                desired: workload.desired,
                running: workload.running + workload.others,
                healthy: workload.healthy(),
                complete: workload.is_replaced(),
                gave_up: match &workload.rollout {
                    RolloutReading::Failed { reason } => Some(reason),
                    _ => workload.gave_up.as_deref(),
                },
                failed: workload.failed(),
                failed_starts: &workload.failed_starts,
                placement_failure: workload.placement_failure.as_ref(),
            }),
            Reading::Unknown(reason) => Err(super::replacement::unread(reason)),
        },
    }
}

/// Preflight of a first deployment with `count` tasks: nothing may run, and in a pair one side must have all weight.
pub(super) fn preflight(preflight: &Preflight<'_>, count: u32) -> Transition {
    let Preflight { context, deployment, snapshot, .. } = *preflight;
    if let Some(stable) = &context.state.stable {
        let version = short_version(&stable.version);
        let reason = format!("this is not the first deployment: {version} is on record here. Deploy without `--first`");
        return Transition::end(deployment.clone(), Verdict::Failed, reason);
    }
    let slot = match empty_place(deployment, snapshot) {
        Ok(slot) => slot,
        Err(blocker) => return preflight.blocked(blocker),
    };
    let passed = health::passed_at_start(deployment, snapshot, context.now);
    let begun = with_passed(deployment, &passed);
    if let Some(blocker) = alarm_blocker(&begun, snapshot, context.now) {
        return preflight.blocked(blocker);
    }
    if let Some(held) = preflight.held_before_start(false) {
        return held;
    }
    let chosen = match preflight.template() {
        Ok(chosen) => chosen,
        Err(blocker) => return preflight.blocked(blocker),
    };
    let live = match seen(snapshot, slot) {
        Ok(seen) => seen.version.to_owned(),
        Err(reason) => return preflight.blocked(Blocker::Unreadable(reason)),
    };
    let template = chosen.as_ref().map_or(live, |template| template.version.clone());
    let deadline = deployment.policy.deadlines.register.after(context.now);
    let first = First::new(slot, count, Registering { deadline, template, registered: None });
    let begun = with_template(begun, chosen.clone());
    let chosen = chosen.map(|template| Change::Fact(Fact::TemplateChosen { template }));
    let passed = passed.into_iter().map(|(alarm, reason)| Change::Fact(Fact::AlarmPassed { alarm, reason }));
    let entered = Transition::enter(begun.with_first(first), deployment.release.tag.clone());
    entered.fact(Fact::FirstDeployment { slot, count }).changes(chosen).changes(passed)
}

/// The side that has all weight or, in place, none, if nothing runs.
fn empty_place(deployment: &Deployment, snapshot: &Snapshot) -> Result<Option<Slot>, Blocker> {
    let (places, slot) = match deployment.policy.resources.platform.way() {
        Way::InPlace => (vec![None], None),
        Way::Weighted => {
            let unread = |rule: &Reading<_>| match rule {
                Reading::Unknown(reason) => Some(reason.clone()),
                Reading::Known(_) => None,
            };
            if let Some(reason) = snapshot.rules.iter().find_map(unread) {
                return Err(Blocker::Unreadable(format!("a rule could not be read: {reason}")));
            }
            let slot = snapshot.live_side().ok_or_else(|| {
                let reason = "no side has all weight in every rule: give it to the side that shall be deployed to";
                Blocker::NeedsOperator(reason.to_owned())
            })?;
            (Slot::BOTH.map(Some).to_vec(), Some(slot))
        }
    };
    for place in places {
        let seen = seen(snapshot, place).map_err(Blocker::Unreadable)?;
        if seen.desired > 0 || seen.running > 0 {
            let name = deployment.policy.resources.platform.workload_name(place);
            return Err(Blocker::Observed(format!(
                "{name} runs {} tasks already: a first deployment starts where nothing runs. Deploy without `--first`",
                seen.running.max(seen.desired)
            )));
        }
    }
    Ok(slot)
}

/// A first deployment, and its observation.
struct Current<'a> {
    context: &'a Context<'a>,
    deployment: &'a Deployment,
    snapshot: &'a Snapshot,
    first: First,
}

/// One step of a first deployment.
pub(super) fn step(context: &Context<'_>, deployment: &Deployment, snapshot: &Snapshot, first: First) -> Transition {
    let at = first.at.clone();
    let current = Current { context, deployment, snapshot, first };
    if let FirstStage::TakingDown { cause, deadline } = at {
        return current.taking_down(&cause, deadline);
    }
    if let Some(transition) = current.before_step() {
        return transition;
    }
    match at {
        FirstStage::Registering(registering) => current.registering(registering),
        FirstStage::BeforeTraffic { candidate, deadline } => {
            let hooks = (HookPoint::BeforeTraffic, deadline, "the hooks before traffic");
            current.run_hooks_then(&candidate.clone(), hooks, |current| current.enter_starting(candidate))
        }
        FirstStage::Starting { candidate, deadline } => current.starting(candidate, deadline),
        FirstStage::AfterTraffic { candidate, deadline } => {
            let hooks = (HookPoint::AfterTraffic, deadline, "the hooks after traffic");
            let watched = WATCH_POLL.after(context.now);
            let after = current.run_hooks_then(&candidate.clone(), hooks, |current| current.enter_baking(candidate));
            if after.is_waiting() { after.observe_by(watched) } else { after }
        }
        FirstStage::Baking { candidate, until, deadline } => current.baking(&candidate, until, deadline),
        // Handled above.
        FirstStage::TakingDown { .. } => Transition::stay(deployment.clone()),
    }
}

impl Current<'_> {
    fn take_down(self, cause: Cause) -> Transition {
        taking_down::start(self.deployment, self.first, cause, self.context.now)
    }

    fn present(self) -> Deployment {
        self.deployment.with_first(self.first)
    }

    fn at(self, at: FirstStage) -> Deployment {
        self.deployment.with_first(First { at, ..self.first })
    }

    /// An alarm that fires, or tasks that fail, before anything else is done.
    fn before_step(&self) -> Option<Transition> {
        let Self { context, deployment, snapshot, first } = self;
        if let Some(noted) = health::noticed_alarms(deployment, None, snapshot, context.now)
            && let Some((changes, noticed_alarms)) = health::changed_notices(&first.noticed_alarms, &noted)
        {
            let first = First { noticed_alarms, ..first.clone() };
            return Some(Transition::continue_with(deployment.with_first(first)).changes(changes));
        }
        let is_up = matches!(first.at, FirstStage::AfterTraffic { .. } | FirstStage::Baking { .. });
        if let Alarms::Firing { name, reason } = health::alarms(deployment, None, snapshot, context.now) {
            let cause = Cause::Alarm { name, reason };
            if is_up {
                return Some(left_running(deployment, first, &cause));
            }
            return Some(taking_down::start(deployment, first.clone(), cause, context.now));
        }
        let cause = Cause::Tasks { reason: self.failure().filter(|_| first.started)? };
        if is_up {
            return Some(left_running(deployment, first, &cause));
        }
        Some(taking_down::start(deployment, first.clone(), cause, context.now))
    }

    /// Why the version will not come up.
    fn failure(&self) -> Option<String> {
        let seen = seen(self.snapshot, self.first.slot).ok()?;
        let candidate = self.first.at.candidate()?;
        if seen.version != candidate.version {
            return None;
        }
        let newest = seen.failed_starts.first().map_or("unknown", |newest| newest.reason.as_str());
        let settled = self.deployment.stale_until(self.context.seen_at, self.context.now).is_none();
        let gave_up = seen.gave_up.filter(|_| settled).map(|reason| format!("ECS gave up: {reason}"));
        let stopped = || tasks::failed_to_start(seen.failed, newest);
        let unplaced = || {
            let event = seen.placement_failure.filter(|_| seen.running < self.first.count)?;
            tasks::never_launches(self.deployment, event, self.context.now)
        };
        gave_up.or_else(stopped).or_else(unplaced)
    }

    fn registering(self, Registering { deadline, template, registered }: Registering) -> Transition {
        let deployment = self.deployment;
        if let Some(version) = registered {
            let candidate = Candidate { version, seen_running: false, healthy_since: None };
            if hooks::at(deployment, HookPoint::BeforeTraffic).is_empty() {
                return self.enter_starting(candidate);
            }
            let deadline = hooks::deadline(deployment, HookPoint::BeforeTraffic, self.context.now);
            let at = FirstStage::BeforeTraffic { candidate, deadline };
            return Transition::enter(self.at(at), "hooks before traffic");
        }
        let what = "the version was not registered";
        if let Some(cause) = give_up_cause(deployment, self.context.now, deadline, what) {
            return self.take_down(cause);
        }
        let effect = register(deployment, template);
        Transition::wait(self.present(), WaitingOn::Version { deadline }, POLL, deadline).effect(effect)
    }

    fn enter_starting(mut self, candidate: Candidate) -> Transition {
        let deadline = self.deployment.policy.deadlines.healthy.after(self.context.now);
        self.first.started = true;
        let detail = format!("{} tasks", self.first.count);
        Transition::enter(self.at(FirstStage::Starting { candidate, deadline }), detail)
    }

    fn starting(self, candidate: Candidate, deadline: Timestamp) -> Transition {
        let (slot, count) = (self.first.slot, self.first.count);
        let seen = match seen(self.snapshot, slot) {
            Ok(seen) => seen,
            Err(reason) => return self.wait_for_reading(reason, deadline),
        };
        let runs_it = seen.version == candidate.version;
        if runs_it && seen.complete && seen.running >= count && seen.healthy >= count {
            let healthy = seen.healthy;
            let candidate = Candidate { seen_running: true, healthy_since: Some(self.context.now), ..candidate };
            return self.up(candidate, healthy);
        }
        if !runs_it && seen.desired > 0 {
            // The version and the number of tasks are set at once: somebody else has done this.
            let reason = format!("somebody else has started {} tasks of {}", seen.desired, short_version(seen.version));
            let left = Fact::CleanupIncomplete { what: "what runs is left as it is".to_owned() };
            return Transition::end(self.present(), Verdict::Failed, reason).fact(left);
        }
        let detail = format!("{} of {count} tasks running", seen.running);
        let summary = format!("{} of {count} tasks were healthy: {detail}", seen.healthy);
        if let Some(cause) = give_up_cause(self.deployment, self.context.now, deadline, &summary) {
            return self.take_down(cause);
        }
        let version = candidate.version.clone();
        let is_asked = runs_it && seen.desired >= count;
        let effect = (!is_asked).then_some(Effect::StartFirst { slot, version, count });
        let on = WaitingOn::Healthy { healthy: seen.healthy, want: count, detail, deadline };
        let starting = self.at(FirstStage::Starting { candidate, deadline });
        Transition::wait(starting, on, POLL, deadline).effects(effect)
    }

    /// Everything has come up.
    fn up(self, candidate: Candidate, healthy: u32) -> Transition {
        let fact = Fact::CandidateHealthy { healthy };
        if hooks::at(self.deployment, HookPoint::AfterTraffic).is_empty() {
            return self.enter_baking(candidate).with_changes_first(vec![Change::Fact(fact)]);
        }
        let deadline = hooks::deadline(self.deployment, HookPoint::AfterTraffic, self.context.now);
        let at = FirstStage::AfterTraffic { candidate, deadline };
        Transition::enter(self.at(at), "hooks after traffic").fact(fact)
    }

    fn enter_baking(self, candidate: Candidate) -> Transition {
        let policy = &self.deployment.policy;
        let (bake, shift) = (policy.strategy.bake, policy.deadlines.shift);
        let until = bake.after(self.context.now);
        let deadline = shift.after(until);
        Transition::enter(self.at(FirstStage::Baking { candidate, until, deadline }), bake.to_string())
    }

    fn baking(self, candidate: &Candidate, until: Timestamp, deadline: Timestamp) -> Transition {
        let now = self.context.now;
        if now < until {
            return Transition::wait(self.present(), WaitingOn::Bake { until }, WATCH_POLL, until);
        }
        match seen(self.snapshot, self.first.slot) {
            Err(reason) => return self.wait_for_reading(reason, deadline),
            Ok(seen) if !seen.complete || seen.version != candidate.version => {
                let (healthy, want) = (seen.healthy, self.first.count);
                let detail = format!("{} tasks running", seen.running);
                if now >= deadline {
                    let reason = format!("{healthy} of {want} tasks were healthy: {detail}");
                    return left_running(self.deployment, &self.first, &Cause::Unhealthy { reason });
                }
                let on = WaitingOn::Healthy { healthy, want, detail, deadline };
                return Transition::wait(self.present(), on, POLL, deadline);
            }
            Ok(_) => {}
        }
        let alarms = health::alarms(self.deployment, None, self.snapshot, now);
        // Without traffic yet, an alarm has no data: its silence keeps a first deployment from nothing.
        let alarms = if matches!(alarms, Alarms::Silent(_)) { Alarms::Clear } else { alarms };
        match health::check_alarms(alarms, deadline, now) {
            AlarmCheck::Clear | AlarmCheck::HeldByStable { .. } => {}
            AlarmCheck::RollBack(cause) => return left_running(self.deployment, &self.first, &cause),
            AlarmCheck::Wait { on, poll } => return Transition::wait(self.present(), on, poll, deadline),
            AlarmCheck::Unread(reason) => return self.wait_for_reading(reason, deadline),
        }
        let reason = format!("the first deployment: {} runs", short_version(&candidate.version));
        Transition::end(self.present(), Verdict::Succeeded, reason).change(Change::Verified)
    }

    /// Takes down what was started, until nothing runs.
    fn taking_down(self, cause: &Cause, deadline: Timestamp) -> Transition {
        let now = self.context.now;
        let hooks::Stopping { hooks, effects, running } = hooks::stop(&self.first.hooks, self.snapshot);
        let (slot, started) = (self.first.slot, self.first.started);
        let (verdict, reason) = (cause.verdict(false), cause.summary());
        let first = First { hooks, ..self.first };
        let at = self.deployment.with_first(first);
        let seen = seen(self.snapshot, slot);
        let is_down = !started || seen.as_ref().is_ok_and(|seen| seen.desired == 0 && seen.running == 0);
        if is_down && running.is_empty() {
            if let Some((on, until)) = settling(self.context, self.deployment).filter(|_| started) {
                return Transition::wait(at, on, UNREAD_POLL, until).effects(effects);
            }
            return Transition::end(at, verdict, reason).effects(effects);
        }
        if now >= deadline {
            let what = "its tasks could not be taken down in time".to_owned();
            return Transition::end(at, Verdict::Failed, reason).fact(Fact::CleanupIncomplete { what });
        }
        let down = (!is_down && seen.as_ref().is_ok_and(|seen| seen.desired > 0)).then_some(Effect::StopFirst { slot });
        let left = seen.map_or_else(|reason| reason, |seen| format!("{} tasks to stop", seen.running));
        let what = [left].into_iter().chain(running).collect::<Vec<_>>().join(", ");
        let on = WaitingOn::RestoringSettings { what, deadline };
        Transition::wait(at, on, POLL, deadline).effects(effects).effects(down)
    }

    /// Runs the hooks of a point; `then` is called once all have passed.
    fn run_hooks_then(
        self,
        candidate: &Candidate,
        (point, deadline, what): (HookPoint, Timestamp, &str),
        then: impl FnOnce(Self) -> Transition,
    ) -> Transition {
        let Self { context, deployment, snapshot, first } = self;
        let subject = HookSubject { version: &candidate.version, slot: first.slot };
        let HookRun { hooks, mut changes, outcome } =
            hooks::run(context, deployment, first.hooks.clone(), subject, snapshot, point);
        let current = Current { context, deployment, snapshot, first: First { hooks, ..first } };
        match outcome {
            HookOutcome::Passed => then(current).with_changes_first(changes),
            HookOutcome::Failed { name, reason } => {
                changes.push(Change::Fact(Fact::HookFailed { hook: name.clone(), reason: reason.clone() }));
                current.take_down(Cause::Hook { name, reason }).with_changes_first(changes)
            }
            HookOutcome::Waiting(_) if context.now >= deadline => {
                let cause = Cause::Deadline { reason: format!("{what} were not done in time") };
                current.take_down(cause).with_changes_first(changes)
            }
            HookOutcome::Waiting(waits) => {
                let HookWait { effect, on, poll, until } = *waits;
                Transition::wait(current.present(), on, poll, until).changes(changes).effects(effect)
            }
        }
    }

    /// Waits for a reading that failed; at the deadline, what was started is taken down. What was seen up stays.
    fn wait_for_reading(self, reason: String, deadline: Timestamp) -> Transition {
        if self.context.now >= deadline {
            let cause = Cause::Deadline { reason };
            return match self.first.at {
                FirstStage::Baking { .. } => left_running(self.deployment, &self.first, &cause),
                _ => self.take_down(cause),
            };
        }
        Transition::wait(self.present(), WaitingOn::Reading { reason, deadline }, UNREAD_POLL, deadline)
    }
}

/// It has come up, and serves: there is nothing to return to, so it stays.
fn left_running(deployment: &Deployment, first: &First, cause: &Cause) -> Transition {
    let reason = format!("{}; it stays, since there is nothing to return to", cause.summary());
    let ended = deployment.with_first(first.clone());
    let left = Fact::CleanupIncomplete { what: "what has come up is left running".to_owned() };
    Transition::end(ended, Verdict::Failed, reason).fact(left)
}
