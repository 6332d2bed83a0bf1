//! What a decision needs beyond its target: the brakes, and what neighbours have verified. Read, never held.

use crate::ports::{Cloud, Ledger, LedgerError};
use futures::future::{join, join_all};
use rollout::promotion::{ImageState, Neighbour, Surroundings, neighbours};
use rollout::target::AppliedTarget;
use rollout::{Brake, ImageDigest, Instruction, Reading, TargetId, TargetState, Terms};
use std::collections::{BTreeMap, BTreeSet};

/// The brakes that are on; what could not be read is no good news, and no error either: a rollback does not wait for it.
pub async fn brakes<L: Ledger>(ledger: &L) -> Reading<Vec<Brake>> {
    match ledger.brakes().await {
        Ok(brakes) => Reading::Known(brakes),
        Err(error) => Reading::Unknown(error.to_string()),
    }
}

/// Everything that the gates of a release of these terms look at.
pub async fn load<L: Ledger>(ledger: &L, target: &TargetId, applied: &AppliedTarget, terms: &Terms) -> Surroundings {
    read(ledger, neighbours(target, applied, terms)).await
}

/// Everything that the gates look at, of what runs and waits on a target and of what is asked of it.
pub(crate) async fn of_target<L: Ledger>(
    ledger: &L,
    state: &TargetState,
    commands: &[rollout::Command],
    applied: &AppliedTarget,
) -> Surroundings {
    let asked = commands.iter().filter_map(|command| match &command.instruction {
        Instruction::Deploy { terms, .. } => Some(terms),
        _ => None,
    });
    let here = state.running.iter().map(|running| &running.terms);
    let waiting = state.queued.iter().map(|queued| &queued.terms);
    let usual = Terms::default();
    let all = asked.chain(here).chain(waiting).chain([&usual]);
    let wanted: BTreeSet<TargetId> = all.flat_map(|terms| neighbours(&state.target, applied, terms)).collect();
    read(ledger, wanted).await
}

/// Whether the registry still has these images, read side by side.
pub async fn images<C: Cloud>(
    cloud: &C,
    releases: BTreeMap<&ImageDigest, &str>,
) -> BTreeMap<ImageDigest, Reading<ImageState>> {
    let reads = releases.into_iter().map(async |(digest, image)| {
        let state = cloud.image(image).await;
        if let Reading::Unknown(reason) = &state {
            tracing::warn!(image, "whether the registry has the image could not be read: {reason}");
        }
        (digest.clone(), state)
    });
    join_all(reads).await.into_iter().collect()
}

/// A target that cannot be read is left out: whoever needs it waits.
async fn read<L: Ledger>(ledger: &L, wanted: BTreeSet<TargetId>) -> Surroundings {
    let reads = wanted.into_iter().map(|target| async {
        let state: Result<_, LedgerError> = ledger.state(&target).await;
        (target, state)
    });
    let (brakes, states) = join(brakes(ledger), join_all(reads)).await;
    let known = states.into_iter().filter_map(|(target, state)| match state {
        Ok(Some(state)) => Some((target, Neighbour::from(&state))),
        // Nothing was ever deployed there: that is known.
        Ok(None) => Some((target, Neighbour::default())),
        Err(error) => {
            tracing::warn!(target_id = %target, "what it has verified could not be read: {error}");
            None
        }
    });
    Surroundings { brakes, neighbours: known.collect(), images: BTreeMap::new() }
}
