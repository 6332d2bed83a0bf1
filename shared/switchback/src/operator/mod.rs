//! The operator's commands: what they ask a control plane, and what they say of its answers.
//!
//! Every word about targets and deployments is `view`'s; here are arguments, requests, waiting and exit codes.
//!
//! | module | what it does |
//! |---|---|
//! | [`validate`] | the policy file, on this machine alone |
//! | [`apply`] | `plan` and `apply` |
//! | [`doctor`] | `doctor` |
//! | [`asking`] | `deploy`, `promote`, `hotfix`, `abort`, `rollback`, `override`, `resume` |
//! | [`deciding`] | `approve`, `reject` |
//! | [`train`] | `train` |
//! | [`braking`] | `freeze`, `unfreeze`, `stop-the-line`, `resume-the-line`, `brakes` |
//! | [`ci`] | what a job of GitHub Actions asks, with GitHub's token |
//! | [`follow`] | `--wait`: what becomes of what was asked |
//! | [`status`] | `status` and `--watch` |
//! | [`questions`] | `history`, `journal`, `releases`, `explain` |
//! | [`exit`] | exit codes |
//! | [`failure`] | what can go wrong |
//! | [`output`] | words, JSON, colours |
//! | [`client`], [`endpoint`], [`credentials`], [`http`] | signed HTTP |

mod apply;
mod asking;
mod braking;
mod ci;
mod client;
mod credentials;
mod deciding;
mod doctor;
mod endpoint;
mod exit;
mod failure;
mod follow;
mod http;
mod output;
mod questions;
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
    Deploy(asking::DeployArguments),
    /// Promote what the environments before have verified.
    Promote(asking::PromoteArguments),
    /// Deploy a release past the gates that the policy lists for hotfixes.
    Hotfix(asking::HotfixArguments),
    /// Deploy several services to an environment as one release train.
    Train(train::TrainArguments),
    /// Approve a deployment that waits for approval.
    Approve(deciding::ApproveArguments),
    /// Reject a deployment that waits for approval.
    Reject(deciding::RejectArguments),
    /// Open gates for the deployment that waits at them.
    Override(asking::OverrideArguments),
    /// Resume a target that a forward-only release has frozen, or that the stable side's own alarm holds.
    Resume(asking::ResumeArguments),
    /// Show the status of targets.
    Status(status::StatusArguments),
    /// Explain why a target waits, until when, and what happens then.
    Explain(questions::TargetArguments),
    /// List a target's deployments.
    History(questions::ListArguments),
    /// List what happened on a target.
    Journal(questions::ListArguments),
    /// List a service's releases.
    Releases(questions::ReleasesArguments),
    /// Abort the running deployment: traffic back to the stable side.
    Abort(asking::AbortArguments),
    /// Roll back to the stable side or, if nothing runs, to the previous release.
    Rollback(asking::RollbackArguments),
    /// Request and wait from a GitHub Actions job, with GitHub's token instead of a stored key.
    #[command(subcommand)]
    Ci(ci::CiCommand),
    /// Freeze an application, or one of its environments: no deployment starts.
    Freeze(braking::FreezeArguments),
    /// Lift a freeze.
    Unfreeze(braking::UnfreezeArguments),
    /// Stop all rollouts: none starts, and running ones hold where they are.
    StopTheLine(braking::StopTheLineArguments),
    /// Resume rollouts after stop-the-line.
    ResumeTheLine(braking::ResumeTheLineArguments),
    /// List freezes, and whether rollouts are stopped.
    Brakes(braking::BrakesArguments),
    /// Print the exit codes of all commands.
    ExitCodes,
}

/// Does what is asked.
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
        Command::Deploy(arguments) => asking::deploy(&arguments, output).await,
        Command::Promote(arguments) => asking::promote(&arguments, output).await,
        Command::Hotfix(arguments) => asking::hotfix(&arguments, output).await,
        Command::Train(arguments) => train::train(&arguments, output).await,
        Command::Approve(arguments) => deciding::approve(&arguments, output).await,
        Command::Reject(arguments) => deciding::reject(&arguments, output).await,
        Command::Override(arguments) => asking::open_gates(&arguments, output).await,
        Command::Resume(arguments) => asking::resume(&arguments, output).await,
        Command::Freeze(arguments) => braking::freeze(&arguments, output).await,
        Command::Unfreeze(arguments) => braking::unfreeze(&arguments, output).await,
        Command::StopTheLine(arguments) => braking::stop_the_line(&arguments, output).await,
        Command::ResumeTheLine(arguments) => braking::resume_the_line(&arguments, output).await,
        Command::Brakes(arguments) => braking::brakes(&arguments, output).await,
        Command::Abort(arguments) => asking::abort(&arguments, output).await,
        Command::Rollback(arguments) => asking::rollback(&arguments, output).await,
        Command::Status(arguments) => status::status(&arguments, output).await,
        Command::Explain(arguments) => questions::explain(&arguments, output).await,
        Command::History(arguments) => questions::history(&arguments, output).await,
        Command::Journal(arguments) => questions::journal(&arguments, output).await,
        Command::Releases(arguments) => questions::releases(&arguments, output).await,
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

/// The path of a target, and of what is asked of it.
fn target_path(target: &TargetId, what: &str) -> String {
    let slash = if what.is_empty() { "" } else { "/" };
    format!("/v1/targets/{target}{slash}{what}")
}

/// `30m`, for clap.
fn duration(text: &str) -> Result<Seconds, String> {
    Seconds::parse(text).map_err(|error| error.to_string())
}

/// `2s` or `500ms`, for clap: pauses between two questions.
fn pause(text: &str) -> Result<Duration, String> {
    match text.strip_suffix("ms").map(str::parse) {
        Some(Ok(milliseconds)) => Ok(Duration::from_millis(milliseconds)),
        Some(Err(_)) => Err(format!("`{text}` is not a pause: write `2s` or `500ms`")),
        None => Ok(Duration::from_secs(duration(text)?.0)),
    }
}
