//! Delivers the journal: each entry to the bus, and to every topic and chat that the current policy names for it.
//!
//! **None is lost.** An entry is done only when every channel has accepted it, or when it is in the dead-letter queue because a
//! channel refused it permanently. Otherwise an error is returned, and the entry is delivered again.
//!
//! **None is repeated by a redelivery.** Each delivery (entry and channel) is claimed in the ledger, sent, and marked as done; a
//! delivery marked as done is skipped. Two channels cannot be written in one transaction, so one gap remains: if the notifier
//! dies between the channel's response and the mark, or the response itself is lost, the delivery is sent again after the claim
//! expires. Delivery to a channel is thus at least once, and exactly once outside that gap. Messages carry a content-derived
//! identity, by which receivers (and FIFO topics by themselves) drop duplicates.
//!
//! **In order.** The entries of one target are delivered in journal order; an entry that cannot be delivered holds up the later
//! ones. A chat holds them up for [`CHAT_RETRY_WINDOW`] at most.
//!
//! | module | what it does |
//! |---|---|
//! | `chat` | one message per deployment, in one thread per release, edited in place |

mod chat;

use crate::ports::{
    ApprovalLinkRequest, BusEvent, Channels, ClaimOutcome, Clock, Deliveries, DeliveryClaim, DeliveryId, LedgerError,
    Policies, PostedMessages, Releases, SendError, Targets, TopicMessage,
};
use crate::{log_context, measure};
use futures::future::join_all;
use rollout::journal::{Fact, JournalEntry};
use rollout::notification::{NotificationPolicy, Receiver};
use rollout::{Name, Policy, Seconds, TargetId, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use tracing::Instrument as _;

/// The `source` of events on the bus.
pub const SOURCE: &str = "switchback";
/// The `detail-type` of events on the bus.
pub const DETAIL_TYPE: &str = "Switchback Journal Entry";
/// Version of the detail's shape. New keys do not change it; it increases when an event rule could break.
const DETAIL_VERSION: u32 = 1;

/// Duration of a delivery claim: longer than an invocation of the notifier lasts, so that only a dead invocation's claim is taken
/// over.
pub const DELIVERY_CLAIM_DURATION: Seconds = Seconds(90);

/// How long a chat may hold up an entry. An older entry goes to the dead-letter queue if the chat still does not accept it:
/// programs and mails do not wait for a chat's outage to end, and the chat's messages show the newest state once it accepts any.
pub const CHAT_RETRY_WINDOW: Seconds = Seconds(15 * 60);

/// Time that must be left in an invocation for another entry: all calls of one delivery with their retries.
const TIME_PER_ENTRY: Seconds = Seconds(25);

/// Progress of a notification batch.
#[derive(Debug)]
#[must_use]
pub struct NotifyReport {
    /// Number of entries that are done, counted from the first.
    pub entries: usize,
    /// Why the next entry is not done; `None`: all are done.
    pub stopped: Option<NotifyError>,
}

/// Why an entry must be delivered again.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// The ledger failed.
    #[error("{doing}")]
    Ledger {
        /// The operation that failed.
        doing: &'static str,
        /// The ledger's error.
        #[source]
        source: LedgerError,
    },
    /// A channel did not respond, or cannot accept the entry now.
    #[error("{channel} was not notified: {reason}")]
    Channel {
        /// The channel's name.
        channel: String,
        /// Free text for people.
        reason: String,
    },
    /// Another notifier is delivering the entry, or died doing so.
    #[error("{channel} is being notified by another invocation")]
    HeldElsewhere {
        /// The channel's name.
        channel: String,
    },
    /// The entry could not be moved to the dead-letter queue.
    #[error("it was refused ({refused}), and could not be laid among the dead letters: {reason}")]
    DeadLetterFailed {
        /// Why the channel refused it.
        refused: String,
        /// Why the dead-letter queue could not accept it.
        reason: String,
    },
    /// The invocation's time is nearly over.
    #[error("no time is left for it")]
    OutOfTime,
}

/// Ledger access of the notifier: writes its own records and nothing else.
pub trait NotifierLedger: Deliveries + Policies + PostedMessages + Releases + Targets {}

