#![expect(unsafe_code, reason = "answers with what a decent policy cannot")]
//! The exported table: the hooks of `export_policy!`, but that a lie which was ordered meanwhile takes the answer's place.

use std::cell::Cell;
use std::ffi::c_void;

use vfiomux_plugin::abi::{
    self, AnswerSink, FaultRequest, Policy, RawVerdict, RetuneSink, Setting, Text, read_prefix,
};

use crate::Faulty;

/// So much more than any sink takes.
pub(crate) const FLOOD: u32 = 100_000;

/// An answer that is wrong by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// A number that is no verdict.
    Number,
    /// Settings that do not exist.
    Settings,
    /// The largest number for each setting.
    Values,
    /// A reason that is too long and no UTF-8.
    Reason,
    /// A denial without a reason.
    Silent,
    /// An amendment of nothing.
    Empty,
    /// More than any sink takes.
    Flood,
}

thread_local! {
    /// What the hook that runs was told to answer with.
    static ORDERED: Cell<Option<Lie>> = const { Cell::new(None) };
}

/// The hook that runs shall answer with this, whatever it returns.
pub(crate) fn order(lie: Lie) {
    ORDERED.set(Some(lie));
}

const HONEST: Policy = vfiomux_plugin::table::<Faulty>(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));

/// The policy, as the plugin host finds it.
#[unsafe(no_mangle)]
pub(crate) static vfiomux_policy_v1: Policy = Policy {
    discover: Some(discover),
    claim: Some(claim),
    create: Some(create),
    attach: Some(attach),
    session: Some(session),
    tune: Some(tune),
    tick: Some(tick),
    pressure: Some(pressure),
    fault: Some(fault),
    migrate: Some(migrate),
    destroy: Some(destroy),
    ..HONEST
};

/// The answer, unless a lie was ordered.
///
/// # Safety
/// The sink is null or can be used.
unsafe fn unless_lie(honest: RawVerdict, sink: *const AnswerSink) -> RawVerdict {
    let Some(lie) = ORDERED.take() else { return honest };
    // SAFETY: the caller vouches for the sink.
    let Some(AnswerSink { context, reason: Some(reason), amend: Some(amend), .. }) =
        (unsafe { read_prefix(sink) })
    else {
        return honest;
    };
    // SAFETY: the caller vouches for the sink.
    let give = |setting, value| unsafe { amend(context, Setting(setting), value) }.0;
    match lie {
        Lie::Number => RawVerdict(77),
        Lie::Settings => {
            give(9999, 1);
            RawVerdict::AMEND
        }
        Lie::Values => {
            (0..64).for_each(|setting| _ = give(setting, u64::MAX));
            RawVerdict::AMEND
        }
        Lie::Reason => {
            let garbage = vec![0xff; 1 << 20];
            // SAFETY: the caller vouches for the sink; the bytes outlive the call.
            unsafe { reason(context, Text::from_bytes(&garbage)) };
            RawVerdict::DENY
        }
        Lie::Silent => RawVerdict::DENY,
        Lie::Empty => RawVerdict::AMEND,
        Lie::Flood => {
            (0..FLOOD).for_each(|value| _ = give(Setting::SHARE.0, u64::from(value)));
            RawVerdict::AMEND
        }
    }
}

macro_rules! verdict_hooks {
    ($($hook:ident: $request:ident),* $(,)?) => {$(
        unsafe extern "C" fn $hook(
            instance: *mut c_void,
            request: *const abi::$request,
            sink: *const AnswerSink,
        ) -> RawVerdict {
            let Some(honest) = HONEST.$hook else { return RawVerdict::ALLOW };
            // SAFETY: the host's own arguments are passed on.
            unsafe { unless_lie(honest(instance, request, sink), sink) }
        }
    )*};
}

verdict_hooks! {
    discover: DiscoverRequest,
    claim: ClaimRequest,
    create: CreateRequest,
    attach: AttachRequest,
    session: SessionRequest,
    tune: TuneRequest,
    migrate: MigrateRequest,
    destroy: DestroyRequest,
}

unsafe extern "C" fn fault(
    instance: *mut c_void,
    request: *const FaultRequest,
    sink: *const AnswerSink,
    retunes: *const RetuneSink,
) -> RawVerdict {
    let Some(honest) = HONEST.fault else { return RawVerdict::ALLOW };
    // SAFETY: the host's own arguments are passed on.
    unsafe { unless_lie(honest(instance, request, sink, retunes), sink) }
}

/// Retunes that make no sense, when a lie was ordered: of nobody, of nothing, and more than any sink takes.
///
/// # Safety
/// The sink is null or can be used.
unsafe fn lie_in_retunes(sink: *const RetuneSink) {
    let Some(lie) = ORDERED.take() else { return };
    // SAFETY: the caller vouches for the sink.
    let Some(RetuneSink { context, retune: Some(retune), .. }) = (unsafe { read_prefix(sink) }) else {
        return;
    };
    let wild = abi::Amendment::new(Setting(9999), u64::MAX);
    let count = if lie == Lie::Flood { FLOOD } else { 1 };
    for generation in 0..u64::from(count) {
        // SAFETY: the caller vouches for the sink; what is pointed to outlives the call.
        unsafe {
            retune(context, Text::new("nobody"), generation, &raw const wild, 1);
            retune(context, Text::from_bytes(&[0xff; 16]), generation, std::ptr::null(), 3);
        }
    }
}

unsafe extern "C" fn tick(instance: *mut c_void, request: *const abi::TickRequest, sink: *const RetuneSink) {
    let Some(honest) = HONEST.tick else { return };
    // SAFETY: the host's own arguments are passed on.
    unsafe {
        honest(instance, request, sink);
        lie_in_retunes(sink);
    }
}

unsafe extern "C" fn pressure(
    instance: *mut c_void,
    request: *const abi::PressureRequest,
    sink: *const RetuneSink,
) {
    let Some(honest) = HONEST.pressure else { return };
    // SAFETY: the host's own arguments are passed on.
    unsafe {
        honest(instance, request, sink);
        lie_in_retunes(sink);
    }
}
