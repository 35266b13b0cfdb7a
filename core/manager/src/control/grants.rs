//! What front-ends lend: mapped on the pinner, handed to the sidecore, and given back only when unmapped (D3).

use std::sync::Arc;

use vfiomux_guest::MemoryMap;
use vfiomux_hw::{DmaDomain, Epoch, Quiesced};
use vfiomux_policy::{PressureKind, Session as PolicySession};
use vfiomux_rpc::{EventKind, ObjectKind};
use vfiomux_sidecore::{Answer, Order};
use vfiomux_vhost::{Outcome, RegionGrant, RegionId, Token};

use super::Control;
use super::attachment::KeptRegion;
use super::question::policy_channel;
use crate::event::event;
use crate::seeded::{self, Bug};

impl Control {
    pub(crate) fn map_memory(
        &mut self,
        id: &str,
        serial: u64,
        token: Token,
        regions: Vec<RegionGrant>,
        replace: bool,
    ) {
        if !self.has_policies() {
            return self.map_allowed(id, serial, token, regions, replace);
        }
        let Some(question) = self.session_question(id, &regions, replace) else { return };
        let owned = id.to_owned();
        self.ask_session(id, question, move |control, allowed| match allowed {
            Ok(()) => control.map_allowed(&owned, serial, token, regions, replace),
            Err(why) => control.complete(&owned, serial, token, Outcome::Failed(why)),
        });
    }

    /// What a front-end wants, as policies are asked about it.
    fn session_question(
        &mut self,
        id: &str,
        regions: &[RegionGrant],
        replace: bool,
    ) -> Option<PolicySession> {
        let channel = self.channels.get(id)?;
        let features_offered = channel.seat.as_ref()?.settings.features();
        let (channel, live) = (policy_channel(channel), self.live_mut(id)?);
        let kept = live.regions.iter().filter(|_| !replace).map(|kept| kept.id.size_bytes);
        let sizes: Vec<u64> = kept.chain(regions.iter().map(|region| region.id.size_bytes)).collect();
        Some(PolicySession {
            channel,
            features_offered,
            features_taken: live.session.features(),
            memory_regions: u32::try_from(sizes.len()).unwrap_or(u32::MAX),
            memory_bytes: sizes.iter().fold(0, |sum, size| sum.saturating_add(*size)),
            peer_pid: live.connection.peer_pid().and_then(|pid| pid.try_into().ok()).unwrap_or(0),
            peer_uid: live.connection.peer_uid().unwrap_or(u32::MAX),
        })
    }

    fn map_allowed(&mut self, id: &str, serial: u64, token: Token, regions: Vec<RegionGrant>, replace: bool) {
        let Some(domain) = self.domain_of(id) else { return };
        // A session that ended while policies were asked is granted nothing (D1).
        let Some(live) = self.live_mut(id).filter(|live| live.serial == serial && !live.closing) else {
            return;
        };
        let kept = if replace { Vec::new() } else { live.regions.clone() };
        let owned = id.to_owned();
        self.pinner.run(
            move |pinner| {
                let mapped = pinner.map(&domain, kept, regions);
                mapped.map(|(kept, map)| Mapped { domain, kept, map })
            },
            move |control, result| match result {
                Ok(mapped) => control.set_memory(&owned, serial, token, mapped),
                Err(error) => {
                    control.tell_pressure(PressureKind::Memory, String::new(), 1000);
                    control.complete(&owned, serial, token, Outcome::Failed(error.to_string()));
                }
            },
        );
    }

    pub(crate) fn unmap_memory(&mut self, id: &str, serial: u64, token: Token, region: RegionId) {
        let Some(domain) = self.domain_of(id) else { return };
        let Some(live) = self.live_mut(id) else { return };
        let kept: Vec<KeptRegion> = live.regions.iter().filter(|kept| kept.id != region).cloned().collect();
        let owned = id.to_owned();
        self.pinner.run(
            move |pinner| {
                let mapped = pinner.map(&domain, kept, Vec::new());
                mapped.map(|(kept, map)| Mapped { domain, kept, map })
            },
            move |control, result| match result {
                Ok(mapped) => control.set_memory(&owned, serial, token, mapped),
                Err(error) => control.complete(&owned, serial, token, Outcome::Failed(error.to_string())),
            },
        );
    }

