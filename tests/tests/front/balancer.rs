//! Rules, listeners, target groups and their health.

use crate::fixture::{CLUSTER, FrontFixture, code};
use aws_sdk_elasticloadbalancingv2::types::{
    Action, ActionTypeEnum, ForwardActionConfig, TargetDescription, TargetGroupTuple, TargetHealthStateEnum,
};

fn forward<'a>(groups: impl IntoIterator<Item = (&'a String, i32)>) -> Action {
    let groups = groups
        .into_iter()
        .map(|(arn, weight)| TargetGroupTuple::builder().target_group_arn(arn).weight(weight).build())
        .collect();
    let config = ForwardActionConfig::builder().set_target_groups(Some(groups)).build();
    Action::builder().r#type(ActionTypeEnum::Forward).forward_config(config).build()
}

fn weights(action: &Action) -> Vec<(String, i32)> {
    let groups = action.forward_config().map(|config| config.target_groups()).unwrap_or_default();
    groups
        .iter()
        .map(|group| (group.target_group_arn().unwrap_or_default().to_owned(), group.weight().unwrap_or(-1)))
        .collect()
}

#[tokio::test]
async fn changing_weights_keeps_the_rest_of_the_rule() {
    let fixture = FrontFixture::set().await;
    let (elb, names) = (fixture.elb(), &fixture.names);
    let before = elb.describe_rules().rule_arns(&names.rule).send().await.expect("described").rules()[0].clone();
    assert_eq!(weights(&before.actions()[1]), [(names.blue.clone(), 100), (names.green.clone(), 0)]);
    assert_eq!(before.priority(), Some("10"));
    let path = before.conditions()[0].path_pattern_config().map(|config| config.values().to_vec());
    assert_eq!(path, Some(vec!["/api/*".to_owned()]), "{before:?}");

    // As the product does it: the actions as they were read, the weights alone changed.
    let mut actions = before.actions().to_vec();
    if let Some(oidc) = &mut actions[0].authenticate_oidc_config {
        assert_eq!(oidc.client_secret(), None, "secrets are never shown");
        oidc.use_existing_client_secret = Some(true);
    }
    if let Some(groups) = actions[1].forward_config.as_mut().and_then(|config| config.target_groups.as_mut()) {
        groups[0].weight = Some(90);
        groups[1].weight = Some(10);
    }
    let modified = elb.modify_rule().rule_arn(&names.rule).set_actions(Some(actions)).send().await.expect("modified");
    let after = elb.describe_rules().rule_arns(&names.rule).send().await.expect("described").rules()[0].clone();
    assert_eq!(modified.rules()[0], after, "what is answered is what is live");
    assert_eq!(weights(&after.actions()[1]), [(names.blue.clone(), 90), (names.green.clone(), 10)]);
    assert_eq!(after.actions()[0], before.actions()[0], "the login action is as it was");
    assert_eq!(after.conditions(), before.conditions());
    let sticky =
        |action: &Action| action.forward_config().and_then(|config| config.target_group_stickiness_config().cloned());
    assert_eq!(sticky(&after.actions()[1]), sticky(&before.actions()[1]));
    assert_eq!(sticky(&after.actions()[1]).and_then(|sticky| sticky.duration_seconds), Some(300));
}

#[tokio::test]
async fn actions_are_replaced_whole() {
    let fixture = FrontFixture::set().await;
    let (elb, names) = (fixture.elb(), &fixture.names);
    let only = forward([(&names.blue, 1)]);
    elb.modify_rule().rule_arn(&names.rule).actions(only).send().await.expect("modified");
    let rules = elb.describe_rules().rule_arns(&names.rule).send().await.expect("described");
    let [action] = rules.rules()[0].actions() else { panic!("one action is left: {rules:?}") };
    assert_eq!(action.target_group_arn(), Some(names.blue.as_str()), "a sole group is named in short, too: {action:?}");
    assert_eq!(
        action.forward_config().and_then(|c| c.target_group_stickiness_config()).and_then(|c| c.enabled()),
        Some(false)
    );
}

