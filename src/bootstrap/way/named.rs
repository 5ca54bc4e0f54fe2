//! A place that all ranks know beforehand: an address that the user gives, a machine with ports that follow from the
//! job's name, or a local socket that does.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    time::Duration,
};

use socket2::Socket;

use super::{Opened, Target, Way};
use crate::bootstrap::address::{Address, listen_on_port, local_name, loopback};
use crate::bootstrap::auth::Meeting;
use crate::bootstrap::error::BootstrapError;
use crate::bootstrap::join::JoinConfig;
use crate::bootstrap::plan::{Channel, Plan};
use crate::bootstrap::secret;
use crate::time::Deadline;

/// A place with a name.
pub(super) struct Named {
    place: Place,
    meeting: Meeting,
}

enum Place {
    Local(String),
    /// One port that the user gives, or several to be tried.
    Ports {
        host: String,
        ports: Vec<u16>,
    },
}

impl Named {
    pub(super) fn new(plan: &Plan, config: &JoinConfig, own: Option<[u8; 32]>) -> Result<Named, BootstrapError> {
        let place = match &plan.channel {
            Channel::Fixed { host, port } => Place::Ports { host: host.clone(), ports: vec![*port] },
            Channel::Derived { host, ports } => Place::Ports { host: host.clone(), ports: ports.clone() },
            _ => Place::Local(local_name(&plan.job)),
        };
        let secret = match place {
            // The kernel says who is at the other end.
            Place::Local(_) => own,
            Place::Ports { .. } => Some(own.map_or_else(|| cookie(config), Ok)?),
        };
        Ok(Named { place, meeting: Meeting::new(secret.as_ref(), &plan.job) })
    }

    fn opened(&self, door: Socket) -> Opened {
        Opened { doors: vec![door], meeting: self.meeting.clone() }
    }
}

fn cookie(config: &JoinConfig) -> Result<[u8; 32], BootstrapError> {
    let path = config.cookie.as_deref().ok_or_else(|| BootstrapError::Secret {
        why: "the ranks have no secret to know each other by: set DRAGON_SECRET, the same on all ranks (or HOME, for a cookie \
              there)"
            .into(),
    })?;
    secret::cookie(path)
}

impl Way for Named {
    fn open(&mut self, _: Deadline) -> Result<Opened, BootstrapError> {
        let refused = |source: io::Error| BootstrapError::Io { what: format!("listen on {}", self.place()), source };
        let door = match &self.place {
            Place::Local(name) => Address::Local(name.clone()).listen(),
            Place::Ports { host, ports } => first_free(host, ports),
        };
        Ok(self.opened(door.map_err(refused)?))
    }

    fn look(&mut self, _: Deadline) -> Result<Option<Target>, BootstrapError> {
        let (addresses, patience, is_sure) = match &self.place {
            Place::Local(name) => (vec![Address::Local(name.clone())], 5, true),
            Place::Ports { host, ports } => {
                // A name that is not known yet may be so in a moment: pods come up in any order.
                let found = |port: &u16| resolve(host, *port).into_iter().map(Address::Net);
                let is_one = ports.len() == 1;
                (ports.iter().flat_map(found).collect(), if is_one { 5 } else { 1 }, is_one)
            }
        };
        Ok(Some(Target { addresses, meeting: self.meeting.clone(), patience: Duration::from_secs(patience), is_sure }))
    }

    /// Only on the machine that has the address; there, the first who gets the port is rank 0.
    fn try_open(&mut self) -> Result<Option<Opened>, BootstrapError> {
        let Place::Ports { host, ports } = &self.place else { return Ok(None) };
        let is_here = |address: SocketAddr| listen_on_port(0, Some(address.ip())).is_ok();
        if !resolve(host, 0).into_iter().any(is_here) {
            return Ok(None);
        }
        match first_free(host, ports) {
            Ok(door) => Ok(Some(self.opened(door))),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
            Err(source) => Err(BootstrapError::Io { what: format!("listen on {}", self.place()), source }),
        }
    }

    fn place(&self) -> String {
        match &self.place {
            Place::Local(name) => format!("local socket {name}"),
            Place::Ports { host, ports } => match &ports[..] {
                [port] => format!("{host}:{port}"),
                ports => format!("{host}, ports {ports:?}"),
            },
        }
    }
}

fn resolve(host: &str, port: u16) -> Vec<SocketAddr> {
    (host, port).to_socket_addrs().map(Iterator::collect).unwrap_or_default()
}

fn first_free(host: &str, ports: &[u16]) -> io::Result<Socket> {
    let mut last = io::ErrorKind::AddrInUse.into();
    for port in ports {
        match listen_on_port(*port, loopback(host)) {
            Ok(door) => return Ok(door),
            Err(error) => last = error,
        }
    }
    Err(last)
}
