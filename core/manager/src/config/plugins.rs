use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use vfiomux_policy::{Deadlines, NAME_BYTES_MAX};

/// A policy plugin that is to be loaded: of the configuration file, or of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plugin {
    /// What operators call it.
    pub name: String,
    /// The shared library.
    pub library: PathBuf,
    /// The file that it is given to read when it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<PathBuf>,
    /// Those of a lower order are asked before it.
    #[serde(default)]
    pub order: i32,
    /// How long it may take to answer whatever it is asked or told, 1 to 60000 ms. [`Deadlines::default`] when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
}

/// The longest that a plugin may be given. Plugins are asked one after the other, whoever waits for the answer: one that takes so long holds up all of them.
const DEADLINE_MS_MAX: u64 = 60_000;

impl Plugin {
    /// What is wrong with it, before anything is loaded.
    #[must_use]
    pub fn complaint(&self) -> Option<String> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if self.name.is_empty() || self.name.len() > NAME_BYTES_MAX || !self.name.bytes().all(plain) {
            return Some(format!(
                "a plugin's name has small letters, digits and hyphens, and at most {NAME_BYTES_MAX} of them"
            ));
        }
        if self.deadline_ms.is_some_and(|deadline| !(1..=DEADLINE_MS_MAX).contains(&deadline)) {
            return Some(format!("a plugin's deadline is 1 to {DEADLINE_MS_MAX} ms"));
        }
        let relative = std::iter::once(&self.library).chain(&self.config).find(|path| !path.is_absolute());
        relative.map(|path| format!("{} is no absolute path", path.display()))
    }

    /// How long it may take to answer.
    #[must_use]
    pub fn deadlines(&self) -> Deadlines {
        self.deadline_ms.map_or_else(Deadlines::default, |ms| Deadlines::all(Duration::from_millis(ms)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_plugin_is_said_before_it_is_loaded() {
        let good = Plugin {
            name: "quota-2".into(),
            library: "/l.so".into(),
            config: None,
            order: -1,
            deadline_ms: Some(60_000),
        };
        assert_eq!(good.complaint(), None);
        for name in ["", "Quota", "a b", "../quota", &"a".repeat(64)] {
            let wrong = Plugin { name: name.to_owned(), ..good.clone() };
            assert!(wrong.complaint().unwrap().contains("small letters"), "{name}");
        }
        for deadline_ms in [0, 60_001] {
            let wrong = Plugin { deadline_ms: Some(deadline_ms), ..good.clone() };
            assert_eq!(wrong.complaint().unwrap(), "a plugin's deadline is 1 to 60000 ms");
        }
        let relative = Plugin { config: Some("quota.toml".into()), ..good };
        assert_eq!(relative.complaint().unwrap(), "quota.toml is no absolute path");
    }
}
