//! Release trains: several services checked and requested as one set.

use super::commands::{CommandSubmission, ProposedDeployment, options};
use super::{RequestLedger, authorize_request_key, unknown_target, validate_reason, validate_required_reason};
use crate::{CommandService, MAX_TRAIN_MEMBERS, Refusal, TrainRequest, TrainResponse};
use engine::gate_context;
use engine::ports::{AppliedPolicy, Clock, WakeQueue};
use futures::future::join_all;
use rollout::command_checks::has_hotfix_lane;
use rollout::plan::{PlanStatus, dry_run};
use rollout::promotion::GateContext;
use rollout::release::ReleaseRef;
use rollout::target::TargetState;
use rollout::{Actor, Command, DeployOptions, ImageDigest, Lane, Name, Overrides, Release, TargetId, Train};
use std::collections::BTreeMap;

impl<L: RequestLedger, D: WakeQueue, K: Clock> CommandService<'_, L, D, K> {
    /// Requests several services of an environment as one set, all by one lane. Services that already run the requested release
    /// are members, but get no command.
    ///
    /// # Errors
    /// [`Refusal`]: if any member would be refused, nothing is requested for any; a ledger that did not answer.
    pub async fn train(&self, request: &TrainRequest, lane: &Lane, actor: &Actor) -> Result<TrainResponse, Refusal> {
        let reason = match lane {
            Lane::Hotfix => validate_required_reason(&request.reason, "a hotfix")?,
            _ => validate_reason(&request.reason)?,
        };
        let id = match &request.request {
            Some(key) => authorize_request_key(key, actor)?.to_owned(),
            None => self.clock.unique_id().0,
        };
        let applied = self.applied(&request.application).await?;
        let wanted = members(request, &applied)?;
        let loaded = join_all(
            wanted.iter().map(|(service, wanted)| self.member(request, &applied, service, *wanted, lane, &id)),
        );
        let mut candidates = all_or_none(wanted.keys().copied().zip(loaded.await))?;
        let members = candidates.iter().map(|(candidate, _)| {
            let ProposedDeployment { target, release, .. } = candidate;
            (target.service.clone(), release.id.digest.clone(), release.tag.clone())
        });
        let rollback_together =
            candidates.first().is_some_and(|(first, _)| first.applied.entry.rules.rollback_train_together);
        // One approval for all: those that have their release already ask for none.
        let to_approve = candidates.iter().filter(|(candidate, _)| !already_deployed(candidate));
        let to_approve = to_approve.map(|(candidate, _)| &candidate.target.service);
        let lead = Train::first_of(&applied.policy, to_approve).cloned();
        let train = Train::new(id.clone(), members, lead, rollback_together);
        for (candidate, _) in &mut candidates {
            candidate.options.train = Some(Box::new(train.clone()));
        }
        // Dependencies first: a service's dependencies have fewer dependencies than the service itself.
        candidates.sort_by_key(|(candidate, _)| candidate.applied.entry.depends_on.len());
        let (already_deployed_members, to_deploy): (Vec<_>, Vec<_>) = candidates
            .into_iter()
            .partition(|(candidate, _)| already_deployed(candidate) && existing_train(&candidate.state, &id).is_none());
        if to_deploy.is_empty() {
            let message = format!(
                "every service of this train runs its release in {} of {} already: there is nothing to do",
                request.environment, request.application
            );
            return Err(Refusal::conflict("nothing_to_deploy", message));
        }
        let judged = to_deploy.iter().map(|(candidate, gate_context)| {
            let ours = existing_train(&candidate.state, &id).is_some();
            let gate_check = if ours { Ok(()) } else { self.dry_run_admission(candidate, gate_context, reason, actor) };
            (&candidate.target.service, gate_check)
        });
        all_or_none(judged)?;
        let mut commands = Vec::with_capacity(to_deploy.len());
        for (candidate, _) in to_deploy {
            let instruction = candidate.instruction();
            let (request_key, release) = (Some(id.as_str()), Some(candidate.release));
            let submission = CommandSubmission { instruction, actor, reason, request_key, release };
            commands.push(self.submit(&candidate.state, submission).await?);
        }
        let already_there = already_deployed_members.into_iter().map(|(candidate, _)| candidate.target).collect();
        Ok(TrainResponse { train: train.id, commands, already_there })
    }

    /// Whether the target would admit the release: a dry run of the same decision.
    fn dry_run_admission(
        &self,
        candidate: &ProposedDeployment,
        gate_context: &GateContext,
        reason: &str,
        actor: &Actor,
    ) -> Result<(), Refusal> {
        let now = self.clock.now();
        let ProposedDeployment { target, applied, state, release, .. } = candidate;
        candidate.gate_check(gate_context, actor, now).map_err(|refusal| Refusal::of_command(target, &refusal))?;
        let command = Command::requested(target.clone(), candidate.instruction(), actor.clone(), reason, "train", now);
        let release = ReleaseRef {
            id: release.id.clone(),
            image: release.image.clone(),
            tag: release.tag.clone(),
            pushed_at: Some(release.pushed_at),
        };
        let plan = dry_run(state, applied, &command, release, gate_context, now).plan(None);
        if plan.status == PlanStatus::Refused {
            return Err(Refusal::conflict("would_be_refused", format!("{target}: {}", plan.blockers.join("; "))));
        }
        Ok(())
    }

    /// Loads one member: its release, policy, state and gate context.
    async fn member(
        &self,
        request: &TrainRequest,
        applied: &AppliedPolicy,
        service: &Name,
        wanted: Option<&str>,
        lane: &Lane,
        id: &str,
    ) -> Result<(ProposedDeployment, GateContext), Refusal> {
        let target = TargetId::new(request.application.clone(), service.clone(), request.environment.clone());
        let of_target =
            applied.policy.applied(&target, applied.version).ok_or_else(|| unknown_target(&target, applied))?;
        if *lane == Lane::Hotfix {
            has_hotfix_lane(&of_target, &target.environment, wanted.unwrap_or("the newest release"))
                .map_err(|refusal| Refusal::of_command(&target, &refusal))?;
        }
        let gate_context = gate_context::load(self.ledger, &target, &of_target, &DeployOptions::default()).await;
        let state = self.state(&target).await?;
        // An earlier request with this key determines the release, even if a newer one exists by now.
        let known = existing_train(&state, id).and_then(|train| train.members.get(service)).map(ImageDigest::as_str);
        let release: Release = match known.or(wanted) {
            Some(wanted) => self.release(&target.application, service, wanted).await?,
            None => self.newest_verified(&target, &of_target, &gate_context).await?,
        };
        let options = options(lane.clone(), request.forward_only, &release);
        let candidate =
            ProposedDeployment { target, applied: of_target, state, release, overrides: Overrides::default(), options };
        Ok((candidate, gate_context))
    }
}

