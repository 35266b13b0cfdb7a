//! The journal: what must survive the daemon, and is not on a device.
//!
//! Settings and transitions are appended, one line each, and made durable before they take effect. Replaying the lines
//! gives [`Settings`]: the same function applies a record when it is written and when it is read, so that the two cannot
//! differ (W1).
//!
//! A line is `CRC32C-in-hex SPACE JSON`. A torn last line, left by a crash in the middle of a write, was never in effect
//! and is dropped; damage anywhere else is an error, never skipped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use vfiomux_rpc::{Calibration, Endpoint, Guarantees, Labels, Limits, Object};

use crate::config::Plugin;
use crate::lifecycle::{Admin, Oper, Step};

/// A channel as it was asked for, and the last state that was made durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Never used again.
    pub id: String,
    /// Name given by the operator.
    pub name: String,
    /// Whom it is accounted to.
    pub tenant: String,
    /// Pool that its blocks lie in, as the device's label names it.
    pub pool: String,
    /// Size as the guest sees it, bytes.
    pub size_bytes: u64,
    /// Virtqueues.
    pub queues: u16,
    /// Guests may not write.
    pub read_only: bool,
    /// What it is promised, and what it is held to. Journals of earlier versions have none.
    #[serde(default, skip_serializing_if = "Guarantees::is_none")]
    pub guarantees: Guarantees,
    /// What its operator wrote on it. Journals of earlier versions have none.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// The serial number that its guest reads, when it is not made from the id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Where its front-end connects, if it is attached.
    pub endpoint: Option<Endpoint>,
    /// What is wanted of it.
    pub admin: Admin,
    /// What it is.
    pub oper: Oper,
    /// Goes up with each change of the setting.
    pub generation: u64,
}

/// A long operation that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BegunJob {
    /// The method that it carries out.
    pub method: String,
    /// What it is carried out on.
    pub object: Object,
    /// User who asked for it.
    pub uid: u32,
    /// When it began, since 1970.
    pub began_unix_ns: u64,
}

/// What a device was measured to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calibrated {
    /// Name of the device.
    pub device: String,
    /// Its model, as it names itself: another device under the same name was not measured.
    pub model: String,
    /// Its serial number.
    pub serial: String,
    /// What came out.
    pub calibration: Calibration,
}

/// What all channels of a tenant together are held to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantSetting {
    /// The limits.
    pub limits: Limits,
    /// Goes up with each change of them.
    pub generation: u64,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case")]
pub enum Record {
    /// A channel was defined, or its setting changed.
    Setting(Box<Setting>),
    /// A channel went from one state to another.
    Transition {
        /// Whose.
        id: String,
        /// By what.
        step: Step,
        /// Where to.
        to: Oper,
    },
    /// A function was taken from a driver, to which it is to go back.
    Claimed {
        /// Address of the function.
        address: String,
        /// The driver that had it, if any.
        driver: Option<String>,
    },
    /// Event numbers up to this one are used, or may be: the next start goes on after it.
    EventsReserved {
        /// The last of them.
        last_seq: u64,
    },
    /// A long operation has begun.
    JobBegun {
        /// Its number.
        id: u64,
        /// What it is.
        #[serde(flatten)]
        begun: BegunJob,
    },
    /// A long operation has ended, or was found to have been interrupted. Its number is used.
    JobEnded {
        /// Its number.
        id: u64,
    },
    /// A pool's label names a channel, or may come to, that has its place elsewhere: what it names there is to be scrubbed.
    Elsewhere {
        /// The pool.
        pool: String,
        /// Which channel.
        id: String,
    },
    /// A channel has gone from one pool to another: from here on the label of the first does not count for it.
    Relocated {
        /// The channel, as it is over there.
        setting: Box<Setting>,
        /// The pool that it has left.
        from: String,
    },
    /// A pool's label does not name a channel any more that has its place elsewhere.
    Cleared {
        /// The pool.
        pool: String,
        /// Which channel.
        id: String,
    },
    /// A function was given back.
    Released {
        /// Address of the function.
        address: String,
    },
    /// A policy plugin is to be asked from here on, in the place of the one with its name if there is one. It has begun, and may
    /// not have been asked yet when the daemon ends: a start loads it all the same.
    PluginLoaded(Plugin),
    /// A policy plugin was unloaded.
    PluginUnloaded {
        /// Which.
        name: String,
    },
    /// A device was measured.
    Calibrated(Box<Calibrated>),
    /// A tenant was given other limits.
    Tenant {
        /// Name of the tenant.
        name: String,
        /// What it is held to from now on.
        #[serde(flatten)]
        setting: TenantSetting,
    },
    /// A destroyed channel is named by no label any more: nothing of it is left to be remembered.
    Forgotten {
        /// Which.
        id: String,
    },
}