    /// Gives the sidecore a new map; when the old one is quiesced and unmapped, the front-end hears that it is done (D3).
    pub(crate) fn set_memory(&mut self, id: &str, serial: u64, token: Token, mapped: Mapped) {
        if self.is_between(id) {
            // It may come out on another device, which reaches other memory.
            let owned = id.to_owned();
            return self.after_shift(id, move |control| control.set_memory(&owned, serial, token, mapped));
        }
        if self.domain_of(id).is_some_and(|domain| !Arc::ptr_eq(&domain, &mapped.domain)) {
            return self.map_again(id, serial, token, mapped);
        }
        let Mapped { kept, map, .. } = mapped;
        let map = Arc::new(map);
        // The session may have ended while the memory was being mapped: then nothing may stay mapped for it (D1).
        let Some(live) = self.live_mut(id).filter(|live| live.serial == serial && !live.closing) else {
            if seeded::is(Bug::LeakOnFailedHandshake) {
                return;
            }
            return self.unmap(unused(map), |_| {});
        };
        live.regions = kept;
        live.map = Arc::downgrade(&map);
        let owned = id.to_owned();
        self.drained_order(
            id,
            move |seat| Order::SetMemory { channel: seat.id, map },
            move |control, answer| match answer {
                Some(Answer::MemoryReplaced { old: Some(old) }) => {
                    control.unmap(old, move |control| control.complete(&owned, serial, token, Outcome::Done));
                }
                Some(Answer::Refused { why, order }) => {
                    if let Order::SetMemory { map, .. } = *order {
                        control.unmap(unused(map), |_| {});
                    }
                    control.complete(&owned, serial, token, Outcome::Failed(why.to_string()));
                }
                _ => control.complete(&owned, serial, token, Outcome::Done),
            },
        );
    }

    /// The channel went to another device while its memory was being mapped for the one before.
    fn map_again(&mut self, id: &str, serial: u64, token: Token, mapped: Mapped) {
        let Mapped { kept, map, .. } = mapped;
        let owned = id.to_owned();
        self.unmap(unused(Arc::new(map)), move |control| {
            let Some(domain) = control.domain_of(&owned) else { return };
            control.pinner.run(
                move |pinner| {
                    let mapped = pinner.map(&domain, kept, Vec::new());
                    mapped.map(|(kept, map)| Mapped { domain, kept, map })
                },
                move |control, result| match result {
                    Ok(mapped) => control.set_memory(&owned, serial, token, mapped),
                    Err(error) => control.complete(&owned, serial, token, Outcome::Failed(error.to_string())),
                },
            );
        });
    }

    /// Has quiesced memory taken out of the device's reach, then goes on.
    pub(crate) fn unmap(
        &mut self,
        memory: Quiesced<Arc<MemoryMap>>,
        next: impl FnOnce(&mut Control) + Send + 'static,
    ) {
        self.pinner.run(
            move |pinner| pinner.unmap(memory),
            move |control, failures| {
                for error in failures {
                    let mut fault = event(EventKind::Fault, ObjectKind::Daemon, "vfiomuxd");
                    fault.reason = Some(error.to_string());
                    control.tell(fault);
                }
                next(control);
            },
        );
    }

    /// The rings are stopped: take the memory from the sidecore, then from the device.
    pub(crate) fn drop_memory(&mut self, id: &str) {
        let owned = id.to_owned();
        let Ok(nothing) = MemoryMap::new(Vec::new()) else { return self.session_gone(id) };
        self.drained_order(
            id,
            move |seat| Order::SetMemory { channel: seat.id, map: Arc::new(nothing) },
            move |control, answer| match answer {
                Some(Answer::MemoryReplaced { old: Some(old) }) => {
                    control.unmap(old, move |control| control.session_gone(&owned));
                }
                _ => control.session_gone(&owned),
            },
        );
    }

    pub(crate) fn domain_of(&self, id: &str) -> Option<Arc<DmaDomain>> {
        let channel = self.channels.get(id)?;
        self.devices.get(&channel.device)?.domain.clone()
    }
}

/// What a front-end lends, mapped for a device.
pub(crate) struct Mapped {
    domain: Arc<DmaDomain>,
    kept: Vec<KeptRegion>,
    map: MemoryMap,
}

/// A map that no sidecore has seen: nothing can name it.
pub(crate) fn unused(map: Arc<MemoryMap>) -> Quiesced<Arc<MemoryMap>> {
    match Epoch::open(map).close() {
        Ok(quiesced) => quiesced,
        // An epoch that was opened a line ago has nothing in flight.
        Err(epoch) => unreachable!("a fresh epoch had {} commands in flight", epoch.in_flight()),
    }
}
