//! The seam between a driver and how its device is owned.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

use crate::{Bar, DmaDomain, HwError};

/// What kind of device a function is: decides which driver takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Class {
    /// An NVMe controller (class 01, subclass 08, interface 02).
    Nvme,
    /// A network controller (class 02).
    Network,
    /// Anything else, by its 24-bit class code.
    Other(u32),
}

/// Who a function is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Name by which operators know it: a PCI address, or `sim0` for a simulated one.
    pub name: String,
    /// PCI vendor.
    pub vendor: u16,
    /// PCI device.
    pub device: u16,
    /// What kind of device.
    pub class: Class,
    /// NUMA node that it is attached to, where known.
    pub numa_node: Option<u32>,
}

/// One MSI-X vector: readable when the device has interrupted since the last read.
pub type Vector = Arc<EventFd>;

/// Descriptors that become readable when something happens to the function itself.
#[derive(Debug, Clone, Copy)]
pub struct Notices<'a> {
    /// Somebody wants the function back: it must be released soon (VFIO's REQ interrupt).
    pub removal: Option<BorrowedFd<'a>>,
    /// The function reported a fatal error and no longer works (VFIO's ERR interrupt).
    pub error: Option<BorrowedFd<'a>>,
}

/// An owned PCI function. Dropping it gives it up: interrupts off, bus mastering off, windows closed.
///
/// Used by the control side only, at set-up and tear-down; nothing here is on the data path.
pub trait Function: Send {
    /// Who it is.
    fn identity(&self) -> &Identity;

    /// Maps register window `index` (0 to 5).
    fn bar(&self, index: u8) -> Result<Bar, HwError>;

    /// The I/O address space that the function does DMA in. Functions of one IOMMU group share theirs.
    fn domain(&self) -> Arc<DmaDomain>;

    /// Lets the function do DMA (memory space and bus master enable of the PCI command register). Needed after a reset too.
    fn enable(&mut self) -> Result<(), HwError>;

    /// How many MSI-X vectors it has; 0 when only polling is possible.
    fn vectors_max(&self) -> u16;

    /// Turns the first `count` MSI-X vectors on, replacing what was on before.
    fn enable_vectors(&mut self, count: u16) -> Result<Vec<Vector>, HwError>;

    /// Where removal requests and fatal errors are heard of.
    fn notices(&self) -> Notices<'_>;

    /// Resets the function: all its commands have ended for certain when this returns well.
    /// Bus mastering and vectors are off afterwards.
    fn reset(&mut self) -> Result<(), HwError>;
}
