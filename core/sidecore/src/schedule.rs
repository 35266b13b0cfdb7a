//! Whose turn it is on a device whose channels have guarantees.
//!
//! Limits are the channels' own: each asks its account before it takes a request from a ring. What is decided here is the
//! order, and only where there is one to decide. As long as the device has room for all that is asked for, channels have their
//! turns as anywhere else, and nothing is counted but limits. When its window is full and somebody has more, the scheduler gives
//! the turns, a slice each, until nobody has anything left.
//!
//! The window counts commands, not what they cost. What a command costs is known when it is taken; to give its part of the window
//! back, its kind and size would have to be weighed again when it ends, a second multiplication and sum on every request's path. Giving
//! back the mean of what is out costs nothing a request and does not hold: small commands that end early would give back what the large
//! ones that stay have taken, until the window is as many large commands as it is now. So a full window of large commands is long: by the
//! default model a write of 1 MiB costs 257 reads of 4 KiB, and 128 of them are a second's work of a device that does 32 000 such reads.
//! Shares and reservations are of cost all the same; what is bounded by count only is how long somebody waits for what is there already.
//!
//! A request that comes just after a full window was sent waits until one of its commands ends. For whoever was promised something and
//! sends one request at a time, places are kept for a moment when its request has ended: `kept.rs`.
//!
//! A device none of whose channels was promised anything has no schedule, and costs what it would without this file.

use vfiomux_block::BlockQueue;
use vfiomux_channel::{BlockChannel, Portion, Served};
use vfiomux_qos::{Next, NotBefore, Phase, Scheduler, Standing, Window};

use crate::device::{Device, Seat};
use crate::kept::Kept;
use crate::{Pace, Sidecore, Work};

/// The order among the channels of one device.
#[derive(Debug)]
pub(crate) struct Schedule {
    scheduler: Scheduler,
    window: Window,
    /// What a turn may cost.
    slice_cost: u64,
    /// Commands that may still go in this breath: what ends meanwhile makes room for the next.
    left: u32,
    /// And so many beyond those, of whoever is behind its reservation; none where there is room for all.
    reserved: u32,
    kept: Kept,
    /// More is asked for than there is room for.
    contended: bool,
    /// It was so since control was last told how each channel fares.
    untold: bool,
    told_ns: u64,
}

/// Who gives a channel its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// The order in which channels stand, as long as there is room for all that is asked for.
    Order,
    /// The device's scheduler.
    Scheduler,
}

/// How often control is told how each channel fares, while more is asked for than there is room for.
const TOLD_EVERY_NS: u64 = 100_000_000;

impl Schedule {
    fn new(places: u16, window_commands: u32, slice_cost: u64, in_flight: u32) -> Self {
        let mut window = Window::new(window_commands);
        window.sent(in_flight);
        Self {
            scheduler: Scheduler::new(places),
            window,
            slice_cost,
            left: 0,
            reserved: 0,
            kept: Kept::default(),
            contended: false,
            untold: false,
            told_ns: 0,
        }
    }

    /// Begins a breath: sees what the window has room for, and gives a turn to the channels whose limits may have let go. Gives whether
    /// more was asked for than there was room for. `in_flight` are all commands at the device, whosever they are.
    #[inline]
    pub(crate) fn open(&mut self, in_flight: impl Fn() -> usize, seats: &mut [Seat], now_ns: u64) -> bool {
        self.left = self.window.room();
        if self.left == 0 {
            // Commands that nobody counted, control's own and flushes, may have come and gone: they count from now on.
            self.window.ended(u32::MAX);
            self.window.sent(u32::try_from(in_flight()).unwrap_or(u32::MAX));
            self.left = self.window.room();
        }
        if self.scheduler.next_due_ns().is_some_and(|due_ns| due_ns <= now_ns) {
            self.let_go(seats, now_ns);
        }
        if self.contended {
            self.keep_places(seats, now_ns);
        }
        self.contended
    }

