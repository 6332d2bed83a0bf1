//! [`engine::Inspector`] on AWS: an account, read for the doctor. Rare, so that it may take a dozen calls and two round
//! trips after another; what AWS's types mean is said in functions without a client.

use super::{AwsCloud, count, service_key, short_name, traffic};
use crate::error::Failure;
use aws_sdk_cloudwatch::types::{
    AlarmType, CompositeAlarm, Dimension, Metric as CloudWatchMetric, MetricAlarm, MetricDataQuery, MetricStat,
};
use aws_sdk_ecr::types::ImageTagMutability;
use aws_sdk_ecs::types::{LaunchType, Service, TaskDefinition};
use aws_sdk_elasticloadbalancingv2::types::{Action, Listener, Rule, TargetGroup, TargetGroupAttribute};
use futures::future::try_join_all;
use futures::join;
use rollout::doctor::Inspection;
use rollout::doctor::alarms::children;
use rollout::doctor::seen::{
    AlarmKind, AlarmSeen, DefinitionSeen, FargateSeen, GroupSeen, Inspected, Metric, MetricSeen, RepositorySeen,
    RuleSeen, ScalingSeen, ServiceSeen, SideSeen,
};
use rollout::{EcsPair, Reading, Slot};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

/// `DescribeAlarms` takes and gives at most this many a call.
const A_CALL: usize = 100;
/// Composite alarms within composite alarms are followed so far.
const DEEPEST: usize = 4;
/// Dimensions of Fargate's On-Demand vCPUs (ECS developer guide, "AWS Fargate usage metrics").
const ON_DEMAND_VCPUS: [(&str, &str); 4] =
    [("Service", "Fargate"), ("Type", "Resource"), ("Resource", "vCPU"), ("Class", "Standard/OnDemand")];
/// Seconds of a data point of usage.
const USAGE_PERIOD_S: i32 = 300;
/// How far back usage is looked for: metrics of usage are some minutes late.
const USAGE_WINDOW: Duration = Duration::from_secs(30 * 60);

impl engine::Inspector for AwsCloud {
    async fn inspect(&self, inspection: &Inspection) -> Inspected {
        let pair = &inspection.pair;
        // Boxed: together their futures would be larger than some threads' stacks.
        let (services, blue_group, green_group, scaling, rules, alarms, repository, concurrency, fargate) = join!(
            Box::pin(self.services_and_definitions(pair)),
            Box::pin(self.group_seen(&pair.blue.target_group)),
            Box::pin(self.group_seen(&pair.green.target_group)),
            Box::pin(self.autoscaling(pair)),
            Box::pin(self.rules_seen(pair)),
            Box::pin(self.alarms_seen(&inspection.alarms)),
            Box::pin(self.repository_seen(&inspection.repository)),
            Box::pin(self.concurrency()),
            Box::pin(self.fargate()),
        );
        let groups: Vec<&GroupSeen> = [&blue_group, &green_group].into_iter().flatten().flatten().collect();
        let balancers: BTreeSet<&str> = groups.iter().flat_map(|group| &group.balancers).map(String::as_str).collect();
        let others = self.others_seen(pair, &balancers).await;
        let [(blue, blue_definition), (green, green_definition)] = services;
        let scaling = |slot| {
            let known = scaling.as_ref().map(|known| known.get(&service_key(pair, slot)));
            let seen = |limits: &rollout::snapshot::Autoscaling| ScalingSeen { min: limits.min, max: limits.max };
            known.map(|limits| limits.map(seen)).map_err(Clone::clone)
        };
        Inspected {
            blue: SideSeen {
                service: reading(blue),
                definition: reading(blue_definition),
                group: reading(blue_group),
                scaling: reading(scaling(Slot::Blue)),
            },
            green: SideSeen {
                service: reading(green),
                definition: reading(green_definition),
                group: reading(green_group),
                scaling: reading(scaling(Slot::Green)),
            },
            rules,
            others: reading(others),
            alarms: reading(alarms),
            repository: reading(repository),
            concurrency: reading(concurrency),
            fargate: reading(fargate),
            reach: self.reach.clone(),
        }
    }
}

fn reading<T>(read: Result<T, Failure>) -> Reading<T> {
    match read {
        Ok(value) => Reading::Known(value),
        Err(failure) => Reading::Unknown(failure.reason().to_owned()),
    }
}

type ServiceAndDefinition = (Result<Option<ServiceSeen>, Failure>, Result<Option<DefinitionSeen>, Failure>);

