//! The operator's commands: arguments, requests to a control plane, and output of the responses.
//!
//! All text about targets and deployments comes from `view`; this module handles arguments, requests, waiting and exit
//! codes.
//!
//! | module | what it does |
//! |---|---|
//! | [`validate`] | validates the policy file locally |
//! | [`apply`] | `plan` and `apply` |
//! | [`doctor`] | `doctor` |
//! | [`commands`] | `deploy`, `promote`, `hotfix`, `abort`, `rollback`, `override`, `resume` |
//! | [`decisions`] | `approve`, `reject` |
//! | [`train`] | `train` |
//! | [`brakes`] | `freeze`, `unfreeze`, `stop-the-line`, `resume-the-line`, `brakes` |
//! | [`ci`] | commands for GitHub Actions jobs, authenticated by GitHub's token |
//! | [`follow`] | `--wait`: follows a command to its end |
//! | [`status`] | `status` and `--watch` |
//! | [`queries`] | `history`, `journal`, `releases`, `explain` |
//! | [`exit`] | exit codes |
//! | [`failure`] | failures of commands |
//! | [`output`] | text, JSON, colours |
//! | [`client`], [`endpoint`], [`credentials`], [`http`] | signed HTTP |

mod apply;
mod brakes;
mod ci;
mod client;
mod commands;
mod credentials;
mod decisions;
mod doctor;
mod endpoint;
mod exit;
mod failure;
mod follow;
mod http;
mod output;
mod queries;
mod status;
mod train;
mod validate;

pub(crate) use exit::Exit;

use clap::Subcommand;
use failure::Failure;
use output::Output;
use rollout::{Seconds, TargetId};
use std::process::ExitCode;
use std::time::Duration;

/// What an operator can ask.
#[derive(Debug, Subcommand)]
pub(crate) enum OperatorCommand {
    /// Check a policy file offline: every problem with its line.
    Validate(validate::ValidateArguments),
    /// Print the JSON Schema of the policy file, for editors.
    Schema,
    /// Show what applying a policy file would change, or what a deployment would do.
    Plan(apply::PlanArguments),
    /// Apply a policy file: it becomes the application's policy.
    Apply(apply::ApplyArguments),
    /// Check the account for what would keep deployments from going well.
    Doctor(doctor::DoctorArguments),
    /// Deploy a release to a target.
    Deploy(commands::DeployArguments),
    /// Promote what the environments before have verified.
    Promote(commands::PromoteArguments),
    /// Deploy a release past the gates that the policy lists for hotfixes.
    Hotfix(commands::HotfixArguments),
    /// Deploy several services to an environment as one release train.
    Train(train::TrainArguments),
    /// Approve a deployment that waits for approval.
    Approve(decisions::ApproveArguments),
    /// Reject a deployment that waits for approval.
    Reject(decisions::RejectArguments),
    /// Open gates for the deployment that waits at them.
    Override(commands::OverrideArguments),
    /// Resume a target that awaits an operator after a forward-only release, or that its stable side's own alarm holds.
    Resume(commands::ResumeArguments),
    /// Show the status of targets.
    Status(status::StatusArguments),
    /// Explain why a target waits, until when, and what happens then.
    Explain(queries::TargetArguments),
    /// List a target's deployments.
    History(queries::ListArguments),
    /// List what happened on a target.
    Journal(queries::ListArguments),
    /// List a service's releases.
    Releases(queries::ReleasesArguments),
    /// Abort the running deployment: traffic back to the stable side.
    Abort(commands::AbortArguments),
    /// Roll back to the stable side or, if nothing runs, to the previous release.
    Rollback(commands::RollbackArguments),
    /// Request and wait from a GitHub Actions job, with GitHub's token instead of a stored key.
    #[command(subcommand)]
    Ci(ci::CiCommand),
    /// Freeze an application, or one of its environments: no deployment starts.
    Freeze(brakes::FreezeArguments),
    /// Lift a freeze.
    Unfreeze(brakes::UnfreezeArguments),
    /// Stop all rollouts: none starts, and running ones hold where they are.
    StopTheLine(brakes::StopTheLineArguments),
    /// Resume rollouts after stop-the-line.
    ResumeTheLine(brakes::ResumeTheLineArguments),
    /// List freezes, and whether rollouts are stopped.
    Brakes(brakes::BrakesArguments),
    /// Print the exit codes of all commands.
    ExitCodes,
}

/// Runs a command.
pub(crate) fn run(command: OperatorCommand) -> ExitCode {
    let mut output = Output::new(wants_json(&command));
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let failure = Failure::Unexpected(format!("no runtime: {error}"));
            return output.failed(&failure).into();
        }
    };
    let done = runtime.block_on(dispatch(command, &mut output));
    runtime.shutdown_background();
    match done {
        Ok(exit) => exit.into(),
        Err(failure) => output.failed(&failure).into(),
    }
}

