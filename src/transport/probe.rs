//! The transport without the runtime around it, for its bench: one node that sends and counts.

use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use crate::id::JobId;
use crate::mm::{Block, Memory, MemoryConfig};
use crate::prim::{AtomicBool, AtomicU64, Ordering};
use crate::time::Deadline;
use crate::transport::{
    BODY_MOST, Bulk, Driver, Engine, Identity, Lost, Node, Secret, SendError, Settings, Sink, Tcp, To, Token, Tuning,
    Undelivered, Waiting,
};

/// How waiting threads wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As in the product.
    Adaptive,
    /// In the kernel, at once.
    Sleep,
    /// Awake.
    Poll,
}

/// Sizes from which on a message is sent from a block.
const FROM_BLOCK: usize = 16 << 10;

struct Counter {
    memory: Arc<Memory>,
    messages: Arc<AtomicU64>,
}

impl Sink for Counter {
    fn message(&mut self, _from: To, _kind: u16, _header: &[u8], _body: &[u8]) {
        // SeqCst: pairs with the load of who waits.
        self.messages.fetch_add(1, Ordering::SeqCst);
    }

    fn landing(&mut self, _from: To, _kind: u16, _header: &[u8], len: usize) -> Option<Block> {
        self.memory.alloc(len).ok()
    }

    fn landed(&mut self, _from: To, _kind: u16, _header: &[u8], _block: Block, _len: usize) {
        // SeqCst: pairs with the load of who waits.
        self.messages.fetch_add(1, Ordering::SeqCst);
    }

    fn done(&mut self, _token: Token, _outcome: Result<(), Undelivered>) {}

    fn lost(&mut self, _node: Node, _epoch: u64, why: &Lost) {
        tracing::debug!(%why, "lost");
    }
}

/// A node of a job of two: 0 and 1.
pub struct Probe {
    driver: Arc<Driver>,
    other: Node,
    memory: Arc<Memory>,
    messages: Arc<AtomicU64>,
    taken: AtomicU64,
    address: Vec<u8>,
    outgoing: OnceLock<Bulk>,
    stop: Arc<AtomicBool>,
    background: Option<(thread::JoinHandle<()>, mpsc::Receiver<()>)>,
}

impl Probe {
    /// A node on the loopback.
    pub fn open(node: u32, mode: Mode, encryption: bool) -> Result<Probe, Box<dyn std::error::Error>> {
        let secret = Secret([9; 32]);
        let me = Identity { job: JobId(1), node, epoch: 1, build: [0; 16], secret };
        let settings = Settings { prefix: Some("127.0.0.1".into()), encryption, ..Settings::default() };
        let engine = Tcp::open(me, settings, Tuning::default())?;
        let address = engine.address();
        let memory = Memory::create(&MemoryConfig { limit: 1 << 30, ..MemoryConfig::default() })?;
        let messages = Arc::new(AtomicU64::new(0));
        let sink = Counter { memory: memory.clone(), messages: messages.clone() };
        let waiting = match mode {
            Mode::Adaptive => Waiting::Adaptive,
            Mode::Sleep => Waiting::Sleep,
            Mode::Poll => Waiting::Poll,
        };
        let driver = Arc::new(Driver::new(Box::new(engine), Box::new(sink), waiting)?);
        Ok(Probe {
            driver,
            other: 1 - node,
            memory,
            messages,
            taken: AtomicU64::new(0),
            address,
            outgoing: OnceLock::new(),
            stop: Arc::new(AtomicBool::new(false)),
            background: None,
        })
    }

    /// Where the other finds it.
    pub fn address(&self) -> &[u8] {
        &self.address
    }

    /// Introduces the other.
    pub fn know(&self, address: &[u8]) -> Result<(), Box<dyn std::error::Error>> {
        Ok(self.driver.call(|engine| engine.know(self.other, 1, address))?)
    }

    /// Starts the thread that sees to the engine while nobody waits.
    pub fn start_background(&mut self) {
        let (driver, stop) = (self.driver.clone(), self.stop.clone());
        let (ended, end) = mpsc::channel();
        let thread = thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                driver.turn_for(Duration::from_millis(50));
            }
            drop(ended);
        });
        self.background = Some((thread, end));
    }

    /// Sends so many bytes, waiting for room if need be.
    pub fn send(&self, bytes: &[u8]) {
        let to = To { node: self.other, lane: 0 };
        let bulk = (bytes.len() >= FROM_BLOCK || bytes.len() > BODY_MOST).then(|| self.bulk(bytes));
        let send = || {
            let sent = match &bulk {
                Some(bulk) => self.driver.send_bulk(to, 1, &[], bulk.clone(), Token::NONE),
                None => self.driver.send(to, 1, &[], bytes, Token::NONE),
            };
            match sent {
                Err(SendError::Full) => None,
                other => Some(other),
            }
        };
        let sent = self.driver.drive(Deadline::Never, send);
        sent.expect("there is no deadline").expect("the other lives");
    }

    /// The block that is sent instead: the first large message fills it.
    fn bulk(&self, bytes: &[u8]) -> Bulk {
        let fill = || Bulk { block: Arc::new(self.memory.store(bytes).expect("there is memory")), len: bytes.len() };
        let bulk = self.outgoing.get_or_init(fill);
        assert_eq!(bulk.len, bytes.len(), "a probe sends large messages of one size");
        bulk.clone()
    }

    /// Waits for so many further messages.
    pub fn receive(&self, count: u64) {
        let wanted = self.taken.fetch_add(count, Ordering::Relaxed) + count;
        // SeqCst: pairs with the additions of the sink.
        let come = || (self.messages.load(Ordering::SeqCst) >= wanted).then_some(());
        self.driver.drive(Deadline::Never, come).expect("there is no deadline");
    }

    /// Waits until all has arrived, and ends.
    pub fn close(mut self) {
        self.driver.close(Deadline::after(Duration::from_secs(5))).expect("the other lives");
        self.stop.store(true, Ordering::Relaxed);
        if let Some((thread, _end)) = self.background.take() {
            self.driver.wake();
            thread.join().expect("the background does not panic");
        }
    }
}
