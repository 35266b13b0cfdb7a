//! Functions that we own: their life, their queues, their pools.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use vfiomux_block::{Command, LaneId, Limits};
use vfiomux_hw::{DmaBuffer, DmaDomain};
use vfiomux_nvme::{Event, Info, QueueId};
use vfiomux_policy::FaultKind;
use vfiomux_rpc::{ErrorCode, EventKind, FunctionClass, FunctionState, ObjectKind, RpcError};
use vfiomux_sidecore::{Answer, DeviceSlot, Order};

use super::Control;
use super::channel::{Next, internal};
use super::job::Leg;
use super::lines::DeviceAnswer;
use super::queue::{DeviceLane, DeviceQueue};
use super::warden::{BroughtUp, Head, Interrupt, Opener, Restarted, Warden};
use super::worker::Worker;
use crate::event::event;
use crate::extent::{Extent, ExtentPool};
use crate::journal::Record;
use crate::label::{DATA_START_BYTES, GRAIN_BYTES, Label};

/// Why nothing can be carved from a blank namespace: the one reason that a format needs no insisting for.
pub(crate) const NO_LABEL: &str = "it has no label; run vfiomuxctl device format";

/// A function that we own, or are about to.
pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) address: Option<String>,
    pub(crate) state: FunctionState,
    pub(crate) reason: Option<String>,
    pub(crate) generation: u64,
    pub(crate) worker: Worker<Warden>,
    pub(crate) domain: Option<Arc<DmaDomain>>,
    pub(crate) slot: DeviceSlot,
    /// Its completion queue on each sidecore that has one, by the sidecore's index.
    pub(crate) queues: BTreeMap<usize, QueueSeat>,
    pub(crate) class: FunctionClass,
    pub(crate) info: Info,
    /// Submission queues that channels could still have to themselves.
    pub(crate) lanes_free: u16,
    pub(crate) namespaces: BTreeMap<u32, NamespaceSeat>,
    pub(crate) skipped: BTreeMap<u32, String>,
    /// Write a label where there is nothing at all: simulated devices only.
    format_if_blank: bool,
    /// An operation on the device is under way.
    pub(crate) operation: Option<&'static str>,
    /// Its queues are being taken from the sidecores, for good.
    closing: bool,
    /// Ends what its thread waits for.
    pub(crate) interrupt: Interrupt,
    /// What is being given a place at sidecores, channels or the device itself, and who waits for there to be none.
    pub(crate) seating: u32,
    pub(crate) after_seating: Vec<Next>,
    /// Channels that are on their way here from other devices.
    pub(crate) incoming: u32,
}

/// The device's completion queue on one sidecore.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueueSeat {
    pub(crate) queue: QueueId,
    /// Our own commands go here, and those of channels that have no lane of their own.
    pub(crate) base_lane: LaneId,
}

/// A namespace and what is carved from it.
pub(crate) struct NamespaceSeat {
    pub(crate) limits: Limits,
    pub(crate) carving: Result<Carving, String>,
}

/// A namespace's label and what it leaves free.
pub(crate) struct Carving {
    /// As it was last written.
    pub(crate) label: Label,
    pub(crate) pool: ExtentPool,
    /// Changes to be written, one after the other.
    changes: VecDeque<LabelChange>,
    /// One of them is being written.
    writing: bool,
}

/// A change of a label, and what goes on when it was written or could not be.
struct LabelChange {
    change: Box<dyn FnOnce(&mut Label) + Send>,
    next: Written,
}

type Written = Box<dyn FnOnce(&mut Control, Result<(), String>) + Send>;

impl Device {
    /// The most that one channel could still have of one namespace, of any or of this one.
    pub(crate) fn free_bytes(&self, namespace: Option<u32>) -> u64 {
        let among = self.namespaces.iter().filter(|(id, _)| namespace.is_none_or(|only| only == **id));
        let free = among.filter_map(|(_, seat)| {
            let blocks = seat.carving.as_ref().ok()?.pool.free_blocks();
            Some(blocks.saturating_mul(u64::from(seat.limits.block_bytes)))
        });
        free.max().unwrap_or(0)
    }

