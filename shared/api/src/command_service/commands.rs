//! Deploy, promote, hotfix, abort, rollback, override, resume: each writes a command and sends a wake.

use super::releases::{describe_verified, no_previous_environment};
use super::{ApprovalLedger, RequestLedger, authorize_request_key, validate_reason, validate_required_reason};
use crate::{
    AbortRequest, CommandResponse, DeployRequest, HotfixRequest, OverrideRequest, PromoteRequest, ResumeRequest,
    RollbackRequest,
};
use crate::{CommandService, MAX_REASON_CHARS, Refusal};
use engine::ports::{Clock, Wake, WakeQueue};
use engine::{gate_context, log_context};
use rollout::command_checks;
use rollout::promotion::{GateContext, never_opens};
use rollout::target::TargetState;
use rollout::text::clip;
use rollout::{
    Actor, AppliedTarget, Command, CommandId, CommandRefusal, DeployOptions, Gate, Instruction, Lane, Overrides,
    Release, TargetId, Timestamp,
};
use sha2::{Digest as _, Sha256};
use tracing::Instrument as _;

/// How many deployments are searched for the one that an earlier identical request created.
const MAX_HISTORY: usize = 20;

/// A command to write: who asks for what, and under which key.
#[derive(Debug)]
pub struct CommandSubmission<'r> {
    /// The instruction of the command.
    pub instruction: Instruction,
    /// The requester, as authenticated by the entry point.
    pub actor: &'r Actor,
    /// Free text from the requester; see [`validate_reason`].
    pub reason: &'r str,
    /// The requester's own key: requests with the same key count as one. `None`: every request is a new one.
    pub request_key: Option<&'r str>,
    /// The release to deploy, for a deploy.
    pub release: Option<Release>,
}

/// A deployment of a release to a target, before it is requested.
#[derive(Debug)]
pub(super) struct ProposedDeployment {
    pub(super) target: TargetId,
    pub(super) applied: AppliedTarget,
    pub(super) state: TargetState,
    pub(super) release: Release,
    pub(super) overrides: Overrides,
    pub(super) options: DeployOptions,
}

impl ProposedDeployment {
    pub(super) fn instruction(&self) -> Instruction {
        Instruction::Deploy {
            release: self.release.id.clone(),
            image: self.release.image.clone(),
            tag: self.release.tag.clone(),
            overrides: self.overrides.clone(),
            options: self.options.clone(),
        }
    }

    /// Refuses the request if a gate will certainly never open.
    pub(super) fn gate_check(
        &self,
        gate_context: &GateContext,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<(), CommandRefusal> {
        let Self { target, applied, state, release, options, .. } = self;
        let never = never_opens(state, &release.id, options, actor, applied, Some(gate_context), now);
        let Some((gate, reason)) = never else { return Ok(()) };
        let verified_in = match (&applied.entry.rules.after, gate) {
            (Some(after), Gate::After) => format!(" ({})", describe_verified(target, after, gate_context)),
            _ => String::new(),
        };
        Err(CommandRefusal::Gate { gate, tag: release.tag.clone(), reason: format!("{reason}{verified_in}") })
    }
}

/// Who requests a deployment of a release, where and why.
struct ReleaseRequest<'r> {
    target: &'r TargetId,
    /// The request as one word, for the journal entry about a refusal.
    what: &'static str,
    reason: &'r str,
    request_key: Option<&'r str>,
    actor: &'r Actor,
}

