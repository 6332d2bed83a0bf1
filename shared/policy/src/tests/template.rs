//! Where everything of a new version but its image comes from, and what deploys a newer template.

use super::files::{one_target, report};
use crate::{changes, parse, render};
use rollout::template::{ConfigurationTrigger, TemplateSource};
use rollout::{Policy, TargetPolicy};

const TARGET: &str = "environments.dev.targets.api";

#[track_caller]
fn accepted(text: &str) -> Policy {
    parse(text).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The target of a file that has these further lines.
#[track_caller]
fn target(rest: &str) -> TargetPolicy {
    only_target(&one_target(rest))
}

#[track_caller]
fn only_target(text: &str) -> TargetPolicy {
    accepted(text).targets().next().expect("one").1.clone()
}

/// A file with these `defaults` of its environment, and a target with these further lines.
fn with_defaults(defaults: &str, rest: &str) -> String {
    one_target(rest).replace("  dev:\n", &format!("  dev:\n    defaults: {defaults}\n"))
}

fn family(name: &str) -> TemplateSource {
    TemplateSource::Family(name.to_owned())
}

#[test]
fn the_live_version_is_the_template_unless_a_family_is_named() {
    for live in ["", "template: live", "template: \"live\""] {
        let target = target(live);
        assert_eq!((target.template, target.configuration), (TemplateSource::Live, ConfigurationTrigger::Manual));
    }
    assert_eq!(target("template: {family: Shop_api-2}").template, family("Shop_api-2"));
}

#[test]
fn one_service_may_name_a_family() {
    let service = "application: shop
services: {api: {repository: shop/api}}
environments:
  dev:
    targets:
      api:
        ecs: {cluster: shop-dev, container: api, service: api}
        template: {family: shop-api}
        configuration: automatic
";
    let target = only_target(service);
    assert_eq!((target.template, target.configuration), (family("shop-api"), ConfigurationTrigger::Automatic));
}

#[test]
fn a_template_is_live_or_a_family() {
    for (template, problem) in [
        ("Live", "expected `live`, or `{family: NAME}`, found `Live`"),
        ("shop-api", "expected `live`, or `{family: NAME}`, found `shop-api`"),
        ("[live]", "expected `live`, or `{family: NAME}`, found a list"),
        ("", "expected `live`, or `{family: NAME}`, found nothing"),
        ("{}", "`family` is missing: add it"),
    ] {
        let report = report(&one_target(&format!("template: {template}")));
        assert!(report.contains(&format!("{TARGET}.template: {problem}")), "{template}: {report}");
        assert_eq!(report.lines().count(), 1, "{template}: {report}");
    }
    let misspelled = report(&one_target("template: {familly: shop-api}"));
    assert!(misspelled.contains("unknown key `familly`: did you mean `family`?"), "{misspelled}");
}

/// A family has at most 255 characters, and that of the versions is `NAME-switchback`.
#[test]
fn the_name_of_a_family_leaves_room_for_the_suffix_of_its_versions() {
    let longest = "a".repeat(244);
    let versions = target(&format!("template: {{family: {longest}}}")).template.family_of_versions();
    assert_eq!(versions.map(|family| family.len()), Some(255));
    let expected = "expected the name of a family of task definitions: letters, digits, `-` and `_`, at most 244";
    for wrong in ["a".repeat(245), "shop/api".to_owned(), "shop.api".to_owned(), "\"shop-api:3\"".to_owned()] {
        let report = report(&one_target(&format!("template: {{family: {wrong}}}")));
        assert!(report.contains(&format!("{TARGET}.template.family: {expected}")), "{wrong}: {report}");
    }
}

#[test]
fn a_newer_template_is_deployed_on_request_unless_the_policy_says_otherwise() {
    let configuration = |rest: &str| target(&format!("template: {{family: shop-api}}\n{rest}")).configuration;
    assert_eq!(configuration(""), ConfigurationTrigger::Manual);
    assert_eq!(configuration("configuration: manual"), ConfigurationTrigger::Manual);
    assert_eq!(configuration("configuration: automatic"), ConfigurationTrigger::Automatic);
    let unknown = report(&one_target("configuration: always"));
    let expected = format!("12:24: {TARGET}.configuration: expected one of `manual`, `automatic`, found `always`");
    assert_eq!(unknown, expected);
}

#[test]
fn automatic_configuration_needs_a_family() {
    for template in ["", "\ntemplate: live"] {
        let report = report(&one_target(&format!("configuration: automatic{template}")));
        let expected = format!(
            "12:24: {TARGET}.configuration: the live version is the template, so there is never a newer one: name a \
             family as `template: {{family: NAME}}`, or write `manual`"
        );
        assert_eq!(report, expected, "{template}");
    }
    // A template that cannot be read is the only problem.
    let unreadable = report(&one_target("configuration: automatic\ntemplate: shop-api"));
    assert_eq!(unreadable.lines().count(), 1, "{unreadable}");
}

#[test]
fn configuration_is_inherited_by_targets_that_name_a_family() {
    let inherited = |rest: &str| only_target(&with_defaults("{configuration: automatic}", rest)).configuration;
    assert_eq!(inherited("template: {family: shop-api}"), ConfigurationTrigger::Automatic);
    assert_eq!(inherited("template: {family: shop-api}\nconfiguration: manual"), ConfigurationTrigger::Manual);
    assert_eq!(inherited(""), ConfigurationTrigger::Manual, "there is never a newer template");

    let template = report(&with_defaults("{template: {family: shop-api}}", ""));
    assert!(template.contains("environments.dev.defaults.template: unknown key `template`"), "{template}");
}

#[test]
fn a_rendered_template_parses_to_the_same_policy() {
    for rest in ["", "template: {family: shop-api}", "template: {family: shop-api}\nconfiguration: automatic"] {
        for text in [one_target(rest), with_defaults("{configuration: automatic}", rest)] {
            let policy = accepted(&text);
            let again = accepted(&render(&policy).to_string());
            assert_eq!(again, policy, "{text}");
            assert_eq!(changes(Some(&policy), &again), [], "{text}");
        }
    }
}

#[test]
fn another_template_is_a_change_of_its_target() {
    let changed = |before: &str, after: &str| -> Vec<String> {
        let changes = changes(Some(&accepted(&one_target(before))), &accepted(&one_target(after)));
        let shown = changes.into_iter().map(|change| {
            let [before, after] = [change.before, change.after].map(Option::unwrap_or_default);
            format!("{}: {before} -> {after}", change.path)
        });
        shown.collect()
    };
    let (live, named) = ("", "template: {family: shop-api}\nconfiguration: automatic");
    let expected = [
        format!("{TARGET}.configuration: manual -> automatic"),
        format!("{TARGET}.template: live -> {{\"family\":\"shop-api\"}}"),
    ];
    assert_eq!(changed(live, named), expected);
    let other = "template: {family: shop-api-2}\nconfiguration: automatic";
    assert_eq!(changed(named, other), [format!("{TARGET}.template.family: shop-api -> shop-api-2")]);
}
