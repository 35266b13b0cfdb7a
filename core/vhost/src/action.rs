//! What a session asks of the owner of its rings and memory, and how the owner answers.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::Violation;

/// Names one action of one session, to say later how it went. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub(crate) u64);

/// Something for the owner of rings and memory to do.
///
/// Every action but [`Action::Ended`] carries a token and is answered once with
/// [`Session::complete`](crate::Session::complete). Until then the session carries out no further message.
#[derive(Debug)]
pub enum Action {
    /// Begin to serve a ring. Answered with [`Outcome::Done`] or [`Outcome::Failed`].
    StartRing {
        /// What to answer with.
        token: Token,
        /// Which ring.
        index: u16,
        /// Everything there is to know of it.
        setup: RingSetup,
    },
    /// Drain a ring and serve it no longer. Answered with [`Outcome::RingStopped`] once none of its descriptors is in
    /// flight and nothing of ours touches it any more.
    StopRing {
        /// What to answer with.
        token: Token,
        /// Which ring.
        index: u16,
    },
    /// A running ring's driver notifies by another eventfd from now on; `None`: the ring is to be polled.
    SetKick {
        /// What to answer with.
        token: Token,
        /// Which ring.
        index: u16,
        /// The eventfd.
        kick: Option<Arc<OwnedFd>>,
    },
    /// A running ring interrupts by another eventfd from now on; `None`: not at all. Signal the new one once, since
    /// an interrupt may have been lost in between.
    SetCall {
        /// What to answer with.
        token: Token,
        /// Which ring.
        index: u16,
        /// The eventfd.
        call: Option<Arc<OwnedFd>>,
    },
    /// A running ring tells of errors by another eventfd from now on; `None`: not at all.
    SetErr {
        /// What to answer with.
        token: Token,
        /// Which ring.
        index: u16,
        /// The eventfd.
        err: Option<Arc<OwnedFd>>,
    },
    /// Use this memory of the front-end's. With `replace`, all earlier grants end: they are to be unmapped before the
    /// answer. The session has checked that no range wraps and that guest addresses do not overlap; that the files are as large as
    /// they say is for the owner to see.
    MapMemory {
        /// What to answer with.
        token: Token,
        /// The regions.
        regions: Vec<RegionGrant>,
        /// Whether they replace all earlier ones.
        replace: bool,
    },
    /// A grant ends: answer when it has been unmapped and no command names it (D3).
    UnmapMemory {
        /// What to answer with.
        token: Token,
        /// Which region.
        region: RegionId,
    },
    /// Make a region that tracks what is in flight. Answered with [`Outcome::Inflight`].
    GetInflight {
        /// What to answer with.
        token: Token,
        /// Rings to track.
        num_queues: u16,
        /// Entries of each.
        queue_size: u16,
    },
    /// Use this region, made by [`Action::GetInflight`] in this session or an earlier one, from the next start of a
    /// ring on. It may have been in anybody's hands in between.
    SetInflight {
        /// What to answer with.
        token: Token,
        /// The region.
        region: InflightRegion,
        /// Rings tracked.
        num_queues: u16,
        /// Entries of each.
        queue_size: u16,
    },
    /// The front-end takes requests of ours on this socket: make a [`BackendChannel`](crate::BackendChannel) of it. An
    /// earlier one is to be dropped.
    SetBackendChannel {
        /// What to answer with.
        token: Token,
        /// The socket.
        socket: OwnedFd,
        /// Whether the front-end acknowledges what it is told.
        reply_ack: bool,
    },
    /// The driver writes configuration space, within [`Device::config_writable`](crate::Device::config_writable). Once
    /// this is done the session's own copy is changed, too.
    WriteConfig {
        /// What to answer with.
        token: Token,
        /// First byte.
        offset: usize,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// The device status field has changed (virtio 1.3 2.1). Before zero, rings have been stopped. Zero need not be the
    /// guest's doing: QEMU sends it when the machine is paused, too, and goes on later where the rings have stopped.
    SetStatus {
        /// What to answer with.
        token: Token,
        /// The new value.
        status: u8,
    },
    /// Return the device to its initial state. Rings have been stopped before it; memory stays.
    ResetDevice {
        /// What to answer with.
        token: Token,
    },
    /// The front-end tells the maximum transmission unit.
    SetMtu {
        /// What to answer with.
        token: Token,
        /// Bytes.
        mtu: u16,
    },
    /// Announce the migrated guest with this address to the network.
    SendRarp {
        /// What to answer with.
        token: Token,
        /// The guest's MAC address.
        mac: [u8; 6],
    },
    /// The session is over, and this is its last action: rings that run are to be stopped, grants unmapped. Tokens not
    /// answered yet need no answer.
    Ended(EndReason),
}

impl Action {
    /// What to answer with, unless nothing is to be answered.
    #[must_use]
    pub fn token(&self) -> Option<Token> {
        match self {
            Self::StartRing { token, .. }
            | Self::StopRing { token, .. }
            | Self::SetKick { token, .. }
            | Self::SetCall { token, .. }
            | Self::SetErr { token, .. }
            | Self::MapMemory { token, .. }
            | Self::UnmapMemory { token, .. }
            | Self::GetInflight { token, .. }
            | Self::SetInflight { token, .. }
            | Self::SetBackendChannel { token, .. }
            | Self::WriteConfig { token, .. }
            | Self::SetStatus { token, .. }
            | Self::ResetDevice { token }
            | Self::SetMtu { token, .. }
            | Self::SendRarp { token, .. } => Some(*token),
            Self::Ended(_) => None,
        }
    }

