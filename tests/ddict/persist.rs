//! Stored checkpoints: which there are, what is in them, and what is done about damaged ones.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use dragon::{DDict, ErrorKind, Persist, Pool};

use super::{LONG, alone};

type Dict = DDict<u64, Vec<u8>>;

fn open(folder: &Path, name: &str, managers: usize, every: u32, keep: Option<u32>) -> Dict {
    let persist = Persist::posix(folder).every(every);
    let persist = keep.map_or(persist.clone(), |keep| persist.keep(keep));
    DDict::builder().name(name).managers_per_node(managers).persist(persist).build().unwrap()
}

fn all(dict: &Dict) -> BTreeMap<u64, Vec<u8>> {
    dict.iter().unwrap().collect::<dragon::Result<_>>().unwrap()
}

fn expected(step: u8) -> BTreeMap<u64, Vec<u8>> {
    (0..50).map(|n| (n, vec![step; (n * n * 7) as usize])).collect()
}

fn fill(dict: &Dict, step: u8) {
    expected(step).iter().for_each(|(key, value)| dict.put(key, value).unwrap());
}

/// 112.
#[test]
fn those_checkpoints_are_stored_that_shall_be() {
    let (_turn, _dragon) = alone();
    for (every, keep, stored) in [
        (1, None, vec![0, 1, 2, 3, 4, 5, 6]),
        (2, None, vec![0, 2, 4, 6]),
        (2, Some(2), vec![4, 6]),
        (3, Some(1), vec![6]),
        (9, Some(5), vec![0]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let dict = open(folder.path(), "table 112", 1, every, keep);
        for step in 0..8 {
            fill(&dict, step);
            dict.checkpoint();
        }
        assert_eq!(dict.persisted().unwrap(), stored, "every {every}, keep {keep:?}");
        let files = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(files, 2 * stored.len(), "nothing else is left");
    }
}

/// 115, 116.
#[test]
fn what_is_stored_is_there_again_with_other_managers() {
    let (_turn, _dragon) = alone();
    let folder = tempfile::tempdir().unwrap();
    let dict = open(folder.path(), "a/b c", 3, 1, None);
    let pool = Pool::new(2).unwrap();
    for step in 0..10_u8 {
        // Several processes write at each checkpoint, and one of them happens to store the one before.
        dict.set_checkpoint_id(step.into());
        let put = |(dict, step): &(Dict, u8), n: u64| dict.put(&n, &vec![*step; (n * n * 7) as usize]).unwrap();
        pool.chunk(5).map_with(&(dict.clone(), step), put, 0..50).unwrap();
    }
    assert_eq!(dict.sync_to_newest().unwrap(), 9);
    dict.persist().unwrap();
    drop((dict, pool));
    for managers in [1, 5] {
        let dict = open(folder.path(), "a/b c", managers, 1, None);
        assert_eq!(dict.persisted().unwrap(), (0..10).collect::<Vec<_>>());
        dict.put(&1000, &vec![1]).unwrap();
        for step in [9, 0, 4] {
            dict.restore(step.into()).unwrap();
            assert_eq!((dict.checkpoint_id(), all(&dict)), (step.into(), expected(step)), "{managers} managers");
        }
        // It goes on from there.
        dict.checkpoint();
        dict.put(&1, &vec![77]).unwrap();
        assert_eq!((dict.get(&1).unwrap(), dict.get(&2).unwrap()), (vec![77], vec![4; 28]));
    }
    assert!(open(folder.path(), "another", 1, 1, None).persisted().unwrap().is_empty());
    let unstored = DDict::<u64, u64>::new().unwrap();
    assert_eq!(unstored.persisted().unwrap_err().kind(), ErrorKind::InvalidArgument);
}

/// 113. What is not as it was written is refused by name, whichever byte it is, and the older ones are still offered.
#[test]
fn damaged_missing_and_foreign_files_are_refused_by_name() {
    let (_turn, _dragon) = alone();
    let folder = tempfile::tempdir().unwrap();
    let dict = open(folder.path(), "damaged", 2, 1, None);
    for step in 0..3 {
        fill(&dict, step);
        dict.checkpoint();
    }
    let before = all(&dict);
    let refuses = |name: &str, offered: bool, what: &str| {
        let error = dict.restore(1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoCheckpoint, "{what}: {error}");
        assert!(error.to_string().contains(name), "{what}: {error}");
        assert_eq!(dict.persisted().unwrap(), if offered { vec![0, 1] } else { vec![0] }, "{what}");
        assert_eq!(all(&dict), before, "{what}: nothing has changed");
    };
    for name in ["damaged-1.manifest", "damaged-1-0.ddict", "damaged-1-1.ddict"] {
        let path = folder.path().join(name);
        let whole = fs::read(&path).unwrap();
        let is_part = name.ends_with(".ddict");
        let steps = (whole.len() / 60).max(1);
        for at in (0..whole.len()).step_by(steps).chain([whole.len() - 1]) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x40;
            fs::write(&path, &bytes).unwrap();
            refuses(name, is_part, &format!("byte {at} of {name}"));
            fs::write(&path, &whole[..at]).unwrap();
            refuses(name, false, &format!("{name} cut off at {at}"));
        }
        fs::write(&path, [whole.as_slice(), b"more"].concat()).unwrap();
        refuses(name, false, &format!("more behind {name}"));
        fs::remove_file(&path).unwrap();
        refuses(name, false, &format!("{name} missing"));
        fs::write(&path, &whole).unwrap();
    }
    // Another's: of another checkpoint, or of a dictionary with other types.
    let part = folder.path().join("damaged-1-0.ddict");
    let whole = fs::read(&part).unwrap();
    fs::copy(folder.path().join("damaged-0-0.ddict"), &part).unwrap();
    refuses("damaged-1-0.ddict", true, "a part of another checkpoint");
    fs::write(&part, whole).unwrap();
    let persist = Persist::posix(folder.path());
    let other: DDict<u64, String> = DDict::builder().name("other").persist(persist).build().unwrap();
    other.put(&1, &"x".into()).unwrap();
    other.persist().unwrap();
    for file in ["0.manifest", "0-0.ddict"] {
        fs::rename(folder.path().join(format!("other-{file}")), folder.path().join(format!("damaged-1{}", &file[1..])))
            .unwrap();
    }
    assert_eq!(dict.restore(1).unwrap_err().kind(), ErrorKind::NoCheckpoint);
    assert_eq!(dict.restore(7).unwrap_err().kind(), ErrorKind::NoCheckpoint);
    dict.restore(0).unwrap();
    assert_eq!(all(&dict), expected(0));
}

