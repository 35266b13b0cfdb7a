//! Queue entries: the 64-byte command and the 16-byte completion (NVMe 2.0c 3.3.3).
//!
//! Both are plain bytes in little-endian order, aligned to their size as they are in a queue. A driver builds a command in its
//! own memory and copies it into the ring; it never forms a reference to an entry that the controller may be touching.

use bitfield_struct::bitfield;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::status::{Status, StatusField};

/// Bytes of a submission entry, as a power of two: what `CC.IOSQES` takes.
pub const SUBMISSION_ENTRY_SHIFT: u8 = 6;
/// Bytes of a completion entry, as a power of two: what `CC.IOCQES` takes.
pub const COMPLETION_ENTRY_SHIFT: u8 = 4;

/// A command (NVMe 2.0c 3.3.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(64))]
pub struct SubmissionEntry {
    /// What to do: an [`AdminOpcode`](super::AdminOpcode) or an [`NvmOpcode`](super::NvmOpcode).
    pub opcode: u8,
    /// [`CommandFlags`]: fusing, and PRPs or SGLs.
    pub flags: u8,
    /// Command identifier, unique in its submission queue while the command is outstanding.
    pub cid: U16,
    /// Namespace.
    pub nsid: U32,
    /// Command dword 2.
    pub cdw2: U32,
    /// Command dword 3.
    pub cdw3: U32,
    /// Metadata pointer.
    pub mptr: U64,
    /// First half of the data pointer: PRP entry 1, or the address of an SGL descriptor.
    pub prp1: U64,
    /// Second half of the data pointer: PRP entry 2, or the length and type of an SGL descriptor.
    pub prp2: U64,
    /// Command dword 10.
    pub cdw10: U32,
    /// Command dword 11.
    pub cdw11: U32,
    /// Command dword 12.
    pub cdw12: U32,
    /// Command dword 13.
    pub cdw13: U32,
    /// Command dword 14.
    pub cdw14: U32,
    /// Command dword 15.
    pub cdw15: U32,
}

/// Byte 1 of a command (NVMe 2.0c 3.3.3.1, figure 86: bits 15:8 of dword 0).
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct CommandFlags {
    /// Fused operation: 0 none, 1 first, 2 second.
    #[bits(2)]
    pub fuse: u8,
    #[bits(4)]
    _reserved: u8,
    /// PRP or SGL for data transfer: one of the `PSDT_` constants.
    #[bits(2)]
    pub psdt: u8,
}

/// [`CommandFlags::psdt`]: PRPs.
pub const PSDT_PRP: u8 = 0;
/// [`CommandFlags::psdt`]: SGLs, the metadata pointer being a contiguous buffer's address.
pub const PSDT_SGL: u8 = 1;
/// [`CommandFlags::psdt`]: SGLs, the metadata pointer being an SGL segment's address.
pub const PSDT_SGL_METADATA: u8 = 2;

/// A completion (NVMe 2.0c 3.3.3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(16))]
pub struct CompletionEntry {
    /// The command's result, where it has one.
    pub dw0: U32,
    /// Second dword of the result, for the few commands that have one.
    pub dw1: U32,
    /// Where the controller's head of the submission queue stands.
    pub sq_head: U16,
    /// Which submission queue the command came from.
    pub sq_id: U16,
    /// The command's identifier.
    pub cid: U16,
    /// Phase tag in bit 0, [`StatusField`] above it.
    pub status: U16,
}

impl CompletionEntry {
    /// Builds a completion as a controller does.
    pub fn new(cid: u16, sq_id: u16, sq_head: u16, status: StatusField, phase: bool) -> Self {
        Self {
            dw0: U32::ZERO,
            dw1: U32::ZERO,
            sq_head: U16::new(sq_head),
            sq_id: U16::new(sq_id),
            cid: U16::new(cid),
            status: U16::new(status.with_phase(phase).into_bits()),
        }
    }

    /// The same completion with a result.
    #[must_use]
    pub fn with_result(mut self, dw0: u32) -> Self {
        self.dw0 = U32::new(dw0);
        self
    }

    /// The phase tag: flips each time the controller goes round the queue.
    pub fn phase(&self) -> bool {
        self.status_field().phase()
    }

    /// The whole status field: code, retry advice and phase.
    pub fn status_field(&self) -> StatusField {
        StatusField::from_bits(self.status.get())
    }

    /// The status code, without phase, More and Do Not Retry.
    pub fn status(&self) -> Status {
        self.status_field().status()
    }
}

/// The third and fourth dword of a completion as one integer, so that a driver can read identifier and phase in one load.
///
/// The controller writes the last 8 bytes of an entry in one go on every machine we know, yet the standard promises order
/// only through the phase tag: read these 8 bytes with acquire, look at [`CompletionTail::phase`], then at the rest.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct CompletionTail {
    /// Where the controller's head of the submission queue stands.
    pub sq_head: u16,
    /// Which submission queue the command came from.
    pub sq_id: u16,
    /// The command's identifier.
    pub cid: u16,
    /// Phase tag and status.
    pub status_bits: u16,
}

impl CompletionTail {
    /// The phase tag.
    pub const fn phase(self) -> bool {
        self.status_bits() & 1 != 0
    }

    /// The whole status field.
    pub const fn status_field(self) -> StatusField {
        StatusField::from_bits(self.status_bits())
    }
}

/// Offset of [`CompletionTail`] in a completion entry.
pub const COMPLETION_TAIL_OFFSET: usize = 8;

const _: () = {
    assert!(size_of::<SubmissionEntry>() == 1 << SUBMISSION_ENTRY_SHIFT);
    assert!(size_of::<CompletionEntry>() == 1 << COMPLETION_ENTRY_SHIFT);
    assert!(core::mem::offset_of!(SubmissionEntry, prp1) == 24);
    assert!(core::mem::offset_of!(SubmissionEntry, cdw10) == 40);
    assert!(core::mem::offset_of!(CompletionEntry, sq_head) == COMPLETION_TAIL_OFFSET);
    assert!(core::mem::offset_of!(CompletionEntry, status) == 14);
};

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    #[test]
    fn a_completion_and_its_tail_say_the_same() {
        let entry = CompletionEntry::new(0xbeef, 7, 19, Status::LBA_OUT_OF_RANGE.do_not_retry(), true);
        let bytes: [u8; 8] = entry.as_bytes()[COMPLETION_TAIL_OFFSET..].try_into().unwrap();
        let tail = CompletionTail::from_bits(u64::from_le_bytes(bytes));
        assert_eq!(tail.cid(), 0xbeef);
        assert_eq!(tail.sq_id(), 7);
        assert_eq!(tail.sq_head(), 19);
        assert!(tail.phase() && entry.phase());
        assert_eq!(tail.status_field().status(), Status::LBA_OUT_OF_RANGE);
        assert!(tail.status_field().dnr());
    }

    #[test]
    fn flags_put_psdt_in_the_two_high_bits() {
        assert_eq!(CommandFlags::new().with_psdt(PSDT_SGL).into_bits(), 0x40);
    }
}
