//! The journal's stream and whoever tells it: deliveries and channels in virtual time, each call with its faults.

use super::faults::{Struck, mix, number_of};
use super::ports::{SimClock, SimLedger};
use super::stage::{Job, Scenery, Stage, TELLER};
use crate::invariants::{TOLD_ONCE, Telling, Violation};
use engine::{
    Announcement, Asking, Channels, Chat, Claimed, Deliveries, DeliveryId, Edited, Hold, LeaseId, LedgerError, Message,
    Post, PostKey, Posts, SendError, notify,
};
use rollout::{SignedDuration, TargetId, Timestamp};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The bus, as a channel.
const BUS: &str = "bus";
/// So many entries a stream brings at once.
const MOST_AT_ONCE: usize = 20;
/// So many entries a stream may bring again.
const BROUGHT_AGAIN: u64 = 3;

/// What a delivery is noted as.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Note {
    Claimed { by: LeaseId, until: Timestamp },
    Done,
}

/// How far the journals were told, and what of it was heard.
#[derive(Debug, Default)]
pub(super) struct Told {
    notes: BTreeMap<DeliveryId, Note>,
    /// Up to which entry each target's journal is done with.
    pub(super) up_to: BTreeMap<TargetId, u64>,
    /// Whose journal somebody is at, or will be.
    pub(super) at_it: BTreeSet<TargetId>,
    pub(super) telling: Telling,
    pub(super) wrong: Option<Violation>,
}

impl Scenery {
    /// A target's journal has grown: its stream comes to whoever tells it, unless somebody is at it already. It may bring
    /// what it brought before, too.
    pub(super) fn streams(&mut self, target: &TargetId) {
        if !self.told.at_it.insert(target.clone()) {
            return;
        }
        let now = self.world.now();
        let key = self.next_arrival(mix(number_of(TELLER), number_of(&target.to_string())));
        let way = self.chance.way(key, now, || format!("stream of {target}"));
        if way.doubled
            && let Some(up_to) = self.told.up_to.get_mut(target)
        {
            *up_to = up_to.saturating_sub(BROUGHT_AGAIN);
        }
        let late = SignedDuration::from_millis(i64::try_from(200 + way.late_ms).unwrap_or(0));
        self.enter(now.checked_add(late).unwrap_or(now), Job::Tell(target.clone()));
    }
}

impl Told {
    /// What is wrong with what was told of a target, where everything has come to rest.
    pub(super) fn untold(&self, target: &TargetId, last: u64, now: Timestamp, struck: &[Struck]) -> Option<Violation> {
        if let Some(sequence) = self.telling.missing(BUS, target, last) {
            return Some(Violation::of(&TOLD_ONCE, now, Some(target), format!("nobody was told of entry {sequence}")));
        }
        let gaps = struck.iter().filter(|struck| struck.whom.starts_with(TELLER)).count() as u64;
        let again = self.telling.repetitions();
        (again > gaps).then(|| {
            let words = format!("{again} entries were told again, and only {gaps} calls of whoever tells went wrong");
            Violation::of(&TOLD_ONCE, now, Some(target), words)
        })
    }
}

/// Tells a target's journal, as far as it goes. False: it has to come again.
pub(super) async fn tell(
    ledger: SimLedger,
    channels: SimChannels,
    clock: SimClock,
    target: TargetId,
    until: Timestamp,
) -> bool {
    loop {
        let from = channels.stage.lock().told.up_to.get(&target).copied().unwrap_or(0);
        let entries = ledger.ledger.store().journal(&target, from, MOST_AT_ONCE);
        if entries.is_empty() {
            channels.stage.lock().told.at_it.remove(&target);
            return true;
        }
        let told = notify(&ledger, &channels, &clock, &entries, until).await;
        let done = from + told.entries as u64;
        channels.stage.lock().told.up_to.insert(target.clone(), done);
        if told.stopped.is_some() {
            return false;
        }
    }
}

