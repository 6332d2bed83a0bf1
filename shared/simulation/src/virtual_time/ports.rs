//! Ledger, wake queue and clock; each call takes virtual time, and faults can hit it.

use super::context::{Job, PortCalls, SimContext};
use crate::ledger::MemoryLedger;
use crate::trace::call_name;
use engine::{
    Administration, AppliedPolicy, Brakes, Clock, Commands, Commit, LeaseId, LeaseOutcome, LeaseRequest, Leases,
    LedgerError, OverdueTarget, Policies, ReleaseIntake, Releases, TagInventory, TargetIndex, Targets, Wake, WakeQueue,
    WatchedResource,
};
use rollout::brake::{Brake, BrakeRecord, Lifted, Scope};
use rollout::deployment::DeploymentRecord;
use rollout::deployment::QueuePosition;
use rollout::journal::JournalEntry;
use rollout::policy::Policy;
use rollout::rate_limiter::ApiCost;
use rollout::target::TargetState;
use rollout::{Command, Name, Release, ReleaseId, Seconds, TargetId, Timestamp};

/// SQS's maximum message delay, in seconds.
const LONGEST_DELAY_S: u64 = 900;

/// [`MemoryLedger`] whose calls take time and can fail.
#[derive(Debug, Clone)]
pub struct SimLedger<S = SimContext> {
    pub(crate) context: S,
    pub(crate) ledger: MemoryLedger,
}

fn unavailable<T>(doing: &'static str) -> impl FnOnce(&'static str) -> Result<T, LedgerError> {
    move |reason| Err(LedgerError::Unavailable { doing, reason: reason.to_owned() })
}

impl<S: PortCalls> Leases for SimLedger<S> {
    async fn acquire_lease(&self, target: &TargetId, claim: &LeaseRequest) -> Result<LeaseOutcome, LedgerError> {
        let write = || self.ledger.store().acquire_lease(target, claim);
        self.context.call(call_name::ACQUIRE_LEASE, write, unavailable("taking the target")).await
    }

    async fn commit(
        &self,
        target: &TargetId,
        lease: &LeaseId,
        revision: u64,
        commit: &Commit<'_>,
    ) -> Result<u64, LedgerError> {
        let write = || self.ledger.store().commit(target, lease, revision, commit);
        self.context.call("commit", write, unavailable("writing a decision")).await
    }

    async fn reserve_api_calls(&self, api_cost: &ApiCost, now: Timestamp) -> Result<QueuePosition, LedgerError> {
        let write = || Ok(self.ledger.store().reserve_api_calls(api_cost, now));
        self.context.call("reserve_api_calls", write, unavailable("joining the queue")).await
    }

    async fn register_retry(
        &self,
        target: &TargetId,
        retry: &engine::Retry<'_>,
    ) -> Result<engine::RetryRegistration, LedgerError> {
        let note = || Ok(self.ledger.store().register_retry(target, retry));
        self.context.call("register_retry", note, unavailable("noting that a wake comes again")).await
    }

    async fn release(&self, target: &TargetId, lease: &LeaseId) -> Result<(), LedgerError> {
        let write = || {
            self.ledger.store().release(target, lease);
            Ok(())
        };
        self.context.call("release", write, unavailable("giving the target back")).await
    }
}

impl<S: PortCalls> Commands for SimLedger<S> {
    async fn put_command(&self, command: &Command) -> Result<bool, LedgerError> {
        self.context
            .call("put_command", || Ok(self.ledger.store().put_command(command)), unavailable("writing a command"))
            .await
    }

    async fn commands(&self, target: &TargetId) -> Result<Vec<Command>, LedgerError> {
        let read = || Ok(self.ledger.store().commands(target));
        self.context.call(call_name::COMMANDS, read, unavailable("reading commands")).await
    }
}

impl<S: PortCalls> TargetIndex for SimLedger<S> {
    async fn targets_watching(&self, watch: &WatchedResource) -> Result<Vec<TargetId>, LedgerError> {
        let read = || Ok(self.ledger.store().targets_watching(watch));
        self.context.call("targets_watching", read, unavailable("looking up who is concerned")).await
    }

    async fn services(&self, repository: &str) -> Result<Vec<(Name, Name)>, LedgerError> {
        let read = || Ok(self.ledger.store().services(repository));
        self.context.call("services", read, unavailable("looking up who is concerned")).await
    }

    async fn overdue(&self, now: Timestamp, limit: usize) -> Result<Vec<OverdueTarget>, LedgerError> {
        let read = || self.ledger.store().overdue(now, limit);
        self.context.overdue(read, unavailable("looking for what is overdue")).await
    }
}

impl<S: PortCalls> Releases for SimLedger<S> {
    async fn releases(&self, application: &Name, service: &Name, limit: usize) -> Result<Vec<Release>, LedgerError> {
        let read = || Ok(self.ledger.store().releases(application, service, limit));
        self.context.call("releases", read, unavailable("reading releases")).await
    }

    async fn release_by_id(&self, id: &ReleaseId) -> Result<Option<Release>, LedgerError> {
        self.context
            .call("release_by_id", || Ok(self.ledger.store().release_by_id(id)), unavailable("reading a release"))
            .await
    }
}

