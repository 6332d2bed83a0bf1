//! The rules: one function per gate. A new one is a line of [`RULES`] and a function here.

use super::train::{self, TrainVerification};
use super::{GateInput, GateResult, ImageState};
use crate::brake::Scope;
use crate::calendar;
use crate::command::{PlanId, Vote};
use crate::entry::{After, ApprovalDefault, Gate, Person};
use crate::names::{Actor, Name};
use crate::refusal::CommandRefusal;
use crate::snapshot::Reading;
use crate::verdict::Verdict;
use jiff::Timestamp;

/// A rule evaluates one gate.
pub type GateRule = fn(&GateInput<'_>) -> GateResult;

/// Every gate and its rule, in display order. Overrides and hotfix skips are applied by the caller, not by the rules.
pub const RULES: [(Gate, GateRule); 10] = [
    (Gate::Image, image),
    (Gate::StopTheLine, stop_the_line),
    (Gate::Freeze, freeze),
    (Gate::After, after),
    (Gate::Soak, soak),
    (Gate::Train, train_order),
    (Gate::Approval, approval),
    (Gate::Window, window),
    (Gate::OneAtATime, one_at_a_time),
    (Gate::Asleep, asleep),
];

const OPEN: GateResult = GateResult::Open(None);

/// Why a deployment waits while its service is at 0 tasks.
pub(crate) const ASLEEP: &str = "the service is asleep, at 0 tasks: the release goes out when it wakes";

fn waits(reason: impl Into<String>, until: Option<Timestamp>) -> GateResult {
    GateResult::Waits { reason: reason.into(), until }
}

// --- the image ---

/// An image that could not be read does not close the gate: the deployment reports it where its tasks cannot start.
fn image(gate_input: &GateInput<'_>) -> GateResult {
    let read = gate_input.gate_context.and_then(|gate_context| gate_context.images.get(&gate_input.release.digest));
    let Some(Reading::Known(state)) = read else { return OPEN };
    match (state, state.start_blocker()) {
        (ImageState::Gone, Some(reason)) => GateResult::Never { reason: reason.to_owned(), verdict: Verdict::Failed },
        (_, Some(reason)) => waits(reason, None),
        (_, None) => OPEN,
    }
}

// --- brakes and freezes ---

fn stop_the_line(gate_input: &GateInput<'_>) -> GateResult {
    held_by_brake(gate_input, |scope| matches!(scope, Scope::Everything), "the line is stopped")
}

fn freeze(gate_input: &GateInput<'_>) -> GateResult {
    if let Some(freeze) = gate_input.operator_hold {
        let reason =
            format!("the target awaits an operator since deployment #{}: {}", freeze.deployment, freeze.reason);
        return waits(reason, None);
    }
    let rules = &gate_input.applied.entry.rules;
    if let Some((until, reason)) = calendar::frozen_until(rules, gate_input.now) {
        return waits(format!("the policy's freeze: {reason}"), Some(until));
    }
    held_by_brake(gate_input, |scope| !matches!(scope, Scope::Everything), "frozen")
}

fn held_by_brake(gate_input: &GateInput<'_>, of: impl Fn(&Scope) -> bool, what: &str) -> GateResult {
    let brakes = match gate_input.gate_context.map(|gate_context| &gate_context.brakes) {
        Some(Reading::Known(brakes)) => brakes,
        Some(Reading::Unknown(reason)) => return waits(format!("freezes could not be read: {reason}"), None),
        None => return waits("freezes were not read yet", None),
    };
    let on = brakes.iter().find(|brake| of(&brake.scope) && brake.holds(gate_input.target, gate_input.now));
    match on {
        Some(brake) => waits(format!("{what} by {}: {}", brake.by, brake.reason), brake.until),
        None => OPEN,
    }
}

// --- the order of environments ---

/// The upstream environments, and since when each has verified the release. Outer none: that target was not read.
fn upstream<'q>(gate_input: &GateInput<'q>) -> Vec<(&'q Name, Option<Option<Timestamp>>)> {
    let digest = &gate_input.release.digest;
    let before = gate_input.applied.entry.rules.after.iter().flat_map(|after| after.environments());
    before
        .map(|environment| {
            let seen = gate_input.related(&gate_input.target.service, environment);
            (environment, seen.map(|neighbour| neighbour.verified_since(digest)))
        })
        .collect()
}

