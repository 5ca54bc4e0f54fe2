//! Calls that change values by what they were, wait for them, or write several.

use std::time::Duration;

use super::DDict;
use super::encode::with_key;
use super::far_batch::Outbox;
use crate::codec::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::table::{Expect, Wrote};
use crate::time::Deadline;
use crate::wait::{Patience, wait_until};

/// How long one who waits for a change sleeps between looks.
const NAP: Duration = Duration::from_millis(100);

/// Whole numbers that [`DDict::fetch_add`] adds.
pub trait Whole: Copy + 'static {
    /// Zero.
    const ZERO: Self;
    /// The sum; it wraps.
    #[must_use]
    fn plus(self, other: Self) -> Self;
}

macro_rules! whole {
    ($($number:ty)*) => {$(
        impl Whole for $number {
            const ZERO: Self = 0;
            fn plus(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
        }
    )*};
}

whole! { u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize }

/// What a call to [`DDict::batch`] writes with.
#[derive(Debug)]
pub struct Batch<'d, K, V, C> {
    dict: &'d DDict<K, V, C>,
    written: u64,
    /// What is for other nodes.
    outbox: Option<Outbox<'d>>,
}

impl<K: 'static, V: 'static, C: Codec<K> + Codec<V>> Batch<'_, K, V, C> {
    /// Puts a value.
    ///
    /// # Errors
    /// As [`DDict::put`].
    pub fn put(&mut self, key: &K, value: &V) -> Result<()> {
        self.put_as(key, value, false)
    }

    /// Puts a value that is kept for good: see [`DDict::put_persistent`].
    ///
    /// # Errors
    /// As [`DDict::put`].
    pub fn put_persistent(&mut self, key: &K, value: &V) -> Result<()> {
        self.put_as(key, value, true)
    }

    fn put_as(&mut self, key: &K, value: &V, kept: bool) -> Result<()> {
        let sent = match &mut self.outbox {
            Some(outbox) => outbox.add(self.dict, (key, value), kept)?,
            None => false,
        };
        if !sent {
            self.dict.put_if(key, value, Expect::Any, kept)?;
        }
        self.written += 1;
        Ok(())
    }

    /// How many values were put so far.
    pub fn written(&self) -> u64 {
        self.written
    }
}

impl<K: 'static, V: 'static, C: Codec<K> + Codec<V>> DDict<K, V, C> {
    /// Changes a value in one step: nobody sees a state in between, and no change of others is lost. `change` gets the
    /// value, or nothing if the key is not there, and says what it shall be; nothing removes the key. If another changes
    /// it at the same moment `change` is called again, with the new value; so it should do nothing else.
    ///
    /// ```
    /// # let _dragon = dragon::init()?;
    /// let words: dragon::DDict<String, Vec<u32>> = dragon::DDict::new()?;
    /// let add = |places: Option<Vec<u32>>| Some([places.unwrap_or_default(), vec![7]].concat());
    /// words.update(&"fish".into(), add)?;
    /// words.update(&"fish".into(), add)?;
    /// assert_eq!(words.get(&"fish".into())?, [7, 7]);
    /// # Ok::<(), dragon::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](DDict::put), and [`Codec`](ErrorKind::Codec) if what is there cannot be read.
    pub fn update(&self, key: &K, mut change: impl FnMut(Option<V>) -> Option<V>) -> Result<()> {
        loop {
            let (before, expect) = match self.find(key)? {
                Some((value, name)) => (Some(value), Expect::Same(name)),
                None => (None, Expect::Absent),
            };
            let there = before.is_some();
            let wrote = match change(before) {
                Some(after) => self.put_if(key, &after, expect, false)?,
                None if there => self.remove_if(key, expect)?,
                None => return Ok(()),
            };
            if wrote != Wrote::Refused {
                return Ok(());
            }
        }
    }

    /// Puts a value only if the key is not there. Whether it did.
    ///
    /// # Errors
    /// As [`put`](DDict::put).
    pub fn put_new(&self, key: &K, value: &V) -> Result<bool> {
        Ok(self.put_if(key, value, Expect::Absent, false)? != Wrote::Refused)
    }

    /// Adds to a number in one step, and returns what it was before: 0, if the key was not there. It wraps.
    ///
    /// ```
    /// # let _dragon = dragon::init()?;
    /// let counts: dragon::DDict<String, u64> = dragon::DDict::new()?;
    /// assert_eq!(counts.fetch_add(&"fish".into(), 2)?, 0);
    /// assert_eq!(counts.fetch_add(&"fish".into(), 1)?, 2);
    /// # Ok::<(), dragon::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`update`](DDict::update).
    pub fn fetch_add(&self, key: &K, by: V) -> Result<V>
    where
        V: Whole,
    {
        if let Some(tie) = self.tie.as_ref().filter(|tie| tie.map.directory.shape.replicas == 0) {
            let far = with_key::<K, C, _>(key, |bytes| {
                let to = self.away(&self.body.table().key(bytes));
                to.map(|_| self.far_add(&tie.map, self.which_manager(key)?, bytes, &by)).transpose()
            })?;
            if let Some(old) = far {
                return Ok(old);
            }
        }
        let mut old = V::ZERO;
        self.update(key, |before| {
            old = before.unwrap_or(V::ZERO);
            Some(old.plus(by))
        })?;
        Ok(old)
    }

