//! The file: what is wanted, in the words of the command line.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use vfiomux_rpc::{Endpoint, EndpointMode, Guarantees, Labels, Limits, Objective, RateLimit};

use super::ApplyError;
use crate::{guarantees, size};

/// What channels and tenants are to be, by their names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Desired {
    #[serde(rename = "channel")]
    pub(super) channels: BTreeMap<String, DesiredChannel>,
    #[serde(rename = "tenant")]
    pub(super) tenants: BTreeMap<String, DesiredLimits>,
}

/// What a channel is to be.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "ChannelTable")]
pub(super) struct DesiredChannel {
    pub(super) tenant: String,
    pub(super) device: String,
    pub(super) size_bytes: u64,
    /// None: whatever the device has.
    pub(super) block_bytes: Option<u32>,
    pub(super) queues: u16,
    pub(super) endpoint: Option<Endpoint>,
    pub(super) read_only: bool,
    pub(super) labels: Labels,
    pub(super) guarantees: Guarantees,
    pub(super) suspended: bool,
}

/// What a tenant is to be held to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "LimitsTable")]
pub(super) struct DesiredLimits(pub(super) Limits);

impl Desired {
    pub(super) fn read(path: &Path) -> Result<Self, ApplyError> {
        let text =
            fs::read_to_string(path).map_err(|source| ApplyError::Read { path: path.to_owned(), source })?;
        Self::parse(&text)
            .map_err(|what| ApplyError::Parse { path: path.to_owned(), what: what.trim_end().to_owned() })
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error: toml::de::Error| error.to_string())
    }
}

/// A table `[channel.NAME]` as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChannelTable {
    tenant: String,
    device: String,
    #[serde(deserialize_with = "bytes")]
    size: u64,
    #[serde(default, deserialize_with = "block")]
    block_size: Option<u32>,
    #[serde(default = "one")]
    queues: u16,
    #[serde(default, deserialize_with = "socket")]
    endpoint: Option<PathBuf>,
    #[serde(default)]
    client: bool,
    #[serde(default)]
    read_only: bool,
    #[serde(default)]
    suspended: bool,
    #[serde(default)]
    labels: Labels,
    #[serde(default, deserialize_with = "rate")]
    iops: Option<RateLimit>,
    #[serde(default, deserialize_with = "byte_rate")]
    bps: Option<RateLimit>,
    #[serde(default, deserialize_with = "rate")]
    read_iops: Option<RateLimit>,
    #[serde(default, deserialize_with = "byte_rate")]
    read_bps: Option<RateLimit>,
    #[serde(default, deserialize_with = "rate")]
    write_iops: Option<RateLimit>,
    #[serde(default, deserialize_with = "byte_rate")]
    write_bps: Option<RateLimit>,
    reserve: Option<u64>,
    share: Option<u32>,
    #[serde(default, deserialize_with = "objective")]
    objective: Option<Objective>,
}

const fn one() -> u16 {
    1
}

impl From<ChannelTable> for DesiredChannel {
    fn from(table: ChannelTable) -> Self {
        let mode = if table.client { EndpointMode::Client } else { EndpointMode::Server };
        Self {
            tenant: table.tenant,
            device: table.device,
            size_bytes: table.size,
            block_bytes: table.block_size,
            queues: table.queues,
            endpoint: table.endpoint.map(|path| Endpoint { path, mode }),
            read_only: table.read_only,
            labels: table.labels,
            guarantees: Guarantees {
                ops: table.iops,
                bytes: table.bps,
                read_ops: table.read_iops,
                read_bytes: table.read_bps,
                write_ops: table.write_iops,
                write_bytes: table.write_bps,
                reservation_ops: table.reserve,
                share: table.share,
                objective: table.objective,
            },
            suspended: table.suspended,
        }
    }
}

/// A table `[tenant.NAME]` as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsTable {
    #[serde(default, deserialize_with = "rate")]
    iops: Option<RateLimit>,
    #[serde(default, deserialize_with = "byte_rate")]
    bps: Option<RateLimit>,
    #[serde(default, deserialize_with = "rate")]
    read_iops: Option<RateLimit>,
    #[serde(default, deserialize_with = "byte_rate")]
    read_bps: Option<RateLimit>,
    #[serde(default, deserialize_with = "rate")]
    write_iops: Option<RateLimit>,
    #[serde(default, deserialize_with = "byte_rate")]
    write_bps: Option<RateLimit>,
}

impl From<LimitsTable> for DesiredLimits {
    fn from(table: LimitsTable) -> Self {
        Self(Limits {
            ops: table.iops,
            bytes: table.bps,
            read_ops: table.read_iops,
            read_bytes: table.read_bps,
            write_ops: table.write_iops,
            write_bytes: table.write_bps,
        })
    }
}

/// A value in the form of the command line; a plain number needs no quotes.
fn typed<'de, D: Deserializer<'de>, T>(
    from: D,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, D::Error> {
    let text = match toml::Value::deserialize(from)? {
        toml::Value::String(text) => text,
        toml::Value::Integer(number) => number.to_string(),
        other => {
            return Err(D::Error::custom(format!("a text or a whole number, not a {}", other.type_str())));
        }
    };
    read(&text).map_err(|why| D::Error::custom(format!("{text:?}: {why}")))
}

fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    typed(from, size::parse)
}

fn block<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    typed(from, size::parse_block).map(Some)
}

fn rate<'de, D: Deserializer<'de>>(from: D) -> Result<Option<RateLimit>, D::Error> {
    typed(from, guarantees::count).map(Some)
}

fn byte_rate<'de, D: Deserializer<'de>>(from: D) -> Result<Option<RateLimit>, D::Error> {
    typed(from, guarantees::bytes).map(Some)
}

fn objective<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Objective>, D::Error> {
    typed(from, guarantees::objective).map(Some)
}

/// A file means the same wherever it is applied from, so a path in it is absolute.
fn socket<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
    let path = PathBuf::deserialize(from)?;
    if path.is_absolute() {
        return Ok(Some(path));
    }
    Err(D::Error::custom(format!("{}: write the absolute path of the socket", path.display())))
}
