//! Checks that run before every step of a deployment with both sides. A reason to roll back (a firing alarm, a failed
//! candidate, a newer release) takes precedence over a mere hold (a rule that was changed outside Switchback).

use super::health::{self, Alarms, HealthInput};
use super::superseding::roll_back_if_superseded;
use super::transition::{Change, Context, Transition};
use super::{abandoning, operator, retiring, rollback};
use crate::deployment::Deployment;
use crate::explanation::WaitingOn;
use crate::journal::Fact;
use crate::snapshot::{Reading, Snapshot};
use crate::time::Seconds;
use crate::verdict::Cause;
use crate::weighted::{Forward, ForwardStep, Halt, Retiring, RollbackPath, StableAlarm, Weighted, WeightedStage};

/// How soon a rule is read again if the last reading may predate the last writes.
const LAG_POLL: Seconds = Seconds(2);
/// Poll interval while halted on a rule changed outside Switchback; a person is working on it.
const HALTED_POLL: Seconds = Seconds(20);

/// The inputs of the checks: a deployment that has both sides, and its observation.
pub(super) struct PreStepChecks<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) deployment: &'a Deployment,
    pub(super) weighted: &'a Weighted,
    pub(super) snapshot: &'a Snapshot,
}

impl PreStepChecks<'_> {
    /// The transition that takes precedence over the stage's step, if any.
    pub(super) fn before_step(&self) -> Option<Transition> {
        if let Some(waits) = &self.weighted.awaiting_operator {
            let Self { context, deployment, snapshot, weighted } = *self;
            return Some(operator::wait(context, deployment, snapshot, weighted.clone(), waits.clone()));
        }
        match &self.weighted.at {
            WeightedStage::Abandoning(_) | WeightedStage::RollingBack(_) => None,
            WeightedStage::Retiring(_) => self.foreign_edit().or_else(|| self.verified_again()),
            WeightedStage::Registering(registering) => {
                self.while_stable_side_is_up(&registering.rollback_path(&self.weighted.sides))
            }
            WeightedStage::Forward(forward) => {
                self.while_stable_side_is_up(&forward.rollback_path(&self.weighted.sides))
            }
        }
    }

    /// Checks while the stable side is still up.
    fn while_stable_side_is_up(&self, path: &RollbackPath) -> Option<Transition> {
        let Self { context, deployment, weighted, snapshot } = *self;
        let seen = health::alarms(deployment, Some(weighted), snapshot, context.now);
        if let Some(noted) = self.stable_alarm(&seen).or_else(|| self.noticed_alarms()) {
            return Some(noted);
        }
        let cause = match seen {
            Alarms::Firing { name, reason } => Some(Cause::Alarm { name, reason }),
            _ => health::candidate_failure(&HealthInput { deployment, weighted, snapshot }),
        };
        if let Some(cause) = cause {
            return Some(rollback::start(deployment, weighted.clone(), path.clone(), cause, context.now));
        }
        let superseded = roll_back_if_superseded(deployment, context.now);
        superseded.or_else(|| self.foreign_edit()).or_else(|| self.verified_again())
    }

    /// Notifies people once when the stable side's own alarm starts to fire, and once when it stops.
    fn stable_alarm(&self, seen: &Alarms) -> Option<Transition> {
        let known = self.weighted.stable_alarm.as_ref();
        let (stable_alarm, fact) = match seen {
            // An alarm of the old side after the bake holds nothing back.
            Alarms::StableFiring { name, reason } if !self.deployment.stage().has_baked() => {
                if known.is_some_and(|known| &known.name == name) {
                    return None;
                }
                let fact = Fact::StableAlarm { alarm: name.clone(), reason: reason.clone() };
                (Some(StableAlarm { name: name.clone(), since: self.context.now }), fact)
            }
            Alarms::Unknown(_) => return None,
            _ => (None, Fact::StableAlarmCleared { alarm: known?.name.clone() }),
        };
        let weighted = Weighted { stable_alarm, ..self.weighted.clone() };
        Some(Transition::continue_with(self.deployment.with_weighted(weighted)).fact(fact))
    }

    /// Notifies people once when an alarm starts to fire that does not roll the deployment back, and journals when it
    /// stops.
    fn noticed_alarms(&self) -> Option<Transition> {
        // After the bake nothing is held.
        if self.deployment.stage().has_baked() {
            return None;
        }
        let Self { context, deployment, weighted, snapshot } = *self;
        let seen = health::noticed_alarms(deployment, Some(weighted), snapshot, context.now)?;
        let (changes, noticed_alarms) = health::changed_notices(&weighted.noticed_alarms, &seen)?;
        let weighted = Weighted { noticed_alarms, ..weighted.clone() };
        Some(Transition::continue_with(deployment.with_weighted(weighted)).changes(changes))
    }

    /// A deployment that a person resumed after its bake counts as verified again as soon as all traffic is seen on it:
    /// the rules may have been edited meanwhile.
    fn verified_again(&self) -> Option<Transition> {
        if self.snapshot.live_side() != Some(self.weighted.candidate_slot()) {
            return None;
        }
        let at = match self.weighted.at.clone() {
            WeightedStage::Forward(Forward { candidate, step }) => {
                let step = match step {
                    ForwardStep::KeepingWarm { until, verify_again: true } => {
                        ForwardStep::KeepingWarm { until, verify_again: false }
                    }
                    ForwardStep::Draining { until, deadline, verify_again: true } => {
                        ForwardStep::Draining { until, deadline, verify_again: false }
                    }
                    _ => return None,
                };
                WeightedStage::Forward(Forward { candidate, step })
            }
            WeightedStage::Retiring(retiring) if retiring.verify_again => {
                WeightedStage::Retiring(Retiring { verify_again: false, ..retiring })
            }
            _ => return None,
        };
        let weighted = Weighted { at, ..self.weighted.clone() };
        Some(Transition::continue_with(self.deployment.with_weighted(weighted)).change(Change::Verified))
    }

    /// A transition if a rule differs from what this deployment wrote, or did and has been restored.
    fn foreign_edit(&self) -> Option<Transition> {
        let Self { context, deployment, weighted, snapshot } = *self;
        let Some(reason) = self.edited_rule() else {
            weighted.halted.as_ref()?;
            let restored = Weighted { halted: None, restored_at: Some(context.now), ..weighted.clone() };
            return Some(Transition::continue_with(deployment.with_weighted(restored)).fact(Fact::Resumed));
        };
        let stale_until = deployment.stale_until(context.seen_at, context.now);
        if let Some(until) = stale_until.filter(|_| weighted.halted.is_none()) {
            // The reading may predate several writes, some of which failed, so this does not count as a foreign edit
            // yet.
            return Some(Transition::wait(deployment.clone(), WaitingOn::Settling { reason, until }, LAG_POLL, until));
        }
        let traffic_moved = weighted.traffic_moved || health::has_traffic(snapshot, weighted.candidate_slot());
        let weighted = Weighted { traffic_moved, ..weighted.clone() };
        if snapshot.live_side() == Some(weighted.sides.stable)
            && let Some(path) = weighted.rollback_path()
        {
            // Someone rolled back manually, on every rule: unambiguous, so the deployment follows.
            return Some(rollback::start(deployment, weighted, path, Cause::ExternalRollback, context.now));
        }
        let (halt, new) = match &weighted.halted {
            Some(halt) => (Halt { reason: reason.clone(), ..halt.clone() }, None),
            None => {
                let deadline = deployment.policy.deadlines.shift.after(context.now);
                let halt = Halt { reason: reason.clone(), since: context.now, deadline };
                (halt, Some(Change::Fact(Fact::Halted { reason: reason.clone() })))
            }
        };
        let deadline = halt.deadline;
        if context.now >= deadline {
            let weighted = Weighted { halted: None, ..weighted };
            let reason = format!("somebody else edited a rule: {reason}");
            let abandoned = abandoning::start(deployment, weighted, reason, context.now);
            return Some(abandoned.with_changes_first(new.into_iter().collect()));
        }
        let effects = retiring::restart_old_side(deployment, &weighted, snapshot);
        let weighted = Weighted { halted: Some(halt), ..weighted };
        let on = WaitingOn::ForeignEdit { reason, deadline };
        let halted = Transition::wait(deployment.with_weighted(weighted), on, HALTED_POLL, deadline);
        Some(halted.changes(new).effects(effects))
    }

    /// Describes the rule that differs from what this deployment wrote; `None` if none does.
    fn edited_rule(&self) -> Option<String> {
        let record = self.weighted.weights?;
        // Its own recent writes may not be visible in the reading yet.
        let stale_until = self.deployment.stale_until(self.context.seen_at, self.context.now);
        let may_lag = !record.verified || stale_until.is_some();
        let mut unread = false;
        for (arn, rule) in self.deployment.policy.resources.rules().zip(&self.snapshot.rules) {
            // An unreadable rule is not a foreign edit; steps that need it wait for it.
            let Reading::Known(rule) = rule else {
                unread = true;
                continue;
            };
            let as_left =
                rule.weights.same_split(record.decided) || (may_lag && rule.weights.same_split(record.before));
            if !health::rule_is_sound(rule) || !as_left {
                let left = if record.verified { record.decided } else { record.before };
                return Some(health::describe_rule(arn, rule, left));
            }
        }
        // While a rule cannot be read, whether it was restored is unknown.
        self.weighted.halted.as_ref().filter(|_| unread).map(|halt| halt.reason.clone())
    }
}
