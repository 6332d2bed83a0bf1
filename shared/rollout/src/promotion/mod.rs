//! Gates: whether a release may start in an environment now, evaluated purely, one rule per gate.
//!
//! [`evaluate_gates`] evaluates every rule of [`rules::RULES`]; a new rule is a line there and a function beside it.
//! The other targets that the rules need are named by [`related_targets`] and passed in, with the brakes, as
//! [`GateContext`]. Unread data counts as unknown, never as good news.

pub mod rules;
mod train;

use crate::brake::Brake;
use crate::command::{DeployOptions, Lane, Overrides, PlanId};
use crate::deployment::{Deployment, GateProgress};
use crate::entry::Gate;
use crate::names::{Actor, ImageDigest, Name, ReleaseId, TargetId};
use crate::phase::Phase;
use crate::policy::AppliedTarget;
use crate::snapshot::Reading;
use crate::target::{OperatorHold, TargetState, Verified};
use crate::template::TemplateReading;
use crate::verdict::Verdict;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// What the rules need to know beyond the target's own state: brakes, other targets, and the registry's images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateContext {
    /// All active brakes, of every scope.
    pub brakes: Reading<Vec<Brake>>,
    /// The targets that [`related_targets`] names; a missing one was not read.
    pub related_targets: BTreeMap<TargetId, RelatedTarget>,
    /// Whether the registry still has the images of queued and starting releases, by digest; a missing one was not
    /// read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<ImageDigest, Reading<ImageState>>,
    /// The newest template, where the policy names a family; none: it names none, or it was not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Reading<TemplateReading>>,
}

/// Whether a registry can still serve an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageState {
    /// It can be pulled.
    Present,
    /// Archived by a lifecycle rule or a person: it cannot be pulled until it is restored.
    Archived,
    /// Deleted by a lifecycle rule or a person.
    Gone,
}

impl ImageState {
    /// Why no task can be started from the image, as a message; none: it can be pulled.
    #[must_use]
    pub fn start_blocker(self) -> Option<&'static str> {
        match self {
            Self::Present => None,
            Self::Archived => Some("its image is archived: restore it in the registry, or push it again"),
            Self::Gone => {
                Some("its image is gone from the registry (a lifecycle rule, or somebody's hand): push it again")
            }
        }
    }
}

impl GateContext {
    /// No brakes, and no related targets.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            brakes: Reading::Known(Vec::new()),
            related_targets: BTreeMap::new(),
            images: BTreeMap::new(),
            template: None,
        }
    }

    /// Nothing was read, for this reason.
    #[must_use]
    pub fn unavailable(reason: &str) -> Self {
        Self { brakes: Reading::Unknown(reason.to_owned()), ..Self::empty() }
    }
}

/// What the rules need to know of another target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelatedTarget {
    /// Releases verified there.
    pub verified: Vec<Verified>,
    /// Digest of the release that is stable there.
    pub stable: Option<ImageDigest>,
    /// Digest of the release that a deployment is bringing there, or taking back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<ImageDigest>,
    /// Digests of the releases that wait there behind that deployment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queued: Vec<ImageDigest>,
    /// Identity of the release train that it asks for the approval of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asks_for_train: Option<String>,
    /// Number of the deployment there that holds the lock of its environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holds_lock: Option<u64>,
    /// A deployment there waits for that lock and for nothing else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waits_for_lock: bool,
}

impl From<&TargetState> for RelatedTarget {
    fn from(state: &TargetState) -> Self {
        let stable = state.stable.as_ref().and_then(|stable| stable.release.as_ref());
        let running = state.running.as_ref().map(|running| running.release.id.digest.clone());
        let stable = stable.map(|release| release.id.digest.clone());
        let waits_for_lock = |running: &Deployment| match (&running.phase, &running.gates) {
            (Phase::Gated(_), Some(gates)) => gates.waits_for_lock,
            _ => false,
        };
        Self {
            verified: state.verified.clone(),
            stable,
            running,
            queued: state.queued.iter().map(|queued| queued.release.id.digest.clone()).collect(),
            asks_for_train: train::asks_for(state).map(str::to_owned),
            holds_lock: state.lock_holder(),
            waits_for_lock: state.running.as_ref().is_some_and(waits_for_lock),
        }
    }
}

impl RelatedTarget {
    /// Whether this release is gone from there: neither stable nor on its way.
    #[must_use]
    pub fn is_rid_of(&self, digest: &ImageDigest) -> bool {
        [&self.stable, &self.running].into_iter().all(|known| known.as_ref() != Some(digest))
    }

    /// Since when this release is verified there; none: it is not.
    #[must_use]
    pub fn verified_since(&self, digest: &ImageDigest) -> Option<Timestamp> {
        self.verified.iter().find(|verified| &verified.release.id.digest == digest).map(|verified| verified.at)
    }
}

