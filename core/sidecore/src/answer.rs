//! Carrying out orders, and answering each once.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use vfiomux_block::{BlockQueue, LaneId, Segment, SubmitError};
use vfiomux_channel::{Asked, BlockChannel, ChannelId, CommandTag, ExtentMap, Remains, SetMemory};
use vfiomux_guest::MemoryMap;

use crate::device::{Device, Router, Seat};
use crate::sidecore::SHOWN_AT_ONCE;
use crate::wake::Source;
use crate::{Answer, DeviceSlot, Order, Refusal, Report, Sidecore, Ticket};

/// An order that waits for something to end.
#[derive(Debug)]
pub(crate) struct Pending<Q: BlockQueue> {
    ticket: Ticket,
    order: Order<Q>,
}

/// What became of an order.
enum Outcome<Q: BlockQueue> {
    /// It is answered.
    Answer(Answer<Q>),
    /// It waits for something.
    Wait(Order<Q>),
    /// It was refused, and comes back.
    Refuse(Refusal, Order<Q>),
    /// The answer comes by another way.
    Later,
}

impl<Q: BlockQueue> Sidecore<Q> {
    /// Carries out what is in the mailbox. Gives how many orders there were.
    pub(crate) fn take_orders(&mut self, now_ns: u64) -> usize {
        for count in 0..self.budgets.orders {
            // Looked at before it is popped: popping from an empty queue costs a full fence.
            if self.shut_down || !self.mailbox.has_orders() {
                return count;
            }
            let Some((ticket, order)) = self.mailbox.take_order() else { return count };
            self.counters().orders.add(1);
            self.changed = true;
            let outcome = self.begin(ticket, order, now_ns);
            self.conclude(ticket, outcome);
        }
        self.budgets.orders
    }

    /// Looks again at the orders that wait, oldest first.
    pub(crate) fn settle(&mut self) {
        let mut index = 0;
        while index < self.pending.len() {
            // Those have their own time in a breath, when there is room.
            if matches!(self.pending.get(index), Some(Pending { order: Order::Service { .. }, .. })) {
                index += 1;
                continue;
            }
            let Pending { ticket, order } = self.pending.remove(index);
            match self.try_finish(order) {
                Outcome::Wait(order) => {
                    self.pending.insert(index, Pending { ticket, order });
                    index += 1;
                }
                outcome => {
                    self.changed = true;
                    self.conclude(ticket, outcome);
                }
            }
        }
    }

    fn conclude(&mut self, ticket: Ticket, outcome: Outcome<Q>) {
        let answer = match outcome {
            Outcome::Answer(answer) => answer,
            Outcome::Refuse(why, order) => Answer::Refused { why, order: Box::new(order) },
            Outcome::Wait(order) => return self.pending.push(Pending { ticket, order }),
            Outcome::Later => return,
        };
        self.report(Report::Answer { ticket, answer });
    }

