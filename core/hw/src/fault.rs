//! Surviving memory that vanishes.
//!
//! Two kinds of mapping can lose their pages under us: a tenant's memory, when the front-end truncates the file behind
//! it, and a device's registers, when the device is unplugged or its memory decoding is turned off. The next access then
//! raises SIGBUS, whose default action ends the whole process, and with it every other tenant.
//!
//! A [`Guarded`] range is safe from that. The handler puts a page of our own in the place of the one that is missing, marks
//! the range as poisoned and returns, so that the access is repeated and succeeds. Whoever uses the range looks at
//! [`Guard::generation`], one load, at a convenient time and, when it has changed, asks its ranges which of them it was.
//!
//! ```text
//!   access ─► no page ─► SIGBUS ─► handler: whose range? ──┬─► a guarded one: page of zeroes or ones, poisoned, generation + 1
//!                                                          └─► nobody's: the handler before ours, or death as usual
//! ```
//!
//! The handler takes no lock, allocates nothing, and calls nothing but `mmap`.
#![expect(unsafe_code, reason = "a signal handler, and memory replaced under its users")]

use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Mutex, OnceLock, PoisonError};

#[cfg(test)]
mod tests;

/// The smallest page; what one fault replaces.
const PAGE_BYTES: usize = 4096;

/// Sizes in which a missing page is replaced, smallest first. The larger ones are for memory on huge pages, which the
/// kernel does not let us replace in part.
const REPLACED_BYTES: [usize; 3] = [PAGE_BYTES, 2 << 20, 1 << 30];

/// What a missing page is replaced by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fill {
    /// Zeroes: for memory.
    Zeroes,
    /// Ones: for registers, since that is what a PCI read returns when nothing answers.
    Ones,
}

/// The process-wide SIGBUS guard.
#[derive(Debug)]
pub struct Guard;

impl Guard {
    /// Guards `len` bytes at `base`, whole pages of 4 KiB, until the returned value is dropped.
    ///
    /// The first call of the process installs the handler.
    ///
    /// # Safety
    ///
    /// The range must be a mapping of the caller's own, shared or private, that stays mapped until the returned value has been
    /// dropped; and the caller must be ready to find pages of it replaced by private ones with other contents.
    pub unsafe fn register(base: NonNull<u8>, len: usize, fill: Fill) -> io::Result<Guarded> {
        let address = base.as_ptr() as usize;
        let in_pages = address.is_multiple_of(PAGE_BYTES) && len.is_multiple_of(PAGE_BYTES);
        if len == 0 || !in_pages || address.checked_add(len).is_none() {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        install()?;
        Ok(Guarded { slot: Slot::occupy(address, len, fill) })
    }

    /// How many pages have been replaced in this process. When it has not changed, nothing new is poisoned.
    ///
    /// Acquire: pairs with the release in the handler, so that whoever sees the new number also sees [`Guarded::poisoned`].
    #[inline]
    #[must_use]
    pub fn generation() -> u64 {
        GENERATION.load(Ordering::Acquire)
    }
}

/// A range whose loss the process survives, until this is dropped. Drop it before the range is unmapped.
#[derive(Debug)]
pub struct Guarded {
    slot: &'static Slot,
}

impl Guarded {
    /// Whether a page of the range was missing and has been replaced. Stays so: the contents are not what they were.
    #[inline]
    #[must_use]
    pub fn poisoned(&self) -> bool {
        self.slot.poisoned.load(Ordering::Acquire)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.slot.vacate();
    }
}

static GENERATION: AtomicU64 = AtomicU64::new(0);
/// An unlinked file with one page of ones, or -1 before installation.
static ONES: AtomicI32 = AtomicI32::new(-1);
/// Held by whoever changes the table; never by the handler.
static CHANGING: Mutex<()> = Mutex::new(());
static TABLE: Chunk = Chunk::empty();
/// What handled SIGBUS before we did. Leaked, so that the handler can use it at any time.
static PREVIOUS: AtomicPtr<libc::sigaction> = AtomicPtr::new(ptr::null_mut());

/// One range of the table, read by the handler while others change it.
///
/// `sequence` is odd while the fields change (a seqlock). A reader that saw it change skips the slot: the range that
/// faulted is still registered, since its owner is in the middle of an access, so its own slot is not the one that changes.
#[derive(Debug)]
struct Slot {
    sequence: AtomicU64,
    /// Zero when the slot is free.
    base: AtomicUsize,
    len: AtomicUsize,
    ones: AtomicBool,
    poisoned: AtomicBool,
}

const CHUNK_SLOTS: usize = 256;

/// A part of the table. Chunks are added and never freed.
struct Chunk {
    slots: [Slot; CHUNK_SLOTS],
    next: AtomicPtr<Chunk>,
}

impl Chunk {
    const fn empty() -> Self {
        Self { slots: [const { Slot::empty() }; CHUNK_SLOTS], next: AtomicPtr::new(ptr::null_mut()) }
    }

