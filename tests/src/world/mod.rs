//! A seeded world: guests, sidecore, driver and device in one thread, where everything happens by chance and is held against oracles.
//!
//! ```text
//!   guests ── rings ──► Sidecore<nvme::Queue> ── commands ──► SimNvme ── IOMMU: no access outside a live mapping (C1, D2)
//!     │                    ▲            ▲                        ├── medium: each block holds what its oracle allows
//!     │                 orders       lanes                       └── canaries on the blocks that nobody owns (C2)
//!     └── oracle           └── control ─┘
//! ```
//!
//! There is no thread, no clock and no socket in it, and one generator draws every choice: which guest submits what, how far the
//! device gets, when the sidecore breathes, what control does to whom, what goes wrong. So a seed names a world, and running it
//! again shows the same failure again: `VFIOMUX_WORLD_SEED=n cargo nextest run -p vfiomux-tests world`.
//!
//! Control is played here as the manager plays it: rings are stopped before memory is taken, memory is unmapped only with the witness
//! that the sidecore gives, a lane is deleted at the device before its commands are given up, blocks are scrubbed before a channel
//! has them. A [`Sabotage`] leaves one of these out, and must be caught: a check that cannot fail proves nothing.
//!
//! - `front`, `draft`, `vm`, `channel`: the guests and what they ask for;
//! - `host`: the back-end's process, which a crash takes whole;
//! - `life`, `answers`: what control does and hears; `calamity`: what befalls them all;
//! - `verdict`, `oracle`, `content`, `disk`, `audit`: what must be true.

mod answers;
mod audit;
mod calamity;
mod channel;
mod content;
mod disk;
mod draft;
mod front;
mod host;
mod life;
mod oracle;
mod random;
mod trace;
mod verdict;
mod vm;

use std::fmt;

use vfiomux_nvme::Options;
use vfiomux_sidecore::Budgets;
use vfiomux_sim::{DeviceSpec, SimNvme};

use calamity::{Calamities, Reset};
use channel::{Channel, Task};
use disk::{DISK_BYTES, Disk};
use host::{Host, Setup};
pub use random::Random;
use trace::Trace;
use vm::Vm;

/// Which world, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Every choice follows from it.
    pub seed: u64,
    /// Steps before everything is brought to an end.
    pub steps: u64,
    /// What control does wrong.
    pub sabotage: Option<Sabotage>,
}

/// A rule that control breaks, so that a check can be seen to catch it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// D2: memory is unmapped when a session is lost, under the commands that name it.
    UnmapOnSessionLoss,
    /// D2: a lane's commands are given up although its submission queue was not deleted.
    AbandonWithoutBarrier,
    /// D1: memory that a front-end has taken back stays mapped.
    LeakGrants,
    /// I2: a ring is started one entry before where it was stopped.
    RestartEarlier,
    /// I2: a ring is started one entry after where it was stopped.
    RestartLater,
    /// I2: what was in flight at a crash is not looked up.
    ForgetInFlight,
    /// C2, ISO1: two channels are given one cell of the disk.
    OverlappingExtents,
    /// C3: a channel is given blocks as another left them.
    SkipScrub,
    /// V1: a channel that was suspended is not resumed.
    ForgetResume,
}

/// What happened in a world in which nothing was wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Requests that came back to their guests.
    pub returned: u64,
    /// Of these: failed, as they were allowed to.
    pub failed: u64,
    /// Rings stopped and started again.
    pub reconnects: u64,
    /// Memory tables replaced.
    pub memory_changes: u64,
    /// Channels suspended and resumed.
    pub suspends: u64,
    /// Channels grown or shrunk.
    pub resizes: u64,
    /// Channels destroyed and made anew.
    pub replacements: u64,
    /// Guests that broke the rules and were quarantined.
    pub quarantines: u64,
    /// Commands that went wrong by plan.
    pub faults: u64,
    /// Lanes deleted with what was in flight on them.
    pub lanes_replaced: u64,
    /// Controllers halted and brought up again.
    pub resets: u64,
    /// Back-ends that died and were started anew.
    pub crashes: u64,
    /// Completions that matched no command and were dropped (I1).
    pub strays: u64,
    /// Stands for all that happened, in order.
    pub fingerprint: u64,
}

/// A world in which something was wrong.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Names the world.
    pub seed: u64,
    /// What was wrong.
    pub wrong: String,
    /// What happened before.
    pub lately: Vec<String>,
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lately {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "{}", self.wrong)?;
        write!(f, "again: VFIOMUX_WORLD_SEED={} cargo nextest run -p vfiomux-tests world", self.seed)
    }
}

