//! All text for people, in one place: terminal, page, `--json`.
//!
//! Pure: content and time are parameters.
//!
//! | module | content |
//! |---|---|
//! | [`journal`] | journal facts as sentences |
//! | [`waiting`](waiting()) | what a target waits for |
//! | [`status`] | state of targets |
//! | [`approval`] | approval requests |
//! | [`brake`] | freezes and stop-the-line |
//! | [`explain`] | why a target waits, until when, and what happens at that time |
//! | [`evidence`] | observations at the time of a failure |
//! | [`history`] | deployments, journal lines, releases |
//! | [`plan`] | what a deployment would do |
//! | [`replay`] | replayed decisions, and the first difference |
//! | [`doctor`] | problems of an account and their remedies |
//! | [`policy_file`] | problems of a policy file, and its changes |
//! | [`outcome`] | result of a request |
//! | [`notice`](notice()) | one journal entry as a standalone message |
//! | [`slack`] | Slack messages: a release's thread, a deployment, approval requests |
//! | `template` | how a new version's configuration differs from the live one |
//! | [`people`] | names of callers, and lists of names |
//! | [`time_format`] | times and durations |
//! | [`layout`], [`paint`] | width and colours |
//! | [`approval_page`] | the pages behind an approval's signed link |
//! | [`page`] | the live page, and the data that it polls |

pub mod approval;
#[cfg(feature = "approval_page")]
pub mod approval_page;
pub mod brake;
pub mod doctor;
pub mod evidence;
pub mod explain;
pub mod history;
pub mod journal;
pub mod layout;
mod notice;
pub mod outcome;
pub mod page;
pub mod paint;
pub mod people;
pub mod plan;
pub mod policy_file;
pub mod replay;
pub mod slack;
pub mod status;
mod template;
pub mod time_format;
mod waiting;

pub use notice::{Notice, approval_request, notice};
pub use paint::Paint;
pub use time_format::time_left;
pub use waiting::waiting;