impl AwsCloud {
    async fn services_and_definitions(&self, pair: &EcsPair) -> [ServiceAndDefinition; 2] {
        let found = match self.services(pair, &[Slot::Blue, Slot::Green]).await {
            Ok((services, _)) => services,
            Err(failure) => {
                let unknown = || (Err(failure.clone()), Err(failure.clone()));
                return [unknown(), unknown()];
            }
        };
        let side = async |slot| {
            let name = short_name(&pair.side(slot).service);
            let service = found.iter().find(|service| service.service_name() == Some(name));
            let definition = match service.and_then(Service::task_definition) {
                Some(arn) => self.definition_seen(arn).await.map(Some),
                None => Ok(None),
            };
            (Ok(service.map(service_seen)), definition)
        };
        let (blue, green) = join!(Box::pin(side(Slot::Blue)), Box::pin(side(Slot::Green)));
        [blue, green]
    }

    async fn definition_seen(&self, arn: &str) -> Result<DefinitionSeen, Failure> {
        let answer = self.clients.ecs().await.describe_task_definition().task_definition(arn).send().await;
        let answer = answer.map_err(|error| Failure::of("DescribeTaskDefinition", &error))?;
        Ok(answer.task_definition().map(definition_seen).unwrap_or_default())
    }

    /// One at a time: one that is missing fails a call for both.
    async fn group_seen(&self, arn: &str) -> Result<Option<GroupSeen>, Failure> {
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
            groups => groups.map_err(|error| Failure::of("DescribeTargetGroups", &error))?,
        };
        let attributes = attributes.map_err(|error| Failure::of("DescribeTargetGroupAttributes", &error))?;
        let healthy = health?.healthy;
        let group = groups.target_groups().first().map(|group| group_seen(group, attributes.attributes()));
        Ok(group.map(|group| GroupSeen { healthy, ..group }))
    }

    async fn rules_seen(&self, pair: &EcsPair) -> BTreeMap<String, Reading<RuleSeen>> {
        let arns: Vec<&str> = pair.rules.iter().chain(&pair.test_rule).map(String::as_str).collect();
        let read = self.read_actions(&arns).await;
        read.into_iter().map(|(arn, actions)| (arn, reading(actions.map(|actions| rule_seen(&actions))))).collect()
    }

    /// The rules and listeners of these balancers that forward to the pair, those of the policy left out.
    async fn others_seen(
        &self,
        pair: &EcsPair,
        balancers: &BTreeSet<&str>,
    ) -> Result<BTreeMap<String, RuleSeen>, Failure> {
        let elb = self.clients.elb().await;
        let listeners = balancers.iter().map(async |balancer| {
            let pages = elb.describe_listeners().load_balancer_arn(*balancer).into_paginator().items().send();
            let listeners: Result<Vec<Listener>, _> = pages.collect().await;
            listeners.map_err(|error| Failure::of("DescribeListeners", &error))
        });
        let listeners: Vec<Listener> = try_join_all(listeners).await?.into_iter().flatten().collect();
        let rules = listeners.iter().filter_map(Listener::listener_arn).map(async |arn| {
            let pages = elb.describe_rules().listener_arn(arn).into_paginator().items().send();
            let rules: Result<Vec<Rule>, _> = pages.collect().await;
            rules.map_err(|error| Failure::of("DescribeRules", &error))
        });
        let rules = try_join_all(rules).await?.into_iter().flatten();
        // The default rule is the listener's default action once more.
        let rules = rules.filter(|rule| rule.is_default() != Some(true));
        let mut seen: BTreeMap<String, RuleSeen> =
            rules.filter_map(|rule| Some((rule.rule_arn()?.to_owned(), rule_seen(rule.actions())))).collect();
        let defaults = listeners.iter();
        seen.extend(defaults.filter_map(|it| Some((it.listener_arn()?.to_owned(), rule_seen(it.default_actions())))));
        let named = |arn: &String| pair.rules.contains(arn) || pair.test_rule.as_ref() == Some(arn);
        let groups = [&pair.blue.target_group, &pair.green.target_group];
        seen.retain(|arn, rule| !named(arn) && groups.iter().any(|group| rule.weight(group).is_some()));
        Ok(seen)
    }

    /// These alarms, and those that composite ones among them are made of.
    async fn alarms_seen(&self, names: &BTreeSet<String>) -> Result<BTreeMap<String, AlarmSeen>, Failure> {
        let mut known = BTreeMap::new();
        let mut wanted: Vec<String> = names.iter().cloned().collect();
        for _ in 0..DEEPEST {
            let calls = wanted.chunks(A_CALL).map(|names| Box::pin(self.alarms_named(names)));
            let found: Vec<(String, AlarmSeen)> = try_join_all(calls).await?.into_iter().flatten().collect();
            let named: BTreeSet<String> = found
                .iter()
                .flat_map(|(_, alarm)| match &alarm.kind {
                    AlarmKind::Composite { rule } => children(rule).map(str::to_owned).collect(),
                    AlarmKind::Metric(_) => Vec::new(),
                })
                .collect();
            known.extend(found);
            wanted = named.into_iter().filter(|name| !known.contains_key(name)).collect();
            if wanted.is_empty() {
                break;
            }
        }
        Ok(known)
    }

    async fn alarms_named(&self, names: &[String]) -> Result<Vec<(String, AlarmSeen)>, Failure> {
        let cloudwatch = self.clients.cloudwatch().await;
        let call = cloudwatch.describe_alarms().set_alarm_names(Some(names.to_vec()));
        let call = call.alarm_types(AlarmType::MetricAlarm).alarm_types(AlarmType::CompositeAlarm);
        let call = call.max_records(i32::try_from(A_CALL).unwrap_or(i32::MAX));
        let answer = call.send().await.map_err(|error| Failure::of("DescribeAlarms", &error))?;
        let metric = answer.metric_alarms().iter().filter_map(metric_alarm);
        Ok(metric.chain(answer.composite_alarms().iter().filter_map(composite_alarm)).collect())
    }

    async fn repository_seen(&self, name: &str) -> Result<Option<RepositorySeen>, Failure> {
        let answer = self.clients.ecr().await.describe_repositories().repository_names(name).send().await;
        let answer = match answer {
            Err(error) if error.as_service_error().is_some_and(|it| it.is_repository_not_found_exception()) => {
                return Ok(None);
            }
            answer => answer.map_err(|error| Failure::of("DescribeRepositories", &error))?,
        };
        let seen = answer.repositories().first().map(|repository| RepositorySeen {
            // With exclusions, some tags can be moved.
            immutable: repository.image_tag_mutability() == Some(&ImageTagMutability::Immutable),
        });
        Ok(seen)
    }

    async fn concurrency(&self) -> Result<u32, Failure> {
        let answer = self.clients.lambda().await.get_account_settings().send().await;
        let answer = answer.map_err(|error| Failure::of("GetAccountSettings", &error))?;
        let limit = answer.account_limit().and_then(|limit| limit.unreserved_concurrent_executions());
        limit
            .map(count)
            .ok_or_else(|| Failure::Unsure { reason: "GetAccountSettings: no limit in the answer".to_owned() })
    }

    /// The usage metric and, by metric math, the quota that belongs to it (CloudWatch user guide, "Using metric math",
    /// `SERVICE_QUOTA`).
    async fn fargate(&self) -> Result<Option<FargateSeen>, Failure> {
        let dimension = |(name, value): (&str, &str)| Dimension::builder().name(name).value(value).build();
        let metric = CloudWatchMetric::builder()
            .namespace("AWS/Usage")
            .metric_name("ResourceCount")
            .set_dimensions(Some(ON_DEMAND_VCPUS.map(dimension).to_vec()))
            .build();
        let used = MetricStat::builder().metric(metric).period(USAGE_PERIOD_S).stat("Maximum").build();
        let used = MetricDataQuery::builder().id("used").metric_stat(used).build();
        let quota = MetricDataQuery::builder().id("quota").expression("SERVICE_QUOTA(used)").build();
        let now = SystemTime::now();
        let call =
            self.clients.cloudwatch().await.get_metric_data().metric_data_queries(used).metric_data_queries(quota);
        let call = call.start_time((now - USAGE_WINDOW).into()).end_time(now.into());
        let answer = call.send().await.map_err(|error| Failure::of("GetMetricData", &error))?;
        // Newest first, where nothing else is asked for (API reference, `ScanBy`).
        let newest = |id: &str| {
            let found = answer.metric_data_results().iter().find(|result| result.id() == Some(id));
            found.and_then(|result| result.values().first().copied())
        };
        Ok(newest("quota").zip(newest("used")).map(|(quota, used)| FargateSeen { quota, used }))
    }
}

