//! Sessions under an independent front-end, the `vhost` crate's, over a real socket and in a `mio` loop.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;

use crate::wire::{Descriptors, block_device, success, told};
use mio::{Events, Interest, Poll, Waker};
use vfiomux_spec::virtio::features;
use vfiomux_vhost::{Action, BackendChannel, Connection, Outcome, RingSetup, Session};
use vhost::vhost_user::message::{VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserInflight};
use vhost::vhost_user::{
    Frontend, FrontendReqHandler, HandlerResult, VhostUserFrontend, VhostUserFrontendReqHandlerMut,
    VhostUserProtocolFeatures,
};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vmm_sys_util::eventfd::EventFd;

const SOCKET: mio::Token = mio::Token(0);
const WAKER: mio::Token = mio::Token(1);
const CHANNEL: mio::Token = mio::Token(2);

/// What the test tells the owner's thread.
enum Command {
    ConfigChanged,
}

/// An owner of rings without a device. A ring that stops tells as its base how often it was kicked.
struct Owner {
    session: Session,
    connection: Connection,
    channel: Option<BackendChannel>,
    rings: HashMap<u16, RingSetup>,
    descriptors: Descriptors,
    /// Answered one turn of the loop later, as a ring that has to be drained would be.
    later: Vec<Action>,
    told: Vec<String>,
}

impl Owner {
    fn take(&mut self, action: Action, registry: &mio::Registry) {
        self.told.push(told(&action));
        match action {
            Action::StopRing { .. } | Action::UnmapMemory { .. } => self.later.push(action),
            Action::StartRing { token, index, setup } => {
                if let Some(call) = &setup.call {
                    rustix::io::write(call, &1_u64.to_ne_bytes()).unwrap();
                }
                self.rings.insert(index, setup);
                self.session.complete(token, Outcome::Done).unwrap();
            }
            Action::MapMemory { token, regions, .. } => {
                // The descriptor is the one that belongs to the region: its first byte says where it is.
                for region in regions {
                    let mut first = [0];
                    let file = File::from(region.file);
                    file.read_exact_at(&mut first, region.mmap_offset).unwrap();
                    assert_eq!(u64::from(first[0]) << 20, region.id.guest_addr);
                }
                self.session.complete(token, Outcome::Done).unwrap();
            }
            Action::SetBackendChannel { token, socket, reply_ack } => {
                let mut channel = BackendChannel::new(socket, reply_ack);
                registry.register(&mut channel, CHANNEL, Interest::READABLE | Interest::WRITABLE).unwrap();
                self.channel = Some(channel);
                self.session.complete(token, Outcome::Done).unwrap();
            }
            action => {
                let outcome = success(&action, &self.descriptors);
                if let Some(token) = action.token() {
                    self.session.complete(token, outcome).unwrap();
                }
            }
        }
    }

    fn answer_later(&mut self) {
        for action in std::mem::take(&mut self.later) {
            let outcome = match &action {
                Action::StopRing { index, .. } => {
                    let kick = self.rings.remove(index).unwrap().kick.unwrap();
                    let mut kicks = [0; 8];
                    let flags = rustix::fs::fcntl_getfl(&kick).unwrap() | rustix::fs::OFlags::NONBLOCK;
                    rustix::fs::fcntl_setfl(&kick, flags).unwrap();
                    let _ = rustix::io::read(&kick, &mut kicks);
                    Outcome::RingStopped { base: u64::from_ne_bytes(kicks) as u32 }
                }
                _ => Outcome::Done,
            };
            self.session.complete(action.token().unwrap(), outcome).unwrap();
        }
    }

    fn run(mut self, mut poll: Poll, waker: &Waker, commands: &mpsc::Receiver<Command>) -> Vec<String> {
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut self.connection, SOCKET, both).unwrap();
        let mut events = Events::with_capacity(8);
        loop {
            poll.poll(&mut events, None).unwrap();
            self.answer_later();
            for command in commands.try_iter() {
                let Command::ConfigChanged = command;
                self.session.replace_config(&[7; 60]);
                self.channel.as_mut().unwrap().config_changed().unwrap();
            }
            if self.channel.as_mut().is_some_and(|channel| channel.pump().is_err()) {
                self.channel = None;
            }
            loop {
                let progress = self.connection.pump(&mut self.session);
                let mut acted = false;
                while let Some(action) = self.session.next_action() {
                    acted = true;
                    self.take(action, poll.registry());
                }
                if progress.is_idle() && !acted {
                    break;
                }
            }
            if self.session.is_ended() {
                return self.told;
            }
            if !self.later.is_empty() {
                waker.wake().unwrap();
            }
        }
    }
}

