//! What an engine is told when it is made: who it is, and how patient.

use std::{ops::RangeInclusive, time::Duration};

use crate::id::JobId;
use crate::transport::lossy::Weather;
use crate::transport::{Node, TransportError};

/// What the members of a job know and nobody else. Not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) [u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Who an engine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The job, equal for all its nodes.
    pub(crate) job: JobId,
    /// Which node of it.
    pub(crate) node: Node,
    /// Which incarnation of the node: differs from all before it.
    pub(crate) epoch: u64,
    /// What must be equal at both ends for messages to mean the same.
    pub(crate) build: [u8; 16],
    /// How members know each other.
    pub(crate) secret: Secret,
}

/// What a user can set, from the environment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    /// Which interfaces to use (DRAGON_NETWORK_PREFIX): a pattern for names, or a network.
    pub(crate) prefix: Option<String>,
    /// Ports to listen at (DRAGON_PORT), the first that is free; `0..=0` is any.
    pub(crate) ports: RangeInclusive<u16>,
    /// Whether frames are encrypted (DRAGON_ENCRYPTION).
    pub(crate) encryption: bool,
    /// How long a peer may be silent (DRAGON_SILENCE).
    pub(crate) silence: Duration,
    /// How bad the network is made (DRAGON_TRANSPORT=lossy+tcp).
    pub(crate) lossy: Option<Weather>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { prefix: None, ports: 0..=0, encryption: false, silence: Duration::from_secs(3), lossy: None }
    }
}

impl Settings {
    /// Reads the variables named at the fields; `environment` is `std::env::var` or a test.
    pub(crate) fn read(environment: impl Fn(&str) -> Option<String>) -> Result<Settings, TransportError> {
        let default = Settings::default();
        let read = |knob| environment(knob).map(|text| text.trim().to_string()).filter(|text| !text.is_empty());
        Ok(Settings {
            prefix: read("DRAGON_NETWORK_PREFIX"),
            ports: understood(
                "DRAGON_PORT",
                read("DRAGON_PORT"),
                ports,
                default.ports,
                "a port, or a range `from-to` of ports, from 1 to 65535",
            )?,
            encryption: understood(
                "DRAGON_ENCRYPTION",
                read("DRAGON_ENCRYPTION"),
                switch,
                default.encryption,
                "`on` or `off`",
            )?,
            silence: understood(
                "DRAGON_SILENCE",
                read("DRAGON_SILENCE"),
                seconds,
                default.silence,
                "seconds that a node may be silent, at least 0.1",
            )?,
            lossy: understood(
                "DRAGON_TRANSPORT",
                read("DRAGON_TRANSPORT"),
                transport,
                default.lossy,
                "`auto`, `tcp`, or `lossy+tcp` for tests (`lossy:5:100+tcp`: per cent lost, milliseconds each way)",
            )?,
        })
    }
}

fn understood<T>(
    knob: &'static str,
    text: Option<String>,
    read: impl Fn(&str) -> Option<T>,
    default: T,
    wanted: &str,
) -> Result<T, TransportError> {
    let Some(value) = text else { return Ok(default) };
    read(&value).ok_or_else(|| TransportError::BadSetting { knob, value, why: format!("expected {wanted}") })
}

fn transport(text: &str) -> Option<Option<Weather>> {
    match text {
        "auto" | "tcp" => Some(None),
        lossy => Weather::read(lossy).map(Some),
    }
}

fn ports(text: &str) -> Option<RangeInclusive<u16>> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
    (0 < from && from <= to).then_some(from..=to)
}

fn switch(text: &str) -> Option<bool> {
    match text {
        "on" | "1" | "true" | "yes" => Some(true),
        "off" | "0" | "false" | "no" => Some(false),
        _ => None,
    }
}

fn seconds(text: &str) -> Option<Duration> {
    let long = Duration::try_from_secs_f64(text.parse().ok()?).ok()?;
    (long >= Duration::from_millis(100)).then_some(long)
}

/// Limits and times that users have no business with; tests have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tuning {
    /// Nodes of the job: the numbers are below this.
    pub(crate) nodes: u32,
    /// How long a first connection to a peer may take.
    pub(crate) connect: Duration,
    /// How long whoever connects may take to prove that it belongs to the job.
    pub(crate) proof: Duration,
    /// Connections without proof at a time; the oldest gives way.
    pub(crate) unproven: usize,
    /// Bytes of a lane that may be on the way, not counting the message that goes beyond it.
    pub(crate) lane_bytes: u64,
    /// Largest body in a block that is believed.
    pub(crate) bulk_most: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        Tuning {
            nodes: 1 << 20,
            connect: Duration::from_secs(10),
            proof: Duration::from_secs(2),
            unproven: 64,
            lane_bytes: 8 << 20,
            bulk_most: 64 << 30,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Settings, TransportError> {
        Settings::read(|asked| pairs.iter().find(|(name, _)| *name == asked).map(|(_, value)| value.to_string()))
    }

    #[test]
    fn nothing_set_is_the_default() {
        assert_eq!(read(&[]).unwrap(), Settings::default());
        assert_eq!(read(&[("DRAGON_PORT", " ")]).unwrap(), Settings::default());
    }

    #[test]
    fn settings_are_read() {
        let all = [
            ("DRAGON_PORT", "7000-7010"),
            ("DRAGON_ENCRYPTION", "on"),
            ("DRAGON_SILENCE", "1.5"),
            ("DRAGON_NETWORK_PREFIX", "^(hsn|ib)"),
        ];
        let read = read(&all).unwrap();
        assert_eq!((read.ports, read.encryption), (7000..=7010, true));
        assert_eq!((read.silence, read.prefix.as_deref()), (Duration::from_millis(1500), Some("^(hsn|ib)")));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let wrong = [
            ("DRAGON_PORT", "http"),
            ("DRAGON_PORT", "70000"),
            ("DRAGON_PORT", "9-8"),
            ("DRAGON_PORT", "0"),
            ("DRAGON_ENCRYPTION", "maybe"),
            ("DRAGON_SILENCE", "0"),
            ("DRAGON_SILENCE", "NaN"),
        ];
        for (knob, value) in wrong {
            let said = read(&[(knob, value)]).unwrap_err().to_string();
            assert!(said.contains(knob) && said.contains(value), "{said}");
        }
    }

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(format!("{:?}", Secret([7; 32])), "Secret(..)");
    }
}
