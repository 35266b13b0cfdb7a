//! A mapped register window.
//!
//! A device's registers and a simulated device's are reached by the same loads and stores. The one difference is the
//! [`Bell`]: somebody who wants to hear of writes, because no hardware is listening on the other end of the wire.
#![expect(unsafe_code, reason = "registers are reached through raw pointers into a device's window")]

use std::ptr::NonNull;
use std::sync::Arc;

use crate::HwError;

/// Hears that a register of a simulated function was written, so that its thread may sleep meanwhile.
pub trait Bell: Send + Sync {
    /// Called after each write. Must be cheap when the listener is awake.
    fn ring(&self);
}

/// Memory behind a window: keeps it mapped for as long as anybody may reach into it.
///
/// # Safety
///
/// `base` must stay valid for volatile reads and writes of `len` bytes until the value is dropped, from any thread, and
/// be aligned to 8 bytes. Nobody may form a reference over that memory.
pub unsafe trait Window: Send + Sync {
    /// Where the window begins.
    fn base(&self) -> NonNull<u8>;
    /// How long it is, bytes.
    fn len(&self) -> usize;
    /// Whether it has no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Whether the device behind it has vanished; reads give ones then, and writes go nowhere.
    fn is_gone(&self) -> bool {
        false
    }
}

/// A register window: volatile, little-endian, shared by whoever holds a clone.
#[derive(Clone)]
pub struct Bar {
    base: NonNull<u8>,
    len: usize,
    bell: Option<Arc<dyn Bell>>,
    window: Arc<dyn Window>,
}

// SAFETY: the window promises validity from any thread for as long as `window` lives, and every access is volatile.
unsafe impl Send for Bar {}
// SAFETY: as above; no method needs exclusive access.
unsafe impl Sync for Bar {}

impl Bar {
    /// A window over `window`, whose writes `bell`, if given, hears of.
    #[must_use]
    pub fn new(window: Arc<dyn Window>, bell: Option<Arc<dyn Bell>>) -> Self {
        Self { base: window.base(), len: window.len(), bell, window }
    }

    /// Length of the window, bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the window has no bytes at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the device behind it has vanished. Reads give ones then, and writes go nowhere.
    ///
    /// A device may be gone for a while before this says so: it is noticed when somebody reaches into the window.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.window.is_gone()
    }

    fn pointer<T>(&self, offset: usize) -> Result<*mut T, HwError> {
        let size = size_of::<T>();
        if offset.checked_add(size).is_none_or(|end| end > self.len) || !offset.is_multiple_of(size) {
            return Err(HwError::OutsideBar { offset, size, len: self.len });
        }
        // SAFETY: `offset + size` lies inside the window, so the pointer does too.
        Ok(unsafe { self.base.as_ptr().add(offset) }.cast())
    }

    /// Reads a 32-bit register at `offset` bytes.
    pub fn read32(&self, offset: usize) -> Result<u32, HwError> {
        let register = self.pointer::<u32>(offset)?;
        // SAFETY: `pointer` checked bounds and alignment; the window is alive while `self` is.
        Ok(u32::from_le(unsafe { register.read_volatile() }))
    }

    /// Reads a 64-bit register at `offset` bytes.
    pub fn read64(&self, offset: usize) -> Result<u64, HwError> {
        let register = self.pointer::<u64>(offset)?;
        // SAFETY: as in `read32`.
        Ok(u64::from_le(unsafe { register.read_volatile() }))
    }

    /// Writes a 32-bit register at `offset` bytes.
    pub fn write32(&self, offset: usize, value: u32) -> Result<(), HwError> {
        let register = self.pointer::<u32>(offset)?;
        // SAFETY: as in `read32`.
        unsafe { register.write_volatile(value.to_le()) };
        self.rang();
        Ok(())
    }

    /// Writes a 64-bit register at `offset` bytes.
    pub fn write64(&self, offset: usize, value: u64) -> Result<(), HwError> {
        let register = self.pointer::<u64>(offset)?;
        // SAFETY: as in `read32`.
        unsafe { register.write_volatile(value.to_le()) };
        self.rang();
        Ok(())
    }

    /// A doorbell at `offset` bytes, its bounds checked once and for all.
    pub fn doorbell(&self, offset: usize) -> Result<Doorbell, HwError> {
        Ok(Doorbell { register: self.pointer(offset)?, bar: self.clone() })
    }

    fn rang(&self) {
        if let Some(bell) = &self.bell {
            bell.ring();
        }
    }
}