impl Deliveries for SimLedger {
    async fn claim(&self, delivery: &DeliveryId, hold: &Hold) -> Result<Claimed, LedgerError> {
        let take = || {
            let notes = &mut self.stage.lock().told.notes;
            match notes.get(delivery) {
                Some(Note::Done) => Ok(Claimed::Done),
                Some(Note::Claimed { until, .. }) if *until > hold.now => Ok(Claimed::Elsewhere),
                _ => {
                    notes.insert(delivery.clone(), Note::Claimed { by: hold.by.clone(), until: hold.until });
                    Ok(Claimed::Ours)
                }
            }
        };
        self.stage.call("claim", take, unavailable("claiming a delivery")).await
    }

    async fn done(&self, delivery: &DeliveryId, _: Timestamp) -> Result<(), LedgerError> {
        let note = || {
            self.stage.lock().told.notes.insert(delivery.clone(), Note::Done);
            Ok(())
        };
        self.stage.call("done", note, unavailable("noting a delivery")).await
    }

    async fn give_back(&self, delivery: &DeliveryId, by: &LeaseId) -> Result<(), LedgerError> {
        let drop = || {
            let notes = &mut self.stage.lock().told.notes;
            if matches!(notes.get(delivery), Some(Note::Claimed { by: holder, .. }) if holder == by) {
                notes.remove(delivery);
            }
            Ok(())
        };
        self.stage.call("give_back", drop, unavailable("giving a delivery back")).await
    }
}

fn unavailable<T>(doing: &'static str) -> impl FnOnce(&'static str) -> Result<T, LedgerError> {
    move |reason| Err(LedgerError::Unavailable { doing, reason: reason.to_owned() })
}

impl Posts for SimLedger {
    async fn post(&self, key: &PostKey) -> Result<Option<Post>, LedgerError> {
        self.stage.call("post", || Ok(self.ledger.store().post(key)), unavailable("reading a post")).await
    }

    async fn put_post(&self, key: &PostKey, post: &Post, _: Timestamp) -> Result<(), LedgerError> {
        let write = || {
            self.ledger.store().put_post(key, post);
            Ok(())
        };
        self.stage.call("put_post", write, unavailable("writing a post")).await
    }
}

/// A bus and topics. Nobody talks in chats here.
#[derive(Debug, Clone)]
pub(super) struct SimChannels {
    pub(super) stage: Stage,
}

impl SimChannels {
    async fn hears(&self, channel: &str, target: &TargetId, sequence: u64, words: &str) -> Result<(), SendError> {
        let hear = || {
            let scenery = &mut *self.stage.lock();
            let now = scenery.world.now();
            let wrong = scenery.told.telling.tell(channel, target, sequence, words, now);
            scenery.told.wrong = scenery.told.wrong.take().or(wrong);
            Ok(())
        };
        self.stage.call("send", hear, |reason| Err(SendError::Unsure { reason: reason.to_owned() })).await
    }
}

fn refused<T>() -> Result<T, SendError> {
    Err(SendError::Refused { reason: "there are no chats here".to_owned() })
}

impl Channels for SimChannels {
    async fn announce(&self, announcement: &Announcement) -> Result<(), SendError> {
        let detail: Value = serde_json::from_str(&announcement.detail).unwrap_or_default();
        let id = detail["id"].as_str().unwrap_or_default();
        let Some((target, sequence)) = id.split_once('#') else { return refused() };
        let (Ok(target), Ok(sequence)) = (TargetId::parse(target), sequence.parse()) else { return refused() };
        self.hears(BUS, &target, sequence, &announcement.detail).await
    }

    async fn publish(&self, _: &str, _: &Message) -> Result<(), SendError> {
        self.stage.call("send", || Ok(()), |reason| Err(SendError::Unsure { reason: reason.to_owned() })).await
    }

    async fn say(&self, _: &str, _: Option<&str>, _: &Chat) -> Result<String, SendError> {
        refused()
    }

    async fn edit(&self, _: &str, _: &str, _: &Chat) -> Result<Edited, SendError> {
        refused()
    }

    async fn link(&self, _: &Asking<'_>) -> Result<String, SendError> {
        refused()
    }

    async fn set_aside(&self, _: &str) -> Result<(), String> {
        Ok(())
    }
}
