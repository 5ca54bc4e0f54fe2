//! The one door to atomics: `std`'s, or those of the shuttle model checker, under the same names.
//!
//! Everything that lives in shared memory or is raced for goes through here, so that the same source
//! runs in the product and under the checker. Two further words live here because every floor needs
//! them: [`Plain`], a cell for bytes that are guarded by an atomic next to them, and `mark!`, a place
//! where a crash test may kill the process.

#[cfg(not(feature = "shuttle"))]
pub(crate) use std::hint::spin_loop;
// Of the compiler only, so the model checker has none of its own.
pub(crate) use std::sync::atomic::compiler_fence;
#[cfg(not(feature = "shuttle"))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

#[cfg(feature = "shuttle")]
pub(crate) use shuttle::{
    hint::spin_loop,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering},
};

/// Copies shared words, each of them whole, and no later load is done before: what a loop of loads with Acquire does, but
/// several words at a time, which the compiler may not do with atomics. Stops at the end of the shorter.
#[inline]
pub(crate) fn load_words(from: &[AtomicU64], into: &mut [u64]) {
    let len = from.len().min(into.len());
    let done = if len < FEW { 0 } else { load_many(&from[..len], &mut into[..len]) };
    // Acquire: pairs with whatever the caller says that it pairs with.
    into[done..].iter_mut().zip(&from[done..]).for_each(|(to, word)| *to = word.load(Ordering::Acquire));
}

/// Fewer words than this are loaded one by one.
const FEW: usize = 16;

/// Copies as many words as make whole lines of 8, and says how many those are.
#[cfg(all(target_arch = "x86_64", not(any(feature = "shuttle", miri))))]
#[inline]
fn load_many(from: &[AtomicU64], into: &mut [u64]) -> usize {
    let lines = from.len().min(into.len()) / 8;
    // SAFETY: so many lines are inside both slices, and `into` is ours alone. `from` may change meanwhile: to the compiler
    // the loads in assembly are such as atomics allow; the processor does vector loads in order, as all its loads, and an
    // aligned word in one is never torn.
    unsafe {
        std::arch::asm!(
            "2:",
            "movups {a}, [{from}]",
            "movups {b}, [{from} + 16]",
            "movups {c}, [{from} + 32]",
            "movups {d}, [{from} + 48]",
            "movups [{into}], {a}",
            "movups [{into} + 16], {b}",
            "movups [{into} + 32], {c}",
            "movups [{into} + 48], {d}",
            "add {from}, 64",
            "add {into}, 64",
            "dec {lines}",
            "jnz 2b",
            from = inout(reg) from.as_ptr() => _,
            into = inout(reg) into.as_mut_ptr() => _,
            lines = inout(reg) lines => _,
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            c = out(xmm_reg) _,
            d = out(xmm_reg) _,
            options(nostack),
        );
    }
    8 * lines
}

#[cfg(not(all(target_arch = "x86_64", not(any(feature = "shuttle", miri)))))]
fn load_many(_from: &[AtomicU64], _into: &mut [u64]) -> usize {
    0
}

/// Words of a cache line.
const LINE: usize = 8;

/// Has these words on their way to the cache, before one knows whether they will be read.
#[cfg(all(target_arch = "x86_64", not(any(feature = "shuttle", miri))))]
#[inline(always)]
pub(crate) fn fetch_ahead(words: &[AtomicU64]) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    for line in words.chunks(LINE) {
        // SAFETY: inside the slice, and nothing is read as far as the program can see.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
}

#[cfg(not(all(target_arch = "x86_64", not(any(feature = "shuttle", miri)))))]
pub(crate) fn fetch_ahead(_words: &[AtomicU64]) {}

/// A bit for each word of a line but the first whose bits from `FROM` on are these: what loads with Acquire, one by one, find,
/// with a third of the instructions. The first is left alone: whoever has just changed it would wait for that.
#[cfg(all(target_arch = "x86_64", not(any(feature = "shuttle", miri))))]
#[inline(always)]
pub(crate) fn with_high_bits<const FROM: u32>(words: &[AtomicU64; LINE], bits: u32) -> u32 {
    const { assert!(FROM >= 32, "what is left is compared as numbers of 32 bits") };
    let found: u32;
    // SAFETY: all loads are inside the array. It may change meanwhile: to the compiler the loads in assembly are such as atomics
    // allow; the processor does vector loads in order, as all its loads, and an aligned word in one is never torn.
    unsafe {
        std::arch::asm!(
            "movd {bits_everywhere}, {bits:e}",
            "pshufd {bits_everywhere}, {bits_everywhere}, 0",
            "pxor {a}, {a}",
            "movhps {a}, [{words} + 8]",
            "movups {b}, [{words} + 16]",
            "movups {c}, [{words} + 32]",
            "movups {d}, [{words} + 48]",
            "psrlq {a}, {from}",
            "psrlq {b}, {from}",
            "psrlq {c}, {from}",
            "psrlq {d}, {from}",
            "shufps {a}, {b}, 0x88",
            "shufps {c}, {d}, 0x88",
            "pcmpeqd {a}, {bits_everywhere}",
            "pcmpeqd {c}, {bits_everywhere}",
            "packssdw {a}, {c}",
            "packsswb {a}, {a}",
            "pmovmskb {found:e}, {a}",
            bits = in(reg) bits,
            words = in(reg) words.as_ptr(),
            from = const FROM,
            found = out(reg) found,
            bits_everywhere = out(xmm_reg) _,
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            c = out(xmm_reg) _,
            d = out(xmm_reg) _,
            options(nostack, preserves_flags),
        );
    }
    // The other half says the same once more, and there is no first.
    found & 0xFE
}

