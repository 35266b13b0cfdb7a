//! A simulated controller, a clock that steps it, and the driver on top.
use std::sync::{Arc, Mutex};
use std::time::Duration;

use vfiomux_block::{BlockQueue, Command, Completion, LaneId, Operation, Segment, Status, Tag};
use vfiomux_hw::DmaBuffer;
use vfiomux_nvme::{Clock, Controller, Namespace, NvmeError, Options, Queue};
use vfiomux_sim::{DeviceSpec, SimNvme};

/// Pausing lets the simulated device work and its time pass.
#[derive(Debug)]
pub(crate) struct StepClock {
    sim: SimNvme,
    now: Mutex<Duration>,
}

impl StepClock {
    pub(crate) fn new(sim: &SimNvme) -> Arc<Self> {
        Arc::new(Self { sim: sim.clone(), now: Mutex::default() })
    }
}

impl Clock for StepClock {
    fn now(&self) -> Duration {
        *self.now.lock().unwrap()
    }

    fn pause(&self, duration: Duration) {
        *self.now.lock().unwrap() += duration;
        self.sim.advance_ns(u64::try_from(duration.as_nanos()).unwrap());
        while self.sim.step(64) > 0 {}
    }
}

/// A driver on a simulated device.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) controller: Controller,
    pub(crate) sim: SimNvme,
    pub(crate) clock: Arc<StepClock>,
}

/// A small device.
pub(crate) fn spec() -> DeviceSpec {
    DeviceSpec { size_bytes: 64 << 20, ..DeviceSpec::default() }
}

impl Rig {
    pub(crate) fn new(spec: DeviceSpec) -> Self {
        Self::with(spec, Options::default())
    }

    pub(crate) fn with(spec: DeviceSpec, options: Options) -> Self {
        let sim = SimNvme::new(spec, "sim0").unwrap();
        Self::try_start(&sim, options).unwrap()
    }

    pub(crate) fn try_start(sim: &SimNvme, options: Options) -> Result<Self, NvmeError> {
        sim.step_everything();
        let clock = StepClock::new(sim);
        let controller = Controller::start(Box::new(sim.function()), options, Box::new(clock.clone()))?;
        Ok(Self { controller, sim: sim.clone(), clock })
    }

    pub(crate) fn namespace(&self) -> &Namespace {
        &self.controller.namespaces()[0]
    }

    /// A queue with one lane of `depth` on it.
    pub(crate) fn queue(&mut self, depth: u16) -> (Queue, LaneId) {
        let mut queue = self.controller.create_queue(depth, None).unwrap();
        let lane = self.lane(&mut queue, depth);
        (queue, lane)
    }

    pub(crate) fn lane(&mut self, queue: &mut Queue, depth: u16) -> LaneId {
        let lane = self.controller.create_lane(queue.id(), depth).unwrap();
        queue.attach(lane)
    }

    pub(crate) fn buffer(&self, bytes: usize) -> DmaBuffer {
        self.controller.domain().allocate(bytes).unwrap()
    }

    /// Rings, runs the device, and takes what completes.
    pub(crate) fn run(&self, queue: &mut Queue) -> Vec<Completion> {
        queue.ring();
        self.sim.run_until_idle();
        poll(queue)
    }

    /// One command, to its end.
    pub(crate) fn command(
        &self,
        queue: &mut Queue,
        lane: LaneId,
        command: &Command,
        data: &[Segment],
    ) -> Status {
        queue.submit(lane, Tag(77), command, data).unwrap();
        let done = self.run(queue);
        assert_eq!((done.len(), done[0].tag), (1, Tag(77)));
        done[0].status
    }

    /// The device saw nothing that it must not see.
    pub(crate) fn assert_clean(&self) {
        assert_eq!(self.sim.violations(), []);
    }
}

pub(crate) fn poll(queue: &mut Queue) -> Vec<Completion> {
    let mut done = Vec::new();
    while queue.poll(32, &mut |completion| done.push(completion)) > 0 {}
    done
}

pub(crate) fn read(lba: u64, blocks: u32) -> Command {
    Command { operation: Operation::Read, namespace: 1, lba, blocks }
}

pub(crate) fn write(lba: u64, blocks: u32) -> Command {
    Command { operation: Operation::Write, namespace: 1, lba, blocks }
}

pub(crate) fn flush() -> Command {
    Command { operation: Operation::Flush, namespace: 1, lba: 0, blocks: 0 }
}

/// Bytes that differ by place and `seed`.
pub(crate) fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
