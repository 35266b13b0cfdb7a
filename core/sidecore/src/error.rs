use std::io;

/// Why a sidecore cannot be started. The message is what an operator reads.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SidecoreError {
    /// The kernel gave no descriptor to wake up by.
    #[error(
        "cannot make an event descriptor: {source}; raise the limit of open files (LimitNOFILE, ulimit -n)"
    )]
    Descriptor {
        /// The kernel's answer.
        source: io::Error,
    },
    /// The thread could not be started.
    #[error(
        "cannot start the thread of sidecore {name}: {source}; check the limit of threads (TasksMax, ulimit -u)"
    )]
    Spawn {
        /// Name of the sidecore.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The thread could not be bound to its CPU.
    #[error(
        "cannot run sidecore {name} on CPU {cpu}: {source}; choose a CPU that is online and in the daemon's cpuset"
    )]
    Pin {
        /// Name of the sidecore.
        name: String,
        /// The CPU.
        cpu: u32,
        /// The kernel's answer.
        source: io::Error,
    },
}
