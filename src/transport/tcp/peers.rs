//! Who else is there: the little that is kept of a node until something is sent to it.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use super::address;
use crate::transport::{LANES, Lost, Node};

/// No lane.
const CLOSED: u32 = u32::MAX;

/// One node.
pub(super) struct Known {
    pub(super) epoch: u64,
    /// Checked bytes of its address; none if it came to us before anybody introduced it.
    address: Box<[u8]>,
    lanes: [u32; LANES as usize],
    /// When anything came from it, since a lane to it has been open.
    pub(super) heard: Option<Instant>,
    pub(super) lost: Option<Arc<Lost>>,
}

// Most of the promised 200 bytes are the address's: up to 79 on the heap.
const _: () = assert!(size_of::<Option<Known>>() <= 96);

impl Known {
    fn new(epoch: u64, address: &[u8]) -> Known {
        Known { epoch, address: address.into(), lanes: [CLOSED; LANES as usize], heard: None, lost: None }
    }

    pub(super) fn lane(&self, lane: u8) -> Option<usize> {
        let at = self.lanes[usize::from(lane)];
        (at != CLOSED).then_some(at as usize)
    }

    /// Its lanes that are open or opening.
    pub(super) fn lanes(&self) -> impl Iterator<Item = usize> + use<> {
        self.lanes.into_iter().filter(|at| *at != CLOSED).map(|at| at as usize)
    }
}

/// All nodes that were introduced or came by themselves.
#[derive(Default)]
pub(super) struct Peers {
    nodes: Vec<Option<Known>>,
}

impl Peers {
    #[inline]
    pub(super) fn get(&self, node: Node) -> Option<&Known> {
        self.nodes.get(node as usize)?.as_ref()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, node: Node) -> Option<&mut Known> {
        self.nodes.get_mut(node as usize)?.as_mut()
    }

    /// Puts a node in, or a new incarnation of it, which has no lanes and is not lost.
    pub(super) fn put(&mut self, node: Node, epoch: u64, address: &[u8]) {
        let at = node as usize;
        let known = self.nodes.len();
        if known <= at {
            // Not twice as many, as vectors grow: that would be half of what a node may cost.
            self.nodes.reserve_exact((at + 1 - known).max(known / 8));
            self.nodes.resize_with(at + 1, || None);
        }
        self.nodes[at] = Some(Known::new(epoch, address));
    }

    /// Says where a node is that is there already.
    pub(super) fn move_to(&mut self, node: Node, address: &[u8]) {
        if let Some(known) = self.get_mut(node) {
            known.address = address.into();
        }
    }

    pub(super) fn set_lane(&mut self, node: Node, lane: u8, at: Option<usize>) {
        if let Some(known) = self.get_mut(node) {
            // There are fewer lanes than numbers, by far: each takes a descriptor.
            known.lanes[usize::from(lane)] = at.map_or(CLOSED, |at| at as u32);
        }
    }

    /// Nobody was silent for that time: we did not listen.
    pub(super) fn forgive(&mut self, absent: std::time::Duration) {
        let heard = self.nodes.iter_mut().flatten().filter_map(|known| known.heard.as_mut());
        heard.for_each(|heard| *heard += absent);
    }

    /// Its incarnation, and the places where it may be called.
    pub(super) fn places(&self, node: Node) -> (u64, Vec<SocketAddr>) {
        let Some(known) = self.get(node) else { return (0, Vec::new()) };
        // The bytes were checked when they came.
        (known.epoch, address::read(&known.address).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a peer costs before anything is sent: its line, its address, and what an allocator adds.
    #[test]
    fn a_known_peer_takes_under_200_bytes() {
        let place: SocketAddr = "[fd00::1]:40000".parse().unwrap();
        let longest = address::write(&[place; address::PLACES_MOST]);
        let allocator = 16;
        assert!(size_of::<Option<Known>>() + longest.len() + allocator < 200, "{}", longest.len());
        let mut peers = Peers::default();
        (0..1000).for_each(|node| peers.put(node, 1, &longest));
        assert!(peers.nodes.len() == 1000 && peers.get(999).unwrap().lanes().count() == 0);
    }
}
