//! A dictionary and a queue on another node: what the way there costs, against the transport alone and against a bare socket.
//!
//! The program starts itself as two ranks on two nodes, which reach each other by tcp over the loopback; rank 0 measures.
//! Threads of rank 1 are the other end of the transport's own round trip and of bare sockets. Its main thread first waits for
//! rank 0, so that it looks after its node's connections; then it gets from a queue, so that another thread has to.

mod common;

use std::cell::OnceCell;
use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Instant;

use common::machine;
use common::table::Race;
use dragon::codec::{Pod, Raw};
use dragon::probe::{Mode, Probe};
use dragon::sync::Barrier;
use dragon::{DDict, NodeId, Pool, Queue, Runtime};

const LARGE: usize = 16 << 20;
const CLIENTS: u64 = 64;
/// Puts of each client in a round.
const PUTS: u64 = 4000;
const TRIPS: u64 = 2000;
const COPIES: usize = 12;
/// Messages that go there and back in a round.
const ECHOES: usize = 200;
const MESSAGE: usize = 1 << 20;

fn main() {
    if std::env::var_os("DRAGON_RANK").is_none() {
        return start_ranks();
    }
    let dragon = dragon::init().expect("two ranks of one program");
    if dragon.rank() == 0 {
        machine::print_head("ddict_nodes");
        races(&dragon);
    } else {
        other_end(&dragon);
    }
    dragon.finalize().expect("all ranks come to the end");
}

fn start_ranks() {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
    let rank = |rank: usize| {
        let mut command = Command::new(std::env::current_exe().expect("/proc is mounted"));
        command.args(std::env::args_os().skip(1));
        command.env("DRAGON_RENDEZVOUS", format!("127.0.0.1:{}", free.port()));
        command.env("DRAGON_RANK", rank.to_string()).env("DRAGON_NODE_ID", rank.to_string());
        command.env("DRAGON_SIZE", "2").env("DRAGON_SECRET", "of this bench and no other");
        command.stdin(Stdio::null()).spawn().expect("this program can be started")
    };
    let ranks: Vec<_> = (0..2).map(rank).collect();
    for mut rank in ranks {
        assert!(rank.wait().expect("nobody else reaps it").success(), "a rank failed");
    }
}

/// What the two ranks share: `there` is of rank 1's node, the rest of rank 0's.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Meeting {
    there: Queue<Vec<u8>>,
    back: Queue<Vec<u8>>,
    turn: Barrier,
}

fn meet(dragon: &Runtime) -> Meeting {
    let queue = |rank: usize| Queue::builder().node(dragon.nodes()[rank]).build().expect("memory");
    if dragon.rank() == 0 {
        let turn = Barrier::new(2).expect("memory");
        let made = Meeting { there: queue(1), back: queue(0), turn };
        let meetings = Queue::<Meeting>::builder().name("meeting").build().expect("memory");
        meetings.put(made.clone()).expect("room");
        std::mem::forget(meetings);
        return made;
    }
    let patience = std::time::Duration::from_secs(60);
    let meetings = Queue::<Meeting>::open_timeout("meeting", patience).expect("rank 0 makes it");
    meetings.get().expect("rank 0 fills it")
}

fn other_end(dragon: &Runtime) {
    let meeting = meet(dragon);
    let probe = Probe::open(1, Mode::Adaptive, false).expect("a probe");
    probe.know(&meeting.there.get().expect("an address")).expect("an address");
    meeting.back.put(probe.address().to_vec()).expect("room");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    meeting.back.put(listener.local_addr().expect("an address").to_string().into_bytes()).expect("room");
    // A stream whose messages are confirmed by a byte, and one whose messages come back.
    let streams = [(LARGE, 1), (MESSAGE, MESSAGE)].map(|(size, answer)| {
        let (mut stream, _) = listener.accept().expect("rank 0 calls");
        std::thread::spawn(move || {
            stream.set_nodelay(true).expect("a socket has that option");
            let mut bytes = vec![0; size];
            while stream.read_exact(&mut bytes).is_ok() {
                stream.write_all(&bytes[..answer]).expect("rank 0 reads");
            }
        })
    });
    std::thread::spawn(move || {
        probe.send(b"here");
        loop {
            probe.receive(1);
            probe.send(&[7; 8]);
        }
    });
    meeting.turn.wait().expect("rank 0 comes");
    for message in &meeting.there {
        meeting.back.put(message.expect("rank 0 lives")).expect("room");
    }
    streams.into_iter().for_each(|stream| stream.join().expect("it does not panic"));
}

fn call(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("rank 1 listens");
    stream.set_nodelay(true).expect("a socket has that option");
    stream
}

fn races(dragon: &Runtime) {
    let meeting = meet(dragon);
    let probe = Probe::open(0, Mode::Adaptive, false).expect("a probe");
    meeting.there.put(probe.address().to_vec()).expect("room");
    probe.know(&meeting.back.get().expect("an address")).expect("an address");
    let address = String::from_utf8(meeting.back.get().expect("an address")).expect("text");
    let (stream, echo) = (call(&address), call(&address));
    probe.receive(1);

    let far = dragon.nodes()[1];
    let dict = DDict::<u64, u64, Pod>::builder_with().nodes(&[far]).memory_per_node(2 << 30).build().expect("memory");
    (0..1000).for_each(|key| dict.put(&key, &key).expect("room"));
    small("8 bytes, there and back", &probe, &dict);
    clients(&dict);
    large(far, stream);
    meeting.turn.wait().expect("rank 1 is there");
    small("8 bytes, there and back, while nobody waits for the node that is called", &probe, &dict);
    messages(far, &probe, &meeting, echo);
    meeting.there.close();
}

