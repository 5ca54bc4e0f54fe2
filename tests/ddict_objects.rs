//! Checkpoints in an object store, by two of its kinds: a directory, and the memory of a process.
#![cfg(feature = "object-store")]

use std::collections::BTreeMap;
use std::fs;

use dragon::{DDict, ErrorKind, Objects, Persist, Pool};

type Dict = DDict<u64, Vec<u8>>;

fn open(url: &str, name: &str, managers: usize) -> Dict {
    let persist = Persist::to(&Objects::at(url)).unwrap().keep(2);
    DDict::builder().name(name).managers_per_node(managers).persist(persist).build().unwrap()
}

fn all(dict: &Dict) -> BTreeMap<u64, Vec<u8>> {
    dict.iter().unwrap().collect::<dragon::Result<_>>().unwrap()
}

/// One value is of several pieces.
fn expected(step: u8) -> BTreeMap<u64, Vec<u8>> {
    (0..20).map(|n| (n, vec![step + 1; if n == 7 { 20 << 20 } else { n as usize * 100 }])).collect()
}

fn store_three(dict: &Dict) {
    for step in 0..3 {
        expected(step).iter().for_each(|(key, value)| dict.put(key, value).unwrap());
        dict.persist().unwrap();
        dict.checkpoint();
    }
}

/// What is stored is there again, the newest that are kept.
fn is_there(dict: &Dict) {
    assert_eq!(dict.persisted().unwrap(), [1, 2]);
    for step in [2, 1] {
        dict.restore(step).unwrap();
        assert!(all(dict) == expected(step as u8), "checkpoint {step}");
    }
    assert_eq!(dict.restore(0).unwrap_err().kind(), ErrorKind::NoCheckpoint);
}

#[test]
fn a_directory_behind_a_url_keeps_checkpoints() {
    let _dragon = dragon::init().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}/below", folder.path().display());
    let dict = open(&url, "a/b c", 3);
    assert!(dict.persisted().unwrap().is_empty());
    store_three(&dict);
    is_there(&dict);
    drop(dict);
    let dict = open(&url, "a/b c", 2);
    is_there(&dict);
    // Every process of the job finds it.
    let pool = Pool::new(1).unwrap();
    let offered = |dict: Dict| dict.persisted().unwrap();
    assert_eq!(pool.submit(offered, dict.clone()).unwrap().get().unwrap(), [1, 2]);
    // What was changed there is refused by name, and the other one still offered.
    let files: Vec<_> = fs::read_dir(folder.path().join("below")).unwrap().map(|file| file.unwrap().path()).collect();
    let part = files.iter().find(|path| path.to_string_lossy().ends_with("-2-1.ddict")).expect("it is a plain file");
    let whole = fs::read(part).unwrap();
    fs::write(part, &whole[..whole.len() - 1]).unwrap();
    let error = dict.restore(2).unwrap_err();
    assert!(error.kind() == ErrorKind::NoCheckpoint && error.to_string().contains("-2-1.ddict"), "{error}");
    assert_eq!(dict.persisted().unwrap(), [1]);
}

#[test]
fn the_memory_of_a_process_keeps_checkpoints() {
    let _dragon = dragon::init().unwrap();
    let dict = open("memory:///", "in memory", 2);
    store_three(&dict);
    is_there(&dict);
}

#[test]
fn a_url_that_is_none_is_an_error_of_who_stores() {
    let _dragon = dragon::init().unwrap();
    for url in ["no url", "gopher://there/is/none"] {
        let dict = open(url, url, 1);
        dict.put(&1, &vec![1]).unwrap();
        assert_eq!(dict.persist().unwrap_err().kind(), ErrorKind::Io, "{url}");
        assert_eq!(dict.get(&1).unwrap(), [1]);
    }
}
