//! Zones, subnets, routes, gateways and endpoints: as the owners' documents have them, and untouched by deployments.

use crate::system;
use crate::terraform::{Configuration, Resource};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The subnets in a list of their IDs.
fn subnets<'a>(configuration: &'a Configuration, ids: &Value) -> Vec<&'a Resource> {
    let ids = ids.as_array().into_iter().flatten().filter_map(Value::as_str);
    ids.map(|id| configuration.get("aws_subnet", "id", id)).collect()
}

fn zones<'a>(subnets: &[&'a Resource]) -> BTreeSet<&'a str> {
    subnets.iter().map(|subnet| subnet.text("availability_zone")).collect()
}

/// The attribute of the default route of a subnet's route table that says where it leads; none: there is no such route.
fn default_route<'a>(configuration: &'a Configuration, subnet: &Resource) -> Option<(&'static str, &'a str)> {
    let table = configuration.get("aws_route_table_association", "subnet_id", subnet.text("id"));
    let mut routes = configuration.all("aws_route");
    let to_anywhere = |route: &&Resource| {
        route.text("route_table_id") == table.text("route_table_id")
            && route.text("destination_cidr_block") == "0.0.0.0/0"
    };
    let route = routes.find(to_anywhere)?;
    let leads_to = |kind: &'static str| Some((kind, route.attributes[kind].as_str()?));
    leads_to("gateway_id").or_else(|| leads_to("nat_gateway_id"))
}

/// Tasks run in every zone of the system, in subnets that are reached through a load balancer in the same zones.
#[test]
fn tasks_and_load_balancers_span_every_zone() {
    for (system, number) in [(system::two_tier(2), 2), (system::skillancer(true), 3)] {
        for configuration in system.environments.values() {
            let all: Vec<&Resource> = configuration.all("aws_subnet").collect();
            let all = zones(&all);
            assert_eq!(all.len(), number, "{}", system.folder.display());
            for balancer in configuration.all("aws_lb") {
                let own = zones(&subnets(configuration, &balancer.attributes["subnets"]));
                assert_eq!(own, all, "{}", balancer.place);
            }
            for service in configuration.all("aws_ecs_service") {
                let network = service.block("network_configuration");
                let own = subnets(configuration, &network["subnets"]);
                assert_eq!(zones(&own), all, "{}", service.place);
                for subnet in own {
                    let (way_out, _) = default_route(configuration, subnet).expect("tasks pull images");
                    assert_eq!(way_out, "nat_gateway_id", "{}", service.place);
                }
            }
        }
    }
}

/// Public load balancers are in subnets with a route to the Internet Gateway, internal ones are not.
#[test]
fn only_public_load_balancers_and_nat_gateways_are_in_public_subnets() {
    for system in system::both() {
        for configuration in system.environments.values() {
            for balancer in configuration.all("aws_lb") {
                for subnet in subnets(configuration, &balancer.attributes["subnets"]) {
                    let route = default_route(configuration, subnet).expect("it has a default route").0;
                    let is_public = route == "gateway_id";
                    assert_eq!(balancer.attributes["internal"], !is_public, "{}", balancer.place);
                }
            }
            for gateway in configuration.all("aws_nat_gateway") {
                let subnet = configuration.get("aws_subnet", "id", gateway.text("subnet_id"));
                let route = default_route(configuration, subnet);
                assert_eq!(route.map(|route| route.0), Some("gateway_id"), "{}", gateway.place);
                configuration.get("aws_eip", "id", gateway.text("allocation_id"));
            }
        }
    }
}

#[test]
fn the_two_tier_service_has_one_nat_gateway() {
    let system = system::two_tier(2);
    let main = &system.environments["main"];
    assert_eq!(main.all("aws_nat_gateway").count(), 1);
    assert_eq!(main.all("aws_vpc").count(), 1);
}

/// One in dev and staging; in prod one a zone, each used by the private subnet of its own zone.
#[test]
fn skillancer_has_a_nat_gateway_in_each_zone_of_prod() {
    let system = system::skillancer(true);
    for (environment, number) in [("dev", 1), ("staging", 1), ("prod", 3)] {
        let configuration = &system.environments[environment];
        assert_eq!(configuration.all("aws_nat_gateway").count(), number, "{environment}");
        if number == 1 {
            continue;
        }
        for service in configuration.all("aws_ecs_service") {
            for subnet in subnets(configuration, &service.block("network_configuration")["subnets"]) {
                let (_, gateway) = default_route(configuration, subnet).expect("it has a default route");
                let gateway = configuration.get("aws_nat_gateway", "id", gateway);
                let public = configuration.get("aws_subnet", "id", gateway.text("subnet_id"));
                assert_eq!(public.text("availability_zone"), subnet.text("availability_zone"), "{}", gateway.place);
            }
        }
    }
}

