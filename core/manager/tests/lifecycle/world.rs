//! What there is: a disk that outlives everything, a daemon that may be dead, and what somebody who sees all remembers.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::OnceLock;

use vfiomux_manager::admission::{Book, Holder, Offer};
use vfiomux_manager::extent::{Extent, ExtentPool};
use vfiomux_manager::journal::{Record, Setting, Settings};
use vfiomux_manager::label::Label;
use vfiomux_manager::lifecycle::{Life as _, Oper, Step, TABLE, advance};
use vfiomux_manager::procedure::Procedure;

use crate::bug::Bug;

/// Blocks of each device that channels may have: two channels fit, and not a third.
pub(crate) const BLOCKS: u64 = 4;
/// Blocks of each channel, before and after it is resized.
pub(crate) const CHANNEL_BLOCKS: u64 = 2;
/// What may be reserved on each device: as much as both channels ask for.
pub(crate) const CAPACITY_OPS: u64 = 1000;

/// A state of everything.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct World {
    pub(crate) disk: Disk,
    /// `None` while the daemon is dead.
    pub(crate) daemon: Option<Daemon>,
    pub(crate) seen: Seen,
    pub(crate) left: Left,
    /// How many more records and labels become durable before the power fails, below 0 when it has; `None` for all.
    pub(crate) writes_left: Option<i8>,
}

/// What a crash leaves.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Disk {
    /// What the journal comes to: each record applied as it is written, by the function that replays it.
    pub(crate) journal: Settings,
    /// What each device's label says.
    pub(crate) labels: Vec<Label>,
    /// Whose data each block of a device holds.
    pub(crate) data: BTreeMap<(usize, u64), String>,
}

/// The control thread's memory.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Daemon {
    pub(crate) channels: BTreeMap<String, Channel>,
    /// The blocks of each device that are free; none while the device is not here.
    pub(crate) pools: Vec<Option<ExtentPool>>,
    /// What is promised on each.
    pub(crate) books: Vec<Book>,
    /// Who has a place on a sidecore: one each, unless something is wrong.
    pub(crate) seats: BTreeMap<String, Vec<Seat>>,
    /// What each operator waits for a verdict on.
    pub(crate) asked: [Option<Asked>; 2],
    /// Blocks left over from an earlier run that are being scrubbed.
    pub(crate) leftovers: Vec<Operation>,
}

/// A place on a sidecore.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Seat {
    pub(crate) line: u8,
    pub(crate) device: usize,
    /// The reservation that is in force.
    pub(crate) ops: u64,
    /// What is served.
    pub(crate) extents: Vec<Extent>,
}

/// A channel, as the control thread keeps it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Channel {
    pub(crate) setting: Setting,
    /// Where it is; nowhere while its device is not here.
    pub(crate) device: Option<usize>,
    pub(crate) extents: Vec<Extent>,
    /// What the one operation that is under way does next.
    pub(crate) flow: Option<Flow>,
    /// Its transient state ends by force at some time.
    pub(crate) armed: bool,
}

/// The rest of an operation: what happens when what it waits for has come.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Flow {
    /// One that runs by a procedure, as the daemon's.
    Operation(Operation),
    /// A retune, when the sidecore has the new program.
    Retune,
    /// A detachment, when the session has ended.
    Detach,
    /// A suspension, when nothing is in flight.
    Quiesce,
    /// A resumption, when the sidecore serves.
    Resume,
    /// A resumption from quarantine, when there is a place again.
    Reseat,
    /// A start, when there is a place.
    BringBack,
    /// A move to another device, when the channel was copied.
    Copy(Landing),
    /// The same, when its sidecore has given it up.
    TakeOver(Landing),
    /// The same, when the other device's sidecore has it. The blocks are those that it had.
    PlaceOver(Landing),
    /// A move to another sidecore, when the first has given it up.
    Take,
    /// The same, when the other has it.
    Place,
}

/// Blocks of a device that a channel has, had, or is to have.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Landing {
    pub(crate) device: usize,
    pub(crate) extents: Vec<Extent>,
}

/// An operation that runs by a procedure. The first stage that is left is the one that it waits for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Operation {
    pub(crate) id: String,
    pub(crate) procedure: Procedure,
    pub(crate) device: usize,
    pub(crate) extents: Vec<Extent>,
    /// What the channel is to have when its blocks change; in a move, what it had.
    pub(crate) wanted: Vec<Extent>,
    pub(crate) failed: bool,
    pub(crate) then: Then,
}

/// What follows a procedure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Then {
    /// Nothing.
    Over,
    /// The rest of a destruction, when it did not fail.
    End,
    /// It is answered that a channel is larger, when it did not fail.
    Grown,
    /// The copy, when it did not fail.
    Copy,
    /// The place on the other device, or the one that it had.
    PlaceOver,
    /// It was no channel's.
    Leftover,
}

