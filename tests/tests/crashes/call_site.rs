//! Where in a deployment a call is made, and what for: what a row of the table is about.

use rollout::in_place::{self, InPlaceStage};
use rollout::snapshot::Weights;
use rollout::weighted::{Forward, ForwardStep, RollbackStep, WeightedStage};
use rollout::{Slot, TargetState};
use serde_json::Value;
use std::fmt;
use tests::front::Call;
use tests::harness::scenario::WorldNames;

/// What a pass reads at the same time to see where everything stands: one row, since none of it leaves anything behind.
const OBSERVATION_CALLS: [&str; 13] = [
    "autoscaling:DescribeScalableTargets",
    "cloudwatch:DescribeAlarms",
    "ecs:DescribeServiceDeployments",
    "ecs:DescribeServiceRevisions",
    "ecs:DescribeServices",
    "ecs:DescribeTasks",
    "ecs:GetTaskProtection",
    "ecs:ListServiceDeployments",
    "ecs:ListTasks",
    "elbv2:DescribeListeners",
    "elbv2:DescribeRules",
    "elbv2:DescribeTargetHealth",
    "dynamodb:Query",
];

/// A call by what it is for: the same in every run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CallSite {
    /// The stage of the deployment that was written down last.
    pub(crate) stage: String,
    /// `ecs:UpdateService`
    pub(crate) call: String,
    /// What it asks for.
    pub(crate) purpose: String,
}

impl CallSite {
    pub(crate) fn of(call: &Call, stage: &str, names: &WorldNames) -> Self {
        let name = format!("{}:{}", call.service, call.operation);
        Self { stage: stage.to_owned(), purpose: purpose(call, names), call: name }
    }

    /// Its row: its own, or that of the look that it is a part of.
    pub(crate) fn row(&self) -> Self {
        if OBSERVATION_CALLS.contains(&self.call.as_str()) {
            Self { stage: self.stage.clone(), call: "look".to_owned(), purpose: "all that is read at once".to_owned() }
        } else {
            self.clone()
        }
    }

    /// How its row begins in the table.
    pub(crate) fn row_prefix(&self) -> String {
        format!("| {} | `{}` | {} |", self.stage, self.call, self.purpose)
    }
}

impl fmt::Display for CallSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} | `{}` | {}", self.stage, self.call, self.purpose)
    }
}

/// The point where the deployment of a state is, finer than its stage.
pub(crate) fn stage_of(state: &TargetState) -> String {
    let Some(running) = &state.running else { return "over".to_owned() };
    let mut name = running.stage().name().replace('_', " ");
    if let Some(step) = running.traffic_step() {
        name = format!("{name} {}", step + 1);
    }
    let of_sides = running.weighted().and_then(|weighted| part_of_sides(&weighted.at));
    let part = of_sides.or_else(|| running.in_place().and_then(|in_place| part_in_place(&in_place.at)));
    part.map_or_else(|| name.clone(), |part| format!("{name}, {part}"))
}

/// The part of a stage between two sides, where it has several.
fn part_of_sides(at: &WeightedStage) -> Option<&'static str> {
    match at {
        WeightedStage::Forward(Forward { step, .. }) => match step {
            ForwardStep::Writing { .. } => Some("writing"),
            ForwardStep::Holding { .. } => Some("holding"),
            ForwardStep::Draining { .. } => Some("draining"),
            _ => None,
        },
        WeightedStage::Retiring(_) => Some("scaling down"),
        WeightedStage::RollingBack(rollback) => Some(match rollback.step {
            RollbackStep::RestoringWeights { .. } => "weights back",
            RollbackStep::Draining { .. } => "draining",
            RollbackStep::ScalingDownCandidate => "candidate down",
        }),
        _ => None,
    }
}

/// The part of a stage in place, where it has several; otherwise what tells a stage that a pair has as well from the
/// pair's: its calls are others.
fn part_in_place(at: &InPlaceStage) -> Option<&'static str> {
    match at {
        InPlaceStage::Forward(in_place::Forward { step: in_place::ForwardStep::Replacing { .. }, .. }) => None,
        InPlaceStage::Registering(_) | InPlaceStage::Forward(_) => Some("in place"),
        InPlaceStage::RollingBack(rollback) => Some(match rollback.step {
            in_place::RollbackStep::Setting { .. } => "setting",
            in_place::RollbackStep::Registering => "registering",
            in_place::RollbackStep::Replacing => "replacing",
        }),
    }
}

/// The state that a transaction writes, if it writes one.
pub(crate) fn state_in(call: &Call) -> Option<TargetState> {
    let items = call.parameter("/TransactItems")?.as_array()?;
    let state = items.iter().find_map(|item| item.pointer("/Update/ExpressionAttributeValues/:state/S"))?;
    serde_json::from_str(state.as_str()?).ok()
}

