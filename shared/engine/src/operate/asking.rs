//! Deploy, abort, rollback: a command and a ring.

use super::answers::{AbortRequest, CommandAnswer, DeployRequest, RollbackRequest};
use super::{LONGEST_REASON, LONGEST_REQUEST, Operations, Refusal, person};
use crate::ports::{Clock, Cloud, Doorbell, Ledger, Ring};
use rollout::target::TargetState;
use rollout::{Command, ImageDigest, Instruction, Name, Overrides, Release, ReleaseId, Seconds, TargetId};

/// How many releases are looked through for a tag or a short digest; an older one is named by its whole digest.
const LOOKED_THROUGH: usize = 500;
/// The fewest hexadecimal digits that name a release, as with commits.
const FEWEST_DIGITS: usize = 7;
/// How many deployments are looked through for the one that a repeated asking has become.
const LOOKED_BACK: usize = 20;

impl<L: Ledger, C: Cloud, D: Doorbell, K: Clock> Operations<'_, L, C, D, K> {
    /// Asks for a release to be brought to a target.
    ///
    /// # Errors
    /// [`Refusal`]: an unknown target, release or alarm, an override without a reason, or a ledger that did not answer.
    pub async fn deploy(
        &self,
        target: &TargetId,
        request: &DeployRequest,
        caller: &str,
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
        if !request.despite_alarms.is_empty() && reason.is_empty() {
            return Err(reason_missing("deploying despite a firing alarm"));
        }
        let release = self.release(&target.application, &target.service, &request.release).await?;
        let instruction = Instruction::Deploy {
            release: release.id.clone(),
            image: release.image.clone(),
            tag: release.tag.clone(),
            overrides: Overrides { firing_alarms: request.despite_alarms.clone() },
        };
        let state = self.state(target).await?;
        self.ask(&state, instruction, reason, request.request.as_deref(), caller, Some(release)).await
    }

    /// Asks for an end of the running deployment.
    ///
    /// # Errors
    /// [`Refusal`]: nothing to end, another deployment runs, no reason, or a ledger that did not answer.
    pub async fn abort(
        &self,
        target: &TargetId,
        request: &AbortRequest,
        caller: &str,
    ) -> Result<CommandAnswer, Refusal> {
        let reason = reason(&request.reason)?;
        if reason.is_empty() {
            return Err(reason_missing("ending a deployment"));
        }
        let state = self.known_state(target).await?;
        let running = state.running.as_ref().map(|running| running.number);
        match (running, request.deployment) {
            (Some(running), Some(wanted)) if running != wanted => {
                let message = format!("deployment #{running} is running on {target}, not #{wanted}: nothing was ended");
                return Err(Refusal::new(409, "not_running", message));
            }
            (None, Some(wanted)) if wanted <= state.last_deployment => {
                let message = format!("deployment #{wanted} of {target} is over: nothing was ended");
                return Err(Refusal::new(409, "not_running", message));
            }
            (None, _) if state.queued.is_empty() && self.ledger.commands(target).await?.is_empty() => {
                let message = format!("nothing is running on {target}: nothing was ended");
                return Err(Refusal::new(409, "not_running", message));
            }
            _ => {}
        }
        let instruction = Instruction::Abort { deployment: request.deployment };
        self.ask(&state, instruction, reason, request.request.as_deref(), caller, None).await
    }

    /// Asks for what was there before.
    ///
    /// # Errors
    /// [`Refusal`]: nothing to go back to, no reason, or a ledger that did not answer.
    pub async fn rollback(
        &self,
        target: &TargetId,
        request: &RollbackRequest,
        caller: &str,
    ) -> Result<CommandAnswer, Refusal> {
        let reason = reason(&request.reason)?;
        if reason.is_empty() {
            return Err(reason_missing("a rollback"));
        }
        let state = self.known_state(target).await?;
        let nowhere = state.running.is_none() && state.previous.is_none() && !state.unsettled;
        if nowhere && self.ledger.commands(target).await?.is_empty() {
            let message = format!(
                "no earlier release of {target} is known: deploy the one that is wanted by its tag or digest instead"
            );
            return Err(Refusal::new(409, "nothing_to_go_back_to", message));
        }
        self.ask(&state, Instruction::Rollback, reason, request.request.as_deref(), caller, None).await
    }

    /// Writes the command, then rings. `state` was read before: what the answer says of it is older than the command.
    async fn ask(
        &self,
        state: &TargetState,
        instruction: Instruction,
        reason: &str,
        request: Option<&str>,
        caller: &str,
        release: Option<Release>,
    ) -> Result<CommandAnswer, Refusal> {
        let request = match request {
            Some(key) => request_key(key)?.to_owned(),
            None => self.clock.lease_id().0,
        };
        let target = &state.target;
        let is_deploy = matches!(instruction, Instruction::Deploy { .. });
        let command = Command::asked(target.clone(), instruction, person(caller), reason, &request, self.clock.now());
        let new = self.ledger.put_command(&command).await?;
        // Rung even where it is not new: the first ring may have been lost with the first answer.
        let rung = self.doorbell.ring(&Ring::wake(target.clone()), Seconds(0)).await;
        if let Err(reason) = &rung {
            tracing::warn!(%target, "the target could not be woken, the sweeper will: {reason}");
        }
        tracing::info!(%target, command.id = %command.id.0, command.new = new, caller, "a command was taken down");
        let running = state.running.as_ref().map(|running| running.number);
        let deployment = match (&release, new) {
            (Some(release), false) => self.became(target, &command, release).await?,
            _ if is_deploy => None,
            _ => running,
        };
        Ok(CommandAnswer {
            target: target.clone(),
            command: command.id,
            actor: command.actor,
            new,
            woken: rung.is_ok(),
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

    /// What is remembered of a target; a new state where nothing is yet.
    pub(super) async fn state(&self, target: &TargetId) -> Result<TargetState, Refusal> {
        Ok(self.ledger.state(target).await?.unwrap_or_else(|| TargetState::new(target.clone())))
    }

    /// What is remembered of a target that a policy names, or that something was ever deployed to.
    pub(super) async fn known_state(&self, target: &TargetId) -> Result<TargetState, Refusal> {
        match self.ledger.state(target).await? {
            Some(state) => Ok(state),
            None => {
                self.applied_target(target).await?;
                Ok(TargetState::new(target.clone()))
            }
        }
    }

    /// The release that `wanted` names.
    pub(super) async fn release(&self, application: &Name, service: &Name, wanted: &str) -> Result<Release, Refusal> {
        if wanted.is_empty() || wanted.chars().count() > 128 {
            let message = "`release` must be a tag, a digest, at least 7 of its first digits, or `latest`";
            return Err(Refusal::request("invalid_release", message));
        }
        if let Ok(digest) = ImageDigest::new(wanted) {
            let id = ReleaseId { application: application.clone(), service: service.clone(), digest };
            let release = self.ledger.release_by_id(&id).await?;
            return release.ok_or_else(|| unknown_release(application, service, wanted, &[]));
        }
        let most = if wanted == "latest" { 1 } else { LOOKED_THROUGH };
        let releases = self.ledger.releases(application, service, most).await?;
        let named = match wanted {
            "latest" => releases.first(),
            tag => releases.iter().find(|release| release.tag == tag),
        };
        if let Some(release) = named {
            return Ok(release.clone());
        }
        let digits = wanted.strip_prefix("sha256:").unwrap_or(wanted).to_ascii_lowercase();
        if digits.len() >= FEWEST_DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let start = format!("sha256:{digits}");
            let fitting: Vec<&Release> =
                releases.iter().filter(|release| release.id.digest.as_str().starts_with(&start)).collect();
            match fitting.as_slice() {
                [] => {}
                [release] => return Ok((*release).clone()),
                several => {
                    let message = format!(
                        "{} releases of {application}/{service} begin with `{wanted}`: write more digits",
                        several.len()
                    );
                    return Err(Refusal::new(409, "ambiguous_release", message));
                }
            }
        }
        Err(unknown_release(application, service, wanted, &releases))
    }
}

fn unknown_release(application: &Name, service: &Name, wanted: &str, newest: &[Release]) -> Refusal {
    let known = newest.iter().take(5).map(|release| format!("{} ({})", release.tag, release.id.digest.short()));
    Refusal::unknown(
        "unknown_release",
        format!("no release `{wanted}` of {application}/{service} is known"),
        known,
        "push an image whose tag the policy takes, or name one of those; an older one by its whole digest",
    )
}

/// The reason, if it is one that can be kept.
fn reason(text: &str) -> Result<&str, Refusal> {
    let reason = text.trim();
    if reason.chars().count() > LONGEST_REASON {
        let message = format!(
            "`reason` has {} characters, at most {LONGEST_REASON} are kept: shorten it",
            reason.chars().count()
        );
        return Err(Refusal::request("reason_too_long", message));
    }
    if reason.chars().any(|character| character.is_control() && !matches!(character, '\n' | '\t')) {
        return Err(Refusal::request("invalid_reason", "`reason` has control characters: write plain text"));
    }
    Ok(reason)
}

fn reason_missing(what: &str) -> Refusal {
    Refusal::request("reason_missing", format!("{what} needs a reason, for the record: write one into `reason`"))
}

fn request_key(key: &str) -> Result<&str, Refusal> {
    let fits = (1..=LONGEST_REQUEST).contains(&key.len())
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':'));
    if fits {
        return Ok(key);
    }
    let message = format!("`request` must be 1 to {LONGEST_REQUEST} letters, digits, `-`, `_`, `.` or `:`");
    Err(Refusal::request("invalid_request_key", message))
}
