//! A front-end's rings: built here, served by the sidecore.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use vfiomux_channel::RingStart;
use vfiomux_guest::{Call, Inflight, Kick, SplitRing};
use vfiomux_sidecore::{Answer, Order};
use vfiomux_vhost::{InflightRegion, Outcome, RingSetup, Token};

use super::Control;
use super::attachment::Live;
use super::channel::Seat;
use super::lines::DeviceOrder;
use crate::lifecycle::{Oper, Step};

impl Control {
    pub(crate) fn start_ring(&mut self, id: &str, serial: u64, token: Token, index: u16, setup: RingSetup) {
        let Some(live) = self.live_mut(id) else { return };
        let start = ring_start(live, index, &setup);
        match start {
            Ok(start) => {
                live.rings.insert(index, setup.size);
                self.keep_call(id, index, setup.call.as_ref());
                let owned = id.to_owned();
                self.seat_order(
                    id,
                    move |seat| Order::StartRing { channel: seat.id, index, start: Box::new(start) },
                    move |control, answer| {
                        let outcome = match answer {
                            Some(Answer::Refused { why, .. }) => {
                                if let Some(live) =
                                    control.live_mut(&owned).filter(|live| live.serial == serial)
                                {
                                    live.rings.remove(&index);
                                }
                                Outcome::Failed(why.to_string())
                            }
                            _ => {
                                if control
                                    .channels
                                    .get(&owned)
                                    .is_some_and(|c| c.setting.oper == Oper::Listening)
                                {
                                    control.step(&owned, Step::Start, None);
                                }
                                Outcome::Done
                            }
                        };
                        control.complete(&owned, serial, token, outcome);
                    },
                );
            }
            Err(why) => self.complete(id, serial, token, Outcome::Failed(why)),
        }
    }

    pub(crate) fn keep_call(&mut self, id: &str, index: u16, call: Option<&Arc<OwnedFd>>) {
        let Some(live) = self.live_mut(id) else { return };
        match call {
            Some(call) => live.calls.insert(index, call.clone()),
            None => live.calls.remove(&index),
        };
    }

    pub(crate) fn stop_ring(&mut self, id: &str, serial: u64, token: Token, index: u16) {
        let owned = id.to_owned();
        let Some(live) = self.live_mut(id) else { return };
        live.stopping.insert(index);
        self.drained_order(
            id,
            move |seat| Order::StopRing { channel: seat.id, index },
            move |control, answer| {
                let Some((last, closing)) = control.ring_gone(&owned, serial, index) else { return };
                let outcome = match answer {
                    Some(Answer::RingStopped { ring }) => Outcome::RingStopped { base: u32::from(ring.base) },
                    Some(Answer::Refused { why, .. }) => Outcome::Failed(why.to_string()),
                    _ => Outcome::Failed("the channel is no longer served".to_owned()),
                };
                if last
                    && !closing
                    && control.channels.get(&owned).is_some_and(|c| c.setting.oper == Oper::Active)
                {
                    control.step(
                        &owned,
                        Step::SessionLost,
                        Some("the front-end stopped its last ring".to_owned()),
                    );
                }
                control.complete(&owned, serial, token, outcome);
            },
        );
    }

    /// A ring is no longer served. When the session is over and it was the last, the session's memory goes next. Gives
    /// whether it was the last, and whether the session is over.
    pub(crate) fn ring_gone(&mut self, id: &str, serial: u64, index: u16) -> Option<(bool, bool)> {
        let live = self.live_mut(id).filter(|live| live.serial == serial)?;
        live.rings.remove(&index);
        live.stopping.remove(&index);
        let (last, closing) = (live.rings.is_empty(), live.closing);
        if last && closing {
            self.drop_memory(id);
        }
        Some((last, closing))
    }

    /// Gives an order about a ring that is answered with done.
    pub(crate) fn ring_order(
        &mut self,
        id: &str,
        serial: u64,
        token: Token,
        order: impl FnOnce(&Seat) -> DeviceOrder + 'static,
    ) {
        let owned = id.to_owned();
        self.seat_order(id, order, move |control, answer| {
            let outcome = match answer {
                Some(Answer::Refused { why, .. }) => Outcome::Failed(why.to_string()),
                _ => Outcome::Done,
            };
            control.complete(&owned, serial, token, outcome);
        });
    }
}

pub(crate) fn duplicate(fd: &OwnedFd) -> Result<OwnedFd, String> {
    fd.try_clone()
        .map_err(|error| format!("cannot duplicate a descriptor: {error}; raise the limit of open files"))
}

/// A fresh region for tracking what is in flight. The front-end keeps it, and gives it to whoever serves next.
pub(crate) fn inflight_region(num_queues: u16, queue_size: u16) -> Result<InflightRegion, String> {
    let region = Inflight::create(num_queues, queue_size).map_err(|error| error.to_string())?;
    let file = region.file().ok_or("an in-flight region has no file")?;
    let file =
        file.try_clone_to_owned().map_err(|error| format!("cannot duplicate a descriptor: {error}"))?;
    Ok(InflightRegion { mmap_size: Inflight::size_bytes(num_queues, queue_size), mmap_offset: 0, file })
}

fn ring_start(live: &Live, index: u16, setup: &RingSetup) -> Result<RingStart, String> {
    let map = live.map.upgrade().ok_or("a ring was started before memory was shared")?;
    let base = u16::try_from(setup.base).map_err(|_| "the ring's base is no index of a split ring")?;
    let kick =
        setup.kick.as_deref().map(|fd| duplicate(fd).and_then(|fd| Kick::new(fd).map_err(|e| e.to_string())));
    let call =
        setup.call.as_deref().map(|fd| duplicate(fd).and_then(|fd| Call::new(fd).map_err(|e| e.to_string())));
    let setup = vfiomux_guest::RingSetup {
        size: u32::from(setup.size),
        desc_user_addr: setup.desc_user_addr,
        avail_user_addr: setup.avail_user_addr,
        used_user_addr: setup.used_user_addr,
        base,
        features: setup.features,
    };
    let inflight = live.inflight.as_ref().and_then(|inflight| inflight.queue(index));
    let ring = SplitRing::new(&map, &setup, inflight).map_err(|error| error.to_string())?;
    Ok(RingStart { ring, kick: kick.transpose()?, call: call.transpose()? })
}
