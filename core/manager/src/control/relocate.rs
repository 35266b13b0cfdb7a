//! Moving a channel to another device while its guest works.
//!
//! ```text
//!                                        the channel's place   what a crash leaves to be scrubbed
//!   1  journal: elsewhere (target)       source                –
//!   2  target's label: blocks unscrubbed source                the target's blocks
//!   3  copy, marked chunks again         source                the target's blocks
//!   4  take: held, drained, in our hands source                the target's blocks      a pause begins
//!   5  copy what is marked, flush        source                the target's blocks
//!   6  target's label: the channel       source                the target's entry
//!   7  journal: relocated                TARGET                the source's entry
//!   8  place: on the target's sidecore   target                the source's entry       it ends
//!   9  source's label: blocks unscrubbed target                the source's blocks
//!  10  scrub, give back, journal: cleared target               –
//! ```
//!
//! One line of the journal decides where the channel is (step 7): before it, whatever a label says of the channel on the target
//! is to be scrubbed; after it, whatever a label says of it on the source. So at any instant, whichever of the two devices is
//! there at the next start, one of them has the channel and the other never serves it (T3).
//!
//! The copy goes by the wardens, a chunk at a time, through memory of our own, so no sidecore does anything but carry the
//! commands. The channel marks what its guest changes meanwhile ([`DirtyMap`]); when little is marked, the channel is drained
//! and taken as for a move between sidecores, and what is still marked is copied while nobody writes. Its session stays: rings,
//! descriptors and counters go along, and the guest's memory is mapped for the other device before anything is decided.
//!
//! Until step 7 anything that goes wrong, or somebody who cancels the job, leaves the channel where it was.

mod back;
mod switch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use vfiomux_block::Limits;
use vfiomux_channel::{DirtyMap, Extent as Run, ExtentMap};
use vfiomux_policy::Migrate;
use vfiomux_rpc::{Caller, Change, ErrorCode, RpcError, Ticket, call};
use vfiomux_sidecore::{Answer, Order};

use self::switch::Prepared;
use super::Control;
use super::admission::holder;
use super::channel::internal;
use super::job::{Leg, cancelled};
use super::procedure::Operation;
use super::question::policy_channel;
use super::shift::not_moved;
use crate::extent::Extent;
use crate::label::GRAIN_BYTES;
use crate::lifecycle::Life as _;
use crate::procedure::{ARRIVE, Procedure};

/// With no more chunks marked than this, what is left is copied while the guest waits.
const SWITCH_CHUNKS: u64 = 4;
/// A guest that writes faster than is copied waits for the rest when all was copied so many times.
const ROUNDS_MAX: u64 = 4;
/// How often the channel is asked for; each time its commands have until the deadline to end.
const TAKES_MAX: u32 = 5;
/// Thousandths of the job's way that the copy is.
const COPIED: u16 = 800;

/// Where a channel's blocks are.
#[derive(Debug, Clone)]
struct Place {
    device: String,
    namespace: u32,
    limits: Limits,
    extents: Vec<Extent>,
    map: ExtentMap,
}

impl Place {
    /// Blocks of the channel, as runs of the device's.
    fn runs(&self, mut block: u64, mut blocks: u64) -> Vec<Extent> {
        let mut runs = Vec::new();
        while blocks > 0
            && let Some(place) = self.map.place(block)
        {
            let run = blocks.min(place.run_blocks);
            runs.push(Extent { start: place.lba, blocks: run });
            block += run;
            blocks -= run;
        }
        runs
    }
}

/// A move that is under way.
struct Relocation {
    /// The channel.
    id: String,
    source: Place,
    target: Place,
    dirty: Arc<DirtyMap>,
    /// Where the next marked chunk is looked for, and how many were copied.
    at: u64,
    copied: u64,
    takes: u32,
    cancel: Arc<AtomicBool>,
    uid: u32,
    ticket: Ticket,
    /// What was made on the target for the channel to be served there.
    prepared: Option<Prepared>,
}

impl Relocation {
    fn leg(&self, from: u16, to: u16) -> Leg {
        Leg::part(self.ticket.job(), from, to)
    }

    /// A part of the move, about the channel's blocks at one of the two places.
    fn operation(&self, procedure: Procedure, place: &Place) -> Operation {
        Operation::new(procedure, &self.id, &place.device, place.namespace, place.extents.clone())
    }

    fn total_blocks(&self) -> u64 {
        self.source.map.blocks()
    }
}