fn service_seen(service: &Service) -> ServiceSeen {
    let deployment = service.deployment_configuration();
    let breaker = deployment.and_then(|it| it.deployment_circuit_breaker());
    let alarms = deployment.and_then(|it| it.alarms());
    let text = |value: Option<&str>, unsaid: &str| value.unwrap_or(unsaid).to_owned();
    ServiceSeen {
        status: text(service.status(), "ACTIVE"),
        controller: text(service.deployment_controller().map(|it| it.r#type().as_str()), "ECS"),
        strategy: text(deployment.and_then(|it| it.strategy()).map(|it| it.as_str()), "ROLLING"),
        scheduling: text(service.scheduling_strategy().map(|it| it.as_str()), "REPLICA"),
        breaker: breaker.is_some_and(|it| it.enable()),
        rolls_back: breaker.is_some_and(|it| it.enable() && it.rollback())
            || alarms.is_some_and(|it| it.enable() && it.rollback()),
        minimum_percent: deployment.and_then(|it| it.minimum_healthy_percent()).map_or(100, count),
        maximum_percent: deployment.and_then(|it| it.maximum_percent()).map_or(200, count),
        groups: service.load_balancers().iter().filter_map(|it| it.target_group_arn()).map(str::to_owned).collect(),
        desired: count(service.desired_count()),
        on_fargate: service.launch_type() == Some(&LaunchType::Fargate)
            || service.capacity_provider_strategy().iter().any(|item| item.capacity_provider() == "FARGATE"),
    }
}

fn definition_seen(definition: &TaskDefinition) -> DefinitionSeen {
    let containers = definition.container_definitions().iter();
    DefinitionSeen {
        images: containers.filter_map(|it| Some((it.name()?.to_owned(), it.image()?.to_owned()))).collect(),
        roles: [definition.task_role_arn(), definition.execution_role_arn()]
            .into_iter()
            .flatten()
            .filter(|role| !role.is_empty())
            .map(str::to_owned)
            .collect(),
        cpu_units: definition.cpu().and_then(|units| units.parse().ok()),
    }
}

fn group_seen(group: &TargetGroup, attributes: &[TargetGroupAttribute]) -> GroupSeen {
    let attribute = |key: &str| attributes.iter().find(|it| it.key() == Some(key)).and_then(|it| it.value());
    GroupSeen {
        balancers: group.load_balancer_arns().to_vec(),
        deregistration_delay_s: attribute("deregistration_delay.timeout_seconds")
            .and_then(|seconds| seconds.parse().ok())
            // ELB's default.
            .unwrap_or(300),
        sticky: attribute("stickiness.enabled") == Some("true"),
        check_interval_s: group.health_check_interval_seconds().map_or(30, count),
        healthy_threshold: group.healthy_threshold_count().map_or(5, count),
        unhealthy_threshold: group.unhealthy_threshold_count().map_or(2, count),
        check_path: group.health_check_path().unwrap_or_default().to_owned(),
        healthy: 0,
    }
}

fn rule_seen(actions: &[Action]) -> RuleSeen {
    let Some(forward) = actions.iter().find(|action| traffic::forwards(action)) else { return RuleSeen::default() };
    let stickiness = forward.forward_config().and_then(|config| config.target_group_stickiness_config());
    let sticky = stickiness.filter(|it| it.enabled() == Some(true));
    RuleSeen {
        groups: traffic::groups(forward).into_iter().map(|(arn, weight)| (arn.to_owned(), count(weight))).collect(),
        sticky_s: sticky.map(|it| it.duration_seconds().map_or(0, count)),
    }
}

fn metric_alarm(alarm: &MetricAlarm) -> Option<(String, AlarmSeen)> {
    type Named<'a> = &'a [aws_sdk_cloudwatch::types::Dimension];
    let dimensions = |named: Named<'_>| -> BTreeMap<String, String> {
        named.iter().filter_map(|it| Some((it.name()?.to_owned(), it.value()?.to_owned()))).collect()
    };
    let metric = |namespace: Option<&str>, name: Option<&str>, named: Named<'_>| {
        Some(Metric { namespace: namespace?.to_owned(), name: name?.to_owned(), dimensions: dimensions(named) })
    };
    let mut metrics: Vec<Metric> =
        metric(alarm.namespace(), alarm.metric_name(), alarm.dimensions()).into_iter().collect();
    let mut period = alarm.period();
    let mut expressions = Vec::new();
    for query in alarm.metrics() {
        if let Some(stat) = query.metric_stat() {
            period = period.max(stat.period());
            let it = stat.metric();
            metrics.extend(it.and_then(|it| metric(it.namespace(), it.metric_name(), it.dimensions())));
        }
        period = period.max(query.period());
        expressions.extend(query.expression().map(str::to_owned));
    }
    let kind = AlarmKind::Metric(MetricSeen {
        metrics,
        expressions,
        period_s: period.map_or(0, count),
        datapoints: alarm.datapoints_to_alarm().or(alarm.evaluation_periods()).map_or(1, count),
        threshold: alarm.threshold(),
        comparison: alarm.comparison_operator().map_or_else(String::new, |it| it.as_str().to_owned()),
        treat_missing: alarm.treat_missing_data().unwrap_or("missing").to_owned(),
    });
    let state = alarm.state_value().map_or_else(String::new, |it| it.as_str().to_owned());
    Some((
        alarm.alarm_name()?.to_owned(),
        AlarmSeen { state, reason: alarm.state_reason().unwrap_or_default().to_owned(), kind },
    ))
}

fn composite_alarm(alarm: &CompositeAlarm) -> Option<(String, AlarmSeen)> {
    let kind = AlarmKind::Composite { rule: alarm.alarm_rule().unwrap_or_default().to_owned() };
    let state = alarm.state_value().map_or_else(String::new, |it| it.as_str().to_owned());
    Some((
        alarm.alarm_name()?.to_owned(),
        AlarmSeen { state, reason: alarm.state_reason().unwrap_or_default().to_owned(), kind },
    ))
}
