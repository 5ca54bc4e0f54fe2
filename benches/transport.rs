//! One lane between two nodes on the loopback, against the bare socket that it is made of.

mod common;

use std::{
    env,
    hint::black_box,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::Instant,
};

use common::peers::Peers;
use common::table::Race;
use common::{machine, os};
use dragon::probe::{Mode, Probe};

/// What the second process is to do, with whom, and on which core.
const PARTNER: &str = "DRAGON_BENCH_PARTNER";

fn main() {
    if let Ok(order) = env::var(PARTNER) {
        return partner(&order);
    }
    machine::print_head("transport");
    others();
    round_trips();
    bandwidth();
    rates();
}

/// What both processes agree on.
#[derive(Clone, Copy)]
struct Work {
    waiting: Mode,
    size: usize,
    /// Messages there, or there and back.
    count: u64,
    encrypted: bool,
    /// Only the last message is answered.
    one_way: bool,
    bare: bool,
    background: bool,
}

impl Work {
    fn round_trip(waiting: Mode, size: usize) -> Work {
        let count = match size {
            0..=9_999 => 4_000,
            10_000..=99_999 => 2_000,
            _ => 400,
        };
        let plain = Work { waiting, size, count, encrypted: false, one_way: false, bare: false, background: false };
        // A sleeper takes ten times as long.
        if waiting == Mode::Poll { plain } else { Work { count: count / 4, ..plain } }
    }

    fn one_way(size: usize, count: u64) -> Work {
        Work { count, one_way: true, ..Work::round_trip(Mode::Sleep, size) }
    }

    fn bare(self) -> Work {
        Work { bare: true, ..self }
    }

    fn words(self) -> String {
        let waiting = match self.waiting {
            Mode::Adaptive => 'a',
            Mode::Sleep => 's',
            Mode::Poll => 'p',
        };
        let flags = [self.encrypted, self.one_way, self.bare, self.background].map(u8::from);
        let [encrypted, one_way, bare, background] = flags;
        format!("{waiting} {} {} {encrypted} {one_way} {bare} {background}", self.size, self.count)
    }

    fn read(words: &mut std::str::SplitWhitespace) -> Work {
        let mut next = || words.next().expect("as many words as were written");
        let waiting = match next() {
            "a" => Mode::Adaptive,
            "s" => Mode::Sleep,
            _ => Mode::Poll,
        };
        let size = next().parse().expect("a size");
        let count = next().parse().expect("a count");
        let [encrypted, one_way, bare, background] = [(); 4].map(|()| next() == "1");
        Work { waiting, size, count, encrypted, one_way, bare, background }
    }
}

/// The second process: sends back what comes, or the last of it.
fn partner(order: &str) {
    let mut words = order.split_whitespace();
    let work = Work::read(&mut words);
    let address = words.next().expect("an address");
    let core = words.next().and_then(|word| word.parse().ok()).expect("a core");
    let _pinned = os::pin(core);
    if work.bare {
        let mut stream = TcpStream::connect(address).expect("the bench listens");
        prepare(&stream, work);
        let mut bytes = vec![0; work.size];
        for turn in 1..=work.count {
            read_all(&mut stream, &mut bytes);
            if !work.one_way || turn == work.count {
                write_all(&mut stream, &bytes[..if work.one_way { 1 } else { work.size }]);
            }
        }
        return;
    }
    let mut probe = Probe::open(1, work.waiting, work.encrypted).expect("a probe");
    if work.background {
        probe.start_background();
    }
    probe.know(&unhex(address)).expect("an address");
    probe.send(b"here");
    let bytes = vec![7; work.size];
    if work.one_way {
        probe.receive(work.count);
        probe.send(b"done");
    } else {
        for _ in 0..work.count {
            probe.receive(1);
            probe.send(black_box(&bytes));
        }
    }
    probe.close();
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hexadecimal")).collect()
}

fn prepare(stream: &TcpStream, work: Work) {
    stream.set_nodelay(true).expect("a socket has that option");
    stream.set_nonblocking(work.waiting == Mode::Poll).expect("a socket has that option");
}

fn read_all(stream: &mut TcpStream, mut bytes: &mut [u8]) {
    while !bytes.is_empty() {
        match stream.read(bytes) {
            Ok(0) => panic!("the partner has gone"),
            Ok(some) => bytes = &mut bytes[some..],
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }
}

fn write_all(stream: &mut TcpStream, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(some) => bytes = &bytes[some..],
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }
}

fn start_partner(work: Work, address: &str, core: usize) -> Child {
    let program = env::current_exe().expect("this program is a file");
    let mut command = Command::new(program);
    command.env(PARTNER, format!("{} {address} {core}", work.words())).stdin(Stdio::null());
    command.spawn().expect("this program can be started")
}

fn end(mut partner: Child) {
    assert!(partner.wait().expect("nobody else reaps it").success(), "the partner failed");
}

/// Seconds for the whole work, without the first tenth of round trips.
fn measure(work: Work) -> f64 {
    // Before this thread is bound to one: a child inherits that.
    let [here, there] = os::two_cores();
    let _pinned = os::pin(here);
    if work.bare { measure_bare(work, there) } else { measure_lane(work, there) }
}