    /// The error for an operation that needs the device to serve.
    pub(crate) fn check_ready(&self) -> Result<(), RpcError> {
        match self.state {
            FunctionState::Ready | FunctionState::Degraded => Ok(()),
            state => {
                let why = self.reason.as_deref().map_or_else(String::new, |reason| format!(": {reason}"));
                Err(RpcError::new(
                    ErrorCode::DeviceFault,
                    format!("device {} is {state:?}{why}", self.name).to_lowercase(),
                )
                .about(format!("device {}", self.name))
                .next("see vfiomuxctl device show and vfiomuxctl events"))
            }
        }
    }
}

impl Carving {
    /// What a label leaves free; fails when the label contradicts itself.
    fn of(label: Label) -> Result<Self, String> {
        let block = u64::from(label.block_bytes);
        let start = DATA_START_BYTES / block;
        let whole = Extent { start, blocks: label.blocks.saturating_sub(start) };
        let mut pool = ExtentPool::new(whole, GRAIN_BYTES / block);
        let used = label.channels.iter().flat_map(|channel| &channel.extents).chain(&label.unscrubbed);
        let used: Vec<Extent> = used.copied().collect();
        pool.take_exactly(&used)
            .map_err(|error| format!("the label is damaged: {error}; see vfiomuxctl device format"))?;
        Ok(Self { label, pool, changes: VecDeque::new(), writing: false })
    }

    /// An empty carving of a namespace: all of it is free, or all of it is to be scrubbed first.
    fn fresh(limits: &Limits, is_blank: bool) -> Result<Self, String> {
        let label = Label {
            generation: 1,
            pool: super::new_id(),
            block_bytes: limits.block_bytes,
            blocks: limits.blocks,
            channels: Vec::new(),
            unscrubbed: Vec::new(),
        };
        let mut carving = Self::of(label)?;
        if carving.pool.total_blocks() == 0 {
            return Err(
                "the namespace is smaller than 5 MiB, which leaves no room beside the label".to_owned()
            );
        }
        if !is_blank {
            let all = carving.pool.free_blocks();
            carving.label.unscrubbed = carving.pool.take(all).map_err(|error| error.to_string())?;
        }
        Ok(carving)
    }
}

impl Control {
    /// Begins to own a function.
    pub(crate) fn open_device(
        &mut self,
        name: &str,
        address: Option<String>,
        open: Opener,
        format_if_blank: bool,
    ) -> Result<(), RpcError> {
        let poster = self.poster.clone();
        let warden_name = name.to_owned();
        let (interrupt, service) = (Interrupt::default(), self.deadlines.service);
        let heard = interrupt.clone();
        let worker = Worker::start(&format!("warden-{name}"), poster.clone(), move || {
            Warden::new(warden_name, poster, heard, service)
        })
        .map_err(|error| internal(&error))?;
        let taken: BTreeSet<u16> = self.devices.values().map(|device| device.slot.0).collect();
        let slot = (0..=u16::MAX).find(|slot| !taken.contains(slot)).map(DeviceSlot);
        let device = Device {
            name: name.to_owned(),
            address,
            state: FunctionState::Discovered,
            reason: None,
            generation: 1,
            worker,
            domain: None,
            slot: slot.ok_or_else(|| RpcError::new(ErrorCode::NoSpace, "too many devices"))?,
            queues: BTreeMap::new(),
            class: FunctionClass::Nvme,
            info: Info::default(),
            lanes_free: 0,
            namespaces: BTreeMap::new(),
            skipped: BTreeMap::new(),
            format_if_blank,
            operation: Some("being claimed"),
            closing: false,
            interrupt,
            seating: 0,
            after_seating: Vec::new(),
            incoming: 0,
        };
        let sidecores = self.lines.len();
        let owned = name.to_owned();
        device.worker.run(
            move |warden| warden.bring_up(open, sidecores),
            move |control, result| control.brought_up(&owned, result),
        );
        self.devices.insert(name.to_owned(), device);
        self.set_function_state(name, FunctionState::Claiming, None);
        Ok(())
    }

