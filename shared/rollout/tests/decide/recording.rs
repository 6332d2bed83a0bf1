//! What was recorded is decided again, wherever it was found, and what differs is named.

use super::scene::{Scene, ask, deploy, policy, start};
use garbage::proptest::prelude::*;
use rollout::policy::{Hook, HookAction, HookPoint};
use rollout::promotion::Neighbour;
use rollout::recording::{FORMAT, Gap, LONGEST_LINE, Recording, Redone, Replay, What, read, replay};
use rollout::snapshot::TaskReading;
use rollout::target::{MOST_VERIFIED, ReleaseRef, Verified};
use rollout::{ImageDigest, Instruction, Name, Reading, ReleaseId, Seconds, TargetId, Verdict};
use serde_json::{Value, json};
use std::sync::LazyLock;

fn recorded() -> Scene {
    Scene { recorded: Some(vec![]), ..Scene::new() }
}

/// A good release, and a bad one that comes back: recorded once for all tests.
static TWO: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut scene = recorded();
    scene.run("v2");
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded));
    scene.decide(&[deploy("v3")]);
    scene.until(|scene| scene.weights().blue == 50);
    scene.fire();
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::RolledBack));
    scene.recorded.take().unwrap()
});

fn again(lines: &[String]) -> Replay {
    replay(read(&lines.join("\n")).unwrap().records)
}

#[track_caller]
fn same(replay: &Replay, records: usize) {
    if let Some(first) = replay.different().next() {
        panic!("{:#?}", first.differences);
    }
    assert_eq!(replay.gaps().map(|(_, gap)| gap).collect::<Vec<_>>(), Vec::<&Gap>::new());
    assert_eq!(replay.redone.len(), records);
    assert!(replay.redone.iter().all(|redone| redone.now.is_some() && !redone.cut_short));
}

#[test]
fn a_rollout_and_a_way_back_are_decided_again_as_they_were() {
    same(&again(&TWO), TWO.len());
    assert!(TWO.len() > 30, "{} records prove little", TWO.len());
    let mut shuffled = TWO.clone();
    shuffled.reverse();
    shuffled.extend(TWO.iter().take(7).cloned());
    assert_eq!(again(&shuffled), again(&TWO), "in any order, and twice what was fetched twice");
}

#[test]
fn hooks_people_and_gates_are_recorded_too() {
    let mut rules = policy();
    rules.hooks = vec![Hook {
        name: Name::new("smoke").unwrap(),
        at: HookPoint::AfterTraffic,
        run: HookAction::Task { container: "api".to_owned(), command: vec!["smoke".to_owned()] },
        deadline: Seconds(120),
        forward_only: false,
    }];
    let mut scene = Scene { recorded: Some(vec![]), ..Scene::with(rules) };
    scene.applied.entry.rules.soak = Seconds(600);
    scene.applied.entry.rules.after = Some(rollout::entry::After::All(vec![Name::new("dev").unwrap()]));
    let dev = TargetId::parse("shop/api/dev").unwrap();
    scene.around.neighbours.insert(dev, Neighbour { verified: vec![verified(168)], stable: None });
    scene.decide(&[deploy("v2")]);
    for _ in 0..20 {
        scene.turn();
    }
    scene.decide(&[ask(
        Instruction::Override { deployment: 1, gates: [rollout::Gate::After, rollout::Gate::Soak].into() },
        "o",
    )]);
    scene.until(|scene| scene.stage() == "after_traffic");
    let done = TaskReading::Stopped { exit_code: Some(1), reason: "no".to_owned() };
    scene.snapshot.hook_tasks.insert("smoke".to_owned(), Reading::Known(done));
    scene.until(|_| false);
    assert_eq!(scene.verdict(), Some(Verdict::RolledBack));
    let lines = scene.recorded.take().unwrap();
    same(&again(&lines), lines.len());
}

/// The records with one thing changed in those that `which` names by their place.
fn tampered(place: usize, change: impl Fn(&mut Value)) -> Vec<String> {
    let mut lines = TWO.clone();
    let mut value: Value = serde_json::from_str(&lines[place]).unwrap();
    change(&mut value);
    lines[place] = value.to_string();
    lines
}

fn first_with(wanted: &str) -> usize {
    TWO.iter().position(|line| line.contains(wanted)).unwrap_or_else(|| panic!("{wanted} is nowhere"))
}

