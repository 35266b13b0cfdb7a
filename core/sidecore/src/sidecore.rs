use std::collections::VecDeque;
use std::sync::Arc;

use vfiomux_block::BlockQueue;
use vfiomux_channel::{BlockChannel, ChannelId};

use crate::answer::Pending;
use crate::device::{Device, Router, Seat};
use crate::mailbox::Mailbox;
use crate::service::Services;
use crate::{DeviceSlot, Handle, Mode, Report, SidecoreCounters, SidecoreError};

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

/// Devices and channels, served breath by breath. Belongs to one thread at a time.
#[derive(Debug)]
pub struct Sidecore<Q: BlockQueue> {
    pub(crate) mailbox: Arc<Mailbox<Q>>,
    pub(crate) budgets: Budgets,
    pub(crate) devices: Vec<Option<Device<Q>>>,
    pub(crate) seats: Vec<Seat>,
    /// Indices of the seats that are taken, in the order in which they take their turns.
    pub(crate) turns: Vec<u16>,
    /// Whose turn comes first in the next breath, by place in `turns`.
    first_turn: usize,
    pub(crate) services: Services,
    /// Orders that wait for something.
    pub(crate) pending: Vec<Pending<Q>>,
    /// Reports that control has left no room for yet.
    pub(crate) outbox: VecDeque<Report<Q>>,
    /// Counts changes of the descriptors that are slept on.
    pub(crate) wake_sources: u64,
    /// What its thread does when there is nothing to do.
    pub(crate) mode: Mode,
    pub(crate) shut_down: bool,
}

impl<Q: BlockQueue> Sidecore<Q> {
    /// A sidecore with nothing to serve, and control's end of it. The mailbox holds `orders_max` orders, and as many reports.
    pub fn new(budgets: Budgets, orders_max: usize) -> Result<(Self, Handle<Q>), SidecoreError> {
        let mailbox = Mailbox::new(orders_max)?;
        let handle = Handle::new(mailbox.clone());
        let sidecore = Self {
            mailbox,
            budgets,
            devices: Vec::new(),
            seats: Vec::new(),
            turns: Vec::new(),
            first_turn: 0,
            services: Services::default(),
            pending: Vec::new(),
            outbox: VecDeque::new(),
            wake_sources: 0,
            mode: Mode::default(),
            shut_down: false,
        };
        Ok((sidecore, handle))
    }

    /// One bounded round of everything. `now_ns` is any clock that does not go backwards.
    pub fn breath(&mut self, now_ns: u64) -> Work {
        let mut work = Work { orders: self.take_orders(now_ns), ..Work::default() };
        work.completions = self.poll(now_ns);
        self.submit_waiting();
        self.serve(now_ns, &mut work);
        self.submit();
        // After the doorbells: while the guests are being told, the devices are already at work.
        for &index in &self.turns {
            if let Some(channel) =
                self.seats.get_mut(usize::from(index)).and_then(|seat| seat.channel.as_mut())
            {
                work.calls += channel.publish();
            }
        }
        if !self.pending.is_empty() {
            self.settle();
        }
        self.answer_services();
        if !self.outbox.is_empty() {
            self.send_outbox();
        }
        let counters = self.counters();
        counters.breaths.add(1);
        counters.busy_breaths.add(u64::from(!work.is_idle()));
        work
    }

    /// Takes every device's completions to whom they belong.
    fn poll(&mut self, now_ns: u64) -> usize {
        let Self { devices, seats, services, mailbox, budgets, .. } = self;
        let mut taken = 0;
        for (index, device) in devices.iter_mut().enumerate() {
            let Some(Device { queue, flushes, gone, .. }) = device else { continue };
            let counters = mailbox.counters();
            let mut router =
                Router { seats, flushes, services, gone, counters, device: index as u16, now_ns };
            taken += queue.poll(budgets.completions, &mut |completion| router.completed(completion));
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

    /// Gives every channel its turn.
    fn serve(&mut self, now_ns: u64, work: &mut Work) {
        let turns = self.turns.len();
        for step in 0..turns {
            let place = (self.first_turn + step) % turns;
            let Some(&index) = self.turns.get(place) else { continue };
            let Some(seat) = self.seats.get_mut(usize::from(index)) else { continue };
            let Some(channel) = &mut seat.channel else { continue };
            let Some(Some(device)) = self.devices.get_mut(usize::from(seat.device)) else { continue };
            let served = channel.serve(now_ns, self.budgets.requests, &mut *device.queue);
            work.requests += served.requests;
            work.more |= served.more;
            if channel.flush_waits() && !seat.flush_noted {
                seat.flush_noted = true;
                device.flushes.wait(channel.settings().namespace, index);
            }
            if channel.fault().is_some()
                && let Some(fault) = channel.take_fault_report()
            {
                let channel = channel.id();
                self.wake_sources += 1;
                self.report(Report::Quarantined { channel, fault });
            }
        }
        self.first_turn = if turns == 0 { 0 } else { (self.first_turn + 1) % turns };
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
        self.channel_mut(id).map(look)
    }

    /// What it has done so far.
    #[must_use]
    pub fn counters(&self) -> &SidecoreCounters {
        self.mailbox.counters()
    }
}