#[tokio::test]
async fn elbv2_refuses_what_aws_refuses() {
    let fixture = FrontFixture::set().await;
    let (elb, names) = (fixture.elb(), &fixture.names);
    let modify = |rule: &str, action: Action| elb.modify_rule().rule_arn(rule).actions(action).send();
    let pair = |blue, green| forward([(&names.blue, blue), (&names.green, green)]);
    assert_eq!(code(modify("arn:none", pair(1, 1)).await), "RuleNotFound");
    assert_eq!(code(modify(&names.rule, pair(1000, 0)).await), "ValidationError");
    assert_eq!(code(modify(&names.rule, pair(-1, 0)).await), "ValidationError");
    let missing = "arn:aws:elasticloadbalancing:eu-central-1:111122223333:targetgroup/none/1".to_owned();
    assert_eq!(code(modify(&names.rule, forward([(&missing, 1)])).await), "TargetGroupNotFound");
    assert_eq!(code(modify(&names.rule, forward([(&names.foreign, 1)])).await), "TargetGroupAssociationLimit");
    let six = forward([&names.blue; 6].map(|arn| (arn, 1)));
    assert_eq!(code(modify(&names.rule, six).await), "TooManyTargetGroups");
    let login =
        elb.describe_rules().rule_arns(&names.rule).send().await.expect("described").rules()[0].actions().to_vec();
    let unsaid = elb.modify_rule().rule_arn(&names.rule).set_actions(Some(login)).send().await;
    assert_eq!(code(unsaid), "InvalidLoadBalancerAction", "the client secret is neither given nor said to stay");
    assert_eq!(code(elb.describe_rules().send().await), "ValidationError");
    assert_eq!(code(elb.describe_target_health().target_group_arn("arn:none").send().await), "TargetGroupNotFound");
    let rules = elb.describe_rules().listener_arn(&names.listener).send().await.expect("described");
    let default = rules.rules().iter().find(|rule| rule.is_default() == Some(true)).expect("there is a default rule");
    assert_eq!(default.priority(), Some("default"));
    let default = default.rule_arn().unwrap_or_default();
    assert_eq!(code(modify(default, pair(1, 1)).await), "OperationNotPermitted");
    let unchanged = elb.describe_rules().rule_arns(&names.rule).send().await.expect("described");
    assert_eq!(weights(&unchanged.rules()[0].actions()[1]), [(names.blue.clone(), 100), (names.green.clone(), 0)]);
}

#[tokio::test]
async fn a_listeners_default_action_is_described_and_replaced() {
    let fixture = FrontFixture::set().await;
    let (elb, names) = (fixture.elb(), &fixture.names);
    let described = elb.describe_listeners().listener_arns(&names.listener).send().await.expect("described");
    let fixed = described.listeners()[0].default_actions()[0].fixed_response_config();
    assert_eq!(fixed.and_then(|config| config.status_code()), Some("404"), "{described:?}");
    assert_eq!(described.listeners()[0].port(), Some(443));
    let action = forward([(&names.blue, 7), (&names.green, 3)]);
    elb.modify_listener().listener_arn(&names.listener).default_actions(action).send().await.expect("modified");
    let of_balancer = elb.describe_listeners().load_balancer_arn(&names.balancer).send().await.expect("described");
    let action = &of_balancer.listeners()[0].default_actions()[0];
    assert_eq!(weights(action), [(names.blue.clone(), 7), (names.green.clone(), 3)]);
    let missing = elb.describe_listeners().listener_arns("arn:none").send().await;
    assert_eq!(code(missing), "ListenerNotFound");
    let port = elb.modify_listener().listener_arn(&names.listener).port(8443).send().await;
    assert_eq!(code(port), "NotModelled");
}

