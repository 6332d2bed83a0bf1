//! Builds the simulated world of a system from what its Terraform creates, with the system's own policy: what is
//! shipped is what is tested.
//!
//! The model has no metrics of databases, NAT gateways and log lines: alarms on these have a state that is set by hand.
//! Nor has it CPU: scaling policies on that do nothing.

use crate::system::{System, containers, forwards, last_part};
use crate::terraform::{Configuration, Resource};
use rollout::{EcsPair, EcsRolling, Leg, Platform, Seconds, TargetId, TargetPolicy};
use serde_json::{Value, json};
use simulation::world::alarms::{AlarmState, Comparison, MetricAlarm, TreatMissing, WatchedMetric};
use simulation::world::balancer::{ActionKind, GroupSettings, ListenerAction};
use simulation::world::ecs::{
    CircuitBreaker, CreateService, DeploymentConfiguration, RolloutState, ServiceLoadBalancer,
};
use simulation::world::scaling::RegisterScalableTarget;
use simulation::world::{ApiResult, BuiltApplication, FunctionBehaviour, PairNames, RollingNames, Settings, World};

/// Requests per second on every rule and listener that carries production traffic.
pub(crate) const REQUESTS_PER_SECOND: f64 = 5.0;
/// How long a system may take to come up, in seconds.
const PATIENCE_S: u32 = 900;

/// The simulated world of a system, settled, and its policy with the names of that world.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) built: BuiltApplication,
    pub(crate) ids: Ids,
}

/// The parts of ARNs that AWS generates: as the configuration evaluates, and as the world has them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ids(Vec<(String, String)>);

impl Ids {
    /// The last parts of these ARNs name the same resource.
    fn add(&mut self, evaluated: &str, of_world: &str) {
        self.0.push((last_part(evaluated).to_owned(), last_part(of_world).to_owned()));
    }

    /// A text with the world's parts in place of the evaluated ones.
    pub(crate) fn translate(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (evaluated, of_world)| text.replace(evaluated, of_world))
    }
}

/// Builds the world of all environments of a system, and runs it until everything is up.
#[track_caller]
pub(crate) fn build(system: &System) -> Scene {
    let any = system.environments.values().next().expect("the system has an environment");
    let (account, region) = (any.account.clone(), any.region.clone());
    let mut world = World::new(Settings { account, region, ..Settings::default() });
    let mut ids = Ids::default();
    for configuration in system.environments.values() {
        let placed = world.as_third_party(|world| place(world, configuration, &mut ids));
        placed.unwrap_or_else(|error| panic!("the world refuses the configuration: {error}"));
    }
    settle(&mut world, system);
    let policy = policy::parse(&ids.translate(&system.text)).unwrap_or_else(|problems| panic!("{problems}"));
    for rule in policy.targets().flat_map(|(_, target)| target.resources.rules()) {
        world.set_traffic(rule, REQUESTS_PER_SECOND);
    }
    world.drain_events();
    world.forget_calls();
    let (mut pairs, mut services) = (Vec::new(), Vec::new());
    for (target, named) in policy.targets() {
        let repository = policy.services[&target.service].repository.clone();
        let repository_uri = format!("{}.dkr.ecr.{}.amazonaws.com/{repository}", any.account, any.region);
        let origin = Origin { target, repository, repository_uri };
        let configuration = &system.environments[origin.target.environment.as_str()];
        match &named.resources.platform {
            Platform::EcsPair(pair) => pairs.push(origin.pair(configuration, named, pair)),
            Platform::EcsRolling(rolling) => services.push(origin.rolling(configuration, rolling)),
        }
    }
    Scene { built: BuiltApplication { world, pairs, services, policy }, ids }
}

/// Creates everything that deployments use.
fn place(world: &mut World, configuration: &Configuration, ids: &mut Ids) -> ApiResult<()> {
    for cluster in configuration.all("aws_ecs_cluster") {
        world.create_cluster(cluster.text("name"))?;
    }
    place_balancers(world, configuration, ids)?;
    for definition in configuration.all("aws_ecs_task_definition") {
        let registered = world.register_task_definition(document(definition))?;
        assert_eq!(registered.arn, definition.text("arn"), "{}", definition.place);
    }
    for service in configuration.all("aws_ecs_service") {
        world.create_service(create_service(service, ids))?;
    }
    for alarm in configuration.all("aws_cloudwatch_metric_alarm") {
        place_alarm(world, configuration, alarm, ids)?;
    }
    for function in configuration.all("aws_lambda_function") {
        world.put_function(function.text("function_name"), FunctionBehaviour::succeeds());
    }
    place_autoscaling(world, configuration)
}

