//! A network that misbehaves: between two engines, moved by the test itself, one turn at a time.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use super::super::address;

/// One way through a connection.
struct Way {
    from: TcpStream,
    to: TcpStream,
    /// What is on its way, and when it arrives.
    bytes: VecDeque<(Instant, Vec<u8>)>,
    ended: bool,
    shut: bool,
}

impl Way {
    fn new(from: &TcpStream, to: &TcpStream) -> Way {
        let [from, to] = [from, to].map(|stream| stream.try_clone().unwrap());
        Way { from, to, bytes: VecDeque::new(), ended: false, shut: false }
    }

    /// Takes at most so many bytes in, and lets those out whose time has come. False: the connection is broken.
    fn turn(&mut self, most: usize, delay: Duration, record: &mut Vec<u8>) -> bool {
        let mut some = vec![0; most];
        if !self.ended && self.bytes.len() < 1000 {
            match self.from.read(&mut some) {
                Ok(0) => self.ended = true,
                Ok(got) => {
                    record.extend(&some[..got]);
                    self.bytes.push_back((Instant::now() + delay, some[..got].to_vec()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return false,
            }
        }
        while let Some((due, bytes)) = self.bytes.front_mut() {
            if *due > Instant::now() {
                break;
            }
            match self.to.write(bytes) {
                Ok(taken) if taken == bytes.len() => drop(self.bytes.pop_front()),
                Ok(taken) => drop(bytes.drain(..taken)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return false,
            }
        }
        if self.ended && self.bytes.is_empty() && !self.shut {
            self.shut = true;
            // Fails if the other side has gone, which is as good.
            let _ = self.to.shutdown(Shutdown::Write);
        }
        true
    }
}

/// Which ways are closed to bytes. What is on its way stays there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Holes {
    /// From who called.
    pub(super) there: bool,
    /// To who called.
    pub(super) back: bool,
}

impl Holes {
    pub(super) const BOTH: Holes = Holes { there: true, back: true };
}

/// What stands between a peer and the engine at `upstream`.
pub(super) struct Proxy {
    listener: TcpListener,
    upstream: SocketAddr,
    links: Vec<[Way; 2]>,
    pub(super) holes: Holes,
    pub(super) delay: Duration,
    /// Bytes that a way moves in a turn.
    pub(super) most: usize,
    /// Connections are accepted and closed at once.
    pub(super) hang_up: bool,
    /// All that ever went through, there and back.
    pub(super) record: [Vec<u8>; 2],
}

impl Proxy {
    /// In front of an engine with this address.
    pub(super) fn to(upstream: &[u8]) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Proxy {
            listener,
            upstream: address::read(upstream).unwrap()[0],
            links: Vec::new(),
            holes: Holes::default(),
            delay: Duration::ZERO,
            most: 1 << 16,
            hang_up: false,
            record: Default::default(),
        }
    }

    /// Where it is found instead of the engine.
    pub(super) fn address(&self) -> Vec<u8> {
        address::write(&[self.listener.local_addr().unwrap()])
    }

    /// Moves what can be moved.
    pub(super) fn turn(&mut self) {
        while let Ok((called, _)) = self.listener.accept() {
            if self.hang_up {
                continue;
            }
            // Who is gone refuses, and then the caller sees its connection end.
            let Ok(onward) = TcpStream::connect(self.upstream) else { continue };
            for stream in [&called, &onward] {
                stream.set_nonblocking(true).unwrap();
                stream.set_nodelay(true).unwrap();
            }
            self.links.push([Way::new(&called, &onward), Way::new(&onward, &called)]);
        }
        let (holes, delay, most, [there, back]) = (self.holes, self.delay, self.most, &mut self.record);
        self.links.retain_mut(|[a, b]| {
            let sound = (holes.there || a.turn(most, delay, there)) && (holes.back || b.turn(most, delay, back));
            sound && !(a.shut && b.shut)
        });
    }

    /// Breaks all connections. What is on its way is lost.
    pub(super) fn cut(&mut self) {
        self.links.clear();
    }

    /// Ends one way of all connections, as a peer does that will not say more.
    pub(super) fn half_close(&mut self) {
        for [there, _] in &mut self.links {
            there.ended = true;
        }
    }

    /// Connections that go through it.
    pub(super) fn links(&self) -> usize {
        self.links.len()
    }
}
