//! How values become bytes: what may be sent at all, and what can be wrong with bytes that came.

mod codec;
mod number;
#[cfg(test)]
mod tests;

#[cfg(test)]
use codec::decode_prefix;
pub(crate) use codec::{Items, decode, decode_many, encode, encode_count, encode_many};
pub(crate) use codec::{decode_alone, encode_alone, known_length, width, write_known};

use serde::{Serialize, de::DeserializeOwned};

/// What can be sent to another process: anything that owns its data and that `serde` can write and read.
///
/// There is nothing to implement. Derive `Serialize` and `Deserialize` for your type, and it is a
/// message. Numbers, and vectors of numbers, travel as their bytes in memory; everything else in the
/// postcard format. A byte vector *inside* another type goes through `serde` byte after byte unless the
/// field says `#[serde(with = "serde_bytes")]`, which makes large ones some sixty times faster.
///
/// ```
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Picture {
///     width: u32,
///     #[serde(with = "serde_bytes")]
///     pixels: Vec<u8>,
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent to another process",
    note = "a message owns its data (`'static`), is `Send`, and derives `serde::Serialize` and `serde::Deserialize`"
)]
pub trait Message: Serialize + DeserializeOwned + Send + 'static {}

impl<T: Serialize + DeserializeOwned + Send + 'static> Message for T {}

/// Why bytes and values did not fit together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    /// The value's own `Serialize` refused, or its length is not known before its end.
    #[error("a value of type {type_name} cannot be written as bytes: {why}")]
    Encode { type_name: &'static str, why: postcard::Error },
    /// The bytes are no value of this type.
    #[error("bytes cannot be read as {type_name}: {why}")]
    Decode { type_name: &'static str, why: postcard::Error },
    /// The bytes end inside a value.
    #[error("bytes end inside a value of type {type_name}: it needs {needs}, there are {has}")]
    TooShort { type_name: &'static str, needs: u64, has: usize },
    /// There is more than the value.
    #[error("{left} bytes are left over behind a value of type {type_name}")]
    Leftover { type_name: &'static str, left: usize },
}
