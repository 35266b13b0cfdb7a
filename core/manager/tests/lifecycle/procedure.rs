//! Running a procedure, as the control thread does: what a stage waits for comes with an action.

use vfiomux_manager::extent::{Extent, minus};
use vfiomux_manager::journal::Record;
use vfiomux_manager::label::LabelledChannel;
use vfiomux_manager::lifecycle::{Life as _, Oper};
use vfiomux_manager::procedure::{Act, END, Procedure};

use crate::bug::Bug;
use crate::model::Lifecycle;
use crate::properties::{GROWN_IS_SERVED, serves_what_it_has};
use crate::world::{Flow, Landing, Operation, Then, World, blocks};

impl Lifecycle {
    pub(crate) fn operation(
        &self,
        procedure: Procedure,
        id: &str,
        device: usize,
        extents: Vec<Extent>,
        then: Then,
    ) -> Operation {
        let procedure = Bug::in_place_of(self.bug, procedure);
        Operation { id: id.to_owned(), procedure, device, extents, wanted: Vec::new(), failed: false, then }
    }

    /// Begins an operation about all the blocks of a channel.
    pub(crate) fn begin(&self, world: &mut World, id: &str, procedure: Procedure, then: Then) -> Option<()> {
        let channel = world.channel(id)?;
        let operation = self.operation(procedure, id, channel.device?, channel.extents.clone(), then);
        self.go_on_with(world, operation);
        Some(())
    }

    pub(crate) fn go_on_with(&self, world: &mut World, mut operation: Operation) {
        while let Some((stage, rest)) = operation.procedure.split_first() {
            if stage.act.waits() {
                let Some(daemon) = &mut world.daemon else { return };
                if operation.then == Then::Leftover {
                    daemon.leftovers.push(operation);
                } else if let Some(channel) = daemon.channels.get_mut(&operation.id) {
                    channel.flow = Some(Flow::Operation(operation));
                }
                return;
            }
            operation.procedure = rest;
            if self.act_now(world, stage.act, &operation).is_none() {
                (operation.procedure, operation.failed) = (stage.or_else, true);
            }
        }
        self.is_over(world, &operation);
    }

    /// What an operation waited for has come, or cannot be had.
    pub(crate) fn has_come(&self, world: &mut World, mut operation: Operation, comes: bool) {
        let Some((stage, rest)) = operation.procedure.split_first() else { return };
        operation.procedure = rest;
        if !comes || self.waited_for(world, stage.act, &operation).is_none() {
            (operation.procedure, operation.failed) = (stage.or_else, true);
        }
        self.go_on_with(world, operation);
    }

    fn is_over(&self, world: &mut World, operation: &Operation) {
        let Operation { id, device, extents, failed, then, .. } = operation;
        match then {
            Then::End if !failed => _ = self.begin(world, id, END, Then::Over),
            Then::Copy if !failed => {
                let target = Landing { device: *device, extents: extents.clone() };
                world.with(id, |channel| channel.flow = Some(Flow::Copy(target)));
            }
            Then::PlaceOver => {
                // Where it was, it has another device to leave; where it is not, this one.
                let Some(channel) = world.channel(id) else { return };
                if *failed {
                    self.place(world, id, 0);
                    let left = Landing { device: *device, extents: extents.clone() };
                    return self.clear(world, id, left);
                }
                let left = 1 - channel.device.unwrap_or_default();
                let left = Landing { device: left, extents: operation.wanted.clone() };
                world.with(id, |channel| channel.flow = Some(Flow::PlaceOver(left)));
            }
            Then::Leftover => {}
            Then::Grown => {
                let serves = world.oper(id) != Some(Oper::Quarantined) && serves_what_it_has(world, id);
                if !failed && !serves {
                    world.seen.broken.insert(GROWN_IS_SERVED);
                }
                self.over(world, id);
            }
            Then::Over | Then::Copy | Then::End => self.over(world, id),
        }
    }

