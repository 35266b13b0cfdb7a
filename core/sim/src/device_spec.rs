//! What a simulated device should be, and the text that says so.

use std::path::PathBuf;
use std::str::FromStr;

use crate::SimError;
use crate::fault::{Action, Fault, Match, QueueMatch};
use crate::iommu::IommuSpec;

/// A simulated NVMe controller to be made. [`Default`] gives a usual one of 1 GiB; read one from text with [`FromStr`]:
///
/// `sim:nvme,size=4G[,file=PATH][,lba=512|4096][,namespaces=N][,mdts=N][,queues=N][,entries=N][,vectors=N][,sgl=on|off]`
/// `[,cache=on|off][,zeroes=on|off][,sanitize=on|off][,format=on|off][,dstrd=N][,iommu-bits=N][,service-ns=N][,parallel=N]`
/// `[,warn-after=N][,fail-after=N][,seed=N][,serial=TEXT][,run=thread|inline]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceSpec {
    /// Capacity of all namespaces together, bytes. Sizes in text take K, M, G and T, powers of 1024.
    pub size_bytes: u64,
    /// Backing file, made sparse if absent; memory when `None`.
    pub file: Option<PathBuf>,
    /// Bytes of a block, 512 or 4096. Format changes it for as long as the device exists; a file does not remember.
    pub lba_bytes: u32,
    /// Namespaces, which share the capacity equally.
    pub namespaces: u32,
    /// Largest transfer, `4096 << mdts` bytes; 0 for no limit.
    pub mdts: u8,
    /// I/O queue pairs.
    pub queues: u16,
    /// Most entries of a queue.
    pub queue_entries: u32,
    /// MSI-X vectors.
    pub vectors: u16,
    /// Whether I/O commands may use SGLs.
    pub sgl: bool,
    /// Whether unflushed writes can be lost by [`crash`](crate::SimNvme::crash).
    pub cache: bool,
    /// Whether deallocated blocks read as zeroes; otherwise they keep what they held, and the controller promises nothing.
    pub deallocate_zeroes: bool,
    /// Whether the controller can sanitize by block erase.
    pub sanitize: bool,
    /// Whether the controller can format.
    pub format: bool,
    /// Doorbell stride, `4 << dstrd` bytes.
    pub dstrd: u8,
    /// The IOMMU in front of it.
    pub iommu: IommuSpec,
    /// How long each I/O command takes, nanoseconds.
    pub service_ns: u64,
    /// How many I/O commands are worked on at once, others waiting in the order in which they were fetched; 0 for all. With
    /// `service_ns` this bounds what the device does: `parallel * 10^9 / service_ns` commands a second.
    pub parallel: u32,
    /// After so many I/O commands it reports, once, that it is no longer reliable ([`Action::Warn`]).
    pub warn_after: Option<u32>,
    /// After so many I/O commands it stops, for good ([`Action::Fatal`]): also when it was reset, with the next one.
    pub fail_after: Option<u32>,
    /// With a seed, queues are served and commands completed in an order drawn from it; without, in turn and in order.
    pub seed: Option<u64>,
    /// Serial number; at most 20 printable ASCII characters.
    pub serial: Option<String>,
    /// Who runs the device.
    pub run: Run,
}

/// Who runs a simulated device once it is opened by [`crate::open`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Run {
    /// A thread of its own: beside the driver, as a device is.
    #[default]
    Thread,
    /// The thread that rings the doorbell, inside the ringing: no second core is needed, and nothing is ever left over.
    Inline,
}

impl Default for DeviceSpec {
    fn default() -> Self {
        Self {
            size_bytes: 1 << 30,
            file: None,
            lba_bytes: 512,
            namespaces: 1,
            mdts: 7,
            queues: 64,
            queue_entries: 1024,
            vectors: 65,
            sgl: true,
            cache: false,
            deallocate_zeroes: true,
            sanitize: true,
            format: true,
            dstrd: 0,
            iommu: IommuSpec::default(),
            service_ns: 0,
            parallel: 0,
            warn_after: None,
            fail_after: None,
            seed: None,
            serial: None,
            run: Run::Thread,
        }
    }
}

const KEYS: [&str; 22] = [
    "size",
    "file",
    "lba",
    "namespaces",
    "mdts",
    "queues",
    "entries",
    "vectors",
    "sgl",
    "cache",
    "zeroes",
    "sanitize",
    "format",
    "dstrd",
    "iommu-bits",
    "service-ns",
    "parallel",
    "warn-after",
    "fail-after",
    "seed",
    "serial",
    "run",
];

impl FromStr for DeviceSpec {
    type Err = SimError;

