//! The ways back and out: switching back, retiring the old side, and letting go of what somebody else holds.

use super::gates::{self, Live, UNREAD_POLL};
use super::pass::{Flow, Pass, live_side};
use super::schedules::{self, LimitsDue};
use super::{frozen, hooks, promotion};
use crate::effect::Effect;
use crate::journal::Fact;
use crate::names::Slot;
use crate::policy::Drift;
use crate::snapshot::{Reading, RuleReading, Snapshot, Weights};
use crate::stage::{Cause, RetirePhase, RollbackPhase, Stage, Verdict, WayBack};
use crate::target::{Deployment, Purpose, WaitingOn, WeightsRecord};
use crate::time::{Percent, Seconds};
use jiff::Timestamp;

const STOPPING_POLL: Seconds = Seconds(10);
const WEIGHTS_POLL: Seconds = Seconds(1);
const UNFIT_POLL: Seconds = Seconds(5);
/// What stands in the record while the way back leads to a side that cannot serve: the counts of both sides change at every
/// look, and people are called once.
const UNFIT: &str = "the stable side has no healthy target";
/// How long giving back is tried when everything else is over already.
const LETTING_GO: Seconds = Seconds(300);
/// How long beyond its deadline something is still tried that has not worked and may. As long as throttling may move a
/// deadline (`pace`): everything ends some time.
const LONGEST_TRYING: Seconds = Seconds(6 * 3600);

/// What became of the wish to go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begun {
    /// It goes back.
    Going,
    /// Nothing had been touched: it is over.
    Over,
    /// It is past its way back.
    Impossible,
}

/// Begins to go back. The only maker of [`Stage::RollingBack`].
pub(super) fn begin(pass: &mut Pass, deployment: &mut Deployment, cause: Cause) -> Begun {
    if matches!(deployment.stage, Stage::RollingBack { .. }) {
        return Begun::Going;
    }
    if deployment.sides.is_none() {
        let verdict = cause.verdict(false);
        pass.end(deployment, verdict, cause.sentence(), None);
        return Begun::Over;
    }
    let Some(way_back) = deployment.way_back() else { return Begun::Impossible };
    if frozen::holds(deployment, &cause) {
        frozen::freeze(pass, deployment, cause);
        return Begun::Going;
    }
    deployment.frozen = None;
    promotion::gone_back(pass, deployment, &cause);
    pass.want_nothing_more();
    let running_hooks = deployment.hooks.values_mut().filter(|hook| hook.result.is_none());
    for hook in running_hooks {
        hook.cut_off("the deployment turned back".to_owned());
    }
    deployment.halted = None;
    deployment.trouble = None;
    deployment.blocked = None;
    pass.note(Some(deployment.number), Fact::RollbackStarted { cause: cause.clone() });
    let deadline = deployment.policy.deadlines.rollback.after(pass.now);
    let detail = format!("to {}", way_back.stable());
    pass.enter(deployment, Stage::RollingBack { way_back, cause, phase: RollbackPhase::start(), deadline }, detail);
    pass.look_again();
    Begun::Going
}

/// Where a rollback is: its way back, its cause, its phase, its deadline.
type Going<'a> = (&'a WayBack, &'a Cause, &'a RollbackPhase, Timestamp);

pub(super) fn rolling_back(
    pass: &mut Pass,
    deployment: &mut Deployment,
    snapshot: &Snapshot,
    going: Going<'_>,
) -> Flow {
    match going.2 {
        RollbackPhase::WeightsBack { .. } => weights_back(pass, deployment, snapshot, going),
        RollbackPhase::Draining { until } => {
            if pass.now < *until {
                hooks::stop(pass, deployment, snapshot);
                let slot = going.0.stable().other();
                return pass.wait(WaitingOn::Drain { slot, until: *until }, Seconds(15), *until);
            }
            to_phase(deployment, going, RollbackPhase::CandidateDown);
            Flow::Onward
        }
        RollbackPhase::CandidateDown => candidate_down(pass, deployment, snapshot, going),
    }
}

fn to_phase(deployment: &mut Deployment, (way_back, cause, _, deadline): Going<'_>, phase: RollbackPhase) {
    deployment.stage = Stage::RollingBack { way_back: way_back.clone(), cause: cause.clone(), phase, deadline };
}

