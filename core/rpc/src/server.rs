//! The daemon's end of the control socket, for a `mio` loop.

mod connection;
mod listener;
mod repeats;

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use mio::event::Event as Readiness;
use mio::net::UnixStream;
use mio::{Interest, Registry, Token};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde_json::Value;

use crate::codec::{self, Body, Id, Incoming, Malformed};
use crate::{
    Caller, CallerInfo, Change, ErrorCode, Event, Gap, Method, Outcome, Role, Roles, RpcError, View, role,
    schema,
};

use connection::{Connection, Input};
pub use listener::BindError;
use listener::Listener;
use repeats::{Admission, Key, Repeats};

/// Looks at sockets before [`Server::next_request`] lets the loop have its turn.
const READS_A_TURN: usize = 256;

/// Connections taken in before other work has its turn.
const ACCEPTS_A_TURN: usize = 16;

/// How much one caller can take of the daemon. The defaults suit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Connections at a time; further ones are told so and closed.
    pub connections_max: usize,
    /// Requests of one connection under way; further ones wait in its socket.
    pub requests_max: usize,
    /// Bytes waiting to be read by a subscriber before events are left out, announced as a gap.
    pub event_backlog_bytes_max: usize,
    /// Bytes waiting to be read by a client before it is dropped.
    pub output_bytes_max: usize,
    /// Request ids remembered.
    pub request_ids_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections_max: 64,
            requests_max: 32,
            event_backlog_bytes_max: 4 << 20,
            output_bytes_max: 64 << 20,
            request_ids_max: 1024,
        }
    }
}

/// Names a connection. Never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    slot: usize,
    serial: u64,
}

/// The right, and the duty, to answer one request.
#[derive(Debug)]
#[must_use = "a request must be answered, or its connection waits for ever"]
pub struct Ticket {
    connection: ConnectionId,
    id: Option<Id>,
    repeat: Option<Key>,
    /// The answer is a job's result as well.
    job: Option<u64>,
    /// The caller has had an answer already: the job's number.
    detached: bool,
    /// What of the answer the caller may have.
    view: View,
    /// When it is refused, [`Server::next_refused`] tells: of which method, on what.
    remembered: Option<(&'static str, String)>,
    /// Number of the audit entry that the answer belongs to.
    audit: Option<u64>,
}

impl Ticket {
    /// The same, and a refusal is told of by [`Server::next_refused`]: of that method, on that object.
    pub fn remembered(mut self, method: &'static str, name: &str) -> Self {
        self.remembered = Some((method, name.to_owned()));
        self
    }

    /// Has the answer told to [`Server::next_audited`] under this number.
    pub const fn set_audit(&mut self, serial: Option<u64>) {
        self.audit = serial;
    }

    /// The connection that the request came on.
    #[must_use]
    pub const fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// The job that is carried out for it.
    #[must_use]
    pub const fn job(&self) -> Option<u64> {
        self.job
    }

    /// The same, and its answer is the result of a job: [`Server::next_ended`] tells of it.
    pub fn for_job(mut self, job: u64) -> Self {
        self.job = Some(job);
        self
    }

