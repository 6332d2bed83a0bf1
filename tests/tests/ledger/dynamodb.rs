//! What the contract cannot say of DynamoDB: formats, expiry, the limits of items and transactions, errors.

use crate::fixture::{LedgerFixture, TABLE, abort, at, claim, clients, commit, fixture, lease, target};
use crate::policies;
use aws::ledger::DynamoLedger;
use aws_sdk_dynamodb::types::AttributeValue;
use engine::{
    Administration as _, ClaimOutcome, Commands as _, Commit, Deliveries as _, DeliveryClaim, DeliveryId, LeaseOutcome,
    Leases as _, LedgerError, PostedMessage, PostedMessageKey, PostedMessages as _, Targets as _,
};
use rollout::brake::{Brake, Lifted, Scope};
use rollout::deployment::QueuePosition;
use rollout::rate_limiter::{ApiCost, READS_PER_SECOND};
use rollout::target::TargetState;
use rollout::{Actor, Fact, JournalEntry, Name, Seconds, Timestamp};
use std::collections::HashMap;

#[tokio::test]
async fn dynamodb_specific_behaviour() {
    let fixture = fixture().await;
    a_claim_with_a_lost_response_is_granted_again(&fixture).await;
    a_newer_format_is_not_leased(&fixture).await;
    damaged_state_is_reported_and_the_lease_released(&fixture).await;
    an_expired_command_can_be_written_again(&fixture).await;
    only_expendable_items_have_a_ttl(&fixture).await;
    a_commit_beyond_the_transaction_limit_is_refused(&fixture).await;
    policies::an_oversized_policy_is_refused_with_its_size(&fixture).await;
    a_delivery_is_claimed_once_until_the_claim_expires(&fixture).await;
    policies::an_unreadable_policy_is_repaired_by_applying_again(&fixture).await;
    policies::a_slow_apply_keeps_a_newer_versions_watches(&fixture).await;
    posts_expire_after_90_days(&fixture).await;
    brakes_and_their_log_never_expire(&fixture).await;
}

async fn a_claim_with_a_lost_response_is_granted_again(fixture: &LedgerFixture) {
    let target = target("lost/api/production");
    for _ in 0..2 {
        let answer = fixture.ledger.acquire_lease(&target, &claim("one")).await.expect("an answer");
        assert!(matches!(answer, LeaseOutcome::Granted(_)), "{answer:?}");
    }
}

async fn a_newer_format_is_not_leased(fixture: &LedgerFixture) {
    let pk = AttributeValue::S("TARGET#newer/api/production".into());
    let state = AttributeValue::S("{\"of\": \"another age\"}".into());
    let newer = rollout::target::FORMAT + 1;
    let (sk, format) = (AttributeValue::S("STATE".into()), AttributeValue::N(newer.to_string()));
    fixture.put(&[("pk", pk), ("sk", sk), ("state", state), ("format", format)]).await;
    let answer = fixture.ledger.acquire_lease(&target("newer/api/production"), &claim("one")).await;
    let error = answer.expect_err("not granted").to_string();
    let expected = format!(
        "what the ledger holds of TARGET#newer/api/production STATE cannot be read: it has format {newer}, written by a \
         newer version; this one reads up to {}",
        rollout::target::FORMAT
    );
    assert_eq!(error, expected);
    let item = fixture.item("TARGET#newer/api/production", "STATE").await.expect("it is there");
    assert_eq!(item.get("lease_id"), None);
}

async fn damaged_state_is_reported_and_the_lease_released(fixture: &LedgerFixture) {
    let pk = AttributeValue::S("TARGET#damaged/api/production".into());
    let state = AttributeValue::S("{\"format\": 1".into());
    fixture.put(&[("pk", pk), ("sk", AttributeValue::S("STATE".into())), ("state", state)]).await;
    let error =
        fixture.ledger.acquire_lease(&target("damaged/api/production"), &claim("one")).await.expect_err("not granted");
    assert!(matches!(error, LedgerError::Unreadable { .. }), "{error:?}");
    assert!(error.to_string().contains("TARGET#damaged/api/production STATE"), "{error}");
    let item = fixture.item("TARGET#damaged/api/production", "STATE").await.expect("it is there");
    assert_eq!(item.get("lease_id"), None);
}

