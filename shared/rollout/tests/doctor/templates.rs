//! A target whose policy names a family of templates: a template that fits has no findings, and each way in which it
//! does not fit has the finding that it should.

use super::CaseTable;
use super::account::*;
use super::findings;
use rollout::Reading;
use rollout::doctor::inspected::{IamScope, InspectionResult};
use rollout::doctor::{Finding, Severity, inspection, terraform};
use rollout::policy::Policy;
use rollout::template::TemplateSource;

const FAMILY: &str = "template family shop-api";

fn findings_with_template(change: impl FnOnce(&mut Policy, &mut InspectionResult)) -> Vec<Finding> {
    findings(|policy, seen| {
        name_template(policy, seen, "shop-api");
        change(policy, seen);
    })
}

/// One change, and all that is found of it.
const CASES: CaseTable = &[
    ("a template like what runs", |_, _| {}, &[]),
    (
        "no active revision",
        |_, seen| seen.template = Reading::Known(None),
        &[(Severity::Broken, "template_missing", FAMILY)],
    ),
    (
        "what could not be read",
        |_, seen| seen.template = Reading::Unknown("ListTaskDefinitions: AccessDeniedException".to_owned()),
        &[(Severity::Unread, "unread", FAMILY)],
    ),
    (
        "the family of the versions",
        |policy, _| {
            target_policy(policy).template = TemplateSource::Family("shop-api-switchback".to_owned());
        },
        &[(Severity::Broken, "template_of_versions", "template family shop-api-switchback")],
    ),
    (
        "no container of the policy's name",
        |_, seen| template(seen).containers.clear(),
        &[(Severity::Broken, "template_without_container", FAMILY)],
    ),
    (
        "another network mode",
        |_, seen| template(seen).network_mode = "host".to_owned(),
        &[(Severity::Broken, "template_network_mode", FAMILY)],
    ),
    (
        "a network mode that one of the services has",
        |_, seen| {
            let definition = known_mut(&mut pair(seen).green.definition).as_mut().expect("it is there");
            definition.network_mode = "bridge".to_owned();
        },
        &[(Severity::Broken, "template_network_mode", FAMILY)],
    ),
    (
        "no Fargate among the launch types",
        |_, seen| template(seen).launch_types = ["EC2".to_owned()].into(),
        &[(Severity::Broken, "template_launch_type", FAMILY)],
    ),
    (
        "no Fargate among the launch types of services on EC2",
        |_, seen| {
            template(seen).launch_types.clear();
            for side in sides(seen) {
                known_mut(&mut side.service).as_mut().expect("it is there").on_fargate = false;
            }
        },
        &[],
    ),
    (
        "no Fargate among the launch types of what runs there either",
        |_, seen| {
            template(seen).launch_types.clear();
            for side in sides(seen) {
                known_mut(&mut side.definition).as_mut().expect("it is there").launch_types.clear();
            }
        },
        &[],
    ),
    (
        "another port",
        |_, seen| template(seen).containers.values_mut().for_each(|container| container.ports = vec![(80, 80)]),
        &[(Severity::Broken, "template_port_unmapped", FAMILY)],
    ),
    (
        "a range with the port",
        |_, seen| template(seen).containers.values_mut().for_each(|container| container.ports = vec![(8000, 8080)]),
        &[],
    ),
    (
        "no sidecar, which registers in the target group",
        |_, seen| _ = service(seen).registered_ports.insert(("proxy".to_owned(), 443)),
        &[(Severity::Broken, "template_port_unmapped", FAMILY)],
    ),
    (
        "a role out of reach",
        |_, seen| {
            seen.iam_scope = Some(IamScope { task_roles: "tasks/".to_owned(), ..IamScope::default() });
            template(seen).roles.push("arn:aws:iam::111122223333:role/admin".to_owned());
        },
        &[(Severity::Broken, "out_of_reach", "role admin")],
    ),
    (
        "a family without templates, and a policy that names none",
        |policy, seen| {
            target_policy(policy).template = TemplateSource::Live;
            seen.template = Reading::Known(None);
        },
        &[],
    ),
];

#[test]
fn each_template_that_does_not_fit_yields_exactly_its_findings() {
    for (change, mutate, expected) in CASES {
        let found = findings_with_template(mutate);
        let actual: Vec<_> = found.iter().map(|it| (it.severity, it.check.as_str(), it.subject.as_str())).collect();
        assert_eq!(actual, *expected, "{change}: {found:#?}");
        assert!(found.iter().all(|it| !it.problem.is_empty() && !it.remedy.is_empty()), "{change}: {found:#?}");
    }
}

#[test]
fn a_finding_states_what_the_template_has_and_what_the_service_needs() {
    let problem = |change: fn(&mut Policy, &mut InspectionResult)| {
        let found = findings_with_template(change);
        let [finding] = found.as_slice() else { panic!("one finding: {found:#?}") };
        finding.problem.clone()
    };
    let network_mode = problem(|_, seen| template(seen).network_mode = "host".to_owned());
    assert!(network_mode.contains("`host`") && network_mode.contains("`awsvpc`"), "{network_mode}");
    let launch_type = problem(|_, seen| template(seen).launch_types = ["EC2".to_owned()].into());
    assert!(launch_type.contains("FARGATE") && launch_type.contains("lists EC2 in"), "{launch_type}");
    let port = problem(|_, seen| {
        template(seen).containers.values_mut().for_each(|it| it.ports = vec![(80, 80), (9000, 9010)]);
    });
    assert!(port.contains("port 8080 of the container api") && port.contains("maps 80, 9000-9010"), "{port}");
    let containers = problem(|_, seen| {
        let containers = &mut template(seen).containers;
        let api = containers.remove("api").expect("it is there");
        containers.insert("web".to_owned(), api);
    });
    assert!(containers.contains("no container `api`, only web"), "{containers}");
}

#[test]
fn the_policys_family_is_inspected() {
    let (mut policy, mut seen) = (policy(), seen());
    let family = |policy: &Policy| inspection(policy, &target()).expect("the policy has it").template;
    assert_eq!(family(&policy), None);
    name_template(&mut policy, &mut seen, "shop-api");
    assert_eq!(family(&policy).as_deref(), Some("shop-api"));
}

#[test]
fn terraform_keeps_the_family_of_templates() {
    let (mut policy, mut seen) = (policy(), seen());
    let live = terraform::ignored_attributes(target_policy(&mut policy), &seen);
    name_template(&mut policy, &mut seen, "shop-api");
    let named = terraform::ignored_attributes(target_policy(&mut policy), &seen);
    assert_eq!(named, live, "the services' task definition is ignored, and aws_ecs_task_definition is not");
    assert!(named.iter().all(|it| it.resource != "aws_ecs_task_definition"), "{named:#?}");
}
