//! What a warden keeps: a controller, or a device that we play ourselves.

use std::io;
use std::ops::RangeInclusive;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::Arc;

use vfiomux_block::{LaneId, Limits, LocalLane, NullQueue, RamDisk, RamQueue};
use vfiomux_hw::{DmaDomain, Iommu, Iova, Notices, Rights};
use vfiomux_nvme::{Controller, Event, Info, NvmeError, QueueId, Skipped, State};
use vfiomux_rpc::FunctionClass;

use super::queue::{DeviceLane, DeviceQueue};

/// Lanes of a device that we play ourselves. They cost what their table entry costs.
const LOCAL_LANES: u16 = 4096;
/// Its only namespace, as [`RamDisk::namespace`] has it.
const LOCAL_NAMESPACE: u32 = 1;

/// A namespace that can be carved.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Space {
    pub(crate) id: u32,
    pub(crate) limits: Limits,
}

/// A device without hardware: each command ends in the sidecore that submits it. What it holds is gone when it is closed.
#[derive(Debug)]
pub struct LocalDevice {
    kind: LocalKind,
    domain: Arc<DmaDomain>,
    lanes_free: u16,
}

#[derive(Debug)]
enum LocalKind {
    /// Nothing is done, and that at once.
    Null(Limits),
    /// A disk in the memory of this process.
    Ram(Arc<RamDisk>),
}

/// Nothing stands between such a device and memory, so nothing has to be told of mappings. The ledger above it is kept all the
/// same: whatever is lent to a device is lent to this one too (D1).
struct NoBus;

impl Iommu for NoBus {
    fn apertures(&self) -> Vec<RangeInclusive<u64>> {
        vec![0..=(1 << 56) - 1]
    }

    fn page_sizes(&self) -> u64 {
        1 << 12 | 1 << 21 | 1 << 30
    }

    fn map(&self, _iova: Iova, _host: NonNull<u8>, _size_bytes: u64, _rights: Rights) -> io::Result<()> {
        Ok(())
    }

    fn unmap(&self, _iova: Iova, _size_bytes: u64) -> io::Result<()> {
        Ok(())
    }
}

impl LocalDevice {
    /// Takes every write and forgets it; reads leave the guest's memory as it is. For measuring what the way there and back
    /// costs.
    #[must_use]
    pub fn null(size_bytes: u64, block_bytes: u32) -> Self {
        Self::new(LocalKind::Null(NullQueue::limits(size_bytes / u64::from(block_bytes), block_bytes)))
    }

    /// A disk in memory: zeroes until written, and gone with the daemon.
    ///
    /// # Errors
    ///
    /// When the kernel does not give so much address space.
    pub fn ram(size_bytes: u64, block_bytes: u32) -> io::Result<Self> {
        Ok(Self::new(LocalKind::Ram(RamDisk::new(size_bytes / u64::from(block_bytes), block_bytes)?)))
    }

    fn new(kind: LocalKind) -> Self {
        Self { kind, domain: DmaDomain::new(Box::new(NoBus)), lanes_free: LOCAL_LANES }
    }

    fn limits(&self) -> Limits {
        match &self.kind {
            LocalKind::Null(limits) => *limits,
            LocalKind::Ram(disk) => disk.limits(),
        }
    }

    fn queue(&self) -> DeviceQueue {
        match &self.kind {
            LocalKind::Null(_) => DeviceQueue::Null(NullQueue::new()),
            LocalKind::Ram(disk) => DeviceQueue::Ram(RamQueue::new(disk.clone())),
        }
    }

    fn info(&self) -> Info {
        let limits = self.limits();
        Info {
            model: match self.kind {
                LocalKind::Null(_) => "null device".to_owned(),
                LocalKind::Ram(_) => "RAM disk".to_owned(),
            },
            lanes_max: LOCAL_LANES,
            queues_max: u16::MAX,
            depth_max: u32::from(u16::MAX),
            transfer_bytes_max: limits.transfer_bytes_max,
            volatile_cache: limits.volatile_cache,
            capacity_bytes: u128::from(limits.blocks) * u128::from(limits.block_bytes),
            ..Info::default()
        }
    }
}

/// See the module.
pub(crate) enum Machine {
    Nvme(Box<Controller>),
    Local(LocalDevice),
}

impl From<Controller> for Machine {
    fn from(controller: Controller) -> Self {
        Self::Nvme(Box::new(controller))
    }
}

impl Machine {
    pub(crate) fn domain(&self) -> Arc<DmaDomain> {
        match self {
            Self::Nvme(controller) => controller.domain().clone(),
            Self::Local(device) => device.domain.clone(),
        }
    }

    pub(crate) fn info(&self) -> Info {
        match self {
            Self::Nvme(controller) => controller.info().clone(),
            Self::Local(device) => device.info(),
        }
    }

    pub(crate) fn spaces(&self) -> Vec<Space> {
        match self {
            Self::Nvme(controller) => controller
                .namespaces()
                .iter()
                .map(|namespace| Space { id: namespace.id, limits: namespace.limits })
                .collect(),
            Self::Local(device) => vec![Space { id: LOCAL_NAMESPACE, limits: device.limits() }],
        }
    }

    pub(crate) fn skipped(&self) -> &[Skipped] {
        match self {
            Self::Nvme(controller) => controller.skipped(),
            Self::Local(_) => &[],
        }
    }

