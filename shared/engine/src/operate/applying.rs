//! Apply and plan.

use super::answers::{ApplyAnswer, ApplyRequest, PlanAnswer, PlanRequest};
use super::{LONGEST_CALLER, Operations, Refusal, person};
use crate::ports::{Applied, Clock, Cloud, Doorbell, Ledger};
use futures::future::try_join_all;
use rollout::plan::{Plan, rehearse};
use rollout::target::ReleaseRef;
use rollout::{AppliedTarget, Command, Instruction, Overrides, Policy, TargetId};

impl<L: Ledger, C: Cloud, D: Doorbell, K: Clock> Operations<'_, L, C, D, K> {
    /// Makes a policy file the one that stands.
    ///
    /// # Errors
    /// [`Refusal`]: every problem of the file, or a ledger that did not answer.
    pub async fn apply(&self, request: &ApplyRequest, caller: &str) -> Result<ApplyAnswer, Refusal> {
        let policy = policy::parse(&request.text)?;
        let before = self.ledger.policy(&policy.application).await?;
        let caller: String = caller.chars().take(LONGEST_CALLER).collect();
        let version = self.ledger.apply(&policy, &request.text, self.clock.now(), &caller).await?;
        let unchanged = before.as_ref().is_some_and(|before| before.version == version);
        let changes = policy::changes(before.as_ref().map(|before| &before.policy), &policy);
        let warnings = match &before {
            Some(before) if !unchanged => self.left_behind(&before.policy, &policy).await?,
            _ => Vec::new(),
        };
        tracing::info!(application = %policy.application, policy.version = version, unchanged, caller, "a policy was applied");
        Ok(ApplyAnswer { application: policy.application.to_string(), version, unchanged, changes, warnings })
    }

    /// What runs on targets that went away.
    async fn left_behind(&self, before: &Policy, after: &Policy) -> Result<Vec<String>, Refusal> {
        let gone: Vec<TargetId> =
            before.targets().filter(|(target, _)| after.target(target).is_none()).map(|(target, _)| target).collect();
        let states = try_join_all(gone.iter().map(|target| self.ledger.state(target))).await?;
        let warnings = states.into_iter().flatten().filter_map(|state| {
            let running = state.running?;
            Some(format!(
                "{} is no target any more, and deployment #{} ({}) still runs there: it goes on with the policy that it started with",
                state.target, running.number, running.release.tag
            ))
        });
        Ok(warnings.collect())
    }

    /// Looks ahead. Nothing is written, and nothing is changed.
    ///
    /// # Errors
    /// [`Refusal`]: every problem of the file, an unknown target or release, or a ledger that did not answer.
    pub async fn plan(&self, request: &PlanRequest, caller: &str) -> Result<PlanAnswer, Refusal> {
        let wanted = request.text.as_deref().map(policy::parse).transpose().map_err(|problems| {
            let mut refusal = Refusal::from(problems);
            refusal.message = refusal.message.replace("; nothing was applied", "");
            refusal
        })?;
        let application = match (&wanted, &request.target) {
            (Some(policy), Some(target)) if policy.application != target.application => {
                let message =
                    format!("the file is of the application {}, and the target is {target}", policy.application);
                return Err(Refusal::request("other_application", message));
            }
            (Some(policy), _) => &policy.application,
            (None, Some(target)) => &target.application,
            (None, None) => {
                return Err(Refusal::request("nothing_to_plan", "write `text` (a policy file), `target`, or both"));
            }
        };
        let applied = match &wanted {
            Some(_) => self.ledger.policy(application).await?,
            None => Some(self.applied(application).await?),
        };
        let changes =
            wanted.as_ref().map(|policy| policy::changes(applied.as_ref().map(|applied| &applied.policy), policy));
        let deployment = match &request.target {
            None => None,
            Some(target) => {
                let at_hand = at_hand(target, wanted.as_ref(), applied.as_ref())?;
                let release = request.release.as_deref().unwrap_or("latest");
                Some(self.rehearse(target, &at_hand, release, caller).await?)
            }
        };
        Ok(PlanAnswer { version: applied.map(|applied| applied.version), changes, deployment })
    }

    async fn rehearse(
        &self,
        target: &TargetId,
        applied: &AppliedTarget,
        release: &str,
        caller: &str,
    ) -> Result<Plan, Refusal> {
        let release = self.release(&target.application, &target.service, release).await?;
        let state = self.state(target).await?;
        let now = self.clock.now();
        let instruction = Instruction::Deploy {
            release: release.id.clone(),
            image: release.image.clone(),
            tag: release.tag.clone(),
            overrides: Overrides::default(),
        };
        let command = Command::asked(target.clone(), instruction, person(caller), "", "plan", now);
        let release = ReleaseRef { id: release.id, image: release.image, tag: release.tag };
        let rehearsal = rehearse(&state, applied, &command, release, now);
        let snapshot = match rehearsal.look() {
            Some(look) => Some(self.cloud.observe(&look).await),
            None => None,
        };
        Ok(rehearsal.plan(snapshot.as_ref()))
    }
}

/// The target's policy in the file at hand, or in what is applied.
fn at_hand(target: &TargetId, wanted: Option<&Policy>, applied: Option<&Applied>) -> Result<AppliedTarget, Refusal> {
    let standing = applied.map_or(0, |applied| applied.version);
    let (version, policy) = match (wanted, applied) {
        (Some(policy), Some(applied)) if *policy == applied.policy => (standing, policy),
        (Some(policy), _) => (standing + 1, policy),
        (None, Some(applied)) => (standing, &applied.policy),
        (None, None) => return Err(Refusal::new(404, "unknown_application", "no policy is applied")),
    };
    policy.applied(target, version).ok_or_else(|| {
        Refusal::unknown(
            "unknown_target",
            format!("the policy has no target `{target}`"),
            policy.targets().map(|(id, _)| id.to_string()),
            "name one of those, or add it to switchback.yaml",
        )
    })
}
