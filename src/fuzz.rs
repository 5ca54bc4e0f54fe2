//! What strangers send, launchers say and environments hold, given to those who read it. For `fuzz/` and its corpus.

use crate::bootstrap::hostile as meeting;
use crate::transport::hostile as carrying;

/// Reads frames of a lane.
pub fn frames(bytes: &[u8]) {
    carrying::frames(bytes);
}

/// Reads a record of a lane's handshake.
pub fn handshake(bytes: &[u8]) {
    carrying::handshake(bytes);
}

/// Reads a message of ranks that meet.
pub fn messages(bytes: &[u8]) {
    meeting::messages(bytes);
}

/// Reads what a PMI-1 process manager says.
pub fn pmi(bytes: &[u8]) {
    meeting::process_manager(bytes);
}

/// Reads the environment of a launcher.
pub fn environment(bytes: &[u8]) {
    meeting::environment(bytes);
}

/// Well-formed inputs, each with the name of its target.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    carrying::seeds().into_iter().chain(meeting::seeds()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &str) -> fn(&[u8]) {
        match name {
            "frames" => frames,
            "handshake" => handshake,
            "messages" => messages,
            "pmi" => pmi,
            "environment" => environment,
            other => panic!("there is no target {other}"),
        }
    }

    /// Every seed, every beginning of it, and every bit of it turned; and whatever `fuzz/corpus` holds.
    #[test]
    fn the_corpus_harms_nobody() {
        for (name, seed) in seeds() {
            let read = target(name);
            read(&seed);
            (0..seed.len()).for_each(|end| read(&seed[..end]));
            for bit in 0..seed.len() * 8 {
                let mut turned = seed.clone();
                turned[bit / 8] ^= 1 << (bit % 8);
                read(&turned);
            }
        }
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus");
        for name in ["frames", "handshake", "messages", "pmi", "environment"] {
            let files = std::fs::read_dir(format!("{corpus}/{name}")).into_iter().flatten().flatten();
            files.for_each(|file| target(name)(&std::fs::read(file.path()).unwrap()));
        }
    }

    #[test]
    fn seeds_are_understood() {
        let row = seeds().into_iter().find(|(name, _)| *name == "frames").unwrap().1;
        assert_eq!(carrying::frames(&row), 3);
    }
}
