//! Requests with their payloads read and their descriptors counted: the last place where bytes are seen.

use std::os::fd::OwnedFd;

use vfiomux_spec::vhost_user::{
    ConfigHeader, FrontendRequest, Inflight, MAX_CONFIG_SIZE_BYTES, MAX_MEM_TABLE_REGIONS, MemTableHeader,
    MemoryRegion, SingleMemoryRegion, U64, VRING_INDEX_MASK, VRING_NO_FD, VringAddr, VringState,
    protocol_features as pf,
};
use zerocopy::FromBytes;

use crate::codec::Message;
use crate::{InflightRegion, RegionGrant, RegionId, Violation};

/// Which of a ring's eventfds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notifier {
    Kick,
    Call,
    Err,
}

/// A well-formed request that sessions implement.
#[derive(Debug)]
pub(crate) enum Request {
    GetFeatures,
    SetFeatures(u64),
    GetProtocolFeatures,
    SetProtocolFeatures(u64),
    SetOwner,
    ResetOwner,
    GetQueueNum,
    SetMemTable(Vec<RegionGrant>),
    GetMaxMemSlots,
    AddMemReg(RegionGrant),
    RemMemReg(RegionId),
    SetVringNum(VringState),
    SetVringAddr(VringAddr),
    SetVringBase(VringState),
    GetVringBase(VringState),
    SetVringEnable(VringState),
    SetVringFd { notifier: Notifier, index: u32, fd: Option<OwnedFd> },
    SetBackendReqFd(OwnedFd),
    GetConfig { header: ConfigHeader },
    SetConfig { header: ConfigHeader, bytes: Vec<u8> },
    GetInflightFd { inflight: Inflight, payload_size: usize },
    SetInflightFd { region: InflightRegion, num_queues: u16, queue_size: u16 },
    ResetDevice,
    GetStatus,
    SetStatus(u64),
    NetSetMtu(u64),
    SendRarp(u64),
}

/// The protocol feature without which a request is not to be sent, zero if it always may be; `None` for those that
/// sessions do not implement.
pub(crate) fn required_feature(request: FrontendRequest) -> Option<u64> {
    use FrontendRequest as R;
    Some(match request {
        R::GetFeatures
        | R::SetFeatures
        | R::SetOwner
        | R::ResetOwner
        | R::SetMemTable
        | R::SetVringNum
        | R::SetVringAddr
        | R::SetVringBase
        | R::GetVringBase
        | R::SetVringKick
        | R::SetVringCall
        | R::SetVringErr
        | R::GetProtocolFeatures
        | R::SetProtocolFeatures
        | R::SetVringEnable => 0,
        R::GetQueueNum => pf::MQ,
        R::GetConfig | R::SetConfig => pf::CONFIG,
        R::GetMaxMemSlots | R::AddMemReg | R::RemMemReg => pf::CONFIGURE_MEM_SLOTS,
        R::GetInflightFd | R::SetInflightFd => pf::INFLIGHT_SHMFD,
        R::SetBackendReqFd => pf::BACKEND_REQ,
        R::ResetDevice => pf::RESET_DEVICE,
        R::GetStatus | R::SetStatus => pf::STATUS,
        R::NetSetMtu => pf::MTU,
        R::SendRarp => pf::RARP,
        _ => return None,
    })
}

/// Whether the front-end waits for an answer of its own kind, NEED_REPLY or not.
pub(crate) fn has_own_reply(request: FrontendRequest) -> bool {
    use FrontendRequest as R;
    matches!(
        request,
        R::GetFeatures
            | R::GetProtocolFeatures
            | R::GetQueueNum
            | R::GetVringBase
            | R::GetConfig
            | R::GetInflightFd
            | R::GetMaxMemSlots
            | R::GetStatus
            | R::CreateCryptoSession
            | R::PostcopyAdvise
            | R::PostcopyEnd
            | R::GetSharedObject
            | R::SetDeviceStateFd
            | R::CheckDeviceState
    )
}

