//! Numbers as the bytes they are: the fast way round `serde`, chosen by type, in safe code.
//!
//! Stable Rust has no specialisation, but every message is `'static`, so `Any` can tell whether it is
//! a number. The questions are asked of a type, not of a value: in an optimised build they are answered
//! while compiling and nothing of them is left. The order of the bytes is this machine's, since the
//! other side is the same build.

use std::any::{Any, TypeId};

/// Calls macro `$then` with all types that travel as their own bytes.
macro_rules! numbers {
    ($then:ident) => {
        $then! { u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64 }
    };
}

/// Numbers copied at a time out of a slice whose type is a number's only by `TypeId`.
const STAGE: usize = 64;

/// The value itself where both types are the same one, else nothing.
#[inline(always)]
fn same<A: 'static, B: 'static>(value: A) -> Option<B> {
    let mut value = Some(value);
    (&mut value as &mut dyn Any).downcast_mut::<Option<B>>()?.take()
}

#[inline(always)]
fn is<A: 'static, B: 'static>() -> bool {
    TypeId::of::<A>() == TypeId::of::<B>()
}

/// How many bytes a `T` takes, if it is a number.
#[inline(always)]
pub(super) fn width<T: 'static>() -> Option<usize> {
    macro_rules! ask {
        ($($N:ty)*) => {
            if $(is::<T, $N>())||* { Some(size_of::<T>()) } else { None }
        };
    }
    numbers!(ask)
}

/// Whether `T` is a vector of numbers, and of how wide ones.
#[inline(always)]
pub(super) fn vector_width<T: 'static>() -> Option<usize> {
    macro_rules! ask {
        ($($N:ty)*) => {{
            $(if is::<T, Vec<$N>>() { return Some(size_of::<$N>()); })*
            None
        }};
    }
    numbers!(ask)
}

/// The bytes of a number.
#[inline(always)]
pub(super) fn bytes<T: 'static>(value: &T) -> Option<&[u8]> {
    macro_rules! ask {
        ($($N:ty)*) => {{
            $(if let Some(number) = (value as &dyn Any).downcast_ref::<$N>() {
                return Some(bytemuck::bytes_of(number));
            })*
            None
        }};
    }
    numbers!(ask)
}

/// The bytes of a vector of numbers.
#[inline(always)]
pub(super) fn vector_bytes<T: 'static>(value: &T) -> Option<&[u8]> {
    macro_rules! ask {
        ($($N:ty)*) => {{
            $(if let Some(numbers) = (value as &dyn Any).downcast_ref::<Vec<$N>>() {
                return Some(bytemuck::cast_slice(numbers));
            })*
            None
        }};
    }
    numbers!(ask)
}

/// A number from exactly its bytes.
#[inline(always)]
pub(super) fn from_bytes<T: 'static>(bytes: &[u8]) -> Option<T> {
    macro_rules! ask {
        ($($N:ty)*) => {{
            $(if is::<T, $N>() {
                return same(bytemuck::try_pod_read_unaligned::<$N>(bytes).ok()?);
            })*
            None
        }};
    }
    numbers!(ask)
}

/// A vector of numbers from exactly its bytes.
#[inline(always)]
pub(super) fn vector_from_bytes<V: 'static>(bytes: &[u8]) -> Option<V> {
    if is::<V, Vec<u8>>() {
        // In one pass: the others are filled with zeros first.
        return same(bytes.to_vec());
    }
    macro_rules! ask {
        ($($N:ty)*) => {{
            $(if is::<V, Vec<$N>>() { return same(collect::<$N>(bytes)?); })*
            None
        }};
    }
    numbers!(ask)
}

fn collect<N: bytemuck::Pod>(bytes: &[u8]) -> Option<Vec<N>> {
    let mut numbers = vec![N::zeroed(); bytes.len() / size_of::<N>()];
    let room: &mut [u8] = bytemuck::cast_slice_mut(&mut numbers);
    if room.len() != bytes.len() {
        return None;
    }
    room.copy_from_slice(bytes);
    Some(numbers)
}

/// Appends the bytes of all items, if they are numbers.
#[inline(always)]
pub(super) fn append_all<T: 'static>(items: &[T], out: &mut Vec<u8>) -> bool {
    macro_rules! ask {
        ($($N:ty)*) => {{
            $(if is::<T, $N>() {
                append_staged::<T, $N>(items, out);
                return true;
            })*
            false
        }};
    }
    numbers!(ask)
}

/// A slice cannot be asked its type as a vector can; its items can, and a small stage on the stack
/// turns them into one copy again.
fn append_staged<T: 'static, N: bytemuck::Pod>(items: &[T], out: &mut Vec<u8>) {
    out.reserve(size_of_val(items));
    let mut stage = [N::zeroed(); STAGE];
    for part in items.chunks(STAGE) {
        for (to, from) in stage.iter_mut().zip(part) {
            if let Some(number) = (from as &dyn Any).downcast_ref::<N>() {
                *to = *number;
            }
        }
        out.extend_from_slice(bytemuck::cast_slice(&stage[..part.len()]));
    }
}
