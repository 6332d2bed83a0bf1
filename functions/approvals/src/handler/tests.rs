use super::*;
use crate::request;
use api::CommandService;
use engine::{Cloud, LeaseId, Wake, drive};
use hmac::{Hmac, KeyInit as _, Mac as _};
use proptest::prelude::*;
use rollout::entry::{ApprovalDefault, ApprovalPolicy, Person};
use rollout::journal::Fact;
use rollout::{
    Actor, Command, DeployOptions, Effect, Instruction, Name, ObservationPlan, Outcome, Overrides, PlanId, Policy,
    Seconds, Snapshot, TargetId, TargetResources, TargetState, Timestamp,
};
use serde_json::json;
use sha2::Sha256;
use simulation::ledger::MemoryLedger;
use simulation::world::Settings;
use simulation::world::scene::{PairSetup, release_of};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex};

/// The secret and the timestamp of the payloads in `events/`.
const SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";
const KEY: &str = "k7Gq2mX9vB4nT1sLwE8yRzC5uH0jD3pA";
const TOPIC: &str = "arn:aws:sns:eu-central-1:111122223333:switchback-approve";
const NOW: i64 = 1_795_317_300;

macro_rules! payload {
    ($case:literal) => {
        include_str!(concat!("../../../../events/approvals.", $case, ".json"))
    };
}

struct Clock(AtomicI64, AtomicUsize);

impl engine::Clock for Clock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::Relaxed)).expect("a time")
    }

    fn unique_id(&self) -> LeaseId {
        LeaseId(format!("lease-{}", self.1.fetch_add(1, Ordering::Relaxed)))
    }
}

#[derive(Default)]
struct WakeLog(AtomicUsize);

impl WakeQueue for WakeLog {
    async fn send(&self, _: &Wake, _: Seconds) -> Result<(), String> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// A gated deployment observes nothing.
struct UnusedCloud;

impl Cloud for UnusedCloud {
    async fn observe(&self, _: &ObservationPlan) -> Snapshot {
        panic!("it has begun")
    }

