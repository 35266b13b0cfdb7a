//! Endpoints, connections, and the back-end channel, on real sockets and without sleeping.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use crate::wire::{Descriptors, Said, block_device};
use vfiomux_spec::vhost_user::{
    BackendRequest, FLAG_NEED_REPLY, FLAG_REPLY, FrontendRequest as R, Header, U64, VERSION,
};
use vfiomux_vhost::{
    Action, BackendChannel, Connection, Connector, EndReason, Error, Listener, Progress, Session,
};
use zerocopy::IntoBytes;

const MODE: u32 = 0o660;

fn session() -> Session {
    Session::new(block_device()).unwrap()
}

fn pair() -> (Connection, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (Connection::from(OwnedFd::from(ours)), theirs)
}

fn send_with_fds(socket: &UnixStream, bytes: &[u8], fds: &[OwnedFd]) {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    use std::os::fd::AsFd;
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&fds)));
    sendmsg(socket, &[std::io::IoSlice::new(bytes)], &mut ancillary, SendFlags::empty()).unwrap();
}

#[test]
fn a_listener_has_the_mode_it_was_given_and_removes_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.sock");
    let listener = Listener::bind(&path, MODE).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
    assert!(listener.accept().unwrap().is_none());
    let _peer = UnixStream::connect(&path).unwrap();
    assert!(listener.accept().unwrap().is_some());
    assert!(listener.accept().unwrap().is_none());
    drop(listener);
    assert!(!path.exists());
}

#[test]
fn an_accepted_connection_knows_its_peer_and_is_closed_on_exec() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.sock");
    let listener = Listener::bind(&path, MODE).unwrap();
    let _peer = UnixStream::connect(&path).unwrap();
    let connection = listener.accept().unwrap().unwrap();
    assert_eq!(connection.peer_pid().unwrap(), std::process::id() as i32);
    let flags = rustix::io::fcntl_getfd(&connection).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
}

#[test]
fn a_socket_left_by_a_dead_process_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    Listener::bind(&path, MODE).unwrap();
}

#[test]
fn a_socket_in_use_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.sock");
    let other = UnixListener::bind(&path).unwrap();
    let error = Listener::bind(&path, MODE).unwrap_err();
    assert!(matches!(error, Error::EndpointInUse { .. }));
    assert!(error.to_string().contains("in use by another process; choose another path"));
    // Its owner has noticed nothing, and can still be reached.
    other.set_nonblocking(true).unwrap();
    assert_eq!(other.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    UnixStream::connect(&path).unwrap();
}

#[test]
fn a_file_that_is_no_socket_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("precious");
    fs::write(&path, "data").unwrap();
    assert!(matches!(Listener::bind(&path, MODE), Err(Error::NotASocket { .. })));
    assert_eq!(fs::read_to_string(&path).unwrap(), "data");
}

#[test]
fn impossible_paths_are_refused() {
    let long = format!("/tmp/{}", "x".repeat(200));
    assert!(matches!(Listener::bind(Path::new(&long), MODE), Err(Error::PathTooLong { .. })));
    assert!(matches!(Connector::new(Path::new(&long)), Err(Error::PathTooLong { .. })));
    assert!(matches!(Listener::bind(Path::new("/nonexistent/disk.sock"), MODE), Err(Error::Listen { .. })));
}

#[test]
fn a_listener_leaves_a_file_alone_that_has_taken_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.sock");
    let listener = Listener::bind(&path, MODE).unwrap();
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    drop(listener);
    assert!(path.exists());
}

#[test]
fn a_connector_pauses_longer_and_longer_and_connects_when_somebody_listens() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("vmm.sock");
    let mut connector = Connector::new(&path).unwrap();
    let mut now_ns = 1_000;
    let mut pauses_ms = Vec::new();
    for _ in 0..8 {
        assert!(connector.poll(now_ns).is_none());
        assert!(connector.last_failure().unwrap().contains("cannot connect to"));
        pauses_ms.push((connector.next_attempt_ns() - now_ns) / 1_000_000);
        now_ns = connector.next_attempt_ns();
    }
    assert_eq!(pauses_ms, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    let listener = UnixListener::bind(&path).unwrap();
    assert!(connector.poll(now_ns - 1).is_none(), "it is not time yet");
    assert!(connector.poll(now_ns).is_some());
    assert!(connector.last_failure().is_none());
    listener.accept().unwrap();
    assert_eq!(
        connector.next_attempt_ns(),
        now_ns + 5_000_000_000,
        "what is dropped at once is not tried at once"
    );
    connector.session_established();
    assert_eq!(connector.next_attempt_ns(), now_ns + 100_000_000);
}

