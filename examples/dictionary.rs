//! A dictionary that worker processes fill while others read it: words of documents with the places where they stand.
//!
//! Each worker takes one document and adds to the lists of its words; nobody waits for anybody. At the end the dictionary
//! is asked for what is frequent, where the lists are.
use clap::Parser;
use dragon::{DDict, Pool, Result};

#[derive(Parser)]
#[command(about)]
struct Options {
    /// Worker processes.
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// Words that stand in so many places are shown.
    #[arg(long, default_value_t = 3)]
    least: usize,
    /// Documents, each in quotes.
    #[arg(default_values_t = [
        "one fish two fish red fish blue fish".to_string(),
        "this one has a little star this one has a little car".to_string(),
        "some are red and some are blue some are old and some are new".to_string(),
    ])]
    documents: Vec<String>,
}

type Places = DDict<String, Vec<(u32, u32)>>;

/// Adds every word of a document, and returns how many there were.
fn index(places: &Places, (number, text): (u32, String)) -> u32 {
    let mut count = 0;
    for (at, word) in text.split_whitespace().enumerate() {
        let place = (number, at as u32);
        let add = |list: Option<Vec<(u32, u32)>>| Some([list.unwrap_or_default(), vec![place]].concat());
        places.update(&word.to_lowercase(), add).expect("there is room for words");
        count += 1;
    }
    count
}

fn main() -> Result<()> {
    let options = Options::parse();
    let _dragon = dragon::init()?;
    let places: Places = DDict::builder().name("places").managers_per_node(2).build()?;
    let pool = Pool::new(options.workers)?;
    let documents: Vec<(u32, String)> = (1..).zip(options.documents).collect();
    let counts = pool.chunk(1).map_with(&places, index, documents)?;
    println!("{} words, {} of them different", counts.iter().sum::<u32>(), places.len()?);
    let mut frequent = places.filter(|least: &usize, _, list| list.len() >= *least, &options.least)?;
    frequent.sort_by_key(|(word, list)| (std::cmp::Reverse(list.len()), word.clone()));
    for (word, mut list) in frequent {
        list.sort_unstable();
        let list: Vec<_> = list.iter().map(|(document, at)| format!("{document}:{at}")).collect();
        println!("{word:>8}  {}", list.join(" "));
    }
    let longest = places.map_reduce(|word, _| (word.len(), word.clone()), std::cmp::max)?;
    println!("the longest is `{}`", longest.map_or(String::new(), |(_, word)| word));
    Ok(())
}