    /// A function was taken from its driver: remembered for giving it back, whatever happens to the daemon meanwhile.
    pub(crate) fn claimed(&mut self, address: String, driver: Option<String>) {
        if !self.journal.settings().claims.contains_key(&address) {
            self.journal_append(&Record::Claimed { address, driver });
        }
    }

    fn brought_up(&mut self, name: &str, result: Result<BroughtUp, String>) {
        let up = match result {
            Ok(up) => up,
            Err(why) => {
                self.set_function_state(name, FunctionState::Failed, Some(why.clone()));
                return self.device_settled(
                    name,
                    Err(RpcError::new(ErrorCode::DeviceFault, why).about(format!("device {name}"))),
                );
            }
        };
        let Some(device) = self.devices.get_mut(name) else { return };
        device.domain = Some(up.domain);
        device.lanes_free = up.lanes_free;
        (device.class, device.info) = (up.class, up.info);
        device.skipped = up.skipped.into_iter().map(|skipped| (skipped.id, skipped.reason)).collect();
        let mut blank = Vec::new();
        for (namespace, head) in up.namespaces {
            let carving = match head {
                Head::Label(label) => Carving::of(*label),
                Head::Blank if device.format_if_blank => {
                    blank.push(namespace.id);
                    Err("it is being formatted".to_owned())
                }
                Head::Blank => Err(NO_LABEL.to_owned()),
                Head::Holds(what) => {
                    Err(format!("it holds {what}; vfiomuxctl device format --erase destroys that"))
                }
                Head::Damaged(error) => Err(error.to_string()),
                Head::Unreadable(why) => Err(format!("its first blocks cannot be read: {why}")),
            };
            device.namespaces.insert(namespace.id, NamespaceSeat { limits: namespace.limits, carving });
        }
        self.seat_device(name, up.queues, move |control, name, seated| {
            control.device_seated(name, seated, blank)
        });
    }

    /// Gives each sidecore its queue of a device, with the lane for our own commands; goes on when all have answered. The device is
    /// not closed before: whoever closes it has to know every sidecore that has it.
    fn seat_device(
        &mut self,
        name: &str,
        queues: Vec<(DeviceQueue, DeviceLane)>,
        next: impl FnOnce(&mut Control, &str, Result<(), String>) + 'static,
    ) {
        let Some(device) = self.devices.get_mut(name) else { return };
        device.seating += 1;
        let waiting = Rc::new((RefCell::new(Ok(())), next));
        for (line, (queue, lane)) in queues.into_iter().enumerate() {
            let (owned, waiting) = (name.to_owned(), waiting.clone());
            self.seat_queue(name, line, queue, lane, move |control, seated| {
                if let Err(why) = seated {
                    *waiting.0.borrow_mut() = Err(why);
                }
                // The last to answer holds the only share.
                if let Ok((seated, next)) = Rc::try_unwrap(waiting) {
                    next(control, &owned, seated.into_inner());
                    control.end_seating(&owned);
                }
            });
        }
    }

    /// Gives one sidecore its queue of a device, and when it has that, the lane. A queue that it refuses is dropped: nothing was
    /// submitted to it, so the controller does not touch its memory any more.
    fn seat_queue(
        &mut self,
        name: &str,
        line: usize,
        queue: DeviceQueue,
        lane: DeviceLane,
        next: impl FnOnce(&mut Control, Result<(), String>) + 'static,
    ) {
        let Some(slot) = self.devices.get(name).map(|device| device.slot) else { return };
        let (owned, queue_id) = (name.to_owned(), queue.id());
        let queue = Box::new(queue.burdened());
        let refused = move |why| Err(format!("sidecore {line} does not take the device: {why}"));
        self.order(line, Order::AddDevice { device: slot, queue }, move |control, answer| {
            if let Answer::Refused { why, .. } = answer {
                return next(control, refused(why));
            }
            control.order(line, Order::AttachLane { device: slot, lane }, move |control, answer| {
                let seated = match answer {
                    Answer::Refused { why, .. } => refused(why),
                    Answer::LaneAttached { lane } => {
                        if let Some(device) = control.devices.get_mut(&owned) {
                            device.queues.insert(line, QueueSeat { queue: queue_id, base_lane: lane });
                            control.set_pace_on(&owned, line);
                        }
                        Ok(())
                    }
                    _ => Ok(()),
                };
                next(control, seated);
            });
        });
    }

