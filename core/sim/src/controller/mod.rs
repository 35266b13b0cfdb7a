//! The controller: what it does with what it finds in its registers and queues.
//!
//! ```text
//!   observe          CC, NSSR: enable, reset, shut down
//!      │
//!   look, fetch      doorbells; a command out of a submission queue, faults drawn
//!      │
//!   pending          when it takes time, or an order other than arrival is wanted
//!      │
//!   finish           the command is carried out: its data moves now, as late as can be, so that memory withdrawn too early
//!      │             is noticed
//!   complete         a completion posted; vectors signalled once a step
//! ```

mod admin;
mod event;
mod feature;
mod identify;
mod io;
mod lifecycle;
mod log;
mod queue;
mod registers;
mod schedule;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use vfiomux_hw::Vector;
use vfiomux_spec::nvme::register::Cc;
use vfiomux_spec::nvme::{Status, StatusField, SubmissionEntry};

use crate::DeviceSpec;
use crate::fault::{Action, FaultPlan};
use crate::iommu::SimIommu;
use crate::namespace::Namespace;
use crate::notice::NoticeBoard;
use crate::rng::Rng;
use crate::violation::CommandName;
use crate::walk::Run;
use event::Events;
use feature::Features;
pub(crate) use identify::{DEVICE, VENDOR, stable_hash};
use log::Logs;
use queue::{CompletionQueue, SubmissionQueue};
pub(crate) use registers::Registers;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Disabled,
    Ready,
    /// Stopped with `CSTS.CFS`; only a reset helps.
    Fatal,
    /// Left the bus.
    Gone,
}

/// How a command ended.
#[derive(Debug, Clone, Copy)]
struct Outcome {
    status: StatusField,
    dw0: u32,
}

impl Outcome {
    fn result(dw0: u32) -> Self {
        Self { status: StatusField::new(), dw0 }
    }
}

impl From<Status> for Outcome {
    /// Errors of ours are the command's own fault, unless memory or the medium failed it.
    fn from(status: Status) -> Self {
        let retry = status.sct() == vfiomux_spec::nvme::status::SCT_MEDIA
            || [Status::SUCCESS, Status::INTERNAL_ERROR, Status::ABORT_REQUESTED].contains(&status)
            || [Status::ABORTED_SQ_DELETION, Status::NAMESPACE_NOT_READY].contains(&status);
        Self { status: if retry { status.field() } else { status.do_not_retry() }, dw0: 0 }
    }
}

impl From<Result<(), Status>> for Outcome {
    fn from(result: Result<(), Status>) -> Self {
        result.err().unwrap_or(Status::SUCCESS).into()
    }
}

/// A command that has been fetched and has not completed.
struct Pending {
    sq_id: u16,
    entry: SubmissionEntry,
    due_ns: u64,
    /// Order of arrival.
    sequence: u64,
    /// How many commands must have completed first.
    hold_until: u64,
    action: Option<Action>,
}

impl Pending {
    fn hung(&self) -> bool {
        self.action == Some(Action::Hang)
    }
}

/// The controller's time: given out by a test, or the machine's.
enum Clock {
    Virtual(u64),
    Real(Instant),
}

/// What the device has done, for tests and reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Admin commands fetched.
    pub admin_commands: u64,
    /// I/O commands fetched.
    pub io_commands: u64,
    /// Completions posted.
    pub completions: u64,
    /// Commands struck by a fault.
    pub faults: u64,
    /// Bytes that Read moved.
    pub read_bytes: u64,
    /// Bytes that Write moved.
    pub written_bytes: u64,
    /// Interrupts signalled.
    pub interrupts: u64,
    /// Resets of the controller, of whatever kind.
    pub resets: u64,
}

/// A simulated NVMe controller.
pub(crate) struct Controller {
    spec: DeviceSpec,
    registers: Registers,
    iommu: SimIommu,
    vectors: Arc<Mutex<Vec<Vector>>>,
    notices: Arc<NoticeBoard>,
    pub(crate) namespaces: Vec<Namespace>,
    pub(crate) faults: FaultPlan,
    pub(crate) counters: Counters,
    /// `CSTS` does not follow `CC`.
    pub(crate) stuck: bool,
    state: State,
    cc: Cc,
    page_bytes: u64,
    sqs: Vec<Option<SubmissionQueue>>,
    cqs: Vec<Option<CompletionQueue>>,
    /// Live I/O submission queues, in the order in which they were made.
    live: Vec<u16>,
    turn: usize,
    pending: Vec<Pending>,
    sequence: u64,
    /// When each unit that is at work, of those that `parallel` bounds, is free again.
    busy_until_ns: BinaryHeap<Reverse<u64>>,
    features: Features,
    events: Events,
    logs: Logs,
    rng: Rng,
    clock: Clock,
    /// Scratch: where the command that is being carried out moves its data.
    runs: Vec<Run>,
    /// Some completion queue has news.
    news: bool,
}

impl Controller {
    pub(crate) fn new(
        spec: DeviceSpec,
        registers: Registers,
        iommu: SimIommu,
        vectors: Arc<Mutex<Vec<Vector>>>,
        notices: Arc<NoticeBoard>,
        namespaces: Vec<Namespace>,
    ) -> Self {
        let queues = usize::from(spec.queues) + 1;
        registers.power_on(&spec);
        Self {
            registers,
            iommu,
            vectors,
            notices,
            namespaces,
            faults: FaultPlan::default(),
            counters: Counters::default(),
            stuck: false,
            state: State::Disabled,
            cc: Cc::new(),
            page_bytes: 4096,
            sqs: (0..queues).map(|_| None).collect(),
            cqs: (0..queues).map(|_| None).collect(),
            live: Vec::with_capacity(queues),
            turn: 0,
            pending: Vec::with_capacity(256),
            sequence: 0,
            busy_until_ns: BinaryHeap::new(),
            features: Features::new(&spec),
            events: Events::default(),
            logs: Logs::default(),
            rng: Rng::new(spec.seed.unwrap_or(0)),
            clock: Clock::Virtual(0),
            runs: Vec::with_capacity(256),
            news: false,
            spec,
        }
    }

    /// From now on, time passes by itself.
    pub(crate) fn use_real_time(&mut self) {
        self.clock = Clock::Real(Instant::now());
    }

    /// Lets virtual time pass.
    pub(crate) fn advance(&mut self, ns: u64) {
        if let Clock::Virtual(now) = &mut self.clock {
            *now = now.saturating_add(ns);
        }
    }

    pub(crate) fn now_ns(&self) -> u64 {
        match &self.clock {
            Clock::Virtual(now) => *now,
            Clock::Real(start) => u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX),
        }
    }

    /// When the next command that is only waiting for its time will be due.
    pub(crate) fn next_due_ns(&self) -> Option<u64> {
        self.pending.iter().filter(|pending| !pending.hung()).map(|pending| pending.due_ns).min()
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// How many commands have been fetched and not completed, Asynchronous Event Requests aside.
    pub(crate) fn outstanding(&self) -> usize {
        self.pending.len()
    }

    fn sq(&mut self, id: u16) -> Option<&mut SubmissionQueue> {
        self.sqs.get_mut(usize::from(id))?.as_mut()
    }

    fn cq(&mut self, id: u16) -> Option<&mut CompletionQueue> {
        self.cqs.get_mut(usize::from(id))?.as_mut()
    }
}

fn name(sq_id: u16, entry: &SubmissionEntry) -> CommandName {
    CommandName { sq_id, cid: entry.cid.get(), opcode: entry.opcode, nsid: entry.nsid.get() }
}
