//! That the checker can fail: for each rule a text that breaks it, and the same text put right.

use super::source::Source;
use super::{check, layers, text, words};

/// A rule, broken and kept, in the same file.
struct Case {
    file: &'static str,
    bad: &'static str,
    says: &'static str,
    good: &'static str,
}

const fn case(file: &'static str, bad: &'static str, says: &'static str, good: &'static str) -> Case {
    Case { file, bad, says, good }
}

const CASES: &[Case] = &[
    // The map.
    case("src/ring/a.rs", "use crate::mm::Block;", "`ring` may not name `mm`", "use crate::id::ProcId;"),
    case("src/ring/a.rs", "let x = crate::pool::now();", "may not name `pool`", "let x = crate::time::now();"),
    case("src/mm/a.rs", "use crate::{id, sys};", "no groups", "use crate::sys::shm;"),
    case("src/mm/a.rs", "use crate::Block;", "`crate::Block` is no layer", "use crate::mm::Block;"),
    case("src/mm/a.rs", "use super::super::wait::WaitCell;", "climbs out", "use super::heap::Heap;"),
    case("src/attic.rs", "", "not on the map", ""),
    // Words in their places.
    case("src/mm/a.rs", "libc::mmap();", "belongs in [\"sys\"]", "// libc::mmap is called in sys"),
    case("src/mm/a.rs", "use rustix::mm;", "belongs in [\"sys\"]", "use crate::sys::shm;"),
    case("src/wait.rs", "use std::sync::atomic::AtomicU32;", "from `prim`", "use crate::prim::AtomicU32;"),
    case("src/wait.rs", "use std::sync::{Arc, atomic::AtomicU32};", "from `prim`", "use std::sync::{Arc, Mutex};"),
    case("src/mm/a.rs", "Instant::now();", "belongs in [\"time\"]", "crate::time::now();"),
    case("src/pool/a.rs", "// SAFETY: none.\nunsafe { f() };", "belongs in", "f(\"unsafe\");"),
    case("src/pool/a.rs", "std::process::exit(1);", "the process is the user's", "return Err(1);"),
    case("src/mm/a.rs", "println!(\"x\");", "the output is the user's", "tracing::warn!(\"println!\");"),
    case("src/mm/a.rs", "std::thread::sleep(d);", "wait for what you wait for", "wait_until(d);"),
    case("src/mm/a.rs", "fence(o);", "SeqCst", "defence(o);"),
    case("src/mm/a.rs", "static mut X: u8 = 0;", "OnceLock", "let x: &'static mut u8;"),
    case("src/mm/a.rs", "todo!()", "write it", "let s = \"todo!()\";"),
    case("tests/a.rs", "dbg!(1);", "an assertion", "assert!(true);"),
    case("src/mm/a.rs", "x.unwrap();", "may panic", "x.unwrap(); // Cannot fail: checked above."),
    case("src/mm/a.rs", "x.expect(\"y\");", "may panic", "// Cannot fail: checked above.\nx.expect(\"y\");"),
    case("src/mm/a.rs", "x.expect(\"a block\");", "may panic", "x.expect(\"held by this process\");"),
    case("src/mm/a.rs", "let a = x\n    .unwrap();", "may panic", "// Checked above.\nlet a = x\n    .unwrap();"),
    case(
        "src/mm/a.rs",
        "// Of something else.\nlet y = 1;\nx.unwrap();",
        "may panic",
        "#[cfg(test)]\nmod tests {\n    fn f() { x.unwrap(); }\n}",
    ),
    case("src/mm/a.rs", "panic!(\"no\");", "may panic", "std::panic::catch_unwind(f);"),
    case("tests/a.rs", "thread::sleep(d);", "say what time", "// The time limit itself.\nthread::sleep(d);"),
    case(
        "tests/a.rs",
        "fn f() {\n    thread::sleep(d);\n}",
        "say what",
        "/// Work.\nfn f() {\n    thread::sleep(d);\n}",
    ),
    // Notes.
    case("src/mm/a.rs", "unsafe { f() };", "// SAFETY:", "// SAFETY: f asks for nothing.\nunsafe { f() };"),
    case("src/mm/a.rs", "unsafe impl Send for X {}", "// SAFETY:", "// SAFETY: plain.\nunsafe impl Send for X {}"),
    case(
        "src/mm/a.rs",
        "// SAFETY: of f.\nunsafe { f() };\nunsafe { g() };",
        "// SAFETY:",
        "// SAFETY: of both.\nlet x = h(\n    unsafe { f() },\n);",
    ),
    case("src/mm/a.rs", "unsafe fn f() {}", "# Safety", "/// # Safety\n/// Call it once.\nunsafe fn f() {}"),
    case("src/mm/a.rs", "unsafe extern \"C\" fn f() {}", "# Safety", "type F = unsafe extern \"C\" fn();"),
    case("src/mm/a.rs", "#[allow(dead_code)]", "without a reason", "#[allow(dead_code)] // Used by tests."),
    case("src/mm/a.rs", "x.load(Acquire);", "say with what it pairs", "x.load(Relaxed);"),
    case(
        "src/mm/a.rs",
        "// Acquire: for the bytes.\nx.load(Ordering::Acquire);",
        "say with what it pairs",
        "// Acquire: pairs with the release in `g`.\nx.load(Ordering::Acquire);",
    ),
    case(
        "src/mm/a.rs",
        "// Release: pairs with `g`.\nfn f() {}\nfn h() {\n    x.load(Ordering::Release);\n}",
        "say with what it pairs",
        "/// Release: partner of `g`.\nfn h() {\n    x.load(Ordering::Release);\n}",
    ),
    case("src/mm/a.rs", "// let x = 1;", "code in a comment", "// Not now; but soon: see (above);"),
    case("src/mm/a.rs", "// if f(x) {", "code in a comment", "/// if f(x) {"),
];