async fn an_expired_command_can_be_written_again(fixture: &LedgerFixture) {
    // DynamoDB may take days to take away what has expired: until then it counts as gone.
    let target = target("forgotten/api/production");
    assert!(fixture.ledger.put_command(&abort(&target, "1", at(0))).await.expect("written"));
    let month = Seconds(30 * 24 * 3600).after(at(0));
    assert!(fixture.ledger.put_command(&abort(&target, "1", month)).await.expect("written"));
    assert!(!fixture.ledger.put_command(&abort(&target, "1", month)).await.expect("an answer"));
}

async fn only_expendable_items_have_a_ttl(fixture: &LedgerFixture) {
    let target = target("ttl/api/production");
    fixture.ledger.put_command(&abort(&target, "1", at(0))).await.expect("written");
    let seen = fixture.item("COMMANDS#ttl/api/production", "COMMAND#asked:1").await.expect("it is there");
    let expires_at = (at(0).as_second() + 30 * 24 * 3600).to_string();
    assert_eq!(seen.get("expires_at"), Some(&AttributeValue::N(expires_at)));
    let waits = format!("INBOX#{:015}#asked:1", at(0).as_millisecond());
    let waits = fixture.item("COMMANDS#ttl/api/production", &waits).await.expect("it is there");
    assert_eq!(waits.get("expires_at"), None, "what was not consumed never goes");
}

async fn a_commit_beyond_the_transaction_limit_is_refused(fixture: &LedgerFixture) {
    let target = target("big/api/production");
    fixture.ledger.acquire_lease(&target, &claim("one")).await.expect("an answer");
    let state = TargetState::new(target.clone());
    let entry = |sequence| JournalEntry {
        target: target.clone(),
        sequence,
        deployment: None,
        at: at(0),
        actor: Actor::Switchback,
        fact: Fact::Resumed,
    };
    let journal: Vec<JournalEntry> = (1..=100).map(entry).collect();
    let decision = Commit { journal: &journal, ..commit(&state) };
    let error = fixture.ledger.commit(&target, &lease("one"), 0, &decision).await.expect_err("refused");
    let expected = "the ledger refused writing a decision: 101 writes at once, and a transaction holds 100";
    assert_eq!(error.to_string(), expected);
    let decision = Commit { journal: &journal[..99], ..commit(&state) };
    assert_eq!(fixture.ledger.commit(&target, &lease("one"), 0, &decision).await.expect("committed"), 1);
}

async fn a_delivery_is_claimed_once_until_the_claim_expires(fixture: &LedgerFixture) {
    let ledger = &fixture.ledger;
    let delivery =
        |channel: &str| DeliveryId { target: target("notice/api/prod"), sequence: 7, channel: channel.into() };
    let hold = |by: &str, now: i64| DeliveryClaim { by: lease(by), now: at(now), until: at(now + 90) };
    let claim = async |channel: &str, by: &str, now: i64| {
        ledger.claim(&delivery(channel), &hold(by, now)).await.expect("answered")
    };
    assert_eq!(claim("bus", "one", 0).await, ClaimOutcome::Acquired);
    assert_eq!(claim("bus", "one", 0).await, ClaimOutcome::Acquired, "its answer was lost");
    assert_eq!(claim("bus", "two", 89).await, ClaimOutcome::HeldElsewhere);
    assert_eq!(claim("topic:a", "two", 0).await, ClaimOutcome::Acquired, "another channel");
    assert_eq!(claim("bus", "two", 90).await, ClaimOutcome::Acquired, "the first is dead");
    ledger.release_claim(&delivery("bus"), &lease("one")).await.expect("it is another's, and stays");
    assert_eq!(claim("bus", "three", 91).await, ClaimOutcome::HeldElsewhere);
    ledger.release_claim(&delivery("bus"), &lease("two")).await.expect("given back");
    assert_eq!(claim("bus", "three", 91).await, ClaimOutcome::Acquired);
    ledger.done(&delivery("bus"), at(92)).await.expect("noted");
    assert_eq!(claim("bus", "four", 1000).await, ClaimOutcome::AlreadySent);
    let item = fixture.item("NOTIFIED#notice/api/prod", "00000000000000000007#bus").await.expect("it is there");
    let ends = item["expires_at"].as_n().expect("a number");
    assert_eq!(ends, &(at(92).as_second() + 15 * 24 * 3600).to_string(), "and taken away some day");
    assert_eq!(
        claim("bus", "five", 16 * 24 * 3600).await,
        ClaimOutcome::Acquired,
        "forgotten, though not taken away yet"
    );
}

