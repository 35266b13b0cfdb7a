//! What befalls everybody: a device that errs, lanes and controllers that are lost, a back-end that dies.

use vfiomux_block::LaneId;
use vfiomux_nvme::Queue;
use vfiomux_sidecore::{Answer, Order};
use vfiomux_sim::{Action, Fault, Match, QueueMatch};
use vfiomux_spec::nvme::Status;

use super::channel::Task;
use super::host::{DEVICE, Host, Purpose, What};
use super::random::Random;
use super::{Sabotage, World};

/// Steps without progress after which something is done about it.
const STUCK: u64 = 1_500;
/// Steps that a reset may take.
const RESET_MAX: u64 = 20_000;

/// What may befall a world, and what has.
#[derive(Debug, Clone)]
pub(super) struct Calamities {
    /// The device errs.
    faults: bool,
    /// The back-end dies now and then.
    crashes: bool,
    /// The controller is reset, or lost, now and then.
    resets: bool,
    /// Something has gone wrong that requests may have failed for.
    pub(super) disturbed: bool,
    /// Lanes that are being replaced.
    pub(super) swaps: u32,
}

impl Calamities {
    pub(super) fn draw(random: &mut Random) -> Self {
        let calm = random.chance(25);
        Self {
            faults: !calm && random.chance(65),
            crashes: !calm && random.chance(60),
            resets: !calm && random.chance(30),
            disturbed: false,
            swaps: 0,
        }
    }
}

/// How far the reset of the controller has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reset {
    since: u64,
    /// All channels were taken from the sidecore, and the device is next.
    alone: bool,
}

impl World {
    /// The device errs no more.
    pub(super) fn calm(&mut self) {
        self.sim.clear_faults();
        self.calamities.faults = false;
    }

