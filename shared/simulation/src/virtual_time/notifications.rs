//! The journal's stream and the notifier: deliveries and channels in virtual time, each call with its faults.

use super::context::{Job, NOTIFIER, SharedState, SimContext};
use super::faults::{fnv1a, mix};
use super::ports::{SimClock, SimLedger};
use crate::invariants::{DeliveryLog, ENTRIES_DELIVERED_ONCE, Violation};
use crate::trace::InjectedFault;
use engine::{
    ApprovalLinkRequest, BusEvent, Channels, ChatMessage, ClaimOutcome, Deliveries, DeliveryClaim, DeliveryId,
    EditOutcome, LeaseId, LedgerError, PostedMessage, PostedMessageKey, PostedMessages, SendError, TopicMessage,
    notify,
};
use rollout::{Seconds, SignedDuration, TargetId, Timestamp};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Name of the event bus as a channel.
const BUS: &str = "bus";
/// Maximum number of entries in one batch of the stream.
const BATCH_SIZE: usize = 20;
/// Maximum number of entries that the stream delivers again.
const REDELIVERED_ENTRIES: u64 = 3;

/// State of a delivery in the notifier's store.
#[derive(Debug, Clone, PartialEq, Eq)]
enum DeliveryState {
    Claimed { by: LeaseId, until: Timestamp },
    Done,
}

/// Progress of the notifier, and what channels received.
#[derive(Debug, Default)]
pub(super) struct NotifierState {
    delivery_states: BTreeMap<DeliveryId, DeliveryState>,
    /// Per target: the last journal entry whose delivery is complete.
    pub(super) delivered_up_to: BTreeMap<TargetId, u64>,
    /// Targets with a notifier invocation running or scheduled.
    pub(super) in_progress: BTreeSet<TargetId>,
    pub(super) notifications: DeliveryLog,
    pub(super) violation: Option<Violation>,
}

impl SharedState {
    /// A target's journal has grown: its stream invokes the notifier, unless an invocation is running or scheduled
    /// already. The stream may deliver earlier entries again.
    pub(super) fn stream_journal(&mut self, target: &TargetId) {
        if !self.notified.in_progress.insert(target.clone()) {
            return;
        }
        let now = self.world.now();
        let key = self.next_arrival_key(mix(fnv1a(NOTIFIER), fnv1a(&target.to_string())));
        let delivery_fault = self.injector.delivery_fault(key, now, || format!("stream of {target}"));
        if delivery_fault.duplicated
            && let Some(delivered_up_to) = self.notified.delivered_up_to.get_mut(target)
        {
            *delivered_up_to = delivered_up_to.saturating_sub(REDELIVERED_ENTRIES);
        }
        let late = SignedDuration::from_millis(i64::try_from(200 + delivery_fault.late_ms).unwrap_or(0));
        self.schedule(now.checked_add(late).unwrap_or(now), Job::Notify(target.clone()));
    }
}

impl NotifierState {
    /// Checks that every entry of a target was delivered, and that repetitions are explained by faults, once nothing is
    /// due any more.
    pub(super) fn undelivered(
        &self,
        target: &TargetId,
        last: u64,
        now: Timestamp,
        injected: &[InjectedFault],
    ) -> Option<Violation> {
        if let Some(sequence) = self.notifications.missing(BUS, target, last) {
            return Some(Violation::of(
                &ENTRIES_DELIVERED_ONCE,
                now,
                Some(target),
                format!("entry {sequence} was not delivered"),
            ));
        }
        let failed_calls = injected.iter().filter(|injected| injected.subject.starts_with(NOTIFIER)).count() as u64;
        let repeated = self.notifications.repetitions();
        (repeated > failed_calls).then(|| {
            let words = format!(
                "{repeated} entries were delivered again, and only {failed_calls} calls of the notifier failed"
            );
            Violation::of(&ENTRIES_DELIVERED_ONCE, now, Some(target), words)
        })
    }
}

/// Delivers a target's journal to its end. False: it must be retried.
pub(super) async fn deliver(
    ledger: SimLedger,
    channels: SimChannels,
    clock: SimClock,
    target: TargetId,
    until: Timestamp,
) -> bool {
    loop {
        let from = channels.context.lock().notified.delivered_up_to.get(&target).copied().unwrap_or(0);
        let entries = ledger.ledger.store().journal(&target, from, BATCH_SIZE);
        if entries.is_empty() {
            channels.context.lock().notified.in_progress.remove(&target);
            return true;
        }
        let notified = notify(&ledger, &channels, &clock, &entries, until).await;
        let done = from + notified.entries as u64;
        channels.context.lock().notified.delivered_up_to.insert(target.clone(), done);
        if notified.stopped.is_some() {
            return false;
        }
    }
}

