//! Writes to a target that changes its version in place: only its version, as it was decided, and over a version set
//! outside Switchback only to go back.

use super::in_place::{InPlaceModel, InPlaceState};
use super::target_journal::check_lease;
use super::{
    BrokenInvariant, NO_FORWARD_OVERWRITE_OF_FOREIGN_VERSIONS, ONLY_LEASE_HOLDER_WRITES,
    ONLY_THE_VERSION_CHANGES_IN_PLACE, REDEPLOYED_ONLY_AFTER_FAILURE,
};
use crate::ledger::Store;
use crate::trace::{PrimaryDeployment, VersionChange};
use crate::world::{ChangedBy, WorldChange};
use engine::LeaseId;
use rollout::deployment::Deployment;
use rollout::in_place::{InPlace, InPlaceStage};
use rollout::{Effect, SignedDuration, Timestamp};

/// How long after its last effect Switchback may take a version that it reads for an old one, in seconds: its own
/// allowance for stale readings, and the skew of two clocks.
const UNSETTLED_S: i64 = 14;

/// The version that was decided last.
fn decided_version(in_place: &InPlace) -> Option<&str> {
    match &in_place.at {
        InPlaceStage::RollingBack(rollback) => Some(rollback.path.version()),
        InPlaceStage::Registering(_) | InPlaceStage::Forward(_) => in_place.set_version.as_deref(),
    }
}

/// Whether an effect changes anything but the version: it is for a target with sides.
fn is_for_sides(effect: &Effect) -> bool {
    match effect {
        Effect::SetVersion { .. }
        | Effect::SetDesired { .. }
        | Effect::SetAutoscaling { .. }
        | Effect::SetWeights { .. }
        | Effect::SetTestRules { .. } => true,
        Effect::StartTask { template: slot, .. } | Effect::StartFirst { slot, .. } | Effect::StopFirst { slot } => {
            slot.is_some()
        }
        _ => false,
    }
}

impl InPlaceModel {
    /// Checks an effect that a pass performed. `change`: what it did to the service's version.
    pub(super) fn check_performed(
        &mut self,
        lease: Option<&LeaseId>,
        effect: &Effect,
        change: Option<&VersionChange>,
        store: &Store,
        now: Timestamp,
    ) -> Option<BrokenInvariant> {
        if let Some(found) = check_lease(store, &self.target, lease, effect) {
            return Some(found);
        }
        if is_for_sides(effect) {
            let words = format!("{} was performed on {}", effect.kind().name(), self.service.1);
            return Some((&ONLY_THE_VERSION_CHANGES_IN_PLACE, words));
        }
        let Effect::ReplaceVersion { version } = effect else {
            // A first deployment, if anything: nobody else's version is overwritten where nothing runs.
            if let Some(VersionChange { before, after }) = change {
                self.note_primary(before, now);
                self.note_own_write(after, after.id != before.id, now);
            }
            return None;
        };
        let running = store.peek(&self.target).and_then(|state| state.running.as_ref());
        let in_place = running.and_then(Deployment::in_place);
        let decided = in_place.and_then(decided_version);
        if decided != Some(version.as_str()) {
            return Some((&ONLY_LEASE_HOLDER_WRITES, format!("{version} was set, and {decided:?} was decided")));
        }
        let found = match (running, in_place, change) {
            (Some(running), Some(in_place), Some(change)) => {
                self.note_primary(&change.before, now);
                let seen = self.last_observation_of(lease);
                let overwritten = seen.and_then(|seen| self.check_overwrite(running, in_place, seen, change));
                overwritten.or_else(|| check_redeployed(change))
            }
            _ => None,
        };
        if let Some(change) = change {
            self.note_own_write(&change.after, change.after.version == *version, now);
        }
        self.own_write_at = Some(now);
        if let Some(open) = self.open.as_mut().filter(|open| open.rolls_back) {
            open.rollback_requested = true;
        }
        found
    }

    /// Notes the primary deployment after a request of Switchback. `is_own`: the request has set its version.
    fn note_own_write(&mut self, after: &PrimaryDeployment, is_own: bool, now: Timestamp) {
        self.primary.clone_from(after);
        self.is_own |= is_own;
        self.own_write_at = Some(now);
    }

