use super::*;
use crate::parse;

const EXAMPLE: &str = include_str!("../../examples/switchback.yaml");

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

/// The claims of a job that the example's first grant is for.
fn promote() -> Claims {
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

fn set(claim: &str, text: &str) -> Claims {
    let mut claims = promote();
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

/// What is answered when a job asks to promote api to staging.
fn asked(policy: &Policy, claims: &Claims) -> Result<(), String> {
    allowed(policy, claims, Deed::Promote, &name("api"), &name("staging")).map_err(|denied| denied.to_string())
}

/// The example with one grant instead of its own; `keys` are what it says beside the repository.
fn one_grant(keys: &str) -> Policy {
    let (before, rest) = EXAMPLE.split_once("\ngithub:").expect("the example has grants");
    let (_, after) = rest.split_once("\nenvironments:").expect("and environments after them");
    let grant = format!("{{repository_id: 123456789, repository_owner_id: '987654', environments: [staging], {keys}}}");
    parse(&format!("{before}\ngithub: [{grant}]\nenvironments:{after}")).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn a_workflow_may_do_what_a_grant_says_and_nothing_beside() {
    let policy = parse(EXAMPLE).expect("sound");
    let (api, site) = (name("api"), name("site"));
    let may = |claims: &Claims, deed, service: &Name, environment: &str| {
        allowed(&policy, claims, deed, service, &name(environment)).map_err(|denied| denied.to_string())
    };
    for (deed, environment) in [(Deed::Promote, "staging"), (Deed::Promote, "prod"), (Deed::Hotfix, "prod")] {
        assert_eq!(may(&promote(), deed, &api, environment), Ok(()), "{deed:?} to {environment}");
    }
    // The second grant is for any workflow of the main branch, and any service.
    for environment in ["dev", "qa"] {
        assert_eq!(may(&promote(), Deed::Deploy, &site, environment), Ok(()));
    }

    let denied =
        |deed, service: &Name, environment: &str| may(&promote(), deed, service, environment).expect_err("denied");
    assert_eq!(
        denied(Deed::Deploy, &api, "prod"),
        "github[0]: deploy is nothing that it `may`; github[1]: prod is none of its `environments`"
    );
    assert_eq!(
        denied(Deed::Promote, &site, "prod"),
        "github[0]: site is none of its `services`; github[1]: prod is none of its `environments`"
    );
    assert_eq!(
        denied(Deed::Promote, &api, "dev"),
        "github[0]: dev is none of its `environments`; github[1]: promote is nothing that it `may`"
    );
    assert_eq!(
        denied(Deed::Hotfix, &api, "elsewhere"),
        "github[0]: elsewhere is none of its `environments`; github[1]: elsewhere is none of its `environments`"
    );
}

#[test]
fn who_may_do_anything_somewhere_may_see_it_there() {
    let policy = parse(EXAMPLE).expect("sound");
    let sees = |claims: &Claims, service: &str, environment: &str| {
        may_see(&policy, claims, &name(service), &name(environment)).is_ok()
    };
    assert!(sees(&promote(), "api", "prod") && sees(&promote(), "site", "dev"));
    assert!(!sees(&promote(), "site", "prod"));
    assert!(!sees(&set("repository_id", "5"), "api", "prod"));
    assert!(!sees(&set("event_name", "pull_request"), "api", "dev"));
    let other_branch = set("ref", "refs/heads/other");
    assert!(!sees(&other_branch, "api", "prod") && !sees(&other_branch, "api", "dev"));
}

#[test]
fn claims_that_do_not_fit_are_denied_and_operators_learn_why() {
    let keys = "refs: [refs/heads/main, 'refs/tags/v*'], environment: production, events: [push, workflow_dispatch], \
                workflows: [.github/workflows/promote.yml], may: [promote]";
    let policy = one_grant(keys);
    assert_eq!(asked(&policy, &promote()), Ok(()));
    let stranger = |id: &str, owner: &str| {
        format!(
            "no grant is for repository {id} of owner {owner}, which calls itself shop/shop: numbers are compared, names \
             are not"
        )
    };
    let table: &[(&str, &str, &str)] = &[
        // Another repository that has the name now, and one that was handed to another owner.
        ("repository_id", "5550123", &stranger("5550123", "987654")),
        ("repository_owner_id", "111", &stranger("123456789", "111")),
        // Numbers are compared as they are.
        ("repository_id", "0123456789", &stranger("0123456789", "987654")),
        ("repository_id", "123456789 ", &stranger("123456789 ", "987654")),
        ("repository_id", "[123456789]", &stranger("[123456789]", "987654")),
        ("repository_id", "*", &stranger("*", "987654")),
        ("repository_id", "", "the token has no claim `repository_id`"),
        ("repository_owner_id", "", "the token has no claim `repository_owner_id`"),
        // Pull requests, of forks and others.
        (
            "event_name",
            "pull_request",
            "pull requests are never granted anything (event pull_request, refs/heads/main)",
        ),
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
        // Another repository's file of the same path, and the same file as another branch has it.
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
    for (claim, text, told) in table {
        assert_eq!(asked(&policy, &set(claim, text)), Err((*told).to_owned()), "{claim} = {text:?}");
    }
    for tag in ["refs/tags/v1", "refs/tags/v1.2.3-rc.1"] {
        let mut claims = set("ref", tag);
        claims.workflow_ref = Some(format!("shop/shop/.github/workflows/promote.yml@{tag}"));
        assert_eq!(asked(&policy, &claims), Ok(()), "{tag}");
    }
    // A renamed repository is the same one.
    let renamed = Claims {
        repository: Some("store/store".to_owned()),
        workflow_ref: Some("store/store/.github/workflows/promote.yml@refs/heads/main".to_owned()),
        ..promote()
    };
    assert_eq!(asked(&policy, &renamed), Ok(()));
    // The token of a job that somebody else's workflow is called from says whose job it is in `workflow_ref`.
    let elsewhere = Claims {
        workflow_ref: Some("shop/shop/.github/workflows/other.yml@refs/heads/main".to_owned()),
        job_workflow_ref: Some("shop/shop/.github/workflows/promote.yml@refs/heads/main".to_owned()),
        ..promote()
    };
    assert!(asked(&policy, &elsewhere).is_err());
    assert_eq!(asked(&policy, &Claims::default()), Err("the token has no claim `repository_id`".to_owned()));
}

#[test]
fn a_grant_of_a_repository_alone_is_for_what_only_its_writers_set_off() {
    let policy = one_grant("");
    for event in USUAL_EVENTS {
        assert_eq!(asked(&policy, &set("event_name", event)), Ok(()), "{event}");
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
        let told = asked(&policy, &set("event_name", event)).expect_err(event);
        assert_eq!(told, format!("github[0]: the event {event} is one that has to be named"));
        assert_eq!(
            asked(&one_grant(&format!("events: [{event}]")), &set("event_name", event)),
            Ok(()),
            "named: {event}"
        );
    }
    for event in NEVER {
        assert!(asked(&policy, &set("event_name", event)).is_err());
    }
    // Without `refs`, `environment` and `workflows` nothing is asked of them.
    for (claim, text) in [("ref", "refs/heads/x"), ("ref", "refs/tags/x"), ("environment", ""), ("workflow_ref", "")] {
        assert_eq!(asked(&policy, &set(claim, text)), Ok(()), "{claim} = {text:?}");
    }
    assert!(asked(&policy, &set("ref", "refs/pull/7/head")).is_err());
    // What no file says, and a ledger might: pull requests are denied all the same.
    let mut stored = policy;
    stored.grants[0].events = NEVER.map(str::to_owned).to_vec();
    stored.grants[0].refs = vec!["**".to_owned()];
    assert!(asked(&stored, &set("event_name", "pull_request")).is_err());
    assert!(asked(&stored, &set("ref", "refs/pull/7/merge")).is_err());
}

/// GitHub Docs, "Managing environments for deployment": "Environment names are not case sensitive."
#[test]
fn an_environment_of_github_is_the_same_in_upper_and_lower_case() {
    for (granted, claimed) in [("Production", "production"), ("production", "PRODUCTION"), ("Größe", "größe")] {
        let fits = asked(&one_grant(&format!("environment: {granted}")), &set("environment", claimed));
        assert_eq!(fits, Ok(()), "{granted} and {claimed}");
    }
}

/// GitHub Docs, "Managing a merge queue": the queue tests pull requests, which are not merged, on branches
/// `gh-readonly-queue/BASE/…`. A push there is an event `push`, like one on any branch.
#[test]
fn a_merge_queue_is_granted_nothing_that_does_not_name_it() {
    let queue = "refs/heads/gh-readonly-queue/main/pr-7-4f1c2a9be0d3a76f5c8e1b2d3f405162738495a6";
    let mut claims = set("ref", queue);
    claims.event_name = Some("push".to_owned());
    claims.workflow_ref = Some(format!("shop/shop/.github/workflows/promote.yml@{queue}"));
    for keys in
        ["", "refs: ['refs/heads/**']", "refs: [refs/heads/main, 'refs/heads/gh-*/**']", "environment: production"]
    {
        let told = asked(&one_grant(keys), &claims).expect_err(keys);
        assert!(told.contains("is of a merge queue") || told.contains("environment"), "{keys}: {told}");
    }
    assert_eq!(asked(&one_grant("refs: ['refs/heads/gh-readonly-queue/main/*']"), &claims), Ok(()));
    assert!(asked(&one_grant("refs: ['refs/heads/gh-readonly-queue/release/*']"), &claims).is_err());
    // Nor is the workflow's file taken from there.
    let mut claims = promote();
    claims.workflow_ref = Some(format!("shop/shop/.github/workflows/promote.yml@{queue}"));
    assert!(asked(&one_grant("workflows: [.github/workflows/promote.yml]"), &claims).is_err());
}

/// GitHub Docs, "OpenID Connect reference": `job_workflow_ref` is the ref path to the reusable workflow of the job. A job that
/// uses none has its own workflow there.
#[test]
fn a_grant_can_demand_the_reusable_workflow_of_the_job() {
    let deploy = "shop/ci/.github/workflows/deploy.yml";
    let policy = one_grant(&format!("reusable_workflows: ['{deploy}@refs/tags/v*', '{deploy}@{}']", "4f".repeat(20)));
    for workflow in [
        format!("{deploy}@refs/tags/v2"),
        format!("{deploy}@{}", "4f".repeat(20)),
        "Shop/CI/.github/workflows/deploy.yml@refs/tags/v2".to_owned(),
    ] {
        assert_eq!(asked(&policy, &set("job_workflow_ref", &workflow)), Ok(()), "{workflow}");
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
        let told = asked(&policy, &set("job_workflow_ref", &workflow)).expect_err(&workflow);
        assert!(told.contains("`reusable_workflows`"), "{workflow}: {told}");
    }
}

#[test]
fn a_star_ends_at_a_slash_and_two_do_not() {
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
        assert_eq!(asked(&policy, &set("ref", git_ref)).is_ok(), fits, "{pattern} and {git_ref}");
    }
}

#[test]
fn of_several_grants_each_stands_for_itself() {
    let mut policy = one_grant("refs: [refs/heads/main], may: [deploy]");
    let other = one_grant("refs: [refs/heads/other], may: [promote]");
    policy.grants.extend(other.grants);
    // The branch of one and the deed of the other do not add up.
    assert_eq!(
        asked(&policy, &promote()),
        Err("github[0]: promote is nothing that it `may`; github[1]: refs/heads/main fits none of its `refs`"
            .to_owned())
    );
    assert_eq!(asked(&policy, &set("ref", "refs/heads/other")), Ok(()));
    policy.grants.clear();
    assert!(asked(&policy, &promote()).expect_err("no grants").starts_with("no grant is for repository 123456789"));
}

#[test]
fn what_a_stranger_writes_into_claims_stays_one_short_line() {
    let policy = one_grant("");
    let long = format!("{}\n2026-01-01 forged line", "x".repeat(500));
    for claim in ["repository_id", "repository_owner_id", "repository", "event_name", "ref"] {
        let mut claims = set(claim, &long);
        if claim == "repository" {
            claims.repository_id = Some("1".to_owned());
        }
        if claim == "ref" {
            claims.git_ref = Some(format!("refs/pull/{long}"));
        }
        let told = asked(&policy, &claims).expect_err(claim);
        assert!(told.len() < 400 && !told.contains('\n'), "{claim}: {told}");
    }
}

#[test]
fn claims_are_read_as_they_are_spelled_in_the_token() {
    let text = r#"{"ref": "refs/heads/main", "repository_id": "1", "sub": "repo:a/b:ref:refs/heads/main", "aud": "x"}"#;
    let claims: Claims = serde_json::from_str(text).expect("claims that are not known here are left alone");
    assert_eq!(claims.git_ref.as_deref(), Some("refs/heads/main"));
    assert_eq!((claims.repository_id.as_deref(), claims.environment.as_deref()), (Some("1"), None));
    assert_eq!(Claims::of(|_| Some("")), Claims::default(), "an empty claim is none");
}
