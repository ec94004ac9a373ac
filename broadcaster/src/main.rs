//! The `broadcaster` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    broadcaster::cli::main()
}
