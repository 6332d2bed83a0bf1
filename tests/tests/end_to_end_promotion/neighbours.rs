//! Two services of an environment that deploys one at a time.

use super::shop::QUICK;
use rollout::{Fact, Gate, Timestamp, Verdict};
use tests::harness::scenario::{Scenario, ScenarioOptions, good};

/// When the first deployment passed its gates, and when it was verified.
fn span(scene: &Scenario) -> (Timestamp, Timestamp) {
    let journal = scene.journal();
    let at = |wanted: fn(&Fact) -> bool| journal.iter().find(|entry| wanted(&entry.fact)).map(|entry| entry.at);
    let began = at(|fact| matches!(fact, Fact::SidesDetermined { .. }));
    let verified = at(|fact| matches!(fact, Fact::Verified { .. }));
    began.zip(verified).unwrap_or_else(|| panic!("{} was not deployed: {journal:#?}", scene.target()))
}

pub(crate) fn pushes_at_once_are_deployed_one_at_a_time() {
    let options = ScenarioOptions { strategy: QUICK, ..ScenarioOptions::default() };
    let scenes = ["api", "web"].map(|service| Scenario::set("queue", service, "dev", &options));
    let [api, web] = &scenes;
    api.apply(&format!(
        "application: queue
services:
  api: {{repository: queue/api, tags: {{glob: \"v*\"}}}}
  web: {{repository: queue/web, tags: {{glob: \"v*\"}}, depends_on: [api]}}
environments:
  dev: {{trigger: push, one_at_a_time: true, targets: {{api: {}, web: {}}}}}
",
        api.target_policy(&options),
        web.target_policy(&options),
    ));
    for scene in [web, api] {
        let _digest = scene.push("v1", good());
    }
    for scene in &scenes {
        let record = scene.verdict(1);
        assert_eq!(record.verdict, Some(Verdict::Succeeded), "{}: {}", scene.target(), record.reason);
    }
    let mut spans = scenes.each_ref().map(span);
    spans.sort();
    assert!(spans[1].0 >= spans[0].1, "they were deployed at once: {spans:?}");
    let waited = |scene: &Scenario| {
        let closed = |fact: &Fact| matches!(fact, Fact::BlockedByGate { gate: Gate::OneAtATime, .. });
        scene.journal().iter().any(|entry| closed(&entry.fact))
    };
    assert!(scenes.iter().any(waited), "one of them says what it waited for");
}
