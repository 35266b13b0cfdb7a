//! The device as a test, or the daemon's start-up, holds it.

use std::fs::{File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{FlockOperation, flock};
use vfiomux_hw::bar::HeapWindow;
use vfiomux_hw::{Bar, DmaDomain, Vector};
use vfiomux_spec::nvme::log::CriticalWarning;
use vfiomux_spec::nvme::register::bar_bytes;

use crate::controller::{Controller, Counters, Registers, State, stable_hash};
use crate::fault::{Fault, FaultRates};
use crate::host_memory::HostMemory;
use crate::iommu::SimIommu;
use crate::media::{AnyMedium, FileMedium, RamMedium};
use crate::namespace::Namespace;
use crate::notice::NoticeBoard;
use crate::run::{Pace, SimThread, Wake};
use crate::{DeviceSpec, SimError, SimFunction, Violation};

/// A simulated NVMe controller with its IOMMU. Clones are handles on the same one; they outlive whoever drives it.
///
/// [`SimNvme::function`] gives a driver its side. Everything here is the other side: stepping, the oracle's view of the blocks,
/// faults, and what the driver did wrong.
#[derive(Clone)]
pub struct SimNvme(pub(crate) Arc<Device>);

pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) spec: DeviceSpec,
    pub(crate) iommu: SimIommu,
    pub(crate) domain: Arc<DmaDomain>,
    pub(crate) window: Arc<HeapWindow>,
    pub(crate) vectors: Arc<Mutex<Vec<Vector>>>,
    pub(crate) notices: Arc<NoticeBoard>,
    pub(crate) wake: Arc<Wake>,
    controller: Mutex<Controller>,
    /// How many callers wait for the controller while a thread keeps taking it.
    waiting: AtomicU32,
}

impl Device {
    /// The controller, for somebody other than the one who runs it.
    pub(crate) fn controller(&self) -> MutexGuard<'_, Controller> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let guard = self.run_controller();
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        guard
    }

    /// The controller, for the one who runs it.
    pub(crate) fn run_controller(&self) -> MutexGuard<'_, Controller> {
        self.controller.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody else wants the controller: who runs it lets go for a moment.
    pub(crate) fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) != 0
    }
}

impl SimNvme {
    /// A device as `spec` says, under the name that operators will see.
    pub fn new(spec: DeviceSpec, name: impl Into<String>) -> Result<Self, SimError> {
        spec.check()?;
        let (mut spec, name) = (spec, name.into());
        let namespaces = namespaces(&spec)?;
        spec.serial.get_or_insert_with(|| default_serial(spec.file.as_deref(), &name));
        let registers_bytes = bar_bytes(u32::from(spec.queues) + 1, spec.dstrd);
        let window = Arc::new(HeapWindow::new(registers_bytes));
        let registers = Registers::new(Bar::new(window.clone(), None), spec.dstrd);
        let iommu = SimIommu::new(spec.iommu.clone());
        let vectors = Arc::new(Mutex::new(Vec::new()));
        let notices = Arc::new(NoticeBoard::new()?);
        let mut controller = Controller::new(
            spec.clone(),
            registers,
            iommu.clone(),
            vectors.clone(),
            notices.clone(),
            namespaces,
        );
        spec.faults().for_each(|fault| controller.faults.add(fault));
        Ok(Self(Arc::new(Device {
            name,
            domain: DmaDomain::new(Box::new(iommu.clone())),
            spec,
            iommu,
            window,
            vectors,
            notices,
            wake: Arc::default(),
            controller: Mutex::new(controller),
            waiting: AtomicU32::new(0),
        })))
    }

    /// The driver's side. The caller steps the device, or starts a thread that does; registers and the admin queue are served at
    /// once, inside the write that asks, unless [`Self::step_everything`] says otherwise.
    #[must_use]
    pub fn function(&self) -> SimFunction {
        SimFunction::new(self.clone(), None)
    }

    /// What the device was made from, its serial number filled in.
    #[must_use]
    pub fn spec(&self) -> &DeviceSpec {
        &self.0.spec
    }

    /// Does at most `budget` fetches and completions, in an order that depends on nothing but the seed and what the driver did.
    /// Returns how many were done; 0 when there is nothing to do before time passes.
    pub fn step(&self, budget: usize) -> usize {
        self.0.controller().step(budget)
    }