/// The question that the rules answer: may this release start on this target now?
#[derive(Debug, Clone, Copy)]
pub struct GateInput<'a> {
    /// The target to deploy to.
    pub target: &'a TargetId,
    /// The release to deploy.
    pub release: &'a ReleaseId,
    /// How the deployment was requested, and the release train it belongs to.
    pub options: &'a DeployOptions,
    /// Who requested the deployment: they may not approve it.
    pub requester: &'a Actor,
    /// The policy as it stands now.
    pub applied: &'a AppliedTarget,
    /// Votes and overrides so far.
    pub gates: &'a GateProgress,
    /// The target awaits an operator's decision about a forward-only release.
    pub operator_hold: Option<&'a OperatorHold>,
    /// Both sides were last seen at 0 tasks.
    pub asleep: bool,
    /// When the deployment started, which waits since then.
    pub started_at: Timestamp,
    /// Brakes and related targets; none: nothing was read.
    pub gate_context: Option<&'a GateContext>,
    /// The time of the evaluation.
    pub now: Timestamp,
}

impl<'a> GateInput<'a> {
    /// What is known of another service of the application in this environment, or of the same one in another; none: it
    /// was not read.
    fn related(&self, service: &Name, environment: &Name) -> Option<&'a RelatedTarget> {
        let id = TargetId { service: service.clone(), environment: environment.clone(), ..self.target.clone() };
        self.gate_context?.related_targets.get(&id)
    }

    /// The input for the gates of a deployment; none: it is not gated, or has no gates.
    #[must_use]
    pub fn of(
        state: &'a TargetState,
        deployment: &'a Deployment,
        applied: &'a AppliedTarget,
        gate_context: Option<&'a GateContext>,
        now: Timestamp,
    ) -> Option<Self> {
        let Phase::Gated(gated) = &deployment.phase else { return None };
        Some(Self {
            target: &state.target,
            release: &deployment.release.id,
            options: &deployment.options,
            requester: &deployment.actor,
            applied,
            gates: deployment.gates.as_ref()?,
            operator_hold: state.operator_hold.as_ref(),
            asleep: gated.asleep,
            started_at: deployment.started_at,
            gate_context,
            now,
        })
    }
}

/// The result of one rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GateResult {
    /// The gate is open; with a message where the way it opened is worth a journal entry.
    Open(Option<String>),
    /// The gate is closed, but may open.
    Waits {
        /// What the gate waits for.
        reason: String,
        /// When the gate opens by itself, if it does.
        until: Option<Timestamp>,
    },
    /// The gate will never open for this deployment.
    Never {
        /// Shown in the journal and to users.
        reason: String,
        /// How a deployment that waits at this gate ends.
        verdict: Verdict,
    },
}

/// The results of all rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateResults {
    /// Each gate with the result of its rule, in display order.
    pub results: Vec<(Gate, GateResult)>,
}

impl GateResults {
    /// Every gate is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.results.iter().all(|(_, result)| matches!(result, GateResult::Open(_)))
    }

    /// [`Gate::OneAtATime`] is closed, and every other gate is open.
    #[must_use]
    pub fn waits_for_lock(&self) -> bool {
        let mut closed = self.results.iter().filter(|result| !matches!(result.1, GateResult::Open(_)));
        closed.next().is_some_and(|(gate, _)| *gate == Gate::OneAtATime) && closed.next().is_none()
    }

    /// The first gate that will never open: its reason, and the verdict that the deployment ends with.
    #[must_use]
    pub fn never(&self) -> Option<(Gate, &str, Verdict)> {
        self.results.iter().find_map(|(gate, result)| match result {
            GateResult::Never { reason, verdict } => Some((*gate, reason.as_str(), *verdict)),
            _ => None,
        })
    }

    /// The closed gates that may still open.
    pub fn waits(&self) -> impl Iterator<Item = (Gate, &str, Option<Timestamp>)> {
        self.results.iter().filter_map(|(gate, result)| match result {
            GateResult::Waits { reason, until } => Some((*gate, reason.as_str(), *until)),
            _ => None,
        })
    }

    /// The result of one gate's rule.
    #[must_use]
    pub fn of(&self, gate: Gate) -> Option<&GateResult> {
        self.results.iter().find(|(known, _)| *known == gate).map(|(_, result)| result)
    }
}

/// Evaluates every rule. A gate that was overridden, or that the hotfix lane skips, is open.
#[must_use]
pub fn evaluate_gates(gate_input: &GateInput<'_>) -> GateResults {
    let results = rules::RULES.iter().map(|(gate, rule)| {
        let result = match bypass_reason(gate_input, *gate) {
            Some(how) => GateResult::Open(Some(how)),
            None => rule(gate_input),
        };
        (*gate, result)
    });
    GateResults { results: results.collect() }
}

