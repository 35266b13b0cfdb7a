//! What control does to channels, step by step, and what it hears back.

use std::sync::Arc;

use vfiomux_block::{Command, LaneId, Operation};
use vfiomux_channel::{BlockChannel, ChannelId, ChannelSettings, Extent, ExtentMap, RingStart};
use vfiomux_guest::{MemoryMap, SplitRing};
use vfiomux_hw::Iommu;
use vfiomux_nvme::Queue;
use vfiomux_sidecore::Order;

use super::channel::Task;
use super::front::Front;
use super::host::{DEVICE, Purpose, What};
use super::oracle::Oracle;
use super::vm::{STICKS, Sticks};
use super::{Sabotage, World, disk::NSID};

/// Cells that a channel has at most.
const CELLS_MAX: u64 = 6;

impl World {
    /// A channel begins: blocks, an identity, and all that brings it into service.
    pub(super) fn conceive(&mut self, at: usize) -> Result<(), String> {
        let count = self.random.within(1, CELLS_MAX);
        let mut coming = self.disk.take(count, &mut self.random);
        if self.sabotage == Some(Sabotage::OverlappingExtents) && at == 1 {
            coming.truncate(1);
            coming.extend(self.channels[0].cells.iter().chain(&self.channels[0].coming).take(1));
            coming.dedup();
        }
        self.last_owner += 1;
        let sticks = 1 | self.random.below(1 << STICKS) as Sticks;
        let channel = &mut self.channels[at];
        channel.owner = self.last_owner;
        channel.sticks = sticks;
        channel.cells.clear();
        channel.blocks = 0;
        channel.tasks.clear();
        self.trace.note(format!("channel {at} begins as owner {} on cells {coming:?}", self.last_owner));
        self.scrub(at, coming);
        let tasks = [Task::Scrub, Task::NewDriver, Task::Add, Task::Memory(Some(sticks)), Task::Start];
        self.channels[at].tasks.extend(tasks);
        Ok(())
    }

    /// Notes what is to be zeroed before a channel has some cells (C3).
    fn scrub(&mut self, at: usize, cells: Vec<usize>) {
        let channel = &mut self.channels[at];
        if self.sabotage != Some(Sabotage::SkipScrub) {
            let step = self.disk.cell_blocks() / 2;
            for Extent { lba, blocks } in self.disk.extents(&cells) {
                let pieces = (lba..lba + blocks).step_by(step as usize);
                channel.scrubs.extend(pieces.map(|lba| (lba, step)));
            }
        }
        channel.coming = cells;
    }

    /// Goes on with what is under way with a channel.
    pub(super) fn carry_on(&mut self, at: usize) -> Result<(), String> {
        while self.channels[at].awaited == 0
            && let Some(task) = self.channels[at].tasks.front().cloned()
        {
            match &task {
                Task::Pause(steps) => {
                    if let (1.., Some(Task::Pause(left))) = (*steps, self.channels[at].tasks.front_mut()) {
                        *left -= 1;
                        return Ok(());
                    }
                }
                Task::Drain if self.channels[at].outstanding() > 0 => return Ok(()),
                Task::Settle(stick) => {
                    let channel = &self.channels[at];
                    let named = channel.fronts.iter().any(|front| front.names(*stick));
                    if named && !channel.has_popped_all() {
                        return Ok(());
                    }
                }
                Task::Doom if !self.channels[at].quarantined => return Ok(()),
                // The only lane is being replaced.
                Task::Scrub | Task::Add if self.host().lanes.is_empty() => return Ok(()),
                Task::Scrub if !self.channels[at].scrubs.is_empty() => return self.scrub_next(at),
                _ => {}
            }
            self.channels[at].tasks.pop_front();
            self.channels[at].progress = self.trace.step;
            if !matches!(task, Task::Pause(_)) {
                self.trace.note(format!("channel {at}: {task:?}"));
            }
            self.begin(at, task)?;
        }
        Ok(())
    }

