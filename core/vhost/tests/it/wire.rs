//! A front-end made of bytes, and an owner that does at once what it is asked: what the tests of sessions share.

use std::fs;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use vfiomux_spec::vhost_user::{
    FLAG_NEED_REPLY, FrontendRequest, Header, MemTableHeader, MemoryRegion, SingleMemoryRegion, U64, VERSION,
    VRING_NO_FD, VringAddr, VringState,
};
use vfiomux_spec::virtio::{blk, features};
use vfiomux_vhost::{Action, Device, Frame, InflightRegion, Outcome, Session};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A block device with four rings.
pub(crate) fn block_device() -> Device {
    Device {
        features: features::VERSION_1
            | features::RING_INDIRECT_DESC
            | features::RING_EVENT_IDX
            | blk::F_FLUSH
            | blk::F_CONFIG_WCE
            | blk::F_MQ,
        protocol_features: Device::PROTOCOL_FEATURES,
        rings_max: 4,
        ring_size_max: 1024,
        config: (0..60).collect(),
        config_writable: blk::BlkConfig::WRITEBACK_OFFSET..blk::BlkConfig::WRITEBACK_OFFSET + 1,
    }
}

/// A message and how many descriptors go with its first byte.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Said {
    pub(crate) bytes: Vec<u8>,
    pub(crate) fds: usize,
}

impl Said {
    pub(crate) fn new(request: FrontendRequest, payload: &[u8]) -> Self {
        Self::raw(request as u32, VERSION, payload)
    }

    pub(crate) fn raw(request: u32, flags: u32, payload: &[u8]) -> Self {
        let header = Header { request, flags, size: payload.len() as u32 };
        Self { bytes: [header.as_bytes(), payload].concat(), fds: 0 }
    }

    pub(crate) fn with(request: FrontendRequest, payload: &(impl IntoBytes + Immutable)) -> Self {
        Self::new(request, payload.as_bytes())
    }

    pub(crate) fn number(request: FrontendRequest, value: u64) -> Self {
        Self::with(request, &U64 { value })
    }

    pub(crate) fn state(request: FrontendRequest, index: u32, num: u32) -> Self {
        Self::with(request, &VringState { index, num })
    }

    pub(crate) fn addr(index: u32) -> Self {
        let at = 0x7f00_0000_0000 + u64::from(index) * 0x1_0000;
        let addr = VringAddr {
            index,
            descriptor: at,
            available: at + 0x4000,
            used: at + 0x8000,
            ..Default::default()
        };
        Self::with(FrontendRequest::SetVringAddr, &addr)
    }

    pub(crate) fn fds(mut self, fds: usize) -> Self {
        self.fds = fds;
        self
    }

    /// Ask for an acknowledgement.
    pub(crate) fn acked(mut self) -> Self {
        self.bytes[4] |= FLAG_NEED_REPLY as u8;
        self
    }

    pub(crate) fn notifier(request: FrontendRequest, index: u64) -> Self {
        Self::number(request, index).fds(1)
    }

    pub(crate) fn polled(request: FrontendRequest, index: u64) -> Self {
        Self::number(request, index | VRING_NO_FD)
    }

    pub(crate) fn region(guest_addr: u64, size: u64) -> MemoryRegion {
        MemoryRegion { guest_addr, size, user_addr: guest_addr ^ 0x7f00_0000_0000, mmap_offset: 0 }
    }

    pub(crate) fn add_region(guest_addr: u64, size: u64) -> Self {
        let single = SingleMemoryRegion { padding: 0, region: Self::region(guest_addr, size) };
        Self::with(FrontendRequest::AddMemReg, &single).fds(1)
    }

    pub(crate) fn remove_region(guest_addr: u64, size: u64) -> Self {
        let single = SingleMemoryRegion { padding: 0, region: Self::region(guest_addr, size) };
        Self::with(FrontendRequest::RemMemReg, &single)
    }

    pub(crate) fn mem_table(regions: &[MemoryRegion]) -> Self {
        let header = MemTableHeader { num_regions: regions.len() as u32, padding: 0 };
        let payload = [header.as_bytes(), regions.as_bytes()].concat();
        Self::new(FrontendRequest::SetMemTable, &payload).fds(regions.len())
    }
}

/// Everything that sets up and starts a ring, as QEMU orders it.
pub(crate) fn start_ring(index: u32, size: u32, base: u32) -> Vec<Said> {
    use FrontendRequest as R;
    vec![
        Said::state(R::SetVringNum, index, size),
        Said::state(R::SetVringBase, index, base),
        Said::addr(index),
        Said::notifier(R::SetVringKick, u64::from(index)),
        Said::notifier(R::SetVringCall, u64::from(index)),
    ]
}

/// Descriptors that can be counted, whatever other threads open: duplicates of one memory file with a name of its own.
pub(crate) struct Descriptors {
    file: OwnedFd,
    name: String,
}