/// What is left of a message while it is read.
struct Reader {
    name: &'static str,
    payload: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl Reader {
    fn wrong_size(&self) -> Violation {
        Violation::PayloadSize { request: self.name, size: self.payload.len() }
    }

    /// A payload that is exactly a `T`.
    fn whole<T: FromBytes>(&self) -> Result<T, Violation> {
        T::read_from_bytes(&self.payload).map_err(|_| self.wrong_size())
    }

    /// A payload that begins with a `T`, and what comes after.
    fn prefix<T: FromBytes>(&self) -> Result<(T, &[u8]), Violation> {
        T::read_from_prefix(&self.payload).map_err(|_| self.wrong_size())
    }

    fn wrong_count(&self, expected: usize) -> Violation {
        Violation::FdCount { request: self.name, expected, found: self.fds.len() }
    }

    fn no_fd(&self) -> Result<(), Violation> {
        if self.fds.is_empty() { Ok(()) } else { Err(self.wrong_count(0)) }
    }

    fn one_fd(&mut self) -> Result<OwnedFd, Violation> {
        match self.fds.pop() {
            Some(fd) if self.fds.is_empty() => Ok(fd),
            Some(fd) => {
                self.fds.push(fd);
                Err(self.wrong_count(1))
            }
            None => Err(self.wrong_count(1)),
        }
    }

    fn empty(&self) -> Result<(), Violation> {
        self.no_fd()?;
        if self.payload.is_empty() { Ok(()) } else { Err(self.wrong_size()) }
    }

    fn plain<T: FromBytes>(&self) -> Result<T, Violation> {
        self.no_fd()?;
        self.whole()
    }

    fn number(&self) -> Result<u64, Violation> {
        Ok(self.plain::<U64>()?.value)
    }

    /// A region that is neither empty nor wraps in any of the three address spaces it lies in. Files end at `i64::MAX`.
    fn region(&self, region: MemoryRegion) -> Result<(RegionId, u64), Violation> {
        let MemoryRegion { guest_addr, size, user_addr, mmap_offset } = region;
        let fits = size > 0
            && guest_addr.checked_add(size).is_some()
            && user_addr.checked_add(size).is_some()
            && mmap_offset.checked_add(size).is_some_and(|end| i64::try_from(end).is_ok());
        if !fits {
            return Err(Violation::Region { request: self.name, guest_addr, size });
        }
        Ok((RegionId { guest_addr, user_addr, size_bytes: size }, mmap_offset))
    }

    fn mem_table(mut self) -> Result<Request, Violation> {
        let (header, mut rest) = self.prefix::<MemTableHeader>()?;
        let count = header.num_regions as usize;
        if count > MAX_MEM_TABLE_REGIONS || rest.len() != count * size_of::<MemoryRegion>() {
            return Err(self.wrong_size());
        }
        if self.fds.len() != count {
            return Err(self.wrong_count(count));
        }
        let mut parsed = Vec::with_capacity(count);
        while let Ok((region, tail)) = MemoryRegion::read_from_prefix(rest) {
            parsed.push(self.region(region)?);
            rest = tail;
        }
        let grants = parsed.into_iter().zip(std::mem::take(&mut self.fds));
        Ok(Request::SetMemTable(
            grants.map(|((id, mmap_offset), file)| RegionGrant { id, mmap_offset, file }).collect(),
        ))
    }

    fn notifier(mut self, notifier: Notifier) -> Result<Request, Violation> {
        let value = self.whole::<U64>()?.value;
        let fd = if value & VRING_NO_FD == 0 {
            Some(self.one_fd()?)
        } else {
            self.no_fd()?;
            None
        };
        if value & !(VRING_INDEX_MASK | VRING_NO_FD) != 0 {
            return Err(Violation::Value { request: self.name, value });
        }
        let [index, ..] = value.to_le_bytes();
        Ok(Request::SetVringFd { notifier, index: u32::from(index), fd })
    }

    fn config(self) -> Result<(ConfigHeader, Vec<u8>), Violation> {
        self.no_fd()?;
        let (header, bytes) = self.prefix::<ConfigHeader>()?;
        let bytes = bytes.to_vec();
        let end = header.offset.checked_add(header.size).map(|end| end as usize);
        if header.size == 0 || end.is_none_or(|end| end > MAX_CONFIG_SIZE_BYTES) {
            return Err(Violation::Value { request: self.name, value: u64::from(header.size) });
        }
        Ok((header, bytes))
    }

    /// The document's 20 bytes, or the 24 of the C structure; the reply has as many.
    fn inflight(&self) -> Result<Inflight, Violation> {
        let mut padded = [0; size_of::<Inflight>()];
        let fits = [Inflight::UNPADDED_SIZE_BYTES, size_of::<Inflight>()].contains(&self.payload.len());
        let Some(start) = padded.get_mut(..self.payload.len()).filter(|_| fits) else {
            return Err(self.wrong_size());
        };
        start.copy_from_slice(&self.payload);
        Ok(zerocopy::transmute!(padded))
    }
}

impl Request {
    /// What matters of it to somebody who reads a trace.
    pub(crate) fn detail(&self) -> String {
        match self {
            Self::SetFeatures(value)
            | Self::SetProtocolFeatures(value)
            | Self::SetStatus(value)
            | Self::NetSetMtu(value)
            | Self::SendRarp(value) => format!("{value:#x}"),
            Self::SetVringNum(VringState { index, num })
            | Self::SetVringBase(VringState { index, num })
            | Self::SetVringEnable(VringState { index, num }) => format!("ring {index}: {num}"),
            Self::GetVringBase(VringState { index, .. }) => format!("ring {index}"),
            Self::SetVringAddr(VringAddr { index, descriptor, available, used, .. }) => {
                format!("ring {index}: {descriptor:#x} {available:#x} {used:#x}")
            }
            Self::SetVringFd { index, fd, .. } => {
                format!("ring {index}: {}", if fd.is_some() { "eventfd" } else { "none" })
            }
            Self::SetMemTable(regions) => format!("{} regions", regions.len()),
            Self::AddMemReg(RegionGrant { id, .. }) | Self::RemMemReg(id) => {
                format!("{:#x} bytes at {:#x}", id.size_bytes, id.guest_addr)
            }
            Self::GetConfig { header } | Self::SetConfig { header, .. } => {
                format!("{} bytes from {}", header.size, header.offset)
            }
            Self::GetInflightFd { inflight, .. } => {
                format!("{}x{}", inflight.num_queues, inflight.queue_size)
            }
            Self::SetInflightFd { num_queues, queue_size, .. } => format!("{num_queues}x{queue_size}"),
            Self::GetFeatures
            | Self::GetProtocolFeatures
            | Self::SetOwner
            | Self::ResetOwner
            | Self::GetQueueNum
            | Self::GetMaxMemSlots
            | Self::SetBackendReqFd(_)
            | Self::ResetDevice
            | Self::GetStatus => String::new(),
        }
    }