/// Whether a deployment with this gate input takes the lock of its environment when it starts: a person who opens the
/// gate, or a hotfix that skips it, lets it start beside others.
pub(crate) fn takes_lock(gate_input: &GateInput<'_>) -> bool {
    gate_input.applied.entry.rules.one_at_a_time && bypass_reason(gate_input, Gate::OneAtATime).is_none()
}

fn bypass_reason(gate_input: &GateInput<'_>, gate: Gate) -> Option<String> {
    if let Some(by) = gate_input.gates.overridden.get(&gate) {
        return Some(format!("opened by {}: {}", by.actor, by.reason));
    }
    let hotfix = gate_input.options.lane == Lane::Hotfix && gate_input.applied.entry.rules.hotfix_skips.contains(&gate);
    hotfix.then(|| "a hotfix is not asked here".to_owned())
}

/// The gate input of the deployment that waits at its gates; none: none does.
#[must_use]
pub fn waiting_gate_input<'q>(
    state: &'q TargetState,
    applied: &'q AppliedTarget,
    gate_context: Option<&'q GateContext>,
    now: Timestamp,
) -> Option<GateInput<'q>> {
    let running = state.running.as_ref()?;
    GateInput::of(state, running, applied, gate_context, now)
}

/// The gate that keeps a release from ever starting here, and why, as far as that is known before it is requested.
#[must_use]
pub fn never_opens(
    state: &TargetState,
    release: &ReleaseId,
    options: &DeployOptions,
    requester: &Actor,
    applied: &AppliedTarget,
    gate_context: Option<&GateContext>,
    now: Timestamp,
) -> Option<(Gate, String)> {
    let gates = GateProgress::new(PlanId(String::new()));
    let gate_results = evaluate_gates(&GateInput {
        target: &state.target,
        release,
        options,
        requester,
        applied,
        gates: &gates,
        operator_hold: state.operator_hold.as_ref(),
        asleep: false,
        started_at: now,
        gate_context,
        now,
    });
    gate_results.never().map(|(gate, reason, _)| (gate, reason.to_owned()))
}

/// The other targets whose state the rules need for a release with these deploy options.
#[must_use]
pub fn related_targets(target: &TargetId, applied: &AppliedTarget, options: &DeployOptions) -> BTreeSet<TargetId> {
    let before = applied.entry.rules.after.iter().flat_map(|after| after.environments());
    let mut found: BTreeSet<TargetId> =
        before.map(|environment| TargetId { environment: environment.clone(), ..target.clone() }).collect();
    if let Some(train) = &options.train {
        // A train starts in the order of dependencies, and goes back in reverse.
        let entry = &applied.entry;
        let is_related = |service: &&Name| entry.depends_on.contains(*service) || entry.dependents.contains(*service);
        let members = train.members.keys().filter(is_related).chain(&train.lead);
        let members = members.filter(|service| **service != target.service);
        found.extend(members.map(|service| TargetId { service: service.clone(), ..target.clone() }));
        if matches!(options.lane, Lane::Automatic { .. }) {
            let before = entry.rules.after.iter().flat_map(|after| after.environments());
            found.extend(before.flat_map(|environment| {
                train.members.keys().map(|service| TargetId {
                    service: service.clone(),
                    environment: environment.clone(),
                    ..target.clone()
                })
            }));
        }
    }
    found
}

/// The other targets of an environment that deploys one at a time: their state decides whether a deployment may start.
pub fn neighbours(target: &TargetId, applied: &AppliedTarget) -> impl Iterator<Item = TargetId> {
    applied.entry.neighbours.iter().map(|service| TargetId { service: service.clone(), ..target.clone() })
}

/// Identity of what a deployment would do: the target, the release, the deploy options and overrides, the policy that
/// it would keep and what it replaces. An approval approves exactly this.
#[must_use]
pub fn plan_id(
    target: &TargetId,
    release: &ReleaseId,
    options: &DeployOptions,
    overrides: &Overrides,
    applied: &AppliedTarget,
    replaces: Option<&ImageDigest>,
) -> PlanId {
    #[derive(Serialize)]
    struct Plan<'a> {
        target: &'a TargetId,
        release: &'a ReleaseId,
        options: &'a DeployOptions,
        overrides: &'a Overrides,
        policy: &'a crate::policy::TargetPolicy,
        replaces: Option<&'a ImageDigest>,
    }
    let plan = Plan { target, release, options, overrides, policy: &applied.policy, replaces };
    // Struct fields serialise in declaration order, and maps are ordered: the same plan is the same text.
    let text = serde_json::to_vec(&plan).unwrap_or_default();
    PlanId(hex::encode(&Sha256::digest(text)[..8]))
}
