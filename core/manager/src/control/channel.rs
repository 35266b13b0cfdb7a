//! A channel, as the control thread keeps it.

use std::sync::Arc;

use vfiomux_block::LaneId;
use vfiomux_channel::{ChannelCounters, ChannelId, ChannelSettings};
use vfiomux_rpc::{ErrorCode, EventKind, Health, ObjectKind, Reasons, RpcError};
use vfiomux_sidecore::DeviceSlot;

use super::Control;
use super::attachment::Attachment;
use super::shift::Shift;
use crate::event::event;
use crate::extent::Extent;
use crate::journal::{Record, Setting};
use crate::lifecycle::{Life as _, Oper, Step, advance};
use crate::seeded::{self, Bug};

/// A channel: what was asked for, what it stands on, who is connected.
pub(crate) struct Channel {
    pub(crate) setting: Setting,
    /// Name of its device; empty while no device that is here carries its label.
    pub(crate) device: String,
    pub(crate) namespace: u32,
    pub(crate) block_bytes: u32,
    pub(crate) extents: Vec<Extent>,
    pub(crate) health: Health,
    pub(crate) reasons: Reasons,
    /// Its place on a sidecore, while it is served.
    pub(crate) seat: Option<Seat>,
    pub(crate) attachment: Option<Attachment>,
    /// The one operation under way, if any, as a phrase.
    pub(crate) operation: Option<&'static str>,
    pub(crate) counters: Arc<ChannelCounters>,
    /// Counts its incarnations on sidecores.
    pub(crate) epoch: u64,
    /// When its transient state ends by force, on the control thread's clock, nanoseconds.
    pub(crate) deadline_ns: Option<u64>,
    /// How many wait for its commands to end, and when those count as stuck.
    pub(crate) drains: u32,
    pub(crate) drain_deadline_ns: Option<u64>,
    /// What was done already about commands that do not end.
    pub(crate) escalation: u8,
    /// Who waits for it to be off its sidecore. Not empty while it is being taken off.
    pub(crate) unseating: Vec<Next>,
    /// Its move to another sidecore, while that is under way.
    pub(crate) shift: Option<Shift>,
    /// What it was served in the last interval, in thousandths of its sidecore's time.
    pub(crate) load_permille: u32,
}

/// What goes on when something about a channel has ended.
pub(crate) type Next = Box<dyn FnOnce(&mut Control)>;

/// Where a channel is served.
#[derive(Debug, Clone)]
pub(crate) struct Seat {
    /// Index of the sidecore.
    pub(crate) line: usize,
    pub(crate) id: ChannelId,
    pub(crate) slot: DeviceSlot,
    pub(crate) lane: LaneId,
    /// The lane is the channel's alone.
    pub(crate) own_lane: bool,
    pub(crate) settings: ChannelSettings,
}

impl Channel {
    pub(crate) fn new(setting: Setting) -> Self {
        Self {
            setting,
            device: String::new(),
            namespace: 0,
            block_bytes: 0,
            extents: Vec::new(),
            health: Health::Ok,
            reasons: Reasons::default(),
            seat: None,
            attachment: None,
            operation: None,
            counters: Arc::default(),
            epoch: 0,
            deadline_ns: None,
            drains: 0,
            drain_deadline_ns: None,
            escalation: 0,
            unseating: Vec::new(),
            shift: None,
            load_permille: 0,
        }
    }
}

impl Control {
    /// The channel with this name.
    pub(crate) fn channel_named(&self, name: &str) -> Result<&Channel, RpcError> {
        self.channels
            .values()
            .find(|channel| channel.setting.name == name)
            .ok_or_else(|| unknown_channel(name))
    }

    /// The id of the channel with this name, when no other operation is under way on it and its generation fits.
    pub(crate) fn channel_free(
        &self,
        name: &str,
        expected_generation: Option<u64>,
    ) -> Result<String, RpcError> {
        let channel = self.channel_named(name)?;
        if let Some(operation) = channel.operation {
            return Err(RpcError::new(ErrorCode::Busy, format!("channel {name} is {operation}"))
                .about(format!("channel {name}"))
                .next("try again when it is done; see vfiomuxctl channel show"));
        }
        let generation = channel.setting.generation;
        if let Some(expected) = expected_generation.filter(|&expected| expected != generation) {
            return Err(RpcError::new(
                ErrorCode::Conflict,
                format!("channel {name} has generation {generation}, not {expected}"),
            )
            .about(format!("channel {name}"))
            .next("look at it again with vfiomuxctl channel show, then ask anew"));
        }
        Ok(channel.setting.id.clone())
    }

