//! The audit: who asked for which change, what policies said to it, and what became of it.
//!
//! Each change is written down twice: when it is asked for, before anything is done about it, and when it is answered. So a change
//! that a crash cut short is on record too, without an answer. Lines are only ever appended, `CRC32C-in-hex SPACE JSON` each; a
//! file that has grown to its bound becomes `audit.1`, the one before `audit.2`, and so on. A line reaches the kernel before its change
//! begins, and survives the daemon; whether it survives the host's power is left to the file system, unlike the journal, which decides
//! what is.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use vfiomux_rpc::{AuditAnswer, AuditEntry, AuditList, AuditRuling, View};

/// How many entries are kept at hand.
const ENTRIES_KEPT: usize = 4096;
/// A file that has grown to this is closed, and the next begun.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Closed files that are kept.
const FILES_KEPT: u32 = 8;

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    Asked(Box<AuditEntry>),
    Answered { serial: u64, rulings: Vec<AuditRuling>, answer: AuditAnswer },
}

/// The open file and the last entries.
#[derive(Debug)]
pub struct Audit {
    directory: PathBuf,
    file: File,
    file_bytes: u64,
    file_bytes_max: u64,
    entries: VecDeque<AuditEntry>,
    next_serial: u64,
    /// Lines that were found damaged when it was opened.
    damaged_lines: u64,
}

impl Audit {
    /// Opens `directory`/audit, which is made when it is not there, and reads what it and the file before it hold.
    pub fn open(directory: &Path) -> io::Result<Self> {
        Self::open_with(directory, FILE_BYTES_MAX)
    }

