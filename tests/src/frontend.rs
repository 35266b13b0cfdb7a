//! A vhost-user front-end on the crate `vhost`, with split rings laid out by hand in shared memory: for what a driver that is always
//! right cannot do, and for the parts of the protocol that `virtio-driver` never uses.

#![expect(unsafe_code, reason = "waits for an event descriptor of a type that lends its number only")]

use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use vhost::vhost_user::message::{
    VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserInflight, VhostUserProtocolFeatures,
    VhostUserVirtioFeatures,
};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::memory::SharedMemory;

/// Entries of each ring.
pub const RING_ENTRIES: u16 = 64;
/// Where the guest sees the shared memory: not where this process does, so that a back-end which mixes the two is found out.
pub const GUEST_BASE: u64 = 0x1_0000_0000;
/// The first byte of the shared memory that no ring uses.
pub const DATA_OFFSET: usize = RINGS_MAX * RING_BYTES;

const RINGS_MAX: usize = 8;
/// One ring's share: descriptors, available ring, used ring and a page for an indirect table.
const RING_BYTES: usize = 0x4000;
const AVAILABLE: usize = 0x1000;
const USED: usize = 0x2000;
const INDIRECT: usize = 0x3000;
const MEMORY_BYTES: usize = 4 << 20;

/// What lies in a slot of [`Driver::begin_write`], and how many there are: three descriptors each.
const SLOTS: u16 = RING_ENTRIES / 3;
const SLOTS_OFFSET: usize = MEMORY_BYTES / 2;
const SLOT_BYTES: usize = 0x4000;
/// A status that no device writes.
const UNWRITTEN: u8 = 0xff;

/// `VIRTIO_F_RING_INDIRECT_DESC`.
const INDIRECT_DESC: u64 = 1 << 28;
/// `VIRTIO_F_VERSION_1`.
const VERSION_1: u64 = 1 << 32;
/// `VIRTIO_BLK_F_FLUSH`.
const BLK_FLUSH: u64 = 1 << 9;
/// `VIRTIO_BLK_F_MQ`.
const BLK_MQ: u64 = 1 << 12;

/// `VIRTQ_DESC_F_NEXT`.
pub const NEXT: u16 = 1;
/// `VIRTQ_DESC_F_WRITE`: the device writes.
pub const WRITE: u16 = 2;
/// `VIRTQ_DESC_F_INDIRECT`.
pub const TABLE: u16 = 4;

/// A descriptor as it lies in a table (virtio 1.3 2.7.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// Guest address.
    pub address: u64,
    /// Bytes.
    pub length: u32,
    /// [`NEXT`], [`WRITE`], [`TABLE`].
    pub flags: u16,
    /// The next of the chain.
    pub next: u16,
}

/// A part of a request: a range of the shared memory, and whether the device writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffer {
    /// Offset into the shared memory.
    pub offset: usize,
    /// Bytes.
    pub length: u32,
    /// The device writes it.
    pub device_writes: bool,
}

/// A request of virtio-blk (virtio 1.3 5.2.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Request {
    /// `VIRTIO_BLK_T_IN`.
    Read = 0,
    /// `VIRTIO_BLK_T_OUT`.
    Write = 1,
    /// `VIRTIO_BLK_T_FLUSH`.
    Flush = 4,
    /// `VIRTIO_BLK_T_GET_ID`.
    GetId = 8,
    /// A type that no standard defines.
    Undefined = 0x7777,
}

/// `VIRTIO_BLK_S_OK`.
pub const STATUS_OK: u8 = 0;
/// `VIRTIO_BLK_S_IOERR`.
pub const STATUS_IOERR: u8 = 1;
/// `VIRTIO_BLK_S_UNSUPP`.
pub const STATUS_UNSUPPORTED: u8 = 2;

/// A session, its memory and its rings.
pub struct Driver {
    session: Frontend,
    features: u64,
    protocol_features: VhostUserProtocolFeatures,
    memory: SharedMemory,
    rings: Vec<Ring>,
    /// Where the back-end notes what it works on, once it was asked for that.
    in_flight: Option<(VhostUserInflight, File)>,
}

struct Ring {
    kick: EventFd,
    call: EventFd,
    /// How many chains have been made available, and how many used ones were taken.
    available: u16,
    used: u16,
}

