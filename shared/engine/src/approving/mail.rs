//! The two pages behind a signed link. The first one is what a GET shows: what would be deployed, and two buttons; whoever
//! fetches it, a mail scanner included, has decided nothing. The second one says what a POST has decided.

use super::{Answer, Once, Word, answer, kept, read};
use crate::desk::{Desk, Refusal};
use crate::links::{self, Link};
use crate::ports::{Clock, Ledger, WakeQueue};
use rollout::entry::MAIL;
use rollout::promotion::rules;
use rollout::promotion::waiting;
use rollout::target::{AppliedTarget, WaitingOn};
use rollout::{Actor, Name};
use view::approval_page::{self, Ask};

pub use view::approval_page::CSP;

/// The largest form that is read, in bytes: the longest reason, every byte of it percent-encoded.
pub const LARGEST_FORM: usize = 16 * 1024;

/// An answer in HTML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// HTTP's status.
    pub status: u16,
    /// The document.
    pub html: String,
}

impl Page {
    /// What everybody is told who has no link of ours, whatever they have instead.
    #[must_use]
    pub fn stranger() -> Self {
        let text =
            "This link is not valid. If you were asked for an approval, use the whole link from the newest mail.";
        Self { status: 403, html: approval_page::message("Nothing to see here", text, false) }
    }

    /// What the holder of a link is told whose time is over.
    #[must_use]
    pub fn expired(link: &Link) -> Self {
        let text = format!("The time to answer deployment #{} of {} is over.", link.deployment, link.target);
        Self { status: 410, html: approval_page::message("Too late", &text, false) }
    }

