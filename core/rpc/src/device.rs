use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Calibration, Reservations};

/// A function as it is: found on this host or simulated, ours or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceInfo {
    /// What requests call it: its PCI address, or the name of a simulated device.
    pub name: String,
    /// Where it sits on the PCI bus; none for a simulated device.
    pub address: Option<String>,
    /// What it is for.
    pub class: FunctionClass,
    /// Where it stands in its life.
    pub state: FunctionState,
    /// Why it stands there, or what could not be found out about it.
    pub reason: Option<String>,
    /// Counts the changes of its settings, for `expected_generation`.
    pub generation: u64,
    /// PCI vendor and device identifiers, `144d:a808`.
    pub pci_id: Option<String>,
    /// Model, as the device names itself.
    pub model: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// Firmware revision.
    pub firmware: Option<String>,
    /// The kernel driver bound to it.
    pub driver: Option<String>,
    /// Its IOMMU group; none when nothing isolates it.
    pub iommu_group: Option<u32>,
    /// The other functions of the group: they can only be owned together.
    #[serde(default)]
    pub group_members: Vec<String>,
    /// Its NUMA node, when the host has more than one.
    pub numa_node: Option<u32>,
    /// Whoever uses it now, as phrases: `nvme0n1p2 mounted on /home`. Not empty: a claim is refused.
    #[serde(default)]
    pub holders: Vec<String>,
    /// What it can give to channels; none until it is claimed.
    pub pools: Option<Pools>,
    /// NVMe: what the controller can do; none until it is claimed.
    pub nvme: Option<NvmeInfo>,
    /// NVMe: its namespaces, once it is claimed.
    #[serde(default)]
    pub namespaces: Vec<NamespaceInfo>,
    /// Names of the channels carved from it.
    #[serde(default)]
    pub channels: Vec<String>,
    /// What it was measured to do; none before it was calibrated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// What can be reserved on it, and what is.
    #[serde(default)]
    pub reservations: Reservations,
}

/// What a function is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FunctionClass {
    /// An NVMe controller.
    Nvme,
    /// A network interface controller.
    Network,
    /// No hardware: takes every write and forgets it, and reads nothing. For measuring.
    Null,
    /// No hardware: a disk in the daemon's memory, gone with it.
    Ram,
    /// Something that vfiomux does not carve.
    Other,
}

/// A function's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FunctionState {
    /// Named, but not there.
    Absent,
    /// There, and not ours.
    Discovered,
    /// Being taken.
    Claiming,
    /// Ours, serving.
    Ready,
    /// Ours, serving with less than it should.
    Degraded,
    /// Ours; its channels are ending.
    Draining,
    /// Being given back.
    Releasing,
    /// Being reset.
    Resetting,
    /// Ours, and of no use until it is released.
    Failed,
    /// Gone without a word.
    Lost,
}

/// An allocatable quantity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pool {
    /// All of it.
    pub capacity: u64,
    /// What channels have of it.
    pub used: u64,
}

impl Pool {
    /// What is left.
    #[must_use]
    pub const fn free(self) -> u64 {
        self.capacity.saturating_sub(self.used)
    }
}

/// The quantities that a function can give to channels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pools {
    /// Bytes of all namespaces.
    pub bytes: Pool,
    /// I/O queue pairs, as many as the controller granted.
    pub queue_pairs: Pool,
}

/// What an NVMe controller can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NvmeInfo {
    /// Version of the standard that it claims, `1.4.0`.
    pub version: String,
    /// Most bytes of data in one command.
    pub transfer_bytes_max: u64,
    /// Most entries of a queue.
    pub queue_entries_max: u32,
    /// How commands name memory.
    pub addressing: Addressing,
    /// Writes may sit in a cache that a power loss empties.
    pub volatile_cache: bool,
    /// Write Zeroes exists.
    pub write_zeroes: bool,
    /// Deallocate exists.
    pub deallocate: bool,
}

/// How commands name memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Addressing {
    /// Physical region pages.
    Prp,
    /// Scatter-gather lists.
    Sgl,
}

/// An NVMe namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NamespaceInfo {
    /// Its number.
    pub id: u32,
    /// Size of a block.
    pub block_bytes: u32,
    /// Number of blocks.
    pub blocks: u64,
    /// What channels can have in all: nothing until it is formatted.
    pub capacity_bytes: u64,
    /// What is left of that.
    pub free_bytes: u64,
    /// Longest run that one new extent can have.
    pub free_run_bytes: u64,
    /// It carries our label.
    pub formatted: bool,
    /// Why it cannot be carved, when it cannot: what was found on it, or what of its format is not supported.
    pub reason: Option<String>,
}
