//! Values to bytes and back: one at a time, and many at once.
//!
//! ```text
//! a number                    its bytes
//! a vector of numbers         length in bytes: u64 | the bytes
//! one that is all there is    the bytes
//! anything else               postcard
//! many                        count: u64 | each as above
//! ```
//! Bytes may come from a process that was killed while it wrote, or from a bug: whatever they are,
//! reading them ends in a value or an error, and asks for no more memory than they justify.

use std::{any::type_name, marker::PhantomData};

use super::{Message, WireError, number};

/// Bytes of a count or a length.
const COUNT: usize = size_of::<u64>();

/// Appends a value.
#[inline]
pub(crate) fn encode<T: Message>(value: &T, out: &mut Vec<u8>) -> Result<(), WireError> {
    if let Some(bytes) = number::bytes(value) {
        out.extend_from_slice(bytes);
    } else if let Some(bytes) = number::vector_bytes(value) {
        out.reserve(COUNT + bytes.len());
        encode_count(bytes.len(), out);
        out.extend_from_slice(bytes);
    } else {
        return encode_by_serde(value, out);
    }
    Ok(())
}

/// How many bytes a value takes that travels alone, if that can be said at once. A vector of numbers alone is only them,
/// since whoever has all of its bytes knows how many there are.
#[inline]
pub(crate) fn known_length<T: 'static>(value: &T) -> Option<usize> {
    plain_bytes(value).map(<[u8]>::len)
}

/// Writes a value of known length into exactly that many bytes.
#[inline]
pub(crate) fn write_known<T: 'static>(value: &T, space: &mut [u8]) {
    if let Some(bytes) = plain_bytes(value) {
        space.copy_from_slice(bytes);
    }
}

#[inline]
fn plain_bytes<T: 'static>(value: &T) -> Option<&[u8]> {
    number::bytes(value).or_else(|| number::vector_bytes(value))
}

/// Appends a value that travels alone.
#[inline]
pub(crate) fn encode_alone<T: Message>(value: &T, out: &mut Vec<u8>) -> Result<(), WireError> {
    match plain_bytes(value) {
        Some(bytes) => out.extend_from_slice(bytes),
        None => return encode_by_serde(value, out),
    }
    Ok(())
}

/// Reads a value that travelled alone and is all of the bytes.
#[inline]
pub(crate) fn decode_alone<T: Message>(bytes: &[u8]) -> Result<T, WireError> {
    if number::vector_width::<T>().is_none() {
        return decode(bytes);
    }
    let none = || WireError::Decode { type_name: type_name::<T>(), why: postcard::Error::DeserializeBadEncoding };
    number::vector_from_bytes(bytes).ok_or_else(none)
}

/// How many bytes every value of this type takes, if that is the same for all.
#[inline]
pub(crate) fn width<T: 'static>() -> Option<usize> {
    number::width::<T>()
}

/// Reads a value that is all of the bytes.
#[inline]
pub(crate) fn decode<T: Message>(bytes: &[u8]) -> Result<T, WireError> {
    let (value, used) = decode_prefix(bytes)?;
    match bytes.len() - used {
        0 => Ok(value),
        left => Err(WireError::Leftover { type_name: type_name::<T>(), left }),
    }
}

/// Reads a value from the front of the bytes, and says how many it took.
#[inline]
pub(crate) fn decode_prefix<T: Message>(bytes: &[u8]) -> Result<(T, usize), WireError> {
    if let Some(width) = number::width::<T>() {
        let (own, _) = split::<T>(bytes, width as u64)?;
        if let Some(value) = number::from_bytes(own) {
            return Ok((value, width));
        }
    } else if number::vector_width::<T>().is_some() {
        let (length, rest) = decode_count::<T>(bytes)?;
        let (own, _) = split::<T>(rest, length)?;
        if let Some(value) = number::vector_from_bytes(own) {
            return Ok((value, COUNT + own.len()));
        }
        return Err(WireError::Decode { type_name: type_name::<T>(), why: postcard::Error::DeserializeBadEncoding });
    }
    decode_by_serde(bytes)
}

/// Appends a sequence: its count and its items.
pub(crate) fn encode_many<T: Message>(items: &[T], out: &mut Vec<u8>) -> Result<(), WireError> {
    let start = out.len();
    encode_count(items.len(), out);
    if number::append_all(items, out) {
        return Ok(());
    }
    let all = items.iter().try_for_each(|item| encode(item, out));
    all.inspect_err(|_| out.truncate(start))
}

