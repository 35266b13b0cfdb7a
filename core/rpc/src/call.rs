//! The parameters of every method. Unknown ones are refused.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Endpoint, Guarantees, Labels, Limits, SidecoreMode};

/// Parameters of `status`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StatusShow {}

/// Parameters of `device.list`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceList {}

/// Parameters of `device.show`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceShow {
    /// Name or PCI address of the device.
    pub device: String,
}

/// Parameters of `device.claim`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceClaim {
    /// PCI address of the device.
    pub device: String,
}

/// Parameters of `device.release`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceRelease {
    /// Name or PCI address of the device.
    pub device: String,
}

/// Parameters of `device.format`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceFormat {
    /// Name or PCI address of the device.
    pub device: String,
    /// Destroy whatever is found on it.
    #[serde(default)]
    pub erase: bool,
}

/// Parameters of `device.calibrate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceCalibrate {
    /// Name or PCI address of the device.
    pub device: String,
    /// Also while channels are at work on it: they are slowed down, and so is what is measured.
    #[serde(default)]
    pub force: bool,
    /// How long each of the four measurements takes; without it, a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u32>,
}

/// Parameters of `channel.create`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelCreate {
    /// Name of the channel: small letters, digits and hyphens, up to 63.
    pub name: String,
    /// Name or PCI address of the device to carve it from.
    pub device: String,
    /// Whose it is.
    pub tenant: String,
    /// Size; rounded up to whole allocation units.
    pub size_bytes: u64,
    /// Most virtqueues that a front-end may start.
    #[serde(default = "one")]
    pub queues: u16,
    /// Where a front-end connects; without one, the channel waits for `channel.attach`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    /// The NVMe namespace to carve it from; without one, the first that has room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<u32>,
    /// Size of a block as the guest sees it; without one, the namespace's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_bytes: Option<u32>,
    /// Refuse writes.
    #[serde(default)]
    pub read_only: bool,
    /// What it is promised, and what it is held to.
    #[serde(default, skip_serializing_if = "Guarantees::is_none")]
    pub guarantees: Guarantees,
    /// What is written on it, for policies and people.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

const fn one() -> u16 {
    1
}

/// Parameters of `channel.list`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelList {
    /// Only this tenant's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

/// Parameters of `channel.show`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelShow {
    /// Name of the channel.
    pub name: String,
}

/// Parameters of `channel.path`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelPath {
    /// Name of the channel.
    pub name: String,
}

/// Parameters of `channel.attach`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelAttach {
    /// Name of the channel.
    pub name: String,
    /// Where a front-end connects.
    pub endpoint: Endpoint,
}

/// Parameters of `channel.detach`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelDetach {
    /// Name of the channel.
    pub name: String,
}

/// Parameters of `channel.suspend`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelSuspend {
    /// Name of the channel.
    pub name: String,
}

/// Parameters of `channel.resume`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelResume {
    /// Name of the channel.
    pub name: String,
}

/// Parameters of `channel.resize`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelResize {
    /// Name of the channel.
    pub name: String,
    /// Its new size; rounded up to whole allocation units.
    pub size_bytes: u64,
}

/// Parameters of `channel.set`: what is left out stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelSet {
    /// Name of the channel.
    pub name: String,
    /// What it is called from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_name: Option<String>,
    /// Its labels from now on: these, and no others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
    /// The serial number that its guest reads, up to 20 characters. Only of a channel without an endpoint, as the next two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Most virtqueues that a front-end may start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queues: Option<u16>,
    /// Refuse writes, or take them again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
}

/// Parameters of `channel.migrate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelMigrate {
    /// Name of the channel.
    pub name: String,
    /// The host that it is to go to.
    pub to: String,
    /// Only find out whether it could.
    #[serde(default)]
    pub check: bool,
}

/// Parameters of `channel.snapshot`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelSnapshot {
    /// Name of the channel.
    pub name: String,
    /// What its content at this moment is to be called.
    pub snapshot: String,
}

