//! Policies and the watches that follow from them.

use super::cases;
use super::samples::{at, name, policy, target};
use engine::{AppliedPolicy, Ledger, LedgerError, WatchedResource};
use futures::future::join_all;
use rollout::{Name, Policy, TargetId, TargetResources};

pub(super) async fn check<L: Ledger>(ledger: &L) {
    cases!(
        ledger,
        an_applied_policy_reads_back_unchanged,
        applying_the_same_text_keeps_the_version,
        watches_follow_the_policy,
        applications_can_watch_the_same_alarm_independently,
        many_watches_are_all_written_and_all_removed,
        concurrent_applies_leave_the_last_policy_complete,
        a_claimed_resource_is_refused_to_other_applications,
        concurrent_claims_of_one_rule_refuse_one_application,
    );
}

async fn watching_targets<L: Ledger>(ledger: &L, watch: WatchedResource) -> Vec<TargetId> {
    let mut targets = ledger.targets_watching(&watch).await.expect("targets");
    targets.sort();
    targets
}

async fn services<L: Ledger>(ledger: &L, repository: &str) -> Vec<(Name, Name)> {
    let mut services = ledger.services(repository).await.expect("services");
    services.sort();
    services
}

fn alarm(text: &str) -> WatchedResource {
    WatchedResource::Alarm(text.to_owned())
}

async fn an_applied_policy_reads_back_unchanged<L: Ledger>(ledger: &L) {
    let application = name("policy-back");
    assert_eq!(ledger.policy(&application).await.expect("an answer"), None);
    let policy = policy("policy-back", &["policy-back 5xx"]);
    let text = "application: policy-back # with ✓ and \"quotes\"\n";
    assert_eq!(ledger.apply(&policy, text, at(1), "ada").await.expect("applied"), 1);
    let applied = AppliedPolicy { version: 1, policy, text: text.to_owned(), at: at(1), by: "ada".to_owned() };
    assert_eq!(ledger.policy(&application).await.expect("an answer"), Some(applied));
    assert!(ledger.applications().await.expect("names").contains(&application));
}

async fn applying_the_same_text_keeps_the_version<L: Ledger>(ledger: &L) {
    let application = name("policy-same");
    let policy = policy("policy-same", &[]);
    assert_eq!(ledger.apply(&policy, "one", at(1), "ada").await.expect("applied"), 1);
    assert_eq!(ledger.apply(&policy, "one", at(2), "bob").await.expect("applied"), 1);
    let present = ledger.policy(&application).await.expect("an answer").expect("a policy");
    assert_eq!((present.at, present.by.as_str()), (at(1), "ada"));
    assert_eq!(ledger.apply(&policy, "two", at(3), "bob").await.expect("applied"), 2);
    // Going back to an earlier text is a new version.
    assert_eq!(ledger.apply(&policy, "one", at(4), "ada").await.expect("applied"), 3);
    let present = ledger.policy(&application).await.expect("an answer").expect("a policy");
    assert_eq!((present.version, present.text.as_str(), present.at), (3, "one", at(4)));
    let names = ledger.applications().await.expect("names");
    assert_eq!(names.iter().filter(|name| **name == application).count(), 1);
}

async fn watches_follow_the_policy<L: Ledger>(ledger: &L) {
    let mut policy = policy("watch-follow", &["watch-follow 5xx", "watch-follow#slow"]);
    let here = target("watch-follow");
    ledger.apply(&policy, "one", at(1), "ada").await.expect("applied");
    assert_eq!(watching_targets(ledger, alarm("watch-follow 5xx")).await, std::slice::from_ref(&here));
    assert_eq!(watching_targets(ledger, alarm("watch-follow#slow")).await, std::slice::from_ref(&here));
    assert_eq!(watching_targets(ledger, alarm("watch-follow")).await, []);
    for side in ["watch-follow-blue", "watch-follow-green"] {
        // The policy names the cluster by ARN; events name it by name.
        let watch = WatchedResource::EcsService("main".to_owned(), side.to_owned());
        assert_eq!(watching_targets(ledger, watch).await, std::slice::from_ref(&here), "{side}");
    }
    assert!(watching_targets(ledger, WatchedResource::Rule("rule/watch-follow".to_owned())).await.contains(&here));
    assert_eq!(services(ledger, "watch-follow/images").await, [(name("watch-follow"), name("api"))]);
    assert_eq!(watching_targets(ledger, WatchedResource::Repository("watch-follow/images".to_owned())).await, []);

    let production = policy.environments.get_mut(&name("production")).expect("an environment");
    let rules = production.targets.get_mut(&name("api")).expect("a target");
    rules.alarms.remove(0);
    crate::pair_of(&mut rules.resources).cluster = "other".to_owned();
    policy.services.get_mut(&name("api")).expect("a service").repository = "watch-follow/other".to_owned();
    ledger.apply(&policy, "two", at(2), "ada").await.expect("applied");
    assert_eq!(watching_targets(ledger, alarm("watch-follow 5xx")).await, []);
    assert_eq!(watching_targets(ledger, alarm("watch-follow#slow")).await, std::slice::from_ref(&here));
    let side = |cluster: &str| WatchedResource::EcsService(cluster.to_owned(), "watch-follow-blue".to_owned());
    assert_eq!(watching_targets(ledger, side("main")).await, []);
    assert_eq!(watching_targets(ledger, side("other")).await, [here]);
    assert_eq!(services(ledger, "watch-follow/images").await, []);
    assert_eq!(services(ledger, "watch-follow/other").await, [(name("watch-follow"), name("api"))]);
}

