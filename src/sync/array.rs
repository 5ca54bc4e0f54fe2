//! A row of plain values that the processes of a node share.

use std::marker::PhantomData;
use std::time::Duration;

use bytemuck::Pod;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::bytes;
use super::lock::{LockGuard, guard};
use super::shared::{Shared, Sort};
use crate::error::{Error, ErrorKind, Result};
use crate::latch;
use crate::mm::Kind;
use crate::prim::{AtomicU64, Ordering};
use crate::time::Deadline;

enum OfArray {}

impl Sort for OfArray {
    const KIND: Kind = Kind::Array;
    const CALLED: &'static str = "array";
}

/// Where in the first line the length and the type stand. Words 0 to 2 are the lock's.
const LENGTH: usize = 3;
const MARK: usize = 4;
const ELEMENTS: usize = latch::Lock::WORDS;

/// A row of values of a plain type, read and written in place by all who have a handle.
///
/// An element of 1, 2, 4 or 8 bytes is read and written whole: nobody sees half of one, also after a
/// death. Larger ones are moved in words of 8 bytes, and several elements one after the other; who needs to see them of
/// one piece holds the array's [`lock`](Array::lock), which keeps out only those that take it too. Who reads an
/// element sees all that its writer had done before.
///
/// **Death.** A process that dies while it holds the lock hands it on, poisoned, as with
/// [`Lock`](super::Lock).
///
/// ```
/// let _dragon = dragon::init()?;
/// let squares = dragon::sync::Array::<u64>::zeroed(100)?;
/// let pool = dragon::Pool::new(2)?;
/// let fill = |squares: &dragon::sync::Array<u64>, i: usize| squares.set(i, (i * i) as u64).unwrap();
/// pool.map_with(&squares, fill, 0..100)?;
/// assert_eq!(squares.read(7..10)?, [49, 64, 81]);
/// # Ok::<(), dragon::Error>(())
/// ```
#[derive(Serialize)]
#[serde(transparent)]
pub struct Array<T> {
    shared: Shared<OfArray>,
    #[serde(skip)]
    of: PhantomData<fn(T) -> T>,
}

impl<T> Clone for Array<T> {
    fn clone(&self) -> Array<T> {
        Array { shared: self.shared.clone(), of: PhantomData }
    }
}

impl<T: Pod> Array<T> {
    /// An array of so many elements, all bits zero.
    ///
    /// # Errors
    /// [`NotInitialized`](ErrorKind::NotInitialized), [`OutOfMemory`](ErrorKind::OutOfMemory),
    /// [`TooLarge`](ErrorKind::TooLarge).
    pub fn zeroed(length: usize) -> Result<Array<T>> {
        Array::with(length, |_| ())
    }

    /// An array of these elements.
    ///
    /// # Errors
    /// As [`zeroed`](Array::zeroed).
    pub fn from_slice(elements: &[T]) -> Result<Array<T>> {
        Array::with(elements.len(), |place| place.copy_from_slice(bytemuck::cast_slice(elements)))
    }

    fn with(length: usize, fill: impl FnOnce(&mut [u8])) -> Result<Array<T>> {
        let too_large = || Error::new(ErrorKind::TooLarge, format!("an array of {length} elements fits no memory"));
        let size = length.checked_mul(size_of::<T>()).filter(|&size| size <= isize::MAX as usize);
        let size = size.ok_or_else(too_large)?;
        let words = ELEMENTS + size.div_ceil(size_of::<u64>()).next_multiple_of(latch::LINE);
        let at = ELEMENTS * size_of::<u64>();
        let shared = Shared::create(words, |block| fill(&mut block[at..at + size]))?;
        // Relaxed: the handle is handed out after this.
        shared.words()[LENGTH].store(length as u64, Ordering::Relaxed);
        shared.words()[MARK].store(bytes::type_mark::<T>(), Ordering::Relaxed);
        Ok(Array { shared, of: PhantomData })
    }

    /// How many elements there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.shared.words()[LENGTH].load(Ordering::Relaxed) as usize // never changes once it is shared
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An element; `None` if there is no such one.
    #[inline]
    pub fn get(&self, index: usize) -> Option<T> {
        if index >= self.len() {
            return None;
        }
        let mut element = T::zeroed();
        bytes::read(self.elements(), index * size_of::<T>(), bytemuck::bytes_of_mut(&mut element));
        Some(element)
    }

    /// Writes an element.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if there is no such one.
    #[inline]
    pub fn set(&self, index: usize, element: T) -> Result<()> {
        self.write(index, &[element])
    }

