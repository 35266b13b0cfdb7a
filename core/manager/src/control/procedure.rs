//! Running a [`Procedure`]: one stage after the other, each when the one before it is done.

use vfiomux_channel::{Extent as Run, ExtentMap};
use vfiomux_rpc::{EventKind, ObjectKind};
use vfiomux_sidecore::{Answer, Order};

use super::Control;
use super::channel::Channel;
use super::job::Leg;
use crate::event::event;
use crate::extent::{Extent, minus};
use crate::journal::Record;
use crate::label::{Label, LabelledChannel};
use crate::lifecycle::Oper;
use crate::procedure::{Act, Procedure, Stage};
use crate::seeded::{self, Bug};

/// An operation that is under way.
pub(crate) struct Operation {
    /// On which channel.
    pub(crate) id: String,
    /// What is left of it.
    pub(crate) procedure: Procedure,
    /// Where the blocks lie that it is about.
    pub(crate) device: String,
    pub(crate) namespace: u32,
    pub(crate) blocks: Vec<Extent>,
    /// What the channel is to have when its blocks change.
    pub(crate) wanted: Wanted,
    leg: Leg,
    /// What it has failed with.
    failed: Option<String>,
}

impl Operation {
    /// An operation about blocks of a device, on the channel that has them, had them, or is to have them.
    pub(crate) fn new(
        procedure: Procedure,
        id: &str,
        device: &str,
        namespace: u32,
        blocks: Vec<Extent>,
    ) -> Self {
        let (id, device) = (id.to_owned(), device.to_owned());
        let (wanted, leg) = (Wanted::default(), Leg::default());
        Self { id, procedure, device, namespace, blocks, wanted, leg, failed: None }
    }

    /// As a part of a job's way.
    pub(crate) fn part(self, leg: Leg) -> Self {
        Self { leg, ..self }
    }

    /// One about all the blocks of a channel.
    pub(crate) fn on(procedure: Procedure, channel: &Channel) -> Self {
        let blocks = channel.extents.clone();
        Self::new(procedure, &channel.setting.id, &channel.device, channel.namespace, blocks)
    }
}

/// What a channel is to have.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    pub(crate) extents: Vec<Extent>,
    pub(crate) size_bytes: u64,
    /// Who wants it, where that is told.
    pub(crate) uid: Option<u32>,
}

type Ended = Box<dyn FnOnce(&mut Control, Result<(), String>) + Send>;

impl Control {
    /// Runs an operation to its end. What fails in it first is what it fails with.
    pub(crate) fn carry_out(
        &mut self,
        operation: Operation,
        next: impl FnOnce(&mut Control, Result<(), String>) + Send + 'static,
    ) {
        self.go_on(Box::new(operation), Box::new(next));
    }

    fn go_on(&mut self, mut operation: Box<Operation>, next: Ended) {
        while let Some((stage, rest)) = operation.procedure.split_first() {
            operation.procedure = rest;
            if stage.act.waits() {
                return self.wait_for(stage, operation, next);
            }
            if let Err(why) = self.act_now(stage.act, &operation) {
                return self.fail(stage, operation, why, next);
            }
        }
        next(self, operation.failed.take().map_or(Ok(()), Err));
    }

    fn fail(&mut self, stage: &Stage, mut operation: Box<Operation>, why: String, next: Ended) {
        operation.procedure = stage.or_else;
        operation.failed.get_or_insert(why);
        self.go_on(operation, next);
    }

