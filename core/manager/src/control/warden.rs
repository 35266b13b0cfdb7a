//! A device's own thread: everything about a controller that may block.
//!
//! The warden owns the controller: bring-up, the admin queue, labels, scrubbing, reset. Reads and writes of its own go
//! through the sidecore that has the device's queue, as [`vfiomux_sidecore::Order::Service`]: a controller may grant one queue
//! pair and no more.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use vfiomux_block::{BlockQueue as _, Command, LaneId, Limits, Operation, Status};
use vfiomux_hw::{DmaBuffer, DmaDomain, Function, HwError};
use vfiomux_nvme::sync::BlockIo;
use vfiomux_nvme::{Controller, Info, NvmeError, Options, QueueId, Skipped, SystemClock};
use vfiomux_rpc::FunctionClass;
use vfiomux_sidecore::{Answer, Measured, Probe};

use super::lines::DeviceAnswer;
use super::machine::{LocalDevice, Machine, Space, is_raised};
use super::queue::{DeviceLane, DeviceQueue};
use super::worker::{Idle, Poster};
use crate::extent::Extent;
use crate::label::{COPY_BYTES, Label, LabelError};
use crate::signature;

/// Opens a device. Runs on the device's thread, since taking a function from its driver can take seconds.
pub type Opener = Box<dyn FnOnce() -> Result<Opened, HwError> + Send>;

/// A device that was opened.
pub enum Opened {
    /// A PCI function.
    Function {
        /// The function.
        function: Box<dyn Function>,
        /// For a function of the host: the driver that it was taken from, if it had one, and is to be given back to.
        claimed_from: Option<Option<String>>,
    },
    /// A device that we play ourselves.
    Local(LocalDevice),
}

