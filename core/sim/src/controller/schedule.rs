//! What is done next: fetching, waiting, completing.

use std::cmp::Reverse;
use std::sync::PoisonError;

use vfiomux_spec::nvme::log::CriticalWarning;
use vfiomux_spec::nvme::{ADMIN_QUEUE_ID, CompletionEntry, Status, SubmissionEntry};

use super::{Controller, Outcome, Pending, State, name};
use crate::fault::Action;
use crate::iommu::{Dma, DmaRefused};
use crate::violation::Violation;

/// Commands taken from one queue before the next has its turn.
const BURST: u32 = 32;
/// Commands that the controller holds at most.
const PENDING_MAX: usize = 8192;

impl Controller {
    /// Does a bounded amount of work: fetches and completions, at most `budget` of them. Returns how many.
    pub(crate) fn step(&mut self, budget: usize) -> usize {
        let seen = usize::from(self.observe());
        if self.state != State::Ready {
            return seen;
        }
        self.with_memory(|controller, dma| {
            let done = match controller.spec.seed {
                Some(_) => controller.step_shuffled(dma, budget),
                None => controller.step_in_turn(dma, budget),
            };
            if done == 0 && controller.release_held() { 1 } else { done }
        }) + seen
    }

    /// Serves the registers and the admin queue only.
    pub(crate) fn step_admin(&mut self) -> usize {
        let seen = usize::from(self.observe());
        if self.state != State::Ready {
            return seen;
        }
        self.with_memory(|controller, dma| {
            let mut done = 0;
            while controller.fetch(dma, ADMIN_QUEUE_ID) {
                done += 1;
            }
            done + controller.finish_due(dma, usize::MAX, |pending| pending.sq_id == ADMIN_QUEUE_ID)
        }) + seen
    }

    /// Whether a step would find something to do now. Used before sleeping.
    pub(crate) fn has_work(&mut self) -> bool {
        if self.state == State::Gone {
            return false;
        }
        if self.registers.cc() != self.cc {
            return true;
        }
        let now = self.now_ns();
        let due = |pending: &Pending| !pending.hung() && pending.due_ns <= now;
        self.state == State::Ready
            && (self.pending.iter().any(due)
                || (0..=self.live.len()).any(|index| self.fetchable(self.queue_id(index))))
    }