/// All that the records come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Channels by id. A destroyed channel stays until no label names it: see [`Record::Forgotten`].
    pub channels: BTreeMap<String, Setting>,
    /// Claimed functions by address, with the driver that each came from.
    pub claims: BTreeMap<String, Option<String>>,
    /// Policy plugins that operators loaded, by name.
    pub plugins: BTreeMap<String, Plugin>,
    /// The last event number that may have been used.
    pub last_event_seq: u64,
    /// Pools, each with a channel that its label may name and that has its place elsewhere.
    pub elsewhere: BTreeSet<(String, String)>,
    /// Long operations under way, by number.
    pub jobs: BTreeMap<u64, BegunJob>,
    /// The last number that one of them had.
    pub last_job: u64,
    /// What devices were measured to do, by name.
    pub calibrations: BTreeMap<String, Calibrated>,
    /// What tenants are held to, by name.
    pub tenants: BTreeMap<String, TenantSetting>,
}

impl Settings {
    /// Applies one record.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Setting(setting) => {
                self.channels.insert(setting.id.clone(), Setting::clone(setting));
            }
            Record::Transition { id, to, .. } => {
                if let Some(channel) = self.channels.get_mut(id) {
                    channel.oper = *to;
                }
            }
            Record::Claimed { address, driver } => {
                self.claims.insert(address.clone(), driver.clone());
            }
            Record::PluginLoaded(plugin) => {
                self.plugins.insert(plugin.name.clone(), plugin.clone());
            }
            Record::PluginUnloaded { name } => {
                self.plugins.remove(name);
            }
            Record::EventsReserved { last_seq } => self.last_event_seq = *last_seq,
            Record::Elsewhere { pool, id } => {
                self.elsewhere.insert((pool.clone(), id.clone()));
            }
            Record::Relocated { setting, from } => {
                self.elsewhere.remove(&(setting.pool.clone(), setting.id.clone()));
                self.elsewhere.insert((from.clone(), setting.id.clone()));
                self.channels.insert(setting.id.clone(), Setting::clone(setting));
            }
            Record::Cleared { pool, id } => {
                self.elsewhere.remove(&(pool.clone(), id.clone()));
            }
            Record::JobBegun { id, begun } => {
                self.jobs.insert(*id, begun.clone());
                self.last_job = self.last_job.max(*id);
            }
            Record::JobEnded { id } => {
                self.jobs.remove(id);
                self.last_job = self.last_job.max(*id);
            }
            Record::Released { address } => {
                self.claims.remove(address);
            }
            Record::Calibrated(calibrated) => {
                self.calibrations.insert(calibrated.device.clone(), Calibrated::clone(calibrated));
            }
            Record::Tenant { name, setting } => {
                self.tenants.insert(name.clone(), *setting);
            }
            Record::Forgotten { id } => {
                self.channels.remove(id);
            }
        }
    }

    fn records(&self) -> impl Iterator<Item = Record> + '_ {
        let claims = self
            .claims
            .iter()
            .map(|(address, driver)| Record::Claimed { address: address.clone(), driver: driver.clone() });
        let events = Record::EventsReserved { last_seq: self.last_event_seq };
        let settings = self.channels.values().map(|setting| Record::Setting(Box::new(setting.clone())));
        let numbers = (self.last_job > 0).then_some(Record::JobEnded { id: self.last_job });
        let jobs = self.jobs.iter().map(|(&id, begun)| Record::JobBegun { id, begun: begun.clone() });
        let plugins = self.plugins.values().cloned().map(Record::PluginLoaded);
        let calibrations =
            self.calibrations.values().map(|known| Record::Calibrated(Box::new(known.clone())));
        let tenants = self
            .tenants
            .iter()
            .map(|(name, setting)| Record::Tenant { name: name.clone(), setting: *setting });
        let elsewhere = self.elsewhere.iter().cloned().map(|(pool, id)| Record::Elsewhere { pool, id });
        let listed = claims
            .chain(elsewhere)
            .chain(numbers)
            .chain(jobs)
            .chain(plugins)
            .chain(calibrations)
            .chain(tenants);
        std::iter::once(events).chain(listed).chain(settings)
    }
}

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A line in the middle does not hold.
    #[error("{}: line {line} is damaged ({what}); restore the file from a backup, or move it away: channels are then taken from the devices' labels, without their endpoints", path.display())]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What does not hold.
        what: String,
    },
    /// Another daemon has it.
    #[error("{}: another vfiomuxd uses this state directory; stop it, or give this one a --state-dir of its own", .0.display())]
    InUse(PathBuf),
    /// The file system refused.
    #[error("{}: {source}; the state directory must be writable and have space", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
}

