#!/bin/bash
# One training on many GPUs under SLURM; the arguments are those of `scaledrop fit`:
#
#   sbatch recipes/slurm-ddp.sh --profile paper --row resnet20/proposed --trainer.sync_batchnorm=true
#
# Two minutes before its time limit the job requeues itself and then resumes after the last complete epoch. The folder must
# be shared by all nodes. docs/many-gpus.md lists what has been tested.
#SBATCH --job-name=scaledrop
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
# B: to this shell alone. Python would die of the signal, which costs nothing, but then nobody requeues.
#SBATCH --signal=B:USR1@120
set -u
cd "${SLURM_SUBMIT_DIR:-.}" || exit 1
trap 'echo "time is nearly up: requeue"; scontrol requeue "$SLURM_JOB_ID"' USR1

# in the background: bash runs a trap only between commands, or while it waits
srun "${PYTHON:-.venv/bin/python}" -m lit_scaledrop fit "$@" --trainer.strategy=ddp \
  --trainer.num_nodes="$SLURM_NNODES" --trainer.devices="$SLURM_NTASKS_PER_NODE" &
step=$!
wait "$step"
status=$?
# a signal ends `wait` and not the step, which SLURM stops when it requeues
if kill -0 "$step" 2>/dev/null; then wait "$step"; status=$?; fi
exit "$status"
