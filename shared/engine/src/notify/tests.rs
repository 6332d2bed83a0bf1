//! Deliveries against a world that fails, refuses, and dies at every call.

use super::*;
use crate::ports::LeaseId;
use futures::FutureExt as _;
use rollout::policy::Facts;
use rollout::stage::Verdict;
use rollout::{Actor, TargetId};
use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Mutex;

const TOPIC: &str = "arn:aws:sns:eu-central-1:111122223333:deployments";

/// What a delivery is noted as.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Note {
    Claimed { by: LeaseId, until: Timestamp },
    Done,
}

/// When the process dies, seen from one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dies {
    Before,
    After,
}

#[derive(Debug, Default)]
struct World {
    notes: BTreeMap<DeliveryId, Note>,
    /// Channel and entry of everything that was taken by a channel.
    told: Vec<(String, String)>,
    letters: Vec<String>,
    calls: Vec<&'static str>,
    seconds: i64,
    ids: u64,
    /// The process dies at this call, counted from 1.
    death: Option<(usize, Dies)>,
    /// What the topic answers instead of taking it.
    topic: Option<SendError>,
    letters_are_lost: bool,
    notes_are_lost: bool,
}

#[derive(Debug, Default)]
struct Ports(Mutex<World>);

impl Ports {
    fn world(&self) -> std::sync::MutexGuard<'_, World> {
        self.0.lock().expect("no test panics with it")
    }

    async fn call<T>(&self, name: &'static str, effect: impl FnOnce(&mut World) -> T) -> T {
        let death = {
            let mut world = self.world();
            world.calls.push(name);
            let number = world.calls.len();
            world.death.filter(|(at, _)| *at == number).map(|(_, dies)| dies)
        };
        if death == Some(Dies::Before) {
            pending::<()>().await;
        }
        let answer = effect(&mut self.world());
        if death == Some(Dies::After) {
            pending::<()>().await;
        }
        answer
    }
}

impl Deliveries for Ports {
    async fn claim(&self, delivery: &DeliveryId, hold: &Hold) -> Result<Claimed, LedgerError> {
        let take = |world: &mut World| match world.notes.get(delivery) {
            Some(Note::Done) => Claimed::Done,
            Some(Note::Claimed { until, .. }) if *until > hold.now => Claimed::Elsewhere,
            _ => {
                world.notes.insert(delivery.clone(), Note::Claimed { by: hold.by.clone(), until: hold.until });
                Claimed::Ours
            }
        };
        Ok(self.call("claim", take).await)
    }

    async fn done(&self, delivery: &DeliveryId, _: Timestamp) -> Result<(), LedgerError> {
        let note = |world: &mut World| {
            if world.notes_are_lost {
                return Err(LedgerError::Unavailable { doing: "noting", reason: "busy".to_owned() });
            }
            world.notes.insert(delivery.clone(), Note::Done);
            Ok(())
        };
        self.call("done", note).await
    }

    async fn give_back(&self, delivery: &DeliveryId, by: &LeaseId) -> Result<(), LedgerError> {
        let drop = |world: &mut World| {
            if matches!(world.notes.get(delivery), Some(Note::Claimed { by: holder, .. }) if holder == by) {
                world.notes.remove(delivery);
            }
        };
        self.call("give back", drop).await;
        Ok(())
    }
}

impl Channels for Ports {
    async fn announce(&self, announcement: &Announcement) -> Result<(), SendError> {
        let detail: Value = serde_json::from_str(&announcement.detail).expect("JSON");
        let id = detail["id"].as_str().expect("an id").to_owned();
        self.call("send", |world| world.told.push(("bus".to_owned(), id))).await;
        Ok(())
    }

    async fn publish(&self, topic: &str, message: &Message) -> Result<(), SendError> {
        let take = |world: &mut World| match world.topic.clone() {
            Some(error) => Err(error),
            None => {
                world.told.push((topic.to_owned(), message.once.clone()));
                Ok(())
            }
        };
        self.call("send", take).await
    }

    async fn set_aside(&self, letter: &str) -> Result<(), String> {
        let lay = |world: &mut World| {
            if world.letters_are_lost {
                return Err("no such queue".to_owned());
            }
            world.letters.push(letter.to_owned());
            Ok(())
        };
        self.call("set aside", lay).await
    }
}

impl Clock for Ports {
    fn now(&self) -> Timestamp {
        at(self.world().seconds)
    }

    fn lease_id(&self) -> LeaseId {
        let mut world = self.world();
        world.ids += 1;
        LeaseId(world.ids.to_string())
    }
}

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

fn route(facts: Facts) -> NotificationPolicy {
    NotificationPolicy { topic: TOPIC.to_owned(), environments: vec![], services: vec![], facts }
}

