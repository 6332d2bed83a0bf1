//! Every channel: none lost, none doubled but in the one gap, in order, and nobody held up by a refusal.

use crate::ports::{CrashPoint, Ports, at};
use engine::{NotifyError, SendError, notify};
use futures::FutureExt as _;
use rollout::entry::Person;
use rollout::journal::{Fact, JournalEntry};
use rollout::notification::{FactFilter, NotificationPolicy, Receiver};
use rollout::verdict::Verdict;
use rollout::{Actor, Name, PlanId, Policy, TargetId};
use serde_json::Value;
use simulation::world::{PairSetup, Settings};
use std::collections::BTreeMap;

const TOPIC: &str = "arn:aws:sns:eu-central-1:111122223333:deployments";

fn entry(sequence: u64, fact: Fact) -> JournalEntry {
    let target = TargetId::parse("shop/api/prod").expect("a target");
    JournalEntry { target, sequence, deployment: Some(12), at: at(0), actor: Actor::Switchback, fact }
}

fn ended() -> Fact {
    Fact::Ended { verdict: Verdict::RolledBack, reason: "alarm api-5xx fires".to_owned(), live: None }
}

fn policy(filters: &[FactFilter]) -> Policy {
    let mut policy = PairSetup::new("shop", "api", "prod").build(Settings::default()).application();
    let route = |facts: &FactFilter| NotificationPolicy {
        receiver: Receiver::Topic(TOPIC.to_owned()),
        environments: vec![],
        services: vec![],
        facts: *facts,
    };
    policy.notifications = filters.iter().map(route).collect();
    policy
}

fn ports(filters: &[FactFilter]) -> Ports {
    Ports::with_policy(&policy(filters))
}

fn delivery_counts(ports: &Ports) -> BTreeMap<(String, String), usize> {
    let mut counts = BTreeMap::new();
    for delivered in &ports.world().delivered {
        *counts.entry(delivered.clone()).or_insert(0) += 1;
    }
    counts
}

#[test]
fn a_crash_at_any_call_loses_nothing_and_rarely_duplicates() {
    let entries = [entry(1, Fact::Resumed), entry(2, ended())];
    let mut crashes = 0;
    for number in 1.. {
        let mut last = true;
        for crash_point in [CrashPoint::Before, CrashPoint::After] {
            let ports = ports(&[FactFilter::Attention]);
            ports.world().crash_at = Some((number, crash_point));
            if ports.invoke(&entries).is_none() {
                (last, crashes) = (false, crashes + 1);
            }
            let at_call = ports.world().calls.get(number - 1).copied();
            // Redelivered at once, and then again and again until the dead one's claims are over.
            ports.world().crash_at = None;
            let mut delivered = 0;
            for _ in 0..5 {
                let again = ports.invoke(&entries).expect("nobody dies any more");
                delivered = again.entries;
                ports.advance_time(30);
            }
            assert_eq!(delivered, 2, "call {number}, {crash_point:?}");
            let counts = delivery_counts(&ports);
            assert_eq!(counts.len(), 4, "call {number} ({at_call:?}), {crash_point:?}: {counts:?}");
            let duplicates = counts.values().filter(|count| **count > 1).count();
            let in_unrecorded_window = matches!(
                (at_call, crash_point),
                (Some("send"), CrashPoint::After) | (Some("done"), CrashPoint::Before)
            );
            // Both channels of one entry go on together: where one dies, the other may still be in its own gap.
            let max_duplicates = if in_unrecorded_window { 1 } else { 0 };
            assert!(duplicates <= max_duplicates, "call {number} ({at_call:?}), {crash_point:?}: {counts:?}");
        }
        if last {
            break;
        }
    }
    assert!(crashes >= 24, "{crashes}: three calls for each of two channels and two entries, before and after");
}

#[test]
fn a_redelivery_sends_nothing_again() {
    let ports = ports(&[FactFilter::Attention, FactFilter::Verdicts]);
    let entries = [entry(1, Fact::HookStarted { hook: "smoke".to_owned() }), entry(2, ended())];
    for _ in 0..3 {
        ports.deliver(&entries);
    }
    let delivered = ports.world().delivered.clone();
    // Two routes lead to one topic, and the hook is not worth its attention.
    let channels: Vec<&str> = delivered.iter().map(|(channel, _)| channel.as_str()).collect();
    assert_eq!(channels, ["bus", "bus", TOPIC]);
    assert_eq!((delivered[0].1.as_str(), delivered[1].1.as_str()), ("shop/api/prod#1", "shop/api/prod#2"));
}

#[test]
fn a_temporary_error_blocks_later_entries_and_is_retried() {
    let ports = ports(&[FactFilter::Attention]);
    let entries = [entry(1, Fact::Resumed), entry(2, ended())];
    ports.world().topic = Some(SendError::Unsure { reason: "Throttled".to_owned() });
    let delivered = ports.invoke(&entries).expect("nobody dies");
    assert_eq!(delivered.entries, 0);
    assert_eq!(delivered.stopped.map(|it| it.to_string()), Some(format!("topic:{TOPIC} was not notified: Throttled")));
    // However old it is: a topic is waited for as long as the stream keeps it.
    ports.advance_time(3_600);
    assert_eq!(ports.invoke(&entries).map(|delivered| delivered.entries), Some(0));
    ports.world().topic = None;
    ports.deliver(&entries);
    assert!(delivery_counts(&ports).values().all(|count| *count == 1), "{:?}", ports.world().delivered);
}

