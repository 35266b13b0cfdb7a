//! Simulated functions behind the same seam as VFIO: NVMe controller, IOMMU, fault plans
