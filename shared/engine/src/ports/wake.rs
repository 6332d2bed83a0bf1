//! A wake as stored in the queue.

use super::{LeaseId, WakeKind};
use rollout::snapshot::ApiCall;
use rollout::{TargetId, Timestamp};
use serde::{Deserialize, Serialize};

/// A wake for a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wake {
    /// The target to wake.
    pub target: TargetId,
    /// The scheduled time as stored in the target's state: the pass that this wake starts knows that its scheduled wake has
    /// arrived, even if its clock is behind that of the pass that sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Timestamp>,
    /// The lease that this wake may steal: it was held when the wake was sent, and the wake was delayed for longer than a lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steal: Option<LeaseId>,
    /// How often this wake found the target held: it is not dropped but retried shortly after.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tries: u8,
    /// The holder that this wake found before and is retried for: its [`tries`](Self::tries) count for that holder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<LeaseId>,
    /// Traffic may have to be rolled back: takes precedence over all wakes that are not urgent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub urgent: bool,
    /// The sweep found the target overdue: any wake registered for retry with its holder is lost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overdue: bool,
    /// Observe the rules even if nothing is deployed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_rest: bool,
    /// The observed API call, so that the journal can name its author. No decision depends on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_call: Option<ApiCall>,
}

fn is_zero(tries: &u8) -> bool {
    *tries == 0
}

impl Wake {
    /// A new wake.
    #[must_use]
    pub fn of(target: TargetId) -> Self {
        Self {
            target,
            due_at: None,
            steal: None,
            tries: 0,
            found: None,
            urgent: false,
            overdue: false,
            at_rest: false,
            api_call: None,
        }
    }

    /// Marks it as the target's scheduled wake.
    #[must_use]
    pub fn due(self, at: Timestamp) -> Self {
        Self { due_at: Some(at), ..self }
    }

    /// Marks it as a wake for an overdue target.
    #[must_use]
    pub fn overdue(self) -> Self {
        Self { overdue: true, ..self }
    }

    /// What the wake requests.
    #[must_use]
    pub fn kind(&self) -> WakeKind {
        match self {
            Self { at_rest: true, .. } => WakeKind::AtRest,
            Self { urgent: true, .. } => WakeKind::Urgent,
            _ => WakeKind::Usual,
        }
    }

    /// Requests an observation even if nothing is deployed; `api_call` is the cause, if there is one.
    #[must_use]
    pub fn at_rest(self, api_call: Option<ApiCall>) -> Self {
        Self { at_rest: true, api_call, ..self }
    }

    /// Marks it as urgent: traffic may have to be rolled back.
    #[must_use]
    pub fn urgent(self) -> Self {
        Self { urgent: true, ..self }
    }
}
