//! Chats: one thread a release and channel, whose first message says where the release is, and in it one message a
//! deployment. Both are edited in place.
//!
//! What a message says is made of what the ledger holds now, not of the entry that gave cause to it: entries that come
//! late, twice or together make the same message, and it is edited only where it says something else. After an edit the
//! ledger is read once more, since two who edit one message at a time may do so in the wrong order: the last to look
//! sees the newest, and says it.
//!
//! What was posted is remembered by what it is about. A chat has no identity by which it would drop a repetition: where
//! its answer to the first posting is lost, or the note of it, the message is posted again.

use super::{CLAIM, Teller, digits};
use crate::ports::{
    Channels, Chat, Claimed, Clock, Deliveries, DeliveryId, Edited, Hold, Ledger, LedgerError, Post, PostKey, Posts,
    SendError,
};
use futures::future::{join, join_all};
use rollout::journal::{Fact, JournalEntry};
use rollout::stage::Verdict;
use rollout::target::{DeploymentRecord, ReleaseRef, TargetState};
use rollout::{Actor, ImageDigest, Name, Policy, ReleaseId, Seconds, TargetId};
use std::collections::{BTreeMap, BTreeSet};
use view::slack::{Place, Progress, Whereabouts};

/// How many journal entries are looked through for those of a deployment.
const LOOKED_BACK: usize = 60;
/// How many deployments are looked through for one that is over.
const DEPLOYMENTS_BACK: usize = 50;
/// What must be left of an invocation for a call of a chat and the note of it.
const FOR_A_CALL: Seconds = Seconds(8);
/// How often a message is said anew because it has changed while it was being said.
const MOST_EDITS: usize = 3;

