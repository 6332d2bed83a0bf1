//! Release trains: several services as one set, each after those that it depends on, and back together where the policy
//! says so.

use crate::street::{HOUR, Plan, Street, carol, name, target};
use rollout::journal::Fact;
use rollout::stage::{Cause, Verdict};
use rollout::{Instruction, Lane, Overrides, Seconds, TargetId, Terms, Train};
use simulation::virtual_time::Started;
use simulation::world::{ImageBehaviour, scene};

fn targets() -> [TargetId; 2] {
    [target("shop/api/prod"), target("shop/web/prod")]
}

/// `web` depends on `api`; v1 of both is stable, v101 of api and v201 of web come as a train.
fn street(keep_warm: u64, together: bool) -> Street {
    let mut street = Plan::of(&["api/prod", "web/prod"])
        .scenes(move |scene| scene.strategy.keep_warm = Seconds(keep_warm))
        .policy(move |policy| {
            policy.services.get_mut(&name("web")).expect("a service").depends_on = vec![name("api")];
            crate::street::environment_of(policy, "prod").entry.train_goes_back_together = together;
        })
        .build();
    for target in &targets() {
        street.simulation.push_of(&target.service, 1, Started::Event);
    }
    for target in &targets() {
        street.ends(target, HOUR, &[Verdict::Succeeded]);
    }
    street.rests(HOUR);
    for (service, number) in [("api", 101), ("web", 201)] {
        street.simulation.push_of(&name(service), number, Started::Silent);
    }
    street
}

fn asks_for_the_train(street: &mut Street, together: bool) {
    let members = [("api", 101), ("web", 201)];
    let train = Train {
        id: "train-1".to_owned(),
        members: members.into_iter().map(|(service, number)| (name(service), scene::digest_of(number))).collect(),
        together,
    };
    // The one that waits is asked first: what is asked for later may still go before it.
    for (service, number) in members.into_iter().rev() {
        let terms = Terms { train: Some(train.clone()), lane: Lane::Asked, ..Terms::default() };
        let deploy = street.simulation.deploy(&name(service), number, Overrides::default(), terms);
        let target = target(&format!("shop/{service}/prod"));
        street.ask(&target, deploy, carol(), "the new cart");
    }
}

#[test]
fn a_train_goes_in_the_order_of_its_services() {
    let mut street = street(20, true);
    let [api, web] = targets();
    asks_for_the_train(&mut street, true);
    street.until(120, "web waits for api", |street| street.waits_at(&web) == ["train"]);
    street.ends(&api, HOUR, &[Verdict::Succeeded; 2]);
    street.ends(&web, HOUR, &[Verdict::Succeeded; 2]);
    let verified = street.when(&api, |fact| matches!(fact, Fact::Verified { tag, .. } if tag == "v101"));
    let began = street.when(
        &web,
        |fact| matches!(fact, Fact::StageEntered { stage, detail } if stage == "preflight" && !detail.is_empty()),
    );
    assert!(began >= verified, "{began} {verified}{}", street.stories());
    assert!(Seconds::between(verified, began).0 <= 10, "whoever waits for it is woken{}", street.stories());
    street.rests(HOUR);
    assert_eq!((street.stable(&api).as_deref(), street.stable(&web).as_deref()), (Some("v101"), Some("v201")));
    assert_eq!(street.lost(), 0.0);
}

#[test]
fn a_member_that_does_not_make_it_keeps_those_after_it_from_beginning() {
    for together in [false, true] {
        let mut street = street(20, together);
        let [api, web] = targets();
        street.set_image(101, ImageBehaviour::failing(0.5));
        asks_for_the_train(&mut street, together);
        street.ends(&api, HOUR, &[Verdict::Succeeded, Verdict::RolledBack]);
        street.ends(&web, 120, &[Verdict::Succeeded, Verdict::Failed]);
        assert!(street.reason(&web).contains("api"), "{}", street.reason(&web));
        let moved = |fact: &Fact| matches!(fact, Fact::WeightsDecided { .. });
        let of_the_first =
            street.journal(&web).into_iter().filter(|entry| entry.deployment == Some(2) && moved(&entry.fact));
        assert_eq!(of_the_first.count(), 0, "{}", street.stories());
        street.rests(HOUR);
        assert_eq!((street.stable(&api).as_deref(), street.stable(&web).as_deref()), (Some("v1"), Some("v1")));
    }
}

