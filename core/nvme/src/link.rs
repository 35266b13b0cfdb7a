//! What a controller and its queues both look at, while they live on different threads.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// The most namespaces that are served.
pub(crate) const NAMESPACES_MAX: usize = 128;

/// What a queue must know of a namespace to write a command that the controller reads as it was meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Bytes of a block, as a power of two.
    pub(crate) block_shift: u8,
    /// Write Zeroes may carry the deallocate bit.
    pub(crate) zeroes_deallocate: bool,
}

/// Which life of the controller this is, and what its namespaces look like.
///
/// Neither guards memory: a reader that sees an old value for a moment does no harm, since queues are given up by message
/// before their controller is reset. So all accesses are relaxed.
#[derive(Debug)]
pub(crate) struct Link {
    incarnation: AtomicU32,
    gone: AtomicBool,
    /// Identifier in the upper half, shape in the lower; 0 for none. Entries before the first 0 count.
    shapes: Box<[AtomicU64]>,
}

impl Link {
    pub(crate) fn new() -> Self {
        Self {
            incarnation: AtomicU32::new(0),
            gone: AtomicBool::new(false),
            shapes: (0..NAMESPACES_MAX).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// The controller's present life.
    pub(crate) fn incarnation(&self) -> u32 {
        self.incarnation.load(Ordering::Relaxed)
    }

    /// Whether queues of life `incarnation` still work.
    #[inline]
    pub(crate) fn lives(&self, incarnation: u32) -> bool {
        self.incarnation.load(Ordering::Relaxed) == incarnation
    }

    /// Ends the present life, and with it the use of all its queues.
    pub(crate) fn end_life(&self) {
        self.incarnation.fetch_add(1, Ordering::Relaxed);
    }

    /// Says whether the controller has left; leaving ends a life too.
    pub(crate) fn set_gone(&self, gone: bool) {
        if gone {
            self.end_life();
        }
        self.gone.store(gone, Ordering::Relaxed);
    }

    /// Whether the controller has left.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// Replaces all shapes.
    pub(crate) fn set_shapes(&self, shapes: impl Iterator<Item = (u32, Shape)>) {
        let encoded = shapes.map(|(nsid, shape)| {
            u64::from(nsid) << 32 | u64::from(shape.zeroes_deallocate) << 8 | u64::from(shape.block_shift)
        });
        for (entry, value) in self.shapes.iter().zip(encoded.chain(std::iter::repeat(0))) {
            entry.store(value, Ordering::Relaxed);
        }
    }

    /// The shape of namespace `nsid`.
    #[inline]
    pub(crate) fn shape(&self, nsid: u32) -> Option<Shape> {
        for entry in &self.shapes {
            let value = entry.load(Ordering::Relaxed);
            if value == 0 {
                return None;
            }
            if (value >> 32) as u32 == nsid {
                return Some(Shape { block_shift: value as u8, zeroes_deallocate: value & 0x100 != 0 });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_found_by_namespace_and_replaced_whole() {
        let link = Link::new();
        let shape = |block_shift, zeroes_deallocate| Shape { block_shift, zeroes_deallocate };
        link.set_shapes([(1, shape(9, false)), (7, shape(12, true))].into_iter());
        assert_eq!((link.shape(1), link.shape(7)), (Some(shape(9, false)), Some(shape(12, true))));
        link.set_shapes([(7, shape(9, true))].into_iter());
        assert_eq!((link.shape(1), link.shape(7), link.shape(0)), (None, Some(shape(9, true)), None));
    }

    #[test]
    fn no_life_comes_back_not_even_after_leaving() {
        let link = Link::new();
        let first = link.incarnation();
        link.end_life();
        let second = link.incarnation();
        link.set_gone(true);
        assert!(link.is_gone() && !link.lives(first) && !link.lives(second));
        link.set_gone(false);
        assert!(!link.is_gone() && !link.lives(first) && !link.lives(second));
    }
}
