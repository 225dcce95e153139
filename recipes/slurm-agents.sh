#!/bin/bash
# A sweep on many GPUs under SLURM, one agent per GPU: every point is a training on one GPU.
#
#   wandb sweep sweeps/table3.yaml                      # prints ENTITY/PROJECT/ID
#   sbatch recipes/slurm-agents.sh ENTITY/PROJECT/ID
#
# All agents write to the same results folder, so finished points end at once.
#SBATCH --job-name=scaledrop-agents
#SBATCH --array=0-7
#SBATCH --ntasks=1
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
set -eu
cd "${SLURM_SUBMIT_DIR:-.}"
export PROFILE="${PROFILE:-paper}" PATH="$PWD/.venv/bin:$PATH"
# which Lightning takes for a sign of srun, that nobody used here
unset SLURM_NTASKS
exec wandb agent "$1"
