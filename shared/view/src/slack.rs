//! What stands in Slack: a release's thread, a deployment in it, and what people are asked there (Block Kit).
//!
//! A message is edited whenever it says something else, so nothing here depends on the time at which it is said: moments
//! are handed to Slack, which shows each reader their own.

use crate::journal::{capitalised, stage_words, told, verdict_words};
use crate::people::{in_full, names, who};
use crate::status::{stage, terms};
use crate::when::instant;
use jiff::Timestamp;
use rollout::entry::{Person, SLACK};
use rollout::journal::{Fact, JournalEntry};
use rollout::stage::Verdict;
use rollout::target::{Deployment, DeploymentRecord, Purpose, ReleaseRef, TargetState, WaitingOn};
use rollout::text::visible_lines;
use rollout::{Actor, Name, PlanId, Provenance, Stage, TargetId};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// `action_id` of the button that says yes.
pub const APPROVE: &str = "switchback_approve";
/// `action_id` of the button that says no.
pub const REJECT: &str = "switchback_reject";
/// `action_id` of the text input for the reason.
pub const REASON: &str = "switchback_reason";

/// The longest text of a section (Slack, "Block Kit reference": section, `text`), less what escaping may add at its end.
const LONGEST_TEXT: usize = 2_900;
/// The longest text of somebody else's that is shown.
const LONGEST_WORDS: usize = 300;
/// How many lines of the journal a deployment shows: the newest ones.
const MOST_LINES: usize = 8;
/// The longest reason that is taken.
const LONGEST_REASON: usize = 500;

/// A message.
#[derive(Debug, Clone, PartialEq)]
pub struct Chat {
    /// For notifications, and for whoever shows no blocks.
    pub text: String,
    /// Block Kit: an array.
    pub blocks: Value,
}

/// A release, and where it is.
#[derive(Debug, Clone, Copy)]
pub struct Whereabouts<'a> {
    /// What.
    pub release: &'a ReleaseRef,
    /// Where it comes from, as far as that is known.
    pub provenance: Option<&'a Provenance>,
    /// Each environment of its service, as it stands.
    pub places: &'a [Place],
}

/// One environment, as a release's thread sees it.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// Its target; none: nothing was ever deployed there.
    pub state: Option<TargetState>,
    /// The newest deployment of the release there that is over.
    pub last: Option<DeploymentRecord>,
}

/// A deployment, and how it goes.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// Where.
    pub target: &'a TargetId,
    /// The how-many-th of its target.
    pub number: u64,
    /// What.
    pub release: &'a ReleaseRef,
    /// Who asked for it.
    pub actor: &'a Actor,
    /// The target, while this deployment is the one that runs.
    pub state: Option<&'a TargetState>,
    /// How it ended, and why.
    pub ended: Option<(Verdict, &'a str)>,
    /// Its journal, oldest first; it may begin in the middle.
    pub entries: &'a [JournalEntry],
    /// The people that the policy names.
    pub people: &'a BTreeMap<Name, Person>,
}

/// The first message of a release's thread: what it is, and where it is by now.
#[must_use]
pub fn release(about: &Whereabouts<'_>) -> Chat {
    let id = &about.release.id;
    let title = format!("{}/{} {}", id.application, id.service, about.release.tag);
    let places: Vec<(&TargetId, String, String)> = about
        .places
        .iter()
        .filter_map(|place| {
            let (plain, rich) = place_words(place, about.release)?;
            Some((&place.state.as_ref()?.target, plain, rich))
        })
        .collect();
    let at = |(target, plain, _): &(&TargetId, String, String)| format!("{} {plain}", target.environment);
    let summary = places.iter().map(at).collect::<Vec<_>>().join(" · ");
    let lines: Vec<String> =
        places.iter().map(|(target, _, rich)| format!("*{}*  {rich}", target.environment)).collect();
    let body = if lines.is_empty() { "not deployed yet".to_owned() } else { lines.join("\n") };

    let mut origin = vec![format!("`{}`", id.digest.short())];
    if let Some(from) = about.provenance {
        let commit = from.commit.as_deref().map(|commit| commit.chars().take(12).collect::<String>());
        let known = [commit, from.git_ref.clone(), from.run.clone(), from.actor.clone()];
        origin.extend(known.into_iter().flatten().map(|words| plain(&words)));
    }
    Chat {
        text: escaped(&if summary.is_empty() { title.clone() } else { format!("{title}: {summary}") }),
        blocks: json!([section(&format!("*{}*\n{body}", plain(&title))), context(&origin.join(" · "))]),
    }
}

