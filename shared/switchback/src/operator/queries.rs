//! `history`, `journal`, `releases`, `explain`.

use super::client::{Client, RemoteArguments};
use super::exit::Exit;
use super::failure::Failure;
use super::output::Output;
use super::status::target_detail;
use super::target_path;
use api::{HistoryResponse, JournalResponse, ReleasesResponse, TargetStatus};
use rollout::{Name, TargetId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use view::Paint;

/// Number of journal entries at the end of an explanation.
const LAST_ENTRIES: usize = 10;

/// A question about one target.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct TargetArguments {
    /// application/service/environment
    target: TargetId,
    #[command(flatten)]
    pub(super) common: RemoteArguments,
}

/// A list of one target's.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ListArguments {
    /// application/service/environment
    target: TargetId,
    /// At most so many, the newest; 1 to 200.
    #[arg(long, short = 'n', default_value_t = 20, value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..=200))]
    limit: u16,
    #[command(flatten)]
    pub(super) common: RemoteArguments,
}

/// The releases of a service.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ReleasesArguments {
    /// application/service
    #[arg(value_parser = service)]
    service: (Name, Name),
    /// At most so many, the newest; 1 to 200.
    #[arg(long, short = 'n', default_value_t = 20, value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..=200))]
    limit: u16,
    #[command(flatten)]
    pub(super) common: RemoteArguments,
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
    query(&arguments.common, &path, output, |answer: &HistoryResponse, _| {
        view::history::deployments(&answer.deployments, answer.at)
    })
    .await
}

/// `switchback journal`
pub(super) async fn journal(arguments: &ListArguments, output: &mut Output) -> Result<Exit, Failure> {
    let path = target_path(&arguments.target, &format!("journal?limit={}", arguments.limit));
    query(&arguments.common, &path, output, |answer: &JournalResponse, paint| {
        view::history::entries(&answer.entries, paint)
    })
    .await
}

/// `switchback releases`
pub(super) async fn releases(arguments: &ReleasesArguments, output: &mut Output) -> Result<Exit, Failure> {
    let (application, service) = &arguments.service;
    let path = format!("/v1/releases/{application}/{service}?limit={}", arguments.limit);
    query(&arguments.common, &path, output, |answer: &ReleasesResponse, _| {
        view::history::releases(&answer.releases, answer.at)
    })
    .await
}

/// Sends one read request, and prints the response.
async fn query<T: DeserializeOwned + Serialize>(
    common: &RemoteArguments,
    path: &str,
    output: &mut Output,
    text: impl FnOnce(&T, Paint) -> String,
) -> Result<Exit, Failure> {
    let answer: T = Client::new(&common.remote).await?.get(path).await?;
    output.result(&answer, |paint| text(&answer, paint));
    Ok(Exit::Done)
}

/// `switchback explain`
pub(super) async fn explain(arguments: &TargetArguments, output: &mut Output) -> Result<Exit, Failure> {
    let client = Client::new(&arguments.common.remote).await?;
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