impl Driver {
    /// Connects and negotiates, then shares the memory by SET_MEM_TABLE.
    pub fn connect(socket: &Path, rings: usize) -> Result<Driver, vhost::Error> {
        assert!(rings <= RINGS_MAX, "room for that many rings");
        let (session, features, protocol_features) = negotiate(socket, rings)?;
        let memory = SharedMemory::new(MEMORY_BYTES).map_err(vhost::Error::IOError)?;
        session.set_mem_table(&[region(&memory, GUEST_BASE)])?;
        let event = || EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(vhost::Error::IOError);
        let rings = (0..rings).map(|_| Ok(Ring { kick: event()?, call: event()?, available: 0, used: 0 }));
        let rings = rings.collect::<Result<_, vhost::Error>>()?;
        Ok(Driver { session, features, protocol_features, memory, rings, in_flight: None })
    }

    /// Asks for a region in which the back-end notes what it works on, and gives it to it.
    pub fn keep_in_flight(&mut self) -> Result<(), vhost::Error> {
        let asked = VhostUserInflight::new(0, 0, self.rings.len() as u16, RING_ENTRIES);
        let (given, file) = self.session.get_inflight_fd(&asked)?;
        self.session.set_inflight_fd(&given, file.as_raw_fd())?;
        self.in_flight = Some((given, file));
        Ok(())
    }

    /// Whether the region says that the back-end works on the chain of this head of the first ring (vhost-user:
    /// `QueueRegionSplit`, a header of 16 bytes and an entry of 16 bytes a descriptor, which begins with the flag).
    pub fn is_in_flight(&self, head: u16) -> bool {
        let Some((given, file)) = &self.in_flight else { return false };
        let mut flag = [0];
        let at = given.mmap_offset + 16 + 16 * u64::from(head);
        file.read_exact_at(&mut flag, at).expect("the region is as long as it says");
        flag[0] == 1
    }

    /// The same guest over another connection, as a VMM connects again: the memory, the rings and the region of what is in flight
    /// are the ones that there were. Rings are then to be started.
    pub fn reconnect(self, socket: &Path) -> Result<Driver, vhost::Error> {
        let Driver { session, memory, rings, in_flight, .. } = self;
        drop(session);
        let (mut session, features, protocol_features) = negotiate(socket, rings.len())?;
        if let Some((given, file)) = &in_flight {
            session.set_inflight_fd(given, file.as_raw_fd())?;
        }
        session.set_mem_table(&[region(&memory, GUEST_BASE)])?;
        Ok(Driver { session, features, protocol_features, memory, rings, in_flight })
    }

    /// The session, for messages that nothing here sends.
    pub fn session(&mut self) -> &mut Frontend {
        &mut self.session
    }

    /// What was agreed on.
    pub fn protocol_features(&self) -> VhostUserProtocolFeatures {
        self.protocol_features
    }

    /// The memory that requests may name.
    pub fn memory(&self) -> &SharedMemory {
        &self.memory
    }

    /// `length` bytes of the configuration space from its start.
    pub fn config(&mut self, length: usize) -> Result<Vec<u8>, vhost::Error> {
        let empty = vec![0; length];
        let (_, bytes) = self.session.get_config(0, length as u32, VhostUserConfigFlags::empty(), &empty)?;
        Ok(bytes)
    }

    /// Starts a ring where it stopped, or at its beginning: as QEMU does, at what was returned last, since nobody may be left to
    /// say what was taken last.
    pub fn start_ring(&mut self, index: usize) -> Result<(), vhost::Error> {
        let ring = &self.rings[index];
        let at = |part: usize| (self.memory.address() + index * RING_BYTES + part) as u64;
        self.session.set_vring_num(index, RING_ENTRIES)?;
        self.session.set_vring_base(index, self.memory.load_u16(index * RING_BYTES + USED + 2))?;
        self.session.set_vring_addr(
            index,
            &VringConfigData {
                queue_max_size: RING_ENTRIES,
                queue_size: RING_ENTRIES,
                flags: 0,
                desc_table_addr: at(0),
                used_ring_addr: at(USED),
                avail_ring_addr: at(AVAILABLE),
                log_addr: None,
            },
        )?;
        self.session.set_vring_call(index, &ring.call)?;
        self.session.set_vring_kick(index, &ring.kick)?;
        if self.features & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() != 0 {
            self.session.set_vring_enable(index, true)?;
        }
        Ok(())
    }

    /// Stops a ring. Returns the index of the next chain that the back-end would have taken.
    pub fn stop_ring(&mut self, index: usize) -> Result<u16, vhost::Error> {
        Ok(self.session.get_vring_base(index)? as u16)
    }

