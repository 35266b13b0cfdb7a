//! Ending a channel, and what its end leaves to be scrubbed.

use vfiomux_policy::Destroy;
use vfiomux_rpc::{Caller, Change, ChannelInfo, ErrorCode, EventKind, ObjectKind, RpcError, Ticket, call};

use super::Control;
use super::attachment::Attachment;
use super::channel::Channel;
use super::job::Leg;
use super::procedure::Operation;
use super::question::policy_channel;
use crate::event::event;
use crate::extent::Extent;
use crate::lifecycle::{Oper, Step};
use crate::procedure::{CLEAN_UP, END, STOP};
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
        let (info, here, owned) = (self.channel_info(channel), self.is_device_here(channel), id.to_owned());
        self.destroy_now(id, Leg::whole(ticket.job()), move |control, result| {
            // That a device that is not here could not be scrubbed was known and insisted on: it is enough that the channel is gone.
            let insisted = !here && !control.channels.contains_key(&owned);
            let result = if insisted { Ok(()) } else { result };
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
        if !seeded::is(Bug::DestroyUnchecked) {
            self.check_step(&id, Step::Destroy)?;
        }
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

    /// Drains, frees and scrubs. With the first step taken there is no way back, and a restart goes on where this stops.
    pub(crate) fn destroy_now(
        &mut self,
        id: &str,
        leg: Leg,
        next: impl FnOnce(&mut Control, Result<(), RpcError>) + Send + 'static,
    ) {
        self.set_operation(id, Some("being destroyed"));
        let Some(channel) = self.channels.get(id) else { return };
        let (stop, owned) = (Operation::on(STOP, channel), id.to_owned());
        self.job_progress(leg, 0, 1, "draining");
        self.carry_out(stop, move |control, stopped| match stopped {
            Ok(()) => control.end_channel(&owned, leg, next),
            // It is not on its way to its end: whatever it has, it keeps.
            Err(why) => {
                control.set_operation(&owned, None);
                let about = format!("channel {}", control.name_of(&owned));
                next(control, Err(RpcError::new(ErrorCode::Conflict, why).about(about)));
            }
        });
    }

    /// The rest of a destruction, also of one that a crash has cut short.
    pub(crate) fn end_channel(
        &mut self,
        id: &str,
        leg: Leg,
        next: impl FnOnce(&mut Control, Result<(), RpcError>) + Send + 'static,
    ) {
        let Some(channel) = self.channels.get(id) else { return };
        let name = channel.setting.name.clone();
        self.carry_out(Operation::on(END, channel).part(leg), move |control, ended| {
            let ended = ended.map_err(|why| {
                RpcError::new(
                    ErrorCode::DeviceFault,
                    format!("its blocks could not be scrubbed and are kept back: {why}"),
                )
                .about(format!("channel {name}"))
                .next("they are scrubbed when the device is next taken up; see vfiomuxctl events")
            });
            next(control, ended);
        });
    }

    /// Scrubs blocks that the label lists as unscrubbed, takes them off that list, and makes them free.
    pub(crate) fn scrub(
        &mut self,
        device: &str,
        namespace: u32,
        extents: Vec<Extent>,
        leg: Leg,
        next: impl FnOnce(&mut Control, Result<(), String>) + Send + 'static,
    ) {
        self.carry_out(Operation::new(CLEAN_UP, "", device, namespace, extents).part(leg), next);
    }

    /// Has blocks read as zeroes.
    pub(crate) fn zero(
        &mut self,
        device: &str,
        namespace: u32,
        extents: Vec<Extent>,
        leg: Leg,
        next: impl FnOnce(&mut Control, Result<(), String>) + Send + 'static,
    ) {
        let of = extents.iter().map(|extent| extent.blocks).sum();
        self.scrub_pieces(device, Scrub { namespace, of, left: extents, leg }, next);
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
