//! Owning a PCI function through the kernel's VFIO.
//!
//! ```text
//!   open(address) ─► container (one an IOMMU group, shared by the group's functions) ─► DmaDomain
//!                └─► device descriptor ─┬─► windows: BARs mapped, guarded against vanishing
//!                                       ├─► configuration space: who it is, command register
//!                                       └─► interrupts: MSI-X, removal request, fatal error
//! ```
//!
//! The group and container path goes through `vfio-ioctls`; this module adds what that crate lacks or keeps quiet about:
//! the apertures, read-only mappings, the errno of a reset or an interrupt set-up, mapped BARs. A second path, through the
//! character device and iommufd, would be another way to get at the same two things: a `Handle` to the device, and an
//! [`Iommu`](crate::Iommu) for its domain. Nothing else here asks how they were made.
#![expect(unsafe_code, reason = "event descriptors are borrowed by number")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use vfio_bindings::bindings::vfio::{
    VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_ERR_IRQ_INDEX,
    VFIO_PCI_MSIX_IRQ_INDEX, VFIO_PCI_REQ_IRQ_INDEX,
};
use vfiomux_spec::pci;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::inventory::Sysfs;
use crate::{Bar, Class, DmaDomain, Function, HwError, Identity, Notices, PciAddress, Vector};

mod container;
mod group;
mod handle;
mod ioctl;
mod noiommu;
mod window;

use group::{Opened, Sole};
use handle::Handle;
use window::BarWindow;

/// What an operator may decide about opening functions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VfioOptions {
    /// Own functions that no IOMMU confines: they can then read and write all memory of the host.
    pub allow_unsafe_noiommu: bool,
}

/// A PCI function owned through VFIO. See [`Function`] for what can be done with it.
///
/// Fields drop in order: the device is closed before the domain that it did DMA in goes, and the kernel keeps the
/// mappings of a domain until its last grant has been dropped, whether or not a device is left.
pub struct VfioFunction {
    identity: Identity,
    handle: Handle,
    /// Those that are still held somewhere.
    windows: Mutex<Vec<Weak<BarWindow>>>,
    vectors_on: bool,
    removal: Option<EventFd>,
    error: Option<EventFd>,
    domain: Arc<DmaDomain>,
    _sole: Sole,
}

impl VfioFunction {
    /// Opens the function at `address`, which is bound to vfio-pci already ([`crate::bind::claim`]), and resets it.
    ///
    /// Its memory decoding is on when this returns, and bus mastering off: see [`Function::enable`].
    pub fn open(sysfs: &Sysfs, address: PciAddress, options: VfioOptions) -> Result<Self, HwError> {
        let known = sysfs.function(address)?;
        let Opened { handle, domain, sole } = group::open(sysfs, &known, options)?;
        let mut function = Self {
            identity: Identity {
                name: address.to_string(),
                vendor: known.vendor,
                device: known.device,
                class: Class::from(known.class),
                numa_node: known.numa_node,
            },
            handle,
            windows: Mutex::new(Vec::new()),
            vectors_on: false,
            removal: None,
            error: None,
            domain,
            _sole: sole,
        };
        function.change_command(|command| command.with_memory(true).with_bus_master(false))?;
        function.removal = function.listen(VFIO_PCI_REQ_IRQ_INDEX, "listening for removal requests")?;
        function.error = function.listen(VFIO_PCI_ERR_IRQ_INDEX, "listening for fatal errors")?;
        Ok(function)
    }

    /// Reads `into.len()` bytes of configuration space at `offset`.
    pub fn read_config(&self, offset: u64, into: &mut [u8]) -> Result<(), HwError> {
        let len = into.len();
        self.config(
            |file, base| Ok(rustix::io::pread(file, into, base + offset)? == len),
            "reading configuration space",
        )
    }

    /// Writes `from` to configuration space at `offset`.
    pub fn write_config(&mut self, offset: u64, from: &[u8]) -> Result<(), HwError> {
        self.config(
            |file, base| Ok(rustix::io::pwrite(file, from, base + offset)? == from.len()),
            "writing configuration space",
        )
    }

    /// Runs `transfer` with the device's descriptor and where configuration space begins in it; it says whether all went over.
    fn config(
        &self,
        transfer: impl FnOnce(BorrowedFd<'_>, u64) -> io::Result<bool>,
        step: &'static str,
    ) -> Result<(), HwError> {
        let region = self.handle.region(VFIO_PCI_CONFIG_REGION_INDEX);
        match region.and_then(|region| transfer(self.handle.as_fd(), region.offset)) {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.failed(step, io::ErrorKind::UnexpectedEof.into())),
            Err(source) => Err(self.failed(step, source)),
        }
    }

    fn change_command(&mut self, change: impl FnOnce(pci::Command) -> pci::Command) -> Result<(), HwError> {
        let mut bytes = [0; 2];
        self.read_config(pci::COMMAND, &mut bytes)?;
        let command = u16::from_le_bytes(bytes);
        // All ones is no command register: some of those bits are always zero (PCI 3.0 6.2.2). Nobody answers.
        if command == u16::MAX {
            return Err(HwError::Gone { function: self.identity.name.clone() });
        }
        self.write_config(pci::COMMAND, &change(pci::Command::from(command)).into_bits().to_le_bytes())
    }

