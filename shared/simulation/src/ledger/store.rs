//! The contents of a ledger, and the conditions under which it is written.

use super::LedgerWrite;
use engine::{
    AppliedPolicy, ClaimedResource, Commit, LeaseId, LeaseOutcome, LeaseRequest, LeasedTarget, LedgerError, LockChange,
    OverdueTarget, PostedMessage, PostedMessageKey, Retry, RetryCounts, RetryRegistration, TagInventory, WakeKind,
    WatchedResource,
};
use rollout::brake::{Brake, BrakeRecord, Lifted, Scope};
use rollout::deployment::DeploymentRecord;
use rollout::deployment::QueuePosition;
use rollout::journal::JournalEntry;
use rollout::policy::Policy;
use rollout::rate_limiter::ApiCost;
use rollout::target::{FORMAT, TargetState};
use rollout::{Command, CommandId, ImageDigest, Name, Release, ReleaseId, Seconds, TargetId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// How long a command's id is kept for deduplication, in seconds since it was requested.
const COMMAND_ID_RETENTION_S: i64 = 30 * 24 * 3600;
/// Maximum number of commands handed to one pass.
const MAX_COMMANDS_PER_PASS: usize = 50;
/// Maximum number of items in one DynamoDB transaction: a larger commit is refused here, too.
const MAX_ITEMS_PER_COMMIT: usize = 100;

/// The full contents of a ledger.
#[derive(Debug, Clone, Default)]
pub struct Store {
    pub(super) targets: BTreeMap<TargetId, TargetEntry>,
    releases: BTreeMap<(Name, Name), BTreeMap<ImageDigest, Release>>,
    tag_inventory: BTreeMap<(Name, Name), TagInventory>,
    pub(super) policies: BTreeMap<Name, AppliedPolicy>,
    watches: BTreeMap<WatchedResource, BTreeSet<TargetId>>,
    brakes: BTreeMap<Scope, Brake>,
    /// Brake changes by time; those of one moment in the order in which they were made.
    brake_log: BTreeMap<Timestamp, Vec<BrakeRecord>>,
    posts: BTreeMap<PostedMessageKey, PostedMessage>,
    /// Writes, recorded only while a watcher is attached.
    pub(super) written: Option<Vec<LedgerWrite>>,
    /// The targets that hold the locks of environments, by application and environment.
    locks: BTreeMap<(Name, Name), TargetId>,
    /// Until when the queue for AWS's API budgets is booked.
    api_queue_until: Timestamp,
    /// Load balancer reads per second available to the queue; none: unlimited.
    reads_per_second: Option<f64>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct TargetEntry {
    pub(super) lease: Option<LeaseId>,
    /// Duration of the lease.
    lasts: Seconds,
    /// Per wake kind: the lease holder that retries are registered for, and their number.
    retries: BTreeMap<WakeKind, (LeaseId, u8)>,
    revision: u64,
    pub(super) state: Option<TargetState>,
    due_at: Option<Timestamp>,
    /// Commands that are not consumed yet, oldest first.
    inbox: BTreeMap<(Timestamp, CommandId), Command>,
    /// Ids of all commands ever written, and until when each is remembered (seconds since 1970).
    seen: BTreeMap<CommandId, i64>,
    pub(super) journal: BTreeMap<u64, JournalEntry>,
    history: BTreeMap<u64, DeploymentRecord>,
}

impl Store {
    /// Number of writes to the state of a target.
    #[must_use]
    pub fn revision(&self, target: &TargetId) -> u64 {
        self.targets.get(target).map_or(0, |entry| entry.revision)
    }

    /// See [`Leases::acquire_lease`](engine::Leases::acquire_lease).
    ///
    /// # Errors
    /// [`LedgerError::Unreadable`] for a state of a newer format.
    pub fn acquire_lease(&mut self, target: &TargetId, claim: &LeaseRequest) -> Result<LeaseOutcome, LedgerError> {
        let entry = self.targets.entry(target.clone()).or_default();
        check_format(target, entry.state.as_ref())?;
        match &entry.lease {
            Some(by) if *by != claim.lease && claim.steal.as_ref() != Some(by) => {
                let of =
                    |kind| entry.retries.get(&kind).filter(|(holder, _)| holder == by).map(|(_, retries)| *retries);
                let retries = RetryCounts {
                    normal: of(WakeKind::Normal),
                    urgent: of(WakeKind::Urgent),
                    idle: of(WakeKind::Idle),
                };
                Ok(LeaseOutcome::Held { by: by.clone(), lasts: entry.lasts, retries })
            }
            _ => {
                let stolen = entry.lease.as_ref().is_some_and(|by| *by != claim.lease);
                entry.lease = Some(claim.lease.clone());
                entry.lasts = claim.lasts;
                let state = entry.state.clone();
                let state = state.unwrap_or_else(|| TargetState::new(target.clone()));
                Ok(LeaseOutcome::Granted(Box::new(LeasedTarget { state, revision: entry.revision, stolen })))
            }
        }
    }

    /// See [`Leases::register_retry`](engine::Leases::register_retry).
    pub fn register_retry(&mut self, target: &TargetId, retry: &Retry<'_>) -> RetryRegistration {
        let entry = self.targets.entry(target.clone()).or_default();
        if entry.lease.as_ref() != Some(retry.holder) {
            return RetryRegistration::LeaseReleased;
        }
        let known = entry.retries.get(&retry.kind).filter(|(holder, _)| holder == retry.holder);
        if known.is_some_and(|(_, retries)| *retries >= retry.retries) {
            return RetryRegistration::AlreadyScheduled;
        }
        entry.retries.insert(retry.kind, (retry.holder.clone(), retry.retries));
        RetryRegistration::Accepted
    }

    /// See [`Commands::commands`](engine::Commands::commands).
    #[must_use]
    pub fn commands(&self, target: &TargetId) -> Vec<Command> {
        let inbox = self.targets.get(target).into_iter().flat_map(|entry| entry.inbox.values());
        inbox.take(MAX_COMMANDS_PER_PASS).cloned().collect()
    }

    /// See [`Leases::commit`](engine::Leases::commit).
    ///
    /// # Errors
    /// [`LedgerError::Conflict`] if lease or revision do not match or a journal entry exists already,
    /// [`LedgerError::Locked`] if another target holds the lock that the commit takes,
    /// [`LedgerError::Refused`] if the commit exceeds one DynamoDB transaction.
    pub fn commit(
        &mut self,
        target: &TargetId,
        lease: &LeaseId,
        revision: u64,
        commit: &Commit<'_>,
    ) -> Result<u64, LedgerError> {
        let items = 1
            + commit.journal.len()
            + commit.history.len()
            + commit.consumed.len()
            + usize::from(commit.lock.is_some());
        if items > MAX_ITEMS_PER_COMMIT {
            let reason = format!("{items} items, and a transaction takes {MAX_ITEMS_PER_COMMIT}");
            return Err(LedgerError::Refused { doing: "writing a decision", reason });
        }
        let environment = (target.application.clone(), target.environment.clone());
        let is_locked = self.locks.get(&environment).is_some_and(|holder| holder != target);
        let entry = self.targets.entry(target.clone()).or_default();
        let sequences: BTreeSet<u64> = commit.journal.iter().map(|entry| entry.sequence).collect();
        let written = commit.journal.len() != sequences.len()
            || sequences.iter().any(|sequence| entry.journal.contains_key(sequence));
        if entry.lease.as_ref() != Some(lease) || entry.revision != revision || written {
            return Err(LedgerError::Conflict { item: target.to_string() });
        }
        match commit.lock {
            Some(LockChange::Take { .. }) if is_locked => {
                let environment = format!("{}/{}", target.application, target.environment);
                return Err(LedgerError::Locked { environment });
            }
            Some(LockChange::Take { .. }) => {
                self.locks.insert(environment, target.clone());
            }
            Some(LockChange::Release) if is_locked => return Err(LedgerError::Conflict { item: target.to_string() }),
            Some(LockChange::Release) => {
                self.locks.remove(&environment);
            }
            None => {}
        }
        if let Some(written) = &mut self.written {
            let is_not_waiting = |id: &&CommandId| !entry.inbox.keys().any(|(_, known)| known == *id);
            written.push(LedgerWrite::DecisionCommitted {
                target: target.clone(),
                lease: lease.clone(),
                after: entry.journal.keys().next_back().copied().unwrap_or(0),
                consumed: commit.consumed.to_vec(),
                not_waiting: commit.consumed.iter().filter(is_not_waiting).cloned().collect(),
            });
        }
        entry.revision += 1;
        entry.state = Some(commit.state.clone());
        entry.due_at = commit.overdue_at;
        entry.journal.extend(commit.journal.iter().map(|entry| (entry.sequence, entry.clone())));
        entry.history.extend(commit.history.iter().map(|record| (record.number, record.clone())));
        entry.inbox.retain(|(_, id), _| !commit.consumed.contains(id));
        if commit.release_lease {
            entry.lease = None;
        }
        Ok(entry.revision)
    }

    /// Limits the API budget from now on: load balancer reads per second.
    pub fn set_reads_per_second(&mut self, reads: f64) {
        self.reads_per_second = Some(reads);
    }

    /// See [`Leases::reserve_api_calls`](engine::Leases::reserve_api_calls).
    pub fn reserve_api_calls(&mut self, api_cost: &ApiCost, now: Timestamp) -> QueuePosition {
        let (queue_position, until) =
            api_cost.queue_position(now, self.api_queue_until, self.reads_per_second.unwrap_or(f64::INFINITY));
        self.api_queue_until = until;
        queue_position
    }

    /// See [`Leases::release`](engine::Leases::release).
    pub fn release(&mut self, target: &TargetId, lease: &LeaseId) {
        if let Some(entry) = self.targets.get_mut(target)
            && entry.lease.as_ref() == Some(lease)
        {
            entry.lease = None;
        }
    }

    /// See [`ReleaseIntake::put_release`](engine::ReleaseIntake::put_release).
    pub fn put_release(&mut self, release: &Release) -> Option<Release> {
        let service = (release.id.application.clone(), release.id.service.clone());
        let known = self.releases.entry(service).or_default();
        match known.get_mut(&release.id.digest) {
            Some(existing) => {
                let before = existing.clone();
                existing.merge(release);
                Some(before)
            }
            None => {
                known.insert(release.id.digest.clone(), release.clone());
                None
            }
        }
    }

    /// See [`ReleaseIntake::tag_inventory`](engine::ReleaseIntake::tag_inventory).
    #[must_use]
    pub fn tag_inventory(&self, application: &Name, service: &Name) -> Option<TagInventory> {
        self.tag_inventory.get(&(application.clone(), service.clone())).cloned()
    }

    /// See [`ReleaseIntake::put_tag_inventory`](engine::ReleaseIntake::put_tag_inventory).
    pub fn put_tag_inventory(&mut self, application: &Name, service: &Name, seen: &TagInventory) {
        self.tag_inventory.insert((application.clone(), service.clone()), seen.clone());
    }

    /// See [`Commands::put_command`](engine::Commands::put_command).
    pub fn put_command(&mut self, command: &Command) -> bool {
        let entry = self.targets.entry(command.target.clone()).or_default();
        let written_at_s = command.at.as_second();
        if entry.seen.get(&command.id).is_some_and(|until| *until > written_at_s) {
            return false;
        }
        entry.seen.insert(command.id.clone(), written_at_s.saturating_add(COMMAND_ID_RETENTION_S));
        entry.inbox.insert((command.at, command.id.clone()), command.clone());
        if let Some(written) = &mut self.written {
            written.push(LedgerWrite::CommandAdded { target: command.target.clone(), command: command.id.clone() });
        }
        true
    }

    /// See [`TargetIndex::targets_watching`](engine::TargetIndex::targets_watching).
    #[must_use]
    pub fn targets_watching(&self, watch: &WatchedResource) -> Vec<TargetId> {
        self.watches.get(watch).into_iter().flatten().cloned().collect()
    }

    /// See [`TargetIndex::services`](engine::TargetIndex::services).
    #[must_use]
    pub fn services(&self, repository: &str) -> Vec<(Name, Name)> {
        let of_policy = |applied: &AppliedPolicy| {
            let application = applied.policy.application.clone();
            let named = applied.policy.services.iter().filter(|(_, service)| service.repository == repository);
            named.map(|(service, _)| (application.clone(), service.clone())).collect::<Vec<_>>()
        };
        self.policies.values().flat_map(of_policy).collect()
    }

    /// See [`TargetIndex::overdue`](engine::TargetIndex::overdue).
    #[must_use]
    pub fn overdue(&self, now: Timestamp, limit: usize) -> Vec<OverdueTarget> {
        let mut due: Vec<OverdueTarget> = self
            .targets
            .iter()
            .filter_map(|(target, entry)| Some(OverdueTarget { since: due_at(entry)?, target: target.clone() }))
            .filter(|due| due.since <= now)
            .collect();
        due.sort();
        due.truncate(limit);
        due
    }

    /// Whether nothing is due, now or later, and no command is waiting.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.targets.values().all(|entry| due_at(entry).is_none())
    }

    /// See [`Administration::apply`](engine::Administration::apply).
    ///
    /// # Errors
    /// [`LedgerError::ResourceConflict`] where another application's policy names a resource of this one.
    pub fn apply(&mut self, policy: &Policy, text: &str, at: Timestamp, by: &str) -> Result<u64, LedgerError> {
        let present = self.policies.get(&policy.application);
        if let Some(present) = present.filter(|present| present.text == text) {
            return Ok(present.version);
        }
        let wanted = policy.resources();
        let other_policies = self.policies.iter().filter(|(application, _)| **application != policy.application);
        let other_resources = other_policies.flat_map(|(_, applied)| applied.policy.resources());
        let mut claimed: Vec<ClaimedResource> = other_resources
            .filter_map(|(resource, claimed_by)| {
                let wanted_by = wanted.get(&resource)?.clone();
                Some(ClaimedResource { resource, wanted_by, claimed_by })
            })
            .collect();
        if !claimed.is_empty() {
            claimed.sort();
            return Err(LedgerError::ResourceConflict(claimed));
        }
        let version = present.map_or(0, |present| present.version) + 1;
        let applied = AppliedPolicy { version, policy: policy.clone(), text: text.to_owned(), at, by: by.to_owned() };
        self.policies.insert(policy.application.clone(), applied);
        for targets in self.watches.values_mut() {
            targets.retain(|target| target.application != policy.application);
        }
        for (target, rules) in policy.targets() {
            for watch in WatchedResource::of(rules) {
                self.watches.entry(watch).or_default().insert(target.clone());
            }
        }
        self.watches.retain(|_, targets| !targets.is_empty());
        Ok(version)
    }

    /// See [`Policies::policy`](engine::Policies::policy).
    #[must_use]
    pub fn policy(&self, application: &Name) -> Option<AppliedPolicy> {
        self.policies.get(application).cloned()
    }

    /// See [`Policies::applications`](engine::Policies::applications).
    #[must_use]
    pub fn applications(&self) -> Vec<Name> {
        self.policies.keys().cloned().collect()
    }

    /// See [`Brakes::brakes`](engine::Brakes::brakes).
    #[must_use]
    pub fn brakes(&self) -> Vec<Brake> {
        self.brakes.values().cloned().collect()
    }

    /// See [`Administration::put_brake`](engine::Administration::put_brake).
    pub fn put_brake(&mut self, brake: &Brake) {
        self.brakes.insert(brake.scope.clone(), brake.clone());
        self.log_brake(brake.since, BrakeRecord { brake: brake.clone(), lifted: None });
    }

    /// See [`Administration::lift_brake`](engine::Administration::lift_brake).
    pub fn lift_brake(&mut self, scope: &Scope, lifted: &Lifted) -> Option<Brake> {
        let brake = self.brakes.remove(scope)?;
        self.log_brake(lifted.at, BrakeRecord { brake: brake.clone(), lifted: Some(lifted.clone()) });
        Some(brake)
    }

    /// Repeating an action at the same moment is a retry, not a second entry.
    fn log_brake(&mut self, at: Timestamp, record: BrakeRecord) {
        let log = self.brake_log.entry(at).or_default();
        if !log.contains(&record) {
            log.push(record);
        }
    }

    /// See [`Brakes::brake_log`](engine::Brakes::brake_log).
    #[must_use]
    pub fn brake_log(&self, limit: usize) -> Vec<BrakeRecord> {
        self.brake_log.values().rev().flat_map(|log| log.iter().rev()).take(limit).cloned().collect()
    }

    /// See [`PostedMessages::posted_message`](engine::PostedMessages::posted_message).
    #[must_use]
    pub fn posted_message(&self, key: &PostedMessageKey) -> Option<PostedMessage> {
        self.posts.get(key).cloned()
    }

    /// See [`PostedMessages::record_posted_message`](engine::PostedMessages::record_posted_message).
    pub fn record_posted_message(&mut self, key: &PostedMessageKey, post: &PostedMessage) {
        self.posts.insert(key.clone(), post.clone());
    }

    /// See [`Targets::state`](engine::Targets::state).
    ///
    /// # Errors
    /// [`LedgerError::Unreadable`] for a state of a newer format.
    pub fn state(&self, target: &TargetId) -> Result<Option<TargetState>, LedgerError> {
        let state = self.targets.get(target).and_then(|entry| entry.state.as_ref());
        check_format(target, state)?;
        Ok(state.cloned())
    }

    /// Whether the target has had a deployment, none is running, and no command is waiting for it.
    #[must_use]
    pub fn is_settled(&self, target: &TargetId) -> bool {
        let Some(entry) = self.targets.get(target).filter(|entry| entry.inbox.is_empty()) else { return false };
        entry
            .state
            .as_ref()
            .is_some_and(|state| state.running.is_none() && state.queued.is_empty() && state.last_deployment > 0)
    }

    /// See [`Targets::history`](engine::Targets::history).
    #[must_use]
    pub fn history(&self, target: &TargetId, limit: usize) -> Vec<DeploymentRecord> {
        let records = self.targets.get(target).into_iter().flat_map(|entry| entry.history.values().rev());
        records.take(limit).cloned().collect()
    }

    /// See [`Targets::journal`](engine::Targets::journal).
    #[must_use]
    pub fn journal(&self, target: &TargetId, after: u64, limit: usize) -> Vec<JournalEntry> {
        let Some(first) = after.checked_add(1) else { return Vec::new() };
        let entries = self.targets.get(target).into_iter().flat_map(|entry| entry.journal.range(first..));
        entries.take(limit).map(|(_, entry)| entry.clone()).collect()
    }

    /// See [`Targets::journal_tail`](engine::Targets::journal_tail).
    #[must_use]
    pub fn journal_tail(&self, target: &TargetId, limit: usize) -> Vec<JournalEntry> {
        let entries = self.targets.get(target).into_iter().flat_map(|entry| entry.journal.values().rev());
        let mut newest: Vec<JournalEntry> = entries.take(limit).cloned().collect();
        newest.reverse();
        newest
    }

    /// See [`Releases::releases`](engine::Releases::releases).
    #[must_use]
    pub fn releases(&self, application: &Name, service: &Name, limit: usize) -> Vec<Release> {
        let known = self.releases.get(&(application.clone(), service.clone()));
        let mut releases: Vec<&Release> = known.into_iter().flat_map(BTreeMap::values).collect();
        releases.sort_by(|a, b| (b.pushed_at, &b.id.digest).cmp(&(a.pushed_at, &a.id.digest)));
        releases.into_iter().take(limit).cloned().collect()
    }

    /// See [`Releases::release_by_id`](engine::Releases::release_by_id).
    #[must_use]
    pub fn release_by_id(&self, id: &ReleaseId) -> Option<Release> {
        self.releases.get(&(id.application.clone(), id.service.clone()))?.get(&id.digest).cloned()
    }
}

fn due_at(entry: &TargetEntry) -> Option<Timestamp> {
    let command = entry.inbox.keys().next().map(|(at, _)| *at);
    match (entry.due_at, command) {
        (Some(wake), Some(command)) => Some(wake.min(command)),
        (wake, command) => wake.or(command),
    }
}

fn check_format(target: &TargetId, state: Option<&TargetState>) -> Result<(), LedgerError> {
    match state {
        Some(state) if state.format > FORMAT => Err(LedgerError::Unreadable {
            what: target.to_string(),
            reason: format!("its format is {}, and this reader knows {FORMAT}", state.format),
        }),
        _ => Ok(()),
    }
}
