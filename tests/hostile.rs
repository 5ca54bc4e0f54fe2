//! Places that are short of something: little or no `/dev/shm`, few descriptors, a read-only home, no
//! memory left. The library works there or says clearly what is missing; it never dies of SIGBUS.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

use dragon::{ErrorKind, Pool};

/// What a process in a hostile place does: a pool with small and large messages. One line tells the outcome.
fn body() {
    let work = || -> dragon::Result<usize> {
        let dragon = dragon::init()?;
        let pool = Pool::new(2)?;
        let megabytes = std::env::var("DRAGON_TEST_MIB").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
        let sizes = pool.chunk(1).map(|bytes: Vec<u8>| bytes.len(), (0..4).map(|_| vec![1; megabytes << 20]))?;
        let back = pool.submit(|n: usize| vec![7_u8; n], megabytes << 20)?.get()?;
        assert!(sizes.iter().all(|&size| size == megabytes << 20) && back.len() == megabytes << 20);
        assert_eq!(pool.map(|x: u64| x + 1, 0..1000)?.len(), 1000, "the pool is usable");
        drop(pool);
        Ok(dragon.stats().processes.len())
    };
    match work() {
        Ok(left) => println!("works, {left} process left"),
        Err(error) => println!("refused: {:?}: {error}", error.kind()),
    }
}

/// Runs [`body`] in a place that `prepare`, a line of shell, has made hostile.
fn in_place(test: &str, prepare: &str, environment: &[(&str, &str)]) -> Output {
    let script = format!("{prepare}\nexec \"$0\" --exact {test} --nocapture");
    Command::new("unshare")
        .args(["--mount", "sh", "-ec", &script])
        .arg(std::env::current_exe().unwrap())
        .env("DRAGON_TEST_BODY", "1")
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

/// The line that tells the outcome. Nothing may have died of a signal.
fn outcome(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), None, "{text}");
    assert!(!text.contains("SIGBUS"), "{text}");
    let line =
        text.lines().find_map(|line| line.find("works").or(line.find("refused")).map(|at| line[at..].to_string()));
    line.unwrap_or_else(|| panic!("no outcome in: {text}"))
}

/// Whether this test is to be the body, or cannot be run here.
fn body_or_skip() -> bool {
    if std::env::var_os("DRAGON_TEST_BODY").is_some() {
        body();
        return true;
    }
    let may = Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success());
    if !may {
        println!("SKIPPED: mount namespaces need root (`unshare --mount`), so no hostile /dev/shm can be made");
    }
    !may
}

const SMALL: &str = "mount -t tmpfs -o size=64m tmpfs /dev/shm";
const FULL: &str = "mount -t tmpfs -o size=1m tmpfs /dev/shm; head -c 2000000 /dev/zero > /dev/shm/ballast || true";
const NONE: &str = "mount -t tmpfs -o mode=555,size=4k tmpfs /dev; mknod -m 666 /dev/null c 1 3; \
                    mknod -m 666 /dev/zero c 1 5; mknod -m 666 /dev/urandom c 1 9";

#[test]
fn a_small_dev_shm_does_not_matter_to_a_memfd() {
    if !body_or_skip() {
        let output = in_place("a_small_dev_shm_does_not_matter_to_a_memfd", SMALL, &[("DRAGON_TEST_MIB", "40")]);
        assert_eq!(outcome(&output), "works, 1 process left");
    }
}

#[test]
fn a_small_dev_shm_is_enough_for_what_fits_and_refuses_the_rest_with_figures() {
    let test = "a_small_dev_shm_is_enough_for_what_fits_and_refuses_the_rest_with_figures";
    if body_or_skip() {
        return;
    }
    let fits = in_place(test, SMALL, &[("DRAGON_SHM", "named"), ("DRAGON_TEST_MIB", "4")]);
    assert_eq!(outcome(&fits), "works, 1 process left");
    let told = outcome(&in_place(test, SMALL, &[("DRAGON_SHM", "named"), ("DRAGON_TEST_MIB", "100")]));
    assert!(told.starts_with("refused: OutOfMemory"), "{told}");
    assert!(told.contains("/dev/shm") || told.contains("DRAGON_"), "it names the knob: {told}");
}

