//! One observation: reads everything that the plan names in parallel. A part that cannot be read is `Unknown`; the
//! other parts are unaffected. What runs the target is read by the module of its platform.

use super::alarms::AlarmsRead;
use super::{AwsCloud, platforms, traffic};
use crate::error::AwsFailure;
use futures::join;
use rollout::observation::ObservationPlan;
use rollout::schedule::ScheduledAction;
use rollout::snapshot::{AlarmReading, Reading, SideReading, WorkloadReading};
use rollout::{Slot, Snapshot};
use std::collections::BTreeMap;

/// What runs the target, as the module of its platform reads it; and the alarms, since one that fires decides whether
/// failed starts are searched.
pub(super) struct Observed {
    /// The plan's alarms.
    pub(super) alarms: Result<AlarmsRead, AwsFailure>,
    /// The blue side.
    pub(super) blue: Reading<SideReading>,
    /// The green side.
    pub(super) green: Reading<SideReading>,
    /// What changes its version in place.
    pub(super) workload: Reading<WorkloadReading>,
    /// Scheduled actions of the sides that the plan names.
    pub(super) schedules: BTreeMap<Slot, Reading<Vec<ScheduledAction>>>,
}

impl Observed {
    /// Only the alarms were read.
    pub(super) fn of_alarms(alarms: Result<AlarmsRead, AwsFailure>) -> Self {
        Self {
            alarms,
            blue: Reading::not_asked(),
            green: Reading::not_asked(),
            workload: Reading::not_asked(),
            schedules: BTreeMap::new(),
        }
    }
}

impl AwsCloud {
    /// Reads everything that `observation` names.
    pub(super) async fn observation(&self, observation: &ObservationPlan) -> Snapshot {
        let resources = &observation.resources;
        let arns: Vec<_> = resources.rules().chain(resources.test_rules()).collect();
        self.read_cache.take_throttled();
        // Boxed: the combined futures would exceed the stack size of some threads.
        let (observed, actions, hook_tasks) = join!(
            Box::pin(self.observed(observation)),
            Box::pin(self.read_and_cache_actions(&arns)),
            platforms::of(&resources.platform).hook_tasks(self, &observation.hook_tasks),
        );
        let Observed { alarms, blue, green, workload, schedules } = observed;
        let (alarms, alarm_sides) = match alarms {
            Ok(alarms) => (Reading::Known(alarms.readings), alarms.sides),
            Err(failure) => (Reading::Unknown(failure.reason().to_owned()), BTreeMap::new()),
        };
        let rule = |arn: &str| match (actions.get(arn), resources.leg_of(arn)) {
            (Some(Ok(actions)), Some(leg)) => Reading::Known(traffic::reading(actions, leg)),
            (Some(Err(failure)), _) => Reading::Unknown(failure.reason().to_owned()),
            (_, None) | (None, _) => Reading::Unknown(format!("{arn} was not read")),
        };
        Snapshot {
            read_started_at: None,
            api_call: None,
            blue,
            green,
            workload,
            rules: resources.rules().map(rule).collect(),
            test_rules: resources.test_rules().map(rule).collect(),
            alarms,
            alarm_sides,
            schedules,
            hook_tasks,
            throttled: self.read_cache.take_throttled(),
        }
    }

    /// What runs the target, where the plan asks for it, and the alarms.
    async fn observed(&self, observation: &ObservationPlan) -> Observed {
        let resources = &observation.resources;
        let platform = platforms::of(&resources.platform);
        platform.forget(self);
        if !observation.workloads {
            let alarms = Box::pin(self.alarms(resources, &observation.alarms)).await;
            return Observed::of_alarms(self.read_cache.note_throttling(alarms));
        }
        platform.observe(self, observation).await
    }

    /// Reads the actions of rules and listeners, and caches them for a write in the same pass.
    async fn read_and_cache_actions(&self, arns: &[&str]) -> traffic::ActionsByArn {
        for arn in arns {
            self.read_cache.rules.forget(arn);
        }
        let read = self.read_actions(arns).await;
        for (arn, actions) in &read {
            match actions {
                Ok(actions) => self.read_cache.rules.put(arn, actions.clone()),
                Err(failure) => drop(self.read_cache.note_throttling::<()>(Err(failure.clone()))),
            }
        }
        read
    }
}

/// Whether no decisive alarm is known to fire: one that fires has decided a rollback already, which failed starts would
/// only delay.
pub(super) fn alarms_allow_search(observation: &ObservationPlan, alarms: &Result<AlarmsRead, AwsFailure>) -> bool {
    // An alarm that is not known to be firing does not skip the search.
    let reading = |name: &String| alarms.as_ref().ok().and_then(|alarms| alarms.readings.get(name));
    let fires = |name: &String| matches!(reading(name), Some(AlarmReading::Firing { .. }));
    !observation.decisive_alarms.iter().any(fires)
}

/// A reading of which these parts are unknown: their names, and the reasons of those that are.
pub(super) fn unknown<T>(parts: impl IntoIterator<Item = (&'static str, Option<String>)>) -> Reading<T> {
    let missing = parts.into_iter().filter_map(|(part, reason)| Some(format!("{part}: {}", reason?)));
    Reading::Unknown(missing.collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rollout::{EcsRolling, Platform, TargetResources};
    use std::collections::BTreeSet;

    fn plan() -> ObservationPlan {
        let platform = Platform::EcsRolling(EcsRolling {
            cluster: "shop".to_owned(),
            container: "worker".to_owned(),
            service: "mailer".to_owned(),
            target_groups: vec![],
        });
        ObservationPlan {
            resources: TargetResources { platform, traffic: vec![] },
            workloads: false,
            tasks: false,
            images: false,
            alarms: BTreeSet::new(),
            decisive_alarms: BTreeSet::new(),
            failed_starts_query: None,
            scheduled_actions_of: BTreeSet::new(),
            hook_tasks: BTreeMap::new(),
        }
    }

    #[tokio::test]
    async fn what_was_not_asked_for_is_not_read() {
        let snapshot = AwsCloud::default().observation(&plan()).await;
        assert!(snapshot.workload.is_not_asked() && snapshot.blue.is_not_asked() && snapshot.green.is_not_asked());
        assert_eq!(snapshot.alarms, Reading::Known(BTreeMap::new()));
        assert_eq!((snapshot.rules, snapshot.test_rules, snapshot.throttled), (vec![], vec![], false));
    }

    #[test]
    fn failed_starts_are_searched_unless_a_decisive_alarm_is_known_to_fire() {
        let plan = ObservationPlan { decisive_alarms: BTreeSet::from(["errors".to_owned()]), ..plan() };
        let read = |name: &str, reading| {
            let readings = BTreeMap::from([(name.to_owned(), reading)]);
            Ok(AlarmsRead { readings, ..AlarmsRead::default() })
        };
        let firing = || AlarmReading::Firing { reason: "7 errors".to_owned() };
        assert!(!alarms_allow_search(&plan, &read("errors", firing())));
        assert!(alarms_allow_search(&plan, &read("errors", AlarmReading::Ok)));
        assert!(alarms_allow_search(&plan, &read("latency", firing())));
        let throttled = AwsFailure::Throttled { reason: "DescribeAlarms: ThrottlingException".to_owned() };
        assert!(alarms_allow_search(&plan, &Err(throttled)));
    }
}
