//! Preflight, before anything is changed: which side is stable, and what blocks the start. A repair restores traffic
//! first.

use super::health::{self, Alarms, rule_is_sound};
use super::superseding::roll_back_if_superseded;
use super::transition::{Change, Context, Transition};
use super::{asleep, forward, rollback, stop_the_line};
use crate::deployment::{Deployment, Purpose};
use crate::explanation::WaitingOn;
use crate::journal::Fact;
use crate::names::Slot;
use crate::phase::{Phase, Preparing};
use crate::promotion::ImageState;
use crate::snapshot::{AlarmReading, Reading, SideReading, Snapshot, Weights};
use crate::target::StableSide;
use crate::time::{Percent, Seconds};
use crate::verdict::Verdict;
use crate::weighted::{Candidate, Registering, StableAtStart, Weighted, WeightedStage, WeightsRecord};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// Poll interval while the start is blocked, in case the event that unblocks it is lost.
const PREFLIGHT_POLL: Seconds = Seconds(15);
/// How long a deployment waits for a person to correct the rules before it can start.
const OPERATOR_TIMEOUT: Seconds = Seconds(12 * 3600);
/// Poll interval meanwhile.
const OPERATOR_POLL: Seconds = Seconds(60);

/// A deployment that has changed nothing yet, and its observation.
struct Preflight<'a> {
    context: &'a Context<'a>,
    deployment: &'a Deployment,
    snapshot: &'a Snapshot,
    preparing: Preparing,
}

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

/// The deployment, which does not judge these alarms until they have been OK.
fn with_passed(deployment: &Deployment, passed: &BTreeMap<String, String>) -> Deployment {
    let mut begun = deployment.clone();
    begun.overrides.firing_alarms.extend(passed.keys().cloned());
    begun
}

impl Preflight<'_> {
    /// The deployment, still preparing.
    fn at(&self, preparing: Preparing) -> Deployment {
        self.deployment.with_phase(Phase::Preparing(preparing))
    }

    /// Nothing blocks the start: proceeds to registering the candidate's task definition, unless stop-the-line holds
    /// the deployment, its image cannot be pulled, or the release is live already. `passed`: alarms that fire and do
    /// not block the start, with CloudWatch's reason.
    fn register(
        self,
        sides: StableAtStart,
        stable_reading: &SideReading,
        passed: BTreeMap<String, String>,
    ) -> Transition {
        let Self { context, deployment, snapshot, .. } = self;
        if let Some(stopped) = stop_the_line::reason_to_hold(context, deployment) {
            // The deployment has passed its gates, and nothing of it has started yet.
            let deadline = stopped.deadline.max(self.preparing.deadline);
            let held = self.at(Preparing { deadline, ..self.preparing.clone() });
            return Transition::wait(held, stopped.on, stopped.poll, stopped.deadline);
        }
        let is_live = stable_reading.image.as_deref() == Some(deployment.release.image.as_str());
        if let Some(reason) = self.image_problem().filter(|_| !is_live) {
            return match reason {
                ImageProblem::Deleted(reason) => Transition::end(deployment.clone(), Verdict::Failed, reason),
                ImageProblem::Archived(reason) => self.blocked(Blocker::Observed(reason)),
            };
        }
        let (stable, candidate) = (sides.stable, sides.stable.other());
        let settled = Fact::SidesDetermined { stable, stable_running: sides.stable_count, candidate };
        if is_live {
            // No traffic to move: the ledger learns which side is live, and the deployment's record says so.
            let side = StableSide {
                slot: stable,
                task_definition: stable_reading.task_definition.clone(),
                release: Some(deployment.release.clone()),
                since: context.now,
                forward_only: deployment.options.forward_only,
                train: deployment.options.train.clone(),
            };
            let reason = "it was live already; nothing was changed";
            let ended = Transition::end(deployment.clone(), Verdict::Succeeded, reason);
            return ended.fact(settled).change(Change::Stable(Box::new(side)));
        }
        let template = self.preparing.task_definition.clone().unwrap_or_else(|| sides.stable_task_definition.clone());
        let deadline = deployment.policy.deadlines.register.after(context.now);
        let registering = Registering { deadline, template, registered: None };
        let live = Weights::share(stable, Percent::ALL);
        let limits = |slot| Some((slot, snapshot.side(slot).known()?.autoscaling?));
        let weighted = Weighted {
            weights: Some(WeightsRecord { before: live, decided: live, verified: true, may_still_be_live: None }),
            original_limits: [stable, candidate].into_iter().filter_map(limits).collect(),
            ..Weighted::new(sides, WeightedStage::Registering(registering), context.seen_at)
        };
        let begun = with_passed(deployment, &passed);
        let passed = passed.into_iter().map(|(alarm, reason)| Change::Fact(Fact::AlarmPassed { alarm, reason }));
        let changes: Vec<Change> = [Change::Fact(settled)].into_iter().chain(passed).collect();
        if let Some(task_definition) = self.preparing.task_definition {
            let there = snapshot.side(candidate).known();
            if there.is_some_and(|side| side.task_definition == task_definition && !side.stalled) {
                let candidate = Candidate { task_definition, seen_running: false, healthy_since: None };
                return forward::enter_scaling(context, &begun, weighted, candidate).with_changes_first(changes);
            }
            // The revision may have been deregistered since, and ECS refuses a request that names such a revision: an
            // equal one is found or registered.
        }
        Transition::enter(begun.with_weighted(weighted), deployment.release.tag.clone()).changes(changes)
    }

    /// Why no task can be started with the release's image; `None`: one may be started, or the registry could not be
    /// read.
    fn image_problem(&self) -> Option<ImageProblem> {
        let Some(Reading::Known(state)) = self.context.images.get(&self.deployment.release.id.digest) else {
            return None;
        };
        let reason = state.start_blocker()?;
        let reason = format!("{} cannot be started: {reason}", self.deployment.release.tag);
        Some(match state {
            ImageState::Gone => ImageProblem::Deleted(reason),
            ImageState::Archived | ImageState::Present => ImageProblem::Archived(reason),
        })
    }

    /// Waits until the start is no longer blocked; fails at the deadline.
    fn blocked(self, blocker: Blocker) -> Transition {
        let Self { context, deployment, .. } = self;
        let (reason, journalled, needs_operator) = match blocker {
            Blocker::NeedsOperator(reason) => (reason.clone(), reason, deployment.purpose == Purpose::Deploy),
            Blocker::Observed(reason) => (reason.clone(), reason, false),
            Blocker::Unreadable(reason) => (reason, UNREAD.to_owned(), false),
        };
        let usual = deployment.policy.deadlines.preflight;
        let (deadline, awaiting_operator) = if needs_operator {
            // Each deployment that starts meanwhile would fail the same way: one waits and reports what has to be done.
            (OPERATOR_TIMEOUT.after(deployment.started_at).max(self.preparing.deadline), true)
        } else if self.preparing.awaiting_operator {
            // A person has corrected that, and something else blocks the start: it gets the usual time.
            (usual.after(context.now), false)
        } else {
            (self.preparing.deadline, false)
        };
        if context.now >= deadline {
            let had = if needs_operator { OPERATOR_TIMEOUT } else { usual };
            let why = format!("it could not start within {had}: {reason}");
            return Transition::end(deployment.clone(), Verdict::Failed, why);
        }
        let new = self.preparing.blocked.as_ref() != Some(&journalled);
        let fact = new.then(|| Change::Fact(Fact::Blocked { reason: reason.clone() }));
        let blocked = Some(journalled);
        let preparing = Preparing { deadline, awaiting_operator, blocked, ..self.preparing.clone() };
        let poll = if needs_operator { OPERATOR_POLL } else { PREFLIGHT_POLL };
        let on = WaitingOn::Preflight { reason, deadline };
        Transition::wait(self.at(preparing), on, poll, deadline).changes(fact)
    }

    /// Whether traffic must be returned to the recorded stable side first: always for a repair; for a rollback, if the
    /// rules send traffic where nothing can serve it.
    fn needs_repair(&self) -> bool {
        let purpose = self.deployment.purpose;
        let Some(stable) = &self.context.state.stable else { return purpose == Purpose::Repair };
        let live = self.snapshot.live_side();
        if live == Some(stable.slot) {
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
        let Some(stable) = self.context.state.stable.clone() else {
            return self.blocked(Blocker::Observed("no stable side is on record".to_owned()));
        };
        let mut deployment = self.deployment.clone();
        if deployment.purpose == Purpose::Rollback {
            deployment.purpose = Purpose::Repair;
            deployment.release = stable.release_or_placeholder(&self.context.state.target);
        }
        let count = match self.snapshot.side(stable.slot) {
            Reading::Known(side) => side.desired.max(side.running).max(1),
            Reading::Unknown(reason) => {
                let blocker = Blocker::Unreadable(format!("{} could not be read: {reason}", stable.slot));
                return Preflight { deployment: &deployment, ..self }.blocked(blocker);
            }
        };
        let stable_task_definition = stable.task_definition;
        let sides = StableAtStart { stable: stable.slot, stable_task_definition, stable_count: count };
        rollback::repair(&deployment, sides, self.context)
    }
}

