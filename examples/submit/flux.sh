#!/bin/bash
# The examples under Flux: one rank on each node, which has the whole node.
#
#   cargo build --release --examples
#   flux batch -N 2 --exclusive examples/submit/flux.sh
#   flux batch -N 2 --exclusive examples/submit/flux.sh PROGRAM ARGUMENTS
#
#FLUX: --job-name=dragon
#FLUX: --nodes=2
#FLUX: --exclusive
#FLUX: --time-limit=10m
set -euo pipefail

examples=${EXAMPLES:-target/release/examples}
nodes=${NODES:-$(flux resource list --states=all --no-header --format='{nnodes}' | head -1)}

# A rank starts the workers of its node, so nothing must bind it to some of the cpus or GPUs.
step() {
  flux run --nodes="$nodes" --tasks-per-node=1 --exclusive -o cpu-affinity=off -o gpu-affinity=off "$@"
}

if [ $# -gt 0 ]; then
  step "$@"
else
  step "$examples/ranks"
  step "$examples/dragon_pool"
  step "$examples/dragon_pool" --bound --per-policy 2
fi
