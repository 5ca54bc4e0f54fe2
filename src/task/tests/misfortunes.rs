//! Panics come back with message and place; harder ends are seen as what they are.

use std::panic::Location;

use rayon::prelude::*;

use super::*;

fn panic_of(trouble: Trouble) -> (String, String, Option<u64>) {
    match trouble {
        Trouble::Failed(Failure::Panicked { message, location, item }) => (message, location.unwrap_or_default(), item),
        other => panic!("not a panic: {other:?}"),
    }
}

/// The line `offset` lines behind the caller.
#[track_caller]
fn line_here(offset: u32) -> String {
    let here = Location::caller();
    format!("{}:{}:", here.file(), here.line() + offset)
}

#[test]
fn a_panic_has_message_and_place_and_the_worker_lives_on() {
    let mut worker = Worker::new();
    let place = line_here(2);
    let boom = |x: u32| {
        assert!(x != 1, "boom {x}");
        x
    };
    let (message, location, item) = panic_of(worker.call(boom, 1).unwrap_err());
    assert_eq!((message.as_str(), item), ("boom 1", None));
    assert!(location.starts_with(&place), "{location} is not {place}");
    assert_eq!(worker.call(boom, 2).unwrap(), 2);
    let (_, _, item) = panic_of(worker.many::<u32, u32>(thunk::many(boom), &[3, 2, 1, 0]).unwrap_err());
    assert_eq!(item, Some(2));
    let (message, location, item) =
        panic_of(worker.many::<u32, u32>(thunk::par_many(boom), &[3, 2, 1, 0]).unwrap_err());
    assert_eq!((message.as_str(), item), ("boom 1", Some(2)));
    assert!(location.starts_with(&place), "{location} is not {place}");
    assert!(worker.stop().success());
}

#[test]
fn panics_of_threads_a_task_started_surface_with_their_place() {
    let mut worker = Worker::new();
    let place = line_here(4);
    let in_rayon = |n: u32| {
        (0..n).into_par_iter().for_each(|x| {
            if x == 50 {
                panic!("rayon {x}")
            }
        })
    };
    let (message, location, _) = panic_of(worker.call(in_rayon, 100).unwrap_err());
    assert_eq!(message, "rayon 50");
    assert!(location.starts_with(&place), "{location} is not {place}");
    let resumed = |()| {
        let thread = std::thread::spawn(|| panic!("in a thread"));
        let Err::<(), _>(payload) = thread.join().map(drop) else { return };
        std::panic::resume_unwind(payload)
    };
    let (message, location, _) = panic_of(worker.call(resumed, ()).unwrap_err());
    assert_eq!(message, "in a thread");
    assert!(location.contains("misfortunes.rs:"), "{location}");
}

#[test]
fn odd_panics_are_panics_too() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("a payload that panics when dropped")
        }
    }
    let mut worker = Worker::new();
    let (message, ..) = panic_of(worker.call(|()| -> u8 { std::panic::panic_any(7u8) }, ()).unwrap_err());
    assert_eq!(message, "a panic whose payload is no text");
    let (message, ..) = panic_of(worker.call(|()| -> u8 { std::panic::panic_any(Bomb) }, ()).unwrap_err());
    assert_eq!(message, "a panic whose payload is no text");
    let caught = |()| {
        let _ = std::panic::catch_unwind(|| panic!("kept inside"));
        panic!("let out")
    };
    let (message, location, _) = panic_of(worker.call::<_, (), ()>(caught, ()).unwrap_err());
    assert_eq!(message, "let out");
    assert!(location.contains("misfortunes.rs:"), "{location}");
    assert!(worker.stop().success());
}

#[test]
fn a_panic_while_reading_or_writing_is_one_of_the_task() {
    #[derive(Serialize)]
    struct Trap;
    impl<'de> Deserialize<'de> for Trap {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Trap, D::Error> {
            panic!("cannot be read")
        }
    }
    let mut worker = Worker::new();
    let (message, ..) = panic_of(worker.call(|_: Trap| (), Trap).unwrap_err());
    assert_eq!(message, "cannot be read");
    let (_, _, item) = panic_of(worker.many::<Trap, ()>(thunk::many(|_: Trap| ()), &[Trap]).unwrap_err());
    assert_eq!(item, Some(0));
    let (message, ..) = panic_of(worker.run(thunk::context::<TrapContext>(), vec![]).unwrap_err());
    assert_eq!(message, "no context");
}

#[derive(Serialize)]
struct TrapContext;

impl<'de> Deserialize<'de> for TrapContext {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<TrapContext, D::Error> {
        panic!("no context")
    }
}

#[test]
fn panics_are_silent_in_tasks_and_loud_in_entries() {
    let quiet = |()| panic!("nobody hears this");
    let loud = |_: &[u8]| panic!("everybody hears this");
    assert_eq!(
        stderr_of(&hello(serve, b""), Some(reference(thunk::one::<_, (), ()>(quiet)).unwrap())),
        (0, String::new())
    );
    let (code, text) = stderr_of(&hello(loud, b""), None);
    assert_eq!(code, birth::PANICKED);
    assert!(text.contains("'dragon-worker'") && text.contains("everybody hears this"), "{text}");
}

/// Exit code and standard error of a child that runs one task, if any.
fn stderr_of(hello: &Hello, task: Option<FnRef>) -> (i32, String) {
    let (ours, theirs) = socket::pair().unwrap();
    let mut command = Command::new("/proc/self/exe");
    command.env(birth::VARIABLE, std::process::id().to_string()).env_remove("RUST_BACKTRACE");
    let child = command.stdin(theirs).stderr(Stdio::piped()).spawn().unwrap();
    send(ours.as_fd(), hello, &[]);
    for task in [task, None] {
        send(ours.as_fd(), &task.map(|task| (task, Vec::<u8>::new())), &[]);
    }
    let output = child.wait_with_output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn harder_ends_are_seen_as_what_they_are() {
    fn lost<F: Function + Fn(()) -> u64>(f: F) -> ExitStatus {
        let mut worker = Worker::new();
        assert!(matches!(worker.call(f, ()), Err(Trouble::Lost)));
        worker.child.wait().unwrap()
    }
    #[allow(unconditional_recursion)] // Running out of stack is the point.
    fn deep(n: u64) -> u64 {
        let frame = std::hint::black_box([n; 1000]);
        deep(n + 1) + frame[3]
    }
    assert_eq!(lost(|()| std::process::exit(3)).code(), Some(3));
    assert_eq!(lost(|()| std::process::abort()).signal(), Some(6));
    assert_eq!(lost(|()| deep(0)).code(), Some(birth::OVERFLOWED));
    let fault = |()| {
        // SAFETY: not safe at all; the worker is to die of it.
        unsafe { std::ptr::without_provenance::<u64>(std::hint::black_box(8)).read_volatile() }
    };
    assert_eq!(lost(fault).signal(), Some(11));
}
