//! JSON-RPC 2.0, one object a line: reading and writing of both ends. No socket.
//!
//! Parameters go by name. A batch is refused: requests may be sent one after the other without waiting, which does the
//! same. A request without an id is done and not answered, as the standard has it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{Change, ErrorCode, Method, RpcError};

/// Longest line that the daemon takes, bytes, without the newline.
pub const REQUEST_BYTES_MAX: usize = 1 << 20;
/// Longest line that a client takes, bytes, without the newline.
pub const RESPONSE_BYTES_MAX: usize = 64 << 20;
/// The method that serves the schema.
pub const DISCOVER: &str = "rpc.discover";
/// The notification that carries an [`Event`](crate::Event).
pub const EVENT: &str = "event";
/// The notification that carries a [`Gap`](crate::Gap).
pub const GAP: &str = "gap";

/// What ties an answer to its request on one connection: a string, a number or null, as the client likes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Id(Value);

impl Id {
    /// The id of an answer to what had no id that could be read.
    pub const NULL: Self = Self(Value::Null);

    fn read(value: Value) -> Option<Self> {
        matches!(value, Value::Null | Value::Number(_) | Value::String(_)).then_some(Self(value))
    }
}

impl From<u64> for Id {
    fn from(number: u64) -> Self {
        Self(number.into())
    }
}

/// A line that was a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Incoming {
    /// Its id; none when it wants no answer.
    pub id: Option<Id>,
    /// What is asked.
    pub body: Body,
}

/// What a request asks.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// `rpc.discover`.
    Discover,
    /// Anything else.
    Call {
        /// How a change is to be made; empty for a method that changes nothing.
        change: Change,
        /// The method with its parameters.
        method: Box<Method>,
    },
}

/// A line that was none, and the answer that is due.
#[derive(Debug, Clone, PartialEq)]
pub struct Malformed {
    /// The id to answer with; none when no answer is wanted.
    pub id: Option<Id>,
    /// The answer.
    pub error: RpcError,
}

/// Reads a request, as the daemon does.
///
/// # Errors
/// The answer that is due, when the line is no request that can be carried out.
pub fn read_request(line: &[u8]) -> Result<Incoming, Malformed> {
    let refuse = |id: Option<Id>, error: RpcError| Malformed { id, error };
    let value: Value = serde_json::from_slice(line).map_err(|error| {
        let error = RpcError::new(ErrorCode::Parse, format!("the line is not JSON: {error}"));
        refuse(Some(Id::NULL), error.next("send one JSON object a line"))
    })?;
    let Value::Object(mut object) = value else {
        let what = if value.is_array() { "batches are not served" } else { "a request is a JSON object" };
        let error = RpcError::new(ErrorCode::InvalidRequest, what);
        return Err(refuse(
            Some(Id::NULL),
            error.next("send one JSON object a line, without waiting in between"),
        ));
    };
    let invalid = |message: &str| RpcError::new(ErrorCode::InvalidRequest, message);
    let id = match object.remove("id").map(Id::read) {
        None => None,
        Some(Some(id)) => Some(id),
        Some(None) => {
            return Err(refuse(Some(Id::NULL), invalid("an id is a string or a number").about("id")));
        }
    };
    if object.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        let error = invalid("the member jsonrpc must be \"2.0\"").about("jsonrpc");
        return Err(refuse(Some(id.unwrap_or(Id::NULL)), error));
    }
    let Some(Value::String(name)) = object.remove("method") else {
        let error = invalid("the member method must be a string").about("method");
        return Err(refuse(Some(id.unwrap_or(Id::NULL)), error));
    };
    match read_body(&name, object.remove("params")) {
        Ok(body) => Ok(Incoming { id, body }),
        Err(error) => Err(refuse(id, error)),
    }
}

