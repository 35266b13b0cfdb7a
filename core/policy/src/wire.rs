//! What daemon and plugin host say to each other over their socket.
//!
//! ```text
//!   text bytes u32 LE │ attachment bytes u32 LE │ text: JSON │ attachment: a plugin's saved state, mostly empty
//! ```
//!
//! The daemon asks ([`Asked`]), one question at a time, and the host answers each once, by its number ([`Told`]). The host never
//! speaks unasked: what a plugin wants to have logged comes with the next answer. Everything has a greatest size, and what is
//! larger, is not JSON, or answers another question makes the host a liar, which is the end of it.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use vfiomux_plugin_abi::{REASON_BYTES_MAX, STATE_BYTES_MAX};

use crate::{
    Attach, Claim, Create, Destroy, Discover, Fault, Hook, Migrate, Pressure, Retune, Session, Tick, Tune,
    Verdict,
};

/// Changes with every change of what is said. Daemon and host come from one build, and find out here when they do not.
pub const VERSION: u32 = 1;
/// Most bytes of a question's text: a tick of two thousand channels with many labels.
pub const QUESTION_BYTES_MAX: usize = 8 << 20;
/// Most bytes of an answer's text.
pub const ANSWER_BYTES_MAX: usize = 2 << 20;
/// Most bytes of an attachment: what a plugin may leave to its successor.
pub const ATTACHMENT_BYTES_MAX: usize = STATE_BYTES_MAX;
/// Most lines of log that come with one answer.
pub const LOG_LINES_MAX: usize = 32;
/// Most bytes of a line of log, and of any other phrase: as many as a reason may have.
pub const PHRASE_BYTES_MAX: usize = REASON_BYTES_MAX;
/// Most amendments, and most retunes, in one answer.
pub use vfiomux_plugin_abi::{AMENDMENTS_MAX, RETUNES_MAX};

const HEADER_BYTES: usize = 8;

/// Daemon to host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Number of the question.
    pub id: u64,
    /// The question.
    pub call: Call,
}

/// What a host can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// Begin. The first question, and asked once; the host has loaded the library and closed its sandbox when it answers.
    Init {
        /// [`VERSION`] of the daemon.
        version: u32,
        /// What the operator calls the instance.
        name: String,
        /// What the operator configured, for the plugin to read.
        configuration: String,
    },
    /// A question of the chain.
    Discover(Discover),
    /// A question of the chain.
    Claim(Claim),
    /// A question of the chain.
    Create(Create),
    /// A question of the chain.
    Attach(Attach),
    /// A question of the chain.
    Session(Session),
    /// A question of the chain.
    Tune(Box<Tune>),
    /// A question of the chain.
    Migrate(Migrate),
    /// A question of the chain.
    Destroy(Destroy),
    /// A report of the chain.
    Tick(Tick),
    /// A report of the chain.
    Pressure(Pressure),
    /// A report of the chain.
    Fault(Fault),
    /// What would a successor need? The state comes as the attachment.
    Save,
    /// Go on from a predecessor's state, which is the attachment.
    Restore,
}

/// Host to daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Number of the question.
    pub id: u64,
    /// The answer.
    pub reply: Reply,
    /// What the plugin wanted to have logged meanwhile.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<LogLine>,
    /// Lines that were too many.
    #[serde(default)]
    pub log_dropped: u64,
}

/// A host's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To [`Call::Init`]: the plugin has begun.
    Ready(About),
    /// To [`Call::Init`]: it cannot begin, and will not by being asked again. To [`Call::Restore`]: the state is of no use.
    Refused {
        /// Why, as a phrase.
        why: String,
    },
    /// To a question of the chain.
    Verdict(Verdict),
    /// To a tick or to pressure.
    Retunes(Vec<Retune>),
    /// To a fault.
    Fault {
        /// Shall the channel stay quarantined?
        verdict: Verdict,
        /// What is wanted of others.
        retunes: Vec<Retune>,
    },
    /// To [`Call::Save`], with the state as the attachment; or to [`Call::Restore`].
    Done,
    /// What the plugin answered is no answer.
    Garbage {
        /// What it was, as a phrase.
        what: String,
    },
}

