//! The command `modelforge`.

use std::process::ExitCode;

fn main() -> ExitCode {
    modelforge::main()
}
