//! The ledger, the wake queue and the registry on a real wire: DynamoDB, SQS and ECR as ministack speaks them.

use aws::cloud::AwsCloud;
use aws::ledger::{DUE_INDEX, DynamoLedger};
use aws::{Clients, registry::EcrRegistry, wake_queue::SqsWakeQueue};
use aws_credential_types::Credentials;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
    ProjectionType, ScalarAttributeType,
};
use aws_sdk_ecr::types::ImageIdentifier;
use engine::{
    Claimed, Cloud as _, Commit, Deliveries as _, DeliveryClaim, DeliveryId, LeaseId, LeaseOutcome, LeaseRequest,
    Ledger as _, LedgerError, PostedMessage, PostedMessageKey, PostedMessages as _, PushedImage, Registry as _, Wake,
    WakeQueue as _,
};
use rollout::brake::{Brake, Lifted, Scope};
use rollout::command::Instruction;
use rollout::deployment::QueuePosition;
use rollout::policy::{Policy, RegistryPolicy, ServicePolicy, TagRule};
use rollout::promotion::ImageState;
use rollout::rate_limiter::{ApiCost, READS_PER_SECOND};
use rollout::snapshot::Reading;
use rollout::target::TargetState;
use rollout::{Actor, Command, Fact, JournalEntry, Name, Seconds, TargetId, Timestamp};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tests::harness::child::Server;
use tests::harness::{REGION, ministack};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const TABLE: &str = "ledger";

/// An emulator, the clients that reach it, and a ledger in it.
struct LedgerFixture {
    clients: Clients,
    ledger: DynamoLedger,
    server: Server,
}

async fn clients(endpoint: &str) -> Clients {
    let config = aws::config::loader()
        .endpoint_url(endpoint)
        .region(aws_config::Region::new(REGION))
        .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
        .load()
        .await;
    Clients::of(config)
}

async fn fixture() -> LedgerFixture {
    let server = ministack::start(&[]).expect("ministack starts");
    let clients = clients(&server.endpoint()).await;
    create_table(&clients).await;
    LedgerFixture { ledger: DynamoLedger::new(clients.clone(), TABLE), clients, server }
}

async fn create_table(clients: &Clients) {
    let key = |name: &str, kind| {
        KeySchemaElement::builder().attribute_name(name).key_type(kind).build().expect("name and kind are set")
    };
    let text = |name: &str| {
        let attribute = AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S);
        attribute.build().expect("name and type are set")
    };
    let due = GlobalSecondaryIndex::builder()
        .index_name(DUE_INDEX)
        .key_schema(key("due_pk", KeyType::Hash))
        .key_schema(key("due_sk", KeyType::Range))
        .projection(Projection::builder().projection_type(ProjectionType::KeysOnly).build())
        .build()
        .expect("name and keys are set");
    clients
        .dynamodb()
        .await
        .create_table()
        .table_name(TABLE)
        .billing_mode(BillingMode::PayPerRequest)
        .set_attribute_definitions(Some(["pk", "sk", "due_pk", "due_sk"].map(text).to_vec()))
        .key_schema(key("pk", KeyType::Hash))
        .key_schema(key("sk", KeyType::Range))
        .global_secondary_indexes(due)
        .send()
        .await
        .expect("the table is made");
}

fn target(text: &str) -> TargetId {
    TargetId::parse(text).expect("a target")
}

fn lease(text: &str) -> LeaseId {
    LeaseId(text.to_owned())
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_760_000_000 + second).expect("a time")
}

fn claim(by: &str) -> LeaseRequest {
    LeaseRequest { lease: lease(by), now: at(0), lasts: Seconds(60), steal: None }
}

fn abort(target: &TargetId, request: &str, requested_at: Timestamp) -> Command {
    let what = Instruction::Abort { deployment: None };
    Command::asked(target.clone(), what, Actor::Switchback, "", request, requested_at)
}

fn commit(state: &TargetState) -> Commit<'_> {
    Commit { state, journal: &[], history: &[], consumed: &[], due_at: None, release_lease: false }
}

impl LedgerFixture {
    async fn item(&self, pk: &str, sk: &str) -> Option<HashMap<String, AttributeValue>> {
        let dynamodb = self.clients.dynamodb().await;
        let request = dynamodb.get_item().table_name(TABLE).consistent_read(true);
        let key = request.key("pk", AttributeValue::S(pk.into())).key("sk", AttributeValue::S(sk.into()));
        key.send().await.expect("the item is read").item
    }

