//! The journal told: each entry to the bus, and to every topic and chat that the policy in force names for it.
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
//! the later ones. A chat stops them for [`PATIENCE_WITH_CHATS`] at most.
//!
//! | module | what it does |
//! |---|---|
//! | `chat` | a message a deployment in a thread a release, edited in place |

mod chat;

use crate::ports::{
    Announcement, Asking, Channels, Claimed, Clock, Deliveries, DeliveryId, Hold, Ledger, LedgerError, Message, Posts,
    SendError,
};
use crate::{measure, story};
use futures::future::join_all;
use rollout::journal::{Fact, JournalEntry};
use rollout::policy::{NotificationPolicy, Receiver};
use rollout::{Name, Policy, Seconds, TargetId, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use tracing::Instrument as _;

/// The `source` of what is put on the bus.
pub const SOURCE: &str = "switchback";
/// The `detail-type` of what is put on the bus.
pub const DETAIL_TYPE: &str = "Switchback Journal Entry";
/// The version of the detail's shape. Keys are added without a new one; it counts up when a rule could break.
const DETAIL_VERSION: u32 = 1;

/// How long a delivery stays with whoever claimed it: longer than an invocation of the notifier lasts, so that only the
/// claim of a dead one is taken over.
pub const CLAIM: Seconds = Seconds(90);

/// How old an entry may be that a chat holds up. An older one is set aside if the chat still does not take it: programs
/// and mails do not wait for a chat's outage to end, and its messages say the newest as soon as it takes any.
pub const PATIENCE_WITH_CHATS: Seconds = Seconds(15 * 60);

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
    ledger: &(impl Ledger + Deliveries + Posts),
    channels: &impl Channels,
    clock: &impl Clock,
    entries: &[JournalEntry],
    until: Timestamp,
) -> Told {
    let Some(first) = entries.first() else { return Told { entries: 0, stopped: None } };
    let policy = match ledger.policy(&first.target.application).await {
        Ok(applied) => Ok(applied.map(|applied| applied.policy)),
        // It will not become readable by waiting: programs are told all the same, people find it among the dead letters.
        Err(LedgerError::Unreadable { what, reason }) => Err(format!("{what} cannot be read: {reason}")),
        Err(source) => {
            let stopped = NotifyError::Ledger { doing: "the policy could not be read", source };
            return Told { entries: 0, stopped: Some(stopped) };
        }
    };
    let teller = Teller { ledger, channels, clock, policy: &policy, until };
    for (index, entry) in entries.iter().enumerate() {
        let span = story::of(&entry.target);
        span.in_scope(|| story::about(entry.deployment, None));
        let told = if FOR_AN_ENTRY.after(clock.now()) > until {
            Err(NotifyError::OutOfTime)
        } else {
            // Channels do not wait for each other. All of them are tried, whichever fails.
            let outlets = outlets(&policy, entry);
            let tried =
                join_all(outlets.iter().map(|outlet| teller.tell(outlet, entry))).instrument(span.clone()).await;
            tried.into_iter().collect::<Result<Vec<()>, _>>().map(|_| ())
        };
        if told.is_ok() {
            measure::TOLD.count(1);
            span.in_scope(|| tracing::info!(entry = entry.id(), fact = entry.fact.name(), "told"));
        }
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
    /// A person's own topic, with a link to answer by.
    Link {
        /// Who, by the policy's name.
        person: Name,
        /// ARN of the topic.
        topic: String,
    },
    /// A chat's channel that is to be told of it.
    Chat(String),
    /// A chat's channel that is not, and may have a message that the entry changes.
    ChatBeside(String),
    /// Nobody knows which topics: why.
    Unrouted(String),
}

impl Outlet {
    fn channel(&self) -> String {
        match self {
            Self::Bus => "bus".to_owned(),
            Self::Topic(arn) => format!("topic:{arn}"),
            Self::Link { person, .. } => format!("link:{person}"),
            Self::Chat(channel) | Self::ChatBeside(channel) => format!("slack:{channel}"),
            Self::Unrouted(_) => "unrouted".to_owned(),
        }
    }

    /// How old an entry may be that this outlet holds up; none: as old as it gets.
    fn patience(&self) -> Option<Seconds> {
        matches!(self, Self::Chat(_)).then_some(PATIENCE_WITH_CHATS)
    }
}

/// Where an entry goes: each receiver once, however many routes lead to it.
fn outlets(policy: &Result<Option<Policy>, String>, entry: &JournalEntry) -> BTreeSet<Outlet> {
    let mut outlets = BTreeSet::from([Outlet::Bus]);
    let policy = match policy {
        Ok(Some(policy)) => policy,
        Ok(None) => return outlets,
        Err(reason) => {
            if entry.fact.wants_attention() {
                outlets.insert(Outlet::Unrouted(reason.clone()));
            }
            return outlets;
        }
    };
    let mut chats: BTreeMap<&str, bool> = BTreeMap::new();
    for route in policy.notifications.iter().filter(|route| concerns(route, &entry.target)) {
        let wants = route.wants(&entry.target, &entry.fact);
        match &route.receiver {
            Receiver::Topic(arn) if wants => {
                outlets.insert(Outlet::Topic(arn.clone()));
            }
            Receiver::Topic(_) => {}
            Receiver::Slack(channel) => *chats.entry(channel).or_default() |= wants,
        }
    }
    outlets.extend(chats.into_iter().filter_map(|(channel, wants)| {
        if wants {
            Some(Outlet::Chat(channel.to_owned()))
        } else {
            entry.deployment.is_some().then(|| Outlet::ChatBeside(channel.to_owned()))
        }
    }));
    if let Fact::ApprovalRequested { approvers, .. } = &entry.fact {
        outlets.extend(approvers.iter().filter_map(|person| {
            let topic = policy.people.get(person)?.mail.clone()?;
            Some(Outlet::Link { person: person.clone(), topic })
        }));
    }
    outlets
}

/// Whether a route has anything to do with a target, whatever happens there.
fn concerns(route: &NotificationPolicy, target: &TargetId) -> bool {
    let among = |names: &[Name], name: &Name| names.is_empty() || names.contains(name);
    among(&route.environments, &target.environment) && among(&route.services, &target.service)
}

/// Tells entries of one application.
struct Teller<'a, L, C, K> {
    ledger: &'a L,
    channels: &'a C,
    clock: &'a K,
    /// In force; none: there is none. Else why it cannot be read.
    policy: &'a Result<Option<Policy>, String>,
    /// When the invocation is over.
    until: Timestamp,
}

