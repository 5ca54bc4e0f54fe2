//! Queues of other people between two processes, one figure for each call:
//!
//! ```text
//! peers iceoryx2|ipc-channel|zeromq|zeromq-tcp latency|rate BYTES COUNT
//! ```
//!
//! Prints nanoseconds of a round trip, or millions of messages a second one way. Every message is copied in from a buffer
//! and out into one, as a typed queue does; both sides are bound to a core of their own, and poll where they can.

mod ice;
mod ipcchannel;
#[path = "../../../common/os.rs"]
#[allow(dead_code)] // It serves our own benches too.
mod os;
#[cfg(feature = "zeromq")]
mod zeromq;

use std::{env, process::ExitCode, time::Instant};

/// What to measure.
pub struct Task {
    pub bytes: usize,
    pub count: u64,
}

impl Task {
    /// Messages before the clock starts.
    pub fn warm_up(&self) -> u64 {
        self.count / 10
    }

    /// All round trips, warm-up included.
    pub fn turns(&self) -> u64 {
        self.count + self.warm_up()
    }

    /// Nanoseconds of one of `count` turns, after the warm-up.
    pub fn time_turns(&self, mut turn: impl FnMut()) -> f64 {
        (0..self.warm_up()).for_each(|_| turn());
        let begin = Instant::now();
        (0..self.count).for_each(|_| turn());
        begin.elapsed().as_nanos() as f64 / self.count as f64
    }

    /// Millions a second of `count` messages, if all of them take as long as `body`.
    pub fn rate_of(&self, body: impl FnOnce()) -> f64 {
        let begin = Instant::now();
        body();
        self.count as f64 / begin.elapsed().as_secs_f64() / 1e6
    }
}

fn figure(words: &[String]) -> Option<f64> {
    let [peer, what, bytes, count] = words else { return None };
    let task = Task { bytes: bytes.parse().ok()?, count: count.parse().ok()? };
    match (peer.as_str(), what.as_str()) {
        ("iceoryx2", "latency") => Some(ice::latency(&task)),
        ("iceoryx2", "rate") => Some(ice::rate(&task)),
        ("ipc-channel", "latency") => Some(ipcchannel::latency(&task)),
        ("ipc-channel", "rate") => Some(ipcchannel::rate(&task)),
        #[cfg(feature = "zeromq")]
        ("zeromq", "latency") => Some(zeromq::latency(&task, zeromq::Over::Local)),
        #[cfg(feature = "zeromq")]
        ("zeromq", "rate") => Some(zeromq::rate(&task, zeromq::Over::Local)),
        #[cfg(feature = "zeromq")]
        ("zeromq-tcp", "latency") => Some(zeromq::latency(&task, zeromq::Over::Tcp)),
        #[cfg(feature = "zeromq")]
        ("zeromq-tcp", "rate") => Some(zeromq::rate(&task, zeromq::Over::Tcp)),
        _ => None,
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    match figure(&words) {
        Some(figure) => {
            println!("figure\t{figure}");
            ExitCode::SUCCESS
        }
        None => {
            eprintln!("there is no `{}` here", words.join(" "));
            ExitCode::FAILURE
        }
    }
}
