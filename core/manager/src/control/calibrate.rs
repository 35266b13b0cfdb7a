//! `device.calibrate`: measuring what a device does.
//!
//! ```text
//!   free blocks ─► label: unscrubbed ─► large writes ─► small writes ─► large, small reads, one at a time ─► scrub ─► free
//!                                          └── through a sidecore, as channels' commands go ──┘
//! ```
//!
//! Nobody's data is touched: what is written are blocks that no channel has, and they are written down as unscrubbed before, so
//! that whoever gets them next finds zeroes, whenever the daemon ends (C3). What is read is what was written just before: blocks that
//! were never written read faster than a device can read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use vfiomux_block::{Limits, Operation};
use vfiomux_rpc::{Change, ErrorCode, EventKind, ObjectKind, Outcome, RpcError, Ticket, call};
use vfiomux_sidecore::{Measured, Order, Pace, Probe};

use super::Control;
use super::job::{Leg, cancelled};
use super::warden::{LANE_DEPTH, Warden};
use crate::calibration::{Rate, Rates, SMALL_BYTES, calibration, cost_model};
use crate::event::{event, time_unix_ns};
use crate::extent::Extent;
use crate::journal::{Calibrated, Record};
use crate::lifecycle::Oper;

/// Bytes of a large request, where the device takes so much.
const LARGE_BYTES: u32 = 128 << 10;
/// Free blocks that are measured on, at most: more than what a controller's memory holds back would take longer to write.
const SPAN_BYTES_MAX: u64 = 256 << 20;
/// With less, commands would wait for each other's blocks.
const SPAN_BYTES_MIN: u64 = 1 << 20;
/// How long a measurement takes, unless somebody says otherwise.
const DURATION_MS: u32 = 1000;
/// The longest that one may.
const DURATION_MS_MAX: u32 = 60_000;
/// Commands at the device. Its lane has room for a few more: label and scrub commands go there as well.
const DEPTH: u16 = LANE_DEPTH - 8;

/// The operation of a device that is being measured.
const CALIBRATING: &str = "being calibrated";
/// How far a calibration is when all is measured; the rest is scrubbing.
const MEASURED_PERMILLE: u16 = 950;

/// Where and how a device is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ground {
    namespace: u32,
    limits: Limits,
    extent: Extent,
    duration_ns: u64,
}

/// A calibration that may begin.
struct Wish {
    /// Of this device.
    name: String,
    /// The namespace to measure on, and how many blocks of it.
    namespace: u32,
    blocks: u64,
    duration_ns: u64,
}

/// Measurements under way.
struct Course {
    ground: Ground,
    rates: Vec<Rate>,
    job: Option<u64>,
    /// Somebody wants it to end early.
    cancel: Arc<AtomicBool>,
}

/// One of the measurements.
#[derive(Debug, Clone, Copy)]
struct Measurement {
    operation: Operation,
    large: bool,
    depth: u16,
}

/// In this order: large writes fill the blocks that the others are about.
const MEASUREMENTS: [Measurement; 5] = [
    Measurement { operation: Operation::Write, large: true, depth: DEPTH },
    Measurement { operation: Operation::Write, large: false, depth: DEPTH },
    Measurement { operation: Operation::Read, large: true, depth: DEPTH },
    Measurement { operation: Operation::Read, large: false, depth: DEPTH },
    Measurement { operation: Operation::Read, large: false, depth: 1 },
];

