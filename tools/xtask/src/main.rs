//! The project's own chores: `cargo xtask layers`, `cargo xtask house`, `cargo xtask properties`.

mod house;
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
}

fn main() -> ExitCode {
    let (what, found) = match Arguments::parse().chore {
        Chore::Layers => ("layers", layers::check()),
        Chore::House => ("house rules", house::check()),
        Chore::Properties { write } => ("properties", properties::check(write)),
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
