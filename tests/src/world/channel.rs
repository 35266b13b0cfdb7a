//! A channel as control sees it, its guest, and what it is to do next.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use vfiomux_block::LaneId;
use vfiomux_channel::{ChannelCounters, ChannelId};
use vfiomux_guest::{Inflight, MemoryMap};

use super::front::{FRONT_BYTES, Front, Geometry, RING_MAX, Reaped};
use super::oracle::Oracle;
use super::random::Random;
use super::vm::{Sticks, Vm};

/// A step of something that control does to a channel. A channel takes the next one when all of the last is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Task {
    /// Lets so many steps pass.
    Pause(u32),
    /// Waits until no request of the guest is outstanding.
    Drain,
    /// Waits until no request that has not been popped names a stick that is about to go.
    Settle(usize),
    /// Waits until the channel is quarantined.
    Doom,
    /// Zeroes the cells that the channel is about to have.
    Scrub,
    Add,
    /// The channel uses base and these sticks from now on; none of its memory with `None`.
    Memory(Option<Sticks>),
    Start,
    Stop,
    /// The guest starts its driver anew.
    NewDriver,
    Suspend,
    Resume,
    Resize(Vec<usize>),
    Remove,
    /// The channel is destroyed, and another takes its place.
    Replace,
}

/// A channel and its guest.
pub(super) struct Channel {
    pub(super) index: u16,
    pub(super) id: ChannelId,
    pub(super) vm: usize,
    /// Marks what it writes. No other channel, before or after, has the same.
    pub(super) owner: u32,
    pub(super) cells: Vec<usize>,
    /// Cells that are being scrubbed for it.
    pub(super) coming: Vec<usize>,
    /// What is left to be scrubbed: block of the device, and how many.
    pub(super) scrubs: VecDeque<(u64, u64)>,
    pub(super) oracle: Oracle,
    pub(super) fronts: Vec<Front>,
    /// Sticks that it lends.
    pub(super) sticks: Sticks,
    /// The stick that it is about to lend no more.
    pub(super) leaving: Option<usize>,
    /// Blocks that its guest uses: fewer than there are while it is about to shrink.
    pub(super) blocks: usize,
    pub(super) lane: LaneId,
    pub(super) inflight: Option<Inflight>,
    /// What the sidecore uses of its memory.
    pub(super) map: Weak<MemoryMap>,
    pub(super) lent: Option<Sticks>,
    /// What the sidecore was told to use instead, and has not answered.
    pub(super) next_map: Weak<MemoryMap>,
    pub(super) asked: Option<Option<Sticks>>,
    /// The cells that it will have when the sidecore has answered.
    pub(super) resizing: Vec<usize>,
    /// It was made smaller, and has not grown since.
    pub(super) shrunk: bool,
    pub(super) counters: Arc<ChannelCounters>,
    /// Requests that its rings must have popped, since it was added, once they have popped all.
    pub(super) to_pop: u64,
    /// The sidecore has it.
    pub(super) present: bool,
    /// Its rings are served.
    pub(super) started: bool,
    pub(super) suspended: bool,
    /// Its guest broke the rules, or is about to.
    pub(super) hostile: bool,
    pub(super) quarantined: bool,
    pub(super) tasks: VecDeque<Task>,
    /// Orders about it that are not answered.
    pub(super) awaited: u32,
    /// When something last went on.
    pub(super) progress: u64,
    /// What its counters said when it was last looked at.
    pub(super) activity: u64,
    /// Its back-end died.
    pub(super) crashed: bool,
    /// What was tried already to make it go on.
    pub(super) escalation: u32,
}

