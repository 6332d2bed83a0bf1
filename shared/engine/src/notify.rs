//! The journal told: each entry to the bus, and to every topic that the policy in force names for it.
//!
//! **None is lost.** An entry is done with only when every channel has taken it, or when it lies among the dead letters
//! because a channel refused it for good. Anything else is an error, and the entry comes again.
//!
//! **None comes twice from a redelivery.** Each delivery (entry and channel) is claimed in the ledger, made, and noted
//! as done; whoever finds it done leaves it. Two channels cannot be written in one transaction, so one gap stays: where
//! somebody dies between the channel's answer and the note, or the answer itself is lost, the delivery is made again
//! once the claim is over. So it is at least once to a channel, and once where nothing died in that gap. What is told
//! carries an identity by content, by which receivers (and FIFO topics by themselves) drop the repetition.
//!
//! **In order.** The entries of one target are told in the order of the journal; the first that cannot be told stops
//! the later ones.

#[cfg(test)]
mod tests;

use crate::ports::{
    Announcement, Channels, Claimed, Clock, Deliveries, DeliveryId, Hold, Ledger, LedgerError, Message, SendError,
};
use futures::future::join_all;
use rollout::journal::{Fact, JournalEntry};
use rollout::policy::{NotificationPolicy, Receiver};
use rollout::{Seconds, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;

/// The `source` of what is put on the bus.
pub const SOURCE: &str = "switchback";
/// The `detail-type` of what is put on the bus.
pub const DETAIL_TYPE: &str = "Switchback Journal Entry";
/// The version of the detail's shape. Keys are added without a new one; it counts up when a rule could break.
const DETAIL_VERSION: u32 = 1;

/// How long a delivery stays with whoever claimed it: longer than an invocation of the notifier lasts, so that only the
/// claim of a dead one is taken over.
pub const CLAIM: Seconds = Seconds(90);

/// What must be left of an invocation for another entry: all calls of one delivery with their retries.
const FOR_AN_ENTRY: Seconds = Seconds(25);

/// How far it came.
#[derive(Debug)]
#[must_use]
pub struct Told {
    /// So many of the entries, from the first on, are done with.
    pub entries: usize,
    /// Why the next one is not; none: all are done with.
    pub stopped: Option<NotifyError>,
}

/// Why an entry must come again.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// The ledger did not do its part.
    #[error("{doing}")]
    Ledger {
        /// What was being done.
        doing: &'static str,
        /// Why not.
        #[source]
        source: LedgerError,
    },
    /// A channel did not answer, or not now.
    #[error("{channel} was not told: {reason}")]
    Channel {
        /// Which.
        channel: String,
        /// Why, for people.
        reason: String,
    },
    /// Somebody else is telling it, or died of it.
    #[error("{channel} is being told by somebody else")]
    Elsewhere {
        /// Which channel.
        channel: String,
    },
    /// It could not even be set aside.
    #[error("it was refused ({refused}), and could not be laid among the dead letters: {reason}")]
    NotSetAside {
        /// Why the channel refused it.
        refused: String,
        /// Why it could not be laid aside.
        reason: String,
    },
    /// The invocation is nearly over.
    #[error("no time is left for it")]
    OutOfTime,
}

/// Tells entries of one target's journal, which are in its order.
pub async fn notify(
    ledger: &(impl Ledger + Deliveries),
    channels: &impl Channels,
    clock: &impl Clock,
    entries: &[JournalEntry],
    until: Timestamp,
) -> Told {
    let Some(first) = entries.first() else { return Told { entries: 0, stopped: None } };
    let routes = match ledger.policy(&first.target.application).await {
        Ok(applied) => Ok(applied.map(|applied| applied.policy.notifications).unwrap_or_default()),
        // It will not become readable by waiting: programs are told all the same, people find it among the dead letters.
        Err(LedgerError::Unreadable { what, reason }) => Err(format!("{what} cannot be read: {reason}")),
        Err(source) => {
            let stopped = NotifyError::Ledger { doing: "the policy could not be read", source };
            return Told { entries: 0, stopped: Some(stopped) };
        }
    };
    tell_all(ledger, channels, clock, &routes, entries, until).await
}

async fn tell_all(
    deliveries: &impl Deliveries,
    channels: &impl Channels,
    clock: &impl Clock,
    routes: &Result<Vec<NotificationPolicy>, String>,
    entries: &[JournalEntry],
    until: Timestamp,
) -> Told {
    for (index, entry) in entries.iter().enumerate() {
        let told = if FOR_AN_ENTRY.after(clock.now()) > until {
            Err(NotifyError::OutOfTime)
        } else {
            // Channels do not wait for each other. All of them are tried, whichever fails.
            let outlets = outlets(routes, entry);
            let tried = join_all(outlets.iter().map(|outlet| tell(deliveries, channels, clock, outlet, entry))).await;
            tried.into_iter().collect::<Result<Vec<()>, _>>().map(|_| ())
        };
        if let Err(error) = told {
            return Told { entries: index, stopped: Some(error) };
        }
    }
    Told { entries: entries.len(), stopped: None }
}

