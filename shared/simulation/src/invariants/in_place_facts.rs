//! The journal of a target that changes its version in place, compared with the service: found, replaced, halted,
//! verified, rolled back and ended only as it really was.

use super::in_place::{InPlaceModel, InPlaceState, OpenReplacement};
use super::target_journal::{not_observed, require};
use super::{
    BrokenInvariant, JOURNAL_MATCHES_WORLD, Moment, NO_AUTOMATIC_ROLLBACK_OF_FORWARD_ONLY,
    REPLACED_ONLY_IF_EVERYTHING_RUNS_IT, STABLE_VERSION_IS_LIVE, VERSION_BEFORE_AT_END,
};
use crate::ledger::Store;
use crate::world::World;
use engine::LeaseId;
use rollout::deployment::Deployment;
use rollout::journal::{Fact, JournalEntry};
use rollout::verdict::Verdict;
use rollout::{Cause, Slot};
use serde_json::Value;

impl InPlaceModel {
    /// Checks a committed decision, with its journal entries after sequence `after`.
    pub(super) fn check_decision(
        &mut self,
        lease: &LeaseId,
        after: u64,
        moment: &mut Moment<'_>,
    ) -> Option<BrokenInvariant> {
        let mut found = None;
        let (store, target) = (moment.store, self.target.clone());
        let mut entries = store.entries(&target, after).peekable();
        if entries.peek().is_some() {
            let seen = self.last_observation_of(Some(lease)).cloned();
            for entry in entries {
                found = found.or(self.check_entry(entry, seen.as_ref(), moment));
            }
        }
        let running = store.peek(&target).and_then(|state| state.running.as_ref());
        self.journal.note_decision(running);
        self.update_triggers(running);
        if let (Some(open), Some(running)) = (&mut self.open, running) {
            note_running(open, running);
        }
        found.or(self.journal.check_running(running))
    }

    /// Checks one entry. `seen`: the last observation of the pass that wrote it.
    fn check_entry(
        &mut self,
        entry: &JournalEntry,
        seen: Option<&InPlaceState>,
        moment: &mut Moment<'_>,
    ) -> Option<BrokenInvariant> {
        if let Some(found) = self.journal.check_place(entry) {
            return Some(found);
        }
        let found = self.check_fact(&entry.fact, seen, moment);
        match &entry.fact {
            Fact::Started { digest, .. } => {
                let (number, digest) = (entry.deployment.unwrap_or(0), digest.clone());
                self.open = Some(OpenReplacement { number, digest, ..OpenReplacement::default() });
            }
            Fact::Ended { .. } => self.open = None,
            fact => {
                if let Some(open) = &mut self.open {
                    note_fact(open, fact);
                }
            }
        }
        found
    }

    fn check_fact(
        &mut self,
        fact: &Fact,
        seen: Option<&InPlaceState>,
        moment: &mut Moment<'_>,
    ) -> Option<BrokenInvariant> {
        match fact {
            Fact::WorkloadFound { version, running } => self.check_found(version, *running, seen),
            Fact::VersionReady { version, .. } | Fact::ReplacementStarted { version } => {
                self.check_version(version, moment.world)
            }
            Fact::Replaced { version, running } => self.check_replaced(version, *running, seen, moment.world),
            Fact::Verified { digest, .. } => self.check_verified(digest, seen, moment.world),
            Fact::Halted { reason } => self.check_halted(reason, seen),
            Fact::Resumed => self.check_resumed(seen),
            Fact::ForeignVersionReplaced { found, .. } => check_foreign(found, seen),
            Fact::AwaitingOperator { cause, .. } => self.check_cause(cause, seen),
            Fact::RollbackStarted { cause } => self.check_rollback(cause, seen),
            Fact::Ended { verdict, live, .. } => self.check_end(*verdict, *live, seen, moment),
            Fact::SidesDetermined { .. }
            | Fact::WeightsDecided { .. }
            | Fact::WeightsVerified { .. }
            | Fact::ForeignWeightsReplaced { .. }
            | Fact::AutoscalingOverridden { .. }
            | Fact::AutoscalingRestored { .. }
            | Fact::RollbackBlocked { .. }
            | Fact::StableAlarm { .. } => {
                require(false, || format!("{} was journalled of a target without sides", fact.name()))
            }
            _ => None,
        }
    }

    /// What ran when the deployment started: from now on it counts as what Switchback found there.
    fn check_found(&mut self, version: &str, running: u32, seen: Option<&InPlaceState>) -> Option<BrokenInvariant> {
        let Some(seen) = seen else { return Some(not_observed("a version was found")) };
        self.is_own |= self.primary.version == version;
        self.left_behind = false;
        let live = &seen.service.primary.version;
        let read = seen.read.as_ref().map(|read| read.running);
        require(seen.may_lag || live == version, || {
            format!("the journal says that {version} was found, and {live} was set")
        })
        .or(require(read == Some(running), || {
            format!("the journal says that {running} tasks run, and {read:?} were observed")
        }))
    }

