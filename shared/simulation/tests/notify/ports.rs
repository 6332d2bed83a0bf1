//! The ledger in memory, with claims; channels that take what they are told to take; deaths at a given call.

use engine::{
    Announcement, Applied, Asking, Begin, Channels, Chat, Claim, Claimed, Clock, Commit, Deliveries, DeliveryId,
    Edited, Hold, LeaseId, Ledger, LedgerError, Message, Overdue, Post, PostKey, Posts, SendError, TagsSeen, Told,
    Watch, notify,
};
use futures::FutureExt as _;
use rollout::brake::{Brake, BrakeRecord, Lifted, Scope};
use rollout::journal::JournalEntry;
use rollout::pace::{Place, Price};
use rollout::target::DeploymentRecord;
use rollout::{Command, Name, Policy, Release, ReleaseId, Seconds, TargetId, TargetState, Timestamp};
use serde_json::Value;
use simulation::ledger::MemoryLedger;
use std::collections::BTreeMap;
use std::future::pending;
use std::sync::{Mutex, MutexGuard};

/// What a delivery is noted as.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Note {
    Claimed { by: LeaseId, until: Timestamp },
    Done,
}

/// When the process dies, seen from one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dies {
    Before,
    After,
}

/// A message in a chat, with everything that it ever said.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub(crate) channel: String,
    pub(crate) id: String,
    pub(crate) thread: Option<String>,
    pub(crate) said: Vec<Chat>,
}

impl Said {
    /// All that a person reads of it now.
    pub(crate) fn words(&self) -> String {
        let now = self.said.last().expect("it says something");
        format!("{}\n{}", now.text, now.blocks)
    }

    /// The values of its buttons now, by `action_id`.
    pub(crate) fn buttons(&self) -> Vec<(String, String)> {
        let blocks = self.said.last().and_then(|chat| chat.blocks.as_array().cloned()).unwrap_or_default();
        let elements = blocks.iter().flat_map(|block| block["elements"].as_array().cloned().unwrap_or_default());
        let buttons = elements.filter(|element| element["type"] == "button");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        buttons.map(|button| (text(&button["action_id"]), text(&button["value"]))).collect()
    }
}

#[derive(Debug, Default)]
pub(crate) struct World {
    notes: BTreeMap<DeliveryId, Note>,
    /// Channel and entry of everything that was taken by the bus or a topic.
    pub(crate) told: Vec<(String, String)>,
    /// What topics took.
    pub(crate) mails: Vec<(String, Message)>,
    pub(crate) chats: Vec<Said>,
    pub(crate) letters: Vec<String>,
    pub(crate) calls: Vec<&'static str>,
    pub(crate) now: Option<Timestamp>,
    ids: u64,
    /// The process dies at this call, counted from 1.
    pub(crate) death: Option<(usize, Dies)>,
    /// What topics answer instead of taking it.
    pub(crate) topic: Option<SendError>,
    /// What chats answer instead of doing it.
    pub(crate) chat: Option<SendError>,
    /// What a chat answers once, after having done it.
    pub(crate) answer_lost: bool,
    /// These were taken away by somebody.
    pub(crate) gone: Vec<String>,
    pub(crate) letters_are_lost: bool,
    pub(crate) notes_are_lost: bool,
    /// Why the policy cannot be read.
    pub(crate) damage: Option<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Ports {
    pub(crate) ledger: MemoryLedger,
    world: Mutex<World>,
}

impl Ports {
    pub(crate) fn over(ledger: &MemoryLedger) -> Self {
        Self { ledger: ledger.clone(), world: Mutex::default() }
    }

    pub(crate) fn applying(policy: &Policy) -> Self {
        let ports = Self::default();
        ports.ledger.store().apply(policy, "version 1", at(0), "somebody").expect("no other policy is there");
        ports
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("no test panics with it")
    }

    /// An invocation; none: it died.
    pub(crate) fn invoke(&self, entries: &[JournalEntry]) -> Option<Told> {
        notify(self, self, self, entries, Seconds(59).after(self.now())).now_or_never()
    }

    /// Invocations until everything is told.
    #[track_caller]
    pub(crate) fn tell(&self, entries: &[JournalEntry]) {
        let told = self.invoke(entries).expect("nobody dies");
        assert!(told.stopped.is_none() && told.entries == entries.len(), "{told:?}");
    }

