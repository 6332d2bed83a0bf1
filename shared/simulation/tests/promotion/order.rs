//! The order of environments: what is verified goes on by itself, what goes back stops there.

use crate::street::{HOUR, Plan, Street, carol, may_answer, name, plan_of, slack, target};
use rollout::entry::{After, ApprovalDefault};
use rollout::journal::Fact;
use rollout::policy::Trigger;
use rollout::stage::{Cause, Verdict};
use rollout::{Gate, Instruction, Lane, PlanId, Seconds, TargetId, Terms};
use simulation::virtual_time::Started;
use simulation::world::ImageBehaviour;

const SOAK: u64 = 600;

fn targets() -> [TargetId; 3] {
    [target("shop/api/dev"), target("shop/api/staging"), target("shop/api/prod")]
}

/// dev by push, staging by itself after a soak, prod by itself where two people say yes.
fn street() -> Street {
    let plan = Plan::of(&["api/dev", "api/staging", "api/prod"]);
    plan.promoted("staging", "dev", SOAK).promoted("prod", "staging", 0).approved("prod").build()
}

fn is_verified(fact: &Fact) -> bool {
    matches!(fact, Fact::Verified { .. })
}

#[test]
fn a_push_reaches_production_and_a_bad_one_is_switched_back_and_holds_what_follows() {
    let mut street = street();
    let [dev, staging, prod] = targets();

    // dev by push, staging once dev has verified it and the soak is over.
    street.push("api", 1);
    street.until(HOUR, "staging waits", |street| !street.waits_at(&staging).is_empty());
    assert_eq!(street.waits_at(&staging), ["soak"], "{}", street.stories());
    let early = street.count(&staging, |fact| matches!(fact, Fact::StageEntered { stage, .. } if stage == "scaling"));
    assert_eq!(early, 0, "nothing is touched while it waits{}", street.stories());
    street.ends(&staging, 2 * HOUR, &[Verdict::Succeeded]);
    assert_eq!(street.verdicts(&dev), [Verdict::Succeeded]);
    let verified = street.when(&dev, is_verified);
    let began = street.when(&staging, |fact| matches!(fact, Fact::StageEntered { stage, .. } if stage == "preflight"));
    let soaked = Seconds::between(verified, began);
    assert!((SOAK..SOAK + 70).contains(&soaked.0), "it began after {soaked}{}", street.stories());

    // prod waits for two of three, whoever they are but the same.
    street.asks(&prod, 1, 120);
    assert_eq!(street.weights(&prod), (100, 0));
    assert_eq!(street.plan(&prod).1, plan_of(&street, &prod), "a door computes the same plan");
    assert_eq!(may_answer(&street, &prod, &slack("UADA")), Ok(name("ada")));
    assert!(may_answer(&street, &prod, &slack("UMALLORY")).is_err());
    street.approve(&prod, "UADA");
    street.approve(&prod, "UADA");
    street.approve(&prod, "UMALLORY");
    street.simulation.run_for(600);
    assert_eq!(street.waits_at(&prod), ["approval"], "one yes is not two{}", street.stories());
    assert_eq!(street.refused(&prod).len(), 2, "the second one of ada's and the stranger's{}", street.stories());
    let (deployment, _) = street.plan(&prod);
    let another = PlanId("0123456789abcdef".to_owned());
    street.ask(&prod, Instruction::Approve { deployment, plan: another }, slack("UBOB"), "");
    street.simulation.run_for(60);
    assert_eq!(street.refused(&prod).len(), 3, "what was looked at is not what waits{}", street.stories());
    street.approve(&prod, "UBOB");
    street.ends(&prod, HOUR, &[Verdict::Succeeded]);
    street.rests(HOUR);
    assert_eq!(street.stable(&prod).as_deref(), Some("v1"));

    // The next one is bad in prod only: it is switched back, and what was verified there is not.
    street.push("api", 2);
    street.asks(&prod, 2, 2 * HOUR);
    street.ends(&staging, HOUR, &[Verdict::Succeeded, Verdict::Succeeded]);
    street.set_image(2, ImageBehaviour::failing(0.5));
    street.approve(&prod, "UADA");
    street.approve(&prod, "UEVE");
    street.ends(&prod, HOUR, &[Verdict::Succeeded, Verdict::RolledBack]);
    street.set_image(2, ImageBehaviour::default());
    assert_eq!(street.stable(&prod).as_deref(), Some("v1"));
    let hold = street.state(&prod).promotion_hold.expect("promotion is held");
    assert!(hold.reason.contains("v2"), "{hold:?}");
    assert_eq!(street.state(&prod).verified.len(), 1, "only v1 is verified{}", street.stories());

    // Held: what staging verifies next is told of, and not brought.
    street.simulation.run_for(600);
    street.push("api", 3);
    let skipped = |fact: &Fact| matches!(fact, Fact::PromotionSkipped { tag, .. } if tag == "v3");
    street.until(2 * HOUR, "v3 is skipped in prod", |street| street.has(&prod, skipped));
    street.rests(HOUR);
    assert_eq!(street.state(&prod).last_deployment, 2, "{}", street.stories());
    assert_eq!(street.stable(&staging).as_deref(), Some("v3"));

    // A person promotes again: through the same gates, and what follows goes by itself.
    street.deploy(&prod, 3, Terms::default());
    street.asks(&prod, 3, 120);
    let resumed = |fact: &Fact| matches!(fact, Fact::PromotionResumed);
    assert!(!street.has(&prod, resumed), "nothing has come of it yet{}", street.stories());
    street.approve(&prod, "UADA");
    street.approve(&prod, "UBOB");
    street.ends(&prod, HOUR, &[Verdict::Succeeded, Verdict::RolledBack, Verdict::Succeeded]);
    assert_eq!(street.count(&prod, resumed), 1, "{}", street.stories());
    assert_eq!(street.state(&prod).promotion_hold, None);
    street.push("api", 4);
    street.asks(&prod, 4, 2 * HOUR);
    let (deployment, plan) = street.plan(&prod);
    street.ask(&prod, Instruction::Reject { deployment, plan }, slack("UEVE"), "not on a Friday");
    street.ends(&prod, HOUR, &[Verdict::Succeeded, Verdict::RolledBack, Verdict::Succeeded, Verdict::Rejected]);
    assert_eq!(street.reason(&prod), "by eve: not on a Friday");
    assert_eq!(street.stable(&prod).as_deref(), Some("v3"));
    street.rests(HOUR);
    assert_eq!(street.lost(), 0.0, "no request was lost on the whole way");
}

