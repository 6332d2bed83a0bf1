//! Traffic weights: reading them from a rule's actions, and writing them with nothing else changed.
//!
//! `ModifyRule` and `ModifyListener` replace all actions, so the actions written are those read, with two weights
//! changed. A policy may name rules and listeners; a listener stands for its default action.

use super::AwsCloud;
use crate::error::AwsFailure;
use aws_sdk_elasticloadbalancingv2::types::{Action, ActionTypeEnum, ForwardActionConfig, TargetGroupTuple};
use futures::future::join_all;
use rollout::answers::elb::{self, DEFAULT_WEIGHT};
use rollout::snapshot::{RuleReading, Weights};
use rollout::{Leg, Outcome, Slot, TargetResources};
use std::collections::HashMap;

/// The kind of resource that an ARN of the policy names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ArnKind {
    Rule,
    Listener,
}

fn arn_kind(arn: &str) -> Result<ArnKind, AwsFailure> {
    if arn.contains(":listener-rule/") {
        Ok(ArnKind::Rule)
    } else if arn.contains(":listener/") {
        Ok(ArnKind::Listener)
    } else {
        Err(AwsFailure::Refused { reason: format!("{arn} is the ARN of neither a listener rule nor a listener") })
    }
}

/// The target groups of an action and their weights; empty where the action does not forward.
pub(super) fn groups(action: &Action) -> Vec<(&str, i32)> {
    let listed = action.forward_config().map(ForwardActionConfig::target_groups).unwrap_or_default();
    if listed.is_empty() {
        return action.target_group_arn().map(|group| vec![(group, DEFAULT_WEIGHT)]).unwrap_or_default();
    }
    let pair = |tuple: &TargetGroupTuple| tuple.weight().unwrap_or(DEFAULT_WEIGHT);
    listed.iter().filter_map(|tuple| Some((tuple.target_group_arn()?, pair(tuple)))).collect()
}

pub(super) fn is_forward(action: &Action) -> bool {
    action.r#type() == Some(&ActionTypeEnum::Forward)
}

/// The leg's weights in a rule with these actions. A rule that does not forward has neither group.
pub(super) fn reading(actions: &[Action], leg: &Leg) -> RuleReading {
    let forward = actions.iter().find(|action| is_forward(action));
    let groups = forward.map(groups).unwrap_or_default();
    let config = forward.and_then(|action| action.forward_config());
    let sticky = config.and_then(|config| config.target_group_stickiness_config());
    let sticky = sticky.filter(|it| it.enabled() == Some(true)).and_then(|it| it.duration_seconds());
    let groups = groups.iter().map(|(group, weight)| (*group, Some(i64::from(*weight))));
    elb::rule_reading(groups, sticky.map(i64::from), leg)
}

/// A rule or listener to write, with the leg that it belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) struct RuleWrite<'a> {
    pub(super) arn: &'a str,
    pub(super) leg: &'a Leg,
    pub(super) weights: Weights,
}

/// All rules of the target, to be given these weights.
pub(super) fn rules<'a>(resources: &'a TargetResources, weights: Weights) -> Vec<RuleWrite<'a>> {
    let of_leg = |leg: &'a Leg| leg.rules.iter().map(move |arn| RuleWrite { arn, leg, weights });
    resources.traffic.iter().flat_map(of_leg).collect()
}

/// The test rules of the target, to be given these weights, leg by leg.
pub(super) fn test_rules<'a>(resources: &'a TargetResources, weights: &[Weights]) -> Vec<RuleWrite<'a>> {
    let rules = resources.traffic.iter().filter_map(|leg| Some((leg.test_rule.as_deref()?, leg)));
    rules.zip(weights).map(|((arn, leg), weights)| RuleWrite { arn, leg, weights: *weights }).collect()
}

/// Which live weights a write may replace.
#[derive(Debug, Clone, Copy)]
pub(super) enum WriteMode<'a> {
    /// Forward: only these weights, one entry per rule. Each rule is read again right before the write.
    IfUnchanged(&'a [Weights]),
    /// Rollback: any weights, without reading the rule again.
    Unconditional,
    /// A rule that only testers reach: any weights, as long as both sides are in the rule.
    TestRule,
}

