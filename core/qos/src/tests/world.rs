//! A device with a known service time, clients with known habits, and somebody who says whose request is next.

use std::collections::VecDeque;
use std::vec::Vec;

use crate::{Account, CostModel, Guarantees, Io, Next, Program, Scheduler, Turn, Window};

/// A millisecond.
pub(super) const MS: u64 = 1_000_000;

/// How a client asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Habit {
    /// Requests that it has with us at a time.
    pub(super) depth: u32,
    /// It asks for so long, is silent for so long, and begins again; never silent when the second is 0.
    pub(super) on_ns: u64,
    pub(super) off_ns: u64,
    /// It is silent before.
    pub(super) from_ns: u64,
}

impl Habit {
    /// There is always a request.
    pub(super) const fn backlogged(depth: u32) -> Self {
        Self { depth, on_ns: 1, off_ns: 0, from_ns: 0 }
    }

    fn asks(&self, now_ns: u64) -> bool {
        let Some(since) = now_ns.checked_sub(self.from_ns) else { return false };
        since % (self.on_ns + self.off_ns) < self.on_ns
    }

    /// When it begins or stops asking next.
    fn turns_at(&self, now_ns: u64) -> Option<u64> {
        if now_ns < self.from_ns {
            return Some(self.from_ns);
        }
        let at = (now_ns - self.from_ns) % (self.on_ns + self.off_ns);
        let left = if at < self.on_ns { self.on_ns - at } else { self.on_ns + self.off_ns - at };
        (self.off_ns > 0).then_some(now_ns + left)
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Client {
    pub(super) guarantees: Guarantees,
    pub(super) io: Io,
    pub(super) habit: Habit,
}

/// What somebody who orders requests says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pick {
    Request(usize),
    NotBefore(u64),
    Nobody,
}

/// Somebody who orders requests.
pub(super) trait Order {
    /// A request of this client has come.
    fn arrived(&mut self, client: usize, now_ns: u64);
    /// The next request for the device, which has room for it.
    fn pick(&mut self, now_ns: u64) -> Pick;
    /// The device has no room for more, or nobody had anything.
    fn pause(&mut self, now_ns: u64);
    /// A client's guarantees change.
    fn retune(&mut self, client: usize, guarantees: &Guarantees, now_ns: u64);
}

/// A request that went to the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) at_ns: u64,
    pub(super) client: usize,
    pub(super) cost: u64,
    pub(super) bytes: u64,
}

/// What happened.
#[derive(Debug, Default)]
pub(super) struct Trace {
    pub(super) sent: Vec<Sent>,
    /// The device had nothing to do.
    pub(super) idle_ns: u64,
    pub(super) until_ns: u64,
}

impl Trace {
    /// Cost units that a client was given in [from, to).
    pub(super) fn cost(&self, client: usize, from_ns: u64, to_ns: u64) -> u64 {
        let within = |sent: &&Sent| sent.client == client && (from_ns..to_ns).contains(&sent.at_ns);
        self.sent.iter().filter(within).map(|sent| sent.cost).sum()
    }
}

/// A change of guarantees: when, whose, to what.
pub(super) type Retune = (u64, usize, Guarantees);

/// A device that works off one command after the other, at so many nanoseconds a cost unit.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) clients: Vec<Client>,
    pub(super) ns_per_unit: u64,
    pub(super) window: u32,
    /// In order of time.
    pub(super) retunes: Vec<Retune>,
    pub(super) clock: Clock,
}

/// What the one who orders takes for the time: true time from somewhere on, set back now and then.
#[derive(Debug, Clone, Default)]
pub(super) struct Clock {
    /// Its reading at the beginning.
    pub(super) epoch_ns: u64,
    /// When it is set back, in true time and in order, and by how much: at most what has passed.
    pub(super) set_back: Vec<(u64, u64)>,
}

impl Clock {
    fn lost_ns(&self, true_ns: u64) -> u64 {
        self.set_back.iter().filter(|step| step.0 <= true_ns).map(|step| step.1).sum()
    }

    /// What it shows. It stops at its end.
    fn reading(&self, true_ns: u64) -> u64 {
        self.epoch_ns.saturating_add(true_ns.saturating_sub(self.lost_ns(true_ns)))
    }

    /// The next true time at which it may show `reading`.
    fn shows_at(&self, reading: u64, true_ns: u64) -> u64 {
        let shows_ns = reading.saturating_sub(self.epoch_ns).saturating_add(self.lost_ns(true_ns));
        let set_back = self.set_back.iter().map(|step| step.0).find(|at_ns| *at_ns > true_ns);
        shows_ns.min(set_back.unwrap_or(u64::MAX))
    }
}

impl World {
    /// A device that does 4000 reads of 4 KiB a second, and may have four of them at a time.
    pub(super) fn new(clients: Vec<Client>) -> Self {
        Self { clients, ns_per_unit: 250_000 / 1024, window: 4, retunes: Vec::new(), clock: Clock::default() }
    }

    /// Cost units a second that the device does.
    pub(super) fn capacity(&self) -> u64 {
        1_000_000_000 / self.ns_per_unit
    }

