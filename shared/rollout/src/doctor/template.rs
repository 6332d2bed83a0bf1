//! Checks the newest template of the family that the policy names: whether there is one, and whether the service can
//! run a version made of it.

use super::Findings;
use super::inspected::{InspectedPlatform, InspectedService, InspectedTaskDefinition, InspectionResult};
use crate::policy::TargetPolicy;
use crate::template::VERSIONS_SUFFIX;

const FARGATE: &str = "FARGATE";

/// Why a service cannot run a version made of the template.
#[derive(Debug, PartialEq, Eq)]
struct Misfit {
    check: &'static str,
    problem: String,
    remedy: String,
}

pub(super) fn judge(policy: &TargetPolicy, seen: &InspectionResult, findings: &mut Findings) {
    let Some(family) = policy.template.family() else { return };
    let subject = format!("template family {family}");
    if let Some(templates) = family.strip_suffix(VERSIONS_SUFFIX) {
        let problem = format!(
            "its name ends with `{VERSIONS_SUFFIX}`: versions made of templates of the family {templates} are \
             registered in it, and the newest of them would be taken for a template"
        );
        let remedy = "name the family that your own tooling registers";
        findings.broken("template_of_versions", &subject, problem, remedy);
    }
    let template = match findings.known(&subject, &seen.template) {
        Some(Some(template)) => template,
        Some(None) => {
            let problem = "it has no active task definition: no deployment starts";
            let remedy = "have the tooling that owns it register one, or name the right family under `template`";
            findings.broken("template_missing", &subject, problem, remedy);
            return;
        }
        None => return,
    };
    // All services of a target have the same container.
    let Some(service) = policy.resources.platform.ecs_services().next() else { return };
    let container = service.container;
    if !template.containers.contains_key(container) {
        let names: Vec<&str> = template.containers.keys().map(String::as_str).collect();
        let problem = format!("its newest revision has no container `{container}`, only {}", names.join(", "));
        let remedy = "register a revision with the container whose image is replaced, or name another `container`";
        findings.broken("template_without_container", &subject, problem, remedy);
    }
    for Misfit { check, problem, remedy } in misfits(&seen.platform, template, container) {
        findings.broken(check, &subject, problem, remedy);
    }
}

/// Why the services cannot run a version made of the template, each reason once: both services of a pair usually have
/// the same settings.
fn misfits(platform: &InspectedPlatform, template: &InspectedTaskDefinition, container: &str) -> Vec<Misfit> {
    let mut misfits = Vec::new();
    for (_, workload) in platform.workloads() {
        let live = workload.definition.known().and_then(Option::as_ref);
        let service = workload.service.known().and_then(Option::as_ref);
        let network_mode = live.and_then(|live| network_mode(template, live));
        let launch_type = service.and_then(|service| launch_type(template, live, service));
        let ports = service.into_iter().flat_map(|service| &service.registered_ports);
        // Of a container that the policy names and the template lacks, that is said already.
        let ports = ports.filter(|(name, _)| name != container || template.containers.contains_key(name));
        let ports = ports.filter_map(|(name, port)| unmapped_port(template, name, *port));
        for misfit in network_mode.into_iter().chain(launch_type).chain(ports) {
            if !misfits.contains(&misfit) {
                misfits.push(misfit);
            }
        }
    }
    misfits
}

/// A service's network configuration fits one network mode only.
fn network_mode(template: &InspectedTaskDefinition, live: &InspectedTaskDefinition) -> Option<Misfit> {
    let [wanted, found] = [&live.network_mode, &template.network_mode];
    (wanted != found).then(|| Misfit {
        check: "template_network_mode",
        problem: format!(
            "its newest revision has the network mode `{found}`, and the task definition that the service runs has \
             `{wanted}`: ECS refuses to update the service"
        ),
        remedy: format!("register a revision with the network mode `{wanted}`"),
    })
}

/// Whether Fargate runs the template. A service that runs a task definition without `FARGATE` on it shows that ECS does
/// not insist there.
fn launch_type(
    template: &InspectedTaskDefinition,
    live: Option<&InspectedTaskDefinition>,
    service: &InspectedService,
) -> Option<Misfit> {
    let is_required = live.is_none_or(|live| live.launch_types.contains(FARGATE));
    let fits = !service.on_fargate || !is_required || template.launch_types.contains(FARGATE);
    (!fits).then(|| {
        let listed: Vec<&str> = template.launch_types.iter().map(String::as_str).collect();
        let listed = if listed.is_empty() { "nothing".to_owned() } else { listed.join(", ") };
        Misfit {
            check: "template_launch_type",
            problem: format!(
                "the service runs on {FARGATE}, and its newest revision lists {listed} in requiresCompatibilities: ECS \
                 refuses to update the service"
            ),
            remedy: format!("register a revision with {FARGATE} in requiresCompatibilities"),
        }
    })
}

/// Whether the template maps a port with which the service registers its tasks in target groups.
fn unmapped_port(template: &InspectedTaskDefinition, container: &str, port: u16) -> Option<Misfit> {
    let found = template.containers.get(container);
    if found.is_some_and(|found| found.maps(port)) {
        return None;
    }
    let ports = found.map(|found| found.ports.as_slice()).unwrap_or_default();
    let mapped = ports.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    let mapped: Vec<String> = mapped.collect();
    let maps = match (found, mapped.as_slice()) {
        (None, _) => "has no such container".to_owned(),
        (Some(_), []) => "maps no port of it".to_owned(),
        (Some(_), ports) => format!("maps {}", ports.join(", ")),
    };
    Some(Misfit {
        check: "template_port_unmapped",
        problem: format!(
            "the service registers its tasks in a target group with port {port} of the container {container}, and its \
             newest revision {maps}: ECS refuses to update the service"
        ),
        remedy: format!("register a revision whose container {container} maps port {port} (`portMappings`)"),
    })
}