    /// A right to answer at once, beside this one, which from now on only ends the job.
    pub fn detach(&mut self) -> Self {
        self.detached = true;
        Self {
            connection: self.connection,
            id: self.id.take(),
            repeat: self.repeat.take(),
            view: self.view.clone(),
            audit: None,
            job: None,
            detached: false,
            // Whoever goes on is told of.
            remembered: None,
        }
    }
}

/// A request that its caller may make.
#[derive(Debug)]
pub struct Request {
    /// To answer it with.
    pub ticket: Ticket,
    /// Who makes it.
    pub caller: Caller,
    /// What the caller is shown, and may do with what.
    pub view: View,
    /// How a change is to be made; empty for a method that changes nothing. Repeats of a request id never come here.
    pub change: Change,
    /// What is asked.
    pub method: Method,
}

/// A change that its caller may not ask for, and was told so.
#[derive(Debug)]
pub struct Refusal {
    /// Who asked for it.
    pub caller: Caller,
    /// What the caller is shown, and may do with what.
    pub view: View,
    /// How the change was to be made.
    pub change: Change,
    /// What was asked for.
    pub method: Method,
    /// What the caller was told.
    pub error: RpcError,
}

/// The listening socket and every connection.
///
/// The loop around it: hand it every readiness event of a token that it [owns](Self::owns); then take requests until there
/// is none; then take the connections that ended; and do not sleep while it is [busy](Self::is_busy), which an answer can
/// make it too.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
    registry: Registry,
    first_token: usize,
    roles: Roles,
    bounds: Bounds,
    own_uid: u32,
    last_serial: u64,
    accepting: bool,
    /// A connection waits that could not be accepted; another try is due when one has ended.
    accept_failed: bool,
    /// How much may be read before the loop has its turn.
    reads_left: usize,
    slots: Vec<Option<Slot>>,
    /// Slots whose socket may have something to read, in the order in which they are looked at.
    readable: VecDeque<usize>,
    closed: VecDeque<ConnectionId>,
    repeats: Repeats,
    /// Jobs whose result has been given.
    ended: VecDeque<(u64, Result<Value, RpcError>)>,
    /// Refusals that somebody wanted to know of.
    refused: VecDeque<(&'static str, String, RpcError)>,
    /// Changes that were refused for want of a role.
    refusals: VecDeque<Refusal>,
    /// Answers to requests with an audit entry.
    audited: VecDeque<(u64, Result<Option<u64>, RpcError>)>,
}

#[derive(Debug)]
struct Slot {
    id: ConnectionId,
    caller: Caller,
    view: View,
    connection: Connection,
}

impl Server {
    /// Listens at `path` with mode 0660, replacing a socket at which nobody listens any more. Uses the tokens from
    /// `first_token` to `first_token + bounds.connections_max` of the poll behind `registry`.
    ///
    /// # Errors
    /// [`BindError`], which says what to do next.
    pub fn bind(
        path: &Path,
        registry: Registry,
        first_token: usize,
        roles: Roles,
        bounds: Bounds,
    ) -> Result<Self, BindError> {
        let mut listener = Listener::bind(path)?;
        registry
            .register(listener.source(), Token(first_token), Interest::READABLE)
            .map_err(|source| BindError::Io { path: path.to_owned(), source })?;
        Ok(Self {
            listener,
            registry,
            first_token,
            roles,
            bounds,
            own_uid: nix::unistd::geteuid().as_raw(),
            last_serial: 0,
            accepting: false,
            accept_failed: false,
            reads_left: READS_A_TURN,
            slots: (0..bounds.connections_max).map(|_| None).collect(),
            readable: VecDeque::new(),
            closed: VecDeque::new(),
            repeats: Repeats::new(bounds.request_ids_max),
            ended: VecDeque::new(),
            refused: VecDeque::new(),
            refusals: VecDeque::new(),
            audited: VecDeque::new(),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.listener.path()
    }

    /// Whether a readiness event with this token is its.
    #[must_use]
    pub fn owns(&self, token: Token) -> bool {
        token.0.checked_sub(self.first_token).is_some_and(|offset| offset <= self.slots.len())
    }

    /// Notes what a readiness event says. Reads nothing yet.
    pub fn ready(&mut self, readiness: &Readiness) {
        let Some(offset) = readiness.token().0.checked_sub(self.first_token) else { return };
        let Some(slot) = offset.checked_sub(1) else {
            self.accepting = true;
            return;
        };
        let Some(Some(entry)) = self.slots.get_mut(slot) else { return };
        if readiness.is_write_closed() {
            entry.connection.peer_left();
        }
        if readiness.is_writable() {
            entry.connection.flush();
        }
        if readiness.is_readable() || readiness.is_read_closed() {
            self.want_read(slot);
        } else {
            self.settle(slot);
        }
    }

    /// Whether something is left to do without a further readiness event.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.accepting || !self.readable.is_empty() || !self.closed.is_empty()
    }

    /// The next request, fairly among the connections; none when nothing is left to read, or when so much was read that
    /// the loop should look after others before it asks again.
    pub fn next_request(&mut self) -> Option<Request> {
        if std::mem::take(&mut self.accepting) {
            self.accept();
        }
        while let Some(left) = self.reads_left.checked_sub(1) {
            let Some(slot) = self.readable.pop_front() else { break };
            self.reads_left = left;
            let Some(Some(entry)) = self.slots.get_mut(slot) else { continue };
            if entry.connection.in_flight() >= self.bounds.requests_max {
                // Looked at again when an answer makes room.
                entry.connection.set_queued(false);
                continue;
            }
            let id = entry.id;
            match entry.connection.next_line() {
                Input::Line(line) => {
                    self.readable.push_back(slot);
                    if let Some(request) = self.take_line(id, &line) {
                        return Some(request);
                    }
                }
                Input::More => self.readable.push_back(slot),
                Input::TooLong => {
                    entry.connection.set_queued(false);
                    let message = format!("a line is longer than {} bytes", codec::REQUEST_BYTES_MAX);
                    let error = RpcError::new(ErrorCode::InvalidRequest, message).next("send less at once");
                    entry.connection.send(&codec::write_response(&Id::NULL, Err(&error)));
                    entry.connection.hang_up();
                    self.settle(slot);
                }
                Input::Nothing => {
                    entry.connection.set_queued(false);
                    self.settle(slot);
                }
            }
        }
        self.reads_left = READS_A_TURN;
        None
    }

    /// The next connection that has ended. Requests that came on it may still be answered; the answers go nowhere.
    pub fn next_closed(&mut self) -> Option<ConnectionId> {
        self.closed.pop_front()
    }

    /// The next job whose ticket was answered, with the answer.
    pub fn next_ended(&mut self) -> Option<(u64, Result<Value, RpcError>)> {
        self.ended.pop_front()
    }

    /// The next refusal of a [remembered](Ticket::remembered) ticket: the method, the object, and why.
    pub fn next_refused(&mut self) -> Option<(&'static str, String, RpcError)> {
        self.refused.pop_front()
    }

    /// The next change that was refused for want of a role.
    pub fn next_refusal(&mut self) -> Option<Refusal> {
        self.refusals.pop_front()
    }

    /// The next answer to a request with an audit entry: its number, and the object's generation or the refusal.
    pub fn next_audited(&mut self) -> Option<(u64, Result<Option<u64>, RpcError>)> {
        self.audited.pop_front()
    }

    /// Answers a request: now or later, in any order.
    pub fn reply(&mut self, ticket: Ticket, outcome: Result<Outcome, RpcError>) {
        let result = outcome.and_then(|outcome| ticket.view.confine(outcome)).and_then(|outcome| {
            serde_json::to_value(outcome)
                .map_err(|error| RpcError::new(ErrorCode::Internal, error.to_string()))
        });
        if let (Err(error), Some((method, name))) = (&result, &ticket.remembered) {
            self.refused.push_back((method, name.clone(), error.clone()));
        }
        if let Some(serial) = ticket.audit {
            let generation = |value: &Value| value.get("generation").and_then(Value::as_u64);
            self.audited.push_back((serial, result.as_ref().map(generation).map_err(RpcError::clone)));
        }
        if let Some(job) = ticket.job {
            self.ended.push_back((job, result.clone()));
        }
        if ticket.detached {
            return;
        }
        if let Some(key) = &ticket.repeat {
            for (connection, id) in self.repeats.finish(key, &result) {
                self.answer(connection, id, &result);
            }
        }
        self.answer(ticket.connection, ticket.id, &result);
    }

    /// Sends `backlog` on the connection, and from now on whatever is published. Call after answering `events.subscribe`.
    pub fn subscribe<'a>(&mut self, connection: ConnectionId, backlog: impl IntoIterator<Item = &'a Event>) {
        let limit = self.bounds.event_backlog_bytes_max;
        let Some(entry) = self.entry(connection) else { return };
        entry.connection.subscribe();
        for event in backlog.into_iter().filter(|event| entry.view.shows_event(event)) {
            entry.connection.send_event(event.seq, &event_line(event), limit);
        }
        self.settle(connection.slot);
    }

