//! Ending a channel, and what its end leaves to be scrubbed.

use vfiomux_policy::Destroy;
use vfiomux_rpc::{Caller, Change, ChannelInfo, ErrorCode, EventKind, ObjectKind, RpcError, Ticket, call};

use super::Control;
use super::attachment::Attachment;
use super::channel::Channel;
use super::job::Leg;
use super::question::policy_channel;
use crate::event::event;
use crate::extent::Extent;
use crate::journal::Record;
use crate::label::Label;
use crate::lifecycle::{Oper, Step};
use crate::seeded::{self, Bug};

impl Control {
    /// `channel.destroy`.
    pub(crate) fn destroy(
        &mut self,
        ticket: Ticket,
        caller: Caller,
        change: Change,
        wanted: call::ChannelDestroy,
    ) {
        let (id, question) = match self.destroying(caller, &change, &wanted) {
            Ok(destroying) => destroying,
            Err(error) => return self.rpc.reply(ticket, Err(error)),
        };
        self.ask_about(&id, caller, question, move |control, allowed| {
            let checked = allowed.and_then(|_| control.destroying(caller, &change, &wanted));
            match checked {
                Ok((id, _)) if !change.dry_run => control.destroy_and_answer(ticket, &id),
                other => control.answer_checked(ticket, other.map(|(id, _)| id)),
            }
        });
    }

    fn destroy_and_answer(&mut self, ticket: Ticket, id: &str) {
        // The last that is seen of it, for the answer.
        let Some(channel) = self.channels.get(id) else { return };
        let (info, here) = (self.channel_info(channel), self.is_device_here(channel));
        self.destroy_now(id, Leg::whole(ticket.job()), move |control, result| {
            // That a device that is not here could not be scrubbed was known and insisted on.
            let result = if here { result } else { Ok(()) };
            let gone = ChannelInfo { oper: Oper::Destroyed, ..info };
            control.rpc.reply(ticket, result.map(|()| gone.into()));
        });
    }

    fn is_device_here(&self, channel: &Channel) -> bool {
        self.devices.get(&channel.device).is_some_and(|device| device.check_ready().is_ok())
    }

    /// The channel that is to end, and the question that this puts to policies, if nothing else stands in its way.
    fn destroying(
        &self,
        caller: Caller,
        change: &Change,
        wanted: &call::ChannelDestroy,
    ) -> Result<(String, Destroy), RpcError> {
        let id = self.channel_free(&wanted.name, change.expected_generation)?;
        self.check_step(&id, Step::Destroy)?;
        let channel = self.channel_named(&wanted.name)?;
        let about = format!("channel {}", wanted.name);
        let served = channel.attachment.as_ref().is_some_and(Attachment::is_served);
        if served && !wanted.force {
            return Err(RpcError::new(
                ErrorCode::Busy,
                format!("a front-end is connected to channel {}", wanted.name),
            )
            .about(about)
            .next("stop the VM or detach the channel first, or insist with --force"));
        }
        if !self.is_device_here(channel) && !wanted.force {
            return Err(RpcError::new(
                ErrorCode::DeviceFault,
                format!("the device of channel {} is not here, so its data cannot be scrubbed", wanted.name),
            )
            .about(about)
            .next("bring the device back first, or insist with --force: the data is then scrubbed when the device comes back"));
        }
        let question = Destroy {
            channel: policy_channel(channel),
            force: wanted.force,
            caller_uid: caller.uid,
            dry_run: change.dry_run,
        };
        Ok((id, question))
    }

    /// Drains, frees and scrubs. From the first step on there is no way back, and a restart goes on where this stops.
    pub(crate) fn destroy_now(
        &mut self,
        id: &str,
        leg: Leg,
        next: impl FnOnce(&mut Control, Result<(), RpcError>) + Send + 'static,
    ) {
        self.set_operation(id, Some("being destroyed"));
        self.step(id, Step::Destroy, None);
        self.job_progress(leg, 0, 1, "draining");
        let owned = id.to_owned();
        self.unseat(id, "the channel is being destroyed", move |control| {
            control.step(&owned, Step::Drained, None);
            control.scrub_channel(&owned, leg, next);
        });
    }

