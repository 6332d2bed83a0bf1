//! Workflows at the door: what the gateway turns away, and what the policy does not grant.

use super::shop::{OWNER_ID, REPOSITORY_ID, Shop, now_s, ok, refusals, refused, status};
use rollout::Verdict;
use serde_json::json;
use std::time::Duration;
use tests::harness::issuer::{Flaw, GithubJob, Issuer};
use tests::harness::scenario::good;
use tests::harness::{AUDIENCE, stack};

pub(crate) fn the_gateway_rejects_invalid_tokens() {
    let shop = Shop::with_staging("door");
    let (job, body) = (shop.job(), shop.promotion("v1"));
    let assert_unauthorized = |token: Option<&str>, what: &str| {
        let answer = shop.post(token, &body);
        assert_eq!((answer.status, answer.json()), (401, json!({"message": "Unauthorized"})), "{what}");
    };
    assert_unauthorized(None, "no token");
    assert_unauthorized(Some("none"), "no token at all");
    for flaw in Flaw::ALL {
        assert_unauthorized(Some(&stack().issuer().bad_token(&job, AUDIENCE, flaw)), &format!("{flaw:?}"));
    }
    let another = ok(Issuer::start());
    assert_unauthorized(Some(&another.token(&job, AUDIENCE)), "an issuer of somebody's own");
    let staging = &shop.environments[1];
    assert_eq!(status(staging).commands, [], "nothing was asked");
    assert_eq!(status(staging).state.last_entry, 0, "and a journal that strangers can fill is none");
}

pub(crate) fn an_ungranted_request_gets_a_generic_403() {
    let shop = Shop::with_staging("grants");
    let staging = &shop.environments[1];
    let not_allowed = |job: &GithubJob, body: &serde_json::Value, what: &str| {
        let answer = shop.post_as(job, body);
        assert_eq!(answer.status, 403, "{what}: {}", answer.body);
        answer.json()
    };
    let job = shop.job();
    let body = shop.promotion("v1");
    let named_alike = GithubJob::of(&job.repository, REPOSITORY_ID + 1, OWNER_ID + 1);
    let named_alike = GithubJob { environment: job.environment.clone(), ..named_alike };
    let said = not_allowed(&named_alike, &body, "another repository of the same name");
    assert_eq!(said["error"]["code"], "not_allowed");
    assert!(!said.to_string().contains("repository"), "it says nothing of why: {said}");
    let others = [
        ("the name's next owner", GithubJob { owner_id: OWNER_ID + 1, ..job.clone() }),
        (
            "a fork's pull request",
            GithubJob { event: "pull_request".into(), git_ref: "refs/pull/7/merge".into(), ..job.clone() },
        ),
        ("a pull request with the base's rights", GithubJob { event: "pull_request_target".into(), ..job.clone() }),
        ("another branch", GithubJob { git_ref: "refs/heads/mine".into(), ..job.clone() }),
        ("no GitHub environment", GithubJob { environment: None, ..job.clone() }),
        ("another workflow", GithubJob { workflow: ".github/workflows/other.yaml".into(), ..job.clone() }),
        ("an event that is not granted", GithubJob { event: "schedule".into(), ..job.clone() }),
    ];
    for (what, job) in &others {
        assert_eq!(not_allowed(job, &body, what), said, "{what}");
    }
    for (what, change) in [
        ("an application that there is not", json!({"application": "nowhere"})),
        ("an environment that the grant does not name", json!({"environment": "dev"})),
        ("a right that the grant does not give", json!({"kind": "deploy"})),
        ("a hotfix", json!({"kind": "hotfix", "reason": "now"})),
    ] {
        let mut body = body.clone();
        change.as_object().into_iter().flatten().for_each(|(name, value)| body[name] = value.clone());
        assert_eq!(not_allowed(&job, &body, what), said, "{what}");
    }
    let refused_commands = refused(staging, 3);
    assert!(
        refused_commands.iter().all(|(asked, _)| ["promote", "deploy", "hotfix"].contains(&asked.as_str())),
        "{refused_commands:?}"
    );
    assert!(
        refused_commands.len() < others.len() + 3,
        "refusals of unknown callers do not fill the journal: {refused_commands:?}"
    );
    assert_eq!(status(staging).state.last_deployment, 0);
    let log = ok(stack().function_log("promotions"));
    assert!(log.contains("refs/heads/mine"), "the log says what the answer does not");
}

pub(crate) fn repeated_requests_promote_once_and_old_tokens_never() {
    let shop = Shop::with_staging("again");
    let [dev, staging] = shop.environments.as_slice() else { panic!("two environments") };
    let digest = dev.push("v1", good());
    assert_eq!(dev.verdict(1).verdict, Some(Verdict::Succeeded));
    let (job, body) = (shop.job(), shop.promotion("v1"));

    // Taken from somewhere, three minutes later: GitHub would still call it valid.
    let kept = json!({"iat": now_s() - 180, "exp": now_s() + 120});
    let kept = stack().issuer().token_with(&job, AUDIENCE, &kept);
    assert_eq!(shop.post(Some(&kept), &body).status, 403);
    assert!(refused(staging, 1)[0].1.contains("not issued just now"), "{:?}", refusals(&staging.journal()));

    let token = stack().issuer().token(&job, AUDIENCE);
    let first = shop.post(Some(&token), &body);
    assert_eq!(first.status, 200, "{}", first.body);
    assert_eq!(first.json().pointer("/asked/0/new"), Some(&json!(true)), "{}", first.body);
    // The same token again, and the same run run again.
    let rerun = GithubJob { run_attempt: 2, ..job };
    for answer in [shop.post(Some(&token), &body), shop.post_as(&rerun, &body)] {
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_ne!(answer.json().pointer("/asked/0/new"), Some(&json!(true)), "{}", answer.body);
    }
    assert_eq!(staging.verdict(1).verdict, Some(Verdict::Succeeded));
    assert_eq!(shop.post_as(&rerun, &shop.promotion(&digest)).status, 200, "by its digest it is the same");
    staging.wait_until_quiet_for(Duration::from_secs(2));
    assert_eq!(ok(staging.operations().history()).len(), 1);
}