async fn applications_can_watch_the_same_alarm_independently<L: Ledger>(ledger: &L) {
    let shared = |application: &str, alarms: &[&str]| {
        let mut policy = policy(application, alarms);
        policy.services.get_mut(&name("api")).expect("a service").repository = "watch-shared/images".to_owned();
        policy
    };
    let both = ["watch-shared 5xx"];
    ledger.apply(&shared("watch-shared-a", &both), "one", at(1), "ada").await.expect("applied");
    ledger.apply(&shared("watch-shared-b", &both), "one", at(1), "ada").await.expect("applied");
    let (a, b) = (target("watch-shared-a"), target("watch-shared-b"));
    assert_eq!(watching_targets(ledger, alarm(both[0])).await, [a, b.clone()]);
    let expected = [(name("watch-shared-a"), name("api")), (name("watch-shared-b"), name("api"))];
    assert_eq!(services(ledger, "watch-shared/images").await, expected);

    ledger.apply(&shared("watch-shared-a", &[]), "two", at(2), "ada").await.expect("applied");
    assert_eq!(watching_targets(ledger, alarm(both[0])).await, [b]);
}

async fn many_watches_are_all_written_and_all_removed<L: Ledger>(ledger: &L) {
    let alarms: Vec<String> = (0..130).map(|n| format!("watch-many {n}")).collect();
    let alarms: Vec<&str> = alarms.iter().map(String::as_str).collect();
    let here = target("watch-many");
    ledger.apply(&policy("watch-many", &alarms), "one", at(1), "ada").await.expect("applied");
    for name in &alarms {
        assert_eq!(watching_targets(ledger, alarm(name)).await, std::slice::from_ref(&here), "{name}");
    }
    ledger.apply(&policy("watch-many", &alarms[..1]), "two", at(2), "ada").await.expect("applied");
    assert_eq!(watching_targets(ledger, alarm(alarms[0])).await, [here]);
    for name in &alarms[1..] {
        assert_eq!(watching_targets(ledger, alarm(name)).await, [], "{name}");
    }
}

async fn concurrent_applies_leave_the_last_policy_complete<L: Ledger>(ledger: &L) {
    let here = target("watch-race");
    for round in 0..5 {
        let alarms: Vec<String> = (0..2).map(|n| format!("watch-race {n} of {round}")).collect();
        let policies: Vec<_> = alarms.iter().map(|alarm| policy("watch-race", &[alarm, "watch-race always"])).collect();
        let applying = policies.iter().zip(&alarms).map(|(policy, text)| ledger.apply(policy, text, at(round), "ada"));
        let mut versions: Vec<u64> =
            join_all(applying).await.into_iter().map(|version| version.expect("applied")).collect();
        versions.sort_unstable();
        let before = u64::try_from(round).expect("small") * 2;
        assert_eq!(versions, [before + 1, before + 2]);

        let present = ledger.policy(&name("watch-race")).await.expect("an answer").expect("a policy");
        assert_eq!(present.version, before + 2);
        assert_eq!(watching_targets(ledger, alarm(&present.text)).await, std::slice::from_ref(&here));
        assert_eq!(watching_targets(ledger, alarm("watch-race always")).await, std::slice::from_ref(&here));
    }
}

