//! Tables of alarms: what the policy, CloudWatch's answer, the side that an alarm watches and the traffic together mean
//! for a deployment.

use super::*;
use crate::policy::AlarmEffect::{Back, Hold, Tell};
use crate::policy::MissingData::{Healthy, Unhealthy, Wait};
use crate::snapshot::AlarmReading::{Absent, NoData};
use crate::weighted::{Registering, StableAtStart, WeightsRecord};
use serde_json::json;

const NOW: i64 = 1_790_000_000;
const NAME: &str = "api-5xx";
const CLEAR: &str = "clear";
const FIRING: &str = "firing api-5xx: too many errors";
const STABLE_FIRING: &str = "stable firing api-5xx: too many errors";
const HOLDING: &str = "holding api-5xx: too many errors";
const WITHOUT_DATA: &str = "silent: no data from api-5xx";
const NOT_EVALUATED: &str = "silent: alarm api-5xx is not evaluated (no permission)";
const ABSENT: &str = "silent: CloudWatch has no alarm api-5xx";

/// Where traffic is. Blue is stable, green the candidate.
#[derive(Debug, Clone, Copy)]
struct Scene {
    /// Green's weight of 100, as decided and as live.
    green: u16,
    /// For how many seconds green has had traffic.
    seconds: Option<i64>,
    sides_determined: bool,
    rule_readable: bool,
}

/// Before the sides are determined.
const PREFLIGHT: Scene = Scene { green: 0, seconds: None, sides_determined: false, rule_readable: true };
/// Before green's first traffic.
const BEFORE: Scene = Scene { sides_determined: true, ..PREFLIGHT };
/// The last second in which green may still have no data.
const FIRST_DATA_DUE: Scene = Scene { green: 10, seconds: Some(299), ..BEFORE };
/// Green has traffic, and must have data.
const SHIFTING: Scene = Scene { seconds: Some(300), ..FIRST_DATA_DUE };
/// Blue has no traffic any more.
const MOVED: Scene = Scene { green: 100, ..SHIFTING };
const UNREAD_BEFORE: Scene = Scene { rule_readable: false, ..BEFORE };
const UNREAD_SHIFTING: Scene = Scene { rule_readable: false, ..SHIFTING };

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn alarm(missing: MissingData, firing: AlarmEffect) -> AlarmPolicy {
    AlarmPolicy { missing, firing, ..AlarmPolicy::new(NAME.to_owned()) }
}

fn fires() -> AlarmReading {
    AlarmReading::Firing { reason: "too many errors".to_owned() }
}

fn not_evaluated() -> AlarmReading {
    AlarmReading::NotEvaluated { reason: "no permission".to_owned() }
}

/// A deployment as the ledger stores it, without what has a default.
fn deployment(alarms: &[AlarmPolicy]) -> Deployment {
    let ecs = json!({ "cluster": "shop", "container": "api", "blue": "api-blue", "green": "api-green" });
    let policy = json!({
        "resources": { "platform": { "ecs_pair": ecs } },
        "strategy": { "steps": [], "bake": 60, "keep_warm": 60, "green_capacity": 100, "drain": 30 },
        "alarms": alarms, "hooks": [],
        "deadlines": { "preflight": 60, "register": 60, "healthy": 60, "shift": 60, "retire": 60, "rollback": 60 },
    });
    let id = format!("shop/api@sha256:{}", "a".repeat(64));
    let stored = json!({
        "number": 1, "purpose": Purpose::Deploy, "release": { "id": id, "image": "r/api", "tag": "v2" },
        "actor": { "kind": "switchback" }, "reason": "", "overrides": {}, "policy_version": 1, "policy": policy,
        "phase": { "phase": "preparing", "deadline": at(NOW), "gates_deadline": at(NOW) },
        "started_at": at(NOW), "stage_entered_at": at(NOW),
    });
    serde_json::from_value(stored).expect("a deployment")
}

impl Scene {
    fn weights(self) -> Weights {
        Weights { blue: 100 - self.green, green: self.green }
    }

    fn weighted(self) -> Option<Weighted> {
        let version = "td:old".to_owned();
        let registering = Registering { deadline: at(NOW), template: version.clone(), registered: None };
        let sides = StableAtStart { stable: Slot::Blue, stable_version: version, stable_count: 4 };
        let (decided, before) = (self.weights(), BEFORE.weights());
        let weighted = Weighted {
            weights: Some(WeightsRecord { before, decided, verified: true, may_still_be_live: None }),
            traffic_since: self.seconds.map(|seconds| at(NOW - seconds)),
            ..Weighted::new(sides, WeightedStage::Registering(registering), at(NOW))
        };
        self.sides_determined.then_some(weighted)
    }

