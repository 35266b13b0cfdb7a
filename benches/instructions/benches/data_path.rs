//! The data path's benches: which world, how loaded. `cargo xtask instructions` runs them.
#![expect(missing_docs, reason = "gungraun's macros make items without any")]

use gungraun::prelude::*;
use gungraun::{Callgrind, EntryPoint};
use vfiomux_block::NullQueue;
use vfiomux_instructions::{
    Admission, Breath, Extents, Latencies, Layout, Load, Messages, Promise, QueueWorld, Regions, RingKind,
    RingWorld, Turns, null_breath, nvme_breath, ram_breath,
};
use vfiomux_spec::virtio::blk::RequestType::{In, Out};

#[library_benchmark]
#[bench::direct(RingWorld::new(RingKind::Direct, 0, 32))]
#[bench::indirect(RingWorld::new(RingKind::Indirect, 0, 32))]
#[bench::indirect_one_at_a_time(RingWorld::new(RingKind::Indirect, 0, 1))]
#[bench::indirect_among_200(RingWorld::new(RingKind::Indirect, 200, 32))]
fn chain(mut world: RingWorld) {
    world.run();
}

library_benchmark_group!(name = ring, benchmarks = [chain]);

#[library_benchmark]
#[bench::hint_right(Regions::new(8))]
fn translate(world: Regions) {
    world.hit();
}

#[library_benchmark]
#[bench::hint_wrong_8_regions(Regions::new(8))]
fn translate_far(world: Regions) {
    world.miss();
}

#[library_benchmark]
#[bench::one(Extents::new(1))]
#[bench::of_16(Extents::new(16))]
fn extent(world: Extents) {
    world.look_up();
}

#[library_benchmark]
#[bench::any(Latencies::default())]
fn histogram(world: Latencies) {
    world.record();
}

library_benchmark_group!(name = table, benchmarks = [translate, translate_far, extent, histogram]);

#[library_benchmark]
#[bench::get_features(Messages::get_features())]
fn vhost_user(mut world: Messages) {
    world.run();
}

#[library_benchmark]
#[bench::unlimited(Admission::unlimited())]
#[bench::two_limits(Admission::limited())]
fn admit(mut world: Admission) {
    world.run();
}

#[library_benchmark]
#[bench::shares_of_1(Turns::new(1, false))]
#[bench::shares_of_200(Turns::new(200, false))]
#[bench::reservations_of_200(Turns::new(200, true))]
fn turn(mut world: Turns) {
    world.run();
}

library_benchmark_group!(name = qos, benchmarks = [admit, turn]);

library_benchmark_group!(name = codec, benchmarks = [vhost_user]);

#[library_benchmark]
#[bench::page(QueueWorld::new(Layout::Page, 32))]
#[bench::page_one_at_a_time(QueueWorld::new(Layout::Page, 1))]
#[bench::unaligned(QueueWorld::new(Layout::Unaligned, 32))]
#[bench::pages_32(QueueWorld::new(Layout::Pages32, 32))]
#[bench::scattered(QueueWorld::new(Layout::Scattered, 32))]
fn submit(mut world: QueueWorld) {
    world.submit();
}

#[library_benchmark]
#[bench::batch_32(QueueWorld::new(Layout::Page, 32))]
#[bench::one_at_a_time(QueueWorld::new(Layout::Page, 1))]
fn poll(mut world: QueueWorld) {
    world.poll();
}

#[library_benchmark]
#[bench::nothing(QueueWorld::new(Layout::Page, 1))]
fn poll_idle(mut world: QueueWorld) {
    world.poll_idle();
}

library_benchmark_group!(name = nvme, benchmarks = [submit, poll, poll_idle]);

const ONE: Load = Load { channels: 1, busy: 1, depth: 1, kind: In, promise: Promise::Nothing };
const ONE_OF_200: Load = Load { channels: 200, ..ONE };

#[library_benchmark]
#[bench::read_depth_1(null_breath(ONE))]
#[bench::read_depth_32(null_breath(Load { depth: 32, ..ONE }))]
#[bench::read_depth_128(null_breath(Load { depth: 128, ..ONE }))]
#[bench::write_depth_32(null_breath(Load { depth: 32, kind: Out, ..ONE }))]
#[bench::one_of_200_busy(null_breath(Load { channels: 200, ..ONE }))]
#[bench::all_of_200_busy(null_breath(Load { channels: 200, busy: 200, ..ONE }))]
fn null(mut world: Breath<NullQueue>) {
    world.run();
}

#[library_benchmark]
#[bench::one_channel(null_breath(ONE))]
#[bench::channels_200(null_breath(Load { channels: 200, ..ONE }))]
fn idle(mut world: Breath<NullQueue>) {
    world.run_idle();
}

