#![expect(unsafe_code, reason = "says of the structures that they may grow at their end")]

use core::ffi::c_void;

use crate::{Amendment, Extensible, Setting, Text};

/// Whether a sink took what it was given. 0 is yes; anything else is not, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Refused(pub u32);

impl Refused {
    /// Taken.
    pub const TAKEN: Self = Self(0);
    /// The sink holds as much as it may. An answer that was cut is no answer, whatever the hook then returns.
    pub const FULL: Self = Self(1);
    /// It makes no sense: a null pointer, or a channel that the request did not name.
    pub const SENSELESS: Self = Self(2);
}

/// Takes what stands beside a verdict. Valid during the call it was given to.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct AnswerSink {
    /// Size of this structure.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// Given back as the first argument of each function.
    pub context: *mut c_void,
    /// Takes the reason of a denial; the last one given stands.
    pub reason: Option<unsafe extern "C" fn(context: *mut c_void, reason: Text) -> Refused>,
    /// Takes an amendment; they are applied in order.
    pub amend: Option<unsafe extern "C" fn(context: *mut c_void, setting: Setting, value: u64) -> Refused>,
}

/// Takes new guarantees. Valid during the call it was given to.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct RetuneSink {
    /// Size of this structure.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// Given back as the first argument of the function.
    pub context: *mut c_void,
    /// Takes what must change of one channel's guarantees, all of it or nothing. `generation` is the one that the request
    /// named: when the channel has moved on since, the retune is dropped.
    pub retune: Option<
        unsafe extern "C" fn(
            context: *mut c_void,
            channel_id: Text,
            generation: u64,
            amendments: *const Amendment,
            amendments_count: usize,
        ) -> Refused,
    >,
}

/// Takes the state that a plugin leaves to its successor. Valid during the call it was given to.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct StateSink {
    /// Size of this structure.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// Given back as the first argument of the function.
    pub context: *mut c_void,
    /// Takes some bytes, to stand behind those given before.
    pub write: Option<unsafe extern "C" fn(context: *mut c_void, bytes: Text) -> Refused>,
}

/// How much a line of the log matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct LogLevel(pub u32);

impl LogLevel {
    /// Somebody must do something.
    pub const ERROR: Self = Self(1);
    /// Somebody should look.
    pub const WARN: Self = Self(2);
    /// Worth knowing.
    pub const INFO: Self = Self(3);
    /// For who writes the plugin.
    pub const DEBUG: Self = Self(4);
}

/// What the host does for a plugin. Valid from `init` until `fini` has returned.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Host {
    /// Size of this structure.
    pub struct_size: u32,
    /// Minor version that the host speaks.
    pub minor: u32,
    /// Given back as the first argument of the function.
    pub context: *mut c_void,
    /// Writes a line to the daemon's log, under the plugin's name. Too many are dropped, and counted.
    pub log: Option<unsafe extern "C" fn(context: *mut c_void, level: LogLevel, line: Text)>,
}

// SAFETY: `repr(C)`, the size in front, and only integers, pointers and optional functions, all of which may be zero.
unsafe impl Extensible for AnswerSink {}
// SAFETY: as above.
unsafe impl Extensible for RetuneSink {}
// SAFETY: as above.
unsafe impl Extensible for StateSink {}
// SAFETY: as above.
unsafe impl Extensible for Host {}
