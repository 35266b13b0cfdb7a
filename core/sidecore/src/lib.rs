//! The polling thread: breath, mailbox, epochs, doze, clock, counters
