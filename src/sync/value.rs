//! A plain value that processes share.

use std::marker::PhantomData;

use bytemuck::Pod;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::shared::{Shared, Site, Sort};
use crate::error::{Error, ErrorKind, Result};
use crate::latch::{Copies, Row, bytes};
use crate::mm::Kind;
use crate::prim::{AtomicU64, Ordering};
use crate::runtime::NodeId;
use crate::services::{FarObject, SyncOp};
use crate::time::Deadline;

enum OfValue {}

impl Sort for OfValue {
    const KIND: Kind = Kind::Value;
    const CALLED: &'static str = "value";
}

/// A value of a plain type (a number, an array of numbers, a `#[repr(C)]` struct of such that derives
/// `bytemuck::Pod`), read and written whole by all who have a handle.
///
/// A value of up to 8 bytes is one word: every call is one operation on it, or a few if others change it at the
/// same moment. A larger one lies in memory twice: readers never wait for writers but read again if the
/// value was changed meanwhile; writers wait for each other, as long as copying takes.
///
/// **Death.** A process that dies while it writes has written all or nothing, and holds nobody up: nothing
/// here is poisoned. No code of yours runs while others wait.
///
/// **Other nodes.** [`get`](Value::get) and [`set`](Value::set) are one call to the value's home, whatever its size;
/// [`update`](Value::update) is a read and an exchange that fails if another was quicker.
///
/// Who reads a value sees all that its writer had done before. Dragon's `Value` is a `ctypes` object behind a
/// lock; here [`update`](Value::update) changes it, field by field if you like, in one step.
///
/// ```
/// use bytemuck::{Pod, Zeroable};
/// use dragon::sync::Value;
///
/// #[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
/// #[repr(C)]
/// struct Ball {
///     place: [f64; 3],
///     bounces: u64,
/// }
///
/// let _dragon = dragon::init()?;
/// let ball = Value::new(Ball { place: [0.0; 3], bounces: 0 })?;
/// let pool = dragon::Pool::new(2)?;
/// let bounce = |ball: &Value<Ball>, height: u64| {
///     ball.update(|ball| {
///         ball.place[2] = height as f64;
///         ball.bounces += 1;
///     })
///     .unwrap();
/// };
/// pool.map_with(&ball, bounce, 0..100)?;
/// assert_eq!(ball.get()?.bounces, 100);
/// # Ok::<(), dragon::Error>(())
/// ```
#[derive(Serialize)]
#[serde(transparent)]
pub struct Value<T> {
    shared: Shared<OfValue>,
    #[serde(skip)]
    of: PhantomData<fn(T) -> T>,
}

impl<T> Clone for Value<T> {
    fn clone(&self) -> Value<T> {
        Value { shared: self.shared.clone(), of: PhantomData }
    }
}

impl<T: Pod> Value<T> {
    const IS_SMALL: bool = size_of::<T>() <= size_of::<u64>();

    /// A shared value.
    ///
    /// # Errors
    /// [`NotInitialized`](crate::ErrorKind::NotInitialized), [`OutOfMemory`](crate::ErrorKind::OutOfMemory).
    pub fn new(value: T) -> Result<Value<T>> {
        let begin = |words: &_| {
            Row::in_words(words).describe(bytes::type_mark::<T>(), size_of::<T>());
        };
        let made = Value { shared: Shared::create(Copies::words(size_of::<T>()), begin)?, of: PhantomData };
        made.set(value)?;
        Ok(made)
    }

    /// The value.
    ///
    /// # Errors
    /// [`NodeLost`](ErrorKind::NodeLost).
    #[inline]
    pub fn get(&self) -> Result<T> {
        match self.shared.site() {
            // Acquire: pairs with `bytes::change`.
            Site::Near(words) if Self::IS_SMALL => {
                Ok(bytes::value(&small(words).load(Ordering::Acquire).to_ne_bytes()))
            }
            Site::Near(words) => {
                // Read where it is returned: a large one is not moved once more.
                let mut value = Ok(T::zeroed());
                value.iter_mut().for_each(|value| _ = copies::<T>(words).read(bytemuck::bytes_of_mut(value)));
                value
            }
            Site::Far(far) => self.get_far(far),
        }
    }

    /// Writes the value.
    ///
    /// # Errors
    /// [`NodeLost`](ErrorKind::NodeLost).
    #[inline]
    pub fn set(&self, value: T) -> Result<()> {
        match self.shared.site() {
            Site::Near(words) if Self::IS_SMALL => {
                let mut word = [0; size_of::<u64>()];
                word[..size_of::<T>()].copy_from_slice(bytemuck::bytes_of(&value));
                small(words).store(u64::from_ne_bytes(word), Ordering::Release); // pairs with `get` and `update`
            }
            Site::Near(words) => {
                copies::<T>(words).write(self.shared.who(), bytemuck::bytes_of(&value), None);
            }
            Site::Far(far) => {
                self.shared.ask(far, SyncOp::Put, [0; 2], Deadline::Never, bytemuck::bytes_of(&value))?;
            }
        }
        Ok(())
    }

