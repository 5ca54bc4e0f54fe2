//! What happens because nothing happens: pings, calls tried again, silence that has lasted too long.
//!
//! The clock comes in as `now` with every poll. A tick looks at every lane; it comes every few milliseconds while
//! something is unsettled, and twelve times per silence otherwise.

use std::time::{Duration, Instant};

use super::Tcp;
use super::frame::What;
use super::lane::{ACK_AFTER, Lane, Link};
use crate::sys::epoll::Interest;
use crate::transport::error::Why;

/// Between two ticks while a lane is down or being opened.
const BUSY: Duration = Duration::from_millis(5);

/// How long nobody is let in after descriptors ran out.
pub(super) const DOORS: Duration = Duration::from_millis(100);

/// What is due for a lane.
#[derive(Debug, PartialEq, Eq)]
enum Due {
    Nothing,
    /// Say something, so that the peer knows that we live.
    Ping,
    /// Call the peer.
    Dial,
    /// The call under way has taken too long.
    HangUp,
    /// The peer is lost.
    Lost(Why),
}

/// How patient we are.
#[derive(Clone, Copy)]
struct Patience {
    silence: Duration,
    /// For a lane that has never been open.
    connect: Duration,
    /// For one call.
    call: Duration,
}

/// Decides what is due. `heard`: when anything came from the peer.
fn due(lane: &mut Lane, heard: Option<Instant>, patience: Patience, now: Instant) -> Due {
    let since = |at: Instant| now.saturating_duration_since(at);
    let most = if lane.session == 0 { patience.connect } else { patience.silence };
    let spoke = lane.last_spoke(now);
    match &lane.link {
        Link::Open(_) => match heard {
            Some(heard) if since(heard) >= patience.silence => Due::Lost(Why::Silent(patience.silence)),
            _ if since(spoke) >= patience.silence / 6 => Due::Ping,
            _ => Due::Nothing,
        },
        _ if since(lane.down_since) >= most => Due::Lost(silent(lane, most)),
        Link::Dialling(dial) if since(dial.began) >= patience.call => Due::HangUp,
        Link::Down { again } if now >= *again => Due::Dial,
        _ => Due::Nothing,
    }
}

fn silent(lane: &Lane, within: Duration) -> Why {
    if lane.session > 0 {
        return Why::Silent(within);
    }
    let cause = if lane.trouble.is_empty() { "no answer".into() } else { lane.trouble.clone() };
    Why::Unreachable { address: lane.tried_at(), within, cause }
}

impl Tcp {
    /// Asks for a tick at that time at the latest.
    pub(super) fn tick_at(&mut self, at: Instant) {
        self.next_tick = self.next_tick.min(at);
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Instant) {
        self.forgive_own_absence(now);
        for at in self.lanes.numbers() {
            // A peer that was lost just now has taken its lanes with it.
            if self.lanes.get(at).is_some() {
                self.tick_lane(at, now);
            }
        }
        self.tick_arrivals(now);
        let settled = self.lanes.iter().all(|(_, lane)| lane.is_open()) && self.doors_closed.is_none();
        self.next_tick = now + if settled { self.settings.silence / 12 } else { BUSY };
        if let Some(first) = self.arrivals.iter().map(|(_, arrival)| arrival.since).min() {
            self.tick_at(first + self.tuning.proof);
        }
    }

    fn tick_lane(&mut self, at: usize, now: Instant) {
        let call = self.try_most(at);
        let patience = Patience { silence: self.settings.silence, connect: self.tuning.connect, call };
        let to = self.lanes[at].to;
        let heard = self.peers.get(to.node).and_then(|known| known.heard);
        match due(&mut self.lanes[at], heard, patience, now) {
            Due::Nothing => {}
            Due::Ping => {
                if let Err(broken) = self.lanes[at].say(What::Ping, &self.epoll) {
                    self.broke(at, broken, now);
                }
            }
            // Its call is about to come through.
            Due::Dial if self.is_expected(to) => {}
            Due::Dial => self.dial(at, now),
            Due::HangUp => self.hang_up(at, now),
            Due::Lost(why) => self.lose(to.node, why),
        }
    }

    fn tick_arrivals(&mut self, now: Instant) {
        for at in self.arrivals.numbers() {
            if now.saturating_duration_since(self.arrivals[at].since) >= self.tuning.proof {
                let late = self.arrivals[at].late();
                self.send_away(at, late, now);
            }
        }
        if self.doors_closed.is_some_and(|since| now.saturating_duration_since(since) >= DOORS) {
            self.doors_closed = None;
            self.set_doors(Interest::READ);
        }
    }

    /// If nobody polled for a while, because this process was stopped or had no processor, the others were not silent:
    /// we did not listen.
    fn forgive_own_absence(&mut self, now: Instant) {
        let absent = now.saturating_duration_since(self.last_poll);
        if absent < self.settings.silence / 4 {
            return;
        }
        for at in self.lanes.numbers() {
            let lane = &mut self.lanes[at];
            lane.down_since += absent;
            if let Link::Dialling(dial) = &mut lane.link {
                dial.began += absent;
            }
        }
        self.peers.forgive(absent);
    }

    /// Tells peers how far we are, where it has not been told by the way.
    pub(super) fn pay_debts(&mut self, now: Instant) {
        let mut owing = std::mem::take(&mut self.owing);
        owing.retain(|&at| {
            let Some(lane) = self.lanes.get_mut(at) else { return false };
            let Some(since) = lane.owes_since.filter(|_| lane.owed() > 0 && lane.is_open()) else {
                lane.owes_since = None;
                return false;
            };
            if !lane.must_pay(since, now) {
                return true;
            }
            // If it cannot be said now, then when what is in the way has gone.
            let said = lane.say(What::Ack, &self.epoll);
            self.failed.extend(said.err().map(|broken| (at, broken)));
            // A debt that was paid is forgotten: the next one is counted anew.
            lane.owes_since = lane.owes_since.filter(|_| lane.owed() > 0);
            lane.owes_since.is_some()
        });
        owing.append(&mut self.owing);
        self.owing = owing;
    }

    /// When the first of those debts must be paid.
    pub(super) fn debt_due(&self) -> Option<Instant> {
        let payable = self.owing.iter().filter_map(|at| self.lanes.get(*at)).filter(|lane| lane.can_say());
        payable.filter_map(|lane| lane.owes_since).min().map(|since| since + ACK_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::To;

    const PATIENCE: Patience =
        Patience { silence: Duration::from_secs(3), connect: Duration::from_secs(10), call: Duration::from_secs(10) };

    #[test]
    fn a_lane_that_is_down_is_called_and_in_the_end_given_up() {
        let begin = Instant::now();
        let mut lane = Lane::new(To { node: 1, lane: 0 }, begin);
        assert_eq!(due(&mut lane, None, PATIENCE, begin), Due::Dial);
        lane.link = Link::Down { again: begin + Duration::from_secs(1) };
        assert_eq!(due(&mut lane, None, PATIENCE, begin), Due::Nothing);
        let lost = due(&mut lane, None, PATIENCE, begin + PATIENCE.connect);
        assert!(matches!(lost, Due::Lost(Why::Unreachable { .. })));
        lane.session = 1;
        assert_eq!(due(&mut lane, None, PATIENCE, begin + PATIENCE.silence), Due::Lost(Why::Silent(PATIENCE.silence)));
    }
}
