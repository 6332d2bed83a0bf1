//! [`engine::Inspector`] on AWS: reads an account for the doctor. Rarely called, so it may take a dozen calls and two
//! consecutive round trips. AWS's types are interpreted in functions that need no client.

use super::{AwsCloud, count, platforms, service_key, short_name, traffic};
use crate::error::AwsFailure;
use aws_sdk_cloudwatch::types::{Dimension, Metric as CloudWatchMetric, MetricDataQuery, MetricStat};
use aws_sdk_ecr::types::{DescribeImagesFilter, ImageDetail, ImageTagMutability, TagStatus};
use aws_sdk_ecs::types::{ContainerDefinition, LaunchType, LoadBalancer, PortMapping, Service, TaskDefinition};
use aws_sdk_elasticloadbalancingv2::types::{Action, Listener, Rule, TargetGroup, TargetGroupAttribute};
use futures::future::{join_all, try_join_all};
use futures::join;
use rollout::alarm::{AlarmsByName, MAX_DEPTH, children};
use rollout::doctor::Inspection;
use rollout::doctor::inspected::{
    DEFAULT_NETWORK_MODE, FargateUsage, InspectedContainer, InspectedProvider, InspectedRepository, InspectedRule,
    InspectedScaling, InspectedService, InspectedTag, InspectedTargetGroup, InspectedTaskDefinition, InspectedWorkload,
    InspectionResult, mapped_ports,
};
use rollout::policy::RegistryPolicy;
use rollout::snapshot::Autoscaling;
use rollout::{EcsServiceName, Reading, Slot, TargetResources};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, SystemTime};

/// Images per call that `DescribeImages` returns at most.
const IMAGES_PER_CALL: i32 = 1000;
/// Pages of images read per request; the requester waits at most 30 s.
const MAX_PAGES: u32 = 20;
/// How many of the newest images have their tags checked against the service's tag rule.
const NEWEST_IMAGES: usize = 20;
/// Names per call that `DescribeAlarms` accepts and returns.
const MAX_NAMES_PER_CALL: usize = 100;
/// Fargate's vCPU classes, each with a quota of its own, and the query IDs of usage and quota (ECS developer guide,
/// "AWS Fargate usage metrics").
const VCPU_CLASSES: [(&str, &str, &str); 2] =
    [("Standard/OnDemand", "used", "quota"), ("Standard/Spot", "used_spot", "quota_spot")];
/// Period of one usage data point, in seconds.
const USAGE_PERIOD_S: i32 = 300;
/// How far back usage is queried: usage metrics arrive some minutes late.
const USAGE_WINDOW: Duration = Duration::from_secs(30 * 60);

impl engine::Inspector for AwsCloud {
    async fn inspect(&self, inspection: &Inspection) -> InspectionResult {
        // Boxed: the combined futures would exceed the stack size of some threads.
        let (platform, template, alarms, repository, concurrency, fargate) = join!(
            platforms::of(&inspection.resources.platform).inspect(self, &inspection.resources),
            Box::pin(self.template_seen(inspection.template.as_deref())),
            Box::pin(self.alarms_seen(&inspection.alarms)),
            Box::pin(self.repository_seen(&inspection.registry, &inspection.repository)),
            Box::pin(self.concurrency()),
            Box::pin(self.fargate()),
        );
        InspectionResult {
            platform,
            template,
            alarms: reading(alarms),
            repository: reading(repository),
            concurrency: reading(concurrency),
            fargate: reading(fargate.clone().map(|[on_demand, _]| on_demand)),
            fargate_spot: reading(fargate.map(|[_, spot]| spot)),
            iam_scope: self.iam_scope.clone(),
        }
    }
}

pub(super) fn reading<T>(read: Result<T, AwsFailure>) -> Reading<T> {
    match read {
        Ok(value) => Reading::Known(value),
        Err(failure) => Reading::Unknown(failure.reason().to_owned()),
    }
}

/// Task definitions by ARN, each as it was read.
type Definitions = BTreeMap<String, Result<InspectedTaskDefinition, AwsFailure>>;

/// What ECS and Application Auto Scaling say about some services.
pub(super) struct ServicesSeen {
    services: Result<Vec<Service>, AwsFailure>,
    definitions: Definitions,
    /// By [`service_key`].
    limits: Result<HashMap<String, Autoscaling>, AwsFailure>,
}

