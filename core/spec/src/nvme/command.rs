//! Commands: constructors for those that a driver sends, and the dwords they are made of.
//!
//! A constructor leaves the command identifier and, unless it takes an address, the data pointer to the caller.

use bitfield_struct::bitfield;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::opcode::{AdminOpcode, NvmOpcode};
use super::queue::SubmissionEntry;

/// Dword 12 of Read, Write and Write Zeroes (NVM 1.0c 3.2.4, 3.2.6, 3.2.8).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct RwDword12 {
    /// Number of logical blocks, 0's based.
    pub nlb: u16,
    #[bits(9)]
    _reserved: u16,
    /// Deallocate; Write Zeroes only.
    pub deac: bool,
    /// Protection information field.
    #[bits(4)]
    pub prinfo: u8,
    /// Force unit access: the data is on the medium when the command completes.
    pub fua: bool,
    /// Limited retry.
    pub lr: bool,
}

/// Dword 11 of Create I/O Completion Queue (NVMe 2.0c 5.4).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct CreateCqDword11 {
    /// Physically contiguous.
    pub pc: bool,
    /// Interrupts enabled.
    pub ien: bool,
    #[bits(14)]
    _reserved: u16,
    /// Interrupt vector.
    pub iv: u16,
}

/// Dword 11 of Create I/O Submission Queue (NVMe 2.0c 5.5).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct CreateSqDword11 {
    /// Physically contiguous.
    pub pc: bool,
    /// Priority: 0 urgent, 1 high, 2 medium, 3 low. Ignored by round robin arbitration.
    #[bits(2)]
    pub qprio: u8,
    #[bits(13)]
    _reserved: u16,
    /// The completion queue that this queue's commands complete on.
    pub cqid: u16,
}

/// Dword 10 of Get Log Page (NVMe 2.0c 5.16).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct LogDword10 {
    /// Log page identifier.
    pub lid: u8,
    /// Log specific.
    #[bits(7)]
    pub lsp: u8,
    /// Retain asynchronous event: the event stays armed as it was.
    pub rae: bool,
    /// Number of dwords, lower half, 0's based.
    pub numdl: u16,
}

/// Dword 10 of Format NVM (NVMe 2.0c 5.14).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct FormatDword10 {
    /// LBA format, lower four bits.
    #[bits(4)]
    pub lbafl: u8,
    /// Metadata as part of an extended data block.
    pub mset: bool,
    /// Protection information.
    #[bits(3)]
    pub pi: u8,
    /// Protection information location.
    pub pil: bool,
    /// Secure erase: 0 none, 1 user data, 2 cryptographic.
    #[bits(3)]
    pub ses: u8,
    /// LBA format, upper two bits.
    #[bits(2)]
    pub lbafu: u8,
    #[bits(18)]
    _reserved: u32,
}

/// Dword 10 of Sanitize (NVMe 2.0c 5.24).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct SanitizeDword10 {
    /// Action: one of the `SANITIZE_` constants.
    #[bits(3)]
    pub sanact: u8,
    /// Allow unrestricted exit from failure.
    pub ause: bool,
    /// Overwrite pass count.
    #[bits(4)]
    pub owpass: u8,
    /// Overwrite: invert the pattern between passes.
    pub oipbp: bool,
    /// No deallocate after sanitize.
    pub nodas: bool,
    #[bits(22)]
    _reserved: u32,
}

/// [`SanitizeDword10::sanact`]: leave failure mode.
pub const SANITIZE_EXIT_FAILURE: u8 = 1;
/// [`SanitizeDword10::sanact`]: block erase.
pub const SANITIZE_BLOCK_ERASE: u8 = 2;
/// [`SanitizeDword10::sanact`]: overwrite.
pub const SANITIZE_OVERWRITE: u8 = 3;
/// [`SanitizeDword10::sanact`]: cryptographic erase.
pub const SANITIZE_CRYPTO_ERASE: u8 = 4;

/// Dword 11 of Dataset Management: deallocate (NVM 1.0c 3.2.3).
pub const DSM_DEALLOCATE: u32 = 1 << 2;
/// The most ranges that one Dataset Management command can carry.
pub const DSM_RANGES_MAX: usize = 256;

/// One range of Dataset Management (NVM 1.0c 3.2.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct DsmRange {
    /// Context attributes, hints only.
    pub attributes: U32,
    /// Number of logical blocks, not 0's based.
    pub blocks: U32,
    /// First logical block.
    pub start_lba: U64,
}

const _: () = assert!(size_of::<DsmRange>() == 16);

/// Bit 0 of an Abort's result: set when the command was not aborted (NVMe 2.0c 5.1).
pub const ABORT_NOT_ABORTED: u32 = 1;

