//! The shapes that a request can have: where its parts lie, and into which buffers its data is cut.

use vfiomux_guest::driver::Buffer;
use vfiomux_spec::virtio::blk::RequestHeader;
use zerocopy::IntoBytes;

use super::front::{Geometry, Request};
use super::random::Random;
use super::vm::{PAGE_BYTES, Vm};

/// Most data in a request.
const DATA_BYTES_MAX: u64 = 96 << 10;
/// What the status is before the device writes it: no status that there is.
const UNWRITTEN: u8 = 0xff;

/// A request on its way into the ring.
pub(super) struct Draft {
    pub(super) place_addr: u64,
    header: RequestHeader,
}

impl Draft {
    pub(super) fn new(place_addr: u64) -> Self {
        Self { place_addr, header: RequestHeader::default() }
    }

    pub(super) fn header(&mut self, request_type: u32, sector: u64) {
        self.header =
            RequestHeader { request_type: request_type.into(), reserved: 0.into(), sector: sector.into() };
    }

    /// Lays header and status, and gives the whole chain. Any layout is allowed (virtio 1.3 2.7.4): the header may be cut, or share
    /// its buffer with the data.
    pub(super) fn chain(
        &self,
        vm: &Vm,
        request: &Request,
        header_in_run: bool,
        random: &mut Random,
    ) -> Vec<Buffer> {
        let mut data = request.buffers.clone();
        let mut chain = Vec::new();
        let readable = |guest_addr, len| Buffer { guest_addr, len, writable: false };
        match data.first_mut() {
            Some(first) if header_in_run => {
                first.guest_addr -= 16;
                first.len += 16;
                vm.write(first.guest_addr, self.header.as_bytes());
            }
            _ => {
                vm.write(self.place_addr, self.header.as_bytes());
                if random.chance(10) {
                    let cut = random.within(1, 15) as u32;
                    chain.push(readable(self.place_addr, cut));
                    chain.push(readable(self.place_addr + u64::from(cut), 16 - cut));
                } else {
                    chain.push(readable(self.place_addr, 16));
                }
            }
        }
        chain.append(&mut data);
        vm.write(request.status_addr, &[UNWRITTEN]);
        match chain.last_mut() {
            Some(last) if last.writable && last.guest_addr + u64::from(last.len) == request.status_addr => {
                last.len += 1;
            }
            _ => chain.push(Buffer { guest_addr: request.status_addr, len: 1, writable: true }),
        }
        chain
    }
}

/// A run of blocks inside the disk: short ones more often, and often where others are.
pub(super) fn blocks(geometry: &Geometry, random: &mut Random) -> (usize, usize) {
    let within = geometry.blocks as u64;
    let hot = if random.chance(40) { within.min(24) } else { within };
    let first = random.below(hot);
    let most = (DATA_BYTES_MAX / geometry.block_bytes).min(within - first);
    let most = if random.chance(70) { most.min(8) } else { most };
    (first as usize, random.within(1, most.max(1)) as usize)
}

/// Cuts `bytes` bytes into buffers, at most `pieces_max` of them, from `addr` on, within two pages more than they need.
pub(super) fn cut(
    addr: u64,
    bytes: u64,
    writable: bool,
    pieces_max: usize,
    random: &mut Random,
) -> Vec<Buffer> {
    // In one piece, in pages, in sectors, at any byte.
    let (grain, slack_max) = random.pick(&[(bytes, 0), (PAGE_BYTES, 0), (512, 4), (1, 4), (1, 16)]);
    let pieces_max = (pieces_max as u64).min(random.within(1, 12)).max(1);
    let mut slack = if grain == PAGE_BYTES { 0 } else { PAGE_BYTES };
    let mut at = addr;
    if grain != PAGE_BYTES && random.chance(50) {
        let lead = random.below(PAGE_BYTES) / random.pick(&[1, 4, 512]) * random.pick(&[1, 4, 512]);
        let lead = lead.min(slack);
        at += lead;
        slack -= lead;
    }
    let (mut left, mut buffers) = (bytes, Vec::new());
    while left > 0 {
        let last = buffers.len() as u64 + 1 >= pieces_max;
        let piece = if last { left } else { random.within(1, left).next_multiple_of(grain).min(left) };
        buffers.push(Buffer { guest_addr: at, len: piece as u32, writable });
        left -= piece;
        let gap = random.below(slack_max + 1).min(slack);
        slack -= gap;
        at += piece + gap;
    }
    buffers
}
