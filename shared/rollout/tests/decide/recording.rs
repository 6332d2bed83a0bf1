//! What was recorded is decided again, wherever it was found, and what differs is named.

use super::fixture::{TargetFixture, deploy, new_command, policy, start};
use garbage::proptest::prelude::*;
use rollout::policy::{Hook, HookAction, HookPoint};
use rollout::promotion::RelatedTarget;
use rollout::recording::{FORMAT, Gap, MAX_LINE_BYTES, RecordBody, Recording, Replay, ReplayedRecord, read, replay};
use rollout::release::ReleaseRef;
use rollout::snapshot::TaskReading;
use rollout::target::{MAX_VERIFIED, Verified};
use rollout::{ImageDigest, Instruction, Name, Reading, ReleaseId, Seconds, TargetId, Verdict};
use serde_json::{Value, json};
use std::sync::LazyLock;

fn recorded() -> TargetFixture {
    TargetFixture { recorded: Some(vec![]), ..TargetFixture::new() }
}

/// A good release, and a bad one that comes back: recorded once for all tests.
static TWO_ROLLOUTS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut fixture = recorded();
    fixture.run("v2");
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded));
    fixture.decide(&[deploy("v3")]);
    fixture.run_until(|fixture| fixture.weights().blue == 50);
    fixture.fire_alarm();
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::RolledBack));
    fixture.recorded.take().unwrap()
});

fn replay_lines(lines: &[String]) -> Replay {
    replay(read(&lines.join("\n")).unwrap().records)
}

#[track_caller]
fn assert_replays_identically(replay: &Replay, records: usize) {
    if let Some(first) = replay.different().next() {
        panic!("{:#?}", first.differences);
    }
    assert_eq!(replay.gaps().map(|(_, gap)| gap).collect::<Vec<_>>(), Vec::<&Gap>::new());
    assert_eq!(replay.records.len(), records);
    assert!(replay.records.iter().all(|rerun| rerun.now.is_some() && !rerun.interrupted));
}

#[test]
fn a_rollout_and_a_rollback_replay_identically() {
    assert_replays_identically(&replay_lines(&TWO_ROLLOUTS), TWO_ROLLOUTS.len());
    assert!(TWO_ROLLOUTS.len() > 30, "{} records prove little", TWO_ROLLOUTS.len());
    let mut shuffled = TWO_ROLLOUTS.clone();
    shuffled.reverse();
    shuffled.extend(TWO_ROLLOUTS.iter().take(7).cloned());
    assert_eq!(replay_lines(&shuffled), replay_lines(&TWO_ROLLOUTS), "in any order, and twice what was fetched twice");
}

#[test]
fn hooks_overrides_and_gates_replay_identically() {
    let mut rules = policy();
    rules.hooks = vec![Hook {
        name: Name::new("smoke").unwrap(),
        at: HookPoint::AfterTraffic,
        run: HookAction::Task { container: "api".to_owned(), command: vec!["smoke".to_owned()] },
        deadline: Seconds(120),
        forward_only: false,
    }];
    let mut fixture = TargetFixture { recorded: Some(vec![]), ..TargetFixture::with(rules) };
    fixture.applied.entry.rules.soak = Seconds(600);
    fixture.applied.entry.rules.after = Some(rollout::entry::After::All(vec![Name::new("dev").unwrap()]));
    let dev = TargetId::parse("shop/api/dev").unwrap();
    fixture
        .gate_context
        .related_targets
        .insert(dev, RelatedTarget { verified: vec![verified(168)], ..RelatedTarget::default() });
    fixture.decide(&[deploy("v2")]);
    for _ in 0..20 {
        fixture.advance();
    }
    fixture.decide(&[new_command(
        Instruction::Override { deployment: 1, gates: [rollout::Gate::After, rollout::Gate::Soak].into() },
        "o",
    )]);
    fixture.run_until(|fixture| fixture.stage() == "after_traffic");
    let done = TaskReading::Stopped { exit_code: Some(1), reason: "no".to_owned() };
    fixture.snapshot.hook_tasks.insert("smoke".to_owned(), Reading::Known(done));
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::RolledBack));
    let lines = fixture.recorded.take().unwrap();
    assert_replays_identically(&replay_lines(&lines), lines.len());
}

/// The records with one thing changed in those that `which` names by their place.
fn with_tampered_record(index: usize, change: impl Fn(&mut Value)) -> Vec<String> {
    let mut lines = TWO_ROLLOUTS.clone();
    let mut value: Value = serde_json::from_str(&lines[index]).unwrap();
    change(&mut value);
    lines[index] = value.to_string();
    lines
}

fn first_containing(wanted: &str) -> usize {
    TWO_ROLLOUTS.iter().position(|line| line.contains(wanted)).unwrap_or_else(|| panic!("{wanted} is nowhere"))
}

