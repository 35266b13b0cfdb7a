//! What must be true of a request that came back.

use vfiomux_spec::virtio::blk::{STATUS_IOERR, STATUS_OK, STATUS_UNSUPP};

use super::front::{FILLER, Geometry, Kind, Request};
use super::oracle::Oracle;
use super::vm::{Run, Vm};

/// Holds a returned request against what must be. Gives whether it failed.
pub(super) fn check(
    request: &Request,
    len: u32,
    vm: &Vm,
    oracle: &mut Oracle,
    geometry: &Geometry,
    disturbed: bool,
) -> Result<bool, String> {
    let mut status = [0];
    vm.read(request.status_addr, &mut status);
    let [status] = status;
    let done = status == STATUS_OK;
    for writing in &request.writings {
        // What a discarded block reads as is up to the device.
        oracle.end_write(writing, done && request.kind != Kind::Discard);
    }
    let kind = request.kind;
    let expected = match kind {
        Kind::Misfit => status == STATUS_IOERR || done && request.may_fail,
        Kind::Unknown => status == STATUS_UNSUPP || status == STATUS_IOERR && disturbed,
        _ => done || status == STATUS_IOERR && (disturbed || request.may_fail),
    };
    if !expected {
        return Err(format!("a request, {kind:?}, came back with status {status}"));
    }
    let data_bytes: u32 = request.buffers.iter().map(|buffer| buffer.len).sum();
    match kind {
        Kind::Read if done && len != data_bytes + 1 => {
            return Err(format!("a read of {data_bytes} bytes says that {len} were written"));
        }
        Kind::GetId if done && len != 21 => return Err(format!("an identity of {len} bytes")),
        _ => {}
    }
    if kind == Kind::Read {
        let mut found = Vec::with_capacity(data_bytes as usize);
        for buffer in &request.buffers {
            let mut part = vec![0; buffer.len as usize];
            vm.read(buffer.guest_addr, &mut part);
            found.extend_from_slice(&part);
        }
        if let Some(name) = request.reading {
            oracle.end_read(name, done.then_some(&found), geometry.block_bytes as usize)?;
        }
    }
    if matches!(kind, Kind::Read | Kind::Write)
        && let Some(run) = request.run
    {
        check_surroundings(request, run, vm)?;
    }
    Ok(!done)
}

/// C1, within the guest's own memory: nothing was written beside the buffers.
fn check_surroundings(request: &Request, run: Run, vm: &Vm) -> Result<(), String> {
    let mut bytes = vec![0; run.bytes() as usize];
    vm.read(run.addr(), &mut bytes);
    let first = request.buffers.first().map_or(run.addr(), |buffer| buffer.guest_addr);
    for buffer in &request.buffers {
        let at = (buffer.guest_addr - run.addr()) as usize;
        bytes[at..at + buffer.len as usize].fill(FILLER);
    }
    if (run.addr()..run.addr() + run.bytes()).contains(&request.status_addr) {
        bytes[(request.status_addr - run.addr()) as usize] = FILLER;
    }
    // A header that shares the data's buffer lies right before it.
    let header = (first - run.addr()) as usize;
    let header = if request.kind == Kind::Write { header.saturating_sub(16)..header } else { 0..0 };
    match bytes.iter().enumerate().position(|(at, &byte)| byte != FILLER && !header.contains(&at)) {
        Some(at) => {
            Err(format!("C1: {:?} wrote beside its buffers, at {:#x}", request.kind, run.addr() + at as u64))
        }
        None => Ok(()),
    }
}