    /// Sends an event to every subscriber. One that reads too slowly is told of a gap instead.
    pub fn publish(&mut self, event: &Event) {
        let line = event_line(event);
        for slot in 0..self.slots.len() {
            let Some(Some(entry)) = self.slots.get_mut(slot) else { continue };
            if entry.connection.is_subscribed() && entry.view.shows_event(event) {
                entry.connection.send_event(event.seq, &line, self.bounds.event_backlog_bytes_max);
                self.settle(slot);
            }
        }
    }

    /// Confines a connection to one tenant, for good.
    pub fn confine(&mut self, connection: ConnectionId, tenant: &str) -> Option<CallerInfo> {
        let entry = self.entry(connection)?;
        entry.view = entry.view.confined_to(tenant);
        entry.caller.role = entry.view.highest_role();
        self.caller_info(connection)
    }

    /// Whom a connection is taken for; none when it is gone.
    pub fn caller_info(&mut self, connection: ConnectionId) -> Option<CallerInfo> {
        let Slot { caller, view, .. } = self.entry(connection)?;
        let tenants = view.tenants().map(|(tenant, role)| (tenant.to_owned(), role)).collect();
        Some(CallerInfo { uid: caller.uid, gid: caller.gid, role: view.host_role(), tenants })
    }

    /// Connections there are.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    fn entry(&mut self, id: ConnectionId) -> Option<&mut Slot> {
        self.slots.get_mut(id.slot)?.as_mut().filter(|entry| entry.id == id)
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPTS_A_TURN {
            match self.listener.accept() {
                // A caller that cannot be admitted has been told so, as far as that was possible, and is closed.
                Ok(Some(stream)) => drop(self.admit(stream)),
                Ok(None) => return,
                Err(error)
                    if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                // Out of descriptors, say.
                Err(_) => {
                    self.accept_failed = true;
                    return;
                }
            }
        }
        self.accepting = true;
    }

