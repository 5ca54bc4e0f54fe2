//! A set of descriptors to sleep on, each under a number of the caller's.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::event::{
    Timespec,
    epoll::{self, CreateFlags, Event, EventData, EventFlags},
};

/// Most descriptors that one look reports.
const AT_ONCE: usize = 64;

/// What is to be watched for. Hang-ups and errors are always reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interest {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

impl Interest {
    pub(crate) const READ: Interest = Interest { read: true, write: false };
    pub(crate) const WRITE: Interest = Interest { read: false, write: true };
    pub(crate) const NOTHING: Interest = Interest { read: false, write: false };

    fn flags(self) -> EventFlags {
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, self.read);
        flags.set(EventFlags::OUT, self.write);
        flags
    }
}

/// One descriptor that is ready, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ready {
    /// The number it was added under.
    pub(crate) key: u64,
    /// Something can be read, or it is at its end.
    pub(crate) read: bool,
    /// Something can be written.
    pub(crate) write: bool,
    /// Both directions are closed, or it failed.
    pub(crate) dead: bool,
}

/// The set. It reports a descriptor for as long as it is ready, not only when it becomes so.
pub(crate) struct Epoll(OwnedFd);

impl Epoll {
    /// A set without members.
    pub(crate) fn new() -> io::Result<Epoll> {
        Ok(Epoll(epoll::create(CreateFlags::CLOEXEC)?))
    }

    /// Watches one more descriptor. Closing it takes it out again.
    pub(crate) fn add(&self, descriptor: impl AsFd, key: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(&self.0, descriptor, EventData::new_u64(key), interest.flags())?)
    }

    /// Watches a member for something else, or under another number.
    pub(crate) fn change(&self, descriptor: impl AsFd, key: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(&self.0, descriptor, EventData::new_u64(key), interest.flags())?)
    }

    /// Adds to `ready` what is ready now, without sleeping.
    pub(crate) fn look(&self, ready: &mut Vec<Ready>) -> io::Result<()> {
        let mut events: [Event; AT_ONCE] = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; AT_ONCE];
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let found = rustix::io::retry_on_intr(|| epoll::wait(&self.0, &mut events[..], Some(&zero)))?;
        let dead = EventFlags::HUP | EventFlags::ERR;
        ready.extend(events[..found].iter().map(|event| {
            // Copied out: the kernel's record is packed.
            let (flags, data) = (event.flags, event.data);
            Ready {
                key: data.u64(),
                read: flags.intersects(EventFlags::IN | dead),
                write: flags.intersects(EventFlags::OUT | dead),
                dead: flags.intersects(dead),
            }
        }));
        Ok(())
    }

    /// Sleeps until a member is ready, a signal comes, or the time is over; `None` is for ever. What is ready
    /// stays to be found by [`Epoll::look`].
    pub(crate) fn sleep(&self, most: Option<Duration>) {
        // A time too long for the kernel is as good as for ever.
        let most = most.and_then(|most| Timespec::try_from(most).ok());
        let mut event = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }];
        // Whatever the reason: the caller looks for itself.
        let _ = epoll::wait(&self.0, &mut event[..], most.as_ref());
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
