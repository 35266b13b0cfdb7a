//! A guest with a disk: its memory, its ring, and the VMM's side of the session.

use std::fs::File;
use std::io::Write as _;
use std::net::Shutdown;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use vfiomux_guest::driver::{Arena, Buffer, DriverRing};
use vfiomux_spec::virtio::features::{
    RING_EVENT_IDX, RING_INDIRECT_DESC, VERSION_1, VHOST_USER_PROTOCOL_FEATURES,
};
use vhost::vhost_user::message::{
    VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserInflight, VhostUserProtocolFeatures,
};
use vhost::vhost_user::{Frontend, VhostUserFrontend as _};
use vhost::{VhostBackend as _, VhostUserMemoryRegionInfo, VringConfigData};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};
use vmm_sys_util::sock_ctrl_msg::ScmSocket as _;

use super::world::PATIENCE;

/// Where the guest sees its memory.
const BASE: u64 = 0x1_0000_0000;
const MEMORY_BYTES: u64 = 4 << 20;
const ENTRIES: u16 = 64;
const SLOTS: u64 = 16;
const SLOT_BYTES: u64 = 0x2_0000;
const SLOTS_AT: u64 = BASE + 0x1_0000;
const DATA_OFFSET: u64 = 0x1000;
const BLK_FLUSH: u64 = 1 << 9;
const BLK_MQ: u64 = 1 << 12;

/// A status that no device writes.
const UNWRITTEN: u8 = 0xee;
pub(crate) const OK: u8 = 0;

/// The kind of a request (virtio 1.3 5.2.6).
#[derive(Debug, Clone, Copy)]
enum Kind {
    In = 0,
    Out = 1,
}

/// A guest's memory and its one ring; they outlive sessions.
pub(crate) struct Guest {
    arena: Arena,
    ring: DriverRing,
    kick: EventFd,
    call: EventFd,
    inflight: Option<(VhostUserInflight, File)>,
    /// Chains that the device has returned.
    returned: u16,
    free: Vec<u64>,
    /// Of each head in flight: its slot.
    slots: Vec<Option<u64>>,
}

/// A session of a guest's VMM.
pub(crate) struct Session {
    pub(crate) frontend: Frontend,
    stream: UnixStream,
}

impl Session {
    /// Connects and negotiates. Gives no memory yet.
    pub(crate) fn connect(path: &Path) -> Result<Self, vhost::Error> {
        let stream = UnixStream::connect(path).map_err(vhost::Error::IOError)?;
        Self::over(stream)
    }

    /// Negotiates over a connection.
    pub(crate) fn over(stream: UnixStream) -> Result<Self, vhost::Error> {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut frontend = Frontend::from_stream(stream.try_clone().unwrap(), 2);
        frontend.set_owner()?;
        let wanted = VERSION_1
            | RING_INDIRECT_DESC
            | RING_EVENT_IDX
            | VHOST_USER_PROTOCOL_FEATURES
            | BLK_FLUSH
            | BLK_MQ;
        let features = frontend.get_features()? & wanted;
        let offered = frontend.get_protocol_features()?;
        frontend.set_protocol_features(
            offered
                & (VhostUserProtocolFeatures::MQ
                    | VhostUserProtocolFeatures::REPLY_ACK
                    | VhostUserProtocolFeatures::CONFIG
                    | VhostUserProtocolFeatures::INFLIGHT_SHMFD
                    | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS),
        )?;
        frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        frontend.set_features(features)?;
        Ok(Self { frontend, stream })
    }

    /// The disk's size, bytes.
    pub(crate) fn capacity_bytes(&mut self) -> u64 {
        let empty = [0; 8];
        let (_, config) = self.frontend.get_config(0, 8, VhostUserConfigFlags::empty(), &empty).unwrap();
        u64::from_le_bytes(config[..8].try_into().unwrap()) * 512
    }

    /// Asks for ring 0's base without waiting for the answer (GET_VRING_BASE).
    pub(crate) fn begin_stop(&mut self) {
        let words = [11u32, 1, 8, 0, 0];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.stream.write_all(&bytes).unwrap();
    }