#[expect(clippy::cast_possible_truncation, reason = "an LBA is split into its two dwords")]
const fn halves(value: u64) -> (U32, U32) {
    (U32::new(value as u32), U32::new((value >> 32) as u32))
}

impl SubmissionEntry {
    /// An admin command of which everything else is zero.
    pub fn admin(opcode: AdminOpcode) -> Self {
        Self { opcode: opcode.0, ..Self::default() }
    }

    /// An NVM command on a namespace, of which everything else is zero.
    pub fn nvm(opcode: NvmOpcode, nsid: u32) -> Self {
        Self { opcode: opcode.0, nsid: U32::new(nsid), ..Self::default() }
    }

    /// The same command with an identifier.
    #[must_use]
    pub fn with_cid(mut self, cid: u16) -> Self {
        self.cid = U16::new(cid);
        self
    }

    /// The same command with PRP entries as its data pointer.
    #[must_use]
    pub fn with_prps(mut self, prp1: u64, prp2: u64) -> Self {
        self.prp1 = U64::new(prp1);
        self.prp2 = U64::new(prp2);
        self
    }

    /// Read, Write or Write Zeroes: `blocks_0based + 1` logical blocks from `start_lba`.
    pub fn block_range(opcode: NvmOpcode, nsid: u32, start_lba: u64, blocks_0based: u16) -> Self {
        let (cdw10, cdw11) = halves(start_lba);
        let cdw12 = U32::new(RwDword12::new().with_nlb(blocks_0based).into_bits());
        Self { cdw10, cdw11, cdw12, ..Self::nvm(opcode, nsid) }
    }

    /// First logical block of a Read, Write, Write Zeroes, Compare or Verify.
    pub fn start_lba(&self) -> u64 {
        u64::from(self.cdw10.get()) | u64::from(self.cdw11.get()) << 32
    }

    /// Flush: everything written to the namespace before is on the medium when it completes.
    pub fn flush(nsid: u32) -> Self {
        Self::nvm(NvmOpcode::FLUSH, nsid)
    }

    /// Dataset Management that deallocates `ranges` ranges (1 to 256), listed where the data pointer says.
    pub fn deallocate(nsid: u32, ranges: u16) -> Self {
        Self {
            cdw10: U32::new(u32::from(ranges.saturating_sub(1))),
            cdw11: U32::new(DSM_DEALLOCATE),
            ..Self::nvm(NvmOpcode::DATASET_MANAGEMENT, nsid)
        }
    }

    /// Identify: one of [`super::identify`]'s `CNS_` constants, into the page at `address`.
    pub fn identify(cns: u8, nsid: u32, address: u64) -> Self {
        Self {
            nsid: U32::new(nsid),
            cdw10: U32::new(u32::from(cns)),
            ..Self::admin(AdminOpcode::IDENTIFY).with_prps(address, 0)
        }
    }

    /// Create I/O Completion Queue: contiguous, at `address`; with a vector it interrupts.
    pub fn create_io_cq(queue_id: u16, entries_0based: u16, address: u64, vector: Option<u16>) -> Self {
        let cdw11 =
            CreateCqDword11::new().with_pc(true).with_ien(vector.is_some()).with_iv(vector.unwrap_or(0));
        Self {
            cdw10: queue_dword10(queue_id, entries_0based),
            cdw11: U32::new(cdw11.into_bits()),
            ..Self::admin(AdminOpcode::CREATE_IO_CQ).with_prps(address, 0)
        }
    }

    /// Create I/O Submission Queue: contiguous, at `address`, completing on `cq_id`.
    pub fn create_io_sq(queue_id: u16, entries_0based: u16, address: u64, cq_id: u16, priority: u8) -> Self {
        let cdw11 = CreateSqDword11::new().with_pc(true).with_qprio(priority & 3).with_cqid(cq_id);
        Self {
            cdw10: queue_dword10(queue_id, entries_0based),
            cdw11: U32::new(cdw11.into_bits()),
            ..Self::admin(AdminOpcode::CREATE_IO_SQ).with_prps(address, 0)
        }
    }

    /// Delete I/O Submission Queue: a barrier, after whose completion none of the queue's commands moves data.
    pub fn delete_io_sq(queue_id: u16) -> Self {
        Self { cdw10: U32::new(u32::from(queue_id)), ..Self::admin(AdminOpcode::DELETE_IO_SQ) }
    }

    /// Delete I/O Completion Queue: refused while a submission queue uses it.
    pub fn delete_io_cq(queue_id: u16) -> Self {
        Self { cdw10: U32::new(u32::from(queue_id)), ..Self::admin(AdminOpcode::DELETE_IO_CQ) }
    }

