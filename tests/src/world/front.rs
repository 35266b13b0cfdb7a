//! One ring as a guest works it: requests of every shape, and what must come back of them.

use std::os::fd::OwnedFd;

use rustix::event::{EventfdFlags, eventfd};
use vfiomux_guest::Call;
use vfiomux_guest::driver::{Buffer, DriverRing};
use vfiomux_guest::ring::RingSetup;
use vfiomux_spec::virtio::blk::{RANGE_F_UNMAP, RangeSegment, RequestType};
use vfiomux_spec::virtio::features::{RING_EVENT_IDX, RING_INDIRECT_DESC, VERSION_1};
use zerocopy::IntoBytes;

use super::draft::{Draft, blocks, cut};
use super::oracle::{Oracle, Writing, ZEROES};
use super::random::Random;
use super::verdict::check;
use super::vm::{PAGE_BYTES, Run, Sticks, Vm};

/// Most entries of a ring.
pub(super) const RING_MAX: u16 = 32;
/// Bytes of the place that a request has in the base: header, status, ranges, indirect table.
const PLACE_BYTES: u64 = 1024;
const STATUS_OFFSET: u64 = 32;
const RANGES_OFFSET: u64 = 64;
const TABLE_OFFSET: u64 = 256;
/// Descriptors that a table has room for.
const TABLE_MAX: usize = 48;
/// Bytes of the base that a ring takes up.
pub(super) const FRONT_BYTES: u64 = 4096 + RING_MAX as u64 * PLACE_BYTES;
/// What the memory around a request's buffers holds, and the buffers of a read before they are written.
pub(super) const FILLER: u8 = 0x5a;

/// What a guest knows of its disk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    pub(super) block_bytes: u64,
    /// Blocks that it may use now: fewer than there are while the disk is about to shrink.
    pub(super) blocks: usize,
    /// Sticks that it may use now.
    pub(super) sticks: Sticks,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
    Flush,
    Discard,
    WriteZeroes,
    GetId,
    /// Outside the disk, or half a block: to be refused.
    Misfit,
    /// A type that there is not: to be answered as unsupported.
    Unknown,
}

/// A request with the device.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) kind: Kind,
    pub(super) place: u16,
    pub(super) run: Option<Run>,
    /// The data's buffers, in order.
    pub(super) buffers: Vec<Buffer>,
    pub(super) status_addr: u64,
    pub(super) reading: Option<u64>,
    pub(super) writings: Vec<Writing>,
    /// The disk may have lost its blocks under way.
    pub(super) may_fail: bool,
}

/// What a guest found when it looked.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reaped {
    pub(super) returned: u64,
    pub(super) failed: u64,
}

/// A ring, driver side.
pub(super) struct Front {
    addr: u64,
    size: u16,
    features: u64,
    ring: DriverRing,
    free: Vec<u16>,
    /// By head.
    requests: Vec<Option<Request>>,
    /// Since the driver was started.
    returned: u64,
    call: OwnedFd,
    /// It sleeps until it is called; else it polls.
    sleeps: bool,
    /// Where the ring was stopped.
    pub(super) base: u16,
}

