//! The operator's binary. `demo` runs the whole product on one machine; the other commands call a control plane.

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[cfg(feature = "demo")]
mod demo;
#[cfg(feature = "operator")]
mod operator;
#[cfg(any(feature = "demo", feature = "operator"))]
mod replay;

/// Blue/green deployments that come back by themselves.
#[derive(Debug, Parser)]
#[command(name = "switchback", version, about = "Blue/green deployments that come back by themselves")]
#[cfg_attr(feature = "operator", command(after_help = "The exit codes of all commands: switchback exit-codes"))]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch a good release go out and a bad one come back, in about a minute, on this machine alone.
    #[cfg(feature = "demo")]
    Demo(demo::DemoArguments),
    /// One task of the demo; started by `demo` only.
    #[cfg(feature = "demo")]
    #[command(hide = true)]
    DemoTask(demo::TaskArguments),
    #[cfg(any(feature = "demo", feature = "operator"))]
    Replay(replay::ReplayArguments),
    #[cfg(feature = "operator")]
    #[command(flatten)]
    Operator(Box<operator::Command>),
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        #[cfg(feature = "demo")]
        Command::Demo(arguments) => demo::run(arguments),
        #[cfg(feature = "demo")]
        Command::DemoTask(arguments) => demo::run_task(&arguments),
        #[cfg(any(feature = "demo", feature = "operator"))]
        Command::Replay(arguments) => replay::run(&arguments),
        #[cfg(feature = "operator")]
        Command::Operator(command) => operator::run(*command),
    }
}

#[cfg(all(test, feature = "demo", feature = "operator"))]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn readme_lists_every_command() {
        let page = include_str!("../README.md");
        for command in super::Arguments::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let name = command.get_name();
            let named = [format!("`switchback {name}"), format!("`{name}")].iter().any(|words| page.contains(words));
            assert!(named, "shared/switchback/README.md does not say what `switchback {name}` is");
        }
    }
}
