//! Measuring a device: commands of one kind, as many at it as fit, for a while.
//!
//! A device is measured where it is used: through the same queue, by the same loop, on the same processor as channels' commands. What comes
//! out is what channels can be given. A probe's commands are control's own: they carry [`CommandTag::SERVICE`], in slots that no
//! other command of control's has.

use vfiomux_block::{BlockQueue, Command, LaneId, Operation, Status, SubmitError};
use vfiomux_channel::CommandTag;
use vfiomux_hw::DmaBuffer;

use crate::{Answer, DeviceSlot, Order, Refusal, Report, Sidecore, Ticket, Work};

/// Slots from here on are a probe's.
pub(crate) const PROBE_SLOTS: u16 = 1 << 15;

/// What is measured.
#[derive(Debug)]
pub struct Probe {
    /// Reads or writes.
    pub operation: Operation,
    /// Of which namespace.
    pub namespace: u32,
    /// Where: the first block, a multiple of `blocks`.
    pub first_lba: u64,
    /// How many commands of `blocks` blocks the place has room for, at least one.
    pub units: u64,
    /// Blocks of a command.
    pub blocks: u32,
    /// One unit after the other, round and round; at random places otherwise.
    pub in_sequence: bool,
    /// How many commands are at the device at a time.
    pub depth: u16,
    /// For how long.
    pub duration_ns: u64,
    /// The data: for each command at the device, `data_bytes` of its own.
    pub buffer: DmaBuffer,
    /// Bytes of a command.
    pub data_bytes: u32,
}

/// What came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// Commands that ended in time.
    pub commands: u64,
    /// From the first to the end of the measurement.
    pub elapsed_ns: u64,
}

/// Why nothing came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// A command failed.
    #[error("the device answered {0:?}")]
    Command(Status),
    /// The device takes no such command.
    #[error("the device takes no such command; cut it at the namespace's limits")]
    NotTaken,
    /// The device or its lane was taken away.
    #[error("the device was taken away meanwhile")]
    Stopped,
}

/// A probe at work.
#[derive(Debug)]
pub(crate) struct Running {
    ticket: Ticket,
    device: u16,
    lane: LaneId,
    probe: Box<Probe>,
    /// The stamp of the command in each slot; 0 where there is none.
    stamps: Vec<u32>,
    free: Vec<u16>,
    last_stamp: u32,
    submitted: u64,
    /// State of the generator of places (xorshift, Marsaglia 2003).
    random: u64,
    commands: u64,
    begun_ns: Option<u64>,
    result: Option<Result<Measured, ProbeError>>,
}

impl Running {
    fn new(ticket: Ticket, device: u16, lane: LaneId, probe: Box<Probe>) -> Self {
        let depth = probe.depth.clamp(1, PROBE_SLOTS - 1);
        Self {
            ticket,
            device,
            lane,
            probe,
            stamps: vec![0; usize::from(depth)],
            free: (0..depth).rev().collect(),
            last_stamp: 0,
            submitted: 0,
            random: 0x9e37_79b9_7f4a_7c15,
            commands: 0,
            begun_ns: None,
            result: None,
        }
    }

    /// Which unit the next command is about.
    fn place(&mut self) -> u64 {
        let units = self.probe.units.max(1);
        if self.probe.in_sequence {
            return self.submitted % units;
        }
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        // The high part of the product is below `units`.
        ((u128::from(self.random) * u128::from(units)) >> 64) as u64
    }