#[test]
fn a_release_that_goes_back_while_it_soaks_goes_no_further() {
    let mut street = street();
    let [dev, staging, _] = targets();
    street.push("api", 1);
    street.ends(&dev, HOUR, &[Verdict::Succeeded]);
    street.rests_but_for_gates(&staging);
    street.push("api", 2);
    street.until(HOUR, "v2 soaks", |street| {
        let running = street.state(&staging).running;
        let queued = street.state(&staging).queued;
        running.is_some_and(|running| running.release.tag == "v2") || !queued.is_empty()
    });
    street.until(HOUR, "v2 is stable in dev", |street| street.stable(&dev).as_deref() == Some("v2"));
    street.ask(&dev, Instruction::Rollback, carol(), "the cart is empty");
    street.until(HOUR, "v2 is not verified in dev any more", |street| {
        street.has(&dev, |fact| matches!(fact, Fact::Withdrawn { tag, .. } if tag == "v2"))
    });
    street.simulation.run_for(2 * HOUR);
    assert_ne!(street.stable(&staging).as_deref(), Some("v2"), "{}", street.stories());
    let of_v2 = street.simulation.at(&staging).verdicts();
    assert!(
        of_v2.iter().any(|(_, verdict, reason)| *verdict == Verdict::Failed && reason.contains("after")),
        "{of_v2:?}"
    );
    assert!(street.state(&dev).promotion_hold.is_none(), "dev is not promoted to by itself");
}

