//! The doctor's readings: AWS's answers as the core takes them, and what is asked of a registry.

use super::*;
use crate::config::{self, Clients};
use aws_credential_types::Credentials;
use aws_sdk_ecs::types::{
    Compatibility, Deployment, DeploymentAlarms, DeploymentCircuitBreaker, DeploymentConfiguration, HealthCheck,
    NetworkMode, ServiceConnectClientAlias, ServiceConnectConfiguration, ServiceConnectService, ServiceRegistry,
    VpcLatticeConfiguration,
};
use serde_json::json;
use std::net::Ipv4Addr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// One name with all settings, and one with the defaults.
fn service_connect(enabled: bool) -> ServiceConnectConfiguration {
    let alias = |port| ServiceConnectClientAlias::builder().port(port);
    let api = ServiceConnectService::builder()
        .port_name("http")
        .discovery_name("api")
        .client_aliases(alias(80).dns_name("api.internal").build().expect("a port"));
    let admin =
        ServiceConnectService::builder().port_name("admin").client_aliases(alias(8081).build().expect("a port"));
    ServiceConnectConfiguration::builder()
        .enabled(enabled)
        .namespace("arn:aws:servicediscovery:eu-central-1:111122223333:namespace/ns-shop")
        .services(api.build().expect("a port name"))
        .services(admin.build().expect("a port name"))
        .build()
}

/// ECS developer guide, "Interconnect Amazon ECS services".
#[test]
fn endpoints_besides_the_load_balancer_are_found() {
    let lattice = VpcLatticeConfiguration::builder()
        .role_arn("arn:aws:iam::111122223333:role/lattice")
        .target_group_arn("arn:aws:vpc-lattice:eu-central-1:111122223333:targetgroup/tg-0a1b2c3d4e5f60718")
        .port_name("http")
        .build();
    let primary = Deployment::builder()
        .status("PRIMARY")
        .service_connect_configuration(service_connect(true))
        .vpc_lattice_configurations(lattice.expect("it is complete"));
    let registry = ServiceRegistry::builder()
        .registry_arn("arn:aws:servicediscovery:eu-central-1:111122223333:service/srv-utcrh6wavdkggqtk");
    let service = Service::builder().service_registries(registry.build()).deployments(primary.build()).build();
    let expected = [
        "the Service Connect name api in ns-shop",
        "the Service Connect alias api.internal:80",
        "the Service Connect name admin in ns-shop",
        "the Service Connect alias admin.ns-shop:8081",
        "the Cloud Map registry srv-utcrh6wavdkggqtk",
        "the VPC Lattice target group tg-0a1b2c3d4e5f60718",
    ];
    assert_eq!(other_endpoints(&service), BTreeSet::from(expected.map(str::to_owned)));
    assert_eq!(service_seen(&service).other_endpoints, other_endpoints(&service));
}

#[test]
fn service_connect_counts_if_the_primary_deployment_enables_it() {
    let deployment = |status: &str, enabled| {
        let deployment = Deployment::builder().status(status);
        deployment.service_connect_configuration(service_connect(enabled)).build()
    };
    let service = Service::builder().deployments(deployment("PRIMARY", false));
    let service = service.deployments(deployment("ACTIVE", true)).build();
    assert_eq!(other_endpoints(&service), BTreeSet::new());
}

/// ECS API reference, `ContainerDefinition`: a container is essential unless it says otherwise.
#[test]
fn containers_have_their_health_checks_and_stop_timeouts() {
    let check = HealthCheck::builder().command("CMD-SHELL").command("curl -f http://localhost/healthz").build();
    let worker = ContainerDefinition::builder().name("worker").image("shop/worker:v1");
    let worker = worker.health_check(check.expect("a command")).stop_timeout(90);
    let port = PortMapping::builder().container_port(8080).build();
    let range = PortMapping::builder().container_port_range("9000-9010").build();
    let worker = worker.port_mappings(port).port_mappings(range);
    let logger = ContainerDefinition::builder().name("logger").image("shop/logger:v1").essential(false);
    let definition = TaskDefinition::builder().container_definitions(worker.build());
    let definition = definition.container_definitions(logger.build()).build();
    let container = |image: &str, essential, health_check, stop_timeout_s, ports| InspectedContainer {
        image: image.to_owned(),
        essential,
        health_check,
        stop_timeout_s,
        ports,
    };
    let expected = [
        ("worker", container("shop/worker:v1", true, true, Some(90), vec![(8080, 8080), (9000, 9010)])),
        ("logger", container("shop/logger:v1", false, false, None, vec![])),
    ];
    let expected = BTreeMap::from(expected.map(|(name, container)| (name.to_owned(), container)));
    assert_eq!(definition_seen(&definition).containers, expected);
}

