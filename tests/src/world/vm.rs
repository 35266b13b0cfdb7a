//! A virtual machine's memory: a base that is always there, and sticks that are plugged and pulled.
//!
//! ```text
//!   base: rings, headers, tables      sticks, one after another, each a file of its own: data
//!   │ channel 0 │ channel 1 │ …       │ 0 (always there) │ 1 │ 2 │ 3 │       a buffer may lie across two
//! ```
//!
//! A VM's channels lend the same files, each over its own session, so that they find each other's mappings.

use std::sync::Arc;

use vfiomux_guest::driver::Arena;
use vfiomux_guest::{MapRegion, MemoryMap, RegionCache};
use vfiomux_hw::DmaDomain;

use super::random::Random;

pub(super) const PAGE_BYTES: u64 = 4096;
/// Sticks of a VM.
pub(super) const STICKS: usize = 4;
/// What a stick holds while no channel may use it.
const PARKED: u8 = 0xc5;
const STICK_PAGES: usize = 48;
const STICK_BYTES: u64 = STICK_PAGES as u64 * PAGE_BYTES;
const BASE_BYTES: u64 = 512 << 10;
const BASE_ADDR: u64 = 0x10_0000;
const STICKS_ADDR: u64 = 0x1_0000_0000;

/// Which sticks, one bit each. The first is always there.
pub(super) type Sticks = u8;

/// Whole pages of guest memory that a request has for itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    first: usize,
    count: usize,
}

impl Run {
    pub(super) fn addr(&self) -> u64 {
        STICKS_ADDR + self.first as u64 * PAGE_BYTES
    }

    pub(super) fn bytes(&self) -> u64 {
        self.count as u64 * PAGE_BYTES
    }

    /// The sticks that it lies in.
    pub(super) fn sticks(&self) -> Sticks {
        let last = self.first + self.count - 1;
        (self.first / STICK_PAGES..=last / STICK_PAGES).fold(0, |sticks, stick| sticks | 1 << stick)
    }
}

/// A virtual machine's memory.
pub(super) struct Vm {
    pub(super) base: Arena,
    sticks: Vec<Arena>,
    /// Of each page of the sticks: whether a request has it.
    used: Vec<bool>,
    parked: [bool; STICKS],
    /// Where the base has room for the next channel's rings.
    next_addr: u64,
}

impl Vm {
    pub(super) fn new() -> Result<Self, String> {
        let arena = |bytes, addr| Arena::new(bytes, addr).map_err(|error| error.to_string());
        let sticks: Result<Vec<Arena>, String> =
            (0..STICKS as u64).map(|at| arena(STICK_BYTES, STICKS_ADDR + at * STICK_BYTES)).collect();
        Ok(Self {
            base: arena(BASE_BYTES, BASE_ADDR)?,
            sticks: sticks?,
            used: vec![false; STICKS * STICK_PAGES],
            parked: [false; STICKS],
            next_addr: BASE_ADDR,
        })
    }

    /// Room in the base.
    pub(super) fn reserve(&mut self, bytes: u64) -> u64 {
        let addr = self.next_addr;
        self.next_addr += bytes.next_multiple_of(PAGE_BYTES);
        assert!(self.next_addr <= BASE_ADDR + BASE_BYTES, "a VM with more rings than its base has room for");
        addr
    }

    /// An address that no channel of the VM ever lends.
    pub(super) fn beyond(&self) -> u64 {
        STICKS_ADDR + STICKS as u64 * STICK_BYTES
    }

    /// Takes so many pages that follow one another, in the given sticks.
    pub(super) fn take(&mut self, pages: usize, within: Sticks, random: &mut Random) -> Option<Run> {
        let (start, len) = (random.below(self.used.len() as u64) as usize, self.used.len());
        let mut first = (0..len).map(|step| (start + step) % len).filter(|&first| first + pages <= len);
        let is_there = |stick: usize| within & 1 << stick != 0 && !self.parked[stick];
        let is_free = |page: usize| !self.used[page] && is_there(page / STICK_PAGES);
        let first = first.find(|&first| (first..first + pages).all(is_free))?;
        self.used[first..first + pages].fill(true);
        Some(Run { first, count: pages })
    }

