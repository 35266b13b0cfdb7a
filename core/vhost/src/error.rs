//! What can go wrong: here, and at the front-end.

use std::io;
use std::path::PathBuf;

use vfiomux_spec::vhost_user::{MAX_FDS, MAX_MEM_SLOTS, MAX_PAYLOAD_SIZE_BYTES};

/// What can go wrong on our side.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not a device that a session can present.
    #[error("the device cannot be presented: {0}")]
    Device(&'static str),
    /// An action was answered that does not wait for an answer.
    #[error("no action waits for this answer; each is answered once")]
    UnknownToken,
    /// An action was answered with what answers another.
    #[error("{action} cannot be answered with {outcome}")]
    WrongOutcome {
        /// What was asked.
        action: &'static str,
        /// What was answered.
        outcome: &'static str,
    },
    /// Another process listens on the endpoint.
    #[error("{path} is in use by another process; choose another path, or stop that process and try again")]
    EndpointInUse {
        /// The endpoint.
        path: PathBuf,
    },
    /// Something that is no socket lies where the endpoint should be.
    #[error("{path} exists and is not a socket; choose another path, or remove it")]
    NotASocket {
        /// The endpoint.
        path: PathBuf,
    },
    /// A path does not fit into a unix socket address.
    #[error("{path} is too long for a unix socket; choose a path of at most 107 bytes")]
    PathTooLong {
        /// The endpoint.
        path: PathBuf,
    },
    /// The endpoint could not be made.
    #[error("cannot listen on {path}; check that its directory exists and can be written")]
    Listen {
        /// The endpoint.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A connection could not be taken.
    #[error("cannot accept a connection on {path}")]
    Accept {
        /// The endpoint.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The back-end's own channel has failed. Sessions go on without.
    #[error("the back-end channel failed: {0}; the guest learns of changes when it next asks")]
    BackendChannel(String),
}

/// How a front-end has broken the protocol. The text is for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A header of another protocol version, or no header at all.
    #[error("a header of version {version} instead of 1; check that a vhost-user front-end is connected")]
    Version {
        /// The version found.
        version: u32,
    },
    /// A reply where only requests are expected.
    #[error("a reply to {request}, which was never asked")]
    UnexpectedReply {
        /// The request it claims to answer.
        request: &'static str,
    },
    /// A request code that the protocol does not have.
    #[error("unknown request {code}")]
    UnknownRequest {
        /// The code.
        code: u32,
    },
    /// A payload that no message has.
    #[error("{request} with {size} bytes of payload, more than {MAX_PAYLOAD_SIZE_BYTES}")]
    PayloadTooLarge {
        /// The request.
        request: &'static str,
        /// Bytes announced.
        size: u32,
    },
    /// A payload that this message does not have.
    #[error("{request} with {size} bytes of payload")]
    PayloadSize {
        /// The request.
        request: &'static str,
        /// Bytes found.
        size: usize,
    },
    /// More descriptors than any message has.
    #[error("more than {MAX_FDS} descriptors with one message")]
    TooManyFds,
    /// Not the descriptors that this message has.
    #[error("{request} with {found} descriptors instead of {expected}")]
    FdCount {
        /// The request.
        request: &'static str,
        /// Descriptors that it has.
        expected: usize,
        /// Descriptors found.
        found: usize,
    },
    /// A request whose reply is the point of it, but which was never offered.
    #[error("{request}, which was not offered")]
    NotOffered {
        /// The request.
        request: &'static str,
    },
    /// Virtio features that were not offered.
    #[error("SET_FEATURES with {bits:#x}, which was not offered")]
    Features {
        /// The bits.
        bits: u64,
    },
    /// Other virtio features while a ring runs.
    #[error("SET_FEATURES changes features while ring {index} runs")]
    FeaturesWhileRunning {
        /// A running ring.
        index: u16,
    },
    /// Protocol features that were not offered.
    #[error("SET_PROTOCOL_FEATURES with {bits:#x}, which was not offered")]
    ProtocolFeatures {
        /// The bits.
        bits: u64,
    },
    /// A ring that the device does not have.
    #[error("{request} for ring {index} of a device with {rings}")]
    RingIndex {
        /// The request.
        request: &'static str,
        /// The ring asked for.
        index: u32,
        /// Rings of the device.
        rings: u16,
    },
    /// A ring size that is no power of two, or too large.
    #[error("SET_VRING_NUM gives ring {index} {size} entries; a power of two up to {max} is possible")]
    RingSize {
        /// The ring.
        index: u16,
        /// Entries asked for.
        size: u32,
        /// Entries possible.
        max: u16,
    },
    /// Ring addresses that are not aligned as virtio 1.3 2.7 asks.
    #[error("SET_VRING_ADDR gives ring {index} addresses that are not aligned")]
    RingAlignment {
        /// The ring.
        index: u16,
    },
    /// A ring is changed that must be stopped for it.
    #[error("{request} changes ring {index} while it runs")]
    RingRunning {
        /// The request.
        request: &'static str,
        /// The ring.
        index: u16,
    },
    /// A value that is not 0 or 1, or otherwise outside of what a field can hold.
    #[error("{request} with the value {value:#x}")]
    Value {
        /// The request.
        request: &'static str,
        /// The value.
        value: u64,
    },
    /// A memory region that is empty or wraps.
    #[error("{request} with a region of {size:#x} bytes at {guest_addr:#x} that is empty or wraps around")]
    Region {
        /// The request.
        request: &'static str,
        /// Guest-physical address.
        guest_addr: u64,
        /// Bytes.
        size: u64,
    },
    /// Memory regions that overlap.
    #[error("{request} with a region at {guest_addr:#x} that overlaps another")]
    RegionOverlap {
        /// The request.
        request: &'static str,
        /// Guest-physical address.
        guest_addr: u64,
    },
    /// More memory regions than were offered.
    #[error("ADD_MEM_REG beyond {MAX_MEM_SLOTS} regions")]
    TooManyRegions,
}
