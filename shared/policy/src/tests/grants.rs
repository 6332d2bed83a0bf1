use super::*;
use crate::parse;

const EXAMPLE: &str = include_str!("../../examples/switchback.yaml");

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

/// Claims of a job that matches the example's first grant.
fn promote_claims() -> Claims {
    let claims = [
        ("repository_id", "123456789"),
        ("repository_owner_id", "987654"),
        ("repository", "shop/shop"),
        ("ref", "refs/heads/main"),
        ("environment", "production"),
        ("workflow_ref", "shop/shop/.github/workflows/promote.yml@refs/heads/main"),
        ("job_workflow_ref", "shop/shop/.github/workflows/promote.yml@refs/heads/main"),
        ("event_name", "workflow_dispatch"),
        ("run_id", "9001"),
        ("run_attempt", "1"),
        ("actor", "ada"),
        ("actor_id", "1234567"),
        ("sha", "4f1c2a9be0d3a76f5c8e1b2d3f405162738495a6"),
    ];
    Claims::of(|claim| claims.iter().find(|(name, _)| *name == claim).map(|(_, text)| *text))
}

fn claims_with(claim: &str, text: &str) -> Claims {
    let mut claims = promote_claims();
    let text = Some(text.to_owned()).filter(|text| !text.is_empty());
    match claim {
        "repository_id" => claims.repository_id = text,
        "repository_owner_id" => claims.repository_owner_id = text,
        "repository" => claims.repository = text,
        "ref" => claims.git_ref = text,
        "environment" => claims.environment = text,
        "workflow_ref" => claims.workflow_ref = text,
        "job_workflow_ref" => claims.job_workflow_ref = text,
        "event_name" => claims.event_name = text,
        other => panic!("no test sets {other}"),
    }
    claims
}

/// The result when a job requests promotion of api to staging.
fn try_promote(policy: &Policy, claims: &Claims) -> Result<(), String> {
    authorize(policy, claims, Permission::Promote, &name("api"), &name("staging")).map_err(|denied| denied.to_string())
}