fn small(title: &'static str, probe: &Probe, dict: &DDict<u64, u64, Pod>) {
    Race::new(title, "us")
        .runner("transport", || trips(|_| (probe.send(&[7; 8]), probe.receive(1)).1))
        .runner("get", || trips(|n| assert_eq!(dict.get(&(n % 1000)).expect("it is there"), n % 1000)))
        .runner("put", || trips(|n| dict.put(&(n % 1000), &(n % 1000)).expect("room")))
        .run()
        .at_most("get", 1.3, "transport");
}

fn clients(dict: &DDict<u64, u64, Pod>) {
    let pool = OnceCell::new();
    let start = || {
        let pool = Pool::builder().processes(CLIENTS as usize).local().build().expect("room for 64 processes");
        // So that all have the dictionary open, and know the function.
        assert_eq!(processes(&pool, dict, 100), CLIENTS * 100);
        pool
    };
    let rate = |begin: Instant| (CLIENTS * PUTS) as f64 / begin.elapsed().as_secs_f64() / 1e6;
    Race::new("batched puts of 8 bytes by 64 clients", "M/s")
        .runner("threads of one process", || {
            let begin = Instant::now();
            threads(dict);
            rate(begin)
        })
        .runner("processes", || {
            let pool = pool.get_or_init(start);
            let begin = Instant::now();
            assert_eq!(processes(pool, dict, PUTS), CLIENTS * PUTS);
            rate(begin)
        })
        .run()
        .reaches("threads of one process", 1.0)
        .reaches("processes", 1.0);
}

/// Puts so many entries at once.
fn batch(dict: &DDict<u64, u64, Pod>, client: u64, puts: u64) -> u64 {
    let put = |n: u64| ((client * puts + n) % 100_000, n);
    dict.batch(|batch| (0..puts).map(put).try_for_each(|(key, value)| batch.put(&key, &value))).expect("room")
}

fn threads(dict: &DDict<u64, u64, Pod>) {
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            scope.spawn(move || assert_eq!(batch(dict, client, PUTS), PUTS));
        }
    });
}

fn processes(pool: &Pool, dict: &DDict<u64, u64, Pod>, puts: u64) -> u64 {
    let clients = (0..CLIENTS).map(|client| (client, puts));
    let put = |dict: &DDict<u64, u64, Pod>, (client, puts): (u64, u64)| batch(dict, client, puts);
    pool.chunk(1).map_with(dict, put, clients).expect("room").into_iter().sum()
}

fn large(far: NodeId, mut stream: TcpStream) {
    let large = DDict::<u64, Vec<u8>, Raw>::builder_with().nodes(&[far]).memory_per_node(2 << 30);
    let large = large.build().expect("memory");
    let bytes = vec![7_u8; LARGE];
    large.put(&0, &bytes).expect("room");
    let rate = |begin: Instant| (COPIES * LARGE) as f64 / begin.elapsed().as_secs_f64() / 1e9;
    Race::new("16 MiB, one after the other", "GB/s")
        .runner("bare stream", || {
            let begin = Instant::now();
            for _ in 0..COPIES {
                stream.write_all(&bytes).expect("rank 1 reads");
                stream.read_exact(&mut [0]).expect("rank 1 answers");
            }
            rate(begin)
        })
        .runner("put", || {
            let begin = Instant::now();
            (0..COPIES as u64).for_each(|key| large.put(&(key % 4), &bytes).expect("room"));
            rate(begin)
        })
        .runner("get_ref", || {
            let begin = Instant::now();
            (0..COPIES).for_each(|_| assert_eq!(black_box(large.get_ref(&0).expect("it is there")).len(), LARGE));
            rate(begin)
        })
        .run()
        .at_least("put", 0.8, "bare stream")
        .at_least("get_ref", 0.8, "bare stream");
}

fn messages(far: NodeId, probe: &Probe, meeting: &Meeting, mut echo: TcpStream) {
    let queue = Queue::<u64, Pod>::builder_with().node(far).build().expect("memory");
    Race::new("a queue on another node: a call of 8 bytes", "us")
        .runner("transport, there and back", || trips(|_| (probe.send(&[7; 8]), probe.receive(1)).1))
        .runner("put", || trips(|n| queue.put(n).expect("room")))
        .runner("get", || trips(|n| assert_eq!(queue.get().expect("it is there"), n)))
        .run();
    Race::new("a message of 8 bytes to another node", "us")
        .runner("transport", || trips(|_| (probe.send(&[7; 8]), probe.receive(1)).1) / 2.0)
        .runner("a queue there, another one back", || queues(meeting, 8))
        .run();
    let mut bytes = vec![7_u8; MESSAGE];
    Race::new("a message of 1 MiB to another node", "us")
        .runner("bare socket", || {
            echoes(|| {
                echo.write_all(&bytes).expect("rank 1 reads");
                echo.read_exact(&mut bytes).expect("rank 1 answers");
            })
        })
        .runner("a queue there, another one back", || queues(meeting, MESSAGE))
        .run();
}

fn queues(meeting: &Meeting, size: usize) -> f64 {
    let mut message = vec![7; size];
    echoes(|| {
        meeting.there.put(std::mem::take(&mut message)).expect("room");
        message = meeting.back.get().expect("rank 1 answers");
    })
}

/// Microseconds of each, one way.
fn echoes(mut echo: impl FnMut()) -> f64 {
    let begin = Instant::now();
    (0..ECHOES).for_each(|_| echo());
    begin.elapsed().as_secs_f64() * 1e6 / ECHOES as f64 / 2.0
}

/// Microseconds of each.
fn trips(mut trip: impl FnMut(u64)) -> f64 {
    let begin = Instant::now();
    (0..TRIPS).for_each(&mut trip);
    begin.elapsed().as_secs_f64() * 1e6 / TRIPS as f64
}
