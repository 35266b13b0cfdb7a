use std::collections::VecDeque;
use std::sync::Arc;

use vfiomux_block::BlockQueue;
use vfiomux_channel::{Asked, BlockChannel, ChannelId, Portion, Served, Turn};
use vfiomux_guest::RingWatch;
use vfiomux_hw::Guard;

use crate::answer::Pending;
use crate::device::{Device, Router, Seat};
use crate::mailbox::Mailbox;
use crate::schedule::By;
use crate::seeded::{self, Bug};
use crate::service::Services;
use crate::wake::{Source, WakeSet};
use crate::{DeviceSlot, Handle, Mode, Report, SidecoreCounters, SidecoreError};

/// Answers that a guest is shown at once where commands end as they are submitted: a cache line of its used ring.
pub(crate) const SHOWN_AT_ONCE: u32 = 8;

/// How much is done in a breath at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budgets {
    /// Orders taken from the mailbox.
    pub orders: usize,
    /// Completions taken from a device.
    pub completions: usize,
    /// Requests taken from a channel.
    pub requests: u32,
}

impl Default for Budgets {
    fn default() -> Self {
        Self { orders: 16, completions: 256, requests: 32 }
    }
}

/// What a breath did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// Orders taken.
    pub orders: usize,
    /// Completions taken.
    pub completions: usize,
    /// Requests taken.
    pub requests: u32,
    /// Guests interrupted.
    pub calls: u64,
    /// Something is known to wait that there was no budget for.
    pub more: bool,
}

impl Work {
    /// Whether there was nothing to do, and nothing is known to wait.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        *self == Self::default()
    }
}

/// A ring, seen from outside, and whose it is.
#[derive(Debug)]
struct Watch {
    ring: RingWatch,
    seat: u16,
}

/// Devices and channels, served breath by breath. Belongs to one thread at a time.
#[derive(Debug)]
pub struct Sidecore<Q: BlockQueue> {
    pub(crate) mailbox: Arc<Mailbox<Q>>,
    pub(crate) budgets: Budgets,
    pub(crate) devices: Vec<Option<Device<Q>>>,
    pub(crate) seats: Vec<Seat>,
    /// Indices of the seats that are taken, in the order in which they take their turns.
    pub(crate) turns: Vec<u16>,
    /// Whose turn comes first in the next breath, by place in `turns`; at most its length. From any further on the round would
    /// end before it has come to everybody, and who is passed over may never have another reason for a turn.
    pub(crate) first_turn: usize,
    /// The rings of all channels, in no particular order.
    watches: Vec<Watch>,
    /// When all rings were last looked at; the end of time when that was before a sleep.
    pub(crate) looked_ns: u64,
    /// The fault guard's generation that all channels have had a turn to notice.
    guarded_at: u64,
    /// Control has changed something, or a channel was quarantined: `watches` may be of rings that are gone.
    pub(crate) changed: bool,
    pub(crate) services: Services,
    /// Orders that wait for something.
    pub(crate) pending: Vec<Pending<Q>>,
    /// Reports that control has left no room for yet.
    pub(crate) outbox: VecDeque<Report<Q>>,
    /// What it listens to when it sleeps.
    pub(crate) wakes: WakeSet,
    /// The timer among it is set.
    pub(crate) alarm: bool,
    /// Some device has a schedule.
    pub(crate) scheduled: bool,
    /// More is asked of some device than it has room for.
    pub(crate) contended: bool,
    /// What its thread does when there is nothing to do.
    pub(crate) mode: Mode,
    pub(crate) shut_down: bool,
}

impl<Q: BlockQueue> Sidecore<Q> {
    /// A sidecore with nothing to serve, and control's end of it. The mailbox holds `orders_max` orders, and as many reports.
    pub fn new(budgets: Budgets, orders_max: usize) -> Result<(Self, Handle<Q>), SidecoreError> {
        let mailbox = Mailbox::new(orders_max)?;
        let handle = Handle::new(mailbox.clone());
        let mut wakes = WakeSet::new()?;
        wakes.listen(Source::Orders, mailbox.wake_fd());
        let sidecore = Self {
            mailbox,
            budgets,
            devices: Vec::new(),
            seats: Vec::new(),
            turns: Vec::new(),
            first_turn: 0,
            watches: Vec::new(),
            looked_ns: u64::MAX,
            guarded_at: Guard::generation(),
            changed: false,
            services: Services::default(),
            pending: Vec::new(),
            outbox: VecDeque::new(),
            wakes,
            alarm: false,
            scheduled: false,
            contended: false,
            mode: Mode::default(),
            shut_down: false,
        };
        Ok((sidecore, handle))
    }

