//! Apply and plan.

use super::Operations;
use crate::command_service::{BATCH_SIZE, RequestLedger, iam_actor};
use crate::{ApplyRequest, ApplyResponse, MAX_CALLER_CHARS, PlanRequest, PlanResponse, Refusal};
use engine::gate_context;
use engine::ports::{Administration, AppliedPolicy, Clock, Cloud, WakeQueue};
use futures::future::try_join_all;
use rollout::plan::{Plan, dry_run};
use rollout::promotion::{GateContext, plan_id};
use rollout::release::ReleaseRef;
use rollout::text::clip;
use rollout::{AppliedTarget, Command, DeployOptions, Instruction, Overrides, Policy, Stage, TargetId, TargetState};

impl<L: Administration + RequestLedger, C: Cloud, D: WakeQueue, K: Clock> Operations<'_, L, C, D, K> {
    /// Applies a policy file.
    ///
    /// # Errors
    /// [`Refusal`]: every problem of the file, or a ledger that did not answer.
    pub async fn apply(&self, request: &ApplyRequest, caller: &str) -> Result<ApplyResponse, Refusal> {
        let policy = policy::parse(&request.text)?;
        let before = self.ledger.policy(&policy.application).await?;
        let caller = clip(caller, MAX_CALLER_CHARS);
        let version = self.ledger.apply(&policy, &request.text, self.clock.now(), caller).await?;
        let unchanged = before.as_ref().is_some_and(|before| before.version == version);
        let changes = policy::changes(before.as_ref().map(|before| &before.policy), &policy);
        let mut warnings = policy::warnings(&policy);
        if let Some(before) = before.as_ref().filter(|_| !unchanged) {
            warnings.extend(self.warnings(&before.policy, &policy).await?);
        }
        tracing::info!(application = %policy.application, policy.version = version, unchanged, caller, "a policy was applied");
        Ok(ApplyResponse { application: policy.application.to_string(), version, unchanged, changes, warnings })
    }

    /// Warnings about targets that were removed while deployments run or wait there, and about approvals that became void.
    async fn warnings(&self, before: &Policy, after: &Policy) -> Result<Vec<String>, Refusal> {
        let changed: Vec<TargetId> = before
            .targets()
            .filter(|(target, policy)| after.target(target) != Some(*policy))
            .map(|(target, _)| target)
            .collect();
        let mut warnings = Vec::new();
        for some in changed.chunks(BATCH_SIZE) {
            let states = try_join_all(some.iter().map(|target| self.ledger.state(target))).await?;
            warnings.extend(states.into_iter().flatten().filter_map(|state| warning(&state, after)));
        }
        Ok(warnings)
    }

    /// Previews changes. Nothing is written or changed.
    ///
    /// # Errors
    /// [`Refusal`]: every problem of the file, an unknown target or release, or a ledger that did not answer.
    pub async fn plan(&self, request: &PlanRequest, caller: &str) -> Result<PlanResponse, Refusal> {
        let wanted = request.text.as_deref().map(policy::parse).transpose().map_err(Refusal::for_unapplied_policy)?;
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
            None => Some(self.command_service().applied(application).await?),
        };
        let changes =
            wanted.as_ref().map(|policy| policy::changes(applied.as_ref().map(|applied| &applied.policy), policy));
        let deployment = match &request.target {
            None => None,
            Some(target) => {
                let planned_target = planned_target(target, wanted.as_ref(), applied.as_ref())?;
                Some(self.dry_run(target, &planned_target, request.release.as_deref(), caller).await?)
            }
        };
        Ok(PlanResponse { version: applied.map(|applied| applied.version), changes, deployment })
    }

    async fn dry_run(
        &self,
        target: &TargetId,
        applied: &AppliedTarget,
        release: Option<&str>,
        caller: &str,
    ) -> Result<Plan, Refusal> {
        let command_service = self.command_service();
        let gate_context = gate_context::load(self.ledger, target, applied, &DeployOptions::default()).await;
        let release = match release {
            Some(wanted) => command_service.release(&target.application, &target.service, wanted).await?,
            None => match command_service.newest_verified(target, applied, &gate_context).await {
                Ok(release) => release,
                // Nothing can be promoted: the preview shows the deployment of the latest release instead.
                Err(refusal) if matches!(refusal.code.as_str(), "nothing_verified" | "nothing_before") => {
                    command_service.release(&target.application, &target.service, "latest").await?
                }
                Err(refusal) => return Err(refusal),
            },
        };
        let images = gate_context::images(self.cloud, [(&release.id.digest, release.image.as_str())].into()).await;
        let state = command_service.state(target).await?;
        let template = gate_context::template(self.cloud, &applied.policy, &state).await;
        let gate_context = GateContext { images, template, ..gate_context };
        let now = self.clock.now();
        let instruction = Instruction::Deploy {
            release: release.id.clone(),
            image: release.image.clone(),
            tag: release.tag.clone(),
            overrides: Overrides::default(),
            options: DeployOptions { pushed_at: Some(release.pushed_at), ..DeployOptions::default() },
        };
        let command = Command::requested(target.clone(), instruction, iam_actor(caller), "", "plan", now);
        let release =
            ReleaseRef { id: release.id, image: release.image, tag: release.tag, pushed_at: Some(release.pushed_at) };
        let rehearsal = dry_run(&state, applied, &command, release, &gate_context, now);
        let snapshot = match rehearsal.observation() {
            Some(observation) => Some(self.cloud.observe(&observation).await),
            None => None,
        };
        Ok(rehearsal.plan(snapshot.as_ref()))
    }
}

/// The warning about a target that applying `after` affects.
fn warning(state: &TargetState, after: &Policy) -> Option<String> {
    let running = state.running.as_ref()?;
    let (target, number, tag) = (&state.target, running.number, &running.release.tag);
    let waits = running.stage() == Stage::Gated;
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
    let gates = running.gates.as_ref().filter(|gates| waits && gates.requested_at.is_some())?;
    let replaces = state.stable.as_ref().and_then(|stable| stable.release.as_ref()).map(|release| &release.id.digest);
    let (release, options) = (&running.release.id, &running.options);
    if plan_id(target, release, options, &running.overrides, &applied, replaces) == gates.plan {
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

/// The target's policy in the given file, or in the applied policy.
fn planned_target(
    target: &TargetId,
    wanted: Option<&Policy>,
    applied: Option<&AppliedPolicy>,
) -> Result<AppliedTarget, Refusal> {
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