    /// The first step of an order; for those that wait, the one that makes the wait end.
    fn begin(&mut self, ticket: Ticket, order: Order<Q>, now_ns: u64) -> Outcome<Q> {
        if self.is_busy_with(&order) {
            return Outcome::Refuse(Refusal::Busy, order);
        }
        match order {
            Order::AddDevice { device, queue } => self.add_device(device, queue),
            Order::AttachLane { device, lane } => match self.device_mut(device) {
                Some(found) => {
                    let lane = found.queue.attach(lane);
                    found.lanes.push(lane);
                    Outcome::Answer(Answer::LaneAttached { lane })
                }
                None => Outcome::Refuse(Refusal::NoDevice, Order::AttachLane { device, lane }),
            },
            Order::Abandon { device, lane } => self.abandon(device, lane, now_ns),
            Order::AddChannel { channel, device, lane } => self.add_channel(channel, device, lane, now_ns),
            Order::SetMode { mode } => {
                self.mode = mode;
                Outcome::Answer(Answer::Done)
            }
            Order::SetLane { channel, lane } => self.set_lane(channel, lane),
            Order::StartRing { channel, index, start } => {
                let again = |start| Order::StartRing { channel, index, start };
                let Some(found) = self.channel_mut(channel) else {
                    return Outcome::Refuse(Refusal::NoChannel, again(start));
                };
                if found.fault().is_some() {
                    return Outcome::Refuse(Refusal::Quarantined, again(start));
                }
                if found.is_ending() {
                    return Outcome::Refuse(Refusal::Busy, again(start));
                }
                if !found.has_memory() {
                    return Outcome::Refuse(Refusal::NoMemory, again(start));
                }
                let why = if found.has_ring(index) { Refusal::RingRunning } else { Refusal::NoRing };
                if let Err(start) = found.start_ring(index, start) {
                    return Outcome::Refuse(why, again(start));
                }
                self.hear_ring(channel, index);
                Outcome::Answer(Answer::Done)
            }
            Order::SetCall { channel, index, call } => match self.channel_mut(channel) {
                Some(found) if found.has_ring(index) => {
                    found.set_call(index, call);
                    Outcome::Answer(Answer::Done)
                }
                found => Outcome::Refuse(no_ring(found), Order::SetCall { channel, index, call }),
            },
            Order::SetKick { channel, index, kick } => match self.channel_mut(channel) {
                Some(found) if found.has_ring(index) => {
                    self.ignore_ring(channel, index);
                    if let Some(found) = self.channel_mut(channel) {
                        found.set_kick(index, kick);
                    }
                    self.hear_ring(channel, index);
                    Outcome::Answer(Answer::Done)
                }
                found => Outcome::Refuse(no_ring(found), Order::SetKick { channel, index, kick }),
            },
            Order::SetProgram { channel, program } => match self.channel_mut(channel) {
                Some(found) => {
                    found.set_program(*program, now_ns);
                    self.enrol(channel.index, now_ns);
                    Outcome::Answer(Answer::Done)
                }
                None => Outcome::Refuse(Refusal::NoChannel, Order::SetProgram { channel, program }),
            },
            Order::Track { channel, map } => match self.channel_mut(channel) {
                Some(found) => {
                    found.track(map);
                    Outcome::Answer(Answer::Done)
                }
                None => Outcome::Refuse(Refusal::NoChannel, Order::Track { channel, map }),
            },
            Order::SetGroup { channel, group } => match self.channel_mut(channel) {
                Some(found) => {
                    found.set_group(group, now_ns);
                    self.enrol(channel.index, now_ns);
                    Outcome::Answer(Answer::Done)
                }
                None => Outcome::Refuse(Refusal::NoChannel, Order::SetGroup { channel, group }),
            },
            Order::SetPace { device, pace } => {
                let Some(found) = self.device_mut(device) else {
                    return Outcome::Refuse(Refusal::NoDevice, Order::SetPace { device, pace });
                };
                found.pace = pace;
                self.keep_pace(device.0, now_ns);
                Outcome::Answer(Answer::Done)
            }
            Order::Resume { channel } => match self.channel_mut(channel) {
                Some(found) => {
                    found.resume();
                    Outcome::Answer(Answer::Done)
                }
                None => Outcome::Refuse(Refusal::NoChannel, Order::Resume { channel }),
            },
            Order::KeepChannel { channel } => self.keep_channel(channel),
            Order::ListInFlight { channel } => self.list_in_flight(channel),
            Order::Service { .. } => self.serve_control(ticket, order),
            Order::Probe { device, lane, probe } => match self.begin_probe(ticket, device, lane, probe) {
                Ok(()) => Outcome::Later,
                Err((why, order)) => Outcome::Refuse(why, order),
            },
            Order::Shutdown => {
                self.shut_down = true;
                for Pending { ticket, order } in std::mem::take(&mut self.pending) {
                    self.conclude(ticket, Outcome::Refuse(Refusal::ShuttingDown, order));
                }
                Outcome::Answer(Answer::Done)
            }
            order => self.begin_wait(order),
        }
    }

    /// The first step of an order on a channel that may have to wait.
    fn begin_wait(&mut self, order: Order<Q>) -> Outcome<Q> {
        if let Some(id) = channel_of(&order) {
            let Some(channel) = self.channel_mut(id) else {
                return Outcome::Refuse(Refusal::NoChannel, order);
            };
            match &order {
                Order::StopRing { index, .. } if !channel.has_ring(*index) => {
                    return Outcome::Refuse(Refusal::NoRing, order);
                }
                Order::SetMemory { .. } | Order::Resize { .. } | Order::TakeChannel { .. }
                    if channel.fault().is_some() =>
                {
                    return Outcome::Refuse(Refusal::Quarantined, order);
                }
                Order::StopRing { index, .. } => channel.begin_stop(*index),
                Order::RemoveChannel { .. } => channel.begin_removal(),
                Order::Suspend { .. } => channel.suspend(),
                Order::SetMemory { .. } | Order::Resize { .. } | Order::TakeChannel { .. } => channel.hold(),
                _ => {}
            }
        }
        self.try_finish(order)
    }