    fn admit(&mut self, mut stream: UnixStream) -> io::Result<()> {
        let Some(slot) = self.slots.iter().position(Option::is_none) else {
            let error =
                RpcError::new(ErrorCode::Busy, format!("{} clients are connected already", self.slots.len()));
            let error = error.next("end one of them: vfiomuxctl events --follow, status --watch");
            return stream.write_all(&codec::write_response(&Id::NULL, Err(&error)));
        };
        let (caller, view) = self.identify(&stream)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.registry.register(&mut stream, Token(self.first_token + 1 + slot), interest)?;
        self.last_serial += 1;
        let id = ConnectionId { slot, serial: self.last_serial };
        let connection = Connection::new(stream, self.bounds.output_bytes_max);
        if let Some(free) = self.slots.get_mut(slot) {
            *free = Some(Slot { id, caller, view, connection });
        }
        Ok(())
    }

    fn identify(&self, stream: &UnixStream) -> io::Result<(Caller, View)> {
        // Not by rustix: its process numbers are never 0, which is what the kernel gives for a peer in another namespace.
        let credentials = getsockopt(stream, PeerCredentials)?;
        let (uid, gid) = (credentials.uid(), credentials.gid());
        let mut gids = vec![gid];
        if self.roles.go_by_group() {
            let read = |path| std::fs::read_to_string(path).unwrap_or_default();
            gids.extend(role::groups_of(uid, &read("/etc/passwd"), &read("/etc/group")));
        }
        let view = self.roles.view_of(self.own_uid, uid, &gids);
        Ok((Caller { uid, gid, pid: credentials.pid(), role: view.highest_role(), audit: None }, view))
    }

