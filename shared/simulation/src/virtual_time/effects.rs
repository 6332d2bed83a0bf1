//! Effects on the world. Each is idempotent: it establishes a state, however often it is performed.

use super::answers::{describe_service, service};
use super::cloud::actions;
use super::{definitions, platforms};
use crate::world::balancer::{ActionKind, WeightedGroup};
use crate::world::ecs::{RunTask, UpdateService};
use crate::world::{ApiError, Invoked, World};
use rollout::snapshot::Weights;
use rollout::{EcsServiceName, Effect, HookReport, Outcome, Slot, TargetResources, Way};
use serde_json::{Value, json};

/// Performs `effect`.
pub(crate) fn perform(world: &mut World, resources: &TargetResources, effect: &Effect) -> Outcome {
    match effect {
        Effect::SetVersion { .. }
        | Effect::ReplaceVersion { .. }
        | Effect::StartFirst { .. }
        | Effect::StopFirst { .. }
        | Effect::SetDesired { .. }
        | Effect::SetAutoscaling { .. } => platforms::perform(world, &resources.platform, effect),
        Effect::SetWeights { .. } | Effect::SetTestRules { .. } if resources.platform.way() == Way::InPlace => {
            unfit(effect)
        }
        Effect::SetWeights { weights, seen } => set_all_weights(world, resources, *weights, seen),
        Effect::SetTestRules { weights } => {
            for (rule, weights) in resources.test_rules().zip(weights) {
                if let Err(outcome) = set_weights(world, resources, rule, *weights, false) {
                    return outcome;
                }
            }
            Outcome::Done
        }
        Effect::RegisterVersion { template, image, family } => {
            // Both sides of a pair have the same container.
            match resources.platform.ecs_services().next() {
                Some(service) => definitions::register(world, template, service.container, image, family.as_deref()),
                None => unfit(effect),
            }
        }
        Effect::InvokeHook { function, payload, .. } => {
            let payload = serde_json::to_value(payload).unwrap_or_default();
            match world.invoke(function, &payload) {
                Ok(Invoked::Answered(answer)) => Outcome::HookReported { report: report(&answer) },
                Ok(Invoked::FunctionError(error)) => Outcome::Unsure { reason: format!("the function threw: {error}") },
                Ok(Invoked::NoAnswer) => Outcome::Unsure { reason: "no answer came in time".to_owned() },
                Err(error) => outcome(&error),
            }
        }
        Effect::StartTask { run, version, container, command, template, .. } => {
            match resources.platform.ecs_service(*template) {
                Some(service) => start_task(world, service, run, version, container, command),
                None => unfit(effect),
            }
        }
        Effect::StopTask { task } => match resources.platform.ecs_services().next() {
            Some(service) => stop_task(world, service.cluster, task),
            None => unfit(effect),
        },
    }
}

/// Refuses an effect that the target's platform does not have.
pub(super) fn unfit(effect: &Effect) -> Outcome {
    Outcome::Refused { reason: format!("{} does not fit the platform of this target", effect.kind()) }
}

pub(super) fn outcome(error: &ApiError) -> Outcome {
    if error.is_transient() {
        Outcome::Unsure { reason: error.to_string() }
    } else {
        Outcome::Refused { reason: error.to_string() }
    }
}

pub(super) fn done<T>(answer: Result<T, ApiError>) -> Outcome {
    match answer {
        Ok(_) => Outcome::Done,
        Err(error) => outcome(&error),
    }
}

/// Sets a service's task definition and desired count; none: that stays. A task definition whose deployment ECS has
/// given up is deployed anew.
pub(super) fn update_service(
    world: &mut World,
    of: EcsServiceName<'_>,
    task_definition: Option<&str>,
    desired: Option<u32>,
) -> Outcome {
    let given_up = |found: crate::world::ecs::EcsService| {
        task_definition.is_some_and(|wanted| describe_service(&found).needs_new_deployment(wanted))
    };
    let again = desired != Some(0) && service(world, of.cluster, of.name).is_ok_and(given_up);
    done(world.update_service(UpdateService {
        force_new_deployment: again,
        cluster: of.cluster.to_owned(),
        service: of.name.to_owned(),
        desired_count: desired,
        task_definition: task_definition.map(str::to_owned),
        ..UpdateService::default()
    }))
}

