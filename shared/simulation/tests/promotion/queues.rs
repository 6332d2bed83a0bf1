//! What a newer release, a hotfix, a rollback or a changed policy does to the one that waits at its gates.

use crate::street::{HOUR, Plan, Street, carol, environment_of, name, target};
use rollout::journal::Fact;
use rollout::policy::Concurrency;
use rollout::stage::Verdict;
use rollout::{Gate, Instruction, Lane, TargetId, Terms};

fn prod() -> TargetId {
    target("shop/api/prod")
}

/// v1 waits for approval in prod, promoted there by itself.
fn street(concurrency: Concurrency) -> Street {
    let mut street = Plan::of(&["api/dev", "api/prod"])
        .promoted("prod", "dev", 0)
        .approved("prod")
        .policy(move |policy| {
            let rules = environment_of(policy, "prod");
            rules.concurrency = concurrency;
            rules.entry.hotfix_skips = [Gate::Approval, Gate::After, Gate::Soak].into();
        })
        .build();
    street.push("api", 1);
    street.asks(&prod(), 1, HOUR);
    street
}

fn verified_in_dev(street: &mut Street, number: u64) {
    street.push("api", number);
    let dev = target("shop/api/dev");
    let tag = format!("v{number}");
    street.until(HOUR, "dev has verified it", |street| {
        street.has(&dev, |fact| matches!(fact, Fact::Verified { tag: known, .. } if *known == tag))
    });
}

#[test]
fn a_newer_release_takes_the_place_of_the_one_that_waits_and_asks_anew() {
    for concurrency in [Concurrency::QueueNewest, Concurrency::CancelRunning] {
        let mut street = street(concurrency);
        street.approve(&prod(), "UADA");
        let (old, plan) = street.plan(&prod());
        verified_in_dev(&mut street, 2);
        street.asks(&prod(), 2, 300);
        assert_eq!(street.verdicts(&prod()), [Verdict::Superseded], "{}", street.stories());
        // Who answers to the old one is told so, and nothing of it counts for the new one.
        street.ask(&prod(), Instruction::Approve { deployment: old, plan }, crate::street::slack("UBOB"), "");
        street.simulation.run_for(120);
        assert_eq!(street.waits_at(&prod()), ["approval"], "{}", street.stories());
        let refused = street.refused(&prod());
        assert!(refused.iter().any(|why| why.contains("#1 is over")), "{refused:?}");
        street.approve(&prod(), "UADA");
        street.approve(&prod(), "UBOB");
        street.ends(&prod(), HOUR, &[Verdict::Superseded, Verdict::Succeeded]);
        assert_eq!(street.stable(&prod()).as_deref(), Some("v2"));
        street.rests(HOUR);
    }
}

#[test]
fn where_all_are_queued_the_newer_one_waits_for_its_turn() {
    let mut street = street(Concurrency::QueueAll);
    verified_in_dev(&mut street, 2);
    street.simulation.run_for(300);
    assert_eq!(street.running(&prod()).release.tag, "v1", "{}", street.stories());
    let (deployment, plan) = street.plan(&prod());
    street.ask(&prod(), Instruction::Reject { deployment, plan }, crate::street::slack("UEVE"), "not this one");
    street.asks(&prod(), 2, 120);
    street.approve(&prod(), "UADA");
    street.approve(&prod(), "UBOB");
    street.ends(&prod(), HOUR, &[Verdict::Rejected, Verdict::Succeeded]);
    assert_eq!(street.stable(&prod()).as_deref(), Some("v2"));
}

#[test]
fn where_newer_ones_are_rejected_the_one_that_waits_stays() {
    let mut street = street(Concurrency::Reject);
    verified_in_dev(&mut street, 2);
    street.simulation.run_for(300);
    assert_eq!(street.running(&prod()).release.tag, "v1", "{}", street.stories());
    assert!(street.state(&prod()).queued.is_empty());
    street.approve(&prod(), "UADA");
    street.approve(&prod(), "UBOB");
    street.ends(&prod(), HOUR, &[Verdict::Succeeded]);
    street.rests(HOUR);
    assert_eq!(street.stable(&prod()).as_deref(), Some("v1"));
}

