//! Values at numbers that stay theirs, and the numbers under which sockets are slept on.

use std::ops::{Index, IndexMut};

/// Values, each at a number until it is taken out.
pub(super) struct Slab<T> {
    slots: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Slab<T> {
    pub(super) fn new() -> Slab<T> {
        Slab { slots: Vec::new(), free: Vec::new() }
    }

    /// The number that the next value will get.
    pub(super) fn next(&self) -> usize {
        self.free.last().copied().unwrap_or(self.slots.len())
    }

    pub(super) fn put(&mut self, value: T) -> usize {
        match self.free.pop() {
            Some(at) => {
                self.slots[at] = Some(value);
                at
            }
            None => {
                self.slots.push(Some(value));
                self.slots.len() - 1
            }
        }
    }

    pub(super) fn take(&mut self, at: usize) -> Option<T> {
        let value = self.slots.get_mut(at)?.take()?;
        self.free.push(at);
        Some(value)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        self.slots.get_mut(at)?.as_mut()
    }

    pub(super) fn get(&self, at: usize) -> Option<&T> {
        self.slots.get(at)?.as_ref()
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.slots.iter().enumerate().filter_map(|(at, slot)| Some((at, slot.as_ref()?)))
    }

    /// The numbers that have values now.
    pub(super) fn numbers(&self) -> Vec<usize> {
        self.iter().map(|(at, _)| at).collect()
    }
}

impl<T> Index<usize> for Slab<T> {
    type Output = T;

    #[inline]
    fn index(&self, at: usize) -> &T {
        self.slots[at].as_ref().expect("whoever has a number has it from here")
    }
}

impl<T> IndexMut<usize> for Slab<T> {
    #[inline]
    fn index_mut(&mut self, at: usize) -> &mut T {
        self.slots[at].as_mut().expect("whoever has a number has it from here")
    }
}

/// Whose socket a number is, with a serial that tells a socket from the one that was there before.
///
/// ```text
/// 63        56 55           32 31            0
/// ├── whose ──┼─── serial ────┼──── index ────┤
/// ```
#[derive(Default)]
pub(super) struct Keys {
    serial: u32,
}

/// What a key says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Listener(usize),
    Arrival(usize),
    Lane(usize),
    /// Somebody put it into the set who is not the engine.
    Other,
}

const LISTENER: u64 = 1 << 56;
const ARRIVAL: u64 = 2 << 56;
const LANE: u64 = 3 << 56;

impl Keys {
    fn serial(&mut self) -> u64 {
        self.serial = self.serial.wrapping_add(1);
        u64::from(self.serial & 0xff_ffff) << 32
    }

    pub(super) fn listener(at: usize) -> u64 {
        LISTENER | at as u64
    }

    pub(super) fn arrival(&mut self, at: usize) -> u64 {
        ARRIVAL | self.serial() | at as u64
    }

    pub(super) fn lane(&mut self, at: usize) -> u64 {
        LANE | self.serial() | at as u64
    }

    pub(super) fn owner(key: u64) -> Owner {
        let at = (key & 0xffff_ffff) as usize;
        match key & (0xff << 56) {
            LISTENER => Owner::Listener(at),
            ARRIVAL => Owner::Arrival(at),
            LANE => Owner::Lane(at),
            _ => Owner::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_used_again_only_when_it_is_free() {
        let mut slab = Slab::new();
        assert_eq!((slab.next(), slab.put('a'), slab.put('b')), (0, 0, 1));
        assert_eq!((slab.take(0), slab.take(0), slab.next()), (Some('a'), None, 0));
        assert_eq!((slab.put('c'), slab.put('d')), (0, 2));
        assert_eq!((slab[0], slab[1], slab.len(), slab.numbers()), ('c', 'b', 3, vec![0, 1, 2]));
    }

    #[test]
    fn keys_say_whose_they_are() {
        let mut keys = Keys::default();
        let (one, two) = (keys.lane(7), keys.lane(7));
        assert!(one != two && Keys::owner(one) == Owner::Lane(7) && Keys::owner(two) == Owner::Lane(7));
        assert_eq!(Keys::owner(keys.arrival(3)), Owner::Arrival(3));
        assert_eq!(Keys::owner(Keys::listener(1)), Owner::Listener(1));
        assert_eq!(Keys::owner(u64::MAX), Owner::Other);
    }
}
