//! The control protocol of `vfiomuxd`: JSON-RPC 2.0 over a unix stream socket, one object a line.
//!
//! ```text
//!   vfiomuxctl, tests                                              vfiomuxd, control thread
//!   Client ── call::ChannelCreate ─► line ─► socket ─► Server ── Request { ticket, caller, change, method } ─► manager
//!   Client ◄─ ChannelInfo ◄───────── line ◄─ socket ◄─ Server ◄─ reply(ticket, Result<Outcome, RpcError>) ◄── manager
//!   EventStream ◄─ Event, Gap ◄───── line ◄─ socket ◄─ Server ◄─ subscribe, publish ◄──────────────────────── manager
//! ```
//!
//! What lives here: what is said ([`call`], [`DeviceInfo`], [`ChannelInfo`], [`Event`], …), how it is written on the
//! wire ([`codec`]), the [`schema`] made from the types, who may say it ([`Roles`]), and the two ends of the socket. One
//! table, in [`Method`], names every method with its parameters, its result and the role it needs; dispatch, client,
//! permission check and schema are all made from it.
//!
//! What does not: anything that a method does. The [`Server`] has no thread and no clock. The control loop tells it which
//! sockets are ready, takes requests out and gives answers back, later and in any order. By itself it answers only
//! `rpc.discover`, input that is no request, callers without the role, and repeats of a request id.
#![forbid(unsafe_code)]

mod audit;
mod calibration;
pub mod call;
mod caller;
mod change;
mod channel;
mod client;
pub mod codec;
mod device;
mod error;
mod event;
mod explanation;
mod guarantees;
mod job;
mod labels;
mod method;
mod outcome;
mod path;
mod plugin;
mod role;
pub mod schema;
mod server;
mod sidecore;
mod status;
mod target;
mod tenant;
mod view;
pub mod vmm_arguments;

pub use audit::{AuditAnswer, AuditEntry, AuditList, AuditRuling};
pub use calibration::{Calibration, Cost, ReservationHolder, Reservations};
pub use caller::CallerInfo;
pub use change::Change;
pub use channel::{
    Admin, ChannelInfo, ChannelKind, Counters, DataMode, Distribution, Endpoint, EndpointMode, Extent,
    Health, Kept, Lane, Latency, Oper, Plan, Reasons, RegionInfo, SessionInfo, VirtqueueInfo,
};
pub use client::{Client, ClientError, EventStream, Notice};
pub use device::{
    Addressing, DeviceInfo, FunctionClass, FunctionState, NamespaceInfo, NvmeInfo, Pool, Pools,
};
pub use error::{ErrorCode, ErrorData, RpcError};
pub use event::{Event, EventKind, EventList, Gap, Object, ObjectKind, Subscription};
pub use explanation::{Explanation, Observed, Pace, Refused, SlowCause};
pub use guarantees::{Guarantees, Objective, RateLimit};
pub use job::{JobInfo, JobState};
pub use labels::{Labels, LabelsError};
pub use method::{Call, Method};
pub use outcome::Outcome;
pub use path::{ChannelPath, HopKind, PathHop};
pub use plugin::{
    PluginDifference, PluginInfo, PluginOrigin, PluginRecording, PluginReplacement, PluginStatus,
    PluginVerdicts,
};
pub use role::{Caller, Members, Role, Roles, TenantRoles};
pub use server::{BindError, Bounds, ConnectionId, Refusal, Request, Server, Ticket};
pub use sidecore::{Bucket, SidecoreChannel, SidecoreInfo, SidecoreMode, SidecoreRest};
pub use status::{EventCounts, Status};
pub use target::Target;
pub use tenant::{Limits, TenantCounters, TenantInfo};
pub use view::View;

/// Where the daemon listens when nothing else is said.
pub const DEFAULT_CONTROL_PATH: &str = "/run/vfiomux/control.sock";
