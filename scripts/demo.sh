#!/usr/bin/env bash
# The main job on simulated micrographs: train, pick, evaluate, report.
# usage: demo.sh FOLDER COUNT SIZE_PX SEED [more flags for `picker train`]
# The last third of the micrographs is the test set: neither training nor the threshold sees it.
set -euo pipefail

folder=$1 count=$2 size=$3 seed=$4
shift 4
picker=${PICKER:-picker}

rm -rf "$folder"
"$picker" simulate --out "$folder" --count "$count" --size "$size" --seed "$seed" --carbon 0
radius=$(sed -n 's/^ *"particle_radius_px": *\([0-9.]*\),*$/\1/p' "$folder/simulate.json" | head -1)
mapfile -t all < <(find "$folder/micrographs" -name '*.mrc' | sort)
held=$(((count + 2) / 3))
train=("${all[@]:0:count-held}") test=("${all[@]:count-held}")

"$picker" train "${train[@]}" --coordinates "$folder/coordinates" --particle-radius "$radius" \
  --seed "$seed" --out "$folder/picker_run" "$@"
printf '%s\n' "${test[@]}" > "$folder/test.txt"
"$picker" pick "$folder/test.txt" --out "$folder/picker_run"
"$picker" overlay "${test[0]}" --picks "$folder/picker_run/picks" --truth "$folder/coordinates" \
  --particle-radius "$radius" --out "$folder/picker_run/report/overlay.png"
"$picker" evaluate --picks "$folder/picker_run/picks/picks.csv" --truth "$folder/coordinates" \
  --micrographs "$folder/test.txt" --particle-radius "$radius" --out "$folder/picker_run/report" \
  > "$folder/evaluation.txt"
cat "$folder/evaluation.txt"
"$picker" report --out "$folder/picker_run"
sed -n 's/^macro: /demo: /p' "$folder/evaluation.txt"
