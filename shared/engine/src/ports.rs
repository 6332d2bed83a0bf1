//! What the engine needs of the world, owned here and implemented elsewhere: `aws` on AWS, `simulation` in memory.

mod wake;

pub use wake::Wake;

use rollout::brake::{Brake, BrakeRecord, Lifted, Scope};
use rollout::doctor::Inspection;
use rollout::doctor::seen::Inspected;
use rollout::journal::JournalEntry;
use rollout::look::Look;
use rollout::pace::{Place, Price};
use rollout::policy::{Policy, RegistryPolicy, Resource};
use rollout::promotion::ImageState;
use rollout::target::{DeploymentRecord, TargetState};
use rollout::{
    Command, CommandId, EcsPair, Effect, Name, Outcome, PlanId, Reading, Release, ReleaseId, Seconds, Snapshot,
    TargetId, Timestamp,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::future::Future;

/// Identity of one holding of a target: unique for each pass.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseId(pub String);

/// Why the ledger did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Somebody else wrote in between: the lease is another's, or the revision moved. Start over, or stop.
    #[error("somebody else has written to {target} since it was read")]
    Conflict {
        /// What was written to.
        target: String,
    },
    /// The ledger could not be reached, or was too busy. Perhaps it was written, perhaps not.
    #[error("the ledger did not answer while {doing}: {reason}")]
    Unavailable {
        /// What was being done.
        doing: &'static str,
        /// Why, for people.
        reason: String,
    },
    /// The ledger said no, and will say no again: denied, no such table, more than one write can hold. Nothing was written.
    #[error("the ledger refused {doing}: {reason}")]
    Refused {
        /// What was being done.
        doing: &'static str,
        /// Why, for people.
        reason: String,
    },
    /// Policies of other applications name the same resources. Nothing was applied, and nothing will be while they do.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Claimed(Vec<ClaimedResource>),
    /// What is stored cannot be read: a newer format, or damage. Nothing is guessed.
    #[error("what the ledger holds of {what} cannot be read: {reason}")]
    Unreadable {
        /// Which item.
        what: String,
        /// Why, for people.
        reason: String,
    },
}

/// A resource that a policy may not name because another application's does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClaimedResource {
    /// What both name.
    pub resource: Resource,
    /// The target of the policy that is to be applied.
    pub wanted_by: TargetId,
    /// The target that has it.
    pub claimed_by: TargetId,
}

impl std::fmt::Display for ClaimedResource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { resource, wanted_by, claimed_by } = self;
        write!(f, "{resource}, which {wanted_by} names, belongs to {claimed_by} already")
    }
}

/// A wish to hold a target.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The new holding's identity.
    pub lease: LeaseId,
    /// When it was asked.
    pub now: Timestamp,
    /// How long it is held at most, from now on: the invocation is over then.
    pub lasts: Seconds,
    /// Take the target from this holding if it is still the one: its holder was given longer than its lease.
    pub steal: Option<LeaseId>,
}

/// The answer to a [`Claim`].
#[derive(Debug)]
pub enum Begin {
    /// Held now; this is what is remembered.
    Granted(Box<Loaded>),
    /// Somebody else holds it.
    Held {
        /// Who.
        by: LeaseId,
        /// How long it was taken for at most. A length and no instant: whoever waits for so long, from whenever they have
        /// met the holder, has waited long enough, whatever two clocks say.
        lasts: Seconds,
        /// The wakes that come again for all that have found this holder.
        retries: Retries,
    },
}

/// How often the wake of each kind has come again that retries for all others of its kind while one holder has the target;
/// none: there is no such wake yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retries {
    /// Of [`WakeKind::Usual`].
    pub usual: Option<u8>,
    /// Of [`WakeKind::Urgent`].
    pub urgent: Option<u8>,
    /// Of [`WakeKind::AtRest`].
    pub at_rest: Option<u8>,
}

impl Retries {
    /// Of one kind.
    #[must_use]
    pub fn of(self, kind: WakeKind) -> Option<u8> {
        match kind {
            WakeKind::Usual => self.usual,
            WakeKind::Urgent => self.urgent,
            WakeKind::AtRest => self.at_rest,
        }
    }
}

/// What a wake asks for: one that asks for less does not retry for one that asks for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WakeKind {
    /// A look at what is deployed.
    Usual,
    /// The same, at once.
    Urgent,
    /// A look also where nothing is deployed.
    AtRest,
}

