//! `approve` and `reject`: what people say to a deployment that waits for them. It is shown before it is answered, and
//! the answer is to what was shown.

use super::asking::{Once, tell_once};
use super::client::Client;
use super::exit::Exit;
use super::failure::Failure;
use super::output::{Output, agreed};
use super::target_path;
use engine::operate::{DecisionRequest, Refusal, TargetStatus};
use rollout::{PlanId, TargetId};
use view::approval::{pending, sheet};

/// Say yes to a deployment that waits for approval.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ApproveArguments {
    #[command(flatten)]
    answer: Answer,
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
    answer: Answer,
    /// Why, for the record.
    #[arg(long)]
    reason: String,
    /// Print JSON; needs --plan or --yes.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Clone, clap::Args)]
struct Answer {
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
    once: Once,
}

/// `switchback approve`
pub(super) async fn approve(arguments: &ApproveArguments, output: &mut Output) -> Result<Exit, Failure> {
    answer("approve", "Approve", &arguments.answer, &arguments.reason, output).await
}

/// `switchback reject`
pub(super) async fn reject(arguments: &RejectArguments, output: &mut Output) -> Result<Exit, Failure> {
    answer("reject", "Reject", &arguments.answer, &arguments.reason, output).await
}

async fn answer(
    verb: &str,
    asks: &str,
    arguments: &Answer,
    reason: &str,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let client = Client::new(&arguments.once.remote).await?;
    let (deployment, plan) = match (arguments.deployment, &arguments.plan) {
        // All is said: what it means now is the control plane's to judge.
        (Some(number), Some(plan)) => (number, PlanId(plan.clone())),
        _ => look(&client, verb, asks, arguments, output).await?,
    };
    let request = DecisionRequest { deployment, plan, reason: reason.to_owned(), request: Some(arguments.once.key()?) };
    tell_once(verb, &client, &arguments.target, &request, output).await
}

/// Shows what waits, and asks whether that is meant.
async fn look(
    client: &Client,
    verb: &str,
    asks: &str,
    arguments: &Answer,
    output: &mut Output,
) -> Result<(u64, PlanId), Failure> {
    let target = &arguments.target;
    let status: TargetStatus = client.get(&target_path(target, "")).await?;
    let refused = |message: String| Failure::Refused(Refusal::new(409, "not_waiting", message));
    let Some(waits) = pending(&status.state) else {
        return Err(refused(format!("no deployment is waiting for approval on {target}")));
    };
    if let Some(wanted) = arguments.deployment.filter(|wanted| *wanted != waits.number) {
        let (number, tag) = (waits.number, &waits.release.tag);
        return Err(refused(format!(
            "deployment #{number} ({tag}) is the one waiting for approval on {target}, not #{wanted}: nothing was submitted"
        )));
    }
    let Some(gates) = &waits.gates else {
        return Err(Failure::Unexpected(format!("deployment #{} of {target} is waiting without a plan", waits.number)));
    };
    output.say(&format!("{}\n", sheet(&status.state, waits, status.at, output.paint)));
    let plan = match &arguments.plan {
        Some(plan) => PlanId(plan.clone()),
        None => gates.plan.clone(),
    };
    if arguments.plan.is_none() && !arguments.yes {
        let without =
            format!("pass --plan {} to {verb} what is shown, or --yes to {verb} without confirmation", plan.0);
        if !agreed(&format!("{asks} this?"), &without, output)? {
            return Err(refused("nothing was said".to_owned()));
        }
    }
    Ok((waits.number, plan))
}
