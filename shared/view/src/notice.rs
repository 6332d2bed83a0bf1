//! Standalone notifications with subject and text, for e-mail and similar channels.

use crate::journal::{capitalised, sentence, verdict_words};
use crate::people::names;
use crate::time_format::instant;
use rollout::Name;
use rollout::journal::{Fact, JournalEntry};
use rollout::text::{visible, visible_lines};

/// Maximum length of an SNS subject, in characters.
const MAX_SUBJECT_CHARS: usize = 100;

/// A journal entry as a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// One line of printable ASCII, at most 100 characters, as SNS requires (SNS API, `Publish`, `Subject`).
    pub subject: String,
    /// What happened, where, by whom and when, with a pointer to further details.
    pub text: String,
}

/// A journal entry as a standalone notification.
#[must_use]
pub fn notice(entry: &JournalEntry) -> Notice {
    let JournalEntry { target, deployment, at, actor, fact, .. } = entry;
    let number = deployment.map(|number| format!(" #{number}")).unwrap_or_default();
    let subject = subject(&format!("{}: {target}{number}", heading(fact)));
    let (_, what) = sentence(fact);
    let mut text = format!("{what}\n\n");
    let mut line = |name: &str, value: &str| text.push_str(&format!("{name:<12}{value}\n"));
    line("target", &target.to_string());
    if let Some(number) = deployment {
        line("deployment", &format!("#{number}"));
    }
    line("by", &visible(&actor.to_string()));
    line("at", &at.to_string());
    text.push_str(&format!("\nswitchback explain {target}\n"));
    Notice { subject, text: visible_lines(&text) }
}

/// The approval request to one person, with their own link; none for facts other than the request.
#[must_use]
pub fn approval_request(entry: &JournalEntry, person: &Name, link: &str) -> Option<Notice> {
    let Fact::ApprovalRequested { plan, digest, tag, required, approvers, expires_at, with } = &entry.fact else {
        return None;
    };
    let target = &entry.target;
    let number = entry.deployment.map(|number| format!(" #{number}")).unwrap_or_default();
    let mut text = format!("{person}, do you approve {} for {target}?\n\n", visible(tag));
    let mut line = |name: &str, value: &str| text.push_str(&format!("{name:<12}{value}\n"));
    line("target", &format!("{target}{number}"));
    line("release", &visible(&format!("{tag} {digest}")));
    for (service, tag) in with {
        line("and", &visible(&format!("{service} {tag}, in the same release train")));
    }
    line("needed", &format!("{required} of {}", names(approvers)));
    line("until", &instant(*expires_at));
    line("plan", &plan.0);
    text.push_str(&format!(
        "\nReview and answer:\n\n{link}\n\n\
         The link is personal and valid for one answer: do not forward this mail. Opening it decides nothing.\n\
         On the command line: switchback approve {target}\n"
    ));
    let subject = subject(&format!("Approval requested: {target}{number}"));
    Some(Notice { subject, text: visible_lines(&text) })
}

fn subject(words: &str) -> String {
    let ascii =
        words.chars().map(|character| if character == ' ' || character.is_ascii_graphic() { character } else { '?' });
    ascii.take(MAX_SUBJECT_CHARS).collect()
}