impl ServicesSeen {
    /// One of these services, with its target groups.
    pub(super) fn workload(
        &self,
        service: EcsServiceName<'_>,
        groups: Vec<Reading<Option<InspectedTargetGroup>>>,
    ) -> InspectedWorkload {
        let name = Some(short_name(service.name));
        let found = self.services.as_ref().map(|all| all.iter().find(|service| service.service_name() == name));
        let definition = found.map(|found| found.and_then(Service::task_definition));
        let definition = match definition.map(|arn| self.definitions.get(arn?)) {
            Ok(definition) => definition.cloned().transpose(),
            Err(failure) => Err(failure.clone()),
        };
        let limits = self.limits.as_ref().map(|all| all.get(&service_key(service)));
        let scaling = |limits: &Autoscaling| InspectedScaling { min: limits.min, max: limits.max };
        InspectedWorkload {
            service: reading(found.map(|found| found.map(service_seen)).map_err(Clone::clone)),
            definition: reading(definition),
            groups,
            scaling: reading(limits.map(|limits| limits.map(scaling)).map_err(Clone::clone)),
        }
    }
}

impl AwsCloud {
    pub(super) async fn services_seen(&self, named: &[EcsServiceName<'_>]) -> ServicesSeen {
        let ((services, definitions), limits) =
            join!(Box::pin(self.services_and_definitions(named)), Box::pin(self.autoscaling(named)));
        ServicesSeen { services, definitions, limits }
    }

    async fn services_and_definitions(
        &self,
        named: &[EcsServiceName<'_>],
    ) -> (Result<Vec<Service>, AwsFailure>, Definitions) {
        let services = self.services(named).await.map(|(services, _)| services);
        let arns: BTreeSet<&str> = services.iter().flatten().filter_map(Service::task_definition).collect();
        let definitions = arns.into_iter().map(async |arn| (arn.to_owned(), Box::pin(self.definition_seen(arn)).await));
        let definitions = join_all(definitions).await.into_iter().collect();
        (services, definitions)
    }

    async fn definition_seen(&self, arn: &str) -> Result<InspectedTaskDefinition, AwsFailure> {
        let answer = self.clients.ecs().await.describe_task_definition().task_definition(arn).send().await;
        let answer = answer.map_err(|error| AwsFailure::of("DescribeTaskDefinition", &error))?;
        Ok(answer.task_definition().map(definition_seen).unwrap_or_default())
    }

    /// The newest active task definition of a family; none: it has no active one.
    async fn template_seen(&self, family: Option<&str>) -> Reading<Option<InspectedTaskDefinition>> {
        let Some(family) = family else { return Reading::not_asked() };
        let newest = match self.newest_revisions(family).await.as_deref() {
            Ok([newest, ..]) => self.definition_seen(newest).await.map(Some),
            Ok([]) => Ok(None),
            Err(failure) => Err(failure.clone()),
        };
        reading(newest)
    }

    /// These target groups. One group per call: in a combined call, one missing group would fail all.
    pub(super) async fn groups_seen(&self, arns: Vec<&str>) -> Vec<Reading<Option<InspectedTargetGroup>>> {
        let groups = arns.into_iter().map(async |arn| reading(Box::pin(self.group_seen(arn)).await));
        join_all(groups).await
    }

    async fn group_seen(&self, arn: &str) -> Result<Option<InspectedTargetGroup>, AwsFailure> {
        let elb = self.clients.elb().await;
        let attributes = elb.describe_target_group_attributes().target_group_arn(arn);
        let (groups, attributes, health) = join!(
            Box::pin(elb.describe_target_groups().target_group_arns(arn).send()),
            Box::pin(attributes.send()),
            Box::pin(self.target_health(arn)),
        );
        let groups = match groups {
            Err(error) if error.as_service_error().is_some_and(|it| it.is_target_group_not_found_exception()) => {
                return Ok(None);
            }
            groups => groups.map_err(|error| AwsFailure::of("DescribeTargetGroups", &error))?,
        };
        let attributes = attributes.map_err(|error| AwsFailure::of("DescribeTargetGroupAttributes", &error))?;
        let healthy = health?.healthy;
        let group = groups.target_groups().first().map(|group| group_seen(group, attributes.attributes()));
        Ok(group.map(|group| InspectedTargetGroup { healthy, ..group }))
    }

    pub(super) async fn rules_seen(&self, resources: &TargetResources) -> BTreeMap<String, Reading<InspectedRule>> {
        let arns: Vec<&str> = resources.rules().chain(resources.test_rules()).collect();
        let read = self.read_actions(&arns).await;
        read.into_iter().map(|(arn, actions)| (arn, reading(actions.map(|actions| rule_seen(&actions))))).collect()
    }

    /// Rules and listeners of these load balancers that forward to the target and are not in the policy.
    pub(super) async fn others_seen(
        &self,
        resources: &TargetResources,
        balancers: &BTreeSet<&str>,
    ) -> Result<BTreeMap<String, InspectedRule>, AwsFailure> {
        let elb = self.clients.elb().await;
        let listeners = balancers.iter().map(async |balancer| {
            let pages = elb.describe_listeners().load_balancer_arn(*balancer).into_paginator().items().send();
            let listeners: Result<Vec<Listener>, _> = pages.collect().await;
            listeners.map_err(|error| AwsFailure::of("DescribeListeners", &error))
        });
        let listeners: Vec<Listener> = try_join_all(listeners).await?.into_iter().flatten().collect();
        let rules = listeners.iter().filter_map(Listener::listener_arn).map(async |arn| {
            let pages = elb.describe_rules().listener_arn(arn).into_paginator().items().send();
            let rules: Result<Vec<Rule>, _> = pages.collect().await;
            rules.map_err(|error| AwsFailure::of("DescribeRules", &error))
        });
        let rules = try_join_all(rules).await?.into_iter().flatten();
        // The default rule repeats the listener's default action.
        let rules = rules.filter(|rule| rule.is_default() != Some(true));
        let mut seen: BTreeMap<String, InspectedRule> =
            rules.filter_map(|rule| Some((rule.rule_arn()?.to_owned(), rule_seen(rule.actions())))).collect();
        let defaults = listeners.iter();
        seen.extend(defaults.filter_map(|it| Some((it.listener_arn()?.to_owned(), rule_seen(it.default_actions())))));
        let groups = Slot::BOTH.into_iter().flat_map(|slot| resources.target_groups(slot));
        seen.retain(|arn, rule| {
            resources.leg_of(arn).is_none() && groups.clone().any(|group| rule.weight(group).is_some())
        });
        Ok(seen)
    }

    /// The named alarms, and the members of composite ones.
    async fn alarms_seen(&self, names: &BTreeSet<String>) -> Result<AlarmsByName, AwsFailure> {
        let mut known = AlarmsByName::new();
        let mut asked = BTreeSet::new();
        let mut wanted = names.clone();
        for _ in 0..=MAX_DEPTH {
            let names: Vec<String> = wanted.iter().cloned().collect();
            let calls = names.chunks(MAX_NAMES_PER_CALL).map(|names| Box::pin(self.describe_alarms(names)));
            known.extend(try_join_all(calls).await?.into_iter().flatten().map(|it| (it.name, it.seen)));
            asked.extend(wanted);
            wanted = children(known.values()).difference(&asked).cloned().collect();
            if wanted.is_empty() {
                break;
            }
        }
        Ok(known)
    }

    async fn repository_seen(
        &self,
        registry: &RegistryPolicy,
        name: &str,
    ) -> Result<Option<InspectedRepository>, AwsFailure> {
        let ecr = self.clients.ecr_in(registry.region.as_deref()).await;
        let call = ecr.describe_repositories().set_registry_id(registry.account.clone()).repository_names(name);
        let (answer, newest) = join!(Box::pin(call.send()), Box::pin(self.newest_tags(&ecr, registry, name)));
        let answer = match answer {
            Err(error) if error.as_service_error().is_some_and(|it| it.is_repository_not_found_exception()) => {
                return Ok(None);
            }
            answer => answer.map_err(|error| AwsFailure::of("DescribeRepositories", &error))?,
        };
        let seen = answer.repositories().first().map(|repository| InspectedRepository {
            // With exclusions, some tags can still be moved.
            immutable: repository.image_tag_mutability() == Some(&ImageTagMutability::Immutable),
            newest: reading(newest),
        });
        Ok(seen)
    }

    /// The tags of the most recently pushed images. The API guarantees no order, so all tagged images are read; more
    /// than [`MAX_PAGES`] pages of them are an error.
    async fn newest_tags(
        &self,
        ecr: &aws_sdk_ecr::Client,
        registry: &RegistryPolicy,
        repository: &str,
    ) -> Result<Vec<InspectedTag>, AwsFailure> {
        let mut pages = ecr
            .describe_images()
            .set_registry_id(registry.account.clone())
            .repository_name(repository)
            .filter(DescribeImagesFilter::builder().tag_status(TagStatus::Tagged).build())
            .max_results(IMAGES_PER_CALL)
            .into_paginator()
            .send();
        let mut images = Vec::new();
        let mut read = 0;
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| AwsFailure::of("DescribeImages", &error))?;
            images.extend(page.image_details.unwrap_or_default());
            read += 1;
            if read >= MAX_PAGES && page.next_token.is_some() {
                let reason = format!("it has more than {} tagged images", images.len());
                return Err(AwsFailure::Refused { reason });
            }
        }
        images.sort_by_key(|image| std::cmp::Reverse(image.image_pushed_at().map(|at| (at.secs(), at.subsec_nanos()))));
        let tags = images.iter().take(NEWEST_IMAGES).flat_map(ImageDetail::image_tags);
        Ok(tags.map(|tag| InspectedTag { tag: tag.clone(), matches_rule: false }).collect())
    }

