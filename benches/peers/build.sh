#!/usr/bin/env bash
# Builds the programs that benches/queue.rs races against, as far as what they need is installed, into a folder:
#
#   bash benches/peers/build.sh /tmp/peers
#   BENCH_PEERS=/tmp/peers cargo bench --bench queue
#
# Debian: apt-get install libzmq3-dev libopenmpi-dev openmpi-bin libmpich-dev mpich
set -euo pipefail
into=${1:?which folder shall the programs go to?}
mkdir -p "$into"
into=$(cd "$into" && pwd)
cd "$(dirname "$0")"
features=()
if pkg-config --exists libzmq 2>/dev/null; then features=(--features zeromq)
else echo "no libzmq with headers: without ZeroMQ"; fi
CARGO_TARGET_DIR="$into/target" cargo build --release --manifest-path rust/Cargo.toml "${features[@]}"
cp "$into/target/release/peers" "$into/peers"
for mpi in openmpi mpich; do
  if command -v "mpicc.$mpi" >/dev/null && command -v "mpirun.$mpi" >/dev/null; then
    "mpicc.$mpi" -O2 -w -o "$into/mpi.$mpi" mpi.c
  else echo "no mpicc.$mpi and mpirun.$mpi: without it"; fi
done