impl Control {
    /// `channel.move` to another device.
    pub(crate) fn relocate(
        &mut self,
        ticket: Ticket,
        caller: Caller,
        change: Change,
        wanted: call::ChannelMove,
    ) {
        let (id, question) = match self.relocating(caller, &change, &wanted) {
            Ok((id, Some(question))) => (id, question),
            other => return self.answer_checked(ticket, other.map(|(id, _)| id)),
        };
        self.ask_about(&id, caller, question, move |control, allowed| {
            let checked = allowed.and_then(|_| control.relocating(caller, &change, &wanted));
            let (id, question) = match checked {
                Ok((id, Some(question))) => (id, question),
                other => return control.answer_checked(ticket, other.map(|(id, _)| id)),
            };
            let device = question.target.map(|device| device.name).unwrap_or_default();
            match control.reserve_there(&id, &device) {
                Ok(()) if !change.dry_run => control.begin_relocation(ticket, caller, id, &device),
                reserved => {
                    control.give_reservation_back(&device, &id);
                    control.answer_checked(ticket, reserved.map(|()| id));
                }
            }
        });
    }

    /// The channel that is to be moved, and the question that this puts to policies; none when it is there already.
    fn relocating(
        &self,
        caller: Caller,
        change: &Change,
        wanted: &call::ChannelMove,
    ) -> Result<(String, Option<Migrate>), RpcError> {
        let id = self.channel_free(&wanted.name, change.expected_generation)?;
        if wanted.sidecore.is_some() {
            return Err(RpcError::invalid_argument(
                "sidecore",
                "a channel goes to a device or to a sidecore",
            )
            .next("move it to the device first, then to the sidecore"));
        }
        let target = self.device_named(wanted.device.as_deref().unwrap_or_default())?;
        let channel = self.channel_named(&wanted.name)?;
        if channel.device == target.name {
            return Ok((id, None));
        }
        target.check_ready()?;
        self.unhindered(&id).map_err(|why| not_moved(&wanted.name, &why))?;
        self.target_of(&id, &target.name)?;
        let question = Migrate {
            channel: vfiomux_policy::Channel { device: target.name.clone(), ..policy_channel(channel) },
            target: Some(self.policy_device(&target.name)),
            target_host: String::new(),
            tenant: self.policy_tenant(&channel.setting.tenant, Some(&id)),
            caller_uid: caller.uid,
            dry_run: change.dry_run,
        };
        Ok((id, Some(question)))
    }

    /// The namespace of another device that a channel can go to: with blocks of the same size, with room, and with all that its
    /// guest has been told of.
    fn target_of(&self, id: &str, device: &str) -> Result<u32, RpcError> {
        let (Some(channel), Some(target)) = (self.channels.get(id), self.devices.get(device)) else {
            return Err(internal(&"the channel or the device is gone"));
        };
        let about = || format!("device {device}");
        let seat =
            channel.seat.as_ref().ok_or_else(|| not_moved(&channel.setting.name, "no sidecore serves it"))?;
        let same_blocks: Vec<_> = target
            .namespaces
            .iter()
            .filter(|(_, namespace)| namespace.limits.block_bytes == channel.block_bytes)
            .filter_map(|(&id, namespace)| Some((id, namespace.limits, namespace.carving.as_ref().ok()?)))
            .collect();
        if same_blocks.is_empty() {
            let (name, bytes) = (&channel.setting.name, channel.block_bytes);
            return Err(RpcError::new(
                ErrorCode::Unsupported,
                format!("channel {name} has blocks of {bytes} bytes, and device {device} has no formatted namespace with such blocks"),
            )
            .about(about())
            .next(format!("see vfiomuxctl device show {device}; choose a device with the same block size")));
        }
        // Whatever clears it there would take the channel for what it clears.
        let elsewhere = &self.journal.settings().elsewhere;
        let (left, same_blocks): (Vec<_>, Vec<_>) = same_blocks
            .into_iter()
            .partition(|(.., carving)| elsewhere.contains(&(carving.label.pool.clone(), id.to_owned())));
        if !left.is_empty() && same_blocks.is_empty() {
            let name = &channel.setting.name;
            return Err(RpcError::new(
                ErrorCode::Busy,
                format!("what an earlier stay of channel {name} has left on device {device} is not scrubbed yet"),
            )
            .about(about())
            .next("try again in a moment; if vfiomuxctl events tells that it could not be scrubbed, release and claim the device first"));
        }
        let blocks: u64 = channel.extents.iter().map(|extent| extent.blocks).sum();
        let (namespace, limits, _) = same_blocks
            .into_iter()
            .find(|(.., carving)| carving.pool.free_blocks() >= blocks)
            .ok_or_else(|| {
                RpcError::new(
                    ErrorCode::NoSpace,
                    format!("device {device} has no room for {} bytes", channel.setting.size_bytes),
                )
                .about(about())
                .next("see vfiomuxctl device show; destroy a channel there, or choose another device")
            })?;
        let there = vfiomux_channel::ChannelSettings { limits, ..seat.settings.clone() }.features();
        let live = channel.attachment.as_ref().and_then(|attachment| attachment.live.as_ref());
        let missing = live.map_or(0, |live| live.session.features() & seat.settings.features() & !there);
        if missing != 0 {
            return Err(RpcError::new(
                ErrorCode::Unsupported,
                format!(
                    "device {device} lacks what the guest of channel {} was told of (discard)",
                    channel.setting.name
                ),
            )
            .about(about())
            .next("detach the channel, move it, and attach it again: its guest then looks anew"));
        }
        Ok(namespace)
    }

