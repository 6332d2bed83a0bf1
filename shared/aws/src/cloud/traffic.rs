//! Weights: reading them off a rule's actions, and writing them back with nothing else changed.
//!
//! `ModifyRule` and `ModifyListener` replace the actions whole, so what is written is what was read with two numbers
//! changed. A policy names rules and listeners alike; a listener means its default action.

use super::AwsCloud;
use crate::error::Failure;
use aws_sdk_elasticloadbalancingv2::types::{Action, ActionTypeEnum, ForwardActionConfig, TargetGroupTuple};
use futures::future::join_all;
use rollout::snapshot::{RuleReading, Weights};
use rollout::{EcsPair, Outcome, Slot};
use std::collections::HashMap;

/// The weight of a target group that the action gives none: it is alone, or all are alike.
const UNSAID: i32 = 1;

/// What an ARN of the policy names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rule,
    Listener,
}

fn kind(arn: &str) -> Result<Kind, Failure> {
    if arn.contains(":listener-rule/") {
        Ok(Kind::Rule)
    } else if arn.contains(":listener/") {
        Ok(Kind::Listener)
    } else {
        Err(Failure::Refused { reason: format!("{arn} is the ARN of neither a listener rule nor a listener") })
    }
}

/// The target groups of an action and their weights; empty where it forwards to none.
pub(super) fn groups(action: &Action) -> Vec<(&str, i32)> {
    let listed = action.forward_config().map(ForwardActionConfig::target_groups).unwrap_or_default();
    if listed.is_empty() {
        return action.target_group_arn().map(|group| vec![(group, UNSAID)]).unwrap_or_default();
    }
    let pair = |tuple: &TargetGroupTuple| tuple.weight().unwrap_or(UNSAID);
    listed.iter().filter_map(|tuple| Some((tuple.target_group_arn()?, pair(tuple)))).collect()
}

pub(super) fn forwards(action: &Action) -> bool {
    action.r#type() == Some(&ActionTypeEnum::Forward)
}

/// The share of the pair in a rule with these actions. A rule that forwards nowhere has neither group.
pub(super) fn reading(actions: &[Action], pair: &EcsPair) -> RuleReading {
    let groups = actions.iter().find(|action| forwards(action)).map(groups).unwrap_or_default();
    let weight = |wanted: &str| {
        let found = groups.iter().find(|(group, _)| *group == wanted)?;
        Some(u16::try_from(found.1).unwrap_or(0))
    };
    let (blue, green) = (weight(&pair.blue.target_group), weight(&pair.green.target_group));
    let ours = |group: &str| group == pair.blue.target_group || group == pair.green.target_group;
    RuleReading {
        weights: Weights { blue: blue.unwrap_or(0), green: green.unwrap_or(0) },
        has_both: blue.is_some() && green.is_some(),
        strangers: groups.iter().filter(|(group, _)| !ours(group)).map(|(group, _)| (*group).to_owned()).collect(),
    }
}

/// What weights are written over.
#[derive(Debug, Clone, Copy)]
pub(super) enum Over<'a> {
    /// On the way forward: these alone, a rule each. Each rule is read once more right before.
    Seen(&'a [Weights]),
    /// On the way back: whatever is there, without reading it again.
    Anything,
    /// A rule that only testers reach: whatever is there, as long as both sides are in it.
    TestRule,
}