    /// Does what others have to be waited for with.
    fn wait_for(&mut self, stage: &'static Stage, operation: Box<Operation>, next: Ended) {
        let id = operation.id.clone();
        let done = move |control: &mut Control, operation, result: Result<(), String>| match result {
            Ok(()) => control.go_on(operation, next),
            Err(why) => control.fail(stage, operation, why, next),
        };
        match stage.act {
            Act::Seat => self.seat(&id, move |control, seated| done(control, operation, seated)),
            Act::Unseat => {
                let doing = self.channels.get(&id).and_then(|channel| channel.operation);
                let why = format!("the channel is {}", doing.unwrap_or("no longer served"));
                self.unseat(&id, &why, move |control| done(control, operation, Ok(())));
            }
            Act::Narrow => {
                self.serve_blocks(&id, operation.wanted.extents.clone(), move |control, served| {
                    done(control, operation, served);
                })
            }
            Act::Serve => {
                let extents = self.channels.get(&id).map(|channel| channel.extents.clone());
                self.serve_blocks(&id, extents.unwrap_or_default(), move |control, served| {
                    let served = served.or_else(|why| control.serves_with_next_place(&operation.id, &why));
                    done(control, operation, served);
                });
            }
            Act::Scrub => self.scrub_blocks(operation, done),
            _ => self.relabel_for(stage.act, operation, done),
        }
    }

    /// Has a channel serve these of its blocks, and no others from when this is answered.
    fn serve_blocks(
        &mut self,
        id: &str,
        extents: Vec<Extent>,
        next: impl FnOnce(&mut Control, Result<(), String>) + 'static,
    ) {
        let Some(seat) = self.channels.get(id).and_then(|channel| channel.seat.as_ref()) else {
            return next(self, Err("the channel is not served".to_owned()));
        };
        let runs: Vec<Run> =
            extents.iter().map(|extent| Run { lba: extent.start, blocks: extent.blocks }).collect();
        let map = match ExtentMap::new(&runs, &seat.settings.limits) {
            Ok(map) => map,
            Err(error) => return next(self, Err(error.to_string())),
        };
        let (owned, served) = (id.to_owned(), map.clone());
        self.drained_order(
            id,
            move |seat| Order::Resize { channel: seat.id, extents: map },
            move |control, answer| match answer {
                Some(Answer::Resized { .. }) => {
                    let seat = control.channels.get_mut(&owned).and_then(|channel| channel.seat.as_mut());
                    if let Some(seat) = seat {
                        seat.settings.extents = served;
                    }
                    control.config_changed(&owned);
                    next(control, Ok(()));
                }
                Some(Answer::Refused { why, .. }) => next(control, Err(why.to_string())),
                _ => next(control, Err("the channel is not served".to_owned())),
            },
        );
    }

    /// What it comes to that a channel does not serve what it has: without a place it is so with the next, which it gets by itself
    /// unless it has been quarantined meanwhile.
    fn serves_with_next_place(&self, id: &str, why: &str) -> Result<(), String> {
        let channel = self.channels.get(id).ok_or("the channel is gone")?;
        match (channel.setting.oper, &channel.seat) {
            (Oper::Quarantined, _) => {
                Err("the channel is quarantined, and has its new size when it is resumed".to_owned())
            }
            (_, Some(_)) => Err(format!("its sidecore does not serve its new blocks: {why}")),
            (_, None) => Ok(()),
        }
    }

    fn scrub_blocks(
        &mut self,
        operation: Box<Operation>,
        done: impl FnOnce(&mut Control, Box<Operation>, Result<(), String>) + Send + 'static,
    ) {
        let (device, blocks) = (operation.device.clone(), operation.blocks.clone());
        self.zero(&device, operation.namespace, blocks, operation.leg, move |control, scrubbed| {
            done(control, operation, scrubbed);
        });
    }

