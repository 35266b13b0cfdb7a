//! Owning a PCI function: VFIO, BARs, DMA domains, IOVA space, interrupts, the SIGBUS guard
