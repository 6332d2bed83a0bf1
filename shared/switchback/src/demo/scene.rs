//! The world at the beginning of the demo, its policy, and the releases of the story.

use super::fleet::Image;
use anyhow::{Context as _, anyhow};
use engine::intake::ImagePushed;
use rollout::stage::Verdict;
use rollout::{EcsPair, ImageDigest, Policy, Registry, TargetId, Timestamp};
use simulation::world::alarms::{Comparison, Metric, MetricAlarm, TreatMissing};
use simulation::world::balancer::GroupSettings;
use simulation::world::scene::digest_of;
use simulation::world::{self, ApiError, Settings, TaskBackend, Timing, World};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// The policy file, names of the world left out.
const POLICY: &str = include_str!("switchback.yaml");

/// Tasks of the stable side.
const TASKS: u32 = 2;

/// Seconds of an alarm's period; CloudWatch's shortest is 10.
const ALARM_PERIOD_S: u32 = 1;

/// Periods in a row that must breach until an alarm fires.
const ALARM_PERIODS: u32 = 2;

/// Per cent of a side's answers in one period that may be 5xx.
const MOST_ERRORS_PERCENT: f64 = 5.0;

/// A release of the story.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    /// Its tag, and what its tasks say of themselves.
    pub(crate) tag: &'static str,
    /// What the chapter is called.
    pub(crate) chapter: &'static str,
    /// How many of a hundred requests it fails.
    pub(crate) fail_percent: u8,
    /// How its deployment must end; none: it is there from the beginning.
    pub(crate) ends: Option<Verdict>,
    number: u64,
}

/// What runs at the beginning.
pub(crate) const FIRST: Part =
    Part { tag: "v1", chapter: "v1, what runs today", fail_percent: 0, ends: None, number: 0 };
/// What goes out.
pub(crate) const GOOD: Part =
    Part { tag: "v2", chapter: "v2, a good release", fail_percent: 0, ends: Some(Verdict::Succeeded), number: 2 };
/// What comes back.
pub(crate) const BAD: Part =
    Part { tag: "v3", chapter: "v3, a bad release", fail_percent: 40, ends: Some(Verdict::RolledBack), number: 3 };
/// All releases, in the order of the story.
pub(crate) const PARTS: [Part; 3] = [FIRST, GOOD, BAD];

/// The world, and what is needed to speak of it.
pub(crate) struct Scene {
    /// The modelled account.
    pub(crate) world: Arc<Mutex<World>>,
    /// What is deployed to.
    pub(crate) target: TargetId,
    /// The checked policy.
    pub(crate) policy: Policy,
    /// The policy's text.
    pub(crate) policy_text: String,
    /// What runs where.
    pub(crate) pair: EcsPair,
    registry: Registry,
    repository: String,
}

impl Part {
    fn digest(&self) -> ImageDigest {
        digest_of(self.number)
    }
}

/// What the tasks of each image run, by digest.
pub(crate) fn images() -> BTreeMap<String, Image> {
    let image = |part: Part| Image { release: part.tag.to_owned(), fail_percent: part.fail_percent };
    PARTS.map(|part| (part.digest().to_string(), image(part))).into()
}

/// Sets the scene: v1 wanted on blue, green idle, an alarm over each side's 5xx.
pub(crate) fn build(now: Timestamp) -> anyhow::Result<Scene> {
    let settings = Settings {
        start: now,
        log_calls: false,
        backend: TaskBackend::External,
        timing: Timing::quick(),
        ..Settings::default()
    };
    let mut account = World::new(settings);
    let mut wish = world::Scene::new("shop", "api", "demo");
    wish.tasks = TASKS;
    wish.requests_per_second = 0.0;
    wish.groups = GroupSettings { deregistration_delay_s: 2, ..GroupSettings::default() };
    let names = account
        .by_hand(|account| {
            let names = wish.set(account)?;
            for (alarm, group) in [(&names.blue_alarm, &names.blue_group), (&names.green_alarm, &names.green_group)] {
                account.put_metric_alarm(errors_of(alarm, group, &names.load_balancer))?;
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
    let pair = policy.target(&wish.target).context("the demo's policy names its target")?.pair.clone();
    Ok(Scene {
        world: Arc::new(Mutex::new(account)),
        target: wish.target,
        policy,
        policy_text,
        pair,
        registry: names.registry(),
        repository: names.repository,
    })
}

/// An alarm over the share of 5xx in a side's answers; silence is no error.
fn errors_of(alarm: &str, group: &str, load_balancer: &str) -> MetricAlarm {
    MetricAlarm {
        name: alarm.to_owned(),
        metric: Metric::Target5xxPercent,
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

impl Scene {
    /// The push of a release, as ECR's event tells it.
    pub(crate) fn push(&self, part: &Part, now: Timestamp) -> ImagePushed {
        ImagePushed {
            registry: self.registry.clone(),
            repository: self.repository.clone(),
            digest: part.digest(),
            tag: part.tag.to_owned(),
            pushed_at: now,
        }
    }
}
