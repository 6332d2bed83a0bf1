//! What only the wire front can show: tasks that fail, alarms, functions, faults, and what a look costs.

mod alarms;
mod faults;
mod hooks;
mod legs;
mod sides;
mod templates;
mod writes;

use rollout::snapshot::Weights;
use std::time::Duration;

const SHIFTED: Weights = Weights { blue: 90, green: 10 };
/// So that parallel calls overlap, and sequential ones do not.
const LATENCY: Duration = Duration::from_millis(250);