    /// Whether a version that the pass had seen, and that somebody else had set, was overwritten to go forward, or to
    /// go back without a journal entry. `seen`: the pass's last observation.
    fn check_overwrite(
        &self,
        running: &Deployment,
        in_place: &InPlace,
        seen: &InPlaceState,
        change: &VersionChange,
    ) -> Option<BrokenInvariant> {
        let live = &change.before.version;
        let before = in_place.before.version.as_str();
        let known = [Some(before), in_place.set_version.as_deref(), decided_version(in_place)];
        let read_it = seen.read.as_ref().is_some_and(|read| &read.version == live);
        let is_foreign = !self.is_own && !seen.is_own && &seen.service.primary.version == live;
        if known.contains(&Some(live.as_str())) || !read_it || !is_foreign {
            return None;
        }
        if !matches!(in_place.at, InPlaceStage::RollingBack(_)) {
            let words = format!("{live} was set by another and observed, and it is overwritten to go forward");
            return Some((&NO_FORWARD_OVERWRITE_OF_FOREIGN_VERSIONS, words));
        }
        let unsettled = SignedDuration::from_secs(UNSETTLED_S);
        let settled = running.last_effect_at.is_none_or(|at| seen.at.duration_since(at) > unsettled);
        let journalled = self.open.as_ref().is_some_and(|open| open.replaced_foreign.contains(live));
        (settled && !journalled).then(|| {
            let words = format!("{live} was set by another and observed, and is replaced without a journal entry");
            (&NO_FORWARD_OVERWRITE_OF_FOREIGN_VERSIONS, words)
        })
    }

    /// Checks a change of the service, or of a rule that forwards to it. Only a first deployment, of a service that ran
    /// nothing, sets its number of tasks.
    pub(super) fn check_change(
        &mut self,
        change: &WorldChange,
        store: &Store,
        now: Timestamp,
    ) -> Option<BrokenInvariant> {
        let (what, by) = match change {
            WorldChange::Desired { from, to, by, .. } => {
                let running = store.peek(&self.target).and_then(|state| state.running.as_ref());
                if running.is_some_and(|running| running.phase.first().is_some()) {
                    return None;
                }
                (format!("the desired count of {} went from {from} to {to}", self.service.1), *by)
            }
            WorldChange::Limits { min, max, by, .. } => {
                (format!("the autoscaling limits of {} were set to {min} and {max}", self.service.1), *by)
            }
            WorldChange::RuleWritten { rule, by, .. } => (format!("{rule} was written"), *by),
            WorldChange::TaskDied { .. } => {
                self.disrupted_at = Some(now);
                return None;
            }
            WorldChange::NodeConverged { .. } | WorldChange::Targets { .. } => return None,
        };
        match by {
            ChangedBy::Switchback => Some((&ONLY_THE_VERSION_CHANGES_IN_PLACE, what)),
            ChangedBy::ThirdParty | ChangedBy::Autoscaler => {
                self.disrupted_at = Some(now);
                None
            }
        }
    }
}

/// Whether the version that was set already is deployed anew although ECS has not given its deployment up.
fn check_redeployed(VersionChange { before, after }: &VersionChange) -> Option<BrokenInvariant> {
    let is_anew = before.id != after.id && before.version == after.version;
    (is_anew && !before.has_failed).then(|| {
        let words = format!("{} was deployed anew while its deployment {} went on", after.version, before.id);
        (&REDEPLOYED_ONLY_AFTER_FAILURE, words)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(id: &str, version: &str, has_failed: bool) -> PrimaryDeployment {
        PrimaryDeployment { id: id.to_owned(), version: version.to_owned(), has_failed }
    }

    #[test]
    fn a_version_is_deployed_anew_only_after_ecs_has_given_it_up() {
        let change = |before, after| VersionChange { before, after };
        let [first, again] = ["ecs-svc/1", "ecs-svc/2"].map(|id| deployment(id, "worker:2", false));
        let needless = change(first.clone(), again.clone());
        let (invariant, words) = check_redeployed(&needless).expect("nothing had failed");
        assert_eq!(invariant, &REDEPLOYED_ONLY_AFTER_FAILURE);
        assert_eq!(words, "worker:2 was deployed anew while its deployment ecs-svc/1 went on");
        for sound in [
            change(deployment("ecs-svc/1", "worker:2", true), again.clone()),
            change(deployment("ecs-svc/1", "worker:1", false), again),
            change(first.clone(), first),
        ] {
            assert_eq!(check_redeployed(&sound), None, "{sound:?}");
        }
    }
}