#[test]
fn a_differing_replay_lists_exactly_the_changed_fields() {
    // An alarm that fired then and was taken no notice of.
    let index = first_containing("rollback_started");
    let replay = replay_lines(&with_tampered_record(index, |record| {
        let ok = json!({"known": {"api-5xx": {"state": "ok"}}});
        record["decided"]["snapshot"]["alarms"] = ok;
    }));
    let different: Vec<_> = replay.different().collect();
    let [one] = different.as_slice() else { panic!("one, not {}", different.len()) };
    let fields: Vec<&str> = one.differences.iter().map(|it| it.field.as_str()).collect();
    assert!(fields.iter().any(|field| field.starts_with("effects/0")), "{fields:?}");
    assert!(fields.iter().any(|field| field.starts_with("journal/0")), "{fields:?}");
    assert!(fields.iter().any(|field| field.starts_with("state/running/phase/at/")), "{fields:?}");
    assert!(one.acts_differently());
    // What is only said otherwise.
    let replay = replay_lines(&with_tampered_record(index, |record| {
        record["decided"]["decision"]["journal"][1]["fact"]["detail"] = json!("to the left");
    }));
    let fields: Vec<_> = replay.different().flat_map(|it| &it.differences).map(|it| it.field.as_str()).collect();
    assert_eq!(fields, ["journal/1/fact/detail"]);
    assert!(!replay.different().any(ReplayedRecord::acts_differently));
    // What became of an effect.
    let index = first_containing("registered");
    let replay = replay_lines(&with_tampered_record(index, |record| {
        record["performed"]["outcomes"][0][1]["reused"] = json!(true)
    }));
    let fields: Vec<_> =
        replay.different().flat_map(|it| &it.differences).map(|it| (it.field.as_str(), it.now.clone())).collect();
    assert_eq!(fields, [("journal/0/fact/reused", Some(json!(true)))]);
}

#[test]
fn missing_records_are_reported_as_gaps() {
    let mut lines = TWO_ROLLOUTS.clone();
    let removed = lines.iter().position(|line| line.contains("weights_decided")).unwrap();
    lines.remove(removed);
    let replay = replay_lines(&lines);
    assert_eq!(replay.different().count(), 0);
    let gaps: Vec<_> = replay.gaps().map(|(_, gap)| gap.clone()).collect();
    assert!(matches!(gaps.as_slice(), [Gap::MissingDecision, Gap::Decisions { .. }]), "{gaps:?}");
    // A pass that was killed while it acted.
    let mut lines = TWO_ROLLOUTS.clone();
    lines.remove(first_containing("registered"));
    let replay = replay_lines(&lines);
    assert_eq!(replay.records.iter().filter(|rerun| rerun.interrupted).count(), 1);
    // One that was taken over in the middle, and decided all the same.
    let mut lines = TWO_ROLLOUTS.clone();
    let index = first_containing("weights_decided");
    lines.insert(index + 1, lines[index].replace("pass-1", "pass-2"));
    let replay = replay_lines(&lines);
    assert_eq!(replay.gaps().count(), 0);
    assert_eq!(replay.records.iter().filter(|rerun| rerun.concurrent).count(), 2);
    // The beginning and the end are nobody's gap: fewer hours were fetched.
    let registered = first_containing("registered");
    for begin in [registered, registered + 1] {
        let replay = replay_lines(&TWO_ROLLOUTS[begin..TWO_ROLLOUTS.len() - 5]);
        assert_eq!((replay.different().count(), replay.gaps().count()), (0, 0));
    }
}

#[test]
fn records_are_found_in_every_log_export_format() {
    let wanted = read(&TWO_ROLLOUTS.join("\n")).unwrap().records;
    let logged = |line: &String| {
        format!(
            r#"{{"timestamp":"2026-11-22T03:00:00.000Z","level":"INFO","message":"decided","target_id":"shop/api/prod","record":{line}}}"#
        )
    };
    let chatter =
        r#"{"timestamp":"2026-11-22T03:00:00.000Z","level":"INFO","message":"journal","fact":"{\"recording\":1}"}"#;
    let log: Vec<String> = TWO_ROLLOUTS
        .iter()
        .flat_map(|line| [chatter.to_owned(), logged(line), "START RequestId: {x}".to_owned()])
        .collect();
    let event = |message: &String| json!({"logStreamName": "a/[$LATEST]b", "timestamp": 1, "message": format!("{message}\n"), "eventId": "1"});
    let events = json!({"events": log.iter().map(event).collect::<Vec<_>>(), "searchedLogStreams": []});
    let insights: Vec<Value> = log.iter().map(|line| json!([{"field": "@message", "value": line}])).collect();
    let tail = |line: &String| format!("2026-11-22T03:00:00+00:00 a/[$LATEST]{{b}} {line}\r");
    let text = |line: &String| format!("EVENTS\t3847\t1\ta/[$LATEST]b\t{line}\t1");
    for (body, file) in [
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
        let found = read(&file).unwrap_or_else(|error| panic!("{body}: {error}"));
        let found = Recording {
            records: {
                let mut all = found.records;
                all.dedup();
                all
            },
            ..found
        };
        if body == "two pages" {
            assert_eq!(found.records.len(), 2 * wanted.len(), "{body}");
        } else {
            assert_eq!(found.records.len(), wanted.len(), "{body}");
            assert!(found.records == wanted, "{body}");
        }
        assert_eq!(replay(found.records), replay(wanted.clone()), "{body}");
    }
}

