//! The server half of libpmix: what Open MPI's ranks talk to. In a process of its own (`pmix_office.rs`), because a process
//! that was a client of the library must not be a server, and one that dies in the library must not be the user's.
//!
//! What the library wants to know it asks by calling back, on a thread of its own that must not wait. So each call becomes a
//! value on a channel, and is answered later, from another thread, by what the library left for that: a [`Waiting`].
//!
//! ```text
//! pmix_server_module_t: 64 pointers, null but for   2 abort   3 fence_nb   4 direct_modex   27 client_connected2
//!                                                   0 client_connected     1 client_finalized
//! ```
//! The table has grown at its end only, so one that is longer than any is good for all versions from 2 to 7.

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    ptr,
    sync::{
        OnceLock,
        mpsc::{Receiver, Sender, channel},
    },
};

use libloading::Library;

use super::pmix::{
    ALL_RANKS, BOOL, Data, ErrorString, Info, Proc, SUCCESS, UINT32, Value, nobody, unloaded, write_name,
};
use super::pmix_words::Opening;

const STRING: u16 = 3;
const UINT16: u16 = 13;
const INFO: u16 = 24;
const DATA_ARRAY: u16 = 39;
const PROC_RANK: u16 = 40;
const ERROR: c_int = -1;
const NOT_SUPPORTED: c_int = -47;
/// Done inside the call: there will be no other answer.
const DONE: c_int = -157;

/// What the library calls when an operation is done.
type Done = Option<unsafe extern "C" fn(c_int, *mut c_void)>;
type LetGo = Option<unsafe extern "C" fn(*mut c_void)>;
type Answer = Option<unsafe extern "C" fn(c_int, *const c_char, usize, *mut c_void, LetGo, *mut c_void)>;
type Heard = Option<unsafe extern "C" fn(c_int, *mut c_char, usize, *mut c_void)>;

type ServerInit = unsafe extern "C" fn(*mut c_void, *const Info, usize) -> c_int;
type RegisterNamespace = unsafe extern "C" fn(*const c_char, c_int, *const Info, usize, Done, *mut c_void) -> c_int;
type SetupLocalSupport = unsafe extern "C" fn(*const c_char, *const Info, usize, Done, *mut c_void) -> c_int;
type RegisterClient = unsafe extern "C" fn(*const Proc, u32, u32, *mut c_void, Done, *mut c_void) -> c_int;
type DeregisterNamespace = unsafe extern "C" fn(*const c_char, Done, *mut c_void);
type SetupFork = unsafe extern "C" fn(*const Proc, *mut *mut *mut c_char) -> c_int;
type Generate = unsafe extern "C" fn(*const c_char, *mut *mut c_char) -> c_int;
type RequestModex = unsafe extern "C" fn(*const Proc, Heard, *mut c_void) -> c_int;

/// What the library asks.
pub(super) enum Call {
    Fence {
        name: String,
        ranks: Vec<u32>,
        left: Vec<u8>,
        answer: Waiting,
    },
    Want {
        name: String,
        rank: u32,
        answer: Waiting,
    },
    Abort {
        name: String,
        rank: u32,
        code: i32,
        words: String,
    },
    /// An answer to [`Server::seek`].
    Left {
        ticket: u64,
        what: Result<Vec<u8>, String>,
    },
    /// All that was called before has come.
    Heard {
        ticket: u64,
    },
}

/// How an answer reaches the library.
pub(super) struct Waiting {
    answer: Answer,
    data: *mut c_void,
}

// SAFETY: the library says that its answers may be given from any thread; the pointer is handed back and nothing else.
unsafe impl Send for Waiting {}

impl Waiting {
    /// Gives the answer, whose bytes the library reads later and then releases.
    pub(super) fn answer(self, what: Result<Vec<u8>, String>) {
        let Some(answer) = self.answer else { return };
        let (code, bytes) = match what {
            Ok(bytes) => (SUCCESS, bytes),
            Err(_) => (ERROR, Vec::new()),
        };
        let bytes = Box::new(bytes);
        let (at, length) = (bytes.as_ptr().cast::<c_char>(), bytes.len());
        let owner = Box::into_raw(bytes).cast::<c_void>();
        // SAFETY: the function and its word are the library's own; the bytes live until it calls `release` with `owner`.
        unsafe { answer(code, at, length, self.data, Some(release), owner) };
    }
}

