//! The machine without the library: cores, shared words, forked partners, futexes and spawned programs.
//!
//! What the library is compared with must not come from the library, so this is written again, as plainly as
//! it goes. Failures end the bench: there is nobody to report to but the one who reads the panic.

use std::{
    ffi::CString,
    io, mem,
    ops::Deref,
    ptr::{self, NonNull},
    sync::atomic::AtomicU32,
};

/// A type whose value may be all zero bytes, and that is shared by atomics or by turns.
///
/// # Safety
/// Both must be so.
pub unsafe trait Sharable {}

/// A zeroed value in memory that forked children share. It stays mapped until dropped.
pub struct Shared<T: Sharable>(NonNull<T>);

impl<T: Sharable> Shared<T> {
    /// Maps it, with all its pages present.
    pub fn new() -> Shared<T> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
        // SAFETY: a new mapping at a place the kernel chooses disturbs nobody.
        let at = unsafe { libc::mmap(ptr::null_mut(), size_of::<T>(), protection, flags, -1, 0) };
        assert!(at != libc::MAP_FAILED, "mmap: {}", io::Error::last_os_error());
        Shared(NonNull::new(at.cast()).unwrap())
    }
}

impl<T: Sharable> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: mapped, aligned to a page, and zero is a value of it (`Sharable`).
        unsafe { self.0.as_ref() }
    }
}

impl<T: Sharable> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length; nobody in this process holds a reference any more.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<T>()) };
    }
}

/// The two cores on which partners run: the first two this process may use, or twice the only one.
pub fn two_cores() -> [usize; 2] {
    let allowed = affinity();
    // SAFETY: plain bits; the index is below the set's size.
    let mut cores = (0..libc::CPU_SETSIZE as usize).filter(|core| unsafe { libc::CPU_ISSET(*core, &allowed) });
    let first = cores.next().expect("this thread runs somewhere");
    [first, cores.next().unwrap_or(first)]
}

fn affinity() -> libc::cpu_set_t {
    // SAFETY: a set of bits; none set is a value of it.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the pointer and the length are those of the set.
    let failed = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) };
    assert_eq!(failed, 0, "sched_getaffinity: {}", io::Error::last_os_error());
    set
}

/// Keeps this thread on one core until the guard is dropped.
pub fn pin(core: usize) -> Pinned {
    let before = affinity();
    // SAFETY: a set of bits; none set is a value of it.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the core is one that `two_cores` named, so within the set.
    unsafe { libc::CPU_SET(core, &mut set) };
    apply(&set);
    Pinned { before }
}

/// Lets the thread go where it might go before.
pub struct Pinned {
    before: libc::cpu_set_t,
}

impl Drop for Pinned {
    fn drop(&mut self) {
        apply(&self.before);
    }
}

fn apply(set: &libc::cpu_set_t) {
    // SAFETY: the pointer and the length are those of the set.
    let failed = unsafe { libc::sched_setaffinity(0, size_of_val(set), set) };
    assert_eq!(failed, 0, "sched_setaffinity: {}", io::Error::last_os_error());
}

/// A child made by `fork`, reaped when dropped.
pub struct Partner(libc::pid_t);

/// Runs `body` in a forked child on a core of its own. `body` must not allocate, print or take a lock: other
/// threads of this process may have held those when it was copied.
pub fn fork_on(core: usize, body: impl FnOnce()) -> Partner {
    // SAFETY: the child calls only `body`, of which the caller promises that it needs nothing of other threads.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", io::Error::last_os_error());
    if pid != 0 {
        return Partner(pid);
    }
    // The child must never return into the bench, not even by a panic.
    let end = LeaveOnDrop;
    // SAFETY: plain calls with plain numbers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    mem::forget(pin(core));
    body();
    drop(end);
    unreachable!("the guard has left")
}

struct LeaveOnDrop;

impl Drop for LeaveOnDrop {
    fn drop(&mut self) {
        // SAFETY: ends this process without running anything of it.
        unsafe { libc::_exit(i32::from(std::thread::panicking())) };
    }
}

impl Drop for Partner {
    fn drop(&mut self) {
        reap(self.0);
    }
}

/// Nanoseconds of a clock that all processes of the machine share.
pub fn clock() -> u64 {
    // SAFETY: plain numbers; zero is a value of them.
    let mut at: libc::timespec = unsafe { mem::zeroed() };
    // SAFETY: the pointer is to a local value.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut at) };
    at.tv_sec as u64 * 1_000_000_000 + at.tv_nsec as u64
}

/// Pages that this thread has touched for the first time, so far.
pub fn page_faults() -> u64 {
    // SAFETY: plain numbers; zero is a value of them.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    // SAFETY: the pointer is to a local value.
    unsafe { libc::getrusage(libc::RUSAGE_THREAD, &mut usage) };
    usage.ru_minflt as u64
}

/// Sleeps while the word has this value, at least until somebody wakes.
pub fn futex_wait(word: &AtomicU32, value: u32) {
    let no_limit = ptr::null::<libc::timespec>();
    // SAFETY: the word is mapped; the kernel only reads it.
    unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAIT, value, no_limit) };
}

/// Wakes this many that sleep on the word.
pub fn futex_wake(word: &AtomicU32, sleepers: i32) {
    // SAFETY: the kernel uses the address as a name only.
    unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAKE, sleepers) };
}

/// A program with its arguments, ready to be started again and again at the least cost there is.
pub struct Program {
    argv: Vec<CString>,
    environment: Vec<CString>,
}

impl Program {
    /// A program that gets this process's environment and one more variable.
    pub fn new(path: &str, variable: Option<(&str, &str)>) -> Program {
        let inherited = std::env::vars().map(|(name, value)| format!("{name}={value}"));
        let added = variable.map(|(name, value)| format!("{name}={value}"));
        let text = |text: String| CString::new(text).expect("no variable holds a zero byte");
        Program { argv: vec![text(path.into())], environment: inherited.chain(added).map(text).collect() }
    }

    /// Starts it by `posix_spawn` and returns its process id, to be given to [`reap`].
    pub fn spawn(&self) -> libc::pid_t {
        let argv = pointers(&self.argv);
        let environment = pointers(&self.environment);
        let (no_actions, no_attributes) = (ptr::null(), ptr::null());
        let mut pid = 0;
        // SAFETY: both lists hold texts that outlive the call and end with a null pointer.
        let failed = unsafe {
            let path = self.argv[0].as_ptr();
            libc::posix_spawn(&mut pid, path, no_actions, no_attributes, argv.as_ptr(), environment.as_ptr())
        };
        assert_eq!(failed, 0, "posix_spawn {:?}: {}", self.argv[0], io::Error::from_raw_os_error(failed));
        pid
    }
}

fn pointers(texts: &[CString]) -> Vec<*mut libc::c_char> {
    texts.iter().map(|text| text.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect()
}

/// Waits until the child has ended, and insists that it ended well.
pub fn reap(child: libc::pid_t) {
    let mut status = 0;
    // SAFETY: the pointer is to a local number.
    let reaped = unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!((reaped, status), (child, 0), "a partner failed");
}
