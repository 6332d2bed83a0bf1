//! Links in mail: shown as often as somebody likes, and used once.

use super::shop::{Shop, api_url, gates, now_s, ok, refused, status, votes};
use api::approval_links::{LinkKey, mint};
use rollout::{Fact, Name, TargetId, Timestamp};
use std::time::Duration;
use tests::harness::http::{Response, ask};
use tests::harness::scenario::{Scenario, good};
use tests::harness::stack;

/// A shop whose first push waits, and the token of the link that Dave was sent.
fn shop_with_mailed_link(application: &str) -> (Shop, String) {
    let shop = Shop::with_approval(application);
    let _digest = shop.first().push("v1", good());
    let token = shop.first().expect("Dave has mail", Duration::from_secs(60), || {
        let received = shop.mail.received().map_err(|failure| failure.0)?;
        let texts = received.iter().filter_map(|notice| notice["Message"].as_str());
        let found = texts.filter_map(token_in).next();
        found.ok_or_else(|| format!("{} messages without a link", received.len()))
    });
    (shop, token)
}

/// What stands behind `/approvals/` in a mail.
fn token_in(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("/approvals/")?;
    Some(rest.split_whitespace().next()?.trim_end_matches(['.', '>', ')']).to_owned())
}

fn open(token: &str) -> Response {
    ok(ask("GET", &format!("{}/approvals/{token}", api_url("ApprovalsApi")), &[], ""))
}

fn decide(token: &str, decision: &str, reason: &str) -> Response {
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let form = form_urlencoded::Serializer::new(String::new())
        .append_pair("decision", decision)
        .append_pair("reason", reason)
        .finish();
    ok(ask("POST", &format!("{}/approvals/{token}", api_url("ApprovalsApi")), &headers, &form))
}

pub(crate) fn an_approval_link_decides_once() {
    let (shop, token) = shop_with_mailed_link("mail");
    let scene = shop.first();
    // A mail scanner follows every link, more than once.
    for _ in 0..3 {
        let page = open(&token);
        assert_eq!(page.status, 200, "{}", page.body);
        assert!(page.body.contains("v1") && page.body.contains("<form"), "{}", page.body);
        assert_eq!(page.header("cache-control"), Some("no-store"));
        assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
        assert!(page.header("content-security-policy").is_some_and(|policy| policy.contains("default-src 'none'")));
    }
    scene.wait_until_quiet_for(Duration::from_secs(1));
    assert_eq!(gates(scene).votes, [], "to look is not to decide");
    let decided = decide(&token, "approve", "from the train");
    assert_eq!(decided.status, 200, "{}", decided.body);
    votes(scene, 1);
    // In other hands by now, perhaps.
    for decision in ["approve", "reject"] {
        let again = decide(&token, decision, "again");
        assert!((400..500).contains(&again.status), "{decision}: {} {}", again.status, again.body);
    }
    let refusals = refused(scene, 2);
    assert!(
        refusals.iter().any(|(asked, reason)| asked == "reject" && reason.contains("used already")),
        "{refusals:?}"
    );
    assert!(status(scene).state.running.is_some(), "the no of a used link is none");
    votes(scene, 1);
    let by = scene.journal().into_iter().find_map(|entry| match entry.fact {
        Fact::Approved { person, reason, .. } => Some((person.to_string(), reason)),
        _ => None,
    });
    assert_eq!(by, Some(("dave".to_owned(), "from the train".to_owned())));
    let log = ok(stack().function_log("approvals")) + &ok(stack().function_log("notifier"));
    let (_, mac) = token.split_once('.').unwrap_or_default();
    assert!(!log.contains(mac), "no link is in a log");
}

pub(crate) fn tampered_forged_and_expired_links_are_rejected() {
    let (shop, token) = shop_with_mailed_link("links");
    let scene = shop.first();
    let waiting = gates(scene);
    let before = scene.journal().len();
    let (payload, mac) = token.split_once('.').unwrap_or_default();
    let flip = |text: &str| {
        let last = if text.ends_with('A') { "E" } else { "A" };
        format!("{}{last}", &text[..text.len() - 1])
    };
    let target = ok(TargetId::parse(&scene.target()));
    let (dave, carol) = (ok(Name::new("dave")), ok(Name::new("carol")));
    let hour = now_s() + 3600;
    let later = ok(Timestamp::from_second(hour));
    let guessed = ok(LinkKey::new("a guess that is long enough to be a key of links"));
    let bad = [
        flip(mac),
        format!("{}.{mac}", flip(payload)),
        format!("{payload}.{}", flip(mac)),
        format!("{payload}."),
        payload.to_owned(),
        mint(&guessed, &target, 1, &waiting.plan, &carol, &shop.topic, later),
    ];
    let rejections: Vec<(u16, String)> = bad
        .iter()
        .flat_map(|token| [open(token), decide(token, "approve", "")])
        .map(|answer| (answer.status, answer.body))
        .collect();
    assert!(rejections.iter().all(|answer| *answer == rejections[0]), "one answer for all: {rejections:?}");
    assert!((400..500).contains(&rejections[0].0), "{rejections:?}");
    scene.wait_until_quiet_for(Duration::from_secs(1));
    assert_eq!(scene.journal().len(), before, "a journal that strangers can fill is none");

    // Dave's own, from last week.
    let key = ok(LinkKey::new(&ok(stack().secret("LinkKey"))));
    let past = ok(Timestamp::from_second(hour - 7 * 24 * 3600));
    let expired = mint(&key, &target, 1, &waiting.plan, &dave, &shop.topic, past);
    let answer = decide(&expired, "approve", "");
    assert!((400..500).contains(&answer.status), "{} {}", answer.status, answer.body);
    assert!(refused(scene, 1).iter().any(|(what, _)| what == "approve"), "{:?}", refused(scene, 1));
    // One of ours, for a plan that is none.
    let other_plan = mint(&key, &target, 1, &rollout::PlanId("0123456789abcdef".to_owned()), &dave, &shop.topic, later);
    assert!((400..500).contains(&decide(&other_plan, "approve", "").status));
    assert_undecided(scene);
}

fn assert_undecided(scene: &Scenario) {
    let running = status(scene).state.running.map(|running| running.gates.map_or(0, |gates| gates.votes.len()));
    assert_eq!(running, Some(0), "it waits, and nobody has said anything");
}
