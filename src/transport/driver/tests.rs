//! One engine and many threads: everybody is served, nobody is woken for nothing for ever, and an idle process
//! answers without working.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use super::{Driver, Waiting};
use crate::mm::Block;
use crate::prim::{AtomicBool, AtomicU64, Ordering};
use crate::time::Deadline;
use crate::transport::conformance::to;
use crate::transport::tcp::tests::beds::{nodes, settings};
use crate::transport::{Engine, Lost, Node, SendError, Sink, To, Token, Undelivered};

const QUESTION: u16 = 1;
const ANSWER: u16 = 2;

/// Answers questions, and keeps answers by their number.
#[derive(Default)]
struct Desk {
    answers: Arc<Mutex<HashMap<u64, Vec<u8>>>>,
    asked: Vec<(To, Vec<u8>)>,
    lost: Arc<AtomicU64>,
}

impl Sink for Desk {
    fn message(&mut self, from: To, kind: u16, header: &[u8], body: &[u8]) {
        if kind == QUESTION {
            self.asked.push((from, header.into()));
        } else {
            let number = u64::from_le_bytes(header.try_into().unwrap());
            self.answers.lock().unwrap().insert(number, body.into());
        }
    }

    fn landing(&mut self, _: To, _: u16, _: &[u8], _: usize) -> Option<Block> {
        None
    }

    fn landed(&mut self, _: To, _: u16, _: &[u8], _: Block, _: usize) {}

    fn done(&mut self, _: Token, _: Result<(), Undelivered>) {}

    fn lost(&mut self, _: Node, _: u64, _: &Lost) {
        self.lost.fetch_add(1, Ordering::SeqCst);
    }

    fn settled(&mut self, engine: &mut dyn Engine) {
        for (from, header) in self.asked.drain(..) {
            engine.send(from, ANSWER, &header, b"because", Token::NONE).unwrap();
        }
    }
}

/// A node of two: its driver, the answers it got, and the peers it lost.
struct Post {
    driver: Arc<Driver>,
    answers: Arc<Mutex<HashMap<u64, Vec<u8>>>>,
    lost: Arc<AtomicU64>,
}

fn posts(waiting: Waiting) -> [Post; 2] {
    let mut engines = nodes(2, &settings()).into_iter();
    [(); 2].map(|()| {
        let desk = Desk::default();
        let (answers, lost) = (desk.answers.clone(), desk.lost.clone());
        let driver = Driver::new(engines.next().unwrap(), Box::new(desk), waiting).unwrap();
        Post { driver: Arc::new(driver), answers, lost }
    })
}

impl Post {
    fn ask(&self, other: Node, number: u64) {
        self.driver.send(to(other, 0), QUESTION, &number.to_le_bytes(), &[], Token::NONE).unwrap();
    }

    fn answer(&self, number: u64, deadline: Deadline) -> Option<Vec<u8>> {
        self.driver.drive(deadline, || self.answers.lock().unwrap().remove(&number)).ok()
    }
}

/// A thread that gives a driver turns until told otherwise.
struct Background {
    stop: Arc<AtomicBool>,
    turns: Arc<AtomicU64>,
    driver: Arc<Driver>,
    thread: Option<thread::JoinHandle<()>>,
}

fn background(driver: &Arc<Driver>) -> Background {
    let (stop, turns) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (told, counted, driven) = (stop.clone(), turns.clone(), driver.clone());
    let body = move || {
        while !told.load(Ordering::SeqCst) {
            driven.turn_for(Duration::from_millis(100));
            counted.fetch_add(1, Ordering::SeqCst);
        }
    };
    Background { stop, turns, driver: driver.clone(), thread: Some(thread::spawn(body)) }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.driver.wake();
        self.thread.take().unwrap().join().unwrap();
    }
}

const LONG: Duration = Duration::from_secs(20);

fn long() -> Deadline {
    Deadline::after(LONG)
}

/// An idle process, with its background alone, answers who asks.
#[test]
fn who_waits_fetches_its_answer_and_an_idle_process_gives_it() {
    for waiting in [Waiting::Adaptive, Waiting::Sleep, Waiting::Poll] {
        let [a, b] = posts(waiting);
        let _background = background(&b.driver);
        for number in 0..200 {
            a.ask(1, number);
            assert_eq!(a.answer(number, long()).unwrap(), b"because", "{waiting:?}");
        }
    }
}

