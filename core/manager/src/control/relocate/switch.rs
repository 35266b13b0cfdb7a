//! The switch-over: from the moment that a channel is in nobody's hands but ours until the other device serves it.

use std::sync::Arc;

use vfiomux_block::LaneId;
use vfiomux_channel::{BlockChannel, Remains, SetMemory};
use vfiomux_guest::MemoryMap;
use vfiomux_hw::DmaBuffer;
use vfiomux_rpc::{EventKind, ObjectKind};
use vfiomux_sidecore::{Answer, Order};

use super::super::Control;
use super::super::channel::Seat;
use super::super::grants::unused;
use super::super::lines::DeviceAnswer;
use super::super::procedure::Operation;
use super::super::queue::DeviceLane;
use super::super::seat::Choice;
use super::super::shift::{Shift, not_moved, taken_back};
use super::{COPIED, Relocation, TAKES_MAX, not_copied};
use crate::event::event;
use crate::journal::Record;
use crate::procedure::GO_OVER;

/// What was made on the target for a channel to be served there.
pub(super) struct Prepared {
    choice: Choice,
    lane: LaneId,
    /// Its own memory over there, where it needs any.
    memory: Option<DmaBuffer>,
    /// What its front-end lends, mapped for the target.
    map: Option<Arc<MemoryMap>>,
}

/// The channel itself, and the place that it came from.
pub(super) struct Taken {
    block: Box<BlockChannel>,
    seat: Seat,
}

impl Control {
    /// Makes the channel's place on the target.
    pub(super) fn prepare(&mut self, mut way: Box<Relocation>) {
        let chosen = self.choose_on(&way.id, &way.target.device, way.target.namespace, &way.target.extents);
        let choice = match chosen {
            Ok(choice) => choice,
            Err(why) => return self.call_off(way, not_copied(&why)),
        };
        let Some(device) = self.devices.get_mut(&choice.device) else {
            return self.call_off(way, not_copied("the device that it goes to is gone"));
        };
        device.lanes_free -= u16::from(choice.own_lane);
        // Nobody takes either device from its sidecores before this is over.
        device.seating += 1;
        if let Some(source) = self.devices.get_mut(&way.source.device) {
            source.seating += 1;
        }
        self.reserved.insert(choice.place());
        let (queue, own_lane, bytes) = (choice.queue, choice.own_lane, choice.settings.own_memory_bytes());
        let Some(device) = self.devices.get(&choice.device) else { return };
        device.worker.run(
            move |warden| -> Result<(Option<DeviceLane>, Option<DmaBuffer>), String> {
                let memory = warden.allocate(bytes)?;
                Ok((if own_lane { Some(warden.create_lane(queue)?) } else { None }, memory))
            },
            move |control, made| match made {
                Err(why) => {
                    control.forget_place(&way, &choice);
                    control.call_off(way, not_copied(&why));
                }
                Ok((None, memory)) => {
                    let lane = choice.base_lane;
                    way.prepared = Some(Prepared { choice, lane, memory, map: None });
                    control.take_over(way);
                }
                Ok((Some(lane), memory)) => {
                    let (line, device, number) = (choice.line, choice.slot, lane.id());
                    control.order(line, Order::AttachLane { device, lane }, move |control, answer| {
                        match answer {
                            Answer::LaneAttached { lane } => {
                                way.prepared = Some(Prepared { choice, lane, memory, map: None });
                                control.take_over(way);
                            }
                            refused => control.refuse_lane(way, choice, number, refused),
                        }
                    });
                }
            },
        );
    }

    /// Nothing was made for a choice, or nothing is left of it.
    fn forget_place(&mut self, way: &Relocation, choice: &Choice) {
        self.reserved.remove(&choice.place());
        if let Some(device) = self.devices.get_mut(&choice.device) {
            device.lanes_free += u16::from(choice.own_lane);
        }
        self.end_seating(&way.target.device);
        self.end_seating(&way.source.device);
    }

    /// The sidecore did not take a lane. Its memory stays with the refused order until the controller has forgotten it.
    fn refuse_lane(
        &mut self,
        way: Box<Relocation>,
        choice: Choice,
        lane: Option<LaneId>,
        refused: DeviceAnswer,
    ) {
        let error = || not_copied("the sidecore did not take the lane");
        let Some(lane) = lane else {
            self.forget_place(&way, &choice);
            return self.call_off(way, error());
        };
        let (device, line, slot) = (choice.device.clone(), choice.line, choice.slot);
        self.free_lane(&device, line, slot, lane, move |control| {
            drop(refused);
            control.forget_place(&way, &Choice { own_lane: false, ..choice });
            control.call_off(way, error());
        });
    }

