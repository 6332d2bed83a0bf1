//! The results of a load run, in figures.

use super::state::LoadState;
use crate::budgets::{BucketUsage, bucket};
use crate::ledger::MemoryLedger;
use rollout::Timestamp;
use rollout::journal::Fact;
use rollout::verdict::Verdict;
use std::collections::BTreeMap;
use std::fmt;

/// A sample of durations, in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Durations(Vec<i64>);

impl Durations {
    fn of(mut durations: Vec<i64>) -> Self {
        durations.sort_unstable();
        Self(durations)
    }

    /// Sample size.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The given percentile, in seconds; 0 for an empty sample.
    #[must_use]
    pub fn percentile(&self, per_cent: usize) -> f64 {
        let rank = (self.0.len() * per_cent).div_ceil(100).max(1) - 1;
        self.0.get(rank).map_or(0.0, |ms| *ms as f64 / 1_000.0)
    }
}

impl fmt::Display for Durations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [half, most, all] = [50, 99, 100].map(|per_cent| self.percentile(per_cent));
        write!(f, "{half:.1} s for half of {}, {most:.1} s for 99 %, {all:.1} s at most", self.count())
    }
}

/// The results of a load run.
#[derive(Debug, Clone, Default)]
pub struct LoadReport {
    /// Number of deployments by verdict; `none` counts unfinished ones.
    pub verdicts: BTreeMap<String, usize>,
    /// Reasons of the first few deployments with an unexpected verdict.
    pub reasons: Vec<String>,
    /// From the push to the verdict.
    pub push_to_verdict: Durations,
    /// From the push until the deployment has determined its sides.
    pub push_to_start: Durations,
    /// From there to the verdict.
    pub start_to_verdict: Durations,
    /// Per deployment: the longest interval without a journal entry, once its sides were determined.
    pub longest_journal_gap: Durations,
    /// From the alarm's state change until all weight was back on the stable side.
    pub alarm_to_rollback: Durations,
    /// Alarms that fired without a rollback.
    pub not_rolled_back: usize,
    /// Admitted and throttled calls per bucket.
    pub usage: BTreeMap<&'static str, BucketUsage>,
    /// Bucket sizes as a multiple of AWS's.
    pub budgets: f64,
    /// Duration of the whole run, in seconds of virtual time.
    pub duration_s: f64,
    /// Per lane (ordinary, urgent): number of passes, longest backlog of wakes, and age of the oldest waiting wake in
    /// seconds.
    pub lanes: [(u64, usize, f64); 2],
    /// Wakes whose target's lease was held by another pass.
    pub busy: u64,
    /// Passes that lost their target to another driver's takeover.
    pub superseded: u64,
    /// Wakes moved to the dead-letter queue.
    pub dead_letters: u64,
    /// Events that were processed.
    pub signals: u64,
    /// Duration of the longest pass, in milliseconds.
    pub longest_pass_ms: i64,
}