    /// The blocks leave the channel on the label first; they are free only once they were scrubbed (C3).
    pub(crate) fn scrub_channel(
        &mut self,
        id: &str,
        leg: Leg,
        next: impl FnOnce(&mut Control, Result<(), RpcError>) + Send + 'static,
    ) {
        let Some(channel) = self.channels.get(id) else { return };
        let (device, namespace, extents) =
            (channel.device.clone(), channel.namespace, channel.extents.clone());
        let (owned, entry, dirty) = (id.to_owned(), id.to_owned(), extents.clone());
        let change = move |label: &mut Label| {
            label.channels.retain(|channel| channel.id != entry);
            if !seeded::is(Bug::ForgetUnscrubbed) {
                label.unscrubbed.extend(dirty);
            }
        };
        let finish = move |control: &mut Control, result: Result<(), String>| {
            let result = result.map_err(|why| {
                RpcError::new(
                    ErrorCode::DeviceFault,
                    format!("its blocks could not be scrubbed and are kept back: {why}"),
                )
                .about(format!("channel {}", control.name_of(&owned)))
                .next("they are scrubbed when the device is next taken up; see vfiomuxctl events")
            });
            let (step, why) = match &result {
                Ok(()) => (Step::Scrubbed, None),
                Err(error) => (Step::Overdue, Some(error.message.clone())),
            };
            control.step(&owned, step, why);
            control.channels.remove(&owned);
            if result.is_ok() {
                // No label names it any more. One that could not be scrubbed is remembered until its device comes back.
                control.journal_append(&Record::Forgotten { id: owned });
            }
            next(control, result);
        };
        if !self.devices.contains_key(&device) {
            return finish(self, Err("its device is not here".to_owned()));
        }
        if extents.is_empty() {
            return finish(self, Ok(()));
        }
        self.relabel(&device.clone(), namespace, change, move |control, written| match written {
            Ok(()) => control.scrub(&device, namespace, extents, leg, finish),
            Err(why) => finish(control, Err(why)),
        });
    }

    /// Scrubs blocks that the label lists as unscrubbed, takes them off that list, and makes them free.
    pub(crate) fn scrub(
        &mut self,
        device_name: &str,
        namespace: u32,
        extents: Vec<Extent>,
        leg: Leg,
        next: impl FnOnce(&mut Control, Result<(), String>) + Send + 'static,
    ) {
        let (owned, clean) = (device_name.to_owned(), extents.clone());
        let work =
            Scrub { namespace, of: extents.iter().map(|extent| extent.blocks).sum(), left: extents, leg };
        self.scrub_pieces(device_name, work, move |control, scrubbed| {
            if let Err(why) = scrubbed {
                return next(control, Err(why));
            }
            let done = clean.clone();
            control.relabel(
                &owned.clone(),
                namespace,
                move |label| label.unscrubbed.retain(|extent| !done.contains(extent)),
                move |control, written| {
                    if written.is_ok() {
                        control.give_back(&owned, namespace, &clean);
                    }
                    next(control, written);
                },
            );
        });
    }

    /// Scrubs piece by piece, so that the device's thread has time for others in between.
    fn scrub_pieces(
        &mut self,
        device_name: &str,
        mut work: Scrub,
        next: impl FnOnce(&mut Control, Result<(), String>) + Send + 'static,
    ) {
        let namespace = work.namespace;
        let left: u64 = work.left.iter().map(|extent| extent.blocks).sum();
        self.job_progress(work.leg, work.of - left, work.of, "scrubbing");
        let Some(extent) = work.left.pop() else { return next(self, Ok(())) };
        let Some(device) = self.devices.get(device_name) else {
            return next(self, Err("its device is gone".to_owned()));
        };
        let Some(limits) = device.namespaces.get(&namespace).map(|seat| seat.limits) else {
            return next(self, Err("its namespace is gone".to_owned()));
        };
        if seeded::is(Bug::SkipScrub) {
            return next(self, Ok(()));
        }
        let blocks = extent.blocks.min(PIECE_BYTES / u64::from(limits.block_bytes));
        let piece = Extent { start: extent.start, blocks };
        if blocks < extent.blocks {
            work.left.push(Extent { start: extent.start + blocks, blocks: extent.blocks - blocks });
        }
        let owned = device_name.to_owned();
        self.run_through_reset(
            device_name,
            move |warden| warden.scrub(namespace, &limits, &[piece]),
            move |control, scrubbed| match scrubbed {
                Ok(()) => control.scrub_pieces(&owned, work, next),
                Err(why) => next(control, Err(why)),
            },
        );
    }

    /// Returns blocks to the pool that hold no tenant's data.
    pub(crate) fn give_back(&mut self, device: &str, namespace: u32, extents: &[Extent]) {
        let seat = self.devices.get_mut(device).and_then(|device| device.namespaces.get_mut(&namespace));
        if let Some(Ok(carving)) = seat.map(|seat| &mut seat.carving)
            && let Err(error) = carving.pool.give_back(extents)
        {
            let mut fault = event(EventKind::Fault, ObjectKind::Device, device);
            fault.reason = Some(error.to_string());
            self.tell(fault);
        }
    }

    /// Takes a channel out of service at once: somebody did what must not be.
    pub(crate) fn quarantine(&mut self, id: &str, why: &str) {
        let Some(channel) = self.channels.get(id) else { return };
        if channel.setting.oper == Oper::Quarantined || self.check_step(id, Step::Fault).is_err() {
            return;
        }
        self.step(id, Step::Fault, Some(why.to_owned()));
        self.tell_fault(id, why);
        self.unseat(id, why, |_| {});
    }
}

/// Blocks that are being scrubbed.
struct Scrub {
    namespace: u32,
    left: Vec<Extent>,
    /// How many there were.
    of: u64,
    leg: Leg,
}

/// What is scrubbed in one go.
const PIECE_BYTES: u64 = 512 << 20;