    fn next(&self) -> Option<&'static Self> {
        // SAFETY: null, or a chunk leaked by `Slot::occupy` after it was whole (release there, acquire here).
        unsafe { self.next.load(Ordering::Acquire).as_ref() }
    }
}

impl Slot {
    const fn empty() -> Self {
        Self {
            sequence: AtomicU64::new(0),
            base: AtomicUsize::new(0),
            len: AtomicUsize::new(0),
            ones: AtomicBool::new(false),
            poisoned: AtomicBool::new(false),
        }
    }

    fn occupy(base: usize, len: usize, fill: Fill) -> &'static Self {
        let _changing = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut chunk: &'static Chunk = &TABLE;
        let slot = loop {
            if let Some(free) = chunk.slots.iter().find(|slot| slot.base.load(Ordering::Relaxed) == 0) {
                break free;
            }
            chunk = chunk.next().unwrap_or_else(|| {
                let new: &'static Chunk = Box::leak(Box::new(Chunk::empty()));
                chunk.next.store(ptr::from_ref(new).cast_mut(), Ordering::Release);
                new
            });
        };
        slot.change(|| {
            slot.len.store(len, Ordering::Relaxed);
            slot.ones.store(fill == Fill::Ones, Ordering::Relaxed);
            slot.poisoned.store(false, Ordering::Relaxed);
            slot.base.store(base, Ordering::Relaxed);
        });
        slot
    }

    fn vacate(&self) {
        let _changing = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
        self.change(|| self.base.store(0, Ordering::Relaxed));
    }

    /// Changes fields such that [`Self::covering`] sees all of the change or skips the slot.
    fn change(&self, fields: impl FnOnce()) {
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(sequence.wrapping_add(1), Ordering::Relaxed);
        // Pairs with the acquire fence in `covering`: whoever read a new field sees the odd number on its second look.
        fence(Ordering::Release);
        fields();
        // Pairs with the first load in `covering`: whoever sees the new even number sees the new fields.
        self.sequence.store(sequence.wrapping_add(2), Ordering::Release);
    }

    /// The range, when `address` lies in it.
    fn covering(&self, address: usize) -> Option<(usize, usize, Fill)> {
        let before = self.sequence.load(Ordering::Acquire);
        let (base, len) = (self.base.load(Ordering::Relaxed), self.len.load(Ordering::Relaxed));
        let fill = if self.ones.load(Ordering::Relaxed) { Fill::Ones } else { Fill::Zeroes };
        fence(Ordering::Acquire);
        let stable = before.is_multiple_of(2) && self.sequence.load(Ordering::Relaxed) == before;
        (stable && base != 0 && address.checked_sub(base)? < len).then_some((base, len, fill))
    }
}

fn install() -> io::Result<()> {
    static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();
    let installed = INSTALLED.get_or_init(|| {
        ONES.store(
            page_of_ones().map_err(|error| error.raw_os_error().unwrap_or(libc::ENOMEM))?,
            Ordering::Release,
        );
        // SAFETY: all-zero is a valid `sigaction`: default action, empty mask, no flags.
        let (mut action, mut previous): (libc::sigaction, libc::sigaction) =
            unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        action.sa_sigaction = on_sigbus as *const () as usize;
        // The alternate stack, where a thread has one: the fault may have hit while its own is nearly full.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // The one before is asked for first: the handler may run as soon as it is installed.
        // SAFETY: null asks without changing; `previous` is ours.
        if unsafe { libc::sigaction(libc::SIGBUS, ptr::null(), &raw mut previous) } != 0 {
            return Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL));
        }
        PREVIOUS.store(Box::leak(Box::new(previous)), Ordering::Release);
        // SAFETY: the handler has the signature that SA_SIGINFO asks for, and calls async-signal-safe functions only.
        if unsafe { libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL));
        }
        Ok(())
    });
    (*installed).map_err(io::Error::from_raw_os_error)
}

