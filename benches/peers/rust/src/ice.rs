//! iceoryx2: publish and subscribe, one to one, by loaned slices of shared memory. It has no queue in which the sender
//! waits for room without sleeping, so a count of what was taken keeps the sender within the buffer: its best case.

use std::sync::atomic::{AtomicU64, Ordering};

use iceoryx2::port::{publisher::Publisher, subscriber::Subscriber};
use iceoryx2::prelude::*;
use iceoryx2::service::port_factory::publish_subscribe::PortFactory;

use crate::Task;
use crate::os::{self, Sharable, Shared};

type Service = ipc::Service;

/// Messages that fit.
const ROOM: usize = 1024;

/// What both sides tell each other beside the messages.
#[repr(C, align(128))]
struct Counts {
    taken: AtomicU64,
    space: [u8; 120],
    ready: AtomicU64,
}

// SAFETY: atomics and unused bytes; zero is a value of them.
unsafe impl Sharable for Counts {}

fn open(node: &Node<Service>, name: &str, room: usize, overwrites: bool) -> PortFactory<Service, [u8], ()> {
    let name: ServiceName = name.try_into().expect("a short name without odd characters");
    let service = node.service_builder(&name).publish_subscribe::<[u8]>().max_publishers(1).max_subscribers(1);
    let service = service.history_size(0).subscriber_max_buffer_size(room).enable_safe_overflow(overwrites);
    service.open_or_create().expect("iceoryx2 works here")
}

fn node() -> Node<Service> {
    set_log_level(LogLevel::Fatal);
    NodeBuilder::new().create::<Service>().expect("iceoryx2 works here")
}

fn send(publisher: &Publisher<Service, [u8], ()>, message: &[u8]) {
    let loan = publisher.loan_slice_uninit(message.len()).expect("there is a sample to loan");
    loan.write_from_slice(message).send().expect("there is one who takes it");
}

fn receive(subscriber: &Subscriber<Service, [u8], ()>, into: &mut [u8]) {
    loop {
        if let Some(sample) = subscriber.receive().expect("the publisher is there") {
            return into.copy_from_slice(sample.payload());
        }
    }
}

/// Both have come.
fn meet(counts: &Counts) {
    counts.ready.fetch_add(1, Ordering::AcqRel);
    while counts.ready.load(Ordering::Acquire) < 2 {
        std::hint::spin_loop();
    }
}

pub fn latency(task: &Task) -> f64 {
    let names = ["there", "back"].map(|way| format!("dragon/bench/{}/{way}", std::process::id()));
    let counts = Shared::<Counts>::new();
    let [here, there] = os::two_cores();
    let ends = |sends: usize| {
        let node = node();
        let services = [0, 1].map(|at| open(&node, &names[at], 1, true));
        let publisher = services[sends].publisher_builder().initial_max_slice_len(task.bytes).create();
        let subscriber = services[1 - sends].subscriber_builder().create();
        (node, publisher.expect("there is none yet"), subscriber.expect("there is none yet"))
    };
    let _partner = os::fork_on(there, || {
        let (_node, publisher, subscriber) = ends(1);
        let mut message = vec![0; task.bytes];
        meet(&counts);
        for _ in 0..task.turns() {
            receive(&subscriber, &mut message);
            send(&publisher, &message);
        }
        // The last one is read before its memory goes.
        meet_again(&counts);
    });
    let _pinned = os::pin(here);
    let (_node, publisher, subscriber) = ends(0);
    let mut message = vec![7; task.bytes];
    meet(&counts);
    let figure = task.time_turns(|| {
        send(&publisher, &message);
        receive(&subscriber, &mut message);
    });
    meet_again(&counts);
    figure
}

fn meet_again(counts: &Counts) {
    counts.ready.fetch_add(1, Ordering::AcqRel);
    while counts.ready.load(Ordering::Acquire) < 4 {
        std::hint::spin_loop();
    }
}

pub fn rate(task: &Task) -> f64 {
    let name = format!("dragon/bench/{}/rate", std::process::id());
    let counts = Shared::<Counts>::new();
    let [here, there] = os::two_cores();
    let _partner = os::fork_on(there, || {
        let node = node();
        let subscriber = open(&node, &name, ROOM, false).subscriber_builder().create().expect("there is none yet");
        let mut message = vec![0; task.bytes];
        meet(&counts);
        for taken in 1..=task.count {
            receive(&subscriber, &mut message);
            if taken % 8 == 0 || taken == task.count {
                counts.taken.store(taken, Ordering::Release);
            }
        }
        meet_again(&counts);
    });
    let _pinned = os::pin(here);
    let node = node();
    let publisher = open(&node, &name, ROOM, false).publisher_builder().initial_max_slice_len(task.bytes).create();
    let publisher = publisher.expect("there is none yet");
    let message = vec![7; task.bytes];
    meet(&counts);
    let figure = task.rate_of(|| {
        for sent in 0..task.count {
            while sent - counts.taken.load(Ordering::Acquire) >= ROOM as u64 - 8 {
                std::hint::spin_loop();
            }
            send(&publisher, &message);
        }
        while counts.taken.load(Ordering::Acquire) < task.count {
            std::hint::spin_loop();
        }
    });
    meet_again(&counts);
    figure
}
