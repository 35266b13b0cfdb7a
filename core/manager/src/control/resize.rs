//! Making a channel larger or smaller.

use vfiomux_channel::{Extent as Run, ExtentMap};
use vfiomux_policy::{Channel as PolicyChannel, Tune};
use vfiomux_rpc::{Caller, Change, ErrorCode, EventKind, ObjectKind, RpcError, Ticket, call};

use super::Control;
use super::channel::internal;
use super::job::Leg;
use super::procedure::{Operation, Wanted};
use super::question::policy_channel;
use crate::event::event;
use crate::extent::Extent;
use crate::lifecycle::{Life as _, NotAllowed, Step};
use crate::procedure::{GROW, SHRINK};

impl Control {
    /// `channel.resize`.
    pub(crate) fn resize(
        &mut self,
        ticket: Ticket,
        caller: Caller,
        change: Change,
        wanted: call::ChannelResize,
    ) {
        let (id, question) = match self.resizing(caller, &change, &wanted) {
            Ok(resizing) => resizing,
            Err(error) => return self.rpc.reply(ticket, Err(error)),
        };
        self.ask_about(&id.clone(), caller, question, move |control, allowed| {
            let plan = allowed.and_then(|allowed| {
                control.resizing(caller, &change, &wanted)?;
                control.plan_resize(&id, allowed.wanted.size_bytes, change.dry_run)
            });
            match plan {
                Ok(Some(operation)) => control.resize_now(ticket, operation),
                other => control.answer_checked(ticket, other.map(|_| id)),
            }
        });
    }

    /// The channel that is to be resized, and the question that this puts to policies, if nothing else stands in its way.
    fn resizing(
        &self,
        caller: Caller,
        change: &Change,
        wanted: &call::ChannelResize,
    ) -> Result<(String, Tune), RpcError> {
        let id = self.channel_free(&wanted.name, change.expected_generation)?;
        let channel = self.channel_named(&wanted.name)?;
        if !channel.setting.oper.steady() {
            let refused = NotAllowed { from: channel.setting.oper, step: Step::Resume };
            return Err(RpcError::new(
                ErrorCode::Conflict,
                format!("channel {} cannot be resized now: {refused}", wanted.name),
            )
            .about(format!("channel {}", wanted.name)));
        }
        let present = policy_channel(channel);
        let question = Tune {
            wanted: PolicyChannel { size_bytes: wanted.size_bytes, ..present.clone() },
            channel: present,
            device: self.policy_device(&channel.device),
            tenant: self.policy_tenant(&channel.setting.tenant, Some(&id)),
            caller_uid: caller.uid,
            dry_run: change.dry_run,
        };
        Ok((id, question))
    }

    /// What a resize comes to; nothing when the size is right already, or this is a dry run.
    fn plan_resize(
        &mut self,
        id: &str,
        size_bytes: u64,
        dry_run: bool,
    ) -> Result<Option<Operation>, RpcError> {
        let Some(channel) = self.channels.get(id) else { return Err(internal(&"the channel is gone")) };
        let (name, device, namespace, block_bytes) = (
            channel.setting.name.clone(),
            channel.device.clone(),
            channel.namespace,
            u64::from(channel.block_bytes),
        );
        let old = channel.extents.clone();
        let old_blocks: u64 = old.iter().map(|extent| extent.blocks).sum();
        let seat = self.devices.get_mut(&device).and_then(|device| device.namespaces.get_mut(&namespace));
        let Some((limits, Ok(carving))) = seat.map(|seat| (seat.limits, &mut seat.carving)) else {
            return Err(internal(&"the namespace has no label"));
        };
        let blocks = carving.pool.rounded(size_bytes.div_ceil(block_bytes)).unwrap_or(u64::MAX);
        if blocks == old_blocks {
            return Ok(None);
        }
        let before = carving.pool.clone();
        let mut extents = old;
        let (procedure, changed);
        if blocks > old_blocks {
            let more = carving.pool.take(blocks - old_blocks).map_err(|error| {
                RpcError::new(ErrorCode::NoSpace, format!("device {device} cannot give {name} more: {error}"))
                    .about(format!("device {device}"))
                    .next("ask for less, or destroy a channel")
            })?;
            extents.extend(&more);
            (procedure, changed) = (GROW, more);
        } else {
            (procedure, changed) = (SHRINK, cut(&mut extents, blocks));
        }
        let runs: Vec<Run> =
            extents.iter().map(|extent| Run { lba: extent.start, blocks: extent.blocks }).collect();
        let map = ExtentMap::new(&runs, &limits).map_err(|error| internal(&error));
        if dry_run || map.is_err() {
            carving.pool = before;
            return map.map(|_| None);
        }
        let mut operation = Operation::new(procedure, id, &device, namespace, changed);
        operation.wanted = Wanted { extents, size_bytes: blocks * block_bytes, uid: None };
        Ok(Some(operation))
    }

    fn resize_now(&mut self, ticket: Ticket, operation: Operation) {
        let id = operation.id.clone();
        self.set_operation(&id, Some("being resized"));
        self.carry_out(operation.part(Leg::whole(ticket.job())), move |control, resized| {
            control.set_operation(&id, None);
            let name = control.name_of(&id);
            if let Err(why) = &resized {
                let mut fault = event(EventKind::Fault, ObjectKind::Channel, name.clone());
                fault.reason = Some(format!("resize: {why}"));
                control.tell(fault);
            }
            let resized = resized.map_err(|why| {
                RpcError::new(ErrorCode::DeviceFault, format!("the resize failed: {why}"))
                    .about(format!("channel {name}"))
                    .next("see vfiomuxctl channel show, vfiomuxctl events and vfiomuxctl device show")
            });
            control.answer_channel(ticket, &id, resized);
        });
    }
}

/// Keeps the first `blocks` blocks of `extents`, and gives what is cut off.
fn cut(extents: &mut Vec<Extent>, blocks: u64) -> Vec<Extent> {
    let (mut kept, mut freed, mut left) = (Vec::new(), Vec::new(), blocks);
    for extent in extents.drain(..) {
        let keep = extent.blocks.min(left);
        left -= keep;
        if keep > 0 {
            kept.push(Extent { start: extent.start, blocks: keep });
        }
        if keep < extent.blocks {
            freed.push(Extent { start: extent.start + keep, blocks: extent.blocks - keep });
        }
    }
    *extents = kept;
    freed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_off_and_what_is_kept_are_all_there_was() {
        let all = vec![Extent { start: 10, blocks: 5 }, Extent { start: 100, blocks: 5 }];
        let mut kept = all.clone();
        assert_eq!(cut(&mut kept, 7), [Extent { start: 102, blocks: 3 }]);
        assert_eq!(kept, [Extent { start: 10, blocks: 5 }, Extent { start: 100, blocks: 2 }]);
        let mut kept = all.clone();
        assert_eq!(cut(&mut kept, 5), [Extent { start: 100, blocks: 5 }]);
        let mut kept = all;
        assert_eq!(cut(&mut kept, 10), []);
        assert_eq!(kept.len(), 2);
    }
}
