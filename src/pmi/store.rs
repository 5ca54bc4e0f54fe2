//! What the ranks of a team leave for each other, and what of it other nodes have not seen yet.

use std::collections::HashMap;

use super::limits::{KEY_MOST, STORE_MOST, VALUE_MOST};

/// Keys and values, as they travel between nodes.
pub(crate) type News = Vec<(String, String)>;

/// One node's copy of the store of a team.
#[derive(Default)]
pub(super) struct Store {
    values: HashMap<String, String>,
    news: News,
    bytes: usize,
}

impl Store {
    /// Leaves a value; it replaces an earlier one. Refused with the reason.
    pub(super) fn put(&mut self, key: &str, value: &str) -> Result<(), &'static str> {
        check(key, value)?;
        self.keep(key, value)?;
        self.news.push((key.into(), value.into()));
        Ok(())
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    /// What has been left since the last call.
    pub(super) fn take_news(&mut self) -> News {
        std::mem::take(&mut self.news)
    }

    /// What was left on other nodes. What is too much is dropped: who misses it hears that it is not there.
    pub(super) fn learn(&mut self, news: &[(String, String)]) {
        for (key, value) in news {
            if let Err(why) = check(key, value).and_then(|()| self.keep(key, value)) {
                tracing::warn!(key, why, "a value that a rank of another node has left is dropped");
            }
        }
    }

    fn keep(&mut self, key: &str, value: &str) -> Result<(), &'static str> {
        let more = key.len() + value.len();
        if self.bytes + more > STORE_MOST {
            return Err("no_room_in_the_store");
        }
        self.bytes += more;
        self.values.insert(key.into(), value.into());
        Ok(())
    }
}

/// Whether it may be kept and read by any rank.
pub(super) fn check(key: &str, value: &str) -> Result<(), &'static str> {
    // It would be a request or an answer of its own to who reads it as a line.
    if [key, value].iter().any(|text| text.contains(['\n', '\r', '\0'])) {
        return Err("no_lines_in_values");
    }
    match (key.len(), value.len()) {
        (0, _) => Err("a_key_is_missing"),
        (key, _) if key > KEY_MOST => Err("key_too_long"),
        (_, value) if value > VALUE_MOST => Err("value_too_long"),
        _ => Ok(()),
    }
}
