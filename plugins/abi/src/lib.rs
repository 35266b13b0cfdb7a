//! The C ABI of policy plugins, and nothing else.
//!
//! A plugin is a shared library that exports one static, [`SYMBOL`]: a [`Policy`], which is a header and a table of hooks.
//! The plugin host holds the file against [`check_library`], finds the symbol, holds the header against [`check()`], copies as much of the table as both sides know
//! ([`read_policy`]) and from then on calls hooks, one at a time and on one thread.
//!
//! ```text
//!   check_library ─► dlopen, dlsym ─► check(magic, major, minor, size) ─► read_policy ─► init ─► restore? ─► hooks … ─► save? ─► fini
//!
//!   hook(instance, *request, *sink) ─► RawVerdict      the request: plain data, valid during the call
//!                              └─► reason, amendments, retunes: given to the sink, copied there, bounded there
//! ```
//!
//! What lives here: structures, numbers, and the few functions that make reading them safe for either side. What does not:
//! loading a library (`plugins/host`), what the daemon makes of an answer (`core/policy`), a comfortable way to write a
//! plugin in Rust (`plugins/sdk`). The C header, `include/vfiomux_policy.h`, is generated from these files.
//!
//! # How it grows
//!
//! Every structure that crosses begins with its own size, and grows only at its end. Who reads one takes the prefix that
//! both sides know, and zeroes for the rest ([`read_prefix`]); so 0 means "not given" in every field. Structures are handed
//! over by pointer, lists of them as a list of pointers, so that an element may grow too. A hook, a request or a setting that is added makes a
//! new [`MINOR`], and both an older and a newer minor load; anything else makes a new [`MAJOR`] and a new symbol.
//!
//! # What a plugin may rely on
//!
//! Text is UTF-8 with a length and without a NUL. What a request points to is gone when the hook returns. A hook that is null
//! allows, or changes nothing. An answer is a raw `u32` and what was given to the sink; an amendment of a setting that the request
//! does not have is a denial that says so. A number that is none of [`RawVerdict`]'s, or more than a sink takes, is no answer at
//! all, and neither is silence beyond the hook's deadline: the plugin's process is killed and started again, and the hook's fallback
//! holds: creation denied, guarantees kept, the end allowed.
#![no_std]

mod check;
mod library;
mod policy;
mod prefix;
mod request;
mod sink;
mod subject;
mod telemetry;
mod text;
mod verdict;

pub use check::{MAGIC, MAJOR, MINOR, Refusal, SIZE_MIN_BYTES, SYMBOL, check, read_policy};
pub use library::{NotALibrary, check_library};
pub use policy::Policy;
pub use prefix::{Extensible, read_list, read_prefix};
pub use request::{
    AttachRequest, ClaimRequest, CreateRequest, DestroyRequest, DiscoverRequest, FaultKind, FaultRequest,
    InitRequest, MigrateRequest, PressureKind, PressureRequest, SessionRequest, TickRequest, TuneRequest,
};
pub use sink::{AnswerSink, Host, LogLevel, Refused, RetuneSink, StateSink};
pub use subject::{Channel, Device, Guarantees, RateLimit, Tenant};
pub use telemetry::ChannelTelemetry;
pub use text::{Label, Text};
pub use verdict::{
    AMENDMENTS_MAX, Amendment, REASON_BYTES_MAX, RETUNES_MAX, RawVerdict, STATE_BYTES_MAX, Setting,
};
