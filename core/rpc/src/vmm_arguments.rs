//! What to type, or to put into a file, so that a VMM uses a channel as its disk.