/// Parameters of `channel.clone`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelClone {
    /// Name of the channel.
    pub name: String,
    /// Name of the new one.
    pub new_name: String,
}

/// Parameters of `channel.tune`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelTune {
    /// Name of the channel.
    pub name: String,
    /// What it is promised, and what it is held to, from now on: these, and no others.
    pub guarantees: Guarantees,
}

/// Parameters of `channel.move`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelMove {
    /// Name of the channel.
    pub name: String,
    /// Number of the sidecore that is to serve it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sidecore: Option<u32>,
    /// Name or PCI address of the device that it is to lie on, instead: its content goes along. A job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

/// Parameters of `channel.destroy`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelDestroy {
    /// Name of the channel.
    pub name: String,
    /// Also while a front-end is connected; its data is scrubbed either way.
    #[serde(default)]
    pub force: bool,
}

/// Parameters of `channel.explain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelExplain {
    /// Name of the channel.
    pub name: String,
}

/// Parameters of `tenant.list`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantList {}

/// Parameters of `tenant.show`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantShow {
    /// Name of the tenant.
    pub name: String,
}

/// Parameters of `tenant.tune`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantTune {
    /// Name of the tenant.
    pub name: String,
    /// What all its channels together are held to from now on: these limits, and no others.
    pub limits: Limits,
}

/// Parameters of `sidecore.list`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SidecoreList {}

/// Parameters of `sidecore.show`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SidecoreShow {
    /// Number of the sidecore.
    pub index: u32,
}

/// Parameters of `sidecore.set`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SidecoreSet {
    /// Number of the sidecore.
    pub index: u32,
    /// What it does from now on when there is nothing to do.
    pub mode: SidecoreMode,
}

/// Parameters of `job.list`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobList {}

/// Parameters of `job.show`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobShow {
    /// Number of the job.
    pub job: u64,
}

/// Parameters of `job.cancel`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobCancel {
    /// Number of the job.
    pub job: u64,
}

/// Parameters of `caller.show`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CallerShow {}

/// Parameters of `caller.confine`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CallerConfine {
    /// The only tenant whose objects this connection is to be shown from now on, and may touch.
    pub tenant: String,
}

/// Parameters of `plugin.list`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PluginList {}

/// Parameters of `plugin.show`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PluginShow {
    /// Name of the plugin.
    pub name: String,
}

/// Parameters of `plugin.load`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PluginLoad {
    /// What to call it: small letters, digits and hyphens, up to 63.
    pub name: String,
    /// The shared library, an absolute path.
    pub library: PathBuf,
    /// A file that it is given to read whenever it begins, an absolute path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<PathBuf>,
    /// Those of a lower order are asked before it.
    #[serde(default)]
    pub order: i32,
    /// How long it may take to answer whatever it is asked or told, 1 to 60000 ms; without it, 500 ms for a verdict and 1000 ms for a report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
}

/// Parameters of `plugin.replace`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PluginReplace {
    /// Name of the plugin; the new one has it too, and its order.
    pub name: String,
    /// The new shared library, an absolute path; without it, the same path, read anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub library: Option<PathBuf>,
    /// A file that the new one is given to read, an absolute path; without it, that of the old one, read anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<PathBuf>,
    /// How long it may take to answer whatever it is asked or told, 1 to 60000 ms; without it, as long as the old one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
}

/// Parameters of `plugin.unload`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PluginUnload {
    /// Name of the plugin.
    pub name: String,
}

/// Parameters of `plugin.record`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PluginRecord {
    /// Name of the plugin.
    pub name: String,
    /// Only lines with a greater number; without it, none but those to come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
}

/// Parameters of `audit.list`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditList {
    /// Only entries with a greater number; without it, from the oldest at hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// At most so many, the oldest first; without it, as many as the daemon gives at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Parameters of `events.list`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventsList {
    /// Only events with a greater number; without it, from the oldest kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// At most so many, the oldest first; without it, as many as the daemon gives at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Parameters of `events.subscribe`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventsSubscribe {
    /// Begin with the kept events that have a greater number; without it, only with what happens from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
}