async fn dispatch(command: OperatorCommand, output: &mut Output) -> Result<Exit, Failure> {
    match command {
        OperatorCommand::Validate(arguments) => validate::validate(&arguments, output),
        OperatorCommand::Schema => {
            output.say(policy::schema().trim_end());
            Ok(Exit::Done)
        }
        OperatorCommand::ExitCodes => {
            output.say(&Exit::table());
            Ok(Exit::Done)
        }
        OperatorCommand::Ci(command) => ci::run(&command).await,
        OperatorCommand::Plan(arguments) => apply::plan(&arguments, output).await,
        OperatorCommand::Apply(arguments) => apply::apply(&arguments, output).await,
        OperatorCommand::Doctor(arguments) => doctor::doctor(&arguments, output).await,
        OperatorCommand::Deploy(arguments) => commands::deploy(&arguments, output).await,
        OperatorCommand::Promote(arguments) => commands::promote(&arguments, output).await,
        OperatorCommand::Hotfix(arguments) => commands::hotfix(&arguments, output).await,
        OperatorCommand::Train(arguments) => train::train(&arguments, output).await,
        OperatorCommand::Approve(arguments) => decisions::approve(&arguments, output).await,
        OperatorCommand::Reject(arguments) => decisions::reject(&arguments, output).await,
        OperatorCommand::Override(arguments) => commands::override_gates(&arguments, output).await,
        OperatorCommand::Resume(arguments) => commands::resume(&arguments, output).await,
        OperatorCommand::Freeze(arguments) => brakes::freeze(&arguments, output).await,
        OperatorCommand::Unfreeze(arguments) => brakes::unfreeze(&arguments, output).await,
        OperatorCommand::StopTheLine(arguments) => brakes::stop_the_line(&arguments, output).await,
        OperatorCommand::ResumeTheLine(arguments) => brakes::resume_the_line(&arguments, output).await,
        OperatorCommand::Brakes(arguments) => brakes::brakes(&arguments, output).await,
        OperatorCommand::Abort(arguments) => commands::abort(&arguments, output).await,
        OperatorCommand::Rollback(arguments) => commands::rollback(&arguments, output).await,
        OperatorCommand::Status(arguments) => status::status(&arguments, output).await,
        OperatorCommand::Explain(arguments) => queries::explain(&arguments, output).await,
        OperatorCommand::History(arguments) => queries::history(&arguments, output).await,
        OperatorCommand::Journal(arguments) => queries::journal(&arguments, output).await,
        OperatorCommand::Releases(arguments) => queries::releases(&arguments, output).await,
    }
}

fn wants_json(command: &OperatorCommand) -> bool {
    match command {
        OperatorCommand::Validate(arguments) => arguments.json,
        OperatorCommand::Plan(arguments) => arguments.common.json,
        OperatorCommand::Apply(arguments) => arguments.json,
        OperatorCommand::Doctor(arguments) => arguments.common.json,
        OperatorCommand::Deploy(arguments) => arguments.common.json,
        OperatorCommand::Promote(arguments) => arguments.common.json,
        OperatorCommand::Hotfix(arguments) => arguments.common.json,
        OperatorCommand::Train(arguments) => arguments.common.json,
        OperatorCommand::Approve(arguments) => arguments.json,
        OperatorCommand::Reject(arguments) => arguments.json,
        OperatorCommand::Override(arguments) => arguments.json,
        OperatorCommand::Resume(arguments) => arguments.json,
        OperatorCommand::Freeze(arguments) => arguments.common.json,
        OperatorCommand::Unfreeze(arguments) => arguments.common.json,
        OperatorCommand::StopTheLine(arguments) => arguments.common.json,
        OperatorCommand::ResumeTheLine(arguments) => arguments.common.json,
        OperatorCommand::Brakes(arguments) => arguments.common.json,
        OperatorCommand::Abort(arguments) => arguments.common.json,
        OperatorCommand::Rollback(arguments) => arguments.common.json,
        OperatorCommand::Status(arguments) => arguments.json,
        OperatorCommand::Explain(arguments) => arguments.common.json,
        OperatorCommand::History(arguments) | OperatorCommand::Journal(arguments) => arguments.common.json,
        OperatorCommand::Releases(arguments) => arguments.common.json,
        OperatorCommand::Ci(_) | OperatorCommand::Schema | OperatorCommand::ExitCodes => false,
    }
}

/// URL path of a target's resource `what`.
fn target_path(target: &TargetId, what: &str) -> String {
    let slash = if what.is_empty() { "" } else { "/" };
    format!("/v1/targets/{target}{slash}{what}")
}

/// Parses `30m`, for clap.
fn duration(text: &str) -> Result<Seconds, String> {
    Seconds::parse(text).map_err(|error| error.to_string())
}

/// Parses `2s` or `500ms`, for clap: polling intervals.
fn interval(text: &str) -> Result<Duration, String> {
    match text.strip_suffix("ms").map(str::parse) {
        Some(Ok(milliseconds)) => Ok(Duration::from_millis(milliseconds)),
        Some(Err(_)) => Err(format!("`{text}` is not a pause: write `2s` or `500ms`")),
        None => Ok(Duration::from_secs(duration(text)?.0)),
    }
}
