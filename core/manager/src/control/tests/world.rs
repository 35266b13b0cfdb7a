//! A control thread, the devices under it, and what a test asks of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::config::{Balance, Config, SidecoreCpu};
use crate::control::{Control, Deadlines, Opened, Setup, StartDevice, Stop};
use crate::extent::Extent;
use crate::journal::Journal;
use crate::label::{DATA_START_BYTES, Label};
use crate::lifecycle::Oper;
use crate::monitor::Monitor;
use crate::seeded::Bug;
use tempfile::TempDir;
use vfiomux_hw::PciAddress;
use vfiomux_hw::inventory::Sysfs;
use vfiomux_policy::Policy;
use vfiomux_rpc::{
    Change, ChannelInfo, Client, ClientError, DeviceInfo, Endpoint, EndpointMode, ErrorCode, Event, RpcError,
    call,
};
use vfiomux_sim::{DeviceSpec, SimNvme, SimThread};

/// The longest that anything may take, on a machine that does other things too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);
pub(crate) const MIB: u64 = 1 << 20;

/// What ends by itself is left to, however slow the machine is.
const PATIENT: Deadlines =
    Deadlines { drain: PATIENCE, step: PATIENCE, service: Duration::from_secs(60), shift: PATIENCE };

/// For what is stuck, so that it is freed within a test's time: by aborting it, which is waited for.
pub(crate) const IMPATIENT: Deadlines = Deadlines {
    drain: Duration::from_millis(200),
    step: PATIENCE,
    service: Duration::from_millis(1500),
    shift: Duration::from_millis(200),
};

/// For what no abort ends: the next means is taken soon.
pub(crate) const RELENTLESS: Deadlines = Deadlines { step: Duration::from_millis(400), ..IMPATIENT };

/// A simulated device that a test keeps, and the thread that runs it.
pub(crate) struct Device {
    pub(crate) sim: SimNvme,
    _thread: SimThread,
}

impl Device {
    pub(crate) fn spec(text: &str) -> DeviceSpec {
        text.parse().unwrap()
    }

    pub(crate) fn made(name: &str, spec: DeviceSpec) -> Self {
        let sim = SimNvme::new(spec, name).unwrap();
        let thread = sim.run_on_thread().unwrap();
        Self { sim, _thread: thread }
    }

    /// A device like this one, with the same blocks.
    pub(crate) fn copy(&self, name: &str) -> Self {
        let mut spec = self.sim.spec().clone();
        spec.serial = None;
        let made = Self::made(name, spec);
        for nsid in 1..=self.sim.spec().namespaces {
            let bytes = self.sim.blocks(nsid).unwrap() * u64::from(self.sim.block_bytes(nsid).unwrap());
            let mut content = vec![0; usize::try_from(bytes).unwrap()];
            self.sim.read_blocks(nsid, 0, &mut content).unwrap();
            made.sim.write_blocks(nsid, 0, &content).unwrap();
        }
        made
    }

    /// The bytes of an extent of namespace 1.
    pub(crate) fn read(&self, extent: Extent) -> Vec<u8> {
        let block = u64::from(self.sim.block_bytes(1).unwrap());
        let mut content = vec![0; usize::try_from(extent.blocks * block).unwrap()];
        self.sim.read_blocks(1, extent.start, &mut content).unwrap();
        content
    }

    pub(crate) fn is_zero(&self, extent: Extent) -> bool {
        self.read(extent).iter().all(|&byte| byte == 0)
    }

    /// The label of namespace 1.
    pub(crate) fn label(&self) -> Label {
        let block = u64::from(self.sim.block_bytes(1).unwrap());
        Label::decode(&self.read(Extent { start: 0, blocks: DATA_START_BYTES / block })).unwrap()
    }

    /// How many mappings there are.
    pub(crate) fn mappings(&self) -> usize {
        self.sim.iommu().mappings().len()
    }
}

struct Daemon {
    stop: Stop,
    thread: JoinHandle<()>,
}

