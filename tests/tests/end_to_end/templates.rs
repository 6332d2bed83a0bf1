//! Targets whose policy names a family of templates: what the owners' tooling changes in a task definition goes out as a
//! release goes out, and comes back with it.

use crate::{ALL_BLUE, ALL_GREEN};
use rollout::template::TemplateChange;
use rollout::{Fact, Slot, Verdict};
use serde_json::json;
use simulation::world::alarms::AlarmState;
use tests::harness::HarnessError;
use tests::harness::scenario::{InPlaceScene, Scenario, ScenarioOptions, good};
use tests::harness::suite::Test;

/// Names of tests, with their functions.
pub(crate) const TESTS: &[Test] = &[
    (
        "a_newer_template_is_planned_field_by_field_and_deployed_without_a_new_image",
        a_newer_template_is_planned_and_deployed_with_the_same_image,
    ),
    ("an_alarm_brings_the_configuration_before_back", an_alarm_brings_the_configuration_before_back),
];

fn fails(failure: HarnessError) -> ! {
    panic!("{failure}")
}

fn a_newer_template_is_planned_and_deployed_with_the_same_image() {
    let scenario = Scenario::new("sized", &ScenarioOptions { template: true, ..ScenarioOptions::default() });
    let digest = scenario.push("v1", good());
    let record = scenario.verdict(1);
    assert_eq!(record.verdict, Some(Verdict::Succeeded), "{}", record.reason);
    assert_eq!(scenario.weights(), ALL_GREEN);
    assert_eq!(scenario.definition_of(Slot::Green)["cpu"], "256");
    let template = scenario.register_template(|document| document["cpu"] = json!("512"));

    let operations = scenario.operations();
    let plan = operations.plan(&digest).unwrap_or_else(|failure| fails(failure));
    let planned = plan.deployment.and_then(|plan| plan.template).expect("the plan shows the template");
    let bigger = TemplateChange { field: "cpu".into(), before: Some("256".into()), after: Some("512".into()) };
    assert_eq!((planned.version.as_str(), planned.changes.as_slice()), (template.as_str(), &[bigger][..]));

    operations.deploy_configuration("more CPU").unwrap_or_else(|failure| fails(failure));
    let record = scenario.verdict(2);
    assert_eq!(record.verdict, Some(Verdict::Succeeded), "{}", record.reason);
    assert_eq!(record.release.id.digest.as_str(), digest, "the same release");
    assert_eq!(scenario.weights(), ALL_BLUE);
    assert_eq!(scenario.definition_of(Slot::Blue)["cpu"], "512");
    assert!(scenario.image_of(Slot::Blue).ends_with(&digest), "{}", scenario.image_of(Slot::Blue));
    let chosen = |fact: &Fact| match fact {
        Fact::TemplateChosen { template } if !template.is_unchanged() => Some(template.version.clone()),
        _ => None,
    };
    assert_eq!(scenario.fact("which template was taken", chosen), template);
}

fn an_alarm_brings_the_configuration_before_back() {
    let in_place = ScenarioOptions::in_place(InPlaceScene::default());
    let scenario = Scenario::new("tuned", &ScenarioOptions { template: true, strategy: "{bake: 15s}", ..in_place });
    let _digest = scenario.push("v1", good());
    let record = scenario.verdict(1);
    assert_eq!(record.verdict, Some(Verdict::Succeeded), "{}", record.reason);
    let before = scenario.workload();
    let _template = scenario.register_template(|document| document["memory"] = json!("1024"));
    scenario.operations().deploy_configuration("more memory").unwrap_or_else(|failure| fails(failure));
    let replaced = |fact: &Fact| match fact {
        Fact::Replaced { version, .. } if *version != before.version => Some(version.clone()),
        _ => None,
    };
    let version = scenario.fact("that everything is of the newer template", replaced);
    assert_eq!(scenario.workload().version, version);
    scenario.set_manual_alarm(AlarmState::Alarm, "it swaps");
    let record = scenario.verdict(2);
    assert_eq!(record.verdict, Some(Verdict::RolledBack), "{}", record.reason);
    let live = scenario.workload();
    assert_eq!((live.version.as_str(), live.image.as_str()), (before.version.as_str(), before.image.as_str()));
    assert_eq!((live.running, live.others), (2, 0), "{live:?}");
}
