//! What several doors to the control plane share, and that needs no look at what runs: finding releases, checking what can
//! be known at once, writing a command and sending a wake, and answering questions from the ledger.
//!
//! A door has proven who asks before it comes here: what the desk is handed as an [`Actor`] is believed. Whether that
//! actor may ask is the door's to say, too (IAM's, or the policy's grants).
//!
//! | module | what it does |
//! |---|---|
//! | `answers` | requests and answers as they travel |
//! | `refusal` | [`Refusal`]: why not, in one shape for every error |
//! | `releases` | releases by tag, digest or as the newest that the environments before have verified |
//! | `asking` | deploy, promote, hotfix, abort, rollback, override, resume: a command and a wake |
//! | `train` | several services as one set |
//! | `questions` | targets, status, history, journal, releases |

mod answers;
mod asking;
mod questions;
mod refusal;
mod releases;
mod train;
pub(crate) mod wire;

pub use answers::{
    AbortRequest, ApplyAnswer, ApplyRequest, BrakeAnswer, BrakesAnswer, CommandAnswer, DecisionRequest, DeployRequest,
    DoctorAnswer, DoctorRequest, FreezeRequest, Held, HistoryAnswer, HotfixRequest, JournalAnswer, OverrideRequest,
    PlanAnswer, PlanRequest, PromoteRequest, ReleasesAnswer, ResumeRequest, RollbackRequest, RunningSummary,
    StopTheLineRequest, TargetStatus, TargetSummary, TargetsAnswer, TrainAnswer, TrainRequest, UnfreezeRequest,
};
pub use asking::Asked;
pub use refusal::{ErrorBody, LONGEST_MESSAGE, Refusal};
pub use train::MOST_MEMBERS;
pub(crate) use train::unknown_environment;

use crate::ports::{Applied, Clock, Ledger, Wake, WakeQueue};
use futures::future::join_all;
use rollout::target::TargetState;
use rollout::text::is_visible;
use rollout::{Actor, AppliedTarget, Name, Seconds, TargetId};

/// The longest reason, in characters: a deployment keeps it in the one item of its target.
pub const LONGEST_REASON: usize = 500;
/// The longest key of a request, in characters.
pub const LONGEST_REQUEST: usize = 64;
/// The longest name of a caller that is kept, in characters; an IAM ARN has at most 2048, and far less in practice.
pub const LONGEST_CALLER: usize = 512;
/// The most entries of a list that one answer has.
pub const MOST_LISTED: usize = 200;
/// How many items are read, and how many targets woken, at a time.
pub(crate) const AT_A_TIME: usize = 16;

/// What several doors share, over the ports.
#[derive(Debug)]
pub struct Desk<'a, L, D, K> {
    /// All deployment state.
    pub ledger: &'a L,
    /// Wakes targets.
    pub wake_queue: &'a D,
    /// The time, and keys for requests that bring none.
    pub clock: &'a K,
}

impl<L: Ledger, D: WakeQueue, K: Clock> Desk<'_, L, D, K> {
    /// The policy of an application.
    ///
    /// # Errors
    /// [`Refusal`] that names the applications there are, or a ledger that did not answer.
    pub async fn applied(&self, application: &Name) -> Result<Applied, Refusal> {
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
    /// [`Refusal`] that names the targets there are, or a ledger that did not answer.
    pub async fn applied_target(&self, target: &TargetId) -> Result<AppliedTarget, Refusal> {
        let applied = self.applied(&target.application).await?;
        applied.policy.applied(target, applied.version).ok_or_else(|| unknown_target(target, &applied))
    }

    /// What is remembered of a target; a new state where nothing is yet.
    ///
    /// # Errors
    /// [`Refusal`]: a ledger that did not answer.
    pub async fn state(&self, target: &TargetId) -> Result<TargetState, Refusal> {
        Ok(self.ledger.state(target).await?.unwrap_or_else(|| TargetState::new(target.clone())))
    }

    /// What is remembered of a target that a policy names, or that something was ever deployed to.
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

    /// Wakes a target; answers whether that worked. If not, the sweeper does it.
    pub async fn wake(&self, target: &TargetId) -> bool {
        self.send(&Wake::of(target.clone())).await
    }

    /// Rings; answers whether that worked. If not, the sweeper wakes the target.
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
        for some in targets.chunks(AT_A_TIME) {
            join_all(some.iter().map(|target| self.wake(target))).await;
        }
    }
}

pub(crate) fn unknown_target(target: &TargetId, applied: &Applied) -> Refusal {
    Refusal::unknown(
        "unknown_target",
        format!("version {} of {}'s policy has no target `{target}`", applied.version, target.application),
        applied.policy.targets().map(|(id, _)| id.to_string()),
        "name one of those, or add it to switchback.yaml and apply that",
    )
}

/// A caller with IAM's proof, as they are kept.
pub(crate) fn person(caller: &str) -> Actor {
    Actor::Person { name: caller.chars().take(LONGEST_CALLER).collect() }
}

/// The reason, if it is one that can be kept; it may be empty.
///
/// # Errors
/// [`Refusal`]: too long, or no plain text.
pub fn reason(text: &str) -> Result<&str, Refusal> {
    let reason = text.trim();
    let count = reason.chars().count();
    if count > LONGEST_REASON {
        let message = format!("`reason` has {count} characters, at most {LONGEST_REASON} are kept: shorten it");
        return Err(Refusal::request("reason_too_long", message));
    }
    if reason.chars().any(|character| !is_visible(character) && !matches!(character, '\n' | '\t')) {
        let message = "`reason` has control characters, or others that are not shown: write plain text";
        return Err(Refusal::request("invalid_reason", message));
    }
    Ok(reason)
}

/// The same where there must be one; `what` begins the sentence that says so: `a rollback`.
///
/// # Errors
/// [`Refusal`]: none, too long, or no plain text.
pub fn needed_reason<'t>(text: &'t str, what: &str) -> Result<&'t str, Refusal> {
    let reason = reason(text)?;
    if reason.is_empty() {
        let message = format!("{what} needs a reason, for the record: write one into `reason`");
        return Err(Refusal::request("reason_missing", message));
    }
    Ok(reason)
}

/// What a key of a workflow's run begins with; nobody else's does.
pub(crate) const RUN_KEY: &str = "github:";

/// The asker's own key, if it is one that can be kept and theirs to choose: a workflow's is made of its run, which
/// everybody can know, and whoever used it first would have asked in its place.
///
/// # Errors
/// [`Refusal`]: too long, other characters, or a run's.
pub(crate) fn own_key<'k>(key: &'k str, actor: &Actor) -> Result<&'k str, Refusal> {
    if key.starts_with(RUN_KEY) && !matches!(actor, Actor::Workflow { .. }) {
        let message = format!("`request` must not begin with `{RUN_KEY}`: those are the keys of workflows' runs");
        return Err(Refusal::request("invalid_request_key", message));
    }
    request_key(key)
}

/// The asker's own key, if it is one that can be kept.
///
/// # Errors
/// [`Refusal`]: too long, or other characters.
pub fn request_key(key: &str) -> Result<&str, Refusal> {
    let fits = (1..=LONGEST_REQUEST).contains(&key.len())
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':'));
    if fits {
        return Ok(key);
    }
    let message = format!("`request` must be 1 to {LONGEST_REQUEST} letters, digits, `-`, `_`, `.` or `:`");
    Err(Refusal::request("invalid_request_key", message))
}
