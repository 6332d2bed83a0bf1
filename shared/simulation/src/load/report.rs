//! What came of it, in figures.

use super::town::Town;
use crate::budgets::{Drawn, bucket};
use crate::ledger::MemoryLedger;
use rollout::Timestamp;
use rollout::journal::Fact;
use rollout::stage::Verdict;
use std::collections::BTreeMap;
use std::fmt;

/// Some durations, in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spread(Vec<i64>);

impl Spread {
    fn of(mut durations: Vec<i64>) -> Self {
        durations.sort_unstable();
        Self(durations)
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The duration, in seconds, that so many per cent of them do not exceed; 0 where there is none.
    #[must_use]
    pub fn percentile(&self, per_cent: usize) -> f64 {
        let rank = (self.0.len() * per_cent).div_ceil(100).max(1) - 1;
        self.0.get(rank).map_or(0.0, |ms| *ms as f64 / 1_000.0)
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [half, most, all] = [50, 99, 100].map(|per_cent| self.percentile(per_cent));
        write!(f, "{half:.1} s for half of {}, {most:.1} s for 99 %, {all:.1} s at most", self.count())
    }
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// How deployments ended.
    pub verdicts: BTreeMap<String, usize>,
    /// Reasons of deployments that ended as they should not: the first few.
    pub reasons: Vec<String>,
    /// From the push to the verdict.
    pub asked_to_verdict: Spread,
    /// From the push until the deployment began to look.
    pub asked_to_begin: Spread,
    /// From there to the verdict.
    pub begin_to_verdict: Spread,
    /// The longest time of each deployment, once it had begun, in which nothing was written about it.
    pub standstill: Spread,
    /// From the alarm's change of state until all weight was back on the stable side.
    pub alarm_to_back: Spread,
    /// Alarms that fired while nothing was put back.
    pub never_back: usize,
    /// How calls fared at each bucket.
    pub drawn: BTreeMap<&'static str, Drawn>,
    /// Times the real sizes of the buckets.
    pub budgets: f64,
    /// How long all of it took, in seconds of virtual time.
    pub took_s: f64,
    /// For each lane, ordinary and urgent: passes, the most wakes that waited for a free function, and for how long, in seconds.
    pub lanes: [(u64, usize, f64); 2],
    /// Wakes that found their target held.
    pub busy: u64,
    /// Passes whose target was taken over.
    pub superseded: u64,
    /// Wakes given up.
    pub dead_letters: u64,
    /// Events that were taken in.
    pub signals: u64,
    /// The longest pass, in milliseconds.
    pub longest_pass_ms: i64,
}

impl Report {
    pub(super) fn take_stock(&mut self, town: &Town, ledger: &MemoryLedger, began: Timestamp) {
        let began = began.as_millisecond();
        let store = ledger.store();
        let (mut asked, mut waited, mut ran, mut still, mut back) = (vec![], vec![], vec![], vec![], vec![]);
        for home in &town.homes {
            let journal = store.journal(&home.target, 0, usize::MAX);
            let settled = journal.iter().position(|entry| matches!(entry.fact, Fact::SidesSettled { .. }));
            let from = settled.map_or(&journal[..0], |index| &journal[index..]);
            let gaps = from.windows(2).map(|pair| pair[1].at.as_millisecond() - pair[0].at.as_millisecond());
            still.extend(gaps.max());
            let first = from.first().map(|entry| entry.at.as_millisecond());
            waited.extend(first.map(|first| first - began));
            let end = journal.iter().find_map(|entry| match &entry.fact {
                Fact::Ended { verdict, reason, .. } => Some((entry.at.as_millisecond(), *verdict, reason.clone())),
                _ => None,
            });
            match end {
                Some((at, verdict, reason)) => {
                    asked.push(at - began);
                    ran.extend(first.map(|first| at - first));
                    *self.verdicts.entry(format!("{verdict:?}")).or_default() += 1;
                    let expected = matches!(verdict, Verdict::Succeeded)
                        || matches!(verdict, Verdict::RolledBack) && home.alarm_at.is_some();
                    if !expected && self.reasons.len() < 5 {
                        self.reasons.push(format!("{}: {verdict:?}: {reason}", home.target));
                    }
                }
                None => *self.verdicts.entry("none".to_owned()).or_default() += 1,
            }
            match (home.alarm_at, home.back_at) {
                (Some(alarm), Some(at)) => back.push(at - alarm),
                (Some(_), None) => self.never_back += 1,
                _ => {}
            }
        }
        self.asked_to_verdict = Spread::of(asked);
        self.asked_to_begin = Spread::of(waited);
        self.begin_to_verdict = Spread::of(ran);
        self.standstill = Spread::of(still);
        self.alarm_to_back = Spread::of(back);
        self.drawn.clone_from(town.budgets.drawn());
        self.budgets = town.budgets.scale();
        self.took_s = (town.now_ms - began) as f64 / 1_000.0;
        self.lanes = [0, 1].map(|lane| {
            let lane = &town.lanes[lane];
            (lane.passes, lane.longest, lane.oldest_ms as f64 / 1_000.0)
        });
    }

