//! `deploy`, `promote`, `hotfix`, `abort`, `rollback`: submit a command and, with `--wait`, follow it to its end.
//! `override` and `resume`: submit a command for an existing deployment.

use super::client::{Client, Remote};
use super::exit::Exit;
use super::failure::Failure;
use super::follow::{CommandKind, WaitOptions, follow};
use super::output::Output;
use super::target_path;
use api::{
    AbortRequest, CommandResponse, DeployRequest, HotfixRequest, OverrideRequest, PromoteRequest, Refusal,
    ResumeRequest, RollbackRequest, TargetStatus,
};
use rollout::{Gate, Stage, TargetId};
use serde::Serialize;
use view::outcome::{AcceptedCommand, accepted};

/// Bring a release to a target.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DeployArguments {
    /// application/service/environment
    target: TargetId,
    /// A tag, a digest, at least 7 of its first digits, or `latest` (the newest push).
    #[arg(long, required_unless_present = "configuration")]
    release: Option<String>,
    /// Deploy a newer template of the policy's family; without --release, with the image that is stable.
    #[arg(long)]
    configuration: bool,
    /// The first deployment to a target that runs nothing: the number of tasks to start. There is no rollback from it.
    #[arg(long, value_name = "TASKS", value_parser = clap::value_parser!(u32).range(1..=5000))]
    first: Option<u32>,
    /// Why, for the record; needed with --despite-alarm.
    #[arg(long, default_value = "")]
    reason: String,
    /// Accept that this alarm fires at the start; may be given several times.
    #[arg(long, value_name = "NAME")]
    despite_alarm: Vec<String>,
    /// No automatic rollback (for example after a migration): in trouble the target awaits an operator.
    #[arg(long)]
    forward_only: bool,
    #[command(flatten)]
    pub(super) common: WaitableArguments,
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
    /// No automatic rollback (for example after a migration): in trouble the target awaits an operator.
    #[arg(long)]
    forward_only: bool,
    #[command(flatten)]
    pub(super) common: WaitableArguments,
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
    /// No automatic rollback (for example after a migration): in trouble the target awaits an operator.
    #[arg(long)]
    forward_only: bool,
    #[command(flatten)]
    pub(super) common: WaitableArguments,
}

/// Open gates by hand for the deployment that waits at them.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct OverrideArguments {
    /// application/service/environment
    target: TargetId,
    /// after, soak, approval, window, freeze, stop_the_line or one_at_a_time; may be given several times.
    #[arg(long, value_name = "GATE", required = true, value_parser = gate)]
    gate: Vec<Gate>,
    /// Fail unless this is the deployment that waits.
    #[arg(long, value_name = "N")]
    deployment: Option<u64>,
    /// Why, for the record.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    request_arguments: RequestArguments,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// Resume a target that awaits an operator after a forward-only release, or that its stable side's own alarm holds.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ResumeArguments {
    /// application/service/environment
    target: TargetId,
    /// Why, for the record.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    request_arguments: RequestArguments,
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
    pub(super) common: WaitableArguments,
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
    pub(super) common: WaitableArguments,
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
pub(super) struct WaitableArguments {
    /// Wait for the verdict; the exit code is the deployment's outcome.
    #[arg(long)]
    pub(super) wait: bool,
    #[command(flatten)]
    pub(super) wait_options: WaitOptions,
    #[command(flatten)]
    pub(super) request_arguments: RequestArguments,
    /// Print JSON; with --wait, one line per event.
    #[arg(long)]
    pub(super) json: bool,
}

impl WaitableArguments {
    /// Idempotency key of this request; see [`RequestArguments::key`].
    pub(super) fn key(&self) -> Result<String, Failure> {
        self.request_arguments.key()
    }
}

/// What every command has.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct RequestArguments {
    /// An idempotency key, such as the id of a CI run: a repeated request with the same key counts once.
    #[arg(long, value_name = "KEY")]
    request: Option<String>,
    #[command(flatten)]
    pub(super) remote: Remote,
}

impl RequestArguments {
    /// Idempotency key of this request. A new key is generated once, so that a retry after a lost response is no second
    /// request.
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
        release: arguments.release.clone().unwrap_or_default(),
        configuration: arguments.configuration,
        first: arguments.first,
        reason: arguments.reason.clone(),
        despite_alarms: arguments.despite_alarm.iter().cloned().collect(),
        forward_only: arguments.forward_only,
        request: Some(arguments.common.key()?),
    };
    send_command(CommandKind::Deploy, &arguments.target, &request, &arguments.common, output).await
}