    async fn items_of(&self, pk: &str) -> Vec<HashMap<String, AttributeValue>> {
        let dynamodb = self.clients.dynamodb().await;
        let request = dynamodb.query().table_name(TABLE).consistent_read(true).key_condition_expression("pk = :pk");
        let answer = request.expression_attribute_values(":pk", AttributeValue::S(pk.into())).send().await;
        answer.expect("the items are read").items.unwrap_or_default()
    }

    async fn put(&self, attributes: &[(&str, AttributeValue)]) {
        let item = attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let dynamodb = self.clients.dynamodb().await;
        dynamodb.put_item().table_name(TABLE).set_item(Some(item)).send().await.expect("the item is written");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dynamodb_ledger_keeps_the_contract() {
    tests::ledger_contract::check(&fixture().await.ledger).await;
}

#[tokio::test]
async fn the_ledger_in_memory_keeps_the_contract() {
    tests::ledger_contract::check(&simulation::ledger::MemoryLedger::new()).await;
}

#[tokio::test]
async fn dynamodb_specific_behaviour() {
    let fixture = fixture().await;
    a_claim_with_a_lost_response_is_granted_again(&fixture).await;
    a_newer_format_is_not_leased(&fixture).await;
    damaged_state_is_reported_and_the_lease_released(&fixture).await;
    an_expired_command_can_be_written_again(&fixture).await;
    only_expendable_items_have_a_ttl(&fixture).await;
    a_commit_beyond_the_transaction_limit_is_refused(&fixture).await;
    an_oversized_policy_is_refused_with_its_size(&fixture).await;
    a_delivery_is_claimed_once_until_the_claim_expires(&fixture).await;
    an_unreadable_policy_is_repaired_by_applying_again(&fixture).await;
    a_slow_apply_keeps_a_newer_versions_watches(&fixture).await;
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

fn empty_policy(application: &str) -> Policy {
    let application = Name::new(application).expect("a name");
    Policy {
        application,
        services: BTreeMap::new(),
        environments: BTreeMap::new(),
        people: BTreeMap::new(),
        groups: BTreeMap::new(),
        grants: Vec::new(),
        notifications: Vec::new(),
    }
}

async fn an_oversized_policy_is_refused_with_its_size(fixture: &LedgerFixture) {
    let policy = empty_policy("heavy");
    let most = "#".repeat(390 * 1024);
    assert_eq!(fixture.ledger.apply(&policy, &most, at(0), "ada").await.expect("applied"), 1);
    let too_big = "#".repeat(400 * 1024);
    let error = fixture.ledger.apply(&policy, &too_big, at(0), "ada").await.expect_err("refused");
    assert_eq!(
        error.to_string(),
        "the ledger refused applying a policy: the policy takes 401 KB with its text, and the ledger holds 396 KB of \
         it: split the application"
    );
    let present = fixture.ledger.policy(&policy.application).await.expect("an answer").expect("a policy");
    assert_eq!(present.text, most);
}

async fn an_unreadable_policy_is_repaired_by_applying_again(fixture: &LedgerFixture) {
    let policy = empty_policy("mended");
    let text = |value: &str| AttributeValue::S(value.to_owned());
    let version = AttributeValue::N("4".into());
    let damaged =
        [("pk", text("POLICY#mended")), ("sk", text("CURRENT")), ("applied", text("{")), ("version", version)];
    fixture.put(&damaged).await;
    let error = fixture.ledger.policy(&policy.application).await.expect_err("unreadable");
    assert!(error.to_string().contains("POLICY#mended CURRENT"), "{error}");
    assert_eq!(fixture.ledger.apply(&policy, "one", at(0), "ada").await.expect("applied"), 5);
    let present = fixture.ledger.policy(&policy.application).await.expect("an answer").expect("a policy");
    assert_eq!((present.version, present.text.as_str()), (5, "one"));
}

async fn a_slow_apply_keeps_a_newer_versions_watches(fixture: &LedgerFixture) {
    let mut policy = empty_policy("slow");
    let name = |text: &str| Name::new(text).expect("a name");
    let source = |repository: &str| ServicePolicy {
        registry: RegistryPolicy::default(),
        repository: repository.to_owned(),
        tags: TagRule::Glob("*".to_owned()),
        paused: false,
        depends_on: Vec::new(),
    };
    policy.services.insert(name("api"), source("slow/before"));
    assert_eq!(fixture.ledger.apply(&policy, "one", at(0), "ada").await.expect("applied"), 1);
    // Version 9 wants the same two; this one is about to become version 2.
    for repository in ["slow/before", "slow/after"] {
        let pk = AttributeValue::S(format!("WATCH#repository#{repository}"));
        let (sk, version) = (AttributeValue::S("slow/api".into()), AttributeValue::N("9".into()));
        fixture.put(&[("pk", pk), ("sk", sk), ("version", version)]).await;
    }
    policy.services.insert(name("api"), source("slow/after"));
    assert_eq!(fixture.ledger.apply(&policy, "two", at(0), "ada").await.expect("applied"), 2);
    for repository in ["slow/before", "slow/after"] {
        let item =
            fixture.item(&format!("WATCH#repository#{repository}"), "slow/api").await.expect("it is still there");
        assert_eq!(item.get("version"), Some(&AttributeValue::N("9".into())), "{repository}");
    }
}

async fn posts_expire_after_90_days(fixture: &LedgerFixture) {
    let channel = "C012AB3CD".to_owned();
    let key = PostedMessageKey::Deployment { target: target("posted/api/prod"), number: 7, channel };
    for now in [0, 60] {
        let post = PostedMessage { id: "1503435956.000247".into(), content_hash: format!("{now}") };
        fixture.ledger.put_post(&key, &post, at(now)).await.expect("noted");
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

#[tokio::test(flavor = "multi_thread")]
async fn a_write_with_a_lost_response_happens_once() {
    let fixture = fixture().await;
    let lossy_relay = LossyRelay::start(fixture.server.address()).await;
    let ledger = DynamoLedger::new(clients(&format!("http://{}", lossy_relay.address)).await, TABLE);
    let target = target("unheard/api/production");

    lossy_relay.lose_next("UpdateItem");
    let answer = ledger.acquire_lease(&target, &claim("one")).await.expect("an answer");
    assert!(matches!(answer, LeaseOutcome::Granted(_)), "{answer:?}");

    lossy_relay.lose_next("TransactWriteItems");
    let command = abort(&target, "1", at(0));
    assert!(ledger.put_command(&command).await.expect("written"), "it was new");

    lossy_relay.lose_next("TransactWriteItems");
    let state = TargetState::new(target.clone());
    let journal = [JournalEntry {
        target: target.clone(),
        sequence: 1,
        deployment: None,
        at: at(0),
        actor: Actor::Switchback,
        fact: Fact::Resumed,
    }];
    let consumed = [command.id];
    let decision = Commit { journal: &journal, consumed: &consumed, ..commit(&state) };
    assert_eq!(ledger.commit(&target, &lease("one"), 0, &decision).await.expect("committed"), 1);

    lossy_relay.lose_next("UpdateItem");
    ledger.release(&target, &lease("one")).await.expect("given back");

    lossy_relay.lose_next("TransactWriteItems");
    let (by, reason) = (Actor::Person { name: "ada".into() }, "the audit".to_owned());
    let brake = Brake { scope: Scope::Everything, by: by.clone(), reason, since: at(0), until: None };
    ledger.put_brake(&brake).await.expect("set");
    lossy_relay.lose_next("TransactWriteItems");
    let lifted = Lifted { by, reason: "it is over".into(), at: at(1) };
    assert_eq!(ledger.lift_brake(&Scope::Everything, &lifted).await.expect("lifted"), Some(brake), "it was on");
    assert_eq!(ledger.brake_log(10).await.expect("a log").len(), 2, "set once, lifted once");

    let (transaction, update) = ("TransactWriteItems", "UpdateItem");
    assert_eq!(lossy_relay.lost(), [update, transaction, transaction, update, transaction, transaction]);
    assert_eq!(ledger.commands(&target).await.expect("commands"), []);
    assert_eq!(ledger.journal(&target, 0, 10).await.expect("a journal"), journal);
    match ledger.acquire_lease(&target, &claim("two")).await.expect("an answer") {
        LeaseOutcome::Granted(loaded) => assert_eq!(loaded.revision, 1),
        held => panic!("it was given back: {held:?}"),
    }
}

/// A relay that hands a request on, and then cuts the connection instead of handing the answer back.
struct LossyRelay {
    address: SocketAddr,
    seen: Arc<Mutex<RelayState>>,
}

#[derive(Default)]
struct RelayState {
    /// The operation whose next answer is to be lost.
    lose: Option<&'static str>,
    /// The operations whose answers were lost.
    lost: Vec<&'static str>,
}

impl LossyRelay {
    async fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Mutex::new(RelayState::default()));
        let relayed = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // A connection carries one request, and is cut whether its answer was handed back or not.
                let _ = relay(client, upstream, &relayed).await;
            }
        });
        Self { address, seen }
    }

