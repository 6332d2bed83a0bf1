//! The pages behind an approval's signed link, each self-contained: no script, no image, no external resource.

use crate::people::{full_identity, names};
use crate::time_format::{instant, time_left};
use crate::waiting::waiting;
use jiff::Timestamp;
use rollout::deployment::{Deployment, Purpose};
use rollout::explanation::WaitingOn;
use rollout::release::ReleaseRef;
use rollout::text::{REPLACEMENT, is_visible};
use rollout::{Lane, Name, PlanId, TargetId};

const PAGE: &str = include_str!("approval_page.html");

/// Value of the pages' `Content-Security-Policy` header. The pages may use their own style sheet and post to their own
/// origin, nothing else.
pub const CSP: &str = "default-src 'none'; style-src 'sha256-xUPP841Ibp9k9WFwtwKokRcWKRHQJuF6/2EeAXq5bRA='; form-action 'self'; base-uri 'none'; \
     frame-ancestors 'none'";

/// Maximum length of the reason field, in characters.
const MAX_REASON_CHARS: usize = 500;

/// Content of the approval page.
#[derive(Debug, Clone, Copy)]
pub struct ApprovalPrompt<'a> {
    /// The approver, by their name in the policy.
    pub person: &'a Name,
    /// Target of the deployment.
    pub target: &'a TargetId,
    /// The deployment that waits for approval.
    pub deployment: &'a Deployment,
    /// The plan that is approved or rejected.
    pub plan: &'a PlanId,
    /// The release that serves now; none: it was deployed before Switchback, or no release serves.
    pub replaces: Option<&'a ReleaseRef>,
    /// The person has approved already and can only reject.
    pub has_approved: bool,
    /// Approvers so far.
    pub approved: &'a [&'a Name],
    /// Number of approvals required.
    pub required: u8,
    /// The approval expires at this time.
    pub expires: Timestamp,
    /// Other gates and waits of the deployment.
    pub also_waiting_for: &'a [&'a WaitingOn],
    /// The current time.
    pub now: Timestamp,
}

/// The page that asks for the decision. Loading it has no effect: only its form's buttons approve or reject.
#[must_use]
pub fn prompt(prompt: &ApprovalPrompt<'_>) -> String {
    let Deployment { number, release, actor, reason, options, policy, purpose, .. } = prompt.deployment;
    let title = format!("Deploy {} to {}?", release.tag, prompt.target);
    let mut body = format!("<h1>{}</h1>\n", text(&title));
    let mut badge = |words: &str| body.push_str(&format!("<p class=\"mark\">{}</p>\n", text(words)));
    if options.lane == Lane::Hotfix {
        badge("Hotfix: it passes the gates that the policy lists for hotfixes.");
    }
    if options.forward_only || policy.hooks.iter().any(|hook| hook.forward_only) {
        badge("Forward-only: once it carries traffic it is not rolled back automatically.");
    }
    let mut rows: Vec<(&str, String)> = vec![
        ("Deployment", format!("#{number} of {}", text(&prompt.target.to_string()))),
        ("Release", release_html(release)),
        (
            "Replaces",
            match prompt.replaces {
                Some(stable) => release_html(stable),
                None => "what ran before Switchback".to_owned(),
            },
        ),
        ("Requested by", text(&full_identity(&actor.to_string()))),
    ];
    if !reason.is_empty() {
        rows.push(("Reason", text(reason)));
    }
    if *purpose == Purpose::Deploy {
        let steps: Vec<String> =
            policy.strategy.steps.iter().map(|step| format!("{} %", step.traffic.value())).collect();
        let bake = crate::time_format::format_duration(policy.strategy.bake);
        rows.push(("Traffic", format!("{}, then a bake of {bake}", steps.join(" → "))));
    }
    if let Some(train) = &options.train {
        let members: Vec<&Name> = train.members.keys().collect();
        let back = if train.rollback_together { ", rolls back together" } else { "" };
        rows.push(("Release train", text(&format!("{}{back}", names(&members)))));
    }
    let approvers = if prompt.approved.is_empty() { "nobody yet".to_owned() } else { names(prompt.approved) };
    rows.push(("Approved by", text(&format!("{approvers} ({} of {})", prompt.approved.len(), prompt.required))));
    for on in prompt.also_waiting_for {
        rows.push(("Also waiting for", text(&waiting(on, prompt.now))));
    }
    let until = format!("{} ({} left)", instant(prompt.expires), time_left(prompt.expires, prompt.now));
    rows.push(("Answer until", text(&until)));
    rows.push(("Plan", format!("<code>{}</code>", text(&prompt.plan.0))));

    body.push_str("<dl>\n");
    for (name, value) in rows {
        body.push_str(&format!("<dt>{name}</dt><dd>{value}</dd>\n"));
    }
    body.push_str("</dl>\n");
    let person = text(prompt.person.as_str());
    let approve = if prompt.has_approved {
        body.push_str(&format!("<p>You have approved already, {person}. While it waits you can still reject.</p>\n"));
        ""
    } else {
        body.push_str(&format!("<p>You answer as <strong>{person}</strong>. The link is valid for one answer.</p>\n"));
        "<button class=\"yes\" name=\"decision\" value=\"approve\">Approve</button>\n"
    };
    body.push_str(&format!(
        "<form method=\"post\" autocomplete=\"off\">\n<label for=\"reason\">Reason, for the record</label>\n\
         <textarea id=\"reason\" name=\"reason\" maxlength=\"{MAX_REASON_CHARS}\"></textarea>\n<div class=\"buttons\">\n\
         {approve}<button class=\"no\" name=\"decision\" value=\"reject\">Reject</button>\n</div>\n</form>"
    ));
    page(&title, &body)
}

/// A page with a single message. `done`: no further action is needed.
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

fn release_html(release: &ReleaseRef) -> String {
    format!("{} (<code>{}</code>)", text(&release.tag), text(release.id.digest.short()))
}

/// Escapes text for HTML elements and quoted attributes, so that none of it is markup.
fn text(words: &str) -> String {
    let mut safe = String::with_capacity(words.len());
    for character in words.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            character if character == '\n' || is_visible(character) => safe.push(character),
            _ => safe.push(REPLACEMENT),
        }
    }
    safe
}

#[cfg(test)]
mod tests;