    /// The last step of an order that may have to wait.
    fn try_finish(&mut self, order: Order<Q>) -> Outcome<Q> {
        match order {
            Order::StopRing { channel, index } => {
                let Some(found) = self.channel_mut(channel) else {
                    return Outcome::Refuse(Refusal::NoChannel, order);
                };
                if !found.ring_is_drained(index) {
                    return Outcome::Wait(order);
                }
                found.publish();
                self.ignore_ring(channel, index);
                let ring = self.channel_mut(channel).and_then(|found| found.take_ring(index));
                let Some(ring) = ring else { return Outcome::Refuse(Refusal::NoRing, order) };
                Outcome::Answer(Answer::RingStopped { ring: Box::new(ring) })
            }
            Order::SetMemory { channel, map } => self.set_memory(channel, map),
            Order::Resize { channel, extents } => self.resize(channel, extents),
            Order::Suspend { channel } => match self.channel_mut(channel) {
                Some(found) if found.is_drained() => Outcome::Answer(Answer::Done),
                Some(_) => Outcome::Wait(order),
                None => Outcome::Refuse(Refusal::NoChannel, order),
            },
            Order::RemoveChannel { channel } => self.remove_channel(channel),
            Order::TakeChannel { channel } => self.take_channel(channel),
            Order::DetachLane { device, lane } => self.detach_lane(device, lane),
            Order::RemoveDevice { device } => self.remove_device(device),
            // Every other order was answered by `begin`.
            order => Outcome::Refuse(Refusal::Busy, order),
        }
    }

    fn add_device(&mut self, slot: DeviceSlot, queue: Box<Q>) -> Outcome<Q> {
        let index = usize::from(slot.0);
        if self.devices.len() <= index {
            self.devices.resize_with(index + 1, || None);
        }
        match self.devices.get_mut(index) {
            Some(place @ None) => {
                if let Some(fd) = queue.wake_fd() {
                    self.wakes.listen(Source::Device(slot.0), fd);
                }
                *place = Some(Device::new(queue));
                Outcome::Answer(Answer::Done)
            }
            _ => Outcome::Refuse(Refusal::Taken, Order::AddDevice { device: slot, queue }),
        }
    }

    fn remove_device(&mut self, slot: DeviceSlot) -> Outcome<Q> {
        let order = Order::RemoveDevice { device: slot };
        let Some(place) = self.devices.get_mut(usize::from(slot.0)) else {
            return Outcome::Refuse(Refusal::NoDevice, order);
        };
        match place {
            None => Outcome::Refuse(Refusal::NoDevice, order),
            Some(device) if device.channels > 0 => Outcome::Refuse(Refusal::InUse, order),
            Some(device) if device.in_flight() => Outcome::Wait(order),
            Some(_) => match place.take() {
                Some(Device { queue, .. }) => {
                    if let Some(fd) = queue.wake_fd() {
                        self.wakes.forget(Source::Device(slot.0), fd);
                    }
                    Outcome::Answer(Answer::DeviceRemoved { queue })
                }
                None => Outcome::Refuse(Refusal::NoDevice, order),
            },
        }
    }

    fn detach_lane(&mut self, device: DeviceSlot, lane: LaneId) -> Outcome<Q> {
        let order = Order::DetachLane { device, lane };
        let in_use = self.seats.iter().any(|seat| {
            seat.device == device.0
                && seat.channel.as_ref().is_some_and(|channel| channel.lane() == Some(lane))
        });
        let Some(found) = self.device_mut(device) else { return Outcome::Refuse(Refusal::NoDevice, order) };
        if in_use {
            return Outcome::Refuse(Refusal::InUse, order);
        }
        if found.queue.in_flight(lane) > 0 {
            return Outcome::Wait(order);
        }
        match found.queue.detach(lane) {
            Some(parts) => {
                found.lanes.retain(|&id| id != lane);
                Outcome::Answer(Answer::LaneDetached { lane: parts })
            }
            None => Outcome::Refuse(Refusal::NoLane, order),
        }
    }