/// The services and the release of each; `None`: the newest verified one.
fn members<'r>(
    request: &'r TrainRequest,
    applied: &'r AppliedPolicy,
) -> Result<BTreeMap<&'r Name, Option<&'r str>>, Refusal> {
    let Some(environment) = applied.policy.environments.get(&request.environment) else {
        return Err(unknown_environment(&request.environment, applied));
    };
    let members: BTreeMap<&Name, Option<&str>> = if request.releases.is_empty() {
        environment.targets.keys().map(|service| (service, None)).collect()
    } else {
        request.releases.iter().map(|(service, release)| (service, release.as_deref())).collect()
    };
    if members.len() > MAX_TRAIN_MEMBERS {
        let message = format!("a train has at most {MAX_TRAIN_MEMBERS} services, not {}: ask for two", members.len());
        return Err(Refusal::request("too_many_services", message));
    }
    Ok(members)
}

pub(crate) fn unknown_environment(environment: &Name, applied: &AppliedPolicy) -> Refusal {
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

/// All results, or one refusal that names every member that was refused.
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

/// This train, if the target already has it: the response was lost, or the request is repeated.
fn existing_train<'s>(state: &'s TargetState, id: &str) -> Option<&'s Train> {
    let running = state.running.iter().filter_map(|running| running.options.train.as_ref());
    let waiting = state.queued.iter().filter_map(|queued| queued.options.train.as_ref());
    let stable = state.stable.iter().filter_map(|stable| stable.train.as_ref());
    running.chain(waiting).chain(stable).map(|train| &**train).find(|train| train.id == id)
}

/// Whether the target already runs the release and no other is under way.
fn already_deployed(candidate: &ProposedDeployment) -> bool {
    let state = &candidate.state;
    let stable = state.stable.as_ref().and_then(|stable| stable.release.as_ref());
    let is_idle = state.running.is_none() && state.queued.is_empty() && !state.needs_repair();
    is_idle && stable.is_some_and(|stable| stable.id == candidate.release.id)
}
