#!/usr/bin/env bash
# The default model on twenty simulated proteins of its own seeds: F1 of each at the default
# threshold, and overlays of the worst five.
#
# usage: simulated_proteins.sh WORK
# PICKER names the program.
set -euo pipefail

picker=$(realpath "${PICKER:-target/release/picker}")
mkdir -p "$1"
cd "$1"
shapes=(compact elongated ring barrel shell multi-domain disc)
for number in $(seq 20); do
  shape=${shapes[$((number % 7))]}
  radius=$((12 + 4 * number))
  set=protein$number
  rm -rf "$set"
  # Noise in a pixel falls with the area that a particle covers.
  snr=$(awk "BEGIN { printf \"%.4f\", 0.5 * (9.5 / $radius) ^ 2 }")
  "$picker" simulate --out "$set" --count 2 --size $((24 * radius)) --particle-radius "$radius" \
    --pixel-size "$(awk "BEGIN { print 90 / $radius }")" --shape "$shape" --snr "$snr" \
    --seed $((1000 + number)) --quiet
  "$picker" pick "$set/micrographs" --model default --particle-radius "$radius" --out "$set/run" \
    > "$set/log" 2>&1 || true
  scores=$("$picker" evaluate --picks "$set/run/picks/picks.csv" --truth "$set/coordinates" \
    --micrographs "$set/micrographs" --particle-radius "$radius" | sed -n 's/^macro: //p')
  echo "$set $shape radius=$radius $scores"
done | tee scores.txt
sed 's/.*f1=//' scores.txt | paste - scores.txt | sort -n | head -5 | while read -r _ set _ radius _; do
  micrograph=$set/micrographs/sim_0001.mrc
  "$picker" overlay "$micrograph" --picks "$set/run/picks" --truth "$set/coordinates" \
    --particle-radius "${radius#radius=}" --out "worst_$set.png" --quiet
done
