//! `deploy`, `promote`, `hotfix`, `abort`, `rollback`: a command is taken down; with `--wait`, it is followed to its end.
//! `override` and `resume`: a command is taken down, for a deployment that is there already.

use super::client::{Client, Remote};
use super::exit::Exit;
use super::failure::Failure;
use super::follow::{Patience, Wish, follow};
use super::output::Output;
use super::target_path;
use engine::operate::{
    AbortRequest, CommandAnswer, DeployRequest, HotfixRequest, OverrideRequest, PromoteRequest, Refusal, ResumeRequest,
    RollbackRequest, TargetStatus,
};
use rollout::{Gate, Stage, TargetId};
use serde::Serialize;
use view::outcome::{Taken, taken};

/// Bring a release to a target.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DeployArguments {
    /// application/service/environment
    target: TargetId,
    /// A tag, a digest, at least 7 of its first digits, or `latest` (the newest push).
    #[arg(long)]
    release: String,
    /// Why, for the record; needed with --despite-alarm.
    #[arg(long, default_value = "")]
    reason: String,
    /// Accept that this alarm fires at the start; may be given several times.
    #[arg(long, value_name = "NAME")]
    despite_alarm: Vec<String>,
    /// No automatic rollback (for example after a migration): trouble freezes the target, and a person decides.
    #[arg(long)]
    forward_only: bool,
    #[command(flatten)]
    common: Common,
    /// Print JSON; with --wait, one line per event.
    #[arg(long)]
    pub(super) json: bool,
}

/// Bring what the environments before have verified.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct PromoteArguments {
    /// application/service/environment
    target: TargetId,
    /// A tag, a digest or at least 7 of its first digits; without it, the newest that is verified.
    #[arg(long)]
    release: Option<String>,
    /// Why, for the record.
    #[arg(long, default_value = "")]
    reason: String,
    /// No automatic rollback (for example after a migration): trouble freezes the target, and a person decides.
    #[arg(long)]
    forward_only: bool,
    #[command(flatten)]
    common: Common,
    /// Print JSON; with --wait, one line per event.
    #[arg(long)]
    pub(super) json: bool,
}

/// Bring a release past the gates that the policy names for hotfixes. It stays marked as one for ever.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct HotfixArguments {
    /// application/service/environment
    target: TargetId,
    /// A tag, a digest, at least 7 of its first digits, or `latest` (the newest push).
    #[arg(long)]
    release: String,
    /// Why it needs a hotfix, for the record.
    #[arg(long)]
    reason: String,
    /// No automatic rollback (for example after a migration): trouble freezes the target, and a person decides.
    #[arg(long)]
    forward_only: bool,
    #[command(flatten)]
    common: Common,
    /// Print JSON; with --wait, one line per event.
    #[arg(long)]
    pub(super) json: bool,
}

/// Open gates by hand for the deployment that waits at them.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct OverrideArguments {
    /// application/service/environment
    target: TargetId,
    /// after, soak, approval, window, freeze or stop_the_line; may be given several times.
    #[arg(long, value_name = "GATE", required = true, value_parser = gate)]
    gate: Vec<Gate>,
    /// Fail unless this is the deployment that waits.
    #[arg(long, value_name = "N")]
    deployment: Option<u64>,
    /// Why, for the record.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    once: Once,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// Let a target go on that a forward-only release has frozen, or that its stable side's own alarm holds.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ResumeArguments {
    /// application/service/environment
    target: TargetId,
    /// Why, for the record.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    once: Once,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// End the running deployment.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct AbortArguments {
    /// application/service/environment
    target: TargetId,
    /// Fail unless this is the running deployment.
    #[arg(long, value_name = "N")]
    deployment: Option<u64>,
    /// Why, for the record.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    common: Common,
    /// Print JSON; with --wait, one line per event.
    #[arg(long)]
    pub(super) json: bool,
}

/// Bring back what was there before.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RollbackArguments {
    /// application/service/environment
    target: TargetId,
    /// Why, for the record.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    common: Common,
    /// Print JSON; with --wait, one line per event.
    #[arg(long)]
    pub(super) json: bool,
}

/// `soak`, for clap.
fn gate(text: &str) -> Result<Gate, String> {
    let wanted = text.replace('-', "_");
    let gates = rollout::promotion::rules::RULES.map(|(gate, _)| gate);
    gates
        .into_iter()
        .find(|gate| gate.name() == wanted)
        .ok_or_else(|| format!("`{text}` is not a gate: there are {}", gates.map(Gate::name).join(", ")))
}

/// What a command has whose end is waited for.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Common {
    /// Wait for the verdict; the exit code is the deployment's outcome.
    #[arg(long)]
    pub(super) wait: bool,
    #[command(flatten)]
    pub(super) patience: Patience,
    #[command(flatten)]
    pub(super) once: Once,
}

/// What every command has.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Once {
    /// An idempotency key, such as the id of a CI run: a repeated request with the same key counts once.
    #[arg(long, value_name = "KEY")]
    request: Option<String>,
    #[command(flatten)]
    pub(super) remote: Remote,
}

