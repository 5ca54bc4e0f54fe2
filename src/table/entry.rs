//! An entry: one key with one value of it, in one block of a page.
//!
//! Its head says in which state it is, in which of the lives of its block, and who has it in hand. Readers copy
//! what they need word by word, and then look whether it was the same life before and after: a copy that is torn
//! is never believed. Who frees a block ends its life before anybody can write into it again.

use super::ground::Ground;
use super::layout::{form, head, name, slot};
use crate::mm::Given;
use crate::prim::{AtomicU64, Ordering};

/// Words before the key.
pub(super) const HEAD_WORDS: usize = 3;
/// Most words of an entry.
pub(super) const LARGEST: usize = 1024;
const FORM: usize = 1;
const HASH: usize = 2;

/// What an entry's block is just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum State {
    /// Nobody has it.
    Free = 0,
    /// The desk named fills it.
    Taken = 1,
    /// It is filled; the desk that filled it has named it, or the table refers to it.
    Live = 2,
    /// The desk named frees it, or finds out whether it may.
    Leaving = 3,
    /// Nothing refers to it but readers that hold it: the last of them frees it.
    Retired = 4,
}

/// A head's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head(pub(super) u64);

impl Head {
    /// A block that lies so many words behind the start of its page and was never used.
    #[inline]
    pub(super) fn fresh(back: usize, generation: u64) -> Head {
        Head(head::BACK.put(back as u64) | head::GENERATION.put(generation))
    }

    #[inline]
    pub(super) fn state(self) -> State {
        match head::STATE.get(self.0) {
            1 => State::Taken,
            2 => State::Live,
            3 => State::Leaving,
            4 => State::Retired,
            _ => State::Free,
        }
    }

    /// The same life in another state, in the hands of a desk (by its claim) or of nobody (0).
    #[inline]
    pub(super) fn to(self, state: State, claim: u64) -> Head {
        Head(head::DESK.set(head::STATE.set(self.0, state as u64), claim))
    }

    /// Free, and every name and slot of this life stale.
    #[inline]
    pub(super) fn ended(self) -> Head {
        Head::fresh(self.back(), self.generation().wrapping_add(1))
    }

    #[inline]
    pub(super) fn claim(self) -> u64 {
        head::DESK.get(self.0)
    }

    #[inline]
    pub(super) fn generation(self) -> u64 {
        head::GENERATION.get(self.0)
    }

    /// Words from the start of the page.
    #[inline]
    pub(super) fn back(self) -> usize {
        head::BACK.get(self.0) as usize
    }

    #[inline]
    pub(super) fn is_pinned(self) -> bool {
        head::PINNED.get(self.0) != 0
    }

    #[inline]
    pub(super) fn pinned(self) -> Head {
        Head(self.0 | head::PINNED.mask())
    }
}

/// The name of an entry: where it is, and which life of its block. Zero is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Name(pub(super) u64);

impl Name {
    pub(super) const NONE: Name = Name(0);

    #[inline]
    pub(super) fn new(spot: u64, generation: u64) -> Name {
        Name(name::SPOT.put(spot) | name::GENERATION.put(generation))
    }

    #[inline]
    pub(super) fn spot(self) -> u64 {
        name::SPOT.get(self.0)
    }

    #[inline]
    pub(super) fn is_some(self) -> bool {
        self.0 != 0
    }

    /// Whether it means the life that this head is of.
    #[inline]
    pub(super) fn means(self, head: Head) -> bool {
        name::GENERATION.get(self.0) == name::GENERATION.get(name::GENERATION.put(head.generation()))
    }

    /// From such a word: a claim, which is not believed before the entry was looked at.
    pub(crate) fn from_word(word: u64) -> Name {
        Name(word)
    }

    /// As one word, never zero.
    pub(crate) fn word(self) -> u64 {
        self.0
    }

    /// What stands in a slot for it.
    #[inline]
    pub(super) fn slot(self, tag: u64) -> Slot {
        let generation = slot::GENERATION.put(name::GENERATION.get(self.0));
        Slot(slot::SPOT.put(self.spot()) | generation | slot::TAG.put(tag))
    }
}

