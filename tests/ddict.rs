//! Dictionaries as a user sees them: one process, and several that come and go.

use dragon::{DDict, ErrorKind, Pool};

#[test]
fn two_processes_see_what_the_other_puts() {
    let _dragon = dragon::init().unwrap();
    let dict: DDict<u64, String> = DDict::new().unwrap();
    let pool = Pool::new(2).unwrap();
    pool.map_with(&dict, |dict: &DDict<u64, String>, n: u64| dict.put(&n, &format!("{n}")).unwrap(), 0..1000).unwrap();
    assert_eq!(dict.len().unwrap(), 1000);
    let read = |dict: &DDict<u64, String>, n: u64| dict.get(&n).unwrap();
    assert_eq!(pool.map_with(&dict, read, 0..1000).unwrap(), (0..1000).map(|n| n.to_string()).collect::<Vec<_>>());
    dict.remove(&7).unwrap();
    assert_eq!(dict.get(&7).unwrap_err().kind(), ErrorKind::KeyNotFound);
}
