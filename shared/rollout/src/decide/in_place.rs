//! The forward path of a deployment that replaces one version by the next in place, step by step. A deployment with
//! [`Purpose::Rollback`] takes it, too; the stage `rolling_back` is in [`in_place_rollback`].

use super::cleanup::settling;
use super::forward::register;
use super::health::{self, AlarmCheck, Alarms, UNREAD_POLL, WATCH_POLL, give_up_cause};
use super::hooks::{self, HookOutcome, HookRun, HookSubject, HookWait};
use super::in_place_rollback::short_version;
use super::replacement::{self, Progress, Replacement};
use super::stop_the_line;
use super::superseding::roll_back_if_superseded;
use super::transition::{Change, Context, Transition};
use super::{in_place_rollback, operator};
use crate::deployment::{Deployment, Purpose};
use crate::effect::{Effect, EffectKind};
use crate::explanation::WaitingOn;
use crate::in_place::{Forward, ForwardStep, InPlace, InPlaceStage};
use crate::journal::Fact;
use crate::policy::HookPoint;
use crate::snapshot::Snapshot;
use crate::time::Seconds;
use crate::verdict::{Cause, Verdict};
use crate::weighted::{Candidate, Halt, Registering};
use jiff::Timestamp;

/// Poll interval while the new version is registered and replaces the one before, in case an event that announces
/// progress is lost.
const REPLACING_POLL: Seconds = Seconds(10);
/// Poll interval while halted on a version that was set outside Switchback; a person is working on it.
const HALTED_POLL: Seconds = Seconds(20);

/// One step of a deployment in place.
pub(super) fn step(
    context: &Context<'_>,
    deployment: &Deployment,
    snapshot: &Snapshot,
    in_place: InPlace,
) -> Transition {
    if let Some(waits) = in_place.awaiting_operator.clone() {
        return operator::wait_in_place(context, deployment, snapshot, in_place, waits);
    }
    if let InPlaceStage::RollingBack(rollback) = in_place.at.clone() {
        return in_place_rollback::step(context, deployment, snapshot, in_place, rollback);
    }
    let at = in_place.at.clone();
    let current = Replacing { context, deployment, snapshot, in_place };
    if let Some(transition) = current.before_step() {
        return transition;
    }
    match at {
        InPlaceStage::Registering(registering) => current.registering(registering),
        InPlaceStage::Forward(Forward { candidate, step }) => match step {
            ForwardStep::BeforeTraffic { deadline } => current.before_traffic(candidate, deadline),
            ForwardStep::Replacing { deadline } => current.replacing(candidate, deadline),
            ForwardStep::AfterTraffic { deadline } => current.after_traffic(candidate, deadline),
            ForwardStep::Baking { until, deadline } => current.baking(candidate, until, deadline),
        },
        // Handled above.
        InPlaceStage::RollingBack(_) => Transition::stay(deployment.clone()),
    }
}

/// A deployment on its forward path, and the inputs of its step.
struct Replacing<'a> {
    context: &'a Context<'a>,
    deployment: &'a Deployment,
    snapshot: &'a Snapshot,
    in_place: InPlace,
}

