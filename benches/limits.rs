//! The speed of light of this machine, without the library: what the other benches compare with, on its own.

mod common;

use std::time::Duration;

use common::limits::{self, Wait};
use common::machine;
use common::os::Program;
use common::table::Race;

fn main() {
    machine::print_head("speed of light");
    Race::new("cache lines: round trip between two processes", "ns")
        .runner("one line, both write it", limits::one_line)
        .runner("two lines, one for each direction", limits::two_lines)
        .run();
    Race::new("raw ring: round trip between two processes", "ns")
        .runner("8 B", limits::ring_round_trip::<8>)
        .runner("64 B", limits::ring_round_trip::<64>)
        .runner("1 KiB", limits::ring_round_trip::<1024>)
        .run();
    Race::new("raw ring: one way, as fast as it goes", "M/s")
        .runner("8 B", limits::ring_rate::<8>)
        .runner("64 B", limits::ring_rate::<64>)
        .runner("1 KiB", limits::ring_rate::<1024>)
        .run();
    Race::new("memory: copy within one process", "us")
        .runner("64 KiB, warm", || limits::copy(64 << 10))
        .runner("64 MiB", || limits::copy(64 << 20))
        .run();
    Race::new("wake-ups: round trip between two processes on two cores", "us")
        .runner("both asleep", || limits::wake_round_trip(Wait::Asleep, Duration::ZERO))
        .runner("both asleep for 2 ms", || limits::wake_round_trip(Wait::Asleep, Duration::from_millis(2)))
        .runner("both spin, then sleep", || limits::wake_round_trip(Wait::SpinFirst(20_000), Duration::ZERO))
        .run();
    let program = Program::new("/bin/true", None);
    Race::new("processes: spawn and reap /bin/true 50 times", "ms")
        .runner("one after the other", || limits::spawn(&program, 50, false))
        .runner("all at once", || limits::spawn(&program, 50, true))
        .run();
}
