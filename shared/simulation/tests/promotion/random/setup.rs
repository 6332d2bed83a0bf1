//! How a day begins: the pipeline, its alarms and hooks, and the calls that fail.

use super::{DayRun, targets};
use crate::day::{HOOK_FUNCTIONS, day_events};
use crate::in_place_day::in_place_day;
use crate::pipeline::{HOUR, Pipeline, PipelineBuilder, environment_of, name};
use rollout::policy::{AlarmAtStart, AlarmEffect, AlarmPolicy, Drift, Hook, HookAction, HookPoint};
use rollout::{Gate, Seconds, TargetId, Way};
use simulation::virtual_time::Faults;
use simulation::world::alarms::{AlarmDefinition, MetricAlarm, TreatMissing};
use simulation::world::{FunctionBehaviour, SeededRng, Settings};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn faults(seed: u64) -> Faults {
    let rate = if seed.is_multiple_of(2) { 0.0 } else { 0.03 * SeededRng::new(seed ^ 0x000c_4a05).unit() };
    // A world in which nothing ever works cannot come to an end: what is left of the day is undisturbed.
    let day = day_events(seed, &targets()).last().map_or(Seconds(0), |last| last.after);
    let until = Some(Seconds(day.0 + 600).after(Settings::default().start));
    Faults { until, ..Faults::everywhere(seed, rate) }
}

/// A migration, a test of the candidate, and somebody who hears of it.
fn hooks() -> Vec<Hook> {
    let hook = |text: &str, at, run| Hook { name: name(text), at, run, deadline: Seconds(120), forward_only: false };
    let [smoke, announce] = HOOK_FUNCTIONS.map(|function| HookAction::Lambda { function: function.to_owned() });
    let migrate = HookAction::Task { container: "app".to_owned(), command: vec!["migrate".to_owned()] };
    vec![
        hook("migrate", HookPoint::BeforeTraffic, migrate),
        hook("smoke", HookPoint::TestTraffic, smoke),
        hook("announce", HookPoint::AfterTraffic, announce),
    ]
}

/// How the alarms of a day are set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AlarmSetup {
    /// One for each side, which takes silence for health.
    PerSide,
    /// The same with CloudWatch's default: silent while their side has no traffic.
    Silent,
    /// One more over both sides together.
    Combined,
}

/// The alarm over both sides together, on days that have one.
fn combined_alarm_name(target: &TargetId) -> String {
    format!("shop-api-{}-5xx", target.environment)
}

/// What the alarm over both sides does.
fn combined_alarm_effects(seed: u64) -> (AlarmEffect, AlarmAtStart) {
    match seed % 4 {
        0 => (AlarmEffect::Hold, AlarmAtStart::Block),
        1 => (AlarmEffect::Tell, AlarmAtStart::Block),
        2 => (AlarmEffect::Back, AlarmAtStart::Pass),
        _ => (AlarmEffect::Back, AlarmAtStart::Block),
    }
}

/// Sets the alarms up as they are on that day.
fn set_alarms(pipeline: &Pipeline, alarms: AlarmSetup) {
    for target in targets().into_iter().filter(|target| !pipeline.is_in_place(target)) {
        let names = pipeline.simulation.at(&target).names().clone();
        pipeline.simulation.world(|world| {
            let known = world.describe_alarms(&[names.blue_alarm, names.green_alarm]).expect("they are there");
            for alarm in known {
                let AlarmDefinition::Metric(metric) = alarm.kind else { continue };
                let put = match alarms {
                    AlarmSetup::PerSide => continue,
                    AlarmSetup::Silent => MetricAlarm { treat_missing: TreatMissing::Missing, ..metric },
                    AlarmSetup::Combined => {
                        MetricAlarm { name: combined_alarm_name(&target), target_group: None, ..metric }
                    }
                };
                world.put_metric_alarm(put).expect("CloudWatch takes it");
            }
        });
    }
}