fn purpose(call: &Call, names: &WorldNames) -> String {
    let text = |pointer: &str| call.parameter(pointer).and_then(Value::as_str).unwrap_or_default();
    let number = |pointer: &str| call.parameter(pointer).map(Value::to_string).unwrap_or_default();
    match (call.service.as_str(), call.operation.as_str()) {
        ("dynamodb", "UpdateItem") if text("/UpdateExpression").starts_with("SET lease_id") => {
            // Whether it comes as a takeover wake, too, which finds nobody dead, is a matter of how long the run takes.
            "take the target".to_owned()
        }
        ("dynamodb", "UpdateItem") if text("/UpdateExpression").starts_with("REMOVE") => {
            "give the target back".to_owned()
        }
        ("dynamodb", "UpdateItem") => "join the row before AWS's API budgets".to_owned(),
        ("dynamodb", "TransactWriteItems") => decision(call),
        ("dynamodb", _) => {
            let partition = ["/ExpressionAttributeValues/:pk/S", "/Key/pk/S"].map(text).concat();
            let sort = ["/ExpressionAttributeValues/:prefix/S", "/Key/sk/S"].map(text).concat();
            let kind = |key: &str| key.split('#').next().unwrap_or_default().to_lowercase();
            format!("{} {}", kind(&partition), kind(&sort)).trim_end().to_owned()
        }
        ("sqs", "SendMessage") => match text("/MessageBody").contains("\"steal\"") {
            true => "schedule a takeover, should it die".to_owned(),
            false => "send the next wake".to_owned(),
        },
        ("ecs", "UpdateService") => {
            let definition = text("/taskDefinition").rsplit('/').next().unwrap_or_default();
            if call.parameter("/desiredCount").is_none() {
                return format!("{}: {definition} in place of what runs", text("/service"));
            }
            let runs = if definition.is_empty() { String::new() } else { format!(" of {definition}") };
            format!("{}: {} tasks{runs}", side(text("/service")), number("/desiredCount"))
        }
        ("autoscaling", "RegisterScalableTarget") => {
            let suspended = call.parameter("/SuspendedState/DynamicScalingInSuspended") == Some(&Value::Bool(true));
            let suspended = if suspended { ", suspended" } else { "" };
            let (min, max) = (number("/MinCapacity"), number("/MaxCapacity"));
            format!("{}: {min} to {max}{suspended}", side(text("/ResourceId")))
        }
        ("elbv2", "ModifyRule") => {
            let is_traffic = names.pair().is_some_and(|pair| pair.rule == text("/RuleArn"));
            format!("{} {}", if is_traffic { "traffic" } else { "test rule" }, weights(call, names))
        }
        ("elbv2", "ModifyListener") => format!("internal traffic {}", weights(call, names)),
        ("elbv2", "DescribeTargetHealth") => {
            let group = text("/TargetGroupArn");
            let internal = if group.contains("-internal-") { ", internal" } else { "" };
            format!("health of {}{internal}", side(group))
        }
        ("ecs", "RunTask") => "the migration".to_owned(),
        ("ecs", "RegisterTaskDefinition") => "the same with the new image".to_owned(),
        ("ecs", "DescribeTaskDefinition") => "what it is to be like".to_owned(),
        ("ecs", "ListTaskDefinitions") => "whether it is there already".to_owned(),
        ("lambda", "Invoke") => "ask the smoke test".to_owned(),
        _ => String::new(),
    }
}

/// What is written down: the facts, and whether the target is given back with it.
fn decision(call: &Call) -> String {
    let items = call.parameter("/TransactItems").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let entries = items.iter().filter_map(|item| item.pointer("/Put/Item/entry/S")?.as_str());
    let facts: Vec<String> = entries
        .filter_map(|entry| serde_json::from_str::<Value>(entry).ok())
        .filter_map(|entry| Some(entry.pointer("/fact/fact")?.as_str()?.replace('_', " ")))
        .collect();
    let gives_back = items.iter().any(|item| {
        let expression = item.pointer("/Update/UpdateExpression").and_then(Value::as_str).unwrap_or_default();
        expression.contains("lease_id")
    });
    match (facts.is_empty(), gives_back) {
        (true, true) => "write down, give back".to_owned(),
        (true, false) => "write down".to_owned(),
        (false, true) => format!("write down: {}; give back", facts.join(", ")),
        (false, false) => format!("write down: {}", facts.join(", ")),
    }
}

fn side(name: &str) -> &'static str {
    match (name.contains("-blue"), name.contains("-green")) {
        (true, false) => "blue",
        (false, true) => "green",
        _ => "both sides",
    }
}

fn weights(call: &Call, names: &WorldNames) -> String {
    let mut weights = Weights { blue: 0, green: 0 };
    let actions = call.parameter("/Actions").or_else(|| call.parameter("/DefaultActions"));
    let groups = actions.and_then(|actions| actions.pointer("/0/ForwardConfig/TargetGroups")).and_then(Value::as_array);
    for group in groups.into_iter().flatten() {
        let weight = group["Weight"].as_str().and_then(|weight| weight.parse().ok()).unwrap_or_default();
        match names.side_of_group(group["TargetGroupArn"].as_str().unwrap_or_default()) {
            Some(Slot::Blue) => weights.blue = weight,
            Some(Slot::Green) => weights.green = weight,
            None => {}
        }
    }
    format!("{}/{}", weights.blue, weights.green)
}
