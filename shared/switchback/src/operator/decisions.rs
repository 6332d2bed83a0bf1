//! `approve` and `reject`: decisions on a deployment that waits for approval. The plan is shown first, and the decision
//! applies to the plan that was shown.

use super::client::Client;
use super::commands::{RequestArguments, send_and_report};
use super::exit::Exit;
use super::failure::Failure;
use super::output::{Output, confirm};
use super::target_path;
use api::{DecisionRequest, Refusal, TargetStatus};
use rollout::{PlanId, TargetId};
use view::approval::{approval_summary, pending_approval};

/// Say yes to a deployment that waits for approval.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ApproveArguments {
    #[command(flatten)]
    decision: DecisionArguments,
    /// Comment, for the record.
    #[arg(long, default_value = "")]
    reason: String,
    /// Print JSON; needs --plan or --yes.
    #[arg(long)]
    pub(super) json: bool,
}

/// Say no to a deployment that waits for approval: it ends, and nothing was touched.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RejectArguments {
    #[command(flatten)]
    decision: DecisionArguments,
    /// Why, for the record.
    #[arg(long)]
    reason: String,
    /// Print JSON; needs --plan or --yes.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Clone, clap::Args)]
struct DecisionArguments {
    /// application/service/environment
    target: TargetId,
    /// Which deployment; without it, the one that waits.
    #[arg(long, value_name = "N")]
    deployment: Option<u64>,
    /// The plan that you have reviewed; fails if it has changed.
    #[arg(long, value_name = "PLAN", conflicts_with = "yes")]
    plan: Option<String>,
    /// Do not ask for confirmation: answer the plan as it is now.
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    request_arguments: RequestArguments,
}

/// `switchback approve`
pub(super) async fn approve(arguments: &ApproveArguments, output: &mut Output) -> Result<Exit, Failure> {
    decision("approve", "Approve", &arguments.decision, &arguments.reason, output).await
}

/// `switchback reject`
pub(super) async fn reject(arguments: &RejectArguments, output: &mut Output) -> Result<Exit, Failure> {
    decision("reject", "Reject", &arguments.decision, &arguments.reason, output).await
}

async fn decision(
    verb: &str,
    label: &str,
    arguments: &DecisionArguments,
    reason: &str,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let client = Client::new(&arguments.request_arguments.remote).await?;
    let (deployment, plan) = match (arguments.deployment, &arguments.plan) {
        // Number and plan are given: the control plane checks whether they are still current.
        (Some(number), Some(plan)) => (number, PlanId(plan.clone())),
        _ => confirm_plan(&client, verb, label, arguments, output).await?,
    };
    let request = DecisionRequest {
        deployment,
        plan,
        reason: reason.to_owned(),
        request: Some(arguments.request_arguments.key()?),
    };
    send_and_report(verb, &client, &arguments.target, &request, output).await
}

/// Shows the waiting deployment, and asks for confirmation.
async fn confirm_plan(
    client: &Client,
    verb: &str,
    label: &str,
    arguments: &DecisionArguments,
    output: &mut Output,
) -> Result<(u64, PlanId), Failure> {
    let target = &arguments.target;
    let status: TargetStatus = client.get(&target_path(target, "")).await?;
    let refused = |message: String| Failure::Refused(Refusal::new(409, "not_waiting", message));
    let Some(waiting) = pending_approval(&status.state) else {
        return Err(refused(format!("no deployment is waiting for approval on {target}")));
    };
    if let Some(requested) = arguments.deployment.filter(|requested| *requested != waiting.number) {
        let (number, tag) = (waiting.number, &waiting.release.tag);
        return Err(refused(format!(
            "deployment #{number} ({tag}) is the one waiting for approval on {target}, not #{requested}: \
             nothing was submitted"
        )));
    }
    let Some(gates) = &waiting.gates else {
        return Err(Failure::Unexpected(format!(
            "deployment #{} of {target} is waiting without a plan",
            waiting.number
        )));
    };
    output.say(&format!("{}\n", approval_summary(&status.state, waiting, status.at, output.paint)));
    let plan = match &arguments.plan {
        Some(plan) => PlanId(plan.clone()),
        None => gates.plan.clone(),
    };
    if arguments.plan.is_none() && !arguments.yes {
        let hint = format!("pass --plan {} to {verb} what is shown, or --yes to {verb} without confirmation", plan.0);
        if !confirm(&format!("{label} this?"), &hint, output)? {
            return Err(refused("nothing was said".to_owned()));
        }
    }
    Ok((waiting.number, plan))
}
