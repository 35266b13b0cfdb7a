//! `vfiomux-demo`: the main job of vfiomux in one command.
//!
//! ```text
//!   demonstration ─┬─ spawns ─────────► itself, as vfiomuxd, on a simulated NVMe controller
//!                  ├─ control socket ─► channels alpha and beta, for two tenants
//!                  └─ load thread ────► two vhost-user sessions; every byte that comes back is checked
//! ```
//!
//! The daemon is a process of its own, and all that passes between it and the demonstration is what passes between it and
//! an operator or a VMM: JSON-RPC, vhost-user messages, shared memory. Nothing is mocked but the controller.
#![forbid(unsafe_code)]

mod arguments;
mod daemon;
mod demonstration;
mod error;
mod load;
mod next;
mod pattern;
mod random;
mod screen;
mod tenant;
mod units;
mod workload;

use std::process::ExitCode;

use clap::Parser as _;

use crate::arguments::{Arguments, Role};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.role {
        Some(Role::Daemon(role)) => daemon::serve(role),
        None => demonstration::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vfiomux-demo: {error}");
            ExitCode::FAILURE
        }
    }
}
