use std::io;
use std::path::PathBuf;

use crate::Iova;
use crate::inventory::Holder;

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
    #[error("mapping {size_bytes:#x} bytes at {iova} failed: {source}{}", mapping_advice(source))]
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
    /// There is no such function.
    #[error("there is no PCI function {function}; vfiomuxctl device list shows those there are")]
    NotFound {
        /// Address asked for.
        function: String,
    },
    /// The function is not bound to vfio-pci.
    #[error(
        "{function} is bound to {}; run vfiomuxctl device claim {function}",
        driver.as_deref().unwrap_or("no driver")
    )]
    NotClaimed {
        /// Address of the function.
        function: String,
        /// The driver that has it.
        driver: Option<String>,
    },
    /// The host uses the function.
    #[error("{function} is in use: {}; end that first, nothing has been changed", list(holders))]
    InUse {
        /// Address of the function.
        function: String,
        /// What uses it.
        holders: Vec<Holder>,
    },
    /// The host uses other functions of the same IOMMU group.
    #[error(
        "{function} shares IOMMU group {group} with {}, which the host uses; a group is owned whole or not at all: unbind those, or put the device into another slot",
        list(members)
    )]
    SharedGroup {
        /// Address of the function.
        function: String,
        /// Number of the group.
        group: u32,
        /// The others, with their drivers.
        members: Vec<String>,
    },
    /// What the host says of its devices cannot be read.
    #[error("cannot read {}: {source}; run as root where it says permission denied", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Anything else that an operator must put right, worded whole.
    #[error("{0}")]
    Refused(String),
}

fn list<T: ToString>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

/// What helps against a refused mapping.
fn mapping_advice(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOMEM) => {
            "; the locked-memory limit is too low for this guest: set LimitMEMLOCK=infinity in the unit, or ulimit -l unlimited"
        }
        Some(libc::ENOSPC) => {
            "; too many mappings: use fewer memory slots, or raise dma_entry_limit of the module vfio_iommu_type1"
        }
        Some(libc::EFAULT) => "; the memory is not there: the front-end may have truncated its file",
        _ => "",
    }
}
