//! What stands between a peer and an engine on a bad network: connections go through it, each way by two threads.
//!
//! The one reads pieces of any length, cut anywhere, and says when each arrives; the other waits for that and writes. A
//! piece that is lost arrives later, and so does all that was sent behind it. Connections do not wait for each other, so
//! what was sent on different lanes arrives in any order.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, at, bounded};

use super::Weather;
use crate::prim::{AtomicBool, Ordering};
use crate::time::now;

/// Most bytes of a piece.
const PIECE: u32 = 16;
/// Pieces on their way. Beyond that the way is full, as any is.
const ON_THE_WAY: usize = 512;
/// Connections that end are let be for so long, to say what was said last.
const CONNECT: Duration = Duration::from_secs(5);

/// One relay.
pub(super) struct Relay {
    place: SocketAddr,
    open: Arc<Open>,
}

/// What its threads share.
struct Open {
    upstream: SocketAddr,
    weather: Weather,
    shut: AtomicBool,
    streams: Mutex<Vec<Weak<TcpStream>>>,
}

/// Numbers as if by chance: whose turn it is, and nobody's secret.
struct Dice(u64);

impl Dice {
    fn new() -> Dice {
        Dice(getrandom::u64().unwrap_or(1) | 1)
    }

    fn throw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn falls_below(&mut self, part: f64) -> bool {
        ((self.throw() >> 11) as f64) < part * (1_u64 << 53) as f64
    }

    /// From 1 to 64 KiB, each power of two as often.
    fn length(&mut self) -> usize {
        let most = 1_u64 << (self.throw() % u64::from(PIECE) + 1);
        (self.throw() % most) as usize + 1
    }
}

impl Relay {
    /// Opens a port of the same address, and leads to `upstream` whoever calls there.
    pub(super) fn open(upstream: SocketAddr, weather: Weather) -> io::Result<Relay> {
        let listener = TcpListener::bind((upstream.ip(), 0))?;
        let place = listener.local_addr()?;
        let open = Arc::new(Open { upstream, weather, shut: AtomicBool::new(false), streams: Mutex::default() });
        let accepts = open.clone();
        thread::Builder::new().name("dragon-lossy".into()).spawn(move || accepts.accept(&listener))?;
        Ok(Relay { place, open })
    }

    /// Where it is found.
    pub(super) fn place(&self) -> SocketAddr {
        self.place
    }

    /// Takes nobody any more. Connections end when an end of them does.
    pub(super) fn shut(&self) {
        // Relaxed: the connection below comes after it.
        if !self.open.shut.swap(true, Ordering::Relaxed) {
            // Wakes the thread that accepts. Fails only if it has ended.
            let _ = TcpStream::connect_timeout(&self.place, CONNECT);
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shut();
        let streams = std::mem::take(&mut *self.open.streams.lock().unwrap_or_else(PoisonError::into_inner));
        streams.iter().filter_map(Weak::upgrade).for_each(|stream| end(&stream));
    }
}

fn end(stream: &TcpStream) {
    // Fails for one that has ended.
    let _ = stream.shutdown(Shutdown::Both);
}

impl Open {
    fn accept(&self, listener: &TcpListener) {
        for called in listener.incoming() {
            if self.shut.load(Ordering::Relaxed) {
                return;
            }
            let Ok(called) = called else { continue };
            // Who is gone refuses; the caller sees its connection end.
            let Ok(onward) = TcpStream::connect_timeout(&self.upstream, CONNECT) else { continue };
            if let Err(error) = self.join(Arc::new(called), Arc::new(onward)) {
                tracing::warn!(%error, "a lossy network loses a connection");
            }
        }
    }

    fn join(&self, called: Arc<TcpStream>, onward: Arc<TcpStream>) -> io::Result<()> {
        for stream in [&called, &onward] {
            stream.set_nodelay(true)?;
            let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
            streams.retain(|stream| stream.strong_count() > 0);
            streams.push(Arc::downgrade(stream));
        }
        for (from, to) in [(&called, &onward), (&onward, &called)] {
            let (on, arrives) = bounded(ON_THE_WAY);
            let (reader, writer) = ((from.clone(), to.clone()), to.clone());
            let weather = self.weather;
            thread::Builder::new().name("dragon-lossy".into()).spawn(move || read(&reader, &on, weather))?;
            thread::Builder::new().name("dragon-lossy".into()).spawn(move || write(&writer, &arrives))?;
        }
        Ok(())
    }
}

/// Takes pieces off a connection and says when each arrives at the other one.
fn read((from, to): &(Arc<TcpStream>, Arc<TcpStream>), on: &Sender<(Instant, Vec<u8>)>, weather: Weather) {
    let (mut dice, mut last) = (Dice::new(), now());
    loop {
        let mut piece = vec![0; dice.length()];
        match (&**from).read(&mut piece) {
            Ok(0) | Err(_) => return,
            Ok(len) => piece.truncate(len),
        }
        let mut due = now() + weather.delay;
        if dice.falls_below(weather.loss) {
            if dice.falls_below(weather.breaks) {
                end(from);
                return end(to);
            }
            due += weather.again;
        }
        last = last.max(due);
        if on.send((last, piece)).is_err() {
            return;
        }
    }
}

/// Writes each piece when it arrives; then ends this way of the connection.
fn write(to: &TcpStream, arrives: &Receiver<(Instant, Vec<u8>)>) {
    for (due, piece) in arrives {
        // Until then it is on its way.
        let _ = at(due).recv();
        if (&*to).write_all(&piece).is_err() {
            return end(to);
        }
    }
    // Fails for one that has ended.
    let _ = to.shutdown(Shutdown::Write);
}