impl<L: RequestLedger, D: WakeQueue, K: Clock> CommandService<'_, L, D, K> {
    /// Requests deployment of a release to a target.
    ///
    /// # Errors
    /// [`Refusal`]: an unknown target, release or alarm, an override without a reason, a release that the upstream environments
    /// have not verified, or a ledger that did not answer.
    pub async fn deploy(
        &self,
        target: &TargetId,
        request: &DeployRequest,
        actor: &Actor,
    ) -> Result<CommandResponse, Refusal> {
        let reason = validate_reason(&request.reason)?;
        let applied = self.applied_target(target).await?;
        for alarm in &request.despite_alarms {
            if !applied.policy.alarms.iter().any(|known| &known.name == alarm) {
                let known = applied.policy.alarms.iter().map(|alarm| alarm.name.clone());
                let what = format!("version {} of the policy of {target} has no alarm `{alarm}`", applied.version);
                return Err(Refusal::unknown("unknown_alarm", what, known, "name one of those, or none"));
            }
        }
        if !request.despite_alarms.is_empty() {
            validate_required_reason(reason, "deploying despite a firing alarm")?;
        }
        if request.configuration && applied.policy.template.family().is_none() {
            let why = format!("version {} of the policy of {target} names no family of templates", applied.version);
            let message =
                format!("{why}: a version is the live one with another image. Write `template: {{family: NAME}}`");
            return Err(Refusal::request("no_template", message));
        }
        if request.first == Some(0) {
            return Err(Refusal::request("no_tasks", "a first deployment starts at least 1 task: `first` is 0"));
        }
        let release = match request.release.as_str() {
            "" if request.configuration => self.stable_release(target).await?,
            wanted => self.release(&target.application, &target.service, wanted).await?,
        };
        let options = DeployOptions {
            configuration: request.configuration,
            first: request.first,
            ..options(Lane::Asked, request.forward_only, &release)
        };
        let overrides = Overrides { firing_alarms: request.despite_alarms.clone() };
        let gate_context = gate_context::load(self.ledger, target, &applied, &options).await;
        let request = ReleaseRequest { target, what: "deploy", reason, request_key: request.request.as_deref(), actor };
        self.request_release(request, applied, release, overrides, options, &gate_context).await
    }

    /// The release that is stable at a target.
    async fn stable_release(&self, target: &TargetId) -> Result<Release, Refusal> {
        let stable = self.state(target).await?.stable.and_then(|stable| stable.release);
        match stable {
            Some(stable) => self.release(&target.application, &target.service, stable.id.digest.as_str()).await,
            None => {
                let message = format!("{target} has no stable release that Switchback has deployed: name a release");
                Err(Refusal::request("nothing_stable", message))
            }
        }
    }

    /// Requests deployment of a release that the upstream environments have verified; without a name, the newest of them.
    ///
    /// # Errors
    /// [`Refusal`]: no upstream environment, nothing or not this release verified there, an unknown target or release, or a
    /// ledger that did not answer.
    pub async fn promote(
        &self,
        target: &TargetId,
        request: &PromoteRequest,
        actor: &Actor,
    ) -> Result<CommandResponse, Refusal> {
        let reason = validate_reason(&request.reason)?;
        let applied = self.applied_target(target).await?;
        if applied.entry.rules.after.is_none() {
            return Err(no_previous_environment(target));
        }
        let gate_context = gate_context::load(self.ledger, target, &applied, &DeployOptions::default()).await;
        let release = match &request.release {
            Some(wanted) => self.release(&target.application, &target.service, wanted).await?,
            None => self.newest_verified(target, &applied, &gate_context).await?,
        };
        let options = options(Lane::Asked, request.forward_only, &release);
        let overrides = Overrides::default();
        let request =
            ReleaseRequest { target, what: "promote", reason, request_key: request.request.as_deref(), actor };
        self.request_release(request, applied, release, overrides, options, &gate_context).await
    }

    /// Requests deployment of a release through the hotfix lane, past the gates that the policy names.
    ///
    /// # Errors
    /// [`Refusal`]: the environment has no hotfix lane, no reason, a gate that the lane does not skip will never open, an unknown
    /// target or release, or a ledger that did not answer.
    pub async fn hotfix(
        &self,
        target: &TargetId,
        request: &HotfixRequest,
        actor: &Actor,
    ) -> Result<CommandResponse, Refusal> {
        let reason = validate_required_reason(&request.reason, "a hotfix")?;
        let applied = self.applied_target(target).await?;
        command_checks::has_hotfix_lane(&applied, &target.environment, &request.release)
            .map_err(|refusal| Refusal::of_command(target, &refusal))?;
        let release = self.release(&target.application, &target.service, &request.release).await?;
        let options = options(Lane::Hotfix, request.forward_only, &release);
        let gate_context = gate_context::load(self.ledger, target, &applied, &options).await;
        let overrides = Overrides::default();
        let request = ReleaseRequest { target, what: "hotfix", reason, request_key: request.request.as_deref(), actor };
        self.request_release(request, applied, release, overrides, options, &gate_context).await
    }

    /// Reads the target's state, refuses a deployment that a gate will certainly never let start, and writes the command.
    async fn request_release(
        &self,
        request: ReleaseRequest<'_>,
        applied: AppliedTarget,
        release: Release,
        overrides: Overrides,
        options: DeployOptions,
        gate_context: &GateContext,
    ) -> Result<CommandResponse, Refusal> {
        let ReleaseRequest { target, what, reason, request_key, actor } = request;
        let state = self.state(target).await?;
        let proposed = ProposedDeployment { target: target.clone(), applied, state, release, overrides, options };
        if let Err(refusal) = proposed.gate_check(gate_context, actor, self.clock.now()) {
            self.note_refusal("api", target, what, actor, &refusal.to_string()).await;
            return Err(Refusal::of_command(target, &refusal));
        }
        let instruction = proposed.instruction();
        let submission = CommandSubmission { instruction, actor, reason, request_key, release: Some(proposed.release) };
        self.submit(&proposed.state, submission).await
    }

    /// Requests the end of the running deployment.
    ///
    /// # Errors
    /// [`Refusal`]: nothing to end, another deployment runs, no reason, or a ledger that did not answer.
    pub async fn abort(
        &self,
        target: &TargetId,
        request: &AbortRequest,
        actor: &Actor,
    ) -> Result<CommandResponse, Refusal> {
        let reason = validate_required_reason(&request.reason, "ending a deployment")?;
        let state = self.known_state(target).await?;
        if let Err(refusal) = command_checks::deployment_to_abort(&state, request.deployment) {
            // A deployment that is queued, or whose command is not consumed yet, may run by the time of the next pass.
            let may_follow =
                state.running.is_none() && request.deployment.is_none_or(|wanted| wanted > state.last_deployment);
            let pending = !state.queued.is_empty() || !self.ledger.commands(target).await?.is_empty();
            if !(may_follow && pending) {
                return Err(Refusal::of_command(target, &refusal));
            }
        }
        let instruction = Instruction::Abort { deployment: request.deployment };
        self.submit_instruction(&state, instruction, actor, reason, request.request.as_deref()).await
    }

    /// Requests a rollback to the previous release.
    ///
    /// # Errors
    /// [`Refusal`]: nothing to roll back to, no reason, or a ledger that did not answer.
    pub async fn rollback(
        &self,
        target: &TargetId,
        request: &RollbackRequest,
        actor: &Actor,
    ) -> Result<CommandResponse, Refusal> {
        let reason = validate_required_reason(&request.reason, "a rollback")?;
        let state = self.known_state(target).await?;
        if state.running.is_none()
            && let Err(refusal) = command_checks::rollback_goal(&state)
            && self.ledger.commands(target).await?.is_empty()
        {
            return Err(Refusal::of_command(target, &refusal));
        }
        self.submit_instruction(&state, Instruction::Rollback, actor, reason, request.request.as_deref()).await
    }

    /// Requests a manual override of gates.
    ///
    /// # Errors
    /// [`Refusal`]: no reason, no gates, a deployment that is not gated, or a ledger that did not answer.
    pub async fn override_gates(
        &self,
        target: &TargetId,
        request: &OverrideRequest,
        actor: &Actor,
    ) -> Result<CommandResponse, Refusal> {
        let reason = validate_required_reason(&request.reason, "opening a gate by hand")?;
        if request.gates.is_empty() {
            let message = "`gates` names none: write those that are to be opened, as `switchback status` has them";
            return Err(Refusal::request("no_gates", message));
        }
        let refused = |refusal| Refusal::of_command(target, &refusal);
        command_checks::overridable(&request.gates).map_err(refused)?;
        let state = self.known_state(target).await?;
        command_checks::gated_deployment(&state, request.deployment).map_err(refused)?;
        let instruction = Instruction::Override { deployment: request.deployment, gates: request.gates.clone() };
        self.submit_instruction(&state, instruction, actor, reason, request.request.as_deref()).await
    }

    /// Resumes a target that awaits an operator, or that the stable side's own alarm holds.
    ///
    /// # Errors
    /// [`Refusal`]: no reason, a target that is not on hold for either reason, or a ledger that did not answer.
    pub async fn resume(
        &self,
        target: &TargetId,
        request: &ResumeRequest,
        actor: &Actor,
    ) -> Result<CommandResponse, Refusal> {
        let reason = validate_required_reason(&request.reason, "letting a held target go on")?;
        let state = self.known_state(target).await?;
        command_checks::resumable(&state).map_err(|refusal| Refusal::of_command(target, &refusal))?;
        self.submit_instruction(&state, Instruction::Resume, actor, reason, request.request.as_deref()).await
    }
}