    /// The effect of what was waited for; `None` when it fails for what has happened meanwhile.
    fn waited_for(&self, world: &mut World, act: Act, operation: &Operation) -> Option<()> {
        let Operation { id, device, extents, wanted, .. } = operation;
        match act {
            Act::Seat => self.seat(world, id, 0)?,
            Act::Unseat => self.unseat(world, id),
            Act::Narrow => {
                world.seat(id)?.extents.clone_from(wanted);
                world.guest_writes(id);
            }
            Act::Serve => {
                let all = world.channel(id)?.extents.clone();
                match world.seat(id) {
                    Some(seat) => seat.extents = all,
                    None if self.bug == Some(Bug::GrownUnserved) => {}
                    None => (world.oper(id)? != Oper::Quarantined).then_some(())?,
                }
                world.guest_writes(id);
            }
            Act::Scrub => {
                for block in blocks(extents) {
                    world.disk.data.remove(&(*device, block));
                }
            }
            _ if extents.is_empty() => {}
            _ => {
                if world.becomes_durable() {
                    self.relabel(world, act, operation);
                }
                if act == Act::Carve {
                    world.with(id, |channel| channel.extents.clone_from(wanted));
                }
            }
        }
        Some(())
    }

    fn relabel(&self, world: &mut World, act: Act, operation: &Operation) {
        let Operation { id, device, extents, wanted, .. } = operation;
        let entry = world.channel(id).map(|channel| LabelledChannel {
            id: id.clone(),
            name: channel.setting.name.clone(),
            tenant: channel.setting.tenant.clone(),
            size_bytes: channel.setting.size_bytes,
            queues: 1,
            read_only: false,
            extents: extents.clone(),
        });
        let label = &mut world.disk.labels[*device];
        match act {
            Act::Enter => entry.into_iter().for_each(|entry| label.enter(entry)),
            Act::KeepBack => label.keep_back(extents),
            Act::Carve => label.carve(id, wanted, blocks(wanted).count() as u64),
            Act::Leave if self.bug == Some(Bug::ForgetUnscrubbed) => {
                label.channels.retain(|entry| entry.id != *id);
            }
            Act::Leave => label.leave(id),
            _ => label.clean(extents),
        }
    }

    /// Does what is done at once; `None` when it fails.
    fn act_now(&self, world: &mut World, act: Act, operation: &Operation) -> Option<()> {
        let Operation { id, device, extents, wanted, .. } = operation;
        let pool = world.disk.labels[*device].pool.clone();
        match act {
            Act::Define => {
                let setting = world.channel(id)?.setting.clone();
                world.write_setting(&setting);
            }
            Act::Settle => {
                let size_bytes = blocks(wanted).count() as u64;
                world.change(id, |setting| setting.size_bytes = size_bytes);
            }
            Act::Elsewhere => world.write(&Record::Elsewhere { pool, id: id.clone() }),
            Act::Relocated => {
                let channel = world.channel(id)?;
                let (mut setting, from) = (channel.setting.clone(), channel.setting.pool.clone());
                (setting.pool, setting.generation) = (pool, setting.generation + 1);
                world.write(&Record::Relocated { setting: Box::new(setting.clone()), from });
                world.with(id, |channel| {
                    (channel.setting, channel.device) = (setting, Some(*device));
                    channel.extents.clone_from(extents);
                });
            }
            Act::Cleared => world.write(&Record::Cleared { pool, id: id.clone() }),
            Act::Forget => self.forget(world, id),
            Act::GiveBack => {
                world.with(id, |channel| {
                    if channel.device == Some(*device) {
                        channel.extents = minus(&channel.extents, extents);
                    }
                });
                world.daemon.as_mut()?.pool(*device)?.give_back(extents).ok()?;
            }
            Act::Drop => _ = world.daemon.as_mut()?.channels.remove(id),
            Act::Step(step) => {
                world.oper(id)?.after(step)?;
                world.step(id, step, self.bug);
            }
            _ => {}
        }
        Some(())
    }
}
