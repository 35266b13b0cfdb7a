use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Guarantees, Labels};

/// A channel: its setting, and its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChannelInfo {
    /// What requests call it.
    pub name: String,
    /// Its identity, a UUID: never used again, whatever becomes of the name.
    pub id: String,
    /// What the guest sees.
    pub kind: ChannelKind,
    /// Whose it is.
    pub tenant: String,
    /// The function it is carved from.
    pub device: String,
    /// The NVMe namespace it is carved from.
    pub namespace: u32,
    /// Size.
    pub size_bytes: u64,
    /// Size of a block, as the guest sees it.
    pub block_bytes: u32,
    /// Most virtqueues that a front-end may start.
    pub queues: u16,
    /// Writes are refused.
    pub read_only: bool,
    /// What it is promised, and what it is held to.
    #[serde(default, skip_serializing_if = "Guarantees::is_none")]
    pub guarantees: Guarantees,
    /// What its operator wrote on it.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// The serial number that its guest reads; none when it is made from the id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Where a front-end connects; none while detached.
    pub endpoint: Option<Endpoint>,
    /// What is wanted of it.
    pub admin: Admin,
    /// What it does.
    pub oper: Oper,
    /// How well it does it.
    pub health: Health,
    /// Why the three stand where they stand.
    #[serde(default)]
    pub reasons: Reasons,
    /// Counts the changes of the setting, for `expected_generation`.
    pub generation: u64,
    /// Counts the channel's incarnations; every I/O in flight carries it.
    pub epoch: u64,
    /// The front-end's connection, while there is one.
    pub session: Option<SessionInfo>,
    /// Number of the sidecore that serves it.
    pub sidecore: Option<u32>,
    /// The mechanism chosen for it on this hardware.
    pub plan: Option<Plan>,
    /// Where its data lies on the namespace.
    #[serde(default)]
    pub extents: Vec<Extent>,
    /// What it has done since it was realised.
    #[serde(default)]
    pub counters: Counters,
    /// How long it took.
    #[serde(default)]
    pub latency: Latency,
    /// How its guarantees were kept in the last second or two.
    #[serde(default)]
    pub kept: Kept,
}

/// How a channel's guarantees were kept, over an interval. What it was due counts only while more was asked of the device than
/// it had room for, and the channel asked too: otherwise it had what it asked for. In cost units, of which a read of 4 KiB costs
/// 1024.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Kept {
    /// How long the interval was; 0 when nothing was counted yet.
    pub interval_ns: u64,
    /// How much of that it had to compete with others.
    pub contended_ns: u64,
    /// What it was given in that time.
    pub given_cost: u64,
    /// What its reservation promised it in that time.
    pub reserved_due_cost: u64,
    /// What its share was due of what the device was given in that time.
    pub share_due_cost: u64,
}

impl Kept {
    /// By how much its reservation fell short, in thousandths of what it promised.
    #[must_use]
    pub const fn shortfall_permille(&self) -> u64 {
        if self.reserved_due_cost == 0 {
            return 0;
        }
        let short = self.reserved_due_cost.saturating_sub(self.given_cost) as u128;
        // At most 1000.
        (short * 1000 / self.reserved_due_cost as u128) as u64
    }

    /// How far what it was given is from what its share was due, in thousandths of that; below 0 when it was given less.
    #[must_use]
    pub const fn share_error_permille(&self) -> i64 {
        if self.share_due_cost == 0 {
            return 0;
        }
        let (more, apart) = if self.given_cost >= self.share_due_cost {
            (true, self.given_cost - self.share_due_cost)
        } else {
            (false, self.share_due_cost - self.given_cost)
        };
        let permille = apart as u128 * 1000 / self.share_due_cost as u128;
        let permille = if permille > i64::MAX as u128 { i64::MAX } else { permille as i64 };
        if more { permille } else { -permille }
    }
}

/// What the guest sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ChannelKind {
    /// A virtio block device.
    Block,
}

/// Where a front-end connects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// The unix socket, an absolute path.
    pub path: PathBuf,
    /// Who listens there.
    #[serde(default)]
    pub mode: EndpointMode,
}

/// Who listens on an endpoint's socket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndpointMode {
    /// The daemon listens, the VMM connects.
    #[default]
    Server,
    /// The VMM listens, the daemon connects, again and again.
    Client,
}

/// What is wanted of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Admin {
    /// To serve.
    Enabled,
    /// To stand still, with everything kept.
    Suspended,
    /// To have no front-end.
    Disabled,
}