async fn posts_expire_after_90_days(fixture: &LedgerFixture) {
    let channel = "C012AB3CD".to_owned();
    let key = PostedMessageKey::Deployment { target: target("posted/api/prod"), number: 7, channel };
    for now in [0, 60] {
        let post = PostedMessage { id: "1503435956.000247".into(), content_hash: format!("{now}") };
        fixture.ledger.record_posted_message(&key, &post, at(now)).await.expect("noted");
        let sk = "DEPLOYMENT#00000000000000000007#C012AB3CD";
        let item = fixture.item("POSTED#posted/api/prod", sk).await.expect("it is there");
        let expires_at = (at(now).as_second() + 90 * 24 * 3600).to_string();
        assert_eq!(item.get("expires_at"), Some(&AttributeValue::N(expires_at)), "from its last edit on");
    }
}

async fn brakes_and_their_log_never_expire(fixture: &LedgerFixture) {
    let scope = Scope::Environment {
        application: Name::new("braked").expect("a name"),
        environment: Name::new("prod").expect("a name"),
    };
    let (by, reason) = (Actor::Person { name: "ada".into() }, "the audit".to_owned());
    let brake = Brake { scope: scope.clone(), by, reason, since: at(0), until: Some(at(60)) };
    fixture.ledger.put_brake(&brake).await.expect("set");
    let on = fixture.item("BRAKES", "ON#environment#braked/prod").await.expect("it is there");
    assert_eq!(on.get("expires_at"), None, "whose time is over is shown until somebody lifts it");
    let log = fixture.items_of("BRAKES").await;
    let logged = |item: &HashMap<String, AttributeValue>| {
        let sk = item["sk"].as_s().expect("a text");
        sk.starts_with(&format!("LOG#{:015}#set#", at(0).as_millisecond()))
    };
    let entry = log.iter().find(|item| logged(item)).unwrap_or_else(|| panic!("nothing was logged: {log:?}"));
    assert_eq!(entry.get("expires_at"), None, "what was done stays on record");
    let lifted = Lifted { by: Actor::Person { name: "ada".into() }, reason: "it is over".into(), at: at(70) };
    assert_eq!(fixture.ledger.lift_brake(&scope, &lifted).await.expect("lifted"), Some(brake));
    assert_eq!(fixture.item("BRAKES", "ON#environment#braked/prod").await, None);
}

#[tokio::test]
async fn unavailable_and_refusing_ledgers_are_distinguished() {
    // A port that was free a moment ago, and that nobody listens on.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let clients_to_nobody = clients(&format!("http://{closed}")).await;
    let answer = DynamoLedger::new(clients_to_nobody, TABLE).state(&target("a/b/c")).await;
    match answer {
        Err(LedgerError::Unavailable { doing: "reading a state", reason }) => {
            assert!(reason.starts_with("GetItem: dispatch failure: "), "{reason}");
            assert!(reason.contains("Connection refused"), "{reason}");
        }
        other => panic!("it should not have answered: {other:?}"),
    }

    let fixture = fixture().await;
    let answer = DynamoLedger::new(fixture.clients.clone(), "another").state(&target("a/b/c")).await;
    match answer {
        Err(LedgerError::Refused { doing: "reading a state", reason }) => {
            assert!(reason.starts_with("GetItem: ResourceNotFoundException: "), "{reason}");
            assert!(reason.contains("(status 400, request "), "{reason}");
        }
        other => panic!("it should have said no: {other:?}"),
    }
}

#[tokio::test]
async fn concurrent_drivers_get_distinct_queue_positions() {
    let fixture = fixture().await;
    let api_cost = ApiCost { full_rate: 75.0, low_rate: 15.0, slack_ms: 40_000 };
    let now = at(1_000);
    let joined = futures::future::join_all((0..40).map(|_| fixture.ledger.reserve_api_calls(&api_cost, now))).await;
    let mut places: Vec<QueuePosition> =
        joined.into_iter().map(|queue_position| queue_position.expect("a place")).collect();
    places.sort_by_key(|queue_position| (queue_position.at, queue_position.low_rate));
    // As if they had come one after the other.
    let mut until = Timestamp::UNIX_EPOCH;
    let one_by_one = (0..40).map(|_| {
        let (queue_position, then) = api_cost.queue_position(now, until, READS_PER_SECOND);
        until = then;
        queue_position
    });
    assert_eq!(places, one_by_one.collect::<Vec<_>>());
    assert_eq!(places[39].at, at(1_000 + 62), "each pays for what it will ask");

    let later = at(10_000);
    let queue_position = fixture.ledger.reserve_api_calls(&api_cost, later).await.expect("a place");
    assert_eq!(queue_position, QueuePosition { at: later, low_rate: false }, "nobody waits any more");
}
