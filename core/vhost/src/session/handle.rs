//! What each request means.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use vfiomux_spec::vhost_user::{
    ConfigHeader, FrontendRequest, Inflight, MAX_MEM_SLOTS, U64, VringAddr, VringState,
    protocol_features as pf,
};
use vfiomux_spec::virtio::{features, split};
use zerocopy::IntoBytes;

use super::config::{self, ConfigWrite};
use super::job::{Awaited, Then};
use super::memory::MemoryTable;
use super::{Ring, Session};
use crate::codec::Message;
use crate::request::{Notifier, Request, has_own_reply, required_feature};
use crate::{Action, Direction, EndReason, InflightRegion, RegionGrant, RegionId, Violation};

impl Session {
    /// Begin to carry out a message, and conclude it if nothing has to be waited for.
    pub(super) fn handle(&mut self, message: Message) {
        let (request, needs_reply) = (message.request, message.needs_reply);
        if !self.offers(request) {
            self.trace.push(Direction::Received, request.name(), String::from("not offered"));
            return self.refuse(request, needs_reply);
        }
        let parsed = Request::parse(message);
        let detail = parsed.as_ref().map_or_else(ToString::to_string, Request::detail);
        self.trace.push(Direction::Received, request.name(), detail);
        self.begin(request, needs_reply);
        match parsed.and_then(|parsed| self.apply(request, parsed)) {
            Ok(()) => self.conclude_if_idle(),
            Err(violation) => self.close(EndReason::Violation(violation)),
        }
    }

    /// Virtio features as a front-end sees them.
    fn offered_features(&self) -> u64 {
        let vhost =
            if self.device.protocol_features == 0 { 0 } else { features::VHOST_USER_PROTOCOL_FEATURES };
        self.device.features | vhost
    }

    fn offers(&self, request: FrontendRequest) -> bool {
        required_feature(request).is_some_and(|feature| self.device.protocol_features & feature == feature)
    }

    /// Answer a request that was not offered: a front-end that wants to know is told, one that does not is none the
    /// worse, one that waits for an answer which only the feature gives cannot be served.
    fn refuse(&mut self, request: FrontendRequest, needs_reply: bool) {
        if needs_reply {
            self.send_acknowledgement(request, 1, String::from("not offered"));
        } else if has_own_reply(request) {
            self.close(EndReason::Violation(Violation::NotOffered { request: request.name() }));
        } else {
            // No warning: a front-end could fill the log with it. The trace has the request.
            tracing::debug!(request = request.name(), "ignored a request that was not offered");
        }
    }

