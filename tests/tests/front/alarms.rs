//! CloudWatch's alarms and Application Auto Scaling's limits.

use crate::fixture::{CLUSTER, FrontFixture, code};
use aws_sdk_applicationautoscaling::types::{ScalableDimension, ServiceNamespace, SuspendedState};
use aws_sdk_cloudwatch::types::{AlarmType, ComparisonOperator, StateValue};
use simulation::world::WorldEventKind;
use simulation::world::alarms::{AlarmState, Comparison, MetricAlarm, TreatMissing, WatchedMetric};

/// An alarm over a count and one over a rate, both of green, and one over both of them.
async fn fixture() -> FrontFixture {
    let fixture = FrontFixture::set().await;
    let names = &fixture.names;
    let alarm = |name: &str, metric| MetricAlarm {
        name: name.to_owned(),
        metric,
        load_balancer: names.balancer.clone(),
        target_group: Some(names.green.clone()),
        period_s: 60,
        evaluation_periods: 3,
        datapoints_to_alarm: 2,
        threshold: 5.0,
        comparison: Comparison::Above,
        treat_missing: TreatMissing::Ignore,
    };
    let (errors, rate) =
        (alarm("errors", WatchedMetric::Target5xxCount), alarm("rate", WatchedMetric::Target5xxPercent));
    fixture.front.world().as_third_party(|world| {
        world.put_metric_alarm(errors).expect("it is put");
        world.put_metric_alarm(rate).expect("it is put");
        world.put_composite_alarm("both", "ALARM(errors) AND ALARM(rate)").expect("it is put");
    });
    fixture
}

#[tokio::test]
async fn alarms_of_both_kinds_are_described_in_one_call() {
    let fixture = fixture().await;
    let described = fixture
        .cloudwatch()
        .describe_alarms()
        .alarm_names("errors")
        .alarm_names("rate")
        .alarm_names("both")
        .alarm_names("none")
        .alarm_types(AlarmType::MetricAlarm)
        .alarm_types(AlarmType::CompositeAlarm)
        .max_records(100)
        .send()
        .await
        .expect("described");
    let [errors, rate] = described.metric_alarms() else { panic!("two metric alarms: {described:?}") };
    assert_eq!(errors.alarm_name(), Some("errors"));
    assert_eq!(errors.threshold(), Some(5.0));
    assert_eq!(
        (errors.period(), errors.evaluation_periods(), errors.datapoints_to_alarm()),
        (Some(60), Some(3), Some(2))
    );
    assert_eq!(errors.comparison_operator(), Some(&ComparisonOperator::GreaterThanThreshold));
    assert_eq!(errors.treat_missing_data(), Some("ignore"));
    assert_eq!(errors.state_value(), Some(&StateValue::InsufficientData));
    assert!(errors.state_updated_timestamp().is_some(), "{errors:?}");
    let dimensions: Vec<_> = errors.dimensions().iter().filter_map(|dimension| dimension.name()).collect();
    assert_eq!(
        dimensions,
        ["LoadBalancer", "TargetGroup"],
        "an alarm on the balancer alone cannot tell the sides apart"
    );
    assert!(
        errors.dimensions()[1].value().is_some_and(|value| value.starts_with("targetgroup/api-green/")),
        "{errors:?}"
    );
    assert_eq!(rate.metrics().last().and_then(|query| query.expression()), Some("100 * errors / requests"), "{rate:?}");
    let [both] = described.composite_alarms() else { panic!("one composite alarm: {described:?}") };
    assert_eq!(both.alarm_rule(), Some("ALARM(errors) AND ALARM(rate)"));
}

#[tokio::test]
async fn without_types_composite_alarms_are_left_out() {
    let fixture = fixture().await;
    let described = fixture.cloudwatch().describe_alarms().send().await.expect("described");
    assert_eq!((described.metric_alarms().len(), described.composite_alarms().len()), (2, 0));
}

