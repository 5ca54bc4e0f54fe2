//! A sampler that goes back when a step went wrong: the state of every walker is put at each checkpoint, and a step that
//! most walkers reject is rolled back and tried again with half the step length. Every fourth checkpoint is stored on disk.
use clap::Parser;
use dragon::{DDict, Persist, Pool, Result};

#[derive(Parser)]
#[command(about)]
struct Options {
    /// Worker processes.
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// Walkers that sample at the same time.
    #[arg(long, default_value_t = 64)]
    walkers: u64,
    /// Checkpoints.
    #[arg(long, default_value_t = 20)]
    steps: u32,
    /// Where checkpoints are stored.
    #[arg(long)]
    folder: Option<std::path::PathBuf>,
}

/// Of each walker: where it is, and the state of its dice.
type State = DDict<u64, (f64, u64)>;

/// One step of one walker towards the normal distribution; whether it was accepted.
fn step((state, length): &(State, f64), walker: u64) -> bool {
    let before = state.clone();
    before.rollback();
    let (at, mut dice) = before.get(&walker).expect("every walker was put at the checkpoint before");
    let mut draw = || {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 11) as f64 / (1_u64 << 53) as f64
    };
    let proposed = at + length * (2.0 * draw() - 1.0);
    let accepted = draw() < ((at * at - proposed * proposed) / 2.0).exp();
    state.put(&walker, &(if accepted { proposed } else { at }, dice)).expect("there is room for walkers");
    accepted
}

fn main() -> Result<()> {
    let options = Options::parse();
    let _dragon = dragon::init()?;
    let folder = options.folder.unwrap_or_else(|| std::env::temp_dir().join(format!("sampler-{}", std::process::id())));
    let persist = Persist::posix(&folder).every(4).keep(2);
    let state: State = DDict::builder().name("sampler").working_set(2).persist(persist).build()?;
    state.batch(|batch| (0..options.walkers).try_for_each(|n| batch.put(&n, &(0.0, 7919 * n + 1))))?;
    let pool = Pool::new(options.workers)?;
    let (mut length, mut back) = (64.0, 0);
    while state.checkpoint_id() < options.steps {
        state.checkpoint();
        let accepted = pool.map_with(&(state.clone(), length), step, 0..options.walkers)?;
        if accepted.iter().filter(|accepted| **accepted).count() < accepted.len() / 4 {
            // What was put at this checkpoint is overwritten when it is tried again.
            state.rollback();
            (length, back) = (length / 2.0, back + 1);
        }
    }
    let squares = state.map_reduce(|_, (at, _)| at * at, |a, b| a + b)?.unwrap_or(0.0);
    println!("{} checkpoints, {back} times rolled back, step length {length}", state.checkpoint_id());
    println!("mean square of {} walkers: {:.2}", options.walkers, squares / options.walkers as f64);
    println!("stored: {:?} in {}", state.persisted()?, folder.display());
    Ok(())
}
