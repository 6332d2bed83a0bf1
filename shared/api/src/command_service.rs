//! Operations shared by all entry points of the control plane that need not read live AWS state: finding releases, checking what
//! can be checked immediately, writing a command and sending a wake, and answering queries from the ledger.
//!
//! The entry point has authenticated the caller: the [`Actor`] it passes is trusted. Authorization is the entry point's task, too
//! (IAM, or the policy's grants).
//!
//! | module | what it does |
//! |---|---|
//! | `releases` | finds releases by tag, by digest, or as the newest that the upstream environments have verified |
//! | `commands` | deploy, promote, hotfix, abort, rollback, override, resume: writes a command and sends a wake |
//! | `train` | several services as one set (release train) |
//! | `queries` | queries: targets, status, history, journal, releases |

mod commands;
mod queries;
mod releases;
mod train;

pub(crate) use train::unknown_environment;

use crate::{MAX_CALLER_CHARS, MAX_REASON_CHARS, MAX_REQUEST_KEY_CHARS, Refusal};
use engine::ports::{
    AppliedPolicy, Brakes, Clock, Commands, LedgerError, Policies, Releases, Targets, Wake, WakeQueue,
};
use futures::future::join_all;
use rollout::target::TargetState;
use rollout::text::{clip, is_visible};
use rollout::{Actor, AppliedTarget, Name, Seconds, TargetId};

/// How many items are read, or targets woken, concurrently.
pub(crate) const BATCH_SIZE: usize = 16;

/// Ledger access of an approval and of other requests about a single, known target: writes commands.
pub trait ApprovalLedger: Commands + Policies + Targets {}

impl<T: Commands + Policies + Targets> ApprovalLedger for T {}

/// Ledger access of the requests that also find releases and check gates.
pub trait RequestLedger: Brakes + ApprovalLedger + Releases {}

impl<T: Brakes + ApprovalLedger + Releases> RequestLedger for T {}

/// The operations shared by all entry points, over the ports.
#[derive(Debug)]
pub struct CommandService<'a, L, D, K> {
    /// All deployment state.
    pub ledger: &'a L,
    /// Wakes targets.
    pub wake_queue: &'a D,
    /// The time, and keys for requests that have none.
    pub clock: &'a K,
}

impl<L: ApprovalLedger, D: WakeQueue, K: Clock> CommandService<'_, L, D, K> {
    /// The policy of an application.
    ///
    /// # Errors
    /// [`Refusal`] that lists the known applications, or a ledger that did not answer.
    pub async fn applied(&self, application: &Name) -> Result<AppliedPolicy, Refusal> {
        match self.ledger.policy(application).await? {
            Some(applied) => Ok(applied),
            None => {
                let known = self.ledger.applications().await?;
                Err(Refusal::unknown(
                    "unknown_application",
                    format!("no policy of an application `{application}` is applied"),
                    known.iter().map(ToString::to_string),
                    "apply its switchback.yaml first",
                ))
            }
        }
    }

    /// The policy of a target.
    ///
    /// # Errors
    /// [`Refusal`] that lists the known targets, or a ledger that did not answer.
    pub async fn applied_target(&self, target: &TargetId) -> Result<AppliedTarget, Refusal> {
        let applied = self.applied(&target.application).await?;
        applied.policy.applied(target, applied.version).ok_or_else(|| unknown_target(target, &applied))
    }

    /// The stored state of a target; a new state if there is none yet.
    ///
    /// # Errors
    /// [`Refusal`]: a ledger that did not answer.
    pub async fn state(&self, target: &TargetId) -> Result<TargetState, Refusal> {
        Ok(self.ledger.state(target).await?.unwrap_or_else(|| TargetState::new(target.clone())))
    }

    /// The stored state of a target that a policy names or that was ever deployed to.
    ///
    /// # Errors
    /// [`Refusal`]: an unknown target, or a ledger that did not answer.
    pub async fn known_state(&self, target: &TargetId) -> Result<TargetState, Refusal> {
        match self.ledger.state(target).await? {
            Some(state) => Ok(state),
            None => {
                self.applied_target(target).await?;
                Ok(TargetState::new(target.clone()))
            }
        }
    }

    /// Wakes a target; returns whether the wake was sent. If not, the sweeper wakes the target.
    pub async fn wake(&self, target: &TargetId) -> bool {
        self.send(&Wake::of(target.clone())).await
    }

    /// Sends a wake; returns whether that worked. If not, the sweeper wakes the target.
    pub(crate) async fn send(&self, wake: &Wake) -> bool {
        let target = &wake.target;
        let woken = self.wake_queue.send(wake, Seconds(0)).await;
        if let Err(reason) = &woken {
            tracing::warn!(target_id = %target, "the target could not be woken, the sweeper will: {reason}");
        }
        woken.is_ok()
    }

    /// Wakes several targets.
    pub(crate) async fn wake_all(&self, targets: &[TargetId]) {
        for some in targets.chunks(BATCH_SIZE) {
            join_all(some.iter().map(|target| self.wake(target))).await;
        }
    }
}