    pub(crate) fn class(&self) -> FunctionClass {
        match self {
            Self::Nvme(_) => FunctionClass::Nvme,
            Self::Local(LocalDevice { kind: LocalKind::Null(_), .. }) => FunctionClass::Null,
            Self::Local(LocalDevice { kind: LocalKind::Ram(_), .. }) => FunctionClass::Ram,
        }
    }

    /// Descriptors by which the function says that it is about to go, or has failed.
    pub(crate) fn notices(&self) -> Option<Notices<'_>> {
        match self {
            Self::Nvme(controller) => Some(controller.function().notices()),
            Self::Local(_) => None,
        }
    }

    /// Whether the device is leaving, or has left: why, and whether it still works.
    pub(crate) fn leaving(&self) -> Option<(&'static str, bool)> {
        let Self::Nvme(controller) = self else { return None };
        let notices = controller.function().notices();
        if is_raised(notices.error) {
            return Some(("it reported a fatal error on its bus", false));
        }
        if is_raised(notices.removal) {
            return Some(("its removal was requested", true));
        }
        match controller.state() {
            State::Gone => Some(("its registers no longer answer", false)),
            State::Failed => Some(("its controller failed", false)),
            _ => None,
        }
    }

    pub(crate) fn mark_gone(&mut self) {
        if let Self::Nvme(controller) = self {
            controller.mark_gone();
        }
    }

    pub(crate) fn poll_events(&mut self) -> Result<Vec<Event>, NvmeError> {
        match self {
            Self::Nvme(controller) => controller.poll_events(),
            Self::Local(_) => Ok(Vec::new()),
        }
    }

    /// How many sidecores can have a queue of it.
    pub(crate) fn queues_max(&self) -> usize {
        match self {
            Self::Nvme(controller) => {
                usize::from(controller.info().queues_max.min(controller.info().lanes_max))
            }
            Self::Local(_) => usize::MAX,
        }
    }

    /// A queue for one sidecore, with its first lane. `index` chooses the interrupt vector.
    pub(crate) fn create_queue(
        &mut self,
        index: usize,
        depth: u16,
        lane_depth: u16,
    ) -> Result<(DeviceQueue, DeviceLane), NvmeError> {
        match self {
            Self::Nvme(controller) => {
                let vectors = controller.vectors().len();
                let vector = u16::try_from(index + 1).ok().filter(|vector| usize::from(*vector) < vectors);
                let queue = controller.create_queue(depth, vector)?;
                let lane = controller.create_lane(queue.id(), lane_depth)?;
                Ok((DeviceQueue::Nvme(queue), DeviceLane::Nvme(Box::new(lane))))
            }
            Self::Local(device) => {
                device.lanes_free = device.lanes_free.saturating_sub(1);
                Ok((device.queue(), DeviceLane::Local(LocalLane { depth: lane_depth })))
            }
        }
    }

    pub(crate) fn create_lane(&mut self, queue: QueueId, depth: u16) -> Result<DeviceLane, NvmeError> {
        match self {
            Self::Nvme(controller) => {
                controller.create_lane(queue, depth).map(|lane| DeviceLane::Nvme(Box::new(lane)))
            }
            Self::Local(device) => {
                device.lanes_free = device.lanes_free.saturating_sub(1);
                Ok(DeviceLane::Local(LocalLane { depth }))
            }
        }
    }

    /// When this returns well, the lane's commands have ended for certain.
    pub(crate) fn delete_lane(&mut self, lane: LaneId) -> Result<(), NvmeError> {
        match self {
            Self::Nvme(controller) => controller.delete_lane(lane),
            Self::Local(device) => {
                // Its commands ended when they were submitted.
                device.lanes_free = device.lanes_free.saturating_add(1).min(LOCAL_LANES);
                Ok(())
            }
        }
    }

    pub(crate) fn lanes_free(&self) -> u16 {
        match self {
            Self::Nvme(controller) => controller.lanes_free(),
            Self::Local(device) => device.lanes_free,
        }
    }

    pub(crate) fn abort(&mut self, lane: LaneId, command: u16) -> Result<bool, NvmeError> {
        match self {
            Self::Nvme(controller) => controller.abort(lane, command),
            Self::Local(_) => Ok(false),
        }
    }

    pub(crate) fn halt(&mut self) -> Result<(), NvmeError> {
        match self {
            Self::Nvme(controller) => controller.halt(),
            Self::Local(_) => Ok(()),
        }
    }

    /// Starts again what was halted, without any queue.
    pub(crate) fn restart(&mut self) -> Result<(), NvmeError> {
        match self {
            Self::Nvme(controller) => controller.restart().map(drop),
            Self::Local(device) => {
                device.lanes_free = LOCAL_LANES;
                Ok(())
            }
        }
    }

    pub(crate) fn shutdown(&mut self) -> Result<(), NvmeError> {
        match self {
            Self::Nvme(controller) => controller.shutdown(),
            Self::Local(_) => Ok(()),
        }
    }
}

/// Whether a descriptor is readable now.
pub(crate) fn is_raised(notice: Option<BorrowedFd<'_>>) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    notice.is_some_and(|fd| {
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        matches!(poll(&mut fds, Some(&Timespec::default())), Ok(1..))
    })
}
