use std::fmt;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use vfiomux_rpc::SidecoreMode;

use super::Balance;

/// The polling threads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sidecores {
    /// Processors to pin them to, one thread each; empty for one thread that is not pinned.
    pub cpus: Vec<SidecoreCpu>,
    /// What those do that have no mode of their own.
    pub mode: SidecoreMode,
    /// How long an adaptive sidecore spins at most before it sleeps, microseconds.
    pub spin_us: u32,
    /// When channels are moved between them.
    pub balance: Balance,
}

impl Default for Sidecores {
    fn default() -> Self {
        Self { cpus: Vec::new(), mode: SidecoreMode::Adaptive, spin_us: 50, balance: Balance::default() }
    }
}

impl Sidecores {
    /// Processor and mode of each sidecore, by its number.
    #[must_use]
    pub fn threads(&self) -> Vec<(Option<u32>, SidecoreMode)> {
        match self.cpus.as_slice() {
            [] => vec![(None, self.mode)],
            cpus => cpus.iter().map(|own| (Some(own.cpu), own.mode.unwrap_or(self.mode))).collect(),
        }
    }
}

/// A processor for a sidecore, with a mode of its own or without: `3`, `3:event`. Written alike on the command line and in the
/// configuration file, where a bare number may stand without quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SidecoreCpu {
    /// The processor, as the kernel counts them.
    pub cpu: u32,
    /// Its sidecore's mode; without one, that of all.
    pub mode: Option<SidecoreMode>,
}

/// What is no processor of a sidecore's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SidecoreCpuError {
    /// The part before the colon.
    #[error("{0:?} is no processor; write its number, as in 3 or 3:event")]
    Cpu(String),
    /// The part behind it.
    #[error(transparent)]
    Mode(#[from] ModeError),
}

/// What is no mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no mode; write poll, adaptive or event")]
pub struct ModeError(String);

/// Reads a mode by its name.
pub fn parse_mode(text: &str) -> Result<SidecoreMode, ModeError> {
    let modes = [SidecoreMode::Poll, SidecoreMode::Adaptive, SidecoreMode::Event];
    modes.into_iter().find(|mode| mode.name() == text).ok_or_else(|| ModeError(text.to_owned()))
}

impl FromStr for SidecoreCpu {
    type Err = SidecoreCpuError;

    fn from_str(text: &str) -> Result<Self, SidecoreCpuError> {
        let (cpu, mode) = text.split_once(':').map_or((text, None), |(cpu, mode)| (cpu, Some(mode)));
        let cpu = cpu.parse().map_err(|_| SidecoreCpuError::Cpu(cpu.to_owned()))?;
        Ok(Self { cpu, mode: mode.map(parse_mode).transpose()? })
    }
}

impl fmt::Display for SidecoreCpu {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mode {
            None => write!(formatter, "{}", self.cpu),
            Some(mode) => write!(formatter, "{}:{}", self.cpu, mode.name()),
        }
    }
}

impl Serialize for SidecoreCpu {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.mode {
            None => serializer.serialize_u32(self.cpu),
            Some(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for SidecoreCpu {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberOrText)
    }
}

struct NumberOrText;

impl Visitor<'_> for NumberOrText {
    type Value = SidecoreCpu;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a processor, as in 3 or \"3:event\"")
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<SidecoreCpu, E> {
        let cpu =
            u32::try_from(number).map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &self))?;
        Ok(SidecoreCpu { cpu, mode: None })
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<SidecoreCpu, E> {
        let cpu =
            u32::try_from(number).map_err(|_| E::invalid_value(de::Unexpected::Unsigned(number), &self))?;
        Ok(SidecoreCpu { cpu, mode: None })
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<SidecoreCpu, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(text: &str) -> Result<SidecoreCpu, String> {
        text.parse().map_err(|error: SidecoreCpuError| error.to_string())
    }

    #[test]
    fn a_processor_may_have_a_mode_of_its_own() {
        assert_eq!(cpu("3"), Ok(SidecoreCpu { cpu: 3, mode: None }));
        assert_eq!(cpu("3:event"), Ok(SidecoreCpu { cpu: 3, mode: Some(SidecoreMode::Event) }));
        for text in ["3", "0:poll", "12:adaptive"] {
            assert_eq!(cpu(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_wrong_says_what_to_write() {
        assert_eq!(cpu("x"), Err("\"x\" is no processor; write its number, as in 3 or 3:event".into()));
        assert_eq!(cpu("-1"), Err("\"-1\" is no processor; write its number, as in 3 or 3:event".into()));
        assert_eq!(cpu("1:"), Err("\"\" is no mode; write poll, adaptive or event".into()));
        assert_eq!(cpu("1:fast"), Err("\"fast\" is no mode; write poll, adaptive or event".into()));
    }

    #[test]
    fn a_sidecore_without_a_mode_of_its_own_has_that_of_all() {
        let cpus = vec![cpu("1").unwrap(), cpu("3:event").unwrap()];
        let sidecores = Sidecores { cpus, mode: SidecoreMode::Poll, ..Sidecores::default() };
        assert_eq!(sidecores.threads(), [(Some(1), SidecoreMode::Poll), (Some(3), SidecoreMode::Event)]);
        assert_eq!(Sidecores::default().threads(), [(None, SidecoreMode::Adaptive)]);
    }
}