    fn open_with(directory: &Path, file_bytes_max: u64) -> io::Result<Self> {
        let path = directory.join("audit");
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        let file_bytes = file.metadata()?.len();
        let mut audit = Self {
            directory: directory.to_owned(),
            file,
            file_bytes,
            file_bytes_max,
            entries: VecDeque::new(),
            next_serial: 1,
            damaged_lines: 0,
        };
        for path in [directory.join("audit.1"), path] {
            match std::fs::read(&path) {
                Ok(bytes) => audit.take_up(&bytes),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        if audit.file_bytes > 0 && !std::fs::read(audit.directory.join("audit"))?.ends_with(b"\n") {
            // A crash has torn the last line: the next begins on a line of its own.
            audit.file.write_all(b"\n")?;
        }
        Ok(audit)
    }

    fn take_up(&mut self, bytes: &[u8]) {
        for line in bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            match parse(line) {
                Some(Line::Asked(entry)) => {
                    self.next_serial = self.next_serial.max(entry.serial + 1);
                    self.keep(*entry);
                }
                Some(Line::Answered { serial, rulings, answer }) => self.complete(serial, rulings, answer),
                None => self.damaged_lines += 1,
            }
        }
    }

    /// Lines that could not be read when it was opened: torn by a crash, or tampered with.
    #[must_use]
    pub fn damaged_lines(&self) -> u64 {
        self.damaged_lines
    }

    /// Records that a change was asked for; the number of its entry.
    pub fn asked(&mut self, entry: AuditEntry) -> io::Result<u64> {
        let serial = self.next_serial;
        self.next_serial += 1;
        let entry = AuditEntry { serial, ..entry };
        self.keep(entry.clone());
        self.write(&Line::Asked(Box::new(entry))).map(|()| serial)
    }

    /// Notes what policies said to it, to be written with the answer.
    pub fn ruled(&mut self, serial: u64, rulings: impl IntoIterator<Item = AuditRuling>) {
        if let Some(entry) = self.entry(serial) {
            entry.rulings.extend(rulings);
        }
    }

    /// Records how it was answered.
    pub fn answered(&mut self, serial: u64, answer: AuditAnswer) -> io::Result<()> {
        let rulings = self.entry(serial).map_or_else(Vec::new, |entry| entry.rulings.clone());
        self.complete(serial, rulings.clone(), answer.clone());
        self.write(&Line::Answered { serial, rulings, answer })
    }

    /// At most `limit` entries after number `since` that may be told in this view, oldest first.
    #[must_use]
    pub fn list(&self, since: u64, limit: usize, view: &View) -> AuditList {
        let shown = self.entries.iter().filter(|entry| entry.serial > since);
        let shown = shown.filter(|entry| view.shows_owned(entry.tenant.as_deref()));
        let told = shown.take(limit).map(|entry| AuditEntry {
            params: entry.params.clone().filter(|_| view.shows_host()),
            ..entry.clone()
        });
        AuditList {
            entries: told.collect(),
            oldest_serial: self.entries.front().map_or(self.next_serial, |entry| entry.serial),
        }
    }

    fn entry(&mut self, serial: u64) -> Option<&mut AuditEntry> {
        let index = self.entries.binary_search_by_key(&serial, |entry| entry.serial).ok()?;
        self.entries.get_mut(index)
    }

    fn complete(&mut self, serial: u64, rulings: Vec<AuditRuling>, answer: AuditAnswer) {
        if let Some(entry) = self.entry(serial) {
            (entry.rulings, entry.answer) = (rulings, Some(answer));
        }
    }

    fn keep(&mut self, entry: AuditEntry) {
        // Numbers only go up; a file that says otherwise is not to break the search.
        if self.entries.back().is_none_or(|last| last.serial < entry.serial) {
            self.entries.push_back(entry);
        }
        if self.entries.len() > ENTRIES_KEPT {
            self.entries.pop_front();
        }
    }

    fn write(&mut self, line: &Line) -> io::Result<()> {
        let json = serde_json::to_string(line)?;
        let bytes = format!("{:08x} {json}\n", crc32c::crc32c(json.as_bytes())).into_bytes();
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if self.file_bytes > 0 && self.file_bytes + length > self.file_bytes_max {
            self.rotate()?;
        }
        self.file.write_all(&bytes)?;
        self.file_bytes += length;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file.sync_all()?;
        let numbered = |number: u32| self.directory.join(format!("audit.{number}"));
        for number in (1..FILES_KEPT).rev() {
            match std::fs::rename(numbered(number), numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let path = self.directory.join("audit");
        std::fs::rename(&path, numbered(1))?;
        self.file = OpenOptions::new().create(true).append(true).open(path)?;
        self.file_bytes = 0;
        Ok(())
    }
}

fn parse(line: &[u8]) -> Option<Line> {
    let (crc, json) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    let sound = u32::from_str_radix(crc, 16).ok() == Some(crc32c::crc32c(json.as_bytes()));
    sound.then(|| serde_json::from_str(json).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use vfiomux_rpc::Role;

    use super::*;

    fn entry(tenant: Option<&str>) -> AuditEntry {
        AuditEntry {
            serial: 0,
            asked_unix_ns: 7,
            uid: 1000,
            gid: 100,
            pid: 42,
            role: Role::Operate,
            plugin: None,
            confined_to: Vec::new(),
            request_id: None,
            method: "channel.destroy".into(),
            params: Some(json!({ "name": "disk" })),
            object: Some("channel disk".into()),
            tenant: tenant.map(str::to_owned),
            dry_run: false,
            generation_before: Some(3),
            rulings: Vec::new(),
            answer: None,
        }
    }

    fn answer(error: Option<&str>) -> AuditAnswer {
        AuditAnswer { answered_unix_ns: 9, error: error.map(str::to_owned), generation_after: None }
    }

    fn ruling(policy: &str) -> AuditRuling {
        AuditRuling { policy: policy.into(), verdict: "deny".into(), reason: Some("no".into()), took_ns: 1 }
    }

    fn all() -> View {
        View::of_host(Role::Admin)
    }

    #[test]
    fn what_was_recorded_is_there_after_a_restart_with_what_was_left_unanswered() {
        let directory = tempfile::tempdir().unwrap();
        let mut audit = Audit::open(directory.path()).unwrap();
        let first = audit.asked(entry(Some("acme"))).unwrap();
        audit.ruled(first, [ruling("default")]);
        audit.answered(first, answer(Some("the policy denies it: no"))).unwrap();
        let cut_short = audit.asked(entry(None)).unwrap();
        let before = audit.list(0, 10, &all());
        drop(audit);
        let mut audit = Audit::open(directory.path()).unwrap();
        assert_eq!(audit.list(0, 10, &all()), before);
        assert_eq!(before.entries[0].rulings, [ruling("default")]);
        assert_eq!(before.entries[1].answer, None);
        assert_eq!(audit.asked(entry(None)).unwrap(), cut_short + 1);
    }

    /// C5: entries about another tenant's objects, and about the host's, are the host's to see.
    #[test]
    fn a_tenant_is_shown_the_changes_of_its_own_objects() {
        let directory = tempfile::tempdir().unwrap();
        let mut audit = Audit::open(directory.path()).unwrap();
        for tenant in [Some("acme"), Some("beta"), None] {
            audit.asked(entry(tenant)).unwrap();
        }
        let view = View::of_host(Role::Admin).confined_to("beta");
        let told = audit.list(0, 10, &view).entries;
        let told: Vec<_> = told.iter().map(|entry| (entry.serial, entry.params.clone())).collect();
        // What the host's people asked for may name devices and endpoints.
        assert_eq!(told, [(2, None)]);
    }

    #[test]
    fn a_full_file_makes_way_and_a_torn_or_damaged_line_costs_only_itself() {
        let directory = tempfile::tempdir().unwrap();
        let mut audit = Audit::open_with(directory.path(), 1000).unwrap();
        for _ in 0..40 {
            let serial = audit.asked(entry(None)).unwrap();
            audit.answered(serial, answer(None)).unwrap();
        }
        drop(audit);
        let files = std::fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(files, 1 + FILES_KEPT as usize);
        let path = directory.path().join("audit");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[12] ^= 1;
        bytes.truncate(bytes.len() - 3);
        std::fs::write(&path, bytes).unwrap();
        let mut audit = Audit::open_with(directory.path(), 1000).unwrap();
        assert!((1..=2).contains(&audit.damaged_lines()));
        let serial = audit.asked(entry(None)).unwrap();
        drop(audit);
        let audit = Audit::open_with(directory.path(), 1000).unwrap();
        assert_eq!(audit.list(serial - 1, 10, &all()).entries.len(), 1);
    }
}
