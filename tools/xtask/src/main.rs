//! The project's own chores: `cargo xtask layers`, `cargo xtask house`, `cargo xtask properties`, `cargo xtask coverage`,
//! `cargo xtask instructions`.

mod coverage;
mod house;
mod instructions;
mod layers;
mod properties;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's own chores.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Check that dependencies between the workspace's crates point one way.
    Layers,
    /// Check the house rules that no lint knows: file lengths, unsafe opened with a reason, no unfinished business.
    House,
    /// Check that every property has a test, and that docs/properties.md says which.
    Properties {
        /// Write the page instead of checking it.
        #[arg(long)]
        write: bool,
    },
    /// Check that every function and item of the protocol is used by a scenario, and that docs/coverage.md says by which.
    Coverage {
        /// Write the page before checking.
        #[arg(long)]
        write: bool,
    },
    /// Count the data path's instructions under valgrind, and hold them against benches/instructions/baseline.json.
    Instructions {
        /// Make the counts the baseline, whatever they are.
        #[arg(long)]
        bless: bool,
        /// Install gungraun's runner first, unless it is there.
        #[arg(long)]
        install: bool,
    },
}

fn main() -> ExitCode {
    let (what, found) = match Arguments::parse().chore {
        Chore::Layers => ("layers", layers::check()),
        Chore::House => ("house rules", house::check()),
        Chore::Properties { write } => ("properties", properties::check(write)),
        Chore::Coverage { write } => ("coverage", coverage::check(write)),
        Chore::Instructions { bless, install } => {
            let installed = if install { instructions::install() } else { Ok(()) };
            ("instructions", installed.and_then(|()| instructions::check(bless)))
        }
    };
    match found {
        Ok(violations) if violations.is_empty() => {
            println!("{what}: in order");
            ExitCode::SUCCESS
        }
        Ok(violations) => {
            for violation in &violations {
                eprintln!("{violation}");
            }
            eprintln!("{what}: {} to put right", violations.len());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{what}: {error}");
            ExitCode::FAILURE
        }
    }
}