/// What a channel does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Oper {
    /// Allowed, nothing allocated yet.
    Defined,
    /// Its resources are allocated; no endpoint.
    Provisioned,
    /// Its endpoint waits for a front-end.
    Listening,
    /// A ring is enabled.
    Active,
    /// Its I/O is being drained.
    Quiescing,
    /// Drained, with everything kept.
    Suspended,
    /// Neither its memory nor its device resources are touched until resume or destroy.
    Quarantined,
    /// Being destroyed: its I/O is being drained.
    Draining,
    /// Being destroyed: its data is being scrubbed.
    Scrubbing,
    /// Gone; only answers and events still name it.
    Destroyed,
    /// Could not be realised.
    Failed,
}

/// How well a channel does it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// As it should.
    #[default]
    Ok,
    /// Serving with less than it should.
    Degraded,
    /// Not serving.
    Failed,
}

/// Why the three axes stand where they stand, where there is something to say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reasons {
    /// Who wanted it, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<String>,
    /// What brought it there; for `quarantined`, what the front-end, guest or device did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oper: Option<String>,
    /// What is less than it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
}

/// A front-end's connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionInfo {
    /// Process at the other end.
    pub peer_pid: Option<i32>,
    /// Virtio features agreed on, by name.
    #[serde(default)]
    pub features: Vec<String>,
    /// vhost-user protocol features agreed on, by name.
    #[serde(default)]
    pub protocol_features: Vec<String>,
    /// Memory it lets us use.
    #[serde(default)]
    pub regions: Vec<RegionInfo>,
    /// Its rings.
    #[serde(default)]
    pub virtqueues: Vec<VirtqueueInfo>,
}

/// A region of a front-end's memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegionInfo {
    /// Where the guest sees it.
    pub guest_address: u64,
    /// Its size.
    pub size_bytes: u64,
    /// The device can reach it.
    pub mapped: bool,
}

/// A guest's ring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VirtqueueInfo {
    /// Its number.
    pub index: u16,
    /// Its entries.
    pub entries: u16,
    /// The front-end lets us serve it.
    pub enabled: bool,
}

/// The mechanism chosen on given hardware for a setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// Its submission queue.
    pub lane: Lane,
    /// How data gets between guest and device.
    pub data: DataMode,
    /// What else is worth knowing: what could not be had, and what it costs.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// Whether a channel has a submission queue of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// Of its own: deleting it is a barrier that no neighbour notices.
    Own,
    /// Shared with other channels: the controller granted too few.
    Shared,
}

/// How data gets between guest and device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DataMode {
    /// The device reads and writes guest pages; copies only where it cannot name them, counted as bounced.
    ZeroCopy,
    /// Every request is copied.
    Bounce,
}

/// A run of a namespace's blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Extent {
    /// First block.
    pub first_block: u64,
    /// Number of blocks.
    pub blocks: u64,
}

/// What a channel has done. Each only ever grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Counters {
    /// Read requests completed.
    pub read_ops: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Write requests completed.
    pub write_ops: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Flush requests completed.
    pub flush_ops: u64,
    /// Flushes answered by another channel's flush of the same namespace.
    pub flushes_merged: u64,
    /// Discard requests completed.
    pub discard_ops: u64,
    /// Write-zeroes requests completed.
    pub write_zeroes_ops: u64,
    /// Requests answered with an error.
    pub error_ops: u64,
    /// Requests that had to be copied.
    pub bounced_ops: u64,
    /// Bytes that had to be copied.
    pub bounced_bytes: u64,
    /// Turns that ended because a limit of its own did not afford the next request.
    pub limited: u64,
    /// Time that requests waited for a limit of its own, in nanoseconds.
    pub limited_ns: u64,
    /// Turns that ended because a limit of its tenant did not afford the next request.
    pub tenant_limited: u64,
    /// Time that requests waited for a limit of its tenant, in nanoseconds.
    pub tenant_limited_ns: u64,
    /// Time that it had requests which its limits afford, while more was asked of the device than it had room for, in nanoseconds.
    pub contended_ns: u64,
    /// Notifications from the guest.
    pub kicks: u64,
    /// Notifications to the guest.
    pub calls: u64,
    /// Completions dropped because they belonged to an earlier epoch.
    pub stale_completions: u64,
}

/// How long requests took, the two parts apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Latency {
    /// From when a sidecore could have seen the request to its submission.
    pub ring_wait: Distribution,
    /// From submission to completion.
    pub device: Distribution,
}

/// A distribution of durations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Distribution {
    /// How many were measured. The others mean nothing when it is 0.
    pub count: u64,
    /// Mean.
    pub mean_ns: u64,
    /// Half took no longer.
    pub p50_ns: u64,
    /// 99 in 100 took no longer.
    pub p99_ns: u64,
    /// 999 in 1000 took no longer.
    pub p999_ns: u64,
}
