//! Descriptors of functions: whatever the types, one signature from bytes to bytes.
//!
//! For every function that is sent somewhere the compiler makes one [`Thunk`] in the constant data of
//! the image that sends it; every process of the build has it at the same place. The function itself is
//! not in it and need not be: a `fn` item or a closure without captures is a type with one value and no
//! bytes, so that the type, which the thunk's code was compiled for, is all of it.

use std::{
    any::{Any, TypeId, type_name},
    cell::Cell,
    io::Write,
    marker::PhantomData,
    ptr::NonNull,
};

use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};

use super::{Failure, panics};
use crate::wire::{self, Items, Message};

/// What a descriptor starts with. Changes with the layout of [`Thunk`] and of what its call expects.
pub(super) const MAGIC: u64 = 0x6472_6167_6f6e_0001;

/// What says that two images mean the same by [`Thunk`] and [`Scope`]: it differs with the compiler, the
/// version of this library and its features, and only then.
pub(super) const KIN: TypeId = TypeId::of::<Thunk>();

/// Runs a function: argument in, result or failure out.
pub(crate) type Call = fn(&mut Scope<'_>) -> Result<(), Failure>;

/// A function that can be named in every process of the build.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Thunk {
    pub(super) magic: u64,
    pub(super) call: Call,
    pub(super) name: fn() -> &'static str,
    /// The name of everything that makes this thunk different from others: function, types, way to call.
    pub(super) identity: fn() -> &'static str,
    pub(super) kin: TypeId,
}

impl Thunk {
    /// The function's name for people.
    pub(crate) fn name(&self) -> &'static str {
        (self.name)()
    }

    /// Runs it. A panic of the function is a failure here, except in a process entry, whose panic is the
    /// process's. On failure `scope.output` is as it was.
    #[inline]
    pub(crate) fn call(&self, scope: &mut Scope<'_>) -> Result<(), Failure> {
        (self.call)(scope)
    }
}

/// What a call works on.
pub(crate) struct Scope<'a> {
    /// The encoded argument, all of it.
    pub(crate) input: &'a [u8],
    /// Where the encoded result is appended.
    pub(crate) output: &'a mut Vec<u8>,
    /// What `many_with` calls its function with.
    pub(crate) context: Option<&'a (dyn Any + Send + Sync)>,
    /// What `context` makes.
    pub(crate) made: Option<Box<dyn Any + Send + Sync>>,
}

impl<'a> Scope<'a> {
    /// Argument and room for the result; no context.
    pub(crate) fn new(input: &'a [u8], output: &'a mut Vec<u8>) -> Self {
        Scope { input, output, context: None, made: None }
    }

    /// With the context that an earlier call made.
    pub(crate) fn with_context(mut self, context: Option<&'a (dyn Any + Send + Sync)>) -> Self {
        self.context = context;
        self
    }
}

/// What every function that travels must be.
pub(crate) trait Function: Copy + Send + Sync + 'static {}

impl<F: Copy + Send + Sync + 'static> Function for F {}

/// One argument, one result.
pub(crate) fn one<F: Function + Fn(T) -> R, T: Message, R: Message>(_held: F) -> &'static Thunk {
    descriptor!(One<F, T, R>, F)
}

/// A sequence of arguments, the sequence of their results.
pub(crate) fn many<F: Function + Fn(T) -> R, T: Message, R: Message>(_held: F) -> &'static Thunk {
    descriptor!(Many<F, T, R>, F)
}

/// As [`many`], by a function that also gets the context.
pub(crate) fn many_with<C, F, T, R>(_held: F) -> &'static Thunk
where
    C: Message + Sync,
    F: Function + Fn(&C, T) -> R,
    T: Message,
    R: Message,
{
    descriptor!(ManyWith<C, F, T, R>, F)
}

/// As [`many`], on all threads of rayon's.
pub(crate) fn par_many<F: Function + Fn(T) -> R, T: Message, R: Message>(_held: F) -> &'static Thunk {
    descriptor!(ParMany<F, T, R>, F)
}

/// Reads a context into `scope.made`.
pub(crate) fn context<C: Message + Sync>() -> &'static Thunk {
    descriptor!(Context<C>, C)
}