    /// The sidecores have answered. With the device at all of them it serves, unless it has left meanwhile.
    fn device_seated(&mut self, name: &str, seated: Result<(), String>, blank: Vec<u32>) {
        let Err(why) = seated else { return self.take_up(name, blank) };
        if !self.is_claiming(name) {
            return;
        }
        self.set_function_state(name, FunctionState::Failed, Some(why.clone()));
        let owned = name.to_owned();
        self.close_device(name, move |control| {
            let error = RpcError::new(ErrorCode::DeviceFault, why).about(format!("device {owned}"));
            let error = error.next("see vfiomuxctl sidecore list, and claim it again");
            control.device_settled(&owned, Err(error));
        });
    }

    fn is_claiming(&self, name: &str) -> bool {
        self.devices.get(name).is_some_and(|device| device.state == FunctionState::Claiming)
    }

    /// Labels what is blank, then brings back the channels that labels name.
    fn take_up(&mut self, name: &str, mut blank: Vec<u32>) {
        if !self.is_claiming(name) {
            return self.maybe_close_device(name);
        }
        let Some(namespace) = blank.pop() else {
            self.set_function_state(name, FunctionState::Ready, None);
            self.restore_channels(name);
            return self.device_settled(name, Ok(()));
        };
        let owned = name.to_owned();
        self.format_namespace(name, namespace, true, Leg::default(), move |control, result| {
            if let Err(why) = result
                && let Some(seat) =
                    control.devices.get_mut(&owned).and_then(|d| d.namespaces.get_mut(&namespace))
            {
                seat.carving = Err(why);
            }
            control.take_up(&owned, blank);
        });
    }

    /// Writes an empty label on a namespace, and scrubs the rest unless it is blank (C3). What was there is gone.
    pub(crate) fn format_namespace(
        &mut self,
        name: &str,
        namespace: u32,
        is_blank: bool,
        leg: Leg,
        next: impl FnOnce(&mut Control, Result<(), String>) + Send + 'static,
    ) {
        let Some(device) = self.devices.get_mut(name) else { return };
        let Some(seat) = device.namespaces.get(&namespace) else { return };
        let limits = seat.limits;
        let carving = match Carving::fresh(&limits, is_blank) {
            Ok(carving) => carving,
            Err(why) => return next(self, Err(why)),
        };
        let (label, dirty) = (carving.label.clone(), carving.label.unscrubbed.clone());
        let owned = name.to_owned();
        device.worker.run(
            move |warden| warden.format(namespace, &limits, &label),
            move |control, result| {
                if let Some(device) = control.devices.get_mut(&owned) {
                    device.generation += 1;
                    if let Some(seat) = device.namespaces.get_mut(&namespace).filter(|_| result.is_ok()) {
                        seat.carving = Ok(carving);
                    }
                }
                match result {
                    Ok(()) if !is_blank => control.scrub(&owned, namespace, dirty, leg, next),
                    result => next(control, result),
                }
            },
        );
    }

    /// Changes a namespace's label and writes it, one generation on. The change stays in effect only if it was written.
    pub(crate) fn relabel(
        &mut self,
        name: &str,
        namespace: u32,
        change: impl FnOnce(&mut Label) + Send + 'static,
        next: impl FnOnce(&mut Control, Result<(), String>) + Send + 'static,
    ) {
        let absent = || format!("device {name} has no label on namespace {namespace}");
        let Some(carving) = self.carving_mut(name, namespace) else { return next(self, Err(absent())) };
        carving.changes.push_back(LabelChange { change: Box::new(change), next: Box::new(next) });
        self.write_label(name, namespace);
    }

