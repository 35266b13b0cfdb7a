//! The control thread: everything that decides, on one thread, in one loop.
//!
//! ```text
//!   control socket ─► Server ──► service ──► operations ─┬─► sidecores   orders ─► answers ─┐
//!   vhost-user sockets ────────► attachment ─────────────┼─► wardens     jobs ───► results ─┤
//!   sidecores' reports ────────► quarantine …            └─► pinner      jobs ───► results ─┤
//!   timers: deadlines, knocking                          └─► policies    jobs ───► results ─┤
//!                                                        ◄── continuations ◄────────────────┘
//! ```
//!
//! The loop never blocks but in its poll. What can take long is a job of a worker thread, or an order to a sidecore;
//! either way the rest of the operation is a closure that runs here when the answer has come. So every piece of state has
//! one owner, no lock is needed, and a flow of many steps is read from top to bottom. What an operation does to labels and
//! to the journal is no such flow but a [`crate::procedure`], so that the model checker explores the very order that runs here.

mod admission;
mod attachment;
mod balance;
mod calibrate;
mod channel;
mod create;
mod destroy;
mod device;
mod discovery;
mod drain;
mod explain;
mod gate;
mod grants;
mod job;
mod lines;
mod machine;
mod operations;
mod pinner;
mod plugins;
mod policy;
mod procedure;
mod question;
mod queue;
mod record;
mod relocate;
mod resize;
mod restore;
mod rings;
mod seat;
mod service;
mod set;
mod shift;
mod sidecores;
mod telemetry;
mod tenant;
#[cfg(test)]
mod tests;
mod tokens;
mod tune;
mod view;
mod warden;
mod watch;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use vfiomux_hw::PciAddress;
use vfiomux_hw::inventory::Sysfs;
use vfiomux_policy::{Chain, Policy};
use vfiomux_qos::Group;
use vfiomux_rpc::{BindError, Bounds, Event, EventKind, FunctionState, ObjectKind, RpcError, Server};
use vfiomux_sidecore::{Report, SidecoreError};

use self::balance::Balance;
use self::channel::Channel;
use self::device::Device;
use self::explain::{Looks, Refusals};
use self::job::Jobs;
use self::lines::Line;
pub use self::machine::LocalDevice;
use self::pinner::Pinner;
use self::plugins::{Housing, Loaded, Starter};
use self::telemetry::Told;
use self::tokens::Tokens;
pub use self::warden::{Opened, Opener};
use self::worker::{Continuation, Poster, Worker};
use crate::admission::Book;
use crate::audit::Audit;
use crate::config::Config;
use crate::event::{EventLog, event};
use crate::journal::{Journal, JournalError, Record};

/// Token of the waker.
const WAKER: Token = Token(0);
/// Tokens of the sidecores begin here.
const LINES: usize = 1;
/// Tokens of the control socket begin here.
const RPC: usize = 10_000;
/// Tokens of endpoints begin here.
const ENDPOINTS: usize = 1_000_000;
/// Event numbers that one record of the journal reserves.
const EVENTS_RESERVED: u64 = 100_000;
/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(100);
/// How long the end may take before what is left is left to the kernel.
const END_WITHIN: Duration = Duration::from_secs(20);

/// A function that the daemon is to own from its start.
pub struct StartDevice {
    /// What it is called: its PCI address, or a name of our own.
    pub name: String,
    /// Its PCI address, when it has one.
    pub address: Option<PciAddress>,
    /// How it is opened.
    pub open: Opener,
    /// Write a label where there is nothing at all. For devices that were made a moment ago.
    pub format_if_blank: bool,
}

/// What the control thread is made of.
pub struct Setup {
    /// The configuration, flags merged in.
    pub config: Config,
    /// Devices to own from the start.
    pub devices: Vec<StartDevice>,
    /// How a function of the host is taken from its driver and opened: for `device.claim`.
    pub pci_opener: Box<dyn Fn(PciAddress) -> Opener>,
    /// Where the host's functions are found.
    pub sysfs: Sysfs,
    /// Policies beside the built-in one, asked in this order.
    pub policies: Vec<Box<dyn Policy>>,
    /// How long commands may take that somebody waits for.
    pub deadlines: Deadlines,
    /// Called once, when every device has settled and every channel is back, with name, state and reason of each device.
    pub announce: Announce,
}