impl<L: Ledger + Deliveries + Posts, C: Channels, K: Clock> Teller<'_, L, C, K> {
    /// Claim, tell, note.
    async fn tell(&self, outlet: &Outlet, entry: &JournalEntry) -> Result<(), NotifyError> {
        let channel = outlet.channel();
        if let Outlet::ChatBeside(room) = outlet {
            // An edit may be made twice, and what this one would say the next one says, too.
            if let Err(trouble) = self.keep_up(room, entry).await {
                tracing::warn!(channel, entry = entry.id(), "a message was not brought up to date: {trouble}");
            }
            return Ok(());
        }
        let delivery = DeliveryId { target: entry.target.clone(), sequence: entry.sequence, channel: channel.clone() };
        let now = self.clock.now();
        let hold = Hold { by: self.clock.lease_id(), now, until: CLAIM.after(now) };
        let claimed = self.ledger.claim(&delivery, &hold).await;
        match claimed.map_err(|source| NotifyError::Ledger { doing: "a delivery could not be claimed", source })? {
            Claimed::Done => return Ok(()),
            Claimed::Elsewhere => return Err(NotifyError::Elsewhere { channel }),
            Claimed::Ours => {}
        }
        let failed = match self.send(outlet, entry).await {
            Ok(()) => None,
            Err(SendError::Unsure { reason }) if !self.is_out_of_patience(outlet, entry) => {
                Some(NotifyError::Channel { channel, reason })
            }
            // To try again would hold up everything behind it, for nothing.
            Err(SendError::Refused { reason } | SendError::Unsure { reason }) => {
                tracing::error!(channel, entry = entry.id(), "refused, and set aside: {reason}");
                measure::SET_ASIDE.count(1);
                match self.channels.set_aside(&letter(entry, &channel, &reason)).await {
                    Ok(()) => None,
                    Err(why) => Some(NotifyError::NotSetAside { refused: reason, reason: why }),
                }
            }
        };
        if let Some(error) = failed {
            if let Err(trouble) = self.ledger.give_back(&delivery, &hold.by).await {
                tracing::warn!("a delivery stays claimed until its time is over: {trouble}");
            }
            return Err(error);
        }
        // It is told. To ask for it again because the note failed would only tell it twice.
        if let Err(trouble) = self.ledger.done(&delivery, self.clock.now()).await {
            tracing::warn!(entry = entry.id(), "told, and not noted: a redelivery would tell it again: {trouble}");
        }
        Ok(())
    }

    async fn send(&self, outlet: &Outlet, entry: &JournalEntry) -> Result<(), SendError> {
        match outlet {
            Outlet::Bus => self.channels.announce(&announcement(entry)).await,
            Outlet::Topic(arn) => self.channels.publish(arn, &message(entry)).await,
            Outlet::Link { person, topic } => self.ask(person, topic, entry).await,
            Outlet::Chat(channel) | Outlet::ChatBeside(channel) => self.talk(channel, entry).await,
            Outlet::Unrouted(reason) => Err(SendError::Refused { reason: reason.clone() }),
        }
    }

    fn is_out_of_patience(&self, outlet: &Outlet, entry: &JournalEntry) -> bool {
        outlet.patience().is_some_and(|patience| patience.after(entry.at) < self.clock.now())
    }

    /// Sends one person the link by which they answer.
    async fn ask(&self, person: &Name, topic: &str, entry: &JournalEntry) -> Result<(), SendError> {
        let (Fact::ApprovalRequested { plan, expires_at, .. }, Some(deployment)) = (&entry.fact, entry.deployment)
        else {
            return Ok(());
        };
        // Held up for so long that no answer would be taken any more.
        if *expires_at <= self.clock.now() {
            return Ok(());
        }
        let asking = Asking { target: &entry.target, deployment, plan, person, topic, expires: *expires_at };
        let link = self.channels.link(&asking).await?;
        let Some(notice) = view::ask(entry, person, &link) else { return Ok(()) };
        let once = digits(&format!("{} {person}", entry.id()));
        self.channels.publish(topic, &Message { once, ..addressed(entry, notice) }).await
    }
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
    addressed(entry, view::notice(entry))
}

fn addressed(entry: &JournalEntry, notice: view::Notice) -> Message {
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

#[cfg(test)]
mod tests;
