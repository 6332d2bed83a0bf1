//! `deploy`, `abort`, `rollback`: a command is taken down; with `--wait`, it is followed to its end.

use super::client::{Client, Remote};
use super::exit::Exit;
use super::failure::Failure;
use super::follow::{Patience, Wish, follow};
use super::output::Output;
use super::target_path;
use engine::operate::{AbortRequest, CommandAnswer, DeployRequest, RollbackRequest};
use rollout::TargetId;
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
    /// An alarm that may fire at the start, taken upon yourself; may be given several times.
    #[arg(long, value_name = "NAME")]
    despite_alarm: Vec<String>,
    #[command(flatten)]
    common: Common,
    /// Print JSON; with --wait, a line for each thing that happens.
    #[arg(long)]
    pub(super) json: bool,
}

/// End the running deployment.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct AbortArguments {
    /// application/service/environment
    target: TargetId,
    /// Only if this deployment is the running one.
    #[arg(long, value_name = "N")]
    deployment: Option<u64>,
    /// Why, for the record.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    common: Common,
    /// Print JSON; with --wait, a line for each thing that happens.
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
    /// Print JSON; with --wait, a line for each thing that happens.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Clone, clap::Args)]
struct Common {
    /// Stay until it is over, and let the exit code tell how it ended.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    patience: Patience,
    /// Your own key, such as the id of a CI run: asking twice with one key is asking once.
    #[arg(long, value_name = "KEY")]
    request: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

impl Common {
    /// The key of this asking. A new one is made once, so that asking again after a lost answer is no second asking.
    fn key(&self) -> Result<String, Failure> {
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
        request: Some(arguments.common.key()?),
    };
    ask(Wish::Deploy, &arguments.target, &request, &arguments.common, output).await
}

/// `switchback abort`
pub(super) async fn abort(arguments: &AbortArguments, output: &mut Output) -> Result<Exit, Failure> {
    let request = AbortRequest {
        deployment: arguments.deployment,
        reason: arguments.reason.clone(),
        request: Some(arguments.common.key()?),
    };
    ask(Wish::Abort, &arguments.target, &request, &arguments.common, output).await
}

/// `switchback rollback`
pub(super) async fn rollback(arguments: &RollbackArguments, output: &mut Output) -> Result<Exit, Failure> {
    let request = RollbackRequest { reason: arguments.reason.clone(), request: Some(arguments.common.key()?) };
    ask(Wish::Rollback, &arguments.target, &request, &arguments.common, output).await
}

async fn ask(
    wish: Wish,
    target: &TargetId,
    request: &impl Serialize,
    common: &Common,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let client = Client::new(&common.remote).await?;
    let answer: CommandAnswer = client.post(&target_path(target, wish.verb()), request).await?;
    if common.wait {
        output.event("asked", &answer);
    } else {
        output.document(&answer);
    }
    let words = Taken {
        verb: wish.verb(),
        target: &answer.target,
        release: answer.release.as_ref().map(|release| (release.tag.as_str(), release.id.digest.short())),
        deployment: answer.deployment,
        actor: &answer.actor,
        new: answer.new,
        woken: answer.woken,
    };
    output.say(&taken(words, common.wait));
    if common.wait { follow(&client, wish, &answer, &common.patience, output).await } else { Ok(Exit::Done) }
}