    /// Runs `f` with the device's view of memory held still, then lets events and interrupts out.
    fn with_memory(&mut self, f: impl FnOnce(&mut Self, &Dma<'_>) -> usize) -> usize {
        let iommu = self.iommu.clone();
        let table = iommu.read();
        let dma = iommu.dma(&table);
        let done = f(self, &dma);
        let events = self.post_events(&dma);
        drop(table);
        self.signal();
        done + events
    }

    fn step_in_turn(&mut self, dma: &Dma<'_>, budget: usize) -> usize {
        let mut done = 0;
        while done < budget && self.fetch(dma, ADMIN_QUEUE_ID) {
            done += 1;
        }
        let queues = self.live.len();
        for turn in 0..queues {
            let Some(&id) = self.live.get((self.turn + turn) % queues) else { break };
            let mut burst = BURST;
            while burst > 0 && done < budget && self.fetch(dma, id) {
                burst -= 1;
                done += 1;
            }
        }
        self.turn = self.turn.wrapping_add(1) % queues.max(1);
        if self.pending.is_empty() { done } else { done + self.finish_due(dma, budget, |_| true) }
    }

    /// One fetch or completion at a time, each drawn by chance from all that could be next.
    fn step_shuffled(&mut self, dma: &Dma<'_>, budget: usize) -> usize {
        for done in 0..budget {
            let ready = self.pick_ready();
            match (self.pick_fetchable(), ready) {
                (Some(id), None) => _ = self.fetch(dma, id),
                (Some(id), Some(_)) if self.rng.coin() => _ = self.fetch(dma, id),
                (_, Some(index)) => {
                    let pending = self.pending.swap_remove(index);
                    self.finish(dma, pending);
                }
                (None, None) => return done,
            }
            if self.state != State::Ready {
                return done + 1;
            }
        }
        budget
    }

    /// One of the queues that have a command to fetch, each as likely as the others: the nth replaces the choice so far
    /// one time in n.
    fn pick_fetchable(&mut self) -> Option<u16> {
        let (mut picked, mut candidates) = (None, 0);
        for index in 0..=self.live.len() {
            let id = self.queue_id(index);
            if self.fetchable(id) {
                candidates += 1;
                picked = if self.rng.below(candidates) == 0 { Some(id) } else { picked };
            }
        }
        picked
    }

    /// One of the pending commands that could complete now, each as likely as the others.
    fn pick_ready(&mut self) -> Option<usize> {
        let now = self.now_ns();
        let (mut picked, mut candidates) = (None, 0);
        for index in 0..self.pending.len() {
            if self.ready(index, now) {
                candidates += 1;
                picked = if self.rng.below(candidates) == 0 { Some(index) } else { picked };
            }
        }
        picked
    }

    /// The admin queue, then the I/O queues in the order in which they were made.
    fn queue_id(&self, index: usize) -> u16 {
        index.checked_sub(1).and_then(|index| self.live.get(index)).copied().unwrap_or(ADMIN_QUEUE_ID)
    }

    /// Whether a queue has a command, and its completion queue has room for one more completion.
    fn fetchable(&mut self, id: u16) -> bool {
        let Some(sq) = self.sqs.get_mut(usize::from(id)).and_then(Option::as_mut) else { return false };
        let tail_good = sq.look(&self.registers, self.iommu.violations());
        let (waiting, cq_id) = (sq.waiting(), sq.cq_id);
        if !tail_good {
            self.events.doorbell_error();
        }
        waiting > 0 && self.pending.len() < PENDING_MAX && self.room(cq_id)
    }

    pub(super) fn room(&mut self, cq_id: u16) -> bool {
        let Some(cq) = self.cqs.get_mut(usize::from(cq_id)).and_then(Option::as_mut) else { return false };
        if cq.has_room() {
            return true;
        }
        if !cq.look(&self.registers, self.iommu.violations()) {
            self.events.doorbell_error();
        }
        self.cq(cq_id).is_some_and(|cq| cq.has_room())
    }

    /// Fetches a queue's next command, if it has one, and starts it.
    fn fetch(&mut self, dma: &Dma<'_>, id: u16) -> bool {
        if self.state != State::Ready || !self.fetchable(id) {
            return false;
        }
        let Some(sq) = self.sq(id) else { return false };
        match sq.fetch(dma) {
            Ok(entry) => self.start(dma, id, entry),
            Err(DmaRefused) => self.fatal(),
        }
        true
    }

    fn start(&mut self, dma: &Dma<'_>, sq_id: u16, entry: SubmissionEntry) {
        let admin = sq_id == ADMIN_QUEUE_ID;
        *if admin { &mut self.counters.admin_commands } else { &mut self.counters.io_commands } += 1;
        let taken = |pending: &Pending| pending.sq_id == sq_id && pending.entry.cid == entry.cid;
        if self.pending.iter().any(taken) || admin && self.events.is_waiting(entry.cid.get()) {
            self.iommu.violations().record(Violation::CidReused { command: name(sq_id, &entry) });
            self.complete(dma, sq_id, entry.cid.get(), Status::CID_CONFLICT.into());
            return;
        }
        let action = if self.faults.is_empty() { None } else { self.faults.strike(sq_id, &entry) };
        self.counters.faults += u64::from(action.is_some());
        match action {
            Some(Action::Fatal) => return self.fatal(),
            Some(Action::Vanish) => return self.vanish(),
            Some(Action::Warn) => self.warn(CriticalWarning::new().with_reliability(true)),
            _ => {}
        }
        let service_ns = if admin { 0 } else { self.service_ns() };
        if service_ns == 0 && action.is_none() && (admin || self.spec.seed.is_none()) {
            return self.finish(dma, Pending { sq_id, entry, due_ns: 0, sequence: 0, hold_until: 0, action });
        }
        let delay_ns = if let Some(Action::DelayNs(ns)) = action { ns } else { 0 };
        let hold = if let Some(Action::HoldBack(count)) = action { u64::from(count) } else { 0 };
        let due_ns = self.served_by_ns(service_ns).saturating_add(delay_ns);
        let hold_until = if hold == 0 { 0 } else { self.counters.completions + hold };
        self.sequence += 1;
        self.pending.push(Pending { sq_id, entry, due_ns, sequence: self.sequence, hold_until, action });
    }

    /// How long the next I/O command takes: as the spec says, and with a seed, by chance half of that more or less.
    fn service_ns(&mut self) -> u64 {
        match (self.spec.service_ns, self.spec.seed) {
            (0, _) => 0,
            (service_ns, None) => service_ns,
            (service_ns, Some(_)) => service_ns / 2 + self.rng.below(service_ns),
        }
    }

    /// When a command that takes `service_ns` has been served: by the unit that is free first, and only then.
    fn served_by_ns(&mut self, service_ns: u64) -> u64 {
        let now_ns = self.now_ns();
        let units = usize::try_from(self.spec.parallel).unwrap_or(usize::MAX);
        if units == 0 || service_ns == 0 {
            return now_ns.saturating_add(service_ns);
        }
        let busy = self.busy_until_ns.len() >= units;
        let free_ns = if busy { self.busy_until_ns.pop().map_or(0, |Reverse(free_ns)| free_ns) } else { 0 };
        let served_ns = now_ns.max(free_ns).saturating_add(service_ns);
        self.busy_until_ns.push(Reverse(served_ns));
        served_ns
    }

    fn ready(&mut self, index: usize, now_ns: u64) -> bool {
        let Some(pending) = self.pending.get(index) else { return false };
        if pending.hung() || pending.due_ns > now_ns || self.counters.completions < pending.hold_until {
            return false;
        }
        let sq_id = pending.sq_id;
        let cq_id = self.sq(sq_id).map(|sq| sq.cq_id);
        cq_id.is_some_and(|cq_id| self.room(cq_id))
    }

    /// Completes what is due, in order of time and arrival.
    fn finish_due(&mut self, dma: &Dma<'_>, budget: usize, which: impl Fn(&Pending) -> bool) -> usize {
        let now = self.now_ns();
        let mut done = 0;
        while done < budget && self.state == State::Ready {
            let mut next: Option<(u64, u64, usize)> = None;
            for index in 0..self.pending.len() {
                let Some(pending) = self.pending.get(index).filter(|pending| which(pending)) else {
                    continue;
                };
                let key = (pending.due_ns, pending.sequence, index);
                if next.is_none_or(|best| key < best) && self.ready(index, now) {
                    next = Some(key);
                }
            }
            let Some((.., index)) = next else { break };
            let pending = self.pending.swap_remove(index);
            self.finish(dma, pending);
            done += 1;
        }
        done
    }

    /// Nothing else is left to do: commands held back for others go on. Says whether there were any.
    fn release_held(&mut self) -> bool {
        let completions = self.counters.completions;
        let mut released = false;
        for pending in self.pending.iter_mut().filter(|pending| pending.hold_until > completions) {
            pending.hold_until = 0;
            released = true;
        }
        released
    }

    /// The command that has begun to hang last does not any more. Says whether there was one.
    pub(crate) fn release_hung(&mut self) -> bool {
        let hung = self.pending.iter_mut().filter(|pending| pending.hung());
        let last = hung.max_by_key(|pending| pending.sequence);
        last.map(|pending| pending.action = None).is_some()
    }

    /// Carries a command out and completes it.
    pub(super) fn finish(&mut self, dma: &Dma<'_>, pending: Pending) {
        let Pending { sq_id, entry, action, .. } = pending;
        let cid = entry.cid.get();
        let outcome = match action {
            Some(Action::Fail(status)) => Some(Outcome { status, dw0: 0 }),
            _ => {
                dma.serve(Some(name(sq_id, &entry)));
                if sq_id == ADMIN_QUEUE_ID { self.admin(dma, &entry) } else { Some(self.io(dma, &entry)) }
            }
        };
        let Some(outcome) = outcome else { return };
        if !outcome.status.status().is_success() {
            self.logs.error(sq_id, &entry, outcome.status);
        }
        match action {
            Some(Action::Drop) => {}
            Some(Action::WrongCid(mask)) => self.complete(dma, sq_id, cid ^ mask, outcome),
            Some(Action::Duplicate) => {
                self.complete(dma, sq_id, cid, outcome);
                self.complete(dma, sq_id, cid, outcome);
            }
            _ => self.complete(dma, sq_id, cid, outcome),
        }
    }

    /// Posts a completion. Where there is no room (which callers check, except for a completion too many) it is lost.
    pub(super) fn complete(&mut self, dma: &Dma<'_>, sq_id: u16, cid: u16, outcome: Outcome) {
        if self.state != State::Ready {
            return;
        }
        let Some(sq) = self.sq(sq_id) else { return };
        let (head, cq_id) = (u16::try_from(sq.head).unwrap_or(u16::MAX), sq.cq_id);
        if !self.room(cq_id) {
            return;
        }
        let entry = CompletionEntry::new(cid, sq_id, head, outcome.status, false).with_result(outcome.dw0);
        let posted = self.cq(cq_id).map(|cq| cq.post(dma, entry));
        match posted {
            Some(Ok(())) => {
                self.counters.completions += 1;
                self.news = true;
            }
            Some(Err(DmaRefused)) => self.fatal(),
            None => {}
        }
    }

    /// Signals the vectors of the completion queues that have news.
    fn signal(&mut self) {
        if !std::mem::take(&mut self.news) {
            return;
        }
        let vectors = self.vectors.lock().unwrap_or_else(PoisonError::into_inner);
        for cq in self.cqs.iter_mut().flatten().filter(|cq| cq.news) {
            cq.news = false;
            if let Some(vector) = cq.vector.and_then(|index| vectors.get(usize::from(index))) {
                // A full counter cannot be raised further and is readable already.
                let _ = vector.write(1);
                self.counters.interrupts += 1;
            }
        }
    }
}