/// The open journal and what it holds.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    settings: Settings,
    /// Held until the journal is closed: one daemon a state directory.
    _lock: File,
}

impl Journal {
    /// Opens `directory`/journal, making both when they are not there; replays it, and rewrites it without its history.
    pub fn open(directory: &Path) -> Result<Self, JournalError> {
        let path = directory.join("journal");
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| JournalError::Io { path, source }
        };
        make_private(directory).map_err(io(directory))?;
        let lock_path = directory.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(io(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(JournalError::InUse(directory.to_owned())),
            Err(std::fs::TryLockError::Error(source)) => {
                return Err(JournalError::Io { path: lock_path, source });
            }
        }
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(JournalError::Io { path, source }),
        };
        let settings = replay(&path, &text)?;
        let fresh = directory.join("journal.new");
        let mut file = File::create(&fresh).map_err(io(&fresh))?;
        for record in settings.records() {
            file.write_all(&line(&record)).map_err(io(&fresh))?;
        }
        file.sync_all().map_err(io(&fresh))?;
        std::fs::rename(&fresh, &path).map_err(io(&path))?;
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(io(directory))?;
        Ok(Self { path, file, settings, _lock: lock })
    }

    /// What the journal comes to now.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Makes a record durable, then applies it. When this fails, nothing has changed.
    pub fn append(&mut self, record: &Record) -> Result<(), JournalError> {
        let io = |source| JournalError::Io { path: self.path.clone(), source };
        let before = self.file.metadata().map_err(io)?.len();
        let written = self.file.write_all(&line(record)).and_then(|()| self.file.sync_data());
        if let Err(source) = written {
            // Half a line must not stay in the middle of the file when space comes back.
            let _ = self.file.set_len(before);
            return Err(io(source));
        }
        self.settings.apply(record);
        Ok(())
    }
}

/// Makes the state directory when it is not there, for its owner alone: it says who has what, and who asked for what.
fn make_private(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(parent) = directory.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::DirBuilder::new().mode(0o700).create(directory)
}

fn line(record: &Record) -> Vec<u8> {
    // A record is plain strings and numbers: it always has a JSON form.
    let json = serde_json::to_string(record).unwrap_or_default();
    format!("{:08x} {json}\n", crc32c::crc32c(json.as_bytes())).into_bytes()
}

fn replay(path: &Path, text: &[u8]) -> Result<Settings, JournalError> {
    let mut settings = Settings::default();
    let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
    for (index, line) in
        text[..whole].split(|&byte| byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty())
    {
        match parse(line) {
            Ok(record) => settings.apply(&record),
            Err(what) => return Err(JournalError::Damaged { path: path.to_owned(), line: index + 1, what }),
        }
    }
    Ok(settings)
}

