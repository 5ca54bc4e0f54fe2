//! Duty: what a rank does while it waits for the others at the end: it carries out orders.
//!
//! An order is the name of a function of this program and its argument. The thread that waits carries out the first order
//! itself, so that a program whose `main` thread is special (MPI) finds its tasks there; as long as it is busy, another thread
//! waits for the next. All is over when the ranks have met, or the way to them is lost.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use serde::{Deserialize, Serialize};

use crate::channel::{Channel, ChannelError};
use crate::error::Result;
use crate::id::ObjectId;
use crate::mm::Memory;
use crate::prim::{AtomicBool, AtomicUsize, Ordering};
use crate::task::{self, Scope, Thunk};
use crate::time::Deadline;
use crate::wait::Patience;
use crate::wire;

/// Orders that may wait. One is taken as soon as it comes.
const ORDERS: usize = 8;
/// Orders of so many bytes need no block.
const INLINE: usize = 240;

thread_local! {
    /// What the order of this thread is part of.
    static DUTY: RefCell<Option<Arc<Duty>>> = const { RefCell::new(None) };
}

#[derive(Serialize, Deserialize)]
struct OrderOfDay {
    entry: Vec<u8>,
    argument: Vec<u8>,
}

/// A rank's time of waiting.
pub(crate) struct Duty {
    orders: Channel,
    over: AtomicBool,
    /// Threads that wait for an order.
    free: AtomicUsize,
    /// Where those who carry out orders wait for something: poked at the end.
    waits: Mutex<Vec<Channel>>,
}

impl Duty {
    /// Takes orders at a channel of its own, whose name is given to `until`, for as long as that takes. `None`: it panicked.
    pub(super) fn during<R: Send>(memory: &Arc<Memory>, until: impl FnOnce(Option<ObjectId>) -> R + Send) -> Option<R> {
        let Ok(orders) = Channel::create(memory, ORDERS, INLINE) else { return Some(until(None)) };
        let (over, free, waits) = (AtomicBool::new(false), AtomicUsize::new(0), Mutex::default());
        let duty = Arc::new(Duty { orders, over, free, waits });
        let until = Mutex::new(Some(until));
        let run = |orders| {
            let until = until.lock().unwrap_or_else(PoisonError::into_inner).take();
            until.map(|until| until(orders))
        };
        thread::scope(|scope| {
            let meets = || {
                // Dropped last, whatever happens on the way.
                let _ends = Ends(duty.clone());
                run(Some(duty.orders.id()))
            };
            match thread::Builder::new().name("dragon-meet".into()).spawn_scoped(scope, meets) {
                Ok(meeting) => {
                    duty.serve(scope);
                    meeting.join().ok().flatten()
                }
                // Without a thread for it there are no orders.
                Err(_) => run(None),
            }
        })
    }

    /// That of the order of this thread.
    pub(crate) fn here() -> Option<Arc<Duty>> {
        DUTY.with_borrow(Clone::clone)
    }

    /// Whether the time of waiting is over: who carries out an order comes to an end.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire) // pairs with `Ends::drop`
    }

    /// Whoever waits at this channel, and asks [`Duty::is_over`], is woken at the end.
    pub(crate) fn wake_at_end(&self, channel: &Channel) {
        let mut waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        waits.push(channel.clone());
    }

    /// An order has been carried out that waited there.
    pub(crate) fn forget(&self, channel: &Channel) {
        let mut waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        waits.retain(|other| other.id() != channel.id());
    }

    fn serve<'s>(self: &Arc<Self>, scope: &'s thread::Scope<'s, '_>) {
        let mut patience = Patience::new();
        loop {
            self.free.fetch_add(1, Ordering::Relaxed); // counted by the threads of this process alone
            let stop = || self.is_over();
            let order = self.orders.recv_with(&mut patience, Deadline::Never, &stop, |_, order| order.to_vec());
            let others = self.free.fetch_sub(1, Ordering::Relaxed) - 1;
            let order = match order {
                Ok(order) => order,
                Err(ChannelError::Interrupted | ChannelError::Closed) => return,
                Err(error) => {
                    tracing::error!(%error, "a rank that waits takes no more orders");
                    return;
                }
            };
            if others == 0 {
                let duty = self.clone();
                let next = thread::Builder::new().name("dragon-duty".into());
                if let Err(error) = next.spawn_scoped(scope, move || duty.serve(scope)) {
                    tracing::warn!(%error, "no thread for further orders: they wait until this one is carried out");
                }
            }
            self.carry_out(&order);
        }
    }

    fn carry_out(self: &Arc<Self>, order: &[u8]) {
        let found = wire::decode::<OrderOfDay>(order).map_err(|error| error.to_string());
        let found = found.and_then(|order| Ok((task::find_in_full(&order.entry)?, order.argument)));
        let (entry, argument) = match found {
            Ok(found) => found,
            Err(error) => return tracing::error!(error, "an order to a rank that nobody understands"),
        };
        DUTY.set(Some(self.clone()));
        if let Err(failure) = entry.call(&mut Scope::new(&argument, &mut Vec::new())) {
            tracing::error!(%failure, "a rank has not carried out an order");
        }
        DUTY.set(None);
    }
}

/// Ends the time of waiting when it is dropped.
struct Ends(Arc<Duty>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Release); // pairs with `is_over`
        self.0.orders.poke();
        let waits = std::mem::take(&mut *self.0.waits.lock().unwrap_or_else(PoisonError::into_inner));
        waits.iter().for_each(Channel::poke);
    }
}

/// An order to a rank, as bytes.
pub(crate) fn order_to_rank(entry: &'static Thunk, argument: Vec<u8>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    wire::encode(&OrderOfDay { entry: task::name_in_full(entry)?, argument }, &mut bytes)?;
    Ok(bytes)
}