/// Reads a sequence that is all of the bytes.
pub(crate) fn decode_many<T: Message>(bytes: &[u8]) -> Result<Vec<T>, WireError> {
    let items = Items::<T>::new(bytes)?;
    match number::width::<T>().and_then(|_| number::vector_from_bytes(items.rest)) {
        Some(all) => Ok(all),
        None => items.collect(),
    }
}

/// Appends the count that opens a sequence whose items the caller then encodes one by one.
#[inline]
pub(crate) fn encode_count(count: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&(count as u64).to_ne_bytes());
}

/// The items of an encoded sequence, read one by one without a vector between.
pub(crate) struct Items<'a, T> {
    rest: &'a [u8],
    left: u64,
    item: PhantomData<fn() -> T>,
}

impl<'a, T: Message> Items<'a, T> {
    /// Reads the count. Where the width of an item is known, all of them must be there.
    #[inline]
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, WireError> {
        let (left, rest) = decode_count::<T>(bytes)?;
        if let Some(width) = number::width::<T>() {
            let needs = left.saturating_mul(width as u64);
            let (own, behind) = split::<T>(rest, needs)?;
            refuse_leftover::<T>(behind)?;
            return Ok(Items { rest: own, left, item: PhantomData });
        }
        if left == 0 {
            refuse_leftover::<T>(rest)?;
        }
        Ok(Items { rest, left, item: PhantomData })
    }

    /// How many items are left.
    #[inline]
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    #[inline]
    fn read(&mut self) -> Result<T, WireError> {
        let (value, used) = decode_prefix(self.rest)?;
        self.rest = &self.rest[used..];
        if self.left == 0 {
            refuse_leftover::<T>(self.rest)?;
        }
        Ok(value)
    }
}

impl<T: Message> Iterator for Items<'_, T> {
    type Item = Result<T, WireError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let read = self.read();
        if read.is_err() {
            self.left = 0;
        }
        Some(read)
    }

    /// Never promises more than the bytes at hand could hold, because vectors are sized by it.
    fn size_hint(&self) -> (usize, Option<usize>) {
        let most = self.rest.len().max(1) as u64;
        (self.left.min(most) as usize, None)
    }
}

fn encode_by_serde<T: Message>(value: &T, out: &mut Vec<u8>) -> Result<(), WireError> {
    let start = out.len();
    postcard::serialize_with_flavor(value, Appender(out)).map_err(|why| {
        out.truncate(start);
        WireError::Encode { type_name: type_name::<T>(), why }
    })
}

fn decode_by_serde<T: Message>(bytes: &[u8]) -> Result<(T, usize), WireError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, rest)) => Ok((value, bytes.len() - rest.len())),
        Err(why) => Err(WireError::Decode { type_name: type_name::<T>(), why }),
    }
}

#[inline]
fn decode_count<T>(bytes: &[u8]) -> Result<(u64, &[u8]), WireError> {
    match bytes.split_first_chunk::<COUNT>() {
        Some((count, rest)) => Ok((u64::from_ne_bytes(*count), rest)),
        None => Err(too_short::<T>(COUNT as u64, bytes)),
    }
}

#[inline]
fn split<T>(bytes: &[u8], needs: u64) -> Result<(&[u8], &[u8]), WireError> {
    let at = usize::try_from(needs).ok();
    at.and_then(|at| bytes.split_at_checked(at)).ok_or_else(|| too_short::<T>(needs, bytes))
}

#[inline]
fn refuse_leftover<T>(rest: &[u8]) -> Result<(), WireError> {
    match rest.len() {
        0 => Ok(()),
        left => Err(WireError::Leftover { type_name: type_name::<T>(), left }),
    }
}

#[cold]
fn too_short<T>(needs: u64, bytes: &[u8]) -> WireError {
    WireError::TooShort { type_name: type_name::<T>(), needs, has: bytes.len() }
}

/// Lets postcard write into a vector that already holds something, in whole slices.
struct Appender<'a>(&'a mut Vec<u8>);

impl postcard::ser_flavors::Flavor for Appender<'_> {
    type Output = ();

    #[inline]
    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(data);
        Ok(())
    }

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}