/// A file whose one page is all ones. Mapped privately in the place of lost registers, it is there whole from the first
/// instant, where anonymous memory would read as zero until somebody had filled it.
fn page_of_ones() -> io::Result<i32> {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
    use std::os::fd::IntoRawFd;
    let file = memfd_create("vfiomux-ones", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let written = rustix::io::pwrite(&file, &[0xff; PAGE_BYTES], 0)?;
    if written != PAGE_BYTES {
        return Err(io::ErrorKind::WriteZero.into());
    }
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL)?;
    Ok(file.into_raw_fd())
}

/// Runs on whichever thread touched the missing page, with that access still to be repeated.
extern "C" fn on_sigbus(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo to an SA_SIGINFO handler; `si_addr` is meaningful for codes above zero.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    // SAFETY: every thread has an errno.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above. The interrupted code may be about to read it.
    let saved = unsafe { *errno };
    // Codes from zero down come from `kill` and say nothing of memory; BUS_ADRALN is the program's own mistake.
    let survived = code > 0 && code != libc::BUS_ADRALN && mend(address);
    // SAFETY: as above.
    unsafe { *errno = saved };
    if !survived {
        hand_on(signal, info, context, code);
    }
}

/// Replaces the missing page at `address`, if it lies in a guarded range.
fn mend(address: usize) -> bool {
    let mut chunk = Some(&TABLE);
    while let Some(slots) = chunk {
        for slot in &slots.slots {
            let Some((base, len, fill)) = slot.covering(address) else { continue };
            if !replace(address, base, len, fill) {
                return false;
            }
            // Both released: pair with the acquires in `Guarded::poisoned` and `Guard::generation`.
            slot.poisoned.store(true, Ordering::Release);
            GENERATION.fetch_add(1, Ordering::Release);
            return true;
        }
        chunk = slots.next();
    }
    false
}

/// Puts pages of our own where `address` is, as few as the kernel accepts, and in the end the whole range.
fn replace(address: usize, base: usize, len: usize, fill: Fill) -> bool {
    let (flags, file) = match fill {
        Fill::Zeroes => (libc::MAP_ANONYMOUS, -1),
        Fill::Ones => (0, ONES.load(Ordering::Acquire)),
    };
    let place = |start: usize, size_bytes: usize| {
        // SAFETY: the range lies in one whose owner agreed to have pages replaced (`Guard::register`), and is mapped.
        let placed = unsafe {
            libc::mmap(
                start as *mut libc::c_void,
                size_bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_NORESERVE | flags,
                file,
                0,
            )
        };
        placed != libc::MAP_FAILED
    };
    if fill == Fill::Ones {
        // Registers are never on huge pages, and the file has one page.
        return place(address & !(PAGE_BYTES - 1), PAGE_BYTES);
    }
    let fits =
        |start: usize, size: usize| start >= base && start - base <= len && size <= len - (start - base);
    REPLACED_BYTES
        .into_iter()
        .map(|size| (address & !(size - 1), size))
        .any(|(start, size)| fits(start, size) && place(start, size))
        || place(base, len)
}

/// Not ours: what would have happened without us.
fn hand_on(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void, code: i32) {
    // SAFETY: null or leaked by `install`, which stored it before it installed this handler.
    let previous = unsafe { PREVIOUS.load(Ordering::Acquire).as_ref() };
    match previous.map(|action| (action.sa_sigaction, action.sa_flags)) {
        None | Some((libc::SIG_DFL | libc::SIG_IGN, _)) => {
            // SAFETY: all-zero is the default action. Both functions are async-signal-safe.
            unsafe {
                let default: libc::sigaction = std::mem::zeroed();
                libc::sigaction(signal, &raw const default, ptr::null_mut());
                // A fault comes again by itself when the access is repeated, with its address; a `kill` does not.
                if code <= 0 {
                    libc::raise(signal);
                }
            }
        }
        Some((handler, flags)) if flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: with SA_SIGINFO the kernel would have called it with this signature and these arguments.
            unsafe {
                let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) =
                    std::mem::transmute(handler);
                handler(signal, info, context);
            }
        }
        Some((handler, _)) => {
            // SAFETY: without SA_SIGINFO the kernel would have called it with this signature.
            unsafe {
                let handler: extern "C" fn(i32) = std::mem::transmute(handler);
                handler(signal);
            }
        }
    }
}