    fn begin(&mut self, at: usize, task: Task) -> Result<(), String> {
        match task {
            Task::Pause(_) | Task::Drain | Task::Settle(_) | Task::Doom | Task::Scrub => {}
            Task::Add => self.add(at)?,
            Task::Memory(sticks) => self.set_memory(at, sticks)?,
            Task::Start => self.start_rings(at)?,
            Task::Stop => self.stop_rings(at),
            Task::NewDriver => self.new_driver(at)?,
            Task::Suspend => {
                let channel = self.channels[at].id;
                self.ask(at, What::Suspend, Order::Suspend { channel });
            }
            Task::Resume => {
                let channel = self.channels[at].id;
                self.channels[at].suspended = false;
                self.ask(at, What::Resume, Order::Resume { channel });
            }
            Task::Resize(cells) => self.resize(at, cells)?,
            Task::Remove => self.remove(at),
            Task::Replace => {
                let channel = &mut self.channels[at];
                for front in &mut channel.fronts {
                    front.forget(&mut self.vms[channel.vm], &mut channel.oracle);
                }
                let cells = std::mem::take(&mut channel.cells);
                self.disk.give_back(&cells)?;
                self.conceive(at)?;
                self.summary.replacements += 1;
            }
        }
        Ok(())
    }

    /// The guest's driver starts anew: what was outstanding is forgotten.
    fn new_driver(&mut self, at: usize) -> Result<(), String> {
        self.reap_channel(at, true)?;
        let channel = &mut self.channels[at];
        channel.hostile = false;
        channel.new_driver(&mut self.vms[channel.vm], &mut self.random)?;
        let counters = channel.counters.snapshot();
        channel.to_pop = counters.ring_wait.count() - counters.retries;
        let cell_blocks = self.disk.cell_blocks() as usize;
        if channel.cells.is_empty() {
            channel.oracle = Oracle::new(channel.owner, channel.coming.len() * cell_blocks);
        }
        channel.blocks = channel.oracle.blocks();
        for front in &channel.fronts {
            self.trace.note(format!("channel {at}: a ring of {}", front.describe()));
        }
        Ok(())
    }

    /// Sends an order about a channel.
    fn ask(&mut self, at: usize, what: What, order: Order<Queue>) {
        self.channels[at].awaited += 1;
        self.host().send(order, Purpose::Channel(at, what));
    }

    fn any_lane(&mut self) -> LaneId {
        let lanes = self.host().lanes.clone();
        self.random.pick(&lanes)
    }

    fn scrub_next(&mut self, at: usize) -> Result<(), String> {
        let Some(&(lba, blocks)) = self.channels[at].scrubs.front() else { return Ok(()) };
        let lane = self.any_lane();
        let limits = self.host().limits()?;
        let data_bytes = blocks as u32 * limits.block_bytes;
        let zeroes = blocks <= u64::from(limits.write_zeroes_blocks_max) && self.random.chance(50);
        let (operation, buffer) = if zeroes {
            (Operation::WriteZeroes { deallocate: self.random.chance(50) }, None)
        } else {
            let buffer = self.host().domain().allocate(data_bytes as usize);
            (Operation::Write, Some(buffer.map_err(|error| error.to_string())?))
        };
        // Cut to what one command can do; the rest stays to be done.
        let most = if zeroes { blocks } else { u64::from(limits.transfer_bytes_max / limits.block_bytes) };
        let now = blocks.min(most);
        if now < blocks {
            self.channels[at].scrubs.push_front((lba, now));
            if let Some(rest) = self.channels[at].scrubs.get_mut(1) {
                *rest = (lba + now, blocks - now);
            }
        }
        let command = Command { operation, namespace: NSID, lba, blocks: now as u32 };
        let data_bytes = now as u32 * limits.block_bytes;
        self.ask(at, What::Scrub, Order::Service { device: DEVICE, lane, command, buffer, data_bytes });
        Ok(())
    }