impl Front {
    /// A driver that has just started, on memory that an earlier one may have used.
    pub(super) fn new(vm: &Vm, addr: u64, random: &mut Random) -> Result<Self, String> {
        let size = random.pick(&[8, 16, RING_MAX]);
        let mut features = VERSION_1;
        if random.chance(60) {
            features |= RING_EVENT_IDX;
        }
        if random.chance(70) {
            features |= RING_INDIRECT_DESC;
        }
        vm.write(addr, &[0; FRONT_BYTES as usize]);
        let ring = DriverRing::new(&vm.base, addr, size, features).map_err(|error| error.to_string())?;
        let call =
            eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).map_err(|error| error.to_string())?;
        let mut front = Self {
            addr,
            size,
            features,
            ring,
            free: (0..RING_MAX).rev().collect(),
            requests: (0..size).map(|_| None).collect(),
            returned: 0,
            call,
            sleeps: random.chance(50),
            base: 0,
        };
        if front.sleeps {
            let _ = front.ring.arm();
        } else {
            front.ring.disarm();
        }
        Ok(front)
    }

    /// The same guest with another driver. What is outstanding is forgotten.
    pub(super) fn restart(
        &mut self,
        vm: &mut Vm,
        oracle: &mut Oracle,
        random: &mut Random,
    ) -> Result<(), String> {
        self.forget(vm, oracle);
        *self = Self::new(vm, self.addr, random)?;
        Ok(())
    }

    /// Gives up all that is outstanding: nobody will return it, and nobody knows whether it was carried out.
    pub(super) fn forget(&mut self, vm: &mut Vm, oracle: &mut Oracle) {
        for request in self.requests.iter_mut().filter_map(Option::take) {
            for writing in &request.writings {
                oracle.end_write(writing, false);
            }
            if let Some(name) = request.reading {
                let _ = oracle.end_read(name, None, 1);
            }
            if let Some(run) = request.run {
                vm.give_back(run);
            }
            self.free.push(request.place);
        }
    }

    pub(super) fn describe(&self) -> String {
        let has = |bit: u64, name| if self.features & bit != 0 { name } else { "" };
        let (event, indirect) = (has(RING_EVENT_IDX, " event-idx"), has(RING_INDIRECT_DESC, " indirect"));
        format!("{} entries{event}{indirect}{}", self.size, if self.sleeps { " sleeps" } else { "" })
    }

    /// What a front-end tells the back-end.
    pub(super) fn setup(&self) -> RingSetup {
        RingSetup { base: self.base, ..self.ring.setup() }
    }

    pub(super) fn call(&self) -> Result<Call, String> {
        let fd = self.call.try_clone().map_err(|error| error.to_string())?;
        Call::new(fd).map_err(|error| error.to_string())
    }

    /// The call was never made: who was to make it died first.
    pub(super) fn swallow_call(&self) {
        let _ = rustix::io::read(&self.call, &mut [0; 8]);
    }

    pub(super) fn outstanding(&self) -> usize {
        self.requests.iter().flatten().count()
    }

    /// Whether a request names memory of a stick.
    pub(super) fn names(&self, stick: usize) -> bool {
        let names = |request: &Request| request.run.is_some_and(|run| run.sticks() & 1 << stick != 0);
        self.requests.iter().flatten().any(names)
    }

    /// The disk is about to change under what is outstanding.
    pub(super) fn tolerate_failures(&mut self) {
        for request in self.requests.iter_mut().flatten() {
            request.may_fail = true;
        }
    }

    /// Chains returned since the driver started, as a ring counts them.
    pub(super) fn returned(&self) -> u16 {
        self.returned as u16
    }

    /// Submits one request of a random kind. Gives how it reads, or `None` when there was no room for it.
    pub(super) fn submit(
        &mut self,
        vm: &mut Vm,
        oracle: &mut Oracle,
        geometry: &Geometry,
        random: &mut Random,
    ) -> Option<String> {
        let place = *self.free.last()?;
        let kind = match random.below(100) {
            0..40 => Kind::Read,
            40..76 => Kind::Write,
            76..84 => Kind::Flush,
            84..88 => Kind::Discard,
            88..94 => Kind::WriteZeroes,
            94..96 => Kind::GetId,
            96..99 => Kind::Misfit,
            _ => Kind::Unknown,
        };
        let mut draft = Draft::new(self.addr + 4096 + u64::from(place) * PLACE_BYTES);
        let mut request = Request {
            kind,
            place,
            run: None,
            buffers: Vec::new(),
            status_addr: draft.place_addr + STATUS_OFFSET,
            reading: None,
            writings: Vec::new(),
            may_fail: false,
        };
        let (first, count) = blocks(geometry, random);
        let bytes = count as u64 * geometry.block_bytes;
        let per_block = geometry.block_bytes / 512;
        let mut header_in_run = false;
        match kind {
            Kind::Read | Kind::Write => {
                let request_type = if kind == Kind::Read { RequestType::In } else { RequestType::Out };
                draft.header(request_type as u32, first as u64 * per_block);
                let run = vm.take((bytes / PAGE_BYTES) as usize + 3, geometry.sticks, random)?;
                vm.write(run.addr(), &vec![FILLER; run.bytes() as usize]);
                request.run = Some(run);
                header_in_run = kind == Kind::Write && random.chance(5);
                let lead = if header_in_run { 16 } else { 0 };
                let room = TABLE_MAX.min(usize::from(self.size)) - 4;
                request.buffers = cut(run.addr() + lead, bytes, kind == Kind::Read, room, random);
                if kind == Kind::Read && random.chance(5) {
                    // The status byte follows the data in one buffer.
                    let last = request.buffers.last()?;
                    request.status_addr = last.guest_addr + u64::from(last.len);
                }
            }
            Kind::Flush => draft.header(RequestType::Flush as u32, 0),
            Kind::Unknown => draft.header(random.within(100, 200) as u32, 0),
            Kind::GetId => {
                draft.header(RequestType::GetId as u32, 0);
                let guest_addr = draft.place_addr + RANGES_OFFSET;
                request.buffers.push(Buffer { guest_addr, len: 20, writable: true });
            }
            Kind::Discard | Kind::WriteZeroes => {
                let discard = kind == Kind::Discard;
                draft.header(if discard { RequestType::Discard } else { RequestType::WriteZeroes } as u32, 0);
                let flags = if !discard && random.chance(50) { RANGE_F_UNMAP } else { 0 };
                let mut list = Vec::new();
                for _ in 0..random.within(1, 4) {
                    let (first, count) = blocks(geometry, random);
                    let range = RangeSegment {
                        sector: (first as u64 * per_block).into(),
                        num_sectors: (count as u32 * per_block as u32).into(),
                        flags: flags.into(),
                    };
                    list.extend_from_slice(range.as_bytes());
                    request.writings.push(oracle.begin_write(first, count, ZEROES));
                }
                let guest_addr = draft.place_addr + RANGES_OFFSET;
                vm.write(guest_addr, &list);
                request.buffers.push(Buffer { guest_addr, len: list.len() as u32, writable: false });
            }
            Kind::Misfit => {
                let blocks = oracle.blocks() as u64;
                let (sector, len, write) = match random.below(4) {
                    // Beyond what the disk can ever grow to.
                    0 => ((blocks + 100_000) * per_block, 512 * per_block, random.chance(50)),
                    1 => (u64::MAX - random.below(9), 512 * per_block, random.chance(50)),
                    // Across the end; a read, since by the time it is looked at the disk may have grown.
                    2 => ((blocks - 1) * per_block, 1024 * per_block, false),
                    _ => (0, 100, random.chance(50)),
                };
                draft.header(if write { RequestType::Out } else { RequestType::In } as u32, sector);
                let run = vm.take(3, geometry.sticks, random)?;
                request.run = Some(run);
                request.buffers.push(Buffer { guest_addr: run.addr(), len: len as u32, writable: !write });
            }
        }
        let chain = draft.chain(vm, &request, header_in_run, random);
        if kind == Kind::Write {
            let version = oracle.new_version();
            let mut data = vec![0; bytes as usize];
            for (at, block) in (first..).zip(data.chunks_exact_mut(geometry.block_bytes as usize)) {
                oracle.content(at, version).fill(block);
            }
            let mut done = 0;
            for buffer in &request.buffers {
                vm.write(buffer.guest_addr, &data[done..done + buffer.len as usize]);
                done += buffer.len as usize;
            }
            request.writings.push(oracle.begin_write(first, count, version));
        }
        if kind == Kind::Read {
            request.reading = Some(oracle.begin_read(first, count));
        }
        let indirect = random
            .chance(70)
            .then(|| self.ring.add_indirect(&vm.base, draft.place_addr + TABLE_OFFSET, &chain));
        let Some(head) = indirect.flatten().or_else(|| self.ring.add(&chain)) else {
            // No room on the ring: as if it had never been thought of.
            request.writings.iter().for_each(|writing| oracle.end_write(writing, false));
            if let Some(name) = request.reading {
                let _ = oracle.end_read(name, None, 1);
            }
            if let Some(run) = request.run {
                vm.give_back(run);
            }
            return None;
        };
        self.free.pop();
        let line = format!("{kind:?} {first}+{count} in {} buffers, head {head}", chain.len());
        self.requests[usize::from(head)] = Some(request);
        Some(line)
    }

    /// Lets the device see what was submitted.
    pub(super) fn publish(&mut self) {
        let _ = self.ring.publish();
    }

    /// Takes what the device has returned, if the guest looks now at all, and holds it against what must be.
    pub(super) fn reap(
        &mut self,
        vm: &mut Vm,
        oracle: &mut Oracle,
        geometry: &Geometry,
        disturbed: bool,
    ) -> Result<Reaped, String> {
        if self.sleeps && rustix::io::read(&self.call, &mut [0; 8]).is_err() {
            return Ok(Reaped::default());
        }
        self.reap_awake(vm, oracle, geometry, disturbed)
    }

    /// As [`Self::reap`], without waiting for a call.
    pub(super) fn reap_awake(
        &mut self,
        vm: &mut Vm,
        oracle: &mut Oracle,
        geometry: &Geometry,
        disturbed: bool,
    ) -> Result<Reaped, String> {
        let mut reaped = Reaped::default();
        loop {
            // I2: a chain that comes back twice, or that was never given out, is an error here.
            while let Some(used) = self.ring.poll().map_err(|fault| format!("I2: {fault}"))? {
                self.returned += 1;
                reaped.returned += 1;
                let request = self.requests.get_mut(usize::from(used.head)).and_then(Option::take);
                let request = request.ok_or_else(|| format!("I2: head {} came back unasked", used.head))?;
                let result = check(&request, used.len, vm, oracle, geometry, disturbed);
                if let Some(run) = request.run {
                    vm.give_back(run);
                }
                self.free.push(request.place);
                let failed = result.map_err(|wrong| format!("head {}: {wrong}", used.head))?;
                reaped.failed += u64::from(failed);
            }
            if !self.sleeps || !self.ring.arm() {
                return Ok(reaped);
            }
        }
    }

    /// The guest turns hostile: makes something available that breaks the rules. Gives what.
    pub(super) fn misbehave(&mut self, vm: &Vm, random: &mut Random) -> Option<&'static str> {
        let outside = Buffer { guest_addr: vm.beyond(), len: 512, writable: true };
        let inside = Buffer { guest_addr: self.addr + 4096, len: 16, writable: false };
        let what = match random.below(4) {
            0 => {
                self.ring.add(&[inside, outside])?;
                "a buffer outside its memory"
            }
            1 => {
                self.ring.add(&[inside, Buffer { guest_addr: u64::MAX - 100, len: 512, ..outside }])?;
                "a buffer whose end wraps"
            }
            2 => {
                // Its index runs ahead by more than the ring has entries.
                let avail_index = self.addr + u64::from(self.size) * 16 + 2;
                let ahead = self.returned.wrapping_add(self.outstanding() as u64) as u16 + self.size + 3;
                vm.write(avail_index, &ahead.to_le_bytes());
                return Some("an available index out of range");
            }
            _ => {
                self.ring.add(&[Buffer { writable: true, ..inside }, inside])?;
                "a readable buffer behind a writable one"
            }
        };
        self.publish();
        Some(what)
    }
}