    /// Ends a lane's commands, and leaves its channels without a lane: the next that control gives them takes their requests.
    fn abandon(&mut self, slot: DeviceSlot, lane: LaneId, now_ns: u64) -> Outcome<Q> {
        let Self { devices, seats, services, mailbox, .. } = self;
        let Some(Some(Device { queue, flushes, schedule, gone, .. })) = devices.get_mut(usize::from(slot.0))
        else {
            return Outcome::Refuse(Refusal::NoDevice, Order::Abandon { device: slot, lane });
        };
        // First, so that what is to end, and cannot be done again, is not put back.
        for seat in seats.iter_mut().filter(|seat| seat.device == slot.0) {
            if let Some(channel) = &mut seat.channel
                && channel.lane() == Some(lane)
            {
                channel.set_lane(None);
            }
        }
        let counters = mailbox.counters();
        let mut router =
            Router { seats, flushes, services, gone, others: 0, counters, device: slot.0, now_ns };
        let mut ended = 0;
        queue.abandon(lane, &mut |completion| {
            ended += 1;
            router.abandoned(completion);
        });
        if let Some(schedule) = schedule {
            schedule.ended(ended - router.others);
        }
        Outcome::Answer(Answer::Done)
    }

    fn add_channel(
        &mut self,
        mut channel: Box<BlockChannel>,
        slot: DeviceSlot,
        lane: LaneId,
        now_ns: u64,
    ) -> Outcome<Q> {
        let ChannelId { index, incarnation } = channel.id();
        let refuse = |why, channel| Outcome::Refuse(why, Order::AddChannel { channel, device: slot, lane });
        if index >= CommandTag::CHANNELS_MAX {
            return refuse(Refusal::NoRoom, channel);
        }
        if self.seats.len() <= usize::from(index) {
            self.seats.resize_with(usize::from(index) + 1, Seat::default);
        }
        let (Some(seat), Some(Some(device))) =
            (self.seats.get_mut(usize::from(index)), self.devices.get_mut(usize::from(slot.0)))
        else {
            return refuse(Refusal::NoDevice, channel);
        };
        if !device.lanes.contains(&lane) {
            return refuse(Refusal::NoLane, channel);
        }
        if seat.channel.is_some() || incarnation <= seat.last_incarnation {
            return refuse(Refusal::Taken, channel);
        }
        channel.join(lane, seat.last_stamp);
        device.channels += 1;
        device.flushes.make_room(channel.settings().namespace, device.channels as usize);
        *seat = Seat {
            device: slot.0,
            part: if device.queue.ends_at_once() { SHOWN_AT_ONCE } else { u32::MAX },
            flush_noted: false,
            last_incarnation: incarnation,
            channel: Some(channel),
            asked: Asked::Nothing,
            ..*seat
        };
        self.turns.push(index);
        self.enrol(index, now_ns);
        // One that comes from another sidecore brings its kicks along.
        self.hear_channel(index);
        Outcome::Answer(Answer::Done)
    }

    fn set_lane(&mut self, id: ChannelId, lane: LaneId) -> Outcome<Q> {
        let order = Order::SetLane { channel: id, lane };
        let device = self.seats.get(usize::from(id.index)).map(|seat| DeviceSlot(seat.device));
        let known =
            device.and_then(|slot| self.device_mut(slot)).is_some_and(|device| device.lanes.contains(&lane));
        match self.channel_mut(id) {
            None => Outcome::Refuse(Refusal::NoChannel, order),
            Some(_) if !known => Outcome::Refuse(Refusal::NoLane, order),
            Some(channel) => {
                channel.set_lane(Some(lane));
                Outcome::Answer(Answer::Done)
            }
        }
    }

    fn remove_channel(&mut self, id: ChannelId) -> Outcome<Q> {
        let order = Order::RemoveChannel { channel: id };
        let Some(channel) = self.channel_mut(id) else { return Outcome::Refuse(Refusal::NoChannel, order) };
        let Some(Remains { memory, rings }) = channel.end_removal() else { return Outcome::Wait(order) };
        for ring in &rings {
            if let Some(kick) = &ring.kick {
                self.wakes.forget(Source::Kick(id.index, ring.index), kick.as_fd().as_raw_fd());
            }
        }
        match self.unseat(id) {
            Some(channel) => Outcome::Answer(Answer::ChannelRemoved { channel, memory, rings }),
            None => Outcome::Refuse(Refusal::NoChannel, order),
        }
    }

