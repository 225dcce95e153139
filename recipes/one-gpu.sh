#!/usr/bin/env bash
# Networks of Table III on one GPU within a time, in one command: unpack and check the data, train each network for one
# epoch as a trial, then give each its share of the remaining time, and pack the trained weights.
#
#   BUDGET=8m OUT=out recipes/one-gpu.sh            # Proposed: ResNet-18, VGG-small, ResNet-20, in this order
#   BUDGET=8m OUT=out recipes/one-gpu.sh fp irnet   # other rows
#
# DATA      folder with CIFAR-10, with an archive of it, or with the archive in pieces: NAME.tar.xz.00, NAME.tar.xz.01 ...
# OUT       output: PROFILE/table3/ID.json when a network is done, NETWORK-METHOD.packed, trial.txt
# WORK      checkpoints and logs; the same command resumes from them
# PROFILE   gpu; NETWORKS  resnet18 vgg_small resnet20; PYTHON  python3
#
# A training on a GPU stops at its first step if a binary weight has a gradient of zero.
set -euo pipefail
cd "$(dirname "$0")/.."
methods=("${@:-proposed}")
read -ra networks <<< "${NETWORKS:-resnet18 vgg_small resnet20}"
python=${PYTHON:-python3} profile=${PROFILE:-gpu} work=${WORK:-work} out=${OUT:-out}
export DATA=${DATA:-data}
seconds=$("$python" -c 'import sys; from lit_scaledrop.runs.budget import seconds_of; print(int(seconds_of(sys.argv[1])))' "${BUDGET:-8m}")
mkdir -p "$out" "$work"

scaledrop() { "$python" -W ignore -m lit_scaledrop "$@"; }

# what is done comes back, also where the last network is not
pack() {
  for result in "$out/$profile"/table3/*.json; do
    [ -e "$result" ] || continue
    name=$("$python" -c 'import json, sys; r = json.load(open(sys.argv[1])); print(r["network"] + "-" + r["method"])' "$result")
    checkpoint=$(ls "$work/$profile/table3/$(basename "$result" .json)"/checkpoints/best*.ckpt 2>/dev/null | head -n 1)
    if [ -n "$checkpoint" ] && [ ! -e "$out/$name.packed" ]; then
      scaledrop export --model "$checkpoint" --result "$result" --out "$out/$name.packed" || true
    fi
  done
}
trap pack EXIT

for first in "$DATA"/*.tar.xz.00; do
  [ -e "$first" ] || continue
  archive=${first%.00}
  [ -e "$archive" ] || cat "$archive".[0-9][0-9] > "$archive.part"
  [ -e "$archive" ] || mv "$archive.part" "$archive"
done
scaledrop data --root "$DATA"

# a trial that fails with a graph is tried without; a network that fails twice is left out
capture=auto only=()
for network in "${networks[@]}"; do
  for method in "${methods[@]}"; do
    trial() {
      scaledrop fit --profile "$profile" --model.network="$network" --model.method="$method" --trainer.max_epochs=1 \
        --trainer.check_val_every_n_epoch=1 --evaluation.samples=1 --model.capture="$capture" --run.study=trial \
        --run.results="$work/trial" --run.runs="$work/trial" --run.tracking=disabled
    }
    begun=$SECONDS
    if ! trial; then
      capture=off
      trial || { echo "$network $method: fails, left out" | tee -a "$out/trial.txt"; continue; }
    fi
    echo "$network $method: one epoch and its evaluation in $((SECONDS - begun)) s, capture $capture" | tee -a "$out/trial.txt"
    only+=("$network-$method-seed1")
  done
done
[ "${#only[@]}" -gt 0 ] || { echo "no network trains here" >&2; exit 1; }

scaledrop sweep sweeps/table3.yaml --profile "$profile" --budget "$((seconds - SECONDS))s" --only "${only[@]}" \
  --results "$out" -- --run.runs="$work" --run.tracking=disabled --model.capture="$capture"