/// A store that cannot write: who goes on is not stopped, who stores now is told.
#[test]
fn a_store_that_refuses_is_an_error_of_who_asks() {
    let (_turn, _dragon) = alone();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "no folder").unwrap();
    let dict = open(&file, "refused", 1, 1, None);
    fill(&dict, 1);
    dict.checkpoint();
    fill(&dict, 2);
    assert_eq!(dict.persist().unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(all(&dict), expected(2));
    let queues: DDict<u64, dragon::Queue<u64>> =
        DDict::builder().name("queues").persist(Persist::posix(folder.path().join("q"))).build().unwrap();
    queues.put(&1, &dragon::Queue::unbounded().unwrap()).unwrap();
    assert_eq!(queues.persist().unwrap_err().kind(), ErrorKind::InvalidArgument);
}

/// A crash may leave a file that ends anywhere, and a disk one with any byte changed.
#[test]
fn of_a_small_checkpoint_every_byte_matters() {
    let (_turn, _dragon) = alone();
    let folder = tempfile::tempdir().unwrap();
    let dict = open(folder.path(), "small", 1, 1, None);
    dict.put(&1, &vec![1, 2, 3]).unwrap();
    dict.checkpoint();
    dict.put(&2, &vec![]).unwrap();
    dict.persist().unwrap();
    let before = all(&dict);
    for name in ["small-1.manifest", "small-1-0.ddict"] {
        let path = folder.path().join(name);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let flipped: Vec<u8> = whole.iter().enumerate().map(|(n, byte)| byte ^ u8::from(n == at)).collect();
            for bytes in [flipped.as_slice(), &whole[..at]] {
                fs::write(&path, bytes).unwrap();
                let error = dict.restore(1).unwrap_err();
                assert!(error.kind() == ErrorKind::NoCheckpoint && error.to_string().contains(name), "{at}: {error}");
                assert!(dict.persisted().unwrap().contains(&0), "the older one is still offered");
                assert_eq!(all(&dict), before);
            }
        }
        fs::write(&path, whole).unwrap();
    }
    dict.restore(1).unwrap();
    assert_eq!(all(&dict), before);
    // What a crash left half written under its first name is no checkpoint, and in nobody's way.
    fs::write(folder.path().join("small-1-0.ddict.tmp"), "half").unwrap();
    fs::write(folder.path().join("small-2.manifest.tmp"), "half").unwrap();
    assert_eq!(dict.persisted().unwrap(), [0, 1]);
    dict.persist().unwrap();
}

/// Goes from checkpoint to checkpoint, and stores each.
fn store_for_ever(dict: Dict) {
    loop {
        let step = dict.checkpoint();
        fill(&dict, (step % 251) as u8);
        dict.persist().unwrap();
    }
}

/// `kill -9` of who stores, at any moment: what is offered is whole.
#[test]
fn whoever_is_killed_while_storing_leaves_whole_checkpoints() {
    let (_turn, _dragon) = alone();
    let folder = tempfile::tempdir().unwrap();
    let dict = open(folder.path(), "killed", 2, 1, Some(3));
    let pool = Pool::new(1).unwrap();
    let mut newest = 0;
    for round in 0..15_u64 {
        let task = pool.submit(store_for_ever, dict.clone()).unwrap();
        let (begin, pause) = (Instant::now(), Duration::from_micros(40_000 + round * 17_919 % 80_000));
        while begin.elapsed() < pause || dict.persisted().unwrap().is_empty() {
            std::thread::yield_now();
        }
        let pid = pool.workers()[0].pid as i32;
        // SAFETY: a worker of ours, which runs for ever.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
        assert!(task.get_timeout(LONG).unwrap_err().is_lost());
        let offered = dict.persisted().unwrap();
        assert!(!offered.is_empty() && offered.is_sorted(), "{offered:?}");
        for step in &offered {
            dict.restore(*step).unwrap();
            assert!(*step == 0 || all(&dict) == expected((step % 251) as u8), "checkpoint {step} of {offered:?}");
        }
        newest = *offered.last().unwrap();
    }
    assert!(newest > 1, "hardly anything was stored");
}
