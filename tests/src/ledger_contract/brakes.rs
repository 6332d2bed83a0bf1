//! Brakes: one a scope, lifted once, and a log that forgets nothing.

use super::cases;
use super::samples::{at, name};
use engine::Ledger;
use futures::future::join_all;
use rollout::brake::{Brake, BrakeRecord, Lifted, Scope};
use rollout::{Actor, Timestamp};

pub(super) async fn check<L: Ledger>(ledger: &L) {
    cases!(
        ledger,
        a_brake_stays_on_until_it_is_lifted,
        a_new_brake_replaces_the_old_one_of_its_scope,
        an_expired_brake_is_still_listed,
        an_application_named_everything_is_not_the_global_scope,
        the_log_is_listed_newest_first,
        setting_the_same_brake_twice_is_logged_once,
        concurrent_lifts_succeed_exactly_once,
        concurrent_sets_and_lifts_agree_with_the_log,
    );
}

fn person(who: &str) -> Actor {
    Actor::Person { name: format!("arn:aws:iam::123456789012:user/{who}") }
}

fn application(text: &str) -> Scope {
    Scope::Application { application: name(text) }
}

fn environment(application: &str) -> Scope {
    Scope::Environment { application: name(application), environment: name("prod") }
}

fn brake(scope: Scope, reason: &str, since: Timestamp) -> Brake {
    Brake { scope, by: person("ada"), reason: reason.to_owned(), since, until: None }
}

fn lifted(who: &str, when: Timestamp) -> Lifted {
    Lifted { by: person(who), reason: "it is over".to_owned(), at: when }
}

async fn active_brakes<L: Ledger>(ledger: &L) -> Vec<Brake> {
    let mut brakes = ledger.brakes().await.expect("brakes");
    brakes.sort_by(|a, b| a.scope.cmp(&b.scope));
    brakes
}

/// The log's entries of one application, newest first.
async fn log_of<L: Ledger>(ledger: &L, of: &str) -> Vec<BrakeRecord> {
    let log = ledger.brake_log(10_000).await.expect("a log");
    let named = |scope: &Scope| match scope {
        Scope::Everything => false,
        Scope::Application { application } | Scope::Environment { application, .. } => application.as_str() == of,
    };
    log.into_iter().filter(|record| named(&record.brake.scope)).collect()
}

async fn a_brake_stays_on_until_it_is_lifted<L: Ledger>(ledger: &L) {
    assert_eq!(active_brakes(ledger).await, []);
    let everything = brake(Scope::Everything, "the database is down", at(1));
    let one = Brake { until: Some(at(90)), ..brake(environment("brake-on"), "the audit", at(2)) };
    for brake in [&everything, &one] {
        ledger.put_brake(brake).await.expect("set");
    }
    assert_eq!(active_brakes(ledger).await, [everything.clone(), one.clone()]);

    let over = lifted("bob", at(3));
    assert_eq!(ledger.lift_brake(&Scope::Everything, &over).await.expect("lifted"), Some(everything.clone()));
    assert_eq!(ledger.lift_brake(&Scope::Everything, &over).await.expect("an answer"), None, "it is off already");
    assert_eq!(active_brakes(ledger).await, std::slice::from_ref(&one), "the others stay");
    assert_eq!(ledger.lift_brake(&one.scope, &over).await.expect("lifted"), Some(one.clone()));
    assert_eq!(ledger.lift_brake(&application("brake-on"), &over).await.expect("an answer"), None, "never set");
    assert_eq!(active_brakes(ledger).await, []);

    let log = ledger.brake_log(100).await.expect("a log");
    let ends = |brake: &Brake| BrakeRecord { brake: brake.clone(), lifted: Some(over.clone()) };
    let begins = |brake: &Brake| BrakeRecord { brake: brake.clone(), lifted: None };
    assert_eq!(log.len(), 4, "what changed nothing is not logged: {log:?}");
    assert!(log[..2].contains(&ends(&everything)) && log[..2].contains(&ends(&one)), "{log:?}");
    assert_eq!(log[2..], [begins(&one), begins(&everything)]);
}

async fn a_new_brake_replaces_the_old_one_of_its_scope<L: Ledger>(ledger: &L) {
    let scope = application("brake-again");
    let first = brake(scope.clone(), "the audit", at(10));
    let second = Brake { until: Some(at(500)), ..brake(scope.clone(), "the audit, part two", at(11)) };
    ledger.put_brake(&first).await.expect("set");
    ledger.put_brake(&second).await.expect("set");
    assert_eq!(active_brakes(ledger).await, std::slice::from_ref(&second));
    assert_eq!(ledger.lift_brake(&scope, &lifted("bob", at(12))).await.expect("lifted"), Some(second));
    assert_eq!(log_of(ledger, "brake-again").await.len(), 3);
}

async fn an_expired_brake_is_still_listed<L: Ledger>(ledger: &L) {
    // Who asks judges by their own clock; and whoever lists brakes shows that this one ended by itself.
    let over = Brake { until: Some(at(-100)), ..brake(application("brake-over"), "last year's end", at(-200)) };
    ledger.put_brake(&over).await.expect("set");
    assert_eq!(active_brakes(ledger).await, std::slice::from_ref(&over));
    let scope = over.scope.clone();
    assert_eq!(ledger.lift_brake(&scope, &lifted("ada", at(0))).await.expect("lifted"), Some(over));
}

