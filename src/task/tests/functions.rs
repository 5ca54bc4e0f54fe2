//! Every kind of function that can travel, does.

use std::ops::Add;

use serde::{Deserialize, Serialize};

use super::*;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Point {
    x: f64,
    tag: String,
}

impl Point {
    fn doubled(self) -> Point {
        Point { x: self.x * 2.0, tag: self.tag + "!" }
    }
}

fn twice<T: Add<Output = T> + Copy>(value: T) -> T {
    value + value
}

#[test]
fn all_kinds_of_functions_run_elsewhere() {
    let mut worker = Worker::new();
    let pid = worker.call(|()| std::process::id(), ()).unwrap();
    assert_eq!(pid, worker.child.id());
    assert_ne!(pid, std::process::id());
    assert_eq!(worker.call(twice::<u16>, 21).unwrap(), 42);
    assert_eq!(worker.call(twice::<f32>, 1.5).unwrap(), 3.0);
    assert_eq!(worker.call(u32::count_ones, 7).unwrap(), 3);
    assert_eq!(worker.call(|s: String| s.to_uppercase(), "abc".into()).unwrap(), "ABC");
    assert_eq!(worker.call(|(a, b): (u64, Vec<u8>)| a + b.len() as u64, (1, vec![0; 9])).unwrap(), 10);
    let point = Point { x: 1.5, tag: "a".into() };
    assert_eq!(worker.call(Point::doubled, point.clone()).unwrap(), point.doubled());
    assert!(worker.call(|x: Result<u8, String>| x.is_err(), Err("no".into())).unwrap());
    assert!(worker.stop().success());
}

#[test]
fn closures_in_generic_functions_know_their_types() {
    fn size<T: Message>(worker: &mut Worker) -> usize {
        worker.call(|()| size_of::<T>(), ()).unwrap()
    }
    let mut worker = Worker::new();
    assert_eq!(size::<u8>(&mut worker), 1);
    assert_eq!(size::<u64>(&mut worker), 8);
    assert_eq!(size::<[u64; 4]>(&mut worker), 32);
}

#[test]
fn sequences_keep_their_order() {
    let mut worker = Worker::new();
    let numbers: Vec<u64> = (0..1000).collect();
    let squares: Vec<u64> = numbers.iter().map(|x| x * x).collect();
    let square = |x: u64| x * x;
    assert_eq!(worker.many::<u64, u64>(thunk::many(square), &numbers).unwrap(), squares);
    assert_eq!(worker.many::<u64, u64>(thunk::par_many(square), &numbers).unwrap(), squares);
    let words = thunk::many(|x: u64| x.to_string());
    assert_eq!(worker.many::<u64, String>(words, &[7, 11]).unwrap(), ["7", "11"]);
    assert_eq!(worker.many::<u64, u64>(thunk::many(square), &[]).unwrap(), Vec::<u64>::new());
    assert_eq!(worker.many::<u64, u64>(thunk::par_many(square), &[]).unwrap(), Vec::<u64>::new());
    assert_eq!(worker.many::<(), ()>(thunk::many(|()| ()), &[(); 3]).unwrap().len(), 3);
}

#[test]
fn a_context_is_sent_once_and_used_often() {
    let mut worker = Worker::new();
    let add = thunk::many_with(|base: &Vec<u64>, x: u64| base.iter().sum::<u64>() + x);
    let missing = worker.many::<u64, u64>(add, &[1]).unwrap_err();
    assert!(matches!(missing, Trouble::Failed(Failure::Context { .. })), "{missing:?}");
    let mut input = Vec::new();
    wire::encode(&vec![10u64, 20], &mut input).unwrap();
    worker.run(thunk::context::<Vec<u64>>(), input).unwrap();
    assert_eq!(worker.many::<u64, u64>(add, &[1, 2]).unwrap(), [31, 32]);
    assert_eq!(worker.many::<u64, u64>(add, &[3]).unwrap(), [33]);
    let other = thunk::many_with(|base: &String, x: u64| base.len() as u64 + x);
    let wrong = worker.many::<u64, u64>(other, &[1]).unwrap_err();
    assert!(format!("{wrong:?}").contains("alloc::string::String"), "{wrong:?}");
}

#[test]
fn output_that_was_there_stays() {
    let mut output = vec![1, 2, 3];
    let mut input = Vec::new();
    wire::encode_many(&[1u8, 0, 2], &mut input).unwrap();
    let divide = thunk::many(|x: u8| 10u8.checked_div(x).expect("nought"));
    // Under libtest's own hook: this process is no worker.
    let failure = divide.call(&mut Scope::new(&input, &mut output)).unwrap_err();
    assert_eq!(failure.item(), Some(1));
    assert_eq!(output, [1, 2, 3]);
    input.clear();
    wire::encode_many(&[1u8, 5], &mut input).unwrap();
    divide.call(&mut Scope::new(&input, &mut output)).unwrap();
    assert_eq!(wire::decode_many::<u8>(&output[3..]).unwrap(), [10, 2]);
}

#[test]
fn arguments_that_do_not_fit_are_failures() {
    let mut output = Vec::new();
    let one = thunk::one(|x: u64| x);
    let failure = one.call(&mut Scope::new(&[1, 2], &mut output)).unwrap_err();
    assert!(matches!(failure, Failure::Decode { item: None, .. }), "{failure}");
    let mut input = Vec::new();
    wire::encode_count(3, &mut input);
    wire::encode(&String::from("whole"), &mut input).unwrap();
    let many = thunk::many(|s: String| s);
    let failure = many.call(&mut Scope::new(&input, &mut output)).unwrap_err();
    assert!(matches!(failure, Failure::Decode { item: Some(1), .. }), "{failure}");
    assert!(output.is_empty());
}

#[test]
fn workers_have_workers() {
    fn square_plus_one(x: u64) -> u64 {
        Worker::new().call(|x: u64| x * x, x).unwrap() + 1
    }
    assert_eq!(Worker::new().call(square_plus_one, 9).unwrap(), 82);
}

#[test]
fn a_worker_belongs_to_the_process_not_to_the_thread() {
    let mut worker = std::thread::spawn(Worker::new).join().unwrap();
    assert_eq!(worker.call(twice::<u8>, 4).unwrap(), 8);
}
