//! Opening the ports at which peers find this engine, and the sockets that go with it.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::sys::net;
use crate::sys::net::Interface;
use crate::transport::{Settings, TransportError};

use super::interfaces;

/// Between two tries of the kernel to get something through.
const RETRY_MOST: Duration = Duration::from_secs(1);

/// Connections that the kernel keeps ready for us; it may keep fewer.
const BACKLOG: i32 = 4096;

/// A socket at which peers arrive.
pub(super) struct Listener {
    pub(super) socket: Socket,
    pub(super) at: SocketAddr,
}

/// One listener for each address that the settings choose.
pub(super) fn open(settings: &Settings) -> Result<Vec<Listener>, TransportError> {
    let all = net::interfaces().map_err(TransportError::io("list the network interfaces (getifaddrs)"))?;
    let chosen = interfaces::choose(settings.prefix.as_deref(), &all)?;
    chosen.iter().map(|interface| listen(interface, &settings.ports)).collect()
}

/// The first port of the range that is free.
fn listen(interface: &Interface, ports: &RangeInclusive<u16>) -> Result<Listener, TransportError> {
    let mut last = io::ErrorKind::AddrInUse.into();
    for port in ports.clone() {
        match listen_at(interface.address, port) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    let ports = match (*ports.start(), *ports.end()) {
        (0, _) => "any".into(),
        (from, to) if from == to => from.to_string(),
        (from, to) => format!("{from}-{to}"),
    };
    let (address, interface) = (interface.address.to_string(), interface.name.clone());
    Err(TransportError::Listen { address, interface, ports, source: last })
}

fn listen_at(address: IpAddr, port: u16) -> io::Result<Listener> {
    let socket = stream(address)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Connections of an engine that was here before may still be dying.
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::new(address, port).into())?;
    socket.listen(BACKLOG)?;
    let at = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
    Ok(Listener { socket, at })
}

fn stream(address: IpAddr) -> io::Result<Socket> {
    let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// What every connection of a lane has: small things go at once, and what got lost is sent again soon.
fn prepare(socket: &Socket) -> io::Result<()> {
    net::bound_retries(socket, RETRY_MOST);
    socket.set_tcp_nodelay(true)
}

/// A socket that is being connected, or is already; not to be waited for here.
pub(super) fn dial(place: SocketAddr) -> io::Result<Socket> {
    let socket = stream(place.ip())?;
    prepare(&socket)?;
    match socket.connect(&place.into()) {
        Err(error) if !net::is_under_way(&error) => Err(error),
        _ => Ok(socket),
    }
}

/// Takes one that has arrived. `WouldBlock`: nobody.
pub(super) fn accept(listener: &Listener) -> io::Result<(Socket, SocketAddr)> {
    let (socket, from) = listener.socket.accept()?;
    socket.set_nonblocking(true)?;
    prepare(&socket)?;
    Ok((socket, from.as_socket().ok_or(io::ErrorKind::Unsupported)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback(ports: RangeInclusive<u16>) -> Settings {
        Settings { prefix: Some("127.0.0.1".into()), ports, ..Settings::default() }
    }

    #[test]
    fn a_range_gives_its_first_free_port() {
        let taken = open(&loopback(0..=0)).unwrap();
        let port = taken[0].at.port();
        // The next may be taken as well by somebody else on this machine, then there is nothing to test.
        if let Ok(next) = open(&loopback(port..=port.saturating_add(20))) {
            assert!(next[0].at.port() > port);
        }
    }

    #[test]
    fn a_blocked_port_is_named_with_address_interface_and_knob() {
        let taken = open(&loopback(0..=0)).unwrap();
        let port = taken[0].at.port();
        let said = open(&loopback(port..=port)).err().unwrap().to_string();
        for part in ["127.0.0.1", "(lo)", &port.to_string(), "DRAGON_PORT"] {
            assert!(said.contains(part), "{said}");
        }
    }
}