    /// Lets something happen, as `draw` says.
    pub(super) fn befall(&mut self, at: usize, draw: u64) -> Result<(), String> {
        let Calamities { faults, crashes, resets, swaps, .. } = self.calamities;
        match draw {
            52..55 if crashes => self.crash(),
            55..57 if resets => self.begin_reset("the operator wants it"),
            57 if resets => {
                self.disturb();
                let action = self.random.pick(&[Action::Fatal, Action::Vanish]);
                self.inject(action);
                Ok(())
            }
            58..62 if swaps == 0 => {
                let lane = self.channels[at].lane;
                let users = || self.channels.iter().filter(|channel| channel.lane == lane);
                if self.reset.is_none() && users().all(|channel| channel.is_at_rest()) {
                    return self.replace_lane(lane);
                }
                Ok(())
            }
            62.. if faults => {
                let action = match self.random.below(100) {
                    0..25 => Action::DelayNs(self.random.below(3_000_000)),
                    25..50 => Action::HoldBack(self.random.within(1, 40) as u32),
                    50..65 => Action::Duplicate,
                    65..80 => Action::Fail(
                        self.random
                            .pick(&[Status::INTERNAL_ERROR, Status::WRITE_FAULT, Status::UNRECOVERED_READ])
                            .field(),
                    ),
                    80..87 => Action::Drop,
                    87..94 => Action::Hang,
                    // In the bits above the slot's index: such an identifier names no command.
                    _ => Action::WrongCid(1 << self.random.within(6, 15)),
                };
                if !matches!(action, Action::DelayNs(_) | Action::HoldBack(_)) {
                    self.disturb();
                }
                self.inject(action);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn disturb(&mut self) {
        self.calamities.disturbed = true;
    }

    fn inject(&mut self, action: Action) {
        self.trace.note(format!("the device will {action:?}"));
        let skip = self.random.below(8) as u32;
        self.sim.inject(Fault { when: Match { queue: QueueMatch::Io, skip, ..Match::default() }, action });
        self.summary.faults += 1;
    }

    /// Looks for what does not go on, and makes it: by harder and harder means (V1).
    pub(super) fn watch(&mut self) -> Result<(), String> {
        if let Some(Reset { since, .. }) = self.reset {
            let lasts = self.trace.step - since > RESET_MAX;
            return if lasts {
                Err(format!("V1: a reset does not end: {}", self.unfinished()))
            } else {
                Ok(())
            };
        }
        if !self.sim.is_present() || self.trace.step.is_multiple_of(256) && self.has_failed() {
            return self.begin_reset("it failed");
        }
        for at in 0..self.channels.len() {
            let step = self.trace.step;
            let channel = &mut self.channels[at];
            let counters = channel.counters.snapshot();
            let activity = counters.ring_wait.count() + counters.splits + counters.bounced + counters.retries;
            let works = channel.started && !channel.suspended && channel.outstanding() > 0;
            let waits = channel.awaited > 0 || !channel.tasks.is_empty() || works;
            if activity != std::mem::replace(&mut channel.activity, activity) || !waits {
                channel.progress = step;
            }
            if step - channel.progress > STUCK {
                channel.progress = step;
                channel.escalation += 1;
                let level = channel.escalation;
                self.escalate(at, level)?;
            }
        }
        self.check_suspended()
    }

    fn has_failed(&mut self) -> bool {
        self.host().controller.poll_events().is_err()
    }

    fn escalate(&mut self, at: usize, level: u32) -> Result<(), String> {
        if !self.calamities.disturbed {
            return Err(format!("progress: nothing went wrong, and yet {}", self.unfinished()));
        }
        self.trace.note(format!("channel {at} is stuck, level {level}"));
        let (id, lane) = (self.channels[at].id, self.channels[at].lane);
        match level {
            1 => {
                self.channels[at].awaited += 1;
                let purpose = Purpose::Channel(at, What::ListInFlight);
                self.host().send(Order::ListInFlight { channel: id }, purpose);
                Ok(())
            }
            2 if self.calamities.swaps == 0 => self.replace_lane(lane),
            2 | 3 => self.begin_reset("it did not end its commands"),
            _ => Err(format!("V1: not even a reset made channel {at} go on: {}", self.unfinished())),
        }
    }

    pub(super) fn abort(&mut self, ids: &[(u16, u16)]) {
        for &(lane, command) in ids {
            // Whether it helped shows when its completion comes.
            let _ = self.host().controller.abort(LaneId(lane), command);
        }
    }

    /// D2: the barrier first, then the end of the commands.
    fn replace_lane(&mut self, lane: LaneId) -> Result<(), String> {
        let in_flight = self.in_flight(lane);
        self.trace.note(format!("lane {} is replaced, with {in_flight} in flight", lane.0));
        self.summary.lanes_replaced += 1;
        self.calamities.swaps += 1;
        let skip_barrier = self.sabotage == Some(Sabotage::AbandonWithoutBarrier);
        match self.host().delete_lane(lane, skip_barrier) {
            Ok(()) => Ok(()),
            Err(why) if self.calamities.disturbed => {
                self.calamities.swaps -= 1;
                self.begin_reset(&why)
            }
            Err(why) => Err(why),
        }
    }

    fn in_flight(&mut self, lane: LaneId) -> usize {
        self.host().in_flight(lane)
    }

    /// The controller is halted, the barrier for all; its channels are taken from the sidecore, then it comes up again.
    pub(super) fn begin_reset(&mut self, why: &str) -> Result<(), String> {
        if self.reset.is_some() {
            return Ok(());
        }
        self.trace.note(format!("the controller is reset: {why}"));
        self.disturb();
        self.summary.resets += 1;
        self.sim.reinsert();
        self.host().controller.halt().map_err(|error| error.to_string())?;
        self.reset = Some(Reset { since: self.trace.step, alone: false });
        for lane in self.host().lanes.clone() {
            self.host().send(Order::Abandon { device: DEVICE, lane }, Purpose::Aside);
        }
        for at in 0..self.channels.len() {
            self.channels[at].tasks.clear();
            self.remove(at);
        }
        Ok(())
    }

    /// Goes on with a reset when all channels are gone.
    pub(super) fn carry_on_reset(&mut self) -> Result<(), String> {
        let Some(reset) = self.reset else { return Ok(()) };
        let gone = self.channels.iter().all(|channel| !channel.present && channel.awaited == 0);
        if gone && !reset.alone {
            self.reset = Some(Reset { alone: true, ..reset });
            self.host().send(Order::RemoveDevice { device: DEVICE }, Purpose::Device);
        }
        Ok(())
    }

    pub(super) fn device_removed(&mut self, answer: Answer<Queue>) -> Result<(), String> {
        let Answer::DeviceRemoved { queue } = answer else {
            return Err(format!("the device cannot be taken from the sidecore: {answer:?}"));
        };
        self.count_strays(&queue);
        drop(queue);
        self.host().controller.restart().map_err(|error| error.to_string())?;
        self.host().add_device()?;
        self.reset = None;
        self.calamities.swaps = 0;
        self.rebuild()
    }

    fn count_strays(&mut self, queue: &Queue) {
        self.summary.strays += vfiomux_block::BlockQueue::stray_completions(queue);
    }

    /// The back-end dies and is started anew: nothing of it is left but what front-ends keep (I2, D1).
    fn crash(&mut self) -> Result<(), String> {
        self.trace.note("the back-end dies");
        self.summary.crashes += 1;
        if self.random.chance(50) {
            // It dies between publishing what was returned and calling the guests for it.
            for at in 0..self.channels.len() {
                self.reap_channel(at, true)?;
            }
            self.breathe();
            self.channels
                .iter()
                .flat_map(|channel| &channel.fronts)
                .for_each(super::front::Front::swallow_call);
        }
        let host = self.host.take().ok_or("no host to crash")?;
        let domain = host.domain().clone();
        host.crash()?;
        let left = domain.mappings().len();
        if left > 0 {
            return Err(format!("D1: {left} mappings outlive the process"));
        }
        self.sim.reinsert();
        self.reset = None;
        self.calamities.swaps = 0;
        self.host = Some(Host::start(&self.sim, self.setup.clone(), &mut self.random)?);
        for at in 0..self.channels.len() {
            self.gone(at);
            self.channels[at].awaited = 0;
            self.channels[at].tasks.clear();
            self.channels[at].crashed = true;
        }
        self.rebuild()
    }

    /// Brings every channel back into service.
    fn rebuild(&mut self) -> Result<(), String> {
        for at in 0..self.channels.len() {
            let channel = &mut self.channels[at];
            channel.leaving = None;
            channel.scrubs.clear();
            channel.resizing.clear();
            channel.progress = self.trace.step;
            // What goes wrong from here on is another thing.
            channel.escalation = 0;
            let coming = std::mem::take(&mut channel.coming);
            // A guest whose back-end kept no account of what was in flight must start anew; so must one that broke the rules.
            let lost = std::mem::take(&mut channel.crashed) && channel.inflight.is_none();
            let anew = (channel.hostile || lost) && !channel.cells.is_empty();
            let sticks = channel.sticks;
            channel.blocks = channel.cells.len() * self.disk.cell_blocks() as usize;
            self.disk.give_back(&coming)?;
            if self.channels[at].cells.is_empty() {
                self.conceive(at)?;
                continue;
            }
            let anew = anew.then_some(Task::NewDriver);
            let tasks = anew.into_iter().chain([Task::Add, Task::Memory(Some(sticks)), Task::Start]);
            self.channels[at].tasks.extend(tasks);
        }
        Ok(())
    }

    /// S5: nothing of a suspended channel is at the device.
    fn check_suspended(&mut self) -> Result<(), String> {
        // Control's own commands go by whichever lane.
        if self.channels.iter().any(|channel| !channel.scrubs.is_empty()) {
            return Ok(());
        }
        for at in 0..self.channels.len() {
            let (suspended, lane) = (self.channels[at].suspended, self.channels[at].lane);
            let alone = self.channels.iter().filter(|channel| channel.lane == lane).count() == 1;
            if suspended && alone && self.in_flight(lane) > 0 {
                return Err(format!("channel {at} is suspended, and has commands in flight"));
            }
        }
        Ok(())
    }
}