    fn add(&mut self, at: usize) -> Result<(), String> {
        self.last_incarnation += 1;
        let incarnation = self.last_incarnation;
        let limits = self.host().limits()?;
        let lane = self.any_lane();
        let channel = &mut self.channels[at];
        if channel.cells.is_empty() {
            channel.cells = std::mem::take(&mut channel.coming);
        }
        channel.id = ChannelId { index: channel.index, incarnation };
        channel.lane = lane;
        let extents = ExtentMap::new(&self.disk.extents(&channel.cells), &limits);
        let settings = ChannelSettings {
            id: channel.id,
            namespace: NSID,
            limits,
            extents: extents.map_err(|error| error.to_string())?,
            serial: *b"a channel in a world",
            read_only: false,
            rings: channel.fronts.len() as u16,
            requests: self.requests_max,
            segments_max: 30,
            bounce_blocks: self.bounce_blocks,
        };
        channel.present = true;
        channel.quarantined = false;
        channel.to_pop = channel.outstanding() as u64;
        let bytes = settings.own_memory_bytes();
        let domain = self.host().domain().clone();
        let own =
            (bytes > 0).then(|| domain.allocate(bytes)).transpose().map_err(|error| error.to_string())?;
        let block_channel = BlockChannel::new(settings, own).map_err(|error| error.to_string())?;
        self.channels[at].counters = block_channel.counters().clone();
        let channel = Box::new(block_channel);
        self.ask(at, What::Add, Order::AddChannel { channel, device: DEVICE, lane });
        Ok(())
    }

    fn set_memory(&mut self, at: usize, sticks: Option<Sticks>) -> Result<(), String> {
        let vm = self.channels[at].vm;
        let host = self.host.as_mut().ok_or("no host")?;
        let map = match sticks {
            Some(sticks) => self.vms[vm].map(sticks, &host.cache, host.controller.domain())?,
            None => MemoryMap::new(Vec::new()).map_err(|error| error.to_string())?,
        };
        let map = Arc::new(map);
        host.maps.retain(|map| map.strong_count() > 0);
        host.maps.push(Arc::downgrade(&map));
        let channel = &mut self.channels[at];
        channel.next_map = Arc::downgrade(&map);
        channel.asked = Some(sticks);
        let id = channel.id;
        self.summary.memory_changes += 1;
        self.ask(at, What::Memory, Order::SetMemory { channel: id, map });
        Ok(())
    }

    fn start_rings(&mut self, at: usize) -> Result<(), String> {
        let channel = &mut self.channels[at];
        let map = channel.map.upgrade().ok_or("a channel has no memory to start rings in")?;
        let (id, mut starts) = (channel.id, Vec::new());
        for (index, front) in channel.fronts.iter().enumerate() {
            let inflight = channel.inflight.as_ref().and_then(|inflight| inflight.queue(index as u16));
            let mut setup = front.setup();
            let (inflight, late) = match self.sabotage {
                Some(Sabotage::ForgetInFlight) => {
                    setup.base = front.returned();
                    (None, 0)
                }
                Some(Sabotage::RestartEarlier) if setup.base > 0 => (None, u16::MAX),
                Some(Sabotage::RestartLater) if setup.base > 0 => (None, 1),
                _ => (inflight, 0),
            };
            setup.base = setup.base.wrapping_add(late);
            let ring = SplitRing::new(&map, &setup, inflight).map_err(|error| error.to_string())?;
            starts.push(Box::new(RingStart { ring, call: Some(front.call()?), kick: None }));
        }
        channel.started = true;
        self.summary.reconnects += 1;
        for (index, start) in (0..).zip(starts) {
            self.ask(at, What::Start(index), Order::StartRing { channel: id, index, start });
        }
        Ok(())
    }

    fn stop_rings(&mut self, at: usize) {
        let channel = &mut self.channels[at];
        if !std::mem::take(&mut channel.started) {
            return;
        }
        let (id, rings) = (channel.id, channel.fronts.len() as u16);
        if self.sabotage == Some(Sabotage::UnmapOnSessionLoss) {
            let map = channel.map.upgrade();
            for grant in map.iter().flat_map(|map| map.regions()).filter_map(|region| region.grant.as_ref()) {
                let _ = self.sim.iommu().unmap(grant.iova(), grant.memory().len() as u64);
            }
        }
        for index in 0..rings {
            self.ask(at, What::Stop(index), Order::StopRing { channel: id, index });
        }
    }

    fn resize(&mut self, at: usize, cells: Vec<usize>) -> Result<(), String> {
        let limits = self.host().limits()?;
        let channel = &mut self.channels[at];
        // Again when it is done: what was submitted meanwhile may find the disk as it was, or as it will be.
        channel.fronts.iter_mut().for_each(Front::tolerate_failures);
        let extents =
            ExtentMap::new(&self.disk.extents(&cells), &limits).map_err(|error| error.to_string())?;
        channel.resizing = cells;
        let id = channel.id;
        self.ask(at, What::Resize, Order::Resize { channel: id, extents });
        Ok(())
    }

