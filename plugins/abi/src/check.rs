#![expect(unsafe_code, reason = "reads the table that a plugin exports")]

use core::mem::{MaybeUninit, offset_of, size_of};
use core::{fmt, ptr};

use crate::Policy;

/// The symbol that a plugin exports, a static [`Policy`], with the NUL that `dlsym` wants.
pub const SYMBOL: &[u8] = b"vfiomux_policy_v1\0";
/// The first field of a [`Policy`]: `vfiomuxP` in memory on a little-endian host.
pub const MAGIC: u64 = 0x5078_756D_6F69_6676;
/// Changes with what no older plugin or host can understand.
pub const MAJOR: u32 = 1;
/// Changes with what is added. 1: `save` and `restore`.
pub const MINOR: u32 = 1;
/// What every plugin of this major has of a [`Policy`]: that of minor 0.
pub const SIZE_MIN_BYTES: usize = offset_of!(Policy, save);

/// Why a library is not a plugin that this host can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The magic is another.
    Magic {
        /// What stands there.
        found: u64,
    },
    /// The major version is another.
    Major {
        /// The plugin's.
        found: u32,
    },
    /// The table is smaller than any plugin's of this major.
    Size {
        /// What the plugin says.
        found_bytes: u32,
    },
    /// The symbol's address cannot be that of a table.
    Address,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Magic { found } => write!(
                f,
                "its vfiomux_policy_v1 begins with {found:#018x} and not with the magic {MAGIC:#018x}: it is no policy \
                 table; build the plugin against vfiomux_policy.h"
            ),
            Self::Major { found } => write!(
                f,
                "it speaks major version {found} of the plugin ABI, and this host speaks {MAJOR}; build it against this \
                 host's vfiomux_policy.h"
            ),
            Self::Size { found_bytes } => write!(
                f,
                "its policy table says it is {found_bytes} bytes, and the least that major version {MAJOR} has is \
                 {SIZE_MIN_BYTES}; set struct_size to sizeof(struct vfiomux_policy)"
            ),
            Self::Address => write!(f, "its vfiomux_policy_v1 is at an address where no table can be"),
        }
    }
}

impl core::error::Error for Refusal {}

/// Whether a plugin with this header can run here. An older and a newer minor can.
///
/// # Errors
/// [`Refusal`], which says what is wrong with it.
pub const fn check(magic: u64, major: u32, _minor: u32, struct_size: u32) -> Result<(), Refusal> {
    if magic != MAGIC {
        return Err(Refusal::Magic { found: magic });
    }
    if major != MAJOR {
        return Err(Refusal::Major { found: major });
    }
    if (struct_size as usize) < SIZE_MIN_BYTES {
        return Err(Refusal::Size { found_bytes: struct_size });
    }
    Ok(())
}

/// Copies what both sides know of a plugin's table; hooks that the plugin does not know are null.
///
/// # Errors
/// [`Refusal`]. Nothing behind the header is read then.
///
/// # Safety
/// Unless it is null, `table` is the address of a plugin's symbol [`SYMBOL`]: the header can be read, and if [`check()`] allows
/// it, so can as many bytes as it says.
pub unsafe fn read_policy(table: *const Policy) -> Result<Policy, Refusal> {
    if table.is_null() || !table.is_aligned() {
        return Err(Refusal::Address);
    }
    // SAFETY: the address is that of a table, whose header can be read; no reference to it is made.
    let (magic, major, minor, struct_size) =
        unsafe { ((*table).magic, (*table).major, (*table).minor, (*table).struct_size) };
    check(magic, major, minor, struct_size)?;
    let mut copy = MaybeUninit::<Policy>::zeroed();
    // SAFETY: as many bytes are read as the header says at most, and written as a `Policy` has at most; zeroes are a null
    // hook, an empty text or a number in each field, so all of it is initialised.
    unsafe {
        let known = (struct_size as usize).min(size_of::<Policy>());
        ptr::copy_nonoverlapping(table.cast::<u8>(), copy.as_mut_ptr().cast(), known);
        Ok(copy.assume_init())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u32 = size_of::<Policy>() as u32;

    #[test]
    fn minors_are_compatible_and_majors_are_not() {
        for minor in [0, MINOR, MINOR + 1, u32::MAX] {
            assert_eq!(check(MAGIC, MAJOR, minor, SIZE), Ok(()));
        }
        for major in [0, MAJOR + 1, u32::MAX] {
            assert_eq!(check(MAGIC, major, MINOR, SIZE), Err(Refusal::Major { found: major }));
        }
    }

    #[test]
    fn a_table_has_all_that_minor_0_has() {
        let least = SIZE_MIN_BYTES as u32;
        assert_eq!(check(MAGIC, MAJOR, 0, least), Ok(()));
        assert_eq!(check(MAGIC, MAJOR, 0, least - 1), Err(Refusal::Size { found_bytes: least - 1 }));
        assert_eq!(check(MAGIC, MAJOR, 9, u32::MAX), Ok(()), "a newer one may be of any size");
    }

    #[test]
    fn the_magic_is_looked_at_first() {
        assert_eq!(check(0, 9, 9, 0), Err(Refusal::Magic { found: 0 }));
        assert_eq!(&MAGIC.to_le_bytes(), b"vfiomuxP");
    }

    #[test]
    fn no_address_is_no_table() {
        // SAFETY: null and a misaligned address are not followed.
        let refusals = unsafe { [read_policy(ptr::null()), read_policy(ptr::without_provenance(3))] };
        assert!(refusals.iter().all(|refusal| matches!(refusal, Err(Refusal::Address))));
    }
}
