//! The way to success, stage by stage.

use super::gates::{self, Alarms, Fit, Live, Silence, UNREAD_POLL};
use super::hooks::{self, Ran};
use super::pass::{Flow, Pass, live_side};
use super::{asleep, back, gates::rule_is_sound, promotion};
use crate::effect::Effect;
use crate::entry::Gate;
use crate::journal::Fact;
use crate::names::Slot;
use crate::policy::HookPoint;
use crate::promotion::ImageState;
use crate::snapshot::{AlarmReading, Autoscaling, Reading, SideReading, Snapshot, Weights};
use crate::stage::{Cause, RetirePhase, ShiftPhase, Stage, Verdict};
use crate::target::{Deployment, Purpose, Sides, WaitingOn, WeightsRecord};
use crate::time::{Percent, Seconds};
use jiff::Timestamp;

/// How often something is looked at that an event will announce, in case the event is lost.
const PREFLIGHT_POLL: Seconds = Seconds(15);
/// How long a deployment that cannot start before a person has put the rules right waits for that, and how often it looks.
const OPERATOR_HAS: Seconds = Seconds(24 * 3600);
const OPERATOR_POLL: Seconds = Seconds(60);
const SCALING_POLL: Seconds = Seconds(10);
const WATCH_POLL: Seconds = Seconds(15);
const WARM_POLL: Seconds = Seconds(30);
/// How soon weights that were written are looked at again when they were not seen yet.
const VERIFY_POLL: Seconds = Seconds(2);

/// One step of the stage that the deployment is in.
pub(super) fn step(pass: &mut Pass, deployment: &mut Deployment, snapshot: &Snapshot) -> Flow {
    match deployment.stage.clone() {
        // Whoever waits there looks at nothing.
        Stage::Gated { .. } => Flow::Wait,
        Stage::Preflight { deadline, .. } => preflight(pass, deployment, snapshot, deadline),
        Stage::Registering { deadline } => registering(pass, deployment, deadline),
        Stage::BeforeTraffic { deadline } => before_traffic(pass, deployment, snapshot, deadline),
        Stage::Scaling { want, deadline } => scaling(pass, deployment, snapshot, want, deadline),
        Stage::Testing { deadline } => testing(pass, deployment, snapshot, deadline),
        Stage::Shifting { step, phase: ShiftPhase::Writing { deadline } } => {
            writing(pass, deployment, snapshot, step, deadline)
        }
        Stage::Shifting { step, phase: ShiftPhase::Holding { until, deadline } } => {
            holding(pass, deployment, snapshot, step, until, deadline)
        }
        Stage::AfterTraffic { deadline } => after_traffic(pass, deployment, snapshot, deadline),
        Stage::Baking { until, deadline } => baking(pass, deployment, snapshot, until, deadline),
        Stage::KeepingWarm { until } => keeping_warm(pass, deployment, until),
        Stage::Retiring { phase, deadline } => back::retiring(pass, deployment, snapshot, &phase, deadline),
        Stage::RollingBack { way_back, cause, phase, deadline } => {
            back::rolling_back(pass, deployment, snapshot, (&way_back, &cause, &phase, deadline))
        }
        Stage::LettingGo { reason, deadline } => back::letting_go(pass, deployment, snapshot, &reason, deadline),
    }
}

// --- preflight ---

