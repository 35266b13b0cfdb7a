//! Who does what, when: operators, their policies, guests, devices, and crashes.
//!
//! What the control thread does between two waits is one action here, cut short by a crash after each record or label that it makes
//! durable. In between, anybody else may act. Whatever touches a label or the journal runs by the daemon's own procedures.

use stateright::{Model, Property};

use vfiomux_manager::extent::{Extent, minus};
use vfiomux_manager::journal::Record;
use vfiomux_manager::label::LabelledChannel;
use vfiomux_manager::lifecycle::{Admin, Life as _, Oper, Step, verdict_holds};
use vfiomux_manager::procedure::{ARRIVE, Act, CLEAN_UP, CLEAR, CREATE, END, GO_OVER, GROW, SHRINK, STOP};
use vfiomux_manager::recovery::{Findings, find, restored};
use vfiomux_policy::Chain;
use vfiomux_rpc::{Endpoint, EndpointMode};

use crate::bug::Bug;
use crate::plugin::{Lie, create, destroy, tune};
use crate::properties;
use crate::world::{
    Asked, CHANNEL_BLOCKS, Channel, Daemon, Flow, Landing, Left, Operation, Seat, Then, World, blocks,
    holder, pool, reserved, setting,
};

/// The names that operators give, with the reservation that each is asked for with.
const WISHES: [(&str, u64); 2] = [("a", 600), ("b", 400)];
/// What operators retune a channel to.
const TUNED_OPS: u64 = 300;

/// The exploration.
#[derive(Debug, Clone)]
pub(crate) struct Lifecycle {
    pub(crate) left: Left,
    pub(crate) devices: usize,
    /// What operators ask for without a verdict.
    pub(crate) orders: &'static [Order],
    pub(crate) bug: Option<Bug>,
}