/// The example with one grant in place of its own; `keys` are its keys beside the repository.
fn one_grant(keys: &str) -> Policy {
    let (before, rest) = EXAMPLE.split_once("\ngithub:").expect("the example has grants");
    let (_, after) = rest.split_once("\nenvironments:").expect("and environments after them");
    let grant = format!("{{repository_id: 123456789, repository_owner_id: '987654', environments: [staging], {keys}}}");
    parse(&format!("{before}\ngithub: [{grant}]\nenvironments:{after}")).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn a_workflow_may_do_only_what_its_grants_allow() {
    let policy = parse(EXAMPLE).expect("sound");
    let (api, site) = (name("api"), name("site"));
    let may = |claims: &Claims, permission, service: &Name, environment: &str| {
        authorize(&policy, claims, permission, service, &name(environment)).map_err(|denied| denied.to_string())
    };
    for (permission, environment) in
        [(Permission::Promote, "staging"), (Permission::Promote, "prod"), (Permission::Hotfix, "prod")]
    {
        assert_eq!(may(&promote_claims(), permission, &api, environment), Ok(()), "{permission:?} to {environment}");
    }
    // The second grant covers any workflow on the main branch, and any service.
    for environment in ["dev", "qa"] {
        assert_eq!(may(&promote_claims(), Permission::Deploy, &site, environment), Ok(()));
    }

    let denied = |permission, service: &Name, environment: &str| {
        may(&promote_claims(), permission, service, environment).expect_err("denied")
    };
    assert_eq!(
        denied(Permission::Deploy, &api, "prod"),
        "github[0]: deploy is nothing that it `may`; github[1]: prod is none of its `environments`"
    );
    assert_eq!(
        denied(Permission::Promote, &site, "prod"),
        "github[0]: site is none of its `services`; github[1]: prod is none of its `environments`"
    );
    assert_eq!(
        denied(Permission::Promote, &api, "dev"),
        "github[0]: dev is none of its `environments`; github[1]: promote is nothing that it `may`"
    );
    assert_eq!(
        denied(Permission::Hotfix, &api, "elsewhere"),
        "github[0]: elsewhere is none of its `environments`; github[1]: elsewhere is none of its `environments`"
    );
}

#[test]
fn any_permission_on_a_target_includes_reading_it() {
    let policy = parse(EXAMPLE).expect("sound");
    let can_read = |claims: &Claims, service: &str, environment: &str| {
        authorize_read(&policy, claims, &name(service), &name(environment)).is_ok()
    };
    assert!(can_read(&promote_claims(), "api", "prod") && can_read(&promote_claims(), "site", "dev"));
    assert!(!can_read(&promote_claims(), "site", "prod"));
    assert!(!can_read(&claims_with("repository_id", "5"), "api", "prod"));
    assert!(!can_read(&claims_with("event_name", "pull_request"), "api", "dev"));
    let other_branch = claims_with("ref", "refs/heads/other");
    assert!(!can_read(&other_branch, "api", "prod") && !can_read(&other_branch, "api", "dev"));
}

/// Claims of another repository, and the numbers of repository and owner that the denial quotes.
const OTHER_REPOSITORIES: &[(&str, &str, &str, &str)] = &[
    // Another repository that has taken over the name, and a repository transferred to another owner.
    ("repository_id", "5550123", "5550123", "987654"),
    ("repository_owner_id", "111", "123456789", "111"),
    // IDs are compared literally.
    ("repository_id", "0123456789", "0123456789", "987654"),
    ("repository_id", "123456789 ", "123456789 ", "987654"),
    ("repository_id", "[123456789]", "[123456789]", "987654"),
    ("repository_id", "*", "*", "987654"),
];

/// A claim that does not fit the grant of [`production_grant`], and the denial.
const MISMATCHES: &[(&str, &str, &str)] = &[
    ("repository_id", "", "the token has no claim `repository_id`"),
    ("repository_owner_id", "", "the token has no claim `repository_owner_id`"),
    // Pull requests, from forks and others.
    ("event_name", "pull_request", "pull requests are never granted anything (event pull_request, refs/heads/main)"),
    (
        "event_name",
        "pull_request_target",
        "pull requests are never granted anything (event pull_request_target, refs/heads/main)",
    ),
    (
        "ref",
        "refs/pull/1/merge",
        "pull requests are never granted anything (event workflow_dispatch, refs/pull/1/merge)",
    ),
    ("ref", "", "the token has no claim `ref`"),
    ("ref", "refs/heads/other", "github[0]: refs/heads/other fits none of its `refs`"),
    ("ref", "refs/heads/main2", "github[0]: refs/heads/main2 fits none of its `refs`"),
    ("ref", "refs/heads/x/refs/heads/main", "github[0]: refs/heads/x/refs/heads/main fits none of its `refs`"),
    ("ref", "refs/heads/MAIN", "github[0]: refs/heads/MAIN fits none of its `refs`"),
    ("ref", "main", "github[0]: main fits none of its `refs`"),
    ("ref", "refs/tags/1.0", "github[0]: refs/tags/1.0 fits none of its `refs`"),
    ("ref", "refs/tags/v1/evil", "github[0]: refs/tags/v1/evil fits none of its `refs`"),
    ("ref", "refs/tags/main", "github[0]: refs/tags/main fits none of its `refs`"),
    ("event_name", "", "the token has no claim `event_name`"),
    ("event_name", "schedule", "github[0]: the event schedule is none of its `events`"),
    ("event_name", "Push", "github[0]: the event Push is none of its `events`"),
    ("environment", "", "github[0]: the job has no GitHub environment, and production is needed"),
    // A file of another repository at the same path, and the same file on another branch.
    (
        "workflow_ref",
        "shop/rules/.github/workflows/promote.yml@refs/heads/main",
        "github[0]: the workflow .github/workflows/promote.yml is of shop/rules, not of shop/shop",
    ),
    (
        "workflow_ref",
        "shop/shop/.github/workflows/promote.yml@refs/heads/mine",
        "github[0]: the workflow's ref refs/heads/mine fits none of its `refs`",
    ),
    ("environment", "staging", "github[0]: the job's GitHub environment is staging, not production"),
    ("environment", "production2", "github[0]: the job's GitHub environment is production2, not production"),
    ("workflow_ref", "", "github[0]: the token has no claim `workflow_ref`, and `workflows` are named"),
    (
        "workflow_ref",
        "shop/shop/.github/workflows/other.yml@refs/heads/main",
        "github[0]: the workflow .github/workflows/other.yml fits none of its `workflows`",
    ),
    (
        "workflow_ref",
        "shop/shop/.github/workflows/promote.yml@x.yml@refs/heads/main",
        "github[0]: the workflow .github/workflows/promote.yml@x.yml fits none of its `workflows`",
    ),
    (
        "workflow_ref",
        "shop/shop/.github/workflows/evil.yml@refs/heads/.github/workflows/promote.yml@refs/heads/main",
        "github[0]: the workflow .github/workflows/evil.yml fits none of its `workflows`",
    ),
    (
        "workflow_ref",
        "shop/shop/evil/.github/workflows/promote.yml@refs/heads/main",
        "github[0]: `shop/shop/evil/.github/workflows/promote.yml@refs/heads/main` names no workflow",
    ),
    (
        "workflow_ref",
        ".github/workflows/promote.yml@refs/heads/main",
        "github[0]: `.github/workflows/promote.yml@refs/heads/main` names no workflow",
    ),
    (
        "workflow_ref",
        "shop/shop/.github/workflows/promote.yml",
        "github[0]: `shop/shop/.github/workflows/promote.yml` names no workflow",
    ),
];

/// A grant that names everything that it can.
fn production_grant() -> Policy {
    one_grant(
        "refs: [refs/heads/main, 'refs/tags/v*'], environment: production, events: [push, workflow_dispatch], \
         workflows: [.github/workflows/promote.yml], may: [promote]",
    )
}

#[test]
fn mismatched_claims_are_denied_with_a_reason_for_operators() {
    let policy = production_grant();
    let denial = |claim: &str, text: &str| try_promote(&policy, &claims_with(claim, text)).expect_err(claim);
    for (claim, text, repository, owner) in OTHER_REPOSITORIES {
        let expected = format!(
            "no grant is for repository {repository} of owner {owner}, which calls itself shop/shop: numbers are compared, \
             names are not"
        );
        assert_eq!(denial(claim, text), expected, "{claim} = {text:?}");
    }
    for (claim, text, expected) in MISMATCHES {
        assert_eq!(denial(claim, text), *expected, "{claim} = {text:?}");
    }
    // The token of a job that another repository's reusable workflow defines names the caller's workflow in `workflow_ref`.
    let elsewhere = Claims {
        workflow_ref: Some("shop/shop/.github/workflows/other.yml@refs/heads/main".to_owned()),
        job_workflow_ref: Some("shop/shop/.github/workflows/promote.yml@refs/heads/main".to_owned()),
        ..promote_claims()
    };
    assert!(try_promote(&policy, &elsewhere).is_err());
    assert_eq!(try_promote(&policy, &Claims::default()), Err("the token has no claim `repository_id`".to_owned()));
}

#[test]
fn matching_claims_are_authorized() {
    let policy = production_grant();
    assert_eq!(try_promote(&policy, &promote_claims()), Ok(()));
    for tag in ["refs/tags/v1", "refs/tags/v1.2.3-rc.1"] {
        let mut claims = claims_with("ref", tag);
        claims.workflow_ref = Some(format!("shop/shop/.github/workflows/promote.yml@{tag}"));
        assert_eq!(try_promote(&policy, &claims), Ok(()), "{tag}");
    }
    // A renamed repository keeps its ID.
    let renamed = Claims {
        repository: Some("store/store".to_owned()),
        workflow_ref: Some("store/store/.github/workflows/promote.yml@refs/heads/main".to_owned()),
        ..promote_claims()
    };
    assert_eq!(try_promote(&policy, &renamed), Ok(()));
}

#[test]
fn a_grant_without_events_allows_only_events_of_writers() {
    let policy = one_grant("");
    for event in DEFAULT_EVENTS {
        assert_eq!(try_promote(&policy, &claims_with("event_name", event)), Ok(()), "{event}");
    }
    for event in [
        "workflow_run",
        "issue_comment",
        "issues",
        "fork",
        "watch",
        "discussion",
        "discussion_comment",
        "pull_request_review",
        "pull_request_review_comment",
        "gollum",
        "merge_group",
        "an_event_of_tomorrow",
    ] {
        let denial = try_promote(&policy, &claims_with("event_name", event)).expect_err(event);
        assert_eq!(denial, format!("github[0]: the event {event} is one that has to be named"));
        assert_eq!(
            try_promote(&one_grant(&format!("events: [{event}]")), &claims_with("event_name", event)),
            Ok(()),
            "named: {event}"
        );
    }
    for event in FORBIDDEN_EVENTS {
        assert!(try_promote(&policy, &claims_with("event_name", event)).is_err());
    }
    // Without `refs`, `environment` and `workflows`, any values of these claims match.
    for (claim, text) in [("ref", "refs/heads/x"), ("ref", "refs/tags/x"), ("environment", ""), ("workflow_ref", "")] {
        assert_eq!(try_promote(&policy, &claims_with(claim, text)), Ok(()), "{claim} = {text:?}");
    }
    assert!(try_promote(&policy, &claims_with("ref", "refs/pull/7/head")).is_err());
    // The file's reader rejects it, but a ledger might hold it: pull requests are denied all the same.
    let mut stored = policy;
    stored.grants[0].events = FORBIDDEN_EVENTS.map(str::to_owned).to_vec();
    stored.grants[0].refs = vec!["**".to_owned()];
    assert!(try_promote(&stored, &claims_with("event_name", "pull_request")).is_err());
    assert!(try_promote(&stored, &claims_with("ref", "refs/pull/7/merge")).is_err());
}

/// GitHub Docs, "Managing environments for deployment": "Environment names are not case sensitive."
#[test]
fn github_environment_names_are_case_insensitive() {
    for (granted, claimed) in [("Production", "production"), ("production", "PRODUCTION"), ("Größe", "größe")] {
        let fits = try_promote(&one_grant(&format!("environment: {granted}")), &claims_with("environment", claimed));
        assert_eq!(fits, Ok(()), "{granted} and {claimed}");
    }
}

/// GitHub Docs, "Managing a merge queue": the queue tests pull requests, which are not merged, on branches
/// `gh-readonly-queue/BASE/…`. A push there is an event `push`, like one on any branch.
#[test]
fn a_merge_queue_branch_needs_an_explicit_pattern() {
    let queue = "refs/heads/gh-readonly-queue/main/pr-7-4f1c2a9be0d3a76f5c8e1b2d3f405162738495a6";
    let mut claims = claims_with("ref", queue);
    claims.event_name = Some("push".to_owned());
    claims.workflow_ref = Some(format!("shop/shop/.github/workflows/promote.yml@{queue}"));
    for keys in
        ["", "refs: ['refs/heads/**']", "refs: [refs/heads/main, 'refs/heads/gh-*/**']", "environment: production"]
    {
        let denial = try_promote(&one_grant(keys), &claims).expect_err(keys);
        assert!(denial.contains("is of a merge queue") || denial.contains("environment"), "{keys}: {denial}");
    }
    assert_eq!(try_promote(&one_grant("refs: ['refs/heads/gh-readonly-queue/main/*']"), &claims), Ok(()));
    assert!(try_promote(&one_grant("refs: ['refs/heads/gh-readonly-queue/release/*']"), &claims).is_err());
    // Nor may the workflow's file come from such a branch.
    let mut claims = promote_claims();
    claims.workflow_ref = Some(format!("shop/shop/.github/workflows/promote.yml@{queue}"));
    assert!(try_promote(&one_grant("workflows: [.github/workflows/promote.yml]"), &claims).is_err());
}

/// GitHub Docs, "OpenID Connect reference": `job_workflow_ref` is the ref path to the reusable workflow of the job. A job
/// without one has its own workflow there.
#[test]
fn a_grant_can_require_a_reusable_workflow() {
    let deploy = "shop/ci/.github/workflows/deploy.yml";
    let policy = one_grant(&format!("reusable_workflows: ['{deploy}@refs/tags/v*', '{deploy}@{}']", "4f".repeat(20)));
    for workflow in [
        format!("{deploy}@refs/tags/v2"),
        format!("{deploy}@{}", "4f".repeat(20)),
        "Shop/CI/.github/workflows/deploy.yml@refs/tags/v2".to_owned(),
    ] {
        assert_eq!(try_promote(&policy, &claims_with("job_workflow_ref", &workflow)), Ok(()), "{workflow}");
    }
    for workflow in [
        String::new(),
        "shop/shop/.github/workflows/promote.yml@refs/heads/main".to_owned(),
        format!("{deploy}@refs/heads/v2"),
        format!("{deploy}@refs/tags/v2/mine"),
        format!("{deploy}@{}", "5f".repeat(20)),
        deploy.to_owned(),
        "evil/ci/.github/workflows/deploy.yml@refs/tags/v2".to_owned(),
        "evil/shop/ci/.github/workflows/deploy.yml@refs/tags/v2".to_owned(),
        "shop/ci/.github/workflows/DEPLOY.yml@refs/tags/v2".to_owned(),
        format!("shop/ci/.github/workflows/evil.yml@refs/heads/{deploy}@refs/tags/v2"),
    ] {
        let denial = try_promote(&policy, &claims_with("job_workflow_ref", &workflow)).expect_err(&workflow);
        assert!(denial.contains("`reusable_workflows`"), "{workflow}: {denial}");
    }
}

#[test]
fn a_single_star_stops_at_a_slash() {
    for (pattern, git_ref, fits) in [
        ("refs/heads/release-*", "refs/heads/release-1", true),
        ("refs/heads/release-*", "refs/heads/release-1/mine", false),
        ("refs/heads/*", "refs/heads/a/b", false),
        ("refs/heads/**", "refs/heads/a/b", true),
        ("refs/heads/**", "refs/tags/a", false),
        ("refs/heads/**", "refs/pull/1/merge", false),
        ("refs/tags/v[0-9]*", "refs/tags/v1", true),
        ("refs/tags/v[0-9]*", "refs/tags/vx", false),
        ("refs/heads/?", "refs/heads//", false),
        ("refs/heads/{main,trunk}", "refs/heads/trunk", true),
        ("refs/heads/a.b", "refs/heads/aXb", false),
    ] {
        let policy = one_grant(&format!("refs: ['{pattern}']"));
        assert_eq!(try_promote(&policy, &claims_with("ref", git_ref)).is_ok(), fits, "{pattern} and {git_ref}");
    }
}

#[test]
fn grants_are_not_combined() {
    let mut policy = one_grant("refs: [refs/heads/main], may: [deploy]");
    let other = one_grant("refs: [refs/heads/other], may: [promote]");
    policy.grants.extend(other.grants);
    // The branch of one grant and the permission of another do not combine.
    assert_eq!(
        try_promote(&policy, &promote_claims()),
        Err("github[0]: promote is nothing that it `may`; github[1]: refs/heads/main fits none of its `refs`"
            .to_owned())
    );
    assert_eq!(try_promote(&policy, &claims_with("ref", "refs/heads/other")), Ok(()));
    policy.grants.clear();
    assert!(
        try_promote(&policy, &promote_claims())
            .expect_err("no grants")
            .starts_with("no grant is for repository 123456789")
    );
}

#[test]
fn untrusted_claims_stay_one_short_log_line() {
    let policy = one_grant("");
    let long = format!("{}\n2026-01-01 forged line", "x".repeat(500));
    for claim in ["repository_id", "repository_owner_id", "repository", "event_name", "ref"] {
        let mut claims = claims_with(claim, &long);
        if claim == "repository" {
            claims.repository_id = Some("1".to_owned());
        }
        if claim == "ref" {
            claims.git_ref = Some(format!("refs/pull/{long}"));
        }
        let denial = try_promote(&policy, &claims).expect_err(claim);
        assert!(denial.len() < 400 && !denial.contains('\n'), "{claim}: {denial}");
    }
}

#[test]
fn claims_deserialize_by_their_token_names() {
    let text = r#"{"ref": "refs/heads/main", "repository_id": "1", "sub": "repo:a/b:ref:refs/heads/main", "aud": "x"}"#;
    let claims: Claims = serde_json::from_str(text).expect("claims that are not known here are left alone");
    assert_eq!(claims.git_ref.as_deref(), Some("refs/heads/main"));
    assert_eq!((claims.repository_id.as_deref(), claims.environment.as_deref()), (Some("1"), None));
    assert_eq!(Claims::of(|_| Some("")), Claims::default(), "an empty claim is none");
}