#[test]
fn a_permanent_refusal_is_dead_lettered_once_without_blocking() {
    let entries = [entry(1, Fact::Resumed), entry(2, Fact::HookStarted { hook: "smoke".to_owned() })];
    let refusing_ports = ports(&[FactFilter::Attention]);
    refusing_ports.world().topic = Some(SendError::Refused { reason: "NotFound: no such topic".to_owned() });
    refusing_ports.deliver(&entries);
    refusing_ports.deliver(&entries);
    let dead_letters = refusing_ports.world().dead_letters.clone();
    let [dead_letter] = dead_letters.as_slice() else { panic!("{dead_letters:?}") };
    let dead_letter: Value = serde_json::from_str(dead_letter).expect("JSON");
    assert_eq!(dead_letter["reason"], "NotFound: no such topic");
    assert_eq!(dead_letter["channel"], format!("topic:{TOPIC}"));
    let parsed_entry: JournalEntry = serde_json::from_value(dead_letter["entry"].clone()).expect("the entry whole");
    assert_eq!(parsed_entry, entries[0]);

    let without_dead_letters = ports(&[FactFilter::Attention]);
    without_dead_letters.world().topic = Some(SendError::Refused { reason: "denied".to_owned() });
    without_dead_letters.world().dead_letters_fail = true;
    let delivered = without_dead_letters.invoke(&entries).expect("nobody dies");
    assert!(
        delivered.entries == 0 && matches!(delivered.stopped, Some(NotifyError::DeadLetterFailed { .. })),
        "{delivered:?}"
    );
}

#[test]
fn an_unreadable_policy_does_not_delay_the_event_bus() {
    let ports = ports(&[FactFilter::All]);
    ports.world().policy_error = Some("damage".to_owned());
    ports.deliver(&[entry(1, Fact::HookStarted { hook: "smoke".to_owned() }), entry(2, ended())]);
    let world = ports.world();
    assert_eq!((world.delivered.len(), world.dead_letters.len()), (2, 1));
    assert!(world.dead_letters[0].contains("cannot be read: damage"), "{:?}", world.dead_letters);
}

#[test]
fn a_failed_done_write_does_not_cause_a_retry() {
    let ports = ports(&[]);
    ports.world().done_writes_fail = true;
    ports.deliver(&[entry(1, Fact::Resumed)]);
}

#[test]
fn no_delivery_starts_without_enough_time_left() {
    let ports = ports(&[]);
    let delivered = notify(&ports, &ports, &ports, &[entry(1, Fact::Resumed)], at(10)).now_or_never();
    let delivered = delivered.expect("nobody dies");
    assert!(delivered.entries == 0 && matches!(delivered.stopped, Some(NotifyError::OutOfTime)), "{delivered:?}");
    assert_eq!(ports.world().calls, [""; 0]);
}

#[test]
fn each_approver_is_mailed_a_personal_link_once() {
    let mut policy = policy(&[]);
    let topic = |name: &str| format!("arn:aws:sns:eu-central-1:111122223333:approve-{name}");
    let names = ["ada", "bob", "eve"].map(|name| Name::new(name).expect("a name"));
    for name in &names[..2] {
        let person = Person { mail: Some(topic(name.as_str())), ..Person::default() };
        policy.people.insert(name.clone(), person);
    }
    policy.people.insert(names[2].clone(), Person { slack: Some("UEVE".to_owned()), ..Person::default() });
    let asking = |sequence, plan: &str| {
        let fact = Fact::ApprovalRequested {
            plan: PlanId(plan.to_owned()),
            digest: format!("sha256:{}", "0".repeat(64)),
            tag: "v2".to_owned(),
            required: 1,
            approvers: names.to_vec(),
            expires_at: at(4 * 3600),
            with: std::collections::BTreeMap::new(),
        };
        entry(sequence, fact)
    };
    let ports = Ports::with_policy(&policy);
    let entries = [asking(1, "3fa90c1e5d7b2a64")];
    ports.deliver(&entries);
    ports.deliver(&entries);
    // The plan has changed: they are asked anew, with other links.
    ports.deliver(&[asking(2, "77aa0c1e5d7b2a64")]);
    let topic_messages: Vec<(String, String)> = {
        let world = ports.world();
        let link = |text: &str| text.lines().find(|line| line.starts_with("https://")).unwrap_or_default().to_owned();
        world.topic_messages.iter().map(|(topic, mail)| (topic.clone(), link(&mail.text))).collect()
    };
    let link = |name: &str, plan: &str| format!("https://approve.example.com/{name}/12/{plan}");
    assert_eq!(
        topic_messages,
        [
            (topic("ada"), link("ada", "3fa90c1e5d7b2a64")),
            (topic("bob"), link("bob", "3fa90c1e5d7b2a64")),
            (topic("ada"), link("ada", "77aa0c1e5d7b2a64")),
            (topic("bob"), link("bob", "77aa0c1e5d7b2a64")),
        ]
    );
    let deduplication_id: std::collections::BTreeSet<String> =
        ports.world().topic_messages.iter().map(|(_, mail)| mail.deduplication_id.clone()).collect();
    assert_eq!(deduplication_id.len(), 4, "no FIFO topic takes one for a repetition of another");
    assert!(ports.world().dead_letters.is_empty());

    // Delivered so late that no answer is taken any more, nobody is asked.
    let late = Ports::with_policy(&policy);
    late.advance_time(5 * 3600);
    late.deliver(&entries);
    assert!(late.world().topic_messages.is_empty());
}
