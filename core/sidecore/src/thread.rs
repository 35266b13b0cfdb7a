//! The loop around a sidecore.

use std::io;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::thread::CpuSet;
use vfiomux_block::BlockQueue;

use crate::doze::Lull;
use crate::spin::{Spin, Verdict};
use crate::{Budgets, Handle, Sidecore, SidecoreError, clock_ns};

/// Between these lies what a sleep is taken to cost, whatever was measured: a machine that was disturbed while it was
/// measured is not spun on for ever, and one that is very fast is not believed to be faster than a few system calls.
const SLEEP_COST_NS_MIN: u64 = 2_000;
const SLEEP_COST_NS_MAX: u64 = 25_000;

/// What a sidecore does when there is nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Looks again, for ever: the shortest latency, and a whole CPU.
    Poll,
    /// Looks again while what comes next is likely to come before a sleep would pay, else sleeps.
    Adaptive {
        /// How long it looks at most, in nanoseconds.
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
        let (started, starting) = mpsc::sync_channel(1);
        let (name, cpu, mode) = (settings.name, settings.cpu, settings.mode);
        let body = move || {
            let pinned = cpu.map_or(Ok(()), pin);
            let ok = pinned.is_ok();
            let heard = started.send(pinned).is_ok();
            sidecore.mode = mode;
            if !(ok && heard) {
                return sidecore;
            }
            let sleep_cost_ns = measure_sleep_cost();
            sidecore.counters().sleep_cost_ns.add(sleep_cost_ns);
            run(sidecore, Spin::new(sleep_cost_ns))
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

/// What a sleep and the wake-up after it cost, on this thread, here and now.
///
/// Measured by how late a timer wakes us: an interrupt, a processor that leaves its idle state, a thread that is scheduled.
/// A kick's way is the same but for the interrupt's origin. The median of a few, since any single one may be disturbed, and
/// not for long, since on a busy machine each may take a time slice.
fn measure_sleep_cost() -> u64 {
    const SLEEP: Duration = Duration::from_micros(50);
    const SAMPLES: usize = 9;
    const LONG: Duration = Duration::from_millis(5);
    // The kernel rounds timers of ordinary threads by 50 us, to save wake-ups.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    let begun = Instant::now();
    let mut late_ns: Vec<u64> = Vec::with_capacity(SAMPLES);
    while late_ns.len() < SAMPLES && begun.elapsed() < LONG {
        let lay_down = Instant::now();
        std::thread::sleep(SLEEP);
        late_ns.push(nanoseconds(lay_down.elapsed().saturating_sub(SLEEP)));
    }
    late_ns.sort_unstable();
    let median_ns = late_ns.get(late_ns.len() / 2).copied().unwrap_or(SLEEP_COST_NS_MAX);
    median_ns.clamp(SLEEP_COST_NS_MIN, SLEEP_COST_NS_MAX)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Breath after breath, until it is shut down.
fn run<Q: BlockQueue>(mut sidecore: Sidecore<Q>, mut spin: Spin) -> Sidecore<Q> {
    let mut now_ns = clock_ns();
    // When the last sleep ended, until something to do is found.
    let mut woken_at_ns = None;
    // Guests are asked for kicks that we can do without while we are awake.
    let mut asked = false;
    while !sidecore.is_shut_down() {
        let work = sidecore.breath(now_ns);
        let then_ns = std::mem::replace(&mut now_ns, clock_ns());
        let spent_ns = now_ns.saturating_sub(then_ns);
        let counters = sidecore.counters();
        counters.breath_time.record(spent_ns);
        if !work.is_idle() {
            counters.busy_ns.add(spent_ns);
            counters.short_naps.add(u64::from(spin.busy(then_ns)));
            match woken_at_ns.take() {
                Some(woken_ns) if work.requests > 0 => {
                    counters.wake_to_submit.record(now_ns.saturating_sub(woken_ns));
                }
                Some(_) => {}
                // The second breath in a row with something to do: it stays awake for a while.
                None if asked => {
                    asked = false;
                    sidecore.disarm();
                }
                None => {}
            }
            continue;
        }
        counters.spun_ns.add(spent_ns);
        match spin.idle(now_ns, sidecore.mode, || sidecore.awaited()) {
            Verdict::Spin => {
                if std::mem::take(&mut asked) {
                    sidecore.disarm();
                }
                std::hint::spin_loop();
            }
            Verdict::Sleep => {
                asked = true;
                let (lull, woken_ns) = sidecore.doze(clock_ns);
                let lay_down_ns = std::mem::replace(&mut now_ns, woken_ns);
                match lull {
                    Lull::Sleep => {
                        sidecore.counters().asleep_ns.add(now_ns.saturating_sub(lay_down_ns));
                        spin.slept();
                        woken_at_ns = Some(now_ns);
                    }
                    Lull::Ready => {}
                    Lull::Poll => {
                        spin.kept_awake(now_ns);
                        std::thread::yield_now();
                    }
                }
            }
        }
    }
    sidecore
}
