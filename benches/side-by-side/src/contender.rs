//! What is compared: a server, over a kind of device, in a mode.

use std::path::PathBuf;

use serde::Serialize;

/// Bytes of a disk that does nothing, shared among the guests of a server.
pub(crate) const NULL_BYTES: u64 = 1 << 30;
/// Bytes of a disk in memory: the same for all servers, and more than any cache.
pub(crate) const RAM_BYTES: u64 = 256 << 20;

/// A server as it is started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Contender {
    /// Its name in every table.
    pub(crate) name: String,
    /// How to start it.
    pub(crate) kind: Kind,
    /// What answers the requests.
    pub(crate) backing: Backing,
}

/// Whose server it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "server")]
pub(crate) enum Kind {
    /// vfiomuxd.
    Ours {
        /// `--mode`.
        mode: &'static str,
        /// Cores of its sidecores.
        cpus: Vec<u32>,
        /// Another build than this program's.
        program: Option<PathBuf>,
    },
    /// `qemu-storage-daemon`.
    Qsd,
    /// SPDK's `vhost`.
    Spdk {
        /// The binary.
        program: PathBuf,
    },
}

/// What answers the requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Backing {
    /// Nothing: data are neither written nor read.
    Null,
    /// Memory.
    Ram,
    /// A simulated NVMe controller; ours only.
    Nvme,
}

impl Backing {
    /// Bytes of one guest's disk when a server has this many.
    pub(crate) fn disk_bytes(self, disks: usize) -> u64 {
        let total = match self {
            Self::Null => NULL_BYTES,
            Self::Ram | Self::Nvme => RAM_BYTES,
        };
        const MIB: u64 = 1 << 20;
        (total / disks.max(1) as u64 / MIB).max(1) * MIB
    }

    /// Whether blocks must have been written once before reading them says anything: memory that nobody has written is
    /// one and the same page, which never leaves the cache.
    pub(crate) fn needs_filling(self) -> bool {
        self != Self::Null
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_together_fit_on_the_device() {
        for disks in [1, 4, 16, 64, 100, 200] {
            let disk_bytes = Backing::Null.disk_bytes(disks);
            assert!(disk_bytes >= 1 << 20);
            assert!(disk_bytes * disks as u64 <= NULL_BYTES);
        }
    }
}
