//! NVIDIA's library as the runtime uses it: a stand-in, compiled here, that has two cards, one of them in parts, and a third
//! that may not be used. Without a C compiler the tests are passed over, loudly.

mod common;

use std::path::Path;
use std::process::Command;

use common::start_with;
use dragon::{Policy, Pool, Runtime, Vendor};

const LIBRARY: &str = r#"
#include <stdio.h>
#include <string.h>
typedef struct { unsigned long long total, free, used; } memory;
static int begun = 0;
static int card[3] = {0, 1, 2}, part[2] = {10, 11};
int nvmlInit_v2(void) { begun++; return 0; }
int nvmlShutdown(void) { begun--; return 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = begun == 1 ? 3 : 0; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned at, void **device) {
    if (at >= 2) return 4; /* no permission */
    *device = &card[at]; return 0;
}
int nvmlDeviceGetUUID(void *device, char *text, unsigned length) {
    int number = *(int *)device;
    return snprintf(text, length, number < 10 ? "GPU-0000-%d" : "MIG-0000-%d", number) >= (int)length;
}
int nvmlDeviceGetName(void *device, char *text, unsigned length) { strncpy(text, "NVIDIA H100", length); return 0; }
int nvmlDeviceGetMemoryInfo(void *device, memory *m) {
    m->total = *(int *)device < 10 ? 80ULL << 30 : 10ULL << 30; m->free = m->used = 1; return 0;
}
int nvmlDeviceGetMaxMigDeviceCount(void *device, unsigned *n) { *n = 7; return 0; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned at, void **found) {
    if (*(int *)device != 1 || at % 3 != 0 || at > 3) return 6; /* not found */
    *found = &part[at / 3]; return 0;
}
"#;

#[test]
fn a_rank_of_a_job() {
    let Ok(part) = std::env::var("PART") else { return };
    let dragon = dragon::init().unwrap();
    match &part[..] {
        "library" => library(&dragon),
        "masked" => masked(&dragon),
        other => panic!("there is no part {other}"),
    }
    dragon.finalize().unwrap();
}

/// Compiles the stand-in; `None` without a compiler.
fn compile(folder: &Path) -> Option<()> {
    let source = folder.join("nvml.c");
    std::fs::write(&source, LIBRARY).unwrap();
    let library = folder.join("libnvidia-ml.so.1");
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-w", "-o"]).arg(library).arg(source).status();
    let Ok(status) = compiled else {
        println!("SKIPPED: there is no C compiler to make a stand-in of NVIDIA's library with");
        return None;
    };
    assert!(status.success());
    Some(())
}

#[test]
fn cards_and_their_parts_are_as_the_library_says() {
    let folder = tempfile::tempdir().unwrap();
    let Some(()) = compile(folder.path()) else { return };
    let path = folder.path().display().to_string();
    start_with("library", &[0], |_| vec![("LD_LIBRARY_PATH", path.clone())]).ends_well();
    let masked = |_| vec![("LD_LIBRARY_PATH", path.clone()), ("CUDA_VISIBLE_DEVICES", "MIG-0000-11,0".into())];
    start_with("masked", &[0], masked).ends_well();
}

fn library(dragon: &Runtime) {
    let system = dragon.system();
    let nvidia: Vec<_> = system.here().gpus.iter().filter(|gpu| gpu.vendor == Vendor::Nvidia).collect();
    let told: Vec<_> = nvidia.iter().map(|gpu| (gpu.name.as_str(), gpu.uuid.as_str(), gpu.memory >> 30)).collect();
    // The model of a part is not that of a card, so that numbers are not safe.
    let wanted =
        [("GPU-0000-0", "GPU-0000-0", 80), ("MIG-0000-10", "MIG-0000-10", 10), ("MIG-0000-11", "MIG-0000-11", 10)];
    assert_eq!(told, wanted);
    assert_eq!(nvidia[0].model, "NVIDIA H100");
    let pool = Pool::builder().policies(system.gpu_policies(), 1).build().unwrap();
    assert_eq!(pool.size(), system.gpus().len());
}

fn masked(dragon: &Runtime) {
    let names: Vec<_> = dragon.system().here().gpus.iter().map(|gpu| gpu.name.clone()).collect();
    assert_eq!(names, ["MIG-0000-11", "0"]);
    let pool = Pool::builder().processes(1).policy(Policy::new().gpus(["MIG-0000-11"])).build().unwrap();
    let seen = pool.map(|()| std::env::var("CUDA_VISIBLE_DEVICES").unwrap(), [()]).unwrap();
    assert_eq!(seen, ["MIG-0000-11"]);
}
