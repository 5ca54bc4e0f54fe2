//! The files of the house: found, read, and told apart by where they lie.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::text::{self, Function, Line};

/// What is found: the line, from 0, and what is wrong with it.
pub type Finding = (usize, String);

/// Where a file lies, and so which rules hold for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// `src/`
    Library,
    /// `tests/`
    Test,
    /// `benches/`
    Bench,
    /// `examples/`
    Example,
}

const FOLDERS: &[(&str, Place)] =
    &[("src", Place::Library), ("tests", Place::Test), ("benches", Place::Bench), ("examples", Place::Example)];

/// One file, taken apart.
pub struct Source {
    /// Where it lies.
    pub place: Place,
    /// Its path from the root of the project.
    pub name: String,
    /// Its path from `src/` as module names: `mm/heap/mod.rs` is `["mm", "heap"]`. Empty for `lib.rs`.
    pub modules: Vec<String>,
    /// Its lines.
    pub lines: Vec<Line>,
    /// Its functions.
    pub functions: Vec<Function>,
}

impl Source {
    /// Takes a file apart. `name` is its path from the root of the project.
    pub fn new(name: &str, content: &str) -> Source {
        let (folder, inside) = name.split_once('/').unwrap();
        let place = FOLDERS.iter().find(|(known, _)| *known == folder).unwrap().1;
        let lines = text::lines(content);
        let functions = text::functions(&lines);
        Source { place, name: name.into(), modules: module_path(inside), lines, functions }
    }

    /// The layer it belongs to; `lib` for the root.
    pub fn layer(&self) -> &str {
        self.modules.first().map_or("lib", String::as_str)
    }

    /// Lines of the product: those outside tests, with their numbers.
    pub fn product(&self) -> impl Iterator<Item = (usize, &Line)> {
        let library = self.place == Place::Library;
        self.lines.iter().enumerate().filter(move |(_, line)| library && !line.test)
    }

    /// What is said about the statement on this line: at its end, within it above this line, and in the
    /// comment directly over it.
    pub fn note(&self, at: usize) -> String {
        let mut said = vec![self.lines[at].comment.as_str()];
        let mut over_statement = false;
        for line in self.lines[..at].iter().rev() {
            let code = line.code.trim();
            let is_attribute = code.starts_with("#[") || code.starts_with("#![");
            let is_comment = code.is_empty() && !line.comment.is_empty();
            let apart = over_statement || line.raw.trim().is_empty() || ends_statement(code);
            if (!is_comment && !is_attribute && apart) || line.raw.starts_with("//!") {
                break;
            }
            over_statement |= is_comment;
            said.push(&line.comment);
        }
        said.reverse();
        said.join(" ")
    }

    /// The innermost function around a line.
    pub fn function(&self, at: usize) -> Option<&Function> {
        let around = self.functions.iter().filter(|f| (f.first..=f.last).contains(&at));
        around.min_by_key(|f| f.last - f.first)
    }
}

fn ends_statement(code: &str) -> bool {
    [';', '{', '}'].iter().any(|end| code.ends_with(*end))
}

fn module_path(inside: &str) -> Vec<String> {
    let stem = inside.trim_end_matches(".rs");
    let names = stem.split('/').filter(|name| !["mod", "lib", "main"].contains(name));
    names.map(String::from).collect()
}

/// Every Rust file of the project.
pub fn read_all(root: &Path) -> Vec<Source> {
    let mut sources = Vec::new();
    for (folder, _) in FOLDERS {
        for path in files(&root.join(folder)) {
            let name = path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
            sources.push(Source::new(&name, &fs::read_to_string(&path).unwrap()));
        }
    }
    mark_test_files(&mut sources);
    sources
}

/// A file whose `mod` line stands under `#[cfg(test)]` is test from its first line to its last, and so is
/// what lies in its folder.
fn mark_test_files(sources: &mut [Source]) {
    let tests: BTreeSet<Vec<String>> = sources
        .iter()
        .filter(|source| source.place == Place::Library)
        .flat_map(|source| {
            let names = text::test_modules(&source.lines).into_iter();
            names.map(|name| source.modules.iter().cloned().chain([name]).collect())
        })
        .collect();
    for source in sources.iter_mut().filter(|source| source.place == Place::Library) {
        let is_test = (1..=source.modules.len()).any(|depth| tests.contains(&source.modules[..depth]));
        source.lines.iter_mut().for_each(|line| line.test |= is_test);
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}
