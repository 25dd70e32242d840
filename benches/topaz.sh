#!/usr/bin/env bash
# Topaz's pretrained model on a labelled set: F1 at the threshold that is best for these very
# micrographs (an oracle, in its favour).
#
# usage: topaz.sh SET RADIUS_PX SCALE WORK
#   SET    folder with micrographs/ and coordinates/ (STAR)
#   SCALE  by this much Topaz makes micrographs smaller: 8 for EMPIAR-10017, 4 for 10146 and 10028
# Installs Topaz in WORK, from PyPI. PICKER names the program that judges, MODEL Topaz's model.
set -euo pipefail
# With code 3 some particles are listed twice, as in some of these sets.
judge_picks() { "$picker" evaluate "$@" || [ $? -eq 3 ]; }

set_dir=$1 radius=$2 scale=$3 work=$4
name=$(basename "$set_dir")
picker=${PICKER:-target/release/picker}
mkdir -p "$work"
if [ ! -x "$work/topaz/bin/topaz" ]; then
  python3 -m venv "$work/topaz"
  "$work/topaz/bin/pip" install --quiet topaz-em==0.3.20
fi
topaz=$work/topaz/bin/topaz out=$work/$name
rm -rf "$out"
mkdir -p "$out"
started=$(date +%s)
"$topaz" preprocess -s "$scale" -t 0 -o "$out/prepared/" "$set_dir"/micrographs/*.mrc > "$out/log" 2>&1
"$topaz" extract -m "${MODEL:-resnet16_u64}" -r $((radius / scale)) -x "$scale" -d -1 \
  -o "$out/picks.txt" "$out"/prepared/*.mrc >> "$out/log" 2>&1
seconds=$(($(date +%s) - started))
judge_picks --picks "$out/picks.txt" --truth "$set_dir/coordinates" --json \
  --micrographs "$set_dir/micrographs" --particle-radius "$radius" 2>> "$out/log" |
  python3 -c '
import json, sys
best = json.load(sys.stdin)["oracle"]
scores = " ".join(f"{key}={value:.3f}" for key, value in best["macro"].items())
print(sys.argv[1], "at", round(best["threshold"], 2), scores, sys.argv[2], "s in all")
' "$name" "$seconds"
