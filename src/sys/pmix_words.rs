//! What a process and its PMIx server, another process, tell each other over a socket: frames of a length and a message.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// A frame that says it is longer is none: everything that the ranks of a node leave is in one.
const FRAME_MOST: usize = 1 << 30;
const HEAD: usize = size_of::<u32>();

/// A team that the server is to serve.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Opening {
    /// The team's name, PMIx's namespace.
    pub(crate) name: String,
    /// The nodes' names, all different, by place.
    pub(crate) hosts: Vec<String>,
    /// The place of each rank.
    pub(crate) places: Vec<u32>,
    /// This node's place.
    pub(crate) place: u32,
}

/// To the server.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Begins: which libraries to try, where files go, and this node's name.
    Begin {
        libraries: Vec<String>,
        folder: String,
        host: String,
    },
    Open(Opening),
    Close {
        name: String,
    },
    /// What all nodes have put together for a fence, or why not.
    Fenced {
        ticket: u64,
        all: Result<Vec<u8>, String>,
    },
    /// Another node wants what a rank of this one has left.
    Seek {
        name: String,
        rank: u32,
        ticket: u64,
    },
    /// What a rank of another node has left.
    Found {
        ticket: u64,
        what: Result<Vec<u8>, String>,
    },
    /// Whoever asks wants to know all that ranks have said until now.
    Hear {
        ticket: u64,
    },
}

/// From the server.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// It has begun, or why not.
    Begun(Result<(), String>),
    /// A team is served: the environment of each of its ranks here, in order.
    Opened {
        name: String,
        environments: Result<Vec<Vec<(String, String)>>, String>,
    },
    /// All ranks of this node have come to a fence of these ranks, all if none are named; with what they left.
    Fence {
        ticket: u64,
        name: String,
        ranks: Vec<u32>,
        left: Vec<u8>,
    },
    /// A rank of this node wants what one of another node has left.
    Want {
        ticket: u64,
        name: String,
        rank: u32,
    },
    /// What [`Order::Seek`] was for.
    Left {
        ticket: u64,
        what: Result<Vec<u8>, String>,
    },
    Abort {
        name: String,
        rank: u32,
        code: i32,
        words: String,
    },
    /// All that ranks had said before [`Order::Hear`] has been told.
    Heard {
        ticket: u64,
    },
}

/// A frame with this message.
pub(crate) fn frame(message: &impl Serialize) -> Vec<u8> {
    // Numbers, text and bytes into memory: nothing in it can fail.
    let body = postcard::to_stdvec(message).unwrap_or_default();
    [&(body.len() as u32).to_le_bytes()[..], &body].concat()
}

/// Takes the first whole message from what has come. An error means that it makes no sense.
pub(crate) fn take<M: DeserializeOwned>(come: &mut Vec<u8>) -> Result<Option<M>, String> {
    let Some(head) = come.first_chunk::<HEAD>() else { return Ok(None) };
    let length = u32::from_le_bytes(*head) as usize;
    if length > FRAME_MOST {
        return Err(format!("a frame of {length} bytes"));
    }
    let Some(body) = come.get(HEAD..HEAD + length) else { return Ok(None) };
    let message = postcard::from_bytes(body).map_err(|error| error.to_string())?;
    come.drain(..HEAD + length);
    Ok(Some(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_whole_or_not_yet() {
        let sent = [frame(&Order::Close { name: "a".into() }), frame(&Order::Close { name: "b".into() })].concat();
        let mut come = Vec::new();
        let mut names = Vec::new();
        for byte in sent {
            come.push(byte);
            if let Some(Order::Close { name }) = take(&mut come).unwrap() {
                names.push(name);
            }
        }
        assert_eq!((names, come.len()), (vec!["a".to_string(), "b".into()], 0));
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(take::<Order>(&mut vec![0xff; 9]).is_err());
        assert!(take::<Order>(&mut vec![1, 0, 0, 0, 99]).is_err());
    }
}
