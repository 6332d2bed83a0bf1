//! Slack messages in Block Kit: a release's thread, its deployments, and approval requests.
//!
//! A message is edited whenever its content changes, so its text must not depend on the current time: timestamps are
//! passed to Slack, which shows them in each reader's time zone.

use crate::journal::{capitalised, description, stage_words, verdict_words};
use crate::people::{display_name, full_identity, names};
use crate::status::{option_notes, stage};
use crate::time_format::instant;
use jiff::Timestamp;
use rollout::deployment::{Deployment, DeploymentRecord, Purpose};
use rollout::entry::{Person, SLACK_PREFIX};
use rollout::explanation::WaitingOn;
use rollout::journal::{Fact, JournalEntry};
use rollout::release::ReleaseRef;
use rollout::target::TargetState;
use rollout::text::{self, clip, visible_lines};
use rollout::verdict::Verdict;
use rollout::{Actor, Name, PlanId, Provenance, Stage, TargetId};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// `action_id` of the approve button.
pub const APPROVE: &str = "switchback_approve";
/// `action_id` of the reject button.
pub const REJECT: &str = "switchback_reject";
/// `action_id` of the text input for the reason.
pub const REASON: &str = "switchback_reason";

/// Maximum length of a section's text (Slack, "Block Kit reference": section, `text`), minus a margin for escaping.
const MAX_SECTION_CHARS: usize = 2_900;
/// Maximum length of quoted text from outside.
const MAX_QUOTE_CHARS: usize = 300;
/// Number of journal lines in a deployment's message: the newest ones.
const MAX_JOURNAL_LINES: usize = 8;
/// Maximum length of a reason.
const MAX_REASON_CHARS: usize = 500;

/// A message, as plain text and as blocks.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatMessage {
    /// For notifications, and for clients that show no blocks.
    pub text: String,
    /// Block Kit: an array of blocks.
    pub blocks: Value,
}

/// A release and its state in each environment.
#[derive(Debug, Clone, Copy)]
pub struct ReleaseSummary<'a> {
    /// The release.
    pub release: &'a ReleaseRef,
    /// Its provenance, as far as known.
    pub provenance: Option<&'a Provenance>,
    /// State of each environment of its service.
    pub environments: &'a [EnvironmentState],
}

/// State of one environment, for a release's thread.
#[derive(Debug, Clone, Default)]
pub struct EnvironmentState {
    /// State of its target; none: nothing was ever deployed there.
    pub state: Option<TargetState>,
    /// The release's newest finished deployment there.
    pub last: Option<DeploymentRecord>,
}

/// A deployment and its progress.
#[derive(Debug, Clone, Copy)]
pub struct DeploymentSummary<'a> {
    /// The target of the deployment.
    pub target: &'a TargetId,
    /// Number of the deployment, counted per target.
    pub number: u64,
    /// The release that is deployed.
    pub release: &'a ReleaseRef,
    /// Who requested it.
    pub actor: &'a Actor,
    /// State of the target while this deployment is the running one.
    pub state: Option<&'a TargetState>,
    /// Verdict and reason, once finished.
    pub ended: Option<(Verdict, &'a str)>,
    /// Its journal entries, oldest first; earlier ones may be missing.
    pub entries: &'a [JournalEntry],
    /// All people that the policy names.
    pub people: &'a BTreeMap<Name, Person>,
}

/// The first message of a release's thread: the release, and its state in each environment.
#[must_use]
pub fn release(about: &ReleaseSummary<'_>) -> ChatMessage {
    let id = &about.release.id;
    let title = format!("{}/{} {}", id.application, id.service, about.release.tag);
    let environments: Vec<(&TargetId, String, String)> = about
        .environments
        .iter()
        .filter_map(|environment| {
            let (plain, rich) = environment_status(environment, about.release)?;
            Some((&environment.state.as_ref()?.target, plain, rich))
        })
        .collect();
    let at = |(target, plain, _): &(&TargetId, String, String)| format!("{} {plain}", target.environment);
    let summary = environments.iter().map(at).collect::<Vec<_>>().join(" · ");
    let lines: Vec<String> =
        environments.iter().map(|(target, _, rich)| format!("*{}*  {rich}", target.environment)).collect();
    let body = if lines.is_empty() { "not deployed yet".to_owned() } else { lines.join("\n") };

    let mut origin = vec![format!("`{}`", id.digest.short())];
    if let Some(from) = about.provenance {
        let commit = from.commit.as_deref().map(|commit| commit.chars().take(12).collect::<String>());
        let known = [commit, from.git_ref.clone(), from.run.clone(), from.actor.clone()];
        origin.extend(known.into_iter().flatten().map(|words| plain(&words)));
    }
    ChatMessage {
        text: escaped(&if summary.is_empty() { title.clone() } else { format!("{title}: {summary}") }),
        blocks: json!([section(&format!("*{}*\n{body}", plain(&title))), context(&origin.join(" · "))]),
    }
}

