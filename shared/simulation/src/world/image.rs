//! How images behave: the table that decides which release is good and which is bad.

use rollout::Seconds;

/// How tasks of an image behave. The default is a good one.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageBehaviour {
    /// How a task's start goes.
    pub starts: Starts,
    /// What the balancer's health checks find.
    pub health: Health,
    /// The share of requests that it answers with 5xx, 0 to 1.
    pub error_rate: f64,
    /// From this long after a task's start on, this share instead: a slow leak.
    pub later: Option<(Seconds, f64)>,
    /// How long an answer takes, in seconds.
    pub latency_s: f64,
    /// Requests per second that one task can bear; what is above is answered with 5xx.
    pub capacity_rps: f64,
    /// How a task ends that `RunTask` started.
    pub run: Run,
}

impl Default for ImageBehaviour {
    fn default() -> Self {
        Self {
            starts: Starts::Well,
            health: Health::After(Seconds(5)),
            error_rate: 0.0,
            later: None,
            latency_s: 0.02,
            capacity_rps: f64::INFINITY,
            run: Run::Exits { after: Seconds(8), exit_code: 0 },
        }
    }
}

impl ImageBehaviour {
    /// Answers this share of requests with 5xx.
    #[must_use]
    pub fn failing(error_rate: f64) -> Self {
        Self { error_rate, ..Self::default() }
    }

    /// Runs, and is never healthy.
    #[must_use]
    pub fn never_healthy() -> Self {
        Self { health: Health::Never, ..Self::default() }
    }

    /// Starts like this.
    #[must_use]
    pub fn starting(starts: Starts) -> Self {
        Self { starts, ..Self::default() }
    }

    /// Its `RunTask` tasks end like this.
    #[must_use]
    pub fn running(run: Run) -> Self {
        Self { run, ..Self::default() }
    }
}

/// How a task's start goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Starts {
    /// It runs.
    Well,
    /// It runs, and its essential container exits soon after.
    CrashLoop {
        /// With this code.
        exit_code: i32,
        /// This long after its start.
        after: Seconds,
    },
    /// The image cannot be pulled.
    PullError,
    /// No task can be placed.
    PlacementFailure,
}

/// What the balancer's health checks find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Well, this long after the start and the checks that it takes.
    After(Seconds),
    /// Never well.
    Never,
    /// Well at first; no more this long after the start.
    LostAfter(Seconds),
}

/// How a task ends that `RunTask` started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// It exits.
    Exits {
        /// This long after its start.
        after: Seconds,
        /// With this code.
        exit_code: i32,
    },
    /// It runs until it is stopped.
    Endless,
}
