//! What each operation does to each kind of object. Nothing here knows where the caller is.

use super::super::far::sync_words::SyncOp;
use super::sync::Call;
use crate::latch::{
    Arrival, Barrier, Condvar, Copies, Event, Generation, Lock, Refusal, Row, RwLock, Semaphore, bytes,
};
use crate::mm::Kind;
use crate::time::Deadline;

/// Why it was not done.
pub(super) enum Refused {
    No(Refusal),
    /// Such a thing cannot be done to such an object.
    Unclear(&'static str),
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Refused {
        Refused::No(refusal)
    }
}

type Done = Result<Vec<u8>, Refused>;

const NOTHING: Done = Ok(Vec::new());
const STRANGE: Refused = Refused::Unclear("that cannot be done to an object of this kind");

/// Does it, waiting until the deadline.
pub(super) fn perform(call: &Call, deadline: Deadline) -> Done {
    if call.op == SyncOp::Figures {
        return Ok(bytemuck::bytes_of(&figures(call)).to_vec());
    }
    match call.kind {
        Kind::Lock => lock(call, deadline),
        Kind::RwLock => rwlock(call, deadline),
        Kind::Semaphore => semaphore(call, deadline),
        Kind::Barrier => barrier(call, deadline),
        Kind::Event => event(call, deadline),
        Kind::Condvar => condvar(call, deadline),
        Kind::Value => value(call, deadline),
        Kind::Array => array(call, deadline),
        _ => Err(STRANGE),
    }
}

fn lock(call: &Call, deadline: Deadline) -> Done {
    let lock = Lock::in_words(call.words());
    match call.op {
        SyncOp::Take => lock.acquire(call.who(), deadline)?,
        SyncOp::Give => return release(lock, call, || lock.release()),
        SyncOp::ClearPoison => lock.clear_poison(),
        _ => return Err(STRANGE),
    }
    NOTHING
}

/// Gives back what the caller holds.
fn release(lock: Lock<'_>, call: &Call, give: impl FnOnce()) -> Done {
    if lock.holder() != Some(call.who()) {
        return Err(Refused::Unclear("the caller does not hold what it gives back"));
    }
    if call.word[0] != 0 {
        lock.poison();
    }
    give();
    NOTHING
}

fn rwlock(call: &Call, deadline: Deadline) -> Done {
    let lock = RwLock::in_words(call.words());
    match call.op {
        SyncOp::Read => lock.read(call.who(), deadline)?,
        SyncOp::Leave => lock.leave(call.who()),
        SyncOp::Write => lock.write(call.who(), deadline)?,
        SyncOp::WriteEnd => return release(lock.writer(), call, || lock.write_end()),
        SyncOp::ClearPoison => lock.writer().clear_poison(),
        _ => return Err(STRANGE),
    }
    NOTHING
}

fn semaphore(call: &Call, deadline: Deadline) -> Done {
    let semaphore = Semaphore::in_words(call.words());
    match call.op {
        SyncOp::Take => semaphore.acquire(deadline)?,
        SyncOp::Give => semaphore.release(call.word[0])?,
        _ => return Err(STRANGE),
    }
    NOTHING
}

/// Answers with 0 and the number of this party, or with 1 and the generation in which it acts.
fn barrier(call: &Call, deadline: Deadline) -> Done {
    let barrier = Barrier::in_words(call.words());
    let arrival = match call.op {
        SyncOp::Arrive => barrier.arrive(call.word[0] != 0, deadline)?,
        SyncOp::Acted => barrier.acted(Generation(call.word[0]))?,
        SyncOp::Abort => {
            barrier.abort();
            return NOTHING;
        }
        SyncOp::Reset => {
            barrier.reset();
            return NOTHING;
        }
        _ => return Err(STRANGE),
    };
    let words = match arrival {
        Arrival::Met(number) => [0, number],
        Arrival::Acts(Generation(generation)) => [1, generation],
    };
    Ok(bytemuck::bytes_of(&words).to_vec())
}

fn event(call: &Call, deadline: Deadline) -> Done {
    let event = Event::in_words(call.words());
    match call.op {
        SyncOp::Set => event.set(),
        SyncOp::Clear => event.clear(),
        SyncOp::Wait => event.wait(deadline)?,
        _ => return Err(STRANGE),
    }
    NOTHING
}

fn condvar(call: &Call, deadline: Deadline) -> Done {
    let condvar = Condvar::in_words(call.words());
    match (call.op, call.lock_words()) {
        (SyncOp::NotifyOne, _) => condvar.notify_one(),
        (SyncOp::NotifyAll, _) => condvar.notify_all(),
        (SyncOp::Wait, Some(words)) => {
            let lock = Lock::in_words(words);
            if lock.holder() != Some(call.who()) {
                return Err(Refused::Unclear("the caller does not hold the lock with which it waits"));
            }
            condvar.wait(lock, call.who(), deadline)?;
        }
        _ => return Err(STRANGE),
    }
    NOTHING
}

/// A value is as long as its object says; one of up to 8 bytes is one word.
fn value(call: &Call, deadline: Deadline) -> Done {
    let (row, given) = (Row::in_words(call.words()), &call.bytes[..]);
    let size = row.size();
    let wrong = Refused::Unclear("a value of another length");
    let is_small = size <= size_of::<u64>();
    match call.op {
        SyncOp::Get if is_small => {
            let mut whole = [0; size_of::<u64>()];
            bytes::read(std::slice::from_ref(row.small()), 0, &mut whole);
            Ok(whole[..size].to_vec())
        }
        SyncOp::Put if is_small && given.len() == size => {
            bytes::change(row.small(), |word| word[..size].copy_from_slice(given));
            NOTHING
        }
        SyncOp::Exchange if is_small && given.len() == 2 * size => {
            Ok(bytes::change(row.small(), |word| exchange(&mut word[..size], given)))
        }
        SyncOp::Get if !is_small => {
            let mut value = vec![0; size];
            Copies::in_words(call.words(), size).read(&mut value);
            Ok(value)
        }
        SyncOp::Put if given.len() == size => {
            Copies::in_words(call.words(), size).write_by(call.who(), given, None, deadline)?;
            NOTHING
        }
        SyncOp::Exchange if given.len() == 2 * size => exchange_large(call, size, deadline),
        SyncOp::Put | SyncOp::Exchange => Err(wrong),
        _ => Err(STRANGE),
    }
}

/// Puts the second half where the first stands. Says nothing, or what stands there.
fn exchange(place: &mut [u8], halves: &[u8]) -> Vec<u8> {
    let (expected, new) = halves.split_at(halves.len() / 2);
    if place != expected {
        return place.to_vec();
    }
    place.copy_from_slice(new);
    Vec::new()
}

fn exchange_large(call: &Call, size: usize, deadline: Deadline) -> Done {
    let copies = Copies::in_words(call.words(), size);
    let mut value = vec![0; size];
    loop {
        let version = copies.read(&mut value);
        let stands = exchange(&mut value, &call.bytes);
        // Somebody may have written in between, perhaps the same.
        if !stands.is_empty() || copies.write_by(call.who(), &value, Some(version), deadline)? {
            return Ok(stands);
        }
    }
}

fn array(call: &Call, deadline: Deadline) -> Done {
    let (row, given) = (Row::in_words(call.words()), &call.bytes[..]);
    let all = row.length().saturating_mul(row.size()).min(row.elements().len() * size_of::<u64>());
    let at = usize::try_from(call.word[0]).unwrap_or(usize::MAX);
    let fits = |len: usize| at.checked_add(len).is_some_and(|end| end <= all);
    match call.op {
        SyncOp::Take | SyncOp::Give | SyncOp::ClearPoison => lock(call, deadline),
        SyncOp::Get => {
            let len = usize::try_from(call.word[1]).unwrap_or(usize::MAX);
            if !fits(len) {
                return Err(Refused::Unclear("more than the array has"));
            }
            let mut elements = vec![0; len];
            bytes::read(row.elements(), at, &mut elements);
            Ok(elements)
        }
        SyncOp::Put if fits(given.len()) => {
            bytes::write(row.elements(), at, given);
            NOTHING
        }
        SyncOp::Exchange if fits(given.len() / 2) && is_in_a_word(at, given.len() / 2) => {
            let (word, at) = (&row.elements()[at / 8], at % 8);
            Ok(bytes::change(word, |word| exchange(&mut word[at..at + given.len() / 2], given)))
        }
        SyncOp::Put | SyncOp::Exchange => Err(Refused::Unclear("more than the array has, or not in one word")),
        _ => Err(STRANGE),
    }
}

fn is_in_a_word(at: usize, len: usize) -> bool {
    at % 8 + len <= 8
}

/// What people want to know, by kind: a lock's poison, holder, whether that is the caller, and depth; a read-write lock's
/// poison, writer and readers; permits and the most of them; whether a barrier is broken, who waits and for how many it
/// is; whether an event is set.
fn figures(call: &Call) -> [u64; 4] {
    let of_lock = |lock: Lock<'_>| {
        let mine = lock.holder() == Some(call.who());
        [u64::from(lock.is_poisoned()), u64::from(lock.holder().is_some()), u64::from(mine), lock.times()]
    };
    match call.kind {
        Kind::Lock | Kind::Array => of_lock(Lock::in_words(call.words())),
        Kind::RwLock => {
            let lock = RwLock::in_words(call.words());
            let [poisoned, held, ..] = of_lock(lock.writer());
            [poisoned, held, lock.count(), 0]
        }
        Kind::Semaphore => {
            let semaphore = Semaphore::in_words(call.words());
            [semaphore.permits(), semaphore.most(), 0, 0]
        }
        Kind::Barrier => {
            let barrier = Barrier::in_words(call.words());
            [u64::from(barrier.is_broken()), barrier.waiting(), barrier.parties(), 0]
        }
        Kind::Event => [u64::from(Event::in_words(call.words()).is_set()), 0, 0, 0],
        _ => [0; 4],
    }
}

/// Why the caller waited in vain.
pub(super) fn state(call: &Call, refusal: Refusal) -> String {
    let held = |lock: Lock<'_>| match lock.holder() {
        Some(holder) => format!("{} holds it", call.process(holder.process)),
        None => "others were quicker".into(),
    };
    match call.kind {
        Kind::Lock | Kind::Array => held(Lock::in_words(call.words())),
        Kind::RwLock if refusal == Refusal::TooMany => "that process reads 60,000 times already".into(),
        Kind::RwLock => {
            let lock = RwLock::in_words(call.words());
            match lock.count() {
                0 => held(lock.writer()),
                readers => format!("{readers} threads read"),
            }
        }
        Kind::Semaphore if refusal == Refusal::TooMany => {
            let [there, most, ..] = figures(call);
            format!("{there} are there, at most {most} may be, and {} were given", call.word[0])
        }
        Kind::Semaphore => "nobody gave a permit".into(),
        Kind::Barrier => format!("not all of its {} parties came", Barrier::in_words(call.words()).parties()),
        Kind::Event => "nobody has set it".into(),
        Kind::Condvar => "nobody has called".into(),
        _ => "others write it".into(),
    }
}
