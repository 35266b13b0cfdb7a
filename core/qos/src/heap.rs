use alloc::vec::Vec;

/// A heap of places by key, the least first; of equal keys the lower place. A place is in it once at most.
///
/// Sized at set-up. Every index below is a position within `nodes` or a place that [`Heap::new`] made room for; a place beyond
/// is refused by the scheduler, whose table has the same size.
#[derive(Debug, Clone, Default)]
pub(crate) struct Heap {
    nodes: Vec<Node>,
    /// Where each place stands in `nodes`.
    positions: Vec<u32>,
}

/// A key, and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Node {
    pub(crate) key: u64,
    pub(crate) place: u16,
}

/// The position of a place that is not in the heap.
const OUT: u32 = u32::MAX;

impl Heap {
    pub(crate) fn new(places: u16) -> Self {
        let mut heap = Self::default();
        heap.make_room(places);
        heap
    }

    /// Makes room for places below `places`, if there is less.
    pub(crate) fn make_room(&mut self, places: u16) {
        let places = usize::from(places).max(self.positions.len());
        self.positions.resize(places, OUT);
        self.nodes.reserve(places - self.nodes.len());
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The least.
    #[inline]
    pub(crate) fn first(&self) -> Option<Node> {
        self.nodes.first().copied()
    }

    /// Puts a place in, or changes its key.
    #[inline]
    pub(crate) fn set(&mut self, place: u16, key: u64) {
        let node = Node { key, place };
        match self.position(place) {
            Some(at) if node > self.nodes[at] => self.sink(at, node),
            Some(at) => self.rise(at, node),
            None => {
                self.nodes.push(node);
                self.rise(self.nodes.len() - 1, node);
            }
        }
    }

    /// Takes a place out, if it is in.
    #[inline]
    pub(crate) fn remove(&mut self, place: u16) {
        let Some(at) = self.position(place) else { return };
        self.positions[usize::from(place)] = OUT;
        let Some(last) = self.nodes.pop() else { return };
        if last.place == place {
            return;
        }
        if last > self.nodes[at] {
            self.sink(at, last);
        } else {
            self.rise(at, last);
        }
    }

    /// Lowers every key by `by`, none below 0. Keys that become equal were all at most `by`.
    pub(crate) fn lower(&mut self, by: u64) {
        let Self { nodes, positions } = self;
        for node in nodes.iter_mut() {
            node.key = node.key.saturating_sub(by);
        }
        // A sorted list is a heap.
        nodes.sort_unstable();
        for (at, node) in (0..).zip(nodes.iter()) {
            positions[usize::from(node.place)] = at;
        }
    }

    #[inline]
    fn position(&self, place: u16) -> Option<usize> {
        self.positions.get(usize::from(place)).filter(|&&at| at != OUT).map(|&at| at as usize)
    }

    /// `node` belongs at `at` or nearer to the top.
    #[inline]
    fn rise(&mut self, mut at: usize, node: Node) {
        while at > 0 {
            let above = (at - 1) / 2;
            let parent = self.nodes[above];
            if parent < node {
                break;
            }
            self.settle(at, parent);
            at = above;
        }
        self.settle(at, node);
    }

    /// `node` belongs at `at` or further down.
    #[inline]
    fn sink(&mut self, mut at: usize, node: Node) {
        loop {
            let left = 2 * at + 1;
            let Some(&first) = self.nodes.get(left) else { break };
            let (below, child) = match self.nodes.get(left + 1) {
                Some(&second) if second < first => (left + 1, second),
                _ => (left, first),
            };
            if node < child {
                break;
            }
            self.settle(at, child);
            at = below;
        }
        self.settle(at, node);
    }

    #[inline]
    fn settle(&mut self, at: usize, node: Node) {
        self.nodes[at] = node;
        // There are as many nodes as places at most, and places are 16 bits.
        #[expect(clippy::cast_possible_truncation, reason = "a position is below the number of places")]
        let position = at as u32;
        self.positions[usize::from(node.place)] = position;
    }
}

#[cfg(test)]
mod tests;
