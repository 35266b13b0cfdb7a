//! A channel's endpoint and the session on it: what a front-end asks for, turned into orders and jobs.
//!
//! ```text
//!   socket ─► Connection ─► Session ─► Action ─┬─► sidecore: start, stop, set memory ──► answer ─┐
//!                              ▲               └─► pinner: map, unmap ─────────────────► result ─┤
//!                              └───────────────────── complete(token, outcome) ◄────────────────┘
//! ```
//!
//! When a session ends, whoever ended it, the same steps follow: its rings are stopped and drained, its memory is taken
//! from the sidecore, then from the device. Only then does the next session of the channel begin; a replacement connection
//! that has come meanwhile waits for that, accepted but unread.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use mio::Interest;
use mio::Token as Readiness;
use vfiomux_guest::{Call, FileRegion, Inflight, Kick, MemoryMap};
use vfiomux_rpc::{Endpoint, EndpointMode, ErrorCode, EventKind, ObjectKind, RpcError};
use vfiomux_sidecore::Order;
use vfiomux_vhost::{
    Action, BackendChannel, Connection, Connector, Device, EndReason, Listener, Outcome, RegionId, Session,
    Token,
};

use super::Control;
use super::channel::{Next, Seat};
use super::rings::{duplicate, inflight_region};
use crate::event::event;
use crate::lifecycle::{Oper, Step};

/// Where front-ends come in.
pub(crate) enum Door {
    /// We listen.
    Server(Listener),
    /// The VMM listens; we knock.
    Client(Connector),
}

/// A channel's endpoint, and who is connected to it.
pub(crate) struct Attachment {
    pub(crate) door: Door,
    door_token: Readiness,
    pub(crate) live: Option<Live>,
    /// A connection that came while the one before it was being torn down.
    replacement: Option<Connection>,
    /// No further session is to begin.
    closed: bool,
    after: Vec<Next>,
}

/// A session and what it has made us hold.
pub(crate) struct Live {
    /// Tells this session from others of the channel: an answer to another one's action is dropped.
    pub(crate) serial: u64,
    token: Readiness,
    pub(crate) connection: Connection,
    pub(crate) session: Session,
    back_channel: Option<(BackendChannel, Readiness)>,
    /// What the front-end lends, without any mapping of it: mappings live in memory maps alone.
    pub(crate) regions: Vec<KeptRegion>,
    /// The map that the sidecore has; kept weakly, because only the sidecore's is ever given back as quiesced.
    pub(crate) map: Weak<MemoryMap>,
    /// Rings that the sidecore serves, or is about to, with their entries.
    pub(crate) rings: BTreeMap<u16, u16>,
    /// Those of them that are being stopped.
    pub(crate) stopping: BTreeSet<u16>,
    /// By which eventfd each ring interrupts, for freeing a sidecore that is held up there.
    pub(crate) calls: BTreeMap<u16, Arc<OwnedFd>>,
    pub(crate) inflight: Option<Arc<Inflight>>,
    /// The session is over; its rings are being stopped.
    pub(crate) closing: bool,
}

/// A region that a front-end lends.
#[derive(Clone)]
pub(crate) struct KeptRegion {
    pub(crate) id: RegionId,
    pub(crate) file: Arc<FileRegion>,
}

impl Door {
    /// Opens an endpoint. Fails with what an operator should do.
    pub(crate) fn open(endpoint: &Endpoint) -> Result<Self, RpcError> {
        let about = |error: vfiomux_vhost::Error| {
            let code = match &error {
                vfiomux_vhost::Error::EndpointInUse { .. } => ErrorCode::Busy,
                _ => ErrorCode::InvalidArgument,
            };
            RpcError::new(code, error.to_string()).about(format!("endpoint {}", endpoint.path.display()))
        };
        match endpoint.mode {
            EndpointMode::Server => {
                Listener::bind(&endpoint.path, SOCKET_MODE).map(Self::Server).map_err(about)
            }
            EndpointMode::Client => Connector::new(&endpoint.path).map(Self::Client).map_err(about),
        }
    }
}

/// Owner and group may connect; the directory decides about the rest.
const SOCKET_MODE: u32 = 0o660;

impl Attachment {
    /// Whether a front-end is connected. One that has hung up, and whose rings are still being drained, is not any more.
    pub(crate) fn is_served(&self) -> bool {
        self.live.as_ref().is_some_and(|live| !live.closing) || self.replacement.is_some()
    }
}

