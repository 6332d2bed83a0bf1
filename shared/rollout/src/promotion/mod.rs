//! Whether a release may begin in an environment now: a pure judgement, one rule a gate.
//!
//! [`judge`] asks every rule of [`rules::RULES`]; a new rule is a line there and a function beside it. What the rules
//! need of other targets and of brakes is named by [`neighbours`] and handed in as [`Surroundings`]: what was not read is
//! no good news.

pub mod calendar;
pub mod rules;

use crate::brake::Brake;
use crate::command::{Lane, Overrides, PlanId, Terms};
use crate::entry::Gate;
use crate::names::{Actor, ImageDigest, ReleaseId, TargetId};
use crate::snapshot::Reading;
use crate::stage::Verdict;
use crate::target::{AppliedTarget, Gates, TargetFreeze, TargetState, Verified};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// What is known beyond the target itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surroundings {
    /// The brakes that are on, everywhere.
    pub brakes: Reading<Vec<Brake>>,
    /// The targets that [`neighbours`] names; one that is missing was not read.
    pub neighbours: BTreeMap<TargetId, Neighbour>,
    /// Whether the registry still has the images of what waits or begins, by digest; one that is missing was not read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<ImageDigest, Reading<ImageState>>,
}

/// What a registry says of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageState {
    /// It can be pulled.
    Present,
    /// A lifecycle rule or a person has archived it: it cannot be pulled before somebody restores it.
    Archived,
    /// It is not there any more: a lifecycle rule or a person has deleted it.
    Gone,
}

impl ImageState {
    /// What keeps tasks from being started with it, for people; none: nothing.
    #[must_use]
    pub fn against_starting(self) -> Option<&'static str> {
        match self {
            Self::Present => None,
            Self::Archived => Some("its image is archived: restore it in the registry, or push it again"),
            Self::Gone => {
                Some("its image is gone from the registry (a lifecycle rule, or somebody's hand): push it again")
            }
        }
    }
}

impl Surroundings {
    /// No brakes, and no neighbours.
    #[must_use]
    pub fn quiet() -> Self {
        Self { brakes: Reading::Known(Vec::new()), neighbours: BTreeMap::new(), images: BTreeMap::new() }
    }

    /// Nothing was read, for this reason.
    #[must_use]
    pub fn unread(reason: &str) -> Self {
        Self { brakes: Reading::Unknown(reason.to_owned()), neighbours: BTreeMap::new(), images: BTreeMap::new() }
    }
}

/// What rules need of another target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// What was verified there.
    pub verified: Vec<Verified>,
    /// What is stable there.
    pub stable: Option<ImageDigest>,
}

impl From<&TargetState> for Neighbour {
    fn from(state: &TargetState) -> Self {
        let stable = state.stable.as_ref().and_then(|stable| stable.release.as_ref());
        Self { verified: state.verified.clone(), stable: stable.map(|release| release.id.digest.clone()) }
    }
}

impl Neighbour {
    /// Since when it counts this release as verified.
    #[must_use]
    pub fn verified_since(&self, digest: &ImageDigest) -> Option<Timestamp> {
        self.verified.iter().find(|verified| &verified.release.id.digest == digest).map(|verified| verified.at)
    }
}

/// May this release begin here now?
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Where.
    pub target: &'a TargetId,
    /// What.
    pub release: &'a ReleaseId,
    /// By which way, and as part of what.
    pub terms: &'a Terms,
    /// Who asked for it: they do not approve it.
    pub requester: &'a Actor,
    /// The rules, as they stand.
    pub applied: &'a AppliedTarget,
    /// What was said at the gates so far.
    pub gates: &'a Gates,
    /// The target waits for a person to decide about a forward-only release.
    pub frozen: Option<&'a TargetFreeze>,
    /// Both sides were last seen at 0 tasks.
    pub asleep: bool,
    /// What is known beyond the target; none: nothing was read.
    pub around: Option<&'a Surroundings>,
    /// The time.
    pub now: Timestamp,
}

/// What a rule says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opinion {
    /// Nothing against it. With words where it opened in a way that is worth a line.
    Open(Option<String>),
    /// Not yet.
    Waits {
        /// What for.
        reason: String,
        /// When that is over by itself, if it is.
        until: Option<Timestamp>,
    },
    /// It will not be.
    Never {
        /// Why.
        reason: String,
        /// How a deployment that waits for it ends.
        verdict: Verdict,
    },
}

