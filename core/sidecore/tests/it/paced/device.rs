//! The device.

use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex};

use vfiomux_block::{BlockQueue, Command, Completion, LaneId, Operation, Segment, Status, SubmitError, Tag};
use vfiomux_qos::{CostModel, Io};

use super::BLOCKS;

/// A command that went to the device.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub(super) at_ns: u64,
    pub(super) client: usize,
    pub(super) cost: u64,
    pub(super) bytes: u64,
}

/// All of them, in order.
#[derive(Debug, Clone, Default)]
pub(super) struct DeviceLog(pub(super) Vec<Sent>);

impl DeviceLog {
    /// Cost units that a client was given in [from, to).
    pub(super) fn cost(&self, client: usize, from_ns: u64, to_ns: u64) -> u64 {
        self.of(client).filter(|sent| (from_ns..to_ns).contains(&sent.at_ns)).map(|sent| sent.cost).sum()
    }

    pub(super) fn of(&self, client: usize) -> impl Iterator<Item = &Sent> {
        self.0.iter().filter(move |sent| sent.client == client)
    }
}

/// Works off one command after the other, whosever they are, or as many at once as it has hands.
#[derive(Debug)]
pub(super) struct Server {
    ns_per_unit: u64,
    pub(super) now_ns: u64,
    /// When each hand is free.
    free_at_ns: Vec<u64>,
    /// Time that a hand had nothing to do.
    pub(super) idle_ns: u64,
    pub(super) log: DeviceLog,
}

impl Server {
    pub(super) fn new(ns_per_unit: u64, hands: usize) -> Self {
        Self { ns_per_unit, now_ns: 0, free_at_ns: vec![0; hands], idle_ns: 0, log: DeviceLog::default() }
    }

    /// Takes a command. Gives when it is done.
    fn take(&mut self, command: &Command) -> u64 {
        let bytes = command.blocks * 512;
        let io = if command.operation == Operation::Read { Io::read(bytes) } else { Io::write(bytes) };
        let cost = u64::from(CostModel::default().cost(io));
        let client = usize::try_from(command.lba / BLOCKS).unwrap();
        self.log.0.push(Sent { at_ns: self.now_ns, client, cost, bytes: u64::from(bytes) });
        let hand = self.free_at_ns.iter_mut().min().unwrap();
        self.idle_ns += self.now_ns.saturating_sub(*hand);
        *hand = self.now_ns.max(*hand) + cost * self.ns_per_unit;
        *hand
    }
}

/// A sidecore's way to it.
#[derive(Debug)]
pub(super) struct PacedQueue {
    server: Arc<Mutex<Server>>,
    /// Of each lane: how deep it is, and how much is in flight.
    lanes: Vec<(usize, usize)>,
    at_device: VecDeque<(u64, LaneId, Tag)>,
}

impl PacedQueue {
    pub(super) fn new(server: Arc<Mutex<Server>>) -> Self {
        Self { server, lanes: Vec::new(), at_device: VecDeque::new() }
    }
}

impl BlockQueue for PacedQueue {
    type Lane = usize;

    fn attach(&mut self, depth: usize) -> LaneId {
        self.lanes.push((depth, 0));
        LaneId(u16::try_from(self.lanes.len() - 1).unwrap())
    }

    fn detach(&mut self, _lane: LaneId) -> Option<usize> {
        None
    }

    fn room(&self, lane: LaneId) -> usize {
        let (depth, in_flight) = self.lanes[usize::from(lane.0)];
        depth - in_flight
    }

    fn in_flight(&self, lane: LaneId) -> usize {
        self.lanes[usize::from(lane.0)].1
    }

    fn in_flight_total(&self) -> usize {
        self.at_device.len()
    }

    fn submit(
        &mut self,
        lane: LaneId,
        tag: Tag,
        command: &Command,
        _: &[Segment],
    ) -> Result<(), SubmitError> {
        if self.room(lane) == 0 {
            return Err(SubmitError::Full);
        }
        let done_ns = self.server.lock().unwrap().take(command);
        let place = self.at_device.partition_point(|done| done.0 <= done_ns);
        self.at_device.insert(place, (done_ns, lane, tag));
        self.lanes[usize::from(lane.0)].1 += 1;
        Ok(())
    }

    fn ring(&mut self) {}

    fn poll(&mut self, budget: usize, sink: &mut impl FnMut(Completion)) -> usize {
        let now_ns = self.server.lock().unwrap().now_ns;
        let mut ended = 0;
        while ended < budget
            && let Some(&(done_ns, lane, tag)) = self.at_device.front()
            && done_ns <= now_ns
        {
            self.at_device.pop_front();
            self.lanes[usize::from(lane.0)].1 -= 1;
            sink(Completion { tag, status: Status::Success });
            ended += 1;
        }
        ended
    }

    fn abandon(&mut self, _lane: LaneId, _sink: &mut impl FnMut(Completion)) {}

    fn device_ids(&self, _lane: LaneId, _into: &mut Vec<(u16, u16)>) {}

    fn stray_completions(&self) -> u64 {
        0
    }

    fn wake_fd(&self) -> Option<RawFd> {
        None
    }

    fn arm(&mut self) -> bool {
        false
    }

    fn disarm(&mut self) {}
}
