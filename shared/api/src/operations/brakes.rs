//! Freezes and stop-the-line, effective immediately. Setting a brake wakes no target, since every decision reads the brakes;
//! lifting one wakes the waiting targets.

use super::Operations;
use crate::command_service::{BATCH_SIZE, RequestLedger, iam_actor, unknown_environment, validate_required_reason};
use crate::{
    BrakeResponse, BrakesResponse, FreezeRequest, MAX_LISTED, Refusal, ResumeRequest, StopTheLineRequest,
    UnfreezeRequest,
};
use engine::ports::{Administration, Clock, Cloud, WakeQueue};
use futures::future::{try_join, try_join_all};
use rollout::brake::{Brake, Lifted, Scope};
use rollout::text::clip;
use rollout::{Name, Seconds, TargetId, Timestamp};

/// How many log records are searched for a lift whose response was lost.
const MAX_LOG_RECORDS: usize = 20;
/// How long a repeated lift counts as the same request.
const DUPLICATE_LIFT_WINDOW: Seconds = Seconds(300);

impl<L: Administration + RequestLedger, C: Cloud, D: WakeQueue, K: Clock> Operations<'_, L, C, D, K> {
    /// The brakes in effect and the newest log records, at most [`MAX_LISTED`].
    ///
    /// # Errors
    /// [`Refusal`]: a ledger that did not answer.
    pub async fn brakes(&self, limit: usize) -> Result<BrakesResponse, Refusal> {
        let (mut brakes, log) = try_join(self.ledger.brakes(), self.ledger.brake_log(limit.min(MAX_LISTED))).await?;
        let at = self.clock.now();
        brakes.retain(|brake| !is_over(brake, at));
        Ok(BrakesResponse { brakes, log, at })
    }

    /// Freezes an application or one of its environments: no deployment starts.
    ///
    /// # Errors
    /// [`Refusal`]: no reason, an unknown application or environment, an end in the past, or a ledger that did not answer.
    pub async fn freeze(&self, request: &FreezeRequest, caller: &str) -> Result<BrakeResponse, Refusal> {
        let reason = validate_required_reason(&request.reason, "a freeze")?;
        let applied = self.command_service().applied(&request.application).await?;
        if let Some(environment) = &request.environment
            && !applied.policy.environments.contains_key(environment)
        {
            return Err(unknown_environment(environment, &applied));
        }
        let scope = scope(&request.application, request.environment.as_ref());
        self.set_brake(scope, request.until.as_deref(), reason, caller).await
    }

    /// Lifts a freeze and wakes the targets that waited for it.
    ///
    /// # Errors
    /// [`Refusal`]: no reason, no such freeze, or a ledger that did not answer.
    pub async fn unfreeze(&self, request: &UnfreezeRequest, caller: &str) -> Result<BrakeResponse, Refusal> {
        let reason = validate_required_reason(&request.reason, "lifting a freeze")?;
        self.lift(scope(&request.application, request.environment.as_ref()), reason, caller).await
    }

    /// Stops the line: no deployment starts anywhere, and running ones do not widen.
    ///
    /// # Errors
    /// [`Refusal`]: no reason, an end in the past, or a ledger that did not answer.
    pub async fn stop_the_line(&self, request: &StopTheLineRequest, caller: &str) -> Result<BrakeResponse, Refusal> {
        let reason = validate_required_reason(&request.reason, "stopping the line")?;
        self.set_brake(Scope::Everything, request.until.as_deref(), reason, caller).await
    }

    /// Ends stop-the-line and wakes the targets that waited for it.
    ///
    /// # Errors
    /// [`Refusal`]: no reason, a line that is not stopped, or a ledger that did not answer.
    pub async fn resume_the_line(&self, request: &ResumeRequest, caller: &str) -> Result<BrakeResponse, Refusal> {
        let reason = validate_required_reason(&request.reason, "letting the line go on")?;
        self.lift(Scope::Everything, reason, caller).await
    }

    async fn set_brake(
        &self,
        scope: Scope,
        until: Option<&str>,
        reason: &str,
        caller: &str,
    ) -> Result<BrakeResponse, Refusal> {
        let now = self.clock.now();
        let until = until.map(|text| parse_until(text, now)).transpose()?;
        let before = self.ledger.brakes().await?;
        let instead_of = before.into_iter().find(|brake| brake.scope == scope && !is_over(brake, now));
        let brake = Brake { scope, by: iam_actor(caller), reason: reason.to_owned(), since: now, until };
        self.ledger.put_brake(&brake).await?;
        tracing::warn!(brake.scope = %brake.scope, caller, "a brake was set: {reason}");
        Ok(BrakeResponse { brake, lifted: None, instead_of, woken: Vec::new(), at: now })
    }

    async fn lift(&self, scope: Scope, reason: &str, caller: &str) -> Result<BrakeResponse, Refusal> {
        let now = self.clock.now();
        let lifted = Lifted { by: iam_actor(caller), reason: reason.to_owned(), at: now };
        let is_on = |brake: &Brake| brake.scope == scope && !is_over(brake, now);
        let known = self.ledger.brakes().await?.iter().any(is_on);
        let brake = if known { self.ledger.lift_brake(&scope, &lifted).await? } else { None };
        let (brake, lifted) = match brake {
            Some(brake) => (brake, lifted),
            None => match self.lifted_before(&scope, &lifted).await? {
                Some(record) => record,
                None => return Err(self.nothing_to_lift(&scope, now).await?),
            },
        };
        tracing::warn!(brake.scope = %scope, caller, "a brake was lifted: {reason}");
        let woken = self.waiting_targets(&scope).await?;
        self.command_service().wake_all(&woken).await;
        Ok(BrakeResponse { brake, lifted: Some(lifted), instead_of: None, woken, at: now })
    }

    /// A lift by the same person with the same reason a moment ago: its response was lost.
    async fn lifted_before(&self, scope: &Scope, wanted: &Lifted) -> Result<Option<(Brake, Lifted)>, Refusal> {
        let log = self.ledger.brake_log(MAX_LOG_RECORDS).await?;
        let newest = log.into_iter().find(|record| record.brake.scope == *scope);
        let known = newest.and_then(|record| Some((record.brake, record.lifted?)));
        Ok(known.filter(|(_, known)| {
            known.by == wanted.by && known.reason == wanted.reason && wanted.at <= DUPLICATE_LIFT_WINDOW.after(known.at)
        }))
    }

    async fn nothing_to_lift(&self, scope: &Scope, now: Timestamp) -> Result<Refusal, Refusal> {
        let on = self.ledger.brakes().await?;
        let on: Vec<String> =
            on.iter().filter(|brake| !is_over(brake, now)).map(|brake| brake.scope.to_string()).collect();
        let what = match scope {
            Scope::Everything => "the line is not stopped".to_owned(),
            scope => format!("there is no freeze of {scope}"),
        };
        let there =
            if on.is_empty() { "no brake is on".to_owned() } else { format!("brakes are on: {}", on.join(", ")) };
        Ok(Refusal::conflict("no_such_brake", format!("{what} ({there}): nothing was lifted")))
    }

    /// The targets within a brake's scope where a deployment waits or runs.
    async fn waiting_targets(&self, scope: &Scope) -> Result<Vec<TargetId>, Refusal> {
        let applications = match scope {
            Scope::Everything => self.ledger.applications().await?,
            Scope::Application { application } | Scope::Environment { application, .. } => vec![application.clone()],
        };
        let mut held = Vec::new();
        for some in applications.chunks(BATCH_SIZE) {
            let policies = try_join_all(some.iter().map(|name| self.ledger.policy(name))).await?;
            let targets: Vec<TargetId> = policies
                .iter()
                .flatten()
                .flat_map(|applied| applied.policy.targets().map(|(target, _)| target))
                .filter(|target| scope.covers(target))
                .collect();
            for some in targets.chunks(BATCH_SIZE) {
                let states = try_join_all(some.iter().map(|target| self.ledger.state(target))).await?;
                let busy = states.into_iter().flatten();
                let busy = busy.filter(|state| state.running.is_some() || !state.queued.is_empty());
                held.extend(busy.map(|state| state.target));
            }
        }
        Ok(held)
    }
}

fn is_over(brake: &Brake, now: Timestamp) -> bool {
    brake.until.is_some_and(|until| until <= now)
}

fn scope(application: &Name, environment: Option<&Name>) -> Scope {
    let application = application.clone();
    match environment {
        None => Scope::Application { application },
        Some(environment) => Scope::Environment { application, environment: environment.clone() },
    }
}

/// Parses a time or a duration from now.
fn parse_until(text: &str, now: Timestamp) -> Result<Timestamp, Refusal> {
    let until = match (Seconds::parse(text), text.parse::<Timestamp>()) {
        (Ok(seconds), _) => seconds.after(now),
        (_, Ok(until)) => until,
        _ => {
            let shown = clip(text, 40);
            let message = format!(
                "`until` is `{shown}`: write a time with its offset (`2026-12-24T18:00:00+01:00`), or for how long (`4h`, at most 30d)"
            );
            return Err(Refusal::request("invalid_until", message));
        }
    };
    if until <= now {
        let message = format!("`until` is {until}, and that is over: write a time to come, or none");
        return Err(Refusal::request("invalid_until", message));
    }
    Ok(until)
}
