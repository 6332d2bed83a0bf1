use super::*;
use crate::request;
use engine::desk::Desk;
use engine::{Cloud, LeaseId, Wake, drive};
use hmac::{Hmac, KeyInit as _, Mac as _};
use proptest::prelude::*;
use rollout::entry::{ApprovalDefault, ApprovalPolicy, Person};
use rollout::journal::Fact;
use rollout::{
    Actor, Command, EcsPair, Effect, Instruction, Look, Name, Outcome, Overrides, PlanId, Policy, Seconds, Snapshot,
    TargetId, TargetState, Terms, Timestamp,
};
use serde_json::json;
use sha2::Sha256;
use simulation::ledger::MemoryLedger;
use simulation::world::Settings;
use simulation::world::scene::{Scene, release_of};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex};

/// The secret and the time of the payloads in `events/`.
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

    fn lease_id(&self) -> LeaseId {
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

/// What waits at its gates looks at nothing.
struct NothingRuns;

impl Cloud for NothingRuns {
    async fn observe(&self, _: &Look) -> Snapshot {
        panic!("it has begun")
    }

    async fn perform(&self, _: &EcsPair, _: &Effect) -> Outcome {
        panic!("it has begun")
    }
}

/// What Secrets Manager would say: what is remembered, and what is there now.
struct Held(Mutex<[Result<Option<&'static str>, NoKey>; 4]>);

impl Held {
    fn set(
        &self,
        which: Which,
        remembered: Result<Option<&'static str>, NoKey>,
        fresh: Result<Option<&'static str>, NoKey>,
    ) {
        let mut held = self.0.lock().expect("nobody panicked");
        let at = if which == Which::Slack { 0 } else { 2 };
        (held[at], held[at + 1]) = (remembered, fresh);
    }
}

impl Keys for Held {
    async fn key(&self, which: Which, fresh: bool) -> Result<Option<Secret>, NoKey> {
        let at = if which == Which::Slack { 0 } else { 2 } + usize::from(fresh);
        self.0.lock().expect("nobody panicked")[at].clone().map(|key| key.map(Secret::new))
    }
}

/// `shop/api/prod`, where ada, bob and carol may approve and two of them must.
struct Stand {
    ledger: MemoryLedger,
    wakes: WakeLog,
    clock: Clock,
    keys: Held,
    target: TargetId,
}

impl Stand {
    fn new() -> Self {
        static POLICY: LazyLock<Policy> =
            LazyLock::new(|| Scene::new("shop", "api", "prod").build(Settings::default()).application());
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
        let keys = Held(Mutex::new([Ok(Some(SECRET)), Ok(None), Ok(Some(KEY)), Ok(None)]));
        let target = TargetId::parse("shop/api/prod").expect("a target");
        Self { ledger, wakes: WakeLog::default(), clock, keys, target }
    }

    /// With deployment #1, which `by` has asked for, at its gates.
    async fn waiting(by: &str) -> Self {
        let stand = Self::new();
        let now = engine::Clock::now(&stand.clock);
        let release = release_of(&stand.target, "registry/shop/api", 1, now);
        let deploy = Instruction::Deploy {
            release: release.id.clone(),
            image: release.image,
            tag: release.tag,
            overrides: Overrides::default(),
            terms: Terms::default(),
        };
        let actor = Actor::Person { name: by.to_owned() };
        stand.ledger.store().put_command(&Command::asked(stand.target.clone(), deploy, actor, "", "1", now));
        stand.pass().await;
        assert_eq!(stand.state().running.expect("it waits").stage.name(), "gated");
        stand.wakes.0.store(0, Ordering::Relaxed);
        stand
    }

    async fn pass(&self) {
        let until = Seconds(60).after(engine::Clock::now(&self.clock));
        let wake = Wake::of(self.target.clone());
        drive(&wake, &self.ledger, &NothingRuns, &self.wakes, &self.clock, until).await.expect("memory answers");
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

    /// What was written and sent for: commands that wait, wakes.
    fn left(&self) -> (usize, usize) {
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

    async fn ask(&self, event: &Value) -> Answered {
        let request = request::read(event.clone()).expect("an event of an HTTP API");
        let desk = Desk { ledger: &self.ledger, wake_queue: &self.wakes, clock: &self.clock };
        Door { desk, keys: &self.keys }.answer(&request).await
    }

    async fn ask_case(&self, payload: &str) -> Answered {
        self.ask(&serde_json::from_str(payload).expect("JSON")).await
    }

    /// Slack's event of a press, signed now.
    async fn press(&self, user: &str, yes: bool, deployment: u64, plan: &PlanId) -> Answered {
        self.ask(&signed(self.press_payload(user, yes, deployment, plan), self.clock.0.load(Ordering::Relaxed))).await
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
        links::mint(&LinkKey::new(KEY).expect("a key"), &self.target, 1, &self.plan(), &person, TOPIC, expires)
    }
}

fn signed(payload: Value, at: i64) -> Value {
    let body = form_urlencoded::Serializer::new(String::new()).append_pair("payload", &payload.to_string()).finish();
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("any length");
    mac.update(format!("v0:{at}:{body}").as_bytes());
    let signature = mac.finalize().into_bytes().iter().fold("v0=".to_owned(), |hex, byte| format!("{hex}{byte:02x}"));
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

fn reply(answered: &Answered) -> &str {
    answered.reply.as_ref().and_then(|(_, message)| message["text"].as_str()).expect("somebody is told")
}

// --- strangers ---

#[tokio::test]
async fn all_strangers_hear_the_same_and_leave_nothing_behind() {
    let stand = Stand::waiting("alice").await;
    let before = stand.state();
    let mut strangers = Vec::new();
    for case in [
        payload!("slack-forged"),
        payload!("slack-changed-body"),
        payload!("slack-stale"),
        payload!("slack-unsigned"),
        payload!("link-tampered"),
        payload!("link-other-key"),
    ] {
        strangers.push(stand.ask_case(case).await);
    }
    let good = stand.token("ada");
    for event in [
        link("GET", "", ""),
        link("GET", "x.y", ""),
        link("POST", &good[1..], "decision=approve"),
        link("POST", &format!("{good}/"), "decision=approve"),
        link("POST", &"a".repeat(5000), "decision=approve"),
        link("DELETE", &good, ""),
        link("PUT", &good, "decision=approve"),
    ] {
        strangers.push(stand.ask(&event).await);
    }
    let mut elsewhere = signed(json!({}), NOW);
    elsewhere["rawPath"] = json!("/");
    strangers.push(stand.ask(&elsewhere).await);
    let mut looked_at = signed(json!({}), NOW);
    looked_at["requestContext"]["http"]["method"] = json!("GET");
    strangers.push(stand.ask(&looked_at).await);
    // Without Slack nobody is Slack, however well they sign.
    stand.keys.set(Which::Slack, Err(NoKey::NotSet), Err(NoKey::NotSet));
    strangers.push(stand.press("U012AB3CD", true, 1, &stand.plan()).await);

    for (index, stranger) in strangers.iter().enumerate() {
        assert_eq!(stranger, &strangers[0], "stranger {index}");
    }
    assert_eq!((strangers[0].status, strangers[0].reply.as_ref()), (403, None));
    assert!(!strangers[0].body.contains("shop"), "{}", strangers[0].body);
    assert_eq!(stand.left(), (0, 0));
    stand.pass().await;
    assert_eq!(stand.refusals(), Vec::<String>::new());
    assert_eq!(stand.state().running, before.running);
}

#[tokio::test]
async fn a_press_is_good_for_five_minutes_and_a_replay_after_that_is_a_strangers() {
    let stand = Stand::waiting("alice").await;
    let event = signed(stand.press_payload("U012AB3CD", true, 1, &stand.plan()), NOW);
    stand.clock.0.store(NOW + 301, Ordering::Relaxed);
    assert_eq!(stand.ask(&event).await.status, 403);
    stand.clock.0.store(NOW + 300, Ordering::Relaxed);
    assert_eq!(stand.ask(&event).await.status, 200);
}

#[tokio::test]
async fn while_no_key_can_be_had_nobody_is_let_in_and_everybody_hears_so() {
    let stand = Stand::waiting("alice").await;
    let down = || Err(NoKey::NotHad("no route".to_owned()));
    stand.keys.set(Which::Slack, down(), down());
    stand.keys.set(Which::Links, down(), down());
    let (good, bad) = (link("GET", &stand.token("ada"), ""), link("GET", "x.y", ""));
    let answered = stand.ask(&good).await;
    assert_eq!((answered.status, &answered), (503, &stand.ask(&bad).await));
    assert_eq!(stand.press("U012AB3CD", true, 1, &stand.plan()).await.status, 503);
    assert!(!answered.body.contains("no route"), "{}", answered.body);
    // A key that anybody could guess is none.
    stand.keys.set(Which::Links, Ok(Some("short")), Ok(None));
    assert_eq!(stand.ask(&good).await.status, 503);
}

#[tokio::test]
async fn renewed_secrets_are_taken_up_with_the_first_proof_that_does_not_fit() {
    let stand = Stand::waiting("alice").await;
    let old = "another key with 32 characters..";
    stand.keys.set(Which::Slack, Ok(Some(old)), Ok(Some(SECRET)));
    stand.keys.set(Which::Links, Ok(Some(old)), Ok(Some(KEY)));
    assert_eq!(stand.press("U012AB3CD", true, 1, &stand.plan()).await.status, 200);
    assert_eq!(stand.ask(&link("GET", &stand.token("ada"), "")).await.status, 200);
    assert_eq!(stand.ask_case(payload!("link-tampered")).await.status, 403);
}

// --- Slack ---

#[tokio::test]
async fn what_slack_sends_is_let_in_however_the_gateway_hands_it_on() {
    let stand = Stand::waiting("alice").await;
    for case in [payload!("slack-approve"), payload!("slack-approve-encoded"), payload!("slack-reject")] {
        let answered = stand.ask_case(case).await;
        assert_eq!((answered.status, answered.body.as_str()), (200, ""));
        assert_eq!(reply(&answered), "Not taken: there is no deployment #12 of shop/api/prod.");
        let url = answered.reply.map(|(url, _)| url);
        let slacks = "https://hooks.slack.com/actions/T1DC2JH3J/397700885554/96rGlfmibIGlgcZRskXaIFfN";
        assert_eq!(url.as_deref(), Some(slacks));
    }
    let other = stand.ask_case(payload!("slack-other")).await;
    assert_eq!((other.status, other.reply), (200, None));
    let unreadable = stand.ask(&signed(json!({"type": 7}), NOW)).await;
    assert_eq!((unreadable.status, unreadable.body.as_str(), unreadable.reply), (400, "", None));
}

#[tokio::test]
async fn a_button_is_a_vote_and_pressing_it_again_is_the_same_vote() {
    let stand = Stand::waiting("alice").await;
    let plan = stand.plan();
    let first = stand.press("U012AB3CD", true, 1, &plan).await;
    assert_eq!(first.status, 200);
    assert_eq!(reply(&first), "You approved shop/api/prod #1 (v1): 1 of 2 approvals.");
    assert_eq!(stand.press("U012AB3CD", true, 1, &plan).await, first, "Slack's own retry");
    assert_eq!(stand.left().0, 1);
    stand.pass().await;
    assert_eq!(stand.votes(), ["ada"]);
    let again = stand.press("U012AB3CD", true, 1, &plan).await;
    assert_eq!(reply(&again), "ada has approved deployment #1 of shop/api/prod already: it counts once");
    assert_eq!(stand.left().0, 0);
    stand.pass().await;
    assert_eq!((stand.votes().len(), stand.refusals()), (1, vec![]));
}

#[tokio::test]
async fn a_no_ends_it_and_whoever_comes_later_hears_how_it_ended() {
    let stand = Stand::waiting("alice").await;
    let plan = stand.plan();
    let no = stand.press("U045EF6GH", false, 1, &plan).await;
    assert_eq!(reply(&no), "You rejected shop/api/prod #1 (v1).");
    stand.pass().await;
    assert!(stand.state().running.is_none());
    let late = stand.press("U012AB3CD", true, 1, &plan).await;
    assert_eq!(reply(&late), "Not taken: deployment #1 of shop/api/prod is over (rejected: by bob).");
}

#[tokio::test]
async fn who_may_not_approve_is_told_so_and_the_journal_has_it_once_an_hour() {
    let stand = Stand::waiting("slack:U012AB3CD").await;
    let plan = stand.plan();
    for _ in 0..3 {
        let stranger = stand.press("U0MALLORY", true, 1, &plan).await;
        assert_eq!(stranger.status, 200);
        assert!(reply(&stranger).starts_with("Not taken: slack:U0MALLORY is none of those"), "{}", reply(&stranger));
    }
    let requester = stand.press("U012AB3CD", true, 1, &plan).await;
    assert!(reply(&requester).contains("whoever asks does not approve"), "{}", reply(&requester));
    stand.pass().await;
    let refusals = stand.refusals();
    assert_eq!(refusals.len(), 2, "{refusals:?}");
    for actor in ["slack:U0MALLORY", "slack:U012AB3CD"] {
        assert!(refusals.iter().any(|line| line.starts_with(&format!("{actor} approve: "))), "{refusals:?}");
    }
    assert_eq!(stand.votes(), Vec::<String>::new());
    stand.clock.0.fetch_add(3600, Ordering::Relaxed);
    stand.press("U0MALLORY", true, 1, &plan).await;
    stand.pass().await;
    assert_eq!(stand.refusals().len(), 3);
}

// --- links ---

#[tokio::test]
async fn looking_at_a_link_decides_nothing_however_often_and_by_whom() {
    let stand = Stand::waiting("alice").await;
    let token = stand.token("ada");
    for method in ["GET", "GET", "HEAD", "GET"] {
        let shown = stand.ask(&link(method, &token, "decision=approve")).await;
        assert_eq!(shown.status, 200);
        assert_eq!(shown.body.contains("Deploy v1 to shop/api/prod?"), method == "GET", "{}", shown.body);
        assert!(!shown.body.contains(&token), "the page names its own link");
    }
    assert_eq!(stand.left(), (0, 0));
    stand.pass().await;
    assert_eq!(stand.votes(), Vec::<String>::new());
    // A scanner that knows a link of another deployment learns no more than its holder.
    let over = stand.ask_case(payload!("link-scanned")).await;
    assert_eq!(over.status, 409);
    assert!(over.body.contains("There is no deployment #12 of shop/api/prod."), "{}", over.body);
    assert_eq!(stand.left().0, 0);
}

#[tokio::test]
async fn a_link_is_good_for_one_answer() {
    let stand = Stand::waiting("alice").await;
    let token = stand.token("ada");
    let yes = stand.ask(&link("POST", &token, "reason=looks+good&decision=approve")).await;
    assert_eq!(yes.status, 200);
    assert!(yes.body.contains("You approved shop/api/prod #1 (v1): 1 of 2 approvals."), "{}", yes.body);
    for form in ["decision=approve", "decision=reject&reason=changed+my+mind"] {
        let again = stand.ask(&link("POST", &token, form)).await;
        assert_eq!(again.status, 409, "{form}");
        assert!(again.body.contains("This link has been used already"), "{}", again.body);
    }
    stand.pass().await;
    assert_eq!(stand.votes(), ["ada"]);
    let after = stand.ask(&link("POST", &token, "decision=reject")).await;
    assert!(after.status == 409 && after.body.contains("This link has been used already"), "{}", after.body);
    stand.pass().await;
    assert_eq!(stand.votes(), ["ada"]);
    let refusals = stand.refusals();
    assert!(refusals.len() == 2 && refusals.iter().all(|line| line.starts_with("mail:ada ")), "{refusals:?}");
    // The same person by another door is the same person.
    let slack = stand.press("U012AB3CD", true, 1, &stand.plan()).await;
    assert_eq!(reply(&slack), "ada has approved deployment #1 of shop/api/prod already: it counts once");
}

#[tokio::test]
async fn a_form_without_an_answer_decides_nothing_and_uses_nothing_up() {
    let stand = Stand::waiting("alice").await;
    let token = stand.token("ada");
    for form in ["", "decision=", "decision=maybe", "reason=approve", "{\"decision\":\"approve\"}"] {
        assert_eq!(stand.ask(&link("POST", &token, form)).await.status, 400, "{form}");
    }
    assert_eq!(stand.left(), (0, 0));
    assert_eq!(stand.ask(&link("POST", &token, "decision=reject")).await.status, 200);
}

#[tokio::test]
async fn an_expired_link_says_so_to_its_holder_and_an_answer_with_it_is_journalled() {
    let stand = Stand::waiting("alice").await;
    let mut look: Value = serde_json::from_str(payload!("link-expired")).expect("JSON");
    look["requestContext"]["http"]["method"] = json!("GET");
    let looked = stand.ask(&look).await;
    assert!(looked.status == 410 && looked.body.contains("Too late"), "{}", looked.body);
    assert_eq!(stand.left().0, 0);
    let answered = stand.ask_case(payload!("link-expired")).await;
    assert_eq!(answered, looked);
    stand.pass().await;
    let refusals = stand.refusals();
    assert_eq!(refusals, ["mail:ada approve: the link to deployment #12 was good until 2026-11-22T03:14:59Z"]);
    assert_eq!(stand.votes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_link_is_its_persons_and_no_longer_than_they_may_approve() {
    let stand = Stand::waiting("alice").await;
    let dora = stand.ask(&link("POST", &stand.token("dora"), "decision=approve")).await;
    assert_eq!(dora.status, 403);
    assert!(dora.body.contains("mail:dora is none of those who may approve here"), "{}", dora.body);
    assert_eq!(stand.ask(&link("GET", &stand.token("dora"), "")).await.status, 403);
}

#[tokio::test]
async fn a_link_that_was_sent_to_a_former_mailbox_is_good_for_nothing() {
    let stand = Stand::waiting("alice").await;
    let (ada, expires) = (Name::new("ada").expect("a name"), Timestamp::from_second(NOW + 4 * 3600).expect("a time"));
    let key = LinkKey::new(KEY).expect("a key");
    let former = links::mint(&key, &stand.target, 1, &stand.plan(), &ada, &format!("{TOPIC}-former"), expires);
    for (method, form) in [("GET", ""), ("POST", "decision=approve"), ("POST", "decision=reject")] {
        let answered = stand.ask(&link(method, &former, form)).await;
        assert_eq!(answered.status, 403, "{method} {form}");
        assert!(answered.body.contains("This link was sent to where ada has mail no more"), "{}", answered.body);
    }
    stand.pass().await;
    assert_eq!(stand.votes(), Vec::<String>::new());
    let refusals = stand.refusals();
    assert!(refusals.len() == 2 && refusals.iter().all(|line| line.starts_with("mail:ada ")), "{refusals:?}");
    // What the former one has tried is not held against the newest.
    assert_eq!(stand.ask(&link("POST", &stand.token("ada"), "decision=approve")).await.status, 200);
}

#[tokio::test]
async fn the_payload_of_a_link_is_the_link_that_is_minted() {
    let stand = Stand::new();
    let plan = PlanId("3fa90c1e5d7b2a64".to_owned());
    let expires = Timestamp::from_second(1_795_330_800).expect("a time");
    let ada = Name::new("ada").expect("a name");
    let token = links::mint(&LinkKey::new(KEY).expect("a key"), &stand.target, 12, &plan, &ada, TOPIC, expires);
    let payload: Value = serde_json::from_str(payload!("link-show")).expect("JSON");
    assert_eq!(payload["rawPath"], format!("/approvals/{token}"));
    // Read, its form decoded, and answered: no such deployment waits here.
    let answered = stand.ask_case(payload!("link-decide")).await;
    assert!(answered.body.contains("There is no deployment #12 of shop/api/prod."), "{}", answered.body);
}

// --- whatever comes ---

garbage::held! {
    64;

    #[test]
    fn whatever_comes_without_a_proof_is_a_strangers(
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
        let stand = Stand::new();
        let answered = runtime.block_on(stand.ask(&event));
        prop_assert_eq!(answered.status, 403);
        prop_assert_eq!(stand.left(), (0, 0));
    }
}

#[test]
fn no_event_that_is_damaged_makes_the_door_panic_or_decide() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let event = prop_oneof![5 => garbage::damaged(garbage::events("approvals")), 1 => garbage::json()];
    garbage::hold(200, &event, |event| {
        let request = match request::read(event) {
            Ok(request) => request,
            Err(failure) => {
                prop_assert_eq!(failure.kind(), "InvalidEvent");
                prop_assert!(failure.to_string().chars().count() <= lambda::LONGEST_MESSAGE + 1);
                return Ok(());
            }
        };
        let stand = Stand::new();
        let desk = Desk { ledger: &stand.ledger, wake_queue: &stand.wakes, clock: &stand.clock };
        let answered = runtime.block_on(Door { desk, keys: &stand.keys }.answer(&request));
        prop_assert!(answered.status < 500, "{answered:?}");
        prop_assert!(answered.body.len() < 64 * 1024, "{} bytes", answered.body.len());
        // Nothing waits here: whoever has proven to be somebody is told so, and that they tried is all that is written.
        let asked = stand.ledger.store().commands(&stand.target);
        prop_assert!(asked.len() <= 1, "{asked:?}");
        prop_assert!(asked.iter().all(|it| matches!(it.instruction, Instruction::NoteRefusal { .. })), "{asked:?}");
        Ok(())
    });
}

#[test]
fn what_slack_has_signed_and_nobody_understands_decides_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let stand = runtime.block_on(Stand::waiting("alice"));
    let payloads = garbage::damaged(vec![
        stand.press_payload("U099ZZ9ZZ", true, 1, &stand.plan()),
        stand.press_payload("U099ZZ9ZZ", false, 1, &stand.plan()),
    ]);
    garbage::hold(200, &payloads, |payload| {
        let answered = runtime.block_on(stand.ask(&signed(payload, NOW)));
        prop_assert!(matches!(answered.status, 200 | 400 | 403), "{answered:?}");
        if let Some((_, message)) = &answered.reply {
            prop_assert!(message.to_string().len() < 16 * 1024, "{} bytes", message.to_string().len());
        }
        Ok(())
    });
    runtime.block_on(stand.pass());
    assert_eq!(stand.votes(), Vec::<String>::new(), "a stranger in the workspace has no vote, however it is said");
}