/// What somebody does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// An operator asks for something that policies are asked about.
    Ask(usize, Wish),
    /// The plugin answers an operator's question.
    Answer(usize, Lie),
    /// An operator asks for something that needs no verdict.
    Request(String, Order),
    /// What an operation waits for has come.
    Continue(String),
    /// It cannot be had.
    Fail(String),
    /// The deadline of a channel's state passes.
    Overdue(String),
    /// The guest, the front-end or the device does what must not be.
    Fault(String),
    /// A front-end starts a ring.
    Start(String),
    /// A front-end goes away.
    SessionLost(String),
    /// What the first of those that scrub blocks of an earlier run waits for has come.
    Leftover,
    /// A device is taken up after a start.
    Comes(usize),
    /// The daemon is killed.
    Crash,
    /// The daemon is started.
    Restart,
    /// The daemon is killed while it does this, after so many records and labels.
    Cut(Box<Action>, i8),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Wish {
    Create(&'static str, u64),
    Tune(String),
    Destroy(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Order {
    Attach,
    Detach,
    Suspend,
    Resume,
    /// To so many blocks.
    Resize(u64),
    /// To the other device.
    Move,
    /// To the other sidecore.
    Shift,
}

impl Model for Lifecycle {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.left, self.devices)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        let first = actions.len();
        let Some(daemon) = &world.daemon else {
            actions.push(Action::Restart);
            if world.left.crashes > 0 {
                actions.extend((1..4).map(|writes| Action::Cut(Box::new(Action::Restart), writes)));
            }
            return;
        };
        let Left { requests, crashes, faults, created } = world.left;
        for operator in 0..daemon.asked.len() {
            match &daemon.asked[operator] {
                Some(_) => actions.extend(Lie::ALL.map(|lie| Action::Answer(operator, lie))),
                // Operators are alike: the second acts only while the first waits.
                None if requests > 0 && (operator == 0 || daemon.asked[0].is_some()) => {
                    let wishes = WISHES.iter().map(|&(name, ops)| Wish::Create(name, ops));
                    let wishes = wishes.filter(|_| created > 0);
                    let ids = || daemon.channels.keys().cloned();
                    let wishes = wishes.chain(ids().map(Wish::Tune)).chain(ids().map(Wish::Destroy));
                    actions.extend(wishes.map(|wish| Action::Ask(operator, wish)));
                }
                None => {}
            }
        }
        for (id, channel) in &daemon.channels {
            if requests > 0 {
                actions.extend(self.orders.iter().map(|&order| Action::Request(id.clone(), order)));
            }
            if channel.flow.is_some() {
                actions.push(Action::Continue(id.clone()));
            }
            if faults > 0 {
                if channel.flow.as_ref().is_some_and(may_fail) {
                    actions.push(Action::Fail(id.clone()));
                }
                if channel.armed {
                    actions.push(Action::Overdue(id.clone()));
                }
                // Sidecores tell of it.
                if daemon.seats.contains_key(id) {
                    actions.push(Action::Fault(id.clone()));
                }
            }
            match channel.setting.oper {
                Oper::Listening if channel.flow.is_none() => actions.push(Action::Start(id.clone())),
                Oper::Active if channel.flow.is_none() && faults > 0 => {
                    actions.push(Action::SessionLost(id.clone()))
                }
                _ => {}
            }
        }
        if !daemon.leftovers.is_empty() {
            actions.push(Action::Leftover);
        }
        let absent = (0..self.devices).filter(|&device| daemon.pools[device].is_none());
        actions.extend(absent.map(Action::Comes));
        if crashes > 0 {
            let cut: Vec<Action> = actions[first..]
                .iter()
                .flat_map(|action| (1..3).map(|writes| Action::Cut(Box::new(action.clone()), writes)))
                .collect();
            actions.extend(cut);
            actions.push(Action::Crash);
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        if let Action::Cut(action, writes) = action {
            world.writes_left = Some(writes);
            self.act(&mut world, *action)?;
            // It was cut short only when something did not become durable.
            let cut = world.writes_left.take().is_some_and(|left| left < 0);
            return cut.then(|| {
                crash(&mut world);
                world
            });
        }
        self.act(&mut world, action)?;
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}

fn crash(world: &mut World) {
    world.daemon = None;
    world.left.crashes -= 1;
}

impl Lifecycle {
    /// Does it; `None` when it is refused, or changes nothing.
    fn act(&self, world: &mut World, action: Action) -> Option<()> {
        match action {
            Action::Ask(operator, wish) => self.ask(world, operator, wish),
            Action::Answer(operator, lie) => self.answer(world, operator, lie),
            Action::Request(id, order) => self.request(world, &id, order),
            Action::Continue(id) => self.go_on(world, &id),
            Action::Fail(id) => self.fail(world, &id),
            Action::Overdue(id) => {
                world.left.faults -= 1;
                world.with(&id, |channel| channel.armed = false);
                match world.oper(&id)? {
                    Oper::Quiescing => self.quarantine(world, &id),
                    Oper::Defined => world.step(&id, Step::Overdue, self.bug),
                    // It is told, and the operation goes on by harder means. So it stays armed, as far as anybody can see.
                    _ => return None,
                }
                Some(())
            }
            Action::Fault(id) => {
                world.left.faults -= 1;
                world.oper(&id)?.after(Step::Fault)?;
                self.quarantine(world, &id);
                Some(())
            }
            Action::Start(id) => {
                world.step(&id, Step::Start, self.bug);
                world.guest_writes(&id);
                Some(())
            }
            Action::SessionLost(id) => {
                world.left.faults -= 1;
                world.step(&id, Step::SessionLost, self.bug);
                Some(())
            }
            Action::Leftover => {
                let leftover = world.daemon.as_mut()?.leftovers.remove(0);
                self.has_come(world, leftover, true);
                Some(())
            }
            Action::Comes(device) => {
                self.comes(world, device);
                Some(())
            }
            Action::Crash => {
                crash(world);
                Some(())
            }
            Action::Restart => {
                self.restart(world);
                Some(())
            }
            Action::Cut(..) => None,
        }
    }

    fn ask(&self, world: &mut World, operator: usize, wish: Wish) -> Option<()> {
        world.left.requests -= 1;
        let daemon = world.daemon.as_mut()?;
        let asked = match wish {
            Wish::Create(name, ops) => {
                if daemon.named(name).is_some() {
                    return None;
                }
                let extents = match self.bug {
                    Some(Bug::BlocksCheckThenAct) => daemon.pool(0)?.clone().take(CHANNEL_BLOCKS).ok()?,
                    _ => Vec::new(),
                };
                if self.bug == Some(Bug::ReserveCheckThenAct) {
                    daemon.align();
                    daemon.books[0].clone().take(&holder(&setting("new", name, ops)), ops).ok()?;
                }
                Asked::Create { name, ops, extents }
            }
            Wish::Tune(id) => {
                let generation = free(world, &id)?;
                world.oper(&id)?.may_be_tuned().then_some(())?;
                Asked::Tune { id, ops: TUNED_OPS, generation }
            }
            Wish::Destroy(id) => {
                let generation = free(world, &id)?;
                world.oper(&id)?.after(Step::Destroy)?;
                Asked::Destroy { id, generation }
            }
        };
        world.daemon.as_mut()?.asked[operator] = Some(asked);
        Some(())
    }

    /// A verdict has come. Whatever it says, the question is over; and whatever was true when it was asked is looked at again.
    fn answer(&self, world: &mut World, operator: usize, lie: Lie) -> Option<()> {
        let asked = world.daemon.as_mut()?.asked[operator].take()?;
        let mut chain = Chain::default();
        chain.push(Box::new(lie));
        match asked {
            Asked::Create { name, ops, extents } => {
                let ruling = chain.ask(create(name, ops));
                if let Ok(allowed) = ruling.outcome {
                    let ops = allowed.channel.guarantees.reservation_ops.unwrap_or(0);
                    self.define(world, name, ops, extents);
                }
            }
            Asked::Tune { id, ops, generation } => {
                let ruling = chain.ask(tune(&id, ops, generation));
                if let Ok(allowed) = ruling.outcome
                    && self.still_holds(world, &id, ruling.generation)
                    && free(world, &id).is_some()
                    && world.oper(&id).is_some_and(Oper::may_be_tuned)
                {
                    self.tune(world, &id, allowed.wanted.guarantees.reservation_ops.unwrap_or(0));
                }
            }
            Asked::Destroy { id, generation } => {
                let ruling = chain.ask(destroy(&id, generation));
                if ruling.outcome.is_ok()
                    && self.still_holds(world, &id, ruling.generation)
                    && free(world, &id).is_some()
                    && world.oper(&id).is_some_and(|oper| oper.after(Step::Destroy).is_some())
                {
                    self.begin(world, &id, STOP, Then::End);
                }
            }
        }
        Some(())
    }

    /// Whether a verdict still holds (P1).
    fn still_holds(&self, world: &mut World, id: &str, asked: u64) -> bool {
        let now = world.channel(id).map(|channel| channel.setting.generation);
        let holds = verdict_holds(asked, now);
        world.seen.outdated |= !holds;
        let carried_out = holds || self.bug == Some(Bug::AmendAfterChange);
        if carried_out && now.is_some_and(|now| now != asked) {
            world.seen.broken.insert("P1");
        }
        carried_out
    }

    fn define(&self, world: &mut World, name: &'static str, ops: u64, seen_free: Vec<Extent>) -> Option<()> {
        let daemon = world.daemon.as_mut()?;
        let created = world.left.created.checked_sub(1)?;
        if daemon.named(name).is_some() {
            return None;
        }
        // Its device has to be here.
        daemon.pool(0)?;
        let id = format!("c{}", world.left.created);
        let setting = setting(&id, name, ops);
        if self.bug != Some(Bug::ReserveCheckThenAct) {
            daemon.align();
            daemon.books[0].take(&holder(&setting), ops).ok()?;
        }
        let extents = match self.bug {
            Some(Bug::BlocksCheckThenAct) => seen_free,
            _ => match daemon.pool(0)?.take(CHANNEL_BLOCKS) {
                Ok(extents) => extents,
                Err(_) => {
                    daemon.give_reservations_back(&id);
                    return None;
                }
            },
        };
        world.left.created = created;
        world.seen.reused |= !world.seen.destroyed.is_empty();
        world.seen.promised.insert(id.clone(), ops);
        let channel = Channel { setting, device: Some(0), extents, flow: None, armed: true };
        world.daemon.as_mut()?.channels.insert(id.clone(), channel);
        self.begin(world, &id, CREATE, Then::Over);
        Some(())
    }

    fn tune(&self, world: &mut World, id: &str, ops: u64) -> Option<()> {
        let channel = world.channel(id)?;
        if channel.setting.guarantees.reservation_ops.unwrap_or(0) == ops {
            return None;
        }
        let (holder, device) = (holder(&channel.setting), channel.device?);
        let daemon = world.daemon.as_mut()?;
        daemon.align();
        daemon.books[device].take(&holder, ops).ok()?;
        world.change(id, |setting| setting.guarantees.reservation_ops = Some(ops).filter(|&ops| ops > 0));
        world.with(id, |channel| channel.flow = Some(Flow::Retune));
        Some(())
    }

    fn request(&self, world: &mut World, id: &str, order: Order) -> Option<()> {
        world.left.requests -= 1;
        let forced = self.bug == Some(Bug::SuspendDuringDestroy) && order == Order::Suspend;
        if !forced {
            free(world, id)?;
        }
        let oper = world.oper(id)?;
        match order {
            Order::Attach => {
                oper.after(Step::Attach)?;
                let endpoint = Endpoint { path: "s".into(), mode: EndpointMode::Server };
                world.change(id, |setting| setting.endpoint = Some(endpoint));
                world.step(id, Step::Attach, self.bug);
            }
            Order::Detach => {
                oper.after(Step::Detach)?;
                world.change(id, |setting| setting.endpoint = None);
                world.with(id, |channel| channel.flow = Some(Flow::Detach));
            }
            Order::Suspend => {
                if !forced {
                    oper.after(Step::Suspend)?;
                }
                world.change(id, |setting| setting.admin = Admin::Suspended);
                self.suspend_now(world, id);
            }
            Order::Resume => {
                oper.after(Step::ResumeDetached)?;
                if oper == Oper::Quarantined && world.daemon.as_ref()?.seats.contains_key(id) {
                    return None;
                }
                world.change(id, |setting| setting.admin = Admin::Enabled);
                let flow = if oper == Oper::Quarantined { Flow::Reseat } else { Flow::Resume };
                world.with(id, |channel| channel.flow = Some(flow));
            }
            Order::Resize(wanted) => self.resize(world, id, wanted)?,
            Order::Move => self.move_over(world, id)?,
            Order::Shift => {
                oper.steady().then_some(())?;
                world.seat(id)?;
                world.with(id, |channel| channel.flow = Some(Flow::Take));
            }
        }
        Some(())
    }

    fn resize(&self, world: &mut World, id: &str, wanted: u64) -> Option<()> {
        world.oper(id)?.steady().then_some(())?;
        let channel = world.channel(id)?;
        let (device, mut extents) = (channel.device?, channel.extents.clone());
        let had = blocks(&extents).count() as u64;
        let pool = world.daemon.as_mut()?.pool(device)?;
        let (procedure, changed) = if wanted > had {
            let more = pool.take(wanted - had).ok()?;
            extents.extend(&more);
            (GROW, more)
        } else {
            let last = blocks(&extents).skip(wanted as usize).map(|start| Extent { start, blocks: 1 });
            let lost: Vec<Extent> = last.collect();
            extents = minus(&extents, &lost);
            (SHRINK, lost)
        };
        (wanted != had).then_some(())?;
        let then = if procedure == GROW { Then::Grown } else { Then::Over };
        let operation = self.operation(procedure, id, device, changed, then);
        self.go_on_with(world, Operation { wanted: extents, ..operation });
        Some(())
    }

    fn move_over(&self, world: &mut World, id: &str) -> Option<()> {
        world.oper(id)?.steady().then_some(())?;
        world.seat(id)?;
        let channel = world.channel(id)?;
        let (device, setting) = (1 - channel.device?, channel.setting.clone());
        let left = (world.disk.labels[device].pool.clone(), id.to_owned());
        if world.disk.journal.elsewhere.contains(&left) && self.bug != Some(Bug::MoveOntoLeftover) {
            return None;
        }
        let wanted = blocks(&channel.extents).count() as u64;
        let daemon = world.daemon.as_mut()?;
        daemon.align();
        daemon.pool(device)?;
        daemon.books[device].take(&holder(&setting), reserved(&setting)).ok()?;
        let Ok(extents) = daemon.pool(device)?.take(wanted) else {
            daemon.give_reservations_back(id);
            return None;
        };
        let arrive = self.operation(ARRIVE, id, device, extents, Then::Copy);
        self.go_on_with(world, arrive);
        Some(())
    }

    fn suspend_now(&self, world: &mut World, id: &str) {
        world.step(id, Step::Suspend, self.bug);
        world.with(id, |channel| channel.flow = Some(Flow::Quiesce));
    }

    fn quarantine(&self, world: &mut World, id: &str) {
        if world.oper(id).and_then(|oper| oper.after(Step::Fault)).is_some() {
            world.step(id, Step::Fault, self.bug);
            self.unseat(world, id);
        }
    }

    /// Gives a channel a place, with what its setting promises and all that it has.
    pub(crate) fn seat(&self, world: &mut World, id: &str, line: u8) -> Option<()> {
        let channel = world.channel(id)?;
        let (ops, extents) = (reserved(&channel.setting), channel.extents.clone());
        let seat = Seat { line, device: channel.device?, ops, extents };
        world.daemon.as_mut()?.seats.entry(id.to_owned()).or_default().push(seat);
        world.guest_writes(id);
        Some(())
    }

    pub(crate) fn unseat(&self, world: &mut World, id: &str) {
        if let Some(daemon) = &mut world.daemon {
            daemon.seats.remove(id);
        }
    }

    /// An operation is over.
    pub(crate) fn over(&self, world: &mut World, id: &str) {
        world.with(id, |channel| channel.flow = None);
        if let Some(daemon) = &mut world.daemon {
            daemon.give_reservations_back(id);
        }
    }

    /// What an operation waited for has come.
    fn go_on(&self, world: &mut World, id: &str) -> Option<()> {
        let channel = world.channel(id)?;
        let (flow, oper) = (channel.flow.clone()?, channel.setting.oper);
        let next = |world: &mut World, flow| world.with(id, |channel| channel.flow = Some(flow));
        match flow {
            Flow::Operation(operation) => self.has_come(world, operation, true),
            Flow::Retune => {
                let ops = reserved(&world.channel(id)?.setting);
                if let Some(seat) = world.seat(id) {
                    seat.ops = ops;
                }
                self.over(world, id);
            }
            Flow::Detach => {
                world.step(id, Step::Detach, self.bug);
                self.over(world, id);
            }
            Flow::Quiesce => {
                if oper == Oper::Quiescing {
                    world.step(id, Step::Drained, self.bug);
                }
                self.over(world, id);
            }
            Flow::Resume => {
                // What put it into quarantine meanwhile has the last word.
                if oper == Oper::Suspended || self.bug == Some(Bug::ResumeAfterFault) {
                    let attached = world.channel(id)?.setting.endpoint.is_some();
                    let step = if attached { Step::ResumeListening } else { Step::ResumeDetached };
                    world.step(id, step, self.bug);
                }
                self.over(world, id);
            }
            Flow::Reseat => {
                self.seat(world, id, 0);
                world.step(id, Step::ResumeDetached, self.bug);
                if world.channel(id)?.setting.endpoint.is_some() {
                    world.step(id, Step::Attach, self.bug);
                }
                self.over(world, id);
            }
            Flow::BringBack => {
                self.seat(world, id, 0);
                self.over(world, id);
                if world.channel(id)?.setting.endpoint.is_some() {
                    world.step(id, Step::Attach, self.bug);
                }
                let wanted = &world.channel(id)?.setting;
                if wanted.admin == Admin::Suspended && wanted.oper.after(Step::Suspend).is_some() {
                    self.suspend_now(world, id);
                }
            }
            Flow::Copy(target) => {
                for block in blocks(&target.extents) {
                    world.disk.data.insert((target.device, block), id.to_owned());
                }
                match oper.steady() {
                    true => next(world, Flow::TakeOver(target)),
                    false => self.clear(world, id, target),
                }
            }
            // Whatever came in between, it stays where it was.
            Flow::TakeOver(target) if !oper.steady() => self.clear(world, id, target),
            Flow::TakeOver(target) => {
                self.unseat(world, id);
                let (Landing { device, extents }, had) = (target, world.channel(id)?.extents.clone());
                let go_over = self.operation(GO_OVER, id, device, extents, Then::PlaceOver);
                self.go_on_with(world, Operation { wanted: had, ..go_over });
            }
            Flow::PlaceOver(left) => {
                self.place(world, id, 0);
                self.clear(world, id, left);
            }
            Flow::Take => {
                if self.bug == Some(Bug::PlaceBeforeTaken) {
                    self.place(world, id, 1);
                } else {
                    self.unseat(world, id);
                }
                next(world, Flow::Place);
            }
            Flow::Place => {
                if self.bug == Some(Bug::PlaceBeforeTaken) {
                    self.unseat(world, id);
                }
                self.place(world, id, 1);
                self.over(world, id);
            }
        }
        Some(())
    }

    /// What an operation waited for cannot be had.
    fn fail(&self, world: &mut World, id: &str) -> Option<()> {
        world.left.faults -= 1;
        match world.channel(id)?.flow.clone()? {
            Flow::Operation(operation) => self.has_come(world, operation, false),
            Flow::BringBack => {
                self.over(world, id);
                self.quarantine(world, id);
            }
            Flow::Copy(target) => self.clear(world, id, target),
            _ => return None,
        }
        Some(())
    }

    /// Gives a channel that was taken a place again, unless it has been quarantined meanwhile.
    pub(crate) fn place(&self, world: &mut World, id: &str, line: u8) {
        if world.oper(id).is_some_and(Oper::steady) {
            self.seat(world, id, line);
        }
    }

    /// Takes a channel's blocks from where it is not.
    pub(crate) fn clear(&self, world: &mut World, id: &str, left: Landing) {
        let clear = self.operation(CLEAR, id, left.device, left.extents, Then::Over);
        self.go_on_with(world, clear);
    }

    /// A start: what the journal says, until the devices are there. With only one device, that is there at once.
    fn restart(&self, world: &mut World) {
        let mut daemon = Daemon::new(vec![None; self.devices]);
        for (id, setting) in &world.disk.journal.channels {
            if setting.oper != Oper::Destroyed {
                let (setting, extents) = (setting.clone(), Vec::new());
                let channel = Channel { setting, device: None, extents, flow: None, armed: false };
                daemon.channels.insert(id.clone(), channel);
            }
        }
        world.daemon = Some(daemon);
        if self.devices == 1 {
            self.comes(world, 0);
        }
    }

    /// A device is taken up.
    fn comes(&self, world: &mut World, device: usize) -> Option<()> {
        let label = world.disk.labels[device].clone();
        let Findings { present, stale, cleared, unnamed } = find(&world.disk.journal, &[&label]);
        let mut free = pool();
        for extents in label.channels.iter().map(|entry| &entry.extents).chain([&label.unscrubbed]) {
            if free.take_exactly(extents).is_err() {
                world.seen.broken.insert("ISO1");
            }
        }
        world.daemon.as_mut()?.pools[device] = Some(free);
        for (pool, id) in cleared {
            world.write(&Record::Cleared { pool, id });
        }
        for (_, entry) in stale {
            let clear = self.operation(CLEAR, &entry.id, device, entry.extents, Then::Leftover);
            self.go_on_with(world, clear);
        }
        for id in unnamed {
            let unfinished = matches!(
                world.disk.journal.channels[&id].oper,
                Oper::Defined | Oper::Failed | Oper::Draining | Oper::Scrubbing | Oper::Destroyed
            );
            if !unfinished {
                world.seen.broken.insert("T3");
            }
            world.daemon.as_mut()?.channels.remove(&id);
            self.forget(world, &id);
        }
        if !label.unscrubbed.is_empty() {
            let clean_up = self.operation(CLEAN_UP, "", device, label.unscrubbed.clone(), Then::Leftover);
            self.go_on_with(world, clean_up);
        }
        for (_, entry) in present {
            self.restore(world, device, &label.pool, entry);
        }
        world.daemon.as_mut()?.align();
        Some(())
    }

    fn restore(&self, world: &mut World, device: usize, pool: &str, entry: LabelledChannel) -> Option<()> {
        let id = entry.id.clone();
        let setting = restored(world.disk.journal.channels.get(&id).cloned(), pool, &entry);
        world.write(&Record::Setting(Box::new(setting.clone())));
        let (oper, armed) = (setting.oper, setting.oper.deadline().is_some());
        let flow = (oper == Oper::Provisioned).then_some(Flow::BringBack);
        let channel = Channel { setting, device: Some(device), extents: entry.extents, flow, armed };
        world.daemon.as_mut()?.channels.insert(id.clone(), channel);
        if oper == Oper::Scrubbing {
            self.begin(world, &id, END, Then::Over);
        }
        Some(())
    }

    /// Nothing of a channel is left.
    pub(crate) fn forget(&self, world: &mut World, id: &str) {
        world.write(&Record::Forgotten { id: id.to_owned() });
        if world.is_powered() {
            world.seen.destroyed.insert(id.to_owned());
            world.seen.promised.remove(id);
        }
    }
}

/// Whether what an operation waits for may not come, though nothing else has happened.
fn may_fail(flow: &Flow) -> bool {
    match flow {
        Flow::Operation(operation) => operation.procedure.first().is_some_and(|stage| match stage.act {
            Act::Enter | Act::KeepBack | Act::Carve | Act::Leave | Act::Clean => {
                !operation.extents.is_empty()
            }
            act => matches!(act, Act::Seat | Act::Scrub),
        }),
        Flow::BringBack | Flow::Copy(_) => true,
        _ => false,
    }
}

/// The generation of a channel that is here, and on which no operation is under way.
fn free(world: &World, id: &str) -> Option<u64> {
    let channel = world.channel(id)?;
    (channel.flow.is_none() && channel.device.is_some()).then_some(channel.setting.generation)
}