    /// Has as many commands at the device as may be, until the time is over.
    fn submit(&mut self, queue: &mut impl BlockQueue, now_ns: u64) {
        let begun_ns = *self.begun_ns.get_or_insert(now_ns);
        let elapsed_ns = now_ns.saturating_sub(begun_ns);
        if self.result.is_none() && elapsed_ns >= self.probe.duration_ns {
            self.result = Some(Ok(Measured { commands: self.commands, elapsed_ns }));
        }
        while self.result.is_none()
            && let Some(&slot) = self.free.last()
        {
            let place = self.place();
            let Probe { operation, namespace, first_lba, blocks, data_bytes, ref buffer, .. } = *self.probe;
            let lba = first_lba + place * u64::from(blocks);
            let command = Command { operation, namespace, lba, blocks };
            let data = buffer.segment(usize::from(slot) * data_bytes as usize, data_bytes);
            let stamp = self.last_stamp.wrapping_add(1).max(1);
            let tag = CommandTag { owner: CommandTag::SERVICE, slot: PROBE_SLOTS + slot, stamp };
            match queue.submit(self.lane, tag.into(), &command, &[data]) {
                Ok(()) => {
                    self.free.pop();
                    if let Some(place) = self.stamps.get_mut(usize::from(slot)) {
                        *place = stamp;
                    }
                    self.last_stamp = stamp;
                    self.submitted += 1;
                }
                Err(SubmitError::Full) => return,
                Err(SubmitError::NoLane) => self.result = Some(Err(ProbeError::Stopped)),
                Err(SubmitError::Unsplit) => self.result = Some(Err(ProbeError::NotTaken)),
            }
        }
    }

    /// A command has ended. False: it is not one of the probe's in flight on that device.
    pub(crate) fn end(&mut self, tag: CommandTag, status: Status, device: u16) -> bool {
        let slot = tag.slot - PROBE_SLOTS;
        let Some(stamp) = self.stamps.get_mut(usize::from(slot)) else { return false };
        if *stamp != tag.stamp || tag.stamp == 0 || device != self.device {
            return false;
        }
        *stamp = 0;
        self.free.push(slot);
        match status {
            Status::Success => self.commands += 1,
            failed => self.result = Some(self.result.unwrap_or(Err(ProbeError::Command(failed)))),
        }
        true
    }

    /// What came out, once nothing is at the device any more.
    fn outcome(&self) -> Option<Result<Measured, ProbeError>> {
        self.result.filter(|_| self.free.len() == self.stamps.len())
    }
}

impl<Q: BlockQueue> Sidecore<Q> {
    /// Begins to measure. Refused while another measurement goes on here; answered when this one has ended.
    pub(crate) fn begin_probe(
        &mut self,
        ticket: Ticket,
        device: DeviceSlot,
        lane: LaneId,
        probe: Box<Probe>,
    ) -> Result<(), (Refusal, Order<Q>)> {
        let needed = usize::from(probe.depth) * probe.data_bytes as usize;
        let known = self.devices.get(usize::from(device.0)).and_then(Option::as_ref);
        let why = match known {
            None => Refusal::NoDevice,
            Some(found) if !found.lanes.contains(&lane) => Refusal::NoLane,
            Some(_) if self.services.probe.is_some() => Refusal::Busy,
            Some(_) if probe.buffer.len() < needed || probe.depth == 0 || probe.depth >= PROBE_SLOTS => {
                Refusal::NotTaken
            }
            Some(_) => {
                self.services.probe = Some(Box::new(Running::new(ticket, device.0, lane, probe)));
                return Ok(());
            }
        };
        Err((why, Order::Probe { device, lane, probe }))
    }

    /// Gives a probe its turn. Before the doorbells, and after the channels: what they ask for goes first.
    pub(crate) fn run_probe(&mut self, now_ns: u64, work: &mut Work) {
        let Self { services, devices, .. } = self;
        let Some(running) = &mut services.probe else { return };
        // However long the next command takes: when the time is over is to be seen.
        work.more = true;
        match devices.get_mut(usize::from(running.device)) {
            Some(Some(device)) => running.submit(&mut *device.queue, now_ns),
            _ => {
                running.result.get_or_insert(Err(ProbeError::Stopped));
            }
        }
        let Some(result) = running.outcome() else { return };
        if let Some(running) = services.probe.take() {
            let answer = Answer::Probed { probe: running.probe, result };
            self.report(Report::Answer { ticket: running.ticket, answer });
        }
    }
}