#[test]
fn a_release_that_may_not_come_does_not_displace_one_that_waits() {
    let mut street = street(Concurrency::QueueNewest);
    street.simulation.push_of(&name("api"), 9, simulation::virtual_time::Started::Silent);
    street.deploy(&prod(), 9, Terms::default());
    street.simulation.run_for(120);
    assert!(street.refused(&prod()).iter().any(|why| why.contains("not verified in dev")), "{}", street.stories());
    assert_eq!(street.running(&prod()).release.tag, "v1");
    street.approve(&prod(), "UADA");
    street.approve(&prod(), "UBOB");
    street.ends(&prod(), HOUR, &[Verdict::Succeeded]);
}

#[test]
fn a_hotfix_goes_before_whatever_waits() {
    for concurrency in
        [Concurrency::QueueNewest, Concurrency::QueueAll, Concurrency::CancelRunning, Concurrency::Reject]
    {
        let mut street = street(concurrency);
        street.simulation.push_of(&name("api"), 9, simulation::virtual_time::Started::Silent);
        street.deploy(&prod(), 9, Terms { lane: Lane::Hotfix, ..Terms::default() });
        street.ends(&prod(), HOUR, &[Verdict::Superseded, Verdict::Succeeded]);
        assert_eq!(street.stable(&prod()).as_deref(), Some("v9"), "{concurrency:?}{}", street.stories());
        // What was promoted by itself is not put over the hotfix, which is newer.
        street.simulation.run_for(HOUR);
        assert_eq!(street.stable(&prod()).as_deref(), Some("v9"), "{concurrency:?}{}", street.stories());
    }
}

#[test]
fn a_rollback_cancels_what_waits_and_goes_at_once() {
    let mut street = street(Concurrency::QueueNewest);
    for number in [1, 2, 3] {
        if number > 1 {
            verified_in_dev(&mut street, number);
            street.asks(&prod(), number, 300);
        }
        if number < 3 {
            street.approve(&prod(), "UADA");
            street.approve(&prod(), "UBOB");
            street.until(HOUR, "it is stable", |street| street.stable(&prod()) == Some(format!("v{number}")));
            street.rests(HOUR);
        }
    }
    street.ask(&prod(), Instruction::Rollback, carol(), "the cart is empty");
    street.ends(&prod(), 300, &[Verdict::Succeeded, Verdict::Succeeded, Verdict::Cancelled, Verdict::Succeeded]);
    assert_eq!(street.stable(&prod()).as_deref(), Some("v1"));
    assert!(street.state(&prod()).promotion_hold.is_some());
    street.rests(HOUR);
}

#[test]
fn an_abort_cancels_what_waits_and_touches_nothing() {
    let mut street = street(Concurrency::QueueNewest);
    street.ask(&prod(), Instruction::Abort { deployment: Some(1) }, carol(), "not today");
    street.ends(&prod(), 60, &[Verdict::Cancelled]);
    assert_eq!(street.weights(&prod()), (100, 0));
    let touched = street.journal(&prod()).into_iter().any(|entry| {
        matches!(
            entry.fact,
            Fact::TaskDefinitionReady { .. } | Fact::WeightsDecided { .. } | Fact::RollbackStarted { .. }
        )
    });
    assert!(!touched, "{}", street.stories());
    street.rests(HOUR);
}

#[test]
fn a_target_that_leaves_the_policy_ends_what_waits_there() {
    let mut street = street(Concurrency::QueueNewest);
    street.apply(|policy| {
        policy.environments.remove(&name("prod"));
    });
    street.ends(&prod(), 300, &[Verdict::Failed]);
    street.rests(HOUR);
}

#[test]
fn gates_that_open_for_nobody_give_up_after_a_while() {
    let mut street = Plan::of(&["api/dev"])
        .policy(|policy| environment_of(policy, "dev").entry.give_up_after = rollout::Seconds(2 * HOUR))
        .build();
    let dev = target("shop/api/dev");
    street.brake(rollout::brake::Scope::Everything, "the database is down");
    street.push("api", 1);
    street.ends(&dev, 3 * HOUR, &[Verdict::Expired]);
    assert!(street.reason(&dev).contains("the database is down"), "{}", street.reason(&dev));
    street.rests(HOUR);
}
