#![expect(unsafe_code, reason = "the hooks as C functions, which the plugin host calls with pointers")]
//! The table of a policy, and its hooks as C functions.

use std::any::Any;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::abi::{
    self, AnswerSink, MAGIC, MAJOR, MINOR, RawVerdict, Refused, RetuneSink, StateSink, Text, read_prefix,
};
use crate::read::View;
use crate::{Host, InitRequest, Policy, Retunes, Verdict};

/// Exports a [`Policy`] under the symbol that the plugin host looks for. Once in a library.
///
/// The library is called by the name and version of the crate that it is in.
#[macro_export]
macro_rules! export_policy {
    ($policy:ty) => {
        /// The policy, as the plugin host finds it.
        #[allow(
            unsafe_code,
            non_upper_case_globals,
            unreachable_pub,
            reason = "the symbol, and that it is seen from outside, is part of the ABI"
        )]
        #[unsafe(no_mangle)]
        pub static vfiomux_policy_v1: $crate::abi::Policy =
            $crate::table::<$policy>(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    };
}

/// What a plugin with this policy exports; [`export_policy!`](crate::export_policy) does it.
#[must_use]
pub const fn table<P: Policy>(name: &'static str, version: &'static str) -> abi::Policy {
    abi::Policy {
        magic: MAGIC,
        major: MAJOR,
        minor: MINOR,
        #[expect(clippy::cast_possible_truncation, reason = "the table is some hundred bytes")]
        struct_size: size_of::<abi::Policy>() as u32,
        reserved: 0,
        name: Text::new(name),
        version: Text::new(version),
        init: Some(init::<P>),
        fini: Some(fini::<P>),
        discover: Some(discover::<P>),
        claim: Some(claim::<P>),
        create: Some(create::<P>),
        attach: Some(attach::<P>),
        session: Some(session::<P>),
        tune: Some(tune::<P>),
        tick: Some(tick::<P>),
        pressure: Some(pressure::<P>),
        fault: Some(fault::<P>),
        migrate: Some(migrate::<P>),
        destroy: Some(destroy::<P>),
        save: Some(save::<P>),
        restore: Some(restore::<P>),
    }
}

/// What `instance` points to.
struct Instance<P> {
    policy: P,
    host: Host,
}

/// Runs a hook that answers with a verdict.
///
/// # Safety
/// Pointers are as the ABI has them: the instance is null or that of [`init`] with the same `P`, not in use otherwise; the request and the sink
/// are null or can be used during the call.
unsafe fn answer<P, R: View>(
    instance: *mut c_void,
    request: *const R::Raw,
    sink: *const AnswerSink,
    hook: impl FnOnce(&mut Instance<P>, &R) -> Verdict,
) -> RawVerdict {
    // SAFETY: the caller vouches for the three pointers.
    let (instance, request, sink) =
        unsafe { (instance.cast::<Instance<P>>().as_mut(), R::read(request), read_prefix(sink)) };
    let verdict = match (instance, request) {
        (Some(instance), Some(request)) => catch_unwind(AssertUnwindSafe(|| hook(instance, &request)))
            .unwrap_or_else(|panic| Verdict::Deny(panicked(&*panic))),
        (None, _) => Verdict::deny("the host asked a policy that was not begun"),
        (_, None) => Verdict::deny("the host asked nothing"),
    };
    // SAFETY: the caller vouches for the sink.
    unsafe { pour(&verdict, sink) }
}

/// Gives a verdict, with what stands beside it.
///
/// # Safety
/// The sink's functions may be called with its context.
unsafe fn pour(verdict: &Verdict, sink: Option<AnswerSink>) -> RawVerdict {
    let Some(sink) = sink else { return RawVerdict::DENY };
    let explain = |reason: &str| {
        if let Some(give) = sink.reason {
            // SAFETY: the caller vouches for the sink; the reason outlives the call.
            unsafe { give(sink.context, Text::new(reason)) };
        }
        RawVerdict::DENY
    };
    match verdict {
        Verdict::Allow => RawVerdict::ALLOW,
        Verdict::Deny(reason) => explain(reason),
        Verdict::Amend(amendments) => {
            let Some(amend) = sink.amend else { return explain("the host takes no amendments") };
            // SAFETY: the caller vouches for the sink.
            let given = |&abi::Amendment { setting, value, .. }: &abi::Amendment| unsafe {
                amend(sink.context, setting, value) == Refused::TAKEN
            };
            if amendments.as_slice().iter().all(given) {
                RawVerdict::AMEND
            } else {
                explain("the policy amends more than the host takes")
            }
        }
    }
}