#[library_benchmark]
#[bench::read_depth_1(ram_breath(ONE))]
#[bench::read_depth_32(ram_breath(Load { depth: 32, ..ONE }))]
#[bench::write_depth_32(ram_breath(Load { depth: 32, kind: Out, ..ONE }))]
fn ram(mut world: Breath<vfiomux_block::RamQueue>) {
    world.run();
}

#[library_benchmark]
#[bench::read_depth_1(nvme_breath(ONE))]
#[bench::read_depth_32(nvme_breath(Load { depth: 32, ..ONE }))]
#[bench::read_depth_128(nvme_breath(Load { depth: 128, ..ONE }))]
#[bench::write_depth_32(nvme_breath(Load { depth: 32, kind: Out, ..ONE }))]
#[bench::all_of_32_busy(nvme_breath(Load { channels: 32, busy: 32, ..ONE }))]
fn nvme_sim(mut world: Breath<vfiomux_nvme::Queue>) {
    world.run();
}

#[library_benchmark]
#[bench::share_depth_1(null_breath(Load { promise: Promise::Share, ..ONE }))]
#[bench::share_depth_32(null_breath(Load { promise: Promise::Share, depth: 32, ..ONE }))]
#[bench::limits_depth_1(null_breath(Load { promise: Promise::Limits, ..ONE }))]
#[bench::limits_depth_32(null_breath(Load { promise: Promise::Limits, depth: 32, ..ONE }))]
#[bench::limits_all_of_200_busy(null_breath(Load { promise: Promise::Limits, busy: 200, ..ONE_OF_200 }))]
#[bench::tenant_limits_depth_1(null_breath(Load { promise: Promise::TenantLimits, ..ONE }))]
#[bench::tenant_limits_all_of_200_busy(
    null_breath(Load { promise: Promise::TenantLimits, busy: 200, ..ONE_OF_200 })
)]
#[bench::tenant_limits_depth_32(null_breath(Load { promise: Promise::TenantLimits, depth: 32, ..ONE }))]
#[bench::reservation_depth_32(null_breath(Load { promise: Promise::Reservation, depth: 32, ..ONE }))]
#[bench::limits_one_of_200_busy(null_breath(Load { promise: Promise::Limits, ..ONE_OF_200 }))]
#[bench::reservation_one_of_200_busy(null_breath(Load { promise: Promise::Reservation, ..ONE_OF_200 }))]
fn promised(mut world: Breath<NullQueue>) {
    world.run();
}

#[library_benchmark]
#[bench::share_depth_1(nvme_breath(Load { promise: Promise::Share, ..ONE }))]
#[bench::share_depth_32(nvme_breath(Load { promise: Promise::Share, depth: 32, ..ONE }))]
#[bench::limits_depth_1(nvme_breath(Load { promise: Promise::Limits, ..ONE }))]
#[bench::limits_depth_32(nvme_breath(Load { promise: Promise::Limits, depth: 32, ..ONE }))]
#[bench::tenant_limits_depth_1(nvme_breath(Load { promise: Promise::TenantLimits, ..ONE }))]
#[bench::tenant_limits_depth_32(nvme_breath(Load { promise: Promise::TenantLimits, depth: 32, ..ONE }))]
#[bench::reservation_depth_1(nvme_breath(Load { promise: Promise::Reservation, ..ONE }))]
#[bench::reservation_depth_32(nvme_breath(Load { promise: Promise::Reservation, depth: 32, ..ONE }))]
fn promised_nvme_sim(mut world: Breath<vfiomux_nvme::Queue>) {
    world.run();
}

#[library_benchmark]
#[bench::one_channel(null_breath(Load { promise: Promise::Reservation, ..ONE }))]
#[bench::channels_200(null_breath(Load { promise: Promise::Reservation, ..ONE_OF_200 }))]
fn promised_idle(mut world: Breath<NullQueue>) {
    world.run_idle();
}

library_benchmark_group!(
    name = breath,
    benchmarks = [null, idle, ram, nvme_sim, promised, promised_nvme_sim, promised_idle]
);

/// The C library's copies and fills as a processor has them that knows SSE2 and nothing newer.
const ANY_PROCESSOR: &str =
    "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX2,-AVX_Fast_Unaligned_Load,-ERMS,Fast_Unaligned_Copy";

main!(
    config = LibraryBenchmarkConfig::default().env("GLIBC_TUNABLES", ANY_PROCESSOR).tool(
        Callgrind::default()
            .entry_point(EntryPoint::Custom("*vfiomux_instructions::counted*".into()))
            .args(["--cache-sim=no"])
    ),
    library_benchmark_groups = [ring, table, codec, qos, nvme, breath]
);