/// A control thread with its directory and its devices, `sim0`, `sim1`, ….
pub(crate) struct World {
    pub(crate) directory: TempDir,
    pub(crate) devices: Vec<Device>,
    pub(crate) format_if_blank: bool,
    pub(crate) cpus: Vec<u32>,
    pub(crate) balance: Balance,
    pub(crate) deadlines: Deadlines,
    /// Policies of the next daemon, beside the built-in one.
    pub(crate) policies: Mutex<Vec<Box<dyn Policy>>>,
    /// Functions of the host that are nobody's yet, by address.
    pub(crate) found: BTreeMap<PciAddress, SimNvme>,
    /// A bug that its daemons have.
    pub(crate) bug: Option<Bug>,
    daemon: Option<Daemon>,
}

impl World {
    /// A daemon on one device.
    pub(crate) fn new(spec: &str) -> Self {
        let mut world = Self::idle(&[spec]);
        world.start();
        world
    }

    /// A daemon on one device that is going to keep commands.
    pub(crate) fn with_deadlines(deadlines: Deadlines, spec: &str) -> Self {
        let mut world = Self::idle(&[spec]);
        world.deadlines = deadlines;
        world.start();
        world
    }

    /// Devices, and no daemon yet.
    pub(crate) fn idle(specs: &[&str]) -> Self {
        let devices = specs
            .iter()
            .enumerate()
            .map(|(index, spec)| Device::made(&format!("sim{index}"), Device::spec(spec)));
        Self::with_devices(devices.collect())
    }

