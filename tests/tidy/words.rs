//! Words that may stand only in some modules, or nowhere; each with what to write instead.

use std::collections::BTreeMap;

use super::source::{Finding, Place, Source};
use super::text::is_word;

/// Text, and the only layers of the library in which it may stand outside tests.
const CONFINED: &[(&str, &[&str], &str)] = &[
    ("libc::", &["sys"], "make it a function of `sys`"),
    ("rustix::", &["sys"], "make it a function of `sys`"),
    ("atomic::", &["prim"], "take atomics from `prim`, so that the model checker sees them"),
    ("Instant::now", &["time"], "take the time as an argument, or `time::now()` in a shell"),
    ("SystemTime::now", &["time"], "take the time as an argument"),
    ("unsafe", UNSAFE, "give it a safe face on a floor below"),
    ("transmute", &["task"], "cast the pointer"),
    ("process::exit", &["task", "sys"], "return an error: the process is the user's"),
    ("process::abort", &["task", "sys"], "return an error: the process is the user's"),
    ("set_var", &["task", "sys"], "another thread may read the environment: pass the value"),
    ("remove_var", &["task", "sys"], "another thread may read the environment: pass the value"),
];

/// Where `unsafe` may stand.
const UNSAFE: &[&str] = &["prim", "sys", "ring", "wait", "mm", "counters", "channel", "transport", "task"];

/// Text that may stand nowhere in the library outside its tests.
const BANNED: &[(&str, &str)] = &[
    ("println!", "the output is the user's: return it, or `tracing`"),
    ("print!", "the output is the user's: return it, or `tracing`"),
    ("eprintln!", "the output is the user's: return an error, or `tracing`"),
    ("eprint!", "the output is the user's: return an error, or `tracing`"),
    ("thread::sleep", "wait for what you wait for: `wait::wait_until` with a deadline"),
    ("fence(", "a SeqCst or AcqRel operation: the thread sanitizer does not model fences"),
    ("static mut", "an atomic of `prim`, or a `OnceLock`"),
];

/// Text that may stand nowhere at all.
const NOWHERE: &[(&str, &str)] = &[
    ("todo!", "write it"),
    ("unimplemented!", "write it, or return an error that names what is missing"),
    ("dbg!", "an assertion, or nothing"),
];

/// Text that needs a comment which says why it never panics.
const EXCUSED: &[&str] = &[".unwrap()", ".expect(", "panic!", "unreachable!", ".unwrap_err()"];

/// Text whose message may say so instead, in at least three words.
const SELF_EXCUSED: &[&str] = &[".expect(\"", "unreachable!(\""];

/// What every `mark!` name begins with.
const MARK_AREAS: &[&str] = &["heap.", "ring.", "channel.", "object.", "process.", "pool.", "latch.", "table.", "far."];

/// Words of the file that stand where they may not.
pub fn check(source: &Source) -> Vec<Finding> {
    let mut found = Vec::new();
    for (at, line) in source.lines.iter().enumerate() {
        let wrong = NOWHERE.iter().filter(|(word, _)| has(&line.code, word));
        found.extend(wrong.map(|(word, instead)| (at, format!("`{word}`: {instead}"))));
    }
    found.extend(confined(source));
    found.extend(banned(source));
    found.extend(unexcused(source));
    if source.place == Place::Test {
        found.extend(unexplained_sleeps(source));
    }
    found
}

fn confined(source: &Source) -> Vec<Finding> {
    let mut found = Vec::new();
    for (at, line) in source.product() {
        for (word, homes, instead) in CONFINED {
            if has(&line.code, word) && !homes.contains(&source.layer()) {
                found.push((at, format!("`{word}` belongs in {homes:?}: {instead}")));
            }
        }
    }
    found
}

fn banned(source: &Source) -> Vec<Finding> {
    let mut found = Vec::new();
    for (at, line) in source.product() {
        let wrong = BANNED.iter().filter(|(word, _)| has(&line.code, word));
        found.extend(wrong.map(|(word, instead)| (at, format!("`{word}`: {instead}"))));
    }
    found
}

fn unexcused(source: &Source) -> Vec<Finding> {
    let wrong = source.product().filter(|(at, line)| {
        let may_panic = EXCUSED.iter().any(|word| has(&line.code, word));
        may_panic && source.note(*at).trim().is_empty() && !excuses_itself(&line.raw)
    });
    wrong.map(|(at, _)| (at, "may panic: return an error, or say in a comment why it cannot".into())).collect()
}

fn excuses_itself(raw: &str) -> bool {
    SELF_EXCUSED.iter().any(|opening| {
        let message = raw.split_once(opening).map_or("", |(_, rest)| rest.split('"').next().unwrap_or(""));
        message.split_whitespace().count() >= 3
    })
}

/// A test that sleeps to let another process get somewhere fails on a slow machine. A test that lets time
/// itself pass says so.
fn unexplained_sleeps(source: &Source) -> Vec<Finding> {
    let sleeps = source.lines.iter().enumerate().filter(|(_, line)| has(&line.code, "thread::sleep"));
    let function_says = |at| source.function(at).is_some_and(|f| !source.note(f.first).trim().is_empty());
    let wrong = sleeps.filter(|(at, _)| source.note(*at).trim().is_empty() && !function_says(*at));
    wrong.map(|(at, _)| (at, "a sleep: wait for the event, or say what time is waited for".into())).collect()
}

/// Names of `mark!` that stand twice or belong to no area: `tests/crash.rs` finds places by name.
pub fn marks(sources: &[Source]) -> Vec<String> {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    let mut found = Vec::new();
    for source in sources.iter().filter(|source| source.place == Place::Library) {
        for (at, line) in source.lines.iter().enumerate().filter(|(_, line)| has(&line.code, "mark!")) {
            let here = format!("{}:{}", source.name, at + 1);
            let Some(name) = line.raw.split('"').nth(1) else { continue };
            if !MARK_AREAS.iter().any(|area| name.starts_with(area)) {
                found.push(format!("{here}: mark `{name}` begins with none of {MARK_AREAS:?}"));
            }
            if let Some(first) = seen.insert(name.into(), here.clone()) {
                found.push(format!("{here}: mark `{name}` is at {first} already"));
            }
        }
    }
    found
}

/// Whether the text stands in the code, not as part of a longer word.
fn has(code: &str, text: &str) -> bool {
    // A lifetime's name is not a word of its own: `&'static mut`.
    let in_word = |before: &str| before.ends_with(|c| is_word(c) || c == '\'');
    let (begins_word, ends_word) = (text.starts_with(is_word), text.ends_with(is_word));
    code.match_indices(text).any(|(at, _)| {
        let goes_on = code[at + text.len()..].starts_with(is_word);
        !(begins_word && in_word(&code[..at]) || ends_word && goes_on)
    })
}
