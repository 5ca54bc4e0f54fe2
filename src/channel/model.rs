//! A channel's very code under the shuttle model checker: no message lost, nobody asleep who could go on.

use std::sync::Arc;

use shuttle::{check_pct, check_random, thread};

use super::pipe::{Incoming, Outgoing, Pipe, Refusal};
use crate::id::ProcId;
use crate::prim::{AtomicU32, Ordering};
use crate::ring::{Boxed, Ring};
use crate::time::Deadline;
use crate::wait::{Patience, WaitCell, wait_until};

const SCHEDULES: usize = 2_000;
const DEPTH: usize = 4;
const DYING: ProcId = ProcId(66);

fn check(body: impl Fn() + Send + Sync + Clone + 'static) {
    check_random(body.clone(), SCHEDULES);
    check_pct(body, SCHEDULES, DEPTH);
}

pub(super) struct Words {
    ring: Ring<Boxed>,
    readers: WaitCell,
    writers: WaitCell,
    closed: AtomicU32,
}

impl Words {
    pub(super) fn new(capacity: usize) -> Arc<Words> {
        let store = Boxed::new(capacity);
        Ring::<Boxed>::initialise(&store, 0);
        let (readers, writers, closed) = (WaitCell::new(), WaitCell::new(), AtomicU32::new(0));
        Arc::new(Words { ring: Ring::new(store), readers, writers, closed })
    }

    pub(super) fn pipe(&self, me: ProcId) -> Pipe<'_, Boxed> {
        let Words { ring, readers, writers, closed } = self;
        Pipe { ring, readers, writers, closed, me }
    }

    pub(super) fn is_readable(&self) -> bool {
        self.ring.readable()
    }

    pub(super) fn is_done(&self) -> bool {
        self.ring.all_done()
    }

    fn send(&self, value: u64) -> bool {
        let claimed = self.pipe(ProcId(1)).claim(&mut Patience::new(), Deadline::Never);
        claimed.map(|outgoing| fill(outgoing, value).send()).is_ok()
    }

    fn receive(&self) -> Option<u64> {
        let taken = self.pipe(ProcId(2)).take(&mut Patience::new(), Deadline::Never, || false);
        taken.ok().map(|incoming| value(&incoming))
    }

    /// What `channel::repair` does to a ring.
    fn repair(&self) {
        self.ring.unstick(DYING);
        self.readers.heal();
        self.writers.heal();
    }
}

pub(super) fn fill(mut outgoing: Outgoing<'_, Boxed>, value: u64) -> Outgoing<'_, Boxed> {
    // SAFETY: a claimed slot of at least eight aligned bytes is the writer's alone.
    unsafe { outgoing.body().cast::<u64>().write(value) };
    outgoing
}

pub(super) fn value(incoming: &Incoming<'_, Boxed>) -> u64 {
    // SAFETY: the body of a claimed message, written by `fill`.
    unsafe { incoming.body().cast::<u64>().read() }
}

fn spawn<R: Send + 'static>(
    words: &Arc<Words>,
    work: impl FnOnce(&Words) -> R + Send + 'static,
) -> thread::JoinHandle<R> {
    let words = words.clone();
    thread::spawn(move || work(&words))
}