    /// Deployments that ended so.
    #[must_use]
    pub fn ended(&self, verdict: Verdict) -> usize {
        self.verdicts.get(&format!("{verdict:?}")).copied().unwrap_or(0)
    }

    /// Calls that were throttled.
    #[must_use]
    pub fn throttled(&self) -> u64 {
        self.drawn.values().map(|drawn| drawn.throttled).sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "verdicts                 {:?}", self.verdicts)?;
        for reason in &self.reasons {
            writeln!(f, "                         {reason}")?;
        }
        writeln!(f, "all of it                {:.0} s ({:.1} h) of virtual time", self.took_s, self.took_s / 3_600.0)?;
        writeln!(f, "push to begin            {}", self.asked_to_begin)?;
        writeln!(f, "begin to verdict         {}", self.begin_to_verdict)?;
        writeln!(f, "push to verdict          {}", self.asked_to_verdict)?;
        writeln!(f, "longest standstill       {}", self.standstill)?;
        writeln!(f, "alarm to weights back    {}; {} never", self.alarm_to_back, self.never_back)?;
        for (name, lane) in ["ordinary", "urgent"].iter().zip(self.lanes) {
            let (passes, longest, oldest) = lane;
            writeln!(f, "{name:<9} wakes          {passes} passes; at most {longest} waited, {oldest:.1} s")?;
        }
        let (busy, superseded, dead) = (self.busy, self.superseded, self.dead_letters);
        writeln!(f, "targets held             {busy} wakes retried, {superseded} superseded, {dead} dead letters")?;
        writeln!(f, "events                   {}; the longest pass took {} ms", self.signals, self.longest_pass_ms)?;
        for (name, Drawn { admitted, throttled }) in &self.drawn {
            let most = bucket_rate(name) * self.budgets * self.took_s;
            let share = if most > 0.0 { *admitted as f64 / most * 100.0 } else { 0.0 };
            writeln!(f, "{name:<28} {admitted:>9} calls ({share:>3.0} % of what there is), {throttled:>9} throttled")?;
        }
        Ok(())
    }
}

/// Tokens a second of the bucket of this name.
fn bucket_rate(name: &str) -> f64 {
    let operations = [
        "ecs:UpdateService",
        "ecs:RegisterTaskDefinition",
        "ecs:DescribeServices",
        "ecs:DescribeTaskDefinition",
        "ecs:DescribeTasks",
        "cloudwatch:DescribeAlarms",
        "elasticloadbalancing:ModifyRule",
        "elasticloadbalancing:DescribeRules",
        "application-autoscaling:DescribeScalableTargets",
        "application-autoscaling:RegisterScalableTarget",
    ];
    let buckets = operations.iter().filter_map(|operation| bucket(operation));
    buckets.filter(|bucket| bucket.name == name).map(|bucket| bucket.a_second).fold(0.0, f64::max)
}