    /// What the channel is promised has to be had on the other device too (L5). Until it is there it counts on both.
    fn reserve_there(&mut self, id: &str, device: &str) -> Result<(), RpcError> {
        let Some(channel) = self.channels.get(id) else { return Err(internal(&"the channel is gone")) };
        let (holder, guarantees) = (holder(channel), channel.setting.guarantees);
        self.take_reservation(device, &holder, &guarantees)
    }

    /// Takes blocks on the target, and makes sure that a crash leaves them to be scrubbed.
    fn begin_relocation(&mut self, ticket: Ticket, caller: Caller, id: String, device: &str) {
        let places = self.source_of(&id).and_then(|source| Ok((source, self.take_target(&id, device)?)));
        let (source, target) = match places {
            Ok(places) => places,
            Err(error) => {
                self.give_reservation_back(device, &id);
                return self.rpc.reply(ticket, Err(error));
            }
        };
        self.set_operation(&id, Some("being moved"));
        if let Some(target) = self.devices.get_mut(&target.device) {
            target.incoming += 1;
        }
        let chunk_blocks = GRAIN_BYTES / u64::from(source.limits.block_bytes);
        let way = Box::new(Relocation {
            dirty: Arc::new(DirtyMap::all(source.map.blocks(), chunk_blocks)),
            id,
            source,
            target,
            at: 0,
            copied: 0,
            takes: 0,
            cancel: self.job_cancel_flag(ticket.job()),
            uid: caller.uid,
            ticket,
            prepared: None,
        });
        self.carry_out(way.operation(ARRIVE, &way.target), move |control, arrived| match arrived {
            Ok(()) => control.track(way),
            Err(why) => control.turned_away(*way, not_copied(&why)),
        });
    }

    fn source_of(&self, id: &str) -> Result<Place, RpcError> {
        let channel = self.channels.get(id).ok_or_else(|| internal(&"the channel is gone"))?;
        let device = self.devices.get(&channel.device);
        let seat = device.and_then(|device| device.namespaces.get(&channel.namespace));
        let Some((limits, Ok(_))) = seat.map(|seat| (seat.limits, &seat.carving)) else {
            return Err(internal(&"the channel's namespace has no label"));
        };
        Ok(Place {
            device: channel.device.clone(),
            namespace: channel.namespace,
            limits,
            map: map_of(&channel.extents, &limits)?,
            extents: channel.extents.clone(),
        })
    }

    fn take_target(&mut self, id: &str, device: &str) -> Result<Place, RpcError> {
        let namespace = self.target_of(id, device)?;
        let blocks = self.channels.get(id).map_or(0, |c| c.extents.iter().map(|extent| extent.blocks).sum());
        let seat = self.devices.get_mut(device).and_then(|device| device.namespaces.get_mut(&namespace));
        let Some((limits, Ok(carving))) = seat.map(|seat| (seat.limits, &mut seat.carving)) else {
            return Err(internal(&"the namespace is gone"));
        };
        let before = carving.pool.clone();
        let extents = carving.pool.take(blocks).map_err(|error| {
            RpcError::new(ErrorCode::NoSpace, format!("device {device} has no room: {error}"))
                .about(format!("device {device}"))
                .next("destroy a channel there, or choose another device")
        })?;
        let map = map_of(&extents, &limits).ok().filter(|map| map.blocks() == blocks);
        let Some(map) = map else {
            carving.pool = before;
            return Err(RpcError::new(
                ErrorCode::Unsupported,
                format!("device {device} hands out blocks in another measure than the channel has"),
            )
            .about(format!("device {device}"))
            .next("resize the channel to a multiple of 1 MiB first"));
        };
        Ok(Place { device: device.to_owned(), namespace, limits, extents, map })
    }