/// A policy with one thing changed in the resources of its only target.
fn with_resources(application: &str, change: impl FnOnce(&mut TargetResources)) -> Policy {
    let mut policy = policy(application, &[]);
    let production = policy.environments.get_mut(&name("production")).expect("an environment");
    change(&mut production.targets.get_mut(&name("api")).expect("a target").resources);
    policy
}

/// What is refused, as `resource: who has it`.
fn claim_conflicts(answer: Result<u64, LedgerError>) -> Vec<(String, TargetId)> {
    match answer {
        Err(LedgerError::ResourceConflict(all)) => {
            all.into_iter().map(|one| (one.resource.to_string(), one.claimed_by)).collect()
        }
        other => panic!("this should have been refused: {other:?}"),
    }
}

async fn a_claimed_resource_is_refused_to_other_applications<L: Ledger>(ledger: &L) {
    let first = policy("claim-first", &[]);
    ledger.apply(&first, "one", at(1), "ada").await.expect("applied");
    let owner = target("claim-first");
    // The same service, where the cluster is written as a name instead of an ARN; a group; a rule, here as the test rule.
    type Edit = fn(&mut TargetResources);
    let same: [(Edit, &str); 3] = [
        (
            |resources| {
                let pair = crate::pair_of(resources);
                pair.cluster = "main".to_owned();
                pair.green = "claim-first-blue".to_owned();
            },
            "the ECS service `claim-first-blue` of cluster `main`",
        ),
        (
            |resources| resources.traffic[0].blue = "tg/claim-first-green".to_owned(),
            "the target group `tg/claim-first-green`",
        ),
        (
            |resources| resources.traffic[0].test_rule = Some("rule/claim-first".to_owned()),
            "the rule `rule/claim-first`",
        ),
    ];
    for (change, resource) in same {
        let second = with_resources("claim-second", change);
        let refused = claim_conflicts(ledger.apply(&second, "one", at(2), "bob").await);
        assert_eq!(refused, [(resource.to_owned(), owner.clone())]);
        assert_eq!(ledger.policy(&name("claim-second")).await.expect("an answer"), None, "nothing was applied");
    }
    // Its own, once more, and with other rules: nobody else's.
    ledger
        .apply(
            &with_resources("claim-first", |it| crate::pair_of(it).container = "web".to_owned()),
            "two",
            at(3),
            "ada",
        )
        .await
        .expect("applied");

    // What the policy no longer names is free; what was only asked for, and refused, was never taken.
    let second = with_resources("claim-second", |it| it.traffic[0].rules = vec!["rule/claim-first".to_owned()]);
    claim_conflicts(ledger.apply(&second, "two", at(4), "bob").await);
    let moved = with_resources("claim-first", |it| it.traffic[0].rules = vec!["rule/claim-other".to_owned()]);
    ledger.apply(&moved, "three", at(5), "ada").await.expect("applied");
    assert_eq!(ledger.apply(&second, "two", at(6), "bob").await.expect("it is free"), 1);
    let back = claim_conflicts(ledger.apply(&first, "four", at(7), "ada").await);
    assert_eq!(back, [("the rule `rule/claim-first`".to_owned(), target("claim-second"))]);
    let third = with_resources("claim-third", |it| it.traffic[0].green = "tg/claim-second-blue".to_owned());
    claim_conflicts(ledger.apply(&third, "one", at(8), "carol").await);
    let third = policy("claim-third", &[]);
    ledger.apply(&third, "two", at(9), "carol").await.expect("applied");
}

async fn concurrent_claims_of_one_rule_refuse_one_application<L: Ledger>(ledger: &L) {
    for round in 0..5 {
        let rule = format!("rule/claim-race-{round}");
        let names = [format!("claim-race-{round}-a"), format!("claim-race-{round}-b")];
        let policies = names.clone().map(|application| {
            with_resources(&application, |resources| resources.traffic[0].rules = vec![rule.clone()])
        });
        let applying = policies.iter().map(|policy| ledger.apply(policy, "one", at(round), "ada"));
        let (applied, refused): (Vec<_>, Vec<_>) = join_all(applying).await.into_iter().partition(Result::is_ok);
        assert_eq!((applied.len(), refused.len()), (1, 1), "{refused:?}");
        for refused in refused {
            claim_conflicts(refused);
        }
        let mut named = 0;
        for name in &names {
            named += usize::from(ledger.policy(&Name::new(name).expect("a name")).await.expect("an answer").is_some());
        }
        assert_eq!(named, 1);
    }
}