    /// Changes an element. In one step, if it has 1, 2, 4 or 8 bytes: no change of others is lost, and if another
    /// changes it at the same moment `change` is called again. Elements of other sizes are read, changed and
    /// written; hold the [`lock`](Array::lock).
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if there is no such element.
    pub fn update<R>(&self, index: usize, mut change: impl FnMut(&mut T) -> R) -> Result<R> {
        self.check(index, 1)?;
        let size = size_of::<T>();
        if !matches!(size, 1 | 2 | 4 | 8) {
            let mut element = self.get(index).ok_or_else(|| self.outside(index, 1))?;
            let result = change(&mut element);
            return self.set(index, element).map(|()| result);
        }
        let (word, at) = (index * size / size_of::<u64>(), index * size % size_of::<u64>());
        Ok(bytes::change(&self.elements()[word], |word| {
            let mut element = bytes::value(&word[at..at + size]);
            let result = change(&mut element);
            word[at..at + size].copy_from_slice(bytemuck::bytes_of(&element));
            result
        }))
    }

    /// The elements of a range.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if they are not all there.
    pub fn read(&self, range: std::ops::Range<usize>) -> Result<Vec<T>> {
        let count = range.end.saturating_sub(range.start);
        self.check(range.start, count)?;
        let mut elements = vec![T::zeroed(); count];
        self.read_into(range.start, &mut elements)?;
        Ok(elements)
    }

    /// Reads the elements from `start` on.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if they are not all there.
    pub fn read_into(&self, start: usize, elements: &mut [T]) -> Result<()> {
        self.check(start, elements.len())?;
        bytes::read(self.elements(), start * size_of::<T>(), bytemuck::cast_slice_mut(elements));
        Ok(())
    }

    /// Writes the elements from `start` on.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if they do not all fit; then none is written.
    #[inline]
    pub fn write(&self, start: usize, elements: &[T]) -> Result<()> {
        self.check(start, elements.len())?;
        bytes::write(self.elements(), start * size_of::<T>(), bytemuck::cast_slice(elements));
        Ok(())
    }

    /// All elements.
    pub fn to_vec(&self) -> Vec<T> {
        let mut elements = vec![T::zeroed(); self.len()];
        bytes::read(self.elements(), 0, bytemuck::cast_slice_mut(&mut elements));
        elements
    }

    /// Takes the array's lock, waiting for it. Only those who take it too are kept out.
    ///
    /// # Errors
    /// [`WouldDeadlock`](ErrorKind::WouldDeadlock) if this thread holds it.
    pub fn lock(&self) -> Result<LockGuard<'_>> {
        guard(&self.shared, Deadline::Never)
    }

    /// Takes the array's lock if it is free.
    ///
    /// # Errors
    /// [`TimedOut`](ErrorKind::TimedOut), and that of [`lock`](Array::lock).
    pub fn try_lock(&self) -> Result<LockGuard<'_>> {
        guard(&self.shared, Deadline::Now)
    }

    /// Takes the array's lock, waiting for it at most this long.
    ///
    /// # Errors
    /// [`TimedOut`](ErrorKind::TimedOut), and that of [`lock`](Array::lock).
    pub fn lock_timeout(&self, patience: Duration) -> Result<LockGuard<'_>> {
        guard(&self.shared, Deadline::after(patience))
    }

    #[inline]
    fn elements(&self) -> &[AtomicU64] {
        &self.shared.words()[ELEMENTS..]
    }

    #[inline]
    fn check(&self, start: usize, count: usize) -> Result<()> {
        let fits = start.checked_add(count).is_some_and(|end| end <= self.len());
        if fits { Ok(()) } else { Err(self.outside(start, count)) }
    }

    #[cold]
    fn outside(&self, start: usize, count: usize) -> Error {
        let (name, length) = (self.shared.name(), self.len());
        let text = format!("{name} has {length} elements: there are no {count} from index {start} on");
        Error::new(ErrorKind::InvalidArgument, text)
    }
}

impl<'de, T: Pod> Deserialize<'de> for Array<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Array<T>, D::Error> {
        let shared = Shared::<OfArray>::deserialize(deserializer)?;
        // Relaxed: written before the handle was handed out.
        if shared.words()[MARK].load(Ordering::Relaxed) != bytes::type_mark::<T>() {
            let text = format!("{} is not of {}", shared.name(), std::any::type_name::<T>());
            return Err(de::Error::custom(text));
        }
        Ok(Array { shared, of: PhantomData })
    }
}

impl<T: Pod> std::fmt::Debug for Array<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Array({}, {} elements)", self.shared.name(), self.len())
    }
}
