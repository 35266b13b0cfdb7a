#![expect(unsafe_code, reason = "copies what a plugin points at")]
//! What a plugin gives beside its verdict: copied at once, and no more of it than there may be.
//!
//! The functions of a sink do not use the context that they are given back: there is one desk a process, on its one thread, and a
//! plugin that calls a sink of yesterday, or from a signal handler, reaches nothing that is not there.

use std::cell::RefCell;
use std::ffi::c_void;
use std::mem;
use std::ptr;

use vfiomux_plugin_abi::{
    self as abi, AnswerSink, Extensible as _, LogLevel as RawLevel, Refused, RetuneSink, StateSink, Text,
};
use vfiomux_policy::wire::{
    AMENDMENTS_MAX, ATTACHMENT_BYTES_MAX, LOG_LINES_MAX, LogLevel, LogLine, PHRASE_BYTES_MAX, RETUNES_MAX,
    phrase,
};
use vfiomux_policy::{Amendment, Retune};

/// Most amendments in all retunes of one answer.
const RETUNED_MAX: usize = 4 * RETUNES_MAX;

/// What was given during one hook.
#[derive(Debug, Default)]
pub(crate) struct Given {
    pub(crate) reason: String,
    pub(crate) amendments: Vec<Amendment>,
    pub(crate) retunes: Vec<Retune>,
    pub(crate) state: Vec<u8>,
    /// Something was given that the sink had no room for: what is there is not all that was meant.
    pub(crate) overflowed: bool,
}

/// Lines of log, and those that were too many.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) lines: Vec<LogLine>,
    pub(crate) dropped: u64,
}

#[derive(Debug, Default)]
struct Desk {
    given: Given,
    log: Log,
    /// A hook runs that may give these.
    takes: Takes,
    /// The channels that the request named.
    named: Vec<String>,
    /// Amendments in all retunes.
    retuned: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Takes {
    answers: bool,
    retunes: bool,
    state: bool,
}

thread_local! {
    static DESK: RefCell<Desk> = RefCell::default();
}

/// The sinks that a hook is given. They are of no use to anybody when it has returned.
#[derive(Debug)]
pub(crate) struct Sinks {
    pub(crate) answer: AnswerSink,
    pub(crate) retune: RetuneSink,
    pub(crate) state: StateSink,
}

impl Sinks {
    /// Runs a hook that may deny, with a reason, or amend.
    pub(crate) fn for_answer<R>(hook: impl FnOnce(&Self) -> R) -> (R, Given) {
        Self::open(Takes { answers: true, ..Takes::default() }, Vec::new(), hook)
    }

    /// Runs a hook that may retune the channels that its request names.
    pub(crate) fn for_retunes<R>(
        named: impl IntoIterator<Item = String>,
        hook: impl FnOnce(&Self) -> R,
    ) -> (R, Given) {
        let takes = Takes { retunes: true, ..Takes::default() };
        Self::open(takes, named.into_iter().collect(), hook)
    }

    /// Runs a hook that may deny, and may retune any channel: the request does not name those.
    pub(crate) fn for_fault<R>(hook: impl FnOnce(&Self) -> R) -> (R, Given) {
        Self::open(Takes { answers: true, retunes: true, state: false }, Vec::new(), hook)
    }

    /// Runs a hook that may leave state.
    pub(crate) fn for_state<R>(hook: impl FnOnce(&Self) -> R) -> (R, Given) {
        Self::open(Takes { state: true, ..Takes::default() }, Vec::new(), hook)
    }

