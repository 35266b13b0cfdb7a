//! Scatter-gather descriptors (NVMe 2.0c 4.1.2).

use bitfield_struct::bitfield;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::queue::SubmissionEntry;

/// One descriptor: where, how long, and what kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(16))]
pub struct SglDescriptor {
    /// Where the data, or the next segment, is.
    pub address: U64,
    /// Bytes of data, or of descriptors in the next segment.
    pub length: U32,
    /// Zero.
    pub reserved: [u8; 3],
    /// [`SglIdentifier`].
    pub identifier: u8,
}

/// Last byte of a descriptor (NVMe 2.0c 4.1.2, figure 89).
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct SglIdentifier {
    /// Sub type: 0 when `address` is an address.
    #[bits(4)]
    pub subtype: u8,
    /// Type: one of the `TYPE_` constants.
    #[bits(4)]
    pub kind: u8,
}

/// A run of data.
pub const TYPE_DATA_BLOCK: u8 = 0;
/// Data read from the device that nobody wants.
pub const TYPE_BIT_BUCKET: u8 = 1;
/// The next segment, itself followed by another.
pub const TYPE_SEGMENT: u8 = 2;
/// The next and last segment.
pub const TYPE_LAST_SEGMENT: u8 = 3;

/// Bytes of a descriptor.
pub const DESCRIPTOR_BYTES: usize = 16;

const _: () = assert!(size_of::<SglDescriptor>() == DESCRIPTOR_BYTES);

impl SglDescriptor {
    const fn new(kind: u8, address: u64, length: u32) -> Self {
        Self {
            address: U64::new(address),
            length: U32::new(length),
            reserved: [0; 3],
            identifier: SglIdentifier::new().with_kind(kind).into_bits(),
        }
    }

    /// A run of `length_bytes` of data at `address`.
    pub const fn data_block(address: u64, length_bytes: u32) -> Self {
        Self::new(TYPE_DATA_BLOCK, address, length_bytes)
    }

    /// Points at a segment whose own last descriptor points at another.
    pub const fn segment(address: u64, length_bytes: u32) -> Self {
        Self::new(TYPE_SEGMENT, address, length_bytes)
    }

    /// Points at the last segment, of which every descriptor is data.
    pub const fn last_segment(address: u64, length_bytes: u32) -> Self {
        Self::new(TYPE_LAST_SEGMENT, address, length_bytes)
    }

    /// Type and sub type.
    pub const fn identifier(&self) -> SglIdentifier {
        SglIdentifier::from_bits(self.identifier)
    }

    /// The descriptor that a command carries in its data pointer.
    pub fn of_command(entry: &SubmissionEntry) -> Self {
        let [l0, l1, l2, l3, r0, r1, r2, identifier] = entry.prp2.get().to_le_bytes();
        Self {
            address: entry.prp1,
            length: U32::from_bytes([l0, l1, l2, l3]),
            reserved: [r0, r1, r2],
            identifier,
        }
    }

    /// Puts the descriptor into a command's data pointer. The command's flags must say [`super::queue::PSDT_SGL`].
    pub fn put_into(&self, entry: &mut SubmissionEntry) {
        let [l0, l1, l2, l3] = self.length.to_bytes();
        let [r0, r1, r2] = self.reserved;
        entry.prp1 = self.address;
        entry.prp2 = U64::from_bytes([l0, l1, l2, l3, r0, r1, r2, self.identifier]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_is_in_the_high_half_of_the_last_byte() {
        let descriptor = SglDescriptor::last_segment(0x1000, 0x30);
        assert_eq!(descriptor.as_bytes(), [0, 0x10, 0, 0, 0, 0, 0, 0, 0x30, 0, 0, 0, 0, 0, 0, 0x30]);
    }

    #[test]
    fn a_command_gives_back_the_descriptor_it_was_given() {
        let descriptor = SglDescriptor::data_block(0x1234_5678_9abc, 0xdead_beec);
        let mut entry = SubmissionEntry::default();
        descriptor.put_into(&mut entry);
        assert_eq!(SglDescriptor::of_command(&entry), descriptor);
    }
}