    /// Read a message whose request sessions implement.
    pub(crate) fn parse(message: Message) -> Result<Self, Violation> {
        use FrontendRequest as R;
        let Message { request, payload, fds, .. } = message;
        let name = request.name();
        let mut reader = Reader { name, payload, fds };
        Ok(match request {
            R::GetFeatures => reader.empty().map(|()| Self::GetFeatures)?,
            R::GetProtocolFeatures => reader.empty().map(|()| Self::GetProtocolFeatures)?,
            R::SetOwner => reader.empty().map(|()| Self::SetOwner)?,
            R::ResetOwner => reader.empty().map(|()| Self::ResetOwner)?,
            R::GetQueueNum => reader.empty().map(|()| Self::GetQueueNum)?,
            R::GetMaxMemSlots => reader.empty().map(|()| Self::GetMaxMemSlots)?,
            R::ResetDevice => reader.empty().map(|()| Self::ResetDevice)?,
            R::GetStatus => reader.empty().map(|()| Self::GetStatus)?,
            R::SetFeatures => Self::SetFeatures(reader.number()?),
            R::SetProtocolFeatures => Self::SetProtocolFeatures(reader.number()?),
            R::SetStatus => Self::SetStatus(reader.number()?),
            R::NetSetMtu => Self::NetSetMtu(reader.number()?),
            R::SendRarp => Self::SendRarp(reader.number()?),
            R::SetVringNum => Self::SetVringNum(reader.plain()?),
            R::SetVringAddr => Self::SetVringAddr(reader.plain()?),
            R::SetVringBase => Self::SetVringBase(reader.plain()?),
            R::GetVringBase => Self::GetVringBase(reader.plain()?),
            R::SetVringEnable => Self::SetVringEnable(reader.plain()?),
            R::SetVringKick => reader.notifier(Notifier::Kick)?,
            R::SetVringCall => reader.notifier(Notifier::Call)?,
            R::SetVringErr => reader.notifier(Notifier::Err)?,
            R::SetMemTable => reader.mem_table()?,
            R::AddMemReg => {
                let single = reader.whole::<SingleMemoryRegion>()?;
                let file = reader.one_fd()?;
                let (id, mmap_offset) = reader.region(single.region)?;
                Self::AddMemReg(RegionGrant { id, mmap_offset, file })
            }
            R::RemMemReg => {
                // A descriptor may come along, and is closed unused (vhost-user: REM_MEM_REG).
                let single = reader.whole::<SingleMemoryRegion>()?;
                if reader.fds.len() > 1 {
                    return Err(reader.wrong_count(0));
                }
                let MemoryRegion { guest_addr, size: size_bytes, user_addr, .. } = single.region;
                Self::RemMemReg(RegionId { guest_addr, user_addr, size_bytes })
            }
            R::SetBackendReqFd => {
                let socket = reader.one_fd()?;
                reader.empty().map(|()| Self::SetBackendReqFd(socket))?
            }
            R::GetConfig => {
                // Some send the bytes that the reply is to fill, some only say how many.
                let (header, bytes) = reader.config()?;
                if !bytes.is_empty() && bytes.len() != header.size as usize {
                    return Err(Violation::PayloadSize { request: name, size: bytes.len() });
                }
                Self::GetConfig { header }
            }
            R::SetConfig => {
                let (header, bytes) = reader.config()?;
                if bytes.len() != header.size as usize {
                    return Err(Violation::PayloadSize { request: name, size: bytes.len() });
                }
                Self::SetConfig { header, bytes }
            }
            R::GetInflightFd => {
                reader.no_fd()?;
                Self::GetInflightFd { inflight: reader.inflight()?, payload_size: reader.payload.len() }
            }
            R::SetInflightFd => {
                let Inflight { mmap_size, mmap_offset, num_queues, queue_size, .. } = reader.inflight()?;
                let file = reader.one_fd()?;
                let region = InflightRegion { mmap_size, mmap_offset, file };
                Self::SetInflightFd { region, num_queues, queue_size }
            }
            // Those for which `required_feature` has nothing never come here; this is for the compiler's peace and says
            // the same that a session would.
            _ => return Err(Violation::NotOffered { request: name }),
        })
    }
}
