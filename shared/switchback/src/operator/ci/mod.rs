//! `ci`: what a job of GitHub Actions asks, without a stored key.
//!
//! GitHub gives the job a token that says which repository, ref, environment and workflow it is; the control plane holds
//! that against the grants of the policy file. Everything is asked at the function `promotions`, whose address is the
//! stack's output `PromotionsEndpoint`.
//!
//! | module | what it does |
//! |---|---|
//! | [`token`] | GitHub's token for this job: fetched, kept while it lasts, never shown |
//! | [`client`] | HTTPS with that token |
//! | [`watch`] | what becomes of what was asked |
//! | [`report`] | log groups, annotations, the job's summary and the step's outputs |

mod client;
mod report;
mod token;
mod watch;

use super::exit::Exit;
use super::failure::Failure;
use super::{duration, pause};
use clap::Subcommand;
use client::Client;
use engine::workflows::{PromotionAnswer, PromotionRequest};
use report::Report;
use rollout::entry::Deed;
use rollout::release::Provenance;
use rollout::{Seconds, TargetId};
use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::{Duration, Instant};
use watch::{Patience, Watched};

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
    targets: Vec<Wish>,
    #[command(flatten)]
    asking: Asking,
    #[command(flatten)]
    common: Common,
}

/// Bring a release by its name.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DeployArguments {
    /// application/service/environment, or application/service/environment=RELEASE.
    #[arg(required = true, value_name = "TARGET[=RELEASE]")]
    targets: Vec<Wish>,
    #[command(flatten)]
    asking: Asking,
    /// Take the hotfix lane: it skips the gates that the policy names, needs a grant of its own and a reason.
    #[arg(long)]
    hotfix: bool,
    #[command(flatten)]
    common: Common,
}

/// Stay until a release's deployment is over.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct WaitArguments {
    /// application/service/environment, or application/service/environment=RELEASE.
    #[arg(required = true, value_name = "TARGET[=RELEASE]")]
    targets: Vec<Wish>,
    /// A tag, a digest, or at least 7 of its first digits.
    #[arg(long)]
    release: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Clone, clap::Args)]
struct Asking {
    /// For the targets that name none: a tag, a digest, or at least 7 of its first digits.
    #[arg(long)]
    release: Option<String>,
    /// Why, for the record; needed with --hotfix.
    #[arg(long, default_value = "")]
    reason: String,
    /// No automatic rollback (for example after a migration): trouble freezes the target, and a person decides.
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
struct Common {
    /// URL of the stack's output `PromotionsEndpoint`.
    #[arg(long, env = "SWITCHBACK_CI_ENDPOINT", value_name = "URL")]
    endpoint: Option<String>,
    /// Audience of GitHub's token: the stack's parameter `GitHubAudience`.
    #[arg(long, env = "SWITCHBACK_CI_AUDIENCE", default_value = "switchback", value_name = "NAME")]
    audience: String,
    /// Longest wait; the deployment itself continues.
    #[arg(long = "for", default_value = "30m", value_parser = duration, value_name = "DURATION")]
    patience: Seconds,
    /// Interval between two looks while waiting.
    #[arg(long, default_value = "5s", value_parser = pause, value_name = "PAUSE")]
    every: Duration,
}

impl Common {
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

    fn patience(&self) -> Patience {
        Patience {
            until: Instant::now() + Duration::from_secs(self.patience.0),
            whole: self.patience,
            every: self.every,
        }
    }
}

/// A target, and the release that is wanted there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wish {
    target: TargetId,
    release: Option<String>,
}

