//! A front-end or a guest that speaks nonsense hurts itself alone: its channel is quarantined or its connection closed, the reason is told,
//! and the channel beside it, another tenant's on the same device, goes on as if nothing had happened.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use vfiomux_tests::check::{self, Initial, Options};
use vfiomux_tests::daemon::Vfiomuxd;
use vfiomux_tests::frontend::{
    DATA_OFFSET, Descriptor, Driver, GUEST_BASE, NEXT, RING_ENTRIES, Request, STATUS_OK, TABLE, WRITE,
};

/// How long the daemon may take to notice.
const PATIENCE: Duration = Duration::from_secs(10);

struct Neighbours {
    daemon: Vfiomuxd,
    bystander: Options,
    directory: TempDir,
}

impl Neighbours {
    /// A device with two channels, of which the bystander's holds data already.
    fn new() -> Neighbours {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let daemon = Vfiomuxd::start(directory.path(), &["sim:nvme,size=256M"]);
        daemon.create_channel("rogue", "sim0", "mallory", 32, 1);
        let socket = daemon.create_channel("bystander", "sim0", "alice", 32, 1);
        let content = directory.path().join("content");
        let before =
            Options { initial: Initial::Zero, remember: Some(content.clone()), ..Options::new(socket) };
        check::run(&before).expect("the bystander's disk works");
        let bystander = Options { initial: Initial::Remembered(content), seed: 2, ..before };
        Neighbours { daemon, bystander, directory }
    }

    fn rogue(&self) -> Driver {
        let mut driver = Driver::connect(&self.daemon.endpoint("rogue"), 1).expect("a session");
        driver.start_ring(0).expect("ring 0 starts");
        assert_eq!(driver.request(0, Request::Flush, 0, &mut [], false), Some(STATUS_OK));
        driver
    }

    /// Lets the rogue do something after an honest beginning, and holds the daemon to what follows from it.
    #[track_caller]
    fn quarantined_after(&self, misdeed: impl FnOnce(&mut Driver)) {
        let mut driver = self.rogue();
        misdeed(&mut driver);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let shown = self.daemon.ctl_json(&["channel", "show", "rogue"]);
            if shown["oper"] == "quarantined" {
                assert!(shown["reasons"]["oper"].is_string(), "a quarantine has a reason: {shown}");
                break;
            }
            assert!(Instant::now() < deadline, "not quarantined: {shown}");
            std::thread::sleep(Duration::from_millis(10));
        }
        self.bystander_is_fine();
    }

    #[track_caller]
    fn bystander_is_fine(&self) {
        check::run(&self.bystander).unwrap_or_else(|error| panic!("the bystander: {error}"));
    }
}

/// A descriptor of the header, which is right.
fn header() -> Descriptor {
    Descriptor { address: GUEST_BASE + DATA_OFFSET as u64, length: 16, flags: NEXT, next: 1 }
}

#[test]
fn a_chain_that_loops() {
    Neighbours::new().quarantined_after(|driver| {
        driver.write_descriptor(0, 0, header());
        driver.write_descriptor(0, 1, Descriptor { next: 0, ..header() });
        driver.publish(0, 0);
    });
}

#[test]
fn a_buffer_outside_of_all_memory() {
    Neighbours::new().quarantined_after(|driver| {
        driver.write_descriptor(0, 0, header());
        let outside = GUEST_BASE + driver.memory().length() as u64 - 16;
        driver.write_descriptor(
            0,
            1,
            Descriptor { address: outside, length: 512, flags: WRITE | NEXT, next: 2 },
        );
        driver.write_descriptor(0, 2, Descriptor { length: 1, flags: WRITE, ..header() });
        driver.publish(0, 0);
    });
}

#[test]
fn a_buffer_whose_end_wraps_around() {
    Neighbours::new().quarantined_after(|driver| {
        driver.write_descriptor(0, 0, header());
        driver.write_descriptor(
            0,
            1,
            Descriptor { address: u64::MAX - 255, length: 512, flags: WRITE | NEXT, next: 2 },
        );
        driver.write_descriptor(0, 2, Descriptor { length: 1, flags: WRITE, ..header() });
        driver.publish(0, 0);
    });
}