/// What all rules say together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruling {
    /// Each gate, and what its rule says, in the order in which people want to read them.
    pub opinions: Vec<(Gate, Opinion)>,
}

impl Ruling {
    /// Every gate is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.opinions.iter().all(|(_, opinion)| matches!(opinion, Opinion::Open(_)))
    }

    /// The first gate that will not open: why, and how it ends.
    #[must_use]
    pub fn never(&self) -> Option<(Gate, &str, Verdict)> {
        self.opinions.iter().find_map(|(gate, opinion)| match opinion {
            Opinion::Never { reason, verdict } => Some((*gate, reason.as_str(), *verdict)),
            _ => None,
        })
    }

    /// The gates that keep it waiting.
    pub fn waits(&self) -> impl Iterator<Item = (Gate, &str, Option<Timestamp>)> {
        self.opinions.iter().filter_map(|(gate, opinion)| match opinion {
            Opinion::Waits { reason, until } => Some((*gate, reason.as_str(), *until)),
            _ => None,
        })
    }

    /// What one gate's rule says.
    #[must_use]
    pub fn of(&self, gate: Gate) -> Option<&Opinion> {
        self.opinions.iter().find(|(known, _)| *known == gate).map(|(_, opinion)| opinion)
    }
}

/// Asks every rule. A gate that was opened by hand, or that the hotfix lane passes by, is open.
#[must_use]
pub fn judge(question: &Question<'_>) -> Ruling {
    let opinions = rules::RULES.iter().map(|(gate, rule)| {
        let opinion = match passed_by(question, *gate) {
            Some(how) => Opinion::Open(Some(how)),
            None => rule(question),
        };
        (*gate, opinion)
    });
    Ruling { opinions: opinions.collect() }
}

fn passed_by(question: &Question<'_>, gate: Gate) -> Option<String> {
    if let Some(by) = question.gates.overridden.get(&gate) {
        return Some(format!("opened by {}: {}", by.actor, by.reason));
    }
    let hotfix = question.terms.lane == Lane::Hotfix && question.applied.entry.rules.hotfix_skips.contains(&gate);
    hotfix.then(|| "a hotfix is not asked here".to_owned())
}

/// The question of the deployment that waits at its gates; none: none does.
#[must_use]
pub fn waiting<'q>(
    state: &'q TargetState,
    applied: &'q AppliedTarget,
    around: Option<&'q Surroundings>,
    now: Timestamp,
) -> Option<Question<'q>> {
    let running = state.running.as_ref()?;
    crate::decide::question(&state.target, state.frozen.as_ref(), running, applied, around, now)
}

/// The other targets that the rules look at for a release of these terms.
#[must_use]
pub fn neighbours(target: &TargetId, applied: &AppliedTarget, terms: &Terms) -> BTreeSet<TargetId> {
    let before = applied.entry.rules.after.iter().flat_map(|after| after.environments());
    let mut found: BTreeSet<TargetId> =
        before.map(|environment| TargetId { environment: environment.clone(), ..target.clone() }).collect();
    if let Some(train) = &terms.train {
        let members = train.members.keys().filter(|service| applied.entry.depends_on.contains(*service));
        found.extend(members.map(|service| TargetId { service: service.clone(), ..target.clone() }));
    }
    found
}

/// Identity of what a deployment would do: the target, the release, the way it takes, the policy that it would keep and
/// what it replaces. Whoever approves says yes to this.
#[must_use]
pub fn plan_id(
    target: &TargetId,
    release: &ReleaseId,
    terms: &Terms,
    overrides: &Overrides,
    applied: &AppliedTarget,
    replaces: Option<&ImageDigest>,
) -> PlanId {
    #[derive(Serialize)]
    struct Plan<'a> {
        target: &'a TargetId,
        release: &'a ReleaseId,
        terms: &'a Terms,
        overrides: &'a Overrides,
        policy: &'a crate::policy::TargetPolicy,
        replaces: Option<&'a ImageDigest>,
    }
    let plan = Plan { target, release, terms, overrides, policy: &applied.policy, replaces };
    // Keys are in the order of their declaration, and maps are ordered: the same plan is the same text.
    let text = serde_json::to_vec(&plan).unwrap_or_default();
    let digits = Sha256::digest(text);
    PlanId(digits.iter().take(8).fold(String::new(), |hex, byte| format!("{hex}{byte:02x}")))
}
