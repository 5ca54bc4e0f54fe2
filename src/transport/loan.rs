//! Bytes that an engine may use although they are only borrowed: whoever lends them waits until it has let go.
//!
//! A large body that its owner keeps as it is until the answer comes need not be copied to where it is sent from. When the
//! answer is there the engine has long let go: it has heard with it that all has arrived. It also has when the peer is lost or
//! the engine is closed. So nearly never is anything waited for; but nobody goes on before.

use std::ptr::NonNull;
use std::sync::Arc;
use std::thread;

use super::Steady;

/// What the engine has instead of the bytes.
#[derive(Debug)]
struct Lent(NonNull<[u8]>);

// SAFETY: bytes that nobody writes as long as this lives may be read by any thread.
unsafe impl Send for Lent {}
// SAFETY: as above.
unsafe impl Sync for Lent {}

impl Steady for Lent {
    fn bytes(&self) -> &[u8] {
        // SAFETY: whoever made this has the bytes borrowed, and stays in `lend` until this is its alone.
        unsafe { self.0.as_ref() }
    }
}

/// Holds its owner until it is the only one.
struct Loan(Arc<Lent>);

impl Loan {
    fn is_back(&mut self) -> bool {
        // Acquire, inside: all that others did with the bytes was before.
        Arc::get_mut(&mut self.0).is_some()
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        // Only after a panic: others see to the engine.
        while !self.is_back() {
            thread::yield_now();
        }
    }
}

/// Calls `act` with bytes that may be sent as if they were kept, and comes back when nobody has them any more. `wait` waits
/// until what it is given says yes.
pub(crate) fn lend<R>(
    bytes: &[u8],
    act: impl FnOnce(Arc<dyn Steady>) -> R,
    wait: impl FnOnce(&mut dyn FnMut() -> bool),
) -> R {
    let mut loan = Loan(Arc::new(Lent(NonNull::from(bytes))));
    let result = act(loan.0.clone());
    if !loan.is_back() {
        wait(&mut || loan.is_back());
    }
    drop(loan);
    result
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::mpsc;

    use super::*;
    use crate::prim::{AtomicBool, Ordering};

    /// Keeps what it is lent until it is told, reads it, and says so.
    fn engine(lent: mpsc::Receiver<Arc<dyn Steady>>, told: mpsc::Receiver<()>, read: Arc<AtomicBool>) {
        let lent = lent.recv().unwrap();
        told.recv().unwrap();
        assert!(lent.bytes().iter().all(|byte| *byte == 7));
        read.store(true, Ordering::Relaxed);
    }

    #[test]
    fn whoever_lends_waits_until_it_is_back() {
        let (give, lent) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let read = Arc::<AtomicBool>::default();
        let seen = read.clone();
        let engine = thread::spawn(move || engine(lent, told, seen));
        let wait = |is_back: &mut dyn FnMut() -> bool| {
            assert!(!is_back(), "the engine has it");
            tell.send(()).unwrap();
            while !is_back() {
                thread::yield_now();
            }
        };
        lend(&[7; 1000], |lent| give.send(lent).unwrap(), wait);
        assert!(read.load(Ordering::Relaxed));
        engine.join().unwrap();
    }

    #[test]
    fn also_when_it_panics() {
        let (give, lent) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let read = Arc::<AtomicBool>::default();
        let seen = read.clone();
        let engine = thread::spawn(move || engine(lent, told, seen));
        let act = |lent| {
            give.send(lent).unwrap();
            tell.send(()).unwrap();
            panic!("on the way");
        };
        assert!(catch_unwind(AssertUnwindSafe(|| lend(&[7; 1000], act, |_| ()))).is_err());
        assert!(read.load(Ordering::Relaxed));
        engine.join().unwrap();
    }

    #[test]
    fn what_comes_back_at_once_is_not_waited_for() {
        let wait = |_: &mut dyn FnMut() -> bool| panic!("nobody has it");
        assert_eq!(lend(&[1, 2, 3], |lent| lent.bytes().len(), wait), 3);
    }
}
