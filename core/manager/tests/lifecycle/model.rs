//! Who does what, when: operators, their policies, guests, devices, and crashes.
//!
//! The steps of an operation are those of the daemon's control thread: what it does between two waits is one action here, cut
//! short by a crash after each record or label that it makes durable. In between, anybody else may act.

use stateright::{Model, Property};

use vfiomux_manager::extent::Extent;
use vfiomux_manager::journal::Record;
use vfiomux_manager::lifecycle::{Admin, Life as _, Oper, Step, after_restart, verdict_holds};
use vfiomux_policy::Chain;
use vfiomux_rpc::{Endpoint, EndpointMode};

use crate::bug::Bug;
use crate::plugin::{Lie, create, destroy, tune};
use crate::properties;
use crate::world::{Asked, CHANNEL_BLOCKS, Channel, Daemon, Flow, Left, World, blocks, holder, setting};

/// The names that operators give, with the reservation that each is asked for with.
const WISHES: [(&str, u64); 2] = [("a", 600), ("b", 400)];
/// What operators retune a channel to.
const TUNED_OPS: u64 = 300;

/// The exploration.
#[derive(Debug, Clone)]
pub(crate) struct Lifecycle {
    pub(crate) left: Left,
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
    /// Blocks left over from an earlier run read as zeroes.
    Leftovers,
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
}

