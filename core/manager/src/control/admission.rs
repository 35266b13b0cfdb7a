//! Reservations: who may have one, and what is told of them.
//!
//! The rules are [`crate::admission`]'s. Here a device's book is kept equal to what is: its channels, what it was calibrated to
//! do, and how it does.

use vfiomux_rpc::{
    Calibration, ErrorCode, FunctionState, Guarantees, ReservationHolder, Reservations, RpcError,
};

use super::Control;
use super::channel::Channel;
use super::device::Device;
use crate::admission::{Book, Entry, Holder, Offer, Shortage};
use crate::lifecycle::Oper;

/// Holders that a refusal names.
const NAMED_MAX: usize = 4;

impl Control {
    /// Looks whether a channel can have the reservation that `guarantees` ask for on a device, and takes it, in one step (L5). It
    /// is held until it is in the channel's setting, or [given back](Self::give_reservation_back).
    pub(crate) fn take_reservation(
        &mut self,
        device: &str,
        holder: &Holder,
        guarantees: &Guarantees,
    ) -> Result<(), RpcError> {
        self.align_book(device);
        let ops = guarantees.reservation_ops.unwrap_or(0);
        let book = self.books.entry(device.to_owned()).or_default();
        let taken = book.take(holder, ops);
        let here = self.devices.contains_key(device);
        taken.map_err(|short| if here { refusal(device, holder, &short) } else { absent(holder) })
    }

    /// An operation that took a reservation is over. What is in the channel's setting by now stays, and nothing else.
    pub(crate) fn give_reservation_back(&mut self, device: &str, id: &str) {
        if let Some(book) = self.books.get_mut(device) {
            book.give_back(id);
        }
        self.align_book(device);
    }

    fn align_book(&mut self, device: &str) {
        let aligned = self.book_of(device);
        self.books.insert(device.to_owned(), aligned);
    }

    /// A device's book, as it is now.
    fn book_of(&self, device: &str) -> Book {
        let mut book = self.books.get(device).cloned().unwrap_or_default();
        book.set_offer(self.devices.get(device).map_or(Offer::Uncalibrated, |device| self.offer(device)));
        let here = self
            .channels
            .values()
            .filter(|channel| channel.device == device && channel.setting.oper != Oper::Destroyed);
        book.align(
            here.map(|channel| (holder(channel), channel.setting.guarantees.reservation_ops.unwrap_or(0))),
        );
        book
    }

    fn offer(&self, device: &Device) -> Offer {
        match (self.calibration_of(device), device.state) {
            (None, _) => Offer::Uncalibrated,
            (Some(calibration), FunctionState::Ready) => {
                Offer::of(calibration.read_ops, self.config.admission.overcommit_of(&device.name))
            }
            (Some(_), _) => Offer::Impaired,
        }
    }

    /// What a device was measured to do, when it is still the one that was measured.
    pub(crate) fn calibration_of(&self, device: &Device) -> Option<&Calibration> {
        let known = self.journal.settings().calibrations.get(&device.name)?;
        let same = known.model == device.info.model && known.serial == device.info.serial;
        same.then_some(&known.calibration)
    }

    /// What can be reserved on a device, and what is.
    pub(crate) fn reservations(&self, device: &Device) -> Reservations {
        let book = self.book_of(&device.name);
        let reason = match (book.offer(), book.is_covered()) {
            (Offer::Uncalibrated, _) => {
                Some(format!("nobody knows what it does; run vfiomuxctl device calibrate {}", device.name))
            }
            (Offer::Impaired, _) => Some("it does less than it was calibrated to do".to_owned()),
            (Offer::Ops(_), false) => Some("more is reserved than it can be promised to do".to_owned()),
            (Offer::Ops(_), true) => None,
        };
        Reservations {
            capacity_ops: book.offer().ops(),
            reserved_ops: book.held_ops(),
            overcommit_permille: self.config.admission.overcommit_of(&device.name).permille(),
            reason,
            holders: book.holders().into_iter().map(shown).collect(),
        }
    }
}

/// A channel, as a book knows it.
pub(crate) fn holder(channel: &Channel) -> Holder {
    let setting = &channel.setting;
    Holder { id: setting.id.clone(), name: setting.name.clone(), tenant: setting.tenant.clone() }
}

fn shown(entry: Entry) -> ReservationHolder {
    let (ops, pending) = (entry.held_ops(), entry.taken_ops.is_some());
    ReservationHolder { channel: entry.holder.name, tenant: entry.holder.tenant, ops, pending }
}

fn absent(asking: &Holder) -> RpcError {
    let about = format!("channel {}", asking.name);
    RpcError::new(
        ErrorCode::DeviceFault,
        format!("the device of {about} is not here, so nothing more can be reserved for it"),
    )
    .about(about)
    .next("bring the device back first; see vfiomuxctl device list")
}

/// Says what is left and who has the rest. Of other tenants' channels, only what they have together (C5).
fn refusal(device: &str, asking: &Holder, short: &Shortage) -> RpcError {
    let Shortage { offer, asked_ops, free_ops, holders } = short;
    let about = format!("device {device}");
    match offer {
        Offer::Uncalibrated => {
            return RpcError::new(
                ErrorCode::Conflict,
                format!("device {device} was not calibrated, so nothing can be reserved on it"),
            )
            .about(about)
            .next(format!("run vfiomuxctl device calibrate {device}, or leave the reservation out"));
        }
        Offer::Impaired => {
            return RpcError::new(
                ErrorCode::Conflict,
                format!("device {device} does less than it was calibrated to do, so nothing more can be reserved on it"),
            )
            .about(about)
            .next(format!("see vfiomuxctl device show {device}, and try again when it is ready"));
        }
        Offer::Ops(_) => {}
    }
    let (own, others): (Vec<_>, Vec<_>) =
        holders.iter().partition(|entry| entry.holder.tenant == asking.tenant);
    let mut held: Vec<String> = own
        .iter()
        .take(NAMED_MAX)
        .map(|entry| format!("{} has {}", entry.holder.name, entry.held_ops()))
        .collect();
    let sum =
        |entries: &[&Entry]| entries.iter().fold(0u64, |sum, entry| sum.saturating_add(entry.held_ops()));
    if let Some(rest) = own.get(NAMED_MAX..).filter(|rest| !rest.is_empty()) {
        held.push(format!("{} more of {} have {}", rest.len(), asking.tenant, sum(rest)));
    }
    if !others.is_empty() {
        held.push(format!("other tenants have {}", sum(&others)));
    }
    let held = if held.is_empty() { String::new() } else { format!(": {}", held.join(", ")) };
    RpcError::new(
        ErrorCode::NoSpace,
        format!(
            "{asked_ops} reads of 4K a second cannot be reserved on device {device}, {free_ops} of {} can{held}",
            offer.ops()
        ),
    )
    .about(about)
    .next("ask for less, or have less reserved for another with vfiomuxctl channel tune")
}
