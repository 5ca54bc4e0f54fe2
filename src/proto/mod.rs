//! Decisions without effects: no clock, no thread, no file; what is decided comes back as a value.

pub(crate) mod copies;
pub(crate) mod placement;