/// Reads an argument and puts what the function makes of it into `scope.made`.
pub(crate) fn make<F, T, R>(_held: F) -> &'static Thunk
where
    F: Function + Fn(T) -> R,
    T: Message,
    R: Send + Sync + 'static,
{
    descriptor!(Make<F, T, R>, F)
}

/// The life of a process: gets the bytes it was started with, and gives nothing back.
pub(crate) fn entry<F: Function + Fn(&[u8])>(_held: F) -> &'static Thunk {
    descriptor!(Entry<F>, F)
}

/// The life of a process that was given an argument: puts the code with which the process is to end. A panic is the
/// process's.
pub(crate) fn life<F, T, R>(_held: F) -> &'static Thunk
where
    F: Function + Fn(T) -> R,
    T: Message,
    R: Outcome + 'static,
{
    descriptor!(Life<F, T, R>, F)
}

/// What a function gives that is the life of a process: the code with which the process ends.
pub trait Outcome {
    /// The code: 0 is well.
    fn code(self) -> i32;
}

impl Outcome for () {
    fn code(self) -> i32 {
        0
    }
}

/// The code itself, of which the system keeps the lowest eight bits.
impl Outcome for i32 {
    fn code(self) -> i32 {
        self
    }
}

/// An error is written to standard error, and the code is 1.
impl<T: Outcome, E: std::fmt::Display> Outcome for Result<T, E> {
    fn code(self) -> i32 {
        match self {
            Ok(well) => well.code(),
            Err(error) => {
                // Without a standard error there is still the code.
                let _ = writeln!(std::io::stderr(), "Error: {error}");
                1
            }
        }
    }
}

/// A thunk as a constant: one of `$Way`, for the function `$F`.
macro_rules! descriptor {
    ($Way:ty, $F:ty) => {
        const { &Thunk { magic: MAGIC, call: <$Way>::call, name: type_name::<$F>, identity: type_name::<$Way>, kin: KIN } }
    };
}
use descriptor;

/// The question whether a closure captures something, answered while compiling.
///
/// Name [`Captures::NOTHING`] in a `const` block of the very function that a user gives the closure to:
/// the compiler's message then points at the user's line.
pub(crate) struct Captures<F>(PhantomData<F>);

impl<F> Captures<F> {
    /// Does not compile for a closure that captures.
    pub(crate) const NOTHING: () = assert!(
        size_of::<F>() == 0,
        "this closure captures variables, which cannot travel to another process: only `fn` items and closures \
         that capture nothing can. Pass the captured values as part of the argument, or send them once as the \
         context of `map_with(&context, |context, item| ..)`"
    );
}

/// The only value of a function's type, made from nothing: for who held one of it, in this process or another.
pub(crate) fn remake<F: Function>() -> F {
    const { Captures::<F>::NOTHING };
    // SAFETY: a type of size 0 is read from nowhere, so the pointer need only be aligned. It has a value:
    // who named this thunk held one, of the same build. That there are now more of them is what `Copy`
    // allows, and that they are in other threads and processes what `Send`, `Sync` and `'static` allow.
    unsafe { NonNull::<F>::dangling().read() }
}

struct One<F, T, R>(PhantomData<fn(F, T) -> R>);
struct Many<F, T, R>(PhantomData<fn(F, T) -> R>);
struct ManyWith<C, F, T, R>(PhantomData<fn(F, &C, T) -> R>);
struct ParMany<F, T, R>(PhantomData<fn(F, T) -> R>);
struct Context<C>(PhantomData<fn() -> C>);
struct Make<F, T, R>(PhantomData<fn(F, T) -> R>);
struct Entry<F>(PhantomData<fn(F)>);
struct Life<F, T, R>(PhantomData<fn(F, T) -> R>);

impl<F: Function + Fn(T) -> R, T: Message, R: Message> One<F, T, R> {
    fn call(scope: &mut Scope<'_>) -> Result<(), Failure> {
        let function = remake::<F>();
        let (input, output) = (scope.input, &mut *scope.output);
        undone_on_failure(output, |output| {
            panics::catch(|| {
                let result = function(wire::decode(input)?);
                Ok(wire::encode(&result, output)?)
            })
        })
    }
}

