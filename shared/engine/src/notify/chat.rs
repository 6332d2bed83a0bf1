//! Chats: one thread per release and channel, whose first message shows where the release is deployed, with one message per
//! deployment. Both are edited in place.
//!
//! A message is rendered from the present ledger state, not from the triggering entry: late, repeated or concurrent entries
//! produce the same message, and it is edited only if its content changes. After an edit the ledger is read once more, since two
//! concurrent edits of one message may be applied in the wrong order: the last reader sees the newest state and posts it.
//!
//! Posted messages are remembered by subject. A chat has no message identity by which it would drop duplicates: if the response
//! to the first posting, or its record, is lost, the message is posted again.
//!
//! A chat that limits the rate says when it accepts calls again. A short time is waited for, and the call is made once
//! more; after a longer one the entry is delivered again. Until then the channel itself rejects every call.

use super::{DELIVERY_CLAIM_DURATION, Notifier, NotifierLedger, short_hash};
use crate::ports::{
    Channels, ChatMessage, ClaimOutcome, Clock, DeliveryClaim, DeliveryId, EditOutcome, LedgerError, PostedMessage,
    PostedMessageKey, SendError,
};
use futures::future::{join, join_all};
use rollout::deployment::DeploymentRecord;
use rollout::journal::{Fact, JournalEntry};
use rollout::release::ReleaseRef;
use rollout::target::TargetState;
use rollout::verdict::Verdict;
use rollout::{Actor, ImageDigest, Name, Policy, ReleaseId, Seconds, TargetId};
use std::collections::{BTreeMap, BTreeSet};
use view::slack::{DeploymentSummary, EnvironmentState, ReleaseSummary};

/// How many journal entries are searched for those of a deployment.
const MAX_JOURNAL_ENTRIES: usize = 60;
/// How many deployments are searched for a finished one.
const MAX_HISTORY: usize = 50;
/// Time that must be left in an invocation for one chat call and its record.
const TIME_PER_CALL: Seconds = Seconds(8);
/// Longest rate limit that is waited for within an invocation: the wait is billed, and holds up everything behind the
/// entry.
const MAX_RATE_LIMIT_WAIT: Seconds = Seconds(10);
/// How often a message is edited again because its content changed during the edit.
const MAX_EDITS: usize = 3;

/// The subject of a message.
enum Subject<'a> {
    Release(&'a ReleaseRef),
    Deployment(&'a TargetId, u64),
}

/// A deployment as the ledger has it now.
struct DeploymentSnapshot {
    release: ReleaseRef,
    actor: Actor,
    /// The target's state, if this deployment is the running one.
    state: Option<TargetState>,
    ended: Option<(Verdict, String)>,
    entries: Vec<JournalEntry>,
}

impl DeploymentSnapshot {
    fn progress<'a>(&'a self, target: &'a TargetId, number: u64, people: &'a PeopleByName) -> DeploymentSummary<'a> {
        DeploymentSummary {
            target,
            number,
            release: &self.release,
            actor: &self.actor,
            state: self.state.as_ref(),
            ended: self.ended.as_ref().map(|(verdict, reason)| (*verdict, reason.as_str())),
            entries: &self.entries,
            people,
        }
    }
}

type PeopleByName = BTreeMap<Name, rollout::entry::Person>;

/// An unavailable ledger may answer later; an unreadable item stays unreadable.
fn to_send_error(error: LedgerError) -> SendError {
    let reason = error.to_string();
    match error {
        LedgerError::Conflict { .. } | LedgerError::Locked { .. } | LedgerError::Unavailable { .. } => {
            SendError::Unsure { reason }
        }
        LedgerError::Refused { .. } | LedgerError::ResourceConflict(_) | LedgerError::Unreadable { .. } => {
            SendError::Refused { reason }
        }
    }
}