/// A fact as a short phrase without text from outside, which appears only in the message body.
fn heading(fact: &Fact) -> String {
    let words = match fact {
        Fact::Started { .. } => "Deployment started",
        Fact::Blocked { .. } => "Not started yet",
        Fact::Halted { .. } => "Halted",
        Fact::Resumed => "Resumed",
        Fact::RollbackStarted { .. } => "Rolling back",
        Fact::RollbackBlocked { .. } => "Rollback is waiting",
        Fact::ForeignWeightsReplaced { .. } => "Foreign weights replaced",
        Fact::AlarmFiring { holds: false, .. } => "An alarm fires",
        Fact::AlarmFiring { .. } => "Holding: an alarm fires",
        Fact::AlarmPassed { .. } => "Started although an alarm fires",
        Fact::StableAlarm { .. } => "Holding: the stable side's alarm fires",
        Fact::CleanupIncomplete { .. } => "Not cleaned up",
        Fact::ApprovalRequested { .. } => "Approval requested",
        Fact::GateOverridden { .. } => "Gate overridden",
        Fact::HotfixStarted { .. } => "Hotfix",
        Fact::PlanChanged { .. } => "Plan changed",
        Fact::PromotionHeld { .. } => "Automatic promotion held",
        Fact::PromotionSkipped { .. } => "Not promoted",
        Fact::AwaitingOperator { .. } => "Awaiting an operator",
        Fact::OperatorResumed { .. } => "Resumed by a person",
        Fact::Ended { verdict, .. } => verdict_words(*verdict),
        other => other.name(),
    };
    capitalised(&words.replace('_', " "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rollout::verdict::Verdict;
    use rollout::{Actor, PlanId, Slot, TargetId, Timestamp};

    fn entry(target: &str, fact: Fact) -> JournalEntry {
        JournalEntry {
            target: TargetId::parse(target).expect("a target"),
            sequence: 9,
            deployment: Some(12),
            at: Timestamp::from_second(1_795_316_400).expect("a time"),
            actor: Actor::Switchback,
            fact,
        }
    }

    #[test]
    fn end_notice_states_reason_and_live_side() {
        let fact = Fact::Ended {
            verdict: Verdict::RolledBack,
            reason: "alarm api-5xx fires".to_owned(),
            live: Some(Slot::Blue),
        };
        let Notice { subject, text } = notice(&entry("shop/api/prod", fact));
        assert_eq!(subject, "Rolled back: shop/api/prod #12");
        assert_eq!(
            text,
            "Rolled back: alarm api-5xx fires (blue carries all traffic)\n\n\
             target      shop/api/prod\ndeployment  #12\nby          switchback\nat          2026-11-22T03:00:00Z\n\n\
             switchback explain shop/api/prod\n"
        );
    }

    #[test]
    fn approval_request_states_release_deadline_and_link() {
        let fact = Fact::ApprovalRequested {
            plan: PlanId("3fa90c1e5d7b2a64".to_owned()),
            digest: format!("sha256:{}", "0".repeat(64)),
            tag: "v1.4.2".to_owned(),
            required: 2,
            approvers: ["ada", "bob"].map(|name| Name::new(name).expect("a name")).to_vec(),
            expires_at: Timestamp::from_second(1_795_330_800).expect("a time"),
            with: [(Name::new("web").expect("a name"), "v7".to_owned())].into(),
        };
        let request = entry("shop/api/prod", fact);
        let ada = Name::new("ada").expect("a name");
        let Notice { subject, text } =
            approval_request(&request, &ada, "https://approve.example.com/approvals/x.y").expect("an approval request");
        assert_eq!(subject, "Approval requested: shop/api/prod #12");
        for words in [
            "ada, do you approve v1.4.2 for shop/api/prod?",
            "web v7, in the same release train",
            "2 of ada and bob",
            "2026-11-22 07:00:00 UTC",
            "3fa90c1e5d7b2a64",
            "\nhttps://approve.example.com/approvals/x.y\n",
            "do not forward this mail",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert_eq!(approval_request(&entry("shop/api/prod", Fact::Resumed), &ada, "https://x"), None);
    }

    #[test]
    fn subject_is_ascii_within_the_sns_limit() {
        let long = "x".repeat(63);
        let target = format!("{long}/{long}/{long}");
        for fact in [Fact::Resumed, Fact::HookStarted { hook: "ø".to_owned() }] {
            let subject = notice(&entry(&target, fact)).subject;
            assert_eq!(subject.chars().count(), 100);
            assert!(subject.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{subject}");
        }
    }
}
