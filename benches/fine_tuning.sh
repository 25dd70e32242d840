#!/usr/bin/env bash
# One labelled micrograph: training that starts from the default model, with few epochs, against
# training from nothing with the built-in number. F1 on test micrographs at the model's own threshold,
# and the seconds that training took.
#
# usage: fine_tuning.sh SET RADIUS_PX TESTS WORK [SEED...]
#   SET    folder with micrographs/ and coordinates/ (STAR)
#   TESTS  so many micrographs, the last by name, are judged on
#   SEED   the SEED-th micrograph is the labelled one; also the seed of the training
# PICKER names the program; EPOCHS the epochs from the default model.
set -euo pipefail

set_dir=$1 radius=$2 tests=$3 work=$4
shift 4
name=$(basename "$set_dir")
picker=${PICKER:-target/release/picker}
mkdir -p "$work"
mapfile -t all < <(find -L "$set_dir/micrographs" -name '*.mrc' | sort)
printf '%s\n' "${all[@]: -tests}" > "$work/$name.test.txt"

train() { # train KIND SEED [flags]
  local kind=$1 seed=$2 run=$work/$name.$1.$2 started
  shift 2
  rm -rf "$run"
  started=$(date +%s.%N)
  "$picker" train "${all[$((seed - 1))]}" --coordinates "$set_dir/coordinates" --particle-radius "$radius" \
    --seed "$seed" --out "$run" "$@" > "$run.log" 2>&1
  seconds=$(awk "BEGIN { printf \"%.0f\", $(date +%s.%N) - $started }")
  "$picker" pick "$work/$name.test.txt" --out "$run" >> "$run.log" 2>&1
  scores=$("$picker" evaluate --picks "$run/picks/picks.csv" --truth "$set_dir/coordinates" \
    --micrographs "$work/$name.test.txt" --particle-radius "$radius" 2>> "$run.log" |
    sed -n 's/^macro: //p')
  echo "$name $kind seed $seed $scores $seconds s"
}

for seed in "${@:-1}"; do
  train default "$seed" --epochs "${EPOCHS:-8}"
  train nothing "$seed" --from-scratch
done
