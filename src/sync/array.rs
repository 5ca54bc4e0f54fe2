//! A row of plain values that processes share.

use std::marker::PhantomData;
use std::time::Duration;

use bytemuck::Pod;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::lock::{LockGuard, guard};
use super::shared::{Shared, Site, Sort};
use crate::error::{Error, ErrorKind, Result};
use crate::latch::{Row, bytes};
use crate::mm::Kind;
use crate::runtime::NodeId;
use crate::services::{FarObject, SyncOp};
use crate::time::Deadline;

enum OfArray {}

impl Sort for OfArray {
    const KIND: Kind = Kind::Array;
    const CALLED: &'static str = "array";
}

/// A row of values of a plain type, read and written in place by all who have a handle.
///
/// An element of 1, 2, 4 or 8 bytes is read and written whole: nobody sees half of one, also after a
/// death. Larger ones are moved in words of 8 bytes, and several elements one after the other; who needs to see them of
/// one piece holds the array's [`lock`](Array::lock), which keeps out only those that take it too. Who reads an
/// element sees all that its writer had done before.
///
/// **Other nodes.** A read or a write of any number of elements is one call to the array's home; so prefer
/// [`read`](Array::read) and [`write`](Array::write) to loops over elements there.
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
        Array::with(elements.len(), |row| bytes::write(row.elements(), 0, bytemuck::cast_slice(elements)))
    }

    fn with(length: usize, fill: impl FnOnce(Row<'_>)) -> Result<Array<T>> {
        let too_large = || Error::new(ErrorKind::TooLarge, format!("an array of {length} elements fits no memory"));
        let size = length.checked_mul(size_of::<T>()).filter(|&size| size <= isize::MAX as usize);
        let size = size.ok_or_else(too_large)?;
        let begin = |words: &_| {
            Row::in_words(words).begin(bytes::type_mark::<T>(), size_of::<T>(), length);
            fill(Row::in_words(words));
        };
        Ok(Array { shared: Shared::create(Row::words(size), begin)?, of: PhantomData })
    }

    /// How many elements there are.
    #[inline]
    pub fn len(&self) -> usize {
        match self.shared.site() {
            Site::Near(words) => Row::in_words(words).length(),
            Site::Far(far) => far.facts().length as usize,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An element.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if there is no such one; [`NodeLost`](ErrorKind::NodeLost).
    #[inline]
    pub fn get(&self, index: usize) -> Result<T> {
        let mut element = T::zeroed();
        self.read_into(index, std::slice::from_mut(&mut element))?;
        Ok(element)
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
            let mut element = self.get(index)?;
            let result = change(&mut element);
            return self.set(index, element).map(|()| result);
        }
        let row = match self.shared.site() {
            Site::Near(words) => Row::in_words(words),
            Site::Far(far) => return self.update_far(far, index, change),
        };
        let (word, at) = (index * size / size_of::<u64>(), index * size % size_of::<u64>());
        Ok(bytes::change(&row.elements()[word], |word| {
            let mut element = bytes::value(&word[at..at + size]);
            let result = change(&mut element);
            word[at..at + size].copy_from_slice(bytemuck::bytes_of(&element));
            result
        }))
    }

    #[cold]
    fn update_far<R>(&self, far: &FarObject, index: usize, mut change: impl FnMut(&mut T) -> R) -> Result<R> {
        let mut stands = self.get(index)?;
        loop {
            let mut element = stands;
            let result = change(&mut element);
            let halves = [bytemuck::bytes_of(&stands), bytemuck::bytes_of(&element)].concat();
            let at = (index * size_of::<T>()) as u64;
            let body = self.shared.ask(far, SyncOp::Exchange, [at, 0], Deadline::Now, &halves)?;
            if body.is_empty() {
                return Ok(result);
            }
            stands = bytemuck::try_pod_read_unaligned(&body).map_err(|_| self.garbled())?;
        }
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
    #[inline]
    pub fn read_into(&self, start: usize, elements: &mut [T]) -> Result<()> {
        self.check(start, elements.len())?;
        let (at, into) = (start * size_of::<T>(), bytemuck::cast_slice_mut(elements));
        match self.shared.site() {
            Site::Near(words) => bytes::read(Row::in_words(words).elements(), at, into),
            Site::Far(far) => self.read_far(far, at, into)?,
        }
        Ok(())
    }

    /// Writes the elements from `start` on.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if they do not all fit; then none is written.
    #[inline]
    pub fn write(&self, start: usize, elements: &[T]) -> Result<()> {
        self.check(start, elements.len())?;
        let (at, from) = (start * size_of::<T>(), bytemuck::cast_slice(elements));
        match self.shared.site() {
            Site::Near(words) => bytes::write(Row::in_words(words).elements(), at, from),
            Site::Far(far) => drop(self.shared.ask(far, SyncOp::Put, [at as u64, 0], Deadline::Now, from)?),
        }
        Ok(())
    }

    /// All elements.
    ///
    /// # Errors
    /// [`NodeLost`](ErrorKind::NodeLost).
    pub fn to_vec(&self) -> Result<Vec<T>> {
        self.read(0..self.len())
    }

    /// The node whose memory it is in.
    pub fn node(&self) -> NodeId {
        self.shared.node()
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

    #[cold]
    fn read_far(&self, far: &FarObject, at: usize, into: &mut [u8]) -> Result<()> {
        let body = self.shared.ask(far, SyncOp::Get, [at as u64, into.len() as u64], Deadline::Now, &[])?;
        if body.len() != into.len() {
            return Err(self.garbled());
        }
        into.copy_from_slice(&body);
        Ok(())
    }

    #[cold]
    fn garbled(&self) -> Error {
        Error::new(ErrorKind::Io, format!("elements of {} came in another length", self.shared.name()))
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
        let mark = match shared.site() {
            Site::Near(words) => Row::in_words(words).mark(),
            Site::Far(far) => far.facts().mark,
        };
        if mark != bytes::type_mark::<T>() {
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