/// A question that policies have been asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Asked {
    Create { name: &'static str, ops: u64, extents: Vec<Extent> },
    Tune { id: String, ops: u64, generation: u64 },
    Destroy { id: String, generation: u64 },
}

/// What somebody who sees everything remembers. No part of the daemon reads it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Seen {
    /// The reservation that each channel was last given, by the journal or in effect.
    pub(crate) promised: BTreeMap<String, u64>,
    /// Channels that are gone.
    pub(crate) destroyed: BTreeSet<String>,
    /// Properties that a step broke.
    pub(crate) broken: BTreeSet<&'static str>,
    /// A verdict came too late.
    pub(crate) outdated: bool,
    /// Blocks went from one channel to another.
    pub(crate) reused: bool,
}

/// What bounds the exploration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Left {
    pub(crate) requests: u8,
    pub(crate) crashes: u8,
    /// Faults of guests, devices and front-ends, and deadlines that pass.
    pub(crate) faults: u8,
    /// Counts the channels that there ever were.
    pub(crate) created: u8,
}

impl World {
    pub(crate) fn new(left: Left, devices: usize) -> Self {
        let daemon = Some(Daemon::new((0..devices).map(|_| Some(pool())).collect()));
        let disk = Disk { labels: (0..devices).map(label).collect(), ..Disk::default() };
        Self { disk, daemon, seen: Seen::default(), left, writes_left: None }
    }

    /// Whether the power has not failed.
    pub(crate) fn is_powered(&self) -> bool {
        self.writes_left.is_none_or(|left| left >= 0)
    }

    /// Whether something becomes durable: it does unless the power has failed.
    pub(crate) fn becomes_durable(&mut self) -> bool {
        let Some(left) = &mut self.writes_left else { return true };
        *left = (*left - 1).max(-1);
        *left >= 0
    }

    /// Appends a record to the journal.
    pub(crate) fn write(&mut self, record: &Record) {
        if self.becomes_durable() {
            self.disk.journal.apply(record);
        }
    }

    /// Appends a setting that somebody asked for to the journal.
    pub(crate) fn write_setting(&mut self, setting: &Setting) {
        if self.becomes_durable() {
            self.seen.promised.insert(setting.id.clone(), reserved(setting));
            self.disk.journal.apply(&Record::Setting(Box::new(setting.clone())));
        }
    }

    /// Takes a step of a channel's life: in memory and in the journal, if the table has it.
    pub(crate) fn step(&mut self, id: &str, step: Step, bug: Option<Bug>) {
        let Some(channel) = self.daemon.as_mut().and_then(|daemon| daemon.channels.get_mut(id)) else {
            return;
        };
        let from = channel.setting.oper;
        let to = match advance(from, step) {
            Ok(to) => to,
            Err(_) if bug == Some(Bug::SuspendDuringDestroy) && step == Step::Suspend => Oper::Quiescing,
            Err(_) => return,
        };
        channel.setting.oper = to;
        channel.armed = to.deadline().is_some();
        if bug == Some(Bug::WaitForDeadFrontEnd) && to == Oper::Quiescing {
            channel.armed = false;
        }
        // L1: whatever brought it here, the way has to be in the table.
        if !TABLE.contains(&(from, step, to)) {
            self.seen.broken.insert("L1");
        }
        if !(bug == Some(Bug::UnloggedTransition) && to == Oper::Suspended) {
            self.write(&Record::Transition { id: id.to_owned(), step, to });
        }
    }

    /// Changes a channel's setting: one generation more, in the journal first.
    pub(crate) fn change(&mut self, id: &str, change: impl FnOnce(&mut Setting)) {
        let Some(channel) = self.channel(id) else { return };
        let mut setting = channel.setting.clone();
        change(&mut setting);
        setting.generation += 1;
        self.write_setting(&setting);
        self.with(id, |channel| channel.setting = setting);
    }

    pub(crate) fn channel(&self, id: &str) -> Option<&Channel> {
        self.daemon.as_ref()?.channels.get(id)
    }

    pub(crate) fn with(&mut self, id: &str, change: impl FnOnce(&mut Channel)) {
        if let Some(channel) = self.daemon.as_mut().and_then(|daemon| daemon.channels.get_mut(id)) {
            change(channel);
        }
    }

    /// The place of a channel.
    pub(crate) fn seat(&mut self, id: &str) -> Option<&mut Seat> {
        self.daemon.as_mut()?.seats.get_mut(id)?.first_mut()
    }

    /// The guest of a channel that serves writes wherever it can.
    pub(crate) fn guest_writes(&mut self, id: &str) {
        let serves = self.oper(id) == Some(Oper::Active);
        let Some(seat) = self.seat(id).filter(|_| serves).cloned() else { return };
        for block in blocks(&seat.extents) {
            self.disk.data.insert((seat.device, block), id.to_owned());
        }
    }

    pub(crate) fn oper(&self, id: &str) -> Option<Oper> {
        self.channel(id).map(|channel| channel.setting.oper)
    }
}

