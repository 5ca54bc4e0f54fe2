//! What can be seen of dictionaries from outside of their job.

use std::collections::HashMap;

use super::body::Gate;
use crate::id::ObjectId;
use crate::mm::{Kind, Sight, View};
use crate::names;
use crate::table;

/// A dictionary as anybody may see it, or the part of one that is on this node.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DDictSight {
    /// What the texts of errors call it.
    pub id: String,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// How many processes have it open.
    pub open_in: usize,
    /// Calls so far that changed it, or cleared away. Reads leave no trace.
    pub writes: u64,
    /// Its managers on this node.
    pub managers: Vec<ManagerSight>,
    /// The newest checkpoint that anybody has written at.
    pub newest_checkpoint: u32,
    /// Whether it is frozen.
    pub frozen: bool,
}

/// Figures of a manager. Sizes are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ManagerSight {
    /// Keys, at whichever checkpoint.
    pub keys: u64,
    /// What keys, values and the pages they are in take.
    pub in_use: u64,
    /// The most that they may take.
    pub limit: u64,
}

/// The dictionaries that there are, but for those that were destroyed.
pub(crate) fn seen(view: &View) -> Vec<DDictSight> {
    let mut names: HashMap<ObjectId, String> = names::all(view.name_entries()).into_iter().collect();
    let all = view.objects();
    let dicts = all.iter().filter(|sight| sight.kind == Kind::Dict);
    dicts.filter_map(|sight| see(view, sight, names.remove(&sight.id))).collect()
}

fn see(view: &View, sight: &Sight, name: Option<String>) -> Option<DDictSight> {
    let figures = table::figures(view.words(sight.handle)?)?;
    let (gate, limit) = (Gate::of(&figures.upper), figures.limit);
    let manager = |tally: &table::Tally| ManagerSight { keys: tally.entries, in_use: tally.bytes, limit };
    let dict = DDictSight {
        id: format!("{}.{}", sight.id.index, sight.id.generation),
        name,
        open_in: sight.open_in as usize,
        writes: figures.calls,
        managers: figures.shards.iter().map(manager).collect(),
        newest_checkpoint: gate.newest(),
        frozen: gate.is_frozen(),
    };
    (!gate.is_destroyed()).then_some(dict)
}