    /// The new version runs the release; the one that a rollback has registered again runs what the version before did.
    fn check_version(&self, version: &str, world: &World) -> Option<BrokenInvariant> {
        let open = self.open.as_ref()?;
        let image = world.image_in(version, &self.container).unwrap_or_default();
        let expected = self.expected_image(open, world)?;
        require(image.ends_with(&expected), || {
            format!("the journal says that {version} runs {expected}, and it runs {image}")
        })
    }

    /// The end of the image that the deployment brings: the digest of its release or, once it rolls back, the image of
    /// the version before; none: that is not known.
    fn expected_image(&self, open: &OpenReplacement, world: &World) -> Option<String> {
        if open.rolls_back { world.image_in(open.before.as_ref()?, &self.container) } else { Some(open.digest.clone()) }
    }

    fn check_replaced(
        &self,
        version: &str,
        running: u32,
        seen: Option<&InPlaceState>,
        world: &World,
    ) -> Option<BrokenInvariant> {
        let Some(seen) = seen else { return Some(not_observed("everything is replaced")) };
        let (service, open) = (&seen.service, self.open.as_ref()?);
        let false_entry = |words: String| Some((&REPLACED_ONLY_IF_EVERYTHING_RUNS_IT, words));
        if seen.may_lag {
            return None;
        }
        if service.primary.version != version || !service.is_replaced() {
            return false_entry(format!("the journal says that {version} has replaced all others, and {service}"));
        }
        let image = world.image_in(version, &self.container).unwrap_or_default();
        if self.expected_image(open, world).is_some_and(|expected| !image.ends_with(&expected)) {
            return false_entry(format!(
                "the journal says that {version} has replaced all others, and it runs {image}"
            ));
        }
        let read = seen.read.as_ref().map(|read| read.running);
        require(read == Some(running) || service.is_scaled_to_zero(), || {
            format!("the journal says that {running} tasks run, and {read:?} were observed")
        })
    }

    fn check_verified(&self, digest: &str, seen: Option<&InPlaceState>, world: &World) -> Option<BrokenInvariant> {
        let Some(seen) = seen else { return Some(not_observed("a release is verified")) };
        if seen.may_lag || seen.service.is_replaced() {
            return self.check_runs(digest, "verified", seen, world);
        }
        let words = format!("the journal says that {digest} is verified, and {}", seen.service);
        Some((&REPLACED_ONLY_IF_EVERYTHING_RUNS_IT, words))
    }

    /// Whether the version that is set runs this digest. `what`: the journal says so of it.
    fn check_runs(&self, digest: &str, what: &str, seen: &InPlaceState, world: &World) -> Option<BrokenInvariant> {
        let version = &seen.service.primary.version;
        let image = world.image_in(version, &self.container).unwrap_or_default();
        let holds = seen.may_lag || image.ends_with(digest);
        (!holds).then(|| {
            let words = format!("the journal says that {digest} is {what}, and {version} runs {image}");
            (&REPLACED_ONLY_IF_EVERYTHING_RUNS_IT, words)
        })
    }

    fn check_halted(&self, reason: &str, seen: Option<&InPlaceState>) -> Option<BrokenInvariant> {
        let Some(seen) = seen else { return Some(not_observed("it is halted")) };
        let open = self.open.as_ref()?;
        let live = Some(&seen.service.primary.version);
        let is_foreign = !seen.is_own && live != open.set_version.as_ref() && live != open.before.as_ref();
        require(is_foreign, || format!("it halted ({reason}), and nobody else had set {live:?}"))
    }

    fn check_resumed(&self, seen: Option<&InPlaceState>) -> Option<BrokenInvariant> {
        let Some(seen) = seen else { return Some(not_observed("it goes on")) };
        let set_version = self.open.as_ref()?.set_version.as_ref();
        let live = &seen.service.primary.version;
        require(seen.may_lag || set_version == Some(live), || {
            format!("the journal says that {set_version:?} is set again, and {live} is")
        })
    }

    fn check_rollback(&self, cause: &Cause, seen: Option<&InPlaceState>) -> Option<BrokenInvariant> {
        let open = self.open.as_ref()?;
        if open.is_forward_only && cause.is_automatic() {
            let words = format!("#{} is forward-only, and is rolled back: {}", open.number, cause.summary());
            return Some((&NO_AUTOMATIC_ROLLBACK_OF_FORWARD_ONLY, words));
        }
        // The cause of waiting for the operator may be over by the time the deployment rolls back for it.
        if open.operator_wait_causes.contains(cause) { None } else { self.check_cause(cause, seen) }
    }

