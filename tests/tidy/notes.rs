//! What must be said: what a file is about, why `unsafe` is sound, with whom an ordering pairs; and what must
//! not be left lying about: code in comments.

use super::source::{Finding, Place, Source};
use super::text::{Line, has_word, is_word, word_positions};

/// Memory orderings that promise something to somebody.
const ORDERINGS: &[&str] = &["Acquire", "Release", "AcqRel", "SeqCst"];

/// What a comment says that names the other side of an ordering.
const PARTNER: &[&str] = &["pairs with", "partner", "total order", "as in", "as above", "as [`"];

/// How far above its use, within the same function, an ordering may be explained.
const ORDERING_NOTE_LINES: usize = 12;

/// What is missing in the file's comments, and what is too much.
pub fn check(source: &Source) -> Vec<Finding> {
    let mut found = Vec::new();
    let head = source.lines.first().map_or("", |line| line.raw.as_str());
    if !head.starts_with("//! ") {
        found.push((0, "the first line says what the file is about: `//! ...`".into()));
    }
    for (at, line) in source.lines.iter().enumerate() {
        if opens_unsafe(&line.code) && !source.note(at).contains("SAFETY:") {
            found.push((at, "`unsafe` without `// SAFETY:` above its statement".into()));
        }
        if declares_unsafe(&line.code) && !source.note(at).contains("# Safety") {
            found.push((at, "an unsafe function without `# Safety`: what must its caller see to?".into()));
        }
        let allows = line.code.trim().starts_with("#[allow") && !line.raw.contains("reason");
        if allows && source.note(at).trim().is_empty() {
            found.push((at, "`allow` without a reason".into()));
        }
        if is_dead_code(line) {
            found.push((at, "code in a comment: remove it".into()));
        }
    }
    if source.place == Place::Library {
        found.extend(lonely_orderings(source));
    }
    found
}

/// `unsafe {`, `unsafe impl`, or `unsafe` at the end of a line.
fn opens_unsafe(code: &str) -> bool {
    word_positions(code, "unsafe").any(|at| {
        let next = code[at + "unsafe".len()..].trim_start();
        next.is_empty() || next.starts_with('{') || next.starts_with("impl")
    })
}

/// `unsafe fn name`, also with `extern "C"` between; not the type `unsafe fn(..)`.
fn declares_unsafe(code: &str) -> bool {
    let Some(at) = word_positions(code, "unsafe").next() else { return false };
    let next = code[at + "unsafe".len()..].trim_start();
    let next = next.strip_prefix("extern \"\"").map_or(next, str::trim_start);
    next.starts_with("fn ")
}

/// Orderings of the product whose partner nobody names.
fn lonely_orderings(source: &Source) -> Vec<Finding> {
    let mut found = Vec::new();
    for (at, line) in source.product().filter(|(_, line)| !line.code.trim().starts_with("use ")) {
        let used = ORDERINGS.iter().find(|ordering| has_word(&line.code, ordering));
        let Some(ordering) = used else { continue };
        if !names_partner(&said_before(source, at)) {
            found.push((at, format!("`{ordering}`: say with what it pairs (`// {ordering}: pairs with ...`)")));
        }
    }
    found
}

/// The comments of the function around the line, its own documentation included, that stand close above.
fn said_before(source: &Source, at: usize) -> String {
    let first = source.function(at).map_or(0, |function| function.first);
    let nearby = at.saturating_sub(ORDERING_NOTE_LINES).max(first);
    let documentation = if nearby == first { source.note(first) } else { String::new() };
    let comments = source.lines[nearby..=at].iter().map(|line| line.comment.as_str());
    std::iter::once(documentation.as_str()).chain(comments).collect::<Vec<_>>().join(" ")
}

fn names_partner(said: &str) -> bool {
    let said = said.to_lowercase();
    PARTNER.iter().any(|partner| said.contains(partner))
}

/// A plain comment that reads like a statement, or like the beginning or end of a block.
fn is_dead_code(line: &Line) -> bool {
    let raw = line.raw.trim();
    if !raw.starts_with("//") || raw.starts_with("///") || raw.starts_with("//!") {
        return false;
    }
    let said = raw[2..].trim();
    let called = said.split('(').next().unwrap_or("");
    let is_call = said.ends_with(");") && called.chars().all(|c| is_word(c) || ['.', ':', '!'].contains(&c));
    let statement = said.ends_with(';') && (is_call || said.contains(" = ") || said.starts_with("use "));
    let opening = said.ends_with('{') && said.contains(['(', ')']);
    statement || opening || ["}", "};", "});", "})"].contains(&said)
}
