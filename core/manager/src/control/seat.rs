//! Giving a channel its place on a sidecore, and taking it away.

use std::collections::BTreeSet;

use vfiomux_block::LaneId;
use vfiomux_channel::{BlockChannel, ChannelId, ChannelSettings, Extent as Run, ExtentMap};
use vfiomux_hw::DmaBuffer;
use vfiomux_nvme::QueueId;
use vfiomux_rpc::{EventKind, ObjectKind};
use vfiomux_sidecore::{Answer, DeviceSlot, Order};

use super::Control;
use super::channel::Seat;
use super::lines::{DeviceAnswer, DeviceOrder};
use super::queue::DeviceLane;
use super::tune::compile;
use super::warden::LANE_DEPTH;
use crate::event::event;
use crate::extent::Extent;
use crate::seeded::{self, Bug};

/// Blocks that one channel may have in bounce buffers at a time.
const BOUNCE_BLOCKS: u16 = 64;
/// Data segments that a guest is told to put into a request (virtio 1.3 5.2.4): 128-entry rings hold them.
const SEGMENTS_MAX: u16 = 126;

/// A place that was chosen, before anything was made for it.
pub(crate) struct Choice {
    pub(crate) device: String,
    pub(crate) line: usize,
    pub(crate) slot: DeviceSlot,
    pub(crate) queue: QueueId,
    pub(crate) base_lane: LaneId,
    pub(crate) own_lane: bool,
    pub(crate) settings: ChannelSettings,
}

impl Choice {
    pub(crate) fn place(&self) -> (usize, u16) {
        (self.line, self.settings.id.index)
    }
}

impl Control {
    /// Puts a channel on the least busy sidecore that has its device: a lane, memory of its own, then the order.
    pub(crate) fn seat(
        &mut self,
        id: &str,
        next: impl FnOnce(&mut Control, Result<(), String>) + Send + 'static,
    ) {
        let choice = match self.choose(id) {
            Ok(choice) => choice,
            Err(why) => return next(self, Err(why)),
        };
        let Some(device) = self.devices.get_mut(&choice.device) else {
            return next(self, Err("its device is not here".to_owned()));
        };
        device.lanes_free -= u16::from(choice.own_lane);
        device.seating += 1;
        self.reserved.insert(choice.place());
        let (place, device_name, owned) = (choice.place(), choice.device.clone(), id.to_owned());
        let seated = move |control: &mut Control, result: Result<(), String>| {
            control.reserved.remove(&place);
            let Some(device) = control.devices.get_mut(&device_name) else { return next(control, result) };
            device.seating -= 1;
            let serves = device.check_ready().is_ok();
            let waiting =
                if device.seating == 0 { std::mem::take(&mut device.after_seating) } else { Vec::new() };
            if result.is_ok() && !serves {
                let why = "its device left meanwhile";
                control.unseat(&owned, why, move |control| next(control, Err(why.to_owned())));
            } else {
                next(control, result);
            }
            waiting.into_iter().for_each(|next| next(control));
            control.maybe_close_device(&device_name);
        };
        let Some(device) = self.devices.get(&choice.device) else { return };
        let (queue, own_lane, bytes) = (choice.queue, choice.own_lane, choice.settings.own_memory_bytes());
        let owned = id.to_owned();
        device.worker.run(
            move |warden| -> Result<(Option<DeviceLane>, Option<DmaBuffer>), String> {
                let memory = warden.allocate(bytes)?;
                let lane = if own_lane { Some(warden.create_lane(queue)?) } else { None };
                Ok((lane, memory))
            },
            move |control, made| match made {
                Ok((lane, memory)) => control.seat_with(&owned, choice, lane, memory, seated),
                Err(why) => {
                    if let Some(device) = control.devices.get_mut(&choice.device) {
                        device.lanes_free += u16::from(own_lane);
                    }
                    seated(control, Err(why));
                }
            },
        );
    }

    fn choose(&mut self, id: &str) -> Result<Choice, String> {
        let channel = self.channels.get(id).ok_or("the channel is gone")?;
        let (device, extents) = (channel.device.clone(), channel.extents.clone());
        self.choose_on(id, &device, channel.namespace, &extents)
    }

    /// A place for a channel that has these blocks of a device.
    pub(crate) fn choose_on(
        &mut self,
        id: &str,
        device: &str,
        namespace_id: u32,
        extents: &[Extent],
    ) -> Result<Choice, String> {
        let channel = self.channels.get(id).ok_or("the channel is gone")?;
        let device = self.devices.get(device).ok_or("its device is not here")?;
        let namespace = device.namespaces.get(&namespace_id).ok_or("its namespace is not here")?;
        let (&line, queue) = device
            .queues
            .iter()
            .min_by_key(|(line, _)| self.crowding(**line))
            .ok_or("its device has no queues")?;
        let runs: Vec<Run> =
            extents.iter().map(|extent| Run { lba: extent.start, blocks: extent.blocks }).collect();
        let extents = ExtentMap::new(&runs, &namespace.limits).map_err(|error| error.to_string())?;
        let index = self
            .free_place(line)
            .ok_or("the sidecore serves as many channels as it can; add one with [sidecores] cpus")?;
        self.next_incarnation += 1;
        let mut serial = [0; 20];
        let plain = channel.setting.serial.clone().unwrap_or_else(|| channel.setting.id.replace('-', ""));
        for (to, from) in serial.iter_mut().zip(plain.bytes()) {
            *to = from;
        }
        let settings = ChannelSettings {
            id: ChannelId { index, incarnation: self.next_incarnation },
            namespace: namespace_id,
            limits: namespace.limits,
            extents,
            serial,
            read_only: channel.setting.read_only,
            rings: channel.setting.queues,
            requests: REQUESTS,
            segments_max: SEGMENTS_MAX,
            bounce_blocks: BOUNCE_BLOCKS,
        };
        Ok(Choice {
            device: device.name.clone(),
            line,
            slot: device.slot,
            queue: queue.queue,
            base_lane: queue.base_lane,
            own_lane: device.lanes_free > 0,
            settings,
        })
    }

