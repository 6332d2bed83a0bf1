//! Cookies that bind clients to a side: it stays up as long as they do, forward and back. A stage is seen up to one poll
//! after it began.

use super::fixture::TargetFixture;
use rollout::{Reading, Seconds, Slot, Verdict};

const STICKY: Seconds = Seconds(3600);

fn sticky() -> TargetFixture {
    let mut fixture = TargetFixture::new();
    fixture.sticky_for = Some(STICKY);
    fixture.edit_rule(1, 0);
    assert!(matches!(&fixture.snapshot.rules[0], Reading::Known(rule) if rule.sticky_for == Some(STICKY)));
    fixture
}

#[test]
fn the_old_side_stays_up_until_its_cookies_have_ended() {
    let mut fixture = sticky();
    fixture.decide(&[super::fixture::deploy("v2")]);
    fixture.run_until(|fixture| fixture.stage() == "retiring");
    let began = fixture.now;
    fixture.run_until(|fixture| fixture.side_running(Slot::Blue) == 0);
    assert!(fixture.now >= Seconds(STICKY.0 - 30).after(began), "after {}", Seconds::between(began, fixture.now));
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::Succeeded), "{}", fixture.end_reason());
}

#[test]
fn a_rollback_is_complete_when_no_cookie_binds_anybody_to_the_candidate() {
    let mut fixture = sticky();
    fixture.decide(&[super::fixture::deploy("v2")]);
    fixture.run_until(|fixture| fixture.weights().green > 0);
    fixture.fire_alarm();
    fixture.run_until(|fixture| fixture.weights().green == 0);
    let back = fixture.now;
    fixture.run_until(|fixture| fixture.side_running(Slot::Green) == 0);
    assert!(fixture.now >= Seconds(STICKY.0 - 30).after(back), "after {}", Seconds::between(back, fixture.now));
    fixture.run_until(|_| false);
    assert_eq!(fixture.verdict(), Some(Verdict::RolledBack), "{}", fixture.end_reason());
}
