//! The status field of a completion (NVMe 2.0c 3.3.3.2.1).

use bitfield_struct::bitfield;

/// The upper half of a completion's fourth dword: phase tag and status.
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct StatusField {
    /// Phase tag; no part of the status.
    pub phase: bool,
    /// Status code.
    pub sc: u8,
    /// Status code type: one of the `SCT_` constants.
    #[bits(3)]
    pub sct: u8,
    /// Command retry delay: which of Identify's `CRDT` applies, 0 for none.
    #[bits(2)]
    pub crd: u8,
    /// More: the error log page has an entry about this.
    pub more: bool,
    /// Do not retry: the same command would fail again.
    pub dnr: bool,
}

/// Generic command status.
pub const SCT_GENERIC: u8 = 0;
/// Command specific status.
pub const SCT_COMMAND: u8 = 1;
/// Media and data integrity errors.
pub const SCT_MEDIA: u8 = 2;
/// Path related status.
pub const SCT_PATH: u8 = 3;
/// Vendor specific.
pub const SCT_VENDOR: u8 = 7;

impl StatusField {
    /// Type and code alone.
    pub const fn status(self) -> Status {
        Status::from_parts(self.sct(), self.sc())
    }
}

/// Status code type and status code, as one number: `sct << 8 | sc`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct Status(pub u16);

impl Status {
    /// Puts type and code together.
    pub const fn from_parts(sct: u8, sc: u8) -> Self {
        Self(((sct as u16) << 8) | sc as u16)
    }

    /// Status code type.
    pub const fn sct(self) -> u8 {
        ((self.0 >> 8) & 0x7) as u8
    }

    /// Status code.
    pub const fn sc(self) -> u8 {
        (self.0 & 0xff) as u8
    }

    /// Whether the command did what it was asked.
    pub const fn is_success(self) -> bool {
        self.0 == 0
    }

    /// The status field of a completion that a retry may cure.
    pub const fn field(self) -> StatusField {
        StatusField::new().with_sct(self.sct()).with_sc(self.sc())
    }

    /// The status field of a completion that a retry cannot cure.
    pub const fn do_not_retry(self) -> StatusField {
        self.field().with_dnr(true)
    }
}

macro_rules! statuses {
    ($($name:ident = $sct:ident, $sc:literal, $text:literal;)*) => {
        impl Status {
            $(#[doc = concat!("Means: ", $text, ".")] pub const $name: Self = Self::from_parts($sct, $sc);)*

            /// What the status means, in lower case, or `None` when it is not one of those listed here.
            pub const fn text(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some($text),)*
                    _ => None,
                }
            }
        }
    };
}

