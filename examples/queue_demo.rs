//! Work through a joinable queue: a producer, some workers, a name, and a reply queue in every request.
use clap::Parser;
use dragon::{Pool, Queue, Result};
use serde::{Deserialize, Serialize};

#[derive(Parser)]
#[command(about)]
struct Options {
    /// Worker processes.
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// Questions to ask.
    #[arg(long, default_value_t = 12)]
    questions: u64,
}

/// A question, and where its answer shall go. The queue lives as long as somebody has it, or the message does.
#[derive(Serialize, Deserialize)]
struct Question {
    number: u64,
    answers: Queue<String>,
}

fn work(_: u8) -> u64 {
    let questions = Queue::<Question>::open("questions").expect("the main process has it open");
    let mut done = 0;
    for question in &questions {
        let Question { number, answers } = question.expect("it was put by this very program");
        let square = number * number;
        answers
            .put(format!("{number} squared is {square}, says process {}", std::process::id()))
            .expect("room for all");
        questions.task_done().expect("one for each question");
        done += 1;
    }
    done
}

fn main() -> Result<()> {
    let options = Options::parse();
    let _dragon = dragon::init()?;
    let questions = Queue::<Question>::builder().capacity(4).name("questions").joinable().build()?;
    let pool = Pool::new(options.workers)?;
    let working = (0..options.workers).map(|_| pool.submit(work, 0)).collect::<Result<Vec<_>>>()?;
    let answers = Queue::unbounded()?;
    for number in 0..options.questions {
        questions.put(Question { number, answers: answers.clone() })?;
    }
    questions.join()?;
    questions.close();
    let mut lines = answers.try_get_many(usize::MAX)?;
    lines.sort_by_key(|line| line.split(' ').next().and_then(|number| number.parse::<u64>().ok()));
    lines.iter().for_each(|line| println!("{line}"));
    for (at, worker) in working.into_iter().enumerate() {
        println!("worker {at} answered {} questions", worker.get()?);
    }
    Ok(())
}
