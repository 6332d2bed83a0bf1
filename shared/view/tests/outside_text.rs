//! Text from outside, in every output for people: nothing in it acts on a terminal, a mail client, a chat or a browser.
#![expect(clippy::unwrap_used, reason = "tests")]

use rollout::doctor::{Finding, Severity};
use rollout::effect::EffectKind;
use rollout::journal::{Fact, JournalEntry};
use rollout::text::is_visible;
use rollout::verdict::{Cause, Verdict};
use rollout::{Actor, CommandRefusal, Name, PlanId, TargetId, Timestamp};
use serde_json::Value;
use view::Paint;
use view::policy_file::{PolicyDifference, PolicyProblem, differences, policy_problem};

/// Escape sequences, a link of a terminal, a line break with a forged line, changes of direction, zero width.
const HOSTILE: [&str; 6] = [
    "v1\u{1b}[2K\u{1b}[1Gv2",
    "\u{1b}]8;;https://evil.example\u{7}v1",
    "v1\r\n03:00:00 \u{2713} forged",
    "v1\u{202e}2v\u{2066}",
    "v1\u{200b}\u{feff}\u{ad}",
    "v1\u{9b}31m\u{e0041}\u{2028}x",
];

fn target() -> TargetId {
    TargetId::parse("shop/api/prod").unwrap()
}

/// Facts that contain text from outside.
fn facts(text: &str) -> Vec<Fact> {
    let words = || text.to_owned();
    vec![
        Fact::Started {
            digest: words(),
            tag: words(),
            policy_version: 1,
            reason: words(),
            despite_alarms: vec![words()],
        },
        Fact::CommandRefused { command: words(), reason: CommandRefusal::AtEntryPoint { reason: words() } },
        Fact::Queued { digest: words(), tag: words() },
        Fact::Superseded { digest: words(), tag: words(), by_tag: words() },
        Fact::VersionReady { version: words(), reused: false },
        Fact::HookStarted { hook: words() },
        Fact::HookFailed { hook: words(), reason: words() },
        Fact::Blocked { reason: words() },
        Fact::Halted { reason: words() },
        Fact::EffectFailed { effect: EffectKind::SetWeights, reason: words(), refused: false },
        Fact::EffectFailed { effect: EffectKind::SetWeights, reason: words(), refused: true },
        Fact::RollbackStarted { cause: Cause::Alarm { name: words(), reason: words() } },
        Fact::RollbackBlocked { reason: words() },
        Fact::Ended { verdict: Verdict::Failed, reason: words(), live: None },
        Fact::CleanupIncomplete { what: words() },
        Fact::ApprovalRequested {
            plan: PlanId("3fa90c1e5d7b2a64".to_owned()),
            digest: words(),
            tag: words(),
            required: 1,
            approvers: vec![Name::new("ada").unwrap()],
            expires_at: Timestamp::UNIX_EPOCH,
            with: [(Name::new("web").unwrap(), words())].into(),
        },
        Fact::VerificationRevoked { digest: words(), tag: words(), reason: words() },
        Fact::OperatorResumed { reason: words() },
    ]
}

fn entry(fact: Fact, actor: &str) -> JournalEntry {
    JournalEntry {
        target: target(),
        sequence: 1,
        deployment: Some(1),
        at: Timestamp::UNIX_EPOCH,
        actor: Actor::Person { name: actor.to_owned() },
        fact,
    }
}

#[track_caller]
fn assert_one_line(shown: &str) {
    assert!(shown.chars().all(is_visible), "{shown:?}");
}

#[track_caller]
fn assert_visible_lines(shown: &str) {
    assert!(shown.chars().all(|character| character == '\n' || is_visible(character)), "{shown:?}");
    assert!(!shown.lines().any(|line| line.starts_with("03:00:00")), "{shown}");
}

fn texts(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::String(text) => into.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| texts(item, into)),
        Value::Object(fields) => fields.values().for_each(|item| texts(item, into)),
        _ => {}
    }
}

#[test]
fn journal_text_is_safe_in_every_output() {
    for text in HOSTILE {
        for fact in facts(text) {
            assert_one_line(&view::journal::sentence(&fact).1);
            let entry = entry(fact, text);
            assert_one_line(&view::journal::description(&entry).1);
            let notice = view::notice(&entry);
            assert_one_line(&notice.subject);
            assert_visible_lines(&notice.text);
            let chat = view::slack::entry(&entry);
            let mut all = vec![chat.text];
            texts(&chat.blocks, &mut all);
            all.iter().for_each(|text| assert_visible_lines(text));
            let plain = view::history::entries(std::slice::from_ref(&entry), Paint::PLAIN);
            assert_visible_lines(&Paint::PLAIN.visible(&plain));
            let coloured = Paint::COLOURED.visible(&view::history::entries(&[entry], Paint::COLOURED));
            let codes = ["\u{1b}[0m", "\u{1b}[1m", "\u{1b}[2m", "\u{1b}[31m", "\u{1b}[32m", "\u{1b}[33m"];
            assert_visible_lines(&codes.iter().fold(coloured, |text, code| text.replace(code, "")));
        }
    }
}

#[test]
fn findings_files_and_names_are_safe_in_every_output() {
    for text in HOSTILE {
        let finding = Finding {
            severity: Severity::Broken,
            check: "alarm_missing".to_owned(),
            subject: text.to_owned(),
            problem: text.to_owned(),
            remedy: text.to_owned(),
        };
        assert_visible_lines(&Paint::PLAIN.visible(&view::doctor::findings(
            &target(),
            "version 3",
            &[finding],
            Paint::PLAIN,
        )));
        let output = policy_problem(
            "switchback.yaml",
            text,
            PolicyProblem { line: 1, column: 1, path: "", message: "m" },
            Paint::PLAIN,
        );
        assert_visible_lines(&Paint::PLAIN.visible(&output));
        let difference = PolicyDifference { path: text, target: "", before: Some(text), after: Some(text) };
        assert_visible_lines(&Paint::PLAIN.visible(&differences(&[difference], Paint::PLAIN)));
        assert_one_line(&view::people::display_name(text));
        assert_one_line(&view::people::full_identity(text));
    }
}
