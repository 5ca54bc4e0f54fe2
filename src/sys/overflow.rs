//! The end of a thread's stack as an exit code, instead of a segmentation fault like any other.
//!
//! The standard library does this for threads of a program that came through `main`; a child of ours
//! does not. Only one thread of a process is looked after: the one that runs the tasks.

use std::{
    ffi::{c_int, c_void},
    io,
    mem::{MaybeUninit, zeroed},
    ops::Range,
    ptr,
    sync::OnceLock,
};

/// For the handler, which cannot run on a stack that is full.
const HANDLERS_STACK: usize = 64 << 10;

struct Watch {
    guard: Range<usize>,
    code: i32,
}

static WATCH: OnceLock<Watch> = OnceLock::new();

/// From now on the process exits with `code` when the calling thread overflows its stack. Nothing
/// changes if somebody (a sanitizer, a constructor) looks after segmentation faults already.
pub(crate) fn exit_on_overflow(code: i32) -> io::Result<()> {
    if handler()? != libc::SIG_DFL {
        return Ok(());
    }
    let guard = guard_of_this_thread()?;
    if WATCH.set(Watch { guard, code }).is_err() {
        return Ok(());
    }
    use_handlers_stack()?;
    // SAFETY: all zeroes is a valid `sigaction`: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { zeroed() };
    action.sa_sigaction = on_fault as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the handler has the signature that SA_SIGINFO asks for, and calls only what a handler may.
    checked(unsafe { libc::sigaction(libc::SIGSEGV, &action, ptr::null_mut()) })
}

/// What is done about segmentation faults now.
fn handler() -> io::Result<libc::sighandler_t> {
    // SAFETY: all zeroes is a valid `sigaction`.
    let mut now: libc::sigaction = unsafe { zeroed() };
    // SAFETY: only reads, into a structure of ours.
    checked(unsafe { libc::sigaction(libc::SIGSEGV, ptr::null(), &mut now) })?;
    Ok(now.sa_sigaction)
}

fn use_handlers_stack() -> io::Result<()> {
    // Never freed: the thread that faults on it is the last thing that happens in this process.
    let stack: &'static mut [u8] = Box::leak(vec![0; HANDLERS_STACK].into_boxed_slice());
    let stack = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: stack.len() };
    // SAFETY: the memory is ours alone, for good.
    checked(unsafe { libc::sigaltstack(&stack, ptr::null_mut()) })
}

/// The addresses that a full stack runs into.
fn guard_of_this_thread() -> io::Result<Range<usize>> {
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    let (mut lowest, mut size, mut guard) = (ptr::null_mut::<c_void>(), 0, 0);
    // SAFETY: the first call initialises the attributes, the others read them and destroy them once.
    let failed = unsafe {
        let failed = libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr());
        if failed != 0 {
            return Err(io::Error::from_raw_os_error(failed));
        }
        let failed = libc::pthread_attr_getstack(attributes.as_ptr(), &mut lowest, &mut size)
            | libc::pthread_attr_getguardsize(attributes.as_ptr(), &mut guard);
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        failed
    };
    if failed != 0 {
        return Err(io::ErrorKind::Unsupported.into());
    }
    // C libraries differ, also by version, in whether they count the guard as part of the stack.
    let lowest = lowest as usize;
    Ok(lowest.saturating_sub(guard)..lowest + guard)
}

/// # Safety
/// Called by the kernel only, as `SA_SIGINFO` promises.
unsafe extern "C" fn on_fault(_signal: c_int, info: *mut libc::siginfo_t, _context: *mut c_void) {
    // SAFETY: the kernel passes a valid record, and for this signal it has an address.
    let address = unsafe { (*info).si_addr() } as usize;
    if let Some(watch) = WATCH.get().filter(|watch| watch.guard.contains(&address)) {
        super::birth::exit_at_once(watch.code);
    }
    // Not ours. The instruction runs again when this returns, and then the fault ends the process.
    // SAFETY: `signal` may be called in a handler.
    unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
}

fn checked(result: c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
