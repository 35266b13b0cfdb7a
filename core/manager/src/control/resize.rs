//! Making a channel larger or smaller.

use vfiomux_channel::{Extent as Run, ExtentMap};
use vfiomux_policy::{Channel as PolicyChannel, Tune};
use vfiomux_rpc::{Caller, Change, ErrorCode, EventKind, ObjectKind, RpcError, Ticket, call};
use vfiomux_sidecore::{Answer, Order};

use super::Control;
use super::channel::internal;
use super::job::Leg;
use super::question::policy_channel;
use crate::event::event;
use crate::extent::Extent;
use crate::label::Label;
use crate::lifecycle::{NotAllowed, Oper, Step};

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
                Ok(Some(plan)) => control.resize_now(ticket, plan),
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
        if !matches!(
            channel.setting.oper,
            Oper::Provisioned | Oper::Listening | Oper::Active | Oper::Suspended
        ) {
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
    fn plan_resize(&mut self, id: &str, size_bytes: u64, dry_run: bool) -> Result<Option<Resize>, RpcError> {
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
        let (mut extents, mut freed) = (old, Vec::new());
        if blocks > old_blocks {
            let more = carving.pool.take(blocks - old_blocks).map_err(|error| {
                RpcError::new(ErrorCode::NoSpace, format!("device {device} cannot give {name} more: {error}"))
                    .about(format!("device {device}"))
                    .next("ask for less, or destroy a channel")
            })?;
            extents.extend(more);
        } else {
            freed = cut(&mut extents, blocks);
        }
        let runs: Vec<Run> =
            extents.iter().map(|extent| Run { lba: extent.start, blocks: extent.blocks }).collect();
        let map = ExtentMap::new(&runs, &limits).map_err(|error| internal(&error));
        if dry_run || map.is_err() {
            carving.pool = before;
            return map.map(|_| None);
        }
        Ok(Some(Resize {
            id: id.to_owned(),
            device,
            namespace,
            map: map?,
            extents,
            freed,
            size_bytes: blocks * block_bytes,
        }))
    }

    /// Grown blocks are on the label before a guest can write them; shrunk ones leave it only after no command names them.
    fn resize_now(&mut self, ticket: Ticket, plan: Resize) {
        self.set_operation(&plan.id, Some("being resized"));
        if plan.freed.is_empty() {
            let (device, namespace) = (plan.device.clone(), plan.namespace);
            let (id, extents, size_bytes) = (plan.id.clone(), plan.extents.clone(), plan.size_bytes);
            self.relabel(
                &device,
                namespace,
                move |label| set_extents(label, &id, extents, size_bytes),
                move |control, written| match written {
                    Ok(()) => control.resize_order(ticket, plan),
                    Err(why) => control.resize_failed(ticket, &plan, &why),
                },
            );
        } else {
            self.resize_order(ticket, plan);
        }
    }

    fn resize_order(&mut self, ticket: Ticket, plan: Resize) {
        let id = plan.id.clone();
        let map = plan.map.clone();
        self.drained_order(
            &id,
            move |seat| Order::Resize { channel: seat.id, extents: map },
            move |control, answer| match answer {
                Some(Answer::Resized { .. }) => control.resized(ticket, plan),
                Some(Answer::Refused { why, .. }) => control.resize_failed(ticket, &plan, &why.to_string()),
                _ => control.resize_failed(ticket, &plan, "the channel is not served"),
            },
        );
    }

    fn resized(&mut self, ticket: Ticket, plan: Resize) {
        if let Some(channel) = self.channels.get_mut(&plan.id) {
            channel.extents.clone_from(&plan.extents);
            if let Some(seat) = &mut channel.seat {
                seat.settings.extents = plan.map.clone();
            }
        }
        let size_bytes = plan.size_bytes;
        let settled = self.change_setting(&plan.id, |setting| setting.size_bytes = size_bytes);
        self.config_changed(&plan.id);
        if plan.freed.is_empty() {
            self.set_operation(&plan.id, None);
            return self.answer_channel(ticket, &plan.id, settled);
        }
        let (id, extents, freed) = (plan.id.clone(), plan.extents.clone(), plan.freed.clone());
        let change = move |label: &mut Label| {
            set_extents(label, &id, extents, size_bytes);
            label.unscrubbed.extend(freed);
        };
        self.relabel(&plan.device.clone(), plan.namespace, change, move |control, written| {
            if let Err(why) = written {
                return control.resize_failed(ticket, &plan, &why);
            }
            control.scrub(
                &plan.device.clone(),
                plan.namespace,
                plan.freed.clone(),
                Leg::whole(ticket.job()),
                move |control, scrubbed| {
                    control.set_operation(&plan.id, None);
                    let result = scrubbed.map_err(|why| {
                        RpcError::new(ErrorCode::DeviceFault, why).about(format!("device {}", plan.device))
                    });
                    control.answer_channel(ticket, &plan.id, result.and(settled));
                },
            );
        });
    }

    fn resize_failed(&mut self, ticket: Ticket, plan: &Resize, why: &str) {
        // What was taken for growth stays taken until the next start reads the label again: it may be on the label.
        let mut fault = event(EventKind::Fault, ObjectKind::Channel, self.name_of(&plan.id));
        fault.reason = Some(format!("resize: {why}"));
        self.tell(fault);
        self.set_operation(&plan.id, None);
        let error = RpcError::new(ErrorCode::DeviceFault, format!("the resize failed: {why}"))
            .about(format!("channel {}", self.name_of(&plan.id)))
            .next("see vfiomuxctl events and vfiomuxctl device show");
        self.rpc.reply(ticket, Err(error));
    }
}

/// A resize that was found possible.
struct Resize {
    id: String,
    device: String,
    namespace: u32,
    map: ExtentMap,
    extents: Vec<Extent>,
    /// What the channel no longer has.
    freed: Vec<Extent>,
    size_bytes: u64,
}

fn set_extents(label: &mut Label, id: &str, extents: Vec<Extent>, size_bytes: u64) {
    if let Some(entry) = label.channels.iter_mut().find(|entry| entry.id == id) {
        entry.extents = extents;
        entry.size_bytes = size_bytes;
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
