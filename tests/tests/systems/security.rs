//! Who may talk to whom: only the component in front may talk to the next one.

use crate::system;
use crate::terraform::{Configuration, Resource};
use serde_json::Value;
use std::collections::BTreeSet;

/// Every rule of every security group: `GROUP <- SOURCE: PORTS` and `GROUP -> DESTINATION: PORTS`.
fn rules(configuration: &Configuration) -> BTreeSet<String> {
    let mut rules = BTreeSet::new();
    for (kind, direction) in
        [("aws_vpc_security_group_ingress_rule", "<-"), ("aws_vpc_security_group_egress_rule", "->")]
    {
        for rule in configuration.all(kind) {
            let group = group_name(configuration, rule.text("security_group_id"));
            let other = match rule.attributes["referenced_security_group_id"].as_str() {
                Some(id) => group_name(configuration, id),
                None => rule.text("cidr_ipv4"),
            };
            let is_new = rules.insert(format!("{group} {direction} {other}: {}", ports(rule)));
            assert!(is_new, "{}: it stands twice", rule.place);
        }
    }
    rules
}

fn group_name<'a>(configuration: &'a Configuration, id: &str) -> &'a str {
    configuration.get("aws_security_group", "id", id).text("name")
}

/// `all`, `tcp 80`, `tcp 0-65535`
fn ports(rule: &Resource) -> String {
    match rule.text("ip_protocol") {
        "-1" => "all".to_owned(),
        protocol => match (rule.number("from_port"), rule.number("to_port")) {
            (from, to) if from == to => format!("{protocol} {from}"),
            (from, to) => format!("{protocol} {from}-{to}"),
        },
    }
}

fn expected(rules: &[&str], prefix: &str) -> BTreeSet<String> {
    rules.iter().map(|rule| rule.replace('@', prefix)).collect()
}

/// The names of the security groups in a list of their IDs.
fn groups<'a>(configuration: &'a Configuration, ids: &Value) -> Vec<&'a str> {
    let ids = ids.as_array().into_iter().flatten().filter_map(Value::as_str);
    ids.map(|id| group_name(configuration, id)).collect()
}

/// Internet, frontend balancer, frontend tasks, backend balancer, backend tasks: each may talk to the next one only,
/// and tasks to AWS and external APIs by HTTPS.
#[test]
fn only_the_component_in_front_may_talk_to_the_next_one() {
    let system = system::two_tier(2);
    let chain = [
        "@frontend-alb <- 0.0.0.0/0: tcp 80",
        "@frontend-alb -> @frontend-task: tcp 3000",
        "@frontend-task <- @frontend-alb: tcp 3000",
        "@frontend-task -> @backend-alb: tcp 8080",
        "@frontend-task -> 0.0.0.0/0: tcp 443",
        "@backend-alb <- @frontend-task: tcp 8080",
        "@backend-alb -> @backend-task: tcp 8000",
        "@backend-task <- @backend-alb: tcp 8000",
        "@backend-task -> 0.0.0.0/0: tcp 443",
    ];
    assert_eq!(rules(&system.environments["main"]), expected(&chain, "two-tier-"));
}

/// The ports of the chain are those of the listeners and containers, and each component is in the group of its place.
#[test]
fn the_components_of_the_chain_are_in_its_groups() {
    let system = system::two_tier(2);
    let main = &system.environments["main"];
    for (balancer, is_internal, listener, tier, port) in
        [("frontend-public", false, 80_u64, "frontend", 3000), ("backend-internal", true, 8080, "backend", 8000)]
    {
        let balancer = main.get("aws_lb", "name", balancer);
        assert_eq!(balancer.attributes["internal"], is_internal, "{}", balancer.place);
        let own_groups = groups(main, &balancer.attributes["security_groups"]);
        assert_eq!(own_groups, [format!("two-tier-{tier}-alb")], "{}", balancer.place);
        let listeners = main.all("aws_lb_listener");
        let listeners = listeners.filter(|it| it.text("load_balancer_arn") == balancer.text("arn"));
        let ports: Vec<u64> = listeners.map(|listener| listener.number("port")).collect();
        assert_eq!(ports, [listener], "{}", balancer.place);
        let services = main.all("aws_ecs_service").filter(|service| service.text("name").starts_with(tier));
        for service in services {
            let network = service.block("network_configuration");
            let own_groups = groups(main, &network["security_groups"]);
            assert_eq!(own_groups, [format!("two-tier-{tier}-task")], "{}", service.place);
            assert_eq!(service.block("load_balancer")["container_port"], port, "{}", service.place);
        }
    }
    // The frontend finds the backend by its balancer's name, which no deployment changes.
    let definition = main.get("aws_ecs_task_definition", "family", "frontend");
    let backend = main.get("aws_lb", "name", "backend-internal").text("dns_name");
    let url = format!("http://{backend}:8080");
    assert!(definition.text("container_definitions").contains(&url), "{}", definition.place);
}

