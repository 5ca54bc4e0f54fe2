//! ipc-channel: bytes over Unix sockets, blocking.

use ipc_channel::ipc::{self, IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcSender};

use crate::Task;
use crate::os;

const EXPECT: &str = "both sides are there";

type Ends = (IpcBytesSender, IpcBytesReceiver);

/// A partner in a process of its own, and a channel in each direction.
fn with_partner(partner: impl FnOnce(Ends)) -> (Ends, os::Partner) {
    let (server, name) = IpcOneShotServer::<Ends>::new().expect(EXPECT);
    let [_, there] = os::two_cores();
    let child = os::fork_on(there, || {
        let (to, from_here) = ipc::bytes_channel().expect(EXPECT);
        let (to_here, from) = ipc::bytes_channel().expect(EXPECT);
        let first = IpcSender::<Ends>::connect(name).expect(EXPECT);
        first.send((to, from)).expect(EXPECT);
        partner((to_here, from_here));
    });
    let (_, ends) = server.accept().expect(EXPECT);
    (ends, child)
}

pub fn latency(task: &Task) -> f64 {
    let ((to, from), _partner) = with_partner(|(to, from)| {
        for _ in 0..task.turns() {
            to.send(&from.recv().expect(EXPECT)).expect(EXPECT);
        }
    });
    let _pinned = os::pin(os::two_cores()[0]);
    let mut message = vec![7; task.bytes];
    task.time_turns(|| {
        to.send(&message).expect(EXPECT);
        message = from.recv().expect(EXPECT);
    })
}

pub fn rate(task: &Task) -> f64 {
    let ((to, from), _partner) = with_partner(|(to, from)| {
        (0..task.count).for_each(|_| drop(from.recv().expect(EXPECT)));
        to.send(b"all").expect(EXPECT);
    });
    let _pinned = os::pin(os::two_cores()[0]);
    let message = vec![7; task.bytes];
    task.rate_of(|| {
        (0..task.count).for_each(|_| to.send(&message).expect(EXPECT));
        from.recv().expect(EXPECT);
    })
}