    /// One bounded round of everything. `now_ns` is by a clock that all sidecores share, and
    /// that does not go backwards.
    pub fn breath(&mut self, now_ns: u64) -> Work {
        let mut work = Work { orders: self.take_orders(now_ns), ..Work::default() };
        self.look_around();
        work.completions = self.poll(now_ns);
        self.submit_waiting();
        self.serve(now_ns, &mut work);
        if self.services.probe.is_some() {
            self.run_probe(now_ns, &mut work);
        }
        self.submit();
        // After the doorbells: while the guests are being told, the devices are already at work.
        work.calls = self.publish();
        if !self.pending.is_empty() {
            self.settle();
        }
        self.answer_services();
        if self.changed {
            self.look_afresh();
        }
        if !self.outbox.is_empty() {
            self.send_outbox();
        }
        self.looked_ns = now_ns;
        let counters = self.counters();
        counters.breaths.add(1);
        counters.busy_breaths.add(u64::from(!work.is_idle()));
        work
    }

    /// Finds the channels that have something new on a ring. A ring with nothing new costs this look and no more.
    fn look_around(&mut self) {
        if self.changed {
            self.look_afresh();
        }
        let Self { watches, seats, .. } = self;
        for watch in watches {
            if watch.ring.moved()
                && let Some(seat) = seats.get_mut(usize::from(watch.seat))
            {
                seat.active = true;
            }
        }
        // Somebody's memory was lost: each channel looks whether it was its own. After the looks, which may be what found out.
        let generation = Guard::generation();
        if generation != std::mem::replace(&mut self.guarded_at, generation) {
            self.seats.iter_mut().for_each(|seat| seat.active = true);
        }
    }

    /// Watches the rings that there are now, and gives every channel its turn. Nothing is kept of a ring that is gone, and control
    /// is told of its end only after this.
    fn look_afresh(&mut self) {
        self.changed = false;
        self.watches.clear();
        for &index in &self.turns {
            if let Some(seat) = self.seats.get_mut(usize::from(index))
                && let Some(channel) = &seat.channel
            {
                seat.active = true;
                self.watches.extend(channel.watches().map(|ring| Watch { ring, seat: index }));
            }
        }
    }

    /// Takes every device's completions to whom they belong, and sees what they have made room for.
    fn poll(&mut self, now_ns: u64) -> usize {
        let Self { devices, seats, services, mailbox, budgets, contended, .. } = self;
        let mut taken = 0;
        for (index, device) in devices.iter_mut().enumerate() {
            let Some(Device { queue, flushes, schedule, gone, .. }) = device else { continue };
            let counters = mailbox.counters();
            let mut router =
                Router { seats, flushes, services, gone, others: 0, counters, device: index as u16, now_ns };
            let ended = queue.poll(budgets.completions, &mut |completion| router.completed(completion));
            if let Some(schedule) = schedule {
                schedule.ended(ended - router.others);
                *contended |= schedule.open(|| queue.in_flight_total(), seats, now_ns);
            }
            taken += ended;
        }
        taken
    }

    /// Submits what has found its lane full in an earlier breath. Before the channels have their turn: they would fill the
    /// lane again, for as long as their guests have requests, and a flush or a command of control's own would never have its own (V4).
    fn submit_waiting(&mut self) {
        if !self.pending.is_empty() {
            self.submit_services();
        }
        self.submit_flushes();
    }

    fn submit_flushes(&mut self) {
        let Self { devices, seats, mailbox, .. } = self;
        for Device { queue, flushes, .. } in devices.iter_mut().flatten() {
            flushes.submit(&mut **queue, seats, mailbox.counters());
        }
    }

    /// Gives every channel that has something to do its turn.
    fn serve(&mut self, now_ns: u64, work: &mut Work) {
        let (turns, budget) = (self.turns.len(), self.budgets.requests);
        debug_assert!(self.first_turn <= turns, "a round that begins behind its end");
        for step in 0..turns {
            let place = self.first_turn + step;
            let place = if place < turns { place } else { place - turns };
            let Some(&index) = self.turns.get(place) else { continue };
            if self.seats.get(usize::from(index)).is_some_and(|seat| seat.active) {
                self.serve_in_parts(index, budget, now_ns, work);
            }
        }
        if self.contended {
            self.contended = false;
            self.serve_all_contended(now_ns, work);
        }
        self.first_turn = if self.first_turn + 1 < turns { self.first_turn + 1 } else { 0 };
    }

    /// Gives a channel its turn, of at most `budget` requests. Where commands end as they are submitted, its guest is shown the
    /// answers to one part of what waited while we take the next: else one of the two would always be waiting for the other.
    fn serve_in_parts(&mut self, index: u16, budget: u32, now_ns: u64, work: &mut Work) {
        let part = self.seats.get(usize::from(index)).map_or(u32::MAX, |seat| seat.part);
        let mut left = budget;
        loop {
            let served =
                self.serve_channel(index, Portion { part, ..Portion::whole(left) }, By::Order, now_ns, work);
            left -= served.requests;
            if !served.more || left == 0 {
                work.more |= served.more;
                return;
            }
            if let Some(channel) = self.seats.get_mut(usize::from(index)).and_then(|s| s.channel.as_mut()) {
                channel.show();
            }
        }
    }

