//! Devices for people.

use vfiomux_rpc::{Calibration, DeviceInfo, FunctionState, NamespaceInfo};

use crate::table::{Cell, Facts, Paint, Table, Tone, printable, shortened, word};
use crate::units;

/// Longest model that the list shows, so that a line fits into 80 columns.
const MODEL_CHARS_MAX: usize = 19;

pub(crate) fn list(devices: &Vec<DeviceInfo>, paint: Paint) -> String {
    if devices.is_empty() {
        return "no devices\n".to_owned();
    }
    let mut table =
        Table::new(&["DEVICE", "STATE", "DRIVER", "GROUP", "NUMA", "SIZE", "FREE", "MODEL"], &[3, 4, 5, 6]);
    for device in devices {
        let bytes = device.pools.map(|pools| pools.bytes);
        table.row([
            Cell::from(&device.name),
            state(device.state),
            Cell::optional(device.driver.as_ref()),
            Cell::optional(device.iommu_group),
            Cell::optional(device.numa_node),
            Cell::optional(bytes.map(|bytes| units::bytes(bytes.capacity))),
            Cell::optional(bytes.map(|bytes| units::bytes(bytes.free()))),
            Cell::optional(device.model.as_ref().map(|model| shortened(model.trim(), MODEL_CHARS_MAX))),
        ]);
        if let Some(reason) = &device.reason {
            table.note(reason);
        }
        if !device.group_members.is_empty() {
            table.note(format!("shares its group with {}", device.group_members.join(", ")));
        }
        for holder in &device.holders {
            table.note(format!("held: {holder}"));
        }
    }
    table.text(paint)
}

pub(crate) fn details(device: &DeviceInfo, paint: Paint) -> String {
    let mut facts = Facts::default();
    facts.add("device", &device.name);
    facts.add("state", state(device.state));
    facts.add_some("reason", device.reason.as_ref());
    facts.add("class", word(device.class));
    facts.add_some("model", device.model.as_deref().map(str::trim));
    facts.add_some("serial", device.serial.as_deref().map(str::trim));
    facts.add_some("firmware", device.firmware.as_deref().map(str::trim));
    facts.add_some("PCI id", device.pci_id.as_ref());
    facts.add_some("driver", device.driver.as_ref());
    match device.iommu_group {
        Some(group) if device.group_members.is_empty() => facts.add("IOMMU group", group.to_string()),
        Some(group) => {
            facts.add("IOMMU group", format!("{group}, shared with {}", device.group_members.join(", ")))
        }
        None => {}
    }
    facts.add_some("NUMA node", device.numa_node);
    for holder in &device.holders {
        facts.add("held", holder);
    }
    if let Some(pools) = device.pools {
        let (bytes, pairs) = (pools.bytes, pools.queue_pairs);
        let (free, capacity) = (units::bytes(bytes.free()), units::bytes(bytes.capacity));
        facts.add("space", format!("{free} free of {capacity}"));
        facts.add("queue pairs", format!("{} used of {}", pairs.used, pairs.capacity));
    }
    if device.pools.is_some() {
        reserved(&mut facts, device);
    }
    if let Some(nvme) = &device.nvme {
        facts.add("NVMe", format!("{}, data by {}", nvme.version, word(nvme.addressing).to_uppercase()));
        let (transfer, entries) = (units::bytes(nvme.transfer_bytes_max), nvme.queue_entries_max);
        facts.add("limits", format!("{transfer} a command, {entries} entries a queue"));
        let has = [
            (nvme.volatile_cache, "volatile cache"),
            (nvme.write_zeroes, "write zeroes"),
            (nvme.deallocate, "deallocate"),
        ];
        let has: Vec<&str> = has.into_iter().filter_map(|(has, name)| has.then_some(name)).collect();
        facts.add("has", if has.is_empty() { "-".to_owned() } else { has.join(", ") });
    }
    facts.add(
        "channels",
        if device.channels.is_empty() { "-".to_owned() } else { device.channels.join(", ") },
    );
    facts.add("generation", device.generation.to_string());
    let mut text = facts.text(paint);
    if !device.namespaces.is_empty() {
        text.push('\n');
        text.push_str(&namespaces(&device.namespaces, paint));
    }
    text
}