    fn take_channel(&mut self, id: ChannelId) -> Outcome<Q> {
        let order = Order::TakeChannel { channel: id };
        // Orders that came before are about the channel here, and are carried out here.
        let awaited = self.pending.iter().any(|pending| channel_of(&pending.order) == Some(id));
        let Some(channel) = self.channel_mut(id) else { return Outcome::Refuse(Refusal::NoChannel, order) };
        if channel.fault().is_some() {
            return Outcome::Refuse(Refusal::Quarantined, order);
        }
        if awaited || !channel.is_movable() {
            return Outcome::Wait(order);
        }
        channel.publish();
        match self.unseat(id) {
            Some(channel) => Outcome::Answer(Answer::ChannelTaken { channel }),
            None => Outcome::Refuse(Refusal::NoChannel, order),
        }
    }

    fn keep_channel(&mut self, id: ChannelId) -> Outcome<Q> {
        let order = Order::KeepChannel { channel: id };
        let wanted =
            |pending: &Pending<Q>| matches!(pending.order, Order::TakeChannel { channel } if channel == id);
        let Some(at) = self.pending.iter().position(wanted) else {
            return Outcome::Refuse(Refusal::NoChannel, order);
        };
        let Pending { ticket, order } = self.pending.remove(at);
        if let Some(channel) = self.channel_mut(id) {
            channel.release();
        }
        self.conclude(ticket, Outcome::Refuse(Refusal::Recalled, order));
        Outcome::Answer(Answer::Done)
    }

    /// Takes a channel out of its place. Nothing of it is in flight.
    fn unseat(&mut self, id: ChannelId) -> Option<Box<BlockChannel>> {
        self.ignore_channel(id.index);
        let seat = self.seats.get_mut(usize::from(id.index))?;
        let channel = seat.channel.take()?;
        seat.last_stamp = channel.last_stamp();
        if let Some(Some(device)) = self.devices.get_mut(usize::from(seat.device)) {
            device.channels -= 1;
            device.flushes.forget(id.index);
            let window_commands = device.window_commands();
            if let Some(schedule) = &mut device.schedule {
                schedule.remove(id.index);
                schedule.resize(window_commands);
            }
        }
        let slot = seat.device;
        self.end_schedule(slot);
        if let Some(place) = self.turns.iter().position(|&index| index == id.index) {
            self.turns.remove(place);
            // Those behind it move up, and whoever comes first in the next breath still does.
            self.first_turn -= usize::from(place < self.first_turn);
        }
        Some(channel)
    }

    fn set_memory(&mut self, id: ChannelId, map: Arc<MemoryMap>) -> Outcome<Q> {
        let Some(channel) = self.channel_mut(id) else {
            return Outcome::Refuse(Refusal::NoChannel, Order::SetMemory { channel: id, map });
        };
        match channel.set_memory(map) {
            SetMemory::Drain(map) => Outcome::Wait(Order::SetMemory { channel: id, map }),
            SetMemory::Replaced(old) => {
                channel.release();
                Outcome::Answer(Answer::MemoryReplaced { old })
            }
        }
    }

    fn resize(&mut self, id: ChannelId, extents: ExtentMap) -> Outcome<Q> {
        let Some(channel) = self.channel_mut(id) else {
            return Outcome::Refuse(Refusal::NoChannel, Order::Resize { channel: id, extents });
        };
        match channel.set_extents(extents) {
            Err(extents) => Outcome::Wait(Order::Resize { channel: id, extents }),
            Ok(old) => {
                channel.release();
                Outcome::Answer(Answer::Resized { old })
            }
        }
    }

    fn list_in_flight(&mut self, id: ChannelId) -> Outcome<Q> {
        let mut ids = Vec::new();
        let Some(channel) = self.channel_mut(id) else {
            return Outcome::Refuse(Refusal::NoChannel, Order::ListInFlight { channel: id });
        };
        let lane = channel.lane();
        let device = self.seats.get(usize::from(id.index)).map(|seat| DeviceSlot(seat.device));
        if let (Some(lane), Some(device)) = (lane, device.and_then(|slot| self.device_mut(slot))) {
            device.queue.device_ids(lane, &mut ids);
        }
        Outcome::Answer(Answer::InFlight { ids })
    }