    /// Gives a channel a turn, or a part of one.
    pub(crate) fn serve_channel(
        &mut self,
        index: u16,
        mut portion: Portion,
        by: By,
        now_ns: u64,
        work: &mut Work,
    ) -> Served {
        let Self { seats, devices, services, mailbox, .. } = self;
        let none = Served::default();
        let Some(seat) = seats.get_mut(usize::from(index)) else { return none };
        let Some(channel) = &mut seat.channel else { return none };
        let slot = seat.device;
        let Some(Some(device)) = devices.get_mut(usize::from(slot)) else { return none };
        let mut before = 0;
        if let Some(schedule) = &mut device.schedule {
            if by == By::Order {
                portion.budget = portion.budget.min(schedule.allowance(index, now_ns));
                if portion.budget == 0 {
                    self.contended = true;
                    return none;
                }
            }
            before = device.queue.in_flight_total();
        }
        let turn = Turn { now_ns, looked_ns: self.looked_ns, portion };
        let served = channel.serve(turn, &mut *device.queue);
        if let Some(schedule) = &mut device.schedule {
            schedule.sent(device.queue.in_flight_total().saturating_sub(before));
            if by == By::Order && schedule.note(index, &served, now_ns) {
                self.contended = true;
            }
        }
        // What is returned in this breath is published, also of a channel that was not found by a look.
        seat.active = true;
        if !seeded::is(Bug::AskedForEver) {
            seat.asked = Asked::Nothing;
        }
        work.requests += served.requests;
        seat.again = served.again;
        if channel.flush_waits() && !seat.flush_noted {
            seat.flush_noted = true;
            device.flushes.wait(channel.settings().namespace, index);
        }
        let fault = if channel.fault().is_some() { channel.take_fault_report() } else { None };
        let id = channel.id();
        // What has ended where it was submitted is returned while its state is still in the cache.
        if device.queue.has_ended() {
            let Device { queue, flushes, schedule, gone, .. } = device;
            let counters = mailbox.counters();
            let mut router =
                Router { seats, flushes, services, gone, others: 0, counters, device: slot, now_ns };
            let ended = queue.poll(usize::MAX, &mut |completion| router.completed(completion));
            if let Some(schedule) = schedule {
                schedule.ended(ended - router.others);
            }
            work.completions += ended;
        }
        if let Some(fault) = fault {
            // What it is kicked for is of no interest any more.
            self.ignore_channel(index);
            self.changed = true;
            self.report(Report::Quarantined { channel: id, fault });
        }
        served
    }

    /// Lets the guests see what was returned to them. Gives how many were called.
    fn publish(&mut self) -> u64 {
        let mut calls = 0;
        for &index in &self.turns {
            if let Some(seat) = self.seats.get_mut(usize::from(index))
                && seat.active
                && let Some(channel) = &mut seat.channel
            {
                calls += channel.publish();
                seat.active = std::mem::take(&mut seat.again);
            }
        }
        calls
    }

    /// Submits merged flushes, then tells the devices of all that is new.
    fn submit(&mut self) {
        self.submit_flushes();
        let Self { devices, outbox, .. } = self;
        for (index, device) in devices.iter_mut().enumerate() {
            let Some(device) = device else { continue };
            device.queue.ring();
            if device.gone && !std::mem::replace(&mut device.gone_reported, true) {
                outbox.push_back(Report::DeviceGone { device: DeviceSlot(index as u16) });
            }
        }
    }

    pub(crate) fn report(&mut self, report: Report<Q>) {
        self.outbox.push_back(report);
    }

    /// Hands over what control has room for, in order.
    fn send_outbox(&mut self) {
        while let Some(report) = self.outbox.pop_front() {
            if let Err(report) = self.mailbox.report(report) {
                self.outbox.push_front(report);
                break;
            }
        }
    }

    /// Whether a [`crate::Order::Shutdown`] was carried out and all reports are handed over.
    #[must_use]
    pub fn is_shut_down(&self) -> bool {
        self.shut_down && self.outbox.is_empty()
    }

    /// Lets `look` see a device's queue between two breaths.
    pub fn with_queue<T>(&mut self, device: DeviceSlot, look: impl FnOnce(&mut Q) -> T) -> Option<T> {
        self.devices.get_mut(usize::from(device.0))?.as_mut().map(|device| look(&mut *device.queue))
    }

    /// Lets `look` see a channel between two breaths.
    pub fn with_channel<T>(&mut self, id: ChannelId, look: impl FnOnce(&mut BlockChannel) -> T) -> Option<T> {
        self.changed = true;
        self.channel_mut(id).map(look)
    }

    /// What it has done so far.
    #[must_use]
    pub fn counters(&self) -> &SidecoreCounters {
        self.mailbox.counters()
    }
}