    /// A short name, for traces and logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::StartRing { .. } => "start-ring",
            Self::StopRing { .. } => "stop-ring",
            Self::SetKick { .. } => "set-kick",
            Self::SetCall { .. } => "set-call",
            Self::SetErr { .. } => "set-err",
            Self::MapMemory { .. } => "map-memory",
            Self::UnmapMemory { .. } => "unmap-memory",
            Self::GetInflight { .. } => "get-inflight",
            Self::SetInflight { .. } => "set-inflight",
            Self::SetBackendChannel { .. } => "set-backend-channel",
            Self::WriteConfig { .. } => "write-config",
            Self::SetStatus { .. } => "set-status",
            Self::ResetDevice { .. } => "reset-device",
            Self::SetMtu { .. } => "set-mtu",
            Self::SendRarp { .. } => "send-rarp",
            Self::Ended(_) => "ended",
        }
    }
}

/// How an action went.
#[derive(Debug)]
pub enum Outcome {
    /// As asked.
    Done,
    /// A ring is drained and stopped.
    RingStopped {
        /// Where it is to go on: for a split ring the next index of the available ring.
        base: u32,
    },
    /// A region that tracks what is in flight has been made.
    Inflight(InflightRegion),
    /// It could not be done; the text is for the operator. The front-end gets a non-zero acknowledgement if it has asked
    /// for one; if not, the session ends, because the front-end would otherwise believe that it was done.
    Failed(String),
}

/// Everything there is to know of a ring that starts.
///
/// Descriptors are shared with the session, which needs them again when the ring is disabled and enabled. They are what
/// the front-end sent, and remain in its hands, too: one that should be an eventfd may be a pipe, or may be made to
/// block at any time.
#[derive(Clone, Debug)]
pub struct RingSetup {
    /// Entries: a power of two, at most [`Device::ring_size_max`](crate::Device::ring_size_max).
    pub size: u16,
    /// Descriptor table, as an address of the front-end's. Aligned.
    pub desc_user_addr: u64,
    /// Available ring, as an address of the front-end's. Aligned.
    pub avail_user_addr: u64,
    /// Used ring, as an address of the front-end's. Aligned.
    pub used_user_addr: u64,
    /// Where to go on: for a split ring the next index of the available ring.
    pub base: u32,
    /// Virtio features in use, without the bits that belong to vhost.
    pub features: u64,
    /// By which eventfd the driver notifies; `None`: the ring is to be polled.
    pub kick: Option<Arc<OwnedFd>>,
    /// By which eventfd to interrupt; `None`: not at all.
    pub call: Option<Arc<OwnedFd>>,
    /// By which eventfd to tell of an error; `None`: not at all.
    pub err: Option<Arc<OwnedFd>>,
}

/// Which region of the front-end's memory: what `REM_MEM_REG` identifies one by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RegionId {
    /// Guest-physical address.
    pub guest_addr: u64,
    /// Where the front-end has it mapped.
    pub user_addr: u64,
    /// Bytes.
    pub size_bytes: u64,
}

/// A region of its memory that a front-end lets us use.
#[derive(Debug)]
pub struct RegionGrant {
    /// Which region.
    pub id: RegionId,
    /// Where it starts in the file.
    pub mmap_offset: u64,
    /// The file.
    pub file: OwnedFd,
}

/// A region of shared memory that tracks what is in flight.
#[derive(Debug)]
pub struct InflightRegion {
    /// Bytes.
    pub mmap_size: u64,
    /// Where it starts in the file.
    pub mmap_offset: u64,
    /// The file.
    pub file: OwnedFd,
}

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The front-end has closed the connection.
    Disconnected,
    /// The front-end has broken the protocol.
    Violation(Violation),
    /// The owner could not do what the front-end takes for done.
    Failed {
        /// The front-end's request.
        request: &'static str,
        /// The owner's words.
        why: String,
    },
    /// The socket failed.
    Socket(String),
    /// We have closed it: the text says what for.
    Closed(String),
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnected => f.write_str("the front-end has disconnected"),
            Self::Violation(violation) => write!(f, "the front-end broke the protocol: {violation}"),
            Self::Failed { request, why } => write!(f, "{request} could not be carried out: {why}"),
            Self::Socket(why) => write!(f, "the socket failed: {why}"),
            Self::Closed(why) => write!(f, "closed: {why}"),
        }
    }
}
