//! Slack messages, checked literally where the wording matters.

use super::*;
use rollout::target::{Queued, StableSide, Verified};
use rollout::{CommandId, DeployOptions, ImageDigest, Overrides, ReleaseId, Slot};

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_316_400 + second).expect("a time")
}

fn reference(number: u64) -> ReleaseRef {
    let digest = ImageDigest::new(format!("sha256:{number:064x}")).expect("a digest");
    let id = ReleaseId { application: name("shop"), service: name("api"), digest };
    ReleaseRef { id, image: "x".to_owned(), tag: format!("v{number}"), pushed_at: None }
}

fn state(environment: &str) -> TargetState {
    TargetState::new(TargetId::new(name("shop"), name("api"), name(environment)))
}

fn stable(number: u64) -> StableSide {
    StableSide {
        template: None,
        slot: Some(Slot::Blue),
        version: "api:1".to_owned(),
        release: Some(reference(number)),
        since: at(60),
        forward_only: false,
        train: None,
    }
}

fn record(number: u64, verdict: Verdict) -> DeploymentRecord {
    DeploymentRecord {
        target: state("prod").target,
        number: 7,
        release: reference(number),
        actor: Actor::Switchback,
        hotfix: false,
        policy_version: 1,
        started_at: at(0),
        ended_at: Some(at(120)),
        verdict: Some(verdict),
        reason: String::new(),
    }
}

fn entry(fact: Fact, actor: Actor) -> JournalEntry {
    JournalEntry { target: state("prod").target, sequence: 9, deployment: None, at: at(0), actor, fact }
}

/// All texts of a message, one per line.
fn texts(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| texts(item, into)),
        Value::Object(object) => {
            into.extend(object.get("text").and_then(Value::as_str).map(str::to_owned));
            object.values().for_each(|item| texts(item, into));
        }
        _ => {}
    }
}

#[test]
fn release_message_shows_its_state_per_environment() {
    let live = EnvironmentState {
        state: Some(TargetState {
            stable: Some(stable(2)),
            verified: vec![Verified { release: reference(2), deployment: 3, at: at(30), forward_only: false }],
            ..state("dev")
        }),
        last: None,
    };
    let once = EnvironmentState {
        state: Some(TargetState {
            stable: Some(stable(3)),
            verified: vec![Verified { release: reference(2), deployment: 3, at: at(30), forward_only: false }],
            ..state("qa")
        }),
        last: Some(record(2, Verdict::Succeeded)),
    };
    let queued = Queued {
        release: reference(2),
        actor: Actor::Switchback,
        reason: String::new(),
        overrides: Overrides::default(),
        options: DeployOptions::default(),
        command: CommandId("1".to_owned()),
        at: at(0),
    };
    let waits = EnvironmentState { state: Some(TargetState { queued: vec![queued], ..state("staging") }), last: None };
    let back = EnvironmentState { state: Some(state("prod")), last: Some(record(2, Verdict::RolledBack)) };
    let never = EnvironmentState { state: Some(state("demo")), last: Some(record(1, Verdict::Succeeded)) };
    let provenance = Provenance { commit: Some("0123456789abcdef".to_owned()), ..Provenance::default() };
    let about = reference(2);
    let environments = [live, once, waits, back, never, EnvironmentState::default()];
    let chat = release(&ReleaseSummary { release: &about, provenance: Some(&provenance), environments: &environments });
    assert_eq!(
        chat.text,
        "shop/api v2: dev live, verified · qa verified · staging queued behind the running deployment · \
         prod rolled back (#7)"
    );
    let mut words = Vec::new();
    texts(&chat.blocks, &mut words);
    assert_eq!(
        words,
        [
            "*shop/api v2*\n\
             *dev*  live, verified since <!date^1795316460^{date_short_pretty} {time}|2026-11-22 03:01:00 UTC>\n\
             *qa*  verified since <!date^1795316430^{date_short_pretty} {time}|2026-11-22 03:00:30 UTC>\n\
             *staging*  queued behind the running deployment\n\
             *prod*  rolled back (#7), <!date^1795316520^{date_short_pretty} {time}|2026-11-22 03:02:00 UTC>",
            "`000000000000` · 0123456789ab",
        ]
    );
}