#[tokio::test]
async fn a_set_alarm_state_is_visible_and_emits_an_event() {
    let fixture = fixture().await;
    let cloudwatch = fixture.cloudwatch();
    let set = |name: &str| {
        cloudwatch.set_alarm_state().alarm_name(name).state_value(StateValue::Alarm).state_reason("a test").send()
    };
    let mut events = fixture.front.events();
    set("errors").await.expect("set");
    set("rate").await.expect("set");
    let fired_event = async {
        loop {
            let event = events.next().await.expect("the front runs");
            if let WorldEventKind::Alarm { name, now: AlarmState::Alarm, .. } = &event.what
                && name == "both"
            {
                break event.eventbridge().expect("it is an event of EventBridge's");
            }
        }
    };
    let fired_event =
        tokio::time::timeout(std::time::Duration::from_secs(5), fired_event).await.expect("the composite alarm fires");
    assert_eq!(
        fired_event.pointer("/detail/state/value").and_then(|value| value.as_str()),
        Some("ALARM"),
        "{fired_event}"
    );
    let firing = cloudwatch
        .describe_alarms()
        .alarm_types(AlarmType::MetricAlarm)
        .alarm_types(AlarmType::CompositeAlarm)
        .state_value(StateValue::Alarm)
        .send()
        .await
        .expect("described");
    assert_eq!((firing.metric_alarms().len(), firing.composite_alarms().len()), (2, 1));
    assert_eq!(firing.metric_alarms()[0].state_reason(), Some("a test"));
}

#[tokio::test]
async fn alarms_are_paged() {
    let fixture = fixture().await;
    let cloudwatch = fixture.cloudwatch();
    let page = |token: Option<String>| cloudwatch.describe_alarms().max_records(1).set_next_token(token).send();
    let first = page(None).await.expect("the first page");
    let second = page(first.next_token.clone()).await.expect("the second page");
    assert_eq!(second.metric_alarms()[0].alarm_name(), Some("rate"));
    assert_eq!(second.next_token(), None);
    assert_eq!(code(page(Some("elsewhere".to_owned())).await), "InvalidNextToken");
}

#[tokio::test]
async fn cloudwatch_refuses_what_aws_refuses() {
    let fixture = fixture().await;
    let cloudwatch = fixture.cloudwatch();
    let set = |name: &str, state: &str| {
        let set = cloudwatch.set_alarm_state().alarm_name(name).state_value(StateValue::from(state));
        set.state_reason("a test")
    };
    assert_eq!(code(set("none", "OK").send().await), "ResourceNotFound");
    assert_eq!(code(set("errors", "FINE").send().await), "InvalidParameterValue");
    assert_eq!(code(set("errors", "OK").state_reason_data("{").send().await), "InvalidFormat");
    let names = (0..101).map(|number| format!("alarm-{number}")).collect();
    let many = cloudwatch.describe_alarms().set_alarm_names(Some(names)).send().await;
    assert_eq!(code(many), "InvalidParameterValue");
    let both = cloudwatch.describe_alarms().alarm_names("errors").alarm_name_prefix("err").send().await;
    assert_eq!(code(both), "InvalidParameterCombination");
}

#[tokio::test]
async fn limits_of_a_service_are_registered_and_read_back() {
    let fixture = FrontFixture::set().await;
    let autoscaling = fixture.autoscaling();
    let register = |service: &str| {
        autoscaling
            .register_scalable_target()
            .service_namespace(ServiceNamespace::Ecs)
            .resource_id(format!("service/{CLUSTER}/{service}"))
            .scalable_dimension(ScalableDimension::EcsServiceDesiredCount)
    };
    let registered = register("api-blue").min_capacity(3).max_capacity(6).send().await.expect("registered");
    let suspended = SuspendedState::builder().dynamic_scaling_in_suspended(true).build();
    register("api-blue").suspended_state(suspended).send().await.expect("suspended");
    let described = autoscaling
        .describe_scalable_targets()
        .service_namespace(ServiceNamespace::Ecs)
        .resource_ids(format!("service/{CLUSTER}/api-blue"))
        .resource_ids(format!("service/{CLUSTER}/api-green"))
        .send()
        .await
        .expect("described");
    let [blue] = described.scalable_targets() else { panic!("blue alone has limits: {described:?}") };
    assert_eq!((blue.min_capacity(), blue.max_capacity()), (3, 6), "what is not given stays");
    assert_eq!(blue.suspended_state().and_then(|state| state.dynamic_scaling_in_suspended()), Some(true), "{blue:?}");
    assert_eq!(blue.scalable_target_arn(), registered.scalable_target_arn());
    let services =
        fixture.ecs().describe_services().cluster(CLUSTER).services("api-blue").send().await.expect("described");
    assert_eq!(services.services()[0].desired_count(), 3, "a count below the minimum is raised at once");

    assert_eq!(code(register("api-green").min_capacity(1).send().await), "ValidationException");
    assert_eq!(code(register("api-green").min_capacity(2).max_capacity(1).send().await), "ValidationException");
    assert_eq!(code(register("none").min_capacity(0).max_capacity(1).send().await), "ValidationException");
}
