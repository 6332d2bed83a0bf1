//! Reasons to roll back: each is answered within a minute, by the weights or, in place, by the request to set the
//! version before.
//!
//! Two timers. The strict one starts at the first observation that AWS answered and that showed the alarm firing; a
//! call, event or wake that fails after that stops it until the next observation, while a pass killed during a rollback
//! only restarts it (another pass takes over). The other timer starts when the alarm fires in the world, and counts
//! only while there are no faults at all: it finds an alarm that no pass observes.

use super::pair::{PairModel, index};
use super::{BrokenInvariant, ROLLBACK_WITHIN_A_MINUTE_OF_ALARM, TargetModel as _};
use crate::trace::{InjectedFault, PassEvent, call_name};
use crate::world::World;
use rollout::deployment::{Deployment, Purpose};
use rollout::policy::{AlarmEffect, AlarmPolicy};
use rollout::{Slot, Stage, TargetId, Timestamp};

/// Deadline, in seconds, for answering a reason.
const ROLLBACK_WITHIN_S: i64 = 60;
/// A wake lost up to this long before a pass was killed may have been that pass's takeover wake, in seconds.
const TAKEOVER_SENT_WITHIN_S: i64 = 120;
/// A fault up to this long before a reading, in seconds, belongs to the pass that made the reading: the calls of one
/// observation run in parallel, and are answered within this.
const SAME_PASS_FAULT_WITHIN_S: i64 = 5;
/// After this long without a fault no pass is still waiting because of an earlier one, in seconds.
const FAULT_FREE_FOR_S: i64 = 900;

/// How long a reason to roll back has been present.
#[derive(Debug, Default)]
pub(super) struct RollbackTimer {
    /// Since when it has been true of the world.
    active_since: Option<Timestamp>,
    /// Since when a pass has observed it, as far as AWS answered.
    observed_since: Option<Timestamp>,
}

impl RollbackTimer {
    /// There is no reason, or it is answered.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// There is a reason; `observed`: a pass has observed it since the last call. Returns since when it has been
    /// unanswered, if that is too long. `injected`: all faults so far, in order.
    pub(super) fn overdue_since(
        &mut self,
        is_rolling_back: bool,
        observed: bool,
        target: &TargetId,
        injected: &[InjectedFault],
        now: Timestamp,
    ) -> Option<Timestamp> {
        let active_since = *self.active_since.get_or_insert(now);
        if observed {
            self.observed_since.get_or_insert(now);
        }
        if let Some(observed_since) = self.observed_since
            && seconds(observed_since, now) > ROLLBACK_WITHIN_S
        {
            self.observed_since = restart_timer(target, observed_since, is_rolling_back, injected);
        }
        let late = |since: &Timestamp| seconds(*since, now) > ROLLBACK_WITHIN_S;
        let no_recent_faults = || injected.last().is_none_or(|last| seconds(last.at, now) > FAULT_FREE_FOR_S);
        self.observed_since
            .filter(late)
            .or_else(|| Some(active_since).filter(|since| late(since) && no_recent_faults()))
    }
}

/// Names of the alarms for which the deployment rolls back as soon as one fires. A deployment of an older release is
/// not judged by alarms, and one that awaits an operator is left to a person.
pub(super) fn decisive_alarms(running: &Deployment) -> impl Iterator<Item = &String> {
    let alarms_apply = running.purpose == Purpose::Deploy && running.awaiting_operator().is_none();
    let decisive = move |alarm: &&AlarmPolicy| alarms_apply && alarm.firing == AlarmEffect::Back;
    let alarms = running.policy.alarms.iter().filter(decisive).map(|alarm| &alarm.name);
    alarms.filter(move |name| !running.overrides.firing_alarms.contains(*name))
}

/// Conditions under which the running deployment of a pair must roll back.
#[derive(Debug)]
pub(super) struct RollbackTriggers {
    stable: Slot,
    /// Alarms that trigger a rollback, each with the side it watches if it watches a single one.
    alarms: Vec<(String, Option<Slot>)>,
    /// The deployment is already rolling back.
    is_rolling_back: bool,
}

fn seconds(from: Timestamp, to: Timestamp) -> i64 {
    to.duration_since(from).as_secs()
}

/// Whether the fault hit a pass of the target, or a wake on its way to it.
fn affects(injected: &InjectedFault, target: &TargetId) -> bool {
    let is_of_target = |rest: &str| rest.strip_prefix(&target.to_string()).is_some_and(|rest| !rest.starts_with('-'));
    injected.subject.strip_prefix("drive ").is_some_and(is_of_target)
        || injected.subject.strip_prefix("wake of ").is_some_and(is_of_target)
}

fn is_kill_or_pause(injected: &InjectedFault) -> bool {
    injected.what.starts_with("killed") || injected.what.starts_with("stands still")
}

/// Whether a pass was killed before it had scheduled its takeover wake; its own wake is then received again, later.
/// These are the lease call and the reads that run beside the observation; a pass on a non-urgent wake schedules the
/// takeover beside them, too.
fn before_takeover_scheduled(injected: &InjectedFault) -> bool {
    let is_call = |name: &str| injected.subject.strip_suffix(name).is_some_and(|caller| caller.ends_with(": "));
    let unscheduled = injected.what == "killed before it" && is_call(call_name::SEND);
    let before_it = [call_name::ACQUIRE_LEASE, call_name::OBSERVE, call_name::COMMANDS, call_name::BRAKES];
    unscheduled || before_it.into_iter().any(is_call)
}