pub(crate) fn unknown_target(target: &TargetId, applied: &AppliedPolicy) -> Refusal {
    if let Some(reason) = applied.policy.unreadable(target) {
        let what = format!("the policy of {target}");
        return LedgerError::Unreadable { what, reason: reason.to_owned() }.into();
    }
    Refusal::unknown(
        "unknown_target",
        format!("version {} of {}'s policy has no target `{target}`", applied.version, target.application),
        applied.policy.targets().map(|(id, _)| id.to_string()),
        "name one of those, or add it to switchback.yaml and apply that",
    )
}

/// A caller authenticated by IAM, as an actor.
pub(crate) fn iam_actor(caller: &str) -> Actor {
    Actor::Person { name: clip(caller, MAX_CALLER_CHARS).to_owned() }
}

/// The reason, if it is valid; it may be empty.
///
/// # Errors
/// [`Refusal`]: too long, or not plain text.
pub fn validate_reason(text: &str) -> Result<&str, Refusal> {
    let reason = text.trim();
    let count = reason.chars().count();
    if count > MAX_REASON_CHARS {
        let message = format!("`reason` has {count} characters, at most {MAX_REASON_CHARS} are kept: shorten it");
        return Err(Refusal::request("reason_too_long", message));
    }
    if reason.chars().any(|character| !is_visible(character) && !matches!(character, '\n' | '\t')) {
        let message = "`reason` has control characters, or others that are not shown: write plain text";
        return Err(Refusal::request("invalid_reason", message));
    }
    Ok(reason)
}

/// The same for a mandatory reason; `what` starts the sentence of the error: `a rollback`.
///
/// # Errors
/// [`Refusal`]: missing, too long, or not plain text.
pub fn validate_required_reason<'t>(text: &'t str, what: &str) -> Result<&'t str, Refusal> {
    let reason = validate_reason(text)?;
    if reason.is_empty() {
        let message = format!("{what} needs a reason, for the record: write one into `reason`");
        return Err(Refusal::request("reason_missing", message));
    }
    Ok(reason)
}

/// Prefix of the request keys of workflow runs; reserved for them.
pub(crate) const WORKFLOW_KEY_PREFIX: &str = "github:";

/// The caller's own request key, if it is valid and not reserved: a workflow's key is derived from its public run ID, and using
/// it first would take that request's place.
///
/// # Errors
/// [`Refusal`]: too long, invalid characters, or reserved for a workflow run.
pub(crate) fn authorize_request_key<'k>(key: &'k str, actor: &Actor) -> Result<&'k str, Refusal> {
    if key.starts_with(WORKFLOW_KEY_PREFIX) && !matches!(actor, Actor::Workflow { .. }) {
        let message =
            format!("`request` must not begin with `{WORKFLOW_KEY_PREFIX}`: those are the keys of workflows' runs");
        return Err(Refusal::request("invalid_request_key", message));
    }
    validate_request_key(key)
}

/// The caller's own request key, if it is valid.
///
/// # Errors
/// [`Refusal`]: too long, or invalid characters.
pub fn validate_request_key(key: &str) -> Result<&str, Refusal> {
    let fits = (1..=MAX_REQUEST_KEY_CHARS).contains(&key.len())
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':'));
    if fits {
        return Ok(key);
    }
    let message = format!("`request` must be 1 to {MAX_REQUEST_KEY_CHARS} letters, digits, `-`, `_`, `.` or `:`");
    Err(Refusal::request("invalid_request_key", message))
}