impl Daemon {
    pub(crate) fn new(pools: Vec<Option<ExtentPool>>) -> Self {
        let mut book = Book::default();
        book.set_offer(Offer::Ops(CAPACITY_OPS));
        Self {
            channels: BTreeMap::new(),
            books: pools.iter().map(|_| book.clone()).collect(),
            pools,
            seats: BTreeMap::new(),
            asked: [None, None],
            leftovers: Vec::new(),
        }
    }

    /// Makes the books equal to what is.
    pub(crate) fn align(&mut self) {
        for (device, book) in self.books.iter_mut().enumerate() {
            let here = self.channels.values().filter(|channel| channel.device == Some(device));
            let present = here.map(|channel| (holder(&channel.setting), reserved(&channel.setting)));
            book.align(present.collect::<Vec<_>>());
        }
    }

    /// What a channel holds besides what it has is let go.
    pub(crate) fn give_reservations_back(&mut self, id: &str) {
        self.books.iter_mut().for_each(|book| book.give_back(id));
        self.align();
    }

    /// The pool of a device that is here.
    pub(crate) fn pool(&mut self, device: usize) -> Option<&mut ExtentPool> {
        self.pools.get_mut(device)?.as_mut()
    }

    /// The channel with this name.
    pub(crate) fn named(&self, name: &str) -> Option<&Channel> {
        self.channels.values().find(|channel| channel.setting.name == name)
    }
}

/// All blocks, free.
pub(crate) fn pool() -> ExtentPool {
    ExtentPool::new(Extent { start: 0, blocks: BLOCKS }, 1)
}

/// The label of a device that has just been formatted.
fn label(device: usize) -> Label {
    Label {
        generation: 0,
        pool: format!("p{device}"),
        block_bytes: 1,
        blocks: BLOCKS,
        channels: Vec::new(),
        unscrubbed: Vec::new(),
    }
}

/// The blocks of extents, one by one.
pub(crate) fn blocks(extents: &[Extent]) -> impl Iterator<Item = u64> + '_ {
    extents.iter().flat_map(|extent| extent.start..extent.start + extent.blocks)
}

pub(crate) fn holder(setting: &Setting) -> Holder {
    Holder { id: setting.id.clone(), name: setting.name.clone(), tenant: setting.tenant.clone() }
}

pub(crate) fn reserved(setting: &Setting) -> u64 {
    setting.guarantees.reservation_ops.unwrap_or(0)
}

/// A setting of a channel that has just been defined.
pub(crate) fn setting(id: &str, name: &str, ops: u64) -> Setting {
    static USUAL: OnceLock<Setting> = OnceLock::new();
    let usual = USUAL.get_or_init(|| {
        let usual = serde_json::json!({
            "id": "", "name": "", "tenant": "t", "pool": "p0", "size_bytes": CHANNEL_BLOCKS, "queues": 1, "read_only": false,
            "endpoint": null, "admin": "enabled", "oper": "defined", "generation": 1,
        });
        serde_json::from_value(usual).unwrap()
    });
    let mut setting = usual.clone();
    (setting.id, setting.name) = (id.to_owned(), name.to_owned());
    setting.guarantees.reservation_ops = Some(ops).filter(|&ops| ops > 0);
    setting
}

/// Two states are one when nobody can tell them apart, now or later. What channels have in common is left out.
impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.disk.hash(state);
        self.daemon.hash(state);
        self.seen.hash(state);
        self.left.hash(state);
        self.writes_left.hash(state);
    }
}

impl Hash for Disk {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.journal.channels.values().for_each(|setting| hash_setting(setting, state));
        self.journal.elsewhere.hash(state);
        for label in &self.labels {
            let mut channels: Vec<_> =
                label.channels.iter().map(|entry| (&entry.id, &entry.extents)).collect();
            channels.sort_unstable();
            (channels, &label.unscrubbed).hash(state);
        }
        self.data.hash(state);
    }
}

impl Hash for Daemon {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for channel in self.channels.values() {
            hash_setting(&channel.setting, state);
            (channel.device, &channel.extents).hash(state);
            (&channel.flow, channel.armed).hash(state);
        }
        // The pools' free runs follow from whom they gave what, and so do the books' entries but for what is taken.
        for pool in &self.pools {
            pool.as_ref().map(|pool| (pool.free_blocks(), pool.longest_free_blocks())).hash(state);
        }
        for book in &self.books {
            for entry in book.holders() {
                (entry.holder.id, entry.has_ops, entry.taken_ops).hash(state);
            }
        }
        self.seats.hash(state);
        self.asked.hash(state);
        self.leftovers.hash(state);
    }
}

fn hash_setting(setting: &Setting, state: &mut impl Hasher) {
    let Setting { id, name, pool, size_bytes, endpoint, generation, .. } = setting;
    (id, name, pool, size_bytes, endpoint.is_some(), generation, reserved(setting)).hash(state);
    (std::mem::discriminant(&setting.admin), std::mem::discriminant(&setting.oper)).hash(state);
}
