//! One request to commands: which releases, by which lane, asked once a run.

use super::caller::{NotAllowed, UnverifiedClaims, VerifiedCaller, word};
use super::{PromotionAnswer, PromotionRequest, Workflows, not_allowed};
use crate::desk::{
    CommandAnswer, DeployRequest, HotfixRequest, LONGEST_REASON, PromoteRequest, Refusal, TrainRequest, needed_reason,
    reason,
};
use crate::ports::{Applied, Clock, Ledger, WakeQueue};
use crate::surroundings;
use futures::future::{try_join, try_join_all};
use rollout::entry::Deed;
use rollout::target::TargetState;
use rollout::{Actor, ImageDigest, Instruction, Lane, Name, TargetId, Terms};
use std::collections::BTreeMap;

/// How many deployments are looked through for what an earlier try of the same run asked for.
const LOOKED_BACK: usize = 50;
/// What stands for the newest push.
const LATEST: &str = "latest";

/// A target, and what it is to run.
struct Member {
    target: TargetId,
    digest: ImageDigest,
    /// It runs that already, and nothing else is on its way.
    is_there: bool,
}

impl<L: Ledger, D: WakeQueue, K: Clock> Workflows<'_, L, D, K> {
    /// Asks for what a workflow asks, if it is granted: for all of it, or for nothing.
    ///
    /// # Errors
    /// [`Refusal`]: not allowed, for whatever reason; for a caller with the grant also what the desk refuses.
    pub async fn ask(&self, request: &PromotionRequest, claims: &UnverifiedClaims) -> Result<PromotionAnswer, Refusal> {
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
        let caller = match claims.verified(&applied.policy, *kind, &services, environment, self.clock.now()) {
            Ok(caller) => caller,
            Err((why, service)) => {
                let target = service.map(|service| TargetId::new(application.clone(), service, environment.clone()));
                // What is not there has no journal.
                let target = target.filter(|target| applied.policy.target(target).is_some());
                return Err(self.deny(claims, *kind, target.as_ref(), &why).await);
            }
        };
        let reason = in_words(request, &caller)?;
        let members = services.iter().map(|service| {
            let wanted = request.services.get(service).and_then(Option::as_deref);
            self.member(request, &applied, service, wanted, &caller)
        });
        let members = try_join_all(members).await?;
        let missing: Vec<&Member> = members.iter().filter(|member| !member.is_there).collect();
        match (missing.as_slice(), members.as_slice()) {
            ([], there) => {
                let already_there = there.iter().map(|member| member.target.clone()).collect();
                Ok(PromotionAnswer { train: None, asked: Vec::new(), already_there })
            }
            ([one], [_]) => {
                let asked = vec![self.ask_one(request, one, reason, &caller).await?];
                Ok(PromotionAnswer { train: None, asked, already_there: Vec::new() })
            }
            _ => self.ask_train(request, &members, reason, &caller).await,
        }
    }

    async fn ask_one(
        &self,
        request: &PromotionRequest,
        member: &Member,
        reason: String,
        caller: &VerifiedCaller<'_>,
    ) -> Result<CommandAnswer, Refusal> {
        let (desk, actor, target) = (self.desk(), caller.actor(), &member.target);
        let (release, forward_only) = (member.digest.to_string(), request.forward_only);
        let key = Some(caller.key(request.kind, &request.environment, [(&target.service, &member.digest)]));
        match request.kind {
            Deed::Promote => {
                let asked = PromoteRequest { release: Some(release), reason, forward_only, request: key };
                desk.promote(target, &asked, &actor).await
            }
            Deed::Deploy => {
                let asked = DeployRequest { release, reason, forward_only, request: key, ..DeployRequest::default() };
                desk.deploy(target, &asked, &actor).await
            }
            Deed::Hotfix => {
                let asked = HotfixRequest { release, reason, forward_only, request: key };
                desk.hotfix(target, &asked, &actor).await
            }
        }
    }

    async fn ask_train(
        &self,
        request: &PromotionRequest,
        members: &[Member],
        reason: String,
        caller: &VerifiedCaller<'_>,
    ) -> Result<PromotionAnswer, Refusal> {
        let digests: BTreeMap<Name, ImageDigest> =
            members.iter().map(|member| (member.target.service.clone(), member.digest.clone())).collect();
        let lane = if request.kind == Deed::Hotfix { Lane::Hotfix } else { Lane::Asked };
        let asked = TrainRequest {
            application: request.application.clone(),
            environment: request.environment.clone(),
            request: Some(caller.key(request.kind, &request.environment, &digests)),
            releases: digests.into_iter().map(|(service, digest)| (service, Some(digest.to_string()))).collect(),
            reason,
            forward_only: request.forward_only,
        };
        let answer = self.desk().train(&asked, &lane, &caller.actor()).await?;
        Ok(PromotionAnswer { train: Some(answer.train), asked: answer.commands, already_there: answer.already_there })
    }

    /// Looks at one target, and finds the release that is meant.
    async fn member(
        &self,
        request: &PromotionRequest,
        applied: &Applied,
        service: &Name,
        wanted: Option<&str>,
        caller: &VerifiedCaller<'_>,
    ) -> Result<Member, Refusal> {
        let target = TargetId::new(request.application.clone(), service.clone(), request.environment.clone());
        let desk = self.desk();
        let of_target = applied.policy.applied(&target, applied.version).ok_or_else(|| {
            // The caller has a grant for this service there, so this tells them nothing that they may not know.
            let message =
                format!("version {} of the policy of {} has no target `{target}`", applied.version, target.application);
            Refusal::new(404, "unknown_target", message)
        })?;
        if request.kind == Deed::Promote && of_target.entry.rules.after.is_none() {
            let message = format!(
                "no environment comes before {}, so nothing is promoted to {target}: deploy a release there by its name",
                target.environment
            );
            return Err(Refusal::conflict("nothing_before", message));
        }
        let state = desk.state(&target).await?;
        let digest = match (wanted, request.kind) {
            (Some(wanted), _) if wanted != LATEST => {
                desk.release(&target.application, service, wanted).await?.id.digest
            }
            (None, Deed::Deploy | Deed::Hotfix) => {
                let message = format!("`services` names no release for {service}: only a promotion finds it by itself");
                return Err(Refusal::request("release_missing", message));
            }
            // What is the newest may have changed since the first try of this run: what it asked for then is what it asks for.
            (wanted, kind) => match (self.asked_before(&state, kind, &caller.actor()).await?, wanted) {
                (Some(digest), _) => digest,
                (None, Some(latest)) => desk.release(&target.application, service, latest).await?.id.digest,
                (None, None) => {
                    let around = surroundings::load(self.ledger, &target, &of_target, &Terms::default()).await;
                    desk.newest_verified(&target, &of_target, &around).await?.id.digest
                }
            },
        };
        let stable = state.stable.as_ref().and_then(|stable| stable.release.as_ref());
        let is_there = state.running.is_none()
            && state.queued.is_empty()
            && state.drift().is_none()
            && stable.is_some_and(|stable| stable.id.digest == digest)
            && self.ledger.commands(&target).await?.is_empty();
        Ok(Member { target, digest, is_there })
    }

    /// The release that an earlier try of the same run asked for here.
    async fn asked_before(
        &self,
        state: &TargetState,
        deed: Deed,
        actor: &Actor,
    ) -> Result<Option<ImageDigest>, Refusal> {
        let hotfix = deed == Deed::Hotfix;
        // Whoever starts a run again may be somebody else.
        let ours = |known: &Actor| match (known, actor) {
            (Actor::Workflow { name: known, .. }, Actor::Workflow { name, .. }) => known == name,
            _ => false,
        };
        let (commands, history) =
            try_join(self.ledger.commands(&state.target), self.ledger.history(&state.target, LOOKED_BACK)).await?;
        let waiting = commands.iter().rev().filter(|command| ours(&command.actor)).find_map(|command| {
            match &command.instruction {
                Instruction::Deploy { release, terms, .. } if (terms.lane == Lane::Hotfix) == hotfix => {
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
                .find(|queued| ours(&queued.actor) && (queued.terms.lane == Lane::Hotfix) == hotfix);
            fits.map(|queued| &queued.release.id.digest)
        };
        let begun = || {
            let fits = history.iter().find(|record| ours(&record.actor) && record.hotfix == hotfix);
            fits.map(|record| &record.release.id.digest)
        };
        Ok(waiting.or_else(queued).or_else(begun).cloned())
    }

    /// Tells the operators why, and the workflow nothing.
    pub(super) async fn deny(
        &self,
        claims: &UnverifiedClaims,
        deed: Deed,
        target: Option<&TargetId>,
        why: &NotAllowed,
    ) -> Refusal {
        tracing::warn!(
            asked = word(deed),
            caller = claims.told(),
            target_id = target.map(ToString::to_string),
            "not allowed: {why}"
        );
        if let Some(target) = target {
            let (actor, reason) = claims.refused_as(why);
            self.desk().note_refusal_once("promotions", target, word(deed), &actor, &reason, &why.about()).await;
        }
        not_allowed()
    }
}

/// The asker's words, and what GitHub's token says of the run.
fn in_words(request: &PromotionRequest, caller: &VerifiedCaller<'_>) -> Result<String, Refusal> {
    let said = match request.kind {
        Deed::Hotfix => needed_reason(&request.reason, "a hotfix")?,
        _ => reason(&request.reason)?,
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
    let built = match built.as_deref().map(reason).transpose()? {
        Some(built) if !built.is_empty() => format!("; built from {built}"),
        _ => String::new(),
    };
    // What is proven is kept whole: whoever is to agree reads it beside what the asker says, however much that is.
    let making = caller.making();
    let room = LONGEST_REASON.saturating_sub(making.chars().count() + " ()".len());
    let said: String = said.chars().take(room).collect();
    let built: String = built.chars().take(room - said.chars().count()).collect();
    Ok(if said.is_empty() { format!("{making}{built}") } else { format!("{said} ({making}{built})") })
}
