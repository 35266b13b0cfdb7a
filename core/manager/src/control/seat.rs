//! Giving a channel its place on a sidecore, and taking it away.

use vfiomux_block::LaneId;
use vfiomux_channel::{BlockChannel, ChannelId, ChannelSettings, Extent as Run, ExtentMap};
use vfiomux_hw::DmaBuffer;
use vfiomux_nvme::{Lane, QueueId};
use vfiomux_rpc::{EventKind, ObjectKind};
use vfiomux_sidecore::{Answer, DeviceSlot, Order};

use super::Control;
use super::channel::Seat;
use super::lines::{DeviceAnswer, DeviceOrder};
use super::warden::LANE_DEPTH;
use crate::event::event;

/// Blocks that one channel may have in bounce buffers at a time.
const BOUNCE_BLOCKS: u16 = 64;
/// Data segments that a guest is told to put into a request (virtio 1.3 5.2.4): 128-entry rings hold them.
const SEGMENTS_MAX: u16 = 126;

/// A place that was chosen, before anything was made for it.
struct Choice {
    line: usize,
    slot: DeviceSlot,
    queue: QueueId,
    base_lane: LaneId,
    own_lane: bool,
    settings: ChannelSettings,
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
        let Some(device) = self.channels.get(id).and_then(|channel| self.devices.get_mut(&channel.device))
        else {
            return next(self, Err("its device is not here".to_owned()));
        };
        if choice.own_lane {
            device.lanes_free -= 1;
        }
        let (queue, own_lane, bytes) = (choice.queue, choice.own_lane, choice.settings.own_memory_bytes());
        let owned = id.to_owned();
        device.worker.run(
            move |warden| -> Result<(Option<Lane>, Option<DmaBuffer>), String> {
                let memory = warden.allocate(bytes)?;
                let lane = if own_lane { Some(warden.create_lane(queue)?) } else { None };
                Ok((lane, memory))
            },
            move |control, made| match made {
                Ok((lane, memory)) => control.seat_with(&owned, choice, lane, memory, next),
                Err(why) => {
                    control.return_lane(&owned, own_lane);
                    next(control, Err(why));
                }
            },
        );
    }

    fn choose(&mut self, id: &str) -> Result<Choice, String> {
        let channel = self.channels.get(id).ok_or("the channel is gone")?;
        let device = self.devices.get(&channel.device).ok_or("its device is not here")?;
        let namespace = device.namespaces.get(&channel.namespace).ok_or("its namespace is not here")?;
        let load = |line: usize| {
            self.channels.values().filter(|c| c.seat.as_ref().is_some_and(|s| s.line == line)).count()
        };
        let (&line, queue) =
            device.queues.iter().min_by_key(|(line, _)| load(**line)).ok_or("its device has no queues")?;
        let runs: Vec<Run> =
            channel.extents.iter().map(|extent| Run { lba: extent.start, blocks: extent.blocks }).collect();
        let extents = ExtentMap::new(&runs, &namespace.limits).map_err(|error| error.to_string())?;
        let taken: Vec<u16> = self
            .channels
            .values()
            .filter_map(|c| c.seat.as_ref())
            .filter(|s| s.line == line)
            .map(|s| s.id.index)
            .collect();
        let index =
            (0..u16::MAX).find(|index| !taken.contains(index) && !self.reserved.contains(&(line, *index)));
        let index =
            index.ok_or("the sidecore serves as many channels as it can; add one with [sidecores] cpus")?;
        self.next_incarnation += 1;
        self.reserved.insert((line, index));
        let mut serial = [0; 20];
        let plain = channel.setting.id.replace('-', "");
        for (to, from) in serial.iter_mut().zip(plain.bytes()) {
            *to = from;
        }
        let settings = ChannelSettings {
            id: ChannelId { index, incarnation: self.next_incarnation },
            namespace: channel.namespace,
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
            line,
            slot: device.slot,
            queue: queue.queue,
            base_lane: queue.base_lane,
            own_lane: device.lanes_free > 0,
            settings,
        })
    }

    fn seat_with(
        &mut self,
        id: &str,
        choice: Choice,
        lane: Option<Lane>,
        memory: Option<DmaBuffer>,
        next: impl FnOnce(&mut Control, Result<(), String>) + Send + 'static,
    ) {
        let owned = id.to_owned();
        match lane {
            None => {
                let lane = choice.base_lane;
                self.add_channel(id, choice, lane, memory, next);
            }
            Some(lane) => {
                let order = Order::AttachLane { device: choice.slot, lane };
                self.order(choice.line, order, move |control, answer| match answer {
                    Answer::LaneAttached { lane } => control.add_channel(&owned, choice, lane, memory, next),
                    _ => {
                        control.reserved.remove(&(choice.line, choice.settings.id.index));
                        control.return_lane(&owned, true);
                        next(control, Err("the sidecore did not take the lane".to_owned()));
                    }
                });
            }
        }
    }

    fn add_channel(
        &mut self,
        id: &str,
        choice: Choice,
        lane: LaneId,
        memory: Option<DmaBuffer>,
        next: impl FnOnce(&mut Control, Result<(), String>) + Send + 'static,
    ) {
        let index = choice.settings.id.index;
        self.reserved.remove(&(choice.line, index));
        let settings = choice.settings.clone();
        let made = BlockChannel::new(choice.settings, memory);
        let block_channel = match made {
            Ok(channel) => Box::new(channel),
            Err(error) => {
                self.return_lane(id, choice.own_lane);
                return next(self, Err(error.to_string()));
            }
        };
        let Some(channel) = self.channels.get_mut(id) else { return };
        channel.counters = block_channel.counters().clone();
        channel.epoch += 1;
        channel.seat = Some(Seat {
            line: choice.line,
            id: settings.id,
            slot: choice.slot,
            lane,
            own_lane: choice.own_lane,
            settings,
        });
        let owned = id.to_owned();
        let order = Order::AddChannel { channel: block_channel, device: choice.slot, lane };
        self.order(choice.line, order, move |control, answer| {
            let result = match answer {
                Answer::Refused { why, .. } => {
                    if let Some(channel) = control.channels.get_mut(&owned) {
                        channel.seat = None;
                    }
                    control.return_lane(&owned, choice.own_lane);
                    Err(why.to_string())
                }
                _ => Ok(()),
            };
            next(control, result);
        });
    }

    fn return_lane(&mut self, id: &str, own: bool) {
        if own && let Some(device) = self.channels.get(id).and_then(|c| self.devices.get_mut(&c.device)) {
            device.lanes_free += 1;
        }
    }

    /// Ends a channel's session, takes it from its sidecore, and gives its lane back. What stays is its blocks.
    pub(crate) fn unseat(&mut self, id: &str, why: &str, next: impl FnOnce(&mut Control) + Send + 'static) {
        let owned = id.to_owned();
        self.arm_drain(id);
        self.end_session(id, true, why, move |control| {
            let last = owned.clone();
            control.seat_order(
                &owned.clone(),
                |seat| Order::RemoveChannel { channel: seat.id },
                move |control, answer| {
                    control.disarm_drain(&last);
                    let memory = match answer {
                        Some(Answer::ChannelRemoved { memory, .. }) => memory,
                        _ => None,
                    };
                    match memory {
                        Some(memory) => {
                            control.unmap(memory, move |control| control.give_lane_back(&last, next))
                        }
                        None => control.give_lane_back(&last, next),
                    }
                },
            );
        });
    }

    /// Deletes a removed channel's own lane, at the device first: the barrier, then at the sidecore.
    fn give_lane_back(&mut self, id: &str, next: impl FnOnce(&mut Control) + Send + 'static) {
        let Some(channel) = self.channels.get_mut(id) else { return next(self) };
        let Some(seat) = channel.seat.take() else { return next(self) };
        let device_name = channel.device.clone();
        let Some(device) = self.devices.get(&device_name).filter(|_| seat.own_lane) else {
            self.maybe_close_device(&device_name);
            return next(self);
        };
        let lane = seat.lane;
        device.worker.run(
            move |warden| warden.delete_lane(lane),
            move |control, deleted| {
                if let Err(why) = deleted {
                    let mut fault = event(EventKind::Fault, ObjectKind::Device, device_name.clone());
                    fault.reason = Some(why);
                    control.tell(fault);
                }
                let owned = device_name.clone();
                control.order(
                    seat.line,
                    Order::DetachLane { device: seat.slot, lane },
                    move |control, answer| {
                        if let (Answer::LaneDetached { .. }, Some(device)) =
                            (answer, control.devices.get_mut(&owned))
                        {
                            device.lanes_free += 1;
                        }
                        control.maybe_close_device(&owned);
                        next(control);
                    },
                );
            },
        );
    }

    /// Gives an order about a channel to its sidecore. Without a seat there is nobody to ask: `next` gets `None`.
    pub(crate) fn seat_order(
        &mut self,
        id: &str,
        order: impl FnOnce(&Seat) -> DeviceOrder,
        next: impl FnOnce(&mut Control, Option<DeviceAnswer>) + 'static,
    ) {
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

    /// From now on the channel's commands in flight have until the deadline to end.
    pub(crate) fn arm_drain(&mut self, id: &str) {
        let deadline_ns = self.after(self.deadlines.drain);
        if let Some(channel) = self.channels.get_mut(id)
            && channel.seat.is_some()
        {
            channel.drain_deadline_ns.get_or_insert(deadline_ns);
        }
    }

    pub(crate) fn disarm_drain(&mut self, id: &str) {
        if let Some(channel) = self.channels.get_mut(id) {
            channel.drain_deadline_ns = None;
            channel.escalation = 0;
        }
    }
}

/// Requests that a channel can have in flight: what its lane takes, and some that wait for a flush or a bounce buffer.
const REQUESTS: u16 = 2 * LANE_DEPTH;