#[test]
fn what_is_decided_otherwise_is_named_field_by_field_and_only_there() {
    // An alarm that fired then and was taken no notice of.
    let place = first_with("rollback_started");
    let replay = again(&tampered(place, |record| {
        let ok = json!({"known": {"api-5xx": {"state": "ok"}}});
        record["decided"]["snapshot"]["alarms"] = ok;
    }));
    let different: Vec<_> = replay.different().collect();
    let [one] = different.as_slice() else { panic!("one, not {}", different.len()) };
    let fields: Vec<&str> = one.differences.iter().map(|it| it.field.as_str()).collect();
    assert!(fields.iter().any(|field| field.starts_with("effects/0")), "{fields:?}");
    assert!(fields.iter().any(|field| field.starts_with("journal/0")), "{fields:?}");
    assert!(fields.iter().any(|field| field.starts_with("state/running/stage")), "{fields:?}");
    assert!(one.acts_otherwise());
    // What is only said otherwise.
    let replay = again(&tampered(place, |record| {
        record["decided"]["decision"]["journal"][1]["fact"]["detail"] = json!("to the left");
    }));
    let fields: Vec<_> = replay.different().flat_map(|it| &it.differences).map(|it| it.field.as_str()).collect();
    assert_eq!(fields, ["journal/1/fact/detail"]);
    assert!(!replay.different().any(Redone::acts_otherwise));
    // What became of an effect.
    let place = first_with("registered");
    let replay = again(&tampered(place, |record| record["performed"]["outcomes"][0][1]["reused"] = json!(true)));
    let fields: Vec<_> =
        replay.different().flat_map(|it| &it.differences).map(|it| (it.field.as_str(), it.now.clone())).collect();
    assert_eq!(fields, [("journal/0/fact/reused", Some(json!(true)))]);
}

#[test]
fn what_is_missing_is_said() {
    let mut lines = TWO.clone();
    let gone = lines.iter().position(|line| line.contains("weights_decided")).unwrap();
    lines.remove(gone);
    let replay = again(&lines);
    assert_eq!(replay.different().count(), 0);
    let gaps: Vec<_> = replay.gaps().map(|(_, gap)| gap.clone()).collect();
    assert!(matches!(gaps.as_slice(), [Gap::TheirDecision, Gap::Decisions { .. }]), "{gaps:?}");
    // A pass that was killed while it acted.
    let mut lines = TWO.clone();
    lines.remove(first_with("registered"));
    let replay = again(&lines);
    assert_eq!(replay.redone.iter().filter(|redone| redone.cut_short).count(), 1);
    // One that was taken over in the middle, and decided all the same.
    let mut lines = TWO.clone();
    let place = first_with("weights_decided");
    lines.insert(place + 1, lines[place].replace("pass-1", "pass-2"));
    let replay = again(&lines);
    assert_eq!(replay.gaps().count(), 0);
    assert_eq!(replay.redone.iter().filter(|redone| redone.contested).count(), 2);
    // The beginning and the end are nobody's gap: fewer hours were fetched.
    let registered = first_with("registered");
    for begin in [registered, registered + 1] {
        let replay = again(&TWO[begin..TWO.len() - 5]);
        assert_eq!((replay.different().count(), replay.gaps().count()), (0, 0));
    }
}

#[test]
fn records_are_found_in_whatever_a_log_is_fetched_with() {
    let wanted = read(&TWO.join("\n")).unwrap().records;
    let logged = |line: &String| {
        format!(
            r#"{{"timestamp":"2026-11-22T03:00:00.000Z","level":"INFO","message":"decided","target_id":"shop/api/prod","record":{line}}}"#
        )
    };
    let chatter =
        r#"{"timestamp":"2026-11-22T03:00:00.000Z","level":"INFO","message":"journal","fact":"{\"recording\":1}"}"#;
    let log: Vec<String> =
        TWO.iter().flat_map(|line| [chatter.to_owned(), logged(line), "START RequestId: {x}".to_owned()]).collect();
    let event = |message: &String| json!({"logStreamName": "a/[$LATEST]b", "timestamp": 1, "message": format!("{message}\n"), "eventId": "1"});
    let events = json!({"events": log.iter().map(event).collect::<Vec<_>>(), "searchedLogStreams": []});
    let insights: Vec<Value> = log.iter().map(|line| json!([{"field": "@message", "value": line}])).collect();
    let tail = |line: &String| format!("2026-11-22T03:00:00+00:00 a/[$LATEST]{{b}} {line}\r");
    let text = |line: &String| format!("EVENTS\t3847\t1\ta/[$LATEST]b\t{line}\t1");
    for (what, file) in [
        ("lines", log.join("\n")),
        ("filter-log-events", events.to_string()),
        ("filter-log-events, printed", serde_json::to_string_pretty(&events).unwrap()),
        ("two pages", format!("{}\n{}\n", serde_json::to_string_pretty(&events).unwrap(), events)),
        ("messages", serde_json::to_string_pretty(&log).unwrap()),
        ("messages in one line", serde_json::to_string(&log).unwrap()),
        ("Logs Insights", serde_json::to_string_pretty(&json!({"results": insights})).unwrap()),
        ("tail", log.iter().map(tail).collect::<Vec<_>>().join("\n")),
        ("text", log.iter().map(text).collect::<Vec<_>>().join("\n")),
    ] {
        let found = read(&file).unwrap_or_else(|error| panic!("{what}: {error}"));
        let found = Recording {
            records: {
                let mut all = found.records;
                all.dedup();
                all
            },
            ..found
        };
        if what == "two pages" {
            assert_eq!(found.records.len(), 2 * wanted.len(), "{what}");
        } else {
            assert_eq!(found.records.len(), wanted.len(), "{what}");
            assert!(found.records == wanted, "{what}");
        }
        assert_eq!(replay(found.records), replay(wanted.clone()), "{what}");
    }
}

