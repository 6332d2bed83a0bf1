//! A wake, as it lies in a queue.

use super::{LeaseId, WakeKind};
use rollout::snapshot::ApiCall;
use rollout::{TargetId, Timestamp};
use serde::{Deserialize, Serialize};

/// A wake for a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wake {
    /// Whom to wake.
    pub target: TargetId,
    /// The scheduled time, as the target's state has it: the pass that this wake starts knows that its scheduled wake has
    /// arrived, even if its clock is behind that of the pass that sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Timestamp>,
    /// This holding may be stolen from: it was met when the wake was sent, and the wake was delayed for longer than a lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steal: Option<LeaseId>,
    /// How often this wake found the target held: a wake is not lost on a busy target, it is retried shortly.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tries: u8,
    /// The holder that this wake has found before, and comes again for: its [`tries`](Self::tries) are counted for that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<LeaseId>,
    /// Traffic may have to go back: it overtakes all that is not urgent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub urgent: bool,
    /// The sweep has found the target overdue: whoever noted that a wake comes again for its holder, that wake is lost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overdue: bool,
    /// The rules are to be looked at even if nothing is deployed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_rest: bool,
    /// The API call that was seen, for the journal to name who made it. It decides nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_call: Option<ApiCall>,
}

fn is_zero(tries: &u8) -> bool {
    *tries == 0
}

impl Wake {
    /// A first wake.
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

    /// The same, as the one scheduled wake of its target.
    #[must_use]
    pub fn due(self, at: Timestamp) -> Self {
        Self { due_at: Some(at), ..self }
    }

    /// The same, for a target that is overdue.
    #[must_use]
    pub fn overdue(self) -> Self {
        Self { overdue: true, ..self }
    }

    /// What it asks for.
    #[must_use]
    pub fn kind(&self) -> WakeKind {
        match self {
            Self { at_rest: true, .. } => WakeKind::AtRest,
            Self { urgent: true, .. } => WakeKind::Urgent,
            _ => WakeKind::Usual,
        }
    }

    /// The same, for a look even if nothing is deployed; `api_call` is what gave reason for it, if something did.
    #[must_use]
    pub fn at_rest(self, api_call: Option<ApiCall>) -> Self {
        Self { at_rest: true, api_call, ..self }
    }

    /// The same, where traffic may have to go back.
    #[must_use]
    pub fn urgent(self) -> Self {
        Self { urgent: true, ..self }
    }
}