/// The same actions with these weights, ready to be written.
///
/// Order, stickiness, other target groups and all other actions stay. A sign-in action is read without its client
/// secret: it is told to keep the one it has. A group named beside the list of groups would contradict it, and goes.
///
/// On the way back (`adds`) a side that the rule lacks is put into it: somebody has taken it out, and users are on the other.
///
/// # Errors
/// A reason, where the rule does not forward, or, on the way forward, lacks one of the groups: adding one is not ours to do.
fn reweighed(mut actions: Vec<Action>, pair: &EcsPair, weights: Weights, adds: bool) -> Result<Vec<Action>, String> {
    let Some(forward) = actions.iter_mut().find(|action| forwards(action)) else {
        return Err("it has no forward action".to_owned());
    };
    let mut tuples: Vec<_> = groups(forward)
        .into_iter()
        .map(|(group, weight)| TargetGroupTuple::builder().target_group_arn(group).weight(weight).build())
        .collect();
    let mut lacking = Vec::new();
    for slot in [Slot::Blue, Slot::Green] {
        let group = &pair.side(slot).target_group;
        let weight = i32::from(weights.of(slot));
        match tuples.iter_mut().find(|tuple| tuple.target_group_arn() == Some(group)) {
            Some(tuple) => tuple.weight = Some(weight),
            None if adds => tuples.push(TargetGroupTuple::builder().target_group_arn(group).weight(weight).build()),
            None => lacking.push(format!("{slot}'s target group {group}")),
        }
    }
    if !lacking.is_empty() {
        return Err(format!("its forward action lacks {}", lacking.join(" and ")));
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

/// What was read of each ARN.
pub(super) type Read = HashMap<String, Result<Vec<Action>, Failure>>;

impl AwsCloud {
    /// Reads the live actions of these rules and listeners: one call for all rules, one for all listeners, side by side.
    pub(super) async fn read_actions(&self, arns: &[&str]) -> Read {
        let (mut rules, mut listeners, mut read) = (vec![], vec![], Read::new());
        for arn in arns {
            let to_read = match kind(arn) {
                Ok(Kind::Rule) => &mut rules,
                Ok(Kind::Listener) => &mut listeners,
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
            futures::join!(self.read_batch(Kind::Rule, &rules), self.read_batch(Kind::Listener, &listeners));
        read.extend(rules);
        read.extend(listeners);
        read
    }

    /// One missing ARN fails a whole batch: then each is asked for by itself, and only the missing one stays unknown.
    async fn read_batch(&self, kind: Kind, arns: &[&str]) -> Read {
        if arns.is_empty() {
            return Read::new();
        }
        match self.describe(kind, arns).await {
            Ok(found) => answered(arns, found),
            Err(Failure::Refused { .. }) if arns.len() > 1 => {
                let single = arns.iter().map(async |arn| match self.describe(kind, &[*arn]).await {
                    Ok(found) => answered(&[*arn], found),
                    Err(failure) => Read::from([((*arn).to_owned(), Err(failure))]),
                });
                join_all(single).await.into_iter().flatten().collect()
            }
            Err(failure) => arns.iter().map(|arn| ((*arn).to_owned(), Err(failure.clone()))).collect(),
        }
    }

    async fn describe(&self, kind: Kind, arns: &[&str]) -> Result<HashMap<String, Vec<Action>>, Failure> {
        let elb = self.clients.elb().await;
        let arns = Some(arns.iter().map(|arn| (*arn).to_owned()).collect());
        match kind {
            Kind::Rule => {
                let answer = elb.describe_rules().set_rule_arns(arns).send().await;
                let answer = answer.map_err(|error| Failure::of("DescribeRules", &error))?;
                let rules = answer.rules.unwrap_or_default().into_iter();
                Ok(rules.filter_map(|rule| Some((rule.rule_arn?, rule.actions.unwrap_or_default()))).collect())
            }
            Kind::Listener => {
                let answer = elb.describe_listeners().set_listener_arns(arns).send().await;
                let answer = answer.map_err(|error| Failure::of("DescribeListeners", &error))?;
                let listeners = answer.listeners.unwrap_or_default().into_iter();
                let actions = listeners.filter_map(|listener| {
                    Some((listener.listener_arn?, listener.default_actions.unwrap_or_default()))
                });
                Ok(actions.collect())
            }
        }
    }

    /// Writes these weights into all of these rules, side by side; a rule that was seen to have them is not written.
    ///
    /// On the way forward all rules are read once more right before, and none is written where one of them is not as the
    /// decision has seen it. Otherwise what the look of this pass read is written back without reading again.
    pub(super) async fn set_weights(
        &self,
        pair: &EcsPair,
        arns: &[String],
        weights: Weights,
        over: Over<'_>,
    ) -> Outcome {
        let mut live: Read = HashMap::new();
        for arn in arns {
            if let Some(actions) = self.memory.rules.take(arn)
                && !matches!(over, Over::Seen(_))
            {
                live.insert(arn.clone(), Ok(actions));
            }
        }
        let unread: Vec<_> = arns.iter().map(String::as_str).filter(|arn| !live.contains_key(*arn)).collect();
        live.extend(self.read_actions(&unread).await);
        if let Over::Seen(seen) = over
            && let Some(reason) = changed(pair, arns, &live, seen)
        {
            return Outcome::Changed { reason };
        }

        let adds = matches!(over, Over::Anything);
        let writes = live.into_iter().map(async |(arn, actions)| {
            let written = match actions {
                Ok(actions) => self.write(&arn, actions, pair, weights, adds).await,
                Err(failure) => Err(failure),
            };
            written.map_err(|failure| (arn, failure))
        });
        let mut failures: Vec<_> = join_all(writes).await.into_iter().filter_map(Result::err).collect();
        failures.sort_by(|(one, _), (other, _)| one.cmp(other));
        together(&failures)
    }

    async fn write(
        &self,
        arn: &str,
        live: Vec<Action>,
        pair: &EcsPair,
        weights: Weights,
        adds: bool,
    ) -> Result<(), Failure> {
        let before = reading(&live, pair);
        if before.has_both && before.weights == weights {
            return Ok(());
        }
        let actions = Some(reweighed(live, pair, weights, adds).map_err(|reason| Failure::Refused { reason })?);
        let elb = self.clients.elb().await;
        match kind(arn)? {
            Kind::Rule => {
                let answer = elb.modify_rule().rule_arn(arn).set_actions(actions).send().await;
                answer.map(drop).map_err(|error| Failure::of("ModifyRule", &error))
            }
            Kind::Listener => {
                let answer = elb.modify_listener().listener_arn(arn).set_default_actions(actions).send().await;
                answer.map(drop).map_err(|error| Failure::of("ModifyListener", &error))
            }
        }
    }
}

/// The rules that are not as they were seen when the decision was made; what could not be read is no change.
fn changed(pair: &EcsPair, arns: &[String], live: &Read, seen: &[Weights]) -> Option<String> {
    let found: Vec<String> = arns
        .iter()
        .zip(seen)
        .filter_map(|(arn, seen)| {
            let now = reading(live.get(arn)?.as_ref().ok()?, pair);
            let same = now.has_both && now.strangers.is_empty() && now.weights.same_split(*seen);
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

fn answered(arns: &[&str], mut found: HashMap<String, Vec<Action>>) -> Read {
    let answer = |arn: &&str| {
        let missing = || Failure::Unsure { reason: format!("{arn} is not in the balancer's answer") };
        ((*arn).to_owned(), found.remove(*arn).ok_or_else(missing))
    };
    arns.iter().map(answer).collect()
}

/// One outcome of several writes: a no to any of them will be said again.
fn together(failures: &[(String, Failure)]) -> Outcome {
    if failures.is_empty() {
        return Outcome::Done;
    }
    let lines: Vec<_> = failures.iter().map(|(arn, failure)| format!("{arn}: {failure}")).collect();
    let reason = lines.join("; ");
    if failures.iter().any(|(_, failure)| matches!(failure, Failure::Refused { .. })) {
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
    use rollout::policy::Side;

    fn pair() -> EcsPair {
        let side = |name: &str| Side { service: format!("api-{name}"), target_group: format!("arn:group/{name}") };
        EcsPair {
            cluster: "shop".to_owned(),
            container: "api".to_owned(),
            blue: side("blue"),
            green: side("green"),
            rules: vec![],
            test_rule: None,
        }
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
    fn weights_are_read_off_the_forward_action() {
        let actions = [sign_in(), forward(&[("blue", Some(90)), ("green", Some(10)), ("canary", Some(3))])];
        let expected = RuleReading {
            weights: Weights { blue: 90, green: 10 },
            has_both: true,
            strangers: vec!["arn:group/canary".to_owned()],
        };
        assert_eq!(reading(&actions, &pair()), expected);
    }

    #[test]
    fn a_weight_that_is_not_said_is_one() {
        let reading_of = |action: Action| reading(&[action], &pair());
        let both = reading_of(forward(&[("blue", None), ("green", Some(0))]));
        assert_eq!((both.weights, both.has_both), (Weights { blue: 1, green: 0 }, true));

        let plain = Action::builder().r#type(ActionTypeEnum::Forward).target_group_arn("arn:group/blue").build();
        let alone = reading_of(plain);
        assert_eq!((alone.weights, alone.has_both), (Weights { blue: 1, green: 0 }, false));
    }

    #[test]
    fn a_rule_that_forwards_nowhere_has_neither_group() {
        let fixed = FixedResponseActionConfig::builder().status_code("503").build();
        let action = Action::builder().r#type(ActionTypeEnum::FixedResponse).fixed_response_config(fixed).build();
        let seen = reading(&[action], &pair());
        assert_eq!((seen.weights, seen.has_both, seen.strangers.len()), (Weights { blue: 0, green: 0 }, false, 0));
    }

    #[test]
    fn only_the_two_weights_change() {
        let before = vec![sign_in(), forward(&[("blue", Some(100)), ("canary", Some(3)), ("green", Some(0))])];
        let after =
            reweighed(before.clone(), &pair(), Weights { blue: 90, green: 10 }, false).expect("both groups are there");

        let mut signed_in = sign_in();
        let oidc = signed_in.authenticate_oidc_config.as_mut().expect("an OIDC action");
        oidc.use_existing_client_secret = Some(true);
        assert_eq!(after, [signed_in, forward(&[("blue", Some(90)), ("canary", Some(3)), ("green", Some(10))])]);

        let again =
            reweighed(after.clone(), &pair(), Weights { blue: 90, green: 10 }, false).expect("both groups are there");
        assert_eq!(again, after, "twice is once");
    }

    #[test]
    fn the_group_named_beside_the_list_is_not_sent_with_it() {
        let mut action = forward(&[("blue", Some(1)), ("green", Some(0))]);
        action.target_group_arn = Some("arn:group/blue".to_owned());
        let after =
            reweighed(vec![action], &pair(), Weights { blue: 0, green: 100 }, false).expect("both groups are there");
        assert_eq!(after[0].target_group_arn(), None);
    }

    #[test]
    fn a_rule_without_one_of_the_groups_is_refused() {
        let lacking = reweighed(vec![forward(&[("blue", Some(1))])], &pair(), Weights { blue: 90, green: 10 }, false);
        let reason = lacking.expect_err("green is missing");
        assert_eq!(reason, "its forward action lacks green's target group arn:group/green");
        assert_eq!(
            reweighed(vec![sign_in()], &pair(), Weights { blue: 1, green: 0 }, false)
                .expect_err("nothing is forwarded"),
            "it has no forward action"
        );
    }

    #[test]
    fn on_the_way_back_a_side_that_somebody_took_out_is_put_in_again() {
        let only_green = vec![sign_in(), forward(&[("green", Some(1))])];
        let after = reweighed(only_green, &pair(), Weights { blue: 100, green: 0 }, true).expect("it forwards");
        assert_eq!(after[1], forward(&[("green", Some(0)), ("blue", Some(100))]));
        assert!(
            reweighed(vec![sign_in()], &pair(), Weights { blue: 100, green: 0 }, true).is_err(),
            "a redirect stays"
        );
    }

    #[test]
    fn what_somebody_else_has_set_since_it_was_seen_is_not_written_over() {
        let arns = ["rule-a".to_owned(), "rule-b".to_owned()];
        let seen = [Weights { blue: 90, green: 10 }; 2];
        let with = |split: [i32; 2]| Ok(vec![forward(&[("blue", Some(split[0])), ("green", Some(split[1]))])]);
        let unread = || Err(Failure::Unsure { reason: "DescribeRules: timed out".to_owned() });
        let of =
            |b| changed(&pair(), &arns, &Read::from([(arns[0].clone(), with([9, 1])), (arns[1].clone(), b)]), &seen);
        assert_eq!(of(with([90, 10])), None);
        assert_eq!(of(unread()), None);
        assert!(of(with([10, 90])).is_some_and(|reason| reason.contains("rule-b") && !reason.contains("rule-a")));
        assert!(of(Ok(vec![forward(&[("blue", Some(90)), ("green", Some(10)), ("canary", Some(1))])])).is_some());
    }

    #[test]
    fn a_rule_and_a_listener_are_told_by_their_arns() {
        let arn = |rest: &str| kind(&format!("arn:aws:elasticloadbalancing:eu-west-1:123456789012:{rest}"));
        assert_eq!(arn("listener-rule/app/shop/50dc6c495c0c9188/f2f7dc8efc522ab2/9683b2d02a6cabee"), Ok(Kind::Rule));
        assert_eq!(arn("listener/app/shop/50dc6c495c0c9188/f2f7dc8efc522ab2"), Ok(Kind::Listener));
        assert!(arn("targetgroup/blue/73e2d6bc24d8a067").is_err());
    }

    #[test]
    fn a_failed_write_names_its_rule_and_a_no_outweighs_a_perhaps() {
        let unsure = ("rule-a".to_owned(), Failure::Unsure { reason: "ModifyRule: Throttling".to_owned() });
        let refused = ("rule-b".to_owned(), Failure::Refused { reason: "ModifyRule: AccessDenied".to_owned() });
        assert_eq!(together(&[]), Outcome::Done);
        let reason = "rule-a: ModifyRule: Throttling".to_owned();
        assert_eq!(together(std::slice::from_ref(&unsure)), Outcome::Unsure { reason });
        let reason = "rule-a: ModifyRule: Throttling; rule-b: ModifyRule: AccessDenied".to_owned();
        assert_eq!(together(&[unsure, refused]), Outcome::Refused { reason });
    }
}
