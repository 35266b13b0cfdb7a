use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as Peer;
use std::time::Duration;

use mio::{Events, Poll};
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::codec::Message;
use crate::{EventKind, Object, ObjectKind, Subscription};

const FIRST_TOKEN: usize = 100;

/// A server and its poll, stepped by hand.
struct World {
    directory: TempDir,
    poll: Poll,
    server: Server,
}

impl World {
    fn new() -> Self {
        Self::with(Roles::default(), Bounds::default())
    }

    fn with(roles: Roles, bounds: Bounds) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let poll = Poll::new().unwrap();
        let registry = poll.registry().try_clone().unwrap();
        let path = directory.path().join("control.sock");
        let server = Server::bind(&path, registry, FIRST_TOKEN, roles, bounds).unwrap();
        Self { directory, poll, server }
    }

    fn connect(&mut self) -> Peer {
        let peer = Peer::connect(self.server.path()).unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        self.turn();
        peer
    }

    /// Notes what the sockets say, and takes what was asked.
    fn turn(&mut self) -> Vec<Request> {
        let mut events = Events::with_capacity(16);
        self.poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        for event in &events {
            assert!(self.server.owns(event.token()));
            self.server.ready(event);
        }
        std::iter::from_fn(|| self.server.next_request()).collect()
    }

    fn only_request(&mut self) -> Request {
        let mut requests = self.turn();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests.remove(0)
    }
}

fn ask(peer: &mut Peer, id: u64, method: &str, params: &Value) {
    peer.write_all(&codec::write_request(&Id::from(id), method, params)).unwrap();
}

fn hear(peer: &mut Peer) -> Message {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        peer.read_exact(&mut byte).unwrap();
        if byte == *b"\n" {
            return codec::read_message(&line).unwrap();
        }
        line.extend(byte);
    }
}

fn answer(peer: &mut Peer) -> (Id, Result<Value, RpcError>) {
    match hear(peer) {
        Message::Response { id, result } => (id, result),
        other => panic!("{other:?}"),
    }
}

fn refused(peer: &mut Peer) -> ErrorCode {
    answer(peer).1.unwrap_err().code
}

fn is_closed(peer: &mut Peer) -> bool {
    peer.read(&mut [0; 1]).is_ok_and(|count| count == 0)
}

fn event(seq: u64) -> Event {
    Event {
        seq,
        time_unix_ns: 0,
        kind: EventKind::Oper,
        object: Object { kind: ObjectKind::Channel, name: "x".repeat(1000) },
        tenant: None,
        from: None,
        to: None,
        reason: None,
        uid: None,
        generation: None,
    }
}

fn subscription() -> Result<Outcome, RpcError> {
    Ok(Subscription { gap: None, last_seq: 0 }.into())
}

#[test]
fn answers_may_come_later_and_in_any_order() {
    let mut world = World::new();
    let mut peer = world.connect();
    ask(&mut peer, 1, "device.list", &json!({}));
    ask(&mut peer, 2, "channel.list", &json!({}));
    let mut requests = world.turn();
    assert_eq!(requests[0].method.name(), "device.list");
    let second = requests.remove(1);
    world.server.reply(second.ticket, Ok(Outcome::Channels(vec![])));
    assert_eq!(answer(&mut peer), (Id::from(2), Ok(json!([]))));
    let first = requests.remove(0);
    world.server.reply(first.ticket, Err(RpcError::new(ErrorCode::DeviceFault, "gone")));
    assert_eq!(answer(&mut peer).0, Id::from(1));
}

#[test]
fn a_request_in_pieces_is_one_request() {
    let mut world = World::new();
    let mut peer = world.connect();
    let line = codec::write_request(&Id::from(1), "status", &json!({}));
    for byte in &line[..line.len() - 1] {
        peer.write_all(&[*byte]).unwrap();
        assert!(world.turn().is_empty());
    }
    peer.write_all(b"\n").unwrap();
    assert_eq!(world.only_request().method.name(), "status");
}

#[test]
fn malformed_input_is_answered_and_the_connection_goes_on() {
    let mut world = World::new();
    let mut peer = world.connect();
    peer.write_all(b"nonsense\n\n  \r\n[]\n").unwrap();
    assert!(world.turn().is_empty());
    assert_eq!(refused(&mut peer), ErrorCode::Parse);
    assert_eq!(refused(&mut peer), ErrorCode::InvalidRequest);
    ask(&mut peer, 1, "status", &json!({}));
    assert_eq!(world.turn().len(), 1);
}