    /// Steps, and lets virtual time pass where only that helps, until nothing is left to do. Returns how much was done.
    ///
    /// Commands that hang stay. On a device that runs by itself this only adds steps.
    pub fn run_until_idle(&self) -> usize {
        let mut done = 0;
        loop {
            let mut controller = self.0.controller();
            match (controller.step(64), controller.next_due_ns()) {
                (0, Some(due)) if due > controller.now_ns() => {
                    let wait = due - controller.now_ns();
                    controller.advance(wait);
                }
                (0, _) => return done,
                (steps, _) => done += steps,
            }
        }
    }

    /// Lets virtual time pass.
    pub fn advance_ns(&self, ns: u64) {
        self.0.controller().advance(ns);
    }

    /// The device's time.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.0.controller().now_ns()
    }

    /// Serves nothing inside register writes any more: the driver waits for steps also for its admin commands.
    pub fn step_everything(&self) {
        self.0.wake.set_pace(Pace::Stepped);
    }

    /// Serves everything inside register writes.
    pub fn run_inline(&self) {
        self.0.wake.set_pace(Pace::Inline);
    }

    /// Starts a thread that runs the device until the value is dropped.
    pub fn run_on_thread(&self) -> Result<SimThread, SimError> {
        self.0.controller().use_real_time();
        SimThread::start(self.0.clone())
    }

    /// What the driver did wrong so far: a correct one, nothing.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        self.0.iommu.violations().kept()
    }

    /// How many violations there were, those beyond what is kept included.
    #[must_use]
    pub fn violation_count(&self) -> u64 {
        self.0.iommu.violations().count()
    }

    /// As [`Self::violations`], and forgets them.
    #[must_use]
    pub fn take_violations(&self) -> Vec<Violation> {
        self.0.iommu.violations().take()
    }

    /// The IOMMU in front of the device.
    #[must_use]
    pub fn iommu(&self) -> &SimIommu {
        &self.0.iommu
    }

    /// What the device has done.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.0.controller().counters
    }

    /// Commands fetched and not completed, Asynchronous Event Requests aside.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.0.controller().outstanding()
    }

    /// Bytes of a block.
    pub fn block_bytes(&self, nsid: u32) -> Result<u32, SimError> {
        self.with_namespace(nsid, 0, 0, |namespace| Ok(1 << namespace.block_shift))
    }

    /// Blocks of a namespace.
    pub fn blocks(&self, nsid: u32) -> Result<u64, SimError> {
        self.with_namespace(nsid, 0, 0, |namespace| Ok(namespace.blocks()))
    }

    /// Reads blocks behind the driver's back; as many as fit `into`.
    pub fn read_blocks(&self, nsid: u32, lba: u64, into: &mut [u8]) -> Result<(), SimError> {
        let len = into.len() as u64;
        self.with_namespace(nsid, lba, len, |namespace| {
            let range = namespace.range(lba, len.div_ceil(1 << namespace.block_shift))?;
            namespace.read(range, 0, HostMemory::of_mut(into))
        })
    }

    /// Writes blocks behind the driver's back; as many as `from` covers.
    pub fn write_blocks(&self, nsid: u32, lba: u64, from: &[u8]) -> Result<(), SimError> {
        let len = from.len() as u64;
        self.with_namespace(nsid, lba, len, |namespace| {
            let range = namespace.range(lba, len.div_ceil(1 << namespace.block_shift))?;
            namespace.write(range, 0, HostMemory::of(from))
        })
    }

    fn with_namespace<T>(
        &self,
        nsid: u32,
        lba: u64,
        bytes: u64,
        f: impl FnOnce(&mut Namespace) -> Result<T, vfiomux_spec::nvme::Status>,
    ) -> Result<T, SimError> {
        let mut controller = self.0.controller();
        let absent = SimError::NoSuchBlocks { nsid, lba, blocks: bytes };
        let index = usize::try_from(nsid).ok().and_then(|nsid| nsid.checked_sub(1));
        match index.and_then(|index| controller.namespaces.get_mut(index)) {
            Some(namespace) => f(namespace).map_err(|_| absent),
            None => Err(absent),
        }
    }

    /// Adds a fault.
    pub fn inject(&self, fault: Fault) {
        self.0.controller().faults.add(fault);
    }

    /// Lets I/O commands go wrong by chance.
    pub fn set_fault_rates(&self, rates: FaultRates, seed: u64) {
        self.0.controller().faults.set_rates(rates, seed);
    }

    /// Takes all faults back, and chance with them. What has gone wrong already stays so.
    pub fn clear_faults(&self) {
        self.0.controller().faults.clear();
    }

    /// Lets the command that has begun to hang last go on as if nothing had been the matter. Says whether there was one.
    pub fn release_hung(&self) -> bool {
        let released = self.0.controller().release_hung();
        self.0.wake.ring();
        released
    }

    /// `CSTS` no longer follows `CC`: the controller neither becomes ready nor unready, and a shutdown does not end.
    pub fn stick_csts(&self, stuck: bool) {
        self.0.controller().stuck = stuck;
    }

    /// The controller stops with `CSTS.CFS` set.
    pub fn fail(&self) {
        self.0.controller().fatal();
    }

    /// The function leaves the bus without a word: every register reads as ones, nothing moves, the error notice is raised.
    pub fn remove(&self) {
        self.0.controller().vanish();
    }

    /// The function is back on the bus, as after power-on.
    pub fn reinsert(&self) {
        self.0.controller().reappear();
    }

    /// Whether the function is on the bus.
    #[must_use]
    pub fn is_present(&self) -> bool {
        self.0.controller().state() != State::Gone
    }

    /// Somebody wants the function back: raises the removal notice.
    pub fn request_removal(&self) {
        self.0.notices.raise_removal();
    }

    /// Loses power for a moment. What was in flight is gone; of what was written and not flushed, with `cache=on`, each block is
    /// there or not by chance. Returns how many blocks lost their last write.
    pub fn crash(&self) -> u64 {
        self.0.controller().crash()
    }

    /// Shows a namespace smaller, or again larger up to its capacity, and raises the event that says so.
    /// False when there is no such namespace.
    pub fn resize_namespace(&self, nsid: u32, size_bytes: u64) -> bool {
        let resized = self.0.controller().resize(nsid, size_bytes);
        self.0.wake.ring();
        resized
    }

    /// Reports a critical warning in the health log, and raises the event that says so.
    pub fn warn(&self, warning: CriticalWarning) {
        self.0.controller().warn(warning);
        self.0.wake.ring();
    }
}

