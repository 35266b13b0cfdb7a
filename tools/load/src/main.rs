//! `vfiomux-load`: drives vhost-user disks, and says how fast they were.
#![forbid(unsafe_code)]

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use vfiomux_load::report::{Report, Verify};
use vfiomux_load::{Arguments, LoadError, Paint, Progress};

/// Exit code: it was done, and something was wrong with what came back.
const WRONG: u8 = 3;

fn main() -> ExitCode {
    match measure(&Arguments::parse()) {
        Ok(report) if is_right(&report) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(WRONG),
        Err(error) => {
            eprintln!("vfiomux-load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<Report, LoadError> {
    let stop = Arc::new(AtomicBool::new(false));
    // The first Ctrl-C ends the run in order, with a report; the second one ends the program.
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, stop.clone())
            .and_then(|_| signal_hook::flag::register(signal, stop.clone()))
            .map_err(|source| LoadError::System { step: "listen for signals", source })?;
    }
    allow_many_files();
    let progress = (!arguments.quiet).then(|| {
        Progress::begin(
            if arguments.calibrate { "null ring" } else { "driving" },
            vfiomux_load::expected(arguments),
        )
    });
    let report = vfiomux_load::run(arguments, stop);
    drop(progress);
    let report = report?;
    if let Some(path) = &arguments.svg {
        vfiomux_load::write_svg(&report, path)?;
    }
    let text = if arguments.json {
        // A report is numbers and strings, which JSON can express.
        serde_json::to_string_pretty(&report).unwrap_or_default() + "\n"
    } else if arguments.quiet {
        String::new()
    } else {
        vfiomux_load::table(&report, Paint::for_stdout())
    };
    // Whoever reads may have gone (`| head`); what was found counts all the same.
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(report)
}

/// Each guest takes some descriptors, and the usual soft limit of 1024 is below what some hundred of them need. Where it cannot be
/// raised, whatever runs into it says so.
fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

fn is_right(report: &Report) -> bool {
    report.total.failed.count() == 0 && report.verify.as_ref().map_or(0, Verify::wrong) == 0
}