fn reserved(facts: &mut Facts, device: &DeviceInfo) {
    if let Some(calibration) = &device.calibration {
        facts.add("does", in_words(calibration));
    }
    let reservations = &device.reservations;
    let factor = match reservations.overcommit_permille {
        1000 => String::new(),
        permille => format!(", {}.{:03} times what it does", permille / 1000, permille % 1000),
    };
    facts.add(
        "reserved",
        format!(
            "{} of {} reads of 4K a second{factor}",
            reservations.reserved_ops, reservations.capacity_ops
        ),
    );
    facts.add_some("", reservations.reason.as_ref());
    for holder in &reservations.holders {
        let pending = if holder.pending { ", being decided" } else { "" };
        facts.add("", format!("{} by {} ({}){pending}", holder.ops, holder.channel, holder.tenant));
    }
}

/// What a device does, in one line.
fn in_words(calibration: &Calibration) -> String {
    format!(
        "{} reads and {} writes of 4K a second, {} read and {} written a second; a read alone takes {}",
        calibration.read_ops,
        calibration.write_ops,
        units::bytes(calibration.read_bytes),
        units::bytes(calibration.write_bytes),
        units::nanoseconds(calibration.read_latency_ns)
    )
}

fn namespaces(namespaces: &[NamespaceInfo], paint: Paint) -> String {
    let mut table =
        Table::new(&["NAMESPACE", "BLOCK", "BLOCKS", "CAPACITY", "FREE", "LONGEST RUN"], &[0, 1, 2, 3, 4, 5]);
    for namespace in namespaces {
        table.row([
            Cell::from(namespace.id.to_string()),
            Cell::from(units::bytes(namespace.block_bytes.into())),
            Cell::from(namespace.blocks.to_string()),
            Cell::from(units::bytes(namespace.capacity_bytes)),
            Cell::from(units::bytes(namespace.free_bytes)),
            Cell::from(units::bytes(namespace.free_run_bytes)),
        ]);
        match &namespace.reason {
            Some(reason) => table.note(reason),
            None if !namespace.formatted => table.note("not formatted"),
            None => {}
        }
    }
    table.text(paint)
}

pub(crate) fn claimed(device: &DeviceInfo) -> String {
    let name = printable(&device.name);
    let is_blank = device.namespaces.iter().all(|namespace| !namespace.formatted);
    let hint = if is_blank { format!("\n  next: vfiomuxctl device format {name}") } else { String::new() };
    format!("{name} claimed{hint}")
}

pub(crate) fn released(device: &DeviceInfo) -> String {
    let driver = device.driver.as_deref().map_or_else(|| "no driver".to_owned(), printable);
    format!("{} released, back to {driver}", printable(&device.name))
}

pub(crate) fn formatted(device: &DeviceInfo) -> String {
    let free = device.pools.map_or_else(|| "-".to_owned(), |pools| units::bytes(pools.bytes.free()));
    format!("{} formatted, {free} free", printable(&device.name))
}

pub(crate) fn calibrated(device: &DeviceInfo) -> String {
    let name = printable(&device.name);
    device.calibration.as_ref().map_or_else(
        || format!("{name} can be calibrated"),
        |calibration| {
            let free = device.reservations.free_ops();
            format!("{name} does {}\n  {free} reads of 4K a second can be reserved", in_words(calibration))
        },
    )
}

fn state(state: FunctionState) -> Cell {
    let tone = match state {
        FunctionState::Ready => Tone::Good,
        FunctionState::Failed | FunctionState::Lost => Tone::Bad,
        FunctionState::Degraded | FunctionState::Resetting => Tone::Warning,
        FunctionState::Absent
        | FunctionState::Discovered
        | FunctionState::Claiming
        | FunctionState::Draining
        | FunctionState::Releasing => Tone::Plain,
    };
    Cell::new(word(state), tone)
}