impl<L: NotifierLedger, C: Channels, K: Clock> Notifier<'_, L, C, K> {
    /// Posts an entry to a channel that is notified of it.
    pub(super) async fn post_entry(&self, channel: &str, entry: &JournalEntry) -> Result<(), SendError> {
        let target = &entry.target;
        let Some(number) = entry.deployment else {
            let thread = self.thread_of(channel, entry).await?;
            return self.post_message(channel, thread.as_deref(), &view::slack::entry(entry)).await.map(|_| ());
        };
        let Some(snapshot) = self.snapshot(target, number).await? else {
            // Too old to be found in the history: posted as a message of its own.
            return self.post_message(channel, None, &view::slack::entry(entry)).await.map(|_| ());
        };
        let thread = match self.refresh(channel, &Subject::Release(&snapshot.release), None).await? {
            Some(post) => post,
            None => self.start_thread(channel, &snapshot.release).await?,
        };
        let subject = Subject::Deployment(target, number);
        let existing = self.refresh(channel, &subject, Some(&thread.id)).await?;
        let existed = existing.is_some();
        let post = match existing {
            Some(post) => post,
            None => self.post_first(channel, &subject, Some(&thread.id)).await?,
        };
        self.refresh_other_releases(channel, entry, &snapshot).await?;
        if existed && needs_new_message(entry, &post) {
            let people = self.people();
            let chat = view::slack::ping(&snapshot.progress(target, number, people), entry);
            self.post_message(channel, Some(&thread.id), &chat).await?;
        }
        Ok(())
    }

    /// Updates the existing messages that an entry changes; posts none.
    pub(super) async fn refresh_messages(&self, channel: &str, entry: &JournalEntry) -> Result<(), SendError> {
        let Some(number) = entry.deployment else { return Ok(()) };
        let subject = Subject::Deployment(&entry.target, number);
        if self.find_post(channel, &subject).await?.is_none() {
            return Ok(());
        }
        let Some(snapshot) = self.snapshot(&entry.target, number).await? else { return Ok(()) };
        let thread = self.refresh(channel, &Subject::Release(&snapshot.release), None).await?;
        self.refresh(channel, &subject, thread.as_ref().map(|post| post.id.as_str())).await?;
        self.refresh_other_releases(channel, entry, &snapshot).await
    }

    /// Updates messages of other releases that an entry affects: the one that it names, and those deployed there before.
    async fn refresh_other_releases(
        &self,
        channel: &str,
        entry: &JournalEntry,
        snapshot: &DeploymentSnapshot,
    ) -> Result<(), SendError> {
        let named_release = named_release(entry);
        let state = match &snapshot.state {
            Some(state) => Some(state.clone()),
            None => self.ledger.state(&entry.target).await.map_err(to_send_error)?,
        };
        let known = state.iter().flat_map(|state| {
            let sides = [&state.stable, &state.previous].into_iter().flatten();
            let sides = sides.filter_map(|side| side.release.as_ref());
            let verified = state.verified.iter().map(|verified| &verified.release);
            let mentioned = verified.filter(|release| named_release.as_ref() == Some(&release.id));
            sides.chain(mentioned)
        });
        let mut seen = BTreeSet::from([snapshot.release.id.clone()]);
        for release in known {
            if seen.insert(release.id.clone()) {
                self.refresh(channel, &Subject::Release(release), None).await?;
            }
        }
        // A release that is no longer in the target's state is still in its history.
        let Some(gone) = named_release.filter(|named_release| !seen.contains(named_release)) else { return Ok(()) };
        let history = self.ledger.history(&entry.target, MAX_HISTORY).await.map_err(to_send_error)?;
        if let Some(record) = history.iter().find(|record| record.release.id == gone) {
            self.refresh(channel, &Subject::Release(&record.release), None).await?;
        }
        Ok(())
    }

    /// The thread for an entry without a deployment: of the release that it names, else of the running or stable one. `None`: no
    /// such release has a thread, and the entry is posted outside of threads.
    async fn thread_of(&self, channel: &str, entry: &JournalEntry) -> Result<Option<String>, SendError> {
        let releases = match named_release(entry) {
            Some(release) => vec![release],
            None => {
                let state = self.ledger.state(&entry.target).await.map_err(to_send_error)?;
                let (running, stable) = state.map_or((None, None), |state| (state.running, state.stable));
                let known = [running.map(|running| running.release), stable.and_then(|stable| stable.release)];
                known.into_iter().flatten().map(|release| release.id).collect()
            }
        };
        for release in releases {
            let key = PostedMessageKey::Thread { release, channel: channel.to_owned() };
            if let Some(post) = self.ledger.posted_message(&key).await.map_err(to_send_error)? {
                return Ok(Some(post.id));
            }
        }
        Ok(None)
    }

    /// Starts a release's thread unless another notifier is doing so: several targets of a service may need it at once.
    async fn start_thread(&self, channel: &str, release: &ReleaseRef) -> Result<PostedMessage, SendError> {
        let subject = Subject::Release(release);
        let delivery = thread_claim(channel, &release.id);
        let now = self.clock.now();
        let claim = DeliveryClaim { by: self.clock.unique_id(), now, until: DELIVERY_CLAIM_DURATION.after(now) };
        match self.ledger.claim(&delivery, &claim).await.map_err(to_send_error)? {
            ClaimOutcome::Acquired => {}
            ClaimOutcome::HeldElsewhere | ClaimOutcome::AlreadySent => {
                return Err(SendError::Unsure { reason: "the release's thread is being begun".to_owned() });
            }
        }
        let begun = match self.find_post(channel, &subject).await {
            Ok(Some(post)) => Ok(post),
            Ok(None) => self.post_first(channel, &subject, None).await,
            Err(error) => Err(error),
        };
        if let Err(failure) = self.ledger.release_claim(&delivery, &claim.by).await {
            tracing::warn!("the claim to a release's thread stays until its time is over: {failure}");
        }
        begun
    }

    /// Posts the first message about a subject.
    async fn post_first(
        &self,
        channel: &str,
        subject: &Subject<'_>,
        thread: Option<&str>,
    ) -> Result<PostedMessage, SendError> {
        let Some(chat) = self.render(subject).await? else {
            return Err(SendError::Refused { reason: "the ledger has nothing to say of it any more".to_owned() });
        };
        let id = self.post_message(channel, thread, &chat).await?;
        let post = PostedMessage { id, content_hash: content_hash(&chat) };
        self.save_post(channel, subject, &post).await?;
        Ok(self.refresh(channel, subject, thread).await?.unwrap_or(post))
    }

    /// Updates the message about a subject; returns it, or `None` if there is none.
    async fn refresh(
        &self,
        channel: &str,
        subject: &Subject<'_>,
        thread: Option<&str>,
    ) -> Result<Option<PostedMessage>, SendError> {
        let Some(mut post) = self.find_post(channel, subject).await? else { return Ok(None) };
        for _ in 0..MAX_EDITS {
            let Some(chat) = self.render(subject).await? else { break };
            let now_says = content_hash(&chat);
            if post.content_hash == now_says {
                break;
            }
            match self.edit_message(channel, &post.id, &chat).await {
                Ok(EditOutcome::Done) => {}
                // The message was deleted in the chat.
                Ok(EditOutcome::Gone) => post.id = self.post_message(channel, thread, &chat).await?,
                Err(error) => {
                    if matches!(error, SendError::Unsure { .. }) {
                        // Its present content is unknown: the next update edits it in any case.
                        let unknown = PostedMessage { content_hash: String::new(), ..post };
                        if let Err(failure) = self.save_post(channel, subject, &unknown).await {
                            tracing::warn!("a message may say what it should not: {failure}");
                        }
                    }
                    return Err(error);
                }
            }
            post.content_hash = now_says;
            self.save_post(channel, subject, &post).await?;
        }
        Ok(Some(post))
    }

    async fn post_message(&self, channel: &str, thread: Option<&str>, chat: &ChatMessage) -> Result<String, SendError> {
        self.check_time_left()?;
        let answer = self.channels.post_message(channel, thread, chat).await;
        if self.rate_limit_has_ended(answer.as_ref().err()).await {
            return self.channels.post_message(channel, thread, chat).await;
        }
        answer
    }

    async fn edit_message(&self, channel: &str, id: &str, chat: &ChatMessage) -> Result<EditOutcome, SendError> {
        self.check_time_left()?;
        let answer = self.channels.edit_message(channel, id, chat).await;
        if self.rate_limit_has_ended(answer.as_ref().err()).await {
            return self.channels.edit_message(channel, id, chat).await;
        }
        answer
    }

    /// Waits for the end of a rate limit. `false`: the error is another one, or the limit lasts longer than this invocation
    /// can wait.
    async fn rate_limit_has_ended(&self, error: Option<&SendError>) -> bool {
        let Some(SendError::RateLimited { after, .. }) = error else { return false };
        let end = after.after(self.clock.now());
        if *after > MAX_RATE_LIMIT_WAIT || TIME_PER_CALL.after(end) > self.until {
            return false;
        }
        self.channels.wait_for_rate_limit(*after).await;
        true
    }

    /// A call cut off by the end of the invocation would leave its delivery claimed until the claim expires.
    fn check_time_left(&self) -> Result<(), SendError> {
        if TIME_PER_CALL.after(self.clock.now()) <= self.until {
            Ok(())
        } else {
            Err(SendError::Unsure { reason: "no time is left for it".to_owned() })
        }
    }

    async fn find_post(&self, channel: &str, subject: &Subject<'_>) -> Result<Option<PostedMessage>, SendError> {
        self.ledger.posted_message(&key(channel, subject)).await.map_err(to_send_error)
    }

    async fn save_post(&self, channel: &str, subject: &Subject<'_>, post: &PostedMessage) -> Result<(), SendError> {
        self.ledger.record_posted_message(&key(channel, subject), post, self.clock.now()).await.map_err(to_send_error)
    }

    /// The content of a message; `None`: nothing is known about the subject any more.
    async fn render(&self, subject: &Subject<'_>) -> Result<Option<ChatMessage>, SendError> {
        match subject {
            Subject::Release(release) => {
                let environments = join_all(self.environments(&release.id).map(|target| self.place(target, release)));
                let (known, environments) = join(self.ledger.release_by_id(&release.id), environments).await;
                let known = known.map_err(to_send_error)?;
                let environments = environments.into_iter().collect::<Result<Vec<EnvironmentState>, _>>()?;
                let provenance = known.as_ref().map(|known| &known.provenance);
                Ok(Some(view::slack::release(&ReleaseSummary { release, provenance, environments: &environments })))
            }
            Subject::Deployment(target, number) => {
                let snapshot = self.snapshot(target, *number).await?;
                let people = self.people();
                Ok(snapshot.map(|snapshot| view::slack::deployment(&snapshot.progress(target, *number, people))))
            }
        }
    }

    fn policy_in_force(&self) -> Option<&Policy> {
        self.policy.as_ref().ok().and_then(Option::as_ref)
    }

    fn people(&self) -> &PeopleByName {
        static NOBODY: PeopleByName = BTreeMap::new();
        self.policy_in_force().map_or(&NOBODY, |policy| &policy.people)
    }

    /// The targets of a release's service, upstream environments first.
    fn environments(&self, release: &ReleaseId) -> impl Iterator<Item = TargetId> {
        let found: Vec<TargetId> = self.policy_in_force().map_or_else(Vec::new, |policy| {
            let of_service = policy.targets().map(|(target, _)| target);
            promotion_order(policy, of_service.filter(|target| target.service == release.service).collect())
        });
        found.into_iter()
    }

    async fn place(&self, target: TargetId, release: &ReleaseRef) -> Result<EnvironmentState, SendError> {
        let (state, history) = join(self.ledger.state(&target), self.ledger.history(&target, MAX_HISTORY)).await;
        let over = |record: &DeploymentRecord| record.release.id == release.id && record.verdict.is_some();
        let last = history.map_err(to_send_error)?.into_iter().find(over);
        Ok(EnvironmentState { state: state.map_err(to_send_error)?, last })
    }

    /// A deployment as it is now; `None`: too old to be found.
    async fn snapshot(&self, target: &TargetId, number: u64) -> Result<Option<DeploymentSnapshot>, SendError> {
        let (state, tail) =
            join(self.ledger.state(target), self.ledger.journal_tail(target, MAX_JOURNAL_ENTRIES)).await;
        let mut entries = tail.map_err(to_send_error)?;
        entries.retain(|entry| entry.deployment == Some(number));
        let state = state.map_err(to_send_error)?;
        let runs = state.as_ref().and_then(|state| state.running.as_ref()).filter(|running| running.number == number);
        if let Some(running) = runs {
            let (release, actor) = (running.release.clone(), running.actor.clone());
            return Ok(Some(DeploymentSnapshot { release, actor, state, ended: None, entries }));
        }
        let history = self.ledger.history(target, MAX_HISTORY).await.map_err(to_send_error)?;
        let record = history.into_iter().find(|record| record.number == number);
        Ok(record.map(|record| DeploymentSnapshot {
            release: record.release,
            actor: record.actor,
            state: None,
            ended: record.verdict.map(|verdict| (verdict, record.reason)),
            entries,
        }))
    }
}