/// # Safety
/// `owner` is what [`Waiting::answer`] gave with the bytes, and it is called once.
unsafe extern "C" fn release(owner: *mut c_void) {
    // SAFETY: made by `Box::into_raw` from this type.
    drop(unsafe { Box::from_raw(owner.cast::<Vec<u8>>()) });
}

static CALLS: OnceLock<Sender<Call>> = OnceLock::new();

fn tell(call: Call) -> bool {
    CALLS.get().is_some_and(|calls| calls.send(call).is_ok())
}

/// # Safety
/// Called by the library with one process.
unsafe extern "C" fn connected(
    _: *const Proc,
    _: *mut c_void,
    _: *const Info,
    _: usize,
    _: Done,
    _: *mut c_void,
) -> c_int {
    DONE
}

/// # Safety
/// Called by the library with one process; versions before 4.1 call this one.
unsafe extern "C" fn came_or_went(_: *const Proc, _: *mut c_void, _: Done, _: *mut c_void) -> c_int {
    DONE
}

/// # Safety
/// Called by the library with one process and a string or null.
unsafe extern "C" fn aborts(
    who: *const Proc,
    _: *mut c_void,
    code: c_int,
    words: *const c_char,
    _: *const Proc,
    _: usize,
    _: Done,
    _: *mut c_void,
) -> c_int {
    // SAFETY: valid for the duration of this call.
    let (who, words) = unsafe { (who.as_ref(), text(words)) };
    let Some(who) = who else { return ERROR };
    tell(Call::Abort { name: name_of(who), rank: who.rank, code, words });
    DONE
}

/// # Safety
/// Called by the library when all ranks here of a fence have come; `data` is ours from now on.
unsafe extern "C" fn all_came(
    who: *const Proc,
    count: usize,
    _: *const Info,
    _: usize,
    data: *mut c_char,
    length: usize,
    answer: Answer,
    word: *mut c_void,
) -> c_int {
    // SAFETY: so many processes, and so many bytes that were allocated by `malloc`, if any.
    let (who, left) = unsafe {
        let who = if who.is_null() { &[][..] } else { std::slice::from_raw_parts(who, count) };
        let left =
            if data.is_null() { Vec::new() } else { std::slice::from_raw_parts(data.cast::<u8>(), length).to_vec() };
        libc::free(data.cast());
        (who, left)
    };
    let Some(first) = who.first() else { return ERROR };
    let name = name_of(first);
    if who.iter().any(|other| name_of(other) != name) {
        return NOT_SUPPORTED;
    }
    let mut ranks: Vec<u32> = who.iter().map(|who| who.rank).collect();
    ranks.sort_unstable();
    if ranks.contains(&ALL_RANKS) {
        ranks.clear();
    }
    if tell(Call::Fence { name, ranks, left, answer: Waiting { answer, data: word } }) { SUCCESS } else { ERROR }
}

/// # Safety
/// Called by the library when a rank here wants what one of another node has left.
unsafe extern "C" fn wants(who: *const Proc, _: *const Info, _: usize, answer: Answer, word: *mut c_void) -> c_int {
    // SAFETY: valid for the duration of this call.
    let Some(who) = (unsafe { who.as_ref() }) else { return ERROR };
    let call = Call::Want { name: name_of(who), rank: who.rank, answer: Waiting { answer, data: word } };
    if tell(call) { SUCCESS } else { ERROR }
}

/// # Safety
/// Called by the library, once, with the word that [`Server::seek`] gave it.
unsafe extern "C" fn heard(code: c_int, data: *mut c_char, length: usize, word: *mut c_void) {
    let what = match (code, data.is_null()) {
        (SUCCESS, true) => Ok(Vec::new()),
        // SAFETY: so many bytes, for the duration of this call.
        (SUCCESS, false) => Ok(unsafe { std::slice::from_raw_parts(data.cast::<u8>(), length) }.to_vec()),
        _ => Err(format!("PMIx error {code}")),
    };
    tell(Call::Left { ticket: word as u64, what });
}

/// # Safety
/// Called by the library, once, with the sender that [`Server::wait`] left for it.
unsafe extern "C" fn done(code: c_int, sender: *mut c_void) {
    // SAFETY: made by `Box::into_raw` from this type.
    let sender = unsafe { Box::from_raw(sender.cast::<Sender<c_int>>()) };
    // Nobody who gave up is told.
    let _ = sender.send(code);
}