impl WakeKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Usual, Self::Urgent, Self::AtRest];

    /// Its name, in snake case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Usual => "usual",
            Self::Urgent => "urgent",
            Self::AtRest => "at_rest",
        }
    }
}

/// A wake that found its target held, and would come again.
#[derive(Debug, Clone, Copy)]
pub struct Retry<'a> {
    /// Who holds the target.
    pub holder: &'a LeaseId,
    /// What the wake asks for.
    pub kind: WakeKind,
    /// How often it has come again already, while this holder had the target.
    pub tries: u8,
}

/// The answer to a [`Retry`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryNoted {
    /// It is the one that comes again.
    Yes,
    /// Another one of its kind does.
    Another,
    /// The target is not held by that holder any more.
    Free,
}

/// A target that is held.
#[derive(Debug)]
pub struct Loaded {
    /// What is remembered; a new state for a target that was never written.
    pub state: TargetState,
    /// Counts every commit; a commit names the one that it was decided on.
    pub revision: u64,
    /// It was taken from a holder that died. Counted, and nothing is decided by it.
    pub stolen: bool,
}

/// A target that somebody should have looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Overdue {
    /// Since when its earliest wake or command is due.
    pub since: Timestamp,
    /// Which.
    pub target: TargetId,
}

/// What a decision wants written, all of it or nothing.
#[derive(Debug)]
pub struct Commit<'a> {
    /// The next state.
    pub state: &'a TargetState,
    /// What happened. Sequences continue the target's; an entry is written once, never over another.
    pub journal: &'a [JournalEntry],
    /// Deployments to write into the history, by number.
    pub history: &'a [DeploymentRecord],
    /// Commands that are done with.
    pub consumed: &'a [CommandId],
    /// When the sweeper shall wake the target if nothing else does; none: it is at rest.
    pub due_at: Option<Timestamp>,
    /// Give the lease back with this write.
    pub release_lease: bool,
}

/// A policy as the ledger holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Counts up from 1 for each application.
    pub version: u64,
    /// The checked policy.
    pub policy: Policy,
    /// The file's text, as it was applied.
    pub text: String,
    /// When.
    pub at: Timestamp,
    /// Who applied it, as their identity's issuer writes it.
    pub by: String,
}

/// The tags that a repository had when it was last compared with the ledger: a tag that is not among them was put there
/// since, whatever the age of its image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagsSeen {
    /// What was compared: registry and repository.
    pub source: String,
    /// When the comparison began.
    pub at: Timestamp,
    /// Images that were pushed before this are not among them; none: all are.
    pub since: Option<Timestamp>,
    /// A hash of 64 bits for each tag together with its image's digest.
    pub tags: BTreeSet<u64>,
}

/// Something outside that targets or services are concerned with: what an event names, to be looked up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Watch {
    /// A CloudWatch alarm, by name.
    Alarm(String),
    /// An ECS service: name of the cluster, name of the service.
    EcsService(String, String),
    /// An ECR repository, by name.
    Repository(String),
    /// A listener rule, or a listener whose default action is meant, by ARN.
    Rule(String),
}

/// All deployment state. No implementation may scan: every question is answered by key.
pub trait Ledger: Sync {
    // --- the drive loop ---

    /// Takes the target's lease if it is free, or is the one that the claim may steal, and reads its state: one round trip.
    fn begin(&self, target: &TargetId, claim: &Claim) -> impl Future<Output = Result<Begin, LedgerError>> + Send;
    /// Commands that are not consumed, oldest first, at most 50.
    fn commands(&self, target: &TargetId) -> impl Future<Output = Result<Vec<Command>, LedgerError>> + Send;
    /// Writes a decision if the lease and the revision still hold; answers the new revision.
    ///
    /// Writing the same commit twice (the answer was lost) is a [`LedgerError::Conflict`] the second time, never a second write.
    fn commit(
        &self,
        target: &TargetId,
        lease: &LeaseId,
        revision: u64,
        commit: &Commit<'_>,
    ) -> impl Future<Output = Result<u64, LedgerError>> + Send;
    /// Joins the row before AWS's API budgets, of which there is one for all targets: answers the place, which is the
    /// caller's whether it is used or not.
    fn take_place(&self, price: &Price, now: Timestamp) -> impl Future<Output = Result<Place, LedgerError>> + Send;
    /// Notes that a wake comes again that found the target held, if none of its kind does so already, or if it is that one: of all
    /// wakes that find one holder, one of each kind is retried, and each of its tries once.
    fn note_retry(
        &self,
        target: &TargetId,
        retry: &Retry<'_>,
    ) -> impl Future<Output = Result<RetryNoted, LedgerError>> + Send;
    /// Gives the lease back without writing anything else. No error if it is another's by now.
    fn release(&self, target: &TargetId, lease: &LeaseId) -> impl Future<Output = Result<(), LedgerError>> + Send;

