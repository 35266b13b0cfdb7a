use std::io;

use crate::Iova;

/// What can go wrong while owning a function. The message is what an operator reads.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HwError {
    /// A register window was asked for that the function does not have.
    #[error("{function} has no BAR {index}, or it is not memory")]
    NoBar {
        /// Address of the function.
        function: String,
        /// Index of the BAR, 0 to 5.
        index: u8,
    },
    /// A register lies outside its window.
    #[error(
        "register {offset:#x}+{size} lies outside a BAR of {len:#x} bytes; the device reports sizes that cannot be"
    )]
    OutsideBar {
        /// Offset of the register, bytes.
        offset: usize,
        /// Size of the access, bytes.
        size: usize,
        /// Length of the window, bytes.
        len: usize,
    },
    /// The I/O address space has no room left.
    #[error(
        "no {size_bytes:#x} bytes of I/O address space left in the IOMMU's apertures; fewer or smaller VMs fit on this function"
    )]
    NoIovaSpace {
        /// How much was asked for, bytes.
        size_bytes: u64,
    },
    /// The IOMMU refused a mapping.
    #[error(
        "mapping {size_bytes:#x} bytes at {iova} failed: {source}; raise the locked-memory limit (LimitMEMLOCK=infinity, ulimit -l) if it says out of memory"
    )]
    Map {
        /// Where in the I/O address space.
        iova: Iova,
        /// How much, bytes.
        size_bytes: u64,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The IOMMU refused to take a mapping out.
    #[error(
        "unmapping {size_bytes:#x} bytes at {iova} failed: {source}; the memory stays pinned until the function is released"
    )]
    Unmap {
        /// Where in the I/O address space.
        iova: Iova,
        /// How much, bytes.
        size_bytes: u64,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Memory that cannot be mapped: empty, or not in whole pages.
    #[error(
        "memory of {size_bytes:#x} bytes at {address:#x} is not in whole {page_bytes}-byte pages and cannot be given to a device"
    )]
    Unaligned {
        /// Host address.
        address: u64,
        /// Length, bytes.
        size_bytes: u64,
        /// The IOMMU's smallest page, bytes.
        page_bytes: u64,
    },
    /// Memory of our own could not be had from the kernel.
    #[error("cannot allocate {size_bytes} bytes of memory for the device: {source}")]
    Allocate {
        /// How much, bytes.
        size_bytes: usize,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The function is gone: unplugged, or its link is down.
    #[error(
        "{function} is gone: its registers no longer answer; its channels are quarantined until it is back or they are destroyed"
    )]
    Gone {
        /// Address of the function.
        function: String,
    },
    /// The function offers fewer interrupt vectors than are needed.
    #[error(
        "{function} offers {offered} MSI-X vectors, {wanted} are wanted; use fewer sidecores or --mode poll"
    )]
    Vectors {
        /// Address of the function.
        function: String,
        /// How many it has.
        offered: u16,
        /// How many were asked for.
        wanted: u16,
    },
    /// Nothing isolates the memory of this host from the function.
    #[error(
        "{function} has no IOMMU protection, so it could read and write all memory of this host; enable the IOMMU (intel_iommu=on or amd_iommu=on, and in the firmware), or accept the risk with --allow-unsafe-noiommu"
    )]
    NoIommu {
        /// Address of the function.
        function: String,
    },
    /// A step of owning the function failed.
    #[error("{function}: {step} failed: {source}")]
    Step {
        /// Address of the function.
        function: String,
        /// What was being done, as a phrase (`resetting the function`).
        step: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Anything else that an operator must put right, worded whole.
    #[error("{0}")]
    Refused(String),
}