#[test]
fn nobody_answers_and_it_expires() {
    for (default, verdict) in
        [(ApprovalDefault::Reject, Verdict::Expired), (ApprovalDefault::Approve, Verdict::Succeeded)]
    {
        let plan = Plan::of(&["api/dev", "api/prod"]).promoted("prod", "dev", 0).approved("prod");
        let mut street = plan
            .policy(move |policy| {
                let prod = crate::street::environment_of(policy, "prod");
                prod.entry.approval.as_mut().expect("it has one").default = default;
            })
            .build();
        let prod = target("shop/api/prod");
        street.push("api", 1);
        street.asks(&prod, 1, HOUR);
        street.ends(&prod, 5 * HOUR, &[verdict]);
        let asked = street.when(&prod, |fact| matches!(fact, Fact::ApprovalRequested { .. }));
        let over = street.when(&prod, |fact| match verdict {
            Verdict::Expired => matches!(fact, Fact::Ended { .. }),
            _ => matches!(fact, Fact::GateOpened { gate: Gate::Approval, .. }),
        });
        let waited = Seconds::between(asked, over);
        assert!((4 * HOUR..4 * HOUR + 70).contains(&waited.0), "after {waited}{}", street.stories());
        street.rests(HOUR);
    }
}

#[test]
fn a_policy_that_changes_meanwhile_voids_what_was_said() {
    let mut street = street();
    let prod = target("shop/api/prod");
    street.push("api", 1);
    street.asks(&prod, 1, 2 * HOUR);
    street.approve(&prod, "UADA");
    street.simulation.run_for(60);
    let (_, before) = street.plan(&prod);
    // The way the deployment would take is another one now.
    street.apply(|policy| {
        let rules = crate::street::environment_of(policy, "prod");
        let api = rules.targets.get_mut(&name("api")).expect("a target");
        api.strategy.bake = Seconds(60);
    });
    street.until(120, "the plan is another one", |street| street.plan(&prod).1 != before);
    street.asks(&prod, 1, 120);
    assert!(street.has(&prod, |fact| matches!(fact, Fact::PlanChanged { voided: 1, .. })), "{}", street.stories());
    assert_eq!(street.count(&prod, |fact| matches!(fact, Fact::ApprovalRequested { .. })), 2, "{}", street.stories());
    street.approve(&prod, "UBOB");
    street.simulation.run_for(300);
    assert_eq!(street.waits_at(&prod), ["approval"], "ada's yes was to another plan{}", street.stories());
    street.approve(&prod, "UADA");
    street.ends(&prod, HOUR, &[Verdict::Succeeded]);
    // A setting that changes nothing of the plan would not have asked anybody anew.
    assert_eq!(street.count(&prod, |fact| matches!(fact, Fact::PlanChanged { .. })), 1);
}

#[test]
fn whoever_asked_does_not_approve() {
    let mut street = street();
    let [_, staging, prod] = targets();
    street.push("api", 1);
    street.asks(&prod, 1, 2 * HOUR);
    street.ends(&staging, HOUR, &[Verdict::Succeeded]);
    let (deployment, plan) = street.plan(&prod);
    street.ask(&prod, Instruction::Reject { deployment, plan }, slack("UADA"), "by hand, please");
    street.ends(&prod, HOUR, &[Verdict::Rejected]);
    let deploy = street.simulation.deploy(&name("api"), 1, rollout::Overrides::default(), Terms::default());
    street.ask(&prod, deploy, slack("UADA"), "by hand");
    street.asks(&prod, 2, 120);
    for user in ["UADA", "UBOB"] {
        street.approve(&prod, user);
    }
    street.simulation.run_for(300);
    assert_eq!(street.waits_at(&prod), ["approval"], "{}", street.stories());
    let refused = street.refused(&prod);
    assert!(refused.iter().any(|why| why.contains("ada asked for this deployment")), "{refused:?}");
    street.approve(&prod, "UEVE");
    street.ends(&prod, HOUR, &[Verdict::Rejected, Verdict::Succeeded]);
}