/// What a release is in an environment, without and with markup; none: it never was there.
fn place_words(place: &Place, release: &ReleaseRef) -> Option<(String, String)> {
    let state = place.state.as_ref()?;
    let same = |other: &ReleaseRef| other.id == release.id;
    let both = |words: String| Some((words.clone(), plain(&words)));
    let since = |words: &str, at: Timestamp| Some((words.to_owned(), format!("{words} since {}", date(at))));
    if let Some(running) = state.running.as_ref().filter(|running| same(&running.release)) {
        let waits = match (&running.stage, asked(state, running.number)) {
            (_, _) if running.frozen.is_some() => "frozen until a person decides".to_owned(),
            (Stage::Gated { .. }, Some(ask)) => {
                format!("waiting for approval ({} of {})", ask.approved.len(), ask.required)
            }
            (stage, _) => lower(&stage_words(stage.name())),
        };
        return both(format!("#{}: {waits}", running.number));
    }
    if state.queued.iter().any(|queued| same(&queued.release)) {
        return both("queued behind the running deployment".to_owned());
    }
    let verified = state.verified.iter().find(|verified| same(&verified.release));
    if let Some(stable) = state.stable.as_ref().filter(|side| side.release.as_ref().is_some_and(same)) {
        return since(if verified.is_some() { "live, verified" } else { "live" }, stable.since);
    }
    if let Some(verified) = verified {
        return since("verified", verified.at);
    }
    let last = place.last.as_ref().filter(|last| same(&last.release))?;
    let (verdict, ended_at) = (last.verdict?, last.ended_at?);
    let words = match verdict {
        // What is neither live nor verified any more was there once.
        Verdict::Succeeded => "was live",
        other => verdict_words(other),
    };
    let text = format!("{words} (#{})", last.number);
    Some((text.clone(), format!("{text}, {}", date(ended_at))))
}

/// A deployment's message: what it is, where it stands, what it asks people, and the newest of what happened.
#[must_use]
pub fn deployment(about: &Progress<'_>) -> Chat {
    let Progress { target, number, release, actor, .. } = about;
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
    facts.extend(running.map(terms).unwrap_or_default().iter().map(|words| plain(words)));
    blocks.push(context(&facts.join(" · ")));

    let ask = about.state.and_then(|state| Some((state, asked(state, *number)?)));
    if let Some(running) = running.filter(|running| matches!(running.stage, Stage::Gated { .. })) {
        let gates = running.gates.as_ref().map(|gates| &gates.told).into_iter().flatten();
        let lines: Vec<String> = gates
            .filter(|(gate, _)| ask.is_none() || **gate != rollout::Gate::Approval)
            .map(|(gate, reason)| format!("• {gate}: {}", plain(reason)))
            .collect();
        if !lines.is_empty() {
            blocks.push(section(&lines.join("\n")));
        }
    }
    if let Some((state, ask)) = &ask {
        blocks.extend(questions(about, state, ask));
    }
    let lines: Vec<String> = about.entries.iter().rev().take(MOST_LINES).rev().map(line).collect();
    if !lines.is_empty() {
        blocks.push(section(&lines.join("\n")));
    }
    blocks.push(context(&format!("`switchback explain {target}`")));
    let call = ask.map(|(_, ask)| mentions(&ask, about.people)).filter(|call| !call.is_empty());
    let text = format!("{target} #{number}, {what}: {now}");
    let text = escaped(&text);
    Chat { text: call.map_or(text.clone(), |call| format!("{text} {call}")), blocks: Value::Array(blocks) }
}