/// The library, as a server.
pub(super) struct Server {
    library: Library,
    folder: String,
    /// The library keeps its address.
    _module: Box<[*mut c_void; 64]>,
}

impl Server {
    /// Loads the first of the libraries that can be loaded and begins; what it asks comes over the channel.
    pub(super) fn begin(libraries: &[String], folder: &str, host: &str) -> Result<(Server, Receiver<Call>), String> {
        let (calls, asked) = channel();
        CALLS.set(calls).map_err(|_| "it has begun already")?;
        let mut why = "no library to try".to_string();
        let load = |path: &String| {
            // SAFETY: this is libpmix, if anything of that name; its constructors are meant to be run in any program.
            unsafe { Library::new(path) }.map_err(|error| why = unloaded(path, &error)).ok()
        };
        let Some(library) = libraries.iter().find_map(load) else {
            return Err(format!(
                "libpmix cannot be loaded: {why}; install libpmix2 (Debian) or pmix, or let DRAGON_LIBPMIX name it"
            ));
        };
        let mut module = Box::new([ptr::null_mut(); 64]);
        module[0] = came_or_went as *mut c_void;
        module[1] = came_or_went as *mut c_void;
        module[2] = aborts as *mut c_void;
        module[3] = all_came as *mut c_void;
        module[4] = wants as *mut c_void;
        module[27] = connected as *mut c_void;
        let mut facts = Facts::default();
        facts.text("pmix.srvr.tmpdir", folder);
        facts.text("pmix.hname", host);
        facts.text("pmix.srv.nspace", &format!("dragon-server-{}", std::process::id()));
        facts.number("pmix.srv.rank", PROC_RANK, 0);
        let table = module.as_mut_ptr().cast::<c_void>();
        let server = Server { library, folder: folder.into(), _module: module };
        // SAFETY: as documented; the table and the facts outlive the call, the table the server.
        let code = unsafe { server.function::<ServerInit>(c"PMIx_server_init")?(table, facts.as_ptr(), facts.len()) };
        server.check("PMIx_server_init", code)?;
        Ok((server, asked))
    }

    /// Serves a team: the environments of its ranks here.
    pub(super) fn open(&self, team: &Opening) -> Result<Vec<Vec<(String, String)>>, String> {
        let name = c_string(&team.name)?;
        let here: Vec<u32> =
            (0..).zip(&team.places).filter(|(_, at)| **at == team.place).map(|(rank, _)| rank).collect();
        let facts = self.facts(team, &here)?;
        // SAFETY: as documented; the library copies all of it before it says that it is done.
        self.wait("PMIx_server_register_nspace", |done, word| unsafe {
            let register = self.function::<RegisterNamespace>(c"PMIx_server_register_nspace")?;
            Ok(register(name.as_ptr(), here.len() as c_int, facts.as_ptr(), facts.len(), done, word))
        })?;
        // SAFETY: as documented; no facts.
        self.wait("PMIx_server_setup_local_support", |done, word| unsafe {
            let setup = self.function::<SetupLocalSupport>(c"PMIx_server_setup_local_support")?;
            Ok(setup(name.as_ptr(), ptr::null(), 0, done, word))
        })?;
        here.iter().map(|rank| self.admit(&team.name, *rank)).collect()
    }

    fn admit(&self, name: &str, rank: u32) -> Result<Vec<(String, String)>, String> {
        let who = proc(name, rank);
        // SAFETY: take nothing and cannot fail.
        let (user, group) = unsafe { (libc::getuid(), libc::getgid()) };
        // SAFETY: as documented; `who` outlives the wait.
        self.wait("PMIx_server_register_client", |done, word| unsafe {
            let register = self.function::<RegisterClient>(c"PMIx_server_register_client")?;
            Ok(register(&who, user, group, ptr::null_mut(), done, word))
        })?;
        let mut list: *mut *mut c_char = ptr::null_mut();
        // SAFETY: as documented; the list is null or ends with null, and is left to us.
        let code = unsafe { self.function::<SetupFork>(c"PMIx_server_setup_fork")?(&who, &mut list) };
        self.check("PMIx_server_setup_fork", code)?;
        let mut all = Vec::new();
        while !list.is_null() {
            // SAFETY: entries up to the null are strings.
            let entry = unsafe { *list.add(all.len()) };
            if entry.is_null() {
                break;
            }
            // SAFETY: as above.
            let entry = unsafe { text(entry) };
            all.push(entry.split_once('=').map(|(name, value)| (name.into(), value.into())).unwrap_or_default());
        }
        Ok(all)
    }

