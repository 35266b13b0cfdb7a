//! Wire formats as the standards define them: NVMe, virtio, vhost-user, PCI
