//! ZeroMQ: a pair of sockets over `ipc://` or `tcp://`, its own threads in between. Who waits for one message polls; who takes many
//! sleeps in between, which is quicker.

use crate::Task;
use crate::os;

const EXPECT: &str = "both sides are there";

/// How the two reach each other.
#[derive(Clone, Copy)]
pub enum Over {
    Local,
    Tcp,
}

fn address(over: Over) -> String {
    match over {
        Over::Local => format!("ipc:///tmp/dragon-bench-{}", std::process::id()),
        Over::Tcp => {
            let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect(EXPECT);
            format!("tcp://{free}")
        }
    }
}

fn socket(context: &zmq::Context) -> zmq::Socket {
    let socket = context.socket(zmq::PAIR).expect(EXPECT);
    socket.set_sndhwm(10_000).and_then(|()| socket.set_rcvhwm(10_000)).expect(EXPECT);
    socket
}

fn poll(socket: &zmq::Socket, message: &mut zmq::Message) {
    while socket.recv(message, zmq::DONTWAIT).is_err() {}
}

/// A partner in a process of its own, connected to this one. Not bound to a core: its threads need one too.
fn with_partner(address: &str, partner: impl FnOnce(&zmq::Socket)) -> os::Partner {
    let [_, there] = os::two_cores();
    os::fork_on(there, || {
        let context = zmq::Context::new();
        let socket = socket(&context);
        socket.connect(address).expect(EXPECT);
        partner(&socket);
        // Until the other has all.
        socket.recv(&mut zmq::Message::new(), 0).expect(EXPECT);
    })
}

fn bound(context: &zmq::Context, address: &str) -> zmq::Socket {
    let socket = socket(context);
    socket.bind(address).expect(EXPECT);
    socket
}

pub fn latency(task: &Task, over: Over) -> f64 {
    let address = address(over);
    let _partner = with_partner(&address, |socket| {
        let mut message = zmq::Message::new();
        for _ in 0..task.turns() {
            poll(socket, &mut message);
            socket.send(&message[..], 0).expect(EXPECT);
        }
    });
    let context = zmq::Context::new();
    let socket = bound(&context, &address);
    let (sent, mut message) = (vec![7; task.bytes], zmq::Message::new());
    let figure = task.time_turns(|| {
        socket.send(&sent[..], 0).expect(EXPECT);
        poll(&socket, &mut message);
    });
    socket.send("over", 0).expect(EXPECT);
    figure
}

pub fn rate(task: &Task, over: Over) -> f64 {
    let address = address(over);
    let _partner = with_partner(&address, |socket| {
        let mut message = zmq::Message::new();
        (0..task.count).for_each(|_| socket.recv(&mut message, 0).expect(EXPECT));
        socket.send("all", 0).expect(EXPECT);
    });
    let context = zmq::Context::new();
    let socket = bound(&context, &address);
    let (sent, mut message) = (vec![7; task.bytes], zmq::Message::new());
    let figure = task.rate_of(|| {
        (0..task.count).for_each(|_| socket.send(&sent[..], 0).expect(EXPECT));
        socket.recv(&mut message, 0).expect(EXPECT);
    });
    socket.send("over", 0).expect(EXPECT);
    figure
}