/// What a plugin says of itself, and what its host did about it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// [`VERSION`] of the host.
    pub version: u32,
    /// What its author calls it.
    pub plugin: String,
    /// Its author's version of it.
    pub plugin_version: String,
    /// Version of the ABI that it was built against.
    pub abi: (u32, u32),
    /// The hooks that it has.
    pub hooks: Vec<Hook>,
    /// It can leave its state to a successor.
    pub saves: bool,
    /// It can go on from a predecessor's.
    pub restores: bool,
    /// What holds it: the layers of the sandbox that are in force.
    pub sandbox: Vec<String>,
}

/// A line for the daemon's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// How much it matters.
    pub level: LogLevel,
    /// The line.
    pub line: String,
}

/// How much a line of the log matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// Somebody must do something.
    Error,
    /// Somebody should look.
    Warn,
    /// Worth knowing.
    Info,
    /// For who writes the plugin.
    Debug,
}

/// Why bytes are no message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// Too long.
    #[error("a message of {bytes} bytes is longer than any may be ({bytes_max})")]
    TooLong {
        /// What it is, or says it is.
        bytes: usize,
        /// What it may be.
        bytes_max: usize,
    },
    /// Not one of ours.
    #[error("it is no message")]
    Json(#[source] serde_json::Error),
}

/// A message as bytes.
///
/// # Errors
/// It is longer than the other side would take.
pub fn encode(message: &impl Serialize, attachment: &[u8], text_max: usize) -> Result<Vec<u8>, WireError> {
    let mut bytes = vec![0; HEADER_BYTES];
    serde_json::to_writer(&mut bytes, message).map_err(WireError::Json)?;
    let text = length(bytes.len() - HEADER_BYTES, text_max)?;
    let attached = length(attachment.len(), ATTACHMENT_BYTES_MAX)?;
    let (header, _) = bytes.split_at_mut(HEADER_BYTES);
    header[..4].copy_from_slice(&text.to_le_bytes());
    header[4..].copy_from_slice(&attached.to_le_bytes());
    bytes.extend_from_slice(attachment);
    Ok(bytes)
}

fn length(bytes: usize, bytes_max: usize) -> Result<u32, WireError> {
    let fits = u32::try_from(bytes).ok().filter(|_| bytes <= bytes_max);
    fits.ok_or(WireError::TooLong { bytes, bytes_max })
}

/// Messages out of a stream of bytes, however it is cut.
#[derive(Debug)]
pub struct Decoder {
    pending: Vec<u8>,
    text_max: usize,
}

impl Decoder {
    /// For messages whose text is no longer than this.
    #[must_use]
    pub fn new(text_max: usize) -> Self {
        Self { pending: Vec::new(), text_max }
    }

    /// Takes what came. Who feeds asks for [`Decoder::message`] after each feed, so that no more is kept than one message and
    /// what came with its last bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// Whether nothing is left over.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// The next message and its attachment; none until all of it has come.
    ///
    /// # Errors
    /// What came is no message. Nothing sensible can follow.
    pub fn message<T: DeserializeOwned>(&mut self) -> Result<Option<(T, Vec<u8>)>, WireError> {
        let Some((header, rest)) = self.pending.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let [a, b, c, d, e, f, g, h] = *header;
        let text_bytes = bounded(u32::from_le_bytes([a, b, c, d]), self.text_max)?;
        let attached_bytes = bounded(u32::from_le_bytes([e, f, g, h]), ATTACHMENT_BYTES_MAX)?;
        let Some(text) = rest.get(..text_bytes) else { return Ok(None) };
        let Some(attachment) = rest.get(text_bytes..text_bytes + attached_bytes) else { return Ok(None) };
        let message = serde_json::from_slice(text).map_err(WireError::Json)?;
        let attachment = attachment.to_vec();
        self.pending.drain(..HEADER_BYTES + text_bytes + attached_bytes);
        Ok(Some((message, attachment)))
    }
}

fn bounded(bytes: u32, bytes_max: usize) -> Result<usize, WireError> {
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    if bytes > bytes_max { Err(WireError::TooLong { bytes, bytes_max }) } else { Ok(bytes) }
}

/// A phrase that came from elsewhere, fit for a line of a log: no control characters, and no longer than a phrase may be.
#[must_use]
pub fn phrase(text: &str) -> String {
    let mut clean = String::new();
    for character in text.chars().map(|character| if character.is_control() { ' ' } else { character }) {
        if clean.len() + character.len_utf8() > PHRASE_BYTES_MAX {
            break;
        }
        clean.push(character);
    }
    clean.truncate(clean.trim_end().len());
    clean
}

#[cfg(test)]
mod tests;
