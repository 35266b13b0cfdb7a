//! Moving a channel to another sidecore while it serves.
//!
//! ```text
//!   prepare   the other sidecore gets a lane for it        served as before; orders pass
//!   take      held, drained, taken with memory and rings   a pause; orders wait here
//!   place     given to the other sidecore, held no more    orders go on, there
//!   clean up  the lane that it had is deleted              served
//! ```
//!
//! What moves is the channel itself: its rings with where they stand, its memory map, its descriptors, its counters. Nothing
//! is built anew, so nothing can be forgotten, and its front-end hears nothing. All its commands have ended by then, and with
//! them its flushes; what the other sidecore submits comes after.
//!
//! A move is never worth an error. Until the channel is taken, it stays where it is when anything is in the way: another
//! operation, a fault, a device that is leaving, commands that do not end by a short deadline (V1). A place that refuses it
//! is answered by putting it back. Only when its old place does not take it either is it quarantined.
//!
//! Where a channel is served is no setting: it is not journalled, and a restart places all channels anew.

use vfiomux_block::LaneId;
use vfiomux_channel::{BlockChannel, ChannelId, Remains};
use vfiomux_nvme::QueueId;
use vfiomux_rpc::{Caller, Change, ErrorCode, EventKind, ObjectKind, RpcError, Ticket, call};
use vfiomux_sidecore::{Answer, Order};

use super::Control;
use super::channel::{Next, Seat};
use super::lines::DeviceAnswer;
use crate::event::event;
use crate::lifecycle::Life as _;

/// A channel's move, as long as it is not over.
#[derive(Default)]
pub(crate) struct Shift {
    /// Its sidecore was asked to give it up: what is asked for meanwhile waits.
    taking: bool,
    /// When the sidecore is told to keep it after all.
    keep_at_ns: Option<u64>,
    /// What waits, in order.
    waiting: Vec<Next>,
}

impl Shift {
    /// Its sidecore is being asked to give it up, by then.
    pub(crate) fn taking(keep_at_ns: u64) -> Self {
        Self { taking: true, keep_at_ns: Some(keep_at_ns), waiting: Vec::new() }
    }

    /// What waits for its end, in order.
    pub(crate) fn into_waiting(self) -> Vec<Next> {
        self.waiting
    }
}

/// From where to where.
struct Way {
    channel: String,
    device: String,
    from: Seat,
    /// Index of the other sidecore, and the channel's place there.
    to: usize,
    index: u16,
    queue: QueueId,
    base_lane: LaneId,
    /// It gets a lane of its own there.
    own_lane: bool,
    /// The operation that the move is a part of, if any.
    operation: Option<&'static str>,
    cause: Cause,
}

/// Why a channel is moved, and who asked for it if anybody did.
pub(crate) struct Cause {
    pub(crate) reason: String,
    pub(crate) uid: Option<u32>,
}

impl Control {
    /// `channel.move`.
    pub(crate) fn move_channel(
        &mut self,
        ticket: Ticket,
        caller: Caller,
        change: &Change,
        wanted: &call::ChannelMove,
    ) {
        if wanted.device.is_some() {
            return self.relocate(ticket, caller, change.clone(), wanted.clone());
        }
        let cause = || Cause { reason: "an operator moved it".to_owned(), uid: Some(caller.uid) };
        let checked = self.channel_free(&wanted.name, change.expected_generation).and_then(|id| {
            let to = wanted.sidecore.ok_or_else(|| {
                RpcError::invalid_argument(
                    "sidecore",
                    "a sidecore or a device says where to move the channel",
                )
                .next("see them with vfiomuxctl sidecore list and vfiomuxctl device list")
            })?;
            self.sidecore_show(to)?;
            let to = to as usize;
            if self
                .channels
                .get(&id)
                .and_then(|channel| channel.seat.as_ref())
                .is_some_and(|seat| seat.line == to)
            {
                return Ok((id, None));
            }
            self.way(&id, to, cause()).map_err(|why| not_moved(&wanted.name, &why))?;
            Ok((id, Some(to)))
        });
        let (id, to) = match checked {
            Ok((id, Some(to))) if !change.dry_run => (id, to),
            other => return self.answer_checked(ticket, other.map(|(id, _)| id)),
        };
        self.set_operation(&id, Some("being moved"));
        let owned = id.clone();
        self.shift(&id, to, cause(), move |control, result| {
            control.balance.note_move(&owned);
            let result = result.map_err(|why| not_moved(&control.name_of(&owned), &why));
            control.answer_channel(ticket, &owned, result);
        });
    }