#[test]
fn many_threads_share_one_engine() {
    for waiting in [Waiting::Adaptive, Waiting::Sleep] {
        let [a, b] = posts(waiting);
        let _backgrounds = [background(&a.driver), background(&b.driver)];
        let (a, threads, each) = (&a, 6, 150);
        thread::scope(|scope| {
            for thread in 0..threads {
                scope.spawn(move || {
                    for number in thread * each..(thread + 1) * each {
                        a.ask(1, number);
                        assert!(a.answer(number, long()).is_some(), "{waiting:?}: {number} was not answered");
                    }
                });
            }
        });
        assert!(a.answers.lock().unwrap().is_empty());
    }
}

/// Both sides ask and both answer, with nobody in the background: whoever waits serves the other meanwhile.
#[test]
fn who_waits_answers_others_meanwhile() {
    let [a, b] = posts(Waiting::Sleep);
    let (a, b) = (&a, &b);
    thread::scope(|scope| {
        for (post, other) in [(a, 1), (b, 0)] {
            scope.spawn(move || {
                for number in 0..300 {
                    post.ask(other, number);
                    assert!(post.answer(number, long()).is_some());
                }
                // The other may have questions left.
                let _ = post.answer(u64::MAX, Deadline::after(Duration::from_millis(500)));
            });
        }
    });
}

#[test]
fn deadlines_are_kept() {
    for waiting in [Waiting::Adaptive, Waiting::Sleep, Waiting::Poll] {
        let [a, _b] = posts(waiting);
        assert!(a.answer(0, Deadline::Now).is_none());
        let (begin, patience) = (Instant::now(), Duration::from_millis(40));
        assert!(a.answer(0, Deadline::after(patience)).is_none());
        assert!(begin.elapsed() >= patience && begin.elapsed() < LONG / 2, "{waiting:?}");
    }
}

/// A seat that is taken stays taken, however often somebody asks for it.
#[test]
fn the_seat_has_one_place() {
    let [a, _b] = posts(Waiting::Sleep);
    let (driver, seated) = (&a.driver, AtomicBool::new(false));
    thread::scope(|scope| {
        let sitter = scope.spawn(|| {
            let ready = || seated.load(Ordering::SeqCst).then_some(());
            driver.drive(long(), ready).unwrap();
        });
        while driver.sit().map(drop).is_some() {
            thread::yield_now();
        }
        assert!((0..100).all(|_| driver.sit().is_none()));
        seated.store(true, Ordering::SeqCst);
        driver.wake();
        sitter.join().unwrap();
    });
    assert!(driver.sit().is_some());
}

/// Those who have no seat are woken by what others fetch, and by `wake`.
#[test]
fn waiters_without_the_seat_look_again() {
    let [a, _b] = posts(Waiting::Sleep);
    let (driver, flag) = (&a.driver, AtomicU64::new(0));
    thread::scope(|scope| {
        let waiters = [1, 2, 3].map(|wanted| {
            let flag = &flag;
            scope.spawn(move || {
                let ready = || (flag.load(Ordering::SeqCst) >= wanted).then_some(());
                driver.drive(long(), ready).unwrap();
            })
        });
        for (n, waiter) in waiters.into_iter().enumerate() {
            flag.store(n as u64 + 1, Ordering::SeqCst);
            driver.wake();
            waiter.join().unwrap();
        }
    });
}

#[test]
fn the_background_keeps_out_of_the_way_and_comes_back() {
    let [a, _b] = posts(Waiting::Sleep);
    let (driver, leave) = (&a.driver, AtomicBool::new(false));
    thread::scope(|scope| {
        let sitter = scope.spawn(|| {
            let ready = || leave.load(Ordering::SeqCst).then_some(());
            driver.drive(long(), ready).unwrap();
        });
        while driver.sit().map(drop).is_some() {
            thread::yield_now();
        }
        let pauses: Vec<Option<Duration>> = (0..20).map(|_| driver.turn().at_most).collect();
        assert!(pauses[0].is_some_and(|pause| pause <= Duration::from_millis(5)), "{pauses:?}");
        assert!(pauses[19].is_none(), "it waits to be told: {pauses:?}");
        let rest = driver.turn();
        leave.store(true, Ordering::SeqCst);
        driver.wake();
        // Ends when the seat is free.
        rest.on.sleep(Some(LONG));
        sitter.join().unwrap();
        let turns = (0..10).map(|_| driver.turn()).take_while(|rest| !std::ptr::eq(rest.on, &*driver.epoll)).count();
        assert!(turns <= 2, "it has taken over");
    });
}

