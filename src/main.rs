//! The `walhook` program: parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    walhook::cli::main(std::env::args_os())
}