    /// Gives a turn to the channels whose limits may have let go.
    #[inline(never)]
    fn let_go(&mut self, seats: &mut [Seat], now_ns: u64) {
        while let Some(place) = self.scheduler.due(now_ns) {
            if let Some(seat) = seats.get_mut(usize::from(place)) {
                seat.active = true;
            }
        }
    }

    /// Commands of channels went to the device.
    pub(crate) fn sent(&mut self, commands: usize) {
        let commands = u32::try_from(commands).unwrap_or(u32::MAX);
        self.reserved = self.reserved.saturating_sub(commands.saturating_sub(self.left));
        self.window.sent(commands);
        self.left = self.left.saturating_sub(commands);
    }

    /// How many requests may still go in this breath in turns of a kind.
    fn left_of(&self, phase: Phase) -> u32 {
        match phase {
            Phase::Reserved => self.left + self.reserved,
            Phase::Shared => self.left,
        }
    }

    /// Lets no more than so many go in this breath.
    fn leave(&mut self, most: u32) {
        self.left = self.left.min(most);
        self.reserved = self.reserved.min(most - self.left);
    }

    /// Keeps places where they are to be kept: of what may go, so much as that a quarter of the window stays free goes by reservation
    /// only.
    #[inline(never)]
    fn keep_places(&mut self, seats: &[Seat], now_ns: u64) {
        let Some(whose) = self.kept.whose() else { return };
        let claim_ns = self.scheduler.claim_ns(whose).unwrap_or(u64::MAX);
        if self.kept.are_kept(has_commands(seats, whose), claim_ns, now_ns) {
            let left = self.left.saturating_sub(self.window.most() / 4);
            (self.left, self.reserved) = (left, self.left - left);
        }
    }

    /// Commands of channels have ended.
    pub(crate) fn ended(&mut self, commands: usize) {
        self.window.ended(u32::try_from(commands).unwrap_or(u32::MAX));
    }

    /// How many requests a channel may take in a turn that the scheduler did not give; none when it is to wait for one that it
    /// gives.
    #[inline]
    pub(crate) fn allowance(&mut self, index: u16, now_ns: u64) -> u32 {
        if self.contended || self.left == 0 {
            self.contended = true;
            self.scheduler.ready(index, now_ns);
            return 0;
        }
        self.left
    }

    /// Notes how a channel stands after such a turn. Gives whether more is asked for than there is room for.
    #[inline]
    pub(crate) fn note(&mut self, index: u16, served: &Served, now_ns: u64) -> bool {
        // Mostly nobody waits for anything, neither this channel nor any other.
        let waits = served.not_before.is_some() || self.left == 0 || !self.scheduler.is_quiet();
        waits && self.note_waiting(index, served.not_before, served.again, now_ns)
    }

    /// The same where somebody waits. Takes values, so that what a turn did stays in registers.
    #[inline(never)]
    fn note_waiting(&mut self, index: u16, later: Option<NotBefore>, again: bool, now_ns: u64) -> bool {
        if let Some(later) = later {
            self.scheduler.throttle(index, later);
        } else if self.left == 0 && again {
            self.contended = true;
            self.scheduler.ready(index, now_ns);
        } else if !self.scheduler.is_quiet() {
            self.scheduler.idle(index);
        }
        self.contended
    }

    /// Lets the device have so many commands from now on.
    pub(crate) fn resize(&mut self, window_commands: u32) {
        self.window.resize(window_commands);
    }

    /// Forgets a channel.
    pub(crate) fn remove(&mut self, place: u16) {
        self.scheduler.remove(place);
        self.kept.forget(place);
    }
}

impl<Q: BlockQueue> Device<Q> {
    /// Commands at the device, whosever they are.
    fn commands_in_flight(&self) -> u32 {
        u32::try_from(self.queue.in_flight_total()).unwrap_or(u32::MAX)
    }
}

/// Whether the channel of a place has commands at its device.
fn has_commands(seats: &[Seat], place: u16) -> bool {
    let channel = seats.get(usize::from(place)).and_then(|seat| seat.channel.as_ref());
    channel.is_some_and(|channel| channel.in_flight() > 0)
}

