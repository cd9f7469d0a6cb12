//! The program: the command line in front of the library.
//!
//! Entry function: [`main`]. The rule it keeps: results go to stdout, errors to stderr, and the exit code says whether
//! the command succeeded.
//!
//! * `args` parses the command line, `config` turns it into plain values once.
//! * `identity`, `folder`, `peers`, `listen` read the files and addresses that the arguments name.
//! * `session` runs a node between `input` (stdin) and `output` (stdout).
//! * `demo`, `check`, `conformance`, `key`, `log` and `bench` are the other commands.
//! * `stderr` and `tracing_setup` write the program's own log lines.

mod args;
#[cfg(feature = "bench")]
mod bench;
mod check;
mod config;
mod conformance;
mod demo;
mod escape;
mod failure;
mod folder;
mod identity;
mod input;
mod key;
mod listen;
mod log;
mod memory;
mod output;
mod peers;
mod session;
mod signals;
mod stderr;
mod strength;
mod timestamp;
mod tracing_setup;

use std::process::ExitCode;

use args::{Args, Command};
use config::{ArgSources, CheckConfig, ConformanceConfig, DemoConfig, NodeConfig};
use failure::Failure;

/// Runs the program with the process's own arguments. Exit codes: 0, 1 failure, 2 usage.
pub fn main() -> ExitCode {
    let (args, given) = match Args::read() {
        Ok(read) => read,
        Err(error) => {
            // A closed stderr must not turn `--help` into a panic; a help that cannot be written is a failure.
            let code = match error.print() {
                Err(_) if error.exit_code() == 0 => 1,
                _ => u8::try_from(error.exit_code()).unwrap_or(2),
            };
            return ExitCode::from(code);
        }
    };
    tracing_setup::start(args.log_format);
    args::warn_of_unknown_variables();
    // The bench measures, and lets itself be measured; its keys are worth nothing.
    if !args.is_benchmark() {
        memory::forbid_dumps();
    }
    let json = args.json();
    let result = run(args.command, &given).and_then(|code| match output::take_error() {
        Some(error) if code == ExitCode::SUCCESS => Err(Failure::new(error)),
        _ => Ok(code),
    });
    let code = result.unwrap_or_else(|failure| {
        failure.tell(json);
        failure.exit_code()
    });
    stderr::flush();
    code
}

fn run(command: Command, given: &ArgSources) -> Result<ExitCode, Failure> {
    match command {
        Command::Node(args) => session::run(NodeConfig::read(*args, given)?),
        Command::Demo(args) => demo::run(DemoConfig::read(&args)),
        Command::Id(args) => key::id(&args, given),
        Command::Key(command) => key::run(command, given),
        Command::Log(command) => log::run(command, given),
        Command::Check(args) => check::run(CheckConfig::read(args, given)?),
        Command::Conformance(args) => conformance::run(ConformanceConfig::read(*args, given)?),
        #[cfg(feature = "bench")]
        Command::Bench(args) => bench::run(*args),
        Command::Completions { shell } => {
            output::print(&args::completions(shell));
            Ok(ExitCode::SUCCESS)
        }
    }
}