fn place_balancers(world: &mut World, configuration: &Configuration, ids: &mut Ids) -> ApiResult<()> {
    for balancer in configuration.all("aws_lb") {
        let created = world.create_load_balancer(balancer.text("name"))?;
        ids.add(balancer.text("arn"), &created.arn);
    }
    for group in configuration.all("aws_lb_target_group") {
        let check = group.block("health_check");
        let checks = |name: &str| small(&check[name]);
        let settings = GroupSettings {
            health_check_interval_s: checks("interval"),
            healthy_threshold: checks("healthy_threshold"),
            unhealthy_threshold: checks("unhealthy_threshold"),
            deregistration_delay_s: small(&group.attributes["deregistration_delay"]),
            stickiness: group.blocks("stickiness").iter().any(|block| block["enabled"] == true),
            port: port(&group.attributes["port"]),
        };
        let created = world.create_target_group(group.text("name"), settings)?;
        ids.add(group.text("arn"), &created.arn);
    }
    for listener in configuration.all("aws_lb_listener") {
        let balancer = ids.translate(listener.text("load_balancer_arn"));
        let actions = actions(listener.block("default_action"), ids);
        let number = port(&listener.attributes["port"]);
        let created = world.create_listener(&balancer, number, listener.text("protocol"), actions)?;
        ids.add(listener.text("arn"), &created.arn);
    }
    for rule in configuration.all("aws_lb_listener_rule") {
        let listener = ids.translate(rule.text("listener_arn"));
        let conditions = rule.blocks("condition").iter().map(condition).collect();
        let actions = actions(rule.block("action"), ids);
        let created = world.create_rule(&listener, small(&rule.attributes["priority"]), conditions, actions)?;
        ids.add(rule.text("arn"), &created.arn);
    }
    Ok(())
}

#[track_caller]
fn small(value: &Value) -> u32 {
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    number.unwrap_or_else(|| panic!("{value} is no whole number"))
}

#[track_caller]
fn port(value: &Value) -> u16 {
    u16::try_from(small(value)).unwrap_or_else(|_| panic!("{value} is no port"))
}

fn actions(action: &Value, ids: &Ids) -> Vec<ListenerAction> {
    let groups = forwards(action);
    if groups.is_empty() {
        let kind = action["type"].as_str().unwrap_or_default().to_owned();
        return vec![ListenerAction { order: None, what: ActionKind::Other { kind, config: action.clone() } }];
    }
    let groups = groups.into_iter().map(|(arn, weight)| (ids.translate(arn), i64::try_from(weight).unwrap_or(0)));
    let groups: Vec<(String, i64)> = groups.collect();
    vec![ListenerAction::forward(groups.iter().map(|(arn, weight)| (arn.as_str(), *weight)))]
}

/// A rule's condition, as ELB's API has it.
fn condition(block: &Value) -> Value {
    let header = &block["http_header"][0];
    match header.is_null() {
        true => json!({"Field": "path-pattern", "Values": block["path_pattern"][0]["values"]}),
        false => json!({
            "Field": "http-header",
            "HttpHeaderConfig": {"HttpHeaderName": header["http_header_name"], "Values": header["values"]},
        }),
    }
}

/// The parameters of `RegisterTaskDefinition`.
fn document(definition: &Resource) -> Value {
    let set = |attribute: &str| &definition.attributes[attribute];
    // Terraform takes numbers, ECS's API texts.
    let text = |attribute: &str| set(attribute).as_str().map_or_else(|| set(attribute).to_string(), str::to_owned);
    let mut document = json!({
        "family": set("family"),
        "taskRoleArn": set("task_role_arn"),
        "executionRoleArn": set("execution_role_arn"),
        "networkMode": set("network_mode"),
        "requiresCompatibilities": set("requires_compatibilities"),
        "cpu": text("cpu"),
        "memory": text("memory"),
        "containerDefinitions": containers(definition),
    });
    if let [platform] = definition.blocks("runtime_platform") {
        let (system, cpu) = (&platform["operating_system_family"], &platform["cpu_architecture"]);
        document["runtimePlatform"] = json!({"operatingSystemFamily": system, "cpuArchitecture": cpu});
    }
    document
}