impl LoadReport {
    pub(super) fn collect(&mut self, state: &LoadState, ledger: &MemoryLedger, began: Timestamp) {
        let began = began.as_millisecond();
        let store = ledger.store();
        let (mut push_times, mut start_times, mut run_times, mut journal_gaps, mut rollback_times) =
            (vec![], vec![], vec![], vec![], vec![]);
        for target_world in &state.target_worlds {
            let journal = store.journal(&target_world.target, 0, usize::MAX);
            let settled = journal.iter().position(|entry| matches!(entry.fact, Fact::SidesDetermined { .. }));
            let from = settled.map_or(&journal[..0], |index| &journal[index..]);
            let gaps = from.windows(2).map(|pair| pair[1].at.as_millisecond() - pair[0].at.as_millisecond());
            journal_gaps.extend(gaps.max());
            let first = from.first().map(|entry| entry.at.as_millisecond());
            start_times.extend(first.map(|first| first - began));
            let end = journal.iter().find_map(|entry| match &entry.fact {
                Fact::Ended { verdict, reason, .. } => Some((entry.at.as_millisecond(), *verdict, reason.clone())),
                _ => None,
            });
            match end {
                Some((at, verdict, reason)) => {
                    push_times.push(at - began);
                    run_times.extend(first.map(|first| at - first));
                    *self.verdicts.entry(format!("{verdict:?}")).or_default() += 1;
                    let expected = matches!(verdict, Verdict::Succeeded)
                        || matches!(verdict, Verdict::RolledBack) && target_world.alarm_at.is_some();
                    if !expected && self.reasons.len() < 5 {
                        self.reasons.push(format!("{}: {verdict:?}: {reason}", target_world.target));
                    }
                }
                None => *self.verdicts.entry("none".to_owned()).or_default() += 1,
            }
            match (target_world.alarm_at, target_world.rolled_back_at) {
                (Some(alarm), Some(at)) => rollback_times.push(at - alarm),
                (Some(_), None) => self.not_rolled_back += 1,
                _ => {}
            }
        }
        self.push_to_verdict = Durations::of(push_times);
        self.push_to_start = Durations::of(start_times);
        self.start_to_verdict = Durations::of(run_times);
        self.longest_journal_gap = Durations::of(journal_gaps);
        self.alarm_to_rollback = Durations::of(rollback_times);
        self.usage.clone_from(state.budgets.usage());
        self.budgets = state.budgets.scale();
        self.duration_s = (state.now_ms - began) as f64 / 1_000.0;
        self.lanes = [0, 1].map(|lane| {
            let lane = &state.lanes[lane];
            (lane.passes, lane.max_backlog, lane.max_age_ms as f64 / 1_000.0)
        });
    }

    /// Number of deployments with this verdict.
    #[must_use]
    pub fn ended(&self, verdict: Verdict) -> usize {
        self.verdicts.get(&format!("{verdict:?}")).copied().unwrap_or(0)
    }

    /// Number of throttled calls, over all buckets.
    #[must_use]
    pub fn throttled(&self) -> u64 {
        self.usage.values().map(|usage| usage.throttled).sum()
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "verdicts                 {:?}", self.verdicts)?;
        for reason in &self.reasons {
            writeln!(f, "                         {reason}")?;
        }
        writeln!(
            f,
            "all of it                {:.0} s ({:.1} h) of virtual time",
            self.duration_s,
            self.duration_s / 3_600.0
        )?;
        writeln!(f, "push to begin            {}", self.push_to_start)?;
        writeln!(f, "begin to verdict         {}", self.start_to_verdict)?;
        writeln!(f, "push to verdict          {}", self.push_to_verdict)?;
        writeln!(f, "longest standstill       {}", self.longest_journal_gap)?;
        writeln!(f, "alarm to weights back    {}; {} never", self.alarm_to_rollback, self.not_rolled_back)?;
        for (name, lane) in ["ordinary", "urgent"].iter().zip(self.lanes) {
            let (passes, max_backlog, oldest) = lane;
            writeln!(f, "{name:<9} wakes          {passes} passes; at most {max_backlog} waited, {oldest:.1} s")?;
        }
        let (busy, superseded, dead) = (self.busy, self.superseded, self.dead_letters);
        writeln!(f, "targets held             {busy} wakes retried, {superseded} superseded, {dead} dead letters")?;
        writeln!(f, "events                   {}; the longest pass took {} ms", self.signals, self.longest_pass_ms)?;
        for (name, BucketUsage { admitted, throttled }) in &self.usage {
            let most = bucket_rate(name) * self.budgets * self.duration_s;
            let share = if most > 0.0 { *admitted as f64 / most * 100.0 } else { 0.0 };
            writeln!(f, "{name:<28} {admitted:>9} calls ({share:>3.0} % of what there is), {throttled:>9} throttled")?;
        }
        Ok(())
    }
}

/// Refill rate of the named bucket, in tokens per second.
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
    buckets.filter(|bucket| bucket.name == name).map(|bucket| bucket.per_second).fold(0.0, f64::max)
}
