#!/usr/bin/env bash
# The default model from the lowest to the highest contrast: F1 with the threshold that it chooses, at
# 0.553 (odds of 2.3 to 1), and the best that stored peaks allow, on simulated micrographs of three builds.
#
# usage: contrast.sh WORK
# PICKER names the program.
set -euo pipefail
# With code 3 some particles are listed twice, as in some of these sets.
judge_picks() { "$picker" evaluate "$@" || [ $? -eq 3 ]; }

picker=$(realpath "${PICKER:-target/release/picker}")
mkdir -p "$1"
cd "$1"

simulate() { # simulate SET SEED COUNT SHAPE [flags]
  [ -d "$1" ] || "$picker" simulate --out "$1" --count "$3" --size 640 --particle-radius 16 --pixel-size 5 \
    --shape "$4" --seed "$2" "${@:5}" --quiet
}
judge() { # judge SET OUT [flags]: picks, F1 and the best F1
  rm -rf "$1/$2"
  "$picker" pick "$1/micrographs" --model default --particle-radius 16 --out "$1/$2" "${@:3}" >> log 2>&1 || true
  set -- "$1/$2" --truth "$1/coordinates" --micrographs "$1/micrographs" --particle-radius 16
  {
    judge_picks --picks "$1/picks/picks.csv" "${@:2}" | sed -n 's/^macro:.*f1=/f1 /p'
    judge_picks --picks "$1/picks.all" --min-score 0 "${@:2}" | sed -n 's/^oracle.*f1=/best /p'
  } 2>> log | paste -sd' ' || true # without picks or particles there is nothing to judge
}

seed=5000
for snr in 0.005 0.01 0.02 0.05 0.2 1 5 20; do
  number=$seed
  for shape in compact ring elongated; do
    number=$((number + 1))
    simulate "$snr.$shape" "$number" 2 "$shape" --snr "$snr"
    echo "snr $snr $shape: chosen $(judge "$snr.$shape" chosen); at 0.553 $(judge "$snr.$shape" fixed --threshold 0.553)"
  done
  seed=$((seed + 4))
done | tee scores.txt
number=6032
for shape in compact ring elongated; do
  number=$((number + 1))
  simulate "none.$shape" "$number" 3 "$shape" --snr 0.1 --density 0
  judge "none.$shape" chosen > /dev/null
  echo "no particles, $shape: $(($(wc -l < "none.$shape/chosen/picks/picks.csv") - 1)) picks"
done | tee empty.txt
