use serde::{Deserialize, Deserializer, de};

/// A number of bytes, written as one or with a unit: `"64GiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capacity {
    pub(crate) bytes: u64,
}

const UNITS: [(&str, u64); 5] =
    [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40), ("B", 1)];

impl Capacity {
    fn parse(text: &str) -> Option<Self> {
        let (number, unit) = UNITS
            .iter()
            .find_map(|&(name, unit)| Some((text.strip_suffix(name)?, unit)))
            .unwrap_or((text, 1));
        number.trim().parse::<u64>().ok()?.checked_mul(unit).map(|bytes| Self { bytes })
    }
}

impl<'de> Deserialize<'de> for Capacity {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Bytes(u64),
            Text(String),
        }
        match Written::deserialize(from)? {
            Written::Bytes(bytes) => Ok(Self { bytes }),
            Written::Text(text) => Self::parse(&text)
                .ok_or_else(|| de::Error::custom(format!("{text:?} is no size, such as \"64GiB\""))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [("4KiB", 4096), ("1 GiB", 1 << 30), ("7", 7), ("7B", 7), ("2TiB", 2 << 40)] {
            assert_eq!(Capacity::parse(text), Some(Capacity { bytes }), "{text}");
        }
        for text in ["", "GiB", "1GB", "-1KiB", "99999999999TiB"] {
            assert_eq!(Capacity::parse(text), None, "{text}");
        }
    }
}
