//! What stands around the pair: where images come from, what the account allows, how far the control plane reaches.

use super::seen::{Inspected, Reach, TagSeen};
use super::{Findings, SLOTS, balancer_of_rule, called, place_of_rule, place_of_service};
use crate::names::TargetId;
use crate::policy::{HookAction, Policy, Receiver, ServicePolicy, TagRule, TargetPolicy};
use crate::snapshot::Reading;

/// New accounts may have 10 (Lambda quotas); each running deployment takes one now and then, and events take others.
const FEW_FUNCTIONS: u32 = 50;

/// What `cpu` of a task definition is counted in (ECS developer guide, "Task size").
const CPU_UNITS_A_VCPU: f64 = 1024.0;

pub(super) fn judge(
    policy: &Policy,
    target: &TargetId,
    wanted: &TargetPolicy,
    seen: &Inspected,
    findings: &mut Findings,
) {
    if let Some(service) = policy.services.get(&target.service) {
        repository(service, wanted, seen, findings);
    }
    if let Some(functions) = findings.known("quota of concurrent functions", &seen.concurrency)
        && *functions < FEW_FUNCTIONS
    {
        let what =
            format!("{functions} functions may run at once in this account: a rollback waits for all the others");
        let remedy = "ask for a higher quota: Service Quotas, AWS Lambda, Concurrent executions";
        findings.risky("quota_of_functions", "account", what, remedy);
    }
    fargate(wanted, seen, findings);
    if let Some(reach) = &seen.reach {
        reaches(reach, policy, target, wanted, seen, findings);
    }
}

/// Whether a second side fits in beside the first: as many tasks again as the larger side has, less what runs already.
/// On-Demand and Spot have a quota each (AWS General Reference, "AWS Fargate quotas").
fn fargate(wanted: &TargetPolicy, seen: &Inspected, findings: &mut Findings) {
    let sides = SLOTS.map(|slot| match &seen.side(slot).service {
        Reading::Known(Some(service)) if service.on_fargate => Some((slot, service)),
        _ => None,
    });
    let [Some(blue), Some(green)] = sides else { return };
    let (larger, smaller) = if blue.1.desired >= green.1.desired { (blue, green) } else { (green, blue) };
    let definition = match &seen.side(larger.0).definition {
        Reading::Known(Some(definition)) => definition,
        _ => return,
    };
    let Some(cpu_units) = definition.cpu_units else { return };
    // What starts is placed by the smaller side's strategy.
    let [wanted_tasks, there] = [larger.1.desired, smaller.1.desired].map(|tasks| smaller.1.tasks_on_fargate(tasks));
    for (index, (class, account)) in
        [("On-Demand", &seen.fargate), ("Spot", &seen.fargate_spot)].into_iter().enumerate()
    {
        let more = wanted_tasks[index].saturating_sub(there[index]);
        // Where nothing is placed by it, nobody needs to know what is left of it.
        if more == 0 && index == 1 {
            continue;
        }
        let place = if index == 0 { "quota of Fargate" } else { "quota of Fargate Spot" };
        let Some(Some(account)) = findings.known(place, account) else { continue };
        let needed = f64::from(more) * f64::from(cpu_units) / CPU_UNITS_A_VCPU;
        let free = (account.quota - account.used).max(0.0);
        if needed > free {
            let what = format!(
                "a deployment starts {needed} vCPUs of Fargate {class} beside those that run, and {free} of the account's {} \
                 are free: not all of its tasks would start",
                account.quota
            );
            let remedy =
                format!("ask for a higher quota: Service Quotas, AWS Fargate, Fargate {class} vCPU resource count");
            findings.broken("quota_of_fargate", &place_of_service(wanted, smaller.0), what, &remedy);
        }
    }
}

fn repository(service: &ServicePolicy, wanted: &TargetPolicy, seen: &Inspected, findings: &mut Findings) {
    let name = service.repository.as_str();
    let place = format!("repository {name}");
    match findings.known(&place, &seen.repository) {
        Some(None) => {
            let what = format!("there is no such repository {}: no push ever becomes a release", where_it_is(service));
            let remedy = "create it, or name the right one under `services`, with its `registry` where that is not the \
                          control plane's own";
            findings.broken("repository_missing", &place, what, remedy);
        }
        Some(Some(repository)) => {
            if !repository.immutable {
                let what =
                    "its tags can be moved: what is deployed is the digest, but a tag may name another image tomorrow";
                findings.advice("repository_mutable", &place, what, "set image_tag_mutability = \"IMMUTABLE\"");
            }
            if let Some(newest) = findings.known(&format!("tags of {place}"), &repository.newest) {
                tags(&service.tags, &place, newest, findings);
            }
        }
        None => {}
    }
    for slot in SLOTS {
        let Reading::Known(Some(definition)) = &seen.side(slot).definition else { continue };
        let Some(image) = definition.images.get(&wanted.pair.container) else { continue };
        if repository_of(image) != Some(name) {
            let what = format!(
                "its container {} runs {image}, which is not of {name}: the first deployment replaces it",
                wanted.pair.container
            );
            let remedy = "see that `container` and `repository` are what you mean";
            findings.risky("image_of_other_repository", &place_of_service(wanted, slot), what, remedy);
        }
    }
}

fn where_it_is(service: &ServicePolicy) -> String {
    match (&service.registry.account, &service.registry.region) {
        (None, None) => "in this account and Region".to_owned(),
        (Some(account), None) => format!("in account {account} and this Region"),
        (None, Some(region)) => format!("in this account in {region}"),
        (Some(account), Some(region)) => format!("in account {account} in {region}"),
    }
}

