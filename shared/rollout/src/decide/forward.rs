//! The way to success, stage by stage.

use super::gates::{self, Alarms, Fit, Live, Silence, UNREAD_POLL};
use super::hooks::{self, Ran};
use super::pass::{Flow, Pass};
use super::{back, preflight, promotion};
use crate::effect::Effect;
use crate::entry::Gate;
use crate::journal::Fact;
use crate::names::Slot;
use crate::policy::HookPoint;
use crate::snapshot::{Autoscaling, Reading, Snapshot, Weights};
use crate::stage::{Cause, RetirePhase, ShiftPhase, Stage};
use crate::target::{Deployment, Purpose, WaitingOn, WeightsRecord};
use crate::time::{Percent, Seconds};
use jiff::Timestamp;

/// How often something is looked at that an event will announce, in case the event is lost.
const SCALING_POLL: Seconds = Seconds(10);
const WATCH_POLL: Seconds = Seconds(15);
const WARM_POLL: Seconds = Seconds(30);
/// How long the stable side's own alarm holds a deployment. Then it ends with traffic as it is: every wait has an end.
const STABLE_ALARM_HOLDS: Seconds = Seconds(4 * 3600);
/// How soon weights that were written are looked at again when they were not seen yet.
const VERIFY_POLL: Seconds = Seconds(2);

/// One step of the stage that the deployment is in.
pub(super) fn step(pass: &mut Pass, deployment: &mut Deployment, snapshot: &Snapshot) -> Flow {
    match deployment.stage.clone() {
        // Whoever waits there looks at nothing.
        Stage::Gated { .. } => Flow::Wait,
        Stage::Preflight { deadline, .. } => preflight::preflight(pass, deployment, snapshot, deadline),
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

pub(super) fn enter_scaling(pass: &mut Pass, deployment: &mut Deployment) -> Flow {
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
pub(super) fn line_stopped(pass: &mut Pass, deployment: &mut Deployment) -> Option<Flow> {
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
            let since = deployment.stable_alarm.as_ref().map_or(pass.now, |(_, since)| *since);
            let over = STABLE_ALARM_HOLDS.after(since);
            if pass.now >= over {
                let what =
                    format!("alarm {name} of the stable side fires, and nobody decided within {STABLE_ALARM_HOLDS}");
                back::let_go(pass, deployment, what);
                return Some(Flow::Onward);
            }
            deployment.stage.has_until(deployment.policy.deadlines.shift.after(pass.now));
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
