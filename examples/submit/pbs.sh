#!/bin/bash
# The examples under PBS with PALS, as on Polaris and Aurora: one rank on each node, which has the whole node.
#
#   cargo build --release --examples
#   qsub -A PROJECT -q QUEUE -l select=2 examples/submit/pbs.sh
#   qsub -A PROJECT -q QUEUE -l select=2 -v "PROGRAM=./program 1 2" examples/submit/pbs.sh
#
# On other machines than those of ALCF leave the line of the file systems out.
#PBS -N dragon
#PBS -l select=2
#PBS -l place=scatter:excl
#PBS -l walltime=00:10:00
#PBS -l filesystems=home
#PBS -j oe
set -euo pipefail
cd "$PBS_O_WORKDIR"

examples=${EXAMPLES:-target/release/examples}
nodes=$(sort -u "$PBS_NODEFILE" | wc -l)

# A rank starts the workers of its node, so nothing must bind it to some of the cpus.
step() {
  mpiexec -n "$nodes" --ppn 1 --cpu-bind none "$@"
}

if [ -n "${PROGRAM:-}" ]; then
  # Words, on purpose.
  # shellcheck disable=SC2086
  step $PROGRAM
else
  step "$examples/ranks"
  step "$examples/dragon_pool"
  step "$examples/dragon_pool" --bound --per-policy 2
fi
