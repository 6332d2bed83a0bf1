//! Everything that a policy names is something that its system's Terraform creates, under that name.

use crate::system::{self, System, containers, ecs_service, forwards, last_part, rule, task_definition};
use crate::terraform::Configuration;
use rollout::notification::Receiver;
use rollout::policy::HookAction;
use rollout::{Leg, Platform, Slot, TargetPolicy};
use serde_json::{Value, json};
use std::collections::BTreeSet;

#[test]
fn clusters_services_and_containers_are_those_of_the_configuration() {
    for system in system::both() {
        for (target, policy, configuration) in system.targets() {
            for named in policy.resources.platform.ecs_services() {
                configuration.get("aws_ecs_cluster", "name", last_part(named.cluster));
                let definition = task_definition(configuration, ecs_service(configuration, named));
                let containers = containers(definition);
                let names: Vec<&Value> = containers.iter().map(|container| &container["name"]).collect();
                assert_eq!(names, [named.container], "{target}: {}", definition.place);
            }
        }
    }
}

/// The template of each release is what Terraform registers, for both sides of a pair.
#[test]
fn template_families_are_those_of_the_services() {
    for system in system::both() {
        for (target, policy, configuration) in system.targets() {
            let family = policy.template.family();
            assert!(family.is_some(), "{target} names no family: a change of its task definition would never go out");
            for named in policy.resources.platform.ecs_services() {
                let definition = task_definition(configuration, ecs_service(configuration, named));
                assert_eq!(family, Some(definition.text("family")), "{target}: {}", definition.place);
                // A rollback may need an earlier revision: Terraform must not deregister it.
                assert_eq!(definition.attributes["skip_destroy"], true, "{}", definition.place);
            }
        }
    }
}

/// Each side registers in its own target group of each load balancer; what is replaced in place, in the policy's.
#[test]
fn services_register_in_the_target_groups_of_the_policy() {
    for system in system::both() {
        for (target, policy, configuration) in system.targets() {
            for slot in [Some(Slot::Blue), Some(Slot::Green), None] {
                let Some(named) = policy.resources.platform.ecs_service(slot) else { continue };
                let wanted: BTreeSet<&str> = match slot {
                    Some(slot) => policy.resources.target_groups(slot).collect(),
                    None => policy.resources.platform.target_groups_in_place().iter().map(String::as_str).collect(),
                };
                let service = ecs_service(configuration, named);
                let registered = service.blocks("load_balancer").iter();
                let registered: BTreeSet<&str> =
                    registered.filter_map(|block| block["target_group_arn"].as_str()).collect();
                assert_eq!(registered, wanted, "{target}: {}", service.place);
                for arn in wanted {
                    configuration.get("aws_lb_target_group", "arn", arn);
                }
            }
        }
    }
}

/// Terraform creates every rule with all traffic on blue, and no other rule forwards to a pair's target groups.
#[test]
fn rules_give_blue_everything_and_green_nothing() {
    for system in system::both() {
        for (target, policy, configuration) in system.targets() {
            for leg in &policy.resources.traffic {
                for arn in leg.all_rules() {
                    let (resource, block) = rule(configuration, arn);
                    let split = [(leg.blue.as_str(), 100_u64), (leg.green.as_str(), 0)];
                    assert_eq!(forwards(resource.block(block)), split, "{target}: {}", resource.place);
                }
                let named: BTreeSet<&str> = leg.all_rules().collect();
                assert_eq!(forwarding(configuration, leg), named, "{target}");
            }
        }
    }
}

/// ARNs of all rules and listeners that forward to one of the leg's target groups.
fn forwarding<'a>(configuration: &'a Configuration, leg: &Leg) -> BTreeSet<&'a str> {
    let of_listeners = configuration.all("aws_lb_listener").map(|listener| (listener, "default_action"));
    let of_rules = configuration.all("aws_lb_listener_rule").map(|rule| (rule, "action"));
    let reaches = |group: &str| group == leg.blue || group == leg.green;
    let found = of_listeners
        .chain(of_rules)
        .filter(|(resource, block)| forwards(resource.block(block)).into_iter().any(|(group, _)| reaches(group)));
    found.map(|(resource, _)| resource.text("arn")).collect()
}

/// Only requests with a header of the testers' own match a test rule, before any rule for production.
#[test]
fn test_rules_match_a_header_and_come_first() {
    for system in system::both() {
        for (target, policy, configuration) in system.targets() {
            for leg in &policy.resources.traffic {
                let arn = leg.test_rule.as_deref().unwrap_or_else(|| panic!("{target} has no test rule"));
                let (test, _) = rule(configuration, arn);
                let headers = test.blocks("condition").iter().filter(|condition| !condition["http_header"].is_null());
                let headers: Vec<&Value> = headers.map(|it| &it["http_header"][0]["http_header_name"]).collect();
                assert_eq!(headers, ["x-switchback-test"], "{}", test.place);
                for arn in leg.rules.iter().filter(|arn| arn.contains(":listener-rule/")) {
                    let (production, _) = rule(configuration, arn);
                    assert!(test.number("priority") < production.number("priority"), "{}", test.place);
                }
            }
        }
    }
}

