//! The `picker` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    picker::cli::main()
}