/// The same actions with these weights, ready to be written.
///
/// Order, stickiness, other target groups and all other actions are kept. A sign-in action is returned without its
/// client secret, so the write tells AWS to keep the existing one. A target group named beside the list of groups would
/// contradict the list, and is removed.
///
/// In a rollback (`add_missing`) a side that the rule lacks is added: the side was removed outside Switchback, and
/// users are on the other.
///
/// # Errors
/// A reason, where the rule does not forward, or, when going forward, lacks one of the groups: Switchback does not add
/// groups then.
fn with_weights(
    mut actions: Vec<Action>,
    leg: &Leg,
    weights: Weights,
    add_missing: bool,
) -> Result<Vec<Action>, String> {
    let Some(forward) = actions.iter_mut().find(|action| is_forward(action)) else {
        return Err("it has no forward action".to_owned());
    };
    let mut tuples: Vec<_> = groups(forward)
        .into_iter()
        .map(|(group, weight)| TargetGroupTuple::builder().target_group_arn(group).weight(weight).build())
        .collect();
    let mut missing_groups = Vec::new();
    for slot in Slot::BOTH {
        let group = leg.target_group(slot);
        let weight = i32::from(weights.of(slot));
        match tuples.iter_mut().find(|tuple| tuple.target_group_arn() == Some(group)) {
            Some(tuple) => tuple.weight = Some(weight),
            None if add_missing => {
                tuples.push(TargetGroupTuple::builder().target_group_arn(group).weight(weight).build())
            }
            None => missing_groups.push(format!("{slot}'s target group {group}")),
        }
    }
    if !missing_groups.is_empty() {
        return Err(format!("its forward action lacks {}", missing_groups.join(" and ")));
    }
    let stickiness = forward.forward_config().and_then(|config| config.target_group_stickiness_config().cloned());
    let config = ForwardActionConfig::builder().set_target_groups(Some(tuples));
    forward.forward_config = Some(config.set_target_group_stickiness_config(stickiness).build());
    forward.target_group_arn = None;
    for oidc in actions.iter_mut().filter_map(|action| action.authenticate_oidc_config.as_mut()) {
        oidc.client_secret = None;
        oidc.use_existing_client_secret = Some(true);
    }
    Ok(actions)
}

/// Live actions by ARN, or the failure to read them.
pub(super) type ActionsByArn = HashMap<String, Result<Vec<Action>, AwsFailure>>;

impl AwsCloud {
    /// Reads the live actions of these rules and listeners: one call for all rules and one for all listeners, in
    /// parallel.
    pub(super) async fn read_actions(&self, arns: &[&str]) -> ActionsByArn {
        let (mut rules, mut listeners, mut read) = (vec![], vec![], ActionsByArn::new());
        for arn in arns {
            let to_read = match arn_kind(arn) {
                Ok(ArnKind::Rule) => &mut rules,
                Ok(ArnKind::Listener) => &mut listeners,
                Err(failure) => {
                    read.insert((*arn).to_owned(), Err(failure));
                    continue;
                }
            };
            if !to_read.contains(arn) {
                to_read.push(*arn);
            }
        }
        let (rules, listeners) =
            futures::join!(self.read_batch(ArnKind::Rule, &rules), self.read_batch(ArnKind::Listener, &listeners));
        read.extend(rules);
        read.extend(listeners);
        read
    }

    /// One missing ARN fails a whole batch: then each is read individually, and only the missing one stays unknown.
    async fn read_batch(&self, arn_kind: ArnKind, arns: &[&str]) -> ActionsByArn {
        if arns.is_empty() {
            return ActionsByArn::new();
        }
        match self.describe(arn_kind, arns).await {
            Ok(found) => actions_by_arn(arns, found),
            Err(AwsFailure::Refused { .. }) if arns.len() > 1 => {
                let single = arns.iter().map(async |arn| match self.describe(arn_kind, &[*arn]).await {
                    Ok(found) => actions_by_arn(&[*arn], found),
                    Err(failure) => ActionsByArn::from([((*arn).to_owned(), Err(failure))]),
                });
                join_all(single).await.into_iter().flatten().collect()
            }
            Err(failure) => arns.iter().map(|arn| ((*arn).to_owned(), Err(failure.clone()))).collect(),
        }
    }

