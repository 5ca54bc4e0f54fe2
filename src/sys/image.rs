//! The loaded images: which executable and libraries this process is made of, and which build each is.

use std::{
    ffi::{CStr, OsStr, c_int, c_void},
    os::unix::ffi::OsStrExt,
    path::Path,
    sync::OnceLock,
};

use bytemuck::{Pod, Zeroable};
use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};
use serde::{Deserialize, Serialize};

/// One build of one image: equal in every process that runs the same file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, Pod, Zeroable)]
#[repr(transparent)]
pub(crate) struct ImageId([u64; 2]);

impl std::fmt::Display for ImageId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}{:016x}", self.0[0], self.0[1])
    }
}

/// A loaded image, for as long as the loader shows it to us.
pub(crate) struct Image<'a> {
    base: usize,
    name: &'a CStr,
    headers: &'a [libc::Elf64_Phdr],
}

/// Shows every loaded image, the main executable first, until `look` returns something. The loader's
/// lock is held meanwhile: no image comes or goes, and `look` must not load one.
pub(crate) fn visit<X>(mut look: impl FnMut(&Image<'_>) -> Option<X>) -> Option<X> {
    let mut found = None;
    let mut show = |image: &Image<'_>| {
        found = look(image);
        found.is_some()
    };
    let mut show: &mut dyn FnMut(&Image<'_>) -> bool = &mut show;
    // SAFETY: `step` takes its third argument for what is given here, and this frame outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(step), (&raw mut show).cast()) };
    found
}

/// # Safety
/// `show` is the pointer that `visit` gave to `dl_iterate_phdr`, and that call is still running.
unsafe extern "C" fn step(info: *mut libc::dl_phdr_info, _size: usize, show: *mut c_void) -> c_int {
    // SAFETY: `visit` passes this pointer, and nobody else uses it before `visit` goes on.
    let show = unsafe { &mut *show.cast::<&mut dyn FnMut(&Image<'_>) -> bool>() };
    // SAFETY: the loader passes a valid record that stays so for the duration of this call.
    let info = unsafe { &*info };
    if info.dlpi_phdr.is_null() {
        return 0;
    }
    let name = match info.dlpi_name.is_null() {
        true => c"",
        // SAFETY: a name that is not null is a C string of the loader's, under its lock.
        false => unsafe { CStr::from_ptr(info.dlpi_name) },
    };
    // SAFETY: the loader says that so many headers lie there, under its lock.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    let image = Image { base: info.dlpi_addr as usize, name, headers };
    c_int::from(show(&image))
}

impl Image<'_> {
    /// Where its addresses start: what the loader added to the addresses in the file.
    pub(crate) fn base(&self) -> usize {
        self.base
    }

    /// Whether this is the executable that the kernel started.
    pub(crate) fn is_main(&self) -> bool {
        // SAFETY: getauxval only reads what the kernel left for us.
        let kernels = unsafe { libc::getauxval(libc::AT_PHDR) };
        self.headers.as_ptr() as usize == kernels as usize
    }

    /// The file it was loaded from, as the loader knows it. The main executable has none.
    pub(crate) fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(self.name.to_bytes()))
    }

    /// Whether the address is in it.
    pub(crate) fn contains(&self, address: usize) -> bool {
        self.loaded().any(|header| self.covers(header, address, 1))
    }

    /// Whether the address is in its code.
    pub(crate) fn has_code_at(&self, address: usize) -> bool {
        let mut code = self.loaded().filter(|header| header.p_flags & libc::PF_X != 0);
        code.any(|header| self.covers(header, address, 1))
    }

    /// Whether all of these bytes can never be written: constants, or what the loader has relocated and
    /// then sealed. Code does not count.
    pub(crate) fn is_constant(&self, address: usize, length: usize) -> bool {
        self.headers.iter().any(|header| {
            let constant = match header.p_type {
                libc::PT_LOAD => header.p_flags & (libc::PF_R | libc::PF_W | libc::PF_X) == libc::PF_R,
                libc::PT_GNU_RELRO => true,
                _ => false,
            };
            constant && self.covers(header, address, length)
        })
    }

    /// The addresses in its `.init_array`, in the order in which they are called. An executable that is
    /// loaded without the loader's help, static and at a fixed address, does not say.
    pub(crate) fn constructors(&self) -> Option<Vec<usize>> {
        const DT_INIT_ARRAY: u64 = 25;
        const DT_INIT_ARRAYSZ: u64 = 27;
        let dynamic = self.headers.iter().find(|header| header.p_type == libc::PT_DYNAMIC)?;
        let entries: &[[u64; 2]] = bytemuck::try_cast_slice(self.bytes(dynamic)?).ok()?;
        let value = |wanted| entries.iter().find(|[tag, _]| *tag == wanted).map(|[_, value]| *value);
        let table = libc::Elf64_Phdr { p_vaddr: value(DT_INIT_ARRAY)?, p_memsz: value(DT_INIT_ARRAYSZ)?, ..*dynamic };
        Some(bytemuck::try_cast_slice(self.bytes(&table)?).ok()?.to_vec())
    }

    /// Which build it is: from the linker's build id, or from all its constant bytes and code where the
    /// linker wrote none; and in any case from its layout, for those who fix the build id by hand.
    pub(crate) fn id(&self) -> ImageId {
        static MAIN: OnceLock<ImageId> = OnceLock::new();
        match self.is_main() {
            true => *MAIN.get_or_init(|| self.compute_id()),
            false => self.compute_id(),
        }
    }

    fn compute_id(&self) -> ImageId {
        let mut id = ImageId([0x6472_6167_6f6e, 1]);
        for header in self.loaded() {
            id.mix(bytemuck::bytes_of(&[header.p_vaddr, header.p_memsz, u64::from(header.p_flags)]));
        }
        match self.build_id() {
            Some(build_id) => id.mix(build_id),
            None => self.constant_parts().for_each(|part| id.mix(part)),
        }
        id
    }

    /// The linker's note, `NT_GNU_BUILD_ID`.
    fn build_id(&self) -> Option<&[u8]> {
        let notes = self.headers.iter().filter(|header| header.p_type == libc::PT_NOTE);
        notes.filter_map(|header| self.bytes(header)).find_map(build_id_among)
    }

    fn constant_parts(&self) -> impl Iterator<Item = &[u8]> {
        let constant = self.loaded().filter(|header| header.p_flags & libc::PF_W == 0);
        constant.filter_map(|header| self.bytes(header))
    }

    /// The bytes a header speaks of, if they are loaded and readable.
    fn bytes(&self, header: &libc::Elf64_Phdr) -> Option<&[u8]> {
        let (start, length) = (self.start(header), header.p_memsz as usize);
        let mut readable = self.loaded().filter(|part| part.p_flags & libc::PF_R != 0);
        if !readable.any(|part| self.covers(part, start, length)) {
            return None;
        }
        // SAFETY: inside one readable loaded segment, and the loader's lock keeps the image where it is
        // while `self` lives. What this is called for (notes, constants, the loader's tables) is never
        // written once the program runs.
        Some(unsafe { std::slice::from_raw_parts(start as *const u8, length) })
    }

    fn loaded(&self) -> impl Iterator<Item = &libc::Elf64_Phdr> {
        self.headers.iter().filter(|header| header.p_type == libc::PT_LOAD)
    }

    fn start(&self, header: &libc::Elf64_Phdr) -> usize {
        self.base.wrapping_add(header.p_vaddr as usize)
    }

    /// Whether all of these bytes are what the header speaks of.
    fn covers(&self, header: &libc::Elf64_Phdr, address: usize, length: usize) -> bool {
        let within = address.wrapping_sub(self.start(header)) as u64;
        within < header.p_memsz && header.p_memsz - within >= length as u64
    }
}

