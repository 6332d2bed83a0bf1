//! Queries: targets, status, history, journal, releases.

use super::{BATCH_SIZE, RequestLedger, unknown_target};
use crate::{CommandService, MAX_LISTED, Refusal};
use crate::{
    HistoryResponse, HoldReason, JournalResponse, ReleasesResponse, RunningSummary, TargetStatus, TargetSummary,
    TargetsResponse,
};
use engine::ports::{AppliedPolicy, Clock, WakeQueue};
use futures::future::{try_join_all, try_join4};
use rollout::brake::{Brake, Scope};
use rollout::policy::Trigger;
use rollout::target::TargetState;
use rollout::{Name, TargetId};
use std::collections::BTreeSet;

impl<L: RequestLedger, D: WakeQueue, K: Clock> CommandService<'_, L, D, K> {
    /// The targets of one application, or of all.
    ///
    /// # Errors
    /// [`Refusal`]: an unknown application, or a ledger that did not answer.
    pub async fn targets(&self, application: Option<&Name>) -> Result<TargetsResponse, Refusal> {
        let mut policies: Vec<AppliedPolicy> = Vec::new();
        match application {
            Some(application) => policies.push(self.applied(application).await?),
            None => {
                let names = self.ledger.applications().await?;
                for some in names.chunks(BATCH_SIZE) {
                    policies.extend(
                        try_join_all(some.iter().map(|name| self.ledger.policy(name))).await?.into_iter().flatten(),
                    );
                }
            }
        }
        let named: Vec<(&AppliedPolicy, TargetId)> =
            policies.iter().flat_map(|applied| applied.policy.targets().map(move |(id, _)| (applied, id))).collect();
        let (mut brakes, at) = (self.ledger.brakes().await?, self.clock.now());
        brakes.retain(|brake| brake.until.is_none_or(|until| at < until));
        let mut targets = Vec::with_capacity(named.len());
        for some in named.chunks(BATCH_SIZE) {
            let states = try_join_all(some.iter().map(|(_, target)| self.ledger.state(target))).await?;
            let summaries = some.iter().zip(states);
            targets
                .extend(summaries.map(|((applied, target), state)| summary(applied, target.clone(), state, &brakes)));
        }
        Ok(TargetsResponse { targets, at })
    }

    /// Everything known about one target that a policy names or that was ever deployed to.
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
            (None, None, None) => return Err(self.unknown_application(target).await),
        };
        Ok(TargetStatus { state, policy_version, trigger, commands, brakes, at })
    }

    async fn unknown_application(&self, target: &TargetId) -> Refusal {
        match self.applied(&target.application).await {
            Err(refusal) => refusal,
            Ok(applied) => unknown_target(target, &applied),
        }
    }

    /// The newest deployments of a target, at most [`MAX_LISTED`].
    ///
    /// # Errors
    /// [`Refusal`]: an unknown target, or a ledger that did not answer.
    pub async fn history(&self, target: &TargetId, limit: usize) -> Result<HistoryResponse, Refusal> {
        self.known_state(target).await?;
        let deployments = self.ledger.history(target, limit.min(MAX_LISTED)).await?;
        Ok(HistoryResponse { deployments, at: self.clock.now() })
    }

    /// Journal entries of a target with a sequence above `after`, or the newest ones without it; at most [`MAX_LISTED`].
    ///
    /// # Errors
    /// [`Refusal`]: an unknown target, or a ledger that did not answer.
    pub async fn journal(
        &self,
        target: &TargetId,
        after: Option<u64>,
        limit: usize,
    ) -> Result<JournalResponse, Refusal> {
        self.known_state(target).await?;
        let limit = limit.min(MAX_LISTED);
        let entries = match after {
            Some(after) => self.ledger.journal(target, after, limit).await?,
            None => self.ledger.journal_tail(target, limit).await?,
        };
        Ok(JournalResponse { entries })
    }

    /// The newest releases of a service, at most [`MAX_LISTED`].
    ///
    /// # Errors
    /// [`Refusal`]: an unknown application or service, or a ledger that did not answer.
    pub async fn releases(
        &self,
        application: &Name,
        service: &Name,
        limit: usize,
    ) -> Result<ReleasesResponse, Refusal> {
        let applied = self.applied(application).await?;
        if !applied.policy.services.contains_key(service) {
            return Err(Refusal::unknown(
                "unknown_service",
                format!("version {} of {application}'s policy has no service `{service}`", applied.version),
                applied.policy.services.keys().map(ToString::to_string),
                "name one of those",
            ));
        }
        let releases = self.ledger.releases(application, service, limit.min(MAX_LISTED)).await?;
        Ok(ReleasesResponse { releases, at: self.clock.now() })
    }
}

fn trigger(applied: &AppliedPolicy, target: &TargetId) -> Trigger {
    applied.policy.environments.get(&target.environment).map_or(Trigger::Manual, |environment| environment.trigger)
}

fn summary(applied: &AppliedPolicy, target: TargetId, state: Option<TargetState>, brakes: &[Brake]) -> TargetSummary {
    let state = state.unwrap_or_else(|| TargetState::new(target.clone()));
    let held = held(&state, brakes);
    let running = state.running.map(|running| RunningSummary {
        number: running.number,
        stage: running.stage(),
        tag: running.release.tag,
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

/// Why a target is on hold; `brakes` are those in effect.
fn held(state: &TargetState, brakes: &[Brake]) -> BTreeSet<HoldReason> {
    let on = brakes.iter().filter(|brake| brake.scope.covers(&state.target)).map(|brake| match brake.scope {
        Scope::Everything => HoldReason::LineStopped,
        Scope::Application { .. } | Scope::Environment { .. } => HoldReason::Freeze,
    });
    let undecided = state.operator_hold.is_some()
        || state.running.as_ref().is_some_and(|running| running.awaiting_operator().is_some());
    let undecided = undecided.then_some(HoldReason::AwaitingOperator);
    let changed = state.running.is_none() && state.idle.as_ref().is_some_and(|seen| seen.drift.is_some());
    on.chain(changed.then_some(HoldReason::Drifted))
        .chain(undecided)
        .chain(state.promotion_hold.as_ref().map(|_| HoldReason::PromotionHold))
        .collect()
}
