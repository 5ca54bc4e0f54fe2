//! Source text taken apart: for every line its code with the strings emptied, and its comment.
//!
//! This is no parser. It knows what a rule about text must not trip over: comments, strings, characters,
//! raw strings, and which lines belong to tests or to which function.

/// One line of a file, taken apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Line {
    /// The line as it stands.
    pub raw: String,
    /// Its code: comments removed, every string reduced to its quotes.
    pub code: String,
    /// What its comment says, without the slashes. Doc comments count as comments.
    pub comment: String,
    /// Whether the line is part of a `#[cfg(test)]` item.
    pub test: bool,
}

/// A function with a body: its name, and the lines (from 0) of its head and of its closing brace.
#[derive(Debug, PartialEq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// The line of its `fn`.
    pub first: usize,
    /// The line of its last brace.
    pub last: usize,
}

/// Where the reader stands between two characters.
enum State {
    Code,
    LineComment,
    BlockComment(u32),
    Text,
    RawText(usize),
}

/// Takes a whole file apart.
pub fn lines(source: &str) -> Vec<Line> {
    let mut reader = Reader { state: State::Code, out: vec![Line::default()] };
    let characters: Vec<char> = source.chars().collect();
    let mut at = 0;
    while at < characters.len() {
        at += reader.step(&characters[at..]);
    }
    let mut out = reader.out;
    for (line, raw) in out.iter_mut().zip(source.lines()) {
        line.raw = raw.into();
    }
    out.truncate(source.lines().count());
    mark_tests(&mut out);
    out
}

struct Reader {
    state: State,
    out: Vec<Line>,
}

impl Reader {
    fn code(&mut self, text: &str) {
        self.line().code.push_str(text);
    }

    fn line(&mut self) -> &mut Line {
        self.out.last_mut().unwrap()
    }

    /// Reads what begins here and says how many characters that was.
    fn step(&mut self, rest: &[char]) -> usize {
        if rest[0] == '\n' {
            if matches!(self.state, State::LineComment) {
                self.state = State::Code;
            }
            self.out.push(Line::default());
            return 1;
        }
        match self.state {
            State::Code => self.step_in_code(rest),
            State::LineComment => {
                self.line().comment.push(rest[0]);
                1
            }
            State::BlockComment(depth) => self.step_in_block_comment(rest, depth),
            State::Text => match rest[0] {
                '\\' if rest.get(1) != Some(&'\n') => 2,
                '"' => self.close_text(1),
                _ => 1,
            },
            State::RawText(hashes) => match rest[0] {
                '"' if hash_count(&rest[1..]) >= hashes => self.close_text(1 + hashes),
                _ => 1,
            },
        }
    }

    fn step_in_code(&mut self, rest: &[char]) -> usize {
        match rest {
            ['/', '/', ..] => {
                self.state = State::LineComment;
                let markers = rest.iter().take(3).skip(2).filter(|c| ['/', '!'].contains(c));
                2 + markers.count()
            }
            ['/', '*', ..] => {
                self.state = State::BlockComment(1);
                2
            }
            ['"', ..] => {
                self.code("\"");
                self.state = State::Text;
                1
            }
            ['r', after @ ..] if !self.in_word() && is_raw(after) => self.open_raw(1, after),
            ['b' | 'c', 'r', after @ ..] if !self.in_word() && is_raw(after) => self.open_raw(2, after),
            ['\'', ..] => self.character_or_lifetime(rest),
            _ => {
                self.code(&rest[0].to_string());
                1
            }
        }
    }

    fn step_in_block_comment(&mut self, rest: &[char], depth: u32) -> usize {
        match rest {
            ['/', '*', ..] => self.state = State::BlockComment(depth + 1),
            ['*', '/', ..] if depth == 1 => self.state = State::Code,
            ['*', '/', ..] => self.state = State::BlockComment(depth - 1),
            _ => {
                self.line().comment.push(rest[0]);
                return 1;
            }
        }
        2
    }

    /// Whether the next character would continue a word: the `r` of `for` opens no raw string.
    fn in_word(&mut self) -> bool {
        self.line().code.chars().last().is_some_and(is_word)
    }