    fn lose_next(&self, operation: &'static str) {
        self.seen.lock().expect("nobody panicked").lose = Some(operation);
    }

    fn lost(&self) -> Vec<&'static str> {
        self.seen.lock().expect("nobody panicked").lost.clone()
    }
}

async fn relay(mut client: TcpStream, upstream: SocketAddr, seen: &Mutex<RelayState>) -> std::io::Result<()> {
    let request = message(&mut client).await?;
    let mut server = TcpStream::connect(upstream).await?;
    server.write_all(&request).await?;
    let answer = message(&mut server).await?;
    let head = String::from_utf8_lossy(&request).into_owned();
    let lose = {
        let mut seen = seen.lock().expect("nobody panicked");
        let named = |operation: &&str| head.contains(&format!("DynamoDB_20120810.{operation}"));
        let lose = seen.lose.take_if(|operation| named(&&**operation));
        seen.lost.extend(lose);
        lose
    };
    if lose.is_none() {
        // Said, so that the SDK does not send its next request into a connection that is being closed.
        let first_line = answer.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        client.write_all(&[&answer[..first_line], b"connection: close\r\n", &answer[first_line..]].concat()).await?;
    }
    Ok(())
}

/// One HTTP/1.1 message with a content length, as it came.
async fn message(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![];
    loop {
        if let Some(head) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            if bytes.len() >= head + 4 + length.unwrap_or(0) {
                return Ok(bytes);
            }
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
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
    let joined = futures::future::join_all((0..40).map(|_| fixture.ledger.acquire_slot(&api_cost, now))).await;
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
    let queue_position = fixture.ledger.acquire_slot(&api_cost, later).await.expect("a place");
    assert_eq!(queue_position, QueuePosition { at: later, low_rate: false }, "nobody waits any more");
}

#[tokio::test]
async fn a_wake_is_sent_as_a_delayed_message() {
    let fixture = fixture().await;
    let sqs = fixture.clients.sqs().await;
    let queue = sqs.create_queue().queue_name("wakes").send().await.expect("the queue is made");
    let url = queue.queue_url().expect("an address").to_owned();
    let wake_queue = SqsWakeQueue::new(fixture.clients.clone(), &url);
    let now = Wake { steal: Some(lease("held-before")), ..Wake::of(target("shop/api/production")) };
    let later = Wake::of(target("shop/api/staging"));
    // Longer than SQS takes: it is cut, not refused.
    wake_queue.send(&later, Seconds(100_000)).await.expect("sent");
    wake_queue.send(&now, Seconds(0)).await.expect("sent");

    let received = sqs.receive_message().queue_url(&url).max_number_of_messages(10).send().await.expect("an answer");
    let bodies: Vec<&str> = received.messages().iter().filter_map(|message| message.body()).collect();
    assert_eq!(bodies, ["{\"target\":\"shop/api/production\",\"steal\":\"held-before\"}"]);
    assert_eq!(serde_json::from_str::<Wake>(bodies[0]).expect("a wake"), now);

    let nowhere = SqsWakeQueue::new(fixture.clients.clone(), format!("{url}-elsewhere"));
    let error = nowhere.send(&now, Seconds(0)).await.expect_err("there is no such queue");
    assert!(error.starts_with("SendMessage: "), "{error}");
}

#[tokio::test]
async fn the_registry_lists_tagged_images_with_their_uri() {
    let fixture = fixture().await;
    let ecr = fixture.clients.ecr().await;
    ecr.create_repository().repository_name("shop/api").send().await.expect("the repository is made");
    for tag in ["v1", "v2"] {
        let manifest = format!("{{\"schemaVersion\":2,\"config\":{{\"digest\":\"{tag}\"}}}}");
        let put = ecr.put_image().repository_name("shop/api").image_manifest(manifest).image_tag(tag);
        put.send().await.expect("the image is pushed");
    }
    let registry = EcrRegistry::new(fixture.clients.clone());
    let mut images = registry.images(&RegistryPolicy::default(), "shop/api").await.expect("images");
    images.sort_by(|a, b| a.tags.cmp(&b.tags));
    let tags: Vec<&[String]> = images.iter().map(|image| image.tags.as_slice()).collect();
    assert_eq!(tags, [["v1"], ["v2"]]);
    let repositories = ecr.describe_repositories().repository_names("shop/api").send().await.expect("an answer");
    assert_eq!(Some(images[0].repository_uri.as_str()), repositories.repositories()[0].repository_uri());

    // Case 16: a lifecycle rule takes one of them away.
    let cloud = AwsCloud::new(fixture.clients.clone());
    let reference = |image: &PushedImage| format!("{}@{}", image.repository_uri, image.digest.as_str());
    let [kept, expired] = [&images[0], &images[1]];
    assert_eq!(cloud.image(&reference(expired)).await, Reading::Known(ImageState::Present));
    let which = ImageIdentifier::builder().image_digest(expired.digest.as_str()).build();
    let deleted = ecr.batch_delete_image().repository_name("shop/api").image_ids(which).send().await.expect("answered");
    assert!(deleted.failures().is_empty(), "{deleted:?}");
    assert_eq!(cloud.image(&reference(expired)).await, Reading::Known(ImageState::Gone));
    assert_eq!(cloud.image(&reference(kept)).await, Reading::Known(ImageState::Present));

    let error =
        registry.images(&RegistryPolicy::default(), "shop/none").await.expect_err("there is no such repository");
    assert!(error.starts_with("DescribeImages: RepositoryNotFoundException: "), "{error}");
}

/// Issue 10, case 15: the registry lives in another account, and in another Region.
#[tokio::test]
async fn the_policys_registry_is_queried() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let request = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.expect("a request");
        let request = message(&mut client).await.expect("a whole request");
        let answer = serde_json::json!({"imageDetails": [{
            "registryId": "999999999999",
            "repositoryName": "shop/api",
            "imageDigest": format!("sha256:{}", "a".repeat(64)),
            "imageTags": ["v1"],
            "imagePushedAt": 1_790_000_000,
        }]})
        .to_string();
        let head =
            "HTTP/1.1 200 OK\r\ncontent-type: application/x-amz-json-1.1\r\nconnection: close\r\ncontent-length:";
        client.write_all(format!("{head} {}\r\n\r\n{answer}", answer.len()).as_bytes()).await.expect("answered");
        String::from_utf8_lossy(&request).into_owned()
    });
    let registry = EcrRegistry::new(clients(&endpoint).await);
    let elsewhere = RegistryPolicy { account: Some("999999999999".to_owned()), region: Some("us-west-2".to_owned()) };
    let images = registry.images(&elsewhere, "shop/api").await.expect("images");
    assert_eq!(images[0].repository_uri, "999999999999.dkr.ecr.us-west-2.amazonaws.com/shop/api");
    let request = request.await.expect("nobody panicked");
    assert!(request.contains("\"registryId\":\"999999999999\"") && request.contains("/us-west-2/ecr/"), "{request}");
}

