//! A dictionary on another node: what the way there costs, against the transport alone and against a bare socket.
//!
//! The program starts itself as two ranks on two nodes, which reach each other by tcp over the loopback; rank 0 measures. A
//! thread of rank 1 is the other end of the transport's own round trip and of the bare stream.

mod common;

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
use dragon::{DDict, Queue, Runtime};

const LARGE: usize = 16 << 20;
const CLIENTS: u64 = 64;
/// Puts of each client in a round.
const PUTS: u64 = 4000;
const TRIPS: u64 = 2000;
const COPIES: usize = 12;

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

/// Where the two ends meet: addresses of the probes and of the bare stream, and the end.
type Meeting = (Queue<Vec<u8>>, Queue<Vec<u8>>, Barrier);

fn meet(dragon: &Runtime) -> Meeting {
    if dragon.rank() == 0 {
        let made = (
            Queue::unbounded().expect("memory"),
            Queue::unbounded().expect("memory"),
            Barrier::new(2).expect("memory"),
        );
        let queue = Queue::<Meeting>::builder().name("meeting").build().expect("memory");
        queue.put(made.clone()).expect("room");
        std::mem::forget(queue);
        return made;
    }
    let patience = std::time::Duration::from_secs(60);
    let queue = Queue::<Meeting>::open_timeout("meeting", patience).expect("rank 0 makes it");
    queue.get().expect("rank 0 fills it")
}

fn other_end(dragon: &Runtime) {
    let (there, back, end) = meet(dragon);
    let probe = Probe::open(1, Mode::Adaptive, false).expect("a probe");
    probe.know(&there.get().expect("an address")).expect("an address");
    back.put(probe.address().to_vec()).expect("room");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    back.put(listener.local_addr().expect("an address").to_string().into_bytes()).expect("room");
    let stream = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("rank 0 calls");
        stream.set_nodelay(true).expect("a socket has that option");
        let mut bytes = vec![0; LARGE];
        while stream.read_exact(&mut bytes).is_ok() {
            stream.write_all(&[1]).expect("rank 0 reads");
        }
    });
    std::thread::spawn(move || {
        probe.send(b"here");
        loop {
            probe.receive(1);
            probe.send(&[7; 8]);
        }
    });
    end.wait().expect("rank 0 comes");
    stream.join().expect("it does not panic");
}

fn races(dragon: &Runtime) {
    let (there, back, end) = meet(dragon);
    let probe = Probe::open(0, Mode::Adaptive, false).expect("a probe");
    there.put(probe.address().to_vec()).expect("room");
    probe.know(&back.get().expect("an address")).expect("an address");
    probe.receive(1);
    let address = String::from_utf8(back.get().expect("an address")).expect("text");
    let mut stream = TcpStream::connect(address).expect("rank 1 listens");
    stream.set_nodelay(true).expect("a socket has that option");

    let far = dragon.nodes()[1];
    let dict = DDict::<u64, u64, Pod>::builder_with().nodes(&[far]).memory_per_node(2 << 30).build().expect("memory");
    (0..1000).for_each(|key| dict.put(&key, &key).expect("room"));
    Race::new("8 bytes, there and back", "us")
        .runner("transport", || trips(|_| (probe.send(&[7; 8]), probe.receive(1)).1))
        .runner("get", || trips(|n| assert_eq!(dict.get(&(n % 1000)).expect("it is there"), n % 1000)))
        .runner("put", || trips(|n| dict.put(&(n % 1000), &(n % 1000)).expect("room")))
        .run()
        .at_most("get", 1.3, "transport");

    Race::new("batched puts of 8 bytes by 64 threads", "M/s").runner("batch", || batches(&dict)).run();

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
    drop(stream);
    end.wait().expect("rank 1 is there");
}

/// Microseconds of each.
fn trips(mut trip: impl FnMut(u64)) -> f64 {
    let begin = Instant::now();
    (0..TRIPS).for_each(&mut trip);
    begin.elapsed().as_secs_f64() * 1e6 / TRIPS as f64
}

/// Millions a second.
fn batches(dict: &DDict<u64, u64, Pod>) -> f64 {
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            scope.spawn(move || {
                let put = |n: u64| ((client * PUTS + n) % 100_000, n);
                let wrote = dict.batch(|batch| (0..PUTS).map(put).try_for_each(|(key, value)| batch.put(&key, &value)));
                assert_eq!(wrote.expect("room"), PUTS);
            });
        }
    });
    (CLIENTS * PUTS) as f64 / begin.elapsed().as_secs_f64() / 1e6
}
