//! A wake as stored in the queue.

use super::LeaseId;
use rollout::snapshot::ApiCall;
use rollout::{TargetId, Timestamp};
use serde::{Deserialize, Serialize};

/// A wake for a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wake {
    /// The target to wake.
    pub target: TargetId,
    /// Equals `TargetState::wake_at` if this is the scheduled wake: the pass that it starts knows that the scheduled wake has arrived,
    /// even if its clock is behind that of the pass that sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Timestamp>,
    /// The lease that this wake may steal: a *takeover wake*, delayed until the lease that was held when it was sent has ended. If
    /// that lease is still the target's, its holder was killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steal: Option<LeaseId>,
    /// How often this wake found the target held: it is not dropped but retried shortly after.
    #[serde(rename = "tries", default, skip_serializing_if = "is_zero")]
    pub retries: u8,
    /// The holder that this wake found before and is retried for: its [`retries`](Self::retries) count for that holder.
    #[serde(rename = "found", default, skip_serializing_if = "Option::is_none")]
    pub found_holder: Option<LeaseId>,
    /// Traffic may have to be rolled back: takes precedence over all wakes that are not urgent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub urgent: bool,
    /// The sweep found the target overdue: any wake registered for retry with its holder is lost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overdue: bool,
    /// Observe the target even if it is idle (no deployment is running).
    #[serde(rename = "at_rest", default, skip_serializing_if = "std::ops::Not::not")]
    pub idle: bool,
    /// The observed API call, so that the journal can name its author. No decision depends on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_call: Option<ApiCall>,
}

fn is_zero(retries: &u8) -> bool {
    *retries == 0
}

impl Wake {
    /// A new wake.
    #[must_use]
    pub fn of(target: TargetId) -> Self {
        Self {
            target,
            due_at: None,
            steal: None,
            retries: 0,
            found_holder: None,
            urgent: false,
            overdue: false,
            idle: false,
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
            Self { idle: true, .. } => WakeKind::Idle,
            Self { urgent: true, .. } => WakeKind::Urgent,
            _ => WakeKind::Normal,
        }
    }

    /// Requests an observation even if the target is idle; `api_call` is the cause, if there is one.
    #[must_use]
    pub fn idle(self, api_call: Option<ApiCall>) -> Self {
        Self { idle: true, api_call, ..self }
    }

    /// Marks it as urgent: traffic may have to be rolled back.
    #[must_use]
    pub fn urgent(self) -> Self {
        Self { urgent: true, ..self }
    }
}

/// What a wake requests. A wake can stand in only for wakes of its own kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WakeKind {
    /// A pass: commands are taken in, and a running deployment is observed.
    Normal,
    /// The same, immediately.
    Urgent,
    /// The same, and an observation even if the target is idle (no deployment is running).
    Idle,
}

impl WakeKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Normal, Self::Urgent, Self::Idle];

    /// The name that the ledger stores retries under.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "usual",
            Self::Urgent => "urgent",
            Self::Idle => "at_rest",
        }
    }
}