/// A back-end on a thread of its own.
struct BackEnd {
    thread: JoinHandle<Vec<String>>,
    waker: Arc<Waker>,
    commands: mpsc::Sender<Command>,
}

impl BackEnd {
    fn start() -> (Self, Frontend) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).unwrap());
        let (commands, receiver) = mpsc::channel();
        let thread = std::thread::spawn({
            let waker = Arc::clone(&waker);
            move || {
                let owner = Owner {
                    session: Session::new(block_device()).unwrap(),
                    connection: Connection::from(OwnedFd::from(ours)),
                    channel: None,
                    rings: HashMap::new(),
                    descriptors: Descriptors::new("frontend"),
                    later: Vec::new(),
                    told: Vec::new(),
                };
                owner.run(poll, &waker, &receiver)
            }
        });
        (Self { thread, waker, commands }, Frontend::from_stream(theirs, 4))
    }

    fn command(&self, command: Command) {
        self.commands.send(command).unwrap();
        self.waker.wake().unwrap();
    }

    fn told(self) -> Vec<String> {
        self.thread.join().unwrap()
    }
}

/// A memory file whose first byte says at which MiB of the guest it is.
fn memory(mebibyte: u8) -> (VhostUserMemoryRegionInfo, File) {
    let fd = rustix::fs::memfd_create("guest", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let file = File::from(fd);
    file.set_len(0x2000).unwrap();
    file.write_all_at(&[mebibyte], 0x1000).unwrap();
    let guest = u64::from(mebibyte) << 20;
    let region = VhostUserMemoryRegionInfo {
        guest_phys_addr: guest,
        memory_size: 0x1000,
        userspace_addr: 0x7f00_0000_0000 + guest,
        mmap_offset: 0x1000,
        mmap_handle: file.as_raw_fd(),
    };
    (region, file)
}

fn negotiate(frontend: &mut Frontend) -> u64 {
    frontend.set_owner().unwrap();
    let offered = frontend.get_features().unwrap();
    assert_ne!(offered & features::VHOST_USER_PROTOCOL_FEATURES, 0);
    frontend.set_features(offered).unwrap();
    let protocol = frontend.get_protocol_features().unwrap();
    frontend.set_protocol_features(protocol).unwrap();
    assert!(protocol.contains(VhostUserProtocolFeatures::CONFIG | VhostUserProtocolFeatures::REPLY_ACK));
    frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
    assert_eq!(frontend.get_queue_num().unwrap(), 4);
    offered
}

struct Notifiers {
    kick: EventFd,
    call: EventFd,
}

fn start(frontend: &mut Frontend, ring: usize, base: u16) -> Notifiers {
    let notifiers = Notifiers { kick: EventFd::new(0).unwrap(), call: EventFd::new(0).unwrap() };
    let at = 0x7f00_0010_0000 + 0x100 * ring as u64;
    frontend.set_vring_num(ring, 8).unwrap();
    frontend
        .set_vring_addr(
            ring,
            &VringConfigData {
                queue_max_size: 8,
                queue_size: 8,
                flags: 0,
                desc_table_addr: at,
                used_ring_addr: at + 0x80,
                avail_ring_addr: at + 0xc0,
                log_addr: None,
            },
        )
        .unwrap();
    frontend.set_vring_base(ring, base).unwrap();
    frontend.set_vring_call(ring, &notifiers.call).unwrap();
    frontend.set_vring_kick(ring, &notifiers.kick).unwrap();
    frontend.set_vring_enable(ring, true).unwrap();
    notifiers
}

#[test]
fn a_disk_is_set_up_used_and_torn_down() {
    let (back_end, mut frontend) = BackEnd::start();
    let offered = negotiate(&mut frontend);
    assert_eq!(frontend.get_max_mem_slots().unwrap(), 509);
    let regions = [memory(1), memory(2)];
    for (region, _) in &regions {
        frontend.add_mem_region(region).unwrap();
    }
    let rings: Vec<_> = (0..2).map(|ring| start(&mut frontend, ring, 5)).collect();
    for (ring, notifiers) in rings.iter().enumerate() {
        assert_eq!(notifiers.call.read().unwrap(), 1);
        for _ in 0..=ring {
            notifiers.kick.write(1).unwrap();
        }
    }
    // The reply comes once the owner has looked at the ring for the last time.
    assert_eq!(frontend.get_vring_base(0).unwrap(), 1);
    assert_eq!(frontend.get_vring_base(1).unwrap(), 2);
    for (region, _) in &regions {
        frontend.remove_mem_region(region).unwrap();
    }
    assert!(frontend.remove_mem_region(&regions[0].0).is_err(), "it has been removed already");
    drop(frontend);

    let told = back_end.told();
    let features = offered & !features::VHOST_USER_PROTOCOL_FEATURES;
    assert!(
        told[2].starts_with(&format!("start 0: size 8 base 5 features {features:#x} desc 0x7f0000100000"))
    );
    assert_eq!(told[4..6], ["stop 0", "stop 1"]);
    assert_eq!(told.last().unwrap(), "ended: the front-end has disconnected");
    assert_eq!(told.len(), 9);
}

#[test]
fn a_whole_memory_table_brings_its_descriptors_in_order() {
    let (back_end, mut frontend) = BackEnd::start();
    negotiate(&mut frontend);
    let (regions, _files): (Vec<_>, Vec<_>) = (1..=8).map(memory).unzip();
    frontend.set_mem_table(&regions).unwrap();
    frontend.set_mem_table(&regions[3..5]).unwrap();
    drop(frontend);
    assert!(back_end.told().iter().take(2).all(|line| line.ends_with("replace true")));
}

#[test]
fn configuration_space_is_read_written_and_announced_when_it_changes() {
    struct Changes(usize);
    impl VhostUserFrontendReqHandlerMut for Changes {
        fn handle_config_change(&mut self) -> HandlerResult<u64> {
            self.0 += 1;
            Ok(0)
        }
    }

    let (back_end, mut frontend) = BackEnd::start();
    negotiate(&mut frontend);
    let flags = VhostUserConfigFlags::WRITABLE;
    let read = |frontend: &mut Frontend| frontend.get_config(0, 60, flags, &[0; 60]).unwrap().1;
    let first: Vec<u8> = (0..60).collect();
    assert_eq!(read(&mut frontend), first);
    assert_eq!(frontend.get_config(0, 256, flags, &[0; 256]).unwrap().1[60..], [0; 196]);
    frontend.set_config(32, flags, &[1]).unwrap();
    assert_eq!(read(&mut frontend)[32], 1);
    assert!(frontend.set_config(0, flags, &[1]).is_err(), "the capacity is not the driver's");

    let changes = Arc::new(Mutex::new(Changes(0)));
    let mut handler = FrontendReqHandler::new(Arc::clone(&changes)).unwrap();
    handler.set_reply_ack_flag(true);
    frontend.set_backend_request_fd(&handler.get_tx_raw_fd()).unwrap();
    for _ in 0..3 {
        back_end.command(Command::ConfigChanged);
        handler.handle_request().unwrap();
    }
    assert_eq!(changes.lock().unwrap().0, 3);
    assert_eq!(read(&mut frontend), [7; 60]);
    drop((frontend, handler));
    assert_eq!(back_end.told()[..2], ["write-config 32 [1]", "backend-channel reply_ack true"]);
}

#[test]
fn an_inflight_region_goes_to_the_front_end_and_comes_back() {
    let (back_end, mut frontend) = BackEnd::start();
    negotiate(&mut frontend);
    let asked = VhostUserInflight { mmap_size: 0, mmap_offset: 0, num_queues: 4, queue_size: 128 };
    let (region, file) = frontend.get_inflight_fd(&asked).unwrap();
    assert_eq!((region.mmap_size, region.mmap_offset), (0x2000, 0x1000));
    frontend.set_inflight_fd(&region, file.as_raw_fd()).unwrap();
    drop(frontend);
    assert_eq!(back_end.told()[..2], ["get-inflight 4x128", "set-inflight 4x128 size 0x2000"]);
}

#[test]
fn a_reset_device_starts_again() {
    let (back_end, mut frontend) = BackEnd::start();
    negotiate(&mut frontend);
    let (region, _file) = memory(1);
    frontend.add_mem_region(&region).unwrap();
    let _first = start(&mut frontend, 3, 0);
    frontend.reset_device().unwrap();
    let second = start(&mut frontend, 3, 9);
    assert_eq!(second.call.read().unwrap(), 1);
    drop(frontend);
    let told = back_end.told();
    assert!(told[1].starts_with("start 3: size 8 base 0") && told[4].starts_with("start 3: size 8 base 9"));
    assert_eq!(told[2..4], ["stop 3", "reset"]);
}

#[test]
fn what_is_not_offered_is_refused_and_the_connection_goes_on() {
    let (back_end, mut frontend) = BackEnd::start();
    negotiate(&mut frontend);
    assert!(frontend.set_log_fd(0).is_err());
    assert_eq!(frontend.get_queue_num().unwrap(), 4);
    drop(frontend);
    assert_eq!(back_end.told(), ["ended: the front-end has disconnected"]);
}
