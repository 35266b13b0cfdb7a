use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vfiomux_guest::driver::Arena;
use vfiomux_spec::virtio::blk::{BlkConfig, F_BLK_SIZE, F_FLUSH, F_MQ, F_RO, F_SEG_MAX};
use vfiomux_spec::virtio::features::{
    RING_EVENT_IDX, RING_INDIRECT_DESC, VERSION_1, VHOST_USER_PROTOCOL_FEATURES,
};
use vhost::vhost_user::message::{VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserProtocolFeatures};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};

use crate::error::{event, step};
use crate::layout::{self, GUEST_BASE};
use crate::patience::Patience;
use crate::{FrontendError, Queue};

/// What a driver like ours understands of a disk.
const FEATURES: u64 = VERSION_1
    | RING_INDIRECT_DESC
    | RING_EVENT_IDX
    | VHOST_USER_PROTOCOL_FEATURES
    | F_SEG_MAX
    | F_RO
    | F_BLK_SIZE
    | F_FLUSH
    | F_MQ;
/// What it cannot do without.
const FEATURES_NEEDED: u64 = VERSION_1 | VHOST_USER_PROTOCOL_FEATURES;
/// Bytes of the configuration space up to and including `num_queues` (virtio 1.3 5.2.4).
const CONFIG_BYTES: usize = 36;
/// What the crate `vhost` knows of a ring's addresses: nothing is logged.
const VRING_FLAGS_NONE: u32 = 0;

/// How large a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Virtqueues to start.
    pub queues: u16,
    /// Requests in flight on each, at most.
    pub requests: u16,
    /// Bytes of data of the longest request.
    pub request_bytes: u32,
}

/// What the lent memory is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    /// Pages of the usual size: nothing has to be set up for them.
    Ordinary,
    /// Huge pages of 2 MiB, which the machine must have reserved.
    Huge,
}

/// A connection to a vhost-user disk, with its memory and its running queues. Dropping it hangs up.
pub struct Session {
    frontend: Frontend,
    /// The same socket, to be shut down when the endpoint does not answer.
    hang_up: UnixStream,
    path: PathBuf,
    features: u64,
    config: BlkConfig,
    /// The rings and the data of all queues; the queues share it.
    arena: Arc<Arena>,
    queues: Vec<Queue>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Session")
            .field("path", &self.path)
            .field("queues", &self.queues.len())
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Connects to an endpoint, negotiates, lends it memory of ordinary pages and starts the queues.
    pub fn connect(path: &Path, shape: &Shape) -> Result<Self, FrontendError> {
        Self::connect_with(path, shape, Pages::Ordinary)
    }

    /// As [`connect`](Self::connect), with memory of such pages.
    pub fn connect_with(path: &Path, shape: &Shape, pages: Pages) -> Result<Self, FrontendError> {
        let refused = |source| FrontendError::Connect { path: path.to_owned(), source };
        let stream = UnixStream::connect(path).map_err(refused)?;
        let patience = Patience::new(&stream).map_err(refused)?;
        let started = Self::start(path, stream, shape, pages);
        patience.judge(path, started)
    }

    fn start(path: &Path, stream: UnixStream, shape: &Shape, pages: Pages) -> Result<Self, FrontendError> {
        let hang_up = stream.try_clone().map_err(event("keeping a hand on the socket"))?;
        let mut frontend = Frontend::from_stream(stream, shape.queues.into());
        let features = negotiate(&mut frontend, shape.queues)?;
        let config = read_config(&mut frontend)?;
        let indirect = features & RING_INDIRECT_DESC != 0;
        let arena = Arc::new(arena(layout::memory_bytes(shape, indirect)?, pages)?);
        lend(&mut frontend, &arena)?;
        let queues: Vec<Queue> = (0..shape.queues)
            .map(|index| Queue::new(&arena, shape, index, features))
            .collect::<Result<_, _>>()?;
        for (index, queue) in queues.iter().enumerate() {
            start(&mut frontend, index, queue)?;
        }
        Ok(Self { frontend, hang_up, path: path.to_owned(), features, config, arena, queues })
    }

    /// Where it is connected.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The features agreed on.
    #[must_use]
    pub fn features(&self) -> u64 {
        self.features
    }

    /// The disk's configuration space, as it was at the start.
    #[must_use]
    pub fn config(&self) -> &BlkConfig {
        &self.config
    }

    /// Bytes of memory that the endpoint may use.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.arena.size_bytes()
    }

    /// The queues.
    pub fn queues(&mut self) -> &mut [Queue] {
        &mut self.queues
    }

    /// Requests with the device.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.queues.iter().map(Queue::in_flight).sum()
    }

    /// Asks to be called at the next completion of any queue; true when there is one already.
    #[must_use = "when there is a completion already, no call will come for it"]
    pub fn arm(&mut self) -> bool {
        self.queues.iter_mut().any(Queue::arm)
    }

    /// Asks not to be called.
    pub fn disarm(&mut self) {
        self.queues.iter_mut().for_each(Queue::disarm);
    }

    /// Stops the queues in order. The endpoint answers when nothing of theirs is in flight any more.
    pub fn stop(self) -> Result<(), FrontendError> {
        let patience = Patience::new(&self.hang_up).map_err(event("keeping a hand on the socket"))?;
        let stopped = (0..self.queues.len()).try_for_each(|index| {
            self.frontend.get_vring_base(index).map(drop).map_err(step("stopping a queue"))
        });
        patience.judge(&self.path, stopped)
    }

    pub(crate) fn socket(&self) -> i32 {
        self.frontend.as_raw_fd()
    }

    pub(crate) fn calls(&self) -> impl Iterator<Item = i32> {
        self.queues.iter().map(|queue| queue.call_event().as_raw_fd())
    }
}