/// An invocation; none: it died.
fn invoke(ports: &Ports, routes: &Result<Vec<NotificationPolicy>, String>, entries: &[JournalEntry]) -> Option<Told> {
    let until = at(ports.world().seconds + 59);
    tell_all(ports, ports, ports, routes, entries, until).now_or_never()
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
    let routes = Ok(vec![route(Facts::Attention)]);
    let mut deaths = 0;
    for number in 1.. {
        let mut last = true;
        for dies in [Dies::Before, Dies::After] {
            let ports = Ports::default();
            ports.world().death = Some((number, dies));
            if invoke(&ports, &routes, &entries).is_none() {
                (last, deaths) = (false, deaths + 1);
            }
            let at_call = ports.world().calls.get(number - 1).copied();
            // Redelivered at once, and then again and again until the dead one's claims are over.
            ports.world().death = None;
            let mut told = 0;
            for _ in 0..5 {
                let again = invoke(&ports, &routes, &entries).expect("nobody dies any more");
                told = again.entries;
                ports.world().seconds += 30;
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
    let ports = Ports::default();
    let entries = [entry(1, Fact::HookStarted { hook: "smoke".to_owned() }), entry(2, ended())];
    let routes = Ok(vec![route(Facts::Attention), route(Facts::Verdicts)]);
    for _ in 0..3 {
        let told = invoke(&ports, &routes, &entries).expect("nobody dies");
        assert!(told.entries == 2 && told.stopped.is_none(), "{told:?}");
    }
    let told = ports.world().told.clone();
    // Two routes lead to one topic, and the hook is not worth its attention.
    let bus = |sequence: u32| ("bus".to_owned(), format!("shop/api/prod#{sequence}"));
    assert_eq!(told, [bus(1), bus(2), (TOPIC.to_owned(), digits("shop/api/prod#2"))]);
}

#[test]
fn what_a_channel_cannot_take_now_stops_what_comes_after_it_and_is_tried_again_at_once() {
    let ports = Ports::default();
    let entries = [entry(1, Fact::Resumed), entry(2, ended())];
    let routes = Ok(vec![route(Facts::Attention)]);
    ports.world().topic = Some(SendError::Unsure { reason: "Throttled".to_owned() });
    let told = invoke(&ports, &routes, &entries).expect("nobody dies");
    assert_eq!(told.entries, 0);
    assert_eq!(told.stopped.map(|it| it.to_string()), Some(format!("topic:{TOPIC} was not told: Throttled")));
    ports.world().topic = None;
    let told = invoke(&ports, &routes, &entries).expect("nobody dies");
    assert_eq!(told.entries, 2);
    assert!(how_often(&ports).values().all(|count| *count == 1), "{:?}", ports.world().told);
}

#[test]
fn what_is_refused_for_good_is_set_aside_whole_once_and_holds_up_nobody() {
    let ports = Ports::default();
    let entries = [entry(1, Fact::Resumed), entry(2, Fact::HookStarted { hook: "smoke".to_owned() })];
    let routes = Ok(vec![route(Facts::Attention)]);
    ports.world().topic = Some(SendError::Refused { reason: "NotFound: no such topic".to_owned() });
    for _ in 0..2 {
        assert_eq!(invoke(&ports, &routes, &entries).map(|told| told.entries), Some(2));
    }
    let letters = ports.world().letters.clone();
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    let letter: Value = serde_json::from_str(letter).expect("JSON");
    assert_eq!(letter["reason"], "NotFound: no such topic");
    assert_eq!(letter["channel"], format!("topic:{TOPIC}"));
    let back: JournalEntry = serde_json::from_value(letter["entry"].clone()).expect("the entry whole");
    assert_eq!(back, entries[0]);

    let ports = Ports::default();
    ports.world().topic = Some(SendError::Refused { reason: "denied".to_owned() });
    ports.world().letters_are_lost = true;
    let told = invoke(&ports, &routes, &entries).expect("nobody dies");
    assert!(told.entries == 0 && matches!(told.stopped, Some(NotifyError::NotSetAside { .. })), "{told:?}");
}

#[test]
fn a_policy_that_cannot_be_read_is_no_reason_to_keep_programs_waiting() {
    let ports = Ports::default();
    let routes = Err("POLICY#shop CURRENT cannot be read: damage".to_owned());
    let entries = [entry(1, Fact::HookStarted { hook: "smoke".to_owned() }), entry(2, ended())];
    assert_eq!(invoke(&ports, &routes, &entries).map(|told| told.entries), Some(2));
    let world = ports.world();
    assert_eq!((world.told.len(), world.letters.len()), (2, 1));
    assert!(world.letters[0].contains("cannot be read: damage"), "{:?}", world.letters);
}

#[test]
fn what_was_told_and_not_noted_is_not_asked_for_again() {
    let ports = Ports::default();
    ports.world().notes_are_lost = true;
    let told = invoke(&ports, &Ok(vec![]), &[entry(1, Fact::Resumed)]).expect("nobody dies");
    assert!(told.entries == 1 && told.stopped.is_none(), "{told:?}");
}

#[test]
fn nothing_is_begun_that_the_invocation_may_not_see_the_end_of() {
    let ports = Ports::default();
    let told = tell_all(&ports, &ports, &ports, &Ok(vec![]), &[entry(1, Fact::Resumed)], at(10)).now_or_never();
    let told = told.expect("nobody dies");
    assert!(told.entries == 0 && matches!(told.stopped, Some(NotifyError::OutOfTime)), "{told:?}");
    assert_eq!(ports.world().calls, [""; 0]);
}

#[test]
fn what_programs_get_has_the_documented_shape() {
    let Announcement { at: when, detail } = announcement(&entry(9, ended()));
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
fn what_people_get_can_be_filtered_and_recognised() {
    let told = message(&entry(9, ended()));
    assert_eq!(told.subject, "Rolled back: shop/api/prod #12");
    let attributes: Vec<String> = told.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let expected = ["application=shop", "service=api", "environment=prod", "fact=ended", "verdict=rolled_back"];
    assert_eq!(attributes, expected);
    assert_eq!((told.group.len(), told.once.len()), (32, 32));
    let other = message(&entry(10, Fact::Resumed));
    assert_eq!(other.group, told.group);
    assert_ne!(other.once, told.once);
    assert_eq!(other.attributes.len(), 4);
}
