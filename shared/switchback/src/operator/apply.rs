//! `plan` and `apply`: what a policy file changes, and what a deployment would do.

use super::client::{Client, Remote, RemoteArguments};
use super::exit::Exit;
use super::failure::Failure;
use super::output::{Output, confirm, warn};
use super::validate::PolicyFile;
use api::{ApplyRequest, ApplyResponse, PlanRequest, PlanResponse};
use rollout::TargetId;
use std::path::{Path, PathBuf};
use view::policy_file::{PolicyDifference, differences};

/// Used if no file is given.
const DEFAULT_FILE: &str = "switchback.yaml";

/// Look ahead. Nothing is changed.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct PlanArguments {
    /// The policy file; without it, `switchback.yaml`, or with --target what is applied.
    file: Option<PathBuf>,
    /// Also show what a deployment to this target would do: application/service/environment.
    #[arg(long, value_name = "TARGET")]
    target: Option<TargetId>,
    /// The release of that deployment: a tag, a digest, at least 7 of its digits, or `latest`.
    #[arg(long, requires = "target", default_value = "latest", value_name = "RELEASE")]
    release: String,
    #[command(flatten)]
    pub(super) common: RemoteArguments,
}

/// Make a policy file the one that stands.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ApplyArguments {
    /// The policy file; `-` is standard input.
    #[arg(default_value = DEFAULT_FILE)]
    file: PathBuf,
    /// Do not ask for confirmation.
    #[arg(long, short)]
    yes: bool,
    /// Print JSON; implies --yes.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    remote: Remote,
}

/// `switchback plan`
pub(super) async fn plan(arguments: &PlanArguments, output: &mut Output) -> Result<Exit, Failure> {
    let file = match (&arguments.file, &arguments.target) {
        (Some(file), _) => Some(PolicyFile::read(file)?),
        (None, None) => Some(PolicyFile::read(Path::new(DEFAULT_FILE))?),
        (None, Some(_)) => None,
    };
    if let Some(file) = &file {
        file.policy(output)?;
    }
    let request = PlanRequest {
        text: file.as_ref().map(PolicyFile::text),
        target: arguments.target.clone(),
        release: arguments.target.as_ref().map(|_| arguments.release.clone()),
    };
    let answer: PlanResponse = Client::new(&arguments.common.remote).await?.post("/v1/plan", &request).await?;
    output.document(&answer);
    if let Some(file) = &file {
        say_changes(file, &answer, output);
    }
    if let Some(deployment) = &answer.deployment {
        if file.is_some() {
            output.say("\n");
        }
        output.say(&view::plan::plan(deployment, output.paint));
    }
    Ok(Exit::Done)
}

/// `switchback apply`
pub(super) async fn apply(arguments: &ApplyArguments, output: &mut Output) -> Result<Exit, Failure> {
    let file = PolicyFile::read(&arguments.file)?;
    file.policy(output)?;
    let client = Client::new(&arguments.remote).await?;
    let text = file.text();
    if !output.json {
        let request = PlanRequest { text: Some(text.clone()), ..PlanRequest::default() };
        let answer: PlanResponse = client.post("/v1/plan", &request).await?;
        say_changes(&file, &answer, output);
        let nothing = answer.changes.as_ref().is_none_or(Vec::is_empty);
        // If nothing changes, no confirmation is needed: only the file's text is stored again.
        if !arguments.yes && !nothing && !confirm("Apply?", "give --yes to apply without asking", output)? {
            output.say("Nothing was applied.\n");
            return Ok(Exit::Refused);
        }
    }
    let answer: ApplyResponse = client.post("/v1/apply", &ApplyRequest { text }).await?;
    output.document(&answer);
    let (application, version) = (&answer.application, answer.version);
    if answer.unchanged {
        output.say(&format!("{application} stands at version {version} already.\n"));
    } else {
        output.say(&format!("Applied: {application} stands at version {version}.\n"));
    }
    for warning in &answer.warnings {
        warn(&format!("switchback: {warning}"));
    }
    Ok(Exit::Done)
}

fn say_changes(file: &PolicyFile, answer: &PlanResponse, output: &mut Output) {
    let changes = answer.changes.as_deref().unwrap_or_default();
    let targets: Vec<String> =
        changes.iter().map(|change| change.target.as_ref().map(ToString::to_string).unwrap_or_default()).collect();
    let words: Vec<PolicyDifference<'_>> = changes
        .iter()
        .zip(&targets)
        .map(|(change, target)| PolicyDifference {
            path: &change.path,
            target,
            before: change.before.as_deref(),
            after: change.after.as_deref(),
        })
        .collect();
    let against = match answer.version {
        Some(version) => format!("version {version}, which stands"),
        None => "nothing: it is the first version".to_owned(),
    };
    if words.is_empty() {
        output.say(&format!("{} changes nothing against {against}.\n", file.name()));
        return;
    }
    let count = if words.len() == 1 { "1 change".to_owned() } else { format!("{} changes", words.len()) };
    output.say(&format!("{}: {count} against {against}\n", file.name()));
    output.say(&differences(&words, output.paint));
}
