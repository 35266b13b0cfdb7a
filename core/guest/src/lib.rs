//! A tenant's memory and rings: regions, translation, virtqueues, the in-flight region
