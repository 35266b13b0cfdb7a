//! Whole-program tests of vfiomux, and the harness that they stand on.
//!
//! Nothing here is linked into the daemon, and nothing here links the daemon: the programs under test are run as a user would run
//! them, and are judged by what an independent front-end, a real VMM or a real kernel sees of them. Only the seeded world takes the
//! data path's crates themselves, to run them without a thread or a clock; and whatever a daemon has recorded when its test ends
//! is held against the manager's monitor, which knows the table that the daemon runs by.
//!
//! ```text
//!   vmm.rs                     QEMU ── vhost-user socket ── vfiomuxd            vm, qmp, daemon
//!   lab.rs, function.rs        QEMU [ Linux, vfio-pci, vfiomuxd ── socket ── vfiomux-check ]
//!                                └─ emulated IOMMU and NVMe controllers          vm, qmp, vfio
//!   conformance.rs, quiet.rs   verifying load ── socket ── vfiomuxd             check, daemon
//!   frontend.rs, hostile.rs    hand-written rings ── socket ── vfiomuxd         frontend, daemon
//!   load.rs                    vfiomux-load ── socket ── vfiomuxd               backend, daemon
//!   storm                      racing operators ── socket ── vfiomuxd, killed   daemon
//!   refusals.rs, roles.rs      operator, other users ── vfiomuxctl ── vfiomuxd  daemon
//!   trace.rs                   a daemon's record ── a line altered ── monitor   daemon
//!   undisturbed.rs             verifying load ── socket ── vfiomuxd ── plugin   check, daemon
//!   world.rs                   guests ── sidecore ── driver ── device           world
//! ```
//!
//! - [`lab`] finds what `tests/lab/setup.sh` made ready (QEMU, a Debian kernel, busybox), or skips the test so that nobody can
//!   overlook it.
//! - [`initramfs`] packs a guest: busybox, kernel modules in the order of their dependencies, programs with their shared libraries,
//!   and a script from `tests/lab/guest`, which is where what a guest does is written down.
//! - [`vm`] runs it and hears what it reports; [`qmp`] is the hand on the machine while it runs: devices plugged, pulled, broken.
//! - [`vfio`] puts together the lab's machines: an emulated IOMMU with NVMe controllers behind it.
//! - [`daemon`] runs what is under test on the host; [`backend`] is what it has in common with the stand-in that the harness itself is
//!   checked against.
//! - [`trace`] holds what a daemon has recorded against the monitor; `vfiomux-trace` is the same for the inside of a guest.
//! - [`check`] drives a vhost-user-blk socket through the crate `virtio-driver`, which shares no code with ours, and holds every
//!   byte that comes back against an oracle. `vfiomux-check` is the same as a program, for the inside of a guest.
//! - [`frontend`] is a second front-end, on the crate `vhost`, whose rings are written by hand, so that they can be wrong.
//! - [`world`] is guests, back-end and simulated device in one thread, where all that happens follows from a seed.
//!
//! A harness fails by panicking with all that it knows: it is only ever run by a test.

pub mod backend;
pub mod check;
mod cpio;
pub mod daemon;
pub mod frontend;
pub mod initramfs;
pub mod lab;
pub mod memory;
mod modules;
pub mod qmp;
pub mod scenario;
pub mod trace;
pub mod vfio;
pub mod vm;
pub mod world;