fn create_service(service: &Resource, ids: &Ids) -> CreateService {
    let network = service.block("network_configuration");
    let public = if network["assign_public_ip"] == true { "ENABLED" } else { "DISABLED" };
    let breaker = service.block("deployment_circuit_breaker");
    let binding = |block: &Value| ServiceLoadBalancer {
        target_group_arn: ids.translate(block["target_group_arn"].as_str().unwrap_or_default()),
        container_name: block["container_name"].as_str().unwrap_or_default().to_owned(),
        container_port: port(&block["container_port"]),
    };
    CreateService {
        cluster: last_part(service.text("cluster")).to_owned(),
        service_name: service.text("name").to_owned(),
        task_definition: service.text("task_definition").to_owned(),
        desired_count: small(&service.attributes["desired_count"]),
        load_balancers: service.blocks("load_balancer").iter().map(binding).collect(),
        deployment_configuration: Some(DeploymentConfiguration {
            deployment_circuit_breaker: CircuitBreaker {
                enable: breaker["enable"] == true,
                rollback: breaker["rollback"] == true,
            },
            maximum_percent: small(&service.attributes["deployment_maximum_percent"]),
            minimum_healthy_percent: small(&service.attributes["deployment_minimum_healthy_percent"]),
        }),
        network_configuration: Some(json!({"awsvpcConfiguration": {
            "subnets": network["subnets"],
            "securityGroups": network["security_groups"],
            "assignPublicIp": public,
        }})),
        launch_type: Some(service.text("launch_type").to_owned()),
        health_check_grace_period_seconds: service
            .blocks("load_balancer")
            .first()
            .map(|_| small(&service.attributes["health_check_grace_period_seconds"])),
        ..CreateService::default()
    }
}

/// An alarm on a target group is evaluated over the world's traffic; the state of any other is set by hand.
fn place_alarm(world: &mut World, configuration: &Configuration, alarm: &Resource, ids: &Ids) -> ApiResult<()> {
    let name = alarm.text("alarm_name").to_owned();
    let metrics: Vec<&Value> = match alarm.blocks("metric_query") {
        [] => vec![&alarm.attributes],
        queries => queries.iter().map(|query| &query["metric"][0]).filter(|metric| !metric.is_null()).collect(),
    };
    let Some(group) = metrics[0]["dimensions"]["TargetGroup"].as_str() else {
        world.put_log_alarm(&name, "its metric is not modelled")?;
        return world.set_alarm_state(&name, AlarmState::Ok, "nothing is wrong");
    };
    let names: Vec<&str> = metrics.iter().filter_map(|metric| metric["metric_name"].as_str()).collect();
    let metric = match names.as_slice() {
        ["HTTPCode_Target_5XX_Count", "RequestCount"] => WatchedMetric::Target5xxPercent,
        // The model's response times are all alike: a percentile is the average.
        ["TargetResponseTime"] => WatchedMetric::TargetResponseTime,
        other => panic!("{}: the model has no metric of {other:?}", alarm.place),
    };
    assert_eq!(alarm.text("comparison_operator"), "GreaterThanThreshold", "{}", alarm.place);
    assert_eq!(alarm.text("treat_missing_data"), "notBreaching", "{}", alarm.place);
    let (account, region) = (&configuration.account, &configuration.region);
    let arn = |resource: &str| ids.translate(&format!("arn:aws:elasticloadbalancing:{region}:{account}:{resource}"));
    let balancer = metrics[0]["dimensions"]["LoadBalancer"].as_str().unwrap_or_default();
    world.put_metric_alarm(MetricAlarm {
        name,
        metric,
        load_balancer: arn(&format!("loadbalancer/{balancer}")),
        target_group: Some(arn(group)),
        period_s: small(&metrics[0]["period"]),
        evaluation_periods: small(&alarm.attributes["evaluation_periods"]),
        datapoints_to_alarm: small(&alarm.attributes["datapoints_to_alarm"]),
        threshold: alarm.attributes["threshold"].as_f64().unwrap_or_default(),
        comparison: Comparison::Above,
        treat_missing: TreatMissing::NotBreaching,
    })
}