fn after(gate_input: &GateInput<'_>) -> GateResult {
    let Some(after) = &gate_input.applied.entry.rules.after else { return OPEN };
    let seen = upstream(gate_input);
    let names = |wanted: fn(Option<Option<Timestamp>>) -> bool| {
        let names: Vec<&str> = seen.iter().filter(|(_, since)| wanted(*since)).map(|(name, _)| name.as_str()).collect();
        names.join(", ")
    };
    let verified = seen.iter().filter(|(_, since)| matches!(since, Some(Some(_)))).count();
    let unread = names(|since| since.is_none());
    let missing = names(|since| since == Some(None));
    match after {
        After::All(_) if verified == seen.len() => train_upstream(gate_input),
        After::Any(_) if verified > 0 => train_upstream(gate_input),
        _ if !unread.is_empty() => waits(format!("what {unread} has verified was not read yet"), None),
        After::All(_) => {
            never(format!("it is not verified in {missing}: deploy it there first, until its bake is over"))
        }
        After::Any(_) => never(format!(
            "it is verified in none of {missing}: deploy it in one of them first, until its bake is over"
        )),
    }
}

/// A train is promoted as a whole: when all of it is verified.
fn train_upstream(gate_input: &GateInput<'_>) -> GateResult {
    match train::upstream(gate_input) {
        TrainVerification::Verified => OPEN,
        TrainVerification::Awaited(services) => {
            let names: Vec<&str> = services.into_iter().map(Name::as_str).collect();
            waits(format!("{} of its train is not verified yet", names.join(", ")), None)
        }
        TrainVerification::Failed(service) => never(format!("{service} of its train was not verified before")),
    }
}

fn never(reason: String) -> GateResult {
    GateResult::Never { reason, verdict: Verdict::Failed }
}

fn soak(gate_input: &GateInput<'_>) -> GateResult {
    let rules = &gate_input.applied.entry.rules;
    let Some(after) = &rules.after else { return OPEN };
    let ends = upstream(gate_input).into_iter().map(|(_, since)| since.flatten().map(|since| rules.soak.after(since)));
    let end = match after {
        // `All`: the last soak to end counts; `Any`: the first.
        After::All(_) => ends.collect::<Option<Vec<_>>>().and_then(|ends| ends.into_iter().max()),
        After::Any(_) => ends.flatten().min(),
    };
    match end {
        // Not verified: [`after`] reports that.
        None => OPEN,
        Some(end) if gate_input.now < end => waits(format!("verified for less than {}", rules.soak), Some(end)),
        Some(_) => OPEN,
    }
}

// --- release trains ---

fn train_order(gate_input: &GateInput<'_>) -> GateResult {
    let Some(train) = &gate_input.options.train else { return OPEN };
    let mut missing = Vec::new();
    for (service, digest) in &train.members {
        if !gate_input.applied.entry.depends_on.contains(service) {
            continue;
        }
        let seen = gate_input.related(service, &gate_input.target.environment);
        let there =
            seen.is_some_and(|seen| seen.verified_since(digest).is_some() || seen.stable.as_ref() == Some(digest));
        if !there {
            missing.push(service.as_str());
        }
    }
    if missing.is_empty() { OPEN } else { waits(format!("its train brings {} first", missing.join(", ")), None) }
}

// --- the other services of the environment ---

/// A lock that is free may be taken by another service meanwhile: the ledger decides, when the decision is written.
fn one_at_a_time(gate_input: &GateInput<'_>) -> GateResult {
    let entry = &gate_input.applied.entry;
    let mut first = Vec::new();
    for service in &entry.neighbours {
        let Some(neighbour) = gate_input.related(service, &gate_input.target.environment) else {
            return waits(format!("whether {service} is being deployed was not read yet"), None);
        };
        if let Some(number) = neighbour.holds_lock {
            let reason = format!(
                "{service} is being deployed (deployment #{number}), and this environment deploys one service at a time"
            );
            return waits(reason, None);
        }
        if neighbour.waits_for_lock && entry.depends_on.contains(service) {
            first.push(service.as_str());
        }
    }
    if first.is_empty() {
        OPEN
    } else {
        waits(format!("{} goes first: this service depends on it", first.join(", ")), None)
    }
}

// --- people ---

/// Who may still approve: approvers other than the requester who have not voted yet.
pub fn eligible_approvers<'q>(gate_input: &GateInput<'q>) -> Vec<&'q Name> {
    let approvers = gate_input.applied.entry.approvers.iter();
    approvers
        .filter(|(name, person)| !is_requester(gate_input.requester, name, person))
        .map(|(name, _)| name)
        .filter(|name| !has_approved(gate_input, name))
        .collect()
}

/// The votes that count: of people who may approve now, and whose entry in the policy still matches the identity that
/// was authenticated when they voted. A vote does not count once its name was given to another person, or its account
/// was taken from that person.
pub fn valid_votes<'q>(gate_input: &GateInput<'q>) -> Vec<&'q Vote> {
    let counts = |vote: &&Vote| {
        let person = gate_input.applied.entry.approvers.get(&vote.person);
        person.is_some_and(|person| {
            person.is(&vote.person, &vote.actor) && !is_requester(gate_input.requester, &vote.person, person)
        })
    };
    gate_input.gates.votes.iter().filter(counts).collect()
}