#[test]
fn what_a_service_requires_of_a_task_definition_is_read() {
    let definition = TaskDefinition::builder().network_mode(NetworkMode::Awsvpc);
    let definition = definition.requires_compatibilities(Compatibility::Fargate).build();
    let seen = definition_seen(&definition);
    assert_eq!(seen.network_mode, "awsvpc");
    assert_eq!(seen.launch_types, BTreeSet::from(["FARGATE".to_owned()]));
    let unset = definition_seen(&TaskDefinition::builder().build());
    assert_eq!((unset.network_mode.as_str(), unset.launch_types), ("bridge", BTreeSet::new()));

    let registration = LoadBalancer::builder().target_group_arn("arn").container_name("api").container_port(8080);
    let service = Service::builder().load_balancers(registration.build()).build();
    assert_eq!(service_seen(&service).registered_ports, BTreeSet::from([("api".to_owned(), 8080)]));
}

#[test]
fn ecs_rolls_back_by_an_enabled_breaker_or_alarm_only() {
    let seen = |breaker: Option<DeploymentCircuitBreaker>, alarms: Option<DeploymentAlarms>| {
        let configuration = DeploymentConfiguration::builder().set_deployment_circuit_breaker(breaker);
        let service = Service::builder().deployment_configuration(configuration.set_alarms(alarms).build());
        let seen = service_seen(&service.build());
        (seen.breaker, seen.breaker_rolls_back, seen.alarms_roll_back)
    };
    let breaker =
        |enable, rollback| Some(DeploymentCircuitBreaker::builder().enable(enable).rollback(rollback).build());
    let alarms = |enable, rollback| {
        let alarms = DeploymentAlarms::builder().alarm_names("errors").enable(enable).rollback(rollback);
        Some(alarms.build().expect("it is complete"))
    };
    assert_eq!(seen(None, None), (false, false, false));
    assert_eq!(seen(breaker(true, false), alarms(true, false)), (true, false, false));
    assert_eq!(seen(breaker(true, true), None), (true, true, false));
    assert_eq!(seen(None, alarms(true, true)), (false, false, true));
    assert_eq!(seen(breaker(false, true), alarms(false, true)), (false, false, false));
}

/// An ECR with one answer to both of the doctor's requests, which the task returns.
async fn ecr_stub() -> (AwsCloud, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let config = config::loader()
        .endpoint_url(format!("http://{}", listener.local_addr().expect("an address")))
        .region(aws_config::Region::new("eu-central-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
        .load()
        .await;
    let requests = tokio::spawn(async move {
        let answer = json!({
            "repositories": [{"repositoryName": "shop/api", "imageTagMutability": "IMMUTABLE"}],
            "imageDetails": [{"imageTags": ["v1"], "imagePushedAt": 1_790_000_000}],
        })
        .to_string();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/x-amz-json-1.1\r\nconnection: close";
        let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{answer}", answer.len());
        let mut requests = Vec::new();
        while requests.len() < 2 {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut request = String::new();
            while !request.ends_with('}') {
                let mut bytes = [0; 1024];
                let read = stream.read(&mut bytes).await.expect("a request");
                assert!(read > 0, "it ends early: {request}");
                request.push_str(&String::from_utf8_lossy(&bytes[..read]));
            }
            stream.write_all(answer.as_bytes()).await.expect("it is still there");
            requests.push(request);
        }
        requests
    });
    (AwsCloud::new(Clients::of(config)), requests)
}

/// Issue 10, case 15: the registry is in another account, and in another Region.
#[tokio::test]
async fn the_policys_registry_is_queried() {
    let (cloud, requests) = ecr_stub().await;
    let registry = RegistryPolicy { account: Some("999999999999".into()), region: Some("us-west-2".into()) };
    let seen = cloud.repository_seen(&registry, "shop/api").await;
    let newest = Reading::Known(vec![InspectedTag { tag: "v1".to_owned(), matches_rule: false }]);
    assert_eq!(seen, Ok(Some(InspectedRepository { immutable: true, newest })));
    let requests = requests.await.expect("nobody panicked");
    for operation in ["DescribeRepositories", "DescribeImages"] {
        let request = requests.iter().find(|request| request.contains(&format!("_V20150921.{operation}\r\n")));
        let request = request.unwrap_or_else(|| panic!("{operation} was not called: {requests:?}"));
        assert!(request.contains("\"registryId\":\"999999999999\""), "{request}");
        assert!(request.contains("/us-west-2/ecr/"), "{request}");
    }
}