    // --- intake ---

    /// Writes a release if it is new; else adds what the record knows beyond the one that is there ([`Release::merge`]):
    /// tags, and that it was asked for. Answers what was there before; none: it was new.
    fn put_release(&self, release: &Release) -> impl Future<Output = Result<Option<Release>, LedgerError>> + Send;
    /// The tags that the registry had for a service when it was last compared with the ledger; none: it never was.
    fn tags_seen(
        &self,
        application: &Name,
        service: &Name,
    ) -> impl Future<Output = Result<Option<TagsSeen>, LedgerError>> + Send;
    /// Writes them, in place of those of the comparison before.
    fn put_tags_seen(
        &self,
        application: &Name,
        service: &Name,
        seen: &TagsSeen,
    ) -> impl Future<Output = Result<(), LedgerError>> + Send;
    /// Writes a command if one of its id was never written to this target (within 30 days of it); answers whether it was new.
    /// The command is due at once: the sweeper wakes its target if its wake is lost.
    fn put_command(&self, command: &Command) -> impl Future<Output = Result<bool, LedgerError>> + Send;
    /// The targets that are concerned with `watch`; for a repository: nothing (see [`Ledger::services`]).
    fn targets_watching(&self, watch: &Watch) -> impl Future<Output = Result<Vec<TargetId>, LedgerError>> + Send;
    /// The services (application, service) whose images come from `repository`.
    fn services(&self, repository: &str) -> impl Future<Output = Result<Vec<(Name, Name)>, LedgerError>> + Send;
    /// Targets whose wake, or whose command's, is due at `now` or before: the most overdue first, at most `limit`.
    fn overdue(&self, now: Timestamp, limit: usize) -> impl Future<Output = Result<Vec<Overdue>, LedgerError>> + Send;

    // --- policy ---

    /// Writes a policy as the next version, with its watches, and takes away the watches of what it no longer names;
    /// answers the version. A text equal to the present one's is not written again.
    ///
    /// [`LedgerError::Claimed`] where another application's policy names a resource of this one, however many are applied
    /// at once: of two that name the same, one is refused.
    fn apply(
        &self,
        policy: &Policy,
        text: &str,
        at: Timestamp,
        by: &str,
    ) -> impl Future<Output = Result<u64, LedgerError>> + Send;
    /// The present policy of an application.
    fn policy(&self, application: &Name) -> impl Future<Output = Result<Option<Applied>, LedgerError>> + Send;
    /// The names of all applications that have a policy.
    fn applications(&self) -> impl Future<Output = Result<Vec<Name>, LedgerError>> + Send;

    // --- brakes ---

    /// The brakes that are on, those whose time is over included.
    fn brakes(&self) -> impl Future<Output = Result<Vec<Brake>, LedgerError>> + Send;
    /// Sets a brake, in place of what its scope had, and notes that in the log.
    fn put_brake(&self, brake: &Brake) -> impl Future<Output = Result<(), LedgerError>> + Send;
    /// Takes the brake of a scope away and notes who did it; answers the brake, none where there was none.
    fn lift_brake(
        &self,
        scope: &Scope,
        lifted: &Lifted,
    ) -> impl Future<Output = Result<Option<Brake>, LedgerError>> + Send;
    /// What was done about brakes, newest first.
    fn brake_log(&self, limit: usize) -> impl Future<Output = Result<Vec<BrakeRecord>, LedgerError>> + Send;

    // --- questions ---