    /// Submits those of control's own commands that found their lanes full, oldest first.
    pub(crate) fn submit_services(&mut self) {
        let mut index = 0;
        while index < self.pending.len() {
            if !matches!(self.pending.get(index), Some(Pending { order: Order::Service { .. }, .. })) {
                index += 1;
                continue;
            }
            let Pending { ticket, order } = self.pending.remove(index);
            match self.serve_control(ticket, order) {
                Outcome::Wait(order) => {
                    self.pending.insert(index, Pending { ticket, order });
                    index += 1;
                }
                outcome => self.conclude(ticket, outcome),
            }
        }
    }

    /// Submits a command of control's own. Answered when it has ended.
    fn serve_control(&mut self, ticket: Ticket, order: Order<Q>) -> Outcome<Q> {
        let Order::Service { device, lane, command, buffer, data_bytes } = order else {
            return Outcome::Later;
        };
        let again = |buffer| Order::Service { device, lane, command, buffer, data_bytes };
        let data: Option<Segment> = match &buffer {
            Some(buffer) if data_bytes as usize > buffer.len() => None,
            Some(buffer) => Some(buffer.segment(0, data_bytes)),
            None => None,
        };
        if command.operation.moves_data() && data.is_none() {
            return Outcome::Refuse(Refusal::NotTaken, again(buffer));
        }
        let Some(Some(found)) = self.devices.get_mut(usize::from(device.0)) else {
            return Outcome::Refuse(Refusal::NoDevice, again(buffer));
        };
        let tag = self.services.begin(ticket, device.0, buffer);
        let data = data.filter(|_| command.operation.moves_data());
        match found.queue.submit(lane, tag.into(), &command, data.as_slice()) {
            Ok(()) => Outcome::Later,
            Err(error) => {
                let order = again(self.services.recall(tag));
                match error {
                    SubmitError::Full => Outcome::Wait(order),
                    SubmitError::NoLane => Outcome::Refuse(Refusal::NoLane, order),
                    SubmitError::Unsplit => Outcome::Refuse(Refusal::NotTaken, order),
                }
            }
        }
    }

    /// Answers the commands of control's own that have ended.
    pub(crate) fn answer_services(&mut self) {
        while self.services.ended {
            if let Some((ticket, status, buffer)) = self.services.take_ended() {
                self.report(Report::Answer { ticket, answer: Answer::Served { status, buffer } });
            }
        }
    }

    /// Whether an earlier order on the same thing waits, so that this one must not overtake it.
    fn is_busy_with(&self, order: &Order<Q>) -> bool {
        self.pending.iter().any(|pending| match (&pending.order, order) {
            (Order::StopRing { channel: a, index: i }, Order::StopRing { channel: b, index: j }) => a == b && i == j,
            (Order::SetMemory { channel: a, .. }, Order::SetMemory { channel: b, .. })
            | (Order::Resize { channel: a, .. }, Order::Resize { channel: b, .. })
            | (Order::RemoveChannel { channel: a }, Order::RemoveChannel { channel: b })
            | (Order::TakeChannel { channel: a }, Order::TakeChannel { channel: b })
            | (Order::Suspend { channel: a }, Order::Suspend { channel: b } | Order::Resume { channel: b }) => a == b,
            (Order::DetachLane { device: a, lane: x }, Order::DetachLane { device: b, lane: y }) => a == b && x == y,
            (Order::RemoveDevice { device: a }, Order::RemoveDevice { device: b }) => a == b,
            _ => false,
        })
    }

    fn device_mut(&mut self, slot: DeviceSlot) -> Option<&mut Device<Q>> {
        self.devices.get_mut(usize::from(slot.0))?.as_mut()
    }

    /// The channel with that index and incarnation.
    pub(crate) fn channel_mut(&mut self, id: ChannelId) -> Option<&mut BlockChannel> {
        let channel = self.seats.get_mut(usize::from(id.index))?.channel.as_deref_mut()?;
        (channel.id() == id).then_some(channel)
    }
}

fn no_ring(channel: Option<&mut BlockChannel>) -> Refusal {
    if channel.is_some() { Refusal::NoRing } else { Refusal::NoChannel }
}

/// The channel that an order which may wait is about.
fn channel_of<Q: BlockQueue>(order: &Order<Q>) -> Option<ChannelId> {
    match order {
        Order::StopRing { channel, .. }
        | Order::RemoveChannel { channel }
        | Order::TakeChannel { channel }
        | Order::Suspend { channel }
        | Order::SetMemory { channel, .. }
        | Order::Resize { channel, .. } => Some(*channel),
        _ => None,
    }
}