/// Sets the weights of every rule. `seen`: those that the decision was based on; empty: they are not compared.
fn set_all_weights(world: &mut World, resources: &TargetResources, weights: Weights, seen: &[Weights]) -> Outcome {
    // While traffic moves forward the rules are read again, and nothing is written if one differs from the observation.
    let changed = resources.rules().zip(seen).find(|(rule, seen)| {
        let now = super::cloud::weights(world, resources, rule);
        now.is_ok_and(|now| !(now.has_both_groups && now.foreign_groups.is_empty() && now.weights.same_split(**seen)))
    });
    if let Some((rule, _)) = changed {
        return Outcome::Conflict { reason: format!("{rule} is not as it was seen; nothing was written") };
    }
    // As with several calls to AWS: those before the failing one take effect.
    for rule in resources.rules() {
        if let Err(outcome) = set_weights(world, resources, rule, weights, seen.is_empty()) {
            return outcome;
        }
    }
    Outcome::Done
}

/// `add_missing`: during a rollback, a side that the rule lacks is added.
fn set_weights(
    world: &mut World,
    resources: &TargetResources,
    rule: &str,
    weights: Weights,
    add_missing: bool,
) -> Result<(), Outcome> {
    let Some(leg) = resources.leg_of(rule) else {
        return Err(Outcome::Refused { reason: format!("the policy does not name {rule}") });
    };
    let mut actions = actions(world, rule).map_err(|reason| Outcome::Unsure { reason })?;
    let forward = actions.iter_mut().find_map(|action| match &mut action.what {
        ActionKind::Forward(forward) => Some(forward),
        ActionKind::Other { .. } => None,
    });
    let Some(forward) = forward else {
        return Err(Outcome::Refused { reason: format!("{rule} has no forward action") });
    };
    for slot in Slot::BOTH {
        let group = leg.target_group(slot);
        let weight = Some(weights.of(slot).into());
        match forward.target_groups.iter_mut().find(|found| found.arn == group) {
            Some(found) => found.weight = weight,
            None if add_missing => forward.target_groups.push(WeightedGroup { arn: group.to_owned(), weight }),
            None => return Err(Outcome::Refused { reason: format!("{rule} lacks {slot}'s target group {group}") }),
        }
    }
    let answer = if rule.contains(":listener-rule/") {
        world.modify_rule(rule, None, Some(actions)).map(|_| ())
    } else {
        world.modify_listener(rule, Some(actions)).map(|_| ())
    };
    answer.map_err(|error| outcome(&error))
}

fn report(answer: &Value) -> HookReport {
    let text = |field: &str| answer.get(field).and_then(Value::as_str);
    match text("status") {
        Some("succeeded") => HookReport::Succeeded,
        Some("in_progress") => HookReport::InProgress,
        Some("failed") => HookReport::Failed { reason: text("reason").unwrap_or_default().to_owned() },
        _ => HookReport::Failed { reason: format!("the function answered {answer}") },
    }
}

/// Starts the task of a hook, with the network configuration and launch type of the service `template`.
fn start_task(
    world: &mut World,
    template: EcsServiceName<'_>,
    run: &str,
    task_definition: &str,
    container: &str,
    command: &[String],
) -> Outcome {
    let service = match service(world, template.cluster, template.name) {
        Ok(service) => service,
        Err(reason) => return Outcome::Unsure { reason },
    };
    let mut named = json!({"name": container});
    if !command.is_empty() {
        named["command"] = json!(command);
    }
    let answer = world.run_task(RunTask {
        cluster: template.cluster.to_owned(),
        task_definition: task_definition.to_owned(),
        count: Some(1),
        overrides: Some(json!({"containerOverrides": [named]})),
        started_by: Some(run.to_owned()),
        client_token: Some(run.to_owned()),
        volume_configurations: service.deployments.first().and_then(|primary| primary.volume_configurations.clone()),
        network_configuration: service.network_configuration,
        launch_type: service.launch_type,
        capacity_provider_strategy: service.capacity_provider_strategy,
    });
    match answer {
        Ok(ran) => match (ran.tasks.first(), ran.failures.first()) {
            (Some(task), _) => Outcome::TaskStarted { task: task.task_arn.clone() },
            (None, Some(failure)) => Outcome::Unsure { reason: failure.reason.clone() },
            (None, None) => Outcome::Unsure { reason: "RunTask started nothing".to_owned() },
        },
        Err(error) => outcome(&error),
    }
}

fn stop_task(world: &mut World, cluster: &str, task: &str) -> Outcome {
    match world.stop_task(cluster, task, Some("The hook's time is over")) {
        Ok(_) => Outcome::Done,
        // The task no longer exists, so it counts as stopped.
        Err(error) if error.code == "InvalidParameterException" => Outcome::Done,
        Err(error) => outcome(&error),
    }
}
