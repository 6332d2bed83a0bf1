//! What AWS's answers mean: pure functions from plain descriptions of the answers to the core's readings.
//!
//! The AWS adapter fills the descriptions from the SDK's types and the simulation fills them from its model, so that
//! both judge by the same rules. The descriptions hold AWS's own words (`COMPLETED`, `EssentialContainerExited`); a
//! field is `None` where AWS may omit it. Alarms, which belong to no platform, are read in [`crate::alarm`].
//!
//! | module | contents |
//! |---|---|
//! | [`ecs`] | steadiness, circuit breaker, placement and failed starts of a service; the task of a hook |
//! | [`elb`] | health of a target group; how a rule splits traffic |
//! | [`template`] | how one document of a task definition differs from another |

pub mod ecs;
pub mod elb;
pub mod template;

/// Maximum length of a reason, in characters: reasons are stored with the target, and shown on one line.
pub const MAX_REASON_CHARS: usize = 1_000;

/// AWS's text as stored and shown: on one line, and short.
fn one_line(text: &str) -> String {
    crate::text::line(text, MAX_REASON_CHARS)
}
