//! The connection to the back-end: what it offers, and its rings set up.

use std::io;
use std::sync::Arc;

use virtio_driver::{
    EventFd, QueueNotifier, VhostUser, VirtioBlkFeatureFlags, VirtioBlkQueue, VirtioBlkTransport,
    VirtioFeatureFlags,
};

use super::pattern::SECTOR_BYTES;
use super::workload::Limits;
use super::{CheckError, Options};
use crate::memory::SharedMemory;

/// A discard or zeroing longer than this teaches nothing more.
const LONGEST_RANGE_SECTORS: u64 = 8192;

/// One ring, ready for requests. A request's context is its slot.
pub(crate) struct Ring<'queue> {
    pub(crate) queue: VirtioBlkQueue<'queue, usize>,
    pub(crate) notifier: Box<dyn QueueNotifier>,
    pub(crate) completed: Arc<EventFd>,
    pub(crate) in_flight: u16,
    pub(crate) free_descriptors: usize,
}

/// Connects, and negotiates all that this front-end knows of block devices.
pub(crate) fn connect(options: &Options) -> Result<Box<VirtioBlkTransport>, CheckError> {
    let mut virtio = VirtioFeatureFlags::VERSION_1 | VirtioFeatureFlags::RING_EVENT_IDX;
    if options.packed {
        virtio |= VirtioFeatureFlags::RING_PACKED;
    }
    let block = VirtioBlkFeatureFlags::SEG_MAX
        | VirtioBlkFeatureFlags::BLK_SIZE
        | VirtioBlkFeatureFlags::FLUSH
        | VirtioBlkFeatureFlags::MQ
        | VirtioBlkFeatureFlags::DISCARD
        | VirtioBlkFeatureFlags::WRITE_ZEROES;
    let socket = options.socket.to_string_lossy();
    let transport = VhostUser::new(&socket, virtio.bits() | block.bits())
        .map_err(|error| failed(format!("no vhost-user session on {socket}"), error))?;
    Ok(Box::new(transport))
}

/// What the device allows, and how many segments a request may have.
pub(crate) fn limits(transport: &VirtioBlkTransport, options: &Options) -> Result<(Limits, u64), CheckError> {
    let config = transport.get_config().map_err(|error| failed("GET_CONFIG", error))?;
    let features = VirtioBlkFeatureFlags::from_bits_truncate(transport.get_features());
    let has = |feature| features.contains(feature);

    let block_bytes =
        if has(VirtioBlkFeatureFlags::BLK_SIZE) { u64::from(u32::from(config.blk_size)) } else { 512 };
    let block = block_bytes / SECTOR_BYTES as u64;
    let capacity = u64::from(config.capacity);
    if !block.is_power_of_two() || capacity < block || capacity % block != 0 {
        return Err(CheckError::Configuration(format!(
            "{capacity} sectors in blocks of {block_bytes} bytes"
        )));
    }
    let offered = if has(VirtioBlkFeatureFlags::MQ) { usize::from(u16::from(config.num_queues)) } else { 1 };
    if offered < usize::from(options.rings) {
        return Err(CheckError::Rings { offered, wanted: options.rings });
    }
    let segments = if has(VirtioBlkFeatureFlags::SEG_MAX) { u64::from(u32::from(config.seg_max)) } else { 1 };
    if segments == 0 {
        return Err(CheckError::Configuration("seg_max is 0".to_owned()));
    }

    let longest = |sectors: u32| u64::from(sectors).min(LONGEST_RANGE_SECTORS);
    let limits = Limits {
        capacity,
        block,
        transfer: (u64::from(options.max_bytes) / SECTOR_BYTES as u64 / block * block).max(block),
        discard: if has(VirtioBlkFeatureFlags::DISCARD) {
            longest(config.max_discard_sectors.into())
        } else {
            0
        },
        discard_alignment: u64::from(u32::from(config.discard_sector_alignment)),
        write_zeroes: if has(VirtioBlkFeatureFlags::WRITE_ZEROES) {
            longest(config.max_write_zeroes_sectors.into())
        } else {
            0
        },
        flush: has(VirtioBlkFeatureFlags::FLUSH),
    };
    Ok((limits, segments))
}

/// Shares the data buffers and starts the rings. The rings use memory that the transport owns, which must outlive them.
pub(crate) fn start_rings<'queue>(
    transport: &mut VirtioBlkTransport,
    memory: &SharedMemory,
    options: &Options,
) -> Result<Vec<Ring<'queue>>, CheckError> {
    transport
        .map_mem_region(memory.address(), memory.length(), memory.raw_fd(), 0)
        .map_err(|error| failed("sharing memory", error))?;
    let queues = VirtioBlkQueue::setup_queues(transport, usize::from(options.rings), options.queue_size)
        .map_err(|error| failed("starting the rings", error))?;
    let rings = queues.into_iter().enumerate().map(|(index, mut queue)| {
        queue.set_used_notif_enabled(true);
        Ring {
            queue,
            notifier: transport.get_submission_notifier(index),
            completed: transport.get_completion_fd(index),
            in_flight: 0,
            free_descriptors: usize::from(options.queue_size),
        }
    });
    Ok(rings.collect())
}

pub(crate) fn failed(what: impl Into<String>, error: io::Error) -> CheckError {
    CheckError::Connection(what.into(), error)
}