    /// Asks the channel's sidecore for it.
    fn take_over(&mut self, mut way: Box<Relocation>) {
        let keep_at_ns = self.after(self.deadlines.shift);
        let hindrance = self.goes_on(&way).err().or_else(|| {
            let why = self.unhindered(&way.id).err()?;
            Some(not_moved(&self.name_of(&way.id), &why))
        });
        let shifting = self.channels.get(&way.id).is_none_or(|channel| channel.shift.is_some());
        if let Some(error) = hindrance.or_else(|| shifting.then(|| not_copied("it goes to another sidecore")))
        {
            return self.unprepare(way, move |control, way| control.call_off(way, error));
        }
        let Some(channel) = self.channels.get_mut(&way.id) else { return };
        let Some(seat) = channel.seat.clone() else {
            return self
                .unprepare(way, |control, way| control.call_off(way, not_copied("nothing serves it")));
        };
        channel.shift = Some(Shift::taking(keep_at_ns));
        way.takes += 1;
        let leg = way.leg(COPIED, COPIED);
        self.job_progress(leg, 0, 1, "switching over");
        let order = Order::TakeChannel { channel: seat.id };
        self.order(seat.line, order, move |control, answer| match answer {
            Answer::ChannelTaken { channel } => control.map_over(way, Taken { block: channel, seat }),
            // Its commands did not end in time, or something else came first.
            _ => {
                control.let_wait_end(&way.id);
                control.unprepare(way, |control, way| match way.takes < TAKES_MAX {
                    true => control.copy_on(way),
                    false => control.call_off(way, not_copied("its commands do not end")),
                });
            }
        });
    }

    /// Maps what the front-end lends for the target.
    fn map_over(&mut self, mut way: Box<Relocation>, taken: Taken) {
        if !taken.block.tracks(&way.dirty) {
            return self.return_to_source(way, taken, not_copied("it was made anew meanwhile"));
        }
        let live = self.channels.get(&way.id).and_then(|channel| channel.attachment.as_ref()?.live.as_ref());
        let kept = live.filter(|_| taken.block.has_memory()).map(|live| live.regions.clone());
        let domain = self.devices.get(&way.target.device).and_then(|device| device.domain.clone());
        let Some(domain) = domain else {
            return self.return_to_source(way, taken, not_copied("the device that it goes to is gone"));
        };
        let Some(kept) = kept else { return self.copy_rest(way, taken) };
        self.pinner.run(
            move |pinner| pinner.map(&domain, kept, Vec::new()),
            move |control, mapped| match mapped {
                Ok((_, map)) => {
                    if let Some(prepared) = &mut way.prepared {
                        prepared.map = Some(Arc::new(map));
                    }
                    control.copy_rest(way, taken);
                }
                Err(error) => control.return_to_source(way, taken, not_copied(&error.to_string())),
            },
        );
    }

    /// Nobody writes now: copies what is marked still, and makes it durable.
    fn copy_rest(&mut self, way: Box<Relocation>, taken: Taken) {
        if let Err(error) = self.goes_on(&way) {
            return self.return_to_source(way, taken, error);
        }
        if let Some(chunk) = way.dirty.take_from(0) {
            return self.copy_chunk(way, chunk, move |control, way, copied| match copied {
                Ok(()) => control.copy_rest(way, taken),
                Err(why) => control.return_to_source(way, taken, not_copied(&why)),
            });
        }
        self.job_is_final(way.ticket.job());
        let Some(target) = self.devices.get(&way.target.device) else { return };
        let namespace = way.target.namespace;
        target.worker.run(
            move |warden| warden.flush(namespace),
            move |control, flushed| match flushed {
                Ok(()) => control.enter(way, taken),
                Err(why) => control.return_to_source(way, taken, not_copied(&why)),
            },
        );
    }

    /// The target's label names the channel; then the journal decides.
    fn enter(&mut self, way: Box<Relocation>, taken: Taken) {
        let mut go_over = way.operation(GO_OVER, &way.target);
        go_over.wanted.uid = Some(way.uid);
        self.carry_out(go_over, move |control, gone| match gone {
            Ok(()) => control.place_over(way, taken),
            Err(why) => control.return_to_source(way, taken, not_copied(&why)),
        });
    }

    /// From here on the channel is where the operation's blocks are.
    pub(crate) fn relocated(&mut self, operation: &Operation) -> Result<(), String> {
        let Operation { id, device, namespace, blocks, wanted, .. } = operation;
        let pool = self.pool_of(device, *namespace).ok_or("the device that it goes to is gone")?;
        let channel = self.channels.get(id).ok_or("the channel is gone")?;
        let (mut setting, from) = (channel.setting.clone(), channel.setting.pool.clone());
        setting.pool = pool;
        setting.generation += 1;
        let record = Record::Relocated { setting: Box::new(setting.clone()), from };
        let mut told = event(EventKind::Moved, ObjectKind::Channel, setting.name.clone());
        (told.from, told.to) = (Some(format!("device {}", channel.device)), Some(format!("device {device}")));
        (told.generation, told.uid) = (Some(setting.generation), wanted.uid);
        self.journal.append(&record).map_err(|error| error.to_string())?;
        if let Some(channel) = self.channels.get_mut(id) {
            channel.setting = setting;
            channel.device.clone_from(device);
            channel.namespace = *namespace;
            channel.extents.clone_from(blocks);
        }
        self.tell(told);
        Ok(())
    }

