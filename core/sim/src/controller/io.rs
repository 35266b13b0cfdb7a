//! I/O commands, and moving data between host memory and blocks.

use vfiomux_spec::nvme::command::{DSM_DEALLOCATE, DSM_RANGES_MAX, DsmRange, RwDword12};
use vfiomux_spec::nvme::queue::{CommandFlags, PSDT_PRP, PSDT_SGL};
use vfiomux_spec::nvme::sgl::SglDescriptor;
use vfiomux_spec::nvme::{NSID_ALL, NvmOpcode, Status, SubmissionEntry};
use zerocopy::FromBytes;

use super::{Controller, Outcome};
use crate::iommu::{Dma, DmaRefused};
use crate::namespace::{BlockRange, Namespace};
use crate::violation::Access;
use crate::walk::{Run, WalkError, walk_prps, walk_sgl};

impl From<DmaRefused> for Status {
    fn from(_: DmaRefused) -> Self {
        Self::DATA_TRANSFER_ERROR
    }
}

impl From<WalkError> for Status {
    fn from(WalkError(status): WalkError) -> Self {
        status
    }
}

impl Controller {
    pub(super) fn io(&mut self, dma: &Dma<'_>, entry: &SubmissionEntry) -> Outcome {
        let flags = CommandFlags::from_bits(entry.flags);
        if flags.fuse() != 0 {
            return Status::INVALID_FIELD.into();
        }
        match NvmOpcode(entry.opcode) {
            NvmOpcode::READ => self.read(dma, entry),
            NvmOpcode::WRITE => self.write(dma, entry),
            NvmOpcode::FLUSH => self.flush(entry),
            NvmOpcode::WRITE_ZEROES => self.write_zeroes(entry),
            NvmOpcode::DATASET_MANAGEMENT => self.dataset_management(dma, entry),
            _ => Err(Status::INVALID_OPCODE),
        }
        .into()
    }

    pub(super) fn namespace(&mut self, nsid: u32) -> Result<&mut Namespace, Status> {
        let index = nsid.checked_sub(1).and_then(|index| usize::try_from(index).ok());
        index.and_then(|index| self.namespaces.get_mut(index)).ok_or(Status::INVALID_NAMESPACE)
    }

    /// The blocks of a Read, Write or Write Zeroes.
    fn blocks(&mut self, entry: &SubmissionEntry) -> Result<BlockRange, Status> {
        let dword12 = RwDword12::from_bits(entry.cdw12.get());
        if dword12.prinfo() != 0 {
            return Err(Status::INVALID_FIELD);
        }
        self.namespace(entry.nsid.get())?.range(entry.start_lba(), u64::from(dword12.nlb()) + 1)
    }

    /// Follows the data pointer of a command that moves `len` bytes. The list of runs is the controller's scratch: give it back.
    fn follow(&mut self, dma: &Dma<'_>, entry: &SubmissionEntry, len: u64) -> Result<Vec<Run>, Status> {
        if self.spec.mdts != 0 && len > 4096 << self.spec.mdts {
            return Err(Status::INVALID_FIELD);
        }
        let mut runs = std::mem::take(&mut self.runs);
        runs.clear();
        let walked = match CommandFlags::from_bits(entry.flags).psdt() {
            PSDT_PRP => walk_prps(dma, self.page_bytes, (entry.prp1.get(), entry.prp2.get()), len, &mut runs),
            PSDT_SGL if self.spec.sgl => walk_sgl(dma, SglDescriptor::of_command(entry), len, &mut runs),
            _ => Err(WalkError(Status::INVALID_FIELD)),
        };
        match walked {
            Ok(()) => Ok(runs),
            Err(error) => {
                self.runs = runs;
                Err(error.into())
            }
        }
    }

    fn read(&mut self, dma: &Dma<'_>, entry: &SubmissionEntry) -> Result<(), Status> {
        let range = self.blocks(entry)?;
        let runs = self.follow(dma, entry, range.len_bytes)?;
        let namespace = self.namespace(entry.nsid.get())?;
        let mut moved = 0;
        let copied = runs.iter().try_for_each(|run| {
            dma.each_piece(run.iova, run.len, true, Access::Data, |piece| {
                namespace.read(range, moved, piece)?;
                moved += piece.len() as u64;
                Ok::<_, Status>(())
            })
        });
        self.runs = runs;
        self.counters.read_bytes += moved;
        self.logs.count_read(moved);
        copied
    }

