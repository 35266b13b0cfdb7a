//! What a session needs to know of the device it presents.

use std::ops::Range;

use vfiomux_spec::vhost_user::{MAX_CONFIG_SIZE_BYTES, VRING_INDEX_MASK, protocol_features as pf};
use vfiomux_spec::virtio::{features, split};

use crate::Error;

/// Most rings that vhost-user can name: eight bits in `SET_VRING_KICK`.
const RINGS_MAX: u16 = 256;
const _: () = assert!(VRING_INDEX_MASK == RINGS_MAX as u64 - 1);

/// A device as a front-end may see it. Class-free: a block device and a network card differ in their feature bits and in
/// what lies in configuration space.
#[derive(Clone, Debug)]
pub struct Device {
    /// Virtio features offered, without the bits that belong to vhost.
    pub features: u64,
    /// Protocol features offered ([`Device::PROTOCOL_FEATURES`] and what the class adds).
    pub protocol_features: u64,
    /// Rings that there may be, 1 to 256.
    pub rings_max: u16,
    /// Entries that a ring may have: a power of two.
    pub ring_size_max: u16,
    /// Configuration space. What a front-end asks for beyond its end reads as zeroes.
    pub config: Vec<u8>,
    /// Which bytes of it the driver may write.
    pub config_writable: Range<usize>,
}

impl Device {
    /// Protocol features that every class of device can offer with this crate.
    pub const PROTOCOL_FEATURES: u64 = pf::MQ
        | pf::REPLY_ACK
        | pf::BACKEND_REQ
        | pf::CONFIG
        | pf::INFLIGHT_SHMFD
        | pf::RESET_DEVICE
        | pf::CONFIGURE_MEM_SLOTS
        | pf::STATUS;

    /// Protocol features that a network card can offer besides.
    pub const NET_PROTOCOL_FEATURES: u64 = pf::RARP | pf::MTU;

    /// Whether this is a device that a session can present.
    ///
    /// # Errors
    ///
    /// [`Error::Device`] says what is wrong.
    pub fn check(&self) -> Result<(), Error> {
        let unknown = self.protocol_features & !(Self::PROTOCOL_FEATURES | Self::NET_PROTOCOL_FEATURES);
        let wrong = if self.features & features::VHOST_OWNED != 0 {
            "its virtio features hold bits that belong to vhost"
        } else if unknown != 0 {
            "it offers protocol features that sessions do not implement"
        } else if self.rings_max == 0 || self.rings_max > RINGS_MAX {
            "it needs between 1 and 256 rings"
        } else if !split::is_queue_size(u32::from(self.ring_size_max)) {
            "its largest ring size is not a power of two up to 32768"
        } else if self.config.len() > MAX_CONFIG_SIZE_BYTES {
            "its configuration space is larger than 256 bytes"
        } else if self.config_writable.start > self.config_writable.end
            || self.config_writable.end > self.config.len()
        {
            "its writable configuration lies outside of configuration space"
        } else {
            return Ok(());
        };
        Err(Error::Device(wrong))
    }
}
