//! Both sides of a pair are created alike, and their settings fit the policy and ECS: ports, health checks,
//! percentages, secrets, alarms, limits.

use crate::system::{self, container, containers, ecs_service, last_part, task_definition};
use crate::terraform::{Configuration, Resource};
use rollout::{EcsServiceName, Slot, TargetPolicy};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Attributes in which the two sides differ, since each has its own.
const OF_ONE_SIDE: [&str; 6] = ["name", "id", "arn", "arn_suffix", "desired_count", "load_balancer"];

/// The attributes that both sides must have in common.
fn common(resource: &Resource) -> Map<String, Value> {
    let mut attributes = resource.attributes.as_object().cloned().unwrap_or_default();
    attributes.retain(|name, _| !OF_ONE_SIDE.contains(&name.as_str()));
    attributes
}

/// The services of a pair, blue first; none: the target is no pair.
fn sides(policy: &TargetPolicy) -> Option<[EcsServiceName<'_>; 2]> {
    let side = |slot| policy.resources.platform.ecs_service(Some(slot));
    Some([side(Slot::Blue)?, side(Slot::Green)?])
}

#[test]
fn both_sides_have_the_same_settings() {
    for system in system::both() {
        for (target, policy, configuration) in system.targets() {
            let Some([blue, green]) = sides(policy) else { continue };
            let [blue, green] = [blue, green].map(|named| common(ecs_service(configuration, named)));
            assert_eq!(blue, green, "{target}");
            for leg in &policy.resources.traffic {
                let group = |arn: &str| common(configuration.get("aws_lb_target_group", "arn", arn));
                assert_eq!(group(&leg.blue), group(&leg.green), "{target}");
            }
        }
    }
}

/// The port is one number in three places: the target group, the service's registration, the container.
#[test]
fn target_groups_have_the_port_of_the_container() {
    for system in system::both() {
        for (_, policy, configuration) in system.targets() {
            for named in policy.resources.platform.ecs_services() {
                let service = ecs_service(configuration, named);
                let container = container(configuration, named);
                let port = &container["portMappings"][0]["containerPort"];
                for binding in service.blocks("load_balancer") {
                    let arn = binding["target_group_arn"].as_str().expect("it registers in a target group");
                    let group = configuration.get("aws_lb_target_group", "arn", arn);
                    assert_eq!(binding["container_name"], named.container, "{}", service.place);
                    assert_eq!(&binding["container_port"], port, "{}", service.place);
                    assert_eq!(&group.attributes["port"], port, "{}", group.place);
                    assert_eq!(group.text("target_type"), "ip", "tasks have addresses of their own: {}", group.place);
                }
            }
        }
    }
}

/// Health checks notice an ill target within the shortest time that a step is watched, and clients stay with no target.
#[test]
fn target_groups_check_health_soon_enough() {
    for system in system::both() {
        for (target, policy, configuration) in system.targets() {
            let steps = policy.strategy.steps.iter().filter(|step| step.hold.0 > 0).map(|step| step.hold.0);
            let watched = steps.chain([policy.strategy.bake.0]).min().unwrap_or_default();
            for arn in policy.resources.all_target_groups() {
                let group = configuration.get("aws_lb_target_group", "arn", arn);
                let check = group.block("health_check");
                let number = |name: &str| check[name].as_u64().unwrap_or_default();
                let noticed = number("interval") * number("unhealthy_threshold");
                assert!((1..watched).contains(&noticed), "{target}: ill after {noticed} s, {}", group.place);
                assert!(number("timeout") < number("interval"), "{}", group.place);
                assert_eq!(check["matcher"], "200", "{}", group.place);
                let delay = group.number("deregistration_delay");
                assert!(delay < policy.deadlines.retire.0, "{}", group.place);
                assert!(group.blocks("stickiness").iter().all(|block| block["enabled"] == false), "{}", group.place);
                check_grace_period(policy, configuration, noticed);
            }
        }
    }
}

/// Health checks that fail while a task starts do not count: ECS would kill it before it is up.
fn check_grace_period(policy: &TargetPolicy, configuration: &Configuration, noticed: u64) {
    for named in policy.resources.platform.ecs_services() {
        let service = ecs_service(configuration, named);
        let grace = service.number("health_check_grace_period_seconds");
        assert!(grace >= noticed, "{}: a grace period of {grace} s", service.place);
    }
}