/// State of a release in an environment, without and with markup; none: it was never there.
fn environment_status(environment: &EnvironmentState, release: &ReleaseRef) -> Option<(String, String)> {
    let state = environment.state.as_ref()?;
    let is_release = |other: &ReleaseRef| other.id == release.id;
    let both = |words: String| Some((words.clone(), plain(&words)));
    let since = |words: &str, at: Timestamp| Some((words.to_owned(), format!("{words} since {}", date(at))));
    if let Some(running) = state.running.as_ref().filter(|running| is_release(&running.release)) {
        let waits = match (running.stage(), pending_approval(state, running.number)) {
            (_, _) if running.awaiting_operator().is_some() => "awaiting an operator".to_owned(),
            (Stage::Gated, Some(approval)) => {
                format!("waiting for approval ({} of {})", approval.approved.len(), approval.required)
            }
            (stage, _) => lowercase_first(&stage_words(stage)),
        };
        return both(format!("#{}: {waits}", running.number));
    }
    if state.queued.iter().any(|queued| is_release(&queued.release)) {
        return both("queued behind the running deployment".to_owned());
    }
    let verified = state.verified.iter().find(|verified| is_release(&verified.release));
    if let Some(stable) = state.stable.as_ref().filter(|side| side.release.as_ref().is_some_and(is_release)) {
        return since(if verified.is_some() { "live, verified" } else { "live" }, stable.since);
    }
    if let Some(verified) = verified {
        return since("verified", verified.at);
    }
    let last = environment.last.as_ref().filter(|last| is_release(&last.release))?;
    let (verdict, ended_at) = (last.verdict?, last.ended_at?);
    let words = match verdict {
        // Succeeded, but neither live nor verified any more.
        Verdict::Succeeded => "was live",
        other => verdict_words(other),
    };
    let text = format!("{words} (#{})", last.number);
    Some((text.clone(), format!("{text}, {}", date(ended_at))))
}

/// A deployment's message: what it is, its stage, approval requests, and the newest journal lines.
#[must_use]
pub fn deployment(about: &DeploymentSummary<'_>) -> ChatMessage {
    let DeploymentSummary { target, number, release, actor, .. } = about;
    let running = running(about);
    let (mark, now) = headline(about, running);
    let what = match running.map(|running| running.purpose) {
        Some(Purpose::Rollback) => format!("rollback to {}", release.tag),
        Some(Purpose::Repair) => format!("repair: all traffic to {}", release.tag),
        _ => release.tag.clone(),
    };
    let mut blocks = vec![section(&format!("{mark} *{target} #{number}*  {}\n{}", plain(&what), plain(&now)))];

    let reason = running.map(|running| running.reason.as_str()).filter(|reason| !reason.is_empty());
    let mut facts = vec![format!("requested by {}", requester(actor))];
    facts.extend(reason.map(plain));
    facts.extend(running.map(option_notes).unwrap_or_default().iter().map(|words| plain(words)));
    blocks.push(context(&facts.join(" · ")));

    let approval = about.state.and_then(|state| Some((state, pending_approval(state, *number)?)));
    if let Some(running) = running.filter(|running| running.stage() == Stage::Gated) {
        let gates = running.gates.as_ref().map(|gates| &gates.journalled).into_iter().flatten();
        let lines: Vec<String> = gates
            .filter(|(gate, _)| approval.is_none() || **gate != rollout::Gate::Approval)
            .map(|(gate, reason)| format!("• {gate}: {}", plain(reason)))
            .collect();
        if !lines.is_empty() {
            blocks.push(section(&lines.join("\n")));
        }
    }
    if let Some((state, approval)) = &approval {
        blocks.extend(approval_blocks(about, state, approval));
    }
    let lines: Vec<String> = about.entries.iter().rev().take(MAX_JOURNAL_LINES).rev().map(line).collect();
    if !lines.is_empty() {
        blocks.push(section(&lines.join("\n")));
    }
    blocks.push(context(&format!("`switchback explain {target}`")));
    let ping = approval.map(|(_, approval)| mentions(&approval, about.people)).filter(|ping| !ping.is_empty());
    let text = format!("{target} #{number}, {what}: {now}");
    let text = escaped(&text);
    ChatMessage { text: ping.map_or(text.clone(), |ping| format!("{text} {ping}")), blocks: Value::Array(blocks) }
}