    pub(crate) fn later(&self, seconds: u64) {
        let now = Seconds(seconds).after(self.now());
        self.world().now = Some(now);
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

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_316_400 + second).expect("a time")
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

/// What Slack refuses, by the limits of its "Block Kit reference".
fn sound(chat: &Chat) {
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
                world.mails.push((topic.to_owned(), message.clone()));
                Ok(())
            }
        };
        self.call("send", take).await
    }

    async fn say(&self, channel: &str, thread: Option<&str>, chat: &Chat) -> Result<String, SendError> {
        sound(chat);
        let post = |world: &mut World| {
            if let Some(error) = world.chat.clone() {
                return Err(error);
            }
            let number = world.chats.len() + 1;
            let id = format!("{}.{number:06}", world.now.unwrap_or(at(0)).as_second());
            let (channel, thread) = (channel.to_owned(), thread.map(str::to_owned));
            world.chats.push(Said { channel, id: id.clone(), thread, said: vec![chat.clone()] });
            if std::mem::take(&mut world.answer_lost) {
                return Err(SendError::Unsure { reason: "no answer".to_owned() });
            }
            Ok(id)
        };
        self.call("say", post).await
    }

    async fn edit(&self, channel: &str, id: &str, chat: &Chat) -> Result<Edited, SendError> {
        sound(chat);
        let edit = |world: &mut World| {
            if let Some(error) = world.chat.clone() {
                return Err(error);
            }
            if world.gone.iter().any(|gone| gone == id) {
                return Ok(Edited::Gone);
            }
            let message = world.chats.iter_mut().find(|said| said.channel == channel && said.id == id);
            message.expect("what is edited was posted").said.push(chat.clone());
            if std::mem::take(&mut world.answer_lost) {
                return Err(SendError::Unsure { reason: "no answer".to_owned() });
            }
            Ok(Edited::Done)
        };
        self.call("edit", edit).await
    }

    async fn link(&self, asking: &Asking<'_>) -> Result<String, SendError> {
        Ok(format!("https://approve.example.com/{}/{}/{}", asking.person, asking.deployment, asking.plan.0))
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
        self.world().now.unwrap_or(at(0))
    }

    fn lease_id(&self) -> LeaseId {
        let mut world = self.world();
        world.ids += 1;
        LeaseId(world.ids.to_string())
    }
}

impl Posts for Ports {
    async fn post(&self, key: &PostKey) -> Result<Option<Post>, LedgerError> {
        self.ledger.post(key).await
    }

    async fn put_post(&self, key: &PostKey, post: &Post, now: Timestamp) -> Result<(), LedgerError> {
        let ledger = &self.ledger;
        self.call("note post", |_| ledger.store().put_post(key, post)).await;
        let _ = now;
        Ok(())
    }
}

impl Ledger for Ports {
    async fn begin(&self, target: &TargetId, claim: &Claim) -> Result<Begin, LedgerError> {
        self.ledger.begin(target, claim).await
    }

    async fn commands(&self, target: &TargetId) -> Result<Vec<Command>, LedgerError> {
        self.ledger.commands(target).await
    }

    async fn commit(
        &self,
        target: &TargetId,
        lease: &LeaseId,
        revision: u64,
        commit: &Commit<'_>,
    ) -> Result<u64, LedgerError> {
        self.ledger.commit(target, lease, revision, commit).await
    }

    async fn take_place(&self, price: &Price, now: Timestamp) -> Result<Place, LedgerError> {
        self.ledger.take_place(price, now).await
    }

    async fn note_retry(
        &self,
        target: &TargetId,
        retry: &engine::Retry<'_>,
    ) -> Result<engine::RetryNoted, LedgerError> {
        self.ledger.note_retry(target, retry).await
    }

    async fn release(&self, target: &TargetId, lease: &LeaseId) -> Result<(), LedgerError> {
        self.ledger.release(target, lease).await
    }

    async fn put_release(&self, release: &Release) -> Result<Option<Release>, LedgerError> {
        self.ledger.put_release(release).await
    }

    async fn tags_seen(&self, application: &Name, service: &Name) -> Result<Option<TagsSeen>, LedgerError> {
        self.ledger.tags_seen(application, service).await
    }

    async fn put_tags_seen(&self, application: &Name, service: &Name, seen: &TagsSeen) -> Result<(), LedgerError> {
        self.ledger.put_tags_seen(application, service, seen).await
    }

    async fn put_command(&self, command: &Command) -> Result<bool, LedgerError> {
        self.ledger.put_command(command).await
    }

    async fn targets_watching(&self, watch: &Watch) -> Result<Vec<TargetId>, LedgerError> {
        self.ledger.targets_watching(watch).await
    }

    async fn services(&self, repository: &str) -> Result<Vec<(Name, Name)>, LedgerError> {
        self.ledger.services(repository).await
    }

    async fn overdue(&self, now: Timestamp, limit: usize) -> Result<Vec<Overdue>, LedgerError> {
        self.ledger.overdue(now, limit).await
    }

    async fn apply(&self, policy: &Policy, text: &str, at: Timestamp, by: &str) -> Result<u64, LedgerError> {
        self.ledger.apply(policy, text, at, by).await
    }

    async fn policy(&self, application: &Name) -> Result<Option<Applied>, LedgerError> {
        let damage = self.world().damage.clone();
        match damage {
            Some(reason) => Err(LedgerError::Unreadable { what: format!("POLICY#{application} CURRENT"), reason }),
            None => self.ledger.policy(application).await,
        }
    }

    async fn applications(&self) -> Result<Vec<Name>, LedgerError> {
        self.ledger.applications().await
    }

    async fn brakes(&self) -> Result<Vec<Brake>, LedgerError> {
        self.ledger.brakes().await
    }

    async fn put_brake(&self, brake: &Brake) -> Result<(), LedgerError> {
        self.ledger.put_brake(brake).await
    }

    async fn lift_brake(&self, scope: &Scope, lifted: &Lifted) -> Result<Option<Brake>, LedgerError> {
        self.ledger.lift_brake(scope, lifted).await
    }

    async fn brake_log(&self, limit: usize) -> Result<Vec<BrakeRecord>, LedgerError> {
        self.ledger.brake_log(limit).await
    }

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

    async fn releases(&self, application: &Name, service: &Name, limit: usize) -> Result<Vec<Release>, LedgerError> {
        self.ledger.releases(application, service, limit).await
    }

    async fn release_by_id(&self, id: &ReleaseId) -> Result<Option<Release>, LedgerError> {
        self.ledger.release_by_id(id).await
    }
}