impl Control {
    /// Lets front-ends come in by `door`.
    pub(crate) fn attach_door(&mut self, id: &str, mut door: Door) -> Result<(), RpcError> {
        let door_token = self.tokens.give(id);
        if let Door::Server(listener) = &mut door {
            self.poll.registry().register(listener, door_token, Interest::READABLE).map_err(|error| {
                RpcError::new(ErrorCode::Internal, format!("cannot wait for front-ends: {error}"))
            })?;
        }
        if let Some(channel) = self.channels.get_mut(id) {
            let after = Vec::new();
            channel.attachment =
                Some(Attachment { door, door_token, live: None, replacement: None, closed: false, after });
        }
        // A suspended channel has an endpoint too, and stays suspended.
        if self.channels.get(id).is_some_and(|channel| channel.setting.oper == Oper::Provisioned) {
            self.step(id, Step::Attach, None);
        }
        Ok(())
    }

    /// Ends the session of a channel, if it has one, then goes on with `next`. With `close`, no further session begins and
    /// the endpoint goes away.
    pub(crate) fn end_session(
        &mut self,
        id: &str,
        close: bool,
        why: &str,
        next: impl FnOnce(&mut Control) + 'static,
    ) {
        let Some(attachment) = self.channels.get_mut(id).and_then(|channel| channel.attachment.as_mut())
        else {
            return next(self);
        };
        attachment.closed |= close;
        attachment.after.push(Box::new(next));
        if close {
            attachment.replacement = None;
        }
        match &mut attachment.live {
            Some(live) if live.closing => {}
            Some(live) => {
                live.session.close(EndReason::Closed(why.to_owned()));
                self.tear_down(id, why);
            }
            None => self.session_gone(id),
        }
    }

    /// Something of a channel's endpoint is ready.
    pub(crate) fn endpoint_ready(&mut self, id: &str, token: Readiness) {
        let Some(attachment) = self.channels.get_mut(id).and_then(|channel| channel.attachment.as_mut())
        else {
            return;
        };
        if token == attachment.door_token {
            return self.accept(id);
        }
        let back = attachment.live.as_mut().and_then(|live| live.back_channel.as_mut());
        if let Some((back, _)) = back.filter(|(_, back_token)| *back_token == token) {
            if back.pump().is_err() {
                if let Some(live) = &mut attachment.live {
                    live.back_channel = None;
                }
                self.tokens.take_back(token);
            }
            return;
        }
        self.pump(id);
    }

    /// Takes all connections that wait. The newest wins: a VMM that connects again has lost the old one.
    fn accept(&mut self, id: &str) {
        loop {
            let Some(attachment) = self.channels.get_mut(id).and_then(|channel| channel.attachment.as_mut())
            else {
                return;
            };
            let Door::Server(listener) = &attachment.door else { return };
            match listener.accept() {
                Ok(Some(connection)) => self.connected(id, connection),
                Ok(None) => return,
                Err(error) => {
                    let mut fault = event(EventKind::Fault, ObjectKind::Channel, self.name_of(id));
                    fault.reason = Some(error.to_string());
                    return self.tell(fault);
                }
            }
        }
    }

    /// Knocks on the sockets of VMMs that listen, where it is time.
    pub(crate) fn knock(&mut self) {
        let now_ns = self.now_ns;
        let mut connected = Vec::new();
        for (id, channel) in &mut self.channels {
            let Some(attachment) = channel.attachment.as_mut().filter(|a| a.live.is_none() && !a.closed)
            else {
                continue;
            };
            if let Door::Client(connector) = &mut attachment.door
                && let Some(connection) = connector.poll(now_ns)
            {
                connected.push((id.clone(), connection));
            }
        }
        for (id, connection) in connected {
            self.connected(&id, connection);
        }
    }

    fn connected(&mut self, id: &str, connection: Connection) {
        let Some(channel) = self.channels.get_mut(id) else { return };
        let serving = matches!(
            channel.setting.oper,
            Oper::Listening | Oper::Active | Oper::Suspended | Oper::Quiescing
        );
        let Some(attachment) = channel.attachment.as_mut().filter(|attachment| serving && !attachment.closed)
        else {
            return;
        };
        match &mut attachment.live {
            None => self.begin_session(id, connection),
            Some(live) => {
                attachment.replacement = Some(connection);
                if !live.closing {
                    live.session.close(EndReason::Closed("another connection replaces it".to_owned()));
                    self.tear_down(id, "another connection replaces it");
                }
            }
        }
    }

