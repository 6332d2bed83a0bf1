//! The ledger in memory, with claims; channels that accept what they are configured to accept; deaths at a given call.

use engine::{
    AppliedPolicy, ApprovalLinkRequest, BusEvent, Channels, ChatMessage, ClaimOutcome, Clock, Deliveries,
    DeliveryClaim, DeliveryId, EditOutcome, LeaseId, LedgerError, NotifyReport, Policies, PostedMessage,
    PostedMessageKey, PostedMessages, Releases, SendError, Targets, TopicMessage, notify,
};
use futures::FutureExt as _;
use rollout::deployment::DeploymentRecord;
use rollout::journal::JournalEntry;
use rollout::{Name, Policy, Release, ReleaseId, Seconds, TargetId, TargetState, Timestamp};
use serde_json::Value;
use simulation::ledger::MemoryLedger;
use std::collections::BTreeMap;
use std::future::pending;
use std::sync::{Mutex, MutexGuard};

/// What a delivery is noted as.
#[derive(Debug, Clone, PartialEq, Eq)]
enum DeliveryRecord {
    Claimed { by: LeaseId, until: Timestamp },
    Done,
}

/// When the process dies, seen from one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CrashPoint {
    Before,
    After,
}

/// A message in a chat, with everything that it ever said.
#[derive(Debug, Clone)]
pub(crate) struct RecordedMessage {
    pub(crate) channel: String,
    pub(crate) id: String,
    pub(crate) thread: Option<String>,
    pub(crate) versions: Vec<ChatMessage>,
}

impl RecordedMessage {
    /// All that a person reads of it now.
    pub(crate) fn latest_text(&self) -> String {
        let now = self.versions.last().expect("it says something");
        format!("{}\n{}", now.text, now.blocks)
    }

    /// The values of its buttons now, by `action_id`.
    pub(crate) fn buttons(&self) -> Vec<(String, String)> {
        let blocks = self.versions.last().and_then(|chat| chat.blocks.as_array().cloned()).unwrap_or_default();
        let elements = blocks.iter().flat_map(|block| block["elements"].as_array().cloned().unwrap_or_default());
        let buttons = elements.filter(|element| element["type"] == "button");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        buttons.map(|button| (text(&button["action_id"]), text(&button["value"]))).collect()
    }
}

#[derive(Debug, Default)]
pub(crate) struct World {
    delivery_records: BTreeMap<DeliveryId, DeliveryRecord>,
    /// Channel and entry of everything that was taken by the bus or a topic.
    pub(crate) delivered: Vec<(String, String)>,
    /// What topics took.
    pub(crate) topic_messages: Vec<(String, TopicMessage)>,
    pub(crate) messages: Vec<RecordedMessage>,
    pub(crate) dead_letters: Vec<String>,
    pub(crate) calls: Vec<&'static str>,
    pub(crate) now: Option<Timestamp>,
    ids: u64,
    /// The process dies at this call, counted from 1.
    pub(crate) crash_at: Option<(usize, CrashPoint)>,
    /// What topics answer instead of taking it.
    pub(crate) topic: Option<SendError>,
    /// What chats answer instead of doing it.
    pub(crate) chat: Option<SendError>,
    /// Chats limit the rate until then.
    pub(crate) chat_limited_until: Option<Timestamp>,
    /// What a chat answers once, after having done it.
    pub(crate) lose_next_response: bool,
    /// These were taken away by somebody.
    pub(crate) deleted: Vec<String>,
    pub(crate) dead_letters_fail: bool,
    pub(crate) done_writes_fail: bool,
    /// Why the policy cannot be read.
    pub(crate) policy_error: Option<String>,
}

