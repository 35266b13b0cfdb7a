use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A recorded state change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Its number: one more than the last event's, from 1, also across restarts.
    pub seq: u64,
    /// When, since 1970.
    pub time_unix_ns: u64,
    /// What changed.
    pub kind: EventKind,
    /// On what.
    pub object: Object,
    /// Whose the object is; none of what is the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// From what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// To what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// User who asked for it; none when nobody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The object's generation after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
}

/// What an event says has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// What is wanted of a channel.
    Admin,
    /// What a channel does.
    Oper,
    /// How well a channel does it.
    Health,
    /// Where a function stands in its life.
    Function,
    /// A front-end came or went.
    Session,
    /// A setting.
    Setting,
    /// Which sidecore serves a channel.
    Moved,
    /// Nothing: the policy said no.
    Denied,
    /// Where a job stands.
    Job,
    /// What was asked for: a policy amended it, or had a channel retuned unasked.
    Amended,
    /// Which plugins are asked, or how one of them fares.
    Plugin,
    /// Something failed, or was out of order, without changing a state.
    Fault,
    /// The daemon: started, rebuilt its view, is ending.
    Daemon,
}

/// What an event is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Object {
    /// What it is.
    pub kind: ObjectKind,
    /// Its name.
    pub name: String,
}

/// Kinds of objects that events are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ObjectKind {
    /// A channel.
    Channel,
    /// A function.
    Device,
    /// A sidecore.
    Sidecore,
    /// A job, by its number.
    Job,
    /// A policy plugin.
    Plugin,
    /// A tenant.
    Tenant,
    /// The daemon.
    Daemon,
}

/// A run of events that cannot be shown: no longer kept, or the reader was too slow for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Gap {
    /// First of them.
    pub first_seq: u64,
    /// Last of them.
    pub last_seq: u64,
}

/// Some of the events kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventList {
    /// In the order of their numbers.
    pub events: Vec<Event>,
    /// Events that the request covers and that are no longer kept.
    pub gap: Option<Gap>,
    /// `since` for the request that goes on from here.
    pub last_seq: u64,
}

/// What a subscriber starts from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Subscription {
    /// Events that the request covers and that are no longer kept.
    pub gap: Option<Gap>,
    /// Number of the last event recorded before the subscription.
    pub last_seq: u64,
}
