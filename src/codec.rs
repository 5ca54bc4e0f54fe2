//! How values become the bytes of a message: [`Postcard`] for anything that `serde` knows, [`Pod`] for plain
//! old data, or a [`Codec`] of your own.

use std::any::type_name;
use std::fmt;

pub use bytemuck;

use crate::wire;
use crate::wire::Message;

/// A way to write values of type `T` as bytes and read them again. It is a type without values, chosen as
/// the second parameter of a [`Queue`](crate::Queue).
///
/// ```
/// use dragon::codec::{Codec, CodecError};
///
/// /// Text as it is.
/// struct Utf8;
///
/// impl Codec<String> for Utf8 {
///     fn encode(value: &String, out: &mut Vec<u8>) -> Result<(), CodecError> {
///         out.extend_from_slice(value.as_bytes());
///         Ok(())
///     }
///     fn decode(bytes: &[u8]) -> Result<String, CodecError> {
///         String::from_utf8(bytes.to_vec()).map_err(|e| CodecError::new(e.to_string()))
///     }
/// }
///
/// let _dragon = dragon::init()?;
/// let queue = dragon::Queue::<String, Utf8>::bounded_with(8)?;
/// queue.put("as it is".into())?;
/// assert_eq!(queue.get()?, "as it is");
/// # Ok::<(), dragon::Error>(())
/// ```
pub trait Codec<T>: 'static {
    /// How many bytes every value takes, if that is the same for all. A queue makes its slots so long.
    fn width() -> Option<usize> {
        None
    }

    /// How many bytes this value takes, if that can be said without encoding it. Then [`write`](Codec::write) is
    /// called in place of [`encode`](Codec::encode), once, on the bytes that travel: nothing is copied on the
    /// way. Such a value must not contain handles of queues and the like.
    fn length(value: &T) -> Option<usize> {
        let _ = value;
        None
    }

    /// Writes a value into exactly as many bytes as [`length`](Codec::length) said, which hold anything before.
    fn write(value: &T, space: &mut [u8]) {
        let _ = (value, space);
    }

    /// Appends a value.
    ///
    /// # Errors
    /// What makes this value impossible to write.
    fn encode(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError>;

    /// Reads a value that is all of the bytes. They may be anything; they are aligned to nothing.
    ///
    /// # Errors
    /// What makes these bytes no value.
    fn decode(bytes: &[u8]) -> Result<T, CodecError>;
}

/// Numbers, and vectors of numbers, as their bytes in memory; everything else that `serde` knows in the
/// [postcard](https://docs.rs/postcard) format.
#[derive(Clone, Copy, Debug)]
pub struct Postcard;

impl<T: Message> Codec<T> for Postcard {
    #[inline]
    fn width() -> Option<usize> {
        wire::width::<T>()
    }

    #[inline]
    fn length(value: &T) -> Option<usize> {
        wire::known_length(value)
    }

    #[inline]
    fn write(value: &T, space: &mut [u8]) {
        wire::write_known(value, space);
    }

    #[inline]
    fn encode(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        wire::encode_alone(value, out).map_err(|why| CodecError::new(why.to_string()))
    }

    #[inline]
    fn decode(bytes: &[u8]) -> Result<T, CodecError> {
        wire::decode_alone(bytes).map_err(|why| CodecError::new(why.to_string()))
    }
}

/// Plain old data ([`bytemuck::Pod`]) as its bytes in memory: no serializer at all.
///
/// ```
/// use dragon::codec::{Pod, bytemuck};
///
/// #[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
/// #[bytemuck(crate = "dragon::codec::bytemuck")]
/// #[repr(C)]
/// struct Particle {
///     at: [f64; 3],
///     mass: f64,
/// }
///
/// let _dragon = dragon::init()?;
/// let queue = dragon::Queue::<Particle, Pod>::bounded_with(64)?;
/// let one = Particle { at: [0.0, 1.0, 2.0], mass: 3.0 };
/// queue.put(one)?;
/// assert_eq!(queue.get()?, one);
/// # Ok::<(), dragon::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Pod;