#[test]
fn a_train_goes_back_together_where_the_policy_says_so() {
    // With the old side of api warm still, and long after it was taken down.
    for keep_warm in [1_800, 20] {
        let mut street = street(keep_warm, true);
        let [api, web] = targets();
        street.set_image(201, ImageBehaviour::failing(0.5));
        asks_for_the_train(&mut street, true);
        street.ends(&web, 2 * HOUR, &[Verdict::Succeeded, Verdict::RolledBack]);
        street.until(HOUR, "api has gone back, too", |street| {
            street.state(&api).running.is_none() && street.stable(&api).as_deref() == Some("v1")
        });
        street.rests(2 * HOUR);
        assert_eq!(street.stable(&web).as_deref(), Some("v1"));
        let state = street.state(&api);
        assert!(state.verified_since(&scene::digest_of(101)).is_none(), "v101 is verified no more{}", street.stories());
        assert_eq!(street.lost(), 0.0, "{}", street.stories());
        // Each went back once: telling each other does not go round in circles.
        let back = |fact: &Fact| matches!(fact, Fact::RollbackStarted { .. });
        assert_eq!(street.count(&web, back), 1, "{}", street.stories());
        let verdicts = street.verdicts(&api);
        let warm = [Verdict::Succeeded, Verdict::RolledBack];
        let cold = [Verdict::Succeeded, Verdict::Succeeded, Verdict::Succeeded];
        assert_eq!(verdicts, if keep_warm > 1_000 { warm.to_vec() } else { cold.to_vec() }, "{}", street.stories());
        if keep_warm > 1_000 {
            let cause = |fact: &Fact| matches!(fact, Fact::RollbackStarted { cause: Cause::Train { service, .. } } if *service == name("web"));
            assert!(street.has(&api, cause), "{}", street.stories());
        }
    }
}

#[test]
fn a_train_whose_members_go_back_alone_keeps_what_went_through() {
    let mut street = street(20, false);
    let [api, web] = targets();
    street.set_image(201, ImageBehaviour::failing(0.5));
    asks_for_the_train(&mut street, false);
    street.ends(&web, 2 * HOUR, &[Verdict::Succeeded, Verdict::RolledBack]);
    street.rests(HOUR);
    assert_eq!((street.stable(&api).as_deref(), street.stable(&web).as_deref()), (Some("v101"), Some("v1")));
}

#[test]
fn a_rollback_of_one_member_takes_the_whole_train_back() {
    let mut street = street(20, true);
    let [api, web] = targets();
    asks_for_the_train(&mut street, true);
    street.ends(&web, 2 * HOUR, &[Verdict::Succeeded; 2]);
    street.rests(HOUR);
    street.ask(&web, Instruction::Rollback, carol(), "the cart is empty");
    street.ends(&web, HOUR, &[Verdict::Succeeded; 3]);
    street.ends(&api, HOUR, &[Verdict::Succeeded; 3]);
    street.rests(HOUR);
    assert_eq!((street.stable(&api).as_deref(), street.stable(&web).as_deref()), (Some("v1"), Some("v1")));
    // What comes after it is no part of that train: a release of its own is left alone.
    street.push("api", 102);
    street.ends(&api, HOUR, &[Verdict::Succeeded; 4]);
    street.rests(HOUR);
    assert_eq!(street.stable(&api).as_deref(), Some("v102"));
}