impl<T: Deliveries + Policies + PostedMessages + Releases + Targets> NotifierLedger for T {}

/// Delivers entries of one target's journal, given in journal order.
pub async fn notify(
    ledger: &impl NotifierLedger,
    channels: &impl Channels,
    clock: &impl Clock,
    entries: &[JournalEntry],
    until: Timestamp,
) -> NotifyReport {
    let Some(first) = entries.first() else { return NotifyReport { entries: 0, stopped: None } };
    let policy = match ledger.policy(&first.target.application).await {
        Ok(applied) => Ok(applied.map(|applied| applied.policy)),
        // Retrying does not make it readable: programs are notified nevertheless, and people find the entry in the dead-letter
        // queue.
        Err(LedgerError::Unreadable { what, reason }) => Err(format!("{what} cannot be read: {reason}")),
        Err(source) => {
            let stopped = NotifyError::Ledger { doing: "the policy could not be read", source };
            return NotifyReport { entries: 0, stopped: Some(stopped) };
        }
    };
    let notifier = Notifier { ledger, channels, clock, policy: &policy, until };
    for (index, entry) in entries.iter().enumerate() {
        let span = log_context::of(&entry.target);
        span.in_scope(|| log_context::about(entry.deployment, None));
        let result = if TIME_PER_ENTRY.after(clock.now()) > until {
            Err(NotifyError::OutOfTime)
        } else {
            // Channels do not wait for each other. All are tried, even if one fails.
            let destinations = destinations(&policy, entry);
            let tried = join_all(destinations.iter().map(|destination| notifier.deliver(destination, entry)))
                .instrument(span.clone())
                .await;
            tried.into_iter().collect::<Result<Vec<()>, _>>().map(|_| ())
        };
        if result.is_ok() {
            measure::ENTRIES_DELIVERED.count(1);
            span.in_scope(|| tracing::info!(entry = entry.id(), fact = entry.fact.name(), "delivered"));
        }
        if let Err(error) = result {
            return NotifyReport { entries: index, stopped: Some(error) };
        }
    }
    NotifyReport { entries: entries.len(), stopped: None }
}

/// A destination of an entry. Each kind of channel is a variant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Destination {
    /// The event bus: receives every entry.
    Bus,
    /// An SNS topic.
    Topic(String),
    /// A person's own topic, with an approval link.
    Link {
        /// The person's name in the policy.
        person: Name,
        /// ARN of the topic.
        topic: String,
    },
    /// A chat channel that is notified of the entry.
    Chat(String),
    /// A chat channel that is not notified, but may have a message that the entry changes.
    ChatUpdateOnly(String),
    /// The topics cannot be determined; contains the reason.
    Unrouted(String),
}

impl Destination {
    fn channel(&self) -> String {
        match self {
            Self::Bus => "bus".to_owned(),
            Self::Topic(arn) => format!("topic:{arn}"),
            Self::Link { person, .. } => format!("link:{person}"),
            Self::Chat(channel) | Self::ChatUpdateOnly(channel) => format!("slack:{channel}"),
            Self::Unrouted(_) => "unrouted".to_owned(),
        }
    }

    /// How long this destination may hold up an entry; `None`: without limit.
    fn retry_window(&self) -> Option<Seconds> {
        matches!(self, Self::Chat(_)).then_some(CHAT_RETRY_WINDOW)
    }
}

/// Destinations of an entry: each receiver once, however many routes lead to it.
fn destinations(policy: &Result<Option<Policy>, String>, entry: &JournalEntry) -> BTreeSet<Destination> {
    let mut destinations = BTreeSet::from([Destination::Bus]);
    let policy = match policy {
        Ok(Some(policy)) => policy,
        Ok(None) => return destinations,
        Err(reason) => {
            if entry.fact.needs_attention() {
                destinations.insert(Destination::Unrouted(reason.clone()));
            }
            return destinations;
        }
    };
    let mut chats: BTreeMap<&str, bool> = BTreeMap::new();
    for route in policy.notifications.iter().filter(|route| covers_target(route, &entry.target)) {
        let matches = route.matches(&entry.target, &entry.fact);
        match &route.receiver {
            Receiver::Topic(arn) if matches => {
                destinations.insert(Destination::Topic(arn.clone()));
            }
            Receiver::Topic(_) => {}
            Receiver::Slack(channel) => *chats.entry(channel).or_default() |= matches,
        }
    }
    destinations.extend(chats.into_iter().filter_map(|(channel, matches)| {
        if matches {
            Some(Destination::Chat(channel.to_owned()))
        } else {
            entry.deployment.is_some().then(|| Destination::ChatUpdateOnly(channel.to_owned()))
        }
    }));
    if let Fact::ApprovalRequested { approvers, .. } = &entry.fact {
        destinations.extend(approvers.iter().filter_map(|person| {
            let topic = policy.people.get(person)?.mail.clone()?;
            Some(Destination::Link { person: person.clone(), topic })
        }));
    }
    destinations
}