    /// What speaks against one more channel on a sidecore: tenths of its time that are taken, then how many channels it has.
    fn crowding(&self, line: usize) -> (u32, usize) {
        (self.lines.get(line).map_or(0, |line| line.busy_permille / 100), self.places_taken(line).len())
    }

    /// A place on a sidecore that no channel has, and none is about to have.
    pub(crate) fn free_place(&self, line: usize) -> Option<u16> {
        let taken = self.places_taken(line);
        (0..u16::MAX).find(|index| !taken.contains(index))
    }

    fn places_taken(&self, line: usize) -> BTreeSet<u16> {
        let seats = self.channels.values().filter_map(|channel| channel.seat.as_ref());
        let seated = seats.filter(|seat| seat.line == line).map(|seat| seat.id.index);
        seated.chain(self.reserved.range((line, 0)..=(line, u16::MAX)).map(|(_, index)| *index)).collect()
    }

    fn seat_with(
        &mut self,
        id: &str,
        choice: Choice,
        lane: Option<DeviceLane>,
        memory: Option<DmaBuffer>,
        next: impl FnOnce(&mut Control, Result<(), String>) + Send + 'static,
    ) {
        let Some(lane) = lane else {
            let lane = choice.base_lane;
            return self.add_channel(id, choice, lane, memory, next);
        };
        let (owned, lane_id) = (id.to_owned(), lane.id());
        let order = Order::AttachLane { device: choice.slot, lane };
        self.order(choice.line, order, move |control, answer| match answer {
            Answer::LaneAttached { lane } => control.add_channel(&owned, choice, lane, memory, next),
            refused => {
                let Some(lane_id) = lane_id else {
                    return next(control, Err("the sidecore did not take the lane".to_owned()));
                };
                // The lane's memory stays with the refused order until the controller has forgotten the lane.
                control.free_lane(&choice.device, choice.line, choice.slot, lane_id, move |control| {
                    drop(refused);
                    next(control, Err("the sidecore did not take the lane".to_owned()));
                });
            }
        });
    }

    fn add_channel(
        &mut self,
        id: &str,
        choice: Choice,
        lane: LaneId,
        memory: Option<DmaBuffer>,
        next: impl FnOnce(&mut Control, Result<(), String>) + Send + 'static,
    ) {
        let Choice { device, line, slot, own_lane, settings, .. } = choice;
        let next = move |control: &mut Control, result: Result<(), String>| match result {
            Err(why) if own_lane => {
                control.free_lane(&device, line, slot, lane, move |control| next(control, Err(why)));
            }
            result => next(control, result),
        };
        let mut block_channel = match BlockChannel::new(settings.clone(), memory) {
            Ok(channel) => Box::new(channel),
            Err(error) => return next(self, Err(error.to_string())),
        };
        let tenant = self.channels.get(id).map(|channel| channel.setting.tenant.clone());
        let group = tenant.and_then(|tenant| self.group_of(&tenant));
        block_channel.set_group(group, 0);
        let Some(channel) = self.channels.get_mut(id) else {
            return next(self, Err("the channel is gone".to_owned()));
        };
        if !channel.setting.guarantees.is_none() {
            match compile(&channel.setting.guarantees) {
                Ok(program) => block_channel.set_program(program, vfiomux_sidecore::clock_ns()),
                Err(error) => return next(self, Err(error.to_string())),
            }
        }
        channel.counters = block_channel.counters().clone();
        channel.epoch += 1;
        channel.seat = Some(Seat { line, id: settings.id, slot, lane, own_lane, settings });
        let owned = id.to_owned();
        let order = Order::AddChannel { channel: block_channel, device: slot, lane };
        self.order(line, order, move |control, answer| match answer {
            Answer::Refused { why, .. } => {
                if let Some(channel) = control.channels.get_mut(&owned) {
                    channel.seat = None;
                }
                next(control, Err(why.to_string()));
            }
            _ => next(control, Ok(())),
        });
    }