#[test]
fn free_text_is_not_parsed_as_a_record() {
    let reason = r#"{"recording":99,"message":"decided"}"#;
    let line =
        json!({"timestamp": "", "level": "INFO", "message": "journal", "fact": reason, "record": {"recording": 99}});
    let event = json!({"events": [{"message": line.to_string()}]});
    for text in [line.to_string(), event.to_string()] {
        assert_eq!(read(&text).map(|found| found.records), Ok(vec![]), "{text}");
    }
}

/// The same records, as a version has written them that did not know of a field.
fn without_field(lines: &[String], field: &str) -> String {
    fn strip(value: &mut Value, field: &str) {
        match value {
            Value::Object(fields) => {
                fields.remove(field);
                fields.values_mut().for_each(|value| strip(value, field));
            }
            // A change of a field, as records have the changes of a state.
            Value::Array(values) => {
                let names = |value: &Value| {
                    value.get("path").and_then(Value::as_str).is_some_and(|path| path.ends_with(&format!("/{field}")))
                };
                values.retain(|value| !names(value));
                values.iter_mut().for_each(|value| strip(value, field));
            }
            _ => {}
        }
    }
    let stripped = lines.iter().map(|line| {
        let mut value: Value = serde_json::from_str(line).expect("a record");
        strip(&mut value, field);
        value.to_string()
    });
    stripped.collect::<Vec<_>>().join("\n")
}

#[test]
fn recordings_of_an_older_version_are_still_readable() {
    let older = without_field(&TWO_ROLLOUTS, "last_effect_at");
    assert_ne!(older, TWO_ROLLOUTS.join("\n"), "there was such a field");
    let replay = replay(read(&older).unwrap().records);
    assert_eq!((replay.records.len(), replay.gaps().count()), (TWO_ROLLOUTS.len(), 0));
    // What it did not know of is no difference, and is reported.
    let reported: Vec<&str> = replay.new_fields().into_iter().collect();
    assert!(reported.contains(&"state/running/last_effect_at"), "{reported:?}");
    assert!(!replay.records[0].acts_differently(), "{:#?}", replay.records[0].differences);
}

fn read_error(text: &str) -> String {
    read(text).expect_err(text).to_string()
}

