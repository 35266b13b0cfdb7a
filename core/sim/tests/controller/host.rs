//! A host: the least of a driver that can talk to the device, and that can also talk to it wrongly.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use vfiomux_hw::{Bar, DmaBuffer, DmaDomain, Function, Vector};
use vfiomux_sim::{DeviceSpec, SimFunction, SimNvme};
use vfiomux_spec::nvme::queue::{COMPLETION_ENTRY_SHIFT, SUBMISSION_ENTRY_SHIFT};
use vfiomux_spec::nvme::register::{
    ACQ, AQA, ASQ, Aqa, CC, CSTS, Cap, Cc, Csts, completion_doorbell, submission_doorbell,
};
use vfiomux_spec::nvme::{CompletionEntry, NvmOpcode, Status, SubmissionEntry};
use zerocopy::{FromBytes, IntoBytes};

pub(crate) const PAGE: usize = 4096;
pub(crate) const ADMIN_ENTRIES: u32 = 16;

pub(crate) struct Sq {
    pub(crate) id: u16,
    pub(crate) buffer: DmaBuffer,
    pub(crate) entries: u32,
    pub(crate) tail: u32,
}

pub(crate) struct Cq {
    pub(crate) id: u16,
    pub(crate) buffer: DmaBuffer,
    pub(crate) entries: u32,
    pub(crate) head: u32,
    pub(crate) phase: bool,
}

pub(crate) struct Host {
    pub(crate) sim: SimNvme,
    pub(crate) function: SimFunction,
    pub(crate) bar: Bar,
    pub(crate) domain: Arc<DmaDomain>,
    pub(crate) vectors: Vec<Vector>,
    pub(crate) sq: Sq,
    pub(crate) cq: Cq,
    next_cid: u16,
}

pub(crate) fn small() -> DeviceSpec {
    DeviceSpec { size_bytes: 16 << 20, queues: 8, vectors: 9, queue_entries: 64, ..DeviceSpec::default() }
}

impl Host {
    /// Brings a device up whose admin queue is served at once.
    pub(crate) fn boot(spec: DeviceSpec) -> Self {
        let sim = SimNvme::new(spec, "sim0").unwrap();
        let function = sim.function();
        let mut host = Self::attach(function);
        host.enable();
        host
    }

    pub(crate) fn attach(mut function: SimFunction) -> Self {
        let sim = function.device().clone();
        let (bar, domain) = (function.bar(0).unwrap(), function.domain());
        function.enable().unwrap();
        let vectors = function.enable_vectors(function.vectors_max().min(9)).unwrap();
        let sq = Sq { id: 0, buffer: domain.allocate(PAGE).unwrap(), entries: ADMIN_ENTRIES, tail: 0 };
        let cq = Cq {
            id: 0,
            buffer: domain.allocate(PAGE).unwrap(),
            entries: ADMIN_ENTRIES,
            head: 0,
            phase: true,
        };
        Self { sim, function, bar, domain, vectors, sq, cq, next_cid: 0 }
    }

    pub(crate) fn csts(&self) -> Csts {
        Csts::from_bits(self.bar.read32(CSTS).unwrap())
    }

    pub(crate) fn cap(&self) -> Cap {
        Cap::from_bits(self.bar.read64(0).unwrap())
    }

    pub(crate) fn write_cc(&self, cc: Cc) {
        self.bar.write32(CC, cc.into_bits()).unwrap();
        self.sim.step(1);
    }

    pub(crate) fn program_admin_queue(&self) {
        let size = u16::try_from(ADMIN_ENTRIES - 1).unwrap();
        self.bar.write32(AQA, Aqa::new().with_asqs(size).with_acqs(size).into_bits()).unwrap();
        self.bar.write64(ASQ, self.sq.buffer.iova().raw()).unwrap();
        self.bar.write64(ACQ, self.cq.buffer.iova().raw()).unwrap();
    }

    pub(crate) fn enable(&mut self) {
        self.program_admin_queue();
        (self.sq.tail, self.cq.head, self.cq.phase) = (0, 0, true);
        self.cq.buffer.write(0, &[0; PAGE]);
        self.write_cc(Cc::new().with_en(true).with_iosqes(6).with_iocqes(4));
        self.wait(|host| host.csts().rdy());
    }

    /// Gives a device with a thread the time it needs; one that is stepped needs none.
    fn wait(&self, ready: impl Fn(&Self) -> bool) {
        for _ in 0..1_000_000 {
            if ready(self) {
                return;
            }
            std::thread::yield_now();
        }
        panic!("the device never answered");
    }

    pub(crate) fn submit_on(bar: &Bar, cap: Cap, sq: &mut Sq, entry: &SubmissionEntry) {
        sq.buffer.write((sq.tail as usize) << SUBMISSION_ENTRY_SHIFT, entry.as_bytes());
        sq.tail = (sq.tail + 1) % sq.entries;
        fence(Ordering::Release);
        bar.write32(submission_doorbell(sq.id, cap.dstrd()), sq.tail).unwrap();
    }

    pub(crate) fn cid(&mut self) -> u16 {
        self.next_cid = self.next_cid.wrapping_add(1);
        self.next_cid
    }