impl<T: bytemuck::Pod> Codec<T> for Pod {
    #[inline]
    fn width() -> Option<usize> {
        Some(size_of::<T>())
    }

    #[inline]
    fn length(_: &T) -> Option<usize> {
        Some(size_of::<T>())
    }

    #[inline]
    fn write(value: &T, space: &mut [u8]) {
        space.copy_from_slice(bytemuck::bytes_of(value));
    }

    #[inline]
    fn encode(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend_from_slice(bytemuck::bytes_of(value));
        Ok(())
    }

    #[inline]
    fn decode(bytes: &[u8]) -> Result<T, CodecError> {
        if bytes.len() == size_of::<T>() {
            Ok(bytemuck::pod_read_unaligned(bytes))
        } else {
            Err(other_length::<T>(bytes))
        }
    }
}

#[cold]
fn other_length<T>(bytes: &[u8]) -> CodecError {
    let (name, needs, has) = (type_name::<T>(), size_of::<T>(), bytes.len());
    CodecError::new(format!("a `{name}` has {needs} bytes, not {has}"))
}

/// Bytes, text and numbers as they are, and nothing else: no serializer, no lengths.
///
/// ```
/// use dragon::codec::Raw;
///
/// let _dragon = dragon::init()?;
/// let dict = dragon::DDict::<String, Vec<u8>, Raw>::builder_with().build()?;
/// dict.put(&"key".into(), &vec![1, 2, 3])?;
/// assert_eq!(&*dict.get_ref(&"key".into())?, [1, 2, 3]);
/// # Ok::<(), dragon::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Raw;

impl Codec<Vec<u8>> for Raw {
    #[inline]
    fn length(value: &Vec<u8>) -> Option<usize> {
        Some(value.len())
    }

    #[inline]
    fn write(value: &Vec<u8>, space: &mut [u8]) {
        space.copy_from_slice(value);
    }

    fn encode(value: &Vec<u8>, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend_from_slice(value);
        Ok(())
    }

    #[inline]
    fn decode(bytes: &[u8]) -> Result<Vec<u8>, CodecError> {
        Ok(bytes.to_vec())
    }
}

macro_rules! raw_numbers {
    ($($number:ty)*) => {$(
        impl Codec<$number> for Raw {
            #[inline]
            fn width() -> Option<usize> {
                <Pod as Codec<$number>>::width()
            }

            #[inline]
            fn length(value: &$number) -> Option<usize> {
                Pod::length(value)
            }

            #[inline]
            fn write(value: &$number, space: &mut [u8]) {
                Pod::write(value, space);
            }

            fn encode(value: &$number, out: &mut Vec<u8>) -> Result<(), CodecError> {
                Pod::encode(value, out)
            }

            #[inline]
            fn decode(bytes: &[u8]) -> Result<$number, CodecError> {
                Pod::decode(bytes)
            }
        }
    )*};
}

raw_numbers! { u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64 }

impl Codec<String> for Raw {
    #[inline]
    fn length(value: &String) -> Option<usize> {
        Some(value.len())
    }

    #[inline]
    fn write(value: &String, space: &mut [u8]) {
        space.copy_from_slice(value.as_bytes());
    }

    fn encode(value: &String, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend_from_slice(value.as_bytes());
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<String, CodecError> {
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|why| CodecError::new(why.to_string()))
    }
}

/// Why a codec could not write a value or read bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodecError(String);

impl CodecError {
    /// An error with this text.
    pub fn new(text: impl Into<String>) -> CodecError {
        CodecError(text.into())
    }
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CodecError {}

/// A message that could not be read as its type.
#[derive(Debug)]
pub(crate) struct Undecoded {
    why: CodecError,
    bytes: Vec<u8>,
}

impl Undecoded {
    pub(crate) fn new(why: CodecError, bytes: &[u8]) -> Undecoded {
        Undecoded { why, bytes: bytes.to_vec() }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Display for Undecoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (why, bytes) = (&self.why, self.bytes.len());
        write!(f, "{why}; the message was taken out, its {bytes} bytes are in `undecoded()`")
    }
}

impl std::error::Error for Undecoded {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.why)
    }
}
