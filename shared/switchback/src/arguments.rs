//! The command line: which commands there are, by the features that this binary is built with.

use clap::{Parser, Subcommand};

/// Blue/green deployments that come back by themselves.
#[derive(Debug, Parser)]
#[command(name = "switchback", version, about = "Blue/green deployments that come back by themselves")]
#[cfg_attr(feature = "operator", command(after_help = "The exit codes of all commands: switchback exit-codes"))]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: TopLevelCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TopLevelCommand {
    /// Watch a good release go out and a bad one come back, in about a minute, on this machine alone.
    #[cfg(feature = "demo")]
    Demo(crate::demo::DemoArguments),
    /// One task of the demo; started by `demo` only.
    #[cfg(feature = "demo")]
    #[command(hide = true)]
    DemoTask(crate::demo::TaskArguments),
    #[cfg(any(feature = "demo", feature = "operator"))]
    Replay(crate::replay::ReplayArguments),
    #[cfg(feature = "operator")]
    #[command(flatten)]
    Operator(Box<crate::operator::OperatorCommand>),
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
