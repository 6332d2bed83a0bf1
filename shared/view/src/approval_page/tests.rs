use super::*;
use base64::Engine as _;
use rollout::{DeployOptions, Gate};
use serde_json::json;
use sha2::{Digest as _, Sha256};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_316_400 + second).expect("a time")
}

fn release(tag: &str) -> ReleaseRef {
    let id = format!("shop/api@sha256:{}", "3fa90c1e".repeat(8));
    serde_json::from_value(json!({"id": id, "image": "registry/shop/api", "tag": tag})).expect("a release")
}

/// A deployment waiting at its gates, as it is stored.
fn deployment() -> Deployment {
    let policy = json!({
        "resources": {
            "platform": {"ecs_pair": {"cluster": "shop-prod", "container": "api", "blue": "api-blue", "green": "api-green"}},
            "traffic": [{"blue": "arn:blue", "green": "arn:green", "rules": ["arn:r"], "test_rule": null}],
        },
        "strategy": {
            "steps": [{"traffic": 10, "hold": 60}, {"traffic": 50, "hold": 60}, {"traffic": 100, "hold": 0}],
            "bake": 600, "keep_warm": 600, "green_capacity": 100, "drain": 15,
        },
        "alarms": [], "hooks": [],
        "deadlines": {"preflight": 60, "register": 60, "healthy": 60, "shift": 60, "retire": 60, "rollback": 60},
    });
    serde_json::from_value(json!({
        "number": 12, "release": release("v1.4.2"), "purpose": "deploy",
        "actor": {"kind": "person", "name": "arn:aws:sts::111122223333:assumed-role/deployer/bob"},
        "reason": "the fix for the basket", "overrides": {}, "policy_version": 3, "policy": policy,
        "started_at": at(0), "phase": {"phase": "gated", "deadline": at(604_800)}, "stage_entered_at": at(0),
    }))
    .expect("a deployment as it is stored")
}

fn rendered(deployment: &Deployment, change: impl FnOnce(&mut ApprovalPrompt<'_>)) -> String {
    let (person, carol) = (Name::new("ada").expect("a name"), Name::new("carol").expect("a name"));
    let target = TargetId::parse("shop/api/prod").expect("a target");
    let stable = release("v1.4.1");
    let window = WaitingOn::Gate {
        gate: Gate::Window,
        reason: "outside of the deploy windows".to_owned(),
        until: Some(at(7200)),
        deadline: at(604_800),
    };
    let plan = PlanId("3fa90c1e5d7b2a64".to_owned());
    let mut what = ApprovalPrompt {
        person: &person,
        target: &target,
        deployment,
        plan: &plan,
        replaces: Some(&stable),
        has_approved: false,
        approved: &[&carol],
        required: 2,
        expires: at(14_400),
        also_waiting_for: &[&window],
        now: at(600),
    };
    change(&mut what);
    prompt(&what)
}

#[test]
fn page_shows_what_is_to_be_approved() {
    let page = rendered(&deployment(), |_| {});
    for shown in [
        "<h1>Deploy v1.4.2 to shop/api/prod?</h1>",
        "<dt>Deployment</dt><dd>#12 of shop/api/prod</dd>",
        "<dt>Release</dt><dd>v1.4.2 (<code>3fa90c1e3fa9</code>)</dd>",
        "<dt>Replaces</dt><dd>v1.4.1 (<code>3fa90c1e3fa9</code>)</dd>",
        "<dt>Requested by</dt><dd>bob (assumed-role/deployer/bob of 111122223333)</dd>",
        "<dt>Reason</dt><dd>the fix for the basket</dd>",
        "<dt>Traffic</dt><dd>10 % → 50 % → 100 %, then a bake of 10m</dd>",
        "<dt>Approved by</dt><dd>carol (1 of 2)</dd>",
        "<dt>Also waiting for</dt><dd>gate window: outside of the deploy windows (opens in 1h 50m)</dd>",
        "<dt>Answer until</dt><dd>2026-11-22 07:00:00 UTC (3h 50m left)</dd>",
        "<dt>Plan</dt><dd><code>3fa90c1e5d7b2a64</code></dd>",
        "You answer as <strong>ada</strong>",
        "<button class=\"yes\" name=\"decision\" value=\"approve\">",
        "<button class=\"no\" name=\"decision\" value=\"reject\">",
    ] {
        assert!(page.contains(shown), "{shown}\n{page}");
    }
    assert!(!page.contains("class=\"mark\""), "{page}");
}

#[test]
fn hotfix_and_forward_only_are_marked() {
    let mut hotfix = deployment();
    hotfix.options = DeployOptions { lane: Lane::Hotfix, forward_only: true, ..DeployOptions::default() };
    let page = rendered(&hotfix, |prompt| prompt.replaces = None);
    assert!(page.contains("Hotfix"), "{page}");
    assert!(page.contains("Forward-only"), "{page}");
    assert!(page.contains("what ran before Switchback"), "{page}");
}

#[test]
fn an_approver_who_approved_can_only_reject() {
    let page = rendered(&deployment(), |prompt| prompt.has_approved = true);
    assert!(page.contains("You have approved already, ada."), "{page}");
    assert!(!page.contains("value=\"approve\"") && page.contains("value=\"reject\""), "{page}");
}

#[test]
fn foreign_text_is_never_markup() {
    let nasty = "\"><script>alert('1')</script>&\u{202e}";
    let mut written = deployment();
    written.release.tag = nasty.to_owned();
    written.reason = nasty.to_owned();
    written.actor = rollout::Actor::Person { name: nasty.to_owned() };
    for page in [rendered(&written, |_| {}), message(nasty, nasty, true)] {
        assert!(!page.contains("<script") && !page.contains('\u{202e}'), "{page}");
        assert!(page.contains("&quot;&gt;&lt;script&gt;alert('1')&lt;/script&gt;&amp;\u{fffd}"), "{page}");
        // An apostrophe is not escaped, so it must not delimit an attribute.
        assert!(!page.contains("='"), "{page}");
        assert_eq!(page.matches("<section>").count(), 1, "{page}");
    }
}

#[test]
fn page_complies_with_its_content_security_policy() {
    let page = rendered(&deployment(), |_| {});
    let style = page.split("<style>").nth(1).and_then(|rest| rest.split("</style>").next()).expect("one style");
    let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(style));
    assert!(CSP.contains(&format!("style-src 'sha256-{hash}';")), "the page's style has the hash sha256-{hash}");
    for foreign in ["<script", "<img", "<link", "<iframe", " style=", " onclick", "http://", "https://", "url("] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    // The form posts to its own URL, so the token does not appear in it.
    assert!(page.contains("<form method=\"post\" autocomplete=\"off\">"), "{page}");
}
