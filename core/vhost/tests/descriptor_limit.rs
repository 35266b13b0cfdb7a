//! What happens when our process has no descriptor left: alone in its file, because the limit is the whole process's.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use vfiomux_spec::vhost_user::{FrontendRequest, Header, VERSION};
use vfiomux_spec::virtio::features;
use vfiomux_vhost::{Action, Connection, Device, EndReason, Session};
use zerocopy::IntoBytes as _;

#[test]
fn descriptors_that_the_kernel_had_to_drop_end_the_session_and_blame_the_limit() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut connection = Connection::from(OwnedFd::from(ours));
    let device = Device {
        features: features::VERSION_1,
        protocol_features: Device::PROTOCOL_FEATURES,
        rings_max: 1,
        ring_size_max: 256,
        config: Vec::new(),
        config_writable: 0..0,
    };
    let mut session = Session::new(device).unwrap();
    let file = rustix::fs::memfd_create("region", rustix::fs::MemfdFlags::CLOEXEC).unwrap();

    let fds = [file.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&fds)));
    let message = Header { request: FrontendRequest::AddMemReg as u32, flags: VERSION, size: 0 };
    sendmsg(&theirs, &[std::io::IoSlice::new(message.as_bytes())], &mut ancillary, SendFlags::empty())
        .unwrap();

    let before = getrlimit(Resource::Nofile);
    let next_free = file.try_clone().unwrap().as_raw_fd();
    setrlimit(Resource::Nofile, Rlimit { current: Some(next_free as u64), ..before }).unwrap();
    let progress = connection.pump(&mut session);
    setrlimit(Resource::Nofile, before).unwrap();

    assert!(progress.is_idle());
    let Some(Action::Ended(EndReason::Socket(why))) = session.next_action() else { panic!("no end") };
    assert_eq!(why, "no descriptor is free for what the front-end sent; raise LimitNOFILE");
}
