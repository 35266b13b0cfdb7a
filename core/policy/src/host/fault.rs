use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

/// What a plugin's host did that it must not, as a phrase that goes on from its name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostFault {
    /// It could not be started.
    #[error("cannot be started: {why}")]
    Spawn {
        /// Why.
        why: String,
    },
    /// It refused the library or the configuration. Starting it again would change nothing.
    #[error("cannot be used: {why}")]
    Refused {
        /// Why.
        why: String,
    },
    /// It did not answer in time.
    #[error("gave no answer to {question} within {} ms", .deadline.as_millis())]
    Late {
        /// What it was asked.
        question: &'static str,
        /// How long it had.
        deadline: Duration,
    },
    /// It ended.
    #[error("{how}{}", said(.last_words))]
    Died {
        /// How, as a phrase.
        how: String,
        /// The last that it wrote to its standard error.
        last_words: String,
    },
    /// What it answered is no answer.
    #[error("gave an answer that is none: {what}")]
    Garbage {
        /// What it was, as a phrase.
        what: String,
    },
    /// It spoke without having been asked.
    #[error("spoke without having been asked")]
    Unasked,
}

impl HostFault {
    /// Its kind, in one word.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Spawn { .. } => "spawn",
            Self::Refused { .. } => "refused",
            Self::Late { .. } => "late",
            Self::Died { .. } => "died",
            Self::Garbage { .. } => "garbage",
            Self::Unasked => "unasked",
        }
    }

    /// Whether starting it again may help.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        !matches!(self, Self::Refused { .. })
    }
}

fn said(last_words: &str) -> String {
    if last_words.is_empty() { String::new() } else { format!("; it said: {last_words}") }
}

/// How a process ended, as a phrase that goes on from its name.
pub(super) fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(signal)) => match signal_name(signal) {
            Some(name) => format!("was killed by {name}"),
            None => format!("was killed by signal {signal}"),
        },
        (None, None) => "ended".to_owned(),
    }
}

/// The signals that a process brings upon itself, with the numbers that they have on every Linux that we run on.
fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_as_people_know_it() {
        assert_eq!(how(ExitStatus::from_raw(11)), "was killed by SIGSEGV");
        assert_eq!(how(ExitStatus::from_raw(3 << 8)), "exited with status 3");
        assert_eq!(how(ExitStatus::from_raw(64)), "was killed by signal 64");
        let died = HostFault::Died {
            how: "was killed by SIGABRT".to_owned(),
            last_words: "out of memory".to_owned(),
        };
        assert_eq!(died.to_string(), "was killed by SIGABRT; it said: out of memory");
    }
}
