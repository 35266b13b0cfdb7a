//! What the `nvme` crate promises of a controller, tried on a real kernel's VFIO. Prints what it finds; the tests read that.

use std::collections::HashSet;
use std::error::Error;
use std::os::fd::BorrowedFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vfiomux_block::split::{Cursor, next_piece};
use vfiomux_block::{Addressing, BlockQueue, Command, LaneId, Limits, Operation, Segment, Status, Tag};
use vfiomux_hw::inventory::Sysfs;
use vfiomux_hw::vfio::{VfioFunction, VfioOptions};
use vfiomux_hw::{DmaBuffer, PciAddress};
use vfiomux_nvme::sync::BlockIo;
use vfiomux_nvme::{Controller, Ended, EndingDeadlines, Options, Queue, SystemClock};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const BUFFER_BYTES: u32 = 4 << 20;

/// Drives an NVMe controller that vfio-pci has.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    address: PciAddress,
    /// Rounds of random reads and writes on each namespace
    #[arg(long, default_value_t = 200)]
    rounds: u32,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Outcome {
    let function = VfioFunction::open(&Sysfs::new("/"), arguments.address, VfioOptions::default())?;
    let options = Options { vectors: 2, admin_timeout: Duration::from_secs(10), ..Options::default() };
    let starting = Instant::now();
    let mut controller = Controller::start(Box::new(function), options, Box::new(SystemClock::new()))?;
    let info = controller.info();
    println!("up in {:?}: {} {} NVMe {}", starting.elapsed(), info.model, info.serial, info.version);
    println!("queues {} lanes {} depth {}", info.queues_max, info.lanes_max, info.depth_max);
    println!("transfer {} sgl {}", info.transfer_bytes_max, info.sgl);
    for namespace in controller.namespaces() {
        println!("namespace {} blocks of {}", namespace.id, namespace.limits.block_bytes);
    }
    for skipped in controller.skipped() {
        println!("namespace {} skipped: {}", skipped.id, skipped.reason);
    }
    for (id, limits) in served(&controller) {
        data(&mut controller, id, limits, arguments.rounds)?;
        println!("namespace {id} data verified");
    }
    let (id, limits) = served(&controller).first().copied().ok_or("no namespace is served")?;
    sleeping(&mut controller, id)?;
    println!("woken for every completion");
    ending(&mut controller, id, limits)?;
    println!("ended under load");
    let lost = controller.reset()?;
    println!("reset, {} queues lost", lost.queues.len());
    data(&mut controller, id, limits, 5)?;
    println!("data verified after the reset");
    let health = controller.health()?;
    println!("{} K, events {:?}", health.temperature_kelvin, controller.poll_events()?);
    controller.shutdown()?;
    println!("shut down");
    Ok(())
}

fn served(controller: &Controller) -> Vec<(u32, Limits)> {
    controller.namespaces().iter().map(|namespace| (namespace.id, namespace.limits)).collect()
}

/// A generator whose numbers are good enough to cut buffers by.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as u32) % limit
    }
}

