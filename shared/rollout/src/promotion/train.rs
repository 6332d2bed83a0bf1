//! Release trains: one approval for all members, and their promotion as a set.

use super::{GateInput, RelatedTarget};
use crate::command::{Lane, Train};
use crate::entry::After;
use crate::names::{ImageDigest, Name};
use crate::phase::Phase;
use crate::policy::Policy;
use crate::target::{OutboxMessage, TargetState};
use crate::text::clip_with_ellipsis;
use crate::time::Seconds;

/// How long a member waits for the deployment of the one that asks for all: the train's requests are written one after
/// the other.
const LEAD_APPEARS_WITHIN: Seconds = Seconds(60);

/// Identity of the train that this target asks for the approval of, or has it and is about to pass it on.
pub(super) fn asks_for(state: &TargetState) -> Option<&str> {
    let leads = |train: &&Train| train.lead.as_ref() == Some(&state.target.service);
    let running = state.running.as_ref().filter(|running| matches!(running.phase, Phase::Gated(_)));
    let running = running.and_then(|running| running.options.train.as_deref());
    let queued = state.queued.iter().filter_map(|queued| queued.options.train.as_deref());
    let passing_on = state.outbox.iter().filter_map(|message| match message {
        OutboxMessage::TrainApproved(approval) => Some(&*approval.train),
        _ => None,
    });
    let train = running.into_iter().chain(queued).chain(passing_on).find(leads);
    train.map(|train| train.id.as_str())
}

/// The member of its train that a deployment is approved with; none: it asks by itself, or was approved with the train
/// already.
pub(super) fn asked_by<'q>(gate_input: &GateInput<'q>) -> Option<&'q Name> {
    let train = gate_input.options.train.as_ref()?;
    let lead = train.lead.as_ref().filter(|lead| **lead != gate_input.target.service)?;
    if gate_input.gates.requested_at.is_some() || gate_input.gates.approved_with.is_some() {
        return None;
    }
    let asks = match gate_input.related(lead, &gate_input.target.environment) {
        None => true,
        Some(known) => known.asks_for_train.as_ref() == Some(&train.id),
    };
    (asks || gate_input.now < LEAD_APPEARS_WITHIN.after(gate_input.started_at)).then_some(lead)
}

/// What keeps a train that is promoted automatically from going on: members that the upstream environments have not
/// verified.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TrainVerification<'q> {
    /// Every member is verified, or the release is not promoted with a train.
    Verified,
    /// These members are not verified yet.
    Awaited(Vec<&'q Name>),
    /// This member did not get there.
    Failed(&'q Name),
}

/// Whether the upstream environments have verified every member of a train that is promoted automatically.
pub(super) fn upstream<'q>(gate_input: &GateInput<'q>) -> TrainVerification<'q> {
    let (Some(train), Some(after)) = (&gate_input.options.train, &gate_input.applied.entry.rules.after) else {
        return TrainVerification::Verified;
    };
    if !matches!(gate_input.options.lane, Lane::Automatic { .. }) {
        return TrainVerification::Verified;
    }
    let mut awaited = Vec::new();
    for (service, digest) in train.members.iter().filter(|(service, _)| **service != gate_input.target.service) {
        let known = after.environments().iter().map(|environment| gate_input.related(service, environment));
        let known: Vec<Option<&RelatedTarget>> = known.collect();
        let verified = |known: &Option<&RelatedTarget>| known.is_some_and(|it| it.verified_since(digest).is_some());
        let is_there = match after {
            After::All(_) => known.iter().all(verified),
            After::Any(_) => known.iter().any(verified),
        };
        if is_there {
            continue;
        }
        let failed = |known: &Option<&RelatedTarget>| !verified(known) && known.is_some_and(|it| it.has_lost(digest));
        let never = match after {
            After::All(_) => known.iter().any(failed),
            After::Any(_) => known.iter().all(failed),
        };
        if never {
            return TrainVerification::Failed(service);
        }
        awaited.push(service);
    }
    if awaited.is_empty() { TrainVerification::Verified } else { TrainVerification::Awaited(awaited) }
}

impl RelatedTarget {
    /// Whether this release is neither there nor on its way there, not even queued.
    fn has_lost(&self, digest: &ImageDigest) -> bool {
        self.is_rid_of(digest) && !self.queued.contains(digest)
    }
}

impl Train {
    /// Most characters of a member's tag that are kept: every queued release of a target has all of them.
    pub const MAX_TAG_CHARS: usize = 32;

    /// A train with these releases: service, digest and tag of each.
    #[must_use]
    pub fn new(
        id: String,
        members: impl IntoIterator<Item = (Name, ImageDigest, String)>,
        lead: Option<Name>,
        rollback_together: bool,
    ) -> Self {
        let mut train = Self { id, lead, rollback_together, ..Self::default() };
        for (service, digest, tag) in members {
            train.members.insert(service.clone(), digest);
            train.tags.insert(service, clip_with_ellipsis(&tag, Self::MAX_TAG_CHARS));
        }
        train
    }

    /// The member among `services` that starts first: the one that depends on the fewest services.
    pub fn first_of<'n>(policy: &Policy, services: impl Iterator<Item = &'n Name>) -> Option<&'n Name> {
        services.min_by_key(|service| (policy.dependencies(service).len(), *service))
    }

    /// The train as it is promoted to an environment; none: fewer than two of its services run there.
    #[must_use]
    pub fn promoted_to(&self, policy: &Policy, environment: &Name) -> Option<Self> {
        let rules = policy.environments.get(environment)?;
        let mut train = self.clone();
        train.members.retain(|service, _| rules.targets.contains_key(service));
        train.tags.retain(|service, _| rules.targets.contains_key(service));
        train.lead = Self::first_of(policy, train.members.keys()).cloned();
        train.rollback_together = rules.entry.rollback_train_together;
        (train.members.len() > 1).then_some(train)
    }

    /// What a member brings, for people: its tag or the beginning of its digest.
    #[must_use]
    pub fn label_of(&self, service: &Name) -> String {
        match (self.tags.get(service), self.members.get(service)) {
            (Some(tag), _) => tag.clone(),
            (None, Some(digest)) => digest.as_str().chars().take("sha256:".len() + 12).collect(),
            (None, None) => String::new(),
        }
    }
}
