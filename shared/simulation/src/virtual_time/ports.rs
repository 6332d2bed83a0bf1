//! Ledger, wake queue, registry and clock, each call with its time and its faults.

use super::stage::{Calls, Job, Stage};
use crate::ledger::MemoryLedger;
use engine::{
    Applied, Begin, Claim, Clock, Commit, LeaseId, Ledger, LedgerError, Overdue, TagsSeen, Wake, WakeQueue, Watch,
};
use rollout::brake::{Brake, BrakeRecord, Lifted, Scope};
use rollout::journal::JournalEntry;
use rollout::pace::{Place, Price};
use rollout::policy::Policy;
use rollout::target::{DeploymentRecord, TargetState};
use rollout::{Command, Name, Release, ReleaseId, Seconds, TargetId, Timestamp};

/// The longest delay that SQS knows, in seconds.
const LONGEST_DELAY_S: u64 = 900;

/// [`MemoryLedger`], whose calls take time and can fail.
#[derive(Debug, Clone)]
pub struct SimLedger<S = Stage> {
    pub(crate) stage: S,
    pub(crate) ledger: MemoryLedger,
}

fn unavailable<T>(doing: &'static str) -> impl FnOnce(&'static str) -> Result<T, LedgerError> {
    move |reason| Err(LedgerError::Unavailable { doing, reason: reason.to_owned() })
}

impl<S: Calls> Ledger for SimLedger<S> {
    async fn begin(&self, target: &TargetId, claim: &Claim) -> Result<Begin, LedgerError> {
        self.stage.call("begin", || self.ledger.store().begin(target, claim), unavailable("taking the target")).await
    }

    async fn note_retry(
        &self,
        target: &TargetId,
        retry: &engine::Retry<'_>,
    ) -> Result<engine::RetryNoted, LedgerError> {
        let note = || Ok(self.ledger.store().note_retry(target, retry));
        self.stage.call("note_retry", note, unavailable("noting that a wake comes again")).await
    }

    async fn commands(&self, target: &TargetId) -> Result<Vec<Command>, LedgerError> {
        self.stage.call("commands", || Ok(self.ledger.store().commands(target)), unavailable("reading commands")).await
    }

    async fn commit(
        &self,
        target: &TargetId,
        lease: &LeaseId,
        revision: u64,
        commit: &Commit<'_>,
    ) -> Result<u64, LedgerError> {
        let write = || self.ledger.store().commit(target, lease, revision, commit);
        self.stage.call("commit", write, unavailable("writing a decision")).await
    }

    async fn take_place(&self, price: &Price, now: Timestamp) -> Result<Place, LedgerError> {
        let write = || Ok(self.ledger.store().take_place(price, now));
        self.stage.call("take_place", write, unavailable("joining the row")).await
    }

    async fn release(&self, target: &TargetId, lease: &LeaseId) -> Result<(), LedgerError> {
        let write = || {
            self.ledger.store().release(target, lease);
            Ok(())
        };
        self.stage.call("release", write, unavailable("giving the target back")).await
    }

    async fn tags_seen(&self, application: &Name, service: &Name) -> Result<Option<TagsSeen>, LedgerError> {
        let read = || Ok(self.ledger.store().tags_seen(application, service));
        self.stage.call("tags_seen", read, unavailable("reading the tags of before")).await
    }

    async fn put_tags_seen(&self, application: &Name, service: &Name, seen: &TagsSeen) -> Result<(), LedgerError> {
        let write = || {
            self.ledger.store().put_tags_seen(application, service, seen);
            Ok(())
        };
        self.stage.call("put_tags_seen", write, unavailable("writing the tags")).await
    }

    async fn put_release(&self, release: &Release) -> Result<Option<Release>, LedgerError> {
        self.stage
            .call("put_release", || Ok(self.ledger.store().put_release(release)), unavailable("writing a release"))
            .await
    }

    async fn put_command(&self, command: &Command) -> Result<bool, LedgerError> {
        self.stage
            .call("put_command", || Ok(self.ledger.store().put_command(command)), unavailable("writing a command"))
            .await
    }

    async fn targets_watching(&self, watch: &Watch) -> Result<Vec<TargetId>, LedgerError> {
        let read = || Ok(self.ledger.store().targets_watching(watch));
        self.stage.call("targets_watching", read, unavailable("looking up who is concerned")).await
    }

    async fn services(&self, repository: &str) -> Result<Vec<(Name, Name)>, LedgerError> {
        let read = || Ok(self.ledger.store().services(repository));
        self.stage.call("services", read, unavailable("looking up who is concerned")).await
    }

    async fn overdue(&self, now: Timestamp, limit: usize) -> Result<Vec<Overdue>, LedgerError> {
        let read = || self.ledger.store().overdue(now, limit);
        self.stage.overdue(read, unavailable("looking for what is overdue")).await
    }