#[test]
fn a_line_without_end_is_answered_and_the_connection_closed() {
    let mut world = World::new();
    let mut peer = world.connect();
    let chunk = vec![b' '; 64 << 10];
    let mut sent = 0;
    while sent <= codec::REQUEST_BYTES_MAX {
        peer.write_all(&chunk).unwrap();
        sent += chunk.len();
        world.turn();
    }
    assert_eq!(refused(&mut peer), ErrorCode::InvalidRequest);
    assert!(is_closed(&mut peer));
    assert!(world.server.next_closed().is_some());
    assert_eq!(world.server.connections(), 0);
}

#[test]
fn the_longest_line_is_taken_and_one_byte_more_is_not() {
    for (extra, taken) in [(0, true), (1, false)] {
        let mut world = World::new();
        let mut peer = world.connect();
        let mut line = br#"{"jsonrpc":"2.0","id":1,"method":"status"}"#.to_vec();
        line.resize(codec::REQUEST_BYTES_MAX + extra, b' ');
        line.push(b'\n');
        let mut requests = Vec::new();
        for chunk in line.chunks(32 << 10) {
            peer.write_all(chunk).unwrap();
            requests.extend(world.turn());
        }
        assert_eq!(requests.len() == 1, taken);
    }
}

#[test]
fn discover_is_answered_without_the_manager() {
    let mut world = World::new();
    let mut peer = world.connect();
    ask(&mut peer, 1, "rpc.discover", &json!({}));
    assert!(world.turn().is_empty());
    assert_eq!(answer(&mut peer).1.unwrap()["openrpc"], "1.3.2");
}

#[test]
fn a_caller_without_the_role_is_refused_and_told_what_is_missing() {
    let mut world = World::new();
    let mut peer = world.connect();
    for (role, method, allowed) in [
        (Role::None, "rpc.discover", false),
        (Role::None, "status", false),
        (Role::Read, "status", true),
        (Role::Read, "channel.destroy", false),
        (Role::Operate, "channel.destroy", true),
        (Role::Operate, "device.claim", false),
        (Role::Admin, "device.claim", true),
    ] {
        let slot = world.server.slots[0].as_mut().unwrap();
        (slot.caller.role, slot.view) = (role, View::of_host(role));
        let params = match method {
            "channel.destroy" => json!({ "name": "a" }),
            "device.claim" => json!({ "device": "0000:03:00.0" }),
            _ => json!({}),
        };
        ask(&mut peer, 1, method, &params);
        assert_eq!(world.turn().len() == 1, allowed, "{method} as {role:?}");
        if !allowed {
            let error = answer(&mut peer).1.unwrap_err();
            assert_eq!(error.code, ErrorCode::Permission);
            assert!(error.data.next.contains("roles."), "{error:?}");
        }
    }
}

#[test]
fn a_confined_connection_stays_confined_and_is_told_of_its_tenants_events_alone() {
    let mut world = World::new();
    let mut peer = world.connect();
    ask(&mut peer, 1, "events.subscribe", &json!({}));
    let request = world.only_request();
    let connection = request.ticket.connection();
    world.server.reply(request.ticket, subscription());
    assert!(answer(&mut peer).1.is_ok());
    let confined = world.server.confine(connection, "acme").unwrap();
    assert_eq!((confined.role, confined.tenants["acme"]), (Role::None, Role::Operate));
    let of = |seq, tenant: Option<&str>| Event { tenant: tenant.map(str::to_owned), ..event(seq) };
    let backlog = [of(1, Some("beta")), of(2, Some("acme"))];
    world.server.subscribe(connection, &backlog);
    for event in [of(3, None), of(4, Some("beta")), of(5, Some("acme"))] {
        world.server.publish(&event);
    }
    for seq in [2, 5] {
        let Message::Notification { params, .. } = hear(&mut peer) else { panic!() };
        assert_eq!(params["seq"], seq);
    }
    ask(&mut peer, 2, "sidecore.set", &json!({ "index": 0, "mode": "poll" }));
    assert!(world.turn().is_empty());
    assert_eq!(refused(&mut peer), ErrorCode::Permission);
}

#[test]
fn the_kernel_says_who_calls() {
    let mut world = World::new();
    let mut peer = world.connect();
    ask(&mut peer, 1, "status", &json!({}));
    let caller = world.only_request().caller;
    assert_eq!((caller.uid, caller.role), (nix::unistd::geteuid().as_raw(), Role::Admin));
    assert_eq!(caller.pid.unsigned_abs(), std::process::id());
}

