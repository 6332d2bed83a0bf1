//! `history`, `journal`, `releases`, `explain`.

use super::client::{Client, Remote};
use super::exit::Exit;
use super::failure::Failure;
use super::output::Output;
use super::status::target_detail;
use super::target_path;
use engine::operate::{HistoryResponse, JournalResponse, ReleasesResponse, TargetStatus};
use rollout::{Name, TargetId};
use serde_json::json;

/// Number of journal entries at the end of an explanation.
const LAST_ENTRIES: usize = 10;

/// A question about one target.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct TargetArguments {
    /// application/service/environment
    target: TargetId,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    remote: Remote,
}

/// A list of one target's.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ListArguments {
    /// application/service/environment
    target: TargetId,
    /// At most so many, the newest; 1 to 200.
    #[arg(long, short = 'n', default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=200))]
    limit: u16,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    remote: Remote,
}

/// The releases of a service.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ReleasesArguments {
    /// application/service
    #[arg(value_parser = service)]
    service: (Name, Name),
    /// At most so many, the newest; 1 to 200.
    #[arg(long, short = 'n', default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=200))]
    limit: u16,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    remote: Remote,
}

fn service(text: &str) -> Result<(Name, Name), String> {
    let invalid = || format!("`{text}` is not a service: write application/service");
    let (application, service) = text.split_once('/').ok_or_else(invalid)?;
    match (Name::new(application), Name::new(service)) {
        (Ok(application), Ok(service)) => Ok((application, service)),
        _ => Err(invalid()),
    }
}

/// `switchback history`
pub(super) async fn history(arguments: &ListArguments, output: &mut Output) -> Result<Exit, Failure> {
    let path = target_path(&arguments.target, &format!("history?limit={}", arguments.limit));
    let answer: HistoryResponse = Client::new(&arguments.remote).await?.get(&path).await?;
    output.document(&answer);
    output.say(&view::history::deployments(&answer.deployments, answer.at));
    Ok(Exit::Done)
}

/// `switchback journal`
pub(super) async fn journal(arguments: &ListArguments, output: &mut Output) -> Result<Exit, Failure> {
    let path = target_path(&arguments.target, &format!("journal?limit={}", arguments.limit));
    let answer: JournalResponse = Client::new(&arguments.remote).await?.get(&path).await?;
    output.document(&answer);
    output.say(&view::history::entries(&answer.entries, output.paint));
    Ok(Exit::Done)
}

/// `switchback releases`
pub(super) async fn releases(arguments: &ReleasesArguments, output: &mut Output) -> Result<Exit, Failure> {
    let (application, service) = &arguments.service;
    let path = format!("/v1/releases/{application}/{service}?limit={}", arguments.limit);
    let answer: ReleasesResponse = Client::new(&arguments.remote).await?.get(&path).await?;
    output.document(&answer);
    output.say(&view::history::releases(&answer.releases, answer.at));
    Ok(Exit::Done)
}

/// `switchback explain`
pub(super) async fn explain(arguments: &TargetArguments, output: &mut Output) -> Result<Exit, Failure> {
    let client = Client::new(&arguments.remote).await?;
    let status: TargetStatus = client.get(&target_path(&arguments.target, "")).await?;
    let path = target_path(&arguments.target, &format!("journal?limit={LAST_ENTRIES}"));
    let JournalResponse { entries } = client.get(&path).await?;
    let words = view::explain::explain(target_detail(&status), &entries, output.paint);
    output.document(&json!({
        "target": status.state.target,
        "stage": status.state.running.as_ref().map(|running| running.stage().name()),
        "deadline": status.state.running.as_ref().map(|running| running.phase.deadline()),
        "explanation": status.state.explanation,
        "promotion_hold": status.state.promotion_hold,
        "operator_hold": status.state.operator_hold,
        "brakes": status.brakes,
        "words": words,
        "last_entries": entries,
        "at": status.at,
    }));
    output.say(&words);
    Ok(Exit::Done)
}
