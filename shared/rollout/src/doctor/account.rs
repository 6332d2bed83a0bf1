//! Checks outside the services themselves: registry, quotas, and the control plane's own IAM scope.

use super::inspected::{IamScope, InspectedTag, InspectionResult};
use super::{Findings, balancer_of_rule, rule_label, service_label, short_name};
use crate::names::TargetId;
use crate::notification::Receiver;
use crate::policy::{HookAction, Policy, ServicePolicy, TagRule, TargetPolicy};
use crate::snapshot::Reading;

/// New accounts may have 10 (Lambda quotas). Each running deployment occupies one from time to time, as do events.
const LOW_CONCURRENCY: u32 = 50;

/// CPU units per vCPU, as in a task definition's `cpu` (ECS developer guide, "Task size").
const CPU_UNITS_A_VCPU: f64 = 1024.0;

pub(super) fn judge(
    policy: &Policy,
    target: &TargetId,
    wanted: &TargetPolicy,
    seen: &InspectionResult,
    start: Option<&FargateStart>,
    findings: &mut Findings,
) {
    if let Some(service) = policy.services.get(&target.service) {
        repository(service, wanted, seen, findings);
    }
    if let Some(functions) = findings.known("quota of concurrent functions", &seen.concurrency)
        && *functions < LOW_CONCURRENCY
    {
        let problem =
            format!("{functions} functions may run at once in this account: a rollback waits for all the others");
        let remedy = "ask for a higher quota: Service Quotas, AWS Lambda, Concurrent executions";
        findings.risky("quota_of_functions", "account", problem, remedy);
    }
    if let Some(start) = start {
        fargate(start, seen, findings);
    }
    if let Some(iam_scope) = &seen.iam_scope {
        check_iam_scope(iam_scope, policy, target, wanted, seen, findings);
    }
}

/// The tasks that a deployment starts on Fargate beside those that run.
pub(super) struct FargateStart {
    /// Label of the service that starts them.
    pub(super) subject: String,
    /// Number of tasks, On-Demand and Spot.
    pub(super) tasks: [u32; 2],
    /// CPU units of one task.
    pub(super) cpu_units: u32,
}

/// Whether the Fargate quotas allow these tasks. On-Demand and Spot have a quota each (AWS General Reference, "AWS
/// Fargate quotas").
fn fargate(start: &FargateStart, seen: &InspectionResult, findings: &mut Findings) {
    for (index, (class, account)) in
        [("On-Demand", &seen.fargate), ("Spot", &seen.fargate_spot)].into_iter().enumerate()
    {
        let more = start.tasks[index];
        // Nothing is placed on Spot: its quota does not matter.
        if more == 0 && index == 1 {
            continue;
        }
        let subject = if index == 0 { "quota of Fargate" } else { "quota of Fargate Spot" };
        let Some(Some(account)) = findings.known(subject, account) else { continue };
        let needed = f64::from(more) * f64::from(start.cpu_units) / CPU_UNITS_A_VCPU;
        let free = (account.quota - account.used).max(0.0);
        if needed > free {
            let problem = format!(
                "a deployment starts {needed} vCPUs of Fargate {class} beside those that run, and {free} of the \
                 account's {} are free: not all of its tasks would start",
                account.quota
            );
            let remedy =
                format!("ask for a higher quota: Service Quotas, AWS Fargate, Fargate {class} vCPU resource count");
            findings.broken("quota_of_fargate", &start.subject, problem, &remedy);
        }
    }
}

fn repository(service: &ServicePolicy, wanted: &TargetPolicy, seen: &InspectionResult, findings: &mut Findings) {
    let name = service.repository.as_str();
    let subject = format!("repository {name}");
    match findings.known(&subject, &seen.repository) {
        Some(None) => {
            let problem =
                format!("there is no such repository {}: no push ever becomes a release", registry_location(service));
            let remedy = "create it, or name the right one under `services`, with its `registry` where that is not the \
                          control plane's own";
            findings.broken("repository_missing", &subject, problem, remedy);
        }
        Some(Some(repository)) => {
            if !repository.immutable {
                let problem =
                    "its tags can be moved: what is deployed is the digest, but a tag may name another image tomorrow";
                findings.advice("repository_mutable", &subject, problem, "set image_tag_mutability = \"IMMUTABLE\"");
            }
            if let Some(newest) = findings.known(&format!("tags of {subject}"), &repository.newest) {
                tags(&service.tags, &subject, newest, findings);
            }
        }
        None => {}
    }
    for (slot, workload) in seen.platform.workloads() {
        let Some(own) = wanted.resources.platform.ecs_service(slot) else { continue };
        let Reading::Known(Some(definition)) = &workload.definition else { continue };
        let Some(container) = definition.containers.get(own.container) else { continue };
        if repository_of(&container.image) != Some(name) {
            let problem = format!(
                "its container {} runs {}, which is not of {name}: the first deployment replaces it",
                own.container, container.image
            );
            let remedy = "see that `container` and `repository` are what you mean";
            findings.risky("image_of_other_repository", &service_label(wanted, slot), problem, remedy);
        }
    }
}

fn registry_location(service: &ServicePolicy) -> String {
    match (&service.registry.account, &service.registry.region) {
        (None, None) => "in this account and Region".to_owned(),
        (Some(account), None) => format!("in account {account} and this Region"),
        (None, Some(region)) => format!("in this account in {region}"),
        (Some(account), Some(region)) => format!("in account {account} in {region}"),
    }
}

