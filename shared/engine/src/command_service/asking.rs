//! Deploy, promote, hotfix, abort, rollback, override, resume: each writes a command and sends a wake.

use super::answers::{
    AbortRequest, CommandResponse, DeployRequest, HotfixRequest, OverrideRequest, PromoteRequest, ResumeRequest,
    RollbackRequest,
};
use super::releases::{describe_verified, no_previous_environment};
use super::{CommandService, MAX_REASON_CHARS, Refusal, own_key, reason, required_reason};
use crate::ports::{Clock, Ledger, Wake, WakeQueue};
use crate::{gate_context, log_context};
use rollout::deployment::{Deployment, GateProgress};
use rollout::promotion::{GateContext, GateInput, evaluate_gates};
use rollout::target::TargetState;
use rollout::{
    Actor, AppliedTarget, Command, CommandId, DeployOptions, Gate, Instruction, Lane, Overrides, PlanId, Release,
    Stage, TargetId, Timestamp,
};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use tracing::Instrument as _;

/// How many deployments are searched for the one that an earlier identical request created.
const MAX_HISTORY: usize = 20;

/// A validated request to a target.
#[derive(Debug)]
pub struct Asked<'r> {
    /// The instruction of the command.
    pub instruction: Instruction,
    /// The requester, as authenticated by the entry point.
    pub actor: &'r Actor,
    /// Free text from the requester; see [`reason`].
    pub reason: &'r str,
    /// The requester's own key: requests with the same key count as one. `None`: every request is a new one.
    pub request: Option<&'r str>,
    /// The release to deploy, for a deploy.
    pub release: Option<Release>,
}

/// A release considered for a target, before it is requested.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) target: TargetId,
    pub(super) applied: AppliedTarget,
    pub(super) state: TargetState,
    pub(super) release: Release,
    pub(super) overrides: Overrides,
    pub(super) options: DeployOptions,
}

impl Candidate {
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
    pub(super) fn gate_check(&self, gate_context: &GateContext, actor: &Actor, now: Timestamp) -> Result<(), Refusal> {
        let gates = GateProgress {
            plan: PlanId(String::new()),
            requested_at: None,
            votes: Vec::new(),
            skipped: BTreeSet::new(),
            overridden: BTreeMap::new(),
            journalled: BTreeMap::new(),
        };
        let gate_results = evaluate_gates(&GateInput {
            target: &self.target,
            release: &self.release.id,
            options: &self.options,
            requester: actor,
            applied: &self.applied,
            gates: &gates,
            operator_hold: self.state.operator_hold.as_ref(),
            asleep: false,
            gate_context: Some(gate_context),
            now,
        });
        let Some((gate, reason, _)) = gate_results.never() else { return Ok(()) };
        let (tag, digest) = (&self.release.tag, self.release.id.digest.short());
        let verified_in = match (&self.applied.entry.rules.after, gate) {
            (Some(after), Gate::After) => format!(" ({})", describe_verified(&self.target, after, gate_context)),
            _ => String::new(),
        };
        let message = format!("{tag} ({digest}) may not be deployed to {}: {reason}{verified_in}", self.target);
        Err(Refusal::conflict("not_verified", message))
    }
}