fn parse(line: &[u8]) -> Result<Record, String> {
    let line = std::str::from_utf8(line).map_err(|error| error.to_string())?;
    let (crc, json) = line.split_once(' ').ok_or("it has no checksum")?;
    if u32::from_str_radix(crc, 16).ok() != Some(crc32c::crc32c(json.as_bytes())) {
        return Err("its checksum does not match".to_owned());
    }
    serde_json::from_str(json).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use vfiomux_rpc::{Cost, RateLimit};

    use super::*;

    fn setting(id: &str) -> Setting {
        Setting {
            id: id.into(),
            name: format!("disk-{id}"),
            tenant: "acme".into(),
            pool: "p".into(),
            size_bytes: 1 << 20,
            queues: 1,
            read_only: false,
            guarantees: Guarantees::default(),
            labels: Labels::default(),
            serial: None,
            endpoint: None,
            admin: Admin::Enabled,
            oper: Oper::Defined,
            generation: 1,
        }
    }

    fn job() -> BegunJob {
        let object = Object { kind: vfiomux_rpc::ObjectKind::Channel, name: "disk-a".into() };
        BegunJob { method: "channel.resize".into(), object, uid: 7, began_unix_ns: 1 }
    }

    fn plugin(name: &str) -> Plugin {
        Plugin {
            name: name.into(),
            library: "/lib/plugin.so".into(),
            config: None,
            order: 3,
            deadline_ms: Some(70),
        }
    }

    fn calibrated(read_ops: u64) -> Record {
        let cost = Cost { read_op: 512, read_kib: 128, write_op: 1024, write_kib: 256 };
        let calibration = Calibration {
            time_unix_ns: 7,
            read_ops,
            write_ops: 50,
            read_bytes: 1 << 30,
            read_latency_ns: 80_000,
            window_commands: 80,
            write_bytes: 1 << 29,
            cost,
            capacity_units: read_ops * 1024,
        };
        let (device, model, serial) = ("sim0".into(), "model".into(), "serial".into());
        Record::Calibrated(Box::new(Calibrated { device, model, serial, calibration }))
    }

    fn tenant(generation: u64, limits: Limits) -> Record {
        Record::Tenant { name: "acme".into(), setting: TenantSetting { limits, generation } }
    }

    fn records() -> Vec<Record> {
        let step = |id: &str, step, to| Record::Transition { id: id.into(), step, to };
        vec![
            Record::Claimed { address: "0000:01:00.0".into(), driver: Some("nvme".into()) },
            Record::Setting(Box::new(setting("a"))),
            step("a", Step::Realised, Oper::Provisioned),
            Record::Setting(Box::new(setting("b"))),
            step("b", Step::RealiseFailed, Oper::Failed),
            Record::Setting(Box::new(setting("c"))),
            Record::Forgotten { id: "c".into() },
            Record::EventsReserved { last_seq: 1000 },
            Record::Elsewhere { pool: "q".into(), id: "a".into() },
            Record::Relocated {
                setting: Box::new(Setting { pool: "q".into(), ..setting("a") }),
                from: "p".into(),
            },
            Record::Elsewhere { pool: "q".into(), id: "b".into() },
            Record::Cleared { pool: "q".into(), id: "b".into() },
            Record::JobBegun { id: 1, begun: job() },
            Record::JobBegun { id: 2, begun: job() },
            Record::JobEnded { id: 2 },
            Record::PluginLoaded(plugin("quota")),
            Record::PluginLoaded(plugin("tiers")),
            Record::PluginUnloaded { name: "quota".into() },
            calibrated(100),
            calibrated(200),
            tenant(1, Limits { ops: Some(RateLimit { per_second: 500, burst: None }), ..Limits::default() }),
            tenant(2, Limits::default()),
            Record::Released { address: "0000:01:00.0".into() },
        ]
    }

    fn replayed(bytes: &[u8]) -> Result<Settings, JournalError> {
        replay(Path::new("journal"), bytes)
    }

    /// W1: replaying the journal gives the present state, also after it was rewritten.
    #[test]
    fn what_is_replayed_is_what_was_in_effect() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(directory.path()).unwrap();
        for record in records() {
            journal.append(&record).unwrap();
            let text = std::fs::read(directory.path().join("journal")).unwrap();
            assert_eq!(&replayed(&text).unwrap(), journal.settings());
        }
        let rewritten: Vec<u8> = journal.settings().records().flat_map(|record| line(&record)).collect();
        assert_eq!(&replayed(&rewritten).unwrap(), journal.settings());
    }

    #[test]
    fn a_line_torn_anywhere_was_never_in_effect() {
        let whole: Vec<u8> = records().iter().flat_map(line).collect();
        let last = line(records().last().unwrap()).len();
        let before = replayed(&whole[..whole.len() - last]).unwrap();
        for torn in 1..last {
            assert_eq!(replayed(&whole[..whole.len() - torn]).unwrap(), before);
        }
    }

    #[test]
    fn damage_in_the_middle_is_an_error_that_names_the_line() {
        let mut whole: Vec<u8> = records().iter().flat_map(line).collect();
        let second = whole.iter().position(|&byte| byte == b'\n').unwrap() + 20;
        whole[second] ^= 1;
        assert!(matches!(replayed(&whole), Err(JournalError::Damaged { line: 2, .. })));
    }

    #[test]
    fn a_state_directory_of_our_making_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("deep/state");
        let _journal = Journal::open(&state).unwrap();
        assert_eq!(state.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_second_daemon_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let _first = Journal::open(directory.path()).unwrap();
        assert!(matches!(Journal::open(directory.path()), Err(JournalError::InUse(_))));
    }
}
