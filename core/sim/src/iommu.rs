//! The simulated IOMMU: a table of mappings, and the refusal, loudly, of every access outside them.
//!
//! ```text
//!   DmaDomain ── map, unmap ──► RwLock<Table> ◄── Dma ── controller
//!                                    │              reads under the lock, so that an unmap waits for the access
//!                                    ▼              under way: memory is never freed while it is being copied
//!                               Violations
//! ```
#![expect(unsafe_code, reason = "device accesses go to raw host memory that a mapping vouches for")]

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::ops::RangeInclusive;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rustix::io::Errno;
use vfiomux_hw::{Iommu, Iova, MappingInfo, Rights};

use crate::host_memory::HostMemory;
use crate::violation::{Access, CommandName, Refusal, Violation, Violations};

/// How many unmaps are remembered, to tell a use after unmap from an address that never was.
const REMEMBERED_UNMAPS: usize = 256;

/// What the IOMMU can do; by default what a lab guest's emulated one reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IommuSpec {
    /// Width of an address, bits.
    pub address_bits: u8,
    /// Bitmap of page sizes.
    pub page_sizes: u64,
    /// How many mappings fit.
    pub mappings_max: usize,
}

impl Default for IommuSpec {
    fn default() -> Self {
        Self { address_bits: 48, page_sizes: 1 << 12 | 1 << 21 | 1 << 30, mappings_max: 65535 }
    }
}

/// A simulated IOMMU. Clones are handles on the same one.
#[derive(Debug, Clone)]
pub struct SimIommu(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    spec: IommuSpec,
    table: RwLock<Table>,
    violations: Violations,
    bus_master: AtomicBool,
    fail_maps: AtomicU64,
    fail_unmaps: AtomicU64,
}

/// The mappings, sorted by address and never overlapping.
#[derive(Debug, Default)]
pub(crate) struct Table {
    mappings: Vec<Mapping>,
    /// Counts every map and unmap.
    changes: u64,
    unmapped: VecDeque<(u64, u64, u64)>,
}

#[derive(Debug, Clone, Copy)]
struct Mapping {
    iova: u64,
    size_bytes: u64,
    host: NonNull<u8>,
    rights: Rights,
}

// SAFETY: the pointer is only a number here; accesses through it are made by `Dma`, under the table's lock.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn contains(&self, iova: u64) -> bool {
        iova.wrapping_sub(self.iova) < self.size_bytes
    }

    fn info(&self) -> MappingInfo {
        MappingInfo { iova: Iova(self.iova), size_bytes: self.size_bytes, rights: self.rights, own: false }
    }
}

impl Table {
    /// Index of the first mapping that ends after `iova`.
    fn position(&self, iova: u64) -> usize {
        self.mappings.partition_point(|mapping| mapping.iova + (mapping.size_bytes - 1) < iova)
    }

    fn neighbours(&self, iova: u64) -> [Option<MappingInfo>; 2] {
        let at = self.mappings.partition_point(|mapping| mapping.iova <= iova);
        let below = at.checked_sub(1).and_then(|below| self.mappings.get(below));
        [below.map(Mapping::info), self.mappings.get(at).map(Mapping::info)]
    }

    fn refusal(&self, iova: u64) -> Refusal {
        let hit = |&&(at, start, last): &&(u64, u64, u64)| at > 0 && (start..=last).contains(&iova);
        match self.unmapped.iter().rev().find(hit) {
            Some(&(at, ..)) => Refusal::Unmapped { changes_ago: self.changes - at },
            None => Refusal::NotMapped,
        }
    }
}

impl SimIommu {
    /// An IOMMU with nothing mapped.
    #[must_use]
    pub fn new(spec: IommuSpec) -> Self {
        Self(Arc::new(Inner {
            spec,
            table: RwLock::default(),
            violations: Violations::default(),
            bus_master: AtomicBool::new(false),
            fail_maps: AtomicU64::new(0),
            fail_unmaps: AtomicU64::new(0),
        }))
    }

    /// Makes the next `count` maps fail as if memory could not be locked.
    pub fn fail_maps(&self, count: u64) {
        self.0.fail_maps.store(count, Ordering::Relaxed);
    }

    /// Makes the next `count` unmaps fail.
    pub fn fail_unmaps(&self, count: u64) {
        self.0.fail_unmaps.store(count, Ordering::Relaxed);
    }

