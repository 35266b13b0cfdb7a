//! What must be true.

use std::collections::BTreeSet;

use super::World;
use super::host::{DEVICE, News, Purpose};
use super::vm::STICKS;
use vfiomux_block::BlockQueue;
use vfiomux_sidecore::Order;

impl World {
    /// C1, D2: the device was told to reach nothing that it must not, and did not find an identifier used twice (I1).
    pub(super) fn check_violations(&mut self) -> Result<(), String> {
        if self.sim.violation_count() == 0 {
            return Ok(());
        }
        let violations: Vec<String> = self.sim.violations().iter().take(3).map(ToString::to_string).collect();
        Err(format!("C1, D2 or I1: {}", violations.join("; ")))
    }

    /// Looks at all that costs more.
    pub(super) fn audit(&mut self) -> Result<(), String> {
        self.disk.check_canaries()?;
        for channel in &self.channels {
            self.disk.each_block(&channel.cells, |at, bytes| channel.oracle.check(at, bytes))?;
        }
        self.check_ledger()
    }

    /// D1: when no order is under way, what is mapped is what channels lend, once a VM, and memory of our own.
    fn check_ledger(&mut self) -> Result<(), String> {
        if self.reset.is_some() || self.channels.iter().any(|channel| channel.awaited > 0) {
            return Ok(());
        }
        let mut lent: BTreeSet<(usize, usize)> = BTreeSet::new();
        for channel in &self.channels {
            let Some(sticks) = channel.lent else { continue };
            // The base, then its sticks.
            lent.insert((channel.vm, STICKS));
            lent.extend((0..STICKS).filter(|at| sticks & 1 << at != 0).map(|at| (channel.vm, at)));
        }
        let mappings = self.host().domain().mappings();
        let mapped = mappings.iter().filter(|mapping| !mapping.own).count();
        if mapped != lent.len() {
            return Err(format!("D1: {mapped} regions of guests are mapped, and {} are lent", lent.len()));
        }
        Ok(())
    }

    /// The channels are gone: takes the back-end down, and looks at what is left.
    pub(super) fn check_end(&mut self) -> Result<(), String> {
        self.disk.check_canaries()?;
        self.check_violations()?;
        let host = self.host.as_mut().ok_or("no host at the end")?;
        let domain = host.domain().clone();
        if let Some(mapping) = domain.mappings().iter().find(|mapping| !mapping.own) {
            return Err(format!("D1: after the last channel a guest's memory is mapped at {}", mapping.iova));
        }
        let strays = host.queue(|queue| queue.stray_completions()).unwrap_or(0);
        self.summary.strays += strays + host.sidecore.counters().strays.get();
        // A lane that is deleted leaves completions behind, of commands that were aborted for it.
        if self.summary.strays > 0 && !self.calamities.disturbed && self.summary.lanes_replaced == 0 {
            return Err(format!(
                "I1: {} completions matched nothing, though nothing went wrong",
                self.summary.strays
            ));
        }
        host.send(Order::RemoveDevice { device: DEVICE }, Purpose::Device);
        let now_ns = self.sim.now_ns();
        host.sidecore.breath(now_ns);
        let Some(News::Answer(Purpose::Device, answer)) = host.receive() else {
            return Err("T1: the device cannot be taken from the sidecore".to_owned());
        };
        host.controller.shutdown().map_err(|error| error.to_string())?;
        drop(answer);
        self.host = None;
        let left = domain.mappings().len().max(self.sim.iommu().mappings().len());
        if left > 0 {
            return Err(format!("D1: {left} mappings are left after the end"));
        }
        self.check_violations()
    }
}
