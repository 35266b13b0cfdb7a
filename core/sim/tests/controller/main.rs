//! The simulated controller, driven through its registers and queues by a host that knows nothing but the standard.

mod bring_up;
mod commands;
mod data_pointers;
mod dma;
mod faults;
mod host;
mod logs;
mod queues;
mod running;
mod storage;
