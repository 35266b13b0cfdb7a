//! A step of a plan: one request, and why.

use std::fmt;

use serde_json::Value;
use vfiomux_rpc::{Call, Change, ClientError, call};

use crate::session::Session;
use crate::table::printable;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Act {
    Destroy(call::ChannelDestroy),
    TuneTenant(call::TenantTune),
    Resume(call::ChannelResume),
    Detach(call::ChannelDetach),
    Set(call::ChannelSet),
    Tune(call::ChannelTune),
    Resize(call::ChannelResize),
    Move(call::ChannelMove),
    Attach(call::ChannelAttach),
    Suspend(call::ChannelSuspend),
    Create(call::ChannelCreate),
}

/// Does the same with the request of each act, whatever its type.
macro_rules! with_call {
    ($act:expr, $call:ident => $done:expr) => {
        match $act {
            Act::Destroy($call) => $done,
            Act::TuneTenant($call) => $done,
            Act::Resume($call) => $done,
            Act::Detach($call) => $done,
            Act::Set($call) => $done,
            Act::Tune($call) => $done,
            Act::Resize($call) => $done,
            Act::Move($call) => $done,
            Act::Attach($call) => $done,
            Act::Suspend($call) => $done,
            Act::Create($call) => $done,
        }
    };
}

/// What a step is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    Channel(String),
    Tenant(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) act: Act,
    /// What differs, in one phrase.
    pub(super) why: String,
    /// The generation that its object had when the plan was made; none before there is such an object.
    pub(super) planned_generation: Option<u64>,
    /// It gives something back that a later step can need: space, or a reservation.
    pub(super) gives_room: bool,
}

impl Step {
    pub(super) fn subject(&self) -> Subject {
        let name = with_call!(&self.act, call => call.name.clone());
        match self.act {
            Act::TuneTenant(_) => Subject::Tenant(name),
            _ => Subject::Channel(name),
        }
    }

    /// Whether the daemon can refuse it for want of what an earlier step gives back.
    pub(super) const fn needs_room(&self) -> bool {
        matches!(self.act, Act::Create(_) | Act::Move(_) | Act::Resize(_) | Act::Tune(_)) && !self.gives_room
    }

    /// Its method and parameters, for scripts.
    pub(super) fn wire(&self) -> (&'static str, Value) {
        with_call!(&self.act, call => (method(call), serde_json::to_value(call).unwrap_or_default()))
    }

    /// Asks for it. What can take long is waited for.
    pub(super) fn ask(&self, session: &mut Session, change: &Change) -> Result<Value, ClientError> {
        with_call!(&self.act, call => session.call_value(call, change))
    }

    const fn sign_and_verb(&self) -> (char, &'static str) {
        match self.act {
            Act::Destroy(_) => ('-', "destroy"),
            Act::TuneTenant(_) => ('~', "tune tenant"),
            Act::Resume(_) => ('~', "resume"),
            Act::Detach(_) => ('~', "detach"),
            Act::Set(_) => ('~', "set"),
            Act::Tune(_) => ('~', "tune"),
            Act::Resize(_) => ('~', "resize"),
            Act::Move(_) => ('~', "move"),
            Act::Attach(_) => ('~', "attach"),
            Act::Suspend(_) => ('~', "suspend"),
            Act::Create(_) => ('+', "create"),
        }
    }
}

const fn method<C: Call>(_: &C) -> &'static str {
    C::METHOD
}

/// One line: `~ tune alpha: iops 5000 -> 8000`.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, verb) = self.sign_and_verb();
        let (Subject::Channel(name) | Subject::Tenant(name)) = self.subject();
        write!(f, "{sign} {verb} {}: {}", printable(&name), printable(&self.why))
    }
}
