//! Preflight, before anything is changed: which side is stable, and what blocks the start. A repair restores traffic
//! first.

use super::health::{self, rule_is_sound};
use super::preflight::{Blocker, Preflight, alarm_blocker, with_passed, with_template};
use super::superseding::roll_back_if_superseded;
use super::transition::{Change, Context, Transition};
use super::{asleep, first, forward, in_place_start, rollback};
use crate::deployment::{Deployment, Purpose};
use crate::journal::Fact;
use crate::names::Slot;
use crate::phase::Preparing;
use crate::platform::Way;
use crate::snapshot::{Reading, SideReading, Snapshot, Weights};
use crate::target::StableSide;
use crate::time::Percent;
use crate::verdict::Verdict;
use crate::weighted::{Candidate, Registering, StableAtStart, Weighted, WeightedStage, WeightsRecord};
use jiff::Timestamp;
use std::collections::BTreeMap;

pub(super) fn step(
    context: &Context<'_>,
    deployment: &Deployment,
    snapshot: &Snapshot,
    preparing: Preparing,
) -> Transition {
    if let Some(superseded) = roll_back_if_superseded(deployment, context.now) {
        return superseded;
    }
    let preflight = Preflight { context, deployment, snapshot, preparing };
    if let Some(count) = deployment.options.first {
        return first::preflight(&preflight, count);
    }
    match deployment.policy.resources.platform.way() {
        Way::Weighted => of_sides(preflight),
        Way::InPlace => in_place_start::step(&preflight),
    }
}

/// Preflight of a deployment between two sides.
fn of_sides(preflight: Preflight<'_>) -> Transition {
    let Preflight { context, deployment, snapshot, .. } = preflight;
    if preflight.needs_repair() {
        return preflight.repair();
    }
    if deployment.purpose == Purpose::Repair
        && let Some(stable) = snapshot.live_side()
    {
        let reason = format!("all traffic is on {stable} already; nothing was changed");
        return Transition::end(deployment.clone(), Verdict::Succeeded, reason);
    }
    if asleep::is_asleep(context.state, snapshot) {
        return asleep::back_to_gates(context, deployment, &preflight.preparing);
    }
    // An alarm that may fire at the start is not judged until it has been OK, as if a person had accepted it.
    let passed = health::passed_at_start(deployment, snapshot, context.now);
    match blockers(&with_passed(deployment, &passed), snapshot, context.now) {
        Ok((sides, stable)) => preflight.register(sides, stable, passed),
        Err(blocker) => preflight.blocked(blocker),
    }
}

impl Preflight<'_> {
    /// Nothing blocks the start: proceeds to registering the candidate's version, unless stop-the-line holds
    /// the deployment, its image cannot be pulled, or the release is live already. `passed`: alarms that fire and do
    /// not block the start, with CloudWatch's reason.
    fn register(
        self,
        sides: StableAtStart,
        stable_reading: &SideReading,
        passed: BTreeMap<String, String>,
    ) -> Transition {
        let Self { context, deployment, snapshot, .. } = self;
        let chosen = match self.template() {
            Ok(chosen) => chosen,
            Err(blocker) => return self.blocked(blocker),
        };
        let runs_it = stable_reading.image.as_deref() == Some(deployment.release.image.as_str());
        let configures = deployment.options.configuration && !self.is_configured_already(chosen.as_ref());
        let is_live = match &self.preparing.version {
            // A rollback may bring back another configuration of the same image.
            Some(version) => runs_it && stable_reading.version == *version,
            None => runs_it && !configures,
        };
        if let Some(held) = self.held_before_start(is_live) {
            return held;
        }
        let (stable, candidate) = (sides.stable, sides.stable.other());
        let settled = Fact::SidesDetermined { stable, stable_running: sides.stable_count, candidate };
        if is_live {
            // No traffic to move: the ledger learns which side is live, and the deployment's record says so.
            let side = StableSide {
                slot: Some(stable),
                version: stable_reading.version.clone(),
                release: Some(deployment.release.clone()),
                since: context.now,
                forward_only: deployment.options.forward_only,
                train: deployment.options.train.clone(),
                template: self.context.state.stable.as_ref().and_then(|stable| stable.template.clone()),
            };
            let reason = "it was live already; nothing was changed";
            let ended = Transition::end(deployment.clone(), Verdict::Succeeded, reason);
            return ended.fact(settled).change(Change::Stable(Box::new(side)));
        }
        let chosen_version = chosen.as_ref().map(|template| template.version.clone());
        let returns_to = self.preparing.version.clone().or(chosen_version);
        let template = returns_to.unwrap_or_else(|| sides.stable_version.clone());
        let deadline = deployment.policy.deadlines.register.after(context.now);
        let registering = Registering { deadline, template, registered: None };
        let live = Weights::share(stable, Percent::ALL);
        let limits = |slot| Some((slot, snapshot.side(slot).known()?.autoscaling?));
        let weighted = Weighted {
            weights: Some(WeightsRecord { before: live, decided: live, verified: true, may_still_be_live: None }),
            original_limits: [stable, candidate].into_iter().filter_map(limits).collect(),
            ..Weighted::new(sides, WeightedStage::Registering(registering), context.seen_at)
        };
        let begun = with_template(with_passed(deployment, &passed), chosen.clone());
        let passed = passed.into_iter().map(|(alarm, reason)| Change::Fact(Fact::AlarmPassed { alarm, reason }));
        let chosen = chosen.map(|template| Change::Fact(Fact::TemplateChosen { template }));
        let changes: Vec<Change> = [Change::Fact(settled)].into_iter().chain(chosen).chain(passed).collect();
        if let Some(version) = self.preparing.version {
            let there = snapshot.side(candidate).known();
            if there.is_some_and(|side| side.version == version && !side.stalled) {
                let candidate = Candidate { version, seen_running: false, healthy_since: None };
                return forward::enter_scaling(context, &begun, weighted, candidate).with_changes_first(changes);
            }
            // The revision may have been deregistered since, and ECS refuses a request that names such a revision: an
            // equal one is found or registered.
        }
        Transition::enter(begun.with_weighted(weighted), deployment.release.tag.clone()).changes(changes)
    }

    /// Whether traffic must be returned to the recorded stable side first: always for a repair; for a rollback, if the
    /// rules send traffic where nothing can serve it.
    fn needs_repair(&self) -> bool {
        let purpose = self.deployment.purpose;
        let stable = self.context.state.stable.as_ref().and_then(|stable| stable.slot);
        let Some(stable) = stable else { return purpose == Purpose::Repair };
        let live = self.snapshot.live_side();
        if live == Some(stable) {
            return false;
        }
        let all_read = self.snapshot.rules.iter().all(|rule| rule.known().is_some());
        let cannot_serve = |slot| self.snapshot.side(slot).known().is_some_and(|side| side.targets.healthy == 0);
        match purpose {
            Purpose::Deploy => false,
            Purpose::Repair => true,
            Purpose::Rollback => all_read && live.is_none_or(cannot_serve),
        }
    }

    /// Part of the traffic goes elsewhere than the recorded stable side: sends all of it back there.
    fn repair(self) -> Transition {
        let stable = self.context.state.stable.clone();
        let Some((slot, stable)) = stable.and_then(|stable| Some((stable.slot?, stable))) else {
            return self.blocked(Blocker::Observed("no stable side is on record".to_owned()));
        };
        let mut deployment = self.deployment.clone();
        if deployment.purpose == Purpose::Rollback {
            deployment.purpose = Purpose::Repair;
            deployment.release = stable.release_or_placeholder(&self.context.state.target);
        }
        let count = match self.snapshot.side(slot) {
            Reading::Known(side) => side.desired.max(side.running).max(1),
            Reading::Unknown(reason) => {
                let blocker = Blocker::Unreadable(format!("{slot} could not be read: {reason}"));
                return Preflight { deployment: &deployment, ..self }.blocked(blocker);
            }
        };
        let stable_version = stable.version;
        let sides = StableAtStart { stable: slot, stable_version, stable_count: count };
        rollback::repair(&deployment, sides, self.context)
    }
}