    fn open_raw(&mut self, prefix: usize, after: &[char]) -> usize {
        let hashes = hash_count(after);
        self.code("\"");
        self.state = State::RawText(hashes);
        prefix + hashes + 1
    }

    fn close_text(&mut self, length: usize) -> usize {
        self.code("\"");
        self.state = State::Code;
        length
    }

    /// `'x'` and `'\n'` are emptied like strings, `'a` is kept.
    fn character_or_lifetime(&mut self, rest: &[char]) -> usize {
        let length = match rest {
            ['\'', '\\', ..] => rest.iter().skip(3).position(|c| *c == '\'').map(|end| end + 4),
            ['\'', _, '\'', ..] => Some(3),
            _ => None,
        };
        self.code(if length.is_some() { "''" } else { "'" });
        length.unwrap_or(1)
    }
}

fn hash_count(text: &[char]) -> usize {
    text.iter().take_while(|c| **c == '#').count()
}

fn is_raw(after: &[char]) -> bool {
    after.get(hash_count(after)) == Some(&'"')
}

/// Whether a character can be part of a name.
pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Marks the items that exist only under test, from their attribute to their last brace.
fn mark_tests(lines: &mut [Line]) {
    let mut at = 0;
    while at < lines.len() {
        if is_test_attribute(&lines[at].code) {
            let last = end_of_item(lines, at);
            lines[at..=last].iter_mut().for_each(|line| line.test = true);
            at = last;
        }
        at += 1;
    }
}

fn is_test_attribute(code: &str) -> bool {
    let code = code.trim();
    code.starts_with("#[cfg(test)") || code.starts_with("#[cfg(all(test")
}

/// The line on which the item that begins at `first`, with its attributes, ends: its last brace, or its semicolon.
fn end_of_item(lines: &[Line], first: usize) -> usize {
    let mut depth = 0;
    let mut braces = 0;
    for (at, line) in lines.iter().enumerate().skip(first) {
        for c in line.code.chars() {
            match c {
                '(' | '[' => depth += 1,
                ')' | ']' => depth -= 1,
                '{' => braces += 1,
                '}' => braces -= 1,
                ';' if depth == 0 && braces == 0 => return at,
                _ => {}
            }
            if c == '}' && braces == 0 {
                return at;
            }
        }
    }
    lines.len().saturating_sub(1)
}

/// Names of the modules that are declared under `#[cfg(test)]` and live in files of their own.
pub fn test_modules(lines: &[Line]) -> Vec<String> {
    let declared = lines.iter().filter(|line| line.test).filter_map(|line| {
        let name = line.code.trim().strip_suffix(';')?;
        Some(name.rsplit_once("mod ")?.1.to_string())
    });
    declared.collect()
}

/// Every function that has a body.
pub fn functions(lines: &[Line]) -> Vec<Function> {
    let mut found = Vec::new();
    for (first, line) in lines.iter().enumerate() {
        let Some(name) = function_name(&line.code) else { continue };
        let last = end_of_item(lines, first);
        let has_body = lines[first..=last].iter().any(|line| line.code.contains('{'));
        if has_body {
            found.push(Function { name, first, last });
        }
    }
    found
}

/// The name behind the line's `fn`; a pointer type `fn(..)` has none.
fn function_name(code: &str) -> Option<String> {
    let (at, _) = code.match_indices("fn ").find(|(at, _)| !code[..*at].ends_with(is_word))?;
    let name: String = code[at + 3..].trim_start().chars().take_while(|c| is_word(*c)).collect();
    (!name.is_empty()).then_some(name)
}

/// Whether `word` stands in the code as a whole word.
pub fn has_word(code: &str, word: &str) -> bool {
    word_positions(code, word).next().is_some()
}

/// Where `word` stands in the code as a whole word.
pub fn word_positions<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let whole = move |at: usize| !code[..at].ends_with(is_word) && !code[at + word.len()..].starts_with(is_word);
    code.match_indices(word).map(|(at, _)| at).filter(move |at| whole(*at))
}
