//! `train`: deploys several services to an environment as one set, dependencies first.

use super::client::Client;
use super::commands::{WaitableArguments, accepted_command};
use super::exit::Exit;
use super::failure::Failure;
use super::follow::{CommandKind, follow};
use super::output::Output;
use api::{TrainRequest, TrainResponse};
use rollout::Name;

/// Bring several services to an environment as one set: in the order of `depends_on`, all of them checked before any
/// is asked for. Whether the set goes back as a whole is the policy's to say.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct TrainArguments {
    /// The application.
    application: Name,
    /// The environment.
    environment: Name,
    /// The services and their releases, as `service=release`; a service alone: the newest that the environments before
    /// have verified; none at all: every service of the environment with that.
    #[arg(value_name = "SERVICE=RELEASE", value_parser = member)]
    members: Vec<(Name, Option<String>)>,
    /// Why, for the record.
    #[arg(long, default_value = "")]
    reason: String,
    /// No automatic rollback for any of them: in trouble the target awaits an operator.
    #[arg(long)]
    forward_only: bool,
    #[command(flatten)]
    pub(super) common: WaitableArguments,
}

/// Parses `api=v1` or `api`, for clap.
fn member(text: &str) -> Result<(Name, Option<String>), String> {
    let (service, release) = match text.split_once('=') {
        Some((_, "")) => return Err(format!("`{text}` names no release: write service=release, or the service alone")),
        Some((service, release)) => (service, Some(release.to_owned())),
        None => (text, None),
    };
    let service = Name::new(service).map_err(|error| error.to_string())?;
    Ok((service, release))
}

/// `switchback train`
pub(super) async fn train(arguments: &TrainArguments, output: &mut Output) -> Result<Exit, Failure> {
    let mut request = TrainRequest {
        application: arguments.application.clone(),
        environment: arguments.environment.clone(),
        releases: arguments.members.iter().cloned().collect(),
        reason: arguments.reason.clone(),
        forward_only: arguments.forward_only,
        request: None,
    };
    if request.releases.len() < arguments.members.len() {
        return Err(Failure::Usage("a service is named twice: name each once".to_owned()));
    }
    request.request = Some(arguments.common.key()?);
    let client = Client::new(&arguments.common.request_arguments.remote).await?;
    let answer: TrainResponse = client.post("/v1/trains", &request).await?;
    let followed = arguments.common.wait;
    output.asked(&answer, followed);
    for target in &answer.already_there {
        output.say(&view::outcome::already_deployed(target));
    }
    for command in &answer.commands {
        output.say(&view::outcome::accepted(accepted_command("deploy", command), true));
    }
    if answer.commands.is_empty() {
        output.say("Every service runs what it is to run already: nothing was asked for.\n");
        return Ok(Exit::Done);
    }
    if followed {
        return follow(&client, CommandKind::Deploy, &answer.commands, &arguments.common.wait_options, output).await;
    }
    let application = &arguments.application;
    output.say(&format!("See what becomes of them: `switchback status --application {application} --watch`.\n"));
    Ok(Exit::Done)
}