    /// What is remembered of a target, without holding it.
    fn state(&self, target: &TargetId) -> impl Future<Output = Result<Option<TargetState>, LedgerError>> + Send;
    /// Deployments of a target, newest first.
    fn history(
        &self,
        target: &TargetId,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<DeploymentRecord>, LedgerError>> + Send;
    /// Journal entries of a target with a sequence above `after`, oldest first.
    fn journal(
        &self,
        target: &TargetId,
        after: u64,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<JournalEntry>, LedgerError>> + Send;
    /// The newest `limit` journal entries of a target, oldest first.
    fn journal_tail(
        &self,
        target: &TargetId,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<JournalEntry>, LedgerError>> + Send;
    /// Releases of a service, newest push first.
    fn releases(
        &self,
        application: &Name,
        service: &Name,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Release>, LedgerError>> + Send;
    /// One release.
    fn release_by_id(&self, id: &ReleaseId) -> impl Future<Output = Result<Option<Release>, LedgerError>> + Send;
}

/// What runs, and what is looked at. The only way to ECS, the balancers, autoscaling, alarms and hooks.
pub trait Cloud: Sync {
    /// Reads everything that `look` names, in parallel. Never fails: what could not be read is `Unknown`.
    fn observe(&self, look: &Look) -> impl Future<Output = Snapshot> + Send;
    /// Makes `effect` true. Whatever happens is an outcome; calls that take longer than the lease allows are cut off
    /// by time-outs of the implementation's own.
    fn perform(&self, pair: &EcsPair, effect: &Effect) -> impl Future<Output = Outcome> + Send;
    /// Whether the registry still has an image, by its reference: `registry/repository@sha256:…`. Read before a deployment begins,
    /// and never on the way back.
    fn image(&self, image: &str) -> impl Future<Output = Reading<ImageState>> + Send {
        let _ = image;
        async { Reading::Unknown("no registry is read here".to_owned()) }
    }
    /// Since when an alarm fires, as the last look has seen it: to measure how long the way back took, and for nothing
    /// else. None where that is not known.
    fn firing_since(&self, alarm: &str) -> Option<Timestamp> {
        let _ = alarm;
        None
    }
}

/// Reads an account for the doctor: far more than a look does, and only when somebody asks.
pub trait Inspector: Sync {
    /// Reads everything that the inspection names, and changes nothing. Never fails: what could not be read is `Unknown`.
    fn inspect(&self, inspection: &Inspection) -> impl Future<Output = Inspected> + Send;
}

/// An image that a registry holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedImage {
    /// `registry/repository`, without tag or digest.
    pub repository_uri: String,
    /// Content address.
    pub digest: rollout::ImageDigest,
    /// Its tags.
    pub tags: Vec<String>,
    /// When it was pushed.
    pub pushed_at: Timestamp,
    /// The manifest's artifact media type, where it says one: signatures and charts are no images.
    pub artifact_media_type: Option<String>,
}

/// The image registry, read only.
pub trait Registry: Sync {
    /// The tagged images of a repository, all pages of them, in no order.
    /// The error is for people; the sweep goes on with the next repository.
    fn images(
        &self,
        registry: &RegistryPolicy,
        repository: &str,
    ) -> impl Future<Output = Result<Vec<PushedImage>, String>> + Send;
}

/// Wakes targets, sooner or later, at least once.
pub trait WakeQueue: Sync {
    /// Wakes the target after `delay`; a delay above the implementation's longest (SQS: 900 s) is cut to it.
    /// The error is for people: a wake that is lost is found by the sweeper.
    fn send(&self, wake: &Wake, delay: Seconds) -> impl Future<Output = Result<(), String>> + Send;
}

/// One thing to be told to one channel: what a redelivery is recognised by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId {
    /// Whose journal.
    pub target: TargetId,
    /// Which entry of it.
    pub sequence: u64,
    /// Where it goes: `bus`, `topic:…`.
    pub channel: String,
}

/// A wish to be the one who tells.
#[derive(Debug, Clone)]
pub struct Hold {
    /// Who: unique for each try.
    pub by: LeaseId,
    /// When it was asked.
    pub now: Timestamp,
    /// From then on somebody else may take over.
    pub until: Timestamp,
}

/// The answer to a [`Hold`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimed {
    /// Nobody else tells it until the hold is over.
    Ours,
    /// It was told.
    Done,
    /// Somebody else is at it, or died at it a short while ago.
    Elsewhere,
}

/// What was told already.
pub trait Deliveries: Sync {
    /// Takes the delivery if it was never taken, or was taken and not finished by whoever's hold is over.
    fn claim(&self, delivery: &DeliveryId, hold: &Hold) -> impl Future<Output = Result<Claimed, LedgerError>> + Send;
    /// Notes that it was told. It is remembered for longer than anything is delivered again.
    fn done(&self, delivery: &DeliveryId, now: Timestamp) -> impl Future<Output = Result<(), LedgerError>> + Send;
    /// Gives a delivery back that could not be told, so that the next try need not wait for the hold to end.
    fn give_back(&self, delivery: &DeliveryId, by: &LeaseId) -> impl Future<Output = Result<(), LedgerError>> + Send;
}

/// Something that is posted once and edited after that: who it is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PostKey {
    /// The thread of a release in a channel.
    Thread {
        /// What.
        release: ReleaseId,
        /// Where.
        channel: String,
    },
    /// A deployment in a channel.
    Deployment {
        /// Of which target.
        target: TargetId,
        /// Its number.
        number: u64,
        /// Where.
        channel: String,
    },
}

