//! The pages behind an approval's signed link, each self-contained: no script, no image, no external resource.

use crate::people::{full_identity, names};
use crate::time_format::{format_duration, instant, time_left};
use crate::waiting::waiting;
use jiff::Timestamp;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use rollout::deployment::{Deployment, Purpose};
use rollout::explanation::WaitingOn;
use rollout::release::ReleaseRef;
use rollout::text::{REPLACEMENT, is_visible};
use rollout::{Lane, Name, PlanId, TargetId};

/// The style sheet of the pages; [`CSP`] permits it by its hash.
const STYLE: &str = include_str!("approval_page.css");

/// Value of the pages' `Content-Security-Policy` header. The pages may use their own style sheet and post to their own
/// origin, nothing else.
pub const CSP: &str = "default-src 'none'; style-src 'sha256-iyUcXT2DOpLvW1ycHcZRqBBFycnNXe5VcM9fVrrBZo4='; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

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
    let title = format!("Deploy {} to {}?", prompt.deployment.release.tag, prompt.target);
    let body = html! {
        h1 { (shown(&title)) }
        (warnings(prompt.deployment))
        (facts(prompt))
        (form(prompt))
    };
    page(&title, &body)
}

/// A page with a single message. `done`: no further action is needed.
#[must_use]
pub fn message(title: &str, words: &str, done: bool) -> String {
    let body = html! {
        h1 { (shown(title)) }
        p { (shown(words)) }
        @if done {
            p { "You can close this page." }
        }
    };
    page(title, &body)
}

fn page(title: &str, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="robots" content="noindex, nofollow";
                title { (shown(title)) " · Switchback" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    section { (body) }
                    footer { "Switchback" }
                }
            }
        }
    };
    page.into_string()
}

/// Marks of a deployment that skips gates, or that is not rolled back automatically.
fn warnings(deployment: &Deployment) -> Markup {
    let Deployment { options, policy, .. } = deployment;
    // `Deployment::is_forward_only` counts a hook only once it has started, and none has before the approval.
    let forward_only = options.forward_only || policy.hooks.iter().any(|hook| hook.forward_only);
    html! {
        @if options.lane == Lane::Hotfix {
            p.mark { "Hotfix: it passes the gates that the policy lists for hotfixes." }
        }
        @if forward_only {
            p.mark { "Forward-only: once it carries traffic it is not rolled back automatically." }
        }
    }
}

fn facts(prompt: &ApprovalPrompt<'_>) -> Markup {
    let Deployment { number, release, actor, reason, options, policy, purpose, .. } = prompt.deployment;
    let steps: Vec<String> = policy.strategy.steps.iter().map(|step| format!("{} %", step.traffic.value())).collect();
    let approvers = if prompt.approved.is_empty() { "nobody yet".to_owned() } else { names(prompt.approved) };
    html! {
        dl {
            dt { "Deployment" }
            dd { "#" (number) " of " (shown(&prompt.target.to_string())) }
            dt { "Release" }
            dd { (tag_and_digest(release)) }
            dt { "Replaces" }
            dd {
                @if let Some(stable) = prompt.replaces {
                    (tag_and_digest(stable))
                } @else {
                    "what ran before Switchback"
                }
            }
            dt { "Requested by" }
            dd { (shown(&full_identity(&actor.to_string()))) }
            @if !reason.is_empty() {
                dt { "Reason" }
                dd { (shown(reason)) }
            }
            @if *purpose == Purpose::Deploy {
                dt { "Traffic" }
                dd { (steps.join(" → ")) ", then a bake of " (format_duration(policy.strategy.bake)) }
            }
            @if let Some(train) = &options.train {
                @let members: Vec<String> =
                    train.members.keys().map(|service| format!("{service} {}", train.label_of(service))).collect();
                dt { "Release train" }
                dd {
                    (shown(&names(&members)))
                    @if train.rollback_together {
                        ", rolls back together"
                    }
                }
            }
            dt { "Approved by" }
            dd { (shown(&approvers)) " (" (prompt.approved.len()) " of " (prompt.required) ")" }
            @for on in prompt.also_waiting_for {
                dt { "Also waiting for" }
                dd { (shown(&waiting(on, prompt.now))) }
            }
            dt { "Answer until" }
            dd { (instant(prompt.expires)) " (" (time_left(prompt.expires, prompt.now)) " left)" }
            dt { "Plan" }
            dd { code { (shown(&prompt.plan.0)) } }
        }
    }
}

/// The buttons that approve or reject. The form names no URL, so it posts to the link itself.
fn form(prompt: &ApprovalPrompt<'_>) -> Markup {
    let person = shown(prompt.person.as_str());
    html! {
        @if prompt.has_approved {
            p { "You have approved already, " (person) ". While it waits you can still reject." }
        } @else {
            p { "You answer as " strong { (person) } ". The link is valid for one answer." }
        }
        form method="post" autocomplete="off" {
            label for="reason" { "Reason, for the record" }
            textarea id="reason" name="reason" maxlength=(MAX_REASON_CHARS) {}
            div.buttons {
                @if !prompt.has_approved {
                    button.yes name="decision" value="approve" { "Approve" }
                }
                button.no name="decision" value="reject" { "Reject" }
            }
        }
    }
}

fn tag_and_digest(release: &ReleaseRef) -> Markup {
    html! { (shown(&release.tag)) " (" code { (shown(release.id.digest.short())) } ")" }
}

/// Text from outside as it is displayed: `maud` escapes what is markup, this replaces what is not visible.
fn shown(text: &str) -> String {
    let replaced = |character: char| if character == '\n' || is_visible(character) { character } else { REPLACEMENT };
    text.chars().map(replaced).collect()
}

#[cfg(test)]
mod tests;
