//! What a person is told who is not looking: a subject and a text, for mail and its like.

use crate::journal::{sentence, verdict_words};
use rollout::journal::{Fact, JournalEntry};

/// The longest subject that SNS takes, in characters.
const LONGEST_SUBJECT: usize = 100;

/// A journal entry as a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// One line of printable ASCII, at most 100 characters: what SNS takes (SNS API, `Publish`, `Subject`).
    pub subject: String,
    /// What happened, where, by whom, when; and where to read on.
    pub text: String,
}

/// Says one journal entry by itself.
#[must_use]
pub fn notice(entry: &JournalEntry) -> Notice {
    let JournalEntry { target, deployment, at, actor, fact, .. } = entry;
    let number = deployment.map(|number| format!(" #{number}")).unwrap_or_default();
    let subject = format!("{}: {target}{number}", heading(fact));
    let subject = subject.chars().map(|it| if it == ' ' || it.is_ascii_graphic() { it } else { '?' });
    let (_, what) = sentence(fact);
    let mut text = format!("{what}\n\n");
    let mut line = |name: &str, value: &str| text.push_str(&format!("{name:<12}{value}\n"));
    line("target", &target.to_string());
    if let Some(number) = deployment {
        line("deployment", &format!("#{number}"));
    }
    line("by", &actor.to_string());
    line("at", &at.to_string());
    text.push_str(&format!("\nswitchback explain {target}\n"));
    Notice { subject: subject.take(LONGEST_SUBJECT).collect(), text }
}

/// A fact in a few words of ours: what others wrote is in the text.
fn heading(fact: &Fact) -> String {
    let words = match fact {
        Fact::Started { .. } => "Deployment began",
        Fact::Blocked { .. } => "Not started yet",
        Fact::Halted { .. } => "Halted",
        Fact::Resumed => "Going on",
        Fact::RollbackStarted { .. } => "Switching back",
        Fact::WayBackUnfit { .. } => "The way back waits",
        Fact::LeftBehind { .. } => "Left undone",
        Fact::Ended { verdict, .. } => verdict_words(*verdict),
        other => other.name(),
    };
    let mut words = words.replace('_', " ");
    if let Some(first) = words.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use rollout::stage::Verdict;
    use rollout::{Actor, Slot, TargetId, Timestamp};

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
    fn an_end_is_told_with_its_reason_and_where_traffic_is() {
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
    fn a_subject_is_what_sns_takes() {
        let long = "x".repeat(63);
        let target = format!("{long}/{long}/{long}");
        for fact in [Fact::Resumed, Fact::HookStarted { hook: "ø".to_owned() }] {
            let subject = notice(&entry(&target, fact)).subject;
            assert_eq!(subject.chars().count(), 100);
            assert!(subject.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{subject}");
        }
    }
}
