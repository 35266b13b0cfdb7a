//! Wire formats as the standards define them: NVMe, PCI, virtio, vhost-user.
//!
//! What lives here: offsets, bits, structures that lie in memory which somebody else also reads, names of codes. Drivers, rings,
//! sessions and the simulated functions are all written against the same definitions, so that a mistake cannot hide by being
//! made twice. What does not: any I/O, any allocation, any policy, any knowledge of who uses it.
//!
//! ```text
//!   standard            module         read by
//!   NVMe 2.0c, NVM 1.0c nvme           the driver, the simulated controller
//!   PCI 3.0             pci            whoever owns a function
//!   virtio 1.3          virtio         rings, channels
//!   vhost-user          vhost_user     sessions
//! ```
//!
//! Structures that overlay memory are made of little-endian byte types and derive `zerocopy`'s traits; registers and dwords with
//! parts are bit fields. Every layout is asserted where it is defined.

#![no_std]
#![forbid(unsafe_code)]

pub mod nvme;
pub mod pci;
pub mod vhost_user;
pub mod virtio;
