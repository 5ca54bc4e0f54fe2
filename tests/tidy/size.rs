//! How long things may be: what does not fit in a head does not belong in one place.

use super::source::{Finding, Place, Source};

const FILE_LINES: usize = 800;
const EXAMPLE_LINES: usize = 60;
const FUNCTION_LINES: usize = 70;

/// What is too long.
pub fn check(source: &Source) -> Vec<Finding> {
    let most = if source.place == Place::Example { EXAMPLE_LINES } else { FILE_LINES };
    let length = source.lines.len();
    let mut found = Vec::new();
    if length > most {
        found.push((most, format!("{length} lines, at most {most}: which two ideas are in here?")));
    }
    for function in &source.functions {
        let length = function.last - function.first + 1;
        if length > FUNCTION_LINES {
            found.push((function.first, format!("`{}` has {length} lines, at most {FUNCTION_LINES}", function.name)));
        }
    }
    found
}