fn panicked(panic: &(dyn Any + Send)) -> String {
    let message =
        panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    format!("the policy panicked: {}", message.unwrap_or("it does not say why"))
}

/// Runs a hook that gives new guarantees. After a panic, none are given.
///
/// # Safety
/// As for [`answer`].
unsafe fn retune<P, R: View, A: Default>(
    instance: *mut c_void,
    request: *const R::Raw,
    sink: *const RetuneSink,
    hook: impl FnOnce(&mut Instance<P>, &R, &mut Retunes) -> A,
    on_panic: impl FnOnce(String) -> A,
) -> A {
    // SAFETY: the caller vouches for the three pointers.
    let (instance, request, sink) =
        unsafe { (instance.cast::<Instance<P>>().as_mut(), R::read(request), read_prefix(sink)) };
    let (Some(instance), Some(request)) = (instance, request) else { return A::default() };
    let host = instance.host.clone();
    let mut retunes = Retunes::default();
    match catch_unwind(AssertUnwindSafe(|| hook(instance, &request, &mut retunes))) {
        Ok(answer) => {
            // SAFETY: the caller vouches for the sink.
            unsafe { pour_retunes(&retunes, sink, &host) };
            answer
        }
        Err(panic) => {
            let message = panicked(&*panic);
            host.error(&message);
            on_panic(message)
        }
    }
}

/// # Safety
/// The sink's function may be called with its context.
unsafe fn pour_retunes(retunes: &Retunes, sink: Option<RetuneSink>, host: &Host) {
    let Some((give, context)) = sink.and_then(|sink| Some((sink.retune?, sink.context))) else { return };
    for retune in retunes.as_slice() {
        let amendments = retune.amendments.as_slice();
        let channel = Text::new(&retune.channel_id);
        // SAFETY: the caller vouches for the sink; what is pointed to outlives the call.
        let taken =
            unsafe { give(context, channel, retune.generation, amendments.as_ptr(), amendments.len()) };
        if taken != Refused::TAKEN {
            host.warn(format!("the host did not take a retune of {}: {}", retune.channel_id, taken.0));
        }
    }
}

unsafe extern "C" fn init<P: Policy>(
    host: *const abi::Host,
    request: *const abi::InitRequest,
    instance: *mut *mut c_void,
    sink: *const AnswerSink,
) -> RawVerdict {
    // SAFETY: the host vouches for the pointers, and for its own functions until `fini`.
    let (host, request, sink) =
        unsafe { (Host::new(read_prefix(host)), InitRequest::read(request), read_prefix(sink)) };
    let request = request.unwrap_or_default();
    let begun = catch_unwind(AssertUnwindSafe(|| P::init(&request, &host)))
        .unwrap_or_else(|panic| Err(panicked(&*panic)));
    let verdict = match begun {
        Ok(_) if instance.is_null() => Verdict::deny("the host has no place for an instance"),
        Ok(policy) => {
            let boxed = Box::new(Instance { policy, host });
            // SAFETY: not null, and the host vouches for it.
            unsafe { instance.write(Box::into_raw(boxed).cast()) };
            Verdict::Allow
        }
        Err(reason) => Verdict::Deny(reason),
    };
    // SAFETY: the host vouches for its sink.
    unsafe { pour(&verdict, sink) }
}

unsafe extern "C" fn fini<P: Policy>(instance: *mut c_void) {
    if instance.is_null() {
        return;
    }
    // SAFETY: the host gives back what `init` made, once.
    let Instance { policy, host } = *unsafe { Box::from_raw(instance.cast::<Instance<P>>()) };
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(policy))) {
        host.error(panicked(&*panic));
    }
    host.end();
}

