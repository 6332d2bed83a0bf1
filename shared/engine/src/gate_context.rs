//! Inputs of a decision beyond its own target: the brakes, and the verified releases of related targets. Read without a lease.

use crate::ports::{Brakes, Cloud, LedgerError, Targets};
use futures::future::{join, join_all};
use rollout::policy::{AppliedTarget, TargetPolicy};
use rollout::promotion::{GateContext, ImageState, RelatedTarget, neighbours, related_targets};
use rollout::template::TemplateReading;
use rollout::{Brake, DeployOptions, ImageDigest, Instruction, Reading, Stage, TargetId, TargetState};
use std::collections::{BTreeMap, BTreeSet};

/// The active brakes. A failed read counts neither as "no brakes" nor as an error: a rollback does not wait for it.
pub async fn brakes<L: Brakes>(ledger: &L) -> Reading<Vec<Brake>> {
    match ledger.brakes().await {
        Ok(brakes) => Reading::Known(brakes),
        Err(error) => Reading::Unknown(error.to_string()),
    }
}

/// Everything that the gates of a release with these deploy options need.
pub async fn load<L: Brakes + Targets>(
    ledger: &L,
    target: &TargetId,
    applied: &AppliedTarget,
    options: &DeployOptions,
) -> GateContext {
    let mut wanted = related_targets(target, applied, options);
    wanted.extend(neighbours(target, applied));
    read(ledger, wanted).await
}

/// Everything that the gates need for a target's running and queued deployments and its commands.
pub(crate) async fn load_for_target<L: Brakes + Targets>(
    ledger: &L,
    state: &TargetState,
    commands: &[rollout::Command],
    applied: &AppliedTarget,
) -> GateContext {
    let asked = commands.iter().filter_map(|command| match &command.instruction {
        Instruction::Deploy { options, .. } => Some(options),
        _ => None,
    });
    let here = state.running.iter().map(|running| &running.options);
    let waiting = state.queued.iter().map(|queued| &queued.options);
    // Nothing runs, and the train's release is stable here: it may have to go back with the train.
    let stable = state.stable.as_ref().and_then(|stable| stable.train.clone());
    let usual = DeployOptions { train: stable, ..DeployOptions::default() };
    let all = asked.chain(here).chain(waiting).chain([&usual]);
    let mut wanted: BTreeSet<TargetId> =
        all.flat_map(|options| related_targets(&state.target, applied, options)).collect();
    // Only what may start next asks what else is being deployed.
    let may_start = match &state.running {
        Some(running) => running.stage() == Stage::Gated,
        None => !state.queued.is_empty() || !commands.is_empty(),
    };
    if may_start {
        wanted.extend(neighbours(&state.target, applied));
    }
    read(ledger, wanted).await
}

/// Whether the registry still has these images; read concurrently.
pub async fn images<C: Cloud>(
    cloud: &C,
    releases: BTreeMap<&ImageDigest, &str>,
) -> BTreeMap<ImageDigest, Reading<ImageState>> {
    let reads = releases.into_iter().map(async |(digest, image)| {
        let state = cloud.image_state(image).await;
        if let Reading::Unknown(reason) = &state {
            tracing::warn!(image, "whether the registry has the image could not be read: {reason}");
        }
        (digest.clone(), state)
    });
    join_all(reads).await.into_iter().collect()
}

/// The newest template of the family that the policy names; none: it names none.
pub async fn template<C: Cloud>(
    cloud: &C,
    policy: &TargetPolicy,
    state: &TargetState,
) -> Option<Reading<TemplateReading>> {
    let family = policy.template.family()?;
    let live = state.stable.as_ref().map(|stable| stable.version.as_str());
    let newest = cloud.template(&policy.resources, family, live).await;
    if let Reading::Unknown(reason) = &newest {
        tracing::warn!(family, "its templates could not be read: {reason}");
    }
    Some(newest)
}

/// A target that cannot be read is left out: gates that need it keep waiting.
async fn read<L: Brakes + Targets>(ledger: &L, wanted: BTreeSet<TargetId>) -> GateContext {
    let reads = wanted.into_iter().map(|target| async {
        let state: Result<_, LedgerError> = ledger.state(&target).await;
        (target, state)
    });
    let (brakes, states) = join(brakes(ledger), join_all(reads)).await;
    let known = states.into_iter().filter_map(|(target, state)| match state {
        Ok(Some(state)) => Some((target, RelatedTarget::from(&state))),
        // Nothing was ever deployed there: this counts as known.
        Ok(None) => Some((target, RelatedTarget::default())),
        Err(error) => {
            tracing::warn!(target_id = %target, "what it has verified could not be read: {error}");
            None
        }
    });
    GateContext { brakes, related_targets: known.collect(), ..GateContext::empty() }
}