    /// What a label says differently from now on.
    fn relabel_for(
        &mut self,
        act: Act,
        operation: Box<Operation>,
        done: impl FnOnce(&mut Control, Box<Operation>, Result<(), String>) + Send + 'static,
    ) {
        let Operation { id, device, namespace, blocks, wanted, .. } = &*operation;
        if !self.devices.contains_key(device) {
            return done(self, operation, Err("its device is not here".to_owned()));
        }
        if blocks.is_empty() {
            // It never had any.
            return done(self, operation, Ok(()));
        }
        let entry = self.channels.get(id).map(|channel| LabelledChannel {
            id: id.clone(),
            name: channel.setting.name.clone(),
            tenant: channel.setting.tenant.clone(),
            size_bytes: channel.setting.size_bytes,
            queues: channel.setting.queues,
            read_only: channel.setting.read_only,
            extents: blocks.clone(),
        });
        let (id, blocks, wanted) = (id.clone(), blocks.clone(), wanted.clone());
        let change = move |label: &mut Label| match act {
            Act::Enter => entry.into_iter().for_each(|entry| label.enter(entry)),
            Act::Carve => label.carve(&id, &wanted.extents, wanted.size_bytes),
            Act::Leave if seeded::is(Bug::ForgetUnscrubbed) => label.channels.retain(|entry| entry.id != id),
            Act::Leave => label.leave(&id),
            Act::Clean => label.clean(&blocks),
            _ => label.keep_back(&blocks),
        };
        self.relabel(&device.clone(), *namespace, change, move |control, written| {
            let written = written.map_err(|why| format!("its label could not be written: {why}"));
            if written.is_ok()
                && act == Act::Carve
                && let Some(channel) = control.channels.get_mut(&operation.id)
            {
                channel.extents.clone_from(&operation.wanted.extents);
            }
            done(control, operation, written);
        });
    }

    /// Does what is done at once.
    fn act_now(&mut self, act: Act, operation: &Operation) -> Result<(), String> {
        let Operation { id, device, namespace, blocks, wanted, .. } = operation;
        match act {
            Act::Define => return self.write_down(operation),
            Act::Settle => {
                let size_bytes = wanted.size_bytes;
                let settled = self.change_setting(id, |setting| setting.size_bytes = size_bytes);
                return settled.map_err(|error| error.message);
            }
            Act::Elsewhere => {
                let Some(pool) = self.pool_of(device, *namespace) else {
                    return Err("the namespace is gone".to_owned());
                };
                let elsewhere = Record::Elsewhere { pool, id: id.clone() };
                return self.journal.append(&elsewhere).map_err(|error| error.to_string());
            }
            Act::Relocated => return self.relocated(operation),
            Act::Cleared => {
                if let Some(pool) = self.pool_of(device, *namespace) {
                    self.journal_append(&Record::Cleared { pool, id: id.clone() });
                }
            }
            Act::Forget => self.journal_append(&Record::Forgotten { id: id.clone() }),
            Act::GiveBack => {
                let channel = self.channels.get_mut(id);
                let had_them = channel.filter(|it| (&it.device, it.namespace) == (device, *namespace));
                if let Some(channel) = had_them {
                    channel.extents = minus(&channel.extents, blocks);
                }
                self.give_back(device, *namespace, blocks);
            }
            Act::Drop => _ = self.channels.remove(id),
            Act::Step(step) => {
                self.check_step(id, step).map_err(|error| error.message)?;
                self.step(id, step, operation.failed.clone());
            }
            // What waits has been done by those that are waited for.
            _ => {}
        }
        Ok(())
    }

    /// Writes down that a channel is there, before anything of it is.
    fn write_down(&mut self, operation: &Operation) -> Result<(), String> {
        let channel = self.channels.get(&operation.id).ok_or("the channel is gone")?;
        let setting = channel.setting.clone();
        let mut told = event(EventKind::Oper, ObjectKind::Channel, setting.name.clone());
        (told.to, told.generation) = (Some("defined".to_owned()), Some(setting.generation));
        told.uid = operation.wanted.uid;
        self.journal.append(&Record::Setting(Box::new(setting))).map_err(|error| error.to_string())?;
        self.tell(told);
        Ok(())
    }

    pub(crate) fn pool_of(&self, device: &str, namespace: u32) -> Option<String> {
        let seat = self.devices.get(device)?.namespaces.get(&namespace)?;
        Some(seat.carving.as_ref().ok()?.label.pool.clone())
    }
}