    async fn describe(&self, arn_kind: ArnKind, arns: &[&str]) -> Result<HashMap<String, Vec<Action>>, AwsFailure> {
        let elb = self.clients.elb().await;
        let arns = Some(arns.iter().map(|arn| (*arn).to_owned()).collect());
        match arn_kind {
            ArnKind::Rule => {
                let answer = elb.describe_rules().set_rule_arns(arns).send().await;
                let answer = answer.map_err(|error| AwsFailure::of("DescribeRules", &error))?;
                let rules = answer.rules.unwrap_or_default().into_iter();
                Ok(rules.filter_map(|rule| Some((rule.rule_arn?, rule.actions.unwrap_or_default()))).collect())
            }
            ArnKind::Listener => {
                let answer = elb.describe_listeners().set_listener_arns(arns).send().await;
                let answer = answer.map_err(|error| AwsFailure::of("DescribeListeners", &error))?;
                let listeners = answer.listeners.unwrap_or_default().into_iter();
                let actions = listeners.filter_map(|listener| {
                    Some((listener.listener_arn?, listener.default_actions.unwrap_or_default()))
                });
                Ok(actions.collect())
            }
        }
    }

    /// Writes the weights of these rules in parallel; a rule that already has them is not written.
    ///
    /// When going forward, all rules are read again right before, and none is written if any differs from what the
    /// decision was based on. Otherwise the actions read by this pass's observation are written back without reading
    /// again.
    pub(super) async fn set_weights(&self, rules: Vec<RuleWrite<'_>>, mode: WriteMode<'_>) -> Outcome {
        let mut live: ActionsByArn = HashMap::new();
        for RuleWrite { arn, .. } in &rules {
            if let Some(actions) = self.read_cache.rules.take(arn)
                && !matches!(mode, WriteMode::IfUnchanged(_))
            {
                live.insert((*arn).to_owned(), Ok(actions));
            }
        }
        let unread: Vec<_> = rules.iter().map(|rule| rule.arn).filter(|arn| !live.contains_key(*arn)).collect();
        live.extend(self.read_actions(&unread).await);
        if let WriteMode::IfUnchanged(seen) = mode
            && let Some(reason) = describe_changes(&rules, &live, seen)
        {
            return Outcome::Conflict { reason };
        }

        let add_missing = matches!(mode, WriteMode::Unconditional);
        let writes = rules.into_iter().filter_map(|rule| Some((live.remove(rule.arn)?, rule)));
        let writes = writes.map(async |(actions, rule)| {
            let written = match actions {
                Ok(actions) => self.write(rule, actions, add_missing).await,
                Err(failure) => Err(failure),
            };
            written.map_err(|failure| (rule.arn.to_owned(), failure))
        });
        let mut failures: Vec<_> = join_all(writes).await.into_iter().filter_map(Result::err).collect();
        failures.sort_by(|(one, _), (other, _)| one.cmp(other));
        combined_outcome(&failures)
    }

    async fn write(&self, rule: RuleWrite<'_>, live: Vec<Action>, add_missing: bool) -> Result<(), AwsFailure> {
        let RuleWrite { arn, leg, weights } = rule;
        let before = reading(&live, leg);
        if before.has_both_groups && before.weights == weights {
            return Ok(());
        }
        let actions =
            Some(with_weights(live, leg, weights, add_missing).map_err(|reason| AwsFailure::Refused { reason })?);
        let elb = self.clients.elb().await;
        match arn_kind(arn)? {
            ArnKind::Rule => {
                let answer = elb.modify_rule().rule_arn(arn).set_actions(actions).send().await;
                answer.map(drop).map_err(|error| AwsFailure::of("ModifyRule", &error))
            }
            ArnKind::Listener => {
                let answer = elb.modify_listener().listener_arn(arn).set_default_actions(actions).send().await;
                answer.map(drop).map_err(|error| AwsFailure::of("ModifyListener", &error))
            }
        }
    }
}

