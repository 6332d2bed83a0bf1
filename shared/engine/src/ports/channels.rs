//! Notification channels for people and programs, and the record of what was delivered.

use super::{LeaseId, LedgerError};
use rollout::{Name, PlanId, ReleaseId, Seconds, TargetId, Timestamp};
use serde::{Deserialize, Serialize};
use std::future::Future;

/// Identity of one delivery to one channel, by which a redelivery is recognized.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId {
    /// Target of the journal.
    pub target: TargetId,
    /// Sequence of the journal entry.
    pub sequence: u64,
    /// Destination: `bus`, `topic:…`.
    pub channel: String,
}

/// A request to be the only one to send a delivery.
#[derive(Debug, Clone)]
pub struct DeliveryClaim {
    /// The claimant: unique for each attempt.
    pub by: LeaseId,
    /// Time of the request.
    pub now: Timestamp,
    /// Expiry: from then on another claimant may take over.
    pub until: Timestamp,
}

/// The response to a [`DeliveryClaim`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimOutcome {
    /// Claimed: no other claimant sends it until the claim expires.
    Acquired,
    /// The delivery was made already.
    AlreadySent,
    /// Another claimant is sending it, or died a short while ago.
    HeldElsewhere,
}

/// The record of deliveries.
pub trait Deliveries: Sync {
    /// Claims the delivery if it was never claimed, or if its claim expired before it was done.
    fn claim(
        &self,
        delivery: &DeliveryId,
        hold: &DeliveryClaim,
    ) -> impl Future<Output = Result<ClaimOutcome, LedgerError>> + Send;
    /// Marks it as sent. Remembered for longer than any redelivery can occur.
    fn done(&self, delivery: &DeliveryId, now: Timestamp) -> impl Future<Output = Result<(), LedgerError>> + Send;
    /// Releases the claim of a failed delivery, so that the next attempt need not wait for it to expire.
    fn release_claim(
        &self,
        delivery: &DeliveryId,
        by: &LeaseId,
    ) -> impl Future<Output = Result<(), LedgerError>> + Send;
}

/// Key of a message that is posted once and then edited.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PostedMessageKey {
    /// The thread of a release in a channel.
    Thread {
        /// The release.
        release: ReleaseId,
        /// The chat channel.
        channel: String,
    },
    /// The message of a deployment in a channel.
    Deployment {
        /// The deployment's target.
        target: TargetId,
        /// The deployment's number.
        number: u64,
        /// The chat channel.
        channel: String,
    },
}

/// A posted message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostedMessage {
    /// The chat's own ID, used for edits: Slack's `ts`.
    pub id: String,
    /// Hash of its content: it is edited only if this changes.
    pub content_hash: String,
}

/// The record of posted messages.
pub trait PostedMessages: Sync {
    /// The message posted under a key.
    fn posted_message(
        &self,
        key: &PostedMessageKey,
    ) -> impl Future<Output = Result<Option<PostedMessage>, LedgerError>> + Send;
    /// Records the message posted under a key, for 90 days from `now`.
    fn record_posted_message(
        &self,
        key: &PostedMessageKey,
        post: &PostedMessage,
        now: Timestamp,
    ) -> impl Future<Output = Result<(), LedgerError>> + Send;
}

/// Why a message was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Throttled, unreachable, or no response: it may or may not have been sent. Worth a retry.
    #[error("{reason}")]
    Unsure {
        /// Free text for people.
        reason: String,
    },
    /// Not sent: the channel limits the rate and says for how long.
    #[error("{reason}")]
    RateLimited {
        /// Time from this answer on, before which the channel accepts no call.
        after: Seconds,
        /// Free text for people.
        reason: String,
    },
    /// Denied, or no such topic: a retry will get the same answer.
    #[error("{reason}")]
    Refused {
        /// Free text for people.
        reason: String,
    },
}

/// A journal entry for programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusEvent {
    /// Time of the entry.
    pub at: Timestamp,
    /// The entry, as JSON of the documented shape.
    pub detail: String,
}

/// A journal entry for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicMessage {
    /// One line of ASCII.
    pub subject: String,
    /// Message body.
    pub text: String,
    /// Attributes for subscribers' filters.
    pub attributes: Vec<(&'static str, String)>,
    /// Messages of one group keep their order, if the channel supports it: 32 hexadecimal digits, the same for each target.
    pub group: String,
    /// The same for each repetition of the message: 32 hexadecimal digits.
    pub deduplication_id: String,
}

pub use view::slack::ChatMessage;

/// Result of an edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EditOutcome {
    /// The message has the new content.
    Done,
    /// The message was deleted, or can no longer be edited.
    Gone,
}

/// Scope of an approval link.
#[derive(Debug, Clone, Copy)]
pub struct ApprovalLinkRequest<'a> {
    /// The target that the deployment belongs to.
    pub target: &'a TargetId,
    /// The deployment's number.
    pub deployment: u64,
    /// The plan to review.
    pub plan: &'a PlanId,
    /// The person's name in the policy.
    pub person: &'a Name,
    /// ARN of their topic, to which the link is sent.
    pub topic: &'a str,
    /// Expiry time.
    pub expires: Timestamp,
}

/// Delivers the journal: to programs on a bus, to people through topics and chats.
pub trait Channels: Sync {
    /// Puts an event on the bus.
    fn publish_event(&self, announcement: &BusEvent) -> impl Future<Output = Result<(), SendError>> + Send;
    /// Publishes a message to a topic, by ARN.
    fn publish(&self, topic: &str, message: &TopicMessage) -> impl Future<Output = Result<(), SendError>> + Send;
    /// Posts to a chat channel, into the thread of a message if one is named; returns the ID used for edits. Not
    /// idempotent: a repeated call posts twice.
    fn post_message(
        &self,
        channel: &str,
        thread: Option<&str>,
        chat: &ChatMessage,
    ) -> impl Future<Output = Result<String, SendError>> + Send;
    /// Replaces the content of a posted chat message.
    fn edit_message(
        &self,
        channel: &str,
        id: &str,
        chat: &ChatMessage,
    ) -> impl Future<Output = Result<EditOutcome, SendError>> + Send;
    /// Waits for the end of a rate limit: a call made afterwards is not early ([`SendError::RateLimited`]).
    fn wait_for_rate_limit(&self, time: Seconds) -> impl Future<Output = ()> + Send;
    /// URL of the page on which one person approves or rejects; signed, and only for that person. Deterministic for the
    /// same request.
    fn approval_link(
        &self,
        request: &ApprovalLinkRequest<'_>,
    ) -> impl Future<Output = Result<String, SendError>> + Send;
    /// Moves an undeliverable message, with the reason, to the dead-letter queue. The error is for people.
    fn dead_letter(&self, dead_letter_body: &str) -> impl Future<Output = Result<(), String>> + Send;
}
