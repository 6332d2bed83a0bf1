//! Turns one request into commands: which releases, by which lane, once per run.

use super::caller::{NotAllowed, UnverifiedClaims, VerifiedCaller, label};
use super::{PromotionRequest, PromotionResponse, Workflows, not_allowed};
use crate::command_service::{RequestLedger, validate_reason, validate_required_reason};
use crate::{CommandResponse, DeployRequest, HotfixRequest, MAX_REASON_CHARS, PromoteRequest, Refusal, TrainRequest};
use engine::gate_context;
use engine::ports::{AppliedPolicy, Clock, WakeQueue};
use futures::future::{try_join, try_join_all};
use rollout::entry::Permission;
use rollout::target::TargetState;
use rollout::text::clip;
use rollout::{Actor, DeployOptions, ImageDigest, Instruction, Lane, Name, TargetId};
use std::collections::BTreeMap;

/// How many deployments are searched for what an earlier attempt of the same run requested.
const MAX_HISTORY: usize = 50;
/// The name of the newest push.
const LATEST: &str = "latest";

/// A target, and the release requested for it.
struct Member {
    target: TargetId,
    digest: ImageDigest,
    /// The target already runs that release, and no other is under way.
    already_deployed: bool,
}

impl<L: RequestLedger, D: WakeQueue, K: Clock> Workflows<'_, L, D, K> {
    /// Submits a workflow's request if it is granted: all of it or nothing.
    ///
    /// # Errors
    /// [`Refusal`]: not allowed, whatever the reason; for a caller with the grant, also refusals of the command service.
    pub async fn ask(
        &self,
        request: &PromotionRequest,
        claims: &UnverifiedClaims,
    ) -> Result<PromotionResponse, Refusal> {
        let PromotionRequest { kind, application, environment, .. } = request;
        let Some(applied) = self.ledger.policy(application).await? else {
            return Err(self.deny(claims, *kind, None, &NotAllowed::NoTarget).await);
        };
        let services: Vec<Name> = if request.services.is_empty() {
            let rules = applied.policy.environments.get(environment);
            rules.into_iter().flat_map(|rules| rules.targets.keys().cloned()).collect()
        } else {
            request.services.keys().cloned().collect()
        };
        let caller = match claims.verify_grants(&applied.policy, *kind, &services, environment, self.clock.now()) {
            Ok(caller) => caller,
            Err((why, service)) => {
                let target = service.map(|service| TargetId::new(application.clone(), service, environment.clone()));
                // A nonexistent target has no journal.
                let target = target.filter(|target| applied.policy.target(target).is_some());
                return Err(self.deny(claims, *kind, target.as_ref(), &why).await);
            }
        };
        let reason = reason_with_provenance(request, &caller)?;
        let members = services.iter().map(|service| {
            let wanted = request.services.get(service).and_then(Option::as_deref);
            self.member(request, &applied, service, wanted, &caller)
        });
        let members = try_join_all(members).await?;
        let missing: Vec<&Member> = members.iter().filter(|member| !member.already_deployed).collect();
        match (missing.as_slice(), members.as_slice()) {
            ([], there) => {
                let already_there = there.iter().map(|member| member.target.clone()).collect();
                Ok(PromotionResponse { train: None, asked: Vec::new(), already_there })
            }
            ([one], [_]) => {
                let asked = vec![self.request_one(request, one, reason, &caller).await?];
                Ok(PromotionResponse { train: None, asked, already_there: Vec::new() })
            }
            _ => self.request_train(request, &members, reason, &caller).await,
        }
    }

    async fn request_one(
        &self,
        request: &PromotionRequest,
        member: &Member,
        reason: String,
        caller: &VerifiedCaller<'_>,
    ) -> Result<CommandResponse, Refusal> {
        let (command_service, actor, target) = (self.command_service(), caller.actor(), &member.target);
        let (release, forward_only) = (member.digest.to_string(), request.forward_only);
        let key = Some(caller.key(request.kind, &request.environment, [(&target.service, &member.digest)]));
        match request.kind {
            Permission::Promote => {
                let asked = PromoteRequest { release: Some(release), reason, forward_only, request: key };
                command_service.promote(target, &asked, &actor).await
            }
            Permission::Deploy => {
                let asked = DeployRequest { release, reason, forward_only, request: key, ..DeployRequest::default() };
                command_service.deploy(target, &asked, &actor).await
            }
            Permission::Hotfix => {
                let asked = HotfixRequest { release, reason, forward_only, request: key };
                command_service.hotfix(target, &asked, &actor).await
            }
        }
    }

    async fn request_train(
        &self,
        request: &PromotionRequest,
        members: &[Member],
        reason: String,
        caller: &VerifiedCaller<'_>,
    ) -> Result<PromotionResponse, Refusal> {
        let digests: BTreeMap<Name, ImageDigest> =
            members.iter().map(|member| (member.target.service.clone(), member.digest.clone())).collect();
        let lane = if request.kind == Permission::Hotfix { Lane::Hotfix } else { Lane::Asked };
        let asked = TrainRequest {
            application: request.application.clone(),
            environment: request.environment.clone(),
            request: Some(caller.key(request.kind, &request.environment, &digests)),
            releases: digests.into_iter().map(|(service, digest)| (service, Some(digest.to_string()))).collect(),
            reason,
            forward_only: request.forward_only,
        };
        let answer = self.command_service().train(&asked, &lane, &caller.actor()).await?;
        Ok(PromotionResponse { train: Some(answer.train), asked: answer.commands, already_there: answer.already_there })
    }

    /// Loads one target and finds the release that is meant.
    async fn member(
        &self,
        request: &PromotionRequest,
        applied: &AppliedPolicy,
        service: &Name,
        wanted: Option<&str>,
        caller: &VerifiedCaller<'_>,
    ) -> Result<Member, Refusal> {
        let target = TargetId::new(request.application.clone(), service.clone(), request.environment.clone());
        let command_service = self.command_service();
        let of_target = applied.policy.applied(&target, applied.version).ok_or_else(|| {
            // The caller has a grant for this service there, so this reveals nothing beyond it.
            let message =
                format!("version {} of the policy of {} has no target `{target}`", applied.version, target.application);
            Refusal::new(404, "unknown_target", message)
        })?;
        if request.kind == Permission::Promote && of_target.entry.rules.after.is_none() {
            let message = format!(
                "no environment comes before {}, so nothing is promoted to {target}: deploy a release there by its name",
                target.environment
            );
            return Err(Refusal::conflict("nothing_before", message));
        }
        let state = command_service.state(&target).await?;
        let digest = match (wanted, request.kind) {
            (Some(wanted), _) if wanted != LATEST => {
                command_service.release(&target.application, service, wanted).await?.id.digest
            }
            (None, Permission::Deploy | Permission::Hotfix) => {
                let message = format!("`services` names no release for {service}: only a promotion finds it by itself");
                return Err(Refusal::request("release_missing", message));
            }
            // The newest release may have changed since the first attempt of this run: the first attempt's release counts.
            (wanted, kind) => match (self.previous_request(&state, kind, &caller.actor()).await?, wanted) {
                (Some(digest), _) => digest,
                (None, Some(latest)) => command_service.release(&target.application, service, latest).await?.id.digest,
                (None, None) => {
                    let gate_context =
                        gate_context::load(self.ledger, &target, &of_target, &DeployOptions::default()).await;
                    command_service.newest_verified(&target, &of_target, &gate_context).await?.id.digest
                }
            },
        };
        let stable = state.stable.as_ref().and_then(|stable| stable.release.as_ref());
        let already_deployed = state.running.is_none()
            && state.queued.is_empty()
            && !state.needs_repair()
            && stable.is_some_and(|stable| stable.id.digest == digest)
            && self.ledger.commands(&target).await?.is_empty();
        Ok(Member { target, digest, already_deployed })
    }

    /// The release that an earlier attempt of the same run requested here.
    async fn previous_request(
        &self,
        state: &TargetState,
        permission: Permission,
        actor: &Actor,
    ) -> Result<Option<ImageDigest>, Refusal> {
        let hotfix = permission == Permission::Hotfix;
        // A re-run may have been started by a different account.
        let ours = |known: &Actor| match (known, actor) {
            (Actor::Workflow { name: known, .. }, Actor::Workflow { name, .. }) => known == name,
            _ => false,
        };
        let (commands, history) =
            try_join(self.ledger.commands(&state.target), self.ledger.history(&state.target, MAX_HISTORY)).await?;
        let waiting = commands.iter().rev().filter(|command| ours(&command.actor)).find_map(|command| {
            match &command.instruction {
                Instruction::Deploy { release, options, .. } if (options.lane == Lane::Hotfix) == hotfix => {
                    Some(&release.digest)
                }
                _ => None,
            }
        });
        let queued = || {
            let fits = state
                .queued
                .iter()
                .rev()
                .find(|queued| ours(&queued.actor) && (queued.options.lane == Lane::Hotfix) == hotfix);
            fits.map(|queued| &queued.release.id.digest)
        };
        let begun = || {
            let fits = history.iter().find(|record| ours(&record.actor) && record.hotfix == hotfix);
            fits.map(|record| &record.release.id.digest)
        };
        Ok(waiting.or_else(queued).or_else(begun).cloned())
    }

    /// Logs and journals the reason for operators; the workflow learns nothing.
    pub(super) async fn deny(
        &self,
        claims: &UnverifiedClaims,
        permission: Permission,
        target: Option<&TargetId>,
        why: &NotAllowed,
    ) -> Refusal {
        tracing::warn!(
            asked = label(permission),
            caller = claims.summary(),
            target_id = target.map(ToString::to_string),
            "not allowed: {why}"
        );
        if let Some(target) = target {
            let (actor, reason) = claims.journal_entry_of(why);
            self.command_service()
                .note_refusal_with_key("promotions", target, label(permission), &actor, &reason, &why.refusal_key())
                .await;
        }
        not_allowed()
    }
}