/// The C functions of the hooks that ask for a verdict and nothing more.
macro_rules! verdict_hooks {
    ($($hook:ident: $request:ident),* $(,)?) => {$(
        unsafe extern "C" fn $hook<P: Policy>(
            instance: *mut c_void,
            request: *const abi::$request,
            sink: *const AnswerSink,
        ) -> RawVerdict {
            // SAFETY: the host keeps the ABI's conditions, which are those of `answer`.
            unsafe {
                answer::<P, crate::$request>(instance, request, sink, |instance, request| {
                    instance.policy.$hook(request)
                })
            }
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

unsafe extern "C" fn tick<P: Policy>(
    instance: *mut c_void,
    request: *const abi::TickRequest,
    sink: *const RetuneSink,
) {
    let hook = |instance: &mut Instance<P>, request: &crate::TickRequest, retunes: &mut Retunes| {
        instance.policy.tick(request, retunes);
    };
    // SAFETY: the host keeps the ABI's conditions, which are those of `retune`.
    unsafe { retune(instance, request, sink, hook, drop) }
}

unsafe extern "C" fn pressure<P: Policy>(
    instance: *mut c_void,
    request: *const abi::PressureRequest,
    sink: *const RetuneSink,
) {
    let hook = |instance: &mut Instance<P>, request: &crate::PressureRequest, retunes: &mut Retunes| {
        instance.policy.pressure(request, retunes);
    };
    // SAFETY: the host keeps the ABI's conditions, which are those of `retune`.
    unsafe { retune(instance, request, sink, hook, drop) }
}

unsafe extern "C" fn fault<P: Policy>(
    instance: *mut c_void,
    request: *const abi::FaultRequest,
    sink: *const AnswerSink,
    retunes: *const RetuneSink,
) -> RawVerdict {
    let hook = |instance: &mut Instance<P>, request: &crate::FaultRequest, retunes: &mut Retunes| {
        Some(instance.policy.fault(request, retunes))
    };
    // SAFETY: the host keeps the ABI's conditions, which are those of `retune` and `pour`.
    unsafe {
        let verdict = retune(instance, request, retunes, hook, |panic| Some(Verdict::Deny(panic)));
        pour(&verdict.unwrap_or_else(|| Verdict::deny("the host asked nothing")), read_prefix(sink))
    }
}

unsafe extern "C" fn save<P: Policy>(instance: *mut c_void, sink: *const StateSink) -> u32 {
    // SAFETY: the host gives back what `init` made, and a sink that can be used during the call.
    let (instance, sink) = unsafe { (instance.cast::<Instance<P>>().as_ref(), read_prefix(sink)) };
    let Some(instance) = instance else { return 1 };
    let state = catch_unwind(AssertUnwindSafe(|| instance.policy.save())).unwrap_or_else(|panic| {
        instance.host.error(panicked(&*panic));
        None
    });
    let writer = sink.and_then(|sink| Some((sink.write?, sink.context)));
    match (state, writer) {
        (Some(state), Some((write, context))) => {
            // SAFETY: the host vouches for its sink; the state outlives the call.
            unsafe { write(context, Text::from_bytes(&state)) }.0
        }
        _ => 1,
    }
}

unsafe extern "C" fn restore<P: Policy>(
    instance: *mut c_void,
    state: Text,
    sink: *const AnswerSink,
) -> RawVerdict {
    // SAFETY: the host gives back what `init` made, a state and a sink that can be used during the call.
    let (instance, state, sink) =
        unsafe { (instance.cast::<Instance<P>>().as_mut(), state.bytes(), read_prefix(sink)) };
    let restored = match instance {
        Some(instance) => catch_unwind(AssertUnwindSafe(|| instance.policy.restore(state)))
            .unwrap_or_else(|panic| Err(panicked(&*panic))),
        None => Err("the host asked a policy that was not begun".to_owned()),
    };
    // SAFETY: the host vouches for its sink.
    unsafe { pour(&restored.map_or_else(Verdict::Deny, |()| Verdict::Allow), sink) }
}