    pub(crate) fn with_devices(devices: Vec<Device>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            directory,
            devices,
            format_if_blank: true,
            cpus: Vec::new(),
            // Channels stay where a test wants them.
            balance: Balance { enabled: false, ..Balance::default() },
            deadlines: PATIENT,
            policies: Mutex::default(),
            found: BTreeMap::new(),
            bug: None,
            daemon: None,
        }
    }

    /// What a crash at this moment would leave: the journal and the blocks, for another daemon.
    pub(crate) fn wreck(&self) -> Self {
        let devices =
            self.devices.iter().enumerate().map(|(index, device)| device.copy(&format!("sim{index}")));
        let wreck = Self::with_devices(devices.collect());
        std::fs::create_dir_all(wreck.state_dir()).unwrap();
        std::fs::copy(self.state_dir().join("journal"), wreck.state_dir().join("journal")).unwrap();
        wreck
    }

    /// Plugs a device into the host that no driver has: the next look at the host's list finds it there.
    pub(crate) fn plug(&mut self, address: &str, device: &Device) {
        let function = self.host().join("sys/bus/pci/devices").join(address);
        std::fs::create_dir_all(&function).unwrap();
        // Nothing is mounted, and nothing swapped to.
        std::fs::create_dir_all(self.host().join("proc/self")).unwrap();
        for file in ["proc/self/mountinfo", "proc/swaps"] {
            std::fs::write(self.host().join(file), "").unwrap();
        }
        // The class is read last, and with it the function is whole.
        for (file, number) in [("vendor", "0x1b36"), ("device", "0x0010"), ("class", "0x010802")] {
            std::fs::write(function.join(file), number).unwrap();
        }
        self.found.insert(address.parse().unwrap(), device.sim.clone());
    }

    /// Takes a function that was plugged in off the bus.
    pub(crate) fn unplug(&mut self, address: &str) {
        std::fs::remove_dir_all(self.host().join("sys/bus/pci/devices").join(address)).unwrap();
        self.found.remove(&address.parse().unwrap());
    }

    /// Under which the host's list of functions lies.
    fn host(&self) -> PathBuf {
        self.directory.path().join("host")
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    pub(crate) fn control(&self) -> PathBuf {
        self.directory.path().join("control")
    }

    /// Starts a daemon on all devices that are on the bus, and waits until it serves.
    pub(crate) fn start(&mut self) {
        let present = self.devices.iter().enumerate().filter(|(_, device)| device.sim.is_present());
        let devices: Vec<(String, SimNvme)> =
            present.map(|(index, device)| (format!("sim{index}"), device.sim.clone())).collect();
        self.start_on(devices);
    }

    /// Starts a daemon on some devices.
    pub(crate) fn start_on(&mut self, devices: Vec<(String, SimNvme)>) {
        assert!(self.daemon.is_none(), "the earlier daemon was stopped");
        let mut config = Config { state_dir: self.state_dir(), control: self.control(), ..Config::default() };
        config.sidecores.cpus = self.cpus.iter().map(|&cpu| SidecoreCpu { cpu, mode: None }).collect();
        config.sidecores.balance = self.balance.clone();
        let (format_if_blank, deadlines, bug) = (self.format_if_blank, self.deadlines, self.bug);
        let policies = std::mem::take(self.policies.get_mut().unwrap());
        let (found, sysfs) = (self.found.clone(), Sysfs::new(self.host()));
        let (say, hear) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            crate::seeded::turn_on(bug);
            let serving = say.clone();
            let devices = devices
                .into_iter()
                .map(|(name, sim)| StartDevice {
                    name,
                    address: None,
                    open: Box::new(move || {
                        Ok(Opened::Function { function: Box::new(sim.function()), claimed_from: None })
                    }),
                    format_if_blank,
                })
                .collect();
            let setup = Setup {
                config,
                devices,
                pci_opener: Box::new(move |address| {
                    let sim = found.get(&address).cloned();
                    Box::new(move || {
                        let sim = sim.expect("what is claimed was plugged in");
                        Ok(Opened::Function { function: Box::new(sim.function()), claimed_from: None })
                    })
                }),
                sysfs,
                policies,
                deadlines,
                announce: Box::new(move |_| serving.send(None).unwrap()),
            };
            let control = Control::new(setup).unwrap();
            say.send(Some(control.stopper())).unwrap();
            control.run().unwrap();
        });
        let (mut stop, mut serves) = (None, false);
        while stop.is_none() || !serves {
            match hear.recv_timeout(PATIENCE).expect("the daemon starts") {
                Some(stopper) => stop = Some(stopper),
                None => serves = true,
            }
        }
        self.daemon = stop.map(|stop| Daemon { stop, thread });
    }

    /// Ends the daemon in order.
    pub(crate) fn stop(&mut self) {
        if let Some(Daemon { stop, thread }) = self.daemon.take() {
            stop.stop();
            wait("the daemon has ended", || thread.is_finished().then_some(()));
            thread.join().unwrap();
        }
    }

    pub(crate) fn restart(&mut self) {
        self.stop();
        self.start();
    }

    /// Ends the daemon whatever its device does: as it is stuck, the device is pulled out first.
    pub(crate) fn pull_and_stop(mut self) {
        self.devices.iter().for_each(|device| device.sim.remove());
        self.stop();
    }

    pub(crate) fn sim(&self) -> &SimNvme {
        &self.devices[0].sim
    }

    pub(crate) fn client(&self) -> Client {
        let mut client = Client::connect(&self.control()).unwrap();
        client.set_timeout(Some(PATIENCE)).unwrap();
        client
    }

    pub(crate) fn call<C: vfiomux_rpc::Call>(&self, call: &C) -> Result<C::Output, RpcError> {
        self.call_with(call, &Change::default())
    }

    pub(crate) fn call_with<C: vfiomux_rpc::Call>(
        &self,
        call: &C,
        change: &Change,
    ) -> Result<C::Output, RpcError> {
        refusal(self.client().call_with(call, change))
    }

    pub(crate) fn endpoint(&self, name: &str) -> Endpoint {
        Endpoint { path: self.directory.path().join(format!("{name}.sock")), mode: EndpointMode::Server }
    }

    pub(crate) fn creation(&self, name: &str, mib: u64) -> call::ChannelCreate {
        call::ChannelCreate {
            name: name.to_owned(),
            device: "sim0".to_owned(),
            tenant: "acme".to_owned(),
            size_bytes: mib * MIB,
            queues: 2,
            endpoint: Some(self.endpoint(name)),
            namespace: None,
            block_bytes: None,
            read_only: false,
            guarantees: vfiomux_rpc::Guarantees::default(),
            labels: vfiomux_rpc::Labels::default(),
        }
    }

    /// Creates a channel with an endpoint.
    #[track_caller]
    pub(crate) fn create(&self, name: &str, mib: u64) -> ChannelInfo {
        self.call(&self.creation(name, mib)).unwrap()
    }

    pub(crate) fn attach(&self, name: &str) -> Result<ChannelInfo, RpcError> {
        self.call(&call::ChannelAttach { name: name.to_owned(), endpoint: self.endpoint(name) })
    }

    pub(crate) fn detach(&self, name: &str) -> Result<ChannelInfo, RpcError> {
        self.call(&call::ChannelDetach { name: name.to_owned() })
    }

    pub(crate) fn suspend(&self, name: &str) -> Result<ChannelInfo, RpcError> {
        self.call(&call::ChannelSuspend { name: name.to_owned() })
    }

    pub(crate) fn resume(&self, name: &str) -> Result<ChannelInfo, RpcError> {
        self.call(&call::ChannelResume { name: name.to_owned() })
    }

    pub(crate) fn resize(&self, name: &str, mib: u64) -> Result<ChannelInfo, RpcError> {
        self.call(&call::ChannelResize { name: name.to_owned(), size_bytes: mib * MIB })
    }

    pub(crate) fn destroy(&self, name: &str, force: bool) -> Result<ChannelInfo, RpcError> {
        self.call(&call::ChannelDestroy { name: name.to_owned(), force })
    }

    #[track_caller]
    pub(crate) fn show(&self, name: &str) -> ChannelInfo {
        self.call(&call::ChannelShow { name: name.to_owned() }).unwrap()
    }

    pub(crate) fn device(&self, name: &str) -> Result<DeviceInfo, RpcError> {
        self.call(&call::DeviceShow { device: name.to_owned() })
    }

    pub(crate) fn free_bytes(&self) -> u64 {
        self.device("sim0").unwrap().namespaces.iter().map(|namespace| namespace.free_bytes).sum()
    }

    pub(crate) fn lanes_used(&self) -> u64 {
        self.device("sim0").unwrap().pools.unwrap().queue_pairs.used
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.call(&call::EventsList { since: Some(0), limit: Some(100_000) }).unwrap().events
    }

    /// Waits for a recorded event that `is` it, from the oldest on.
    #[track_caller]
    pub(crate) fn wait_event(&self, what: &str, is: impl Fn(&Event) -> bool) -> Event {
        let end = Instant::now() + PATIENCE;
        let mut since = 0;
        loop {
            let list = self.call(&call::EventsList { since: Some(since), limit: None }).unwrap();
            if let Some(found) = list.events.iter().find(|event| is(event)) {
                return found.clone();
            }
            since = list.last_seq;
            assert!(Instant::now() < end, "no event within {PATIENCE:?}: {what}; {:#?}", self.events());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until a channel is in a state.
    #[track_caller]
    pub(crate) fn wait_oper(&self, name: &str, oper: Oper) -> ChannelInfo {
        wait(&format!("{name} is {oper:?}"), || Some(self.show(name)).filter(|channel| channel.oper == oper))
    }

    /// Waits until recovery has scrubbed all that it found. A label that lists nothing any more is written before the daemon
    /// hears that it was, and only then are the blocks free.
    #[track_caller]
    pub(crate) fn wait_scrubbed(&self) {
        wait("everything is scrubbed", || {
            let channels = self.call(&call::ChannelList { tenant: None }).unwrap();
            let scrubbing = channels.iter().any(|channel| channel.oper == Oper::Scrubbing);
            let clean = self.devices.iter().enumerate().all(|(index, device)| {
                let namespace = &self.device(&format!("sim{index}")).unwrap().namespaces[0];
                let block = u64::from(namespace.block_bytes);
                let label = device.label();
                let used = label.channels.iter().flat_map(|channel| &channel.extents);
                let used_bytes = used.map(|extent| extent.blocks * block).sum::<u64>();
                label.unscrubbed.is_empty() && namespace.free_bytes + used_bytes == namespace.capacity_bytes
            });
            (!scrubbing && clean).then_some(())
        });
    }

    /// L1: what was recorded could have happened.
    #[track_caller]
    pub(crate) fn assert_lives_by_the_table(&self) {
        let events = self.events();
        assert_eq!(Monitor::check(&events), Ok(()), "{events:#?}");
    }

    /// Nothing that a channel uses is another's, everything free reads as zeroes, the label says what is shown (ISO1, C3, T3).
    #[track_caller]
    pub(crate) fn assert_whole(&self) {
        let device = &self.devices[0];
        let shown = self.call(&call::ChannelList { tenant: None }).unwrap();
        let label = device.label();
        let mut labelled: Vec<(String, Vec<Extent>)> = label
            .channels
            .iter()
            .map(|channel| (channel.id.clone(), channel.extents.clone()))
            .filter(|(_, extents)| !extents.is_empty())
            .collect();
        let mut live: Vec<(String, Vec<Extent>)> = shown
            .iter()
            .map(|channel| (channel.id.clone(), extents_of(channel)))
            .filter(|(_, extents)| !extents.is_empty())
            .collect();
        labelled.sort();
        live.sort();
        assert_eq!(labelled, live, "the label names what lives, where it lies");
        assert_eq!(label.unscrubbed, [], "everything was scrubbed");
        let mut used: Vec<Extent> = live.into_iter().flat_map(|(_, extents)| extents).collect();
        used.sort();
        for pair in used.windows(2) {
            assert!(pair[0].end().unwrap() <= pair[1].start, "{pair:?} overlap (ISO1)");
        }
        let block = u64::from(label.block_bytes);
        let mut at = DATA_START_BYTES / block;
        for extent in used.iter().copied().chain([Extent { start: label.blocks, blocks: 0 }]) {
            let free = Extent { start: at, blocks: extent.start - at };
            assert!(device.is_zero(free), "{free:?} is free and was not scrubbed (C3)");
            at = extent.end().unwrap();
        }
        let used_blocks: u64 = used.iter().map(|extent| extent.blocks).sum();
        let namespace = &self.device("sim0").unwrap().namespaces[0];
        assert_eq!(namespace.free_bytes, namespace.capacity_bytes - used_blocks * block);
    }

    /// W1: the journal that is left comes to the channels that were shown. Stops the daemon.
    #[track_caller]
    pub(crate) fn assert_journal_tells_the_same(&mut self) {
        let shown = self.call(&call::ChannelList { tenant: None }).unwrap();
        self.stop();
        let journal = Journal::open(&self.state_dir()).unwrap();
        let mut told: Vec<_> = journal
            .settings()
            .channels
            .values()
            .map(|setting| (setting.name.clone(), setting.oper, setting.size_bytes, setting.generation))
            .collect();
        told.sort_by(|a, b| a.0.cmp(&b.0));
        // What serves is told as detached: an orderly end takes endpoints away, and the next start brings them back.
        let view: Vec<_> = shown
            .iter()
            .map(|channel| match channel.oper {
                Oper::Listening | Oper::Active => (channel, Oper::Provisioned),
                oper => (channel, oper),
            })
            .map(|(channel, oper)| (channel.name.clone(), oper, channel.size_bytes, channel.generation))
            .collect();
        assert_eq!(told, view);
    }

    /// The devices saw nothing wrong: no command named memory that it did not have (C1, D2).
    #[track_caller]
    pub(crate) fn assert_violation_free(&self) {
        for device in &self.devices {
            assert_eq!(device.sim.violations(), []);
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.stop();
        self.assert_violation_free();
    }
}

pub(crate) fn extents_of(channel: &ChannelInfo) -> Vec<Extent> {
    channel.extents.iter().map(|extent| Extent { start: extent.first_block, blocks: extent.blocks }).collect()
}

pub(crate) fn refusal<T>(result: Result<T, ClientError>) -> Result<T, RpcError> {
    match result {
        Ok(value) => Ok(value),
        Err(ClientError::Refused(error)) => Err(error),
        Err(other) => panic!("{other}"),
    }
}

#[track_caller]
pub(crate) fn assert_refused<T: std::fmt::Debug>(result: Result<T, RpcError>, code: ErrorCode, words: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.code, code, "{error}");
    let text = format!("{error}; {}", error.data.next);
    assert!(text.contains(words), "{text:?} does not say {words:?}");
}

/// Asks again and again until there is an answer.
#[track_caller]
pub(crate) fn wait<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An operation that finds the channel being moved, or brought back, is asked for again.
#[track_caller]
pub(crate) fn insist(mut ask: impl FnMut() -> Result<ChannelInfo, RpcError>) -> ChannelInfo {
    wait("an operation had its turn", || match ask() {
        Ok(channel) => Some(channel),
        Err(error) => {
            assert_eq!(error.code, ErrorCode::Busy, "{error}");
            None
        }
    })
}
