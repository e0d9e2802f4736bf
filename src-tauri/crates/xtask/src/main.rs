//! The chores of this repository: `cargo xtask <chore>`. It is compiled before everything else and so stays light.

mod bench;
mod codegen;
mod cuda;
mod dist;
mod fuzz;
mod picture;
mod process;
mod python;
mod run;
mod test;
mod tidy;
mod tools;
mod ui;

use std::process::ExitCode;

use process::say;

/// One chore.
struct Chore {
    name: &'static str,
    arguments: &'static str,
    help: &'static str,
    run: fn(&[String]) -> anyhow::Result<()>,
}

const CHORES: &[Chore] = &[
    Chore {
        name: "run",
        arguments: "[demo options]",
        help: "build ModelForge and open it; without a display or with options, show in the terminal what it does",
        run: run::run,
    },
    Chore {
        name: "test",
        arguments: "[name filters] [--long] | --gpu",
        help: "everything CI checks; with filters only the tests they name; --long adds the ignored tests; --gpu compares an NVIDIA card with the processor",
        run: test::run,
    },
    Chore {
        name: "tidy",
        arguments: "",
        help: "check crate directions and the form of files",
        run: tidy::run,
    },
    Chore {
        name: "codegen",
        arguments: "[--check]",
        help: "write the generated files, or fail where one is stale",
        run: codegen::run,
    },
    Chore {
        name: "bench",
        arguments: "[micro|train|decode] [names] [--quick] [--threads N]",
        help: "measure our programs beside PyTorch's and keep the results as CSV (all of it needs Python, and hours)",
        run: bench::run,
    },
    Chore {
        name: "starter",
        arguments: "[training options]",
        help: "make the starter model and the sample datasets anew (hours; needs Python)",
        run: python::starter,
    },
    Chore {
        name: "golden",
        arguments: "[--check]",
        help: "make the parity files anew, or check adapters against PEFT both ways (needs Python)",
        run: python::golden,
    },
    Chore {
        name: "hub",
        arguments: "",
        help: "check the Hub client and its test server against the official client (needs Python)",
        run: python::hub,
    },
    Chore {
        name: "schemathesis",
        arguments: "[--max-examples N]",
        help: "send the server requests made from its OpenAPI document (needs Python)",
        run: python::schemathesis,
    },
    Chore {
        name: "fuzz",
        arguments: "[target] [--seconds N]",
        help: "fuzz one parser or all of them (needs a nightly toolchain)",
        run: fuzz::run,
    },
    Chore {
        name: "dist",
        arguments: "[--check | --cuda]",
        help: "make the packages to install, or with --cuda the engine for NVIDIA cards (needs CUDA); --check installs, uses and removes the Debian one (needs root)",
        run: dist::run,
    },
    Chore {
        name: "picture",
        arguments: "",
        help: "draw the output of `modelforge demo`, given on standard input, for the README",
        run: picture::run,
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = arguments.split_first() else {
        return usage(ExitCode::from(2));
    };
    if ["help", "--help", "-h"].contains(&name.as_str()) {
        return usage(ExitCode::SUCCESS);
    }
    let Some(chore) = CHORES.iter().find(|chore| chore.name == name) else {
        say(&format!("There is no chore `{name}`."));
        return usage(ExitCode::from(2));
    };
    match (chore.run)(rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("cargo xtask {name}: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn usage(code: ExitCode) -> ExitCode {
    say("cargo xtask <chore>\n");
    for Chore { name, arguments, help, .. } in CHORES {
        say(&format!("  {:<62} {help}", format!("{name} {arguments}")));
    }
    code
}