impl Model for Lifecycle {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.left)]
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
                let orders = [Order::Attach, Order::Detach, Order::Suspend, Order::Resume];
                actions.extend(orders.map(|order| Action::Request(id.clone(), order)));
            }
            if channel.flow.is_some() {
                actions.push(Action::Continue(id.clone()));
            }
            if faults > 0 {
                if matches!(channel.flow, Some(Flow::Label | Flow::Seat | Flow::Zero | Flow::BringBack)) {
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
            actions.push(Action::Leftovers);
        }
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
                let owned = world.channel(&id)?.extents.clone();
                for block in blocks(&owned) {
                    world.disk.data.insert(block, id.clone());
                }
                Some(())
            }
            Action::SessionLost(id) => {
                world.left.faults -= 1;
                world.step(&id, Step::SessionLost, self.bug);
                Some(())
            }
            Action::Leftovers => {
                let daemon = world.daemon.as_mut()?;
                let leftovers = std::mem::take(&mut daemon.leftovers);
                self.clean(world, &leftovers);
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
                    Some(Bug::BlocksCheckThenAct) => daemon.pool.clone().take(CHANNEL_BLOCKS).ok()?,
                    _ => Vec::new(),
                };
                if self.bug == Some(Bug::ReserveCheckThenAct) {
                    daemon.align();
                    daemon.book.clone().take(&holder(&setting("new", name, ops)), ops).ok()?;
                }
                Asked::Create { name, ops, extents }
            }
            Wish::Tune(id) => {
                let generation = free(world, &id)?;
                may_be_tuned(world.oper(&id)?).then_some(())?;
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
                    && world.oper(&id).is_some_and(may_be_tuned)
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
                    world.with(&id, |channel| channel.flow = Some(Flow::Unseat));
                    world.step(&id, Step::Destroy, self.bug);
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
        let id = format!("c{}", world.left.created);
        let setting = setting(&id, name, ops);
        if self.bug != Some(Bug::ReserveCheckThenAct) {
            daemon.align();
            daemon.book.take(&holder(&setting), ops).ok()?;
        }
        let extents = match self.bug {
            Some(Bug::BlocksCheckThenAct) => seen_free,
            _ => match daemon.pool.take(CHANNEL_BLOCKS) {
                Ok(extents) => extents,
                Err(_) => {
                    daemon.book.give_back(&id);
                    return None;
                }
            },
        };
        world.left.created = created;
        if blocks(&extents).any(|block| world.disk.data.contains_key(&block)) {
            world.seen.broken.insert("C3");
        }
        world.seen.reused |= !world.seen.destroyed.is_empty();
        if self.bug == Some(Bug::JournalAfterEffect) {
            world.seen.promised.insert(id.clone(), ops);
        } else {
            world.write_setting(&setting);
        }
        let channel = Channel { setting, extents, flow: Some(Flow::Label), armed: true };
        world.daemon.as_mut()?.channels.insert(id, channel);
        Some(())
    }

    fn tune(&self, world: &mut World, id: &str, ops: u64) -> Option<()> {
        let channel = world.channel(id)?;
        if channel.setting.guarantees.reservation_ops.unwrap_or(0) == ops {
            return None;
        }
        let holder = holder(&channel.setting);
        let daemon = world.daemon.as_mut()?;
        daemon.align();
        daemon.book.take(&holder, ops).ok()?;
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
        }
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

    /// Gives a channel a place, with what its setting promises.
    fn seat(&self, world: &mut World, id: &str) -> Option<()> {
        let ops = world.channel(id)?.setting.guarantees.reservation_ops.unwrap_or(0);
        world.daemon.as_mut()?.seats.insert(id.to_owned(), ops);
        Some(())
    }

    fn unseat(&self, world: &mut World, id: &str) {
        if let Some(daemon) = &mut world.daemon {
            daemon.seats.remove(id);
        }
    }

    /// An operation is over.
    fn over(&self, world: &mut World, id: &str) {
        world.with(id, |channel| channel.flow = None);
        if let Some(daemon) = &mut world.daemon {
            daemon.book.give_back(id);
            daemon.align();
        }
    }

    /// What an operation waited for has come.
    fn go_on(&self, world: &mut World, id: &str) -> Option<()> {
        let channel = world.channel(id)?;
        let (flow, oper, extents) = (channel.flow?, channel.setting.oper, channel.extents.clone());
        let next = |world: &mut World, flow| world.with(id, |channel| channel.flow = Some(flow));
        match flow {
            Flow::Label => {
                if world.becomes_durable() {
                    world.disk.labelled.insert(id.to_owned(), extents);
                }
                next(world, Flow::Seat);
            }
            Flow::Seat => {
                if self.bug == Some(Bug::JournalAfterEffect) {
                    let setting = world.channel(id)?.setting.clone();
                    world.write_setting(&setting);
                }
                // Its time may have been up, and then it has failed.
                if oper.after(Step::Realised).is_some() {
                    self.seat(world, id);
                    world.step(id, Step::Realised, self.bug);
                }
                self.over(world, id);
            }
            Flow::Retune => {
                if world.daemon.as_ref()?.seats.contains_key(id) {
                    self.seat(world, id);
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
                self.seat(world, id);
                world.step(id, Step::ResumeDetached, self.bug);
                if world.channel(id)?.setting.endpoint.is_some() {
                    world.step(id, Step::Attach, self.bug);
                }
                self.over(world, id);
            }
            Flow::Unseat => {
                if self.bug != Some(Bug::KeepQueuePair) {
                    self.unseat(world, id);
                }
                world.step(id, Step::Drained, self.bug);
                if extents.is_empty() {
                    self.finish(world, id, true);
                } else {
                    next(world, Flow::Mark);
                }
            }
            Flow::Mark => {
                if world.becomes_durable() {
                    world.disk.labelled.remove(id);
                    if self.bug != Some(Bug::ForgetUnscrubbed) {
                        world.disk.unscrubbed.extend(extents);
                    }
                }
                next(world, Flow::Zero);
            }
            Flow::Zero => {
                for block in blocks(&extents) {
                    world.disk.data.remove(&block);
                }
                next(world, Flow::Clean);
            }
            Flow::Clean => {
                self.clean(world, &extents);
                self.finish(world, id, true);
            }
            Flow::BringBack => {
                self.seat(world, id);
                self.over(world, id);
                if world.channel(id)?.setting.endpoint.is_some() {
                    world.step(id, Step::Attach, self.bug);
                }
                let wanted = &world.channel(id)?.setting;
                if wanted.admin == Admin::Suspended && wanted.oper.after(Step::Suspend).is_some() {
                    self.suspend_now(world, id);
                }
            }
        }
        Some(())
    }

    /// What an operation waited for cannot be had.
    fn fail(&self, world: &mut World, id: &str) -> Option<()> {
        world.left.faults -= 1;
        let channel = world.channel(id)?;
        let (flow, oper, extents) = (channel.flow?, channel.setting.oper, channel.extents.clone());
        match flow {
            Flow::Label | Flow::Seat => {
                if flow == Flow::Label {
                    let daemon = world.daemon.as_mut()?;
                    daemon.pool.give_back(&extents).ok()?;
                    world.with(id, |channel| channel.extents.clear());
                }
                if oper.after(Step::RealiseFailed).is_some() {
                    world.step(id, Step::RealiseFailed, self.bug);
                }
                self.over(world, id);
            }
            Flow::Zero => self.finish(world, id, false),
            Flow::BringBack => {
                self.over(world, id);
                self.quarantine(world, id);
            }
            _ => return None,
        }
        Some(())
    }

    /// Blocks read as zeroes: the label lists them no more, and they are free.
    fn clean(&self, world: &mut World, extents: &[Extent]) -> Option<()> {
        for block in blocks(extents) {
            world.disk.data.remove(&block);
        }
        if world.becomes_durable() {
            world.disk.unscrubbed.retain(|extent| !extents.contains(extent));
        }
        world.daemon.as_mut()?.pool.give_back(extents).ok()
    }

    /// The end of a channel.
    fn finish(&self, world: &mut World, id: &str, scrubbed: bool) {
        world.step(id, if scrubbed { Step::Scrubbed } else { Step::Overdue }, self.bug);
        if let Some(daemon) = &mut world.daemon {
            daemon.channels.remove(id);
        }
        if world.writes_left.is_none_or(|left| left >= 0) {
            world.seen.destroyed.insert(id.to_owned());
            world.seen.promised.remove(id);
        }
        if scrubbed {
            world.write(&Record::Forgotten { id: id.to_owned() });
        }
    }

    /// A start: the journal says what was asked for and what was being done, the label what there is.
    fn restart(&self, world: &mut World) {
        let mut daemon = Daemon::new();
        let labelled = world.disk.labelled.clone();
        for extents in labelled.values().chain([&world.disk.unscrubbed]) {
            if daemon.pool.take_exactly(extents).is_err() {
                world.seen.broken.insert("ISO1");
            }
        }
        daemon.leftovers.clone_from(&world.disk.unscrubbed);
        world.daemon = Some(daemon);
        let unnamed = world.disk.journal.channels.keys().filter(|id| !labelled.contains_key(*id));
        for id in unnamed.cloned().collect::<Vec<_>>() {
            world.write(&Record::Forgotten { id: id.clone() });
            if world.writes_left.is_none_or(|left| left >= 0) {
                world.seen.destroyed.insert(id);
            }
        }
        for (id, extents) in labelled {
            let known = world.disk.journal.channels.get(&id).cloned();
            let was = known.as_ref().map(|setting| setting.oper);
            let mut setting = known.unwrap_or_else(|| setting(&id, &id, 0));
            setting.oper = after_restart(was);
            world.write(&Record::Setting(Box::new(setting.clone())));
            let flow = match setting.oper {
                Oper::Scrubbing => Some(Flow::Mark),
                Oper::Provisioned => Some(Flow::BringBack),
                _ => None,
            };
            let armed = setting.oper.deadline().is_some();
            if let Some(daemon) = &mut world.daemon {
                daemon.channels.insert(id, Channel { setting, extents, flow, armed });
            }
        }
        if let Some(daemon) = &mut world.daemon {
            daemon.align();
        }
    }
}

/// The generation of a channel on which no operation is under way.
fn free(world: &World, id: &str) -> Option<u64> {
    let channel = world.channel(id)?;
    channel.flow.is_none().then_some(channel.setting.generation)
}

fn may_be_tuned(oper: Oper) -> bool {
    matches!(oper, Oper::Provisioned | Oper::Listening | Oper::Active | Oper::Suspended | Oper::Quarantined)
}
