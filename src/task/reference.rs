//! Names of functions that mean the same in every process of a build.
//!
//! The loader puts an image somewhere else in every process, but its parts keep their distances. So a
//! function's name is which image, which build of it, and how far from its base the descriptor lies. A
//! name that came from elsewhere is a claim: nothing is called, nor even read as a descriptor, before
//! every check has passed, and a name that is stale, damaged or forged ends in an error.
//!
//! A plug-in that has a copy of this library linked in is as good as any image if it was built with the
//! same compiler, version and features, which is checked, and the same global allocator, which cannot be.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    ptr,
};

use bytemuck::{Pod, Zeroable};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use serde::{Deserialize, Serialize};

use super::{
    TaskError, Thunk,
    recent::Recent,
    thunk::{KIN, MAGIC},
};
use crate::sys::image::{self, Image, ImageId};

/// The name of a function. Plain bytes, so that it can lie in shared memory and be compared there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct FnRef {
    image: ImageId,
    /// Of the descriptor, from the image's base.
    offset: u64,
    /// Hash of the descriptor's identity.
    identity: u64,
}

thread_local! {
    static NAMED: Recent<*const Thunk, FnRef> = const { Recent::new() };
    static FOUND: Recent<FnRef, &'static Thunk> = const { Recent::new() };
}

/// A descriptor's words before anybody believes that it is one.
type Words = [usize; 6];

const _: () = assert!(size_of::<Thunk>() == size_of::<Words>() && align_of::<Thunk>() == align_of::<Words>());

/// What build of the program this is: the same bytes in all processes of the build.
pub(crate) fn build() -> Vec<u8> {
    let id = image::visit(|image| image.is_main().then(|| image.id()));
    // Every process has a main image; without one, all are alike in that.
    id.map_or_else(Vec::new, |id| bytemuck::bytes_of(&id).to_vec())
}

/// The name of a function of this process.
#[inline]
pub(crate) fn reference(thunk: &'static Thunk) -> Result<FnRef, TaskError> {
    let address = ptr::from_ref(thunk);
    NAMED.with(|named| named.get_or(address as u64, address, || name(thunk)))
}

/// The function of that name in this process.
#[inline]
pub(crate) fn resolve(name: &FnRef) -> Result<&'static Thunk, TaskError> {
    FOUND.with(|found| found.get_or(name.offset, *name, || find(name)))
}

/// A function of this process as bytes: its name, and the file of its image where that is not the program itself.
pub(crate) fn name_in_full(thunk: &'static Thunk) -> Result<Vec<u8>, TaskError> {
    let name = reference(thunk)?;
    let mut bytes = bytemuck::bytes_of(&name).to_vec();
    if let Some(path) = image_path(&name) {
        bytes.extend_from_slice(path.as_os_str().as_bytes());
    }
    Ok(bytes)
}

/// The function behind such bytes, loaded if it has to be.
pub(crate) fn find_in_full(bytes: &[u8]) -> Result<&'static Thunk, String> {
    let (name, path) = bytes.split_at_checked(size_of::<FnRef>()).ok_or("a function's name is cut short")?;
    let name: FnRef = bytemuck::pod_read_unaligned(name);
    if !path.is_empty() {
        load(&name, Path::new(OsStr::from_bytes(path))).map_err(|e| e.to_string())?;
    }
    resolve(&name).map_err(|e| e.to_string())
}

/// The file of the image a function is in, if it is not the main executable. A worker that was started
/// before the image was loaded needs it: see [`load`].
pub(crate) fn image_path(name: &FnRef) -> Option<PathBuf> {
    let path = image::visit(|image| (image.id() == name.image).then(|| own_path(image)))??;
    Some(std::fs::canonicalize(&path).unwrap_or(path))
}

/// Loads the image of a function from its file if it is not loaded yet, and for good.
pub(crate) fn load(name: &FnRef, path: &Path) -> Result<(), TaskError> {
    if !is_loaded(name.image) {
        keep(path)?;
    }
    if is_loaded(name.image) { Ok(()) } else { Err(TaskError::OtherBuild(name.image)) }
}