    /// What is seen, without the alarms.
    fn snapshot(self) -> Snapshot {
        let unread = || "throttled".to_owned();
        let rule =
            RuleReading { weights: self.weights(), has_both_groups: true, foreign_groups: vec![], sticky_for: None };
        Snapshot {
            workload: Reading::not_asked(),
            blue: Reading::Unknown(unread()),
            green: Reading::Unknown(unread()),
            rules: vec![if self.rule_readable { Reading::Known(rule) } else { Reading::Unknown(unread()) }],
            test_rules: vec![],
            alarms: Reading::Unknown(unread()),
            alarm_sides: BTreeMap::new(),
            schedules: BTreeMap::new(),
            hook_tasks: BTreeMap::new(),
            throttled: false,
            read_started_at: None,
            api_call: None,
        }
    }
}

/// What the alarms of a deployment say, in one line.
fn summary(deployment: &Deployment, scene: Scene, snapshot: &Snapshot) -> String {
    match alarms(deployment, scene.weighted().as_ref(), snapshot, at(NOW)) {
        Alarms::Clear => CLEAR.to_owned(),
        Alarms::Firing { name, reason } => format!("firing {name}: {reason}"),
        Alarms::StableFiring { name, reason } => format!("stable firing {name}: {reason}"),
        Alarms::Holding { name, reason } => format!("holding {name}: {reason}"),
        Alarms::Silent(silence) => format!("silent: {silence}"),
        Alarms::Unknown(reason) => format!("unknown: {reason}"),
    }
}