impl<L: Ledger, D: WakeQueue, K: Clock> CommandService<'_, L, D, K> {
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
        let reason = reason(&request.reason)?;
        let applied = self.applied_target(target).await?;
        for alarm in &request.despite_alarms {
            if !applied.policy.alarms.iter().any(|known| &known.name == alarm) {
                let known = applied.policy.alarms.iter().map(|alarm| alarm.name.clone());
                let what = format!("version {} of the policy of {target} has no alarm `{alarm}`", applied.version);
                return Err(Refusal::unknown("unknown_alarm", what, known, "name one of those, or none"));
            }
        }
        if !request.despite_alarms.is_empty() {
            required_reason(reason, "deploying despite a firing alarm")?;
        }
        let release = self.release(&target.application, &target.service, &request.release).await?;
        let options = options(Lane::Asked, request.forward_only, &release);
        let overrides = Overrides { firing_alarms: request.despite_alarms.clone() };
        let gate_context = gate_context::load(self.ledger, target, &applied, &options).await;
        let state = self.state(target).await?;
        let candidate = Candidate { target: target.clone(), applied, state, release, overrides, options };
        self.request_release(candidate, "deploy", &gate_context, reason, request.request.as_deref(), actor).await
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
        let reason = reason(&request.reason)?;
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
        let state = self.state(target).await?;
        let overrides = Overrides::default();
        let candidate = Candidate { target: target.clone(), applied, state, release, overrides, options };
        self.request_release(candidate, "promote", &gate_context, reason, request.request.as_deref(), actor).await
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
        let reason = required_reason(&request.reason, "a hotfix")?;
        let applied = self.applied_target(target).await?;
        has_hotfix_lane(target, &applied)?;
        let release = self.release(&target.application, &target.service, &request.release).await?;
        let options = options(Lane::Hotfix, request.forward_only, &release);
        let gate_context = gate_context::load(self.ledger, target, &applied, &options).await;
        let state = self.state(target).await?;
        let overrides = Overrides::default();
        let candidate = Candidate { target: target.clone(), applied, state, release, overrides, options };
        self.request_release(candidate, "hotfix", &gate_context, reason, request.request.as_deref(), actor).await
    }

    async fn request_release(
        &self,
        candidate: Candidate,
        what: &str,
        gate_context: &GateContext,
        reason: &str,
        request: Option<&str>,
        actor: &Actor,
    ) -> Result<CommandResponse, Refusal> {
        if let Err(refusal) = candidate.gate_check(gate_context, actor, self.clock.now()) {
            self.note_refusal("desk", &candidate.target, what, actor, &refusal.message).await;
            return Err(refusal);
        }
        let instruction = candidate.instruction();
        let asked = Asked { instruction, actor, reason, request, release: Some(candidate.release) };
        self.submit(&candidate.state, asked).await
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
        let reason = required_reason(&request.reason, "ending a deployment")?;
        let state = self.known_state(target).await?;
        let running = state.running.as_ref().map(|running| running.number);
        match (running, request.deployment) {
            (Some(running), Some(wanted)) if running != wanted => {
                let message = format!("deployment #{running} is running on {target}, not #{wanted}: nothing was ended");
                return Err(Refusal::conflict("not_running", message));
            }
            (None, Some(wanted)) if wanted <= state.last_deployment => {
                let message = format!("deployment #{wanted} of {target} is over: nothing was ended");
                return Err(Refusal::conflict("not_running", message));
            }
            (None, _) if state.queued.is_empty() && self.ledger.commands(target).await?.is_empty() => {
                let message = format!("nothing is running on {target}: nothing was ended");
                return Err(Refusal::conflict("not_running", message));
            }
            _ => {}
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
        let reason = required_reason(&request.reason, "a rollback")?;
        let state = self.known_state(target).await?;
        let nothing_to_roll_back_to = state.running.is_none() && state.previous.is_none() && state.drift().is_none();
        if nothing_to_roll_back_to && self.ledger.commands(target).await?.is_empty() {
            let message = format!(
                "no earlier release of {target} is known: deploy the one that is wanted by its tag or digest instead"
            );
            return Err(Refusal::conflict("nothing_to_go_back_to", message));
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
        let reason = required_reason(&request.reason, "opening a gate by hand")?;
        if request.gates.is_empty() {
            let message = "`gates` names none: write those that are to be opened, as `switchback status` has them";
            return Err(Refusal::request("no_gates", message));
        }
        if request.gates.contains(&Gate::Train) {
            let message = "the order of a release train cannot be overridden: end it, and deploy the service alone";
            return Err(Refusal::conflict("not_overridable", message));
        }
        if request.gates.contains(&Gate::Image) {
            let message = "an image that the registry does not have cannot be deployed, whoever says so: push it again";
            return Err(Refusal::conflict("not_overridable", message));
        }
        let state = self.known_state(target).await?;
        require_gated(&state, request.deployment)?;
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
        let reason = required_reason(&request.reason, "letting a held target go on")?;
        let state = self.known_state(target).await?;
        let held = |running: &Deployment| running.awaiting_operator().is_some() || running.stable_alarm().is_some();
        if !state.running.as_ref().is_some_and(held) && state.operator_hold.is_none() {
            let message = format!(
                "{target} is neither frozen by a forward-only release nor held by an alarm of its stable side: there is \
                 nothing to resume. A freeze that somebody has set is lifted with `switchback unfreeze`"
            );
            return Err(Refusal::conflict("not_frozen", message));
        }
        self.submit_instruction(&state, Instruction::Resume, actor, reason, request.request.as_deref()).await
    }

    async fn submit_instruction(
        &self,
        state: &TargetState,
        instruction: Instruction,
        actor: &Actor,
        reason: &str,
        request: Option<&str>,
    ) -> Result<CommandResponse, Refusal> {
        self.submit(state, Asked { instruction, actor, reason, request, release: None }).await
    }

    /// Writes the command, then sends a wake. `state` was read before, so the response's view of it predates the command.
    ///
    /// # Errors
    /// [`Refusal`]: an invalid request key, or a ledger that did not answer.
    pub async fn submit(&self, state: &TargetState, asked: Asked<'_>) -> Result<CommandResponse, Refusal> {
        let Asked { instruction, actor, reason, request, release } = asked;
        let request = match request {
            Some(key) => own_key(key, actor)?.to_owned(),
            None => self.clock.lease_id().0,
        };
        let (target, now) = (state.target.clone(), self.clock.now());
        let command = Command::asked(target, instruction, actor.clone(), reason, &request, now);
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
        tracing::info!(asked, command.new = new, actor = %command.actor, "a command was taken down");
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

    /// The deployment that an earlier identical request created.
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

    /// Journals in the target that an entry point refused a request: the same refusal of the same actor at most once an hour.
    /// `what` is the request as one word; `reason` is for operators. Every refusal is logged; if the ledger does not answer, it
    /// is only logged.
    pub async fn note_refusal(&self, channel: &str, target: &TargetId, what: &str, actor: &Actor, reason: &str) {
        self.note_refusal_with_key(channel, target, what, actor, reason, reason).await;
    }

    /// The same if the reason quotes the requester's input: `refusal_key` then identifies refusals that count as the same.
    pub(crate) async fn note_refusal_with_key(
        &self,
        channel: &str,
        target: &TargetId,
        what: &str,
        actor: &Actor,
        reason: &str,
        refusal_key: &str,
    ) {
        tracing::warn!(target_id = %target, channel, asked = what, %actor, "refused: {reason}");
        let now = self.clock.now();
        let hour = now.as_second().div_euclid(3600);
        let reason: String = reason.chars().take(MAX_REASON_CHARS).collect();
        let digits = Sha256::digest(format!("{actor:?}\n{what}\n{refusal_key}"));
        let digits = digits.iter().take(8).fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        let command = Command {
            id: CommandId(format!("refused:{channel}:{digits}:{hour}")),
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
    DeployOptions { lane, forward_only, train: None, pushed_at: Some(release.pushed_at) }
}

pub(super) fn has_hotfix_lane(target: &TargetId, applied: &AppliedTarget) -> Result<(), Refusal> {
    if applied.entry.rules.hotfix_skips.is_empty() {
        let message = format!(
            "{} has no hotfix lane (version {} of the policy): deploy the release the usual way, or add `hotfix` to the \
             environment and apply that",
            target.environment, applied.version
        );
        return Err(Refusal::conflict("no_hotfix_lane", message));
    }
    Ok(())
}

/// Checks that this deployment is waiting at its gates.
pub(crate) fn require_gated(state: &TargetState, number: u64) -> Result<(), Refusal> {
    let target = &state.target;
    let message = match &state.running {
        Some(running) if running.number == number && running.stage() == Stage::Gated => return Ok(()),
        Some(running) if running.number == number => {
            format!(
                "deployment #{number} of {target} does not wait at any gate: it is {} already",
                running.stage().name()
            )
        }
        Some(running) if number < running.number => {
            format!(
                "deployment #{number} of {target} is over, and #{} ({}) came after it",
                running.number, running.release.tag
            )
        }
        None if number <= state.last_deployment => format!("deployment #{number} of {target} is over"),
        _ => format!("there is no deployment #{number} of {target}"),
    };
    Err(Refusal::conflict("not_waiting", message))
}