impl Once {
    /// The key of this asking. A new one is made once, so that asking again after a lost answer is no second asking.
    pub(super) fn key(&self) -> Result<String, Failure> {
        match &self.request {
            Some(key) => Ok(key.clone()),
            None => {
                let mut bytes = [0_u8; 16];
                getrandom::fill(&mut bytes)
                    .map_err(|error| Failure::Unexpected(format!("this machine has no randomness: {error}")))?;
                Ok(format!("cli-{:032x}", u128::from_be_bytes(bytes)))
            }
        }
    }
}

/// `switchback deploy`
pub(super) async fn deploy(arguments: &DeployArguments, output: &mut Output) -> Result<Exit, Failure> {
    let request = DeployRequest {
        release: arguments.release.clone(),
        reason: arguments.reason.clone(),
        despite_alarms: arguments.despite_alarm.iter().cloned().collect(),
        forward_only: arguments.forward_only,
        request: Some(arguments.common.once.key()?),
    };
    ask(Wish::Deploy, &arguments.target, &request, &arguments.common, output).await
}

/// `switchback promote`
pub(super) async fn promote(arguments: &PromoteArguments, output: &mut Output) -> Result<Exit, Failure> {
    let request = PromoteRequest {
        release: arguments.release.clone(),
        reason: arguments.reason.clone(),
        forward_only: arguments.forward_only,
        request: Some(arguments.common.once.key()?),
    };
    ask(Wish::Promote, &arguments.target, &request, &arguments.common, output).await
}

/// `switchback hotfix`
pub(super) async fn hotfix(arguments: &HotfixArguments, output: &mut Output) -> Result<Exit, Failure> {
    let request = HotfixRequest {
        release: arguments.release.clone(),
        reason: arguments.reason.clone(),
        forward_only: arguments.forward_only,
        request: Some(arguments.common.once.key()?),
    };
    ask(Wish::Hotfix, &arguments.target, &request, &arguments.common, output).await
}

/// `switchback override`
pub(super) async fn open_gates(arguments: &OverrideArguments, output: &mut Output) -> Result<Exit, Failure> {
    let client = Client::new(&arguments.once.remote).await?;
    let deployment = match arguments.deployment {
        Some(number) => number,
        None => {
            let status: TargetStatus = client.get(&target_path(&arguments.target, "")).await?;
            let waits = status.state.running.filter(|running| matches!(running.stage, Stage::Gated { .. }));
            waits.map(|running| running.number).ok_or_else(|| {
                let message = format!("no deployment is waiting at gates on {}: nothing was opened", arguments.target);
                Failure::Refused(Refusal::new(409, "not_waiting", message))
            })?
        }
    };
    let request = OverrideRequest {
        deployment,
        gates: arguments.gate.iter().copied().collect(),
        reason: arguments.reason.clone(),
        request: Some(arguments.once.key()?),
    };
    tell_once("override", &client, &arguments.target, &request, output).await
}

/// `switchback resume`
pub(super) async fn resume(arguments: &ResumeArguments, output: &mut Output) -> Result<Exit, Failure> {
    let client = Client::new(&arguments.once.remote).await?;
    let request = ResumeRequest { reason: arguments.reason.clone(), request: Some(arguments.once.key()?) };
    tell_once("resume", &client, &arguments.target, &request, output).await
}

/// Asks for something whose end is not waited for.
pub(super) async fn tell_once(
    verb: &str,
    client: &Client,
    target: &TargetId,
    request: &impl Serialize,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let answer: CommandAnswer = client.post(&target_path(target, verb), request).await?;
    output.document(&answer);
    say_taken(verb, &answer, false, output);
    Ok(Exit::Done)
}

/// Says that a command was taken down.
pub(super) fn say_taken(verb: &str, answer: &CommandAnswer, follows: bool, output: &mut Output) {
    let words = Taken {
        verb,
        target: &answer.target,
        release: answer.release.as_ref().map(|release| (release.tag.as_str(), release.id.digest.short())),
        deployment: answer.deployment,
        actor: &answer.actor,
        new: answer.new,
        woken: answer.woken,
    };
    output.say(&taken(words, follows));
}

/// `switchback abort`
pub(super) async fn abort(arguments: &AbortArguments, output: &mut Output) -> Result<Exit, Failure> {
    let request = AbortRequest {
        deployment: arguments.deployment,
        reason: arguments.reason.clone(),
        request: Some(arguments.common.once.key()?),
    };
    ask(Wish::Abort, &arguments.target, &request, &arguments.common, output).await
}

/// `switchback rollback`
pub(super) async fn rollback(arguments: &RollbackArguments, output: &mut Output) -> Result<Exit, Failure> {
    let request = RollbackRequest { reason: arguments.reason.clone(), request: Some(arguments.common.once.key()?) };
    ask(Wish::Rollback, &arguments.target, &request, &arguments.common, output).await
}

async fn ask(
    wish: Wish,
    target: &TargetId,
    request: &impl Serialize,
    common: &Common,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let client = Client::new(&common.once.remote).await?;
    let answer: CommandAnswer = client.post(&target_path(target, wish.verb()), request).await?;
    if common.wait {
        output.event("asked", &answer);
    } else {
        output.document(&answer);
    }
    say_taken(wish.verb(), &answer, common.wait, output);
    if common.wait { follow(&client, wish, &[answer], &common.patience, output).await } else { Ok(Exit::Done) }
}