/// The requester's reason, and the run's claims from GitHub's token.
fn reason_with_provenance(request: &PromotionRequest, caller: &VerifiedCaller<'_>) -> Result<String, Refusal> {
    let said = match request.kind {
        Permission::Hotfix => validate_required_reason(&request.reason, "a hotfix")?,
        _ => validate_reason(&request.reason)?,
    };
    let built = request.provenance.as_ref().map(|provenance| {
        let parts = [
            ("commit", &provenance.commit),
            ("ref", &provenance.git_ref),
            ("run", &provenance.run),
            ("by", &provenance.actor),
        ];
        let parts = parts.iter().filter_map(|(what, part)| part.as_deref().map(|part| format!("{what} {part}")));
        parts.collect::<Vec<_>>().join(", ")
    });
    let built = match built.as_deref().map(validate_reason).transpose()? {
        Some(built) if !built.is_empty() => format!("; built from {built}"),
        _ => String::new(),
    };
    // The verified part is kept in full: approvers read it beside the requester's text, however long that is.
    let run_summary = caller.run_summary();
    let room = MAX_REASON_CHARS.saturating_sub(run_summary.chars().count() + " ()".len());
    let said = clip(said, room);
    let built = clip(&built, room - said.chars().count());
    Ok(if said.is_empty() { format!("{run_summary}{built}") } else { format!("{said} ({run_summary}{built})") })
}