impl World {
    /// What a chat answers instead of doing it.
    fn chat_error(&self) -> Option<SendError> {
        let left = self.chat_limited_until.map(|until| Seconds::between(self.now.unwrap_or(at(0)), until));
        match left.filter(|left| left.0 > 0) {
            Some(after) => Some(SendError::RateLimited { after, reason: "ratelimited".to_owned() }),
            None => self.chat.clone(),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Ports {
    pub(crate) ledger: MemoryLedger,
    world: Mutex<World>,
}

impl Ports {
    pub(crate) fn with_ledger(ledger: &MemoryLedger) -> Self {
        Self { ledger: ledger.clone(), world: Mutex::default() }
    }

    pub(crate) fn with_policy(policy: &Policy) -> Self {
        let ports = Self::default();
        ports.ledger.store().apply(policy, "version 1", at(0), "somebody").expect("no other policy is there");
        ports
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("no test panics with it")
    }

    /// An invocation; none: it died.
    pub(crate) fn invoke(&self, entries: &[JournalEntry]) -> Option<NotifyReport> {
        notify(self, self, self, entries, Seconds(59).after(self.now())).now_or_never()
    }

    /// Invocations until everything is delivered.
    #[track_caller]
    pub(crate) fn deliver(&self, entries: &[JournalEntry]) {
        let delivered = self.invoke(entries).expect("nobody dies");
        assert!(delivered.stopped.is_none() && delivered.entries == entries.len(), "{delivered:?}");
    }

    pub(crate) fn advance_time(&self, seconds: u64) {
        let now = Seconds(seconds).after(self.now());
        self.world().now = Some(now);
    }

    async fn call<T>(&self, name: &'static str, effect: impl FnOnce(&mut World) -> T) -> T {
        let crash_at = {
            let mut world = self.world();
            world.calls.push(name);
            let number = world.calls.len();
            world.crash_at.filter(|(at, _)| *at == number).map(|(_, crash_point)| crash_point)
        };
        if crash_at == Some(CrashPoint::Before) {
            pending::<()>().await;
        }
        let answer = effect(&mut self.world());
        if crash_at == Some(CrashPoint::After) {
            pending::<()>().await;
        }
        answer
    }
}

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_316_400 + second).expect("a time")
}

impl Deliveries for Ports {
    async fn claim(&self, delivery: &DeliveryId, hold: &DeliveryClaim) -> Result<ClaimOutcome, LedgerError> {
        let take = |world: &mut World| match world.delivery_records.get(delivery) {
            Some(DeliveryRecord::Done) => ClaimOutcome::AlreadySent,
            Some(DeliveryRecord::Claimed { until, .. }) if *until > hold.now => ClaimOutcome::HeldElsewhere,
            _ => {
                world
                    .delivery_records
                    .insert(delivery.clone(), DeliveryRecord::Claimed { by: hold.by.clone(), until: hold.until });
                ClaimOutcome::Acquired
            }
        };
        Ok(self.call("claim", take).await)
    }

    async fn done(&self, delivery: &DeliveryId, _: Timestamp) -> Result<(), LedgerError> {
        let mark_done = |world: &mut World| {
            if world.done_writes_fail {
                return Err(LedgerError::Unavailable { doing: "noting", reason: "busy".to_owned() });
            }
            world.delivery_records.insert(delivery.clone(), DeliveryRecord::Done);
            Ok(())
        };
        self.call("done", mark_done).await
    }

    async fn release_claim(&self, delivery: &DeliveryId, by: &LeaseId) -> Result<(), LedgerError> {
        let remove_claim = |world: &mut World| {
            if matches!(world.delivery_records.get(delivery), Some(DeliveryRecord::Claimed { by: holder, .. }) if holder == by)
            {
                world.delivery_records.remove(delivery);
            }
        };
        self.call("give back", remove_claim).await;
        Ok(())
    }
}

/// What Slack refuses, by the limits of its "Block Kit reference".
fn check_slack_limits(chat: &ChatMessage) {
    let blocks = chat.blocks.as_array().expect("an array");
    assert!((1..=50).contains(&blocks.len()), "{} blocks", blocks.len());
    let mut texts = Vec::new();
    for block in blocks {
        texts.push(block["text"]["text"].as_str());
        texts.extend(block["elements"].as_array().into_iter().flatten().map(|element| element["text"].as_str()));
    }
    for text in texts.into_iter().flatten() {
        assert!((1..=3_000).contains(&text.chars().count()), "{text}");
    }
    assert!((1..4_000).contains(&chat.text.chars().count()), "{}", chat.text);
}

impl Channels for Ports {
    async fn publish_event(&self, announcement: &BusEvent) -> Result<(), SendError> {
        let detail: Value = serde_json::from_str(&announcement.detail).expect("JSON");
        let id = detail["id"].as_str().expect("an id").to_owned();
        self.call("send", |world| world.delivered.push(("bus".to_owned(), id))).await;
        Ok(())
    }

    async fn publish(&self, topic: &str, message: &TopicMessage) -> Result<(), SendError> {
        let take = |world: &mut World| match world.topic.clone() {
            Some(error) => Err(error),
            None => {
                world.delivered.push((topic.to_owned(), message.deduplication_id.clone()));
                world.topic_messages.push((topic.to_owned(), message.clone()));
                Ok(())
            }
        };
        self.call("send", take).await
    }

