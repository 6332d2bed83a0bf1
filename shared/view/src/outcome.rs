//! Results of requests.

use crate::journal::{Tone, verdict_words};
use crate::layout::{WIDTH, hanging_indent, wrap};
use crate::paint::Paint;
use crate::people::{display_name, with_short_names};
use crate::time_format::format_duration;
use crate::waiting::waiting;
use jiff::Timestamp;
use rollout::deployment::DeploymentRecord;
use rollout::explanation::WaitingOn;
use rollout::verdict::Verdict;
use rollout::{Actor, Seconds, TargetId};

/// A command that was accepted.
#[derive(Debug, Clone, Copy)]
pub struct AcceptedCommand<'a> {
    /// The command: `deploy`, `hotfix`, `approve`.
    pub verb: &'a str,
    /// The target it addresses.
    pub target: &'a TargetId,
    /// The release to deploy: tag and short digest.
    pub release: Option<(&'a str, &'a str)>,
    /// The deployment that carries it out, if known.
    pub deployment: Option<u64>,
    /// The requester, as authenticated by the control plane.
    pub actor: &'a Actor,
    /// False if the same command was accepted before.
    pub new: bool,
    /// The target was woken immediately.
    pub woken: bool,
}

/// Confirms that the command was accepted, and says where to look next.
#[must_use]
pub fn accepted(accepted: AcceptedCommand<'_>, followed: bool) -> String {
    let AcceptedCommand { verb, target, release, deployment, actor, new, woken } = accepted;
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
    let mut text = format!("{what}, by {}.", display_name(&actor.to_string()));
    if !new {
        text.push_str(" This is a repetition: the first request counts.");
    }
    if !woken {
        text.push_str(" The target could not be woken; the sweeper does it within a minute.");
    }
    if !followed {
        text.push_str(&format!(" Follow it: `switchback status {target} --watch`."));
    }
    format!("{}\n", wrap(&text, WIDTH, 0))
}

/// A member of a release train already runs its release.
#[must_use]
pub fn already_deployed(target: &TargetId) -> String {
    format!("{target} runs that release already.\n")
}

/// The current wait, as a line among journal lines.
#[must_use]
pub fn waits(on: &WaitingOn, now: Timestamp, paint: Paint) -> String {
    note(&format!("waiting for {}", waiting(on, now)), paint)
}

/// A remark, as a line among journal lines.
#[must_use]
pub fn note(text: &str, paint: Paint) -> String {
    format!("{}\n", hanging_indent(&format!("{}  {} ", " ".repeat(8), paint.faint("…")), 12, text))
}

/// The verdict of a deployment.
#[must_use]
pub fn ended(record: &DeploymentRecord, paint: Paint) -> String {
    let verdict = record.verdict.map_or("running", verdict_words);
    let tone = if record.verdict == Some(Verdict::Succeeded) { Tone::Good } else { Tone::Bad };
    let duration = record.ended_at.map_or_else(String::new, |ended| {
        format!(" after {}", format_duration(Seconds::between(record.started_at, ended)))
    });
    let reason = if record.reason.is_empty() { String::new() } else { format!(": {}", record.reason) };
    let (number, tag, target) = (record.number, &record.release.tag, &record.target);
    let text = with_short_names(&format!("Deployment #{number} of {tag} to {target} {verdict}{duration}{reason}"));
    format!("{}\n", paint.tone(tone, &wrap(&text, WIDTH, 0)))
}

/// A release was superseded before it started.
#[must_use]
pub fn superseded(tag: &str, by_tag: &str, target: &TargetId, paint: Paint) -> String {
    let text = format!("{tag} was superseded by {by_tag} on {target} before it started.");
    format!("{}\n", paint.tone(Tone::Bad, &wrap(&text, WIDTH, 0)))
}

/// The deployment continues, and the command no longer waits for it.
#[must_use]
pub fn still_running(target: &TargetId, timeout: Seconds, paint: Paint) -> String {
    let text = format!(
        "Still running after {}; no longer watching. See `switchback status {target}`.",
        format_duration(timeout)
    );
    format!("{}\n", paint.tone(Tone::Warning, &wrap(&text, WIDTH, 0)))
}