    /// From now on the channel marks what it changes.
    fn track(&mut self, way: Box<Relocation>) {
        let (id, map) = (way.id.clone(), way.dirty.clone());
        self.seat_order(
            &id,
            move |seat| Order::Track { channel: seat.id, map: Some(map) },
            move |control, answer| match answer {
                Some(Answer::Done) => control.copy_on(way),
                _ => control.call_off(way, not_copied("no sidecore serves the channel")),
            },
        );
    }

    /// Copies the next marked chunk, or goes over to the switch when few are left.
    fn copy_on(&mut self, mut way: Box<Relocation>) {
        if let Err(error) = self.goes_on(&way) {
            return self.call_off(way, error);
        }
        let (marked, chunks) = (way.dirty.marked(), way.dirty.chunks());
        let leg = way.leg(0, COPIED);
        self.job_progress(leg, chunks - marked.min(chunks), chunks, "copying");
        if marked <= SWITCH_CHUNKS || way.copied > ROUNDS_MAX * chunks {
            return self.prepare(way);
        }
        let Some(chunk) = way.dirty.take_from(way.at) else { return self.prepare(way) };
        way.at = (chunk + 1) % chunks;
        way.copied += 1;
        self.copy_chunk(way, chunk, |control, way, copied| match copied {
            Ok(()) => control.copy_on(way),
            Err(why) => control.call_off(way, not_copied(&why)),
        });
    }

    /// Whether nothing stands in the way of a copy that is under way.
    fn goes_on(&self, way: &Relocation) -> Result<(), RpcError> {
        let name = self.name_of(&way.id);
        if way.cancel.load(Ordering::Relaxed) {
            return Err(cancelled(&format!("the move of channel {name}")));
        }
        if self.ending.is_some() {
            return Err(RpcError::new(ErrorCode::Busy, "the daemon is ending").next("ask the next one"));
        }
        if !self.channels.get(&way.id).is_some_and(|channel| channel.setting.oper.steady()) {
            return Err(not_moved(&name, "something happened to it"));
        }
        for device in [&way.source.device, &way.target.device] {
            self.device_named(device)?.check_ready()?;
        }
        Ok(())
    }

    /// Copies a chunk from device to device, by way of their threads.
    fn copy_chunk(
        &mut self,
        way: Box<Relocation>,
        chunk: u64,
        next: impl FnOnce(&mut Control, Box<Relocation>, Result<(), String>) + Send + 'static,
    ) {
        let chunk_blocks = way.dirty.chunk_blocks();
        let block = chunk * chunk_blocks;
        let blocks = chunk_blocks.min(way.total_blocks().saturating_sub(block));
        let (from, to) = (way.source.runs(block, blocks), way.target.runs(block, blocks));
        let (namespace, limits) = (way.source.namespace, way.source.limits);
        let Some(source) = self.devices.get(&way.source.device) else {
            return next(self, way, Err("the device that it is on is gone".to_owned()));
        };
        source.worker.run(
            move |warden| warden.copy_out(namespace, &limits, &from),
            move |control, read| {
                let bytes = match read {
                    Ok(bytes) => bytes,
                    Err(why) => return next(control, way, Err(why)),
                };
                let Some(target) = control.devices.get(&way.target.device) else {
                    return next(control, way, Err("the device that it goes to is gone".to_owned()));
                };
                let (namespace, limits) = (way.target.namespace, way.target.limits);
                target.worker.run(
                    move |warden| warden.copy_in(namespace, &limits, &to, &bytes),
                    move |control, written| next(control, way, written),
                );
            },
        );
    }
}

fn map_of(extents: &[Extent], limits: &Limits) -> Result<ExtentMap, RpcError> {
    let runs: Vec<Run> =
        extents.iter().map(|extent| Run { lba: extent.start, blocks: extent.blocks }).collect();
    ExtentMap::new(&runs, limits).map_err(|error| internal(&error))
}

fn not_copied(why: &str) -> RpcError {
    RpcError::new(ErrorCode::DeviceFault, format!("the channel stays where it is: {why}"))
        .next("see vfiomuxctl events and vfiomuxctl device list, then try again")
}
