use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::codec::{self, Id, Message};
use crate::{Call, Change, Event, Gap, RpcError, Subscription, call};

/// Why a call got no result.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens, or not for us.
    #[error("cannot reach vfiomuxd at {}: {source}", path.display())]
    Unreachable {
        /// The control socket.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the connection to vfiomuxd broke: {0}")]
    Io(#[from] io::Error),
    /// The daemon closed the connection.
    #[error("vfiomuxd closed the connection; see its log for the reason")]
    Closed,
    /// The parameters have no form in JSON: a path that is not UTF-8.
    #[error("the request cannot be written: {0}")]
    Parameters(String),
    /// What came is not this protocol.
    #[error("what answers is not vfiomuxd, or another version of it: {0}")]
    Protocol(String),
    /// The daemon refused.
    #[error("{0}")]
    Refused(RpcError),
}

/// A blocking connection to the daemon.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
    last_id: u64,
}

impl Client {
    /// Connects to the daemon's control socket.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`].
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path)
            .map_err(|source| ClientError::Unreachable { path: path.to_owned(), source })?;
        Ok(Self { stream: BufReader::new(stream), last_id: 0 })
    }

    /// Bounds how long a call waits for the daemon; without it, as long as it takes.
    ///
    /// # Errors
    /// The kernel's, for a timeout of zero.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) -> Result<(), ClientError> {
        self.stream.get_ref().set_read_timeout(timeout)?;
        Ok(self.stream.get_ref().set_write_timeout(timeout)?)
    }

    /// Calls a method.
    ///
    /// # Errors
    /// The daemon's refusal, or why there is no answer.
    pub fn call<C: Call>(&mut self, call: &C) -> Result<C::Output, ClientError> {
        self.call_with(call, &Change::default())
    }

    /// Calls a method that changes something, saying how.
    ///
    /// # Errors
    /// The daemon's refusal, or why there is no answer.
    pub fn call_with<C: Call>(&mut self, call: &C, change: &Change) -> Result<C::Output, ClientError> {
        understand(self.call_value(call, change)?)
    }

    /// Calls a method and gives the result as it came, with what this build does not know of.
    ///
    /// # Errors
    /// The daemon's refusal, or why there is no answer.
    pub fn call_value<C: Call>(&mut self, call: &C, change: &Change) -> Result<Value, ClientError> {
        self.call_by_name(C::METHOD, &params_of(call, change)?)
    }

    /// Calls a method by its name on the wire, and gives the result as it came.
    ///
    /// # Errors
    /// The daemon's refusal, or why there is no answer.
    pub fn call_by_name(&mut self, method: &str, params: &Value) -> Result<Value, ClientError> {
        self.last_id += 1;
        let id = Id::from(self.last_id);
        match self.stream.get_mut().write_all(&codec::write_request(&id, method, params)) {
            // The daemon has closed the connection, and may have said why.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            written => written?,
        }
        loop {
            match self.read_message()?.ok_or(ClientError::Closed)? {
                Message::Response { id: answered, result } if answered == id => {
                    return result.map_err(ClientError::Refused);
                }
                // The daemon could not read the request so far as its id: the answer can only be to this one.
                Message::Response { id: Id::NULL, result: Err(error) } => {
                    return Err(ClientError::Refused(error));
                }
                _ => {}
            }
        }
    }

    /// Has events sent on this connection, which is then of no other use.
    ///
    /// # Errors
    /// The daemon's refusal, or why there is no answer.
    pub fn subscribe(mut self, since: Option<u64>) -> Result<EventStream, ClientError> {
        let subscription = self.call(&call::EventsSubscribe { since })?;
        Ok(EventStream { client: self, subscription })
    }

    fn read_message(&mut self) -> Result<Option<Message>, ClientError> {
        let mut line = Vec::new();
        let limit = codec::RESPONSE_BYTES_MAX as u64 + 1;
        if (&mut self.stream).take(limit).read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        if line.pop_if(|byte| *byte == b'\n').is_none() {
            return if line.len() as u64 == limit {
                Err(ClientError::Protocol("a line that never ends".to_owned()))
            } else {
                Err(ClientError::Closed)
            };
        }
        codec::read_message(&line).map(Some).map_err(ClientError::Protocol)
    }
}

/// The parameters of a call as they go on the wire, with what every change may say.
fn params_of<C: Call>(call: &C, change: &Change) -> Result<Value, ClientError> {
    let object = |value: Result<Value, serde_json::Error>| match value {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Ok(Map::new()),
        Err(error) => Err(ClientError::Parameters(error.to_string())),
    };
    let mut params = object(serde_json::to_value(call))?;
    params.extend(object(serde_json::to_value(change))?);
    Ok(Value::Object(params))
}

fn understand<T: DeserializeOwned>(value: Value) -> Result<T, ClientError> {
    serde_json::from_value(value).map_err(|error| ClientError::Protocol(error.to_string()))
}

/// What a subscriber is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Something changed.
    Event(Event),
    /// Things changed that cannot be shown any more.
    Gap(Gap),
}

/// The events of a subscription, as they come. Ends when the daemon does.
#[derive(Debug)]
pub struct EventStream {
    client: Client,
    subscription: Subscription,
}

impl EventStream {
    /// What the subscription starts from.
    #[must_use]
    pub const fn subscription(&self) -> &Subscription {
        &self.subscription
    }
}

impl Iterator for EventStream {
    type Item = Result<Notice, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (method, params) = match self.client.read_message() {
                Ok(Some(Message::Notification { method, params })) => (method, params),
                Ok(Some(Message::Response { .. })) => continue,
                Ok(None) => return None,
                Err(error) => return Some(Err(error)),
            };
            match method.as_str() {
                codec::EVENT => return Some(understand(params).map(Notice::Event)),
                codec::GAP => return Some(understand(params).map(Notice::Gap)),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