/// Agrees on features. Returns them.
fn negotiate(frontend: &mut Frontend, queues: u16) -> Result<u64, FrontendError> {
    frontend.set_owner().map_err(step("taking the session over"))?;
    let features = frontend.get_features().map_err(step("asking for the features"))? & FEATURES;
    if features & FEATURES_NEEDED != FEATURES_NEEDED {
        return Err(FrontendError::Lacks(
            "offers no virtio 1 device with protocol features; is it a vhost-user-blk socket?",
        ));
    }
    let wanted = VhostUserProtocolFeatures::MQ
        | VhostUserProtocolFeatures::REPLY_ACK
        | VhostUserProtocolFeatures::CONFIG;
    let offered = frontend.get_protocol_features().map_err(step("asking for the protocol features"))?;
    if !offered.contains(VhostUserProtocolFeatures::CONFIG) {
        return Err(FrontendError::Lacks("has no configuration space; is it a vhost-user-blk socket?"));
    }
    frontend.set_protocol_features(offered & wanted).map_err(step("agreeing on protocol features"))?;
    if offered.contains(VhostUserProtocolFeatures::REPLY_ACK) {
        // Every message is answered, so that a refusal is heard where it happens.
        frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
    }
    let available = if offered.contains(VhostUserProtocolFeatures::MQ) {
        frontend.get_queue_num().map_err(step("asking for the number of queues"))?
    } else {
        1
    };
    if available < queues.into() {
        return Err(FrontendError::Queues { wanted: queues, available });
    }
    frontend.set_features(features).map_err(step("agreeing on features"))?;
    Ok(features)
}

/// Reads as much of the configuration space as a block device has had since virtio 1.0 gave it several queues: back-ends differ
/// in how much more they have, and some do not answer at all to those who ask for more than that.
fn read_config(frontend: &mut Frontend) -> Result<BlkConfig, FrontendError> {
    let mut config = [0; size_of::<BlkConfig>()];
    let known = &mut config[..CONFIG_BYTES];
    let (_, bytes) = frontend
        .get_config(0, CONFIG_BYTES as u32, VhostUserConfigFlags::empty(), known)
        .map_err(step("reading the configuration space"))?;
    // The crate `vhost` refuses answers of another length than was asked for.
    known.copy_from_slice(&bytes);
    Ok(zerocopy::transmute!(config))
}

fn arena(size_bytes: u64, pages: Pages) -> Result<Arena, FrontendError> {
    match pages {
        Pages::Ordinary => Ok(Arena::new(size_bytes, GUEST_BASE)?),
        Pages::Huge => Arena::huge(size_bytes, GUEST_BASE)
            .map_err(|source| FrontendError::HugePages { size_bytes, source }),
    }
}

/// Lets the endpoint use the arena.
fn lend(frontend: &mut Frontend, arena: &Arena) -> Result<(), FrontendError> {
    let file = arena.file().ok_or(FrontendError::Lacks("cannot be lent memory that is no file"))?;
    let region = VhostUserMemoryRegionInfo {
        guest_phys_addr: arena.guest_addr(),
        memory_size: arena.size_bytes(),
        userspace_addr: arena.user_addr(),
        mmap_offset: 0,
        mmap_handle: file.as_raw_fd(),
    };
    // What comes back are addresses for post-copy migration, which nobody asked for.
    frontend.set_mem_table(&[region]).map(drop).map_err(step("lending memory"))
}

fn start(frontend: &mut Frontend, index: usize, queue: &Queue) -> Result<(), FrontendError> {
    let ring = queue.setup();
    let entries = u16::try_from(ring.size).unwrap_or(u16::MAX);
    let addresses = VringConfigData {
        queue_max_size: entries,
        queue_size: entries,
        flags: VRING_FLAGS_NONE,
        desc_table_addr: ring.desc_user_addr,
        used_ring_addr: ring.used_user_addr,
        avail_ring_addr: ring.avail_user_addr,
        log_addr: None,
    };
    frontend.set_vring_num(index, entries).map_err(step("sizing a queue"))?;
    frontend.set_vring_base(index, ring.base).map_err(step("setting a queue to its start"))?;
    frontend.set_vring_addr(index, &addresses).map_err(step("placing a queue"))?;
    frontend.set_vring_call(index, queue.call_event()).map_err(step("giving a queue its call"))?;
    frontend.set_vring_kick(index, queue.kick_event()).map_err(step("giving a queue its kick"))?;
    frontend.set_vring_enable(index, true).map_err(step("enabling a queue"))
}

#[cfg(test)]
mod tests;
