//! Freezes, and the stopped line: on and off, at once. Setting one wakes nobody, since every decision asks for the brakes;
//! lifting one wakes whoever waits.

use super::{
    BrakeAnswer, BrakesAnswer, FreezeRequest, MOST_LISTED, Operations, Refusal, ResumeRequest, StopTheLineRequest,
    UnfreezeRequest,
};
use crate::desk::{AT_A_TIME, needed_reason, person, unknown_environment};
use crate::ports::{Clock, Cloud, Ledger, WakeQueue};
use futures::future::{try_join, try_join_all};
use rollout::brake::{Brake, Lifted, Scope};
use rollout::{Name, Seconds, TargetId, Timestamp};

/// How many records of the log are looked through for a lift whose answer was lost.
const LOOKED_BACK: usize = 20;
/// How long such a lift counts as the same.
const SAME_LIFT: Seconds = Seconds(300);

impl<L: Ledger, C: Cloud, D: WakeQueue, K: Clock> Operations<'_, L, C, D, K> {
    /// The brakes that hold something, and the newest of what was done about brakes, at most [`MOST_LISTED`].
    ///
    /// # Errors
    /// [`Refusal`]: a ledger that did not answer.
    pub async fn brakes(&self, limit: usize) -> Result<BrakesAnswer, Refusal> {
        let (mut brakes, log) = try_join(self.ledger.brakes(), self.ledger.brake_log(limit.min(MOST_LISTED))).await?;
        let at = self.clock.now();
        brakes.retain(|brake| !is_over(brake, at));
        Ok(BrakesAnswer { brakes, log, at })
    }

    /// Lets nothing begin in an application, or in one of its environments.
    ///
    /// # Errors
    /// [`Refusal`]: no reason, an unknown application or environment, an end that is over, or a ledger that did not answer.
    pub async fn freeze(&self, request: &FreezeRequest, caller: &str) -> Result<BrakeAnswer, Refusal> {
        let reason = needed_reason(&request.reason, "a freeze")?;
        let applied = self.desk().applied(&request.application).await?;
        if let Some(environment) = &request.environment
            && !applied.policy.environments.contains_key(environment)
        {
            return Err(unknown_environment(environment, &applied));
        }
        let scope = scope(&request.application, request.environment.as_ref());
        self.set(scope, request.until.as_deref(), reason, caller).await
    }

    /// Lifts a freeze, and wakes who waited for that.
    ///
    /// # Errors
    /// [`Refusal`]: no reason, no such freeze, or a ledger that did not answer.
    pub async fn unfreeze(&self, request: &UnfreezeRequest, caller: &str) -> Result<BrakeAnswer, Refusal> {
        let reason = needed_reason(&request.reason, "lifting a freeze")?;
        self.lift(scope(&request.application, request.environment.as_ref()), reason, caller).await
    }

    /// Lets nothing begin anywhere, and nothing that runs widen.
    ///
    /// # Errors
    /// [`Refusal`]: no reason, an end that is over, or a ledger that did not answer.
    pub async fn stop_the_line(&self, request: &StopTheLineRequest, caller: &str) -> Result<BrakeAnswer, Refusal> {
        let reason = needed_reason(&request.reason, "stopping the line")?;
        self.set(Scope::Everything, request.until.as_deref(), reason, caller).await
    }

    /// Lets everything go on, and wakes who waited for that.
    ///
    /// # Errors
    /// [`Refusal`]: no reason, a line that is not stopped, or a ledger that did not answer.
    pub async fn resume_the_line(&self, request: &ResumeRequest, caller: &str) -> Result<BrakeAnswer, Refusal> {
        let reason = needed_reason(&request.reason, "letting the line go on")?;
        self.lift(Scope::Everything, reason, caller).await
    }

    async fn set(&self, scope: Scope, until: Option<&str>, reason: &str, caller: &str) -> Result<BrakeAnswer, Refusal> {
        let now = self.clock.now();
        let until = until.map(|text| end(text, now)).transpose()?;
        let before = self.ledger.brakes().await?;
        let instead_of = before.into_iter().find(|brake| brake.scope == scope && !is_over(brake, now));
        let brake = Brake { scope, by: person(caller), reason: reason.to_owned(), since: now, until };
        self.ledger.put_brake(&brake).await?;
        tracing::warn!(brake.scope = %brake.scope, caller, "a brake was set: {reason}");
        Ok(BrakeAnswer { brake, lifted: None, instead_of, woken: Vec::new(), at: now })
    }

    async fn lift(&self, scope: Scope, reason: &str, caller: &str) -> Result<BrakeAnswer, Refusal> {
        let now = self.clock.now();
        let lifted = Lifted { by: person(caller), reason: reason.to_owned(), at: now };
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
        let woken = self.held_by(&scope).await?;
        self.desk().wake_all(&woken).await;
        Ok(BrakeAnswer { brake, lifted: Some(lifted), instead_of: None, woken, at: now })
    }

    /// The same was lifted by the same person, for the same reason, a moment ago: the answer was lost.
    async fn lifted_before(&self, scope: &Scope, wanted: &Lifted) -> Result<Option<(Brake, Lifted)>, Refusal> {
        let log = self.ledger.brake_log(LOOKED_BACK).await?;
        let newest = log.into_iter().find(|record| record.brake.scope == *scope);
        let known = newest.and_then(|record| Some((record.brake, record.lifted?)));
        Ok(known.filter(|(_, known)| {
            known.by == wanted.by && known.reason == wanted.reason && wanted.at <= SAME_LIFT.after(known.at)
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

    /// The targets in a brake's reach where something waits, or runs.
    async fn held_by(&self, scope: &Scope) -> Result<Vec<TargetId>, Refusal> {
        let applications = match scope {
            Scope::Everything => self.ledger.applications().await?,
            Scope::Application { application } | Scope::Environment { application, .. } => vec![application.clone()],
        };
        let mut held = Vec::new();
        for some in applications.chunks(AT_A_TIME) {
            let policies = try_join_all(some.iter().map(|name| self.ledger.policy(name))).await?;
            let targets: Vec<TargetId> = policies
                .iter()
                .flatten()
                .flat_map(|applied| applied.policy.targets().map(|(target, _)| target))
                .filter(|target| scope.covers(target))
                .collect();
            for some in targets.chunks(AT_A_TIME) {
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

/// A time, or how long from now.
fn end(text: &str, now: Timestamp) -> Result<Timestamp, Refusal> {
    let until = match (Seconds::parse(text), text.parse::<Timestamp>()) {
        (Ok(seconds), _) => seconds.after(now),
        (_, Ok(until)) => until,
        _ => {
            let shown: String = text.chars().take(40).collect();
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