    /// What is mapped now, by address. `own` is not known here and always false.
    #[must_use]
    pub fn mappings(&self) -> Vec<MappingInfo> {
        self.read().mappings.iter().map(Mapping::info).collect()
    }

    pub(crate) fn violations(&self) -> &Violations {
        &self.0.violations
    }

    pub(crate) fn set_bus_master(&self, on: bool) {
        self.0.bus_master.store(on, Ordering::Release);
    }

    /// Keeps the mappings as they are while the guard lives.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.0.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The device's view of memory, over mappings that `table` holds still.
    pub(crate) fn dma<'a>(&'a self, table: &'a Table) -> Dma<'a> {
        let bus_master = self.0.bus_master.load(Ordering::Acquire);
        Dma { iommu: self, table, bus_master, hint: Cell::new(0), command: Cell::new(None) }
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.0.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn take_one(counter: &AtomicU64) -> bool {
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1)).is_ok()
}

impl Iommu for SimIommu {
    fn apertures(&self) -> Vec<RangeInclusive<u64>> {
        // The hole is where x86 keeps its interrupt window: a write there is an MSI, not memory.
        let last = (1u64 << self.0.spec.address_bits.clamp(33, 63)) - 1;
        vec![0..=0xfedf_ffff, 0xfef0_0000..=last]
    }

    fn page_sizes(&self) -> u64 {
        self.0.spec.page_sizes
    }

    fn map(&self, iova: Iova, host: NonNull<u8>, size_bytes: u64, rights: Rights) -> io::Result<()> {
        let page = 1u64 << self.0.spec.page_sizes.trailing_zeros().min(63);
        let aligned = [iova.raw(), host.as_ptr() as u64, size_bytes].iter().all(|n| n.is_multiple_of(page));
        let last = size_bytes.checked_sub(1).and_then(|span| iova.raw().checked_add(span));
        let (Some(last), true) = (last, aligned) else {
            return Err(Errno::INVAL.into());
        };
        if !self.apertures().iter().any(|range| range.contains(&iova.raw()) && range.contains(&last)) {
            return Err(Errno::INVAL.into());
        }
        if take_one(&self.0.fail_maps) {
            return Err(Errno::NOMEM.into());
        }
        let mut table = self.write();
        if table.mappings.len() >= self.0.spec.mappings_max {
            return Err(Errno::NOSPC.into());
        }
        let at = table.position(iova.raw());
        if table.mappings.get(at).is_some_and(|next| next.iova <= last) {
            return Err(Errno::EXIST.into());
        }
        table.mappings.insert(at, Mapping { iova: iova.raw(), size_bytes, host, rights });
        table.changes += 1;
        Ok(())
    }

    fn unmap(&self, iova: Iova, size_bytes: u64) -> io::Result<()> {
        if take_one(&self.0.fail_unmaps) {
            return Err(Errno::IO.into());
        }
        let mut table = self.write();
        let at = table.position(iova.raw());
        let exact = |mapping: &Mapping| mapping.iova == iova.raw() && mapping.size_bytes == size_bytes;
        if !table.mappings.get(at).is_some_and(exact) {
            return Err(Errno::NOENT.into());
        }
        let gone = table.mappings.remove(at);
        table.changes += 1;
        let changes = table.changes;
        if table.unmapped.len() == REMEMBERED_UNMAPS {
            table.unmapped.pop_front();
        }
        table.unmapped.push_back((changes, gone.iova, gone.iova + (gone.size_bytes - 1)));
        Ok(())
    }
}

/// The simulated IOMMU refused an access. It has been recorded; the device ends its command with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DmaRefused;

/// Memory as the device sees it.
pub(crate) struct Dma<'a> {
    iommu: &'a SimIommu,
    table: &'a Table,
    bus_master: bool,
    hint: Cell<usize>,
    command: Cell<Option<CommandName>>,
}

impl<'a> Dma<'a> {
    /// Names the command that the following accesses serve; `None` for a queue's own memory.
    pub(crate) fn serve(&self, command: Option<CommandName>) {
        self.command.set(command);
    }

