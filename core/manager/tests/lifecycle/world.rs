//! What there is: a disk that outlives everything, a daemon that may be dead, and what somebody who sees all remembers.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::OnceLock;

use vfiomux_manager::admission::{Book, Holder, Offer};
use vfiomux_manager::extent::{Extent, ExtentPool};
use vfiomux_manager::journal::{Record, Setting, Settings};
use vfiomux_manager::lifecycle::{Life as _, Oper, Step, TABLE, advance};

use crate::bug::Bug;

/// Blocks of the device that channels may have: two channels fit, and not a third.
const BLOCKS: u64 = 4;
/// Blocks of each channel.
pub(crate) const CHANNEL_BLOCKS: u64 = 2;
/// What may be reserved in all: as much as both channels ask for.
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
    /// The device's label: who has which blocks.
    pub(crate) labelled: BTreeMap<String, Vec<Extent>>,
    /// Blocks that the label lists as nobody's and not scrubbed.
    pub(crate) unscrubbed: Vec<Extent>,
    /// Whose data each block holds.
    pub(crate) data: BTreeMap<u64, String>,
}

/// The control thread's memory.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Daemon {
    pub(crate) channels: BTreeMap<String, Channel>,
    pub(crate) pool: ExtentPool,
    pub(crate) book: Book,
    /// The sidecores' places: who sits there, and the reservation that is in force.
    pub(crate) seats: BTreeMap<String, u64>,
    /// What each operator waits for a verdict on.
    pub(crate) asked: [Option<Asked>; 2],
    /// Blocks left over from an earlier run that are being scrubbed.
    pub(crate) leftovers: Vec<Extent>,
}

/// A channel, as the control thread keeps it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Channel {
    pub(crate) setting: Setting,
    pub(crate) extents: Vec<Extent>,
    /// What the one operation that is under way does next.
    pub(crate) flow: Option<Flow>,
    /// Its transient state ends by force at some time.
    pub(crate) armed: bool,
}

/// The rest of an operation: what happens when what it waits for has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Flow {
    /// A creation, when the label is written.
    Label,
    /// A creation, when there is a place.
    Seat,
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
    /// A destruction, when nothing is in flight.
    Unseat,
    /// A destruction, when the label no longer names the channel.
    Mark,
    /// A destruction, when the blocks read as zeroes.
    Zero,
    /// A destruction, when the label no longer lists the blocks.
    Clean,
    /// A start, when there is a place.
    BringBack,
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
    pub(crate) fn new(left: Left) -> Self {
        let daemon = Some(Daemon::new());
        Self { disk: Disk::default(), daemon, seen: Seen::default(), left, writes_left: None }
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

    pub(crate) fn oper(&self, id: &str) -> Option<Oper> {
        self.channel(id).map(|channel| channel.setting.oper)
    }
}

impl Daemon {
    pub(crate) fn new() -> Self {
        let mut book = Book::default();
        book.set_offer(Offer::Ops(CAPACITY_OPS));
        Self {
            channels: BTreeMap::new(),
            pool: pool(),
            book,
            seats: BTreeMap::new(),
            asked: [None, None],
            leftovers: Vec::new(),
        }
    }

    /// Makes the book equal to what is.
    pub(crate) fn align(&mut self) {
        let present =
            self.channels.values().map(|channel| (holder(&channel.setting), reserved(&channel.setting)));
        self.book.align(present.collect::<Vec<_>>());
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
            "id": "", "name": "", "tenant": "t", "pool": "p", "size_bytes": CHANNEL_BLOCKS, "queues": 1, "read_only": false,
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
        self.labelled.hash(state);
        self.unscrubbed.hash(state);
        self.data.hash(state);
    }
}

impl Hash for Daemon {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for channel in self.channels.values() {
            hash_setting(&channel.setting, state);
            channel.extents.hash(state);
            (channel.flow, channel.armed).hash(state);
        }
        // The pool's free runs follow from whom it gave what, and so do the book's entries but for what is taken.
        (self.pool.free_blocks(), self.pool.longest_free_blocks()).hash(state);
        for entry in self.book.holders() {
            (entry.holder.id, entry.has_ops, entry.taken_ops).hash(state);
        }
        self.seats.hash(state);
        self.asked.hash(state);
        self.leftovers.hash(state);
    }
}

fn hash_setting(setting: &Setting, state: &mut impl Hasher) {
    let Setting { id, name, endpoint, generation, .. } = setting;
    (id, name, endpoint.is_some(), generation, reserved(setting)).hash(state);
    (std::mem::discriminant(&setting.admin), std::mem::discriminant(&setting.oper)).hash(state);
}
