//! A dictionary without its types: a table of the node's memory, and what the first words of it mean.
//!
//! ```text
//! upper words   0  Gate     newest checkpoint:32 frozen:1 destroyed:1 being restored:1
//!               1  Floor    the oldest checkpoint of which all values are kept
//!               2  Window   how many checkpoints may be looked at
//!               4  Useless  1: with replicas, others may have gone on without this part
//!               3  Rules    waits for keys:1  waits for writers:1  persists:1
//! ```
//! A call that writes looks at the gate, and is refused by the table if it changes before the call has begun.

use std::sync::Arc;

use once_cell::sync::OnceCell;

use super::archive::Archive;
use super::home::Note;
use crate::channel;
use crate::error::{Error, ErrorKind, Result};
use crate::id::ObjectId;
use crate::mm::Object;
use crate::names;
use crate::prim::{AtomicU64, Ordering};
use crate::runtime::Core;
use crate::table::{Cargo, Plan, Table, TableError};

const GATE: usize = 0;
const FLOOR: usize = 1;
const WINDOW: usize = 2;
const RULES: usize = 3;
const USELESS: usize = 4;

const FROZEN: u64 = 1 << 32;
const DESTROYED: u64 = 1 << 33;
const RESTORING: u64 = 1 << 34;
const WAITS_FOR_KEYS: u64 = 1;
const WAITS_FOR_WRITERS: u64 = 2;
const PERSISTS: u64 = 4;

/// The gate as it is at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gate(pub(super) u64);

impl Gate {
    /// Out of a table's words.
    pub(super) fn of(upper: &[u64; 8]) -> Gate {
        Gate(upper[GATE])
    }

    pub(super) fn newest(self) -> u32 {
        self.0 as u32
    }

    pub(super) fn is_frozen(self) -> bool {
        self.0 & (FROZEN | RESTORING) != 0
    }

    /// With replicas: not all copies have what is being restored, or whoever did that died over it.
    pub(super) fn is_restoring(self) -> bool {
        self.0 & RESTORING != 0
    }

    pub(super) fn restoring(self, yes: bool) -> Gate {
        Gate(if yes { self.0 | RESTORING } else { self.0 & !RESTORING })
    }

    pub(super) fn is_destroyed(self) -> bool {
        self.0 & DESTROYED != 0
    }

    pub(super) fn frozen(self, yes: bool) -> Gate {
        Gate(if yes { self.0 | FROZEN } else { self.0 & !FROZEN })
    }

    pub(super) fn destroyed(self) -> Gate {
        Gate(self.0 | DESTROYED)
    }

    pub(super) fn with_newest(self, newest: u32) -> Gate {
        Gate(self.0 >> 32 << 32 | u64::from(newest))
    }
}

/// How a dictionary treats checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Rules {
    pub(super) window: u32,
    pub(super) waits_for_keys: bool,
    pub(super) waits_for_writers: bool,
    /// Whether checkpoints are stored when they are retired.
    pub(super) persists: bool,
}

impl Rules {
    fn read(upper: &[AtomicU64; 8]) -> Rules {
        // Relaxed: never change.
        let [window, rules] = [WINDOW, RULES].map(|at| upper[at].load(Ordering::Relaxed));
        Rules {
            window: window as u32,
            waits_for_keys: rules & WAITS_FOR_KEYS != 0,
            waits_for_writers: rules & WAITS_FOR_WRITERS != 0,
            persists: rules & PERSISTS != 0,
        }
    }
}

/// The shared part of a dictionary, as this process has it open.
pub(super) struct Body {
    /// `Some` until it is dropped.
    table: Option<Table>,
    pub(super) core: Arc<Core>,
    pub(super) rules: Rules,
    archive: OnceCell<Archive>,
}

impl Body {
    pub(super) fn create(core: Arc<Core>, label: u64, shards: usize, limit: u64, rules: Rules) -> Result<Body> {
        let seed = core.memory().job().0 ^ label;
        Body::create_with(core, label, shards, limit, rules, seed)
    }

    /// With what the hashes of its keys begin with: the same for all parts of a dictionary.
    pub(super) fn create_with(
        core: Arc<Core>,
        label: u64,
        shards: usize,
        limit: u64,
        rules: Rules,
        seed: u64,
    ) -> Result<Body> {
        let flag = |yes: bool, bit: u64| if yes { bit } else { 0 };
        let mut upper = [0; 8];
        upper[WINDOW] = u64::from(rules.window);
        upper[RULES] = flag(rules.waits_for_keys, WAITS_FOR_KEYS)
            | flag(rules.waits_for_writers, WAITS_FOR_WRITERS)
            | flag(rules.persists, PERSISTS);
        let history = rules.window > 1 || rules.persists;
        let plan = Plan { label, shards, limit, history, seed, upper };
        let table = Some(Table::create(core.memory(), &plan)?);
        Ok(Body { table, core, rules, archive: OnceCell::new() })
    }

