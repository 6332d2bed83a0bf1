//! Effects on the world. Each is idempotent: it establishes a state, however often it is performed.

use super::answers::{describe_service, service};
use super::cloud::{actions, resource_id};
use crate::world::balancer::{ActionKind, WeightedGroup};
use crate::world::ecs::{EcsService, RunTask, UpdateService};
use crate::world::scaling::{DescribeScalableTargets, RegisterScalableTarget, SuspendedState};
use crate::world::{ApiError, Invoked, World};
use rollout::registry::with_host_of;
use rollout::snapshot::{Autoscaling, Weights};
use rollout::{Effect, HookReport, Outcome, Slot, TargetResources};
use serde_json::{Value, json};

/// Performs `effect`.
pub(crate) fn perform(world: &mut World, resources: &TargetResources, effect: &Effect) -> Outcome {
    match effect {
        Effect::RegisterTaskDefinition { template, container, image } => register(world, template, container, image),
        Effect::UpdateService { slot, task_definition, desired } => {
            update_service(world, resources, *slot, Some(task_definition), *desired)
        }
        Effect::SetDesired { slot, desired } => update_service(world, resources, *slot, None, *desired),
        Effect::SetAutoscaling { slot, limits } => set_autoscaling(world, resources, *slot, *limits),
        Effect::SetWeights { weights, seen } => {
            // While traffic moves forward the rules are read again, and nothing is written if one differs from the
            // observation.
            let changed = resources.rules().zip(seen).find(|(rule, seen)| {
                let now = super::cloud::weights(world, resources, rule);
                now.is_ok_and(|now| {
                    !(now.has_both_groups && now.foreign_groups.is_empty() && now.weights.same_split(**seen))
                })
            });
            if let Some((rule, _)) = changed {
                return Outcome::Conflict { reason: format!("{rule} is not as it was seen; nothing was written") };
            }
            // As with several calls to AWS: those before the failing one take effect.
            for rule in resources.rules() {
                if let Err(outcome) = set_weights(world, resources, rule, *weights, seen.is_empty()) {
                    return outcome;
                }
            }
            Outcome::Done
        }
        Effect::SetTestRules { weights } => {
            for (rule, weights) in resources.test_rules().zip(weights) {
                if let Err(outcome) = set_weights(world, resources, rule, *weights, false) {
                    return outcome;
                }
            }
            Outcome::Done
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
        Effect::StartTask { run, task_definition, container, command, template, .. } => {
            start_task(world, resources, *template, run, task_definition, container, command)
        }
        Effect::StopTask { task } => {
            match world.stop_task(&resources.ecs.cluster, task, Some("The hook's time is over")) {
                Ok(_) => Outcome::Done,
                // The task no longer exists, so it counts as stopped.
                Err(error) if error.code == "InvalidParameterException" => Outcome::Done,
                Err(error) => outcome(&error),
            }
        }
    }
}

fn outcome(error: &ApiError) -> Outcome {
    if error.is_transient() {
        Outcome::Unsure { reason: error.to_string() }
    } else {
        Outcome::Refused { reason: error.to_string() }
    }
}

fn done<T>(answer: Result<T, ApiError>) -> Outcome {
    match answer {
        Ok(_) => Outcome::Done,
        Err(error) => outcome(&error),
    }
}

fn register(world: &mut World, template: &str, container: &str, image: &str) -> Outcome {
    let model = match world.describe_task_definition(template) {
        Ok(model) => model,
        Err(error) => return outcome(&error),
    };
    let mut document = model.document.clone();
    let containers = document.get_mut("containerDefinitions").and_then(Value::as_array_mut);
    let named = containers
        .into_iter()
        .flatten()
        .find(|definition| definition.get("name").and_then(Value::as_str) == Some(container));
    match named {
        Some(definition) => {
            let live = definition["image"].as_str().unwrap_or_default();
            definition["image"] = with_host_of(live, image).into();
        }
        None => return Outcome::Refused { reason: format!("{template} has no container {container}") },
    }
    match world.list_task_definitions(Some(&model.family), true) {
        Ok(arns) => {
            for arn in arns {
                let same =
                    |found: crate::world::ecs::TaskDefinition| found.document == document && found.tags == model.tags;
                if world.describe_task_definition(&arn).is_ok_and(same) {
                    return Outcome::Registered { task_definition: arn, reused: true };
                }
            }
        }
        Err(error) => return outcome(&error),
    }
    if let (Value::Object(fields), Value::Array(tags)) = (&mut document, model.tags)
        && !tags.is_empty()
    {
        fields.insert("tags".to_owned(), tags.into());
    }
    match world.register_task_definition(document) {
        Ok(definition) => Outcome::Registered { task_definition: definition.arn, reused: false },
        Err(error) => outcome(&error),
    }
}

fn update_service(
    world: &mut World,
    resources: &TargetResources,
    slot: Slot,
    task_definition: Option<&String>,
    desired: u32,
) -> Outcome {
    let needs_new_deployment = |service: EcsService| {
        task_definition.is_some_and(|wanted| describe_service(&service).needs_new_deployment(wanted))
    };
    let again = desired > 0
        && service(world, &resources.ecs.cluster, resources.ecs.service(slot)).is_ok_and(needs_new_deployment);
    done(world.update_service(UpdateService {
        force_new_deployment: again,
        cluster: resources.ecs.cluster.clone(),
        service: resources.ecs.service(slot).to_owned(),
        desired_count: Some(desired),
        task_definition: task_definition.cloned(),
        ..UpdateService::default()
    }))
}

fn set_autoscaling(world: &mut World, resources: &TargetResources, slot: Slot, limits: Autoscaling) -> Outcome {
    let id = resource_id(&resources.ecs.cluster, resources.ecs.service(slot));
    let asked = DescribeScalableTargets {
        service_namespace: "ecs".to_owned(),
        resource_ids: vec![id.clone()],
        scalable_dimension: None,
    };
    let live = match world.describe_scalable_targets(asked) {
        Ok(targets) => match targets.first() {
            Some(target) => target.suspended_state,
            None => return Outcome::Refused { reason: format!("{id} has no scalable target") },
        },
        Err(error) => return outcome(&error),
    };
    done(world.register_scalable_target(RegisterScalableTarget {
        service_namespace: "ecs".to_owned(),
        resource_id: id,
        scalable_dimension: "ecs:service:DesiredCount".to_owned(),
        min_capacity: Some(limits.min.into()),
        max_capacity: Some(limits.max.into()),
        suspended_state: Some(SuspendedState {
            dynamic_scaling_in_suspended: limits.scale_in_suspended,
            scheduled_scaling_suspended: limits.scheduled_suspended,
            ..live
        }),
    }))
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

fn start_task(
    world: &mut World,
    resources: &TargetResources,
    template: Slot,
    run: &str,
    task_definition: &str,
    container: &str,
    command: &[String],
) -> Outcome {
    let service = match service(world, &resources.ecs.cluster, resources.ecs.service(template)) {
        Ok(service) => service,
        Err(reason) => return Outcome::Unsure { reason },
    };
    let mut named = json!({"name": container});
    if !command.is_empty() {
        named["command"] = json!(command);
    }
    let answer = world.run_task(RunTask {
        cluster: resources.ecs.cluster.clone(),
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
