//! The management functions: inventory, channel lifecycle, admission, journal, label, events, RPC