impl<L: ApprovalLedger, D: WakeQueue, K: Clock> CommandService<'_, L, D, K> {
    async fn submit_instruction(
        &self,
        state: &TargetState,
        instruction: Instruction,
        actor: &Actor,
        reason: &str,
        request_key: Option<&str>,
    ) -> Result<CommandResponse, Refusal> {
        self.submit(state, CommandSubmission { instruction, actor, reason, request_key, release: None }).await
    }

    /// Writes the command, then sends a wake. `state` was read before, so the response's view of it predates the command.
    ///
    /// # Errors
    /// [`Refusal`]: an invalid request key, or a ledger that did not answer.
    pub async fn submit(
        &self,
        state: &TargetState,
        submission: CommandSubmission<'_>,
    ) -> Result<CommandResponse, Refusal> {
        let CommandSubmission { instruction, actor, reason, request_key, release } = submission;
        let request_key = match request_key {
            Some(key) => authorize_request_key(key, actor)?.to_owned(),
            None => self.clock.unique_id().0,
        };
        let (target, now) = (state.target.clone(), self.clock.now());
        let command = Command::requested(target, instruction, actor.clone(), reason, &request_key, now);
        self.submit_command(state, command, release).await
    }

    /// The same for a finished command.
    ///
    /// # Errors
    /// [`Refusal`]: a ledger that did not answer.
    pub async fn submit_command(
        &self,
        state: &TargetState,
        command: Command,
        release: Option<Release>,
    ) -> Result<CommandResponse, Refusal> {
        let journalled = log_context::of(&state.target);
        journalled.in_scope(|| log_context::set_command(&command, state));
        self.write_command(state, command, release).instrument(journalled).await
    }

    async fn write_command(
        &self,
        state: &TargetState,
        command: Command,
        release: Option<Release>,
    ) -> Result<CommandResponse, Refusal> {
        let target = &state.target;
        let new = self.ledger.put_command(&command).await?;
        // Sent even if the command is not new: the first wake may have been lost together with the first response.
        let urgent = matches!(command.instruction, Instruction::Abort { .. } | Instruction::Rollback);
        let woken = self.send(&Wake { urgent, ..Wake::of(target.clone()) }).await;
        let asked = command.instruction.name();
        tracing::info!(asked, command.new = new, actor = %command.actor, "a command was written");
        let running = state.running.as_ref().map(|running| running.number);
        let deployment = match (&command.instruction, &release) {
            (Instruction::Deploy { .. }, Some(release)) if !new => {
                self.resulting_deployment(target, &command, release).await?
            }
            (Instruction::Deploy { .. }, _) => None,
            _ => running,
        };
        Ok(CommandResponse {
            target: target.clone(),
            command: command.id,
            actor: command.actor,
            new,
            woken,
            release,
            deployment,
            last_deployment: state.last_deployment,
            last_entry: state.last_entry,
        })
    }

    /// The newest deployment of this release by this actor: presumably of the earlier identical request.
    async fn resulting_deployment(
        &self,
        target: &TargetId,
        command: &Command,
        release: &Release,
    ) -> Result<Option<u64>, Refusal> {
        let history = self.ledger.history(target, MAX_HISTORY).await?;
        let ours =
            |record: &&rollout::DeploymentRecord| record.release.id == release.id && record.actor == command.actor;
        Ok(history.iter().find(ours).map(|record| record.number))
    }

    /// Has the target's next pass journal that an entry point refused a request ([`Instruction::NoteRefusal`]): the same refusal of
    /// the same actor at most once an hour. `entry_point`: `api`, `slack`, `link`, `operations`, `promotions`; `what` is the request
    /// as one word; `reason` is for operators. Every refusal is logged; if the ledger does not answer, it is only logged.
    pub async fn note_refusal(&self, entry_point: &str, target: &TargetId, what: &str, actor: &Actor, reason: &str) {
        self.note_refusal_with_key(entry_point, target, what, actor, reason, reason).await;
    }

    /// The same if the reason quotes the requester's input: `refusal_key` then identifies refusals that count as the same.
    pub(crate) async fn note_refusal_with_key(
        &self,
        entry_point: &str,
        target: &TargetId,
        what: &str,
        actor: &Actor,
        reason: &str,
        refusal_key: &str,
    ) {
        tracing::warn!(target_id = %target, channel = entry_point, asked = what, %actor, "refused: {reason}");
        let now = self.clock.now();
        let hour = now.as_second().div_euclid(3600);
        let reason = clip(reason, MAX_REASON_CHARS).to_owned();
        let digits = Sha256::digest(format!("{actor:?}\n{what}\n{refusal_key}"));
        let digits = hex::encode(&digits[..8]);
        let command = Command {
            id: CommandId(format!("refused:{entry_point}:{digits}:{hour}")),
            target: target.clone(),
            instruction: Instruction::NoteRefusal { what: what.to_owned() },
            actor: actor.clone(),
            reason,
            at: now,
        };
        match self.ledger.put_command(&command).await {
            Ok(true) => {
                self.wake(target).await;
            }
            Ok(false) => {}
            Err(error) => tracing::error!(target_id = %target, "that it was refused could not be written: {error}"),
        }
    }
}

pub(super) fn options(lane: Lane, forward_only: bool, release: &Release) -> DeployOptions {
    DeployOptions { lane, forward_only, pushed_at: Some(release.pushed_at), ..DeployOptions::default() }
}