/// Something that was posted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Post {
    /// The channel's own name for it, by which it is edited: Slack's `ts`.
    pub id: String,
    /// Digest of what it says: it is edited only where that changes.
    pub says: String,
}

/// What was posted, to be edited later.
pub trait Posts: Sync {
    /// What was posted under a key.
    fn post(&self, key: &PostKey) -> impl Future<Output = Result<Option<Post>, LedgerError>> + Send;
    /// Remembers what was posted under a key, for 90 days from `now`.
    fn put_post(
        &self,
        key: &PostKey,
        post: &Post,
        now: Timestamp,
    ) -> impl Future<Output = Result<(), LedgerError>> + Send;
}

/// Why something was not told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Throttled, unreachable, or no answer: perhaps it was told, perhaps not. Worth another try.
    #[error("{reason}")]
    Unsure {
        /// Why, for people.
        reason: String,
    },
    /// Denied, or no such topic: another try will get the same answer.
    #[error("{reason}")]
    Refused {
        /// Why, for people.
        reason: String,
    },
}

/// A journal entry for programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// When it happened.
    pub at: Timestamp,
    /// The entry, as JSON of the documented shape.
    pub detail: String,
}

/// A journal entry for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// One line of ASCII.
    pub subject: String,
    /// The words.
    pub text: String,
    /// What receivers may filter by.
    pub attributes: Vec<(&'static str, String)>,
    /// Messages of one group keep their order, where the channel keeps any: 32 digits, the same for each target.
    pub group: String,
    /// The same for each repetition of the message: 32 digits.
    pub once: String,
}

pub use view::slack::Chat;

/// What became of an edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edited {
    /// It says the new thing.
    Done,
    /// Somebody took it away, or it cannot be edited any more.
    Gone,
}

/// What a person is to answer by a link.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// Where.
    pub target: &'a TargetId,
    /// Which deployment.
    pub deployment: u64,
    /// What they are to look at.
    pub plan: &'a PlanId,
    /// Who, by the policy's name.
    pub person: &'a Name,
    /// ARN of their topic: where the link is sent.
    pub topic: &'a str,
    /// Until when.
    pub expires: Timestamp,
}

/// Where the journal is told: programs on a bus, people through topics and in chats.
pub trait Channels: Sync {
    /// Puts it on the bus.
    fn announce(&self, announcement: &Announcement) -> impl Future<Output = Result<(), SendError>> + Send;
    /// Publishes it to a topic, by ARN.
    fn publish(&self, topic: &str, message: &Message) -> impl Future<Output = Result<(), SendError>> + Send;
    /// Posts to a chat's channel, into the thread of a message where one is named; answers what it is edited by. Asked
    /// twice, it stands there twice.
    fn say(
        &self,
        channel: &str,
        thread: Option<&str>,
        chat: &Chat,
    ) -> impl Future<Output = Result<String, SendError>> + Send;
    /// Puts something else in the place of what was posted to a chat's channel.
    fn edit(&self, channel: &str, id: &str, chat: &Chat) -> impl Future<Output = Result<Edited, SendError>> + Send;
    /// The address of the page on which one person answers; signed, and theirs alone. The same asking has the same one.
    fn link(&self, asking: &Asking<'_>) -> impl Future<Output = Result<String, SendError>> + Send;
    /// Lays something aside that cannot be told, with the reason, where a person looks. The error is for people.
    fn set_aside(&self, letter: &str) -> impl Future<Output = Result<(), String>> + Send;
}

/// The time, and identities that nobody else has.
pub trait Clock: Sync {
    /// Now.
    fn now(&self) -> Timestamp;
    /// A lease identity that was never given before.
    fn lease_id(&self) -> LeaseId;
}