#[test]
fn a_full_dev_shm_is_a_clear_error_or_does_not_matter() {
    let test = "a_full_dev_shm_is_a_clear_error_or_does_not_matter";
    if body_or_skip() {
        return;
    }
    assert_eq!(outcome(&in_place(test, FULL, &[])), "works, 1 process left");
    let told = outcome(&in_place(test, FULL, &[("DRAGON_SHM", "named")]));
    assert!(told.starts_with("refused: OutOfMemory"), "{told}");
}

#[test]
fn no_dev_shm_is_a_clear_error_or_does_not_matter() {
    let test = "no_dev_shm_is_a_clear_error_or_does_not_matter";
    if body_or_skip() {
        return;
    }
    assert_eq!(outcome(&in_place(test, NONE, &[])), "works, 1 process left");
    let told = outcome(&in_place(test, NONE, &[("DRAGON_SHM", "named")]));
    assert!(told.starts_with("refused: Io") && told.contains("/dev/shm"), "{told}");
}

#[test]
fn sixty_four_descriptors_are_enough_or_named() {
    let test = "sixty_four_descriptors_are_enough_or_named";
    if std::env::var_os("DRAGON_TEST_MANY").is_some() {
        let _dragon = dragon::init().unwrap();
        let error = Pool::new(100).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::ResourceLimit);
        println!("refused: {error}");
        assert_eq!(Pool::new(2).unwrap().map(|x: u8| x, [1]).unwrap(), [1], "a smaller pool still works");
        return;
    }
    if body_or_skip() {
        return;
    }
    let limit = "ulimit -n 64";
    assert_eq!(outcome(&in_place(test, limit, &[])), "works, 1 process left");
    let told = in_place(test, limit, &[("DRAGON_TEST_MANY", "1")]);
    assert!(told.status.success(), "{told:?}");
    assert!(outcome(&told).contains("RLIMIT_NOFILE"), "{told:?}");
}

#[test]
fn a_read_only_file_system_does_not_matter() {
    if !body_or_skip() {
        let test = "a_read_only_file_system_does_not_matter";
        let read_only = "mount -o bind / /mnt; mount -o remount,bind,ro / || mount -o remount,ro,bind /mnt";
        assert_eq!(outcome(&in_place(test, read_only, &[("HOME", "/proc")])), "works, 1 process left");
    }
}

#[test]
fn memory_beyond_the_limit_is_refused_with_figures_and_the_pool_goes_on() {
    if std::env::var_os("DRAGON_TEST_BODY").is_some() {
        let dragon = dragon::builder().memory_limit(64 << 20).init().unwrap();
        let pool = Pool::new(1).unwrap();
        let before = dragon.stats().memory.in_use;
        let argument = pool.submit(|bytes: Vec<u8>| bytes.len(), vec![0; 100 << 20]).unwrap().get().unwrap_err();
        let result = pool.submit(|n: usize| vec![1_u8; n], 100 << 20).unwrap().get().unwrap_err();
        for error in [argument, result] {
            assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
            let text = error.to_string();
            assert!(text.contains("DRAGON_MEMORY_LIMIT"), "it names the knob: {text}");
        }
        assert_eq!(pool.map(|x: u64| x * 2, 0..100).unwrap()[99], 198);
        assert_eq!(dragon.stats().memory.in_use, before);
        return;
    }
    let test = "memory_beyond_the_limit_is_refused_with_figures_and_the_pool_goes_on";
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("DRAGON_TEST_BODY", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_task_may_return_a_gibibyte() {
    let _dragon = dragon::init().unwrap();
    let pool = Pool::new(1).unwrap();
    let bytes = pool.submit(|n: usize| vec![5_u8; n], 1 << 30).unwrap().get().unwrap();
    assert!(bytes.len() == 1 << 30 && bytes[12345] == 5 && bytes[(1 << 30) - 1] == 5);
}
