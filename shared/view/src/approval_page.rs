//! The pages behind an approval's signed link, whole: no script, no image, nothing from elsewhere.

use crate::people::{in_full, names};
use crate::waiting::waiting;
use crate::when::{instant, left};
use jiff::Timestamp;
use rollout::target::{Deployment, Purpose, ReleaseRef, WaitingOn};
use rollout::text::{REPLACEMENT, is_visible};
use rollout::{Lane, Name, PlanId, TargetId};

const PAGE: &str = include_str!("approval_page.html");

/// What the pages may do: the value of their `Content-Security-Policy` header. They show themselves, and post to where
/// they came from.
pub const CSP: &str = "default-src 'none'; style-src 'sha256-xUPP841Ibp9k9WFwtwKokRcWKRHQJuF6/2EeAXq5bRA='; form-action 'self'; base-uri 'none'; \
     frame-ancestors 'none'";

/// The longest reason that the form takes, in characters.
const LONGEST_REASON: usize = 500;

/// What somebody is asked.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// Who is asked, by the policy's name.
    pub person: &'a Name,
    /// Where.
    pub target: &'a TargetId,
    /// The deployment that waits.
    pub deployment: &'a Deployment,
    /// What a yes is a yes to.
    pub plan: &'a PlanId,
    /// What serves now; none: it was there before Switchback, or nothing does.
    pub replaces: Option<&'a ReleaseRef>,
    /// They have said yes already: only a no is left to say.
    pub has_said_yes: bool,
    /// Who has said yes.
    pub approved: &'a [&'a Name],
    /// How many are needed.
    pub required: u8,
    /// Until when an answer is taken.
    pub expires: Timestamp,
    /// What else it waits for.
    pub also_waits_for: &'a [&'a WaitingOn],
    /// The time.
    pub now: Timestamp,
}

/// The page that asks. It decides nothing: its form does, when a button is pressed.
#[must_use]
pub fn ask(ask: &Ask<'_>) -> String {
    let Deployment { number, release, actor, reason, terms, policy, purpose, .. } = ask.deployment;
    let title = format!("Deploy {} to {}?", release.tag, ask.target);
    let mut body = format!("<h1>{}</h1>\n", text(&title));
    let mut mark = |words: &str| body.push_str(&format!("<p class=\"mark\">{}</p>\n", text(words)));
    if terms.lane == Lane::Hotfix {
        mark("Hotfix: it passes the gates that the policy lists for hotfixes.");
    }
    if terms.forward_only || policy.hooks.iter().any(|hook| hook.forward_only) {
        mark("Forward-only: once it carries traffic it is not rolled back automatically.");
    }
    let mut rows: Vec<(&str, String)> = vec![
        ("Deployment", format!("#{number} of {}", text(&ask.target.to_string()))),
        ("Release", release_words(release)),
        (
            "Replaces",
            match ask.replaces {
                Some(stable) => release_words(stable),
                None => "what ran before Switchback".to_owned(),
            },
        ),
        ("Requested by", text(&in_full(&actor.to_string()))),
    ];
    if !reason.is_empty() {
        rows.push(("Reason", text(reason)));
    }
    if *purpose == Purpose::Deploy {
        let steps: Vec<String> =
            policy.strategy.steps.iter().map(|step| format!("{} %", step.traffic.value())).collect();
        let bake = crate::when::lasts(policy.strategy.bake);
        rows.push(("Traffic", format!("{}, then a bake of {bake}", steps.join(" → "))));
    }
    if let Some(train) = &terms.train {
        let members: Vec<&Name> = train.members.keys().collect();
        let back = if train.together { ", rolls back together" } else { "" };
        rows.push(("Release train", text(&format!("{}{back}", names(&members)))));
    }
    let yes = if ask.approved.is_empty() { "nobody yet".to_owned() } else { names(ask.approved) };
    rows.push(("Approved by", text(&format!("{yes} ({} of {})", ask.approved.len(), ask.required))));
    for on in ask.also_waits_for {
        rows.push(("Also waiting for", text(&waiting(on, ask.now))));
    }
    let until = format!("{} ({} left)", instant(ask.expires), left(ask.expires, ask.now));
    rows.push(("Answer until", text(&until)));
    rows.push(("Plan", format!("<code>{}</code>", text(&ask.plan.0))));

    body.push_str("<dl>\n");
    for (name, value) in rows {
        body.push_str(&format!("<dt>{name}</dt><dd>{value}</dd>\n"));
    }
    body.push_str("</dl>\n");
    let person = text(ask.person.as_str());
    let approve = if ask.has_said_yes {
        body.push_str(&format!("<p>You have approved already, {person}. While it waits you can still reject.</p>\n"));
        ""
    } else {
        body.push_str(&format!("<p>You answer as <strong>{person}</strong>. The link is valid for one answer.</p>\n"));
        "<button class=\"yes\" name=\"decision\" value=\"approve\">Approve</button>\n"
    };
    body.push_str(&format!(
        "<form method=\"post\" autocomplete=\"off\">\n<label for=\"reason\">Reason, for the record</label>\n\
         <textarea id=\"reason\" name=\"reason\" maxlength=\"{LONGEST_REASON}\"></textarea>\n<div class=\"buttons\">\n\
         {approve}<button class=\"no\" name=\"decision\" value=\"reject\">Reject</button>\n</div>\n</form>"
    ));
    page(&title, &body)
}

/// A page that says one thing. `done`: nothing is left to do.
#[must_use]
pub fn message(title: &str, words: &str, done: bool) -> String {
    let rest = if done { "\n<p>You can close this page.</p>" } else { "" };
    page(title, &format!("<h1>{}</h1>\n<p>{}</p>{rest}", text(title), text(words)))
}

fn page(title: &str, body: &str) -> String {
    let (head, rest) = PAGE.split_once("{{title}}").unwrap_or((PAGE, ""));
    let (middle, tail) = rest.split_once("{{body}}").unwrap_or((rest, ""));
    format!("{head}{}{middle}{body}{tail}", text(title))
}

fn release_words(release: &ReleaseRef) -> String {
    format!("{} (<code>{}</code>)", text(&release.tag), text(release.id.digest.short()))
}

/// Text as HTML has it, in elements and in quoted attributes: nothing in it is markup.
fn text(words: &str) -> String {
    let mut safe = String::with_capacity(words.len());
    for letter in words.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            letter if letter == '\n' || is_visible(letter) => safe.push(letter),
            _ => safe.push(REPLACEMENT),
        }
    }
    safe
}

#[cfg(test)]
mod tests;
