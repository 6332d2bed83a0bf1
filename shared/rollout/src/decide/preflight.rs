//! Before anything is touched: which side is stable, and what speaks against starting. A repair puts traffic back first.

use super::forward::{enter_scaling, line_stopped};
use super::gates::{self, Alarms, rule_is_sound};
use super::pass::{Flow, Pass, live_side};
use super::{asleep, back};
use crate::journal::Fact;
use crate::promotion::ImageState;
use crate::snapshot::{AlarmReading, Reading, SideReading, Snapshot, Weights};
use crate::stage::{Cause, Stage, Verdict};
use crate::target::{Deployment, Purpose, Sides, WaitingOn, WeightsRecord};
use crate::time::{Percent, Seconds};
use jiff::Timestamp;

/// How often what speaks against starting is looked at, in case the event that ends it is lost.
const PREFLIGHT_POLL: Seconds = Seconds(15);
/// How long a deployment that cannot start before a person has put the rules right waits for that, and how often it looks.
const OPERATOR_HAS: Seconds = Seconds(12 * 3600);
const OPERATOR_POLL: Seconds = Seconds(60);

pub(super) fn preflight(
    pass: &mut Pass,
    deployment: &mut Deployment,
    snapshot: &Snapshot,
    deadline: Timestamp,
) -> Flow {
    if needs_repair(pass, deployment, snapshot) {
        return repair(pass, deployment, snapshot, deadline);
    }
    if deployment.purpose == Purpose::Repair
        && let Some(stable) = live_side(snapshot)
    {
        let reason = format!("all traffic is on {stable} already; nothing was changed");
        return pass.end(deployment, Verdict::Succeeded, reason, Some(snapshot));
    }
    if asleep::is_asleep(pass, snapshot) {
        return asleep::back_to_gates(pass, deployment);
    }
    let (sides, stable_reading) = match blockers(deployment, snapshot, pass.now) {
        Ok(found) => found,
        Err(against) => return blocked(pass, deployment, snapshot, against, deadline),
    };
    if let Some(waiting) = line_stopped(pass, deployment) {
        // It has passed its gates, and nothing of it has begun yet.
        return waiting;
    }
    let is_live = stable_reading.image.as_deref() == Some(deployment.release.image.as_str());
    if let Some(ended) = without_image(pass, deployment, snapshot, is_live, deadline) {
        return ended;
    }
    let stable = sides.stable;
    let live = Weights::share(stable, Percent::ALL);
    deployment.weights = Some(WeightsRecord { before: live, decided: live, verified: true });
    for slot in [stable, stable.other()] {
        if let Some(limits) = snapshot.side(slot).known().and_then(|side| side.autoscaling) {
            deployment.borrowed.insert(slot, limits);
        }
    }
    deployment.borrowed_at = Some(pass.seen_at);
    deployment.blocked = None;
    pass.note(
        Some(deployment.number),
        Fact::SidesSettled { stable, stable_running: sides.stable_count, candidate: stable.other() },
    );
    deployment.sides = Some(sides);
    if is_live {
        // Nothing to move: the ledger learns what is live, and the record says so.
        deployment.task_definition = Some(stable_reading.task_definition.clone());
        pass.state.stable = Some(crate::target::StableSide {
            slot: stable,
            task_definition: stable_reading.task_definition.clone(),
            release: Some(deployment.release.clone()),
            since: pass.now,
            forward_only: deployment.terms.forward_only,
            train: deployment.terms.train.clone(),
        });
        return pass.end(deployment, Verdict::Succeeded, "it was live already; nothing was changed", Some(snapshot));
    }
    if let Some(wanted) = deployment.task_definition.take() {
        let there = snapshot.side(stable.other()).known();
        if there.is_some_and(|side| side.task_definition == wanted && !side.stalled) {
            deployment.task_definition = Some(wanted);
            return enter_scaling(pass, deployment);
        }
        // It may have been deregistered since, and ECS refuses to be told of such a revision: one like it is found or made.
        deployment.made_like = Some(wanted);
    }
    let until = deployment.policy.deadlines.register.after(pass.now);
    pass.enter(deployment, Stage::Registering { deadline: until }, deployment.release.tag.clone())
}

