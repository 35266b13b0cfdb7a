#![expect(unsafe_code, reason = "says of the structures that they may grow at their end")]

use crate::{Channel, ChannelTelemetry, Device, Extensible, Tenant, Text};

/// The plugin is to begin.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct InitRequest {
    /// Size of this structure.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// What the operator calls this instance.
    pub name: Text,
    /// The configuration, as the operator gave it; what it means is the plugin's affair.
    pub configuration: Text,
}

/// A function was found on the host. A denial leaves it unclaimable, with the reason shown beside it.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct DiscoverRequest {
    /// Size of this structure.
    pub struct_size: u32,
    /// PCI vendor.
    pub vendor_id: u32,
    /// PCI device.
    pub device_id: u32,
    /// PCI class code, 24 bits.
    pub class_code: u32,
    /// The function, such as `0000:03:00.0`.
    pub device: Text,
    /// The kernel driver that holds it; empty for none.
    pub driver: Text,
}

/// A function is to be ours.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct ClaimRequest {
    /// Size of this structure.
    pub struct_size: u32,
    /// Who asks.
    pub caller_uid: u32,
    /// Nothing will come of it: 0 or 1.
    pub dry_run: u32,
    /// Also without an IOMMU that protects the host from it: 0 or 1.
    pub unprotected: u32,
    /// The function, such as `0000:03:00.0`.
    pub device: Text,
}

/// A channel is to come to be. Every setting may be amended.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct CreateRequest {
    /// Size of this structure.
    pub struct_size: u32,
    /// Who asks.
    pub caller_uid: u32,
    /// Nothing will come of it: 0 or 1.
    pub dry_run: u32,
    /// 0.
    pub reserved: u32,
    /// The channel, as asked for.
    pub channel: *const Channel,
    /// Its device, and what that has left.
    pub device: *const Device,
    /// Its tenant, and what that already has.
    pub tenant: *const Tenant,
}

/// A channel is to have an endpoint. Nothing can be amended.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct AttachRequest {
    /// Size of this structure.
    pub struct_size: u32,
    /// Who asks.
    pub caller_uid: u32,
    /// Nothing will come of it: 0 or 1.
    pub dry_run: u32,
    /// The VMM listens there, and the daemon connects: 0 or 1.
    pub client: u32,
    /// The channel.
    pub channel: *const Channel,
    /// Path of the unix socket.
    pub endpoint: Text,
}

/// A front-end has connected and asks for features and brings memory. Nothing can be amended; a denial ends the session.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct SessionRequest {
    /// Size of this structure.
    pub struct_size: u32,
    /// Regions of guest memory.
    pub memory_regions: u32,
    /// The channel.
    pub channel: *const Channel,
    /// Virtio and vhost-user feature bits that we offered.
    pub features_offered: u64,
    /// Those that the front-end took.
    pub features_taken: u64,
    /// Bytes of guest memory.
    pub memory_bytes: u64,
    /// Process of the front-end; 0 when it is not known.
    pub peer_pid: u32,
    /// Its user.
    pub peer_uid: u32,
}

/// A channel's setting is to change: size, virtqueues or guarantees. Every setting may be amended.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct TuneRequest {
    /// Size of this structure.
    pub struct_size: u32,
    /// Who asks.
    pub caller_uid: u32,
    /// Nothing will come of it: 0 or 1.
    pub dry_run: u32,
    /// 0.
    pub reserved: u32,
    /// The channel, as it is.
    pub channel: *const Channel,
    /// The channel, as asked for. Id, name, tenant, device and generation are the same.
    pub wanted: *const Channel,
    /// Its device, and what that has left beyond what the channel has.
    pub device: *const Device,
    /// Its tenant, and what that has without this channel.
    pub tenant: *const Tenant,
}

/// Once a second: what the channels did. New guarantees go to the sink.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct TickRequest {
    /// Size of this structure.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// Seconds since 1970-01-01 00:00:00 UTC, by the host's clock; it may jump.
    pub unix_seconds: u64,
    /// How long the period was, by a clock that does not jump.
    pub period_ns: u64,
    /// One entry a channel, as a list of pointers.
    pub channels: *const *const ChannelTelemetry,
    /// How many there are.
    pub channels_count: usize,
}

