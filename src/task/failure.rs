//! What can go wrong with a function that travels: while it is found, and while it runs.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::sys::image::ImageId;
use crate::wire::WireError;

/// A task that did not give a result. It travels back to who asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum Failure {
    /// The function panicked.
    #[error("{message}{}", at(.location))]
    Panicked {
        /// What it said.
        message: String,
        /// File, line and column, where they could be told.
        location: Option<String>,
        /// Which item of its chunk it was at, from 0, if it had several.
        item: Option<u64>,
    },
    /// The argument could not be read.
    #[error("the argument cannot be read: {why}")]
    Decode {
        /// What was wrong.
        why: String,
        /// Which item of its chunk it was, from 0, if there were several.
        item: Option<u64>,
    },
    /// The result could not be written.
    #[error("the result cannot be written: {why}")]
    Encode {
        /// What was wrong.
        why: String,
        /// Which item of its chunk it came from, from 0, if there were several.
        item: Option<u64>,
    },
    /// The function wants a context, and this worker was given none, or one of another type.
    #[error("the task needs a context of type {type_name}, which this worker was not given")]
    Context {
        /// The type it wants.
        type_name: String,
    },
}

fn at(location: &Option<String>) -> String {
    location.as_ref().map_or_else(String::new, |location| format!(" (at {location})"))
}

impl Failure {
    /// The same, of the `index`th item of several.
    pub(super) fn of_item(mut self, index: u64) -> Failure {
        match &mut self {
            Failure::Panicked { item, .. } | Failure::Decode { item, .. } | Failure::Encode { item, .. } => {
                *item = Some(index);
            }
            Failure::Context { .. } => {}
        }
        self
    }

    /// Which item of a chunk failed, if one did.
    pub(crate) fn item(&self) -> Option<u64> {
        match self {
            Failure::Panicked { item, .. } | Failure::Decode { item, .. } | Failure::Encode { item, .. } => *item,
            Failure::Context { .. } => None,
        }
    }
}

impl From<WireError> for Failure {
    fn from(error: WireError) -> Failure {
        let why = error.to_string();
        match error {
            WireError::Encode { .. } => Failure::Encode { why, item: None },
            _ => Failure::Decode { why, item: None },
        }
    }
}

/// A function that could not be named, or a name behind which there is no function here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TaskError {
    /// No image of this process has that id.
    #[error("the worker is not the same build as the caller: it has no image {0}")]
    OtherBuild(ImageId),
    /// The image is the right one, but there is no function at that place.
    #[error("no function is at offset {offset:#x} of image {image}: {why}")]
    NoFunction {
        /// The image.
        image: ImageId,
        /// The place.
        offset: u64,
        /// Which check it failed.
        why: &'static str,
    },
    /// There is a function, but not the one that was meant.
    #[error("the function at offset {offset:#x} is {found}, which is not the one the caller meant")]
    OtherFunction {
        /// The place.
        offset: u64,
        /// What is there.
        found: &'static str,
    },
    /// The image could not be loaded.
    #[error("cannot load {}, which the function is part of: {why}", path.display())]
    Load {
        /// Its file.
        path: PathBuf,
        /// What the loader said.
        why: String,
    },
    /// The function cannot be named, because its descriptor lies where anybody could write.
    #[error("{name} cannot be sent: its image was linked without RELRO, so that its constants can be overwritten")]
    Unsealed {
        /// The function.
        name: &'static str,
    },
}
