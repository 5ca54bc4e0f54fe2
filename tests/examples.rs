//! Examples are tests: each runs as a user would run it, and says what it should.

use std::path::PathBuf;
use std::process::{Command, Output};

fn run(example: &str, arguments: &[&str]) -> Output {
    // A whole `cargo test` has built it already; one of this file alone has not.
    let release = if cfg!(debug_assertions) { &[][..] } else { &["--release"] };
    let built = Command::new(env!("CARGO")).args(["build", "--quiet", "--example", example]).args(release).status();
    assert!(built.unwrap().success());
    let mut folder: PathBuf = std::env::current_exe().unwrap();
    folder.pop();
    folder.set_file_name("examples");
    let output = Command::new(folder.join(example)).args(arguments).output().unwrap();
    assert!(output.status.success(), "{example}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn wordcount_counts_the_words_of_given_files() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    std::fs::write(&a, "One fish, two fish.").unwrap();
    std::fs::write(&b, "red fish; blue FISH").unwrap();
    let missing = folder.path().join("missing");
    let output =
        run("wordcount", &["--workers", "2", a.to_str().unwrap(), b.to_str().unwrap(), missing.to_str().unwrap()]);
    let told = text(&output);
    assert!(told.starts_with("8 words, 5 different, in 3 files, "), "{told}");
    assert!(told.contains("\n       4  fish\n"), "{told}");
    let counted: usize =
        told.lines().filter_map(|l| l.split_once(" counted ")?.1.split(' ').next()?.parse::<usize>().ok()).sum();
    assert_eq!(counted, 2, "{told}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("skipped"), "a file that cannot be read is named");
}

#[test]
fn wordcount_counts_its_own_project_by_default() {
    let told = text(&run("wordcount", &[]));
    assert!(told.contains(" the\n") && told.contains("worker process"), "{told}");
}
