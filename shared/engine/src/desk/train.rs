//! Several services as one set: looked at together, asked for together.

use super::asking::{Candidate, has_hotfix_lane, terms};
use super::{Asked, Desk, Refusal, TrainAnswer, TrainRequest, needed_reason, own_key, reason, unknown_target};
use crate::ports::{Applied, Clock, Ledger, WakeQueue};
use crate::surroundings;
use futures::future::join_all;
use rollout::plan::{Outlook, rehearse};
use rollout::promotion::Surroundings;
use rollout::target::{ReleaseRef, TargetState};
use rollout::{Actor, Command, ImageDigest, Lane, Name, Overrides, Release, TargetId, Terms, Train};
use std::collections::BTreeMap;

/// The most services of one train: each member's command, and the target's state after it, names all of them.
pub const MOST_MEMBERS: usize = 25;

impl<L: Ledger, D: WakeQueue, K: Clock> Desk<'_, L, D, K> {
    /// Asks for several services of an environment as one set, all by one lane. Services that run what they are to run
    /// already are members, and nothing is asked of them.
    ///
    /// # Errors
    /// [`Refusal`]: any member that would be refused, and then nothing is asked of any; a ledger that did not answer.
    pub async fn train(&self, request: &TrainRequest, lane: &Lane, actor: &Actor) -> Result<TrainAnswer, Refusal> {
        let reason = match lane {
            Lane::Hotfix => needed_reason(&request.reason, "a hotfix")?,
            _ => reason(&request.reason)?,
        };
        let id = match &request.request {
            Some(key) => own_key(key, actor)?.to_owned(),
            None => self.clock.lease_id().0,
        };
        let applied = self.applied(&request.application).await?;
        let wanted = members(request, &applied)?;
        let looked = join_all(
            wanted.iter().map(|(service, wanted)| self.member(request, &applied, service, *wanted, lane, &id)),
        );
        let mut candidates = all_or_none(wanted.keys().copied().zip(looked.await))?;
        let digests: BTreeMap<Name, ImageDigest> = candidates
            .iter()
            .map(|(candidate, _)| (candidate.target.service.clone(), candidate.release.id.digest.clone()))
            .collect();
        let together = candidates.first().is_some_and(|(first, _)| first.applied.entry.rules.train_goes_back_together);
        let train = Train { id: id.clone(), members: digests, together };
        for (candidate, _) in &mut candidates {
            candidate.terms.train = Some(train.clone());
        }
        // Those go first that others depend on: what a service depends on has fewer dependencies than itself.
        candidates.sort_by_key(|(candidate, _)| candidate.applied.entry.depends_on.len());
        let (there, missing): (Vec<_>, Vec<_>) = candidates
            .into_iter()
            .partition(|(candidate, _)| is_there(candidate) && taken_in(&candidate.state, &id).is_none());
        if missing.is_empty() {
            let message = format!(
                "every service of this train runs its release in {} of {} already: there is nothing to do",
                request.environment, request.application
            );
            return Err(Refusal::conflict("nothing_to_deploy", message));
        }
        let judged = missing.iter().map(|(candidate, around)| {
            let ours = taken_in(&candidate.state, &id).is_some();
            let admitted = if ours { Ok(()) } else { self.would_be_taken_in(candidate, around, reason, actor) };
            (&candidate.target.service, admitted)
        });
        all_or_none(judged)?;
        let mut commands = Vec::with_capacity(missing.len());
        for (candidate, _) in missing {
            let instruction = candidate.instruction();
            let asked = Asked { instruction, actor, reason, request: Some(&id), release: Some(candidate.release) };
            commands.push(self.ask(&candidate.state, asked).await?);
        }
        let already_there = there.into_iter().map(|(candidate, _)| candidate.target).collect();
        Ok(TrainAnswer { train: train.id, commands, already_there })
    }

    /// Whether the target would take the release in: the same decision, rehearsed.
    fn would_be_taken_in(
        &self,
        candidate: &Candidate,
        around: &Surroundings,
        reason: &str,
        actor: &Actor,
    ) -> Result<(), Refusal> {
        let now = self.clock.now();
        candidate.admitted(around, actor, now)?;
        let Candidate { target, applied, state, release, .. } = candidate;
        let command = Command::asked(target.clone(), candidate.instruction(), actor.clone(), reason, "train", now);
        let release = ReleaseRef {
            id: release.id.clone(),
            image: release.image.clone(),
            tag: release.tag.clone(),
            pushed_at: Some(release.pushed_at),
        };
        let plan = rehearse(state, applied, &command, release, around, now).plan(None);
        if plan.outlook == Outlook::Refused {
            return Err(Refusal::conflict("would_be_refused", format!("{target}: {}", plan.blockers.join("; "))));
        }
        Ok(())
    }

    /// Looks at one member: its release, its policy, its state and what is around it.
    async fn member(
        &self,
        request: &TrainRequest,
        applied: &Applied,
        service: &Name,
        wanted: Option<&str>,
        lane: &Lane,
        id: &str,
    ) -> Result<(Candidate, Surroundings), Refusal> {
        let target = TargetId::new(request.application.clone(), service.clone(), request.environment.clone());
        let of_target =
            applied.policy.applied(&target, applied.version).ok_or_else(|| unknown_target(&target, applied))?;
        if *lane == Lane::Hotfix {
            has_hotfix_lane(&target, &of_target)?;
        }
        let around = surroundings::load(self.ledger, &target, &of_target, &Terms::default()).await;
        let state = self.state(&target).await?;
        // What was asked for by this key before is what is asked for, whatever is the newest by now.
        let known = taken_in(&state, id).and_then(|train| train.members.get(service)).map(ImageDigest::as_str);
        let release: Release = match known.or(wanted) {
            Some(wanted) => self.release(&target.application, service, wanted).await?,
            None => self.newest_verified(&target, &of_target, &around).await?,
        };
        let terms = terms(lane.clone(), request.forward_only, &release);
        let candidate =
            Candidate { target, applied: of_target, state, release, overrides: Overrides::default(), terms };
        Ok((candidate, around))
    }
}