    fn apply(&mut self, request: FrontendRequest, parsed: Request) -> Result<(), Violation> {
        match parsed {
            Request::GetFeatures => self.reply_number(request, self.offered_features()),
            Request::GetProtocolFeatures => self.reply_number(request, self.device.protocol_features),
            Request::GetQueueNum => self.reply_number(request, u64::from(self.device.rings_max)),
            Request::GetMaxMemSlots => self.reply_number(request, MAX_MEM_SLOTS as u64),
            Request::GetStatus => self.reply_number(request, u64::from(self.status)),
            Request::SetFeatures(bits) => self.set_features(bits)?,
            Request::SetProtocolFeatures(bits) => self.set_protocol_features(bits)?,
            Request::SetOwner => {}
            // Deprecated; what it is still used for is to stop all rings (vhost-user: RESET_OWNER).
            Request::ResetOwner => {
                self.stop_all_rings();
                self.rings.iter_mut().for_each(|ring| ring.kick = None);
            }
            Request::SetMemTable(regions) => self.set_mem_table(request, regions)?,
            Request::AddMemReg(region) => self.add_region(request, region)?,
            Request::RemMemReg(region) => self.remove_region(region),
            Request::SetVringNum(state) => self.set_vring_num(request, state)?,
            Request::SetVringAddr(addr) => self.set_vring_addr(request, addr)?,
            Request::SetVringBase(state) => self.set_vring_base(request, state)?,
            Request::GetVringBase(state) => self.get_vring_base(request, state)?,
            Request::SetVringEnable(state) => self.set_vring_enable(request, state)?,
            Request::SetVringFd { notifier, index, fd } => self.set_notifier(request, notifier, index, fd)?,
            Request::SetBackendReqFd(socket) => {
                let reply_ack = self.protocol_features & pf::REPLY_ACK != 0;
                self.tell("set-backend-channel", |token| Action::SetBackendChannel {
                    token,
                    socket,
                    reply_ack,
                });
            }
            Request::GetConfig { header } => self.get_config(request, header),
            Request::SetConfig { header, bytes } => self.set_config(header, &bytes),
            Request::GetInflightFd { inflight, payload_size } => {
                self.get_inflight(request, inflight, payload_size)?
            }
            Request::SetInflightFd { region, num_queues, queue_size } => {
                self.set_inflight(request, region, num_queues, queue_size)?;
            }
            Request::ResetDevice => {
                self.stop_all_rings();
                self.then(Then::ResetDevice);
            }
            Request::SetStatus(value) => self.set_status(request, value)?,
            Request::NetSetMtu(value) => {
                let mtu =
                    u16::try_from(value).map_err(|_| Violation::Value { request: request.name(), value })?;
                self.tell("set-mtu", |token| Action::SetMtu { token, mtu });
            }
            Request::SendRarp(value) => {
                // The first six bytes in memory are the address.
                let [a, b, c, d, e, f, ..] = value.to_ne_bytes();
                self.tell("send-rarp", |token| Action::SendRarp { token, mac: [a, b, c, d, e, f] });
            }
        }
        Ok(())
    }

    fn reply_number(&mut self, request: FrontendRequest, value: u64) {
        self.then(Then::Nothing);
        self.reply(request, U64 { value }.as_bytes(), Vec::new(), format!("{value:#x}"));
    }

    fn set_features(&mut self, bits: u64) -> Result<(), Violation> {
        let unknown = bits & !self.offered_features();
        if unknown != 0 {
            return Err(Violation::Features { bits: unknown });
        }
        if bits != self.features
            && let Some(index) = self.running_rings().next()
        {
            return Err(Violation::FeaturesWhileRunning { index });
        }
        self.features = bits;
        // Whether rings start enabled has been decided by this.
        for index in 0..self.device.rings_max {
            self.start_or_stop(index);
        }
        Ok(())
    }

    fn set_protocol_features(&mut self, bits: u64) -> Result<(), Violation> {
        let unknown = bits & !self.device.protocol_features;
        if unknown != 0 {
            return Err(Violation::ProtocolFeatures { bits: unknown });
        }
        self.protocol_features = bits;
        Ok(())
    }

    fn set_mem_table(
        &mut self,
        request: FrontendRequest,
        regions: Vec<RegionGrant>,
    ) -> Result<(), Violation> {
        let table = MemoryTable::of(request.name(), regions.iter().map(|region| region.id))?;
        self.ask(Awaited::ReplaceMemory(table), |token| Action::MapMemory { token, regions, replace: true });
        Ok(())
    }

    fn add_region(&mut self, request: FrontendRequest, region: RegionGrant) -> Result<(), Violation> {
        self.memory.check_addition(request.name(), region.id)?;
        self.ask(Awaited::AddMemory(region.id), |token| Action::MapMemory {
            token,
            regions: vec![region],
            replace: false,
        });
        Ok(())
    }

    fn remove_region(&mut self, region: RegionId) {
        if self.memory.contains(region) {
            self.ask(Awaited::RemoveMemory(region), |token| Action::UnmapMemory { token, region });
        } else {
            self.fail(format!("there is no region at {:#x}", region.guest_addr));
        }
    }