/// Runs a world to its end.
pub fn run(settings: &Settings) -> Result<Summary, Failure> {
    let failure = |wrong, lately| Failure { seed: settings.seed, wrong, lately };
    let mut world = World::new(settings).map_err(|wrong| failure(wrong, Vec::new()))?;
    match world.live(settings.steps) {
        Ok(()) => Ok(Summary { fingerprint: world.trace.fingerprint(), ..world.summary }),
        Err(wrong) => Err(failure(wrong, world.trace.lines())),
    }
}

struct World {
    random: Random,
    trace: Trace,
    sim: SimNvme,
    disk: Disk,
    vms: Vec<Vm>,
    channels: Vec<Channel>,
    /// `None` only between a crash and the next start.
    host: Option<Host>,
    setup: Setup,
    requests_max: u16,
    bounce_blocks: u16,
    calamities: Calamities,
    reset: Option<Reset>,
    last_incarnation: u32,
    last_owner: u32,
    /// No operation begins any more.
    ending: bool,
    sabotage: Option<Sabotage>,
    summary: Summary,
}

/// Steps until what is under way when a world ends must have come to its end.
const PATIENCE: u64 = 60_000;

impl World {
    fn new(settings: &Settings) -> Result<Self, String> {
        let mut random = Random::new(settings.seed);
        let spec = DeviceSpec {
            size_bytes: DISK_BYTES,
            lba_bytes: random.pick(&[512, 4096]),
            mdts: random.pick(&[1, 3, 5, 0]),
            queues: random.pick(&[2, 4, 8]),
            queue_entries: 256,
            vectors: 1,
            sgl: random.chance(50),
            cache: random.chance(50),
            deallocate_zeroes: random.chance(50),
            service_ns: random.pick(&[0, 2_000, 20_000]),
            seed: Some(random.next()),
            ..DeviceSpec::default()
        };
        let block_bytes = u64::from(spec.lba_bytes);
        let lanes = random.within(1, u64::from(spec.queues) - 1) as usize;
        let sim = SimNvme::new(spec, "world").map_err(|error| error.to_string())?;
        sim.step_everything();
        let disk = Disk::new(&sim, block_bytes)?;
        let setup = Setup {
            options: Options { transfer_bytes_max: random.pick(&[16, 64, 512]) << 10, ..Options::default() },
            budgets: Budgets {
                orders: random.pick(&[1, 16]),
                completions: random.pick(&[3, 256]),
                requests: random.pick(&[1, 4, 32]),
            },
            queue_depth: random.pick(&[16, 64]),
            lane_depth: random.pick(&[2, 8, 31]),
            lanes,
        };
        let host = Host::start(&sim, setup.clone(), &mut random)?;
        let mut vms = vec![Vm::new()?];
        if random.chance(60) {
            vms.push(Vm::new()?);
        }
        let mut channels = Vec::new();
        for index in 0..random.within(1, 4) as u16 {
            let vm = random.below(vms.len() as u64) as usize;
            let (rings, tracked) = (random.within(1, 2) as u16, random.chance(60));
            channels.push(Channel::new(index, vm, rings, tracked, &mut vms, &mut random)?);
        }
        let calamities = Calamities::draw(&mut random);
        let (requests_max, bounce_blocks) = (random.pick(&[3, 16, 48]), random.pick(&[1, 4, 64]));
        let mut world = Self {
            random,
            trace: Trace::default(),
            sim,
            disk,
            vms,
            channels,
            host: Some(host),
            setup,
            requests_max,
            bounce_blocks,
            calamities,
            reset: None,
            last_incarnation: 0,
            last_owner: 0,
            ending: false,
            sabotage: settings.sabotage,
            summary: Summary::default(),
        };
        world.trace.note(format!("device {:?}", world.sim.spec()));
        world.trace.note(format!("{:?}, {:?}", world.setup, world.calamities));
        for at in 0..world.channels.len() {
            world.conceive(at)?;
        }
        Ok(world)
    }

    fn host(&mut self) -> &mut Host {
        self.host.as_mut().expect("a host between two steps")
    }

    /// So many steps by chance, then everything to its end.
    fn live(&mut self, steps: u64) -> Result<(), String> {
        for _ in 0..steps {
            self.step()?;
        }
        self.trace.note("nothing new happens from here on");
        self.ending = true;
        self.calm();
        let from = self.trace.step;
        while !self.is_quiet() {
            self.step()?;
            if self.trace.step - from > PATIENCE {
                return Err(format!("progress: after {PATIENCE} steps {}", self.unfinished()));
            }
        }
        self.audit()?;
        self.end()
    }

