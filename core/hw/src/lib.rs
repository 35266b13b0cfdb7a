//! Owning a PCI function.
//!
//! A driver needs five things of a device: its registers, an I/O address space to put memory into, interrupts, a reset,
//! and word when the device is about to go. They are the [`Function`] seam. The kernel's VFIO stands on one side of it
//! ([`vfio`]), a simulation on the other; a driver cannot tell which.
//!
//! ```text
//!   driver ──► Function ──┬─► vfio: /dev/vfio group + container ─► kernel ─► device
//!                │        └─► (a simulated function, made elsewhere)
//!                ├─ Bar        registers: volatile reads and writes of a mapped window
//!                ├─ DmaDomain  an I/O address space: IOVA allocator over the IOMMU's apertures
//!                ├─ vectors    MSI-X as event descriptors
//!                └─ notices    removal request and fatal error, as event descriptors
//! ```
//!
//! Three kinds of address never mix: a host pointer, a guest address (known only to the guest crate) and an [`Iova`],
//! what a device puts on the bus. Memory enters a domain as a [`Grant`] and leaves it only inside a [`Quiesced`] witness,
//! which an [`Epoch`] gives out when no command can name the memory any more.
//!
//! Before a function can be owned it is found ([`inventory`]: what there is, and what of the host depends on it) and taken from
//! the driver that has it ([`bind`], which refuses what is in use and undoes what it cannot finish). Memory that vanishes
//! under its user, a front-end's file cut short or a device pulled out, is survived by [`fault`].
//!
//! What does not live here: any knowledge of NVMe, of NICs, of guests or sockets.

pub mod address;
pub mod bar;
pub mod bind;
pub mod dma;
pub mod epoch;
mod error;
pub mod fault;
pub mod function;
pub mod inventory;
pub mod iova;
mod segment;
pub mod vfio;

pub use address::{Iova, ParseAddressError, PciAddress};
pub use bar::{Bar, Bell, Doorbell};
pub use dma::{Backing, DmaBuffer, DmaDomain, Grant, Iommu, MappingInfo, Rights, Unmapped, WeakGrant};
pub use epoch::{Epoch, Quiesced};
pub use error::HwError;
pub use fault::{Fill, Guard, Guarded};
pub use function::{Class, Function, Identity, Notices, Vector};
pub use iova::IovaSpace;
pub use segment::Segment;