/// Random writes and reads through random segments, some zeroed or flushed between, against a copy in memory.
fn data(controller: &mut Controller, id: u32, limits: Limits, rounds: u32) -> Outcome {
    const BLOCKS: u32 = 2048;
    let mut queue = controller.create_queue(32, None)?;
    let lane = queue.attach(controller.create_lane(queue.id(), 32)?);
    let mut buffer = controller.domain().allocate(BUFFER_BYTES as usize)?;
    let mut numbers = Numbers(u64::from(id) << 32 | 1);
    let block = limits.block_bytes;
    let mut expected = vec![0u8; (BLOCKS * block) as usize];
    let clock = SystemClock::new();
    let mut io = BlockIo::new(&mut queue, lane, id, limits, &clock, Duration::from_secs(20));
    io.write_zeroes(0, u64::from(BLOCKS), true)?;
    for round in 0..rounds {
        let blocks = 1 + numbers.below(BLOCKS / 8);
        let lba = numbers.below(BLOCKS - blocks);
        let range = (lba * block) as usize..((lba + blocks) * block) as usize;
        let data = segments(&buffer, &limits, blocks * block, &mut numbers);
        match numbers.below(8) {
            0 => {
                let mut io = BlockIo::new(&mut queue, lane, id, limits, &clock, Duration::from_secs(20));
                io.write_zeroes(u64::from(lba), u64::from(blocks), round % 2 == 0)?;
                io.flush()?;
                expected[range].fill(0);
            }
            1..4 => {
                let bytes: Vec<u8> = (0..blocks * block).map(|_| numbers.below(256) as u8).collect();
                scatter(&mut buffer, &data, &bytes);
                carry(&mut queue, lane, Operation::Write, id, &limits, u64::from(lba), &data)?;
                expected[range].copy_from_slice(&bytes);
            }
            _ => {
                scatter(&mut buffer, &data, &vec![0xaa; range.len()]);
                carry(&mut queue, lane, Operation::Read, id, &limits, u64::from(lba), &data)?;
                if gather(&buffer, &data) != expected[range] {
                    return Err(
                        format!("namespace {id}, round {round}: {blocks} blocks at {lba} differ").into()
                    );
                }
            }
        }
    }
    if queue.stray_completions() != 0 {
        return Err("completions that belong to no command".into());
    }
    controller.delete_lane(lane)?;
    queue.detach(lane).ok_or("a lane that is not drained")?;
    controller.delete_queue(queue.id())?;
    Ok(())
}

/// Segments of `total` bytes together, scattered over the buffer: such as pages can name, and where the device has lists also others.
fn segments(buffer: &DmaBuffer, limits: &Limits, total: u32, numbers: &mut Numbers) -> Vec<Segment> {
    let by_list = match limits.addressing {
        Addressing::Sgl { align_bytes } if numbers.below(2) == 0 => Some(align_bytes),
        _ => None,
    };
    let start = numbers.below(1024) * 4;
    let mut segments = Vec::new();
    let mut left = total;
    // Each part lies behind the one before, so none overlap.
    let mut place = 0;
    while left > 0 {
        let (offset, len) = match by_list {
            Some(align) => (numbers.below(64) * align, (1 + numbers.below(4096)) * align),
            // First the rest of a page, then whole pages.
            None if segments.is_empty() => (start, 4096 - start),
            None => (0, 4096 * (1 + numbers.below(8))),
        };
        let len = len.min(left);
        segments.push(buffer.segment((place + offset) as usize, len));
        place += offset + len;
        if by_list.is_none() {
            place = place.next_multiple_of(4096) + 4096 * numbers.below(2);
        }
        left -= len;
    }
    segments
}

fn offset(buffer: &DmaBuffer, segment: &Segment) -> usize {
    (segment.iova().raw() - buffer.iova().raw()) as usize
}

fn scatter(buffer: &mut DmaBuffer, data: &[Segment], mut bytes: &[u8]) {
    for segment in data {
        let (here, rest) = bytes.split_at(segment.len() as usize);
        buffer.write(offset(buffer, segment), here);
        bytes = rest;
    }
}

fn gather(buffer: &DmaBuffer, data: &[Segment]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for segment in data {
        let mut part = vec![0; segment.len() as usize];
        buffer.read(offset(buffer, segment), &mut part);
        bytes.extend(part);
    }
    bytes
}

/// Cuts a request at the limits, submits all its pieces, and waits for them.
fn carry(
    queue: &mut Queue,
    lane: LaneId,
    operation: Operation,
    namespace: u32,
    limits: &Limits,
    mut lba: u64,
    data: &[Segment],
) -> Outcome {
    let mut cursor = Cursor::default();
    let mut flying = HashSet::new();
    while let Some(piece) = next_piece(limits, lba, data, cursor, limits.block_bytes) {
        if piece.bounce {
            return Err("a piece that the device cannot name".into());
        }
        let mut part = Vec::new();
        let (mut index, mut from, mut left) =
            (cursor.segment, cursor.offset, piece.blocks * limits.block_bytes);
        while left > 0 {
            let take = left.min(data[index].len() - from);
            part.push(data[index].part(from, take));
            (index, from, left) = (index + 1, 0, left - take);
        }
        while queue.room(lane) == 0 {
            collect(queue, &mut flying)?;
        }
        queue.submit(lane, Tag(lba), &Command { operation, namespace, lba, blocks: piece.blocks }, &part)?;
        queue.ring();
        flying.insert(Tag(lba));
        lba += u64::from(piece.blocks);
        cursor = piece.next;
    }
    while !flying.is_empty() {
        collect(queue, &mut flying)?;
    }
    Ok(())
}

