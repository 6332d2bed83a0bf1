//! The rules: one function a gate. A new one is a line of [`RULES`] and a function here.

use super::calendar;
use super::{ImageState, Opinion, Question};
use crate::brake::Scope;
use crate::command::PlanId;
use crate::entry::{After, ApprovalDefault, Gate, Person};
use crate::names::{Actor, Name, TargetId};
use crate::snapshot::Reading;
use crate::stage::Verdict;
use crate::target::Vote;
use jiff::Timestamp;

/// A rule: what it says to the question.
pub type Rule = fn(&Question<'_>) -> Opinion;

/// Every gate and its rule, in the order in which people want to read them. Which gates a hotfix or a person may pass by
/// is not the rules' concern.
pub const RULES: [(Gate, Rule); 9] = [
    (Gate::Image, image),
    (Gate::StopTheLine, stop_the_line),
    (Gate::Freeze, freeze),
    (Gate::After, after),
    (Gate::Soak, soak),
    (Gate::Train, train),
    (Gate::Approval, approval),
    (Gate::Window, window),
    (Gate::Asleep, asleep),
];

const OPEN: Opinion = Opinion::Open(None);

/// Why a deployment waits while both sides of its service are at 0 tasks.
pub(crate) const ASLEEP: &str = "the service is asleep, both sides are at 0 tasks: the release goes out when it wakes";

fn waits(reason: impl Into<String>, until: Option<Timestamp>) -> Opinion {
    Opinion::Waits { reason: reason.into(), until }
}

// --- the image ---

/// What could not be read is not held against it: the deployment says so where its tasks cannot start.
fn image(question: &Question<'_>) -> Opinion {
    let read = question.around.and_then(|around| around.images.get(&question.release.digest));
    let Some(Reading::Known(state)) = read else { return OPEN };
    match (state, state.against_starting()) {
        (ImageState::Gone, Some(reason)) => Opinion::Never { reason: reason.to_owned(), verdict: Verdict::Failed },
        (_, Some(reason)) => waits(reason, None),
        (_, None) => OPEN,
    }
}

// --- brakes and freezes ---

fn stop_the_line(question: &Question<'_>) -> Opinion {
    braked(question, |scope| matches!(scope, Scope::Everything), "the line is stopped")
}

fn freeze(question: &Question<'_>) -> Opinion {
    if let Some(freeze) = question.frozen {
        return waits(format!("the target is frozen since deployment #{}: {}", freeze.deployment, freeze.reason), None);
    }
    let rules = &question.applied.entry.rules;
    if let Some((until, reason)) = calendar::frozen_until(rules, question.now) {
        return waits(format!("the policy's freeze: {reason}"), Some(until));
    }
    braked(question, |scope| !matches!(scope, Scope::Everything), "frozen")
}

fn braked(question: &Question<'_>, of: impl Fn(&Scope) -> bool, what: &str) -> Opinion {
    let brakes = match question.around.map(|around| &around.brakes) {
        Some(Reading::Known(brakes)) => brakes,
        Some(Reading::Unknown(reason)) => return waits(format!("freezes could not be read: {reason}"), None),
        None => return waits("freezes were not read yet", None),
    };
    let on = brakes.iter().find(|brake| of(&brake.scope) && brake.holds(question.target, question.now));
    match on {
        Some(brake) => waits(format!("{what} by {}: {}", brake.by, brake.reason), brake.until),
        None => OPEN,
    }
}

// --- the order of environments ---

/// What the environments before this one say of the release.
fn upstream<'q>(question: &Question<'q>) -> Vec<(&'q Name, Option<Option<Timestamp>>)> {
    let digest = &question.release.digest;
    let before = question.applied.entry.rules.after.iter().flat_map(|after| after.environments());
    before
        .map(|environment| {
            let id = TargetId { environment: environment.clone(), ..question.target.clone() };
            let seen = question.around.and_then(|around| around.neighbours.get(&id));
            (environment, seen.map(|neighbour| neighbour.verified_since(digest)))
        })
        .collect()
}

fn after(question: &Question<'_>) -> Opinion {
    let Some(after) = &question.applied.entry.rules.after else { return OPEN };
    let seen = upstream(question);
    let names = |wanted: fn(Option<Option<Timestamp>>) -> bool| {
        let names: Vec<&str> = seen.iter().filter(|(_, since)| wanted(*since)).map(|(name, _)| name.as_str()).collect();
        names.join(", ")
    };
    let verified = seen.iter().filter(|(_, since)| matches!(since, Some(Some(_)))).count();
    let unread = names(|since| since.is_none());
    let missing = names(|since| since == Some(None));
    match after {
        After::All(_) if verified == seen.len() => OPEN,
        After::Any(_) if verified > 0 => OPEN,
        _ if !unread.is_empty() => waits(format!("what {unread} has verified was not read yet"), None),
        After::All(_) => {
            never(format!("it is not verified in {missing}: deploy it there first, until its bake is over"))
        }
        After::Any(_) => never(format!(
            "it is verified in none of {missing}: deploy it in one of them first, until its bake is over"
        )),
    }
}

fn never(reason: String) -> Opinion {
    Opinion::Never { reason, verdict: Verdict::Failed }
}

fn soak(question: &Question<'_>) -> Opinion {
    let rules = &question.applied.entry.rules;
    let Some(after) = &rules.after else { return OPEN };
    let ends = upstream(question).into_iter().map(|(_, since)| since.flatten().map(|since| rules.soak.after(since)));
    let end = match after {
        // Of several, the last one counts; of one of several, the first.
        After::All(_) => ends.collect::<Option<Vec<_>>>().and_then(|ends| ends.into_iter().max()),
        After::Any(_) => ends.flatten().min(),
    };
    match end {
        // Not verified: that is the other rule's to say.
        None => OPEN,
        Some(end) if question.now < end => waits(format!("verified for less than {}", rules.soak), Some(end)),
        Some(_) => OPEN,
    }
}