    /// Has the channel taken from the sidecore.
    pub(super) fn remove(&mut self, at: usize) {
        let channel = &mut self.channels[at];
        channel.started = false;
        if channel.present {
            let channel = channel.id;
            self.ask(at, What::Remove, Order::RemoveChannel { channel });
        }
    }

    /// Begins one of the things that control does, to a channel that is at rest.
    pub(super) fn begin_something(&mut self) -> Result<(), String> {
        let at = self.random.below(self.channels.len() as u64) as usize;
        let draw = self.random.below(100);
        if draw >= 52 {
            return self.befall(at, draw);
        }
        if !self.channels[at].is_at_rest() || self.reset.is_some() || self.calamities.swaps > 0 {
            return Ok(());
        }
        let pause = Task::Pause(self.random.within(1, 60) as u32);
        let sticks = self.channels[at].sticks;
        let tasks = match draw {
            0..14 => {
                let mut tasks = vec![Task::Stop];
                if self.random.chance(60) {
                    tasks.extend([Task::Memory(None), pause, Task::Memory(Some(sticks))]);
                }
                if self.random.chance(30) {
                    tasks.push(Task::NewDriver);
                }
                tasks.push(Task::Start);
                tasks
            }
            14..30 => self.change_memory(at),
            30..36 => {
                let mut tasks = vec![Task::Suspend, pause, Task::Resume];
                if self.sabotage == Some(Sabotage::ForgetResume) {
                    tasks.pop();
                }
                tasks
            }
            36..44 => self.change_size(at),
            44..48 => vec![Task::Remove, pause, Task::Replace],
            _ => {
                let channel = &mut self.channels[at];
                let ring = self.random.below(channel.fronts.len() as u64) as usize;
                let vm = &self.vms[channel.vm];
                let Some(what) = channel.fronts[ring].misbehave(vm, &mut self.random) else { return Ok(()) };
                channel.hostile = true;
                self.trace.note(format!("channel {at}: its guest turns hostile: {what}"));
                let back = [Task::NewDriver, Task::Add, Task::Memory(Some(sticks)), Task::Start];
                [Task::Doom, Task::Remove, pause].into_iter().chain(back).collect()
            }
        };
        self.channels[at].progress = self.trace.step;
        self.channels[at].tasks.extend(tasks);
        Ok(())
    }

    /// Memory is plugged or pulled under load.
    fn change_memory(&mut self, at: usize) -> Vec<Task> {
        let stick = self.random.within(1, STICKS as u64 - 1) as usize;
        let channel = &mut self.channels[at];
        let changed = channel.sticks ^ 1 << stick;
        if changed & 1 << stick != 0 {
            return vec![Task::Memory(Some(changed))];
        }
        channel.leaving = Some(stick);
        vec![Task::Settle(stick), Task::Memory(Some(changed))]
    }

    /// A channel grows at its end, by scrubbed cells, or shrinks.
    fn change_size(&mut self, at: usize) -> Vec<Task> {
        let cells = self.channels[at].cells.clone();
        if cells.len() > 1 && self.random.chance(50) {
            let kept = self.random.within(1, cells.len() as u64 - 1) as usize;
            self.channels[at].blocks = kept * self.disk.cell_blocks() as usize;
            self.channels[at].shrunk = true;
            return vec![Task::Resize(cells[..kept].to_vec())];
        }
        let more = self.random.within(1, 2);
        let coming = self.disk.take(more, &mut self.random);
        if coming.is_empty() {
            return Vec::new();
        }
        let grown: Vec<usize> = cells.iter().chain(&coming).copied().collect();
        self.scrub(at, coming);
        // A request for blocks that the channel has lost must not find itself allowed again.
        let shrunk = std::mem::take(&mut self.channels[at].shrunk);
        let drain = shrunk.then_some(Task::Drain);
        drain.into_iter().chain([Task::Scrub, Task::Resize(grown)]).collect()
    }
}