impl Control {
    /// `device.calibrate`.
    pub(crate) fn device_calibrate(
        &mut self,
        ticket: Ticket,
        change: &Change,
        wanted: &call::DeviceCalibrate,
    ) {
        let wish = match self.calibrate_checked(change, wanted) {
            Ok(Some(wish)) => wish,
            Ok(None) => {
                let info = self.device_show(&wanted.device);
                return self.rpc.reply(ticket, info.map(Outcome::from));
            }
            Err(error) => return self.rpc.reply(ticket, Err(error)),
        };
        let Wish { name, namespace, blocks, duration_ns } = wish;
        let (limits, extents) = match self.take_ground(&name, namespace, blocks) {
            Ok(taken) => taken,
            Err(why) => return self.rpc.reply(ticket, Err(no_room(&name, &why))),
        };
        // The allocator was asked for no more than its longest run: there is one.
        let extent = extents.iter().copied().max_by_key(|extent| extent.blocks);
        let extent = extent.unwrap_or(Extent { start: 0, blocks: 0 });
        self.set_device_operation(&name, Some(CALIBRATING));
        let ground = Ground { namespace, limits, extent, duration_ns };
        let job = ticket.job();
        let course = Course { ground, rates: Vec::new(), job, cancel: self.job_cancel_flag(job) };
        let dirty = extents.clone();
        let owned = name.clone();
        self.relabel(
            &name,
            namespace,
            move |label| label.keep_back(&dirty),
            move |control, written| match written {
                Ok(()) => control.measure(&owned.clone(), course, move |control, measured| {
                    control.calibrated(ticket, &owned, namespace, extents, measured);
                }),
                Err(why) => {
                    control.give_back(&owned, namespace, &extents);
                    control.end_calibrating(&owned);
                    control.rpc.reply(ticket, Err(fault(&owned, why)));
                }
            },
        );
    }

    /// Takes free blocks to measure on.
    fn take_ground(
        &mut self,
        name: &str,
        namespace: u32,
        blocks: u64,
    ) -> Result<(Limits, Vec<Extent>), String> {
        let device = self.devices.get_mut(name).ok_or("it is gone")?;
        let seat = device.namespaces.get_mut(&namespace).ok_or("its namespace is gone")?;
        let carving = seat.carving.as_mut().map_err(|why| why.clone())?;
        let extents = carving.pool.take(blocks).map_err(|error| error.to_string())?;
        Ok((seat.limits, extents))
    }

    /// A device that has begun to leave meanwhile goes on with that.
    fn end_calibrating(&mut self, name: &str) {
        if self.devices.get(name).is_some_and(|device| device.operation == Some(CALIBRATING)) {
            self.set_device_operation(name, None);
        }
    }

    /// What is to be done, if nothing stands in its way; none for a dry run.
    fn calibrate_checked(
        &self,
        change: &Change,
        wanted: &call::DeviceCalibrate,
    ) -> Result<Option<Wish>, RpcError> {
        let name = self.device_idle(&wanted.device, change.expected_generation)?;
        let device = self.device_named(&name)?;
        device.check_ready()?;
        let duration_ms = wanted.duration_ms.unwrap_or(DURATION_MS);
        if !(1..=DURATION_MS_MAX).contains(&duration_ms) {
            return Err(RpcError::invalid_argument(
                "duration_ms",
                format!("a measurement takes 1 to {DURATION_MS_MAX} ms"),
            ));
        }
        let active: Vec<&str> = self
            .channels
            .values()
            .filter(|channel| channel.device == name && channel.setting.oper == Oper::Active)
            .map(|channel| channel.setting.name.as_str())
            .collect();
        if let Some(first) = active.first().filter(|_| !wanted.force) {
            return Err(RpcError::new(
                ErrorCode::Busy,
                format!("{} channels are at work on device {name}, such as {first}: what it does for them would not be measured", active.len()),
            )
            .about(format!("device {name}"))
            .next("suspend or detach them first, or insist with --force and expect too small a figure"));
        }
        let carved = device.namespaces.iter().filter_map(|(&id, seat)| {
            let longest = seat.carving.as_ref().ok()?.pool.longest_free_blocks();
            Some((id, longest, u64::from(seat.limits.block_bytes)))
        });
        let Some((namespace, longest, block)) = carved.max_by_key(|(_, longest, block)| longest * block)
        else {
            return Err(no_room(&name, "no namespace of it can be carved"));
        };
        if longest * block < SPAN_BYTES_MIN {
            return Err(no_room(&name, &format!("the longest free run has {} bytes", longest * block)));
        }
        let blocks = longest.min(SPAN_BYTES_MAX / block);
        let duration_ns = u64::from(duration_ms) * 1_000_000;
        Ok((!change.dry_run).then_some(Wish { name, namespace, blocks, duration_ns }))
    }