#[test]
fn a_repeat_gets_the_first_answer() {
    let mut world = World::new();
    let (mut one, mut two) = (world.connect(), world.connect());
    let params = json!({ "name": "a", "request_id": "r1" });
    ask(&mut one, 1, "channel.destroy", &params);
    let first = world.only_request();
    ask(&mut two, 7, "channel.destroy", &params);
    assert!(world.turn().is_empty(), "the first is still under way");
    world.server.reply(first.ticket, Err(RpcError::new(ErrorCode::Busy, "in use")));
    assert_eq!(answer(&mut one).0, Id::from(1));
    assert_eq!(answer(&mut two).0, Id::from(7));
    ask(&mut two, 8, "channel.destroy", &params);
    assert!(world.turn().is_empty(), "it is done");
    assert_eq!(refused(&mut two), ErrorCode::Busy);
    ask(&mut two, 9, "channel.destroy", &json!({ "name": "b", "request_id": "r1" }));
    assert!(world.turn().is_empty());
    assert_eq!(refused(&mut two), ErrorCode::Conflict);
}

#[test]
fn a_repeat_by_another_user_is_another_request() {
    let mut world = World::new();
    let (mut one, mut two) = (world.connect(), world.connect());
    world.server.slots[1].as_mut().unwrap().caller.uid ^= 1;
    let params = json!({ "name": "a", "request_id": "r1" });
    ask(&mut one, 1, "channel.destroy", &params);
    ask(&mut two, 1, "channel.destroy", &params);
    assert_eq!(world.turn().len(), 2);
}

#[test]
fn only_so_many_request_ids_are_remembered() {
    let mut world = World::with(Roles::default(), Bounds { request_ids_max: 2, ..Bounds::default() });
    let mut peer = world.connect();
    for (request_id, is_new) in [("a", true), ("b", true), ("a", false), ("c", true), ("a", true)] {
        ask(&mut peer, 1, "channel.destroy", &json!({ "name": "x", "request_id": request_id }));
        let mut requests = world.turn();
        assert_eq!(
            requests.pop().is_some_and(|request| {
                world.server.reply(request.ticket, Ok(Outcome::Channels(vec![])));
                true
            }),
            is_new,
            "{request_id}"
        );
        answer(&mut peer).1.unwrap();
    }
}

#[test]
fn a_connection_has_only_so_many_requests_under_way() {
    let mut world = World::with(Roles::default(), Bounds { requests_max: 2, ..Bounds::default() });
    let mut peer = world.connect();
    for id in 0..3 {
        ask(&mut peer, id, "status", &json!({}));
    }
    let mut requests = world.turn();
    assert_eq!(requests.len(), 2);
    assert!(!world.server.is_busy(), "what must wait does not keep the loop awake");
    world.server.reply(requests.remove(0).ticket, Ok(Outcome::Channels(vec![])));
    assert!(world.server.is_busy());
    assert_eq!(world.turn().len(), 1);
}

#[test]
fn a_chatty_client_does_not_keep_others_waiting() {
    let mut world = World::with(Roles::default(), Bounds { requests_max: 1000, ..Bounds::default() });
    let (mut chatty, mut quiet) = (world.connect(), world.connect());
    for id in 0..100 {
        ask(&mut chatty, id, "status", &json!({}));
    }
    ask(&mut quiet, 1, "channel.list", &json!({}));
    let requests = world.turn();
    let turn = requests.iter().position(|request| request.method.name() == "channel.list");
    assert!(turn.is_some_and(|turn| turn < 3), "served as number {turn:?}");
}

#[test]
fn the_loop_has_its_turn_however_much_is_sent() {
    let mut world = World::new();
    let mut peer = world.connect();
    peer.write_all(&b"\n".repeat(READS_A_TURN + 10)).unwrap();
    ask(&mut peer, 1, "status", &json!({}));
    assert!(world.turn().is_empty());
    assert!(world.server.is_busy());
    assert_eq!(world.turn().len(), 1);
}

#[test]
fn a_crowd_that_connects_at_once_is_taken_in_turn_by_turn() {
    let mut world = World::new();
    let path = world.server.path().to_owned();
    let crowd: Vec<Peer> = (0..40).map(|_| Peer::connect(&path).unwrap()).collect();
    world.turn();
    assert_eq!(world.server.connections(), ACCEPTS_A_TURN);
    while world.server.is_busy() {
        world.turn();
    }
    assert_eq!(world.server.connections(), crowd.len());
}

