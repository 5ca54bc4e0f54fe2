//! Semantic cases 6 to 8 and 17 to 21 of channels, from outside, and handles that travel.

use std::thread;
use std::time::{Duration, Instant};

use dragon::{Channel, ErrorKind};

#[test]
fn case_6_a_full_channel_times_out_and_takes_again_after_a_receive() {
    let _dragon = dragon::init().unwrap();
    let channel = Channel::create(1, 64).unwrap();
    channel.send(b"first").unwrap();
    let begin = Instant::now();
    let error = channel.send_timeout(b"second", Duration::from_millis(200)).unwrap_err();
    assert!(error.kind() == ErrorKind::TimedOut && begin.elapsed() >= Duration::from_millis(200));
    assert_eq!(&*channel.recv().unwrap(), b"first");
    channel.send_timeout(b"second", Duration::from_millis(200)).unwrap();
}

#[test]
fn case_7_full_empty_and_timed_out_are_told_apart_and_all_are_timeouts() {
    let _dragon = dragon::init().unwrap();
    let channel = Channel::create(1, 64).unwrap();
    let empty = channel.try_recv().unwrap_err();
    assert_eq!(empty.kind(), ErrorKind::Empty);
    let begin = Instant::now();
    let late = channel.recv_timeout(Duration::from_millis(150)).unwrap_err();
    assert!(late.kind() == ErrorKind::TimedOut && begin.elapsed() >= Duration::from_millis(150));
    assert_eq!(channel.recv_timeout(Duration::ZERO).unwrap_err().kind(), ErrorKind::Empty);
    channel.try_send(b"x").unwrap();
    let full = channel.try_send(b"y").unwrap_err();
    assert_eq!(full.kind(), ErrorKind::Full);
    assert!(empty.is_timeout() && late.is_timeout() && full.is_timeout());
}

#[test]
fn case_8_what_fills_a_channel_drains_exactly() {
    let _dragon = dragon::init().unwrap();
    let channel = Channel::create(100, 16).unwrap();
    assert_eq!(channel.capacity(), 128);
    let mut sent = 0_u32;
    while channel.try_send(&sent.to_ne_bytes()).is_ok() {
        sent += 1;
    }
    assert_eq!((sent, channel.len()), (128, 128));
    for expected in 0..sent {
        assert_eq!(*channel.try_recv().unwrap(), expected.to_ne_bytes());
    }
    assert_eq!(channel.try_recv().unwrap_err().kind(), ErrorKind::Empty);
    assert!(channel.is_empty());
}

#[test]
fn case_17_the_sender_may_change_its_bytes_at_once_and_long_messages_arrive_whole() {
    let _dragon = dragon::init().unwrap();
    let channel = Channel::create(4, 64).unwrap();
    for size in [0, 1, 48, 49, 112, 113, 5000, 200_000, 5 << 20] {
        let mut bytes: Vec<u8> = (0..size).map(|i| (i * 7) as u8).collect();
        channel.send(&bytes).unwrap();
        let copy = bytes.clone();
        bytes.fill(0);
        assert_eq!(*channel.recv().unwrap(), copy, "{size} bytes");
    }
}

#[test]
fn a_channel_is_closed_for_senders_at_once_and_for_receivers_when_empty() {
    let _dragon = dragon::init().unwrap();
    let channel = Channel::create(4, 64).unwrap();
    channel.send(b"last").unwrap();
    let waiting = thread::scope(|scope| {
        let receiver = scope.spawn(|| (channel.recv().map(|m| m.to_vec()), channel.recv().map(|m| m.to_vec())));
        channel.close();
        receiver.join().unwrap()
    });
    assert_eq!(waiting.0.unwrap(), b"last");
    assert_eq!(waiting.1.unwrap_err().kind(), ErrorKind::Closed);
    assert!(channel.send(b"late").unwrap_err().is_closed());
    let loan = channel.loan(100).unwrap();
    let (error, loan) = channel.send_loan(loan).unwrap_err();
    assert!(error.is_closed() && loan.len() == 100, "a refused message comes back");
}

#[test]
fn polling_waits_for_a_message_without_taking_it() {
    let _dragon = dragon::init().unwrap();
    let channel = Channel::create(4, 64).unwrap();
    let begin = Instant::now();
    assert!(!channel.poll(Duration::from_millis(120)).unwrap());
    assert!(begin.elapsed() >= Duration::from_millis(120));
    channel.send(b"m").unwrap();
    assert!(channel.poll(Duration::ZERO).unwrap() && channel.poll(Duration::from_secs(9)).unwrap());
    assert_eq!(channel.len(), 1);
}

#[test]
fn waiting_for_ever_costs_no_processor() {
    let _dragon = dragon::init().unwrap();
    let channel = Channel::create(4, 64).unwrap();
    let used = thread::scope(|scope| {
        let sleeper = scope.spawn(|| {
            channel.recv().unwrap();
            processor_time()
        });
        thread::sleep(Duration::from_millis(500)); // time itself is what is measured here
        channel.send(b"up").unwrap();
        sleeper.join().unwrap()
    });
    assert!(used < Duration::from_millis(20), "half a second of waiting took {used:?} of a processor");
}

/// Processor time of this thread.
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes the time into a valid place.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) }, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