    fn from_str(text: &str) -> Result<Self, SimError> {
        let settings = text.strip_prefix("sim:nvme").filter(|rest| rest.is_empty() || rest.starts_with(','));
        let settings = settings.ok_or_else(|| SimError::NotSimulated(text.to_owned()))?;
        let mut spec = Self::default();
        let mut seen = Vec::new();
        for setting in settings.split(',').skip(1) {
            let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
            if seen.contains(&key) {
                return Err(SimError::Repeated(key.to_owned()));
            }
            seen.push(key);
            spec.set(key, value)?;
        }
        spec.check()?;
        Ok(spec)
    }
}

impl DeviceSpec {
    fn set(&mut self, key: &str, value: &str) -> Result<(), SimError> {
        let bad = |expected| SimError::BadValue { key: key.to_owned(), value: value.to_owned(), expected };
        let switch = || match value {
            "on" => Ok(true),
            "off" => Ok(false),
            _ => Err(bad("on or off")),
        };
        match key {
            "size" => self.size_bytes = parse_size(value).ok_or_else(|| bad("a size like 512M or 4G"))?,
            "file" if value.is_empty() => return Err(bad("a path")),
            "file" => self.file = Some(PathBuf::from(value)),
            "lba" => self.lba_bytes = within(value, 512, 4096).ok_or_else(|| bad("512 or 4096"))?,
            "namespaces" => {
                self.namespaces = within(value, 1, 1024).ok_or_else(|| bad("a number from 1 to 1024"))?
            }
            "mdts" => {
                self.mdts = within(value, 0, 16).ok_or_else(|| bad("a number from 0 to 16; 0 is no limit"))?
            }
            "queues" => self.queues = within(value, 1, 4096).ok_or_else(|| bad("a number from 1 to 4096"))?,
            "entries" => {
                self.queue_entries = within(value, 2, 65536).ok_or_else(|| bad("a number from 2 to 65536"))?
            }
            "vectors" => {
                self.vectors = within(value, 0, 2048).ok_or_else(|| bad("a number from 0 to 2048"))?
            }
            "sgl" => self.sgl = switch()?,
            "cache" => self.cache = switch()?,
            "zeroes" => self.deallocate_zeroes = switch()?,
            "sanitize" => self.sanitize = switch()?,
            "format" => self.format = switch()?,
            "dstrd" => self.dstrd = within(value, 0, 10).ok_or_else(|| bad("a number from 0 to 10"))?,
            "iommu-bits" => {
                self.iommu.address_bits =
                    within(value, 33, 57).ok_or_else(|| bad("a number from 33 to 57"))?
            }
            "service-ns" => {
                self.service_ns = within(value, 0, u64::MAX).ok_or_else(|| bad("a number of nanoseconds"))?
            }
            "parallel" => {
                self.parallel =
                    within(value, 0, 4096).ok_or_else(|| bad("a number from 0 to 4096; 0 is all"))?
            }
            "warn-after" => {
                self.warn_after = Some(within(value, 0, u32::MAX).ok_or_else(|| bad("a number of commands"))?)
            }
            "fail-after" => {
                self.fail_after = Some(within(value, 0, u32::MAX).ok_or_else(|| bad("a number of commands"))?)
            }
            "seed" => self.seed = Some(within(value, 0, u64::MAX).ok_or_else(|| bad("a number"))?),
            "serial" => self.serial = Some(value.to_owned()),
            "run" => {
                self.run = match value {
                    "thread" => Run::Thread,
                    "inline" => Run::Inline,
                    _ => return Err(bad("thread or inline")),
                }
            }
            _ => {
                let nearest = KEYS.into_iter().min_by_key(|known| distance(key, known)).unwrap_or("size");
                return Err(SimError::UnknownKey { key: key.to_owned(), nearest, known: KEYS.join(", ") });
            }
        }
        Ok(())
    }

    /// Whether the settings fit each other.
    pub(crate) fn check(&self) -> Result<(), SimError> {
        let conflict = |message| Err(SimError::Conflict(message));
        if !matches!(self.lba_bytes, 512 | 4096) {
            return conflict("lba must be 512 or 4096");
        }
        if self.namespaces == 0 || self.namespace_bytes() < 4096 {
            return conflict(
                "size leaves less than 4096 bytes for each namespace; give more size or fewer namespaces",
            );
        }
        if self.size_bytes > 1 << 46 {
            return conflict("size is more than 64T; give less");
        }
        if self.run == Run::Inline && self.service_ns > 0 {
            return conflict("service-ns needs a thread to wait on; use run=thread");
        }
        if self.parallel > 0 && self.service_ns == 0 {
            return conflict(
                "parallel says how many commands take their time at once; give service-ns as well",
            );
        }
        let serial_fits =
            |serial: &String| serial.len() <= 20 && serial.bytes().all(|byte| byte.is_ascii_graphic());
        if self.serial.as_ref().is_some_and(|serial| !serial_fits(serial)) {
            return conflict("serial must be at most 20 printable ASCII characters without spaces");
        }
        if !(2..=65536).contains(&self.queue_entries) || self.queues == 0 || self.mdts > 16 || self.dstrd > 10
        {
            return conflict("queues, entries, mdts or dstrd is outside what a controller can have");
        }
        Ok(())
    }