/// What builders add to a tag for the image of one architecture, whose index has the tag itself: Docker's and Go's names of
/// architectures, and those of the kernel.
const ARCHITECTURES: [&str; 13] = [
    "amd64", "arm64", "arm64v8", "arm64-v8", "x86_64", "x86-64", "x64", "aarch64", "arm", "armv7", "arm32v7", "armhf",
    "386",
];

/// Whether the rule takes what it should, judged by what was pushed last.
fn tags(rule: &TagRule, place: &str, newest: &[TagSeen], findings: &mut Findings) {
    let taken: Vec<&str> = newest.iter().filter(|seen| seen.taken).map(|seen| seen.tag.as_str()).collect();
    let of_one = taken.iter().find_map(|tag| {
        let (of, suffix) = ARCHITECTURES.iter().find_map(|name| {
            let of = tag.strip_suffix(name)?.strip_suffix(['-', '_', '.'])?;
            Some((of, *name))
        })?;
        newest.iter().any(|other| other.tag == of).then_some((*tag, of, suffix))
    });
    if let Some((tag, of, suffix)) = of_one {
        let what = format!(
            "the service's rule takes {tag}, which is {of} for {suffix} alone: whichever is pushed first is deployed, also onto \
             tasks of another architecture"
        );
        let remedy = "exclude the parts: `tags: {glob: \"v*\", not: {glob: \"*-{amd64,arm64}\"}}`";
        findings.risky("tags_of_architectures", place, what, remedy);
    }
    if let (Some(example), true) = (newest.first(), taken.is_empty()) {
        let semver = if is_semver(rule) {
            "; a semantic version has three numbers without leading zeros, which `1.4` and `2026.01.05` have not"
        } else {
            ""
        };
        let what = format!(
            "the service's rule takes none of the {} newest tags (such as {}): no push becomes a release{semver}",
            newest.len(),
            example.tag
        );
        findings.risky("tags_never_taken", place, what, "write a rule under `tags` that takes what is pushed");
    }
}

fn is_semver(rule: &TagRule) -> bool {
    match rule {
        TagRule::Semver(_) => true,
        TagRule::Except { take, .. } => is_semver(take),
        TagRule::Glob(_) | TagRule::Regex(_) => false,
    }
}

/// `shop/api` of `111122223333.dkr.ecr.eu-central-1.amazonaws.com/shop/api:v1@sha256:…`
fn repository_of(image: &str) -> Option<&str> {
    let (_, path) = image.split_once('/')?;
    path.split('@').next()?.split(':').next()
}

/// Whether the stack's own roles may do what a deployment needs.
fn reaches(
    reach: &Reach,
    policy: &Policy,
    target: &TargetId,
    wanted: &TargetPolicy,
    seen: &Inspected,
    findings: &mut Findings,
) {
    let mut beyond = |place: &str, name: &str, prefix: &str, parameter: &str, comes: &str| {
        if !name.starts_with(prefix) {
            let what =
                format!("its name does not begin with `{prefix}`, which is all that the stack may touch: {comes}");
            let remedy = format!("change the stack's parameter {parameter}, or the name");
            findings.broken("out_of_reach", place, what, remedy);
        }
    };
    let pair = &wanted.pair;
    let cluster = called(&pair.cluster);
    beyond(&format!("cluster {cluster}"), cluster, &reach.clusters, "ClusterPrefix", "its services cannot be changed");
    for arn in pair.rules.iter().chain(&pair.test_rule) {
        let balancer = balancer_of_rule(arn).unwrap_or_default();
        let comes = format!("weights on the load balancer {balancer} cannot be moved");
        beyond(&place_of_rule(arn), balancer, &reach.load_balancers, "LoadBalancerPrefix", &comes);
    }
    if let Some(service) = policy.services.get(&target.service) {
        let place = format!("repository {}", service.repository);
        let comes = "pushes whose event is lost are not found";
        beyond(&place, &service.repository, &reach.repositories, "RepositoryPrefix", comes);
    }
    let mut roles = std::collections::BTreeSet::new();
    for slot in SLOTS {
        if let Reading::Known(Some(definition)) = &seen.side(slot).definition {
            roles.extend(definition.roles.iter().map(String::as_str));
        }
    }
    for role in roles {
        let name = role.split_once(":role/").map_or(role, |(_, name)| name);
        let comes = "it cannot be handed to tasks, and registering a task definition fails";
        beyond(&format!("role {name}"), name, &reach.task_roles, "TaskRolePrefix", comes);
    }
    for hook in &wanted.hooks {
        if let HookAction::Lambda { function } = &hook.run {
            let name = function.split_once(":function:").map_or(function.as_str(), |(_, name)| name);
            beyond(&format!("hook {}", hook.name), name, &reach.hooks, "HookPrefix", "it cannot be called");
        }
    }
    let told = policy.notifications.iter().filter(|route| {
        let among = |names: &[crate::Name], name| names.is_empty() || names.contains(name);
        among(&route.environments, &target.environment) && among(&route.services, &target.service)
    });
    for route in told {
        if let Receiver::Topic(arn) = &route.receiver {
            let name = arn.rsplit(':').next().unwrap_or(arn);
            beyond(&format!("topic {name}"), name, &reach.topics, "TopicPrefix", "nobody is told there");
        }
    }
}