/// A way back is followed to its end: where a rule is seen to send the candidate traffic again, the weights are put back
/// again, whoever has set them.
pub(super) fn put_back_again(pass: &mut Pass, deployment: &mut Deployment, snapshot: &Snapshot) {
    let Stage::RollingBack { way_back, cause, phase, deadline } = &deployment.stage else { return };
    let stable = way_back.stable();
    let astray = |rule: &Reading<RuleReading>| rule.known().is_some_and(|rule| rule.weights.only() != Some(stable));
    if matches!(phase, RollbackPhase::WeightsBack { .. }) || !snapshot.rules.iter().any(astray) {
        return;
    }
    let somebodys = foreign(pass, deployment, snapshot, stable.other()).is_some();
    if let Some(settled) = deployment.settles_at(pass.seen_at, pass.now).filter(|_| !somebodys) {
        // It may be what was so before the weights were put back; nothing is taken down while it is read.
        return pass.look_by(settled);
    }
    // It has its time again: what was undone has to be done once more.
    let deadline = (*deadline).max(deployment.policy.deadlines.rollback.after(pass.now));
    let (way_back, cause) = (way_back.clone(), cause.clone());
    deployment.stage = Stage::RollingBack { way_back, cause, phase: RollbackPhase::start(), deadline };
    pass.look_again();
}

/// Writes down which weights the way back replaces that are somebody else's, once for each.
fn note_replaced(pass: &mut Pass, deployment: &mut Deployment, snapshot: &Snapshot) {
    let Some(candidate) = deployment.candidate() else { return };
    let Some(found) = foreign(pass, deployment, snapshot, candidate) else { return };
    let number = deployment.number;
    let Stage::RollingBack { cause, phase: RollbackPhase::WeightsBack { replaced, .. }, .. } = &mut deployment.stage
    else {
        return;
    };
    if replaced.as_ref() != Some(&found) {
        *replaced = Some(found.clone());
        let cause = cause.sentence();
        pass.note(Some(number), Fact::ForeignWeightsReplaced { found, cause });
    }
}

/// The rules whose weights are not Switchback's own. A reading may be as old as the last writes: what it had set itself at
/// any time in this deployment is nobody else's.
fn foreign(pass: &Pass, deployment: &Deployment, snapshot: &Snapshot, candidate: Slot) -> Option<String> {
    let settled = deployment.settles_at(pass.seen_at, pass.now).is_none();
    let stable = Weights::share(candidate.other(), Percent::ALL);
    // A repair has written nothing yet: nothing here is another's.
    let record = deployment.weights?;
    let highest = [record.before, record.decided].map(|weights| weights.of(candidate)).into_iter().max().unwrap_or(0);
    let steps = deployment.policy.strategy.steps.iter().map(|step| Weights::share(candidate, step.traffic));
    let own: Vec<Weights> = [record.before, record.decided, stable]
        .into_iter()
        .chain(steps.filter(|weights| !settled && weights.of(candidate) <= highest))
        .collect();
    let left = if record.verified { record.decided } else { record.before };
    let rules = deployment.policy.pair.rules.iter().zip(&snapshot.rules);
    let found: Vec<String> = rules
        .filter_map(|(arn, rule)| Some((arn, rule.known()?)))
        .filter(|(_, rule)| !own.iter().any(|weights| rule.weights.same_split(*weights)))
        .map(|(arn, rule)| gates::described(arn, rule, left))
        .collect();
    (!found.is_empty()).then(|| found.join("; "))
}