/// The services, and what each is to run; none: the newest that is verified.
fn members<'r>(
    request: &'r TrainRequest,
    applied: &'r Applied,
) -> Result<BTreeMap<&'r Name, Option<&'r str>>, Refusal> {
    let Some(environment) = applied.policy.environments.get(&request.environment) else {
        return Err(unknown_environment(&request.environment, applied));
    };
    let members: BTreeMap<&Name, Option<&str>> = if request.releases.is_empty() {
        environment.targets.keys().map(|service| (service, None)).collect()
    } else {
        request.releases.iter().map(|(service, release)| (service, release.as_deref())).collect()
    };
    if members.len() > MOST_MEMBERS {
        let message = format!("a train has at most {MOST_MEMBERS} services, not {}: ask for two", members.len());
        return Err(Refusal::request("too_many_services", message));
    }
    Ok(members)
}

pub(crate) fn unknown_environment(environment: &Name, applied: &Applied) -> Refusal {
    Refusal::unknown(
        "unknown_environment",
        format!(
            "version {} of {}'s policy has no environment `{environment}`",
            applied.version, applied.policy.application
        ),
        applied.policy.environments.keys().map(ToString::to_string),
        "name one of those",
    )
}

/// What all have; or, if one was refused, a refusal that names every one that was.
fn all_or_none<'s, T>(results: impl Iterator<Item = (&'s Name, Result<T, Refusal>)>) -> Result<Vec<T>, Refusal> {
    let (mut all, mut refused): (Vec<T>, Vec<(&Name, Refusal)>) = (Vec::new(), Vec::new());
    for (service, result) in results {
        match result {
            Ok(one) => all.push(one),
            Err(refusal) => refused.push((service, refusal)),
        }
    }
    let Some((_, first)) = refused.first() else { return Ok(all) };
    let same = refused.iter().all(|(_, refusal)| refusal.code == first.code);
    let (status, code) = if same { (first.status, first.code.clone()) } else { (409, "train_refused".to_owned()) };
    let each: Vec<String> =
        refused.iter().map(|(service, refusal)| format!("{service}: {}", refusal.message)).collect();
    Err(Refusal::new(status, &code, format!("nothing was asked of any service: {}", each.join("; "))))
}

/// This very train, if the target has taken it in before: its answer was lost, or it is asked for again.
fn taken_in<'s>(state: &'s TargetState, id: &str) -> Option<&'s Train> {
    let running = state.running.iter().filter_map(|running| running.terms.train.as_ref());
    let waiting = state.queued.iter().filter_map(|queued| queued.terms.train.as_ref());
    let stable = state.stable.iter().filter_map(|stable| stable.train.as_ref());
    running.chain(waiting).chain(stable).find(|train| train.id == id)
}

/// The release is what the target runs and is to run.
fn is_there(candidate: &Candidate) -> bool {
    let state = &candidate.state;
    let stable = state.stable.as_ref().and_then(|stable| stable.release.as_ref());
    let at_rest = state.running.is_none() && state.queued.is_empty() && state.drift().is_none();
    at_rest && stable.is_some_and(|stable| stable.id == candidate.release.id)
}