/// The approver that `actor` is, by the policy's name.
///
/// # Errors
/// Why `actor` may not approve.
pub fn approver<'q>(gate_input: &GateInput<'q>, actor: &Actor) -> Result<&'q Name, CommandRefusal> {
    let known = gate_input.applied.entry.approvers.iter().find(|(name, person)| person.is(name, actor));
    let Some((name, person)) = known else {
        return Err(CommandRefusal::NotAnApprover { actor: actor.clone() });
    };
    if is_requester(gate_input.requester, name, person) || actor == gate_input.requester {
        return Err(CommandRefusal::RequesterApproves { person: name.clone() });
    }
    Ok(name)
}

/// Whether an approval or rejection of a plan is accepted: the approver's name in the policy, and how many approvals
/// are needed.
///
/// # Errors
/// Why it is not accepted.
pub fn validate_approval_decision(
    gate_input: &GateInput<'_>,
    plan: &PlanId,
    actor: &Actor,
    yes: bool,
) -> Result<(Name, u8), CommandRefusal> {
    let Some(policy) = &gate_input.applied.entry.rules.approval else {
        let environment = gate_input.target.environment.clone();
        return Err(CommandRefusal::NoApprovalNeeded { environment });
    };
    let name = approver(gate_input, actor)?;
    if &gate_input.gates.plan != plan {
        return Err(CommandRefusal::PlanChanged);
    }
    let Some(requested_at) = gate_input.gates.requested_at else {
        return Err(match train::asked_by(gate_input) {
            Some(lead) => CommandRefusal::AskedWithTrain { lead: lead.clone() },
            None => CommandRefusal::NotRequestedYet,
        });
    };
    if gate_input.now >= policy.expires.after(requested_at) {
        return Err(CommandRefusal::ApprovalExpired { after: policy.expires });
    }
    if yes && has_approved(gate_input, name) {
        return Err(CommandRefusal::AlreadyApproved { person: name.clone() });
    }
    Ok((name.clone(), policy.required))
}

/// Whether the deployment asks for approval by itself: it is not approved with its train.
#[must_use]
pub fn asks_for_itself(gate_input: &GateInput<'_>) -> bool {
    train::asked_by(gate_input).is_none()
}

/// Whether this approver already has a valid vote.
#[must_use]
pub fn has_approved(gate_input: &GateInput<'_>, name: &Name) -> bool {
    valid_votes(gate_input).iter().any(|vote| &vote.person == name)
}

fn is_requester(requester: &Actor, name: &Name, person: &Person) -> bool {
    person.is(name, requester)
}

/// Whether approval is requested now: only once the image, order and soak gates are open.
#[must_use]
pub fn is_ready_for_approval(gate_results: &super::GateResults) -> bool {
    [Gate::Image, Gate::After, Gate::Soak]
        .iter()
        .all(|gate| matches!(gate_results.of(*gate), Some(GateResult::Open(_)) | None))
}

fn approval(gate_input: &GateInput<'_>) -> GateResult {
    let Some(policy) = &gate_input.applied.entry.rules.approval else { return OPEN };
    let votes = valid_votes(gate_input).len();
    if votes >= usize::from(policy.required) {
        return OPEN;
    }
    let missing_approvals = format!("{votes} of {} approvals", policy.required);
    if let (Some(lead), ApprovalDefault::Approve) = (&gate_input.gates.approved_with, policy.default) {
        return GateResult::Open(Some(format!("approved with its train, of which {lead} asked for all")));
    }
    if let Some(lead) = train::asked_by(gate_input) {
        return waits(
            format!("{missing_approvals}; it is approved with its train, and {lead} asks for all of it"),
            None,
        );
    }
    let Some(requested_at) = gate_input.gates.requested_at else {
        return waits(format!("{missing_approvals}; nobody was asked yet"), None);
    };
    let expires = policy.expires.after(requested_at);
    if gate_input.now < expires {
        return waits(missing_approvals, Some(expires));
    }
    match policy.default {
        ApprovalDefault::Reject => GateResult::Never {
            reason: format!("{missing_approvals} within {}, and silence is taken for a no", policy.expires),
            verdict: Verdict::Expired,
        },
        ApprovalDefault::Approve => GateResult::Open(Some(format!(
            "{missing_approvals} within {}, and silence is taken for a yes",
            policy.expires
        ))),
    }
}

// --- the clock ---

fn window(gate_input: &GateInput<'_>) -> GateResult {
    let rules = &gate_input.applied.entry.rules;
    match calendar::window_state(rules, gate_input.now) {
        calendar::WindowState::Now => OPEN,
        calendar::WindowState::At(at) => waits("outside of the deploy windows", Some(at)),
        calendar::WindowState::Never(reason) => waits(reason, None),
    }
}

// --- the service itself ---

fn asleep(gate_input: &GateInput<'_>) -> GateResult {
    if gate_input.asleep { waits(ASLEEP, None) } else { OPEN }
}