#[cfg(not(all(target_arch = "x86_64", not(any(feature = "shuttle", miri)))))]
#[inline(always)]
pub(crate) fn with_high_bits<const FROM: u32>(words: &[AtomicU64; LINE], bits: u32) -> u32 {
    // Acquire: pairs with whatever the caller says that it pairs with. All are looked at, so that no branch has to be guessed.
    let has = |at: usize| words[at].load(Ordering::Acquire) >> FROM == u64::from(bits);
    (1..LINE).fold(0, |found, at| found | u32::from(has(at)) << at)
}

/// Bytes that are not atomic, guarded by an atomic next to them.
///
/// Shuttle sees no scheduling point in a plain access, so a publish that comes too early would go
/// unnoticed; this cell tells it that here is one.
#[cfg(test)]
#[repr(transparent)]
pub(crate) struct Plain<T>(std::cell::UnsafeCell<T>);

#[cfg(test)]
// SAFETY: access is only through `with_mut`, whose callers promise exclusion by a neighbouring
// atomic; the cell itself hands out raw pointers only.
unsafe impl<T: Send> Sync for Plain<T> {}

#[cfg(test)]
impl<T> Plain<T> {
    /// Wraps a value.
    pub(crate) const fn new(value: T) -> Self {
        Plain(std::cell::UnsafeCell::new(value))
    }

    /// Calls `f` with a pointer for writing.
    #[inline(always)]
    pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        scheduling_point();
        f(self.0.get())
    }
}

#[cfg(all(test, feature = "shuttle"))]
fn scheduling_point() {
    shuttle::thread::yield_now();
}

#[cfg(all(test, not(feature = "shuttle")))]
#[inline(always)]
fn scheduling_point() {}

/// A place where `tests/crash.rs` may kill this process. Nothing at all without feature `failpoints`.
macro_rules! mark {
    ($name:literal) => {
        #[cfg(feature = "failpoints")]
        $crate::prim::failpoint::reached($name);
    };
}

/// The other half of `mark!`.
#[cfg(feature = "failpoints")]
pub(crate) mod failpoint {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{LazyLock, PoisonError, RwLock};

    /// This process kills itself the `at`th time (from 1) it comes past `name`.
    struct Armed {
        name: String,
        at: u64,
        passed: AtomicU64,
    }

    /// What is armed: at first what `DRAGON_CRASH_AT=name:n` in the environment says.
    static ARMED: LazyLock<RwLock<Option<Armed>>> = LazyLock::new(|| RwLock::new(from_environment()));

    /// Arms a place from inside the process, instead of what was armed before.
    pub fn arm(name: &str, at: u64) {
        let armed = Armed { name: name.into(), at, passed: AtomicU64::new(0) };
        *ARMED.write().unwrap_or_else(PoisonError::into_inner) = Some(armed);
    }

    fn from_environment() -> Option<Armed> {
        let text = std::env::var("DRAGON_CRASH_AT").ok()?;
        let (name, at) = text.rsplit_once(':')?;
        Some(Armed { name: name.into(), at: at.parse().ok()?, passed: AtomicU64::new(0) })
    }

    /// Called by `mark!`.
    pub(crate) fn reached(name: &str) {
        let armed = ARMED.read().unwrap_or_else(PoisonError::into_inner);
        let Some(armed) = armed.as_ref().filter(|armed| armed.name == name) else { return };
        if armed.passed.fetch_add(1, Ordering::Relaxed) + 1 == armed.at {
            crate::sys::process::kill_self();
        }
    }
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use super::{AtomicU64, Ordering, with_high_bits};

    #[test]
    fn the_words_that_have_these_high_bits_are_found() {
        let mut state = 7_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // Of few different high bits, so that several words have the same.
            state.rotate_left(17) & 0x0007_FFFF_FFFF_FFFF | (state >> 61) << 61
        };
        for _ in 0..1000 {
            let words: [AtomicU64; 8] = std::array::from_fn(|_| AtomicU64::new(next()));
            for bits in [0, 1, next() >> 51, 0x1FFF] {
                let has = |at: &usize| words[*at].load(Ordering::Relaxed) >> 51 == bits;
                let plain = (1..8).filter(has).fold(0, |found, at| found | 1 << at);
                assert_eq!(with_high_bits::<51>(&words, bits as u32), plain, "{words:x?}, {bits:x}");
            }
        }
    }
}
