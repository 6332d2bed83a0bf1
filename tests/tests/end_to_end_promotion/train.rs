//! Two services as one set: in order, and back together.

use super::shop::{QUICK, operator, operator_ok, wait_for_release};
use rollout::{Fact, Slot, Timestamp, Verdict};
use simulation::world::ImageBehaviour;
use tests::harness::scenario::{Scenario, ScenarioOptions, good};

/// The old side stays up until the whole train has shown whether it is well: the test ends before that time does.
const WATCHED: &str = "{steps: [{traffic: 100%}], bake: 1s, keep_warm: 10m, drain: 1s}";

/// When the journal tells of something for the last time.
fn last_entry_at(scene: &Scenario, choose: impl Fn(&Fact) -> bool) -> Option<Timestamp> {
    scene.journal().into_iter().rfind(|entry| choose(&entry.fact)).map(|entry| entry.at)
}

pub(crate) fn a_train_deploys_in_order_and_rolls_back_together() {
    let (quick, watched) = (
        ScenarioOptions { strategy: QUICK, ..ScenarioOptions::default() },
        ScenarioOptions { strategy: WATCHED, ..ScenarioOptions::default() },
    );
    let (api, web) = (Scenario::set("train", "api", "dev", &watched), Scenario::set("train", "web", "dev", &quick));
    let policy = |application: &str, of_api: &ScenarioOptions| {
        format!(
            "application: {application}
services:
  api: {{repository: train/api, tags: {{glob: \"v*\"}}}}
  web: {{repository: train/web, tags: {{glob: \"v*\"}}, depends_on: [api]}}
environments:
  dev: {{trigger: manual, trains: {{rollback: together}}, targets: {{api: {}, web: {}}}}}
",
            api.target_policy(of_api),
            web.target_policy(&ScenarioOptions { strategy: super::promotion::WATCHED, ..ScenarioOptions::default() }),
        )
    };
    // What a policy names is its application's alone, until it names it no more.
    api.apply(&policy("train", &ScenarioOptions { listener: true, ..watched.clone() }));
    api.apply(&policy("train", &watched));
    let another = api.operations().apply(&policy("tram", &watched)).expect_err("the pair is taken");
    assert!(another.0.contains("train/api/dev"), "{another}");
    let before = [api.image_of(Slot::Blue), web.image_of(Slot::Blue)];
    let _digest = api.push("v1", good());
    let _digest = web.push("v1", ImageBehaviour { error_rate: 1.0, ..good() });
    wait_for_release(&api, "train/api", "v1");
    wait_for_release(&web, "train/web", "v1");
    let nobody = operator(&["train", "train", "dev", "api=v1", "web=v9", "--reason", "both"]);
    assert_eq!(nobody.status.code(), Some(4), "all of it or nothing: {nobody:?}");
    assert_eq!((api.journal(), web.journal()), (Vec::new(), Vec::new()));

    operator_ok(&["train", "train", "dev", "api=v1", "web=v1", "--reason", "the new cart"]);
    web.fact("that web waits for api", |fact| {
        matches!(fact, Fact::StageEntered { detail, .. } if detail.contains("train")).then_some(())
    });
    let record = web.verdict(1);
    assert_eq!(record.verdict, Some(Verdict::RolledBack), "{}", record.reason);
    let verified = last_entry_at(&api, |fact| matches!(fact, Fact::Verified { .. }));
    let moved =
        last_entry_at(&web, |fact| matches!(fact, Fact::StageEntered { stage, .. } if stage.name() == "preflight"));
    assert!(verified.is_some() && verified <= moved, "api first: {verified:?}, {moved:?}");

    // api was well, and goes back all the same.
    let record = api.verdict(1);
    assert_eq!(record.verdict, Some(Verdict::RolledBack), "{}", record.reason);
    assert!(record.reason.contains("web"), "{}", record.reason);
    for (scene, before) in [api, web].iter().zip(before) {
        assert_eq!(scene.weights(), rollout::snapshot::Weights { blue: 100, green: 0 }, "{}", scene.target());
        assert_eq!(scene.image_of(Slot::Blue), before);
    }
}