/// Whether a channel was promised anything, or is held to anything.
fn is_promised(channel: &BlockChannel) -> bool {
    channel.group().is_some() || channel.program().is_some_and(|program| !program.promises_nothing())
}

impl<Q: BlockQueue> Sidecore<Q> {
    /// Gives turns on the devices that more is asked of than they have room for.
    pub(crate) fn serve_all_contended(&mut self, now_ns: u64, work: &mut Work) {
        for slot in 0..self.devices.len() {
            if self.contended(slot).is_some() {
                self.serve_contended(slot, now_ns, work);
            }
        }
    }

    fn serve_contended(&mut self, slot: usize, now_ns: u64, work: &mut Work) {
        while let Some(schedule) = self.contended(slot)
            && let all @ 1.. = schedule.left_of(Phase::Reserved)
            && let Next::Turn(turn) = schedule.scheduler.next(now_ns)
            && let left @ 1.. = schedule.left_of(turn.phase)
        {
            let cost = schedule.slice_cost;
            let alone = turn.phase == Phase::Reserved && !has_commands(&self.seats, turn.place);
            let portion = Portion { cost, ..Portion::whole(left.min(self.budgets.requests)) };
            let served = self.serve_channel(turn.place, portion, By::Scheduler, now_ns, work);
            work.more |= served.more;
            let Some(schedule) = self.contended(slot) else { return };
            // Requests that needed no command count as well: a breath is bounded, whatever a guest asks for.
            schedule.leave(all.saturating_sub(served.requests));
            if alone && served.requests > 0 {
                schedule.kept.went(turn.place, now_ns);
            }
            schedule.scheduler.charge(turn, served.cost);
            if let Some(later) = served.not_before {
                schedule.scheduler.throttle(turn.place, later);
            } else if !served.again {
                schedule.scheduler.idle(turn.place);
            } else if served.requests == 0 {
                // It has no room of its own, and is asked again in the next breath.
                schedule.scheduler.block(turn.place);
            }
        }
        if let Some(schedule) = self.contended(slot) {
            schedule.reserved = 0;
            schedule.contended = schedule.scheduler.backlogged() > 0;
            if !schedule.contended {
                schedule.kept.pause();
            }
            work.more |= schedule.contended;
            schedule.untold = true;
            if now_ns.saturating_sub(schedule.told_ns) >= TOLD_EVERY_NS {
                self.tell_standing(slot, now_ns);
            }
        }
    }

    /// Adds to the counters of a device's channels how each has fared.
    fn tell_standing(&mut self, slot: usize, now_ns: u64) {
        let Self { devices, seats, .. } = self;
        let Some(Some(Device { schedule: Some(schedule), .. })) = devices.get_mut(slot) else { return };
        (schedule.untold, schedule.told_ns) = (false, now_ns);
        for (index, seat) in (0u16..).zip(seats).filter(|(_, seat)| usize::from(seat.device) == slot) {
            if let Some(channel) = &seat.channel {
                let Standing { ready_ns, cost, reserved_due, share_due } =
                    schedule.scheduler.take_standing(index, now_ns);
                let counters = channel.counters();
                counters.contended_ns.add(ready_ns);
                counters.contended_cost.add(cost);
                counters.reserved_due_cost.add(reserved_due);
                counters.share_due_cost.add(share_due);
            }
        }
    }

    /// The same before a sleep, which may be long, of every device that has something untold.
    pub(crate) fn tell_standings(&mut self, now_ns: u64) {
        for slot in 0..self.devices.len() {
            let device = self.devices.get(slot).and_then(Option::as_ref);
            if device.and_then(|device| device.schedule.as_ref()).is_some_and(|schedule| schedule.untold) {
                self.tell_standing(slot, now_ns);
            }
        }
    }

    fn contended(&mut self, slot: usize) -> Option<&mut Schedule> {
        let device = self.devices.get_mut(slot)?.as_mut()?;
        device.schedule.as_deref_mut().filter(|schedule| schedule.contended)
    }