/// The contract hook reaches the internal load balancer as the frontend does; the journey hook comes from the internet.
#[test]
fn the_contract_hook_has_the_frontends_security_group() {
    let system = system::two_tier(2);
    let main = &system.environments["main"];
    let function = |name: &str| main.get("aws_lambda_function", "function_name", name);
    let contract = function("switchback-hook-two-tier-contract");
    let own_groups = groups(main, &contract.block("vpc_config")["security_group_ids"]);
    assert_eq!(own_groups, ["two-tier-frontend-task"], "{}", contract.place);
    let url = |function: &Resource| function.block("environment")["variables"]["BASE_URL"].clone();
    let backend = main.get("aws_lb", "name", "backend-internal").text("dns_name");
    assert_eq!(url(contract), format!("http://{backend}:8080"), "{}", contract.place);
    let journey = function("switchback-hook-two-tier-journey");
    assert!(journey.blocks("vpc_config").is_empty(), "{}", journey.place);
    let frontend = main.get("aws_lb", "name", "frontend-public").text("dns_name");
    assert_eq!(url(journey), format!("http://{frontend}:80"), "{}", journey.place);
    let source = main.all("archive_file").next().expect("the hooks have a source").text("source_file");
    assert!(system.folder.join(source).is_file(), "{source}");
}

/// As the network document has them, and one group more: interface endpoints need one that lets the tasks in.
#[test]
fn skillancers_security_groups_are_those_of_its_document() {
    let system = system::skillancer(true);
    let document = [
        "@alb <- 0.0.0.0/0: tcp 80",
        "@alb <- 0.0.0.0/0: tcp 443",
        "@alb -> 0.0.0.0/0: all",
        "@tasks <- @alb: tcp 0-65535",
        "@tasks <- @tasks: tcp 0-65535",
        "@tasks -> 0.0.0.0/0: all",
        "@database <- @tasks: tcp 5432",
        "@database <- @tasks: tcp 6379",
        "@database -> 0.0.0.0/0: all",
        "@endpoints <- @tasks: tcp 443",
    ];
    for (environment, configuration) in &system.environments {
        let prefix = format!("skillancer-{environment}-");
        assert_eq!(rules(configuration), expected(&document, &prefix), "{environment}");
        let named = |name: &str| vec![format!("{prefix}{name}")];
        for balancer in configuration.all("aws_lb") {
            assert_eq!(groups(configuration, &balancer.attributes["security_groups"]), named("alb"));
        }
        // Hooks run as tasks of the service, so that migrations reach the database.
        for service in configuration.all("aws_ecs_service") {
            let network = service.block("network_configuration");
            assert_eq!(groups(configuration, &network["security_groups"]), named("tasks"), "{}", service.place);
        }
        for database in configuration.all("aws_db_instance") {
            assert_eq!(groups(configuration, &database.attributes["vpc_security_group_ids"]), named("database"));
        }
        for cache in configuration.all("aws_elasticache_replication_group") {
            assert_eq!(groups(configuration, &cache.attributes["security_group_ids"]), named("database"));
        }
    }
}

/// Rules are resources of their own: one inside of a group would escape these tests.
#[test]
fn security_groups_have_no_rules_inside() {
    for system in system::both() {
        for configuration in system.environments.values() {
            for group in configuration.all("aws_security_group") {
                let inside = ["ingress", "egress"].iter().any(|kind| !group.attributes[*kind].is_null());
                assert!(!inside, "{}", group.place);
            }
        }
    }
}

/// Workflows may push images, and deploy nothing: the role is no task's, and knows no other service than ECR.
#[test]
fn the_role_of_workflows_pushes_images_and_nothing_else() {
    let system = system::skillancer(true);
    let account = system.account.as_ref().expect("it has what exists once");
    let role = account.get("aws_iam_role", "name", "github-push-skillancer");
    assert!(!role.text("name").starts_with(&system.scope.task_roles), "{}", role.place);
    let policy = account.get("aws_iam_role_policy", "role", role.text("id"));
    let document: Value = serde_json::from_str(policy.text("policy")).expect("it is JSON");
    for statement in document["Statement"].as_array().into_iter().flatten() {
        let one = statement["Action"].as_str().into_iter();
        let several = statement["Action"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let actions: Vec<&str> = one.chain(several).collect();
        assert!(!actions.is_empty() && actions.iter().all(|action| action.starts_with("ecr:")), "{actions:?}");
    }
}
