//! The engine's care while nobody waits: turns of a thread that has other things to do as well.
//!
//! A turn never sleeps; it says on what to sleep and for how long. While threads drive or send, the background keeps
//! out of their way and only looks by every few milliseconds, so that it is not woken by each of their packets; when
//! nobody has for that long, it takes over and sleeps on the sockets. While somebody sits and sleeps there, the
//! background sleeps until the seat is free.
//!
//! A wake-up takes longer than the whole way of what it is for. So when things come soon one after the other, the background
//! lingers: it keeps the seat and looks, until nothing has come for a while or somebody else comes to look.

use std::{sync::Mutex, thread, time::Duration};

use super::{Driver, SITS, Waiting, left, unpoisoned};
use crate::prim::{AtomicBool, Ordering, spin_loop};
use crate::sys::epoll::{Epoll, Interest};
use crate::sys::poll::Bell;
use crate::time;
use crate::transport::{Engine, Look, TransportError};

/// Between two looks while others are at it: at first, and at most.
const PAUSE_LEAST: Duration = Duration::from_millis(1);
const PAUSE_MOST: Duration = Duration::from_millis(4);

/// Looks in a row that find the seat taken before the background waits to be told.
const LOOKS: u32 = 8;

/// Who lingers waits so long for the next thing: a little longer than a wake-up takes. What comes later is slept for.
const LINGER: Duration = Duration::from_micros(100);
/// One look of who lingers in so many is at everything, and before one in so many it offers the processor to others.
const AROUND: u32 = 8;
const OFFER: u32 = 64;
/// Who had it for longer than this needs it.
const SLOW_OFFER: Duration = Duration::from_micros(5);

/// What to sleep on until the next turn, and how long at most; `None` is for ever.
pub(crate) struct Rest<'a> {
    /// Sleep with [`Epoll::sleep`], or put its descriptor among others.
    pub(crate) on: &'a Epoll,
    pub(crate) at_most: Option<Duration>,
    /// Something has come in, and nobody else is about.
    came: bool,
}

/// What the background knows.
pub(super) struct Background {
    state: Mutex<State>,
    /// Rings when the seat is free, if that was asked for.
    bell: Bell,
    room: Epoll,
    asks: AtomicBool,
    /// Whether it keeps out of others' way for a while and looks at no socket.
    pauses: AtomicBool,
    /// Whether somebody has said that it need not.
    called: AtomicBool,
    /// Sleeps on the engine, as far as anybody knows. Changed only with the engine's lock.
    watches: AtomicBool,
    /// Somebody else would like to look.
    sent_away: AtomicBool,
}

struct State {
    /// The activity seen at the last turn.
    seen: u64,
    /// Turns in a row that found others at it.
    kept_out: u32,
    /// How long it slept on the sockets before this turn; none, if it did not.
    slept: Option<Duration>,
}

impl Background {
    pub(super) fn new() -> Result<Background, TransportError> {
        let bell = Bell::new().map_err(TransportError::io("make a bell (eventfd)"))?;
        let room = Epoll::new().map_err(TransportError::io("make a set of sockets (epoll)"))?;
        room.add(&bell, 0, Interest::READ).map_err(TransportError::io("watch a bell (epoll)"))?;
        Ok(Background {
            state: Mutex::new(State { seen: 0, kept_out: 0, slept: None }),
            bell,
            room,
            asks: AtomicBool::new(false),
            pauses: AtomicBool::new(false),
            called: AtomicBool::new(false),
            watches: AtomicBool::new(false),
            sent_away: AtomicBool::new(false),
        })
    }

    /// Called by who leaves the seat.
    #[inline]
    pub(super) fn seat_is_free(&self) {
        // SeqCst: pairs with the store in `ask`. Either I see the question, or the asker sees the free seat.
        if self.asks.load(Ordering::SeqCst) {
            self.bell.ring();
        }
    }

    /// Whether the background sleeps on an engine that does not tell of everything any more. True once.
    #[inline]
    pub(super) fn is_deaf(&self, engine: &dyn Engine) -> bool {
        let deaf = self.watches.load(Ordering::Relaxed) && !engine.is_armed();
        if deaf {
            self.watches.store(false, Ordering::Relaxed);
        }
        deaf
    }

    fn ask(&self) {
        // SeqCst: pairs with the load in `seat_is_free`.
        self.asks.store(true, Ordering::SeqCst);
    }

    fn stop_asking(&self) {
        if self.asks.load(Ordering::Relaxed) {
            self.asks.store(false, Ordering::Relaxed);
            self.bell.answer();
        }
    }

