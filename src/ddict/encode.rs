//! Keys and values as bytes, in buffers that a thread keeps.

use std::any::type_name;
use std::cell::Cell;

use crate::channel;
use crate::codec::{Codec, CodecError, Undecoded};
use crate::error::{Error, ErrorKind, Result};
use crate::mm::Object;

/// Keys up to so many bytes are written on the stack.
const SHORT: usize = 64;
/// Longest buffer that a thread keeps.
const KEPT: usize = 1 << 20;

/// Calls `f` with the bytes of a key.
#[inline]
pub(super) fn with_key<K, C: Codec<K>, R>(key: &K, f: impl FnOnce(&[u8]) -> Result<R>) -> Result<R> {
    match C::length(key) {
        Some(len) if len <= SHORT => {
            let mut space = [0; SHORT];
            C::write(key, &mut space[..len]);
            f(&space[..len])
        }
        _ => with_long_key::<K, C, R>(key, f),
    }
}

fn with_long_key<K, C: Codec<K>, R>(key: &K, f: impl FnOnce(&[u8]) -> Result<R>) -> Result<R> {
    thread_local! {
        static KEY: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    let mut bytes = KEY.take();
    bytes.clear();
    let encoded = match C::length(key) {
        Some(len) => {
            bytes.resize(len, 0);
            C::write(key, &mut bytes);
            Ok(())
        }
        None => C::encode(key, &mut bytes).map_err(|why| unwritable::<K>("a key", why)),
    };
    let result = encoded.and_then(|()| f(&bytes));
    bytes.shrink_to(KEPT);
    KEY.set(bytes);
    result
}

/// Calls `f` with the bytes of a value whose length is not known before, and the objects that they name.
pub(super) fn with_value<V, C: Codec<V>, R>(value: &V, f: impl FnOnce(&[u8], &[Object]) -> Result<R>) -> Result<R> {
    thread_local! {
        static VALUE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    let mut bytes = VALUE.take();
    bytes.clear();
    let (encoded, cargo) = channel::gather(|| C::encode(value, &mut bytes));
    let encoded = encoded.map_err(|why| unwritable::<V>("a value", why));
    let result = encoded.and_then(|()| f(&bytes, &cargo));
    bytes.shrink_to(KEPT);
    VALUE.set(bytes);
    result
}

#[cold]
fn unwritable<T>(what: &str, why: CodecError) -> Error {
    let text = format!("{what} of type `{}` cannot be written as bytes", type_name::<T>());
    Error::with_source(ErrorKind::Codec, text, why)
}

/// A value from its bytes.
#[inline]
pub(super) fn decode<T, C: Codec<T>>(bytes: &[u8]) -> Result<T> {
    C::decode(bytes).map_err(|why| unreadable::<T>(why, bytes))
}

#[cold]
#[inline(never)]
fn unreadable<T>(why: CodecError, bytes: &[u8]) -> Error {
    let text = format!("what is stored cannot be read as `{}`", type_name::<T>());
    Error::with_source(ErrorKind::Codec, text, Undecoded::new(why, bytes))
}