/// An extra message that notifies approvers of a deployment whose message exists already: an edit notifies nobody.
#[must_use]
pub fn ping(about: &DeploymentSummary<'_>, entry: &JournalEntry) -> ChatMessage {
    let (_, words) = description(entry);
    let pending_approval = about.state.and_then(|state| pending_approval(state, about.number));
    let ping = pending_approval.map(|approval| mentions(&approval, about.people)).unwrap_or_default();
    let text = format!("{} #{}: {}", about.target, about.number, plain(&words));
    let text = if ping.is_empty() { text } else { format!("{text} {ping}") };
    ChatMessage { blocks: json!([section(&text)]), text }
}

/// A journal entry without a deployment, as a message of its own.
#[must_use]
pub fn entry(entry: &JournalEntry) -> ChatMessage {
    let (_, words) = description(entry);
    let (target, by) = (&entry.target, person(&entry.actor));
    ChatMessage {
        text: format!("{target}: {}", plain(&words)),
        blocks: json!([
            section(&format!("*{target}*  {}", plain(&words))),
            context(&format!("{by} · {}", date(entry.at)))
        ]),
    }
}

fn running<'a>(about: &DeploymentSummary<'a>) -> Option<&'a Deployment> {
    about.state.and_then(|state| state.running.as_ref()).filter(|running| running.number == about.number)
}

/// A mark, and the deployment's state in one line.
fn headline(about: &DeploymentSummary<'_>, running: Option<&Deployment>) -> (&'static str, String) {
    if let Some((verdict, reason)) = about.ended {
        let mark = match verdict {
            Verdict::Succeeded => ":white_check_mark:",
            Verdict::RolledBack => ":rewind:",
            Verdict::Superseded | Verdict::Cancelled => ":heavy_minus_sign:",
            Verdict::Rejected | Verdict::Expired | Verdict::Failed => ":x:",
        };
        let words = capitalised(verdict_words(verdict));
        return (mark, if reason.is_empty() { words } else { format!("{words}: {}", clipped(reason)) });
    }
    let Some(running) = running else { return (":grey_question:", "Ended".to_owned()) };
    if running.awaiting_operator().is_some() {
        return (":raised_hand:", "Awaiting an operator (`switchback rollback`, `resume` or `abort`)".to_owned());
    }
    if let Some(halt) = running.halted() {
        return (":warning:", format!("Halted: listener rule changed outside Switchback: {}", clipped(&halt.reason)));
    }
    let mark = match running.stage() {
        Stage::Gated => ":raised_hand:",
        Stage::RollingBack | Stage::Abandoning => ":rewind:",
        _ => ":arrow_forward:",
    };
    (mark, clipped(&stage(running)))
}

/// An approval request.
struct PendingApproval<'a> {
    plan: &'a PlanId,
    approved: &'a [Name],
    required: u8,
    eligible: &'a [Name],
    expires_at: Timestamp,
}

fn pending_approval(state: &TargetState, number: u64) -> Option<PendingApproval<'_>> {
    state.running.as_ref().filter(|running| running.number == number)?;
    state.explanation.waiting_on.iter().find_map(|on| match on {
        WaitingOn::Approval { plan, approved, required, eligible, expires_at } => {
            Some(PendingApproval { plan, approved, required: *required, eligible, expires_at: *expires_at })
        }
        _ => None,
    })
}

fn approval_blocks(about: &DeploymentSummary<'_>, state: &TargetState, approval: &PendingApproval<'_>) -> Vec<Value> {
    let replaces = match state.stable.as_ref().map(|stable| stable.release.as_ref()) {
        Some(Some(stable)) => plain(&stable.tag),
        Some(None) => "what ran before Switchback".to_owned(),
        None => "whatever is live".to_owned(),
    };
    let approvers = if approval.approved.is_empty() { "nobody yet".to_owned() } else { names(approval.approved) };
    let mut text = format!(
        "*Approve {} for {}?* It replaces {replaces}.\nApproved by: {approvers} ({} of {}). Expires {}; plan `{}`.",
        plain(&about.release.tag),
        about.target,
        approval.approved.len(),
        approval.required,
        date(approval.expires_at),
        approval.plan.0,
    );
    let eligible: Vec<String> = approval.eligible.iter().map(|name| mention(name, about.people)).collect();
    text.push_str(&format!("\nMay approve: {}.", names(&eligible)));
    let value = json!({"t": about.target, "d": about.number, "p": approval.plan}).to_string();
    let button = |id: &str, words: &str, style: &str| {
        json!({
            "type": "button",
            "action_id": id,
            "text": {"type": "plain_text", "text": words},
            "style": style,
            "value": value,
        })
    };
    // A changed plan is a new question: a reason typed for the previous one must not be kept.
    let block = format!("{REASON}_{}_{}", about.number, approval.plan.0);
    vec![
        section(&text),
        json!({
            "type": "input",
            "block_id": block,
            "optional": true,
            "label": {"type": "plain_text", "text": "Reason, for the record (a no needs one)"},
            "element": {"type": "plain_text_input", "action_id": REASON, "max_length": MAX_REASON_CHARS},
        }),
        json!({
            "type": "actions",
            "elements": [button(APPROVE, "Approve", "primary"), button(REJECT, "Reject", "danger")],
        }),
    ]
}

