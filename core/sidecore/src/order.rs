//! What control asks of a sidecore, and what it hears back.

use std::sync::Arc;

use vfiomux_block::{BlockQueue, Command, LaneId, Status};
use vfiomux_channel::{BlockChannel, ChannelId, DirtyMap, ExtentMap, Fault, RingStart, StoppedRing};
use vfiomux_guest::{Call, Kick, MemoryMap};
use vfiomux_hw::{DmaBuffer, Quiesced};
use vfiomux_qos::{Group, Program};

use crate::{Measured, Mode, Pace, Probe, ProbeError};

/// Where a device sits in the sidecore's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceSlot(pub u16);

/// Names one order, so that its answer can be told from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What a sidecore is asked to do. Each order gets exactly one [`Answer`], at once or when what it waits for has come.
#[derive(Debug)]
pub enum Order<Q: BlockQueue> {
    /// Take up a device. Answered by [`Answer::Done`].
    AddDevice {
        /// Where to keep it; must be free.
        device: DeviceSlot,
        /// The sidecore's way to it.
        queue: Box<Q>,
    },
    /// Give a device up once no channel uses it and nothing is in flight. Answered by [`Answer::DeviceRemoved`].
    RemoveDevice {
        /// Which.
        device: DeviceSlot,
    },
    /// Add a lane to a device. Answered by [`Answer::LaneAttached`].
    AttachLane {
        /// Which device.
        device: DeviceSlot,
        /// The lane.
        lane: Q::Lane,
    },
    /// Take a lane out once nothing is in flight on it. Answered by [`Answer::LaneDetached`].
    DetachLane {
        /// Which device.
        device: DeviceSlot,
        /// Which lane.
        lane: LaneId,
    },
    /// The lane's submission queue was deleted, or the controller reset: end its commands as aborted. Channels that go on
    /// submit theirs again as soon as they have a lane that takes them. Answered by [`Answer::Done`].
    Abandon {
        /// Which device.
        device: DeviceSlot,
        /// Which lane.
        lane: LaneId,
    },
    /// Serve a channel on a lane of a device. Answered by [`Answer::Done`].
    AddChannel {
        /// The channel.
        channel: Box<BlockChannel>,
        /// Where its commands go.
        device: DeviceSlot,
        /// Its lane there; may be shared.
        lane: LaneId,
    },
    /// Let a channel submit to another lane of its device from now on. Commands on the old lane are not touched.
    /// Answered by [`Answer::Done`].
    SetLane {
        /// Which channel.
        channel: ChannelId,
        /// The lane.
        lane: LaneId,
    },
    /// Take no new request, wait for those in flight, give the channel back. Answered by [`Answer::ChannelRemoved`].
    RemoveChannel {
        /// Which channel.
        channel: ChannelId,
    },
    /// Take no new request, wait for those in flight and for earlier orders on the channel, then hand it over as it is, with
    /// its memory and its rings, for another sidecore to go on with. Answered by [`Answer::ChannelTaken`].
    TakeChannel {
        /// Which channel.
        channel: ChannelId,
    },
    /// Keep a channel that an earlier [`Order::TakeChannel`] waits for: that one is refused as recalled, and the channel takes
    /// requests again. Answered by [`Answer::Done`]; refused when the channel is gone already.
    KeepChannel {
        /// Which channel.
        channel: ChannelId,
    },
    /// Replace what the front-end grants. Answered by [`Answer::MemoryReplaced`]: at once when the new map holds all that
    /// the old one holds, else after all requests in flight have ended.
    SetMemory {
        /// Which channel.
        channel: ChannelId,
        /// The grants from now on.
        map: Arc<MemoryMap>,
    },
    /// Serve a ring. Answered by [`Answer::Done`].
    StartRing {
        /// Which channel.
        channel: ChannelId,
        /// Which of its rings.
        index: u16,
        /// The ring and what belongs to it.
        start: Box<RingStart>,
    },
    /// Take nothing more from a ring, wait for its requests in flight, give it back. Answered by [`Answer::RingStopped`].
    StopRing {
        /// Which channel.
        channel: ChannelId,
        /// Which of its rings.
        index: u16,
    },
    /// Interrupt the guest by another descriptor, or not at all. Answered by [`Answer::Done`].
    SetCall {
        /// Which channel.
        channel: ChannelId,
        /// Which of its rings.
        index: u16,
        /// Readable when the guest is to be interrupted.
        call: Option<Call>,
    },
    /// Listen for the guest's kicks on another descriptor, or poll only. Answered by [`Answer::Done`].
    SetKick {
        /// Which channel.
        channel: ChannelId,
        /// Which of its rings.
        index: u16,
        /// Readable when the guest has made requests available.
        kick: Option<Kick>,
    },
    /// Hold a channel to a program from the next turn on; the default promises nothing and limits nothing. What is left and what
    /// is owed of a limit that the old one has too stays (Q3). Answered by [`Answer::Done`].
    SetProgram {
        /// Which channel.
        channel: ChannelId,
        /// What it is held to.
        program: Box<Program>,
    },
    /// Hold a channel to its tenant's limits too from the next turn on, beside its own; or to none. The group is shared by all of
    /// the tenant's channels on all sidecores, and is [retuned](Group::retune) in place. Answered by [`Answer::Done`].
    SetGroup {
        /// Which channel.
        channel: ChannelId,
        /// Its tenant's limits, made by [`crate::clock_ns`]; `None` for no limits.
        group: Option<Arc<Group>>,
    },
    /// Drive a device so from the next breath on. The programs of its channels, present and future, run by its cost model,
    /// whichever they were compiled for; reservations stay as many reads of 4 KiB. Answered by [`Answer::Done`].
    SetPace {
        /// Which device.
        device: DeviceSlot,
        /// How.
        pace: Pace,
    },
    /// Have a channel mark in a map what its commands change, for whoever copies it, or no longer. Answered by [`Answer::Done`].
    Track {
        /// Which channel.
        channel: ChannelId,
        /// The map.
        map: Option<Arc<DirtyMap>>,
    },
    /// Take no new request and wait for those in flight. Answered by [`Answer::Done`] when nothing is in flight.
    Suspend {
        /// Which channel.
        channel: ChannelId,
    },
    /// Take requests again, after a suspend. Answered by [`Answer::Done`].
    Resume {
        /// Which channel.
        channel: ChannelId,
    },
    /// Give a channel other blocks. Answered by [`Answer::Resized`]: at once when the new map only grows the old one, else
    /// after all requests in flight have ended.
    Resize {
        /// Which channel.
        channel: ChannelId,
        /// The blocks from now on.
        extents: ExtentMap,
    },
    /// Name a channel's lane's commands in flight as the device knows them. Answered by [`Answer::InFlight`].
    ListInFlight {
        /// Which channel.
        channel: ChannelId,
    },
    /// Carry a command of the control side's own (label, scrub) to the device. Where its lane is full it has the next place
    /// that becomes free, ahead of what channels have waiting. Answered by [`Answer::Served`].
    Service {
        /// Which device.
        device: DeviceSlot,
        /// On which lane.
        lane: LaneId,
        /// What to do; one command, within the device's limits.
        command: Command,
        /// The data, from the buffer's first byte on: `command.blocks` blocks for a read or a write.
        buffer: Option<DmaBuffer>,
        /// Bytes of data at the start of the buffer.
        data_bytes: u32,
    },
    /// Measure a device, one measurement on a sidecore at a time. Answered by [`Answer::Probed`] when it is over.
    Probe {
        /// Which device.
        device: DeviceSlot,
        /// On which lane; it is kept as full as the probe says.
        lane: LaneId,
        /// What to measure.
        probe: Box<Probe>,
    },
    /// Do something else from now on when there is nothing to do. Answered by [`Answer::Done`].
    SetMode {
        /// What.
        mode: Mode,
    },
    /// End the thread after this breath. Orders that wait are refused; those behind this one are not looked at any more.
    /// Answered by [`Answer::Done`].
    Shutdown,
}