    fn open<R>(takes: Takes, mut named: Vec<String>, hook: impl FnOnce(&Self) -> R) -> (R, Given) {
        named.sort_unstable();
        DESK.with_borrow_mut(|desk| {
            (desk.takes, desk.named, desk.retuned) = (takes, named, 0);
            desk.given = Given::default();
        });
        let mut sinks =
            Self { answer: AnswerSink::empty(), retune: RetuneSink::empty(), state: StateSink::empty() };
        sinks.answer.reason = Some(reason);
        sinks.answer.amend = Some(amend);
        sinks.retune.retune = Some(retune);
        sinks.state.write = Some(write);
        let result = hook(&sinks);
        let given = DESK.with_borrow_mut(|desk| {
            desk.takes = Takes::default();
            mem::take(&mut desk.given)
        });
        (result, given)
    }
}

/// The log since the last call.
pub(crate) fn take_log() -> Log {
    DESK.with_borrow_mut(|desk| mem::take(&mut desk.log))
}

/// The first bytes of a text of the plugin's, at most so many.
///
/// # Safety
/// As for [`Text::bytes`].
pub(crate) unsafe fn text(text: Text, bytes_max: usize) -> String {
    let text = Text { data: text.data, len_bytes: text.len_bytes.min(bytes_max) };
    // SAFETY: a part of what the caller vouches for.
    unsafe { text.as_str() }.to_owned()
}

fn at_desk(put: impl FnOnce(&mut Desk) -> Refused) -> Refused {
    DESK.with(|desk| match desk.try_borrow_mut() {
        Ok(mut desk) => put(&mut desk),
        Err(_) => Refused::SENSELESS,
    })
}

unsafe extern "C" fn reason(_: *mut c_void, reason: Text) -> Refused {
    // SAFETY: the plugin vouches for its text during this call; if it lies, this process ends.
    let reason = unsafe { text(reason, PHRASE_BYTES_MAX) };
    at_desk(|desk| {
        if !desk.takes.answers {
            return Refused::SENSELESS;
        }
        desk.given.reason = phrase(&reason);
        Refused::TAKEN
    })
}

unsafe extern "C" fn amend(_: *mut c_void, setting: abi::Setting, value: u64) -> Refused {
    at_desk(|desk| {
        if !desk.takes.answers {
            return Refused::SENSELESS;
        }
        if desk.given.amendments.len() >= AMENDMENTS_MAX {
            desk.given.overflowed = true;
            return Refused::FULL;
        }
        desk.given.amendments.push(Amendment { setting, value });
        Refused::TAKEN
    })
}

unsafe extern "C" fn retune(
    _: *mut c_void,
    channel_id: Text,
    generation: u64,
    amendments: *const abi::Amendment,
    count: usize,
) -> Refused {
    // SAFETY: the plugin vouches for its text during this call; if it lies, this process ends.
    let channel_id = unsafe { text(channel_id, PHRASE_BYTES_MAX) };
    at_desk(|desk| {
        if !desk.takes.retunes || amendments.is_null() && count > 0 {
            return Refused::SENSELESS;
        }
        // A fault may be answered by retuning others than it names.
        if !desk.takes.answers && !desk.names(&channel_id) {
            return Refused::SENSELESS;
        }
        let full =
            desk.given.retunes.len() >= RETUNES_MAX || desk.retuned.saturating_add(count) > RETUNED_MAX;
        if full || count > AMENDMENTS_MAX {
            desk.given.overflowed = true;
            return Refused::FULL;
        }
        desk.retuned += count;
        let amendments = (0..count).map(|index| {
            // SAFETY: not null, and the plugin vouches for so many during this call; they may lie anywhere.
            let abi::Amendment { setting, value, .. } = unsafe { ptr::read_unaligned(amendments.add(index)) };
            Amendment { setting, value }
        });
        let amendments = amendments.collect();
        desk.given.retunes.push(Retune { channel_id, generation, amendments });
        Refused::TAKEN
    })
}

impl Desk {
    fn names(&self, channel_id: &str) -> bool {
        self.named.binary_search_by(|id| id.as_str().cmp(channel_id)).is_ok()
    }
}

unsafe extern "C" fn write(_: *mut c_void, bytes: Text) -> Refused {
    if bytes.len_bytes > ATTACHMENT_BYTES_MAX {
        return at_desk(|desk| {
            desk.given.overflowed = true;
            Refused::FULL
        });
    }
    // SAFETY: the plugin vouches for its bytes during this call; if it lies, this process ends.
    let bytes = unsafe { bytes.bytes() };
    at_desk(|desk| {
        if !desk.takes.state {
            return Refused::SENSELESS;
        }
        if desk.given.state.len() + bytes.len() > ATTACHMENT_BYTES_MAX {
            desk.given.overflowed = true;
            return Refused::FULL;
        }
        desk.given.state.extend_from_slice(bytes);
        Refused::TAKEN
    })
}

/// Writes a line to the daemon's log: [`abi::Host::log`].
pub(crate) unsafe extern "C" fn log(_: *mut c_void, level: RawLevel, line: Text) {
    // SAFETY: the plugin vouches for its text during this call; if it lies, this process ends.
    let line = unsafe { text(line, PHRASE_BYTES_MAX) };
    at_desk(|desk| {
        if desk.log.lines.len() >= LOG_LINES_MAX {
            desk.log.dropped = desk.log.dropped.saturating_add(1);
            return Refused::FULL;
        }
        let level = match level {
            RawLevel::ERROR => LogLevel::Error,
            RawLevel::WARN => LogLevel::Warn,
            RawLevel::DEBUG => LogLevel::Debug,
            _ => LogLevel::Info,
        };
        desk.log.lines.push(LogLine { level, line: phrase(&line) });
        Refused::TAKEN
    });
}

#[cfg(test)]
mod tests;