impl Channel {
    pub(super) fn new(
        index: u16,
        vm: usize,
        rings: u16,
        tracked: bool,
        vms: &mut [Vm],
        random: &mut Random,
    ) -> Result<Self, String> {
        let memory = &mut vms[vm];
        let fronts: Result<Vec<Front>, String> = (0..rings)
            .map(|_| {
                let addr = memory.reserve(FRONT_BYTES);
                Front::new(memory, addr, random)
            })
            .collect();
        let mut channel = Self {
            index,
            id: ChannelId { index, incarnation: 0 },
            vm,
            owner: 0,
            cells: Vec::new(),
            coming: Vec::new(),
            scrubs: VecDeque::new(),
            oracle: Oracle::new(0, 0),
            fronts: fronts?,
            sticks: 1,
            leaving: None,
            blocks: 0,
            lane: LaneId(0),
            inflight: None,
            map: Weak::new(),
            lent: None,
            next_map: Weak::new(),
            asked: None,
            resizing: Vec::new(),
            shrunk: false,
            counters: Arc::default(),
            to_pop: 0,
            present: false,
            started: false,
            suspended: false,
            hostile: false,
            quarantined: false,
            tasks: VecDeque::new(),
            awaited: 0,
            progress: 0,
            activity: 0,
            crashed: false,
            escalation: 0,
        };
        if tracked {
            channel.track()?;
        }
        Ok(channel)
    }

    /// A new region for tracking what is in flight, as a front-end asks for one.
    fn track(&mut self) -> Result<(), String> {
        let rings = self.fronts.len() as u16;
        self.inflight = Some(Inflight::create(rings, RING_MAX).map_err(|error| error.to_string())?);
        Ok(())
    }

    pub(super) fn geometry(&self, block_bytes: u64) -> Geometry {
        let leaving = self.leaving.map_or(0, |stick| 1 << stick);
        Geometry { block_bytes, blocks: self.blocks, sticks: self.sticks & !leaving }
    }

    pub(super) fn outstanding(&self) -> usize {
        self.fronts.iter().map(Front::outstanding).sum()
    }

    /// Sticks that it is about to lend.
    pub(super) fn adding(&self) -> Sticks {
        self.asked.flatten().unwrap_or(0)
    }

    /// Whether control has nothing under way with it, and it works.
    pub(super) fn is_at_rest(&self) -> bool {
        self.tasks.is_empty() && self.awaited == 0 && self.started && !self.hostile
    }

    /// Whether its guest may submit.
    pub(super) fn may_submit(&self) -> bool {
        !self.hostile && self.blocks > 0
    }

    /// Whether its rings have popped all that was submitted.
    pub(super) fn has_popped_all(&self) -> bool {
        let counters = self.counters.snapshot();
        counters.ring_wait.count() - counters.retries == self.to_pop
    }

    /// The guest's driver starts anew on all rings.
    pub(super) fn new_driver(&mut self, vm: &mut Vm, random: &mut Random) -> Result<(), String> {
        for front in &mut self.fronts {
            front.restart(vm, &mut self.oracle, random)?;
        }
        if self.inflight.is_some() {
            self.track()?;
        }
        Ok(())
    }

    /// The guest looks at its rings; with `awake` even without being called.
    pub(super) fn reap(
        &mut self,
        vm: &mut Vm,
        block_bytes: u64,
        disturbed: bool,
        awake: bool,
    ) -> Result<Reaped, String> {
        let geometry = self.geometry(block_bytes);
        let mut all = Reaped::default();
        // Of a guest that broke the rules nothing is expected any more.
        let fronts = if self.hostile { &mut [][..] } else { &mut self.fronts[..] };
        for (at, front) in fronts.iter_mut().enumerate() {
            let reaped = if awake {
                front.reap_awake(vm, &mut self.oracle, &geometry, disturbed)
            } else {
                front.reap(vm, &mut self.oracle, &geometry, disturbed)
            };
            let reaped = reaped.map_err(|wrong| format!("channel {} ring {at}: {wrong}", self.index))?;
            all.returned += reaped.returned;
            all.failed += reaped.failed;
        }
        Ok(all)
    }
}