/// `switchback promote`
pub(super) async fn promote(arguments: &PromoteArguments, output: &mut Output) -> Result<Exit, Failure> {
    let request = PromoteRequest {
        release: arguments.release.clone(),
        reason: arguments.reason.clone(),
        forward_only: arguments.forward_only,
        request: Some(arguments.common.key()?),
    };
    send_command(CommandKind::Promote, &arguments.target, &request, &arguments.common, output).await
}

/// `switchback hotfix`
pub(super) async fn hotfix(arguments: &HotfixArguments, output: &mut Output) -> Result<Exit, Failure> {
    let request = HotfixRequest {
        release: arguments.release.clone(),
        reason: arguments.reason.clone(),
        forward_only: arguments.forward_only,
        request: Some(arguments.common.key()?),
    };
    send_command(CommandKind::Hotfix, &arguments.target, &request, &arguments.common, output).await
}

/// `switchback override`
pub(super) async fn override_gates(arguments: &OverrideArguments, output: &mut Output) -> Result<Exit, Failure> {
    let client = Client::new(&arguments.request_arguments.remote).await?;
    let deployment = match arguments.deployment {
        Some(number) => number,
        None => {
            let status: TargetStatus = client.get(&target_path(&arguments.target, "")).await?;
            let gated = status.state.running.filter(|running| running.stage() == Stage::Gated);
            gated.map(|running| running.number).ok_or_else(|| {
                let message = format!("no deployment is waiting at gates on {}: nothing was opened", arguments.target);
                Failure::Refused(Refusal::new(409, "not_waiting", message))
            })?
        }
    };
    let request = OverrideRequest {
        deployment,
        gates: arguments.gate.iter().copied().collect(),
        reason: arguments.reason.clone(),
        request: Some(arguments.request_arguments.key()?),
    };
    send_and_report("override", &client, &arguments.target, &request, output).await
}

/// `switchback resume`
pub(super) async fn resume(arguments: &ResumeArguments, output: &mut Output) -> Result<Exit, Failure> {
    let client = Client::new(&arguments.request_arguments.remote).await?;
    let request = ResumeRequest { reason: arguments.reason.clone(), request: Some(arguments.request_arguments.key()?) };
    send_and_report("resume", &client, &arguments.target, &request, output).await
}

/// Submits a command whose outcome is not waited for.
pub(super) async fn send_and_report(
    verb: &str,
    client: &Client,
    target: &TargetId,
    request: &impl Serialize,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let answer: CommandResponse = client.post(&target_path(target, verb), request).await?;
    output.result(&answer, |_| accepted(accepted_command(verb, &answer), false));
    Ok(Exit::Done)
}

/// An accepted command, as `view` reports it.
pub(super) fn accepted_command<'a>(verb: &'a str, answer: &'a CommandResponse) -> AcceptedCommand<'a> {
    AcceptedCommand {
        verb,
        target: &answer.target,
        release: answer.release.as_ref().map(|release| (release.tag.as_str(), release.id.digest.short())),
        deployment: answer.deployment,
        actor: &answer.actor,
        new: answer.new,
        woken: answer.woken,
    }
}

/// `switchback abort`
pub(super) async fn abort(arguments: &AbortArguments, output: &mut Output) -> Result<Exit, Failure> {
    let request = AbortRequest {
        deployment: arguments.deployment,
        reason: arguments.reason.clone(),
        request: Some(arguments.common.key()?),
    };
    send_command(CommandKind::Abort, &arguments.target, &request, &arguments.common, output).await
}

/// `switchback rollback`
pub(super) async fn rollback(arguments: &RollbackArguments, output: &mut Output) -> Result<Exit, Failure> {
    let request = RollbackRequest { reason: arguments.reason.clone(), request: Some(arguments.common.key()?) };
    send_command(CommandKind::Rollback, &arguments.target, &request, &arguments.common, output).await
}

async fn send_command(
    kind: CommandKind,
    target: &TargetId,
    request: &impl Serialize,
    common: &WaitableArguments,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let client = Client::new(&common.request_arguments.remote).await?;
    let answer: CommandResponse = client.post(&target_path(target, kind.verb()), request).await?;
    output.asked(&answer, common.wait);
    output.say(&accepted(accepted_command(kind.verb(), &answer), common.wait));
    if common.wait { follow(&client, kind, &[answer], &common.wait_options, output).await } else { Ok(Exit::Done) }
}