    async fn post_message(&self, channel: &str, thread: Option<&str>, chat: &ChatMessage) -> Result<String, SendError> {
        check_slack_limits(chat);
        let post = |world: &mut World| {
            if let Some(error) = world.chat_error() {
                return Err(error);
            }
            let number = world.messages.len() + 1;
            let id = format!("{}.{number:06}", world.now.unwrap_or(at(0)).as_second());
            let (channel, thread) = (channel.to_owned(), thread.map(str::to_owned));
            world.messages.push(RecordedMessage { channel, id: id.clone(), thread, versions: vec![chat.clone()] });
            if std::mem::take(&mut world.lose_next_response) {
                return Err(SendError::Unsure { reason: "no answer".to_owned() });
            }
            Ok(id)
        };
        self.call("say", post).await
    }

    async fn edit_message(&self, channel: &str, id: &str, chat: &ChatMessage) -> Result<EditOutcome, SendError> {
        check_slack_limits(chat);
        let edit_message = |world: &mut World| {
            if let Some(error) = world.chat_error() {
                return Err(error);
            }
            if world.deleted.iter().any(|deleted| deleted == id) {
                return Ok(EditOutcome::Gone);
            }
            let message = world.messages.iter_mut().find(|it| it.channel == channel && it.id == id);
            message.expect("what is edited was posted").versions.push(chat.clone());
            if std::mem::take(&mut world.lose_next_response) {
                return Err(SendError::Unsure { reason: "no answer".to_owned() });
            }
            Ok(EditOutcome::Done)
        };
        self.call("edit", edit_message).await
    }

    async fn wait_for_rate_limit(&self, time: Seconds) {
        self.call("wait", |world| world.now = Some(time.after(world.now.unwrap_or(at(0))))).await;
    }

    async fn approval_link(&self, request: &ApprovalLinkRequest<'_>) -> Result<String, SendError> {
        Ok(format!("https://approve.example.com/{}/{}/{}", request.person, request.deployment, request.plan.0))
    }

    async fn dead_letter(&self, letter: &str) -> Result<(), String> {
        let append_dead_letter = |world: &mut World| {
            if world.dead_letters_fail {
                return Err("no such queue".to_owned());
            }
            world.dead_letters.push(letter.to_owned());
            Ok(())
        };
        self.call("set aside", append_dead_letter).await
    }
}

impl Clock for Ports {
    fn now(&self) -> Timestamp {
        self.world().now.unwrap_or(at(0))
    }

    fn unique_id(&self) -> LeaseId {
        let mut world = self.world();
        world.ids += 1;
        LeaseId(world.ids.to_string())
    }
}

impl PostedMessages for Ports {
    async fn posted_message(&self, key: &PostedMessageKey) -> Result<Option<PostedMessage>, LedgerError> {
        self.ledger.posted_message(key).await
    }

    async fn record_posted_message(
        &self,
        key: &PostedMessageKey,
        post: &PostedMessage,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let ledger = &self.ledger;
        self.call("note post", |_| ledger.store().record_posted_message(key, post)).await;
        let _ = now;
        Ok(())
    }
}

impl Releases for Ports {
    async fn releases(&self, application: &Name, service: &Name, limit: usize) -> Result<Vec<Release>, LedgerError> {
        self.ledger.releases(application, service, limit).await
    }

    async fn release_by_id(&self, id: &ReleaseId) -> Result<Option<Release>, LedgerError> {
        self.ledger.release_by_id(id).await
    }
}

impl Policies for Ports {
    async fn policy(&self, application: &Name) -> Result<Option<AppliedPolicy>, LedgerError> {
        let policy_error = self.world().policy_error.clone();
        match policy_error {
            Some(reason) => Err(LedgerError::Unreadable { what: format!("POLICY#{application} CURRENT"), reason }),
            None => self.ledger.policy(application).await,
        }
    }

    async fn applications(&self) -> Result<Vec<Name>, LedgerError> {
        self.ledger.applications().await
    }
}

impl Targets for Ports {
    async fn state(&self, target: &TargetId) -> Result<Option<TargetState>, LedgerError> {
        self.ledger.state(target).await
    }

    async fn history(&self, target: &TargetId, limit: usize) -> Result<Vec<DeploymentRecord>, LedgerError> {
        self.ledger.history(target, limit).await
    }

    async fn journal(&self, target: &TargetId, after: u64, limit: usize) -> Result<Vec<JournalEntry>, LedgerError> {
        self.ledger.journal(target, after, limit).await
    }

    async fn journal_tail(&self, target: &TargetId, limit: usize) -> Result<Vec<JournalEntry>, LedgerError> {
        self.ledger.journal_tail(target, limit).await
    }
}