impl<S: PortCalls> ReleaseIntake for SimLedger<S> {
    async fn put_release(&self, release: &Release) -> Result<Option<Release>, LedgerError> {
        self.context
            .call("put_release", || Ok(self.ledger.store().put_release(release)), unavailable("writing a release"))
            .await
    }

    async fn tag_inventory(&self, application: &Name, service: &Name) -> Result<Option<TagInventory>, LedgerError> {
        let read = || Ok(self.ledger.store().tag_inventory(application, service));
        self.context.call("tag_inventory", read, unavailable("reading the tags of before")).await
    }

    async fn put_tag_inventory(
        &self,
        application: &Name,
        service: &Name,
        seen: &TagInventory,
    ) -> Result<(), LedgerError> {
        let write = || {
            self.ledger.store().put_tag_inventory(application, service, seen);
            Ok(())
        };
        self.context.call("put_tag_inventory", write, unavailable("writing the tags")).await
    }
}

impl<S: PortCalls> Policies for SimLedger<S> {
    async fn policy(&self, application: &Name) -> Result<Option<AppliedPolicy>, LedgerError> {
        let read = || {
            if !self.context.policies_are_readable() {
                return unavailable("reading a policy")("its record is damaged");
            }
            Ok(self.ledger.store().policy(application))
        };
        self.context.call("policy", read, unavailable("reading a policy")).await
    }

    async fn applications(&self) -> Result<Vec<Name>, LedgerError> {
        self.context
            .call("applications", || Ok(self.ledger.store().applications()), unavailable("listing applications"))
            .await
    }
}

impl<S: PortCalls> Brakes for SimLedger<S> {
    async fn brakes(&self) -> Result<Vec<Brake>, LedgerError> {
        let read = || Ok(self.ledger.store().brakes());
        self.context.call(call_name::BRAKES, read, unavailable("reading brakes")).await
    }

    async fn brake_log(&self, limit: usize) -> Result<Vec<BrakeRecord>, LedgerError> {
        let read = || Ok(self.ledger.store().brake_log(limit));
        self.context.call("brake_log", read, unavailable("reading the log of brakes")).await
    }
}

impl<S: PortCalls> Targets for SimLedger<S> {
    async fn state(&self, target: &TargetId) -> Result<Option<TargetState>, LedgerError> {
        self.context.call("state", || self.ledger.store().state(target), unavailable("reading a state")).await
    }

    async fn history(&self, target: &TargetId, limit: usize) -> Result<Vec<DeploymentRecord>, LedgerError> {
        let read = || Ok(self.ledger.store().history(target, limit));
        self.context.call("history", read, unavailable("reading the history")).await
    }

    async fn journal(&self, target: &TargetId, after: u64, limit: usize) -> Result<Vec<JournalEntry>, LedgerError> {
        let read = || Ok(self.ledger.store().journal(target, after, limit));
        self.context.call("journal", read, unavailable("reading the journal")).await
    }

    async fn journal_tail(&self, target: &TargetId, limit: usize) -> Result<Vec<JournalEntry>, LedgerError> {
        let read = || Ok(self.ledger.store().journal_tail(target, limit));
        self.context.call("journal_tail", read, unavailable("reading the journal")).await
    }
}

impl<S: PortCalls> Administration for SimLedger<S> {
    async fn apply(&self, policy: &Policy, text: &str, at: Timestamp, by: &str) -> Result<u64, LedgerError> {
        let write = || self.ledger.store().apply(policy, text, at, by);
        self.context.call("apply", write, unavailable("applying a policy")).await
    }

    async fn put_brake(&self, brake: &Brake) -> Result<(), LedgerError> {
        let write = || {
            self.ledger.store().put_brake(brake);
            Ok(())
        };
        self.context.call("put_brake", write, unavailable("setting a brake")).await
    }

    async fn lift_brake(&self, scope: &Scope, lifted: &Lifted) -> Result<Option<Brake>, LedgerError> {
        self.context
            .call("lift_brake", || Ok(self.ledger.store().lift_brake(scope, lifted)), unavailable("lifting a brake"))
            .await
    }
}

/// The wake queue, ordered by due time. Wakes may be lost or delivered twice.
#[derive(Debug, Clone)]
pub struct SimWakeQueue {
    pub(super) context: SimContext,
}

impl WakeQueue for SimWakeQueue {
    async fn send(&self, wake: &Wake, delay: Seconds) -> Result<(), String> {
        let key = self.context.next_key();
        let send = || {
            let mut shared = self.context.lock();
            let now = shared.world.now();
            let at = Seconds(delay.0.min(LONGEST_DELAY_S)).after(now);
            let delivery_fault = shared.injector.delivery_fault(key, now, || format!("wake of {}", wake.target));
            shared.send(delivery_fault, at, &Job::Drive(wake.clone(), 1));
            Ok(())
        };
        self.context.call(call_name::SEND, send, |reason| Err(reason.to_owned())).await
    }
}

/// Virtual time, and lease ids that count up.
#[derive(Debug, Clone)]
pub struct SimClock {
    pub(super) context: SimContext,
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        self.context.clock()
    }

    fn unique_id(&self) -> LeaseId {
        let mut shared = self.context.lock();
        shared.leases += 1;
        let lease = LeaseId(format!("lease-{}", shared.leases));
        self.context.set_lease(&lease);
        lease
    }
}