async fn a_delivery_is_claimed_once_until_the_claim_expires(fixture: &LedgerFixture) {
    let ledger = &fixture.ledger;
    let delivery = |channel: &str| DeliveryId { target: target("told/api/prod"), sequence: 7, channel: channel.into() };
    let hold = |by: &str, now: i64| DeliveryClaim { by: lease(by), now: at(now), until: at(now + 90) };
    let claim = async |channel: &str, by: &str, now: i64| {
        ledger.claim(&delivery(channel), &hold(by, now)).await.expect("answered")
    };
    assert_eq!(claim("bus", "one", 0).await, Claimed::Acquired);
    assert_eq!(claim("bus", "one", 0).await, Claimed::Acquired, "its answer was lost");
    assert_eq!(claim("bus", "two", 89).await, Claimed::HeldElsewhere);
    assert_eq!(claim("topic:a", "two", 0).await, Claimed::Acquired, "another channel");
    assert_eq!(claim("bus", "two", 90).await, Claimed::Acquired, "the first is dead");
    ledger.release_claim(&delivery("bus"), &lease("one")).await.expect("it is another's, and stays");
    assert_eq!(claim("bus", "three", 91).await, Claimed::HeldElsewhere);
    ledger.release_claim(&delivery("bus"), &lease("two")).await.expect("given back");
    assert_eq!(claim("bus", "three", 91).await, Claimed::Acquired);
    ledger.done(&delivery("bus"), at(92)).await.expect("noted");
    assert_eq!(claim("bus", "four", 1000).await, Claimed::Done);
    let item = fixture.item("NOTIFIED#told/api/prod", "00000000000000000007#bus").await.expect("it is there");
    let ends = item["expires_at"].as_n().expect("a number");
    assert_eq!(ends, &(at(92).as_second() + 15 * 24 * 3600).to_string(), "and taken away some day");
    assert_eq!(claim("bus", "five", 16 * 24 * 3600).await, Claimed::Acquired, "forgotten, though not taken away yet");
}