    /// Sends any bytes.
    pub(crate) fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Hangs up without a word, as a VMM that was killed.
    pub(crate) fn hang_up(self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

impl Guest {
    pub(crate) fn new() -> Self {
        let arena = Arena::new(MEMORY_BYTES, BASE).unwrap();
        let features = VERSION_1 | RING_INDIRECT_DESC | RING_EVENT_IDX;
        let eventfd = || EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK).unwrap();
        Self {
            ring: DriverRing::new(&arena, BASE, ENTRIES, features).unwrap(),
            arena,
            kick: eventfd(),
            call: eventfd(),
            inflight: None,
            returned: 0,
            free: (0..SLOTS).rev().collect(),
            slots: vec![None; ENTRIES.into()],
        }
    }

    /// Its memory, as a VMM lends it.
    pub(crate) fn region(&self) -> VhostUserMemoryRegionInfo {
        region_of(&self.arena)
    }

    /// Connects to a disk and starts the ring; goes on with what was in flight when there was an earlier session.
    pub(crate) fn connect(&mut self, path: &Path) -> Session {
        let mut session = Session::connect(path).unwrap();
        self.begin(&mut session).unwrap();
        session
    }

    /// Lends memory and starts the ring.
    pub(crate) fn begin(&mut self, session: &mut Session) -> Result<(), vhost::Error> {
        let frontend = &mut session.frontend;
        match &self.inflight {
            Some((about, file)) => frontend.set_inflight_fd(about, file.as_raw_fd())?,
            None => {
                let wanted = VhostUserInflight { num_queues: 1, queue_size: ENTRIES, ..Default::default() };
                let got = frontend.get_inflight_fd(&wanted)?;
                frontend.set_inflight_fd(&got.0, got.1.as_raw_fd())?;
                self.inflight = Some(got);
            }
        }
        frontend.set_mem_table(&[self.region()])?;
        // What a VMM knows after its back-end died: how far the used ring got.
        self.take_returned();
        let setup = self.ring.setup();
        let addresses = VringConfigData {
            queue_max_size: ENTRIES,
            queue_size: ENTRIES,
            flags: 0,
            desc_table_addr: setup.desc_user_addr,
            used_ring_addr: setup.used_user_addr,
            avail_ring_addr: setup.avail_user_addr,
            log_addr: None,
        };
        frontend.set_vring_num(0, ENTRIES)?;
        frontend.set_vring_base(0, self.returned)?;
        frontend.set_vring_addr(0, &addresses)?;
        frontend.set_vring_call(0, &self.call)?;
        frontend.set_vring_kick(0, &self.kick)?;
        frontend.set_vring_enable(0, true)
    }

    /// Sends the messages of a handshake, cut off after so many bytes, without waiting for an answer.
    pub(crate) fn connect_and_die_after(&self, path: &Path, bytes: usize) {
        let mut stream = UnixStream::connect(path).unwrap();
        let region = self.region();
        let setup = self.ring.setup();
        let message = |request: u32, words: &[u64]| {
            let mut bytes: Vec<u8> = Vec::new();
            for word in [request, 1, u32::try_from(words.len() * 8).unwrap()] {
                bytes.extend(word.to_le_bytes());
            }
            words.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
            bytes
        };
        let table = [1, region.guest_phys_addr, region.memory_size, region.userspace_addr, 0];
        let ring = [0, setup.desc_user_addr, setup.used_user_addr, setup.avail_user_addr, 0];
        // SET_OWNER, SET_FEATURES, SET_MEM_TABLE; VRING_NUM, VRING_ADDR, VRING_BASE, VRING_KICK without a descriptor. Without
        // protocol features a ring is enabled from the start.
        let before = [message(3, &[]), message(2, &[VERSION_1])].concat();
        let with_memory = message(5, &table);
        let after = [
            message(8, &[u64::from(ENTRIES) << 32]),
            message(9, &ring),
            message(10, &[0]),
            message(12, &[1 << 8]),
        ]
        .concat();
        let cut = |part: &[u8], from: usize| part[..part.len().min(bytes.saturating_sub(from))].to_vec();
        let _ = stream.write_all(&cut(&before, 0));
        let table = cut(&with_memory, before.len());
        if !table.is_empty() {
            let _ = stream.send_with_fd(&table[..], region.mmap_handle);
        }
        let _ = stream.write_all(&cut(&after, before.len() + with_memory.len()));
        let _ = stream.shutdown(Shutdown::Both);
    }

    /// Makes available what no driver would: a descriptor that is not in memory.
    pub(crate) fn break_the_ring(&mut self) {
        let outside = Buffer { guest_addr: 1 << 50, len: 16, writable: false };
        self.ring.add(&[outside, outside]).unwrap();
        if self.ring.publish() {
            self.kick.write(1).unwrap();
        }
    }

    /// Sends a write on its way.
    pub(crate) fn submit_write(&mut self, sector: u64, data: &[u8]) {
        let slot = self.slot();
        self.arena.write(slot + DATA_OFFSET, data).unwrap();
        self.submit(Kind::Out, slot, sector, data.len());
    }

    /// Writes, and gives the status.
    pub(crate) fn write(&mut self, sector: u64, data: &[u8]) -> u8 {
        assert_eq!(self.ring.in_flight(), 0, "nothing else is under way");
        self.submit_write(sector, data);
        self.finish().pop().unwrap().0
    }

    /// Reads, and gives the data.
    pub(crate) fn read(&mut self, sector: u64, len: usize) -> Vec<u8> {
        assert_eq!(self.ring.in_flight(), 0, "nothing else is under way");
        let slot = self.slot();
        self.submit(Kind::In, slot, sector, len);
        let (status, slot) = self.finish().pop().unwrap();
        assert_eq!(status, OK);
        let mut data = vec![0; len];
        self.arena.read(slot + DATA_OFFSET, &mut data).unwrap();
        data
    }

    fn slot(&mut self) -> u64 {
        SLOTS_AT + self.free.pop().expect("few requests at a time") * SLOT_BYTES
    }

    fn submit(&mut self, kind: Kind, slot: u64, sector: u64, len: usize) {
        let mut header = [0; 16];
        header[..4].copy_from_slice(&(kind as u32).to_le_bytes());
        header[8..].copy_from_slice(&sector.to_le_bytes());
        self.arena.write(slot, &header).unwrap();
        self.arena.write(slot + 16, &[UNWRITTEN]).unwrap();
        let buffer = |guest_addr, len, writable| Buffer { guest_addr, len, writable };
        let data = buffer(slot + DATA_OFFSET, u32::try_from(len).unwrap(), matches!(kind, Kind::In));
        let head = self.ring.add(&[buffer(slot, 16, false), data, buffer(slot + 16, 1, true)]).expect("room");
        self.slots[usize::from(head)] = Some(slot);
        if self.ring.publish() {
            self.kick.write(1).unwrap();
        }
    }

    /// Takes what the device has returned: status and slot of each.
    pub(crate) fn take_returned(&mut self) -> Vec<(u8, u64)> {
        let mut done = Vec::new();
        while let Some(used) = self.ring.poll().unwrap() {
            self.returned = self.returned.wrapping_add(1);
            let slot = self.slots[usize::from(used.head)].take().unwrap();
            let mut status = [0];
            self.arena.read(slot + 16, &mut status).unwrap();
            self.free.push((slot - SLOTS_AT) / SLOT_BYTES);
            done.push((status[0], slot));
        }
        done
    }

    /// How many chains the device has returned, modulo 2^16.
    pub(crate) fn returned(&self) -> u16 {
        self.returned
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.ring.in_flight()
    }

    /// Waits until everything has been returned.
    #[track_caller]
    pub(crate) fn finish(&mut self) -> Vec<(u8, u64)> {
        let end = Instant::now() + PATIENCE;
        let mut done = self.take_returned();
        while self.ring.in_flight() > 0 {
            assert!(Instant::now() < end, "{} requests were not answered", self.ring.in_flight());
            std::thread::yield_now();
            done.extend(self.take_returned());
        }
        done
    }
}

/// An arena, as a VMM lends it.
pub(crate) fn region_of(arena: &Arena) -> VhostUserMemoryRegionInfo {
    VhostUserMemoryRegionInfo {
        guest_phys_addr: arena.guest_addr(),
        memory_size: arena.size_bytes(),
        userspace_addr: arena.user_addr(),
        mmap_offset: 0,
        mmap_handle: arena.file().unwrap().as_raw_fd(),
    }
}

/// Bytes that tell one write from another.
pub(crate) fn pattern(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| seed.wrapping_add((at / 512) as u8) | 1).collect()
}