/// A message that calls people to a deployment whose own message was there before: an edit calls nobody.
#[must_use]
pub fn call(about: &Progress<'_>, entry: &JournalEntry) -> Chat {
    let (_, words) = told(entry);
    let asked = about.state.and_then(|state| asked(state, about.number));
    let call = asked.map(|ask| mentions(&ask, about.people)).unwrap_or_default();
    let text = format!("{} #{}: {}", about.target, about.number, plain(&words));
    let text = if call.is_empty() { text } else { format!("{text} {call}") };
    Chat { blocks: json!([section(&text)]), text }
}

/// A journal entry that belongs to no deployment, by itself.
#[must_use]
pub fn entry(entry: &JournalEntry) -> Chat {
    let (_, words) = told(entry);
    let (target, by) = (&entry.target, person(&entry.actor));
    Chat {
        text: format!("{target}: {}", plain(&words)),
        blocks: json!([
            section(&format!("*{target}*  {}", plain(&words))),
            context(&format!("{by} · {}", date(entry.at)))
        ]),
    }
}

fn running<'a>(about: &Progress<'a>) -> Option<&'a Deployment> {
    about.state.and_then(|state| state.running.as_ref()).filter(|running| running.number == about.number)
}

/// A mark, and where the deployment stands, in one line.
fn headline(about: &Progress<'_>, running: Option<&Deployment>) -> (&'static str, String) {
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
    if running.frozen.is_some() {
        return (":ice_cube:", "Frozen until a person decides (`switchback rollback`, `resume` or `abort`)".to_owned());
    }
    if let Some(halt) = &running.halted {
        return (":warning:", format!("Halted: listener rule changed outside Switchback: {}", clipped(&halt.reason)));
    }
    let mark = match running.stage {
        Stage::Gated { .. } => ":raised_hand:",
        Stage::RollingBack { .. } | Stage::LettingGo { .. } => ":rewind:",
        _ => ":arrow_forward:",
    };
    (mark, clipped(&stage(running)))
}

/// What people are asked.
struct Ask<'a> {
    plan: &'a PlanId,
    approved: &'a [Name],
    required: u8,
    may: &'a [Name],
    expires_at: Timestamp,
}

fn asked(state: &TargetState, number: u64) -> Option<Ask<'_>> {
    state.running.as_ref().filter(|running| running.number == number)?;
    state.explanation.waiting_on.iter().find_map(|on| match on {
        WaitingOn::Approval { plan, approved, required, may, expires_at } => {
            Some(Ask { plan, approved, required: *required, may, expires_at: *expires_at })
        }
        _ => None,
    })
}

fn questions(about: &Progress<'_>, state: &TargetState, ask: &Ask<'_>) -> Vec<Value> {
    let replaces = match state.stable.as_ref().map(|stable| stable.release.as_ref()) {
        Some(Some(stable)) => plain(&stable.tag),
        Some(None) => "what ran before Switchback".to_owned(),
        None => "whatever is live".to_owned(),
    };
    let yes = if ask.approved.is_empty() { "nobody yet".to_owned() } else { names(ask.approved) };
    let mut text = format!(
        "*Approve {} for {}?* It replaces {replaces}.\nApproved by: {yes} ({} of {}). Expires {}; plan `{}`.",
        plain(&about.release.tag),
        about.target,
        ask.approved.len(),
        ask.required,
        date(ask.expires_at),
        ask.plan.0,
    );
    let may: Vec<String> = ask.may.iter().map(|name| mention(name, about.people)).collect();
    text.push_str(&format!("\nMay approve: {}.", names(&may)));
    let value = json!({"t": about.target, "d": about.number, "p": ask.plan}).to_string();
    let button = |id: &str, words: &str, style: &str| {
        json!({
            "type": "button",
            "action_id": id,
            "text": {"type": "plain_text", "text": words},
            "style": style,
            "value": value,
        })
    };
    // A changed plan is another question: what was typed for the former one does not stay.
    let block = format!("{REASON}_{}_{}", about.number, ask.plan.0);
    vec![
        section(&text),
        json!({
            "type": "input",
            "block_id": block,
            "optional": true,
            "label": {"type": "plain_text", "text": "Reason, for the record (a no needs one)"},
            "element": {"type": "plain_text_input", "action_id": REASON, "max_length": LONGEST_REASON},
        }),
        json!({
            "type": "actions",
            "elements": [button(APPROVE, "Approve", "primary"), button(REJECT, "Reject", "danger")],
        }),
    ]
}

