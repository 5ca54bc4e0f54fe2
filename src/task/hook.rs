//! Life before `main`: the entry in `.init_array` that makes a child of ours a worker before the
//! program's own `main`, or a test harness's, could begin.
//!
//! It takes over in the main executable only. In a library (a plug-in, a Python extension, a Rust `dylib`)
//! it would run under the loader's lock, with the executable's constructors still to come, in a host
//! that may not be ours; there `init()` does the same from `main`.

use std::ffi::{c_char, c_int};

use super::birth;
use crate::sys::image;

type Constructor = extern "C" fn(c_int, *const *const c_char, *const *const c_char);

unsafe extern "C" {
    // Put round the table by the linker, each for the image it is linked into.
    static __init_array_start: Constructor;
    static __init_array_end: Constructor;
}

/// The entry. `used` keeps it through the linker's removal of what nobody names.
#[used]
#[unsafe(link_section = ".init_array")]
static ENTRY: Constructor = hook;

extern "C" fn hook(argc: c_int, argv: *const *const c_char, environment: *const *const c_char) {
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
    let address = hook as *const () as usize;
    image::visit(|image| image.contains(address).then(|| image.is_main())).unwrap_or(false)
}

/// The constructors that the loader would call after ours: C++ statics, `ctor`, `inventory`.
fn after_ours() -> impl Iterator<Item = Constructor> {
    let (start, end) = (&raw const __init_array_start, &raw const __init_array_end);
    let count = (end as usize).saturating_sub(start as usize) / size_of::<Constructor>();
    // SAFETY: the linker put both marks round a table of addresses, of which 0 and all ones are fillers;
    // as `usize` every entry is valid.
    let table = unsafe { std::slice::from_raw_parts(start.cast::<usize>(), count) };
    let ours = hook as *const () as usize;
    let behind = table.iter().copied().skip_while(move |&entry| entry != ours).skip(1);
    let real = behind.filter(|&entry| entry != 0 && entry != usize::MAX);
    // SAFETY: every other entry of the table is a constructor; the loader calls them just so.
    real.map(|entry| unsafe { std::mem::transmute::<usize, Constructor>(entry) })
}
