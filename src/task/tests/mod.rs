//! Functions in another process: a worker that lives off its control socket alone, and what to ask it.

mod births;
mod forged;
mod functions;
mod misfortunes;
mod speed;
mod std_in_worker;

use std::{
    any::Any,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::process::ExitStatusExt,
    },
    process::{Child, Command, ExitStatus, Stdio},
};

use serde::{Deserialize, Serialize};

use super::{
    Failure, FnRef, Scope, Thunk,
    birth::{self, Hello},
    reference, resolve,
    thunk::{self, Function},
};
use crate::sys::socket;
use crate::wire::{self, Message};

const RECORD: usize = 128 << 10;

/// What comes back for a task.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Done(Vec<u8>),
    Failed(Failure),
    Unknown(String),
}

/// Why a task has no result, as the asking side sees it.
#[derive(Debug)]
enum Trouble {
    Failed(Failure),
    Unknown(String),
    Lost,
}

/// The entry of test workers: answers tasks until it is told to stop.
fn serve(_argument: &[u8]) {
    let birth = birth::take().unwrap();
    let mut context: Option<Box<dyn Any + Send + Sync>> = None;
    while let Ok(Some((record, _))) = socket::receive(&birth.socket, RECORD) {
        let Some((name, input)) = wire::decode::<Option<(FnRef, Vec<u8>)>>(&record).unwrap() else { return };
        let answer = answer(&name, &input, &mut context);
        send(birth.socket.as_fd(), &answer, &[]);
    }
}

fn answer(name: &FnRef, input: &[u8], context: &mut Option<Box<dyn Any + Send + Sync>>) -> Answer {
    let thunk = match resolve(name) {
        Ok(thunk) => thunk,
        Err(error) => return Answer::Unknown(error.to_string()),
    };
    let mut output = Vec::new();
    let mut scope = Scope::new(input, &mut output).with_context(context.as_deref());
    let done = thunk.call(&mut scope);
    let made = scope.made.take();
    *context = made.or(context.take());
    match done {
        Ok(()) => Answer::Done(output),
        Err(failure) => Answer::Failed(failure),
    }
}

fn send(socket: BorrowedFd<'_>, value: &impl Message, descriptors: &[BorrowedFd<'_>]) {
    let mut record = Vec::new();
    wire::encode(value, &mut record).unwrap();
    // A worker that is gone is noticed when its answer is awaited.
    let _ = socket::send(socket, &record, descriptors);
}

/// A process before it was told what to be.
fn newborn(parent: u32) -> (Child, OwnedFd) {
    let (ours, theirs) = socket::pair().unwrap();
    (newborn_on(parent, theirs), ours)
}

fn newborn_on(parent: u32, stdin: OwnedFd) -> Child {
    let mut command = Command::new("/proc/self/exe");
    command.env(birth::VARIABLE, parent.to_string()).stdin(stdin);
    command.spawn().unwrap()
}

fn hello<F: Function + Fn(&[u8])>(entry: F, argument: &[u8]) -> Hello {
    Hello { entry: reference(thunk::entry(entry)).unwrap(), argument: argument.into() }
}

struct Worker {
    child: Child,
    control: OwnedFd,
}

impl Worker {
    fn new() -> Worker {
        Worker::born(&hello(serve, b""), &[])
    }

    fn born(hello: &Hello, descriptors: &[BorrowedFd<'_>]) -> Worker {
        let (child, control) = newborn(std::process::id());
        send(control.as_fd(), hello, descriptors);
        Worker { child, control }
    }

    fn call<F: Function + Fn(T) -> R, T: Message, R: Message>(&mut self, f: F, argument: T) -> Result<R, Trouble> {
        let mut input = Vec::new();
        wire::encode(&argument, &mut input).unwrap();
        let output = self.run(thunk::one(f), input)?;
        Ok(wire::decode(&output).unwrap())
    }

    fn many<T: Message, R: Message>(&mut self, thunk: &'static Thunk, arguments: &[T]) -> Result<Vec<R>, Trouble> {
        let mut input = Vec::new();
        wire::encode_many(arguments, &mut input).unwrap();
        let output = self.run(thunk, input)?;
        Ok(wire::decode_many(&output).unwrap())
    }

    fn run(&mut self, thunk: &'static Thunk, input: Vec<u8>) -> Result<Vec<u8>, Trouble> {
        self.run_named(reference(thunk).unwrap(), input)
    }

    fn run_named(&mut self, name: FnRef, input: Vec<u8>) -> Result<Vec<u8>, Trouble> {
        send(self.control.as_fd(), &Some((name, input)), &[]);
        let Ok(Some((record, _))) = socket::receive(&self.control, RECORD) else { return Err(Trouble::Lost) };
        match wire::decode(&record).unwrap() {
            Answer::Done(output) => Ok(output),
            Answer::Failed(failure) => Err(Trouble::Failed(failure)),
            Answer::Unknown(why) => Err(Trouble::Unknown(why)),
        }
    }

    /// Tells it to stop, and how it ended.
    fn stop(mut self) -> ExitStatus {
        send(self.control.as_fd(), &None::<(FnRef, Vec<u8>)>, &[]);
        self.child.wait().unwrap()
    }

    /// How it ended without being told to.
    fn ended(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