/// The document's table of subnets; database subnets have no default route.
#[test]
fn skillancers_subnets_are_those_of_its_document() {
    let tiers = [
        ("public", ["10.0.0.0/20", "10.0.16.0/20", "10.0.32.0/20"]),
        ("private", ["10.0.48.0/20", "10.0.64.0/20", "10.0.80.0/20"]),
        ("database", ["10.0.96.0/20", "10.0.112.0/20", "10.0.128.0/20"]),
    ];
    let system = system::skillancer(true);
    for (environment, configuration) in &system.environments {
        let vpc = configuration.all("aws_vpc").next().expect("there is a VPC");
        assert_eq!(vpc.text("cidr_block"), "10.0.0.0/16", "{environment}");
        assert_eq!(vpc.attributes["enable_dns_hostnames"], true, "{environment}");
        for (tier, blocks) in tiers {
            for (block, zone) in blocks.into_iter().zip(["a", "b", "c"]) {
                let subnet = configuration.get("aws_subnet", "cidr_block", block);
                let place = (subnet.text("availability_zone"), subnet.attributes["tags"]["Name"].as_str());
                let name = format!("skillancer-{environment}-{tier}-{zone}");
                assert_eq!(place, (format!("us-east-1{zone}").as_str(), Some(name.as_str())));
                let expected = match tier {
                    "public" => Some("gateway_id"),
                    "private" => Some("nat_gateway_id"),
                    _ => None,
                };
                assert_eq!(default_route(configuration, subnet).map(|route| route.0), expected, "{}", subnet.place);
            }
        }
        assert_eq!(configuration.all("aws_subnet").count(), 9, "{environment}");
    }
}

/// S3 and DynamoDB by gateways everywhere, the four others by interfaces in prod, under their usual names.
#[test]
fn skillancers_endpoints_are_those_of_its_document() {
    let system = system::skillancer(true);
    for (environment, configuration) in &system.environments {
        let mut kinds: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for endpoint in configuration.all("aws_vpc_endpoint") {
            let name = endpoint.text("service_name").trim_start_matches("com.amazonaws.us-east-1.");
            kinds.entry(endpoint.text("vpc_endpoint_type")).or_default().insert(name);
            if endpoint.text("vpc_endpoint_type") == "Interface" {
                assert_eq!(endpoint.attributes["private_dns_enabled"], true, "{}", endpoint.place);
            }
        }
        let mut expected = BTreeMap::from([("Gateway", BTreeSet::from(["dynamodb", "s3"]))]);
        if environment == "prod" {
            expected.insert("Interface", BTreeSet::from(["ecr.api", "ecr.dkr", "logs", "secretsmanager"]));
        }
        assert_eq!(kinds, expected, "{environment}");
    }
}

#[test]
fn skillancers_flow_logs_record_everything_for_30_days() {
    let system = system::skillancer(true);
    for (environment, configuration) in &system.environments {
        let logs: Vec<&Resource> = configuration.all("aws_flow_log").collect();
        let [log] = logs.as_slice() else { panic!("{environment} has {} flow logs", logs.len()) };
        assert_eq!(log.text("traffic_type"), "ALL", "{}", log.place);
        let group = configuration.get("aws_cloudwatch_log_group", "arn", log.text("log_destination"));
        assert_eq!(group.number("retention_in_days"), 30, "{}", group.place);
    }
}

/// A standby and replicas in prod, all in the database subnets.
#[test]
fn skillancers_databases_are_replicated_in_prod() {
    let system = system::skillancer(true);
    for (environment, configuration) in &system.environments {
        let is_prod = environment == "prod";
        let database = configuration.all("aws_db_instance").next().expect("there is a database");
        assert_eq!(database.attributes["multi_az"], is_prod, "{}", database.place);
        assert_eq!(database.attributes["publicly_accessible"], false, "{}", database.place);
        let cache = configuration.all("aws_elasticache_replication_group").next().expect("there is a cache");
        assert_eq!(cache.attributes["automatic_failover_enabled"], is_prod, "{}", cache.place);
        assert_eq!(cache.number("num_cache_clusters"), if is_prod { 3 } else { 1 }, "{}", cache.place);
        for kind in ["aws_db_subnet_group", "aws_elasticache_subnet_group"] {
            let group = configuration.all(kind).next().expect("there is a subnet group");
            for subnet in subnets(configuration, &group.attributes["subnet_ids"]) {
                assert_eq!(default_route(configuration, subnet), None, "{}", group.place);
            }
        }
    }
}

/// Switchback needs AWS's APIs only. None of its functions is in a VPC, so no route, gateway or endpoint of a system
/// prevents a rollback.
#[test]
fn the_control_plane_is_in_no_vpc() {
    let template = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../template.yaml");
    let template = std::fs::read_to_string(template).expect("the stack has a template");
    assert!(template.contains("AWS::Serverless::Function") && !template.contains("VpcConfig"));
}
