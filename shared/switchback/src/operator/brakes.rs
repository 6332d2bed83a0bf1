//! `freeze`, `unfreeze`, `stop-the-line`, `resume-the-line`, `brakes`: holds on deployments, whoever requests them.

use super::client::{Client, RemoteArguments};
use super::exit::Exit;
use super::failure::Failure;
use super::output::Output;
use api::{
    BrakeResponse, BrakesResponse, FreezeRequest, ResumeRequest, StopTheLineRequest, TargetsResponse, UnfreezeRequest,
};
use rollout::Name;
use serde::Serialize;
use std::collections::BTreeSet;

/// Let nothing begin in an application, or in one of its environments. Rollbacks are never held.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct FreezeArguments {
    #[command(flatten)]
    scope: FreezeScope,
    /// Until when: a time such as `2026-12-24T18:00:00Z`, or for how long, such as `4h`; without it, until `unfreeze`.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Why, for the record.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    pub(super) common: RemoteArguments,
}

/// Lift a freeze: what waits for it goes on.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct UnfreezeArguments {
    #[command(flatten)]
    scope: FreezeScope,
    /// Why, for the record.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    pub(super) common: RemoteArguments,
}

#[derive(Debug, Clone, clap::Args)]
struct FreezeScope {
    /// The application; needed where there are several.
    #[arg(long, visible_alias = "application", value_name = "NAME")]
    app: Option<Name>,
    /// Only this environment of it.
    #[arg(long, visible_alias = "environment", value_name = "NAME")]
    env: Option<Name>,
}

/// Let nothing begin anywhere, and let what runs widen no further. Alarms still switch back, and rollbacks are never held.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct StopTheLineArguments {
    /// Until when: a time such as `2026-12-24T18:00:00Z`, or for how long, such as `4h`; without it, until
    /// `resume-the-line`.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Why, for the record.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    pub(super) common: RemoteArguments,
}

/// Let the stopped line go on.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ResumeTheLineArguments {
    /// Why, for the record.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    pub(super) common: RemoteArguments,
}

/// Say which freezes are on, and whether the line runs.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct BrakesArguments {
    /// Also list who set and lifted which brake, when and why.
    #[arg(long)]
    log: bool,
    /// Number of log entries, newest first; 1 to 200.
    #[arg(long, short = 'n', default_value_t = 20, value_name = "N", requires = "log",
        value_parser = clap::value_parser!(u16).range(1..=200))]
    limit: u16,
    #[command(flatten)]
    pub(super) common: RemoteArguments,
}

/// `switchback freeze`
pub(super) async fn freeze(arguments: &FreezeArguments, output: &mut Output) -> Result<Exit, Failure> {
    let client = Client::new(&arguments.common.remote).await?;
    let request = FreezeRequest {
        application: application(&client, &arguments.scope).await?,
        environment: arguments.scope.env.clone(),
        until: arguments.until.clone(),
        reason: arguments.reason.clone(),
    };
    post_brake_change(&client, "/v1/freeze", &request, output).await
}

/// `switchback unfreeze`
pub(super) async fn unfreeze(arguments: &UnfreezeArguments, output: &mut Output) -> Result<Exit, Failure> {
    let client = Client::new(&arguments.common.remote).await?;
    let request = UnfreezeRequest {
        application: application(&client, &arguments.scope).await?,
        environment: arguments.scope.env.clone(),
        reason: arguments.reason.clone(),
    };
    post_brake_change(&client, "/v1/unfreeze", &request, output).await
}

/// `switchback stop-the-line`
pub(super) async fn stop_the_line(arguments: &StopTheLineArguments, output: &mut Output) -> Result<Exit, Failure> {
    let client = Client::new(&arguments.common.remote).await?;
    let request = StopTheLineRequest { until: arguments.until.clone(), reason: arguments.reason.clone() };
    post_brake_change(&client, "/v1/stop-the-line", &request, output).await
}

/// `switchback resume-the-line`
pub(super) async fn resume_the_line(arguments: &ResumeTheLineArguments, output: &mut Output) -> Result<Exit, Failure> {
    let client = Client::new(&arguments.common.remote).await?;
    let request = ResumeRequest { reason: arguments.reason.clone(), request: None };
    post_brake_change(&client, "/v1/resume-the-line", &request, output).await
}

/// `switchback brakes`
pub(super) async fn brakes(arguments: &BrakesArguments, output: &mut Output) -> Result<Exit, Failure> {
    let client = Client::new(&arguments.common.remote).await?;
    let answer: BrakesResponse = client.get(&format!("/v1/brakes?limit={}", arguments.limit)).await?;
    output.result(&answer, |paint| view::brake::brakes(&answer.brakes, answer.at, paint));
    if arguments.log {
        output.say(&format!("\n{}\n", output.paint.strong("What was done")));
        output.say(&view::brake::log(&answer.log, output.paint));
    }
    Ok(Exit::Done)
}

async fn post_brake_change(
    client: &Client,
    path: &str,
    request: &impl Serialize,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let answer: BrakeResponse = client.post(path, request).await?;
    let BrakeResponse { brake, lifted, instead_of, woken, at } = &answer;
    output.result(&answer, |_| match lifted {
        Some(lifted) => view::brake::lifted(brake, lifted, woken.len()),
        None => view::brake::set(brake, instead_of.as_ref(), *at),
    });
    Ok(Exit::Done)
}

/// The application to act on: the one named, or the only one that exists.
async fn application(client: &Client, scope: &FreezeScope) -> Result<Name, Failure> {
    if let Some(name) = &scope.app {
        return Ok(name.clone());
    }
    let answer: TargetsResponse = client.get("/v1/targets").await?;
    let applications: BTreeSet<Name> = answer.targets.into_iter().map(|target| target.target.application).collect();
    let names: Vec<String> = applications.iter().map(ToString::to_string).collect();
    match (applications.into_iter().next(), names.len()) {
        (Some(only), 1) => Ok(only),
        (None, _) => Err(Failure::Usage("there is no application yet: apply a switchback.yaml first".to_owned())),
        (Some(_), count) => {
            Err(Failure::Usage(format!("there are {count} applications ({}): name one with --app", names.join(", "))))
        }
    }
}
