//! The label: how a device carries its own carving.
//!
//! Each namespace begins with two areas of [`COPY_BYTES`]. A new label goes to the area that holds the older one, with a
//! generation one higher, and is flushed before anything depends on it; so at any instant one area holds a whole label.
//! Reading takes the valid copy with the highest generation.
//!
//! ```text
//!   byte 0        magic "VFIOMUX-LABEL\0\0\x01"        16 bytes
//!        16       generation                            u64 LE
//!        24       length of the body, bytes             u64 LE
//!        32       CRC32C of bytes 0..32 and the body    u32 LE
//!        36       zero                                  up to 4096
//!      4096       body: JSON of `Label`
//! ```

use serde::{Deserialize, Serialize};

use crate::extent::Extent;

/// Size of one of the two areas, bytes.
pub const COPY_BYTES: usize = 1 << 20;
/// Where the blocks for channels begin, bytes: both areas, and room to grow.
pub const DATA_START_BYTES: u64 = 4 << 20;
/// Extents begin and end on multiples of this, bytes.
pub const GRAIN_BYTES: u64 = 1 << 20;

const MAGIC: [u8; 16] = *b"VFIOMUX-LABEL\0\0\x01";
const HEADER_BYTES: usize = 4096;
const CRC_AT: usize = 32;

/// The carving of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// Goes up by one with each write.
    #[serde(skip)]
    pub generation: u64,
    /// Made at format time; tells a device that came back from one like it.
    pub pool: String,
    /// Size of a block, bytes: a namespace formatted otherwise since is not the one that this label describes.
    pub block_bytes: u32,
    /// Size of the namespace, blocks.
    pub blocks: u64,
    /// Channels, in no order.
    pub channels: Vec<LabelledChannel>,
    /// Blocks that belong to nobody and hold somebody's data still: to be scrubbed before they are free.
    #[serde(default)]
    pub unscrubbed: Vec<Extent>,
}

/// A channel, as the device knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelledChannel {
    /// Never used again after the channel is destroyed.
    pub id: String,
    /// Name given by the operator.
    pub name: String,
    /// Whom it is accounted to.
    pub tenant: String,
    /// Size as the guest sees it, bytes.
    pub size_bytes: u64,
    /// Virtqueues.
    pub queues: u16,
    /// Guests may not write.
    #[serde(default)]
    pub read_only: bool,
    /// Its blocks, in the guest's order.
    pub extents: Vec<Extent>,
}

/// Why a label cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// Neither copy is a label of ours.
    #[error("there is no label")]
    None,
    /// Something of ours is there, and neither copy is whole.
    #[error(
        "the label is damaged: {0}; restore the first 2 MiB of the namespace from a backup, or give up its channels with vfiomuxctl device format DEVICE --erase"
    )]
    Damaged(String),
    /// The label has grown beyond its area.
    #[error(
        "the label would need {0} bytes and its area has {COPY_BYTES}; destroy channels, or use fewer, larger ones"
    )]
    TooLarge(usize),
}

impl Label {
    /// Which of the two areas this generation goes to, as an offset in bytes.
    #[must_use]
    pub fn offset_bytes(&self) -> usize {
        if self.generation.is_multiple_of(2) { 0 } else { COPY_BYTES }
    }

    /// The bytes to write, in whole multiples of 4096.
    pub fn encode(&self) -> Result<Vec<u8>, LabelError> {
        let body = serde_json::to_vec(self).map_err(|error| LabelError::Damaged(error.to_string()))?;
        let length = (HEADER_BYTES + body.len()).next_multiple_of(HEADER_BYTES);
        if length > COPY_BYTES {
            return Err(LabelError::TooLarge(length));
        }
        let mut bytes = vec![0; length];
        bytes[..16].copy_from_slice(&MAGIC);
        bytes[16..24].copy_from_slice(&self.generation.to_le_bytes());
        bytes[24..32].copy_from_slice(&(body.len() as u64).to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..CRC_AT]), &body);
        bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        bytes[HEADER_BYTES..HEADER_BYTES + body.len()].copy_from_slice(&body);
        Ok(bytes)
    }

    /// The newest valid label of the two areas at the beginning of a namespace.
    pub fn decode(areas: &[u8]) -> Result<Self, LabelError> {
        let copies = areas.chunks(COPY_BYTES).take(2).map(Self::decode_copy);
        let (mut newest, mut damage) = (None::<Self>, None);
        for copy in copies {
            match copy {
                Ok(label) if newest.as_ref().is_none_or(|best| best.generation < label.generation) => {
                    newest = Some(label)
                }
                Ok(_) | Err(LabelError::None) => {}
                Err(error) => damage = Some(error),
            }
        }
        newest.ok_or_else(|| damage.unwrap_or(LabelError::None))
    }

    fn decode_copy(copy: &[u8]) -> Result<Self, LabelError> {
        let damaged = |what: &str| LabelError::Damaged(what.to_owned());
        // The last byte of the magic is the version: another version is ours, and not to be overwritten unseen.
        let (magic, rest) = copy.split_at_checked(16).ok_or(LabelError::None)?;
        if magic[..15] != MAGIC[..15] {
            return Err(LabelError::None);
        }
        if magic[15] != MAGIC[15] {
            return Err(LabelError::Damaged(format!(
                "it has version {} and this program knows version {}",
                magic[15], MAGIC[15]
            )));
        }
        let word = |at: usize| rest.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
        let (generation, length) = word(0).zip(word(8)).ok_or_else(|| damaged("its header is cut short"))?;
        let crc = copy.get(CRC_AT..CRC_AT + 4).and_then(|crc| crc.try_into().ok()).map(u32::from_le_bytes);
        let body = usize::try_from(length).ok().and_then(|length| copy.get(HEADER_BYTES..)?.get(..length));
        let body = body.ok_or_else(|| damaged("its length is impossible"))?;
        if crc != Some(crc32c::crc32c_append(crc32c::crc32c(&copy[..CRC_AT]), body)) {
            return Err(damaged("its checksum does not match"));
        }
        let mut label: Self =
            serde_json::from_slice(body).map_err(|error| LabelError::Damaged(error.to_string()))?;
        label.generation = generation;
        Ok(label)
    }
}

mod edit;
#[cfg(test)]
mod tests;
