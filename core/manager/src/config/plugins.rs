use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use vfiomux_policy::NAME_BYTES_MAX;

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
}

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
        let relative = std::iter::once(&self.library).chain(&self.config).find(|path| !path.is_absolute());
        relative.map(|path| format!("{} is no absolute path", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_plugin_is_said_before_it_is_loaded() {
        let good = Plugin { name: "quota-2".into(), library: "/l.so".into(), config: None, order: -1 };
        assert_eq!(good.complaint(), None);
        for name in ["", "Quota", "a b", "../quota", &"a".repeat(64)] {
            let wrong = Plugin { name: name.to_owned(), ..good.clone() };
            assert!(wrong.complaint().unwrap().contains("small letters"), "{name}");
        }
        let relative = Plugin { config: Some("quota.toml".into()), ..good };
        assert_eq!(relative.complaint().unwrap(), "quota.toml is no absolute path");
    }
}
