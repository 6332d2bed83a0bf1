//! Switchback's own metrics, for the alarms on the control plane.
//!
//! A measurement is a log event of the target [`TARGET`]; the logger turns it into a metric (`shared/lambda`: the embedded metric
//! format, so that no API is called for it). Simulations and the demo ignore measurements.

/// The log target of measurements.
pub const TARGET: &str = "measure";

/// Unit of a metric, as named by CloudWatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A number of events or items.
    Count,
    /// A duration in seconds.
    Seconds,
}

impl Unit {
    /// The name used by CloudWatch.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Count => "Count",
            Self::Seconds => "Seconds",
        }
    }
}

/// A metric of the control plane, logged in the embedded metric format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbeddedMetric {
    /// Stable: alarms and dashboards refer to it.
    pub name: &'static str,
    /// Unit of the values.
    pub unit: Unit,
    /// Package of the only function that emits it.
    pub function: &'static str,
    /// Additional dimension besides the function, if any.
    pub by: Option<&'static str>,
}

impl EmbeddedMetric {
    const fn of(function: &'static str, name: &'static str) -> Self {
        Self { name, unit: Unit::Count, function, by: None }
    }

    const fn seconds(self) -> Self {
        Self { unit: Unit::Seconds, ..self }
    }

    const fn by(self, dimension: &'static str) -> Self {
        Self { by: Some(dimension), ..self }
    }

    /// Emits a value.
    pub fn record(&self, value: f64) {
        self.write(value, None);
    }

    /// Emits a count.
    pub fn count(&self, number: usize) {
        // No count here approaches the limit of exact integers in a float.
        self.record(u32::try_from(number).unwrap_or(u32::MAX).into());
    }

    /// Emits a count of one for this value of the dimension [`by`](Self::by).
    pub fn count_one(&self, kind: &str) {
        self.write(1.0, Some(kind));
    }

    fn write(&self, value: f64, kind: Option<&str>) {
        let Self { name, unit, by, .. } = self;
        tracing::info!(target: TARGET, metric = name, unit = unit.name(), value, by, kind, "measured");
    }
}

/// Overdue targets found by each sweep.
pub const OVERDUE_TARGETS: EmbeddedMetric = EmbeddedMetric::of("sweeper", "OverdueTargets");
/// Age of the most overdue target, 0 if none is overdue. Above one minute, the previous sweep has already woken it.
pub const OLDEST_OVERDUE: EmbeddedMetric = EmbeddedMetric::of("sweeper", "OldestOverdueSeconds").seconds();
/// Pushes deployed because the sweep found them: their event never arrived.
pub const MISSED_PUSHES: EmbeddedMetric = EmbeddedMetric::of("sweeper", "MissedPushes");
/// Passes started.
pub const PASSES: EmbeddedMetric = EmbeddedMetric::of("rollout-driver", "Passes");
/// Leases taken over from a pass that died.
pub const LEASE_STEALS: EmbeddedMetric = EmbeddedMetric::of("rollout-driver", "LeaseSteals");
/// Passes that ended because another driver had written to their target.
pub const LEDGER_CONFLICTS: EmbeddedMetric = EmbeddedMetric::of("rollout-driver", "LedgerConflicts");
/// Effects that AWS refused permanently, by kind.
pub const EFFECTS_REFUSED: EmbeddedMetric = EmbeddedMetric::of("rollout-driver", "EffectsRefused").by("Effect");
/// Effects with an unknown outcome (throttled, timed out), by kind.
pub const EFFECTS_UNSURE: EmbeddedMetric = EmbeddedMetric::of("rollout-driver", "EffectsUnsure").by("Effect");
/// Time from the alarm's state change, as reported by CloudWatch, to the load balancer's confirmation of the restored weights.
pub const ALARM_TO_WEIGHTS: EmbeddedMetric =
    EmbeddedMetric::of("rollout-driver", "SecondsFromAlarmToWeights").seconds();
/// Journal entries that every channel has accepted.
pub const ENTRIES_DELIVERED: EmbeddedMetric = EmbeddedMetric::of("notifier", "EntriesDelivered");
/// Deliveries that were given up and moved to the dead-letter queue.
pub const DEAD_LETTERED_DELIVERIES: EmbeddedMetric = EmbeddedMetric::of("notifier", "DeliveriesSetAside");

/// All metrics.
pub const METRICS: [EmbeddedMetric; 11] = [
    OVERDUE_TARGETS,
    OLDEST_OVERDUE,
    MISSED_PUSHES,
    PASSES,
    LEASE_STEALS,
    LEDGER_CONFLICTS,
    EFFECTS_REFUSED,
    EFFECTS_UNSURE,
    ALARM_TO_WEIGHTS,
    ENTRIES_DELIVERED,
    DEAD_LETTERED_DELIVERIES,
];
