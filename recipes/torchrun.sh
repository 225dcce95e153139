#!/bin/bash
# One training on many GPUs of several machines without a scheduler. On each, with the number of the machine and the
# address of the first one, then the arguments of `scaledrop fit`:
#
#   NODES=2 GPUS=8 recipes/torchrun.sh 0 10.0.0.1 --profile paper --row resnet20/proposed --trainer.sync_batchnorm=true
#   NODES=2 GPUS=8 recipes/torchrun.sh 1 10.0.0.1 --profile paper --row resnet20/proposed --trainer.sync_batchnorm=true
#
# Run it in a shared folder with the same path on all machines.
set -eu
node=$1 address=$2
shift 2
exec "${PYTHON:-.venv/bin/python}" -m torch.distributed.run --nnodes "$NODES" --nproc-per-node "$GPUS" \
  --node-rank "$node" --master-addr "$address" --master-port "${MASTER_PORT:-29500}" \
  -m lit_scaledrop fit "$@" --trainer.strategy=ddp --trainer.num_nodes="$NODES" --trainer.devices="$GPUS"
