//! From environment to environment in virtual time: promotion, approvals, brakes, trains and forward-only releases, with
//! the real decision and drive loop over one world of several targets.

/// Days are lived through by the thousand.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod brakes;
mod corpus;
mod crashes;
mod day;
mod edits;
mod endless;
mod forward_only;
mod in_place_day;
mod one_at_a_time;
mod order;
mod pipeline;
mod queues;
mod random;
mod train_approval;
mod trains;