    /// Has the kernel signal a new event descriptor when interrupt `index` fires, where the function has such a one.
    fn listen(&self, index: u32, step: &'static str) -> Result<Option<EventFd>, HwError> {
        if self.handle.irq_count(index) == 0 {
            return Ok(None);
        }
        let event = new_event().map_err(|source| self.failed(step, source))?;
        ioctl::set_irqs(self.handle.as_fd(), index, &[event.as_raw_fd()])
            .map_err(|source| self.failed(step, source))?;
        Ok(Some(event))
    }

    fn disable_vectors(&mut self) -> Result<(), HwError> {
        if self.vectors_on {
            ioctl::set_irqs(self.handle.as_fd(), VFIO_PCI_MSIX_IRQ_INDEX, &[])
                .map_err(|source| self.failed("turning interrupts off", source))?;
            self.vectors_on = false;
        }
        Ok(())
    }

    fn failed(&self, step: &'static str, source: io::Error) -> HwError {
        HwError::Step { function: self.identity.name.clone(), step, source }
    }
}

fn borrow(event: &EventFd) -> BorrowedFd<'_> {
    // SAFETY: the event keeps its descriptor open for as long as it is borrowed.
    unsafe { BorrowedFd::borrow_raw(event.as_raw_fd()) }
}

fn new_event() -> io::Result<EventFd> {
    EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)
}

impl Function for VfioFunction {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn bar(&self, index: u8) -> Result<Bar, HwError> {
        let none = || HwError::NoBar { function: self.identity.name.clone(), index };
        if usize::from(index) >= pci::BAR_COUNT {
            return Err(none());
        }
        let region = self.handle.region(VFIO_PCI_BAR0_REGION_INDEX + u32::from(index));
        let region = region.map_err(|source| self.failed("asking for a BAR", source))?;
        if region.size_bytes == 0 || region.mappable.is_empty() {
            return Err(none());
        }
        let window = BarWindow::map(self.handle.as_fd(), &region)
            .map_err(|source| self.failed("mapping a BAR", source))?;
        let window = Arc::new(window);
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        windows.retain(|window| window.strong_count() > 0);
        windows.push(Arc::downgrade(&window));
        Ok(Bar::new(window, None))
    }

    fn domain(&self) -> Arc<DmaDomain> {
        self.domain.clone()
    }

    fn enable(&mut self) -> Result<(), HwError> {
        self.change_command(|command| command.with_memory(true).with_bus_master(true))
    }

    fn vectors_max(&self) -> u16 {
        u16::try_from(self.handle.irq_count(VFIO_PCI_MSIX_IRQ_INDEX)).unwrap_or(u16::MAX)
    }

    fn enable_vectors(&mut self, count: u16) -> Result<Vec<Vector>, HwError> {
        let offered = self.vectors_max();
        if count > offered {
            return Err(HwError::Vectors { function: self.identity.name.clone(), offered, wanted: count });
        }
        self.disable_vectors()?;
        if count == 0 {
            return Ok(Vec::new());
        }
        let step = "turning interrupts on";
        let events: io::Result<Vec<Vector>> = (0..count).map(|_| new_event().map(Arc::new)).collect();
        let events = events.map_err(|source| self.failed(step, source))?;
        let raw: Vec<_> = events.iter().map(|event| event.as_raw_fd()).collect();
        ioctl::set_irqs(self.handle.as_fd(), VFIO_PCI_MSIX_IRQ_INDEX, &raw)
            .map_err(|source| self.failed(step, source))?;
        self.vectors_on = true;
        Ok(events)
    }

    fn notices(&self) -> Notices<'_> {
        Notices { removal: self.removal.as_ref().map(borrow), error: self.error.as_ref().map(borrow) }
    }

    fn reset(&mut self) -> Result<(), HwError> {
        // The kernel saves and restores the command register and MSI-X around the reset: what shall be off afterwards is
        // turned off before. An unresponsive function keeps neither from being tried.
        let _ = self.disable_vectors();
        let _ = self.change_command(|command| command.with_bus_master(false));
        ioctl::reset(self.handle.as_fd()).map_err(|source| self.failed("resetting the function", source))?;
        self.change_command(|command| command.with_memory(true).with_bus_master(false))
    }
}

impl Drop for VfioFunction {
    /// The device may be gone already, so that every step may fail; none of them is needed for the next.
    fn drop(&mut self) {
        let _ = self.disable_vectors();
        let _ = self.change_command(|command| command.with_bus_master(false));
        // A mapped BAR keeps the device open, and an unplugged device waits for whoever has it open.
        let windows = self.windows.get_mut().unwrap_or_else(PoisonError::into_inner);
        for window in windows.iter().filter_map(Weak::upgrade) {
            if let Err(error) = window.revoke() {
                tracing::warn!(function = %self.identity.name, %error, "a BAR stays mapped until its holder drops it");
            }
        }
    }
}
