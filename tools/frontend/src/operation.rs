use vfiomux_spec::virtio::blk::{RequestType, STATUS_OK};

/// What a request asks for. Sectors are 512 bytes whatever the disk's block size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Read `len` bytes into the slot.
    Read {
        /// First sector.
        sector: u64,
        /// Bytes: a multiple of the disk's block size.
        len: u32,
    },
    /// Write the first `len` bytes of the slot.
    Write {
        /// First sector.
        sector: u64,
        /// Bytes: a multiple of the disk's block size.
        len: u32,
    },
    /// Make completed writes durable.
    Flush,
}

impl Operation {
    pub(crate) const fn request_type(self) -> RequestType {
        match self {
            Self::Read { .. } => RequestType::In,
            Self::Write { .. } => RequestType::Out,
            Self::Flush => RequestType::Flush,
        }
    }

    /// First sector; zero where the standard wants it to be.
    pub(crate) const fn sector(self) -> u64 {
        match self {
            Self::Read { sector, .. } | Self::Write { sector, .. } => sector,
            Self::Flush => 0,
        }
    }

    /// Bytes of data.
    #[must_use]
    pub const fn data_bytes(self) -> u32 {
        match self {
            Self::Read { len, .. } | Self::Write { len, .. } => len,
            Self::Flush => 0,
        }
    }
}

/// The right to one request's memory in a [`Queue`](crate::Queue). Whoever has it, and nobody else, may touch the data.
#[derive(Debug, PartialEq, Eq)]
pub struct Slot(pub(crate) u16);

impl Slot {
    /// Its number, below the queue's requests in flight: to find what the request was about.
    #[must_use]
    pub fn index(&self) -> usize {
        self.0.into()
    }
}

/// A request that the disk has answered.
#[derive(Debug, PartialEq, Eq)]
pub struct Completion {
    /// Its memory, back from the device.
    pub slot: Slot,
    /// The status byte: `virtio::blk::STATUS_OK` and its neighbours.
    pub status: u8,
}

impl Completion {
    /// Whether it was done.
    #[must_use]
    pub const fn is_ok(&self) -> bool {
        self.status == STATUS_OK
    }
}