fn collect(queue: &mut Queue, flying: &mut HashSet<Tag>) -> Outcome {
    let mut wrong = None;
    queue.poll(64, &mut |completion| {
        if completion.status != Status::Success || !flying.remove(&completion.tag) {
            wrong = Some(completion);
        }
    });
    // The machine is emulated: its device runs when we do not.
    std::thread::yield_now();
    wrong.map_or(Ok(()), |completion| Err(format!("{completion:?}").into()))
}

/// Sleeps until each completion, by its interrupt.
fn sleeping(controller: &mut Controller, id: u32) -> Outcome {
    let mut queue = controller.create_queue(8, Some(1))?;
    let lane = queue.attach(controller.create_lane(queue.id(), 8)?);
    let buffer = controller.domain().allocate(BUFFER_BYTES as usize)?;
    let descriptor = queue.wake_fd().ok_or("a queue with a vector that cannot wake")?;
    let mut slept = 0;
    for lba in 0..200 {
        let command = Command { operation: Operation::Read, namespace: id, lba, blocks: 1 };
        let block_bytes = controller.namespaces()[0].limits.block_bytes;
        queue.submit(lane, Tag(lba), &command, &[buffer.segment(0, block_bytes)])?;
        queue.ring();
        while queue.poll(8, &mut |_| {}) == 0 {
            if !queue.arm() {
                slept += 1;
                wait(descriptor)?;
                queue.disarm();
            }
        }
    }
    println!("slept {} times", if slept > 0 { "some" } else { "NO" });
    controller.delete_lane(lane)?;
    controller.delete_queue(queue.id())?;
    Ok(())
}

#[expect(unsafe_code, reason = "the queue lends its descriptor as a number")]
fn wait(descriptor: i32) -> Outcome {
    // SAFETY: the queue, which the caller holds, keeps the descriptor open.
    let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let limit = Timespec { tv_sec: 20, tv_nsec: 0 };
    match poll(&mut [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)], Some(&limit))? {
        0 => Err("nobody was woken".into()),
        _ => Ok(()),
    }
}

/// Ends a lane in the midst of its commands, with no time to drain; its memory goes at once.
fn ending(controller: &mut Controller, id: u32, limits: Limits) -> Outcome {
    let none = Duration::ZERO;
    for round in 0..20 {
        let mut queue = controller.create_queue(64, None)?;
        let lane = queue.attach(controller.create_lane(queue.id(), 64)?);
        let buffer = controller.domain().allocate(BUFFER_BYTES as usize)?;
        let bytes = limits.transfer_bytes_max.min(32 << 10);
        let command =
            Command { operation: Operation::Read, namespace: id, lba: 0, blocks: bytes / limits.block_bytes };
        for tag in 0..40 {
            queue.submit(lane, Tag(tag), &command, &[buffer.segment(0, bytes)])?;
        }
        queue.ring();
        let mut ids = Vec::new();
        queue.device_ids(lane, &mut ids);
        let deadlines = EndingDeadlines { drain: none, abort: none, delete: Duration::from_secs(10) };
        match controller.end_lane(lane, &deadlines, &mut || ids.clone())? {
            Ended::Deleted => {}
            other => return Err(format!("round {round}: {other:?}").into()),
        }
        // The barrier: from here on nothing names the buffer.
        drop(buffer);
        let mut ended = queue.poll(100, &mut |_| {});
        queue.abandon(lane, &mut |_| ended += 1);
        if ended != 40 {
            return Err(format!("round {round}: {ended} of 40 commands ended").into());
        }
        queue.detach(lane).ok_or("a lane that is not drained")?;
        controller.delete_queue(queue.id())?;
    }
    Ok(())
}