    /// Takes one measurement after the other, each a job of the device's thread, so that others have theirs in between.
    fn measure(
        &mut self,
        name: &str,
        mut course: Course,
        next: impl FnOnce(&mut Control, Result<Vec<Rate>, RpcError>) + Send + 'static,
    ) {
        let Course { ground, ref rates, job, ref cancel } = course;
        let done = rates.len();
        self.job_progress(
            Leg::part(job, 0, MEASURED_PERMILLE),
            done as u64,
            MEASUREMENTS.len() as u64,
            "measuring",
        );
        let Some(&measurement) = MEASUREMENTS.get(done) else { return next(self, Ok(course.rates)) };
        if cancel.load(Ordering::Relaxed) {
            return next(self, Err(cancelled("the calibration")));
        }
        let Some(device) = self.devices.get(name) else {
            return next(self, Err(fault(name, "it is not here".to_owned())));
        };
        let owned = name.to_owned();
        device.worker.run(
            move |warden| warden.measure(&ground, measurement),
            move |control, rate| match rate {
                Ok(rate) => {
                    course.rates.push(rate);
                    control.measure(&owned, course, next);
                }
                Err(why) => next(control, Err(fault(&owned, why))),
            },
        );
    }

    /// All was measured, or something ended it: the blocks are scrubbed either way, and then given back.
    fn calibrated(
        &mut self,
        ticket: Ticket,
        name: &str,
        namespace: u32,
        extents: Vec<Extent>,
        measured: Result<Vec<Rate>, RpcError>,
    ) {
        self.job_is_final(ticket.job());
        let leg = Leg::part(ticket.job(), MEASURED_PERMILLE, 1000);
        let owned = name.to_owned();
        self.scrub(name, namespace, extents, leg, move |control, scrubbed| {
            control.end_calibrating(&owned);
            if let Err(why) = scrubbed {
                let mut told = event(EventKind::Fault, ObjectKind::Device, owned.clone());
                told.reason = Some(format!("the blocks that it was measured on are kept back: {why}"));
                control.tell(told);
            }
            let answer = measured
                .and_then(|rates| control.keep_calibration(&owned, &rates))
                .and_then(|()| control.device_show(&owned));
            control.rpc.reply(ticket, answer.map(Outcome::from));
        });
    }

    /// Writes down what was measured; it is what requests cost from now on.
    fn keep_calibration(&mut self, name: &str, rates: &[Rate]) -> Result<(), RpcError> {
        let &[large_writes, small_writes, large_reads, small_reads, alone] = rates else {
            return Err(fault(name, "a measurement is missing".to_owned()));
        };
        let Some(device) = self.devices.get(name) else {
            return Err(fault(name, "it has gone meanwhile".to_owned()));
        };
        let calibration = calibration(
            Rates { small: small_reads, large: large_reads },
            Rates { small: small_writes, large: large_writes },
            1_000_000_000 / alone.per_second.max(1),
            time_unix_ns(),
        );
        let calibrated = Calibrated {
            device: name.to_owned(),
            model: device.info.model.clone(),
            serial: device.info.serial.clone(),
            calibration,
        };
        self.journal
            .append(&Record::Calibrated(Box::new(calibrated)))
            .map_err(|error| super::channel::internal(&error))?;
        let mut generation = 0;
        if let Some(device) = self.devices.get_mut(name) {
            device.generation += 1;
            generation = device.generation;
        }
        let mut told = event(EventKind::Setting, ObjectKind::Device, name);
        told.generation = Some(generation);
        told.to = Some(format!(
            "calibrated: {} reads and {} writes of 4K a second",
            calibration.read_ops, calibration.write_ops
        ));
        self.tell(told);
        self.set_pace(name);
        Ok(())
    }

    /// Tells every sidecore that has a device what requests cost there.
    fn set_pace(&mut self, name: &str) {
        let queues = self.devices.get(name).map(|device| device.queues.keys().copied().collect());
        let lines: Vec<usize> = queues.unwrap_or_default();
        lines.into_iter().for_each(|line| self.set_pace_on(name, line));
    }

