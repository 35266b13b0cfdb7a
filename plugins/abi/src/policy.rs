use core::ffi::c_void;

use crate::{
    AnswerSink, AttachRequest, ClaimRequest, CreateRequest, DestroyRequest, DiscoverRequest, FaultRequest,
    Host, InitRequest, MigrateRequest, PressureRequest, RawVerdict, RetuneSink, SessionRequest, StateSink,
    Text, TickRequest, TuneRequest,
};

/// What a plugin exports: a header that says what it is, and its hooks. A hook that is null allows, or changes nothing.
///
/// `instance` is what `init` made, and is the plugin's own.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Policy {
    /// [`MAGIC`](crate::MAGIC).
    pub magic: u64,
    /// [`MAJOR`](crate::MAJOR) that the plugin was built against.
    pub major: u32,
    /// [`MINOR`](crate::MINOR) that the plugin was built against.
    pub minor: u32,
    /// Size of this structure, as the plugin knows it.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// What the plugin is called by its author.
    pub name: Text,
    /// The plugin's own version.
    pub version: Text,

    /// Begins: makes an instance of the configuration and leaves it in `*instance`. A denial refuses the configuration, with
    /// the reason, and nothing else is called. Null is an instance of null.
    pub init: Option<
        unsafe extern "C" fn(
            host: *const Host,
            request: *const InitRequest,
            instance: *mut *mut c_void,
            sink: *const AnswerSink,
        ) -> RawVerdict,
    >,
    /// Ends: the instance is not used again. Called only when `init` allowed.
    pub fini: Option<unsafe extern "C" fn(instance: *mut c_void)>,
    /// May this function be offered?
    pub discover: Option<
        unsafe extern "C" fn(
            instance: *mut c_void,
            request: *const DiscoverRequest,
            sink: *const AnswerSink,
        ) -> RawVerdict,
    >,
    /// May this function be ours?
    pub claim: Option<
        unsafe extern "C" fn(
            instance: *mut c_void,
            request: *const ClaimRequest,
            sink: *const AnswerSink,
        ) -> RawVerdict,
    >,
    /// May this channel come to be?
    pub create: Option<
        unsafe extern "C" fn(
            instance: *mut c_void,
            request: *const CreateRequest,
            sink: *const AnswerSink,
        ) -> RawVerdict,
    >,
    /// May a front-end reach this channel there?
    pub attach: Option<
        unsafe extern "C" fn(
            instance: *mut c_void,
            request: *const AttachRequest,
            sink: *const AnswerSink,
        ) -> RawVerdict,
    >,
    /// May this front-end go on, with these features and this memory?
    pub session: Option<
        unsafe extern "C" fn(
            instance: *mut c_void,
            request: *const SessionRequest,
            sink: *const AnswerSink,
        ) -> RawVerdict,
    >,
    /// May this channel's setting become this one?
    pub tune: Option<
        unsafe extern "C" fn(
            instance: *mut c_void,
            request: *const TuneRequest,
            sink: *const AnswerSink,
        ) -> RawVerdict,
    >,
    /// A period has passed: this is what the channels did.
    pub tick: Option<
        unsafe extern "C" fn(instance: *mut c_void, request: *const TickRequest, sink: *const RetuneSink),
    >,
    /// Something runs short.
    pub pressure: Option<
        unsafe extern "C" fn(instance: *mut c_void, request: *const PressureRequest, sink: *const RetuneSink),
    >,
    /// Something went wrong.
    pub fault: Option<
        unsafe extern "C" fn(
            instance: *mut c_void,
            request: *const FaultRequest,
            sink: *const AnswerSink,
            retunes: *const RetuneSink,
        ) -> RawVerdict,
    >,
    /// May this channel go there?
    pub migrate: Option<
        unsafe extern "C" fn(
            instance: *mut c_void,
            request: *const MigrateRequest,
            sink: *const AnswerSink,
        ) -> RawVerdict,
    >,
    /// May this channel end?
    pub destroy: Option<
        unsafe extern "C" fn(
            instance: *mut c_void,
            request: *const DestroyRequest,
            sink: *const AnswerSink,
        ) -> RawVerdict,
    >,

    /// Since minor 1. Gives the sink what a successor needs to go on where this instance is; 0, or it has nothing to leave.
    pub save: Option<unsafe extern "C" fn(instance: *mut c_void, sink: *const StateSink) -> u32>,
    /// Since minor 1. Called after `init`, with what a predecessor saved. A denial says why it is of no use, and the instance goes
    /// on without it.
    pub restore: Option<
        unsafe extern "C" fn(instance: *mut c_void, state: Text, sink: *const AnswerSink) -> RawVerdict,
    >,
}