/// Whether a route covers a target, for any kind of entry.
fn covers_target(route: &NotificationPolicy, target: &TargetId) -> bool {
    let among = |names: &[Name], name: &Name| names.is_empty() || names.contains(name);
    among(&route.environments, &target.environment) && among(&route.services, &target.service)
}

/// Delivers entries of one application.
struct Notifier<'a, L, C, K> {
    ledger: &'a L,
    channels: &'a C,
    clock: &'a K,
    /// The current policy; `None`: there is none; `Err`: why it cannot be read.
    policy: &'a Result<Option<Policy>, String>,
    /// End of the invocation.
    until: Timestamp,
}

impl<L: NotifierLedger, C: Channels, K: Clock> Notifier<'_, L, C, K> {
    /// Claims the delivery, sends it, and marks it as done.
    async fn deliver(&self, destination: &Destination, entry: &JournalEntry) -> Result<(), NotifyError> {
        let channel = destination.channel();
        if let Destination::ChatUpdateOnly(room) = destination {
            // An edit may safely be repeated, and the next entry's edit shows what this one would have.
            if let Err(failure) = self.refresh_messages(room, entry).await {
                tracing::warn!(channel, entry = entry.id(), "a message was not brought up to date: {failure}");
            }
            return Ok(());
        }
        let delivery = DeliveryId { target: entry.target.clone(), sequence: entry.sequence, channel: channel.clone() };
        let now = self.clock.now();
        let claim = DeliveryClaim { by: self.clock.unique_id(), now, until: DELIVERY_CLAIM_DURATION.after(now) };
        let claimed = self.ledger.claim(&delivery, &claim).await;
        match claimed.map_err(|source| NotifyError::Ledger { doing: "a delivery could not be claimed", source })? {
            ClaimOutcome::AlreadySent => return Ok(()),
            ClaimOutcome::HeldElsewhere => return Err(NotifyError::HeldElsewhere { channel }),
            ClaimOutcome::Acquired => {}
        }
        let failed = match self.send(destination, entry).await {
            Ok(()) => None,
            Err(SendError::Unsure { reason } | SendError::RateLimited { reason, .. })
                if !self.retry_window_is_over(destination, entry) =>
            {
                Some(NotifyError::Channel { channel, reason })
            }
            // A retry would only hold up everything behind it.
            Err(
                SendError::Refused { reason } | SendError::Unsure { reason } | SendError::RateLimited { reason, .. },
            ) => {
                tracing::error!(channel, entry = entry.id(), "refused, and set aside: {reason}");
                measure::DEAD_LETTERED_DELIVERIES.count(1);
                match self.channels.dead_letter(&dead_letter_body(entry, &channel, &reason)).await {
                    Ok(()) => None,
                    Err(why) => Some(NotifyError::DeadLetterFailed { refused: reason, reason: why }),
                }
            }
        };
        if let Some(error) = failed {
            if let Err(failure) = self.ledger.release_claim(&delivery, &claim.by).await {
                tracing::warn!("a delivery stays claimed until its time is over: {failure}");
            }
            return Err(error);
        }
        // The message was sent. Delivering again because the mark failed would send it twice.
        if let Err(failure) = self.ledger.done(&delivery, self.clock.now()).await {
            tracing::warn!(
                entry = entry.id(),
                "delivered, and not recorded: a redelivery would send it again: {failure}"
            );
        }
        Ok(())
    }

    async fn send(&self, destination: &Destination, entry: &JournalEntry) -> Result<(), SendError> {
        match destination {
            Destination::Bus => self.channels.publish_event(&bus_event(entry)).await,
            Destination::Topic(arn) => self.channels.publish(arn, &message(entry)).await,
            Destination::Link { person, topic } => self.approval_request(person, topic, entry).await,
            Destination::Chat(channel) | Destination::ChatUpdateOnly(channel) => self.post_entry(channel, entry).await,
            Destination::Unrouted(reason) => Err(SendError::Refused { reason: reason.clone() }),
        }
    }

    fn retry_window_is_over(&self, destination: &Destination, entry: &JournalEntry) -> bool {
        destination.retry_window().is_some_and(|retry_window| retry_window.after(entry.at) < self.clock.now())
    }

    /// Sends a person their approval link.
    async fn approval_request(&self, person: &Name, topic: &str, entry: &JournalEntry) -> Result<(), SendError> {
        let (Fact::ApprovalRequested { plan, expires_at, .. }, Some(deployment)) = (&entry.fact, entry.deployment)
        else {
            return Ok(());
        };
        // Held up until after the approval deadline.
        if *expires_at <= self.clock.now() {
            return Ok(());
        }
        let request =
            ApprovalLinkRequest { target: &entry.target, deployment, plan, person, topic, expires: *expires_at };
        let link = self.channels.approval_link(&request).await?;
        let Some(notice) = view::approval_request(entry, person, &link) else { return Ok(()) };
        let deduplication_id = short_hash(&format!("{} {person}", entry.id()));
        self.channels.publish(topic, &TopicMessage { deduplication_id, ..to_message(entry, notice) }).await
    }
}