    /// Translates the beginning of a run of `len` bytes: as much of it as one mapping holds.
    pub(crate) fn translate(
        &self,
        iova: u64,
        len: u64,
        write: bool,
        access: Access,
    ) -> Result<HostMemory<'a>, DmaRefused> {
        let hinted = self.table.mappings.get(self.hint.get()).filter(|mapping| mapping.contains(iova));
        let mapping = match hinted {
            Some(mapping) => mapping,
            None => {
                let at = self.table.position(iova);
                self.hint.set(at);
                match self.table.mappings.get(at).filter(|mapping| mapping.contains(iova)) {
                    Some(mapping) => mapping,
                    None => return Err(self.refuse(iova, len, write, access, self.table.refusal(iova))),
                }
            }
        };
        let right = if write { mapping.rights.write } else { mapping.rights.read };
        if !right {
            let refusal = Refusal::NoRight { rights: mapping.rights };
            return Err(self.refuse(iova, len, write, access, refusal));
        }
        if !self.bus_master {
            return Err(self.refuse(iova, len, write, access, Refusal::BusMasterOff));
        }
        let offset = iova - mapping.iova;
        let len = len.min(mapping.size_bytes - offset);
        let (Ok(offset), Ok(len)) = (usize::try_from(offset), usize::try_from(len)) else {
            return Err(DmaRefused);
        };
        // SAFETY: `offset + len` lies inside the mapping, whose memory the domain keeps alive until after `unmap`, and
        // `unmap` waits for the table's lock, which is held for 'a.
        Ok(unsafe { HostMemory::new(mapping.host.add(offset), len) })
    }

    /// Runs `f` over every piece of host memory behind a run.
    pub(crate) fn each_piece<E: From<DmaRefused>>(
        &self,
        mut iova: u64,
        mut len: u64,
        write: bool,
        access: Access,
        mut f: impl FnMut(HostMemory<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        while len > 0 {
            let piece = self.translate(iova, len, write, access)?;
            f(piece)?;
            iova = iova.wrapping_add(piece.len() as u64);
            len -= piece.len() as u64;
        }
        Ok(())
    }

    /// The device reads memory.
    pub(crate) fn read(&self, iova: u64, into: &mut [u8], access: Access) -> Result<(), DmaRefused> {
        let mut done = 0;
        self.each_piece(iova, into.len() as u64, false, access, |piece| {
            let part = into.get_mut(done..done + piece.len()).ok_or(DmaRefused)?;
            // SAFETY: both are valid for the piece's length; `into` is ours alone and is not mapped memory.
            unsafe { std::ptr::copy_nonoverlapping(piece.as_ptr(), part.as_mut_ptr(), part.len()) };
            done += piece.len();
            Ok(())
        })
    }

    /// The device writes memory.
    pub(crate) fn write(&self, iova: u64, from: &[u8], access: Access) -> Result<(), DmaRefused> {
        let mut done = 0;
        self.each_piece(iova, from.len() as u64, true, access, |piece| {
            let part = from.get(done..done + piece.len()).ok_or(DmaRefused)?;
            // SAFETY: both are valid for the piece's length; `from` is a live slice and is not mapped memory.
            unsafe { std::ptr::copy_nonoverlapping(part.as_ptr(), piece.as_ptr(), part.len()) };
            done += piece.len();
            Ok(())
        })
    }

    /// The device writes a completion: the half with the phase tag last, and with release, so that a host that sees the
    /// phase flip sees all the rest (NVMe 2.0c 3.3.3.2). Pairs with the driver's acquire load of that half.
    pub(crate) fn post(&self, iova: u64, first: u64, tail: u64) -> Result<(), DmaRefused> {
        let entry = self.translate(iova, 16, true, Access::PostCompletion)?;
        let base = entry.as_ptr().cast::<u64>();
        if entry.len() < 16 || !base.is_aligned() {
            return Err(DmaRefused);
        }
        // SAFETY: 16 bytes at `base` are valid and aligned to 8; queues are page aligned, so an entry crosses no page.
        unsafe {
            base.write_volatile(first.to_le());
            AtomicU64::from_ptr(base.add(1)).store(tail.to_le(), Ordering::Release);
        }
        Ok(())
    }

    #[cold]
    fn refuse(&self, iova: u64, len: u64, write: bool, access: Access, refusal: Refusal) -> DmaRefused {
        let neighbours = self.table.neighbours(iova);
        let command = self.command.get();
        let iova = Iova(iova);
        let violation = Violation::Dma { command, access, iova, len, write, refusal, neighbours };
        self.iommu.violations().record(violation);
        DmaRefused
    }
}