    /// Ends a channel's session, takes it from its sidecore, and gives its lane back. What stays is its blocks. Whoever asks
    /// while that is under way waits for it too.
    pub(crate) fn unseat(&mut self, id: &str, why: &str, next: impl FnOnce(&mut Control) + 'static) {
        let Some(channel) = self.channels.get_mut(id) else { return next(self) };
        channel.unseating.push(Box::new(next));
        if channel.unseating.len() > 1 {
            return;
        }
        let owned = id.to_owned();
        self.end_session(id, true, why, move |control| {
            let last = owned.clone();
            control.drained_order(
                &owned,
                move |seat| Order::RemoveChannel { channel: seat.id },
                move |control, answer| match answer {
                    Some(Answer::ChannelRemoved { memory: Some(memory), .. }) => {
                        control.unmap(memory, move |control| control.give_lane_back(&last));
                    }
                    _ => control.give_lane_back(&last),
                },
            );
        });
    }

    /// Gives up the lane of a channel that its sidecore no longer has, then goes on with whoever waited.
    fn give_lane_back(&mut self, id: &str) {
        let Some(channel) = self.channels.get_mut(id) else { return };
        let (seat, device) = (channel.seat.take(), channel.device.clone());
        let owned = id.to_owned();
        let done = move |control: &mut Control| {
            let waiting =
                control.channels.get_mut(&owned).map(|channel| std::mem::take(&mut channel.unseating));
            let device = control.channels.get(&owned).map(|channel| channel.device.clone());
            waiting.unwrap_or_default().into_iter().for_each(|next| next(control));
            if let Some(device) = device {
                control.maybe_close_device(&device);
            }
        };
        match seat.filter(|seat| seat.own_lane && !seeded::is(Bug::KeepQueuePair)) {
            Some(seat) => self.free_lane(&device, seat.line, seat.slot, seat.lane, done),
            None => done(self),
        }
    }

    /// Deletes a lane that no channel uses, at the device first: the barrier, then at the sidecore.
    pub(crate) fn free_lane(
        &mut self,
        device: &str,
        line: usize,
        slot: DeviceSlot,
        lane: LaneId,
        next: impl FnOnce(&mut Control) + Send + 'static,
    ) {
        let Some(found) = self.devices.get(device) else { return next(self) };
        let owned = device.to_owned();
        found.worker.run(
            move |warden| warden.delete_lane(lane),
            move |control, deleted| {
                if let Err(why) = &deleted {
                    let mut fault = event(EventKind::Fault, ObjectKind::Device, owned.clone());
                    fault.reason = Some(why.clone());
                    control.tell(fault);
                }
                control.order(line, Order::DetachLane { device: slot, lane }, move |control, _| {
                    if let Some(device) = control.devices.get_mut(&owned).filter(|_| deleted.is_ok()) {
                        device.lanes_free += 1;
                    }
                    next(control);
                });
            },
        );
    }

    /// Gives an order about a channel to its sidecore; when it is between two, to the one that it comes to. Without a seat
    /// there is nobody to ask: `next` gets `None`.
    pub(crate) fn seat_order(
        &mut self,
        id: &str,
        order: impl FnOnce(&Seat) -> DeviceOrder + 'static,
        next: impl FnOnce(&mut Control, Option<DeviceAnswer>) + 'static,
    ) {
        if self.is_between(id) {
            let owned = id.to_owned();
            return self.after_shift(id, move |control| control.seat_order(&owned, order, next));
        }
        match self.channels.get(id).and_then(|channel| channel.seat.as_ref()) {
            Some(seat) => {
                let (line, order) = (seat.line, order(seat));
                self.order(line, order, move |control, answer| next(control, Some(answer)));
            }
            None => next(self, None),
        }
    }

    /// Gives an order to a sidecore.
    pub(crate) fn order(
        &mut self,
        line: usize,
        order: DeviceOrder,
        next: impl FnOnce(&mut Control, DeviceAnswer) + 'static,
    ) {
        if let Some(line) = self.lines.get_mut(line) {
            line.send(order, Box::new(next));
        }
    }

    /// As [`Self::seat_order`], for an order that is answered when commands have ended. They have until the deadline to do so by
    /// themselves; then they are made to (V1).
    pub(crate) fn drained_order(
        &mut self,
        id: &str,
        order: impl FnOnce(&Seat) -> DeviceOrder + 'static,
        next: impl FnOnce(&mut Control, Option<DeviceAnswer>) + 'static,
    ) {
        if self.is_between(id) {
            let owned = id.to_owned();
            return self.after_shift(id, move |control| control.drained_order(&owned, order, next));
        }
        let deadline_ns = self.after(self.deadlines.drain);
        if let Some(channel) = self.channels.get_mut(id) {
            channel.drains += 1;
            channel.drain_deadline_ns.get_or_insert(deadline_ns);
        }
        let owned = id.to_owned();
        self.seat_order(id, order, move |control, answer| {
            if let Some(channel) = control.channels.get_mut(&owned) {
                channel.drains = channel.drains.saturating_sub(1);
                if channel.drains == 0 {
                    channel.drain_deadline_ns = None;
                    channel.escalation = 0;
                }
            }
            next(control, answer);
        });
    }
}

/// Requests that a channel can have in flight: what its lane takes, and some that wait for a flush or a bounce buffer.
const REQUESTS: u16 = 2 * LANE_DEPTH;