    /// The ring that a request names.
    fn ring(&mut self, request: FrontendRequest, index: u32) -> Result<(u16, &mut Ring), Violation> {
        let rings = self.device.rings_max;
        let unknown = Violation::RingIndex { request: request.name(), index, rings };
        let Ok(short) = u16::try_from(index) else { return Err(unknown) };
        let ring = self.rings.get_mut(usize::from(short)).ok_or(unknown)?;
        Ok((short, ring))
    }

    fn set_vring_num(&mut self, request: FrontendRequest, state: VringState) -> Result<(), Violation> {
        let max = self.device.ring_size_max;
        let (index, ring) = self.ring(request, state.index)?;
        let size = u16::try_from(state.num)
            .ok()
            .filter(|size| split::is_queue_size(state.num) && *size <= max)
            .ok_or(Violation::RingSize { index, size: state.num, max })?;
        if ring.running && ring.size != Some(size) {
            return Err(Violation::RingRunning { request: request.name(), index });
        }
        ring.size = Some(size);
        self.start_or_stop(index);
        Ok(())
    }

    fn set_vring_addr(&mut self, request: FrontendRequest, addr: VringAddr) -> Result<(), Violation> {
        let (index, ring) = self.ring(request, addr.index)?;
        let aligned = addr.descriptor.is_multiple_of(split::DESC_ALIGN_BYTES)
            && addr.available.is_multiple_of(split::AVAIL_ALIGN_BYTES)
            && addr.used.is_multiple_of(split::USED_ALIGN_BYTES);
        if !aligned {
            return Err(Violation::RingAlignment { index });
        }
        let moved = ring.addr.is_none_or(|present| {
            (present.descriptor, present.available, present.used)
                != (addr.descriptor, addr.available, addr.used)
        });
        if ring.running && moved {
            return Err(Violation::RingRunning { request: request.name(), index });
        }
        ring.addr = Some(addr);
        self.start_or_stop(index);
        Ok(())
    }

    fn set_vring_base(&mut self, request: FrontendRequest, state: VringState) -> Result<(), Violation> {
        let (index, ring) = self.ring(request, state.index)?;
        if ring.running {
            return Err(Violation::RingRunning { request: request.name(), index });
        }
        ring.base = state.num;
        self.start_or_stop(index);
        Ok(())
    }

    fn get_vring_base(&mut self, request: FrontendRequest, state: VringState) -> Result<(), Violation> {
        let (index, ring) = self.ring(request, state.index)?;
        if ring.running {
            self.stop(index);
        }
        self.then(Then::ReplyVringBase { index });
        Ok(())
    }

    fn set_vring_enable(&mut self, request: FrontendRequest, state: VringState) -> Result<(), Violation> {
        let (index, ring) = self.ring(request, state.index)?;
        ring.enabled = Some(match state.num {
            0 => false,
            1 => true,
            value => return Err(Violation::Value { request: request.name(), value: u64::from(value) }),
        });
        self.start_or_stop(index);
        Ok(())
    }

    fn set_notifier(
        &mut self,
        request: FrontendRequest,
        notifier: Notifier,
        index: u32,
        fd: Option<OwnedFd>,
    ) -> Result<(), Violation> {
        let (index, ring) = self.ring(request, index)?;
        let fd = fd.map(Arc::new);
        ring.set_notifier(notifier, fd.clone());
        if !ring.running {
            self.start_or_stop(index);
            return Ok(());
        }
        match notifier {
            Notifier::Kick => self.tell("set-kick", |token| Action::SetKick { token, index, kick: fd }),
            Notifier::Call => self.tell("set-call", |token| Action::SetCall { token, index, call: fd }),
            Notifier::Err => self.tell("set-err", |token| Action::SetErr { token, index, err: fd }),
        }
        Ok(())
    }

    fn get_config(&mut self, request: FrontendRequest, header: ConfigHeader) {
        self.then(Then::Nothing);
        let mut payload = header.as_bytes().to_vec();
        payload.extend(config::read(&self.device, header));
        let detail = format!("{} bytes from {}", header.size, header.offset);
        self.reply(request, &payload, Vec::new(), detail);
    }

