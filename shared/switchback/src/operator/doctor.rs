//! `doctor`: checks whether an account is fit for its targets, before anything is deployed to them.

use super::client::{Client, RemoteArguments};
use super::exit::Exit;
use super::failure::Failure;
use super::output::Output;
use super::validate::PolicyFile;
use api::{DoctorRequest, DoctorResponse, TargetsResponse};
use rollout::TargetId;
use rollout::doctor::Severity;
use serde_json::json;
use std::path::PathBuf;

/// Look through an account: what would keep a deployment from going well. Nothing is changed.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DoctorArguments {
    /// The target: application/service/environment; without it, all of them.
    target: Option<TargetId>,
    /// Judge by this policy file, before it is applied, instead of by what is; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Fail on risky findings, too, and on what could not be read.
    #[arg(long)]
    strict: bool,
    /// Omit the list of attributes that Terraform must ignore.
    #[arg(long)]
    no_terraform: bool,
    #[command(flatten)]
    pub(super) common: RemoteArguments,
}

/// `switchback doctor`
pub(super) async fn doctor(arguments: &DoctorArguments, output: &mut Output) -> Result<Exit, Failure> {
    let file = arguments.file.as_deref().map(PolicyFile::read).transpose()?;
    let policy = file.as_ref().map(|file| file.policy(output)).transpose()?;
    let client = Client::new(&arguments.common.remote).await?;
    let targets: Vec<TargetId> = match (&arguments.target, &policy) {
        (Some(target), _) => vec![target.clone()],
        (None, Some(policy)) => policy.targets().map(|(target, _)| target).collect(),
        (None, None) => {
            let answer: TargetsResponse = client.get("/v1/targets").await?;
            answer.targets.into_iter().map(|summary| summary.target).collect()
        }
    };
    let mut answers: Vec<DoctorResponse> = Vec::new();
    // Sequentially: AWS's API budgets are reserved for deployments.
    for target in targets {
        let request = DoctorRequest { target, text: file.as_ref().map(PolicyFile::text) };
        let answer: DoctorResponse = client.post("/v1/doctor", &request).await?;
        let judged_by = match (answer.version, &file) {
            (Some(version), _) => format!("policy version {version}"),
            (None, Some(file)) => file.name().to_owned(),
            (None, None) => "a policy file".to_owned(),
        };
        output.say(&view::doctor::findings(&answer.target, &judged_by, &answer.findings, output.paint));
        answers.push(answer);
    }
    if !arguments.no_terraform {
        let mut seen = std::collections::BTreeSet::new();
        let all = answers.iter().flat_map(|answer| answer.terraform.clone());
        // Targets may share a rule's listener, so duplicates are removed.
        let all: Vec<_> = all.filter(|it| seen.insert((it.resource.clone(), it.name.clone()))).collect();
        if !all.is_empty() {
            output.say("\n");
            output.say(&view::doctor::terraform(&all, output.paint));
        }
    }
    let fails = |severity: Severity| match severity {
        Severity::Broken => true,
        Severity::Risky | Severity::Unread => arguments.strict,
        Severity::Advice => false,
    };
    let unfit = answers.iter().flat_map(|answer| &answer.findings).any(|finding| fails(finding.severity));
    let exit = if unfit { Exit::Unfit } else { Exit::Done };
    output.document(&json!({"fit": !unfit, "targets": answers}));
    Ok(exit)
}
