//! Ending commands that do not end by themselves.
//!
//! Whoever stops a ring, unmaps memory or destroys a channel waits for its commands. A device that keeps one for too long
//! is made to give it up, by harder and harder means, each with a deadline: abort, deleting the channel's submission queue,
//! halting the controller. Only the last is felt by others: their sessions end, and their front-ends connect again.

use vfiomux_rpc::{EventKind, FunctionState, ObjectKind};
use vfiomux_sidecore::{Answer, Order};

use super::Control;
use super::channel::Seat;
use super::warden::Warden;
use crate::event::event;
use crate::lifecycle::{Oper, Step};

impl Control {
    /// Looks at every deadline.
    pub(crate) fn check_deadlines(&mut self) {
        let now_ns = self.now_ns;
        let passed = |deadline: Option<u64>| deadline.is_some_and(|deadline| deadline <= now_ns);
        let stuck: Vec<String> = self
            .channels
            .values()
            .filter(|channel| passed(channel.drain_deadline_ns))
            .map(|channel| channel.setting.id.clone())
            .collect();
        for id in stuck {
            self.escalate(&id);
        }
        let overdue: Vec<(String, Oper)> = self
            .channels
            .values()
            .filter(|channel| passed(channel.deadline_ns))
            .map(|channel| (channel.setting.id.clone(), channel.setting.oper))
            .collect();
        for (id, oper) in overdue {
            if let Some(channel) = self.channels.get_mut(&id) {
                channel.deadline_ns = None;
            }
            let why = "the deadline of its state has passed".to_owned();
            match oper {
                // The drain above has ended its commands by now, or the device is being reset: the operation goes on when
                // its answer comes, and until then the channel is out of service.
                Oper::Quiescing => self.quarantine(&id, &why),
                Oper::Defined => self.step(&id, Step::Overdue, Some(why)),
                _ => {
                    let mut fault = event(EventKind::Fault, ObjectKind::Channel, self.name_of(&id));
                    fault.reason = Some(why);
                    self.tell(fault);
                }
            }
        }
    }

    fn escalate(&mut self, id: &str) {
        let next_deadline_ns = self.after(self.deadlines.step);
        let Some(channel) = self.channels.get_mut(id) else { return };
        channel.drain_deadline_ns = Some(next_deadline_ns);
        channel.escalation += 1;
        let level = channel.escalation;
        let (device, seat) = (channel.device.clone(), channel.seat.clone());
        let Some(seat) = seat else {
            channel.drain_deadline_ns = None;
            return;
        };
        let what = match (level, seat.own_lane) {
            (1, _) => "aborting its commands",
            (2, true) => "deleting its submission queue",
            (2, false) | (3, _) => "halting the controller",
            _ => return,
        };
        let mut fault = event(EventKind::Fault, ObjectKind::Channel, self.name_of(id));
        fault.reason = Some(format!("device {device} does not end its commands; {what}"));
        self.tell(fault);
        match (level, seat.own_lane) {
            (1, _) => self.seat_order(
                id,
                move |seat| Order::ListInFlight { channel: seat.id },
                move |control, answer| {
                    if let (Some(Answer::InFlight { ids }), Some(device)) =
                        (answer, control.devices.get(&device))
                    {
                        device.worker.run(move |warden| warden.abort(&ids), |_, ()| {});
                    }
                },
            ),
            (2, true) => self.replace_lane(id, &seat),
            _ => self.reset_device(&device, "it did not end its commands in time"),
        }
    }

    /// Deletes a channel's own submission queue, which ends its commands, and gives it another. The channel is then idle if
    /// somebody waits for that, and goes on with what was cut short if it is to go on.
    fn replace_lane(&mut self, id: &str, seat: &Seat) {
        // Whoever takes the channel elsewhere from now on leaves its lane to us: it is not to be deleted twice, since its number
        // may be another's by then.
        if let Some(there) = self.seat_with_lane(id, seat) {
            there.own_lane = false;
        }
        let Some(device) = self.channels.get(id).and_then(|channel| self.devices.get(&channel.device)) else {
            return;
        };
        let (old, seat, owned) = (seat.lane, seat.clone(), id.to_owned());
        device.worker.run(
            move |warden| warden.delete_lane(old),
            move |control, deleted| {
                // With the old one still there, the next means is taken at the next deadline.
                if deleted.is_err() {
                    if let Some(there) = control.seat_with_lane(&owned, &seat) {
                        there.own_lane = true;
                    }
                    return;
                }
                let (line, slot) = (seat.line, seat.slot);
                control.order(line, Order::Abandon { device: slot, lane: old }, |_, _| {});
                // Until the sidecore has let go of it, the old lane may still ring its doorbell, and where a controller has few
                // queues the new one goes by the same number: so it is made only now.
                control.order(line, Order::DetachLane { device: slot, lane: old }, move |control, answer| {
                    drop(answer);
                    control.make_lane(&owned, seat);
                });
            },
        );
    }