    /// Moves a channel to another sidecore, then goes on. It is served all the time, but for the moment that its commands in
    /// flight take.
    pub(crate) fn shift(
        &mut self,
        id: &str,
        to: usize,
        cause: Cause,
        next: impl FnOnce(&mut Control, Result<(), String>) + Send + 'static,
    ) {
        let way = match self.way(id, to, cause) {
            Ok(way) => way,
            Err(why) => return next(self, Err(why)),
        };
        let Some(device) = self.devices.get_mut(&way.device) else {
            return next(self, Err("its device is not here".to_owned()));
        };
        device.lanes_free -= u16::from(way.own_lane);
        // Nobody takes the device from its sidecores, or the channel's old place, before this is over.
        device.seating += 1;
        self.reserved.insert((way.to, way.index));
        self.reserved.insert((way.from.line, way.from.id.index));
        if let Some(channel) = self.channels.get_mut(id) {
            channel.shift = Some(Shift::default());
        }
        if !way.own_lane {
            let lane = way.base_lane;
            return self.take(way, lane, next);
        }
        let Some(device) = self.devices.get(&way.device) else { return };
        let queue = way.queue;
        device.worker.run(
            move |warden| warden.create_lane(queue),
            move |control, made| {
                let lane = match made {
                    Ok(lane) => lane,
                    Err(why) => {
                        if let Some(device) = control.devices.get_mut(&way.device) {
                            device.lanes_free += 1;
                        }
                        return control.stays(way, None, why, next);
                    }
                };
                let number = lane.id();
                let order = Order::AttachLane { device: way.from.slot, lane };
                control.order(way.to, order, move |control, answer| match answer {
                    Answer::LaneAttached { lane } => control.take(way, lane, next),
                    // The lane's memory stays with the refused order until the controller has forgotten the lane.
                    refused => control.stays(way, number, "the sidecore did not take the lane".to_owned(), {
                        move |control: &mut Control, result| {
                            drop(refused);
                            next(control, result);
                        }
                    }),
                });
            },
        );
    }

    /// Whether the channel could be moved there now, and how. The refusal says what is in the way.
    fn way(&self, id: &str, to: usize, cause: Cause) -> Result<Way, String> {
        let channel = self.channels.get(id).ok_or("the channel is gone")?;
        let from = channel.seat.clone().ok_or("it is served by no sidecore")?;
        self.unhindered(id)?;
        if channel.shift.is_some() {
            return Err("it is being moved already".to_owned());
        }
        let device = self.devices.get(&channel.device).ok_or("its device is not here")?;
        let queue = device
            .queues
            .get(&to)
            .ok_or_else(|| format!("device {} has no queue on sidecore {to}", channel.device))?;
        Ok(Way {
            channel: id.to_owned(),
            device: channel.device.clone(),
            from,
            to,
            index: self.free_place(to).ok_or("the sidecore serves as many channels as it can")?,
            queue: queue.queue,
            base_lane: queue.base_lane,
            own_lane: device.lanes_free > 0,
            operation: channel.operation,
            cause,
        })
    }

    /// Whether nothing else goes on with a channel that moving it would get in the way of.
    pub(crate) fn unhindered(&self, id: &str) -> Result<(), String> {
        let channel = self.channels.get(id).ok_or("the channel is gone")?;
        let device = self.devices.get(&channel.device).ok_or("its device is not here")?;
        if device.check_ready().is_err() {
            return Err("its device does not serve now".to_owned());
        }
        let live = channel.attachment.as_ref().and_then(|attachment| attachment.live.as_ref());
        if channel.drains > 0 || !channel.unseating.is_empty() || live.is_some_and(|live| live.closing) {
            return Err("its commands are being waited for already".to_owned());
        }
        match channel.setting.oper.steady() {
            true => Ok(()),
            false => Err("it is on its way to another state".to_owned()),
        }
    }

