//! Addresses that must not be mistaken for one another.

use std::fmt;
use std::str::FromStr;

/// An address in an I/O address space: what a device puts on the bus, and the IOMMU translates.
///
/// Neither a guest address nor a host pointer, and never converted to either.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Iova(pub u64);

impl Iova {
    /// The address `bytes` further on. Mappings never reach the end of the 64-bit space, so an address inside one cannot wrap.
    #[must_use]
    pub const fn plus(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }

    /// The plain number, for the wire.
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for Iova {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Iova({:#x})", self.0)
    }
}

impl fmt::Display for Iova {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Where a function sits: segment, bus, device, function, written `0000:03:00.0`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    /// PCI segment group ("domain").
    pub segment: u16,
    /// Bus number.
    pub bus: u8,
    /// Device number, 0 to 31.
    pub device: u8,
    /// Function number, 0 to 7.
    pub function: u8,
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{:x}", self.segment, self.bus, self.device, self.function)
    }
}

impl fmt::Debug for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no PCI address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a PCI address; write it like 0000:03:00.0, as lspci -D and vfiomuxctl device list show it"
)]
pub struct ParseAddressError(String);

impl FromStr for PciAddress {
    type Err = ParseAddressError;

    /// Reads `SSSS:BB:DD.F` or, for segment 0, `BB:DD.F`. All numbers are hexadecimal.
    fn from_str(text: &str) -> Result<Self, ParseAddressError> {
        let parse = || {
            let (rest, function) = text.rsplit_once('.')?;
            let mut fields = rest.rsplit(':');
            let (device, bus) = (fields.next()?, fields.next()?);
            let segment = fields.next().unwrap_or("0");
            let hex = |field: &str, digits: usize| {
                let plain = !field.is_empty()
                    && field.len() <= digits
                    && field.bytes().all(|b| b.is_ascii_hexdigit());
                plain.then(|| u16::from_str_radix(field, 16).ok()).flatten()
            };
            let narrow = |value: u16, limit: u16| u8::try_from(value).ok().filter(|_| value < limit);
            let address = Self {
                segment: hex(segment, 4)?,
                bus: narrow(hex(bus, 2)?, 256)?,
                device: narrow(hex(device, 2)?, 32)?,
                function: narrow(hex(function, 1)?, 8)?,
            };
            fields.next().is_none().then_some(address)
        };
        parse().ok_or_else(|| ParseAddressError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_and_a_short_address_read_the_same() {
        let full: PciAddress = "0000:3b:1f.7".parse().unwrap();
        assert_eq!(full, "3b:1f.7".parse().unwrap());
        assert_eq!(full.to_string(), "0000:3b:1f.7");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "3b",
            "3b:00",
            "3b:20.0",
            "3b:00.8",
            "0:0:3b:00.0",
            "+1:00.0",
            "zz:00.0",
            "10000:00:00.0",
            "0000:100:00.0",
        ] {
            assert!(text.parse::<PciAddress>().is_err(), "{text:?} was taken");
        }
    }
}