    /// Makes a lane for a channel whose own was deleted.
    fn make_lane(&mut self, id: &str, seat: Seat) {
        let Some(name) = self.channels.get(id).map(|channel| channel.device.clone()) else { return };
        let there = self.seat_with_lane(id, &seat).is_some();
        let Some(device) = self.devices.get_mut(&name) else { return };
        if !there {
            // The channel was taken from its sidecore meanwhile, and needs none.
            device.lanes_free += 1;
            return;
        }
        let Some(queue) = device.queues.get(&seat.line).map(|queue| queue.queue) else { return };
        let owned = id.to_owned();
        device.worker.run(
            move |warden| warden.create_lane(queue),
            move |control, made| {
                let Ok(lane) = made else {
                    // The next means is taken at the next deadline.
                    if let Some(there) = control.seat_with_lane(&owned, &seat) {
                        there.own_lane = true;
                    }
                    return;
                };
                let (line, slot, channel) = (seat.line, seat.slot, seat.id);
                control.order(line, Order::AttachLane { device: slot, lane }, move |control, answer| {
                    let Answer::LaneAttached { lane } = answer else { return };
                    match control.seat_with_lane(&owned, &seat) {
                        Some(there) => {
                            (there.lane, there.own_lane) = (lane, true);
                            control.order(line, Order::SetLane { channel, lane }, |_, _| {});
                        }
                        None => control.free_lane(&name, line, slot, lane, |_| {}),
                    }
                });
            },
        );
    }

    /// The channel's seat, when it still is the one that `seat` was, on the same lane.
    fn seat_with_lane(&mut self, id: &str, seat: &Seat) -> Option<&mut Seat> {
        let there = self.channels.get_mut(id)?.seat.as_mut()?;
        (there.id == seat.id && there.lane == seat.lane).then_some(there)
    }

    /// Halts a controller, ends all its commands, and brings it up again with its channels. One that is leaving is only halted.
    pub(crate) fn reset_device(&mut self, name: &str, why: &str) {
        let Some(device) = self.devices.get_mut(name) else { return };
        match device.state {
            FunctionState::Ready | FunctionState::Degraded => {}
            FunctionState::Lost => return self.halt_device(name, |_| {}),
            _ => return,
        }
        device.operation = Some("being reset");
        self.set_function_state(name, FunctionState::Resetting, Some(why.to_owned()));
        let owned = name.to_owned();
        self.halt_device(name, move |control| {
            control.unseat_all(&owned.clone(), "its device is being reset", move |control| {
                control.restart_device(&owned);
            });
        });
    }

    /// Stops a controller for certain, whatever its thread is waiting for, then ends every command on every lane of it.
    pub(crate) fn halt_device(&mut self, name: &str, next: impl FnOnce(&mut Control) + Send + 'static) {
        let Some(device) = self.devices.get(name) else { return next(self) };
        device.interrupt.raise();
        let owned = name.to_owned();
        device.worker.run(Warden::stop, move |control, ()| {
            let slot = control.devices.get(&owned).map(|device| device.slot);
            for (line, lane) in control.lanes_of(&owned) {
                if let Some(device) = slot {
                    control.order(line, Order::Abandon { device, lane }, |_, _| {});
                }
            }
            next(control);
        });
    }

    /// Takes every channel of a device from its sidecore, then goes on. Those that stood ready to serve have no endpoint
    /// then, those that are suspended stay so.
    pub(crate) fn unseat_all(
        &mut self,
        name: &str,
        why: &'static str,
        next: impl FnOnce(&mut Control) + Send + 'static,
    ) {
        let Some(device) = self.devices.get_mut(name) else { return next(self) };
        let owned = name.to_owned();
        if device.seating > 0 {
            let again = move |control: &mut Control| control.unseat_all(&owned, why, next);
            return device.after_seating.push(Box::new(again));
        }
        let seated = self.channels.values().find(|channel| {
            channel.device == name && (channel.seat.is_some() || !channel.unseating.is_empty())
        });
        let Some(id) = seated.map(|channel| channel.setting.id.clone()) else { return next(self) };
        self.unseat(&id.clone(), why, move |control| {
            let oper = control.channels.get(&id).map(|channel| channel.setting.oper);
            if matches!(oper, Some(Oper::Listening | Oper::Active)) {
                control.step(&id, Step::Detach, Some(why.to_owned()));
            }
            control.unseat_all(&owned, why, next);
        });
    }
}