    /// The lane is there: asks the channel's sidecore for it.
    fn take(
        &mut self,
        way: Way,
        lane: LaneId,
        next: impl FnOnce(&mut Control, Result<(), String>) + Send + 'static,
    ) {
        let keep_at_ns = self.after(self.deadlines.shift);
        // Making the lane can have taken long, and nobody waited for it.
        let hindrance = self.unhindered(&way.channel).err();
        let Some(channel) = self.channels.get_mut(&way.channel) else {
            return self.stays(way, Some(lane), "the channel is gone".to_owned(), next);
        };
        let place = |seat: &Seat| (seat.id, seat.lane, seat.own_lane);
        let same = channel.operation == way.operation
            && channel.seat.as_ref().is_some_and(|seat| place(seat) == place(&way.from));
        if let Some(why) = hindrance.or_else(|| (!same).then(|| "it is not as it was any more".to_owned())) {
            return self.stays(way, Some(lane), why, next);
        }
        channel.shift = Some(Shift { taking: true, keep_at_ns: Some(keep_at_ns), waiting: Vec::new() });
        let order = Order::TakeChannel { channel: way.from.id };
        self.order(way.from.line, order, move |control, answer| match answer {
            Answer::ChannelTaken { channel } => control.place(way, lane, channel, next),
            Answer::Refused { why, .. } => control.stays(way, Some(lane), why.to_string(), next),
            _ => control.stays(way, Some(lane), "its sidecore gave another answer".to_owned(), next),
        });
    }

    /// Nothing has it now but us: gives it to the other sidecore.
    fn place(
        &mut self,
        way: Way,
        lane: LaneId,
        mut block: Box<BlockChannel>,
        next: impl FnOnce(&mut Control, Result<(), String>) + Send + 'static,
    ) {
        // On a device that is being stopped there are to be no new commands: it stays held until it is taken off.
        if self.devices.get(&way.device).is_some_and(|device| device.check_ready().is_ok()) {
            block.release();
        }
        let device = way.from.slot;
        self.reseat(&way.channel, &mut block, way.place(lane));
        self.order(way.to, Order::AddChannel { channel: block, device, lane }, move |control, answer| {
            match taken_back(answer) {
                None => control.moved(way, next),
                Some((channel, why)) => control.put_back(way, lane, channel, why, next),
            }
        });
    }

    /// The other sidecore did not take it: gives it back to the one that it came from.
    fn put_back(
        &mut self,
        way: Way,
        lane: LaneId,
        mut block: Box<BlockChannel>,
        why: String,
        next: impl FnOnce(&mut Control, Result<(), String>) + Send + 'static,
    ) {
        let Seat { line, slot: device, lane: old, .. } = way.from;
        self.reseat(&way.channel, &mut block, way.from.clone());
        self.order(line, Order::AddChannel { channel: block, device, lane: old }, move |control, answer| {
            match taken_back(answer) {
                None => control.stays(way, Some(lane), why, next),
                Some((channel, _)) => control.strand(way, lane, channel, why, next),
            }
        });
    }

    /// Neither sidecore takes it. Its memory goes back as it should, and somebody has to look.
    fn strand(
        &mut self,
        way: Way,
        lane: LaneId,
        mut block: Box<BlockChannel>,
        why: String,
        next: impl FnOnce(&mut Control, Result<(), String>) + Send + 'static,
    ) {
        if let Some(channel) = self.channels.get_mut(&way.channel) {
            channel.seat = None;
        }
        block.begin_removal();
        if let Some(Remains { memory: Some(memory), .. }) = block.end_removal() {
            self.unmap(memory, |_| {});
        }
        self.quarantine(&way.channel, &format!("no sidecore took it: {why}"));
        let Way { device, from, .. } = &way;
        if from.own_lane {
            self.free_lane(&device.clone(), from.line, from.slot, from.lane, |_| {});
        }
        self.stays(way, Some(lane), why, next);
    }

    /// The name and the place that a channel has from now on.
    pub(crate) fn reseat(&mut self, id: &str, block: &mut BlockChannel, mut seat: Seat) {
        self.next_incarnation += 1;
        seat.id.incarnation = self.next_incarnation;
        seat.settings = block.settings().clone();
        seat.settings.id = seat.id;
        block.rename(seat.id);
        if let Some(channel) = self.channels.get_mut(id) {
            channel.epoch += 1;
            channel.seat = Some(seat);
        }
    }

