#![expect(unsafe_code, reason = "C functions which a policy calls with the context it was given")]
//! Where answers, new guarantees, state and lines go, each bounded as the plugin host bounds it.

use std::cell::RefCell;
use std::ffi::c_void;
use std::ptr;

use crate::abi::{
    self, AMENDMENTS_MAX, Amendment, AnswerSink, Extensible, LogLevel, MINOR, RETUNES_MAX, RawVerdict,
    Refused, RetuneSink, STATE_BYTES_MAX, Setting, StateSink, Text,
};
use crate::{Amendments, Retune, Verdict};

/// Most lines that are kept of the log.
const LINES_MAX: usize = 10_000;

/// What was given beside a verdict.
#[derive(Default)]
pub(super) struct Answered {
    reason: Vec<u8>,
    amendments: Vec<Amendment>,
}

impl Answered {
    /// A sink that fills this, as long as the borrow lasts in truth.
    pub(super) fn sink(&mut self) -> AnswerSink {
        let context = ptr::from_mut(self).cast();
        AnswerSink { context, reason: Some(take_reason), amend: Some(take_amendment), ..AnswerSink::empty() }
    }

    /// The verdict that the number amounts to, with what was given beside it.
    pub(super) fn verdict(self, number: RawVerdict) -> Verdict {
        match number {
            RawVerdict::ALLOW => Verdict::Allow,
            RawVerdict::DENY if self.reason.is_empty() => Verdict::deny("no reason given"),
            RawVerdict::DENY => Verdict::Deny(String::from_utf8_lossy(&self.reason).into_owned()),
            RawVerdict::AMEND => self.amendments.into_iter().collect::<Amendments>().into(),
            RawVerdict(number) => Verdict::deny(format!("the policy answered {number}, which is no verdict")),
        }
    }
}

unsafe extern "C" fn take_reason(context: *mut c_void, reason: Text) -> Refused {
    // SAFETY: the context is of the `Answered` that waits for this hook, which nothing else touches meanwhile; the policy
    // vouches for its text.
    let (answered, bytes) = unsafe { (&mut *context.cast::<Answered>(), reason.bytes()) };
    answered.reason = bytes.iter().copied().take(abi::REASON_BYTES_MAX).collect();
    Refused::TAKEN
}

unsafe extern "C" fn take_amendment(context: *mut c_void, setting: Setting, value: u64) -> Refused {
    // SAFETY: the context is of the `Answered` that waits for this hook, which nothing else touches meanwhile.
    let answered = unsafe { &mut *context.cast::<Answered>() };
    if answered.amendments.len() >= AMENDMENTS_MAX {
        return Refused::FULL;
    }
    answered.amendments.push(Amendment::new(setting, value));
    Refused::TAKEN
}

/// A sink for new guarantees.
pub(super) fn retune_sink(retunes: &mut Vec<Retune>) -> RetuneSink {
    RetuneSink { context: ptr::from_mut(retunes).cast(), retune: Some(take_retune), ..RetuneSink::empty() }
}

unsafe extern "C" fn take_retune(
    context: *mut c_void,
    channel_id: Text,
    generation: u64,
    amendments: *const Amendment,
    amendments_count: usize,
) -> Refused {
    // SAFETY: the context is of the list that waits for this hook, which nothing else touches meanwhile; the policy vouches
    // for its text.
    let (retunes, channel_id) =
        unsafe { (&mut *context.cast::<Vec<Retune>>(), channel_id.as_str().to_owned()) };
    if retunes.len() >= RETUNES_MAX || amendments_count > AMENDMENTS_MAX {
        return Refused::FULL;
    }
    if amendments.is_null() && amendments_count > 0 {
        return Refused::SENSELESS;
    }
    // SAFETY: `index` stays below the count for which the policy vouches.
    let amendments = (0..amendments_count).map(|index| unsafe { amendments.add(index).read() }).collect();
    retunes.push(Retune { channel_id, generation, amendments });
    Refused::TAKEN
}

/// A sink for state.
pub(super) fn state_sink(state: &mut Vec<u8>) -> StateSink {
    StateSink { context: ptr::from_mut(state).cast(), write: Some(take_state), ..StateSink::empty() }
}

unsafe extern "C" fn take_state(context: *mut c_void, bytes: Text) -> Refused {
    // SAFETY: the context is of the bytes that wait for this hook, which nothing else touches meanwhile; the policy vouches
    // for what it gives.
    let (state, bytes) = unsafe { (&mut *context.cast::<Vec<u8>>(), bytes.bytes()) };
    if state.len() + bytes.len() > STATE_BYTES_MAX {
        return Refused::FULL;
    }
    state.extend_from_slice(bytes);
    Refused::TAKEN
}

/// A line that a policy wrote to the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// How much it matters.
    pub level: LogLevel,
    /// What it says.
    pub line: String,
}

/// The log of one harness. On the heap and never moved, since the policy holds its address.
#[derive(Debug)]
pub(super) struct Log(*mut RefCell<Vec<LogLine>>);

impl Default for Log {
    fn default() -> Self {
        Self(Box::into_raw(Box::default()))
    }
}

impl Log {
    pub(super) fn host(&self) -> abi::Host {
        abi::Host { minor: MINOR, context: self.0.cast(), log: Some(take_line), ..abi::Host::empty() }
    }

    pub(super) fn lines(&self) -> Vec<LogLine> {
        // SAFETY: made from a box, and freed by `drop` alone.
        unsafe { &*self.0 }.borrow().clone()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // SAFETY: made from a box, once; the policy has ended, since a harness ends it before its fields are dropped.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

unsafe extern "C" fn take_line(context: *mut c_void, level: LogLevel, line: Text) {
    // SAFETY: the context is of the log, which lives until the policy has ended; the policy vouches for its text.
    let (log, line) = unsafe { (&*context.cast::<RefCell<Vec<LogLine>>>(), line.as_str().to_owned()) };
    let mut lines = log.borrow_mut();
    if lines.len() < LINES_MAX {
        lines.push(LogLine { level, line });
    }
}