/// One row of a table: an alarm, CloudWatch's answer (none: it has no such alarm), the side that the alarm watches alone,
/// where traffic is, and what follows.
type Row = (AlarmPolicy, Option<AlarmReading>, Option<Slot>, Scene, &'static str);

fn check(rows: impl IntoIterator<Item = Row>) {
    for (alarm, reading, side, scene, expected) in rows {
        let row = format!("{alarm:?}, {reading:?}, watches {side:?}, {scene:?}");
        let snapshot = Snapshot {
            alarms: Reading::Known(reading.map(|reading| (NAME.to_owned(), reading)).into_iter().collect()),
            alarm_sides: side.map(|side| (NAME.to_owned(), side)).into_iter().collect(),
            ..scene.snapshot()
        };
        assert_eq!(summary(&deployment(&[alarm]), scene, &snapshot), expected, "{row}");
    }
}

#[test]
fn a_firing_alarm_rolls_back_holds_or_only_notifies() {
    let going_on = AlarmPolicy { stable_firing: StableFiring::GoOn, ..alarm(Wait, Back) };
    check([
        (alarm(Wait, Back), Some(AlarmReading::Ok), None, SHIFTING, CLEAR),
        (alarm(Wait, Back), Some(fires()), None, SHIFTING, FIRING),
        (alarm(Healthy, Back), Some(fires()), Some(Slot::Green), BEFORE, FIRING),
        (alarm(Wait, Hold), Some(fires()), None, SHIFTING, HOLDING),
        (alarm(Wait, Tell), Some(fires()), None, SHIFTING, CLEAR),
        // Never back to the side that the alarm is about.
        (alarm(Wait, Back), Some(fires()), Some(Slot::Blue), SHIFTING, STABLE_FIRING),
        (alarm(Wait, Hold), Some(fires()), Some(Slot::Blue), MOVED, STABLE_FIRING),
        (going_on, Some(fires()), Some(Slot::Blue), SHIFTING, CLEAR),
        (alarm(Wait, Back), Some(fires()), Some(Slot::Blue), PREFLIGHT, FIRING),
    ]);
}

#[test]
fn missing_data_counts_as_the_policy_says() {
    let failure = "firing api-5xx: it has no data, and the policy takes silence for failure";
    let held_failure = "holding api-5xx: it has no data, and the policy takes silence for failure";
    let stable_failure = "stable firing api-5xx: it has no data, and the policy takes silence for failure";
    check([
        (alarm(Wait, Back), Some(NoData), None, BEFORE, WITHOUT_DATA),
        (alarm(Healthy, Back), Some(NoData), None, SHIFTING, CLEAR),
        (alarm(Unhealthy, Back), Some(NoData), None, SHIFTING, failure),
        (alarm(Unhealthy, Hold), Some(NoData), None, SHIFTING, held_failure),
        (alarm(Wait, Tell), Some(NoData), None, SHIFTING, CLEAR),
        // A side without traffic has no data.
        (alarm(Wait, Back), Some(NoData), Some(Slot::Green), PREFLIGHT, CLEAR),
        (alarm(Unhealthy, Back), Some(NoData), Some(Slot::Green), BEFORE, CLEAR),
        (alarm(Unhealthy, Back), Some(NoData), Some(Slot::Green), UNREAD_BEFORE, CLEAR),
        (alarm(Wait, Back), Some(NoData), Some(Slot::Blue), MOVED, CLEAR),
        // It may come late once the side has traffic.
        (alarm(Unhealthy, Back), Some(NoData), Some(Slot::Green), FIRST_DATA_DUE, WITHOUT_DATA),
        (alarm(Unhealthy, Back), Some(NoData), Some(Slot::Green), SHIFTING, failure),
        (alarm(Wait, Back), Some(NoData), Some(Slot::Green), UNREAD_SHIFTING, WITHOUT_DATA),
        // The stable side has had traffic all along.
        (alarm(Unhealthy, Back), Some(NoData), Some(Slot::Blue), FIRST_DATA_DUE, stable_failure),
        (alarm(Unhealthy, Back), Some(NoData), Some(Slot::Blue), PREFLIGHT, failure),
    ]);
}

#[test]
fn an_alarm_without_evaluation_or_without_existence_is_silent() {
    let failure = "firing api-5xx: it is not evaluated (no permission), and the policy takes silence for failure";
    check([
        (alarm(Wait, Back), Some(not_evaluated()), None, SHIFTING, NOT_EVALUATED),
        (alarm(Wait, Hold), Some(not_evaluated()), Some(Slot::Green), BEFORE, NOT_EVALUATED),
        (alarm(Healthy, Back), Some(not_evaluated()), None, SHIFTING, CLEAR),
        (alarm(Unhealthy, Back), Some(not_evaluated()), Some(Slot::Green), BEFORE, failure),
        (alarm(Wait, Back), Some(Absent), None, SHIFTING, ABSENT),
        (alarm(Healthy, Back), Some(Absent), Some(Slot::Green), BEFORE, ABSENT),
        (alarm(Unhealthy, Hold), None, None, SHIFTING, ABSENT),
        (alarm(Wait, Tell), Some(Absent), None, SHIFTING, CLEAR),
    ]);
}

#[test]
fn of_several_alarms_the_gravest_counts() {
    let names = [("silent", Back), ("absent", Back), ("held", Hold), ("stable", Back), ("back", Back)];
    let alarms = names.map(|(name, firing)| AlarmPolicy { firing, ..AlarmPolicy::new(name.to_owned()) });
    let deployment = deployment(&alarms);
    let cases: [(&[&str], &str); 4] = [
        (&["held", "stable", "back"], "firing back: too many errors"),
        (&["held", "stable"], "stable firing stable: too many errors"),
        (&["held"], "holding held: too many errors"),
        (&[], "silent: CloudWatch has no alarm absent; no data from silent"),
    ];
    for (firing, expected) in cases {
        let reading = |name| if firing.contains(&name) { fires() } else { AlarmReading::Ok };
        let mut readings = BTreeMap::from([("silent".to_owned(), NoData)]);
        readings.extend(["held", "stable", "back"].map(|name| (name.to_owned(), reading(name))));
        let (alarms, alarm_sides) = (Reading::Known(readings), [("stable".to_owned(), Slot::Blue)].into());
        let snapshot = Snapshot { alarms, alarm_sides, ..SHIFTING.snapshot() };
        assert_eq!(summary(&deployment, SHIFTING, &snapshot), expected);
    }
}

#[test]
fn an_overridden_alarm_does_not_count() {
    let mut deployment = deployment(&[alarm(Wait, Back)]);
    deployment.overrides.firing_alarms.insert(NAME.to_owned());
    for reading in [fires(), NoData, not_evaluated(), Absent] {
        let alarms = Reading::Known([(NAME.to_owned(), reading)].into());
        assert_eq!(summary(&deployment, SHIFTING, &Snapshot { alarms, ..SHIFTING.snapshot() }), CLEAR);
    }
}

#[test]
fn unread_alarms_are_unknown_where_alarms_count() {
    let unknown = "unknown: the alarms could not be read: throttled";
    for (purpose, firing, expected) in [
        (Purpose::Deploy, Back, unknown),
        (Purpose::Deploy, Hold, unknown),
        (Purpose::Deploy, Tell, CLEAR),
        (Purpose::Rollback, Back, CLEAR),
        (Purpose::Repair, Back, CLEAR),
    ] {
        let deployment = Deployment { purpose, ..deployment(&[alarm(Wait, firing)]) };
        assert_eq!(summary(&deployment, SHIFTING, &SHIFTING.snapshot()), expected, "{purpose:?} {firing:?}");
    }
}
