//! Every channel: none lost, none doubled but in the one gap, in order, and nobody held up by a refusal.

use crate::ports::{Dies, Ports, at};
use engine::{NotifyError, SendError, notify};
use futures::FutureExt as _;
use rollout::entry::Person;
use rollout::journal::{Fact, JournalEntry};
use rollout::policy::{Facts, NotificationPolicy, Receiver};
use rollout::stage::Verdict;
use rollout::{Actor, Name, PlanId, Policy, TargetId};
use serde_json::Value;
use simulation::world::{Scene, Settings};
use std::collections::BTreeMap;

const TOPIC: &str = "arn:aws:sns:eu-central-1:111122223333:deployments";

fn entry(sequence: u64, fact: Fact) -> JournalEntry {
    let target = TargetId::parse("shop/api/prod").expect("a target");
    JournalEntry { target, sequence, deployment: Some(12), at: at(0), actor: Actor::Switchback, fact }
}

fn ended() -> Fact {
    Fact::Ended { verdict: Verdict::RolledBack, reason: "alarm api-5xx fires".to_owned(), live: None }
}

fn policy(told: &[Facts]) -> Policy {
    let mut policy = Scene::new("shop", "api", "prod").build(Settings::default()).application();
    let route = |facts: &Facts| NotificationPolicy {
        receiver: Receiver::Topic(TOPIC.to_owned()),
        environments: vec![],
        services: vec![],
        facts: *facts,
    };
    policy.notifications = told.iter().map(route).collect();
    policy
}

fn ports(told: &[Facts]) -> Ports {
    Ports::applying(&policy(told))
}

fn how_often(ports: &Ports) -> BTreeMap<(String, String), usize> {
    let mut counts = BTreeMap::new();
    for told in &ports.world().told {
        *counts.entry(told.clone()).or_insert(0) += 1;
    }
    counts
}

#[test]
fn a_death_at_any_call_loses_nothing_and_doubles_only_what_was_not_noted() {
    let entries = [entry(1, Fact::Resumed), entry(2, ended())];
    let mut deaths = 0;
    for number in 1.. {
        let mut last = true;
        for dies in [Dies::Before, Dies::After] {
            let ports = ports(&[Facts::Attention]);
            ports.world().death = Some((number, dies));
            if ports.invoke(&entries).is_none() {
                (last, deaths) = (false, deaths + 1);
            }
            let at_call = ports.world().calls.get(number - 1).copied();
            // Redelivered at once, and then again and again until the dead one's claims are over.
            ports.world().death = None;
            let mut told = 0;
            for _ in 0..5 {
                let again = ports.invoke(&entries).expect("nobody dies any more");
                told = again.entries;
                ports.later(30);
            }
            assert_eq!(told, 2, "call {number}, {dies:?}");
            let counts = how_often(&ports);
            assert_eq!(counts.len(), 4, "call {number} ({at_call:?}), {dies:?}: {counts:?}");
            let doubled = counts.values().filter(|count| **count > 1).count();
            let in_the_gap = matches!((at_call, dies), (Some("send"), Dies::After) | (Some("done"), Dies::Before));
            // Both channels of one entry go on together: where one dies, the other may still be in its own gap.
            let most = if in_the_gap { 1 } else { 0 };
            assert!(doubled <= most, "call {number} ({at_call:?}), {dies:?}: {counts:?}");
        }
        if last {
            break;
        }
    }
    assert!(deaths >= 24, "{deaths}: three calls for each of two channels and two entries, before and after");
}

#[test]
fn a_redelivery_tells_nothing_again() {
    let ports = ports(&[Facts::Attention, Facts::Verdicts]);
    let entries = [entry(1, Fact::HookStarted { hook: "smoke".to_owned() }), entry(2, ended())];
    for _ in 0..3 {
        ports.tell(&entries);
    }
    let told = ports.world().told.clone();
    // Two routes lead to one topic, and the hook is not worth its attention.
    let channels: Vec<&str> = told.iter().map(|(channel, _)| channel.as_str()).collect();
    assert_eq!(channels, ["bus", "bus", TOPIC]);
    assert_eq!((told[0].1.as_str(), told[1].1.as_str()), ("shop/api/prod#1", "shop/api/prod#2"));
}