fn join<R>(threads: Vec<thread::JoinHandle<R>>) -> Vec<R> {
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

/// Every receiver takes exactly its share and goes: whoever is left asleep beside a ready message is a deadlock.
fn everybody_gets_on(capacity: usize, senders: u64, receivers: usize, receive: fn(&Words) -> u64) {
    let words = Words::new(capacity);
    let receivers = (0..receivers).map(|_| spawn(&words, receive)).collect();
    let senders = (0..senders).map(|value| spawn(&words, move |words| assert!(words.send(value)))).collect();
    join(senders);
    let mut got = join(receivers);
    got.sort();
    assert!(got.iter().copied().eq(0..got.len() as u64), "lost or doubled");
    assert!(!words.ring.readable() && words.readers.sleepers() == 0);
}

#[test]
fn model_three_senders_three_receivers() {
    let receive = |words: &Words| words.receive().unwrap();
    check(move || everybody_gets_on(4, 3, 3, receive));
    check(move || everybody_gets_on(1, 3, 3, receive));
    check(move || everybody_gets_on(2, 3, 3, receive));
}

/// Broken: does not look whether there is more when others sleep.
fn receive_for_oneself(words: &Words) -> u64 {
    let take = || words.ring.take(ProcId(2));
    let taken = wait_until(&words.readers, &mut Patience::new(), Deadline::Never, take).unwrap();
    let writers = &words.writers;
    // SAFETY: the body of a claimed message, written by `fill`.
    let value = unsafe { taken.body().cast::<u64>().read() };
    taken.free();
    writers.notify_one();
    value
}

#[test]
#[should_panic(expected = "deadlock")]
fn model_sees_a_receiver_that_does_not_pass_the_call_on() {
    for _ in 0..5 {
        check(|| everybody_gets_on(4, 3, 3, receive_for_oneself));
    }
}

#[test]
fn model_one_slot_ping_pong() {
    check(|| {
        let (there, back) = (Words::new(1), Words::new(1));
        let echo = {
            let back = back.clone();
            spawn(&there, move |there| {
                while let Some(value) = there.receive() {
                    assert!(back.send(value + 1));
                }
            })
        };
        for value in 0..3 {
            assert!(there.send(value));
            assert_eq!(back.receive(), Some(value + 1));
        }
        there.pipe(ProcId(1)).close();
        echo.join().unwrap();
    });
}

#[test]
fn model_closing_loses_nothing_that_was_sent() {
    check(|| {
        let words = Words::new(2);
        let senders = (0..2).map(|value| spawn(&words, move |words| words.send(value))).collect();
        let receivers = (0..2).map(|_| spawn(&words, |words| std::iter::from_fn(|| words.receive()).count())).collect();
        words.pipe(ProcId(1)).close();
        let sent = join(senders).into_iter().filter(|sent| *sent).count();
        let received: usize = join(receivers).into_iter().sum();
        assert_eq!(sent, received);
        assert!(!words.send(9));
    });
}

#[test]
fn model_a_stop_is_heard_and_takes_nothing() {
    check(|| {
        let words = Words::new(2);
        let flag = Arc::new(AtomicU32::new(0));
        let stopped = {
            let flag = flag.clone();
            spawn(&words, move |words| {
                let stop = || flag.load(Ordering::SeqCst) != 0;
                let taken = words.pipe(ProcId(2)).take(&mut Patience::new(), Deadline::Never, stop);
                taken.map(|incoming| value(&incoming)).err()
            })
        };
        let other = spawn(&words, |words| words.receive());
        let sender = spawn(&words, |words| assert!(words.send(5)));
        flag.store(1, Ordering::SeqCst);
        words.pipe(ProcId(1)).poke();
        if stopped.join().unwrap().is_none() {
            assert!(words.send(5));
        }
        sender.join().unwrap();
        assert_eq!(other.join().unwrap(), Some(5));
    });
}

/// One dies with a claim while others sleep around it; after the repair all go on.
fn one_dies(die: fn(&Words)) {
    check(move || {
        let words = Words::new(1);
        let dying = spawn(&words, die);
        let receiver = spawn(&words, |words| [words.receive(), words.receive()]);
        let sender = spawn(&words, |words| assert!(words.send(1) && words.send(2)));
        dying.join().unwrap();
        words.repair();
        sender.join().unwrap();
        assert_eq!(receiver.join().unwrap(), [Some(1), Some(2)]);
    });
}

#[test]
fn model_a_sender_dies_with_its_claim() {
    one_dies(|words| {
        let claimed = words.pipe(DYING).claim(&mut Patience::new(), Deadline::Never);
        std::mem::forget(claimed.map(|outgoing| fill(outgoing, 7)));
    });
}

#[test]
fn model_a_receiver_dies_with_its_claim() {
    one_dies(|words| {
        if let Some(Ok(incoming)) = words.pipe(DYING).try_take() {
            std::mem::forget(incoming);
        }
    });
}

#[test]
fn model_a_refusal_is_told_apart() {
    let told_apart = || {
        let words = Words::new(1);
        let pipe = words.pipe(ProcId(1));
        let taken = pipe.take(&mut Patience::new(), Deadline::Now, || false);
        assert_eq!(taken.err(), Some(Refusal::Late));
        assert!(words.send(1));
        assert_eq!(pipe.claim(&mut Patience::new(), Deadline::Now).err(), Some(Refusal::Late));
        pipe.close();
        assert_eq!(pipe.claim(&mut Patience::new(), Deadline::Never).err(), Some(Refusal::Closed));
        assert_eq!(words.receive(), Some(1));
        assert_eq!(words.receive(), None);
    };
    // One thread: one schedule.
    check_random(told_apart, 1);
}
