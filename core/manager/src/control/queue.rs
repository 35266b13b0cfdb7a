//! A sidecore's way to a device of any kind.
//!
//! The kind is looked at once a call, by a branch that goes the same way for as long as a machine has one kind of device;
//! what lies behind it is compiled for each kind apart.

use std::os::fd::RawFd;

use vfiomux_block::{
    BlockQueue, Command, Completion, LaneId, LocalLane, NullQueue, RamQueue, Segment, SubmitError, Tag,
};
use vfiomux_nvme::{Lane, Queue, QueueId};

#[cfg(test)]
use crate::seeded;

/// A device's queue on one sidecore.
#[derive(Debug)]
pub(crate) enum DeviceQueue {
    Nvme(Queue),
    Null(NullQueue),
    Ram(RamQueue),
    /// ISO2's seeded bug: what its sidecore does beside a device's work.
    #[cfg(test)]
    Burdened(Box<Self>, seeded::Chores),
}

/// What a channel submits to: a submission queue, or its like on a device that we play ourselves.
#[derive(Debug)]
pub(crate) enum DeviceLane {
    Nvme(Box<Lane>),
    Local(LocalLane),
}

impl DeviceQueue {
    /// By which the controller knows it. Devices that we play ourselves need no names.
    pub(crate) fn id(&self) -> QueueId {
        match self {
            Self::Nvme(queue) => queue.id(),
            Self::Null(_) | Self::Ram(_) => QueueId(0),
            #[cfg(test)]
            Self::Burdened(queue, _) => queue.id(),
        }
    }

    /// The queue as a sidecore gets it: as it is, but where a test has put a bug in.
    #[cfg(not(test))]
    pub(crate) const fn burdened(self) -> Self {
        self
    }

    #[cfg(test)]
    pub(crate) fn burdened(self) -> Self {
        match seeded::is(seeded::Bug::PolicyOnSidecore) || seeded::is(seeded::Bug::SlowSubmissions) {
            true => Self::Burdened(Box::new(self), seeded::chores()),
            false => self,
        }
    }
}

impl DeviceLane {
    /// Its number, where the controller has given it one before it is attached.
    pub(crate) fn id(&self) -> Option<LaneId> {
        match self {
            Self::Nvme(lane) => Some(lane.id()),
            Self::Local(_) => None,
        }
    }
}

/// Calls the queue behind the kind.
macro_rules! each {
    ($self:ident, $queue:ident => $call:expr) => {
        match $self {
            Self::Nvme($queue) => $call,
            Self::Null($queue) => $call,
            Self::Ram($queue) => $call,
            #[cfg(test)]
            Self::Burdened($queue, _) => $call,
        }
    };
}

impl BlockQueue for DeviceQueue {
    type Lane = DeviceLane;

    /// # Panics
    ///
    /// When the lane was made for a device of another kind: the control side mixed its devices up.
    fn attach(&mut self, lane: DeviceLane) -> LaneId {
        match (self, lane) {
            (Self::Nvme(queue), DeviceLane::Nvme(lane)) => queue.attach(*lane),
            (Self::Null(queue), DeviceLane::Local(lane)) => queue.attach(lane),
            (Self::Ram(queue), DeviceLane::Local(lane)) => queue.attach(lane),
            #[cfg(test)]
            (Self::Burdened(queue, _), lane) => queue.attach(lane),
            (queue, lane) => panic!("{lane:?} is of another kind than {queue:?}"),
        }
    }

    fn detach(&mut self, lane: LaneId) -> Option<DeviceLane> {
        match self {
            Self::Nvme(queue) => queue.detach(lane).map(|lane| DeviceLane::Nvme(Box::new(lane))),
            Self::Null(queue) => queue.detach(lane).map(DeviceLane::Local),
            Self::Ram(queue) => queue.detach(lane).map(DeviceLane::Local),
            #[cfg(test)]
            Self::Burdened(queue, _) => queue.detach(lane),
        }
    }

    #[inline]
    fn room(&self, lane: LaneId) -> usize {
        each!(self, queue => queue.room(lane))
    }

    #[inline]
    fn in_flight(&self, lane: LaneId) -> usize {
        each!(self, queue => queue.in_flight(lane))
    }

    #[inline]
    fn in_flight_total(&self) -> usize {
        each!(self, queue => queue.in_flight_total())
    }

    #[inline]
    fn submit(
        &mut self,
        lane: LaneId,
        tag: Tag,
        command: &Command,
        data: &[Segment],
    ) -> Result<(), SubmitError> {
        #[cfg(test)]
        if let Self::Burdened(_, chores) = self {
            chores.work_off();
        }
        each!(self, queue => queue.submit(lane, tag, command, data))
    }

    #[inline]
    fn ring(&mut self) {
        each!(self, queue => queue.ring());
    }

    #[inline]
    fn poll(&mut self, budget: usize, sink: &mut impl FnMut(Completion)) -> usize {
        each!(self, queue => queue.poll(budget, sink))
    }

    #[inline]
    fn ends_at_once(&self) -> bool {
        each!(self, queue => queue.ends_at_once())
    }

    #[inline]
    fn has_ended(&self) -> bool {
        each!(self, queue => queue.has_ended())
    }

    fn abandon(&mut self, lane: LaneId, sink: &mut impl FnMut(Completion)) {
        each!(self, queue => queue.abandon(lane, sink));
    }

    fn device_ids(&self, lane: LaneId, into: &mut Vec<(u16, u16)>) {
        each!(self, queue => queue.device_ids(lane, into));
    }

    fn stray_completions(&self) -> u64 {
        each!(self, queue => queue.stray_completions())
    }

    fn wake_fd(&self) -> Option<RawFd> {
        each!(self, queue => queue.wake_fd())
    }

    fn arm(&mut self) -> bool {
        each!(self, queue => queue.arm())
    }

    fn disarm(&mut self) {
        each!(self, queue => queue.disarm());
    }
}
