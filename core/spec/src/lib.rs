//! Wire formats as the standards define them: NVMe, virtio, vhost-user, PCI

#![no_std]
#![forbid(unsafe_code)]

pub mod vhost_user;
pub mod virtio;