/// The sides and the stable side's reading, if nothing blocks the start.
fn blockers<'a>(
    deployment: &Deployment,
    snapshot: &'a Snapshot,
    now: Timestamp,
) -> Result<(StableAtStart, &'a SideReading), Blocker> {
    for (arn, rule) in deployment.policy.resources.rules().zip(&snapshot.rules) {
        let arn = health::short_rule(arn);
        match rule {
            Reading::Unknown(reason) => return Err(Blocker::Unreadable(format!("{arn} could not be read: {reason}"))),
            Reading::Known(rule) if !rule_is_sound(rule) => {
                return Err(Blocker::Observed(format!(
                    "{arn} does not forward to exactly the two sides: it has blue {} / green {}{}",
                    rule.weights.blue,
                    rule.weights.green,
                    health::foreign_groups(rule)
                )));
            }
            Reading::Known(rule) if rule.weights.sole_side().is_none() => {
                return Err(Blocker::NeedsOperator(format!(
                    "{arn} has blue {} / green {}, so no side is the stable one: `switchback rollback` puts all \
                     traffic on the last stable side, or give one side all the weight by hand",
                    rule.weights.blue, rule.weights.green
                )));
            }
            Reading::Known(_) => {}
        }
    }
    let stable = snapshot.live_side().ok_or_else(|| {
        let reason = "the rules do not agree on which side has the traffic: `switchback rollback` puts all of it on \
                      the last stable side";
        Blocker::NeedsOperator(reason.to_owned())
    })?;
    let read = |slot: Slot| match snapshot.side(slot) {
        Reading::Known(side) => Ok(side),
        Reading::Unknown(reason) => Err(Blocker::Unreadable(format!("{slot} could not be read: {reason}"))),
    };
    let side = read(stable)?;
    read(stable.other())?;
    if side.targets.healthy == 0 {
        let runs = |slot| snapshot.side(slot).known().is_some_and(|side| side.desired + side.running > 0);
        if !runs(stable) && !runs(stable.other()) {
            let reason = "nothing runs here yet: `switchback deploy --first TASKS` starts it";
            return Err(Blocker::Observed(reason.to_owned()));
        }
        let reason = format!(
            "{stable} has all traffic and no healthy target: there would be no way back. `switchback rollback` puts it \
             on the last stable side, if that is another one"
        );
        return Err(Blocker::Observed(reason));
    }
    if let Err(reason) = snapshot.test_weights() {
        return Err(Blocker::Unreadable(reason));
    }
    alarm_blocker(deployment, snapshot, now).map_or(Ok(()), Err)?;
    let sides = StableAtStart {
        stable,
        stable_version: side.version.clone(),
        stable_count: side.running.max(side.desired).max(1),
    };
    Ok((sides, side))
}
