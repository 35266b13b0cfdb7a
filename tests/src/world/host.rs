//! The back-end as one process has it: controller, sidecore, orders out and answers back. A crash takes all of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use vfiomux_block::{BlockQueue, LaneId, Limits};
use vfiomux_guest::{MemoryMap, RegionCache};
use vfiomux_hw::{DmaDomain, Epoch, Quiesced};
use vfiomux_nvme::{Clock, Controller, Options, Queue, QueueId};
use vfiomux_sidecore::{Answer, Budgets, DeviceSlot, Handle, Order, Report, Sidecore, Ticket};
use vfiomux_sim::SimNvme;

use super::random::Random;

pub(super) const DEVICE: DeviceSlot = DeviceSlot(0);

/// What an order was about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A step of a channel's task.
    Channel(usize, What),
    /// A lane is taken out, for another to take its place.
    LaneGone(LaneId),
    /// A lane in place of another.
    Lane { old: LaneId },
    /// The device is taken out of the sidecore.
    Device,
    /// Nobody waits for it.
    Aside,
}

/// Which step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Add,
    Memory,
    Start(u16),
    Stop(u16),
    Suspend,
    Resume,
    Resize,
    Remove,
    Scrub,
    ListInFlight,
}

/// What is heard from the sidecore.
#[derive(Debug)]
pub(super) enum News {
    /// An order was answered.
    Answer(Purpose, Answer<Queue>),
    /// Something else happened, or something was answered that nobody had asked.
    Report(Report<Queue>),
}

/// Virtual time. While control waits for an admin command the device goes on, a few steps at a time, and nobody breathes.
struct WorldClock {
    sim: SimNvme,
    random: Mutex<Random>,
}

impl Clock for WorldClock {
    fn now(&self) -> Duration {
        Duration::from_nanos(self.sim.now_ns())
    }

    fn pause(&self, duration: Duration) {
        self.sim.advance_ns(duration.as_nanos() as u64);
        let steps = self.random.lock().unwrap_or_else(PoisonError::into_inner).within(1, 8);
        self.sim.step(steps as usize);
    }
}

/// How the back-end is set up.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    pub(super) options: Options,
    pub(super) budgets: Budgets,
    pub(super) queue_depth: u16,
    pub(super) lane_depth: u16,
    pub(super) lanes: usize,
}

/// One process's worth of back-end.
pub(super) struct Host {
    pub(super) controller: Controller,
    pub(super) sidecore: Sidecore<Queue>,
    handle: Handle<Queue>,
    pub(super) cache: RegionCache,
    queue: QueueId,
    pub(super) lanes: Vec<LaneId>,
    setup: Setup,
    tickets: BTreeMap<Ticket, Purpose>,
    /// Orders that the mailbox had no room for.
    outbox: VecDeque<(Order<Queue>, Purpose)>,
    /// Every memory map that was made for a sidecore.
    pub(super) maps: Vec<Weak<MemoryMap>>,
}

impl Host {
    pub(super) fn start(sim: &SimNvme, setup: Setup, random: &mut Random) -> Result<Self, String> {
        let clock = WorldClock { sim: sim.clone(), random: Mutex::new(random.fork()) };
        let controller = Controller::start(Box::new(sim.function()), setup.options, Box::new(clock));
        let controller = controller.map_err(|error| error.to_string())?;
        let (sidecore, handle) = Sidecore::new(setup.budgets, 64).map_err(|error| error.to_string())?;
        let mut host = Self {
            controller,
            sidecore,
            handle,
            cache: RegionCache::new(),
            queue: QueueId(0),
            lanes: Vec::new(),
            setup,
            tickets: BTreeMap::new(),
            outbox: VecDeque::new(),
            maps: Vec::new(),
        };
        host.add_device()?;
        Ok(host)
    }

    /// Makes queue and lanes, and hands them to the sidecore.
    pub(super) fn add_device(&mut self) -> Result<(), String> {
        let text = |error: vfiomux_nvme::NvmeError| error.to_string();
        let queue = self.controller.create_queue(self.setup.queue_depth, None).map_err(text)?;
        self.queue = queue.id();
        self.send(Order::AddDevice { device: DEVICE, queue: Box::new(queue) }, Purpose::Aside);
        self.lanes.clear();
        for _ in 0..self.setup.lanes.min(self.controller.lanes_free().into()) {
            let lane = self.controller.create_lane(self.queue, self.setup.lane_depth).map_err(text)?;
            self.lanes.push(lane.id());
            self.send(Order::AttachLane { device: DEVICE, lane }, Purpose::Aside);
        }
        Ok(())
    }