// --- release trains ---

fn train(question: &Question<'_>) -> Opinion {
    let Some(train) = &question.terms.train else { return OPEN };
    let mut missing = Vec::new();
    for (service, digest) in &train.members {
        if !question.applied.entry.depends_on.contains(service) {
            continue;
        }
        let id = TargetId { service: service.clone(), ..question.target.clone() };
        let seen = question.around.and_then(|around| around.neighbours.get(&id));
        let there =
            seen.is_some_and(|seen| seen.verified_since(digest).is_some() || seen.stable.as_ref() == Some(digest));
        if !there {
            missing.push(service.as_str());
        }
    }
    if missing.is_empty() { OPEN } else { waits(format!("its train brings {} first", missing.join(", ")), None) }
}

// --- people ---

/// Who may say yes, and did not.
pub fn may_approve<'q>(question: &Question<'q>) -> Vec<&'q Name> {
    let approvers = question.applied.entry.approvers.iter();
    approvers
        .filter(|(name, person)| !asked_for_it(question.requester, name, person))
        .map(|(name, _)| name)
        .filter(|name| !has_said_yes(question, name))
        .collect()
}

/// The votes that count: of people who may approve now, and are still whom the door has proven when they said it. A name
/// that was given to somebody else, or an account that was taken from somebody, does not speak for them.
pub fn counted<'q>(question: &Question<'q>) -> Vec<&'q Vote> {
    let counts = |vote: &&Vote| {
        let person = question.applied.entry.approvers.get(&vote.person);
        person.is_some_and(|person| {
            person.is(&vote.person, &vote.actor) && !asked_for_it(question.requester, &vote.person, person)
        })
    };
    question.gates.votes.iter().filter(counts).collect()
}

/// Whether `actor` may approve, and by which name; else what to tell them.
///
/// # Errors
/// Why not, for the person.
pub fn approver<'q>(question: &Question<'q>, actor: &Actor) -> Result<&'q Name, String> {
    let known = question.applied.entry.approvers.iter().find(|(name, person)| person.is(name, actor));
    let Some((name, person)) = known else {
        return Err(format!("{actor} is none of those who may approve here"));
    };
    if asked_for_it(question.requester, name, person) || actor == question.requester {
        return Err(format!("{name} asked for this deployment, and whoever asks does not approve"));
    }
    Ok(name)
}

/// Whether an answer to a plan is taken: whose it is, by the policy's name, and how many approvals are needed.
///
/// # Errors
/// Why it is not, for the person who gave it.
pub fn answerable(question: &Question<'_>, plan: &PlanId, actor: &Actor, yes: bool) -> Result<(Name, u8), String> {
    let Some(policy) = &question.applied.entry.rules.approval else {
        return Err("no approval is needed here".to_owned());
    };
    let name = approver(question, actor)?;
    if &question.gates.plan != plan {
        return Err("the plan has changed since that was asked: look at the present one".to_owned());
    }
    let Some(asked_at) = question.gates.asked_at else {
        return Err("it is not asked for yet: the release has not passed the gates before".to_owned());
    };
    if question.now >= policy.expires.after(asked_at) {
        return Err(format!("the time for it ({}) is over", policy.expires));
    }
    if yes && has_said_yes(question, name) {
        return Err(format!("{name} has approved already"));
    }
    Ok((name.clone(), policy.required))
}

/// Whether a yes of theirs counts already.
#[must_use]
pub fn has_said_yes(question: &Question<'_>, name: &Name) -> bool {
    counted(question).iter().any(|vote| &vote.person == name)
}

fn asked_for_it(requester: &Actor, name: &Name, person: &Person) -> bool {
    person.is(name, requester)
}

/// Whether people are asked now: not before the release may come here at all.
#[must_use]
pub fn asks_people(ruling: &super::Ruling) -> bool {
    [Gate::Image, Gate::After, Gate::Soak].iter().all(|gate| matches!(ruling.of(*gate), Some(Opinion::Open(_)) | None))
}

fn approval(question: &Question<'_>) -> Opinion {
    let Some(policy) = &question.applied.entry.rules.approval else { return OPEN };
    let votes = counted(question).len();
    if votes >= usize::from(policy.required) {
        return OPEN;
    }
    let lacks = format!("{votes} of {} approvals", policy.required);
    let Some(asked_at) = question.gates.asked_at else { return waits(format!("{lacks}; nobody was asked yet"), None) };
    let expires = policy.expires.after(asked_at);
    if question.now < expires {
        return waits(lacks, Some(expires));
    }
    match policy.default {
        ApprovalDefault::Reject => Opinion::Never {
            reason: format!("{lacks} within {}, and silence is taken for a no", policy.expires),
            verdict: Verdict::Expired,
        },
        ApprovalDefault::Approve => {
            Opinion::Open(Some(format!("{lacks} within {}, and silence is taken for a yes", policy.expires)))
        }
    }
}

// --- the clock ---

fn window(question: &Question<'_>) -> Opinion {
    let rules = &question.applied.entry.rules;
    match calendar::opens_at(rules, question.now) {
        calendar::Opens::Now => OPEN,
        calendar::Opens::At(at) => waits("outside of the deploy windows", Some(at)),
        calendar::Opens::Never(reason) => waits(reason, None),
    }
}

// --- the service itself ---

fn asleep(question: &Question<'_>) -> Opinion {
    if question.asleep { waits(ASLEEP, None) } else { OPEN }
}