fn findings(file: &str, body: &str) -> Vec<String> {
    check(&Source::new(file, &format!("//! A file.\n{body}\n")))
}

#[test]
fn every_rule_finds_what_it_forbids() {
    for case in CASES {
        let found = findings(case.file, case.bad);
        assert!(found.iter().any(|what| what.contains(case.says)), "{:?} passed: {found:?}", case.bad);
    }
}

#[test]
fn what_is_put_right_passes() {
    for case in CASES.iter().filter(|case| !case.good.is_empty()) {
        assert_eq!(findings(case.file, case.good), Vec::<String>::new(), "{:?}", case.good);
    }
}

#[test]
fn findings_name_file_and_line() {
    assert!(findings("src/mm/a.rs", "\ndbg!(1);")[0].starts_with("src/mm/a.rs:3: "));
}

#[test]
fn a_file_says_what_it_is_about() {
    let headless = check(&Source::new("src/mm/a.rs", "use std::fs;\n"));
    assert!(headless[0].contains("says what the file is about"), "{headless:?}");
}

#[test]
fn long_things_are_found() {
    let long_function = format!("fn f() {{\n{}}}", "    g();\n".repeat(69));
    assert!(findings("src/mm/a.rs", &long_function)[0].contains("`f` has 71 lines"));
    assert!(findings("src/mm/a.rs", &long_function.replacen("    g();\n", "", 1)).is_empty());
    assert!(findings("src/mm/a.rs", &"\n".repeat(799))[0].contains("at most 800"));
    assert!(findings("examples/a.rs", &"f();\n".repeat(61))[0].contains("61 lines of code"));
    assert!(findings("examples/a.rs", &"f();\n// Why.\n".repeat(60)).is_empty());
}

#[test]
fn a_map_that_leads_down_or_round_is_found() {
    assert_eq!(layers::disorder(&[("low", &[]), ("high", &["low"])]).len(), 0);
    assert_eq!(layers::disorder(&[("low", &["high"]), ("high", &["low"])]).len(), 1);
    assert_eq!(layers::disorder(&[("alone", &["alone"])]).len(), 1);
}

#[test]
fn marks_have_one_place_and_a_known_area() {
    let mark = |name: &str| Source::new("src/mm/a.rs", &format!("//! A file.\nmark!(\"{name}\");\n"));
    assert_eq!(words::marks(&[mark("heap.a"), mark("heap.b")]).len(), 0);
    assert_eq!(words::marks(&[mark("heap.a"), mark("heap.a")]).len(), 1);
    assert_eq!(words::marks(&[mark("attic.a")]).len(), 1);
}

#[test]
fn strings_comments_and_characters_are_told_from_code() {
    let code = |source: &str| text::lines(source).into_iter().map(|line| line.code).collect::<Vec<_>>();
    assert_eq!(code(r#"f("a // b", 'x', '\'', "\"");"#), [r#"f("", '', '', "");"#]);
    assert_eq!(code("r#\"a \" b\"#; for_r\"x\""), ["\"\"; for_r\"\""]);
    assert_eq!(code("a /* b /* c */ d */ e"), ["a  e"]);
    assert_eq!(code("\"one\ntwo // three\" x"), ["\"", "\" x"]);
    assert_eq!(code("fn f<'a>(x: &'a str) {} // '"), ["fn f<'a>(x: &'a str) {} "]);
    assert_eq!(text::lines("x; /// y")[0].comment, " y");
}

#[test]
fn tests_are_told_from_the_product() {
    let source = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n#[cfg(test)]\nmod far;\nfn d() {}";
    let lines = text::lines(source);
    let test: Vec<bool> = lines.iter().map(|line| line.test).collect();
    assert_eq!(test, [false, true, true, true, true, false, true, true, false]);
    assert_eq!(text::test_modules(&lines), ["far"]);
}

#[test]
fn functions_are_found_with_their_ends() {
    let source = "fn a(x: [u8; 4]) -> fn(u8) {\n    if x { y }\n}\nfn declared(x: [u8; 4]);\npub unsafe fn b() {}\n";
    let found = text::functions(&text::lines(source));
    let spans: Vec<_> = found.iter().map(|f| (f.name.as_str(), f.first, f.last)).collect();
    assert_eq!(spans, [("a", 0, 2), ("b", 4, 4)]);
}
