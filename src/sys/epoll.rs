//! A set of descriptors to sleep on, each under a number of the caller's.

use std::{
    io,
    mem::MaybeUninit,
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
    /// Something can be written, or that would fail.
    pub(crate) write: bool,
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

    /// Watches a member no more.
    pub(crate) fn remove(&self, descriptor: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.0, descriptor)?)
    }

    /// Adds to `ready` what is ready now, without sleeping.
    pub(crate) fn look(&self, ready: &mut Vec<Ready>) -> io::Result<()> {
        let mut room = [MaybeUninit::<Event>::uninit(); AT_ONCE];
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Without sleeping nothing is interrupted.
        let (found, _) = epoll::wait(&self.0, &mut room[..], Some(&zero))?;
        ready.extend(found.iter().map(|event| {
            // Copied out: the kernel's record is packed.
            let (flags, data) = (event.flags, event.data);
            let dead = EventFlags::HUP | EventFlags::ERR;
            let [read, write] = [EventFlags::IN, EventFlags::OUT].map(|wanted| flags.intersects(wanted | dead));
            Ready { key: data.u64(), read, write }
        }));
        Ok(())
    }

    /// Sleeps until a member is ready, a signal comes, or the time is over; `None` is for ever. What is ready
    /// stays to be found by [`Epoll::look`].
    pub(crate) fn sleep(&self, most: Option<Duration>) {
        // A time too long for the kernel is as good as for ever.
        let most = most.and_then(|most| Timespec::try_from(most).ok());
        let mut event = [MaybeUninit::<Event>::uninit()];
        // Whatever the reason: the caller looks for itself.
        let _ = epoll::wait(&self.0, &mut event[..], most.as_ref());
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