async fn an_application_named_everything_is_not_the_global_scope<L: Ledger>(ledger: &L) {
    let one = brake(application("everything"), "only this one", at(20));
    ledger.put_brake(&one).await.expect("set");
    assert_eq!(ledger.lift_brake(&Scope::Everything, &lifted("ada", at(21))).await.expect("an answer"), None);
    assert_eq!(active_brakes(ledger).await, std::slice::from_ref(&one));
    assert_eq!(ledger.lift_brake(&one.scope, &lifted("ada", at(22))).await.expect("lifted"), Some(one.clone()));
}

async fn the_log_is_listed_newest_first<L: Ledger>(ledger: &L) {
    let scope = environment("brake-log");
    let all: Vec<Brake> = (0..12).map(|n| brake(scope.clone(), &format!("reason {n}"), at(1_000 + n))).collect();
    for brake in &all {
        ledger.put_brake(brake).await.expect("set");
    }
    let newest = |count: usize| all.iter().rev().take(count).map(|brake| brake.reason.clone()).collect::<Vec<_>>();
    for count in [0, 1, 5, 12] {
        let log = ledger.brake_log(count).await.expect("a log");
        let reasons: Vec<String> = log.into_iter().map(|record| record.brake.reason).collect();
        assert_eq!(reasons, newest(count));
    }
    ledger.lift_brake(&scope, &lifted("ada", at(1_100))).await.expect("lifted");
}

async fn setting_the_same_brake_twice_is_logged_once<L: Ledger>(ledger: &L) {
    // The answer was lost, and the caller asks again.
    let one = brake(application("brake-twice"), "the audit", at(30));
    ledger.put_brake(&one).await.expect("set");
    ledger.put_brake(&one).await.expect("set");
    assert_eq!(log_of(ledger, "brake-twice").await.len(), 1);
    // Two people at the same moment are two entries.
    let other = Brake { by: person("bob"), ..one.clone() };
    ledger.put_brake(&other).await.expect("set");
    assert_eq!(log_of(ledger, "brake-twice").await.len(), 2);
    ledger.lift_brake(&one.scope, &lifted("ada", at(31))).await.expect("lifted");
}

async fn concurrent_lifts_succeed_exactly_once<L: Ledger>(ledger: &L) {
    let scope = application("brake-race");
    for round in 0..5 {
        let one = brake(scope.clone(), "the audit", at(100 + round * 10));
        ledger.put_brake(&one).await.expect("set");
        let ends: Vec<Lifted> = (0..8).map(|n| lifted(&format!("person-{n}"), at(101 + round * 10))).collect();
        let answers = join_all(ends.iter().map(|end| ledger.lift_brake(&scope, end))).await;
        let found: Vec<Brake> = answers.into_iter().filter_map(|answer| answer.expect("an answer")).collect();
        assert_eq!(found, [one], "round {round}");
        let log = log_of(ledger, "brake-race").await;
        assert_eq!(log.len(), usize::try_from(round + 1).expect("small") * 2, "one setting and one lifting a round");
        assert!(log[0].lifted.is_some() && log[1].lifted.is_none(), "{log:?}");
    }
}

async fn concurrent_sets_and_lifts_agree_with_the_log<L: Ledger>(ledger: &L) {
    let scope = environment("brake-both");
    for round in 0..6 {
        let since = at(10_000 + round * 10);
        let sets: Vec<Brake> = (0..3).map(|n| brake(scope.clone(), &format!("{round}, {n}"), since)).collect();
        let ends: Vec<Lifted> = (0..3).map(|n| lifted(&format!("person-{round}-{n}"), since)).collect();
        let setting = join_all(sets.iter().map(|brake| ledger.put_brake(brake)));
        let lifting = join_all(ends.iter().map(|end| ledger.lift_brake(&scope, end)));
        let (set, off) = futures::future::join(setting, lifting).await;
        assert!(set.iter().all(Result::is_ok), "{set:?}");
        let off: Vec<Brake> = off.into_iter().filter_map(|answer| answer.expect("an answer")).collect();
        let active_brakes = active_brakes(ledger).await;
        // Each setting was lifted once at most, and what is on was not lifted.
        let mut gone: Vec<&str> = off.iter().map(|brake| brake.reason.as_str()).collect();
        gone.sort_unstable();
        gone.dedup();
        assert_eq!(gone.len(), off.len(), "{off:?}");
        assert!(
            active_brakes.len() <= 1 && active_brakes.iter().all(|brake| !off.contains(brake)),
            "{active_brakes:?} is on, {off:?} were lifted"
        );
        // The log has every setting, and the liftings that were answered.
        let log = log_of(ledger, "brake-both").await;
        let of_round = |record: &&BrakeRecord| record.brake.since == since;
        let (ended, begun): (Vec<_>, Vec<_>) = log.iter().filter(of_round).partition(|record| record.lifted.is_some());
        assert_eq!(begun.len(), sets.len(), "round {round}: {log:?}");
        let mut logged: Vec<&str> = ended.iter().map(|record| record.brake.reason.as_str()).collect();
        logged.sort_unstable();
        assert_eq!(logged, gone, "round {round}: {log:?}");
        if let Some(left) = active_brakes.first() {
            let end = lifted("ada", Timestamp::from_second(since.as_second() + 1).expect("a time"));
            assert_eq!(ledger.lift_brake(&scope, &end).await.expect("lifted").as_ref(), Some(left));
        }
    }
}
