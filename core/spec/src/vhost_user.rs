//! vhost-user: the messages between a VMM (the front-end) and us (the back-end), as QEMU's *Vhost-user Protocol*
//! document (`docs/interop/vhost-user.rst`) defines them. Section names below are that document's.
//!
//! A message is a [`Header`], a payload of `size` bytes, and possibly descriptors in the ancillary data of its first
//! byte. All numbers are in the machine's own byte order, both ends being on one host.

mod payload;
mod request;

pub use payload::{
    ConfigHeader, Inflight, Log, MemTableHeader, MemoryRegion, SingleMemoryRegion, U64, VringAddr, VringState,
};
pub use request::{BackendRequest, FrontendRequest};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The version in every header's flags.
pub const VERSION: u32 = 1;
/// Header flags: which bits hold the version.
pub const FLAG_VERSION_MASK: u32 = 3;
/// Header flag: this message answers one.
pub const FLAG_REPLY: u32 = 1 << 2;
/// Header flag: the sender wants a u64 in answer, zero for success (REPLY_ACK).
pub const FLAG_NEED_REPLY: u32 = 1 << 3;

/// Largest payload any implementation sends or takes; the document sets no limit, peers use a page for header and
/// payload together.
pub const MAX_PAYLOAD_SIZE_BYTES: usize = 4096 - size_of::<Header>();
/// Most descriptors with one message: one for each region of `SET_MEM_TABLE`.
pub const MAX_FDS: usize = MAX_MEM_TABLE_REGIONS;
/// Most regions in one `SET_MEM_TABLE`.
pub const MAX_MEM_TABLE_REGIONS: usize = 8;
/// Memory slots that a back-end may offer in answer to `GET_MAX_MEM_SLOTS`: what KVM has, less three that are private.
pub const MAX_MEM_SLOTS: usize = 509;
/// Largest piece of configuration space in one `GET_CONFIG` or `SET_CONFIG`.
pub const MAX_CONFIG_SIZE_BYTES: usize = 256;

/// In the u64 of `SET_VRING_KICK`, `_CALL`, `_ERR`: which bits hold the ring's index.
pub const VRING_INDEX_MASK: u64 = 0xff;
/// In the u64 of `SET_VRING_KICK`, `_CALL`, `_ERR`: no descriptor comes with the message; the ring is to be polled.
pub const VRING_NO_FD: u64 = 1 << 8;

/// In [`VringAddr::flags`]: writes to the used ring are to be logged (Migration).
pub const VRING_ADDR_F_LOG: u32 = 1;

/// [`ConfigHeader::flags`]: the driver writes a field of configuration space.
pub const CONFIG_FLAG_WRITABLE: u32 = 0;
/// [`ConfigHeader::flags`]: a migration's target restores configuration space.
pub const CONFIG_FLAG_MIGRATION: u32 = 1;

/// Protocol feature bits (section "Protocol features"), as masks over the 64-bit word of `GET_PROTOCOL_FEATURES`.
pub mod protocol_features {
    /// Several queues: `GET_QUEUE_NUM`.
    pub const MQ: u64 = 1 << 0;
    /// The dirty log comes as shared memory: `SET_LOG_BASE`.
    pub const LOG_SHMFD: u64 = 1 << 1;
    /// The back-end announces a migrated guest: `SEND_RARP`.
    pub const RARP: u64 = 1 << 2;
    /// Any message can ask for an acknowledgement: `FLAG_NEED_REPLY`.
    pub const REPLY_ACK: u64 = 1 << 3;
    /// The front-end tells the maximum transmission unit: `NET_SET_MTU`.
    pub const MTU: u64 = 1 << 4;
    /// A second socket for the back-end's own requests: `SET_BACKEND_REQ_FD`.
    pub const BACKEND_REQ: u64 = 1 << 5;
    /// Rings of another byte order: `SET_VRING_ENDIAN`.
    pub const CROSS_ENDIAN: u64 = 1 << 6;
    /// Crypto sessions.
    pub const CRYPTO_SESSION: u64 = 1 << 7;
    /// Post-copy migration through userfaultfd.
    pub const PAGEFAULT: u64 = 1 << 8;
    /// Configuration space is the back-end's: `GET_CONFIG`, `SET_CONFIG`.
    pub const CONFIG: u64 = 1 << 9;
    /// The back-end may send descriptors on its own channel.
    pub const BACKEND_SEND_FD: u64 = 1 << 10;
    /// Doorbells mapped into the guest.
    pub const HOST_NOTIFIER: u64 = 1 << 11;
    /// A region of shared memory tracks what is in flight: `GET_INFLIGHT_FD`, `SET_INFLIGHT_FD`.
    pub const INFLIGHT_SHMFD: u64 = 1 << 12;
    /// The device can be reset: `RESET_DEVICE`.
    pub const RESET_DEVICE: u64 = 1 << 13;
    /// Kicks and calls as messages: `VRING_KICK`.
    pub const INBAND_NOTIFICATIONS: u64 = 1 << 14;
    /// Memory region by region: `GET_MAX_MEM_SLOTS`, `ADD_MEM_REG`, `REM_MEM_REG`.
    pub const CONFIGURE_MEM_SLOTS: u64 = 1 << 15;
    /// The device status field is forwarded: `GET_STATUS`, `SET_STATUS`.
    pub const STATUS: u64 = 1 << 16;
    /// Mappings of a Xen guest.
    pub const XEN_MMAP: u64 = 1 << 17;
    /// Objects shared between devices.
    pub const SHARED_OBJECT: u64 = 1 << 18;
    /// Internal state is transferred on migration: `SET_DEVICE_STATE_FD`, `CHECK_DEVICE_STATE`.
    pub const DEVICE_STATE: u64 = 1 << 19;
}

/// The start of every message (section "Header").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Header {
    /// A [`FrontendRequest`] or a [`BackendRequest`], by the socket it travels on.
    pub request: u32,
    /// Version, [`FLAG_REPLY`], [`FLAG_NEED_REPLY`].
    pub flags: u32,
    /// Bytes of payload that follow.
    pub size: u32,
}

impl Header {
    /// The version that the sender speaks.
    #[must_use]
    pub const fn version(&self) -> u32 {
        self.flags & FLAG_VERSION_MASK
    }

    /// Whether this message answers one.
    #[must_use]
    pub const fn is_reply(&self) -> bool {
        self.flags & FLAG_REPLY != 0
    }

    /// Whether the sender wants an acknowledgement.
    #[must_use]
    pub const fn needs_reply(&self) -> bool {
        self.flags & FLAG_NEED_REPLY != 0
    }
}

const _: () = assert!(size_of::<Header>() == 12);

#[cfg(test)]
mod tests;