    /// What goes wrong with it by itself.
    pub(crate) fn faults(&self) -> impl Iterator<Item = Fault> {
        let after = |skip, times| Match { queue: QueueMatch::Io, skip, times, ..Match::default() };
        let warn = self.warn_after.map(|skip| Fault { when: after(skip, 1), action: Action::Warn });
        let fail = self.fail_after.map(|skip| Fault { when: after(skip, u32::MAX), action: Action::Fatal });
        warn.into_iter().chain(fail)
    }

    /// Capacity of each namespace: an equal part, in whole 4096-byte blocks, so that either block size fits.
    pub(crate) fn namespace_bytes(&self) -> u64 {
        self.size_bytes / u64::from(self.namespaces.max(1)) / 4096 * 4096
    }
}

/// A number from `low` to `high`.
fn within<T: FromStr + PartialOrd>(text: &str, low: T, high: T) -> Option<T> {
    text.parse().ok().filter(|number| (low..=high).contains(number))
}

/// Reads a size: a number that may end in K, M, G or T, powers of 1024. `None` for anything else, and for nothing at all.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.strip_suffix(['K', 'M', 'G', 'T', 'k', 'm', 'g', 't']) {
        None => (text, 0),
        Some(digits) => match text.as_bytes().last()?.to_ascii_uppercase() {
            b'K' => (digits, 10),
            b'M' => (digits, 20),
            b'G' => (digits, 30),
            _ => (digits, 40),
        },
    };
    let size = digits.parse::<u64>().ok()?.checked_mul(1 << shift)?;
    (size > 0).then_some(size)
}

/// Edits that turn one word into the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (to, cell) in b.bytes().zip(row.iter_mut().skip(1)) {
            let edits = left.min(*cell) + 1;
            let replaced = diagonal + usize::from(from != to);
            diagonal = *cell;
            left = edits.min(replaced);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        text.parse::<DeviceSpec>().unwrap_err().to_string()
    }

    #[test]
    fn a_device_is_read_from_its_text() {
        let spec: DeviceSpec =
            "sim:nvme,size=4G,file=/tmp/d.img,lba=4096,mdts=5,queues=2,sgl=off,namespaces=2,seed=9,service-ns=1000,parallel=16,warn-after=7"
                .parse()
                .unwrap();
        assert_eq!(spec.size_bytes, 4 << 30);
        assert_eq!(spec.file.as_deref(), Some(std::path::Path::new("/tmp/d.img")));
        assert_eq!((spec.lba_bytes, spec.mdts, spec.queues, spec.namespaces), (4096, 5, 2, 2));
        assert_eq!((spec.sgl, spec.seed, spec.service_ns, spec.parallel), (false, Some(9), 1000, 16));
        assert_eq!((spec.warn_after, spec.fail_after), (Some(7), None));
        assert_eq!("sim:nvme".parse::<DeviceSpec>().unwrap(), DeviceSpec::default());
    }

    #[test]
    fn an_unknown_setting_names_the_nearest() {
        assert!(error("sim:nvme,siez=4G").contains("did you mean size?"));
        assert!(error("sim:nvme,service_ns=4").contains("did you mean service-ns?"));
        assert!(error("sim:nvme,=4").contains("no setting"));
    }

    #[test]
    fn a_bad_value_says_what_would_be_good() {
        assert!(error("sim:nvme,size=12Q").contains("a size like 512M"));
        assert!(error("sim:nvme,size=0").contains("a size like 512M"));
        assert!(error("sim:nvme,size=99999999999T").contains("a size like"));
        assert!(error("sim:nvme,lba=1024").contains("512 or 4096"));
        assert!(error("sim:nvme,sgl=yes").contains("on or off"));
        assert!(error("sim:nvme,queues=0").contains("1 to 4096"));
        assert!(error("sim:nvme,size=1G,size=2G").contains("given twice"));
        assert!(error("sim:nic").contains("no simulated device"));
        assert!(error("sim:nvmex,size=4G").contains("no simulated device"));
        assert!(error("sim:nvme,size=4K,namespaces=2").contains("fewer namespaces"));
        assert!(error("sim:nvme,fail-after=soon").contains("a number of commands"));
        assert!(error("sim:nvme,parallel=5").contains("give service-ns"));
        assert!(error("sim:nvme,run=inline,service-ns=5").contains("run=thread"));
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("same", "same"), 0);
    }
}