    fn begin_session(&mut self, id: &str, mut connection: Connection) {
        let Some(seat) = self.channels.get(id).and_then(|channel| channel.seat.clone()) else { return };
        let session = match Session::new(device_of(&seat)) {
            Ok(session) => session,
            Err(error) => {
                let mut fault = event(EventKind::Fault, ObjectKind::Channel, self.name_of(id));
                fault.reason = Some(error.to_string());
                return self.tell(fault);
            }
        };
        let token = self.tokens.give(id);
        let registered =
            self.poll.registry().register(&mut connection, token, Interest::READABLE | Interest::WRITABLE);
        self.session_serial += 1;
        let serial = self.session_serial;
        let mut told = event(EventKind::Session, ObjectKind::Channel, self.name_of(id));
        told.to = Some("connected".to_owned());
        told.reason = connection.peer_pid().map(|pid| format!("process {pid}"));
        if let Err(error) = registered {
            self.tokens.take_back(token);
            told.to = Some("refused".to_owned());
            told.reason = Some(error.to_string());
            return self.tell(told);
        }
        let live = Live {
            serial,
            token,
            connection,
            session,
            back_channel: None,
            regions: Vec::new(),
            map: Weak::new(),
            rings: BTreeMap::new(),
            stopping: BTreeSet::new(),
            calls: BTreeMap::new(),
            inflight: None,
            closing: false,
        };
        if let Some(attachment) = self.channels.get_mut(id).and_then(|channel| channel.attachment.as_mut()) {
            if let Door::Client(connector) = &mut attachment.door {
                connector.session_established();
            }
            attachment.live = Some(live);
        }
        self.tell(told);
        self.pump(id);
    }

    /// Reads, acts and writes until nothing is left to do at once.
    fn pump(&mut self, id: &str) {
        loop {
            let Some(live) = self.live_mut(id) else { return };
            let progress = live.connection.pump(&mut live.session);
            let (serial, mut acted) = (live.serial, false);
            while let Some(action) =
                self.live_mut(id).filter(|l| l.serial == serial).and_then(|l| l.session.next_action())
            {
                acted = true;
                self.act(id, serial, action);
            }
            if progress.is_idle() && !acted {
                return;
            }
        }
    }

    fn act(&mut self, id: &str, serial: u64, action: Action) {
        tracing::debug!(channel = %self.name_of(id), action = action.name(), "session");
        match action {
            Action::StartRing { token, index, setup } => self.start_ring(id, serial, token, index, setup),
            Action::StopRing { token, index } => self.stop_ring(id, serial, token, index),
            Action::SetKick { token, index, kick } => {
                let kick =
                    kick.map(|fd| duplicate(&fd).and_then(|fd| Kick::new(fd).map_err(|e| e.to_string())));
                match kick.transpose() {
                    Ok(kick) => self.ring_order(id, serial, token, move |seat| Order::SetKick {
                        channel: seat.id,
                        index,
                        kick,
                    }),
                    Err(why) => self.complete(id, serial, token, Outcome::Failed(why)),
                }
            }
            Action::SetCall { token, index, call } => {
                self.keep_call(id, index, call.as_ref());
                let call =
                    call.map(|fd| duplicate(&fd).and_then(|fd| Call::new(fd).map_err(|e| e.to_string())));
                match call.transpose() {
                    Ok(call) => self.ring_order(id, serial, token, move |seat| Order::SetCall {
                        channel: seat.id,
                        index,
                        call,
                    }),
                    Err(why) => self.complete(id, serial, token, Outcome::Failed(why)),
                }
            }
            Action::MapMemory { token, regions, replace } => {
                self.map_memory(id, serial, token, regions, replace)
            }
            Action::UnmapMemory { token, region } => self.unmap_memory(id, serial, token, region),
            Action::GetInflight { token, num_queues, queue_size } => {
                let outcome = match inflight_region(num_queues, queue_size) {
                    Ok(region) => Outcome::Inflight(region),
                    Err(why) => Outcome::Failed(why),
                };
                self.complete(id, serial, token, outcome);
            }
            Action::SetInflight { token, region, num_queues, queue_size } => {
                let mapped =
                    Inflight::map(region.file, region.mmap_offset, region.mmap_size, num_queues, queue_size);
                let outcome = match mapped {
                    Ok(inflight) => {
                        if let Some(live) = self.live_mut(id) {
                            live.inflight = Some(Arc::new(inflight));
                        }
                        Outcome::Done
                    }
                    Err(error) => Outcome::Failed(error.to_string()),
                };
                self.complete(id, serial, token, outcome);
            }
            Action::SetBackendChannel { token, socket, reply_ack } => {
                let back_token = self.tokens.give(id);
                let mut back = BackendChannel::new(socket, reply_ack);
                let registered = self.poll.registry().register(
                    &mut back,
                    back_token,
                    Interest::READABLE | Interest::WRITABLE,
                );
                let outcome = match registered {
                    Ok(()) => {
                        let earlier =
                            self.live_mut(id).and_then(|live| live.back_channel.replace((back, back_token)));
                        if let Some((_, token)) = earlier {
                            self.tokens.take_back(token);
                        }
                        Outcome::Done
                    }
                    Err(error) => {
                        self.tokens.take_back(back_token);
                        Outcome::Failed(error.to_string())
                    }
                };
                self.complete(id, serial, token, outcome);
            }
            // The error eventfd has no use for a block device, and status is the driver's own affair: both are noted by
            // the session, and nothing follows from them here.
            Action::SetErr { token, .. }
            | Action::SetStatus { token, .. }
            | Action::ResetDevice { token } => {
                self.complete(id, serial, token, Outcome::Done);
            }
            Action::WriteConfig { token, .. } => {
                self.complete(
                    id,
                    serial,
                    token,
                    Outcome::Failed("this device has no writable configuration".into()),
                );
            }
            Action::SetMtu { token, .. } | Action::SendRarp { token, .. } => {
                self.complete(id, serial, token, Outcome::Failed("this is a block device".into()));
            }
            Action::Ended(reason) => self.tear_down(id, &reason.to_string()),
        }
    }

