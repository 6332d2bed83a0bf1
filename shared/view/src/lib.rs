//! Every word a person reads, made in one place: the terminal, the page, `--json`.
//!
//! Pure: it is handed what is to be said, and the time.
//!
//! | module | says |
//! |---|---|
//! | [`journal`] | what happened, a sentence a fact |
//! | [`waiting`](waiting()) | what a target waits for |
//! | [`status`] | how targets are |
//! | [`approval`] | what people are asked to say yes to |
//! | [`brake`] | freezes, and the stopped line |
//! | [`explain`] | why a target waits, until when, and what happens then |
//! | [`evidence`] | what was seen when something went wrong |
//! | [`history`] | deployments, journal lines, releases |
//! | [`plan`] | what a deployment would do |
//! | [`replay`] | what was recorded and decided again, and the first difference |
//! | [`doctor`] | what is wrong with an account, and what to do |
//! | [`policy_file`] | what is wrong with a policy file, and what it changes |
//! | [`outcome`] | what became of what was asked |
//! | [`notice`](notice()) | one journal entry as a message of its own |
//! | [`slack`] | what stands in Slack: a release's thread, a deployment, what people are asked there |
//! | [`people`] | who did it, and lists of names |
//! | [`when`] | times as people say them |
//! | [`layout`], [`paint`] | width and colours |
//! | [`approval_page`] | the pages behind an approval's signed link |
//! | [`page`] | the live page, and the data that it polls |

pub mod approval;
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
mod waiting;
pub mod when;

pub use notice::{Notice, ask, notice};
pub use paint::Paint;
pub use waiting::waiting;
pub use when::left;
