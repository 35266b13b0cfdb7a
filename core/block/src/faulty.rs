use std::os::fd::RawFd;

use crate::{BlockQueue, Command, Completion, LaneId, Segment, Status, SubmitError, Tag};

/// How a [`FaultyQueue`] misbehaves. Chances are in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FaultPlan {
    /// Same seed, same faults.
    pub seed: u64,
    /// A command takes up to so many polls, so that commands overtake each other; 0 ends each in the next poll.
    pub delay_polls_max: u64,
    /// Commands that fail without being carried out.
    pub error_per_mille: u64,
    /// Completions that come a second time, some polls later.
    pub duplicate_per_mille: u64,
}

/// A device that misbehaves on purpose, for tests: late, out of order, failing, repeating itself, or stuck.
///
/// A command is carried out by the queue inside when its delay is over, not when it is submitted: until then its memory must
/// stay as it was, as with a device that does DMA.
#[derive(Debug)]
pub struct FaultyQueue<Q> {
    inner: Q,
    /// What goes wrong from now on.
    pub plan: FaultPlan,
    /// Nothing completes while this is set.
    pub stuck: bool,
    /// Everything ends as [`Status::Gone`] while this is set.
    pub gone: bool,
    random: u64,
    polls: u64,
    held: Vec<Held>,
    ghosts: Vec<(u64, Completion)>,
    /// Flushes carried out.
    flushes: u64,
    /// Depth of each lane, by its number.
    depths: Vec<usize>,
}

/// A command that is at the device.
#[derive(Debug)]
struct Held {
    due: u64,
    lane: LaneId,
    tag: Tag,
    command: Command,
    data: Vec<Segment>,
    fails: bool,
}

impl<Q: BlockQueue> FaultyQueue<Q> {
    /// A queue that carries commands out by `inner`, as `plan` says.
    #[must_use]
    pub fn new(inner: Q, plan: FaultPlan) -> Self {
        Self {
            inner,
            plan,
            stuck: false,
            gone: false,
            random: plan.seed,
            polls: 0,
            held: Vec::new(),
            ghosts: Vec::new(),
            flushes: 0,
            depths: Vec::new(),
        }
    }

    /// How many flushes were carried out.
    #[must_use]
    pub fn flushes(&self) -> u64 {
        self.flushes
    }

    /// The commands at the device now.
    pub fn commands(&self) -> impl Iterator<Item = (&Command, &[Segment])> {
        self.held.iter().map(|held| (&held.command, held.data.as_slice()))
    }

    /// A number below `bound` (splitmix64).
    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }

    /// Carries a command out.
    fn run(&mut self, held: Held) -> Completion {
        let failed = Completion { tag: held.tag, status: Status::Media { code: 0x81 } };
        if self.gone {
            return Completion { status: Status::Gone, ..failed };
        }
        if held.fails {
            return failed;
        }
        self.flushes += u64::from(held.command.operation == crate::Operation::Flush);
        let mut ended = None;
        if self.inner.submit(held.lane, held.tag, &held.command, &held.data).is_ok() {
            self.inner.ring();
            self.inner.poll(1, &mut |completion| ended = Some(completion));
        }
        ended.unwrap_or(failed)
    }
}

impl<Q: BlockQueue> BlockQueue for FaultyQueue<Q> {
    type Lane = Q::Lane;

    fn attach(&mut self, lane: Q::Lane) -> LaneId {
        let id = self.inner.attach(lane);
        let index = usize::from(id.0);
        self.depths.resize(self.depths.len().max(index + 1), 0);
        if let Some(depth) = self.depths.get_mut(index) {
            *depth = self.inner.room(id);
        }
        id
    }

    fn detach(&mut self, lane: LaneId) -> Option<Q::Lane> {
        if self.in_flight(lane) > 0 {
            return None;
        }
        if let Some(depth) = self.depths.get_mut(usize::from(lane.0)) {
            *depth = 0;
        }
        self.inner.detach(lane)
    }

    fn room(&self, lane: LaneId) -> usize {
        let depth = self.depths.get(usize::from(lane.0)).copied().unwrap_or(0);
        depth.saturating_sub(self.in_flight(lane))
    }

    fn in_flight(&self, lane: LaneId) -> usize {
        self.held.iter().filter(|held| held.lane == lane).count()
    }

    fn in_flight_total(&self) -> usize {
        self.held.len()
    }

    fn submit(
        &mut self,
        lane: LaneId,
        tag: Tag,
        command: &Command,
        data: &[Segment],
    ) -> Result<(), SubmitError> {
        match self.depths.get(usize::from(lane.0)) {
            None | Some(0) => return Err(SubmitError::NoLane),
            Some(_) if self.room(lane) == 0 => return Err(SubmitError::Full),
            Some(_) => {}
        }
        let due = self.polls + 1 + self.below(self.plan.delay_polls_max + 1);
        let fails = self.below(1000) < self.plan.error_per_mille;
        self.held.push(Held { due, lane, tag, command: *command, data: data.to_vec(), fails });
        Ok(())
    }

    fn ring(&mut self) {}

    fn poll(&mut self, budget: usize, sink: &mut impl FnMut(Completion)) -> usize {
        self.polls += 1;
        if self.stuck {
            return 0;
        }
        let mut taken = 0;
        while taken < budget {
            let due: Vec<usize> = (0..self.held.len())
                .filter(|&index| self.held.get(index).is_some_and(|held| held.due <= self.polls))
                .collect();
            let pick = self.below(due.len() as u64);
            let Some(&index) = usize::try_from(pick).ok().and_then(|pick| due.get(pick)) else { break };
            let held = self.held.swap_remove(index);
            let completion = self.run(held);
            if self.below(1000) < self.plan.duplicate_per_mille {
                let due = self.polls + self.below(4);
                self.ghosts.push((due, completion));
            }
            sink(completion);
            taken += 1;
        }
        let polls = self.polls;
        self.ghosts.retain(|&(due, completion)| {
            if due <= polls {
                sink(completion);
            }
            due > polls
        });
        taken
    }

    fn abandon(&mut self, lane: LaneId, sink: &mut impl FnMut(Completion)) {
        for _ in 0..self.held.len() {
            let Some(index) = self.held.iter().position(|held| held.lane == lane) else { break };
            let held = self.held.swap_remove(index);
            let tag = held.tag;
            // Whether a command ended by a barrier was carried out is anybody's guess.
            if self.below(2) == 0 {
                self.run(held);
            }
            sink(Completion { tag, status: Status::Aborted });
        }
    }

    fn device_ids(&self, lane: LaneId, into: &mut Vec<(u16, u16)>) {
        let held = self.held.iter().filter(|held| held.lane == lane);
        // A name as good as any: the lower half of the tag's slot.
        into.extend(held.map(|held| (lane.0, (held.tag.0 >> 32) as u16)));
    }

    fn stray_completions(&self) -> u64 {
        self.inner.stray_completions()
    }

    fn wake_fd(&self) -> Option<RawFd> {
        None
    }

    fn arm(&mut self) -> bool {
        !self.stuck && !self.held.is_empty()
    }

    fn disarm(&mut self) {}
}
