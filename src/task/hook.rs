//! Life before `main`: the entry in `.init_array` that makes a child of ours a worker before the
//! program's own `main`, or a test harness's, could begin.
//!
//! It takes over in the main executable only. In a library (a plug-in, a Python extension, a Rust `dylib`)
//! it would run under the loader's lock, with the executable's constructors still to come, in a host
//! that may not be ours; there `init()` does the same from `main`.

use std::ffi::{c_char, c_int};

use super::birth;
use crate::sys::image;
use crate::sys::{pmix_helper, pmix_office};

type Constructor = extern "C" fn(c_int, *const *const c_char, *const *const c_char);

/// The entry. `used` keeps it through the linker's removal of what nobody names.
#[used]
#[unsafe(link_section = ".init_array")]
static ENTRY: Constructor = hook;

extern "C" fn hook(argc: c_int, argv: *const *const c_char, environment: *const *const c_char) {
    if pmix_helper::is_asked() && in_main_executable() {
        pmix_helper::be_helper();
    }
    if pmix_office::is_asked() && in_main_executable() {
        pmix_office::be_server();
    }
    let Some(parent) = birth::asked() else { return };
    if !in_main_executable() {
        return;
    }
    birth::forget_asked();
    for constructor in after_ours() {
        constructor(argc, argv, environment);
    }
    birth::become_child(parent)
}

/// Names the entry, so that whoever calls this surely has it linked.
pub(super) fn ensure_linked() {
    std::hint::black_box(&ENTRY);
}

fn in_main_executable() -> bool {
    let address = ENTRY as *const () as usize;
    image::visit(|image| image.contains(address).then(|| image.is_main())).unwrap_or(false)
}

/// The constructors that would be called after ours: C++ statics, `ctor`, `inventory`.
fn after_ours() -> impl Iterator<Item = Constructor> {
    let ours = ENTRY as *const () as usize;
    let table = image::visit(|image| image.contains(ours).then(|| image.constructors())).flatten();
    let behind = table.unwrap_or_else(fixed::constructors).into_iter().skip_while(move |&entry| entry != ours).skip(1);
    let real = behind.filter(|&entry| entry != 0 && entry != usize::MAX);
    // SAFETY: but for the fillers 0 and all ones, every entry of the table is a constructor; the loader
    // calls them just so.
    real.map(|entry| unsafe { std::mem::transmute::<usize, Constructor>(entry) })
}

/// Static executables at a fixed address, whose table only the linker knows.
#[cfg(target_feature = "crt-static")]
mod fixed {
    use super::Constructor;

    unsafe extern "C" {
        // Put round the table by the linker: by every linker in executables, by some in libraries.
        static __init_array_start: Constructor;
        static __init_array_end: Constructor;
    }

    pub(super) fn constructors() -> Vec<usize> {
        let (start, end) = (&raw const __init_array_start, &raw const __init_array_end);
        let count = (end as usize).saturating_sub(start as usize) / size_of::<Constructor>();
        // SAFETY: between the marks lies a table of addresses; as `usize` every entry is valid.
        unsafe { std::slice::from_raw_parts(start.cast::<usize>(), count) }.to_vec()
    }
}

/// All others have a table that the loader can find, and so can we.
#[cfg(not(target_feature = "crt-static"))]
mod fixed {
    pub(super) fn constructors() -> Vec<usize> {
        Vec::new()
    }
}
