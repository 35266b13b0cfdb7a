//! The back-end's side of vhost-user, judged by a front-end that others wrote: the crate `virtio-driver`, driven by
//! [`vfiomux_tests::check`].

use tempfile::TempDir;
use vfiomux_tests::backend::{Backend, QemuStorageDaemon};
use vfiomux_tests::check::{self, CheckError, Initial, Options, Segments};
use vfiomux_tests::lab::Lab;

/// A disk that QEMU's own daemon serves: the checker is held against it before it judges anything of ours.
fn reference_disk() -> Option<(TempDir, QemuStorageDaemon, Options)> {
    Lab::find_or_skip()?;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut backend = QemuStorageDaemon::new(directory.path());
    let socket = backend.create_disk("disk", 64, 2);
    Some((directory, backend, Options { rings: 2, ..Options::new(socket) }))
}

#[test]
fn the_checker_finds_nothing_wrong_with_qemu_s_storage_daemon() {
    let Some((directory, _backend, options)) = reference_disk() else { return };
    let remember = Some(directory.path().join("content"));
    let first = Options { initial: Initial::Zero, remember: remember.clone(), ..options.clone() };
    let outcome = check::run(&first).expect("a right back-end passes");
    assert_eq!(outcome.capacity_bytes, 64 << 20);
    assert!(outcome.reads > 0 && outcome.writes > 0 && outcome.discards > 0 && outcome.write_zeroes > 0);

    let second = Options {
        initial: remember.map(Initial::Remembered).expect("set above"),
        segments: Segments::Odd,
        seed: 2,
        ..options
    };
    check::run(&second).expect("what the first run left is there");
}

#[test]
fn the_checker_notices_that_somebody_else_wrote_to_its_disk() {
    let Some((directory, _backend, options)) = reference_disk() else { return };
    let content = directory.path().join("content");
    let mine = Options { remember: Some(content.clone()), ..options.clone() };
    check::run(&mine).expect("a right back-end passes");
    let somebody_else = Options { identity: 2, seed: 3, operations: 50, ..options.clone() };
    check::run(&somebody_else).expect("a right back-end passes");

    let outcome = check::run(&Options { initial: Initial::Remembered(content), ..options });
    assert!(matches!(outcome, Err(CheckError::Mismatch(_))), "{outcome:?}");
}

#[test]
fn the_checker_demands_zeros_of_a_new_disk() {
    let Some((_directory, _backend, options)) = reference_disk() else { return };
    check::run(&Options { operations: 50, ..options.clone() }).expect("a right back-end passes");
    let outcome = check::run(&Options { initial: Initial::Zero, ..options });
    assert!(matches!(outcome, Err(CheckError::Mismatch(_))), "{outcome:?}");
}