    async fn concurrency(&self) -> Result<u32, AwsFailure> {
        let answer = self.clients.lambda().await.get_account_settings().send().await;
        let answer = answer.map_err(|error| AwsFailure::of("GetAccountSettings", &error))?;
        let limit = answer.account_limit().and_then(|limit| limit.unreserved_concurrent_executions());
        limit
            .map(count)
            .ok_or_else(|| AwsFailure::Unsure { reason: "GetAccountSettings: no limit in the answer".to_owned() })
    }

    /// Usage metrics, On-Demand and Spot, each with its quota by metric math (CloudWatch user guide, "Using metric
    /// math", `SERVICE_QUOTA`).
    async fn fargate(&self) -> Result<[Option<FargateUsage>; 2], AwsFailure> {
        let dimension = |(name, value): (&str, &str)| Dimension::builder().name(name).value(value).build();
        let queries = VCPU_CLASSES.iter().flat_map(|(class, used, quota)| {
            let dimensions = [("Service", "Fargate"), ("Type", "Resource"), ("Resource", "vCPU"), ("Class", class)];
            let metric = CloudWatchMetric::builder()
                .namespace("AWS/Usage")
                .metric_name("ResourceCount")
                .set_dimensions(Some(dimensions.map(dimension).to_vec()))
                .build();
            let stat = MetricStat::builder().metric(metric).period(USAGE_PERIOD_S).stat("Maximum").build();
            let expression = format!("SERVICE_QUOTA({used})");
            [
                MetricDataQuery::builder().id(*used).metric_stat(stat).build(),
                MetricDataQuery::builder().id(*quota).expression(expression).build(),
            ]
        });
        let now = SystemTime::now();
        let call = self.clients.cloudwatch().await.get_metric_data().set_metric_data_queries(Some(queries.collect()));
        let call = call.start_time((now - USAGE_WINDOW).into()).end_time(now.into());
        let answer = call.send().await.map_err(|error| AwsFailure::of("GetMetricData", &error))?;
        // Newest first is the default (API reference, `ScanBy`).
        let newest = |id: &str| {
            let found = answer.metric_data_results().iter().find(|result| result.id() == Some(id));
            found.and_then(|result| result.values().first().copied())
        };
        Ok(VCPU_CLASSES
            .map(|(_, used, quota)| newest(quota).zip(newest(used)).map(|(quota, used)| FargateUsage { quota, used })))
    }
}