impl PairModel {
    /// Recomputes the rollback triggers for the running deployment.
    pub(super) fn update_rollback_triggers(&mut self, running: Option<&Deployment>, world: &World) {
        self.rollback_triggers = running.and_then(|running| self.rollback_triggers(running, world));
    }

    fn rollback_triggers(&self, running: &Deployment, world: &World) -> Option<RollbackTriggers> {
        let stable = running.rollback_path()?.stable();
        let is_rolling_back = running.stage() == Stage::RollingBack;
        let alarms = decisive_alarms(running).map(|name| (name.clone(), self.side_seen_by_alarm(name, world)));
        Some(RollbackTriggers { stable, alarms: alarms.collect(), is_rolling_back })
    }

    /// The side that an alarm watches, if it watches a single one.
    pub(super) fn side_seen_by_alarm(&self, alarm: &str, world: &World) -> Option<Slot> {
        let group = world.group_of_alarm(alarm)?;
        Slot::BOTH.into_iter().find(|slot| self.sides[index(*slot)].groups.contains_key(group))
    }

    /// Whether a reason to roll back has been unanswered for too long. `injected`: all faults so far, in order.
    pub(super) fn check_overdue_rollback(
        &mut self,
        pass_events: &[PassEvent],
        world: &World,
        injected: &[InjectedFault],
        now: Timestamp,
    ) -> Option<BrokenInvariant> {
        let Some((reason, stable, is_rolling_back)) = self.reason(world) else {
            self.rollback_timer.reset();
            return None;
        };
        let observed = pass_events.iter().any(|pass_event| self.reason_was_observed(pass_event));
        let since = self.rollback_timer.overdue_since(is_rolling_back, observed, &self.target, injected, now)?;
        let candidate = stable.other();
        let rules: Vec<String> = self.rules.iter().map(|rule| format!("{}/{}", rule.live[0], rule.live[1])).collect();
        Some((
            &ROLLBACK_WITHIN_A_MINUTE_OF_ALARM,
            format!("{reason} since {since}, and {candidate} still has traffic: {}", rules.join(", ")),
        ))
    }

    /// The reason to roll back, the side to roll back to, and whether the deployment is already rolling back; none: no
    /// rollback is needed, or none is possible.
    fn reason(&self, world: &World) -> Option<(String, Slot, bool)> {
        let rollback_triggers = self.rollback_triggers.as_ref()?;
        let (stable, candidate) = (index(rollback_triggers.stable), index(rollback_triggers.stable.other()));
        // A rule edited to forward to other groups as well is left to its editor.
        let has_traffic = self.rules.iter().any(|rule| rule.live[candidate] > 0 && !rule.unexpected_groups);
        if !has_traffic || self.sides[stable].healthy == 0 {
            return None;
        }
        let fires = |(name, _): &&(String, Option<Slot>)| world.alarm_fires(name);
        if rollback_triggers.is_rolling_back {
            return Some((format!("it rolls back to {}", rollback_triggers.stable), rollback_triggers.stable, true));
        }
        let decisive_alarm =
            rollback_triggers.alarms.iter().filter(|(_, side)| *side != Some(rollback_triggers.stable)).find(fires)?;
        Some((format!("{} fires", decisive_alarm.0), rollback_triggers.stable, false))
    }

    /// Whether a pass has observed the reason.
    fn reason_was_observed(&self, pass_event: &PassEvent) -> bool {
        let (Some(rollback_triggers), PassEvent::Observed { subject, firing, .. }) =
            (&self.rollback_triggers, pass_event)
        else {
            return false;
        };
        let decisive_alarm =
            |(name, side): &(String, Option<Slot>)| *side != Some(rollback_triggers.stable) && firing.contains(name);
        self.is_subject(subject)
            && (rollback_triggers.is_rolling_back || rollback_triggers.alarms.iter().any(decisive_alarm))
    }
}

/// Start of the timer, given the faults since `since`: the last kill that only restarts it; none: the timer is stopped.
fn restart_timer(
    target: &TargetId,
    since: Timestamp,
    is_rolling_back: bool,
    injected: &[InjectedFault],
) -> Option<Timestamp> {
    let recent = injected.iter().rev().take_while(|injected| seconds(injected.at, since) <= TAKEOVER_SENT_WITHIN_S);
    let (mut since, mut wake_lost) = (since, false);
    for injected in recent.filter(|injected| injected.what != "slow" && affects(injected, target)) {
        wake_lost |= injected.subject.starts_with("wake of ") && injected.what != "twice";
        // The calls of one observation run in parallel: one that failed a moment before this reading belongs to the
        // same pass.
        if seconds(injected.at, since) > SAME_PASS_FAULT_WITHIN_S {
            continue;
        }
        if !is_kill_or_pause(injected) || !is_rolling_back || before_takeover_scheduled(injected) {
            return None;
        }
        since = since.max(injected.at);
    }
    (!wake_lost).then_some(since)
}
