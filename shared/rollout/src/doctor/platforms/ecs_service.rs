//! Checks an ECS service on whatever platform: that it exists, that Switchback can drive it, that its tasks register in
//! the policy's target groups, and that its task definition has the container.

use crate::doctor::inspected::{InspectedService, InspectedTaskDefinition, InspectedWorkload};
use crate::doctor::{Findings, short_name};
use crate::platform::EcsServiceName;
use crate::snapshot::Reading;

/// A service as the policy names it, and what is said about it where platforms differ.
pub(super) struct NamedService<'a> {
    /// The service.
    pub(super) service: EcsServiceName<'a>,
    /// ARNs of the target groups that its tasks must register in.
    pub(super) groups: Vec<&'a str>,
    /// Deployments set its desired count.
    pub(super) is_scaled: bool,
    /// What to do where ECS has no such service.
    pub(super) create: String,
    /// What ECS would do by a deployment strategy of its own.
    pub(super) own_strategy: &'a str,
    /// Where the policy names its target groups: ``as `blue` ``.
    pub(super) groups_named: String,
    /// Of target groups that the policy does not name: why they matter, and what to do.
    pub(super) besides: [&'a str; 2],
}

impl NamedService<'_> {
    /// What findings call it: `service api-blue`.
    pub(super) fn label(&self) -> String {
        label(self.service.name)
    }
}

/// Label of a service by its name or ARN.
pub(super) fn label(name: &str) -> String {
    format!("service {}", short_name(name))
}

/// Whether the readings of this workload failed because its cluster does not exist.
pub(super) fn is_without_cluster(workload: &InspectedWorkload) -> bool {
    is_cluster_missing(&workload.service) || is_cluster_missing(&workload.definition)
}

/// Whether the reading failed because the cluster does not exist (API reference, errors of `DescribeServices`).
fn is_cluster_missing<T>(reading: &Reading<T>) -> bool {
    matches!(reading, Reading::Unknown(reason) if reason.contains("ClusterNotFound"))
}

/// Adds the finding that there is no such cluster.
pub(super) fn report_missing_cluster(cluster: &str, findings: &mut Findings) {
    let subject = format!("cluster {}", short_name(cluster));
    let remedy = "create it, or give the name or ARN of the right one as `cluster`";
    findings.broken("cluster_missing", &subject, "there is no such ECS cluster", remedy);
}

/// Checks the service, and returns it if it is active.
pub(super) fn judge<'r>(
    named: &NamedService<'_>,
    workload: &'r InspectedWorkload,
    findings: &mut Findings,
) -> Option<&'r InspectedService> {
    let subject = named.label();
    let Some(service) = findings.known(&subject, &workload.service)? else {
        let problem = format!("the cluster {} has no such service", short_name(named.service.cluster));
        findings.broken("service_missing", &subject, problem, named.create.as_str());
        return None;
    };
    if service.status != "ACTIVE" {
        let problem = format!("it is {}, and starts no tasks", service.status);
        findings.broken("service_inactive", &subject, problem, "create it anew");
        return None;
    }
    check_control(named, &subject, service, findings);
    check_registration(named, &subject, service, findings);
    Some(service)
}

/// Whether Switchback can set what a deployment changes of the service.
fn check_control(named: &NamedService<'_>, subject: &str, service: &InspectedService, findings: &mut Findings) {
    if service.controller != "ECS" {
        let problem = format!(
            "its deployment controller is {}: its task definition is not Switchback's to set",
            service.controller
        );
        findings.broken("service_controller", subject, problem, "create it anew with the deployment controller ECS");
    }
    if service.strategy != "ROLLING" {
        let problem = format!("its own strategy is {}: {}", service.strategy, named.own_strategy);
        findings.broken("service_strategy", subject, problem, "set its deployment strategy to ROLLING");
    }
    if named.is_scaled && service.scheduling != "REPLICA" {
        let problem = format!("it is scheduled as {}: it has no desired count that could be set", service.scheduling);
        findings.broken("service_scheduling", subject, problem, "create it anew with the scheduling strategy REPLICA");
    }
}

/// Whether its tasks register in the policy's target groups, and in no others.
fn check_registration(named: &NamedService<'_>, subject: &str, service: &InspectedService, findings: &mut Findings) {
    for own in named.groups.iter().filter(|own| !service.groups.iter().any(|arn| arn == *own)) {
        let problem = match service.groups.as_slice() {
            [] => "its tasks register in no target group, so none ever becomes healthy".to_owned(),
            others => {
                let names: Vec<&str> = others.iter().map(|arn| short_name(arn)).collect();
                format!("its tasks register in {}, not in {}", names.join(", "), short_name(own))
            }
        };
        let groups_named = &named.groups_named;
        let remedy =
            format!("attach the service to {}, or name the right target group {groups_named}", short_name(own));
        findings.broken("target_group_unattached", subject, problem, remedy);
    }
    let (own, others): (Vec<&String>, Vec<&String>) =
        service.groups.iter().partition(|arn| named.groups.contains(&arn.as_str()));
    let others: Vec<&str> = others.into_iter().map(|arn| short_name(arn)).collect();
    // Where the policy names groups and the service registers in none of them, that is said above.
    if !others.is_empty() && (!own.is_empty() || named.groups.is_empty()) {
        let [consequence, remedy] = named.besides;
        let also = if own.is_empty() { "" } else { "also " };
        let problem = format!("its tasks {also}register in {}, {consequence}", others.join(", "));
        findings.risky("target_group_besides", subject, problem, remedy);
    }
}

/// Checks that the service's task definition has the policy's container, and returns the definition if it was read.
pub(super) fn judge_definition<'r>(
    named: &NamedService<'_>,
    workload: &'r InspectedWorkload,
    findings: &mut Findings,
) -> Option<&'r InspectedTaskDefinition> {
    let subject = named.label();
    let definition = findings.known(&format!("task definition of {subject}"), &workload.definition)?.as_ref()?;
    let container = named.service.container;
    if !definition.containers.contains_key(container) {
        let names: Vec<&str> = definition.containers.keys().map(String::as_str).collect();
        let problem = format!("its task definition has no container `{container}`, only {}", names.join(", "));
        findings.broken(
            "container_missing",
            &subject,
            problem,
            "name the container whose image is replaced as `container`",
        );
    }
    Some(definition)
}

/// Checks that ECS can replace tasks with its percentages, whatever the desired count is.
pub(super) fn check_percentages(subject: &str, service: &InspectedService, findings: &mut Findings) {
    if service.maximum_percent <= 100 && service.minimum_percent >= 100 {
        let (min, max) = (service.minimum_percent, service.maximum_percent);
        let problem = format!("minimumHealthyPercent {min} and maximumPercent {max} let ECS replace no task at all");
        findings.broken("service_cannot_update", subject, problem, "raise maximumPercent, to 200 say");
    }
}

/// `CLUSTER/SERVICE`
pub(super) fn full_name(service: EcsServiceName<'_>) -> String {
    format!("{}/{}", short_name(service.cluster), short_name(service.name))
}
