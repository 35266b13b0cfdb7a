use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::*;

/// A file of some pages, mapped shared, as a front-end's memory is.
struct Mapped {
    file: OwnedFd,
    base: NonNull<u8>,
    len: usize,
}

impl Mapped {
    fn new(pages: usize, flags: MemfdFlags) -> io::Result<Self> {
        let page = if flags.contains(MemfdFlags::HUGETLB) { 2 << 20 } else { PAGE_BYTES };
        let file = memfd_create("guarded", MemfdFlags::CLOEXEC | flags)?;
        let len = pages * page;
        ftruncate(&file, len as u64)?;
        // SAFETY: a fresh mapping at an address of the kernel's choice overlaps nothing.
        let base = unsafe {
            mmap(ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &file, 0)?
        };
        Ok(Self { file, base: NonNull::new(base.cast()).unwrap(), len })
    }

    fn guard(&self, fill: Fill) -> Guarded {
        // SAFETY: the mapping is the test's own and outlives the guard, and the test expects replaced pages.
        unsafe { Guard::register(self.base, self.len, fill).unwrap() }
    }

    fn read(&self, at: usize) -> u8 {
        assert!(at < self.len);
        // SAFETY: inside the mapping; what is missing there the guard replaces, or ends the process.
        unsafe { self.base.add(at).read_volatile() }
    }

