//! The transport as the hub's carrier, and the hub as the transport's sink.
//!
//! What comes in is noted while the engine tells it, and dealt with when it has told all: then the engine may be
//! called again. So an answer that can be given at once goes out from the thread that brought the call.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use super::frame::{LaneHead, split};
use super::hub::Hub;
use super::link::{self, Carrier};
use super::{Body, MeshError};
use crate::id::NodeNumber;
use crate::mm::Block;
use crate::prim::{AtomicBool, Ordering};
use crate::time::Deadline;
use crate::transport::{
    BODY_MOST, Bulk, Driver, Engine, Lost, SendError, Sink, Steady, To, Token, TransportError, Undelivered, Waiting,
};
use crate::wait::{Meanwhile, meanwhile};

/// Short messages, and answers, in one lane: what one thread tells a node stays in its order.
const LANE: u8 = 0;
/// How long a full lane is waited for until it is looked at again.
const FULL: Duration = Duration::from_millis(5);
/// How long good-byes may take.
const GOOD_BYE: Duration = Duration::from_secs(2);
/// The longest rest of the thread that sees to the engine.
const REST: Duration = Duration::from_millis(500);

/// Something to be sent.
enum Outgoing {
    Short { node: NodeNumber, kind: u16, head: Vec<u8>, body: Vec<u8> },
    Long { node: NodeNumber, kind: u16, head: Vec<u8>, body: Bulk, token: Token },
}

thread_local! {
    /// What the hub wants sent while this thread has the engine in its hands.
    static HELD: RefCell<Option<Vec<Outgoing>>> = const { RefCell::new(None) };
}

impl Outgoing {
    fn send(&self, engine: &mut dyn Engine) -> Result<(), SendError> {
        match self {
            Outgoing::Short { node, kind, head, body } => engine.send(to(*node), *kind, head, body, Token::NONE),
            Outgoing::Long { node, kind, head, body, token } => {
                engine.send_bulk(to(*node), *kind, head, body.clone(), *token)
            }
        }
    }
}

fn to(node: NodeNumber) -> To {
    To { node, lane: LANE }
}

fn mesh_error(node: NodeNumber, error: SendError) -> MeshError {
    match error {
        SendError::Lost(lost) => MeshError::Lost { node, why: lost.why.to_string() },
        SendError::Unknown(node) => MeshError::NoNode { node },
        SendError::TooLong { len, .. } => MeshError::TooLong { len: len as usize, why: error.to_string() },
        SendError::Closed => MeshError::Closed,
        other => MeshError::Memory(other.to_string()),
    }
}

fn undelivered(node: NodeNumber, why: Undelivered) -> MeshError {
    match why {
        Undelivered::Refused => MeshError::Memory(format!("node {node}: {why}")),
        Undelivered::Lost(lost) => MeshError::Lost { node, why: lost.why.to_string() },
        Undelivered::Closed => MeshError::Closed,
    }
}

/// The lanes to all other nodes.
pub(crate) struct Lanes {
    shared: Arc<Shared>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

struct Shared {
    driver: Driver,
    closed: AtomicBool,
    long: Arc<Mutex<Long>>,
}

impl Meanwhile for Shared {
    fn look(&self) -> bool {
        self.driver.glance()
    }

    fn leave(&self) {
        self.driver.take_over();
    }
}

/// Long messages on their way: the other side may have no memory for them, which whoever waits must hear.
#[derive(Default)]
struct Long {
    last: u64,
    sent: HashMap<Token, (NodeNumber, u16, LaneHead)>,
}

impl Long {
    fn enter(&mut self, node: NodeNumber, kind: u16, head: LaneHead) -> Token {
        self.last += 1;
        self.sent.insert(Token(self.last), (node, kind, head));
        Token(self.last)
    }
}

impl Lanes {
    /// Takes an engine that knows all nodes, and begins to carry for the hub.
    pub(crate) fn open(engine: Box<dyn Engine>, hub: &Arc<Hub>) -> Result<Box<dyn Carrier>, TransportError> {
        let long = Arc::<Mutex<Long>>::default();
        let sink = Ear { hub: Arc::downgrade(hub), came: Vec::new(), backlog: VecDeque::new(), long: long.clone() };
        let driver = Driver::new(engine, Box::new(sink), Waiting::Adaptive)?;
        let shared = Arc::new(Shared { driver, closed: AtomicBool::new(false), long });
        meanwhile(Some(shared.clone()));
        let cared = shared.clone();
        let care = move || {
            // Relaxed: a turn ends when it is told to, by `wake`.
            while !cared.closed.load(Ordering::Relaxed) {
                cared.driver.turn_for(REST);
            }
        };
        let thread = thread::Builder::new().name("dragon-wire".into()).spawn(care);
        let thread = thread.map_err(TransportError::io("start the thread that sees to other nodes"))?;
        Ok(Box::new(Lanes { shared, thread: Mutex::new(Some(thread)) }))
    }

