//! All that is remembered of a target is one item of the ledger, whatever policies and people write into it.

use super::fixture::{TargetFixture, deploy};
use rollout::command::Vote;
use rollout::deployment::{GateOverride, GateProgress};
use rollout::entry::Gate;
use rollout::explanation::WaitingOn;
use rollout::phase::{Moving, Phase};
use rollout::policy::{AlarmPolicy, Hook, HookAction, HookPoint, Step};
use rollout::release::ReleaseRef;
use rollout::snapshot::Weights;
use rollout::target::{MAX_QUEUED, MAX_QUEUED_BYTES, MAX_VERIFIED, OutboxMessage, Queued, Verified};
use rollout::template::{TemplateChange, TemplateReading};
use rollout::weighted::{HookProgress, HookResult, Registering, StableAtStart, Weighted, WeightedStage};
use rollout::{
    Actor, CommandId, Concurrency, DeployOptions, Effect, ImageDigest, Instruction, Lane, Leg, Name, Overrides,
    Percent, PlanId, Platform, ReleaseId, Seconds, Slot, Train,
};
use std::collections::BTreeMap;

/// DynamoDB's limit of an item, less what the ledger keeps beside the state.
const MAX_STATE_BYTES: usize = 400 * 1024 - 4096;

/// The longest of each, as the doors and the policy file let them be: a caller of 512 bytes, a reason of 500 characters
/// of 4 bytes, 20 alarms with names of 255 characters, trains of 25 services, and so on.
fn name(of: u8) -> Name {
    Name::new(format!("n{of:062}")).expect("a name")
}

fn text(length: usize) -> String {
    "x".repeat(length)
}

fn digest() -> ImageDigest {
    ImageDigest::new(format!("sha256:{:064x}", 7)).expect("a digest")
}

fn actor() -> Actor {
    Actor::Workflow { name: text(512), actor_id: Some(text(20)) }
}

fn reason() -> String {
    "\u{1f680}".repeat(500)
}

fn release() -> ReleaseRef {
    let id = ReleaseId { application: name(1), service: name(2), digest: digest() };
    ReleaseRef { id, image: text(60 + 256 + 72), tag: text(128), pushed_at: Some(super::fixture::start()) }
}

fn train() -> Box<Train> {
    let members: BTreeMap<Name, ImageDigest> = (0..25).map(|of| (name(of), digest())).collect();
    let tags = members.keys().map(|service| (service.clone(), text(Train::MAX_TAG_CHARS))).collect();
    Box::new(Train { id: text(64), members, tags, lead: Some(name(0)), rollback_together: true })
}

fn options() -> DeployOptions {
    let change =
        |number| TemplateChange { field: format!("{number:0120}"), before: Some(text(120)), after: Some(text(120)) };
    let template = TemplateReading::new(text(300), (0..40).map(change).collect());
    DeployOptions {
        configuration: true,
        first: Some(u32::MAX),
        template: Some(Box::new(template)),
        lane: Lane::Automatic { from: name(1) },
        forward_only: true,
        train: Some(train()),
        pushed_at: Some(super::fixture::start()),
    }
}

fn overrides() -> Overrides {
    Overrides { firing_alarms: (0..20).map(|number| format!("{number:0255}")).collect() }
}

/// What waits after more than enough was asked for.
fn full_queue() -> Vec<Queued> {
    let mut fixture = TargetFixture::new();
    fixture.applied.concurrency = Concurrency::QueueAll;
    fixture.decide(&[deploy("v2")]);
    for number in 0..2 * MAX_QUEUED {
        let mut command = deploy(&format!("v{}", 3 + number));
        command.id = CommandId(format!("{number:0200}"));
        (command.actor, command.reason) = (actor(), reason());
        if let Instruction::Deploy { image, tag, overrides: despite, options: by, .. } = &mut command.instruction {
            (*image, *tag, *despite, *by) = (text(388), format!("{number:0128}"), overrides(), options());
            // A template is read for the running deployment only.
            (by.lane, by.template, by.configuration) = (Lane::Asked, None, false);
        }
        let waiting = fixture.state.queued.len();
        fixture.decide(&[command]);
        assert!(fixture.state.queued.len() > waiting || waiting > 5, "the new one always waits");
    }
    let size = serde_json::to_vec(&fixture.state.queued).expect("plain data").len();
    assert!(size < MAX_QUEUED_BYTES + 1024, "{size} bytes wait");
    fixture.state.queued
}

