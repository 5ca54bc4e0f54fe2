//! A plain value that the processes of a node share.

use std::marker::PhantomData;

use bytemuck::Pod;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::bytes;
use super::shared::{Shared, Sort};
use crate::error::Result;
use crate::latch::Copies;
use crate::mm::Kind;
use crate::prim::{AtomicU64, Ordering};

enum OfValue {}

impl Sort for OfValue {
    const KIND: Kind = Kind::Value;
    const CALLED: &'static str = "value";
}

/// Where in the first line it stands which type this is, and a value that fits into a word. Words 0 to 3 are the latch's.
const MARK: usize = 4;
const SMALL: usize = 5;

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
///     });
/// };
/// pool.map_with(&ball, bounce, 0..100)?;
/// assert_eq!(ball.get().bounces, 100);
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
        let shared = Shared::create(Copies::words(size_of::<T>()), |_| ())?;
        shared.words()[MARK].store(bytes::type_mark::<T>(), Ordering::Relaxed); // the handle comes after it
        let made = Value { shared, of: PhantomData };
        made.set(value);
        Ok(made)
    }

    /// The value.
    #[inline]
    pub fn get(&self) -> T {
        if Self::IS_SMALL {
            // Acquire: pairs with `bytes::change`.
            return bytes::value(&self.word().load(Ordering::Acquire).to_ne_bytes());
        }
        self.read().0
    }

    /// Writes the value.
    pub fn set(&self, value: T) {
        if Self::IS_SMALL {
            let mut word = [0; size_of::<u64>()];
            word[..size_of::<T>()].copy_from_slice(bytemuck::bytes_of(&value));
            return self.word().store(u64::from_ne_bytes(word), Ordering::Release); // pairs with `get` and `update`
        }
        self.copies().write(self.shared.who(), bytemuck::bytes_of(&value), None);
    }

    /// Writes the value and returns the one before.
    pub fn replace(&self, value: T) -> T {
        self.update(|current| std::mem::replace(current, value))
    }

    /// Changes the value in one step: nobody sees a state in between, and no change of others is lost.
    ///
    /// `change` gets the value, and what it returns is returned. If another changes the value at the same moment it
    /// is called again, with the new value; so it should do nothing else. If it panics nothing is changed.
    ///
    /// ```
    /// let _dragon = dragon::init()?;
    /// let tickets = dragon::sync::Value::new(7_u32)?;
    /// let mine = tickets.update(|next| {
    ///     *next += 1;
    ///     *next - 1
    /// });
    /// assert_eq!((mine, tickets.get()), (7, 8));
    /// # Ok::<(), dragon::Error>(())
    /// ```
    pub fn update<R>(&self, mut change: impl FnMut(&mut T) -> R) -> R {
        if Self::IS_SMALL {
            return bytes::change(self.word(), |word| {
                let mut value = bytes::value(word);
                let result = change(&mut value);
                word[..size_of::<T>()].copy_from_slice(bytemuck::bytes_of(&value));
                result
            });
        }
        loop {
            let (mut value, version) = self.read();
            let result = change(&mut value);
            if self.copies().write(self.shared.who(), bytemuck::bytes_of(&value), Some(version)) {
                return result;
            }
        }
    }

    fn read(&self) -> (T, u64) {
        let mut value = T::zeroed();
        let version = self.copies().read(bytemuck::bytes_of_mut(&mut value));
        (value, version)
    }

    #[inline]
    fn word(&self) -> &AtomicU64 {
        &self.shared.words()[SMALL]
    }

    fn copies(&self) -> Copies<'_> {
        Copies::in_words(self.shared.words(), size_of::<T>())
    }
}

impl<'de, T: Pod> Deserialize<'de> for Value<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Value<T>, D::Error> {
        let shared = Shared::<OfValue>::deserialize(deserializer)?;
        // Relaxed: written before the handle was handed out.
        if shared.words()[MARK].load(Ordering::Relaxed) != bytes::type_mark::<T>() {
            let text = format!("{} is not of type {}", shared.name(), std::any::type_name::<T>());
            return Err(de::Error::custom(text));
        }
        Ok(Value { shared, of: PhantomData })
    }
}

impl<T: Pod + std::fmt::Debug> std::fmt::Debug for Value<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Value({}, {:?})", self.shared.name(), self.get())
    }
}
