#!/bin/bash
# The examples under Slurm: one rank on each node, which has the whole node.
#
#   cargo build --release --examples
#   sbatch --nodes 2 examples/submit/slurm.sh                       # the examples below
#   sbatch --nodes 2 examples/submit/slurm.sh PROGRAM ARGUMENTS     # a program of your own
#
# Add what your site asks for: --account, --partition, --constraint, --gpus-per-node.
#SBATCH --job-name=dragon
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --time=00:10:00
set -euo pipefail

# Slurm runs a copy of this file, so paths are those of the folder in which sbatch was called.
examples=${EXAMPLES:-target/release/examples}

# A rank starts the workers of its node, so it must have all of its cpus and GPUs: not one of them, as by default.
step() {
  srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --cpu-bind=none --cpus-per-task="${SLURM_CPUS_ON_NODE%%(*}" "$@"
}

if [ $# -gt 0 ]; then
  step "$@"
else
  step "$examples/ranks"
  step "$examples/dragon_pool"
  step "$examples/dragon_pool" --bound --per-policy 2
fi