#[test]
fn a_message_that_arrives_byte_by_byte_is_answered_when_it_is_whole() {
    let (mut connection, mut peer) = pair();
    let mut session = session();
    let message = Said::number(R::SetFeatures, 1 << 32).acked();
    for byte in &message.bytes {
        peer.write_all(&[*byte]).unwrap();
        assert!(connection.pump(&mut session).is_idle());
    }
    let mut reply = [0; 20];
    peer.read_exact(&mut reply).unwrap();
    assert_eq!(reply[..12], *Header { request: 2, flags: VERSION | FLAG_REPLY, size: 8 }.as_bytes());
}

#[test]
fn descriptors_go_to_the_message_they_came_with_and_are_closed_on_exec() {
    let (mut connection, mut peer) = pair();
    let mut session = session();
    // One write without descriptors and one with: the kernel would hand both over in a single large read.
    peer.write_all(&Said::new(R::SetOwner, &[]).bytes).unwrap();
    let file = rustix::fs::memfd_create("region", rustix::fs::MemfdFlags::empty()).unwrap();
    send_with_fds(&peer, &Said::add_region(0, 0x1000).bytes, &[file]);
    assert!(connection.pump(&mut session).is_idle());
    let Some(Action::MapMemory { regions, .. }) = session.next_action() else { panic!("no memory") };
    let flags = rustix::io::fcntl_getfd(&regions[0].file).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
}

#[test]
fn more_descriptors_than_a_message_can_have_end_the_session() {
    let (mut connection, peer) = pair();
    let mut session = session();
    let descriptors = Descriptors::new("many");
    send_with_fds(&peer, &Said::new(R::SetOwner, &[]).bytes, &descriptors.take(40));
    assert!(connection.pump(&mut session).is_idle());
    let Some(Action::Ended(EndReason::Violation(violation))) = session.next_action() else {
        panic!("no end")
    };
    assert_eq!(violation.to_string(), "more than 8 descriptors with one message");
    assert_eq!(descriptors.open(), 0);
}

#[test]
fn a_front_end_that_disappears_ends_the_session_after_what_it_said() {
    let (mut connection, mut peer) = pair();
    let mut session = session();
    peer.write_all(&Said::new(R::SetOwner, &[]).bytes).unwrap();
    drop(peer);
    assert!(connection.pump(&mut session).is_idle());
    assert!(matches!(session.next_action(), Some(Action::Ended(EndReason::Disconnected))));
    assert!(connection.pump(&mut session).is_idle());
}

#[test]
fn a_talkative_front_end_does_not_keep_the_loop_to_itself() {
    let (mut connection, mut peer) = pair();
    let mut session = session();
    for _ in 0..100 {
        peer.write_all(&Said::new(R::SetOwner, &[]).bytes).unwrap();
    }
    assert_eq!(connection.pump(&mut session), Progress::More);
    let rounds =
        std::iter::repeat_with(|| connection.pump(&mut session)).take_while(|p| !p.is_idle()).count();
    assert!(rounds < 100);
    assert_eq!(session.trace().last().unwrap().sequence, 99);
}

