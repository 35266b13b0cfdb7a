#[cfg(feature = "serde")]
use serde::{Deserialize, Serialize};

use crate::{Channel, ChannelTelemetry, Device, Tenant};

/// The plugin is to begin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize), serde(default, deny_unknown_fields))]
pub struct InitRequest {
    /// What the operator calls this instance.
    pub name: String,
    /// The configuration, as the operator gave it.
    pub configuration: String,
}

/// A function was found on the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize), serde(default, deny_unknown_fields))]
pub struct DiscoverRequest {
    /// The function, such as `0000:03:00.0`.
    pub device: String,
    /// The kernel driver that holds it; empty for none.
    pub driver: String,
    /// PCI vendor.
    pub vendor_id: u32,
    /// PCI device.
    pub device_id: u32,
    /// PCI class code, 24 bits.
    pub class_code: u32,
}

/// A function is to be ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize), serde(default, deny_unknown_fields))]
pub struct ClaimRequest {
    /// The function, such as `0000:03:00.0`.
    pub device: String,
    /// Also without an IOMMU that protects the host from it.
    pub unprotected: bool,
    /// Who asks.
    pub caller_uid: u32,
    /// Nothing will come of it.
    pub dry_run: bool,
}

/// A channel is to come to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize), serde(default, deny_unknown_fields))]
pub struct CreateRequest {
    /// The channel, as asked for.
    pub channel: Channel,
    /// Its device, and what that has left.
    pub device: Device,
    /// Its tenant, and what that already has.
    pub tenant: Tenant,
    /// Who asks.
    pub caller_uid: u32,
    /// Nothing will come of it.
    pub dry_run: bool,
}

/// A channel is to have an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize), serde(default, deny_unknown_fields))]
pub struct AttachRequest {
    /// The channel.
    pub channel: Channel,
    /// Path of the unix socket.
    pub endpoint: String,
    /// The VMM listens there, and the daemon connects.
    pub client: bool,
    /// Who asks.
    pub caller_uid: u32,
    /// Nothing will come of it.
    pub dry_run: bool,
}

/// A front-end has connected and asks for features and brings memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize), serde(default, deny_unknown_fields))]
pub struct SessionRequest {
    /// The channel.
    pub channel: Channel,
    /// Virtio and vhost-user feature bits that we offered.
    pub features_offered: u64,
    /// Those that the front-end took.
    pub features_taken: u64,
    /// Bytes of guest memory.
    pub memory_bytes: u64,
    /// Regions of guest memory.
    pub memory_regions: u32,
    /// Process of the front-end; 0 when it is not known.
    pub peer_pid: u32,
    /// Its user.
    pub peer_uid: u32,
}

/// A channel's setting is to change: size, virtqueues or guarantees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize), serde(default, deny_unknown_fields))]
pub struct TuneRequest {
    /// The channel, as it is.
    pub channel: Channel,
    /// The channel, as asked for. Id, name, tenant, device and generation are the same.
    pub wanted: Channel,
    /// Its device, and what that has left beyond what the channel has.
    pub device: Device,
    /// Its tenant, and what that has without this channel.
    pub tenant: Tenant,
    /// Who asks.
    pub caller_uid: u32,
    /// Nothing will come of it.
    pub dry_run: bool,
}

/// A period has passed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize), serde(default, deny_unknown_fields))]
pub struct TickRequest {
    /// Seconds since 1970-01-01 00:00:00 UTC, by the host's clock; it may jump.
    pub unix_seconds: u64,
    /// How long the period was, by a clock that does not jump.
    pub period_ns: u64,
    /// What each channel did.
    pub channels: Vec<ChannelTelemetry>,
}

/// Something runs short.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize), serde(default, deny_unknown_fields))]
pub struct PressureRequest {
    /// What: [`PressureKind::SIDECORE`](crate::PressureKind::SIDECORE) and its kin.
    #[cfg_attr(feature = "serde", serde(with = "pressure_number"))]
    pub kind: crate::PressureKind,
    /// Which: a function, or the number of a sidecore; empty when there is one only.
    pub subject: String,
    /// How much of it is in use, in thousandths.
    pub level_permille: u32,
    /// The channels that draw on it, with what they did in the last period.
    pub channels: Vec<ChannelTelemetry>,
}

impl Default for PressureRequest {
    fn default() -> Self {
        let kind = crate::PressureKind(0);
        Self { kind, subject: String::new(), level_permille: 0, channels: Vec::new() }
    }
}

/// Something went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize), serde(default, deny_unknown_fields))]
pub struct FaultRequest {
    /// What: [`FaultKind::DEVICE`](crate::FaultKind::DEVICE) and its kin.
    #[cfg_attr(feature = "serde", serde(with = "fault_number"))]
    pub kind: crate::FaultKind,
    /// The device that it was met on.
    pub device: String,
    /// What was seen, for people.
    pub description: String,
    /// The channel that it hit; `None` when it is the device alone.
    pub channel: Option<Channel>,
}

impl Default for FaultRequest {
    fn default() -> Self {
        let kind = crate::FaultKind(0);
        Self { kind, device: String::new(), description: String::new(), channel: None }
    }
}

/// A channel is to go to another device, on this host or another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize), serde(default, deny_unknown_fields))]
pub struct MigrateRequest {
    /// The channel, as it is.
    pub channel: Channel,
    /// The device it goes to; `None` when that is on another host.
    pub target: Option<Device>,
    /// The other host; empty for this one.
    pub target_host: String,
    /// Its tenant, and what that has without this channel.
    pub tenant: Tenant,
    /// Who asks.
    pub caller_uid: u32,
    /// Nothing will come of it.
    pub dry_run: bool,
}

/// A channel is to end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize), serde(default, deny_unknown_fields))]
pub struct DestroyRequest {
    /// The channel.
    pub channel: Channel,
    /// Also while a front-end is connected.
    pub force: bool,
    /// Who asks.
    pub caller_uid: u32,
    /// Nothing will come of it.
    pub dry_run: bool,
}

/// In a recording, what runs short is the number that crosses the ABI.
#[cfg(feature = "serde")]
mod pressure_number {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::PressureKind;

    pub(super) fn serialize<S: Serializer>(kind: &PressureKind, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u32(kind.0)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PressureKind, D::Error> {
        u32::deserialize(from).map(PressureKind)
    }
}

/// In a recording, what went wrong is the number that crosses the ABI.
#[cfg(feature = "serde")]
mod fault_number {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::FaultKind;

    pub(super) fn serialize<S: Serializer>(kind: &FaultKind, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u32(kind.0)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<FaultKind, D::Error> {
        u32::deserialize(from).map(FaultKind)
    }
}
