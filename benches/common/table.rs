//! A race: runners take turns (A B A B …), so that what disturbs the machine disturbs all of them, and each is
//! compared with the reference of its own round. The table shows medians; a target is printed with how it went.

use std::env;

/// Runs it once and returns its figure.
type Runner<'a> = Box<dyn FnMut() -> f64 + 'a>;

/// Runners of one distance. The first one added is the reference.
pub struct Race<'a> {
    title: &'static str,
    unit: &'static str,
    rounds: usize,
    runners: Vec<(&'static str, Runner<'a>)>,
}

impl<'a> Race<'a> {
    /// A race without runners. `BENCH_ROUNDS` in the environment overrides the seven rounds.
    pub fn new(title: &'static str, unit: &'static str) -> Race<'a> {
        let rounds = env::var("BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(7);
        Race { title, unit, rounds, runners: Vec::new() }
    }

    /// Fewer rounds, for runners that take seconds.
    pub fn at_most_rounds(mut self, rounds: usize) -> Self {
        self.rounds = self.rounds.min(rounds);
        self
    }

    /// Adds a runner.
    pub fn runner(mut self, name: &'static str, run: impl FnMut() -> f64 + 'a) -> Self {
        self.runners.push((name, Box::new(run)));
        self
    }

    /// Adds a runner that may be missing.
    pub fn maybe(self, name: &'static str, run: Option<impl FnMut() -> f64 + 'a>) -> Self {
        match run {
            Some(run) => self.runner(name, run),
            None => self,
        }
    }

    /// Whether the command line asks for the race of this title.
    pub fn is_wanted(title: &str) -> bool {
        let wanted: Vec<String> = env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
        wanted.is_empty() || wanted.iter().any(|word| title.contains(word.as_str()))
    }

    /// Runs all rounds and prints the table, unless the command line asks for other races only.
    pub fn run(mut self) -> Outcome {
        if !Race::is_wanted(self.title) {
            return Outcome { unit: self.unit, lanes: Vec::new(), ran: false };
        }
        let mut lanes: Vec<Lane> = self.runners.iter().map(|(name, _)| Lane { name, figures: Vec::new() }).collect();
        for _ in 0..self.rounds {
            for (lane, (_, run)) in lanes.iter_mut().zip(&mut self.runners) {
                lane.figures.push(run());
            }
        }
        let outcome = Outcome { unit: self.unit, lanes, ran: true };
        outcome.print(self.title);
        outcome
    }
}

/// One runner's figures, round by round.
struct Lane {
    name: &'static str,
    figures: Vec<f64>,
}

/// What a race came to.
pub struct Outcome {
    unit: &'static str,
    lanes: Vec<Lane>,
    ran: bool,
}

impl Outcome {
    fn print(&self, title: &str) {
        println!("\n{title}");
        println!("  {:<44}{:>11}{:>11}{:>11}  {:<9}{:>8}", "", "median", "min", "max", "unit", "ratio");
        for lane in &self.lanes {
            let (low, middle, high) = spread(&lane.figures);
            let ratio = self.ratio(lane.name, self.lanes[0].name).unwrap_or(f64::NAN);
            let [low, middle, high, ratio] = [low, middle, high, ratio].map(short);
            println!("  {:<44}{middle:>11}{low:>11}{high:>11}  {:<9}{ratio:>8}", lane.name, self.unit);
        }
    }

    /// The median over all rounds of a runner's figure divided by another's. `None`: one of them did not run.
    pub fn ratio(&self, runner: &str, other: &str) -> Option<f64> {
        self.compared(runner, other, |a, b| a / b)
    }

    /// The median over all rounds of two runners' figures compared within the round.
    fn compared(&self, runner: &str, other: &str, compare: impl Fn(f64, f64) -> f64) -> Option<f64> {
        let find = |name: &str| self.lanes.iter().find(|lane| lane.name == name);
        let (runner, other) = (find(runner)?, find(other)?);
        let figures: Vec<f64> = runner.figures.iter().zip(&other.figures).map(|(a, b)| compare(*a, *b)).collect();
        Some(spread(&figures).1)
    }

    /// A runner's median figure.
    pub fn median(&self, runner: &str) -> Option<f64> {
        self.lanes.iter().find(|lane| lane.name == runner).map(|lane| spread(&lane.figures).1)
    }

    /// Prints whether `runner` keeps within `most` times `other`.
    pub fn at_most(&self, runner: &str, most: f64, other: &str) -> &Self {
        self.verdict(&format!("{runner}: at most {most} times {other}"), self.ratio(runner, other), |is| is <= most)
    }

    /// Prints whether `runner` reaches `least` times `other`.
    pub fn at_least(&self, runner: &str, least: f64, other: &str) -> &Self {
        let what = format!("{runner}: at least {least} times {other}");
        self.verdict(&what, self.ratio(runner, other), |is| is >= least)
    }

    /// Prints whether the median of `runner` stays below a figure.
    pub fn below(&self, runner: &str, limit: f64) -> &Self {
        let what = format!("{runner}: below {limit} {}", self.unit);
        self.verdict(&what, self.median(runner), |is| is < limit)
    }

    /// Prints whether the median of `runner` reaches a figure.
    pub fn reaches(&self, runner: &str, least: f64) -> &Self {
        let what = format!("{runner}: at least {least} {}", self.unit);
        self.verdict(&what, self.median(runner), |is| is >= least)
    }

    /// Prints whether `runner` costs less than so much more than `other`, in the race's unit.
    pub fn adds_less_than(&self, runner: &str, other: &str, limit: f64) -> &Self {
        let what = format!("{runner}: less than {limit} {} more than {other}", self.unit);
        self.verdict(&what, self.compared(runner, other, |a, b| a - b), |is| is < limit)
    }

    fn verdict(&self, what: &str, figure: Option<f64>, holds: impl FnOnce(f64) -> bool) -> &Self {
        match figure {
            _ if !self.ran => {}
            None => println!("  target: {what}: NOT MEASURED, one of the two did not run"),
            Some(figure) if holds(figure) => println!("  target: {what}: met ({})", short(figure)),
            Some(figure) => println!("  target: {what}: MISSED ({})", short(figure)),
        }
        self
    }
}

/// Least, middle and greatest.
fn spread(figures: &[f64]) -> (f64, f64, f64) {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.as_slice() {
        [] => (f64::NAN, f64::NAN, f64::NAN),
        all => (all[0], all[all.len() / 2], all[all.len() - 1]),
    }
}

/// A number with three or four digits that say something.
fn short(figure: f64) -> String {
    match figure.abs() {
        size if size.is_nan() => "-".into(),
        size if size >= 1000.0 => format!("{figure:.0}"),
        size if size >= 10.0 => format!("{figure:.1}"),
        size if size >= 0.1 || size == 0.0 => format!("{figure:.2}"),
        _ => format!("{figure:.5}"),
    }
}
