//! What a move leaves behind, on whichever of the two devices the channel is not.

use vfiomux_rpc::{EventKind, ObjectKind, RpcError};
use vfiomux_sidecore::Order;

use super::super::Control;
use super::super::procedure::Operation;
use super::{COPIED, Relocation};
use crate::event::event;
use crate::procedure::CLEAR;

impl Control {
    /// The other device did not take a note of the channel: nothing of it is there.
    pub(super) fn turned_away(&mut self, way: Relocation, error: RpcError) {
        self.job_is_final(way.ticket.job());
        self.arrived(&way.target.device, &way.id);
        self.set_operation(&way.id, None);
        self.rpc.reply(way.ticket, Err(error));
    }

    /// The channel stays where it is: what it had on the target is scrubbed and given back.
    pub(super) fn call_off(&mut self, way: Box<Relocation>, error: RpcError) {
        self.job_is_final(way.ticket.job());
        self.seat_order(&way.id, |seat| Order::Track { channel: seat.id, map: None }, |_, _| {});
        self.arrived(&way.target.device, &way.id);
        let clear = way.operation(CLEAR, &way.target).part(way.leg(COPIED, 1000));
        let Relocation { id, ticket, .. } = *way;
        self.clear(clear, move |control| {
            control.set_operation(&id, None);
            control.rpc.reply(ticket, Err(error));
        });
    }

    /// The channel is on the target: what it had on the source is scrubbed and given back.
    pub(super) fn leave(&mut self, way: Box<Relocation>) {
        self.arrived(&way.target.device, &way.id);
        self.give_reservation_back(&way.source.device, &way.id);
        let clear = way.operation(CLEAR, &way.source).part(way.leg(COPIED, 1000));
        let Relocation { id, ticket, .. } = *way;
        self.clear(clear, move |control| {
            control.set_operation(&id, None);
            control.answer_channel(ticket, &id, Ok(()));
        });
    }

    /// A channel is not on its way to a device any more.
    fn arrived(&mut self, device: &str, id: &str) {
        self.give_reservation_back(device, id);
        if let Some(device) = self.devices.get_mut(device) {
            device.incoming = device.incoming.saturating_sub(1);
        }
    }

    /// Takes a channel's blocks from the place where it is not: off the label, scrubbed, free (C3). What cannot be done now is
    /// done when the device is next taken up, because the journal or the label remembers it.
    pub(crate) fn clear(&mut self, clear: Operation, next: impl FnOnce(&mut Control) + Send + 'static) {
        let device = clear.device.clone();
        self.carry_out(clear, move |control, cleared| {
            if let Err(why) = cleared {
                control.kept_back(&device, &why);
            }
            next(control);
        });
    }

    fn kept_back(&mut self, device: &str, why: &str) {
        let mut fault = event(EventKind::Fault, ObjectKind::Device, device);
        fault.reason = Some(format!(
            "blocks that a move left could not be scrubbed, and are when it is next taken up: {why}"
        ));
        self.tell(fault);
    }
}
