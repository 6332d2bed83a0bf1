//! Apply and plan.

use super::{ApplyAnswer, ApplyRequest, LONGEST_CALLER, Operations, PlanAnswer, PlanRequest, Refusal};
use crate::desk::{AT_A_TIME, person};
use crate::ports::{Applied, Clock, Cloud, Ledger, WakeQueue};
use crate::surroundings;
use futures::future::try_join_all;
use rollout::plan::{Plan, rehearse};
use rollout::promotion::{Surroundings, plan_id};
use rollout::target::ReleaseRef;
use rollout::{AppliedTarget, Command, Instruction, Overrides, Policy, Stage, TargetId, TargetState, Terms};

impl<L: Ledger, C: Cloud, D: WakeQueue, K: Clock> Operations<'_, L, C, D, K> {
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
        let mut warnings = policy::warnings(&policy);
        if let Some(before) = before.as_ref().filter(|_| !unchanged) {
            warnings.extend(self.warnings(&before.policy, &policy).await?);
        }
        tracing::info!(application = %policy.application, policy.version = version, unchanged, caller, "a policy was applied");
        Ok(ApplyAnswer { application: policy.application.to_string(), version, unchanged, changes, warnings })
    }

    /// What runs or waits on targets that went away, and whose approvals are void.
    async fn warnings(&self, before: &Policy, after: &Policy) -> Result<Vec<String>, Refusal> {
        let changed: Vec<TargetId> = before
            .targets()
            .filter(|(target, policy)| after.target(target) != Some(*policy))
            .map(|(target, _)| target)
            .collect();
        let mut warnings = Vec::new();
        for some in changed.chunks(AT_A_TIME) {
            let states = try_join_all(some.iter().map(|target| self.ledger.state(target))).await?;
            warnings.extend(states.into_iter().flatten().filter_map(|state| warning(&state, after)));
        }
        Ok(warnings)
    }

    /// Looks ahead. Nothing is written, and nothing is changed.
    ///
    /// # Errors
    /// [`Refusal`]: every problem of the file, an unknown target or release, or a ledger that did not answer.
    pub async fn plan(&self, request: &PlanRequest, caller: &str) -> Result<PlanAnswer, Refusal> {
        let wanted = request.text.as_deref().map(policy::parse).transpose().map_err(Refusal::of_a_file_only_read)?;
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
            None => Some(self.desk().applied(application).await?),
        };
        let changes =
            wanted.as_ref().map(|policy| policy::changes(applied.as_ref().map(|applied| &applied.policy), policy));
        let deployment = match &request.target {
            None => None,
            Some(target) => {
                let at_hand = at_hand(target, wanted.as_ref(), applied.as_ref())?;
                Some(self.rehearse(target, &at_hand, request.release.as_deref(), caller).await?)
            }
        };
        Ok(PlanAnswer { version: applied.map(|applied| applied.version), changes, deployment })
    }

    async fn rehearse(
        &self,
        target: &TargetId,
        applied: &AppliedTarget,
        release: Option<&str>,
        caller: &str,
    ) -> Result<Plan, Refusal> {
        let desk = self.desk();
        let around = surroundings::load(self.ledger, target, applied, &Terms::default()).await;
        let release = match release {
            Some(wanted) => desk.release(&target.application, &target.service, wanted).await?,
            None => match desk.newest_verified(target, applied, &around).await {
                Ok(release) => release,
                // Nothing that could be promoted: what would become of the latest is the plan then.
                Err(refusal) if refusal.status == 409 => {
                    desk.release(&target.application, &target.service, "latest").await?
                }
                Err(refusal) => return Err(refusal),
            },
        };
        let images = surroundings::images(self.cloud, [(&release.id.digest, release.image.as_str())].into()).await;
        let around = Surroundings { images, ..around };
        let state = desk.state(target).await?;
        let now = self.clock.now();
        let instruction = Instruction::Deploy {
            release: release.id.clone(),
            image: release.image.clone(),
            tag: release.tag.clone(),
            overrides: Overrides::default(),
            terms: Terms { pushed_at: Some(release.pushed_at), ..Terms::default() },
        };
        let command = Command::asked(target.clone(), instruction, person(caller), "", "plan", now);
        let release =
            ReleaseRef { id: release.id, image: release.image, tag: release.tag, pushed_at: Some(release.pushed_at) };
        let rehearsal = rehearse(&state, applied, &command, release, &around, now);
        let snapshot = match rehearsal.look() {
            Some(look) => Some(self.cloud.observe(&look).await),
            None => None,
        };
        Ok(rehearsal.plan(snapshot.as_ref()))
    }
}

/// What whoever has applied `after` should know of a target that it changes.
fn warning(state: &TargetState, after: &Policy) -> Option<String> {
    let running = state.running.as_ref()?;
    let (target, number, tag) = (&state.target, running.number, &running.release.tag);
    let waits = matches!(running.stage, Stage::Gated { .. });
    let Some(applied) = after.applied(target, 0) else {
        return Some(if waits {
            format!(
                "{target} is no target any more, and deployment #{number} ({tag}) waits at its gates there: it ends, and nothing of it begins"
            )
        } else {
            format!(
                "{target} is no target any more, and deployment #{number} ({tag}) still runs there: it goes on with the policy that it started with"
            )
        });
    };
    let gates = running.gates.as_ref().filter(|gates| waits && gates.asked_at.is_some())?;
    let replaces = state.stable.as_ref().and_then(|stable| stable.release.as_ref()).map(|release| &release.id.digest);
    let (release, terms) = (&running.release.id, &running.terms);
    if plan_id(target, release, terms, &running.overrides, &applied, replaces) == gates.plan {
        return None;
    }
    let said = match gates.votes.len() {
        0 => String::new(),
        1 => ", and the approval that was given is void".to_owned(),
        count => format!(", and the {count} approvals that were given are void"),
    };
    Some(format!(
        "deployment #{number} ({tag}) waits for approval on {target}, and what it would do has changed: people are asked anew{said}"
    ))
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
