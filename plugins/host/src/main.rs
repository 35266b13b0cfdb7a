//! `vfiomux-plugin-host`: one policy plugin, in a sandbox.
//!
//! ```text
//!   vfiomuxd ══ socket (standard input) ══► read a question ─► C structures ─► hook of the plugin
//!            ◄═════════════════════════════ write the answer ◄─ sinks, checked ◄─┘
//! ```
//!
//! What lives here: the sandbox ([`sandbox`]), the library and the checks before its first line runs ([`library`]), and the
//! translation between the daemon's messages and the plugin ABI ([`plugin`], [`subject`], [`sink`]). What does not: deadlines,
//! fallbacks and restarts, which are the daemon's (`core/policy`): this process is as little to be trusted as the code that it
//! loads, and everything that it says is checked again over there.
//!
//! It has one thread, and a plugin can start none: between two questions it does not run. It is started by the daemon, with
//! a socket as standard input, and ends when that is closed.
//!
//! # In which order
//!
//! 1. Nothing inherited stays open but the socket; the process dies with the daemon; it keeps off the sidecores' processors.
//! 2. The library is read into memory that has no name and can no longer change, and is held against the shape of a shared library.
//! 3. Limits, another user where it was root, no new privileges, and a filter of system calls that lets a loader work and no more:
//!    no network, no process, no thread, files for reading only. A library's constructors run under it.
//! 4. The library is loaded, and its policy table checked.
//! 5. A second filter, for life: memory, time and the socket. No file, and no memory that becomes code.
//! 6. Questions.

mod library;
mod plugin;
mod sandbox;
mod serve;
mod sink;
mod subject;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::library::Library;

/// What the daemon says on the command line.
#[derive(Debug)]
struct Arguments {
    library: PathBuf,
    memory_bytes_max: u64,
    daemon: i32,
    cpus: Vec<usize>,
}

impl Arguments {
    fn read() -> Option<Self> {
        let mut words = env::args_os().skip(1);
        let library = PathBuf::from(words.next()?);
        let memory_bytes_max = words.next()?.to_str()?.parse().ok()?;
        let daemon = words.next()?.to_str()?.parse().ok()?;
        let cpus = words.next()?;
        let cpus = cpus.to_str()?.split(',').filter(|cpu| !cpu.is_empty());
        let cpus = cpus.map(str::parse).collect::<Result<_, _>>().ok()?;
        words.next().is_none().then_some(Self { library, memory_bytes_max, daemon, cpus })
    }
}

fn main() -> ExitCode {
    let Some(arguments) = Arguments::read() else {
        eprintln!("vfiomux-plugin-host is started by vfiomuxd; see vfiomuxctl plugin load --help");
        return ExitCode::from(2);
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let socket = sandbox::keep_the_socket()?;
    sandbox::stay_apart(arguments.daemon, &arguments.cpus)?;
    // What is wrong with the library is the answer to the daemon's first question, and not the end of the host.
    let image = library::Image::read(&arguments.library);
    let layers = sandbox::close(arguments.memory_bytes_max)?;
    let loaded = image.and_then(|image| Library::load(&image));
    sandbox::close_for_life()?;
    serve::serve(socket, loaded, layers)
}
