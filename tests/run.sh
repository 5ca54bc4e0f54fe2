#!/usr/bin/env bash
# Runs every test of the project on a machine that has the Rust toolchain and nothing else: no network but
# for crates, no root needed. What cannot run here is skipped, loudly, with the reason.
#
#   bash tests/run.sh            all suites
#   bash tests/run.sh crash      only suites whose name contains the word
set -euo pipefail
cd "$(dirname "$0")/.."
only=${1:-}
host=$(rustc -vV | sed -n 's/^host: //p')
passed=() failed=() skipped=()
log=$(mktemp) reasons=$(mktemp)
trap 'rm -f "$log" "$reasons"' EXIT

# suite NAME COMMAND...: runs one suite; a failure is counted, and the next suite still runs.
suite() {
  local name=$1 begin=$SECONDS
  shift
  case $name in *"$only"*) ;; *) return 0 ;; esac
  printf '\n== suite: %s ==\n   %s\n' "$name" "$*"
  # A hang is a failure like any other. The limit is far above what a suite takes on two slow cores.
  if timeout --kill-after=10 1200 "$@" 2>&1 | tee "$log" && ran_something; then
    passed+=("$name ($((SECONDS - begin)) s)")
  else
    failed+=("$name")
    printf '== FAILED: %s ==\n' "$name"
    why "$name" >>"$reasons"
  fi
}

# What a suite said when it failed, to be said again at the end, where nobody has to look for it.
why() {
  printf '\n== why %s failed ==\n' "$1"
  grep -E -A4 "^test .* FAILED|panicked at|^error" "$log" | grep -vE "^ +([0-9]+:|at )" | head -n 60 || tail -n 20 "$log"
}

# Not so when a suite of tests matched none: a filter that went stale must not pass for a success.
ran_something() {
  ! grep -q '^test result' "$log" || grep -q '^test result: ok\. [1-9]' "$log"
}

skip() {
  case $1 in *"$only"*) ;; *) return 0 ;; esac
  printf '\n== SKIPPED: %s: %s ==\n' "$1" "$2"
  skipped+=("$1: $2")
}

# The only thing beyond the toolchain that Rust itself needs is a linker.
need_linker() {
  if command -v cc >/dev/null; then return; fi
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev
  else
    echo "There is no C linker (cc), and only root could install one: apt-get install gcc libc6-dev" >&2
    exit 1
  fi
}

