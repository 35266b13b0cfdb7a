//! The daemon: what a command line asks for, made into a control thread that serves.
//!
//! Here the two sides of the function seam meet: a device named by a PCI address is taken from its driver and opened
//! through VFIO; one named `sim:nvme,…` is simulated. Nothing behind the seam can tell which it is. Beside them stand `null:…`
//! and `ram:…`, which need no function at all: each command ends in the sidecore that submits it.

mod arguments;
mod devices;
mod error;
mod local;

use std::path::PathBuf;

use vfiomux_hw::inventory::Sysfs;
use vfiomux_manager::config::Config;
use vfiomux_manager::control::{Control, Deadlines, Setup};
use vfiomux_rpc::FunctionState;

pub use arguments::{Arguments, LogLevel};
pub use error::DaemonError;

/// Serves until the process is asked to end (SIGTERM, SIGINT).
pub fn run(arguments: &Arguments) -> Result<(), DaemonError> {
    let config = arguments.config()?;
    start_log(arguments.log);
    raise_limits();
    let sysfs = Sysfs::new("/");
    let devices = devices::start_devices(&config, &sysfs)?;
    let control_path = config.control.clone();
    make_directory(&config)?;
    let setup = Setup {
        pci_opener: devices::pci_opener(&config, &sysfs),
        devices,
        sysfs,
        policies: Vec::new(),
        deadlines: Deadlines::default(),
        announce: Box::new(move |devices| announce(&control_path, &devices)),
        config,
    };
    let control = Control::new(setup)?;
    let stop = control.stopper();
    let mut signals = signal_hook::iterator::Signals::new([rustix_signal::TERM, rustix_signal::INT])
        .map_err(DaemonError::Signals)?;
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || signals.forever().for_each(|_| stop.stop()))
        .map_err(DaemonError::Signals)?;
    let served = control.run().map_err(DaemonError::Serve);
    // Whoever watches is told even when the poll failed.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    served
}

/// Signal numbers, as POSIX names them.
mod rustix_signal {
    pub(super) const TERM: i32 = rustix::process::Signal::TERM.as_raw();
    pub(super) const INT: i32 = rustix::process::Signal::INT.as_raw();
}

/// The one line on standard output that begins with `ready`, and the word to systemd.
fn announce(control: &std::path::Path, devices: &[(String, FunctionState, Option<String>)]) {
    let list: Vec<String> = devices
        .iter()
        .map(|(name, state, reason)| {
            let state = format!("{state:?}").to_lowercase();
            reason
                .as_ref()
                .map_or_else(|| format!("{name} {state}"), |reason| format!("{name} {state} ({reason})"))
        })
        .collect();
    let list = if list.is_empty() { "none".to_owned() } else { list.join(", ") };
    println!("ready: control {}, devices: {list}", control.display());
    // Not started by systemd: nobody to tell.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
}

/// Log lines go to standard error, events among them; standard output carries the ready line alone.
fn start_log(level: LogLevel) {
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::from(level)).with_writer(std::io::stderr);
    // In a test or a demonstration there may be a log already.
    let _ = subscriber.with_target(false).try_init();
}

/// Pinned guest memory counts against the limit of locked memory, and every session has descriptors: take what we may.
fn raise_limits() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    for resource in [Resource::Memlock, Resource::Nofile] {
        let limit = getrlimit(resource);
        let unlimited = Rlimit { current: None, maximum: None };
        if resource == Resource::Memlock && setrlimit(resource, unlimited).is_ok() {
            continue;
        }
        // Not root: at least up to the hard limit. When even that fails, mapping says what to do.
        let _ = setrlimit(resource, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
}

/// The directory of the control socket, when it is one of ours to make.
fn make_directory(config: &Config) -> Result<(), DaemonError> {
    let Some(directory) = config.control.parent().filter(|directory| !directory.as_os_str().is_empty())
    else {
        return Ok(());
    };
    std::fs::create_dir_all(directory)
        .map_err(|source| DaemonError::Directory { path: PathBuf::from(directory), source })
}
