//! `switchback demo`: the whole product on one machine, with nothing but this binary.
//!
//! Real: `decide` and the drive loop, the policy file, the intake of pushes and signals, the processes that run as
//! tasks, the proxy that acts as load balancer, the requests, the 5xx that raise the alarm. Modelled: the behaviour of
//! ECS, ELB and CloudWatch (`simulation`'s world, which receives everything that really happens). In reading order:
//!
//! | module | what it does |
//! |---|---|
//! | [`story`] | the chapters and their expected outcome |
//! | [`scene`] | the initial world, and the releases |
//! | [`driver_loop`] | wake queue, clock, and the loop that processes wakes |
//! | [`platform`] | runs what the modelled world wants, and reports what happens |
//! | [`fleet`], [`task`] | tasks as child processes; the code of such a process |
//! | [`balancer`] | the weighted proxy |
//! | [`clients`], [`tally`] | the load; its results, counted by the clients |
//! | [`narrator`], [`page_renderer`] | reports changes; renders the current state |
//! | [`terminal`], [`web`] | output to the terminal and the browser |

mod balancer;
mod clients;
mod driver_loop;
mod fleet;
mod narrator;
mod page_renderer;
mod platform;
mod scene;
mod story;
mod tally;
mod task;
mod terminal;
mod web;

pub(crate) use task::TaskArguments;

use std::process::ExitCode;
use std::time::Duration;
use story::DemoResult;

/// Watch a good release go out and a bad one come back.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Exit codes: 0 as expected; 1 a verdict was not the expected one, or a request was lost to the \
                        shift; 2 wrong arguments; 130 interrupted."
)]
pub(crate) struct DemoArguments {
    /// Print the journal as JSON lines on standard output, at the end a line with a `summary`; words go to standard
    /// error.
    #[arg(long)]
    json: bool,
    /// Port of the live page on 127.0.0.1; 0: any free one.
    #[arg(long, default_value_t = 0, value_name = "N")]
    port: u16,
    /// Keep service and page running after the story, until Ctrl-C.
    #[arg(long)]
    keep: bool,
}

/// Runs the demo.
pub(crate) fn run(arguments: DemoArguments) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let ending = runtime.block_on(story::play(arguments));
    runtime.shutdown_timeout(Duration::from_secs(1));
    match ending {
        Ok(DemoResult::AsExpected) => ExitCode::SUCCESS,
        Ok(DemoResult::Unexpected) => ExitCode::FAILURE,
        Ok(DemoResult::Interrupted) => ExitCode::from(130),
        Err(error) => failed(&error),
    }
}

/// Serves as one task until standard input is closed.
pub(crate) fn run_task(arguments: &TaskArguments) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let served = runtime.block_on(task::serve(arguments));
    runtime.shutdown_background();
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("switchback: {error:#}");
    ExitCode::FAILURE
}
