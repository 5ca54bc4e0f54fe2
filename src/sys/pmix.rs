//! The client half of libpmix, loaded when it is needed: no headers, nothing to link.
//!
//! The layouts are those of `libpmix.so.2`, the same from version 2 to 7:
//!
//! ```text
//! pmix_proc_t          260 bytes  {char nspace[256]; u32 rank}
//! pmix_value_t          32        {u16 type; 24 bytes of a union at 8}
//! pmix_info_t          552        {char key[512]; u32 flags; pmix_value_t at 520}
//! pmix_byte_object_t    16        {char *bytes; size_t size}
//! ```
//! To be used in a process of its own: an MPI library in the same process would not bear a second client.

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    ptr,
};

use libloading::Library;

pub(super) const NAMESPACE: usize = 256;
pub(super) const ALL_RANKS: u32 = u32::MAX - 1;
const GLOBAL: u8 = 3;
pub(super) const SUCCESS: c_int = 0;

pub(super) const BOOL: u16 = 1;
pub(super) const UINT32: u16 = 14;
const BYTE_OBJECT: u16 = 27;

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Proc {
    pub(super) namespace: [c_char; NAMESPACE],
    pub(super) rank: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct ByteObject {
    bytes: *mut c_char,
    size: usize,
}

#[repr(C)]
pub(super) union Data {
    flag: bool,
    number: u32,
    object: ByteObject,
    pub(super) pointer: *mut c_void,
    pub(super) room: [u64; 3],
}

#[repr(C)]
pub(super) struct Value {
    pub(super) kind: u16,
    pub(super) data: Data,
}

#[repr(C)]
pub(super) struct Info {
    pub(super) key: [c_char; 512],
    pub(super) flags: u32,
    pub(super) value: Value,
}

const _: () = assert!(size_of::<Proc>() == 260 && size_of::<Value>() == 32 && size_of::<Info>() == 552);

type Init = unsafe extern "C" fn(*mut Proc, *mut Info, usize) -> c_int;
type Finalize = unsafe extern "C" fn(*const Info, usize) -> c_int;
type Put = unsafe extern "C" fn(u8, *const c_char, *mut Value) -> c_int;
type Commit = unsafe extern "C" fn() -> c_int;
type Fence = unsafe extern "C" fn(*const Proc, usize, *const Info, usize) -> c_int;
type Get = unsafe extern "C" fn(*const Proc, *const c_char, *const Info, usize, *mut *mut Value) -> c_int;
pub(super) type ErrorString = unsafe extern "C" fn(c_int) -> *const c_char;

/// What the loader says of a library, which the error keeps in its source.
pub(super) fn unloaded(path: &str, error: &libloading::Error) -> String {
    let source = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
    format!("{path}: {error}{source}")
}

/// A connection to the PMIx server of this process's launcher.
pub(crate) struct Client {
    library: Library,
    me: Proc,
}

impl Client {
    /// Loads the first of the libraries that can be loaded, and connects.
    pub(crate) fn connect(libraries: &[String]) -> Result<Client, String> {
        let mut why = "no library to try".to_string();
        for path in libraries {
            // SAFETY: this is libpmix, if anything of that name; its constructors are meant to be run in any program.
            match unsafe { Library::new(path) } {
                Ok(library) => return Client { library, me: nobody() }.init(),
                Err(error) => why = unloaded(path, &error),
            }
        }
        Err(format!("libpmix cannot be loaded: {why} (DRAGON_LIBPMIX names one)"))
    }

    fn init(mut self) -> Result<Client, String> {
        let mut me = nobody();
        // SAFETY: as documented for PMIx_Init; the result is written to `me`.
        let code = unsafe { self.function::<Init>(c"PMIx_Init")?(&mut me, ptr::null_mut(), 0) };
        self.check("PMIx_Init", code)?;
        self.me = me;
        Ok(self)
    }

    /// This process's rank, and how many there are.
    pub(crate) fn rank_and_size(&self) -> Result<(u32, u32), String> {
        let value = self.get(&self.whole_job(), c"pmix.job.size")?;
        if value.kind != UINT32 {
            return Err(format!("the size of the job is of type {}", value.kind));
        }
        // SAFETY: the type says so.
        Ok((self.me.rank, unsafe { value.data.number }))
    }

    /// Leaves bytes that others can read after the next fence.
    pub(crate) fn put(&self, key: &str, bytes: &[u8]) -> Result<(), String> {
        let key = CString::new(key).map_err(|error| error.to_string())?;
        let object = ByteObject { bytes: bytes.as_ptr().cast_mut().cast(), size: bytes.len() };
        let mut value = Value { kind: BYTE_OBJECT, data: Data { object } };
        // SAFETY: the library copies the bytes and changes nothing.
        let code = unsafe { self.function::<Put>(c"PMIx_Put")?(GLOBAL, key.as_ptr(), &mut value) };
        self.check("PMIx_Put", code)?;
        // SAFETY: takes nothing.
        let code = unsafe { self.function::<Commit>(c"PMIx_Commit")?() };
        self.check("PMIx_Commit", code)
    }

    /// Returns when all ranks have called it; what they had left is here then.
    pub(crate) fn meet(&self) -> Result<(), String> {
        let all = self.whole_job();
        let mut collect = Info { key: [0; 512], flags: 0, value: Value { kind: BOOL, data: Data { room: [0; 3] } } };
        write_name(&mut collect.key, b"pmix.collect");
        collect.value.data.flag = true;
        // SAFETY: one process and one setting, both alive during the call.
        let code = unsafe { self.function::<Fence>(c"PMIx_Fence")?(&all, 1, &collect, 1) };
        self.check("PMIx_Fence", code)
    }

    /// What a rank has left.
    pub(crate) fn bytes_of(&self, rank: u32, key: &str) -> Result<Vec<u8>, String> {
        let key = CString::new(key).map_err(|error| error.to_string())?;
        let value = self.get(&Proc { rank, ..self.me }, &key)?;
        // SAFETY: looked at only if the type says so.
        let object = unsafe { value.data.object };
        if value.kind != BYTE_OBJECT || object.bytes.is_null() {
            return Err(format!("rank {rank} has left nothing"));
        }
        // SAFETY: the library has allocated so many bytes and left them to us; they are freed once.
        Ok(unsafe {
            let bytes = std::slice::from_raw_parts(object.bytes.cast::<u8>(), object.size).to_vec();
            libc::free(object.bytes.cast::<c_void>());
            bytes
        })
    }

    /// Takes leave of the server.
    pub(crate) fn finalize(self) -> Result<(), String> {
        // SAFETY: no settings; nothing of the library is used afterwards, and it stays loaded.
        let code = unsafe { self.function::<Finalize>(c"PMIx_Finalize")?(ptr::null(), 0) };
        let result = self.check("PMIx_Finalize", code);
        std::mem::forget(self.library);
        result
    }

    fn get(&self, whose: &Proc, key: &CStr) -> Result<Value, String> {
        let mut found: *mut Value = ptr::null_mut();
        // SAFETY: as documented for PMIx_Get; on success `found` is a value that is ours.
        let code = unsafe { self.function::<Get>(c"PMIx_Get")?(whose, key.as_ptr(), ptr::null(), 0, &mut found) };
        self.check(&format!("PMIx_Get of {}", key.to_string_lossy()), code)?;
        if found.is_null() {
            return Err("PMIx_Get found nothing".into());
        }
        // SAFETY: the value was allocated by the library with `malloc` for us; what it points to stays.
        Ok(unsafe {
            let value = found.read();
            libc::free(found.cast::<c_void>());
            value
        })
    }

    fn whole_job(&self) -> Proc {
        Proc { rank: ALL_RANKS, ..self.me }
    }

    fn function<F: Copy>(&self, name: &CStr) -> Result<F, String> {
        // SAFETY: the types above are those of the functions of these names, whatever the version.
        let found = unsafe { self.library.get::<F>(name.to_bytes_with_nul()) };
        found.map(|function| *function).map_err(|error| error.to_string())
    }

    fn check(&self, what: &str, code: c_int) -> Result<(), String> {
        if code == SUCCESS {
            return Ok(());
        }
        // SAFETY: returns a string that lives as long as the library.
        let text = self.function::<ErrorString>(c"PMIx_Error_string").map(|say| unsafe { CStr::from_ptr(say(code)) });
        Err(format!("{what}: {} ({code})", text.map_or("?".into(), CStr::to_string_lossy)))
    }
}

pub(super) fn nobody() -> Proc {
    Proc { namespace: [0; NAMESPACE], rank: 0 }
}

pub(super) fn write_name(room: &mut [c_char], name: &[u8]) {
    room.iter_mut().zip(name).for_each(|(at, byte)| *at = *byte as c_char);
}