    /// Deletes a lane at the device, the barrier, then ends its commands and takes it from the sidecore.
    pub(super) fn delete_lane(&mut self, lane: LaneId, skip_barrier: bool) -> Result<(), String> {
        if !skip_barrier {
            self.controller.delete_lane(lane).map_err(|error| error.to_string())?;
        }
        self.lanes.retain(|&kept| kept != lane);
        self.send(Order::Abandon { device: DEVICE, lane }, Purpose::Aside);
        self.send(Order::DetachLane { device: DEVICE, lane }, Purpose::LaneGone(lane));
        Ok(())
    }

    /// Makes a lane in place of one that the sidecore no longer has: only now, since the old one's doorbell may be the new one's.
    pub(super) fn make_lane(&mut self, old: LaneId) -> Result<(), String> {
        let lane = self.controller.create_lane(self.queue, self.setup.lane_depth);
        let lane = lane.map_err(|error| error.to_string())?;
        self.lanes.push(lane.id());
        self.send(Order::AttachLane { device: DEVICE, lane }, Purpose::Lane { old });
        Ok(())
    }

    pub(super) fn limits(&self) -> Result<Limits, String> {
        let namespace = self.controller.namespaces().first();
        namespace.map(|namespace| namespace.limits).ok_or_else(|| "the namespace is gone".to_owned())
    }

    pub(super) fn domain(&self) -> &Arc<DmaDomain> {
        self.controller.domain()
    }

    pub(super) fn queue<T>(&mut self, look: impl FnOnce(&mut Queue) -> T) -> Option<T> {
        self.sidecore.with_queue(DEVICE, look)
    }

    /// Commands of a lane that have not completed.
    pub(super) fn in_flight(&mut self, lane: LaneId) -> usize {
        self.queue(|queue| queue.in_flight(lane)).unwrap_or(0)
    }

    pub(super) fn send(&mut self, order: Order<Queue>, purpose: Purpose) {
        self.outbox.push_back((order, purpose));
        self.flush_outbox();
    }

    fn flush_outbox(&mut self) {
        while let Some((order, purpose)) = self.outbox.pop_front() {
            match self.handle.send(order) {
                Ok(ticket) => _ = self.tickets.insert(ticket, purpose),
                Err(order) => return self.outbox.push_front((order, purpose)),
            }
        }
    }

    /// What the sidecore reports next.
    pub(super) fn receive(&mut self) -> Option<News> {
        self.flush_outbox();
        Some(match self.handle.try_recv()? {
            Report::Answer { ticket, answer } => match self.tickets.remove(&ticket) {
                Some(purpose) => News::Answer(purpose, answer),
                None => News::Report(Report::Answer { ticket, answer }),
            },
            report => News::Report(report),
        })
    }

    /// The process dies: its descriptors close, so the device is reset first, and then nothing is mapped any more.
    pub(super) fn crash(self) -> Result<(), String> {
        let Self { controller, sidecore, handle, outbox, maps, .. } = self;
        let maps: Vec<Arc<MemoryMap>> = maps.iter().filter_map(Weak::upgrade).collect();
        drop(controller);
        drop((sidecore, handle, outbox));
        // The device was reset: nothing names it.
        maps.into_iter().try_for_each(|map| unmap(unused(map)))
    }
}

/// A map that no command names, since no sidecore has seen it, or the device was reset.
pub(super) fn unused(map: Arc<MemoryMap>) -> Quiesced<Arc<MemoryMap>> {
    Epoch::open(map).close().expect("a fresh epoch has nothing in flight")
}

/// Takes quiesced memory out of the domain. What other channels of the VM still hold stays for them.
pub(super) fn unmap(memory: Quiesced<Arc<MemoryMap>>) -> Result<(), String> {
    let mut shared = memory.map(|map| Arc::try_unwrap(map).map(MemoryMap::into_grants).ok()).into_each();
    let grants = shared.next().ok_or("T1: a memory map that was handed back is still held")?;
    for grant in grants.into_each() {
        DmaDomain::unmap(grant).map_err(|error| error.to_string())?;
    }
    Ok(())
}