#[test]
fn what_no_environment_before_has_verified_is_refused_unless_it_is_a_hotfix() {
    let plan = Plan::of(&["api/dev", "api/prod"]).approved("prod").policy(|policy| {
        let prod = crate::street::environment_of(policy, "prod");
        prod.trigger = Trigger::Manual;
        prod.entry.after = Some(After::All(vec![name("dev")]));
        prod.entry.soak = Seconds(HOUR);
        prod.entry.hotfix_skips = [Gate::After, Gate::Soak, Gate::Approval].into();
    });
    let mut street = plan.build();
    let [dev, prod] = [target("shop/api/dev"), target("shop/api/prod")];
    street.simulation.push_of(&name("api"), 7, Started::Silent);
    street.deploy(&prod, 7, Terms::default());
    street.simulation.run_for(120);
    let refused = street.refused(&prod);
    assert!(refused.iter().any(|why| why.contains("not verified in dev")), "{refused:?}");
    assert_eq!(street.state(&prod).last_deployment, 0);

    let hotfix = Terms { lane: Lane::Hotfix, ..Terms::default() };
    street.deploy(&prod, 7, hotfix);
    street.ends(&prod, HOUR, &[Verdict::Succeeded]);
    let told =
        |fact: &Fact| matches!(fact, Fact::Hotfixed { skips, reason } if skips.len() == 3 && reason == "asked for");
    assert!(street.has(&prod, told), "{}", street.stories());
    let record = street.simulation.ledger().store().history(&prod, 1).remove(0);
    assert!(record.hotfix, "history marks it: {record:?}");
    assert!(street.verdicts(&dev).is_empty() || street.verdicts(&dev) == [Verdict::Succeeded]);
}

#[test]
fn a_rollback_waits_at_no_gate_and_holds_promotion() {
    let mut street = street();
    let [_, staging, prod] = targets();
    for number in [1, 2] {
        street.push("api", number);
        street.asks(&prod, number, 2 * HOUR);
        street.approve(&prod, "UADA");
        street.approve(&prod, "UBOB");
        street.until(HOUR, "prod has it", |street| street.stable(&prod) == Some(format!("v{number}")));
    }
    street.rests(HOUR);
    let asked = street.simulation.now();
    street.ask(&prod, Instruction::Rollback, carol(), "the cart is empty");
    street.ends(&prod, HOUR, &[Verdict::Succeeded; 3]);
    assert!(Seconds::between(asked, street.simulation.now()).0 < 300, "it waited{}", street.stories());
    assert_eq!(street.stable(&prod).as_deref(), Some("v1"));
    assert!(street.state(&prod).promotion_hold.is_some(), "{}", street.stories());
    assert!(street.state(&prod).verified.iter().all(|known| known.release.tag == "v1"), "{}", street.stories());
    // And v2 is not brought back by the environment before.
    street.push("api", 3);
    street.until(2 * HOUR, "v3 is skipped", |street| {
        street.has(&prod, |fact| matches!(fact, Fact::PromotionSkipped { tag, .. } if tag == "v3"))
    });
    street.rests(HOUR);
    assert_eq!(street.stable(&prod).as_deref(), Some("v1"));
    assert_eq!(street.stable(&staging).as_deref(), Some("v3"));
}