impl std::fmt::Debug for Bar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bar").field("len", &self.len).field("bell", &self.bell.is_some()).finish()
    }
}

/// A 32-bit register that is written often: one store a breath.
#[derive(Debug)]
pub struct Doorbell {
    register: *mut u32,
    bar: Bar,
}

// SAFETY: `register` points into the window that `bar` keeps alive; every access is volatile.
unsafe impl Send for Doorbell {}

impl Doorbell {
    /// Writes the register. Everything written to memory before is visible to the device when it sees this
    /// (release; pairs with the device's read of the queue after the doorbell, NVMe 2.0c 3.3.1).
    #[inline]
    pub fn ring(&self, value: u32) {
        std::sync::atomic::fence(std::sync::atomic::Ordering::Release);
        // SAFETY: `Bar::doorbell` checked bounds and alignment, and `bar` keeps the window alive.
        unsafe { self.register.write_volatile(value.to_le()) };
        self.bar.rang();
    }
}

/// Plain zeroed memory of this process as a window: what a simulated function's registers are made of.
#[derive(Debug)]
pub struct HeapWindow {
    base: NonNull<u8>,
    layout: std::alloc::Layout,
}

impl HeapWindow {
    /// A zeroed window of `len` bytes, rounded up to whole pages, at least one; aligned to a page.
    ///
    /// # Panics
    ///
    /// When no address space could hold it.
    #[must_use]
    pub fn new(len: usize) -> Self {
        let size_bytes = len.max(1).checked_next_multiple_of(4096);
        let layout = size_bytes.and_then(|size| std::alloc::Layout::from_size_align(size, 4096).ok());
        let layout = layout.expect("a window larger than the address space");
        // SAFETY: the layout's size is not zero.
        let base = unsafe { std::alloc::alloc_zeroed(layout) };
        let base = NonNull::new(base).unwrap_or_else(|| std::alloc::handle_alloc_error(layout));
        Self { base, layout }
    }
}

// SAFETY: the allocation lives until drop, is page aligned, and is only reached through `Bar`'s volatile accesses.
unsafe impl Window for HeapWindow {
    fn base(&self) -> NonNull<u8> {
        self.base
    }
    fn len(&self) -> usize {
        self.layout.size()
    }
}

// SAFETY: the memory belongs to this value alone and is reached by volatile accesses only.
unsafe impl Send for HeapWindow {}
// SAFETY: as above.
unsafe impl Sync for HeapWindow {}

impl Drop for HeapWindow {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { std::alloc::dealloc(self.base.as_ptr(), self.layout) };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicU32);
    impl Bell for Count {
        fn ring(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn what_is_written_is_read_back_and_heard() {
        let count = Arc::new(Count::default());
        let bar = Bar::new(Arc::new(HeapWindow::new(4096)), Some(count.clone()));
        bar.write32(8, 0xdead_beef).unwrap();
        bar.write64(16, 7).unwrap();
        bar.doorbell(0x20).unwrap().ring(3);
        assert_eq!(
            (bar.read32(8).unwrap(), bar.read64(16).unwrap(), bar.read32(0x20).unwrap()),
            (0xdead_beef, 7, 3)
        );
        assert_eq!(count.0.load(Ordering::Relaxed), 3);
    }

    #[test]
    #[should_panic(expected = "larger than the address space")]
    fn a_window_that_no_memory_could_hold_is_refused() {
        let _ = HeapWindow::new(usize::MAX);
    }

    #[test]
    fn an_access_outside_or_across_the_window_is_refused() {
        let bar = Bar::new(Arc::new(HeapWindow::new(4096)), None);
        for offset in [4096, 4094, 2, usize::MAX] {
            assert!(bar.read32(offset).is_err() && bar.doorbell(offset).is_err());
        }
        assert!(bar.write64(4092, 0).is_err());
    }
}