fn place_autoscaling(world: &mut World, configuration: &Configuration) -> ApiResult<()> {
    for limits in configuration.all("aws_appautoscaling_target") {
        world.register_scalable_target(RegisterScalableTarget {
            service_namespace: limits.text("service_namespace").to_owned(),
            resource_id: limits.text("resource_id").to_owned(),
            scalable_dimension: limits.text("scalable_dimension").to_owned(),
            min_capacity: Some(small(&limits.attributes["min_capacity"]).into()),
            max_capacity: Some(small(&limits.attributes["max_capacity"]).into()),
            suspended_state: None,
        })?;
    }
    for policy in configuration.all("aws_appautoscaling_policy") {
        let tracking = policy.block("target_tracking_scaling_policy_configuration");
        let metric = &tracking["predefined_metric_specification"][0]["predefined_metric_type"];
        let id: Vec<&str> = policy.text("resource_id").split('/').collect();
        if metric == "ALBRequestCountPerTarget" {
            // A task's requests in a minute.
            let a_second = tracking["target_value"].as_f64().unwrap_or_default() / 60.0;
            world.put_scaling_policy(id[1], id[2], a_second)?;
        }
    }
    Ok(())
}

/// Runs until every task is up and every alarm has been evaluated.
#[track_caller]
fn settle(world: &mut World, system: &System) {
    for _ in 0..PATIENCE_S {
        let at = Seconds(1).after(world.now());
        world.advance_to(at);
        if world.as_third_party(|world| is_settled(world, system)) {
            return;
        }
    }
    panic!("{} does not come up", system.folder.display());
}

fn is_settled(world: &mut World, system: &System) -> bool {
    for service in system.environments.values().flat_map(|configuration| configuration.all("aws_ecs_service")) {
        let names = [service.text("name").to_owned()];
        let described = world.describe_services(last_part(service.text("cluster")), &names);
        let steady = described.is_ok_and(|(services, _)| {
            services.iter().all(|service| {
                let completed = service.deployments.iter().all(|it| it.rollout_state == RolloutState::Completed);
                completed && service.running_count == service.desired_count
            })
        });
        if !steady {
            return false;
        }
    }
    world.describe_alarms(&[]).is_ok_and(|alarms| alarms.iter().all(|alarm| alarm.state == AlarmState::Ok))
}

/// A target, and where its images come from.
struct Origin {
    target: TargetId,
    repository: String,
    repository_uri: String,
}

impl Origin {
    /// ARN of the task definition that a service is created with.
    fn first_definition(configuration: &Configuration, service: &str) -> String {
        configuration.get("aws_ecs_service", "name", service).text("task_definition").to_owned()
    }

    /// The names of a pair's resources; `named`: the policy, with the world's names.
    fn pair(self, configuration: &Configuration, named: &TargetPolicy, pair: &EcsPair) -> (TargetId, PairNames) {
        let [leg] = named.resources.traffic.as_slice() else { panic!("{} is behind one load balancer", self.target) };
        let (load_balancer, listener) = parents(leg);
        let alarm = |side: &str| {
            let mut names = named.alarms.iter().map(|alarm| alarm.name.clone());
            names.find(|name| name.ends_with(&format!("-{side}-5xx"))).unwrap_or_default()
        };
        let names = PairNames {
            cluster: pair.cluster.clone(),
            blue: pair.blue.clone(),
            green: pair.green.clone(),
            blue_group: leg.blue.clone(),
            green_group: leg.green.clone(),
            load_balancer,
            listener,
            rule: leg.rules[0].clone(),
            test_rule: leg.test_rule.clone().unwrap_or_default(),
            blue_alarm: alarm("blue"),
            green_alarm: alarm("green"),
            task_definition: Self::first_definition(configuration, &pair.blue),
            repository_uri: self.repository_uri,
            repository: self.repository,
            internal: None,
        };
        (self.target, names)
    }

    /// The names of the resources of what is replaced in place.
    fn rolling(self, configuration: &Configuration, rolling: &EcsRolling) -> (TargetId, RollingNames) {
        let names = RollingNames {
            cluster: rolling.cluster.clone(),
            service: rolling.service.clone(),
            balancing: None,
            task_definition: Self::first_definition(configuration, &rolling.service),
            repository_uri: self.repository_uri,
            repository: self.repository,
        };
        (self.target, names)
    }
}

/// ARNs of the load balancer and the listener that a leg's first rule belongs to.
#[track_caller]
fn parents(leg: &Leg) -> (String, String) {
    let rule = &leg.rules[0];
    let parts: Vec<&str> = rule.split('/').collect();
    let (Some(stem), [_, kind, name, id, listener, ..]) = (rule.split(":listener").next(), parts.as_slice()) else {
        panic!("{rule} belongs to a listener");
    };
    (format!("{stem}:loadbalancer/{kind}/{name}/{id}"), format!("{stem}:listener/{kind}/{name}/{id}/{listener}"))
}