fn service_seen(service: &Service) -> InspectedService {
    let deployment = service.deployment_configuration();
    let breaker = deployment.and_then(|it| it.deployment_circuit_breaker());
    let alarms = deployment.and_then(|it| it.alarms());
    let text = |value: Option<&str>, fallback: &str| value.unwrap_or(fallback).to_owned();
    InspectedService {
        status: text(service.status(), "ACTIVE"),
        controller: text(service.deployment_controller().map(|it| it.r#type().as_str()), "ECS"),
        strategy: text(deployment.and_then(|it| it.strategy()).map(|it| it.as_str()), "ROLLING"),
        scheduling: text(service.scheduling_strategy().map(|it| it.as_str()), "REPLICA"),
        breaker: breaker.is_some_and(|it| it.enable()),
        breaker_rolls_back: breaker.is_some_and(|it| it.enable() && it.rollback()),
        alarms_roll_back: alarms.is_some_and(|it| it.enable() && it.rollback()),
        minimum_percent: deployment.and_then(|it| it.minimum_healthy_percent()).map_or(100, count),
        maximum_percent: deployment.and_then(|it| it.maximum_percent()).map_or(200, count),
        groups: service.load_balancers().iter().filter_map(|it| it.target_group_arn()).map(str::to_owned).collect(),
        registered_ports: service.load_balancers().iter().filter_map(registered_port).collect(),
        desired: count(service.desired_count()),
        on_fargate: service.launch_type() == Some(&LaunchType::Fargate)
            || service.capacity_provider_strategy().iter().any(|item| item.capacity_provider().starts_with("FARGATE")),
        providers: service
            .capacity_provider_strategy()
            .iter()
            .map(|item| InspectedProvider {
                name: item.capacity_provider().to_owned(),
                base: count(item.base()),
                weight: count(item.weight()),
            })
            .collect(),
        other_endpoints: other_endpoints(service),
        settings: settings(service),
    }
}

/// The container that registers in a target group, and its port.
fn registered_port(registration: &LoadBalancer) -> Option<(String, u16)> {
    let port = u16::try_from(registration.container_port()?).ok()?;
    Some((registration.container_name()?.to_owned(), port))
}

/// The settings in which both sides should agree.
fn settings(service: &Service) -> BTreeMap<String, String> {
    let joined = |values: &[String]| {
        let mut values = values.to_vec();
        values.sort();
        (!values.is_empty()).then(|| values.join(", "))
    };
    let network = service.network_configuration().and_then(|it| it.awsvpc_configuration());
    let deployment = service.deployment_configuration();
    let percent = |value: Option<i32>| value.map(|value| format!("{value} %"));
    let providers: Vec<String> = service
        .capacity_provider_strategy()
        .iter()
        .map(|it| format!("{} (base {}, weight {})", it.capacity_provider(), it.base(), it.weight()))
        .collect();
    let settings = [
        ("subnets", network.and_then(|it| joined(it.subnets()))),
        ("security groups", network.and_then(|it| joined(it.security_groups()))),
        ("public addresses", network.and_then(|it| it.assign_public_ip()).map(|it| it.as_str().to_owned())),
        ("health check grace period", service.health_check_grace_period_seconds().map(|it| format!("{it}s"))),
        ("minimumHealthyPercent", percent(deployment.and_then(|it| it.minimum_healthy_percent()))),
        ("maximumPercent", percent(deployment.and_then(|it| it.maximum_percent()))),
        ("launch type", service.launch_type().map(|it| it.as_str().to_owned())),
        ("capacity providers", joined(&providers)),
        ("platform version", service.platform_version().map(str::to_owned)),
    ];
    settings.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// Service Connect, Cloud Map and VPC Lattice route callers to a service's tasks regardless of the load balancer's
/// weights (ECS developer guide, "Interconnect Amazon ECS services"). The primary deployment holds the configuration of
/// the first two.
fn other_endpoints(service: &Service) -> BTreeSet<String> {
    let primary = service.deployments().iter().find(|deployment| deployment.status() == Some("PRIMARY"));
    let mut names = BTreeSet::new();
    if let Some(connect) = primary.and_then(|it| it.service_connect_configuration()).filter(|it| it.enabled()) {
        let namespace = connect.namespace().map(short_name).unwrap_or("the cluster's namespace");
        for served in connect.services() {
            // The discovery name defaults to the port name (API reference, `ServiceConnectService`).
            let discovery = served.discovery_name().unwrap_or(served.port_name());
            names.insert(format!("the Service Connect name {discovery} in {namespace}"));
            for alias in served.client_aliases() {
                let name = alias.dns_name().map_or_else(|| format!("{discovery}.{namespace}"), str::to_owned);
                names.insert(format!("the Service Connect alias {name}:{}", alias.port()));
            }
        }
    }
    let registries = service.service_registries().iter().filter_map(|it| it.registry_arn());
    names.extend(registries.map(|arn| format!("the Cloud Map registry {}", short_name(arn))));
    let lattice = primary.map(|it| it.vpc_lattice_configurations()).unwrap_or_default();
    names
        .extend(lattice.iter().map(|it| format!("the VPC Lattice target group {}", short_name(it.target_group_arn()))));
    names
}

fn definition_seen(definition: &TaskDefinition) -> InspectedTaskDefinition {
    InspectedTaskDefinition {
        containers: definition.container_definitions().iter().filter_map(container_seen).collect(),
        roles: [definition.task_role_arn(), definition.execution_role_arn()]
            .into_iter()
            .flatten()
            .filter(|role| !role.is_empty())
            .map(str::to_owned)
            .collect(),
        cpu_units: definition.cpu().and_then(|units| units.parse().ok()),
        network_mode: definition.network_mode().map_or(DEFAULT_NETWORK_MODE, |mode| mode.as_str()).to_owned(),
        launch_types: definition.requires_compatibilities().iter().map(|it| it.as_str().to_owned()).collect(),
    }
}

/// A container and its name; none: it has no image.
fn container_seen(container: &ContainerDefinition) -> Option<(String, InspectedContainer)> {
    let seen = InspectedContainer {
        image: container.image()?.to_owned(),
        // API reference, `ContainerDefinition`: a container is essential unless it says otherwise.
        essential: container.essential().unwrap_or(true),
        health_check: container.health_check().is_some(),
        stop_timeout_s: container.stop_timeout().map(count),
        ports: container.port_mappings().iter().filter_map(ports_seen).collect(),
    };
    Some((container.name()?.to_owned(), seen))
}

fn ports_seen(mapping: &PortMapping) -> Option<(u16, u16)> {
    mapped_ports(mapping.container_port().map(i64::from), mapping.container_port_range())
}

fn group_seen(group: &TargetGroup, attributes: &[TargetGroupAttribute]) -> InspectedTargetGroup {
    let attribute = |key: &str| attributes.iter().find(|it| it.key() == Some(key)).and_then(|it| it.value());
    InspectedTargetGroup {
        balancers: group.load_balancer_arns().to_vec(),
        deregistration_delay_s: attribute("deregistration_delay.timeout_seconds")
            .and_then(|seconds| seconds.parse().ok())
            // ELB's default, in seconds.
            .unwrap_or(300),
        sticky: attribute("stickiness.enabled") == Some("true"),
        check_interval_s: group.health_check_interval_seconds().map_or(30, count),
        healthy_threshold: group.healthy_threshold_count().map_or(5, count),
        unhealthy_threshold: group.unhealthy_threshold_count().map_or(2, count),
        check_path: group.health_check_path().unwrap_or_default().to_owned(),
        slow_start_s: attribute("slow_start.duration_seconds").and_then(|seconds| seconds.parse().ok()).unwrap_or(0),
        others: other_attributes(group, attributes),
        healthy: 0,
    }
}

/// Attributes for which [`InspectedTargetGroup`] has a field of its own.
const ATTRIBUTES_WITH_FIELDS: [&str; 3] =
    ["deregistration_delay.timeout_seconds", "stickiness.enabled", "slow_start.duration_seconds"];

/// All other settings in which two groups may differ. The port is excluded: each service registers its tasks with their
/// own ports.
fn other_attributes(group: &TargetGroup, attributes: &[TargetGroupAttribute]) -> BTreeMap<String, String> {
    let mut others: BTreeMap<String, String> =
        attributes.iter().filter_map(|it| Some((it.key()?.to_owned(), it.value()?.to_owned()))).collect();
    others.retain(|key, _| !ATTRIBUTES_WITH_FIELDS.contains(&key.as_str()));
    let number = |number: i32| number.to_string();
    let matcher = group.matcher();
    let properties = [
        ("protocol", group.protocol().map(|it| it.as_str().to_owned())),
        ("protocol version", group.protocol_version().map(str::to_owned)),
        ("target type", group.target_type().map(|it| it.as_str().to_owned())),
        ("IP address type", group.ip_address_type().map(|it| it.as_str().to_owned())),
        ("VPC", group.vpc_id().map(str::to_owned)),
        ("health check's protocol", group.health_check_protocol().map(|it| it.as_str().to_owned())),
        ("health check's port", group.health_check_port().map(str::to_owned)),
        ("health check's timeout", group.health_check_timeout_seconds().map(number)),
        ("health check's success codes", matcher.and_then(|it| it.http_code()).map(str::to_owned)),
        ("health check's gRPC codes", matcher.and_then(|it| it.grpc_code()).map(str::to_owned)),
    ];
    others.extend(properties.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    others
}

fn rule_seen(actions: &[Action]) -> InspectedRule {
    let Some(forward) = actions.iter().find(|action| traffic::is_forward(action)) else {
        return InspectedRule::default();
    };
    let stickiness = forward.forward_config().and_then(|config| config.target_group_stickiness_config());
    let sticky = stickiness.filter(|it| it.enabled() == Some(true));
    InspectedRule {
        groups: traffic::groups(forward).into_iter().map(|(arn, weight)| (arn.to_owned(), count(weight))).collect(),
        sticky_s: sticky.map(|it| it.duration_seconds().map_or(0, count)),
    }
}

#[cfg(test)]
mod tests;
