//! The loop around a sidecore.

use std::io;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::thread::CpuSet;
use vfiomux_block::BlockQueue;
use vfiomux_channel::Rest;

use crate::doze::Source;
use crate::{Budgets, Handle, Sidecore, SidecoreError};

/// What a sidecore does when there is nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Looks again, for ever: the shortest latency, and a whole CPU.
    Poll,
    /// Looks again for a while, then sleeps.
    Adaptive {
        /// How long it looks, in nanoseconds.
        spin_ns: u64,
    },
    /// Sleeps at once.
    Event,
}

impl Default for Mode {
    fn default() -> Self {
        Self::Adaptive { spin_ns: 50_000 }
    }
}

/// How a sidecore's thread is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadSettings {
    /// Name of the thread; the kernel keeps 15 bytes of it.
    pub name: String,
    /// The CPU that it runs on, alone as far as we are concerned.
    pub cpu: Option<u32>,
    /// What it does when there is nothing to do.
    pub mode: Mode,
    /// How much it does in a breath.
    pub budgets: Budgets,
    /// Orders, and reports, under way at a time.
    pub orders_max: usize,
}

impl Default for ThreadSettings {
    fn default() -> Self {
        Self {
            name: "sidecore".to_owned(),
            cpu: None,
            mode: Mode::default(),
            budgets: Budgets::default(),
            orders_max: 256,
        }
    }
}

/// A sidecore on a thread of its own.
#[derive(Debug)]
pub struct SidecoreThread<Q: BlockQueue> {
    handle: Handle<Q>,
    thread: JoinHandle<Sidecore<Q>>,
}

impl<Q: BlockQueue + 'static> SidecoreThread<Q> {
    /// Starts a sidecore, and returns when it runs where it is to run.
    pub fn spawn(settings: ThreadSettings) -> Result<Self, SidecoreError> {
        let (mut sidecore, handle) = Sidecore::new(settings.budgets, settings.orders_max)?;
        let sleeper = Sleeper::new()?;
        let (started, starting) = mpsc::sync_channel(1);
        let (name, cpu, mode) = (settings.name, settings.cpu, settings.mode);
        let body = move || {
            let pinned = cpu.map_or(Ok(()), pin);
            let ok = pinned.is_ok();
            let heard = started.send(pinned).is_ok();
            sidecore.mode = mode;
            if ok && heard { run(sidecore, sleeper) } else { sidecore }
        };
        let thread = std::thread::Builder::new().name(name.clone()).spawn(body);
        let thread = thread.map_err(|source| SidecoreError::Spawn { name: name.clone(), source })?;
        match starting.recv() {
            Ok(Ok(())) => Ok(Self { handle, thread }),
            Ok(Err(source)) => Err(SidecoreError::Pin { name, cpu: cpu.unwrap_or(0), source }),
            Err(_) => Err(SidecoreError::Spawn { name, source: io::ErrorKind::BrokenPipe.into() }),
        }
    }

    /// Control's end.
    #[must_use]
    pub fn handle(&self) -> &Handle<Q> {
        &self.handle
    }

    /// Waits for the thread to end, after [`crate::Order::Shutdown`], and gives what it still held.
    pub fn join(self) -> std::thread::Result<Sidecore<Q>> {
        self.thread.join()
    }
}

/// Runs this thread on one CPU.
fn pin(cpu: u32) -> io::Result<()> {
    let index = cpu as usize;
    if index >= CpuSet::MAX_CPU {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut set = CpuSet::new();
    set.set(index);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

/// Breath after breath, until it is shut down.
fn run<Q: BlockQueue>(mut sidecore: Sidecore<Q>, mut sleeper: Sleeper) -> Sidecore<Q> {
    let origin = Instant::now();
    let clock = || u64::try_from(origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let (mut now_ns, mut busy_at_ns) = (clock(), 0);
    while !sidecore.is_shut_down() {
        let idle = sidecore.breath(now_ns).is_idle();
        let spin_ns = match sidecore.mode {
            Mode::Poll => u64::MAX,
            Mode::Adaptive { spin_ns } => spin_ns,
            Mode::Event => 0,
        };
        let then_ns = std::mem::replace(&mut now_ns, clock());
        if !idle {
            sidecore.counters().busy_ns.add(now_ns.saturating_sub(then_ns));
            busy_at_ns = now_ns;
        } else if now_ns.saturating_sub(busy_at_ns) < spin_ns {
            std::hint::spin_loop();
        } else {
            sleeper.doze(&mut sidecore);
            let awake_ns = clock();
            sidecore.counters().asleep_ns.add(awake_ns.saturating_sub(now_ns));
            now_ns = awake_ns;
        }
    }
    sidecore
}

/// Sleeps until a descriptor becomes readable.
#[derive(Debug)]
struct Sleeper {
    poll: Poll,
    events: Events,
    /// By token.
    sources: Vec<Source>,
    /// The state of the sidecore's sources that `poll` knows.
    known: Option<u64>,
}

impl Sleeper {
    fn new() -> Result<Self, SidecoreError> {
        let poll = Poll::new().map_err(|source| SidecoreError::Descriptor { source })?;
        Ok(Self { poll, events: Events::with_capacity(64), sources: Vec::new(), known: None })
    }

    /// Sleeps if nothing is there to be done. Gives back with everything disarmed.
    fn doze<Q: BlockQueue>(&mut self, sidecore: &mut Sidecore<Q>) {
        if self.known != Some(sidecore.wake_sources) && self.listen(sidecore).is_err() {
            // Without a way to be woken there is no sleep.
            return std::thread::yield_now();
        }
        sidecore.mailbox.fall_asleep();
        match sidecore.arm() {
            Rest::Ready => {}
            Rest::Poll => std::thread::yield_now(),
            Rest::Sleep => {
                sidecore.counters().naps.add(1);
                self.sleep(sidecore);
            }
        }
        sidecore.mailbox.wake_up();
        sidecore.disarm();
    }

    fn sleep<Q: BlockQueue>(&mut self, sidecore: &mut Sidecore<Q>) {
        if let Err(error) = self.poll.poll(&mut self.events, None) {
            // Interrupted by a signal: look around and lie down again.
            if error.kind() != io::ErrorKind::Interrupted {
                std::thread::sleep(Duration::from_millis(1));
            }
            return;
        }
        for event in &self.events {
            if let Some(&source) = self.sources.get(event.token().0) {
                sidecore.woken_by(source);
            }
        }
    }

    /// Listens to what the sidecore has now, and to nothing that it had.
    ///
    /// A kick descriptor is shared with the front-end. Closing our end does not take it out of an epoll set, so a changed
    /// sidecore gets a new set. Registrations are edge-triggered: a kick need not be read to be heard again, and is not,
    /// since the front-end could make that block.
    fn listen<Q: BlockQueue>(&mut self, sidecore: &Sidecore<Q>) -> io::Result<()> {
        let poll = Poll::new()?;
        self.sources.clear();
        let changed = sidecore.wake_sources;
        for (source, fd) in sidecore.sources() {
            let token = Token(self.sources.len());
            match poll.registry().register(&mut SourceFd(&fd), token, Interest::READABLE) {
                Ok(()) => self.sources.push(source),
                // The same descriptor twice: two rings that share a kick. Either wakes us, and we look at all.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        self.poll = poll;
        self.known = Some(changed);
        Ok(())
    }
}