    pub(super) fn open(core: Arc<Core>, id: ObjectId) -> Result<Body, TableError> {
        let table = Table::open(core.memory(), id)?;
        let rules = Rules::read(table.upper());
        Ok(Body { table: Some(table), core, rules, archive: OnceCell::new() })
    }

    #[inline]
    pub(super) fn table(&self) -> &Table {
        self.table.as_ref().expect("taken out only when it is dropped")
    }

    pub(super) fn object(&self) -> &Object {
        self.table().object()
    }

    /// What to call it in a text.
    pub(super) fn name(&self) -> String {
        let id = self.object().id();
        match names::of(self.core.memory(), id) {
            Some(name) => format!("dictionary `{name}`"),
            None => format!("dictionary {}.{}", id.index, id.generation),
        }
    }

    #[inline]
    fn upper(&self, at: usize) -> &AtomicU64 {
        &self.table().upper()[at]
    }

    #[inline]
    pub(super) fn gate(&self) -> Gate {
        Gate(self.upper(GATE).load(Ordering::SeqCst)) // SeqCst: pairs with `turn_gate`
    }

    /// Whether a part with replicas may be read without asking its home.
    #[inline]
    pub(super) fn is_usable(&self) -> bool {
        self.upper(USELESS).load(Ordering::Acquire) == 0 // pairs with `give_up`
    }

    /// This part must not be used any more: the home says so.
    pub(super) fn give_up(&self) {
        self.upper(USELESS).store(1, Ordering::Release); // pairs with `is_usable`
    }

    /// Changes the gate, unless `change` leaves it: what it is then. Refused if the dictionary was destroyed.
    pub(super) fn change_gate(&self, change: impl Fn(Gate) -> Option<Gate>) -> Result<Gate> {
        loop {
            let gate = self.gate();
            if gate.is_destroyed() {
                return Err(self.destroyed());
            }
            let Some(next) = change(gate) else { return Ok(gate) };
            if self.turn_gate(gate, next) {
                self.wake();
                return Ok(next);
            }
        }
    }

    /// Changes the gate, unless somebody else has.
    pub(super) fn turn_gate(&self, from: Gate, to: Gate) -> bool {
        // SeqCst: before a look at the calls that have begun; pairs with their look at the gate.
        self.upper(GATE).compare_exchange(from.0, to.0, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    #[inline]
    pub(super) fn floor(&self) -> u32 {
        self.upper(FLOOR).load(Ordering::Acquire) as u32 // pairs with `raise_floor`
    }

    pub(super) fn raise_floor(&self, floor: u32) {
        self.upper(FLOOR).fetch_max(u64::from(floor), Ordering::AcqRel); // pairs with `floor`
    }

    /// After a restore: also down.
    pub(super) fn set_floor(&self, floor: u32) {
        self.upper(FLOOR).store(u64::from(floor), Ordering::Release); // pairs with `floor`
    }

    /// Wakes all who wait for a change.
    pub(super) fn wake(&self) {
        if let Some(cell) = self.table().changed() {
            cell.notify_all();
        }
    }

    /// Where checkpoints are stored, if they are.
    pub(super) fn archive(&self) -> Result<Option<&Archive>> {
        let Some(note) = Note::of(self)?.and_then(|note| note.archive) else { return Ok(None) };
        self.archive.get_or_try_init(|| Archive::open(&note)).map(Some)
    }

    /// Ends the holds of entries that are gone.
    #[inline]
    pub(super) fn unload(&self, cargo: &mut Cargo) {
        if !cargo.is_empty() {
            self.unload_some(cargo);
        }
    }

    #[cold]
    fn unload_some(&self, cargo: &mut Cargo) {
        let (memory, id) = (self.core.memory(), self.object().id());
        for name in cargo.drain(..) {
            channel::let_go(memory, id, name.word());
        }
    }

    #[cold]
    pub(super) fn destroyed(&self) -> Error {
        Error::new(ErrorKind::Closed, format!("{} was destroyed", self.name()))
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(remains) = self.table.take().and_then(|table| table.into_object().release()) {
            channel::bury(remains);
        }
    }
}
