//! `ci`: commands for GitHub Actions jobs, without a stored key.
//!
//! GitHub gives the job a token that states its repository, ref, environment and workflow; the control plane checks
//! these against the grants in the policy file. All requests go to the function `promotions`, whose address is the
//! stack's output `PromotionsEndpoint`.
//!
//! | module | what it does |
//! |---|---|
//! | [`token`] | GitHub's token for this job: fetched, kept while valid, never shown |
//! | [`client`] | HTTPS with that token |
//! | [`watch`] | follows the requested deployments |
//! | [`report`] | log groups, annotations, the job's summary and the step's outputs |

mod client;
mod report;
mod token;
mod watch;

use super::exit::Exit;
use super::failure::Failure;
use super::{duration, interval};
use api::workflows::{PromotionRequest, PromotionResponse};
use clap::Subcommand;
use client::Client;
use report::Report;
use rollout::entry::Permission;
use rollout::release::Provenance;
use rollout::{Seconds, TargetId};
use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::{Duration, Instant};
use watch::{WaitLimit, Watched};

/// What a job can ask.
#[derive(Debug, Subcommand)]
pub(crate) enum CiCommand {
    /// Promote what the environments before have verified; several services of one environment are a release train.
    Promote(PromoteArguments),
    /// Deploy a release by name, as soon as its push is known.
    Deploy(DeployArguments),
    /// Wait for the deployment of a release, whoever requested it.
    Wait(WaitArguments),
}

/// Bring what the environments before have verified.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct PromoteArguments {
    /// application/service/environment, or application/service/environment=RELEASE; without a release, the newest that
    /// the environments before have verified.
    #[arg(required = true, value_name = "TARGET[=RELEASE]")]
    targets: Vec<TargetRelease>,
    #[command(flatten)]
    request_arguments: CiRequestArguments,
    #[command(flatten)]
    common: CiArguments,
}

/// Bring a release by its name.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DeployArguments {
    /// application/service/environment, or application/service/environment=RELEASE.
    #[arg(required = true, value_name = "TARGET[=RELEASE]")]
    targets: Vec<TargetRelease>,
    #[command(flatten)]
    request_arguments: CiRequestArguments,
    /// Take the hotfix lane: it skips the gates that the policy names, needs a grant of its own and a reason.
    #[arg(long)]
    hotfix: bool,
    #[command(flatten)]
    common: CiArguments,
}

/// Stay until a release's deployment is over.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct WaitArguments {
    /// application/service/environment, or application/service/environment=RELEASE.
    #[arg(required = true, value_name = "TARGET[=RELEASE]")]
    targets: Vec<TargetRelease>,
    /// A tag, a digest, or at least 7 of its first digits.
    #[arg(long)]
    release: Option<String>,
    #[command(flatten)]
    common: CiArguments,
}

#[derive(Debug, Clone, clap::Args)]
struct CiRequestArguments {
    /// For the targets that name none: a tag, a digest, or at least 7 of its first digits.
    #[arg(long)]
    release: Option<String>,
    /// Why, for the record; needed with --hotfix.
    #[arg(long, default_value = "")]
    reason: String,
    /// No automatic rollback (for example after a migration): in trouble the target awaits an operator.
    #[arg(long)]
    forward_only: bool,
    /// The commit that the release was built from, for the record, where it is not this job's.
    #[arg(long, value_name = "SHA")]
    commit: Option<String>,
    /// How long to wait for a push that Switchback has not heard of yet.
    #[arg(long, default_value = "5m", value_parser = duration, value_name = "DURATION")]
    release_within: Seconds,
    /// Send the request and do not wait for the outcome.
    #[arg(long)]
    no_wait: bool,
}

#[derive(Debug, Clone, clap::Args)]
struct CiArguments {
    /// URL of the stack's output `PromotionsEndpoint`.
    #[arg(long, env = "SWITCHBACK_CI_ENDPOINT", value_name = "URL")]
    endpoint: Option<String>,
    /// Audience of GitHub's token: the stack's parameter `GitHubAudience`.
    #[arg(long, env = "SWITCHBACK_CI_AUDIENCE", default_value = "switchback", value_name = "NAME")]
    audience: String,
    /// Longest wait; the deployment itself continues.
    #[arg(long = "for", default_value = "30m", value_parser = duration, value_name = "DURATION")]
    wait_limit: Seconds,
    /// Interval between two looks while waiting.
    #[arg(long, default_value = "5s", value_parser = interval, value_name = "PAUSE")]
    every: Duration,
}