    /// What is told where somebody else did not answer us.
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

/// A refusal's words as a sentence. What begins with an identity (`mail:ada`) begins with it.
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

/// The actor that the holder of a link is.
#[must_use]
pub fn holder(person: &Name) -> Actor {
    Actor::Person { name: format!("{MAIL}{person}") }
}

/// What the link asks, with the present state. Writes nothing, not even of a refusal.
pub async fn show<L: Ledger, D: WakeQueue, K: Clock>(desk: &Desk<'_, L, D, K>, link: &Link) -> Page {
    let (applied, state) = match read(desk, &link.target).await {
        Ok(read) => read,
        Err(refusal) => return Page::refused(&refusal),
    };
    if let Some(refusal) = sent_elsewhere(&applied, link) {
        return Page::refused(&refusal);
    }
    let now = desk.clock.now();
    let actor = holder(&link.person);
    // A no is what can be said for longest: who has said yes can still take it back.
    let looked_at = asked(link, &actor, Word::No, "");
    match super::admit(desk, &state, &applied, &looked_at, now).await {
        Ok(Ok(_)) => {}
        Ok(Err(refusal)) | Err(refusal) => return Page::refused(&refusal),
    }
    let (Some(running), Some(question)) = (&state.running, waiting(&state, &applied, None, now)) else {
        return Page::unavailable();
    };
    let policy = applied.entry.rules.approval.as_ref();
    let approved: Vec<&Name> = rules::counted(&question).into_iter().map(|vote| &vote.person).collect();
    let others = state.explanation.waiting_on.iter().filter(|on| !matches!(on, WaitingOn::Approval { .. }));
    let ask = Ask {
        person: &link.person,
        target: &link.target,
        deployment: running,
        plan: &link.plan,
        replaces: state.stable.as_ref().and_then(|stable| stable.release.as_ref()),
        has_said_yes: approved.contains(&&link.person),
        approved: &approved,
        required: policy.map_or(0, |policy| policy.required),
        expires: link.expires,
        also_waits_for: &others.collect::<Vec<_>>(),
        now,
    };
    Page { status: 200, html: approval_page::ask(&ask) }
}

/// Takes the form's answer: `decision` is `approve` or `reject`, `reason` is free text.
pub async fn decide<L: Ledger, D: WakeQueue, K: Clock>(desk: &Desk<'_, L, D, K>, link: &Link, form: &[u8]) -> Page {
    let Some((word, reason)) = read_form(form) else {
        let text = "Press one of the two buttons of the page that the link shows.";
        return Page { status: 400, html: approval_page::message("Nothing was decided", text, false) };
    };
    let actor = holder(&link.person);
    match read(desk, &link.target).await.map(|(applied, _)| sent_elsewhere(&applied, link)) {
        Ok(None) => {}
        Ok(Some(refusal)) => {
            desk.note_refusal("link", &link.target, word.name(), &actor, &refusal.message).await;
            return Page::refused(&refusal);
        }
        Err(refusal) => return Page::refused(&refusal),
    }
    match answer(desk, &asked(link, &actor, word, &reason)).await {
        Ok(taken) => {
            let title = if word == Word::Yes { "Approved" } else { "Rejected" };
            Page { status: 200, html: approval_page::message(title, &taken.sentence(), true) }
        }
        Err(refusal) => Page::refused(&refusal),
    }
}

/// The time of a link was over when somebody answered with it: the journal has it, as far as there is such a target.
pub async fn note_expired<L: Ledger, D: WakeQueue, K: Clock>(desk: &Desk<'_, L, D, K>, link: &Link) {
    let known = read(desk, &link.target).await.is_ok();
    if known {
        let reason = format!("the link to deployment #{} was good until {}", link.deployment, link.expires);
        desk.note_refusal("link", &link.target, "approve", &holder(&link.person), &reason).await;
    }
}

/// Whoever reads what is sent to a topic that was a person's once is not that person.
fn sent_elsewhere(applied: &AppliedTarget, link: &Link) -> Option<Refusal> {
    let topic = applied.entry.approvers.get(&link.person)?.mail.as_deref()?;
    let moved = links::sent_to(topic) != link.sent_to;
    moved.then(|| {
        let message = format!(
            "this link was sent to where {} has mail no more: the newest mail has the one that is good",
            link.person
        );
        Refusal::new(403, "not_an_approver", message)
    })
}

fn asked<'a>(link: &'a Link, actor: &'a Actor, word: Word, reason: &'a str) -> Answer<'a> {
    Answer {
        target: &link.target,
        deployment: link.deployment,
        plan: &link.plan,
        word,
        actor,
        reason,
        door: "link",
        once: Once::Link(&link.nonce),
    }
}

fn read_form(form: &[u8]) -> Option<(Word, String)> {
    if form.len() > LARGEST_FORM {
        return None;
    }
    let field = |name: &str| form_urlencoded::parse(form).find(|(key, _)| key == name).map(|(_, value)| value);
    let word = match field("decision")?.as_ref() {
        "approve" => Word::Yes,
        "reject" => Word::No,
        _ => return None,
    };
    Some((word, kept(&field("reason").unwrap_or_default())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_says_yes_or_no_and_why() {
        let read = |form: &str| read_form(form.as_bytes());
        assert_eq!(read("decision=approve&reason="), Some((Word::Yes, String::new())));
        let why = "decision=reject&reason=not+on+a+Friday%21%0D%0A%C3%A4";
        assert_eq!(read(why), Some((Word::No, "not on a Friday! \nä".to_owned())));
        for other in ["", "decision=", "decision=Approve", "reason=approve", "approve", "decision=yes", "%ff=%ff&&=&="]
        {
            assert_eq!(read(other), None, "{other}");
        }
        assert_eq!(read(&format!("decision=approve&reason={}", "x".repeat(LARGEST_FORM))), None);
        // The first one counts: an appended field changes nothing.
        assert_eq!(read("decision=reject&decision=approve").map(|(word, _)| word), Some(Word::No));
    }

    #[test]
    fn refusals_are_sentences() {
        assert_eq!(sentence("the time is over"), "The time is over.");
        assert_eq!(sentence("mail:ada is none of those."), "mail:ada is none of those.");
    }
}