#[test]
fn an_indirect_table_within_an_indirect_table() {
    Neighbours::new().quarantined_after(|driver| {
        let table = Descriptor { address: driver.indirect_table(0), length: 16, flags: TABLE, next: 0 };
        driver.write_indirect_descriptor(0, 0, table);
        driver.write_descriptor(0, 0, table);
        driver.publish(0, 0);
    });
}

#[test]
fn an_indirect_table_of_an_odd_length() {
    Neighbours::new().quarantined_after(|driver| {
        let address = driver.indirect_table(0);
        driver.write_descriptor(0, 0, Descriptor { address, length: 17, flags: TABLE, next: 0 });
        driver.publish(0, 0);
    });
}

#[test]
fn a_chain_that_begins_beyond_the_ring() {
    Neighbours::new().quarantined_after(|driver| driver.publish(0, RING_ENTRIES));
}

#[test]
fn more_chains_than_the_ring_has_entries() {
    Neighbours::new().quarantined_after(|driver| driver.set_available_index(0, 0x8000));
}

/// The one malformed request that the ring survives: there is no place to say so, but the buffers can be given back.
#[test]
fn a_chain_without_room_for_the_status_is_given_back_undone() {
    let neighbours = Neighbours::new();
    let mut driver = neighbours.rogue();
    driver.write_descriptor(0, 0, Descriptor { flags: 0, ..header() });
    driver.publish(0, 0);
    assert_eq!(driver.wait_for_used(0, PATIENCE), Some((0, 0)));
    assert_eq!(neighbours.daemon.ctl_json(&["channel", "show", "rogue"])["counters"]["error_ops"], 1);
    assert_eq!(driver.request(0, Request::Flush, 0, &mut [], false), Some(STATUS_OK));
    neighbours.bystander_is_fine();
}

#[test]
fn memory_that_is_cut_off_under_a_running_ring() {
    Neighbours::new().quarantined_after(|driver| {
        driver.memory().cut_off().expect("a file of our own");
        driver.kick(0);
    });
}

#[test]
fn a_quarantined_channel_is_destroyed_like_any_other() {
    let neighbours = Neighbours::new();
    neighbours.quarantined_after(|driver| driver.publish(0, RING_ENTRIES));
    neighbours.daemon.ctl(&["channel", "destroy", "rogue"]);
    neighbours.bystander_is_fine();
    let socket = neighbours.daemon.create_channel("heir", "sim0", "bob", 32, 1);
    let heir = Options { initial: Initial::Zero, identity: 3, ..Options::new(socket) };
    check::run(&heir).expect("what the quarantined channel wrote is gone");
    drop(neighbours.directory);
}

/// A message's header as vhost-user has it: request, flags (version 1), size; then bytes that need not be of that size.
fn message(request: u32, size: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [request, 1, size] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(body);
    bytes
}

#[test]
fn nonsense_on_the_socket_closes_that_connection_alone_and_the_next_is_served() {
    const GET_FEATURES: u32 = 1;
    const SET_MEM_TABLE: u32 = 5;
    const SET_VRING_ADDR: u32 = 9;
    let nonsense = [
        message(9999, 0, &[]),
        message(GET_FEATURES, u32::MAX, &[]),
        // Seven regions and not a single descriptor.
        message(SET_MEM_TABLE, 8 + 7 * 32, &[7; 8 + 7 * 32]),
        message(SET_VRING_ADDR, 40, &[0xff; 40]),
        vec![0xff; 4096],
    ];
    let neighbours = Neighbours::new();
    let endpoint = neighbours.daemon.endpoint("rogue");
    for bytes in nonsense {
        let mut stream = UnixStream::connect(&endpoint).expect("the endpoint listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket of ours");
        // The daemon may have seen enough before it has all.
        let _ = stream.write_all(&bytes);
        let mut answer = Vec::new();
        let closed = stream.read_to_end(&mut answer);
        let reset = closed.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset);
        assert!(closed.is_ok() || reset, "not closed after {:?}…: {closed:?}", &bytes[..12]);
    }
    // A connection that says nothing at all must not keep the next one out.
    let _silent = UnixStream::connect(&endpoint).expect("the endpoint listens");
    neighbours.rogue();
    neighbours.bystander_is_fine();
}