    /// Removes a key, and returns the value that it had.
    ///
    /// # Errors
    /// As [`remove`](DDict::remove).
    pub fn pop(&self, key: &K) -> Result<V> {
        loop {
            let (value, name) = self.find(key)?.ok_or_else(Self::not_found)?;
            if self.remove_if(key, Expect::Same(name))? != Wrote::Refused {
                return Ok(value);
            }
        }
    }

    /// Puts a value that is seen at all later checkpoints, also where the dictionary
    /// [waits for keys](super::DDictBuilder::wait_for_keys). Elsewhere it is [`put`](DDict::put).
    ///
    /// # Errors
    /// As [`put`](DDict::put).
    pub fn put_persistent(&self, key: &K, value: &V) -> Result<()> {
        self.put_if(key, value, Expect::Any, true).map(drop)
    }

    /// Puts a value at every manager, so that each can be asked for it: a copy for each, which count as so many keys.
    /// [`get`](DDict::get) finds the one at [the key's own](DDict::which_manager).
    ///
    /// # Errors
    /// As [`put`](DDict::put). Some managers may have it then, and others not.
    pub fn broadcast(&self, key: &K, value: &V) -> Result<()> {
        if let Some(tie) = &self.tie {
            return self.far_broadcast(&tie.map, key, value);
        }
        (0..self.body.table().shards()).try_for_each(|manager| self.at_manager(manager).put(key, value))
    }

    /// Writes several values, which all are there when it returns. On one node this is no faster than so many calls of
    /// [`put`](DDict::put), which take no message either. Those for other nodes travel together, all nodes at work at the same
    /// time; of one key the last value stays. It stops at the first that fails; others, also later ones, may be there.
    ///
    /// ```
    /// # let _dragon = dragon::init()?;
    /// let dict: dragon::DDict<u32, u32> = dragon::DDict::new()?;
    /// let written = dict.batch(|batch| (0..100).try_for_each(|n| batch.put(&n, &(n * n))))?;
    /// assert_eq!((written, dict.get(&9)?), (100, 81));
    /// # Ok::<(), dragon::Error>(())
    /// ```
    ///
    /// # Errors
    /// What `write` returns.
    pub fn batch(&self, write: impl FnOnce(&mut Batch<'_, K, V, C>) -> Result<()>) -> Result<u64> {
        let mut batch = Batch { dict: self, written: 0, outbox: Outbox::of(self)? };
        let wrote = write(&mut batch);
        if let Some(outbox) = batch.outbox {
            let sent = outbox.finish(self);
            wrote.and(sent)?;
        } else {
            wrote?;
        }
        Ok(batch.written)
    }

    /// The value of a key, waiting for it to be put at most this long.
    ///
    /// # Errors
    /// [`TimedOut`](ErrorKind::TimedOut), and those of [`get`](DDict::get).
    pub fn get_timeout(&self, key: &K, patience: Duration) -> Result<V> {
        self.await_value(key, Deadline::after(patience))
    }

    /// Waits at most this long until the value of a key is this one: until its bytes are equal.
    ///
    /// # Errors
    /// [`TimedOut`](ErrorKind::TimedOut), and those of [`try_get`](DDict::try_get).
    pub fn wait_for(&self, key: &K, value: &V, patience: Duration) -> Result<()> {
        let mut wanted = Vec::new();
        match <C as Codec<V>>::length(value) {
            Some(len) => {
                wanted.resize(len, 0);
                <C as Codec<V>>::write(value, &mut wanted);
            }
            None => <C as Codec<V>>::encode(value, &mut wanted)
                .map_err(|why| Error::with_source(ErrorKind::Codec, "a value cannot be written as bytes", why))?,
        }
        let far = with_key::<K, C, _>(key, |bytes| {
            let to = self.away(&self.body.table().key(bytes));
            to.map(|to| self.far_await_equal(to, bytes, &wanted, Deadline::after(patience))).transpose()
        })?;
        if far.is_some() {
            return Ok(());
        }
        let is_equal = || {
            let mut equal = false;
            with_key::<K, C, _>(key, |bytes| self.look(bytes, |found| equal = found == wanted)).map(|_| equal)
        };
        self.wait(Deadline::after(patience), || match is_equal() {
            Ok(true) => Some(Ok(())),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        })
    }

    /// Waits until there is an answer; asks again whenever something was put or removed.
    pub(super) fn wait<T>(&self, deadline: Deadline, mut ask: impl FnMut() -> Option<Result<T>>) -> Result<T> {
        let Some(cell) = self.body.table().changed() else { return Err(self.body.destroyed()) };
        let mut patience = Patience::new();
        loop {
            // Who changes a value tells of it without a step of its own, so nobody sleeps for ever on one word of it.
            match wait_until(cell, &mut patience, deadline.within(NAP), &mut ask) {
                Ok(answer) => return answer,
                Err(_) if !deadline.passed() => {}
                Err(_) => {
                    let text = format!("the time given to wait for a change of {} is up", self.body.name());
                    return Err(Error::new(ErrorKind::TimedOut, text));
                }
            }
        }
    }
}
