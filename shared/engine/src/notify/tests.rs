//! How entries are rendered.

use super::*;
use rollout::Actor;
use rollout::verdict::Verdict;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_316_400 + second).expect("a time")
}

fn entry(sequence: u64, fact: Fact) -> JournalEntry {
    let target = TargetId::parse("shop/api/prod").expect("a target");
    JournalEntry { target, sequence, deployment: Some(12), at: at(0), actor: Actor::Switchback, fact }
}

fn ended() -> Fact {
    Fact::Ended { verdict: Verdict::RolledBack, reason: "alarm api-5xx fires".to_owned(), live: None }
}

#[test]
fn a_bus_event_has_the_documented_shape() {
    let BusEvent { at: when, detail } = bus_event(&entry(9, ended()));
    assert_eq!(when, at(0));
    let detail: Value = serde_json::from_str(&detail).expect("JSON");
    assert_eq!(
        detail,
        json!({
            "version": 1,
            "id": "shop/api/prod#9",
            "target": "shop/api/prod",
            "application": "shop",
            "service": "api",
            "environment": "prod",
            "sequence": 9,
            "deployment": 12,
            "at": "2026-11-22T03:00:00Z",
            "actor": {"kind": "switchback"},
            "fact": "ended",
            "verdict": "rolled_back",
            "data": {"verdict": "rolled_back", "reason": "alarm api-5xx fires", "live": null},
            "attention": true,
            "tone": "bad",
            "text": "Rolled back: alarm api-5xx fires",
        })
    );
}

#[test]
fn a_message_has_filter_attributes_and_a_deduplication_id() {
    let sent = message(&entry(9, ended()));
    assert_eq!(sent.subject, "Rolled back: shop/api/prod #12");
    let attributes: Vec<String> = sent.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let expected = ["application=shop", "service=api", "environment=prod", "fact=ended", "verdict=rolled_back"];
    assert_eq!(attributes, expected);
    assert_eq!((sent.group.len(), sent.deduplication_id.len()), (32, 32));
    let other = message(&entry(10, Fact::Resumed));
    assert_eq!(other.group, sent.group);
    assert_ne!(other.deduplication_id, sent.deduplication_id);
    assert_eq!(other.attributes.len(), 4);
}
