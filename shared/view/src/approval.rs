//! What people are asked to say yes to, and what was said so far.

use crate::layout::beside;
use crate::paint::Paint;
use crate::people::{names, who};
use crate::status::terms;
use crate::waiting::waiting;
use crate::when::{ago, instant, until};
use jiff::Timestamp;
use rollout::target::{Deployment, TargetState, WaitingOn};

/// A deployment that waits for approval: what it would do, who asked, what it replaces, who said yes. Whoever answers
/// answers to this.
#[must_use]
pub fn sheet(state: &TargetState, deployment: &Deployment, now: Timestamp, paint: Paint) -> String {
    let (number, release) = (deployment.number, &deployment.release);
    let target = paint.strong(&state.target.to_string());
    let mut text = format!("{target}  deployment #{number}: {}\n\n", paint.strong(&release.tag));
    let mut line = |name: &str, words: &str| {
        let head = format!("  {} ", paint.faint(&format!("{name:<10}")));
        text.push_str(&format!("{}\n", beside(&head, 13, words)));
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
    let by = who(&deployment.actor.to_string());
    let why = if deployment.reason.is_empty() { String::new() } else { format!(": {}", deployment.reason) };
    line("requested", &format!("{} by {by}{why}", ago(deployment.started_at, now)));
    for words in terms(deployment) {
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
        if let WaitingOn::Approval { approved, required, may, expires_at, .. } = on {
            let has = approved.len();
            line("needs", &format!("{required} of {}, has {has}", names(&[approved.as_slice(), may].concat())));
            line("until", &format!("{} ({})", instant(*expires_at), until(*expires_at, now)));
        }
    }
    text
}

/// The deployment that waits for an answer of people, if one does.
#[must_use]
pub fn pending(state: &TargetState) -> Option<&Deployment> {
    let asks = state.explanation.waiting_on.iter().any(|on| matches!(on, WaitingOn::Approval { .. }));
    state.running.as_ref().filter(|_| asks)
}