impl CiArguments {
    fn client(&self) -> Result<Client, Failure> {
        let Some(endpoint) = self.endpoint.as_deref().filter(|endpoint| !endpoint.is_empty()) else {
            return Err(Failure::Usage(
                "no control plane is named: set SWITCHBACK_CI_ENDPOINT, or give --endpoint, to the output \
                 `PromotionsEndpoint` of its stack"
                    .to_owned(),
            ));
        };
        Client::new(endpoint, &self.audience)
    }

    fn wait_limit(&self) -> WaitLimit {
        WaitLimit {
            until: Instant::now() + Duration::from_secs(self.wait_limit.0),
            total: self.wait_limit,
            every: self.every,
        }
    }
}

/// A target, and optionally the release requested for it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TargetRelease {
    target: TargetId,
    release: Option<String>,
}

impl FromStr for TargetRelease {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (target, release) = match text.split_once('=') {
            Some((_, "")) => return Err(format!("`{text}`: write a release behind the `=`, or leave both out")),
            Some((target, release)) => (target, Some(release.to_owned())),
            None => (text, None),
        };
        let target = TargetId::parse(target).map_err(|error| error.to_string())?;
        Ok(Self { target, release })
    }
}

/// Runs a job's command. Its result, whatever it is, goes to log, summary and outputs.
pub(super) async fn run(command: &CiCommand) -> Result<Exit, Failure> {
    let (title, target_releases) = match command {
        CiCommand::Promote(arguments) => ("promote", &arguments.targets),
        CiCommand::Deploy(arguments) if arguments.hotfix => ("hotfix", &arguments.targets),
        CiCommand::Deploy(arguments) => ("deploy", &arguments.targets),
        CiCommand::Wait(arguments) => ("wait", &arguments.targets),
    };
    let mut report =
        Report::new(title, target_releases.iter().map(|target_release| target_release.target.to_string()).collect());
    let done = match command {
        CiCommand::Promote(arguments) => {
            let PromoteArguments { targets, request_arguments, common } = arguments;
            send_request(Permission::Promote, targets, request_arguments, common, &mut report).await
        }
        CiCommand::Deploy(arguments) => {
            let DeployArguments { targets, request_arguments, hotfix, common } = arguments;
            let permission = if *hotfix { Permission::Hotfix } else { Permission::Deploy };
            send_request(permission, targets, request_arguments, common, &mut report).await
        }
        CiCommand::Wait(arguments) => wait(arguments, &mut report).await,
    };
    match done {
        Ok(exit) => {
            report.finish(exit);
            Ok(exit)
        }
        Err(failure) => {
            // The full message, made harmless: the runner interprets lines of standard error as commands, too.
            report.failed(&failure);
            Ok(failure.exit())
        }
    }
}

async fn send_request(
    permission: Permission,
    target_releases: &[TargetRelease],
    request_arguments: &CiRequestArguments,
    common: &CiArguments,
    report: &mut Report,
) -> Result<Exit, Failure> {
    let request = request(permission, target_releases, request_arguments)?;
    let mut client = common.client()?;
    let wait_limit = common.wait_limit();
    let release_deadline =
        wait_limit.until.min(Instant::now() + Duration::from_secs(request_arguments.release_within.0));
    let answer = loop {
        match client.post::<PromotionResponse>("/v1/promotions", &request).await {
            Err(Failure::Refused(refusal))
                if refusal.code == "unknown_release" && Instant::now() < release_deadline =>
            {
                report.note(&format!("Not known yet, its push may be on its way: {}", refusal.message));
                tokio::time::sleep(common.every).await;
            }
            answer => break answer?,
        }
    };
    let mut watched: Vec<Watched> = answer.asked.iter().map(Watched::asked).collect();
    for target in &answer.already_there {
        report.already_there(target);
    }
    for asked in &answer.asked {
        report.accepted(permission, asked, !request_arguments.no_wait);
    }
    if request_arguments.no_wait {
        report.left(&watched);
        return Ok(Exit::Done);
    }
    watch::watch(&mut client, &mut watched, &wait_limit, report).await
}