/// What a message is about.
enum Subject<'a> {
    Release(&'a ReleaseRef),
    Deployment(&'a TargetId, u64),
}

/// A deployment as the ledger has it now.
struct Scene {
    release: ReleaseRef,
    actor: Actor,
    /// The target, if the deployment is the one that runs.
    state: Option<TargetState>,
    ended: Option<(Verdict, String)>,
    entries: Vec<JournalEntry>,
}

impl Scene {
    fn progress<'a>(&'a self, target: &'a TargetId, number: u64, people: &'a People) -> Progress<'a> {
        Progress {
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

type People = BTreeMap<Name, rollout::entry::Person>;

/// What the ledger does not answer may be answered later; what it cannot read stays unread.
fn unread(error: LedgerError) -> SendError {
    let reason = error.to_string();
    match error {
        LedgerError::Conflict { .. } | LedgerError::Unavailable { .. } => SendError::Unsure { reason },
        LedgerError::Refused { .. } | LedgerError::Claimed(_) | LedgerError::Unreadable { .. } => {
            SendError::Refused { reason }
        }
    }
}

impl<L: Ledger + Deliveries + Posts, C: Channels, K: Clock> Teller<'_, L, C, K> {
    /// Tells a channel of an entry that it is to be told of.
    pub(super) async fn talk(&self, channel: &str, entry: &JournalEntry) -> Result<(), SendError> {
        let target = &entry.target;
        let Some(number) = entry.deployment else {
            let thread = self.thread_of(channel, entry).await?;
            return self.say(channel, thread.as_deref(), &view::slack::entry(entry)).await.map(|_| ());
        };
        let Some(scene) = self.scene(target, number).await? else {
            // Older than what history is looked through for: it is told by itself.
            return self.say(channel, None, &view::slack::entry(entry)).await.map(|_| ());
        };
        let thread = match self.show(channel, &Subject::Release(&scene.release), None).await? {
            Some(post) => post,
            None => self.begin_thread(channel, &scene.release).await?,
        };
        let about = Subject::Deployment(target, number);
        let there = self.show(channel, &about, Some(&thread.id)).await?;
        let was_there = there.is_some();
        let post = match there {
            Some(post) => post,
            None => self.begin(channel, &about, Some(&thread.id)).await?,
        };
        self.keep_others_up(channel, entry, &scene).await?;
        if was_there && calls_people(entry, &post) {
            let people = self.people();
            let chat = view::slack::call(&scene.progress(target, number, people), entry);
            self.say(channel, Some(&thread.id), &chat).await?;
        }
        Ok(())
    }

    /// Brings the messages up to date that an entry changes and that are there; none is posted.
    pub(super) async fn keep_up(&self, channel: &str, entry: &JournalEntry) -> Result<(), SendError> {
        let Some(number) = entry.deployment else { return Ok(()) };
        let about = Subject::Deployment(&entry.target, number);
        if self.posted(channel, &about).await?.is_none() {
            return Ok(());
        }
        let Some(scene) = self.scene(&entry.target, number).await? else { return Ok(()) };
        let thread = self.show(channel, &Subject::Release(&scene.release), None).await?;
        self.show(channel, &about, thread.as_ref().map(|post| post.id.as_str())).await?;
        self.keep_others_up(channel, entry, &scene).await
    }

    /// Other releases whose place an entry changes: the one that it names, and those that were there before.
    async fn keep_others_up(&self, channel: &str, entry: &JournalEntry, scene: &Scene) -> Result<(), SendError> {
        let named = named(entry);
        let state = match &scene.state {
            Some(state) => Some(state.clone()),
            None => self.ledger.state(&entry.target).await.map_err(unread)?,
        };
        let known = state.iter().flat_map(|state| {
            let sides = [&state.stable, &state.previous].into_iter().flatten();
            let sides = sides.filter_map(|side| side.release.as_ref());
            let verified = state.verified.iter().map(|verified| &verified.release);
            let mentioned = verified.filter(|release| named.as_ref() == Some(&release.id));
            sides.chain(mentioned)
        });
        let mut seen = BTreeSet::from([scene.release.id.clone()]);
        for release in known {
            if seen.insert(release.id.clone()) {
                self.show(channel, &Subject::Release(release), None).await?;
            }
        }
        // What is gone from the target's state is still in its history.
        let Some(gone) = named.filter(|named| !seen.contains(named)) else { return Ok(()) };
        let history = self.ledger.history(&entry.target, DEPLOYMENTS_BACK).await.map_err(unread)?;
        if let Some(record) = history.iter().find(|record| record.release.id == gone) {
            self.show(channel, &Subject::Release(&record.release), None).await?;
        }
        Ok(())
    }

    /// The thread in which an entry of no deployment is told: of the release that it names, or else of the one that
    /// runs or is stable there. None of them has one: it is told outside of threads.
    async fn thread_of(&self, channel: &str, entry: &JournalEntry) -> Result<Option<String>, SendError> {
        let releases = match named(entry) {
            Some(release) => vec![release],
            None => {
                let state = self.ledger.state(&entry.target).await.map_err(unread)?;
                let (running, stable) = state.map_or((None, None), |state| (state.running, state.stable));
                let known = [running.map(|running| running.release), stable.and_then(|stable| stable.release)];
                known.into_iter().flatten().map(|release| release.id).collect()
            }
        };
        for release in releases {
            let key = PostKey::Thread { release, channel: channel.to_owned() };
            if let Some(post) = self.ledger.post(&key).await.map_err(unread)? {
                return Ok(Some(post.id));
            }
        }
        Ok(None)
    }

    /// Begins a release's thread, unless somebody else does: several targets of a service may want it at a time.
    async fn begin_thread(&self, channel: &str, release: &ReleaseRef) -> Result<Post, SendError> {
        let about = Subject::Release(release);
        let delivery = thread_claim(channel, &release.id);
        let now = self.clock.now();
        let hold = Hold { by: self.clock.lease_id(), now, until: CLAIM.after(now) };
        match self.ledger.claim(&delivery, &hold).await.map_err(unread)? {
            Claimed::Ours => {}
            Claimed::Elsewhere | Claimed::Done => {
                return Err(SendError::Unsure { reason: "the release's thread is being begun".to_owned() });
            }
        }
        let begun = match self.posted(channel, &about).await {
            Ok(Some(post)) => Ok(post),
            Ok(None) => self.begin(channel, &about, None).await,
            Err(error) => Err(error),
        };
        if let Err(trouble) = self.ledger.give_back(&delivery, &hold.by).await {
            tracing::warn!("the claim to a release's thread stays until its time is over: {trouble}");
        }
        begun
    }

    /// Posts the first message about something.
    async fn begin(&self, channel: &str, about: &Subject<'_>, thread: Option<&str>) -> Result<Post, SendError> {
        let Some(chat) = self.words(about).await? else {
            return Err(SendError::Refused { reason: "the ledger has nothing to say of it any more".to_owned() });
        };
        let id = self.say(channel, thread, &chat).await?;
        let post = Post { id, says: says(&chat) };
        self.note(channel, about, &post).await?;
        Ok(self.show(channel, about, thread).await?.unwrap_or(post))
    }

    /// Makes the message about something say what is so; answers it, or none if there is none.
    async fn show(&self, channel: &str, about: &Subject<'_>, thread: Option<&str>) -> Result<Option<Post>, SendError> {
        let Some(mut post) = self.posted(channel, about).await? else { return Ok(None) };
        for _ in 0..MOST_EDITS {
            let Some(chat) = self.words(about).await? else { break };
            let now_says = says(&chat);
            if post.says == now_says {
                break;
            }
            match self.edit(channel, &post.id, &chat).await {
                Ok(Edited::Done) => {}
                // Somebody took it away.
                Ok(Edited::Gone) => post.id = self.say(channel, thread, &chat).await?,
                Err(error) => {
                    if matches!(error, SendError::Unsure { .. }) {
                        // Nobody knows what it says now: whoever comes next edits it, whatever it should say.
                        let unknown = Post { says: String::new(), ..post };
                        if let Err(trouble) = self.note(channel, about, &unknown).await {
                            tracing::warn!("a message may say what it should not: {trouble}");
                        }
                    }
                    return Err(error);
                }
            }
            post.says = now_says;
            self.note(channel, about, &post).await?;
        }
        Ok(Some(post))
    }

    async fn say(&self, channel: &str, thread: Option<&str>, chat: &Chat) -> Result<String, SendError> {
        self.has_time()?;
        self.channels.say(channel, thread, chat).await
    }

    async fn edit(&self, channel: &str, id: &str, chat: &Chat) -> Result<Edited, SendError> {
        self.has_time()?;
        self.channels.edit(channel, id, chat).await
    }

    /// A call that is cut off by the invocation's end would leave its delivery claimed until the claim's time is over.
    fn has_time(&self) -> Result<(), SendError> {
        if FOR_A_CALL.after(self.clock.now()) <= self.until {
            Ok(())
        } else {
            Err(SendError::Unsure { reason: "no time is left for it".to_owned() })
        }
    }

    async fn posted(&self, channel: &str, about: &Subject<'_>) -> Result<Option<Post>, SendError> {
        self.ledger.post(&key(channel, about)).await.map_err(unread)
    }

    async fn note(&self, channel: &str, about: &Subject<'_>, post: &Post) -> Result<(), SendError> {
        self.ledger.put_post(&key(channel, about), post, self.clock.now()).await.map_err(unread)
    }

    /// What is to be said; none: nothing is known of it any more.
    async fn words(&self, about: &Subject<'_>) -> Result<Option<Chat>, SendError> {
        match about {
            Subject::Release(release) => {
                let places = join_all(self.environments(&release.id).map(|target| self.place(target, release)));
                let (known, places) = join(self.ledger.release_by_id(&release.id), places).await;
                let known = known.map_err(unread)?;
                let places = places.into_iter().collect::<Result<Vec<Place>, _>>()?;
                let provenance = known.as_ref().map(|known| &known.provenance);
                Ok(Some(view::slack::release(&Whereabouts { release, provenance, places: &places })))
            }
            Subject::Deployment(target, number) => {
                let scene = self.scene(target, *number).await?;
                let people = self.people();
                Ok(scene.map(|scene| view::slack::deployment(&scene.progress(target, *number, people))))
            }
        }
    }

    fn in_force(&self) -> Option<&Policy> {
        self.policy.as_ref().ok().and_then(Option::as_ref)
    }

    fn people(&self) -> &People {
        static NOBODY: People = BTreeMap::new();
        self.in_force().map_or(&NOBODY, |policy| &policy.people)
    }

    /// The targets of a release's service, environments before those that come after them.
    fn environments(&self, release: &ReleaseId) -> impl Iterator<Item = TargetId> {
        let found: Vec<TargetId> = self.in_force().map_or_else(Vec::new, |policy| {
            let of_service = policy.targets().map(|(target, _)| target);
            in_order(policy, of_service.filter(|target| target.service == release.service).collect())
        });
        found.into_iter()
    }

    async fn place(&self, target: TargetId, release: &ReleaseRef) -> Result<Place, SendError> {
        let (state, history) = join(self.ledger.state(&target), self.ledger.history(&target, DEPLOYMENTS_BACK)).await;
        let over = |record: &DeploymentRecord| record.release.id == release.id && record.verdict.is_some();
        let last = history.map_err(unread)?.into_iter().find(over);
        Ok(Place { state: state.map_err(unread)?, last })
    }

    /// A deployment as it is now; none: it is too old to be found.
    async fn scene(&self, target: &TargetId, number: u64) -> Result<Option<Scene>, SendError> {
        let (state, tail) = join(self.ledger.state(target), self.ledger.journal_tail(target, LOOKED_BACK)).await;
        let mut entries = tail.map_err(unread)?;
        entries.retain(|entry| entry.deployment == Some(number));
        let state = state.map_err(unread)?;
        let runs = state.as_ref().and_then(|state| state.running.as_ref()).filter(|running| running.number == number);
        if let Some(running) = runs {
            let (release, actor) = (running.release.clone(), running.actor.clone());
            return Ok(Some(Scene { release, actor, state, ended: None, entries }));
        }
        let history = self.ledger.history(target, DEPLOYMENTS_BACK).await.map_err(unread)?;
        let record = history.into_iter().find(|record| record.number == number);
        Ok(record.map(|record| Scene {
            release: record.release,
            actor: record.actor,
            state: None,
            ended: record.verdict.map(|verdict| (verdict, record.reason)),
            entries,
        }))
    }
}

fn key(channel: &str, about: &Subject<'_>) -> PostKey {
    let channel = channel.to_owned();
    match about {
        Subject::Release(release) => PostKey::Thread { release: release.id.clone(), channel },
        Subject::Deployment(target, number) => {
            PostKey::Deployment { target: (*target).clone(), number: *number, channel }
        }
    }
}

/// By what beginning a thread is claimed: sequences of entries begin at 1, so that this is no entry's delivery.
fn thread_claim(channel: &str, release: &ReleaseId) -> DeliveryId {
    let ReleaseId { application, service, digest } = release;
    let thread = Name::new("thread").expect("lower-case letters");
    let target = TargetId::new(application.clone(), service.clone(), thread);
    DeliveryId { target, sequence: 0, channel: format!("thread:{digest}:{channel}") }
}

/// The release that an entry is about, where it names one.
fn named(entry: &JournalEntry) -> Option<ReleaseId> {
    let digest = match &entry.fact {
        Fact::Queued { digest, .. }
        | Fact::Superseded { digest, .. }
        | Fact::ReleaseNamed { digest, .. }
        | Fact::Verified { digest, .. }
        | Fact::Withdrawn { digest, .. }
        | Fact::PromotionSkipped { digest, .. } => ImageDigest::new(digest.clone()).ok()?,
        _ => return None,
    };
    let TargetId { application, service, .. } = entry.target.clone();
    Some(ReleaseId { application, service, digest })
}

/// Whether an entry wants people who do not look, though the message about its deployment was there before.
fn calls_people(entry: &JournalEntry, post: &Post) -> bool {
    match &entry.fact {
        Fact::Frozen { .. } => true,
        // A chat's identity of a message is the time of its posting. What was posted after the asking has asked itself.
        Fact::ApprovalRequested { .. } => {
            let posted_at = post.id.split('.').next().and_then(|seconds| seconds.parse::<i64>().ok());
            posted_at.is_none_or(|posted_at| posted_at < entry.at.as_second())
        }
        _ => false,
    }
}

/// Targets of one service: whatever must have verified a release goes before what comes after it.
fn in_order(policy: &Policy, targets: Vec<TargetId>) -> Vec<TargetId> {
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
            // A circle: no policy that was checked has one.
            ordered.extend(later);
            break;
        }
        ordered.extend(now);
        left = later;
    }
    ordered
}

/// Digest of what a message says.
fn says(chat: &Chat) -> String {
    digits(&format!("{}\n{}", chat.text, chat.blocks))
}