#[tokio::test]
async fn rules_are_paged() {
    let fixture = FrontFixture::set().await;
    let (elb, names) = (fixture.elb(), &fixture.names);
    let page = |marker: Option<String>| {
        elb.describe_rules().listener_arn(&names.listener).page_size(1).set_marker(marker).send()
    };
    let first = page(None).await.expect("the first page");
    let second = page(first.next_marker.clone()).await.expect("the second page");
    assert_eq!(first.rules()[0].rule_arn(), Some(names.rule.as_str()));
    assert_eq!(second.rules()[0].is_default(), Some(true), "{second:?}");
    assert_eq!(second.next_marker(), None);
}

#[tokio::test]
async fn target_health_is_described() {
    let fixture = FrontFixture::set().await;
    let (elb, names) = (fixture.elb(), &fixture.names);
    let health = elb.describe_target_health().target_group_arn(&names.blue).send().await.expect("described");
    let states: Vec<_> = health
        .target_health_descriptions()
        .iter()
        .filter_map(|description| description.target_health()?.state().cloned())
        .collect();
    assert_eq!(states, [TargetHealthStateEnum::Healthy, TargetHealthStateEnum::Healthy], "{health:?}");
    let first = health.target_health_descriptions()[0].target().cloned().expect("it has a target");
    let unregistered = TargetDescription::builder().id("192.0.2.1").port(8080).build();
    let requested = elb.describe_target_health().target_group_arn(&names.blue).targets(first).targets(unregistered);
    let requested = requested.send().await.expect("described");
    let reasons: Vec<_> = requested
        .target_health_descriptions()
        .iter()
        .map(|description| description.target_health().and_then(|health| health.reason()).map(|reason| reason.as_str()))
        .collect();
    assert_eq!(reasons, [None, Some("Target.NotRegistered")]);

    let ecs = fixture.ecs();
    ecs.update_service().cluster(CLUSTER).service("api-blue").desired_count(1).send().await.expect("updated");
    fixture.front.skip(std::time::Duration::from_secs(2));
    let health = elb.describe_target_health().target_group_arn(&names.blue).send().await.expect("described");
    let draining = health
        .target_health_descriptions()
        .iter()
        .filter_map(|description| description.target_health()?.state())
        .filter(|state| **state == TargetHealthStateEnum::Draining)
        .count();
    assert_eq!(draining, 1, "{health:?}");
}

#[tokio::test]
async fn target_groups_attributes_and_tags_are_described() {
    let fixture = FrontFixture::set().await;
    let (elb, names) = (fixture.elb(), &fixture.names);
    let groups = elb.describe_target_groups().load_balancer_arn(&names.balancer).send().await.expect("described");
    let mut found: Vec<_> = groups.target_groups().iter().filter_map(|group| group.target_group_name()).collect();
    found.sort_unstable();
    assert_eq!(found, ["api-blue", "api-green"]);
    let by_name = elb.describe_target_groups().names("api-green").send().await.expect("described");
    assert_eq!(by_name.target_groups()[0].target_group_arn(), Some(names.green.as_str()));
    assert_eq!(by_name.target_groups()[0].load_balancer_arns(), std::slice::from_ref(&names.balancer));
    assert_eq!(code(elb.describe_target_groups().names("none").send().await), "TargetGroupNotFound");

    let attributes =
        elb.describe_target_group_attributes().target_group_arn(&names.blue).send().await.expect("described");
    let delay = attributes.attributes().iter().find(|one| one.key() == Some("deregistration_delay.timeout_seconds"));
    assert_eq!(delay.and_then(|one| one.value()), Some("10"), "{attributes:?}");

    let tags =
        elb.describe_tags().resource_arns(&names.rule).resource_arns(&names.blue).send().await.expect("described");
    assert_eq!(tags.tag_descriptions().len(), 2);
    let many = elb.describe_tags().set_resource_arns(Some(vec![names.blue.clone(); 21])).send().await;
    assert_eq!(code(many), "ValidationError");
    assert_eq!(code(elb.describe_tags().resource_arns("arn:none").send().await), "ValidationError");
}
