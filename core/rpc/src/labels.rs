use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an operator writes on a channel, for policies and people to read; the daemon gives it no meaning.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Labels(pub BTreeMap<String, String>);

/// Why labels are not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelsError {
    /// Too many.
    #[error("{count} labels are more than the {} that a channel can have", Labels::COUNT_MAX)]
    Count {
        /// So many were given.
        count: usize,
    },
    /// A key.
    #[error(
        "a label's key has small letters, digits, hyphens and dots, and from 1 to {} of them: not {key:?}",
        Labels::KEY_BYTES_MAX
    )]
    Key {
        /// As given.
        key: String,
    },
    /// A value.
    #[error(
        "a label's value has at most {} bytes and no control characters, which that of {key} does not keep to",
        Labels::VALUE_BYTES_MAX
    )]
    Value {
        /// Whose value.
        key: String,
    },
}

impl Labels {
    /// Most labels of a channel.
    pub const COUNT_MAX: usize = 32;
    /// Longest key, bytes.
    pub const KEY_BYTES_MAX: usize = 63;
    /// Longest value, bytes.
    pub const VALUE_BYTES_MAX: usize = 255;

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a channel can have them.
    ///
    /// # Errors
    /// The first rule that is not kept.
    pub fn check(&self) -> Result<(), LabelsError> {
        if self.0.len() > Self::COUNT_MAX {
            return Err(LabelsError::Count { count: self.0.len() });
        }
        let plain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
        for (key, value) in &self.0 {
            if key.is_empty() || key.len() > Self::KEY_BYTES_MAX || !key.bytes().all(plain) {
                return Err(LabelsError::Key { key: key.clone() });
            }
            if value.len() > Self::VALUE_BYTES_MAX || value.chars().any(char::is_control) {
                return Err(LabelsError::Value { key: key.clone() });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(key: &str, value: &str) -> Labels {
        Labels([(key.to_owned(), value.to_owned())].into())
    }

    #[test]
    fn plain_labels_are_taken() {
        assert_eq!(Labels::default().check(), Ok(()));
        assert_eq!(labels("tier", "gold").check(), Ok(()));
        assert_eq!(labels("example.org-cost", "Größe 3/4").check(), Ok(()));
    }

    #[test]
    fn what_could_be_mistaken_is_refused() {
        for key in ["", "Tier", "a b", "a=b", &"k".repeat(64)] {
            assert_eq!(labels(key, "v").check(), Err(LabelsError::Key { key: key.to_owned() }));
        }
        for value in ["a\nb", &"v".repeat(256)] {
            assert_eq!(labels("k", value).check(), Err(LabelsError::Value { key: "k".to_owned() }));
        }
        let many = Labels((0..33).map(|n| (n.to_string(), String::new())).collect());
        assert_eq!(many.check(), Err(LabelsError::Count { count: 33 }));
    }
}