impl std::fmt::Debug for SimNvme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimNvme").field("name", &self.0.name).field("spec", &self.0.spec).finish()
    }
}

/// A serial number that a file keeps wherever it is opened from, and a device in memory as long as its name.
fn default_serial(file: Option<&Path>, name: &str) -> String {
    let hash = match file {
        Some(path) => {
            let whole = path.canonicalize();
            stable_hash(whole.as_deref().unwrap_or(path).as_os_str().as_bytes())
        }
        None => stable_hash(name.as_bytes()),
    };
    format!("SIM{:012X}", hash >> 16)
}

fn namespaces(spec: &DeviceSpec) -> Result<Vec<Namespace>, SimError> {
    let bytes = spec.namespace_bytes();
    let file = spec.file.as_deref().map(|path| open_file(path, spec.size_bytes)).transpose()?;
    (1..=spec.namespaces)
        .map(|nsid| {
            let medium = match &file {
                Some(file) => {
                    AnyMedium::File(FileMedium::new(file.clone(), u64::from(nsid - 1) * bytes, bytes))
                }
                None => AnyMedium::Ram(RamMedium::new(bytes)?),
            };
            Ok(Namespace::new(nsid, medium, bytes, spec.lba_bytes, spec.cache))
        })
        .collect()
}

/// Opens a backing file for this device alone, as long as it must be.
fn open_file(path: &Path, size_bytes: u64) -> Result<Arc<File>, SimError> {
    let failed = |source| SimError::File { path: path.to_owned(), source };
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Err(SimError::FileBusy { path: path.to_owned() }),
        Err(error) => return Err(failed(error.into())),
    }
    if file.metadata().map_err(failed)?.len() < size_bytes {
        file.set_len(size_bytes).map_err(failed)?;
    }
    Ok(Arc::new(file))
}
