//! Devices that the daemon plays itself, as they are written on the command line.

use std::str::FromStr;

use vfiomux_hw::HwError;
use vfiomux_manager::control::{LocalDevice, Opened, Opener};

/// A device to be played: `null:size=4G[,lba=512|4096]` or `ram:size=4G[,lba=512|4096]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LocalSpec {
    kind: Kind,
    size_bytes: u64,
    block_bytes: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Null,
    Ram,
}

/// Below this there is no room beside the label.
const SIZE_BYTES_MIN: u64 = 8 << 20;

impl FromStr for LocalSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, settings) = text.split_once(':').unwrap_or((text, ""));
        let kind = match kind {
            "null" => Kind::Null,
            "ram" => Kind::Ram,
            _ => return Err("there is no such device; write null:size=4G or ram:size=4G".to_owned()),
        };
        let (mut size_bytes, mut block_bytes) = (None, None);
        for setting in settings.split(',').filter(|setting| !setting.is_empty()) {
            let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
            let bad = |expected| format!("{key}={value} is not {expected}");
            let repeated = match key {
                "size" => size_bytes
                    .replace(vfiomux_sim::parse_size(value).ok_or_else(|| bad("a size like 512M or 4G"))?)
                    .is_some(),
                "lba" => {
                    let block = value.parse().ok().filter(|block| matches!(block, 512 | 4096));
                    block_bytes.replace(block.ok_or_else(|| bad("512 or 4096"))?).is_some()
                }
                _ => return Err(format!("there is no setting {key}; there are: size, lba")),
            };
            if repeated {
                return Err(format!("{key} is given twice; give it once"));
            }
        }
        let block_bytes = block_bytes.unwrap_or(512);
        let size_bytes = size_bytes.ok_or("its size is missing; write size=4G after the colon")?;
        if size_bytes < SIZE_BYTES_MIN || !size_bytes.is_multiple_of(u64::from(block_bytes)) {
            return Err(format!(
                "a size of {size_bytes} bytes is not whole blocks of {block_bytes}, 8M or more"
            ));
        }
        Ok(Self { kind, size_bytes, block_bytes })
    }
}

impl LocalSpec {
    /// Makes it.
    pub(crate) fn opener(self) -> Opener {
        let Self { kind, size_bytes, block_bytes } = self;
        Box::new(move || {
            let device = match kind {
                Kind::Null => LocalDevice::null(size_bytes, block_bytes),
                Kind::Ram => LocalDevice::ram(size_bytes, block_bytes).map_err(|error| {
                    HwError::Refused(format!("no memory for {size_bytes} bytes: {error}; ask for less"))
                })?,
            };
            Ok(Opened::Local(device))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        text.parse::<LocalSpec>().unwrap_err()
    }

    #[test]
    fn a_device_is_read_from_its_text() {
        let ram = LocalSpec { kind: Kind::Ram, size_bytes: 1 << 30, block_bytes: 512 };
        assert_eq!("ram:size=1G".parse(), Ok(ram));
        let null = LocalSpec { kind: Kind::Null, size_bytes: 64 << 20, block_bytes: 4096 };
        assert_eq!("null:lba=4096,size=64M".parse(), Ok(null));
    }

    #[test]
    fn what_cannot_be_read_says_what_would_be_good() {
        assert!(error("ram").contains("size=4G"));
        assert!(error("ram:size=12Q").contains("512M or 4G"));
        assert!(error("null:size=1G,lba=1024").contains("512 or 4096"));
        assert!(error("null:size=1G,siez=1").contains("there are: size, lba"));
        assert!(error("null:size=1G,size=1G").contains("twice"));
        assert!(error("null:size=4K").contains("8M or more"));
        assert!(error("null:size=8388609").contains("whole blocks"));
    }
}
