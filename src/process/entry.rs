//! The child's side of a process that runs a function: joins the job, runs it, ends with its code.

use serde::{Deserialize, Serialize};

use crate::mm::{Memory, MemoryConfig};
use crate::runtime;
use crate::services;
use crate::sys::birth as own;
use crate::task::birth::{self, Birth};
use crate::task::{self, Scope};
use crate::wire;

/// What the child is told.
#[derive(Serialize, Deserialize)]
pub(super) struct Told {
    /// The function's name in full.
    pub(super) function: Vec<u8>,
    pub(super) argument: Argument,
    pub(super) memory: MemoryConfig,
}

/// The encoded argument: itself, or where in shared memory it stands.
#[derive(Serialize, Deserialize)]
pub(super) enum Argument {
    Here(Vec<u8>),
    There([u8; 24]),
}

/// The entry of the child.
pub(super) fn live(argument: &[u8]) {
    let Some(Birth { socket, descriptors, .. }) = birth::take() else { return };
    match begin(argument, descriptors.into_iter()) {
        Ok(code) => birth::finish(code),
        Err(why) => birth::give_up(&socket, why),
    }
}

fn begin(argument: &[u8], mut descriptors: impl Iterator<Item = std::os::fd::OwnedFd>) -> Result<i32, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let (me, told) = services::read_argument(argument).ok_or("it was told something unintelligible")?;
    let told: Told = wire::decode(told).map_err(|e| text(&e))?;
    let file = descriptors.next().ok_or("it was handed no memory")?;
    if let Some(stdin) = descriptors.next() {
        own::set_stdin(&stdin).map_err(|e| text(&e))?;
    }
    let memory = Memory::attach(file, me).map_err(|e| text(&e))?;
    runtime::adopt(memory.clone(), told.memory);
    let function = task::find_in_full(&told.function)?;
    let mut code = Vec::new();
    let called = match &told.argument {
        Argument::Here(bytes) => function.call(&mut Scope::new(bytes, &mut code)),
        Argument::There(place) => {
            let bytes = memory.bytes(bytemuck::pod_read_unaligned(place)).map_err(|e| text(&e))?;
            function.call(&mut Scope::new(bytes, &mut code))
        }
    };
    called.map_err(|failure| failure.to_string())?;
    Ok(code.first_chunk().map_or(0, |code| i32::from_le_bytes(*code)))
}
