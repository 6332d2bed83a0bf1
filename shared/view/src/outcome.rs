//! What became of what was asked.

use crate::journal::{Tone, verdict_words};
use crate::layout::{WIDTH, beside, wrap};
use crate::paint::Paint;
use crate::people::{who, with_short_names};
use crate::waiting::waiting;
use crate::when::lasts;
use jiff::Timestamp;
use rollout::stage::Verdict;
use rollout::target::{DeploymentRecord, WaitingOn};
use rollout::{Actor, Seconds, TargetId};

/// What was asked, taken down.
#[derive(Debug, Clone, Copy)]
pub struct Taken<'a> {
    /// What was asked, in a word: `deploy`, `hotfix`, `approve`.
    pub verb: &'a str,
    /// Of whom.
    pub target: &'a TargetId,
    /// What is to be deployed: tag and short digest.
    pub release: Option<(&'a str, &'a str)>,
    /// The deployment that carries it, where that is known.
    pub deployment: Option<u64>,
    /// Who asked, as the control plane has proven it.
    pub actor: &'a Actor,
    /// It had not been asked before.
    pub new: bool,
    /// The target was woken at once.
    pub woken: bool,
}

/// Says that it was taken down, and where to look.
#[must_use]
pub fn taken(taken: Taken<'_>, follows: bool) -> String {
    let Taken { verb, target, release, deployment, actor, new, woken } = taken;
    let of = deployment.map_or_else(String::new, |number| format!(" of deployment #{number}"));
    let what = match (verb, release, deployment) {
        ("approve", ..) => format!("Approval{of} submitted for {target}"),
        ("reject", ..) => format!("Rejection{of} submitted for {target}"),
        ("override", ..) => format!("Gate override{of} requested on {target}"),
        ("resume", ..) => format!("Resume{of} requested on {target}"),
        ("hotfix", Some((tag, digest)), _) => format!("Hotfix {tag} ({digest}) requested on {target}"),
        (_, Some((tag, digest)), _) => format!("Deployment of {tag} ({digest}) requested on {target}"),
        ("abort", _, Some(number)) => format!("Abort of deployment #{number} requested on {target}"),
        ("abort", ..) => format!("Abort requested on {target}"),
        (_, _, Some(number)) => format!("Rollback of deployment #{number} requested on {target}"),
        _ => format!("Rollback to the previous release requested on {target}"),
    };
    let mut text = format!("{what}, by {}.", who(&actor.to_string()));
    if !new {
        text.push_str(" This is a repetition: the first request counts.");
    }
    if !woken {
        text.push_str(" The target could not be woken; the sweeper does it within a minute.");
    }
    if !follows {
        text.push_str(&format!(" Follow it: `switchback status {target} --watch`."));
    }
    format!("{}\n", wrap(&text, WIDTH, 0))
}

/// A member of a train runs what it is to run.
#[must_use]
pub fn there_already(target: &TargetId) -> String {
    format!("{target} runs that release already.\n")
}

/// What is waited for right now, as a line among journal lines.
#[must_use]
pub fn waits(on: &WaitingOn, now: Timestamp, paint: Paint) -> String {
    note(&format!("waiting for {}", waiting(on, now)), paint)
}

/// Something that goes on, as a line among journal lines.
#[must_use]
pub fn note(text: &str, paint: Paint) -> String {
    format!("{}\n", beside(&format!("{}  {} ", " ".repeat(8), paint.faint("…")), 12, text))
}

/// How a deployment ended.
#[must_use]
pub fn ended(record: &DeploymentRecord, paint: Paint) -> String {
    let verdict = record.verdict.map_or("running", verdict_words);
    let tone = if record.verdict == Some(Verdict::Succeeded) { Tone::Good } else { Tone::Bad };
    let took = record
        .ended_at
        .map_or_else(String::new, |ended| format!(" after {}", lasts(Seconds::between(record.started_at, ended))));
    let reason = if record.reason.is_empty() { String::new() } else { format!(": {}", record.reason) };
    let (number, tag, target) = (record.number, &record.release.tag, &record.target);
    let text = with_short_names(&format!("Deployment #{number} of {tag} to {target} {verdict}{took}{reason}"));
    format!("{}\n", paint.tone(tone, &wrap(&text, WIDTH, 0)))
}

/// A release gave way before it started.
#[must_use]
pub fn superseded(tag: &str, by_tag: &str, target: &TargetId, paint: Paint) -> String {
    let text = format!("{tag} was superseded by {by_tag} on {target} before it started.");
    format!("{}\n", paint.tone(Tone::Bad, &wrap(&text, WIDTH, 0)))
}

/// The deployment goes on, and nobody waits for it any more.
#[must_use]
pub fn still_running(target: &TargetId, patience: Seconds, paint: Paint) -> String {
    let text =
        format!("Still running after {}; no longer watching. See `switchback status {target}`.", lasts(patience));
    format!("{}\n", paint.tone(Tone::Warning, &wrap(&text, WIDTH, 0)))
}