/// How an order ended.
#[derive(Debug)]
pub enum Answer<Q: BlockQueue> {
    /// It was carried out, and there is nothing to hand over.
    Done,
    /// A device was given up.
    DeviceRemoved {
        /// The way to it.
        queue: Box<Q>,
    },
    /// A lane can be submitted to.
    LaneAttached {
        /// Its name from now on.
        lane: LaneId,
    },
    /// A lane was taken out.
    LaneDetached {
        /// What it was built from.
        lane: Q::Lane,
    },
    /// A channel is served no more. Nothing of it is in flight.
    ChannelRemoved {
        /// The channel, without memory and rings.
        channel: Box<BlockChannel>,
        /// Its memory, which no command names any more.
        memory: Option<Quiesced<Arc<MemoryMap>>>,
        /// Its rings that had not been stopped.
        rings: Vec<StoppedRing>,
    },
    /// A channel is served here no more, and can be elsewhere: with another name, and after one
    /// [`release`](BlockChannel::release).
    ChannelTaken {
        /// The channel, with memory and rings. Nothing of it is in flight, and it is held.
        channel: Box<BlockChannel>,
    },
    /// A channel uses a new memory map.
    MemoryReplaced {
        /// The old one, which no command names any more.
        old: Option<Quiesced<Arc<MemoryMap>>>,
    },
    /// A ring is served no more. Nothing of it is in flight.
    RingStopped {
        /// The ring, and where it stood.
        ring: Box<StoppedRing>,
    },
    /// A channel has other blocks.
    Resized {
        /// Those that it had; no command names them any more, unless the new map has them too.
        old: ExtentMap,
    },
    /// What a channel's lane has in flight.
    InFlight {
        /// (queue, command) by which the device knows each.
        ids: Vec<(u16, u16)>,
    },
    /// A command of the control side's own has ended.
    Served {
        /// How.
        status: Status,
        /// The buffer that it named.
        buffer: Option<DmaBuffer>,
    },
    /// A measurement has ended.
    Probed {
        /// What was measured, with its buffer.
        probe: Box<Probe>,
        /// What came out.
        result: Result<Measured, ProbeError>,
    },
    /// It was not carried out; nothing changed.
    Refused {
        /// Why.
        why: Refusal,
        /// The order, with all that it carried.
        order: Box<Order<Q>>,
    },
}