    /// Abort a command: best effort, and no barrier.
    pub fn abort(sq_id: u16, cid: u16) -> Self {
        Self { cdw10: queue_dword10(sq_id, cid), ..Self::admin(AdminOpcode::ABORT) }
    }

    /// Asynchronous Event Request: completes when the controller has something to say.
    pub fn async_event_request() -> Self {
        Self::admin(AdminOpcode::ASYNC_EVENT_REQUEST)
    }

    /// Get Features, the current value, of a feature without a data structure.
    pub fn get_features(feature: u8, nsid: u32) -> Self {
        Self {
            nsid: U32::new(nsid),
            cdw10: U32::new(u32::from(feature)),
            ..Self::admin(AdminOpcode::GET_FEATURES)
        }
    }

    /// Set Features, not saved across power cycles, of a feature without a data structure.
    pub fn set_features(feature: u8, nsid: u32, value: u32) -> Self {
        Self {
            nsid: U32::new(nsid),
            cdw10: U32::new(u32::from(feature)),
            cdw11: U32::new(value),
            ..Self::admin(AdminOpcode::SET_FEATURES)
        }
    }

    /// Get Log Page from its beginning, into `length_bytes` at `address`; a whole number of dwords, at most one page of
    /// memory, and at least one dword.
    pub fn get_log_page(lid: u8, nsid: u32, length_bytes: u16, address: u64) -> Self {
        let dwords_0based = (length_bytes / 4).saturating_sub(1);
        Self {
            nsid: U32::new(nsid),
            cdw10: U32::new(LogDword10::new().with_lid(lid).with_numdl(dwords_0based).into_bits()),
            ..Self::admin(AdminOpcode::GET_LOG_PAGE).with_prps(address, 0)
        }
    }

    /// Format NVM: give the namespace LBA format `lbaf`, with secure erase `ses`.
    pub fn format_nvm(nsid: u32, lbaf: u8, ses: u8) -> Self {
        let cdw10 = FormatDword10::new().with_lbafl(lbaf & 0xf).with_lbafu((lbaf >> 4) & 3).with_ses(ses & 7);
        Self {
            nsid: U32::new(nsid),
            cdw10: U32::new(cdw10.into_bits()),
            ..Self::admin(AdminOpcode::FORMAT_NVM)
        }
    }

    /// Sanitize by `action`, one of the `SANITIZE_` constants.
    pub fn sanitize(action: u8) -> Self {
        let cdw10 = SanitizeDword10::new().with_sanact(action & 7);
        Self { cdw10: U32::new(cdw10.into_bits()), ..Self::admin(AdminOpcode::SANITIZE) }
    }
}

/// Dword 10 of the queue commands and of Abort: an identifier below, a size or another identifier above.
fn queue_dword10(low: u16, high: u16) -> U32 {
    U32::new(u32::from(low) | u32::from(high) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_names_its_blocks() {
        let entry = SubmissionEntry::block_range(NvmOpcode::READ, 3, 0x1_2345_6789, 7).with_cid(9);
        assert_eq!((entry.opcode, entry.nsid.get(), entry.cid.get()), (2, 3, 9));
        assert_eq!(entry.start_lba(), 0x1_2345_6789);
        assert_eq!(RwDword12::from_bits(entry.cdw12.get()).nlb(), 7);
    }

    #[test]
    fn fua_is_bit_30_and_deallocate_bit_25() {
        assert_eq!(RwDword12::new().with_fua(true).into_bits(), 1 << 30);
        assert_eq!(RwDword12::new().with_deac(true).into_bits(), 1 << 25);
    }

    #[test]
    fn a_queue_is_created_contiguous_with_its_vector() {
        let cq = SubmissionEntry::create_io_cq(4, 63, 0x8000, Some(2));
        assert_eq!((cq.cdw10.get(), cq.cdw11.get(), cq.prp1.get()), (63 << 16 | 4, 2 << 16 | 3, 0x8000));
        let sq = SubmissionEntry::create_io_sq(5, 63, 0x9000, 4, 2);
        assert_eq!((sq.cdw10.get(), sq.cdw11.get()), (63 << 16 | 5, 4 << 16 | 2 << 1 | 1));
    }

    #[test]
    fn a_log_page_counts_dwords_from_zero() {
        assert_eq!(SubmissionEntry::get_log_page(2, 0, 512, 0).cdw10.get(), 127 << 16 | 2);
    }

    #[test]
    fn format_and_sanitize_put_their_fields_where_the_standard_does() {
        assert_eq!(SubmissionEntry::format_nvm(1, 0x11, 1).cdw10.get(), 1 | 1 << 9 | 1 << 12);
        assert_eq!(SubmissionEntry::sanitize(SANITIZE_BLOCK_ERASE).cdw10.get(), 2);
    }
}