    pub(super) fn run(&self, until_ns: u64, order: &mut dyn Order) -> Trace {
        let mut window = Window::new(self.window);
        let mut trace = Trace { until_ns, ..Trace::default() };
        // Client and time of completion, in the order of submission.
        let mut at_device: VecDeque<(usize, u64)> = VecDeque::new();
        let mut with_us: Vec<u32> = self.clients.iter().map(|_| 0).collect();
        let mut retunes = self.retunes.iter().peekable();
        let mut free_at_ns = 0;
        let mut now_ns = 0;
        while now_ns < until_ns {
            let shown_ns = self.clock.reading(now_ns);
            while let Some((_, client, guarantees)) = retunes.next_if(|retune| retune.0 <= now_ns) {
                order.retune(*client, guarantees, shown_ns);
            }
            while let Some(&(client, _)) = at_device.front().filter(|done| done.1 <= now_ns) {
                at_device.pop_front();
                with_us[client] -= 1;
                window.ended(1);
            }
            for (client, habit) in self.clients.iter().map(|client| client.habit).enumerate() {
                while habit.asks(now_ns) && with_us[client] < habit.depth {
                    with_us[client] += 1;
                    order.arrived(client, shown_ns);
                }
            }
            let mut due_ns = u64::MAX;
            while window.room() > 0 {
                match order.pick(shown_ns) {
                    Pick::Request(client) => {
                        let io = self.clients[client].io;
                        let cost = u64::from(CostModel::default().cost(io));
                        trace.idle_ns += now_ns.saturating_sub(free_at_ns);
                        free_at_ns = free_at_ns.max(now_ns) + cost * self.ns_per_unit;
                        at_device.push_back((client, free_at_ns));
                        window.sent(1);
                        trace.sent.push(Sent { at_ns: now_ns, client, cost, bytes: u64::from(io.bytes) });
                    }
                    Pick::NotBefore(at_ns) => {
                        due_ns = self.clock.shows_at(at_ns, now_ns);
                        break;
                    }
                    Pick::Nobody => break,
                }
            }
            order.pause(shown_ns);
            let done_ns = at_device.front().map_or(u64::MAX, |done| done.1);
            let turns_ns = self.clients.iter().filter_map(|client| client.habit.turns_at(now_ns)).min();
            let retune_ns = retunes.peek().map_or(u64::MAX, |retune| retune.0);
            now_ns = done_ns.min(due_ns.max(now_ns + 1)).min(turns_ns.unwrap_or(u64::MAX)).min(retune_ns);
        }
        trace
    }
}

/// Ours, used as a sidecore uses it: turns of several requests, charged when they end.
pub(super) struct Ours {
    scheduler: Scheduler,
    accounts: Vec<Account>,
    waiting: Vec<u32>,
    ios: Vec<Io>,
    /// Requests that a turn may take.
    turn_max: u32,
    turn: Option<(Turn, u32, u64)>,
}

impl Ours {
    pub(super) fn new(clients: &[Client], turn_max: u32) -> Self {
        let count = u16::try_from(clients.len()).unwrap();
        let mut scheduler = Scheduler::new(count);
        let mut accounts = Vec::new();
        for (place, client) in (0..).zip(clients) {
            let program = compile(&client.guarantees);
            scheduler.add(place, &program).unwrap();
            accounts.push(Account::new(program, 0));
        }
        let waiting = clients.iter().map(|_| 0).collect();
        let ios = clients.iter().map(|client| client.io).collect();
        Self { scheduler, accounts, waiting, ios, turn_max, turn: None }
    }

    /// Everybody begins with a full burst at this reading of the clock.
    pub(super) fn start_at(&mut self, now_ns: u64) {
        for account in &mut self.accounts {
            *account = Account::new(*account.program(), now_ns);
        }
    }

    fn end_turn(&mut self) {
        let Some((turn, _, cost)) = self.turn.take() else { return };
        self.scheduler.charge(turn, cost);
        if self.waiting[usize::from(turn.place)] == 0 {
            self.scheduler.idle(turn.place);
        }
    }
}

fn compile(guarantees: &Guarantees) -> Program {
    Program::compile(guarantees, CostModel::default()).unwrap()
}

impl Order for Ours {
    fn arrived(&mut self, client: usize, now_ns: u64) {
        self.waiting[client] += 1;
        if self.waiting[client] == 1 {
            self.scheduler.ready(u16::try_from(client).unwrap(), now_ns);
        }
    }

    fn pick(&mut self, now_ns: u64) -> Pick {
        loop {
            let Some((turn, taken, cost)) = &mut self.turn else {
                match self.scheduler.next(now_ns) {
                    Next::Turn(turn) => {
                        self.accounts[usize::from(turn.place)].refill(now_ns);
                        self.turn = Some((turn, 0, 0));
                        continue;
                    }
                    Next::NotBefore(at_ns) => return Pick::NotBefore(at_ns),
                    Next::Nobody => return Pick::Nobody,
                }
            };
            let client = usize::from(turn.place);
            if *taken == self.turn_max || self.waiting[client] == 0 {
                self.end_turn();
                continue;
            }
            match self.accounts[client].admit(self.ios[client]) {
                Ok(one) => {
                    *taken += 1;
                    *cost += u64::from(one);
                    self.waiting[client] -= 1;
                    return Pick::Request(client);
                }
                Err(later) => {
                    self.end_turn();
                    self.scheduler.throttle(u16::try_from(client).unwrap(), later);
                }
            }
        }
    }

    fn pause(&mut self, _now_ns: u64) {
        self.end_turn();
    }

    fn retune(&mut self, client: usize, guarantees: &Guarantees, now_ns: u64) {
        let program = compile(guarantees);
        self.accounts[client].retune(program, now_ns);
        self.scheduler.retune(u16::try_from(client).unwrap(), &program, now_ns);
    }
}