/// Suffixes that builders add to a tag for a single-architecture image, whose multi-architecture index has the plain
/// tag: Docker's and Go's names of architectures, and those of the kernel.
const ARCHITECTURES: [&str; 13] = [
    "amd64", "arm64", "arm64v8", "arm64-v8", "x86_64", "x86-64", "x64", "aarch64", "arm", "armv7", "arm32v7", "armhf",
    "386",
];

/// Whether the service's tag rule matches the right tags, judged by the newest ones in the repository.
fn tags(rule: &TagRule, subject: &str, newest: &[InspectedTag], findings: &mut Findings) {
    let matches_rule: Vec<&str> =
        newest.iter().filter(|seen| seen.matches_rule).map(|seen| seen.tag.as_str()).collect();
    let single_architecture = matches_rule.iter().find_map(|tag| {
        let (of, suffix) = ARCHITECTURES.iter().find_map(|name| {
            let of = tag.strip_suffix(name)?.strip_suffix(['-', '_', '.'])?;
            Some((of, *name))
        })?;
        newest.iter().any(|other| other.tag == of).then_some((*tag, of, suffix))
    });
    if let Some((tag, of, suffix)) = single_architecture {
        let problem = format!(
            "the service's rule takes {tag}, which is {of} for {suffix} alone: whichever is pushed first is deployed, \
             also onto tasks of another architecture"
        );
        let remedy = "exclude the parts: `tags: {glob: \"v*\", not: {glob: \"*-{amd64,arm64}\"}}`";
        findings.risky("tags_of_architectures", subject, problem, remedy);
    }
    if let (Some(example), true) = (newest.first(), matches_rule.is_empty()) {
        let semver = if is_semver(rule) {
            "; a semantic version has three numbers without leading zeros, which `1.4` and `2026.01.05` have not"
        } else {
            ""
        };
        let problem = format!(
            "the service's rule takes none of the {} newest tags (such as {}): no push becomes a release{semver}",
            newest.len(),
            example.tag
        );
        findings.risky("tags_never_taken", subject, problem, "write a rule under `tags` that takes what is pushed");
    }
}

fn is_semver(rule: &TagRule) -> bool {
    match rule {
        TagRule::Semver(_) => true,
        TagRule::Except { take, .. } => is_semver(take),
        TagRule::Glob(_) | TagRule::Regex(_) => false,
    }
}

/// The repository of an image: `shop/api` of `111122223333.dkr.ecr.eu-central-1.amazonaws.com/shop/api:v1@sha256:…`
fn repository_of(image: &str) -> Option<&str> {
    let (_, path) = image.split_once('/')?;
    path.split('@').next()?.split(':').next()
}

/// Whether the IAM scope of the stack's own roles covers what a deployment needs.
fn check_iam_scope(
    iam_scope: &IamScope,
    policy: &Policy,
    target: &TargetId,
    wanted: &TargetPolicy,
    seen: &InspectionResult,
    findings: &mut Findings,
) {
    let mut check_prefix = |subject: &str, name: &str, prefix: &str, parameter: &str, consequence: &str| {
        if !name.starts_with(prefix) {
            let problem = format!(
                "its name does not begin with `{prefix}`, which is all that the stack may touch: {consequence}"
            );
            let remedy = format!("change the stack's parameter {parameter}, or the name");
            findings.broken("out_of_reach", subject, problem, remedy);
        }
    };
    // Sides are in the same cluster.
    if let Some(service) = wanted.resources.platform.ecs_services().next() {
        let cluster = short_name(service.cluster);
        let consequence = "its services cannot be changed";
        check_prefix(&format!("cluster {cluster}"), cluster, &iam_scope.clusters, "ClusterPrefix", consequence);
    }
    for arn in wanted.resources.rules().chain(wanted.resources.test_rules()) {
        let balancer = balancer_of_rule(arn).unwrap_or_default();
        let consequence = format!("weights on the load balancer {balancer} cannot be moved");
        check_prefix(&rule_label(arn), balancer, &iam_scope.load_balancers, "LoadBalancerPrefix", &consequence);
    }
    if let Some(service) = policy.services.get(&target.service) {
        let subject = format!("repository {}", service.repository);
        let consequence = "pushes whose event is lost are not found";
        check_prefix(&subject, &service.repository, &iam_scope.repositories, "RepositoryPrefix", consequence);
    }
    let mut roles = std::collections::BTreeSet::new();
    let of_workloads = seen.platform.workloads().map(|(_, workload)| &workload.definition);
    for definition in of_workloads.chain([&seen.template]) {
        if let Reading::Known(Some(definition)) = definition {
            roles.extend(definition.roles.iter().map(String::as_str));
        }
    }
    for role in roles {
        let name = role.split_once(":role/").map_or(role, |(_, name)| name);
        let consequence = "it cannot be handed to tasks, and registering a task definition fails";
        check_prefix(&format!("role {name}"), name, &iam_scope.task_roles, "TaskRolePrefix", consequence);
    }
    for hook in &wanted.hooks {
        if let HookAction::Lambda { function } = &hook.run {
            let name = function.split_once(":function:").map_or(function.as_str(), |(_, name)| name);
            check_prefix(&format!("hook {}", hook.name), name, &iam_scope.hooks, "HookPrefix", "it cannot be called");
        }
    }
    let routes = policy.notifications.iter().filter(|route| {
        let among = |names: &[crate::Name], name| names.is_empty() || names.contains(name);
        among(&route.environments, &target.environment) && among(&route.services, &target.service)
    });
    for route in routes {
        if let Receiver::Topic(arn) = &route.receiver {
            let name = arn.rsplit(':').next().unwrap_or(arn);
            check_prefix(&format!("topic {name}"), name, &iam_scope.topics, "TopicPrefix", "nobody is notified there");
        }
    }
}