#[test]
fn a_front_end_that_does_not_listen_is_answered_in_full_once_it_does() {
    let (mut connection, mut peer) = pair();
    let mut session = session();
    let ask = Said::new(R::GetFeatures, &[]).bytes;
    peer.set_nonblocking(true).unwrap();
    let mut asked = 0;
    // Ask until our replies fill one direction and the questions the other.
    loop {
        while connection.pump(&mut session) == Progress::More {}
        match peer.write(&ask) {
            Ok(count) if count == ask.len() => asked += 1,
            Ok(_) => panic!("a message was cut, which the sizes at hand do not allow"),
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                break;
            }
        }
    }
    assert!(connection.wants_write());
    let mut answered = 0;
    let mut bytes = vec![0; 1 << 16];
    while answered < asked * 20 {
        match peer.read(&mut bytes) {
            Ok(count) => answered += count,
            Err(_) => while connection.pump(&mut session) == Progress::More {},
        }
    }
    assert_eq!(answered, asked * 20);
    assert!(!session.is_ended());
}

/// A back-end channel and its other end.
fn channel(reply_ack: bool) -> (BackendChannel, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    (BackendChannel::new(OwnedFd::from(ours), reply_ack), theirs)
}

fn change(flags: u32) -> Vec<u8> {
    Header { request: BackendRequest::ConfigChangeMsg as u32, flags: VERSION | flags, size: 0 }
        .as_bytes()
        .to_vec()
}

fn read_all(peer: &mut UnixStream) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    let count = peer.read(&mut bytes).unwrap_or(0);
    bytes.truncate(count);
    bytes
}

#[test]
fn changes_of_configuration_space_are_merged_while_one_is_not_acknowledged() {
    let (mut channel, mut peer) = channel(true);
    channel.config_changed().unwrap();
    channel.config_changed().unwrap();
    channel.config_changed().unwrap();
    assert_eq!(read_all(&mut peer), change(FLAG_NEED_REPLY));
    let header = Header { request: 2, flags: VERSION | FLAG_REPLY, size: 8 };
    let acknowledgement = [header.as_bytes(), U64 { value: 0 }.as_bytes()].concat();
    for piece in acknowledgement.chunks(7) {
        assert!(channel.is_busy());
        peer.write_all(piece).unwrap();
        channel.pump().unwrap();
    }
    assert_eq!(read_all(&mut peer), change(FLAG_NEED_REPLY));
    peer.write_all(&acknowledgement).unwrap();
    channel.pump().unwrap();
    assert!(!channel.is_busy() && read_all(&mut peer).is_empty());
}

#[test]
fn without_acknowledgements_every_change_is_told() {
    let (mut channel, mut peer) = channel(false);
    channel.config_changed().unwrap();
    channel.config_changed().unwrap();
    assert_eq!(read_all(&mut peer), [change(0), change(0)].concat());
    assert!(!channel.is_busy());
}

#[test]
fn a_back_end_channel_that_is_closed_or_speaks_nonsense_says_so() {
    let (mut closed, peer) = channel(true);
    drop(peer);
    assert!(matches!(closed.config_changed(), Err(Error::BackendChannel(_))));
    let (mut unasked, mut peer) = channel(true);
    let header = Header { request: 2, flags: VERSION | FLAG_REPLY, size: 8 };
    peer.write_all(&[header.as_bytes(), U64 { value: 0 }.as_bytes()].concat()).unwrap();
    assert!(matches!(unasked.pump(), Err(Error::BackendChannel(_))));
    let (mut noise, mut peer) = channel(true);
    noise.config_changed().unwrap();
    peer.write_all(&[0xff; 20]).unwrap();
    assert!(matches!(noise.pump(), Err(Error::BackendChannel(_))));
}

#[test]
fn sockets_can_be_waited_for() {
    let (connection, _peer) = pair();
    assert!(connection.as_raw_fd() >= 0);
    let directory = tempfile::tempdir().unwrap();
    let mut listener = Listener::bind(&directory.path().join("disk.sock"), MODE).unwrap();
    let mut poll = mio::Poll::new().unwrap();
    poll.registry().register(&mut listener, mio::Token(1), mio::Interest::READABLE).unwrap();
    let _front_end = UnixStream::connect(listener.path()).unwrap();
    let mut events = mio::Events::with_capacity(4);
    poll.poll(&mut events, None).unwrap();
    assert_eq!(events.iter().map(mio::event::Event::token).collect::<Vec<_>>(), [mio::Token(1)]);
    poll.registry().deregister(&mut listener).unwrap();
}
