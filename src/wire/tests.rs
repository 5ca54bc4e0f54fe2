//! What goes in comes out; what never went in is refused.

use std::{collections::BTreeMap, fmt::Debug};

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::*;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Mixed {
    name: String,
    numbers: Vec<u32>,
    map: BTreeMap<u8, Option<i64>>,
}

fn there_and_back<T: Message + PartialEq + Debug>(value: T) {
    let mut bytes = vec![7, 7, 7];
    encode(&value, &mut bytes).unwrap();
    assert_eq!(decode::<T>(&bytes[3..]).unwrap(), value);
    bytes.extend([1, 2]);
    let (back, used) = decode_prefix::<T>(&bytes[3..]).unwrap();
    assert_eq!((back, used), (value, bytes.len() - 5));
    assert!(matches!(decode::<T>(&bytes[3..]), Err(WireError::Leftover { left: 2, .. })));
}

fn many_there_and_back<T: Message + PartialEq + Debug>(values: Vec<T>) {
    let mut bytes = vec![9];
    encode_many(&values, &mut bytes).unwrap();
    assert_eq!(decode_many::<T>(&bytes[1..]).unwrap(), values);
    let one_by_one: Result<Vec<T>, _> = Items::new(&bytes[1..]).unwrap().collect();
    assert_eq!(one_by_one.unwrap(), values);
    // The other writer of the same bytes: count, then item after item.
    let mut by_hand = vec![9];
    encode_count(values.len(), &mut by_hand);
    values.iter().for_each(|value| encode(value, &mut by_hand).unwrap());
    assert_eq!(by_hand, bytes);
    bytes.push(0);
    assert!(matches!(decode_many::<T>(&bytes[1..]), Err(WireError::Leftover { left: 1, .. })));
}

#[test]
fn single_values_come_back() {
    there_and_back(7u8);
    there_and_back(u64::MAX);
    there_and_back(i128::MIN);
    there_and_back(-1.5f32);
    there_and_back(usize::MAX);
    there_and_back(vec![1u8, 2, 3]);
    there_and_back(vec![1.5f64; 1000]);
    there_and_back(Vec::<u16>::new());
    there_and_back(String::from("Grüße"));
    there_and_back((1u8, vec![2u64], Some('x')));
    there_and_back(());
    there_and_back(Mixed { name: "n".into(), numbers: vec![1, 2], map: [(1, None), (2, Some(-3))].into() });
}

#[test]
fn sequences_come_back() {
    many_there_and_back((0..1000u64).collect());
    many_there_and_back((0..129i16).collect());
    many_there_and_back(Vec::<f32>::new());
    many_there_and_back(vec![String::from("a"), String::new()]);
    many_there_and_back(vec![vec![1u8, 2], vec![]]);
    many_there_and_back(vec![(1u64, 2u8), (3, 4)]);
    many_there_and_back(vec![true, false]);
}

#[test]
fn nothing_can_be_sent_many_times() {
    let mut bytes = Vec::new();
    encode_many(&[(); 5], &mut bytes).unwrap();
    assert_eq!(decode_many::<()>(&bytes).unwrap().len(), 5);
}

#[test]
fn numbers_travel_as_they_are() {
    let mut bytes = Vec::new();
    encode_many(&[1u64, 2], &mut bytes).unwrap();
    assert_eq!(bytes, [2u64, 1, 2].map(u64::to_ne_bytes).concat());
    bytes.clear();
    encode(&vec![5u8, 6], &mut bytes).unwrap();
    assert_eq!(bytes, [&2u64.to_ne_bytes()[..], &[5, 6]].concat());
}

#[test]
fn a_value_that_refuses_leaves_no_trace() {
    #[derive(Deserialize)]
    struct Sour;
    impl Serialize for Sour {
        fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeTuple;
            let mut tuple = out.serialize_tuple(2)?;
            tuple.serialize_element(&1u8)?;
            Err(serde::ser::Error::custom("sour"))
        }
    }
    let mut bytes = vec![1];
    assert!(matches!(encode(&Sour, &mut bytes), Err(WireError::Encode { .. })));
    assert!(encode_many(&[Sour, Sour], &mut bytes).is_err());
    assert_eq!(bytes, [1]);
}

#[test]
fn a_forged_count_asks_for_no_memory() {
    let mut bytes = u64::MAX.to_ne_bytes().to_vec();
    bytes.extend([0; 16]);
    assert!(matches!(decode_many::<u64>(&bytes), Err(WireError::TooShort { .. })));
    assert!(matches!(decode::<Vec<u64>>(&bytes), Err(WireError::TooShort { .. })));
    assert!(decode_many::<String>(&bytes).is_err());
    assert!(decode_many::<Vec<f64>>(&bytes).is_err());
}

#[test]
fn a_vector_of_half_a_number_is_refused() {
    let mut bytes = 12u64.to_ne_bytes().to_vec();
    bytes.extend([0; 12]);
    assert!(matches!(decode::<Vec<u64>>(&bytes), Err(WireError::Decode { .. })));
    assert_eq!(decode::<Vec<u32>>(&bytes).unwrap(), [0; 3]);
}

proptest! {
    #[test]
    fn any_values_come_back(
        name in ".*", numbers: Vec<u32>, map: BTreeMap<u8, Option<i64>>, bytes: Vec<u8>, floats: Vec<u64>,
    ) {
        there_and_back(Mixed { name: name.clone(), numbers: numbers.clone(), map });
        there_and_back(bytes.clone());
        there_and_back(numbers.clone());
        many_there_and_back(floats);
        many_there_and_back(vec![bytes, vec![]]);
        many_there_and_back(vec![name]);
    }

    #[test]
    fn any_bytes_end_in_a_value_or_an_error(bytes: Vec<u8>) {
        let _ = decode::<u64>(&bytes);
        let _ = decode::<Vec<f32>>(&bytes);
        let _ = decode::<Mixed>(&bytes);
        let _ = decode_many::<u16>(&bytes);
        let _ = decode_many::<Vec<u8>>(&bytes);
        let _ = decode_many::<Mixed>(&bytes);
    }
}