    /// Sends now, or holds it until this thread has given the engine back.
    fn post(&self, lane: link::Lane, outgoing: Outgoing) -> Result<(), MeshError> {
        let Some(outgoing) = hold(outgoing) else { return Ok(()) };
        loop {
            match self.shared.order(lane, |engine| outgoing.send(engine)) {
                Err(SendError::Full) => drop(self.shared.driver.drive(Deadline::after(FULL), || None::<()>)),
                sent => return sent.map_err(|error| mesh_error(lane.node, error)),
            }
        }
    }
}

impl Shared {
    fn order<R>(&self, lane: link::Lane, order: impl FnOnce(&mut dyn Engine) -> R) -> R {
        if lane.waits { self.driver.call(order) } else { self.driver.call_aside(order) }
    }
}

/// Gives it back if it need not be held.
fn hold(outgoing: Outgoing) -> Option<Outgoing> {
    HELD.with_borrow_mut(|held| match held {
        Some(held) => {
            held.push(outgoing);
            None
        }
        None => Some(outgoing),
    })
}

impl Carrier for Lanes {
    fn send(&self, lane: link::Lane, head: &[u8], body: &[u8]) -> Result<(), MeshError> {
        let link::Lane { node, kind, .. } = lane;
        let is_held = HELD.with_borrow(Option::is_some);
        if !is_held {
            // Without a copy, if there is room.
            match self.shared.order(lane, |engine| engine.send(to(node), kind, head, body, Token::NONE)) {
                Err(SendError::Full) => {}
                sent => return sent.map_err(|error| mesh_error(node, error)),
            }
        }
        self.post(lane, Outgoing::Short { node, kind, head: head.to_vec(), body: body.to_vec() })
    }

    fn send_block(&self, lane: link::Lane, head: &[u8], block: Arc<dyn Steady>, len: usize) -> Result<(), MeshError> {
        let link::Lane { node, kind, .. } = lane;
        let body = Bulk { block, len };
        let known = split(head).map(|(head, _)| head).ok_or(MeshError::Dropped { node, service: 0 })?;
        let token = lock(&self.shared.long).enter(node, kind, known);
        let posted = self.post(lane, Outgoing::Long { node, kind, head: head.to_vec(), body, token });
        posted.inspect_err(|_| {
            lock(&self.shared.long).sent.remove(&token);
        })
    }

    fn short(&self) -> usize {
        BODY_MOST
    }

    fn wait(&self, ready: &mut dyn FnMut() -> bool) {
        // Relaxed: who closes wakes all, who then look again.
        let mut done = || (ready() || self.shared.closed.load(Ordering::Relaxed)).then_some(());
        while self.shared.driver.drive(Deadline::Never, &mut done).is_err() {}
    }

    fn close(&self) {
        meanwhile(None);
        if self.shared.driver.close(Deadline::after(GOOD_BYE)).is_err() {
            tracing::warn!("the last messages to other nodes have not been confirmed in {GOOD_BYE:?}");
        }
        self.shared.closed.store(true, Ordering::Relaxed); // see `wait`
        self.shared.driver.wake();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that sees to other nodes panicked");
        }
    }
}

/// Something that came in.
enum Came {
    Message {
        from: NodeNumber,
        kind: u16,
        head: LaneHead,
        own: Vec<u8>,
        body: Body,
    },
    Lost {
        node: NodeNumber,
        why: String,
    },
    /// A long message of ours has not arrived.
    Unsent {
        node: NodeNumber,
        kind: u16,
        head: LaneHead,
        why: MeshError,
    },
}

/// The hub's ear at the engine.
struct Ear {
    hub: Weak<Hub>,
    came: Vec<Came>,
    /// What found a lane full.
    backlog: VecDeque<Outgoing>,
    long: Arc<Mutex<Long>>,
}

impl Ear {
    fn hear(&mut self, from: To, kind: u16, header: &[u8], body: Body) {
        match split(header) {
            Some((head, own)) => {
                self.came.push(Came::Message { from: from.node, kind, head, own: own.to_vec(), body });
            }
            None => tracing::error!(node = from.node, "a message that is shorter than its head"),
        }
    }
}

impl Sink for Ear {
    fn message(&mut self, from: To, kind: u16, header: &[u8], body: &[u8]) {
        self.hear(from, kind, header, Body::Bytes(body.to_vec()));
    }

    fn landing(&mut self, _: To, _: u16, _: &[u8], len: usize) -> Option<Block> {
        self.hub.upgrade()?.landing(len)
    }

    fn landed(&mut self, from: To, kind: u16, header: &[u8], block: Block, len: usize) {
        self.hear(from, kind, header, Body::Block { block, begin: 0, end: len });
    }

    fn done(&mut self, token: Token, outcome: Result<(), Undelivered>) {
        let Some((node, kind, head)) = lock(&self.long).sent.remove(&token) else { return };
        if let Err(why) = outcome {
            self.came.push(Came::Unsent { node, kind, head, why: undelivered(node, why) });
        }
    }

    fn lost(&mut self, node: NodeNumber, _: u64, why: &Lost) {
        self.came.push(Came::Lost { node, why: why.why.to_string() });
    }

    fn settled(&mut self, engine: &mut dyn Engine) {
        let came = std::mem::take(&mut self.came);
        if let Some(hub) = self.hub.upgrade() {
            HELD.set(Some(Vec::new()));
            for came in came {
                match came {
                    Came::Message { from, kind, head, own, body } => hub.came(from, kind, head, own, body),
                    Came::Lost { node, why } => hub.lost(node, &why),
                    Came::Unsent { node, kind, head, why } => hub.unsent(node, kind, head, why),
                }
            }
        }
        self.backlog.extend(HELD.take().unwrap_or_default());
        while let Some(next) = self.backlog.front() {
            match next.send(engine) {
                Err(SendError::Full) => break,
                // Who is lost needs nothing any more.
                _ => drop(self.backlog.pop_front()),
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