fn key(channel: &str, subject: &Subject<'_>) -> PostedMessageKey {
    let channel = channel.to_owned();
    match subject {
        Subject::Release(release) => PostedMessageKey::Thread { release: release.id.clone(), channel },
        Subject::Deployment(target, number) => {
            PostedMessageKey::Deployment { target: (*target).clone(), number: *number, channel }
        }
    }
}

/// The claim for starting a thread: entry sequences start at 1, so that this is no entry's delivery.
fn thread_claim(channel: &str, release: &ReleaseId) -> DeliveryId {
    let ReleaseId { application, service, digest } = release;
    let thread = Name::new("thread").expect("lower-case letters");
    let target = TargetId::new(application.clone(), service.clone(), thread);
    DeliveryId { target, sequence: 0, channel: format!("thread:{digest}:{channel}") }
}

/// The release that an entry names, if any.
fn named_release(entry: &JournalEntry) -> Option<ReleaseId> {
    let digest = match &entry.fact {
        Fact::Queued { digest, .. }
        | Fact::Superseded { digest, .. }
        | Fact::ReleaseNamed { digest, .. }
        | Fact::Verified { digest, .. }
        | Fact::VerificationRevoked { digest, .. }
        | Fact::PromotionSkipped { digest, .. } => ImageDigest::new(digest.clone()).ok()?,
        _ => return None,
    };
    let TargetId { application, service, .. } = entry.target.clone();
    Some(ReleaseId { application, service, digest })
}