    /// One thing by chance, and all checks that cost little.
    fn step(&mut self) -> Result<(), String> {
        self.trace.step += 1;
        match self.random.below(100) {
            0..25 if !self.ending => self.submit(),
            0..50 => self.run_device(),
            50..75 => self.breathe(),
            75..95 => self.reap()?,
            _ if !self.ending => self.begin_something()?,
            _ => self.run_device(),
        }
        self.receive()?;
        for at in 0..self.channels.len() {
            self.carry_on(at)?;
        }
        self.carry_on_reset()?;
        self.watch()?;
        self.check_violations()?;
        self.park();
        if self.trace.step.is_multiple_of(512) {
            self.audit()?;
        }
        Ok(())
    }

    fn submit(&mut self) {
        let at = self.random.below(self.channels.len() as u64) as usize;
        let channel = &mut self.channels[at];
        if !channel.may_submit() {
            return;
        }
        let geometry = channel.geometry(self.disk.block_bytes);
        let ring = self.random.below(channel.fronts.len() as u64) as usize;
        for _ in 0..self.random.within(1, 6) {
            let front = &mut channel.fronts[ring];
            let Some(line) =
                front.submit(&mut self.vms[channel.vm], &mut channel.oracle, &geometry, &mut self.random)
            else {
                break;
            };
            channel.to_pop += 1;
            self.trace.note(format!("channel {at} ring {ring}: {line}"));
        }
        channel.fronts[ring].publish();
    }

    fn run_device(&mut self) {
        self.sim.advance_ns(self.random.below(20_000));
        let most = self.random.within(1, 12) as usize;
        self.sim.step(most);
    }

    fn breathe(&mut self) {
        let now_ns = self.sim.now_ns();
        self.host().sidecore.breath(now_ns);
    }

    fn reap(&mut self) -> Result<(), String> {
        let at = self.random.below(self.channels.len() as u64) as usize;
        self.reap_channel(at, false)
    }

    fn reap_channel(&mut self, at: usize, awake: bool) -> Result<(), String> {
        let channel = &mut self.channels[at];
        let disturbed = self.calamities.disturbed;
        let reaped = channel.reap(&mut self.vms[channel.vm], self.disk.block_bytes, disturbed, awake)?;
        if reaped.returned > 0 {
            self.trace.note(format!("channel {at}: {} returned, {} failed", reaped.returned, reaped.failed));
            channel.progress = self.trace.step;
            channel.escalation = 0;
        }
        self.summary.returned += reaped.returned;
        self.summary.failed += reaped.failed;
        Ok(())
    }

    /// Fills the sticks that nobody lends.
    fn park(&mut self) {
        for (index, vm) in self.vms.iter_mut().enumerate() {
            let of_vm = self.channels.iter().filter(|channel| channel.vm == index);
            let held = of_vm.fold(1, |held, channel| held | channel.sticks | channel.adding());
            vm.park(held);
        }
    }

    fn is_quiet(&self) -> bool {
        let quiet = |channel: &Channel| channel.is_at_rest() && channel.outstanding() == 0;
        self.reset.is_none() && self.channels.iter().all(quiet)
    }

    fn unfinished(&self) -> String {
        let busy =
            self.channels.iter().filter(|channel| !(channel.is_at_rest() && channel.outstanding() == 0));
        let lines = busy.map(|channel| {
            let Channel { index, tasks, awaited, started, hostile, .. } = channel;
            let (outstanding, popped) = (channel.outstanding(), channel.has_popped_all());
            format!(
                "channel {index} has {outstanding} requests outstanding (all popped: {popped}), {awaited} orders unanswered, tasks {tasks:?}, started {started}, hostile {hostile}"
            )
        });
        lines.collect::<Vec<_>>().join("; ")
    }

    /// Everything is taken down, in order; then nothing may be left (D1, T1).
    fn end(&mut self) -> Result<(), String> {
        for channel in &mut self.channels {
            channel.tasks.extend([Task::Stop, Task::Memory(None), Task::Remove]);
        }
        let from = self.trace.step;
        while self.channels.iter().any(|channel| channel.present || !channel.tasks.is_empty()) {
            self.step()?;
            if self.trace.step - from > PATIENCE {
                return Err(format!("progress: at the end {}", self.unfinished()));
            }
        }
        self.check_end()
    }
}
