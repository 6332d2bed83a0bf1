//! The demo's initial world, its policy, and its releases.

use super::fleet::Image;
use anyhow::{Context as _, anyhow};
use engine::intake::ImagePushed;
use rollout::verdict::Verdict;
use rollout::{ImageDigest, Policy, Registry, TargetId, TargetResources, Timestamp};
use simulation::world::alarms::{Comparison, MetricAlarm, TreatMissing, WatchedMetric};
use simulation::world::balancer::GroupSettings;
use simulation::world::scene::digest_of;
use simulation::world::{self, ApiError, Settings, TaskBackend, Timing, World};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// The policy file, with placeholders for the world's names.
const POLICY: &str = include_str!("switchback.yaml");

/// Desired count of the stable side.
const TASKS: u32 = 2;

/// Alarm period in seconds; CloudWatch's minimum is 10.
const ALARM_PERIOD_S: u32 = 1;

/// Consecutive breaching periods until an alarm fires.
const ALARM_PERIODS: u32 = 2;

/// Alarm threshold: percentage of 5xx in a side's responses within a period.
const MOST_ERRORS_PERCENT: f64 = 5.0;

/// A release of the demo.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DemoRelease {
    /// Its tag, and the name in its tasks' responses.
    pub(crate) tag: &'static str,
    /// Title of its chapter.
    pub(crate) chapter: &'static str,
    /// Percentage of requests that fail.
    pub(crate) fail_percent: u8,
    /// Expected verdict of its deployment; none: it runs from the beginning.
    pub(crate) expected_verdict: Option<Verdict>,
    number: u64,
}

/// The release that runs at the beginning.
pub(crate) const FIRST: DemoRelease =
    DemoRelease { tag: "v1", chapter: "v1, what runs today", fail_percent: 0, expected_verdict: None, number: 0 };
/// The release whose deployment succeeds.
pub(crate) const GOOD: DemoRelease = DemoRelease {
    tag: "v2",
    chapter: "v2, a good release",
    fail_percent: 0,
    expected_verdict: Some(Verdict::Succeeded),
    number: 2,
};
/// The release that is rolled back.
pub(crate) const BAD: DemoRelease = DemoRelease {
    tag: "v3",
    chapter: "v3, a bad release",
    fail_percent: 40,
    expected_verdict: Some(Verdict::RolledBack),
    number: 3,
};
/// All releases, in order of their chapters.
pub(crate) const RELEASES: [DemoRelease; 3] = [FIRST, GOOD, BAD];

/// The world, and the names needed to use it.
pub(crate) struct DemoScene {
    /// The modelled account.
    pub(crate) world: Arc<Mutex<World>>,
    /// The target of the deployments.
    pub(crate) target: TargetId,
    /// The validated policy.
    pub(crate) policy: Policy,
    /// The policy's text.
    pub(crate) policy_text: String,
    /// ARNs and names of both sides.
    pub(crate) resources: TargetResources,
    registry: Registry,
    repository: String,
}

impl DemoRelease {
    fn digest(&self) -> ImageDigest {
        digest_of(self.number)
    }
}

/// Behaviour of each image's tasks, by digest.
pub(crate) fn images() -> BTreeMap<String, Image> {
    let image = |release: DemoRelease| Image { release: release.tag.to_owned(), fail_percent: release.fail_percent };
    RELEASES.map(|release| (release.digest().to_string(), image(release))).into()
}

/// Builds the scene: v1 on blue, green idle, an alarm on each side's 5xx.
pub(crate) fn build(now: Timestamp) -> anyhow::Result<DemoScene> {
    let settings = Settings {
        start: now,
        log_calls: false,
        backend: TaskBackend::External,
        timing: Timing::quick(),
        ..Settings::default()
    };
    let mut account = World::new(settings);
    let mut setup = world::PairSetup::new("shop", "api", "demo");
    setup.tasks = TASKS;
    setup.requests_per_second = 0.0;
    setup.groups = GroupSettings { deregistration_delay_s: 2, ..GroupSettings::default() };
    let names = account
        .as_third_party(|account| {
            let names = setup.set(account)?;
            for (alarm, group) in [(&names.blue_alarm, &names.blue_group), (&names.green_alarm, &names.green_group)] {
                account.put_metric_alarm(error_alarm(alarm, group, &names.load_balancer))?;
            }
            Ok::<_, ApiError>(names)
        })
        .map_err(|error| anyhow!("the world refuses the demo's scene: {error}"))?;

    let policy_text = POLICY
        .replace("CLUSTER", &names.cluster)
        .replace("BLUE_GROUP", &names.blue_group)
        .replace("GREEN_GROUP", &names.green_group)
        .replace("RULE", &names.rule)
        .replace("BLUE_ALARM", &names.blue_alarm)
        .replace("GREEN_ALARM", &names.green_alarm);
    let policy = policy::parse(&policy_text).map_err(|problems| anyhow!("the demo's policy: {problems}"))?;
    let resources = policy.target(&setup.target).context("the demo's policy names its target")?.resources.clone();
    Ok(DemoScene {
        world: Arc::new(Mutex::new(account)),
        target: setup.target,
        policy,
        policy_text,
        resources,
        registry: names.registry(),
        repository: names.repository,
    })
}

/// An alarm on the percentage of 5xx in a side's responses; missing data does not breach.
fn error_alarm(alarm: &str, group: &str, load_balancer: &str) -> MetricAlarm {
    MetricAlarm {
        name: alarm.to_owned(),
        metric: WatchedMetric::Target5xxPercent,
        load_balancer: load_balancer.to_owned(),
        target_group: Some(group.to_owned()),
        period_s: ALARM_PERIOD_S,
        evaluation_periods: ALARM_PERIODS,
        datapoints_to_alarm: ALARM_PERIODS,
        threshold: MOST_ERRORS_PERCENT,
        comparison: Comparison::Above,
        treat_missing: TreatMissing::NotBreaching,
    }
}

impl DemoScene {
    /// The push of a release, as in ECR's event.
    pub(crate) fn push(&self, release: &DemoRelease, now: Timestamp) -> ImagePushed {
        ImagePushed {
            registry: self.registry.clone(),
            repository: self.repository.clone(),
            digest: release.digest(),
            tag: release.tag.to_owned(),
            pushed_at: now,
        }
    }
}