    /// Serves a team no more.
    pub(super) fn close(&self, name: &str) {
        let closed = c_string(name).and_then(|name| {
            self.wait("PMIx_server_deregister_nspace", |done, word| {
                let deregister = self.function::<DeregisterNamespace>(c"PMIx_server_deregister_nspace")?;
                // SAFETY: as documented; it answers in any case.
                unsafe { deregister(name.as_ptr(), done, word) };
                Ok(SUCCESS)
            })
        });
        if let Err(why) = closed {
            tracing::warn!(name, why, "a team of MPI ranks is not forgotten");
        }
    }

    /// Asks for what a rank of this node has left; the answer comes as [`Call::Left`].
    pub(super) fn seek(&self, name: &str, rank: u32, ticket: u64) {
        let who = proc(name, rank);
        let asked = self.function::<RequestModex>(c"PMIx_server_dmodex_request").and_then(|request| {
            // SAFETY: as documented; the ticket is handed back and nothing else.
            let code = unsafe { request(&who, Some(heard), ticket as *mut c_void) };
            self.check("PMIx_server_dmodex_request", code)
        });
        if let Err(why) = asked {
            tell(Call::Left { ticket, what: Err(why) });
        }
    }

    /// Comes behind all calls that were made before, as [`Call::Heard`].
    pub(super) fn come_back(ticket: u64) {
        tell(Call::Heard { ticket });
    }

    /// What the ranks may know of the team.
    fn facts(&self, team: &Opening, here: &[u32]) -> Result<Facts, String> {
        let size = team.places.len() as u64;
        let ranks_at =
            |place: u32| (0..).zip(&team.places).filter(move |(_, at)| **at == place).map(|(rank, _): (u32, _)| rank);
        let list = |place: u32| ranks_at(place).map(|rank| rank.to_string()).collect::<Vec<_>>().join(",");
        let lists: Vec<String> = (0..team.hosts.len() as u32).map(list).collect();
        let mut facts = Facts::default();
        for key in ["pmix.univ.size", "pmix.job.size", "pmix.max.size", "pmix.app.size"] {
            facts.number(key, UINT32, size);
        }
        facts.number("pmix.job.napps", UINT32, 1);
        facts.number("pmix.num.nodes", UINT32, team.hosts.len() as u64);
        facts.number("pmix.local.size", UINT32, here.len() as u64);
        facts.number("pmix.node.size", UINT32, here.len() as u64);
        facts.number("pmix.lldr", PROC_RANK, here.first().copied().unwrap_or_default().into());
        facts.number("pmix.tdir.rmclean", BOOL, 1);
        facts.text("pmix.jobid", &team.name);
        facts.text("pmix.nlist", &team.hosts.join(","));
        facts.text("pmix.lpeers", &lists[team.place as usize]);
        facts.text("pmix.tmpdir", &self.folder);
        facts.text("pmix.nsdir", &self.folder);
        facts.text("pmix.nmap", &self.generate(c"PMIx_generate_regex", &team.hosts.join(","))?);
        facts.text("pmix.pmap", &self.generate(c"PMIx_generate_ppn", &lists.join(";"))?);
        let mut locals = vec![0u64; team.hosts.len()];
        for (rank, place) in (0u64..).zip(&team.places) {
            let local = std::mem::replace(&mut locals[*place as usize], 0);
            locals[*place as usize] = local + 1;
            facts.of_rank(rank, local, *place, &team.hosts[*place as usize]);
        }
        Ok(facts)
    }

    /// A list in the library's own short form.
    fn generate(&self, how: &CStr, list: &str) -> Result<String, String> {
        let list = c_string(list)?;
        let mut made = ptr::null_mut();
        // SAFETY: as documented; on success `made` is a string that is left to us.
        let code = unsafe { self.function::<Generate>(how)?(list.as_ptr(), &mut made) };
        self.check(&how.to_string_lossy(), code)?;
        // SAFETY: as above.
        Ok(unsafe { text(made) })
    }

    /// Calls something that answers by [`done`], and waits for that.
    fn wait(&self, what: &str, call: impl FnOnce(Done, *mut c_void) -> Result<c_int, String>) -> Result<(), String> {
        let (sender, answer) = channel::<c_int>();
        let word = Box::into_raw(Box::new(sender)).cast();
        // On an error the library has not kept the sender; a few bytes are lost then.
        match call(Some(done), word)? {
            SUCCESS => self.check(what, answer.recv().unwrap_or(ERROR)),
            DONE => Ok(()),
            code => self.check(what, code),
        }
    }

