//! Holds the house to its rules where the compiler cannot: which floor may name which, where `unsafe`, atomics
//! and system calls may stand, and what has to be said in a comment.
//!
//! The map is below, in floor order. A change that needs a new edge changes this table in the same commit,
//! where a reader sees it. Every finding is printed before the test fails; `tidy/proof.rs` shows for each rule
//! a text that breaks it.

#[path = "tidy/layers.rs"]
mod layers;
#[path = "tidy/notes.rs"]
mod notes;
#[path = "tidy/proof.rs"]
mod proof;
#[path = "tidy/size.rs"]
mod size;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/text.rs"]
mod text;
#[path = "tidy/words.rs"]
mod words;

use std::{collections::BTreeSet, path::Path};

use source::{Place, Source};

/// Words that every floor may speak: they hold no behaviour, so an edge to them says nothing.
pub const VOCABULARY: &[&str] = &["id", "policy", "prim", "time"];

/// Every module, and the modules it may name: only such as stand above it in this list, so that the map
/// cannot hold a cycle. Some are still to be built; their place is kept.
pub const LAYERS: &[(&str, &[&str])] = &[
    // Floor 0: words, and the machine.
    ("id", &[]),
    ("policy", &[]),
    ("time", &[]),
    ("sys", &[]),
    // A kill point, which exists for tests only, kills by `sys`.
    ("prim", &["sys"]),
    // Floor 1: rings over given words; sleeping and waking; memory.
    ("ring", &[]),
    ("wait", &["sys"]),
    ("mm", &["sys"]),
    // Floor 2: one node; the language; functions that travel; who else is there; bytes between nodes.
    ("counters", &["mm"]),
    ("table", &["mm", "wait"]),
    ("channel", &["mm", "counters", "ring", "wait", "table"]),
    ("latch", &["mm", "counters", "wait"]),
    ("names", &["mm", "wait"]),
    ("wire", &[]),
    ("codec", &["wire"]),
    ("task", &["sys", "wire"]),
    ("bootstrap", &["sys"]),
    ("pmi", &["sys"]),
    ("transport", &["sys", "mm", "ring", "wait"]),
    // Floor 3: decisions without effects; sending near or far.
    ("proto", &["wire"]),
    ("mesh", &["mm", "wait", "counters", "channel", "wire", "transport"]),
    // Floor 4: who looks after processes and what the dead held.
    (
        "services",
        &[
            "sys",
            "mm",
            "wait",
            "counters",
            "channel",
            "latch",
            "names",
            "table",
            "task",
            "wire",
            "bootstrap",
            "pmi",
            "proto",
            "mesh",
        ],
    ),
    // Floor 5: one error for all; assembly; the simulated world.
    (
        "error",
        &[
            "mm",
            "channel",
            "names",
            "table",
            "codec",
            "task",
            "wire",
            "bootstrap",
            "transport",
            "proto",
            "mesh",
            "services",
        ],
    ),
    (
        "runtime",
        &[
            "sys",
            "mm",
            "wait",
            "counters",
            "channel",
            "latch",
            "names",
            "task",
            "wire",
            "bootstrap",
            "transport",
            "proto",
            "mesh",
            "services",
            "error",
        ],
    ),
    ("sim", &["mm", "channel", "wire", "proto", "transport", "mesh", "services"]),
    // Floor 6: what users type.
    ("select", &["mm", "wait", "latch", "error", "runtime"]),
    ("shared", &["mm", "wait", "channel", "mesh", "services", "error", "runtime", "select"]),
    ("queue", &["mm", "wait", "channel", "names", "wire", "codec", "mesh", "services", "error", "runtime", "select"]),
    ("sync", &["mm", "wait", "latch", "mesh", "services", "error", "runtime", "select"]),
    ("process", &["sys", "mm", "channel", "pmi", "task", "wire", "mesh", "services", "error", "runtime"]),
    ("pool", &["mm", "wait", "channel", "task", "wire", "mesh", "services", "error", "runtime", "select"]),
    (
        "ddict",
        &[
            "mm", "wait", "channel", "names", "table", "task", "wire", "codec", "proto", "mesh", "services", "error",
            "runtime",
        ],
    ),
    ("observe", &["sys", "mm", "counters", "error", "runtime"]),
    ("telemetry", &["counters", "services", "error", "runtime"]),
];

#[test]
fn the_map_is_in_floor_order() {
    assert_eq!(layers::disorder(LAYERS), Vec::<String>::new());
}

#[test]
fn the_house_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = source::read_all(root);
    let places: BTreeSet<Place> = sources.iter().map(|source| source.place).collect();
    assert!(places.contains(&Place::Library) && places.contains(&Place::Test), "read nothing under {root:?}");

    let mut found: Vec<String> = sources.iter().flat_map(check).collect();
    found.extend(words::marks(&sources));
    assert!(found.is_empty(), "\n{}\n{} findings", found.join("\n"), found.len());
}

/// All findings in one file, in the order of its lines.
pub fn check(source: &Source) -> Vec<String> {
    let rules = [layers::check, notes::check, size::check, words::check];
    let mut found: Vec<(usize, String)> = rules.iter().flat_map(|rule| rule(source)).collect();
    found.sort();
    found.into_iter().map(|(at, what)| format!("{}:{}: {what}", source.name, at + 1)).collect()
}
