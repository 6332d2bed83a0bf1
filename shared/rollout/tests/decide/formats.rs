//! What an older version has written down goes on where it was.

use super::scene::{Scene, ask, deploy, policy};
use rollout::policy::{Hook, HookAction, HookPoint};
use rollout::snapshot::TaskReading;
use rollout::target::FORMAT;
use rollout::{Instruction, Name, Reading, Seconds, Slot, Stage, TargetState, Verdict};
use serde_json::Value;

/// The state as format 2 had it.
fn as_format_2(state: &TargetState) -> TargetState {
    let mut stored = serde_json::to_value(state).unwrap();
    let forget = |value: &mut Value, names: &[&str]| {
        if let Some(object) = value.as_object_mut() {
            object.retain(|name, _| !names.contains(&name.as_str()));
        }
    };
    forget(&mut stored, &["verified", "promotion_hold", "frozen", "errands"]);
    stored["format"] = Value::from(2);
    forget(&mut stored["running"], &["terms", "gates", "promotes_itself", "frozen"]);
    forget(&mut stored["running"]["release"], &["pushed_at"]);
    for hook in stored["running"]["policy"]["hooks"].as_array_mut().unwrap() {
        forget(hook, &["forward_only"]);
    }
    for side in ["stable", "previous"] {
        forget(&mut stored[side], &["forward_only", "train"]);
    }
    for queued in stored["queued"].as_array_mut().unwrap() {
        forget(queued, &["terms"]);
    }
    serde_json::from_value(stored).unwrap()
}

fn scene() -> Scene {
    let mut rules = policy();
    let hook = |name: &str, at| Hook {
        name: Name::new(name).unwrap(),
        at,
        run: HookAction::Task { container: "api".to_owned(), command: vec![name.to_owned()] },
        deadline: Seconds(120),
        forward_only: false,
    };
    rules.hooks = vec![
        hook("before", HookPoint::BeforeTraffic),
        hook("test", HookPoint::TestTraffic),
        hook("after", HookPoint::AfterTraffic),
    ];
    Scene::with(rules)
}

/// Hooks that have begun say yes.
fn answer_hooks(scene: &mut Scene) {
    let begun = scene.state.running.iter().flat_map(|running| running.hooks.keys().cloned()).collect::<Vec<_>>();
    for name in begun {
        let done = TaskReading::Stopped { exit_code: Some(0), reason: String::new() };
        scene.snapshot.hook_tasks.insert(name, Reading::Known(done));
    }
}

#[test]
fn a_deployment_of_the_version_before_goes_on_from_every_stage() {
    let stages = [
        "preflight",
        "registering",
        "before_traffic",
        "scaling",
        "testing",
        "shifting",
        "after_traffic",
        "baking",
        "keeping_warm",
        "retiring",
    ];
    for stage in stages {
        let mut scene = scene();
        let mut seen = false;
        scene.decide(&[deploy("v2")]);
        for _ in 0..400 {
            // Once, wherever it is seen in this stage; a stage that takes no time is in the journal only.
            if !seen && scene.stage() == stage {
                seen = true;
                scene.state = as_format_2(&scene.state);
                assert_eq!(scene.state.format, 2);
            }
            answer_hooks(&mut scene);
            match scene.decide(&[]) {
                rollout::Next::Again => {}
                rollout::Next::At(at) => scene.now = at,
                rollout::Next::Rest => break,
            }
        }
        assert!(seen, "{stage} is never seen");
        assert_eq!(scene.verdict(), Some(Verdict::Succeeded), "{stage}: {}", scene.ending());
        assert_eq!((scene.state.format, scene.weights().of(Slot::Green)), (FORMAT, 100), "{stage}");
    }
}

#[test]
fn a_way_back_of_the_version_before_goes_on_and_so_does_what_waits() {
    let mut scene = scene();
    scene.decide(&[deploy("v2")]);
    scene.until(|scene| scene.stage() == "before_traffic");
    for _ in 0..200 {
        answer_hooks(&mut scene);
        scene.turn();
        if scene.weights().of(Slot::Green) == 50 {
            break;
        }
    }
    scene.decide(&[deploy("v3"), ask(Instruction::Abort { deployment: None }, "a")]);
    assert!(matches!(scene.state.running.as_ref().map(|running| &running.stage), Some(Stage::RollingBack { .. })));
    scene.state = as_format_2(&scene.state);
    scene.snapshot.hook_tasks.clear();
    while scene.turn() != rollout::Next::Rest {
        answer_hooks(&mut scene);
    }
    assert_eq!(scene.verdict(), Some(Verdict::Succeeded));
    let stable = scene.state.stable.as_ref().and_then(|stable| stable.release.as_ref());
    assert_eq!(stable.map(|release| release.tag.as_str()), Some("v3"));
}

#[test]
fn what_the_version_before_made_stable_may_be_promoted() {
    let mut scene = Scene::new();
    scene.run("v2");
    let stored = TargetState { format: 2, verified: vec![], ..scene.state.clone() };
    let seen = rollout::promotion::Neighbour::from(&stored);
    let tags: Vec<&str> = seen.verified.iter().map(|known| known.release.tag.as_str()).collect();
    assert_eq!(tags, ["v2"]);
    // And the target itself remembers it from its next decision on.
    scene.state = stored;
    scene.decide(&[]);
    assert_eq!(scene.state.verified, seen.verified);
}