    /// Whether `step` is allowed now; the refusal says what is.
    pub(crate) fn check_step(&self, id: &str, step: Step) -> Result<(), RpcError> {
        let Some(channel) = self.channels.get(id) else { return Ok(()) };
        advance(channel.setting.oper, step).map(|_| ()).map_err(|refused| {
            RpcError::new(ErrorCode::Conflict, format!("channel {}: {refused}", channel.setting.name))
                .about(format!("channel {}", channel.setting.name))
                .next(channel.setting.oper.advice())
        })
    }

    /// Takes a step of the life of a channel: journalled, then in effect, then told.
    ///
    /// A step that the table does not have changes nothing and is recorded as a fault: nothing that goes on here is worth
    /// breaking the table for.
    pub(crate) fn step(&mut self, id: &str, step: Step, reason: Option<String>) {
        let Some(channel) = self.channels.get(id) else { return };
        let (name, from) = (channel.setting.name.clone(), channel.setting.oper);
        let to = match advance(from, step) {
            Ok(to) => to,
            Err(refused) => {
                let mut fault = event(EventKind::Fault, ObjectKind::Channel, name);
                fault.reason = Some(refused.to_string());
                return self.tell(fault);
            }
        };
        let deadline_ns = to.deadline().map(|left| self.after(left));
        let Some(channel) = self.channels.get_mut(id) else { return };
        channel.setting.oper = to;
        channel.reasons.oper.clone_from(&reason);
        let (before, health) = (channel.health, &mut channel.health);
        *health = match to {
            Oper::Quarantined | Oper::Failed => Health::Failed,
            _ => Health::Ok,
        };
        let health = channel.health;
        channel.deadline_ns = deadline_ns;
        let record = Record::Transition { id: id.to_owned(), step, to };
        if !seeded::is(Bug::UnloggedTransition) {
            self.journal_append(&record);
        }
        let mut told = event(EventKind::Oper, ObjectKind::Channel, name.clone());
        (told.from, told.to) = (Some(from.name().to_owned()), Some(to.name().to_owned()));
        told.reason.clone_from(&reason);
        self.tell(told);
        if before != health {
            let mut told = event(EventKind::Health, ObjectKind::Channel, name);
            let word = |health| if health == Health::Ok { "ok" } else { "failed" }.to_owned();
            (told.from, told.to, told.reason) = (Some(word(before)), Some(word(health)), reason);
            self.tell(told);
        }
    }

    /// Changes the setting of a channel: one generation more, journalled before it takes effect.
    pub(crate) fn change_setting(
        &mut self,
        id: &str,
        change: impl FnOnce(&mut Setting),
    ) -> Result<(), RpcError> {
        let Some(channel) = self.channels.get(id) else { return Ok(()) };
        let mut setting = channel.setting.clone();
        change(&mut setting);
        setting.generation += 1;
        self.journal.append(&Record::Setting(Box::new(setting.clone()))).map_err(|error| internal(&error))?;
        let mut told = event(EventKind::Setting, ObjectKind::Channel, setting.name.clone());
        told.generation = Some(setting.generation);
        if let Some(channel) = self.channels.get_mut(id) {
            if channel.setting.name != setting.name {
                // Whoever follows it by its name goes on with the new one.
                (told.from, told.to) = (Some(channel.setting.name.clone()), Some(setting.name.clone()));
            }
            channel.setting = setting;
        }
        self.tell(told);
        Ok(())
    }

    /// Marks the one operation of a channel as under way, or as over.
    pub(crate) fn set_operation(&mut self, id: &str, operation: Option<&'static str>) {
        if let Some(channel) = self.channels.get_mut(id) {
            channel.operation = operation;
        }
    }

    /// The channel that a sidecore knows by `seat`.
    pub(crate) fn channel_seated(&self, line: usize, seat: ChannelId) -> Option<String> {
        let sits = |channel: &&Channel| channel.seat.as_ref().is_some_and(|s| s.line == line && s.id == seat);
        self.channels.values().find(sits).map(|channel| channel.setting.id.clone())
    }
}

/// There is none of this name, or none that the caller may know of: the words are the same (C5).
pub(crate) fn unknown_channel(name: &str) -> RpcError {
    RpcError::not_found(format!("channel {name}"), "see the names with vfiomuxctl channel list")
}

/// A fault of the daemon's own, or of what it stands on.
pub(crate) fn internal(error: &dyn std::fmt::Display) -> RpcError {
    RpcError::new(ErrorCode::Internal, error.to_string())
}
