//! What a driver did wrong, as the device saw it.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use vfiomux_hw::{Iova, MappingInfo, Rights};
use vfiomux_spec::nvme::{ADMIN_QUEUE_ID, AdminOpcode, NvmOpcode};

/// A command, as far as the device knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandName {
    /// Submission queue; 0 is the admin queue.
    pub sq_id: u16,
    /// Command identifier.
    pub cid: u16,
    /// Opcode.
    pub opcode: u8,
    /// Namespace.
    pub nsid: u32,
}

impl fmt::Display for CommandName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sq_id == ADMIN_QUEUE_ID {
            write!(f, "{} ", AdminOpcode(self.opcode))?;
        } else {
            write!(f, "{} ", NvmOpcode(self.opcode))?;
        }
        write!(f, "(sq {}, cid {:#06x}, nsid {:#x})", self.sq_id, self.cid, self.nsid)
    }
}

/// What the device wanted from memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// A command out of a submission queue.
    FetchCommand,
    /// A completion into a completion queue.
    PostCompletion,
    /// A PRP list.
    PrpList,
    /// A segment of an SGL.
    SglSegment,
    /// A command's data.
    Data,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FetchCommand => "fetching a command",
            Self::PostCompletion => "posting a completion",
            Self::PrpList => "reading a PRP list",
            Self::SglSegment => "reading an SGL segment",
            Self::Data => "moving data",
        })
    }
}

/// Why the simulated IOMMU refused an access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No mapping is there, and none has been lately.
    NotMapped,
    /// The address was mapped, and has been taken out: a use after unmap (D2).
    Unmapped {
        /// How many changes to the mappings ago.
        changes_ago: u64,
    },
    /// The mapping does not give the right that the access needs (C1).
    NoRight {
        /// What the mapping does give.
        rights: Rights,
    },
    /// Bus mastering is off: the function may not do DMA at all.
    BusMasterOff,
}

/// One thing that a driver must never do. A correct driver causes none, whatever its guests do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// The device was told to reach memory that it was not given (C1, D2).
    Dma {
        /// The command that named the address; `None` for a queue's own memory.
        command: Option<CommandName>,
        /// What for.
        access: Access,
        /// First byte of the part that was refused.
        iova: Iova,
        /// How much was left to move from there, bytes.
        len: u64,
        /// Whether the device wanted to write memory; else it wanted to read it.
        write: bool,
        /// Why it was refused.
        refusal: Refusal,
        /// Mappings nearest below and above at that moment.
        neighbours: [Option<MappingInfo>; 2],
    },
    /// A command identifier was used again while the command that had it was outstanding (I1).
    CidReused {
        /// The second command.
        command: CommandName,
    },
    /// A doorbell was given a value outside its queue.
    DoorbellValue {
        /// The queue.
        queue_id: u16,
        /// Whether it is a completion queue's head; else it is a submission queue's tail.
        completion: bool,
        /// What was written.
        value: u32,
        /// Entries of the queue.
        entries: u32,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dma { command, access, iova, len, write, refusal, neighbours } => {
                if let Some(command) = command {
                    write!(f, "{command}: ")?;
                }
                let verb = if *write { "write" } else { "read" };
                write!(f, "{access}: {verb} of {len:#x} bytes at {iova} refused: ")?;
                match refusal {
                    Refusal::NotMapped => f.write_str("not mapped")?,
                    Refusal::Unmapped { changes_ago } => write!(f, "unmapped {changes_ago} changes ago")?,
                    Refusal::NoRight { rights } => {
                        write!(f, "mapped with read {}, write {} only", rights.read, rights.write)?;
                    }
                    Refusal::BusMasterOff => f.write_str("bus mastering is off")?,
                }
                for (side, mapping) in ["below", "above"].into_iter().zip(neighbours) {
                    match mapping {
                        Some(info) => write!(f, "; {side}: {}+{:#x}", info.iova, info.size_bytes)?,
                        None => write!(f, "; nothing mapped {side}")?,
                    }
                }
                Ok(())
            }
            Self::CidReused { command } => write!(f, "{command}: identifier already outstanding"),
            Self::DoorbellValue { queue_id, completion, value, entries } => {
                let which = if *completion { "head of cq" } else { "tail of sq" };
                write!(f, "{which} {queue_id} set to {value}, the queue has {entries} entries")
            }
        }
    }
}

/// Violations beyond this many are counted but not kept.
const KEPT_MAX: usize = 256;

/// The record. Shared by whoever can notice something.
#[derive(Debug, Default)]
pub(crate) struct Violations(Mutex<Record>);

#[derive(Debug, Default)]
struct Record {
    kept: Vec<Violation>,
    count: u64,
}

impl Violations {
    pub(crate) fn record(&self, violation: Violation) {
        let mut record = self.lock();
        record.count += 1;
        if record.kept.len() < KEPT_MAX {
            tracing::error!("simulated device: {violation}");
            record.kept.push(violation);
        }
    }

    pub(crate) fn kept(&self) -> Vec<Violation> {
        self.lock().kept.clone()
    }

    pub(crate) fn count(&self) -> u64 {
        self.lock().count
    }

    pub(crate) fn take(&self) -> Vec<Violation> {
        let mut record = self.lock();
        record.count = 0;
        std::mem::take(&mut record.kept)
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