    /// Writes the next change of a label, unless one is being written. A label that could not be written is as if it had never
    /// been: the next has its generation and goes to the same area, so that the other keeps what was written last.
    fn write_label(&mut self, name: &str, namespace: u32) {
        let Some(device) = self.devices.get_mut(name) else { return };
        let Some(seat) = device.namespaces.get_mut(&namespace) else { return };
        let limits = seat.limits;
        let Some(carving) = seat.carving.as_mut().ok().filter(|carving| !carving.writing) else { return };
        let Some(LabelChange { change, next }) = carving.changes.pop_front() else { return };
        carving.writing = true;
        let mut label = carving.label.clone();
        label.generation += 1;
        change(&mut label);
        let (written, owned) = (label.clone(), name.to_owned());
        self.run_through_reset(
            name,
            move |warden| warden.write_label(namespace, &limits, &written),
            move |control, result| {
                if let Some(carving) = control.carving_mut(&owned, namespace) {
                    carving.writing = false;
                    if result.is_ok() {
                        carving.label = label;
                    }
                }
                next(control, result);
                control.write_label(&owned, namespace);
            },
        );
    }

    /// Has a device's thread do a job, and do it once more when a reset of the controller has cut it short.
    pub(crate) fn run_through_reset(
        &mut self,
        name: &str,
        job: impl FnMut(&mut Warden) -> Result<(), String> + Send + 'static,
        next: impl FnOnce(&mut Control, Result<(), String>) + Send + 'static,
    ) {
        let Some(device) = self.devices.get(name) else {
            return next(self, Err(format!("device {name} is not here")));
        };
        let (owned, mut job) = (name.to_owned(), job);
        device.worker.run(
            move |warden| {
                let result = job(warden);
                (result, job)
            },
            move |control, (result, mut job)| {
                let state = control.devices.get(&owned).map(|device| device.state);
                if result.is_ok() || state != Some(FunctionState::Resetting) {
                    return next(control, result);
                }
                control.when_settled(&owned.clone(), move |control, _| match control.devices.get(&owned) {
                    Some(device) => device.worker.run(move |warden| job(warden), next),
                    None => next(control, result),
                });
            },
        );
    }

    /// A namespace's carving, if it has one.
    pub(crate) fn carving_mut(&mut self, device: &str, namespace: u32) -> Option<&mut Carving> {
        self.devices.get_mut(device)?.namespaces.get_mut(&namespace)?.carving.as_mut().ok()
    }

    /// Carries a command of a warden's own to its device.
    pub(crate) fn serve(
        &mut self,
        name: &str,
        command: Command,
        buffer: Option<DmaBuffer>,
        data_bytes: u32,
        answer_to: Sender<Option<DeviceAnswer>>,
    ) {
        // A warden that no longer listens has given the command up.
        let Some((device, (&line, seat))) = self
            .devices
            .get(name)
            .filter(|d| !d.closing)
            .and_then(|d| Some((d, d.queues.first_key_value()?)))
        else {
            let _ = answer_to.send(None);
            return;
        };
        let order = Order::Service { device: device.slot, lane: seat.base_lane, command, buffer, data_bytes };
        self.order(line, order, move |_, answer| {
            let _ = answer_to.send(Some(answer));
        });
    }

    pub(crate) fn set_function_state(&mut self, name: &str, to: FunctionState, reason: Option<String>) {
        let Some(device) = self.devices.get_mut(name) else { return };
        let from = std::mem::replace(&mut device.state, to);
        device.reason.clone_from(&reason);
        let mut told = event(EventKind::Function, ObjectKind::Device, name);
        let word = |state: FunctionState| format!("{state:?}").to_lowercase();
        (told.from, told.to, told.reason) = (Some(word(from)), Some(word(to)), reason);
        self.tell(told);
    }

    /// Claiming, formatting or releasing a device has come to its end: answers whoever asked for it.
    pub(crate) fn device_settled(&mut self, name: &str, result: Result<(), RpcError>) {
        if let Some(device) = self.devices.get_mut(name) {
            device.operation = None;
        }
        for next in self.awaiting_device.remove(name).unwrap_or_default() {
            next(self, result.clone());
        }
        self.check_ready();
    }

