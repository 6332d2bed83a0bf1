//! Behaviour of images, which determines whether a release is good or bad.

use rollout::Seconds;

/// Behaviour of an image's tasks. The default is healthy and without errors.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageBehaviour {
    /// Outcome of starting a task.
    pub starts: StartBehaviour,
    /// Results of the health checks of the balancer, and of the container if its definition has one.
    pub health: Health,
    /// Share of requests answered with 5xx, 0 to 1.
    pub error_rate: f64,
    /// A different error rate from this long after the task's start: a slow leak.
    pub later: Option<(Seconds, f64)>,
    /// Response time in seconds.
    pub latency_s: f64,
    /// Capacity of one task in requests per second; the excess is answered with 5xx.
    pub capacity_rps: f64,
    /// How a task started by `RunTask` ends.
    pub run: RunTaskBehaviour,
}

impl Default for ImageBehaviour {
    fn default() -> Self {
        Self {
            starts: StartBehaviour::Well,
            health: Health::After(Seconds(5)),
            error_rate: 0.0,
            later: None,
            latency_s: 0.02,
            capacity_rps: f64::INFINITY,
            run: RunTaskBehaviour::Exits { after: Seconds(8), exit_code: 0 },
        }
    }
}

impl ImageBehaviour {
    /// A running, healthy image with this error rate.
    #[must_use]
    pub fn failing(error_rate: f64) -> Self {
        Self { error_rate, ..Self::default() }
    }

    /// An image that runs, but never becomes healthy.
    #[must_use]
    pub fn never_healthy() -> Self {
        Self { health: Health::Never, ..Self::default() }
    }

    /// An image with this start behaviour.
    #[must_use]
    pub fn starting(starts: StartBehaviour) -> Self {
        Self { starts, ..Self::default() }
    }

    /// An image whose `RunTask` tasks end like this.
    #[must_use]
    pub fn running(run: RunTaskBehaviour) -> Self {
        Self { run, ..Self::default() }
    }
}

/// Outcome of starting a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartBehaviour {
    /// The task runs.
    Well,
    /// The task runs, and its essential container exits some time after.
    CrashLoop {
        /// Exit code of the container.
        exit_code: i32,
        /// Delay from the task's start.
        after: Seconds,
    },
    /// The image cannot be pulled.
    PullError,
    /// No task can be placed.
    PlacementFailure,
}

/// Results of the health checks of the balancer and of the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Healthy this long after the start, plus the number of checks required.
    After(Seconds),
    /// Never healthy.
    Never,
    /// Healthy at first; unhealthy from this long after the start.
    LostAfter(Seconds),
}

/// How a task started by `RunTask` ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunTaskBehaviour {
    /// Its container exits.
    Exits {
        /// Delay from the task's start.
        after: Seconds,
        /// Exit code of the container.
        exit_code: i32,
    },
    /// Runs until it is stopped.
    Endless,
}