#[test]
fn undeployed_release_says_not_deployed_yet() {
    let about = reference(2);
    let chat = release(&ReleaseSummary { release: &about, provenance: None, environments: &[] });
    assert_eq!(chat.text, "shop/api v2");
    assert!(chat.blocks.to_string().contains("not deployed yet"), "{}", chat.blocks);
}

#[test]
fn finished_deployment_shows_verdict_and_reason() {
    let (target, about) = (state("prod").target, reference(2));
    let people = BTreeMap::new();
    let workflow = Actor::Person { name: format!("{SLACK_PREFIX}U012AB3CD") };
    let fact = Fact::Ended { verdict: Verdict::RolledBack, reason: "alarm api-5xx fires".to_owned(), live: None };
    let entries = [entry(fact, Actor::Switchback)];
    let chat = deployment(&DeploymentSummary {
        target: &target,
        number: 12,
        release: &about,
        actor: &workflow,
        state: None,
        ended: Some((Verdict::RolledBack, "alarm api-5xx fires")),
        entries: &entries,
        people: &people,
    });
    assert_eq!(chat.text, "shop/api/prod #12, v2: Rolled back: alarm api-5xx fires");
    let mut words = Vec::new();
    texts(&chat.blocks, &mut words);
    assert_eq!(
        words,
        [
            ":rewind: *shop/api/prod #12*  v2\nRolled back: alarm api-5xx fires",
            "requested by <@U012AB3CD>",
            "<!date^1795316400^{time_secs}|03:00:00> ■ Rolled back: alarm api-5xx fires",
            "`switchback explain shop/api/prod`",
        ]
    );
}

#[test]
fn foreign_text_cannot_mention_or_link() {
    let reason = "<!channel> <https://evil.example|click> & more\n*bold*";
    let fact = Fact::PromotionHeld { reason: reason.to_owned() };
    let ChatMessage { text, blocks } = super::entry(&entry(fact, Actor::Person { name: "<@U1>".to_owned() }));
    assert!(text.contains("&lt;!channel&gt; &lt;https://evil.example|click&gt; &amp; more *bold*"), "{text}");
    let mut words = vec![text];
    texts(&blocks, &mut words);
    for words in words {
        let dates = words.matches("<!date^").count();
        assert_eq!(words.matches('<').count(), dates, "{words}");
    }
}

#[test]
fn text_fits_slack_limits_without_splitting_escapes() {
    let long = "&<>é".repeat(3_000);
    let fact = Fact::PromotionHeld { reason: long.clone() };
    let ChatMessage { text, blocks } = super::entry(&entry(fact, Actor::Switchback));
    let mut words = vec![text];
    texts(&blocks, &mut words);
    assert!(words.iter().all(|words| words.chars().count() <= 3_000), "{words:?}");
    for max in 1..60 {
        let cut = short(&format!("{} {}", escaped("a<b>&c"), date(at(0))), max);
        assert!(cut.chars().count() <= max, "{max}: {cut}");
        let (opens, closes) = (cut.matches('<').count(), cut.matches('>').count());
        assert_eq!(opens, closes, "{max}: {cut}");
        assert_eq!(cut.matches('&').count(), cut.matches(';').count(), "{max}: {cut}");
    }
}

#[test]
fn mention_uses_the_slack_id_when_known() {
    let people = BTreeMap::from([
        (name("ada"), Person { slack: Some("UADA".to_owned()), ..Person::default() }),
        (name("bob"), Person::default()),
    ]);
    assert_eq!(mention(&name("ada"), &people), "<@UADA>");
    assert_eq!(mention(&name("bob"), &people), "bob");
    assert_eq!(mention(&name("eve"), &people), "eve");
}