#[test]
fn a_pin_of_an_older_release_holds_promotion() {
    let mut street = Plan::of(&["api/dev", "api/staging"]).promoted("staging", "dev", 0).build();
    let staging = target("shop/api/staging");
    for number in [1, 2] {
        street.push("api", number);
        street.until(HOUR, "staging has it", |street| street.stable(&staging) == Some(format!("v{number}")));
        street.rests(HOUR);
    }
    street.deploy(&staging, 1, Terms::default());
    street.ends(&staging, HOUR, &[Verdict::Succeeded; 3]);
    let hold = street.state(&staging).promotion_hold.expect("it is held");
    assert!(hold.reason.contains("v1") && hold.reason.contains("pinned"), "{hold:?}");
    street.push("api", 3);
    street.until(HOUR, "v3 is skipped", |street| {
        street.has(&staging, |fact| matches!(fact, Fact::PromotionSkipped { .. }))
    });
    street.rests(HOUR);
    assert_eq!(street.stable(&staging).as_deref(), Some("v1"));
    street.deploy(&staging, 3, Terms::default());
    street.ends(&staging, HOUR, &[Verdict::Succeeded; 4]);
    assert_eq!(street.state(&staging).promotion_hold, None, "{}", street.stories());
}

#[test]
fn an_environment_after_several_waits_for_all_or_for_any_of_them() {
    for (after, wanted) in [(After::All as fn(_) -> _, 2), (After::Any as fn(_) -> _, 1)] {
        let mut street = Plan::of(&["api/dev", "api/qa", "api/prod"])
            .policy(move |policy| {
                crate::street::environment_of(policy, "qa").trigger = Trigger::Manual;
                let prod = crate::street::environment_of(policy, "prod");
                prod.trigger = Trigger::Promotion;
                prod.entry.after = Some(after(vec![name("dev"), name("qa")]));
            })
            .build();
        let [qa, prod] = [target("shop/api/qa"), target("shop/api/prod")];
        street.push("api", 1);
        street.ends(&target("shop/api/dev"), HOUR, &[Verdict::Succeeded]);
        street.simulation.run_for(HOUR);
        if wanted == 2 {
            assert_eq!(street.state(&prod).last_deployment, 0, "{}", street.stories());
            assert!(street.refused(&prod).is_empty(), "it is no refusal, only not yet{}", street.stories());
        }
        street.deploy(&qa, 1, Terms::default());
        street.ends(&qa, HOUR, &[Verdict::Succeeded]);
        street.ends(&prod, HOUR, &[Verdict::Succeeded]);
        street.rests(HOUR);
        assert_eq!(street.state(&prod).last_deployment, 1, "once, not once for each{}", street.stories());
    }
}

#[test]
fn an_alarm_that_fires_upstream_stops_what_is_verified_nowhere() {
    let mut street = street();
    let [dev, staging, prod] = targets();
    street.set_image(1, ImageBehaviour::failing(0.5));
    street.push("api", 1);
    street.ends(&dev, HOUR, &[Verdict::RolledBack]);
    assert!(street.has(&dev, |fact| matches!(fact, Fact::RollbackStarted { cause: Cause::Alarm { .. } })));
    street.rests(HOUR);
    for target in [&staging, &prod] {
        assert_eq!(street.journal(target), [], "{target} heard of it{}", street.stories());
    }
}

/// A lifecycle rule deletes what waits for an approval: it ends with that reason, and nothing is touched.
#[test]
fn an_image_that_is_deleted_while_it_waits_for_an_approval_ends_there() {
    let mut street = street();
    let [_, _, prod] = targets();
    street.push("api", 1);
    street.asks(&prod, 1, 4 * HOUR);
    street.simulation.delete_image(1);
    street.approve(&prod, "UADA");
    street.approve(&prod, "UBOB");
    street.ends(&prod, HOUR, &[Verdict::Failed]);
    let reason = street.simulation.at(&prod).verdicts().pop().map(|(_, _, reason)| reason).unwrap_or_default();
    assert!(reason.contains("image") && reason.contains("gone"), "{reason}");
    let touched = |fact: &Fact| matches!(fact, Fact::TaskDefinitionReady { .. } | Fact::WeightsDecided { .. });
    assert!(!street.has(&prod, touched), "{}", street.stories());

    // Pushed again, it is asked about again.
    street.push("api", 1);
    street.deploy(&prod, 1, Terms::default());
    street.asks(&prod, 2, HOUR);
}