/// Mentions the approvers who have not approved yet and are known to Slack.
fn mentions(approval: &PendingApproval<'_>, people: &BTreeMap<Name, Person>) -> String {
    let known = approval.eligible.iter().filter(|name| people.get(*name).is_some_and(|person| person.slack.is_some()));
    known.map(|name| mention(name, people)).collect::<Vec<_>>().join(" ")
}

/// A person from the policy, as Slack shows them.
fn mention(name: &Name, people: &BTreeMap<Name, Person>) -> String {
    match people.get(name).and_then(|person| person.slack.as_deref()) {
        Some(id) => format!("<@{}>", escaped(id)),
        None => name.to_string(),
    }
}

/// The actor; as a mention if Slack has authenticated them.
fn person(actor: &Actor) -> String {
    match actor {
        Actor::Person { name } => match name.strip_prefix(SLACK_PREFIX) {
            Some(id) => format!("<@{}>", escaped(id)),
            None => plain(&display_name(name)),
        },
        other => plain(&clipped(&other.to_string())),
    }
}

/// Who requested the deployment that needs approval.
fn requester(actor: &Actor) -> String {
    match actor {
        Actor::Person { name } if !name.starts_with(SLACK_PREFIX) => plain(&full_identity(name)),
        other => person(other),
    }
}

/// One journal entry: time of day, mark, sentence.
fn line(entry: &JournalEntry) -> String {
    let (tone, words) = description(entry);
    let mark = match (tone, &entry.fact) {
        (_, Fact::Ended { .. }) => "■",
        (crate::journal::Tone::Plain, _) => "·",
        (crate::journal::Tone::Good, _) => "✓",
        (crate::journal::Tone::Warning, _) => "!",
        (crate::journal::Tone::Bad, _) => "✗",
    };
    format!("{} {mark} {}", time(entry.at), plain(&words))
}

fn section(text: &str) -> Value {
    json!({"type": "section", "text": {"type": "mrkdwn", "text": short(&visible_lines(text), MAX_SECTION_CHARS)}})
}

fn context(text: &str) -> Value {
    json!({"type": "context", "elements": [{"type": "mrkdwn", "text": short(&visible_lines(text), MAX_SECTION_CHARS)}]})
}

/// A timestamp that Slack shows in the reader's time zone (Slack, "Formatting text for app surfaces", dates).
fn date(at: Timestamp) -> String {
    format!("<!date^{}^{{date_short_pretty}} {{time}}|{}>", at.as_second(), instant(at))
}

/// Same, time of day only.
fn time(at: Timestamp) -> String {
    format!("<!date^{}^{{time_secs}}|{}>", at.as_second(), crate::time_format::time_of_day(at))
}

/// Text from outside: without markup and mentions, and limited in length.
fn plain(words: &str) -> String {
    escaped(&clipped(words))
}

/// Escaped text without mentions and links (Slack, "Escaping text"); asterisks and underscores still affect formatting.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn clipped(words: &str) -> String {
    short(&text::line(words, usize::MAX), MAX_QUOTE_CHARS)
}

/// Truncates to `max` characters without splitting an escape.
fn short(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    let mut kept = clip(text, max - 1);
    for (opens, closes) in [('<', '>'), ('&', ';')] {
        if let Some(open) = kept.rfind(opens).filter(|open| !kept[*open..].contains(closes)) {
            kept = &kept[..open];
        }
    }
    format!("{kept}…")
}

fn lowercase_first(words: &str) -> String {
    let mut words = words.to_owned();
    if let Some(first) = words.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    words
}

#[cfg(test)]
mod tests;