impl FromStr for Wish {
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

/// Does what a job asks. How it ended is in the log, the summary and the outputs, whatever it is.
pub(super) async fn run(command: &CiCommand) -> Result<Exit, Failure> {
    let (title, wishes) = match command {
        CiCommand::Promote(arguments) => ("promote", &arguments.targets),
        CiCommand::Deploy(arguments) if arguments.hotfix => ("hotfix", &arguments.targets),
        CiCommand::Deploy(arguments) => ("deploy", &arguments.targets),
        CiCommand::Wait(arguments) => ("wait", &arguments.targets),
    };
    let mut report = Report::new(title, wishes.iter().map(|wish| wish.target.to_string()).collect());
    let done = match command {
        CiCommand::Promote(arguments) => {
            let PromoteArguments { targets, asking, common } = arguments;
            ask(Deed::Promote, targets, asking, common, &mut report).await
        }
        CiCommand::Deploy(arguments) => {
            let DeployArguments { targets, asking, hotfix, common } = arguments;
            let deed = if *hotfix { Deed::Hotfix } else { Deed::Deploy };
            ask(deed, targets, asking, common, &mut report).await
        }
        CiCommand::Wait(arguments) => wait(arguments, &mut report).await,
    };
    match done {
        Ok(exit) => {
            report.finish(exit);
            Ok(exit)
        }
        Err(failure) => {
            // The whole of it, and harmless: the runner takes lines of standard error for commands, too.
            report.failed(&failure);
            Ok(failure.exit())
        }
    }
}

async fn ask(
    deed: Deed,
    wishes: &[Wish],
    asking: &Asking,
    common: &Common,
    report: &mut Report,
) -> Result<Exit, Failure> {
    let request = request(deed, wishes, asking)?;
    let mut client = common.client()?;
    let patience = common.patience();
    let known_by = patience.until.min(Instant::now() + Duration::from_secs(asking.release_within.0));
    let answer = loop {
        match client.post::<PromotionAnswer>("/v1/promotions", &request).await {
            Err(Failure::Refused(refusal)) if refusal.code == "unknown_release" && Instant::now() < known_by => {
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
        report.taken(deed, asked, !asking.no_wait);
    }
    if asking.no_wait {
        report.left(&watched);
        return Ok(Exit::Done);
    }
    watch::watch(&mut client, &mut watched, &patience, report).await
}

async fn wait(arguments: &WaitArguments, report: &mut Report) -> Result<Exit, Failure> {
    let mut watched = Vec::new();
    for Wish { target, release } in &arguments.targets {
        let Some(release) = release.as_ref().or(arguments.release.as_ref()) else {
            return Err(Failure::Usage(format!("`{target}`: name the release to wait for, by =RELEASE or --release")));
        };
        watched.push(Watched::named(target.clone(), release));
    }
    let mut client = arguments.common.client()?;
    watch::watch(&mut client, &mut watched, &arguments.common.patience(), report).await
}

/// What is asked, in one request: all of it, or nothing.
fn request(deed: Deed, wishes: &[Wish], asking: &Asking) -> Result<PromotionRequest, Failure> {
    let Some(Wish { target: first, .. }) = wishes.first() else {
        return Err(Failure::Usage("no target is named".to_owned()));
    };
    let mut services = BTreeMap::new();
    for Wish { target, release } in wishes {
        if (&target.application, &target.environment) != (&first.application, &first.environment) {
            return Err(Failure::Usage(format!(
                "`{first}` and `{target}` are not of one environment: ask for each environment by itself"
            )));
        }
        let release = release.clone().or_else(|| asking.release.clone());
        if release.is_none() && deed != Deed::Promote {
            return Err(Failure::Usage(format!("`{target}`: name the release, by =RELEASE or --release")));
        }
        if services.insert(target.service.clone(), release).is_some() {
            return Err(Failure::Usage(format!("`{target}` is named twice")));
        }
    }
    if deed == Deed::Hotfix && asking.reason.trim().is_empty() {
        return Err(Failure::Usage("--hotfix needs a --reason, for the record".to_owned()));
    }
    let provenance =
        asking.commit.as_ref().map(|commit| Provenance { commit: Some(commit.clone()), ..Provenance::default() });
    Ok(PromotionRequest {
        kind: deed,
        application: first.application.clone(),
        environment: first.environment.clone(),
        services,
        reason: asking.reason.clone(),
        forward_only: asking.forward_only,
        provenance,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking() -> Asking {
        Asking {
            release: None,
            reason: String::new(),
            forward_only: false,
            commit: None,
            release_within: Seconds(300),
            no_wait: false,
        }
    }

    fn wishes(texts: &[&str]) -> Vec<Wish> {
        texts.iter().map(|text| text.parse().expect("a wish")).collect()
    }

    #[test]
    fn several_services_of_one_environment_are_one_request() {
        let asking = Asking { release: Some("v2".to_owned()), ..asking() };
        let found =
            request(Deed::Promote, &wishes(&["shop/api/prod=v3", "shop/web/prod"]), &asking).expect("a request");
        let services: Vec<(&str, Option<&str>)> =
            found.services.iter().map(|(name, release)| (name.as_str(), release.as_deref())).collect();
        assert_eq!(services, [("api", Some("v3")), ("web", Some("v2"))]);
        assert_eq!((found.application.as_str(), found.environment.as_str()), ("shop", "prod"));
    }

    #[test]
    fn what_cannot_be_one_request_is_refused_before_anything_is_sent() {
        for (deed, texts) in [
            (Deed::Promote, vec!["shop/api/prod", "shop/api/staging"]),
            (Deed::Promote, vec!["shop/api/prod", "shop/api/prod=v3"]),
            (Deed::Deploy, vec!["shop/api/prod"]),
            (Deed::Hotfix, vec!["shop/api/prod=v3"]),
        ] {
            let failure = request(deed, &wishes(&texts), &asking()).expect_err("no request");
            assert_eq!(failure.exit(), Exit::Usage, "{texts:?}");
        }
        for text in ["shop/api", "shop/api/prod=", "=v1"] {
            assert!(text.parse::<Wish>().is_err(), "{text}");
        }
    }
}
