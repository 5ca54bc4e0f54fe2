//! Waiting in tests for what others do: they look again and again, and give up loudly.

use std::time::{Duration, Instant};

use dragon::observe::ObjectStats;

/// Waits until `so`, at most for long.
pub fn until(what: &str, so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_secs(30), "it never came to be: {what}");
        // between two looks
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// How often somebody had to sleep at such objects of this node.
#[allow(dead_code, reason = "not all who wait need it")]
pub fn sleeps(such: impl Fn(&ObjectStats) -> bool) -> u64 {
    let objects = dragon::init().unwrap().stats().objects;
    objects.iter().filter(|object| such(object)).map(|object| object.counters.waits).sum()
}

/// Whether an object has this name.
#[allow(dead_code, reason = "not all who wait need it")]
pub fn named(name: &str) -> impl Fn(&ObjectStats) -> bool + '_ {
    move |object| object.name.as_deref() == Some(name)
}