/// The weights first: nothing of the candidate is touched before they were seen live on the stable side.
fn weights_back(pass: &mut Pass, deployment: &mut Deployment, snapshot: &Snapshot, going: Going<'_>) -> Flow {
    let (way_back, _, _, deadline) = going;
    let stable = way_back.stable();
    let wanted = Weights::share(stable, Percent::ALL);
    let decided = deployment.weights.is_some_and(|record| record.decided == wanted);
    let is_back = live_side(snapshot) == Some(stable);
    // A rule that was written a moment ago may still be read as it was: the way back is only believed once it was
    // written, with a yes, and then seen.
    let live = match gates::live(deployment, snapshot) {
        // Compared with what is wanted, not with what was decided last.
        _ if is_back && ((decided && !was_unheard(deployment)) || pass.now >= deadline) => Live::AsDecided,
        Live::Unknown(reason) => Live::Unknown(reason),
        _ => Live::NotYet,
    };
    deployment.traffic_moved |= gates::has_traffic(snapshot, stable.other());
    if let Live::AsDecided = live {
        if let Some(record) = &mut deployment.weights {
            if !record.verified || !decided {
                pass.note(Some(deployment.number), Fact::WeightsVerified { weights: wanted });
            }
            let before = if decided { record.before } else { record.decided };
            *record = WeightsRecord { before, decided: wanted, verified: true };
        }
        let phase = if deployment.may_drain() {
            RollbackPhase::Draining { until: deployment.policy.strategy.drain.after(pass.now) }
        } else {
            RollbackPhase::CandidateDown
        };
        to_phase(deployment, going, phase);
        return Flow::Onward;
    }
    let fitness = fitness(deployment, snapshot, stable);
    if pass.now >= deadline && gives_up(pass, deployment, going, &fitness) {
        let reason = match &fitness {
            Fitness::Unfit(reason) | Fitness::Unread(reason) => format!(": {reason}"),
            Fitness::Fit => {
                deployment.trouble.as_ref().map(|trouble| format!(": {}", trouble.reason)).unwrap_or_default()
            }
        };
        let_go(pass, deployment, format!("the weights could not be put back within the rollback's deadline{reason}"));
        return Flow::Onward;
    }
    // Past its deadline it goes on at the pace of its polls.
    let deadline = deadline.max(UNREAD_POLL.after(pass.now));
    match fitness {
        Fitness::Fit => deployment.blocked = None,
        Fitness::Unread(reason) => return pass.wait(WaitingOn::Reading { reason, deadline }, UNFIT_POLL, deadline),
        // Never from one side to another that cannot serve either. It is raised, and looked at until the deadline.
        Fitness::Unfit(reason) => {
            if deployment.blocked.as_deref() != Some(UNFIT) {
                pass.note(Some(deployment.number), Fact::WayBackUnfit { reason: reason.clone() });
                deployment.blocked = Some(UNFIT.to_owned());
            }
            if snapshot.side(stable).known().is_some_and(|side| side.desired < way_back.count()) {
                pass.want(Effect::SetDesired { slot: stable, desired: way_back.count() });
            }
            return pass.wait(WaitingOn::WayBack { reason, deadline }, UNFIT_POLL, deadline);
        }
    }
    note_replaced(pass, deployment, snapshot);
    if !decided {
        // A repair has decided nothing yet: what it finds there may be what a deployment before it has left.
        let found = || pass.state.traffic.as_ref()?.rules.iter().flatten().find(|weights| !weights.same_split(wanted));
        let before = deployment.weights.map_or_else(|| found().copied().unwrap_or(wanted), |record| record.decided);
        deployment.weights = Some(WeightsRecord { before, decided: wanted, verified: false });
        pass.note(Some(deployment.number), Fact::WeightsDecided { weights: wanted });
    }
    if let Live::Unknown(reason) = live {
        deployment.written_blind = true;
        pass.wait(WaitingOn::Reading { reason, deadline }, UNREAD_POLL, deadline);
    }
    pass.want(Effect::SetWeights { weights: wanted, seen: Vec::new() });
    pass.wait(WaitingOn::Weights { weights: wanted, deadline }, WEIGHTS_POLL, deadline)
}

/// Whether a way back whose deadline has passed is over. One that could be taken is not before it was tried; after that it
/// is tried on, since users are on a bad release, until AWS says no for good.
fn gives_up(pass: &Pass, deployment: &Deployment, going: Going<'_>, fitness: &Fitness) -> bool {
    let tried = matches!(going.2, RollbackPhase::WeightsBack { tries, .. } if *tries > 0);
    let refused = deployment.trouble.as_ref().is_some_and(|trouble| trouble.refused);
    !matches!(fitness, Fitness::Fit) || (tried && refused) || pass.now >= LONGEST_TRYING.after(going.3)
}

/// Whether what was borrowed is still to be given back though the time for it has passed: before it was tried, and, as
/// long as nothing waits for the target, until AWS says no for good.
fn keeps_trying(pass: &Pass, deployment: &Deployment, deadline: Timestamp) -> bool {
    let tried = deployment.tried_at.is_some_and(|at| at >= deployment.stage_entered_at);
    let refused = deployment.trouble.as_ref().is_some_and(|trouble| trouble.refused);
    let alone = pass.state.queued.is_empty() && !pass.left_over;
    (!tried || (!refused && alone)) && pass.now < LONGEST_TRYING.after(deadline)
}