/// Lets Application Auto Scaling follow the traffic of every pair.
fn put_scaling_policies(pipeline: &Pipeline) {
    for target in targets().into_iter().filter(|target| !pipeline.is_in_place(target)) {
        let names = pipeline.simulation.at(&target).names().clone();
        for service in [&names.blue, &names.green] {
            let put = pipeline.simulation.world(|world| world.put_scaling_policy(&names.cluster, service, 2.0));
            put.expect("it has limits");
        }
    }
}

pub(super) fn day_run(seed: u64, faults: Faults) -> DayRun {
    let (scaled, hooked) = (seed % 4 < 2, seed % 5 < 2);
    let alarms = match seed % 7 {
        4 => AlarmSetup::Silent,
        5 => AlarmSetup::Combined,
        _ => AlarmSetup::PerSide,
    };
    let (firing, at_start) = combined_alarm_effects(seed);
    let in_place = in_place_day(seed);
    let plan = PipelineBuilder::of(&["api/dev", "api/staging", "api/prod"])
        .scenes(|scene| {
            scene.autoscaling = scaled.then_some((2, 8));
            scene.internal_balancer = seed % 6 == 4;
            if seed % 9 == 2 {
                scene.drift = Drift::Revert;
            }
        })
        .promoted("staging", "dev", 60)
        .promoted("prod", "staging", 0)
        .approved("prod")
        .policy(move |policy| {
            let prod = environment_of(policy, "prod");
            prod.entry.approval.as_mut().expect("it has one").expires = Seconds(HOUR);
            prod.entry.hotfix_skips = [Gate::After, Gate::Soak, Gate::Approval].into();
            for target in targets().iter().filter(|_| alarms == AlarmSetup::Combined) {
                let environment = environment_of(policy, target.environment.as_str());
                let api = environment.targets.get_mut(&name("api")).expect("a target");
                if api.resources.platform.way() == Way::InPlace {
                    continue;
                }
                let watched = &mut api.alarms;
                watched.push(AlarmPolicy { name: combined_alarm_name(target), firing, at_start, ..watched[0].clone() });
            }
            if hooked {
                for environment in ["dev", "staging", "prod"] {
                    for target in environment_of(policy, environment).targets.values_mut() {
                        let way = target.resources.platform.way();
                        // In place there is no test traffic.
                        let runs = |hook: &Hook| way == Way::Weighted || hook.at != HookPoint::TestTraffic;
                        target.hooks = hooks().into_iter().filter(runs).collect();
                    }
                }
            }
        });
    let plan = in_place.iter().fold(plan, |plan, day| day.set_up(plan));
    let mut pipeline = plan.build_with(Settings { seed, log_calls: false, ..Settings::default() }, faults);
    set_alarms(&pipeline, alarms);
    for function in HOOK_FUNCTIONS {
        pipeline.simulation.world(|world| world.put_function(function, FunctionBehaviour::succeeds()));
    }
    if seed % 8 > 5 {
        // To tell everything takes a third of the time again: on some days is often enough.
        pipeline.simulation.enable_notifications();
    }
    if scaled && !seed.is_multiple_of(3) {
        put_scaling_policies(&pipeline);
    }
    DayRun {
        pipeline,
        active_brakes: BTreeMap::new(),
        past_brakes: Vec::new(),
        highest_shares: BTreeMap::new(),
        edited_by_hand: BTreeSet::new(),
        pending_tools: Vec::new(),
        saw_unevaluated_alarm: false,
        cloudtrail_enabled: seed % 4 > 1,
        images: BTreeMap::new(),
        degraded: BTreeSet::new(),
        scaled_to_zero: BTreeSet::new(),
        in_place: in_place.iter().flat_map(|day| day.targets()).collect(),
        pending_service_tools: Vec::new(),
        trains: 0,
        saw_protected_tasks: false,
    }
}