fn read_body(name: &str, params: Option<Value>) -> Result<Body, RpcError> {
    let mut params = match params {
        None => Map::new(),
        Some(Value::Object(params)) => params,
        Some(_) => {
            let error = RpcError::new(ErrorCode::InvalidParams, "parameters go by name, in a JSON object");
            return Err(error.about("params"));
        }
    };
    let invalid = |error: serde_json::Error| {
        RpcError::new(ErrorCode::InvalidParams, format!("{name}: {error}"))
            .about("params")
            .next("compare with the schema that rpc.discover gives")
    };
    if name == DISCOVER {
        return Ok(Body::Discover);
    }
    let change = match Method::changes(name) {
        Some(true) => read_change(&mut params).map_err(invalid)?,
        _ => Change::default(),
    };
    if change.request_id.as_ref().is_some_and(|id| id.is_empty() || id.len() > Change::REQUEST_ID_BYTES_MAX) {
        let message = format!("a request id has 1 to {} bytes", Change::REQUEST_ID_BYTES_MAX);
        return Err(RpcError::new(ErrorCode::InvalidParams, message).about("request_id"));
    }
    match Method::read(name, Value::Object(params)) {
        Some(method) => {
            let method = Box::new(method.map_err(invalid)?);
            if change.background && !method.is_long() {
                let error = RpcError::new(ErrorCode::InvalidParams, format!("{name} is over at once"));
                return Err(error.about("background").next("ask for it without background"));
            }
            Ok(Body::Call { change, method })
        }
        None => Err(RpcError::new(ErrorCode::MethodNotFound, format!("there is no method {name}"))
            .about(name)
            .next("call rpc.discover for the methods that there are")),
    }
}

/// Takes what every change may say out of the parameters, so that the rest are the method's own.
fn read_change(params: &mut Map<String, Value>) -> Result<Change, serde_json::Error> {
    let taken = Change::FIELDS
        .iter()
        .filter_map(|&field| params.remove(field).map(|value| (field.to_owned(), value)));
    serde_json::from_value(Value::Object(taken.collect()))
}

/// Writes a request, as a client does, with its newline.
#[must_use]
pub fn write_request(id: &Id, method: &str, params: &Value) -> Vec<u8> {
    line(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }))
}

/// Writes an answer, with its newline.
#[must_use]
pub fn write_response(id: &Id, result: Result<&Value, &RpcError>) -> Vec<u8> {
    line(&match result {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(error) => json!({ "jsonrpc": "2.0", "id": id, "error": error }),
    })
}

/// Writes a notification, with its newline.
#[must_use]
pub fn write_notification(method: &str, params: &Value) -> Vec<u8> {
    line(&json!({ "jsonrpc": "2.0", "method": method, "params": params }))
}

fn line(value: &Value) -> Vec<u8> {
    let mut bytes = value.to_string().into_bytes();
    bytes.push(b'\n');
    bytes
}

/// A line from the daemon.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// An answer.
    Response {
        /// Id of the request.
        id: Id,
        /// The answer.
        result: Result<Value, RpcError>,
    },
    /// Not asked for.
    Notification {
        /// Its name.
        method: String,
        /// What it says.
        params: Value,
    },
}

/// Reads a line from the daemon, as a client does.
///
/// # Errors
/// What is wrong with it, as a phrase.
pub fn read_message(line: &[u8]) -> Result<Message, String> {
    #[derive(Deserialize)]
    struct Wire {
        jsonrpc: String,
        #[serde(default)]
        id: Value,
        result: Option<Value>,
        error: Option<RpcError>,
        method: Option<String>,
        #[serde(default)]
        params: Value,
    }
    let wire: Wire = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    if wire.jsonrpc != "2.0" {
        return Err("it does not speak JSON-RPC 2.0".to_owned());
    }
    let id = Id::read(wire.id).ok_or("an id that is none")?;
    match (wire.method, wire.result, wire.error) {
        (Some(method), None, None) => Ok(Message::Notification { method, params: wire.params }),
        (None, Some(result), None) => Ok(Message::Response { id, result: Ok(result) }),
        (None, None, Some(error)) => Ok(Message::Response { id, result: Err(error) }),
        _ => Err("neither one answer nor a notification".to_owned()),
    }
}

#[cfg(test)]
mod tests;
