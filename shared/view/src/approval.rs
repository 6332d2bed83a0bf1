//! Deployments that wait for approval: the request, and the approvals so far.

use crate::layout::hanging_indent;
use crate::paint::Paint;
use crate::people::{display_name, names};
use crate::status::option_notes;
use crate::time_format::{ago, instant, until};
use crate::waiting::waiting;
use jiff::Timestamp;
use rollout::deployment::Deployment;
use rollout::explanation::WaitingOn;
use rollout::target::TargetState;

/// A deployment that waits for approval: what it would do, who requested it, what it replaces, who has approved.
/// Approvers decide on the basis of this text.
#[must_use]
pub fn approval_summary(state: &TargetState, deployment: &Deployment, now: Timestamp, paint: Paint) -> String {
    let (number, release) = (deployment.number, &deployment.release);
    let target = paint.strong(&state.target.to_string());
    let mut text = format!("{target}  deployment #{number}: {}\n\n", paint.strong(&release.tag));
    let mut line = |name: &str, words: &str| {
        let head = format!("  {} ", paint.faint(&format!("{name:<10}")));
        text.push_str(&format!("{}\n", hanging_indent(&head, 13, words)));
    };
    line("release", &format!("{} {}", release.tag, release.id.digest));
    let replaces = state.stable.as_ref().map(|stable| stable.release.as_ref());
    line(
        "replaces",
        &match replaces {
            Some(Some(stable)) => stable.tag.clone(),
            Some(None) => "what ran before Switchback".to_owned(),
            None => "whatever is live: no deployments yet".to_owned(),
        },
    );
    let by = display_name(&deployment.actor.to_string());
    let why = if deployment.reason.is_empty() { String::new() } else { format!(": {}", deployment.reason) };
    line("requested", &format!("{} by {by}{why}", ago(deployment.started_at, now)));
    for words in option_notes(deployment) {
        line("", &words);
    }
    for alarm in &deployment.overrides.firing_alarms {
        line("accepts", &format!("alarm {alarm} firing at the start"));
    }
    line("policy", &format!("version {}", deployment.policy_version));
    if let Some(gates) = &deployment.gates {
        line("plan", &gates.plan.0);
        for vote in &gates.votes {
            line("approved", &format!("by {}, {}", vote.person, ago(vote.at, now)));
        }
    }
    for on in &state.explanation.waiting_on {
        if matches!(on, WaitingOn::Gate { .. }) {
            line("waiting", &format!("for {}", waiting(on, now)));
        }
        if let WaitingOn::Approval { approved, required, eligible, expires_at, .. } = on {
            let has = approved.len();
            line("needs", &format!("{required} of {}, has {has}", names(&[approved.as_slice(), eligible].concat())));
            line("until", &format!("{} ({})", instant(*expires_at), until(*expires_at, now)));
        }
    }
    text
}

/// The deployment that waits for approval, if one does.
#[must_use]
pub fn pending_approval(state: &TargetState) -> Option<&Deployment> {
    let needs_approval = state.explanation.waiting_on.iter().any(|on| matches!(on, WaitingOn::Approval { .. }));
    state.running.as_ref().filter(|_| needs_approval)
}
