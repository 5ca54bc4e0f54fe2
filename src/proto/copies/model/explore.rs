//! Goes through all states that a world can come to, each once.

use std::collections::HashMap;
use std::fmt::Write;

use super::world::{Event, World};

/// How many states there are, or how it comes to one that must not be.
pub fn explore(start: &World) -> Result<usize, String> {
    // By state, from which it was come to, and what it is called.
    let mut known: HashMap<World, usize> = HashMap::new();
    let mut from: Vec<(usize, Event)> = vec![(0, Event::Begins)];
    known.insert(start.clone(), 0);
    let mut left = vec![(start.clone(), 0)];
    while let Some((world, at)) = left.pop() {
        let told = |from: &[(usize, Event)], wrong: &str| Err(path(from, at, wrong));
        let nexts = world.nexts();
        if nexts.is_empty()
            && let Err(stuck) = world.is_at_rest()
        {
            return told(&from, &stuck);
        }
        for (what, next) in nexts {
            if let Some(wrong) = &next.wrong {
                return told(&from, &format!("{what:?}\n{wrong}"));
            }
            if !known.contains_key(&next) {
                from.push((at, what));
                known.insert(next.clone(), from.len() - 1);
                left.push((next, from.len() - 1));
            }
        }
    }
    Ok(known.len())
}

fn path(from: &[(usize, Event)], mut at: usize, wrong: &str) -> String {
    let mut steps = vec![wrong.to_string()];
    loop {
        steps.push(format!("{:?}", from[at].1));
        if at == 0 {
            break;
        }
        at = from[at].0;
    }
    let mut text = String::from("this can happen:\n");
    steps.iter().rev().for_each(|step| _ = writeln!(text, "  {step}"));
    text
}
