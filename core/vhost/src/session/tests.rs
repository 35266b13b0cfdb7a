//! The rest of what is tested of sessions needs only their public face, and lies in `tests/`.

use std::os::fd::OwnedFd;

use vfiomux_spec::vhost_user::{
    FLAG_NEED_REPLY, FrontendRequest, Header, MemoryRegion, SingleMemoryRegion, VERSION,
};
use zerocopy::IntoBytes;

use super::Session;
use crate::seeded::{self, Bug};
use crate::{Action, Device, Outcome};

/// What a front-end sees of a region's removal, in order.
#[derive(Debug, PartialEq)]
enum Seen {
    Unmapped,
    Acknowledged,
}

fn say(session: &mut Session, request: FrontendRequest, fds: Vec<OwnedFd>) {
    let region = MemoryRegion { guest_addr: 0, size: 0x1000, user_addr: 0, mmap_offset: 0 };
    let payload = SingleMemoryRegion { padding: 0, region };
    let size = u32::try_from(size_of_val(&payload)).unwrap();
    let header = Header { request: request as u32, flags: VERSION | FLAG_NEED_REPLY, size };
    session.feed(&[header.as_bytes(), payload.as_bytes()].concat(), fds);
}

/// A session whose front-end has granted one region.
fn session_with_a_region() -> Session {
    let mut session = Session::new(Device {
        features: 0,
        protocol_features: Device::PROTOCOL_FEATURES,
        rings_max: 1,
        ring_size_max: 128,
        config: Vec::new(),
        config_writable: 0..0,
    })
    .unwrap();
    let (file, _) = std::io::pipe().unwrap();
    say(&mut session, FrontendRequest::AddMemReg, vec![OwnedFd::from(file)]);
    let token = session.next_action().and_then(|action| action.token()).unwrap();
    session.complete(token, Outcome::Done).unwrap();
    assert!(session.next_output().is_some());
    session
}

/// Removes the region and tells what the front-end sees, in order.
fn remove_the_region(mut session: Session) -> Vec<Seen> {
    let mut seen = Vec::new();
    say(&mut session, FrontendRequest::RemMemReg, Vec::new());
    let unmap = session.next_action().unwrap();
    assert!(matches!(unmap, Action::UnmapMemory { .. }));
    seen.extend(session.next_output().map(|_| Seen::Acknowledged));
    seen.push(Seen::Unmapped);
    // With the bug, the session has forgotten that it asked.
    let _ = session.complete(unmap.token().unwrap(), Outcome::Done);
    seen.extend(session.next_output().map(|_| Seen::Acknowledged));
    seen
}

/// D3.
#[test]
fn memory_goes_back_to_the_front_end_only_after_it_has_been_unmapped() {
    assert_eq!(remove_the_region(session_with_a_region()), [Seen::Unmapped, Seen::Acknowledged]);
}

/// D3, seeded bug: early reply.
#[test]
fn an_early_reply_is_caught() {
    let session = session_with_a_region();
    let seen = seeded::with(Bug::EarlyReply, || remove_the_region(session));
    assert_eq!(seen, [Seen::Acknowledged, Seen::Unmapped]);
}