/// A slot's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(pub(super) u64);

impl Slot {
    pub(super) const EMPTY: Slot = Slot(0);

    #[inline]
    pub(super) fn spot(self) -> u64 {
        slot::SPOT.get(self.0)
    }

    /// Whether it means the life that this head is of.
    #[inline]
    fn means(self, head: Head) -> bool {
        slot::GENERATION.get(self.0) == slot::GENERATION.get(slot::GENERATION.put(head.generation()))
    }
}

/// Lengths and nature of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Form(pub(super) u64);

impl Form {
    #[inline]
    pub(super) fn new(key: usize, value: usize) -> Form {
        Form(form::KEY.put(key as u64) | form::VALUE.put(value as u64))
    }

    #[inline]
    pub(super) fn key(self) -> usize {
        form::KEY.get(self.0) as usize
    }

    #[inline]
    pub(super) fn value(self) -> usize {
        form::VALUE.get(self.0) as usize
    }

    /// The value is in a block of its own.
    #[inline]
    pub(super) fn is_large(self) -> bool {
        form::LARGE.get(self.0) != 0
    }

    /// It survives checkpoints by itself.
    pub(super) fn is_kept(self) -> bool {
        form::KEPT.get(self.0) != 0
    }

    /// There is no value any more since its checkpoint.
    #[inline]
    pub(super) fn is_gone(self) -> bool {
        form::GONE.get(self.0) != 0
    }

    /// It keeps other objects alive.
    #[inline]
    pub(super) fn has_cargo(self) -> bool {
        form::CARGO.get(self.0) != 0
    }

    #[inline]
    pub(super) fn with(self, nature: super::layout::Field, yes: bool) -> Form {
        Form(nature.set(self.0, u64::from(yes)))
    }

    /// Words of the key.
    #[inline]
    pub(super) fn key_words(self) -> usize {
        self.key().div_ceil(8)
    }

    /// Words of the value in the entry: itself, or the name of its block.
    #[inline]
    pub(super) fn value_words(self) -> usize {
        if self.is_large() { 1 } else { self.value().div_ceil(8) }
    }

    /// Words of the whole entry.
    #[inline]
    pub(super) fn words(self) -> usize {
        HEAD_WORDS + self.key_words() + self.value_words() + usize::from(self.is_chained())
    }

    /// There may be an older entry behind it.
    #[inline]
    fn is_chained(self) -> bool {
        form::CHAINED.get(self.0) != 0
    }

    /// Bytes of the block of the value's own.
    #[inline]
    pub(super) fn large_bytes(self) -> u64 {
        if self.is_large() { self.value() as u64 } else { 0 }
    }
}

/// An entry's block. What is in its words may change at any time.
#[derive(Clone, Copy)]
pub(super) struct Entry<'t> {
    pub(super) spot: u64,
    words: &'t [AtomicU64; HEAD_WORDS],
    body: &'t [AtomicU64],
}

impl<'t> Entry<'t> {
    #[inline]
    pub(super) fn at<G: Ground>(ground: &'t G, spot: u64) -> Option<Entry<'t>> {
        let (words, body) = ground.words(spot, LARGEST)?.split_first_chunk()?;
        Some(Entry { spot, words, body })
    }

    #[inline]
    pub(super) fn word(&self) -> &'t AtomicU64 {
        &self.words[0]
    }

    /// Acquire: pairs with every change of a head, so that what was written before is seen.
    #[inline]
    pub(super) fn head(&self) -> Head {
        Head(self.words[0].load(Ordering::Acquire))
    }

    /// The name of the life that the head is of.
    #[inline]
    pub(super) fn name(&self, head: Head) -> Name {
        Name::new(self.spot, head.generation())
    }

    /// The head, if it is of the life that a slot means, and the table refers to it as far as one can see from here.
    #[inline]
    pub(super) fn head_for(&self, slot: Slot) -> Option<Head> {
        let head = self.head();
        (head.state() == State::Live && slot.means(head)).then_some(head)
    }