    /// Writes a descriptor into a ring's table, right or wrong.
    pub fn write_descriptor(&mut self, ring: usize, position: u16, descriptor: Descriptor) {
        self.write_into_table(ring * RING_BYTES, position, descriptor);
    }

    /// Writes a descriptor into a ring's indirect table, right or wrong.
    pub fn write_indirect_descriptor(&mut self, ring: usize, position: u16, descriptor: Descriptor) {
        self.write_into_table(ring * RING_BYTES + INDIRECT, position, descriptor);
    }

    /// Where the guest sees a ring's indirect table.
    pub fn indirect_table(&self, ring: usize) -> u64 {
        GUEST_BASE + (ring * RING_BYTES + INDIRECT) as u64
    }

    fn write_into_table(&mut self, table: usize, position: u16, descriptor: Descriptor) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&descriptor.address.to_le_bytes());
        bytes[8..12].copy_from_slice(&descriptor.length.to_le_bytes());
        bytes[12..14].copy_from_slice(&descriptor.flags.to_le_bytes());
        bytes[14..].copy_from_slice(&descriptor.next.to_le_bytes());
        self.memory.write(table + usize::from(position) * 16, &bytes);
    }

    /// Makes a chain available and kicks.
    pub fn publish(&mut self, ring: usize, head: u16) {
        let available = ring * RING_BYTES + AVAILABLE;
        let index = self.rings[ring].available;
        self.memory.write(available + 4 + usize::from(index % RING_ENTRIES) * 2, &head.to_le_bytes());
        self.set_available_index(ring, index.wrapping_add(1));
    }

    /// Sets the available index, right or wrong, and kicks.
    pub fn set_available_index(&mut self, ring: usize, index: u16) {
        self.memory.store_u16(ring * RING_BYTES + AVAILABLE + 2, index);
        self.rings[ring].available = index;
        self.kick(ring);
    }

    /// Tells the back-end to look at a ring.
    pub fn kick(&self, ring: usize) {
        self.rings[ring].kick.write(1).expect("an event descriptor takes a count of one");
    }

    /// Makes a chain of buffers available: descriptors of the ring's table, or one that names an indirect table.
    pub fn submit(&mut self, ring: usize, buffers: &[Buffer], indirect: bool) {
        let last = buffers.len() - 1;
        for (position, buffer) in buffers.iter().enumerate() {
            let descriptor = Descriptor {
                address: GUEST_BASE + buffer.offset as u64,
                length: buffer.length,
                flags: if position < last { NEXT } else { 0 } | if buffer.device_writes { WRITE } else { 0 },
                next: position as u16 + 1,
            };
            if indirect {
                self.write_indirect_descriptor(ring, position as u16, descriptor);
            } else {
                self.write_descriptor(ring, position as u16, descriptor);
            }
        }
        if indirect {
            let address = self.indirect_table(ring);
            let length = buffers.len() as u32 * 16;
            self.write_descriptor(ring, 0, Descriptor { address, length, flags: TABLE, next: 0 });
        }
        self.publish(ring, 0);
    }

    /// Waits for a used chain: its head, and how many bytes the device says that it wrote. `None` when none comes in time.
    pub fn wait_for_used(&mut self, ring: usize, patience: Duration) -> Option<(u32, u32)> {
        let used = ring * RING_BYTES + USED;
        let deadline = Instant::now() + patience;
        while self.memory.load_u16(used + 2) == self.rings[ring].used {
            let remaining = Timespec::try_from(deadline.saturating_duration_since(Instant::now())).ok()?;
            let call = &self.rings[ring].call;
            // SAFETY: the ring owns the descriptor, and outlives the wait.
            let borrowed = unsafe { BorrowedFd::borrow_raw(call.as_raw_fd()) };
            let mut fds = [PollFd::new(&borrowed, PollFlags::IN)];
            if rustix::event::poll(&mut fds, Some(&remaining)).is_ok_and(|ready| ready == 0) {
                return None;
            }
            let _ = call.read();
        }
        let mut element = [0; 8];
        let position = usize::from(self.rings[ring].used % RING_ENTRIES);
        self.memory.read(used + 4 + position * 8, &mut element);
        self.rings[ring].used = self.rings[ring].used.wrapping_add(1);
        let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap_or_default());
        Some((word(&element[..4]), word(&element[4..])))
    }

    /// Makes a write of one slot's data available on the first ring without waiting for it. Gives the head of its chain.
    pub fn begin_write(&mut self, slot: u16, sector: u64, data: &[u8]) -> u16 {
        assert!(slot < SLOTS && data.len() <= SLOT_BYTES - 0x100, "there is room for it");
        let header = SLOTS_OFFSET + usize::from(slot) * SLOT_BYTES;
        let (status, payload) = (header + 16, header + 0x100);
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&(Request::Write as u32).to_le_bytes());
        bytes[8..].copy_from_slice(&sector.to_le_bytes());
        self.memory.write(header, &bytes);
        self.memory.write(status, &[UNWRITTEN]);
        self.memory.write(payload, data);
        let head = slot * 3;
        let parts = [(header, 16, NEXT), (payload, data.len() as u32, NEXT), (status, 1, WRITE)];
        for (position, (offset, length, flags)) in (head..).zip(parts) {
            let address = GUEST_BASE + offset as u64;
            self.write_descriptor(0, position, Descriptor { address, length, flags, next: position + 1 });
        }
        self.publish(0, head);
        head
    }

    /// The status of a slot's write; none while there is none.
    pub fn status(&self, slot: u16) -> Option<u8> {
        let mut status = [0];
        self.memory.read(SLOTS_OFFSET + usize::from(slot) * SLOT_BYTES + 16, &mut status);
        Some(status[0]).filter(|status| *status != UNWRITTEN)
    }

    /// How many returned chains of a ring were taken.
    pub fn taken_index(&self, ring: usize) -> u16 {
        self.rings[ring].used
    }

    /// How many chains of a ring were returned.
    pub fn used_index(&self, ring: usize) -> u16 {
        self.memory.load_u16(ring * RING_BYTES + USED + 2)
    }

    /// One request from beginning to end, its data in `data`. The status, or `None` when it never completes.
    pub fn request(
        &mut self,
        ring: usize,
        request: Request,
        sector: u64,
        data: &mut [u8],
        indirect: bool,
    ) -> Option<u8> {
        let header = DATA_OFFSET + ring * 0x100;
        let status = header + 16;
        let payload = DATA_OFFSET + RINGS_MAX * 0x100;
        let device_writes = matches!(request, Request::Read | Request::GetId);

        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&(request as u32).to_le_bytes());
        bytes[8..].copy_from_slice(&sector.to_le_bytes());
        self.memory.write(header, &bytes);
        self.memory.write(status, &[UNWRITTEN]);
        self.memory.write(payload, data);

        let mut buffers = vec![Buffer { offset: header, length: 16, device_writes: false }];
        if !data.is_empty() {
            buffers.push(Buffer { offset: payload, length: data.len() as u32, device_writes });
        }
        buffers.push(Buffer { offset: status, length: 1, device_writes: true });
        self.submit(ring, &buffers, indirect);
        self.wait_for_used(ring, Duration::from_secs(10))?;

        let mut outcome = [0];
        self.memory.read(status, &mut outcome);
        if device_writes {
            self.memory.read(payload, data);
        }
        Some(outcome[0])
    }
}

/// Connects, and agrees on all that is known here.
fn negotiate(
    socket: &Path,
    rings: usize,
) -> Result<(Frontend, u64, VhostUserProtocolFeatures), vhost::Error> {
    let mut session = Frontend::connect(socket, rings as u64)?;
    session.set_owner()?;
    let offered = session.get_features()?;
    let wanted = VERSION_1 | INDIRECT_DESC | BLK_FLUSH | BLK_MQ;
    let features = offered & (wanted | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits());
    session.set_features(features)?;
    let protocol_features = session.get_protocol_features()?
        & (VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS
            | VhostUserProtocolFeatures::INFLIGHT_SHMFD);
    session.set_protocol_features(protocol_features)?;
    if protocol_features.contains(VhostUserProtocolFeatures::REPLY_ACK) {
        session.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
    }
    Ok((session, features, protocol_features))
}

/// How a region of memory is told to a back-end.
pub fn region(memory: &SharedMemory, guest_base: u64) -> VhostUserMemoryRegionInfo {
    VhostUserMemoryRegionInfo {
        guest_phys_addr: guest_base,
        memory_size: memory.length() as u64,
        userspace_addr: memory.address() as u64,
        mmap_offset: 0,
        mmap_handle: memory.raw_fd(),
    }
}