fn preflight(pass: &mut Pass, deployment: &mut Deployment, snapshot: &Snapshot, deadline: Timestamp) -> Flow {
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

// --- until the candidate is up ---

fn registering(pass: &mut Pass, deployment: &mut Deployment, deadline: Timestamp) -> Flow {
    let Some(sides) = deployment.sides.clone() else { return turn_back(pass, deployment, lost_sides()) };
    if deployment.task_definition.is_some() {
        if hooks::at(deployment, HookPoint::BeforeTraffic).is_empty() {
            return enter_scaling(pass, deployment);
        }
        let until = hooks::deadline(deployment, HookPoint::BeforeTraffic, pass.now);
        return pass.enter(deployment, Stage::BeforeTraffic { deadline: until }, "hooks before traffic");
    }
    if let Some(cause) = give_up(pass, deployment, deadline, "the task definition was not registered") {
        return turn_back(pass, deployment, cause);
    }
    pass.want(Effect::RegisterTaskDefinition {
        like: deployment.made_like.clone().unwrap_or(sides.stable_task_definition),
        container: deployment.policy.pair.container.clone(),
        image: deployment.release.image.clone(),
    });
    pass.wait(WaitingOn::TaskDefinition { deadline }, SCALING_POLL, deadline)
}

fn before_traffic(pass: &mut Pass, deployment: &mut Deployment, snapshot: &Snapshot, deadline: Timestamp) -> Flow {
    match hooks::run(pass, deployment, snapshot, HookPoint::BeforeTraffic) {
        Ran::AllSaidYes => enter_scaling(pass, deployment),
        Ran::TurnedBack => Flow::Onward,
        Ran::Waiting if pass.now >= deadline => turn_back(pass, deployment, out_of_time("the hooks before traffic")),
        Ran::Waiting => Flow::Wait,
    }
}

fn enter_scaling(pass: &mut Pass, deployment: &mut Deployment) -> Flow {
    let want = capacity(deployment, deployment.policy.strategy.green_capacity);
    for (slot, limits) in deployment.borrowed.clone() {
        let fact = Fact::AutoscalingBorrowed { slot, min: limits.min, max: limits.max };
        pass.note(Some(deployment.number), fact);
    }
    let deadline = deployment.policy.deadlines.healthy.after(pass.now);
    pass.enter(deployment, Stage::Scaling { want, deadline }, format!("{want} tasks"))
}

/// Tasks that the candidate needs to carry `share`: that share of the stable side's tasks, at least what the policy
/// starts with, and never none.
fn capacity(deployment: &Deployment, share: Percent) -> u32 {
    let stable = deployment.sides.as_ref().map_or(1, |sides| sides.stable_count);
    // A rollback puts everything on it in one step.
    let share = if deployment.purpose == Purpose::Deploy { share } else { Percent::ALL };
    share.max(deployment.policy.strategy.green_capacity).of(stable).max(1)
}

/// The autoscaling limits of a side while traffic moves to the candidate in `slot`; none: it has none to borrow.
fn borrowed_limits(deployment: &Deployment, side: Slot, slot: Slot, want: u32) -> Option<Autoscaling> {
    let found = deployment.borrowed.get(&side)?;
    Some(if side == slot {
        // The idle side may be parked at a highest count of 0 or 1: with the traffic it may grow as far as the live one.
        let live = deployment.borrowed.get(&slot.other()).map_or(0, |live| live.max);
        let max = found.max.max(live).max(want);
        Autoscaling { min: want, max, scale_in_suspended: true, scheduled_suspended: true }
    } else {
        // Traffic leaves the stable side step by step: without this it would be scaled in before the way back closes.
        Autoscaling { scale_in_suspended: true, scheduled_suspended: true, ..*found }
    })
}

/// Whether the limits of both sides were seen to be what they have to be while traffic moves. A scalable target that
/// somebody took away meanwhile needs none.
fn limits_are_held(deployment: &Deployment, snapshot: &Snapshot, want: u32) -> bool {
    let Some(slot) = deployment.candidate() else { return false };
    [slot.other(), slot].into_iter().all(|side| {
        match (borrowed_limits(deployment, side, slot, want), snapshot.side(side)) {
            (None, _) => true,
            (Some(_), Reading::Unknown(_)) => false,
            (Some(limits), Reading::Known(seen)) => seen.autoscaling.is_none_or(|now| now == limits),
        }
    })
}

/// Asks for what the candidate lacks: limits that let it have its tasks, its task definition, its tasks.
fn raise(pass: &mut Pass, deployment: &mut Deployment, snapshot: &Snapshot, want: u32) {
    let (Some(slot), Some(task_definition)) = (deployment.candidate(), deployment.task_definition.clone()) else {
        return;
    };
    for side in [slot.other(), slot] {
        let Some(limits) = borrowed_limits(deployment, side, slot, want) else { continue };
        let now = snapshot.side(side).known().and_then(|reading| reading.autoscaling);
        if now.is_some_and(|now| now != limits) {
            pass.want(Effect::SetAutoscaling { slot: side, limits });
        }
    }
    let Some(side) = snapshot.side(slot).known() else { return };
    let runs_it = side.task_definition == task_definition;
    // Once it was seen there and is not any more, gates::candidate judges it: nothing is put back over another's hand.
    let taken_away = deployment.candidate_updated && !runs_it;
    deployment.candidate_updated |= runs_it;
    if taken_away {
        return;
    }
    if !runs_it || (side.stalled && side.desired < want) {
        // With the task definition where ECS gave it up before: it has to be started anew.
        pass.want(Effect::UpdateService { slot, task_definition, desired: want });
    } else if side.desired < want {
        // By the count alone: a revision that was deregistered meanwhile is kept by the service that has it, and refused to
        // whoever names it.
        pass.want(Effect::SetDesired { slot, desired: want });
    }
}

fn scaling(pass: &mut Pass, deployment: &mut Deployment, snapshot: &Snapshot, want: u32, deadline: Timestamp) -> Flow {
    let fit = gates::candidate(deployment, snapshot, want, pass.now);
    let steady = deployment.candidate().and_then(|slot| snapshot.side(slot).known()).is_some_and(|side| side.steady);
    match fit {
        Fit::Never { reason } => return turn_back(pass, deployment, Cause::Tasks { reason }),
        // What the autoscaler may not do while traffic moves has to be seen first.
        Fit::Yes { healthy } if steady && limits_are_held(deployment, snapshot, want) => {
            deployment.candidate_updated = true;
            deployment.up_since = Some(pass.now);
            pass.note(Some(deployment.number), Fact::CandidateHealthy { healthy });
            let until = hooks::deadline(deployment, HookPoint::TestTraffic, pass.now);
            let has_test = deployment.policy.pair.test_rule.is_some() && deployment.purpose == Purpose::Deploy;
            if has_test || !hooks::at(deployment, HookPoint::TestTraffic).is_empty() {
                return pass.enter(deployment, Stage::Testing { deadline: until }, "test rule and hooks");
            }
            return match line_stopped(pass, deployment) {
                Some(waiting) => waiting,
                None => enter_step(pass, deployment, first_step(deployment)),
            };
        }
        _ => {}
    }
    raise(pass, deployment, snapshot, want);
    let (healthy, detail, poll) = match fit {
        Fit::Yes { healthy } if steady => {
            (healthy, "the autoscaling limits were not seen as asked for yet".to_owned(), UNREAD_POLL)
        }
        Fit::Yes { healthy } => (healthy, "ECS has not called the deployment complete yet".to_owned(), SCALING_POLL),
        Fit::NotYet { healthy, detail } => (healthy, detail, SCALING_POLL),
        Fit::Unknown(reason) | Fit::Never { reason } => (0, reason, UNREAD_POLL),
    };
    let waited_for = format!("{healthy} of {want} targets were healthy: {detail}");
    if let Some(cause) = give_up(pass, deployment, deadline, &waited_for) {
        return turn_back(pass, deployment, cause);
    }
    pass.wait(WaitingOn::Healthy { healthy, want, detail, deadline }, poll, deadline)
}

fn testing(pass: &mut Pass, deployment: &mut Deployment, snapshot: &Snapshot, deadline: Timestamp) -> Flow {
    if let (Some(slot), true) = (deployment.candidate(), deployment.policy.pair.test_rule.is_some()) {
        let wanted = Weights::share(slot, Percent::ALL);
        match &snapshot.test_rule {
            Some(Reading::Known(rule)) if rule.weights.same_split(wanted) => {}
            Some(Reading::Known(rule)) => {
                deployment.test_rule_before.get_or_insert(rule.weights);
                if let Some(cause) = give_up(pass, deployment, deadline, "the test rule was not seen on the candidate")
                {
                    return turn_back(pass, deployment, cause);
                }
                pass.want(Effect::SetTestRule { weights: wanted });
                return pass.wait(WaitingOn::Weights { weights: wanted, deadline }, VERIFY_POLL, deadline);
            }
            Some(Reading::Unknown(reason)) => {
                let reason = format!("the test rule could not be read: {reason}");
                return unread(pass, deployment, reason, deadline);
            }
            None => return unread(pass, deployment, "the test rule was not read".to_owned(), deadline),
        }
    }
    match hooks::run(pass, deployment, snapshot, HookPoint::TestTraffic) {
        Ran::AllSaidYes => match line_stopped(pass, deployment) {
            Some(waiting) => waiting,
            None => enter_step(pass, deployment, first_step(deployment)),
        },
        Ran::TurnedBack => Flow::Onward,
        Ran::Waiting if pass.now >= deadline => turn_back(pass, deployment, out_of_time("the hooks on test traffic")),
        Ran::Waiting => Flow::Wait,
    }
}

// --- moving traffic ---

/// A rollback moves everything at once.
fn first_step(deployment: &Deployment) -> usize {
    match deployment.purpose {
        Purpose::Deploy => 0,
        Purpose::Rollback | Purpose::Repair => deployment.policy.strategy.steps.len().saturating_sub(1),
    }
}

fn share_of(deployment: &Deployment, step: usize) -> Percent {
    deployment.policy.strategy.steps.get(step).map_or(Percent::ALL, |step| step.traffic)
}

fn enter_step(pass: &mut Pass, deployment: &mut Deployment, step: usize) -> Flow {
    // A side that has to grow first has the time that it had for coming up.
    let deadlines = deployment.policy.deadlines;
    let deadline = Seconds(deadlines.shift.0 + deadlines.healthy.0).after(pass.now);
    let detail = format!("{} of the traffic", share_of(deployment, step));
    pass.enter(deployment, Stage::Shifting { step, phase: ShiftPhase::Writing { deadline } }, detail)
}

fn writing(
    pass: &mut Pass,
    deployment: &mut Deployment,
    snapshot: &Snapshot,
    step: usize,
    deadline: Timestamp,
) -> Flow {
    let share = share_of(deployment, step);
    let Some(slot) = deployment.candidate() else { return turn_back(pass, deployment, lost_sides()) };
    let wanted = Weights::share(slot, share);
    let decided = deployment.weights.is_some_and(|record| record.decided == wanted);
    if decided && let Live::AsDecided = gates::live(deployment, snapshot) {
        return verified(pass, deployment, step, wanted);
    }
    if !decided && let Some(waiting) = line_stopped(pass, deployment) {
        // The candidate may have taken minutes to grow for this step.
        return waiting;
    }
    // The stable side may have been scaled out since the start; what takes its traffic has to be as large.
    let grown = snapshot.side(slot.other()).known().map_or(0, |side| share.of(side.running));
    let want = capacity(deployment, share).max(grown);
    if let Some(waiting) = not_fit_to_widen(pass, deployment, snapshot, want, deadline, true) {
        return waiting;
    }
    if let Live::Unknown(reason) = gates::live(deployment, snapshot) {
        return unread(pass, deployment, reason, deadline);
    }
    if let Some(cause) = give_up(pass, deployment, deadline, &format!("{share} of the traffic was never seen live")) {
        return turn_back(pass, deployment, cause);
    }
    if !decided {
        let before = deployment.weights.map_or(wanted, |record| record.decided);
        deployment.weights = Some(WeightsRecord { before, decided: wanted, verified: false });
        deployment.traffic_moved = true;
        deployment.traffic_since.get_or_insert(pass.now);
        pass.note(Some(deployment.number), Fact::WeightsDecided { weights: wanted });
    }
    let seen = snapshot.rules.iter().filter_map(|rule| rule.known()).map(|rule| rule.weights).collect();
    pass.want(Effect::SetWeights { weights: wanted, seen });
    pass.wait(WaitingOn::Weights { weights: wanted, deadline }, VERIFY_POLL, deadline)
}

fn verified(pass: &mut Pass, deployment: &mut Deployment, step: usize, weights: Weights) -> Flow {
    if let Some(record) = &mut deployment.weights {
        record.verified = true;
    }
    pass.note(Some(deployment.number), Fact::WeightsVerified { weights });
    let hold = match deployment.purpose {
        Purpose::Deploy => deployment.policy.strategy.steps.get(step).map_or(Seconds(0), |step| step.hold),
        Purpose::Rollback | Purpose::Repair => Seconds(0),
    };
    let until = hold.after(pass.now);
    let deadline = deployment.policy.deadlines.shift.after(until);
    pass.enter(deployment, Stage::Shifting { step, phase: ShiftPhase::Holding { until, deadline } }, "")
}

fn holding(
    pass: &mut Pass,
    deployment: &mut Deployment,
    snapshot: &Snapshot,
    step: usize,
    until: Timestamp,
    deadline: Timestamp,
) -> Flow {
    let share = share_of(deployment, step);
    if pass.now < until {
        return pass.wait(WaitingOn::Hold { traffic: share.value(), until }, WATCH_POLL, until);
    }
    let want = capacity(deployment, share);
    if let Some(waiting) = not_fit_to_widen(pass, deployment, snapshot, want, deadline, false) {
        return waiting;
    }
    if let Live::Unknown(reason) = gates::live(deployment, snapshot) {
        return unread(pass, deployment, reason, deadline);
    }
    if step + 1 < deployment.policy.strategy.steps.len() {
        if let Some(waiting) = line_stopped(pass, deployment) {
            return waiting;
        }
        return enter_step(pass, deployment, step + 1);
    }
    if hooks::at(deployment, HookPoint::AfterTraffic).is_empty() {
        return enter_baking(pass, deployment);
    }
    let until = hooks::deadline(deployment, HookPoint::AfterTraffic, pass.now);
    pass.enter(deployment, Stage::AfterTraffic { deadline: until }, "hooks after traffic")
}

fn after_traffic(pass: &mut Pass, deployment: &mut Deployment, snapshot: &Snapshot, deadline: Timestamp) -> Flow {
    match hooks::run(pass, deployment, snapshot, HookPoint::AfterTraffic) {
        Ran::AllSaidYes => enter_baking(pass, deployment),
        Ran::TurnedBack => Flow::Onward,
        Ran::Waiting if pass.now >= deadline => turn_back(pass, deployment, out_of_time("the hooks after traffic")),
        Ran::Waiting => {
            // The hook may take long; the alarms are watched meanwhile.
            pass.look_by(WATCH_POLL.after(pass.now));
            Flow::Wait
        }
    }
}

fn enter_baking(pass: &mut Pass, deployment: &mut Deployment) -> Flow {
    let strategy = &deployment.policy.strategy;
    let bake = if deployment.purpose == Purpose::Deploy { strategy.bake } else { Seconds(0) };
    let until = bake.after(pass.now);
    let deadline = deployment.policy.deadlines.shift.after(until);
    pass.enter(deployment, Stage::Baking { until, deadline }, bake.to_string())
}

fn baking(
    pass: &mut Pass,
    deployment: &mut Deployment,
    snapshot: &Snapshot,
    until: Timestamp,
    deadline: Timestamp,
) -> Flow {
    if pass.now < until {
        return pass.wait(WaitingOn::Bake { until }, WATCH_POLL, until);
    }
    let want = capacity(deployment, Percent::ALL);
    let unfit = not_fit_to_widen(pass, deployment, snapshot, want, deadline, false);
    let waiting = unfit.or_else(|| match gates::live(deployment, snapshot) {
        // Somebody may have edited it since it was read last: what is verified is seen to have all traffic.
        Live::Unknown(reason) => Some(unread(pass, deployment, reason, deadline)),
        _ => None,
    });
    if let Some(waiting) = waiting {
        // Its time is over and it is not verified: whoever takes its place need not wait for the deadline.
        return match deployment.superseded_by.clone() {
            Some(by_tag) => turn_back(pass, deployment, Cause::Superseded { by_tag }),
            None => waiting,
        };
    }
    deployment.superseded_by = None;
    promotion::verified(pass, deployment);
    let until = deployment.policy.strategy.keep_warm.after(pass.now);
    pass.enter(deployment, Stage::KeepingWarm { until }, deployment.policy.strategy.keep_warm.to_string())
}

fn keeping_warm(pass: &mut Pass, deployment: &mut Deployment, until: Timestamp) -> Flow {
    if pass.now < until && pass.state.queued.is_empty() {
        return pass.wait(WaitingOn::Warm { until }, WARM_POLL, until);
    }
    let drained = deployment.policy.strategy.drain.after(pass.now);
    let deadline = deployment.policy.deadlines.retire.after(drained);
    let phase = RetirePhase::Draining { until: drained };
    let old = deployment.sides.as_ref().map(|sides| sides.stable.to_string()).unwrap_or_default();
    pass.enter(deployment, Stage::Retiring { phase, deadline }, old)
}

// --- what several stages ask ---

/// Some: the line is stopped, and traffic stays as it is, watched. The stage's time stands still meanwhile.
fn line_stopped(pass: &mut Pass, deployment: &mut Deployment) -> Option<Flow> {
    let passes = |gate: &Gate| {
        let gates = deployment.gates.as_ref();
        gates.is_some_and(|gates| gates.overridden.contains_key(gate) || gates.skipped.contains(gate))
    };
    if deployment.purpose != Purpose::Deploy || passes(&Gate::StopTheLine) {
        return None;
    }
    let (reason, poll) = match pass.line.clone()? {
        Ok(reason) => (reason, WATCH_POLL),
        Err(unread) => (unread, UNREAD_POLL),
    };
    let deadline = deployment.policy.deadlines.shift.after(pass.now);
    match &mut deployment.stage {
        Stage::Preflight { deadline: present, .. }
        | Stage::Scaling { deadline: present, .. }
        | Stage::Testing { deadline: present }
        | Stage::Shifting {
            phase: ShiftPhase::Writing { deadline: present } | ShiftPhase::Holding { deadline: present, .. },
            ..
        } => *present = deadline.max(*present),
        _ => {}
    }
    Some(pass.wait(WaitingOn::Gate { gate: Gate::StopTheLine, reason, until: None, deadline }, poll, deadline))
}

/// Some: why traffic may not widen now (or that it turned back). With `grow`, lacking tasks are asked for.
fn not_fit_to_widen(
    pass: &mut Pass,
    deployment: &mut Deployment,
    snapshot: &Snapshot,
    want: u32,
    deadline: Timestamp,
    grow: bool,
) -> Option<Flow> {
    match gates::candidate(deployment, snapshot, want, pass.now) {
        Fit::Yes { .. } => {}
        Fit::Never { reason } => return Some(turn_back(pass, deployment, Cause::Tasks { reason })),
        Fit::Unknown(reason) => return Some(unread(pass, deployment, reason, deadline)),
        Fit::NotYet { healthy, detail } => {
            let waited_for = format!("{healthy} of {want} targets were healthy: {detail}");
            if let Some(cause) = give_up(pass, deployment, deadline, &waited_for) {
                return Some(turn_back(pass, deployment, cause));
            }
            if grow {
                raise(pass, deployment, snapshot, want);
            }
            return Some(pass.wait(WaitingOn::Healthy { healthy, want, detail, deadline }, SCALING_POLL, deadline));
        }
    }
    match gates::alarms(deployment, snapshot, pass.now) {
        // Firing has turned back before any stage was asked.
        Alarms::Clear | Alarms::Firing { .. } => None,
        Alarms::StableFiring { name, reason } => {
            // It is nothing of the candidate's, and going back would put all traffic onto what it is about: a person decides.
            deployment.stage.has_until(deployment.policy.deadlines.shift.after(pass.now));
            let over = deployment.stage.deadline();
            Some(pass.wait(WaitingOn::StableAlarm { name, reason }, WATCH_POLL, over))
        }
        Alarms::Unknown(reason) => Some(unread(pass, deployment, reason, deadline)),
        Alarms::Silent(silence) => {
            if pass.now >= deadline {
                let reason = format!("{silence}: silence is not health");
                return Some(turn_back(pass, deployment, Cause::Deadline { reason }));
            }
            let Silence { without_data: names, absent, not_evaluated } = silence;
            Some(pass.wait(WaitingOn::Alarms { names, absent, not_evaluated, deadline }, WATCH_POLL, deadline))
        }
    }
}

fn unread(pass: &mut Pass, deployment: &mut Deployment, reason: String, deadline: Timestamp) -> Flow {
    if pass.now >= deadline {
        return turn_back(pass, deployment, Cause::Deadline { reason });
    }
    pass.wait(WaitingOn::Reading { reason, deadline }, UNREAD_POLL, deadline)
}

/// Whether to stop trying: AWS said no for good, or the time is over.
fn give_up(pass: &Pass, deployment: &Deployment, deadline: Timestamp, waited_for: &str) -> Option<Cause> {
    if let Some(trouble) = &deployment.trouble {
        if trouble.refused {
            return Some(Cause::Refused { reason: trouble.reason.clone() });
        }
        if pass.now >= deadline {
            return Some(Cause::Deadline { reason: format!("{waited_for} (last try: {})", trouble.reason) });
        }
    }
    (pass.now >= deadline).then(|| Cause::Deadline { reason: waited_for.to_owned() })
}

fn turn_back(pass: &mut Pass, deployment: &mut Deployment, cause: Cause) -> Flow {
    match back::begin(pass, deployment, cause) {
        back::Begun::Over => Flow::Ended,
        back::Begun::Going => Flow::Onward,
        // No stage that can ask for this is past its way back.
        back::Begun::Impossible => Flow::Wait,
    }
}

fn lost_sides() -> Cause {
    Cause::Refused { reason: "the record does not say which side is stable".to_owned() }
}

fn out_of_time(what: &str) -> Cause {
    Cause::Deadline { reason: format!("{what} were not done in time") }
}
