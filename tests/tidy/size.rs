//! How long things may be: what does not fit in a head does not belong in one place.

use super::source::{Finding, Place, Source};

const FILE_LINES: usize = 800;
const EXAMPLE_CODE_LINES: usize = 60;
const FUNCTION_LINES: usize = 70;

/// What is too long.
pub fn check(source: &Source) -> Vec<Finding> {
    let mut found = Vec::new();
    let length = source.lines.len();
    if length > FILE_LINES {
        found.push((FILE_LINES, format!("{length} lines, at most {FILE_LINES}: which two ideas are in here?")));
    }
    let code = source.lines.iter().filter(|line| !line.code.trim().is_empty()).count();
    if source.place == Place::Example && code > EXAMPLE_CODE_LINES {
        found.push((0, format!("{code} lines of code, at most {EXAMPLE_CODE_LINES}: an example shows one thing")));
    }
    for function in &source.functions {
        let length = function.last - function.first + 1;
        if length > FUNCTION_LINES {
            found.push((function.first, format!("`{}` has {length} lines, at most {FUNCTION_LINES}", function.name)));
        }
    }
    found
}
