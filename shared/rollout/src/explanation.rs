//! Why a target waits, until when, and what happens then.

use crate::command::PlanId;
use crate::entry::Gate;
use crate::names::{Name, Slot};
use crate::snapshot::Weights;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Why a target waits, for `explain` and everything that shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Explanation {
    /// What it waits for, the most telling first.
    pub waiting_on: Vec<WaitingOn>,
    /// When it looks again at the latest.
    pub look_again_at: Option<Timestamp>,
}

/// One thing that is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "for", rename_all = "snake_case")]
pub enum WaitingOn {
    /// A gate that a deployment must pass before it begins.
    Gate {
        /// Which.
        gate: Gate,
        /// What it waits for.
        reason: String,
        /// When it opens by itself, if it does.
        until: Option<Timestamp>,
        /// Then: expired.
        deadline: Timestamp,
    },
    /// People who say yes.
    Approval {
        /// What they are asked to look at.
        plan: PlanId,
        /// How many have said yes, by the policy's names.
        approved: Vec<Name>,
        /// How many are needed.
        required: u8,
        /// Who else may.
        may: Vec<Name>,
        /// Then silence is taken for the policy's default.
        expires_at: Timestamp,
    },
    /// A person who decides about a forward-only release.
    Frozen {
        /// What happened.
        reason: String,
        /// Then: an end without touching anything.
        deadline: Timestamp,
    },
    /// Something against starting.
    Preflight {
        /// What.
        reason: String,
        /// Then: failed.
        deadline: Timestamp,
    },
    /// A reading that could not be had.
    Reading {
        /// What could not be read, and why.
        reason: String,
        /// What happens without it happens then.
        deadline: Timestamp,
    },
    /// What was changed a moment ago: it may still be read as it was before.
    Settling {
        /// What is read meanwhile, or what comes next.
        reason: String,
        /// What is read then is believed.
        until: Timestamp,
    },
    /// A task definition.
    TaskDefinition {
        /// Then: failed.
        deadline: Timestamp,
    },
    /// Tasks and targets.
    Healthy {
        /// Healthy targets.
        healthy: u32,
        /// Wanted.
        want: u32,
        /// What else was seen.
        detail: String,
        /// Then: switched back.
        deadline: Timestamp,
    },
    /// A hook.
    Hook {
        /// Its name.
        hook: String,
        /// Then: it has failed.
        deadline: Timestamp,
    },
    /// Weights to be seen live.
    Weights {
        /// As they shall be.
        weights: Weights,
        /// What happens without it happens then.
        deadline: Timestamp,
    },
    /// The end of a hold.
    Hold {
        /// The candidate's share.
        traffic: u8,
        /// When.
        until: Timestamp,
    },
    /// The end of the bake.
    Bake {
        /// When.
        until: Timestamp,
    },
    /// Alarms that say nothing.
    Alarms {
        /// Those without data.
        names: BTreeSet<String>,
        /// Those that CloudWatch does not have: deleted, or renamed.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        absent: BTreeSet<String>,
        /// Those that CloudWatch does not evaluate, with its words.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        not_evaluated: BTreeMap<String, String>,
        /// Then: switched back.
        deadline: Timestamp,
    },
    /// The stable side's own alarm to be over, or a person.
    StableAlarm {
        /// Its name.
        name: String,
        /// CloudWatch's reason.
        reason: String,
    },
    /// The end of keeping the old side warm.
    Warm {
        /// When.
        until: Timestamp,
    },
    /// The balancer's nodes.
    Drain {
        /// Whose traffic is gone.
        slot: Slot,
        /// When.
        until: Timestamp,
    },
    /// What was borrowed to be seen given back.
    GivingBack {
        /// What is not as it was yet.
        what: String,
        /// What happens without it happens then.
        deadline: Timestamp,
    },
    /// Tasks that stop.
    Stopping {
        /// Whose.
        slot: Slot,
        /// Still running.
        running: u32,
        /// What happens without it happens then.
        deadline: Timestamp,
    },
    /// A rule that somebody else edited.
    ForeignEdit {
        /// What was seen, and what should have been.
        reason: String,
        /// Then: an end without touching the rule.
        deadline: Timestamp,
    },
    /// A stable side that is not fit to go back to.
    WayBack {
        /// What was seen.
        reason: String,
        /// Then: failed.
        deadline: Timestamp,
    },
    /// Its turn: others have asked before it, and AWS lets an account ask only so much.
    Turn {
        /// When it comes.
        at: Timestamp,
    },
    /// AWS, which throttles: too many requests in this account and Region.
    Budget {
        /// When it looks again. No deadline of the stage passes because of it.
        until: Timestamp,
    },
    /// Something that did not work and is tried again.
    Retry {
        /// What.
        effect: String,
        /// Why.
        reason: String,
    },
}
