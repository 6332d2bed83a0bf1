//! Templates: what reading one costs, and what is said where it cannot be read.

use super::LATENCY;
use crate::fixture::known;
use crate::with_front::{FrontFixture, fixture};
use rollout::Reading;
use tests::front::{Fault, FaultKind};

const FAMILY: &str = "shop-template";

/// Why the newest template is not known.
async fn unknown(fixture: &FrontFixture) -> String {
    match fixture.fixture.template(FAMILY).await {
        Reading::Unknown(reason) => reason,
        Reading::Known(template) => panic!("{template:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_takes_two_round_trips() {
    let fixture = fixture().await;
    let template = fixture.fixture.register_template(FAMILY, |_| {});
    // The clients exist and their connections are open from here on.
    fixture.fixture.template(FAMILY).await;
    fixture.front.set_latency(LATENCY);
    let from = fixture.front.elapsed();
    assert_eq!(known(&fixture.fixture.template(FAMILY).await).version, template);
    assert_eq!(fixture.sequential_calls_since(from).len(), 2, "{}", fixture.front.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deregistered_template_gives_way_to_the_one_before() {
    let fixture = fixture().await;
    let first = fixture.fixture.register_template(FAMILY, |_| {});
    let second = fixture.fixture.register_template(FAMILY, |document| document["cpu"] = "512".into());
    assert_eq!(known(&fixture.fixture.template(FAMILY).await).version, second);
    fixture.front.world().deregister_task_definition(&second).expect("it is there");
    assert_eq!(known(&fixture.fixture.template(FAMILY).await).version, first);
    fixture.front.world().deregister_task_definition(&first).expect("it is there");
    let reason = unknown(&fixture).await;
    assert!(reason.contains("the family shop-template has no active task definition"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_cannot_be_read_is_unknown_with_awss_message() {
    let fixture = fixture().await;
    fixture.fixture.register_template(FAMILY, |_| {});
    for (operation, kind, message) in [
        ("ListTaskDefinitions", FaultKind::Throttle, "ListTaskDefinitions: ThrottlingException"),
        ("ListTaskDefinitions", FaultKind::Deny, "not authorized"),
        ("DescribeTaskDefinition", FaultKind::Throttle, "DescribeTaskDefinition: ThrottlingException"),
        ("DescribeTaskDefinition", FaultKind::Deny, "not authorized"),
    ] {
        fixture.front.fault(Fault::on("ecs", operation, kind).always());
        let reason = unknown(&fixture).await;
        assert!(reason.contains(operation) && reason.contains(message), "{operation}: {reason}");
        fixture.front.clear_faults();
    }
}
