//! A target behind two load balancers: both are read and written, and a side is as healthy as its worst target group.

use crate::fixture::known;
use crate::with_front::{FrontFixture, TASKS, fixture};
use engine::Cloud as _;
use rollout::snapshot::{TargetHealth, Weights};
use rollout::{Effect, Leg, ObservationPlan, Outcome, Reading, TargetResources};
use simulation::world::World;
use simulation::world::balancer::{GroupSettings, ListenerAction};
use tests::front::{Fault, FaultKind};

const ALL_BLUE: Weights = Weights { blue: 100, green: 0 };
const TENTH: Weights = Weights { blue: 90, green: 10 };

/// A second load balancer, whose target groups have no targets yet.
fn add_internal_balancer(world: &mut World) -> Leg {
    const SETUP_ACCEPTED: &str = "the world accepts its own preparation";
    world.as_third_party(|world| {
        let mut group =
            |name: &str| world.create_target_group(name, GroupSettings::default()).expect(SETUP_ACCEPTED).arn;
        let (blue, green) = (group("internal-blue"), group("internal-green"));
        let balancer = world.create_load_balancer("internal").expect(SETUP_ACCEPTED).arn;
        let both = vec![ListenerAction::forward([(blue.as_str(), 100), (green.as_str(), 0)])];
        let listener = world.create_listener(&balancer, 80, "HTTP", both).expect(SETUP_ACCEPTED).arn;
        Leg { blue, green, rules: vec![listener], test_rule: None }
    })
}

/// The fixture's target behind its own rule alone and behind the internal listener.
fn with_two_legs(fixture: &FrontFixture) -> TargetResources {
    let mut resources = fixture.fixture.resources.clone();
    // The listener: the fixture's rule has a foreign target group, so that nothing is written forward.
    resources.traffic[0].rules.remove(0);
    resources.traffic.push(add_internal_balancer(&mut fixture.front.world()));
    resources
}

#[tokio::test(flavor = "multi_thread")]
async fn every_leg_is_read_and_written() {
    let fixture = fixture().await;
    let resources = with_two_legs(&fixture);
    let observation = ObservationPlan { resources: resources.clone(), ..fixture.fixture.observation() };
    let cloud = &fixture.fixture.cloud;
    let weights = async || {
        let seen = cloud.observe(&observation).await;
        seen.rules.iter().map(|rule| known(rule).weights).collect::<Vec<_>>()
    };
    let seen = cloud.observe(&observation).await;
    assert_eq!(known(&seen.blue).targets, TargetHealth::default(), "the internal group has no targets");
    assert_eq!(weights().await, [ALL_BLUE; 2]);

    let forward = Effect::SetWeights { weights: TENTH, seen: vec![ALL_BLUE; 2] };
    assert_eq!(cloud.perform(&resources, &forward).await, Outcome::Done);
    assert_eq!(weights().await, [TENTH; 2]);
    // Somebody else edited the internal one alone: nothing is written forward on either.
    let edited =
        vec![ListenerAction::forward([(resources.traffic[1].blue.as_str(), 1), (&resources.traffic[1].green, 1)])];
    let listener = resources.traffic[1].rules[0].clone();
    let edit = |world: &mut World| world.modify_listener(&listener, Some(edited));
    fixture.front.world().as_third_party(edit).expect("anybody may do so");
    let half = Weights { blue: 50, green: 50 };
    let next = Effect::SetWeights { weights: half, seen: vec![TENTH; 2] };
    let outcome = cloud.perform(&resources, &next).await;
    assert!(matches!(&outcome, Outcome::Conflict { reason } if reason.contains(&listener)), "{outcome:?}");
    assert_eq!(weights().await, [TENTH, Weights { blue: 1, green: 1 }]);
    // During the rollback both are, whatever they have.
    let back = Effect::SetWeights { weights: ALL_BLUE, seen: vec![] };
    assert_eq!(cloud.perform(&resources, &back).await, Outcome::Done);
    assert_eq!(weights().await, [ALL_BLUE; 2]);
    assert_eq!(fixture.front.anomalies(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leg_that_cannot_be_read_is_named() {
    let fixture = fixture().await;
    let resources = with_two_legs(&fixture);
    let observation = ObservationPlan { resources, ..fixture.fixture.observation() };
    assert_eq!(known(&fixture.fixture.seen().await.blue).targets.healthy, TASKS);
    fixture.front.fault(Fault::on("elbv2", "DescribeTargetHealth", FaultKind::Deny).times(1));
    let seen = fixture.fixture.cloud.observe(&observation).await;
    let unread: Vec<&String> = [&seen.blue, &seen.green]
        .into_iter()
        .filter_map(|side| match side {
            Reading::Unknown(reason) => Some(reason),
            Reading::Known(_) => None,
        })
        .collect();
    let [reason] = unread.as_slice() else { panic!("one call of four was denied: {seen:?}") };
    let groups = ["blue", "green", "internal-blue", "internal-green"];
    assert!(groups.iter().any(|group| reason.contains(&format!("DescribeTargetHealth of {group}:"))), "{reason}");
}
