//! What Switchback counts of itself, for the alarms on the control plane.
//!
//! A measurement is a log event of the target [`TARGET`]; who writes the log makes a metric of it (`shared/lambda`: the
//! embedded metric format, so that nothing is called for it). Nobody listens in simulations and in the demo.

/// The log target of measurements.
pub const TARGET: &str = "measure";

/// What a number counts, in CloudWatch's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Time.
    Seconds,
}

impl Unit {
    /// As CloudWatch writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Count => "Count",
            Self::Seconds => "Seconds",
        }
    }
}

/// Something that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// What it is called. Stable: alarms and dashboards of others name it.
    pub name: &'static str,
    /// What its numbers are.
    pub unit: Unit,
    /// Package of the one function that measures it.
    pub function: &'static str,
    /// What it is counted by beside the function, where it is.
    pub by: Option<&'static str>,
}

impl Metric {
    const fn of(function: &'static str, name: &'static str) -> Self {
        Self { name, unit: Unit::Count, function, by: None }
    }

    const fn seconds(self) -> Self {
        Self { unit: Unit::Seconds, ..self }
    }

    const fn by(self, dimension: &'static str) -> Self {
        Self { by: Some(dimension), ..self }
    }

    /// Measures it.
    pub fn is(&self, value: f64) {
        self.write(value, None);
    }

    /// Counts so many of it.
    pub fn count(&self, number: usize) {
        // No count here comes near to where a float skips whole numbers.
        self.is(u32::try_from(number).unwrap_or(u32::MAX).into());
    }

    /// Counts one, of this kind of [`by`](Self::by).
    pub fn one_of(&self, kind: &str) {
        self.write(1.0, Some(kind));
    }

    fn write(&self, value: f64, kind: Option<&str>) {
        let Self { name, unit, by, .. } = self;
        tracing::info!(target: TARGET, metric = name, unit = unit.name(), value, by, kind, "measured");
    }
}

/// Targets that were due and that nobody looked at, at each sweep.
pub const OVERDUE_TARGETS: Metric = Metric::of("sweeper", "OverdueTargets");
/// For how long the most overdue of them is, 0 where none is. The sweep before has woken it if it is more than a minute.
pub const OLDEST_OVERDUE: Metric = Metric::of("sweeper", "OldestOverdueSeconds").seconds();
/// Pushes that were deployed because the sweep found them: their event never came.
pub const MISSED_PUSHES: Metric = Metric::of("sweeper", "MissedPushes");
/// Passes that were begun.
pub const PASSES: Metric = Metric::of("rollout-driver", "Passes");
/// Targets that were taken from a pass that died.
pub const LEASE_STEALS: Metric = Metric::of("rollout-driver", "LeaseSteals");
/// Passes that ended because somebody else had written to their target.
pub const LEDGER_CONFLICTS: Metric = Metric::of("rollout-driver", "LedgerConflicts");
/// Effects that AWS refused for good, by what they were.
pub const EFFECTS_REFUSED: Metric = Metric::of("rollout-driver", "EffectsRefused").by("Effect");
/// Effects of which nobody knows whether they worked (throttled, timed out), by what they were.
pub const EFFECTS_UNSURE: Metric = Metric::of("rollout-driver", "EffectsUnsure").by("Effect");
/// From the alarm's own change, as CloudWatch tells it, to the balancer's answer that the weights are back.
pub const ALARM_TO_WEIGHTS: Metric = Metric::of("rollout-driver", "SecondsFromAlarmToWeights").seconds();
/// Journal entries that every channel has taken.
pub const TOLD: Metric = Metric::of("notifier", "EntriesTold");
/// Deliveries that were given up and lie among the dead letters.
pub const SET_ASIDE: Metric = Metric::of("notifier", "DeliveriesSetAside");

/// All of them.
pub const METRICS: [Metric; 11] = [
    OVERDUE_TARGETS,
    OLDEST_OVERDUE,
    MISSED_PUSHES,
    PASSES,
    LEASE_STEALS,
    LEDGER_CONFLICTS,
    EFFECTS_REFUSED,
    EFFECTS_UNSURE,
    ALARM_TO_WEIGHTS,
    TOLD,
    SET_ASIDE,
];
