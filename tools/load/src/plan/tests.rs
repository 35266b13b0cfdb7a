use clap::Parser as _;

use super::*;

const DISK: Disk = Disk { size_bytes: 1 << 30, block_bytes: 512, read_only: false, takes_flushes: true };

fn plan(words: &str) -> Result<Plan, LoadError> {
    let words = ["vfiomux-load"].into_iter().chain(words.split_whitespace());
    Plan::new(&Arguments::try_parse_from(words).unwrap())
}

fn regions(words: &str, disk: Disk) -> Result<Vec<Region>, LoadError> {
    let plan = plan(words)?;
    plan.regions(&vec![disk; plan.sockets.len()])
}

#[test]
fn a_socket_alone_is_enough() {
    let plan = plan("a.sock").unwrap();
    assert_eq!(plan.sockets, ["a.sock"]);
    assert_eq!((plan.block_bytes, plan.read_percent, plan.threads), (4096, 100, 1));
    assert_eq!((plan.ramp, plan.duration), (Duration::from_secs(1), Some(Duration::from_secs(10))));
    assert!(!plan.writes());
}

#[test]
fn a_number_of_requests_takes_the_place_of_a_time() {
    let plan = plan("a.sock --requests 5k").unwrap();
    assert_eq!((plan.ramp, plan.duration, plan.arguments.requests), (Duration::ZERO, None, Some(5000)));
}

#[test]
fn words_of_fio_are_understood() {
    let plan =
        plan("a --rw randrw --rwmixread 70 --bs 128K --iodepth 8 --runtime 2s --ramp-time 500ms").unwrap();
    assert_eq!((plan.block_bytes, plan.read_percent, plan.arguments.depth), (128 << 10, 70, 8));
    assert_eq!((plan.ramp, plan.duration), (Duration::from_millis(500), Some(Duration::from_secs(2))));
}

#[test]
fn guests_have_a_socket_each_by_pattern_or_by_list() {
    assert_eq!(plan("d{}.sock --guests 3").unwrap().sockets, ["d0.sock", "d1.sock", "d2.sock"]);
    assert_eq!(plan("a b c").unwrap().sockets, ["a", "b", "c"]);
    assert_eq!(plan("a b --guests 3").unwrap().sockets, ["a", "b", "a"]);
    assert!(matches!(plan("a b c --guests 2"), Err(LoadError::Guests { sockets: 3, guests: 2 })));
}

#[test]
fn guests_that_verify_one_disk_share_it_out() {
    let of = |words| -> Vec<(u64, u64)> {
        regions(words, DISK).unwrap().iter().map(|region| (region.offset_bytes, region.blocks)).collect()
    };
    assert_eq!(of("a --guests 2 --size 1M"), [(0, 256), (0, 256)]);
    assert_eq!(of("a --guests 2 --size 1M --verify"), [(0, 128), (512 << 10, 128)]);
    assert_eq!(of("a b --size 1M --verify"), [(0, 256), (0, 256)]);
}

#[test]
fn the_region_ends_with_the_disk_and_what_is_verified_is_bounded() {
    assert_eq!(regions("a", DISK).unwrap()[0].size_bytes(), 1 << 30);
    assert_eq!(regions("a --offset 1023M", DISK).unwrap()[0].size_bytes(), 1 << 20);
    assert_eq!(regions("a --verify", DISK).unwrap()[0].size_bytes(), 256 << 20);
}

#[test]
fn what_a_disk_cannot_do_is_refused_with_its_reason() {
    let large = Disk { block_bytes: 4096, ..DISK };
    assert!(matches!(regions("a --bs 512", large), Err(LoadError::Misaligned { option: "block-size", .. })));
    assert!(matches!(regions("a --offset 512", large), Err(LoadError::Misaligned { option: "offset", .. })));
    assert!(matches!(regions("a --offset 1G", DISK), Err(LoadError::Region { .. })));
    let fixed = Disk { read_only: true, takes_flushes: false, ..DISK };
    assert!(matches!(regions("a --verify", fixed), Err(LoadError::ReadOnly(_))));
    assert!(matches!(regions("a --pattern randwrite", fixed), Err(LoadError::ReadOnly(_))));
    assert!(matches!(regions("a --flush-every 5", fixed), Err(LoadError::NoFlush(_))));
    assert!(regions("a", fixed).is_ok());
    assert!(matches!(plan("a --bs 1000"), Err(LoadError::BlockSize(1000))));
    assert!(matches!(plan("a b --threads 2 --cpu 1"), Err(LoadError::Cpus { cpus: 1, threads: 2 })));
}

#[test]
fn what_is_no_option_is_refused() {
    for words in [
        "",
        "a --rate 0",
        "a --rate x",
        "a --depth 0",
        "a --size 1X",
        "a --cpu 3-1",
        "a --arrivals poisson",
        "a --calibrate",
    ] {
        let all = ["vfiomux-load"].into_iter().chain(words.split_whitespace());
        assert!(Arguments::try_parse_from(all).is_err(), "{words}");
    }
}