impl Replacing<'_> {
    fn roll_back(self, cause: Cause) -> Transition {
        in_place_rollback::start(self.deployment, self.in_place, cause, self.context.now)
    }

    /// The deployment with its present state.
    fn present(self) -> Deployment {
        self.deployment.with_in_place(self.in_place)
    }

    /// The deployment in this step.
    fn at(self, candidate: Candidate, step: ForwardStep) -> Deployment {
        let at = InPlaceStage::Forward(Forward { candidate, step });
        self.deployment.with_in_place(InPlace { at, ..self.in_place })
    }

    /// Whether the reading cannot be older than Switchback's last change.
    fn is_settled(&self) -> bool {
        self.deployment.stale_until(self.context.seen_at, self.context.now).is_none()
    }

    fn judge(&self, candidate: &Candidate) -> Replacement {
        let versions = (candidate, self.in_place.before.version.as_str());
        replacement::of_candidate(self.deployment, versions, self.snapshot, self.is_settled(), self.context.now)
    }

    // --- checks before every step ---

    /// The transition that takes precedence over the stage's step, if any. A reason to roll back takes precedence over
    /// a mere hold.
    fn before_step(&self) -> Option<Transition> {
        let (context, deployment, in_place) = (self.context, self.deployment, &self.in_place);
        if let Some(noted) = self.noticed_alarms() {
            return Some(noted);
        }
        let judged = in_place.candidate().filter(|_| in_place.has_replaced()).map(|candidate| self.judge(candidate));
        let cause = match health::alarms(deployment, None, self.snapshot, context.now) {
            Alarms::Firing { name, reason } => Some(Cause::Alarm { name, reason }),
            _ => match &judged {
                Some(Replacement::Never { reason }) => Some(Cause::Tasks { reason: reason.clone() }),
                Some(Replacement::Foreign { found }) if *found == in_place.before.version => {
                    let found = short_version(found);
                    let reason = format!("{found} was set again: the platform's own rollback or somebody else did it");
                    Some(Cause::Tasks { reason })
                }
                _ => None,
            },
        };
        if let Some(cause) = cause {
            return Some(in_place_rollback::start(deployment, in_place.clone(), cause, context.now));
        }
        roll_back_if_superseded(deployment, context.now).or_else(|| self.foreign_version(judged.as_ref()))
    }

    /// Notifies people once when an alarm starts to fire that does not roll the deployment back, and journals when it
    /// stops.
    fn noticed_alarms(&self) -> Option<Transition> {
        let seen = health::noticed_alarms(self.deployment, None, self.snapshot, self.context.now)?;
        let known = &self.in_place.noticed_alarms;
        let (changes, noticed_alarms) = health::changed_notices(known, &seen)?;
        let in_place = InPlace { noticed_alarms, ..self.in_place.clone() };
        Some(Transition::continue_with(self.deployment.with_in_place(in_place)).changes(changes))
    }

    /// A transition if somebody else has set another version, or did and has undone it.
    fn foreign_version(&self, judged: Option<&Replacement>) -> Option<Transition> {
        let (context, deployment, in_place) = (self.context, self.deployment, &self.in_place);
        let workload = self.snapshot.workload.known()?;
        let before_own = !in_place.has_replaced() && workload.version != in_place.before.version;
        if before_own && let Some((on, until)) = settling(context, deployment) {
            return Some(Transition::wait(deployment.clone(), on, UNREAD_POLL, until));
        }
        if before_own {
            // Nothing was changed, and what would be returned to is no longer what runs.
            let found = short_version(&workload.version);
            let reason = format!("somebody else set {found} before anything was changed");
            let stopping = hooks::stop(&hooks::turned_back(in_place.hooks.clone()), self.snapshot);
            return Some(Transition::end(deployment.clone(), Verdict::Failed, reason).effects(stopping.effects));
        }
        let Some(Replacement::Foreign { found }) = judged else {
            in_place.halted.as_ref()?;
            let resumed = InPlace { halted: None, ..in_place.clone() };
            return Some(Transition::continue_with(deployment.with_in_place(resumed)).fact(Fact::Resumed));
        };
        let reason = format!("somebody else set {}", short_version(found));
        let (halt, new) = match &in_place.halted {
            Some(halt) => (Halt { reason: reason.clone(), ..halt.clone() }, None),
            None => {
                let deadline = deployment.policy.deadlines.shift.after(context.now);
                let halt = Halt { reason: reason.clone(), since: context.now, deadline };
                (halt, Some(Change::Fact(Fact::Halted { reason: reason.clone() })))
            }
        };
        let deadline = halt.deadline;
        if context.now >= deadline {
            let left = Fact::CleanupIncomplete { what: "the workload is left as it is".to_owned() };
            let ended = deployment.with_in_place(InPlace { halted: None, ..in_place.clone() });
            return Some(Transition::end(ended, Verdict::Failed, reason).changes(new).fact(left));
        }
        let halted = deployment.with_in_place(InPlace { halted: Some(halt), ..in_place.clone() });
        let on = WaitingOn::ForeignEdit { reason, deadline };
        Some(Transition::wait(halted, on, HALTED_POLL, deadline).changes(new))
    }

    // --- the steps ---

    /// Obtains the new version.
    fn registering(self, registering: Registering) -> Transition {
        let Registering { deadline, template, registered } = registering;
        let deployment = self.deployment;
        if let Some(version) = registered {
            let candidate = Candidate { version, seen_running: false, healthy_since: None };
            if hooks::at(deployment, HookPoint::BeforeTraffic).is_empty() {
                return self.start_replacing(candidate);
            }
            let deadline = hooks::deadline(deployment, HookPoint::BeforeTraffic, self.context.now);
            return Transition::enter(
                self.at(candidate, ForwardStep::BeforeTraffic { deadline }),
                "hooks before traffic",
            );
        }
        let what = "the new version was not registered";
        if let Some(cause) = give_up_cause(deployment, self.context.now, deadline, what) {
            return self.roll_back(cause);
        }
        let effect = register(deployment, template);
        let on = WaitingOn::Version { deadline };
        Transition::wait(self.present(), on, REPLACING_POLL, deadline).effect(effect)
    }

    fn before_traffic(self, candidate: Candidate, deadline: Timestamp) -> Transition {
        let what = "the hooks before traffic";
        self.run_hooks_then(&candidate.clone(), HookPoint::BeforeTraffic, deadline, what, |current| {
            current.start_replacing(candidate)
        })
    }

    /// Sets the new version, unless stop-the-line holds the deployment: nothing of the release has run yet.
    fn start_replacing(mut self, candidate: Candidate) -> Transition {
        if let Some(stopped) = stop_the_line::reason_to_hold(self.context, self.deployment) {
            let deadline = self.in_place.at.deadline_mut();
            *deadline = stopped.deadline.max(*deadline);
            return Transition::wait(self.present(), stopped.on, stopped.poll, stopped.deadline);
        }
        let deadline = self.deployment.policy.deadlines.healthy.after(self.context.now);
        let version = candidate.version.clone();
        let detail = short_version(&version).to_owned();
        self.in_place.set_version = Some(version.clone());
        let started = Fact::ReplacementStarted { version: version.clone() };
        let replacing = self.at(candidate, ForwardStep::Replacing { deadline });
        let entered = Transition::enter_and_wait(replacing, detail).fact(started);
        entered.effect(Effect::ReplaceVersion { version }).observe_again()
    }

    fn replacing(self, candidate: Candidate, deadline: Timestamp) -> Transition {
        let now = self.context.now;
        let progress = match self.judge(&candidate) {
            Replacement::Done { running } => return self.replaced(candidate, running),
            Replacement::Never { reason } => return self.roll_back(Cause::Tasks { reason }),
            Replacement::Unknown(reason) => return self.wait_for_reading(reason, deadline),
            // Checked before the step; until it is settled, it is read again.
            Replacement::Foreign { .. } => return Transition::stay(self.present()).observe_again(),
            Replacement::NotYet(progress) => progress,
        };
        let longer = self.deployment.policy.deadlines.healthy;
        let deadline = replacement::extended(self.deployment, &progress, deadline, longer.after(now));
        if let Some(cause) = give_up_cause(self.deployment, now, deadline, &progress.summary()) {
            return self.roll_back(cause);
        }
        let live = self.snapshot.workload.known().map(|workload| &workload.version);
        let seen_running = candidate.seen_running || live == Some(&candidate.version);
        // Going forward, what somebody else has set is not overwritten, settled or not.
        let foreign = live.is_some_and(|live| *live != candidate.version && *live != self.in_place.before.version);
        let failed = self.deployment.effect_failure.as_ref();
        let again = failed.is_some_and(|failure| failure.effect.kind == EffectKind::ReplaceVersion);
        let version = candidate.version.clone();
        let effect = (!foreign && (!seen_running || again)).then_some(Effect::ReplaceVersion { version });
        let candidate = Candidate { seen_running, ..candidate };
        let Progress { healthy, want, others, protected, detail } = progress;
        let on = WaitingOn::Replacing { healthy, want, others, protected, detail, deadline };
        let waiting = self.at(candidate, ForwardStep::Replacing { deadline });
        Transition::wait(waiting, on, REPLACING_POLL, deadline).effects(effect)
    }

    /// Everything that runs is of the new version and healthy.
    fn replaced(self, candidate: Candidate, running: u32) -> Transition {
        let now = self.context.now;
        let fact = Fact::Replaced { version: candidate.version.clone(), running };
        let candidate = Candidate { seen_running: true, healthy_since: Some(now), ..candidate };
        if hooks::at(self.deployment, HookPoint::AfterTraffic).is_empty() {
            return self.enter_baking(candidate).with_changes_first(vec![Change::Fact(fact)]);
        }
        let deadline = hooks::deadline(self.deployment, HookPoint::AfterTraffic, now);
        let step = ForwardStep::AfterTraffic { deadline };
        Transition::enter(self.at(candidate, step), "hooks after traffic").fact(fact)
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
        Transition::enter(self.at(candidate, ForwardStep::Baking { until, deadline }), bake.to_string())
    }

    fn baking(self, candidate: Candidate, until: Timestamp, deadline: Timestamp) -> Transition {
        let now = self.context.now;
        if now < until {
            return Transition::wait(self.present(), WaitingOn::Bake { until }, WATCH_POLL, until);
        }
        let (deployment, in_place) = (self.deployment, self.in_place.clone());
        match (self.ready(&candidate, deadline), deployment.superseded_by.clone()) {
            (Ok(ended), _) => ended,
            // The bake time is over and the release is not verified: a superseding release need not wait for the
            // deadline.
            (Err(waiting), Some(by_tag)) if !waiting.stops_going_forward() => {
                in_place_rollback::start(deployment, in_place, Cause::Superseded { by_tag }, now)
            }
            (Err(waiting), _) => *waiting,
        }
    }

    /// The bake is over: the release is verified if everything is still up and no alarm stands in the way.
    fn ready(self, candidate: &Candidate, deadline: Timestamp) -> Result<Transition, Box<Transition>> {
        let now = self.context.now;
        let scaled_to_zero =
            self.snapshot.workload.known().is_some_and(|workload| workload.desired == 0 && workload.others == 0);
        match self.judge(candidate) {
            Replacement::Done { .. } => {}
            // It was up, and nothing has to run any more.
            Replacement::NotYet(_) if scaled_to_zero => {}
            Replacement::NotYet(progress) => {
                if let Some(cause) = give_up_cause(self.deployment, now, deadline, &progress.summary()) {
                    return Err(Box::new(self.roll_back(cause)));
                }
                let Progress { healthy, want, others, protected, detail } = progress;
                let on = WaitingOn::Replacing { healthy, want, others, protected, detail, deadline };
                return Err(Box::new(Transition::wait(self.present(), on, REPLACING_POLL, deadline)));
            }
            Replacement::Never { reason } => return Err(Box::new(self.roll_back(Cause::Tasks { reason }))),
            Replacement::Unknown(reason) => return Err(Box::new(self.wait_for_reading(reason, deadline))),
            Replacement::Foreign { .. } => {
                return Err(Box::new(Transition::stay(self.present()).observe_again()));
            }
        }
        let alarms = health::alarms(self.deployment, None, self.snapshot, now);
        match health::check_alarms(alarms, deadline, now) {
            // No alarm watches a stable side where there are no sides.
            AlarmCheck::Clear | AlarmCheck::HeldByStable { .. } => {}
            AlarmCheck::RollBack(cause) => return Err(Box::new(self.roll_back(cause))),
            AlarmCheck::Wait { on, poll } => {
                return Err(Box::new(Transition::wait(self.present(), on, poll, deadline)));
            }
            AlarmCheck::Unread(reason) => return Err(Box::new(self.wait_for_reading(reason, deadline))),
        }
        let reason = match self.deployment.purpose {
            Purpose::Deploy => format!("everything that runs is of {}", short_version(&candidate.version)),
            Purpose::Rollback | Purpose::Repair => {
                format!("everything that runs is of {} again", self.deployment.release.tag)
            }
        };
        let verified = Deployment { superseded_by: None, ..self.present() };
        Ok(Transition::end(verified, Verdict::Succeeded, reason).change(Change::Verified))
    }

    // --- shared by several steps ---

    /// Runs the hooks of a point; `then` is called once all have passed.
    fn run_hooks_then(
        self,
        candidate: &Candidate,
        point: HookPoint,
        deadline: Timestamp,
        what: &str,
        then: impl FnOnce(Self) -> Transition,
    ) -> Transition {
        let Self { context, deployment, snapshot, in_place } = self;
        let subject = HookSubject { version: &candidate.version, slot: None };
        let HookRun { hooks, mut changes, outcome } =
            hooks::run(context, deployment, in_place.hooks.clone(), subject, snapshot, point);
        let current = Replacing { context, deployment, snapshot, in_place: InPlace { hooks, ..in_place } };
        match outcome {
            HookOutcome::Passed => then(current).with_changes_first(changes),
            HookOutcome::Failed { name, reason } => {
                changes.push(Change::Fact(Fact::HookFailed { hook: name.clone(), reason: reason.clone() }));
                current.roll_back(Cause::Hook { name, reason }).with_changes_first(changes)
            }
            HookOutcome::Waiting(_) if context.now >= deadline => {
                let cause = Cause::Deadline { reason: format!("{what} were not done in time") };
                current.roll_back(cause).with_changes_first(changes)
            }
            HookOutcome::Waiting(waits) => {
                let HookWait { effect, on, poll, until } = *waits;
                Transition::wait(current.present(), on, poll, until).changes(changes).effects(effect)
            }
        }
    }

    /// Waits for a reading that failed; rolls back at the deadline.
    fn wait_for_reading(self, reason: String, deadline: Timestamp) -> Transition {
        if self.context.now >= deadline {
            return self.roll_back(Cause::Deadline { reason });
        }
        Transition::wait(self.present(), WaitingOn::Reading { reason, deadline }, UNREAD_POLL, deadline)
    }
}
