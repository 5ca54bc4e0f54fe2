//! The map: a module names only modules of lower floors, by their full path.

use super::source::{Finding, Place, Source};
use super::text::is_word;
use super::{LAYERS, VOCABULARY};

/// Edges of the file that are not on the map.
pub fn check(source: &Source) -> Vec<Finding> {
    if source.place != Place::Library || source.layer() == "lib" {
        return Vec::new();
    }
    let Some((_, edges)) = LAYERS.iter().find(|(name, _)| *name == source.layer()) else {
        return vec![(0, format!("module `{}` is not on the map in tests/tidy.rs", source.layer()))];
    };
    let mut found = Vec::new();
    for (at, line) in source.lines.iter().enumerate() {
        if line.code.contains("crate::{") {
            found.push((at, "one `use crate::layer` line for each layer, no groups".into()));
        }
        for target in crate_paths(&line.code) {
            found.extend(wrong_edge(source.layer(), edges, &target).map(|what| (at, what)));
        }
        let depth = source.modules.len() + usize::from(line.test);
        if supers(&line.code) >= depth {
            found.push((at, "`super` climbs out of the layer: name it by `crate::`".into()));
        }
    }
    found
}

fn wrong_edge(layer: &str, edges: &[&str], target: &str) -> Option<String> {
    if target == layer || VOCABULARY.contains(&target) || edges.contains(&target) {
        return None;
    }
    if LAYERS.iter().any(|(name, _)| *name == target) {
        return Some(format!("`{layer}` may not name `{target}`"));
    }
    Some(format!("`crate::{target}` is no layer: name what you need where it lives"))
}

/// The first name of every `crate::name` in the line.
fn crate_paths(code: &str) -> Vec<String> {
    // `$crate::` in a macro is the caller's path.
    let foreign = |c: char| is_word(c) || c == '$';
    let paths = code.match_indices("crate::").filter(|(at, _)| !code[..*at].ends_with(foreign));
    let names = paths.map(|(at, tag)| code[at + tag.len()..].chars().take_while(|c| is_word(*c)).collect());
    names.filter(|name: &String| !name.is_empty()).collect()
}

/// The longest chain of `super::` in the line.
fn supers(code: &str) -> usize {
    (1..).take_while(|n| code.contains(&"super::".repeat(*n))).count()
}

/// Edges of a map that do not lead upwards in its list.
pub fn disorder(layers: &[(&str, &[&str])]) -> Vec<String> {
    let mut found = Vec::new();
    for (at, (module, edges)) in layers.iter().enumerate() {
        for edge in edges.iter().filter(|edge| !layers[..at].iter().any(|(above, _)| above == *edge)) {
            found.push(format!("map: `{module}` names `{edge}`, which is not above it"));
        }
    }
    found
}