#[test]
fn alarms_hooks_repositories_and_topics_are_those_of_the_configuration() {
    for system in system::both() {
        for (_, policy, configuration) in system.targets() {
            for alarm in &policy.alarms {
                configuration.get("aws_cloudwatch_metric_alarm", "alarm_name", &alarm.name);
            }
            check_hooks(policy, configuration, &system);
        }
        for service in system.policy.services.values() {
            let repository = system.get("aws_ecr_repository", "name", &service.repository);
            assert!(service.repository.starts_with(&system.scope.repositories), "{}", repository.place);
            // A tag always names the same image.
            assert_eq!(repository.text("image_tag_mutability"), "IMMUTABLE", "{}", repository.place);
        }
        for route in &system.policy.notifications {
            let Receiver::Topic(arn) = &route.receiver else { continue };
            let topic = system.get("aws_sns_topic", "arn", arn);
            assert!(topic.text("name").starts_with(&system.scope.topics), "{}", topic.place);
        }
    }
}

/// Functions exist under names that the control plane may call; tasks run a container of the release's task definition.
fn check_hooks(policy: &TargetPolicy, configuration: &Configuration, system: &System) {
    for hook in &policy.hooks {
        match &hook.run {
            HookAction::Lambda { function } => {
                let found = configuration.get("aws_lambda_function", "function_name", function);
                assert!(function.starts_with(&system.scope.hooks), "{}", found.place);
                let limit = found.number("timeout");
                assert!(limit < hook.deadline.0, "{}: it may take {limit} s of {}", found.place, hook.deadline);
            }
            HookAction::Task { container, .. } => {
                let named = policy.resources.platform.ecs_services().next().expect("ECS runs the target");
                assert_eq!(container, named.container);
            }
        }
    }
}

/// Roles that the control plane hands to tasks, clusters and load balancers begin as its parameters allow.
#[test]
fn roles_clusters_and_load_balancers_begin_with_the_stacks_prefixes() {
    for system in system::both() {
        let readme = std::fs::read_to_string(system.folder.join("README.md")).expect("the system has a README");
        for (parameter, prefix) in [
            ("ClusterPrefix", &system.scope.clusters),
            ("LoadBalancerPrefix", &system.scope.load_balancers),
            ("RepositoryPrefix", &system.scope.repositories),
            ("TaskRolePrefix", &system.scope.task_roles),
        ] {
            let is_named = readme.contains(&format!("`{parameter}={prefix}`"));
            assert!(is_named || prefix.is_empty(), "the README does not name {parameter}={prefix}");
        }
        for configuration in system.environments.values() {
            for cluster in configuration.all("aws_ecs_cluster") {
                assert!(cluster.text("name").starts_with(&system.scope.clusters), "{}", cluster.place);
            }
            for balancer in configuration.all("aws_lb") {
                assert!(balancer.text("name").starts_with(&system.scope.load_balancers), "{}", balancer.place);
            }
            for definition in configuration.all("aws_ecs_task_definition") {
                for attribute in ["task_role_arn", "execution_role_arn"] {
                    let role = configuration.get("aws_iam_role", "arn", definition.text(attribute));
                    assert!(role.text("name").starts_with(&system.scope.task_roles), "{}", role.place);
                }
            }
        }
    }
}

/// What `terraform output` prints is what the policy names, once AWS has generated the last parts of the ARNs.
#[test]
fn outputs_print_the_arns_of_the_policy() {
    let two_tier = system::two_tier(2);
    for (target, policy, configuration) in two_tier.targets() {
        let [leg] = policy.resources.traffic.as_slice() else { panic!("{target} is behind one load balancer") };
        let expected = json!({"blue": leg.blue, "green": leg.green, "rules": leg.rules, "test_rule": leg.test_rule});
        assert_eq!(configuration.outputs[&format!("{}_traffic", target.service)], expected, "{target}");
    }
    let skillancer = system::skillancer(true);
    for (target, policy, configuration) in skillancer.targets() {
        let (groups, rules) = (&configuration.outputs["target_groups"], &configuration.outputs["rules"]);
        let service = &target.service;
        for leg in &policy.resources.traffic {
            let printed = ["blue", "green"].map(|side| &groups[format!("{service}_{side}")]);
            assert_eq!(printed, [leg.blue.as_str(), leg.green.as_str()], "{target}");
            let printed = [&rules[service.as_str()], &rules[format!("{service}_test")]];
            let expected = [leg.rules[0].as_str(), leg.test_rule.as_deref().unwrap_or_default()];
            assert_eq!(printed, expected, "{target}");
        }
    }
    assert!(two_tier.targets().all(|(_, policy, _)| matches!(policy.resources.platform, Platform::EcsPair(_))));
}
