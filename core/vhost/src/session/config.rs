//! Configuration space: reads answered here, writes checked here.

use vfiomux_spec::vhost_user::{CONFIG_FLAG_MIGRATION, ConfigHeader};

use crate::Device;

/// What a front-end's write to configuration space amounts to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ConfigWrite {
    /// It changes nothing.
    Nothing,
    /// These bytes are for the owner.
    Write { offset: usize, bytes: Vec<u8> },
    /// It is not allowed: the text says why.
    Refused(String),
}

/// `size` bytes from `offset`, zeroes beyond the end: exactly as many as were asked for.
pub(super) fn read(device: &Device, header: ConfigHeader) -> Vec<u8> {
    let offset = header.offset as usize;
    let known = device.config.get(offset..).unwrap_or_default();
    let mut bytes: Vec<u8> = known.iter().copied().take(header.size as usize).collect();
    bytes.resize(header.size as usize, 0);
    bytes
}

/// A driver may write only what is writable. A migration's target restores all of configuration space, which is fine as
/// long as the read-only part is what this device has anyway (vhost-user: SET_CONFIG).
pub(super) fn write(device: &Device, header: ConfigHeader, bytes: &[u8]) -> ConfigWrite {
    let offset = header.offset as usize;
    let migration = header.flags == CONFIG_FLAG_MIGRATION;
    let present = read(device, header);
    let mut changed = Vec::new();
    let mut changed_from = None;
    for (at, (new, old)) in (offset..).zip(bytes.iter().zip(present)) {
        if device.config_writable.contains(&at) {
            changed_from.get_or_insert(at);
            changed.push(*new);
        } else if !migration {
            return ConfigWrite::Refused(format!("byte {at} of configuration space is read-only"));
        } else if *new != old {
            return ConfigWrite::Refused(format!(
                "byte {at} differs between the migration's source and this device"
            ));
        }
    }
    match changed_from {
        Some(offset) => ConfigWrite::Write { offset, bytes: changed },
        None => ConfigWrite::Nothing,
    }
}
