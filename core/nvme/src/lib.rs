//! The NVMe driver: controller bring-up, queue pairs, PRP and SGL writers, namespaces