    fn pause(&self, kept_out: u32) -> Rest<'_> {
        // SeqCst: pairs with the swap in `take_over`.
        self.pauses.store(true, Ordering::SeqCst);
        Rest { on: &self.room, at_most: Some((PAUSE_LEAST * (1 + kept_out)).min(PAUSE_MOST)), came: false }
    }

    /// Called by who finds the seat taken.
    #[inline]
    pub(super) fn send_away(&self) {
        // Relaxed: it is said again and again, and whoever falls asleep is woken when the seat is free.
        if !self.sent_away.load(Ordering::Relaxed) {
            self.sent_away.store(true, Ordering::Relaxed);
        }
    }
}

impl Driver {
    /// A short look from a thread that is awake for something else. Whether there was anything.
    pub(crate) fn glance(&self) -> bool {
        if SITS.get() {
            return false;
        }
        let Some(seat) = self.sit_soon() else { return false };
        let polled = self.poll(Look::Quick, false);
        if polled.events > 0 {
            // The background need not look at the same.
            self.lock().activity += 1;
        }
        drop(seat);
        polled.events > 0
    }

    /// Called by a thread that glanced and will not go on: the background need not keep out of its way.
    pub(crate) fn take_over(&self) {
        // SeqCst: pairs with the store in `pause`.
        if self.background.pauses.swap(false, Ordering::SeqCst) {
            // Release: pairs with the swap in `turn`.
            self.background.called.store(true, Ordering::Release);
            self.background.bell.ring();
        }
    }

    /// One turn of the background: polls if nobody else does.
    pub(crate) fn turn(&self) -> Rest<'_> {
        let background = &self.background;
        let mut state = unpoisoned(&background.state);
        background.stop_asking();
        background.pauses.store(false, Ordering::SeqCst); // pairs with `take_over`
        let called = background.called.swap(false, Ordering::Acquire); // pairs with `take_over`
        if called {
            background.bell.answer();
        }
        let Some(seat) = self.sit().or_else(|| {
            state.kept_out += 1;
            (state.kept_out > LOOKS).then(|| background.ask());
            // Once more: it may have become free before the question was heard.
            self.sit()
        }) else {
            return match state.kept_out {
                kept_out if kept_out > LOOKS => Rest { on: &background.room, at_most: None, came: false },
                kept_out => background.pause(kept_out),
            };
        };
        let polled = self.begin_turn(&mut state, called);
        self.answer();
        drop(seat);
        match polled {
            // Somebody was about a moment ago and may come back.
            None => background.pause(0),
            Some(polled) if polled.events > 0 => Rest { on: &self.epoll, at_most: Some(Duration::ZERO), came: true },
            Some(polled) => Rest { on: &self.epoll, at_most: left(polled.due, polled.now), came: false },
        }
    }

    /// As a turn, and then sleeps, at most so long, or lingers: for a thread that has nothing else to do.
    pub(crate) fn turn_for(&self, most: Duration) {
        let rest = self.turn();
        let mut state = unpoisoned(&self.background.state);
        let soon = state.slept.take().is_some_and(|slept| slept < LINGER);
        if rest.came {
            if soon && self.waiting == Waiting::Adaptive {
                self.linger();
            }
            state.slept = Some(Duration::ZERO);
            return;
        }
        drop(state);
        let began = time::now();
        rest.on.sleep(Some(rest.at_most.map_or(most, |at_most| at_most.min(most))));
        if std::ptr::eq(rest.on, &*self.epoll) {
            unpoisoned(&self.background.state).slept = Some(time::now() - began);
        }
    }

    /// Looks for as long as things keep coming soon, nobody else comes to look, and the processor is not wanted.
    pub(super) fn linger(&self) {
        let background = &self.background;
        background.sent_away.store(false, Ordering::Relaxed); // see `send_away`
        let Some(seat) = self.sit() else { return };
        let (mut looks, mut until) = (0_u32, time::now() + LINGER);
        while !background.sent_away.load(Ordering::Relaxed) {
            looks += 1;
            let look = if looks.is_multiple_of(AROUND) { Look::Around } else { Look::Quick };
            let polled = self.poll(look, false);
            if polled.events > 0 {
                until = polled.now + LINGER;
            } else if polled.now >= until || (looks.is_multiple_of(OFFER) && !offer()) {
                break;
            }
            spin_loop();
        }
        drop(seat);
    }

    /// Polls, and says what was found if nobody else was about since the last turn, or if they have said that they go.
    fn begin_turn(&self, state: &mut State, called: bool) -> Option<super::Polled> {
        let mut core = self.lock();
        let calm = called || state.seen == core.activity;
        (state.seen, state.kept_out) = (core.activity, 0);
        self.background.watches.store(calm, Ordering::Relaxed);
        core.engine.flush();
        let polled = self.poll_core(core, Look::Around, calm);
        calm.then_some(polled)
    }
}

/// Offers the processor to others. False: somebody took it.
fn offer() -> bool {
    let before = time::now();
    thread::yield_now();
    time::now() - before < SLOW_OFFER
}