/// Rules that differ from what the decision was based on; a rule that could not be read counts as unchanged.
fn describe_changes(rules: &[RuleWrite<'_>], live: &ActionsByArn, seen: &[Weights]) -> Option<String> {
    let found: Vec<String> = rules
        .iter()
        .zip(seen)
        .filter_map(|(RuleWrite { arn, leg, .. }, seen)| {
            let now = reading(live.get(*arn)?.as_ref().ok()?, leg);
            let same = now.has_both_groups && now.foreign_groups.is_empty() && now.weights.same_split(*seen);
            let Weights { blue, green } = now.weights;
            (!same).then(|| {
                format!(
                    "{arn} has blue {blue} / green {green} now, and had blue {} / green {} a moment before",
                    seen.blue, seen.green
                )
            })
        })
        .collect();
    (!found.is_empty()).then(|| format!("{}; nothing was written", found.join("; ")))
}

fn actions_by_arn(arns: &[&str], mut found: HashMap<String, Vec<Action>>) -> ActionsByArn {
    let answer = |arn: &&str| {
        let missing = || AwsFailure::Unsure { reason: format!("{arn} is not in the balancer's answer") };
        ((*arn).to_owned(), found.remove(*arn).ok_or_else(missing))
    };
    arns.iter().map(answer).collect()
}

/// Combines the outcomes of several writes. A refusal takes precedence, since it would be repeated.
fn combined_outcome(failures: &[(String, AwsFailure)]) -> Outcome {
    if failures.is_empty() {
        return Outcome::Done;
    }
    let lines: Vec<_> = failures.iter().map(|(arn, failure)| format!("{arn}: {failure}")).collect();
    let reason = lines.join("; ");
    if failures.iter().any(|(_, failure)| matches!(failure, AwsFailure::Refused { .. })) {
        Outcome::Refused { reason }
    } else if failures.iter().all(|(_, failure)| failure.is_throttled()) {
        Outcome::Throttled { reason }
    } else {
        Outcome::Unsure { reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_elasticloadbalancingv2::types::{
        AuthenticateOidcActionConfig, FixedResponseActionConfig, TargetGroupStickinessConfig,
    };
    use rollout::Seconds;
    fn leg() -> Leg {
        Leg { blue: "arn:group/blue".to_owned(), green: "arn:group/green".to_owned(), rules: vec![], test_rule: None }
    }

    fn forward(groups: &[(&str, Option<i32>)]) -> Action {
        let tuples = groups.iter().map(|(group, weight)| {
            TargetGroupTuple::builder().target_group_arn(format!("arn:group/{group}")).set_weight(*weight).build()
        });
        let sticky = TargetGroupStickinessConfig::builder().enabled(true).duration_seconds(600).build();
        let config = ForwardActionConfig::builder()
            .set_target_groups(Some(tuples.collect()))
            .target_group_stickiness_config(sticky)
            .build();
        Action::builder().r#type(ActionTypeEnum::Forward).order(2).forward_config(config).build()
    }

    fn sign_in() -> Action {
        let oidc = AuthenticateOidcActionConfig::builder()
            .issuer("https://login.example.com")
            .client_id("shop")
            .scope("openid")
            .authentication_request_extra_params("display", "page")
            .build();
        Action::builder().r#type(ActionTypeEnum::AuthenticateOidc).order(1).authenticate_oidc_config(oidc).build()
    }

    #[test]
    fn weights_are_read_from_the_forward_action() {
        let actions = [sign_in(), forward(&[("blue", Some(90)), ("green", Some(10)), ("canary", Some(3))])];
        let expected = RuleReading {
            weights: Weights { blue: 90, green: 10 },
            has_both_groups: true,
            foreign_groups: vec!["arn:group/canary".to_owned()],
            sticky_for: Some(Seconds(600)),
        };
        assert_eq!(reading(&actions, &leg()), expected);
    }

    #[test]
    fn a_missing_weight_is_one() {
        let reading_of = |action: Action| reading(&[action], &leg());
        let both = reading_of(forward(&[("blue", None), ("green", Some(0))]));
        assert_eq!((both.weights, both.has_both_groups), (Weights { blue: 1, green: 0 }, true));

        let plain = Action::builder().r#type(ActionTypeEnum::Forward).target_group_arn("arn:group/blue").build();
        let alone = reading_of(plain);
        assert_eq!((alone.weights, alone.has_both_groups), (Weights { blue: 1, green: 0 }, false));
    }

    #[test]
    fn a_rule_without_a_forward_action_has_neither_group() {
        let fixed = FixedResponseActionConfig::builder().status_code("503").build();
        let action = Action::builder().r#type(ActionTypeEnum::FixedResponse).fixed_response_config(fixed).build();
        let seen = reading(&[action], &leg());
        assert_eq!(
            (seen.weights, seen.has_both_groups, seen.foreign_groups.len()),
            (Weights { blue: 0, green: 0 }, false, 0)
        );
    }

    #[test]
    fn only_the_two_weights_change() {
        let before = vec![sign_in(), forward(&[("blue", Some(100)), ("canary", Some(3)), ("green", Some(0))])];
        let after = with_weights(before.clone(), &leg(), Weights { blue: 90, green: 10 }, false)
            .expect("both groups are there");

        let mut signed_in = sign_in();
        let oidc = signed_in.authenticate_oidc_config.as_mut().expect("an OIDC action");
        oidc.use_existing_client_secret = Some(true);
        assert_eq!(after, [signed_in, forward(&[("blue", Some(90)), ("canary", Some(3)), ("green", Some(10))])]);

        let again =
            with_weights(after.clone(), &leg(), Weights { blue: 90, green: 10 }, false).expect("both groups are there");
        assert_eq!(again, after, "twice is once");
    }

    #[test]
    fn the_redundant_target_group_arn_is_not_sent() {
        let mut action = forward(&[("blue", Some(1)), ("green", Some(0))]);
        action.target_group_arn = Some("arn:group/blue".to_owned());
        let after =
            with_weights(vec![action], &leg(), Weights { blue: 0, green: 100 }, false).expect("both groups are there");
        assert_eq!(after[0].target_group_arn(), None);
    }

    #[test]
    fn a_rule_without_one_of_the_groups_is_refused() {
        let missing_groups =
            with_weights(vec![forward(&[("blue", Some(1))])], &leg(), Weights { blue: 90, green: 10 }, false);
        let reason = missing_groups.expect_err("green is missing");
        assert_eq!(reason, "its forward action lacks green's target group arn:group/green");
        assert_eq!(
            with_weights(vec![sign_in()], &leg(), Weights { blue: 1, green: 0 }, false)
                .expect_err("nothing is forwarded"),
            "it has no forward action"
        );
    }

    #[test]
    fn a_rollback_adds_a_removed_target_group_again() {
        let only_green = vec![sign_in(), forward(&[("green", Some(1))])];
        let after = with_weights(only_green, &leg(), Weights { blue: 100, green: 0 }, true).expect("it forwards");
        assert_eq!(after[1], forward(&[("green", Some(0)), ("blue", Some(100))]));
        assert!(
            with_weights(vec![sign_in()], &leg(), Weights { blue: 100, green: 0 }, true).is_err(),
            "a redirect stays"
        );
    }

    #[test]
    fn foreign_changes_since_the_observation_are_not_overwritten() {
        let leg = leg();
        let weights = Weights { blue: 50, green: 50 };
        let rules = ["rule-a", "rule-b"].map(|arn| RuleWrite { arn, leg: &leg, weights });
        let seen = [Weights { blue: 90, green: 10 }; 2];
        let with = |split: [i32; 2]| Ok(vec![forward(&[("blue", Some(split[0])), ("green", Some(split[1]))])]);
        let unread = || Err(AwsFailure::Unsure { reason: "DescribeRules: timed out".to_owned() });
        let of = |b| {
            let live = ActionsByArn::from([("rule-a".to_owned(), with([9, 1])), ("rule-b".to_owned(), b)]);
            describe_changes(&rules, &live, &seen)
        };
        assert_eq!(of(with([90, 10])), None);
        assert_eq!(of(unread()), None);
        assert!(of(with([10, 90])).is_some_and(|reason| reason.contains("rule-b") && !reason.contains("rule-a")));
        assert!(of(Ok(vec![forward(&[("blue", Some(90)), ("green", Some(10)), ("canary", Some(1))])])).is_some());
    }

    #[test]
    fn rules_and_listeners_are_distinguished_by_arn() {
        let arn = |rest: &str| arn_kind(&format!("arn:aws:elasticloadbalancing:eu-west-1:123456789012:{rest}"));
        assert_eq!(arn("listener-rule/app/shop/50dc6c495c0c9188/f2f7dc8efc522ab2/9683b2d02a6cabee"), Ok(ArnKind::Rule));
        assert_eq!(arn("listener/app/shop/50dc6c495c0c9188/f2f7dc8efc522ab2"), Ok(ArnKind::Listener));
        assert!(arn("targetgroup/blue/73e2d6bc24d8a067").is_err());
    }

    #[test]
    fn a_failed_write_names_its_rule_and_refused_outweighs_unsure() {
        let unsure = ("rule-a".to_owned(), AwsFailure::Unsure { reason: "ModifyRule: Throttling".to_owned() });
        let refused = ("rule-b".to_owned(), AwsFailure::Refused { reason: "ModifyRule: AccessDenied".to_owned() });
        assert_eq!(combined_outcome(&[]), Outcome::Done);
        let reason = "rule-a: ModifyRule: Throttling".to_owned();
        assert_eq!(combined_outcome(std::slice::from_ref(&unsure)), Outcome::Unsure { reason });
        let reason = "rule-a: ModifyRule: Throttling; rule-b: ModifyRule: AccessDenied".to_owned();
        assert_eq!(combined_outcome(&[unsure, refused]), Outcome::Refused { reason });
    }
}