/// New tasks start before old ones stop; the circuit breaker ends an attempt, and rolling back is left to Switchback.
#[test]
fn ecs_replaces_tasks_and_leaves_rollbacks_to_switchback() {
    for system in system::both() {
        for configuration in system.environments.values() {
            for service in configuration.all("aws_ecs_service") {
                let place = &service.place;
                assert_eq!(service.number("deployment_minimum_healthy_percent"), 100, "{place}");
                assert_eq!(service.number("deployment_maximum_percent"), 200, "{place}");
                let breaker = service.block("deployment_circuit_breaker");
                assert_eq!(breaker["enable"], true, "{place}");
                assert_eq!(breaker["rollback"], false, "{place}");
                let mut controllers = service.blocks("deployment_controller").iter();
                assert!(controllers.all(|controller| controller["type"] == "ECS"), "{place}");
                assert_eq!(service.text("launch_type"), "FARGATE", "{place}");
            }
        }
    }
}

/// No name reaches a side's tasks past the load balancer, whose weights would not govern it.
#[test]
fn sides_are_reached_through_the_load_balancer_alone() {
    for system in system::both() {
        for configuration in system.environments.values() {
            for service in configuration.all("aws_ecs_service") {
                for other in ["service_registries", "service_connect_configuration", "vpc_lattice_configurations"] {
                    assert!(service.blocks(other).is_empty(), "{}: {other}", service.place);
                }
                let network = service.block("network_configuration");
                assert_eq!(network["assign_public_ip"], false, "{}", service.place);
            }
        }
    }
}

/// Secrets are references to Secrets Manager that the execution role may read; no value is in the configuration.
#[test]
fn secrets_are_references_that_the_execution_role_may_read() {
    for system in system::both() {
        for configuration in system.environments.values() {
            assert_eq!(configuration.all("aws_secretsmanager_secret_version").count(), 0);
            for definition in configuration.all("aws_ecs_task_definition") {
                let role = configuration.get("aws_iam_role", "arn", definition.text("execution_role_arn"));
                let policy = configuration.get("aws_iam_role_policy", "role", role.text("id"));
                for container in containers(definition) {
                    let environment = names_of(&container["environment"]);
                    for secret in container["secrets"].as_array().into_iter().flatten() {
                        let reference = secret["valueFrom"].as_str().unwrap_or_default();
                        // What follows the ARN chooses a key of the secret: `:API_KEY::`.
                        let arn = reference.split(':').take(7).collect::<Vec<_>>().join(":");
                        configuration.get("aws_secretsmanager_secret", "arn", &arn);
                        assert!(policy.text("policy").contains(&arn), "{}: {arn}", policy.place);
                        let name = secret["name"].as_str().unwrap_or_default();
                        assert!(!environment.contains(name), "{}: {name}", definition.place);
                    }
                }
            }
        }
    }
}

fn names_of(list: &Value) -> BTreeSet<String> {
    let entries = list.as_array().into_iter().flatten();
    entries.filter_map(|entry| Some(entry["name"].as_str()?.to_owned())).collect()
}

/// Log lines go to a group of the configuration, kept for 30 days; the image comes from the repository of the policy.
#[test]
fn tasks_log_to_the_configurations_groups_and_run_the_policys_images() {
    for system in system::both() {
        for (target, policy, configuration) in system.targets() {
            let repository = &system.policy.services[&target.service].repository;
            for named in policy.resources.platform.ecs_services() {
                let container = container(configuration, named);
                let options = &container["logConfiguration"]["options"];
                let group = options["awslogs-group"].as_str().unwrap_or_default();
                let group = configuration.get("aws_cloudwatch_log_group", "name", group);
                assert_eq!(group.number("retention_in_days"), 30, "{}", group.place);
                assert_eq!(options["awslogs-region"], configuration.region.as_str(), "{target}");
                let image = container["image"].as_str().unwrap_or_default();
                let (account, region) = (&configuration.account, &configuration.region);
                let expected = format!("{account}.dkr.ecr.{region}.amazonaws.com/{repository}:");
                assert!(image.starts_with(&expected), "{target}: {image}");
            }
        }
    }
}

/// An alarm whose name says blue or green watches that side's target group, on the balancer that it is behind; no alarm
/// fires for lack of data.
#[test]
fn alarms_watch_the_side_that_they_are_named_after() {
    for system in system::both() {
        for (target, policy, configuration) in system.targets() {
            for alarm in &policy.alarms {
                let resource = configuration.get("aws_cloudwatch_metric_alarm", "alarm_name", &alarm.name);
                assert_eq!(resource.text("treat_missing_data"), "notBreaching", "{}", resource.place);
                let sides = [Slot::Blue, Slot::Green].into_iter();
                let named: Vec<Slot> = sides.filter(|slot| alarm.name.contains(&format!("-{slot}-"))).collect();
                let watched = target_groups(resource);
                let expected: BTreeSet<&str> = named
                    .iter()
                    .flat_map(|slot| policy.resources.target_groups(*slot))
                    .map(rollout::alarm::dimension)
                    .collect();
                assert_eq!(watched, expected, "{target}: {}", resource.place);
                for balancer in dimension_values(resource, "LoadBalancer") {
                    let name = balancer.split('/').nth(1).unwrap_or_default();
                    let rules = policy.resources.rules().collect::<Vec<_>>();
                    let behind = rules.iter().all(|rule| rule.contains(&format!("/app/{name}/")));
                    assert!(behind, "{target}: {} watches {balancer}", resource.place);
                }
            }
        }
    }
}