/// Commands of a scrub at the device at a time.
const SCRUB_WINDOW: usize = 8;
/// How long one command of our own may take before there is a sidecore to carry it.
const BRING_UP_TIMEOUT: Duration = Duration::from_secs(30);
/// How often one who waits for a command looks whether it is to give up.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Ends what a warden waits for, so that its controller can be halted: commands that hang would keep it from that.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From now on the warden waits for no command of its own.
    pub(crate) fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn clear(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The state of a device's thread.
pub(crate) struct Warden {
    name: String,
    poster: Poster,
    machine: Option<Machine>,
    domain: Option<Arc<DmaDomain>>,
    interrupt: Interrupt,
    /// How long one command of our own may take.
    service: Duration,
    /// The device is known to be gone, or about to go: said once.
    told_gone: bool,
}

/// What bring-up found and made.
pub(crate) struct BroughtUp {
    /// A completion queue and its first lane for each sidecore that gets one.
    pub(crate) queues: Vec<(DeviceQueue, DeviceLane)>,
    pub(crate) namespaces: Vec<(Space, Head)>,
    pub(crate) skipped: Vec<Skipped>,
    pub(crate) domain: Arc<DmaDomain>,
    pub(crate) class: FunctionClass,
    pub(crate) info: Info,
    /// Lanes that channels could still have to themselves.
    pub(crate) lanes_free: u16,
}

/// What a restart made.
pub(crate) struct Restarted {
    pub(crate) queues: Vec<(DeviceQueue, DeviceLane)>,
    pub(crate) namespaces: Vec<Space>,
    pub(crate) lanes_free: u16,
}

/// What a namespace begins with.
#[derive(Debug)]
pub(crate) enum Head {
    Label(Box<Label>),
    Blank,
    /// Somebody's data: named.
    Holds(&'static str),
    /// A label of ours that cannot be used.
    Damaged(LabelError),
    /// It could not be read.
    Unreadable(String),
}

impl Idle for Warden {
    const EVERY: Option<Duration> = Some(Duration::from_millis(100));

    fn idle(&mut self, poster: &Poster) {
        let Some(machine) = self.machine.as_mut().filter(|_| !self.told_gone) else { return };
        let name = self.name.clone();
        if let Some((why, works)) = machine.leaving() {
            self.told_gone = true;
            if !works {
                machine.mark_gone();
            }
            return poster.post(move |control| control.device_leaving(&name, why, works));
        }
        // An error changes the controller's state, which the look above takes up next time.
        for event in machine.poll_events().unwrap_or_default() {
            let name = name.clone();
            poster.post(move |control| control.device_event(&name, &event));
        }
    }
}

impl Warden {
    pub(crate) fn new(name: String, poster: Poster, interrupt: Interrupt, service: Duration) -> Self {
        Self { name, poster, machine: None, domain: None, interrupt, service, told_gone: false }
    }

    /// Opens the function, starts the controller, makes a queue for up to `sidecores` sidecores and reads the labels.
    pub(crate) fn bring_up(&mut self, open: Opener, sidecores: usize) -> Result<BroughtUp, String> {
        let machine = match open().map_err(|error| error.to_string())? {
            Opened::Function { function, claimed_from } => self.start(function, claimed_from, sidecores)?,
            Opened::Local(device) => Machine::Local(device),
        };
        let domain = machine.domain();
        self.domain = Some(domain.clone());
        self.machine = Some(machine);
        let made = self.make_queues(sidecores).and_then(|mut made| {
            let Some((mut queue, lane)) = made.queues.pop() else { return Err(self.no_queues()) };
            let (lane, heads) = read_heads(&mut queue, lane, &domain, &made.namespaces)?;
            made.queues.push((queue, lane));
            Ok((made, heads))
        });
        match (made, &self.machine) {
            (Ok((made, heads)), Some(machine)) => Ok(BroughtUp {
                queues: made.queues,
                namespaces: made.namespaces.into_iter().zip(heads).collect(),
                skipped: machine.skipped().to_vec(),
                domain,
                class: machine.class(),
                info: machine.info(),
                lanes_free: made.lanes_free,
            }),
            (made, _) => {
                // Nobody is to find a function that is of no use held by us.
                self.close();
                Err(made.err().unwrap_or_else(|| self.no_queues()))
            }
        }
    }

    /// Starts the controller of a function that was opened.
    fn start(
        &self,
        function: Box<dyn Function>,
        claimed_from: Option<Option<String>>,
        sidecores: usize,
    ) -> Result<Machine, String> {
        if let Some(driver) = claimed_from {
            let address = self.name.clone();
            self.poster.post(move |control| control.claimed(address, driver));
        }
        let options =
            Options { vectors: u16::try_from(sidecores + 1).unwrap_or(u16::MAX), ..Options::default() };
        let clock = Box::new(SystemClock::new());
        let controller = Controller::start(function, options, clock).map_err(|error| error.to_string())?;
        Ok(controller.into())
    }

    /// Starts a controller again that was halted, and makes its queues anew.
    pub(crate) fn restart(&mut self, sidecores: usize) -> Result<Restarted, String> {
        self.interrupt.clear();
        self.with_machine(Machine::restart).map_err(|error| error.to_string())?;
        self.make_queues(sidecores)
    }

    fn make_queues(&mut self, sidecores: usize) -> Result<Restarted, String> {
        let Some(machine) = &mut self.machine else { return Err(format!("{} is closed", self.name)) };
        let count = sidecores.min(machine.queues_max());
        let mut queues = Vec::new();
        for index in 0..count {
            let made = machine.create_queue(index, QUEUE_DEPTH, LANE_DEPTH);
            queues.push(made.map_err(|error| error.to_string())?);
        }
        let (namespaces, lanes_free) = (machine.spaces(), machine.lanes_free());
        if queues.is_empty() {
            return Err(self.no_queues());
        }
        Ok(Restarted { queues, namespaces, lanes_free })
    }

    fn no_queues(&self) -> String {
        format!("{} grants no I/O queues; power-cycle it", self.name)
    }

    /// A submission queue for one more channel.
    pub(crate) fn create_lane(&mut self, queue: QueueId) -> Result<DeviceLane, String> {
        self.with_machine(|machine| machine.create_lane(queue, LANE_DEPTH)).map_err(|error| error.to_string())
    }

    /// Deletes a submission queue: when this returns well, its commands have ended for certain.
    pub(crate) fn delete_lane(&mut self, lane: LaneId) -> Result<(), String> {
        if self.machine.is_none() {
            // It was given up, which was the barrier for all of them.
            return Ok(());
        }
        self.with_machine(|machine| machine.delete_lane(lane)).map_err(|error| error.to_string())
    }

    /// Asks the controller to end commands early. Whether it does is up to it.
    pub(crate) fn abort(&mut self, ids: &[(u16, u16)]) {
        for &(queue, command) in ids {
            // An abort that fails changes nothing; deleting the queue comes next.
            let _ = self.with_machine(|machine| machine.abort(LaneId(queue), command));
        }
    }

    /// Stops the controller for certain: by disabling it, by resetting the function, else by giving the function up, which
    /// cuts it off from the bus. Afterwards nothing is at work any more.
    pub(crate) fn stop(&mut self) {
        if let Err(error) = self.with_machine(Machine::halt)
            && self.machine.take().is_some()
        {
            tracing::warn!(device = self.name, %error, "the controller cannot be stopped; its function is given up");
        }
    }

    /// Shuts the controller down and gives the function up.
    pub(crate) fn close(&mut self) {
        if let Some(mut machine) = self.machine.take()
            && let Err(error) = machine.shutdown()
        {
            tracing::warn!(device = self.name, %error, "the controller did not shut down in order");
        }
        self.domain = None;
    }

    /// Memory of our own in the device's address space; `None` for no bytes.
    pub(crate) fn allocate(&self, size_bytes: usize) -> Result<Option<DmaBuffer>, String> {
        if size_bytes == 0 {
            return Ok(None);
        }
        let domain = self.domain.as_ref().ok_or_else(|| format!("{} is not ours any more", self.name))?;
        domain.allocate(size_bytes).map(Some).map_err(|error| error.to_string())
    }

    /// Writes one copy of a label and makes it durable.
    pub(crate) fn write_label(
        &mut self,
        namespace: u32,
        limits: &Limits,
        label: &Label,
    ) -> Result<(), String> {
        let bytes = label.encode().map_err(|error| error.to_string())?;
        self.write_bytes(namespace, limits, label.offset_bytes() as u64, &bytes)?;
        self.commands().flush(namespace)
    }

    /// Makes both label areas of a namespace blank and writes a first label.
    pub(crate) fn format(&mut self, namespace: u32, limits: &Limits, label: &Label) -> Result<(), String> {
        let blank = vec![0; COPY_BYTES];
        self.write_bytes(namespace, limits, 0, &blank)?;
        self.write_bytes(namespace, limits, COPY_BYTES as u64, &blank)?;
        self.write_label(namespace, limits, label)
    }

    /// Makes blocks read as zeroes, for certain (C3): by Write Zeroes where the device has it, else by writing them. Not by
    /// deallocating, whatever deallocated blocks read as: that is a hint, which a controller may leave be (NVMe 2.0c NVM 3.2.3).
    pub(crate) fn scrub(
        &mut self,
        namespace: u32,
        limits: &Limits,
        extents: &[Extent],
    ) -> Result<(), String> {
        let (operation, step) = if limits.write_zeroes_blocks_max > 0 {
            (Operation::WriteZeroes { deallocate: true }, limits.write_zeroes_blocks_max)
        } else {
            (Operation::Write, limits.transfer_bytes_max / limits.block_bytes)
        };
        // A command over terabytes would hold the lane for minutes: give the device pieces.
        let step = step.min(SCRUB_BLOCKS_MAX_BYTES / limits.block_bytes).max(1);
        let mut commands = self.commands();
        let mut spare: Vec<DmaBuffer> = Vec::new();
        let mut under_way = 0;
        for extent in extents {
            let (mut lba, mut left) = (extent.start, extent.blocks);
            while left > 0 {
                if under_way == SCRUB_WINDOW {
                    spare.extend(commands.served()?);
                    under_way -= 1;
                }
                let blocks = u32::try_from(left).unwrap_or(u32::MAX).min(step);
                let blocks = within_boundary(limits, lba, blocks, operation);
                let data_bytes = if operation == Operation::Write { blocks * limits.block_bytes } else { 0 };
                let buffer = match (operation, spare.pop()) {
                    (Operation::Write, None) => self.allocate((step * limits.block_bytes) as usize)?,
                    (_, spare) => spare,
                };
                commands.serve(Command { operation, namespace, lba, blocks }, buffer, data_bytes);
                under_way += 1;
                lba += u64::from(blocks);
                left -= u64::from(blocks);
            }
        }
        for _ in 0..under_way {
            commands.served()?;
        }
        commands.flush(namespace)
    }

    /// Reads runs of blocks, one after the other.
    pub(crate) fn copy_out(
        &mut self,
        namespace: u32,
        limits: &Limits,
        runs: &[Extent],
    ) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        for run in runs {
            let mut commands = self.commands();
            let (mut lba, mut left) = (run.start, run.blocks);
            while left > 0 {
                let most = u32::try_from(left)
                    .unwrap_or(u32::MAX)
                    .min(limits.transfer_bytes_max / limits.block_bytes);
                let blocks = within_boundary(limits, lba, most.max(1), Operation::Read);
                let data_bytes = blocks * limits.block_bytes;
                let buffer = self.allocate(data_bytes as usize)?;
                commands.serve(
                    Command { operation: Operation::Read, namespace, lba, blocks },
                    buffer,
                    data_bytes,
                );
                let read = commands.served()?.ok_or("a read gave its buffer to nobody")?;
                let from = bytes.len();
                bytes.resize(from + data_bytes as usize, 0);
                read.read(0, bytes.get_mut(from..).unwrap_or_default());
                lba += u64::from(blocks);
                left -= u64::from(blocks);
            }
        }
        Ok(bytes)
    }

    /// Writes runs of blocks, one after the other.
    pub(crate) fn copy_in(
        &mut self,
        namespace: u32,
        limits: &Limits,
        runs: &[Extent],
        mut bytes: &[u8],
    ) -> Result<(), String> {
        let block = u64::from(limits.block_bytes);
        for run in runs {
            let length = usize::try_from(run.blocks * block).unwrap_or(usize::MAX);
            let (now, later) =
                bytes.split_at_checked(length).ok_or("there is less to write than was asked for")?;
            self.write_bytes(namespace, limits, run.start * block, now)?;
            bytes = later;
        }
        Ok(())
    }

    /// Makes what was written durable.
    pub(crate) fn flush(&mut self, namespace: u32) -> Result<(), String> {
        self.commands().flush(namespace)
    }

    fn write_bytes(
        &mut self,
        namespace: u32,
        limits: &Limits,
        at_bytes: u64,
        bytes: &[u8],
    ) -> Result<(), String> {
        let mut commands = self.commands();
        let block = u64::from(limits.block_bytes);
        let step = limits.transfer_bytes_max as usize;
        let mut at = at_bytes / block;
        let mut rest = bytes;
        while !rest.is_empty() {
            let blocks = u32::try_from(rest.len().min(step) as u64 / block).unwrap_or(1).max(1);
            let blocks = within_boundary(limits, at, blocks, Operation::Write);
            let (now, later) = rest.split_at((blocks as usize * limits.block_bytes as usize).min(rest.len()));
            let mut whole = vec![0; blocks as usize * limits.block_bytes as usize];
            whole[..now.len()].copy_from_slice(now);
            let mut buffer = self.allocate(whole.len())?;
            if let Some(buffer) = &mut buffer {
                buffer.write(0, &whole);
            }
            let data_bytes = blocks * limits.block_bytes;
            let command = Command { operation: Operation::Write, namespace, lba: at, blocks };
            commands.serve(command, buffer, data_bytes);
            commands.served()?;
            at += u64::from(blocks);
            rest = later;
        }
        Ok(())
    }

    /// Has a measurement taken of the device.
    pub(crate) fn probe(&mut self, probe: Box<Probe>) -> Result<Measured, String> {
        self.commands().probe(probe)
    }

    /// Commands of our own, for one operation. What is not over when it gives up is never taken for an answer to another's.
    fn commands(&self) -> Commands {
        let (answer_to, answers) = mpsc::channel();
        let notices = self.machine.as_ref().and_then(Machine::notices);
        Commands {
            // Without the descriptor, only the deadline ends the wait.
            error: notices.and_then(|notices| notices.error?.try_clone_to_owned().ok()),
            name: self.name.clone(),
            poster: self.poster.clone(),
            interrupt: self.interrupt.clone(),
            service: self.service,
            answers,
            answer_to,
        }
    }

    fn with_machine<T>(
        &mut self,
        call: impl FnOnce(&mut Machine) -> Result<T, NvmeError>,
    ) -> Result<T, NvmeError> {
        match &mut self.machine {
            Some(machine) => call(machine),
            None => Err(NvmeError::Stopped { controller: self.name.clone() }),
        }
    }
}

/// See [`Warden::commands`].
struct Commands {
    /// Readable when the function has left the bus, or reported a fatal error on it.
    error: Option<OwnedFd>,
    name: String,
    poster: Poster,
    interrupt: Interrupt,
    service: Duration,
    answers: Receiver<Option<DeviceAnswer>>,
    answer_to: Sender<Option<DeviceAnswer>>,
}

impl Commands {
    fn flush(&mut self, namespace: u32) -> Result<(), String> {
        self.serve(Command { operation: Operation::Flush, namespace, lba: 0, blocks: 0 }, None, 0);
        self.served().map(drop)
    }

    /// Has the sidecore carry a command; the answer comes by [`Self::served`].
    fn serve(&self, command: Command, buffer: Option<DmaBuffer>, data_bytes: u32) {
        let (name, answer_to) = (self.name.clone(), self.answer_to.clone());
        self.poster.post(move |control| control.serve(&name, command, buffer, data_bytes, answer_to));
    }

    /// Waits for one command, and gives its buffer back.
    fn served(&mut self) -> Result<Option<DmaBuffer>, String> {
        match self.answer(Duration::ZERO)? {
            Answer::Served { status: Status::Success, buffer } => Ok(buffer),
            Answer::Served { status, .. } => Err(format!("{} answered {status:?}", self.name)),
            other => Err(self.unwanted(&other)),
        }
    }

    /// Has a sidecore take a measurement, and waits for what comes out.
    fn probe(&mut self, probe: Box<Probe>) -> Result<Measured, String> {
        let lasts = Duration::from_nanos(probe.duration_ns);
        let (name, answer_to) = (self.name.clone(), self.answer_to.clone());
        self.poster.post(move |control| control.serve_probe(&name, probe, answer_to));
        match self.answer(lasts)? {
            Answer::Probed { result, .. } => result.map_err(|error| format!("{}: {error}", self.name)),
            other => Err(self.unwanted(&other)),
        }
    }

    fn unwanted(&self, answer: &DeviceAnswer) -> String {
        match answer {
            Answer::Refused { why, .. } => format!("{}: {why}", self.name),
            _ => format!("{}: its sidecore gave an answer to something else", self.name),
        }
    }

    /// Waits for the answer to something that lasts so long by itself. A device that keeps a command for longer beyond that is
    /// reset: nothing milder ends a command on a lane that channels may share.
    fn answer(&mut self, lasts: Duration) -> Result<DeviceAnswer, String> {
        let begun = Instant::now();
        loop {
            if self.interrupt.is_raised() {
                return Err(format!("{} was stopped meanwhile", self.name));
            }
            if is_raised(self.error.as_ref().map(OwnedFd::as_fd)) {
                return Err(format!("{} left meanwhile", self.name));
            }
            if begun.elapsed() > self.service + lasts {
                let name = self.name.clone();
                let why = format!("a command of our own did not end within {:?}", self.service);
                let said = format!("{name}: {why}");
                self.poster.post(move |control| control.reset_device(&name, &why));
                return Err(said);
            }
            match self.answers.recv_timeout(LOOK_EVERY) {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => return Err(format!("{} is not served", self.name)),
                // We hold a sender ourselves, so this is that nothing has come yet.
                Err(_) => {}
            }
        }
    }
}

/// Commands in flight over all lanes of a sidecore's queue.
const QUEUE_DEPTH: u16 = 4095;
/// Commands that a channel, or our own service, can have at the device.
pub(crate) const LANE_DEPTH: u16 = 128;
/// Most bytes that one scrub command covers.
const SCRUB_BLOCKS_MAX_BYTES: u32 = 64 << 20;

/// Reads and writes do not cross a device's boundary; other commands may.
fn within_boundary(limits: &Limits, lba: u64, blocks: u32, operation: Operation) -> u32 {
    match u64::from(limits.boundary_blocks) {
        0 => blocks,
        _ if !operation.moves_data() => blocks,
        boundary => u32::try_from(boundary - lba % boundary).unwrap_or(u32::MAX).min(blocks),
    }
}

/// Reads what each namespace begins with, before the queue goes to its sidecore.
fn read_heads(
    queue: &mut DeviceQueue,
    lane: DeviceLane,
    domain: &Arc<DmaDomain>,
    namespaces: &[Space],
) -> Result<(DeviceLane, Vec<Head>), String> {
    let lane = queue.attach(lane);
    let heads = namespaces
        .iter()
        .map(|namespace| match read_head(queue, lane, domain, namespace) {
            Ok(bytes) => match Label::decode(&bytes) {
                Ok(label)
                    if label.block_bytes != namespace.limits.block_bytes
                        || label.blocks != namespace.limits.blocks =>
                {
                    Head::Damaged(LabelError::Damaged(
                        "it describes a namespace of another size or format".to_owned(),
                    ))
                }
                Ok(label) => Head::Label(Box::new(label)),
                Err(LabelError::None) => signature::found(&bytes).map_or(Head::Blank, Head::Holds),
                Err(error) => Head::Damaged(error),
            },
            Err(error) => Head::Unreadable(error),
        })
        .collect();
    let lane = queue.detach(lane).ok_or("the controller did not end a read of the label; reset it")?;
    Ok((lane, heads))
}

fn read_head(
    queue: &mut DeviceQueue,
    lane: LaneId,
    domain: &Arc<DmaDomain>,
    namespace: &Space,
) -> Result<Vec<u8>, String> {
    let limits = namespace.limits;
    let blocks = (signature::PROBED_BYTES as u64 / u64::from(limits.block_bytes)).min(limits.blocks);
    let blocks = u32::try_from(blocks).unwrap_or(u32::MAX);
    let length = blocks as usize * limits.block_bytes as usize;
    let buffer = domain.allocate(length).map_err(|error| error.to_string())?;
    let clock = SystemClock::new();
    let mut io = BlockIo::new(queue, lane, namespace.id, limits, &clock, BRING_UP_TIMEOUT);
    io.read(0, blocks, &buffer, 0).map_err(|error| error.to_string())?;
    let mut bytes = vec![0; length];
    buffer.read(0, &mut bytes);
    Ok(bytes)
}