    fn function<F: Copy>(&self, name: &CStr) -> Result<F, String> {
        // SAFETY: the types above are those of the functions of these names, whatever the version.
        let found = unsafe { self.library.get::<F>(name.to_bytes_with_nul()) };
        found.map(|function| *function).map_err(|error| error.to_string())
    }

    fn check(&self, what: &str, code: c_int) -> Result<(), String> {
        if code == SUCCESS || code == DONE {
            return Ok(());
        }
        // SAFETY: returns a string that lives as long as the library.
        let say = self.function::<ErrorString>(c"PMIx_Error_string").map(|say| unsafe { text(say(code)) });
        Err(format!("{what}: {} ({code})", say.unwrap_or_default()))
    }
}

/// `pmix_data_array_t`.
#[repr(C)]
struct Array {
    kind: u16,
    size: usize,
    items: *mut c_void,
}

/// A list of `pmix_info_t`, with all that they point to.
#[derive(Default)]
struct Facts {
    all: Vec<Info>,
    texts: Vec<CString>,
    arrays: Vec<(Box<Array>, Facts)>,
}

impl Facts {
    fn push(&mut self, key: &str, kind: u16, room: [u64; 3]) -> &mut Info {
        let mut info = Info { key: [0; 512], flags: 0, value: Value { kind, data: Data { room } } };
        write_name(&mut info.key, key.as_bytes());
        self.all.push(info);
        let last = self.all.len() - 1;
        &mut self.all[last]
    }

    /// Any number: its bytes lie at the beginning of the value, whatever its width.
    fn number(&mut self, key: &str, kind: u16, number: u64) {
        let mut bytes = [0; 8];
        match kind {
            BOOL => bytes[0] = number as u8,
            UINT16 => bytes[..2].copy_from_slice(&(number as u16).to_ne_bytes()),
            _ => bytes[..4].copy_from_slice(&(number as u32).to_ne_bytes()),
        }
        self.push(key, kind, [u64::from_ne_bytes(bytes), 0, 0]);
    }

    fn text(&mut self, key: &str, text: &str) {
        // Names and paths hold no zero.
        let text = CString::new(text).unwrap_or_default();
        self.push(key, STRING, [0; 3]).value.data.pointer = text.as_ptr().cast_mut().cast();
        self.texts.push(text);
    }

    fn of_rank(&mut self, rank: u64, local: u64, place: u32, host: &str) {
        let mut facts = Facts::default();
        for key in ["pmix.rank", "pmix.apprank", "pmix.grank"] {
            facts.number(key, PROC_RANK, rank);
        }
        facts.number("pmix.appnum", UINT32, 0);
        facts.number("pmix.lrank", UINT16, local);
        facts.number("pmix.nrank", UINT16, local);
        facts.number("pmix.nodeid", UINT32, place.into());
        facts.text("pmix.hname", host);
        let items = facts.all.as_mut_ptr().cast();
        let mut array = Box::new(Array { kind: INFO, size: facts.len(), items });
        self.push("pmix.pdata", DATA_ARRAY, [0; 3]).value.data.pointer = (&raw mut *array).cast();
        self.arrays.push((array, facts));
    }

    fn as_ptr(&self) -> *const Info {
        self.all.as_ptr()
    }

    fn len(&self) -> usize {
        self.all.len()
    }
}

fn proc(name: &str, rank: u32) -> Proc {
    let mut who = nobody();
    // The last byte stays zero.
    let most = who.namespace.len() - 1;
    write_name(&mut who.namespace[..most], name.as_bytes());
    who.rank = rank;
    who
}

fn name_of(who: &Proc) -> String {
    let name: Vec<u8> = who.namespace.iter().map(|byte| *byte as u8).take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&name).into_owned()
}

fn c_string(text: &str) -> Result<CString, String> {
    CString::new(text).map_err(|error| error.to_string())
}

/// # Safety
/// Null or a C string.
unsafe fn text(at: *const c_char) -> String {
    if at.is_null() {
        return String::new();
    }
    // SAFETY: as the caller promises.
    unsafe { CStr::from_ptr(at) }.to_string_lossy().into_owned()
}