    /// Submits on an I/O queue, under a fresh identifier that is returned.
    pub(crate) fn submit(&mut self, sq: &mut Sq, entry: SubmissionEntry) -> u16 {
        let cid = self.cid();
        Self::submit_on(&self.bar, self.cap(), sq, &entry.with_cid(cid));
        cid
    }

    /// Takes the next completion, if there is one, and moves the head doorbell.
    pub(crate) fn poll(&self, cq: &mut Cq) -> Option<CompletionEntry> {
        let entry = Self::peek(cq)?;
        cq.head += 1;
        if cq.head == cq.entries {
            (cq.head, cq.phase) = (0, !cq.phase);
        }
        self.bar.write32(completion_doorbell(cq.id, self.cap().dstrd()), cq.head).unwrap();
        Some(entry)
    }

    pub(crate) fn peek(cq: &Cq) -> Option<CompletionEntry> {
        let read = || {
            let mut bytes = [0; 16];
            cq.buffer.read((cq.head as usize) << COMPLETION_ENTRY_SHIFT, &mut bytes);
            CompletionEntry::read_from_bytes(&bytes).unwrap()
        };
        let new = read().phase() == cq.phase;
        // The rest is read after the phase was seen to have flipped.
        fence(Ordering::Acquire);
        new.then(read)
    }

    /// Runs an admin command to its end.
    pub(crate) fn admin(&mut self, entry: SubmissionEntry) -> CompletionEntry {
        let cid = self.submit_admin(entry);
        let completion = self.poll_admin().expect("an admin command completes at once");
        assert_eq!(completion.cid.get(), cid);
        completion
    }

    pub(crate) fn submit_admin(&mut self, entry: SubmissionEntry) -> u16 {
        let cid = self.cid();
        Self::submit_on(&self.bar, self.cap(), &mut self.sq, &entry.with_cid(cid));
        cid
    }

    pub(crate) fn poll_admin(&mut self) -> Option<CompletionEntry> {
        for _ in 0..1_000_000 {
            if Self::peek(&self.cq).is_some() {
                break;
            }
            if self.sim.step(64) == 0 && self.sim.outstanding() == 0 && Self::peek(&self.cq).is_none() {
                return None;
            }
        }
        let entry = Self::peek(&self.cq)?;
        self.cq.head += 1;
        if self.cq.head == self.cq.entries {
            (self.cq.head, self.cq.phase) = (0, !self.cq.phase);
        }
        self.bar.write32(completion_doorbell(0, self.cap().dstrd()), self.cq.head).unwrap();
        Some(entry)
    }

    pub(crate) fn admin_status(&mut self, entry: SubmissionEntry) -> Status {
        self.admin(entry).status()
    }

    pub(crate) fn create_cq(&mut self, id: u16, entries: u32, vector: Option<u16>) -> Cq {
        let buffer = self.domain.allocate(PAGE.max(entries as usize * 16)).unwrap();
        let size = u16::try_from(entries - 1).unwrap();
        let create = SubmissionEntry::create_io_cq(id, size, buffer.iova().raw(), vector);
        assert_eq!(self.admin_status(create), Status::SUCCESS);
        Cq { id, buffer, entries, head: 0, phase: true }
    }

    pub(crate) fn create_sq(&mut self, id: u16, entries: u32, cq_id: u16) -> Sq {
        let buffer = self.domain.allocate(PAGE.max(entries as usize * 64)).unwrap();
        let size = u16::try_from(entries - 1).unwrap();
        let create = SubmissionEntry::create_io_sq(id, size, buffer.iova().raw(), cq_id, 0);
        assert_eq!(self.admin_status(create), Status::SUCCESS);
        Sq { id, buffer, entries, tail: 0 }
    }

    pub(crate) fn pair(&mut self) -> (Sq, Cq) {
        let cq = self.create_cq(1, 32, Some(1));
        (self.create_sq(1, 32, 1), cq)
    }

    /// Runs one I/O command to its end.
    pub(crate) fn io(&mut self, (sq, cq): (&mut Sq, &mut Cq), entry: SubmissionEntry) -> CompletionEntry {
        let cid = self.submit(sq, entry);
        self.sim.run_until_idle();
        let completion = self.poll(cq).expect("a command completes");
        assert_eq!((completion.cid.get(), completion.sq_id.get()), (cid, sq.id));
        completion
    }

    pub(crate) fn buffer(&self, len: usize) -> DmaBuffer {
        self.domain.allocate(len).unwrap()
    }

    /// A buffer filled with bytes that differ by position and `seed`.
    pub(crate) fn pattern(&self, len: usize, seed: u8) -> DmaBuffer {
        let mut buffer = self.buffer(len);
        buffer.write(0, &pattern(len, seed));
        buffer
    }
}

pub(crate) fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|at| (at as u8) ^ ((at >> 8) as u8) ^ seed).collect()
}

pub(crate) fn bytes(buffer: &DmaBuffer, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    buffer.read(0, &mut bytes);
    bytes
}

/// A transfer of at most two pages from the start of a buffer.
pub(crate) fn transfer(opcode: NvmOpcode, lba: u64, blocks: u16, buffer: &DmaBuffer) -> SubmissionEntry {
    let iova = buffer.iova().raw();
    SubmissionEntry::block_range(opcode, 1, lba, blocks - 1).with_prps(iova, iova + PAGE as u64)
}
