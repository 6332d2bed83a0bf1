//! What a ledger holds, and the conditions under which it is written.

use super::Written;
use engine::{
    Applied, Begin, Claim, ClaimedResource, Commit, LeaseId, LedgerError, Loaded, Overdue, Post, PostKey, Retries,
    Retry, RetryNoted, TagsSeen, WakeKind, Watch,
};
use rollout::brake::{Brake, BrakeRecord, Lifted, Scope};
use rollout::journal::JournalEntry;
use rollout::pace::{Place, Price};
use rollout::policy::Policy;
use rollout::target::{DeploymentRecord, FORMAT, TargetState};
use rollout::{Command, CommandId, ImageDigest, Name, Release, ReleaseId, Seconds, Slot, TargetId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// How long a command is remembered after it was asked.
const REMEMBERED_S: i64 = 30 * 24 * 3600;
/// The most commands that one pass is given.
const MOST_COMMANDS: usize = 50;
/// Items that one DynamoDB transaction takes: a commit that would not fit there is refused here too.
const ITEMS_A_COMMIT: usize = 100;

/// Everything that a ledger knows.
#[derive(Debug, Clone, Default)]
pub struct Store {
    pub(super) targets: BTreeMap<TargetId, Target>,
    releases: BTreeMap<(Name, Name), BTreeMap<ImageDigest, Release>>,
    tags_seen: BTreeMap<(Name, Name), TagsSeen>,
    policies: BTreeMap<Name, Applied>,
    watches: BTreeMap<Watch, BTreeSet<TargetId>>,
    brakes: BTreeMap<Scope, Brake>,
    /// What was done about brakes, by time; of one moment, as it was done.
    brake_log: BTreeMap<Timestamp, Vec<BrakeRecord>>,
    posts: BTreeMap<PostKey, Post>,
    /// Kept while somebody watches.
    pub(super) written: Option<Vec<Written>>,
    /// Where the row before AWS's API budgets reaches.
    row_until: Timestamp,
    /// Reads of load balancers that are there for those in the row, a second; none: no end of them.
    reads_a_second: Option<f64>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Target {
    pub(super) lease: Option<LeaseId>,
    /// How long whoever holds it was given.
    lasts: Seconds,
    /// For which holder the wake of a kind comes again, and how often it has.
    retries: BTreeMap<WakeKind, (LeaseId, u8)>,
    revision: u64,
    pub(super) state: Option<TargetState>,
    due_at: Option<Timestamp>,
    /// Commands that wait, oldest first.
    inbox: BTreeMap<(Timestamp, CommandId), Command>,
    /// Commands that were ever written, and until when (seconds since 1970) that is remembered.
    seen: BTreeMap<CommandId, i64>,
    pub(super) journal: BTreeMap<u64, JournalEntry>,
    history: BTreeMap<u64, DeploymentRecord>,
}

impl Store {
    /// How often the state of a target was written.
    #[must_use]
    pub fn revision(&self, target: &TargetId) -> u64 {
        self.targets.get(target).map_or(0, |entry| entry.revision)
    }

    /// See [`Ledger::begin`](engine::Ledger::begin).
    ///
    /// # Errors
    /// [`LedgerError::Unreadable`] for a state of a newer format.
    pub fn begin(&mut self, target: &TargetId, claim: &Claim) -> Result<Begin, LedgerError> {
        let entry = self.targets.entry(target.clone()).or_default();
        readable(target, entry.state.as_ref())?;
        match &entry.lease {
            Some(by) if *by != claim.lease && claim.steal.as_ref() != Some(by) => {
                let of = |kind| entry.retries.get(&kind).filter(|(holder, _)| holder == by).map(|(_, tries)| *tries);
                let retries =
                    Retries { usual: of(WakeKind::Usual), urgent: of(WakeKind::Urgent), at_rest: of(WakeKind::AtRest) };
                Ok(Begin::Held { by: by.clone(), lasts: entry.lasts, retries })
            }
            _ => {
                let stolen = entry.lease.as_ref().is_some_and(|by| *by != claim.lease);
                entry.lease = Some(claim.lease.clone());
                entry.lasts = claim.lasts;
                let state = entry.state.clone();
                let state = state.unwrap_or_else(|| TargetState::new(target.clone()));
                Ok(Begin::Granted(Box::new(Loaded { state, revision: entry.revision, stolen })))
            }
        }
    }

    /// See [`Ledger::note_retry`](engine::Ledger::note_retry).
    pub fn note_retry(&mut self, target: &TargetId, retry: &Retry<'_>) -> RetryNoted {
        let entry = self.targets.entry(target.clone()).or_default();
        if entry.lease.as_ref() != Some(retry.holder) {
            return RetryNoted::Free;
        }
        let known = entry.retries.get(&retry.kind).filter(|(holder, _)| holder == retry.holder);
        if known.is_some_and(|(_, tries)| *tries >= retry.tries) {
            return RetryNoted::Another;
        }
        entry.retries.insert(retry.kind, (retry.holder.clone(), retry.tries));
        RetryNoted::Yes
    }

    /// See [`Ledger::commands`](engine::Ledger::commands).
    #[must_use]
    pub fn commands(&self, target: &TargetId) -> Vec<Command> {
        let inbox = self.targets.get(target).into_iter().flat_map(|entry| entry.inbox.values());
        inbox.take(MOST_COMMANDS).cloned().collect()
    }

    /// See [`Ledger::commit`](engine::Ledger::commit).
    ///
    /// # Errors
    /// [`LedgerError::Conflict`] where lease or revision do not hold or a journal entry is there already,
    /// [`LedgerError::Refused`] where it is more than DynamoDB writes at once.
    pub fn commit(
        &mut self,
        target: &TargetId,
        lease: &LeaseId,
        revision: u64,
        commit: &Commit<'_>,
    ) -> Result<u64, LedgerError> {
        let items = 1 + commit.journal.len() + commit.history.len() + commit.consumed.len();
        if items > ITEMS_A_COMMIT {
            let reason = format!("{items} items, and a transaction takes {ITEMS_A_COMMIT}");
            return Err(LedgerError::Refused { doing: "writing a decision", reason });
        }
        let entry = self.targets.entry(target.clone()).or_default();
        let sequences: BTreeSet<u64> = commit.journal.iter().map(|entry| entry.sequence).collect();
        let written = commit.journal.len() != sequences.len()
            || sequences.iter().any(|sequence| entry.journal.contains_key(sequence));
        if entry.lease.as_ref() != Some(lease) || entry.revision != revision || written {
            return Err(LedgerError::Conflict { target: target.to_string() });
        }
        if let Some(written) = &mut self.written {
            let waits = |id: &&CommandId| !entry.inbox.keys().any(|(_, known)| known == *id);
            written.push(Written::Decided {
                target: target.clone(),
                lease: lease.clone(),
                after: entry.journal.keys().next_back().copied().unwrap_or(0),
                consumed: commit.consumed.to_vec(),
                twice: commit.consumed.iter().filter(waits).cloned().collect(),
            });
        }
        entry.revision += 1;
        entry.state = Some(commit.state.clone());
        entry.due_at = commit.due_at;
        entry.journal.extend(commit.journal.iter().map(|entry| (entry.sequence, entry.clone())));
        entry.history.extend(commit.history.iter().map(|record| (record.number, record.clone())));
        entry.inbox.retain(|(_, id), _| !commit.consumed.contains(id));
        if commit.release_lease {
            entry.lease = None;
        }
        Ok(entry.revision)
    }

    /// From now on there is an end of what AWS lets an account ask.
    pub fn set_reads_a_second(&mut self, reads: f64) {
        self.reads_a_second = Some(reads);
    }

    /// See [`Ledger::take_place`](engine::Ledger::take_place).
    pub fn take_place(&mut self, price: &Price, now: Timestamp) -> Place {
        let (place, until) = price.place(now, self.row_until, self.reads_a_second.unwrap_or(f64::INFINITY));
        self.row_until = until;
        place
    }

    /// See [`Ledger::release`](engine::Ledger::release).
    pub fn release(&mut self, target: &TargetId, lease: &LeaseId) {
        if let Some(entry) = self.targets.get_mut(target)
            && entry.lease.as_ref() == Some(lease)
        {
            entry.lease = None;
        }
    }

    /// See [`Ledger::put_release`](engine::Ledger::put_release).
    pub fn put_release(&mut self, release: &Release) -> Option<Release> {
        let service = (release.id.application.clone(), release.id.service.clone());
        let known = self.releases.entry(service).or_default();
        match known.get_mut(&release.id.digest) {
            Some(there) => {
                let before = there.clone();
                there.merge(release);
                Some(before)
            }
            None => {
                known.insert(release.id.digest.clone(), release.clone());
                None
            }
        }
    }

    /// See [`Ledger::tags_seen`](engine::Ledger::tags_seen).
    #[must_use]
    pub fn tags_seen(&self, application: &Name, service: &Name) -> Option<TagsSeen> {
        self.tags_seen.get(&(application.clone(), service.clone())).cloned()
    }

    /// See [`Ledger::put_tags_seen`](engine::Ledger::put_tags_seen).
    pub fn put_tags_seen(&mut self, application: &Name, service: &Name, seen: &TagsSeen) {
        self.tags_seen.insert((application.clone(), service.clone()), seen.clone());
    }

    /// See [`Ledger::put_command`](engine::Ledger::put_command).
    pub fn put_command(&mut self, command: &Command) -> bool {
        let entry = self.targets.entry(command.target.clone()).or_default();
        let asked_at_s = command.at.as_second();
        if entry.seen.get(&command.id).is_some_and(|until| *until > asked_at_s) {
            return false;
        }
        entry.seen.insert(command.id.clone(), asked_at_s.saturating_add(REMEMBERED_S));
        entry.inbox.insert((command.at, command.id.clone()), command.clone());
        if let Some(written) = &mut self.written {
            written.push(Written::Asked { target: command.target.clone(), command: command.id.clone() });
        }
        true
    }

    /// See [`Ledger::targets_watching`](engine::Ledger::targets_watching).
    #[must_use]
    pub fn targets_watching(&self, watch: &Watch) -> Vec<TargetId> {
        self.watches.get(watch).into_iter().flatten().cloned().collect()
    }

    /// See [`Ledger::services`](engine::Ledger::services).
    #[must_use]
    pub fn services(&self, repository: &str) -> Vec<(Name, Name)> {
        let of_policy = |applied: &Applied| {
            let application = applied.policy.application.clone();
            let named = applied.policy.services.iter().filter(|(_, service)| service.repository == repository);
            named.map(|(service, _)| (application.clone(), service.clone())).collect::<Vec<_>>()
        };
        self.policies.values().flat_map(of_policy).collect()
    }

    /// See [`Ledger::overdue`](engine::Ledger::overdue).
    #[must_use]
    pub fn overdue(&self, now: Timestamp, limit: usize) -> Vec<Overdue> {
        let mut due: Vec<Overdue> = self
            .targets
            .iter()
            .filter_map(|(target, entry)| Some(Overdue { since: due_at(entry)?, target: target.clone() }))
            .filter(|due| due.since <= now)
            .collect();
        due.sort();
        due.truncate(limit);
        due
    }

    /// Whether nothing is due any more, now or later, and no command waits.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.targets.values().all(|entry| due_at(entry).is_none())
    }

    /// See [`Ledger::apply`](engine::Ledger::apply).
    ///
    /// # Errors
    /// [`LedgerError::Claimed`] where another application's policy names a resource of this one.
    pub fn apply(&mut self, policy: &Policy, text: &str, at: Timestamp, by: &str) -> Result<u64, LedgerError> {
        let present = self.policies.get(&policy.application);
        if let Some(present) = present.filter(|present| present.text == text) {
            return Ok(present.version);
        }
        let wanted = policy.resources();
        let others = self.policies.iter().filter(|(application, _)| **application != policy.application);
        let theirs = others.flat_map(|(_, applied)| applied.policy.resources());
        let mut claimed: Vec<ClaimedResource> = theirs
            .filter_map(|(resource, claimed_by)| {
                let wanted_by = wanted.get(&resource)?.clone();
                Some(ClaimedResource { resource, wanted_by, claimed_by })
            })
            .collect();
        if !claimed.is_empty() {
            claimed.sort();
            return Err(LedgerError::Claimed(claimed));
        }
        let version = present.map_or(0, |present| present.version) + 1;
        let applied = Applied { version, policy: policy.clone(), text: text.to_owned(), at, by: by.to_owned() };
        self.policies.insert(policy.application.clone(), applied);
        for targets in self.watches.values_mut() {
            targets.retain(|target| target.application != policy.application);
        }
        for (target, rules) in policy.targets() {
            let alarms = rules.alarms.iter().map(|alarm| Watch::Alarm(alarm.name.clone()));
            let pair = &rules.pair;
            // The name in `arn:aws:ecs:region:account:cluster/name`, or the name itself.
            let cluster = pair.cluster.rsplit('/').next().unwrap_or(&pair.cluster);
            let services = [Slot::Blue, Slot::Green]
                .map(|slot| Watch::EcsService(cluster.to_owned(), pair.side(slot).service.clone()));
            let edited = pair.rules.iter().map(|arn| Watch::Rule(arn.clone()));
            for watch in alarms.chain(services).chain(edited) {
                self.watches.entry(watch).or_default().insert(target.clone());
            }
        }
        self.watches.retain(|_, targets| !targets.is_empty());
        Ok(version)
    }

    /// See [`Ledger::policy`](engine::Ledger::policy).
    #[must_use]
    pub fn policy(&self, application: &Name) -> Option<Applied> {
        self.policies.get(application).cloned()
    }

    /// See [`Ledger::applications`](engine::Ledger::applications).
    #[must_use]
    pub fn applications(&self) -> Vec<Name> {
        self.policies.keys().cloned().collect()
    }

    /// See [`Ledger::brakes`](engine::Ledger::brakes).
    #[must_use]
    pub fn brakes(&self) -> Vec<Brake> {
        self.brakes.values().cloned().collect()
    }

    /// See [`Ledger::put_brake`](engine::Ledger::put_brake).
    pub fn put_brake(&mut self, brake: &Brake) {
        self.brakes.insert(brake.scope.clone(), brake.clone());
        self.note(brake.since, BrakeRecord { brake: brake.clone(), lifted: None });
    }

    /// See [`Ledger::lift_brake`](engine::Ledger::lift_brake).
    pub fn lift_brake(&mut self, scope: &Scope, lifted: &Lifted) -> Option<Brake> {
        let brake = self.brakes.remove(scope)?;
        self.note(lifted.at, BrakeRecord { brake: brake.clone(), lifted: Some(lifted.clone()) });
        Some(brake)
    }

    /// Doing the same once more at the same moment is a repetition, not a second deed.
    fn note(&mut self, at: Timestamp, record: BrakeRecord) {
        let log = self.brake_log.entry(at).or_default();
        if !log.contains(&record) {
            log.push(record);
        }
    }

    /// See [`Ledger::brake_log`](engine::Ledger::brake_log).
    #[must_use]
    pub fn brake_log(&self, limit: usize) -> Vec<BrakeRecord> {
        self.brake_log.values().rev().flat_map(|log| log.iter().rev()).take(limit).cloned().collect()
    }

    /// See [`Posts::post`](engine::Posts::post).
    #[must_use]
    pub fn post(&self, key: &PostKey) -> Option<Post> {
        self.posts.get(key).cloned()
    }

    /// See [`Posts::put_post`](engine::Posts::put_post).
    pub fn put_post(&mut self, key: &PostKey, post: &Post) {
        self.posts.insert(key.clone(), post.clone());
    }

    /// See [`Ledger::state`](engine::Ledger::state).
    ///
    /// # Errors
    /// [`LedgerError::Unreadable`] for a state of a newer format.
    pub fn state(&self, target: &TargetId) -> Result<Option<TargetState>, LedgerError> {
        let state = self.targets.get(target).and_then(|entry| entry.state.as_ref());
        readable(target, state)?;
        Ok(state.cloned())
    }

    /// Whether the target had a deployment, has none now, and nothing is asked of it.
    #[must_use]
    pub fn is_settled(&self, target: &TargetId) -> bool {
        let Some(entry) = self.targets.get(target).filter(|entry| entry.inbox.is_empty()) else { return false };
        entry
            .state
            .as_ref()
            .is_some_and(|state| state.running.is_none() && state.queued.is_empty() && state.last_deployment > 0)
    }

    /// See [`Ledger::history`](engine::Ledger::history).
    #[must_use]
    pub fn history(&self, target: &TargetId, limit: usize) -> Vec<DeploymentRecord> {
        let records = self.targets.get(target).into_iter().flat_map(|entry| entry.history.values().rev());
        records.take(limit).cloned().collect()
    }

    /// See [`Ledger::journal`](engine::Ledger::journal).
    #[must_use]
    pub fn journal(&self, target: &TargetId, after: u64, limit: usize) -> Vec<JournalEntry> {
        let Some(first) = after.checked_add(1) else { return Vec::new() };
        let entries = self.targets.get(target).into_iter().flat_map(|entry| entry.journal.range(first..));
        entries.take(limit).map(|(_, entry)| entry.clone()).collect()
    }

    /// See [`Ledger::journal_tail`](engine::Ledger::journal_tail).
    #[must_use]
    pub fn journal_tail(&self, target: &TargetId, limit: usize) -> Vec<JournalEntry> {
        let entries = self.targets.get(target).into_iter().flat_map(|entry| entry.journal.values().rev());
        let mut newest: Vec<JournalEntry> = entries.take(limit).cloned().collect();
        newest.reverse();
        newest
    }

    /// See [`Ledger::releases`](engine::Ledger::releases).
    #[must_use]
    pub fn releases(&self, application: &Name, service: &Name, limit: usize) -> Vec<Release> {
        let known = self.releases.get(&(application.clone(), service.clone()));
        let mut releases: Vec<&Release> = known.into_iter().flat_map(BTreeMap::values).collect();
        releases.sort_by(|a, b| (b.pushed_at, &b.id.digest).cmp(&(a.pushed_at, &a.id.digest)));
        releases.into_iter().take(limit).cloned().collect()
    }

    /// See [`Ledger::release_by_id`](engine::Ledger::release_by_id).
    #[must_use]
    pub fn release_by_id(&self, id: &ReleaseId) -> Option<Release> {
        self.releases.get(&(id.application.clone(), id.service.clone()))?.get(&id.digest).cloned()
    }
}

fn due_at(entry: &Target) -> Option<Timestamp> {
    let command = entry.inbox.keys().next().map(|(at, _)| *at);
    match (entry.due_at, command) {
        (Some(wake), Some(command)) => Some(wake.min(command)),
        (wake, command) => wake.or(command),
    }
}

fn readable(target: &TargetId, state: Option<&TargetState>) -> Result<(), LedgerError> {
    match state {
        Some(state) if state.format > FORMAT => Err(LedgerError::Unreadable {
            what: target.to_string(),
            reason: format!("its format is {}, and this reader knows {FORMAT}", state.format),
        }),
        _ => Ok(()),
    }
}
