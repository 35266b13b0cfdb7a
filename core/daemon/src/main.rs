//! `vfiomuxd`: see `vfiomuxd --help`.

use std::process::ExitCode;

use clap::Parser as _;
use vfiomux_daemon::Arguments;

fn main() -> ExitCode {
    match vfiomux_daemon::run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vfiomuxd: {error}");
            ExitCode::FAILURE
        }
    }
}
