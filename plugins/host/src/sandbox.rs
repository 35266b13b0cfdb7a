#![expect(unsafe_code, reason = "closes descriptors by number")]
//! What holds a plugin.
//!
//! The filters of system calls cannot be done without: without them, no plugin is run. The other layers add to them, and
//! hosts differ in what they allow (a container may have taken this or that away already): what is in force is told to the daemon.

mod filter;

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, getppid, set_dumpable_behavior,
    set_parent_process_death_signal, setrlimit,
};
use rustix::thread::{CapabilitySet, CapabilitySets, CpuSet, Gid, Uid};

/// The user that a host which was root becomes: nobody, as the kernel numbers it.
const NOBODY: u32 = 65534;

/// Why a sandbox cannot be closed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum SandboxError {
    #[error("standard input is no socket: vfiomux-plugin-host is started by vfiomuxd")]
    NoSocket,
    #[error("the daemon is gone")]
    Orphaned,
    #[error("a step of the sandbox failed")]
    Os(#[from] io::Error),
    #[error("a filter of system calls could not be set: {0}; without it no plugin is run")]
    Filter(String),
}

impl From<rustix::io::Errno> for SandboxError {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Os(error.into())
    }
}

/// The daemon's socket, which comes as standard input, and is the only thing that stays open beside standard error.
pub(crate) fn keep_the_socket() -> Result<UnixStream, SandboxError> {
    let stdin = io::stdin();
    rustix::net::getpeername(&stdin).map_err(|_| SandboxError::NoSocket)?;
    let socket: OwnedFd = rustix::io::fcntl_dupfd_cloexec(&stdin, 3)?;
    // What a plugin reads from its standard input must not be the daemon's questions.
    let nothing = File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    drop(nothing);
    close_beyond(socket.as_raw_fd())?;
    Ok(UnixStream::from(socket))
}

/// Closes every descriptor above 2 but one.
fn close_beyond(kept: i32) -> io::Result<()> {
    let kept = u32::try_from(kept).map_err(|_| io::ErrorKind::InvalidInput)?;
    for (first, last) in [(3, kept - 1), (kept + 1, u32::MAX)] {
        if first > last {
            continue;
        }
        // SAFETY: nothing in this process holds any of these descriptors: it has only begun, and opened none but `kept`.
        let closed = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        if closed != 0 {
            close_one_by_one(first, last)?;
        }
    }
    Ok(())
}

/// For kernels before 5.9, and filters that do not know `close_range`.
fn close_one_by_one(first: u32, last: u32) -> io::Result<()> {
    let open: Vec<u32> = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|fd| (first..=last).contains(fd))
        .collect();
    for fd in open.into_iter().filter_map(|fd| i32::try_from(fd).ok()) {
        // SAFETY: as above. The directory's own descriptor is among them and closed by now; that is an error of no account.
        unsafe { libc::close(fd) };
    }
    Ok(())
}

/// The end of the daemon is the end of this process, and its processors are not those of a sidecore.
pub(crate) fn stay_apart(daemon: i32, cpus: &[usize]) -> Result<(), SandboxError> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have ended before it was asked to tell. Zero is a parent in another PID namespace.
    if getppid().is_some_and(|parent| parent.as_raw_nonzero().get() != daemon) {
        return Err(SandboxError::Orphaned);
    }
    if !cpus.is_empty() {
        let mut set = CpuSet::new();
        cpus.iter().filter(|&&cpu| cpu < CpuSet::MAX_CPU).for_each(|&cpu| set.set(cpu));
        rustix::thread::sched_setaffinity(None, &set)?;
    }
    // A verdict can wait. That a host does not let us say so changes nothing.
    let _ = rustix::process::nice(10);
    Ok(())
}

/// Everything but what loading a library needs.
///
/// # Errors
/// No filter, or no limit of memory, can be set.
pub(crate) fn close(memory_bytes_max: u64) -> Result<Vec<String>, SandboxError> {
    let mut layers = Vec::new();
    let limits = [
        (Resource::As, memory_bytes_max),
        (Resource::Core, 0),
        (Resource::Fsize, 0),
        (Resource::Nproc, 0),
        (Resource::Memlock, 0),
        (Resource::Nofile, 16),
    ];
    for (resource, most) in limits {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    layers.push(format!("memory {} MiB", memory_bytes_max >> 20));
    if rustix::process::geteuid().is_root() && become_nobody().is_ok() {
        layers.push(format!("uid {NOBODY}"));
        // The loader reads the library by its descriptor, through a directory that belongs to us only as long as this holds.
        let _ = set_dumpable_behavior(DumpableBehavior::Dumpable);
    }
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    if rustix::thread::set_capabilities(None, none).is_ok() {
        layers.push("no capabilities".to_owned());
    }
    filter::apply(&filter::for_loading()?)?;
    layers.push("seccomp".to_owned());
    Ok(layers)
}

fn become_nobody() -> Result<(), rustix::io::Errno> {
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(group, group, group)?;
    rustix::thread::set_thread_res_uid(user, user, user)
}

/// Everything but what a policy needs, for as long as the process lives.
pub(crate) fn close_for_life() -> Result<(), SandboxError> {
    // No process of the same user may look in.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    filter::apply(&filter::for_life()?)
}