/// The target groups that an alarm watches, as values of the dimension.
fn target_groups(alarm: &Resource) -> BTreeSet<&str> {
    dimension_values(alarm, "TargetGroup")
}

/// The values of a dimension in all metrics of an alarm.
fn dimension_values<'a>(alarm: &'a Resource, dimension: &str) -> BTreeSet<&'a str> {
    let of_queries = alarm.blocks("metric_query").iter().map(|query| &query["metric"][0]["dimensions"]);
    let all = of_queries.chain([&alarm.attributes["dimensions"]]);
    all.filter_map(|dimensions| dimensions[dimension].as_str()).collect()
}

/// Every pair has an alarm on each side's 5xx that rolls back.
#[test]
fn each_side_has_an_alarm_that_rolls_back() {
    for system in system::both() {
        for (target, policy, _) in system.targets() {
            let rolls_back = policy.alarms.iter().filter(|alarm| alarm.firing == rollout::policy::AlarmEffect::Back);
            let names: Vec<&str> = rolls_back.map(|alarm| alarm.name.as_str()).collect();
            match sides(policy) {
                Some(_) => {
                    for side in ["-blue-5xx", "-green-5xx"] {
                        assert!(names.iter().any(|name| name.ends_with(side)), "{target}: {names:?}");
                    }
                }
                None => assert!(!names.is_empty(), "{target} has no alarm that rolls back"),
            }
        }
    }
}

/// Autoscaling is on both sides with the same maximum. The side that serves has the minimum, the idle one none; no
/// schedule changes that.
#[test]
fn autoscaling_limits_follow_the_role() {
    for system in system::both() {
        for (target, policy, configuration) in system.targets() {
            let Some(sides) = sides(policy) else { continue };
            let limits = |named: EcsServiceName<'_>| {
                let id = format!("service/{}/{}", last_part(named.cluster), named.name);
                let limits = configuration.get("aws_appautoscaling_target", "resource_id", &id);
                let policies = configuration.all("aws_appautoscaling_policy");
                let policies = policies.filter(|policy| policy.text("resource_id") == id).count();
                (limits.number("min_capacity"), limits.number("max_capacity"), policies)
            };
            let [blue, green] = sides.map(limits);
            assert!(blue.0 > 0 && green.0 == 0, "{target}: {blue:?}, {green:?}");
            assert_eq!((blue.1, blue.2), (green.1, green.2), "{target}");
            assert_eq!(configuration.all("aws_appautoscaling_scheduled_action").count(), 0, "{target}");
        }
    }
}

/// Target health alone decides for the two-tier service: its document has no container health check.
#[test]
fn the_two_tier_service_has_no_container_health_checks() {
    for (target, policy, configuration) in system::two_tier(2).targets() {
        for named in policy.resources.platform.ecs_services() {
            let container = container(configuration, named);
            assert!(container["healthCheck"].is_null(), "{target}: {container}");
        }
    }
}

/// A worker is behind no load balancer: a replacement waits for its container's health check, and after SIGTERM it has
/// time to finish a job.
#[test]
fn workers_have_a_container_health_check_and_time_to_stop() {
    for (target, policy, configuration) in system::skillancer(true).targets() {
        let Some(named) = policy.resources.platform.ecs_service(None) else { continue };
        assert_eq!(target.service.as_str(), "workers");
        let service = ecs_service(configuration, named);
        assert!(service.blocks("load_balancer").is_empty(), "{}", service.place);
        let container = container(configuration, named);
        let check = &container["healthCheck"];
        for field in ["interval", "timeout", "retries", "startPeriod"] {
            assert!(check[field].as_u64().is_some_and(|seconds| seconds > 0), "{target}: {check}");
        }
        assert_eq!(container["stopTimeout"], 120, "{target}");
        let role = task_definition(configuration, service).text("task_role_arn");
        let role = configuration.get("aws_iam_role", "arn", role);
        let protects = configuration.get("aws_iam_role_policy", "role", role.text("id"));
        assert!(protects.text("policy").contains("ecs:UpdateTaskProtection"), "{}", protects.place);
    }
}