/// Some: no task can be started with the release's image, and none is tried. What could not be read is tried.
fn without_image(
    pass: &mut Pass,
    deployment: &mut Deployment,
    snapshot: &Snapshot,
    is_live: bool,
    deadline: Timestamp,
) -> Option<Flow> {
    let Some(Reading::Known(state)) = pass.images.get(&deployment.release.id.digest) else { return None };
    let state = *state;
    let reason = state.against_starting().filter(|_| !is_live)?;
    let reason = format!("{} cannot be started: {reason}", deployment.release.tag);
    Some(match state {
        ImageState::Gone => pass.end(deployment, Verdict::Failed, reason, Some(snapshot)),
        ImageState::Archived | ImageState::Present => {
            blocked(pass, deployment, snapshot, Against::Seen(reason), deadline)
        }
    })
}

/// What stands in the record for all that preflight could not read.
const UNREAD: &str = "something could not be read";

/// What speaks against starting.
enum Against {
    /// Something that was seen, and that a person has to put right: a newer release need not wait for this one meanwhile.
    Person(String),
    /// Something that was seen.
    Seen(String),
    /// Something could not be read. Under throttling it is another thing at every look: the journal tells it once.
    Unread(String),
}

/// What speaks against starting, or which side is which.
fn blockers<'a>(
    deployment: &Deployment,
    snapshot: &'a Snapshot,
    now: Timestamp,
) -> Result<(Sides, &'a SideReading), Against> {
    for (arn, rule) in deployment.policy.pair.rules.iter().zip(&snapshot.rules) {
        let arn = gates::short_rule(arn);
        match rule {
            Reading::Unknown(reason) => return Err(Against::Unread(format!("{arn} could not be read: {reason}"))),
            Reading::Known(rule) if !rule_is_sound(rule) => {
                return Err(Against::Seen(format!(
                    "{arn} does not forward to exactly the two sides: it has blue {} / green {}{}",
                    rule.weights.blue,
                    rule.weights.green,
                    gates::strangers(rule)
                )));
            }
            Reading::Known(rule) if rule.weights.only().is_none() => {
                return Err(Against::Person(format!(
                    "{arn} has blue {} / green {}, so no side is the stable one: `switchback rollback` puts all traffic on \
                     the last stable side, or give one side all the weight by hand",
                    rule.weights.blue, rule.weights.green
                )));
            }
            Reading::Known(_) => {}
        }
    }
    let stable = live_side(snapshot)
        .ok_or_else(|| {
            let reason = "the rules do not agree on which side has the traffic: `switchback rollback` puts all of it on the \
                          last stable side";
            Against::Person(reason.to_owned())
        })?;
    for slot in [stable, stable.other()] {
        if let Reading::Unknown(reason) = snapshot.side(slot) {
            return Err(Against::Unread(format!("{slot} could not be read: {reason}")));
        }
    }
    let Reading::Known(side) = snapshot.side(stable) else {
        return Err(Against::Unread(format!("{stable} could not be read")));
    };
    if side.targets.healthy == 0 {
        let reason = format!(
            "{stable} has all traffic and no healthy target: there would be no way back. `switchback rollback` puts it on \
             the last stable side, if that is another one"
        );
        return Err(Against::Seen(reason));
    }
    if let Some(Reading::Unknown(reason)) = &snapshot.test_rule {
        return Err(Against::Unread(format!("the test rule could not be read: {reason}")));
    }
    match &snapshot.alarms {
        Reading::Unknown(reason) if !deployment.policy.alarms.is_empty() => {
            return Err(Against::Unread(format!("the alarms could not be read: {reason}")));
        }
        Reading::Known(readings) => {
            let absent = |name: &&str| matches!(readings.get(*name), None | Some(AlarmReading::Absent));
            let names = deployment.policy.alarms.iter().map(|alarm| alarm.name.as_str());
            if let Some(name) = names.clone().find(absent) {
                return Err(Against::Seen(format!(
                    "there is no alarm {name}: create it, or take it out of the policy"
                )));
            }
        }
        Reading::Unknown(_) => {}
    }
    if let Alarms::Firing { name, reason } = gates::alarms(deployment, snapshot, now) {
        return Err(Against::Seen(format!("alarm {name} is firing already: {reason}")));
    }
    let sides = Sides {
        stable,
        stable_task_definition: side.task_definition.clone(),
        stable_count: side.running.max(side.desired).max(1),
    };
    Ok((sides, side))
}