impl Descriptors {
    pub(crate) fn new(name: &str) -> Self {
        let name = format!("{name}-{:?}", std::thread::current().id());
        let file = rustix::fs::memfd_create(&name, rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        Self { file, name }
    }

    pub(crate) fn take(&self, count: usize) -> Vec<OwnedFd> {
        (0..count).map(|_| self.file.try_clone().unwrap()).collect()
    }

    /// Duplicates that are open.
    pub(crate) fn open(&self) -> usize {
        let link = format!("/memfd:{} (deleted)", self.name);
        let all = fs::read_dir("/proc/self/fd").unwrap();
        all.filter(|entry| {
            fs::read_link(entry.as_ref().unwrap().path()).is_ok_and(|to| to.as_os_str() == link.as_str())
        })
        .count()
            - 1
    }
}

/// What an action says, without its token and with descriptors only as there or not.
pub(crate) fn told(action: &Action) -> String {
    let with = |fd: &Option<Arc<OwnedFd>>| if fd.is_some() { "fd" } else { "none" };
    match action {
        Action::StartRing { index, setup, .. } => format!(
            "start {index}: size {} base {} features {:#x} desc {:#x} avail {:#x} used {:#x} kick {} call {} err {}",
            setup.size,
            setup.base,
            setup.features,
            setup.desc_user_addr,
            setup.avail_user_addr,
            setup.used_user_addr,
            with(&setup.kick),
            with(&setup.call),
            with(&setup.err),
        ),
        Action::StopRing { index, .. } => format!("stop {index}"),
        Action::SetKick { index, kick, .. } => format!("kick {index} {}", with(kick)),
        Action::SetCall { index, call, .. } => format!("call {index} {}", with(call)),
        Action::SetErr { index, err, .. } => format!("err {index} {}", with(err)),
        Action::MapMemory { regions, replace, .. } => {
            let ids: Vec<_> = regions.iter().map(|region| region.id).collect();
            format!("map {ids:x?} replace {replace}")
        }
        Action::UnmapMemory { region, .. } => format!("unmap {region:x?}"),
        Action::GetInflight { num_queues, queue_size, .. } => {
            format!("get-inflight {num_queues}x{queue_size}")
        }
        Action::SetInflight { region, num_queues, queue_size, .. } => {
            format!("set-inflight {num_queues}x{queue_size} size {:#x}", region.mmap_size)
        }
        Action::SetBackendChannel { reply_ack, .. } => format!("backend-channel reply_ack {reply_ack}"),
        Action::WriteConfig { offset, bytes, .. } => format!("write-config {offset} {bytes:?}"),
        Action::SetStatus { status, .. } => format!("status {status}"),
        Action::ResetDevice { .. } => String::from("reset"),
        Action::SetMtu { mtu, .. } => format!("mtu {mtu}"),
        Action::SendRarp { mac, .. } => format!("rarp {mac:x?}"),
        Action::Ended(reason) => format!("ended: {reason}"),
    }
}

/// What an owner without a care in the world answers. A ring stops at its own number plus 100.
pub(crate) fn success(action: &Action, descriptors: &Descriptors) -> Outcome {
    match action {
        Action::StopRing { index, .. } => Outcome::RingStopped { base: u32::from(*index) + 100 },
        Action::GetInflight { .. } => Outcome::Inflight(InflightRegion {
            mmap_size: 0x2000,
            mmap_offset: 0x1000,
            file: descriptors.take(1).remove(0),
        }),
        _ => Outcome::Done,
    }
}

/// A session, a front-end that feeds it, and an owner that does at once what it is asked.
pub(crate) struct World {
    pub(crate) session: Session,
    pub(crate) descriptors: Descriptors,
    pub(crate) told: Vec<String>,
}

impl World {
    pub(crate) fn new(name: &str, device: Device) -> Self {
        Self { session: Session::new(device).unwrap(), descriptors: Descriptors::new(name), told: Vec::new() }
    }

    /// A front-end that has negotiated these features, protocol features included.
    pub(crate) fn negotiated(name: &str, features: u64) -> Self {
        let mut world = Self::new(name, block_device());
        world.say(&[
            Said::number(FrontendRequest::SetProtocolFeatures, Device::PROTOCOL_FEATURES),
            Said::number(FrontendRequest::SetFeatures, features | features::VHOST_USER_PROTOCOL_FEATURES),
        ]);
        world
    }

    /// Feed messages without doing what is asked.
    pub(crate) fn feed(&mut self, messages: &[Said]) {
        for message in messages {
            self.session.feed(&message.bytes, self.descriptors.take(message.fds));
        }
    }

    /// Feed messages and do what is asked; returns what was.
    pub(crate) fn say(&mut self, messages: &[Said]) -> Vec<String> {
        let mut told = Vec::new();
        for message in messages {
            self.feed(std::slice::from_ref(message));
            told.extend(self.carry_out());
        }
        told
    }

    /// Do what is asked; returns what was.
    pub(crate) fn carry_out(&mut self) -> Vec<String> {
        let mut done = Vec::new();
        while let Some(action) = self.session.next_action() {
            done.push(told(&action));
            if let Some(token) = action.token() {
                let outcome = success(&action, &self.descriptors);
                self.session.complete(token, outcome).unwrap();
            }
        }
        self.told.extend_from_slice(&done);
        done
    }

    /// The replies so far, as request and payload.
    pub(crate) fn replies(&mut self) -> Vec<(FrontendRequest, Vec<u8>)> {
        std::iter::from_fn(|| self.session.next_output()).map(|frame| reply(&frame)).collect()
    }

    /// The one reply there is, as a number.
    pub(crate) fn number(&mut self) -> u64 {
        let replies = self.replies();
        assert_eq!(replies.len(), 1, "{replies:?}");
        U64::read_from_bytes(&replies[0].1).unwrap().value
    }
}

/// A frame that must be a reply, as request and payload.
pub(crate) fn reply(frame: &Frame) -> (FrontendRequest, Vec<u8>) {
    let (header, payload) = Header::read_from_prefix(&frame.bytes).unwrap();
    assert_eq!(header.flags, 5, "version 1 and the reply flag, nothing else: QEMU compares the whole word");
    assert_eq!(header.size as usize, payload.len());
    (FrontendRequest::from_raw(header.request).unwrap(), payload.to_vec())
}