    /// The device is going, or gone: its channels are quarantined, its queues given up, its function closed.
    pub(crate) fn device_leaving(&mut self, name: &str, why: &str, works: bool) {
        let Some(device) = self.devices.get_mut(name) else { return };
        if matches!(device.state, FunctionState::Lost | FunctionState::Releasing) {
            return;
        }
        device.operation = Some(LEAVING);
        self.set_function_state(name, FunctionState::Lost, Some(why.to_owned()));
        self.tell_device_fault(FaultKind::DeviceLost, name, why);
        let (owned, reason) = (name.to_owned(), format!("device {name} left: {why}"));
        let go = move |control: &mut Control| {
            control.quarantine_all(&owned, &reason);
            control.maybe_close_device(&owned);
        };
        if works {
            go(self);
        } else {
            // Nothing that it was given will complete. Stop it for certain first, then end its commands.
            self.halt_device(name, go);
        }
    }

    fn quarantine_all(&mut self, device: &str, why: &str) {
        let all = self.channels.values().filter(|channel| channel.device == device);
        let ids: Vec<String> = all.map(|channel| channel.setting.id.clone()).collect();
        for id in ids {
            self.quarantine(&id, why);
        }
    }

    /// Every lane of a device, with its sidecore.
    pub(crate) fn lanes_of(&self, name: &str) -> Vec<(usize, LaneId)> {
        let Some(device) = self.devices.get(name) else { return Vec::new() };
        let base = device.queues.iter().map(|(&line, seat)| (line, seat.base_lane.0));
        let seats = self.channels.values().filter(|c| c.device == name).filter_map(|c| c.seat.as_ref());
        let all: BTreeSet<(usize, u16)> = base.chain(seats.map(|seat| (seat.line, seat.lane.0))).collect();
        all.into_iter().map(|(line, lane)| (line, LaneId(lane))).collect()
    }

    /// When no channel is left on a device that is going, gives it up.
    pub(crate) fn maybe_close_device(&mut self, name: &str) {
        let seated =
            self.channels.values().any(|c| c.device == name && (c.seat.is_some() || !c.unseating.is_empty()));
        let Some(device) = self.devices.get_mut(name) else { return };
        if device.operation != Some(LEAVING) || device.closing || seated || device.seating > 0 {
            return;
        }
        device.operation = Some("being closed");
        let owned = name.to_owned();
        self.close_device(name, move |control| control.device_settled(&owned, Ok(())));
    }

    /// Takes a device without channels from its sidecores and closes it.
    pub(crate) fn close_device(&mut self, name: &str, next: impl FnOnce(&mut Control) + Send + 'static) {
        let Some(device) = self.devices.get_mut(name) else { return next(self) };
        device.closing = true;
        let slot = device.slot;
        // They stay known until they are gone: what is in flight on them may have to be abandoned yet.
        let lines: Vec<usize> = device.queues.keys().copied().collect();
        let owned = name.to_owned();
        if lines.is_empty() {
            return self.close_function(name, Vec::new(), next);
        }
        // Each sidecore's answer puts its queue into the same hands; the last one goes on with them.
        let gathered = Rc::new(RefCell::new((Vec::new(), Some(next))));
        for line in lines {
            let (gathered, owned) = (gathered.clone(), owned.clone());
            self.order(line, Order::RemoveDevice { device: slot }, move |control, answer| {
                if let Answer::DeviceRemoved { queue } = answer {
                    if let Some(device) = control.devices.get_mut(&owned) {
                        device.queues.remove(&line);
                    }
                    gathered.borrow_mut().0.push(*queue);
                }
                if let Ok(all) = Rc::try_unwrap(gathered)
                    && let (queues, Some(next)) = all.into_inner()
                {
                    control.close_function(&owned, queues, next);
                }
            });
        }
        drop(gathered);
    }

    fn close_function(
        &mut self,
        name: &str,
        queues: Vec<DeviceQueue>,
        next: impl FnOnce(&mut Control) + Send + 'static,
    ) {
        let Some(device) = self.devices.get_mut(name) else { return next(self) };
        device.domain = None;
        device.worker.run(
            move |warden| {
                warden.close();
                drop(queues);
            },
            move |control, ()| next(control),
        );
    }