async fn wait(arguments: &WaitArguments, report: &mut Report) -> Result<Exit, Failure> {
    let mut watched = Vec::new();
    for TargetRelease { target, release } in &arguments.targets {
        let Some(release) = release.as_ref().or(arguments.release.as_ref()) else {
            return Err(Failure::Usage(format!("`{target}`: name the release to wait for, by =RELEASE or --release")));
        };
        watched.push(Watched::named(target.clone(), release));
    }
    let mut client = arguments.common.client()?;
    watch::watch(&mut client, &mut watched, &arguments.common.wait_limit(), report).await
}

/// Requests all deployments in a single request, which succeeds or fails as a whole.
fn request(
    permission: Permission,
    target_releases: &[TargetRelease],
    request_arguments: &CiRequestArguments,
) -> Result<PromotionRequest, Failure> {
    let Some(TargetRelease { target: first, .. }) = target_releases.first() else {
        return Err(Failure::Usage("no target is named".to_owned()));
    };
    let mut services = BTreeMap::new();
    for TargetRelease { target, release } in target_releases {
        if (&target.application, &target.environment) != (&first.application, &first.environment) {
            return Err(Failure::Usage(format!(
                "`{first}` and `{target}` are not of one environment: ask for each environment by itself"
            )));
        }
        let release = release.clone().or_else(|| request_arguments.release.clone());
        if release.is_none() && permission != Permission::Promote {
            return Err(Failure::Usage(format!("`{target}`: name the release, by =RELEASE or --release")));
        }
        if services.insert(target.service.clone(), release).is_some() {
            return Err(Failure::Usage(format!("`{target}` is named twice")));
        }
    }
    if permission == Permission::Hotfix && request_arguments.reason.trim().is_empty() {
        return Err(Failure::Usage("--hotfix needs a --reason, for the record".to_owned()));
    }
    let provenance = request_arguments
        .commit
        .as_ref()
        .map(|commit| Provenance { commit: Some(commit.clone()), ..Provenance::default() });
    Ok(PromotionRequest {
        kind: permission,
        application: first.application.clone(),
        environment: first.environment.clone(),
        services,
        reason: request_arguments.reason.clone(),
        forward_only: request_arguments.forward_only,
        provenance,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request_arguments() -> CiRequestArguments {
        CiRequestArguments {
            release: None,
            reason: String::new(),
            forward_only: false,
            commit: None,
            release_within: Seconds(300),
            no_wait: false,
        }
    }

    fn target_releases(texts: &[&str]) -> Vec<TargetRelease> {
        texts.iter().map(|text| text.parse().expect("a target")).collect()
    }

    #[test]
    fn several_services_of_one_environment_are_one_request() {
        let request_arguments = CiRequestArguments { release: Some("v2".to_owned()), ..request_arguments() };
        let found =
            request(Permission::Promote, &target_releases(&["shop/api/prod=v3", "shop/web/prod"]), &request_arguments)
                .expect("a request");
        let services: Vec<(&str, Option<&str>)> =
            found.services.iter().map(|(name, release)| (name.as_str(), release.as_deref())).collect();
        assert_eq!(services, [("api", Some("v3")), ("web", Some("v2"))]);
        assert_eq!((found.application.as_str(), found.environment.as_str()), ("shop", "prod"));
    }

    #[test]
    fn invalid_requests_are_refused_before_sending() {
        for (permission, texts) in [
            (Permission::Promote, vec!["shop/api/prod", "shop/api/staging"]),
            (Permission::Promote, vec!["shop/api/prod", "shop/api/prod=v3"]),
            (Permission::Deploy, vec!["shop/api/prod"]),
            (Permission::Hotfix, vec!["shop/api/prod=v3"]),
        ] {
            let failure = request(permission, &target_releases(&texts), &request_arguments()).expect_err("no request");
            assert_eq!(failure.exit(), Exit::Usage, "{texts:?}");
        }
        for text in ["shop/api", "shop/api/prod=", "=v1"] {
            assert!(text.parse::<TargetRelease>().is_err(), "{text}");
        }
    }
}