    /// Tells one.
    pub(crate) fn set_pace_on(&mut self, name: &str, line: usize) {
        let Some(device) = self.devices.get(name) else { return };
        let Some(calibration) = self.calibration_of(device) else { return };
        let pace =
            Pace::of(cost_model(Some(calibration)), calibration.capacity_units, calibration.window_commands);
        let slot = device.slot;
        self.order(line, Order::SetPace { device: slot, pace }, |_, _| {});
    }

    /// Carries a measurement of a warden's to its device.
    pub(crate) fn serve_probe(
        &mut self,
        name: &str,
        probe: Box<Probe>,
        answer_to: std::sync::mpsc::Sender<Option<super::lines::DeviceAnswer>>,
    ) {
        let served = self
            .devices
            .get(name)
            .filter(|device| device.check_ready().is_ok())
            .and_then(|device| Some((device.slot, device.queues.first_key_value()?)));
        let Some((slot, (&line, seat))) = served else {
            let _ = answer_to.send(None);
            return;
        };
        let order = Order::Probe { device: slot, lane: seat.base_lane, probe };
        self.order(line, order, move |_, answer| {
            let _ = answer_to.send(Some(answer));
        });
    }
}

impl Warden {
    /// Measures how many requests of a kind the device does.
    fn measure(&mut self, ground: &Ground, measurement: Measurement) -> Result<Rate, String> {
        let Ground { namespace, limits, extent, duration_ns } = *ground;
        let Measurement { operation, large, depth } = measurement;
        let wanted = if large { LARGE_BYTES } else { SMALL_BYTES };
        let blocks = request_blocks(&limits, wanted);
        let first_lba = extent.start.next_multiple_of(u64::from(blocks));
        let units = (extent.start + extent.blocks).saturating_sub(first_lba) / u64::from(blocks);
        if units == 0 {
            return Err("the blocks to measure on are too few".to_owned());
        }
        let data_bytes = blocks * limits.block_bytes;
        let bytes = usize::from(depth) * data_bytes as usize;
        let mut buffer = self.allocate(bytes)?.ok_or("there is no memory to measure with")?;
        if operation == Operation::Write {
            buffer.write(0, &noise(bytes));
        }
        let probe = Probe {
            operation,
            namespace,
            first_lba,
            units,
            blocks,
            in_sequence: large,
            depth,
            duration_ns,
            buffer,
            data_bytes,
        };
        let Measured { commands, elapsed_ns } = self.probe(Box::new(probe))?;
        Ok(Rate::of(data_bytes, commands, elapsed_ns))
    }
}

/// Blocks of a request of about so many bytes, within what a command may have, so that none crosses a boundary of the device.
fn request_blocks(limits: &Limits, wanted_bytes: u32) -> u32 {
    let most = (wanted_bytes.min(limits.transfer_bytes_max) / limits.block_bytes).max(1);
    // The largest power of two within: it divides any boundary that is one.
    let mut blocks = 1 << most.ilog2();
    while !limits.boundary_blocks.is_multiple_of(blocks) {
        blocks /= 2;
    }
    blocks
}

/// Bytes that no device makes fewer (splitmix64).
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x243f_6a88_85a3_08d3_u64;
    let words = std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).to_le_bytes()
    });
    words.flatten().take(bytes).collect()
}

fn no_room(device: &str, why: &str) -> RpcError {
    RpcError::new(ErrorCode::NoSpace, format!("device {device} has no free blocks to be measured on: {why}"))
        .about(format!("device {device}"))
        .next(format!("destroy a channel, or format it; {} KiB in one run are enough", SPAN_BYTES_MIN >> 10))
}

fn fault(device: &str, why: String) -> RpcError {
    RpcError::new(ErrorCode::DeviceFault, format!("device {device} could not be measured: {why}"))
        .about(format!("device {device}"))
        .next("see vfiomuxctl device show and vfiomuxctl events")
}