#[test]
fn connections_beyond_the_bound_are_told_so_and_closed() {
    let mut world = World::with(Roles::default(), Bounds { connections_max: 1, ..Bounds::default() });
    let first = world.connect();
    let mut second = world.connect();
    assert_eq!(refused(&mut second), ErrorCode::Busy);
    assert!(is_closed(&mut second));
    drop(first);
    world.turn();
    assert!(world.server.next_closed().is_some());
    let mut third = world.connect();
    ask(&mut third, 1, "status", &json!({}));
    assert_eq!(world.turn().len(), 1, "the place of the first is free again");
}

#[test]
fn what_a_client_asked_before_it_left_is_still_done_and_its_answer_goes_nowhere() {
    let mut world = World::new();
    let mut peer = world.connect();
    ask(&mut peer, 1, "channel.destroy", &json!({ "name": "a" }));
    drop(peer);
    let request = world.only_request();
    assert_eq!(world.server.next_closed(), Some(request.ticket.connection()));
    let mut next = world.connect();
    world.server.reply(request.ticket, Ok(Outcome::Channels(vec![])));
    ask(&mut next, 2, "rpc.discover", &json!({}));
    world.turn();
    assert_eq!(answer(&mut next).0, Id::from(2), "the next client at that place hears nothing of it");
}

#[test]
fn a_client_that_only_stops_sending_still_gets_its_answer() {
    let mut world = World::new();
    let mut peer = world.connect();
    ask(&mut peer, 1, "status", &json!({}));
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    let request = world.only_request();
    assert_eq!(world.server.connections(), 1);
    world.server.reply(request.ticket, Ok(Outcome::Channels(vec![])));
    assert_eq!(answer(&mut peer).0, Id::from(1));
    assert!(is_closed(&mut peer));
}

#[test]
fn a_subscriber_hears_the_backlog_and_then_what_happens() {
    let mut world = World::new();
    let (mut peer, mut other) = (world.connect(), world.connect());
    ask(&mut peer, 1, "events.subscribe", &json!({ "since": 0 }));
    let ticket = world.only_request().ticket;
    let connection = ticket.connection();
    world.server.reply(ticket, subscription());
    world.server.subscribe(connection, &[event(1), event(2)]);
    world.server.publish(&event(3));
    answer(&mut peer).1.unwrap();
    for seq in 1..=3 {
        let Message::Notification { method, params } = hear(&mut peer) else { panic!("an answer") };
        assert_eq!((method.as_str(), &params["seq"]), ("event", &json!(seq)));
    }
    other.set_nonblocking(true).unwrap();
    assert!(other.read(&mut [0; 1]).is_err(), "who did not subscribe hears nothing");
}

#[test]
fn a_subscriber_that_reads_slowly_is_told_of_a_gap() {
    let bounds = Bounds { event_backlog_bytes_max: 4 << 10, ..Bounds::default() };
    let mut world = World::with(Roles::default(), bounds);
    let mut peer = world.connect();
    ask(&mut peer, 1, "events.subscribe", &json!({}));
    let ticket = world.only_request().ticket;
    let connection = ticket.connection();
    world.server.reply(ticket, subscription());
    world.server.subscribe(connection, &[]);
    answer(&mut peer).1.unwrap();
    let published = 2000;
    for seq in 1..=published {
        world.server.publish(&event(seq));
    }
    let mut next = 1;
    while next <= published {
        let Message::Notification { method, params } = hear(&mut peer) else { panic!("an answer") };
        if method == "event" {
            assert_eq!(params["seq"], next, "every event is heard or announced as missing");
            next += 1;
        } else {
            assert_eq!(params["first_seq"], next);
            next = params["last_seq"].as_u64().unwrap() + 1;
        }
        world.turn();
    }
    world.server.publish(&event(published + 1));
    let Message::Notification { params, .. } = hear(&mut peer) else { panic!("an answer") };
    assert_eq!(params["seq"], published + 1, "it goes on after the gap");
}

#[test]
fn a_client_that_reads_nothing_is_dropped() {
    let bounds = Bounds { output_bytes_max: 1 << 20, ..Bounds::default() };
    let mut world = World::with(Roles::default(), bounds);
    let mut peer = world.connect();
    for id in 0..200 {
        if peer.write_all(&codec::write_request(&Id::from(id), "rpc.discover", &json!({}))).is_err() {
            break;
        }
        world.turn();
    }
    assert!(world.server.next_closed().is_some());
    assert_eq!(world.server.connections(), 0);
}

#[test]
fn the_socket_is_for_user_and_group_and_goes_with_the_server() {
    let world = World::new();
    let path = world.server.path().to_owned();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    drop(world.server);
    assert!(!path.exists());
    assert_eq!(std::fs::read_dir(world.directory.path()).unwrap().count(), 0);
}