/// Why an order was not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No channel with that index and incarnation is here: it was removed meanwhile.
    #[error("the sidecore serves no such channel")]
    NoChannel,
    /// No device is in that slot.
    #[error("the sidecore has no device in that slot")]
    NoDevice,
    /// The slot or index is taken.
    #[error("that place is taken; take the present holder out first")]
    Taken,
    /// The device has no such lane.
    #[error("the device has no such lane")]
    NoLane,
    /// The channel has no such ring, or it is not started.
    #[error("the channel has no such ring")]
    NoRing,
    /// The ring is started already.
    #[error("the ring is started already; stop it first")]
    RingRunning,
    /// A ring cannot start before the front-end has granted memory.
    #[error("the channel has no memory yet; set it before starting rings")]
    NoMemory,
    /// Another order on the same thing is not finished.
    #[error("an earlier order on the same object is not finished; wait for its answer")]
    Busy,
    /// The device still has channels.
    #[error("channels still use the device; remove them first")]
    InUse,
    /// The command is not within the device's limits, or has more data than its buffer.
    #[error("the device takes no such command; cut it at the namespace's limits")]
    NotTaken,
    /// The channel's table is full.
    #[error("the sidecore has no room for the channel's index; use a lower one")]
    NoRoom,
    /// The sidecore ends.
    #[error("the sidecore is shutting down")]
    ShuttingDown,
    /// Whoever gave the order has taken it back.
    #[error("the order was recalled before it could be carried out")]
    Recalled,
    /// The channel is quarantined; it can only be removed.
    #[error("the channel is quarantined; remove it and make it anew")]
    Quarantined,
}

/// What a sidecore reports.
#[derive(Debug)]
pub enum Report<Q: BlockQueue> {
    /// An order has ended.
    Answer {
        /// Which order.
        ticket: Ticket,
        /// How.
        answer: Answer<Q>,
    },
    /// A channel's guest or front-end broke the rules. Its memory is touched no more. Reported once a channel.
    Quarantined {
        /// Which channel.
        channel: ChannelId,
        /// What it did.
        fault: Fault,
    },
    /// A device answers no more. Reported once a device.
    DeviceGone {
        /// Which device.
        device: DeviceSlot,
    },
}
