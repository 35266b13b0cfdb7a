//! Who runs the device, and when: inside register writes, or on a thread that sleeps until one.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use vfiomux_hw::Bell;

use crate::SimError;
use crate::device::Device;

/// Fetches and completions of one turn of the thread.
const TURN_BUDGET: usize = 128;
/// Turns without work before the thread sleeps: some tens of microseconds, within which a busy driver rings again.
const IDLE_TURNS: u32 = 400;
/// The longest sleep. Only a guard: whoever gives the device something to do rings.
const SLEEP_MAX: Duration = Duration::from_millis(100);

/// What a register write makes the device do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Nothing: the test steps.
    Stepped = 0,
    /// Serve registers and the admin queue; the test steps the rest.
    AdminAtOnce = 1,
    /// Everything.
    Inline = 2,
    /// Wake the thread.
    Thread = 3,
}

/// Where the ringer and the runner meet.
#[derive(Debug)]
pub(crate) struct Wake {
    pace: AtomicU8,
    asleep: AtomicBool,
    sleeper: Mutex<Option<Thread>>,
}

impl Default for Wake {
    fn default() -> Self {
        let pace = AtomicU8::new(Pace::AdminAtOnce as u8);
        Self { pace, asleep: AtomicBool::new(false), sleeper: Mutex::new(None) }
    }
}

impl Wake {
    pub(crate) fn set_pace(&self, pace: Pace) {
        self.pace.store(pace as u8, Ordering::Relaxed);
    }

    fn is(&self, pace: Pace) -> bool {
        self.pace.load(Ordering::Relaxed) == pace as u8
    }

    /// Wakes the thread if it sleeps.
    pub(crate) fn ring(&self) {
        // The register was written before; the sleeper looks at the registers after it says that it is asleep. One of the
        // two sees the other (V3). Pairs with the fence in `sleep`.
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            let sleeper = self.sleeper.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(thread) = &*sleeper {
                thread.unpark();
            }
        }
    }

    /// The calling thread is the one that sleeps: whoever rings wakes it.
    fn sleeps_here(&self) {
        let mut sleeper = self.sleeper.lock().unwrap_or_else(PoisonError::into_inner);
        *sleeper = Some(thread::current());
    }

    /// Sleeps until rung, unless `has_work`, asked after everybody can see that we are about to, says that there is some.
    fn sleep(&self, limit: Duration, has_work: impl FnOnce() -> bool) {
        self.asleep.store(true, Ordering::Relaxed);
        // Pairs with the fence in `ring`.
        fence(Ordering::SeqCst);
        if !has_work() {
            thread::park_timeout(limit);
        }
        self.asleep.store(false, Ordering::Relaxed);
    }
}

/// Hears of register writes.
pub(crate) struct Listener {
    wake: Arc<Wake>,
    device: Weak<Device>,
}

impl Listener {
    pub(crate) fn new(device: &Arc<Device>) -> Self {
        Self { wake: device.wake.clone(), device: Arc::downgrade(device) }
    }
}

impl Bell for Listener {
    fn ring(&self) {
        if self.wake.is(Pace::Thread) {
            return self.wake.ring();
        }
        if self.wake.is(Pace::Stepped) {
            return;
        }
        let Some(device) = self.device.upgrade() else { return };
        let mut controller = device.controller();
        if self.wake.is(Pace::AdminAtOnce) {
            controller.step_admin();
        } else {
            while controller.step(TURN_BUDGET) > 0 {}
        }
    }
}

/// A thread that runs a device. Dropping it stops the device where it is; nothing is lost.
pub struct SimThread {
    device: Arc<Device>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl SimThread {
    pub(crate) fn start(device: Arc<Device>) -> Result<Self, SimError> {
        let stop = Arc::new(AtomicBool::new(false));
        device.wake.set_pace(Pace::Thread);
        let (running, stopped) = (device.clone(), stop.clone());
        let thread = thread::Builder::new()
            .name(format!("{}-device", device.name).chars().take(15).collect())
            .spawn(move || run(&running, &stopped))?;
        Ok(Self { device, stop, thread: Some(thread) })
    }
}

fn run(device: &Device, stop: &AtomicBool) {
    device.wake.sleeps_here();
    let mut idle_turns = 0;
    while !stop.load(Ordering::Relaxed) {
        while device.is_wanted() {
            thread::yield_now();
        }
        if device.run_controller().step(TURN_BUDGET) > 0 {
            idle_turns = 0;
        } else if idle_turns < IDLE_TURNS {
            idle_turns += 1;
            std::hint::spin_loop();
        } else {
            idle_turns = 0;
            let controller = device.run_controller();
            let now = controller.now_ns();
            let wait = controller.next_due_ns().map(|due| Duration::from_nanos(due.saturating_sub(now)));
            drop(controller);
            device.wake.sleep(wait.unwrap_or(SLEEP_MAX).min(SLEEP_MAX), || {
                stop.load(Ordering::Relaxed) || device.run_controller().has_work()
            });
        }
    }
}

impl Drop for SimThread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic there has been reported by the panic hook; here is nobody who could do more about it.
            let _ = thread.join();
        }
        self.device.wake.set_pace(Pace::AdminAtOnce);
    }
}

impl std::fmt::Debug for SimThread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimThread").field("device", &self.device.name).finish_non_exhaustive()
    }
}