    fn write(&mut self, dma: &Dma<'_>, entry: &SubmissionEntry) -> Result<(), Status> {
        let range = self.blocks(entry)?;
        let runs = self.follow(dma, entry, range.len_bytes)?;
        let namespace = self.namespace(entry.nsid.get())?;
        let mut moved = 0;
        let mut copied = namespace.before_write(range);
        if copied.is_ok() {
            copied = runs.iter().try_for_each(|run| {
                dma.each_piece(run.iova, run.len, false, Access::Data, |piece| {
                    namespace.write(range, moved, piece)?;
                    moved += piece.len() as u64;
                    Ok::<_, Status>(())
                })
            });
        }
        if copied.is_ok() && RwDword12::from_bits(entry.cdw12.get()).fua() {
            copied = namespace.settle(range);
        }
        self.runs = runs;
        self.counters.written_bytes += moved;
        self.logs.count_write(moved);
        copied
    }

    fn flush(&mut self, entry: &SubmissionEntry) -> Result<(), Status> {
        match entry.nsid.get() {
            NSID_ALL => self.namespaces.iter_mut().try_for_each(Namespace::flush),
            nsid => self.namespace(nsid)?.flush(),
        }
    }

    fn write_zeroes(&mut self, entry: &SubmissionEntry) -> Result<(), Status> {
        let range = self.blocks(entry)?;
        let fua = RwDword12::from_bits(entry.cdw12.get()).fua();
        let namespace = self.namespace(entry.nsid.get())?;
        namespace.zero(range)?;
        if fua { namespace.settle(range) } else { Ok(()) }
    }

    fn dataset_management(&mut self, dma: &Dma<'_>, entry: &SubmissionEntry) -> Result<(), Status> {
        const RANGE_BYTES: usize = size_of::<DsmRange>();
        self.namespace(entry.nsid.get())?;
        let count = usize::try_from(entry.cdw10.get() & 0xff).unwrap_or(0) + 1;
        let mut list = [0; DSM_RANGES_MAX * RANGE_BYTES];
        let list = list.get_mut(..count * RANGE_BYTES).unwrap_or_default();
        self.gather(dma, entry, list)?;
        let deallocate = entry.cdw11.get() & DSM_DEALLOCATE != 0;
        let zeroes = self.spec.deallocate_zeroes;
        let namespace = self.namespace(entry.nsid.get())?;
        // Every range is checked before the first is carried out: a command either does all or nothing here.
        for deed in [false, deallocate && zeroes] {
            for bytes in list.chunks_exact(RANGE_BYTES) {
                let range = DsmRange::read_from_bytes(bytes).unwrap_or_default();
                let range = namespace.range(range.start_lba.get(), u64::from(range.blocks.get()))?;
                if deed {
                    namespace.zero(range)?;
                }
            }
        }
        Ok(())
    }

    /// Fills `into` from the memory that a command's data pointer names.
    pub(super) fn gather(
        &mut self,
        dma: &Dma<'_>,
        entry: &SubmissionEntry,
        into: &mut [u8],
    ) -> Result<(), Status> {
        let runs = self.follow(dma, entry, into.len() as u64)?;
        let mut rest = into;
        let moved = runs.iter().try_for_each(|run| {
            let (part, after) = std::mem::take(&mut rest).split_at_mut(usize::try_from(run.len).unwrap_or(0));
            rest = after;
            dma.read(run.iova, part, Access::Data)
        });
        self.runs = runs;
        Ok(moved?)
    }

    /// Writes `from` into the memory that a command's data pointer names.
    pub(super) fn scatter(
        &mut self,
        dma: &Dma<'_>,
        entry: &SubmissionEntry,
        from: &[u8],
    ) -> Result<(), Status> {
        let runs = self.follow(dma, entry, from.len() as u64)?;
        let mut rest = from;
        let moved = runs.iter().try_for_each(|run| {
            let (part, after) = rest.split_at(usize::try_from(run.len).unwrap_or(0));
            rest = after;
            dma.write(run.iova, part, Access::Data)
        });
        self.runs = runs;
        Ok(moved?)
    }
}