    pub(super) fn give_back(&mut self, run: Run) {
        self.used[run.first..run.first + run.count].fill(false);
    }

    pub(super) fn write(&self, addr: u64, bytes: &[u8]) {
        let mut done = 0;
        self.each_part(addr, bytes.len(), |arena, at, len| {
            arena.write(at, &bytes[done..done + len]).expect("a part lies in its stick");
            done += len;
        });
    }

    pub(super) fn read(&self, addr: u64, bytes: &mut [u8]) {
        let mut done = 0;
        self.each_part(addr, bytes.len(), |arena, at, len| {
            arena.read(at, &mut bytes[done..done + len]).expect("a part lies in its stick");
            done += len;
        });
    }

    /// The parts of a range, one for each arena that it lies in.
    fn each_part(&self, addr: u64, len: usize, mut f: impl FnMut(&Arena, u64, usize)) {
        let (mut addr, mut left) = (addr, len);
        while left > 0 {
            let arena = match addr.checked_sub(STICKS_ADDR) {
                Some(offset) => &self.sticks[(offset / STICK_BYTES) as usize],
                None => &self.base,
            };
            let room = arena.guest_addr() + arena.size_bytes() - addr;
            let part = left.min(room as usize);
            f(arena, addr, part);
            addr += part as u64;
            left -= part;
        }
    }

    /// A memory table with the base and some sticks, mapped for the device. Sticks that come back hold what they were left with.
    pub(super) fn map(
        &mut self,
        sticks: Sticks,
        cache: &RegionCache,
        domain: &Arc<DmaDomain>,
    ) -> Result<MemoryMap, String> {
        self.unpark(sticks)?;
        let lent = self.sticks.iter().enumerate().filter(|(at, _)| sticks & 1 << at != 0);
        let mut regions = Vec::new();
        for arena in std::iter::once(&self.base).chain(lent.map(|(_, arena)| arena)) {
            let file = arena.file().ok_or("an arena has no file")?;
            let file = file.try_clone_to_owned().map_err(|error| error.to_string())?;
            let file = cache.open(file, 0, arena.size_bytes()).map_err(|error| error.to_string())?;
            let grant = cache.grant(&file, domain).map_err(|error| error.to_string())?;
            let (guest_addr, user_addr) = (arena.guest_addr(), arena.user_addr());
            regions.push(MapRegion { guest_addr, user_addr, file, grant: Some(grant) });
        }
        MemoryMap::new(regions).map_err(|error| error.to_string())
    }

    /// Fills the sticks that no channel holds, and that no guest has unread data in, so that a late access shows (D2).
    pub(super) fn park(&mut self, held: Sticks) {
        for at in 0..STICKS {
            let pages = at * STICK_PAGES..(at + 1) * STICK_PAGES;
            if held & 1 << at == 0 && !self.parked[at] && !self.used[pages].contains(&true) {
                self.parked[at] = true;
                let arena = &self.sticks[at];
                arena.write(arena.guest_addr(), &[PARKED; STICK_BYTES as usize]).expect("the whole stick");
            }
        }
    }

    /// D2: what was pulled out was touched by nobody.
    fn unpark(&mut self, sticks: Sticks) -> Result<(), String> {
        for at in 0..STICKS {
            if sticks & 1 << at != 0 && std::mem::take(&mut self.parked[at]) {
                let mut bytes = vec![0; STICK_BYTES as usize];
                let arena = &self.sticks[at];
                arena.read(arena.guest_addr(), &mut bytes).expect("the whole stick");
                if let Some(offset) = bytes.iter().position(|&byte| byte != PARKED) {
                    return Err(format!(
                        "D2: stick {at} was written at {offset:#x} after it had been unmapped"
                    ));
                }
            }
        }
        Ok(())
    }
}
