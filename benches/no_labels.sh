#!/usr/bin/env bash
# Picking without labels: F1 of the default model at its own threshold, before and after
# self-training on the micrographs themselves.
#
# usage: no_labels.sh SET RADIUS_PX WORK [SEED...]
#   SET   folder with micrographs/ and coordinates/ (STAR); coordinates are used for judging alone
#   SEED  seeds of the self-training; without any, only the default model is judged
# PICKER names the program, ROUNDS the rounds of self-training, MODEL another model than the default.
set -euo pipefail
# With code 3 some particles are listed twice, as in some of these sets.
judge_picks() { "$picker" evaluate "$@" || [ $? -eq 3 ]; }

set_dir=$1 radius=$2 work=$3
shift 3
name=$(basename "$set_dir")
picker=${PICKER:-target/release/picker}
mkdir -p "$work"

judge() { # judge OUT [--model MODEL]
  rm -rf "$1"
  "$picker" pick "$set_dir/micrographs" --particle-radius "$radius" --out "$@" >> "$work/log" 2>&1 || true
  judge_picks --picks "$1/picks/picks.csv" --truth "$set_dir/coordinates" \
    --micrographs "$set_dir/micrographs" --particle-radius "$radius" 2>> "$work/log" |
    sed -n 's/^macro: //p'
}

model=${MODEL:-default}
echo "$name default $(judge "$work/$name.default" --model "$model")"
for seed in "$@"; do
  run=$work/$name.$seed
  rm -rf "$run"
  "$picker" self-train --model "$model" --micrographs "$set_dir/micrographs" --particle-radius "$radius" \
    --iterations "${ROUNDS:-3}" --seed "$seed" --out "$run" > "$run.log" 2>&1
  echo "$name seed $seed $(judge "$run.picks" --model "$run")  ($(tail -1 "$run.log" | cut -d'(' -f1))"
done