/// Whether an entry must be posted as a new message to attract attention, although its deployment already has a message.
fn needs_new_message(entry: &JournalEntry, post: &PostedMessage) -> bool {
    match &entry.fact {
        Fact::AwaitingOperator { .. } => true,
        // A chat message's ID is its posting time. A message posted after the approval request already contains it.
        Fact::ApprovalRequested { .. } => {
            let posted_at = post.id.split('.').next().and_then(|seconds| seconds.parse::<i64>().ok());
            posted_at.is_none_or(|posted_at| posted_at < entry.at.as_second())
        }
        _ => false,
    }
}

/// Targets of one service in promotion order: upstream environments first.
fn promotion_order(policy: &Policy, targets: Vec<TargetId>) -> Vec<TargetId> {
    let mut left = targets;
    let mut ordered: Vec<TargetId> = Vec::new();
    while !left.is_empty() {
        let waits = |target: &TargetId| {
            let rules = policy.environments.get(&target.environment).and_then(|rules| rules.entry.after.as_ref());
            rules.is_some_and(|after| {
                after.environments().iter().any(|name| left.iter().any(|other| &other.environment == name))
            })
        };
        let (later, now): (Vec<TargetId>, Vec<TargetId>) = left.iter().cloned().partition(waits);
        if now.is_empty() {
            // A cycle: impossible in a validated policy.
            ordered.extend(later);
            break;
        }
        ordered.extend(now);
        left = later;
    }
    ordered
}

/// Hash of a message's content.
fn content_hash(chat: &ChatMessage) -> String {
    short_hash(&format!("{}\n{}", chat.text, chat.blocks))
}
