//! Where the hub can be reached: local names and addresses of the network; to listen there and to call there.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::AsFd,
    path::Path,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Socket, Type};

use super::auth::digest;
use crate::sys::identity;
use crate::sys::rendezvous;
use crate::sys::shm;
use crate::time::Deadline;

/// Until a look whether a door is still full.
const QUEUEING: Duration = Duration::from_millis(2);

/// One address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Address {
    /// A name that the kernel keeps per network namespace, without a file.
    Local(String),
    /// A port on the network.
    Net(SocketAddr),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Local(name) => write!(f, "local socket {name}"),
            Address::Net(address) => write!(f, "{address}"),
        }
    }
}

impl Address {
    fn socket(&self) -> io::Result<(Socket, SockAddr)> {
        match self {
            Address::Local(name) => {
                let address = SockAddr::unix(Path::new(&format!("\0{name}")))?;
                Ok((Socket::new(Domain::UNIX, Type::STREAM, None)?, address))
            }
            Address::Net(address) => {
                Ok((Socket::new(Domain::for_address(*address), Type::STREAM, None)?, (*address).into()))
            }
        }
    }

    /// Opens a door there. As many may wait before it as the system allows.
    pub(super) fn listen(&self) -> io::Result<Socket> {
        let (socket, address) = self.socket()?;
        if let Address::Net(at) = self {
            // Connections of a job that has just ended do not keep the port.
            socket.set_reuse_address(true)?;
            if at.is_ipv6() {
                socket.set_only_v6(false)?;
            }
        }
        socket.bind(&address)?;
        socket.listen(4096)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }

    /// Calls there. On a local socket, whoever answers must be the same user.
    pub(super) fn call(&self, deadline: Deadline) -> io::Result<Socket> {
        let (socket, address) = self.socket()?;
        connect(&socket, &address, deadline)?;
        socket.set_nonblocking(true)?;
        welcome(&socket)?;
        Ok(socket)
    }
}

/// Connects in time. Before a full local door one has to queue by oneself.
pub(super) fn connect(socket: &Socket, address: &SockAddr, deadline: Deadline) -> io::Result<()> {
    loop {
        let patience = deadline.left().unwrap_or(Duration::MAX).max(Duration::from_millis(1));
        match socket.connect_timeout(address, patience) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !deadline.passed() => {
                rendezvous::pause(Deadline::after(QUEUEING));
            }
            other => return other,
        }
    }
}

/// Checks who is at the other end of a local socket; makes small messages on others go out at once.
pub(super) fn welcome(socket: &Socket) -> io::Result<()> {
    if socket.domain()? != Domain::UNIX {
        return socket.set_tcp_nodelay(true);
    }
    let peer = rendezvous::peer(socket.as_fd())?;
    if peer.uid == shm::user() {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("user {} is at the other end, not us", peer.uid)))
}

/// A local name that all ranks of a job make the same of its name.
pub(super) fn local_name(job: &str) -> String {
    let digest = digest(format!("{} {job}", shm::user()).as_bytes());
    let hex: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("dragon-{hex}")
}

/// Listens on a port of this one address, or of all networks, of both families if there are both.
pub(super) fn listen_on_port(port: u16, only: Option<IpAddr>) -> io::Result<Socket> {
    let listen = |at| Address::Net(SocketAddr::new(at, port)).listen();
    if let Some(address) = only {
        return listen(address);
    }
    match listen(Ipv6Addr::UNSPECIFIED.into()) {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => listen(Ipv4Addr::UNSPECIFIED.into()),
        found => found,
    }
}

/// The address that a name stands for on this machine alone: what listens there cannot be reached from elsewhere.
pub(super) fn loopback(host: &str) -> Option<IpAddr> {
    if host == "localhost" {
        return Some(Ipv4Addr::LOCALHOST.into());
    }
    host.parse().ok().filter(IpAddr::is_loopback)
}

/// Where a hub listens, told to the others by the launcher's channel or a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Door {
    /// Made by rank 0 for this job; `None` where all have one from elsewhere.
    pub(super) secret: Option<[u8; 32]>,
    /// Part of the job's name, so that a door left by an earlier start is told from this one.
    pub(super) job: [u8; 16],
    /// Whose local names these are.
    boot: String,
    network: u64,
    local: String,
    /// Addresses of the machine, best first.
    net: Vec<SocketAddr>,
}

impl Door {
    /// Opens a local and a network door of this machine.
    pub(super) fn open(secret: Option<[u8; 32]>, job: [u8; 16]) -> io::Result<(Door, Vec<Socket>)> {
        let hex: String = job.iter().map(|byte| format!("{byte:02x}")).collect();
        let local = format!("dragon-{hex}");
        let mut sockets = vec![Address::Local(local.clone()).listen()?];
        let mut net = Vec::new();
        // A machine without any network still has itself.
        if let Ok(socket) = listen_on_port(0, None) {
            let port = socket.local_addr()?.as_socket().map_or(0, |address| address.port());
            let is_v4 = socket.domain()? == Domain::IPV4;
            net = own_addresses(is_v4).map(|address| SocketAddr::new(address, port)).take(16).collect();
            sockets.push(socket);
        }
        let (boot, network) = (identity::boot_id(), identity::network_namespace());
        Ok((Door { secret, job, boot, network, local, net }, sockets))
    }

    /// How this process gets there, best first.
    pub(super) fn addresses(&self) -> Vec<Address> {
        let is_here = !self.boot.is_empty()
            && self.boot == identity::boot_id()
            && self.network != 0
            && self.network == identity::network_namespace();
        let local = is_here.then(|| Address::Local(self.local.clone()));
        local.into_iter().chain(self.net.iter().copied().map(Address::Net)).collect()
    }
}

/// Addresses by which others may reach this machine: fast networks before ordinary ones before what containers and virtual
/// machines have among themselves.
fn own_addresses(only_v4: bool) -> impl Iterator<Item = IpAddr> {
    let all = rendezvous::interface_addresses().unwrap_or_default();
    let mut found: Vec<_> = all
        .into_iter()
        .filter(|at| !(at.is_loopback || only_v4 && at.address.is_ipv6()))
        .map(|at| ((distance(&at.interface), at.address.is_ipv6()), at.address))
        .collect();
    found.sort_by_key(|(key, _)| *key);
    found.into_iter().map(|(_, address)| address)
}

fn distance(interface: &str) -> u8 {
    let begins = |names: &[&str]| names.iter().any(|name| interface.starts_with(name));
    match interface {
        _ if begins(&["hsn", "ib"]) => 0,
        _ if begins(&["docker", "virbr", "veth", "br-", "cni", "flannel", "tun", "tap"]) => 3,
        _ if begins(&["e"]) => 1,
        _ => 2,
    }
}