    /// Gives the channel to the target's sidecore.
    fn place_over(&mut self, mut way: Box<Relocation>, taken: Taken) {
        let Taken { mut block, seat: from } = taken;
        let Some(Prepared { choice, lane, memory, map }) = way.prepared.take() else { return };
        let (line, device, own_lane) = (choice.line, choice.slot, choice.own_lane);
        let place = choice.place();
        let relocated = block.relocate(choice.settings.clone(), memory);
        if let Some(map) = map {
            if let Some(live) = self.live_mut(&way.id) {
                live.map = Arc::downgrade(&map);
            }
            match block.set_memory(map) {
                SetMemory::Replaced(Some(old)) => self.unmap(old, |_| {}),
                SetMemory::Replaced(None) => {}
                // It was taken drained.
                SetMemory::Drain(map) => self.unmap(unused(map), |_| {}),
            }
        }
        let ready = self.devices.get(&choice.device).is_some_and(|device| device.check_ready().is_ok());
        if ready {
            block.release();
        }
        let seat =
            Seat { line, id: choice.settings.id, slot: device, lane, own_lane, settings: choice.settings };
        self.reseat(&way.id, &mut block, seat);
        let done = move |control: &mut Control, left: Option<(Box<BlockChannel>, String)>| {
            control.reserved.remove(&place);
            if let Some((block, why)) = left {
                control.strand_over(&way, block, lane, &why);
            }
            control.let_wait_end(&way.id);
            control.config_changed(&way.id);
            let target = way.target.device.clone();
            let Seat { line, slot, lane, own_lane, .. } = from;
            let source = way.source.device.clone();
            let cleared = move |control: &mut Control| {
                control.end_seating(&way.source.device);
                control.leave(way);
            };
            if own_lane {
                control.free_lane(&source, line, slot, lane, cleared);
            } else {
                cleared(control);
            }
            control.end_seating(&target);
        };
        if let Err(error) = relocated {
            return done(self, Some((block, error.to_string())));
        }
        self.order(line, Order::AddChannel { channel: block, device, lane }, move |control, answer| {
            done(control, taken_back(answer));
        });
    }

    /// The target's sidecore does not take it: it is on that device all the same, and somebody has to look.
    fn strand_over(&mut self, way: &Relocation, mut block: Box<BlockChannel>, lane: LaneId, why: &str) {
        let seat = self.channels.get_mut(&way.id).and_then(|channel| channel.seat.take());
        block.begin_removal();
        if let Some(Remains { memory: Some(memory), .. }) = block.end_removal() {
            self.unmap(memory, |_| {});
        }
        if let Some(seat) = seat.filter(|seat| seat.own_lane) {
            self.free_lane(&way.target.device.clone(), seat.line, seat.slot, lane, |_| {});
        }
        self.quarantine(&way.id, &format!("no sidecore took it: {why}"));
    }

    /// The channel goes back to where it was taken from, and the move is called off.
    fn return_to_source(&mut self, way: Box<Relocation>, taken: Taken, error: vfiomux_rpc::RpcError) {
        let Taken { mut block, seat } = taken;
        if self.devices.get(&way.source.device).is_some_and(|device| device.check_ready().is_ok()) {
            block.release();
        }
        let (line, device, lane) = (seat.line, seat.slot, seat.lane);
        self.reseat(&way.id, &mut block, seat);
        self.order(line, Order::AddChannel { channel: block, device, lane }, move |control, answer| {
            if let Some((mut block, why)) = taken_back(answer) {
                if let Some(channel) = control.channels.get_mut(&way.id) {
                    channel.seat = None;
                }
                block.begin_removal();
                if let Some(Remains { memory: Some(memory), .. }) = block.end_removal() {
                    control.unmap(memory, |_| {});
                }
                control.quarantine(&way.id, &format!("its sidecore did not take it back: {why}"));
            }
            control.let_wait_end(&way.id);
            control.unprepare(way, move |control, way| control.call_off(way, error));
        });
    }

    /// What was asked of the channel meanwhile is done, in order.
    fn let_wait_end(&mut self, id: &str) {
        let shift = self.channels.get_mut(id).and_then(|channel| channel.shift.take());
        for next in shift.map(Shift::into_waiting).unwrap_or_default() {
            next(self);
        }
    }

    /// Gives up what was made on the target, then goes on.
    fn unprepare(
        &mut self,
        mut way: Box<Relocation>,
        next: impl FnOnce(&mut Control, Box<Relocation>) + Send + 'static,
    ) {
        let Some(Prepared { choice, lane, memory, map }) = way.prepared.take() else {
            return next(self, way);
        };
        drop(memory);
        if let Some(map) = map {
            self.unmap(unused(map), |_| {});
        }
        self.reserved.remove(&choice.place());
        let done = move |control: &mut Control| {
            control.end_seating(&way.target.device);
            control.end_seating(&way.source.device);
            next(control, way);
        };
        if choice.own_lane {
            self.free_lane(&choice.device.clone(), choice.line, choice.slot, lane, done);
        } else {
            done(self);
        }
    }
}