# Installs packages, where that may be done.
install() {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null &&
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# Whether the loader finds a library of this name.
has_library() { PATH=$PATH:/sbin:/usr/sbin ldconfig -p | grep "[[:space:]]${1//./\\.} " >/dev/null; }

# Real launchers, and the tools that make nodes out of namespaces. Their tests pass over what is missing. Slurm loads
# PMIx by a name that only comes with PMIx's headers.
need_launchers() {
  local tool missing=()
  for tool in mpirun.openmpi mpiexec.hydra srun slurmctld slurmd ip pkill; do
    command -v "$tool" >/dev/null || missing+=("$tool")
  done
  has_library libpmix.so || missing+=(libpmix.so)
  if [ ${#missing[@]} = 0 ]; then return; fi
  if install openmpi-bin mpich slurmctld slurmd slurm-client libpmix-dev iproute2 procps; then return; fi
  skip launchers "these are missing and could not be installed: ${missing[*]}; tests that need them pass over"
}

# Compilers of MPI programs, which run as groups. Their tests pass over what is missing. The commands alone prove
# nothing: they come with the launchers, what they need to compile does not.
need_mpi_compilers() {
  local tool missing=()
  for tool in mpicc.mpich mpicc.openmpi; do
    echo '#include <mpi.h>' | "$tool" -E - >/dev/null 2>&1 || missing+=("$tool with mpi.h")
  done
  has_library libpmi2.so.0 || missing+=(libpmi2.so.0)
  if [ ${#missing[@]} = 0 ]; then return; fi
  if install libmpich-dev mpich libopenmpi-dev openmpi-bin libpmix2 libpmi2-0; then return; fi
  skip mpi-compilers "these are missing and could not be installed: ${missing[*]}; MPI programs are not run"
}

left_in_shm() { find /dev/shm -maxdepth 1 -name "dragon-$(id -u)-*" 2>/dev/null | sort; }

format() {
  if cargo fmt --version >/dev/null 2>&1; then suite format cargo fmt --check
  else skip format "no rustfmt (rustup component add rustfmt)"; fi
}

lints() {
  if ! cargo clippy --version >/dev/null 2>&1; then
    skip lints "no clippy (rustup component add clippy)"
    return
  fi
  suite lints cargo clippy --all-targets -- -D warnings
  suite lints-failpoints cargo clippy --all-targets --features failpoints -- -D warnings
}

# Tests of a fresh directory full of shared memory, and of one that is full, mount their own /dev/shm.
namespaces() {
  if unshare --mount true 2>/dev/null; then return; fi
  skip small-shm "may not make mount namespaces here (not root): tests that need a small or full /dev/shm pass over"
}

examples() {
  local file name
  for file in examples/*.rs examples/*/main.rs; do
    [ -e "$file" ] || continue
    name=${file#examples/} name=${name%.rs} name=${name%/main}
    # It would go on for as long as anybody on this machine runs a job.
    local arguments=()
    case $name in top | kv_top) arguments=(-- --once) ;; esac
    suite "example-$name" cargo run --quiet --release --example "$name" "${arguments[@]}"
  done
}

crash() {
  if [ -e tests/crash.rs ]; then
    suite crash cargo test --release --features failpoints --test crash
    suite crash-sync cargo test --release --features failpoints --test crash_sync
    suite crash-ddict cargo test --release --features failpoints --test crash_ddict
    suite crash-ddict-nodes cargo test --release --features failpoints --test crash_ddict_nodes
  fi
}

# Rings, waiting and latches once more under the thread sanitizer, which sees orderings that the model checker does not
# (it takes every ordering for the strongest). It needs an unstable flag, which a stable compiler takes when
# told that it may. tests/sanitize.supp names what it reports wrongly.
thread_sanitizer() {
  local runtime
  runtime=$(find "$(rustc --print sysroot)/lib/rustlib/$host/lib" -name 'librustc-*_rt.tsan.a' 2>/dev/null)
  if [ -z "$runtime" ]; then
    skip thread-sanitizer "this toolchain has no sanitizer for $host"
    return
  fi
  suite thread-sanitizer env RUSTC_BOOTSTRAP=1 \
    RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer" \
    TSAN_OPTIONS="suppressions=$PWD/tests/sanitize.supp halt_on_error=1" \
    cargo test --lib --target "$host" --target-dir target/tsan -- --test-threads=1 ring:: wait::
}

nothing_left() {
  local now
  now=$(left_in_shm)
  if [ "$now" = "$before" ]; then return; fi
  printf '== FAILED: left in /dev/shm by the tests ==\n%s\n' "$now"
  failed+=("nothing left in /dev/shm")
}

need_linker
need_launchers
need_mpi_compilers
before=$(left_in_shm)
format
lints
namespaces
suite tests cargo test --no-fail-fast
# Optimised, what races in many processes; the unit tests have run, and take minutes to optimise.
suite tests-release cargo test --release --test channel --test kill --test leaks --test linear --test memory --test pool
crash
# What needs a crate that is not there by default.
suite objects cargo test --features object-store --test ddict_objects
# Modules called `model` run under the model checker; those inside `tests` compare with a model by plain code.
suite model cargo test --release --lib --features shuttle -- model:: --skip tests::
thread_sanitizer
examples
suite docs env RUSTDOCFLAGS="-D warnings" cargo doc --no-deps
suite benches-build cargo bench --no-run
nothing_left

cat "$reasons"
printf '\n== %d suites passed, %d failed, %d skipped, in %d s ==\n' \
  ${#passed[@]} ${#failed[@]} ${#skipped[@]} "$SECONDS"
printf '   passed:  %s\n' "${passed[@]:-none}"
printf '   skipped: %s\n' "${skipped[@]:-none}"
printf '   failed:  %s\n' "${failed[@]:-none}"
[ ${#failed[@]} = 0 ]
