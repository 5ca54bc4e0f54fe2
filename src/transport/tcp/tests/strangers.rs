//! Those who do not belong to the job: refused, counted, mentioned once, and no harm to anybody.

use std::{
    io::Write,
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::super::address;
use super::super::handshake::{ANSWER, HELLO, Hello, Transcript};
use super::beds::{identity, nodes, settings, tuning};
use super::fake::{Fake, hello};
use crate::id::JobId;
use crate::transport::conformance::{Party, for_a_while, to, until};
use crate::transport::{Engine, Secret, Tcp, Token, Tuning};

fn job() -> Vec<Party> {
    nodes(2, &settings()).into_iter().map(Party::new).collect()
}

/// The job works as if nothing had happened.
fn assert_unharmed(all: &mut [Party]) {
    let before = all[1].bodies().len();
    all[0].engine.send(to(1, 0), 0, &[], b"x", Token(1)).unwrap();
    until(all, |all| all[1].bodies().len() == before + 1);
    assert!(all.iter().all(|party| party.losses().is_empty()));
}

#[test]
fn those_who_talk_nonsense_are_sent_away_at_once() {
    let mut all = job();
    let other_job = Hello { job: JobId(1), ..hello(1) }.write();
    let lines: [&[u8]; 4] = [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", &[0; 500], &[255; HELLO], &other_job];
    for (n, line) in lines.iter().enumerate() {
        let mut stranger = Fake::call(&all[0]);
        // Long enough to be judged.
        stranger.say(line);
        stranger.say(&vec![b'x'; HELLO.saturating_sub(line.len())]);
        assert!(stranger.is_hung_up_on(&mut all[0]));
        assert_eq!(all[0].engine.counts().strangers, n as u64 + 1);
    }
    assert_unharmed(&mut all);
}

#[test]
fn another_version_is_told_which_this_is() {
    let mut all = job();
    let mut bytes = hello(1).write();
    bytes[8] = 99;
    let mut stranger = Fake::call(&all[0]);
    stranger.say(&bytes);
    let answer = stranger.read::<ANSWER>(&mut all[0]).unwrap();
    let read = Transcript::read_answer(&identity(0).secret, &hello(1), &answer);
    assert!(read.is_err() && answer[8..12] == 1_u32.to_le_bytes());
    assert!(stranger.is_hung_up_on(&mut all[0]));
}

#[test]
fn without_the_secret_nobody_gets_in() {
    let mut all = job();
    let wrong = Secret([0; 32]);
    assert!(Fake::enter(&mut all[0], hello(5), &wrong, 0).is_none(), "the answer proves more than it knows");
    // One that does not care about the answer.
    let mut stranger = Fake::call(&all[0]);
    stranger.say(&hello(5).write());
    stranger.read::<ANSWER>(&mut all[0]).unwrap();
    stranger.say(&[0; 40]);
    stranger.say(b"frames that nobody must read");
    assert!(stranger.is_hung_up_on(&mut all[0]));
    for_a_while(&mut all, Duration::from_millis(5));
    assert_eq!(all[0].engine.counts().strangers, 2);
    assert_unharmed(&mut all);
}

/// The engine's own proof, sent back to it.
#[test]
fn a_mirror_is_no_member() {
    let mut all = job();
    let mut mirror = Fake::call(&all[0]);
    mirror.say(&hello(5).write());
    let answer = mirror.read::<ANSWER>(&mut all[0]).unwrap();
    mirror.say(&[&[0; 8], &answer[ANSWER - 32..]].concat());
    assert!(mirror.is_hung_up_on(&mut all[0]));
    // Its own words to the engine itself, as if it were another node that calls.
    let (a, b) = (Fake::call(&all[0]), Fake::call(&all[0]));
    drop((a, b));
    assert_unharmed(&mut all);
}

fn quick() -> Tuning {
    Tuning { proof: Duration::from_millis(150), unproven: 16, ..tuning() }
}

fn quick_job() -> Vec<Party> {
    let open = |node| Box::new(Tcp::open(identity(node), settings(), quick()).unwrap()) as Box<dyn Engine>;
    let mut engines = vec![open(0), open(1)];
    super::beds::introduce(&mut engines);
    engines.into_iter().map(Party::new).collect()
}

#[test]
fn the_silent_and_the_slow_have_only_so_much_time() {
    let mut all = quick_job();
    let mut silent = Fake::call(&all[0]);
    let mut slow = Fake::call(&all[0]);
    let mut half = Fake::call(&all[0]);
    half.say(&hello(5).write());
    half.read::<ANSWER>(&mut all[0]).unwrap();
    let begin = Instant::now();
    let bytes = hello(6).write();
    let mut said = 0;
    while begin.elapsed() < quick().proof * 2 {
        // A byte now and then: the clock runs from the connection on, not from the last byte.
        if said < bytes.len() / 2 && begin.elapsed() > quick().proof / 60 * said as u32 {
            slow.say(&bytes[said..said + 1]);
            said += 1;
        }
        all[0].poll();
    }
    for stranger in [&mut silent, &mut slow, &mut half] {
        assert!(stranger.is_hung_up_on(&mut all[0]));
    }
    assert_eq!(all[0].engine.counts().strangers, 3);
    assert_unharmed(&mut all);
}

#[test]
fn a_crowd_at_the_door_keeps_no_member_out() {
    let mut all = quick_job();
    let place = address::read(&all[0].engine.address()).unwrap()[0];
    // Some stay and say nothing, more than may be in at once.
    let crowd: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(place).unwrap()).collect();
    all[1].engine.send(to(0, 0), 0, &[], b"let me in", Token(1)).unwrap();
    until(&mut all, |all| all[1].ended() == 1);
    drop(crowd);
    // Ten thousand come and go while the job goes on, some with garbage.
    let mut come = 0;
    until(&mut all, |all| {
        for _ in 0..20 {
            let mut stranger = TcpStream::connect(place).unwrap();
            if come % 3 == 0 {
                // What becomes of it is nobody's business.
                let _ = stranger.write_all(&[come as u8; 300]);
            }
            come += 1;
        }
        all[1].engine.send(to(0, 0), 0, &[], b"work", Token::NONE).unwrap();
        come >= 10_000
    });
    until(&mut all, |all| all[0].bodies().len() == 501);
    until(&mut all, |all| all[0].engine.counts().strangers >= 10_000);
    assert_eq!(all[0].engine.counts().lanes, 1);
    assert_unharmed(&mut all);
}

/// Counts warnings and worse.
struct Ears(Arc<AtomicUsize>);

impl Subscriber for Ears {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn strangers_are_mentioned_once_not_every_time() {
    let heard = Arc::new(AtomicUsize::new(0));
    tracing::subscriber::with_default(Ears(heard.clone()), || {
        let mut all = job();
        for n in 1..=50 {
            let mut stranger = Fake::call(&all[0]);
            stranger.say(&[9; HELLO]);
            assert!(stranger.is_hung_up_on(&mut all[0]));
            assert_eq!(all[0].engine.counts().strangers, n);
        }
    });
    assert_eq!(heard.load(Ordering::Relaxed), 1);
}