/// Whether nobody knows what became of the last writing of weights: its answer was lost, or whoever wrote it has died.
fn was_unheard(deployment: &Deployment) -> bool {
    let pending = deployment.pending.iter().any(|effect| matches!(effect, Effect::SetWeights { .. }));
    pending || deployment.trouble.as_ref().is_some_and(|trouble| trouble.effect == "set_weights")
}

/// Whether the stable side can carry everything.
enum Fitness {
    Fit,
    /// Nothing of it serves, and the candidate may.
    Unfit(String),
    /// It was not well when it was read last, and cannot be read now.
    Unread(String),
}

fn fitness(deployment: &Deployment, snapshot: &Snapshot, stable: Slot) -> Fitness {
    let there = match snapshot.side(stable) {
        Reading::Known(there) => there,
        // It was seen unfit, or a repair brings it up: until it is seen well it is not.
        Reading::Unknown(reason) if deployment.blocked.is_some() || deployment.purpose == Purpose::Repair => {
            return Fitness::Unread(format!("{stable} could not be read: {reason}"));
        }
        // It was healthy when the deployment started, and the candidate is what is complained of.
        Reading::Unknown(_) => return Fitness::Fit,
    };
    let asleep = [stable, stable.other()].map(|slot| snapshot.side(slot).known().is_some_and(|side| side.desired == 0));
    if there.targets.healthy > 0 || asleep == [true, true] {
        // Where no task is wanted of either side, nothing is taken from anybody.
        return Fitness::Fit;
    }
    let evidence = |slot: Slot| match snapshot.side(slot) {
        Reading::Known(side) => format!(
            "{slot} has {} healthy of {} targets, {} of {} tasks running",
            side.targets.healthy,
            side.targets.registered(),
            side.running,
            side.desired
        ),
        Reading::Unknown(reason) => format!("{slot} could not be read: {reason}"),
    };
    Fitness::Unfit(format!("{}; {}", evidence(stable), evidence(stable.other())))
}

fn candidate_down(pass: &mut Pass, deployment: &mut Deployment, snapshot: &Snapshot, going: Going<'_>) -> Flow {
    let (way_back, cause, _, deadline) = going;
    let candidate = way_back.stable().other();
    let floor = deployment.borrowed.get(&candidate).map_or(0, |limits| limits.min);
    let still_up = snapshot.side(candidate).known().is_none_or(|side| side.desired > floor);
    let owes = still_up || !deployment.borrowed.is_empty();
    if pass.now >= deadline && !(owes && keeps_trying(pass, deployment, deadline)) {
        let what = format!(
            "{candidate} or what was borrowed could not be put back in time; look at {candidate} and at the autoscaling limits"
        );
        pass.note(Some(deployment.number), Fact::LeftBehind { what });
        return pass.end(deployment, cause.verdict(deployment.traffic_moved), cause.sentence(), Some(snapshot));
    }
    let deadline = deadline.max(UNREAD_POLL.after(pass.now));
    let Some(due) = schedules::limits_due(deployment, snapshot, pass.now) else {
        pass.look_again();
        return Flow::Wait;
    };
    let floor = due.limits.get(&candidate).map_or(0, |limits| limits.min);
    let mut missing = give_back(pass, deployment, snapshot, &due);
    missing.extend(hooks::stop(pass, deployment, snapshot));
    if let Some(before) = deployment.test_rule_before
        && let Some(wrong) = put_test_rule(pass, snapshot, before)
    {
        missing.push(wrong);
    }
    if let Some(waiting) = take_down(pass, deployment, snapshot, candidate, floor, deadline) {
        return waiting;
    }
    if !missing.is_empty() {
        return pass.wait(WaitingOn::GivingBack { what: missing.join(", "), deadline }, UNREAD_POLL, deadline);
    }
    if let Some(waiting) = unsettled(pass, deployment) {
        return waiting;
    }
    returned(pass, deployment, due);
    if live_side(snapshot) != Some(way_back.stable()) {
        return pass.wait(
            WaitingOn::Reading { reason: "the rules could not be read once more".to_owned(), deadline },
            UNREAD_POLL,
            deadline,
        );
    }
    pass.end(deployment, cause.verdict(deployment.traffic_moved), cause.sentence(), Some(snapshot))
}

/// Some: what was done a moment ago may still be read as it was before, and what is read last is what is recorded.
fn unsettled(pass: &mut Pass, deployment: &Deployment) -> Option<Flow> {
    let until = deployment.settles_at(pass.seen_at, pass.now)?;
    let reason = "it is read once more before this ends".to_owned();
    Some(pass.wait(WaitingOn::Settling { reason, until }, UNREAD_POLL, until))
}