    /// Writes the value and returns the one before.
    ///
    /// # Errors
    /// [`NodeLost`](ErrorKind::NodeLost).
    pub fn replace(&self, value: T) -> Result<T> {
        self.update(|current| std::mem::replace(current, value))
    }

    /// Changes the value in one step: nobody sees a state in between, and no change of others is lost.
    ///
    /// `change` gets the value, and what it returns is returned. If another changes the value at the same moment it
    /// is called again, with the new value; so it should do nothing else. If it panics nothing is changed. A value of
    /// another node takes two calls there, and one more for each time that another was quicker.
    ///
    /// ```
    /// let _dragon = dragon::init()?;
    /// let tickets = dragon::sync::Value::new(7_u32)?;
    /// let mine = tickets.update(|next| {
    ///     *next += 1;
    ///     *next - 1
    /// })?;
    /// assert_eq!((mine, tickets.get()?), (7, 8));
    /// # Ok::<(), dragon::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`NodeLost`](ErrorKind::NodeLost).
    pub fn update<R>(&self, mut change: impl FnMut(&mut T) -> R) -> Result<R> {
        let words = match self.shared.site() {
            Site::Near(words) => words,
            Site::Far(far) => return self.update_far(far, change),
        };
        if Self::IS_SMALL {
            return Ok(bytes::change(small(words), |word| {
                let mut value = bytes::value(word);
                let result = change(&mut value);
                word[..size_of::<T>()].copy_from_slice(bytemuck::bytes_of(&value));
                result
            }));
        }
        loop {
            let (mut value, version) = read(words);
            let result = change(&mut value);
            if copies::<T>(words).write(self.shared.who(), bytemuck::bytes_of(&value), Some(version)) {
                return Ok(result);
            }
        }
    }

    /// The node whose memory it is in.
    pub fn node(&self) -> NodeId {
        self.shared.node()
    }

    #[cold]
    fn get_far(&self, far: &FarObject) -> Result<T> {
        let body = self.shared.ask(far, SyncOp::Get, [0; 2], Deadline::Now, &[])?;
        self.value(&body)
    }

    #[cold]
    fn update_far<R>(&self, far: &FarObject, mut change: impl FnMut(&mut T) -> R) -> Result<R> {
        let mut stands = self.get_far(far)?;
        loop {
            let mut value = stands;
            let result = change(&mut value);
            let halves = [bytemuck::bytes_of(&stands), bytemuck::bytes_of(&value)].concat();
            let body = self.shared.ask(far, SyncOp::Exchange, [0; 2], Deadline::Never, &halves)?;
            if body.is_empty() {
                return Ok(result);
            }
            stands = self.value(&body)?;
        }
    }

    fn value(&self, bytes: &[u8]) -> Result<T> {
        let unclear = |_| Error::new(ErrorKind::Io, format!("{} came in another length", self.shared.name()));
        bytemuck::try_pod_read_unaligned(bytes).map_err(unclear)
    }
}

#[inline]
fn small(words: &[AtomicU64]) -> &AtomicU64 {
    Row::in_words(words).small()
}

fn read<T: Pod>(words: &[AtomicU64]) -> (T, u64) {
    let mut value = T::zeroed();
    let version = copies::<T>(words).read(bytemuck::bytes_of_mut(&mut value));
    (value, version)
}

fn copies<T>(words: &[AtomicU64]) -> Copies<'_> {
    Copies::in_words(words, size_of::<T>())
}

impl<'de, T: Pod> Deserialize<'de> for Value<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Value<T>, D::Error> {
        let shared = Shared::<OfValue>::deserialize(deserializer)?;
        let mark = match shared.site() {
            Site::Near(words) => Row::in_words(words).mark(),
            Site::Far(far) => far.facts().mark,
        };
        if mark != bytes::type_mark::<T>() {
            let text = format!("{} is not of type {}", shared.name(), std::any::type_name::<T>());
            return Err(de::Error::custom(text));
        }
        Ok(Value { shared, of: PhantomData })
    }
}

impl<T: Pod + std::fmt::Debug> std::fmt::Debug for Value<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.get() {
            Ok(value) => write!(f, "Value({}, {value:?})", self.shared.name()),
            Err(error) => write!(f, "Value({}, {error})", self.shared.name()),
        }
    }
}