#[test]
fn read_errors_name_the_line_and_the_cause() {
    let valid = TWO_ROLLOUTS[0].as_str();
    let truncated = &valid[..valid.len() - 40];
    assert!(
        read_error(&format!("{valid}\n{truncated}\n"))
            .starts_with("line 2: a record that is cut off, or is no JSON: EOF")
    );
    let newer = valid.replacen("\"recording\":1", "\"recording\":2", 1).replacen("0.1.0", "9.0.0", 1);
    let reported = read_error(&format!("\n{newer}"));
    assert_eq!(
        reported,
        format!(
            "line 2: a record in format 2 of Switchback 9.0.0; this one ({}) reads up to format {FORMAT}: replay it with that one",
            env!("CARGO_PKG_VERSION")
        )
    );
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut value: Value = serde_json::from_str(valid).unwrap();
        change(&mut value);
        read_error(&value.to_string())
    };
    let reported = changed(&|it| it["decided"]["state"]["format"] = json!(9));
    assert!(reported.starts_with("line 1: a state in format 9 of Switchback"), "{reported}");
    let reported = changed(&|it| it["decided"]["commands"][0]["at"] = json!("yesterday"));
    assert!(reported.starts_with("line 1: `decided.commands[0].at` of the record cannot be read: "), "{reported}");
    let reported = changed(&|it| it["decided"]["state"]["last_entry"] = json!("x"));
    assert!(
        reported.starts_with("line 1: `last_entry` of the state that was decided on cannot be read: "),
        "{reported}"
    );
    let reported = changed(&|it| it["decided"]["decision"]["state"][0]["path"] = json!("/nowhere/there"));
    assert!(
        reported.starts_with("line 1: the state that was decided: `/nowhere/there` is changed, and is not there"),
        "{reported}"
    );
    let reported = changed(&|it| drop(it.as_object_mut().unwrap().remove("decided")));
    assert!(
        reported.starts_with("line 1: a record has one of `decided`, `performed`, `too_long` and `part`"),
        "{reported}"
    );
    assert!(
        read_error("{\n\"recording\": \"one\"\n}")
            .starts_with("line 3: `recording`, the format of a record, is no number")
    );
    assert!(read_error("{\n\"events\": [\n").starts_with("line 3: no JSON: EOF"));
    assert!(read_error(truncated).starts_with("line 1: a record that is cut off"));
    assert!(
        read_error(&format!("{truncated}{valid}")).starts_with("line 1: a record that is cut off"),
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
fn large_recording() -> Vec<String> {
    let mut fixture = recorded();
    let all: Vec<Verified> = (0..MAX_VERIFIED as u64).map(verified).collect();
    fixture.state.verified = all.clone();
    for index in 0..4 {
        let target = TargetId::parse(&format!("shop/api/place{index}")).unwrap();
        fixture
            .gate_context
            .related_targets
            .insert(target, RelatedTarget { verified: all.clone(), ..RelatedTarget::default() });
    }
    fixture.run("v2");
    fixture.recorded.take().unwrap()
}

#[test]
fn a_long_record_is_split_into_several_lines() {
    let lines = large_recording();
    assert!(lines.iter().all(|line| line.len() <= MAX_LINE_BYTES));
    let part_count = lines.iter().filter(|line| line.contains("\"part\":")).count();
    assert!(part_count > 2, "{part_count} parts of {}", lines.len());
    let replayed = replay_lines(&lines);
    assert_replays_identically(&replayed, replayed.records.len());
    // One of them is lost.
    let lost = lines.iter().position(|line| line.contains("\"part\":")).unwrap();
    let mut incomplete = lines.clone();
    incomplete.remove(lost);
    let replay = replay_lines(&incomplete);
    assert_eq!(replay.different().count(), 0);
    let gaps: Vec<_> = replay.gaps().map(|(_, gap)| gap.clone()).collect();
    assert!(matches!(gaps.as_slice(), [Gap::Incomplete { found, all }] if found + 1 == *all), "{gaps:?}");
    // Without end it is left out, and that is said.
    let mut fixture = recorded();
    fixture.gate_context.brakes = Reading::Unknown("x".repeat(2_000_000));
    fixture.decide(&[deploy("v2")]);
    let lines = fixture.recorded.take().unwrap();
    assert!(lines.iter().all(|line| line.len() <= MAX_LINE_BYTES), "{}", lines[0].len());
    let replay = replay_lines(&lines);
    let gaps: Vec<_> = replay.gaps().map(|(_, gap)| gap.clone()).collect();
    assert!(matches!(gaps.as_slice(), [Gap::TooLong { bytes }] if *bytes > 2_000_000), "{gaps:?}");
}

#[test]
fn a_decision_that_only_waits_is_not_recorded() {
    let mut fixture = recorded();
    fixture.decide(&[deploy("v2")]);
    fixture.run_until(|fixture| fixture.stage() == "baking");
    let decide_now = |fixture: &TargetFixture, seconds| {
        let inbox = rollout::Inbox::default();
        let (seen, now) = (fixture.seen(), Seconds(seconds).after(fixture.now));
        let decision = rollout::decide(&fixture.state, &inbox, Some(&seen), now);
        rollout::recording::is_worth_recording(&fixture.state, &decision)
    };
    fixture.advance();
    assert!(!decide_now(&fixture, 1), "it still bakes");
    assert!(decide_now(&fixture, 100_000), "its bake is over");
    fixture.fire_alarm();
    assert!(decide_now(&fixture, 1), "an alarm fires");
}

/// Records of every kind.
fn valid() -> Vec<Value> {
    let lines = TWO_ROLLOUTS
        .iter()
        .chain(large_recording().iter().take(4))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect::<Vec<_>>();
    let kinds = lines.iter().filter(|it: &&Value| it.get("part").is_some()).count();
    assert!(kinds > 0);
    lines
}

garbage::held! {
    300;

    #[test]
    fn arbitrary_input_is_replayed_or_rejected(bodies in proptest::collection::vec(garbage::body(valid()), 1..4)) {
        let text = bodies.join("\n");
        if let Ok(found) = read(&text) {
            let count = found.records.len();
            let replay = replay(found.records);
            prop_assert!(replay.records.len() <= count);
            for rerun in &replay.records {
                let decided = matches!(rerun.record.body, RecordBody::Decided(_));
                prop_assert!(!decided || rerun.now.is_some());
            }
        } else {
            let reported = read_error(&text);
            prop_assert!(reported.starts_with("line "), "{reported}");
            prop_assert!(reported.len() < 2_100, "{}", reported.len());
        }
    }
}