#[test]
fn words_of_people_are_no_records() {
    let reason = r#"{"recording":99,"message":"decided"}"#;
    let line =
        json!({"timestamp": "", "level": "INFO", "message": "journal", "fact": reason, "record": {"recording": 99}});
    let event = json!({"events": [{"message": line.to_string()}]});
    for text in [line.to_string(), event.to_string()] {
        assert_eq!(read(&text).map(|found| found.records), Ok(vec![]), "{text}");
    }
}

/// What the first version with a format 1 has written: a bad release that came back.
const FIRST: &str = include_str!("recorded-1.log");

#[test]
fn what_the_first_version_recorded_is_read_whatever_is_decided_now() {
    let replay = replay(read(FIRST).unwrap().records);
    assert_eq!((replay.redone.len(), replay.gaps().count()), (FIRST.lines().count(), 0));
    assert!(replay.redone.iter().all(|redone| redone.now.is_some() && !redone.cut_short));
    let ended = |redone: &Redone| match &redone.record.what {
        What::Decided(decided) => decided.decision.history.iter().any(|it| it.verdict == Some(Verdict::RolledBack)),
        _ => false,
    };
    assert!(replay.redone.iter().any(ended));
    // What it did not know of is no difference, and is told.
    let told: Vec<&str> = replay.remembered().into_iter().collect();
    assert!(told.contains(&"state/running/acted_at"), "{told:?}");
    // Which this one would not have begun otherwise.
    assert!(!replay.redone[0].acts_otherwise(), "{:#?}", replay.redone[0].differences);
}

fn why(text: &str) -> String {
    read(text).expect_err(text).to_string()
}

#[test]
fn a_file_that_cannot_be_read_says_where_and_why() {
    let sound = TWO[0].as_str();
    let cut = &sound[..sound.len() - 40];
    assert!(why(&format!("{sound}\n{cut}\n")).starts_with("line 2: a record that is cut off, or is no JSON: EOF"));
    let newer = sound.replacen("\"recording\":1", "\"recording\":2", 1).replacen("0.1.0", "9.0.0", 1);
    let told = why(&format!("\n{newer}"));
    assert_eq!(
        told,
        format!(
            "line 2: a record in format 2 of Switchback 9.0.0; this one ({}) reads up to format {FORMAT}: replay it with that one",
            env!("CARGO_PKG_VERSION")
        )
    );
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut value: Value = serde_json::from_str(sound).unwrap();
        change(&mut value);
        why(&value.to_string())
    };
    let told = changed(&|it| it["decided"]["state"]["format"] = json!(9));
    assert!(told.starts_with("line 1: a state in format 9 of Switchback"), "{told}");
    let told = changed(&|it| it["decided"]["commands"][0]["at"] = json!("yesterday"));
    assert!(told.starts_with("line 1: `decided.commands[0].at` of the record cannot be read: "), "{told}");
    let told = changed(&|it| it["decided"]["state"]["last_entry"] = json!("x"));
    assert!(told.starts_with("line 1: `last_entry` of the state that was decided on cannot be read: "), "{told}");
    let told = changed(&|it| it["decided"]["decision"]["state"][0]["path"] = json!("/nowhere/there"));
    assert!(
        told.starts_with("line 1: the state that was decided: `/nowhere/there` is changed, and is not there"),
        "{told}"
    );
    let told = changed(&|it| drop(it.as_object_mut().unwrap().remove("decided")));
    assert!(told.starts_with("line 1: a record has one of `decided`, `performed`, `too_long` and `part`"), "{told}");
    assert!(
        why("{\n\"recording\": \"one\"\n}").starts_with("line 3: `recording`, the format of a record, is no number")
    );
    assert!(why("{\n\"events\": [\n").starts_with("line 3: no JSON: EOF"));
    assert!(why(cut).starts_with("line 1: a record that is cut off"));
    assert!(
        why(&format!("{cut}{sound}")).starts_with("line 1: a record that is cut off"),
        "torn, and the next one behind it"
    );
    assert_eq!(read("").map(|found| found.records), Ok(vec![]));
    assert_eq!(read("START\n{not json\n").map(|found| (found.records, found.others)), Ok((vec![], 2)));
}

