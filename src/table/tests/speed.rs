//! How long calls take, for the eye.

use std::time::Instant;

use super::Desktop;

#[test]
#[ignore = "figures for the eye: run it optimised"]
fn calls_by_size_and_number_of_keys() {
    for (keys, value) in [(10_000_u64, 8), (10_000, 1024), (1_000_000, 8)] {
        let desk = Desktop::new(1, 8 << 30);
        let bytes = vec![1; value];
        let mut out = vec![0_u8; value];
        let each = |what: &str, turns: u64, mut turn: Box<dyn FnMut(u64) + '_>| {
            let begin = Instant::now();
            (0..turns).for_each(|n| turn(n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % keys));
            println!("{keys} keys of {value}: {what} {:.1} ns", begin.elapsed().as_secs_f64() * 1e9 / turns as f64);
        };
        (0..keys).for_each(|n| put(&desk, n, &bytes));
        let turns = 2_000_000;
        each("put over", turns, Box::new(|n| put(&desk, n, &bytes)));
        let table = desk.table();
        each(
            "get",
            turns,
            Box::new(|n| {
                let bytes = n.to_le_bytes();
                let key = table.key(&bytes);
                let got =
                    table.get(0, &key, super::View::up_to(0), &mut Vec::new(), |value| out.copy_from_slice(value));
                assert!(got.unwrap().is_some());
            }),
        );
        each(
            "hash",
            turns,
            Box::new(|n| {
                std::hint::black_box(table.key(&n.to_le_bytes()).hash);
            }),
        );
        let mut seen = 0;
        let begin = Instant::now();
        (0..64).for_each(|part| table.walk_keys(0, part, super::View::up_to(0), |_| seen += 1));
        println!("{keys} keys: walk {:?}", begin.elapsed());
        assert_eq!(seen, keys);
    }
}

fn put(desk: &Desktop, n: u64, value: &[u8]) {
    desk.put(&n.to_le_bytes(), value);
}
