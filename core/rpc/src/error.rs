use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a request failed: the first five as JSON-RPC 2.0 defines them, the others this protocol's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorCode {
    /// The line is not JSON, or too long.
    Parse,
    /// JSON, but no request.
    InvalidRequest,
    /// No such method.
    MethodNotFound,
    /// Parameters of the wrong shape: missing, unknown or of another type.
    InvalidParams,
    /// A fault of the daemon's own.
    Internal,
    /// The shape is right, the value cannot be.
    InvalidArgument,
    /// The named object does not exist.
    NotFound,
    /// The name is taken.
    Exists,
    /// Something else uses the object, or an operation on it is under way.
    Busy,
    /// The object's generation or state is not what the request presumes.
    Conflict,
    /// The policy said no.
    Denied,
    /// The pool cannot give that much.
    NoSpace,
    /// The device failed or is gone.
    DeviceFault,
    /// This hardware or this build cannot do it.
    Unsupported,
    /// The caller lacks the role.
    Permission,
    /// Somebody wanted it to end early, and it has.
    Cancelled,
    /// A code that this build does not know, from a newer daemon.
    Other(i32),
}

impl ErrorCode {
    /// Every code that the daemon gives.
    pub const ALL: [Self; 16] = [
        Self::Parse,
        Self::InvalidRequest,
        Self::MethodNotFound,
        Self::InvalidParams,
        Self::Internal,
        Self::InvalidArgument,
        Self::NotFound,
        Self::Exists,
        Self::Busy,
        Self::Conflict,
        Self::Denied,
        Self::NoSpace,
        Self::DeviceFault,
        Self::Unsupported,
        Self::Permission,
        Self::Cancelled,
    ];

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> i32 {
        match self {
            Self::Parse => -32700,
            Self::InvalidRequest => -32600,
            Self::MethodNotFound => -32601,
            Self::InvalidParams => -32602,
            Self::Internal => -32603,
            Self::InvalidArgument => -32001,
            Self::NotFound => -32002,
            Self::Exists => -32003,
            Self::Busy => -32004,
            Self::Conflict => -32005,
            Self::Denied => -32006,
            Self::NoSpace => -32007,
            Self::DeviceFault => -32008,
            Self::Unsupported => -32009,
            Self::Permission => -32010,
            Self::Cancelled => -32011,
            Self::Other(number) => number,
        }
    }

    /// The code of a number on the wire.
    #[must_use]
    pub fn from_number(number: i32) -> Self {
        Self::ALL.into_iter().find(|code| code.number() == number).unwrap_or(Self::Other(number))
    }

    /// What it is called, in the schema and in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Parse => "parse error",
            Self::InvalidRequest => "invalid request",
            Self::MethodNotFound => "method not found",
            Self::InvalidParams => "invalid params",
            Self::Internal => "internal error",
            Self::InvalidArgument => "invalid argument",
            Self::NotFound => "not found",
            Self::Exists => "exists",
            Self::Busy => "busy",
            Self::Conflict => "conflict",
            Self::Denied => "denied",
            Self::NoSpace => "no space",
            Self::DeviceFault => "device fault",
            Self::Unsupported => "unsupported",
            Self::Permission => "permission",
            Self::Cancelled => "cancelled",
            Self::Other(_) => "error",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i32(self.number())
    }
}

impl<'de> Deserialize<'de> for ErrorCode {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        i32::deserialize(deserializer).map(Self::from_number)
    }
}

/// What a machine, or the tool, adds to the message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorData {
    /// The object or parameter it is about: `channel disk-a`, `size_bytes`. Empty when it is about none.
    #[serde(default)]
    pub what: String,
    /// What to do next, as a phrase in the imperative. Empty when there is nothing to do.
    #[serde(default)]
    pub next: String,
}

/// A refusal, as it stands in the `error` member of a response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct RpcError {
    /// Why, for programs.
    pub code: ErrorCode,
    /// Why, for people: lower case, no full stop.
    pub message: String,
    /// About what, and what to do next.
    #[serde(default)]
    pub data: ErrorData,
}

impl RpcError {
    /// A refusal with nothing in its data yet.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: ErrorData::default() }
    }

    /// The same, about `what`.
    #[must_use]
    pub fn about(mut self, what: impl Into<String>) -> Self {
        self.data.what = what.into();
        self
    }

    /// The same, with what to do next.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.data.next = next.into();
        self
    }

    /// `what` does not exist; `next` says where the names are found.
    #[must_use]
    pub fn not_found(what: impl Into<String>, next: impl Into<String>) -> Self {
        let what = what.into();
        Self::new(ErrorCode::NotFound, format!("{what} does not exist")).about(what).next(next)
    }

    /// Parameter `what` has a value that cannot be.
    #[must_use]
    pub fn invalid_argument(what: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidArgument, message).about(what)
    }

    /// The policy said no about `what`, because of `reason`.
    #[must_use]
    pub fn denied(what: impl Into<String>, reason: impl fmt::Display) -> Self {
        Self::new(ErrorCode::Denied, format!("the policy denies it: {reason}")).about(what)
    }
}
