//! What a new user does: an empty folder, `cargo new`, the crate by path, the README's program, `cargo run`
//! and `cargo test`.

use std::path::Path;
use std::process::Command;

/// The README's Rust program.
fn program() -> String {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let from = readme.find("```rust\n").expect("the README shows a program") + "```rust\n".len();
    readme[from..].split("```").next().unwrap().to_string()
}

/// What was built for this crate serves the new one too: `target/`, of which `target/tmp` is a part.
fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap()
}

const TESTS: &str = r#"
#[cfg(test)]
mod tests {
    fn triple(x: u64) -> u64 { x * 3 }

    #[test]
    fn one() {
        let _dragon = dragon::init().unwrap();
        let pool = dragon::Pool::new(2).unwrap();
        assert_eq!(pool.map(triple, [1, 2]).unwrap(), [3, 6]);
    }

    #[test]
    fn another_at_the_same_time() {
        let _dragon = dragon::init().unwrap();
        let pool = dragon::Pool::new(2).unwrap();
        assert_eq!(pool.submit(|x: u8| x + 1, 1).unwrap().get().unwrap(), 2);
    }
}
"#;

#[test]
fn the_readmes_program_runs_and_its_tests_pass() {
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("hello");
    let cargo = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO"));
        // Nothing has to be fetched again.
        command
            .current_dir(&project)
            .env("CARGO_TARGET_DIR", target())
            .env("CARGO_NET_OFFLINE", "true")
            .args(arguments);
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "cargo {arguments:?}: {text}");
        text
    };
    let made = Command::new(env!("CARGO")).current_dir(folder.path()).args(["new", "--vcs", "none", "hello"]).status();
    assert!(made.unwrap().success());
    cargo(&["add", "--path", env!("CARGO_MANIFEST_DIR")]);
    std::fs::write(project.join("src/main.rs"), program() + TESTS).unwrap();
    let told = cargo(&["run"]);
    assert!(told.contains("[0, 1, 4, 9, 16, 25, 36, 49, 64, 81]") && told.contains("hello you, from "), "{told}");
    assert!(!told.contains("warning"), "a new user sees no warning: {told}");
    let tested = cargo(&["test"]);
    assert!(tested.contains("2 passed"), "{tested}");
    // Capturing is refused with a text that says what to do.
    let captures = program()
        .replace("|x: u64| x * x", "|x: u64| x * captured")
        .replace("    let pool", "    let captured = 3;\n    let pool");
    std::fs::write(project.join("src/main.rs"), captures.replace("|x: u64|", "move |x: u64|")).unwrap();
    let refused = Command::new(env!("CARGO"))
        .current_dir(&project)
        .env("CARGO_TARGET_DIR", target())
        .env("CARGO_NET_OFFLINE", "true")
        .arg("build")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && told.contains("map_with"), "{told}");
}