    /// Whether it still is the life that this head was of, and live: what was read since is true. In one that is leaving
    /// the form is no more.
    #[inline]
    pub(super) fn is_still(&self, head: Head) -> bool {
        self.head().pinned() == head.to(State::Live, 0).pinned()
    }

    /// Acquire, in all that reads: pairs with the next life's stores; who sees one of those sees its head.
    #[inline]
    pub(super) fn form(&self) -> Form {
        Form(self.words[FORM].load(Ordering::Acquire))
    }

    #[inline]
    pub(super) fn set_form(&self, form: Form) {
        self.words[FORM].store(form.0, Ordering::Release); // pairs with `form`
    }

    /// The lower half of the key's hash.
    #[inline]
    pub(super) fn hash(&self) -> u32 {
        (self.words[HASH].load(Ordering::Acquire) >> 32) as u32 // as in `form`
    }

    /// The checkpoint that it was put at.
    #[inline]
    pub(super) fn version(&self) -> u32 {
        self.words[HASH].load(Ordering::Acquire) as u32 // as in `form`
    }

    #[inline]
    pub(super) fn set_hash(&self, hash: u64, version: u32) {
        let word = hash << 32 | u64::from(version);
        self.words[HASH].store(word, Ordering::Release); // pairs with `hash`
    }

    /// The entry of the same key at an earlier checkpoint.
    #[inline]
    pub(super) fn older(&self, form: Form) -> Name {
        let word = if form.is_chained() { self.body.get(form.words() - HEAD_WORDS - 1) } else { None };
        word.map_or(Name::NONE, |word| Name(word.load(Ordering::Acquire))) // as in `form`
    }

    pub(super) fn set_older(&self, form: Form, older: Name) {
        if let Some(word) = self.body.get(form.words() - HEAD_WORDS - 1).filter(|_| form.is_chained()) {
            word.store(older.0, Ordering::Release); // pairs with `older`
        }
    }

    /// The words behind the first `skipped` ones after the head.
    #[inline]
    pub(super) fn body(&self, skipped: usize, count: usize) -> Option<&'t [AtomicU64]> {
        self.body.get(skipped..skipped + count)
    }

    /// Where the value's words begin.
    #[inline]
    pub(super) fn value_spot(&self, form: Form) -> u64 {
        self.spot + (HEAD_WORDS + form.key_words()) as u64
    }

    /// The name of the value's own block.
    pub(super) fn large(&self, form: Form) -> Option<Given> {
        let word = self.body(form.key_words(), 1)?.first()?;
        Given::from_word(word.load(Ordering::Acquire)) // as in `form`
    }

    /// Whether the key is this one. Only to be believed if the life is still the same afterwards.
    #[inline]
    pub(super) fn has_key(&self, form: Form, key: &[u8]) -> bool {
        form.key() == key.len() && self.body(0, form.key_words()).is_some_and(|words| equal(words, key))
    }
}

#[inline]
fn equal(words: &[AtomicU64], bytes: &[u8]) -> bool {
    let (whole, rest) = bytes.as_chunks::<8>();
    let load = |word: &AtomicU64| word.load(Ordering::Acquire); // pairs with `store_bytes` of a later life
    whole.iter().zip(words).all(|(part, word)| load(word) == u64::from_ne_bytes(*part))
        && (rest.is_empty() || words.last().is_some_and(|word| load(word) == padded(rest)))
}

#[inline]
fn padded(rest: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..rest.len()].copy_from_slice(rest);
    u64::from_ne_bytes(word)
}

/// Writes bytes into words; the last is filled up with zeros. Release: pairs with all that reads an entry, so that a
/// reader of an earlier life sees by the head that this one has begun.
#[inline]
pub(super) fn store_bytes(words: &[AtomicU64], bytes: &[u8]) {
    let (whole, rest) = bytes.as_chunks::<8>();
    whole.iter().zip(words).for_each(|(part, word)| word.store(u64::from_ne_bytes(*part), Ordering::Release));
    if let (false, Some(word)) = (rest.is_empty(), words.get(whole.len())) {
        word.store(padded(rest), Ordering::Release);
    }
}
