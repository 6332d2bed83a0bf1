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
pub(crate) enum Command {
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
    /// Resume a target that a forward-only release has frozen, or that the stable side's own alarm holds.
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
pub(crate) fn run(command: Command) -> ExitCode {
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

async fn dispatch(command: Command, output: &mut Output) -> Result<Exit, Failure> {
    match command {
        Command::Validate(arguments) => validate::validate(&arguments, output),
        Command::Schema => {
            output.json = true;
            output.document(&policy::schema());
            Ok(Exit::Done)
        }
        Command::ExitCodes => {
            output.say(&Exit::table());
            Ok(Exit::Done)
        }
        Command::Ci(command) => ci::run(&command).await,
        Command::Plan(arguments) => apply::plan(&arguments, output).await,
        Command::Apply(arguments) => apply::apply(&arguments, output).await,
        Command::Doctor(arguments) => doctor::doctor(&arguments, output).await,
        Command::Deploy(arguments) => commands::deploy(&arguments, output).await,
        Command::Promote(arguments) => commands::promote(&arguments, output).await,
        Command::Hotfix(arguments) => commands::hotfix(&arguments, output).await,
        Command::Train(arguments) => train::train(&arguments, output).await,
        Command::Approve(arguments) => decisions::approve(&arguments, output).await,
        Command::Reject(arguments) => decisions::reject(&arguments, output).await,
        Command::Override(arguments) => commands::override_gates(&arguments, output).await,
        Command::Resume(arguments) => commands::resume(&arguments, output).await,
        Command::Freeze(arguments) => brakes::freeze(&arguments, output).await,
        Command::Unfreeze(arguments) => brakes::unfreeze(&arguments, output).await,
        Command::StopTheLine(arguments) => brakes::stop_the_line(&arguments, output).await,
        Command::ResumeTheLine(arguments) => brakes::resume_the_line(&arguments, output).await,
        Command::Brakes(arguments) => brakes::brakes(&arguments, output).await,
        Command::Abort(arguments) => commands::abort(&arguments, output).await,
        Command::Rollback(arguments) => commands::rollback(&arguments, output).await,
        Command::Status(arguments) => status::status(&arguments, output).await,
        Command::Explain(arguments) => queries::explain(&arguments, output).await,
        Command::History(arguments) => queries::history(&arguments, output).await,
        Command::Journal(arguments) => queries::journal(&arguments, output).await,
        Command::Releases(arguments) => queries::releases(&arguments, output).await,
    }
}

fn wants_json(command: &Command) -> bool {
    match command {
        Command::Validate(arguments) => arguments.json,
        Command::Plan(arguments) => arguments.json,
        Command::Apply(arguments) => arguments.json,
        Command::Doctor(arguments) => arguments.json,
        Command::Deploy(arguments) => arguments.json,
        Command::Promote(arguments) => arguments.json,
        Command::Hotfix(arguments) => arguments.json,
        Command::Train(arguments) => arguments.json,
        Command::Approve(arguments) => arguments.json,
        Command::Reject(arguments) => arguments.json,
        Command::Override(arguments) => arguments.json,
        Command::Resume(arguments) => arguments.json,
        Command::Freeze(arguments) => arguments.json,
        Command::Unfreeze(arguments) => arguments.json,
        Command::StopTheLine(arguments) => arguments.json,
        Command::ResumeTheLine(arguments) => arguments.json,
        Command::Brakes(arguments) => arguments.json,
        Command::Abort(arguments) => arguments.json,
        Command::Rollback(arguments) => arguments.json,
        Command::Status(arguments) => arguments.json,
        Command::Explain(arguments) => arguments.json,
        Command::History(arguments) | Command::Journal(arguments) => arguments.json,
        Command::Releases(arguments) => arguments.json,
        Command::Ci(_) | Command::Schema | Command::ExitCodes => false,
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