/// One way out for an entry. Another kind of channel is another variant here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Outlet {
    /// The bus: every entry.
    Bus,
    /// An SNS topic.
    Topic(String),
    /// Nobody knows which topics: why.
    Unrouted(String),
}

impl Outlet {
    fn channel(&self) -> String {
        match self {
            Self::Bus => "bus".to_owned(),
            Self::Topic(arn) => format!("topic:{arn}"),
            Self::Unrouted(_) => "unrouted".to_owned(),
        }
    }
}

/// Where an entry goes: each topic once, however many routes lead to it.
fn outlets(routes: &Result<Vec<NotificationPolicy>, String>, entry: &JournalEntry) -> BTreeSet<Outlet> {
    let mut outlets = BTreeSet::from([Outlet::Bus]);
    match routes {
        Ok(routes) => {
            let wanted = routes.iter().filter(|route| route.wants(&entry.target, &entry.fact));
            outlets.extend(wanted.filter_map(|route| match &route.receiver {
                Receiver::Topic(arn) => Some(Outlet::Topic(arn.clone())),
                Receiver::Slack(_) => None,
            }));
        }
        Err(reason) if entry.fact.wants_attention() => {
            outlets.insert(Outlet::Unrouted(reason.clone()));
        }
        Err(_) => {}
    }
    outlets
}

/// Claim, tell, note.
async fn tell(
    deliveries: &impl Deliveries,
    channels: &impl Channels,
    clock: &impl Clock,
    outlet: &Outlet,
    entry: &JournalEntry,
) -> Result<(), NotifyError> {
    let channel = outlet.channel();
    let delivery = DeliveryId { target: entry.target.clone(), sequence: entry.sequence, channel: channel.clone() };
    let now = clock.now();
    let hold = Hold { by: clock.lease_id(), now, until: CLAIM.after(now) };
    let claimed = deliveries.claim(&delivery, &hold).await;
    match claimed.map_err(|source| NotifyError::Ledger { doing: "a delivery could not be claimed", source })? {
        Claimed::Done => return Ok(()),
        Claimed::Elsewhere => return Err(NotifyError::Elsewhere { channel }),
        Claimed::Ours => {}
    }
    let sent = match outlet {
        Outlet::Bus => channels.announce(&announcement(entry)).await,
        Outlet::Topic(arn) => channels.publish(arn, &message(entry)).await,
        Outlet::Unrouted(reason) => Err(SendError::Refused { reason: reason.clone() }),
    };
    let failed = match sent {
        Ok(()) => None,
        Err(SendError::Unsure { reason }) => Some(NotifyError::Channel { channel, reason }),
        // To try again would hold up everything behind it, for nothing.
        Err(SendError::Refused { reason }) => {
            tracing::error!(channel, entry = entry.id(), "refused, and set aside: {reason}");
            match channels.set_aside(&letter(entry, &channel, &reason)).await {
                Ok(()) => None,
                Err(why) => Some(NotifyError::NotSetAside { refused: reason, reason: why }),
            }
        }
    };
    if let Some(error) = failed {
        if let Err(trouble) = deliveries.give_back(&delivery, &hold.by).await {
            tracing::warn!("a delivery stays claimed until its time is over: {trouble}");
        }
        return Err(error);
    }
    // It is told. To ask for it again because the note failed would only tell it twice.
    if let Err(trouble) = deliveries.done(&delivery, clock.now()).await {
        tracing::warn!(entry = entry.id(), "told, and not noted: a redelivery would tell it again: {trouble}");
    }
    Ok(())
}

/// The entry for programs. Keys are never taken away or given another meaning under one `version`.
fn announcement(entry: &JournalEntry) -> Announcement {
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
        "attention": fact.wants_attention(),
        "tone": tone,
        "text": text,
    });
    if let Some(verdict) = verdict(fact) {
        detail["verdict"] = verdict;
    }
    Announcement { at: *at, detail: detail.to_string() }
}

/// The entry for people.
fn message(entry: &JournalEntry) -> Message {
    let view::Notice { subject, text } = view::notice(entry);
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
    Message { subject, text, attributes, group: digits(&target.to_string()), once: digits(&entry.id()) }
}

/// What is laid aside: the entry whole, so that it can be told by hand.
fn letter(entry: &JournalEntry, channel: &str, reason: &str) -> String {
    json!({"notifier": "not told", "channel": channel, "reason": reason, "entry": entry}).to_string()
}

fn verdict(fact: &Fact) -> Option<Value> {
    match fact {
        Fact::Ended { verdict, .. } => serde_json::to_value(verdict).ok(),
        _ => None,
    }
}

/// 32 digits of a text: targets are longer than what SNS takes for an identity.
fn digits(text: &str) -> String {
    Sha256::digest(text).iter().take(16).fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}
