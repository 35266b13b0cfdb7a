//! The thread that drives all sessions: one, since two cores must do for everything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use vfiomux_frontend::{Waiter, Woken};

use crate::error::DemoError;
use crate::tenant::{Phase, Tally, Tenant};

/// Rounds without a completion before it sleeps until the next call.
const SPINS_MAX: u32 = 64;
/// The longest sleep, so that the end of time and Ctrl-C are noticed.
const SLEEP_MAX: Duration = Duration::from_millis(50);
/// A request may take this long before the demonstration gives up.
const PATIENCE: Duration = Duration::from_secs(15);

/// What one thread needs to drive all tenants.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) seconds: u32,
    /// How often to report.
    pub(crate) interval: Duration,
    /// Set when the person has seen enough.
    pub(crate) stop: Arc<AtomicBool>,
}

/// What the tenants did since the last report.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) phase: Phase,
    /// How long the load runs.
    pub(crate) elapsed: Duration,
    /// What the tallies cover.
    pub(crate) interval: Duration,
    /// One a tenant.
    pub(crate) tallies: Vec<Tally>,
}

impl Load {
    /// Drives the channels until time is up, then reads everything back. Reports as it goes.
    ///
    /// A report that nobody takes any more is dropped.
    pub(crate) fn run(mut self, reports: &Sender<Report>) -> Result<(), DemoError> {
        let waiter = Waiter::new().map_err(DemoError::Wait)?;
        for (key, tenant) in (0..).zip(&mut self.tenants) {
            waiter.watch(tenant.session(), key).map_err(DemoError::Wait)?;
        }
        let started = Instant::now();
        let end = started + Duration::from_secs(self.seconds.into());
        let mut reported = started;
        let mut spins = 0;
        let mut phase = Phase::Drive;
        loop {
            let now = Instant::now();
            let mut completed = 0;
            for tenant in &mut self.tenants {
                completed += tenant.step(phase, now)?;
                tenant.check_progress(now, PATIENCE)?;
            }
            let over = now >= end || self.stop.load(Ordering::Relaxed);
            let done = self.tenants.iter().all(|tenant| tenant.is_done(phase));
            let next = match phase {
                Phase::Drive if over => Phase::Drain,
                Phase::Drain if done => Phase::ReadBack,
                same => same,
            };
            let ended = phase == Phase::ReadBack && done;
            let due = phase != Phase::Drain && now - reported >= self.interval;
            // The last of what is driven is reported when time is up, and what is read back never stands with what is driven.
            if due || ended || next != phase {
                let tallies = self.tenants.iter_mut().map(Tenant::take_tally).collect();
                let report = Report { phase, elapsed: now - started, interval: now - reported, tallies };
                // Nobody listens any more when showing failed; the load is ended in order all the same.
                let _ = reports.send(report);
                reported = now;
            }
            if ended {
                return self.tenants.into_iter().try_for_each(Tenant::stop);
            }
            if next != phase {
                phase = next;
                self.tenants.iter_mut().for_each(Tenant::rewind);
                continue;
            }
            spins = if completed > 0 { 0 } else { spins + 1 };
            if spins < SPINS_MAX {
                std::hint::spin_loop();
            } else {
                spins = 0;
                self.sleep(&waiter)?;
            }
        }
    }

    /// Sleeps until some channel calls.
    fn sleep(&mut self, waiter: &Waiter) -> Result<(), DemoError> {
        let busy = self.tenants.iter_mut().any(|tenant| tenant.session().arm());
        if !busy && let Woken::Lost(key) = waiter.wait(SLEEP_MAX).map_err(DemoError::Wait)? {
            let lost = self.tenants.get(key as usize).map_or("?", |tenant| tenant.workload.channel);
            return Err(DemoError::HungUp(lost));
        }
        self.tenants.iter_mut().for_each(|tenant| tenant.session().disarm());
        Ok(())
    }
}
