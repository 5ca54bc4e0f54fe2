//! A bad network on purpose: an engine whose peers reach it through a relay that delays, loses and breaks (`relay.rs`).
//!
//! Chosen like any other transport, by `DRAGON_TRANSPORT=lossy+tcp`, to see what a program does on such a network, and to
//! show that nothing is lost or doubled where the kernel cannot play one (netem). What a lost packet is to whoever uses a
//! stream is a delay of all that follows, and sometimes the end of the connection; so that is what is done here.

mod relay;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use self::relay::Relay;
use super::tcp::address;
use super::{Bulk, Caps, Counts, Engine, Look, Node, SendError, Sink, To, Token, TransportError};
use crate::sys::epoll::Epoll;

/// How bad the network is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Weather {
    /// What part of all pieces is lost once, from 0 to 1.
    pub(crate) loss: f64,
    /// How long everything takes, each way.
    pub(crate) delay: Duration,
    /// How long it takes until something lost is sent again.
    pub(crate) again: Duration,
    /// What part of the losses breaks the connection, from 0 to 1.
    pub(crate) breaks: f64,
}

impl Default for Weather {
    fn default() -> Self {
        let [delay, again] = [100, 200].map(Duration::from_millis);
        Weather { loss: 0.05, delay, again, breaks: 0.05 }
    }
}

impl Weather {
    /// Reads `lossy+tcp`, `lossy:5+tcp` (per cent) or `lossy:5:100+tcp` (and milliseconds each way).
    pub(super) fn read(text: &str) -> Option<Weather> {
        let mut words = text.strip_suffix("+tcp")?.split(':');
        let (Some("lossy"), loss, delay, None) = (words.next(), words.next(), words.next(), words.next()) else {
            return None;
        };
        let default = Weather::default();
        let loss = loss.map_or(Some(default.loss * 100.0), |loss| loss.parse().ok())? / 100.0;
        let delay = delay.map_or(Some(default.delay), |delay| delay.parse().ok().map(Duration::from_millis))?;
        (0.0..=0.5).contains(&loss).then_some(Weather { loss, delay, ..default })
    }
}

/// An engine in bad weather.
pub(crate) struct Lossy {
    inner: Box<dyn Engine>,
    relays: Vec<Relay>,
}

impl Lossy {
    /// Puts a relay in front of each place at which peers find the engine.
    pub(crate) fn around(inner: Box<dyn Engine>, weather: Weather) -> Result<Lossy, TransportError> {
        let wrong = |_| TransportError::BadSetting {
            knob: "DRAGON_TRANSPORT",
            value: "lossy".into(),
            why: "only tcp can be lossy".into(),
        };
        let places = address::read(&inner.address()).map_err(wrong)?;
        let relays = places.into_iter().map(|place| Relay::open(place, weather)).collect::<std::io::Result<_>>();
        Ok(Lossy { inner, relays: relays.map_err(TransportError::io("open a port of a lossy network"))? })
    }
}

impl Engine for Lossy {
    fn caps(&self) -> Caps {
        self.inner.caps()
    }

    fn address(&self) -> Vec<u8> {
        address::write(&self.relays.iter().map(Relay::place).collect::<Vec<_>>())
    }

    fn know(&mut self, node: Node, epoch: u64, address: &[u8]) -> Result<(), TransportError> {
        self.inner.know(node, epoch, address)
    }

    fn give_up(&mut self, node: Node, why: &str) {
        self.inner.give_up(node, why);
    }

    fn send(&mut self, to: To, kind: u16, header: &[u8], body: &[u8], token: Token) -> Result<(), SendError> {
        self.inner.send(to, kind, header, body, token)
    }

    fn send_bulk(&mut self, to: To, kind: u16, header: &[u8], body: Bulk, token: Token) -> Result<(), SendError> {
        self.inner.send_bulk(to, kind, header, body, token)
    }

    fn flush(&mut self) {
        self.inner.flush();
    }

    fn poll(&mut self, now: Instant, look: Look, sink: &mut dyn Sink) -> usize {
        self.inner.poll(now, look, sink)
    }

    fn watch(&self) -> Arc<Epoll> {
        self.inner.watch()
    }

    fn arm(&mut self) {
        self.inner.arm();
    }

    fn is_armed(&self) -> bool {
        self.inner.is_armed()
    }

    fn poll_by(&self) -> Option<Instant> {
        self.inner.poll_by()
    }

    fn wants_poll(&self) -> bool {
        self.inner.wants_poll()
    }

    fn is_idle(&self) -> bool {
        self.inner.is_idle()
    }

    fn close(&mut self, sink: &mut dyn Sink) {
        self.inner.close(sink);
        // What was said last is still on its way; whoever is gone is noticed by the end of the connection.
        self.relays.iter().for_each(Relay::shut);
    }

    fn counts(&self) -> Counts {
        self.inner.counts()
    }
}
