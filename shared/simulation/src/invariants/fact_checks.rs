//! Single facts of a pair's journal, each compared with the actual state at the observation of the pass that wrote it.

use super::journal_checks::{all_on, every_rule, format_rules, same_split, to_split};
use super::pair::{PairModel, Split, StateAtObservation, index};
use super::target_journal::{not_observed, require};
use super::{BrokenInvariant, NO_ROLLBACK_ONTO_ALARMED_SIDE};
use crate::world::World;
use rollout::journal::Fact;
use rollout::snapshot::Weights;
use rollout::{Cause, Slot};

impl PairModel {
    /// Checks one fact; `at_observation` is the state at the last observation of the pass that wrote it.
    pub(super) fn check_fact(
        &mut self,
        fact: &Fact,
        at_observation: Option<&StateAtObservation>,
        world: &World,
    ) -> Option<BrokenInvariant> {
        match fact {
            Fact::WeightsVerified { weights } => check_weights(*weights, at_observation),
            Fact::CandidateHealthy { healthy } => self.check_candidate_healthy(*healthy, at_observation),
            Fact::VersionReady { version, .. } => self.check_task_definition(version, world),
            Fact::AutoscalingOverridden { slot, min, max } => self.check_overridden(*slot, (*min, *max)),
            Fact::AutoscalingRestored { slot, min, max, .. } => check_restored(*slot, (*min, *max), at_observation),
            Fact::Halted { reason } => self.check_halted(reason, at_observation?),
            Fact::Resumed => self.check_resumed(at_observation?),
            Fact::StableAlarm { alarm, .. } => self.check_stable_alarm(alarm, at_observation?, world),
            Fact::ForeignWeightsReplaced { found, .. } => require(self.had_foreign_edit(), || {
                format!("the journal says that foreign weights are replaced ({found}), and there were none")
            }),
            Fact::AwaitingOperator { cause, .. } => {
                let found = self.check_cause(cause, at_observation);
                if let Some(open) = &mut self.open {
                    open.operator_wait_cause = Some(cause.clone());
                }
                found
            }
            Fact::RollbackStarted { cause } => self.check_rollback(cause, at_observation, world),
            Fact::RollbackBlocked { .. } => match at_observation {
                Some(at_observation) => self.check_blocked(at_observation),
                None => Some(not_observed("the stable side cannot serve")),
            },
            Fact::Verified { digest, .. } => self.check_verified(digest, at_observation?, world),
            _ => None,
        }
    }

    /// The stable side of the running deployment, once it is known.
    fn stable(&self) -> Option<Slot> {
        self.open.as_ref()?.stable
    }

    fn had_foreign_edit(&self) -> bool {
        self.rules.iter().any(|rule| rule.foreign_edit_at.is_some())
    }

    fn check_candidate_healthy(
        &self,
        healthy: u32,
        at_observation: Option<&StateAtObservation>,
    ) -> Option<BrokenInvariant> {
        let (Some(at_observation), Some(stable)) = (at_observation, self.stable()) else {
            return Some(not_observed("the candidate is healthy"));
        };
        let seen = at_observation.healthy[index(stable.other())];
        require(seen == healthy && seen > 0, || {
            format!("the journal says that {healthy} targets are healthy, and {seen} were")
        })
    }

    fn check_task_definition(&self, version: &str, world: &World) -> Option<BrokenInvariant> {
        let image = world.image_in(version, &self.container).unwrap_or_default();
        let digest = self.open.as_ref().map(|open| open.digest.as_str()).unwrap_or_default();
        require(image.ends_with(digest), || {
            format!("the journal says that {version} runs {digest}, and it runs {image}")
        })
    }

    fn check_overridden(&self, slot: Slot, (min, max): (u32, u32)) -> Option<BrokenInvariant> {
        let found = self.open.as_ref().and_then(|open| open.found.as_ref()).and_then(|(limits, _)| limits[index(slot)]);
        let holds = found.is_some_and(|(low, high, _)| (low, high) == (min, max));
        require(holds, || format!("the journal says that {slot}'s limits were {min} to {max}, and they were {found:?}"))
    }

    fn check_halted(&self, reason: &str, at_observation: &StateAtObservation) -> Option<BrokenInvariant> {
        let decided = self.open.as_ref()?.decided?;
        let edited = self.rules.iter().any(|rule| rule.is_foreign || rule.unexpected_groups);
        let other = |split: Split| !same_split(split, decided);
        let mut rules = at_observation.rules.iter();
        let differs = rules.any(|(live, earlier)| other(*live) || earlier.iter().any(|split| other(*split)));
        require(edited && differs, || format!("it halted ({reason}), and nothing had been edited"))
    }