    fn set_config(&mut self, header: ConfigHeader, bytes: &[u8]) {
        match config::write(&self.device, header, bytes) {
            ConfigWrite::Nothing => {}
            ConfigWrite::Refused(why) => self.fail(why),
            ConfigWrite::Write { offset, bytes } => {
                let awaited = Awaited::WriteConfig { offset, bytes: bytes.clone() };
                self.ask(awaited, |token| Action::WriteConfig { token, offset, bytes });
            }
        }
    }

    /// What an in-flight region may track: no more rings than the device has, none of an impossible size.
    fn check_inflight(
        &self,
        request: FrontendRequest,
        num_queues: u16,
        queue_size: u16,
    ) -> Result<(), Violation> {
        let possible = (1..=self.device.rings_max).contains(&num_queues)
            && split::is_queue_size(u32::from(queue_size))
            && queue_size <= self.device.ring_size_max;
        let value = u64::from(num_queues) << 16 | u64::from(queue_size);
        if possible { Ok(()) } else { Err(Violation::Value { request: request.name(), value }) }
    }

    fn get_inflight(
        &mut self,
        request: FrontendRequest,
        inflight: Inflight,
        payload_size: usize,
    ) -> Result<(), Violation> {
        let Inflight { num_queues, queue_size, .. } = inflight;
        self.check_inflight(request, num_queues, queue_size)?;
        self.then(Then::ReplyInflight { inflight, payload_size });
        self.ask(Awaited::Inflight, |token| Action::GetInflight { token, num_queues, queue_size });
        Ok(())
    }

    fn set_inflight(
        &mut self,
        request: FrontendRequest,
        region: InflightRegion,
        num_queues: u16,
        queue_size: u16,
    ) -> Result<(), Violation> {
        self.check_inflight(request, num_queues, queue_size)?;
        let end = region.mmap_offset.checked_add(region.mmap_size);
        if region.mmap_size == 0 || end.is_none_or(|end| i64::try_from(end).is_err()) {
            return Err(Violation::Value { request: request.name(), value: region.mmap_size });
        }
        if let Some(index) = self.running_rings().next() {
            return Err(Violation::RingRunning { request: request.name(), index });
        }
        self.tell("set-inflight", |token| Action::SetInflight { token, region, num_queues, queue_size });
        Ok(())
    }

    fn set_status(&mut self, request: FrontendRequest, value: u64) -> Result<(), Violation> {
        let status = u8::try_from(value).map_err(|_| Violation::Value { request: request.name(), value })?;
        self.status = status;
        if status == 0 {
            self.stop_all_rings();
            self.then(Then::ResetStatus);
        } else {
            self.tell("set-status", |token| Action::SetStatus { token, status });
        }
        Ok(())
    }

    /// Start a ring that is stopped and has everything it needs; stop one that runs and has been disabled.
    fn start_or_stop(&mut self, index: u16) {
        let enabled_at_first = self.features & features::VHOST_USER_PROTOCOL_FEATURES == 0;
        let features = self.features();
        let Some(ring) = self.rings.get_mut(usize::from(index)) else { return };
        match (ring.running, ring.setup(features, enabled_at_first)) {
            (false, Some(setup)) => {
                ring.running = true;
                self.ask(Awaited::Start { index }, |token| Action::StartRing { token, index, setup });
            }
            (true, None) => self.stop(index),
            (true, Some(_)) | (false, None) => {}
        }
    }

    fn stop(&mut self, index: u16) {
        self.ask(Awaited::Stop { index }, |token| Action::StopRing { token, index });
    }

    /// All at once: rings drain side by side.
    fn stop_all_rings(&mut self) {
        let running: Vec<u16> = self.running_rings().collect();
        for index in running {
            self.stop(index);
        }
    }
}