#[test]
fn what_a_channel_cannot_take_now_stops_what_comes_after_it_and_is_tried_again_at_once() {
    let ports = ports(&[Facts::Attention]);
    let entries = [entry(1, Fact::Resumed), entry(2, ended())];
    ports.world().topic = Some(SendError::Unsure { reason: "Throttled".to_owned() });
    let told = ports.invoke(&entries).expect("nobody dies");
    assert_eq!(told.entries, 0);
    assert_eq!(told.stopped.map(|it| it.to_string()), Some(format!("topic:{TOPIC} was not told: Throttled")));
    // However old it is: a topic is waited for as long as the stream keeps it.
    ports.later(3_600);
    assert_eq!(ports.invoke(&entries).map(|told| told.entries), Some(0));
    ports.world().topic = None;
    ports.tell(&entries);
    assert!(how_often(&ports).values().all(|count| *count == 1), "{:?}", ports.world().told);
}

#[test]
fn what_is_refused_for_good_is_set_aside_whole_once_and_holds_up_nobody() {
    let entries = [entry(1, Fact::Resumed), entry(2, Fact::HookStarted { hook: "smoke".to_owned() })];
    let refusing = ports(&[Facts::Attention]);
    refusing.world().topic = Some(SendError::Refused { reason: "NotFound: no such topic".to_owned() });
    refusing.tell(&entries);
    refusing.tell(&entries);
    let letters = refusing.world().letters.clone();
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    let letter: Value = serde_json::from_str(letter).expect("JSON");
    assert_eq!(letter["reason"], "NotFound: no such topic");
    assert_eq!(letter["channel"], format!("topic:{TOPIC}"));
    let back: JournalEntry = serde_json::from_value(letter["entry"].clone()).expect("the entry whole");
    assert_eq!(back, entries[0]);

    let nowhere = ports(&[Facts::Attention]);
    nowhere.world().topic = Some(SendError::Refused { reason: "denied".to_owned() });
    nowhere.world().letters_are_lost = true;
    let told = nowhere.invoke(&entries).expect("nobody dies");
    assert!(told.entries == 0 && matches!(told.stopped, Some(NotifyError::NotSetAside { .. })), "{told:?}");
}

#[test]
fn a_policy_that_cannot_be_read_is_no_reason_to_keep_programs_waiting() {
    let ports = ports(&[Facts::All]);
    ports.world().damage = Some("damage".to_owned());
    ports.tell(&[entry(1, Fact::HookStarted { hook: "smoke".to_owned() }), entry(2, ended())]);
    let world = ports.world();
    assert_eq!((world.told.len(), world.letters.len()), (2, 1));
    assert!(world.letters[0].contains("cannot be read: damage"), "{:?}", world.letters);
}

#[test]
fn what_was_told_and_not_noted_is_not_asked_for_again() {
    let ports = ports(&[]);
    ports.world().notes_are_lost = true;
    ports.tell(&[entry(1, Fact::Resumed)]);
}

#[test]
fn nothing_is_begun_that_the_invocation_may_not_see_the_end_of() {
    let ports = ports(&[]);
    let told = notify(&ports, &ports, &ports, &[entry(1, Fact::Resumed)], at(10)).now_or_never();
    let told = told.expect("nobody dies");
    assert!(told.entries == 0 && matches!(told.stopped, Some(NotifyError::OutOfTime)), "{told:?}");
    assert_eq!(ports.world().calls, [""; 0]);
}

#[test]
fn each_approver_with_a_mail_gets_a_link_of_their_own_once() {
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
        };
        entry(sequence, fact)
    };
    let ports = Ports::applying(&policy);
    let entries = [asking(1, "3fa90c1e5d7b2a64")];
    ports.tell(&entries);
    ports.tell(&entries);
    // The plan has changed: they are asked anew, with other links.
    ports.tell(&[asking(2, "77aa0c1e5d7b2a64")]);
    let mails: Vec<(String, String)> = {
        let world = ports.world();
        let link = |text: &str| text.lines().find(|line| line.starts_with("https://")).unwrap_or_default().to_owned();
        world.mails.iter().map(|(topic, mail)| (topic.clone(), link(&mail.text))).collect()
    };
    let link = |name: &str, plan: &str| format!("https://approve.example.com/{name}/12/{plan}");
    assert_eq!(
        mails,
        [
            (topic("ada"), link("ada", "3fa90c1e5d7b2a64")),
            (topic("bob"), link("bob", "3fa90c1e5d7b2a64")),
            (topic("ada"), link("ada", "77aa0c1e5d7b2a64")),
            (topic("bob"), link("bob", "77aa0c1e5d7b2a64")),
        ]
    );
    let once: std::collections::BTreeSet<String> =
        ports.world().mails.iter().map(|(_, mail)| mail.once.clone()).collect();
    assert_eq!(once.len(), 4, "no FIFO topic takes one for a repetition of another");
    assert!(ports.world().letters.is_empty());

    // Told so late that no answer is taken any more, nobody is asked.
    let late = Ports::applying(&policy);
    late.later(5 * 3600);
    late.tell(&entries);
    assert!(late.world().mails.is_empty());
}
