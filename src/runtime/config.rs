//! Settings: what code says beats the environment, the environment beats the default.

use std::sync::Arc;

use super::{Runtime, core};
use crate::error::{Error, ErrorKind, Result};
use crate::mm::{Backing, HugePages, MemoryConfig};
use crate::task;

/// Settings for a runtime. Every method has a `DRAGON_*` variable of the same meaning.
///
/// ```
/// let dragon = dragon::builder().memory_limit(512 << 20).init()?;
/// assert!(dragon.stats().memory.limit <= 512 << 20);
/// # Ok::<(), dragon::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Builder {
    segment_size: Option<u64>,
    memory_limit: Option<u64>,
    shared_memory: Option<Backing>,
    huge_pages: Option<HugePages>,
}

impl Builder {
    pub(super) fn new() -> Builder {
        Builder::default()
    }

    /// Bytes of address space per segment of shared memory; no single message or block can be larger.
    /// A multiple of 2 MiB. Default 4 GiB, of which only what is used takes memory.
    /// `DRAGON_DEFAULT_SEG_SZ`, in bytes or with a suffix K, M, G, T.
    pub fn segment_size(mut self, bytes: u64) -> Builder {
        self.segment_size = Some(bytes);
        self
    }

    /// The most shared memory that this job may use on this node, in bytes. Default: the memory of the
    /// machine or of its container. `DRAGON_MEMORY_LIMIT`, in bytes or with a suffix K, M, G, T.
    pub fn memory_limit(mut self, bytes: u64) -> Builder {
        self.memory_limit = Some(bytes);
        self
    }

    /// Where shared memory comes from. `DRAGON_SHM`: `auto`, `memfd` or `named`.
    pub fn shared_memory(mut self, backing: Backing) -> Builder {
        self.shared_memory = Some(backing);
        self
    }

    /// Whether shared memory uses huge pages. `DRAGON_HUGE_PAGES`: `auto`, `never` or `always`.
    pub fn huge_pages(mut self, huge_pages: HugePages) -> Builder {
        self.huge_pages = Some(huge_pages);
        self
    }

    /// Starts the runtime, as [`init`](crate::init) does.
    ///
    /// # Errors
    /// Those of [`init`](crate::init), and
    /// [`AlreadyInitialized`](ErrorKind::AlreadyInitialized) if one with other settings is up.
    pub fn init(self) -> Result<Runtime> {
        task::birth::become_child_if_asked();
        let asked = self.segment_size.is_some()
            || self.memory_limit.is_some()
            || self.shared_memory.is_some()
            || self.huge_pages.is_some();
        let config = self.compose(|name| std::env::var(name).ok())?;
        core::enter(config, asked).map(|core: Arc<_>| Runtime { core })
    }

    /// Puts code, environment and defaults together.
    fn compose(self, environment: impl Fn(&str) -> Option<String>) -> Result<MemoryConfig> {
        let default = MemoryConfig::default();
        let size = |name: &str, code: Option<u64>, default: u64| match (code, environment(name)) {
            (Some(bytes), _) => Ok(bytes),
            (None, Some(text)) => {
                parse_size(&text).ok_or_else(|| unclear(name, &text, "bytes, or a number with K, M, G or T"))
            }
            (None, None) => Ok(default),
        };
        Ok(MemoryConfig {
            segment_size: size("DRAGON_DEFAULT_SEG_SZ", self.segment_size, default.segment_size)?,
            limit: size("DRAGON_MEMORY_LIMIT", self.memory_limit, default.limit)?,
            backing: choice(
                ("DRAGON_SHM", environment("DRAGON_SHM")),
                self.shared_memory,
                &[("auto", Backing::Auto), ("memfd", Backing::Memfd), ("named", Backing::Named)],
            )?
            .unwrap_or(default.backing),
            huge_pages: choice(
                ("DRAGON_HUGE_PAGES", environment("DRAGON_HUGE_PAGES")),
                self.huge_pages,
                &[("auto", HugePages::Auto), ("never", HugePages::Never), ("always", HugePages::Always)],
            )?
            .unwrap_or(default.huge_pages),
        })
    }
}

fn choice<T: Copy>((name, text): (&str, Option<String>), code: Option<T>, choices: &[(&str, T)]) -> Result<Option<T>> {
    let Some(text) = text.filter(|_| code.is_none()) else { return Ok(code) };
    let found = choices.iter().find(|(word, _)| *word == text.trim());
    let words = || choices.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
    found.map(|(_, value)| Some(*value)).ok_or_else(|| unclear(name, &text, &words()))
}

fn unclear(name: &str, text: &str, wanted: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, format!("environment variable {name}={text:?}: expected {wanted}"))
}

/// `4G`, `64M`, `1024`.
fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let (digits, shift) = match text.char_indices().last()? {
        (at, 'k' | 'K') => (&text[..at], 10),
        (at, 'm' | 'M') => (&text[..at], 20),
        (at, 'g' | 'G') => (&text[..at], 30),
        (at, 't' | 'T') => (&text[..at], 40),
        _ => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_suffix() {
        assert_eq!(parse_size("4G"), Some(4 << 30));
        assert_eq!(parse_size(" 64m "), Some(64 << 20));
        assert_eq!(parse_size("123"), Some(123));
        for wrong in ["", "G", "4GB", "-1", "1.5G", "99999999999T"] {
            assert_eq!(parse_size(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn code_beats_environment_beats_default() {
        let environment = |name: &str| (name == "DRAGON_MEMORY_LIMIT").then(|| "256M".to_string());
        assert_eq!(Builder::new().compose(environment).unwrap().limit, 256 << 20);
        assert_eq!(Builder::new().memory_limit(1 << 30).compose(environment).unwrap().limit, 1 << 30);
        assert_eq!(Builder::new().compose(|_| None).unwrap(), MemoryConfig::default());
    }

    #[test]
    fn a_variable_that_makes_no_sense_is_named() {
        for (name, text) in [("DRAGON_DEFAULT_SEG_SZ", "lots"), ("DRAGON_SHM", "sysv"), ("DRAGON_HUGE_PAGES", "1")] {
            let error = Builder::new().compose(|asked| (asked == name).then(|| text.into())).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(error.to_string().contains(name) && error.to_string().contains(text), "{error}");
        }
    }
}