    fn take_line(&mut self, connection: ConnectionId, line: &[u8]) -> Option<Request> {
        if line.iter().all(u8::is_ascii_whitespace) {
            return None;
        }
        let entry = self.entry(connection)?;
        let (caller, view) = (entry.caller, entry.view.clone());
        entry.connection.request_taken();
        let Incoming { id, body } = match codec::read_request(line) {
            Ok(incoming) => incoming,
            Err(Malformed { id, error }) => {
                self.answer(connection, id, &Err(error));
                return None;
            }
        };
        let (name, needed, has) = match &body {
            Body::Discover => (codec::DISCOVER, Role::Read, caller.role),
            Body::Call { method, .. } if method.is_open_to_tenants() => {
                (method.name(), method.role_required(), caller.role)
            }
            Body::Call { method, .. } => (method.name(), method.role_required(), view.host_role()),
        };
        if has < needed {
            let error = permission(caller.uid, has, name, needed);
            if let Body::Call { change, method } = body
                && method.is_change()
            {
                self.refusals.push_back(Refusal {
                    caller,
                    view,
                    change,
                    method: *method,
                    error: error.clone(),
                });
            }
            self.answer(connection, id, &Err(error));
            return None;
        }
        let Body::Call { change, method } = body else {
            self.answer(connection, id, &Ok(schema::document()));
            return None;
        };
        let repeat = match self.repeats.admit(caller.uid, &view, &change, &method, connection, &id) {
            Admission::Fresh(key) => key,
            Admission::Wait => return None,
            Admission::Answer(result) => {
                self.answer(connection, id, &result);
                return None;
            }
        };
        let ticket = Ticket {
            connection,
            id,
            repeat,
            view: view.clone(),
            audit: None,
            job: None,
            remembered: None,
            detached: false,
        };
        Some(Request { ticket, caller, view, change, method: *method })
    }

    fn answer(&mut self, connection: ConnectionId, id: Option<Id>, result: &Result<Value, RpcError>) {
        let Some(entry) = self.entry(connection) else { return };
        entry.connection.request_done();
        if let Some(id) = id {
            entry.connection.send(&codec::write_response(&id, result.as_ref()));
        }
        self.want_read(connection.slot);
        self.settle(connection.slot);
    }

    /// Has the slot's socket read in its turn.
    fn want_read(&mut self, slot: usize) {
        if let Some(Some(entry)) = self.slots.get_mut(slot)
            && entry.connection.set_queued(true)
        {
            self.readable.push_back(slot);
        }
    }

    /// Lets go of a connection that has nothing left to do.
    fn settle(&mut self, slot: usize) {
        let Some(place) = self.slots.get_mut(slot) else { return };
        if let Some(mut entry) = place.take_if(|entry| entry.connection.is_over()) {
            // Closing takes it out of the poll as well; the registry's own error is of no consequence.
            let _ = self.registry.deregister(entry.connection.source());
            self.closed.push_back(entry.id);
            self.accepting |= std::mem::take(&mut self.accept_failed);
        }
    }
}

fn event_line(event: &Event) -> Vec<u8> {
    codec::write_notification(codec::EVENT, &serde_json::to_value(event).unwrap_or_default())
}

fn gap_line(gap: Gap) -> Vec<u8> {
    codec::write_notification(codec::GAP, &serde_json::to_value(gap).unwrap_or_default())
}

fn permission(uid: u32, has: Role, method: &str, needed: Role) -> RpcError {
    let has = match has {
        Role::None => "no role on the host".to_owned(),
        role => format!("the role {}", role.name()),
    };
    RpcError::new(ErrorCode::Permission, format!("user {uid} has {has}; {method} needs {}", needed.name()))
        .about(method)
        .next(format!(
            "run as root, or list the user under roles.{} in the daemon's configuration",
            needed.name()
        ))
}

#[cfg(test)]
mod tests;