    async fn perform(&self, _: &TargetResources, _: &Effect) -> Outcome {
        panic!("it has begun")
    }
}

/// Simulated Secrets Manager: cached and current values.
struct FakeKeys(Mutex<[Result<Option<&'static str>, KeyError>; 4]>);

impl FakeKeys {
    fn set(
        &self,
        kind: KeyKind,
        remembered: Result<Option<&'static str>, KeyError>,
        fresh: Result<Option<&'static str>, KeyError>,
    ) {
        let mut held = self.0.lock().expect("nobody panicked");
        let at = if kind == KeyKind::Slack { 0 } else { 2 };
        (held[at], held[at + 1]) = (remembered, fresh);
    }
}

impl Keys for FakeKeys {
    async fn key(&self, kind: KeyKind, fresh: bool) -> Result<Option<Secret>, KeyError> {
        let at = if kind == KeyKind::Slack { 0 } else { 2 } + usize::from(fresh);
        self.0.lock().expect("nobody panicked")[at].clone().map(|key| key.map(Secret::new))
    }
}

/// `shop/api/prod`, where ada, bob and carol may approve and two approvals are required.
struct Fixture {
    ledger: MemoryLedger,
    wakes: WakeLog,
    clock: Clock,
    keys: FakeKeys,
    target: TargetId,
}

impl Fixture {
    fn new() -> Self {
        static POLICY: LazyLock<Policy> =
            LazyLock::new(|| PairSetup::new("shop", "api", "prod").build(Settings::default()).application());
        let mut policy = POLICY.clone();
        let name = |text: &str| Name::new(text).expect("a name");
        let person =
            |slack: &str| Person { slack: Some(slack.to_owned()), mail: Some(TOPIC.to_owned()), ..Person::default() };
        policy.people = [("ada", "U012AB3CD"), ("bob", "U045EF6GH"), ("carol", "U078IJ9KL")]
            .map(|(who, slack)| (name(who), person(slack)))
            .into();
        let environment = policy.environments.get_mut(&name("prod")).expect("prod");
        environment.entry.approval = Some(ApprovalPolicy {
            required: 2,
            from: ["ada", "bob", "carol"].map(name).to_vec(),
            expires: Seconds(4 * 3600),
            default: ApprovalDefault::Reject,
        });
        let ledger = MemoryLedger::new();
        let clock = Clock(AtomicI64::new(NOW), AtomicUsize::new(0));
        let applied = ledger.store().apply(&policy, "application: shop", engine::Clock::now(&clock), "alice");
        applied.expect("no other policy is there");
        let keys = FakeKeys(Mutex::new([Ok(Some(SECRET)), Ok(None), Ok(Some(KEY)), Ok(None)]));
        let target = TargetId::parse("shop/api/prod").expect("a target");
        Self { ledger, wakes: WakeLog::default(), clock, keys, target }
    }

    /// With deployment #1, requested by `by`, at its gates.
    async fn waiting(by: &str) -> Self {
        let fixture = Self::new();
        let now = engine::Clock::now(&fixture.clock);
        let release = release_of(&fixture.target, "registry/shop/api", 1, now);
        let deploy = Instruction::Deploy {
            release: release.id.clone(),
            image: release.image,
            tag: release.tag,
            overrides: Overrides::default(),
            options: DeployOptions::default(),
        };
        let actor = Actor::Person { name: by.to_owned() };
        fixture.ledger.store().put_command(&Command::requested(fixture.target.clone(), deploy, actor, "", "1", now));
        fixture.pass().await;
        assert_eq!(fixture.state().running.expect("it waits").stage().name(), "gated");
        fixture.wakes.0.store(0, Ordering::Relaxed);
        fixture
    }

    async fn pass(&self) {
        let until = Seconds(60).after(engine::Clock::now(&self.clock));
        let wake = Wake::of(self.target.clone());
        drive(&wake, &self.ledger, &UnusedCloud, &self.wakes, &self.clock, until).await.expect("memory answers");
    }

    fn state(&self) -> TargetState {
        self.ledger.store().state(&self.target).expect("readable").expect("there is one")
    }

    fn plan(&self) -> PlanId {
        self.state().running.expect("it waits").gates.expect("it has gates").plan
    }

    fn votes(&self) -> Vec<String> {
        let gates = self.state().running.expect("it waits").gates.expect("it has gates");
        gates.votes.iter().map(|vote| vote.person.to_string()).collect()
    }

    /// Number of pending commands and of wakes sent.
    fn commands_and_wakes(&self) -> (usize, usize) {
        (self.ledger.store().commands(&self.target).len(), self.wakes.0.load(Ordering::Relaxed))
    }

    fn refusals(&self) -> Vec<String> {
        let entries = self.ledger.store().journal_tail(&self.target, 100);
        let refused = entries.into_iter().filter_map(|entry| match entry.fact {
            Fact::CommandRefused { command, reason } => Some(format!("{} {command}: {reason}", entry.actor)),
            _ => None,
        });
        refused.collect()
    }

    async fn send_event(&self, event: &Value) -> HttpReply {
        let request = request::read(event.clone()).expect("an event of an HTTP API");
        let command_service = CommandService { ledger: &self.ledger, wake_queue: &self.wakes, clock: &self.clock };
        ApprovalHandler { command_service, keys: &self.keys }.answer(&request).await
    }

    async fn send_payload(&self, payload: &str) -> HttpReply {
        self.send_event(&serde_json::from_str(payload).expect("JSON")).await
    }

    /// Slack's event of a button press, signed now.
    async fn press(&self, user: &str, yes: bool, deployment: u64, plan: &PlanId) -> HttpReply {
        self.send_event(&signed(self.press_payload(user, yes, deployment, plan), self.clock.0.load(Ordering::Relaxed)))
            .await
    }

    fn press_payload(&self, user: &str, yes: bool, deployment: u64, plan: &PlanId) -> Value {
        let value = json!({"t": self.target, "d": deployment, "p": plan}).to_string();
        json!({
            "type": "block_actions", "user": {"id": user},
            "actions": [{"action_id": if yes { "switchback_approve" } else { "switchback_reject" }, "value": value}],
            "response_url": "https://hooks.slack.com/actions/T1/2/3", "state": {"values": {}},
        })
    }

    fn token(&self, person: &str) -> String {
        let person = Name::new(person).expect("a name");
        let expires = Timestamp::from_second(NOW + 4 * 3600).expect("a time");
        approval_links::mint(&LinkKey::new(KEY).expect("a key"), &self.target, 1, &self.plan(), &person, TOPIC, expires)
    }
}

fn signed(payload: Value, at: i64) -> Value {
    let body = form_urlencoded::Serializer::new(String::new()).append_pair("payload", &payload.to_string()).finish();
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("any length");
    mac.update(format!("v0:{at}:{body}").as_bytes());
    let signature = format!("v0={}", hex::encode(mac.finalize().into_bytes()));
    let mut event: Value = serde_json::from_str(payload!("slack-approve")).expect("JSON");
    event["body"] = json!(body);
    event["headers"]["x-slack-request-timestamp"] = json!(at.to_string());
    event["headers"]["x-slack-signature"] = json!(signature);
    event
}

fn link(method: &str, token: &str, form: &str) -> Value {
    let mut event: Value = serde_json::from_str(payload!("link-show")).expect("JSON");
    event["rawPath"] = json!(format!("/approvals/{token}"));
    event["requestContext"]["http"]["method"] = json!(method);
    event["body"] = json!(form);
    event
}

fn reply(answered: &HttpReply) -> &str {
    answered.reply.as_ref().and_then(|(_, message)| message["text"].as_str()).expect("a reply message")
}

// --- unauthenticated callers ---

#[tokio::test]
async fn unauthenticated_requests_get_the_same_403_and_write_nothing() {
    let fixture = Fixture::waiting("alice").await;
    let before = fixture.state();
    let mut responses = Vec::new();
    for case in [
        payload!("slack-forged"),
        payload!("slack-changed-body"),
        payload!("slack-stale"),
        payload!("slack-unsigned"),
        payload!("link-tampered"),
        payload!("link-other-key"),
    ] {
        responses.push(fixture.send_payload(case).await);
    }
    let good = fixture.token("ada");
    for event in [
        link("GET", "", ""),
        link("GET", "x.y", ""),
        link("POST", &good[1..], "decision=approve"),
        link("POST", &format!("{good}/"), "decision=approve"),
        link("POST", &"a".repeat(5000), "decision=approve"),
        link("DELETE", &good, ""),
        link("PUT", &good, "decision=approve"),
    ] {
        responses.push(fixture.send_event(&event).await);
    }
    let mut elsewhere = signed(json!({}), NOW);
    elsewhere["rawPath"] = json!("/");
    responses.push(fixture.send_event(&elsewhere).await);
    let mut looked_at = signed(json!({}), NOW);
    looked_at["requestContext"]["http"]["method"] = json!("GET");
    responses.push(fixture.send_event(&looked_at).await);
    // Without Slack configured, no signature is valid.
    fixture.keys.set(KeyKind::Slack, Err(KeyError::NotConfigured), Err(KeyError::NotConfigured));
    responses.push(fixture.press("U012AB3CD", true, 1, &fixture.plan()).await);

    for (index, response) in responses.iter().enumerate() {
        assert_eq!(response, &responses[0], "stranger {index}");
    }
    assert_eq!((responses[0].status, responses[0].reply.as_ref()), (403, None));
    assert!(!responses[0].body.contains("shop"), "{}", responses[0].body);
    assert_eq!(fixture.commands_and_wakes(), (0, 0));
    fixture.pass().await;
    assert_eq!(fixture.refusals(), Vec::<String>::new());
    assert_eq!(fixture.state().running, before.running);
}

#[tokio::test]
async fn a_replayed_press_is_rejected_after_five_minutes() {
    let fixture = Fixture::waiting("alice").await;
    let event = signed(fixture.press_payload("U012AB3CD", true, 1, &fixture.plan()), NOW);
    fixture.clock.0.store(NOW + 301, Ordering::Relaxed);
    assert_eq!(fixture.send_event(&event).await.status, 403);
    fixture.clock.0.store(NOW + 300, Ordering::Relaxed);
    assert_eq!(fixture.send_event(&event).await.status, 200);
}

#[tokio::test]
async fn every_request_gets_503_while_keys_are_unavailable() {
    let fixture = Fixture::waiting("alice").await;
    let down = || Err(KeyError::Unavailable("no route".to_owned()));
    fixture.keys.set(KeyKind::Slack, down(), down());
    fixture.keys.set(KeyKind::Links, down(), down());
    let (good, bad) = (link("GET", &fixture.token("ada"), ""), link("GET", "x.y", ""));
    let answered = fixture.send_event(&good).await;
    assert_eq!((answered.status, &answered), (503, &fixture.send_event(&bad).await));
    assert_eq!(fixture.press("U012AB3CD", true, 1, &fixture.plan()).await.status, 503);
    assert!(!answered.body.contains("no route"), "{}", answered.body);
    // A key that is too short is not accepted.
    fixture.keys.set(KeyKind::Links, Ok(Some("short")), Ok(None));
    assert_eq!(fixture.send_event(&good).await.status, 503);
}

#[tokio::test]
async fn rotated_secrets_are_reloaded_on_the_first_mismatch() {
    let fixture = Fixture::waiting("alice").await;
    let old = "another key with 32 characters..";
    fixture.keys.set(KeyKind::Slack, Ok(Some(old)), Ok(Some(SECRET)));
    fixture.keys.set(KeyKind::Links, Ok(Some(old)), Ok(Some(KEY)));
    assert_eq!(fixture.press("U012AB3CD", true, 1, &fixture.plan()).await.status, 200);
    assert_eq!(fixture.send_event(&link("GET", &fixture.token("ada"), "")).await.status, 200);
    assert_eq!(fixture.send_payload(payload!("link-tampered")).await.status, 403);
}

// --- Slack ---

#[tokio::test]
async fn signed_slack_requests_are_accepted_plain_or_base64() {
    let fixture = Fixture::waiting("alice").await;
    for case in [payload!("slack-approve"), payload!("slack-approve-encoded"), payload!("slack-reject")] {
        let answered = fixture.send_payload(case).await;
        assert_eq!((answered.status, answered.body.as_str()), (200, ""));
        assert_eq!(reply(&answered), "Not taken: shop/api/prod: there is no deployment #12.");
        let url = answered.reply.map(|(url, _)| url);
        let slacks = "https://hooks.slack.com/actions/T1DC2JH3J/397700885554/96rGlfmibIGlgcZRskXaIFfN";
        assert_eq!(url.as_deref(), Some(slacks));
    }
    let other = fixture.send_payload(payload!("slack-other")).await;
    assert_eq!((other.status, other.reply), (200, None));
    let unreadable = fixture.send_event(&signed(json!({"type": 7}), NOW)).await;
    assert_eq!((unreadable.status, unreadable.body.as_str(), unreadable.reply), (400, "", None));
}

#[tokio::test]
async fn pressing_a_button_twice_counts_once() {
    let fixture = Fixture::waiting("alice").await;
    let plan = fixture.plan();
    let first = fixture.press("U012AB3CD", true, 1, &plan).await;
    assert_eq!(first.status, 200);
    assert_eq!(reply(&first), "You approved shop/api/prod #1 (v1): 1 of 2 approvals.");
    assert_eq!(fixture.press("U012AB3CD", true, 1, &plan).await, first, "Slack's own retry");
    assert_eq!(fixture.commands_and_wakes().0, 1);
    fixture.pass().await;
    assert_eq!(fixture.votes(), ["ada"]);
    let again = fixture.press("U012AB3CD", true, 1, &plan).await;
    assert_eq!(reply(&again), "shop/api/prod: ada has approved already: it counts once");
    assert_eq!(fixture.commands_and_wakes().0, 0);
    fixture.pass().await;
    assert_eq!((fixture.votes().len(), fixture.refusals()), (1, vec![]));
}

#[tokio::test]
async fn a_rejection_ends_the_deployment_and_later_presses_get_the_verdict() {
    let fixture = Fixture::waiting("alice").await;
    let plan = fixture.plan();
    let no = fixture.press("U045EF6GH", false, 1, &plan).await;
    assert_eq!(reply(&no), "You rejected shop/api/prod #1 (v1).");
    fixture.pass().await;
    assert!(fixture.state().running.is_none());
    let late = fixture.press("U012AB3CD", true, 1, &plan).await;
    assert_eq!(reply(&late), "Not taken: shop/api/prod: deployment #1 (v1) is over (rejected: by bob).");
}

#[tokio::test]
async fn a_press_by_a_non_approver_is_journalled_once_an_hour() {
    let fixture = Fixture::waiting("slack:U012AB3CD").await;
    let plan = fixture.plan();
    for _ in 0..3 {
        let response = fixture.press("U0MALLORY", true, 1, &plan).await;
        assert_eq!(response.status, 200);
        assert!(
            reply(&response).starts_with("Not taken: shop/api/prod: slack:U0MALLORY is none of those"),
            "{}",
            reply(&response)
        );
    }
    let requester = fixture.press("U012AB3CD", true, 1, &plan).await;
    assert!(reply(&requester).contains("requesters do not approve"), "{}", reply(&requester));
    fixture.pass().await;
    let refusals = fixture.refusals();
    assert_eq!(refusals.len(), 2, "{refusals:?}");
    for actor in ["slack:U0MALLORY", "slack:U012AB3CD"] {
        assert!(refusals.iter().any(|line| line.starts_with(&format!("{actor} approve: "))), "{refusals:?}");
    }
    assert_eq!(fixture.votes(), Vec::<String>::new());
    fixture.clock.0.fetch_add(3600, Ordering::Relaxed);
    fixture.press("U0MALLORY", true, 1, &plan).await;
    fixture.pass().await;
    assert_eq!(fixture.refusals().len(), 3);
}

// --- links ---

#[tokio::test]
async fn opening_a_link_never_decides() {
    let fixture = Fixture::waiting("alice").await;
    let token = fixture.token("ada");
    for method in ["GET", "GET", "HEAD", "GET"] {
        let shown = fixture.send_event(&link(method, &token, "decision=approve")).await;
        assert_eq!(shown.status, 200);
        assert_eq!(shown.body.contains("Deploy v1 to shop/api/prod?"), method == "GET", "{}", shown.body);
        assert!(!shown.body.contains(&token), "the page names its own link");
    }
    assert_eq!(fixture.commands_and_wakes(), (0, 0));
    fixture.pass().await;
    assert_eq!(fixture.votes(), Vec::<String>::new());
    // A scanner with a link to another deployment learns no more than its holder.
    let over = fixture.send_payload(payload!("link-scanned")).await;
    assert_eq!(over.status, 409);
    assert!(over.body.contains("shop/api/prod: there is no deployment #12."), "{}", over.body);
    assert_eq!(fixture.commands_and_wakes().0, 0);
}

#[tokio::test]
async fn a_link_accepts_one_decision_only() {
    let fixture = Fixture::waiting("alice").await;
    let token = fixture.token("ada");
    let yes = fixture.send_event(&link("POST", &token, "reason=looks+good&decision=approve")).await;
    assert_eq!(yes.status, 200);
    assert!(yes.body.contains("You approved shop/api/prod #1 (v1): 1 of 2 approvals."), "{}", yes.body);
    for form in ["decision=approve", "decision=reject&reason=changed+my+mind"] {
        let again = fixture.send_event(&link("POST", &token, form)).await;
        assert_eq!(again.status, 409, "{form}");
        assert!(again.body.contains("This link has been used already"), "{}", again.body);
    }
    fixture.pass().await;
    assert_eq!(fixture.votes(), ["ada"]);
    let after = fixture.send_event(&link("POST", &token, "decision=reject")).await;
    assert!(after.status == 409 && after.body.contains("This link has been used already"), "{}", after.body);
    fixture.pass().await;
    assert_eq!(fixture.votes(), ["ada"]);
    let refusals = fixture.refusals();
    assert!(refusals.len() == 2 && refusals.iter().all(|line| line.starts_with("mail:ada ")), "{refusals:?}");
    // The same person through another channel counts once.
    let slack = fixture.press("U012AB3CD", true, 1, &fixture.plan()).await;
    assert_eq!(reply(&slack), "shop/api/prod: ada has approved already: it counts once");
}

#[tokio::test]
async fn a_form_without_a_decision_does_not_use_up_the_link() {
    let fixture = Fixture::waiting("alice").await;
    let token = fixture.token("ada");
    for form in ["", "decision=", "decision=maybe", "reason=approve", "{\"decision\":\"approve\"}"] {
        assert_eq!(fixture.send_event(&link("POST", &token, form)).await.status, 400, "{form}");
    }
    assert_eq!(fixture.commands_and_wakes(), (0, 0));
    assert_eq!(fixture.send_event(&link("POST", &token, "decision=reject")).await.status, 200);
}

#[tokio::test]
async fn an_expired_link_says_so_and_its_use_is_journalled() {
    let fixture = Fixture::waiting("alice").await;
    let mut look: Value = serde_json::from_str(payload!("link-expired")).expect("JSON");
    look["requestContext"]["http"]["method"] = json!("GET");
    let looked = fixture.send_event(&look).await;
    assert!(looked.status == 410 && looked.body.contains("Too late"), "{}", looked.body);
    assert_eq!(fixture.commands_and_wakes().0, 0);
    let answered = fixture.send_payload(payload!("link-expired")).await;
    assert_eq!(answered, looked);
    fixture.pass().await;
    let refusals = fixture.refusals();
    assert_eq!(refusals, ["mail:ada approve: the link to deployment #12 was good until 2026-11-22T03:14:59Z"]);
    assert_eq!(fixture.votes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_link_for_a_non_approver_is_refused() {
    let fixture = Fixture::waiting("alice").await;
    let dora = fixture.send_event(&link("POST", &fixture.token("dora"), "decision=approve")).await;
    assert_eq!(dora.status, 403);
    assert!(dora.body.contains("mail:dora is none of those who may approve here"), "{}", dora.body);
    assert_eq!(fixture.send_event(&link("GET", &fixture.token("dora"), "")).await.status, 403);
}

#[tokio::test]
async fn a_link_sent_to_a_former_topic_is_refused() {
    let fixture = Fixture::waiting("alice").await;
    let (ada, expires) = (Name::new("ada").expect("a name"), Timestamp::from_second(NOW + 4 * 3600).expect("a time"));
    let key = LinkKey::new(KEY).expect("a key");
    let former =
        approval_links::mint(&key, &fixture.target, 1, &fixture.plan(), &ada, &format!("{TOPIC}-former"), expires);
    for (method, form) in [("GET", ""), ("POST", "decision=approve"), ("POST", "decision=reject")] {
        let answered = fixture.send_event(&link(method, &former, form)).await;
        assert_eq!(answered.status, 403, "{method} {form}");
        assert!(answered.body.contains("This link was sent to where ada has mail no more"), "{}", answered.body);
    }
    fixture.pass().await;
    assert_eq!(fixture.votes(), Vec::<String>::new());
    let refusals = fixture.refusals();
    assert!(refusals.len() == 2 && refusals.iter().all(|line| line.starts_with("mail:ada ")), "{refusals:?}");
    // A refused attempt by the former link does not affect the newest one.
    assert_eq!(fixture.send_event(&link("POST", &fixture.token("ada"), "decision=approve")).await.status, 200);
}

#[tokio::test]
async fn link_fixtures_match_the_minted_token() {
    let fixture = Fixture::new();
    let plan = PlanId("3fa90c1e5d7b2a64".to_owned());
    let expires = Timestamp::from_second(1_795_330_800).expect("a time");
    let ada = Name::new("ada").expect("a name");
    let token =
        approval_links::mint(&LinkKey::new(KEY).expect("a key"), &fixture.target, 12, &plan, &ada, TOPIC, expires);
    let payload: Value = serde_json::from_str(payload!("link-show")).expect("JSON");
    assert_eq!(payload["rawPath"], format!("/approvals/{token}"));
    // The event is read, its form decoded, and answered: no such deployment waits here.
    let answered = fixture.send_payload(payload!("link-decide")).await;
    assert!(answered.body.contains("shop/api/prod: there is no deployment #12."), "{}", answered.body);
}

// --- whatever comes ---

garbage::held! {
    64;

    #[test]
    fn arbitrary_unauthenticated_requests_get_403(
        method in "GET|HEAD|POST|PUT|[A-Z]{1,9}",
        path in "/approvals/.{0,80}|/slack/interactions|/.{0,40}",
        timestamp in "179531[67][0-9]{3}|.{0,12}",
        signature in "v0=[0-9a-f]{64}|.{0,70}",
        body in ".{0,200}",
        encoded in any::<bool>(),
    ) {
        let mut event = link(&method, "", &body);
        event["rawPath"] = json!(path);
        event["isBase64Encoded"] = json!(encoded);
        event["headers"] = json!({});
        let value = |text: &str| text.chars().filter(|it| it.is_ascii_graphic()).collect::<String>();
        event["headers"]["x-slack-request-timestamp"] = json!(value(&timestamp));
        event["headers"]["x-slack-signature"] = json!(value(&signature));
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let fixture = Fixture::new();
        let answered = runtime.block_on(fixture.send_event(&event));
        prop_assert_eq!(answered.status, 403);
        prop_assert_eq!(fixture.commands_and_wakes(), (0, 0));
    }
}

#[test]
fn mutated_events_neither_panic_nor_decide() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let event = prop_oneof![5 => garbage::damaged(garbage::events("approvals")), 1 => garbage::json()];
    garbage::hold(200, &event, |event| {
        let request = match request::read(event) {
            Ok(request) => request,
            Err(failure) => {
                prop_assert_eq!(failure.kind(), "InvalidEvent");
                prop_assert!(failure.to_string().chars().count() <= lambda::MAX_MESSAGE_CHARS + 1);
                return Ok(());
            }
        };
        let fixture = Fixture::new();
        let command_service =
            CommandService { ledger: &fixture.ledger, wake_queue: &fixture.wakes, clock: &fixture.clock };
        let answered = runtime.block_on(ApprovalHandler { command_service, keys: &fixture.keys }.answer(&request));
        prop_assert!(answered.status < 500, "{answered:?}");
        prop_assert!(answered.body.len() < 64 * 1024, "{} bytes", answered.body.len());
        // No deployment waits here: the reply to an authenticated caller says so, and only the attempt is recorded.
        let asked = fixture.ledger.store().commands(&fixture.target);
        prop_assert!(asked.len() <= 1, "{asked:?}");
        prop_assert!(asked.iter().all(|it| matches!(it.instruction, Instruction::NoteRefusal { .. })), "{asked:?}");
        Ok(())
    });
}

#[test]
fn signed_but_malformed_payloads_decide_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let fixture = runtime.block_on(Fixture::waiting("alice"));
    let payloads = garbage::damaged(vec![
        fixture.press_payload("U099ZZ9ZZ", true, 1, &fixture.plan()),
        fixture.press_payload("U099ZZ9ZZ", false, 1, &fixture.plan()),
    ]);
    garbage::hold(200, &payloads, |payload| {
        let answered = runtime.block_on(fixture.send_event(&signed(payload, NOW)));
        prop_assert!(matches!(answered.status, 200 | 400 | 403), "{answered:?}");
        if let Some((_, message)) = &answered.reply {
            prop_assert!(message.to_string().len() < 16 * 1024, "{} bytes", message.to_string().len());
        }
        Ok(())
    });
    runtime.block_on(fixture.pass());
    assert_eq!(fixture.votes(), Vec::<String>::new(), "a stranger in the workspace has no vote, however it is said");
}