/// How long a device may take with commands that somebody waits for, before harder means end them (V1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// To end a channel's commands by itself, before they are aborted.
    pub drain: Duration,
    /// To follow each means, abort and deleting the submission queue, before the next is taken.
    pub step: Duration,
    /// To carry out one command of our own (label, scrub), before the controller is reset.
    pub service: Duration,
    /// To end a channel's commands when it is to go to another sidecore, before it stays where it is.
    pub shift: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            drain: Duration::from_secs(5),
            step: Duration::from_secs(3),
            service: Duration::from_secs(60),
            shift: Duration::from_millis(500),
        }
    }
}

/// See [`Setup::announce`].
pub type Announce = Box<dyn FnOnce(Vec<(String, FunctionState, Option<String>)>)>;

/// Why the control thread cannot start. The message is what an operator reads.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The control socket.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The audit.
    #[error("{}: {source}; the state directory must be writable and have space", path.display())]
    Audit {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A sidecore.
    #[error(transparent)]
    Sidecore(#[from] SidecoreError),
    /// Descriptors or threads.
    #[error("cannot start: {0}; raise the limits of open files and threads (LimitNOFILE, TasksMax)")]
    Io(#[from] io::Error),
    /// A device.
    #[error("{}", .0.message)]
    Device(RpcError),
}

/// The control thread's state.
pub struct Control {
    poll: Poll,
    poster: Poster,
    continuations: Receiver<Continuation>,
    rpc: Server,
    config: Config,
    journal: Journal,
    audit: Audit,
    events: EventLog,
    policies: Worker<Chain>,
    starter: Worker<Starter>,
    plugins: BTreeMap<String, Loaded>,
    housing: Housing,
    /// Policies of this process stand beside the built-in one.
    has_own_policies: bool,
    /// Functions that policies were asked about when they were found, and why some of them are never claimed.
    discovered: BTreeSet<String>,
    barred: BTreeMap<String, String>,
    /// Devices named at the start that policies are being asked about.
    opening: u32,
    /// What policies were told last.
    told: Told,
    sysfs: Sysfs,
    pci_opener: Box<dyn Fn(PciAddress) -> Opener>,
    deadlines: Deadlines,
    lines: Vec<Line>,
    pinner: Worker<Pinner>,
    devices: BTreeMap<String, Device>,
    channels: BTreeMap<String, Channel>,
    tokens: Tokens,
    jobs: Jobs,
    /// What each device can be promised, and who has it.
    books: BTreeMap<String, Book>,
    /// What tenants' channels are held to together, by the tenant's name.
    groups: BTreeMap<String, Arc<Group>>,
    refusals: Refusals,
    looks: Looks,
    awaiting_device: BTreeMap<String, Vec<DeviceWaiter>>,
    /// Places on sidecores that were chosen and not taken yet.
    reserved: BTreeSet<(usize, u16)>,
    next_incarnation: u32,
    balance: Balance,
    session_serial: u64,
    started: Instant,
    /// Time since the start, read once a round.
    now_ns: u64,
    restoring: u32,
    ready: bool,
    announce: Option<Announce>,
    ending: Option<Instant>,
    /// The devices were halted for the end's sake.
    forced: bool,
    ended: bool,
}

type DeviceWaiter = Box<dyn FnOnce(&mut Control, Result<(), RpcError>)>;

/// Ends the control thread from outside: a signal handler's half.
#[derive(Clone)]
pub struct Stop(Poster);

impl Stop {
    /// Has the daemon end in order.
    pub fn stop(&self) {
        self.0.post(Control::begin_end);
    }
}

impl Control {
    /// Makes everything that serves, and begins to take up devices.
    pub fn new(setup: Setup) -> Result<Self, StartError> {
        let Setup { config, devices, pci_opener, sysfs, policies, deadlines, announce } = setup;
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let (sender, continuations) = mpsc::channel();
        let poster = Poster::new(sender, waker);
        let journal = Journal::open(&config.state_dir)?;
        let audit = Audit::open(&config.state_dir)
            .map_err(|source| StartError::Audit { path: config.state_dir.join("audit"), source })?;
        let rpc = Server::bind(
            &config.control,
            poll.registry().try_clone()?,
            RPC,
            config.roles.clone(),
            Bounds::default(),
        )?;
        let lines = sidecores::start(&config)?;
        for (index, line) in lines.iter().enumerate() {
            let fd = line.handle.report_fd().as_raw_fd();
            poll.registry().register(&mut SourceFd(&fd), Token(LINES + index), Interest::READABLE)?;
        }
        let pinner = Worker::start("pinner", poster.clone(), Pinner::new)?;
        let events = EventLog::new(journal.settings().last_event_seq + 1);
        let has_own_policies = !policies.is_empty();
        let (plugins, housing) = (plugins::at_start(&config, &journal), Housing::new(&config));
        let (to_load, home): (Vec<_>, _) =
            (plugins.values().map(|plugin| plugin.setting.clone()).collect(), housing.clone());
        // Every question comes after this: nothing new comes to be that a plugin was not asked about.
        let policies = Worker::start("policy", poster.clone(), move || {
            let mut chain = Chain::default();
            policies.into_iter().for_each(|policy| chain.push(policy));
            to_load.iter().for_each(|plugin| home.load(&mut chain, plugin));
            chain
        })?;
        let starter = Worker::start("plugin-starter", poster.clone(), || Starter)?;
        let balance = Balance::new(&config.sidecores.balance);
        let jobs = Jobs::interrupted(journal.settings());
        let mut control = Self {
            poll,
            poster,
            continuations,
            rpc,
            config,
            journal,
            audit,
            events,
            policies,
            starter,
            plugins,
            housing,
            has_own_policies,
            discovered: BTreeSet::new(),
            barred: BTreeMap::new(),
            opening: 0,
            told: Told::default(),
            sysfs,
            pci_opener,
            deadlines,
            lines,
            pinner,
            devices: BTreeMap::new(),
            channels: BTreeMap::new(),
            tokens: Tokens::new(ENDPOINTS),
            jobs,
            books: BTreeMap::new(),
            groups: BTreeMap::new(),
            refusals: Refusals::default(),
            looks: Looks::default(),
            awaiting_device: BTreeMap::new(),
            reserved: BTreeSet::new(),
            next_incarnation: 0,
            balance,
            session_serial: 0,
            started: Instant::now(),
            now_ns: 0,
            restoring: 0,
            ready: false,
            announce: Some(announce),
            ending: None,
            forced: false,
            ended: false,
        };
        let mut told = event(EventKind::Daemon, ObjectKind::Daemon, "vfiomuxd");
        told.to = Some("started".to_owned());
        control.tell(told);
        control.restore_jobs();
        control.restore_settings();
        control.open_start_devices(devices)?;
        control.check_ready();
        Ok(control)
    }

    /// Devices named at the start, and those that were claimed when the daemon last ended.
    fn open_start_devices(&mut self, devices: Vec<StartDevice>) -> Result<(), StartError> {
        let mut named: Vec<String> = Vec::new();
        for device in devices {
            named.push(device.name.clone());
            self.open_start_device(device).map_err(StartError::Device)?;
        }
        let claimed: Vec<PciAddress> =
            self.journal.settings().claims.keys().filter_map(|name| name.parse().ok()).collect();
        for address in claimed {
            let name = address.to_string();
            if !named.contains(&name) {
                let open = (self.pci_opener)(address);
                let device = StartDevice { name, address: Some(address), open, format_if_blank: false };
                self.open_start_device(device).map_err(StartError::Device)?;
            }
        }
        self.discover();
        Ok(())
    }

    /// How another thread ends this one.
    #[must_use]
    pub fn stopper(&self) -> Stop {
        Stop(self.poster.clone())
    }

    /// Serves until it is stopped.
    pub fn run(mut self) -> io::Result<()> {
        let mut ready = Events::with_capacity(1024);
        let mut next_tick = Instant::now();
        while !self.ended {
            let wait = if self.rpc.is_busy() {
                Duration::ZERO
            } else {
                next_tick.saturating_duration_since(Instant::now())
            };
            match self.poll.poll(&mut ready, Some(wait)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            self.now_ns = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
            for event in &ready {
                self.dispatch(event);
            }
            while let Some(request) = self.rpc.next_request() {
                self.take_request(request);
                self.record_answers();
            }
            while self.rpc.next_closed().is_some() {}
            while let Ok(next) = self.continuations.try_recv() {
                next(&mut self);
            }
            self.end_jobs();
            self.note_refusals();
            self.record_answers();
            for line in &mut self.lines {
                line.flush();
            }
            if Instant::now() >= next_tick {
                next_tick = Instant::now() + TICK;
                self.tick();
            }
        }
        Ok(())
    }

    fn dispatch(&mut self, event: &mio::event::Event) {
        let token = event.token();
        if self.rpc.owns(token) {
            self.rpc.ready(event);
        } else if token.0 >= ENDPOINTS {
            if let Some(id) = self.tokens.owner(token) {
                self.endpoint_ready(&id, token);
            }
        } else if token != WAKER {
            self.take_reports(token.0 - LINES);
        }
    }

    fn take_reports(&mut self, index: usize) {
        while let Some(report) = self.lines.get(index).and_then(|line| line.handle.try_recv()) {
            match report {
                Report::Answer { ticket, answer } => {
                    if let Some(next) = self.lines.get_mut(index).and_then(|line| line.take(ticket)) {
                        next(self, answer);
                    }
                }
                Report::Quarantined { channel, fault } => {
                    if let Some(id) = self.channel_seated(index, channel) {
                        self.quarantine(&id, &fault.to_string());
                    }
                }
                Report::DeviceGone { device } => {
                    let name = self
                        .devices
                        .values()
                        .find(|known| known.slot == device)
                        .map(|known| known.name.clone());
                    if let Some(name) = name {
                        self.device_leaving(&name, "it answers no more", false);
                    }
                }
            }
        }
    }

    fn tick(&mut self) {
        self.check_deadlines();
        self.check_shifts();
        self.watch_breaths();
        self.knock();
        for line in &mut self.lines {
            line.look(self.now_ns);
        }
        self.balance();
        self.look_at_counters();
        self.tell_policies();
        let ending_for = self.ending.map_or(Duration::ZERO, |begun| begun.elapsed());
        if ending_for > END_WITHIN / 2 && !self.forced {
            // Commands that do not end hold the end up.
            self.forced = true;
            for name in self.devices.keys().cloned().collect::<Vec<_>>() {
                self.halt_device(&name, |_| {});
            }
        }
        if ending_for > END_WITHIN {
            tracing::warn!("not everything could be ended in order in time");
            self.ended = true;
        }
    }

    /// Ends in order: sessions, channels, devices. Channels and their settings stay, for the next start.
    fn begin_end(&mut self) {
        if self.ending.is_some() {
            return;
        }
        self.ending = Some(Instant::now());
        let mut told = event(EventKind::Daemon, ObjectKind::Daemon, "vfiomuxd");
        told.to = Some("ending".to_owned());
        self.tell(told);
        let names: Vec<String> = self.devices.keys().cloned().collect();
        self.end_devices(names);
    }

    fn end_devices(&mut self, mut left: Vec<String>) {
        let Some(name) = left.pop() else {
            for line in &mut self.lines {
                line.end();
            }
            self.ended = true;
            return;
        };
        self.unseat_all(&name.clone(), "the daemon is ending", move |control| {
            control.close_device(&name, move |control| control.end_devices(left));
        });
    }

    /// Records an event, and tells whoever follows.
    fn tell(&mut self, mut event: Event) {
        event.tenant = event.tenant.take().or_else(|| self.owner_of(&event.object));
        // Numbers are reserved ahead, many at a time, so that a restart never gives one out again.
        if self.events.next_seq() > self.journal.settings().last_event_seq {
            let last_seq = self.events.next_seq() + EVENTS_RESERVED;
            if let Err(error) = self.journal.append(&Record::EventsReserved { last_seq }) {
                tracing::error!(%error, "event numbers could not be reserved");
            }
        }
        let recorded = self.events.record(event);
        tracing::info!(
            seq = recorded.seq,
            kind = ?recorded.kind,
            object = recorded.object.name,
            from = recorded.from,
            to = recorded.to,
            reason = recorded.reason,
        );
        self.rpc.publish(&recorded);
    }

    /// Journals what has to go on even if it cannot be journalled: a fault must not be masked by a full disk.
    fn journal_append(&mut self, record: &Record) {
        if let Err(error) = self.journal.append(record) {
            let mut fault = event(EventKind::Fault, ObjectKind::Daemon, "vfiomuxd");
            fault.reason = Some(error.to_string());
            self.tell(fault);
        }
    }

    /// A deadline this far from now, on the control thread's clock.
    fn after(&self, left: Duration) -> u64 {
        self.now_ns.saturating_add(u64::try_from(left.as_nanos()).unwrap_or(u64::MAX))
    }

    fn name_of(&self, id: &str) -> String {
        self.channels.get(id).map_or_else(|| id.to_owned(), |channel| channel.setting.name.clone())
    }

    fn free_bytes(&self, device: &str) -> u64 {
        self.devices.get(device).map_or(0, |device| device.free_bytes(None))
    }
}

/// A name that nothing else has or will have: a random UUID (RFC 9562 5.4).
fn new_id() -> String {
    let mut bytes = [0u8; 16];
    // Never interrupted or short for 16 bytes, once the kernel's pool is initialised.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
