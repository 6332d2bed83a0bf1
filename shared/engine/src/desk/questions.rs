//! Targets, status, history, journal, releases.

use super::answers::{
    Held, HistoryAnswer, JournalAnswer, ReleasesAnswer, RunningSummary, TargetStatus, TargetSummary, TargetsAnswer,
};
use super::{AT_A_TIME, Desk, MOST_LISTED, Refusal, unknown_target};
use crate::ports::{Applied, Clock, Ledger, WakeQueue};
use futures::future::{try_join_all, try_join4};
use rollout::brake::{Brake, Scope};
use rollout::policy::Trigger;
use rollout::target::TargetState;
use rollout::{Name, TargetId};
use std::collections::BTreeSet;

impl<L: Ledger, D: WakeQueue, K: Clock> Desk<'_, L, D, K> {
    /// The targets of one application, or of all.
    ///
    /// # Errors
    /// [`Refusal`]: an unknown application, or a ledger that did not answer.
    pub async fn targets(&self, application: Option<&Name>) -> Result<TargetsAnswer, Refusal> {
        let mut policies: Vec<Applied> = Vec::new();
        match application {
            Some(application) => policies.push(self.applied(application).await?),
            None => {
                let names = self.ledger.applications().await?;
                for some in names.chunks(AT_A_TIME) {
                    policies.extend(
                        try_join_all(some.iter().map(|name| self.ledger.policy(name))).await?.into_iter().flatten(),
                    );
                }
            }
        }
        let named: Vec<(&Applied, TargetId)> =
            policies.iter().flat_map(|applied| applied.policy.targets().map(move |(id, _)| (applied, id))).collect();
        let (mut brakes, at) = (self.ledger.brakes().await?, self.clock.now());
        brakes.retain(|brake| brake.until.is_none_or(|until| at < until));
        let mut targets = Vec::with_capacity(named.len());
        for some in named.chunks(AT_A_TIME) {
            let states = try_join_all(some.iter().map(|(_, target)| self.ledger.state(target))).await?;
            let summaries = some.iter().zip(states);
            targets
                .extend(summaries.map(|((applied, target), state)| summary(applied, target.clone(), state, &brakes)));
        }
        Ok(TargetsAnswer { targets, at })
    }

    /// All that is known of one target: one that a policy names, or that something was ever deployed to.
    ///
    /// # Errors
    /// [`Refusal`]: an unknown target, or a ledger that did not answer.
    pub async fn status(&self, target: &TargetId) -> Result<TargetStatus, Refusal> {
        let (state, commands, applied, mut brakes) = try_join4(
            self.ledger.state(target),
            self.ledger.commands(target),
            self.ledger.policy(&target.application),
            self.ledger.brakes(),
        )
        .await?;
        let at = self.clock.now();
        brakes.retain(|brake| brake.holds(target, at));
        let named = applied.as_ref().filter(|applied| applied.policy.target(target).is_some());
        let trigger = named.map(|applied| trigger(applied, target));
        let policy_version = named.map(|applied| applied.version);
        let state = match (state, named, &applied) {
            (Some(state), ..) => state,
            (None, Some(_), _) => TargetState::new(target.clone()),
            (None, None, Some(applied)) => return Err(unknown_target(target, applied)),
            (None, None, None) => return Err(self.no_application(target).await),
        };
        Ok(TargetStatus { state, policy_version, trigger, commands, brakes, at })
    }

    async fn no_application(&self, target: &TargetId) -> Refusal {
        match self.applied(&target.application).await {
            Err(refusal) => refusal,
            Ok(applied) => unknown_target(target, &applied),
        }
    }

    /// The newest deployments of a target, at most [`MOST_LISTED`].
    ///
    /// # Errors
    /// [`Refusal`]: an unknown target, or a ledger that did not answer.
    pub async fn history(&self, target: &TargetId, limit: usize) -> Result<HistoryAnswer, Refusal> {
        self.known_state(target).await?;
        let deployments = self.ledger.history(target, limit.min(MOST_LISTED)).await?;
        Ok(HistoryAnswer { deployments, at: self.clock.now() })
    }

    /// Journal entries of a target above `after`, or the newest without it; at most [`MOST_LISTED`].
    ///
    /// # Errors
    /// [`Refusal`]: an unknown target, or a ledger that did not answer.
    pub async fn journal(&self, target: &TargetId, after: Option<u64>, limit: usize) -> Result<JournalAnswer, Refusal> {
        self.known_state(target).await?;
        let limit = limit.min(MOST_LISTED);
        let entries = match after {
            Some(after) => self.ledger.journal(target, after, limit).await?,
            None => self.ledger.journal_tail(target, limit).await?,
        };
        Ok(JournalAnswer { entries })
    }

    /// The newest releases of a service, at most [`MOST_LISTED`].
    ///
    /// # Errors
    /// [`Refusal`]: an unknown application or service, or a ledger that did not answer.
    pub async fn releases(&self, application: &Name, service: &Name, limit: usize) -> Result<ReleasesAnswer, Refusal> {
        let applied = self.applied(application).await?;
        if !applied.policy.services.contains_key(service) {
            return Err(Refusal::unknown(
                "unknown_service",
                format!("version {} of {application}'s policy has no service `{service}`", applied.version),
                applied.policy.services.keys().map(ToString::to_string),
                "name one of those",
            ));
        }
        let releases = self.ledger.releases(application, service, limit.min(MOST_LISTED)).await?;
        Ok(ReleasesAnswer { releases, at: self.clock.now() })
    }
}

fn trigger(applied: &Applied, target: &TargetId) -> Trigger {
    applied.policy.environments.get(&target.environment).map_or(Trigger::Manual, |environment| environment.trigger)
}

fn summary(applied: &Applied, target: TargetId, state: Option<TargetState>, brakes: &[Brake]) -> TargetSummary {
    let state = state.unwrap_or_else(|| TargetState::new(target.clone()));
    let held = held(&state, brakes);
    let running = state.running.map(|running| RunningSummary {
        number: running.number,
        tag: running.release.tag,
        stage: running.stage.name().to_owned(),
        since: running.stage_entered_at,
    });
    TargetSummary {
        trigger: trigger(applied, &target),
        target,
        policy_version: applied.version,
        stable: state.stable.and_then(|stable| stable.release).map(|release| release.tag),
        running,
        queued: state.queued.into_iter().map(|queued| queued.release.tag).collect(),
        held,
    }
}

/// What holds a target; `brakes` are those that are on.
fn held(state: &TargetState, brakes: &[Brake]) -> BTreeSet<Held> {
    let on = brakes.iter().filter(|brake| brake.scope.covers(&state.target)).map(|brake| match brake.scope {
        Scope::Everything => Held::LineStopped,
        Scope::Application { .. } | Scope::Environment { .. } => Held::Freeze,
    });
    let undecided = state.frozen.is_some() || state.running.as_ref().is_some_and(|running| running.frozen.is_some());
    let undecided = undecided.then_some(Held::Undecided);
    let changed = state.running.is_none() && state.at_rest.as_ref().is_some_and(|seen| seen.drift.is_some());
    on.chain(changed.then_some(Held::Changed))
        .chain(undecided)
        .chain(state.promotion_hold.as_ref().map(|_| Held::Promotion))
        .collect()
}