impl ImageId {
    fn mix(&mut self, bytes: &[u8]) {
        self.0 = self.0.map(|seed| rapidhash_v3_seeded(bytes, &RapidSecrets::seed(seed)));
    }
}

/// A note is three words (length of name, length of content, type), name, content, each padded to 4.
fn build_id_among(mut notes: &[u8]) -> Option<&[u8]> {
    const NT_GNU_BUILD_ID: u32 = 3;
    loop {
        let (head, rest) = notes.split_first_chunk::<12>()?;
        let [name_length, length, kind]: [u32; 3] = bytemuck::cast(*head);
        let (name, rest) = rest.split_at_checked(padded(name_length)?)?;
        let content = rest.get(..length as usize)?;
        if kind == NT_GNU_BUILD_ID && name == b"GNU\0" {
            return Some(content);
        }
        notes = rest.get(padded(length)?..)?;
    }
}

fn padded(length: u32) -> Option<usize> {
    usize::try_from(length).ok()?.checked_next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    static CONSTANT: fn() = main_executable_comes_first_and_is_alone;

    #[test]
    fn main_executable_comes_first_and_is_alone() {
        assert!(visit(|image| Some(image.is_main())).unwrap());
        let mut mains = 0;
        visit(|image| -> Option<()> {
            mains += u32::from(image.is_main());
            None
        });
        assert_eq!(mains, 1);
    }

    #[test]
    fn constructors_are_code() {
        let all =
            visit(|image| image.constructors().map(|all| (all, image.has_code_at(CONSTANT as *const () as usize))));
        let (all, is_ours) = all.unwrap();
        assert!(is_ours && !all.is_empty());
        assert!(all.iter().all(|&entry| visit(|image| Some(image.has_code_at(entry))).unwrap()));
    }

    #[test]
    fn a_constant_and_its_code_are_in_the_main_executable() {
        let here = |address| visit(|image| image.contains(address).then(|| image.is_main()));
        let constant = &raw const CONSTANT as usize;
        let code = CONSTANT as *const () as usize;
        assert_eq!((here(constant), here(code)), (Some(true), Some(true)));
        let first = |ask: &dyn Fn(&Image<'_>) -> bool| visit(|image| Some(ask(image))).unwrap();
        assert!(first(&|image| image.is_constant(constant, 8) && !image.has_code_at(constant)));
        assert!(first(&|image| image.has_code_at(code) && !image.is_constant(code, 1)));
        let heap = Box::new(1u8);
        assert_eq!(here(&raw const *heap as usize), None);
    }

    #[test]
    fn ids_are_stable_and_tell_images_apart() {
        let ids = || {
            let mut ids = Vec::new();
            visit(|image| -> Option<()> {
                ids.push(image.id());
                None
            });
            ids
        };
        let first = ids();
        assert_eq!(first, ids());
        let different: std::collections::HashSet<_> = first.iter().collect();
        assert_eq!(different.len(), first.len());
    }

    #[test]
    fn a_build_id_is_found_behind_other_notes() {
        let note = |kind: u32, name: &[u8], content: &[u8]| {
            let mut note = Vec::new();
            note.extend([name.len() as u32, content.len() as u32, kind].map(u32::to_ne_bytes).concat());
            for part in [name, content] {
                note.extend(part);
                note.resize(note.len().next_multiple_of(4), 0);
            }
            note
        };
        let notes = [note(1, b"GNU\0", b"abi"), note(3, b"Go\0\0", b"x"), note(3, b"GNU\0", b"12345")].concat();
        assert_eq!(build_id_among(&notes), Some(&b"12345"[..]));
        assert_eq!(build_id_among(&notes[..notes.len() - 8]), None);
        assert_eq!(build_id_among(&[0xff; 64]), None);
        assert_eq!(build_id_among(&[]), None);
    }
}