fn measure_bare(work: Work, core: usize) -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let partner = start_partner(work, &listener.local_addr().expect("it is bound").to_string(), core);
    let (mut stream, _) = listener.accept().expect("the partner comes");
    prepare(&stream, work);
    let mut bytes = vec![7; work.size];
    let seconds = if work.one_way {
        let begin = Instant::now();
        (0..work.count).for_each(|_| write_all(&mut stream, black_box(&bytes)));
        read_all(&mut stream, &mut bytes[..1]);
        begin.elapsed().as_secs_f64()
    } else {
        timed(work.count, || {
            write_all(&mut stream, black_box(&bytes));
            read_all(&mut stream, &mut bytes);
        })
    };
    end(partner);
    seconds
}

fn measure_lane(work: Work, core: usize) -> f64 {
    let mut probe = Probe::open(0, work.waiting, work.encrypted).expect("a probe");
    if work.background {
        probe.start_background();
    }
    let partner = start_partner(work, &hex(probe.address()), core);
    probe.receive(1);
    let bytes = vec![7; work.size];
    let seconds = if work.one_way {
        let begin = Instant::now();
        (0..work.count).for_each(|_| probe.send(black_box(&bytes)));
        probe.receive(1);
        begin.elapsed().as_secs_f64()
    } else {
        timed(work.count, || {
            probe.send(black_box(&bytes));
            probe.receive(1);
        })
    };
    probe.close();
    end(partner);
    seconds
}

/// Seconds for so many turns, extrapolated from all but the first tenth.
fn timed(turns: u64, mut turn: impl FnMut()) -> f64 {
    let warm = turns / 10;
    (0..warm).for_each(|_| turn());
    let begin = Instant::now();
    (warm..turns).for_each(|_| turn());
    begin.elapsed().as_secs_f64() * turns as f64 / (turns - warm) as f64
}

/// Half a round trip in microseconds.
fn latency(work: Work) -> f64 {
    measure(work) / work.count as f64 / 2.0 * 1e6
}

fn round_trips() {
    let sizes = [("8 B", 8), ("1 KiB", 1 << 10), ("8 KiB", 8 << 10), ("64 KiB", 64 << 10), ("1 MiB", 1 << 20)];
    for (name, size) in sizes {
        let polling = Work::round_trip(Mode::Poll, size);
        let title: &'static str = format!("lane: one way, {name}, both poll").leak();
        Race::new(title, "us")
            .runner("bare socket", || latency(polling.bare()))
            .runner("lane", || latency(polling))
            .run()
            .at_most("lane", 1.15, "bare socket");
        let blocking = Work::round_trip(Mode::Sleep, size);
        let title: &'static str = format!("lane: one way, {name}, both block").leak();
        Race::new(title, "us")
            .runner("bare socket", || latency(blocking.bare()))
            .runner("lane", || latency(blocking))
            .runner("lane, as the product waits", || latency(Work { waiting: Mode::Adaptive, ..blocking }))
            .runner("the same, with its background thread", || {
                latency(Work { waiting: Mode::Adaptive, background: true, ..blocking })
            })
            .run()
            .at_most("lane", 1.15, "bare socket");
    }
}

/// Two processes and tcp between them, by whoever offers it.
fn others() {
    let peers = Peers::find_tcp();
    let names = peers.as_ref().map(Peers::names).unwrap_or_default();
    for (title, size, count) in [
        ("lane: one way, 8 B, against others over tcp", 8, 4_000),
        ("lane: one way, 1 KiB, against others over tcp", 1 << 10, 4_000),
        ("lane: one way, 64 KiB, against others over tcp", 64 << 10, 1_000),
        ("lane: one way, 1 MiB, against others over tcp", 1 << 20, 200),
    ] {
        let work = Work { count, ..Work::round_trip(Mode::Poll, size) };
        let mut race = Race::new(title, "us")
            .runner("bare socket", || latency(work.bare()))
            .runner("lane", || latency(work))
            .runner("lane, as the product waits", || latency(Work { waiting: Mode::Adaptive, ..work }));
        for name in &names {
            let run = || peers.as_ref()?.figure(name, "latency", size, count).map(|nanoseconds| nanoseconds / 2e3);
            race = race.runner(name, move || run().expect("it gave a figure before"));
        }
        let outcome = race.run();
        for name in &names {
            outcome.at_most("lane", 1.0, name);
        }
    }
}

fn bandwidth() {
    let work = Work::one_way(1 << 20, 1_500);
    let rate = |work: Work| (work.size as u64 * work.count) as f64 / measure(work) / 1e9;
    Race::new("lane: stream of 1 MiB messages", "GB/s")
        .runner("bare socket", || rate(work.bare()))
        .runner("lane", || rate(work))
        .runner("lane, as the product waits", || rate(Work { waiting: Mode::Adaptive, ..work }))
        .runner("lane, encrypted", || rate(Work { encrypted: true, count: work.count / 4, ..work }))
        .run()
        .at_least("lane", 0.9, "bare socket");
}

fn rates() {
    let rate = |work: Work| work.count as f64 / measure(work) / 1e6;
    let work = Work::one_way(8, 1_000_000);
    Race::new("lane: 8 B messages, one after the other", "M/s")
        .runner("bare socket, a call each", || rate(Work { count: 100_000, ..work }.bare()))
        .runner("lane", || rate(work))
        .runner("lane, as the product waits", || rate(Work { waiting: Mode::Adaptive, background: true, ..work }))
        .run()
        .reaches("lane", 1.0)
        .reaches("lane, as the product waits", 1.0);
}
