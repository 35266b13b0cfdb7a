//! Opcodes. Bits 1:0 of an opcode say which way its data goes (NVMe 2.0c 3.3.3.1).

/// An admin opcode (NVMe 2.0c 5, figure 138).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct AdminOpcode(pub u8);

/// An opcode of the NVM command set (NVM 1.0c 3.2).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct NvmOpcode(pub u8);

/// Which way a command's data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// No data.
    None,
    /// The controller reads host memory.
    HostToController,
    /// The controller writes host memory.
    ControllerToHost,
    /// Both ways.
    Bidirectional,
}

const fn transfer_of(opcode: u8) -> Transfer {
    match opcode & 3 {
        0 => Transfer::None,
        1 => Transfer::HostToController,
        2 => Transfer::ControllerToHost,
        _ => Transfer::Bidirectional,
    }
}

macro_rules! opcodes {
    ($type:ident { $($(#[$doc:meta])* $name:ident = $value:literal, $text:literal;)* }) => {
        impl $type {
            $($(#[$doc])* pub const $name: Self = Self($value);)*

            /// The standard's name of the opcode, or `None` when it is not one of those listed here.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some($text),)*
                    _ => None,
                }
            }

            /// Which way the command's data goes, by the opcode's two low bits.
            pub const fn transfer(self) -> Transfer {
                transfer_of(self.0)
            }
        }

        impl core::fmt::Debug for $type {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                core::fmt::Display::fmt(self, f)
            }
        }

        impl core::fmt::Display for $type {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, "opcode {:#04x}", self.0),
                }
            }
        }
    };
}

opcodes!(AdminOpcode {
    /// NVMe 2.0c 5.7.
    DELETE_IO_SQ = 0x00, "Delete I/O Submission Queue";
    /// NVMe 2.0c 5.5.
    CREATE_IO_SQ = 0x01, "Create I/O Submission Queue";
    /// NVMe 2.0c 5.16.
    GET_LOG_PAGE = 0x02, "Get Log Page";
    /// NVMe 2.0c 5.6.
    DELETE_IO_CQ = 0x04, "Delete I/O Completion Queue";
    /// NVMe 2.0c 5.4.
    CREATE_IO_CQ = 0x05, "Create I/O Completion Queue";
    /// NVMe 2.0c 5.17.
    IDENTIFY = 0x06, "Identify";
    /// NVMe 2.0c 5.1.
    ABORT = 0x08, "Abort";
    /// NVMe 2.0c 5.27.
    SET_FEATURES = 0x09, "Set Features";
    /// NVMe 2.0c 5.15.
    GET_FEATURES = 0x0a, "Get Features";
    /// NVMe 2.0c 5.2.
    ASYNC_EVENT_REQUEST = 0x0c, "Asynchronous Event Request";
    /// NVMe 2.0c 5.23.
    NAMESPACE_MANAGEMENT = 0x0d, "Namespace Management";
    /// NVMe 2.0c 5.20.
    NAMESPACE_ATTACHMENT = 0x15, "Namespace Attachment";
    /// NVMe 2.0c 5.18.
    KEEP_ALIVE = 0x18, "Keep Alive";
    /// NVMe 2.0c 5.14.
    FORMAT_NVM = 0x80, "Format NVM";
    /// NVMe 2.0c 5.24.
    SANITIZE = 0x84, "Sanitize";
});

opcodes!(NvmOpcode {
    /// NVMe 2.0c 7.1.
    FLUSH = 0x00, "Flush";
    /// NVM 1.0c 3.2.6.
    WRITE = 0x01, "Write";
    /// NVM 1.0c 3.2.4.
    READ = 0x02, "Read";
    /// NVM 1.0c 3.2.7.
    WRITE_UNCORRECTABLE = 0x04, "Write Uncorrectable";
    /// NVM 1.0c 3.2.1.
    COMPARE = 0x05, "Compare";
    /// NVM 1.0c 3.2.8.
    WRITE_ZEROES = 0x08, "Write Zeroes";
    /// NVM 1.0c 3.2.3.
    DATASET_MANAGEMENT = 0x09, "Dataset Management";
    /// NVM 1.0c 3.2.5.
    VERIFY = 0x0c, "Verify";
});

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::format;

    #[test]
    fn the_low_bits_give_the_direction() {
        assert_eq!(NvmOpcode::READ.transfer(), Transfer::ControllerToHost);
        assert_eq!(NvmOpcode::WRITE.transfer(), Transfer::HostToController);
        assert_eq!(NvmOpcode::FLUSH.transfer(), Transfer::None);
        assert_eq!(AdminOpcode::IDENTIFY.transfer(), Transfer::ControllerToHost);
    }

    #[test]
    fn an_unknown_opcode_prints_its_number() {
        assert_eq!(format!("{}", NvmOpcode(0x7f)), "opcode 0x7f");
        assert_eq!(format!("{:?}", AdminOpcode::ABORT), "Abort");
    }
}
