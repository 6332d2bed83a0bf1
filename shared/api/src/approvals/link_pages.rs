//! The two pages behind a signed link. GET shows the first: the deployment and two buttons; fetching it, for instance by a mail
//! scanner, decides nothing. The second confirms the decision made by POST.

use super::{ApprovalDecision, ApprovalSubmission, DeduplicationKey, clean_reason, load_target, submit_decision};
use crate::approval_links::{self, Link};
use crate::command_service::ApprovalLedger;
use crate::{CommandService, Refusal};
use engine::ports::{Clock, WakeQueue};
use rollout::entry::MAIL_PREFIX;
use rollout::explanation::WaitingOn;
use rollout::policy::AppliedTarget;
use rollout::promotion::rules;
use rollout::promotion::waiting_gate_input;
use rollout::{Actor, Name};
use view::approval_page::{self, ApprovalPrompt};

pub use view::approval_page::CSP;

/// Maximum size of a form, in bytes: the longest reason with every byte percent-encoded.
pub const MAX_FORM_BYTES: usize = 16 * 1024;

/// An HTML response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// HTTP status code.
    pub status: u16,
    /// The HTML document.
    pub html: String,
}

impl Page {
    /// The page for every caller without a valid link.
    #[must_use]
    pub fn unauthenticated() -> Self {
        let text =
            "This link is not valid. If you were asked for an approval, use the whole link from the newest mail.";
        Self { status: 403, html: approval_page::message("Nothing to see here", text, false) }
    }

    /// The page for the holder of an expired link.
    #[must_use]
    pub fn expired(link: &Link) -> Self {
        let text = format!("The time to answer deployment #{} of {} is over.", link.deployment, link.target);
        Self { status: 410, html: approval_page::message("Too late", &text, false) }
    }

    /// The page for when a dependency did not respond.
    #[must_use]
    pub fn unavailable() -> Self {
        let text = "Nothing was decided: what is needed could not be read. Try again in a minute.";
        Self { status: 503, html: approval_page::message("Try again", text, false) }
    }

    fn refused(refusal: &Refusal) -> Self {
        if refusal.status >= 500 {
            return Self::unavailable();
        }
        let text = sentence(&refusal.message);
        Self { status: refusal.status, html: approval_page::message("Not taken", &text, false) }
    }
}

/// A refusal's message as a sentence. A leading identity (`mail:ada`) keeps its case.
fn sentence(words: &str) -> String {
    let words = words.trim_end_matches('.');
    let first = words.split(' ').next().unwrap_or_default();
    if !first.chars().all(char::is_alphabetic) {
        return format!("{words}.");
    }
    let mut letters = words.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    format!("{first}{}.", letters.as_str())
}

/// The actor for the holder of a link.
#[must_use]
pub fn link_actor(person: &Name) -> Actor {
    Actor::Person { name: format!("{MAIL_PREFIX}{person}") }
}

/// Shows the approval form with the present state. Writes nothing, not even a refusal.
pub async fn show<L: ApprovalLedger, D: WakeQueue, K: Clock>(
    command_service: &CommandService<'_, L, D, K>,
    link: &Link,
) -> Page {
    let (applied, state) = match load_target(command_service, &link.target).await {
        Ok(loaded) => loaded,
        Err(refusal) => return Page::refused(&refusal),
    };
    if let Some(refusal) = check_topic(&applied, link) {
        return Page::refused(&refusal);
    }
    let now = command_service.clock.now();
    let actor = link_actor(&link.person);
    // A rejection is valid the longest: a person who approved can still reject.
    let looked_at = to_submission(link, &actor, ApprovalDecision::Reject, "");
    match super::validate(command_service, &state, &applied, &looked_at, now).await {
        Ok(Ok(_)) => {}
        Ok(Err(refusal)) => return Page::refused(&Refusal::of_command(&link.target, &refusal)),
        Err(refusal) => return Page::refused(&refusal),
    }
    let (Some(running), Some(gate_input)) = (&state.running, waiting_gate_input(&state, &applied, None, now)) else {
        return Page::unavailable();
    };
    let policy = applied.entry.rules.approval.as_ref();
    let approved: Vec<&Name> = rules::valid_votes(&gate_input).into_iter().map(|vote| &vote.person).collect();
    let others = state.explanation.waiting_on.iter().filter(|on| !matches!(on, WaitingOn::Approval { .. }));
    let prompt = ApprovalPrompt {
        person: &link.person,
        target: &link.target,
        deployment: running,
        plan: &link.plan,
        replaces: state.stable.as_ref().and_then(|stable| stable.release.as_ref()),
        has_approved: approved.contains(&&link.person),
        approved: &approved,
        required: policy.map_or(0, |policy| policy.required),
        expires: link.expires,
        also_waiting_for: &others.collect::<Vec<_>>(),
        now,
    };
    Page { status: 200, html: approval_page::prompt(&prompt) }
}