/// Why no task can be started with the release's image, according to the registry.
enum ImageProblem {
    /// The image is deleted: the deployment fails.
    Deleted(String),
    /// The image is archived: the deployment waits until it is restored.
    Archived(String),
}

/// Text recorded for everything that preflight could not read.
const UNREAD: &str = "something could not be read";

/// A problem that blocks the start, as text for people.
enum Blocker {
    /// Observed, and to be corrected by a person: a newer release need not wait for this deployment meanwhile.
    NeedsOperator(String),
    /// Observed; expected to clear without a person.
    Observed(String),
    /// Could not be read. Under throttling a different reading fails each time, so it is journalled only once.
    Unreadable(String),
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
        let reason = format!(
            "{stable} has all traffic and no healthy target: there would be no way back. `switchback rollback` puts it \
             on the last stable side, if that is another one"
        );
        return Err(Blocker::Observed(reason));
    }
    if let Err(reason) = snapshot.test_weights() {
        return Err(Blocker::Unreadable(reason));
    }
    match &snapshot.alarms {
        Reading::Unknown(reason) if health::judged_alarms(deployment).next().is_some() => {
            return Err(Blocker::Unreadable(format!("the alarms could not be read: {reason}")));
        }
        Reading::Known(readings) => {
            let absent = |name: &&str| matches!(readings.get(*name), None | Some(AlarmReading::Absent));
            let mut names = health::judged_alarms(deployment).map(|alarm| alarm.name.as_str());
            if let Some(name) = names.find(absent) {
                return Err(Blocker::Observed(format!(
                    "there is no alarm {name}: create it, or take it out of the policy"
                )));
            }
        }
        Reading::Unknown(_) => {}
    }
    if let Alarms::Firing { name, reason } | Alarms::Holding { name, reason } =
        health::alarms(deployment, None, snapshot, now)
    {
        return Err(Blocker::Observed(format!("alarm {name} is firing already: {reason}")));
    }
    let sides = StableAtStart {
        stable,
        stable_task_definition: side.task_definition.clone(),
        stable_count: side.running.max(side.desired).max(1),
    };
    Ok((sides, side))
}
