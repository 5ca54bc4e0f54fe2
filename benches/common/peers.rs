//! Competitors that are programs of their own: run in the same bench, if they are there.
//!
//! `BENCH_DRAGONHPC` names the `dragon` command of a DragonHPC installation (see benches/README.md).

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A DragonHPC installation.
pub struct DragonHpc {
    launcher: PathBuf,
}

impl DragonHpc {
    /// The one that the environment names.
    pub fn find() -> Option<DragonHpc> {
        let launcher = PathBuf::from(env::var_os("BENCH_DRAGONHPC")?);
        Some(DragonHpc { launcher })
    }

    /// Runs its program for one figure. Its start-up is not in the figure.
    pub fn figure(&self, name: &str) -> f64 {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers");
        let mut command = Command::new(&self.launcher);
        command.args(["-s", "dragon_pool.py", name]).current_dir(folder);
        // It finds its Python and its tools beside itself.
        let beside = self.launcher.parent().map(Path::to_path_buf);
        let path = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths(beside.into_iter().chain(env::split_paths(&path))).expect("PATH was a path");
        command.env("PATH", path).env("PYTHONDONTWRITEBYTECODE", "1").stderr(Stdio::null());
        let output = command.output().expect("BENCH_DRAGONHPC names a program");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let figures: BTreeMap<_, _> = printed.lines().filter_map(parse).collect();
        *figures.get(name).unwrap_or_else(|| panic!("DragonHPC said nothing about {name}: {printed}"))
    }
}

fn parse(line: &str) -> Option<(&str, f64)> {
    let mut fields = line.split('\t');
    Some((fields.next()?, fields.next()?.parse().ok()?))
}