    /// When the first channel that waits for its limit may go on. It wakes us by no descriptor.
    pub(crate) fn next_due_ns(&self) -> Option<u64> {
        let schedules = self.devices.iter().flatten().filter_map(|device| device.schedule.as_ref());
        schedules.filter_map(|schedule| schedule.scheduler.next_due_ns()).min()
    }

    /// A channel has come to a device, or what it is promised has changed. The device has a schedule from the time that one of its
    /// channels is promised something until none is.
    pub(crate) fn enrol(&mut self, index: u16, now_ns: u64) {
        let Some(slot) = self.seats.get(usize::from(index)).map(|seat| seat.device) else { return };
        if self.end_schedule(slot) {
            return;
        }
        let places = u16::try_from(self.seats.len()).unwrap_or(u16::MAX);
        let Self { devices, seats, scheduled, .. } = self;
        let Some(Some(device)) = devices.get_mut(usize::from(slot)) else { return };
        let window_commands = device.window_commands();
        if let Some(schedule) = &mut device.schedule {
            schedule.resize(window_commands);
            if let Some(channel) = seats.get_mut(usize::from(index)).and_then(|seat| seat.channel.as_mut()) {
                schedule.scheduler.make_room(places);
                seat_in(schedule, &device.pace, index, channel, now_ns);
            }
            return;
        }
        let in_flight = device.commands_in_flight();
        let mut schedule = Schedule::new(places, window_commands, device.pace.slice_cost, in_flight);
        for (index, seat) in (0u16..).zip(seats.iter_mut()).filter(|(_, seat)| seat.device == slot) {
            if let Some(channel) = &mut seat.channel {
                seat_in(&mut schedule, &device.pace, index, channel, now_ns);
            }
        }
        device.schedule = Some(Box::new(schedule));
        *scheduled = true;
    }

    /// Takes a device's schedule away when none of its channels is promised anything. False: it needs one.
    pub(crate) fn end_schedule(&mut self, slot: u16) -> bool {
        let Self { devices, seats, .. } = self;
        let here = seats.iter_mut().filter(|seat| seat.device == slot);
        let mut here: Vec<_> = here.filter_map(|seat| seat.channel.as_mut()).collect();
        if here.iter().any(|channel| is_promised(channel)) {
            return false;
        }
        here.iter_mut().for_each(|channel| channel.drop_program());
        if let Some(Some(device)) = devices.get_mut(usize::from(slot)) {
            device.schedule = None;
        }
        self.scheduled = self.devices.iter().flatten().any(|device| device.schedule.is_some());
        self.contended &= self.scheduled;
        true
    }

    /// A device is driven otherwise from now on.
    pub(crate) fn keep_pace(&mut self, slot: u16, now_ns: u64) {
        let Self { devices, seats, .. } = self;
        let Some(Some(device)) = devices.get_mut(usize::from(slot)) else { return };
        let window_commands = device.window_commands();
        let Device { schedule: Some(schedule), pace, .. } = device else { return };
        schedule.resize(window_commands);
        schedule.slice_cost = pace.slice_cost;
        for (index, seat) in (0u16..).zip(seats.iter_mut()).filter(|(_, seat)| seat.device == slot) {
            if let Some(channel) = &mut seat.channel {
                seat_in(schedule, pace, index, channel, now_ns);
            }
        }
    }
}

/// Seats a channel in a schedule, or changes what it is promised there. One that was promised nothing has the usual share.
fn seat_in(schedule: &mut Schedule, pace: &Pace, index: u16, channel: &mut BlockChannel, now_ns: u64) {
    let program = channel.program().copied().unwrap_or_default().recost(pace.cost);
    if channel.program() != Some(&program) {
        channel.set_program(program, now_ns);
    }
    if schedule.scheduler.contains(index) {
        schedule.scheduler.retune(index, &program, now_ns);
    } else {
        // There is a place for every seat.
        let _ = schedule.scheduler.add(index, &program);
    }
}