impl<F: Function + Fn(T) -> R, T: Message, R: Message> Many<F, T, R> {
    fn call(scope: &mut Scope<'_>) -> Result<(), Failure> {
        each(scope, remake::<F>())
    }
}

impl<C: Message + Sync, F: Function + Fn(&C, T) -> R, T: Message, R: Message> ManyWith<C, F, T, R> {
    fn call(scope: &mut Scope<'_>) -> Result<(), Failure> {
        let function = remake::<F>();
        let Some(context) = scope.context.and_then(|context| context.downcast_ref::<C>()) else {
            return Err(Failure::Context { type_name: type_name::<C>().into() });
        };
        each(scope, |item: T| function(context, item))
    }
}

impl<F: Function + Fn(T) -> R, T: Message, R: Message> ParMany<F, T, R> {
    fn call(scope: &mut Scope<'_>) -> Result<(), Failure> {
        let function = remake::<F>();
        let (input, output) = (scope.input, &mut *scope.output);
        undone_on_failure(output, |output| {
            panics::catch(|| {
                let items = wire::decode_many::<T>(input)?.into_par_iter().enumerate();
                // Caught item by item, where it happens: on the thread that knows the place, and the item.
                let results = items.map(|(index, item)| {
                    panics::catch(|| function(item)).map_err(|failure| failure.of_item(index as u64))
                });
                let results: Vec<R> = results.collect::<Result<_, Failure>>()?;
                Ok(wire::encode_many(&results, output)?)
            })
        })
    }
}

impl<C: Message + Sync> Context<C> {
    fn call(scope: &mut Scope<'_>) -> Result<(), Failure> {
        let input = scope.input;
        let context = panics::catch(|| wire::decode::<C>(input))??;
        scope.made = Some(Box::new(context));
        Ok(())
    }
}

impl<F: Function + Fn(T) -> R, T: Message, R: Send + Sync + 'static> Make<F, T, R> {
    fn call(scope: &mut Scope<'_>) -> Result<(), Failure> {
        let input = scope.input;
        let made = panics::catch(|| wire::decode::<T>(input).map(remake::<F>()))??;
        scope.made = Some(Box::new(made));
        Ok(())
    }
}

impl<F: Function + Fn(&[u8])> Entry<F> {
    fn call(scope: &mut Scope<'_>) -> Result<(), Failure> {
        remake::<F>()(scope.input);
        Ok(())
    }
}

impl<F: Function + Fn(T) -> R, T: Message, R: Outcome> Life<F, T, R> {
    fn call(scope: &mut Scope<'_>) -> Result<(), Failure> {
        let code = remake::<F>()(wire::decode(scope.input)?).code();
        scope.output.extend_from_slice(&code.to_le_bytes());
        Ok(())
    }
}

/// Calls `function` with item after item, each result encoded as soon as it is there.
fn each<T: Message, R: Message>(scope: &mut Scope<'_>, function: impl Fn(T) -> R) -> Result<(), Failure> {
    let (input, output) = (scope.input, &mut *scope.output);
    let items = Items::<T>::new(input)?;
    let at = Cell::new(0);
    undone_on_failure(output, |output| {
        panics::catch(|| {
            wire::encode_count(items.left() as usize, output);
            for item in items {
                wire::encode(&function(item?), output)?;
                at.set(at.get() + 1);
            }
            Ok(())
        })
        .map_err(|panicked| panicked.of_item(at.get()))
        .map(|done: Result<(), Failure>| done.map_err(|failure| failure.of_item(at.get())))
    })
}

/// Runs `work`; unless it succeeds, `output` is what it was before. The outer failure is a panic's.
fn undone_on_failure(
    output: &mut Vec<u8>,
    work: impl FnOnce(&mut Vec<u8>) -> Result<Result<(), Failure>, Failure>,
) -> Result<(), Failure> {
    let start = output.len();
    let done = work(output).and_then(|done| done);
    done.inspect_err(|_| output.truncate(start))
}
