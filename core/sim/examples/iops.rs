//! How fast the simulated device is by itself: random 4 KiB reads and writes from the least of a driver.
//!
//! `cargo run --release -p vfiomux-sim --example iops`

#![expect(unsafe_code, reason = "the phase tag is polled, so it is read volatile")]

use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use vfiomux_hw::{Bar, DmaBuffer, Function};
use vfiomux_sim::{DeviceSpec, Run};
use vfiomux_spec::nvme::register::{
    ACQ, AQA, ASQ, CC, CSTS, Cc, Csts, completion_doorbell, submission_doorbell,
};
use vfiomux_spec::nvme::{CompletionEntry, NvmOpcode, SubmissionEntry};
use zerocopy::{FromBytes, IntoBytes};

const ENTRIES: u32 = 256;
const PAGE: usize = 4096;

struct Pair {
    id: u16,
    sq: DmaBuffer,
    cq: DmaBuffer,
    tail: u32,
    head: u32,
    phase: bool,
}

impl Pair {
    fn push(&mut self, entry: &SubmissionEntry) {
        self.sq.write(self.tail as usize * 64, entry.as_bytes());
        self.tail = (self.tail + 1) % ENTRIES;
    }

    fn ring(&self, bar: &Bar) {
        fence(Ordering::Release);
        bar.write32(submission_doorbell(self.id, 0), self.tail).expect("a doorbell");
    }

    fn pop(&mut self) -> Option<CompletionEntry> {
        let mut bytes = [0; 16];
        let at = self.head as usize * 16;
        // SAFETY: byte 14 of an entry of the completion queue, which `cq` keeps alive.
        let status = unsafe { self.cq.base().add(at + 14).as_ptr().read_volatile() };
        if (status & 1 != 0) != self.phase {
            return None;
        }
        // Pairs with the release store of the device's completion.
        fence(Ordering::Acquire);
        self.cq.read(at, &mut bytes);
        self.head += 1;
        if self.head == ENTRIES {
            (self.head, self.phase) = (0, !self.phase);
        }
        CompletionEntry::read_from_bytes(&bytes).ok()
    }

    fn head_to(&self, bar: &Bar) {
        bar.write32(completion_doorbell(self.id, 0), self.head).expect("a doorbell");
    }

    fn admin(&mut self, bar: &Bar, entry: SubmissionEntry) {
        self.push(&entry);
        self.ring(bar);
        loop {
            if let Some(done) = self.pop() {
                self.head_to(bar);
                assert!(done.status().is_success(), "{entry:?}: {}", done.status());
                return;
            }
        }
    }
}

fn measure(run: Run, depth: u64, opcode: NvmOpcode) -> Result<f64, Box<dyn std::error::Error>> {
    let spec = DeviceSpec { run, ..DeviceSpec::default() };
    let blocks = spec.size_bytes / PAGE as u64;
    let mut function = vfiomux_sim::open(spec, "sim0")?;
    let (bar, domain) = (function.bar(0)?, function.domain());
    function.enable()?;
    let pair = |id| -> Result<Pair, vfiomux_hw::HwError> {
        let (sq, cq) = (domain.allocate(ENTRIES as usize * 64)?, domain.allocate(ENTRIES as usize * 16)?);
        Ok(Pair { id, sq, cq, tail: 0, head: 0, phase: true })
    };
    let (mut admin, mut io) = (pair(0)?, pair(1)?);
    bar.write32(AQA, (ENTRIES - 1) << 16 | (ENTRIES - 1))?;
    bar.write64(ASQ, admin.sq.iova().raw())?;
    bar.write64(ACQ, admin.cq.iova().raw())?;
    bar.write32(CC, Cc::new().with_en(true).with_iosqes(6).with_iocqes(4).into_bits())?;
    while !Csts::from_bits(bar.read32(CSTS)?).rdy() {
        std::hint::spin_loop();
    }
    let size = (ENTRIES - 1) as u16;
    admin.admin(&bar, SubmissionEntry::create_io_cq(1, size, io.cq.iova().raw(), None));
    admin.admin(&bar, SubmissionEntry::create_io_sq(1, size, io.sq.iova().raw(), 1, 0));
    let data = domain.allocate(depth as usize * PAGE)?;
    let mut random = 1u64;
    let mut next = |cid: u16| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let lba = (random >> 33) % (blocks / 16) * 8;
        let iova = data.iova().plus(u64::from(cid) * PAGE as u64).raw();
        SubmissionEntry::block_range(opcode, 1, lba, 7).with_prps(iova, 0).with_cid(cid)
    };
    for cid in 0..depth as u16 {
        io.push(&next(cid));
    }
    io.ring(&bar);
    let (start, mut done) = (Instant::now(), 0u64);
    while start.elapsed() < Duration::from_secs(2) {
        for _ in 0..64 {
            let mut batch = 0;
            while let Some(entry) = io.pop() {
                io.push(&next(entry.cid.get()));
                batch += 1;
            }
            if batch > 0 {
                io.head_to(&bar);
                io.ring(&bar);
                done += batch;
            }
        }
    }
    let rate = done as f64 / start.elapsed().as_secs_f64();
    assert_eq!(function.device().violation_count(), 0);
    Ok(rate)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for (run, name) in [(Run::Thread, "thread"), (Run::Inline, "inline")] {
        for depth in [1, 32, 128] {
            let reads = measure(run, depth, NvmOpcode::READ)? / 1e3;
            let writes = measure(run, depth, NvmOpcode::WRITE)? / 1e3;
            println!("{name:6} depth {depth:3}: {reads:6.0}k reads/s, {writes:6.0}k writes/s");
        }
    }
    Ok(())
}