    /// It is served by the other sidecore.
    fn moved(&mut self, way: Way, next: impl FnOnce(&mut Control, Result<(), String>) + Send + 'static) {
        let mut told = event(EventKind::Moved, ObjectKind::Channel, self.name_of(&way.channel));
        (told.from, told.to) =
            (Some(format!("sidecore {}", way.from.line)), Some(format!("sidecore {}", way.to)));
        (told.reason, told.uid) = (Some(way.cause.reason.clone()), way.cause.uid);
        self.tell(told);
        self.let_go(&way);
        let Seat { line, slot, lane, own_lane, .. } = way.from;
        let device = way.device.clone();
        let done = move |control: &mut Control| {
            control.end_seating(&way.device);
            next(control, Ok(()));
        };
        if own_lane { self.free_lane(&device, line, slot, lane, done) } else { done(self) }
    }

    /// It is served where it was. `lane` was made for it on the other sidecore, if any was.
    fn stays(
        &mut self,
        way: Way,
        lane: Option<LaneId>,
        why: String,
        next: impl FnOnce(&mut Control, Result<(), String>) + Send + 'static,
    ) {
        self.let_go(&way);
        let (device, to, slot, own_lane) = (way.device.clone(), way.to, way.from.slot, way.own_lane);
        let done = move |control: &mut Control| {
            control.end_seating(&way.device);
            next(control, Err(why));
        };
        match lane.filter(|_| own_lane) {
            Some(lane) => self.free_lane(&device, to, slot, lane, done),
            None => done(self),
        }
    }

    /// The move is over as far as the channel goes: what was asked for meanwhile is done, in order.
    fn let_go(&mut self, way: &Way) {
        self.reserved.remove(&(way.to, way.index));
        self.reserved.remove(&(way.from.line, way.from.id.index));
        let channel = self.channels.get_mut(&way.channel);
        let shift = channel.and_then(|channel| {
            // An operation that the move was a part of is over with it.
            channel.operation = channel.operation.filter(|_| way.operation.is_none());
            channel.shift.take()
        });
        for next in shift.map(|shift| shift.waiting).unwrap_or_default() {
            next(self);
        }
    }

    pub(crate) fn end_seating(&mut self, device: &str) {
        let Some(found) = self.devices.get_mut(device) else { return };
        found.seating -= 1;
        let waiting = if found.seating == 0 { std::mem::take(&mut found.after_seating) } else { Vec::new() };
        waiting.into_iter().for_each(|next| next(self));
        self.maybe_close_device(device);
    }

    /// Whether a channel is between two sidecores, so that what it is asked for has to wait.
    pub(crate) fn is_between(&self, id: &str) -> bool {
        let shift = self.channels.get(id).and_then(|channel| channel.shift.as_ref());
        shift.is_some_and(|shift| shift.taking)
    }

    /// Has `next` run when the channel's move is over, after what waits for that already.
    pub(crate) fn after_shift(&mut self, id: &str, next: impl FnOnce(&mut Control) + 'static) {
        match self.channels.get_mut(id).and_then(|channel| channel.shift.as_mut()) {
            Some(shift) => shift.waiting.push(Box::new(next)),
            None => next(self),
        }
    }

    /// Has sidecores keep what they could not give up in time.
    pub(crate) fn check_shifts(&mut self) {
        let now_ns = self.now_ns;
        let mut late = Vec::new();
        for channel in self.channels.values_mut() {
            let Some(shift) = channel.shift.as_mut() else { continue };
            if shift.keep_at_ns.take_if(|at_ns| *at_ns <= now_ns).is_some()
                && let Some(seat) = &channel.seat
            {
                late.push((seat.line, seat.id));
            }
        }
        for (line, channel) in late {
            // When it was given up already, the answer is on its way and this is refused.
            self.order(line, Order::KeepChannel { channel }, |_, _| {});
        }
    }
}

impl Way {
    /// The channel's place on the other sidecore.
    fn place(&self, lane: LaneId) -> Seat {
        let id = ChannelId { index: self.index, incarnation: 0 };
        Seat { line: self.to, id, lane, own_lane: self.own_lane, ..self.from.clone() }
    }
}

pub(crate) fn not_moved(name: &str, why: &str) -> RpcError {
    RpcError::new(ErrorCode::Busy, format!("channel {name} stays where it is: {why}"))
        .about(format!("channel {name}"))
        .next("see vfiomuxctl channel show and vfiomuxctl events, then try again")
}

/// A channel that was not taken, and why.
pub(crate) fn taken_back(answer: DeviceAnswer) -> Option<(Box<BlockChannel>, String)> {
    match answer {
        Answer::Refused { why, order } => match *order {
            Order::AddChannel { channel, .. } => Some((channel, why.to_string())),
            _ => None,
        },
        _ => None,
    }
}