/// Calls those who may still say yes and whom Slack knows.
fn mentions(ask: &Ask<'_>, people: &BTreeMap<Name, Person>) -> String {
    let known = ask.may.iter().filter(|name| people.get(*name).is_some_and(|person| person.slack.is_some()));
    known.map(|name| mention(name, people)).collect::<Vec<_>>().join(" ")
}

/// A person by the policy's name, as Slack shows them.
fn mention(name: &Name, people: &BTreeMap<Name, Person>) -> String {
    match people.get(name).and_then(|person| person.slack.as_deref()) {
        Some(id) => format!("<@{}>", escaped(id)),
        None => name.to_string(),
    }
}

/// Whoever did something; whom Slack has proven, as Slack shows them.
fn person(actor: &Actor) -> String {
    match actor {
        Actor::Person { name } => match name.strip_prefix(SLACK) {
            Some(id) => format!("<@{}>", escaped(id)),
            None => plain(&who(name)),
        },
        other => plain(&clipped(&other.to_string())),
    }
}

/// Whoever asked for what people are to agree to.
fn requester(actor: &Actor) -> String {
    match actor {
        Actor::Person { name } if !name.starts_with(SLACK) => plain(&in_full(name)),
        other => person(other),
    }
}

/// One entry of the journal: the time of day, a mark, a sentence.
fn line(entry: &JournalEntry) -> String {
    let (tone, words) = told(entry);
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
    json!({"type": "section", "text": {"type": "mrkdwn", "text": short(&visible_lines(text), LONGEST_TEXT)}})
}

fn context(text: &str) -> Value {
    json!({"type": "context", "elements": [{"type": "mrkdwn", "text": short(&visible_lines(text), LONGEST_TEXT)}]})
}

/// A moment, shown in the reader's own zone (Slack, "Formatting text for app surfaces", dates).
fn date(at: Timestamp) -> String {
    format!("<!date^{}^{{date_short_pretty}} {{time}}|{}>", at.as_second(), instant(at))
}

/// The same, the time of day alone.
fn time(at: Timestamp) -> String {
    format!("<!date^{}^{{time_secs}}|{}>", at.as_second(), crate::when::clock(at))
}

/// Somebody else's words: nothing in them is markup or a call, and they are not too many.
fn plain(words: &str) -> String {
    escaped(&clipped(words))
}

/// Text in which nothing is a call or a link (Slack, "Escaping text"); stars and underlines change its looks alone.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn clipped(words: &str) -> String {
    let words = visible_lines(words).split_whitespace().collect::<Vec<_>>().join(" ");
    short(&words, LONGEST_WORDS)
}

/// At most so many characters, never half an escape.
fn short(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut kept: String = text.chars().take(most - 1).collect();
    for (opens, closes) in [('<', '>'), ('&', ';')] {
        if let Some(open) = kept.rfind(opens).filter(|open| !kept[*open..].contains(closes)) {
            kept.truncate(open);
        }
    }
    format!("{kept}…")
}

fn lower(words: &str) -> String {
    let mut words = words.to_owned();
    if let Some(first) = words.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    words
}

#[cfg(test)]
mod tests;
