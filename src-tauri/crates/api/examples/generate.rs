//! Prints what is generated from the table of operations, for `cargo xtask codegen`: `openapi` or `typescript`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

fn main() -> io::Result<ExitCode> {
    let text = match std::env::args().nth(1).as_deref() {
        Some("openapi") => format!("{:#}\n", api::openapi()),
        Some("typescript") => api::typescript(),
        _ => {
            writeln!(io::stderr(), "name one of: openapi, typescript")?;
            return Ok(ExitCode::FAILURE);
        }
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
