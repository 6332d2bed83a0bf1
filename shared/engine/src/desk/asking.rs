//! Deploy, promote, hotfix, abort, rollback, override, resume: a command and a wake.

use super::answers::{
    AbortRequest, CommandAnswer, DeployRequest, HotfixRequest, OverrideRequest, PromoteRequest, ResumeRequest,
    RollbackRequest,
};
use super::releases::{nothing_before, verified_where};
use super::{Desk, LONGEST_REASON, Refusal, needed_reason, own_key, reason};
use crate::ports::{Clock, Ledger, Wake, WakeQueue};
use crate::{story, surroundings};
use rollout::promotion::{Question, Surroundings, judge};
use rollout::target::{Deployment, Gates, TargetState};
use rollout::{
    Actor, AppliedTarget, Command, CommandId, Gate, Instruction, Lane, Overrides, PlanId, Release, Stage, TargetId,
    Terms, Timestamp,
};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use tracing::Instrument as _;

/// How many deployments are looked through for the one that a repeated asking has become.
const LOOKED_BACK: usize = 20;

/// Something asked of a target, checked.
#[derive(Debug)]
pub struct Asked<'r> {
    /// What.
    pub instruction: Instruction,
    /// Who asks, as their door has proven it.
    pub actor: &'r Actor,
    /// Why; see [`reason`].
    pub reason: &'r str,
    /// The asker's own key: asking twice with one key is asking once. None: every asking is a new one.
    pub request: Option<&'r str>,
    /// What is to be deployed, for a deploy.
    pub release: Option<Release>,
}

/// A release on its way to a target, looked at before it is asked for.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) target: TargetId,
    pub(super) applied: AppliedTarget,
    pub(super) state: TargetState,
    pub(super) release: Release,
    pub(super) overrides: Overrides,
    pub(super) terms: Terms,
}

impl Candidate {
    pub(super) fn instruction(&self) -> Instruction {
        Instruction::Deploy {
            release: self.release.id.clone(),
            image: self.release.image.clone(),
            tag: self.release.tag.clone(),
            overrides: self.overrides.clone(),
            terms: self.terms.clone(),
        }
    }

    /// Whether a gate says already that it will never open.
    pub(super) fn admitted(&self, around: &Surroundings, actor: &Actor, now: Timestamp) -> Result<(), Refusal> {
        let gates = Gates {
            plan: PlanId(String::new()),
            asked_at: None,
            votes: Vec::new(),
            skipped: BTreeSet::new(),
            overridden: BTreeMap::new(),
            told: BTreeMap::new(),
        };
        let ruling = judge(&Question {
            target: &self.target,
            release: &self.release.id,
            terms: &self.terms,
            requester: actor,
            applied: &self.applied,
            gates: &gates,
            frozen: self.state.frozen.as_ref(),
            asleep: false,
            around: Some(around),
            now,
        });
        let Some((gate, reason, _)) = ruling.never() else { return Ok(()) };
        let (tag, digest) = (&self.release.tag, self.release.id.digest.short());
        let where_it_is = match (&self.applied.entry.rules.after, gate) {
            (Some(after), Gate::After) => format!(" ({})", verified_where(&self.target, after, around)),
            _ => String::new(),
        };
        let message = format!("{tag} ({digest}) may not be deployed to {}: {reason}{where_it_is}", self.target);
        Err(Refusal::conflict("not_verified", message))
    }
}

