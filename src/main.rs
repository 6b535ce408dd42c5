//! The `podium` command: parse, run.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