fn blocked(
    pass: &mut Pass,
    deployment: &mut Deployment,
    snapshot: &Snapshot,
    against: Against,
    deadline: Timestamp,
) -> Flow {
    let (reason, told, person) = match against {
        Against::Person(reason) => (reason.clone(), reason, deployment.purpose == Purpose::Deploy),
        Against::Seen(reason) => (reason.clone(), reason, false),
        Against::Unread(reason) => (reason, UNREAD.to_owned(), false),
    };
    if person {
        // Each that starts meanwhile would find the same thing and fail: one waits, and says what has to be done.
        let deadline = OPERATOR_HAS.after(deployment.started_at).max(deadline);
        deployment.stage = Stage::Preflight { deadline, awaiting_operator: true };
    } else if deployment.stage.has_not_begun() {
        // A person has put that right, and something else is found: it has the usual time for it.
        deployment.stage = Stage::preflight(deployment.policy.deadlines.preflight.after(pass.now));
    }
    let deadline = deployment.stage.deadline();
    if pass.now >= deadline {
        let had = if person { OPERATOR_HAS } else { deployment.policy.deadlines.preflight };
        let why = format!("it could not start within {had}: {reason}");
        return pass.end(deployment, Verdict::Failed, why, Some(snapshot));
    }
    if deployment.blocked.as_ref() != Some(&told) {
        pass.note(Some(deployment.number), Fact::Blocked { reason: reason.clone() });
        deployment.blocked = Some(told);
    }
    let poll = if person { OPERATOR_POLL } else { PREFLIGHT_POLL };
    pass.wait(WaitingOn::Preflight { reason, deadline }, poll, deadline)
}

/// Whether traffic goes to the side that the ledger knows as stable, before anything else: a repair's always does, and a
/// rollback's where the rules have come to send it where nothing can serve it.
fn needs_repair(pass: &Pass, deployment: &Deployment, snapshot: &Snapshot) -> bool {
    let Some(stable) = &pass.state.stable else { return deployment.purpose == Purpose::Repair };
    let live = live_side(snapshot);
    if live == Some(stable.slot) {
        return false;
    }
    let all_read = snapshot.rules.iter().all(|rule| rule.known().is_some());
    let cannot_serve = |slot| snapshot.side(slot).known().is_some_and(|side| side.targets.healthy == 0);
    match deployment.purpose {
        Purpose::Deploy => false,
        Purpose::Repair => true,
        Purpose::Rollback => all_read && live.is_none_or(cannot_serve),
    }
}

/// Not all traffic goes to the side that the ledger knows as stable: all of it does now.
fn repair(pass: &mut Pass, deployment: &mut Deployment, snapshot: &Snapshot, deadline: Timestamp) -> Flow {
    let Some(stable) = pass.state.stable.clone() else {
        return blocked(pass, deployment, snapshot, Against::Seen("no stable side is on record".to_owned()), deadline);
    };
    if deployment.purpose == Purpose::Rollback {
        deployment.purpose = Purpose::Repair;
        deployment.release = stable.release_or_what_ran(&pass.state.target);
    }
    let count = match snapshot.side(stable.slot) {
        Reading::Known(side) => side.desired.max(side.running).max(1),
        Reading::Unknown(reason) => {
            return blocked(
                pass,
                deployment,
                snapshot,
                Against::Unread(format!("{} could not be read: {reason}", stable.slot)),
                deadline,
            );
        }
    };
    deployment.sides =
        Some(Sides { stable: stable.slot, stable_task_definition: stable.task_definition, stable_count: count });
    deployment.traffic_moved = true;
    let cause = Cause::Asked { actor: deployment.actor.clone(), reason: deployment.reason.clone() };
    back::begin(pass, deployment, cause);
    Flow::Onward
}