    fn write(&self, at: usize, value: u8) {
        assert!(at < self.len);
        // SAFETY: as in `read`.
        unsafe { self.base.add(at).write_volatile(value) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`; nothing of the test uses it any more.
        unsafe { munmap(self.base.as_ptr().cast(), self.len).unwrap() };
    }
}

/// Runs `body` in a child process and says by which signal it ended.
fn killed_by(body: impl FnOnce()) -> Option<i32> {
    // SAFETY: the child only touches memory and exits; it takes no lock that another thread of the parent may hold.
    match unsafe { libc::fork() } {
        0 => {
            let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: async-signal-safe calls in a forked child.
            unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const no_core) };
            body();
            // SAFETY: as above.
            unsafe { libc::_exit(0) }
        }
        child => {
            let mut status = 0;
            // SAFETY: waits for the child made above.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status))
        }
    }
}

#[test]
fn a_truncated_file_reads_as_zeroes_and_poisons_its_range_alone() {
    let (lost, kept) =
        (Mapped::new(3, MemfdFlags::empty()).unwrap(), Mapped::new(1, MemfdFlags::empty()).unwrap());
    let (lost_guard, kept_guard) = (lost.guard(Fill::Zeroes), kept.guard(Fill::Zeroes));
    for page in 0..3 {
        lost.write(page * PAGE_BYTES, 7);
    }
    kept.write(0, 9);
    ftruncate(&lost.file, PAGE_BYTES as u64).unwrap();
    let before = Guard::generation();
    assert_eq!([lost.read(0), lost.read(2 * PAGE_BYTES), kept.read(0)], [7, 0, 9]);
    assert!(lost_guard.poisoned() && !kept_guard.poisoned());
    assert!(Guard::generation() > before);
}

#[test]
fn a_write_to_a_missing_page_is_survived_too() {
    let mapped = Mapped::new(1, MemfdFlags::empty()).unwrap();
    let guard = mapped.guard(Fill::Zeroes);
    ftruncate(&mapped.file, 0).unwrap();
    mapped.write(5, 1);
    assert!(guard.poisoned() && mapped.read(5) == 1 && mapped.read(6) == 0);
}

#[test]
fn lost_registers_read_as_ones() {
    let mapped = Mapped::new(2, MemfdFlags::empty()).unwrap();
    let guard = mapped.guard(Fill::Ones);
    ftruncate(&mapped.file, 0).unwrap();
    mapped.write(PAGE_BYTES, 0);
    assert_eq!(
        [mapped.read(0), mapped.read(4095), mapped.read(PAGE_BYTES), mapped.read(PAGE_BYTES + 1)],
        [0xff, 0xff, 0, 0xff]
    );
    assert!(guard.poisoned());
}

#[test]
fn a_truncated_file_of_huge_pages_is_survived() {
    // A machine without reserved huge pages refuses the mapping; then there is nothing to lose.
    let Ok(mapped) = Mapped::new(2, MemfdFlags::HUGETLB) else { return };
    let guard = mapped.guard(Fill::Zeroes);
    ftruncate(&mapped.file, 0).unwrap();
    assert_eq!(mapped.read((2 << 20) + 12345), 0);
    assert!(guard.poisoned());
}

#[test]
fn many_ranges_are_told_apart_and_their_places_used_again() {
    for _ in 0..3 {
        let mapped: Vec<_> =
            (0..CHUNK_SLOTS + 40).map(|_| Mapped::new(1, MemfdFlags::empty()).unwrap()).collect();
        let guards: Vec<_> = mapped.iter().map(|mapped| mapped.guard(Fill::Zeroes)).collect();
        assert!(guards.iter().all(|guard| !guard.poisoned()));
        ftruncate(&mapped[CHUNK_SLOTS + 20].file, 0).unwrap();
        mapped[CHUNK_SLOTS + 20].read(0);
        let poisoned: Vec<_> =
            guards.iter().enumerate().filter(|(_, g)| g.poisoned()).map(|(i, _)| i).collect();
        assert_eq!(poisoned, [CHUNK_SLOTS + 20]);
        drop(guards);
    }
}

/// The table is read by faulting threads while others change it.
#[test]
fn threads_fault_while_ranges_come_and_go() {
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..200 {
                    let mapped = Mapped::new(2, MemfdFlags::empty()).unwrap();
                    let guard = mapped.guard(Fill::Ones);
                    ftruncate(&mapped.file, PAGE_BYTES as u64).unwrap();
                    assert_eq!([mapped.read(0), mapped.read(PAGE_BYTES)], [0, 0xff]);
                    assert!(guard.poisoned());
                }
            });
            scope.spawn(|| {
                let mapped = Mapped::new(1, MemfdFlags::empty()).unwrap();
                for _ in 0..5000 {
                    assert!(!mapped.guard(Fill::Zeroes).poisoned());
                }
            });
        }
    });
}

#[test]
fn a_fault_outside_every_range_still_kills() {
    let (mapped, other) =
        (Mapped::new(1, MemfdFlags::empty()).unwrap(), Mapped::new(1, MemfdFlags::empty()).unwrap());
    let _guard = other.guard(Fill::Zeroes);
    ftruncate(&mapped.file, 0).unwrap();
    assert_eq!(
        killed_by(|| {
            mapped.read(0);
        }),
        Some(libc::SIGBUS)
    );
}

#[test]
fn a_range_no_longer_guarded_kills_again() {
    let mapped = Mapped::new(1, MemfdFlags::empty()).unwrap();
    drop(mapped.guard(Fill::Zeroes));
    ftruncate(&mapped.file, 0).unwrap();
    assert_eq!(
        killed_by(|| {
            mapped.read(0);
        }),
        Some(libc::SIGBUS)
    );
}

#[test]
fn a_sigbus_sent_by_somebody_kills() {
    let mapped = Mapped::new(1, MemfdFlags::empty()).unwrap();
    let _guard = mapped.guard(Fill::Zeroes);
    // The standard library's handler, to which ours hands on, reacts to a signal by restoring the default and returning, so
    // that a faulting access is repeated and kills; a signal that was sent has to come twice for that.
    let raise_twice = || {
        for _ in 0..2 {
            // SAFETY: the child sends itself a signal.
            unsafe { libc::raise(libc::SIGBUS) };
        }
    };
    assert_eq!(killed_by(raise_twice), Some(libc::SIGBUS));
}

#[test]
fn errno_is_left_as_it_was() {
    let mapped = Mapped::new(1, MemfdFlags::empty()).unwrap();
    let _guard = mapped.guard(Fill::Zeroes);
    ftruncate(&mapped.file, 0).unwrap();
    // SAFETY: every thread has an errno.
    unsafe { *libc::__errno_location() = libc::EXDEV };
    mapped.read(0);
    assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::EXDEV));
}

#[test]
fn a_range_that_is_not_whole_pages_is_refused() {
    let mapped = Mapped::new(1, MemfdFlags::empty()).unwrap();
    // SAFETY: nothing is registered; the ranges lie in the test's own mapping.
    unsafe {
        assert!(Guard::register(mapped.base, 0, Fill::Zeroes).is_err());
        assert!(Guard::register(mapped.base, 100, Fill::Zeroes).is_err());
        assert!(Guard::register(mapped.base.add(1), PAGE_BYTES, Fill::Zeroes).is_err());
    }
}