/// Takes a side without traffic down to `floor` tasks. None: it is down.
fn take_down(
    pass: &mut Pass,
    deployment: &Deployment,
    snapshot: &Snapshot,
    slot: Slot,
    floor: u32,
    deadline: Timestamp,
) -> Option<Flow> {
    let side = match snapshot.side(slot) {
        Reading::Known(side) => side,
        Reading::Unknown(reason) => {
            let reason = format!("{slot} could not be read: {reason}");
            return Some(pass.wait(WaitingOn::Reading { reason, deadline }, UNREAD_POLL, deadline));
        }
    };
    if live_side(snapshot) != Some(slot.other()) {
        // Asked for again right before every scale-down: a side that may carry traffic is never taken down.
        let reason = format!("not every rule was seen without traffic for {slot}");
        return Some(pass.wait(WaitingOn::Reading { reason, deadline }, UNREAD_POLL, deadline));
    }
    if let Some(resumed) = deployment.resumed_at {
        let until = deployment.policy.strategy.drain.after(resumed);
        if pass.now < until {
            return Some(pass.wait(WaitingOn::Drain { slot, until }, STOPPING_POLL, until));
        }
    }
    if side.desired > floor {
        pass.want(Effect::SetDesired { slot, desired: floor });
    } else if side.running <= floor {
        return None;
    }
    Some(pass.wait(WaitingOn::Stopping { slot, running: side.running, deadline }, STOPPING_POLL, deadline))
}

/// Asks for autoscaling limits that are not as `wanted`; answers whose are not.
fn give_back(pass: &mut Pass, deployment: &Deployment, snapshot: &Snapshot, due: &LimitsDue) -> Vec<String> {
    let mut missing = due.unread.clone();
    for (slot, limits) in &due.limits {
        let service = &deployment.policy.pair.side(*slot).service;
        match snapshot.side(*slot) {
            Reading::Known(side) if side.autoscaling.is_none() || side.autoscaling == Some(*limits) => {}
            Reading::Known(_) => {
                pass.want(Effect::SetAutoscaling { slot: *slot, limits: *limits });
                missing.push(format!("autoscaling limits of {service}"));
            }
            Reading::Unknown(reason) => missing.push(format!("{service} could not be read: {reason}")),
        }
    }
    missing
}

fn returned(pass: &mut Pass, deployment: &mut Deployment, mut due: LimitsDue) {
    for (slot, limits) in due.limits {
        let scheduled = due.ran.remove(&slot).unwrap_or_default();
        let fact = Fact::AutoscalingReturned { slot, min: limits.min, max: limits.max, scheduled };
        pass.note(Some(deployment.number), fact);
    }
    for what in due.unclear {
        pass.note(Some(deployment.number), Fact::LeftBehind { what });
    }
    deployment.borrowed.clear();
}

fn put_test_rule(pass: &mut Pass, snapshot: &Snapshot, wanted: Weights) -> Option<String> {
    match &snapshot.test_rule {
        Some(Reading::Known(rule)) if rule.weights.same_split(wanted) => None,
        Some(Reading::Known(_)) => {
            pass.want(Effect::SetTestRule { weights: wanted });
            Some("the test rule".to_owned())
        }
        Some(Reading::Unknown(reason)) => Some(format!("the test rule could not be read: {reason}")),
        None => None,
    }
}