/// What runs short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct PressureKind(pub u32);

impl PressureKind {
    /// Time of a sidecore.
    pub const SIDECORE: Self = Self(1);
    /// Operations of a device: reservations fall short.
    pub const DEVICE: Self = Self(2);
    /// Pinned memory.
    pub const MEMORY: Self = Self(3);
}

/// Something runs short. New guarantees go to the sink.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct PressureRequest {
    /// Size of this structure.
    pub struct_size: u32,
    /// What runs short.
    pub kind: PressureKind,
    /// How much of it is in use, in thousandths.
    pub level_permille: u32,
    /// 0.
    pub reserved: u32,
    /// Which: a function, or the number of a sidecore; empty when there is one only.
    pub subject: Text,
    /// The channels that draw on it, with what they did in the last period, as a list of pointers.
    pub channels: *const *const ChannelTelemetry,
    /// How many there are.
    pub channels_count: usize,
}

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct FaultKind(pub u32);

impl FaultKind {
    /// A device answers with errors, or not in time.
    pub const DEVICE: Self = Self(1);
    /// A device is gone.
    pub const DEVICE_LOST: Self = Self(2);
    /// A front-end broke the protocol, and its channel is quarantined.
    pub const FRONT_END: Self = Self(3);
    /// A channel's rings or requests make no sense, and it is quarantined.
    pub const CHANNEL: Self = Self(4);
}

/// Something went wrong. A denial says that the channel shall stay quarantined until an operator resumes or destroys it;
/// otherwise the daemon does what it does by itself. New guarantees, of other channels, go to the sink.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct FaultRequest {
    /// Size of this structure.
    pub struct_size: u32,
    /// What went wrong.
    pub kind: FaultKind,
    /// The device that it was met on.
    pub device: Text,
    /// What was seen, for people.
    pub description: Text,
    /// The channel that it hit; null when it is the device alone.
    pub channel: *const Channel,
}

/// A channel is to go to another device, on this host or another. Every setting may be amended, for life over there.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct MigrateRequest {
    /// Size of this structure.
    pub struct_size: u32,
    /// Who asks.
    pub caller_uid: u32,
    /// Nothing will come of it: 0 or 1.
    pub dry_run: u32,
    /// 0.
    pub reserved: u32,
    /// The channel, as it is.
    pub channel: *const Channel,
    /// The device it goes to; null when that is on another host.
    pub target: *const Device,
    /// The other host; empty for this one.
    pub target_host: Text,
    /// Its tenant, and what that has without this channel.
    pub tenant: *const Tenant,
}

/// A channel is to end. Nothing can be amended.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct DestroyRequest {
    /// Size of this structure.
    pub struct_size: u32,
    /// Who asks.
    pub caller_uid: u32,
    /// Nothing will come of it: 0 or 1.
    pub dry_run: u32,
    /// Also while a front-end is connected: 0 or 1.
    pub force: u32,
    /// The channel.
    pub channel: *const Channel,
}

// SAFETY: `repr(C)`, the size in front, and only integers, texts and pointers, all of which may be zero.
unsafe impl Extensible for InitRequest {}
// SAFETY: as above.
unsafe impl Extensible for DiscoverRequest {}
// SAFETY: as above.
unsafe impl Extensible for ClaimRequest {}
// SAFETY: as above.
unsafe impl Extensible for CreateRequest {}
// SAFETY: as above.
unsafe impl Extensible for AttachRequest {}
// SAFETY: as above.
unsafe impl Extensible for SessionRequest {}
// SAFETY: as above.
unsafe impl Extensible for TuneRequest {}
// SAFETY: as above.
unsafe impl Extensible for TickRequest {}
// SAFETY: as above.
unsafe impl Extensible for PressureRequest {}
// SAFETY: as above.
unsafe impl Extensible for FaultRequest {}
// SAFETY: as above.
unsafe impl Extensible for MigrateRequest {}
// SAFETY: as above.
unsafe impl Extensible for DestroyRequest {}