impl<L: Ledger, D: WakeQueue, K: Clock> Desk<'_, L, D, K> {
    /// Asks for a release to be brought to a target.
    ///
    /// # Errors
    /// [`Refusal`]: an unknown target, release or alarm, an override without a reason, a release that the environments
    /// before have not verified, or a ledger that did not answer.
    pub async fn deploy(
        &self,
        target: &TargetId,
        request: &DeployRequest,
        actor: &Actor,
    ) -> Result<CommandAnswer, Refusal> {
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
            needed_reason(reason, "deploying despite a firing alarm")?;
        }
        let release = self.release(&target.application, &target.service, &request.release).await?;
        let terms = terms(Lane::Asked, request.forward_only, &release);
        let overrides = Overrides { firing_alarms: request.despite_alarms.clone() };
        let around = surroundings::load(self.ledger, target, &applied, &terms).await;
        let state = self.state(target).await?;
        let candidate = Candidate { target: target.clone(), applied, state, release, overrides, terms };
        self.bring(candidate, "deploy", &around, reason, request.request.as_deref(), actor).await
    }

    /// Asks for a release that the environments before have verified; without a name: for the newest of them.
    ///
    /// # Errors
    /// [`Refusal`]: no environment comes before, nothing or not this release is verified there, an unknown target or
    /// release, or a ledger that did not answer.
    pub async fn promote(
        &self,
        target: &TargetId,
        request: &PromoteRequest,
        actor: &Actor,
    ) -> Result<CommandAnswer, Refusal> {
        let reason = reason(&request.reason)?;
        let applied = self.applied_target(target).await?;
        if applied.entry.rules.after.is_none() {
            return Err(nothing_before(target));
        }
        let around = surroundings::load(self.ledger, target, &applied, &Terms::default()).await;
        let release = match &request.release {
            Some(wanted) => self.release(&target.application, &target.service, wanted).await?,
            None => self.newest_verified(target, &applied, &around).await?,
        };
        let terms = terms(Lane::Asked, request.forward_only, &release);
        let state = self.state(target).await?;
        let overrides = Overrides::default();
        let candidate = Candidate { target: target.clone(), applied, state, release, overrides, terms };
        self.bring(candidate, "promote", &around, reason, request.request.as_deref(), actor).await
    }

    /// Asks for a release by the short way, past the gates that the policy names.
    ///
    /// # Errors
    /// [`Refusal`]: the environment has no such way, no reason, a gate that it does not pass by will never open, an unknown
    /// target or release, or a ledger that did not answer.
    pub async fn hotfix(
        &self,
        target: &TargetId,
        request: &HotfixRequest,
        actor: &Actor,
    ) -> Result<CommandAnswer, Refusal> {
        let reason = needed_reason(&request.reason, "a hotfix")?;
        let applied = self.applied_target(target).await?;
        has_hotfix_lane(target, &applied)?;
        let release = self.release(&target.application, &target.service, &request.release).await?;
        let terms = terms(Lane::Hotfix, request.forward_only, &release);
        let around = surroundings::load(self.ledger, target, &applied, &terms).await;
        let state = self.state(target).await?;
        let overrides = Overrides::default();
        let candidate = Candidate { target: target.clone(), applied, state, release, overrides, terms };
        self.bring(candidate, "hotfix", &around, reason, request.request.as_deref(), actor).await
    }

    async fn bring(
        &self,
        candidate: Candidate,
        what: &str,
        around: &Surroundings,
        reason: &str,
        request: Option<&str>,
        actor: &Actor,
    ) -> Result<CommandAnswer, Refusal> {
        if let Err(refusal) = candidate.admitted(around, actor, self.clock.now()) {
            self.note_refusal("desk", &candidate.target, what, actor, &refusal.message).await;
            return Err(refusal);
        }
        let instruction = candidate.instruction();
        let asked = Asked { instruction, actor, reason, request, release: Some(candidate.release) };
        self.ask(&candidate.state, asked).await
    }

    /// Asks for an end of the running deployment.
    ///
    /// # Errors
    /// [`Refusal`]: nothing to end, another deployment runs, no reason, or a ledger that did not answer.
    pub async fn abort(
        &self,
        target: &TargetId,
        request: &AbortRequest,
        actor: &Actor,
    ) -> Result<CommandAnswer, Refusal> {
        let reason = needed_reason(&request.reason, "ending a deployment")?;
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
        self.ask_people(&state, instruction, actor, reason, request.request.as_deref()).await
    }

    /// Asks for what was there before.
    ///
    /// # Errors
    /// [`Refusal`]: nothing to go back to, no reason, or a ledger that did not answer.
    pub async fn rollback(
        &self,
        target: &TargetId,
        request: &RollbackRequest,
        actor: &Actor,
    ) -> Result<CommandAnswer, Refusal> {
        let reason = needed_reason(&request.reason, "a rollback")?;
        let state = self.known_state(target).await?;
        let nowhere = state.running.is_none() && state.previous.is_none() && state.drift().is_none();
        if nowhere && self.ledger.commands(target).await?.is_empty() {
            let message = format!(
                "no earlier release of {target} is known: deploy the one that is wanted by its tag or digest instead"
            );
            return Err(Refusal::conflict("nothing_to_go_back_to", message));
        }
        self.ask_people(&state, Instruction::Rollback, actor, reason, request.request.as_deref()).await
    }

    /// Asks for gates to be opened by hand.
    ///
    /// # Errors
    /// [`Refusal`]: no reason, no gates, a deployment that does not wait at any, or a ledger that did not answer.
    pub async fn open_gates(
        &self,
        target: &TargetId,
        request: &OverrideRequest,
        actor: &Actor,
    ) -> Result<CommandAnswer, Refusal> {
        let reason = needed_reason(&request.reason, "opening a gate by hand")?;
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
        at_its_gates(&state, request.deployment)?;
        let instruction = Instruction::Override { deployment: request.deployment, gates: request.gates.clone() };
        self.ask_people(&state, instruction, actor, reason, request.request.as_deref()).await
    }

    /// Asks a target to go on that a forward-only release has frozen, or that the stable side's own alarm holds.
    ///
    /// # Errors
    /// [`Refusal`]: no reason, a target that neither holds, or a ledger that did not answer.
    pub async fn resume(
        &self,
        target: &TargetId,
        request: &ResumeRequest,
        actor: &Actor,
    ) -> Result<CommandAnswer, Refusal> {
        let reason = needed_reason(&request.reason, "letting a held target go on")?;
        let state = self.known_state(target).await?;
        let held = |running: &Deployment| running.frozen.is_some() || running.stable_alarm.is_some();
        if !state.running.as_ref().is_some_and(held) && state.frozen.is_none() {
            let message = format!(
                "{target} is neither frozen by a forward-only release nor held by an alarm of its stable side: there is \
                 nothing to resume. A freeze that somebody has set is lifted with `switchback unfreeze`"
            );
            return Err(Refusal::conflict("not_frozen", message));
        }
        self.ask_people(&state, Instruction::Resume, actor, reason, request.request.as_deref()).await
    }

    async fn ask_people(
        &self,
        state: &TargetState,
        instruction: Instruction,
        actor: &Actor,
        reason: &str,
        request: Option<&str>,
    ) -> Result<CommandAnswer, Refusal> {
        self.ask(state, Asked { instruction, actor, reason, request, release: None }).await
    }

    /// Writes the command, then sends a wake. `state` was read before: what the answer says of it is older than the command.
    ///
    /// # Errors
    /// [`Refusal`]: a key that cannot be kept, or a ledger that did not answer.
    pub async fn ask(&self, state: &TargetState, asked: Asked<'_>) -> Result<CommandAnswer, Refusal> {
        let Asked { instruction, actor, reason, request, release } = asked;
        let request = match request {
            Some(key) => own_key(key, actor)?.to_owned(),
            None => self.clock.lease_id().0,
        };
        let (target, now) = (state.target.clone(), self.clock.now());
        let command = Command::asked(target, instruction, actor.clone(), reason, &request, now);
        self.hand_in(state, command, release).await
    }

    /// The same for a command that is made already.
    ///
    /// # Errors
    /// [`Refusal`]: a ledger that did not answer.
    pub async fn hand_in(
        &self,
        state: &TargetState,
        command: Command,
        release: Option<Release>,
    ) -> Result<CommandAnswer, Refusal> {
        let told = story::of(&state.target);
        told.in_scope(|| story::asks(&command, state));
        self.take_down(state, command, release).instrument(told).await
    }

    async fn take_down(
        &self,
        state: &TargetState,
        command: Command,
        release: Option<Release>,
    ) -> Result<CommandAnswer, Refusal> {
        let target = &state.target;
        let new = self.ledger.put_command(&command).await?;
        // Sent even where the command is not new: the first wake may have been lost with the first answer.
        let urgent = matches!(command.instruction, Instruction::Abort { .. } | Instruction::Rollback);
        let woken = self.send(&Wake { urgent, ..Wake::of(target.clone()) }).await;
        let asked = command.instruction.name();
        tracing::info!(asked, command.new = new, actor = %command.actor, "a command was taken down");
        let running = state.running.as_ref().map(|running| running.number);
        let deployment = match (&command.instruction, &release) {
            (Instruction::Deploy { .. }, Some(release)) if !new => self.became(target, &command, release).await?,
            (Instruction::Deploy { .. }, _) => None,
            _ => running,
        };
        Ok(CommandAnswer {
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

    /// The deployment that an earlier asking has become.
    async fn became(&self, target: &TargetId, command: &Command, release: &Release) -> Result<Option<u64>, Refusal> {
        let history = self.ledger.history(target, LOOKED_BACK).await?;
        let ours =
            |record: &&rollout::DeploymentRecord| record.release.id == release.id && record.actor == command.actor;
        Ok(history.iter().find(ours).map(|record| record.number))
    }

    /// Has the target's journal say that a door refused something: the same of the same actor at most once an hour. `what`
    /// is what was asked, in a word; `reason` is for the operators. The log has all of them; where the ledger does not
    /// answer, only the log.
    pub async fn note_refusal(&self, door: &str, target: &TargetId, what: &str, actor: &Actor, reason: &str) {
        self.note_refusal_once(door, target, what, actor, reason, reason).await;
    }

    /// The same where the reason quotes what the asker chooses: what counts as the same is what `about` says.
    pub(crate) async fn note_refusal_once(
        &self,
        door: &str,
        target: &TargetId,
        what: &str,
        actor: &Actor,
        reason: &str,
        about: &str,
    ) {
        tracing::warn!(target_id = %target, door, asked = what, %actor, "refused: {reason}");
        let now = self.clock.now();
        let hour = now.as_second().div_euclid(3600);
        let reason: String = reason.chars().take(LONGEST_REASON).collect();
        let digits = Sha256::digest(format!("{actor:?}\n{what}\n{about}"));
        let digits = digits.iter().take(8).fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        let command = Command {
            id: CommandId(format!("refused:{door}:{digits}:{hour}")),
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

pub(super) fn terms(lane: Lane, forward_only: bool, release: &Release) -> Terms {
    Terms { lane, forward_only, train: None, pushed_at: Some(release.pushed_at) }
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

/// Whether this deployment waits at its gates.
pub(crate) fn at_its_gates(state: &TargetState, number: u64) -> Result<(), Refusal> {
    let target = &state.target;
    let message = match &state.running {
        Some(running) if running.number == number && matches!(running.stage, Stage::Gated { .. }) => return Ok(()),
        Some(running) if running.number == number => {
            format!(
                "deployment #{number} of {target} does not wait at any gate: it is {} already",
                running.stage.name()
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