#[test]
fn the_largest_state_fits_one_dynamodb_item() {
    let mut fixture = TargetFixture::new();
    let policy = &mut fixture.applied.policy;
    let Platform::EcsPair(pair) = &mut policy.resources.platform else { panic!("the fixture has two sides") };
    pair.cluster = text(255);
    let (blue, green, rules) = (text(300), text(300), vec![text(300); 5]);
    policy.resources.traffic = vec![Leg { blue, green, rules, test_rule: Some(text(300)) }; 5];
    policy.strategy.steps = vec![Step { traffic: Percent::ALL, hold: Seconds(2_592_000) }; 50];
    policy.alarms = (0..20).map(|number| AlarmPolicy::new(format!("{number:0255}"))).collect();
    let hook = |of| Hook {
        name: name(of),
        at: HookPoint::BeforeTraffic,
        run: HookAction::Task { container: text(255), command: vec![text(80); 50] },
        deadline: Seconds(600),
        forward_only: true,
    };
    policy.hooks = (0..10).map(hook).collect();
    fixture.decide(&[deploy("v2")]);

    let mut state = fixture.state;
    let now = super::fixture::start();
    let side = rollout::target::StableSide {
        slot: Some(Slot::Blue),
        template: Some(text(300)),
        version: text(300),
        release: Some(release()),
        since: now,
        forward_only: true,
        train: Some(train()),
    };
    (state.stable, state.previous) = (Some(side.clone()), Some(side));
    let verified = Verified { release: release(), deployment: u64::MAX, at: now, forward_only: true };
    state.verified = vec![verified; MAX_VERIFIED];
    state.queued = full_queue();
    state.outbox = vec![OutboxMessage::TrainStopped { train: train(), reason: reason() }; 5];
    let running = state.running.as_mut().expect("it runs");
    running.release = release();
    (running.actor, running.reason, running.overrides, running.options) = (actor(), reason(), overrides(), options());
    let vote = Vote { person: name(3), actor: actor(), at: now };
    let gate_override = GateOverride { actor: actor(), reason: reason(), at: now };
    let gates = [Gate::After, Gate::Soak, Gate::Approval, Gate::Window, Gate::Freeze, Gate::StopTheLine];
    running.gates = Some(GateProgress {
        plan: PlanId(text(16)),
        requested_at: Some(now),
        approved_with: Some(name(0)),
        votes: vec![vote; 50],
        skipped: gates.into(),
        overridden: gates.map(|gate| (gate, gate_override.clone())).into(),
        journalled: gates.map(|gate| (gate, text(3000))).into(),
        waits_for_lock: true,
    });
    let progress = HookProgress {
        deadline: now,
        next_poll_at: now,
        task: Some(text(300)),
        result: Some(HookResult::Failed(text(1024))),
        stopping: true,
    };
    let sides = StableAtStart { stable: Slot::Blue, stable_version: text(300), stable_count: u32::MAX };
    let registering = Registering { deadline: now, template: text(300), registered: Some(text(300)) };
    running.phase = Phase::Moving(Moving::Weighted(Box::new(Weighted {
        hooks: (0..10).map(|of| (name(of).to_string(), progress.clone())).collect(),
        test_rules_before: vec![Weights { blue: 999, green: 999 }; 5],
        ..Weighted::new(sides, WeightedStage::Registering(registering), now)
    })));
    running.pending = vec![Effect::SetWeights { weights: Weights { blue: 1, green: 0 }, seen: vec![] }; 10];
    let approval = WaitingOn::Approval {
        plan: PlanId(text(16)),
        approved: (0..50).map(name).collect(),
        required: 20,
        eligible: (0..50).map(name).collect(),
        expires_at: now,
    };
    state.explanation.waiting_on = vec![approval];
    let size = serde_json::to_vec(&state).expect("plain data").len();
    assert!(size < MAX_STATE_BYTES, "{size} bytes");
}
