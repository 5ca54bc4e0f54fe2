//! The conversation with one rank: its bytes become requests, answers become bytes, on either of two wires.
//!
//! A conversation begins as lines of text, PMI-1. Who says in its first line that it speaks version 2 goes on in frames.

use super::limits::REQUEST_MOST;
use super::{framed, line};

/// What a rank wants. Equal for both wires, but for what only one of them knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// Begins the protocol. Version 2 goes on in frames.
    Init {
        version: u32,
    },
    /// A process that called says which it is.
    WhoAmI,
    /// The second half of the beginning, in frames.
    FullInit,
    Limits,
    AppNumber,
    /// The name of the store, which is the team's.
    StoreName,
    UniverseSize,
    Put {
        key: String,
        value: String,
    },
    Get {
        key: String,
    },
    /// Left by a rank for those of its node.
    PutOnNode {
        key: String,
        value: String,
    },
    GetOnNode {
        key: String,
        waits: bool,
    },
    Barrier,
    Finalize,
    Abort {
        code: i32,
        words: String,
    },
    Publish {
        name: String,
        port: String,
    },
    Unpublish {
        name: String,
    },
    LookUp {
        name: String,
    },
    /// Whatever we do not do, by its name.
    Other(String),
}

/// How a request is to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Form {
    /// The command of the answer.
    pub(super) command: String,
    /// In frames, the thread that asked.
    pub(super) thread: Option<String>,
    pub(super) framed: bool,
}

impl Form {
    /// An answer with these fields.
    pub(super) fn say(&self, fields: &[(&str, &str)]) -> Vec<u8> {
        if self.framed { framed::say(self, fields) } else { line::say(&self.command, fields) }
    }
}

/// What has come from a rank and is no whole request yet.
#[derive(Default)]
pub(super) struct Talk {
    heard: Vec<u8>,
    framed: bool,
}

impl Talk {
    /// More has come.
    pub(super) fn hear(&mut self, bytes: &[u8]) {
        self.heard.extend_from_slice(bytes);
    }

    /// The next whole request. An error ends the conversation.
    pub(super) fn next(&mut self) -> Result<Option<(Ask, Form)>, &'static str> {
        let parse = if self.framed { framed::parse } else { line::parse };
        let Some((length, ask, form)) = parse(&self.heard)? else {
            let too_long = self.heard.len() > REQUEST_MOST;
            return if too_long { Err("a request without an end") } else { Ok(None) };
        };
        self.heard.drain(..length);
        self.framed |= ask == Ask::Init { version: 2 };
        Ok(Some((ask, form)))
    }
}

/// Fields of a request, as they came.
pub(super) struct Fields<'a>(pub(super) Vec<(&'a str, String)>);

impl Fields<'_> {
    pub(super) fn text(&self, name: &str) -> String {
        self.find(name).unwrap_or_default().into()
    }

    pub(super) fn find(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn number<N: std::str::FromStr>(&self, name: &str) -> Option<N> {
        self.find(name)?.trim().parse().ok()
    }
}
