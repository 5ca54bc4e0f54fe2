//! Counts the words of files with a pool of processes: `cargo run --release --example wordcount -- FILE...`
//!
//! Without files it counts this project's own sources and documents.
use std::{collections::HashMap, fs, io::IsTerminal, path::PathBuf, time::Instant};

use clap::Parser;
use dragon::Pool;
use indicatif::{ProgressBar, ProgressStyle};

/// Counts the words of files with a pool of processes.
#[derive(Parser)]
struct Options {
    /// Files to read; by default this project's sources and documents.
    files: Vec<PathBuf>,
    /// Worker processes; by default one per processor.
    #[arg(short, long)]
    workers: Option<usize>,
    /// How many words to show.
    #[arg(short, long, default_value_t = 10)]
    top: usize,
}

/// Runs in a worker: the words of one file, and which process counted them.
fn count(path: PathBuf) -> Result<(u32, HashMap<String, u64>), String> {
    let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut words = HashMap::new();
    for word in String::from_utf8_lossy(&bytes).split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()) {
        *words.entry(word.to_lowercase()).or_insert(0) += 1;
    }
    Ok((std::process::id(), words))
}

/// All files below a folder that hold code or prose.
fn own_files(folder: PathBuf, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            own_files(path, found)?;
        } else if [".rs", ".md", ".toml", ".sh"].iter().any(|ending| name.ends_with(ending)) {
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
    let pool = match options.workers {
        Some(workers) => Pool::new(workers)?,
        None => Pool::builder().build()?,
    };
    let files = options.files.len();
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new(files as u64) } else { ProgressBar::hidden() };
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} files, {eta} left")?);
    let (mut words, mut per_worker) = (HashMap::<String, u64>::new(), HashMap::<u32, usize>::new());
    for counted in pool.imap_unordered(count, options.files)? {
        bar.inc(1);
        match counted? {
            Ok((pid, counts)) => {
                *per_worker.entry(pid).or_default() += 1;
                counts.into_iter().for_each(|(word, n)| *words.entry(word).or_default() += n);
            }
            Err(unreadable) => bar.suspend(|| eprintln!("skipped {unreadable}")),
        }
    }
    bar.finish_and_clear();
    pool.close();
    pool.join()?;
    let total: u64 = words.values().sum();
    let mut top: Vec<_> = words.iter().collect();
    top.sort_by_key(|&(word, &n)| (std::cmp::Reverse(n), word));
    println!("{total} words, {} different, in {files} files, {:.1?}", words.len(), begin.elapsed());
    top.iter().take(options.top).for_each(|(word, n)| println!("{n:>8}  {word}"));
    let mut per_worker: Vec<_> = per_worker.into_iter().collect();
    per_worker.sort_unstable();
    per_worker.iter().for_each(|(pid, n)| println!("worker process {pid} counted {n} files"));
    Ok(())
}
