//! Explanations: why a target waits, until when, and what happens then.

use crate::command::PlanId;
use crate::effect::EffectKind;
use crate::entry::Gate;
use crate::names::{Name, Slot};
use crate::snapshot::Weights;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Everything that a target waits for after a decision, as shown by `explain`, in Slack and on the page.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Explanation {
    /// Everything the target waits for, the most relevant first.
    pub waiting_on: Vec<WaitingOn>,
    /// When the target is observed again, at the latest.
    pub next_check_at: Option<Timestamp>,
}

/// One condition that a target waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "for", rename_all = "snake_case")]
pub enum WaitingOn {
    /// A closed gate.
    Gate {
        /// Which of the gates.
        gate: Gate,
        /// Why the gate is closed.
        reason: String,
        /// When the gate opens by itself, if it does.
        until: Option<Timestamp>,
        /// When the deployment ends as expired.
        deadline: Timestamp,
    },
    /// Approvals.
    Approval {
        /// The plan to approve.
        plan: PlanId,
        /// Who has approved, by the policy's names.
        approved: Vec<Name>,
        /// Number of approvals needed.
        required: u8,
        /// Who may still approve, by the policy's names.
        eligible: Vec<Name>,
        /// When the policy's default applies (reject or approve).
        expires_at: Timestamp,
    },
    /// An operator's decision about a forward-only release.
    AwaitingOperator {
        /// What went wrong.
        reason: String,
        /// When the deployment ends without touching anything.
        deadline: Timestamp,
    },
    /// A problem that blocks the start.
    Preflight {
        /// What blocks it.
        reason: String,
        /// When the deployment ends as failed.
        deadline: Timestamp,
    },
    /// A reading that failed.
    Reading {
        /// What could not be read, and the error.
        reason: String,
        /// When the deployment acts without this reading.
        deadline: Timestamp,
    },
    /// AWS's eventual consistency: reads may still return the state before a recent change.
    Settling {
        /// What is read meanwhile, or what comes next.
        reason: String,
        /// From when on reads are trusted.
        until: Timestamp,
    },
    /// Registration of the new version.
    Version {
        /// When the deployment ends as failed.
        deadline: Timestamp,
    },
    /// The candidate's tasks and targets to become healthy.
    Healthy {
        /// Healthy targets now.
        healthy: u32,
        /// Targets needed.
        want: u32,
        /// Other counts, for people.
        detail: String,
        /// When the deployment rolls back.
        deadline: Timestamp,
    },
    /// The platform to replace what runs by the new version.
    Replacing {
        /// Healthy tasks of the version that is being set.
        healthy: u32,
        /// Tasks needed.
        want: u32,
        /// Tasks of other versions that still run.
        others: u32,
        /// How many of those are protected: they are not stopped before they end.
        protected: u32,
        /// Other counts and problems, for people.
        detail: String,
        /// When the deployment acts without it.
        deadline: Timestamp,
    },
    /// A hook to finish.
    Hook {
        /// The hook's name.
        hook: String,
        /// When the hook counts as failed.
        deadline: Timestamp,
    },
    /// Weights to be verified live.
    Weights {
        /// The desired weights.
        weights: Weights,
        /// When the deployment acts without them.
        deadline: Timestamp,
    },
    /// The end of a traffic step's hold.
    Hold {
        /// The candidate's share of traffic, in per cent.
        traffic: u8,
        /// When the hold ends.
        until: Timestamp,
    },
    /// The end of the bake.
    Bake {
        /// When the bake ends.
        until: Timestamp,
    },
    /// Alarms whose state is unknown.
    Alarms {
        /// Alarms without data.
        names: BTreeSet<String>,
        /// Alarms that CloudWatch does not have: deleted or renamed.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        absent: BTreeSet<String>,
        /// Alarms that CloudWatch does not evaluate, with its reason.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        not_evaluated: BTreeMap<String, String>,
        /// When the deployment rolls back.
        deadline: Timestamp,
    },
    /// An alarm to clear whose effect is to hold the deployment.
    FiringAlarm {
        /// The alarm's name.
        name: String,
        /// CloudWatch's reason (`StateReason`).
        reason: String,
        /// When the deployment rolls back.
        deadline: Timestamp,
    },
    /// An alarm that watches the stable side alone to clear, or a person's decision.
    StableAlarm {
        /// The alarm's name.
        name: String,
        /// CloudWatch's reason (`StateReason`).
        reason: String,
    },
    /// The end of the period in which the old side is kept warm.
    KeepWarm {
        /// When the old side is scaled down.
        until: Timestamp,
    },
    /// The load balancer's nodes to learn of the new weights.
    Drain {
        /// The side that no longer has traffic.
        slot: Slot,
        /// When draining ends.
        until: Timestamp,
    },
    /// Settings that were changed for the deployment to be seen restored.
    RestoringSettings {
        /// The settings that are not restored yet.
        what: String,
        /// When the deployment ends without them.
        deadline: Timestamp,
    },
    /// A side's tasks to stop.
    Stopping {
        /// The side that scales down.
        slot: Slot,
        /// Tasks still running.
        running: u32,
        /// When the deployment proceeds although they run.
        deadline: Timestamp,
    },
    /// A rule that was edited outside Switchback to be restored.
    ForeignEdit {
        /// The weights found, and the weights expected.
        reason: String,
        /// When the deployment ends without touching the rule.
        deadline: Timestamp,
    },
    /// A stable side that cannot take traffic: the rollback waits for it.
    RollbackBlocked {
        /// The stable side's state.
        reason: String,
        /// When the deployment ends as failed.
        deadline: Timestamp,
    },
    /// Its turn in the rate limiter's queue: AWS limits an account's API calls.
    RateLimitQueue {
        /// When its turn comes.
        at: Timestamp,
    },
    /// Backoff after throttling by AWS: too many requests in this account and Region.
    Budget {
        /// Next observation. Stage deadlines are extended by this pause.
        until: Timestamp,
    },
    /// A failed effect that is retried.
    Retry {
        /// Kind of the effect.
        effect: EffectKind,
        /// The error.
        reason: String,
    },
}
