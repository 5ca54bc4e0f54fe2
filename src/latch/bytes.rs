//! Plain bytes in and out of shared words.

use bytemuck::Pod;

use crate::prim::{AtomicU64, Ordering};

const WORD: usize = size_of::<u64>();

/// The bytes from byte `at` on. Acquire, pairs with [`write`]: what was written before a word that is seen
/// is seen too. Each aligned word is read whole.
#[inline]
pub(crate) fn read(words: &[AtomicU64], at: usize, bytes: &mut [u8]) {
    let (head, rest) = bytes.split_at_mut(head(at, bytes.len()));
    if !head.is_empty() {
        head.copy_from_slice(&load(&words[at / WORD])[at % WORD..at % WORD + head.len()]);
    }
    let words = &words[at.div_ceil(WORD)..];
    let (whole, tail) = rest.as_chunks_mut();
    whole.iter_mut().zip(words).for_each(|(part, word)| *part = load(word));
    if !tail.is_empty() {
        tail.copy_from_slice(&load(&words[whole.len()])[..tail.len()]);
    }
}

/// Puts bytes from byte `at` on, and leaves those beside them alone.
#[inline]
pub(crate) fn write(words: &[AtomicU64], at: usize, bytes: &[u8]) {
    let (head, rest) = bytes.split_at(head(at, bytes.len()));
    if !head.is_empty() {
        merge(&words[at / WORD], at % WORD, head);
    }
    let words = &words[at.div_ceil(WORD)..];
    let (whole, tail) = rest.as_chunks();
    let store = |word: &AtomicU64, part| word.store(u64::from_ne_bytes(part), Ordering::Release); // pairs with `load`
    whole.iter().zip(words).for_each(|(part, word)| store(word, *part));
    if !tail.is_empty() {
        merge(&words[whole.len()], 0, tail);
    }
}

/// How many of `length` bytes come before the first word that starts among them.
fn head(at: usize, length: usize) -> usize {
    (at.next_multiple_of(WORD) - at).min(length)
}

fn load(word: &AtomicU64) -> [u8; WORD] {
    word.load(Ordering::Acquire).to_ne_bytes() // pairs with `write` and `merge`
}

/// Puts bytes into the middle of a word, by one step.
fn merge(word: &AtomicU64, at: usize, part: &[u8]) {
    change(word, |bytes| bytes[at..at + part.len()].copy_from_slice(part));
}

/// Changes a word by one step. `make` may be called several times.
pub(crate) fn change<R>(word: &AtomicU64, mut make: impl FnMut(&mut [u8; WORD]) -> R) -> R {
    let mut before = word.load(Ordering::Acquire); // pairs with the swap below
    loop {
        let mut bytes = before.to_ne_bytes();
        let made = make(&mut bytes);
        // Release and acquire: pairs with itself and with `load`.
        match word.compare_exchange(before, u64::from_ne_bytes(bytes), Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return made,
            Err(now) => before = now,
        }
    }
}

/// A value from the first bytes of a word.
pub(crate) fn value<T: Pod>(word: &[u8]) -> T {
    let mut value = T::zeroed();
    let bytes = bytemuck::bytes_of_mut(&mut value);
    bytes.copy_from_slice(&word[..bytes.len()]);
    value
}

/// A number that tells a type from others, in all processes of a build.
pub(crate) fn type_mark<T: Pod>() -> u64 {
    rapidhash::v3::rapidhash_v3(std::any::type_name::<T>().as_bytes())
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use proptest::prelude::*;

    use super::{read, write};
    use crate::prim::AtomicU64;

    proptest! {
        #[test]
        fn any_bytes_at_any_place_are_as_in_a_vector(
            writes in prop::collection::vec((0_usize..80, prop::collection::vec(any::<u8>(), 0..40)), 1..20),
        ) {
            let words: Vec<AtomicU64> = (0..16).map(|_| AtomicU64::new(0)).collect();
            let mut model = vec![0; 128];
            for (at, bytes) in writes {
                write(&words, at, &bytes);
                model[at..at + bytes.len()].copy_from_slice(&bytes);
                let mut part = vec![0; bytes.len() + 8];
                read(&words, at, &mut part);
                prop_assert_eq!(&part, &model[at..at + part.len()]);
            }
            let mut all = vec![0; 128];
            read(&words, 0, &mut all);
            prop_assert_eq!(all, model);
        }
    }
}