fn verified(number: u64) -> Verified {
    let name = |text: &str| Name::new(text).unwrap();
    let digest = ImageDigest::new(format!("sha256:{number:064x}")).unwrap();
    let image = format!("123456789012.dkr.ecr.eu-central-1.amazonaws.com/shop/api@{digest}");
    let id = ReleaseId { application: name("shop"), service: name("api"), digest };
    let release = ReleaseRef { id, image, tag: format!("v\u{1f680}{number}"), pushed_at: Some(start()) };
    Verified { release, deployment: number, at: start(), forward_only: false }
}

/// A scene with so much that a record needs several lines.
fn large() -> Vec<String> {
    let mut scene = recorded();
    let all: Vec<Verified> = (0..MOST_VERIFIED as u64).map(verified).collect();
    scene.state.verified = all.clone();
    for place in 0..4 {
        let target = TargetId::parse(&format!("shop/api/place{place}")).unwrap();
        scene.around.neighbours.insert(target, Neighbour { verified: all.clone(), stable: None });
    }
    scene.run("v2");
    scene.recorded.take().unwrap()
}

#[test]
fn a_record_that_is_too_long_for_a_line_takes_several() {
    let lines = large();
    assert!(lines.iter().all(|line| line.len() <= LONGEST_LINE));
    let of_parts = lines.iter().filter(|line| line.contains("\"part\":")).count();
    assert!(of_parts > 2, "{of_parts} parts of {}", lines.len());
    let whole = again(&lines);
    same(&whole, whole.redone.len());
    // One of them is lost.
    let lost = lines.iter().position(|line| line.contains("\"part\":")).unwrap();
    let mut torn = lines.clone();
    torn.remove(lost);
    let replay = again(&torn);
    assert_eq!(replay.different().count(), 0);
    let gaps: Vec<_> = replay.gaps().map(|(_, gap)| gap.clone()).collect();
    assert!(matches!(gaps.as_slice(), [Gap::Torn { found, all }] if found + 1 == *all), "{gaps:?}");
    // Without end it is left out, and that is said.
    let mut scene = recorded();
    scene.around.brakes = Reading::Unknown("x".repeat(2_000_000));
    scene.decide(&[deploy("v2")]);
    let lines = scene.recorded.take().unwrap();
    assert!(lines.iter().all(|line| line.len() <= LONGEST_LINE), "{}", lines[0].len());
    let replay = again(&lines);
    let gaps: Vec<_> = replay.gaps().map(|(_, gap)| gap.clone()).collect();
    assert!(matches!(gaps.as_slice(), [Gap::TooLong { bytes }] if *bytes > 2_000_000), "{gaps:?}");
}

#[test]
fn what_only_looks_again_later_is_not_worth_a_record() {
    let mut scene = recorded();
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.stage() == "baking");
    let decide_now = |scene: &Scene, seconds| {
        let inbox = rollout::Inbox::default();
        let (seen, now) = (scene.seen(), Seconds(seconds).after(scene.now));
        let decision = rollout::decide(&scene.state, &inbox, Some(&seen), now);
        rollout::recording::did_something(&scene.state, &decision)
    };
    scene.turn();
    assert!(!decide_now(&scene, 1), "it still bakes");
    assert!(decide_now(&scene, 100_000), "its bake is over");
    scene.fire();
    assert!(decide_now(&scene, 1), "an alarm fires");
}

/// Records of every kind.
fn sound() -> Vec<Value> {
    let lines =
        TWO.iter().chain(large().iter().take(4)).map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>();
    let kinds = lines.iter().filter(|it: &&Value| it.get("part").is_some()).count();
    assert!(kinds > 0);
    lines
}

garbage::held! {
    300;

    #[test]
    fn whatever_is_in_a_file_is_replayed_or_refused(bodies in proptest::collection::vec(garbage::body(sound()), 1..4)) {
        let text = bodies.join("\n");
        if let Ok(found) = read(&text) {
            let count = found.records.len();
            let replay = replay(found.records);
            prop_assert!(replay.redone.len() <= count);
            for redone in &replay.redone {
                let decided = matches!(redone.record.what, What::Decided(_));
                prop_assert!(!decided || redone.now.is_some());
            }
        } else {
            let told = why(&text);
            prop_assert!(told.starts_with("line "), "{told}");
            prop_assert!(told.len() < 2_100, "{}", told.len());
        }
    }
}