#[test]
fn a_member_that_was_replaced_meanwhile_is_left_alone() {
    let mut street = street(20, true);
    let [api, web] = targets();
    asks_for_the_train(&mut street, true);
    street.ends(&web, 2 * HOUR, &[Verdict::Succeeded; 2]);
    street.rests(HOUR);
    street.push("api", 102);
    street.ends(&api, HOUR, &[Verdict::Succeeded; 3]);
    street.rests(HOUR);
    street.ask(&web, Instruction::Rollback, carol(), "the cart is empty");
    street.ends(&web, HOUR, &[Verdict::Succeeded; 3]);
    street.rests(HOUR);
    assert_eq!(street.stable(&api).as_deref(), Some("v102"), "{}", street.stories());
}

#[test]
fn a_member_that_runs_its_release_already_keeps_nobody_waiting() {
    let mut street = street(20, true);
    let [api, web] = targets();
    street.deploy(&api, 101, Terms::default());
    street.ends(&api, HOUR, &[Verdict::Succeeded; 2]);
    street.rests(HOUR);
    asks_for_the_train(&mut street, true);
    street.ends(&web, HOUR, &[Verdict::Succeeded; 2]);
    street.rests(HOUR);
    assert_eq!((street.stable(&api).as_deref(), street.stable(&web).as_deref()), (Some("v101"), Some("v201")));
}

#[test]
fn a_member_that_gives_way_at_its_gates_stops_the_train() {
    let mut street = street(20, true);
    let [api, web] = targets();
    let shop = rollout::brake::Scope::Application { application: name("shop") };
    street.brake(shop.clone(), "the audit");
    asks_for_the_train(&mut street, true);
    street.until(120, "api waits", |street| street.waits_at(&api) == ["freeze"]);
    street.push("api", 102);
    street.ends(&api, 300, &[Verdict::Succeeded, Verdict::Superseded]);
    street.ends(&web, 300, &[Verdict::Succeeded, Verdict::Failed]);
    street.lift(&shop);
    street.ends(&api, HOUR, &[Verdict::Succeeded, Verdict::Superseded, Verdict::Succeeded]);
    street.rests(HOUR);
    assert_eq!((street.stable(&api).as_deref(), street.stable(&web).as_deref()), (Some("v102"), Some("v1")));
}

#[test]
fn a_member_that_is_refused_stops_the_train() {
    let mut street = street(20, true);
    let [api, web] = targets();
    street.apply(|policy| {
        crate::street::environment_of(policy, "prod").concurrency = rollout::policy::Concurrency::Reject;
    });
    street.push("api", 2);
    street.until(HOUR, "v2 is on its way", |street| street.weights(&api) != (0, 100));
    asks_for_the_train(&mut street, true);
    street.until(300, "api has refused it", |street| !street.refused(&api).is_empty());
    street.ends(&web, 300, &[Verdict::Succeeded, Verdict::Failed]);
    assert_eq!(street.stable(&web).as_deref(), Some("v1"));
}

#[test]
fn a_member_that_gives_way_in_the_queue_stops_the_train() {
    let mut street = street(20, true);
    let [api, web] = targets();
    street.push("api", 2);
    street.until(HOUR, "v2 is on its way", |street| street.state(&api).running.is_some());
    street.until(HOUR, "v2 has traffic", |street| street.weights(&api).0 > 0);
    asks_for_the_train(&mut street, true);
    street.until(120, "api's member is queued", |street| {
        street.state(&api).queued.iter().any(|queued| queued.release.tag == "v101")
    });
    street.push("api", 102);
    street.until(120, "it gives way", |street| {
        street.state(&api).queued.iter().all(|queued| queued.release.tag == "v102")
    });
    street.ends(&web, 300, &[Verdict::Succeeded, Verdict::Failed]);
    street.until(HOUR, "api is at v102", |street| street.stable(&api).as_deref() == Some("v102"));
    street.rests(HOUR);
}
