//! A channel's data path: requests, extents, bounce, flush
