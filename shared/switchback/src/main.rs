//! The operator's binary. `demo` runs the whole product on one machine; the other commands call a control plane.

mod arguments;
#[cfg(feature = "demo")]
mod demo;
#[cfg(feature = "operator")]
mod operator;
#[cfg(any(feature = "demo", feature = "operator"))]
mod replay;

use arguments::{Arguments, TopLevelCommand};
use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    match Arguments::parse().command {
        #[cfg(feature = "demo")]
        TopLevelCommand::Demo(arguments) => demo::run(arguments),
        #[cfg(feature = "demo")]
        TopLevelCommand::DemoTask(arguments) => demo::run_task(&arguments),
        #[cfg(any(feature = "demo", feature = "operator"))]
        TopLevelCommand::Replay(arguments) => replay::run(&arguments),
        #[cfg(feature = "operator")]
        TopLevelCommand::Operator(command) => operator::run(*command),
    }
}