    fn check_resumed(&self, at_observation: &StateAtObservation) -> Option<BrokenInvariant> {
        let open = self.open.as_ref()?;
        let decided = open.decided?;
        // The weights decided last may never have been written, so the ones before also count as unchanged.
        let before = open.previously_decided;
        let as_before = |split| same_split(split, decided) || before.is_some_and(|before| same_split(split, before));
        require(every_rule(at_observation, as_before), || {
            format!("the journal says that the rules are restored, and they have {}", format_rules(at_observation))
        })
    }

    fn check_stable_alarm(
        &self,
        alarm: &str,
        at_observation: &StateAtObservation,
        world: &World,
    ) -> Option<BrokenInvariant> {
        let stable = self.stable();
        let fires = at_observation.firing.iter().any(|firing| firing == alarm);
        let holds = fires && (stable.is_none() || self.side_seen_by_alarm(alarm, world) == stable);
        require(holds, || format!("the journal says that {alarm} fires for the stable side alone, and it does not"))
    }

    fn check_rollback(
        &self,
        cause: &Cause,
        at_observation: Option<&StateAtObservation>,
        world: &World,
    ) -> Option<BrokenInvariant> {
        // The cause of waiting for the operator may be over by the time the deployment rolls back for it.
        if self.open.as_ref().is_some_and(|open| open.operator_wait_cause.as_ref() == Some(cause)) {
            return None;
        }
        let stable = self.stable();
        match cause {
            Cause::Alarm { name, .. } if stable.is_some() && self.side_seen_by_alarm(name, world) == stable => Some((
                &NO_ROLLBACK_ONTO_ALARMED_SIDE,
                format!("{name} watches the stable side alone, and traffic is rolled back to it"),
            )),
            cause => self.check_cause(cause, at_observation),
        }
    }

    fn check_blocked(&self, at_observation: &StateAtObservation) -> Option<BrokenInvariant> {
        // A repair goes to the stable side recorded in the ledger, and derives nothing from the rules.
        let stable = self.stable()?;
        let healthy = at_observation.healthy[index(stable)];
        require(healthy == 0, || {
            format!("the journal says that {stable} cannot serve, and {healthy} of its targets are healthy")
        })
    }

    fn check_verified(
        &self,
        digest: &str,
        at_observation: &StateAtObservation,
        world: &World,
    ) -> Option<BrokenInvariant> {
        let has_all_traffic = |slot: &Slot| every_rule(at_observation, |split| all_on(split, *slot));
        let live = Slot::BOTH.into_iter().find(has_all_traffic);
        let Some(live) = live else {
            return require(false, || {
                let rules = format_rules(at_observation);
                format!("the journal says that {digest} is verified, and the rules had {rules}")
            });
        };
        let image = world.image_run_by(&self.sides[index(live)].service, &self.container).unwrap_or_default();
        require(image.ends_with(digest), || {
            format!("the journal says that {digest} is verified, and {live} runs {image}")
        })
    }

    fn check_cause(&self, cause: &Cause, at_observation: Option<&StateAtObservation>) -> Option<BrokenInvariant> {
        let at_observation = at_observation?;
        let stable = self.stable()?;
        match cause {
            Cause::Alarm { name, reason } => {
                let holds = at_observation.firing.contains(name) || reason.contains("no data");
                require(holds, || format!("it rolls back for alarm {name}, which did not fire"))
            }
            Cause::ExternalRollback => {
                let back = every_rule(at_observation, |split| all_on(split, stable));
                require(back && self.had_foreign_edit(), || {
                    let rules = format_rules(at_observation);
                    format!("the journal says that a person rolled back, and nobody did ({rules})")
                })
            }
            Cause::Unhealthy { reason } => {
                let healthy = at_observation.healthy[index(stable.other())];
                require(healthy == 0, || format!("it rolls back ({reason}), and {healthy} targets are healthy"))
            }
            _ => None,
        }
    }
}

fn check_weights(weights: Weights, at_observation: Option<&StateAtObservation>) -> Option<BrokenInvariant> {
    let Some(at_observation) = at_observation else { return Some(not_observed("weights are live")) };
    require(every_rule(at_observation, |split| same_split(split, to_split(weights))), || {
        format!("the journal says that {weights:?} are live, and the rules had {}", format_rules(at_observation))
    })
}

fn check_restored(
    slot: Slot,
    (min, max): (u32, u32),
    at_observation: Option<&StateAtObservation>,
) -> Option<BrokenInvariant> {
    let Some(at_observation) = at_observation else { return Some(not_observed("limits are restored")) };
    let seen = at_observation.limits[index(slot)];
    let holds = seen.is_some_and(|(low, high, _)| (low, high) == (min, max));
    require(holds, || format!("the journal says that {slot}'s limits are {min} to {max} again, and they are {seen:?}"))
}
