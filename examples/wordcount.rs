//! Counts the words of files with a pool of processes: `cargo run --release --example wordcount -- FILE...`
//!
//! Without files it counts this project's own sources and documents.
use std::{collections::BTreeMap, fs, path::PathBuf, thread, time::Instant};

use clap::Parser;
use dragon::Pool;
use indicatif::ProgressBar;

/// Counts the words of files with a pool of processes.
#[derive(Parser)]
struct Options {
    /// Files to read; by default this project's sources and documents.
    files: Vec<PathBuf>,
    /// Worker processes; by default one per processor.
    #[arg(short, long, default_value_t = thread::available_parallelism().map_or(1, usize::from))]
    workers: usize,
    /// How many words to show.
    #[arg(short, long, default_value_t = 10)]
    top: usize,
}

/// Runs in a worker: the words of one file, and which process counted them.
fn count(path: PathBuf) -> Result<(u32, BTreeMap<String, u64>), String> {
    let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut words = BTreeMap::new();
    for word in String::from_utf8_lossy(&bytes).split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()) {
        *words.entry(word.to_lowercase()).or_insert(0) += 1;
    }
    Ok((std::process::id(), words))
}

/// All files below a folder that hold code or prose.
fn own_files(folder: PathBuf, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("target") && !path.ends_with(".git") {
            own_files(path, found)?;
        } else if ["rs", "md", "toml", "sh"].iter().any(|ending| path.extension() == Some(ending.as_ref())) {
            found.push(path);
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut options = Options::parse();
    if options.files.is_empty() {
        own_files(env!("CARGO_MANIFEST_DIR").into(), &mut options.files)?;
    }
    let begin = Instant::now();
    let _dragon = dragon::init()?;
    let pool = Pool::new(options.workers)?;
    // Shows itself on a terminal only.
    let bar = ProgressBar::new(options.files.len() as u64);
    let (mut words, mut per_worker) = (BTreeMap::<String, u64>::new(), BTreeMap::<u32, u64>::new());
    for counted in bar.wrap_iter(pool.imap_unordered(count, options.files)?) {
        match counted? {
            Ok((pid, counts)) => {
                *per_worker.entry(pid).or_default() += 1;
                counts.into_iter().for_each(|(word, n)| *words.entry(word).or_default() += n);
            }
            Err(unreadable) => bar.suspend(|| eprintln!("skipped {unreadable}")),
        }
    }
    pool.close();
    pool.join()?;
    let mut top: Vec<_> = words.iter().collect();
    top.sort_by(|a, b| b.1.cmp(a.1)); // Stable: words of the same number stay in their order.
    let (total, different, files) = (words.values().sum::<u64>(), words.len(), bar.position());
    println!("{total} words, {different} different, in {files} files, {:.1?}", begin.elapsed());
    top.iter().take(options.top).for_each(|(word, n)| println!("{n:>8}  {word}"));
    per_worker.iter().for_each(|(pid, n)| println!("worker process {pid} counted {n} files"));
    Ok(())
}