fn is_loaded(id: ImageId) -> bool {
    image::visit(|image| (image.id() == id).then_some(())).is_some()
}

/// The path of an image that is not the main executable, and that can be found by it.
fn own_path(image: &Image<'_>) -> Option<PathBuf> {
    let path = image.path();
    (!image.is_main() && path.as_os_str().as_encoded_bytes().contains(&b'/')).then(|| path.into())
}

pub(super) fn name(thunk: &'static Thunk) -> Result<FnRef, TaskError> {
    let address = ptr::from_ref(thunk) as usize;
    let sealed = image::visit(|image| {
        let sealed = image.is_constant(address, size_of::<Thunk>());
        sealed.then(|| (image.id(), (address - image.base()) as u64, own_path(image)))
    });
    let Some((image, offset, path)) = sealed else {
        return Err(TaskError::Unsealed { name: thunk.name() });
    };
    if let Some(path) = path {
        keep(&path)?;
    }
    Ok(FnRef { image, offset, identity: hash(thunk) })
}

pub(super) fn find(name: &FnRef) -> Result<&'static Thunk, TaskError> {
    let refuse = |why| TaskError::NoFunction { image: name.image, offset: name.offset, why };
    // An image that is not the executable could be unloaded between the check and the call: keep it first.
    if let Some(path) = image::visit(|image| (image.id() == name.image).then(|| own_path(image))).flatten() {
        keep(&path)?;
    }
    let words = image::visit(|image| (image.id() == name.image).then(|| words_at(image, name.offset)));
    let (address, words) = words.ok_or(TaskError::OtherBuild(name.image))?.map_err(refuse)?;
    if words[0] as u64 != MAGIC {
        return Err(refuse("it carries no descriptor's mark"));
    }
    let is_code = |&word: &usize| image::visit(|image| image.has_code_at(word).then_some(())).is_some();
    if !words[1..4].iter().all(is_code) {
        return Err(refuse("it does not point to code"));
    }
    // SAFETY: the words lie in constant memory of an image that stays loaded, are aligned, carry the mark
    // of this layout, and point to code: nothing but the compiler writes such words, as a `Thunk`.
    let thunk = unsafe { &*(address as *const Thunk) };
    if thunk.kin != KIN {
        return Err(refuse("it was made by another compiler or another version of this library"));
    }
    if hash(thunk) != name.identity {
        return Err(TaskError::OtherFunction { offset: name.offset, found: thunk.name() });
    }
    Ok(thunk)
}

/// What is at an offset of an image, if a descriptor could be there.
fn words_at(image: &Image<'_>, offset: u64) -> Result<(usize, Words), &'static str> {
    let address = image.base().wrapping_add(offset as usize);
    if !image.is_constant(address, size_of::<Thunk>()) {
        return Err("it is not within the image's constants");
    }
    let words = address as *const Words;
    if !words.is_aligned() {
        return Err("it is not aligned");
    }
    // SAFETY: aligned, and wholly inside mapped memory that can be read and is never written; the
    // loader keeps the image there as long as it shows it to us.
    Ok((address, unsafe { words.read() }))
}

/// Loads an image, or holds one that is loaded, for the rest of the process's life: a `&'static Thunk`
/// points into it.
fn keep(path: &Path) -> Result<(), TaskError> {
    // SAFETY: runs the initialisers of a file that a process of our own job, of our own user, has loaded
    // too and told us of; it could as well have sent us any function.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) };
    let library = library.map_err(|error| TaskError::Load { path: path.into(), why: format!("{error:?}") })?;
    // Leaked on purpose: see above.
    let _ = library.into_raw();
    Ok(())
}

fn hash(thunk: &Thunk) -> u64 {
    rapidhash::v3::rapidhash_v3((thunk.identity)().as_bytes())
}