/// Who lingers may stay for as long as things come: whoever waits for them gets the seat all the same.
#[test]
fn who_lingers_leaves_the_seat_to_who_waits() {
    let posts = posts(Waiting::Adaptive);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for post in &posts {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    post.driver.linger();
                }
            });
        }
        for number in 0..300 {
            posts[0].ask(1, number);
            assert!(posts[0].answer(number, long()).is_some(), "{number} was not answered");
        }
        let seat = posts[0].driver.drive(long(), || super::SITS.get().then_some(()));
        stop.store(true, Ordering::SeqCst);
        seat.expect("the seat is free as soon as somebody waits for it");
    });
}

/// Things that come for others while somebody waits for one that does not come.
#[test]
fn who_waits_in_vain_serves_others_and_keeps_its_deadline() {
    for waiting in [Waiting::Adaptive, Waiting::Sleep, Waiting::Poll] {
        let [a, b] = posts(waiting);
        thread::scope(|scope| {
            let patience = Duration::from_millis(300);
            let waiter = scope.spawn(move || b.answer(0, Deadline::after(patience)));
            let begin = Instant::now();
            for number in 0..100 {
                a.ask(1, number);
                let answered = a.answer(number, Deadline::At(begin + patience / 2)).is_some();
                assert!(answered || begin.elapsed() >= patience / 2, "{waiting:?}: {number} was not answered");
            }
            assert!(waiter.join().unwrap().is_none());
        });
    }
}

#[test]
fn an_idle_background_sleeps() {
    let [a, b] = posts(Waiting::Adaptive);
    let backgrounds = [background(&a.driver), background(&b.driver)];
    a.ask(1, 0);
    assert!(a.answer(0, long()).is_some());
    // Time itself is what is waited for: for what was begun to settle, and then for nothing to happen.
    thread::sleep(Duration::from_millis(200));
    let before = backgrounds.each_ref().map(|background| background.turns.load(Ordering::SeqCst));
    thread::sleep(Duration::from_millis(600));
    for (background, before) in backgrounds.iter().zip(before) {
        let turns = background.turns.load(Ordering::SeqCst) - before;
        // Some for its own patience of 100 ms, some for pings and their acknowledgements.
        assert!(turns < 40, "{turns} turns in 600 ms");
    }
}

/// Messages that wait for company go out although their sender never waits.
#[test]
fn the_background_sends_what_was_held_back() {
    let [a, b] = posts(Waiting::Adaptive);
    let _backgrounds = [background(&a.driver), background(&b.driver)];
    for round in 1..=20 {
        (0..100).for_each(|n| a.ask(1, round * 1000 + n));
        let begin = Instant::now();
        while a.answers.lock().unwrap().len() < 100 {
            assert!(begin.elapsed() < LONG);
            thread::yield_now();
        }
        a.answers.lock().unwrap().clear();
    }
}

#[test]
fn closing_waits_for_what_was_sent() {
    let [a, b] = posts(Waiting::Adaptive);
    let _background = background(&b.driver);
    (0..1000).for_each(|number| a.ask(1, number));
    a.driver.close(long()).unwrap();
    assert_eq!(a.driver.send(to(1, 0), QUESTION, &[], &[], Token::NONE), Err(SendError::Closed));
    b.driver.drive(long(), || (b.lost.load(Ordering::SeqCst) == 1).then_some(())).unwrap();
}

#[test]
fn closing_gives_up_in_time_when_nobody_listens() {
    let [a, b] = posts(Waiting::Adaptive);
    a.ask(1, 0);
    let begin = Instant::now();
    assert!(a.driver.close(Deadline::after(Duration::from_millis(50))).is_err());
    assert!(begin.elapsed() < LONG / 2);
    drop(b);
}
