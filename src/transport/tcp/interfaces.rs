//! Which addresses of this machine to listen at: a decision over a list of interfaces.

use std::net::IpAddr;

use regex_lite::Regex;

use super::address::PLACES_MOST;
use crate::sys::net::Interface;
use crate::transport::TransportError;

/// Names of interfaces that rarely lead to another machine: bridges of containers, tunnels of clusters.
const INWARD: &[&str] =
    &["docker", "br-", "virbr", "veth", "cni", "podman", "lxc", "flannel", "cali", "tun", "tap", "dummy"];

/// The addresses to use, best first: those that `prefix` (DRAGON_NETWORK_PREFIX) selects, or all that may lead
/// to other machines, or the loopback if there is nothing else.
pub(super) fn choose(prefix: Option<&str>, all: &[Interface]) -> Result<Vec<Interface>, TransportError> {
    let usable = all.iter().filter(|interface| interface.running && !is_link_local(interface.address));
    let mut chosen: Vec<Interface> = match prefix {
        Some(prefix) => {
            let selector = Selector::read(prefix)?;
            usable.filter(|interface| selector.selects(interface)).cloned().collect()
        }
        None => {
            let outward: Vec<Interface> = usable.clone().filter(|interface| !interface.loopback).cloned().collect();
            if outward.is_empty() { usable.cloned().collect() } else { outward }
        }
    };
    if chosen.is_empty() {
        let prefix = prefix.unwrap_or_default().into();
        return Err(TransportError::NoInterface { prefix, has: describe(all) });
    }
    // Stable: among equals the system's order stays.
    chosen.sort_by_key(|interface| (is_inward(&interface.name), interface.address.is_ipv6()));
    chosen.truncate(PLACES_MOST);
    Ok(chosen)
}

fn is_inward(name: &str) -> bool {
    INWARD.iter().any(|prefix| name.starts_with(prefix))
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn describe(all: &[Interface]) -> String {
    if all.is_empty() {
        return "none with an address".into();
    }
    let one = |interface: &Interface| {
        let down = if interface.running { "" } else { ", down" };
        format!("{} ({}{down})", interface.name, interface.address)
    };
    all.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// What DRAGON_NETWORK_PREFIX may say.
enum Selector {
    /// `10.1.0.0/16`, or a single address.
    Network { address: IpAddr, bits: u32 },
    /// A regular expression that an interface's name must begin with.
    Name(Regex),
}

impl Selector {
    fn read(prefix: &str) -> Result<Selector, TransportError> {
        let bad = |why: String| TransportError::BadSetting { knob: "DRAGON_NETWORK_PREFIX", value: prefix.into(), why };
        let (address, bits) = prefix.split_once('/').map_or((prefix, None), |(address, bits)| (address, Some(bits)));
        if let Ok(address) = address.parse::<IpAddr>() {
            let all = if address.is_ipv4() { 32 } else { 128 };
            let bits = bits.map_or(Some(all), |bits| bits.parse().ok().filter(|bits| *bits <= all));
            let bits =
                bits.ok_or_else(|| bad(format!("expected a network like 10.1.0.0/16, with at most {all} bits")))?;
            return Ok(Selector::Network { address, bits });
        }
        let pattern = Regex::new(&format!("^(?:{prefix})"));
        pattern.map(Selector::Name).map_err(|error| bad(format!("no network, and no pattern for names: {error}")))
    }

    fn selects(&self, interface: &Interface) -> bool {
        match self {
            Selector::Name(pattern) => pattern.is_match(&interface.name),
            Selector::Network { address, bits } => shares_prefix(*address, interface.address, *bits),
        }
    }
}

fn shares_prefix(a: IpAddr, b: IpAddr, bits: u32) -> bool {
    let (a, b, all) = match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits()), u128::from(b.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
        _ => return false,
    };
    // A shift by all bits of the number leaves nothing to differ.
    (a ^ b).checked_shr(all - bits).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, address: &str) -> Interface {
        let address: IpAddr = address.parse().unwrap();
        Interface { name: name.into(), index: 1, address, running: name != "eth9", loopback: address.is_loopback() }
    }

    fn machine() -> Vec<Interface> {
        [
            ("lo", "127.0.0.1"),
            ("docker0", "172.17.0.1"),
            ("eth0", "fe80::1"),
            ("eth0", "fd00::5"),
            ("eth0", "10.1.2.3"),
            ("hsn0", "10.9.0.1"),
            ("hsn1", "10.9.0.2"),
            ("eth9", "10.8.0.1"),
        ]
        .map(|(name, address)| interface(name, address))
        .into()
    }

    fn chosen(prefix: Option<&str>) -> Vec<String> {
        choose(prefix, &machine()).unwrap().iter().map(|i| i.address.to_string()).collect()
    }

    #[test]
    fn without_a_prefix_all_that_lead_out() {
        assert_eq!(chosen(None), ["10.1.2.3", "10.9.0.1", "10.9.0.2", "fd00::5"]);
        let alone = choose(None, &machine()[..1]).unwrap();
        assert_eq!(alone[0].name, "lo", "better than nothing");
    }

    #[test]
    fn names_are_matched_from_their_beginning() {
        assert_eq!(chosen(Some("hsn")), ["10.9.0.1", "10.9.0.2"]);
        assert_eq!(chosen(Some(r"^(hsn|ipogif|ib)\w+$")), ["10.9.0.1", "10.9.0.2"]);
        assert_eq!(chosen(Some("hsn1")), ["10.9.0.2"]);
        assert_eq!(chosen(Some("eth0|docker0")), ["10.1.2.3", "fd00::5", "172.17.0.1"]);
        assert_eq!(chosen(Some("lo")), ["127.0.0.1"]);
    }

    #[test]
    fn networks_are_matched_by_their_bits() {
        assert_eq!(chosen(Some("10.9.0.0/16")), ["10.9.0.1", "10.9.0.2"]);
        assert_eq!(chosen(Some("10.1.2.3")), ["10.1.2.3"]);
        assert_eq!(chosen(Some("fd00::/8")), ["fd00::5"]);
        assert_eq!(chosen(Some("0.0.0.0/0")).len(), 4);
    }

    #[test]
    fn what_matches_nothing_names_what_there_is() {
        for prefix in ["ib", "sn0", "eth9", "192.168.0.0/16"] {
            let said = choose(Some(prefix), &machine()).unwrap_err().to_string();
            assert!(said.contains(prefix) && said.contains("hsn1 (10.9.0.2)"), "{said}");
            assert!(said.contains("eth9 (10.8.0.1, down)"), "{said}");
        }
    }

    #[test]
    fn nonsense_is_named() {
        for prefix in ["(", "10.0.0.0/33", "10.0.0.0/x"] {
            let said = choose(Some(prefix), &machine()).unwrap_err().to_string();
            assert!(said.contains("DRAGON_NETWORK_PREFIX") && said.contains(prefix), "{said}");
        }
    }
}