    /// Something that the controller reported by itself.
    pub(crate) fn device_event(&mut self, name: &str, what: &Event) {
        let text = match what {
            Event::NamespacesChanged(ids) => {
                format!("its namespaces changed ({ids:?}); release and claim it to take that up")
            }
            Event::Health(health) => {
                let state = self.devices.get(name).map(|device| device.state);
                match (state, health.is_critical()) {
                    (Some(FunctionState::Ready), true) => {
                        let why = format!("its health is critical: {health:?}");
                        self.set_function_state(name, FunctionState::Degraded, Some(why));
                    }
                    (Some(FunctionState::Degraded), false) => {
                        self.set_function_state(name, FunctionState::Ready, None);
                    }
                    _ => {}
                }
                format!("its health changed: {health:?}")
            }
            Event::Error(entries) => format!("its error log says: {}", entries.join("; ")),
            Event::SanitizeCompleted => "a sanitize operation ended".to_owned(),
            Event::FirmwareActivation => "it pauses for new firmware".to_owned(),
            other => format!("{other:?}"),
        };
        if matches!(what, Event::Error(_)) {
            self.tell_device_fault(FaultKind::Device, name, &text);
        }
        let mut told = event(EventKind::Fault, ObjectKind::Device, name);
        told.reason = Some(text);
        self.tell(told);
    }

    /// Starts a controller again after a reset, with all its channels.
    pub(crate) fn restart_device(&mut self, name: &str) {
        let sidecores = self.lines.len();
        let Some(device) = self.devices.get_mut(name) else { return };
        let (slot, queues) = (device.slot, std::mem::take(&mut device.queues));
        let goes_on = device.state == FunctionState::Resetting && self.ending.is_none();
        for line in queues.into_keys() {
            self.order(line, Order::RemoveDevice { device: slot }, |_, _| {});
        }
        if !goes_on {
            return self.maybe_close_device(name);
        }
        let owned = name.to_owned();
        let Some(device) = self.devices.get(name) else { return };
        device.worker.run(
            move |warden| warden.restart(sidecores),
            move |control, result| control.restarted(&owned, result),
        );
    }

    /// What was known of its labels holds still: nobody else writes them.
    fn restarted(&mut self, name: &str, result: Result<Restarted, String>) {
        let Some(device) = self.devices.get_mut(name) else { return };
        let up = match result {
            Ok(up) if device.state == FunctionState::Resetting => up,
            Ok(_) => return self.maybe_close_device(name),
            Err(why) => return self.restart_failed(name, why),
        };
        device.lanes_free = up.lanes_free;
        for (id, seat) in &mut device.namespaces {
            let limits = up.namespaces.iter().find(|namespace| namespace.id == *id).map(|n| n.limits);
            if limits != Some(seat.limits) {
                seat.carving =
                    Err("it is another since the controller was reset; release the device".to_owned());
            }
        }
        self.seat_device(name, up.queues, |control, name, seated| {
            let state = control.devices.get(name).map(|device| device.state);
            match seated {
                Err(why) => control.restart_failed(name, why),
                Ok(()) if state == Some(FunctionState::Resetting) => {
                    control.set_function_state(name, FunctionState::Ready, None);
                    control.device_settled(name, Ok(()));
                    control.bring_all_back(name);
                }
                // It has left meanwhile.
                Ok(()) => {}
            }
        });
    }

    fn restart_failed(&mut self, name: &str, why: String) {
        if self.devices.get(name).is_none_or(|device| device.state != FunctionState::Resetting) {
            // It is leaving, and whoever waits for it hears of that.
            return self.maybe_close_device(name);
        }
        self.set_function_state(name, FunctionState::Failed, Some(why.clone()));
        self.quarantine_all(name, &format!("device {name} did not come back from a reset: {why}"));
        self.device_settled(name, Err(RpcError::new(ErrorCode::DeviceFault, why)));
    }
}

/// The operation of a device that is to be closed as soon as no channel uses it.
const LEAVING: &str = "leaving";
