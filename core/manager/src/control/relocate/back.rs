//! What a move leaves behind, on whichever of the two devices the channel is not.

use vfiomux_rpc::{EventKind, ObjectKind, RpcError};
use vfiomux_sidecore::Order;

use super::super::Control;
use super::super::job::Leg;
use super::{COPIED, Place, Relocation};
use crate::event::event;
use crate::journal::Record;
use crate::label::{Label, LabelledChannel};

impl Control {
    /// The channel stays where it is: what it had on the target is scrubbed and given back.
    pub(super) fn call_off(&mut self, way: Box<Relocation>, error: RpcError) {
        self.job_is_final(way.ticket.job());
        self.seat_order(&way.id, |seat| Order::Track { channel: seat.id, map: None }, |_, _| {});
        let leg = way.leg(COPIED, 1000);
        let Relocation { id, target, ticket, .. } = *way;
        self.arrived(&target.device, &id);
        self.clear(target, id.clone(), leg, move |control| {
            control.set_operation(&id, None);
            control.rpc.reply(ticket, Err(error));
        });
    }

    /// The channel is on the target: what it had on the source is scrubbed and given back.
    pub(super) fn leave(&mut self, way: Box<Relocation>) {
        let leg = way.leg(COPIED, 1000);
        let Relocation { id, source, target, ticket, .. } = *way;
        self.arrived(&target.device, &id);
        self.give_reservation_back(&source.device, &id);
        self.clear(source, id.clone(), leg, move |control| {
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
    /// done when the device is next taken up, because the journal remembers it.
    fn clear(
        &mut self,
        place: Place,
        id: String,
        leg: Leg,
        next: impl FnOnce(&mut Control) + Send + 'static,
    ) {
        let Place { device, namespace, pool, extents, .. } = place;
        let (entry, dirty) = (id.clone(), extents.clone());
        let change = move |label: &mut Label| {
            label.channels.retain(|channel| channel.id != entry);
            label.unscrubbed.retain(|extent| !dirty.contains(extent));
            label.unscrubbed.extend(dirty);
        };
        self.relabel(&device.clone(), namespace, change, move |control, written| {
            if let Err(why) = written {
                control.kept_back(&device, &why);
                return next(control);
            }
            control.journal_append(&Record::Cleared { pool, id });
            control.scrub(&device.clone(), namespace, extents, leg, move |control, scrubbed| {
                if let Err(why) = scrubbed {
                    control.kept_back(&device, &why);
                }
                next(control);
            });
        });
    }

    fn kept_back(&mut self, device: &str, why: &str) {
        let mut fault = event(EventKind::Fault, ObjectKind::Device, device);
        fault.reason = Some(format!(
            "blocks that a move left could not be scrubbed, and are when it is next taken up: {why}"
        ));
        self.tell(fault);
    }

    /// After a start: clears what labels say of channels that have their place elsewhere.
    pub(crate) fn clear_stale(
        &mut self,
        device: &str,
        pools: &[String],
        entries: Vec<(u32, String, LabelledChannel)>,
    ) {
        // A pool whose label does not name the channel: the crash came before it did, or after it had ceased to.
        let named: Vec<(&String, &String)> =
            entries.iter().map(|(_, pool, entry)| (pool, &entry.id)).collect();
        let elsewhere = self.journal.settings().elsewhere.iter();
        let over: Vec<(String, String)> = elsewhere
            .filter(|(pool, id)| pools.contains(pool) && !named.contains(&(pool, id)))
            .cloned()
            .collect();
        for (pool, id) in over {
            self.journal_append(&Record::Cleared { pool, id });
        }
        for (namespace, pool, entry) in entries {
            let Some(limits) =
                self.devices.get(device).and_then(|d| d.namespaces.get(&namespace)).map(|seat| seat.limits)
            else {
                continue;
            };
            let Ok(map) = super::map_of(&entry.extents, &limits) else { continue };
            let place =
                Place { device: device.to_owned(), namespace, pool, limits, extents: entry.extents, map };
            self.clear(place, entry.id, Leg::default(), |_| {});
        }
    }
}