#[test]
fn a_live_socket_is_refused_and_a_stale_one_replaced() {
    let world = World::new();
    let path = world.server.path();
    let bind = |path: &Path| {
        let registry = world.poll.registry().try_clone().unwrap();
        Server::bind(path, registry, 900, Roles::default(), Bounds::default())
    };
    let error = bind(path).unwrap_err();
    assert!(matches!(error, BindError::Live { .. }), "{error}");
    assert!(Peer::connect(path).is_ok(), "the live one is unharmed");

    let stale = world.directory.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    let server = bind(&stale).unwrap();
    assert!(Peer::connect(&stale).is_ok());
    drop(server);
}

#[test]
fn what_is_no_socket_is_not_replaced() {
    let world = World::new();
    let path = world.directory.path().join("precious");
    std::fs::write(&path, "data").unwrap();
    let registry = world.poll.registry().try_clone().unwrap();
    let error = Server::bind(&path, registry, 900, Roles::default(), Bounds::default()).unwrap_err();
    assert!(matches!(error, BindError::Occupied { .. }), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"data");
}

#[test]
fn a_directory_that_does_not_exist_is_named_with_what_to_do() {
    let world = World::new();
    let path = world.directory.path().join("no/such/control.sock");
    let registry = world.poll.registry().try_clone().unwrap();
    let error = Server::bind(&path, registry, 900, Roles::default(), Bounds::default()).unwrap_err();
    assert!(error.to_string().contains("the directory must exist"), "{error}");
}

#[test]
fn who_asks_in_the_background_is_answered_at_once_and_the_end_is_told_of_apart() {
    let mut world = World::new();
    let mut peer = world.connect();
    let params = json!({ "name": "disk-a", "background": true, "request_id": "r" });
    ask(&mut peer, 1, "channel.destroy", &params);
    let request = world.only_request();
    assert!(request.change.background && request.method.is_long());
    let mut ticket = request.ticket.for_job(7);
    let at_once = ticket.detach();
    world.server.reply(at_once, Ok(Outcome::Jobs(Vec::new())));
    assert_eq!(answer(&mut peer).1.unwrap(), json!([]));
    // A repeat gets the first answer, not the end.
    ask(&mut peer, 2, "channel.destroy", &params);
    assert_eq!(world.turn().len(), 0);
    assert_eq!(answer(&mut peer).1.unwrap(), json!([]));
    assert_eq!(world.server.next_ended(), None);
    world.server.reply(ticket, Err(RpcError::new(ErrorCode::Busy, "no")));
    assert_eq!(world.server.next_ended().map(|(job, result)| (job, result.is_err())), Some((7, true)));
    // Nothing of it goes to the peer: what comes next is the answer to the next question.
    ask(&mut peer, 3, "channel.show", &json!({ "name": "disk-a", "background": true }));
    assert_eq!(world.turn().len(), 0);
    assert_eq!(answer(&mut peer).1.unwrap_err().code, ErrorCode::InvalidParams);
}

#[test]
fn what_is_over_at_once_is_not_done_in_the_background() {
    let mut world = World::new();
    let mut peer = world.connect();
    ask(&mut peer, 1, "channel.suspend", &json!({ "name": "disk-a", "background": true }));
    assert_eq!(world.turn().len(), 0);
    let error = answer(&mut peer).1.unwrap_err();
    assert!(error.message.contains("over at once"), "{error}");
}

/// C5: the answer that one tenant's request id got is not given to another who uses the same.
#[test]
fn a_request_id_is_repeated_only_by_who_may_have_the_answer() {
    let mut world = World::new();
    let params = json!({ "name": "acme.disk", "request_id": "once" });
    let mut ask_as = |tenant: &str| {
        let mut peer = world.connect();
        ask(&mut peer, 1, "caller.show", &json!({}));
        let request = world.only_request();
        let info = world.server.confine(request.ticket.connection(), tenant).unwrap();
        world.server.reply(request.ticket, Ok(info.into()));
        assert!(answer(&mut peer).1.is_ok());
        ask(&mut peer, 2, "channel.destroy", &params);
        let request = world.only_request();
        let error = RpcError::new(ErrorCode::NotFound, tenant);
        world.server.reply(request.ticket, Err(error));
        answer(&mut peer).1.unwrap_err().message
    };
    assert_eq!(ask_as("acme"), "acme");
    assert_eq!(ask_as("beta"), "beta");
}