statuses! {
    SUCCESS = SCT_GENERIC, 0x00, "success";
    INVALID_OPCODE = SCT_GENERIC, 0x01, "invalid command opcode";
    INVALID_FIELD = SCT_GENERIC, 0x02, "invalid field in command";
    CID_CONFLICT = SCT_GENERIC, 0x03, "command identifier already in use";
    DATA_TRANSFER_ERROR = SCT_GENERIC, 0x04, "data transfer error";
    ABORTED_POWER_LOSS = SCT_GENERIC, 0x05, "aborted by power loss";
    INTERNAL_ERROR = SCT_GENERIC, 0x06, "internal error";
    ABORT_REQUESTED = SCT_GENERIC, 0x07, "aborted by request";
    ABORTED_SQ_DELETION = SCT_GENERIC, 0x08, "aborted as its submission queue was deleted";
    FAILED_FUSED = SCT_GENERIC, 0x09, "aborted as the other half of a fused command failed";
    MISSING_FUSED = SCT_GENERIC, 0x0a, "aborted as the other half of a fused command is missing";
    INVALID_NAMESPACE = SCT_GENERIC, 0x0b, "invalid namespace or format";
    COMMAND_SEQUENCE = SCT_GENERIC, 0x0c, "command sequence error";
    INVALID_SGL_SEGMENT = SCT_GENERIC, 0x0d, "invalid sgl segment descriptor";
    INVALID_SGL_COUNT = SCT_GENERIC, 0x0e, "invalid number of sgl descriptors";
    DATA_SGL_LENGTH = SCT_GENERIC, 0x0f, "data sgl length invalid";
    METADATA_SGL_LENGTH = SCT_GENERIC, 0x10, "metadata sgl length invalid";
    SGL_TYPE_INVALID = SCT_GENERIC, 0x11, "sgl descriptor type invalid";
    INVALID_CMB_USE = SCT_GENERIC, 0x12, "invalid use of the controller memory buffer";
    PRP_OFFSET_INVALID = SCT_GENERIC, 0x13, "prp offset invalid";
    ATOMIC_WRITE_UNIT = SCT_GENERIC, 0x14, "atomic write unit exceeded";
    OPERATION_DENIED = SCT_GENERIC, 0x15, "operation denied";
    SGL_OFFSET_INVALID = SCT_GENERIC, 0x16, "sgl offset invalid";
    PREEMPT_ABORT = SCT_GENERIC, 0x1b, "aborted by preempt and abort";
    SANITIZE_FAILED = SCT_GENERIC, 0x1c, "sanitize failed";
    SANITIZE_IN_PROGRESS = SCT_GENERIC, 0x1d, "sanitize in progress";
    SGL_GRANULARITY = SCT_GENERIC, 0x1e, "sgl data block granularity invalid";
    QUEUE_IN_CMB = SCT_GENERIC, 0x1f, "command not supported for a queue in the controller memory buffer";
    WRITE_PROTECTED = SCT_GENERIC, 0x20, "namespace is write protected";
    INTERRUPTED = SCT_GENERIC, 0x21, "command interrupted";
    TRANSIENT_TRANSPORT = SCT_GENERIC, 0x22, "transient transport error";
    LOCKED_DOWN = SCT_GENERIC, 0x23, "prohibited by command and feature lockdown";
    MEDIA_NOT_READY = SCT_GENERIC, 0x24, "admin command's media not ready";
    LBA_OUT_OF_RANGE = SCT_GENERIC, 0x80, "lba out of range";
    CAPACITY_EXCEEDED = SCT_GENERIC, 0x81, "capacity exceeded";
    NAMESPACE_NOT_READY = SCT_GENERIC, 0x82, "namespace not ready";
    RESERVATION_CONFLICT = SCT_GENERIC, 0x83, "reservation conflict";
    FORMAT_IN_PROGRESS = SCT_GENERIC, 0x84, "format in progress";

    INVALID_CQ = SCT_COMMAND, 0x00, "completion queue invalid";
    INVALID_QUEUE_ID = SCT_COMMAND, 0x01, "invalid queue identifier";
    INVALID_QUEUE_SIZE = SCT_COMMAND, 0x02, "invalid queue size";
    ABORT_LIMIT = SCT_COMMAND, 0x03, "abort command limit exceeded";
    ASYNC_EVENT_LIMIT = SCT_COMMAND, 0x05, "asynchronous event request limit exceeded";
    INVALID_INTERRUPT_VECTOR = SCT_COMMAND, 0x08, "invalid interrupt vector";
    INVALID_LOG_PAGE = SCT_COMMAND, 0x09, "invalid log page";
    INVALID_FORMAT = SCT_COMMAND, 0x0a, "invalid format";
    INVALID_QUEUE_DELETION = SCT_COMMAND, 0x0c, "invalid queue deletion";
    FEATURE_NOT_SAVEABLE = SCT_COMMAND, 0x0d, "feature identifier not saveable";
    FEATURE_NOT_CHANGEABLE = SCT_COMMAND, 0x0e, "feature not changeable";
    FEATURE_NOT_PER_NAMESPACE = SCT_COMMAND, 0x0f, "feature not namespace specific";
    NAMESPACE_CAPACITY = SCT_COMMAND, 0x15, "namespace insufficient capacity";
    NSID_UNAVAILABLE = SCT_COMMAND, 0x16, "namespace identifier unavailable";
    NAMESPACE_ATTACHED = SCT_COMMAND, 0x18, "namespace already attached";
    NAMESPACE_PRIVATE = SCT_COMMAND, 0x19, "namespace is private";
    NAMESPACE_NOT_ATTACHED = SCT_COMMAND, 0x1a, "namespace not attached";
    CONFLICTING_ATTRIBUTES = SCT_COMMAND, 0x80, "conflicting attributes";
    INVALID_PROTECTION = SCT_COMMAND, 0x81, "invalid protection information";
    WRITE_TO_READ_ONLY = SCT_COMMAND, 0x82, "attempted write to read only range";
    SIZE_LIMIT = SCT_COMMAND, 0x83, "command size limit exceeded";

    WRITE_FAULT = SCT_MEDIA, 0x80, "write fault";
    UNRECOVERED_READ = SCT_MEDIA, 0x81, "unrecovered read error";
    GUARD_CHECK = SCT_MEDIA, 0x82, "end-to-end guard check error";
    APPLICATION_TAG_CHECK = SCT_MEDIA, 0x83, "end-to-end application tag check error";
    REFERENCE_TAG_CHECK = SCT_MEDIA, 0x84, "end-to-end reference tag check error";
    COMPARE_FAILURE = SCT_MEDIA, 0x85, "compare failure";
    ACCESS_DENIED = SCT_MEDIA, 0x86, "access denied";
    DEALLOCATED = SCT_MEDIA, 0x87, "deallocated or unwritten logical block";

    INTERNAL_PATH = SCT_PATH, 0x00, "internal path error";
    ANA_PERSISTENT_LOSS = SCT_PATH, 0x01, "asymmetric access persistent loss";
    ANA_INACCESSIBLE = SCT_PATH, 0x02, "asymmetric access inaccessible";
    ANA_TRANSITION = SCT_PATH, 0x03, "asymmetric access transition";
    CONTROLLER_PATHING = SCT_PATH, 0x60, "controller pathing error";
    HOST_PATHING = SCT_PATH, 0x70, "host pathing error";
    ABORTED_BY_HOST = SCT_PATH, 0x71, "command aborted by host";
}

impl core::fmt::Debug for Status {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}

impl core::fmt::Display for Status {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.text() {
            Some(text) => write!(f, "{text} ({:#05x})", self.0),
            None => write!(f, "status {:#05x}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::format;

    #[test]
    fn a_status_survives_the_field_and_back() {
        for status in
            [Status::SUCCESS, Status::INVALID_QUEUE_SIZE, Status::UNRECOVERED_READ, Status::HOST_PATHING]
        {
            assert_eq!(status.do_not_retry().with_phase(true).status(), status);
        }
    }

    #[test]
    fn the_field_has_the_bits_that_the_standard_gives_it() {
        // Phase 0, SC bits 8:1, SCT bits 11:9, CRD 13:12, M 14, DNR 15.
        assert_eq!(Status::UNRECOVERED_READ.do_not_retry().into_bits(), 0x8000 | 2 << 9 | 0x81 << 1);
    }

    #[test]
    fn a_status_prints_what_it_means_and_its_number() {
        assert_eq!(format!("{}", Status::UNRECOVERED_READ), "unrecovered read error (0x281)");
        assert_eq!(format!("{}", Status(0x7ff)), "status 0x7ff");
    }
}