    pub(crate) fn complete(&mut self, id: &str, serial: u64, token: Token, outcome: Outcome) {
        let Some(live) = self.live_mut(id).filter(|live| live.serial == serial) else { return };
        if let Outcome::Failed(why) = &outcome {
            tracing::warn!(channel = id, why, "a front-end's request failed");
        }
        // An error says that the session has ended meanwhile and no longer waits for this answer.
        let _ = live.session.complete(token, outcome);
        self.pump(id);
    }

    /// The session is over: stop its rings, take its memory away, then go on with whoever waits.
    fn tear_down(&mut self, id: &str, why: &str) {
        let Some(live) = self.live_mut(id).filter(|live| !live.closing) else { return };
        live.closing = true;
        let (serial, token) = (live.serial, live.token);
        let back_token = live.back_channel.take().map(|(_, token)| token);
        // A ring that is being stopped already is waited for, not stopped twice.
        let rings: BTreeSet<u16> =
            live.rings.keys().copied().filter(|ring| !live.stopping.contains(ring)).collect();
        live.stopping.extend(&rings);
        let idle = live.rings.is_empty();
        let _ = self.deregister(id);
        for token in std::iter::once(token).chain(back_token) {
            self.tokens.take_back(token);
        }
        let mut told = event(EventKind::Session, ObjectKind::Channel, self.name_of(id));
        (told.from, told.to) = (Some("connected".to_owned()), Some("gone".to_owned()));
        told.reason = Some(why.to_owned());
        self.tell(told);
        if idle {
            return self.drop_memory(id);
        }
        for index in rings {
            let owned = id.to_owned();
            self.drained_order(
                id,
                move |seat| Order::StopRing { channel: seat.id, index },
                move |control, _| {
                    control.ring_gone(&owned, serial, index);
                },
            );
        }
    }

    /// Nothing of the session is left. Begin the next one, or go on with what waited.
    pub(crate) fn session_gone(&mut self, id: &str) {
        let Some(channel) = self.channels.get_mut(id) else { return };
        let was_active = channel.setting.oper == Oper::Active;
        let Some(attachment) = channel.attachment.as_mut() else { return };
        attachment.live = None;
        let (closed, after) = (attachment.closed, std::mem::take(&mut attachment.after));
        let replacement = attachment.replacement.take();
        let door_token = attachment.door_token;
        if closed {
            channel.attachment = None;
            self.tokens.take_back(door_token);
        } else if was_active {
            self.step(id, Step::SessionLost, None);
        }
        for next in after {
            next(self);
        }
        if let Some(connection) = replacement {
            self.connected(id, connection);
        }
    }

    /// Tells the front-end that the configuration space has changed.
    pub(crate) fn config_changed(&mut self, id: &str) {
        let Some(seat) = self.channels.get(id).and_then(|channel| channel.seat.clone()) else { return };
        let Some(live) = self.live_mut(id) else { return };
        live.session.replace_config(&seat.settings.config_bytes());
        let broken = live.back_channel.as_mut().is_some_and(|(back, _)| back.config_changed().is_err());
        if broken && let Some((_, token)) = live.back_channel.take() {
            self.tokens.take_back(token);
        }
    }

    pub(crate) fn live_mut(&mut self, id: &str) -> Option<&mut Live> {
        self.channels.get_mut(id)?.attachment.as_mut()?.live.as_mut()
    }

    fn deregister(&mut self, id: &str) -> std::io::Result<()> {
        let registry = self.poll.registry().try_clone()?;
        self.live_mut(id).map_or(Ok(()), |live| registry.deregister(&mut live.connection))
    }
}

/// The device that a session presents.
fn device_of(seat: &Seat) -> Device {
    Device {
        features: seat.settings.features(),
        protocol_features: Device::PROTOCOL_FEATURES,
        rings_max: seat.settings.rings,
        ring_size_max: RING_SIZE_MAX,
        config: seat.settings.config_bytes().to_vec(),
        config_writable: 0..0,
    }
}

/// Entries of the largest ring that is served.
const RING_SIZE_MAX: u16 = 1024;
