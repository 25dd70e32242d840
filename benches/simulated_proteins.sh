#!/usr/bin/env bash
# The default model on twenty simulated proteins with seeds of their own: F1 of each at the threshold that
# it chooses, its mean and worst at others, and overlays of the worst five.
#
# usage: simulated_proteins.sh WORK
# PICKER names the program.
set -euo pipefail

picker=$(realpath "${PICKER:-target/release/picker}")
mkdir -p "$1"
cd "$1"
shapes=(compact elongated ring barrel shell multi_domain disc)
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
  evaluate() {
    "$picker" evaluate --truth "$set/coordinates" --micrographs "$set/micrographs" \
      --particle-radius "$radius" "$@" || [ $? -eq 3 ]
  }
  scores=$(evaluate --picks "$set/run/picks/picks.csv" | sed -n 's/^macro: //p')
  evaluate --picks "$set/run/picks.all" --min-score 0 --json > "$set/all.json"
  echo "$set $shape radius=$radius $scores"
done | tee scores.txt
python3 - protein*/all.json <<'PY'
import json, sys

curves = [json.load(open(path))["curve"] for path in sys.argv[1:]]
for threshold in [0.4, 0.45, 0.475, 0.5, 0.525, 0.55, 0.6]:
    # The curve begins with the highest threshold.
    above = [[point for point in curve if point["threshold"] >= threshold] for curve in curves]
    f1 = [points[-1]["macro"]["f1"] if points else 0.0 for points in above]
    print(f"threshold {threshold}: mean F1 {sum(f1) / len(f1):.3f}, worst {min(f1):.3f}")
PY
sed 's/.*f1=//' scores.txt | paste - scores.txt | sort -n | head -5 | while read -r _ set _ radius _; do
  micrograph=$set/micrographs/sim_0001.mrc
  "$picker" overlay "$micrograph" --picks "$set/run/picks" --truth "$set/coordinates" \
    --particle-radius "${radius#radius=}" --out "worst_$set.png" --quiet
done