/// Processes the submitted form: `decision` is `approve` or `reject`, `reason` is free text.
pub async fn decide<L: ApprovalLedger, D: WakeQueue, K: Clock>(
    command_service: &CommandService<'_, L, D, K>,
    link: &Link,
    form: &[u8],
) -> Page {
    let Some((decision, reason)) = read_form(form) else {
        let text = "Press one of the two buttons of the page that the link shows.";
        return Page { status: 400, html: approval_page::message("Nothing was decided", text, false) };
    };
    let actor = link_actor(&link.person);
    match load_target(command_service, &link.target).await.map(|(applied, _)| check_topic(&applied, link)) {
        Ok(None) => {}
        Ok(Some(refusal)) => {
            command_service.note_refusal("link", &link.target, decision.name(), &actor, &refusal.message).await;
            return Page::refused(&refusal);
        }
        Err(refusal) => return Page::refused(&refusal),
    }
    match submit_decision(command_service, &to_submission(link, &actor, decision, &reason)).await {
        Ok(taken) => {
            let title = if decision == ApprovalDecision::Approve { "Approved" } else { "Rejected" };
            Page { status: 200, html: approval_page::message(title, &taken.sentence(), true) }
        }
        Err(refusal) => Page::refused(&refusal),
    }
}

/// Journals an attempt to decide through an expired link, if the target exists.
pub async fn note_expired<L: ApprovalLedger, D: WakeQueue, K: Clock>(
    command_service: &CommandService<'_, L, D, K>,
    link: &Link,
) {
    let known = load_target(command_service, &link.target).await.is_ok();
    if known {
        let reason = format!("the link to deployment #{} was good until {}", link.deployment, link.expires);
        command_service.note_refusal("link", &link.target, "approve", &link_actor(&link.person), &reason).await;
    }
}

/// A person who reads a topic that formerly belonged to another person is not that person.
fn check_topic(applied: &AppliedTarget, link: &Link) -> Option<Refusal> {
    let topic = applied.entry.approvers.get(&link.person)?.mail.as_deref()?;
    let moved = approval_links::sent_to(topic) != link.sent_to;
    moved.then(|| {
        let message = format!(
            "this link was sent to where {} has mail no more: the newest mail has the one that is good",
            link.person
        );
        Refusal::new(403, "not_an_approver", message)
    })
}

fn to_submission<'a>(
    link: &'a Link,
    actor: &'a Actor,
    decision: ApprovalDecision,
    reason: &'a str,
) -> ApprovalSubmission<'a> {
    ApprovalSubmission {
        target: &link.target,
        deployment: link.deployment,
        plan: &link.plan,
        decision,
        actor,
        reason,
        entry_point: "link",
        deduplication_key: DeduplicationKey::Link(&link.nonce),
    }
}

fn read_form(form: &[u8]) -> Option<(ApprovalDecision, String)> {
    if form.len() > MAX_FORM_BYTES {
        return None;
    }
    let field = |name: &str| form_urlencoded::parse(form).find(|(key, _)| key == name).map(|(_, value)| value);
    let decision = match field("decision")?.as_ref() {
        "approve" => ApprovalDecision::Approve,
        "reject" => ApprovalDecision::Reject,
        _ => return None,
    };
    Some((decision, clean_reason(&field("reason").unwrap_or_default())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_has_a_decision_and_a_reason() {
        let read = |form: &str| read_form(form.as_bytes());
        assert_eq!(read("decision=approve&reason="), Some((ApprovalDecision::Approve, String::new())));
        let why = "decision=reject&reason=not+on+a+Friday%21%0D%0A%C3%A4";
        assert_eq!(read(why), Some((ApprovalDecision::Reject, "not on a Friday! \nä".to_owned())));
        for other in ["", "decision=", "decision=Approve", "reason=approve", "approve", "decision=yes", "%ff=%ff&&=&="]
        {
            assert_eq!(read(other), None, "{other}");
        }
        assert_eq!(read(&format!("decision=approve&reason={}", "x".repeat(MAX_FORM_BYTES))), None);
        // The first field counts: an appended one changes nothing.
        assert_eq!(
            read("decision=reject&decision=approve").map(|(decision, _)| decision),
            Some(ApprovalDecision::Reject)
        );
    }

    #[test]
    fn refusals_are_shown_as_sentences() {
        assert_eq!(sentence("the time is over"), "The time is over.");
        assert_eq!(sentence("mail:ada is none of those."), "mail:ada is none of those.");
    }
}