impl Deliveries for SimLedger {
    async fn claim(&self, delivery: &DeliveryId, hold: &DeliveryClaim) -> Result<ClaimOutcome, LedgerError> {
        let take = || {
            let delivery_states = &mut self.context.lock().notified.delivery_states;
            match delivery_states.get(delivery) {
                Some(DeliveryState::Done) => Ok(ClaimOutcome::AlreadySent),
                Some(DeliveryState::Claimed { until, .. }) if *until > hold.now => Ok(ClaimOutcome::HeldElsewhere),
                _ => {
                    delivery_states
                        .insert(delivery.clone(), DeliveryState::Claimed { by: hold.by.clone(), until: hold.until });
                    Ok(ClaimOutcome::Acquired)
                }
            }
        };
        self.context.call("claim", take, unavailable("claiming a delivery")).await
    }

    async fn done(&self, delivery: &DeliveryId, _: Timestamp) -> Result<(), LedgerError> {
        let note = || {
            self.context.lock().notified.delivery_states.insert(delivery.clone(), DeliveryState::Done);
            Ok(())
        };
        self.context.call("done", note, unavailable("noting a delivery")).await
    }

    async fn release_claim(&self, delivery: &DeliveryId, by: &LeaseId) -> Result<(), LedgerError> {
        let drop = || {
            let delivery_states = &mut self.context.lock().notified.delivery_states;
            if matches!(delivery_states.get(delivery), Some(DeliveryState::Claimed { by: holder, .. }) if holder == by)
            {
                delivery_states.remove(delivery);
            }
            Ok(())
        };
        self.context.call("release_claim", drop, unavailable("giving a delivery back")).await
    }
}

fn unavailable<T>(doing: &'static str) -> impl FnOnce(&'static str) -> Result<T, LedgerError> {
    move |reason| Err(LedgerError::Unavailable { doing, reason: reason.to_owned() })
}

impl PostedMessages for SimLedger {
    async fn posted_message(&self, key: &PostedMessageKey) -> Result<Option<PostedMessage>, LedgerError> {
        let read = || Ok(self.ledger.store().posted_message(key));
        self.context.call("posted_message", read, unavailable("reading a post")).await
    }

    async fn record_posted_message(
        &self,
        key: &PostedMessageKey,
        post: &PostedMessage,
        _: Timestamp,
    ) -> Result<(), LedgerError> {
        let write = || {
            self.ledger.store().record_posted_message(key, post);
            Ok(())
        };
        self.context.call("record_posted_message", write, unavailable("writing a post")).await
    }
}

/// An event bus and topics. Chats are not modelled.
#[derive(Debug, Clone)]
pub(super) struct SimChannels {
    pub(super) context: SimContext,
}

impl SimChannels {
    async fn receive(&self, channel: &str, target: &TargetId, sequence: u64, words: &str) -> Result<(), SendError> {
        let record = || {
            let shared = &mut *self.context.lock();
            let now = shared.world.now();
            let violation = shared.notified.notifications.deliver(channel, target, sequence, words, now);
            shared.notified.violation = shared.notified.violation.take().or(violation);
            Ok(())
        };
        self.context.call("publish_event", record, |reason| Err(SendError::Unsure { reason: reason.to_owned() })).await
    }
}

fn refused<T>() -> Result<T, SendError> {
    Err(SendError::Refused { reason: "there are no chats here".to_owned() })
}

impl Channels for SimChannels {
    async fn publish_event(&self, announcement: &BusEvent) -> Result<(), SendError> {
        let detail: Value = serde_json::from_str(&announcement.detail).unwrap_or_default();
        let id = detail["id"].as_str().unwrap_or_default();
        let Some((target, sequence)) = id.split_once('#') else { return refused() };
        let (Ok(target), Ok(sequence)) = (TargetId::parse(target), sequence.parse()) else { return refused() };
        self.receive(BUS, &target, sequence, &announcement.detail).await
    }

    async fn publish(&self, _: &str, _: &TopicMessage) -> Result<(), SendError> {
        self.context.call("publish", || Ok(()), |reason| Err(SendError::Unsure { reason: reason.to_owned() })).await
    }

    async fn post_message(&self, _: &str, _: Option<&str>, _: &ChatMessage) -> Result<String, SendError> {
        refused()
    }

    async fn edit_message(&self, _: &str, _: &str, _: &ChatMessage) -> Result<EditOutcome, SendError> {
        refused()
    }

    async fn wait_for_rate_limit(&self, _: Seconds) {}

    async fn approval_link(&self, _: &ApprovalLinkRequest<'_>) -> Result<String, SendError> {
        refused()
    }

    async fn dead_letter(&self, _: &str) -> Result<(), String> {
        Ok(())
    }
}