    async fn apply(&self, policy: &Policy, text: &str, at: Timestamp, by: &str) -> Result<u64, LedgerError> {
        let write = || self.ledger.store().apply(policy, text, at, by);
        self.stage.call("apply", write, unavailable("applying a policy")).await
    }

    async fn policy(&self, application: &Name) -> Result<Option<Applied>, LedgerError> {
        let read = || {
            if !self.stage.policies_are_readable() {
                return unavailable("reading a policy")("its record is damaged");
            }
            Ok(self.ledger.store().policy(application))
        };
        self.stage.call("policy", read, unavailable("reading a policy")).await
    }

    async fn applications(&self) -> Result<Vec<Name>, LedgerError> {
        self.stage
            .call("applications", || Ok(self.ledger.store().applications()), unavailable("listing applications"))
            .await
    }

    async fn brakes(&self) -> Result<Vec<Brake>, LedgerError> {
        self.stage.call("brakes", || Ok(self.ledger.store().brakes()), unavailable("reading brakes")).await
    }

    async fn put_brake(&self, brake: &Brake) -> Result<(), LedgerError> {
        let write = || {
            self.ledger.store().put_brake(brake);
            Ok(())
        };
        self.stage.call("put_brake", write, unavailable("setting a brake")).await
    }

    async fn lift_brake(&self, scope: &Scope, lifted: &Lifted) -> Result<Option<Brake>, LedgerError> {
        self.stage
            .call("lift_brake", || Ok(self.ledger.store().lift_brake(scope, lifted)), unavailable("lifting a brake"))
            .await
    }

    async fn brake_log(&self, limit: usize) -> Result<Vec<BrakeRecord>, LedgerError> {
        let read = || Ok(self.ledger.store().brake_log(limit));
        self.stage.call("brake_log", read, unavailable("reading the log of brakes")).await
    }

    async fn state(&self, target: &TargetId) -> Result<Option<TargetState>, LedgerError> {
        self.stage.call("state", || self.ledger.store().state(target), unavailable("reading a state")).await
    }

    async fn history(&self, target: &TargetId, limit: usize) -> Result<Vec<DeploymentRecord>, LedgerError> {
        let read = || Ok(self.ledger.store().history(target, limit));
        self.stage.call("history", read, unavailable("reading the history")).await
    }

    async fn journal(&self, target: &TargetId, after: u64, limit: usize) -> Result<Vec<JournalEntry>, LedgerError> {
        let read = || Ok(self.ledger.store().journal(target, after, limit));
        self.stage.call("journal", read, unavailable("reading the journal")).await
    }

    async fn journal_tail(&self, target: &TargetId, limit: usize) -> Result<Vec<JournalEntry>, LedgerError> {
        let read = || Ok(self.ledger.store().journal_tail(target, limit));
        self.stage.call("journal_tail", read, unavailable("reading the journal")).await
    }

    async fn releases(&self, application: &Name, service: &Name, limit: usize) -> Result<Vec<Release>, LedgerError> {
        let read = || Ok(self.ledger.store().releases(application, service, limit));
        self.stage.call("releases", read, unavailable("reading releases")).await
    }

    async fn release_by_id(&self, id: &ReleaseId) -> Result<Option<Release>, LedgerError> {
        self.stage
            .call("release_by_id", || Ok(self.ledger.store().release_by_id(id)), unavailable("reading a release"))
            .await
    }
}

/// A queue of wakes, ordered by when they are due. Wakes may be lost, and may come twice.
#[derive(Debug, Clone)]
pub struct SimWakeQueue {
    pub(super) stage: Stage,
}

impl WakeQueue for SimWakeQueue {
    async fn send(&self, wake: &Wake, delay: Seconds) -> Result<(), String> {
        let key = self.stage.next_key();
        let send = || {
            let mut scenery = self.stage.lock();
            let now = scenery.world.now();
            let at = Seconds(delay.0.min(LONGEST_DELAY_S)).after(now);
            let way = scenery.chance.way(key, now, || format!("wake of {}", wake.target));
            scenery.send(way, at, &Job::Drive(wake.clone(), 1));
            Ok(())
        };
        self.stage.call("send_wake", send, |reason| Err(reason.to_owned())).await
    }
}

/// The world's time, and lease identities that count up.
#[derive(Debug, Clone)]
pub struct SimClock {
    pub(super) stage: Stage,
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        self.stage.clock()
    }

    fn lease_id(&self) -> LeaseId {
        let mut scenery = self.stage.lock();
        scenery.leases += 1;
        let lease = LeaseId(format!("lease-{}", scenery.leases));
        self.stage.takes(&lease);
        lease
    }
}