/// The old side: wait for the balancer, take it down, hand the autoscaling limits on with the role.
pub(super) fn retiring(
    pass: &mut Pass,
    deployment: &mut Deployment,
    snapshot: &Snapshot,
    phase: &RetirePhase,
    deadline: Timestamp,
) -> Flow {
    let Some(sides) = deployment.sides.clone() else {
        return pass.end(deployment, Verdict::Failed, "the record does not say which side is stable", Some(snapshot));
    };
    let (old, new) = (sides.stable, sides.stable.other());
    if pass.now >= deadline {
        let what =
            format!("{old} could not be taken down in time, or its autoscaling limits not put back; look at both");
        pass.note(Some(deployment.number), Fact::LeftBehind { what });
        return pass.end(deployment, Verdict::Succeeded, "all traffic is on the new release", Some(snapshot));
    }
    if let RetirePhase::Draining { until } = phase {
        if pass.now < *until {
            return pass.wait(WaitingOn::Drain { slot: old, until: *until }, Seconds(15), *until);
        }
        match gates::live(deployment, snapshot) {
            Live::AsDecided => {}
            Live::NotYet | Live::Unknown(_) => {
                let reason = "the rules could not be read once more before the old side goes down".to_owned();
                return pass.wait(WaitingOn::Reading { reason, deadline }, UNREAD_POLL, deadline);
            }
        }
        deployment.stage = Stage::Retiring { phase: RetirePhase::ScalingDown, deadline };
    }
    let Some(due) = schedules::limits_due(deployment, snapshot, pass.now) else {
        pass.look_again();
        return Flow::Wait;
    };
    let due = due.swapped();
    let floor = due.limits.get(&old).map_or(0, |limits| limits.min);
    let missing = give_back(pass, deployment, snapshot, &due);
    if let Some(waiting) = take_down(pass, deployment, snapshot, old, floor, deadline) {
        return waiting;
    }
    if !missing.is_empty() {
        return pass.wait(WaitingOn::GivingBack { what: missing.join(", "), deadline }, UNREAD_POLL, deadline);
    }
    if let Some(waiting) = unsettled(pass, deployment) {
        return waiting;
    }
    returned(pass, deployment, due);
    let reason = match deployment.purpose {
        Purpose::Deploy => format!("all traffic is on {new}"),
        Purpose::Rollback | Purpose::Repair => format!("all traffic is back on {}", deployment.release.tag),
    };
    pass.end(deployment, Verdict::Succeeded, reason, Some(snapshot))
}

/// Somebody edited a rule while the old side stops, and that side is seen with traffic: its tasks are started again, so that it
/// can serve what it is given. Where the policy says so, the weights also go back to the side that was verified. Nothing is
/// scaled down before the rule is as it was.
pub(super) fn keep_up(pass: &mut Pass, deployment: &Deployment, snapshot: &Snapshot) {
    let (Stage::Retiring { phase: RetirePhase::ScalingDown, .. }, Some(sides)) = (&deployment.stage, &deployment.sides)
    else {
        return;
    };
    let old = sides.stable;
    if !gates::has_traffic(snapshot, old) {
        return;
    }
    if snapshot.side(old).known().is_some_and(|side| side.desired < sides.stable_count) {
        pass.want(Effect::SetDesired { slot: old, desired: sides.stable_count });
    }
    let serves = snapshot.side(old.other()).known().is_some_and(|side| side.targets.healthy > 0);
    if serves
        && deployment.policy.drift == Drift::Revert
        && let Some(record) = &deployment.weights
    {
        pass.want(Effect::SetWeights { weights: record.decided, seen: Vec::new() });
    }
}

/// Gives up on the rules: somebody else holds them, or they cannot be written. Both sides stay up.
pub(super) fn let_go(pass: &mut Pass, deployment: &mut Deployment, reason: String) {
    let deadline = LETTING_GO.after(pass.now);
    pass.enter(deployment, Stage::LettingGo { reason: reason.clone(), deadline }, reason);
}

pub(super) fn letting_go(
    pass: &mut Pass,
    deployment: &mut Deployment,
    snapshot: &Snapshot,
    reason: &str,
    deadline: Timestamp,
) -> Flow {
    let Some(due) = schedules::limits_due(deployment, snapshot, pass.now) else {
        pass.look_again();
        return Flow::Wait;
    };
    let mut missing = give_back(pass, deployment, snapshot, &due);
    if let Some(before) = deployment.test_rule_before
        && let Some(wrong) = put_test_rule(pass, snapshot, before)
    {
        missing.push(wrong);
    }
    if !missing.is_empty() && (pass.now < deadline || keeps_trying(pass, deployment, deadline)) {
        let deadline = deadline.max(UNREAD_POLL.after(pass.now));
        return pass.wait(WaitingOn::GivingBack { what: missing.join(", "), deadline }, UNREAD_POLL, deadline);
    }
    if let Some(waiting) = unsettled(pass, deployment) {
        return waiting;
    }
    if missing.is_empty() {
        returned(pass, deployment, due);
    } else {
        pass.note(Some(deployment.number), Fact::LeftBehind { what: missing.join(", ") });
    }
    let what = "both sides are left running, and the rules as they are".to_owned();
    pass.note(Some(deployment.number), Fact::LeftBehind { what });
    pass.end(deployment, Verdict::Failed, reason, Some(snapshot))
}
