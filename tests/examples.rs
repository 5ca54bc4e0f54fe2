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

#[test]
fn dragon_pool_says_where_its_workers_are() {
    let told = text(&run("dragon_pool", &["--workers", "3"]));
    assert!(told.starts_with("1 nodes, ") && told.lines().count() == 4, "{told}");
    let told = text(&run("dragon_pool", &["--bound", "--per-policy", "2"]));
    let tasks: usize = told.lines().skip(1).map(|l| l.split(' ').rev().nth(1).unwrap().parse::<usize>().unwrap()).sum();
    let workers = 2 * std::thread::available_parallelism().unwrap().get();
    assert!(told.contains(" GPUs\n") && tasks >= 16 * workers.min(2), "{told}");
}

#[test]
fn p2p_lat_prints_dragons_table_and_json() {
    for way in ["--queues", "--bytes"] {
        let told = text(&run("p2p_lat", &[way, "--sizes", "8,3000", "--iterations", "20"]));
        let lines: Vec<_> = told.lines().collect();
        assert!(lines[0].starts_with("one way (round trip / 2)") && lines[1].starts_with("Msglen [B]"), "{told}");
        assert!(lines[2].starts_with("8 ") && lines[3].starts_with("3000 ") && lines.len() == 4, "{told}");
    }
    let told = text(&run("p2p_lat", &["--json", "--sizes", "64", "--iterations", "20"]));
    assert!(told.starts_with("{\"what\":\"queues\",\"bytes\":64,\"one_way_us\":"), "{told}");
}

#[test]
fn p2p_bw_sends_everything_by_either_way() {
    for way in [&[][..], &["--loans"]] {
        let arguments = [&["--sizes", "8,100000", "--total", "1000000"], way].concat();
        let told = text(&run("p2p_bw", &arguments));
        assert!(told.lines().nth(2).is_some_and(|line| line.starts_with("8 ")), "{told}");
        assert_eq!(told.lines().count(), 4, "{told}");
    }
}

#[test]
fn queue_demo_answers_every_question() {
    let told = text(&run("queue_demo", &["--workers", "3", "--questions", "20"]));
    assert!(told.contains("19 squared is 361, says process "), "{told}");
    let answered: u64 =
        told.lines().filter_map(|l| l.split_once(" answered ")?.1.split(' ').next()?.parse::<u64>().ok()).sum();
    assert_eq!((answered, told.lines().count()), (20, 23), "{told}");
}

#[test]
fn a_token_goes_round_the_ring() {
    let told = text(&run("ring", &["--processes", "3", "--rounds", "50"]));
    assert!(told.starts_with("150 hops through 3 processes, "), "{told}");
}

#[test]
fn dictionary_finds_the_places_of_words() {
    let told = text(&run("dictionary", &["--least", "2", "red fish blue fish", "old fish new fish", "a blue whale"]));
    assert!(told.starts_with("11 words, 7 of them different\n"), "{told}");
    assert!(told.contains("    fish  1:1 1:3 2:1 2:3\n    blue  1:2 3:1\n"), "{told}");
    assert!(told.ends_with("the longest is `whale`\n"), "{told}");
}

#[test]
fn gups_ddict_prints_dragons_table() {
    let told = text(&run("gups_ddict", &["--sizes", "8,70000", "--keys", "50", "--iterations", "2"]));
    let lines: Vec<_> = told.lines().collect();
    assert!(lines[1].starts_with("operation    size [B]   iterations  keys/client"), "{told}");
    assert!(lines[2].starts_with("put          8          2           50 "), "{told}");
    assert!(lines[9].starts_with("frozen get   70000 ") && lines.len() == 10, "{told}");
}

#[test]
fn checkpoint_rolls_back_until_the_step_is_short_enough() {
    let folder = tempfile::tempdir().unwrap();
    let told = text(&run("checkpoint", &["--steps", "10", "--folder", folder.path().to_str().unwrap()]));
    assert!(told.starts_with("10 checkpoints, ") && !told.contains(" 0 times"), "{told}");
    assert!(told.contains("stored: [4, 8] in "), "{told}");
}

#[test]
fn top_shows_a_running_job_from_outside() {
    let _dragon = dragon::init().unwrap();
    let queue = dragon::Queue::<u64>::builder().capacity(8).name("shown by top").build().unwrap();
    queue.put_many([1, 2, 3]).unwrap();
    let told = text(&run("top", &["--once", &std::process::id().to_string()]));
    assert!(told.starts_with("job=") && told.contains(" processes=1 "), "{told}");
    assert!(told.contains("kind=Queue name=\"shown by top\" len=3 capacity=8 open_in=1 "), "{told}");
    assert!(text(&run("top", &["--once"])).contains("shown by top"), "it finds jobs by itself");
}

#[test]
fn histogram_counts_every_value_once() {
    let told = text(&run("histogram", &["--workers", "3", "--values", "54321"]));
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines.len(), 18, "{told}");
    let counts = lines[..17].iter().map(|line| line.split_whitespace().next().unwrap().parse::<u64>().unwrap());
    assert_eq!(counts.sum::<u64>(), 54_321);
    assert!(lines[17].trim() == "54321 values by 3 processes", "{told}");
}

#[test]
fn pascals_triangle_is_filled_by_several_processes() {
    let told = text(&run("pascal_triangle", &["--workers", "3", "--rows", "7"]));
    assert!(told.lines().nth(6).unwrap().trim() == "1 6 15 20 15 6 1", "{told}");
    assert!(told.ends_with("the sum of all numbers is 127, which is 2^7 - 1: true\n"), "{told}");
}

#[test]
fn a_queue_survives_a_short_soak() {
    for capacity in ["64", "0"] {
        let told = text(&run("queue_soak", &["--kills", "30", "--capacity", capacity]));
        assert!(told.starts_with("30 killed, ") && told.contains(" 0 doubled, "), "{told}");
        assert!(told.ends_with("; 0 bytes more in use than before\n"), "{told}");
    }
}
