#!/usr/bin/env bash
# `--particle-radius auto` on twenty simulated proteins, easy and at a quarter of the signal, and on
# ice without particles: what is proposed beside the truth.
#
# usage: radius.sh WORK [SET:RADIUS_PX...]
#   SET   folder with micrographs/ of particles of this radius
# PICKER names the program.
set -euo pipefail

picker=$(realpath "${PICKER:-target/release/picker}")
mkdir -p "$1"
work=$(realpath "$1")
shift

look() { # look NAME MICROGRAPHS TRUE_RADIUS
  rm -rf "$work/$1.run"
  "$picker" pick "$2" --particle-radius auto --out "$work/$1.run" > "$work/$1.log" 2>&1 || true
  python3 - "$1" "$3" "$work/$1.run/report/radius.json" <<'PY'
import json, sys

name, true, path = sys.argv[1:]
proposal = json.load(open(path))["proposal"]
if proposal is None:
    print(f"{name} nothing picked")
else:
    radius, true = proposal["radius_px"], float(true)
    ratio = f"{radius / true:.2f} of the true {true:g}" if true else "no particles"
    print(f"{name} {proposal['confidence']} {radius:.1f} px, {ratio}, steadiness {proposal['steadiness']:.2f}")
PY
}

shapes=(compact elongated ring barrel shell multi-domain disc)
for part in 1 4; do
  for number in $(seq 20); do
    radius=$((12 + 4 * number))
    set=$work/protein$number.$part
    rm -rf "$set"
    snr=$(awk "BEGIN { printf \"%.4f\", 0.5 / $part * (9.5 / $radius) ^ 2 }")
    "$picker" simulate --out "$set" --count 2 --size $((24 * radius)) --particle-radius "$radius" \
      --pixel-size "$(awk "BEGIN { print 90 / $radius }")" --shape "${shapes[$((number % 7))]}" \
      --snr "$snr" --seed $((3000 + number)) --quiet
    look "protein$number.signal_$part" "$set/micrographs" "$radius"
  done
done | tee "$work/proteins.txt"
for number in $(seq 10); do
  set=$work/ice$number
  rm -rf "$set"
  "$picker" simulate --out "$set" --count 6 --size 1024 --particle-radius $((10 + 4 * number)) \
    --density 0 --carbon 0.3 --ice-blobs 30 --gold-beads 3 --seed $((4000 + number)) --quiet
  look "ice$number" "$set/micrographs" 0
done | tee "$work/ice.txt"
for set in "$@"; do
  look "$(basename "${set%:*}")" "${set%:*}/micrographs" "${set##*:}"
done | tee "$work/real.txt"
python3 - "$work/proteins.txt" <<'PY'
import re, statistics, sys

for part in "1", "4":
    lines = [line for line in open(sys.argv[1]) if line.split()[0].endswith(f"signal_{part}")]
    kinds = {}
    for line in lines:
        found = re.search(r" (\w+) [\d.]+ px, ([\d.]+) of", line)
        kinds.setdefault(found[1] if found else "unsure", []).append(float(found[2]) if found else 0)
    for kind, ratios in sorted(kinds.items()):
        print(f"signal/{part}: {len(ratios)} {kind}, proposal over truth median "
              f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
PY