    fn check_cause(&self, cause: &Cause, seen: Option<&InPlaceState>) -> Option<BrokenInvariant> {
        let (seen, open) = (seen?, self.open.as_ref()?);
        let set_again = || {
            let live = &seen.service.primary.version;
            require(!seen.is_own && Some(live) == open.before.as_ref(), || {
                format!("the journal says that another has set the version before, and {live} is set")
            })
        };
        match cause {
            Cause::Alarm { name, reason } => {
                let holds = seen.firing.contains(name) || reason.contains("no data");
                require(holds, || format!("it rolls back for alarm {name}, which did not fire"))
            }
            Cause::ExternalRollback => set_again(),
            Cause::Tasks { reason } if reason.contains("was set again") => set_again(),
            _ => None,
        }
    }

    fn check_end(
        &mut self,
        verdict: Verdict,
        live: Option<Slot>,
        seen: Option<&InPlaceState>,
        moment: &mut Moment<'_>,
    ) -> Option<BrokenInvariant> {
        let open = self.open.take()?;
        self.left_behind |= open.left_behind;
        self.note_ending_hooks(&open, moment);
        // Read once more: the ledger's stable version is that of this decision.
        self.service_state(moment)?;
        require(live.is_none(), || format!("{live:?} is live, and the target has no sides"))
            .or_else(|| self.check_verdict(verdict, &open, seen, moment.world))
            .or_else(|| self.check_stable_is_live(moment.store))
    }

    fn check_verdict(
        &self,
        verdict: Verdict,
        open: &OpenReplacement,
        seen: Option<&InPlaceState>,
        world: &mut World,
    ) -> Option<BrokenInvariant> {
        if verdict == Verdict::Succeeded {
            let Some(seen) = seen else { return Some(not_observed("a deployment has succeeded")) };
            return self.check_runs(&open.digest, "live", seen, world);
        }
        if open.set_version.is_none() || open.left_behind || verdict == Verdict::Failed {
            return None;
        }
        let Some(seen) = seen else { return Some(not_observed("a deployment is rolled back")) };
        let (service, before) = (&seen.service, open.before.as_deref().unwrap_or_default());
        let is_back = service.is_replaced() && is_equal(world, &service.primary.version, before);
        (!seen.may_lag && !is_back).then(|| {
            let words = format!("#{} ended as {verdict:?}, {before} ran before, and {service}", open.number);
            (&VERSION_BEFORE_AT_END, words)
        })
    }

    /// While nothing runs: whether the service is set to run the stable version, unless somebody else set another
    /// one, or the last deployment could not clean up.
    pub(super) fn check_stable_is_live(&self, store: &Store) -> Option<BrokenInvariant> {
        let state = store.peek(&self.target).filter(|state| state.running.is_none())?;
        let stable = state.stable.as_ref().filter(|_| self.is_own && !self.left_behind)?;
        let live = &self.primary.version;
        (&stable.version != live).then(|| {
            (&STABLE_VERSION_IS_LIVE, format!("{} is stable in the ledger, and {live} is live", stable.version))
        })
    }
}

/// What the journal says about the deployment, for later entries.
fn note_fact(open: &mut OpenReplacement, fact: &Fact) {
    match fact {
        Fact::WorkloadFound { version, .. } => open.before = Some(version.clone()),
        Fact::ReplacementStarted { version } => open.set_version = Some(version.clone()),
        Fact::RollbackStarted { .. } => open.rolls_back = true,
        Fact::ForeignVersionReplaced { found, .. } => {
            open.replaced_foreign.insert(found.clone());
        }
        Fact::AwaitingOperator { cause, .. } => open.operator_wait_causes.push(cause.clone()),
        Fact::CleanupIncomplete { .. } => open.left_behind = true,
        _ => {}
    }
}

/// What the stored deployment says, for later entries.
fn note_running(open: &mut OpenReplacement, running: &Deployment) {
    let has_replaced = running.in_place().is_some_and(|in_place| in_place.has_replaced());
    open.is_forward_only |= has_replaced && running.is_forward_only();
    let tasks = running.hook_progress().into_iter().flatten().filter_map(|(_, hook)| hook.task.clone());
    open.hook_tasks.extend(tasks);
}

/// A version that the journal names as somebody else's.
fn check_foreign(found: &str, seen: Option<&InPlaceState>) -> Option<BrokenInvariant> {
    let Some(seen) = seen else { return Some(not_observed("a foreign version is replaced")) };
    let live = &seen.service.primary.version;
    let holds = seen.may_lag || (live == found && !seen.is_own);
    (!holds).then(|| {
        let words = format!("the journal says that {found}, set by another, is replaced, and {live} was set");
        (&JOURNAL_MATCHES_WORLD, words)
    })
}

/// Whether two versions are one, or equal but for the family that they are registered in.
fn is_equal(world: &mut World, one: &str, other: &str) -> bool {
    let mut document = |version: &str| {
        let described = world.as_third_party(|world| world.describe_task_definition(version));
        let mut document = described.map(|definition| definition.document).unwrap_or_default();
        if let Value::Object(fields) = &mut document {
            fields.remove("family");
        }
        document
    };
    one == other || document(one) == document(other)
}