/// The entry for programs. Within one `version`, keys are never removed or given another meaning.
fn bus_event(entry: &JournalEntry) -> BusEvent {
    let (tone, text) = view::journal::sentence(&entry.fact);
    let JournalEntry { target, sequence, deployment, at, actor, fact } = entry;
    let mut data = serde_json::to_value(fact).unwrap_or_default();
    if let Some(keys) = data.as_object_mut() {
        keys.remove("fact");
    }
    let mut detail = json!({
        "version": DETAIL_VERSION,
        "id": entry.id(),
        "target": target,
        "application": target.application,
        "service": target.service,
        "environment": target.environment,
        "sequence": sequence,
        "deployment": deployment,
        "at": at,
        "actor": actor,
        "fact": fact.name(),
        "data": data,
        "attention": fact.needs_attention(),
        "tone": tone,
        "text": text,
    });
    if let Some(verdict) = verdict(fact) {
        detail["verdict"] = verdict;
    }
    BusEvent { at: *at, detail: detail.to_string() }
}

/// The entry for people.
fn message(entry: &JournalEntry) -> TopicMessage {
    to_message(entry, view::notice(entry))
}

fn to_message(entry: &JournalEntry, notice: view::Notice) -> TopicMessage {
    let view::Notice { subject, text } = notice;
    let target = &entry.target;
    let mut attributes = vec![
        ("application", target.application.to_string()),
        ("service", target.service.to_string()),
        ("environment", target.environment.to_string()),
        ("fact", entry.fact.name().to_owned()),
    ];
    if let Some(Value::String(verdict)) = verdict(&entry.fact) {
        attributes.push(("verdict", verdict));
    }
    TopicMessage {
        subject,
        text,
        attributes,
        group: short_hash(&target.to_string()),
        deduplication_id: short_hash(&entry.id()),
    }
}

/// Body of the dead letter: the complete entry, so that it can be delivered manually.
fn dead_letter_body(entry: &JournalEntry, channel: &str, reason: &str) -> String {
    json!({"notifier": "not delivered", "channel": channel, "reason": reason, "entry": entry}).to_string()
}

fn verdict(fact: &Fact) -> Option<Value> {
    match fact {
        Fact::Ended { verdict, .. } => serde_json::to_value(verdict).ok(),
        _ => None,
    }
}

/// 32 hexadecimal digits derived from a text: target names exceed the length of SNS identifiers.
fn short_hash(text: &str) -> String {
    hex::encode(&Sha256::digest(text)[..16])
}

#[cfg(test)]
mod tests;
